//! The state of 32 interrupts: what the registers of distributor and redistributors show, and which one is the best.

use serde::{Deserialize, Serialize};

use super::MAX_SPIS;
use super::spec::IrqRegister;

/// The implemented priority bits of a byte.
const PRIORITY_MASK: u8 = 0xff << (8 - super::PRIORITY_BITS);
/// SGIs are edge triggered, always.
const SGIS: u32 = 0xffff;

/// A pending interrupt as one number: the lower the better. Priority in bits 23:16, INTID in bits 15:0.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Offer(u32);

/// Nothing is pending.
pub(super) const NO_OFFER: Offer = Offer(u32::MAX);

impl Offer {
    pub(super) fn new(priority: u8, intid: u32) -> Offer {
        Offer(u32::from(priority) << 16 | intid)
    }

    /// (priority, INTID).
    pub(super) fn decode(self) -> Option<(u8, u32)> {
        (self != NO_OFFER).then_some(((self.0 >> 16) as u8, self.0 & 0xffff))
    }
}

/// 32 interrupts with consecutive INTIDs: bit or element n is the n-th of them.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Bank {
    /// Those that exist; the others read as zero and ignore writes.
    pub(super) exists: u32,
    /// In group 1; the others in group 0.
    pub(super) group1: u32,
    pub(super) enabled: u32,
    /// Pending by an edge, by a message to an edge-triggered SPI, or by a write to `ISPENDR`.
    pub(super) latch: u32,
    /// The level of the wire.
    pub(super) line: u32,
    /// A level that `GICD_SETSPI_NSR` has asserted and `GICD_CLRSPI_NSR` has not taken back.
    pub(super) message: u32,
    pub(super) active: u32,
    /// Edge triggered; the others are level-sensitive.
    pub(super) edge: u32,
    pub(super) priority: [u8; 32],
}

impl Bank {
    fn new(exists: u32, edge: u32) -> Bank {
        Bank { exists, group1: 0, enabled: 0, latch: 0, line: 0, message: 0, active: 0, edge, priority: [0; 32] }
    }

    /// SGIs and PPIs of one processing element, in the state after reset.
    pub(super) fn private() -> Bank {
        Bank::new(u32::MAX, SGIS)
    }

    /// `count` SPIs in the state after reset.
    pub(super) fn shared(count: usize) -> Vec<Bank> {
        let count = count.min(MAX_SPIS);
        let exists = |first: usize| u32::MAX >> (32 - (count - first).min(32));
        (0..count).step_by(32).map(|first| Bank::new(exists(first), 0)).collect()
    }

    /// Back to the state after reset. The wires keep their level: it belongs to the devices.
    pub(super) fn reset(&mut self, private: bool) {
        *self = Bank { line: self.line, ..Bank::new(self.exists, if private { SGIS } else { 0 }) };
    }

    /// Takes over what was saved of a bank, bound to what this bank can be.
    pub(super) fn restore(&mut self, saved: &Bank, private: bool) {
        let fixed = if private { SGIS } else { 0 };
        *self = Bank {
            exists: self.exists,
            group1: saved.group1 & self.exists,
            enabled: saved.enabled & self.exists,
            latch: saved.latch & self.exists,
            line: saved.line & self.exists & !fixed,
            message: if private { 0 } else { saved.message & self.exists },
            active: saved.active & self.exists,
            edge: saved.edge & self.exists & !fixed | fixed,
            priority: saved.priority.map(|p| p & PRIORITY_MASK),
        };
    }

    pub(super) fn pending(&self) -> u32 {
        self.latch | (self.line | self.message) & !self.edge
    }

    /// Drives the wires `bits` to `level`. False if nothing changed.
    pub(super) fn drive(&mut self, bits: u32, level: bool) -> bool {
        let bits = bits & self.exists;
        let before = self.line;
        self.line = if level { before | bits } else { before & !bits };
        self.latch |= self.line & !before & self.edge;
        self.line != before
    }

    /// A message asserts or takes back the interrupts `bits`.
    pub(super) fn message(&mut self, bits: u32, level: bool) {
        let (edge, level_sensitive) = (bits & self.exists & self.edge, bits & self.exists & !self.edge);
        if level {
            self.latch |= edge;
            self.message |= level_sensitive;
        } else {
            self.latch &= !edge;
            self.message &= !level_sensitive;
        }
    }

    /// Those that may be taken now.
    fn deliverable(&self) -> u32 {
        self.pending() & self.enabled & !self.active
    }

    /// Makes the one interrupt `bit` active, if it may be taken and its group is enabled in `groups`.
    pub(super) fn activate(&mut self, bit: u32, groups: u32) -> bool {
        let group = u32::from(self.group1 & bit != 0);
        let may = self.deliverable() & bit != 0 && groups >> group & 1 != 0;
        if may {
            self.active |= bit;
            self.latch &= !bit;
        }
        may
    }

    /// Improves `best` (by group) by the interrupts `routed` of this bank, whose first has INTID `first`.
    pub(super) fn best(&self, routed: u32, first: u32, best: &mut [Offer; 2]) {
        let mut rest = self.deliverable() & routed;
        while rest != 0 {
            let n = rest.trailing_zeros();
            rest &= rest - 1;
            let group = (self.group1 >> n & 1) as usize;
            best[group] = best[group].min(Offer::new(self.priority[n as usize], first + n));
        }
    }

    /// Reads a register of one bit for each interrupt.
    pub(super) fn read_bits(&self, register: IrqRegister) -> u32 {
        match register {
            IrqRegister::Group => self.group1,
            IrqRegister::SetEnable | IrqRegister::ClearEnable => self.enabled,
            IrqRegister::SetPending | IrqRegister::ClearPending => self.pending(),
            IrqRegister::SetActive | IrqRegister::ClearActive => self.active,
        }
    }

    /// Writes a register of one bit for each interrupt.
    pub(super) fn write_bits(&mut self, register: IrqRegister, value: u32) {
        let value = value & self.exists;
        match register {
            IrqRegister::Group => self.group1 = value,
            IrqRegister::SetEnable => self.enabled |= value,
            IrqRegister::ClearEnable => self.enabled &= !value,
            IrqRegister::SetPending => self.latch |= value,
            IrqRegister::ClearPending => self.latch &= !value,
            IrqRegister::SetActive => self.active |= value,
            IrqRegister::ClearActive => self.active &= !value,
        }
    }

    /// Reads `size` (1 or 4) priorities from the `first` interrupt on.
    pub(super) fn read_priorities(&self, first: usize, size: u8) -> u64 {
        let bytes = self.priority.iter().skip(first).take(usize::from(size));
        bytes.enumerate().fold(0, |value, (i, &p)| value | u64::from(p) << (8 * i))
    }

    /// Writes `size` (1 or 4) priorities from the `first` interrupt on.
    pub(super) fn write_priorities(&mut self, first: usize, size: u8, value: u64) {
        for (i, n) in (first..32).take(usize::from(size)).enumerate() {
            if self.exists >> n & 1 != 0 {
                self.priority[n] = (value >> (8 * i)) as u8 & PRIORITY_MASK;
            }
        }
    }

    /// Reads `ICFGR` for 16 interrupts from the `first` on: bit 2n + 1 is set for an edge-triggered one.
    pub(super) fn read_config(&self, first: usize) -> u32 {
        (0..16).fold(0, |value, n| value | (self.edge >> (first + n) & 1) << (2 * n + 1))
    }

    /// Writes `ICFGR` for 16 interrupts from the `first` on.
    pub(super) fn write_config(&mut self, first: usize, value: u32) {
        for n in 0..16 {
            let bit = (1 << (first + n)) & self.exists;
            self.edge = if value >> (2 * n + 1) & 1 != 0 { self.edge | bit } else { self.edge & !bit };
        }
    }
}
