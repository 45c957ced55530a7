//! virtio-balloon (VIRTIO 1.2 section 5.5): memory that the guest does without goes back to the host.
//!
//! Three ways, all by giving back pages whose contents nobody needs ([`Reclaim`]): pages that the guest gives up until
//! the balloon's target is reached, free pages that it reports by itself, and none when it runs out of memory.

mod queues;
mod statistics;
#[cfg(test)]
mod tests;

use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, OnceLock, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use self::statistics::Statistics;
use super::device::{QueueHandler, VirtioDevice};
use super::spec::device_type;
use super::worker::{Bell, ConfigurationBell};
use crate::lock;
use crate::state::{self, StateError};

const NAME: &str = "virtio-balloon";
const VERSION: u64 = 1;
/// Feature: there is a queue for statistics.
const STATS_VQ: u64 = 1 << 1;
/// Feature: the guest may take pages back when it runs out of memory.
const DEFLATE_ON_OOM: u64 = 1 << 2;
/// Feature: the guest reports free pages.
const REPORTING: u64 = 1 << 5;
/// The size of the balloon's pages, whatever the guest's are.
const PAGE: u64 = 4096;
/// Entries of each queue.
const QUEUE_SIZE: u16 = 128;
/// Index of the queue of statistics.
const STATISTICS: usize = 2;
/// Offset in the configuration of what the driver writes: the balloon's size.
const CONFIG_ACTUAL: u64 = 4;
/// Between two looks at the statistics.
const INTERVAL: Duration = Duration::from_secs(5);
/// How long a question for statistics waits for the guest.
const PATIENCE: Duration = Duration::from_secs(1);

/// Takes back guest RAM that nobody needs the contents of.
pub trait Reclaim: Send + Sync {
    /// Bytes of guest RAM.
    fn size(&self) -> u64;
    /// Gives the host the pages that lie wholly within `len` bytes at guest physical `address`; they read as zeros from
    /// now on. False if they are not RAM, or the host does not take them: then nothing changes.
    fn reclaim(&self, address: u64, len: u64) -> bool;
}

/// What the balloon is asked for.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct BalloonOptions {
    /// Free pages are reported by the guest and given back at once.
    pub free_page_reporting: bool,
    /// The guest tells how it uses its memory.
    pub statistics: bool,
    /// A guest that runs out of memory takes pages back.
    pub deflate_on_oom: bool,
    /// Bytes that the guest is left with at its start; `None`: all.
    pub target: Option<u64>,
}

/// The device.
pub struct VirtioBalloon {
    inner: Arc<Inner>,
    thread: Mutex<Option<JoinHandle<()>>>,
}

/// What the handlers, the thread and the machine share.
struct Inner {
    options: BalloonOptions,
    memory: Arc<dyn Reclaim>,
    /// Pages that the balloon is to have.
    wanted: AtomicU32,
    /// Pages that the driver says it has.
    actual: AtomicU32,
    features: AtomicU64,
    statistics: Mutex<Statistics>,
    heard: Condvar,
    bells: OnceLock<Vec<Bell>>,
    configuration: OnceLock<ConfigurationBell>,
    /// The driver's statistics are asked for at its next chance.
    asked: AtomicBool,
    ended: Mutex<bool>,
    ending: Condvar,
    counters: Counters,
}

#[derive(Default)]
struct Counters {
    inflated: AtomicU64,
    deflated: AtomicU64,
    reported: AtomicU64,
    refused: AtomicU64,
}

#[derive(Serialize, Deserialize)]
struct Saved {
    wanted: u32,
    actual: u32,
}

impl VirtioBalloon {
    /// A balloon over `memory`.
    pub fn new(options: BalloonOptions, memory: Arc<dyn Reclaim>) -> VirtioBalloon {
        let inner = Inner {
            options,
            wanted: AtomicU32::new(0),
            actual: AtomicU32::new(0),
            features: AtomicU64::new(0),
            statistics: Mutex::default(),
            heard: Condvar::new(),
            bells: OnceLock::new(),
            configuration: OnceLock::new(),
            asked: AtomicBool::new(false),
            ended: Mutex::new(false),
            ending: Condvar::new(),
            counters: Counters::default(),
            memory,
        };
        let balloon = VirtioBalloon { inner: Arc::new(inner), thread: Mutex::new(None) };
        balloon.inner.wanted.store(balloon.inner.initial(), Ordering::SeqCst);
        balloon
    }

    /// Leaves the guest with `bytes` of its memory: it is asked to, and does it in its own time. More than all is all.
    pub fn set_target(&self, bytes: u64) {
        self.inner.wanted.store(self.inner.pages_without(bytes), Ordering::SeqCst);
        if let Some(bell) = self.inner.configuration.get() {
            bell.ring();
        }
    }

    /// Bytes in the balloon.
    pub fn size(&self) -> u64 {
        u64::from(self.inner.actual.load(Ordering::SeqCst)) * PAGE
    }

    /// How things stand, with the guest's statistics of now if it gives them soon.
    pub fn report(&self) -> String {
        let (all, wanted) = (self.inner.memory.size(), u64::from(self.inner.wanted.load(Ordering::SeqCst)) * PAGE);
        let fresh = self.inner.ask_and_wait();
        let mib = |bytes: u64| bytes >> 20;
        let mut text = format!(
            "{} MiB of the guest's {} MiB are in the balloon, wanted are {} MiB\n",
            mib(self.size()),
            mib(all),
            mib(wanted)
        );
        for (name, value) in lock(&self.inner.statistics).named() {
            text += &format!("{name:24} {value}\n");
        }
        if !fresh && self.inner.has(STATS_VQ) {
            text += "the guest has not answered; these are its last statistics\n";
        }
        text
    }
}

impl Inner {
    /// Pages in the balloon when the guest is left with `bytes`.
    fn pages_without(&self, bytes: u64) -> u32 {
        u32::try_from(self.memory.size().saturating_sub(bytes) / PAGE).unwrap_or(u32::MAX)
    }

    fn initial(&self) -> u32 {
        self.options.target.map_or(0, |bytes| self.pages_without(bytes))
    }

    fn offered(&self) -> u64 {
        let options = self.options;
        let bit = |on: bool, bit: u64| if on { bit } else { 0 };
        bit(options.statistics, STATS_VQ)
            | bit(options.deflate_on_oom, DEFLATE_ON_OOM)
            | bit(options.free_page_reporting, REPORTING)
    }

    fn has(&self, feature: u64) -> bool {
        self.features.load(Ordering::SeqCst) & feature != 0
    }

    /// Asks the driver for statistics.
    fn ask(&self) {
        self.asked.store(true, Ordering::SeqCst);
        if let Some(bell) = self.bells.get().and_then(|bells| bells.get(STATISTICS)) {
            bell.ring();
        }
    }

    /// Asks for statistics; true if they came soon.
    fn ask_and_wait(&self) -> bool {
        if !self.has(STATS_VQ) {
            return false;
        }
        let before = lock(&self.statistics).times();
        self.ask();
        let statistics = lock(&self.statistics);
        let waited = self.heard.wait_timeout_while(statistics, PATIENCE, |now| now.times() == before);
        !waited.unwrap_or_else(PoisonError::into_inner).1.timed_out()
    }

    /// The thread's body: asks for statistics now and then.
    fn ask_regularly(&self) {
        let mut ended = lock(&self.ended);
        while !*ended {
            let start = Instant::now();
            ended = self.ending.wait_timeout(ended, INTERVAL).unwrap_or_else(PoisonError::into_inner).0;
            if !*ended && start.elapsed() >= INTERVAL && self.has(STATS_VQ) {
                self.ask();
            }
        }
    }

    fn config(&self) -> [u8; 8] {
        let [a, b, c, d] = self.wanted.load(Ordering::SeqCst).to_le_bytes();
        let [e, f, g, h] = self.actual.load(Ordering::SeqCst).to_le_bytes();
        [a, b, c, d, e, f, g, h]
    }
}

impl VirtioDevice for VirtioBalloon {
    fn device_type(&self) -> u32 {
        device_type::BALLOON
    }

    fn type_name(&self) -> &'static str {
        NAME
    }

    fn features(&self) -> u64 {
        self.inner.offered()
    }

    /// Inflation, deflation, statistics, free pages when asked for (not offered), reports of free pages. Linux before
    /// 6.11 leaves no gaps for queues of features that are not offered, later ones do: so all places are there, and what
    /// a queue is for follows from the features.
    fn queue_sizes(&self) -> Vec<u16> {
        vec![QUEUE_SIZE; 5]
    }

    fn handler(&self, index: u16) -> Box<dyn QueueHandler> {
        Box::new(queues::Handler::new(Arc::clone(&self.inner), index))
    }

    fn connect(&self, bells: Vec<Bell>) {
        // Connected once.
        let _ = self.inner.bells.set(bells);
        if self.inner.options.statistics {
            let inner = Arc::clone(&self.inner);
            let thread = std::thread::Builder::new().name("virtio-balloon".into());
            // Without a thread statistics come when they are asked for.
            *lock(&self.thread) = thread.spawn(move || inner.ask_regularly()).ok();
        }
    }

    fn connect_configuration(&self, bell: ConfigurationBell) {
        // Connected once.
        let _ = self.inner.configuration.set(bell);
    }

    fn read_config(&self, offset: u64, data: &mut [u8]) {
        let config = self.inner.config();
        let from = usize::try_from(offset).ok().and_then(|at| config.get(at..)).unwrap_or_default();
        data.iter_mut().zip(from).for_each(|(to, from)| *to = *from);
    }

    fn write_config(&self, offset: u64, data: &[u8]) {
        if let (CONFIG_ACTUAL, Ok(bytes)) = (offset, data.try_into()) {
            self.inner.actual.store(u32::from_le_bytes(bytes), Ordering::SeqCst);
        }
    }

    fn activate(&self, features: u64) {
        self.inner.features.store(features, Ordering::SeqCst);
    }

    fn reset(&self) {
        self.inner.features.store(0, Ordering::SeqCst);
        self.inner.actual.store(0, Ordering::SeqCst);
        lock(&self.inner.statistics).clear();
    }

    fn counters(&self) -> Value {
        let count = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        let counters = &self.inner.counters;
        let guest: serde_json::Map<String, Value> =
            lock(&self.inner.statistics).named().map(|(name, value)| (name.to_owned(), json!(value))).collect();
        json!({
            "wanted_bytes": u64::from(self.inner.wanted.load(Ordering::SeqCst)) * PAGE,
            "actual_bytes": self.size(),
            "inflated_bytes": count(&counters.inflated),
            "deflated_bytes": count(&counters.deflated),
            "reported_free_bytes": count(&counters.reported),
            "refused": count(&counters.refused),
            "guest": guest,
        })
    }

    fn save(&self) -> Value {
        let (wanted, actual) = (self.inner.wanted.load(Ordering::SeqCst), self.inner.actual.load(Ordering::SeqCst));
        state::pack(VERSION, &Saved { wanted, actual })
    }

    fn load(&self, value: &Value) -> Result<(), StateError> {
        let saved: Saved = state::unpack(NAME, VERSION, value)?;
        self.inner.wanted.store(saved.wanted, Ordering::SeqCst);
        self.inner.actual.store(saved.actual, Ordering::SeqCst);
        Ok(())
    }
}

impl Drop for VirtioBalloon {
    fn drop(&mut self) {
        *lock(&self.inner.ended) = true;
        self.inner.ending.notify_all();
        if let Some(thread) = lock(&self.thread).take() {
            // One that panicked has said so.
            let _ = thread.join();
        }
    }
}
