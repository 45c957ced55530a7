//! Translation caches of generated code: per-site slots, and contexts with a first-level table and a jump cache.

/// log2 of the entries of the first-level table.
pub const L1_BITS: u32 = 10;
/// Entries of the first-level table, each for reads and for writes.
pub const L1_ENTRIES: usize = 1 << L1_BITS;
/// Entries of the jump cache.
pub const JC_ENTRIES: usize = 2048;
/// Contexts of EL0 kept per vCPU.
pub const EL0_CONTEXTS: usize = 24;

/// A page tag that no access can match by accident: VA[55:48] of a translatable address are all equal.
/// An access to an address with this very page hits an empty slot; its addend leads to the scratch page, see [`empty_addend`].
pub const EMPTY_PAGE: u64 = 0x0055_5555_5555_5000;

/// A per-site slot.
#[repr(C, align(32))]
#[derive(Clone, Copy, Debug)]
pub struct Slot {
    /// Page that may be read.
    pub rpage: u64,
    /// Page that may be written (then also read).
    pub wpage: u64,
    /// Host address minus guest virtual address.
    pub addend: u64,
    _pad: u64,
}

impl Slot {
    /// An empty slot whose addend sends [`EMPTY_PAGE`] to `scratch`.
    #[must_use]
    pub fn empty(scratch: u64) -> Slot {
        Slot { rpage: EMPTY_PAGE, wpage: EMPTY_PAGE, addend: empty_addend(scratch), _pad: 0 }
    }
}

/// The addend of empty slots: what matches their tag lands on the scratch page, never on anything else.
#[must_use]
pub fn empty_addend(scratch: u64) -> u64 {
    scratch.wrapping_sub(EMPTY_PAGE)
}

/// A first-level entry.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct Entry {
    /// Guest virtual page.
    pub page: u64,
    /// Host address minus guest virtual address.
    pub addend: u64,
}

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
    /// First level, reads.
    pub reads: [Entry; L1_ENTRIES],
    /// First level, writes.
    pub writes: [Entry; L1_ENTRIES],
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
        let none = Entry { page: !0, addend: 0 };
        let mut c = Box::new(Context {
            jumps: [JumpEntry { va: 0, host: miss }; JC_ENTRIES],
            reads: [none; L1_ENTRIES],
            writes: [none; L1_ENTRIES],
        });
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
        let none = Entry { page: !0, addend: 0 };
        self.reads.fill(none);
        self.writes.fill(none);
    }

    /// Forget the data translations of the pages `first..=last` (page addresses).
    pub fn remove_pages(&mut self, first: u64, last: u64) {
        let pages = (last.wrapping_sub(first) >> 12).saturating_add(1);
        if pages as usize >= L1_ENTRIES {
            for table in [&mut self.reads, &mut self.writes] {
                for e in table.iter_mut().filter(|e| (first..=last).contains(&canonical(e.page))) {
                    e.page = !0;
                }
            }
            return;
        }
        for n in 0..pages {
            let page = first.wrapping_add(n << 12);
            let i = l1_index(page);
            for table in [&mut self.reads, &mut self.writes] {
                if canonical(table[i].page) == page {
                    table[i].page = !0;
                }
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
        c.reads[l1_index(page)] = Entry { page: tagged, addend: 1 };
        c.remove_pages(page, page);
        assert_eq!(c.reads[l1_index(page)].page, !0);
        c.writes[l1_index(page)] = Entry { page, addend: 1 };
        c.remove_pages(0, u64::MAX >> 9);
        assert_eq!(c.writes[l1_index(page)].page, !0);
    }
}
