//! Floating point under FPCR.FZ: the host's arithmetic where nothing is flushed, else the interpreter.
//!
//! Before an operation its operands are looked at, and behind it (in `nan_to_interpreter`) its result: what is not zero and at most the smallest normal number goes to the
//! interpreter. The smallest normal number may have been rounded to, and Arm looks for tininess before. A tiny result has set the host's inexact flag,
//! which Arm does not set with a flushed one: so the host computes only while FPSR.IXC is set already, which it is from the first rounding on.

use isa::insn::{FpBinOp, FpMulAddOp, FpShape, FpSize, FpUnOp, Insn};

use super::{L, RAX, X0, X1, X2, X3, convert, scalar, vector};
use crate::asm::{Cc, Mem, Shift, Sz, VLen, Xmm, ops};
use crate::env;
use crate::t1::builder::Builder;
use crate::t1::flags::{Flags, FpCompareRecipe};
use crate::t1::regs::{ENV, ZR};

/// FPSR.IXC.
const IXC: i32 = 1 << 4;

/// What of an instruction has to be looked at.
struct Looks {
    /// Vector registers that are read.
    sources: [Option<u8>; 3],
    shape: FpShape,
    /// Its result may be tiny and inexact.
    rounds_down: bool,
    /// General register that is written, or the zero register.
    writes: u8,
}

impl Looks {
    fn new(shape: FpShape, sources: &[u8]) -> Looks {
        let mut all = [None; 3];
        for (to, from) in all.iter_mut().zip(sources) {
            *to = Some(*from);
        }
        Looks { sources: all, shape, rounds_down: false, writes: ZR }
    }

    fn rounding(self, rounds_down: bool) -> Looks {
        Looks { rounds_down, ..self }
    }
}

/// Sums of normal numbers are exact where they are tiny.
fn rounds_down(op: FpBinOp) -> bool {
    matches!(op, FpBinOp::Mul | FpBinOp::NegMul | FpBinOp::Div)
}

/// The whole register that a scalar, an element or lanes are in.
fn whole(shape: FpShape) -> FpShape {
    if shape.size == FpSize::Double { FpShape::D2 } else { FpShape::S4 }
}

/// What to look at, for instructions that are translated under FZ.
fn looks(insn: &Insn) -> Option<Looks> {
    let steps = |op| matches!(op, FpBinOp::MulX | FpBinOp::RecipStep | FpBinOp::RsqrtStep);
    let scalar_of = |size| FpShape { size, lanes: 1 };
    Some(match *insn {
        Insn::FpBin { op, shape, rn, rm, .. } if !steps(op) => Looks::new(shape, &[rn, rm]).rounding(rounds_down(op)),
        Insn::FpBinElement { op: FpBinOp::Mul, shape, rn, rm, .. } => {
            Looks::new(whole(shape), &[rn, rm]).rounding(true)
        }
        Insn::FpMulAdd { op, shape, rn, rm, ra, .. } if shape.lanes == 1 || plain(op) => {
            Looks::new(shape, &[rn, rm, ra]).rounding(true)
        }
        Insn::FpMulAddElement { shape, rd, rn, rm, .. } => Looks::new(whole(shape), &[rn, rm, rd]).rounding(true),
        Insn::FpPairwise { op, shape, rn, rm, .. } if !steps(op) => {
            Looks::new(shape, &[rn, rm]).rounding(rounds_down(op))
        }
        Insn::FpReduce { shape, rn, .. } => Looks::new(shape, &[rn]),
        Insn::FpUn { op: FpUnOp::Sqrt, shape, rn, .. } => Looks::new(shape, &[rn]),
        Insn::FpRoundToInt { shape, rn, .. } => Looks::new(shape, &[rn]),
        Insn::FpCompareMask { shape, rn, rm, .. } => Looks::new(shape, &[rn, rm]),
        Insn::FpCompareMaskZero { shape, rn, .. } => Looks::new(shape, &[rn]),
        Insn::FpToGpr { size, rd, rn, .. } if size != FpSize::Half => {
            Looks { writes: rd, ..Looks::new(scalar_of(size), &[rn]) }
        }
        Insn::FpToIntLanes { shape, rn, .. } => Looks::new(shape, &[rn]),
        Insn::GprToFp { .. } | Insn::IntToFpLanes { .. } => Looks::new(FpShape::S, &[]),
        Insn::FpConvert { from: FpSize::Single, to: FpSize::Double, rn, .. } => Looks::new(FpShape::S, &[rn]),
        Insn::FpConvert { from: FpSize::Double, to: FpSize::Single, rn, .. } => {
            Looks::new(FpShape::D, &[rn]).rounding(true)
        }
        Insn::FpWiden { from: FpSize::Single, rn, .. } => Looks::new(FpShape::S4, &[rn]),
        Insn::FpNarrow { to: FpSize::Single, to_odd: false, rn, .. } => Looks::new(FpShape::D2, &[rn]).rounding(true),
        _ => return None,
    })
}

/// True if vectors have the operation.
fn plain(op: FpMulAddOp) -> bool {
    matches!(op, FpMulAddOp::MulAdd | FpMulAddOp::MulSub)
}

/// Lower one instruction of the family; false if it has no lowering under FZ.
pub(super) fn lower(b: &mut Builder<'_>, insn: &Insn) -> bool {
    if let Insn::FpCompare { size, signal, zero, rn, rm } = *insn
        && size != FpSize::Half
    {
        compare(b, FpCompareRecipe { double: size == FpSize::Double, n: rn, m: (!zero).then_some(rm) }, signal);
        return true;
    }
    let Some(looks) = looks(insn) else { return false };
    if looks.sources[0].is_some() {
        b.begin(&[looks.writes], true);
    }
    if looks.rounds_down {
        let cold = b.interp_cold();
        b.a.test_imm(Sz::B, Mem::b(ENV, env::FPSR), IXC);
        b.a.jcc(Cc::E, cold);
    }
    for v in looks.sources.into_iter().flatten() {
        b.tiny_register_to_interpreter(looks.shape, v);
    }
    scalar(b, insn) || convert::lower(b, insn) || vector::lower(b, insn)
}

/// FCMP, FCMPE: the interpreter leaves the flags in the environment, so they are put there on the other way too.
fn compare(b: &mut Builder<'_>, r: FpCompareRecipe, signal: bool) {
    b.begin_def();
    let shape = FpShape::scalar(r.double);
    for v in [Some(r.n), r.m].into_iter().flatten() {
        b.tiny_register_to_interpreter(shape, v);
    }
    b.fp_compare(r, signal);
    b.store_flags();
    b.flags = Flags::STORED;
}

impl Builder<'_> {
    /// To the interpreter if an element of vector register `v` is flushed. Uses RAX and xmm1 to xmm3; EFLAGS are free.
    fn tiny_register_to_interpreter(&mut self, shape: FpShape, v: u8) {
        let double = shape.size == FpSize::Double;
        if shape.lanes == 1 {
            let x = self.scalar(double, v, X1);
            return self.tiny_to_interpreter(double, x);
        }
        let x = self.v(v, X1);
        if shape == FpShape::S2 {
            self.a.v2(ops::VMOVQ_X, VLen::L128, X1, x);
            return self.tiny_lanes_to_interpreter(double, X1);
        }
        self.tiny_lanes_to_interpreter(double, x);
    }

    /// Under FZ, to the interpreter if the lowest element of `x` is flushed, or may have been rounded up to a normal number. Uses RAX; EFLAGS are free.
    pub(super) fn tiny_to_interpreter(&mut self, double: bool, x: Xmm) {
        let cold = self.interp_cold();
        let sz = Sz::dq(double);
        // Twice the magnitude, less one: a zero becomes the largest number.
        self.a.vst(if double { ops::VMOVQ_ST } else { ops::VMOVD_ST }, L, RAX, x);
        self.a.lea(sz, RAX, Mem::bi(RAX, RAX, 0, -1));
        self.a.shift_imm(Shift::Shr, sz, RAX, if double { 53 } else { 24 });
        self.a.jcc(Cc::E, cold);
    }

    /// As [`Builder::tiny_to_interpreter`] for all lanes. Uses xmm2 and xmm3.
    pub(super) fn tiny_lanes_to_interpreter(&mut self, double: bool, x: Xmm) {
        debug_assert!(x == X0 || x != X2 && x != X3);
        let cold = self.interp_cold();
        let (add, shift, equal) = if double {
            (ops::VPADDQ, ops::VPSRLQ_I, ops::VPCMPEQQ)
        } else {
            (ops::VPADDD, ops::VPSRLD_I, ops::VPCMPEQD)
        };
        self.a.v3(ops::VPCMPEQD, L, X3, X3, X3);
        self.a.v3(add, L, X2, x, x);
        self.a.v3(add, L, X2, X2, X3);
        self.a.vshift(shift, L, X2, X2, if double { 53 } else { 24 });
        self.a.vzero(X3);
        self.a.v3(equal, L, X2, X2, X3);
        self.a.v2(ops::VPTEST, L, X2, X2);
        self.a.jcc(Cc::Ne, cold);
    }
}
