//! Performance monitors: the cycle counter, which counts ticks of the system counter, and no event counters (PMCR_EL0.N = 0).

use crate::outside::PPI_PMU;
use crate::sysreg::Slot;
use crate::vcpu::Vcpu;

const CYCLE: u64 = 1 << 31;
const PMCR_E: u64 = 1;
const PMCR_C: u64 = 1 << 2;
const PMCR_LC: u64 = 1 << 6;
/// E, D, X, DP, LC; C and P act and read as zero.
const PMCR_WRITABLE: u64 = 1 | 1 << 3 | 1 << 4 | 1 << 5 | 1 << 6;

impl Vcpu {
    pub(crate) fn pmu_reset(&mut self) {
        self.pmu_base = 0;
        self.arch.set_sys(Slot::PMCCNTR_EL0, 0);
    }

    /// Counts now: enabled, and not filtered at this EL.
    fn pmu_counting(&self) -> bool {
        let a = &self.arch;
        let filter = a.sys(Slot::PMCCFILTR_EL0);
        let filtered = if a.el == 0 { filter >> 30 & 1 } else { filter >> 31 & 1 };
        a.sys(Slot::PMCR_EL0) & PMCR_E != 0 && a.sys(Slot::PMCNTENSET_EL0) & CYCLE != 0 && filtered == 0
    }

    /// PMCCNTR_EL0 now.
    pub(crate) fn pmu_cycles(&self) -> u64 {
        let stored = self.arch.sys(Slot::PMCCNTR_EL0);
        // pmu_base is the counter value when counting began, plus one; 0 = standing.
        if self.pmu_base == 0 { stored } else { stored.wrapping_add(self.counter().wrapping_sub(self.pmu_base - 1)) }
    }

    /// Brings the stored count up to date, raises overflow, starts or stops counting as the controls say, drives the line.
    pub(crate) fn update_pmu(&mut self) {
        let old = self.arch.sys(Slot::PMCCNTR_EL0);
        let new = self.pmu_cycles();
        let long = self.arch.sys(Slot::PMCR_EL0) & PMCR_LC != 0;
        let overflow = if long { new < old } else { new >> 32 != old >> 32 };
        if self.pmu_base != 0 && overflow {
            self.arch.set_sys(Slot::PMOVSSET_EL0, self.arch.sys(Slot::PMOVSSET_EL0) | CYCLE);
        }
        self.arch.set_sys(Slot::PMCCNTR_EL0, new);
        self.pmu_base = if self.pmu_counting() { self.counter().wrapping_add(1).max(1) } else { 0 };
        self.update_pmu_line();
    }

    fn update_pmu_line(&mut self) {
        let a = &self.arch;
        let level =
            a.sys(Slot::PMOVSSET_EL0) & a.sys(Slot::PMINTENSET_EL1) & CYCLE != 0 && a.sys(Slot::PMCR_EL0) & PMCR_E != 0;
        if level != self.pmu_line {
            self.pmu_line = level;
            self.outside.gic_set_ppi(self.index, PPI_PMU, level);
        }
    }

    /// System counter value at which the cycle counter overflows, when somebody wants to know.
    pub(crate) fn pmu_deadline(&self) -> Option<u64> {
        if self.pmu_base == 0 || self.arch.sys(Slot::PMINTENSET_EL1) & CYCLE == 0 {
            return None;
        }
        let cycles = self.pmu_cycles();
        let long = self.arch.sys(Slot::PMCR_EL0) & PMCR_LC != 0;
        let left = if long { cycles.wrapping_neg() } else { (1 << 32) - (cycles & 0xffff_ffff) };
        Some(self.counter().saturating_add(left.max(1)))
    }

    /// True when EL changes must be noticed.
    #[inline]
    pub(crate) fn pmu_filtered(&self) -> bool {
        self.arch.sys(Slot::PMCCFILTR_EL0) != 0
    }

    pub(crate) fn set_pmcr(&mut self, value: u64) {
        self.update_pmu();
        if value & PMCR_C != 0 {
            self.arch.set_sys(Slot::PMCCNTR_EL0, 0);
        }
        self.arch.set_sys(Slot::PMCR_EL0, value & PMCR_WRITABLE);
        self.update_pmu();
        self.update_timers();
    }

    /// Sets bits of a PMU mask register (only the cycle counter's exists).
    pub(crate) fn pmu_mask(&mut self, slot: Slot, value: u64, set: bool) {
        self.update_pmu();
        let old = self.arch.sys(slot);
        self.arch.set_sys(slot, if set { old | value & CYCLE } else { old & !(value & CYCLE) });
        self.update_pmu();
        self.update_timers();
    }

    pub(crate) fn set_pmccntr(&mut self, value: u64) {
        self.update_pmu();
        self.arch.set_sys(Slot::PMCCNTR_EL0, value);
        self.update_timers();
    }

    pub(crate) fn set_pmccfiltr(&mut self, value: u64) {
        self.update_pmu();
        self.arch.set_sys(Slot::PMCCFILTR_EL0, value & (3 << 30));
        self.update_pmu();
        self.update_timers();
    }
}
