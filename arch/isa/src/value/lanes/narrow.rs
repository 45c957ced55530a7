//! Narrowing: a right shift, rounding or not, into lanes of half the size.

use super::permute::{evens_of, join_half};
use super::{ESize, Lane, VecWidth};

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
    if op == VecNarrowOp::Truncate && count == 0 {
        return u128::from(evens_of(es, a));
    }
    // Each in a type in which neither the rounding constant nor the clamping can overflow.
    macro_rules! pack {
        ($narrow:ty, $signed_narrow:ty, $wide:ty, $signed_wide:ty, $exact:ty) => {{
            let lanes = match op {
                VecNarrowOp::Signed | VecNarrowOp::SignedToUnsigned => <$signed_wide>::split(a).map(<$exact>::from),
                VecNarrowOp::Truncate | VecNarrowOp::Unsigned => <$wide>::split(a).map(<$exact>::from),
            };
            let (min, max) = match op {
                VecNarrowOp::Truncate => (<$exact>::MIN, <$exact>::MAX),
                VecNarrowOp::Signed => (<$signed_narrow>::MIN.into(), <$signed_narrow>::MAX.into()),
                VecNarrowOp::Unsigned | VecNarrowOp::SignedToUnsigned => (0, <$narrow>::MAX.into()),
            };
            let half = if round && count > 0 { 1 << (count - 1) } else { 0 };
            let exact = lanes.map(|lane| (lane + half) >> count);
            let clamped = exact.map(|lane| lane.clamp(min, max));
            *qc |= exact != clamped;
            join_half(clamped.map(|lane| lane as $narrow))
        }};
    }
    let result = match es {
        ESize::B => pack!(u8, i8, u16, i16, i32),
        ESize::H => pack!(u16, i16, u32, i32, i64),
        _ => pack!(u32, i32, u64, i64, i128),
    };
    let width = if scalar { es.scalar() } else { VecWidth::D8 };
    width.truncate(result.into())
}
