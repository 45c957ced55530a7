//! The architectural state of one PE, as plain data: the translator pins parts of it in host registers and addresses the rest by offset.

use crate::sysreg::{SLOT_COUNT, Slot};

/// PSTATE and SPSR bit positions (Arm ARM C5.2.19, SPSR_EL1).
pub mod pstate {
    /// N, Z, C, V: bits 31 to 28.
    pub const NZCV: u64 = 0xf000_0000;
    /// Data independent timing.
    pub const DIT: u64 = 1 << 24;
    /// Privileged access never.
    pub const PAN: u64 = 1 << 22;
    /// Software step.
    pub const SS: u64 = 1 << 21;
    /// Illegal execution state.
    pub const IL: u64 = 1 << 20;
    /// Speculative store bypass safe.
    pub const SSBS: u64 = 1 << 12;
    /// Debug exceptions masked.
    pub const D: u64 = 1 << 9;
    /// SError masked.
    pub const A: u64 = 1 << 8;
    /// IRQ masked.
    pub const I: u64 = 1 << 7;
    /// FIQ masked.
    pub const F: u64 = 1 << 6;
    /// All of D, A, I, F.
    pub const DAIF: u64 = D | A | I | F;
    /// M[4]: AArch32.
    pub const M_AARCH32: u64 = 1 << 4;
}

/// The local exclusive monitor, by value: a store-exclusive succeeds when the granule still holds what the load-exclusive saw.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[repr(C)]
pub struct ExclusiveMonitor {
    /// Physical address of the access; meaningful when `size` is not 0.
    pub pa: u64,
    /// What was read: low 64 bits.
    pub low: u64,
    /// High 64 bits of a pair.
    pub high: u64,
    /// Bytes (1 to 16) of the load-exclusive, 0 = open.
    pub size: u64,
}

/// The registers of one PE. Hot fields first; `sp` is the current stack pointer, the other one waits in `sp_el`.
#[derive(Debug, Clone, PartialEq)]
#[repr(C, align(16))]
pub struct ArchState {
    /// X0 to X30.
    pub x: [u64; 31],
    /// The current stack pointer: SP_EL0 or SP_EL1 by `spsel` and `el`.
    pub sp: u64,
    /// Program counter.
    pub pc: u64,
    /// PSTATE.N, Z, C, V in bits 31 to 28; all else 0.
    pub nzcv: u32,
    /// PSTATE.D, A, I, F in bits 9 to 6; all else 0.
    pub daif: u32,
    /// Interrupts that want to be taken, in the positions of their mask bits (A, I, F): after priority masking by the GIC CPU interface.
    pub pending: u32,
    /// FPCR.
    pub fpcr: u32,
    /// FPSR.
    pub fpsr: u32,
    /// PSTATE.EL: 0 or 1.
    pub el: u8,
    /// PSTATE.SP: 0 = SP_EL0, 1 = SP_ELx. Always as last set at EL1 or 0 at EL0.
    pub spsel: u8,
    /// PSTATE.PAN.
    pub pan: u8,
    /// PSTATE.DIT.
    pub dit: u8,
    /// PSTATE.SSBS.
    pub ssbs: u8,
    /// PSTATE.IL.
    pub il: u8,
    /// PSTATE.SS.
    pub ss: u8,
    /// The event register (WFE).
    pub event: u8,
    /// SP_EL0 and SP_EL1 while they are not current; the current one's entry is stale.
    pub sp_el: [u64; 2],
    /// Local exclusive monitor.
    pub exclusive: ExclusiveMonitor,
    /// V0 to V31.
    pub v: [u128; 32],
    /// System registers with plain storage, by [`Slot`].
    pub sys: [u64; SLOT_COUNT],
}

impl ArchState {
    /// All zero, EL1h, everything masked.
    pub fn new() -> ArchState {
        ArchState {
            x: [0; 31],
            sp: 0,
            pc: 0,
            nzcv: 0,
            daif: pstate::DAIF as u32,
            pending: 0,
            fpcr: 0,
            fpsr: 0,
            el: 1,
            spsel: 1,
            pan: 0,
            dit: 0,
            ssbs: 0,
            il: 0,
            ss: 0,
            event: 0,
            sp_el: [0; 2],
            exclusive: ExclusiveMonitor::default(),
            v: [0; 32],
            sys: [0; SLOT_COUNT],
        }
    }

    /// A system register with plain storage.
    #[inline]
    pub fn sys(&self, slot: Slot) -> u64 {
        self.sys[slot as usize]
    }

    /// Sets a system register with plain storage. No side effects.
    #[inline]
    pub fn set_sys(&mut self, slot: Slot, value: u64) {
        self.sys[slot as usize] = value;
    }

    /// Which of SP_EL0 and SP_EL1 is the current stack pointer.
    #[inline]
    pub fn sp_bank(&self) -> usize {
        usize::from(self.el != 0 && self.spsel != 0)
    }

    /// SP_EL0 (0) or SP_EL1 (1), current or not.
    #[inline]
    pub fn sp_of(&self, bank: usize) -> u64 {
        if bank == self.sp_bank() { self.sp } else { self.sp_el[bank & 1] }
    }

    /// Sets SP_EL0 (0) or SP_EL1 (1), current or not.
    #[inline]
    pub fn set_sp_of(&mut self, bank: usize, value: u64) {
        if bank == self.sp_bank() {
            self.sp = value;
        } else {
            self.sp_el[bank & 1] = value;
        }
    }

    /// Changes Exception level and stack pointer selection together.
    #[inline]
    pub fn set_el_sp(&mut self, el: u8, spsel: u8) {
        let old = self.sp_bank();
        self.sp_el[old] = self.sp;
        self.el = el;
        self.spsel = spsel;
        self.sp = self.sp_el[self.sp_bank()];
    }

    /// PSTATE in SPSR format (what an exception from here saves).
    #[inline]
    pub fn spsr(&self) -> u64 {
        let mut v = u64::from(self.nzcv) | u64::from(self.daif);
        v |= u64::from(self.dit) << 24;
        v |= u64::from(self.pan) << 22;
        v |= u64::from(self.ss) << 21;
        v |= u64::from(self.il) << 20;
        v |= u64::from(self.ssbs) << 12;
        v | u64::from(self.el) << 2 | u64::from(self.spsel & u8::from(self.el != 0))
    }

    /// Takes everything but the mode (EL, SP) from a value in SPSR format.
    pub(crate) fn set_pstate_flags(&mut self, v: u64) {
        self.nzcv = (v & pstate::NZCV) as u32;
        self.daif = (v & pstate::DAIF) as u32;
        self.dit = u8::from(v & pstate::DIT != 0);
        self.pan = u8::from(v & pstate::PAN != 0);
        self.ssbs = u8::from(v & pstate::SSBS != 0);
    }

    /// True when an exception return to this SPSR value is legal here (no EL2, no EL3, no AArch32).
    pub fn spsr_is_legal(v: u64) -> bool {
        matches!(v & 0x1f, 0b00000 | 0b00100 | 0b00101)
    }
}

impl Default for ArchState {
    fn default() -> Self {
        ArchState::new()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stack_pointer_banks() {
        let mut a = ArchState::new();
        a.sp = 0x1000;
        a.set_sp_of(0, 0x2000);
        assert_eq!((a.sp_of(0), a.sp_of(1)), (0x2000, 0x1000));
        a.set_el_sp(0, 0);
        assert_eq!(a.sp, 0x2000);
        a.sp = 0x2010;
        a.set_el_sp(1, 1);
        assert_eq!((a.sp, a.sp_of(0)), (0x1000, 0x2010));
        a.set_el_sp(1, 0);
        assert_eq!(a.sp, 0x2010);
    }

    #[test]
    fn spsr_round_trip() {
        let mut a = ArchState::new();
        let v = 0x9000_0000 | pstate::DIT | pstate::PAN | pstate::SSBS | pstate::I | 5;
        a.set_pstate_flags(v);
        assert_eq!(a.spsr(), v);
        assert!(
            ArchState::spsr_is_legal(0)
                && ArchState::spsr_is_legal(5)
                && !ArchState::spsr_is_legal(9)
                && !ArchState::spsr_is_legal(0x10)
        );
    }
}
