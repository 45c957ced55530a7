//! Memory is given back while the machine idles.
//!
//! Most of what a guest executes while it boots is executed once. While all vCPUs wait, the oldest chunks are taken out as they are when room is needed, and
//! whole blocks of the code cache that hold no chunk any more go back to the host, with what was kept about their fragments. The newest code stays; of what is
//! older that which is still wanted is translated again, and is new then. vCPUs follow by giving back contexts of address spaces that do not run
//! ([`CodeSpace::trims`]).
//!
//! A thread of its own looks now and then, as long as there is more than [`MOST`]; it sleeps otherwise.

use std::sync::atomic::Ordering;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Duration;

use super::{CodeSpace, Table};
use crate::hugepages::HUGE;

/// With fewer bytes of code nothing is done.
const MOST: usize = 10 << 20;
/// Bytes of the newest code that stay.
const KEPT: usize = 6 << 20;
/// Time between two looks.
const PERIOD: Duration = Duration::from_millis(400);
/// Looks in a row that find all vCPUs waiting: then the machine idles.
const QUIET: u32 = 10;

/// Tells the thread that there is something to do, or that it ends.
#[derive(Debug, Default)]
pub struct Bell {
    orders: Mutex<Orders>,
    rung: Condvar,
}

#[derive(Debug, Default, Clone, Copy)]
struct Orders {
    ended: bool,
    wanted: bool,
}

impl Bell {
    fn lock(&self) -> MutexGuard<'_, Orders> {
        self.orders.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// There is more code than need be.
    fn ring(&self) {
        if !std::mem::replace(&mut self.lock().wanted, true) {
            self.rung.notify_all();
        }
    }

    /// The code space ends.
    pub fn end(&self) {
        self.lock().ended = true;
        self.rung.notify_all();
    }

    /// There is nothing more to do.
    fn rest(&self) {
        self.lock().wanted = false;
    }

    /// Waits until it is time to look. False: there will be nothing to look at any more.
    fn wait(&self) -> bool {
        let mut orders = self.lock();
        while !orders.wanted && !orders.ended {
            orders = self.rung.wait(orders).unwrap_or_else(PoisonError::into_inner);
        }
        let until = |orders: &mut Orders| !orders.ended;
        let waited = self.rung.wait_timeout_while(orders, PERIOD, until).unwrap_or_else(PoisonError::into_inner);
        !waited.0.ended
    }
}

/// Starts the thread that gives memory back while the vCPUs of `space` wait. Without it memory stays.
pub fn watch(space: &Arc<CodeSpace>) {
    let (bell, space) = (Arc::clone(&space.bell), Arc::downgrade(space));
    let body = move || {
        let mut quiet = 0;
        while bell.wait() {
            let Some(space) = space.upgrade() else { return };
            quiet = if space.grace.all_out() { quiet + 1 } else { 0 };
            if quiet >= QUIET {
                // What rings from now on is not answered by this.
                bell.rest();
                if !space.trim() {
                    bell.ring();
                }
                quiet = 0;
            }
        }
    };
    // It ends with the code space and owns nothing: nobody waits for it.
    drop(thread::Builder::new().name("code-idle".into()).stack_size(64 << 10).spawn(body));
}

impl CodeSpace {
    /// A chunk was taken into use.
    pub(super) fn note_taken(&self, chunks: usize) {
        if chunks * self.chunk_size > MOST {
            self.bell.ring();
        }
    }

    /// Grows whenever code was taken out because the machine idles.
    #[must_use]
    pub fn trims(&self) -> u64 {
        self.trims.load(Ordering::SeqCst)
    }

    /// Chunks that were taken out because the machine idled.
    #[must_use]
    pub fn trimmed(&self) -> u64 {
        self.trimmed.load(Ordering::Relaxed)
    }

    /// Takes out all but the newest code, and gives back its memory. False: some of it cannot be given back before vCPUs have passed a safepoint.
    pub fn trim(&self) -> bool {
        self.trim_to(MOST / self.chunk_size, KEPT / self.chunk_size)
    }

    /// The same, if there are more than `most` full chunks, of which the newest `kept` stay.
    pub fn trim_to(&self, most: usize, kept: usize) -> bool {
        let mut t = self.lock();
        if t.full.len() > most {
            // Before `drops` grows: who sees that sees this.
            self.trims.fetch_add(1, Ordering::SeqCst);
            while t.full.len() > kept {
                let Some(oldest) = t.full.pop_front() else { break };
                self.evict(&mut t, oldest);
                self.trimmed.fetch_add(1, Ordering::Relaxed);
            }
        }
        t.reclaim(&self.grace, &self.directory);
        let done = t.retiring_chunks == 0;
        let blocks = t.empty_blocks(self.cache.size() / HUGE, |block| {
            block * HUGE / self.chunk_size..((block + 1) * HUGE).div_ceil(self.chunk_size)
        });
        drop(t);
        for (block, _) in &blocks {
            // SAFETY: all chunks in it were free: their grace periods are over, so nobody has pointers into them; and they are not free while they are in `blocks`,
            // so nobody gets a region there before the memory is given back.
            unsafe { self.cache.release(*block) };
        }
        let mut t = self.lock();
        t.free.extend(blocks.into_iter().flat_map(|(_, chunks)| chunks));
        // The lowest are used first: those beside code that stayed.
        t.free.sort_unstable_by(|a, b| b.cmp(a));
        drop(t);
        give_back_heap();
        done
    }
}

impl Table {
    /// Blocks of the cache, numbers below `blocks`, that hold used memory but no chunk that is used, with their chunks (`of` says which lie in a block, even in
    /// part), which are not free until they are put back.
    fn empty_blocks(
        &mut self,
        blocks: usize,
        of: impl Fn(usize) -> std::ops::Range<usize>,
    ) -> Vec<(usize, Vec<usize>)> {
        let mut free = vec![false; self.touched.len()];
        for chunk in &self.free {
            free[*chunk] = true;
        }
        let mut empty = Vec::new();
        for block in 0..blocks {
            let chunks: Vec<usize> = of(block).filter(|c| *c < free.len()).collect();
            // A chunk across two blocks goes with the first.
            if !chunks.iter().all(|c| free[*c]) || !chunks.iter().any(|c| self.touched[*c]) {
                continue;
            }
            for c in &chunks {
                (free[*c], self.touched[*c]) = (false, false);
            }
            self.free.retain(|c| !chunks.contains(c));
            empty.push((block, chunks));
        }
        empty
    }
}

/// The allocator keeps what was freed; the host gets it back.
fn give_back_heap() {
    #[cfg(target_env = "gnu")]
    // SAFETY: glibc's allocator may be told this at any time.
    unsafe {
        libc::malloc_trim(0);
    }
}
