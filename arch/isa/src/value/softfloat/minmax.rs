//! Maximum and minimum, with NaNs propagated (`FPMax`) or numbers preferred (`FPMaxNum`).

use super::compare::order;
use super::parts::{Kind, process_nans, unpack};
use super::{FpSize, Fpcr, host};
use std::cmp::Ordering;

/// `FPMax`: NaNs propagate; +0 is larger than -0.
pub fn max(size: FpSize, a: u64, b: u64, fpcr: Fpcr, flags: &mut u32) -> u64 {
    quick(size, a, b, Ordering::Greater).unwrap_or_else(|| pick(size, a, b, Ordering::Greater, fpcr, flags))
}

/// `FPMin`: NaNs propagate; -0 is smaller than +0.
pub fn min(size: FpSize, a: u64, b: u64, fpcr: Fpcr, flags: &mut u32) -> u64 {
    quick(size, a, b, Ordering::Less).unwrap_or_else(|| pick(size, a, b, Ordering::Less, fpcr, flags))
}

/// `FPMaxNum`: a quiet NaN loses against a number.
pub fn max_num(size: FpSize, a: u64, b: u64, fpcr: Fpcr, flags: &mut u32) -> u64 {
    quick(size, a, b, Ordering::Greater).unwrap_or_else(|| {
        let (a, b) = replace_quiet_nan(size, a, b, size.infinity(true), fpcr, flags);
        pick(size, a, b, Ordering::Greater, fpcr, flags)
    })
}

/// `FPMinNum`: a quiet NaN loses against a number.
pub fn min_num(size: FpSize, a: u64, b: u64, fpcr: Fpcr, flags: &mut u32) -> u64 {
    quick(size, a, b, Ordering::Less).unwrap_or_else(|| {
        let (a, b) = replace_quiet_nan(size, a, b, size.infinity(false), fpcr, flags);
        pick(size, a, b, Ordering::Less, fpcr, flags)
    })
}

/// Two different numbers that are zero or normal.
#[inline]
fn quick(size: FpSize, a: u64, b: u64, first_if: Ordering) -> Option<u64> {
    match host::order(size, a, b)? {
        Ordering::Equal => None, // perhaps two zeros
        order => Some(if order == first_if { a } else { b }),
    }
}

/// A single quiet NaN becomes the neutral element; against another quiet NaN it stays one, and a signalling NaN wins by itself.
#[inline(never)]
fn replace_quiet_nan(size: FpSize, a: u64, b: u64, neutral: u64, fpcr: Fpcr, flags: &mut u32) -> (u64, u64) {
    let ka = unpack(size, a, fpcr, flags).kind;
    let kb = unpack(size, b, fpcr, flags).kind;
    match (ka == Kind::QuietNan, kb == Kind::QuietNan) {
        (true, false) => (neutral, b),
        (false, true) => (a, neutral),
        _ => (a, b),
    }
}

#[inline(never)]
fn pick(size: FpSize, a: u64, b: u64, first_if: Ordering, fpcr: Fpcr, flags: &mut u32) -> u64 {
    let ua = unpack(size, a, fpcr, flags);
    let ub = unpack(size, b, fpcr, flags);
    if let Some(nan) = process_nans(size, &[(ua, a), (ub, b)], fpcr, flags) {
        return nan;
    }
    let (chosen, bits) = if order(&ua, &ub) == first_if { (ua, a) } else { (ub, b) };
    if !chosen.is_zero() {
        return bits & size.mask();
    }
    // The sign matters between two zeros only; against a number that lost, the combination is the sign of the zero itself.
    let sign = if first_if == Ordering::Greater { ua.sign && ub.sign } else { ua.sign || ub.sign };
    size.zero(sign)
}
