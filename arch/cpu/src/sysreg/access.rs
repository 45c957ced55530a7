//! MRS, MSR (register) and MSR (immediate): permission, storage, effects, traps.

use std::sync::atomic::Ordering;

use super::{Effect, El0, Row, Rw, Slot, Special, SysEnc, Via, find};
use crate::config;
use crate::exception::{Syndrome, ec};
use crate::mmu::TlbiOp;
use crate::outside::{TraceEvent, trace};
use crate::vcpu::{Trap, Vcpu};

/// SCTLR_EL1 bits that open registers and instructions to EL0.
mod sctlr {
    pub const UMA: u64 = 1 << 9;
    pub const UCT: u64 = 1 << 15;
    pub const TSCXT: u64 = 1 << 20;
}

/// What EL0 meets at a register.
enum Verdict {
    Allowed,
    Undefined,
    Trapped,
    FpTrap,
}

/// ISS of a trapped MSR, MRS or system instruction (EC 0x18).
pub(crate) fn trap_iss(enc: SysEnc, rt: u8, read: bool) -> u32 {
    u32::from(enc.op0()) << 20
        | u32::from(enc.op2()) << 17
        | u32::from(enc.op1()) << 14
        | u32::from(enc.crn()) << 10
        | u32::from(rt & 31) << 5
        | u32::from(enc.crm()) << 1
        | u32::from(read)
}

impl Vcpu {
    /// FP and SIMD are usable at this EL (CPACR_EL1.FPEN).
    #[inline]
    pub fn fp_enabled(&self) -> bool {
        match self.arch.sys(Slot::CPACR_EL1) >> 20 & 3 {
            3 => true,
            1 => self.arch.el != 0,
            _ => false,
        }
    }

    /// Raises the trap of an FP or SIMD instruction: CV = 1, COND = 0xe.
    #[cold]
    pub fn fp_trap(&mut self) -> Trap {
        self.raise(Syndrome::new(ec::FP, 1 << 24 | 0xe << 20))
    }

    fn el0_verdict(&self, row: &Row, read: bool) -> Verdict {
        let a = &self.arch;
        let sctlr = a.sys(Slot::SCTLR_EL1);
        let kctl = a.sys(Slot::CNTKCTL_EL1);
        let pmu = a.sys(Slot::PMUSERENR_EL0);
        let allowed = match row.el0 {
            El0::No => return Verdict::Undefined,
            El0::ReadOnly if !read => return Verdict::Undefined,
            El0::Free | El0::ReadOnly => true,
            El0::Uct => sctlr & sctlr::UCT != 0,
            El0::Uma => sctlr & sctlr::UMA != 0,
            El0::Scxt => sctlr & sctlr::TSCXT == 0,
            // EL0 reads only: CNTFRQ_EL0 is written at the highest EL, counters are read-only.
            El0::AnyCounter if !read => return Verdict::Undefined,
            El0::PhysicalCounter => kctl & 1 != 0,
            El0::VirtualCounter => kctl & 2 != 0,
            El0::AnyCounter => kctl & 3 != 0,
            El0::VirtualTimer => kctl & 1 << 8 != 0,
            El0::PhysicalTimer => kctl & 1 << 9 != 0,
            El0::Pmu => pmu & 1 != 0,
            El0::PmuSw => pmu & 3 != 0,
            El0::PmuCr => pmu & 1 != 0 || (pmu & 4 != 0 && read),
            El0::PmuEr => pmu & 1 != 0 || (pmu & 8 != 0),
            El0::Tdcc => a.sys(Slot::MDSCR_EL1) & 1 << 12 == 0,
            El0::Fp => return if self.fp_enabled() { Verdict::Allowed } else { Verdict::FpTrap },
        };
        if allowed { Verdict::Allowed } else { Verdict::Trapped }
    }

    /// An access to an encoding that does not exist here: counted, UNDEFINED.
    #[cold]
    pub(crate) fn unimplemented_system(&mut self, enc: SysEnc) -> Trap {
        // At most 2^16 keys exist.
        *self.counters.unimplemented.entry(enc.0).or_insert(0) += 1;
        self.raise(Syndrome::UNDEFINED)
    }

    /// False for registers of a feature that this model's ID registers do not offer.
    #[inline]
    fn is_offered(&self, row: &Row) -> bool {
        let (register, shift, least) = match row.via {
            Via::Special(Special::Rndr) => (config::ID_AA64ISAR0, 60, 1),
            Via::Special(Special::Dit) => (config::ID_AA64PFR0, 48, 1),
            Via::Special(Special::Ssbs) => (config::ID_AA64PFR1, 4, 2),
            Via::Special(Special::Pan) => (config::ID_AA64MMFR1, 20, 1),
            Via::Slot(Slot::SCXTNUM_EL0 | Slot::SCXTNUM_EL1) => (config::ID_AA64PFR0, 56, 2),
            Via::Slot(Slot::LORSA_EL1 | Slot::LOREA_EL1 | Slot::LORN_EL1 | Slot::LORC_EL1) => {
                (config::ID_AA64MMFR1, 16, 1)
            }
            _ => return true,
        };
        self.vm.config.id_field(register, shift) >= least
    }

    fn checked_row(&mut self, enc: SysEnc, rt: u8, read: bool) -> Result<&'static Row, Trap> {
        let Some(row) = find(enc).filter(|row| self.is_offered(row)) else {
            return Err(self.unimplemented_system(enc));
        };
        let direction = match row.rw {
            Rw::Rw => true,
            Rw::Ro => read,
            Rw::Wo => !read,
        };
        if !direction {
            return Err(self.unimplemented_system(enc));
        }
        if self.arch.el == 0 {
            match self.el0_verdict(row, read) {
                Verdict::Allowed => {}
                Verdict::Undefined => return Err(self.raise(Syndrome::UNDEFINED)),
                Verdict::Trapped => return Err(self.raise(Syndrome::new(ec::SYS, trap_iss(enc, rt, read)))),
                Verdict::FpTrap => return Err(self.fp_trap()),
            }
        } else if row.el0 == El0::Fp && !self.fp_enabled() {
            return Err(self.fp_trap());
        }
        Ok(row)
    }

    /// MRS. `rt` is only for the syndrome of a trap.
    ///
    /// # Errors
    /// UNDEFINED or trapped.
    pub fn mrs(&mut self, enc: SysEnc, rt: u8) -> Result<u64, Trap> {
        let row = self.checked_row(enc, rt, true)?;
        let value = match row.via {
            Via::Slot(slot) => self.arch.sys(slot),
            Via::Id(index) => self.vm.config.id.get(usize::from(index)).copied().unwrap_or(0),
            Via::Const(value) => value,
            Via::Special(what) => self.read_special(what)?,
        };
        if self.vm.trace.load(Ordering::Relaxed) & trace::SYSREG != 0 {
            self.outside.trace(self.index, &TraceEvent::SysReg { pc: self.arch.pc, enc, write: false, value });
        }
        Ok(value)
    }

    /// MSR (register).
    ///
    /// # Errors
    /// UNDEFINED or trapped.
    pub fn msr(&mut self, enc: SysEnc, rt: u8, value: u64) -> Result<(), Trap> {
        let row = self.checked_row(enc, rt, false)?;
        if self.vm.trace.load(Ordering::Relaxed) & trace::SYSREG != 0 {
            self.outside.trace(self.index, &TraceEvent::SysReg { pc: self.arch.pc, enc, write: true, value });
        }
        match row.via {
            Via::Slot(slot) => {
                let new = value & row.mask | row.res1;
                if self.arch.sys(slot) != new {
                    self.arch.set_sys(slot, new);
                    self.apply_effect(row.effect);
                }
            }
            Via::Special(what) => self.write_special(what, value)?,
            Via::Id(_) | Via::Const(_) => {}
        }
        Ok(())
    }

    /// MSR to TTBR0_EL1 or TTBR1_EL1 (`slot`) at EL1, where nothing traps it and nobody traces it.
    pub fn set_translation_table(&mut self, slot: Slot, value: u64) {
        self.arch.set_sys(slot, value);
        self.apply_effect(Effect::Context);
    }

    fn apply_effect(&mut self, effect: Effect) {
        match effect {
            Effect::None => {}
            Effect::Translation => {
                self.apply_tlbi(&TlbiOp::ALL);
                self.select_context();
                self.fetch_stale();
            }
            Effect::Context => {
                self.select_context();
                self.fetch_stale();
            }
            Effect::Debug => self.debug_changed(),
            Effect::Traps => self.context_dirty = true,
        }
    }

    /// EL0 writes DAIF through MSR (immediate) only with SCTLR_EL1.UMA.
    ///
    /// # Errors
    /// Trapped: EC 0x18.
    pub(crate) fn check_daif_access(&mut self, op2: u32, imm: u8) -> Result<(), Trap> {
        if self.arch.el == 0 && self.arch.sys(Slot::SCTLR_EL1) & sctlr::UMA == 0 {
            let enc = SysEnc::new(0, 3, 4, u32::from(imm & 15), op2);
            return Err(self.raise(Syndrome::new(ec::SYS, trap_iss(enc, 31, false))));
        }
        Ok(())
    }
}
