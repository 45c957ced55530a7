//! Reductions of a vector to one element, and sums of neighbours.

use isa::insn::{ESize, VecAcrossOp, VecWidth};

use crate::asm::{VLen, Vop, Xmm, ops};
use crate::constants::{LOW_HALF, ONE, POSITIVE, SIGN, WIDTH};
use crate::t1::builder::Builder;

use super::vector::{X0, X1, X2, X3, add, sized};

const L: VLen = VLen::L128;

/// X0 = the reduction in its lowest element; what is above is undefined.
pub fn across(b: &mut Builder<'_>, op: VecAcrossOp, es: ESize, width: VecWidth, rn: u8) {
    use VecAcrossOp::{Addv, Saddlv, Smaxv, Sminv, Uaddlv, Umaxv, Uminv};
    let n = b.v(rn, X0);
    let full = width == VecWidth::Q16;
    match (op, es) {
        (Addv | Uaddlv | Saddlv, ESize::B) => {
            let mut n = n;
            if op == Saddlv {
                b.v128(ops::VPXOR, X0, n, sized(SIGN, ESize::B));
                n = X0;
            }
            b.a.vzero(X1);
            b.v128(ops::VPSADBW, X0, n, X1);
            if full {
                b.a.v2i(ops::VPSHUFD, L, X1, X0, 0xee);
                b.v128(ops::VPADDQ, X0, X0, X1);
            }
            if op == Saddlv {
                // 128 too much for each element: 1024 or 2048, as a shifted constant.
                b.ones(X1);
                b.a.vshift(ops::VPSLLW_I, L, X1, X1, if full { 11 } else { 10 });
                b.v128(ops::VPADDW, X0, X0, X1);
            }
        }
        (Uaddlv, ESize::H) => {
            pair_long(b, false, ESize::H, n);
            fold(b, ops::VPADDD, X2, ESize::S, full);
        }
        (Saddlv, ESize::H) => {
            pair_long(b, true, ESize::H, n);
            fold(b, ops::VPADDD, X2, ESize::S, full);
        }
        (Uaddlv | Saddlv, _) => {
            pair_long(b, op == Saddlv, ESize::S, n);
            fold(b, ops::VPADDQ, X2, ESize::D, full);
        }
        (Addv, _) => fold(b, add(es), n, es, full),
        (Umaxv | Uminv | Smaxv | Sminv, ESize::B | ESize::H) => extreme(b, op, es, n, full),
        (Umaxv, _) => fold(b, ops::VPMAXUD, n, es, full),
        (Uminv, _) => fold(b, ops::VPMINUD, n, es, full),
        (Smaxv, _) => fold(b, ops::VPMAXSD, n, es, full),
        (Sminv, _) => fold(b, ops::VPMINSD, n, es, full),
    }
}

/// X0 = all elements of `n` combined, by halves.
fn fold(b: &mut Builder<'_>, op: Vop, n: Xmm, es: ESize, full: bool) {
    let mut at = n;
    let mut bytes = if full { 8u8 } else { 4 };
    while u32::from(bytes) >= es.bytes() {
        b.a.vshift(ops::VPSRLDQ, L, X1, at, bytes);
        b.v128(op, X0, at, X1);
        at = X0;
        bytes /= 2;
    }
    b.a.vmov(X0, at);
}

/// X0 = least or greatest element, by VPHMINPOSUW: the others are minima of flipped elements.
fn extreme(b: &mut Builder<'_>, op: VecAcrossOp, es: ESize, n: Xmm, full: bool) {
    let flip = match op {
        VecAcrossOp::Uminv => None,
        VecAcrossOp::Umaxv => Some(WIDTH.plus(4)),
        VecAcrossOp::Sminv => Some(sized(SIGN, es)),
        _ => Some(sized(POSITIVE, es)),
    };
    let mut n = n;
    if let Some(flip) = flip {
        b.v128(ops::VPXOR, X0, n, flip);
        n = X0;
    }
    if !full {
        b.v128(ops::VPUNPCKLQDQ, X0, n, n);
        n = X0;
    }
    if es == ESize::B {
        b.a.vshift(ops::VPSRLW_I, L, X1, n, 8);
        b.v128(ops::VPMINUB, X0, n, X1);
        n = X0;
    }
    b.a.v2(ops::VPHMINPOSUW, L, X0, n);
    if let Some(flip) = flip {
        b.v128(ops::VPXOR, X0, X0, flip);
    }
}

/// X2 = sums of neighbours, of twice the size. X0, X1 and X3 are lost.
pub fn pair_long(b: &mut Builder<'_>, signed: bool, es: ESize, n: Xmm) {
    match (es, signed) {
        (ESize::B, true) => {
            b.a.vload(X1, sized(ONE, ESize::B).mem());
            b.v128(ops::VPMADDUBSW, X2, X1, n);
        }
        (ESize::B, false) => b.v128(ops::VPMADDUBSW, X2, n, sized(ONE, ESize::B)),
        (ESize::H, true) => b.v128(ops::VPMADDWD, X2, n, sized(ONE, ESize::H)),
        (ESize::H, false) => {
            b.v128(ops::VPAND, X2, n, LOW_HALF.plus(1));
            b.a.vshift(ops::VPSRLD_I, L, X3, n, 16);
            b.v128(ops::VPADDD, X2, X2, X3);
        }
        (_, false) => {
            b.v128(ops::VPAND, X2, n, LOW_HALF.plus(2));
            b.a.vshift(ops::VPSRLQ_I, L, X3, n, 32);
            b.v128(ops::VPADDQ, X2, X2, X3);
        }
        (_, true) => {
            // Multiplication by one extends the low halves.
            b.a.vload(X1, sized(ONE, ESize::D).mem());
            b.v128(ops::VPMULDQ, X2, n, X1);
            b.a.vshift(ops::VPSRLQ_I, L, X3, n, 32);
            b.v128(ops::VPMULDQ, X3, X3, X1);
            b.v128(ops::VPADDQ, X2, X2, X3);
        }
    }
}
