//! The threads that serve queues, and the doorbells that wake them.

use std::io;
use std::os::fd::OwnedFd;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::thread::{self, JoinHandle, Thread};

use super::common::Shared;
use super::queue::Slot;

/// Wakes a worker. Ringing costs an atomic exchange, and a system call only if the worker sleeps.
#[derive(Default)]
pub(super) struct Doorbell {
    rung: AtomicBool,
    worker: OnceLock<Thread>,
    rings: AtomicU64,
    /// Written to while `on_event` says that the worker sleeps on it.
    event: OnceLock<Arc<OwnedFd>>,
    on_event: AtomicBool,
}

impl Doorbell {
    /// The driver rings.
    pub(super) fn ring(&self) {
        self.rings.fetch_add(1, Ordering::Relaxed);
        self.wake();
    }

    /// Has the worker look at its queue, now or as soon as it is done with what it does.
    pub(super) fn wake(&self) {
        if !self.rung.swap(true, Ordering::SeqCst)
            && let Some(worker) = self.worker.get()
        {
            // A token is kept for a worker that is awake: it cannot fall asleep over this.
            worker.unpark();
            if self.on_event.load(Ordering::SeqCst)
                && let Some(event) = self.event.get()
            {
                // It fails only if it has been written to 2^64 - 1 times without being read.
                let _ = rustix::io::write(event, &1u64.to_ne_bytes());
            }
        }
    }

    /// How often it was rung.
    pub(super) fn rings(&self) -> u64 {
        self.rings.load(Ordering::Relaxed)
    }

    /// The worker is about to sleep until `event`, always the same, is written to. False if it has been rung already.
    pub(super) fn begin_wait(&self, event: &Arc<OwnedFd>) -> bool {
        self.event.get_or_init(|| Arc::clone(event));
        self.on_event.store(true, Ordering::SeqCst);
        // Who rings from here on sees the mark; who rang before is seen here.
        let free = !self.rung.swap(false, Ordering::SeqCst);
        if !free {
            self.end_wait();
        }
        free
    }

    /// The worker is awake.
    pub(super) fn end_wait(&self) {
        self.on_event.store(false, Ordering::SeqCst);
        // The worker looks at everything now.
        self.rung.swap(false, Ordering::SeqCst);
    }

    /// Sleeps until the doorbell has been rung since the last call.
    pub(super) fn wait(&self) {
        while !self.rung.swap(false, Ordering::SeqCst) {
            thread::park();
        }
    }
}

/// A queue's doorbell in the hands of its device: rung when something on the host happened that the queue's handler
/// waits for.
#[derive(Clone)]
pub struct Bell(Arc<Doorbell>);

impl Bell {
    pub(super) fn new(doorbell: &Arc<Doorbell>) -> Bell {
        Bell(Arc::clone(doorbell))
    }

    /// Has the handler serve its queue, now or as soon as it is done with what it does.
    pub fn ring(&self) {
        self.0.wake();
    }
}

/// Tells the driver that the device has changed its configuration space.
#[derive(Clone)]
pub struct ConfigurationBell(Arc<Shared>);

impl ConfigurationBell {
    pub(super) fn new(shared: &Arc<Shared>) -> ConfigurationBell {
        ConfigurationBell(Arc::clone(shared))
    }

    /// The configuration space is another one now.
    pub fn ring(&self) {
        self.0.config_changed();
    }
}

/// Starts the worker of `slot`. It ends after [`Shared::end`] and a ring.
pub(super) fn spawn(name: String, slot: &Arc<Slot>, shared: &Arc<Shared>) -> io::Result<JoinHandle<()>> {
    let (of_thread, shared) = (Arc::clone(slot), Arc::clone(shared));
    thread::Builder::new().name(name).spawn(move || {
        // Set once, before the first look at the bell: a ring that comes too early to wake is found by that look.
        let _ = of_thread.doorbell.worker.set(thread::current());
        while !shared.has_ended() {
            of_thread.doorbell.wait();
            of_thread.serve(&shared);
        }
    })
}
