//! Taking numbers apart and putting them together: `FPUnpack`, `FPRoundBase` and the NaN rules, shared by every operation.

use super::{FpRounding, FpSize, Fpcr, IDC, IOC, IXC, OFC, UFC};

/// What a bit pattern stands for.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub(super) enum Kind {
    Zero,
    /// Normal or denormal.
    Finite,
    Infinity,
    QuietNan,
    SignallingNan,
}

/// An operand taken apart. For `Finite`, the value is `(-1)^sign * frac * 2^(exp - 63)` with bit 63 of `frac` set.
#[derive(Copy, Clone, Debug)]
pub(super) struct Unpacked {
    pub kind: Kind,
    pub sign: bool,
    pub exp: i32,
    pub frac: u64,
}

impl Unpacked {
    pub fn is_nan(&self) -> bool {
        matches!(self.kind, Kind::QuietNan | Kind::SignallingNan)
    }

    pub fn is_zero(&self) -> bool {
        self.kind == Kind::Zero
    }

    pub fn is_infinite(&self) -> bool {
        self.kind == Kind::Infinity
    }
}

/// `FPUnpack`: with FPCR.FZ, single and double denormals are zeros and set IDC. Halves are never flushed (FPCR.FZ16 belongs to FEAT_FP16).
#[inline]
pub(super) fn unpack(size: FpSize, bits: u64, fpcr: Fpcr, flags: &mut u32) -> Unpacked {
    let f = size.fraction_bits();
    let sign = bits & size.sign_bit() != 0;
    let biased = bits >> f & size.exponent_max();
    let frac = bits & size.fraction_mask();
    let special = |kind| Unpacked { kind, sign, exp: 0, frac: 0 };
    if biased == 0 {
        if frac == 0 {
            return special(Kind::Zero);
        }
        if fpcr.fz() && size != FpSize::Half {
            *flags |= IDC;
            return special(Kind::Zero);
        }
        let lead = frac.leading_zeros();
        // The lowest fraction bit weighs 2^(1 - bias - f).
        return Unpacked {
            kind: Kind::Finite,
            sign,
            exp: 64 - lead as i32 - f as i32 - size.bias(),
            frac: frac << lead,
        };
    }
    if biased == size.exponent_max() && !(size == FpSize::Half && fpcr.ahp()) {
        return special(match (frac == 0, frac >> (f - 1)) {
            (true, _) => Kind::Infinity,
            (false, 0) => Kind::SignallingNan,
            (false, _) => Kind::QuietNan,
        });
    }
    Unpacked { kind: Kind::Finite, sign, exp: biased as i32 - size.bias(), frac: 1 << 63 | frac << (63 - f) }
}

/// Whether an integer part with this error (a fraction of one, left-aligned) goes up by one in magnitude.
#[inline]
pub(super) fn rounds_up(rounding: FpRounding, sign: bool, odd: bool, error: u64) -> bool {
    const HALF: u64 = 1 << 63;
    match rounding {
        FpRounding::TieEven => error > HALF || (error == HALF && odd),
        FpRounding::TieAway => error >= HALF,
        FpRounding::PosInf => error != 0 && !sign,
        FpRounding::NegInf => error != 0 && sign,
        FpRounding::Zero | FpRounding::Odd => false,
    }
}

/// Whether a result too large for its format becomes an infinity (else the largest finite number).
#[inline]
pub(super) fn overflows_to_infinity(rounding: FpRounding, sign: bool) -> bool {
    match rounding {
        FpRounding::TieEven | FpRounding::TieAway => true,
        FpRounding::PosInf => !sign,
        FpRounding::NegInf => sign,
        FpRounding::Zero | FpRounding::Odd => false,
    }
}

/// Shifts `frac` right by `shift` (at least 1): what is left, and what was lost as a left-aligned fraction (inexact below 2^-64: 1).
#[inline]
pub(super) fn split(frac: u64, shift: u32) -> (u64, u64) {
    match shift {
        0..=63 => (frac >> shift, frac << (64 - shift)),
        64 => (0, frac),
        _ => (0, 1),
    }
}

/// `FPRoundBase`: rounds `(-1)^sign * frac * 2^(exp - 63)` to `size`. Bit 63 of `frac` is set; bit 0 also says whether anything below
/// it was lost ("sticky"), which is exact as long as more than two bits lie below the result's last one: at least 11 do.
pub(super) fn round(
    size: FpSize,
    sign: bool,
    exp: i32,
    frac: u64,
    rounding: FpRounding,
    fpcr: Fpcr,
    flags: &mut u32,
) -> u64 {
    let f = size.fraction_bits();
    let min_exp = 1 - size.bias();
    if exp < min_exp && fpcr.fz() && size != FpSize::Half {
        *flags |= UFC; // and not IXC
        return size.zero(sign);
    }
    let limit = size.exponent_max() as i32;
    let normal_shift = 63 - f;
    let (biased, shift) = if exp < min_exp {
        (0, normal_shift.saturating_add((min_exp - exp) as u32))
    } else {
        ((exp - min_exp + 1).min(limit + 1), normal_shift)
    };
    let (mut mant, error) = split(frac, shift);
    if biased == 0 && error != 0 {
        *flags |= UFC;
    }
    if rounds_up(rounding, sign, mant & 1 != 0, error) {
        mant += 1;
    }
    if rounding == FpRounding::Odd && error != 0 {
        mant |= 1;
    }
    // A normal `mant` carries its hidden bit, so that adding it counts the exponent up by one, and by two when rounding carried;
    // a denormal that rounded up to the smallest normal becomes one by itself.
    let packed = ((biased.max(1) - 1) as u64) << f;
    let packed = packed + mant;
    if size == FpSize::Half && fpcr.ahp() {
        if (packed >> f) as i32 > limit {
            *flags |= IOC; // and not IXC: the format has no infinity
            return size.zero(sign) | (size.sign_bit() - 1);
        }
    } else if (packed >> f) as i32 >= limit {
        *flags |= OFC | IXC;
        return if overflows_to_infinity(rounding, sign) { size.infinity(sign) } else { size.max_normal(sign) };
    }
    if error != 0 {
        *flags |= IXC;
    }
    size.zero(sign) | packed
}

/// The zero that an exact cancellation gives: negative only when rounding towards minus infinity.
#[inline]
pub(super) fn cancelled_zero(size: FpSize, fpcr: Fpcr) -> u64 {
    size.zero(fpcr.rounding() == FpRounding::NegInf)
}

/// An invalid operation: sets IOC, gives the default NaN.
#[inline]
pub(super) fn invalid(size: FpSize, flags: &mut u32) -> u64 {
    *flags |= IOC;
    size.default_nan()
}

/// `FPProcessNaN`: quietens a signalling NaN (IOC), or gives the default NaN in default NaN mode.
#[inline]
pub(super) fn process_nan(size: FpSize, bits: u64, kind: Kind, fpcr: Fpcr, flags: &mut u32) -> u64 {
    if kind == Kind::SignallingNan {
        *flags |= IOC;
    }
    if fpcr.dn() { size.default_nan() } else { bits & size.mask() | 1 << (size.fraction_bits() - 1) }
}

/// `FPProcessNaNs` and `FPProcessNaNs3`: the first signalling NaN wins, then the first quiet one. `None` without any NaN.
#[inline]
pub(super) fn process_nans(size: FpSize, operands: &[(Unpacked, u64)], fpcr: Fpcr, flags: &mut u32) -> Option<u64> {
    for wanted in [Kind::SignallingNan, Kind::QuietNan] {
        if let Some((u, bits)) = operands.iter().find(|(u, _)| u.kind == wanted) {
            return Some(process_nan(size, *bits, u.kind, fpcr, flags));
        }
    }
    None
}

/// A finite number with a wide fraction: `(-1)^sign * frac * 2^(exp - 126)`, bit 126 of `frac` set.
#[derive(Copy, Clone, Debug)]
pub(super) struct Wide {
    pub sign: bool,
    pub exp: i32,
    pub frac: u128,
}

impl Wide {
    /// A finite operand, exactly.
    #[inline]
    pub fn from_finite(u: &Unpacked) -> Wide {
        Wide { sign: u.sign, exp: u.exp, frac: u128::from(u.frac) << 63 }
    }

    /// The exact product of two finite operands. Operands have at most 53 significant bits, so that nothing is lost by the shift.
    #[inline]
    pub fn product(a: &Unpacked, b: &Unpacked) -> Wide {
        let frac = u128::from(a.frac) * u128::from(b.frac);
        let carry = (frac >> 127) as u32;
        Wide { sign: a.sign ^ b.sign, exp: a.exp + b.exp + carry as i32, frac: frac >> carry }
    }

    /// The sum, normalised; `None` if it is exactly zero. Bit 0 is sticky when the exponents are further apart than the width allows;
    /// then at most one bit cancels and the sticky bit stays far below any rounding position.
    #[inline]
    pub fn sum(self, other: Wide) -> Option<Wide> {
        let (hi, lo) = if (self.exp, self.frac) >= (other.exp, other.frac) { (self, other) } else { (other, self) };
        let distance = (hi.exp - lo.exp) as u32;
        let aligned = match distance {
            0 => lo.frac,
            1..=126 => lo.frac >> distance | u128::from(lo.frac << (128 - distance) != 0),
            _ => 1,
        };
        let frac = if hi.sign == lo.sign { hi.frac + aligned } else { hi.frac - aligned };
        if frac == 0 {
            return None;
        }
        let lead = frac.leading_zeros();
        Some(if lead == 0 {
            Wide { sign: hi.sign, exp: hi.exp + 1, frac: frac >> 1 | frac & 1 }
        } else {
            Wide { sign: hi.sign, exp: hi.exp + 1 - lead as i32, frac: frac << (lead - 1) }
        })
    }

    /// Rounds to `size` by FPCR.
    #[inline]
    pub fn round(self, size: FpSize, fpcr: Fpcr, flags: &mut u32) -> u64 {
        let frac = (self.frac >> 63) as u64 | u64::from(self.frac as u64 & (u64::MAX >> 1) != 0);
        round(size, self.sign, self.exp, frac, fpcr.rounding(), fpcr, flags)
    }
}
