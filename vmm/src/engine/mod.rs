//! What executes the guest's instructions: staged as engine, virtual machine, virtual CPU.
//!
//! A [`Vcpu`] is made on the thread that runs it and never leaves it. Device accesses and firmware calls are callbacks
//! ([`Outside`]) inside [`Vcpu::run`]; it returns for real stops only.

pub mod emu;
#[cfg(test)]
pub mod scripted;
mod survey;

use std::sync::Arc;

use cpu::{Clock, CpuConfig, Outside};
use serde_json::Value;

pub use cpu::Stop;
pub use survey::{Survey, choose, survey};

use crate::cli::EngineChoice;
use crate::exit::Failure;
use crate::machine::ram::GuestRam;

/// The engine for `--engine`; `translator`: how the translator is to work, should it be that.
pub fn by_choice(choice: EngineChoice, translator: &jit::Options) -> Result<Box<dyn Engine>, Failure> {
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
        Some(engine) if engine.name == "jit" => Ok(Box::new(emu::Translator { options: translator.clone() })),
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
}

/// A way to execute guests.
pub trait Engine: Send + Sync {
    /// The word for `--engine`.
    fn name(&self) -> &'static str;
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
    /// Guest RAM was rewritten behind the vCPUs' back; none of them runs.
    fn forget_code(&self);
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
    /// For the hang report: PC, registers, last exceptions, timers.
    fn report(&self) -> String;
    /// Counters for `--stats`.
    fn counters(&self) -> Value;
}
