//! Sign operations, addition, subtraction, multiplication, division and square root.

use super::parts::{Unpacked, Wide, cancelled_zero, invalid, process_nan, process_nans, round, unpack};
use super::{DZC, FpSize, Fpcr, host};

/// `FPAbs`: clears the sign, of NaNs too; no exception.
#[inline]
pub const fn abs(size: FpSize, a: u64) -> u64 {
    a & (size.sign_bit() - 1)
}

/// `FPNeg`: inverts the sign, of NaNs too; no exception.
#[inline]
pub const fn neg(size: FpSize, a: u64) -> u64 {
    (a ^ size.sign_bit()) & size.mask()
}

/// `FPAdd`.
#[inline]
pub fn add(size: FpSize, a: u64, b: u64, fpcr: Fpcr, flags: &mut u32) -> u64 {
    match host::add(size, a, b, fpcr, *flags) {
        Some(r) => r,
        None => add_exact(size, a, b, false, fpcr, flags),
    }
}

/// `FPSub`.
#[inline]
pub fn sub(size: FpSize, a: u64, b: u64, fpcr: Fpcr, flags: &mut u32) -> u64 {
    // The host's subtraction is the addition of the negated operand but for NaNs, which it declines.
    match host::add(size, a, neg(size, b), fpcr, *flags) {
        Some(r) => r,
        None => add_exact(size, a, b, true, fpcr, flags),
    }
}

/// `FPAbs(FPSub(a, b))`, FABD.
#[inline]
pub fn abd(size: FpSize, a: u64, b: u64, fpcr: Fpcr, flags: &mut u32) -> u64 {
    abs(size, sub(size, a, b, fpcr, flags))
}

#[inline(never)]
fn add_exact(size: FpSize, a: u64, b: u64, negate_b: bool, fpcr: Fpcr, flags: &mut u32) -> u64 {
    let ua = unpack(size, a, fpcr, flags);
    let mut ub = unpack(size, b, fpcr, flags);
    if let Some(nan) = process_nans(size, &[(ua, a), (ub, b)], fpcr, flags) {
        return nan; // with the sign it came with: subtraction does not negate a NaN
    }
    ub.sign ^= negate_b;
    match (ua.is_infinite(), ub.is_infinite()) {
        (true, true) if ua.sign != ub.sign => return invalid(size, flags),
        (true, _) => return size.infinity(ua.sign),
        (_, true) => return size.infinity(ub.sign),
        _ => {}
    }
    let sum = match (ua.is_zero(), ub.is_zero()) {
        (true, true) if ua.sign == ub.sign => return size.zero(ua.sign),
        (true, true) => None,
        (true, false) => Some(Wide::from_finite(&ub)),
        (false, true) => Some(Wide::from_finite(&ua)),
        (false, false) => Wide::from_finite(&ua).sum(Wide::from_finite(&ub)),
    };
    match sum {
        Some(sum) => sum.round(size, fpcr, flags),
        None => cancelled_zero(size, fpcr),
    }
}

/// `FPMul`.
#[inline]
pub fn mul(size: FpSize, a: u64, b: u64, fpcr: Fpcr, flags: &mut u32) -> u64 {
    match host::mul(size, a, b, fpcr, *flags) {
        Some(r) => r,
        None => mul_exact(size, a, b, fpcr, flags, invalid_product),
    }
}

/// `FPNeg(FPMul(a, b))`, FNMUL: the sign of a NaN result is inverted too.
#[inline]
pub fn nmul(size: FpSize, a: u64, b: u64, fpcr: Fpcr, flags: &mut u32) -> u64 {
    neg(size, mul(size, a, b, fpcr, flags))
}

/// `FPMulX`: as `FPMul`, but infinity times zero is 2 with the sign of the product, without an exception.
#[inline]
pub fn mulx(size: FpSize, a: u64, b: u64, fpcr: Fpcr, flags: &mut u32) -> u64 {
    match host::mul(size, a, b, fpcr, *flags) {
        Some(r) => r,
        None => mul_exact(size, a, b, fpcr, flags, two),
    }
}

fn invalid_product(size: FpSize, _sign: bool, flags: &mut u32) -> u64 {
    invalid(size, flags)
}

fn two(size: FpSize, sign: bool, _flags: &mut u32) -> u64 {
    size.zero(sign) | ((size.bias() + 1) as u64) << size.fraction_bits()
}

#[inline(never)]
fn mul_exact(
    size: FpSize,
    a: u64,
    b: u64,
    fpcr: Fpcr,
    flags: &mut u32,
    infinity_times_zero: fn(FpSize, bool, &mut u32) -> u64,
) -> u64 {
    let ua = unpack(size, a, fpcr, flags);
    let ub = unpack(size, b, fpcr, flags);
    if let Some(nan) = process_nans(size, &[(ua, a), (ub, b)], fpcr, flags) {
        return nan;
    }
    let sign = ua.sign ^ ub.sign;
    let infinite = ua.is_infinite() || ub.is_infinite();
    let zero = ua.is_zero() || ub.is_zero();
    match (infinite, zero) {
        (true, true) => infinity_times_zero(size, sign, flags),
        (true, false) => size.infinity(sign),
        (false, true) => size.zero(sign),
        (false, false) => Wide::product(&ua, &ub).round(size, fpcr, flags),
    }
}

/// `FPDiv`.
#[inline]
pub fn div(size: FpSize, a: u64, b: u64, fpcr: Fpcr, flags: &mut u32) -> u64 {
    match host::div(size, a, b, fpcr, *flags) {
        Some(r) => r,
        None => div_exact(size, a, b, fpcr, flags),
    }
}

#[inline(never)]
fn div_exact(size: FpSize, a: u64, b: u64, fpcr: Fpcr, flags: &mut u32) -> u64 {
    let ua = unpack(size, a, fpcr, flags);
    let ub = unpack(size, b, fpcr, flags);
    if let Some(nan) = process_nans(size, &[(ua, a), (ub, b)], fpcr, flags) {
        return nan;
    }
    let sign = ua.sign ^ ub.sign;
    if (ua.is_infinite() && ub.is_infinite()) || (ua.is_zero() && ub.is_zero()) {
        return invalid(size, flags);
    }
    if ua.is_infinite() || ub.is_zero() {
        if !ua.is_infinite() {
            *flags |= DZC;
        }
        return size.infinity(sign);
    }
    if ua.is_zero() || ub.is_infinite() {
        return size.zero(sign);
    }
    let (exp, quotient, remainder) = divide(&ua, &ub);
    round(size, sign, exp, quotient | u64::from(remainder), fpcr.rounding(), fpcr, flags)
}

/// Exponent and 64-bit normalised fraction of a quotient, and whether something remained.
fn divide(a: &Unpacked, b: &Unpacked) -> (i32, u64, bool) {
    let (shift, exp) = if a.frac >= b.frac { (63, a.exp - b.exp) } else { (64, a.exp - b.exp - 1) };
    let dividend = u128::from(a.frac) << shift;
    let divisor = u128::from(b.frac);
    ((exp), (dividend / divisor) as u64, dividend % divisor != 0)
}

/// `FPSqrt`.
#[inline]
pub fn sqrt(size: FpSize, a: u64, fpcr: Fpcr, flags: &mut u32) -> u64 {
    match host::sqrt(size, a, fpcr, *flags) {
        Some(r) => r,
        None => sqrt_exact(size, a, fpcr, flags),
    }
}

#[inline(never)]
fn sqrt_exact(size: FpSize, a: u64, fpcr: Fpcr, flags: &mut u32) -> u64 {
    let u = unpack(size, a, fpcr, flags);
    if u.is_nan() {
        return process_nan(size, a, u.kind, fpcr, flags);
    }
    if u.is_zero() {
        return size.zero(u.sign);
    }
    if u.sign {
        return invalid(size, flags);
    }
    if u.is_infinite() {
        return size.infinity(false);
    }
    // The radicand in [1, 4) scaled by 2^126, so that its root in [1, 2) has 64 bits.
    let radicand = u128::from(u.frac) << (63 + (u.exp & 1));
    let root = radicand.isqrt();
    let sticky = root * root != radicand;
    round(size, false, u.exp >> 1, root as u64 | u64::from(sticky), fpcr.rounding(), fpcr, flags)
}
