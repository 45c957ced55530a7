//! Requests to a vCPU, and its sleep.
//!
//! Everybody who wants something of a vCPU first makes it visible (a queue, a register), then sets a bit in `requests`, then wakes. The vCPU takes the bits
//! first, then looks. So nothing is lost: either it sees the bit before it sleeps, or whoever set it sees it asleep.

use crate::sync::atomic::{AtomicU32, Ordering};

/// The request word of a vCPU and the word that it sleeps on.
#[derive(Debug)]
pub struct Doze {
    /// What is asked for; generated code polls it. Bits are set by anybody, cleared by the vCPU alone before it looks at what they stand for.
    requests: AtomicU32,
    /// 1 from before the vCPU's last look at what it waits for until it is awake or was woken. Set by the vCPU, cleared by whoever wakes it.
    asleep: AtomicU32,
}

impl Default for Doze {
    fn default() -> Doze {
        Doze { requests: AtomicU32::new(0), asleep: AtomicU32::new(0) }
    }
}

impl Doze {
    /// The request word.
    #[inline]
    pub fn requests(&self) -> &AtomicU32 {
        &self.requests
    }

    /// The word to wait on while it is 1.
    pub fn word(&self) -> &AtomicU32 {
        &self.asleep
    }

    /// Set request bits. True: the caller has to wake who waits on [`Doze::word`].
    #[must_use]
    pub fn request(&self, bits: u32) -> bool {
        self.requests.fetch_or(bits, Ordering::SeqCst);
        self.rouse()
    }

    /// No request, but the vCPU shall look again. True: the caller has to wake who waits on [`Doze::word`].
    #[must_use]
    pub fn rouse(&self) -> bool {
        self.asleep.swap(0, Ordering::SeqCst) != 0
    }

    /// Sleep by `wait` (which returns when the word is not 1, at a wake, at a time limit, or for no reason) unless there is a request or `awake` holds. What
    /// makes `awake` true must be followed by a request or [`Doze::rouse`].
    pub fn sleep(&self, mask: u32, awake: impl FnOnce() -> bool, wait: impl FnOnce(&AtomicU32)) {
        // Only swaps write this word: so whichever comes second sees what was written before the first.
        self.asleep.swap(1, Ordering::SeqCst);
        if self.requests.load(Ordering::SeqCst) & mask == 0 && !awake() {
            wait(&self.asleep);
        }
        self.asleep.swap(0, Ordering::SeqCst);
    }

    /// True while the vCPU sleeps or is about to.
    #[must_use]
    pub fn is_asleep(&self) -> bool {
        self.asleep.load(Ordering::Relaxed) != 0
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use crate::sync::{Arc, Condvar, Mutex};
    use loom::thread;

    /// A futex: the word is compared under the lock that wakers take.
    pub struct Futex {
        lock: Mutex<()>,
        changed: Condvar,
    }

    impl Futex {
        pub fn new() -> Futex {
            Futex { lock: Mutex::new(()), changed: Condvar::new() }
        }
        pub fn wait(&self, word: &AtomicU32) {
            let guard = self.lock.lock().expect("no panics");
            if word.load(Ordering::SeqCst) == 1 {
                drop(self.changed.wait(guard).expect("no panics"));
            }
        }
        pub fn wake(&self) {
            let guard = self.lock.lock().expect("no panics");
            self.changed.notify_all();
            drop(guard);
        }
    }

    #[test]
    fn no_request_is_slept_through() {
        let mut model = loom::model::Builder::new();
        model.preemption_bound = Some(3);
        model.check(|| {
            let shared = Arc::new((Doze::default(), Futex::new()));
            let s = Arc::clone(&shared);
            let sleeper = thread::spawn(move || {
                let mut got = 0;
                // A lost wake-up would be a deadlock, which loom reports.
                while got != 3 {
                    s.0.sleep(!0, || false, |word| s.1.wait(word));
                    got |= s.0.requests().swap(0, Ordering::SeqCst);
                }
            });
            let s = Arc::clone(&shared);
            let other = thread::spawn(move || {
                if s.0.request(1) {
                    s.1.wake();
                }
            });
            if shared.0.request(2) {
                shared.1.wake();
            }
            other.join().expect("ends");
            sleeper.join().expect("ends");
        });
    }
}
