//! Advanced SIMD arithmetic, logic and comparisons of integers, element by element, pairwise and across.

use isa::insn::{ESize, Insn, VecBinOp, VecPairLongOp, VecUnOp, VecWidth};

use crate::asm::{VLen, Vop, Xmm, ops};
use crate::constants::{
    BIT_REVERSE, Const, EIGHT, LEADING, LOW_HALF, NIBBLE, POPCOUNT, POSITIVE, REV_BYTES, REV_HALVES, REVERSED,
    ROUND_HIGH, SIGN, SIGN_IN,
};
use crate::t1::builder::Builder;

use super::simd_permute::{paired, unzip};
use super::simd_reduce::{across, pair_long};
use super::simd_shift::{Kind, shift};
use super::vector::{X0, X1, X2, X3, add, by_size, cmpeq, cmpgt, sized, sub};

const L: VLen = VLen::L128;

/// Lower one instruction of this family; false if it has no lowering.
pub fn lower(b: &mut Builder<'_>, insn: &Insn) -> bool {
    match *insn {
        Insn::VecBin { op, es, width, rd, rn, rm } => {
            if op.pairwise() {
                b.begin(&[], false);
                let (n, m) = paired(b, width, rn, rm);
                unzip(b, es, n, m, true, true);
                let Some(lanewise) = simple(lane_op(op), es) else { return false };
                b.finish_op(lanewise, rd, X2, X3, width);
                return true;
            }
            if let Some(simple) = simple(op, es) {
                b.begin(&[], false);
                let n = b.v(rn, X0);
                let m = b.vm(rm);
                b.finish_op(simple, rd, n, m, width);
                return true;
            }
            if op == VecBinOp::Pmul && b.host.vectors32 {
                super::simd_wide::polynomial(b, width, (rd, rn, rm));
                return true;
            }
            if !possible(b, op, es) {
                return false;
            }
            b.begin(&[], op.saturates());
            let n = b.v(rn, X0);
            let m = b.v(rm, X1);
            binary(b, op, es, width, n, m);
            b.finish_v(rd, X2, width);
        }
        Insn::VecBinElem { op, es, width, rd, rn, rm, index } => {
            if !possible(b, op, es) && simple(op, es).is_none() {
                return false;
            }
            b.begin(&[], op.saturates());
            b.dup_element(es, X1, rm, index);
            let n = b.v(rn, X0);
            if let Some(simple) = simple(op, es) {
                b.finish_op(simple, rd, n, X1, width);
            } else {
                binary(b, op, es, width, n, X1);
                b.finish_v(rd, X2, width);
            }
        }
        Insn::VecBinAcc { op, es, width, rd, rn } if es != ESize::D || b.host.avx512 => {
            return saturating_mixed(b, op, es, width, rd, rn);
        }
        Insn::VecUn { op, es, width, rd, rn } => return unary(b, op, es, width, rd, rn),
        Insn::VecAcross { op, es, width, rd, rn } => {
            b.begin(&[], false);
            across(b, op, es, width, rn);
            b.finish_v(rd, X0, op.result(es).scalar());
        }
        Insn::VecPairLong { op, accumulate, es, width, rd, rn } => {
            b.begin(&[], false);
            let n = b.v(rn, X0);
            pair_long(b, op == VecPairLongOp::Saddlp, es, n);
            if accumulate {
                let old = b.v(rd, X1);
                b.finish_op(add(es.wider()), rd, X2, old, width);
            } else {
                b.finish_v(rd, X2, width);
            }
        }
        _ => return false,
    }
    true
}

/// The element-wise operation of a pairwise one.
fn lane_op(op: VecBinOp) -> VecBinOp {
    match op {
        VecBinOp::Smaxp => VecBinOp::Smax,
        VecBinOp::Sminp => VecBinOp::Smin,
        VecBinOp::Umaxp => VecBinOp::Umax,
        VecBinOp::Uminp => VecBinOp::Umin,
        _ => VecBinOp::Add,
    }
}

/// The one host instruction that is this operation.
pub fn simple(op: VecBinOp, es: ESize) -> Option<Vop> {
    use VecBinOp::{Add, And, Cmeq, Cmgt, Eor, Mul, Orr, Smax, Smin, Sub, Umax, Umin, Urhadd};
    Some(match (op, es) {
        (And, _) => ops::VPAND,
        (Orr, _) => ops::VPOR,
        (Eor, _) => ops::VPXOR,
        (Add, _) => add(es),
        (Sub, _) => sub(es),
        (Cmeq, _) => cmpeq(es),
        (Cmgt, _) => cmpgt(es),
        (Mul, ESize::H) => ops::VPMULLW,
        (Mul, ESize::S) => ops::VPMULLD,
        (Urhadd, ESize::B) => ops::VPAVGB,
        (Urhadd, ESize::H) => ops::VPAVGW,
        (Smax, ESize::B) => ops::VPMAXSB,
        (Smax, ESize::H) => ops::VPMAXSW,
        (Smax, ESize::S) => ops::VPMAXSD,
        (Smin, ESize::B) => ops::VPMINSB,
        (Smin, ESize::H) => ops::VPMINSW,
        (Smin, ESize::S) => ops::VPMINSD,
        (Umax, ESize::B) => ops::VPMAXUB,
        (Umax, ESize::H) => ops::VPMAXUW,
        (Umax, ESize::S) => ops::VPMAXUD,
        (Umin, ESize::B) => ops::VPMINUB,
        (Umin, ESize::H) => ops::VPMINUW,
        (Umin, ESize::S) => ops::VPMINUD,
        _ => return None,
    })
}

/// Whether [`binary`] covers the operation on this host.
fn possible(b: &Builder<'_>, op: VecBinOp, es: ESize) -> bool {
    use VecBinOp::{Pmul, Suqadd, Uqadd, Uqsub, Usqadd};
    match op {
        Pmul | Suqadd | Usqadd => false,
        Uqadd | Uqsub => es != ESize::D || b.host.avx512,
        _ => true,
    }
}

/// X2 = an operation of several instructions. `n` and `m` may be X0 and X1. Only saturating ones clobber EFLAGS.
pub fn binary(b: &mut Builder<'_>, op: VecBinOp, es: ESize, width: VecWidth, n: Xmm, m: Xmm) {
    use VecBinOp::{
        Bic, Cmge, Cmhi, Cmhs, Cmtst, Mul, Orn, Sabd, Shadd, Shsub, Sqdmulh, Sqrdmulh, Srhadd, Uabd, Uhadd, Uhsub,
        Urhadd,
    };
    let max = |signed| simple(if signed { VecBinOp::Smax } else { VecBinOp::Umax }, es);
    let min = |signed| simple(if signed { VecBinOp::Smin } else { VecBinOp::Umin }, es);
    match op {
        Bic => b.v128(ops::VPANDN, X2, m, n),
        Orn => {
            b.invert(X2, m, X2);
            b.v128(ops::VPOR, X2, X2, n);
        }
        Cmge | Cmhs => match max(op == Cmge) {
            Some(max) => {
                b.v128(max, X2, n, m);
                b.v128(cmpeq(es), X2, X2, n);
            }
            None => {
                greater_64(b, op == Cmge, m, n);
                b.invert(X2, X2, X3);
            }
        },
        Cmhi => match min(false) {
            Some(min) => {
                b.v128(min, X2, n, m);
                b.v128(cmpeq(es), X2, X2, n);
                b.invert(X2, X2, X3);
            }
            None => greater_64(b, false, n, m),
        },
        Cmtst => {
            b.v128(ops::VPAND, X2, n, m);
            b.a.vzero(X3);
            b.v128(cmpeq(es), X2, X2, X3);
            b.invert(X2, X2, X3);
        }
        Mul => {
            // Bytes: the even ones and the odd ones as words.
            b.a.vshift(ops::VPSRLW_I, L, X3, n, 8);
            b.v128(ops::VPMULLW, X2, n, m);
            b.a.vshift(ops::VPSRLW_I, L, X1, m, 8);
            b.v128(ops::VPMULLW, X3, X3, X1);
            b.a.vshift(ops::VPSLLW_I, L, X3, X3, 8);
            b.v128(ops::VPAND, X2, X2, LOW_HALF);
            b.v128(ops::VPOR, X2, X2, X3);
        }
        Sabd | Uabd => {
            if let (Some(max), Some(min)) = (max(op == Sabd), min(op == Sabd)) {
                b.v128(max, X2, n, m);
                b.v128(min, X3, n, m);
                b.v128(sub(es), X2, X2, X3);
            }
        }
        Shadd | Uhadd | Srhadd | Urhadd | Shsub | Uhsub => halving(b, op, es, n, m),
        Sqdmulh | Sqrdmulh => doubling_high(b, op == Sqrdmulh, es, width, n, m),
        _ => saturating(b, op, es, width, n, m),
    }
}

/// X2 = `n` > `m`, elements of 64 bits.
fn greater_64(b: &mut Builder<'_>, signed: bool, n: Xmm, m: Xmm) {
    if signed {
        return b.v128(ops::VPCMPGTQ, X2, n, m);
    }
    let sign = sized(SIGN, ESize::D);
    b.v128(ops::VPXOR, X2, n, sign);
    b.v128(ops::VPXOR, X3, m, sign);
    b.v128(ops::VPCMPGTQ, X2, X2, X3);
}

/// Halving additions and subtractions. Signed ones are unsigned ones of operands with the sign flipped, the result likewise (which cancels in
/// subtractions). `a - b` rounded down is the rounding average of `a` and `!b`, with the sign flipped.
fn halving(b: &mut Builder<'_>, op: VecBinOp, es: ESize, mut n: Xmm, mut m: Xmm) {
    use VecBinOp::{Shadd, Shsub, Srhadd, Uhsub, Urhadd};
    let sign = sized(SIGN, es);
    let (signed, rounding) = (matches!(op, Shadd | Srhadd), matches!(op, Srhadd | Urhadd | Shsub | Uhsub));
    let minus = matches!(op, Shsub | Uhsub);
    if op == Shsub || signed {
        b.v128(ops::VPXOR, X0, n, sign);
        b.v128(ops::VPXOR, X1, m, sign);
        (n, m) = (X0, X1);
    }
    if minus {
        b.invert(X1, m, X3);
        m = X1;
    }
    let average = by_size(es, [ops::VPAVGB, ops::VPAVGW, ops::VPADDD, ops::VPADDQ]);
    match (es, rounding) {
        (ESize::B | ESize::H, true) => b.v128(average, X2, n, m),
        (ESize::B | ESize::H, false) => {
            // The complement of the rounding average of the complements.
            b.ones(X3);
            b.v128(ops::VPXOR, X0, n, X3);
            b.v128(ops::VPXOR, X1, m, X3);
            b.v128(average, X2, X0, X1);
            b.v128(ops::VPXOR, X2, X2, X3);
        }
        _ => {
            // The bits in common (or in either) and half of those that differ.
            b.v128(ops::VPXOR, X3, n, m);
            b.a.vshift(ops::VPSRLD_I, L, X3, X3, 1);
            b.v128(if rounding { ops::VPOR } else { ops::VPAND }, X2, n, m);
            b.v128(if rounding { ops::VPSUBD } else { ops::VPADDD }, X2, X2, X3);
        }
    }
    if signed || minus {
        b.v128(ops::VPXOR, X2, X2, sign);
    }
}

/// X2 = high half of the doubled product; only the product of two minima saturates, and is the minimum before that.
fn doubling_high(b: &mut Builder<'_>, round: bool, es: ESize, width: VecWidth, n: Xmm, m: Xmm) {
    if es == ESize::H {
        if round {
            b.v128(ops::VPMULHRSW, X2, n, m);
        } else {
            b.v128(ops::VPMULHW, X2, n, m);
            b.v128(ops::VPMULLW, X3, n, m);
            b.a.vshift(ops::VPSRLW_I, L, X3, X3, 15);
            b.v128(ops::VPADDW, X2, X2, X2);
            b.v128(ops::VPOR, X2, X2, X3);
        }
    } else {
        b.v128(ops::VPMULDQ, X2, n, m);
        b.a.vshift(ops::VPSRLQ_I, L, X3, n, 32);
        b.a.vshift(ops::VPSRLQ_I, L, X1, m, 32);
        b.v128(ops::VPMULDQ, X3, X3, X1);
        b.v128(ops::VPADDQ, X2, X2, X2);
        b.v128(ops::VPADDQ, X3, X3, X3);
        if round {
            b.v128(ops::VPADDQ, X2, X2, ROUND_HIGH);
            b.v128(ops::VPADDQ, X3, X3, ROUND_HIGH);
        }
        b.a.vshift(ops::VPSRLQ_I, L, X2, X2, 32);
        b.a.v3i(ops::VPBLENDD, L, X2, X2, X3, 0b1010);
    }
    b.v128(cmpeq(es), X3, X2, sized(SIGN, es));
    b.v128(ops::VPXOR, X2, X2, X3);
    b.saturated_in(X3, width);
}

/// X2 = sum or difference, clamped.
fn saturating(b: &mut Builder<'_>, op: VecBinOp, es: ESize, width: VecWidth, n: Xmm, m: Xmm) {
    let (signed, minus) =
        (matches!(op, VecBinOp::Sqadd | VecBinOp::Sqsub), matches!(op, VecBinOp::Sqsub | VecBinOp::Uqsub));
    let plain = if minus { sub(es) } else { add(es) };
    let native = match (es, signed, minus) {
        (ESize::B, true, false) => Some(ops::VPADDSB),
        (ESize::B, true, true) => Some(ops::VPSUBSB),
        (ESize::B, false, false) => Some(ops::VPADDUSB),
        (ESize::B, false, true) => Some(ops::VPSUBUSB),
        (ESize::H, true, false) => Some(ops::VPADDSW),
        (ESize::H, true, true) => Some(ops::VPSUBSW),
        (ESize::H, false, false) => Some(ops::VPADDUSW),
        (ESize::H, false, true) => Some(ops::VPSUBUSW),
        _ => None,
    };
    if let Some(native) = native {
        b.v128(plain, X3, n, m);
        b.v128(native, X2, n, m);
        b.v128(ops::VPXOR, X3, X3, X2);
        return b.saturated_in(X3, width);
    }
    if signed {
        return saturating_signed(b, minus, es, width, n, m);
    }
    let (min, max) = if es == ESize::D { (ops::VPMINUQ, ops::VPMAXUQ) } else { (ops::VPMINUD, ops::VPMAXUD) };
    b.v128(plain, X3, n, m);
    if minus {
        b.v128(max, X2, n, m);
        b.v128(plain, X2, X2, m);
    } else {
        b.invert(X2, n, X2);
        b.v128(min, X2, X2, m);
        b.v128(plain, X2, X2, n);
    }
    b.v128(ops::VPXOR, X3, X3, X2);
    b.saturated_in(X3, width);
}

/// SUQADD and USQADD, by the unsigned operations.
fn saturating_mixed(b: &mut Builder<'_>, op: VecBinOp, es: ESize, width: VecWidth, rd: u8, rn: u8) -> bool {
    let sign = sized(SIGN, es);
    match op {
        VecBinOp::Suqadd => {
            // The sum of a signed and an unsigned number is too large or right: the same with the sign flipped.
            b.begin(&[], true);
            let old = b.v(rd, X0);
            b.v128(ops::VPXOR, X0, old, sign);
            let n = b.v(rn, X1);
            saturating(b, VecBinOp::Uqadd, es, width, X0, n);
            b.v128(ops::VPXOR, X2, X2, sign);
        }
        VecBinOp::Usqadd => {
            b.begin(&[], true);
            // The positive elements are added, then the magnitudes of the negative ones taken away.
            b.v_copy(rn, X1);
            b.a.vzero(X3);
            b.v128(cmpgt(es), X3, X3, X1);
            b.v128(ops::VPANDN, X1, X3, X1);
            let old = b.v(rd, X0);
            saturating(b, VecBinOp::Uqadd, es, width, old, X1);
            b.a.vmov(X0, X2);
            b.v_copy(rn, X1);
            b.a.vzero(X3);
            b.v128(cmpgt(es), X2, X3, X1);
            b.v128(sub(es), X1, X3, X1);
            b.v128(ops::VPAND, X1, X1, X2);
            saturating(b, VecBinOp::Uqsub, es, width, X0, X1);
        }
        _ => return false,
    }
    b.finish_v(rd, X2, width);
    true
}

/// X2 = signed sum or difference of 32 or 64 bits, clamped. An overflow is a result whose sign the operands do not explain.
pub fn saturating_signed(b: &mut Builder<'_>, minus: bool, es: ESize, width: VecWidth, n: Xmm, m: Xmm) {
    let plain = if minus { sub(es) } else { add(es) };
    b.v128(plain, X2, n, m);
    b.v128(ops::VPXOR, X3, n, X2);
    if minus {
        b.v128(ops::VPXOR, X1, n, m);
    } else {
        b.v128(ops::VPXOR, X1, m, X2);
    }
    b.v128(ops::VPAND, X3, X3, X1);
    // The limit on the side of the first operand.
    if es == ESize::D {
        b.a.vzero(X1);
        b.v128(ops::VPCMPGTQ, X1, X1, n);
    } else {
        b.a.vshift(ops::VPSRAD_I, L, X1, n, 31);
    }
    b.v128(ops::VPXOR, X1, X1, sized(POSITIVE, es));
    let blend = if es == ESize::D { ops::VBLENDVPD } else { ops::VBLENDVPS };
    b.a.v4(blend, L, X2, X2, X1, X3);
    b.saturated(X3, SIGN_IN.plus(es as u8 * 5 + width as u8));
}

fn unary(b: &mut Builder<'_>, op: VecUnOp, es: ESize, width: VecWidth, rd: u8, rn: u8) -> bool {
    use VecUnOp::{
        Abs, Clz, CmeqZero, CmgeZero, CmgtZero, CmleZero, CmltZero, Cnt, Neg, Not, Rbit, Rev16, Rev32, Rev64, Sqabs,
        Sqneg,
    };
    if matches!(op, VecUnOp::Cls | Clz) && es == ESize::D {
        return false;
    }
    b.begin(&[], op.saturates());
    let n = b.v(rn, X0);
    match op {
        Abs | Sqabs => absolute(b, es, n),
        Neg | Sqneg => {
            b.a.vzero(X2);
            b.v128(sub(es), X2, X2, n);
        }
        Not => b.invert(X2, n, X2),
        Rev16 => b.v128(ops::VPSHUFB, X2, n, REV_BYTES),
        Rev32 if es == ESize::B => b.v128(ops::VPSHUFB, X2, n, REV_BYTES.plus(1)),
        Rev32 => b.v128(ops::VPSHUFB, X2, n, REV_HALVES),
        Rev64 if es == ESize::B => b.v128(ops::VPSHUFB, X2, n, REV_BYTES.plus(2)),
        Rev64 if es == ESize::H => b.v128(ops::VPSHUFB, X2, n, REV_HALVES.plus(1)),
        Rev64 => b.a.v2i(ops::VPSHUFD, L, X2, n, 0xb1),
        Cnt if b.host.bitalg => b.a.v2(ops::VPOPCNTB, L, X2, n),
        Cnt => {
            nibbles(b, n, POPCOUNT, POPCOUNT);
            b.v128(ops::VPADDB, X2, X2, X3);
        }
        Rbit if b.host.gfni => {
            b.a.v3i(ops::VGF2P8AFFINEQB, L, X2, n, BIT_REVERSE, 0);
        }
        Rbit => {
            nibbles(b, n, REVERSED, REVERSED.plus(1));
            b.v128(ops::VPOR, X2, X2, X3);
        }
        Clz => leading_zeros(b, es, n),
        CmeqZero | CmltZero | CmgtZero | CmleZero => {
            b.a.vzero(X2);
            match op {
                CmeqZero => b.v128(cmpeq(es), X2, X2, n),
                CmltZero => b.v128(cmpgt(es), X2, X2, n),
                _ => b.v128(cmpgt(es), X2, n, X2),
            }
            if op == CmleZero {
                b.invert(X2, X2, X3);
            }
        }
        CmgeZero => {
            b.ones(X2);
            b.v128(cmpgt(es), X2, n, X2);
        }
        VecUnOp::Cls => {
            // Leading zeros behind the first bit, of what differs from its neighbour.
            shift(b, Kind::Signed, es, X2, n, 1);
            b.v128(ops::VPXOR, X0, X2, n);
            leading_zeros(b, es, X0);
            b.ones(X3);
            b.v128(add(es), X2, X2, X3);
        }
    }
    if op.saturates() {
        b.v128(cmpeq(es), X3, X2, sized(SIGN, es));
        b.v128(ops::VPXOR, X2, X2, X3);
        b.saturated_in(X3, width);
    }
    b.finish_v(rd, X2, width);
    true
}

/// X2 = |n|, the minimum unchanged.
fn absolute(b: &mut Builder<'_>, es: ESize, n: Xmm) {
    match es {
        ESize::B => b.a.v2(ops::VPABSB, L, X2, n),
        ESize::H => b.a.v2(ops::VPABSW, L, X2, n),
        ESize::S => b.a.v2(ops::VPABSD, L, X2, n),
        ESize::D => {
            b.a.vzero(X3);
            b.v128(ops::VPCMPGTQ, X3, X3, n);
            b.v128(ops::VPXOR, X2, n, X3);
            b.v128(ops::VPSUBQ, X2, X2, X3);
        }
    }
}

/// X2 = `low` looked up by the low four bits of each byte, X3 = `high` by the high ones. X1 is lost.
fn nibbles(b: &mut Builder<'_>, n: Xmm, low: Const, high: Const) {
    b.v128(ops::VPAND, X2, n, NIBBLE);
    b.a.vshift(ops::VPSRLW_I, L, X3, n, 4);
    b.v128(ops::VPAND, X3, X3, NIBBLE);
    b.a.vload(X1, low.mem());
    b.v128(ops::VPSHUFB, X2, X1, X2);
    b.a.vload(X1, high.mem());
    b.v128(ops::VPSHUFB, X3, X1, X3);
}

/// X2 = leading zeros: of bytes by table, then of wider elements from those of their halves.
fn leading_zeros(b: &mut Builder<'_>, es: ESize, n: Xmm) {
    nibbles(b, n, LEADING.plus(1), LEADING);
    b.v128(ops::VPMINUB, X2, X2, X3);
    if es == ESize::B {
        return;
    }
    // Words: high + (high == 8 ? low : 0).
    b.v128(ops::VPCMPEQB, X3, X2, EIGHT);
    b.a.vshift(ops::VPSRLW_I, L, X3, X3, 8);
    b.v128(ops::VPAND, X3, X3, X2);
    b.a.vshift(ops::VPSRLW_I, L, X2, X2, 8);
    b.v128(ops::VPADDW, X2, X2, X3);
    if es == ESize::H {
        return;
    }
    b.a.vshift(ops::VPSRLW_I, L, X3, X2, 4);
    b.a.vshift(ops::VPSRLD_I, L, X1, X2, 16);
    // A high word of 16 zeros: its bit 4 is set, and no other has it.
    b.a.vshift(ops::VPSRLD_I, L, X3, X3, 16);
    b.a.vzero(X0);
    b.v128(ops::VPSUBD, X3, X0, X3);
    b.v128(ops::VPAND, X2, X2, LOW_HALF.plus(1));
    b.v128(ops::VPAND, X3, X3, X2);
    b.v128(ops::VPADDD, X2, X1, X3);
}
