//! Narrowing: a right shift, rounding or not, into lanes of half the size.

use super::{ESize, Lane, by_signed, by_unsigned};

/// How a lane is brought into half of its bits.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Hash)]
#[repr(u8)]
pub enum VecNarrowOp {
    /// The low half.
    Truncate,
    /// Signed to signed, saturating.
    Signed,
    /// Unsigned to unsigned, saturating.
    Unsigned,
    /// Signed to unsigned, saturating.
    SignedToUnsigned,
}

/// Shifts each element of `a`, of twice the size `es`, right by `count` (0 to `es` bits) and narrows it to size `es`.
///
/// The result is the low 64 bits, or one element for a `scalar` operation. `count` 0 is the XTN family.
pub fn narrow(op: VecNarrowOp, es: ESize, scalar: bool, round: bool, count: u32, a: u128, qc: &mut bool) -> u128 {
    let a = if scalar { es.wider().scalar().truncate(a) } else { a };
    match es {
        ESize::B => {
            pack::<8>(op, es, u16::split(a).map(|x| wide(op, x.cast_signed().into(), x.into())), round, count, qc)
        }
        ESize::H => {
            pack::<4>(op, es, u32::split(a).map(|x| wide(op, x.cast_signed().into(), x.into())), round, count, qc)
        }
        _ => pack::<2>(op, es, u64::split(a).map(|x| wide(op, x.cast_signed().into(), x.into())), round, count, qc),
    }
}

fn wide(op: VecNarrowOp, signed: i128, unsigned: u64) -> i128 {
    match op {
        VecNarrowOp::Signed | VecNarrowOp::SignedToUnsigned => signed,
        VecNarrowOp::Truncate | VecNarrowOp::Unsigned => i128::from(unsigned),
    }
}

fn pack<const N: usize>(op: VecNarrowOp, es: ESize, lanes: [i128; N], round: bool, count: u32, qc: &mut bool) -> u128 {
    let half = if round && count > 0 { 1i128 << (count - 1) } else { 0 };
    let (min, max) = match op {
        VecNarrowOp::Truncate => (i128::MIN, i128::MAX),
        VecNarrowOp::Signed => by_signed!(es, T => (i128::from(T::MIN), i128::from(T::MAX))),
        VecNarrowOp::Unsigned | VecNarrowOp::SignedToUnsigned => by_unsigned!(es, T => (0, i128::from(T::MAX))),
    };
    let mut result = 0;
    for (i, lane) in lanes.iter().enumerate() {
        let exact = (lane + half) >> count;
        let clamped = exact.clamp(min, max);
        *qc |= clamped != exact;
        result |= es.scalar().truncate(clamped.cast_unsigned()) << (i as u32 * es.bits());
    }
    result
}
