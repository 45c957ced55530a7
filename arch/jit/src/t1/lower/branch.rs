//! Branches.

use isa::insn::{BranchKind, Insn};

use crate::asm::{Cc, Gpr, Sz};
use crate::t1::builder::Builder;

/// Lower one instruction of this family; false if it has no lowering.
pub fn lower(b: &mut Builder<'_>, insn: &Insn) -> bool {
    let here = i64::from(b.pc_offset());
    match *insn {
        Insn::Branch { link, offset } => {
            if link {
                b.begin(&[30], false);
                let d = b.d(30, Gpr::RAX);
                b.pc_plus(d, here + 4);
                b.set(30, d);
            }
            if link {
                // A call leaves the fragment even when its target is inside.
                b.exit_to(None, here + offset);
            } else {
                b.branch_to(None, here + offset);
            }
            b.ended = true;
        }
        Insn::BranchCond { cond, offset } => {
            let cc = b.cond(cond);
            b.branch_to(cc, here + offset);
            b.ended = cc.is_none();
        }
        Insn::CompareBranch { sf, nonzero, rt, offset } => {
            b.begin(&[], true);
            let sz = Sz::dq(sf);
            let r = b.r(rt, Gpr::RAX);
            b.a.test(sz, r, r);
            b.branch_to(Some(if nonzero { Cc::Ne } else { Cc::E }), here + offset);
        }
        Insn::TestBranch { nonzero, bit, rt, offset } => {
            b.begin(&[], true);
            let r = b.r(rt, Gpr::RAX);
            if bit < 8 {
                b.a.test_imm(Sz::B, r, 1 << bit);
            } else if bit < 31 {
                b.a.test_imm(Sz::D, r, 1 << bit);
            } else {
                b.a.bit_imm(4, Sz::Q, r, bit);
                b.branch_to(Some(if nonzero { Cc::B } else { Cc::Ae }), here + offset);
                return true;
            }
            b.branch_to(Some(if nonzero { Cc::Ne } else { Cc::E }), here + offset);
        }
        Insn::BranchReg { kind, rn } => {
            b.store_flags();
            b.load_x(Gpr::RAX, rn);
            if kind == BranchKind::Call {
                let d = b.d(30, Gpr::RCX);
                b.pc_plus(d, here + 4);
                b.set(30, d);
            }
            b.indirect();
            b.ended = true;
        }
        _ => return false,
    }
    true
}
