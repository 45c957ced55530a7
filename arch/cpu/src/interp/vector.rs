//! SIMD&FP registers and memory accesses for the meaning functions.

use isa::insn::Reg;
use isa::sem::ValueVec;

use crate::vcpu::{Trap, Vcpu};

impl ValueVec for Vcpu {
    #[inline(always)]
    fn check_fp_enabled(&mut self) -> Result<(), Trap> {
        if self.fp_enabled() { Ok(()) } else { Err(self.fp_trap()) }
    }
    #[inline(always)]
    fn v(&mut self, r: Reg) -> u128 {
        self.arch.v[usize::from(r & 31)]
    }
    #[inline(always)]
    fn set_v(&mut self, r: Reg, value: u128) {
        self.arch.v[usize::from(r & 31)] = value;
    }
}

impl isa::sem::SemFp for Vcpu {}
