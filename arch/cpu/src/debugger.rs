//! A debugger outside of the guest: the places where it wants a processing element to stop.
//!
//! The guest sees nothing of it: its own debug registers (`debug`, `stepping`) stay as they are. While there are such
//! places every instruction goes through the careful path, on the translator too.

use crate::stop::Stop;
use crate::vcpu::{Trap, Vcpu};

/// Which accesses a watchpoint is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Watched {
    /// Loads.
    Loads,
    /// Stores.
    Stores,
    /// Both.
    Both,
}

/// Virtual addresses of which accesses are watched.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Watchpoint {
    /// The first byte.
    pub address: u64,
    /// Bytes, 1 or more.
    pub len: u64,
    /// Loads, stores or both.
    pub on: Watched,
}

impl Watchpoint {
    /// The first watched byte of an access of `size` bytes at `address`.
    fn hit(&self, address: u64, size: u64, store: bool) -> Option<u64> {
        let wanted = match self.on {
            Watched::Loads => !store,
            Watched::Stores => store,
            Watched::Both => true,
        };
        // Distances, as an access may wrap at the end of the address space.
        if address.wrapping_sub(self.address) < self.len {
            wanted.then_some(address)
        } else {
            (wanted && self.address.wrapping_sub(address) < size).then_some(self.address)
        }
    }
}

/// Where a debugger wants a processing element to stop.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct DebugPoints {
    /// Virtual addresses of instructions, before which it stops.
    pub breakpoints: Vec<u64>,
    /// Accesses before which it stops.
    pub watchpoints: Vec<Watchpoint>,
    /// It stops after one instruction, or when it has taken an exception.
    pub step: bool,
}

impl DebugPoints {
    /// True if there is nothing to stop for.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        *self == DebugPoints::default()
    }
}

/// What a processing element stopped for. PC is at the instruction that comes next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DebugEvent {
    /// There is a breakpoint at PC.
    Breakpoint,
    /// The instruction at PC is about to access this watched address.
    Watchpoint(u64),
    /// One instruction was executed.
    Step,
}

/// The debugger's side of one processing element.
#[derive(Clone, Debug, Default)]
pub(crate) struct Debugger {
    points: DebugPoints,
    /// The instruction at this PC was stopped at, and why: when execution goes on, it is executed.
    stopped_at: Option<(u64, DebugEvent)>,
    /// The instruction under way was stopped at for what it accesses.
    passes: bool,
    /// An instruction was begun since a step was asked for.
    begun: bool,
}

impl Debugger {
    pub(crate) fn is_active(&self) -> bool {
        !self.points.is_empty()
    }

    /// Execution begins elsewhere: what was stopped at is no more.
    pub(crate) fn restart(&mut self) {
        self.stopped_at = None;
        self.begun = false;
    }

    pub(crate) fn watches(&self) -> bool {
        !self.points.watchpoints.is_empty()
    }
}

impl Vcpu {
    /// From now on execution stops at these places, and at no others. Not from within a run.
    pub fn set_debug_points(&mut self, points: DebugPoints) {
        self.debugger.points = points;
        self.debugger.begun = false;
        self.debug_changed();
        self.context_dirty = true;
    }

    fn stop_for_debugger(&mut self, event: DebugEvent) -> Trap {
        self.debugger.stopped_at = Some((self.arch.pc, event));
        self.debugger.begun = false;
        self.leave(Stop::Debug(event))
    }

    /// Before an instruction in careful mode.
    pub(crate) fn debugger_before(&mut self) -> Result<(), Trap> {
        if !self.debugger.is_active() {
            return Ok(());
        }
        if self.debugger.points.step && self.debugger.begun {
            return Err(self.stop_for_debugger(DebugEvent::Step));
        }
        let pc = self.arch.pc;
        // After an interrupt that came first, too.
        let stopped = self.debugger.stopped_at.take_if(|(at, _)| *at == pc);
        self.debugger.passes = matches!(stopped, Some((_, DebugEvent::Watchpoint(_))));
        if stopped.is_none() && self.debugger.points.breakpoints.contains(&pc) {
            return Err(self.stop_for_debugger(DebugEvent::Breakpoint));
        }
        self.debugger.begun = true;
        Ok(())
    }

    /// Before a data access while anything is watched.
    pub(crate) fn debugger_watch(&mut self, va: u64, size: u64, store: bool) -> Result<(), Trap> {
        if self.debugger.passes {
            return Ok(());
        }
        match self.debugger.points.watchpoints.iter().find_map(|point| point.hit(va, size, store)) {
            Some(address) => Err(self.stop_for_debugger(DebugEvent::Watchpoint(address))),
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests;
