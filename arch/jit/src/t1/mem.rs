//! Guest memory access: the inline check of the page, and its cold path.
//!
//! Most sites look into the first-level table of their context: `lea; rorx; and; sub [entry.page]; cmp 4096-size; ja cold; mov addend; access`. Those that wait for
//! their own address, as a list is followed, have a *slot* ("L0 TLB"), which holds the page that its site accessed last,
//! once for reads and once for writes, and the distance from guest virtual to host address. Its hot path is
//! `lea; sub [slot.page]; cmp 4096-size; ja cold; mov addend; access`: neither the compare nor the addend is on the address path of the access.
//! The unsigned compare tests the page and that the access stays inside it. The cold path probes the first-level table of the context and the
//! second-level one, then calls the walker, refills the slot and tries again, or has the instruction executed by the interpreter (device, page crossing, fault).

use isa::insn::{AddrMode, Insn, Size};

use crate::asm::{Alu, Cc, Gpr, Label, Mem, Section, Sz};
use crate::env;
use crate::optimisations::Optimisation;

use super::analysis::direct_branch;
use super::builder::Builder;
use super::regs::{CTX, ENV, SP, or_sp};

/// One access of a load or store.
#[derive(Clone, Copy, Debug)]
pub struct Access {
    /// Bytes, 1 to 64.
    pub size: u32,
    /// Store.
    pub write: bool,
    /// LDTR, STTR: checked as EL0.
    pub unpriv: bool,
    /// The address must be a multiple of this (1: only if the mode is strict, then of `element`).
    pub align: u32,
    /// Bytes of one element: the alignment that strict mode asks for.
    pub element: u32,
}

impl Access {
    /// A plain access of `size` bytes.
    #[must_use]
    pub fn plain(size: u32, write: bool) -> Access {
        Access { size, write, unpriv: false, align: 1, element: size }
    }
}

/// What the thunk of a missed access needs to know, in one word: bytes less one (bits 7:0), byte offset of the slot in its table (bits 31:8).
/// Bits 12:8 are zero, as slots have 32 bytes: the thunk adds the word to an offset in a page and sees at bit 12 whether the access leaves it.
/// [`NO_SLOT`] instead of a slot: the site has none.
#[must_use]
pub fn info_word(bytes: u32, slot: u32) -> u32 {
    bytes.wrapping_sub(1) & 0xff | (slot * env::SLOT_BYTES) << 8
}

/// In an [`info_word`]: the site looks into the first-level table itself, so there is no slot to be filled.
pub const NO_SLOT: u32 = 1 << 31;

impl Builder<'_> {
    /// Bind the place where a missed access starts again. Call after [`Builder::begin`], before the address is computed.
    pub fn start_access(&mut self) {
        let l = self.a.here();
        self.retry = Some(l);
    }

    /// Check an access at base register `rn` (31 = SP) plus `offset`; answers the host operand. RDX holds the addend, RAX the base if it is
    /// not pinned, RCX is free. EFLAGS are gone: call [`Builder::begin`] with `clobbers` before.
    pub fn access_at(&mut self, rn: u8, offset: i64, access: &Access) -> Mem {
        if let Some(g) = self.group {
            return self.grouped(g, rn, offset);
        }
        let base = or_sp(rn);
        self.start_access();
        let Ok(disp) = i32::try_from(offset) else {
            self.load_x(Gpr::RAX, base);
            self.a.mov_imm(Gpr::RCX, offset.cast_unsigned());
            self.a.lea(Sz::Q, Gpr::RAX, Mem::bi(Gpr::RAX, Gpr::RCX, 0, 0));
            return self.check(Gpr::RAX, 0, access);
        };
        let b = self.r(base, Gpr::RAX);
        if base == SP {
            self.check_sp();
        }
        self.check(b, disp, access)
    }

    /// SP alignment check, SCTLR_EL1.SA: what fails here is looked at by the interpreter, which knows whether the check is on.
    pub fn check_sp(&mut self) {
        if self.sp_aligned {
            return;
        }
        let cold = self.interp_cold();
        let sp = self.r(SP, Gpr::RAX);
        self.a.test_imm(Sz::B, sp, 15);
        self.a.jcc(Cc::Ne, cold);
        self.sp_aligned = true;
    }

    /// Check an access at host register `base` (pinned, or RAX) plus `disp`; see [`Builder::access_at`].
    pub fn check(&mut self, base: Gpr, disp: i32, access: &Access) -> Mem {
        let el0 = access.unpriv || !self.mode.el1;
        let va = |b: &mut Self| {
            if disp == 0 {
                b.a.mov(Sz::Q, Gpr::RCX, base);
            } else {
                b.a.lea(Sz::Q, Gpr::RCX, Mem::b(base, disp));
            }
        };
        va(self);
        let align = if self.mode.strict { access.element.max(access.align) } else { access.align };
        if align > 1 {
            let odd = self.interp_cold();
            self.a.test_imm(Sz::B, Gpr::RCX, i32::try_from(align - 1).unwrap_or(63));
            self.a.jcc(Cc::Ne, odd);
        }
        let ([tag, addend], info) = self.translation(el0, access.write, access.size);
        self.a.alu(Alu::Sub, Sz::Q, Gpr::RCX, tag);
        self.a.alu_imm(Alu::Cmp, Sz::Q, Gpr::RCX, 4096 - i32::try_from(access.size).unwrap_or(64));
        let cold = self.a.label();
        self.a.jcc(Cc::A, cold);
        self.a.load(Sz::Q, Gpr::RDX, addend);

        let resume = self.resume_label();
        // With the addend in RDX the access can go on; but storing the flags takes RAX, in which the base may be.
        let back = if self.flags.env || base != Gpr::RAX { self.a.here() } else { self.retry_label() };
        let old = self.a.switch(Section::Cold);
        self.a.bind(cold);
        va(self);
        self.cold_store_flags();
        self.a.mov_imm(Gpr::RDX, u64::from(info));
        let miss = if access.write { self.thunks.miss_write } else { self.thunks.miss_read };
        self.a.call_abs(miss[usize::from(!el0)]);
        // The thunk returns here with the addend; behind `MISS_TAIL` bytes if the interpreter has done the instruction.
        self.a.jmp_long(back);
        self.a.half(self.pc_offset());
        self.a.jmp(resume);
        self.a.switch(old);
        Mem::bi(base, Gpr::RDX, 0, disp)
    }

    fn retry_label(&mut self) -> Label {
        if let Some(l) = self.retry {
            return l;
        }
        let l = self.a.here();
        self.retry = Some(l);
        l
    }

    /// Tag and addend by which the address in RCX is translated, and the [`info_word`] for an access of `bytes`. Uses RDX.
    ///
    /// A probe of the first-level table has more to do than the comparison with a slot, and on the path of the address; but few sites stay on one page for long, and
    /// each change of it is a branch that the host did not foresee.
    pub fn translation(&mut self, el0: bool, write: bool, bytes: u32) -> ([Mem; 2], u32) {
        let half = if write { env::SLOT_WPAGE } else { env::SLOT_RPAGE };
        if !self.optimise.has(Optimisation::InlineProbes) || self.chases() {
            let number = self.slot(el0);
            let slot = slot_at(el0, number) + half;
            return ([slot, slot + env::PAGE_TO_ADDEND].map(|at| Mem::b(ENV, at)), info_word(bytes, number));
        }
        self.a.rorx(Sz::D, Gpr::RDX, Gpr::RCX, env::PAGE_TO_ENTRY);
        self.a.alu_imm(Alu::And, Sz::D, Gpr::RDX, env::L1_MASK);
        let entry = env::CTX_PAGES + half;
        let at = [entry, entry + env::PAGE_TO_ADDEND];
        let info = info_word(bytes, 0) | NO_SLOT;
        if el0 == self.mode.el1 {
            // EL1 with EL0's rights: the other context.
            self.a.alu(Alu::Add, Sz::Q, Gpr::RDX, Mem::b(ENV, env::CTX_EL0));
            return (at.map(|at| Mem::b(Gpr::RDX, at)), info);
        }
        (at.map(|at| Mem::bi(CTX, Gpr::RDX, 0, at)), info)
    }

    /// True if the current instruction is a load by which a loop follows pointers: it waits for the loads before it.
    fn chases(&self) -> bool {
        let Some(&Insn::LoadImm { size: Size::X, rt, rn, mode: AddrMode::Offset, .. }) = self.insns.get(self.i) else {
            return false;
        };
        let back = |insn: &Insn, at: usize| {
            direct_branch(insn).is_some_and(|(offset, _)| at as i64 + offset / 4 <= self.i as i64)
        };
        rt == rn && self.insns.iter().enumerate().skip(self.i).any(|(at, insn)| back(insn, at))
    }

    /// The number of the current site's slot.
    pub fn slot(&self, el0: bool) -> u32 {
        if !self.optimise.has(Optimisation::Slots) {
            return 0;
        }
        // The sites of a page have different slots; pages begin at different ones, by their physical address, so that code stays position independent.
        let site = self.slot_base.wrapping_add(self.pc_offset() >> 2);
        site % if el0 { env::SLOTS_EL0 } else { env::SLOTS_EL1 }
    }
}

/// The displacement of a slot from the environment.
#[must_use]
pub fn slot_at(el0: bool, number: u32) -> i32 {
    let base = if el0 { env::L0_EL0 } else { env::L0_EL1 };
    base + (number * env::SLOT_BYTES).cast_signed()
}

/// Bytes behind the return address of a missed access up to where it goes on if the instruction is done: the jump back (5), the offset of the instruction in its page.
pub const MISS_TAIL: i32 = 7;
