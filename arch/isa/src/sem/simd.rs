//! Advanced SIMD on integers: the primitives, and their implementation for every engine that holds plain values.

mod data;
mod memory;

use super::{Sem, SemTypes};
use crate::insn::{Insn, Reg};
use crate::operand::LoadExt;
use crate::simd::{
    AesOp, ESize, ShaOp, VecAcrossOp, VecBinOp, VecLongOp, VecNarrowOp, VecPairLongOp, VecPermuteOp, VecShiftOp,
    VecShiftRegOp, VecTernOp, VecUnOp, VecWidth,
};
use crate::value::{crypto, lanes};

/// Primitives of the Advanced SIMD integer instructions and of SIMD&FP loads and stores.
///
/// An operation with a `width` works on the low bytes of its operands that the width names; its result is zero above them. Operations
/// that can saturate set FPSR.QC when a lane did. An engine with plain values implements [`ValueVec`] instead.
pub trait SemVec: SemTypes {
    /// Traps when FP and SIMD instructions are disabled (CPACR_EL1.FPEN and the like): the first act of each of them.
    fn check_fp_enabled(&mut self) -> Result<(), Self::Stop>;
    /// Reads a SIMD&FP register, 128 bits.
    fn v(&mut self, r: Reg) -> Self::V;
    /// Writes a SIMD&FP register, 128 bits.
    fn set_v(&mut self, r: Reg, value: Self::V);
    /// Loads `width` bytes, zero-extended. An access that is checked for alignment must be aligned to `align` bytes.
    fn vec_load(&mut self, address: Self::X, width: VecWidth, align: VecWidth) -> Result<Self::V, Self::Stop>;
    /// Stores the low `width` bytes. An access that is checked for alignment must be aligned to `align` bytes.
    fn vec_store(
        &mut self,
        address: Self::X,
        width: VecWidth,
        align: VecWidth,
        value: Self::V,
    ) -> Result<(), Self::Stop>;

    /// A constant.
    fn vec_const(&mut self, value: u128) -> Self::V;
    /// The low `width` bytes, zero above.
    fn vec_truncate(&mut self, width: VecWidth, a: Self::V) -> Self::V;
    /// The upper 64 bits, moved down; zero above.
    fn vec_high(&mut self, a: Self::V) -> Self::V;
    /// The low 64 bits of `low`, with the low 64 bits of `high` above them.
    fn vec_concat(&mut self, low: Self::V, high: Self::V) -> Self::V;
    /// The low bits of `x` as element 0; zero above.
    fn vec_from_x(&mut self, es: ESize, x: Self::X) -> Self::V;
    /// Element `index`, extended.
    fn vec_element(&mut self, es: ESize, a: Self::V, index: u8, extension: LoadExt) -> Self::X;
    /// `a` with element `index` replaced by the low bits of `x`.
    fn vec_with_element(&mut self, es: ESize, a: Self::V, index: u8, x: Self::X) -> Self::V;
    /// The low bits of `x` in every element.
    fn vec_duplicate(&mut self, es: ESize, width: VecWidth, x: Self::X) -> Self::V;

    /// [`lanes::binary`].
    fn vec_binary(&mut self, op: VecBinOp, es: ESize, width: VecWidth, a: Self::V, b: Self::V) -> Self::V;
    /// [`lanes::ternary`].
    fn vec_ternary(&mut self, op: VecTernOp, es: ESize, width: VecWidth, d: Self::V, a: Self::V, b: Self::V)
    -> Self::V;
    /// [`lanes::unary`].
    fn vec_unary(&mut self, op: VecUnOp, es: ESize, width: VecWidth, a: Self::V) -> Self::V;
    /// [`lanes::shift`].
    fn vec_shift(&mut self, op: VecShiftOp, es: ESize, width: VecWidth, a: Self::V, count: u8) -> Self::V;
    /// [`lanes::shift_insert`].
    fn vec_shift_insert(
        &mut self,
        left: bool,
        es: ESize,
        width: VecWidth,
        d: Self::V,
        a: Self::V,
        count: u8,
    ) -> Self::V;
    /// [`lanes::shift_register`].
    fn vec_shift_register(&mut self, op: VecShiftRegOp, es: ESize, width: VecWidth, a: Self::V, b: Self::V) -> Self::V;
    /// [`lanes::pair_long`].
    fn vec_pair_long(&mut self, op: VecPairLongOp, es: ESize, width: VecWidth, a: Self::V) -> Self::V;
    /// [`lanes::across`].
    fn vec_across(&mut self, op: VecAcrossOp, es: ESize, width: VecWidth, a: Self::V) -> Self::V;
    /// [`lanes::narrow`].
    fn vec_narrow(&mut self, op: VecNarrowOp, es: ESize, scalar: bool, round: bool, count: u8, a: Self::V) -> Self::V;
    /// [`lanes::widen`] of the low 64 bits.
    fn vec_widen(&mut self, signed: bool, es: ESize, a: Self::V) -> Self::V;
    /// [`lanes::long`] of the low 64 bits of both operands.
    fn vec_long(&mut self, op: VecLongOp, es: ESize, width: VecWidth, a: Self::V, b: Self::V) -> Self::V;
    /// [`lanes::permute`].
    fn vec_permute(&mut self, op: VecPermuteOp, es: ESize, width: VecWidth, a: Self::V, b: Self::V) -> Self::V;
    /// [`lanes::extract`].
    fn vec_extract(&mut self, width: VecWidth, a: Self::V, b: Self::V, index: u8) -> Self::V;
    /// [`lanes::table`] of one to four registers.
    fn vec_table(&mut self, registers: &[Self::V], index: Self::V, outside: Self::V) -> Self::V;
    /// [`crypto::aes`]; `rd` and `rn` are the values of the registers of these names.
    fn aes(&mut self, op: AesOp, rd: Self::V, rn: Self::V) -> Self::V;
    /// The SHA steps; `rd`, `rn`, `rm` are the values of the registers of these names.
    fn sha(&mut self, op: ShaOp, rd: Self::V, rn: Self::V, rm: Self::V) -> Self::V;
}

/// What an engine that holds plain values must bring; [`SemVec`] follows from it.
pub trait ValueVec: SemTypes<X = u64, V = u128> {
    /// See [`SemVec::check_fp_enabled`].
    fn check_fp_enabled(&mut self) -> Result<(), Self::Stop>;
    /// Reads a SIMD&FP register, 128 bits.
    fn v(&mut self, r: Reg) -> u128;
    /// Writes a SIMD&FP register, 128 bits.
    fn set_v(&mut self, r: Reg, value: u128);
    /// See [`SemVec::vec_load`].
    fn vec_load(&mut self, address: u64, width: VecWidth, align: VecWidth) -> Result<u128, Self::Stop>;
    /// See [`SemVec::vec_store`].
    fn vec_store(&mut self, address: u64, width: VecWidth, align: VecWidth, value: u128) -> Result<(), Self::Stop>;
    /// Sets FPSR.QC.
    fn set_saturated(&mut self);
}

/// Runs an operation that may saturate and notes it.
#[inline(always)]
fn noting<T: ValueVec>(s: &mut T, f: impl FnOnce(&mut bool) -> u128) -> u128 {
    let mut qc = false;
    let value = f(&mut qc);
    if qc {
        s.set_saturated();
    }
    value
}

impl<T: ValueVec> SemVec for T {
    #[inline(always)]
    fn check_fp_enabled(&mut self) -> Result<(), Self::Stop> {
        ValueVec::check_fp_enabled(self)
    }
    #[inline(always)]
    fn v(&mut self, r: Reg) -> u128 {
        ValueVec::v(self, r)
    }
    #[inline(always)]
    fn set_v(&mut self, r: Reg, value: u128) {
        ValueVec::set_v(self, r, value);
    }
    #[inline(always)]
    fn vec_load(&mut self, address: u64, width: VecWidth, align: VecWidth) -> Result<u128, Self::Stop> {
        ValueVec::vec_load(self, address, width, align)
    }
    #[inline(always)]
    fn vec_store(&mut self, address: u64, width: VecWidth, align: VecWidth, value: u128) -> Result<(), Self::Stop> {
        ValueVec::vec_store(self, address, width, align, value)
    }
    #[inline(always)]
    fn vec_const(&mut self, value: u128) -> u128 {
        value
    }
    #[inline(always)]
    fn vec_truncate(&mut self, width: VecWidth, a: u128) -> u128 {
        width.truncate(a)
    }
    #[inline(always)]
    fn vec_high(&mut self, a: u128) -> u128 {
        a >> 64
    }
    #[inline(always)]
    fn vec_concat(&mut self, low: u128, high: u128) -> u128 {
        VecWidth::D8.truncate(low) | high << 64
    }
    #[inline(always)]
    fn vec_from_x(&mut self, es: ESize, x: u64) -> u128 {
        es.scalar().truncate(u128::from(x))
    }
    #[inline]
    fn vec_element(&mut self, es: ESize, a: u128, index: u8, extension: LoadExt) -> u64 {
        let value = lanes::element(es, a, index.into());
        let unused = 64 - es.bits();
        let signed = ((value << unused).cast_signed() >> unused).cast_unsigned();
        match extension {
            LoadExt::Zero => value,
            LoadExt::SignTo32 => signed & 0xffff_ffff,
            LoadExt::SignTo64 => signed,
        }
    }
    #[inline]
    fn vec_with_element(&mut self, es: ESize, a: u128, index: u8, x: u64) -> u128 {
        lanes::with_element(es, a, index.into(), x)
    }
    #[inline]
    fn vec_duplicate(&mut self, es: ESize, width: VecWidth, x: u64) -> u128 {
        width.truncate(lanes::duplicate(es, x))
    }
    #[inline]
    fn vec_binary(&mut self, op: VecBinOp, es: ESize, width: VecWidth, a: u128, b: u128) -> u128 {
        noting(self, |qc| lanes::binary(op, es, width, a, b, qc))
    }
    #[inline]
    fn vec_ternary(&mut self, op: VecTernOp, es: ESize, width: VecWidth, d: u128, a: u128, b: u128) -> u128 {
        noting(self, |qc| lanes::ternary(op, es, width, d, a, b, qc))
    }
    #[inline]
    fn vec_unary(&mut self, op: VecUnOp, es: ESize, width: VecWidth, a: u128) -> u128 {
        noting(self, |qc| lanes::unary(op, es, width, a, qc))
    }
    #[inline]
    fn vec_shift(&mut self, op: VecShiftOp, es: ESize, width: VecWidth, a: u128, count: u8) -> u128 {
        noting(self, |qc| lanes::shift(op, es, width, a, count.into(), qc))
    }
    #[inline]
    fn vec_shift_insert(&mut self, left: bool, es: ESize, width: VecWidth, d: u128, a: u128, count: u8) -> u128 {
        lanes::shift_insert(left, es, width, d, a, count.into())
    }
    #[inline]
    fn vec_shift_register(&mut self, op: VecShiftRegOp, es: ESize, width: VecWidth, a: u128, b: u128) -> u128 {
        noting(self, |qc| lanes::shift_register(op, es, width, a, b, qc))
    }
    #[inline]
    fn vec_pair_long(&mut self, op: VecPairLongOp, es: ESize, width: VecWidth, a: u128) -> u128 {
        lanes::pair_long(op, es, width, a)
    }
    #[inline]
    fn vec_across(&mut self, op: VecAcrossOp, es: ESize, width: VecWidth, a: u128) -> u128 {
        lanes::across(op, es, width, a)
    }
    #[inline]
    fn vec_narrow(&mut self, op: VecNarrowOp, es: ESize, scalar: bool, round: bool, count: u8, a: u128) -> u128 {
        noting(self, |qc| lanes::narrow(op, es, scalar, round, count.into(), a, qc))
    }
    #[inline]
    fn vec_widen(&mut self, signed: bool, es: ESize, a: u128) -> u128 {
        lanes::widen(signed, es, a as u64)
    }
    #[inline]
    fn vec_long(&mut self, op: VecLongOp, es: ESize, width: VecWidth, a: u128, b: u128) -> u128 {
        noting(self, |qc| lanes::long(op, es, width, a as u64, b as u64, qc))
    }
    #[inline]
    fn vec_permute(&mut self, op: VecPermuteOp, es: ESize, width: VecWidth, a: u128, b: u128) -> u128 {
        lanes::permute(op, es, width, a, b)
    }
    #[inline]
    fn vec_extract(&mut self, width: VecWidth, a: u128, b: u128, index: u8) -> u128 {
        lanes::extract(width, a, b, index.into())
    }
    #[inline]
    fn vec_table(&mut self, registers: &[u128], index: u128, outside: u128) -> u128 {
        lanes::table(registers, index, outside)
    }
    #[inline]
    fn aes(&mut self, op: AesOp, rd: u128, rn: u128) -> u128 {
        match op {
            AesOp::Aese | AesOp::Aesd => crypto::aes(op, rd, rn),
            AesOp::Aesmc | AesOp::Aesimc => crypto::aes(op, rn, 0),
        }
    }
    fn sha(&mut self, op: ShaOp, rd: u128, rn: u128, rm: u128) -> u128 {
        match op {
            ShaOp::Sha1c => crypto::sha1_hash(crypto::Sha1HashOp::Sha1c, rd, rn as u32, rm),
            ShaOp::Sha1p => crypto::sha1_hash(crypto::Sha1HashOp::Sha1p, rd, rn as u32, rm),
            ShaOp::Sha1m => crypto::sha1_hash(crypto::Sha1HashOp::Sha1m, rd, rn as u32, rm),
            ShaOp::Sha1su0 => crypto::sha1su0(rd, rn, rm),
            ShaOp::Sha1h => crypto::sha1h(rn as u32).into(),
            ShaOp::Sha1su1 => crypto::sha1su1(rd, rn),
            ShaOp::Sha256h => crypto::sha256h(rd, rn, rm),
            ShaOp::Sha256h2 => crypto::sha256h2(rd, rn, rm),
            ShaOp::Sha256su0 => crypto::sha256su0(rd, rn),
            ShaOp::Sha256su1 => crypto::sha256su1(rd, rn, rm),
        }
    }
}

/// Executes an instruction of these classes; `None` when it is none.
#[inline]
pub(super) fn execute<S: Sem>(s: &mut S, insn: &Insn) -> Option<Result<(), S::Stop>> {
    data::execute(s, insn).or_else(|| memory::execute(s, insn))
}
