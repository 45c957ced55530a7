//! Operations that read the destination register as a third operand.

use super::{ESize, Lane, VecBinOp, VecWidth, binary};

/// An operation on two vectors and the old value of the destination.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Hash)]
#[repr(u8)]
pub enum VecTernOp {
    /// Adds the product to the destination.
    Mla,
    /// Subtracts the product from the destination.
    Mls,
    /// Adds the signed absolute difference to the destination.
    Saba,
    /// Adds the unsigned absolute difference to the destination.
    Uaba,
    /// Adds the doubled product to the destination, high half, signed, rounding, saturating; 16- and 32-bit elements.
    Sqrdmlah,
    /// Subtracts the doubled product from the destination, high half, signed, rounding, saturating; 16- and 32-bit elements.
    Sqrdmlsh,
    /// Takes the first operand's bit where the destination has a one, else the second's.
    Bsl,
    /// Inserts the first operand's bit where the second has a one.
    Bit,
    /// Inserts the first operand's bit where the second has a zero.
    Bif,
    /// Adds the four products of signed bytes in each 32-bit element to the destination.
    Sdot,
    /// Adds the four products of unsigned bytes in each 32-bit element to the destination.
    Udot,
}

impl VecTernOp {
    /// Whether the operation can saturate, and so set FPSR.QC.
    pub const fn saturates(self) -> bool {
        matches!(self, VecTernOp::Sqrdmlah | VecTernOp::Sqrdmlsh)
    }
}

/// Computes `op` on elements of size `es` in the low `width` bytes; `d` is the old destination.
#[inline]
pub fn ternary(op: VecTernOp, es: ESize, width: VecWidth, d: u128, a: u128, b: u128, qc: &mut bool) -> u128 {
    use VecTernOp::*;
    let mut both = |inner, outer| {
        let value = binary(inner, es, width, a, b, qc);
        binary(outer, es, width, d, value, qc)
    };
    let result = match op {
        Mla => both(VecBinOp::Mul, VecBinOp::Add),
        Mls => both(VecBinOp::Mul, VecBinOp::Sub),
        Saba => both(VecBinOp::Sabd, VecBinOp::Add),
        Uaba => both(VecBinOp::Uabd, VecBinOp::Add),
        Bsl => (a & d) | (b & !d),
        Bit => (a & b) | (d & !b),
        Bif => (a & !b) | (d & b),
        Sdot => dot(d, a, b, |byte| i32::from(byte.cast_signed())),
        Udot => dot(d, a, b, i32::from),
        Sqrdmlah | Sqrdmlsh => {
            doubling_accumulate(op == Sqrdmlsh, es, width.truncate(d), width.truncate(a), width.truncate(b), qc)
        }
    };
    width.truncate(result)
}

/// SDOT and UDOT: products of bytes summed up in 32 bits.
fn dot(d: u128, a: u128, b: u128, extend: impl Fn(u8) -> i32) -> u128 {
    let (a, b) = (<u8 as Lane<16>>::split(a), <u8 as Lane<16>>::split(b));
    let mut sums = <i32 as Lane<4>>::split(d);
    for (i, sum) in sums.iter_mut().enumerate() {
        for j in 4 * i..4 * i + 4 {
            *sum = sum.wrapping_add(extend(a[j]) * extend(b[j]));
        }
    }
    i32::join(sums)
}

/// SQRDMLAH and SQRDMLSH, computed at half the scale of the Arm ARM's formula so that 64 bits hold every intermediate.
fn doubling_accumulate(subtract: bool, es: ESize, d: u128, a: u128, b: u128, qc: &mut bool) -> u128 {
    let bits = es.bits();
    let (min, max) = (-(1i64 << (bits - 1)), (1i64 << (bits - 1)) - 1);
    let mut lane = |d: i64, x: i64, y: i64| {
        let product = if subtract { -(x * y) } else { x * y };
        let exact = ((d << (bits - 1)) + product + (1 << (bits - 2))) >> (bits - 1);
        let clamped = exact.clamp(min, max);
        *qc |= exact != clamped;
        clamped
    };
    if es == ESize::H {
        let (d, a, b) = (<i16 as Lane<8>>::split(d), <i16 as Lane<8>>::split(a), <i16 as Lane<8>>::split(b));
        i16::join(core::array::from_fn(|i| lane(d[i].into(), a[i].into(), b[i].into()) as i16))
    } else {
        let (d, a, b) = (<i32 as Lane<4>>::split(d), <i32 as Lane<4>>::split(a), <i32 as Lane<4>>::split(b));
        i32::join(core::array::from_fn(|i| lane(d[i].into(), a[i].into(), b[i].into()) as i32))
    }
}
