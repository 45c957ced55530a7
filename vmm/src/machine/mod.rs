//! The machine: RAM, board, vCPUs, what stands in RAM at the start, saved state.

pub mod board;
pub mod boot;
pub mod container;
pub mod dirty;
pub mod interrupts;
mod kernel_file;
pub mod layout;
mod made_initrd;
pub mod net;
pub mod psci;
pub mod ram;
pub mod saved;
pub mod stolen_time;
pub mod vcpus;
pub mod virtio;

use std::fmt::Write;
use std::sync::Arc;
use std::time::{Duration, Instant};

use cpu::{Clock, CpuConfig};
use serde_json::{Value, json};

use self::board::{Board, UartInput};
use self::boot::{Boot, BootSource};
use self::psci::Power;
use self::ram::GuestRam;
use self::vcpus::{Seat, StopSink, Vcpus};
use self::virtio::{Transport, VirtioConfig};
use crate::console::SerialLine;
use crate::engine::emu::has_pmu;
use crate::engine::{DebugPoints, Engine, Setup, View, Vm};
use crate::exit::Failure;
use crate::sandbox::Sandbox;
use crate::trace::Tracer;

/// How long a vCPU may take to stop at the next instruction boundary.
const PAUSE_LIMIT: Duration = Duration::from_secs(2);

/// What a machine is made of.
#[derive(Clone, Debug)]
pub struct MachineConfig {
    /// Kernel, initrd, command line.
    pub boot: BootSource,
    /// Number of vCPUs, 1 to [`layout::MAX_VCPUS`].
    pub vcpus: usize,
    /// Bytes of RAM, a multiple of 2 MiB.
    pub memory: u64,
    /// The processor that the guest sees.
    pub cpu: CpuConfig,
    /// The virtio devices.
    pub virtio: VirtioConfig,
    /// vCPU threads may ask the host kernel for little.
    pub sandbox: bool,
}

/// A machine. Made paused; its vCPUs run on threads of their own after [`Machine::resume`].
pub struct Machine {
    config: MachineConfig,
    engine: &'static str,
    // Dropped first: the threads end before what they use.
    vcpus: Vcpus,
    board: Arc<Board>,
    vm: Arc<dyn Vm>,
    clock: Arc<Clock>,
    ram: GuestRam,
    boot: Boot,
    started: Instant,
    resets: u64,
}

fn no_answer() -> Failure {
    Failure::internal("a vCPU does not answer")
}

impl MachineConfig {
    /// Checks the numbers; messages name the options.
    pub fn check(&self) -> Result<(), Failure> {
        if self.vcpus == 0 || self.vcpus > layout::MAX_VCPUS {
            return Err(Failure::usage(format!(
                "--cpus {}: this machine takes 1 to {}",
                self.vcpus,
                layout::MAX_VCPUS
            )));
        }
        let memory = self.memory;
        if !(layout::MIN_RAM..=layout::MAX_RAM).contains(&memory) {
            return Err(Failure::usage(format!(
                "--memory {} MiB: this machine takes {}M to {}G",
                memory >> 20,
                layout::MIN_RAM >> 20,
                layout::MAX_RAM >> 30
            )));
        }
        if !memory.is_multiple_of(2 << 20) {
            return Err(Failure::usage(format!(
                "--memory: {memory} bytes is no multiple of 2 MiB; use {}M",
                (memory >> 21 << 1) + 2
            )));
        }
        self.virtio.check()
    }
}

impl Machine {
    /// Assembles the machine and fills its RAM; it is paused before its first instruction.
    pub fn new(
        config: MachineConfig,
        engine: &dyn Engine,
        line: &SerialLine,
        tracer: Arc<Tracer>,
        stops: &StopSink,
    ) -> Result<Machine, Failure> {
        config.check()?;
        let boot = Boot::open(&config.boot, config.vcpus, has_pmu(&config.cpu), &config.virtio)?;
        let ram = GuestRam::new(config.memory)?;
        let clock = Arc::new(Clock::with(engine.counter_frequency(), engine.time_scale()));
        clock.pause();
        let setup = Setup {
            ram: ram.clone(),
            vcpus: config.vcpus,
            cpu: config.cpu.clone(),
            clock: Arc::clone(&clock),
            trace: tracer.flags(),
            lpis: config.virtio.transport == Transport::Pci,
        };
        let vm = engine.create(setup)?;
        let board = Arc::new(Board::new(&vm, &clock, config.vcpus, &ram, &config.virtio, line, tracer)?);
        // A machine begins paused, its devices too: state may be loaded, and rings come with RAM after their devices.
        board.bus.pause();
        let sandbox = config.sandbox.then(|| Sandbox::new(vm.needs())).transpose()?;
        let vcpus = Vcpus::spawn(&vm, &board, config.vcpus, sandbox.as_ref(), stops)?;
        board.connect(vcpus.senders());
        line.input
            .spawn_feeder(Arc::new(UartInput(Arc::clone(&board.uart))))
            .map_err(|e| Failure::backend(format!("no thread for the console: {e}")))?;
        let mut machine = Machine {
            config,
            engine: engine.name(),
            vcpus,
            board,
            vm,
            clock,
            ram,
            boot,
            started: Instant::now(),
            resets: 0,
        };
        machine.load_and_reset_vcpus()?;
        Ok(machine)
    }

    /// The board.
    pub fn board(&self) -> &Board {
        &self.board
    }

    /// Stops all vCPUs, guest time and devices. The error names vCPUs that do not stop.
    pub fn pause(&self) -> Result<(), Failure> {
        let late = self.vcpus.pause(PAUSE_LIMIT);
        self.clock.pause();
        if let Some(counter) = self.vm.guest_counter() {
            self.clock.set_counter(counter);
        }
        self.board.bus.pause();
        if late.is_empty() {
            Ok(())
        } else {
            Err(Failure::internal(format!("vCPUs {late:?} do not stop: they are busy outside of the guest")))
        }
    }

    /// [`Vcpus::each`] on a machine that may run: it goes on as before.
    fn ask<T: Send + 'static>(&self, visit: impl Fn(usize, &mut Seat) -> T + Send + Sync + 'static) -> Vec<Option<T>> {
        let was_paused = self.is_paused();
        let answers = self.vcpus.each(visit);
        if !was_paused {
            self.vcpus.resume();
        }
        answers
    }

    /// Each vCPU stops at its places from now on, and at no others.
    pub fn set_debug_points(&self, points: Vec<DebugPoints>) -> Result<(), Failure> {
        let points = Arc::new(points);
        let answers = self.ask(move |index, seat| match points.get(index) {
            Some(points) => seat.vcpu.set_debug_points(points),
            None => Ok(()),
        });
        answers.into_iter().try_for_each(|answer| answer.unwrap_or_else(|| Err(no_answer())))
    }

    /// What a debugger shows of a vCPU that has stopped.
    pub fn view(&self, vcpu: usize) -> Result<View, Failure> {
        let mut answers = self.vcpus.each(move |index, seat| (index == vcpu).then(|| seat.vcpu.view()));
        if vcpu >= answers.len() {
            return Err(Failure::usage(format!("there is no vCPU {vcpu}")));
        }
        answers.swap_remove(vcpu).flatten().unwrap_or_else(|| Err(no_answer()))
    }

    /// A vCPU that a debugger stopped goes on when the machine runs.
    pub fn release(&self, vcpu: usize) {
        self.ask(move |index, seat| seat.stopped &= index != vcpu);
    }

    /// Number of vCPUs.
    pub fn vcpus(&self) -> usize {
        self.vcpus.count()
    }

    /// Lets the vCPUs run.
    pub fn resume(&self) {
        self.clock.resume();
        self.vm.resume_time();
        self.board.bus.resume();
        self.vcpus.resume();
    }

    /// True while paused.
    pub fn is_paused(&self) -> bool {
        self.vcpus.is_paused()
    }

    /// Back to the state at the start, with new random seeds. Leaves the machine paused.
    pub fn reset(&mut self) -> Result<(), Failure> {
        self.pause()?;
        self.board.reset();
        self.ram.clear();
        self.resets += 1;
        self.load_and_reset_vcpus()
    }

    fn load_and_reset_vcpus(&mut self) -> Result<(), Failure> {
        let entry = self.boot.load(&self.ram)?;
        self.vm.forget_code();
        self.clock.set_counter(0);
        let serves_psci = self.vm.serves_psci();
        let answers = self.vcpus.each(move |index, seat| {
            seat.vcpu.reset(entry.pc, [entry.x0, 0, 0, 0]);
            seat.on = index == 0 || serves_psci;
            seat.stopped = false;
        });
        if answers.iter().any(Option::is_none) {
            return Err(no_answer());
        }
        Ok(())
    }

    /// Everything that helps to see why a guest hangs. The machine goes on as before.
    pub fn hang_report(&self) -> String {
        let was_paused = self.is_paused();
        let late = if was_paused { Vec::new() } else { self.vcpus.pause(PAUSE_LIMIT) };
        let mut text = String::new();
        let _ = writeln!(
            text,
            "---- hang report: engine {}, {:.1} s since the start",
            self.engine,
            self.started.elapsed().as_secs_f64()
        );
        let reports = self.vcpus.each(|_, seat| (seat.vcpu.is_on().unwrap_or(seat.on), seat.vcpu.report()));
        let power = self.power();
        for (index, report) in reports.into_iter().enumerate() {
            let state = power.get(index).map_or_else(String::new, |power| format!("{power:?}"));
            match report {
                Some((true, report)) => drop(writeln!(text, "vCPU {index} ({state}):\n{}", report.trim_end())),
                Some((false, _)) => drop(writeln!(text, "vCPU {index} ({state})")),
                None => drop(writeln!(text, "vCPU {index} ({state}) does not stop: it is busy outside of the guest")),
            }
        }
        let _ = writeln!(text, "{}", self.board.interrupts.report().trim_end());
        let _ = write!(text, "{}", self.device_report());
        let _ = write!(text, "---- end of the hang report");
        if !was_paused && late.is_empty() {
            self.vcpus.resume();
        }
        text
    }

    /// Which vCPUs PSCI has on: what the kernel says if it serves PSCI.
    fn power(&self) -> Vec<Power> {
        if !self.vm.serves_psci() {
            return self.board.psci.states();
        }
        let state = |on: Option<bool>| if on == Some(false) { Power::Off } else { Power::On };
        self.vcpus.each(|_, seat| seat.vcpu.is_on()).into_iter().map(|on| state(on.flatten())).collect()
    }

    /// The registers of all vCPUs.
    pub fn register_report(&self) -> String {
        let reports = self.ask(|index, seat| {
            if seat.on { format!("vCPU {index}:\n{}", seat.vcpu.report()) } else { format!("vCPU {index}: off") }
        });
        reports
            .into_iter()
            .map(|report| report.unwrap_or_else(|| "a vCPU does not stop".into()))
            .collect::<Vec<_>>()
            .join("\n")
    }

    /// The memory map and how often each device was used.
    pub fn device_report(&self) -> String {
        let mut text = String::new();
        for window in self.board.bus.ranges() {
            let (range, accesses) = (window.range, window.accesses);
            let _ = writeln!(
                text,
                "{:#012x}..{:#012x} {:24} {} reads, {} writes",
                range.start, range.end, window.device, accesses.reads, accesses.writes
            );
        }
        let range = self.ram.range();
        let _ = writeln!(
            text,
            "{:#012x}..{:#012x} RAM, {} MiB of it touched",
            range.start,
            range.end,
            self.ram.resident().unwrap_or(0) >> 20
        );
        let _ = writeln!(text, "accesses to no device: {}", self.board.bus.unmapped_accesses());
        text
    }

    /// Counters of the whole run.
    pub fn stats(&self) -> Value {
        let counters: Vec<Value> =
            self.ask(|_, seat| seat.vcpu.counters()).into_iter().map(Option::unwrap_or_default).collect();
        let devices: serde_json::Map<String, Value> = self
            .board
            .bus
            .ranges()
            .into_iter()
            .map(|w| {
                let mut counters = json!({ "reads": w.accesses.reads, "writes": w.accesses.writes });
                if !w.counters.is_null() {
                    counters["own"] = w.counters;
                }
                (w.device, counters)
            })
            .collect();
        json!({
            "engine": self.engine,
            "kernel": self.boot.describe(),
            "seconds": self.started.elapsed().as_secs_f64(),
            "resets": self.resets,
            "memory_resident": self.ram.resident(),
            "vcpus": counters,
            "devices": devices,
            "unmapped_accesses": self.board.bus.unmapped_accesses(),
        })
    }

    /// One line: running or not, for how long.
    pub fn status(&self) -> String {
        let state = if self.is_paused() { "paused" } else { "running" };
        format!(
            "{state}, engine {}, {} vCPUs, {:.1} s since the start, {} resets",
            self.engine,
            self.config.vcpus,
            self.started.elapsed().as_secs_f64(),
            self.resets
        )
    }
}

#[cfg(test)]
mod tests;
