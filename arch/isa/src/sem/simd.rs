//! Advanced SIMD on integers: the primitives, and their implementation for every engine that holds plain values.

use super::{Sem, SemTypes};
use crate::insn::{Insn, Reg};

/// Primitives of the Advanced SIMD integer instructions and of SIMD&FP registers. An engine with plain values implements [`ValueVec`]
/// instead.
pub trait SemVec: SemTypes {
    /// Traps when FP and SIMD instructions are disabled (CPACR_EL1.FPEN and the like): the first act of each of them.
    fn check_fp_enabled(&mut self) -> Result<(), Self::Stop>;
    /// Reads a SIMD&FP register, 128 bits.
    fn v(&mut self, r: Reg) -> Self::V;
    /// Writes a SIMD&FP register, 128 bits.
    fn set_v(&mut self, r: Reg, value: Self::V);
}

/// What an engine that holds plain values must bring; [`SemVec`] follows from it.
pub trait ValueVec: SemTypes<X = u64, V = u128> {
    /// See [`SemVec::check_fp_enabled`].
    fn check_fp_enabled(&mut self) -> Result<(), Self::Stop>;
    /// Reads a SIMD&FP register, 128 bits.
    fn v(&mut self, r: Reg) -> u128;
    /// Writes a SIMD&FP register, 128 bits.
    fn set_v(&mut self, r: Reg, value: u128);
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
}

/// Executes an instruction of these classes; `None` when it is none.
#[inline]
pub(super) fn execute<S: Sem>(_s: &mut S, _insn: &Insn) -> Option<Result<(), S::Stop>> {
    None
}
