//! A debugger's side of the machine: breakpoints, watchpoints and single steps, on every engine alike.
//!
//! Points of the command line (`--break`, `--watch`) are for scripts: where a vCPU comes to one its registers are printed,
//! some instructions after it if wanted, and it goes on. Points of the monitor hold the machine until `cont` or `step`.

use std::fmt::Write;

use crate::engine::{DebugEvent, DebugPoints, View, Watchpoint};
use crate::exit::Failure;
use crate::machine::Machine;

/// Where a vCPU stops.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    /// Before the instruction at this virtual address.
    Instruction(u64),
    /// Before an access.
    Access(Watchpoint),
}

/// What then happens.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Then {
    /// It is told, with this many instructions from there on, and goes on.
    GoOn {
        /// Instructions that are told one by one.
        steps: u32,
    },
    /// The machine is paused.
    Hold,
}

/// A place, and what happens there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Point {
    /// The place.
    pub place: Place,
    /// What happens.
    pub then: Then,
}

/// A vCPU that goes instruction by instruction.
#[derive(Clone, Copy, Debug)]
struct Stepping {
    /// Instructions to go.
    left: u32,
    /// At the end the machine is paused.
    holds: bool,
}

/// What the supervisor does after a vCPU stopped.
#[derive(Debug, PartialEq, Eq)]
pub enum Told {
    /// A person or a script reads this; the machine runs.
    GoesOn(String),
    /// As well, and the machine is paused.
    Held(String),
}

/// All points of a machine.
#[derive(Debug, Default)]
pub struct Debugger {
    points: Vec<Point>,
    /// By vCPU.
    stepping: Vec<Option<Stepping>>,
    /// vCPUs that wait for `cont`.
    held: Vec<usize>,
}

impl Debugger {
    /// With the points of the command line, which are set in the machine, too.
    ///
    /// # Errors
    /// The engine has no such points.
    pub fn new(machine: &Machine, points: &[Point]) -> Result<Debugger, Failure> {
        let debugger = Debugger {
            points: points.to_vec(),
            stepping: (0..machine.vcpus()).map(|_| None).collect(),
            held: Vec::new(),
        };
        if !points.is_empty() {
            debugger.apply(machine)?;
        }
        Ok(debugger)
    }

    /// Adds a point.
    ///
    /// # Errors
    /// The engine has not as many, or no such one.
    pub fn add(&mut self, machine: &Machine, point: Point) -> Result<(), Failure> {
        self.points.push(point);
        self.apply(machine).inspect_err(|_| {
            let _ = self.points.pop();
        })
    }

    /// Takes all points away.
    ///
    /// # Errors
    /// A vCPU does not answer.
    pub fn clear(&mut self, machine: &Machine) -> Result<(), Failure> {
        self.points.clear();
        self.apply(machine)
    }

    /// The machine begins anew: points stay, nobody is in the middle of a step.
    ///
    /// # Errors
    /// A vCPU does not answer.
    pub fn restart(&mut self, machine: &Machine) -> Result<(), Failure> {
        self.held.clear();
        let was_stepping = self.stepping.iter_mut().filter_map(Option::take).count() > 0;
        if was_stepping { self.apply(machine) } else { Ok(()) }
    }

    /// All points, one a line.
    pub fn list(&self) -> String {
        let mut text = String::new();
        for Point { place, then } in &self.points {
            let then = match then {
                Then::Hold => "holds the machine".to_owned(),
                Then::GoOn { steps } => format!("tells {steps} instructions more and goes on"),
            };
            let _ = match place {
                Place::Instruction(address) => writeln!(text, "break {address:#x}: {then}"),
                Place::Access(Watchpoint { address, len, on }) => {
                    writeln!(text, "watch {address:#x}, {len} bytes, {on:?}: {then}")
                }
            };
        }
        if text.is_empty() { "no points".to_owned() } else { text }
    }

    fn apply(&self, machine: &Machine) -> Result<(), Failure> {
        let mut points = DebugPoints::default();
        for point in &self.points {
            match point.place {
                Place::Instruction(address) => points.breakpoints.push(address),
                Place::Access(watchpoint) => points.watchpoints.push(watchpoint),
            }
        }
        let of = |stepping: &Option<Stepping>| DebugPoints { step: stepping.is_some(), ..points.clone() };
        machine.set_debug_points(self.stepping.iter().map(of).collect())
    }

    /// One instruction of a vCPU of a machine that stands: the caller resumes it.
    ///
    /// # Errors
    /// There is no such vCPU, or it does not answer.
    pub fn step(&mut self, machine: &Machine, vcpu: usize) -> Result<(), Failure> {
        let count = machine.vcpus();
        let stepping = self.stepping.get_mut(vcpu);
        *stepping.ok_or_else(|| Failure::usage(format!("there is no vCPU {vcpu} of {count}")))? =
            Some(Stepping { left: 1, holds: true });
        self.apply(machine)?;
        self.release(machine);
        Ok(())
    }

    /// Whoever waits goes on; the caller resumes the machine.
    pub fn release(&mut self, machine: &Machine) {
        self.held.drain(..).for_each(|vcpu| machine.release(vcpu));
    }

    /// A vCPU stopped.
    ///
    /// # Errors
    /// It does not answer, or the machine does not pause.
    pub fn stopped(&mut self, machine: &Machine, vcpu: usize, event: DebugEvent) -> Result<Told, Failure> {
        let view = machine.view(vcpu)?;
        let mut text = describe(vcpu, event, &view);
        let then = self.next(vcpu, event, view.pc);
        if event != DebugEvent::Step || then == Then::Hold {
            text.push_str(&registers(&view));
        }
        match then {
            Then::Hold => {
                machine.pause()?;
                self.held.push(vcpu);
                self.set_stepping(machine, vcpu, None)?;
                Ok(Told::Held(text))
            }
            Then::GoOn { steps } => {
                self.set_stepping(machine, vcpu, self.stepping_after(vcpu, event, steps))?;
                machine.release(vcpu);
                Ok(Told::GoesOn(text))
            }
        }
    }

    fn set_stepping(&mut self, machine: &Machine, vcpu: usize, stepping: Option<Stepping>) -> Result<(), Failure> {
        let Some(now) = self.stepping.get_mut(vcpu) else { return Ok(()) };
        let before = std::mem::replace(now, stepping);
        if before.is_some() == stepping.is_some() { Ok(()) } else { self.apply(machine) }
    }

    /// Steps to go after an event that asks for this many: those of an earlier point go on.
    fn stepping_after(&self, vcpu: usize, event: DebugEvent, steps: u32) -> Option<Stepping> {
        let now = self.stepping.get(vcpu).copied().flatten();
        match now {
            Some(stepping) if event != DebugEvent::Step && stepping.left > steps => now,
            Some(Stepping { holds, .. }) => (steps > 0).then_some(Stepping { left: steps, holds }),
            None => (steps > 0).then_some(Stepping { left: steps, holds: false }),
        }
    }

    /// What happens at an event: steps left count down, points begin anew.
    fn next(&self, vcpu: usize, event: DebugEvent, pc: u64) -> Then {
        let is_it = |place: Place| match (place, event) {
            (Place::Instruction(address), DebugEvent::Breakpoint) => address == pc,
            (Place::Access(point), DebugEvent::Watchpoint(address)) => address.wrapping_sub(point.address) < point.len,
            _ => false,
        };
        let of_points = self.points.iter().find(|point| is_it(point.place)).map(|point| point.then);
        match (of_points, self.stepping.get(vcpu)) {
            (Some(then), _) => then,
            (None, Some(Some(Stepping { left: 0 | 1, holds: true }))) => Then::Hold,
            (None, Some(Some(stepping))) => Then::GoOn { steps: stepping.left.saturating_sub(1) },
            (None, _) => Then::GoOn { steps: 0 },
        }
    }
}

fn describe(vcpu: usize, event: DebugEvent, view: &View) -> String {
    let pc = view.pc;
    let instruction = match view.instruction {
        Some(word) => format!("{word:08x}  {}", isa::disasm(word, pc)),
        None => "no instruction can be read there".to_owned(),
    };
    match event {
        DebugEvent::Breakpoint => format!("vCPU {vcpu} at breakpoint {pc:#x}: {instruction}"),
        DebugEvent::Watchpoint(address) => {
            format!("vCPU {vcpu} about to access {address:#x}, at {pc:#x}: {instruction}")
        }
        DebugEvent::Step => format!("vCPU {vcpu} at {pc:#x}: {instruction}"),
    }
}

fn registers(view: &View) -> String {
    let mut text = String::new();
    for (n, value) in view.x.iter().enumerate() {
        let _ = write!(text, "{}x{n:<2} {value:#018x}", if n % 4 == 0 { "\n " } else { " " });
    }
    let _ = write!(text, " sp  {:#018x}\n pstate {:#x}", view.sp, view.pstate);
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::Watched;

    fn debugger(points: Vec<Point>) -> Debugger {
        Debugger { points, stepping: vec![None, None], held: Vec::new() }
    }

    #[test]
    fn points_say_what_happens() {
        let watch = Watchpoint { address: 0x100, len: 8, on: Watched::Both };
        let mut debugger = debugger(vec![
            Point { place: Place::Instruction(0x40), then: Then::Hold },
            Point { place: Place::Access(watch), then: Then::GoOn { steps: 2 } },
        ]);
        assert_eq!(debugger.next(0, DebugEvent::Breakpoint, 0x40), Then::Hold);
        assert_eq!(debugger.next(0, DebugEvent::Watchpoint(0x107), 0x40), Then::GoOn { steps: 2 });
        assert_eq!(debugger.next(0, DebugEvent::Breakpoint, 0x44), Then::GoOn { steps: 0 }, "one that was taken away");
        debugger.stepping[1] = Some(Stepping { left: 2, holds: false });
        assert_eq!(debugger.next(1, DebugEvent::Step, 0x44), Then::GoOn { steps: 1 });
        debugger.stepping[1] = Some(Stepping { left: 1, holds: true });
        assert_eq!(debugger.next(1, DebugEvent::Step, 0x44), Then::Hold);
        debugger.stepping[0] = Some(Stepping { left: 5, holds: false });
        let left = |event, steps| debugger.stepping_after(0, event, steps).map(|stepping| stepping.left);
        assert_eq!(left(DebugEvent::Watchpoint(0x100), 2), Some(5), "a point on the way");
        assert_eq!(left(DebugEvent::Breakpoint, 9), Some(9));
        assert_eq!(left(DebugEvent::Step, 4), Some(4));
        assert_eq!(left(DebugEvent::Step, 0), None);
        assert!(debugger.list().contains("watch 0x100, 8 bytes, Both: tells 2"));
    }

    #[test]
    fn what_is_told() {
        let mut view = View { pc: 0x40, pstate: 0x3c5, sp: 7, x: vec![1; 31], instruction: Some(0xd503_201f) };
        assert_eq!(describe(1, DebugEvent::Breakpoint, &view), "vCPU 1 at breakpoint 0x40: d503201f  hint #0x0");
        assert!(registers(&view).contains("\n x28 0x0000000000000001"));
        view.instruction = None;
        assert!(describe(0, DebugEvent::Watchpoint(4), &view).contains("access 0x4, at 0x40: no instruction"));
    }
}
