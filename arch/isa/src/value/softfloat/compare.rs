//! Comparisons, to flags and to lane masks.

use super::arith::abs;
use super::parts::{Kind, Unpacked, unpack};
use super::{FpSize, Fpcr, IOC, host};
use std::cmp::Ordering;

/// The relation that a lane-wise comparison tests.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub enum FpRelation {
    /// `FPCompareEQ`: equal; a quiet NaN is not an exception.
    Equal,
    /// `FPCompareGE`: greater or equal; any NaN sets IOC.
    GreaterEqual,
    /// `FPCompareGT`: greater; any NaN sets IOC.
    Greater,
    /// FACGE: `GreaterEqual` of the absolute values.
    AbsGreaterEqual,
    /// FACGT: `Greater` of the absolute values.
    AbsGreater,
}

/// The order of two numbers that are not NaNs; zeros are equal whatever their signs.
pub(super) fn order(a: &Unpacked, b: &Unpacked) -> Ordering {
    let key = |u: &Unpacked| match u.kind {
        Kind::Zero => (0, 0, 0),
        Kind::Infinity => (1, i32::MAX, 0),
        _ => (1, u.exp, u.frac),
    };
    let magnitude = |u: &Unpacked| (key(u), u.sign && u.kind != Kind::Zero);
    match (magnitude(a), magnitude(b)) {
        ((ka, false), (kb, false)) => ka.cmp(&kb),
        ((ka, true), (kb, true)) => kb.cmp(&ka),
        ((_, true), (_, false)) => Ordering::Less,
        ((_, false), (_, true)) => Ordering::Greater,
    }
}

/// The order, or `None` when a NaN makes them unordered; `signal` says whether a quiet NaN sets IOC as well.
#[inline]
fn partial_order(size: FpSize, a: u64, b: u64, signal: bool, fpcr: Fpcr, flags: &mut u32) -> Option<Ordering> {
    if let Some(order) = host::order(size, a, b) {
        return Some(order);
    }
    let ua = unpack(size, a, fpcr, flags);
    let ub = unpack(size, b, fpcr, flags);
    if ua.is_nan() || ub.is_nan() {
        if signal || ua.kind == Kind::SignallingNan || ub.kind == Kind::SignallingNan {
            *flags |= IOC;
        }
        return None;
    }
    Some(order(&ua, &ub))
}

/// `FPCompare`: NZCV as a 4-bit number (N is bit 3). `signal_all_nans` is FCMPE's.
pub fn compare(size: FpSize, a: u64, b: u64, signal_all_nans: bool, fpcr: Fpcr, flags: &mut u32) -> u8 {
    match partial_order(size, a, b, signal_all_nans, fpcr, flags) {
        None => 0b0011,
        Some(Ordering::Equal) => 0b0110,
        Some(Ordering::Less) => 0b1000,
        Some(Ordering::Greater) => 0b0010,
    }
}

/// `FPCompareEQ`, `GE`, `GT` and the absolute forms: all ones of the lane if the relation holds, else zero.
pub fn compare_mask(size: FpSize, relation: FpRelation, a: u64, b: u64, fpcr: Fpcr, flags: &mut u32) -> u64 {
    let (a, b) = match relation {
        FpRelation::AbsGreaterEqual | FpRelation::AbsGreater => (abs(size, a), abs(size, b)),
        _ => (a, b),
    };
    let order = partial_order(size, a, b, relation != FpRelation::Equal, fpcr, flags);
    let holds = match relation {
        FpRelation::Equal => order == Some(Ordering::Equal),
        FpRelation::GreaterEqual | FpRelation::AbsGreaterEqual => {
            matches!(order, Some(Ordering::Greater | Ordering::Equal))
        }
        FpRelation::Greater | FpRelation::AbsGreater => order == Some(Ordering::Greater),
    };
    if holds { size.mask() } else { 0 }
}
