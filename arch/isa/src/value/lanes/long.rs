//! Operations whose result lanes are twice the size of the operands' lanes.

use super::{ESize, Lane, VecWidth};

/// An operation on lanes of half the result's size.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Hash)]
#[repr(u8)]
pub enum VecLongOp {
    /// Signed sum.
    Saddl,
    /// Unsigned sum.
    Uaddl,
    /// Signed difference.
    Ssubl,
    /// Unsigned difference.
    Usubl,
    /// Signed absolute difference.
    Sabdl,
    /// Unsigned absolute difference.
    Uabdl,
    /// Signed product.
    Smull,
    /// Unsigned product.
    Umull,
    /// Product of polynomials over GF(2); 8-bit elements, or 64-bit ones, whose product fills the register.
    Pmull,
    /// Doubled signed product, saturating; 16- and 32-bit elements.
    Sqdmull,
}

impl VecLongOp {
    /// Whether the operation can saturate, and so set FPSR.QC.
    pub const fn saturates(self) -> bool {
        matches!(self, VecLongOp::Sqdmull)
    }
}

/// Computes `op` on the low 64 bits of `a` and `b` cut into elements of size `es`; `width` is the width of the result.
///
/// For the second part of a register (`SADDL2` and the like) the caller passes the upper halves. Elements of 64 bits are legal for
/// `Pmull` only; others then give an unspecified value.
pub fn long(op: VecLongOp, es: ESize, width: VecWidth, a: u64, b: u64, qc: &mut bool) -> u128 {
    use VecLongOp::*;
    macro_rules! each {
        ($narrow:ty, $wide:ty, |$x:ident, $y:ident| $e:expr) => {{
            let (a, b) = (<$narrow as Lane<_>>::split(u128::from(a)), <$narrow as Lane<_>>::split(u128::from(b)));
            <$wide>::join(core::array::from_fn(|i| {
                let ($x, $y) = (<$wide>::from(a[i]), <$wide>::from(b[i]));
                $e
            }))
        }};
    }
    macro_rules! by_size {
        ($n8:ty, $n16:ty, $n32:ty; $w16:ty, $w32:ty, $w64:ty; |$x:ident, $y:ident| $e:expr) => {
            match es {
                ESize::B => each!($n8, $w16, |$x, $y| $e),
                ESize::H => each!($n16, $w32, |$x, $y| $e),
                _ => each!($n32, $w64, |$x, $y| $e),
            }
        };
    }
    macro_rules! signed {
        (|$x:ident, $y:ident| $e:expr) => { by_size!(i8, i16, i32; i16, i32, i64; |$x, $y| $e) };
    }
    macro_rules! unsigned {
        (|$x:ident, $y:ident| $e:expr) => { by_size!(u8, u16, u32; u16, u32, u64; |$x, $y| $e) };
    }
    let result = match op {
        Saddl => signed!(|x, y| x.wrapping_add(y)),
        Uaddl => unsigned!(|x, y| x.wrapping_add(y)),
        Ssubl => signed!(|x, y| x.wrapping_sub(y)),
        Usubl => unsigned!(|x, y| x.wrapping_sub(y)),
        Sabdl => signed!(|x, y| x.wrapping_sub(y).wrapping_abs()),
        Uabdl => unsigned!(|x, y| x.abs_diff(y)),
        Smull => signed!(|x, y| x.wrapping_mul(y)),
        Umull => unsigned!(|x, y| x.wrapping_mul(y)),
        Pmull if es == ESize::D => clmul64(a, b),
        Pmull => {
            let (a, b) = (<u8 as Lane<16>>::split(a.into()), <u8 as Lane<16>>::split(b.into()));
            u16::join(core::array::from_fn(|i| polynomial(a[i], b[i])))
        }
        Sqdmull => {
            let (a, b) = (width_of_operands(es, width, a), width_of_operands(es, width, b));
            let halves_overflow = |x: u128, y: u128| match es {
                ESize::H => {
                    let (x, y) = (<i16 as Lane<8>>::split(x), <i16 as Lane<8>>::split(y));
                    x.iter().zip(y).any(|(&x, y)| x == i16::MIN && y == i16::MIN)
                }
                _ => {
                    let (x, y) = (<i32 as Lane<4>>::split(x), <i32 as Lane<4>>::split(y));
                    x.iter().zip(y).any(|(&x, y)| x == i32::MIN && y == i32::MIN)
                }
            };
            *qc |= halves_overflow(a.into(), b.into());
            match es {
                ESize::H => each!(i16, i32, |x, y| (x * y).saturating_mul(2)),
                _ => each!(i32, i64, |x, y| (x * y).saturating_mul(2)),
            }
        }
    };
    width.truncate(result)
}

/// The operands' bits that matter: all 64 for a vector, one element for a scalar operation.
fn width_of_operands(es: ESize, width: VecWidth, v: u64) -> u64 {
    if width == VecWidth::Q16 { v } else { v & es.scalar().mask() as u64 }
}

/// Extends the elements of size `es` (8, 16 or 32 bits) in the low 64 bits to twice the size.
pub fn widen(signed: bool, es: ESize, a: u64) -> u128 {
    let op = if signed { VecLongOp::Saddl } else { VecLongOp::Uaddl };
    long(op, es, VecWidth::Q16, a, 0, &mut false)
}

fn polynomial(x: u8, y: u8) -> u16 {
    let mut product = 0;
    for bit in 0..8 {
        product ^= (u16::from(x) << bit) & u16::from(y >> bit & 1).wrapping_neg();
    }
    product
}

/// The 128-bit product of two polynomials of 64 bits over GF(2): PMULL of 64-bit elements.
///
/// Of numbers that keep one bit in five, at most 13 partial products meet in a bit of the integer product. Their count fits four bits, so
/// no carry reaches the next kept bit, and its lowest bit is their sum modulo two.
pub fn clmul64(a: u64, b: u64) -> u128 {
    const EVERY_FIFTH: [u128; 5] = {
        let mut masks = [0u128; 5];
        let mut bit = 0;
        while bit < 128 {
            masks[bit % 5] |= 1 << bit;
            bit += 1;
        }
        masks
    };
    let mut result = 0;
    for (k, &kept) in EVERY_FIFTH.iter().enumerate() {
        let mut sum = 0u128;
        for (i, &mask) in EVERY_FIFTH.iter().enumerate() {
            // Bits i of `a` and j of `b` meet in bit k when i + j = k modulo 5.
            let j = (k + 5 - i) % 5;
            sum ^= (u128::from(a) & mask).wrapping_mul(u128::from(b) & EVERY_FIFTH[j]);
        }
        result |= sum & kept;
    }
    result
}
