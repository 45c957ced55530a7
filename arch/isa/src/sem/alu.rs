//! Data processing on general-purpose registers: immediate and register forms, multiplication, division, flags.

use super::{BinaryOp, Sem};
use crate::insn::Reg;
use crate::operand::{
    AluUn, BitfieldOp, Cond, CondSelectOp, Extend, FlagOp, LogicalOp, MoveWideOp, Shift, Size, bitfield_shifts,
};
use crate::value::int;

/// The decoded choices of an addition or subtraction.
#[derive(Copy, Clone)]
pub(super) struct AddSub {
    pub sf: bool,
    pub sub: bool,
    pub setflags: bool,
}

#[inline(always)]
pub(super) fn pc_relative<S: Sem>(s: &mut S, rd: Reg, page: bool, offset: i64) {
    let pc = s.pc();
    let base = if page {
        let mask = s.x_const(!0xfff);
        s.binary(BinaryOp::And, true, pc, mask)
    } else {
        pc
    };
    let result = s.add_const(base, offset);
    s.set_x(rd, result);
}

#[inline(always)]
pub(super) fn add_sub_imm<S: Sem>(s: &mut S, how: AddSub, rd: Reg, rn: Reg, imm: u32) {
    let (a, b) = (s.x_sp(rn), s.x_const(imm.into()));
    add_sub(s, how, true, rd, a, b);
}

#[inline(always)]
pub(super) fn add_sub_shifted<S: Sem>(s: &mut S, how: AddSub, rd: Reg, rn: Reg, rm: Reg, shift: Shift, amount: u8) {
    let (a, b) = (s.x(rn), shifted(s, shift, how.sf, rm, amount));
    add_sub(s, how, false, rd, a, b);
}

#[inline(always)]
pub(super) fn add_sub_extended<S: Sem>(s: &mut S, how: AddSub, rd: Reg, rn: Reg, rm: Reg, extend: Extend, shift: u8) {
    let (a, b) = (s.x_sp(rn), s.x(rm));
    let b = s.extend(extend, shift, b);
    add_sub(s, how, true, rd, a, b);
}

/// `sp`: destination 31 is SP unless flags are set.
#[inline(always)]
fn add_sub<S: Sem>(s: &mut S, how: AddSub, sp: bool, rd: Reg, a: S::X, b: S::X) {
    if how.setflags {
        let (result, flags) = if how.sub { s.sub_flags(how.sf, a, b) } else { s.add_flags(how.sf, a, b) };
        s.set_nzcv(flags);
        s.set_x(rd, result);
    } else {
        let op = if how.sub { BinaryOp::Sub } else { BinaryOp::Add };
        let result = s.binary(op, how.sf, a, b);
        if sp {
            s.set_x_sp(rd, result);
        } else {
            s.set_x(rd, result);
        }
    }
}

#[inline(always)]
pub(super) fn add_sub_carry<S: Sem>(s: &mut S, how: AddSub, rd: Reg, rn: Reg, rm: Reg) {
    let AddSub { sf, sub, setflags } = how;
    let (a, b) = (s.x(rn), s.x(rm));
    let b = if sub { s.complement(sf, b) } else { b };
    let old = s.nzcv();
    let carry = s.condition(old, Cond::Cs);
    let (result, flags) = s.add_carry(sf, a, b, carry);
    if setflags {
        s.set_nzcv(flags);
    }
    s.set_x(rd, result);
}

/// A register operand, shifted by a constant.
#[inline(always)]
fn shifted<S: Sem>(s: &mut S, shift: Shift, sf: bool, rm: Reg, amount: u8) -> S::X {
    let value = s.x(rm);
    if amount == 0 { value } else { s.shift(shift, sf, value, amount) }
}

#[inline(always)]
fn set_logic_flags<S: Sem>(s: &mut S, sf: bool, result: S::X) {
    let flags = s.logic_flags(sf, result);
    s.set_nzcv(flags);
}

#[inline(always)]
pub(super) fn logical_imm<S: Sem>(s: &mut S, sf: bool, op: LogicalOp, setflags: bool, rd: Reg, rn: Reg, imm: u64) {
    let (a, b) = (s.x(rn), s.x_const(imm));
    let result = s.binary(op.into(), sf, a, b);
    if setflags {
        set_logic_flags(s, sf, result);
        s.set_x(rd, result);
    } else {
        s.set_x_sp(rd, result);
    }
}

/// The register operand of a logical instruction: shifted, then perhaps complemented.
#[derive(Copy, Clone)]
pub(super) struct LogicalOperand {
    pub shift: Shift,
    pub amount: u8,
    pub invert: bool,
    pub rm: Reg,
}

#[inline(always)]
pub(super) fn logical_shifted<S: Sem>(
    s: &mut S,
    sf: bool,
    op: LogicalOp,
    setflags: bool,
    rd: Reg,
    rn: Reg,
    operand: LogicalOperand,
) {
    let (a, b) = (s.x(rn), shifted(s, operand.shift, sf, operand.rm, operand.amount));
    let b = if operand.invert { s.complement(sf, b) } else { b };
    let result = s.binary(op.into(), sf, a, b);
    if setflags {
        set_logic_flags(s, sf, result);
    }
    s.set_x(rd, result);
}

#[inline(always)]
pub(super) fn extract<S: Sem>(s: &mut S, sf: bool, rd: Reg, rn: Reg, rm: Reg, lsb: u8) {
    let (high, low) = (s.x(rn), s.x(rm));
    let result = s.extract(sf, high, low, lsb);
    s.set_x(rd, result);
}

#[inline(always)]
pub(super) fn unary<S: Sem>(s: &mut S, sf: bool, op: AluUn, rd: Reg, rn: Reg) {
    let a = s.x(rn);
    let result = s.unary(op, sf, a);
    s.set_x(rd, result);
}

#[inline(always)]
pub(super) fn binary<S: Sem>(s: &mut S, sf: bool, op: BinaryOp, rd: Reg, rn: Reg, rm: Reg) {
    let (a, b) = (s.x(rn), s.x(rm));
    let result = s.binary(op, sf, a, b);
    s.set_x(rd, result);
}

#[inline(always)]
pub(super) fn crc32<S: Sem>(s: &mut S, castagnoli: bool, size: Size, rd: Reg, rn: Reg, rm: Reg) {
    let (acc, a) = (s.x(rn), s.x(rm));
    let result = s.crc32(castagnoli, size, acc, a);
    s.set_x(rd, result);
}

#[inline(always)]
pub(super) fn move_wide<S: Sem>(s: &mut S, sf: bool, op: MoveWideOp, rd: Reg, shift: u8, imm: u16) {
    let imm = u64::from(imm).wrapping_shl(shift.into());
    let result = match op {
        MoveWideOp::N => s.x_const(int::truncate(sf, !imm)),
        MoveWideOp::Z => s.x_const(imm),
        MoveWideOp::K => {
            let kept = s.x_const(!0xffff_u64.wrapping_shl(shift.into()));
            let (old, new) = (s.x(rd), s.x_const(imm));
            let old = s.binary(BinaryOp::And, sf, old, kept);
            s.binary(BinaryOp::Orr, sf, old, new)
        }
    };
    s.set_x(rd, result);
}

/// The field moves by a shift left, that puts its sign at bit 63, and a shift right, both in 64 bits also for W registers.
#[inline(always)]
pub(super) fn bitfield<S: Sem>(s: &mut S, sf: bool, op: BitfieldOp, rd: Reg, rn: Reg, immr: u8, imms: u8) {
    let (left, right) = bitfield_shifts(sf, immr, imms);
    let source = s.x(rn);
    let top = s.shift(Shift::Lsl, true, source, left);
    let result = match op {
        BitfieldOp::Signed => {
            let moved = s.shift(Shift::Asr, true, top, right);
            if sf { moved } else { s.low_word(moved) }
        }
        BitfieldOp::Unsigned => s.shift(Shift::Lsr, true, top, right),
        BitfieldOp::Insert => {
            let moved = s.shift(Shift::Lsr, true, top, right);
            let field = u64::MAX.wrapping_shl(left.into()).wrapping_shr(right.into());
            let (old, kept) = (s.x(rd), s.x_const(!field));
            let old = s.binary(BinaryOp::And, sf, old, kept);
            s.binary(BinaryOp::Orr, sf, old, moved)
        }
    };
    s.set_x(rd, result);
}

/// SMULH, UMULH.
pub(super) const fn high_product(signed: bool) -> BinaryOp {
    if signed { BinaryOp::SmulHigh } else { BinaryOp::UmulHigh }
}

#[inline(always)]
pub(super) fn mul_add<S: Sem>(s: &mut S, sf: bool, sub: bool, rd: Reg, rn: Reg, rm: Reg, ra: Reg) {
    let (a, b) = (s.x(rn), s.x(rm));
    add_product(s, sf, sub, rd, a, b, ra);
}

#[inline(always)]
pub(super) fn mul_add_long<S: Sem>(s: &mut S, signed: bool, sub: bool, rd: Reg, rn: Reg, rm: Reg, ra: Reg) {
    let extend = if signed { Extend::Sxtw } else { Extend::Uxtw };
    let (a, b) = (s.x(rn), s.x(rm));
    let (a, b) = (s.extend(extend, 0, a), s.extend(extend, 0, b));
    add_product(s, true, sub, rd, a, b, ra);
}

#[inline(always)]
fn add_product<S: Sem>(s: &mut S, sf: bool, sub: bool, rd: Reg, a: S::X, b: S::X, ra: Reg) {
    let product = s.binary(BinaryOp::Mul, sf, a, b);
    let addend = s.x(ra);
    let result = s.binary(if sub { BinaryOp::Sub } else { BinaryOp::Add }, sf, addend, product);
    s.set_x(rd, result);
}

#[inline(always)]
pub(super) fn cond_select<S: Sem>(s: &mut S, sf: bool, op: CondSelectOp, cond: Cond, rd: Reg, rn: Reg, rm: Reg) {
    let (a, b) = (s.x(rn), s.x(rm));
    let flags = s.nzcv();
    let holds = s.condition(flags, cond);
    let other = match op {
        CondSelectOp::Csel => b,
        CondSelectOp::Csinc => s.add_const(b, 1),
        CondSelectOp::Csinv => s.complement(true, b),
        CondSelectOp::Csneg => {
            let zero = s.x_const(0);
            s.binary(BinaryOp::Sub, true, zero, b)
        }
    };
    let chosen = s.select(holds, a, other);
    let result = if sf { chosen } else { s.low_word(chosen) };
    s.set_x(rd, result);
}

/// The decoded choices of a conditional comparison.
#[derive(Copy, Clone)]
pub(super) struct Compare {
    pub sf: bool,
    pub sub: bool,
    pub cond: Cond,
    pub nzcv: u8,
}

#[inline(always)]
pub(super) fn cond_compare_reg<S: Sem>(s: &mut S, how: Compare, rn: Reg, rm: Reg) {
    let b = s.x(rm);
    cond_compare(s, how, rn, b);
}

#[inline(always)]
pub(super) fn cond_compare_imm<S: Sem>(s: &mut S, how: Compare, rn: Reg, imm: u8) {
    let b = s.x_const(imm.into());
    cond_compare(s, how, rn, b);
}

#[inline(always)]
fn cond_compare<S: Sem>(s: &mut S, how: Compare, rn: Reg, b: S::X) {
    let Compare { sf, sub, cond, nzcv } = how;
    let a = s.x(rn);
    let old = s.nzcv();
    let holds = s.condition(old, cond);
    let (_, compared) = if sub { s.sub_flags(sf, a, b) } else { s.add_flags(sf, a, b) };
    let otherwise = s.flags_const(nzcv);
    let flags = s.select_flags(holds, compared, otherwise);
    s.set_nzcv(flags);
}

pub(super) fn flag_manipulation<S: Sem>(s: &mut S, op: FlagOp, rn: Reg, rotate: u8, mask: u8) {
    let old = s.nzcv();
    let flags = match op {
        FlagOp::Cfinv => {
            let (old, c) = (s.flags_to_x(old), s.x_const(int::C.into()));
            let new = s.binary(BinaryOp::Eor, true, old, c);
            s.flags_from_x(new)
        }
        // Unordered (V) becomes Z alone; else Z and C stay and N is dropped.
        FlagOp::Axflag => {
            let unordered = s.condition(old, Cond::Vs);
            let (x, zc) = (s.flags_to_x(old), s.x_const((int::Z | int::C).into()));
            let kept = s.binary(BinaryOp::And, true, x, zc);
            let (kept, z) = (s.flags_from_x(kept), s.flags_const(0b0100));
            s.select_flags(unordered, z, kept)
        }
        // C and Z alone decide: less (neither) N; unordered (Z alone) C and V; greater (C alone) C; equal (both) Z and C.
        FlagOp::Xaflag => {
            let (z, c) = (s.condition(old, Cond::Eq), s.condition(old, Cond::Cs));
            let (both, c_alone) = (s.flags_const(0b0110), s.flags_const(0b0010));
            let (z_alone, neither) = (s.flags_const(0b0011), s.flags_const(0b1000));
            let with_c = s.select_flags(z, both, c_alone);
            let without = s.select_flags(z, z_alone, neither);
            s.select_flags(c, with_c, without)
        }
        FlagOp::Setf8 => set_from_low_bits(s, 8, rn, old),
        FlagOp::Setf16 => set_from_low_bits(s, 16, rn, old),
        FlagOp::Rmif => {
            let field = u64::from(mask & 15) << 28;
            let source = s.x(rn);
            let rotated = s.shift(Shift::Ror, true, source, rotate);
            let placed = s.shift(Shift::Lsl, true, rotated, 28);
            insert_flags(s, old, placed, field)
        }
    };
    s.set_nzcv(flags);
}

/// SETF8, SETF16: N = the top bit of the low `bits`, Z = all of them zero, V = the bit above differs from the top bit; C is kept.
fn set_from_low_bits<S: Sem>(s: &mut S, bits: u8, rn: Reg, old: S::F) -> S::F {
    let source = s.x(rn);
    let at_top = s.shift(Shift::Lsl, true, source, 32 - bits);
    let n = mask(s, at_top, int::N.into());
    let above = s.shift(Shift::Lsr, true, source, 1);
    let differs = s.binary(BinaryOp::Eor, true, source, above);
    let differs = s.shift(Shift::Lsl, true, differs, 29 - bits);
    let v = mask(s, differs, int::V.into());
    let is_zero = s.is_zero(false, at_top);
    let (z, zero) = (s.x_const(int::Z.into()), s.x_const(0));
    let z = s.select(is_zero, z, zero);
    let nz = s.binary(BinaryOp::Orr, true, n, z);
    let nzv = s.binary(BinaryOp::Orr, true, nz, v);
    insert_flags(s, old, nzv, (int::N | int::Z | int::V).into())
}

#[inline(always)]
fn mask<S: Sem>(s: &mut S, a: S::X, bits: u64) -> S::X {
    let bits = s.x_const(bits);
    s.binary(BinaryOp::And, true, a, bits)
}

/// The flags with those in `field` taken from `new`.
fn insert_flags<S: Sem>(s: &mut S, old: S::F, new: S::X, field: u64) -> S::F {
    let new = mask(s, new, field);
    let old = s.flags_to_x(old);
    let kept = mask(s, old, !field);
    let merged = s.binary(BinaryOp::Orr, true, kept, new);
    s.flags_from_x(merged)
}
