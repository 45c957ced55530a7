//! The state of one translation: what the lowerings emit into and ask about their surroundings.

use isa::insn::Insn;

use crate::asm::{Asm, Gpr, Label, Mem, Section, Sz};
use crate::env;
use crate::optimisations::{Optimisation, Optimisations};
use crate::thunks::Thunks;

use super::analysis::InsnInfo;
use super::flags::Flags;
use super::groups::{Detour, Group};
use super::kept::Kept;
use super::regs::ENV;

/// What of the machine state a fragment is specialised for.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
pub struct Mode {
    /// EL1 (else EL0).
    pub el1: bool,
    /// Unaligned accesses fault: the MMU is off (Device memory) or SCTLR_EL1.A is set.
    pub strict: bool,
    /// FP and Advanced SIMD trap by CPACR_EL1.
    pub fp_trap: bool,
    /// Stage 1 translation is on.
    pub mmu: bool,
    /// EL1 with its own stack pointer (PSTATE.SP = 1).
    pub sp_elx: bool,
    /// FPCR asks for what host arithmetic does not do: FZ.
    pub fp_odd: bool,
    /// FPCR.DN or AHP: conversions that keep a NaN, or that know halves, are not the host's.
    pub fp_careful: bool,
    /// Direct exits to other pages may be linked: EL1, and what the page's addresses mean is the same for all address spaces (upper half, or no translation).
    pub far: bool,
}

impl Mode {
    /// A number that no other mode has.
    #[must_use]
    pub fn index(self) -> u8 {
        u8::from(self.el1)
            | u8::from(self.strict) << 1
            | u8::from(self.fp_trap) << 2
            | u8::from(self.mmu) << 3
            | u8::from(self.sp_elx) << 4
            | u8::from(self.fp_odd) << 5
            | u8::from(self.far) << 6
            | u8::from(self.fp_careful) << 7
    }
}

/// Identification registers that generated code answers itself.
#[derive(Clone, Copy, Debug, Default)]
pub struct Ids {
    /// CTR_EL0.
    pub ctr: u64,
    /// DCZID_EL0: log2 of the words that DC ZVA clears in bits 3:0, bit 4 = prohibited.
    pub dczid: u64,
}

/// A direct exit of a fragment.
#[derive(Clone, Copy, Debug)]
pub struct ExitSpec {
    /// Target relative to the start of the fragment's page; outside 0..4096 for another page.
    pub target: i64,
    /// Offset of the rel32 field of the hot branch, in its section.
    pub hot_field: (Section, u32),
    /// Offset of the rel32 field of the jump at the end of the stub (cold).
    pub stub_field: u32,
    /// The stub (cold).
    pub stub: Label,
    /// Stub without the store of the flags (cold): where the hot branch goes when the target does not read them.
    pub clean_stub: Label,
    /// The stub does something besides storing flags (poll, page change): the hot branch must not bypass it.
    pub needs_stub: bool,
    /// Where the stub's jump goes while the exit is not linked.
    pub unlinked: Label,
}

/// One translation in progress.
pub struct Builder<'a> {
    /// Encoder.
    pub a: &'a mut Asm,
    /// Decoded instructions of the fragment.
    pub insns: &'a [Insn],
    /// What the analysis found, one per instruction.
    pub info: &'a [InsnInfo],
    /// Labels of instructions that are branched to from inside.
    pub labels: &'a [Option<Label>],
    /// Index of the instruction being lowered.
    pub i: usize,
    /// Byte offset of the first instruction in its page.
    pub start: u32,
    /// Where the slots of this page begin, see [`Builder::slot`].
    pub slot_base: u32,
    /// State specialised for.
    pub mode: Mode,
    /// Where the guest flags are.
    pub flags: Flags,
    /// SP is known to be a multiple of 16.
    pub sp_aligned: bool,
    /// Vector registers known to be zero above their low 64 bits (`[1]`) and above their low 32 bits (`[0]`).
    pub zero_above: [u32; 2],
    /// The same for what the current instruction writes.
    pub zero_above_new: [u32; 2],
    /// What scratch registers hold from instructions before.
    pub kept: Kept,
    /// Addresses of shared code.
    pub thunks: &'a Thunks,
    /// Direct exits so far.
    pub exits: &'a mut Vec<ExitSpec>,
    /// Number of the first exit of this fragment in the exit table.
    pub first_exit: u32,
    /// End of the current instruction, where out-of-line execution comes back to.
    pub resume: Option<Label>,
    /// Start of the current instruction's address computation.
    pub retry: Option<Label>,
    /// Cold call of the interpreter for the current instruction.
    pub interp: Option<Label>,
    /// The code after the current instruction cannot be reached.
    pub ended: bool,
    /// Identification registers.
    pub ids: Ids,
    /// Host processor features.
    pub host: crate::host::HostFeatures,
    /// What to do for speed.
    pub optimise: Optimisations,
    /// If instructions are counted: index of the first that the code does not have counted yet.
    pub counted: Option<usize>,
    /// The group of accesses that the current instruction is in.
    pub group: Option<Group>,
    /// All detours so far leave what the code behind their group takes for granted.
    pub groups_agree: bool,
    /// To be emitted behind the fragment.
    pub detours: Vec<Detour>,
    /// For a lockstep run: loops are left after some passes.
    pub lockstep: bool,
    /// Interpreter calls emitted on the hot path.
    pub interp_calls: u32,
}

impl Builder<'_> {
    /// Byte offset of the current instruction in its page.
    #[must_use]
    #[expect(clippy::cast_possible_truncation, reason = "an index of at most 1024 instructions")]
    pub fn pc_offset(&self) -> u32 {
        self.start + self.i as u32 * 4
    }

    /// True if the guest flags as they are before the end of the current instruction are read after it.
    #[must_use]
    pub fn flags_live_out(&self) -> bool {
        self.info.get(self.i).is_none_or(|i| i.flags_live_out)
    }

    /// The next instruction, if it may be lowered together with the current one (nothing branches to it).
    #[must_use]
    pub fn peek_fusable(&self) -> Option<&Insn> {
        if !self.optimise.has(Optimisation::PairFusion) || self.labels.get(self.i + 1).copied().flatten().is_some() {
            return None;
        }
        self.insns.get(self.i + 1).filter(|_| self.info.get(self.i + 1).is_some_and(|i| !i.dead))
    }

    /// The instruction before, if control came from it and from nowhere else.
    #[must_use]
    pub fn previous_fusable(&self) -> Option<&Insn> {
        if !self.optimise.has(Optimisation::PairFusion) || self.labels.get(self.i).copied().flatten().is_some() {
            return None;
        }
        self.insns.get(self.i.checked_sub(1)?)
    }

    /// True if the next instruction is a full barrier too, so that this one can be left out.
    #[must_use]
    pub fn fence_follows(&self) -> bool {
        use isa::insn::BarrierTypes;
        matches!(self.peek_fusable(), Some(Insn::Dmb { types: BarrierTypes::All | BarrierTypes::Reserved, .. }))
    }

    /// The next instruction was lowered with the current one.
    pub fn skip_next(&mut self) {
        self.i += 1;
    }

    /// `dst` = address of the current page + `offset`. Leaves EFLAGS alone; may use RCX.
    pub fn pc_plus(&mut self, dst: Gpr, offset: i64) {
        self.a.load(Sz::Q, dst, Mem::b(ENV, env::PC_PAGE));
        if offset == 0 {
            return;
        }
        if let Ok(d) = i32::try_from(offset) {
            self.a.lea(Sz::Q, dst, Mem::b(dst, d));
        } else {
            let other = if dst == Gpr::RCX { Gpr::RDX } else { Gpr::RCX };
            self.a.mov_imm(other, offset.cast_unsigned());
            self.a.lea(Sz::Q, dst, Mem::bi(dst, other, 0, 0));
        }
    }

    /// The end of the current instruction.
    pub fn resume_label(&mut self) -> Label {
        if let Some(l) = self.resume {
            return l;
        }
        let l = self.a.label();
        self.resume = Some(l);
        l
    }

    /// A cold label that executes the current instruction by the interpreter and continues behind it. Branch to it only while no
    /// guest state of this instruction has been changed. The state of the flags must be the one after [`Builder::begin`].
    pub fn interp_cold(&mut self) -> Label {
        if let Some(l) = self.interp {
            return l;
        }
        let resume = self.resume_label();
        let old = self.a.switch(Section::Cold);
        let label = self.a.here();
        self.cold_store_flags();
        self.a.mov_imm(Gpr::RAX, u64::from(self.pc_offset()));
        self.a.call_abs(self.thunks.interp);
        self.a.jmp(resume);
        self.a.switch(old);
        self.interp = Some(label);
        label
    }

    /// In a cold path: put the flags into the environment without changing what the hot path knows.
    pub fn cold_store_flags(&mut self) {
        let saved = self.flags;
        self.store_flags();
        self.flags = saved;
    }

    /// Execute the current instruction by the interpreter, on the hot path.
    pub fn interp_call(&mut self) {
        self.store_flags();
        self.a.mov_imm(Gpr::RAX, u64::from(self.pc_offset()));
        self.a.call_abs(self.thunks.interp);
        self.flags = Flags::STORED;
        self.sp_aligned = false;
        self.interp_calls += 1;
    }

    /// Execute the current instruction by the interpreter and leave to the dispatcher: it may have changed anything.
    pub fn interp_end(&mut self) {
        self.store_flags();
        self.count_to(self.i);
        self.a.mov_imm(Gpr::RAX, u64::from(self.pc_offset()));
        self.a.jmp_abs(self.thunks.interp_end);
        self.interp_calls += 1;
        self.ended = true;
    }

    /// End the fragment at the current instruction, which a thunk executes: RAX = offset in the page, RDX = `imm`.
    pub fn jump_for(&mut self, thunk: u64, imm: u16) {
        self.store_flags();
        self.count_to(self.i + 1);
        self.a.mov_imm(Gpr::RAX, u64::from(self.pc_offset()));
        self.a.mov_imm(Gpr::RDX, u64::from(imm));
        self.a.jmp_abs(thunk);
        self.ended = true;
    }

    /// End the fragment at the current instruction, which the dispatcher executes: `reason` of `thunks::reason` and an immediate.
    pub fn leave_for(&mut self, reason: u32, imm: u16) {
        self.store_flags();
        self.count_to(self.i + 1);
        self.a.mov_imm(Gpr::RAX, u64::from(self.pc_offset()));
        self.a.mov_imm(Gpr::RDX, u64::from(reason | u32::from(imm) << 8));
        self.a.jmp_abs(self.thunks.leave_for);
        self.ended = true;
    }
}
