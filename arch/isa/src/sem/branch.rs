//! Branches. A return address is written before the branch; nothing of them can stop.

use super::{Flow, Sem};
use crate::insn::Reg;
use crate::operand::{BranchKind, Cond};

/// Register of the return address.
const LINK: u8 = 30;

/// B, BL.
#[inline(always)]
pub(super) fn immediate<S: Sem>(s: &mut S, call: bool, offset: i64) -> Flow {
    if call {
        link(s);
        s.branch_relative(offset, BranchKind::Call)
    } else {
        s.branch_relative(offset, BranchKind::Jump)
    }
}

/// B.cond.
#[inline(always)]
pub(super) fn conditional<S: Sem>(s: &mut S, cond: Cond, offset: i64) -> Flow {
    if cond.always() {
        return s.branch_relative(offset, BranchKind::Jump);
    }
    let flags = s.nzcv();
    let taken = s.condition(flags, cond);
    s.branch_if(taken, offset)
}

/// CBZ, CBNZ.
#[inline(always)]
pub(super) fn compare<S: Sem>(s: &mut S, sf: bool, nonzero: bool, rt: Reg, offset: i64) -> Flow {
    let value = s.x(rt);
    let zero = s.is_zero(sf, value);
    let taken = if nonzero { s.not(zero) } else { zero };
    s.branch_if(taken, offset)
}

/// TBZ, TBNZ.
#[inline(always)]
pub(super) fn test<S: Sem>(s: &mut S, nonzero: bool, bit: u8, rt: Reg, offset: i64) -> Flow {
    let value = s.x(rt);
    let set = s.bit(value, bit);
    let taken = if nonzero { set } else { s.not(set) };
    s.branch_if(taken, offset)
}

/// BR, BLR, RET.
#[inline(always)]
pub(super) fn register<S: Sem>(s: &mut S, kind: BranchKind, rn: Reg) -> Flow {
    // BLR X30 branches to what X30 was.
    let target = s.x(rn);
    if kind == BranchKind::Call {
        link(s);
    }
    s.branch(target, kind)
}

#[inline(always)]
fn link<S: Sem>(s: &mut S) {
    let pc = s.pc();
    let next = s.add_const(pc, 4);
    s.set_x(LINK, next);
}
