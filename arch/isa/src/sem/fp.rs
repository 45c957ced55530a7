//! Meaning of the floating-point classes, scalar and vector. Each begins with the CPACR_EL1 check.

use super::{Sem, SemTypes};
use crate::fp::{
    FpBinOp, FpMulAddOp, FpRelation, FpRounding, FpShape, FpSize, FpUnOp, Fpcr, IntFormat, expand_immediate,
};
use crate::insn::{Insn, Reg};
use crate::value::{fp_lanes, softfloat};

/// Primitives of floating point. Vector values hold their elements from bit 0; every result is zero above its shape, so that
/// writing it to a register is writing all 128 bits. Operations take FPCR from the state and add their exceptions to FPSR.
pub trait SemFp: SemTypes {
    /// One operand, element by element.
    fn fp_un(&mut self, op: FpUnOp, shape: FpShape, a: Self::V) -> Self::V;
    /// Two operands, element by element.
    fn fp_bin(&mut self, op: FpBinOp, shape: FpShape, a: Self::V, b: Self::V) -> Self::V;
    /// Adjacent pairs of `a` to the lower half of the elements, of `b` to the upper half.
    fn fp_pairwise(&mut self, op: FpBinOp, shape: FpShape, a: Self::V, b: Self::V) -> Self::V;
    /// All elements to one: neighbours first, then the two results (`Reduce` of the Arm ARM).
    fn fp_reduce(&mut self, op: FpBinOp, shape: FpShape, a: Self::V) -> Self::V;
    /// Fused multiply-add, element by element.
    fn fp_mul_add(&mut self, op: FpMulAddOp, shape: FpShape, addend: Self::V, a: Self::V, b: Self::V) -> Self::V;
    /// Element `index` of `a` in every element.
    fn fp_broadcast(&mut self, shape: FpShape, a: Self::V, index: u8) -> Self::V;
    /// The constant `element` (its bit pattern) in every element.
    fn fp_splat(&mut self, shape: FpShape, element: u64) -> Self::V;
    /// To an integral value in the same format; `None` rounds by FPCR; `exact` sets IXC when the value changes.
    fn fp_round_to_int(&mut self, rounding: Option<FpRounding>, exact: bool, shape: FpShape, a: Self::V) -> Self::V;
    /// All ones in the elements for which the relation holds, zero in the others.
    fn fp_compare_mask(&mut self, relation: FpRelation, shape: FpShape, a: Self::V, b: Self::V) -> Self::V;
    /// Compares the lowest elements. `signal` sets IOC for quiet NaNs too.
    fn fp_compare(&mut self, size: FpSize, signal: bool, a: Self::V, b: Self::V) -> Self::F;
    /// As [`fp_compare`](Self::fp_compare) if `holds`; else `nzcv` (N is bit 3), and FPSR does not change.
    fn fp_cond_compare(
        &mut self,
        size: FpSize,
        signal: bool,
        holds: Self::C,
        nzcv: u8,
        a: Self::V,
        b: Self::V,
    ) -> Self::F;
    /// The lowest element to another format, rounded by FPCR.
    fn fp_convert(&mut self, from: FpSize, to: FpSize, a: Self::V) -> Self::V;
    /// The elements of the lower or `upper` half of `a`, of format `from`, to the next larger format.
    fn fp_widen(&mut self, from: FpSize, upper: bool, a: Self::V) -> Self::V;
    /// The lowest `lanes` elements of `a` to the next smaller format `to`; rounded to odd, or by FPCR.
    fn fp_narrow(&mut self, to: FpSize, to_odd: bool, lanes: u8, a: Self::V) -> Self::V;
    /// Each element to an integer or fixed-point number of the same width.
    fn fp_to_int(&mut self, shape: FpShape, format: IntFormat, rounding: FpRounding, a: Self::V) -> Self::V;
    /// Each element from an integer or fixed-point number of the same width, rounded by FPCR.
    fn int_to_fp(&mut self, shape: FpShape, format: IntFormat, a: Self::V) -> Self::V;
    /// The lowest element to an integer or fixed-point number, zero-extended to 64 bits.
    fn fp_to_x(&mut self, size: FpSize, format: IntFormat, rounding: FpRounding, a: Self::V) -> Self::X;
    /// An integer or fixed-point number in the low bits of `a` to a scalar, rounded by FPCR.
    fn x_to_fp(&mut self, size: FpSize, format: IntFormat, a: Self::X) -> Self::V;
    /// FJCVTZS: the integer, zero-extended, and the flags: Z says whether the conversion was exact, the others are clear.
    fn fp_javascript_convert(&mut self, a: Self::V) -> (Self::X, Self::F);
    /// The bits of the lowest element, zero-extended; of the upper doubleword if `top`.
    fn fp_bits_to_x(&mut self, size: FpSize, top: bool, a: Self::V) -> Self::X;
    /// The low bits of `a` as a scalar, zero above.
    fn x_to_fp_bits(&mut self, size: FpSize, a: Self::X) -> Self::V;
    /// The lower doubleword of `low`, and the lower doubleword of `high` above it.
    fn v_concat(&mut self, low: Self::V, high: Self::V) -> Self::V;
    /// `a` if the condition holds, else `b`.
    fn v_select(&mut self, c: Self::C, a: Self::V, b: Self::V) -> Self::V;
}

/// What an engine that holds plain values must bring; [`SemFp`] follows from it.
pub trait ValueFp: SemTypes<X = u64, V = u128, C = bool, F = u32> {
    /// FPCR, and the FPSR that operations add their exceptions to.
    fn fp_control(&mut self) -> (Fpcr, &mut u32);
}

/// The flags of a 4-bit number.
const fn flags_of(nzcv: u8) -> u32 {
    (nzcv as u32) << 28
}

impl<T: ValueFp> SemFp for T {
    #[inline]
    fn fp_un(&mut self, op: FpUnOp, shape: FpShape, a: u128) -> u128 {
        let (fpcr, flags) = self.fp_control();
        fp_lanes::un(op, shape, a, fpcr, flags)
    }
    #[inline]
    fn fp_bin(&mut self, op: FpBinOp, shape: FpShape, a: u128, b: u128) -> u128 {
        let (fpcr, flags) = self.fp_control();
        fp_lanes::bin(op, shape, a, b, fpcr, flags)
    }
    #[inline]
    fn fp_pairwise(&mut self, op: FpBinOp, shape: FpShape, a: u128, b: u128) -> u128 {
        let (fpcr, flags) = self.fp_control();
        fp_lanes::pairwise(op, shape, a, b, fpcr, flags)
    }
    #[inline]
    fn fp_reduce(&mut self, op: FpBinOp, shape: FpShape, a: u128) -> u128 {
        let (fpcr, flags) = self.fp_control();
        fp_lanes::reduce(op, shape, a, fpcr, flags)
    }
    #[inline]
    fn fp_mul_add(&mut self, op: FpMulAddOp, shape: FpShape, addend: u128, a: u128, b: u128) -> u128 {
        let (fpcr, flags) = self.fp_control();
        fp_lanes::mul_add(op, shape, addend, a, b, fpcr, flags)
    }
    #[inline]
    fn fp_broadcast(&mut self, shape: FpShape, a: u128, index: u8) -> u128 {
        fp_lanes::broadcast(shape, a, index)
    }
    #[inline]
    fn fp_splat(&mut self, shape: FpShape, element: u64) -> u128 {
        fp_lanes::splat(shape, element)
    }
    #[inline]
    fn fp_round_to_int(&mut self, rounding: Option<FpRounding>, exact: bool, shape: FpShape, a: u128) -> u128 {
        let (fpcr, flags) = self.fp_control();
        fp_lanes::round_to_int(shape, rounding, exact, a, fpcr, flags)
    }
    #[inline]
    fn fp_compare_mask(&mut self, relation: FpRelation, shape: FpShape, a: u128, b: u128) -> u128 {
        let (fpcr, flags) = self.fp_control();
        fp_lanes::compare_mask(relation, shape, a, b, fpcr, flags)
    }
    #[inline]
    fn fp_compare(&mut self, size: FpSize, signal: bool, a: u128, b: u128) -> u32 {
        let (fpcr, flags) = self.fp_control();
        flags_of(softfloat::compare(size, a as u64, b as u64, signal, fpcr, flags))
    }
    #[inline]
    fn fp_cond_compare(&mut self, size: FpSize, signal: bool, holds: bool, nzcv: u8, a: u128, b: u128) -> u32 {
        if holds { self.fp_compare(size, signal, a, b) } else { flags_of(nzcv) }
    }
    #[inline]
    fn fp_convert(&mut self, from: FpSize, to: FpSize, a: u128) -> u128 {
        let (fpcr, flags) = self.fp_control();
        fp_lanes::convert(from, to, a, fpcr, flags)
    }
    #[inline]
    fn fp_widen(&mut self, from: FpSize, upper: bool, a: u128) -> u128 {
        let (fpcr, flags) = self.fp_control();
        fp_lanes::widen(from, upper, a, fpcr, flags)
    }
    #[inline]
    fn fp_narrow(&mut self, to: FpSize, to_odd: bool, lanes: u8, a: u128) -> u128 {
        let (fpcr, flags) = self.fp_control();
        fp_lanes::narrow(to, to_odd, lanes, a, fpcr, flags)
    }
    #[inline]
    fn fp_to_int(&mut self, shape: FpShape, format: IntFormat, rounding: FpRounding, a: u128) -> u128 {
        let (fpcr, flags) = self.fp_control();
        fp_lanes::to_int(shape, format, rounding, a, fpcr, flags)
    }
    #[inline]
    fn int_to_fp(&mut self, shape: FpShape, format: IntFormat, a: u128) -> u128 {
        let (fpcr, flags) = self.fp_control();
        fp_lanes::from_int(shape, format, a, fpcr, flags)
    }
    #[inline]
    fn fp_to_x(&mut self, size: FpSize, format: IntFormat, rounding: FpRounding, a: u128) -> u64 {
        let (fpcr, flags) = self.fp_control();
        softfloat::to_int(size, a as u64, format, rounding, fpcr, flags)
    }
    #[inline]
    fn x_to_fp(&mut self, size: FpSize, format: IntFormat, a: u64) -> u128 {
        let (fpcr, flags) = self.fp_control();
        softfloat::from_int(size, a, format, fpcr.rounding(), fpcr, flags).into()
    }
    #[inline]
    fn fp_javascript_convert(&mut self, a: u128) -> (u64, u32) {
        let (fpcr, flags) = self.fp_control();
        {
            let (result, exact) = softfloat::convert_javascript(a as u64, fpcr, flags);
            (result.into(), flags_of(u8::from(exact) << 2))
        }
    }
    #[inline]
    fn fp_bits_to_x(&mut self, size: FpSize, top: bool, a: u128) -> u64 {
        if top { (a >> 64) as u64 } else { a as u64 & size.mask() }
    }
    #[inline]
    fn x_to_fp_bits(&mut self, size: FpSize, a: u64) -> u128 {
        (a & size.mask()).into()
    }
    #[inline]
    fn v_concat(&mut self, low: u128, high: u128) -> u128 {
        u128::from(low as u64) | high << 64
    }
    #[inline]
    fn v_select(&mut self, c: bool, a: u128, b: u128) -> u128 {
        if c { a } else { b }
    }
}

/// Executes a floating-point class; `None` when the instruction is of another.
#[inline]
pub(super) fn execute<S: Sem>(s: &mut S, insn: &Insn) -> Option<Result<(), S::Stop>> {
    // No class touches the state before the check: the operands are read after it.
    match *insn {
        Insn::FpCompare { .. } | Insn::FpCondCompare { .. } => Some(checked(s, insn, compare_to_flags)),
        Insn::FpToGpr { .. } | Insn::FpMoveToGpr { .. } | Insn::FpJavaScriptConvert { .. } => {
            Some(checked(s, insn, to_general))
        }
        _ if insn.is_floating_point() => Some(checked(s, insn, to_vector)),
        _ => None,
    }
}

#[inline(always)]
fn checked<S: Sem>(s: &mut S, insn: &Insn, meaning: fn(&mut S, &Insn)) -> Result<(), S::Stop> {
    s.check_fp_enabled()?;
    meaning(s, insn);
    Ok(())
}

fn to_vector<S: Sem>(s: &mut S, insn: &Insn) {
    if let Some((rd, value)) = vector_result(s, insn) {
        s.set_v(rd, value);
    }
}

/// The classes whose only result is a whole vector register.
fn vector_result<S: Sem>(s: &mut S, insn: &Insn) -> Option<(Reg, S::V)> {
    Some(match *insn {
        Insn::FpBin { op, shape, rd, rn, rm } => {
            let (a, b) = (s.v(rn), s.v(rm));
            (rd, s.fp_bin(op, shape, a, b))
        }
        Insn::FpBinElement { op, shape, rd, rn, rm, index } => {
            let (a, b) = (s.v(rn), s.v(rm));
            let b = s.fp_broadcast(shape, b, index);
            (rd, s.fp_bin(op, shape, a, b))
        }
        Insn::FpPairwise { op, shape, rd, rn, rm } => {
            let (a, b) = (s.v(rn), s.v(rm));
            (rd, s.fp_pairwise(op, shape, a, b))
        }
        Insn::FpReduce { op, shape, rd, rn } => {
            let a = s.v(rn);
            (rd, s.fp_reduce(op, shape, a))
        }
        Insn::FpMulAdd { op, shape, rd, rn, rm, ra } => {
            let (addend, a, b) = (s.v(ra), s.v(rn), s.v(rm));
            (rd, s.fp_mul_add(op, shape, addend, a, b))
        }
        Insn::FpMulAddElement { op, shape, rd, rn, rm, index } => {
            let (addend, a, b) = (s.v(rd), s.v(rn), s.v(rm));
            let b = s.fp_broadcast(shape, b, index);
            (rd, s.fp_mul_add(op, shape, addend, a, b))
        }
        Insn::FpUn { op, shape, rd, rn } => {
            let a = s.v(rn);
            (rd, s.fp_un(op, shape, a))
        }
        Insn::FpRoundToInt { rounding, exact, shape, rd, rn } => {
            let a = s.v(rn);
            (rd, s.fp_round_to_int(rounding, exact, shape, a))
        }
        Insn::FpImmediate { shape, rd, imm8 } => (rd, s.fp_splat(shape, expand_immediate(shape.size, imm8))),
        Insn::FpConvert { from, to, rd, rn } => {
            let a = s.v(rn);
            (rd, s.fp_convert(from, to, a))
        }
        Insn::FpConvertToOdd { rd, rn } => {
            let a = s.v(rn);
            (rd, s.fp_narrow(FpSize::Single, true, 1, a))
        }
        Insn::FpWiden { from, upper, rd, rn } => {
            let a = s.v(rn);
            (rd, s.fp_widen(from, upper, a))
        }
        Insn::FpNarrow { to, to_odd, upper, rd, rn } => {
            let a = s.v(rn);
            let lanes = if to == FpSize::Half { 4 } else { 2 };
            let narrow = s.fp_narrow(to, to_odd, lanes, a);
            if upper {
                let low = s.v(rd);
                (rd, s.v_concat(low, narrow))
            } else {
                (rd, narrow)
            }
        }
        Insn::FpCompareMask { relation, shape, rd, rn, rm } => {
            let (a, b) = (s.v(rn), s.v(rm));
            (rd, s.fp_compare_mask(relation, shape, a, b))
        }
        Insn::FpCompareMaskZero { relation, reversed, shape, rd, rn } => {
            let (a, zero) = (s.v(rn), s.fp_splat(shape, 0));
            let (a, b) = if reversed { (zero, a) } else { (a, zero) };
            (rd, s.fp_compare_mask(relation, shape, a, b))
        }
        Insn::FpCondSelect { size, cond, rd, rn, rm } => {
            let shape = FpShape { size, lanes: 1 };
            let (a, b) = (s.v(rn), s.v(rm));
            let (a, b) = (s.fp_un(FpUnOp::Move, shape, a), s.fp_un(FpUnOp::Move, shape, b));
            let flags = s.nzcv();
            let holds = s.condition(flags, cond);
            (rd, s.v_select(holds, a, b))
        }
        Insn::GprToFp { size, sf, unsigned, fraction_bits, rd, rn } => {
            let a = s.x(rn);
            (rd, s.x_to_fp(size, general_format(sf, unsigned, fraction_bits), a))
        }
        Insn::FpToIntLanes { shape, unsigned, rounding, fraction_bits, rd, rn } => {
            let a = s.v(rn);
            (rd, s.fp_to_int(shape, lane_format(shape, unsigned, fraction_bits), rounding, a))
        }
        Insn::IntToFpLanes { shape, unsigned, fraction_bits, rd, rn } => {
            let a = s.v(rn);
            (rd, s.int_to_fp(shape, lane_format(shape, unsigned, fraction_bits), a))
        }
        Insn::FpMoveFromGpr { size, top, rd, rn } => {
            let a = s.x(rn);
            let bits = s.x_to_fp_bits(size, a);
            if top {
                let low = s.v(rd);
                (rd, s.v_concat(low, bits))
            } else {
                (rd, bits)
            }
        }
        _ => return None,
    })
}

const fn general_format(sf: bool, unsigned: bool, fraction_bits: u8) -> IntFormat {
    IntFormat { bits: if sf { 64 } else { 32 }, unsigned, fraction_bits }
}

const fn lane_format(shape: FpShape, unsigned: bool, fraction_bits: u8) -> IntFormat {
    IntFormat { bits: shape.size.bits() as u8, unsigned, fraction_bits }
}

/// The classes with a result in a general-purpose register.
fn to_general<S: Sem>(s: &mut S, insn: &Insn) {
    match *insn {
        Insn::FpToGpr { size, sf, unsigned, rounding, fraction_bits, rd, rn } => {
            let a = s.v(rn);
            let r = s.fp_to_x(size, general_format(sf, unsigned, fraction_bits), rounding, a);
            s.set_x(rd, r);
        }
        Insn::FpMoveToGpr { size, top, rd, rn } => {
            let a = s.v(rn);
            let r = s.fp_bits_to_x(size, top, a);
            s.set_x(rd, r);
        }
        Insn::FpJavaScriptConvert { rd, rn } => {
            let a = s.v(rn);
            let (r, flags) = s.fp_javascript_convert(a);
            s.set_nzcv(flags);
            s.set_x(rd, r);
        }
        _ => {}
    }
}

/// The classes whose result is NZCV.
fn compare_to_flags<S: Sem>(s: &mut S, insn: &Insn) {
    match *insn {
        Insn::FpCompare { size, signal, zero, rn, rm } => {
            let a = s.v(rn);
            let b = if zero { s.fp_splat(FpShape { size, lanes: 1 }, 0) } else { s.v(rm) };
            let flags = s.fp_compare(size, signal, a, b);
            s.set_nzcv(flags);
        }
        Insn::FpCondCompare { size, signal, cond, nzcv, rn, rm } => {
            let (a, b) = (s.v(rn), s.v(rm));
            let flags = s.nzcv();
            let holds = s.condition(flags, cond);
            let flags = s.fp_cond_compare(size, signal, holds, nzcv, a, b);
            s.set_nzcv(flags);
        }
        _ => {}
    }
}
