//! Instructions that do nothing but write general registers and NZCV: what they read and write.
//!
//! Nothing can look at the machine between two of them: they neither fault, nor leave the fragment, nor call the interpreter. So a result that a
//! later one of them overwrites before any of them reads it need not be computed. Every other instruction may show all registers
//! (to an exception, the interpreter, another fragment), and so makes all of them live.

use isa::insn::{BitfieldOp, Insn, MoveWideOp, SysEnc};

use crate::optimisations::{Optimisation, Optimisations};

use super::builder::Mode;
use super::regs::{ZR, or_sp};

/// Registers as bits: X0 to X30 are 0 to 30, SP is 32 (see `regs`).
pub type Registers = u64;

/// All registers.
pub const EVERYTHING: Registers = u64::MAX;

/// What a pure instruction reads and writes, besides NZCV.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Effect {
    /// Registers read.
    pub reads: Registers,
    /// Registers written as a whole.
    pub writes: Registers,
}

const fn bit(reg: u8) -> Registers {
    if reg == ZR { 0 } else { 1 << reg }
}

fn effect(writes: u8, reads: &[u8]) -> Option<Effect> {
    Some(Effect { reads: reads.iter().fold(0, |all, r| all | bit(*r)), writes: bit(writes) })
}

const TPIDR_EL0: SysEnc = SysEnc::new(3, 3, 13, 0, 2);
const TPIDRRO_EL0: SysEnc = SysEnc::new(3, 3, 13, 0, 3);

/// The effect of `insn` if it is pure in code for `mode`, else `None`.
#[must_use]
pub fn pure_effect(insn: &Insn, mode: Mode, optimise: Optimisations) -> Option<Effect> {
    match *insn {
        Insn::Nop => effect(ZR, &[]),
        Insn::PcRel { rd, .. } => effect(rd, &[]),
        Insn::AddSubImm { setflags, rd, rn, .. } => effect(if setflags { rd } else { or_sp(rd) }, &[or_sp(rn)]),
        Insn::AddSubExtended { setflags, rd, rn, rm, .. } => {
            effect(if setflags { rd } else { or_sp(rd) }, &[or_sp(rn), rm])
        }
        Insn::LogicalImm { setflags, rd, rn, .. } => effect(if setflags { rd } else { or_sp(rd) }, &[rn]),
        Insn::AddSubShifted { rd, rn, rm, .. }
        | Insn::AddSubCarry { rd, rn, rm, .. }
        | Insn::LogicalShifted { rd, rn, rm, .. }
        | Insn::Extract { rd, rn, rm, .. }
        | Insn::DataProc2 { rd, rn, rm, .. }
        | Insn::MulHigh { rd, rn, rm, .. }
        | Insn::CondSelect { rd, rn, rm, .. } => effect(rd, &[rn, rm]),
        Insn::MulAdd { rd, rn, rm, ra, .. } | Insn::MulAddLong { rd, rn, rm, ra, .. } => effect(rd, &[rn, rm, ra]),
        Insn::MoveWide { op, rd, .. } => effect(rd, &[if op == MoveWideOp::K { rd } else { ZR }]),
        Insn::Bitfield { op: BitfieldOp::Insert, rd, rn, .. } => effect(rd, &[rd, rn]),
        Insn::Bitfield { rd, rn, .. } | Insn::DataProc1 { rd, rn, .. } => effect(rd, &[rn]),
        Insn::CondCompareReg { rn, rm, .. } => effect(ZR, &[rn, rm]),
        Insn::CondCompareImm { rn, .. } => effect(ZR, &[rn]),
        Insn::VecToGeneral { rd, .. } if !mode.fp_trap && optimise.has(Optimisation::VectorCode) => effect(rd, &[]),
        Insn::Mrs { enc, rt }
            if (enc.0 == TPIDR_EL0.0 || enc.0 == TPIDRRO_EL0.0) && optimise.has(Optimisation::SystemCode) =>
        {
            effect(rt, &[])
        }
        _ => None,
    }
}
