//! Which virtual pages may have links from other pages into them: asked without the lock by TLB maintenance, which mostly is of pages without code.

use std::sync::atomic::{AtomicU64, Ordering};

/// Words of bits.
const WORDS: usize = 512;
/// log2 of the bytes of a page and of a region: TLB maintenance may be widened to a block.
const SHIFTS: [u32; 2] = [12, 21];
/// Most pages or regions that are looked at one by one.
const LOOKS: u64 = 64;

/// A bit for many pages each, and one for many regions, set when one of them gets code that others may link to, and never cleared.
#[derive(Debug)]
pub struct PageFilter([[AtomicU64; WORDS]; SHIFTS.len()]);

impl Default for PageFilter {
    fn default() -> PageFilter {
        PageFilter([const { [const { AtomicU64::new(0) }; WORDS] }; SHIFTS.len()])
    }
}

fn place(bits: &[AtomicU64; WORDS], number: u64) -> (&AtomicU64, u64) {
    (&bits[(number >> 6) as usize % WORDS], 1 << (number & 63))
}

impl PageFilter {
    /// A page may be linked to from now on.
    pub fn insert(&self, va: u64) {
        for (bits, shift) in self.0.iter().zip(SHIFTS) {
            let (word, bit) = place(bits, va >> shift);
            word.fetch_or(bit, Ordering::Release);
        }
    }

    /// True if one of the pages `first..=last` may be linked to. Who asks on behalf of another vCPU may miss what that one inserts at this moment; it asks
    /// itself before it acknowledges the maintenance.
    #[must_use]
    pub fn may_hold(&self, first: u64, last: u64) -> bool {
        for (bits, shift) in self.0.iter().zip(SHIFTS) {
            let (from, to) = (first >> shift, last >> shift);
            if to.wrapping_sub(from) < LOOKS {
                return (from..=to).any(|number| {
                    let (word, bit) = place(bits, number);
                    word.load(Ordering::Acquire) & bit != 0
                });
            }
        }
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_page_that_was_inserted_is_held_alone_and_in_ranges() {
        let f = PageFilter::default();
        let page = 0xffff_8000_1234_5000u64;
        assert!(!f.may_hold(page, page));
        f.insert(page);
        assert!(f.may_hold(page, page) && f.may_hold(page - 0x5000, page + 0xfff) && f.may_hold(0, u64::MAX));
        assert!(!f.may_hold(page + 0x1000, page + 0x1fff) && !f.may_hold(page - 0x3000, page - 1));
        // A block of 2 MiB, and more than one.
        let block = page & !0x1f_ffff;
        assert!(f.may_hold(block, block + 0x1f_ffff) && !f.may_hold(block + 0x20_0000, block + 0x3f_ffff));
        assert!(f.may_hold(block - 0x40_0000, block + 0x20_0000) && !f.may_hold(block - 0x40_0000, block - 1));
    }
}
