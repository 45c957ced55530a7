//! Translation caches of the interpreter and the second-level TLB that all engines share.
//!
//! Two levels. The fast table answers "this page, in this context, for reads (writes): host address = VA + addend"; tag and context in one compare.
//! A context is (address space number, privilege, PAN). The second level keeps what the walker found, for every privilege.
//! Address space numbers stand for ASIDs: forgetting an ASID is giving it a new number.

use super::maintenance::{TlbiKind, TlbiOp, canonical};
use super::walk::{self, Attributes, Walk};
use super::{AccessKind, Fault, Privilege, Translation};
use crate::sysreg::Slot;
use crate::vcpu::Vcpu;

const FAST_ENTRIES: usize = 1024;
const SETS: usize = 2048;
const WAYS: usize = 2;
/// Address space number of everything in the upper half (global there).
const SPACE_HIGH: u16 = 0;
/// First number that is given to an ASID.
const SPACE_FIRST: u16 = 1;
/// Numbers are 10 bits, so that with two bits of privilege a context fits below a page number.
const SPACE_LIMIT: u16 = 1022;
/// No tag: bits that no page has (a context is below 0xfff).
const NO_TAG: u64 = u64::MAX;

/// One line of the fast table. Tags: VA page | context.
#[derive(Debug, Clone, Copy)]
#[repr(C, align(32))]
pub struct FastEntry {
    /// Tag for reads.
    pub read: u64,
    /// Tag for writes; set only where a write needs no walk.
    pub write: u64,
    /// Host address minus VA.
    pub addend: usize,
}

const EMPTY_FAST: FastEntry = FastEntry { read: NO_TAG, write: NO_TAG, addend: 0 };

#[derive(Debug, Clone, Copy)]
struct Entry {
    /// VA page; `NO_TAG` = empty.
    page: u64,
    space: u16,
    global: bool,
    walk: Walk,
}

const EMPTY_WALK: Walk = Walk {
    pa: 0,
    block_shift: 12,
    level: 0,
    ap: 0,
    uxn: true,
    pxn: true,
    ng: false,
    dirty_on_write: false,
    attributes: Attributes::DEVICE,
    descriptor_pa: 0,
    descriptor: 0,
};

const EMPTY: Entry = Entry { page: NO_TAG, space: 0, global: false, walk: EMPTY_WALK };

/// The caches of one PE.
pub struct Tlb {
    fast: Box<[FastEntry; FAST_ENTRIES]>,
    entries: Box<[[Entry; WAYS]]>,
    victim: u8,
    /// Address space number of an ASID, 0 = none.
    spaces: Box<[u16; 1 << 16]>,
    next_space: u16,
    asid: u16,
    space: u16,
    /// Current contexts by VA[55]: of the current privilege, of unprivileged accesses.
    current: [u16; 2],
    user: [u16; 2],
    /// Largest block cached since the last full flush, by VA[55].
    largest: [u8; 2],
    /// 2 MiB regions that hold views of a block since the last full flush, hashed: others need no widening.
    blocks: BlockFilter,
    /// Non-global entries of the upper half are cached: an ASID change must drop them.
    high_not_global: bool,
    /// The fast table stays empty.
    pub(crate) no_fast: bool,
    /// Bumped when cached translations of instructions may have become wrong.
    pub generation: u64,
    /// Bumped when context numbers are given anew: what was tagged with them is void.
    pub numbering: u64,
}

impl std::fmt::Debug for Tlb {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Tlb")
            .field("asid", &self.asid)
            .field("space", &self.space)
            .field("current", &self.current)
            .finish_non_exhaustive()
    }
}

/// Where blocks were cached: may say "yes" too often, never "no" wrongly.
#[derive(Debug, Clone)]
pub struct BlockFilter {
    /// 2 MiB regions with a mapping of at most that size.
    small: [u64; 64],
    /// 1 GiB regions with a larger mapping: any address of it must find it, whichever page of it was cached.
    large: [u64; 4],
}

impl Default for BlockFilter {
    fn default() -> Self {
        BlockFilter { small: [0; 64], large: [0; 4] }
    }
}

impl BlockFilter {
    fn small_slot(region: u64) -> (usize, u64) {
        let bit = (region ^ region >> 12) & 4095;
        ((bit >> 6) as usize, 1 << (bit & 63))
    }

    fn large_slot(region: u64) -> (usize, u64) {
        let bit = (region ^ region >> 8) & 255;
        ((bit >> 6) as usize, 1 << (bit & 63))
    }

    /// Adds the mapping of `1 << block_shift` bytes (at most 1 GiB) around `va`.
    pub fn insert(&mut self, va: u64, block_shift: u8) {
        if block_shift <= 21 {
            let (word, bit) = Self::small_slot(canonical(va) >> 21);
            self.small[word] |= bit;
        } else {
            let (word, bit) = Self::large_slot(canonical(va) >> 30);
            self.large[word] |= bit;
        }
    }

    /// False if no mapping with an address in `start..=last` was added.
    pub fn may_hold(&self, start: u64, last: u64) -> bool {
        let (start, last) = (canonical(start), canonical(last));
        if last.wrapping_sub(start) > 16 << 21 {
            return true;
        }
        let small = (start >> 21..=last >> 21).any(|region| {
            let (word, bit) = Self::small_slot(region);
            self.small[word] & bit != 0
        });
        let large = (start >> 30..=last >> 30).any(|region| {
            let (word, bit) = Self::large_slot(region);
            self.large[word] & bit != 0
        });
        small || large
    }
}

fn set_of(page: u64) -> usize {
    (page >> 12) as usize & (SETS - 1)
}

fn half_of(va: u64) -> usize {
    (va >> 55) as usize & 1
}

impl Tlb {
    pub(crate) fn new() -> Tlb {
        Tlb {
            fast: Box::new([EMPTY_FAST; FAST_ENTRIES]),
            entries: vec![[EMPTY; WAYS]; SETS].into_boxed_slice(),
            victim: 0,
            spaces: vec![0u16; 1 << 16].into_boxed_slice().try_into().unwrap_or_else(|_| Box::new([0; 1 << 16])),
            next_space: SPACE_FIRST,
            asid: 0,
            space: 0,
            current: [0; 2],
            user: [0; 2],
            largest: [12; 2],
            blocks: BlockFilter::default(),
            high_not_global: false,
            no_fast: false,
            generation: 1,
            numbering: 1,
        }
    }

    /// Host address of `va` for an access of the current context, when the fast table knows. The caller checks that the access stays on the page.
    #[inline(always)]
    pub fn fast_read(&self, va: u64) -> Option<usize> {
        let e = &self.fast[(va >> 12) as usize & (FAST_ENTRIES - 1)];
        let tag = va & !0xfff | u64::from(self.current[half_of(va)]);
        (e.read == tag).then(|| (va as usize).wrapping_add(e.addend))
    }

    /// As [`Tlb::fast_read`], for writes.
    #[inline(always)]
    pub fn fast_write(&self, va: u64) -> Option<usize> {
        let e = &self.fast[(va >> 12) as usize & (FAST_ENTRIES - 1)];
        let tag = va & !0xfff | u64::from(self.current[half_of(va)]);
        (e.write == tag).then(|| (va as usize).wrapping_add(e.addend))
    }

    /// Enters a page of RAM into the fast table. `user`: the unprivileged context.
    pub(crate) fn fill_fast(&mut self, va: u64, host: usize, readable: bool, writable: bool, user: bool) {
        if self.no_fast {
            return;
        }
        let contexts = if user { self.user } else { self.current };
        let tag = va & !0xfff | u64::from(contexts[half_of(va)]);
        let e = &mut self.fast[(va >> 12) as usize & (FAST_ENTRIES - 1)];
        *e = FastEntry {
            read: if readable { tag } else { NO_TAG },
            write: if writable { tag } else { NO_TAG },
            addend: (host & !0xfff).wrapping_sub((va & !0xfff) as usize),
        };
    }

    /// Selects the contexts of an ASID and privilege.
    pub(crate) fn select(&mut self, asid: u16, who: Privilege) {
        if asid != self.asid && self.high_not_global {
            self.drop_high();
        }
        self.asid = asid;
        let mut space = self.spaces[usize::from(asid)];
        if space == 0 {
            if self.next_space >= SPACE_LIMIT {
                self.flush();
            }
            space = self.next_space;
            self.next_space += 1;
            self.spaces[usize::from(asid)] = space;
        }
        self.space = space;
        let mode = match (who.el1, who.pan) {
            (false, _) => 0,
            (true, false) => 1,
            (true, true) => 2,
        };
        self.current = [space << 2 | mode, SPACE_HIGH << 2 | mode];
        self.user = [space << 2, SPACE_HIGH << 2];
    }

    /// Numbers below 4096 of the contexts, by VA[55]: of accesses with the current privilege, and of unprivileged ones. At EL1 the former are the latter
    /// with bits 1:0 = 1 (PAN clear) or 2 (PAN set).
    pub fn contexts(&self) -> [[u16; 2]; 2] {
        [self.current, self.user]
    }

    /// Identifies address space and privilege for caches of instruction translations.
    pub fn context(&self, va: u64) -> u16 {
        self.current[half_of(va)]
    }

    fn drop_high(&mut self) {
        for e in self.fast.iter_mut() {
            if (e.read & e.write) >> 55 & 1 != 0 || e.read >> 55 & 1 != 0 || e.write >> 55 & 1 != 0 {
                *e = EMPTY_FAST;
            }
        }
        for set in self.entries.iter_mut() {
            for e in set {
                if e.page >> 55 & 1 != 0 && !e.global {
                    *e = EMPTY;
                }
            }
        }
        self.high_not_global = false;
        self.generation += 1;
    }

    /// Drops everything. The current ASID gets its number again at the next `select`, which the caller does.
    pub(crate) fn flush(&mut self) {
        self.fast.fill(EMPTY_FAST);
        self.entries.fill([EMPTY; WAYS]);
        self.spaces.fill(0);
        self.next_space = SPACE_FIRST;
        self.largest = [12; 2];
        self.blocks = BlockFilter::default();
        self.high_not_global = false;
        self.generation += 1;
        self.numbering += 1;
    }

    fn lookup(&self, va: u64) -> Option<&Entry> {
        let page = va & !0xfff;
        self.entries[set_of(page)].iter().find(|e| e.page == page && (e.global || e.space == self.space))
    }

    fn insert(&mut self, va: u64, mut walk: Walk) {
        let page = va & !0xfff;
        walk.pa &= !0xfff;
        let half = half_of(va);
        self.largest[half] = self.largest[half].max(walk.block_shift);
        if walk.block_shift > 12 {
            self.blocks.insert(va, walk.block_shift);
        }
        if walk.ng && half == 1 {
            self.high_not_global = true;
        }
        let entry = Entry { page, space: self.space, global: !walk.ng, walk };
        let space = self.space;
        self.victim = self.victim.wrapping_add(1);
        let victim = usize::from(self.victim) % WAYS;
        let set = &mut self.entries[set_of(page)];
        let way = set
            .iter()
            .position(|e| e.page == page && (e.global || e.space == space))
            .or_else(|| set.iter().position(|e| e.page == NO_TAG))
            .unwrap_or(victim);
        set[way] = entry;
    }

    /// Removes what a maintenance operation names (and at times a little more, which the architecture allows).
    pub(crate) fn invalidate(&mut self, op: &TlbiOp) {
        match op.kind {
            TlbiKind::All => {
                self.flush();
                self.reselect();
            }
            TlbiKind::Asid => {
                self.spaces[usize::from(op.asid)] = 0;
                if self.high_not_global {
                    self.drop_high();
                }
                if op.asid == self.asid {
                    self.reselect();
                }
                self.generation += 1;
            }
            TlbiKind::Va | TlbiKind::VaAllAsids => self.invalidate_range(op.start, op.last),
        }
    }

    fn reselect(&mut self) {
        let mode = self.current[0] & 3;
        self.select(self.asid, Privilege { el1: mode != 0, pan: mode == 2 });
    }

    fn invalidate_range(&mut self, start: u64, last: u64) {
        let block = if self.blocks.may_hold(start, last) {
            (1u64 << self.largest[half_of(start)].max(self.largest[half_of(last)])) - 1
        } else {
            0xfff
        };
        let first = canonical(start) & !block;
        let last = last | block;
        let pages = (last >> 12).wrapping_sub(first >> 12);
        self.generation += 1;
        // Tags hold the VA with its top byte (TBI): compare without it.
        let hit = |page: u64| page != NO_TAG && (first..=last).contains(&(canonical(page) & !0xfff));
        if pages < 600 {
            for i in 0..=pages {
                let page = first.wrapping_add(i << 12);
                let f = &mut self.fast[(page >> 12) as usize & (FAST_ENTRIES - 1)];
                if hit(f.read) || hit(f.write) {
                    *f = EMPTY_FAST;
                }
                for e in &mut self.entries[set_of(page)] {
                    if hit(e.page) {
                        *e = EMPTY;
                    }
                }
            }
        } else {
            for f in self.fast.iter_mut() {
                if hit(f.read) || hit(f.write) {
                    *f = EMPTY_FAST;
                }
            }
            for set in self.entries.iter_mut() {
                for e in set {
                    if hit(e.page) {
                        *e = EMPTY;
                    }
                }
            }
        }
    }
}

impl Vcpu {
    /// The privilege of ordinary accesses now.
    #[inline]
    pub fn privilege(&self) -> Privilege {
        Privilege { el1: self.arch.el != 0, pan: self.arch.pan != 0 }
    }

    /// The word at PC by the current translation, if there is one in RAM: what a debugger shows. Nothing is raised.
    pub fn instruction_at_pc(&mut self) -> Option<u32> {
        let place = self.translate(self.arch.pc, AccessKind::Execute, self.privilege()).ok()?;
        let mut word = [0; 4];
        self.vm.ram.read_bytes(place.pa, &mut word).then(|| u32::from_le_bytes(word))
    }

    /// The current ASID: TCR_EL1.A1 says in which TTBR, TCR_EL1.AS how wide.
    pub fn asid(&self) -> u16 {
        let tcr = self.arch.sys(Slot::TCR_EL1);
        let ttbr = if tcr >> 22 & 1 != 0 { self.arch.sys(Slot::TTBR1_EL1) } else { self.arch.sys(Slot::TTBR0_EL1) };
        let asid = (ttbr >> 48) as u16;
        if tcr >> 36 & 1 != 0 { asid } else { asid & 0xff }
    }

    /// Address space or privilege changed: chooses the translation context.
    #[inline]
    pub(crate) fn select_context(&mut self) {
        let (asid, who) = (self.asid(), self.privilege());
        self.shared.asids.add(asid);
        self.tlb.select(asid, who);
        self.context_dirty = true;
    }

    /// Translates and checks permissions, with the second-level TLB before the walker.
    ///
    /// # Errors
    /// The MMU fault, as the architecture orders them. Alignment is the caller's.
    pub fn translate(&mut self, va: u64, kind: AccessKind, who: Privilege) -> Result<Translation, Fault> {
        self.counters.tlb_lookups += 1;
        let sctlr = self.arch.sys(Slot::SCTLR_EL1);
        if sctlr & 1 != 0
            && let Some(e) = self.tlb.lookup(va)
        {
            let w = e.walk;
            let (r, wr, x) = w.permissions(who, sctlr);
            let e0pd = !who.el1 && self.arch.sys(Slot::TCR_EL1) >> (55 + half_of(va)) & 1 != 0;
            let allowed = match kind {
                AccessKind::Read => r,
                AccessKind::Write => wr && !w.dirty_on_write,
                AccessKind::Execute => x,
            };
            if allowed && !e0pd {
                self.counters.tlb_hits += 1;
                return Ok(translation(&w, w.pa | va & 0xfff, (r, wr && !w.dirty_on_write, x)));
            }
        }
        self.translate_by_walk(va, kind, who, sctlr)
    }

    #[cold]
    fn translate_by_walk(
        &mut self,
        va: u64,
        kind: AccessKind,
        who: Privilege,
        sctlr: u64,
    ) -> Result<Translation, Fault> {
        let controls = self.controls();
        let vm = self.vm.clone();
        loop {
            self.counters.walks += 1;
            let mut w = walk::walk(&vm.ram, &controls, va, kind, who)?;
            let (r, wr, x) = w.permissions(who, sctlr);
            let allowed = match kind {
                AccessKind::Read => r,
                AccessKind::Write => wr,
                AccessKind::Execute => x,
            };
            if !allowed {
                return Err(Fault::Permission(w.level));
            }
            if kind == AccessKind::Write && w.dirty_on_write {
                if !walk::mark_dirty(&vm.ram, &w)? {
                    continue;
                }
                w.dirty_on_write = false;
            }
            if sctlr & 1 != 0 {
                if !w.ng && half_of(va) == 0 && !self.shared.asids.add_low_global() {
                    // Others know only now that this concerns them: the tables could have changed unheard.
                    continue;
                }
                self.tlb.insert(va, w);
            }
            return Ok(translation(&w, w.pa, (r, wr && !w.dirty_on_write, x)));
        }
    }
}

fn translation(w: &Walk, pa: u64, (readable, writable, executable): (bool, bool, bool)) -> Translation {
    Translation {
        pa,
        attributes: w.attributes,
        readable,
        writable,
        executable,
        global: !w.ng,
        block_shift: w.block_shift.max(12),
    }
}
