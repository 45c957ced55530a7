//! Floating point, scalar: arithmetic, compares, moves. Conversions are in `convert`, vectors in `vector`.
//!
//! Host arithmetic under the guest's rounding mode gives Arm's results and flags except where a NaN comes out: those results
//! are recognised and the instruction is given to the interpreter, before anything of the guest is changed (the flags that the host has set by then are
//! some of those that Arm sets). Under DN and AHP conversions do so too. Under FZ see `flush`.

mod convert;
mod flush;
#[cfg(test)]
mod tests;
mod vector;

use isa::insn::{FpBinOp, FpMulAddOp, FpRelation, FpShape, FpSize, FpUnOp, Insn};

use crate::asm::{Cc, Gpr, Mem, Rm, Section, Sz, VLen, Vop, Xmm, ops};
use crate::env;
use crate::t1::builder::Builder;
use crate::t1::flags::FpCompareRecipe;
use crate::t1::fp_flags::compare_predicate;
use crate::t1::regs::{ENV, home_v};

pub(super) const RAX: Gpr = Gpr::RAX;
pub(super) const RCX: Gpr = Gpr::RCX;
pub(super) const X0: Xmm = Xmm(0);
pub(super) const X1: Xmm = Xmm(1);
pub(super) const X2: Xmm = Xmm(2);
pub(super) const X3: Xmm = Xmm(3);
pub(super) const L: VLen = VLen::L128;

/// Constants that generated code finds in its environment, indexed by [`Constant`].
pub const CONSTANTS: [[u64; 2]; 20] = [
    [0x7fff_ffff, 0],
    [0x7fff_ffff_ffff_ffff, 0],
    [0x8000_0000, 0],
    [0x8000_0000_0000_0000, 0],
    [0x7fff_ffff_7fff_ffff; 2],
    [0x7fff_ffff_ffff_ffff; 2],
    [0x8000_0000_8000_0000; 2],
    [0x8000_0000_0000_0000; 2],
    [0x3f00_0000_3f00_0000; 2],
    [0x3fe0_0000_0000_0000; 2],
    [0x3f80_0000_3f80_0000; 2],
    [0x3ff0_0000_0000_0000; 2],
    [0x4b00_0000_4b00_0000; 2],
    [0x4330_0000_0000_0000; 2],
    [0x5d80_0000_5d80_0000; 2],
    [0x5f30_0000_0000_0000; 2],
    [0x4000_0000_4000_0000; 2],
    [0x4000_0000_0000_0000; 2],
    [0x4040_0000_4040_0000; 2],
    [0x4008_0000_0000_0000; 2],
];

/// Rows of [`CONSTANTS`]: the first of two, for singles and doubles.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Constant {
    /// All but the sign of the lowest element, zero above.
    AbsScalar = 0,
    /// The sign of the lowest element.
    SignScalar = 2,
    /// All but the signs.
    Abs = 4,
    /// The signs.
    Sign = 6,
    /// 0.5.
    Half = 8,
    /// 1.0.
    One = 10,
    /// 2^23 or 2^52: from here on every number is an integer.
    Integers = 12,
    /// 2^60 or 2^500: products of smaller numbers do not overflow.
    Moderate = 14,
    /// 2.0.
    Two = 16,
    /// 3.0.
    Three = 18,
}

/// Operand of a constant.
pub(super) fn constant(c: Constant, double: bool) -> Mem {
    Mem::b(ENV, env::FP_CONSTANTS + 16 * (c as i32 + i32::from(double)))
}

/// Lower one instruction of this family; false if it has no lowering.
pub fn lower(b: &mut Builder<'_>, insn: &Insn) -> bool {
    if b.mode.fp_trap {
        return false;
    }
    if moves(b, insn) {
        return true;
    }
    if b.mode.fp_odd {
        return flush::lower(b, insn);
    }
    scalar(b, insn) || convert::lower(b, insn) || vector::lower(b, insn)
}

/// What neither rounds nor looks at FPCR.
fn moves(b: &mut Builder<'_>, insn: &Insn) -> bool {
    match *insn {
        Insn::FpUn { op: op @ (FpUnOp::Move | FpUnOp::Abs | FpUnOp::Neg), shape, rd, rn } if shape.lanes == 1 => {
            move_abs_neg(b, op, shape.size == FpSize::Double, rd, rn);
        }
        Insn::FpUn { op: op @ (FpUnOp::Abs | FpUnOp::Neg), shape, rd, rn } => vector::sign(b, op, shape, rd, rn),
        Insn::FpImmediate { shape, rd, imm8 } => immediate(b, shape, rd, imm8),
        Insn::FpCondSelect { size, cond, rd, rn, rm } if size != FpSize::Half => select(b, size, cond, rd, rn, rm),
        Insn::FpMoveToGpr { size, top, rd, rn } if size != FpSize::Half => {
            b.begin(&[rd], false);
            let d = b.d(rd, RAX);
            match (size, top, b.pin_v(rn)) {
                (FpSize::Single, _, Some(x)) => b.a.vst(ops::VMOVD_ST, L, d, x),
                (FpSize::Single, _, None) => b.a.load(Sz::D, d, home_v(rn)),
                (_, false, Some(x)) => b.a.vst(ops::VMOVQ_ST, L, d, x),
                (_, false, None) => b.a.load(Sz::Q, d, home_v(rn)),
                (_, true, Some(x)) => b.a.vsti(ops::VPEXTRQ, L, d, x, 1),
                (_, true, None) => b.a.load(Sz::Q, d, home_v(rn).at(8)),
            }
            b.set(rd, d);
        }
        Insn::FpMoveFromGpr { size, top, rd, rn } if size != FpSize::Half => {
            let r = b.r(rn, RAX);
            if top {
                match b.pin_v(rd) {
                    Some(x) => b.a.v3i(ops::VPINSRQ, L, x, x, r, 1),
                    None => b.a.store(Sz::Q, home_v(rd).at(8), r),
                }
            } else {
                let d = b.dv(rd, X0);
                b.a.v2(if size == FpSize::Double { ops::VMOVQ } else { ops::VMOVD }, L, d, r);
                b.set_v(rd, d);
                b.note_zero_above(size == FpSize::Double, rd);
            }
        }
        _ => return false,
    }
    true
}

fn move_abs_neg(b: &mut Builder<'_>, op: FpUnOp, double: bool, rd: u8, rn: u8) {
    let n = b.scalar(double, rn, X0);
    let clean = b.is_zero_above(double, rn);
    match op {
        FpUnOp::Abs => {
            let d = b.dv(rd, X0);
            b.a.v3(ops::VANDPS, L, d, n, constant(Constant::AbsScalar, double));
            b.set_v(rd, d);
            b.note_zero_above(double, rd);
        }
        FpUnOp::Neg => {
            b.a.v3(ops::VXORPS, L, X0, n, constant(Constant::SignScalar, double));
            b.set_scalar(double, rd, X0, clean);
        }
        _ => b.set_scalar(double, rd, n, clean),
    }
}

fn immediate(b: &mut Builder<'_>, shape: FpShape, rd: u8, imm8: u8) {
    let double = shape.size == FpSize::Double;
    let bits = isa::fp::expand_immediate(shape.size, imm8);
    let pattern = if !double && shape.lanes > 1 { bits << 32 | bits } else { bits };
    let d = b.dv(rd, X0);
    b.a.mov_imm(RAX, pattern);
    b.a.v2(ops::VMOVQ, L, d, RAX);
    if shape.lanes == 4 || double && shape.lanes == 2 {
        b.a.v2(ops::VMOVDDUP, L, d, d);
    }
    b.set_v(rd, d);
    if shape.lanes == 1 {
        b.note_zero_above(double, rd);
    }
}

/// FCSEL: right behind a compare by doing that compare again as a mask, else through general registers.
fn select(b: &mut Builder<'_>, size: FpSize, cond: isa::insn::Cond, rd: u8, rn: u8, rm: u8) {
    let double = size == FpSize::Double;
    if cond.always() {
        let clean = b.is_zero_above(double, rn);
        let n = b.scalar(double, rn, X0);
        b.forget_compare_of(1 << rd);
        return b.set_scalar(double, rd, n, clean);
    }
    let recipe = b.flags.fp;
    b.forget_compare_of(1 << rd);
    if let Some(r) = recipe
        && r.double == double
    {
        let x = b.scalar(double, r.n, X0);
        let y = match r.m {
            Some(m) => b.scalar(double, m, X1),
            None => {
                b.a.vzero(X1);
                X1
            }
        };
        b.a.v3i(if double { ops::VCMPSD } else { ops::VCMPSS }, L, X0, x, y, compare_predicate(cond));
        let n = b.scalar(double, rn, X1);
        let m = b.scalar(double, rm, X2);
        b.a.v4(if double { ops::VBLENDVPD } else { ops::VBLENDVPS }, L, X0, m, n, X0);
        return b.set_scalar(double, rd, X0, false);
    }
    let sz = Sz::dq(double);
    let Some(cc) = b.cond(cond) else { return };
    let general = |b: &mut Builder<'_>, v: u8, g: Gpr| match b.pin_v(v) {
        Some(x) => b.a.vst(if double { ops::VMOVQ_ST } else { ops::VMOVD_ST }, L, g, x),
        None => b.a.load(sz, g, home_v(v)),
    };
    general(b, rm, RAX);
    general(b, rn, RCX);
    b.a.cmov(cc, sz, RAX, RCX);
    let d = b.dv(rd, X0);
    b.a.v2(if double { ops::VMOVQ } else { ops::VMOVD }, L, d, RAX);
    b.set_v(rd, d);
    b.note_zero_above(double, rd);
}

fn scalar(b: &mut Builder<'_>, insn: &Insn) -> bool {
    match *insn {
        Insn::FpBin { op: op @ (FpBinOp::MulX | FpBinOp::RecipStep | FpBinOp::RsqrtStep), shape, rd, rn, rm } => {
            vector::step(b, op, shape, rd, rn, vector::Source::Lanes(rm));
        }
        Insn::FpBin { op, shape, rd, rn, rm } if shape.lanes == 1 => {
            return binary(b, op, shape.size == FpSize::Double, rd, rn, rm);
        }
        Insn::FpMulAdd { op, shape, rd, rn, rm, ra } if shape.lanes == 1 => {
            mul_add(b, op, shape.size == FpSize::Double, [rd, rn, rm, ra]);
        }
        Insn::FpUn { op: FpUnOp::Sqrt, shape, rd, rn } if shape.lanes == 1 => {
            let double = shape.size == FpSize::Double;
            b.begin(&[], true);
            let n = b.scalar(double, rn, X0);
            b.a.v3(if double { ops::VSQRTSD } else { ops::VSQRTSS }, L, X0, n, n);
            b.nan_to_interpreter(double, X0);
            let clean = b.is_zero_above(double, rn);
            b.set_scalar(double, rd, X0, clean);
        }
        Insn::FpCompare { size, signal, zero, rn, rm } if size != FpSize::Half => {
            let r = FpCompareRecipe { double: size == FpSize::Double, n: rn, m: (!zero).then_some(rm) };
            b.fp_compare(r, signal);
        }
        Insn::FpCondCompare { size, signal, cond, nzcv, rn, rm } if size != FpSize::Half => {
            let r = FpCompareRecipe { double: size == FpSize::Double, n: rn, m: Some(rm) };
            cond_compare(b, r, signal, cond, nzcv);
        }
        Insn::FpCompareMask { relation, shape, rd, rn, rm } if shape.lanes == 1 => {
            compare_mask(b, relation, shape.size == FpSize::Double, rd, rn, Some(rm), false);
        }
        Insn::FpCompareMaskZero { relation, reversed, shape, rd, rn } if shape.lanes == 1 => {
            compare_mask(b, relation, shape.size == FpSize::Double, rd, rn, None, reversed);
        }
        _ => return false,
    }
    true
}

/// The host instruction for an operation that needs nothing else, for singles and doubles: scalar and packed.
pub(super) fn plain_op(op: FpBinOp) -> Option<[Vop; 4]> {
    Some(match op {
        FpBinOp::Add => [ops::VADDSS, ops::VADDSD, ops::VADDPS, ops::VADDPD],
        FpBinOp::Sub | FpBinOp::AbsDiff => [ops::VSUBSS, ops::VSUBSD, ops::VSUBPS, ops::VSUBPD],
        FpBinOp::Mul | FpBinOp::NegMul => [ops::VMULSS, ops::VMULSD, ops::VMULPS, ops::VMULPD],
        FpBinOp::Div => [ops::VDIVSS, ops::VDIVSD, ops::VDIVPS, ops::VDIVPD],
        FpBinOp::Max | FpBinOp::MaxNum => [ops::VMAXSS, ops::VMAXSD, ops::VMAXPS, ops::VMAXPD],
        FpBinOp::Min | FpBinOp::MinNum => [ops::VMINSS, ops::VMINSD, ops::VMINPS, ops::VMINPD],
        FpBinOp::MulX | FpBinOp::RecipStep | FpBinOp::RsqrtStep => return None,
    })
}

fn binary(b: &mut Builder<'_>, op: FpBinOp, double: bool, rd: u8, rn: u8, rm: u8) -> bool {
    let Some(row) = plain_op(op) else { return false };
    let vop = row[usize::from(double)];
    b.begin(&[], true);
    let (mut rn, mut rm) = (rn, rm);
    let commutes = matches!(op, FpBinOp::Add | FpBinOp::Mul | FpBinOp::NegMul);
    if commutes && !b.is_zero_above(double, rn) && b.is_zero_above(double, rm) {
        (rn, rm) = (rm, rn);
    }
    let clean = b.is_zero_above(double, rn);
    let n = b.scalar(double, rn, X0);
    if matches!(op, FpBinOp::Max | FpBinOp::Min | FpBinOp::MaxNum | FpBinOp::MinNum) {
        // The host's maximum is wrong for NaNs and takes the second of two zeros: both orders, then one of the signs.
        let m = b.scalar(double, rm, X1);
        let cold = b.interp_cold();
        b.a.v2(if double { ops::VUCOMISD } else { ops::VUCOMISS }, L, n, m);
        b.a.jcc(Cc::P, cold);
        b.a.v3(vop, L, X2, n, m);
        b.a.v3(vop, L, X3, m, n);
        let both = if matches!(op, FpBinOp::Max | FpBinOp::MaxNum) { ops::VANDPS } else { ops::VORPS };
        b.a.v3(both, L, X0, X2, X3);
        b.set_scalar(double, rd, X0, false);
        return true;
    }
    b.a.v3(vop, L, X0, n, b.vm(rm));
    b.nan_to_interpreter(double, X0);
    match op {
        FpBinOp::NegMul => b.a.v3(ops::VXORPS, L, X0, X0, constant(Constant::SignScalar, double)),
        FpBinOp::AbsDiff => {
            b.a.v3(ops::VANDPS, L, X0, X0, constant(Constant::AbsScalar, double));
            b.set_scalar(double, rd, X0, true);
            return true;
        }
        _ => {}
    }
    b.set_scalar(double, rd, X0, clean);
    true
}

/// Host instruction of a fused multiply-add whose destination is the addend: scalar single and double, packed single and double.
pub(super) fn fused(op: FpMulAddOp) -> [Option<Vop>; 4] {
    match op {
        FpMulAddOp::MulAdd => [ops::VFMADD231SS, ops::VFMADD231SD, ops::VFMADD231PS, ops::VFMADD231PD].map(Some),
        FpMulAddOp::MulSub => [ops::VFNMADD231SS, ops::VFNMADD231SD, ops::VFNMADD231PS, ops::VFNMADD231PD].map(Some),
        FpMulAddOp::NegMulAdd => [Some(ops::VFNMSUB231SS), Some(ops::VFNMSUB231SD), None, None],
        FpMulAddOp::NegMulSub => [Some(ops::VFMSUB231SS), Some(ops::VFMSUB231SD), None, None],
    }
}

fn mul_add(b: &mut Builder<'_>, op: FpMulAddOp, double: bool, [rd, rn, rm, ra]: [u8; 4]) {
    let Some(vop) = fused(op)[usize::from(double)] else { return };
    b.begin(&[], true);
    let clean = b.is_zero_above(double, ra);
    let a = b.scalar(double, ra, X0);
    b.a.vmov(X0, a);
    let n = b.scalar(double, rn, X1);
    b.a.v3(vop, L, X0, n, b.vm(rm));
    b.nan_to_interpreter(double, X0);
    b.set_scalar(double, rd, X0, clean);
}

fn cond_compare(b: &mut Builder<'_>, r: FpCompareRecipe, signal: bool, cond: isa::insn::Cond, nzcv: u8) {
    use crate::asm::Alu;
    use crate::t1::flags::{Polarity, from_nzcv};
    let Some(cc) = b.cond(cond) else {
        return b.fp_compare(r, signal);
    };
    let (cold, done) = (b.a.label(), b.a.label());
    b.a.jcc(cc.not(), cold);
    b.fp_compare(r, signal);
    b.fp_flags_to_rax();
    b.a.bind(done);
    b.a.alu_imm(Alu::Add, Sz::B, RAX, 0x7f);
    b.a.sahf();
    b.flags_in_host(Polarity::Add);
    let old = b.a.switch(Section::Cold);
    b.a.bind(cold);
    b.a.mov_imm(RAX, u64::from(from_nzcv(u32::from(nzcv) << 28)));
    b.a.jmp(done);
    b.a.switch(old);
}

/// Predicate of VCMP for a relation, and whether it is one of magnitudes.
pub(super) fn relation_predicate(relation: FpRelation) -> (u8, bool) {
    match relation {
        FpRelation::Equal => (0x00, false),
        FpRelation::GreaterEqual => (0x0d, false),
        FpRelation::Greater => (0x0e, false),
        FpRelation::AbsGreaterEqual => (0x0d, true),
        FpRelation::AbsGreater => (0x0e, true),
    }
}

fn compare_mask(b: &mut Builder<'_>, rel: FpRelation, double: bool, rd: u8, rn: u8, rm: Option<u8>, reversed: bool) {
    let (predicate, abs) = relation_predicate(rel);
    let mut n = b.scalar(double, rn, X0);
    let mut m = match rm {
        Some(m) => b.scalar(double, m, X1),
        None => {
            b.a.vzero(X1);
            X1
        }
    };
    if abs {
        b.a.v3(ops::VANDPS, L, X0, n, constant(Constant::AbsScalar, double));
        b.a.v3(ops::VANDPS, L, X1, m, constant(Constant::AbsScalar, double));
        (n, m) = (X0, X1);
    }
    if reversed {
        (n, m) = (m, n);
    }
    b.a.v3i(if double { ops::VCMPSD } else { ops::VCMPSS }, L, X0, n, m, predicate);
    b.set_scalar(double, rd, X0, false);
}

impl Builder<'_> {
    /// Vector register `v` with at least its lowest element in some host register; zero above that if it comes from memory.
    pub(super) fn scalar(&mut self, double: bool, v: u8, scratch: Xmm) -> Xmm {
        if let Some(x) = self.pin_v(v) {
            return x;
        }
        self.a.v2(if double { ops::VMOVSD_LD } else { ops::VMOVSS_LD }, L, scratch, home_v(v));
        scratch
    }

    /// True if what [`Builder::scalar`] answers is zero above the lowest element.
    pub(super) fn is_zero_above(&self, double: bool, v: u8) -> bool {
        self.pin_v(v).is_none() || self.zero_above[usize::from(double)] >> v & 1 != 0
    }

    /// The current instruction leaves `v` zero above its lowest element.
    pub(super) fn note_zero_above(&mut self, double: bool, v: u8) {
        self.zero_above_new[1] |= 1 << v;
        if !double {
            self.zero_above_new[0] |= 1 << v;
        }
    }

    /// `v` = the lowest element of `from`, zero above. `clean`: `from` is so already.
    pub(super) fn set_scalar(&mut self, double: bool, v: u8, from: Xmm, clean: bool) {
        let d = self.dv(v, X0);
        match (clean, double) {
            (true, _) => self.a.vmov(d, from),
            (false, true) => self.a.v2(ops::VMOVQ_X, L, d, from),
            (false, false) => self.a.v3i(ops::VINSERTPS, L, d, from, Rm::from(from), 0x0e),
        }
        self.set_v(v, d);
        self.note_zero_above(double, v);
    }

    /// To the interpreter if the result in `x` is a NaN, or flushed by FZ.
    pub(super) fn nan_to_interpreter(&mut self, double: bool, x: Xmm) {
        let cold = self.interp_cold();
        self.a.v2(if double { ops::VUCOMISD } else { ops::VUCOMISS }, L, x, x);
        self.a.jcc(Cc::P, cold);
        if self.mode.fp_odd {
            self.tiny_to_interpreter(double, x);
        }
    }

    /// As [`Builder::nan_to_interpreter`] where FPCR might ask for another NaN than the host's.
    pub(super) fn careful_nan(&mut self, double: bool, x: Xmm) {
        if self.mode.fp_careful || self.mode.fp_odd {
            self.nan_to_interpreter(double, x);
        }
    }
}
