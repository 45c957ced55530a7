//! Registers with a function behind them.

use super::Slot;
use crate::exception::Syndrome;
use crate::outside::SgiGroup;
use crate::state::pstate;
use crate::timer::Timer;
use crate::vcpu::{Trap, Vcpu};

/// Which function.
#[expect(missing_docs, reason = "named as the registers of the Arm ARM")]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Special {
    OsLar,
    ClaimSet,
    ClaimClear,
    DebugTransfer,
    Midr,
    Mpidr,
    Revidr,
    SpEl0,
    SpSel,
    CurrentEl,
    Pan,
    IccPmr,
    PmIntenSet,
    PmIntenClr,
    Isr,
    IccIar0,
    IccEoir0,
    IccHppir0,
    IccBpr0,
    IccAp0r0,
    IccAp1r0,
    IccDir,
    IccRpr,
    IccSgi1r,
    IccAsgi1r,
    IccSgi0r,
    IccIar1,
    IccEoir1,
    IccHppir1,
    IccBpr1,
    IccCtlr,
    IccSre,
    IccIgrpen0,
    IccIgrpen1,
    Ccsidr,
    Clidr,
    Ctr,
    Dczid,
    Rndr,
    Nzcv,
    Daif,
    Dit,
    Ssbs,
    Fpcr,
    Fpsr,
    Pmcr,
    PmCntenSet,
    PmCntenClr,
    PmOvsClr,
    PmOvsSet,
    PmIgnored,
    Pmccntr,
    PmXevtyper,
    Pmccfiltr,
    Cntfrq,
    Counter,
    CntpTval,
    CntpCtl,
    CntpCval,
    CntvTval,
    CntvCtl,
    CntvCval,
}

/// FPCR bits that exist: AHP DN FZ RMode.
pub const FPCR_MASK: u64 = 1 << 26 | 1 << 25 | 1 << 24 | 3 << 22;
/// FPSR bits that exist: QC and the cumulative exception bits.
pub const FPSR_MASK: u64 = 1 << 27 | 0x9f;

/// CCSIDR of (level, instruction): 64-byte lines; sets and ways as a plausible core has them.
fn ccsidr(selector: u64) -> u64 {
    let geometry = |sets: u64, ways: u64| (sets - 1) << 13 | (ways - 1) << 3 | 2;
    match selector & 0xf {
        0 | 1 => geometry(256, 4),
        2 => geometry(1024, 8),
        _ => 0,
    }
}

impl Vcpu {
    pub(super) fn read_special(&mut self, what: Special) -> Result<u64, Trap> {
        use Special as S;
        let a = &self.arch;
        Ok(match what {
            S::ClaimSet => 0xff,
            S::ClaimClear => a.sys(Slot::DBGCLAIM),
            S::DebugTransfer => 0,
            S::Midr => self.vm.config.midr,
            S::Mpidr => crate::config::CpuConfig::mpidr(self.index),
            S::Revidr => self.vm.config.revidr,
            S::SpEl0 => {
                // UNDEFINED while it is the current stack pointer.
                if a.spsel == 0 {
                    return Err(self.raise(Syndrome::UNDEFINED));
                }
                a.sp_of(0)
            }
            S::SpSel => u64::from(a.spsel),
            S::CurrentEl => u64::from(a.el) << 2,
            S::Pan => u64::from(a.pan) << 22,
            S::IccPmr => self.gic.pmr(),
            S::PmIntenSet | S::PmIntenClr => a.sys(Slot::PMINTENSET_EL1),
            S::Isr => {
                self.update_interrupts();
                u64::from(self.arch.pending)
            }
            S::IccIar0 => self.gic_acknowledge(0),
            S::IccIar1 => self.gic_acknowledge(1),
            S::IccHppir0 => self.gic_highest_pending(0),
            S::IccHppir1 => self.gic_highest_pending(1),
            S::IccBpr0 => self.gic.bpr(0),
            S::IccBpr1 => self.gic.bpr(1),
            S::IccAp0r0 => self.gic.active_priorities(0),
            S::IccAp1r0 => self.gic.active_priorities(1),
            S::IccRpr => u64::from(self.gic.running_priority()),
            S::IccCtlr => self.gic.ctlr(),
            S::IccSre => 7,
            S::IccIgrpen0 => self.gic.group_enabled(0),
            S::IccIgrpen1 => self.gic.group_enabled(1),
            S::Ccsidr => ccsidr(a.sys(Slot::CSSELR_EL1)),
            S::Clidr => self.vm.config.clidr,
            S::Ctr => self.vm.config.ctr,
            // DZP: DC ZVA is prohibited at EL0 when SCTLR_EL1.DZE is 0.
            S::Dczid => {
                self.vm.config.dczid | if a.el == 0 && a.sys(Slot::SCTLR_EL1) >> 14 & 1 == 0 { 1 << 4 } else { 0 }
            }
            S::Rndr => self.random(),
            S::Nzcv => u64::from(a.nzcv),
            S::Daif => u64::from(a.daif),
            S::Dit => u64::from(a.dit) << 24,
            S::Ssbs => u64::from(a.ssbs) << 12,
            S::Fpcr => u64::from(a.fpcr),
            S::Fpsr => u64::from(a.fpsr),
            S::Pmcr => a.sys(Slot::PMCR_EL0),
            S::PmCntenSet | S::PmCntenClr => a.sys(Slot::PMCNTENSET_EL0),
            S::PmOvsClr | S::PmOvsSet => {
                self.update_pmu();
                self.arch.sys(Slot::PMOVSSET_EL0)
            }
            S::Pmccntr => self.pmu_cycles(),
            S::PmXevtyper if a.sys(Slot::PMSELR_EL0) == 31 => a.sys(Slot::PMCCFILTR_EL0),
            S::Pmccfiltr => a.sys(Slot::PMCCFILTR_EL0),
            S::Cntfrq => self.vm.clock.frequency(),
            S::Counter => self.counter(),
            S::CntpTval => self.timer_tval(Timer::Physical),
            S::CntpCtl => self.timer_ctl(Timer::Physical),
            S::CntpCval => self.timer_cval(Timer::Physical),
            S::CntvTval => self.timer_tval(Timer::Virtual),
            S::CntvCtl => self.timer_ctl(Timer::Virtual),
            S::CntvCval => self.timer_cval(Timer::Virtual),
            S::OsLar
            | S::IccEoir0
            | S::IccEoir1
            | S::IccDir
            | S::IccSgi0r
            | S::IccSgi1r
            | S::IccAsgi1r
            | S::PmIgnored
            | S::PmXevtyper => 0,
        })
    }

    pub(super) fn write_special(&mut self, what: Special, value: u64) -> Result<(), Trap> {
        use Special as S;
        match what {
            S::OsLar => {
                self.arch.set_sys(Slot::OSLSR_EL1, 1 << 3 | (value & 1) << 1);
                self.debug_changed();
            }
            S::ClaimSet => self.arch.set_sys(Slot::DBGCLAIM, self.arch.sys(Slot::DBGCLAIM) | value & 0xff),
            S::ClaimClear => self.arch.set_sys(Slot::DBGCLAIM, self.arch.sys(Slot::DBGCLAIM) & !value),
            S::SpEl0 => {
                if self.arch.spsel == 0 {
                    return Err(self.raise(Syndrome::UNDEFINED));
                }
                self.arch.set_sp_of(0, value);
            }
            S::SpSel => self.arch.set_el_sp(self.arch.el, (value & 1) as u8),
            S::Pan => self.set_pan(value >> 22 & 1 != 0),
            S::Nzcv => self.arch.nzcv = (value & pstate::NZCV) as u32,
            S::Daif => self.set_daif(value),
            S::Dit => self.arch.dit = (value >> 24 & 1) as u8,
            S::Ssbs => self.arch.ssbs = (value >> 12 & 1) as u8,
            S::Fpcr => {
                self.arch.fpcr = (value & FPCR_MASK) as u32;
                self.fetch_stale();
            }
            S::Fpsr => self.arch.fpsr = (value & FPSR_MASK) as u32,
            S::IccEoir0 => self.gic_end(0, value),
            S::IccEoir1 => self.gic_end(1, value),
            S::IccDir => self.gic_deactivate(value),
            S::IccSgi1r => self.gic_sgi(value, SgiGroup::Group1),
            S::IccSgi0r | S::IccAsgi1r => self.gic_sgi(value, SgiGroup::Group0),
            S::IccPmr
            | S::IccBpr0
            | S::IccBpr1
            | S::IccAp0r0
            | S::IccAp1r0
            | S::IccIgrpen0
            | S::IccIgrpen1
            | S::IccCtlr => self.write_gic(what, value),
            _ => self.write_counting(what, value),
        }
        Ok(())
    }

    /// Controls of the GIC CPU interface.
    fn write_gic(&mut self, what: Special, value: u64) {
        use Special as S;
        match what {
            S::IccPmr => self.gic.set_pmr(value),
            S::IccBpr0 => self.gic.set_bpr(0, value),
            S::IccBpr1 => self.gic.set_bpr(1, value),
            S::IccAp0r0 => self.gic.set_active_priorities(0, value),
            S::IccAp1r0 => self.gic.set_active_priorities(1, value),
            S::IccIgrpen0 => self.gic.set_group_enabled(0, value),
            S::IccIgrpen1 => self.gic.set_group_enabled(1, value),
            _ => self.gic.set_ctlr(value),
        }
        self.update_interrupts();
    }

    /// Timers and performance monitors.
    fn write_counting(&mut self, what: Special, value: u64) {
        use Special as S;
        match what {
            S::PmIntenSet => self.pmu_mask(Slot::PMINTENSET_EL1, value, true),
            S::PmIntenClr => self.pmu_mask(Slot::PMINTENSET_EL1, value, false),
            S::PmCntenSet => self.pmu_mask(Slot::PMCNTENSET_EL0, value, true),
            S::PmCntenClr => self.pmu_mask(Slot::PMCNTENSET_EL0, value, false),
            S::PmOvsSet => self.pmu_mask(Slot::PMOVSSET_EL0, value, true),
            S::PmOvsClr => self.pmu_mask(Slot::PMOVSSET_EL0, value, false),
            S::Pmcr => self.set_pmcr(value),
            S::Pmccntr => self.set_pmccntr(value),
            S::PmXevtyper if self.arch.sys(Slot::PMSELR_EL0) == 31 => self.set_pmccfiltr(value),
            S::Pmccfiltr => self.set_pmccfiltr(value),
            S::CntpTval => self.set_timer_tval(Timer::Physical, value),
            S::CntpCtl => self.set_timer_ctl(Timer::Physical, value),
            S::CntpCval => self.set_timer_cval(Timer::Physical, value),
            S::CntvTval => self.set_timer_tval(Timer::Virtual, value),
            S::CntvCtl => self.set_timer_ctl(Timer::Virtual, value),
            S::CntvCval => self.set_timer_cval(Timer::Virtual, value),
            // ICC_SRE is fixed; CNTFRQ belongs to the machine; the rest is read-only and was refused before.
            _ => {}
        }
    }

    /// PSTATE.PAN.
    pub(crate) fn set_pan(&mut self, pan: bool) {
        let pan = u8::from(pan && self.features.pan);
        if self.arch.pan != pan {
            self.arch.pan = pan;
            self.select_context();
        }
    }

    /// RNDR, RNDRRS: NZCV 0000 and a number; from the host's generator.
    fn random(&mut self) -> u64 {
        self.arch.nzcv = 0;
        crate::random::u64()
    }
}
