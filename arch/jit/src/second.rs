//! The second-level TLB: one table per vCPU for all contexts, probed in assembly when the first-level table of a context misses.
//!
//! Entries are tagged with the page and the context number of the interpreter's TLB (`cpu::mmu::Tlb::contexts`: address space and privilege), so nothing is
//! flushed when the address space changes: its pages come back into the emptied first level by a probe. What is entered here was entered into the first
//! level by [`Contexts::for_fill`](crate::contexts::Contexts::for_fill) too, so that TLB maintenance that is widened there covers it. Never here: device memory,
//! translations of the upper half that are not global, or that EL0 made.

use std::sync::Arc;

use crate::hugepages::{Arena, HugeBox};
use crate::tlb::canonical;

/// Sets. Pages of up to four contexts with the same addresses live side by side.
pub const SETS: usize = 2048;
/// Entries of a set.
pub const WAYS: usize = 4;
/// In [`Set::addends`]: the page may be written. (Addends are multiples of the page size.)
pub const WRITABLE: u64 = 1;

/// No tag: page tags have VA[55:48] all equal.
const NONE: u64 = 0x0055_5555_5555_5fff;

/// A set, one cache line. A tag is page | context number.
#[repr(C, align(64))]
#[derive(Clone, Copy, Debug)]
pub struct Set {
    /// Tags.
    pub tags: [u64; WAYS],
    /// Host address minus guest virtual address, with [`WRITABLE`].
    pub addends: [u64; WAYS],
}

const EMPTY: Set = Set { tags: [NONE; WAYS], addends: [0; WAYS] };

/// The table; generated code has its address.
#[derive(Debug)]
pub struct Second {
    sets: HugeBox<[Set]>,
    /// Pages may be in it.
    used: bool,
    victim: usize,
    /// What the tags belong to: `Tlb::numbering`, `Contexts::cleared`.
    numbering: [u64; 2],
}

/// Index of `va`; generated code computes the same.
fn index(va: u64) -> usize {
    (va >> 12) as usize & (SETS - 1)
}

impl Second {
    /// Empty.
    pub fn new(arena: &Arc<Arena>) -> Second {
        Second { sets: HugeBox::of_slice(arena, SETS, || EMPTY), used: false, victim: 0, numbering: [0; 2] }
    }

    /// Address of the sets.
    pub fn table(&mut self) -> *mut Set {
        self.sets.as_mut_ptr()
    }

    /// Forget everything.
    pub fn clear(&mut self) {
        if std::mem::take(&mut self.used) {
            self.sets.fill(EMPTY);
        }
    }

    /// Forget everything if context numbers were given anew or the first levels were all emptied.
    pub fn follow(&mut self, numbering: [u64; 2]) {
        if numbering != self.numbering {
            self.numbering = numbering;
            self.clear();
        }
    }

    /// Enter a page.
    pub fn insert(&mut self, page: u64, context: u64, writable: bool, addend: u64) {
        self.used = true;
        let tag = page | context & 0xfff;
        let set = &mut self.sets[index(page)];
        let free = || set.tags.iter().position(|t| *t == NONE);
        let way = set.tags.iter().position(|t| *t == tag).or_else(free).unwrap_or_else(|| {
            self.victim = (self.victim + 1) % WAYS;
            self.victim
        });
        set.tags[way] = tag;
        set.addends[way] = addend & !0xfff | if writable { WRITABLE } else { 0 };
    }

    /// Forget the pages `first..=last` in all contexts.
    pub fn remove(&mut self, first: u64, last: u64) {
        if !self.used {
            return;
        }
        let pages = (last.wrapping_sub(first) >> 12).saturating_add(1);
        if pages as usize >= SETS {
            self.sets.iter_mut().for_each(|s| s.remove(first, last));
            return;
        }
        for n in 0..pages {
            self.sets[index(first.wrapping_add(n << 12))].remove(first, last);
        }
    }
}

impl Set {
    fn remove(&mut self, first: u64, last: u64) {
        for t in &mut self.tags {
            if (first..=last).contains(&(canonical(*t) & !0xfff)) {
                *t = NONE;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn holds(s: &Second, page: u64, context: u64) -> bool {
        s.sets[index(page)].tags.contains(&(page | context))
    }

    #[test]
    fn pages_leave_in_all_contexts_and_with_their_tags() {
        let mut s = Second::new(&Arena::new(true));
        let page = 0x0000_1234_5678_9000u64;
        s.insert(page | 0xab << 56, 5, true, 1);
        s.insert(page + 0x1000, 6, false, 1);
        assert!(holds(&s, page | 0xab << 56, 5) && holds(&s, page + 0x1000, 6));
        s.insert(page, 7, false, 0x5000);
        assert!(holds(&s, page, 7) && holds(&s, page | 0xab << 56, 5), "side by side");
        assert_eq!(s.sets[index(page)].addends[1], 0x5000);
        s.remove(page, page);
        assert!(!holds(&s, page, 7) && !holds(&s, page | 0xab << 56, 5) && holds(&s, page + 0x1000, 6));
        s.remove(0, u64::MAX >> 9);
        assert!(!holds(&s, page + 0x1000, 6));
        s.insert(!0 << 20, 4, true, 1);
        s.remove(!0 << 20, !0xfff);
        assert!(!holds(&s, !0 << 20, 4));
    }

    #[test]
    fn new_numbers_void_old_tags() {
        let mut s = Second::new(&Arena::new(true));
        s.follow([1, 0]);
        s.insert(0x1000, 5, true, 1);
        s.follow([1, 0]);
        assert!(holds(&s, 0x1000, 5));
        s.follow([1, 1]);
        assert!(!holds(&s, 0x1000, 5));
    }
}
