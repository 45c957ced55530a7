//! The common case on the host's floating-point unit.
//!
//! A path here answers only when the answer is provably Arm's, flags included:
//! - the rounding mode is to nearest, which is the host's;
//! - every operand is zero or normal, so that neither NaN rules, nor IDC, nor flushing come into play;
//! - the result is normal and above the smallest binade (or a zero that is exact), so that neither overflow nor underflow (which Arm
//!   detects before rounding, x86 after) can have happened;
//! - IXC is already set, as it is soon after a program's first division, so that it does not matter whether the result is exact.
//!
//! Comparisons need the operands' condition only.
//!
//! IEEE-754 defines the result of these five operations exactly, so that any conforming host gives the same bits.

use super::{FpRounding, FpSize, Fpcr, IXC};

/// Whether the modes allow the host's unit at all.
#[inline]
fn usable(fpcr: Fpcr, flags: u32) -> bool {
    flags & IXC != 0 && matches!(fpcr.rounding(), FpRounding::TieEven)
}

macro_rules! paths {
    ($module:ident, $float:ty, $bits:ty, $fraction:literal) => {
        mod $module {
            const EXPONENT: $bits = <$float>::INFINITY.to_bits() >> $fraction;

            #[inline]
            fn exponent(bits: $bits) -> $bits {
                bits >> $fraction & EXPONENT
            }

            /// Zero or normal.
            #[inline]
            pub fn plain(bits: $bits) -> bool {
                exponent(bits).wrapping_sub(1) < EXPONENT - 1 || zero(bits)
            }

            #[inline]
            pub fn zero(bits: $bits) -> bool {
                bits << 1 == 0
            }

            /// Finite and above the smallest normal binade.
            #[inline]
            pub fn settled(result: $float) -> Option<u64> {
                let bits = result.to_bits();
                (exponent(bits).wrapping_sub(2) < EXPONENT - 2).then_some(u64::from(bits))
            }

            #[inline]
            pub fn add(a: $bits, b: $bits) -> Option<u64> {
                if !plain(a) || !plain(b) {
                    return None;
                }
                let sum = <$float>::from_bits(a) + <$float>::from_bits(b);
                // A zero sum of zero or normal operands is exact.
                if zero(sum.to_bits()) { Some(u64::from(sum.to_bits())) } else { settled(sum) }
            }

            #[inline]
            pub fn mul(a: $bits, b: $bits) -> Option<u64> {
                if !plain(a) || !plain(b) {
                    return None;
                }
                let product = <$float>::from_bits(a) * <$float>::from_bits(b);
                if zero(a) || zero(b) { Some(u64::from(product.to_bits())) } else { settled(product) }
            }

            #[inline]
            pub fn div(a: $bits, b: $bits) -> Option<u64> {
                if !plain(a) || !plain(b) || zero(b) {
                    return None;
                }
                let quotient = <$float>::from_bits(a) / <$float>::from_bits(b);
                if zero(a) { Some(u64::from(quotient.to_bits())) } else { settled(quotient) }
            }

            #[inline]
            pub fn order(a: $bits, b: $bits) -> Option<std::cmp::Ordering> {
                if !plain(a) || !plain(b) {
                    return None;
                }
                <$float>::from_bits(a).partial_cmp(&<$float>::from_bits(b))
            }

            #[inline]
            pub fn sqrt(a: $bits) -> Option<u64> {
                if !plain(a) || a >> (<$bits>::BITS - 1) != 0 {
                    return None;
                }
                // The root of a positive normal is far inside the normal range.
                Some(u64::from(<$float>::from_bits(a).sqrt().to_bits()))
            }

            #[inline]
            pub fn mul_add(addend: $bits, a: $bits, b: $bits) -> Option<u64> {
                if !plain(addend) || !plain(a) || !plain(b) {
                    return None;
                }
                settled(<$float>::from_bits(a).mul_add(<$float>::from_bits(b), <$float>::from_bits(addend)))
            }
        }
    };
}

paths!(single, f32, u32, 23);
paths!(double, f64, u64, 52);

/// The order of two operands that are zero or normal, in any mode: neither an exception nor flushing can occur.
#[inline]
pub(super) fn order(size: FpSize, a: u64, b: u64) -> Option<std::cmp::Ordering> {
    match size {
        FpSize::Single => single::order(a as u32, b as u32),
        FpSize::Double => double::order(a, b),
        FpSize::Half => None,
    }
}

macro_rules! dispatch {
    ($(#[$doc:meta])* $name:ident ( $($operand:ident),+ )) => {
        $(#[$doc])*
        #[inline]
        pub(super) fn $name(size: FpSize, $($operand: u64,)+ fpcr: Fpcr, flags: u32) -> Option<u64> {
            if !usable(fpcr, flags) {
                return None;
            }
            match size {
                FpSize::Single => single::$name($($operand as u32),+),
                FpSize::Double => double::$name($($operand),+),
                FpSize::Half => None,
            }
        }
    };
}

dispatch!(
    /// `a + b` where the host is known to be right.
    add(a, b)
);
dispatch!(
    /// `a * b` where the host is known to be right.
    mul(a, b)
);
dispatch!(
    /// `a / b` where the host is known to be right.
    div(a, b)
);
dispatch!(
    /// The square root where the host is known to be right.
    sqrt(a)
);
dispatch!(
    /// `addend + a * b`, rounded once, where the host is known to be right.
    mul_add(addend, a, b)
);
