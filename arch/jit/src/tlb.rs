//! Translation caches of generated code: per-site slots, and contexts with a first-level table and a jump cache.
#![expect(unsafe_code, reason = "contexts are plain data that is made in place")]

use std::sync::Arc;

use crate::hugepages::{Arena, HugeBox, Zero};

/// log2 of the entries of the first-level table.
pub const L1_BITS: u32 = 12;
/// Entries of the first-level table.
pub const L1_ENTRIES: usize = 1 << L1_BITS;
/// Entries of the jump cache.
pub const JC_ENTRIES: usize = 1 << JC_BITS;
/// log2 of that.
pub const JC_BITS: u8 = 15;
/// Entries of the victim cache behind the jump cache.
pub const VICTIMS: usize = 1 << VICTIM_BITS;
/// log2 of that.
pub const VICTIM_BITS: u8 = 12;
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

/// Most entries of a table that are remembered one by one.
pub const FILLED_LIMIT: usize = 2048;

/// Which entries of a table were filled since it was emptied, so that emptying it again costs what was used and not what there is. Generated code adds to it.
#[repr(C)]
#[derive(Debug)]
pub struct Filled {
    /// How many, up to [`FILLED_LIMIT`], which means "any". An entry may be named more than once.
    pub count: u64,
    /// Their byte offsets in the table.
    pub offsets: [u32; FILLED_LIMIT],
}

impl Filled {
    const NONE: Filled = Filled { count: 0, offsets: [0; FILLED_LIMIT] };

    fn push(&mut self, index: usize) {
        if let Some(o) = self.offsets.get_mut(self.count as usize) {
            *o = (index * size_of::<Slot>()) as u32;
            self.count += 1;
        }
    }

    /// Calls `f` on every entry of `table` that may be filled.
    fn each(&self, table: &mut [Slot], mut f: impl FnMut(&mut Slot)) {
        if self.count as usize >= FILLED_LIMIT {
            table.iter_mut().for_each(f);
            return;
        }
        for offset in self.offsets.iter().take(self.count as usize) {
            if let Some(s) = table.get_mut(*offset as usize / size_of::<Slot>()) {
                f(s);
            }
        }
    }

    /// Makes those entries of `table` that `leaves` picks `empty`, and names only what is filled afterwards: entries that
    /// are filled and emptied in turns would otherwise be named anew each time, until all of the table had to be looked at.
    fn empty_some(&mut self, table: &mut [Slot], empty: Slot, leaves: impl Fn(&Slot) -> bool) {
        let any = self.count as usize >= FILLED_LIMIT;
        let named = if any { table.len() } else { self.count as usize };
        self.count = 0;
        for n in 0..named {
            // What is named again never overtakes what is still to be looked at.
            let index = if any { n } else { self.offsets[n] as usize / size_of::<Slot>() };
            let slot = &mut table[index];
            if leaves(slot) {
                *slot = empty;
            }
            if (slot.rpage, slot.wpage) != (EMPTY_PAGE, EMPTY_PAGE) {
                self.push(index);
            }
        }
    }
}

/// Tag of a half of a slot that was emptied and is still named in [`Filled`], so that it is not named again. As [`EMPTY_PAGE`] no access matches it by
/// accident; the addend of empty slots leads what does to the second page of the scratch memory.
pub const EMPTIED_PAGE: u64 = EMPTY_PAGE + 0x1000;

/// log2 of the buckets that pages of slots are told apart by.
pub const BUCKET_BITS: u32 = 9;
/// log2 of the names that a bucket has room for.
pub const BUCKET_SHIFT: u8 = 4;
/// A bucket that was named so often may miss some.
pub const BUCKET_FULL: u8 = (1 << BUCKET_SHIFT) - 1;

/// Bucket of a page; generated code computes the same.
fn bucket(page: u64) -> usize {
    (page >> 12) as usize & ((1 << BUCKET_BITS) - 1)
}

/// Which slots a page may be in, so that TLB maintenance of one page looks at a few slots and not at all. Generated code names the slot in the bucket of
/// the page whenever it fills one; names that are out of date do no harm.
#[repr(C)]
#[derive(Debug)]
pub struct Buckets {
    /// Names in each, up to [`BUCKET_FULL`], which means that any slot may hold its pages.
    pub counts: [u8; 1 << BUCKET_BITS],
    /// Numbers of slots; the last of each bucket is not used.
    pub names: [[u16; 1 << BUCKET_SHIFT]; 1 << BUCKET_BITS],
    /// What an empty bucket counts: nothing, or [`BUCKET_FULL`] if buckets are not to be used.
    start: u8,
    /// Times that all slots were looked at, as a bucket was full.
    pub overflows: u64,
}

impl Buckets {
    fn new(used: bool) -> Buckets {
        let start = if used { 0 } else { BUCKET_FULL };
        let names = [[0; 1 << BUCKET_SHIFT]; 1 << BUCKET_BITS];
        Buckets { counts: [start; 1 << BUCKET_BITS], names, start, overflows: 0 }
    }

    /// Name `slot` in bucket `b`, once.
    fn name(&mut self, b: usize, slot: u16) {
        let count = usize::from(self.counts[b]);
        if !self.names[b][..count].contains(&slot) && count < usize::from(BUCKET_FULL) {
            self.names[b][count] = slot;
            self.counts[b] += 1;
        }
    }
}

/// The slots of the access sites that access with the rights of one Exception level.
#[repr(C)]
#[derive(Debug)]
pub struct SlotTable<const N: usize> {
    /// Which were filled.
    pub filled: Filled,
    /// By page.
    pub buckets: Buckets,
    /// The slots.
    pub slots: [Slot; N],
}

impl<const N: usize> SlotTable<N> {
    /// All slots empty; `buckets`: they are found by page.
    #[must_use]
    pub fn new(empty: Slot, buckets: bool) -> SlotTable<N> {
        SlotTable { filled: Filled::NONE, buckets: Buckets::new(buckets), slots: [empty; N] }
    }

    /// Empty all slots.
    pub fn clear(&mut self, empty: Slot) {
        self.filled.each(&mut self.slots, |s| *s = empty);
        self.filled.count = 0;
        self.buckets.counts.fill(self.buckets.start);
    }

    /// Empty the slots of the pages `first..=last` (canonical page addresses).
    pub fn remove(&mut self, first: u64, last: u64, empty: Slot) {
        if first == last {
            return self.remove_page(first, empty);
        }
        let inside = |page: u64| (first..=last).contains(&canonical(page));
        self.filled.empty_some(&mut self.slots, empty, |s| inside(s.rpage) | inside(s.wpage));
    }

    /// Empty the slots of one page, the common case; the bucket keeps those that hold other pages of it.
    fn remove_page(&mut self, page: u64, empty: Slot) {
        let b = bucket(page);
        let count = std::mem::replace(&mut self.buckets.counts[b], self.buckets.start);
        if count < BUCKET_FULL {
            let names = self.buckets.names[b];
            for name in &names[..usize::from(count)] {
                self.empty_halves(*name, page, empty);
            }
            return;
        }
        self.buckets.overflows += 1;
        if self.filled.count as usize >= FILLED_LIMIT {
            for n in 0..N {
                self.empty_halves(n as u16, page, empty);
            }
            return;
        }
        for n in 0..self.filled.count as usize {
            self.empty_halves((self.filled.offsets[n] as usize / size_of::<Slot>()) as u16, page, empty);
        }
    }

    /// Empty what of a slot leads to `page`; name it if the rest belongs to the same bucket.
    fn empty_halves(&mut self, number: u16, page: u64, empty: Slot) {
        // Tags compare without their top byte.
        let same = |tag: u64| (tag ^ page) << 8 == 0;
        let Some(slot) = self.slots.get_mut(usize::from(number)) else { return };
        if same(slot.rpage) {
            (slot.rpage, slot.raddend) = (EMPTIED_PAGE, empty.raddend);
        }
        if same(slot.wpage) {
            (slot.wpage, slot.waddend) = (EMPTIED_PAGE, empty.waddend);
        }
        if [slot.rpage, slot.wpage].iter().any(|tag| bucket(*tag) == bucket(page) && !is_empty(*tag)) {
            self.buckets.name(bucket(page), number);
        }
    }
}

/// The tag of a half of a slot that leads nowhere.
fn is_empty(tag: u64) -> bool {
    tag == EMPTY_PAGE || tag == EMPTIED_PAGE
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
    /// First level. In front, so that the code of an access has short displacements.
    pub pages: [Slot; L1_ENTRIES],
    /// Jump cache.
    pub jumps: [JumpEntry; JC_ENTRIES],
    /// What other entries have driven out of the jump cache.
    pub victims: [JumpEntry; VICTIMS],
    /// Which entries of the first level were filled.
    pub filled: Filled,
    /// What an empty entry of the first level is, but for one, see [`empty_page`].
    empty: Slot,
    jumped: Entered,
    put_aside: Entered,
    /// Victims are kept (0 or 1).
    keeps_victims: u8,
}

/// Which entries of a jump cache were entered since it was emptied.
#[repr(C)]
#[derive(Debug)]
struct Entered {
    /// How many are remembered, up to [`JUMPED_LIMIT`], which means "any".
    count: usize,
    /// Their indexes.
    places: [u16; JUMPED_LIMIT],
}

impl Entered {
    fn push(&mut self, index: usize) {
        if let Some(place) = self.places.get_mut(self.count) {
            *place = index as u16;
            self.count += 1;
        }
    }

    /// Empties those entries of `table`.
    fn empty(&mut self, table: &mut [JumpEntry], miss: u64) {
        if self.count < JUMPED_LIMIT {
            for i in &self.places[..self.count] {
                table[usize::from(*i)] = empty_jump(usize::from(*i), miss);
            }
        } else {
            for (i, e) in table.iter_mut().enumerate() {
                *e = empty_jump(i, miss);
            }
        }
        self.count = 0;
    }
}

// SAFETY: integers.
unsafe impl Zero for Context {}

/// Most entries of a jump cache that are remembered one by one.
const JUMPED_LIMIT: usize = 4096;
const _: () = assert!(JC_ENTRIES <= 1 << 16 && VICTIMS <= JC_ENTRIES);

/// Index of `va` in the jump cache; generated code computes the same.
#[must_use]
pub fn jump_index(va: u64) -> usize {
    #[expect(clippy::cast_possible_truncation, reason = "the low half is meant")]
    let low = va as u32;
    ((((low >> crate::env::JC_SHIFT) ^ low) & crate::env::JC_MASK.cast_unsigned()) >> 2) as usize
}

/// Index of `va` in the victim cache; the thunk computes the same.
#[must_use]
pub fn victim_index(va: u64) -> usize {
    #[expect(clippy::cast_possible_truncation, reason = "the low half is meant")]
    let low = va as u32;
    ((((low >> crate::env::VICTIM_SHIFT) ^ low) & crate::env::VICTIM_MASK.cast_unsigned()) >> 2) as usize
}

/// Index of `va` in the first-level table; generated code computes the same.
#[must_use]
pub fn l1_index(va: u64) -> usize {
    (va >> 12) as usize & (L1_ENTRIES - 1)
}

impl Context {
    /// An empty context. `miss`: host address that an empty jump entry leads to; `empty`: an empty entry of the first level; `victims`: what is driven out of
    /// the jump cache is kept.
    #[must_use]
    pub fn new(miss: u64, empty: Slot, arena: &Arc<Arena>, victims: bool) -> HugeBox<Context> {
        let mut c: HugeBox<Context> = HugeBox::zero(arena);
        for (i, e) in c.jumps.iter_mut().enumerate() {
            *e = empty_jump(i, miss);
        }
        for (i, e) in c.victims.iter_mut().enumerate() {
            *e = empty_jump(i, miss);
        }
        c.keeps_victims = u8::from(victims);
        c.empty = empty;
        c.pages.fill(empty);
        c.clear_data();
        c
    }

    /// Enter a jump. What it drives out is a victim.
    pub fn enter_jump(&mut self, va: u64, host: u64) {
        let index = jump_index(va);
        let old = std::mem::replace(&mut self.jumps[index], JumpEntry { va, host });
        if jump_index(old.va) != index {
            self.jumped.push(index);
        } else if old.va != va && self.keeps_victims != 0 {
            let aside = victim_index(old.va);
            if victim_index(self.victims[aside].va) != aside {
                self.put_aside.push(aside);
            }
            self.victims[aside] = old;
        }
    }

    /// Forget all jumps.
    pub fn clear_jumps(&mut self, miss: u64) {
        self.jumped.empty(&mut self.jumps, miss);
        self.put_aside.empty(&mut self.victims, miss);
    }

    /// Forget the jumps to addresses in the page `page`.
    pub fn remove_jumps(&mut self, page: u64, miss: u64) {
        for va in (page..=page | 0xfff).step_by(4) {
            for (table, index) in [(&mut self.jumps[..], jump_index(va)), (&mut self.victims[..], victim_index(va))] {
                if table[index].va == va {
                    table[index] = empty_jump(index, miss);
                }
            }
        }
    }

    /// True if nothing was entered since it was emptied, but for the entry of the first level that is never named. `jumps`: its jumps count.
    #[must_use]
    pub fn is_empty(&self, jumps: bool) -> bool {
        self.filled.count == 0 && !(jumps && self.jumped.count != 0)
    }

    /// Enter a page.
    pub fn enter_page(&mut self, va: u64, entry: Slot) {
        let index = l1_index(va);
        if self.pages[index].rpage == EMPTY_PAGE {
            self.filled.push(index);
        }
        self.pages[index] = entry;
    }

    /// Forget all data translations.
    pub fn clear_data(&mut self) {
        let empty = self.empty;
        self.filled.each(&mut self.pages, |s| *s = empty);
        self.filled.count = 0;
        // Never among those that are remembered, as it does not look empty.
        self.pages[EMPTY_INDEX] = empty_page(EMPTY_INDEX, empty);
    }

    /// Forget the data translations of the pages `first..=last` (page addresses).
    pub fn remove_pages(&mut self, first: u64, last: u64) {
        let pages = (last.wrapping_sub(first) >> 12).saturating_add(1);
        if pages as usize >= L1_ENTRIES {
            let empty = self.empty;
            for (i, e) in self.pages.iter_mut().enumerate() {
                if (first..=last).contains(&canonical(e.rpage)) {
                    *e = empty_page(i, empty);
                }
            }
            return;
        }
        for n in 0..pages {
            let page = first.wrapping_add(n << 12);
            let entry = &mut self.pages[l1_index(page)];
            // What may be written may be read: the page for reads stands for both.
            if canonical(entry.rpage) == page {
                *entry = empty_page(l1_index(page), self.empty);
            }
        }
    }
}

/// The entry of the first level that accesses to [`EMPTY_PAGE`] look at.
const EMPTY_INDEX: usize = (EMPTY_PAGE >> 12) as usize & (L1_ENTRIES - 1);

/// An empty entry of the first level: its tag is a page that belongs to another entry, so no access matches it.
fn empty_page(index: usize, empty: Slot) -> Slot {
    if index == EMPTY_INDEX { Slot { rpage: EMPTY_PAGE + 0x1000, wpage: EMPTY_PAGE + 0x1000, ..empty } } else { empty }
}

/// The tag of an empty entry is an address that belongs to its neighbour, so nothing ever matches it.
fn empty_jump(index: usize, miss: u64) -> JumpEntry {
    JumpEntry { va: (index as u64 ^ 1) << 2, host: miss }
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
        let c = Context::new(7, Slot::empty(0), &Arena::new(true), true);
        for va in (0..1 << 16).chain([u64::MAX, 1 << 63, 0xffff_8000_0800_0000]) {
            let e = c.jumps[jump_index(va)];
            assert!(e.va != va && e.host == 7, "{va:#x}");
            let e = c.victims[victim_index(va)];
            assert!(e.va != va && e.host == 7, "{va:#x}");
        }
        for (i, e) in c.jumps.iter().enumerate() {
            assert_ne!(jump_index(e.va), i);
        }
    }

    #[test]
    fn what_is_driven_out_is_a_victim_and_goes_with_the_rest() {
        // Two addresses at one place of the jump cache, and not of the victims.
        let (a, b) = (0x40_0000u64, 0x40_0000u64 + (1 << 17) + (1 << 2));
        assert!(jump_index(a) == jump_index(b) && victim_index(a) != victim_index(b));
        for keeps in [true, false] {
            let mut c = Context::new(7, Slot::empty(0), &Arena::new(true), keeps);
            c.enter_jump(a, 1);
            c.enter_jump(b, 2);
            c.enter_jump(b, 2);
            let (now, before) = (c.jumps[jump_index(b)], c.victims[victim_index(a)]);
            assert_eq!((now.va, now.host), (b, 2));
            assert_eq!((before.va, before.host) == (a, 1), keeps);
            c.clear_jumps(7);
            assert!(c.jumps.iter().chain(&c.victims).all(|e| e.host == 7));
        }
    }

    #[test]
    fn jumps_into_a_page_are_forgotten_by_themselves() {
        let mut c = Context::new(7, Slot::empty(0), &Arena::new(true), true);
        let page = 0xffff_8000_1234_5000u64;
        // The second drives the first out, which is a victim then; the others stay.
        let inside = page + 0x10;
        let other = inside ^ (1 << 17) ^ (1 << 2);
        let others = [page - 4, page + 0x1000, page ^ 1 << 40];
        assert_eq!(jump_index(inside), jump_index(other));
        c.enter_jump(inside, 1);
        c.enter_jump(other, 2);
        c.enter_jump(page + 0xffc, 3);
        others.iter().for_each(|va| c.enter_jump(*va, 4));
        assert_eq!(c.victims[victim_index(inside)].host, 1);
        c.remove_jumps(page, 7);
        let found = |c: &Context, host| c.jumps.iter().chain(&c.victims).filter(|e| e.host == host).count();
        assert_eq!([1, 2, 3, 4].map(|host| found(&c, host)), [0, 1, 0, 3]);
        assert!(!c.is_empty(true) && c.is_empty(false));
        c.clear_jumps(7);
        assert!(c.jumps.iter().chain(&c.victims).all(|e| e.host == 7) && c.is_empty(true));
        c.enter_page(page, Slot::of_page(page, 0, true, 0));
        assert!(!c.is_empty(false));
        c.clear_data();
        assert!(c.is_empty(true));
    }

    #[test]
    fn no_address_matches_an_empty_page() {
        let mut c = Context::new(0, Slot::empty(0), &Arena::new(true), true);
        for page in [EMPTY_PAGE, EMPTY_PAGE + 0x1000] {
            c.enter_page(page, Slot::of_page(page, 0, true, 0));
        }
        c.remove_pages(canonical(EMPTY_PAGE), canonical(EMPTY_PAGE));
        c.clear_data();
        for (i, e) in c.pages.iter().enumerate() {
            let reached = l1_index(e.rpage) == i;
            assert!(!reached, "entry {i} is reached by accesses to its tag");
            assert!(e.rpage == EMPTY_PAGE || e.rpage == EMPTY_PAGE + 0x1000, "entry {i} is empty");
        }
    }

    #[test]
    fn emptied_tables_are_empty() {
        let empty = Slot::empty(0);
        let (mut c, mut t) = (Context::new(7, empty, &Arena::new(true), true), SlotTable::<64>::new(empty, true));
        // Few, which are remembered one by one, and more than that.
        for count in [3, FILLED_LIMIT as u64 + 5, 2 * JC_ENTRIES as u64] {
            for n in 0..count {
                let page = 0x7000_0000_0000 + (n << 12);
                c.enter_page(page, Slot::of_page(page, 1, true, 0));
                c.enter_jump(0x1_0000 + n * 4, 9);
            }
            for n in 0..count.min(64) as usize {
                t.filled.push(n);
                t.slots[n] = Slot::of_page(0x1000, 1, false, 0);
            }
            t.remove(0x2000, 0x2000, empty);
            assert!(t.slots[0].rpage == 0x1000);
            c.clear_data();
            c.clear_jumps(7);
            t.clear(empty);
            assert!(c.pages.iter().enumerate().all(|(i, e)| e.rpage == empty_page(i, empty).rpage));
            assert!(c.jumps.iter().chain(&c.victims).all(|e| e.host == 7));
            assert!(t.slots.iter().all(|s| s.rpage == EMPTY_PAGE));
        }
    }

    /// What generated code does when it fills half a slot.
    fn fill<const N: usize>(t: &mut SlotTable<N>, number: u16, page: u64, write: bool) {
        let slot = &mut t.slots[usize::from(number)];
        let (tag, addend) =
            if write { (&mut slot.wpage, &mut slot.waddend) } else { (&mut slot.rpage, &mut slot.raddend) };
        let unnamed = *tag == EMPTY_PAGE;
        (*tag, *addend) = (page, 1);
        if unnamed {
            t.filled.push(usize::from(number));
        }
        let b = bucket(page);
        let count = &mut t.buckets.counts[b];
        if *count < BUCKET_FULL {
            t.buckets.names[b][usize::from(*count)] = number;
            *count += 1;
        }
    }

    #[test]
    fn slots_of_a_page_are_found_whatever_happened_before() {
        find_slots(true);
        find_slots(false);
    }

    fn find_slots(buckets: bool) {
        let empty = Slot::empty(0);
        let mut t = SlotTable::<256>::new(empty, buckets);
        let mut random = 1u64;
        let mut draw = |n: u64| {
            random = random.wrapping_mul(0x5851_f42d_4c95_7f2d).wrapping_add(0x1405_7b7e_f767_814f);
            (random >> 33) % n
        };
        for round in 0..40_000 {
            // Few pages, and few buckets, so that buckets are full at times; with tags or without.
            let page = |n: u64| 0xffff_8000_0000_0000 + (n % 24) * ((1 << BUCKET_BITS) << 12) + ((n / 24) << 12);
            match draw(8) {
                0 if round % 500 == 0 => t.clear(empty),
                0 => {
                    let (first, more) = (page(draw(96)), draw(3) << 12);
                    t.remove(first, first + more, empty);
                    let left = t.slots.iter().flat_map(|s| [s.rpage, s.wpage]);
                    let left = left.filter(|tag| (first..=first + more).contains(&canonical(*tag))).count();
                    assert_eq!(left, 0, "round {round}");
                }
                _ => fill(&mut t, draw(256) as u16, page(draw(96)) & !(draw(2) << 60), draw(2) == 0),
            }
            if round % 1000 == 999 {
                t.clear(empty);
                assert!(t.slots.iter().all(|s| (s.rpage, s.wpage) == (EMPTY_PAGE, EMPTY_PAGE)), "round {round}");
            }
        }
    }

    #[test]
    fn pages_leave_with_their_tags() {
        let mut c = Context::new(0, Slot::empty(0), &Arena::new(true), true);
        let page = 0x0000_1234_5678_9000u64;
        let tagged = page | 0xab << 56;
        c.pages[l1_index(page)] = Slot::of_page(tagged, 1, true, 0);
        c.remove_pages(page, page);
        assert_eq!((c.pages[l1_index(page)].rpage, c.pages[l1_index(page)].wpage), (EMPTY_PAGE, EMPTY_PAGE));
        c.pages[l1_index(page)] = Slot::of_page(page, 1, true, 0);
        c.remove_pages(0, u64::MAX >> 9);
        assert_eq!((c.pages[l1_index(page)].rpage, c.pages[l1_index(page)].wpage), (EMPTY_PAGE, EMPTY_PAGE));
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
