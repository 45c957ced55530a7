//! Between floating-point formats, and the JavaScript conversion.

use super::parts::{Kind, round, unpack};
use super::{FpRounding, FpSize, Fpcr, IOC, IXC};

/// `FPConvert`: FCVT, FCVTL, FCVTN with FPCR's rounding, FCVTXN with [`FpRounding::Odd`].
pub fn convert(from: FpSize, to: FpSize, a: u64, rounding: FpRounding, fpcr: Fpcr, flags: &mut u32) -> u64 {
    let u = unpack(from, a, fpcr, flags);
    let alternative_half = to == FpSize::Half && fpcr.ahp();
    match u.kind {
        Kind::QuietNan | Kind::SignallingNan => {
            if u.kind == Kind::SignallingNan || alternative_half {
                *flags |= IOC;
            }
            if alternative_half {
                to.zero(u.sign)
            } else if fpcr.dn() {
                to.default_nan()
            } else {
                convert_nan(from, to, a, u.sign)
            }
        }
        Kind::Infinity if alternative_half => {
            *flags |= IOC;
            to.zero(u.sign) | (to.sign_bit() - 1)
        }
        Kind::Infinity => to.infinity(u.sign),
        Kind::Zero => to.zero(u.sign),
        Kind::Finite => round(to, u.sign, u.exp, u.frac, rounding, fpcr, flags),
    }
}

/// `FPConvertNaN`: quiet, with the most significant bits of the payload that fit.
fn convert_nan(from: FpSize, to: FpSize, a: u64, sign: bool) -> u64 {
    let left_aligned = (a & from.fraction_mask()) << (64 - from.fraction_bits());
    let payload = left_aligned >> (64 - to.fraction_bits());
    to.infinity(sign) | payload | 1 << (to.fraction_bits() - 1)
}

/// `FPToFixedJS`: double to signed 32-bit integer modulo 2^32, rounding towards zero. The flag says whether the conversion was exact
/// (PSTATE.Z); -0, and a denormal that FPCR.FZ flushed, are not.
pub fn convert_javascript(a: u64, fpcr: Fpcr, flags: &mut u32) -> (u32, bool) {
    let u = unpack(FpSize::Double, a, fpcr, flags);
    match u.kind {
        Kind::QuietNan | Kind::SignallingNan | Kind::Infinity => {
            *flags |= IOC;
            return (0, false);
        }
        Kind::Zero => return (0, a == 0),
        Kind::Finite => {}
    }
    if u.exp < 0 {
        *flags |= IXC;
        return (0, false);
    }
    // The integer part modulo 2^32, and whether bits below one were lost.
    let (low, inexact) = match u.exp {
        0..=63 => {
            let shift = 63 - u.exp as u32;
            (u.frac >> shift, u.frac << 1 << (u.exp as u32) != 0)
        }
        64..=94 => (u.frac << (u.exp - 63), false),
        _ => (0, false),
    };
    let result = if u.sign { (low as u32).wrapping_neg() } else { low as u32 };
    let in_range = u.exp < 31 || (u.exp == 31 && u.sign && low == 1 << 31);
    if !in_range {
        *flags |= IOC;
    } else if inexact {
        *flags |= IXC;
    }
    (result, in_range && !inexact)
}
