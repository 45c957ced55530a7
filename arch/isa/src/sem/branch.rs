//! Branches. A return address is written before the branch; nothing of them can stop.

use super::{Flow, Sem};
use crate::insn::Insn;
use crate::operand::BranchKind;

/// Register of the return address.
const LINK: u8 = 30;

/// Executes an instruction of these classes; `None` when it is none.
#[inline(always)]
pub(super) fn execute<S: Sem>(s: &mut S, insn: &Insn) -> Option<Flow> {
    Some(match *insn {
        Insn::Branch { link: false, offset } => s.branch_relative(offset, BranchKind::Jump),
        Insn::Branch { link: true, offset } => {
            link(s);
            s.branch_relative(offset, BranchKind::Call)
        }
        Insn::BranchCond { cond, offset } => {
            if cond.always() {
                s.branch_relative(offset, BranchKind::Jump)
            } else {
                let flags = s.nzcv();
                let taken = s.condition(flags, cond);
                s.branch_if(taken, offset)
            }
        }
        Insn::CompareBranch { sf, nonzero, rt, offset } => {
            let value = s.x(rt);
            let zero = s.is_zero(sf, value);
            let taken = if nonzero { s.not(zero) } else { zero };
            s.branch_if(taken, offset)
        }
        Insn::TestBranch { nonzero, bit, rt, offset } => {
            let value = s.x(rt);
            let set = s.bit(value, bit);
            let taken = if nonzero { set } else { s.not(set) };
            s.branch_if(taken, offset)
        }
        Insn::BranchReg { kind, rn } => {
            // BLR X30 branches to what X30 was.
            let target = s.x(rn);
            if kind == BranchKind::Call {
                link(s);
            }
            s.branch(target, kind)
        }
        _ => return None,
    })
}

#[inline(always)]
fn link<S: Sem>(s: &mut S) {
    let pc = s.pc();
    let next = s.add_const(pc, 4);
    s.set_x(LINK, next);
}
