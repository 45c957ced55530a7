//! Integer operations of the base instruction set as functions of plain values.
//!
//! `sf` chooses the operand size as in the encodings: true = 64 bits, false = 32 bits. A 32-bit operation ignores the upper halves of
//! its operands and its result has a zero upper half. NZCV values have N, Z, C, V in bits 31 to 28 and zeros below, as PSTATE in SPSR.

use crate::operand::{AluUn, AtomicOp, Cond, DataOp2, Extend, LogicalOp, Shift, Size};

/// N in an NZCV value.
pub const N: u32 = 1 << 31;
/// Z in an NZCV value.
pub const Z: u32 = 1 << 30;
/// C in an NZCV value.
pub const C: u32 = 1 << 29;
/// V in an NZCV value.
pub const V: u32 = 1 << 28;

/// Operation on two general-purpose values.
#[derive(Copy, Clone, PartialEq, Eq, Debug, Hash)]
#[repr(u8)]
pub enum BinaryOp {
    /// Sum, modulo the size.
    Add,
    /// Difference, modulo the size.
    Sub,
    /// Low half of the product.
    Mul,
    /// Upper 64 bits of the signed 128-bit product; 64-bit only.
    SmulHigh,
    /// Upper 64 bits of the unsigned 128-bit product; 64-bit only.
    UmulHigh,
    /// Unsigned quotient; 0 when the divisor is 0.
    Udiv,
    /// Signed quotient towards zero; 0 when the divisor is 0; the most negative number divided by -1 is itself.
    Sdiv,
    /// Bitwise and.
    And,
    /// Bitwise or.
    Orr,
    /// Bitwise exclusive or.
    Eor,
    /// Shift left by the second operand modulo the size.
    Lsl,
    /// Logical shift right by the second operand modulo the size.
    Lsr,
    /// Arithmetic shift right by the second operand modulo the size.
    Asr,
    /// Rotation right by the second operand modulo the size.
    Ror,
}

impl From<LogicalOp> for BinaryOp {
    #[inline(always)]
    fn from(op: LogicalOp) -> BinaryOp {
        match op {
            LogicalOp::And | LogicalOp::Ands => BinaryOp::And,
            LogicalOp::Orr => BinaryOp::Orr,
            LogicalOp::Eor => BinaryOp::Eor,
        }
    }
}

impl From<DataOp2> for BinaryOp {
    #[inline(always)]
    fn from(op: DataOp2) -> BinaryOp {
        match op {
            DataOp2::Udiv => BinaryOp::Udiv,
            DataOp2::Sdiv => BinaryOp::Sdiv,
            DataOp2::Lslv => BinaryOp::Lsl,
            DataOp2::Lsrv => BinaryOp::Lsr,
            DataOp2::Asrv => BinaryOp::Asr,
            DataOp2::Rorv => BinaryOp::Ror,
        }
    }
}

impl From<Shift> for BinaryOp {
    #[inline(always)]
    fn from(op: Shift) -> BinaryOp {
        match op {
            Shift::Lsl => BinaryOp::Lsl,
            Shift::Lsr => BinaryOp::Lsr,
            Shift::Asr => BinaryOp::Asr,
            Shift::Ror => BinaryOp::Ror,
        }
    }
}

/// The value as an operand of the size: upper half cleared for 32 bits.
#[inline(always)]
#[must_use]
pub const fn truncate(sf: bool, a: u64) -> u64 {
    if sf { a } else { a & 0xffff_ffff }
}

/// The low `size` of a value, zero above. `Q` and larger leave it as it is.
#[inline(always)]
#[must_use]
pub const fn truncate_to(size: Size, a: u64) -> u64 {
    match size {
        Size::B => a & 0xff,
        Size::H => a & 0xffff,
        Size::W => a & 0xffff_ffff,
        _ => a,
    }
}

/// The low `size` of a value, sign-extended to 64 bits. `X` and larger leave it as it is.
#[inline(always)]
#[must_use]
pub const fn sign_extend_from(size: Size, a: u64) -> u64 {
    match size {
        Size::B => a as i8 as u64,
        Size::H => a as i16 as u64,
        Size::W => a as i32 as u64,
        _ => a,
    }
}

/// [`BinaryOp`] of two values.
#[inline(always)]
#[must_use]
pub fn binary(op: BinaryOp, sf: bool, a: u64, b: u64) -> u64 {
    if sf { binary64(op, a, b) } else { binary32(op, a as u32, b as u32).into() }
}

#[inline(always)]
fn binary64(op: BinaryOp, a: u64, b: u64) -> u64 {
    match op {
        BinaryOp::Add => a.wrapping_add(b),
        BinaryOp::Sub => a.wrapping_sub(b),
        BinaryOp::Mul => a.wrapping_mul(b),
        BinaryOp::SmulHigh => ((i128::from(a as i64) * i128::from(b as i64)) >> 64) as u64,
        BinaryOp::UmulHigh => ((u128::from(a) * u128::from(b)) >> 64) as u64,
        BinaryOp::Udiv => a.checked_div(b).unwrap_or(0),
        BinaryOp::Sdiv => {
            if b == 0 {
                0
            } else {
                (a as i64).wrapping_div(b as i64) as u64
            }
        }
        BinaryOp::And => a & b,
        BinaryOp::Orr => a | b,
        BinaryOp::Eor => a ^ b,
        BinaryOp::Lsl => a.wrapping_shl(b as u32),
        BinaryOp::Lsr => a.wrapping_shr(b as u32),
        BinaryOp::Asr => (a as i64).wrapping_shr(b as u32) as u64,
        BinaryOp::Ror => a.rotate_right(b as u32 & 63),
    }
}

#[inline(always)]
fn binary32(op: BinaryOp, a: u32, b: u32) -> u32 {
    match op {
        BinaryOp::Add => a.wrapping_add(b),
        BinaryOp::Sub => a.wrapping_sub(b),
        BinaryOp::Mul => a.wrapping_mul(b),
        BinaryOp::SmulHigh => ((i64::from(a as i32) * i64::from(b as i32)) >> 32) as u32,
        BinaryOp::UmulHigh => ((u64::from(a) * u64::from(b)) >> 32) as u32,
        BinaryOp::Udiv => a.checked_div(b).unwrap_or(0),
        BinaryOp::Sdiv => {
            if b == 0 {
                0
            } else {
                (a as i32).wrapping_div(b as i32) as u32
            }
        }
        BinaryOp::And => a & b,
        BinaryOp::Orr => a | b,
        BinaryOp::Eor => a ^ b,
        BinaryOp::Lsl => a.wrapping_shl(b),
        BinaryOp::Lsr => a.wrapping_shr(b),
        BinaryOp::Asr => (a as i32).wrapping_shr(b) as u32,
        BinaryOp::Ror => a.rotate_right(b & 31),
    }
}

/// [`AluUn`] of a value.
#[inline(always)]
#[must_use]
pub fn unary(op: AluUn, sf: bool, a: u64) -> u64 {
    let low = a as u32;
    match (op, sf) {
        (AluUn::Rbit, true) => a.reverse_bits(),
        (AluUn::Rbit, false) => low.reverse_bits().into(),
        (AluUn::Rev16, _) => {
            let swapped = (a & 0x00ff_00ff_00ff_00ff) << 8 | (a >> 8 & 0x00ff_00ff_00ff_00ff);
            truncate(sf, swapped)
        }
        (AluUn::Rev32, true) => a.swap_bytes().rotate_right(32),
        (AluUn::Rev64, true) => a.swap_bytes(),
        // A 32-bit register has one word: REV is both.
        (AluUn::Rev32 | AluUn::Rev64, false) => low.swap_bytes().into(),
        (AluUn::Clz, true) => a.leading_zeros().into(),
        (AluUn::Clz, false) => low.leading_zeros().into(),
        // Bits equal to the sign become zeros; the sign bit itself always does and is not counted.
        (AluUn::Cls, true) => ((a ^ ((a as i64) >> 1) as u64) & (u64::MAX >> 1)).leading_zeros().wrapping_sub(1).into(),
        (AluUn::Cls, false) => {
            ((low ^ ((low as i32) >> 1) as u32) & (u32::MAX >> 1)).leading_zeros().wrapping_sub(1).into()
        }
    }
}

/// [`Extend`] of a register, then a shift left by `shift` (0 to 4), in 64 bits.
#[inline(always)]
#[must_use]
pub const fn extend(extend: Extend, shift: u8, a: u64) -> u64 {
    let wide = match extend {
        Extend::Uxtb => truncate_to(Size::B, a),
        Extend::Uxth => truncate_to(Size::H, a),
        Extend::Uxtw => truncate_to(Size::W, a),
        Extend::Sxtb => sign_extend_from(Size::B, a),
        Extend::Sxth => sign_extend_from(Size::H, a),
        Extend::Sxtw => sign_extend_from(Size::W, a),
        Extend::Uxtx | Extend::Sxtx => a,
    };
    wide.wrapping_shl(shift as u32)
}

/// EXTR: the bits of `high:low` from bit `lsb` on. `lsb` is below the size.
#[inline(always)]
#[must_use]
pub const fn extract(sf: bool, high: u64, low: u64, lsb: u8) -> u64 {
    if sf {
        // Two steps, since a shift by 64 is none.
        low.wrapping_shr(lsb as u32) | (high << 1).wrapping_shl(63 - (lsb & 63) as u32)
    } else {
        ((high << 32 | low & 0xffff_ffff) >> (lsb & 31)) & 0xffff_ffff
    }
}

/// AddWithCarry of the Arm ARM: `a + b + carry` and its NZCV.
#[inline(always)]
#[must_use]
pub const fn add_carry(sf: bool, a: u64, b: u64, carry: bool) -> (u64, u32) {
    if sf {
        let (partial, c1) = a.overflowing_add(b);
        let (sum, c2) = partial.overflowing_add(carry as u64);
        let v = (a ^ sum) & (b ^ sum);
        (sum, nzcv((sum >> 63) as u32, sum == 0, c1 | c2, (v >> 63) as u32))
    } else {
        let (a, b) = (a as u32, b as u32);
        let (partial, c1) = a.overflowing_add(b);
        let (sum, c2) = partial.overflowing_add(carry as u32);
        let v = (a ^ sum) & (b ^ sum);
        (sum as u64, nzcv(sum >> 31, sum == 0, c1 | c2, v >> 31))
    }
}

/// ADDS: `a + b` and its NZCV.
#[inline(always)]
#[must_use]
pub const fn add_flags(sf: bool, a: u64, b: u64) -> (u64, u32) {
    add_carry(sf, a, b, false)
}

/// SUBS: `a - b` and its NZCV; C = no borrow.
#[inline(always)]
#[must_use]
pub const fn sub_flags(sf: bool, a: u64, b: u64) -> (u64, u32) {
    if sf {
        let d = a.wrapping_sub(b);
        (d, nzcv((d >> 63) as u32, d == 0, a >= b, (((a ^ b) & (a ^ d)) >> 63) as u32))
    } else {
        let (a, b) = (a as u32, b as u32);
        let d = a.wrapping_sub(b);
        (d as u64, nzcv(d >> 31, d == 0, a >= b, ((a ^ b) & (a ^ d)) >> 31))
    }
}

/// NZCV of ANDS: N and Z of the result; C and V are 0.
#[inline(always)]
#[must_use]
pub const fn logic_flags(sf: bool, result: u64) -> u32 {
    if sf {
        nzcv((result >> 63) as u32, result == 0, false, 0)
    } else {
        nzcv((result as u32) >> 31, result as u32 == 0, false, 0)
    }
}

/// Packs the four flags; `n` and `v` are 0 or 1.
#[inline(always)]
const fn nzcv(n: u32, z: bool, c: bool, v: u32) -> u32 {
    n << 31 | (z as u32) << 30 | (c as u32) << 29 | v << 28
}

/// Bit `nzcv` of entry `cond` is set when the condition holds for these four flags.
const HOLDS: [u16; 16] = holds_table();

const fn holds_table() -> [u16; 16] {
    let mut table = [0u16; 16];
    let mut flags = 0;
    while flags < 16 {
        let (n, z, c, v) = (flags & 8 != 0, flags & 4 != 0, flags & 2 != 0, flags & 1 != 0);
        let holds = [z, c, n, v, c && !z, n == v, n == v && !z, true];
        let mut pair = 0;
        while pair < 8 {
            // The odd condition of a pair is the opposite, but NV holds as AL does.
            if holds[pair] {
                table[2 * pair] |= 1 << flags;
            }
            if !holds[pair] || pair == 7 {
                table[2 * pair + 1] |= 1 << flags;
            }
            pair += 1;
        }
        flags += 1;
    }
    table
}

/// ConditionHolds of the Arm ARM.
#[inline(always)]
#[must_use]
pub const fn condition(nzcv: u32, cond: Cond) -> bool {
    HOLDS[cond as usize] >> (nzcv >> 28) & 1 != 0
}

/// The new value in memory of an atomic read-modify-write: operands and result are of `size`, zero-extended.
#[inline]
#[must_use]
pub fn atomic(op: AtomicOp, size: Size, old: u64, operand: u64) -> u64 {
    let (old, operand) = (truncate_to(size, old), truncate_to(size, operand));
    let signed = |a: u64| sign_extend_from(size, a) as i64;
    let new = match op {
        AtomicOp::Add => old.wrapping_add(operand),
        AtomicOp::Clr => old & !operand,
        AtomicOp::Eor => old ^ operand,
        AtomicOp::Set => old | operand,
        AtomicOp::Smax => {
            if signed(old) >= signed(operand) {
                old
            } else {
                operand
            }
        }
        AtomicOp::Smin => {
            if signed(old) <= signed(operand) {
                old
            } else {
                operand
            }
        }
        AtomicOp::Umax => old.max(operand),
        AtomicOp::Umin => old.min(operand),
        AtomicOp::Swp => operand,
        // No encoding gives these.
        AtomicOp::Reserved9
        | AtomicOp::Reserved10
        | AtomicOp::Reserved11
        | AtomicOp::Reserved12
        | AtomicOp::Reserved13
        | AtomicOp::Reserved14
        | AtomicOp::Reserved15 => old,
    };
    truncate_to(size, new)
}
