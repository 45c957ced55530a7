//! Shifts of vector elements, by immediates and by registers.

use isa::insn::{ESize, Insn, VecShiftOp, VecShiftRegOp, VecWidth};

use crate::asm::{VLen, Xmm, ops};
use crate::constants::{BYTE_SHL, BYTE_SHR, BYTE_SIGN, LOW_BYTE, ONE};
use crate::t1::builder::Builder;

use super::vector::{X0, X1, X2, X3, add, by_size, sized};

const L: VLen = VLen::L128;

/// Lower one instruction of this family; false if it has no lowering.
pub fn lower(b: &mut Builder<'_>, insn: &Insn) -> bool {
    match *insn {
        Insn::VecShift { op, es, width, count, rd, rn } => {
            if op.saturates() {
                return false;
            }
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

/// SSHL and USHL of elements of 32 and 64 bits, and with AVX-512 of 16: left by the count and right by its opposite, both as numbers of eight bits, of which those
/// of the wrong direction are too large to leave anything.
fn by_register(b: &mut Builder<'_>, op: VecShiftRegOp, es: ESize, width: VecWidth, (rd, rn, rm): (u8, u8, u8)) -> bool {
    let signed = op == VecShiftRegOp::Sshl;
    if !(signed || op == VecShiftRegOp::Ushl)
        || es == ESize::B
        || (es == ESize::H || signed && es == ESize::D) && !b.host.avx512
    {
        return false;
    }
    b.begin(&[], false);
    let n = b.v(rn, X0);
    let m = b.v(rm, X1);
    let byte = sized(LOW_BYTE, es);
    let (left, right) = match (es, signed) {
        (ESize::H, false) => (ops::VPSLLVW, ops::VPSRLVW),
        (ESize::H, true) => (ops::VPSLLVW, ops::VPSRAVW),
        (ESize::S, false) => (ops::VPSLLVD, ops::VPSRLVD),
        (ESize::S, true) => (ops::VPSLLVD, ops::VPSRAVD),
        (_, false) => (ops::VPSLLVQ, ops::VPSRLVQ),
        (_, true) => (ops::VPSLLVQ, ops::VPSRAVQ),
    };
    b.a.vzero(X3);
    b.v128(super::vector::sub(es), X3, X3, m);
    b.v128(ops::VPAND, X3, X3, byte);
    b.v128(right, X3, n, X3);
    b.v128(ops::VPAND, X2, m, byte);
    b.v128(left, X2, n, X2);
    if signed {
        // The right shift leaves the sign where it should leave nothing: take it where the count is negative only.
        let up = 8 * u8::try_from(es.bytes() - 1).unwrap_or(0);
        shift(b, Kind::Left, es, X1, m, up);
        match es {
            ESize::H => {
                b.a.vshift(ops::VPSRAW_I, L, X1, X1, 15);
                b.a.v4(ops::VPBLENDVB, L, X2, X2, X3, X1);
            }
            ESize::S => b.a.v4(ops::VBLENDVPS, L, X2, X2, X3, X1),
            _ => b.a.v4(ops::VBLENDVPD, L, X2, X2, X3, X1),
        }
        b.finish_v(rd, X2, width);
    } else {
        b.finish_op(ops::VPOR, rd, X2, X3, width);
    }
    true
}
