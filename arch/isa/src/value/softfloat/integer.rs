//! Between floating point, integers and fixed point; rounding to an integral value.

use super::parts::{Kind, process_nan, round, rounds_up, split, unpack};
use super::{FpRounding, FpSize, Fpcr, IOC, IXC};

/// An integer or fixed-point format on the other side of a conversion.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub struct IntFormat {
    /// Width in bits: 32 or 64 (of a general-purpose register or a lane).
    pub bits: u8,
    /// Unsigned, else two's complement.
    pub unsigned: bool,
    /// Bits behind the binary point, 0 to 64; 0 for integers.
    pub fraction_bits: u8,
}

/// `FPRoundInt`: to an integral value in the same format. `exact` is FRINTX's: a changed value sets IXC.
pub fn round_to_int(size: FpSize, a: u64, rounding: FpRounding, exact: bool, fpcr: Fpcr, flags: &mut u32) -> u64 {
    let u = unpack(size, a, fpcr, flags);
    match u.kind {
        Kind::QuietNan | Kind::SignallingNan => return process_nan(size, a, u.kind, fpcr, flags),
        Kind::Infinity => return size.infinity(u.sign),
        Kind::Zero => return size.zero(u.sign),
        Kind::Finite => {}
    }
    if u.exp >= size.fraction_bits() as i32 {
        return a & size.mask(); // no bit weighs less than one
    }
    let (whole, error) = split(u.frac, (63 - u.exp) as u32);
    let whole = whole + u64::from(rounds_up(rounding, u.sign, whole & 1 != 0, error));
    if error != 0 && exact {
        *flags |= IXC;
    }
    if whole == 0 {
        return size.zero(u.sign);
    }
    let lead = whole.leading_zeros();
    round(size, u.sign, 63 - lead as i32, whole << lead, FpRounding::Zero, fpcr, flags)
}

/// `FPToFixed`: saturating; NaN gives 0; both set IOC and not IXC. A 32-bit result is zero-extended.
pub fn to_int(size: FpSize, a: u64, format: IntFormat, rounding: FpRounding, fpcr: Fpcr, flags: &mut u32) -> u64 {
    let u = unpack(size, a, fpcr, flags);
    let ones = u64::MAX >> (64 - u32::from(format.bits));
    // Largest magnitudes on either side of zero.
    let (most_positive, most_negative) = if format.unsigned { (ones, 0) } else { (ones >> 1, (ones >> 1) + 1) };
    let bound = if u.sign { most_negative } else { most_positive };
    let encode = |magnitude: u64| if u.sign { magnitude.wrapping_neg() & ones } else { magnitude };
    match u.kind {
        Kind::QuietNan | Kind::SignallingNan => {
            *flags |= IOC;
            return 0;
        }
        Kind::Zero => return 0,
        Kind::Infinity => {
            *flags |= IOC;
            return encode(bound);
        }
        Kind::Finite => {}
    }
    let exp = u.exp + i32::from(format.fraction_bits);
    let (whole, error) = match exp {
        64.. => (u64::MAX, u64::MAX), // beyond every format; saturates below
        63 => (u.frac, 0),
        _ => split(u.frac, (63 - exp) as u32),
    };
    let up = exp < 63 && rounds_up(rounding, u.sign, whole & 1 != 0, error);
    let whole = whole + u64::from(up); // below 2^63 where it rounds up
    if exp >= 64 || whole > bound {
        *flags |= IOC;
        return encode(bound);
    }
    if error != 0 {
        *flags |= IXC;
    }
    encode(whole)
}

/// `FixedToFP`: the low `format.bits` of `a`; zero gives +0.
pub fn from_int(size: FpSize, a: u64, format: IntFormat, rounding: FpRounding, fpcr: Fpcr, flags: &mut u32) -> u64 {
    let unused = 64 - u32::from(format.bits);
    let (sign, magnitude) = if format.unsigned {
        (false, a << unused >> unused)
    } else {
        let value = (a << unused) as i64 >> unused;
        (value < 0, value.unsigned_abs())
    };
    if magnitude == 0 {
        return 0;
    }
    let lead = magnitude.leading_zeros();
    let exp = 63 - lead as i32 - i32::from(format.fraction_bits);
    round(size, sign, exp, magnitude << lead, rounding, fpcr, flags)
}
