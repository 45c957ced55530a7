//! Numbered items that stay where they are, so that they can be read while others are added.

use std::sync::{Arc, OnceLock};

use crate::hugepages::{Arena, HugeBox, Zero};

/// log2 of the items of the first segment; each further one doubles.
const FIRST: u32 = 8;
/// Segments: 2^FIRST * (2^SEGMENTS - 1) items at most.
const SEGMENTS: usize = 20;

/// A growing table. Items are zero at first, made a segment at a time (memory is used as they are) and never move; whoever hands out numbers decides what they mean.
#[derive(Debug)]
pub struct Slab<T> {
    segments: [OnceLock<HugeBox<[T]>>; SEGMENTS],
    arena: Arc<Arena>,
}

impl<T: Zero> Slab<T> {
    /// Empty; it grows in `arena`.
    pub fn new(arena: &Arc<Arena>) -> Slab<T> {
        Slab { segments: [const { OnceLock::new() }; SEGMENTS], arena: Arc::clone(arena) }
    }

    fn place(index: u32) -> (usize, usize) {
        let n = u64::from(index) + (1 << FIRST);
        let segment = n.ilog2() - FIRST;
        (segment as usize, (n - (1 << (segment + FIRST))) as usize)
    }

    /// The item, if its segment exists.
    #[inline]
    pub fn get(&self, index: u32) -> Option<&T> {
        let (segment, at) = Self::place(index);
        self.segments.get(segment)?.get()?.get(at)
    }

    /// The item; its segment is made if need be. `None` beyond the last segment.
    pub fn grow(&self, index: u32) -> Option<&T> {
        let (segment, at) = Self::place(index);
        let items = self
            .segments
            .get(segment)?
            .get_or_init(|| HugeBox::of_zeros(&self.arena, 1usize << (segment as u32 + FIRST)));
        items.get(at)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::{AtomicU32, Ordering};

    #[test]
    fn numbers_lead_to_items_of_their_own() {
        let s: Slab<AtomicU32> = Slab::new(&Arena::new(true));
        assert!(s.get(0).is_none());
        for i in 0..5000 {
            s.grow(i).expect("room").store(i, Ordering::Relaxed);
        }
        for i in 0..5000 {
            assert_eq!(s.get(i).expect("made").load(Ordering::Relaxed), i);
        }
        assert!(s.get(u32::MAX).is_none());
    }
}
