//! Translation caches of generated code: per-site slots, and contexts with a first-level table and a jump cache.

/// log2 of the entries of the first-level table.
pub const L1_BITS: u32 = 12;
/// Entries of the first-level table.
pub const L1_ENTRIES: usize = 1 << L1_BITS;
/// Entries of the jump cache.
pub const JC_ENTRIES: usize = 8192;
/// Contexts of EL0 kept per vCPU.
pub const EL0_CONTEXTS: usize = 24;

/// A page tag that no access can match by accident: VA[55:48] of a translatable address are all equal.
/// An access to an address with this very page hits an empty slot; its addend leads to the scratch page, see [`empty_addend`].
pub const EMPTY_PAGE: u64 = 0x0055_5555_5555_5000;

/// A per-site slot, or an entry of the first-level table. Each page has an addend of its own: what matches the tag of an
/// empty half is led to the scratch page by it, whatever the other half leads to.
#[repr(C, align(32))]
#[derive(Clone, Copy, Debug)]
pub struct Slot {
    /// Page that may be read.
    pub rpage: u64,
    /// Host address minus guest virtual address, for reads.
    pub raddend: u64,
    /// Page that may be written.
    pub wpage: u64,
    /// Host address minus guest virtual address, for writes.
    pub waddend: u64,
}

impl Slot {
    /// An empty slot whose addend sends [`EMPTY_PAGE`] to `scratch`.
    #[must_use]
    pub fn empty(scratch: u64) -> Slot {
        let addend = empty_addend(scratch);
        Slot { rpage: EMPTY_PAGE, raddend: addend, wpage: EMPTY_PAGE, waddend: addend }
    }

    /// The page `page` (with its tag bits), which may be read and, if `writable`, written.
    #[must_use]
    pub fn of_page(page: u64, addend: u64, writable: bool, scratch: u64) -> Slot {
        let (wpage, waddend) = if writable { (page, addend) } else { (EMPTY_PAGE, empty_addend(scratch)) };
        Slot { rpage: page, raddend: addend, wpage, waddend }
    }
}

/// The addend of empty slots: what matches their tag lands on the scratch page, never on anything else.
#[must_use]
pub fn empty_addend(scratch: u64) -> u64 {
    scratch.wrapping_sub(EMPTY_PAGE)
}

/// An empty entry of the first-level table: no page has this number, so it is never copied into a slot.
const NO_PAGE: Slot = Slot { rpage: !0, raddend: 0, wpage: !0, waddend: 0 };

/// A jump cache entry.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct JumpEntry {
    /// Guest virtual address.
    pub va: u64,
    /// Host address of its fragment.
    pub host: u64,
}

/// One translation context: what is valid for one Exception level and address space. Generated code holds its address in r14.
#[repr(C)]
#[derive(Debug)]
pub struct Context {
    /// Jump cache.
    pub jumps: [JumpEntry; JC_ENTRIES],
    /// First level.
    pub pages: [Slot; L1_ENTRIES],
}

/// Index of `va` in the jump cache; generated code computes the same.
#[must_use]
pub fn jump_index(va: u64) -> usize {
    #[expect(clippy::cast_possible_truncation, reason = "the low half is meant")]
    let low = va as u32;
    ((((low >> crate::env::JC_SHIFT) ^ low) & crate::env::JC_MASK.cast_unsigned()) >> 2) as usize
}

/// Index of `va` in the first-level table; generated code computes the same.
#[must_use]
pub fn l1_index(va: u64) -> usize {
    (va >> 12) as usize & (L1_ENTRIES - 1)
}

impl Context {
    /// An empty context. `miss`: host address that an empty jump entry leads to.
    #[must_use]
    pub fn new(miss: u64) -> Box<Context> {
        let mut c =
            Box::new(Context { jumps: [JumpEntry { va: 0, host: miss }; JC_ENTRIES], pages: [NO_PAGE; L1_ENTRIES] });
        c.clear_jumps(miss);
        c
    }

    /// Forget all jumps.
    pub fn clear_jumps(&mut self, miss: u64) {
        // The tag of an empty entry is an address that belongs to its neighbour, so nothing ever matches it.
        for (i, e) in self.jumps.iter_mut().enumerate() {
            *e = JumpEntry { va: (i as u64 ^ 1) << 2, host: miss };
        }
    }

    /// Forget all data translations.
    pub fn clear_data(&mut self) {
        self.pages.fill(NO_PAGE);
    }

    /// Forget the data translations of the pages `first..=last` (page addresses).
    pub fn remove_pages(&mut self, first: u64, last: u64) {
        let pages = (last.wrapping_sub(first) >> 12).saturating_add(1);
        if pages as usize >= L1_ENTRIES {
            for e in self.pages.iter_mut().filter(|e| (first..=last).contains(&canonical(e.rpage))) {
                *e = NO_PAGE;
            }
            return;
        }
        for n in 0..pages {
            let page = first.wrapping_add(n << 12);
            let entry = &mut self.pages[l1_index(page)];
            // What may be written may be read: the page for reads stands for both.
            if canonical(entry.rpage) == page {
                *entry = NO_PAGE;
            }
        }
    }
}

/// A page with its tag bits replaced by VA[55].
#[must_use]
pub fn canonical(va: u64) -> u64 {
    ((va << 8).cast_signed() >> 8).cast_unsigned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_address_matches_an_empty_jump_entry() {
        let c = Context::new(7);
        for va in (0..1 << 16).chain([u64::MAX, 1 << 63, 0xffff_8000_0800_0000]) {
            let e = c.jumps[jump_index(va)];
            assert!(e.va != va && e.host == 7, "{va:#x}");
        }
        for (i, e) in c.jumps.iter().enumerate() {
            assert_ne!(jump_index(e.va), i);
        }
    }

    #[test]
    fn pages_leave_with_their_tags() {
        let mut c = Context::new(0);
        let page = 0x0000_1234_5678_9000u64;
        let tagged = page | 0xab << 56;
        c.pages[l1_index(page)] = Slot::of_page(tagged, 1, true, 0);
        c.remove_pages(page, page);
        assert_eq!((c.pages[l1_index(page)].rpage, c.pages[l1_index(page)].wpage), (!0, !0));
        c.pages[l1_index(page)] = Slot::of_page(page, 1, true, 0);
        c.remove_pages(0, u64::MAX >> 9);
        assert_eq!((c.pages[l1_index(page)].rpage, c.pages[l1_index(page)].wpage), (!0, !0));
    }

    #[test]
    fn an_empty_half_leads_to_the_scratch_page() {
        let scratch = 0x7f00_1234_5000u64;
        for slot in [Slot::empty(scratch), Slot::of_page(0xffff_8000_0000_1000, 0x1111_0000, false, scratch)] {
            assert_eq!((slot.wpage, slot.wpage.wrapping_add(slot.waddend)), (EMPTY_PAGE, scratch));
        }
        let empty = Slot::empty(scratch);
        assert_eq!(empty.rpage.wrapping_add(empty.raddend), scratch);
        let both = Slot::of_page(0x1000, 0x1111_0000, true, scratch);
        assert_eq!((both.wpage, both.waddend), (0x1000, 0x1111_0000));
    }
}
