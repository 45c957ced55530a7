//! Floating-point operations on the elements of a 128-bit register, built from [`softfloat`](super::softfloat): what an interpreter
//! executes and what a translator calls for cases that it does not emit. Bits above the shape are zero in every result.

use super::softfloat as soft;
use crate::fp::{FpBinOp, FpMulAddOp, FpRelation, FpRounding, FpShape, FpSize, FpUnOp, Fpcr, IntFormat};

#[inline]
fn lane(v: u128, size: FpSize, index: u32) -> u64 {
    (v >> (index * size.bits())) as u64 & size.mask()
}

/// Builds a register from one value per element.
#[inline]
fn build(shape: FpShape, mut f: impl FnMut(u32) -> u64) -> u128 {
    let bits = shape.size.bits();
    (0..u32::from(shape.lanes)).fold(0, |v, index| v | u128::from(f(index)) << (index * bits))
}

/// One operand.
pub fn un(op: FpUnOp, shape: FpShape, a: u128, fpcr: Fpcr, flags: &mut u32) -> u128 {
    let size = shape.size;
    build(shape, |i| {
        let a = lane(a, size, i);
        match op {
            FpUnOp::Move => a,
            FpUnOp::Abs => soft::abs(size, a),
            FpUnOp::Neg => soft::neg(size, a),
            FpUnOp::Sqrt => soft::sqrt(size, a, fpcr, flags),
            FpUnOp::RecipEstimate => soft::recip_estimate(size, a, fpcr, flags),
            FpUnOp::RsqrtEstimate => soft::rsqrt_estimate(size, a, fpcr, flags),
            FpUnOp::RecipExponent => soft::recip_exponent(size, a, fpcr, flags),
            FpUnOp::UnsignedRecipEstimate => soft::unsigned_recip_estimate(a as u32).into(),
            FpUnOp::UnsignedRsqrtEstimate => soft::unsigned_rsqrt_estimate(a as u32).into(),
        }
    })
}

/// Applies `f` to the elements of up to three registers, with the format a constant in each copy of `f`: the host paths of
/// [`softfloat`](super::softfloat) then are a few instructions per element.
#[inline(always)]
fn map3(shape: FpShape, a: u128, b: u128, c: u128, mut f: impl FnMut(FpSize, u64, u64, u64) -> u64) -> u128 {
    const LOW: u64 = u32::MAX as u64;
    let halves = |x: u128| (x as u64, (x >> 64) as u64);
    let ((a0, a1), (b0, b1), (c0, c1)) = (halves(a), halves(b), halves(c));
    if shape.size == FpSize::Double {
        let low = f(FpSize::Double, a0, b0, c0);
        let high = if shape.lanes == 1 { 0 } else { f(FpSize::Double, a1, b1, c1) };
        return u128::from(low) | u128::from(high) << 64;
    }
    let mut single = |a, b, c| f(FpSize::Single, a, b, c);
    let low = single(a0 & LOW, b0 & LOW, c0 & LOW);
    if shape.lanes == 1 {
        return low.into();
    }
    let mut result = u128::from(low | single(a0 >> 32, b0 >> 32, c0 >> 32) << 32);
    if shape.lanes == 4 {
        let high = single(a1 & LOW, b1 & LOW, c1 & LOW) | single(a1 >> 32, b1 >> 32, c1 >> 32) << 32;
        result |= u128::from(high) << 64;
    }
    result
}

/// One element of a two-operand operation.
fn bin_element(op: FpBinOp, size: FpSize, a: u64, b: u64, fpcr: Fpcr, flags: &mut u32) -> u64 {
    bin(op, FpShape { size, lanes: 1 }, a.into(), b.into(), fpcr, flags) as u64
}

/// Two operands. The shape holds singles or doubles.
pub fn bin(op: FpBinOp, shape: FpShape, a: u128, b: u128, fpcr: Fpcr, flags: &mut u32) -> u128 {
    macro_rules! each {
        ($function:path) => {
            map3(shape, a, b, 0, |size, a, b, _| $function(size, a, b, fpcr, flags))
        };
    }
    match op {
        FpBinOp::Add => each!(soft::add),
        FpBinOp::Sub => each!(soft::sub),
        FpBinOp::Mul => each!(soft::mul),
        FpBinOp::NegMul => each!(soft::nmul),
        FpBinOp::Div => each!(soft::div),
        FpBinOp::Max => each!(soft::max),
        FpBinOp::Min => each!(soft::min),
        FpBinOp::MaxNum => each!(soft::max_num),
        FpBinOp::MinNum => each!(soft::min_num),
        FpBinOp::MulX => each!(soft::mulx),
        FpBinOp::AbsDiff => each!(soft::abd),
        FpBinOp::RecipStep => each!(soft::recip_step),
        FpBinOp::RsqrtStep => each!(soft::rsqrt_step),
    }
}

/// Adjacent pairs: those of `a` fill the lower half, those of `b` the upper half.
pub fn pairwise(op: FpBinOp, shape: FpShape, a: u128, b: u128, fpcr: Fpcr, flags: &mut u32) -> u128 {
    let (size, half) = (shape.size, u32::from(shape.lanes) / 2);
    build(shape, |i| {
        let (v, i) = if i < half { (a, 2 * i) } else { (b, 2 * (i - half)) };
        bin_element(op, size, lane(v, size, i), lane(v, size, i + 1), fpcr, flags)
    })
}

/// `Reduce`: the lower half against the upper half, each reduced first. `shape` is the source's.
pub fn reduce(op: FpBinOp, shape: FpShape, a: u128, fpcr: Fpcr, flags: &mut u32) -> u128 {
    let size = shape.size;
    let mut pair = |i| bin_element(op, size, lane(a, size, i), lane(a, size, i + 1), fpcr, flags);
    let low = pair(0);
    if shape.lanes == 2 {
        return low.into();
    }
    let high = pair(2);
    bin_element(op, size, low, high, fpcr, flags).into()
}

/// Fused multiply-add. The shape holds singles or doubles.
pub fn mul_add(op: FpMulAddOp, shape: FpShape, addend: u128, a: u128, b: u128, fpcr: Fpcr, flags: &mut u32) -> u128 {
    let negate_if = |yes: bool, size, x| if yes { soft::neg(size, x) } else { x };
    map3(shape, addend, a, b, |size, addend, a, b| {
        let addend = negate_if(op.negates_addend(), size, addend);
        soft::mul_add(size, addend, negate_if(op.negates_product(), size, a), b, fpcr, flags)
    })
}

/// One element copied to all.
pub fn broadcast(shape: FpShape, a: u128, index: u8) -> u128 {
    let element = lane(a, shape.size, u32::from(index));
    build(shape, |_| element)
}

/// The same constant in every element.
pub fn splat(shape: FpShape, element: u64) -> u128 {
    build(shape, |_| element & shape.size.mask())
}

/// All ones in the elements where the relation holds.
pub fn compare_mask(relation: FpRelation, shape: FpShape, a: u128, b: u128, fpcr: Fpcr, flags: &mut u32) -> u128 {
    let size = shape.size;
    build(shape, |i| soft::compare_mask(size, relation, lane(a, size, i), lane(b, size, i), fpcr, flags))
}

/// To an integral value in the same format; `None` rounds by FPCR.
pub fn round_to_int(
    shape: FpShape,
    rounding: Option<FpRounding>,
    exact: bool,
    a: u128,
    fpcr: Fpcr,
    flags: &mut u32,
) -> u128 {
    let rounding = rounding.unwrap_or(fpcr.rounding());
    build(shape, |i| soft::round_to_int(shape.size, lane(a, shape.size, i), rounding, exact, fpcr, flags))
}

/// To integers or fixed point of the same width.
pub fn to_int(shape: FpShape, format: IntFormat, rounding: FpRounding, a: u128, fpcr: Fpcr, flags: &mut u32) -> u128 {
    build(shape, |i| soft::to_int(shape.size, lane(a, shape.size, i), format, rounding, fpcr, flags))
}

/// From integers or fixed point of the same width, rounded by FPCR.
pub fn from_int(shape: FpShape, format: IntFormat, a: u128, fpcr: Fpcr, flags: &mut u32) -> u128 {
    build(shape, |i| soft::from_int(shape.size, lane(a, shape.size, i), format, fpcr.rounding(), fpcr, flags))
}

/// FCVT: the lowest element to another format, rounded by FPCR.
pub fn convert(from: FpSize, to: FpSize, a: u128, fpcr: Fpcr, flags: &mut u32) -> u128 {
    soft::convert(from, to, lane(a, from, 0), fpcr.rounding(), fpcr, flags).into()
}

/// The next larger format.
const fn wider(size: FpSize) -> FpSize {
    match size {
        FpSize::Half => FpSize::Single,
        _ => FpSize::Double,
    }
}

/// FCVTL and FCVTL2: the elements of the lower or upper half of `a`, in format `from`, to the next larger one.
pub fn widen(from: FpSize, upper: bool, a: u128, fpcr: Fpcr, flags: &mut u32) -> u128 {
    let to = wider(from);
    let half = if upper { a >> 64 } else { a };
    let shape = FpShape { size: to, lanes: (128 / to.bits()) as u8 };
    build(shape, |i| soft::convert(from, to, lane(half, from, i), fpcr.rounding(), fpcr, flags))
}

/// FCVTN, FCVTXN: the lowest `lanes` elements of `a` to the next smaller format `to`, adjacent in the result. `to_odd` rounds to odd.
pub fn narrow(to: FpSize, to_odd: bool, lanes: u8, a: u128, fpcr: Fpcr, flags: &mut u32) -> u128 {
    let from = wider(to);
    let rounding = if to_odd { FpRounding::Odd } else { fpcr.rounding() };
    build(FpShape { size: to, lanes }, |i| soft::convert(from, to, lane(a, from, i), rounding, fpcr, flags))
}
