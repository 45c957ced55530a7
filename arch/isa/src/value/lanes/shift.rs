//! Shifts: by an immediate, by an immediate with insertion, and by a register.

use super::{ESize, Lane, VecWidth, by_signed, by_unsigned, map1, map2};

/// A shift of each lane by the same constant.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Hash)]
#[repr(u8)]
pub enum VecShiftOp {
    /// Left.
    Shl,
    /// Right, signed.
    Sshr,
    /// Right, unsigned.
    Ushr,
    /// Right, signed, rounding.
    Srshr,
    /// Right, unsigned, rounding.
    Urshr,
    /// Left, signed, saturating.
    Sqshl,
    /// Left, unsigned, saturating.
    Uqshl,
    /// Left, of a signed element to an unsigned one, saturating.
    Sqshlu,
}

impl VecShiftOp {
    /// Whether the operation can saturate, and so set FPSR.QC.
    pub const fn saturates(self) -> bool {
        matches!(self, VecShiftOp::Sqshl | VecShiftOp::Uqshl | VecShiftOp::Sqshlu)
    }

    /// Whether it shifts left: counts are then 0 to the element's bits less one, else 1 to the element's bits.
    pub const fn left(self) -> bool {
        matches!(self, VecShiftOp::Shl | VecShiftOp::Sqshl | VecShiftOp::Uqshl | VecShiftOp::Sqshlu)
    }
}

/// Shifts each element of size `es` in the low `width` bytes of `a` by `count`.
///
/// A count outside the range that [`VecShiftOp::left`] names gives an unspecified value (and no panic).
pub fn shift(op: VecShiftOp, es: ESize, width: VecWidth, a: u128, count: u32, qc: &mut bool) -> u128 {
    use VecShiftOp::*;
    let a = width.truncate(a);
    // A right shift by the element's own size is legal, and the host's shift by one less than it has the same sign fill.
    let (below, top) = (count.saturating_sub(1), es.bits() - 1);
    let result = match op {
        Shl => by_unsigned!(es, T => map1::<T, _>(a, |x| x.wrapping_shl(count))),
        Sshr => by_signed!(es, T => map1::<T, _>(a, |x| x >> count.min(top))),
        Ushr => by_unsigned!(es, T => map1::<T, _>(a, |x| x.wrapping_shr(below) >> 1)),
        Srshr => by_signed!(es, T => map1::<T, _>(a, |x| {
            let half = x.wrapping_shr(below);
            (half >> 1).wrapping_add(half & 1)
        })),
        Urshr => by_unsigned!(es, T => map1::<T, _>(a, |x| {
            let half = x.wrapping_shr(below);
            (half >> 1).wrapping_add(half & 1)
        })),
        Sqshl | Uqshl | Sqshlu => return width.truncate(left_saturating(op, es, a, count, qc)),
    };
    width.truncate(result)
}

fn left_saturating(op: VecShiftOp, es: ESize, a: u128, count: u32, qc: &mut bool) -> u128 {
    let saturated = core::cell::Cell::new(false);
    let flag = |hit: bool| saturated.set(saturated.get() | hit);
    let result = match op {
        VecShiftOp::Sqshl => by_signed!(es, T => map1::<T, _>(a, |x| {
            let shifted = x.wrapping_shl(count);
            let lost = shifted.wrapping_shr(count) != x;
            flag(lost);
            if !lost { shifted } else if x < 0 { T::MIN } else { T::MAX }
        })),
        VecShiftOp::Uqshl => by_unsigned!(es, T => map1::<T, _>(a, |x| {
            let shifted = x.wrapping_shl(count);
            let lost = shifted.wrapping_shr(count) != x;
            flag(lost);
            if lost { T::MAX } else { shifted }
        })),
        _ => by_unsigned!(es, T => map1::<T, _>(a, |x| {
            let negative = x.cast_signed() < 0;
            let shifted = x.wrapping_shl(count);
            let lost = shifted.wrapping_shr(count) != x;
            flag(lost | negative);
            if negative { 0 } else if lost { T::MAX } else { shifted }
        })),
    };
    *qc |= saturated.get();
    result
}

/// SLI (`left`) and SRI: each shifted element of `a` inserted into `d`, whose bits stay where the shift brought none.
///
/// `count` is 0 to the element's bits less one for SLI, 1 to the element's bits for SRI.
pub fn shift_insert(left: bool, es: ESize, width: VecWidth, d: u128, a: u128, count: u32) -> u128 {
    let op = if left { VecShiftOp::Shl } else { VecShiftOp::Ushr };
    let mut never = false;
    let moved = shift(op, es, VecWidth::Q16, a, count, &mut never);
    let mask = shift(op, es, VecWidth::Q16, u128::MAX, count, &mut never);
    width.truncate((d & !mask) | moved)
}

/// A shift of each lane by the signed low byte of the second operand's lane; negative counts shift right.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Hash)]
#[repr(u8)]
pub enum VecShiftRegOp {
    /// Signed.
    Sshl,
    /// Unsigned.
    Ushl,
    /// Signed, rounding.
    Srshl,
    /// Unsigned, rounding.
    Urshl,
    /// Signed, saturating.
    Sqshl,
    /// Unsigned, saturating.
    Uqshl,
    /// Signed, rounding, saturating.
    Sqrshl,
    /// Unsigned, rounding, saturating.
    Uqrshl,
}

impl VecShiftRegOp {
    /// Whether the operation can saturate, and so set FPSR.QC.
    pub const fn saturates(self) -> bool {
        use VecShiftRegOp::*;
        matches!(self, Sqshl | Uqshl | Sqrshl | Uqrshl)
    }

    /// Whether a right shift rounds.
    pub const fn rounds(self) -> bool {
        use VecShiftRegOp::*;
        matches!(self, Srshl | Urshl | Sqrshl | Uqrshl)
    }

    /// Whether the elements are signed.
    pub const fn signed(self) -> bool {
        use VecShiftRegOp::*;
        matches!(self, Sshl | Srshl | Sqshl | Sqrshl)
    }
}

/// Shifts each element of size `es` in the low `width` bytes of `a` by the low byte of the same element of `b`.
#[expect(clippy::unnecessary_cast, reason = "the expression is expanded for each element size")]
pub fn shift_register(op: VecShiftRegOp, es: ESize, width: VecWidth, a: u128, b: u128, qc: &mut bool) -> u128 {
    let (a, b) = (width.truncate(a), width.truncate(b));
    let bits = es.bits() as i32;
    let result = match op {
        VecShiftRegOp::Sshl => by_signed!(es, T => map2::<T, _>(a, b, |x, y| {
            let n = i32::from(y as i8);
            if n >= bits { 0 } else if n >= 0 { x << n } else { x >> (-n).min(bits - 1) }
        })),
        VecShiftRegOp::Ushl => by_unsigned!(es, T => map2::<T, _>(a, b, |x, y| {
            let n = i32::from(y as i8);
            if n >= bits || n <= -bits { 0 } else if n >= 0 { x << n } else { x >> -n }
        })),
        _ if op.signed() => by_signed!(es, T => {
            let (a, b) = (T::split(a), T::split(b));
            T::join(core::array::from_fn(|i| wide_shift(op, es, i128::from(a[i]), b[i] as i8, qc) as T))
        }),
        _ => by_unsigned!(es, T => {
            let (a, b) = (T::split(a), T::split(b));
            T::join(core::array::from_fn(|i| wide_shift(op, es, i128::from(a[i]), b[i] as i8, qc) as T))
        }),
    };
    width.truncate(result)
}

/// One lane of a rounding or saturating shift, in a type that loses nothing.
fn wide_shift(op: VecShiftRegOp, es: ESize, x: i128, count: i8, qc: &mut bool) -> i128 {
    let bits = es.bits() as i32;
    let count = i32::from(count);
    if count < 0 {
        // Past one more than the element's bits nothing changes any more.
        let right = (-count).min(bits + 1);
        let half = if op.rounds() { 1 << (right - 1) } else { 0 };
        return (x + half) >> right;
    }
    let (min, max) = if op.signed() { (-(1i128 << (bits - 1)), (1 << (bits - 1)) - 1) } else { (0, (1 << bits) - 1) };
    let exact = if count < bits {
        x << count
    } else if !op.saturates() {
        0
    } else {
        x.signum() << 120
    };
    if !op.saturates() {
        return exact;
    }
    let clamped = exact.clamp(min, max);
    *qc |= clamped != exact;
    clamped
}
