//! virtio-blk (VIRTIO 1.2 section 5.2): a disk.
//!
//! Each queue has a worker of its own, which takes many requests at a time. It copies between guest RAM and a buffer for
//! each request, and has the kernel (io_uring) or threads transfer between the buffers and the disk; what the page cache
//! takes or gives at once is done in passing. The copy costs little beside the rest, makes each transfer one operation
//! however many pieces the guest's memory has, gives direct I/O the alignment that it needs, and keeps the guest from
//! changing data while it is written.

mod engine;
mod limit;
mod request;
mod ring;
pub mod spec;
#[cfg(test)]
pub(crate) mod tests;
mod ticket;

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};

use serde::{Deserialize, Serialize};
use serde_json::Value;

pub use limit::Rates;

use limit::Limiter;

use super::device::{QueueHandler, VirtioDevice};
use crate::disk::{Aio, CacheMode, Disk, SECTOR};
use crate::state::{self, StateError};
use crate::virtio::worker::Bell;

const NAME: &str = "virtio-blk";
const VERSION: u64 = 1;
/// Entries of each queue.
const QUEUE_SIZE: u16 = 256;
/// Most queues.
pub const MAX_QUEUES: u16 = 16;
/// Length of the serial number (5.2.6, `VIRTIO_BLK_T_GET_ID`).
pub const SERIAL_LEN: usize = 20;

/// What a guest sees of a disk beside its contents.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BlkOptions {
    /// Serial number, at most [`SERIAL_LEN`] bytes: udev makes `/dev/disk/by-id/virtio-SERIAL` of it.
    pub serial: String,
    /// The guest cannot write.
    pub read_only: bool,
    /// When writes are permanent.
    pub cache: CacheMode,
    /// Number of queues, 1 to [`MAX_QUEUES`].
    pub queues: u16,
    /// How much it may do in a second.
    pub rates: Rates,
    /// What does its transfers.
    pub aio: Aio,
}

/// What is called when the host has no room for what the guest writes. The request is not answered: it is tried again when
/// the device goes on after a pause.
pub type WhenFull = Arc<dyn Fn() + Send + Sync>;

impl Default for BlkOptions {
    fn default() -> BlkOptions {
        BlkOptions {
            serial: String::new(),
            read_only: false,
            cache: CacheMode::default(),
            queues: 1,
            rates: Rates::default(),
            aio: Aio::default(),
        }
    }
}

/// The device.
pub struct VirtioBlk(Arc<Inner>);

/// What the handlers of all queues share.
struct Inner {
    disk: Arc<dyn Disk>,
    options: BlkOptions,
    /// Negotiated features.
    features: AtomicU64,
    /// Field `writeback` of the configuration.
    writeback: AtomicBool,
    limiter: Limiter,
    /// The doorbells of all queues.
    bells: OnceLock<Vec<Bell>>,
    /// Without it the guest gets an error when there is no room.
    when_full: Option<WhenFull>,
}

#[derive(Serialize, Deserialize)]
struct Saved {
    capacity: u64,
    writeback: bool,
}

impl VirtioBlk {
    /// A block device with the contents of `disk`.
    pub fn new(disk: Arc<dyn Disk>, options: BlkOptions) -> VirtioBlk {
        VirtioBlk::build(disk, options, None)
    }

    /// The same; when the host has no room for a write, `when_full` is called instead of failing the write.
    pub fn waiting_for_room(disk: Arc<dyn Disk>, options: BlkOptions, when_full: WhenFull) -> VirtioBlk {
        VirtioBlk::build(disk, options, Some(when_full))
    }

    fn build(disk: Arc<dyn Disk>, options: BlkOptions, when_full: Option<WhenFull>) -> VirtioBlk {
        let limiter = Limiter::new(options.rates);
        let writeback = AtomicBool::new(options.cache != CacheMode::Writethrough);
        VirtioBlk(Arc::new(Inner {
            disk,
            options,
            features: AtomicU64::new(0),
            writeback,
            limiter,
            bells: OnceLock::new(),
            when_full,
        }))
    }
}

impl Inner {
    /// Whether a write may stay in a cache until the driver flushes (5.2.5.2, 5.2.6.2).
    fn may_cache(&self) -> bool {
        let features = self.features.load(Ordering::Relaxed);
        match self.options.cache {
            CacheMode::Unsafe => true,
            // A driver that cannot flush gets permanent writes.
            _ if features & (spec::FLUSH | spec::CONFIG_WCE) == 0 => false,
            _ => self.writeback.load(Ordering::Relaxed),
        }
    }

    fn config(&self) -> [u8; spec::CONFIG_LEN] {
        let mut config = [0; spec::CONFIG_LEN];
        let mut put = |at: usize, bytes: &[u8]| {
            if let Some(field) = config.get_mut(at..at + bytes.len()) {
                field.copy_from_slice(bytes);
            }
        };
        put(spec::CAPACITY, &(self.disk.size() / SECTOR).to_le_bytes());
        put(spec::SEG_MAX_FIELD, &spec::MAX_SEGMENTS.to_le_bytes());
        put(spec::BLK_SIZE_FIELD, &(SECTOR as u32).to_le_bytes());
        let block_size = self.disk.block_size();
        put(spec::PHYSICAL_BLOCK_EXP, &[(block_size / SECTOR as u32).max(1).ilog2() as u8]);
        put(spec::WRITEBACK, &[self.writeback.load(Ordering::Relaxed).into()]);
        put(spec::NUM_QUEUES, &self.options.queues.to_le_bytes());
        put(spec::MAX_DISCARD_SECTORS, &spec::MOST_DISCARD_SECTORS.to_le_bytes());
        put(spec::MAX_DISCARD_SEG, &spec::MOST_RANGES.to_le_bytes());
        put(spec::DISCARD_SECTOR_ALIGNMENT, &(block_size / SECTOR as u32).to_le_bytes());
        put(spec::MAX_WRITE_ZEROES_SECTORS, &spec::MOST_WRITE_ZEROES_SECTORS.to_le_bytes());
        put(spec::MAX_WRITE_ZEROES_SEG, &spec::MOST_RANGES.to_le_bytes());
        put(spec::WRITE_ZEROES_MAY_UNMAP, &[1]);
        config
    }
}

impl VirtioDevice for VirtioBlk {
    fn device_type(&self) -> u32 {
        super::spec::device_type::BLOCK
    }

    fn type_name(&self) -> &'static str {
        NAME
    }

    fn features(&self) -> u64 {
        let options = &self.0.options;
        let mut features = spec::SEG_MAX | spec::BLK_SIZE | spec::TOPOLOGY | spec::FLUSH;
        if options.read_only {
            features |= spec::RO;
        } else {
            features |= spec::DISCARD | spec::WRITE_ZEROES;
            if options.cache != CacheMode::Unsafe {
                features |= spec::CONFIG_WCE;
            }
        }
        if options.queues > 1 {
            features |= spec::MQ;
        }
        features
    }

    fn queue_sizes(&self) -> Vec<u16> {
        vec![QUEUE_SIZE; self.0.options.queues.clamp(1, MAX_QUEUES).into()]
    }

    fn handler(&self, index: u16) -> Box<dyn QueueHandler> {
        Box::new(request::Handler::new(Arc::clone(&self.0), index))
    }

    fn connect(&self, bells: Vec<Bell>) {
        // Connected once.
        let _ = self.0.bells.set(bells);
    }

    fn read_config(&self, offset: u64, data: &mut [u8]) {
        let config = self.0.config();
        let from = usize::try_from(offset).ok().and_then(|at| config.get(at..)).unwrap_or_default();
        data.iter_mut().zip(from).for_each(|(to, from)| *to = *from);
    }

    fn write_config(&self, offset: u64, data: &[u8]) {
        let accepted = self.0.features.load(Ordering::Relaxed) & spec::CONFIG_WCE != 0;
        if let (true, [value]) = (accepted && offset == spec::WRITEBACK as u64, data) {
            let writeback = value & 1 != 0;
            // What is cached becomes permanent before the promise changes; a failure shows at the next write.
            if self.0.writeback.swap(writeback, Ordering::SeqCst) && !writeback {
                let _ = self.0.disk.flush();
            }
        }
    }

    fn activate(&self, features: u64) {
        self.0.features.store(features, Ordering::SeqCst);
    }

    fn reset(&self) {
        self.0.features.store(0, Ordering::SeqCst);
        self.0.writeback.store(self.0.options.cache != CacheMode::Writethrough, Ordering::SeqCst);
    }

    fn save(&self) -> Value {
        let writeback = self.0.writeback.load(Ordering::SeqCst);
        state::pack(VERSION, &Saved { capacity: self.0.disk.size() / SECTOR, writeback })
    }

    fn load(&self, value: &Value) -> Result<(), StateError> {
        let saved: Saved = state::unpack(NAME, VERSION, value)?;
        let capacity = self.0.disk.size() / SECTOR;
        if saved.capacity != capacity {
            let reason = format!("had {} sectors, this machine's disk has {capacity}", saved.capacity);
            return Err(StateError::machine(NAME, reason));
        }
        self.0.writeback.store(saved.writeback, Ordering::SeqCst);
        Ok(())
    }
}
