//! The threads that serve queues, and the doorbells that wake them.

use std::io;
use std::num::NonZero;
use std::ops::RangeInclusive;
use std::os::fd::OwnedFd;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, OnceLock};
use std::thread::{self, JoinHandle, Thread};
use std::time::{Duration, Instant};

use protocols::Ring;
use rustix::event::{PollFd, PollFlags, poll};

use super::common::Shared;
use super::put_off;
use super::queue::Slot;
use crate::lock;

/// A worker that has nothing to do naps for so long before it sleeps: a driver that comes back within it does not pay for
/// waking it.
const NAPS: Duration = Duration::from_millis(4);
/// Shortest and longest nap; between the two it lasts as long as the driver has stayed away. Shorter ones cost more than the
/// wakes that they spare.
const NAP: RangeInclusive<Duration> = Duration::from_micros(250)..=Duration::from_micros(1000);

/// Wakes a worker ([`protocols::Bell`]). Ringing costs an atomic exchange, and a system call only if the worker sleeps: if it naps, who rings may
/// put the call off ([`put_off`](super::put_off)).
#[derive(Default)]
pub(super) struct Doorbell {
    bell: protocols::Bell,
    worker: OnceLock<Thread>,
    rings: AtomicU64,
    /// Rings whose wake was put off.
    put_off: AtomicU64,
    /// When the last of them was, if the worker has not asked.
    put_off_at: Mutex<Option<Instant>>,
    /// Written to while `on_event` says that the worker sleeps on it.
    event: OnceLock<Arc<OwnedFd>>,
    on_event: AtomicBool,
    /// The host kernel writes to it when the driver rings ([`KernelDoorbells`](super::KernelDoorbells)): the worker
    /// sleeps on it, and who wakes the worker writes to it as well.
    kernel: OnceLock<Arc<OwnedFd>>,
    /// Of what `kernel` counts, this much was no ring.
    woken: AtomicU64,
}

impl Doorbell {
    /// The driver rings.
    pub(super) fn ring(self: &Arc<Self>) {
        self.rings.fetch_add(1, Ordering::Relaxed);
        match self.bell.ring() {
            Ring::Late if put_off::put_off(self) => {
                self.put_off.fetch_add(1, Ordering::Relaxed);
                *lock(&self.put_off_at) = Some(Instant::now());
            }
            Ring::Late | Ring::Wake => self.rouse(),
            Ring::Known => {}
        }
    }

    /// Has the worker look at its queue, now or as soon as it is done with what it does.
    pub(super) fn wake(&self) {
        if self.bell.ring_now() {
            self.rouse();
        }
    }

    /// Wakes the worker if it has not seen by itself that it was rung.
    pub(super) fn rouse_late(&self) {
        if self.bell.is_rung() {
            self.rouse();
        }
    }

    /// Wakes the worker if it sleeps or naps; `rung` is set.
    fn rouse(&self) {
        match self.kernel.get() {
            Some(kernel) => {
                self.woken.fetch_add(1, Ordering::Relaxed);
                write_to(kernel);
            }
            // A token is kept for a worker that is awake: it cannot fall asleep over this.
            None => self.worker.get().into_iter().for_each(Thread::unpark),
        }
        if self.on_event.load(Ordering::SeqCst)
            && let Some(event) = self.event.get()
        {
            write_to(event);
        }
    }

    /// From now on the kernel may ring by writing to `event`, which does not block.
    pub(super) fn connect(&self, event: Arc<OwnedFd>) {
        // Who wakes writes to it from here on; a worker that sleeps in the old way is woken once more in that way.
        let _ = self.kernel.set(event);
        let _ = self.bell.ring_now();
        self.worker.get().into_iter().for_each(Thread::unpark);
    }

    /// What the kernel writes to.
    pub(super) fn kernel_event(&self) -> Option<&Arc<OwnedFd>> {
        self.kernel.get()
    }

    /// The kernel wrote to its event: its rings are counted, and the event is as if nothing had been written.
    pub(super) fn take_kernel_rings(&self) {
        let mut count = [0; 8];
        if let Some(event) = self.kernel.get()
            && rustix::io::read(&**event, &mut count).is_ok()
        {
            let rings = u64::from_ne_bytes(count).saturating_sub(self.woken.swap(0, Ordering::Relaxed));
            self.rings.fetch_add(rings, Ordering::Relaxed);
        }
    }

    /// How often it was rung.
    pub(super) fn rings(&self) -> u64 {
        self.rings.load(Ordering::Relaxed)
    }

    /// How many of the rings woke nobody at once because the worker napped.
    pub(super) fn put_off(&self) -> u64 {
        self.put_off.load(Ordering::Relaxed)
    }

    /// When the driver rang, if that was much earlier than the worker awoke.
    pub(super) fn rang_at(&self) -> Option<Instant> {
        lock(&self.put_off_at).take()
    }

    /// The calling thread is the worker. Once, before its first look at the bell: a ring that comes too early to wake it is
    /// found by that look.
    pub(super) fn be_worker(&self) {
        let _ = self.worker.set(thread::current());
    }

    /// Whether it has been rung since it was last looked at. Who gets true looks at everything.
    pub(super) fn take(&self) -> bool {
        self.bell.take()
    }

    /// The worker is about to sleep until `event`, always the same, is written to. False if it has been rung already.
    pub(super) fn begin_wait(&self, event: &Arc<OwnedFd>) -> bool {
        self.event.get_or_init(|| Arc::clone(event));
        self.on_event.store(true, Ordering::SeqCst);
        // Who rings from here on sees the mark; who rang before is seen here.
        let free = !self.bell.take();
        if !free {
            self.end_wait();
        }
        free
    }

    /// The worker is awake.
    pub(super) fn end_wait(&self) {
        self.on_event.store(false, Ordering::SeqCst);
        // The worker looks at everything now.
        self.bell.take();
    }

    /// Naps by `sleep`, which sleeps for no longer than it is told to and says whether something else than a ring came, until
    /// the driver has stayed away for long. True if it did not: the worker has to look, and must not sleep.
    pub(super) fn nap(&self, mut sleep: impl FnMut(Duration) -> bool) -> bool {
        if !put_off::is_in_use() || self.kernel.get().is_some() {
            return false;
        }
        let begin = Instant::now();
        self.bell.begin_naps();
        let found = loop {
            let away = begin.elapsed();
            if self.bell.is_rung() {
                break true;
            }
            if away > NAPS {
                break false;
            }
            if sleep(away.clamp(*NAP.start(), *NAP.end())) {
                break true;
            }
        };
        self.bell.end_naps() || found
    }

    /// Sleeps until the doorbell has been rung since the last call.
    pub(super) fn wait(&self) {
        self.nap(|most| {
            thread::park_timeout(most);
            false
        });
        while !self.bell.take() {
            match self.kernel.get() {
                None => thread::park(),
                Some(event) => {
                    let mut polled = [PollFd::new(&**event, PollFlags::IN)];
                    if poll(&mut polled, None).is_ok_and(|ready| ready != 0) {
                        self.take_kernel_rings();
                        // The worker looks at everything now.
                        self.bell.take();
                        return;
                    }
                }
            }
        }
    }
}

fn write_to(event: &OwnedFd) {
    // It fails only if it has been written to 2^64 - 1 times without being read.
    let _ = rustix::io::write(event, &1u64.to_ne_bytes());
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
        of_thread.doorbell.be_worker();
        // A nap is not to last longer than it says; where the host does not allow that they last 50 us longer.
        let _ = rustix::thread::set_current_timer_slack(Some(NonZero::<u64>::MIN));
        while !shared.has_ended() {
            of_thread.doorbell.wait();
            of_thread.serve(&shared);
        }
    })
}
