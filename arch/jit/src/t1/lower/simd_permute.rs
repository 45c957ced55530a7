//! Moves of elements: immediates, duplication, insertion, extraction, permutations and table look-ups.

use isa::insn::{ESize, Insn, VecImmOp, VecPermuteOp, VecWidth};

use crate::asm::{Gpr, Sz, VLen, Xmm, ops};
use crate::constants::{HIGH_BYTE, LOW_HALF, PAST_TABLE, TABLE_LAST, TABLE_STEP};
use crate::t1::builder::Builder;
use crate::t1::regs::{ZR, home_v};

use super::vector::{X0, X1, X2, X3, by_size};

const L: VLen = VLen::L128;
const RAX: Gpr = Gpr::RAX;

/// Lower one instruction of this family; false if it has no lowering.
pub fn lower(b: &mut Builder<'_>, insn: &Insn) -> bool {
    if let Insn::VecToGeneral { signed, sf, es, index, rd, rn } = *insn {
        b.begin(&[rd], false);
        if rd != ZR {
            to_general(b, signed, sf, es, index, rd, rn);
        }
        return true;
    }
    b.begin(&[], false);
    match *insn {
        Insn::VecImm { op, width, rd, imm } => immediate(b, op, width, rd, imm),
        Insn::VecDupElem { es, width, index, rd, rn } => {
            let d = b.dv(rd, X0);
            if index == 0 && es.scalar() == width {
                let n = b.v(rn, X0);
                return finish(b, rd, n, width);
            }
            b.dup_element(es, d, rn, index);
            b.finish_v(rd, d, width);
        }
        Insn::VecDupGeneral { es, width, rd, rn } => {
            let n = b.r(rn, RAX);
            let d = b.dv(rd, X0);
            if es == ESize::D && width == VecWidth::D8 {
                b.a.v2(ops::VMOVQ, L, d, n);
            } else {
                b.dup_general(es, d, n);
            }
            b.finish_v(rd, d, width);
        }
        Insn::VecInsElem { es, to, from, rd, rn } => insert_element(b, es, to, from, rd, rn),
        Insn::VecInsGeneral { es, index, rd, rn } => {
            let n = b.r(rn, RAX);
            let old = b.v(rd, X0);
            let d = b.dv(rd, X0);
            let op = by_size(es, [ops::VPINSRB, ops::VPINSRW, ops::VPINSRD, ops::VPINSRQ]);
            b.a.v3i(op, L, d, old, n, index);
            b.set_v(rd, d);
        }
        Insn::VecPermute { op, es, width, rd, rn, rm } => permute(b, op, es, width, (rd, rn, rm)),
        Insn::VecExtract { width, index, rd, rn, rm } => {
            let n = b.v(rn, X0);
            if width == VecWidth::Q16 {
                let m = b.v(rm, X1);
                let d = b.dv(rd, X0);
                b.a.v3i(ops::VPALIGNR, L, d, m, n, index);
                b.set_v(rd, d);
            } else {
                let m = b.v(rm, X1);
                b.v128(ops::VPUNPCKLQDQ, X0, n, m);
                b.a.vshift(ops::VPSRLDQ, L, X0, X0, index);
                b.finish_v(rd, X0, width);
            }
        }
        Insn::VecTable { keep, width, registers, rd, rn, rm } => table(b, keep, width, registers, (rd, rn, rm)),
        _ => return false,
    }
    true
}

fn finish(b: &mut Builder<'_>, rd: u8, from: Xmm, width: VecWidth) -> bool {
    b.finish_v(rd, from, width);
    true
}

fn immediate(b: &mut Builder<'_>, op: VecImmOp, width: VecWidth, rd: u8, imm: u64) {
    if op == VecImmOp::Set {
        let d = b.dv(rd, X0);
        b.v_imm(d, imm, width);
        return b.set_v(rd, d);
    }
    // BIC clears the bits of the immediate: its complement stays.
    b.v_imm(X1, if op == VecImmOp::Bic { !imm } else { imm }, VecWidth::Q16);
    let old = b.v(rd, X0);
    b.finish_op(if op == VecImmOp::Bic { ops::VPAND } else { ops::VPOR }, rd, old, X1, width);
}

fn to_general(b: &mut Builder<'_>, signed: bool, sf: bool, es: ESize, index: u8, rd: u8, rn: u8) {
    let d = b.d(rd, RAX);
    let to = if sf { Sz::Q } else { Sz::D };
    if let Some(x) = b.pin_v(rn) {
        match es {
            ESize::B => b.a.vsti(ops::VPEXTRB, L, d, x, index),
            ESize::H => b.a.vsti(ops::VPEXTRW, L, d, x, index),
            ESize::S if index == 0 => b.a.vst(ops::VMOVD_ST, L, d, x),
            ESize::S => b.a.vsti(ops::VPEXTRD, L, d, x, index),
            ESize::D if index == 0 => b.a.vst(ops::VMOVQ_ST, L, d, x),
            ESize::D => b.a.vsti(ops::VPEXTRQ, L, d, x, index),
        }
        match (signed, es) {
            (true, ESize::B) => b.a.movsx(Sz::B, to, d, d),
            (true, ESize::H) => b.a.movsx(Sz::H, to, d, d),
            (true, ESize::S) => b.a.movsx(Sz::D, Sz::Q, d, d),
            _ => {}
        }
    } else {
        let m = home_v(rn).at(i32::from(index) << es as u32);
        match (signed, es) {
            (false, ESize::B) => b.a.movzx(Sz::B, d, m),
            (false, ESize::H) => b.a.movzx(Sz::H, d, m),
            (true, ESize::B) => b.a.movsx(Sz::B, to, d, m),
            (true, ESize::H) => b.a.movsx(Sz::H, to, d, m),
            (false, ESize::S) => b.a.load(Sz::D, d, m),
            (true, ESize::S) => b.a.movsx(Sz::D, Sz::Q, d, m),
            (_, ESize::D) => b.a.load(Sz::Q, d, m),
        }
    }
    b.set(rd, d);
}

fn insert_element(b: &mut Builder<'_>, es: ESize, to: u8, from: u8, rd: u8, rn: u8) {
    let op = by_size(es, [ops::VPINSRB, ops::VPINSRW, ops::VPINSRD, ops::VPINSRQ]);
    let old = b.v(rd, X0);
    let d = b.dv(rd, X0);
    match (b.pin_v(rn), es) {
        (None, _) => b.a.v3i(op, L, d, old, home_v(rn).at(i32::from(from) << es as u32), to),
        (Some(n), ESize::D) => match (to, from) {
            (0, 0) => b.a.v3i(ops::VPBLENDD, L, d, old, n, 0b0011),
            (1, 0) => b.v128(ops::VPUNPCKLQDQ, d, old, n),
            (0, _) => b.a.v3i(ops::VSHUFPD, L, d, n, old, 0b11),
            _ => b.a.v3i(ops::VPBLENDD, L, d, old, n, 0b1100),
        },
        (Some(n), ESize::S) => b.a.v3i(ops::VINSERTPS, L, d, old, n, (from & 3) << 6 | (to & 3) << 4),
        (Some(n), _) => {
            let extract = if es == ESize::B { ops::VPEXTRB } else { ops::VPEXTRW };
            b.a.vsti(extract, L, RAX, n, from);
            b.a.v3i(op, L, d, old, RAX, to);
        }
    }
    b.set_v(rd, d);
}

/// The even-numbered elements of `n` and `m` in X2, the odd-numbered ones in X3 (each if wanted). `n` and `m` may be X0 and X1, which are lost.
pub fn unzip(b: &mut Builder<'_>, es: ESize, n: Xmm, m: Xmm, even: bool, odd: bool) {
    match es {
        ESize::B | ESize::H => {
            let (pack, down) = if es == ESize::B { (ops::VPACKUSWB, 8) } else { (ops::VPACKUSDW, 16) };
            let shift = if es == ESize::B { ops::VPSRLW_I } else { ops::VPSRLD_I };
            if even {
                let low = LOW_HALF.plus(es as u8);
                b.v128(ops::VPAND, X2, n, low);
                if n == m {
                    b.v128(pack, X2, X2, X2);
                } else {
                    b.v128(ops::VPAND, X3, m, low);
                    b.v128(pack, X2, X2, X3);
                }
            }
            if odd {
                b.a.vshift(shift, L, X3, n, down);
                if n == m {
                    b.v128(pack, X3, X3, X3);
                } else {
                    b.a.vshift(shift, L, X1, m, down);
                    b.v128(pack, X3, X3, X1);
                }
            }
        }
        ESize::S => {
            if even {
                b.a.v3i(ops::VSHUFPS, L, X2, n, m, 0x88);
            }
            if odd {
                b.a.v3i(ops::VSHUFPS, L, X3, n, m, 0xdd);
            }
        }
        ESize::D => {
            if even {
                b.v128(ops::VPUNPCKLQDQ, X2, n, m);
            }
            if odd {
                b.v128(ops::VPUNPCKHQDQ, X3, n, m);
            }
        }
    }
}

/// The two sources of a pairwise or unzipping operation: registers, or for 64-bit vectors both halves of their concatenation.
pub fn paired(b: &mut Builder<'_>, width: VecWidth, rn: u8, rm: u8) -> (Xmm, Xmm) {
    let n = b.v(rn, X0);
    let m = if rn == rm { n } else { b.v(rm, X1) };
    if width == VecWidth::Q16 {
        return (n, m);
    }
    b.v128(ops::VPUNPCKLQDQ, X0, n, m);
    (X0, X0)
}

fn permute(b: &mut Builder<'_>, op: VecPermuteOp, es: ESize, width: VecWidth, (rd, rn, rm): (u8, u8, u8)) {
    use VecPermuteOp::{Trn1, Trn2, Uzp1, Uzp2, Zip1, Zip2};
    let low = by_size(es, [ops::VPUNPCKLBW, ops::VPUNPCKLWD, ops::VPUNPCKLDQ, ops::VPUNPCKLQDQ]);
    let high = by_size(es, [ops::VPUNPCKHBW, ops::VPUNPCKHWD, ops::VPUNPCKHDQ, ops::VPUNPCKHQDQ]);
    match op {
        Uzp1 | Uzp2 => {
            let (n, m) = paired(b, width, rn, rm);
            unzip(b, es, n, m, op == Uzp1, op == Uzp2);
            b.finish_v(rd, if op == Uzp1 { X2 } else { X3 }, width);
        }
        Zip1 | Zip2 if width == VecWidth::Q16 || op == Zip1 => {
            let n = b.v(rn, X0);
            let m = b.vm(rm);
            b.finish_op(if op == Zip1 { low } else { high }, rd, n, m, width);
        }
        Zip1 | Zip2 => {
            let n = b.v(rn, X0);
            let m = b.vm(rm);
            b.v128(low, X0, n, m);
            b.a.vshift(ops::VPSRLDQ, L, X0, X0, 8);
            b.finish_v(rd, X0, VecWidth::Q16);
        }
        Trn1 | Trn2 => {
            transpose(b, op == Trn2, es, rn, rm);
            b.finish_v(rd, X0, width);
        }
    }
}

/// X0 = TRN1 or TRN2 of 128 bits.
fn transpose(b: &mut Builder<'_>, second: bool, es: ESize, rn: u8, rm: u8) {
    let n = b.v(rn, X0);
    let m = b.v(rm, X1);
    match (es, second) {
        (ESize::B, false) => {
            b.a.vshift(ops::VPSLLW_I, L, X1, m, 8);
            b.v128(ops::VPAND, X0, n, LOW_HALF);
            b.v128(ops::VPOR, X0, X0, X1);
        }
        (ESize::B, true) => {
            b.v128(ops::VPAND, X1, m, HIGH_BYTE);
            b.a.vshift(ops::VPSRLW_I, L, X0, n, 8);
            b.v128(ops::VPOR, X0, X0, X1);
        }
        (ESize::H, false) => {
            b.a.vshift(ops::VPSLLD_I, L, X1, m, 16);
            b.a.v3i(ops::VPBLENDW, L, X0, n, X1, 0xaa);
        }
        (ESize::H, true) => {
            b.a.vshift(ops::VPSRLD_I, L, X0, n, 16);
            b.a.v3i(ops::VPBLENDW, L, X0, X0, m, 0xaa);
        }
        (ESize::S, false) => {
            b.a.v2i(ops::VPSHUFD, L, X1, m, 0xa0);
            b.a.v3i(ops::VPBLENDD, L, X0, n, X1, 0b1010);
        }
        (ESize::S, true) => {
            b.a.v2i(ops::VPSHUFD, L, X0, n, 0xf5);
            b.a.v3i(ops::VPBLENDD, L, X0, X0, m, 0b1010);
        }
        (ESize::D, false) => b.v128(ops::VPUNPCKLQDQ, X0, n, m),
        (ESize::D, true) => b.v128(ops::VPUNPCKHQDQ, X0, n, m),
    }
}

/// TBL, TBX. VPSHUFB takes the low four bits of an index and gives zero where the top bit is set.
fn table(b: &mut Builder<'_>, keep: bool, width: VecWidth, registers: u8, (rd, rn, rm): (u8, u8, u8)) {
    let index = b.v(rm, X1);
    for i in 0..registers {
        let to = if i == 0 { X2 } else { X0 };
        let at = if i == 0 {
            index
        } else {
            b.v128(ops::VPSUBB, X0, index, TABLE_STEP.plus(i - 1));
            X0
        };
        b.v128(ops::VPADDUSB, X0, at, PAST_TABLE);
        let t = b.v((rn + i) & 31, X3);
        b.v128(ops::VPSHUFB, to, t, X0);
        if i != 0 {
            b.v128(ops::VPOR, X2, X2, X0);
        }
    }
    if keep {
        // A byte is inside if the least of it and the last index is itself.
        b.v128(ops::VPMINUB, X0, index, TABLE_LAST.plus(registers - 1));
        b.v128(ops::VPCMPEQB, X0, X0, index);
        let old = b.v(rd, X3);
        b.a.v4(ops::VPBLENDVB, L, X2, old, X2, X0);
    }
    b.finish_v(rd, X2, width);
}
