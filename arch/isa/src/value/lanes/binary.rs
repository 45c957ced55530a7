//! Two vectors in, one vector of the same element size out.

use super::{ESize, VecWidth, by_signed, by_unsigned, map2};

/// An operation on two vectors, lane by lane (or pair by pair), whose result has lanes of the same size.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Hash)]
#[repr(u8)]
pub enum VecBinOp {
    /// Bitwise AND.
    And,
    /// Bitwise AND with the complement of the second operand.
    Bic,
    /// Bitwise inclusive OR.
    Orr,
    /// Bitwise inclusive OR with the complement of the second operand.
    Orn,
    /// Bitwise exclusive OR.
    Eor,
    /// Addition.
    Add,
    /// Subtraction.
    Sub,
    /// Multiplication, low half of the product.
    Mul,
    /// Polynomial multiplication over GF(2), low half of the product; 8-bit elements.
    Pmul,
    /// All ones where equal.
    Cmeq,
    /// All ones where greater than or equal, signed.
    Cmge,
    /// All ones where greater than, signed.
    Cmgt,
    /// All ones where higher, unsigned.
    Cmhi,
    /// All ones where higher or same, unsigned.
    Cmhs,
    /// All ones where the operands share a one bit.
    Cmtst,
    /// Signed maximum.
    Smax,
    /// Signed minimum.
    Smin,
    /// Unsigned maximum.
    Umax,
    /// Unsigned minimum.
    Umin,
    /// Signed absolute difference.
    Sabd,
    /// Unsigned absolute difference.
    Uabd,
    /// Signed halving addition, truncating.
    Shadd,
    /// Unsigned halving addition, truncating.
    Uhadd,
    /// Signed halving addition, rounding.
    Srhadd,
    /// Unsigned halving addition, rounding.
    Urhadd,
    /// Signed halving subtraction.
    Shsub,
    /// Unsigned halving subtraction.
    Uhsub,
    /// Signed saturating addition.
    Sqadd,
    /// Unsigned saturating addition.
    Uqadd,
    /// Signed saturating subtraction.
    Sqsub,
    /// Unsigned saturating subtraction.
    Uqsub,
    /// Signed saturating addition of the unsigned second operand to the signed first one.
    Suqadd,
    /// Unsigned saturating addition of the signed second operand to the unsigned first one.
    Usqadd,
    /// Signed saturating doubling multiplication, high half; 16- and 32-bit elements.
    Sqdmulh,
    /// As `Sqdmulh`, rounding.
    Sqrdmulh,
    /// Addition of neighbours of the concatenated operands.
    Addp,
    /// Signed maximum of neighbours of the concatenated operands.
    Smaxp,
    /// Signed minimum of neighbours of the concatenated operands.
    Sminp,
    /// Unsigned maximum of neighbours of the concatenated operands.
    Umaxp,
    /// Unsigned minimum of neighbours of the concatenated operands.
    Uminp,
}

impl VecBinOp {
    /// Whether the operation can saturate, and so set FPSR.QC.
    pub const fn saturates(self) -> bool {
        use VecBinOp::*;
        matches!(self, Sqadd | Uqadd | Sqsub | Uqsub | Suqadd | Usqadd | Sqdmulh | Sqrdmulh)
    }

    /// Whether the operation combines neighbours of the concatenated operands.
    pub const fn pairwise(self) -> bool {
        use VecBinOp::*;
        matches!(self, Addp | Smaxp | Sminp | Umaxp | Uminp)
    }
}

/// Computes `op` on elements of size `es` in the low `width` bytes of `a` and `b`.
#[inline]
pub fn binary(op: VecBinOp, es: ESize, width: VecWidth, a: u128, b: u128, qc: &mut bool) -> u128 {
    let result = if op.saturates() {
        saturating(op, es, width.truncate(a), width.truncate(b), qc)
    } else if op.pairwise() {
        pairwise(op, es, width, a, b)
    } else {
        plain(op, es, a, b)
    };
    width.truncate(result)
}

fn plain(op: VecBinOp, es: ESize, a: u128, b: u128) -> u128 {
    use VecBinOp::*;
    match op {
        And => a & b,
        Bic => a & !b,
        Orr => a | b,
        Orn => a | !b,
        Eor => a ^ b,
        Add => by_unsigned!(es, T => map2::<T, _>(a, b, T::wrapping_add)),
        Sub => by_unsigned!(es, T => map2::<T, _>(a, b, T::wrapping_sub)),
        Mul => by_unsigned!(es, T => map2::<T, _>(a, b, T::wrapping_mul)),
        Pmul => map2::<u8, _>(a, b, polynomial_low),
        Cmeq => by_unsigned!(es, T => map2::<T, _>(a, b, |x, y| if x == y { T::MAX } else { 0 })),
        Cmge => by_signed!(es, T => map2::<T, _>(a, b, |x, y| if x >= y { -1 } else { 0 })),
        Cmgt => by_signed!(es, T => map2::<T, _>(a, b, |x, y| if x > y { -1 } else { 0 })),
        Cmhi => by_unsigned!(es, T => map2::<T, _>(a, b, |x, y| if x > y { T::MAX } else { 0 })),
        Cmhs => by_unsigned!(es, T => map2::<T, _>(a, b, |x, y| if x >= y { T::MAX } else { 0 })),
        Cmtst => by_unsigned!(es, T => map2::<T, _>(a, b, |x, y| if x & y != 0 { T::MAX } else { 0 })),
        Smax => by_signed!(es, T => map2::<T, _>(a, b, |x, y| if x > y { x } else { y })),
        Smin => by_signed!(es, T => map2::<T, _>(a, b, |x, y| if x < y { x } else { y })),
        Umax => by_unsigned!(es, T => map2::<T, _>(a, b, |x, y| if x > y { x } else { y })),
        Umin => by_unsigned!(es, T => map2::<T, _>(a, b, |x, y| if x < y { x } else { y })),
        Sabd => by_signed!(es, T => map2::<T, _>(a, b, |x, y| x.abs_diff(y) as T)),
        Uabd => by_unsigned!(es, T => map2::<T, _>(a, b, T::abs_diff)),
        // Halving without a wider type: the common bits plus half of the differing ones.
        Shadd => by_signed!(es, T => map2::<T, _>(a, b, |x, y| (x & y).wrapping_add((x ^ y) >> 1))),
        Uhadd => by_unsigned!(es, T => map2::<T, _>(a, b, |x, y| (x & y).wrapping_add((x ^ y) >> 1))),
        Srhadd => by_signed!(es, T => map2::<T, _>(a, b, |x, y| (x | y).wrapping_sub((x ^ y) >> 1))),
        Urhadd => by_unsigned!(es, T => map2::<T, _>(a, b, |x, y| (x | y).wrapping_sub((x ^ y) >> 1))),
        Shsub => {
            by_signed!(es, T => map2::<T, _>(a, b, |x, y| (x >> 1).wrapping_sub(y >> 1).wrapping_sub(!x & y & 1)))
        }
        Uhsub => {
            by_unsigned!(es, T => map2::<T, _>(a, b, |x, y| (x >> 1).wrapping_sub(y >> 1).wrapping_sub(!x & y & 1)))
        }
        // binary() sends the saturating and pairwise operations elsewhere.
        _ => {
            debug_assert!(false, "{op:?} is not a plain lane-wise operation");
            0
        }
    }
}

/// The operations that combine neighbours: even and odd lanes are set apart, then combined lane by lane.
fn pairwise(op: VecBinOp, es: ESize, width: VecWidth, a: u128, b: u128) -> u128 {
    let (a, b) = match width {
        VecWidth::Q16 => (a, b),
        _ => {
            let joined = VecWidth::D8.truncate(a) | b << 64;
            (joined, joined)
        }
    };
    let (even, odd) = (super::permute::evens(es, a, b), super::permute::evens(es, a >> es.bits(), b >> es.bits()));
    let lanewise = match op {
        VecBinOp::Smaxp => VecBinOp::Smax,
        VecBinOp::Sminp => VecBinOp::Smin,
        VecBinOp::Umaxp => VecBinOp::Umax,
        VecBinOp::Uminp => VecBinOp::Umin,
        _ => VecBinOp::Add,
    };
    plain(lanewise, es, even, odd)
}

fn saturating(op: VecBinOp, es: ESize, a: u128, b: u128, qc: &mut bool) -> u128 {
    use VecBinOp::*;
    let (result, wrapped) = match op {
        Sqadd => by_signed!(es, T => (map2::<T, _>(a, b, T::saturating_add), map2::<T, _>(a, b, T::wrapping_add))),
        Uqadd => by_unsigned!(es, T => (map2::<T, _>(a, b, T::saturating_add), map2::<T, _>(a, b, T::wrapping_add))),
        Sqsub => by_signed!(es, T => (map2::<T, _>(a, b, T::saturating_sub), map2::<T, _>(a, b, T::wrapping_sub))),
        Uqsub => by_unsigned!(es, T => (map2::<T, _>(a, b, T::saturating_sub), map2::<T, _>(a, b, T::wrapping_sub))),
        Suqadd => by_signed!(es, T => (
            map2::<T, _>(a, b, |x, y| x.saturating_add_unsigned(y.cast_unsigned())),
            map2::<T, _>(a, b, T::wrapping_add),
        )),
        Usqadd => by_unsigned!(es, T => (
            map2::<T, _>(a, b, |x, y| x.saturating_add_signed(y.cast_signed())),
            map2::<T, _>(a, b, T::wrapping_add),
        )),
        _ => return doubling_high(op == Sqrdmulh, es, a, b, qc),
    };
    *qc |= result != wrapped;
    result
}

/// SQDMULH and SQRDMULH. Only the square of the most negative number exceeds the range.
fn doubling_high(round: bool, es: ESize, a: u128, b: u128, qc: &mut bool) -> u128 {
    let mut saturated = false;
    let result = if es == ESize::H {
        let (x, y) = (<i16 as super::Lane<8>>::split(a), <i16 as super::Lane<8>>::split(b));
        let half = if round { 1 << 14 } else { 0 };
        super::Lane::join(core::array::from_fn::<i16, 8, _>(|i| {
            let product = (i32::from(x[i]) * i32::from(y[i]) + half) >> 15;
            saturated |= product > i32::from(i16::MAX);
            product.min(i32::from(i16::MAX)) as i16
        }))
    } else {
        let (x, y) = (<i32 as super::Lane<4>>::split(a), <i32 as super::Lane<4>>::split(b));
        let half = if round { 1 << 30 } else { 0 };
        super::Lane::join(core::array::from_fn::<i32, 4, _>(|i| {
            let product = (i64::from(x[i]) * i64::from(y[i]) + half) >> 31;
            saturated |= product > i64::from(i32::MAX);
            product.min(i64::from(i32::MAX)) as i32
        }))
    };
    *qc |= saturated;
    result
}

/// The low eight bits of the product of two polynomials over GF(2).
fn polynomial_low(x: u8, y: u8) -> u8 {
    let mut product = 0;
    for bit in 0..8 {
        product ^= (x << bit) & (y >> bit & 1).wrapping_neg();
    }
    product
}
