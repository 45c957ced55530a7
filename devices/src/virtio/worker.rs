//! The threads that serve queues, and the doorbells that wake them.

use std::io;
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
}

impl Doorbell {
    /// Has the worker look at its queue, now or as soon as it is done with what it does.
    pub(super) fn ring(&self) {
        self.rings.fetch_add(1, Ordering::Relaxed);
        if !self.rung.swap(true, Ordering::SeqCst)
            && let Some(worker) = self.worker.get()
        {
            // A token is kept for a worker that is awake: it cannot fall asleep over this.
            worker.unpark();
        }
    }

    /// How often it was rung.
    pub(super) fn rings(&self) -> u64 {
        self.rings.load(Ordering::Relaxed)
    }

    /// Sleeps until the doorbell has been rung since the last call.
    fn wait(&self) {
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
        self.0.ring();
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
