//! The emulating engine: processing elements of crate `cpu`, run by its interpreter.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use cpu::config::ID_AA64DFR0;
use cpu::{CpuConfig, Outside, VcpuState, VmShared};
use serde_json::Value;

use super::{Engine, Setup, Stop, Vcpu, Vm};
use crate::exit::{Failure, explain};
use crate::machine::ram::GuestRam;

/// Executes every instruction by its meaning.
#[derive(Debug)]
pub struct Interpreter;

impl Engine for Interpreter {
    fn name(&self) -> &'static str {
        "interp"
    }

    fn create(&self, setup: Setup) -> Result<Arc<dyn Vm>, Failure> {
        EmuVm::create(setup)
    }
}

/// The processor of a `--cpu` name.
pub fn cpu_model(name: &str) -> Result<CpuConfig, Failure> {
    CpuConfig::by_name(name).ok_or_else(|| {
        Failure::usage(format!("--cpu {name}: there is no such processor; known are {}", CpuConfig::MODELS.join(", ")))
    })
}

/// True if the model has performance monitors.
pub fn has_pmu(config: &CpuConfig) -> bool {
    !matches!(config.id_field(ID_AA64DFR0, 8), 0 | 15)
}

/// What all vCPUs of an emulated machine share.
struct EmuVm {
    shared: Arc<VmShared>,
    /// Keeps the memory that `shared.ram` points to.
    ram: GuestRam,
}

impl EmuVm {
    fn create(setup: Setup) -> Result<Arc<dyn Vm>, Failure> {
        let ram = setup.ram.for_processing_elements()?;
        let shared = VmShared::new(ram, setup.clock, setup.vcpus, setup.cpu);
        shared.trace.store(setup.trace, Ordering::Relaxed);
        shared.start_timer_thread().map_err(|e| Failure::backend(format!("no thread for the timers: {e}")))?;
        Ok(Arc::new(EmuVm { shared, ram: setup.ram }))
    }
}

impl Vm for EmuVm {
    fn create_vcpu(&self, index: usize, outside: Arc<dyn Outside>) -> Result<Box<dyn Vcpu>, Failure> {
        let vcpu = cpu::Vcpu::new(index, Arc::clone(&self.shared), outside);
        Ok(Box::new(EmuVcpu { vcpu, _ram: self.ram.clone() }))
    }

    fn publish_irq(&self, vcpu: usize, group: usize, best: Option<(u8, u32)>) {
        if let Some(vcpu) = self.shared.vcpus.get(vcpu) {
            vcpu.publish_irq(group, best);
        }
    }

    fn request_pause(&self, vcpu: usize) {
        if let Some(vcpu) = self.shared.vcpus.get(vcpu) {
            vcpu.request_pause();
        }
    }

    fn returns_to_el0(&self) -> Vec<u64> {
        self.shared.vcpus.iter().map(|vcpu| vcpu.eret_el0.load(Ordering::SeqCst)).collect()
    }

    fn forget_code(&self) {
        self.shared.code.invalidate_all();
    }
}

/// A vCPU that the interpreter runs.
struct EmuVcpu {
    vcpu: Box<cpu::Vcpu>,
    /// Keeps the memory that the vCPU points to.
    _ram: GuestRam,
}

impl Vcpu for EmuVcpu {
    fn reset(&mut self, entry: u64, x: [u64; 4]) {
        self.vcpu.reset(entry, x);
    }

    fn run(&mut self) -> Stop {
        Stop::Internal("this build has no interpreter yet".into())
    }

    fn save(&self) -> Result<Value, Failure> {
        serde_json::to_value(self.vcpu.save())
            .map_err(|e| Failure::internal(format!("vCPU state has no JSON form: {e}")))
    }

    fn load(&mut self, state: &Value) -> Result<(), Failure> {
        let state: VcpuState = serde::Deserialize::deserialize(state)
            .map_err(|e| Failure::usage(format!("a saved vCPU is malformed: {e}")))?;
        self.vcpu.load(&state).map_err(|e| Failure::usage(explain(&e)))
    }

    fn report(&self) -> String {
        self.vcpu.report()
    }

    fn counters(&self) -> Value {
        self.vcpu.counters()
    }
}
