//! Shifts of vector elements, by immediates and by registers.

use isa::insn::{ESize, Insn, VecShiftOp, VecShiftRegOp, VecWidth};

use crate::asm::{BY_WAY_OF, Masking, VLen, Vop, Xmm, ops};
use crate::constants::{
    BYTE_COUNTS, BYTE_NEGATIVE, BYTE_SHL, BYTE_SHR, BYTE_SIGN, LOW_BYTE, ONE, POSITIVE, SIGN, WIDTH,
};
use crate::t1::builder::Builder;

use super::vector::{X0, X1, X2, X3, add, by_size, cmpeq, cmpgt, sized, sub};

const L: VLen = VLen::L128;
/// The mask register for elements whose count is negative.
const NEGATIVE: u8 = 1;

/// Lower one instruction of this family; false if it has no lowering.
pub fn lower(b: &mut Builder<'_>, insn: &Insn) -> bool {
    match *insn {
        Insn::VecShift { op, es, width, count, rd, rn } if op.saturates() => {
            saturating_left(b, op, es, width, count, (rd, rn));
        }
        Insn::VecShift { op, es, width, count, rd, rn } => {
            b.begin(&[], false);
            let n = b.v(rn, X0);
            let (kind, round) = kind(op);
            if round {
                rounding(b, kind, es, X2, n, count);
                b.finish_v(rd, X2, width);
            } else {
                let d = b.dv(rd, X2);
                shift(b, kind, es, d, n, count);
                b.finish_v(rd, d, width);
            }
        }
        Insn::VecShiftAcc { op, es, width, count, rd, rn } => {
            if op.saturates() {
                return false;
            }
            b.begin(&[], false);
            let n = b.v(rn, X0);
            let (kind, round) = kind(op);
            if round {
                rounding(b, kind, es, X2, n, count);
            } else {
                shift(b, kind, es, X2, n, count);
            }
            let old = b.v(rd, X1);
            b.finish_op(add(es), rd, old, X2, width);
        }
        Insn::VecShiftInsert { left, es, width, count, rd, rn } => {
            b.begin(&[], false);
            let kind = if left { Kind::Left } else { Kind::Unsigned };
            let n = b.v(rn, X0);
            shift(b, kind, es, X2, n, count);
            b.ones(X3);
            shift(b, kind, es, X3, X3, count);
            let old = b.v(rd, X0);
            b.v128(ops::VPANDN, X3, X3, old);
            b.finish_op(ops::VPOR, rd, X2, X3, width);
        }
        Insn::VecShiftReg { op, es, width, rd, rn, rm } => return by_register(b, op, es, width, (rd, rn, rm)),
        _ => return false,
    }
    true
}

/// SQSHL, UQSHL and SQSHLU by an immediate: exact where shifting back gives the operand.
fn saturating_left(b: &mut Builder<'_>, op: VecShiftOp, es: ESize, width: VecWidth, count: u8, (rd, rn): (u8, u8)) {
    b.begin(&[], true);
    b.v_copy(rn, X0);
    shift(b, Kind::Left, es, X2, X0, count);
    let back = if op == VecShiftOp::Sqshl { Kind::Signed } else { Kind::Unsigned };
    shift(b, back, es, X1, X2, count);
    b.v128(cmpeq(es), X1, X1, X0);
    b.ones(X3);
    if op != VecShiftOp::Uqshl {
        // X3 = where the operand is not negative.
        b.v128(cmpgt(es), X3, X0, X3);
    }
    match op {
        // The limit on the operand's side.
        VecShiftOp::Sqshl => b.v128(ops::VPXOR, X3, X3, sized(SIGN, es)),
        VecShiftOp::Sqshlu => b.v128(ops::VPAND, X1, X1, X3),
        _ => {}
    }
    b.v128(ops::VPAND, X2, X2, X1);
    b.v128(ops::VPANDN, X3, X1, X3);
    b.v128(ops::VPOR, X2, X2, X3);
    b.v128(ops::VPXOR, X1, X1, WIDTH.plus(4));
    b.saturated_in(X1, width);
    b.finish_v(rd, X2, width);
}

/// A direction.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Kind {
    /// Left.
    Left,
    /// Right, with zeros.
    Unsigned,
    /// Right, with the sign.
    Signed,
}

fn kind(op: VecShiftOp) -> (Kind, bool) {
    match op {
        VecShiftOp::Sshr => (Kind::Signed, false),
        VecShiftOp::Srshr => (Kind::Signed, true),
        VecShiftOp::Ushr => (Kind::Unsigned, false),
        VecShiftOp::Urshr => (Kind::Unsigned, true),
        _ => (Kind::Left, false),
    }
}

/// `d` = `n` shifted by `count`, 0 to the element's bits. May use X3 for 64-bit elements, `d` may be `n`.
pub fn shift(b: &mut Builder<'_>, kind: Kind, es: ESize, d: Xmm, n: Xmm, count: u8) {
    if count == 0 {
        return b.a.vmov(d, n);
    }
    match (es, kind) {
        (ESize::B, _) => {
            let op = if kind == Kind::Left { ops::VPSLLW_I } else { ops::VPSRLW_I };
            let count = count.min(if kind == Kind::Signed { 7 } else { 8 });
            b.a.vshift(op, L, d, n, count);
            match kind {
                Kind::Left => b.v128(ops::VPAND, d, d, BYTE_SHL.plus(count)),
                Kind::Unsigned => b.v128(ops::VPAND, d, d, BYTE_SHR.plus(count)),
                Kind::Signed => {
                    // The sign bit, now at 7 - count, is extended by flipping it and taking it away.
                    b.v128(ops::VPAND, d, d, BYTE_SHR.plus(count));
                    b.v128(ops::VPXOR, d, d, BYTE_SIGN.plus(count));
                    b.v128(ops::VPSUBB, d, d, BYTE_SIGN.plus(count));
                }
            }
        }
        (ESize::D, Kind::Signed) => {
            let count = count.min(63);
            if b.host.avx512 {
                return b.a.vshift(ops::VPSRAQ_I, L, d, n, count);
            }
            b.a.vzero(X3);
            b.v128(ops::VPCMPGTQ, X3, X3, n);
            b.a.vshift(ops::VPSRLQ_I, L, d, n, count);
            b.a.vshift(ops::VPSLLQ_I, L, X3, X3, 64 - count);
            b.v128(ops::VPOR, d, d, X3);
        }
        // Counts of all the bits give what the architecture wants of them.
        (_, Kind::Left) => {
            b.a.vshift(by_size(es, [ops::VPSLLW_I, ops::VPSLLW_I, ops::VPSLLD_I, ops::VPSLLQ_I]), L, d, n, count)
        }
        (_, Kind::Unsigned) => {
            b.a.vshift(by_size(es, [ops::VPSRLW_I, ops::VPSRLW_I, ops::VPSRLD_I, ops::VPSRLQ_I]), L, d, n, count);
        }
        (_, Kind::Signed) => b.a.vshift(if es == ESize::S { ops::VPSRAD_I } else { ops::VPSRAW_I }, L, d, n, count),
    }
}

/// `d` = `n` shifted right by `count` and rounded: the last bit that was lost is added. X3 is lost; `d` is neither `n` nor X3.
pub fn rounding(b: &mut Builder<'_>, kind: Kind, es: ESize, d: Xmm, n: Xmm, count: u8) {
    if count == 0 {
        return b.a.vmov(d, n);
    }
    shift(b, kind, es, d, n, count);
    // The kind does not matter to that bit.
    shift(b, Kind::Unsigned, es, X3, n, count - 1);
    b.v128(ops::VPAND, X3, X3, sized(ONE, es));
    b.v128(add(es), d, d, X3);
}

/// Shifts by a register: the count is the lowest byte of each element, signed; negative counts shift right.
fn by_register(b: &mut Builder<'_>, op: VecShiftRegOp, es: ESize, width: VecWidth, (rd, rn, rm): (u8, u8, u8)) -> bool {
    let plain = matches!(op, VecShiftRegOp::Sshl | VecShiftRegOp::Ushl);
    let signed = op == VecShiftRegOp::Sshl;
    if es == ESize::B {
        if b.host.vectors32 && plain {
            bytes_by_register(b, signed, width, (rd, rn, rm));
        }
        return b.host.vectors32 && plain;
    }
    if plain && (b.host.avx512 || es == ESize::S || es == ESize::D && !signed) {
        plain_by_register(b, signed, es, width, (rd, rn, rm));
        return true;
    }
    if b.host.vectors32 {
        by_register_wide(b, op, es, width, (rd, rn, rm));
    }
    b.host.vectors32
}

/// The host's shifts by the unsigned counts of each element, left and right.
fn host_shifts(es: ESize, signed: bool) -> (Vop, Vop) {
    let right = if signed {
        [ops::VPSRAVW, ops::VPSRAVW, ops::VPSRAVD, ops::VPSRAVQ]
    } else {
        [ops::VPSRLVW, ops::VPSRLVW, ops::VPSRLVD, ops::VPSRLVQ]
    };
    (by_size(es, [ops::VPSLLVW, ops::VPSLLVW, ops::VPSLLVD, ops::VPSLLVQ]), by_size(es, right))
}

/// SSHL and USHL of elements of 32 and 64 bits, and with AVX-512 of 16: left by the count's byte and right by 256 less it, of which the wrong one is at
/// least 128 and leaves nothing, or, shifting right with the sign, is not taken.
fn plain_by_register(b: &mut Builder<'_>, signed: bool, es: ESize, width: VecWidth, (rd, rn, rm): (u8, u8, u8)) {
    let (left, right) = host_shifts(es, signed);
    let half = es as u8 - 1;
    let masked = signed && b.host.avx512;
    b.begin(&[], false);
    let n = b.v(rn, X0);
    let m = b.v(rm, X1);
    if masked {
        let test = by_size(es, [ops::VPTESTMW, ops::VPTESTMW, ops::VPTESTMD, ops::VPTESTMQ]);
        b.a.v3(test, L, Xmm(NEGATIVE), m, BYTE_NEGATIVE.plus(half));
    }
    b.v128(ops::VPAND, X1, m, sized(LOW_BYTE, es));
    b.a.vload(X3, BYTE_COUNTS.plus(half).mem());
    b.v128(sub(es), X3, X3, X1);
    b.v128(left, X2, n, X1);
    if masked {
        b.a.v3_ext(right, L, X2, n, X3, Masking { k: NEGATIVE, zero: false }, None);
        return b.finish_v(rd, X2, width);
    }
    b.v128(right, X3, n, X3);
    if signed {
        // Only elements of 32 bits come here: the sign of the count's byte becomes that of its element.
        b.a.vshift(ops::VPSLLD_I, L, X1, X1, 24);
        b.a.v4(ops::VBLENDVPS, L, X2, X2, X3, X1);
        return b.finish_v(rd, X2, width);
    }
    b.finish_op(ops::VPOR, rd, X2, X3, width);
}

/// All shifts by a register of elements of 16 bits and more, on hosts where the encoder's two registers are free between instructions. The host's
/// counts are unsigned and may be too large, which leaves zeros or the sign.
fn by_register_wide(b: &mut Builder<'_>, op: VecShiftRegOp, es: ESize, width: VecWidth, (rd, rn, rm): (u8, u8, u8)) {
    let [x4, x5] = BY_WAY_OF;
    let right = match (es, op.signed()) {
        (ESize::B | ESize::H, false) => ops::VPSRLVW,
        (ESize::B | ESize::H, true) => ops::VPSRAVW,
        (ESize::S, false) => ops::VPSRLVD,
        (ESize::S, true) => ops::VPSRAVD,
        (ESize::D, false) => ops::VPSRLVQ,
        (ESize::D, true) => ops::VPSRAVQ,
    };
    b.begin(&[], op.saturates());
    b.v_copy(rn, X0);
    // The count is the lowest byte, signed.
    let m = b.v(rm, X1);
    let up = 8 * u8::try_from(es.bytes() - 1).unwrap_or(0);
    shift(b, Kind::Left, es, X1, m, up);
    shift(b, Kind::Signed, es, X1, X1, up);
    // X3 = shifted right by the opposite of the count, plus the last bit lost if rounding.
    b.a.vzero(x4);
    b.v128(sub(es), x4, x4, X1);
    b.v128(right, X3, X0, x4);
    if op.rounds() {
        b.invert(x4, X1, x4);
        b.v128(right, x4, X0, x4);
        b.v128(ops::VPAND, x4, x4, sized(ONE, es));
        b.v128(add(es), X3, X3, x4);
    }
    let left = by_size(es, [ops::VPSLLVW, ops::VPSLLVW, ops::VPSLLVD, ops::VPSLLVQ]);
    b.v128(left, X2, X0, X1);
    if op.saturates() {
        // x4 = where shifting back gives the operand; elsewhere the limit.
        b.v128(right, x4, X2, X1);
        b.v128(cmpeq(es), x4, x4, X0);
        if op.signed() {
            b.a.vzero(x5);
            b.v128(cmpgt(es), x5, x5, X0);
            b.v128(ops::VPXOR, x5, x5, sized(POSITIVE, es));
        } else {
            b.ones(x5);
        }
        b.v128(ops::VPAND, X2, X2, x4);
        b.v128(ops::VPANDN, x5, x4, x5);
        b.v128(ops::VPOR, X2, X2, x5);
        b.v128(ops::VPXOR, x4, x4, WIDTH.plus(4));
    }
    // Right where the count is negative.
    b.a.vzero(x5);
    b.v128(cmpgt(es), x5, x5, X1);
    b.v128(ops::VPAND, X3, X3, x5);
    b.v128(ops::VPANDN, X2, x5, X2);
    b.v128(ops::VPOR, X2, X2, X3);
    if op.saturates() {
        b.v128(ops::VPANDN, x4, x5, x4);
        b.saturated_in(x4, width);
    }
    b.finish_v(rd, X2, width);
}

/// SSHL and USHL of bytes: as words, eight at a time.
fn bytes_by_register(b: &mut Builder<'_>, signed: bool, width: VecWidth, (rd, rn, rm): (u8, u8, u8)) {
    let [x4, x5] = BY_WAY_OF;
    let extend = if signed { ops::VPMOVSXBW } else { ops::VPMOVZXBW };
    b.begin(&[], false);
    b.v_copy(rn, X0);
    b.v_copy(rm, X1);
    // The upper half into X3, with X2 free, then the lower one into X2, with X0 free.
    for (d, free, upper) in [(X3, X2, true), (X2, X0, false)] {
        if upper {
            b.a.v2i(ops::VPSHUFD, L, x4, X0, 0xee);
            b.a.v2i(ops::VPSHUFD, L, x5, X1, 0xee);
            b.a.v2(extend, L, x4, x4);
            b.a.v2(ops::VPMOVSXBW, L, x5, x5);
        } else {
            b.a.v2(extend, L, x4, X0);
            b.a.v2(ops::VPMOVSXBW, L, x5, X1);
        }
        b.v128(ops::VPSLLVW, d, x4, x5);
        b.a.vzero(free);
        b.v128(ops::VPSUBW, free, free, x5);
        b.v128(if signed { ops::VPSRAVW } else { ops::VPSRLVW }, x4, x4, free);
        if signed {
            // Where the count is negative only: elsewhere the right shift leaves the sign.
            b.a.vshift(ops::VPSRAW_I, L, x5, x5, 15);
            b.a.v4(ops::VPBLENDVB, L, d, d, x4, x5);
        } else {
            b.v128(ops::VPOR, d, d, x4);
        }
        b.v128(ops::VPAND, d, d, sized(LOW_BYTE, ESize::H));
    }
    b.v128(ops::VPACKUSWB, X2, X2, X3);
    b.finish_v(rd, X2, width);
}
