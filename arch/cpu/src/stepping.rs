//! Self-hosted debug at work: when instructions must be looked at one by one, software step, breakpoint and watchpoint exceptions (Arm ARM D2).

use crate::config::{BREAKPOINTS, WATCHPOINTS};
use crate::debug::{DebugRegs, MDSCR_MDE, MDSCR_SS, exceptions_enabled};
use crate::exception::{Syndrome, ec};
use crate::state::pstate;
use crate::sysreg::Slot;
use crate::vcpu::{Trap, Vcpu};

const OSLSR_OSLK: u64 = 1 << 1;

/// What of the debug registers concerns execution now.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct DebugState {
    /// Some breakpoint is enabled (MDE set).
    pub breakpoints: bool,
    /// Some watchpoint is enabled (MDE set), or a debugger's.
    pub watchpoints: bool,
    /// MDSCR_EL1.SS.
    pub step: bool,
    /// One of the above: instructions go one by one through the careful path.
    pub careful: bool,
}

impl Vcpu {
    /// Debug registers changed: what must be watched is worked out anew.
    pub(crate) fn debug_changed(&mut self) {
        let a = &self.arch;
        let mdscr = a.sys(Slot::MDSCR_EL1);
        let unlocked = a.sys(Slot::OSLSR_EL1) & OSLSR_OSLK == 0;
        let mde = mdscr & MDSCR_MDE != 0 && unlocked;
        let enabled = |first: Slot, n: usize| (0..n).any(|i| a.sys[first as usize + i] & 1 != 0);
        let watched = self.debug.watchpoints;
        self.debug.breakpoints = mde && enabled(Slot::DBGBCR0_EL1, BREAKPOINTS);
        self.debug.watchpoints = mde && enabled(Slot::DBGWCR0_EL1, WATCHPOINTS) || self.debugger.watches();
        self.debug.step = mdscr & MDSCR_SS != 0 && unlocked;
        self.debug.careful =
            self.debug.breakpoints || self.debug.watchpoints || self.debug.step || self.debugger.is_active();
        if self.debug.watchpoints && !watched {
            // The fast table must not answer while accesses are watched.
            self.tlb.flush();
            self.select_context();
        }
        self.fetch_stale();
    }

    /// True when engines must go instruction by instruction through [`Vcpu::step`]: breakpoints, watchpoints or software step are on.
    pub fn debug_is_careful(&self) -> bool {
        self.debug.careful
    }

    /// AArch64.GenerateDebugExceptionsFrom, target EL1.
    fn debug_exceptions_from(&self, el: u8, d: bool) -> bool {
        let a = &self.arch;
        exceptions_enabled(a.sys(Slot::MDSCR_EL1), a.sys(Slot::OSLSR_EL1) & OSLSR_OSLK != 0, el, d)
    }

    pub(crate) fn debug_exceptions_enabled(&self) -> bool {
        self.debug_exceptions_from(self.arch.el, u64::from(self.arch.daif) & pstate::D != 0)
    }

    /// PSTATE.SS after an exception return with this SPSR (DebugExceptionReturnSS).
    pub(crate) fn step_after_return(&self, spsr: u64) -> bool {
        if !self.debug.step || self.debug_exceptions_enabled() {
            return false;
        }
        let el = (spsr >> 2 & 1) as u8;
        self.debug_exceptions_from(el, spsr & pstate::D != 0) && spsr & pstate::SS != 0
    }

    /// Before an instruction in careful mode: a pending step exception or a breakpoint. Else PSTATE.SS is consumed.
    pub(crate) fn debug_before(&mut self) -> Result<(), Trap> {
        if self.debug.step && self.debug_exceptions_enabled() {
            if self.arch.ss == 0 {
                // Active, pending. ISV = 1; EX is for load-exclusives, which restart anyway: reported as 0.
                return Err(self.raise(Syndrome::new(ec::STEP_LOWER, 1 << 24 | 0x22)));
            }
            self.arch.ss = 0;
        }
        if self.debug.breakpoints
            && self.debug_exceptions_enabled()
            && self.debug_regs().breakpoint_hit(self.arch.pc, self.arch.el)
        {
            return Err(self.raise(Syndrome::new(ec::BREAKPOINT_LOWER, 0x22)));
        }
        Ok(())
    }

    fn debug_regs(&self) -> DebugRegs<'_> {
        let of = |first: Slot, n: usize| &self.arch.sys[first as usize..][..n];
        DebugRegs {
            bvr: of(Slot::DBGBVR0_EL1, BREAKPOINTS),
            bcr: of(Slot::DBGBCR0_EL1, BREAKPOINTS),
            wvr: of(Slot::DBGWVR0_EL1, WATCHPOINTS),
            wcr: of(Slot::DBGWCR0_EL1, WATCHPOINTS),
            contextidr: self.arch.sys(Slot::CONTEXTIDR_EL1),
        }
    }

    /// Checks a data access against the watchpoints.
    ///
    /// # Errors
    /// A watchpoint exception was raised, or a debugger's watchpoint stops execution.
    pub(crate) fn check_watchpoints(&mut self, va: u64, size: u64, write: bool, el: u8) -> Result<(), Trap> {
        if !self.debug.watchpoints {
            return Ok(());
        }
        self.debugger_watch(va, size, write)?;
        if self.arch.sys(Slot::MDSCR_EL1) & MDSCR_MDE == 0 || !self.debug_exceptions_enabled() {
            return Ok(());
        }
        match self.debug_regs().watchpoint_hit(va, size, write, el) {
            Some(at) => Err(self.raise(Syndrome::watchpoint(write, false, at))),
            None => Ok(()),
        }
    }
}
