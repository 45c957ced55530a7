//! Advanced SIMD operations whose results have elements of twice or half the size.

use isa::insn::{Accumulate, ESize, Insn, VecLongOp, VecNarrowOp, VecWidth};

use crate::asm::{BY_WAY_OF, Gpr, VLen, Vop, Xmm, ops};
use crate::constants::{LOW_BYTE, LOW_HALF, NARROW, NARROW_HIGH, POSITIVE, SIGN, WIDTH};
use crate::t1::builder::Builder;

use super::simd_int::saturating_signed;
use super::simd_shift::{Kind, rounding, shift};
use super::vector::{X0, X1, X2, X3, add, cmpeq, sized, sub};

const L: VLen = VLen::L128;

/// Lower one instruction of this family; false if it has no lowering.
pub fn lower(b: &mut Builder<'_>, insn: &Insn) -> bool {
    match *insn {
        Insn::VecWiden { signed, es, upper, count, rd, rn } => {
            b.begin(&[], false);
            let d = b.dv(rd, X0);
            widen(b, signed, es, upper, d, rn);
            shift(b, Kind::Left, es.wider(), d, d, count);
            b.set_v(rd, d);
        }
        Insn::VecWide { sub: minus, signed, es, upper, rd, rn, rm } => {
            b.begin(&[], false);
            widen(b, signed, es, upper, X1, rm);
            let n = b.v(rn, X0);
            b.finish_op(if minus { sub(es.wider()) } else { add(es.wider()) }, rd, n, X1, VecWidth::Q16);
        }
        Insn::VecHighNarrow { sub: minus, round, es, upper, rd, rn, rm } => {
            b.begin(&[], false);
            let n = b.v(rn, X0);
            let m = b.v(rm, X1);
            b.v128(if minus { sub(es.wider()) } else { add(es.wider()) }, X2, n, m);
            if round {
                let half = 1u64 << (es.bits() - 1);
                b.a.mov_imm(Gpr::RAX, half);
                b.dup_general(es.wider(), X3, Gpr::RAX);
                b.v128(add(es.wider()), X2, X2, X3);
            }
            b.v128(ops::VPSHUFB, X2, X2, sized(NARROW_HIGH, es));
            into_half(b, upper, rd);
        }
        Insn::VecNarrow { op, round, es, scalar, upper, count, rd, rn } => {
            narrow(b, op, es, scalar, rn, count, round);
            if scalar {
                b.finish_v(rd, X2, es.scalar());
            } else {
                into_half(b, upper, rd);
            }
        }
        Insn::VecLong { op, acc, es, width, upper, rd, rn, rm } => {
            if !can_multiply(b, op, es) {
                return false;
            }
            b.begin(&[], op.saturates());
            if op == VecLongOp::Pmull && es == ESize::B {
                widen(b, false, es, upper, X0, rn);
                widen(b, false, es, upper, X1, rm);
                carry_less(b, X2);
                b.set_v(rd, X2);
                return true;
            }
            if op == VecLongOp::Pmull {
                let n = b.v(rn, X0);
                let m = b.vm(rm);
                let d = b.dv(rd, X0);
                b.a.v3i(ops::VPCLMULQDQ, L, d, n, m, if upper { 0x11 } else { 0 });
                b.set_v(rd, d);
                return true;
            }
            if matches!(op, VecLongOp::Sabdl | VecLongOp::Uabdl) {
                absolute_difference(b, op == VecLongOp::Sabdl, es, upper, rn, rm);
            } else {
                let (x, y) = (extension(op, es), extension(op, es));
                operand(b, x, es, upper, width, X0, rn);
                operand(b, y, es, upper, width, X1, rm);
                long(b, op, es, width);
            }
            accumulate(b, acc, es.wider(), width, rd);
        }
        Insn::VecLongElem { op, acc, es, width, upper, rd, rn, rm, index } => {
            if !can_multiply(b, op, es) {
                return false;
            }
            b.begin(&[], op.saturates());
            b.dup_element(es, X1, rm, index);
            operand(b, extension(op, es), es, upper, width, X0, rn);
            let extend = extender(extension(op, es), es);
            b.a.v2(extend, L, X1, X1);
            long(b, op, es, width);
            accumulate(b, acc, es.wider(), width, rd);
        }
        _ => return false,
    }
    true
}

fn can_multiply(b: &Builder<'_>, op: VecLongOp, es: ESize) -> bool {
    op != VecLongOp::Pmull || es == ESize::D && b.host.pclmul || es == ESize::B && b.host.vectors32
}

/// `d` = the carry-less products of words X0 and X1, whose values are bytes. X0, X3 and the encoder's registers are lost.
fn carry_less(b: &mut Builder<'_>, d: Xmm) {
    let [mask, part] = BY_WAY_OF;
    b.a.vzero(d);
    for bit in 0..8 {
        // All ones where the bit of the second factor is set.
        b.a.vshift(ops::VPSLLW_I, L, mask, X1, 15 - bit);
        b.a.vshift(ops::VPSRAW_I, L, mask, mask, 15);
        b.v128(ops::VPAND, part, X0, mask);
        b.v128(ops::VPXOR, d, d, part);
        b.v128(ops::VPADDW, X0, X0, X0);
    }
}

/// PMUL: the low bytes of the products.
pub fn polynomial(b: &mut Builder<'_>, width: VecWidth, (rd, rn, rm): (u8, u8, u8)) {
    b.begin(&[], false);
    for (d, upper) in [(X2, true), (X3, false)] {
        widen(b, false, ESize::B, upper, X0, rn);
        widen(b, false, ESize::B, upper, X1, rm);
        carry_less(b, d);
        b.v128(ops::VPAND, d, d, sized(LOW_BYTE, ESize::H));
    }
    b.v128(ops::VPACKUSWB, X2, X3, X2);
    b.finish_v(rd, X2, width);
}

fn extender(signed: bool, es: ESize) -> Vop {
    match (es, signed) {
        (ESize::B, true) => ops::VPMOVSXBW,
        (ESize::H, true) => ops::VPMOVSXWD,
        (_, true) => ops::VPMOVSXDQ,
        (ESize::B, false) => ops::VPMOVZXBW,
        (ESize::H, false) => ops::VPMOVZXWD,
        (_, false) => ops::VPMOVZXDQ,
    }
}

/// `d` = the lower or upper half of a register, extended.
fn widen(b: &mut Builder<'_>, signed: bool, es: ESize, upper: bool, d: Xmm, rn: u8) {
    let op = extender(signed, es);
    if !upper {
        let n = b.vm(rn);
        return b.a.v2(op, L, d, n);
    }
    if let Some(x) = b.pin_v(rn) {
        b.a.v2i(ops::VPSHUFD, L, X3, x, 0xee);
        b.a.v2(op, L, d, X3);
    } else {
        b.a.v2(op, L, d, crate::t1::regs::home_v(rn).at(8));
    }
}

/// How the operands of a long operation are extended. Words are multiplied by VPMADDWD, whose signed factors lie in zero-extended elements.
fn extension(op: VecLongOp, es: ESize) -> bool {
    match op {
        VecLongOp::Smull | VecLongOp::Sqdmull => es != ESize::H,
        VecLongOp::Saddl | VecLongOp::Ssubl => true,
        _ => false,
    }
}

/// `d` = an operand of a long operation; for scalar operations only one element.
fn operand(b: &mut Builder<'_>, signed: bool, es: ESize, upper: bool, width: VecWidth, d: Xmm, rn: u8) {
    widen(b, signed, es, upper, d, rn);
    if width != VecWidth::Q16 {
        b.v128(ops::VPAND, d, d, WIDTH.plus(width as u8));
    }
}

/// X2 = the operation of X0 and X1, extended. X3 is lost. Sets QC.
fn long(b: &mut Builder<'_>, op: VecLongOp, es: ESize, width: VecWidth) {
    let wide = es.wider();
    let plain = match (op, es) {
        (VecLongOp::Saddl | VecLongOp::Uaddl, _) => add(wide),
        (VecLongOp::Ssubl | VecLongOp::Usubl, _) => sub(wide),
        (_, ESize::B) => ops::VPMULLW,
        (VecLongOp::Umull, ESize::H) => ops::VPMULLD,
        (_, ESize::H) => ops::VPMADDWD,
        (VecLongOp::Umull, _) => ops::VPMULUDQ,
        _ => ops::VPMULDQ,
    };
    b.v128(plain, X2, X0, X1);
    if op == VecLongOp::Sqdmull {
        // Twice the product of two minima is the minimum; no other product is.
        b.v128(add(wide), X2, X2, X2);
        b.v128(cmpeq(wide), X3, X2, sized(SIGN, wide));
        b.v128(ops::VPXOR, X2, X2, X3);
        b.saturated_in(X3, width);
    }
}

/// X2 = widened absolute differences.
fn absolute_difference(b: &mut Builder<'_>, signed: bool, es: ESize, upper: bool, rn: u8, rm: u8) {
    let n = b.v(rn, X0);
    let m = b.v(rm, X1);
    let (max, min) = match (es, signed) {
        (ESize::B, true) => (ops::VPMAXSB, ops::VPMINSB),
        (ESize::H, true) => (ops::VPMAXSW, ops::VPMINSW),
        (_, true) => (ops::VPMAXSD, ops::VPMINSD),
        (ESize::B, false) => (ops::VPMAXUB, ops::VPMINUB),
        (ESize::H, false) => (ops::VPMAXUW, ops::VPMINUW),
        (_, false) => (ops::VPMAXUD, ops::VPMINUD),
    };
    b.v128(max, X2, n, m);
    b.v128(min, X3, n, m);
    b.v128(sub(es), X2, X2, X3);
    if upper {
        b.a.v2i(ops::VPSHUFD, L, X2, X2, 0xee);
    }
    b.a.v2(extender(false, es), L, X2, X2);
}

/// `rd` = X2, added to or subtracted from what it was, or not.
fn accumulate(b: &mut Builder<'_>, how: Accumulate, es: ESize, width: VecWidth, rd: u8) {
    match how {
        Accumulate::None => b.finish_v(rd, X2, width),
        Accumulate::Add | Accumulate::Sub => {
            let old = b.v(rd, X0);
            b.finish_op(if how == Accumulate::Add { add(es) } else { sub(es) }, rd, old, X2, width);
        }
        Accumulate::SatAdd | Accumulate::SatSub => {
            b.a.vmov(X1, X2);
            let old = b.v(rd, X0);
            saturating_signed(b, how == Accumulate::SatSub, es, width, old, X1);
            b.finish_v(rd, X2, width);
        }
    }
}

/// `rd` = the low half of X2: as its lower half with zero above, or as its upper half.
fn into_half(b: &mut Builder<'_>, upper: bool, rd: u8) {
    if upper {
        let old = b.v(rd, X0);
        b.finish_op(ops::VPUNPCKLQDQ, rd, old, X2, VecWidth::Q16);
    } else {
        b.finish_v(rd, X2, VecWidth::D8);
    }
}

/// X2 = elements of size `es` in the lower half.
fn narrow(b: &mut Builder<'_>, op: VecNarrowOp, es: ESize, scalar: bool, rn: u8, count: u8, round: bool) {
    let wide = es.wider();
    b.begin(&[], op != VecNarrowOp::Truncate);
    let mut n = b.v(rn, X0);
    if scalar {
        b.truncate(X0, n, wide.scalar());
        n = X0;
    }
    let signed = matches!(op, VecNarrowOp::Signed | VecNarrowOp::SignedToUnsigned);
    if count != 0 {
        let kind = if signed { Kind::Signed } else { Kind::Unsigned };
        if round {
            rounding(b, kind, wide, X2, n, count);
        } else {
            shift(b, kind, wide, X2, n, count);
        }
        n = X2;
    }
    match (op, es) {
        (VecNarrowOp::Truncate, _) => b.v128(ops::VPSHUFB, X2, n, sized(NARROW, es)),
        (_, ESize::S | ESize::D) => narrow_to_32(b, op, n),
        _ => narrow_by_pack(b, op, es, n),
    }
}

/// X2 = `n` packed with saturation; what does not survive being widened again sets QC.
fn narrow_by_pack(b: &mut Builder<'_>, op: VecNarrowOp, es: ESize, n: Xmm) {
    let byte = es == ESize::B;
    let back = match op {
        VecNarrowOp::Signed => {
            b.v128(if byte { ops::VPACKSSWB } else { ops::VPACKSSDW }, X1, n, n);
            extender(true, es)
        }
        VecNarrowOp::Unsigned => {
            // The packing instruction takes its operands for signed.
            b.v128(if byte { ops::VPMINUW } else { ops::VPMINUD }, X1, n, sized(LOW_HALF, es));
            b.v128(if byte { ops::VPACKUSWB } else { ops::VPACKUSDW }, X1, X1, X1);
            extender(false, es)
        }
        _ => {
            b.v128(if byte { ops::VPACKUSWB } else { ops::VPACKUSDW }, X1, n, n);
            extender(false, es)
        }
    };
    b.a.v2(back, L, X3, X1);
    b.v128(ops::VPXOR, X3, X3, n);
    b.a.vmov(X2, X1);
    b.saturated(X3, X3);
}

/// X2 = 64-bit elements of `n` clamped to 32 bits: the high halves say whether the low ones are the value.
fn narrow_to_32(b: &mut Builder<'_>, op: VecNarrowOp, n: Xmm) {
    b.a.v2i(ops::VPSHUFD, L, X1, n, 0x0d);
    b.a.v2i(ops::VPSHUFD, L, X0, n, 0x08);
    match op {
        VecNarrowOp::Signed => {
            b.a.vshift(ops::VPSRAD_I, L, X3, X0, 31);
            b.v128(ops::VPCMPEQD, X3, X3, X1);
            b.a.vshift(ops::VPSRAD_I, L, X1, X1, 31);
            b.v128(ops::VPXOR, X1, X1, sized(POSITIVE, ESize::S));
        }
        VecNarrowOp::Unsigned => {
            b.a.vzero(X3);
            b.v128(ops::VPCMPEQD, X3, X3, X1);
            b.ones(X1);
        }
        _ => {
            b.a.vzero(X3);
            b.v128(ops::VPCMPEQD, X3, X3, X1);
            // Negative values give zero, others all ones.
            b.a.vshift(ops::VPSRAD_I, L, X1, X1, 31);
            b.invert(X1, X1, X2);
        }
    }
    b.a.v4(ops::VBLENDVPS, L, X2, X1, X0, X3);
    b.invert(X3, X3, X1);
    b.saturated(X3, WIDTH.plus(VecWidth::D8 as u8));
}
