//! Reciprocal and reciprocal square root estimates: eight significant bits, the same on every implementation without FEAT_RPRES.

use super::parts::{Kind, invalid, overflows_to_infinity, process_nan, unpack};
use super::{DZC, FpSize, Fpcr, IXC, OFC, UFC};

/// `RecipEstimate`: a fraction in [256, 512) to its reciprocal in the same scale.
const fn recip_table(a: u32) -> u32 {
    let a = a * 2 + 1;
    let b = (1 << 19) / a;
    b.div_ceil(2)
}

/// `RecipSqrtEstimate`: a fraction in [128, 512) to its reciprocal root in [256, 512).
const fn rsqrt_table(a: u32) -> u32 {
    let a = if a < 256 { a * 2 + 1 } else { ((a >> 1 << 1) + 1) * 2 };
    let mut b = 512;
    while a * (b + 1) * (b + 1) < 1 << 28 {
        b += 1;
    }
    b.div_ceil(2)
}

/// The exponent field and the fraction, left-aligned in 52 bits, of a number that is not zero, infinite or NaN.
fn fields(size: FpSize, a: u64) -> (i32, u64) {
    let exp = (a >> size.fraction_bits() & size.exponent_max()) as i32;
    (exp, (a & size.fraction_mask()) << (52 - size.fraction_bits()))
}

const FRACTION: u64 = (1 << 52) - 1;

fn pack(size: FpSize, sign: bool, exp: i32, fraction: u64) -> u64 {
    size.zero(sign) | (exp as u64) << size.fraction_bits() | fraction >> (52 - size.fraction_bits())
}

/// `FPRecipEstimate`, FRECPE, for single and double.
pub fn recip_estimate(size: FpSize, a: u64, fpcr: Fpcr, flags: &mut u32) -> u64 {
    let u = unpack(size, a, fpcr, flags);
    match u.kind {
        Kind::QuietNan | Kind::SignallingNan => return process_nan(size, a, u.kind, fpcr, flags),
        Kind::Infinity => return size.zero(u.sign),
        Kind::Zero => {
            *flags |= DZC;
            return size.infinity(u.sign);
        }
        Kind::Finite => {}
    }
    if u.exp < -size.bias() - 1 {
        *flags |= OFC | IXC;
        let infinite = overflows_to_infinity(fpcr.rounding(), u.sign);
        return if infinite { size.infinity(u.sign) } else { size.max_normal(u.sign) };
    }
    if fpcr.fz() && u.exp >= size.bias() - 1 {
        *flags |= UFC; // the result would be denormal; not IXC
        return size.zero(u.sign);
    }
    let (mut exp, mut fraction) = fields(size, a);
    if exp == 0 {
        // At most one leading zero here: smaller operands have overflowed above.
        let shift = if fraction >> 51 == 0 { 2 } else { 1 };
        exp = 1 - shift;
        fraction = fraction << shift & FRACTION;
    }
    let estimate = recip_table(256 | (fraction >> 44) as u32);
    let fraction = u64::from(estimate & 255) << 44;
    match 2 * size.bias() - 1 - exp {
        0 => pack(size, u.sign, 0, 1 << 51 | fraction >> 1),
        -1 => pack(size, u.sign, 0, 1 << 50 | fraction >> 2),
        exp => pack(size, u.sign, exp, fraction),
    }
}

/// `FPRSqrtEstimate`, FRSQRTE, for single and double.
pub fn rsqrt_estimate(size: FpSize, a: u64, fpcr: Fpcr, flags: &mut u32) -> u64 {
    let u = unpack(size, a, fpcr, flags);
    match u.kind {
        Kind::QuietNan | Kind::SignallingNan => return process_nan(size, a, u.kind, fpcr, flags),
        Kind::Zero => {
            *flags |= DZC;
            return size.infinity(u.sign);
        }
        _ if u.sign => return invalid(size, flags),
        Kind::Infinity => return 0,
        Kind::Finite => {}
    }
    // Biased exponent and fraction of the normalised operand.
    let exp = u.exp + size.bias();
    let top = (u.frac >> 55 & 255) as u32;
    let scaled = if exp & 1 == 0 { 256 | top } else { 128 | top >> 1 };
    let result_exp = (3 * size.bias() - 1 - exp) >> 1;
    pack(size, false, result_exp, u64::from(rsqrt_table(scaled) & 255) << 44)
}

/// `FPRecpX`, FRECPX: a power of two with the inverted exponent, for single and double.
pub fn recip_exponent(size: FpSize, a: u64, fpcr: Fpcr, flags: &mut u32) -> u64 {
    let u = unpack(size, a, fpcr, flags);
    if u.is_nan() {
        return process_nan(size, a, u.kind, fpcr, flags);
    }
    let exp = a >> size.fraction_bits() & size.exponent_max();
    let inverted = if exp == 0 { size.exponent_max() - 1 } else { !exp & size.exponent_max() };
    size.zero(u.sign) | inverted << size.fraction_bits()
}

/// `UnsignedRecipEstimate`, URECPE: of an unsigned 0.32 fixed-point number.
pub fn unsigned_recip_estimate(a: u32) -> u32 {
    if a >> 31 == 0 { u32::MAX } else { recip_table(a >> 23) << 23 }
}

/// `UnsignedRSqrtEstimate`, URSQRTE: of an unsigned 0.32 fixed-point number.
pub fn unsigned_rsqrt_estimate(a: u32) -> u32 {
    if a >> 30 == 0 { u32::MAX } else { rsqrt_table(a >> 23) << 23 }
}
