//! virtio-net (VIRTIO 1.2 section 5.1): a network card.
//!
//! Three queues, each with a worker: receive, transmit, control. A frame is copied once between guest RAM and the
//! packet that goes to or comes from the [`Backend`]; nothing is allocated for it. What the driver or the back end does
//! not take of checksums and segmentation is computed here.

mod control;
mod rx;
pub mod spec;
#[cfg(test)]
mod tests;
mod tx;

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::device::{QueueHandler, VirtioDevice};
use super::worker::Bell;
use crate::lock;
use crate::net::wire::Mac;
use crate::net::{Accepts, Backend};
use crate::state::{self, StateError};

const NAME: &str = "virtio-net";
const VERSION: u64 = 1;
/// Entries of the queues for frames: enough for four frames of 64 KiB in buffers of one page.
const QUEUE_SIZE: u16 = 256;
/// Least and greatest MTU.
pub const MTU_RANGE: std::ops::RangeInclusive<u16> = 68..=65521;

/// What a guest sees of its card.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NetOptions {
    /// The card's address.
    pub mac: Mac,
    /// Greatest packet; `None`: the driver's choice, 1500.
    pub mtu: Option<u16>,
    /// Offer checksum and segmentation offloads.
    pub offloads: bool,
}

/// The device.
pub struct VirtioNet(Arc<Inner>);

/// What the handlers share.
struct Inner {
    backend: Box<dyn Backend>,
    options: NetOptions,
    /// Negotiated features.
    features: AtomicU64,
    /// What of [`OFFLOADS`] the driver has switched off.
    off: AtomicU64,
    /// The address that the driver set.
    mac: Mutex<Mac>,
    counters: Counters,
}

/// Frames that went nowhere.
#[derive(Default)]
struct Counters {
    /// The driver's header made no sense.
    refused: AtomicU64,
    /// The driver gave buffers that were too small.
    dropped: AtomicU64,
}

#[derive(Serialize, Deserialize)]
struct Saved {
    mac: [u8; 6],
    /// Offloads that the driver has switched off.
    off: u64,
}

/// The features that a driver may switch off and on again.
const OFFLOADS: u64 = spec::GUEST_CSUM | spec::GUEST_TSO4 | spec::GUEST_TSO6 | spec::GUEST_ECN;

impl VirtioNet {
    /// A card at the end of `backend`.
    pub fn new(backend: Box<dyn Backend>, options: NetOptions) -> VirtioNet {
        let mac = Mutex::new(options.mac);
        let zero = AtomicU64::default;
        let counters = Counters::default();
        VirtioNet(Arc::new(Inner { backend, options, features: zero(), off: zero(), mac, counters }))
    }
}

impl Inner {
    fn has(&self, feature: u64) -> bool {
        self.features.load(Ordering::Relaxed) & feature != 0
    }

    fn accepts(&self) -> Accepts {
        let on = self.features.load(Ordering::Relaxed) & !self.off.load(Ordering::Relaxed);
        let has = |feature| on & feature != 0;
        let checksum = has(spec::GUEST_CSUM);
        Accepts {
            checksum,
            tso4: checksum && has(spec::GUEST_TSO4),
            tso6: checksum && has(spec::GUEST_TSO6),
            ecn: has(spec::GUEST_ECN),
        }
    }

    fn has_all(&self, features: u64) -> bool {
        features & !self.features.load(Ordering::Relaxed) == 0
    }

    fn switch_off(&self, offloads: u64) {
        self.off.store(offloads & OFFLOADS, Ordering::SeqCst);
        self.backend.accepts(self.accepts());
    }

    fn config(&self) -> [u8; spec::CONFIG_LEN] {
        let mut config = [0; spec::CONFIG_LEN];
        let mut put = |at: usize, bytes: &[u8]| crate::net::wire::put(&mut config, at, bytes);
        put(spec::CONFIG_MAC, &lock(&self.mac).0);
        put(spec::CONFIG_STATUS, &spec::LINK_UP.to_le_bytes());
        put(spec::CONFIG_MTU, &self.options.mtu.unwrap_or(0).to_le_bytes());
        config
    }
}

impl VirtioDevice for VirtioNet {
    fn device_type(&self) -> u32 {
        super::spec::device_type::NETWORK
    }

    fn type_name(&self) -> &'static str {
        NAME
    }

    fn features(&self) -> u64 {
        let mut features = spec::MAC | spec::STATUS | spec::MRG_RXBUF;
        features |= spec::CTRL_VQ | spec::CTRL_RX | spec::CTRL_MAC_ADDR;
        if self.0.options.mtu.is_some() {
            features |= spec::MTU;
        }
        if self.0.options.offloads {
            features |= spec::CSUM | spec::HOST_TSO4 | spec::HOST_TSO6 | spec::HOST_ECN;
            features |= OFFLOADS | spec::CTRL_GUEST_OFFLOADS;
        }
        features
    }

    fn queue_sizes(&self) -> Vec<u16> {
        vec![QUEUE_SIZE, QUEUE_SIZE, 64]
    }

    fn handler(&self, index: u16) -> Box<dyn QueueHandler> {
        let inner = Arc::clone(&self.0);
        match index {
            spec::RX => Box::new(rx::Receiver::new(inner)),
            spec::TX => Box::new(tx::Transmitter::new(inner)),
            _ => Box::new(control::Control::new(inner)),
        }
    }

    fn connect(&self, bells: Vec<Bell>) {
        let Some(bell) = bells.into_iter().nth(spec::RX.into()) else { return };
        self.0.backend.connect(Arc::new(move || bell.ring()));
    }

    fn read_config(&self, offset: u64, data: &mut [u8]) {
        let config = self.0.config();
        let from = usize::try_from(offset).ok().and_then(|at| config.get(at..)).unwrap_or_default();
        data.iter_mut().zip(from).for_each(|(to, from)| *to = *from);
    }

    fn activate(&self, features: u64) {
        self.0.features.store(features, Ordering::SeqCst);
        self.0.backend.accepts(self.0.accepts());
    }

    fn reset(&self) {
        self.0.backend.reset();
        self.0.features.store(0, Ordering::SeqCst);
        self.0.switch_off(0);
        *lock(&self.0.mac) = self.0.options.mac;
    }

    fn counters(&self) -> Value {
        self.0.backend.counters()
    }

    fn save(&self) -> Value {
        state::pack(VERSION, &Saved { mac: lock(&self.0.mac).0, off: self.0.off.load(Ordering::SeqCst) })
    }

    fn load(&self, value: &Value) -> Result<(), StateError> {
        let saved: Saved = state::unpack(NAME, VERSION, value)?;
        *lock(&self.0.mac) = Mac(saved.mac);
        // The back end hears of it with the features.
        self.0.off.store(saved.off & OFFLOADS, Ordering::SeqCst);
        Ok(())
    }
}
