//! Operations on three vectors: selection, products and differences added to the destination, dot products.

use isa::insn::{ESize, Insn, VecBinOp, VecTernOp, VecWidth};

use crate::asm::{BY_WAY_OF, VLen, Xmm, ops};
use crate::constants::{LOW_HALF, ONE, POSITIVE, SIGN, WIDTH};
use crate::t1::builder::Builder;

use super::simd_int::{binary, simple};
use super::vector::{X0, X1, X2, X3, add, sized, sub};

const L: VLen = VLen::L128;

/// Lower one instruction of this family; false if it has no lowering.
pub fn lower(b: &mut Builder<'_>, insn: &Insn) -> bool {
    let (op, es, width, rd, rn, rm, index) = match *insn {
        Insn::VecTern { op, es, width, rd, rn, rm } => (op, es, width, rd, rn, rm, None),
        Insn::VecTernElem { op, es, width, rd, rn, rm, index } => (op, es, width, rd, rn, rm, Some(index)),
        _ => return false,
    };
    let rounding = matches!(op, VecTernOp::Sqrdmlah | VecTernOp::Sqrdmlsh);
    if rounding && es != ESize::H && !b.host.vectors32 {
        return false;
    }
    b.begin(&[], rounding);
    if matches!(op, VecTernOp::Bsl | VecTernOp::Bit | VecTernOp::Bif) {
        let x = select(b, op, rd, rn, rm);
        b.finish_v(rd, x, width);
        return true;
    }
    let m = match index {
        Some(index) => {
            b.dup_element(es, X1, rm, index);
            X1
        }
        None => b.v(rm, X1),
    };
    let n = b.v(rn, X0);
    match op {
        VecTernOp::Sqrdmlah | VecTernOp::Sqrdmlsh if es == ESize::H => {
            rounding_halves(b, op == VecTernOp::Sqrdmlsh, width, rd, n, m);
        }
        VecTernOp::Sqrdmlah | VecTernOp::Sqrdmlsh => rounding_words(b, op == VecTernOp::Sqrdmlsh, width, rd, n, m),
        _ => ternary(b, op, es, width, rd, n, m),
    }
    true
}

/// SQRDMLAH and SQRDMLSH of 16 bits. `2nm` rounded and cut to its high half is added to (or taken from) the destination with one saturation: what is added has no
/// bits below the half that is kept. Only the product of two minima does not fit, and is the minimum by the host's wrapping: that one is taken away instead.
fn rounding_halves(b: &mut Builder<'_>, minus: bool, width: VecWidth, rd: u8, n: Xmm, m: Xmm) {
    let sign = sized(SIGN, ESize::H);
    if minus {
        // Halves are rounded up behind the minus, so down before it.
        b.v128(ops::VPMULLW, X3, n, m);
        b.a.vshift(ops::VPSLLW_I, L, X3, X3, 1);
        b.v128(ops::VPCMPEQW, X3, X3, sign);
        b.v128(ops::VPMULHRSW, X2, n, m);
        b.v128(ops::VPADDW, X2, X2, X3);
    } else {
        b.v128(ops::VPMULHRSW, X2, n, m);
    }
    let (wrapping, one_way, other_way) =
        if minus { (ops::VPSUBW, ops::VPSUBSW, ops::VPADDSW) } else { (ops::VPADDW, ops::VPADDSW, ops::VPSUBSW) };
    b.v128(ops::VPCMPEQW, X3, X2, sign);
    b.v128(ops::VPAND, X1, X2, X3);
    b.v128(ops::VPANDN, X3, X3, X2);
    let old = b.v(rd, X0);
    b.v128(wrapping, X2, old, X2);
    b.v128(one_way, X3, old, X3);
    b.v128(other_way, X3, X3, X1);
    b.v128(ops::VPXOR, X2, X2, X3);
    b.saturated_in(X2, width);
    b.finish_v(rd, X3, width);
}

/// SQRDMLAH and SQRDMLSH of 32 bits: the even and the odd elements in 64 bits, on hosts where the encoder's two registers are free between instructions.
fn rounding_words(b: &mut Builder<'_>, minus: bool, width: VecWidth, rd: u8, n: Xmm, m: Xmm) {
    let [x4, x5] = BY_WAY_OF;
    b.v128(ops::VPMULDQ, X2, n, m);
    b.a.vshift(ops::VPSRLQ_I, L, X3, n, 32);
    b.a.vshift(ops::VPSRLQ_I, L, x4, m, 32);
    b.v128(ops::VPMULDQ, X3, X3, x4);
    let old = b.v(rd, X0);
    for (x, odd) in [(X2, false), (X3, true)] {
        if minus {
            b.a.vzero(x5);
            b.v128(ops::VPSUBQ, x, x5, x);
        }
        // The high half of twice the product, rounded.
        b.a.vshift(ops::VPSRAQ_I, L, x, x, 30);
        b.v128(ops::VPADDQ, x, x, sized(ONE, ESize::D));
        b.a.vshift(ops::VPSRAQ_I, L, x, x, 1);
        if odd {
            b.a.vshift(ops::VPSRAQ_I, L, x4, old, 32);
        } else {
            b.a.vshift(ops::VPSLLQ_I, L, x4, old, 32);
            b.a.vshift(ops::VPSRAQ_I, L, x4, x4, 32);
        }
        b.v128(ops::VPADDQ, x, x, x4);
    }
    // X1 = high halves, X2 = low halves of the sums.
    b.a.vshift(ops::VPSRLQ_I, L, X1, X2, 32);
    b.a.v3i(ops::VPBLENDD, L, X1, X1, X3, 0b1010);
    b.a.vshift(ops::VPSLLQ_I, L, X3, X3, 32);
    b.a.v3i(ops::VPBLENDD, L, X2, X2, X3, 0b1010);
    // x4 = where the low half is the sum; elsewhere the limit on its side.
    b.a.vshift(ops::VPSRAD_I, L, x4, X2, 31);
    b.v128(ops::VPCMPEQD, x4, x4, X1);
    b.a.vshift(ops::VPSRAD_I, L, X1, X1, 31);
    b.v128(ops::VPXOR, X1, X1, sized(POSITIVE, ESize::S));
    b.v128(ops::VPAND, X2, X2, x4);
    b.v128(ops::VPANDN, X1, x4, X1);
    b.v128(ops::VPOR, X2, X2, X1);
    b.v128(ops::VPXOR, x4, x4, WIDTH.plus(4));
    b.saturated_in(x4, width);
    b.finish_v(rd, X2, width);
}

/// BSL, BIT or BIF: in X0, or in `rd` itself.
fn select(b: &mut Builder<'_>, op: VecTernOp, rd: u8, rn: u8, rm: u8) -> Xmm {
    if b.host.avx512 {
        let d = b.v(rd, X0);
        let n = b.v(rn, X1);
        let m = b.vm(rm);
        let imm = match op {
            VecTernOp::Bsl => 0xca,
            VecTernOp::Bit => 0xd8,
            _ => 0xe4,
        };
        b.a.v3i(ops::VPTERNLOGQ, L, d, n, m, imm);
        return d;
    }
    let d = b.v(rd, X0);
    let n = b.v(rn, X1);
    let m = b.v(rm, X2);
    // (mask, where set, where clear)
    let (mask, set, clear) = match op {
        VecTernOp::Bsl => (d, n, m),
        VecTernOp::Bit => (m, n, d),
        _ => (m, d, n),
    };
    b.v128(ops::VPANDN, X3, mask, clear);
    b.v128(ops::VPAND, X0, set, mask);
    b.v128(ops::VPOR, X0, X0, X3);
    X0
}

fn ternary(b: &mut Builder<'_>, op: VecTernOp, es: ESize, width: VecWidth, rd: u8, n: Xmm, m: Xmm) {
    let (inner, minus) = match op {
        VecTernOp::Mla => (VecBinOp::Mul, false),
        VecTernOp::Mls => (VecBinOp::Mul, true),
        VecTernOp::Saba => (VecBinOp::Sabd, false),
        VecTernOp::Uaba => (VecBinOp::Uabd, false),
        _ => {
            dot(b, op == VecTernOp::Sdot, n, m);
            let old = b.v(rd, X3);
            return b.finish_op(ops::VPADDD, rd, old, X2, width);
        }
    };
    if let Some(one) = simple(inner, es) {
        b.v128(one, X2, n, m);
    } else {
        binary(b, inner, es, width, n, m);
    }
    let old = b.v(rd, X3);
    b.finish_op(if minus { sub(es) } else { add(es) }, rd, old, X2, width);
}

/// X2 = sums of four products of bytes: the even-numbered and the odd-numbered bytes as words.
fn dot(b: &mut Builder<'_>, signed: bool, n: Xmm, m: Xmm) {
    if signed {
        b.a.vshift(ops::VPSLLW_I, L, X2, n, 8);
        b.a.vshift(ops::VPSLLW_I, L, X3, m, 8);
        b.a.vshift(ops::VPSRAW_I, L, X2, X2, 8);
        b.a.vshift(ops::VPSRAW_I, L, X3, X3, 8);
    } else {
        b.v128(ops::VPAND, X2, n, LOW_HALF);
        b.v128(ops::VPAND, X3, m, LOW_HALF);
    }
    b.v128(ops::VPMADDWD, X2, X2, X3);
    let shift = if signed { ops::VPSRAW_I } else { ops::VPSRLW_I };
    b.a.vshift(shift, L, X0, n, 8);
    b.a.vshift(shift, L, X1, m, 8);
    b.v128(ops::VPMADDWD, X0, X0, X1);
    b.v128(ops::VPADDD, X2, X2, X0);
}
