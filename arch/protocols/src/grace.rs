//! Grace periods: when may memory that code pointers of some vCPU could still lead to be used again?
//!
//! A vCPU holds pointers into the shared code only between two *safepoints*: its dispatcher, outside every fragment. It publishes there which epoch it has
//! reached. What is taken out of all tables gets the next epoch's number, and is free when every vCPU has reached that or is out of guest code.
//!
//! Fields and invariants:
//! - `epoch` only grows. Whoever takes something out does that first (and counts it in a word `drops`), then calls [`Grace::begin`].
//! - `seen[i]` is written by vCPU `i` alone. It never exceeds what `epoch` was when the vCPU last held no code pointers, or is [`OUT`].
//! - A vCPU that comes back stores `seen` before it looks at `drops` (a fence between), and forgets its jump caches if that changed before it executes anything:
//!   so either the one who frees sees it running, or it sees what was dropped.

use crate::sync::atomic::{AtomicU64, Ordering, fence};

/// The vCPU is in no fragment and will look at everything before it is in one again.
const OUT: u64 = u64::MAX;

/// One cache line per vCPU.
#[derive(Debug)]
#[repr(align(64))]
struct Seen(AtomicU64);

/// The epochs of one code space.
#[derive(Debug)]
pub struct Grace {
    epoch: AtomicU64,
    seen: Box<[Seen]>,
}

impl Grace {
    /// For `vcpus` participants, all out.
    #[must_use]
    pub fn new(vcpus: usize) -> Grace {
        Grace { epoch: AtomicU64::new(1), seen: (0..vcpus).map(|_| Seen(AtomicU64::new(OUT))).collect() }
    }

    /// The epoch now. A vCPU reads it at a safepoint, then forgets what was dropped, then calls [`Grace::pass`] with it.
    #[inline]
    #[must_use]
    pub fn now(&self) -> u64 {
        self.epoch.load(Ordering::Acquire)
    }

    /// vCPU `index` is about to run guest code. It must look at what was dropped before it does.
    pub fn come_in(&self, index: usize) {
        if let Some(s) = self.seen.get(index) {
            s.0.store(self.epoch.load(Ordering::SeqCst), Ordering::SeqCst);
        }
        fence(Ordering::SeqCst);
    }

    /// vCPU `index` holds no code pointers until [`Grace::come_in`].
    pub fn go_out(&self, index: usize) {
        if let Some(s) = self.seen.get(index) {
            s.0.store(OUT, Ordering::Release);
        }
    }

    /// vCPU `index` holds no code pointers that are older than `epoch`.
    #[inline]
    pub fn pass(&self, index: usize, epoch: u64) {
        if let Some(s) = self.seen.get(index) {
            s.0.store(epoch, Ordering::Release);
        }
    }

    /// Something was taken out of all tables: the number to ask [`Grace::over`] for.
    #[must_use]
    pub fn begin(&self) -> u64 {
        self.epoch.fetch_add(1, Ordering::SeqCst) + 1
    }

    /// True when nobody can hold a pointer that was given out before [`Grace::begin`] answered `epoch`.
    #[must_use]
    pub fn over(&self, epoch: u64) -> bool {
        fence(Ordering::SeqCst);
        self.seen.iter().all(|s| s.0.load(Ordering::SeqCst) >= epoch)
    }

    /// True if no vCPU is in guest code, at this moment.
    #[must_use]
    pub fn all_out(&self) -> bool {
        self.seen.iter().all(|s| s.0.load(Ordering::Relaxed) == OUT)
    }

    /// Those that `epoch` waits for.
    pub fn waits_for(&self, epoch: u64) -> impl Iterator<Item = usize> {
        self.seen.iter().enumerate().filter(move |(_, s)| s.0.load(Ordering::SeqCst) < epoch).map(|(i, _)| i)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sync::Arc;
    use crate::sync::atomic::{AtomicBool, AtomicU32};
    use loom::thread;

    #[test]
    fn a_period_ends_when_the_last_one_passed() {
        loom::model(|| {
            let g = Grace::new(3);
            g.come_in(0);
            g.come_in(2);
            let e = g.begin();
            assert!(!g.over(e));
            g.pass(0, g.now());
            assert_eq!(g.waits_for(e).collect::<Vec<_>>(), [2]);
            g.go_out(2);
            assert!(g.over(e));
            assert!(!g.all_out());
            let later = g.begin();
            assert!(g.over(e) && !g.over(later));
        });
    }

    /// Code that one thread executes by a branch that another cuts, and by a jump cache of its own, is not overwritten while it may be executed.
    #[test]
    fn nothing_is_used_again_while_a_branch_or_a_jump_cache_leads_to_it() {
        struct Space {
            grace: Grace,
            drops: AtomicU64,
            /// A patched branch, 1 = to the fragment.
            branch: AtomicU32,
            overwritten: AtomicBool,
        }
        let mut model = loom::model::Builder::new();
        model.preemption_bound = Some(2);
        model.check(|| {
            let space = Arc::new(Space {
                grace: Grace::new(1),
                drops: AtomicU64::new(0),
                branch: AtomicU32::new(1),
                overwritten: AtomicBool::new(false),
            });
            let s = Arc::clone(&space);
            let executor = thread::spawn(move || {
                let mut seen = 0;
                let mut jump_cache = false;
                s.grace.come_in(0);
                for round in 0..2 {
                    // Safepoint.
                    let epoch = s.grace.now();
                    let drops = s.drops.load(Ordering::SeqCst);
                    if drops != seen {
                        seen = drops;
                        jump_cache = false;
                    }
                    if round > 0 {
                        s.grace.pass(0, epoch);
                    }
                    // Execute.
                    jump_cache |= s.branch.load(Ordering::Acquire) == 1;
                    if jump_cache {
                        assert!(!s.overwritten.load(Ordering::SeqCst), "executed what was overwritten");
                    }
                    if round == 0 {
                        s.grace.go_out(0);
                        s.grace.come_in(0);
                    }
                }
                s.grace.go_out(0);
            });
            // Who takes out.
            space.branch.store(0, Ordering::Release);
            space.drops.fetch_add(1, Ordering::SeqCst);
            let epoch = space.grace.begin();
            for _ in 0..2 {
                if space.grace.over(epoch) {
                    space.overwritten.store(true, Ordering::SeqCst);
                }
                thread::yield_now();
            }
            executor.join().expect("no assertion failed");
        });
    }
}
