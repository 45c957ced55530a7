//! The PE's side of interrupts: the GIC CPU interface's registers, and what is signalled to the PE.

use std::sync::atomic::Ordering;

use crate::gic::Best;
use crate::outside::{SgiGroup, TraceEvent, trace};
use crate::vcpu::Vcpu;

impl Vcpu {
    fn best_pending(&self) -> Best {
        [self.shared.best_irq(0), self.shared.best_irq(1)]
    }

    /// The lines to the PE: (FIQ, IRQ).
    pub(crate) fn gic_signals(&self) -> (bool, bool) {
        match self.gic.signalled(self.best_pending()) {
            Some(p) if p.group == 0 => (true, false),
            Some(_) => (false, true),
            None => (false, false),
        }
    }

    /// ICC_IAR0_EL1, ICC_IAR1_EL1.
    pub(crate) fn gic_acknowledge(&mut self, group: usize) -> u64 {
        let (shared, outside, index) = (&self.shared, &self.outside, self.index);
        let intid = self.gic.acknowledge(
            group,
            || [shared.best_irq(0), shared.best_irq(1)],
            |intid| outside.gic_acknowledge(index, intid),
        );
        self.update_interrupts();
        if self.vm.trace.load(Ordering::Relaxed) & trace::IRQ != 0 {
            self.outside.trace(self.index, &TraceEvent::Acknowledge { intid, group });
        }
        u64::from(intid)
    }

    /// ICC_HPPIR0_EL1, ICC_HPPIR1_EL1.
    pub(crate) fn gic_highest_pending(&self, group: usize) -> u64 {
        u64::from(self.gic.highest_pending_id(group, self.best_pending()))
    }

    /// ICC_EOIR0_EL1, ICC_EOIR1_EL1: priority drop, and deactivation unless EOImode.
    pub(crate) fn gic_end(&mut self, group: usize, value: u64) {
        let intid = (value & 0xff_ffff) as u32;
        if self.gic.end(group, intid) {
            self.outside.gic_deactivate(self.index, intid);
        }
        self.update_interrupts();
    }

    /// ICC_DIR_EL1.
    pub(crate) fn gic_deactivate(&mut self, value: u64) {
        if self.gic.separate_deactivation() {
            self.outside.gic_deactivate(self.index, (value & 0xff_ffff) as u32);
            self.update_interrupts();
        }
    }

    pub(crate) fn gic_sgi(&mut self, value: u64, group: SgiGroup) {
        self.outside.gic_send_sgi(self.index, value, group);
        self.update_interrupts();
    }
}
