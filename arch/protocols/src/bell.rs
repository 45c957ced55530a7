//! A bell that has a worker look, and whose ringer may leave it to the worker to look by itself.
//!
//! A worker with nothing to do naps for a while, then sleeps. Who rings while it naps need not wake it: it looks at the bell at the end of each nap, and
//! once more after it has said that it naps no longer. So either the worker sees the ring, or the ringer sees that it has to wake.

use crate::sync::atomic::{AtomicBool, Ordering};

/// Whether there is something to look at, and whether the worker looks soon by itself.
#[derive(Debug)]
pub struct Bell {
    /// Set by ringers, cleared by the worker before it looks at what they rang for.
    rung: AtomicBool,
    /// Set and cleared by the worker: it looks at `rung` after it cleared this, before it sleeps.
    napping: AtomicBool,
}

/// What who rings has to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ring {
    /// Nothing: the bell was rung already.
    Known,
    /// Wake the worker at some time, for it not to be late by a nap.
    Late,
    /// Wake the worker.
    Wake,
}

impl Default for Bell {
    fn default() -> Bell {
        Bell { rung: AtomicBool::new(false), napping: AtomicBool::new(false) }
    }
}

impl Bell {
    /// There is something to look at.
    #[must_use]
    pub fn ring(&self) -> Ring {
        if self.rung.swap(true, Ordering::SeqCst) {
            Ring::Known
        } else if self.napping.load(Ordering::SeqCst) {
            Ring::Late
        } else {
            Ring::Wake
        }
    }

    /// The same for somebody who does not wait for naps. True: the caller has to wake the worker.
    #[must_use]
    pub fn ring_now(&self) -> bool {
        // A ring before this may have left it at `Late`.
        !self.rung.swap(true, Ordering::SeqCst) || self.napping.load(Ordering::SeqCst)
    }

    /// Whether the worker has not taken the last ring.
    #[must_use]
    pub fn is_rung(&self) -> bool {
        self.rung.load(Ordering::SeqCst)
    }

    /// Whether it was rung since the last call. The worker that gets true looks at everything.
    pub fn take(&self) -> bool {
        self.rung.load(Ordering::SeqCst) && self.rung.swap(false, Ordering::SeqCst)
    }

    /// The worker is about to nap.
    pub fn begin_naps(&self) {
        self.napping.store(true, Ordering::SeqCst);
    }

    /// The worker naps no longer. True: it was rung, and must not sleep.
    #[must_use]
    pub fn end_naps(&self) -> bool {
        self.napping.store(false, Ordering::SeqCst);
        self.is_rung()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sync::Arc;
    use crate::sync::atomic::AtomicU32;
    use loom::thread;

    /// Works until it has seen `jobs` jobs, and naps by `nap` before it sleeps; a lost ring would be a deadlock, which loom reports.
    fn work(bell: &Bell, posted: &AtomicU32, jobs: u32, nap: impl Fn()) {
        while posted.load(Ordering::Relaxed) < jobs {
            bell.begin_naps();
            if !bell.is_rung() {
                nap();
            }
            let _ = bell.end_naps();
            while !bell.take() {
                thread::park();
            }
        }
    }

    fn check(
        nap: impl Fn() + Copy + Send + Sync + 'static,
        post: impl Fn(&Bell, &thread::Thread) + Copy + Send + Sync + 'static,
    ) {
        let mut model = loom::model::Builder::new();
        model.preemption_bound = Some(3);
        model.check(move || {
            let shared = Arc::new((Bell::default(), AtomicU32::new(0)));
            let s = Arc::clone(&shared);
            let worker = thread::spawn(move || work(&s.0, &s.1, 2, nap));
            for _ in 0..2 {
                shared.1.fetch_add(1, Ordering::Relaxed);
                post(&shared.0, worker.thread());
            }
            worker.join().expect("ends");
        });
    }

    #[test]
    fn a_ring_that_nobody_wakes_for_is_seen_after_the_nap() {
        check(thread::yield_now, |bell, worker| {
            if bell.ring() == Ring::Wake {
                worker.unpark();
            }
        });
    }

    #[test]
    fn a_late_wake_ends_a_nap_that_does_not_end_by_itself() {
        check(thread::park, |bell, worker| {
            // As a vCPU that goes to sleep at once.
            if bell.ring() == Ring::Wake || bell.is_rung() {
                worker.unpark();
            }
        });
    }

    #[test]
    fn who_does_not_wait_for_naps_wakes_although_it_was_rung() {
        check(thread::park, |bell, worker| {
            if bell.ring() == Ring::Wake {
                worker.unpark();
            }
            if bell.ring_now() {
                worker.unpark();
            }
        });
    }
}
