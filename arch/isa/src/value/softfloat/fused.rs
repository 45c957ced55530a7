//! Fused multiply-add, and the Newton-Raphson steps that are built on it: one rounding of an exact value.

use super::arith::neg;
use super::parts::{Unpacked, Wide, cancelled_zero, invalid, process_nans, unpack};
use super::{FpSize, Fpcr, host};

/// `FPMulAdd`: `addend + a * b`, rounded once. Callers negate operands (not the result) for the other members of the family.
#[inline]
pub fn mul_add(size: FpSize, addend: u64, a: u64, b: u64, fpcr: Fpcr, flags: &mut u32) -> u64 {
    match host::mul_add(size, addend, a, b, fpcr, *flags) {
        Some(r) => r,
        None => mul_add_exact(size, addend, a, b, fpcr, flags),
    }
}

fn infinity_times_zero(a: &Unpacked, b: &Unpacked) -> bool {
    (a.is_infinite() && b.is_zero()) || (a.is_zero() && b.is_infinite())
}

#[inline(never)]
fn mul_add_exact(size: FpSize, addend: u64, a: u64, b: u64, fpcr: Fpcr, flags: &mut u32) -> u64 {
    let uc = unpack(size, addend, fpcr, flags);
    let ua = unpack(size, a, fpcr, flags);
    let ub = unpack(size, b, fpcr, flags);
    let nan = process_nans(size, &[(uc, addend), (ua, a), (ub, b)], fpcr, flags);
    if infinity_times_zero(&ua, &ub) && uc.kind != super::parts::Kind::SignallingNan {
        return invalid(size, flags); // even when the addend is a quiet NaN
    }
    if let Some(nan) = nan {
        return nan;
    }
    let product_sign = ua.sign ^ ub.sign;
    let product_infinite = ua.is_infinite() || ub.is_infinite();
    match (uc.is_infinite(), product_infinite) {
        (true, true) if uc.sign != product_sign => return invalid(size, flags),
        (true, _) => return size.infinity(uc.sign),
        (_, true) => return size.infinity(product_sign),
        _ => {}
    }
    let product_zero = ua.is_zero() || ub.is_zero();
    if uc.is_zero() && product_zero && uc.sign == product_sign {
        return size.zero(uc.sign);
    }
    let product = (!product_zero).then(|| Wide::product(&ua, &ub));
    let addend = (!uc.is_zero()).then(|| Wide::from_finite(&uc));
    round_sum(size, addend, product, 0, fpcr, flags)
}

/// Rounds `(addend + product) * 2^scale`, where `None` is zero.
fn round_sum(
    size: FpSize,
    addend: Option<Wide>,
    product: Option<Wide>,
    scale: i32,
    fpcr: Fpcr,
    flags: &mut u32,
) -> u64 {
    let sum = match (addend, product) {
        (Some(a), Some(p)) => a.sum(p),
        (a, p) => a.or(p),
    };
    match sum {
        Some(sum) => Wide { exp: sum.exp + scale, ..sum }.round(size, fpcr, flags),
        None => cancelled_zero(size, fpcr),
    }
}

/// `FPRecipStepFused`, FRECPS: `2 - a * b`.
pub fn recip_step(size: FpSize, a: u64, b: u64, fpcr: Fpcr, flags: &mut u32) -> u64 {
    let two = ((size.bias() + 1) as u64) << size.fraction_bits();
    step(
        size,
        a,
        b,
        Constant { value: Wide { sign: false, exp: 1, frac: 1 << 126 }, scale: 0, limit: two },
        fpcr,
        flags,
    )
}

/// `FPRSqrtStepFused`, FRSQRTS: `(3 - a * b) / 2`.
pub fn rsqrt_step(size: FpSize, a: u64, b: u64, fpcr: Fpcr, flags: &mut u32) -> u64 {
    let one_and_a_half = (size.bias() as u64) << size.fraction_bits() | 1 << (size.fraction_bits() - 1);
    let three = Wide { sign: false, exp: 1, frac: 0b11 << 125 };
    step(size, a, b, Constant { value: three, scale: -1, limit: one_and_a_half }, fpcr, flags)
}

/// What tells the two steps apart: `(value - a * b) * 2^scale`, and the result of infinity times zero.
struct Constant {
    value: Wide,
    scale: i32,
    limit: u64,
}

fn step(size: FpSize, a: u64, b: u64, constant: Constant, fpcr: Fpcr, flags: &mut u32) -> u64 {
    let a = neg(size, a); // before the NaN rules: a NaN comes out with its sign inverted
    let ua = unpack(size, a, fpcr, flags);
    let ub = unpack(size, b, fpcr, flags);
    if let Some(nan) = process_nans(size, &[(ua, a), (ub, b)], fpcr, flags) {
        return nan;
    }
    if infinity_times_zero(&ua, &ub) {
        return constant.limit;
    }
    if ua.is_infinite() || ub.is_infinite() {
        return size.infinity(ua.sign ^ ub.sign);
    }
    let product = (!ua.is_zero() && !ub.is_zero()).then(|| Wide::product(&ua, &ub));
    round_sum(size, Some(constant.value), product, constant.scale, fpcr, flags)
}
