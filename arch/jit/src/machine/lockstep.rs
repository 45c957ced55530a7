//! Lockstep: each unit of translated code runs beside the interpreter, and the first difference ends the machine with a report.
//!
//! The protocol, unit by unit. The interpreter goes first, as a [rehearsal](cpu::rehearsal): from the registers as they are, over the instructions that the unit covers,
//! with its stores in private copies of the pages. Then the registers are put back and the translated code runs in earnest. At its exit registers and the written pages
//! must be equal. The guest goes on from what the translated code made, so nothing is done twice and nothing has to be undone.
//!
//! - Fragments are not linked and the jump cache stays empty, so every unit comes back. A loop inside a unit is left at its head after [`PASSES`] passes, counted by both.
//! - Instructions with effects that cannot be rehearsed (WFI, TLBI, HVC, timers, the GIC) stand alone in a unit and are not compared: generated code leaves them to
//!   the interpreter or the dispatcher. Those that generated code does itself are all compared.
//! - An access to a device ends the unit before it, in both runs; then it is executed alone, which in generated code is a call of the interpreter.
//! - An exception ends the unit before it is taken: the syndromes must agree. Where generated code takes it itself (SVC), or returns (ERET), the states after that must.
//! - NZCV is compared where an instruction behind reads it; where the unit's code says that it does not read NZCV at its entry, it gets a wrong one.
//! - One vCPU at a time runs a unit ([`Turn`]). A device that writes RAM between the two runs of a unit can make them differ: before a difference is
//!   reported the rehearsal is done again on memory as it is now, and if that agrees the unit counts as raced.

mod report;
#[cfg(test)]
mod tests;

use std::collections::HashMap;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Mutex, PoisonError};

use cpu::mmu::AccessKind;
use cpu::{ArchState, Stop, Syndrome, Trap};
use isa::Insn;
use isa::insn::{PstateField, SysEnc};

use super::JitCpu;
use crate::t1::analysis::InsnInfo;
use crate::thunks::reason;

/// Passes over loop heads inside one unit.
pub const PASSES: u32 = 5;

/// FPSR.UFC.
const UFC: u32 = 1 << 3;

/// How a unit is compared.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Kind {
    /// Not at all.
    Alone,
    /// Against a rehearsal.
    Compared,
}

/// What a comparison has to know about a unit.
#[derive(Clone, Copy, Debug)]
pub struct Shape {
    kind: Kind,
    insns: u32,
    /// Loop heads, a bit an instruction.
    heads: u64,
    /// Instructions that branches inside the unit go to.
    targets: u64,
    /// Instructions that always leave the unit.
    leaves: u64,
    /// NZCV is read at or behind the instruction before it is overwritten.
    live: u64,
    /// Bytes of hot code.
    host_len: u32,
}

/// True if the instruction is a unit of its own in a lockstep run.
#[must_use]
pub fn stands_alone(insn: &Insn) -> bool {
    matches!(insn, Insn::Msr { .. } | Insn::MsrImm { .. } | Insn::Eret) || !can_be_rehearsed(insn)
}

fn is_one_of(enc: SysEnc, list: &[(u32, u32, u32, u32, u32)]) -> bool {
    list.iter().any(|e| SysEnc::new(e.0, e.1, e.2, e.3, e.4) == enc)
}

/// NZCV, FPCR, FPSR, DAIF, SP_EL0.
const PSTATE: [(u32, u32, u32, u32, u32); 5] =
    [(3, 3, 4, 2, 0), (3, 3, 4, 4, 0), (3, 3, 4, 4, 1), (3, 3, 4, 2, 1), (3, 0, 4, 1, 0)];

/// Registers with plain storage whose writes have no effect elsewhere.
fn is_plain(enc: SysEnc) -> bool {
    use cpu::sysreg::{Effect, Via, find};
    let row = find(enc);
    let counts = |name: &str| ["CNT", "ICC", "PM"].iter().any(|p| name.starts_with(p));
    row.is_some_and(|r| matches!(r.via, Via::Slot(_)) && r.effect == Effect::None && !counts(r.name))
}

/// True if the instruction changes registers and RAM only.
fn can_be_rehearsed(insn: &Insn) -> bool {
    match *insn {
        Insn::Hvc { .. }
        | Insn::Smc { .. }
        | Insn::Wfe
        | Insn::Wfi
        | Insn::Wfet { .. }
        | Insn::Wfit { .. }
        | Insn::Sev
        | Insn::Isb
        | Insn::Dsb { .. } => false,
        Insn::Mrs { enc, .. } => {
            // CurrentEL, CTR_EL0, DCZID_EL0.
            is_one_of(enc, &PSTATE)
                || is_one_of(enc, &[(3, 0, 4, 2, 2), (3, 3, 0, 0, 1), (3, 3, 0, 0, 7)])
                || is_plain(enc)
        }
        Insn::Msr { enc, .. } => is_one_of(enc, &PSTATE) || is_plain(enc),
        Insn::MsrImm { field, .. } => matches!(field, PstateField::DaifSet | PstateField::DaifClr),
        // DC ZVA, DC CVAC to CIVAC.
        Insn::Sys { enc, .. } => {
            enc.op0() == 1 && enc.op1() == 3 && enc.crn() == 7 && enc.op2() == 1 && matches!(enc.crm(), 4 | 10..=14)
        }
        Insn::Sysl { .. } => false,
        _ => true,
    }
}

impl Shape {
    /// The shape of a unit of these instructions.
    #[must_use]
    pub fn of(insns: &[Insn], info: &[InsnInfo], host_len: usize) -> Shape {
        let mask = |test: &dyn Fn(usize, &InsnInfo) -> bool| {
            info.iter().take(64).enumerate().fold(0u64, |m, (i, f)| m | u64::from(test(i, f)) << i)
        };
        let leaves = |i: usize| match insns.get(i) {
            Some(Insn::Branch { link, .. }) => *link,
            Some(Insn::BranchReg { .. }) => true,
            _ => false,
        };
        let alone = insns.len() != 1 || insns.iter().all(can_be_rehearsed);
        Shape {
            kind: if alone { Kind::Compared } else { Kind::Alone },
            insns: u32::try_from(insns.len()).unwrap_or(0),
            heads: mask(&|_, f| f.is_loop_head),
            targets: mask(&|_, f| f.is_target),
            leaves: mask(&|i, _| leaves(i)),
            live: mask(&|_, f| f.flags_live_in),
            host_len: u32::try_from(host_len).unwrap_or(0),
        }
    }
}

/// How a run of a unit ended.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum End {
    /// It left the unit.
    Left,
    /// At the loop head with this index, after [`PASSES`] passes.
    Head(u32),
    /// The instruction with this index raises an exception.
    Exception(u32, Syndrome),
    /// The instruction with this index accesses a device.
    Device(u32),
}

/// Vehicles on a single lane: who came first goes first, so that a vCPU that spins cannot keep out the one that it waits for.
#[derive(Debug, Default)]
pub struct Turn {
    next: AtomicU32,
    serving: AtomicU32,
    /// The units of all vCPUs, by the address of their code.
    shapes: Mutex<HashMap<u64, Shape, crate::code::ByPage>>,
}

impl Turn {
    fn wait(&self) {
        let mine = self.next.fetch_add(1, Ordering::SeqCst);
        let mut spins = 0u32;
        while self.serving.load(Ordering::SeqCst) != mine {
            spins += 1;
            if spins < 100 { std::hint::spin_loop() } else { std::thread::yield_now() }
        }
    }

    fn done(&self) {
        self.serving.fetch_add(1, Ordering::SeqCst);
    }

    /// The unit whose code begins at `host`.
    pub fn note(&self, host: u64, shape: Shape) {
        self.shapes.lock().unwrap_or_else(PoisonError::into_inner).insert(host, shape);
    }

    fn shape(&self, host: u64) -> Option<Shape> {
        self.shapes.lock().unwrap_or_else(PoisonError::into_inner).get(&host).copied()
    }
}

/// What the vCPU is doing, for its helpers.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Phase {
    /// Code that is not compared.
    Free,
    /// The earnest run of a compared unit.
    Compared,
    /// One instruction that accesses a device.
    Device,
}

/// The comparison of one vCPU.
#[derive(Debug)]
pub struct Lockstep {
    pub(crate) phase: Phase,
    /// What the earnest run of the current unit did not complete.
    pub(crate) trap: Option<Trap>,
    /// What generated code polls instead of the real request word, so that nothing ends a unit but itself.
    pub(crate) no_request: Box<AtomicU32>,
    start: ArchState,
    reference: ArchState,
}

impl Lockstep {
    /// Nothing compared yet.
    #[must_use]
    pub fn new() -> Lockstep {
        Lockstep {
            phase: Phase::Free,
            trap: None,
            no_request: Box::new(AtomicU32::new(0)),
            start: ArchState::new(),
            reference: ArchState::new(),
        }
    }
}

impl JitCpu {
    /// Interpret from PC to the unit's end.
    fn rehearse(&mut self, shape: &Shape) -> End {
        let start = self.vcpu.arch.pc;
        let mut passes = PASSES;
        let bit = |mask: u64, i: u32| mask >> (i & 63) & 1 != 0;
        loop {
            let pc = self.vcpu.arch.pc;
            let index = u32::try_from(pc.wrapping_sub(start) >> 2).unwrap_or(u32::MAX);
            if bit(shape.heads, index) {
                if passes == 0 {
                    return End::Head(index);
                }
                passes -= 1;
            }
            match self.vcpu.attempt() {
                Err(Trap::Exit) => return End::Device(index),
                Err(Trap::Exception) => return End::Exception(index, self.vcpu.syndrome),
                Ok(()) => {}
            }
            let to = self.vcpu.arch.pc;
            let next = u32::try_from(to.wrapping_sub(start) >> 2).unwrap_or(u32::MAX);
            let inside = to >= start && next < shape.insns && to & 3 == 0;
            let goes_on = to == pc.wrapping_add(4) || bit(shape.targets, next);
            if !inside || !goes_on || bit(shape.leaves, index) {
                return End::Left;
            }
        }
    }

    /// Run the unit at `host` by generated code and compare; answers what the dispatcher has to do next.
    ///
    /// # Errors
    /// The engines disagree: the report.
    pub(crate) fn execute_in_lockstep(&mut self, host: u64) -> Result<u32, Stop> {
        let shape = self.shared.turn.shape(host);
        let Some(shape) = shape.filter(|s| s.kind == Kind::Compared) else {
            self.counters.check_alone += 1;
            return Ok(self.execute_free(host, Phase::Free));
        };
        let shared = self.shared.clone();
        shared.turn.wait();
        let result = self.compare_unit(host, &shape);
        shared.turn.done();
        let (answer, trap) = result?;
        match trap {
            None => Ok(answer),
            // In front of a device: it is next.
            Some(Trap::Exit) => Ok(reason::CHECK),
            Some(trap) => self.vcpu.complete(trap).map_or(Ok(reason::CHECK), Err),
        }
    }

    fn execute_free(&mut self, host: u64, phase: Phase) -> u32 {
        if let Some(rehearsal) = &mut self.vcpu.rehearsal {
            rehearsal.allow_devices();
        }
        self.set_phase(phase);
        self.hot.passes = PASSES;
        let answer = self.execute(host);
        self.set_phase(Phase::Free);
        answer
    }

    fn set_phase(&mut self, phase: Phase) {
        if let Some(lockstep) = &mut self.lockstep {
            lockstep.phase = phase;
        }
    }

    /// The rehearsal of a unit; `again`: on memory as the earnest run found it.
    fn rehearsal(&mut self, shape: &Shape, again: bool) -> End {
        if let Some(rehearsal) = &mut self.vcpu.rehearsal {
            if again { rehearsal.begin_again() } else { rehearsal.begin() }
        }
        let instructions = self.vcpu.counters.instructions;
        let end = self.rehearse(shape);
        if !again {
            self.counters.check_insns += self.vcpu.counters.instructions - instructions;
        }
        self.vcpu.counters.instructions = instructions;
        if let Some(rehearsal) = &mut self.vcpu.rehearsal {
            rehearsal.end();
        }
        end
    }

    fn compare_unit(&mut self, host: u64, shape: &Shape) -> Result<(u32, Option<Trap>), Stop> {
        let Some(mut lockstep) = self.lockstep.take() else { return Ok((self.execute(host), None)) };
        lockstep.start.clone_from(&self.vcpu.arch);
        let end = self.rehearsal(shape, false);
        lockstep.reference.clone_from(&self.vcpu.arch);
        self.vcpu.restore_registers(&lockstep.start);
        let (start, mut reference) = (lockstep.start.clone(), lockstep.reference.clone());
        lockstep.phase = Phase::Compared;
        lockstep.trap = None;
        self.lockstep = Some(lockstep);
        if let End::Device(0) = end {
            self.counters.check_alone += 1;
            return Ok((self.execute_free(host, Phase::Device), None));
        }
        self.counters.check_units += 1;
        if shape.live & 1 == 0 {
            self.vcpu.arch.nzcv ^= 0xf000_0000;
        }
        self.hot.passes = PASSES;
        let mut answer = self.execute(host);
        let mut trap = self.lockstep.as_mut().and_then(|l| l.trap.take());
        if answer == reason::EXIT {
            self.take_exit();
            answer = reason::CHECK;
        }
        if answer == reason::STEP {
            trap = self.vcpu.attempt().err();
            answer = reason::CHECK;
        }
        self.set_phase(Phase::Free);
        if answer == reason::ERET {
            // Left to the dispatcher: nothing was done yet.
            return Ok((answer, None));
        }
        if let (End::Exception(_, syndrome), None) = (end, trap)
            && answer != reason::SVC
        {
            // Generated code has taken the exception itself.
            let found = self.vcpu.arch.clone();
            self.vcpu.restore_registers(&reference);
            reference = self.vcpu.after_exception(syndrome);
            self.vcpu.restore_registers(&found);
        }
        if let Some(how) = self.disagreement(shape, end, trap, answer, &reference) {
            let found = self.vcpu.arch.clone();
            self.vcpu.restore_registers(&start);
            let differences = self.vcpu.rehearsal.as_ref().map_or_else(Vec::new, |r| r.differences());
            let second = self.rehearsal(shape, true);
            let again = self.vcpu.arch.clone();
            self.vcpu.restore_registers(&found);
            if second != end || self.disagreement(shape, second, trap, answer, &again).is_some() {
                let who = self.vcpu.privilege();
                let pa = self.vcpu.translate(start.pc, AccessKind::Execute, who).map_or(0, |t| t.pa & !3);
                let (start, reference) = (&start, &reference);
                let text = report::Report { cpu: self, shape, host, pa, start, reference, how, differences };
                return Err(Stop::Internal(text.to_string()));
            }
            self.counters.check_raced += 1;
        }
        Ok((answer, trap))
    }

    /// In what the run just done differs from its rehearsal.
    fn disagreement(
        &mut self,
        shape: &Shape,
        end: End,
        trap: Option<Trap>,
        answer: u32,
        reference: &ArchState,
    ) -> Option<String> {
        let ends_alike = match (end, trap) {
            (End::Left | End::Head(_), None) => true,
            (End::Exception(_, syndrome), Some(Trap::Exception)) => syndrome == self.vcpu.syndrome,
            (End::Exception(..), None) => true,
            (End::Device(_), Some(Trap::Exit)) => true,
            _ => false,
        };
        if !ends_alike {
            let syndrome = self.vcpu.syndrome;
            return Some(format!("interpreter: {end:x?}; translator: {trap:?} {syndrome:x?}, reason {answer}"));
        }
        let live = match end {
            End::Left => true,
            End::Head(i) | End::Exception(i, _) | End::Device(i) => shape.live >> (i & 63) & 1 != 0,
        };
        let late = reference.fpsr & !self.vcpu.arch.fpsr == UFC && self.vcpu.arch.fpsr & !reference.fpsr == 0;
        self.counters.check_late_tininess += u64::from(late);
        if !report::same_registers(reference, &self.vcpu.arch, live, late) {
            return Some(format!("registers ({end:x?})"));
        }
        let differences = self.vcpu.rehearsal.as_ref().map_or_else(Vec::new, |r| r.differences());
        if differences.iter().any(cpu::rehearsal::MemoryDifference::is_written) {
            return Some("memory".to_owned());
        }
        self.counters.check_strays += differences.len() as u64;
        None
    }

    /// The helper that executes the instruction at PC out of a compared unit.
    pub(crate) fn attempt_in_lockstep(&mut self) -> u32 {
        let next = self.vcpu.arch.pc.wrapping_add(4);
        match self.vcpu.attempt() {
            Ok(()) if self.vcpu.arch.pc == next => 0,
            Ok(()) => reason::CHECK,
            Err(trap) => {
                if let Some(lockstep) = &mut self.lockstep {
                    lockstep.trap = Some(trap);
                }
                reason::CHECK
            }
        }
    }
}
