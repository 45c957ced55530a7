//! The run loop: fetch, execute, and between instructions whatever other threads ask for.

use std::sync::atomic::Ordering;

use isa::Insn;
use isa::sem::Flow;

use crate::exception::{Exception, Syndrome, ec};
use crate::shared::req;
use crate::stop::Stop;
use crate::vcpu::{Trap, Vcpu};

/// Instructions between two looks at the clock, should no timer thread run.
const CLOCK_INTERVAL: u64 = 16384;

impl Vcpu {
    /// This thread starts to execute guest code: other PEs' TLB maintenance now waits for this one.
    pub fn enter_guest(&mut self) {
        self.shared.shoot.begin();
        self.drain_tlbi();
        self.update_timers();
        self.update_interrupts();
    }

    /// This thread stops to execute guest code.
    pub fn leave_guest(&mut self) {
        self.complete_tlbi();
        self.publish_counters();
        self.vm.rouse(self.shared.shoot.end());
    }

    /// Runs until something real stops it.
    pub fn run(&mut self) -> Stop {
        self.run_budget(u64::MAX)
    }

    /// As [`Vcpu::run`], but at most about `budget` instructions (the end of a straight run is finished).
    pub fn run_budget(&mut self, budget: u64) -> Stop {
        self.enter_guest();
        let end = self.progress().saturating_add(budget);
        let stop = self.run_inner(end);
        self.leave_guest();
        stop
    }

    /// Instructions and exception entries: a guest whose vectors fault makes only the latter.
    fn progress(&self) -> u64 {
        self.counters.instructions + self.ring.count()
    }

    fn run_inner(&mut self, end: u64) -> Stop {
        let mut look_at_clock = self.counters.instructions + CLOCK_INTERVAL;
        loop {
            if self.shared.req().load(Ordering::Relaxed) != 0
                && let Some(stop) = self.poll()
            {
                return stop;
            }
            let now = self.counters.instructions;
            if now >= look_at_clock {
                look_at_clock = now + CLOCK_INTERVAL;
                if self.deadline_passed() {
                    self.shared.req().fetch_or(req::TIMER, Ordering::Relaxed);
                    continue;
                }
            }
            if end != u64::MAX && self.progress() >= end {
                return Stop::Budget;
            }
            let trap = if self.debug.careful { self.run_careful() } else { self.run_straight() };
            if let Err(trap) = trap
                && let Some(stop) = self.handle(trap)
            {
                return stop;
            }
        }
    }

    /// Takes what a trap asks for.
    pub(crate) fn handle(&mut self, trap: Trap) -> Option<Stop> {
        match trap {
            Trap::Exception => {
                let syndrome = self.syndrome;
                self.take_exception(Exception::Sync(syndrome));
                None
            }
            Trap::Exit => {
                let stop = self.exit.take().unwrap_or(Stop::Internal("a stop without a reason".into()));
                if !matches!(stop, Stop::Debug(_)) {
                    self.arch.pc = self.arch.pc.wrapping_add(4);
                }
                Some(stop)
            }
        }
    }

    /// Before the first instruction after a change of flow: PC alignment and illegal state.
    #[inline]
    fn check_pc(&mut self) -> Result<(), Trap> {
        let pc = self.arch.pc;
        if pc & 3 != 0 {
            return Err(self.raise(Syndrome::pc_alignment(pc)));
        }
        if self.arch.il != 0 {
            return Err(self.raise(Syndrome::new(ec::ILLEGAL_STATE, 0)));
        }
        Ok(())
    }

    /// Executes from `pc` on while it stays on its page and nobody asks for anything.
    fn run_straight(&mut self) -> Result<(), Trap> {
        self.check_pc()?;
        self.code.stale = false;
        let page_va = self.arch.pc & !0xfff;
        let page = self.fetch_page(self.arch.pc)?;
        let mut executed = 0u64;
        let result = loop {
            let pc = self.arch.pc;
            let mut insn = self.code.insn(page, pc);
            if insn == Insn::Undefined {
                insn = self.decode_at(page, pc);
            }
            executed += 1;
            match isa::sem::execute(self, &insn) {
                Ok(Flow::Next) => {
                    let next = pc.wrapping_add(4);
                    self.arch.pc = next;
                    if next & 0xfff == 0 || self.code.stale {
                        break Ok(());
                    }
                }
                Ok(Flow::Branch) => {
                    if (self.arch.pc ^ page_va) & !0xffc != 0
                        || self.code.stale
                        || self.shared.req().load(Ordering::Relaxed) != 0
                        || executed > 4096
                    {
                        break Ok(());
                    }
                }
                Err(trap) => break Err(trap),
            }
        };
        self.counters.instructions += executed;
        result
    }

    /// One instruction under breakpoints, watchpoints or software step, the guest's or a debugger's.
    fn run_careful(&mut self) -> Result<(), Trap> {
        self.debugger_before()?;
        self.debug_before()?;
        self.run_one()
    }

    pub(crate) fn run_one(&mut self) -> Result<(), Trap> {
        self.check_pc()?;
        self.code.stale = false;
        let pc = self.arch.pc;
        let page = self.fetch_page(pc)?;
        let mut insn = self.code.insn(page, pc);
        if insn == Insn::Undefined {
            insn = self.decode_at(page, pc);
        }
        self.counters.instructions += 1;
        if let Flow::Next = isa::sem::execute(self, &insn)? {
            self.arch.pc = pc.wrapping_add(4);
        }
        Ok(())
    }

    /// Exactly one instruction, or the entry of the exception that it or an interrupt causes. For the translator's fallback, comparisons and tests;
    /// between `enter_guest` and `leave_guest`.
    pub fn step(&mut self) -> Option<Stop> {
        if self.shared.req().load(Ordering::Relaxed) != 0 {
            let before = self.ring.count();
            if let Some(stop) = self.poll() {
                return Some(stop);
            }
            if self.ring.count() != before {
                return None;
            }
        }
        let result = if self.debug.careful { self.run_careful() } else { self.run_one() };
        match result {
            Ok(()) => None,
            Err(trap) => self.handle(trap),
        }
    }

    /// Executes one decoded instruction at the current PC, which moves on or to the vector of the exception. For the translator.
    pub fn execute(&mut self, insn: &Insn) -> Option<Stop> {
        self.counters.instructions += 1;
        match isa::sem::execute(self, insn) {
            Ok(Flow::Next) => {
                self.arch.pc = self.arch.pc.wrapping_add(4);
                None
            }
            Ok(Flow::Branch) => None,
            Err(trap) => self.handle(trap),
        }
    }
}
