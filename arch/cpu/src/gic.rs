//! The GICv3 CPU interface (Arm IHI 0069, chapters 4 and 12) of one PE: priorities, preemption, acknowledge and end of interrupt.
//!
//! One Security state (GICD_CTLR.DS = 1): group 0 is signalled as FIQ, group 1 as IRQ. The distributor and redistributors
//! publish the best pending interrupt of each group; everything that depends on the PE (mask, running priority, group enables)
//! is decided here, without a lock and without knowing where the interrupts come from.

use serde::{Deserialize, Serialize};

/// Best pending interrupt of each group as published: (priority, interrupt id).
pub type Best = [Option<(u8, u32)>; 2];

/// Interrupt id that an acknowledge gives when there is nothing to take.
pub const SPURIOUS: u32 = 1023;

/// Implemented priority bits, and so preemption levels: 32.
const PRIORITY_BITS: u32 = 5;
const PRIORITY_MASK: u8 = 0xff << (8 - PRIORITY_BITS);
/// Smallest binary point of group 0: all five bits decide about preemption. That of group 1 is one more.
const MIN_BPR: [u8; 2] = [2, 3];
/// Idle running priority.
const IDLE: u8 = 0xff;

const CTLR_CBPR: u64 = 1;
const CTLR_EOI_MODE: u64 = 2;
/// PRIbits - 1, 16 bits of interrupt id, affinity 3 is valid.
const CTLR_FIXED: u64 = ((PRIORITY_BITS as u64 - 1) << 8) | 1 << 15;

/// Claims of one acknowledge that may lose to other PEs before it gives up and says spurious.
const CLAIM_TRIES: usize = 16;

/// What is signalled to the PE.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pending {
    /// 0 = FIQ, 1 = IRQ.
    pub group: usize,
    /// Its priority, 0 highest.
    pub priority: u8,
    /// Its interrupt id.
    pub intid: u32,
}

/// The CPU interface of one PE.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CpuInterface {
    /// ICC_PMR_EL1: only interrupts of a higher priority (lower number) are signalled.
    pmr: u8,
    /// ICC_BPR0_EL1 and ICC_BPR1_EL1 as stored.
    bpr: [u8; 2],
    /// ICC_AP0R0_EL1 and ICC_AP1R0_EL1: bit n = an interrupt of group priority n << 3 is active.
    active: [u32; 2],
    /// ICC_IGRPEN0_EL1 and ICC_IGRPEN1_EL1.
    enabled: [bool; 2],
    /// The writable bits of ICC_CTLR_EL1.
    ctlr: u64,
}

impl Default for CpuInterface {
    fn default() -> Self {
        CpuInterface { pmr: 0, bpr: MIN_BPR, active: [0; 2], enabled: [false; 2], ctlr: 0 }
    }
}

impl CpuInterface {
    /// The same with impossible values, which a file may hold, made possible.
    #[must_use]
    pub fn sanitized(&self) -> CpuInterface {
        let mut clean = CpuInterface { active: self.active, enabled: self.enabled, ..CpuInterface::default() };
        clean.set_pmr(self.pmr.into());
        clean.set_bpr(0, self.bpr[0].into());
        clean.set_bpr(1, self.bpr[1].into());
        clean.set_ctlr(self.ctlr);
        clean
    }

    /// The highest priority pending interrupt of the enabled groups, whatever is running or masked.
    #[must_use]
    pub fn highest_pending(&self, best: Best) -> Option<Pending> {
        let of = |group: usize| {
            best[group].filter(|_| self.enabled[group]).map(|(priority, intid)| Pending { group, priority, intid })
        };
        match (of(0), of(1)) {
            (Some(a), Some(b)) => Some(if (b.priority, b.intid) < (a.priority, a.intid) { b } else { a }),
            (a, b) => a.or(b),
        }
    }

    /// What is signalled: the highest priority pending interrupt when the mask and the running priority let it through.
    #[inline]
    #[must_use]
    pub fn signalled(&self, best: Best) -> Option<Pending> {
        let pending = self.highest_pending(best)?;
        let through = pending.priority < self.pmr
            && (self.active == [0; 2] || pending.priority & self.group_mask(pending.group) < self.running_priority());
        through.then_some(pending)
    }

    /// ICC_IAR0/1: takes the signalled interrupt of `group`.
    ///
    /// `best` reads what is published now; `claim` makes the interrupt active where it comes from and says false when
    /// it is not pending any more (another PE took it, its line fell), in which case something new was published.
    pub fn acknowledge(
        &mut self,
        group: usize,
        mut best: impl FnMut() -> Best,
        mut claim: impl FnMut(u32) -> bool,
    ) -> u32 {
        for _ in 0..CLAIM_TRIES {
            let Some(pending) = self.signalled(best()).filter(|pending| pending.group == group) else {
                return SPURIOUS;
            };
            if claim(pending.intid) {
                let level = (pending.priority & self.group_mask(group)) >> (8 - PRIORITY_BITS);
                self.active[group] |= 1 << level;
                return pending.intid;
            }
        }
        SPURIOUS
    }

    /// ICC_EOIR0/1: drops the running priority. True when the interrupt is to be deactivated as well.
    #[must_use]
    pub fn end(&mut self, group: usize, intid: u32) -> bool {
        if (1020..1024).contains(&intid) {
            return false;
        }
        let lowest = self.active.map(u32::trailing_zeros);
        // Only the group of the running priority may drop it.
        if lowest[group] < 32 && lowest[group] <= lowest[1 - group] {
            self.active[group] &= self.active[group] - 1;
        }
        self.ctlr & CTLR_EOI_MODE == 0
    }

    /// True when ICC_DIR_EL1 has an effect: EOImode is 1.
    #[must_use]
    pub fn separate_deactivation(&self) -> bool {
        self.ctlr & CTLR_EOI_MODE != 0
    }

    /// ICC_HPPIR0/1.
    #[must_use]
    pub fn highest_pending_id(&self, group: usize, best: Best) -> u32 {
        self.highest_pending(best).filter(|pending| pending.group == group).map_or(SPURIOUS, |pending| pending.intid)
    }

    /// ICC_RPR_EL1: priority of what is running, 0xff when nothing is.
    #[inline]
    #[must_use]
    pub fn running_priority(&self) -> u8 {
        match (self.active[0] | self.active[1]).trailing_zeros() {
            32.. => IDLE,
            level => (level as u8) << (8 - PRIORITY_BITS),
        }
    }

    /// Bits of a priority that decide about preemption.
    fn group_mask(&self, group: usize) -> u8 {
        // BPR0 = n leaves bits [7:n+1]; BPR1 = n leaves bits [7:n].
        let point = if group == 0 || self.ctlr & CTLR_CBPR != 0 { self.bpr[0] + 1 } else { self.bpr[1] };
        if point > 7 { 0 } else { 0xff << point }
    }

    /// ICC_PMR_EL1.
    #[must_use]
    pub fn pmr(&self) -> u64 {
        u64::from(self.pmr)
    }

    /// Writes ICC_PMR_EL1.
    pub fn set_pmr(&mut self, value: u64) {
        self.pmr = value as u8 & PRIORITY_MASK;
    }

    /// ICC_BPR0_EL1 (0) or ICC_BPR1_EL1 (1).
    #[must_use]
    pub fn bpr(&self, group: usize) -> u64 {
        if group == 1 && self.ctlr & CTLR_CBPR != 0 {
            u64::from(self.bpr[0] + 1).min(7)
        } else {
            u64::from(self.bpr[group])
        }
    }

    /// Writes ICC_BPR0_EL1 (0) or ICC_BPR1_EL1 (1); values below the smallest one become that.
    pub fn set_bpr(&mut self, group: usize, value: u64) {
        if group == 0 || self.ctlr & CTLR_CBPR == 0 {
            self.bpr[group] = (value as u8 & 7).max(MIN_BPR[group]);
        }
    }

    /// ICC_AP0R0_EL1 (0) or ICC_AP1R0_EL1 (1).
    #[must_use]
    pub fn active_priorities(&self, group: usize) -> u64 {
        u64::from(self.active[group])
    }

    /// Writes ICC_AP0R0_EL1 (0) or ICC_AP1R0_EL1 (1).
    pub fn set_active_priorities(&mut self, group: usize, value: u64) {
        self.active[group] = value as u32;
    }

    /// ICC_IGRPEN0_EL1 (0) or ICC_IGRPEN1_EL1 (1).
    #[must_use]
    pub fn group_enabled(&self, group: usize) -> u64 {
        u64::from(self.enabled[group])
    }

    /// Writes ICC_IGRPEN0_EL1 (0) or ICC_IGRPEN1_EL1 (1).
    pub fn set_group_enabled(&mut self, group: usize, value: u64) {
        self.enabled[group] = value & 1 != 0;
    }

    /// ICC_CTLR_EL1.
    #[must_use]
    pub fn ctlr(&self) -> u64 {
        self.ctlr | CTLR_FIXED
    }

    /// Writes ICC_CTLR_EL1: CBPR and EOImode.
    pub fn set_ctlr(&mut self, value: u64) {
        self.ctlr = value & (CTLR_CBPR | CTLR_EOI_MODE);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn open() -> CpuInterface {
        let mut gic = CpuInterface::default();
        gic.set_pmr(0xff);
        gic.set_group_enabled(0, 1);
        gic.set_group_enabled(1, 1);
        gic
    }

    #[test]
    fn a_closed_mask_and_disabled_groups_signal_nothing() {
        let best = [Some((0, 40)), Some((0, 41))];
        assert_eq!(CpuInterface::default().signalled(best), None);
        let mut gic = open();
        gic.set_pmr(0x80);
        assert_eq!(gic.signalled([None, Some((0x80, 41))]), None, "equal to the mask is masked");
        assert!(gic.signalled([None, Some((0x78, 41))]).is_some());
        gic.set_group_enabled(1, 0);
        assert_eq!(gic.highest_pending_id(1, best), SPURIOUS);
        assert_eq!(gic.highest_pending_id(0, best), 40);
    }

    #[test]
    fn acknowledge_raises_the_running_priority_and_end_drops_it() {
        let mut gic = open();
        let id = gic.acknowledge(1, || [None, Some((0xa0, 50))], |_| true);
        assert_eq!((id, gic.running_priority()), (50, 0xa0));
        assert_eq!(gic.signalled([None, Some((0xa0, 51))]), None, "equal does not preempt");
        let id = gic.acknowledge(1, || [None, Some((0x40, 51))], |_| true);
        assert_eq!((id, gic.running_priority()), (51, 0x40));
        assert!(gic.end(1, 51));
        assert_eq!(gic.running_priority(), 0xa0);
        assert!(!gic.end(1, SPURIOUS));
        assert!(gic.end(1, 50));
        assert_eq!(gic.running_priority(), IDLE);
    }

    #[test]
    fn an_acknowledge_of_the_other_group_is_spurious() {
        let mut gic = open();
        assert_eq!(gic.acknowledge(1, || [Some((0x10, 33)), Some((0x20, 34))], |_| true), SPURIOUS);
        assert_eq!(gic.acknowledge(0, || [Some((0x10, 33)), Some((0x20, 34))], |_| true), 33);
    }

    #[test]
    fn a_lost_claim_looks_again_and_ends() {
        let mut gic = open();
        let mut offers = [Some((0x20, 60)), Some((0x30, 61))].into_iter();
        let id = gic.acknowledge(1, || [None, offers.next().flatten()], |id| id == 61);
        assert_eq!((id, gic.running_priority()), (61, 0x30));
        assert_eq!(open().acknowledge(1, || [None, Some((0, 70))], |_| false), SPURIOUS, "bounded");
    }

    #[test]
    fn binary_points_group_priorities() {
        let mut gic = open();
        gic.set_bpr(1, 0);
        assert_eq!((gic.bpr(0), gic.bpr(1)), (2, 3));
        gic.set_bpr(1, 7);
        gic.acknowledge(1, || [None, Some((0x60, 50))], |_| true);
        assert_eq!(gic.running_priority(), 0, "only bit 7 counts");
        assert_eq!(gic.signalled([None, Some((0x40, 51))]), None);
        gic.set_ctlr(1);
        assert_eq!(gic.bpr(1), 3, "CBPR shows BPR0 + 1");
    }

    #[test]
    fn eoi_mode_splits_drop_and_deactivation() {
        let mut gic = open();
        gic.set_ctlr(2);
        gic.acknowledge(1, || [None, Some((0x60, 50))], |_| true);
        assert!(!gic.end(1, 50));
        assert!(gic.separate_deactivation());
        assert_eq!(gic.running_priority(), IDLE);
    }
}
