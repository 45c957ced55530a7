//! Bit-exact Arm floating point on plain integers.
//!
//! Every function takes operands as raw bit patterns in the low bits of a `u64`, the FPCR value, and the cumulative FPSR bits that it
//! adds to; it returns the raw result. Names and order of the checks follow the shared pseudocode of the Arm ARM (`FPUnpack`,
//! `FPRoundBase`, `FPProcessNaNs`, ...), with FEAT_AFP absent (FPCR.AH, FIZ and NEP are zero) and no trapped exceptions.
//!
//! Half precision exists as source and target of conversions only: FEAT_FP16 arithmetic is not offered.
//!
//! The host's floating-point unit is used where it provably gives the same bits (`host`); those paths need the host's
//! floating-point environment in its default state (round to nearest, nothing masked differently), which Rust requires anyway. Code
//! that runs guest instructions under its own MXCSR restores the default before it calls anything here.

mod arith;
mod compare;
mod convert;
mod estimate;
mod fused;
mod host;
mod integer;
mod minmax;
mod parts;
#[cfg(test)]
mod tests;

pub use arith::{abd, abs, add, div, mul, mulx, neg, nmul, sqrt, sub};
pub use compare::{FpRelation, compare, compare_mask};
pub use convert::{convert, convert_javascript};
pub use estimate::{recip_estimate, recip_exponent, rsqrt_estimate, unsigned_recip_estimate, unsigned_rsqrt_estimate};
pub use fused::{mul_add, recip_step, rsqrt_step};
pub use integer::{IntFormat, from_int, round_to_int, to_int};
pub use minmax::{max, max_num, min, min_num};

/// FPSR.IOC, Invalid Operation cumulative exception.
pub const IOC: u32 = 1 << 0;
/// FPSR.DZC, Divide by Zero cumulative exception.
pub const DZC: u32 = 1 << 1;
/// FPSR.OFC, Overflow cumulative exception.
pub const OFC: u32 = 1 << 2;
/// FPSR.UFC, Underflow cumulative exception. Tininess is detected before rounding.
pub const UFC: u32 = 1 << 3;
/// FPSR.IXC, Inexact cumulative exception.
pub const IXC: u32 = 1 << 4;
/// FPSR.IDC, Input Denormal cumulative exception.
pub const IDC: u32 = 1 << 7;

/// A floating-point format; the discriminant is log2 of its size in bytes.
#[derive(Copy, Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
#[repr(u8)]
pub enum FpSize {
    /// binary16, or the alternative half-precision format when FPCR.AHP is set.
    Half = 1,
    /// binary32.
    Single = 2,
    /// binary64.
    Double = 3,
}

impl FpSize {
    /// The format that the field `sz` selects: single or double.
    #[inline]
    pub const fn of_field(sz: bool) -> FpSize {
        if sz { FpSize::Double } else { FpSize::Single }
    }

    /// The smaller format of a narrowing or widening conversion by its field `sz`: half or single.
    #[inline]
    pub const fn narrowed(sz: bool) -> FpSize {
        if sz { FpSize::Single } else { FpSize::Half }
    }

    /// Width in bits: 16, 32 or 64.
    #[inline]
    pub const fn bits(self) -> u32 {
        8 << self as u32
    }

    /// Width in bytes: 2, 4 or 8.
    #[inline]
    pub const fn bytes(self) -> u32 {
        1 << self as u32
    }

    /// All bits of a value of this format.
    #[inline]
    pub const fn mask(self) -> u64 {
        u64::MAX >> (64 - self.bits())
    }

    /// The sign bit alone.
    #[inline]
    pub const fn sign_bit(self) -> u64 {
        1 << (self.bits() - 1)
    }

    /// Bits of the stored fraction: 10, 23 or 52.
    #[inline]
    pub const fn fraction_bits(self) -> u32 {
        match self {
            FpSize::Half => 10,
            FpSize::Single => 23,
            FpSize::Double => 52,
        }
    }

    /// Mask of the stored fraction.
    #[inline]
    pub const fn fraction_mask(self) -> u64 {
        (1 << self.fraction_bits()) - 1
    }

    /// The exponent field of infinities and NaNs: 31, 255 or 2047.
    #[inline]
    pub const fn exponent_max(self) -> u64 {
        (1 << (self.bits() - 1 - self.fraction_bits())) - 1
    }

    /// The exponent bias: 15, 127 or 1023.
    #[inline]
    pub const fn bias(self) -> i32 {
        match self {
            FpSize::Half => 15,
            FpSize::Single => 127,
            FpSize::Double => 1023,
        }
    }

    /// The zero of the given sign.
    #[inline]
    pub const fn zero(self, sign: bool) -> u64 {
        if sign { self.sign_bit() } else { 0 }
    }

    /// The infinity of the given sign.
    #[inline]
    pub const fn infinity(self, sign: bool) -> u64 {
        self.zero(sign) | self.exponent_max() << self.fraction_bits()
    }

    /// The largest finite number of the given sign.
    #[inline]
    pub const fn max_normal(self, sign: bool) -> u64 {
        self.infinity(sign) - 1
    }

    /// `FPDefaultNaN`: positive, quiet, with no payload.
    #[inline]
    pub const fn default_nan(self) -> u64 {
        self.infinity(false) | 1 << (self.fraction_bits() - 1)
    }
}

/// How a result that does not fit is rounded.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
#[repr(u8)]
pub enum FpRounding {
    /// To nearest, ties to even (FPCR.RMode 0b00).
    TieEven = 0,
    /// Towards plus infinity (0b01).
    PosInf = 1,
    /// Towards minus infinity (0b10).
    NegInf = 2,
    /// Towards zero (0b11).
    Zero = 3,
    /// To nearest, ties away from zero (FRINTA, FCVTA*); only for rounding to integers.
    TieAway = 4,
    /// To odd (FCVTXN): truncation whose lowest bit says that something was lost.
    Odd = 5,
}

/// The value of FPCR, as far as arithmetic depends on it.
#[derive(Copy, Clone, PartialEq, Eq, Default, Debug)]
pub struct Fpcr(pub u32);

impl Fpcr {
    /// FPCR.AHP: half-precision conversions use the alternative format.
    pub const AHP: u32 = 1 << 26;
    /// FPCR.DN: every NaN result is the default NaN.
    pub const DN: u32 = 1 << 25;
    /// FPCR.FZ: single and double denormals are flushed to zero, as inputs and as results.
    pub const FZ: u32 = 1 << 24;
    /// FPCR.RMode.
    pub const RMODE: u32 = 0b11 << 22;

    /// Alternative half-precision format selected.
    #[inline]
    pub const fn ahp(self) -> bool {
        self.0 & Self::AHP != 0
    }

    /// Default NaN mode.
    #[inline]
    pub const fn dn(self) -> bool {
        self.0 & Self::DN != 0
    }

    /// Flush-to-zero mode.
    #[inline]
    pub const fn fz(self) -> bool {
        self.0 & Self::FZ != 0
    }

    /// The rounding mode in RMode.
    #[inline]
    pub const fn rounding(self) -> FpRounding {
        match self.0 >> 22 & 3 {
            0 => FpRounding::TieEven,
            1 => FpRounding::PosInf,
            2 => FpRounding::NegInf,
            _ => FpRounding::Zero,
        }
    }
}
