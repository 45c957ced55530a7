//! Floating point on vectors. Forms of two singles work on both halves of a register with the same values, so that nothing else raises flags.

use isa::insn::{FpBinOp, FpMulAddOp, FpRelation, FpRounding, FpShape, FpSize, FpUnOp, Insn};

use super::convert::round_immediate;
use super::{Constant, L, RAX, X0, X1, X2, X3, constant, fused, plain_op, relation_predicate};
use crate::asm::{Cc, Rm, Sz, Vop, Xmm, ops};
use crate::t1::builder::Builder;
use crate::t1::regs::home_v;

/// Lower one instruction of this family; false if it has no lowering.
pub(super) fn lower(b: &mut Builder<'_>, insn: &Insn) -> bool {
    match *insn {
        Insn::FpBin { op, shape, rd, rn, rm } if shape.lanes > 1 => {
            let Some(row) = plain_op(op) else { return false };
            b.begin(&[], true);
            let n = b.lanes(shape, rn, X0);
            let m = b.lanes(shape, rm, X1);
            operation(b, op, row[2 + usize::from(is_double(shape))], shape, n, m);
            b.set_lanes(shape, rd, X0);
        }
        Insn::FpBinElement { op: FpBinOp::Mul, shape, rd, rn, rm, index } => {
            b.begin(&[], true);
            broadcast(b, shape, rm, index, X1);
            let n = b.lanes(shape, rn, X0);
            let double = is_double(shape);
            if shape.lanes == 1 {
                b.a.v3(if double { ops::VMULSD } else { ops::VMULSS }, L, X0, n, X1);
                b.nan_to_interpreter(double, X0);
            } else {
                b.a.v3(if double { ops::VMULPD } else { ops::VMULPS }, L, X0, n, X1);
                b.nans_to_interpreter(shape, X0, X0);
            }
            b.set_lanes(shape, rd, X0);
        }
        Insn::FpBinElement { op: FpBinOp::MulX, shape, rd, rn, rm, index } => {
            step(b, FpBinOp::MulX, shape, rd, rn, Source::Element(rm, index));
        }
        Insn::FpMulAdd { op, shape, rd, rn, rm, ra } if shape.lanes > 1 => {
            return mul_add(b, op, shape, [rd, rn, ra], Source::Lanes(rm));
        }
        Insn::FpMulAddElement { op, shape, rd, rn, rm, index } => {
            return mul_add(b, op, shape, [rd, rn, rd], Source::Element(rm, index));
        }
        Insn::FpPairwise { op, shape, rd, rn, rm } => return pairwise(b, op, shape, rd, rn, rm),
        Insn::FpReduce { op, shape, rd, rn } => return reduce(b, op, shape, rd, rn),
        Insn::FpUn { op: FpUnOp::Sqrt, shape, rd, rn } if shape.lanes > 1 => {
            b.begin(&[], true);
            let n = b.lanes(shape, rn, X1);
            b.a.v2(if is_double(shape) { ops::VSQRTPD } else { ops::VSQRTPS }, L, X0, n);
            b.nans_to_interpreter(shape, X0, X0);
            b.set_lanes(shape, rd, X0);
        }
        Insn::FpRoundToInt { rounding, exact, shape, rd, rn } if shape.lanes > 1 => {
            let imm = round_immediate(rounding);
            if imm.is_none() && (exact || rounding != Some(FpRounding::TieAway)) {
                return false;
            }
            b.begin(&[], b.mode.fp_careful || imm.is_none());
            let n = b.lanes(shape, rn, X1);
            if let Some(imm) = imm {
                b.careful_nans(shape, n);
                let op = if is_double(shape) { ops::VROUNDPD } else { ops::VROUNDPS };
                b.a.v2i(op, L, X0, n, imm | if exact { 0 } else { 8 });
            } else {
                round_away(b, shape, n);
            }
            b.set_lanes(shape, rd, X0);
        }
        Insn::FpWiden { from: FpSize::Half, .. } | Insn::FpNarrow { to: FpSize::Half, .. } if b.mode.fp_careful => {
            return false;
        }
        Insn::FpWiden { from, upper, rd, rn } => widen(b, from, upper, rd, rn),
        Insn::FpNarrow { to, to_odd: false, upper, rd, rn } => narrow(b, to, upper, rd, rn),
        Insn::FpCompareMask { relation, shape, rd, rn, rm } if shape.lanes > 1 => {
            compare_mask(b, relation, shape, rd, rn, Some(rm), false);
        }
        Insn::FpCompareMaskZero { relation, reversed, shape, rd, rn } if shape.lanes > 1 => {
            compare_mask(b, relation, shape, rd, rn, None, reversed);
        }
        Insn::FpToIntLanes { shape, unsigned, rounding, fraction_bits, rd, rn } if shape.lanes > 1 => {
            return to_integers(b, shape, unsigned, (rounding, fraction_bits), rd, rn);
        }
        Insn::IntToFpLanes { shape, unsigned, fraction_bits, rd, rn } if shape.lanes > 1 => {
            return from_integers(b, shape, unsigned, fraction_bits, rd, rn);
        }
        _ => return false,
    }
    true
}

fn is_double(shape: FpShape) -> bool {
    shape.size == FpSize::Double
}

/// FABS, FNEG.
pub(super) fn sign(b: &mut Builder<'_>, op: FpUnOp, shape: FpShape, rd: u8, rn: u8) {
    let n = b.lanes(shape, rn, X0);
    let (vop, c) = if op == FpUnOp::Abs { (ops::VANDPS, Constant::Abs) } else { (ops::VXORPS, Constant::Sign) };
    b.a.v3(vop, L, X0, n, constant(c, is_double(shape)));
    b.set_lanes(shape, rd, X0);
}

/// xmm0 = `n` op `m`, packed; NaNs go to the interpreter. Uses xmm2 and xmm3.
fn operation(b: &mut Builder<'_>, op: FpBinOp, vop: Vop, shape: FpShape, n: Xmm, m: Xmm) {
    let double = is_double(shape);
    match op {
        FpBinOp::Max | FpBinOp::Min | FpBinOp::MaxNum | FpBinOp::MinNum => {
            b.nans_to_interpreter(shape, n, m);
            b.a.v3(vop, L, X2, n, m);
            b.a.v3(vop, L, X3, m, n);
            let both = if matches!(op, FpBinOp::Max | FpBinOp::MaxNum) { ops::VANDPS } else { ops::VORPS };
            b.a.v3(both, L, X0, X2, X3);
        }
        _ => {
            b.a.v3(vop, L, X0, n, m);
            b.nans_to_interpreter(shape, X0, X0);
            if op == FpBinOp::AbsDiff {
                b.a.v3(ops::VANDPS, L, X0, X0, constant(Constant::Abs, double));
            }
        }
    }
}

/// `dst` = element `index` of `v` in every lane.
fn broadcast(b: &mut Builder<'_>, shape: FpShape, v: u8, index: u8, dst: Xmm) {
    match (b.pin_v(v), is_double(shape)) {
        (Some(x), true) if index == 0 => b.a.v2(ops::VMOVDDUP, L, dst, x),
        (Some(x), true) => b.a.v3(ops::VPUNPCKHQDQ, L, dst, x, x),
        (Some(x), false) => b.a.v2i(ops::VPSHUFD, L, dst, x, (index & 3) * 0x55),
        (None, true) => b.a.v2(ops::VMOVDDUP, L, dst, home_v(v).at(i32::from(index & 1) * 8)),
        (None, false) => b.a.v2(ops::VPBROADCASTD, L, dst, home_v(v).at(i32::from(index & 3) * 4)),
    }
}

/// A second factor.
#[derive(Clone, Copy)]
pub(super) enum Source {
    /// The lanes of a register.
    Lanes(u8),
    /// One element of a register for all lanes.
    Element(u8, u8),
}

fn mul_add(b: &mut Builder<'_>, op: FpMulAddOp, shape: FpShape, [rd, rn, ra]: [u8; 3], m: Source) -> bool {
    let packed = shape.lanes > 1;
    let Some(vop) = fused(op)[usize::from(is_double(shape)) + if packed { 2 } else { 0 }] else { return false };
    b.begin(&[], true);
    let m: Rm = match m {
        Source::Element(v, index) => {
            broadcast(b, shape, v, index, X1);
            X1.into()
        }
        Source::Lanes(v) => b.lanes_or_memory(shape, v, X1),
    };
    let a = b.lanes(shape, ra, X0);
    b.a.vmov(X0, a);
    let n = b.lanes(shape, rn, X2);
    b.a.v3(vop, L, X0, n, m);
    if packed {
        b.nans_to_interpreter(shape, X0, X0);
    } else {
        b.nan_to_interpreter(is_double(shape), X0);
    }
    b.set_lanes(shape, rd, X0);
    true
}

/// `dst` = the elements with even (`odd`: odd) numbers of `n`, then of `m`.
fn unzip(b: &mut Builder<'_>, shape: FpShape, odd: bool, dst: Xmm, n: Xmm, m: Xmm) {
    if is_double(shape) {
        b.a.v3(if odd { ops::VPUNPCKHQDQ } else { ops::VPUNPCKLQDQ }, L, dst, n, m);
    } else {
        b.a.v3i(ops::VSHUFPS, L, dst, n, m, if odd { 0xdd } else { 0x88 });
    }
}

fn pairwise(b: &mut Builder<'_>, op: FpBinOp, shape: FpShape, rd: u8, rn: u8, rm: u8) -> bool {
    let Some(row) = plain_op(op) else { return false };
    b.begin(&[], true);
    let (mut n, mut m) = (b.v(rn, X0), b.v(rm, X1));
    if shape == FpShape::S2 {
        b.a.v3(ops::VPUNPCKLQDQ, L, X0, n, m);
        (n, m) = (X0, X0);
    }
    unzip(b, shape, false, X2, n, m);
    unzip(b, shape, true, X1, n, m);
    b.a.vmov(X0, X2);
    operation(b, op, row[2 + usize::from(is_double(shape))], shape, X0, X1);
    b.set_lanes(shape, rd, X0);
    true
}

/// All elements to one. Only the maximum family has four, for which the order does not matter.
fn reduce(b: &mut Builder<'_>, op: FpBinOp, shape: FpShape, rd: u8, rn: u8) -> bool {
    let Some(row) = plain_op(op) else { return false };
    let double = is_double(shape);
    if shape.lanes == 4 && matches!(op, FpBinOp::Add) {
        return false;
    }
    let vop = row[2 + usize::from(double)];
    b.begin(&[], true);
    let n = b.v(rn, X0);
    if double || shape.lanes == 2 {
        // Both elements of the pair in all lanes, so that no other lane raises flags.
        unzip(b, shape, true, X1, n, n);
        unzip(b, shape, false, X0, n, n);
        if !double {
            b.a.v2i(ops::VPSHUFD, L, X0, X0, 0);
            b.a.v2i(ops::VPSHUFD, L, X1, X1, 0);
        }
        operation(b, op, vop, shape, X0, X1);
    } else {
        b.a.v2i(ops::VPSHUFD, L, X1, n, 0x4e);
        b.a.vmov(X0, n);
        operation(b, op, vop, shape, X0, X1);
        b.a.v2i(ops::VPSHUFD, L, X1, X0, 0xb1);
        operation(b, op, vop, shape, X0, X1);
    }
    b.set_scalar(double, rd, X0, false);
    true
}

/// FCVTL, FCVTL2: NaNs are treated alike on both machines.
fn widen(b: &mut Builder<'_>, from: FpSize, upper: bool, rd: u8, rn: u8) {
    let n = match (b.pin_v(rn), upper) {
        (Some(x), true) => {
            b.a.v3(ops::VPUNPCKHQDQ, L, X0, x, x);
            X0.into()
        }
        (Some(x), false) => x.into(),
        (None, _) => Rm::from(home_v(rn).at(if upper { 8 } else { 0 })),
    };
    b.begin(&[], b.mode.fp_careful);
    let d = if b.mode.fp_careful || b.mode.fp_odd { X0 } else { b.dv(rd, X0) };
    b.a.v2(if from == FpSize::Half { ops::VCVTPH2PS } else { ops::VCVTPS2PD }, L, d, n);
    b.careful_nans(FpShape::D2, d);
    b.set_v(rd, d);
}

/// FCVTN, FCVTN2.
fn narrow(b: &mut Builder<'_>, to: FpSize, upper: bool, rd: u8, rn: u8) {
    b.begin(&[], b.mode.fp_careful);
    let n = b.v(rn, X1);
    if to == FpSize::Half {
        b.a.vsti(ops::VCVTPS2PH, L, X0, n, 4);
    } else {
        b.a.v2(ops::VCVTPD2PS, L, X0, n);
        b.careful_nans(FpShape::S4, X0);
    }
    if upper {
        let old = b.v(rd, X1);
        b.a.v3(ops::VPUNPCKLQDQ, L, X0, old, X0);
    }
    b.set_v(rd, X0);
}

fn compare_mask(b: &mut Builder<'_>, rel: FpRelation, shape: FpShape, rd: u8, rn: u8, rm: Option<u8>, reversed: bool) {
    let double = is_double(shape);
    let (predicate, abs) = relation_predicate(rel);
    let mut n = b.lanes(shape, rn, X0);
    let mut m = match rm {
        Some(m) => b.lanes(shape, m, X1),
        None => {
            b.a.vzero(X1);
            X1
        }
    };
    if abs {
        b.a.v3(ops::VANDPS, L, X0, n, constant(Constant::Abs, double));
        b.a.v3(ops::VANDPS, L, X1, m, constant(Constant::Abs, double));
        (n, m) = (X0, X1);
    }
    if reversed {
        (n, m) = (m, n);
    }
    b.a.v3i(if double { ops::VCMPPD } else { ops::VCMPPS }, L, X0, n, m, predicate);
    b.set_lanes(shape, rd, X0);
}

/// Conversions to integers: the host's indefinite value in any lane goes to the interpreter.
fn to_integers(
    b: &mut Builder<'_>,
    shape: FpShape,
    unsigned: bool,
    (rounding, fraction_bits): (FpRounding, u8),
    rd: u8,
    rn: u8,
) -> bool {
    let double = is_double(shape);
    let op = match (double, unsigned) {
        (false, false) => ops::VCVTTPS2DQ,
        (false, true) => ops::VCVTTPS2UDQ,
        (true, false) => ops::VCVTTPD2QQ,
        (true, true) => ops::VCVTTPD2UQQ,
    };
    if (double || unsigned) && !b.host.avx512 {
        return false;
    }
    b.begin(&[], true);
    let mut n = b.lanes(shape, rn, X1);
    if fraction_bits > 0 {
        // Only numbers that cannot overflow are scaled, which is exact then.
        large_to_interpreter(b, shape, n);
        scale_of(b, double, u64::from(fraction_bits), false);
        b.a.v3(if double { ops::VMULPD } else { ops::VMULPS }, L, X0, n, X3);
        n = X0;
    }
    let t = if rounding == FpRounding::Zero {
        n
    } else if rounding == FpRounding::TieAway {
        round_away(b, shape, n);
        X0
    } else {
        let Some(imm) = round_immediate(Some(rounding)) else { return false };
        b.a.v2i(if double { ops::VROUNDPD } else { ops::VROUNDPS }, L, X2, n, imm | 8);
        X2
    };
    b.a.v2(op, L, X0, t);
    let equal = if double { ops::VPCMPEQQ } else { ops::VPCMPEQD };
    if unsigned {
        b.a.v3(ops::VPCMPEQD, L, X3, X3, X3);
        b.a.v3(equal, L, X3, X0, X3);
    } else {
        b.a.v3(equal, L, X3, X0, constant(Constant::Sign, double));
    }
    let cold = b.interp_cold();
    b.a.v2(ops::VPTEST, L, X3, X3);
    b.a.jcc(Cc::Ne, cold);
    if t != n {
        b.a.v2(op, L, X3, n);
    }
    b.set_lanes(shape, rd, X0);
    true
}

fn from_integers(b: &mut Builder<'_>, shape: FpShape, unsigned: bool, fraction_bits: u8, rd: u8, rn: u8) -> bool {
    let double = is_double(shape);
    let op = match (double, unsigned) {
        (false, false) => ops::VCVTDQ2PS,
        (false, true) => ops::VCVTUDQ2PS,
        (true, false) => ops::VCVTQQ2PD,
        (true, true) => ops::VCVTUQQ2PD,
    };
    if (double || unsigned) && !b.host.avx512 {
        return false;
    }
    let n = b.lanes(shape, rn, X1);
    b.a.v2(op, L, X0, n);
    if fraction_bits > 0 {
        scale_of(b, double, u64::from(fraction_bits), true);
        b.a.v3(if double { ops::VMULPD } else { ops::VMULPS }, L, X0, X0, X3);
    }
    b.set_lanes(shape, rd, X0);
    true
}

/// X3 = two to the `bits`, or its inverse, in all lanes. Uses RAX.
fn scale_of(b: &mut Builder<'_>, double: bool, bits: u64, inverse: bool) {
    let exponent = |bias: u64| if inverse { bias - bits } else { bias + bits };
    b.a.mov_imm(RAX, if double { exponent(1023) << 52 } else { (exponent(127) << 23) * 0x1_0000_0001 });
    b.a.v2(ops::VMOVQ, L, X3, RAX);
    b.a.v2(ops::VMOVDDUP, L, X3, X3);
}

/// To the interpreter if a lane of `n` has no fraction bits, or is no number. Uses X2.
fn large_to_interpreter(b: &mut Builder<'_>, shape: FpShape, n: Xmm) {
    let double = is_double(shape);
    let cold = b.interp_cold();
    b.a.v3(ops::VANDPS, L, X2, n, constant(Constant::Abs, double));
    b.a.v3i(compare(double), L, X2, X2, constant(Constant::Integers, double), NOT_LESS);
    b.a.v2(ops::VPTEST, L, X2, X2);
    b.a.jcc(Cc::Ne, cold);
}

/// X0 = `n` rounded to integral values, ties away from zero, without the inexact flag. Uses X2 and X3.
fn round_away(b: &mut Builder<'_>, shape: FpShape, n: Xmm) {
    let double = is_double(shape);
    let (add, sub) = if double { (ops::VADDPD, ops::VSUBPD) } else { (ops::VADDPS, ops::VSUBPS) };
    large_to_interpreter(b, shape, n);
    // Truncate; where the (exact) rest is at least a half, one more in the direction of the sign.
    b.a.v2i(if double { ops::VROUNDPD } else { ops::VROUNDPS }, L, X3, n, 3 | 8);
    b.a.v3(sub, L, X2, n, X3);
    b.a.v3(ops::VANDPS, L, X2, X2, constant(Constant::Abs, double));
    b.a.v3i(compare(double), L, X2, X2, constant(Constant::Half, double), 0x1d);
    b.a.v3(ops::VANDPS, L, X2, X2, constant(Constant::One, double));
    b.a.v3(ops::VANDPS, L, X0, n, constant(Constant::Sign, double));
    b.a.v3(ops::VORPS, L, X2, X2, X0);
    b.a.v3(add, L, X0, X3, X2);
}

/// Predicate of VCMP: not less than, or unordered; quiet.
const NOT_LESS: u8 = 0x15;

fn compare(double: bool) -> Vop {
    if double { ops::VCMPPD } else { ops::VCMPPS }
}

/// FMULX, FRECPS and FRSQRTS of operands that neither overflow nor are infinite: the others are the interpreter's, so infinity times zero is.
pub(super) fn step(b: &mut Builder<'_>, op: FpBinOp, shape: FpShape, rd: u8, rn: u8, second: Source) {
    let double = is_double(shape);
    b.begin(&[], true);
    let cold = b.interp_cold();
    let packed = shape.lanes > 1;
    let operand = |b: &mut Builder<'_>, v, scratch| {
        if packed { b.lanes(shape, v, scratch) } else { b.scalar(double, v, scratch) }
    };
    let m = match second {
        Source::Lanes(rm) => operand(b, rm, X1),
        Source::Element(rm, index) => {
            broadcast(b, shape, rm, index, X1);
            X1
        }
    };
    let n = operand(b, rn, X0);
    b.a.v3(ops::VANDPS, L, X2, n, constant(Constant::Abs, double));
    b.a.v3(ops::VANDPS, L, X3, m, constant(Constant::Abs, double));
    // Of a scalar the lowest lane alone counts.
    let predicated = match (packed, double) {
        (true, _) => compare(double),
        (false, true) => ops::VCMPSD,
        (false, false) => ops::VCMPSS,
    };
    b.a.v3i(predicated, L, X2, X2, constant(Constant::Moderate, double), NOT_LESS);
    b.a.v3i(predicated, L, X3, X3, constant(Constant::Moderate, double), NOT_LESS);
    b.a.v3(ops::VORPS, L, X2, X2, X3);
    if packed {
        b.a.v2(ops::VPTEST, L, X2, X2);
    } else {
        b.a.vst(if double { ops::VMOVQ_ST } else { ops::VMOVD_ST }, L, RAX, X2);
        b.a.test(Sz::dq(double), RAX, RAX);
    }
    b.a.jcc(Cc::Ne, cold);
    let column = usize::from(double) + if packed { 2 } else { 0 };
    let multiply = [ops::VMULSS, ops::VMULSD, ops::VMULPS, ops::VMULPD][column];
    if op == FpBinOp::MulX {
        b.a.v3(multiply, L, X2, n, m);
    } else {
        let minus = [ops::VFNMADD231SS, ops::VFNMADD231SD, ops::VFNMADD231PS, ops::VFNMADD231PD][column];
        let start = if op == FpBinOp::RecipStep { Constant::Two } else { Constant::Three };
        b.a.vload(X2, constant(start, double));
        b.a.v3(minus, L, X2, n, m);
        if op == FpBinOp::RsqrtStep {
            // Exact: three less a product is zero or far from the smallest numbers.
            b.a.v3(multiply, L, X2, X2, constant(Constant::Half, double));
        }
    }
    if packed {
        b.set_lanes(shape, rd, X2);
    } else {
        b.set_scalar(double, rd, X2, false);
    }
}

impl Builder<'_> {
    /// The elements of `v` that `shape` says, in some host register; two singles are there twice.
    fn lanes(&mut self, shape: FpShape, v: u8, scratch: Xmm) -> Xmm {
        if shape == FpShape::S2 {
            self.a.v2(ops::VMOVDDUP, L, scratch, self.vm(v));
            return scratch;
        }
        self.v(v, scratch)
    }

    /// As [`Builder::lanes`], where memory will do.
    fn lanes_or_memory(&mut self, shape: FpShape, v: u8, scratch: Xmm) -> Rm {
        if shape == FpShape::S2 { self.lanes(shape, v, scratch).into() } else { self.vm(v) }
    }

    /// `v` = the elements of `from` that `shape` says, zero above.
    fn set_lanes(&mut self, shape: FpShape, v: u8, from: Xmm) {
        match shape.lanes {
            1 => self.set_scalar(is_double(shape), v, from, false),
            2 if !is_double(shape) => self.set_scalar(true, v, from, false),
            _ => self.set_v(v, from),
        }
    }

    /// To the interpreter if any lane of `x` is a NaN, where FPCR might ask for another one than the host's. Uses xmm3.
    fn careful_nans(&mut self, shape: FpShape, x: Xmm) {
        if self.mode.fp_careful || self.mode.fp_odd {
            self.nans_to_interpreter(shape, x, x);
        }
    }

    /// To the interpreter if any lane of `n` or `m` is a NaN; of a result, which `n` and `m` are then both, also if one is flushed by FZ. Uses xmm3, under FZ xmm2.
    fn nans_to_interpreter(&mut self, shape: FpShape, n: Xmm, m: Xmm) {
        let cold = self.interp_cold();
        self.a.v3i(if is_double(shape) { ops::VCMPPD } else { ops::VCMPPS }, L, X3, n, m, 3);
        self.a.v2(ops::VPTEST, L, X3, X3);
        self.a.jcc(Cc::Ne, cold);
        if self.mode.fp_odd && n == m {
            self.tiny_lanes_to_interpreter(is_double(shape), n);
        }
    }
}
