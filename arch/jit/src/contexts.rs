//! Translation contexts: one for EL1, a pool for EL0 by address space; what TLB maintenance and changes of the address space do to them and to the slots.

use std::collections::HashSet;
use std::sync::Arc;

use cpu::Vcpu;
use cpu::mmu::{BlockFilter, TlbiKind, TlbiOp, Translation};
use cpu::sysreg::Slot as Sys;

use crate::code::CodeSpace;
use crate::hugepages::{Arena, HugeBox};
use crate::machine::Hot;
use crate::t1::builder::Mode;
use crate::tlb::{Context, EL0_CONTEXTS, Slot, canonical};

/// The address of the table in TTBR0_EL1 and TTBR1_EL1.
pub const TABLE: u64 = 0x0000_ffff_ffff_fffe;

/// What an EL0 context belongs to.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
struct Space {
    ttbr0: u64,
    asid: u16,
}

#[derive(Debug)]
struct El0 {
    space: Space,
    used: u64,
    context: HugeBox<Context>,
    /// Value of `Contexts::jump_epoch` that its jump cache is clean for.
    clean: u64,
}

/// Most pages of the EL1 context that are remembered one by one; with more, a change of the address space drops them all.
pub const LOCAL_LIMIT: usize = 256;

/// Pages of the EL1 context whose translations depend on the address space (not global). Generated code names those that it gets from the second level.
#[repr(C)]
#[derive(Debug)]
pub struct Local {
    /// How many, up to [`LOCAL_LIMIT`], which means "any".
    pub count: u64,
    /// Their canonical addresses.
    pub pages: [u64; LOCAL_LIMIT],
}

impl Local {
    fn push(&mut self, page: u64) {
        if let Some(slot) = self.pages.get_mut(self.count as usize) {
            *slot = page;
            self.count += 1;
        }
    }
}

/// All contexts of one vCPU.
#[derive(Debug)]
pub struct Contexts {
    el1: HugeBox<Context>,
    el0: Vec<El0>,
    /// Always empty: what EL0 has while its address space is not known yet.
    nothing: HugeBox<Context>,
    /// Where contexts are made.
    arena: Arc<Arena>,
    /// Victims of jump caches are kept.
    victims: bool,
    miss: u64,
    empty: Slot,
    /// Index of the current EL0 context; `None` while `nothing` is installed.
    current: Option<usize>,
    space: Space,
    controls: [u64; 3],
    modes: [Mode; 2],
    /// The EL1 jump cache leads to code whose translation depends on the address space.
    el1_local_code: bool,
    /// Slots of EL0 may hold something.
    el0_slots_used: bool,
    /// Some EL0 context holds translations of the upper half.
    el0_has_high: bool,
    /// Largest block of a cached translation, log2, by VA[55].
    largest: [u8; 2],
    /// Where views of blocks are cached.
    blocks: BlockFilter,
    /// Virtual pages that jump caches lead to.
    exec: HashSet<u64, crate::code::ByPage>,
    /// Counts the times that all jump caches were emptied: those of the pool are when they are used again.
    jump_epoch: u64,
    clock: u64,
    /// Table of the upper half that code at EL1 was linked under.
    high_table: u64,
    /// Identity of what links between pages at EL1 depend on.
    link_space: u32,
    /// Times that all data translations were forgotten.
    pub cleared: u64,
    /// Address space changes.
    pub switches: u64,
    /// EL0 contexts made anew.
    pub made: u64,
}

impl Contexts {
    /// Empty contexts. `miss`: where empty jump entries lead; `empty`: an empty slot; `victims`: what is driven out of a jump cache is kept.
    #[must_use]
    pub fn new(miss: u64, empty: Slot, arena: &Arc<Arena>, victims: bool) -> Contexts {
        Contexts {
            el1: Context::new(miss, empty, arena, victims),
            el0: Vec::new(),
            nothing: Context::new(miss, empty, arena, victims),
            arena: Arc::clone(arena),
            victims,
            miss,
            empty,
            current: None,
            space: Space::default(),
            controls: [0; 3],
            modes: [Mode::default(); 2],
            el1_local_code: false,
            el0_slots_used: false,
            el0_has_high: false,
            largest: [12; 2],
            blocks: BlockFilter::default(),
            exec: HashSet::default(),
            jump_epoch: 1,
            clock: 0,
            high_table: u64::MAX,
            link_space: 0,
            cleared: 0,
            switches: 0,
            made: 0,
        }
    }

    /// The context of EL1.
    pub fn el1(&mut self) -> *mut Context {
        &raw mut *self.el1
    }

    /// The empty context.
    pub fn nothing(&mut self) -> *mut Context {
        &raw mut *self.nothing
    }

    /// A jump cache got an entry for `va`.
    pub fn note_exec(&mut self, va: u64, el1: bool, global: bool) {
        self.exec.insert(va & !0xfff);
        self.el1_local_code |= el1 && !global;
    }

    /// Empty all jump caches.
    pub fn clear_jumps(&mut self) {
        self.el1.clear_jumps(self.miss);
        self.clear_el0_jumps();
        self.exec.clear();
    }

    /// Code at EL1 of the virtual page `page` was taken out.
    pub fn forget_code(&mut self, page: u64) {
        self.el1.remove_jumps(page, self.miss);
    }

    /// Forget the data translations of a page (of all, in the slots), for now.
    pub fn forget_page(&mut self, page: u64, hot: &mut Hot) {
        self.el1.remove_pages(canonical(page), canonical(page));
        if let Some(c) = self.current.and_then(|i| self.el0.get_mut(i)) {
            c.context.remove_pages(canonical(page), canonical(page));
        }
        hot.l0_el0.clear(self.empty);
        hot.l0_el1.clear(self.empty);
    }

    /// Contexts of address spaces that do not run now are given back.
    pub fn give_back(&mut self) {
        let current = self.current.take().filter(|i| *i < self.el0.len()).map(|i| self.el0.swap_remove(i));
        self.el0 = current.into_iter().collect();
        self.current = (!self.el0.is_empty()).then_some(0);
    }

    fn clear_el0_jumps(&mut self) {
        self.jump_epoch += 1;
        if let Some(c) = self.current.and_then(|i| self.el0.get_mut(i)) {
            c.context.clear_jumps(self.miss);
            c.clean = self.jump_epoch;
        }
    }

    /// Identity of what links between pages at EL1 depend on, as of the last [`Contexts::update`].
    #[must_use]
    pub fn link_space(&self) -> u32 {
        self.link_space
    }

    fn clear_el1_data(&mut self, hot: &mut Hot) {
        self.el1.clear_data();
        hot.l0_el1.clear(self.empty);
        hot.local.count = 0;
        hot.inline.pan_open = 0;
    }

    /// Drop what of the EL1 context belongs to the old address space.
    fn leave_space(&mut self, hot: &mut Hot) {
        if hot.local.count >= LOCAL_LIMIT as u64 {
            self.clear_el1_data(hot);
        } else if hot.local.count != 0 {
            for page in hot.local.pages.iter().take(hot.local.count as usize) {
                self.el1.remove_pages(*page, *page);
            }
            hot.local.count = 0;
            hot.l0_el1.clear(self.empty);
        }
        if std::mem::take(&mut self.el1_local_code) {
            self.el1.clear_jumps(self.miss);
        }
    }

    fn clear_el0_slots(&mut self, hot: &mut Hot) {
        if std::mem::take(&mut self.el0_slots_used) {
            hot.l0_el0.clear(self.empty);
        }
    }

    fn clear_all_data(&mut self, hot: &mut Hot) {
        self.clear_el1_data(hot);
        for c in &mut self.el0 {
            c.context.clear_data();
        }
        hot.l0_el0.clear(self.empty);
        self.cleared += 1;
        self.el0_has_high = false;
        self.largest = [12; 2];
        self.blocks = BlockFilter::default();
    }

    /// Follow the machine's address space, PAN, EL and controls.
    pub fn update(&mut self, vcpu: &Vcpu, mode: Mode, hot: &mut Hot, code: &CodeSpace) {
        let a = &vcpu.arch;
        let controls = [a.sys(Sys::SCTLR_EL1), a.sys(Sys::TCR_EL1), a.sys(Sys::MAIR_EL1)];
        let high_table = a.sys(Sys::TTBR1_EL1) & TABLE;
        if controls != self.controls {
            self.controls = controls;
            self.clear_all_data(hot);
            self.clear_jumps();
            self.high_table = u64::MAX;
        }
        if high_table != self.high_table {
            self.high_table = high_table;
            self.el1.clear_jumps(self.miss);
            let mmu = controls[0] & 1 != 0;
            self.link_space = if mmu { code.space([controls[0], controls[1], controls[2], high_table]) } else { 0 };
        }
        if a.pan != 0 && hot.inline.pan_open != 0 {
            self.clear_el1_data(hot);
        }
        self.switch_space(vcpu, hot);
        let level = usize::from(a.el != 0);
        if self.modes[level] != mode {
            self.modes[level] = mode;
            if level == 1 {
                self.el1.clear_jumps(self.miss);
            } else {
                self.clear_el0_jumps();
            }
        }
        hot.ctx_el1 = self.el1();
        if level == 1 {
            hot.ctx = hot.ctx_el1;
        } else {
            self.resolve_el0(hot);
            hot.ctx = hot.ctx_el0;
        }
    }

    /// Follow the machine's address space only. The context of the new one is found when EL0 needs it.
    pub fn switch_space(&mut self, vcpu: &Vcpu, hot: &mut Hot) {
        let space = Space { ttbr0: vcpu.arch.sys(Sys::TTBR0_EL1) & TABLE, asid: vcpu.asid() };
        if space != self.space {
            self.leave_space(hot);
            self.switches += 1;
            self.space = space;
            self.current = None;
            hot.ctx_el0 = self.nothing();
            self.clear_el0_slots(hot);
        }
    }

    /// Code at EL1 was found in pages that are not the same in all address spaces.
    #[must_use]
    pub fn el1_local_code(&self) -> bool {
        self.el1_local_code
    }

    /// Find or make the context of the current EL0 address space.
    fn resolve_el0(&mut self, hot: &mut Hot) {
        self.clock += 1;
        self.el0_slots_used = true;
        if let Some(i) = self.current {
            self.el0[i].used = self.clock;
            return;
        }
        let found = self.el0.iter().position(|c| c.space == self.space);
        let i = match found {
            Some(i) => i,
            None => {
                self.made += 1;
                // What its TLB maintenance has left empty, as at the end of a process, is as good as a new one, and no more memory.
                let epoch = self.jump_epoch;
                let empty = self.el0.iter().position(|c| c.context.is_empty(c.clean == epoch));
                if let Some(i) = empty {
                    // One entry is never named.
                    self.el0[i].context.clear_data();
                    self.el0[i].space = self.space;
                    i
                } else if self.el0.len() < EL0_CONTEXTS {
                    let context = Context::new(self.miss, self.empty, &self.arena, self.victims);
                    self.el0.push(El0 { space: self.space, used: 0, context, clean: self.jump_epoch });
                    self.el0.len() - 1
                } else {
                    let i = (0..self.el0.len()).min_by_key(|i| self.el0[*i].used).unwrap_or(0);
                    self.el0[i].context.clear_data();
                    self.el0[i].space = self.space;
                    self.el0[i].clean = 0;
                    i
                }
            }
        };
        let c = &mut self.el0[i];
        c.used = self.clock;
        if c.clean != self.jump_epoch {
            c.clean = self.jump_epoch;
            c.context.clear_jumps(self.miss);
        }
        self.current = Some(i);
        hot.ctx_el0 = &raw mut *self.el0[i].context;
    }

    /// Code of this mode is what the jump caches of its Exception level lead to.
    #[must_use]
    pub fn is_mode(&self, mode: Mode) -> bool {
        self.modes[usize::from(mode.el1)] == mode
    }

    /// The context of the current EL0 address space is installed.
    #[must_use]
    pub fn el0_known(&self) -> bool {
        self.current.is_some()
    }

    /// The context that a translation of `va` belongs into; `pan` is PSTATE.PAN.
    pub fn for_fill(&mut self, va: u64, t: &Translation, el0: bool, pan: u8, hot: &mut Hot) -> &mut Context {
        let high = va >> 55 & 1 != 0;
        let largest = &mut self.largest[usize::from(high)];
        *largest = (*largest).max(t.block_shift);
        if t.block_shift > 12 {
            self.blocks.insert(va, t.block_shift);
        }
        if el0 {
            self.el0_has_high |= high;
            self.resolve_el0(hot);
            if let Some(i) = self.current {
                return &mut self.el0[i].context;
            }
        }
        hot.inline.pan_open |= u8::from(!high && pan == 0);
        if !t.global {
            hot.local.push(canonical(va) & !0xfff);
        }
        &mut self.el1
    }

    /// Apply TLB maintenance. Answers the range of virtual pages whose code may have moved, if any fragment may be reached by it.
    pub fn apply(&mut self, op: &TlbiOp, hot: &mut Hot) -> Option<(u64, u64)> {
        match op.kind {
            TlbiKind::All => {
                self.clear_all_data(hot);
                self.clear_jumps();
                Some((0, u64::MAX))
            }
            TlbiKind::Asid => {
                for c in self.el0.iter_mut().filter(|c| c.space.asid == op.asid) {
                    c.context.clear_data();
                    c.context.clear_jumps(self.miss);
                }
                if self.space.asid == op.asid {
                    hot.l0_el0.clear(self.empty);
                }
                // Links between pages lead to global pages only.
                self.leave_space(hot);
                None
            }
            TlbiKind::Va | TlbiKind::VaAllAsids => self.apply_range(op, hot),
        }
    }

    fn apply_range(&mut self, op: &TlbiOp, hot: &mut Hot) -> Option<(u64, u64)> {
        let half = |va: u64| (va >> 55) as usize & 1;
        let block = if self.blocks.may_hold(op.start, op.last) {
            (1u64 << self.largest[half(op.start)].max(self.largest[half(op.last)])) - 1
        } else {
            0xfff
        };
        let first = canonical(op.start) & !block & !0xfff;
        let last = (op.last | block) & !0xfff;
        let high = half(op.last) == 1;
        let any_asid = op.kind == TlbiKind::VaAllAsids;
        if !high || self.el0_has_high {
            for c in self.el0.iter_mut().filter(|c| any_asid || high || c.space.asid == op.asid) {
                c.context.remove_pages(first, last);
            }
            if self.el0_slots_used {
                hot.l0_el0.remove(first, last, self.empty);
            }
        }
        self.el1.remove_pages(first, last);
        hot.l0_el1.remove(first, last, self.empty);
        let touched = if first == last {
            self.exec.contains(&first)
        } else {
            self.exec.iter().any(|va| (first..=last).contains(va))
        };
        if touched {
            self.clear_jumps();
        }
        Some((first, last))
    }
}
