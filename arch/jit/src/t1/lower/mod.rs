//! Lowerings, one file per family of the instruction set. Each `lower` answers false for what it does not know; the interpreter executes that.
//!
//! Rules for a lowering: call `begin` (or `begin_def`) first; read all sources before the first write of a destination; before a branch to
//! `interp_cold` change no guest state; scratch registers (RAX, RCX, RDX, xmm0-3) live inside one instruction.

pub mod alu;
pub mod atomic;
pub mod branch;
pub mod crypto;
pub mod fp;
pub mod memory;
pub mod simd_int;
pub mod simd_memory;
pub mod simd_permute;
pub mod simd_reduce;
pub mod simd_shift;
pub mod simd_ternary;
pub mod simd_wide;
pub mod system;
pub mod vector;

use isa::insn::Insn;

use crate::optimisations::Optimisation;

use super::builder::Builder;

/// Lower one instruction by the family that knows it; false if the interpreter has to execute it.
pub fn lower(b: &mut Builder<'_>, insn: &Insn) -> bool {
    let on = b.optimise;
    alu::lower(b, insn)
        || memory::lower(b, insn)
        || branch::lower(b, insn)
        || on.has(Optimisation::SystemCode) && system::lower(b, insn)
        || on.has(Optimisation::AtomicCode) && atomic::lower(b, insn)
        || on.has(Optimisation::FpCode) && fp::lower(b, insn)
        || on.has(Optimisation::VectorCode) && vector::lower(b, insn)
}
