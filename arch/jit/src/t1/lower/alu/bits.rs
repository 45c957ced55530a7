//! Bit fields, extraction, reversal, counts, and shifts by registers.

use isa::insn::{AluUn, BitfieldOp, DataOp2};

use crate::asm::{Alu, Shift, Sz, VLen, Xmm, ops};
use crate::constants::BIT_REVERSE;
use crate::t1::builder::Builder;

use super::multiply::divide;
use super::{RAX, RCX, RDX, fits};

pub(super) fn bitfield(b: &mut Builder<'_>, sf: bool, op: BitfieldOp, rd: u8, rn: u8, immr: u8, imms: u8) {
    let sz = Sz::dq(sf);
    let top = if sf { 63 } else { 31 };
    let extension = match (op, immr, imms) {
        (BitfieldOp::Signed | BitfieldOp::Unsigned, 0, 7) => Some(Sz::B),
        (BitfieldOp::Signed | BitfieldOp::Unsigned, 0, 15) => Some(Sz::H),
        (BitfieldOp::Signed | BitfieldOp::Unsigned, 0, 31) => Some(Sz::D),
        _ => None,
    };
    if let Some(from) = extension {
        b.begin(&[rd], false);
        let d = b.d(rd, RAX);
        let src = b.rm(rn, RAX);
        if from == Sz::D && (op == BitfieldOp::Unsigned || !sf) {
            b.load_w(d, rn);
        } else if op == BitfieldOp::Signed {
            b.a.movsx(from, sz, d, src);
        } else {
            b.a.movzx(from, d, src);
        }
        return b.set(rd, d);
    }
    let shift = match op {
        BitfieldOp::Signed if imms == top => Some((Shift::Sar, immr)),
        BitfieldOp::Unsigned if imms == top => Some((Shift::Shr, immr)),
        BitfieldOp::Unsigned if imms + 1 == immr => Some((Shift::Shl, top - imms)),
        _ => None,
    };
    if let Some((op, count)) = shift
        && b.keeps_flags()
    {
        b.begin(&[rd], false);
        b.a.mov_imm(RCX, u64::from(count));
        let src = b.rm(rn, RAX);
        let d = b.d(rd, RAX);
        b.a.shiftx(op, sz, d, src, RCX);
        return b.set(rd, d);
    }
    b.begin(&[rd], true);
    if let Some((op, count)) = shift {
        if let Some(m) = b.in_place(sz, rd, rn) {
            return b.a.shift_imm(op, sz, m, count);
        }
        let d = b.d(rd, RAX);
        b.load_low(sz, d, rn);
        b.a.shift_imm(op, sz, d, count);
        return b.set(rd, d);
    }
    let (left, right) = isa::operand::bitfield_shifts(sf, immr, imms);
    if op != BitfieldOp::Insert {
        let d = b.d(rd, RAX);
        if op == BitfieldOp::Unsigned && immr == 0 && imms < 31 {
            b.load_w(d, rn);
            b.a.alu_imm(Alu::And, Sz::D, d, i32::MAX >> (30 - imms));
            return b.set(rd, d);
        }
        b.load_x(d, rn);
        if left != 0 {
            b.a.shift_imm(Shift::Shl, Sz::Q, d, left);
        }
        b.a.shift_imm(if op == BitfieldOp::Signed { Shift::Sar } else { Shift::Shr }, Sz::Q, d, right);
        if !sf && op == BitfieldOp::Signed {
            b.a.mov(Sz::D, d, d);
        }
        return b.set(rd, d);
    }
    // BFI, BFXIL: position and width of the field in the destination.
    let width = if imms >= immr { imms - immr + 1 } else { imms + 1 };
    let at = if imms >= immr { 0 } else { top + 1 - immr };
    let mask = (u64::MAX >> (64 - width)) << at;
    b.load_x(RAX, rn);
    b.a.shift_imm(Shift::Shl, Sz::Q, RAX, left);
    b.a.shift_imm(Shift::Shr, Sz::Q, RAX, right);
    b.load_sz(sz, RCX, rd);
    if let Some(i) = fits(sz, !mask) {
        b.a.alu_imm(Alu::And, sz, RCX, i);
    } else {
        b.a.mov_imm(RDX, !mask);
        b.a.alu(Alu::And, sz, RCX, RDX);
    }
    b.a.alu(Alu::Or, sz, RCX, RAX);
    b.set(rd, RCX);
}

pub(super) fn extract(b: &mut Builder<'_>, sz: Sz, rd: u8, rn: u8, rm: u8, lsb: u8) {
    if rn == rm || lsb == 0 {
        b.begin(&[rd], false);
        let d = b.d(rd, RAX);
        let src = b.rm(rm, RAX);
        if lsb == 0 {
            b.load_sz(sz, d, rm);
        } else {
            b.a.rorx(sz, d, src, lsb);
        }
        return b.set(rd, d);
    }
    b.begin(&[rd], true);
    b.load_sz(sz, RAX, rm);
    let n = b.r(rn, RCX);
    b.a.shrd(sz, RAX, n, lsb);
    b.set(rd, RAX);
}

pub(super) fn data1(b: &mut Builder<'_>, sf: bool, op: AluUn, rd: u8, rn: u8) -> bool {
    let sz = Sz::dq(sf);
    match op {
        AluUn::Clz => {
            b.begin(&[rd], true);
            let src = b.rm(rn, RAX);
            let d = b.d(rd, RAX);
            b.a.lzcnt(sz, d, src);
            b.set(rd, d);
        }
        AluUn::Cls => {
            b.begin(&[rd], true);
            b.load_sz(sz, RAX, rn);
            b.a.mov(sz, RCX, RAX);
            b.a.shift_imm(Shift::Sar, sz, RCX, 1);
            b.a.alu(Alu::Xor, sz, RAX, RCX);
            b.a.lzcnt(sz, RAX, RAX);
            b.a.alu_imm(Alu::Sub, sz, RAX, 1);
            b.set(rd, RAX);
        }
        AluUn::Rev64 => {
            b.begin(&[rd], false);
            let d = b.d(rd, RAX);
            b.load_x(d, rn);
            b.a.bswap(Sz::Q, d);
            b.set(rd, d);
        }
        AluUn::Rev32 => {
            b.begin(&[rd], false);
            let d = b.d(rd, RAX);
            b.load_sz(sz, d, rn);
            b.a.bswap(sz, d);
            if sf {
                b.a.rorx(Sz::Q, d, d, 32);
            }
            b.set(rd, d);
        }
        AluUn::Rev16 => {
            b.begin(&[rd], true);
            b.load_sz(sz, RAX, rn);
            b.a.mov(sz, RCX, RAX);
            b.a.shift_imm(Shift::Shr, sz, RCX, 8);
            b.a.shift_imm(Shift::Shl, sz, RAX, 8);
            b.a.mov_imm(RDX, 0x00ff_00ff_00ff_00ff);
            b.a.alu(Alu::And, sz, RCX, RDX);
            b.a.andn(sz, RAX, RDX, RAX);
            b.a.alu(Alu::Or, sz, RAX, RCX);
            b.set(rd, RAX);
        }
        AluUn::Rbit if b.host.gfni => {
            b.begin(&[rd], false);
            let d = b.d(rd, RAX);
            let (to, from) = if sf { (ops::VMOVQ, ops::VMOVQ_ST) } else { (ops::VMOVD, ops::VMOVD_ST) };
            let src = b.rm(rn, RAX);
            b.a.v2(to, VLen::L128, Xmm(0), src);
            b.a.v3i(ops::VGF2P8AFFINEQB, VLen::L128, Xmm(0), Xmm(0), BIT_REVERSE, 0);
            b.a.vst(from, VLen::L128, d, Xmm(0));
            b.a.bswap(sz, d);
            b.set(rd, d);
        }
        AluUn::Rbit => {
            b.begin(&[rd], true);
            b.load_sz(sz, RAX, rn);
            b.a.bswap(sz, RAX);
            for (n, mask) in [(4u8, 0x0f0f_0f0f_0f0f_0f0fu64), (2, 0x3333_3333_3333_3333), (1, 0x5555_5555_5555_5555)] {
                b.a.mov(sz, RCX, RAX);
                b.a.shift_imm(Shift::Shr, sz, RCX, n);
                b.a.mov_imm(RDX, mask);
                b.a.alu(Alu::And, sz, RCX, RDX);
                b.a.alu(Alu::And, sz, RAX, RDX);
                b.a.shift_imm(Shift::Shl, sz, RAX, n);
                b.a.alu(Alu::Or, sz, RAX, RCX);
            }
            b.set(rd, RAX);
        }
    }
    true
}

pub(super) fn data2(b: &mut Builder<'_>, sz: Sz, op: DataOp2, rd: u8, rn: u8, rm: u8) {
    let shift = match op {
        DataOp2::Lslv => Some(Shift::Shl),
        DataOp2::Lsrv => Some(Shift::Shr),
        DataOp2::Asrv => Some(Shift::Sar),
        _ => None,
    };
    if let Some(op) = shift {
        b.begin(&[rd], false);
        let count = b.r(rm, RCX);
        let src = b.rm(rn, RAX);
        let d = b.d(rd, RAX);
        b.a.shiftx(op, sz, d, src, count);
        return b.set(rd, d);
    }
    b.begin(&[rd], true);
    b.load_sz(sz, RAX, rn);
    b.load_sz(sz, RCX, rm);
    match op {
        DataOp2::Rorv => b.a.shift_cl(Shift::Ror, sz, RAX),
        _ => divide(b, sz, op == DataOp2::Sdiv),
    }
    b.set(rd, RAX);
}
