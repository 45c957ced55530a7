//! What executes the guest's instructions: staged as engine, virtual machine, virtual CPU.
//!
//! A [`Vcpu`] is made on the thread that runs it and never leaves it. Device accesses and firmware calls are callbacks
//! ([`Outside`]) inside [`Vcpu::run`]; it returns for real stops only.

pub mod emu;
#[cfg(any(target_arch = "aarch64", test))] // the host kernel runs guests of its own architecture only
pub mod kvm;
#[cfg(test)]
pub mod scripted;
mod survey;
#[cfg(target_arch = "x86_64")] // it makes x86-64 code
pub mod translator;

use std::sync::Arc;

use cpu::{Clock, CpuConfig, Outside};
use serde_json::Value;

pub use cpu::{DebugEvent, DebugPoints, Stop, Watched, Watchpoint};
pub use survey::{Survey, choose, survey};

use crate::cli::EngineChoice;
use crate::cli::translator::TranslatorArgs;
use crate::exit::Failure;
use crate::machine::dirty::DirtyLog;
use crate::machine::interrupts::InterruptController;
use crate::machine::ram::GuestRam;
use crate::machine::stolen_time::Records;
use crate::sandbox;

/// The engine for `--engine`; `translator`: how the translator is to work, should it be that.
pub fn by_choice(choice: EngineChoice, translator: &TranslatorArgs) -> Result<Box<dyn Engine>, Failure> {
    #[cfg(not(target_arch = "x86_64"))] // it makes x86-64 code
    let _ = translator;
    let engines = survey();
    let wanted = match choice {
        EngineChoice::Auto => choose(&engines),
        other => engines.iter().find(|engine| engine.name == other.word()),
    };
    match wanted {
        Some(engine) if !engine.usable => Err(Failure::backend(format!(
            "--engine {} does not work here: {}; use --engine auto",
            engine.name, engine.why
        ))),
        Some(engine) if engine.name == "interp" => Ok(Box::new(emu::Interpreter)),
        #[cfg(target_arch = "x86_64")] // as above
        Some(engine) if engine.name == "jit" => Ok(Box::new(translator::Translator { options: translator.options() })),
        #[cfg(target_arch = "aarch64")] // as above
        Some(engine) if engine.name == "kvm" => Ok(Box::new(kvm::Kvm::open()?)),
        _ => Err(Failure::backend("no engine works on this host; `vmm doctor` says why")),
    }
}

/// What an engine needs to make a virtual machine.
#[derive(Clone)]
pub struct Setup {
    /// Guest RAM.
    pub ram: GuestRam,
    /// Number of vCPUs.
    pub vcpus: usize,
    /// The processor that the guest sees.
    pub cpu: CpuConfig,
    /// Guest time.
    pub clock: Arc<Clock>,
    /// Event flags (`cpu::outside::trace`).
    pub trace: u32,
    /// The interrupt controller has LPIs and an ITS.
    pub lpis: bool,
}

/// A way to execute guests.
pub trait Engine: Send + Sync {
    /// The word for `--engine`.
    fn name(&self) -> &'static str;
    /// CNTFRQ_EL0 of its guests, Hz.
    fn counter_frequency(&self) -> u64 {
        cpu::clock::DEFAULT_FREQUENCY
    }
    /// How fast the guests' time runs beside the host's. An engine that is slower on purpose slows time too: its guests would
    /// else do nothing but take timer interrupts.
    fn time_scale(&self) -> f64 {
        1.0
    }
    /// The processor of a `--cpu` name.
    fn cpu(&self, name: &str) -> Result<CpuConfig, Failure> {
        emu::cpu_model(name)
    }
    /// Makes a virtual machine without vCPUs.
    fn create(&self, setup: Setup) -> Result<Arc<dyn Vm>, Failure>;
}

/// What all vCPUs of a machine share; every method may be called from any thread.
pub trait Vm: Send + Sync {
    /// Makes vCPU `index`, to be used on the calling thread only.
    fn create_vcpu(&self, index: usize, outside: Arc<dyn Outside>) -> Result<Box<dyn Vcpu>, Failure>;
    /// The best pending interrupt (priority, INTID) of a group for a vCPU.
    fn publish_irq(&self, vcpu: usize, group: usize, best: Option<(u8, u32)>);
    /// Makes a running vCPU return [`Stop::Paused`] soon.
    fn request_pause(&self, vcpu: usize);
    /// How often each vCPU returned to EL0.
    fn returns_to_el0(&self) -> Vec<u64>;
    /// The engine's own interrupt controller, if it has one: `publish_irq` is then not used.
    fn interrupt_controller(&self) -> Option<Arc<dyn InterruptController>> {
        None
    }
    /// What its vCPU threads ask of the host kernel beyond what all vCPU threads do.
    fn needs(&self) -> sandbox::Needs {
        sandbox::Needs::default()
    }
    /// PSCI calls are served by the engine: all vCPUs run, also those that PSCI has off.
    fn serves_psci(&self) -> bool {
        false
    }
    /// The system counter that the guest sees, if the engine does not take it from the clock. No vCPU runs.
    fn guest_counter(&self) -> Option<u64> {
        None
    }
    /// The clock, which stood still or was set, goes on: the guest's counter follows it. No vCPU runs.
    fn resume_time(&self) {}
    /// Devices and guest RAM of a saved machine are in place: what the engine keeps in RAM is read. No vCPU runs.
    fn adopt_ram(&self) -> Result<(), Failure> {
        Ok(())
    }
    /// Records of stolen time that the engine counts in, if it does.
    fn stolen_time(&self) -> Option<Arc<dyn Records>> {
        None
    }
    /// The log of the guest's writes to RAM, if the engine has one.
    fn dirty_log(&self) -> Option<Arc<dyn DirtyLog>> {
        None
    }
    /// Guest RAM was rewritten behind the vCPUs' back; none of them runs.
    fn forget_code(&self);
}

/// What a debugger shows of a vCPU that stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct View {
    /// PC.
    pub pc: u64,
    /// PSTATE in the form of SPSR_EL1.
    pub pstate: u64,
    /// SP as PSTATE selects it.
    pub sp: u64,
    /// X0 to X30.
    pub x: Vec<u64>,
    /// The word at PC by the guest's own translation, if there is one in RAM.
    pub instruction: Option<u32>,
}

/// One virtual CPU.
pub trait Vcpu {
    /// To the state at power-on, about to execute `entry` with `x` in X0 to X3.
    fn reset(&mut self, entry: u64, x: [u64; 4]);
    /// Executes the guest until there is a reason to stop.
    fn run(&mut self) -> Stop;
    /// The whole state as self-describing data.
    fn save(&self) -> Result<Value, Failure>;
    /// Takes over a saved state.
    fn load(&mut self, state: &Value) -> Result<(), Failure>;
    /// On or off in the sense of PSCI, if the engine serves it.
    fn is_on(&self) -> Option<bool> {
        None
    }
    /// Turns it on or off, if the engine serves PSCI.
    fn set_on(&mut self, on: bool) -> Result<(), Failure> {
        let _ = on;
        Ok(())
    }
    /// From now on [`Vcpu::run`] stops at these places ([`Stop::Debug`]); with the next run it executes the instruction that it
    /// stopped at.
    ///
    /// # Errors
    /// The engine has not as many, or not such ones.
    fn set_debug_points(&mut self, points: &DebugPoints) -> Result<(), Failure>;
    /// What a debugger shows of it.
    fn view(&mut self) -> Result<View, Failure>;
    /// For the hang report: PC, registers, last exceptions, timers.
    fn report(&self) -> String;
    /// Counters for `--stats`.
    fn counters(&self) -> Value;
}
