//! Entry to EL1 and return from it (Arm ARM D1.3, AArch64.TakeException and AArch64.ExceptionReturn).

use std::sync::atomic::Ordering;

use super::{Exception, Record, ec};
use crate::outside::{TraceEvent, trace};
use crate::state::{ArchState, pstate};
use crate::sysreg::Slot;
use crate::vcpu::Vcpu;

/// SCTLR_EL1 bits that entry and return look at.
const SCTLR_SPAN: u64 = 1 << 23;
const SCTLR_DSSBS: u64 = 1 << 44;

impl Vcpu {
    /// Takes an exception to EL1. `arch.pc` is the instruction that faulted or would run next.
    pub fn take_exception(&mut self, exception: Exception) {
        let a = &mut self.arch;
        let same_el = a.el != 0;
        let pc = a.pc;
        let mut vector: u64 = if same_el { if a.spsel != 0 { 0x200 } else { 0x000 } } else { 0x400 };
        let mut elr = pc;
        match exception {
            Exception::Sync(s) => {
                // 0x20, 0x24, 0x30, 0x32, 0x34 have a "same EL" value one above.
                let paired = matches!(
                    s.ec,
                    ec::INSTRUCTION_ABORT_LOWER
                        | ec::DATA_ABORT_LOWER
                        | ec::BREAKPOINT_LOWER
                        | ec::STEP_LOWER
                        | ec::WATCHPOINT_LOWER
                );
                let class = s.ec | u8::from(same_el && paired);
                a.set_sys(Slot::ESR_EL1, u64::from(class) << 26 | 1 << 25 | u64::from(s.iss & 0x1ff_ffff));
                if let Some(far) = s.far {
                    a.set_sys(Slot::FAR_EL1, far);
                }
                if s.next {
                    elr = pc.wrapping_add(4);
                }
                self.counters.exceptions[usize::from(class & 63)] += 1;
            }
            Exception::Irq => {
                vector += 0x80;
                self.counters.irqs += 1;
            }
            Exception::Fiq => {
                vector += 0x100;
                self.counters.irqs += 1;
            }
            Exception::SError(iss) => {
                vector += 0x180;
                a.set_sys(Slot::ESR_EL1, u64::from(ec::SERROR) << 26 | 1 << 25 | u64::from(iss & 0x1ff_ffff));
            }
        }
        let spsr = a.spsr();
        a.set_sys(Slot::SPSR_EL1, spsr);
        a.set_sys(Slot::ELR_EL1, elr);
        let sctlr = a.sys(Slot::SCTLR_EL1);
        a.set_el_sp(1, 1);
        a.daif = pstate::DAIF as u32;
        a.il = 0;
        a.ss = 0;
        a.ssbs = u8::from(sctlr & SCTLR_DSSBS != 0);
        if sctlr & SCTLR_SPAN == 0 && self.features.pan {
            a.pan = 1;
        }
        a.exclusive.size = 0;
        a.pc = a.sys(Slot::VBAR_EL1).wrapping_add(vector);
        let record = Record {
            pc,
            elr,
            spsr,
            esr: self.arch.sys(Slot::ESR_EL1),
            far: self.arch.sys(Slot::FAR_EL1),
            vector: vector as u16,
            when: self.counters.instructions,
        };
        self.ring.push(record);
        self.mode_changed();
        if self.vm.trace.load(Ordering::Relaxed) & trace::EXCEPTION != 0 {
            self.outside.trace(self.index, &TraceEvent::Exception(&record));
        }
    }

    /// ERET from EL1: PC and PSTATE from ELR_EL1 and SPSR_EL1.
    pub fn eret(&mut self) {
        let spsr = self.arch.sys(Slot::SPSR_EL1);
        let elr = self.arch.sys(Slot::ELR_EL1);
        let from = self.arch.pc;
        let step = self.step_after_return(spsr);
        let a = &mut self.arch;
        a.exclusive.size = 0;
        a.event = 1;
        if ArchState::spsr_is_legal(spsr) {
            let el = (spsr >> 2 & 1) as u8;
            a.set_pstate_flags(spsr);
            a.il = u8::from(spsr & pstate::IL != 0);
            a.set_el_sp(el, (spsr & 1) as u8);
            if el == 0 {
                self.shared.eret_el0.fetch_add(1, Ordering::Relaxed);
            }
        } else {
            // Illegal exception return: the mode stays, the next instruction raises Illegal Execution state.
            let (el, spsel) = (a.el, a.spsel);
            let (pan, ssbs, dit) = (a.pan, a.ssbs, a.dit);
            a.set_pstate_flags(spsr);
            (a.pan, a.ssbs, a.dit) = (pan, ssbs, dit);
            a.il = 1;
            a.set_el_sp(el, spsel);
        }
        if !self.features.pan {
            self.arch.pan = 0;
        }
        self.arch.ss = u8::from(step);
        self.arch.pc = elr;
        self.mode_changed();
        self.context_synchronization();
        if self.vm.trace.load(Ordering::Relaxed) & trace::EXCEPTION != 0 {
            self.outside.trace(self.index, &TraceEvent::ExceptionReturn { from, to: elr, spsr });
        }
    }
}
