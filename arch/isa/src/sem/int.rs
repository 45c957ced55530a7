//! Primitives on general-purpose values and flags, and their implementation for every engine whose values are numbers.

use super::{BinaryOp, SemTypes};
use crate::operand::{AluUn, Cond, Extend, LoadExt, Shift, Size};
use crate::value::{crc, int};

/// Pure functions of 64-bit values, flags and conditions.
///
/// `sf` = 64-bit operation; else the upper halves of operands are ignored and that of the result is zero. An engine with numbers
/// implements [`PlainValues`] instead; the functions behind it are in [`crate::value::int`].
pub trait SemInt: SemTypes {
    /// A constant.
    fn x_const(&mut self, value: u64) -> Self::X;
    /// A constant of flags: N, Z, C, V in bits 3 to 0 as in the encodings.
    fn flags_const(&mut self, nzcv: u8) -> Self::F;

    /// [`BinaryOp`] of two values.
    fn binary(&mut self, op: BinaryOp, sf: bool, a: Self::X, b: Self::X) -> Self::X;
    /// [`AluUn`] of a value.
    fn unary(&mut self, op: AluUn, sf: bool, a: Self::X) -> Self::X;
    /// A shift by a constant `amount`, below the size.
    fn shift(&mut self, shift: Shift, sf: bool, a: Self::X, amount: u8) -> Self::X;
    /// The extension, then a shift left by `shift` (0 to 4), in 64 bits.
    fn extend(&mut self, extend: Extend, shift: u8, a: Self::X) -> Self::X;
    /// EXTR: the bits of `high:low` from bit `lsb` (below the size) on.
    fn extract(&mut self, sf: bool, high: Self::X, low: Self::X, lsb: u8) -> Self::X;
    /// The checksum `acc` (32 bits) continued over the low `size` of `a`; result zero-extended.
    fn crc32(&mut self, castagnoli: bool, size: Size, acc: Self::X, a: Self::X) -> Self::X;

    /// Sum and its NZCV.
    fn add_flags(&mut self, sf: bool, a: Self::X, b: Self::X) -> (Self::X, Self::F);
    /// Difference and its NZCV; C = no borrow.
    fn sub_flags(&mut self, sf: bool, a: Self::X, b: Self::X) -> (Self::X, Self::F);
    /// `a + b + carry` and its NZCV (AddWithCarry of the Arm ARM).
    fn add_carry(&mut self, sf: bool, a: Self::X, b: Self::X, carry: Self::C) -> (Self::X, Self::F);
    /// N and Z of a result; C = V = 0.
    fn logic_flags(&mut self, sf: bool, result: Self::X) -> Self::F;
    /// The flags as a number: N, Z, C, V in bits 31 to 28, zeros elsewhere.
    fn flags_to_x(&mut self, flags: Self::F) -> Self::X;
    /// The flags from bits 31 to 28 of a number.
    fn flags_from_x(&mut self, a: Self::X) -> Self::F;

    /// Whether the condition holds for the flags.
    fn condition(&mut self, flags: Self::F, cond: Cond) -> Self::C;
    /// Whether the operand is zero.
    fn is_zero(&mut self, sf: bool, a: Self::X) -> Self::C;
    /// Bit `bit` (0 to 63) of a value.
    fn bit(&mut self, a: Self::X, bit: u8) -> Self::C;
    /// The opposite.
    fn not(&mut self, c: Self::C) -> Self::C;
    /// `a` when the condition holds, else `b`.
    fn select(&mut self, c: Self::C, a: Self::X, b: Self::X) -> Self::X;
    /// `a` when the condition holds, else `b`.
    fn select_flags(&mut self, c: Self::C, a: Self::F, b: Self::F) -> Self::F;

    /// 64-bit sum: addresses.
    #[inline(always)]
    fn add(&mut self, a: Self::X, b: Self::X) -> Self::X {
        self.binary(BinaryOp::Add, true, a, b)
    }
    /// The value plus a constant, 64-bit.
    #[inline(always)]
    fn add_const(&mut self, a: Self::X, offset: i64) -> Self::X {
        let b = self.x_const(offset.cast_unsigned());
        self.add(a, b)
    }
    /// The complement.
    #[inline(always)]
    fn complement(&mut self, sf: bool, a: Self::X) -> Self::X {
        let ones = self.x_const(u64::MAX);
        self.binary(BinaryOp::Eor, sf, a, ones)
    }
    /// The low half, zero-extended.
    #[inline(always)]
    fn low_word(&mut self, a: Self::X) -> Self::X {
        self.extend(Extend::Uxtw, 0, a)
    }
    /// What a load does with the `size` that it read.
    #[inline(always)]
    fn extend_load(&mut self, ext: LoadExt, size: Size, a: Self::X) -> Self::X {
        let signed = match (ext, size) {
            (LoadExt::Zero, _) => return a,
            (_, Size::B) => self.extend(Extend::Sxtb, 0, a),
            (_, Size::H) => self.extend(Extend::Sxth, 0, a),
            (_, Size::W) => self.extend(Extend::Sxtw, 0, a),
            _ => return a,
        };
        if ext == LoadExt::SignTo32 { self.low_word(signed) } else { signed }
    }
}

/// An engine whose values are numbers has all of [`SemInt`] by saying so.
pub trait PlainValues: SemTypes<X = u64, C = bool, F = u32> {}

impl<T: PlainValues> SemInt for T {
    #[inline(always)]
    fn x_const(&mut self, value: u64) -> u64 {
        value
    }
    #[inline(always)]
    fn flags_const(&mut self, nzcv: u8) -> u32 {
        u32::from(nzcv) << 28
    }
    #[inline(always)]
    fn binary(&mut self, op: BinaryOp, sf: bool, a: u64, b: u64) -> u64 {
        int::binary(op, sf, a, b)
    }
    #[inline(always)]
    fn unary(&mut self, op: AluUn, sf: bool, a: u64) -> u64 {
        int::unary(op, sf, a)
    }
    #[inline(always)]
    fn shift(&mut self, shift: Shift, sf: bool, a: u64, amount: u8) -> u64 {
        int::binary(shift.into(), sf, a, amount.into())
    }
    #[inline(always)]
    fn extend(&mut self, extend: Extend, shift: u8, a: u64) -> u64 {
        int::extend(extend, shift, a)
    }
    #[inline(always)]
    fn extract(&mut self, sf: bool, high: u64, low: u64, lsb: u8) -> u64 {
        int::extract(sf, high, low, lsb)
    }
    #[inline(always)]
    fn crc32(&mut self, castagnoli: bool, size: Size, acc: u64, a: u64) -> u64 {
        crc::crc32(castagnoli, size, acc as u32, a).into()
    }
    #[inline(always)]
    fn add_flags(&mut self, sf: bool, a: u64, b: u64) -> (u64, u32) {
        int::add_flags(sf, a, b)
    }
    #[inline(always)]
    fn sub_flags(&mut self, sf: bool, a: u64, b: u64) -> (u64, u32) {
        int::sub_flags(sf, a, b)
    }
    #[inline(always)]
    fn add_carry(&mut self, sf: bool, a: u64, b: u64, carry: bool) -> (u64, u32) {
        int::add_carry(sf, a, b, carry)
    }
    #[inline(always)]
    fn logic_flags(&mut self, sf: bool, result: u64) -> u32 {
        int::logic_flags(sf, result)
    }
    #[inline(always)]
    fn flags_to_x(&mut self, flags: u32) -> u64 {
        flags.into()
    }
    #[inline(always)]
    fn flags_from_x(&mut self, a: u64) -> u32 {
        a as u32 & 0xf000_0000
    }
    #[inline(always)]
    fn condition(&mut self, flags: u32, cond: Cond) -> bool {
        int::condition(flags, cond)
    }
    #[inline(always)]
    fn is_zero(&mut self, sf: bool, a: u64) -> bool {
        int::truncate(sf, a) == 0
    }
    #[inline(always)]
    fn bit(&mut self, a: u64, bit: u8) -> bool {
        a >> (bit & 63) & 1 != 0
    }
    #[inline(always)]
    fn not(&mut self, c: bool) -> bool {
        !c
    }
    #[inline(always)]
    fn select(&mut self, c: bool, a: u64, b: u64) -> u64 {
        if c { a } else { b }
    }
    #[inline(always)]
    fn select_flags(&mut self, c: bool, a: u32, b: u32) -> u32 {
        if c { a } else { b }
    }
}
