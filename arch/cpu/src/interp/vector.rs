//! SIMD&FP registers, status and memory accesses for the meaning functions.

use isa::insn::Reg;
use isa::sem::{ValueFp, ValueVec};
use isa::simd::VecWidth;
use isa::value::softfloat::Fpcr;

use crate::vcpu::{Trap, Vcpu};

/// FPSR.QC.
const FPSR_QC: u32 = 1 << 27;

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
    #[inline]
    fn vec_load(&mut self, address: u64, width: VecWidth, align: VecWidth) -> Result<u128, Trap> {
        let bytes = u64::from(width.bytes());
        if align as u8 >= width as u8 || address & (bytes - 1) == 0 {
            return if bytes == 16 { self.read128(address) } else { self.read(address, bytes).map(u128::from) };
        }
        // Elements of a structure or a vector: each is an access of its own.
        let step = u64::from(align.bytes());
        (0..bytes / step).try_fold(0u128, |value, i| {
            let element = self.read(address.wrapping_add(i * step), step)?;
            Ok(value | u128::from(element) << (8 * i * step))
        })
    }
    #[inline]
    fn vec_store(&mut self, address: u64, width: VecWidth, align: VecWidth, value: u128) -> Result<(), Trap> {
        let bytes = u64::from(width.bytes());
        if align as u8 >= width as u8 || address & (bytes - 1) == 0 {
            return if bytes == 16 { self.write128(address, value) } else { self.write(address, bytes, value as u64) };
        }
        let step = u64::from(align.bytes());
        (0..bytes / step)
            .try_for_each(|i| self.write(address.wrapping_add(i * step), step, (value >> (8 * i * step)) as u64))
    }
    #[inline]
    fn set_saturated(&mut self) {
        self.arch.fpsr |= FPSR_QC;
    }
}

impl ValueFp for Vcpu {
    #[inline(always)]
    fn fp_control(&mut self) -> (Fpcr, &mut u32) {
        (Fpcr(self.arch.fpcr), &mut self.arch.fpsr)
    }
}
