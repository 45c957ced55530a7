//! Broadcast TLB maintenance: how an operation of one vCPU reaches the others, and when it is complete.
//!
//! The initiator changes its tables, then posts the operation to each vCPU that may hold something of it, then asks for `SHOOT`; its DSB waits until each of
//! them is [`Shootdown::done`]: it has applied the operation, or it does not use its translation caches now and applies it before it does again. A vCPU that
//! waits serves its own queue meanwhile, so two may wait for each other.

use crate::sync::atomic::{AtomicBool, AtomicU64, Ordering, fence};
use crate::sync::{Mutex, MutexGuard};
use std::sync::PoisonError;

/// What others want one vCPU to forget.
#[derive(Debug)]
pub struct Shootdown<T> {
    /// What is not applied yet. `posted` counts under its lock, so that a number taken with the queue covers all that was in it.
    queue: Mutex<Vec<T>>,
    /// Operations posted so far.
    posted: AtomicU64,
    /// All operations up to this number have been applied. Written by the vCPU alone, after it applied them and before it uses its caches.
    applied: AtomicU64,
    /// The vCPU may use its caches. Set before it looks whether there is something to apply (both SeqCst).
    running: AtomicBool,
    /// Bit per vCPU that sleeps until this one has applied something or stops to run.
    waiters: AtomicU64,
}

impl<T> Default for Shootdown<T> {
    fn default() -> Self {
        Shootdown {
            queue: Mutex::new(Vec::new()),
            posted: AtomicU64::new(0),
            applied: AtomicU64::new(0),
            running: AtomicBool::new(false),
            waiters: AtomicU64::new(0),
        }
    }
}

impl<T: Clone> Shootdown<T> {
    fn lock(&self) -> MutexGuard<'_, Vec<T>> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Post an operation; `all` replaces everything when `limit` are queued. The number to wait for. The caller then requests that the vCPU looks.
    pub fn post(&self, operation: T, all: &T, limit: usize) -> u64 {
        let mut queue = self.lock();
        if queue.len() >= limit {
            queue.clear();
            queue.push(all.clone());
        } else {
            queue.push(operation);
        }
        let number = self.posted.fetch_add(1, Ordering::SeqCst) + 1;
        fence(Ordering::SeqCst);
        number
    }

    /// Take what is queued, with the number to give [`Shootdown::applied`].
    pub fn take(&self) -> (Vec<T>, u64) {
        let mut queue = self.lock();
        (std::mem::take(&mut *queue), self.posted.load(Ordering::SeqCst))
    }

    /// Everything up to this number is applied. The vCPUs to rouse, a bit each.
    #[must_use]
    pub fn applied(&self, number: u64) -> u64 {
        self.applied.store(number, Ordering::SeqCst);
        self.waiters()
    }

    /// The vCPU begins to use its caches: it has to [`Shootdown::take`] before it does.
    pub fn begin(&self) {
        self.running.store(true, Ordering::SeqCst);
        fence(Ordering::SeqCst);
    }

    /// The vCPU uses its caches no more until [`Shootdown::begin`]. The vCPUs to rouse, a bit each.
    #[must_use]
    pub fn end(&self) -> u64 {
        self.running.store(false, Ordering::SeqCst);
        self.waiters()
    }

    fn waiters(&self) -> u64 {
        fence(Ordering::SeqCst);
        if self.waiters.load(Ordering::SeqCst) == 0 { 0 } else { self.waiters.swap(0, Ordering::SeqCst) }
    }

    /// True when the operation with this number can have no effect on the vCPU any more.
    pub fn done(&self, number: u64) -> bool {
        self.applied.load(Ordering::SeqCst) >= number || !self.running.load(Ordering::SeqCst)
    }

    /// As [`Shootdown::done`]; if it is not, vCPU `index` (below 64) will be roused at the next chance that it is. Ask this *after* the word to sleep on is
    /// set: rousing takes the bit away, and must not do so before there is somebody to rouse.
    pub fn done_or_rouse(&self, number: u64, index: usize) -> bool {
        self.waiters.fetch_or(1 << (index & 63), Ordering::SeqCst);
        fence(Ordering::SeqCst);
        self.done(number)
    }
}

/// The address spaces (ASIDs) of which one vCPU may hold translations that are not global.
///
/// The vCPU adds an ASID before it walks tables under it (`add`, then walk), an initiator looks after it changed the tables (write, then `may_hold`): one
/// of the two sees the other, so an operation that is not posted removes nothing that could be there.
#[derive(Debug)]
pub struct AsidFilter {
    words: Box<[AtomicU64]>,
    /// Global translations of the lower half are held: operations on an address concern them, whatever their ASID.
    low_global: AtomicBool,
}

impl AsidFilter {
    /// For ASIDs below `asids`.
    #[must_use]
    pub fn new(asids: usize) -> AsidFilter {
        AsidFilter {
            words: (0..asids.div_ceil(64)).map(|_| AtomicU64::new(0)).collect(),
            low_global: AtomicBool::new(false),
        }
    }

    /// Translations of this ASID are going to be cached.
    #[inline]
    pub fn add(&self, asid: u16) {
        let bit = 1 << (asid & 63);
        if let Some(word) = self.words.get(usize::from(asid >> 6))
            && word.load(Ordering::Relaxed) & bit == 0
        {
            word.fetch_or(bit, Ordering::SeqCst);
            fence(Ordering::SeqCst);
        }
    }

    /// Nothing of this ASID is cached any more. Only the vCPU itself, which adds it again before it caches anything of it.
    pub fn remove(&self, asid: u16) {
        if let Some(word) = self.words.get(usize::from(asid >> 6)) {
            word.fetch_and(!(1 << (asid & 63)), Ordering::SeqCst);
        }
    }

    /// A global translation of the lower half is going to be cached. False if that was not known: the caller has to walk the tables again.
    #[must_use]
    pub fn add_low_global(&self) -> bool {
        let known = self.low_global.load(Ordering::Relaxed) || self.low_global.swap(true, Ordering::SeqCst);
        if !known {
            fence(Ordering::SeqCst);
        }
        known
    }

    /// Nothing is cached any more.
    pub fn clear(&self) {
        for w in &self.words {
            if w.load(Ordering::Relaxed) != 0 {
                w.store(0, Ordering::SeqCst);
            }
        }
        self.low_global.store(false, Ordering::SeqCst);
    }

    /// True if something of the ASID may be cached. `address`: or something global of the lower half.
    pub fn may_hold(&self, asid: u16, address: bool) -> bool {
        fence(Ordering::SeqCst);
        let held =
            self.words.get(usize::from(asid >> 6)).is_none_or(|w| w.load(Ordering::SeqCst) >> (asid & 63) & 1 != 0);
        held || address && self.low_global.load(Ordering::SeqCst)
    }
}

#[cfg(test)]
mod tests;
