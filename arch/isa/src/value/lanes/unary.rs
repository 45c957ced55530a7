//! One vector in: lane by lane, neighbours added to wider lanes, and reductions across all lanes.

use super::{ESize, Lane, VecWidth, by_signed, by_unsigned, map1};

/// An operation on one vector, lane by lane.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Hash)]
#[repr(u8)]
pub enum VecUnOp {
    /// Absolute value, wrapping.
    Abs,
    /// Negation, wrapping.
    Neg,
    /// Absolute value, saturating.
    Sqabs,
    /// Negation, saturating.
    Sqneg,
    /// Bitwise complement.
    Not,
    /// Bits of each byte reversed.
    Rbit,
    /// Leading bits equal to the sign bit, not counting it.
    Cls,
    /// Leading zero bits.
    Clz,
    /// One bits of each byte.
    Cnt,
    /// Elements reversed within each 16 bits.
    Rev16,
    /// Elements reversed within each 32 bits.
    Rev32,
    /// Elements reversed within each 64 bits.
    Rev64,
    /// All ones where equal to zero.
    CmeqZero,
    /// All ones where greater than or equal to zero, signed.
    CmgeZero,
    /// All ones where greater than zero, signed.
    CmgtZero,
    /// All ones where less than or equal to zero, signed.
    CmleZero,
    /// All ones where less than zero, signed.
    CmltZero,
}

impl VecUnOp {
    /// Whether the operation can saturate, and so set FPSR.QC.
    pub const fn saturates(self) -> bool {
        matches!(self, VecUnOp::Sqabs | VecUnOp::Sqneg)
    }
}

/// Computes `op` on elements of size `es` in the low `width` bytes of `a`.
#[inline]
pub fn unary(op: VecUnOp, es: ESize, width: VecWidth, a: u128, qc: &mut bool) -> u128 {
    use VecUnOp::*;
    let a = width.truncate(a);
    let result = match op {
        Abs => by_signed!(es, T => map1::<T, _>(a, T::wrapping_abs)),
        Neg => by_signed!(es, T => map1::<T, _>(a, T::wrapping_neg)),
        Sqabs => {
            *qc |= by_signed!(es, T => T::split(a).contains(&T::MIN));
            by_signed!(es, T => map1::<T, _>(a, T::saturating_abs))
        }
        Sqneg => {
            *qc |= by_signed!(es, T => T::split(a).contains(&T::MIN));
            by_signed!(es, T => map1::<T, _>(a, T::saturating_neg))
        }
        Not => !a,
        Rbit => map1::<u8, _>(a, u8::reverse_bits),
        Cls => by_signed!(es, T => map1::<T, _>(a, |x| ((x ^ (x >> 1)).leading_zeros() - 1) as T)),
        Clz => by_unsigned!(es, T => map1::<T, _>(a, |x| x.leading_zeros() as T)),
        Cnt => map1::<u8, _>(a, |x| x.count_ones() as u8),
        Rev16 => map1::<u16, _>(a, u16::swap_bytes),
        Rev32 if es == ESize::B => map1::<u32, _>(a, u32::swap_bytes),
        Rev32 => map1::<u32, _>(a, |x| x.rotate_left(16)),
        Rev64 => map1::<u64, _>(a, |x| reverse_in_64(es, x)),
        CmeqZero => by_unsigned!(es, T => map1::<T, _>(a, |x| if x == 0 { T::MAX } else { 0 })),
        CmgeZero => by_signed!(es, T => map1::<T, _>(a, |x| if x >= 0 { -1 } else { 0 })),
        CmgtZero => by_signed!(es, T => map1::<T, _>(a, |x| if x > 0 { -1 } else { 0 })),
        CmleZero => by_signed!(es, T => map1::<T, _>(a, |x| if x <= 0 { -1 } else { 0 })),
        CmltZero => by_signed!(es, T => map1::<T, _>(a, |x| if x < 0 { -1 } else { 0 })),
    };
    width.truncate(result)
}

fn reverse_in_64(es: ESize, x: u64) -> u64 {
    match es {
        ESize::B => x.swap_bytes(),
        ESize::H => {
            let swapped = x.rotate_left(32);
            (swapped & 0xffff_0000_ffff_0000) >> 16 | (swapped & 0x0000_ffff_0000_ffff) << 16
        }
        _ => x.rotate_left(32),
    }
}

/// A sum of neighbouring lanes in lanes of twice the size.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Hash)]
#[repr(u8)]
pub enum VecPairLongOp {
    /// Signed sums.
    Saddlp,
    /// Unsigned sums.
    Uaddlp,
}

/// SADDLP and UADDLP: neighbours of size `es` (8, 16 or 32 bits) added to lanes of twice that size.
pub fn pair_long(op: VecPairLongOp, es: ESize, width: VecWidth, a: u128) -> u128 {
    macro_rules! sums {
        ($narrow:ty, $wide:ty) => {
            map1::<$wide, _>(a, |x| {
                let low = <$wide>::from(x as $narrow);
                let high = <$wide>::from((x >> <$narrow>::BITS) as $narrow);
                low.wrapping_add(high)
            })
        };
    }
    let result = match (op, es) {
        (VecPairLongOp::Saddlp, ESize::B) => sums!(i8, i16),
        (VecPairLongOp::Saddlp, ESize::H) => sums!(i16, i32),
        (VecPairLongOp::Saddlp, _) => sums!(i32, i64),
        (VecPairLongOp::Uaddlp, ESize::B) => sums!(u8, u16),
        (VecPairLongOp::Uaddlp, ESize::H) => sums!(u16, u32),
        (VecPairLongOp::Uaddlp, _) => sums!(u32, u64),
    };
    width.truncate(result)
}

/// A reduction of all lanes to one.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Hash)]
#[repr(u8)]
pub enum VecAcrossOp {
    /// Sum, of the element's size.
    Addv,
    /// Sum of sign-extended elements, of twice the element's size.
    Saddlv,
    /// Sum of zero-extended elements, of twice the element's size.
    Uaddlv,
    /// Signed maximum.
    Smaxv,
    /// Signed minimum.
    Sminv,
    /// Unsigned maximum.
    Umaxv,
    /// Unsigned minimum.
    Uminv,
}

impl VecAcrossOp {
    /// The size of the result for elements of size `es`.
    pub const fn result(self, es: ESize) -> ESize {
        match self {
            VecAcrossOp::Saddlv | VecAcrossOp::Uaddlv => es.wider(),
            _ => es,
        }
    }
}

/// Reduces the elements of size `es` in the low `width` bytes of `a` to one element, zero-extended.
#[expect(
    clippy::unnecessary_cast,
    clippy::useless_conversion,
    reason = "the expression is expanded for each element size"
)]
pub fn across(op: VecAcrossOp, es: ESize, width: VecWidth, a: u128) -> u128 {
    use VecAcrossOp::*;
    let count = (width.bytes() / es.bytes()) as usize;
    let sum = match op {
        Addv | Uaddlv => {
            by_unsigned!(es, T => T::split(a).iter().take(count).fold(0u64, |s, &x| s.wrapping_add(u64::from(x))))
        }
        Saddlv => by_signed!(es, T => T::split(a).iter().take(count).fold(0i64, |s, &x| s.wrapping_add(i64::from(x))))
            .cast_unsigned(),
        Smaxv => by_signed!(es, T => T::split(a).iter().take(count).fold(T::MIN, |s, &x| s.max(x)) as u64),
        Sminv => by_signed!(es, T => T::split(a).iter().take(count).fold(T::MAX, |s, &x| s.min(x)) as u64),
        Umaxv => by_unsigned!(es, T => T::split(a).iter().take(count).fold(T::MIN, |s, &x| s.max(x)) as u64),
        Uminv => by_unsigned!(es, T => T::split(a).iter().take(count).fold(T::MAX, |s, &x| s.min(x)) as u64),
    };
    op.result(es).scalar().truncate(u128::from(sum))
}
