//! The emulating engines: processing elements of crate `cpu`, run by its interpreter or by another [`Runner`].

use std::sync::Arc;
use std::sync::atomic::Ordering;

use cpu::config::ID_AA64DFR0;
use cpu::{CpuConfig, Outside, VcpuState, VmShared};
use serde_json::Value;

use super::{DebugPoints, Engine, Setup, Stop, Vcpu, View, Vm};
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
        EmuVm::create(setup, Box::new(|vcpu| Ok(vcpu as Box<dyn Runner>)))
    }
}

/// The processor of a `--cpu` name.
pub fn cpu_model(name: &str) -> Result<CpuConfig, Failure> {
    let known = CpuConfig::MODELS.join(", ");
    CpuConfig::by_name(name)
        .ok_or_else(|| Failure::usage(format!("--cpu {name}: there is no such processor; known are {known}")))
}

/// True if the model has performance monitors.
pub fn has_pmu(config: &CpuConfig) -> bool {
    !matches!(config.id_field(ID_AA64DFR0, 8), 0 | 15)
}

/// What all vCPUs of an emulated machine share.
pub(super) struct EmuVm {
    shared: Arc<VmShared>,
    runners: RunnerMaker,
    /// Keeps the memory that `shared.ram` points to.
    ram: GuestRam,
}

impl EmuVm {
    /// A virtual machine whose vCPUs `runners` makes.
    pub(super) fn create(setup: Setup, runners: RunnerMaker) -> Result<Arc<dyn Vm>, Failure> {
        let ram = setup.ram.for_processing_elements()?;
        let shared = VmShared::new(ram, setup.clock, setup.vcpus, setup.cpu);
        shared.trace.store(setup.trace, Ordering::Relaxed);
        shared.start_timer_thread().map_err(|e| Failure::backend(format!("no thread for the timers: {e}")))?;
        Ok(Arc::new(EmuVm { shared, runners, ram: setup.ram }))
    }
}

impl Vm for EmuVm {
    fn create_vcpu(&self, index: usize, outside: Arc<dyn Outside>) -> Result<Box<dyn Vcpu>, Failure> {
        let vcpu = cpu::Vcpu::new(index, Arc::clone(&self.shared), outside);
        Ok(Box::new(EmuVcpu { runner: (self.runners)(vcpu)?, _ram: self.ram.clone() }))
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

/// Who runs a processing element.
pub(super) trait Runner {
    /// The processing element.
    fn pe(&self) -> &cpu::Vcpu;
    /// The same, to change it.
    fn pe_mut(&mut self) -> &mut cpu::Vcpu;
    /// Executes the guest until there is a reason to stop.
    fn run(&mut self) -> Stop;
    /// Its own counters, with the name of the group.
    fn counters(&self) -> Option<(&'static str, Value)> {
        None
    }
}

/// Makes the runner of a processing element.
pub(super) type RunnerMaker = Box<dyn Fn(Box<cpu::Vcpu>) -> Result<Box<dyn Runner>, Failure> + Send + Sync>;

impl Runner for cpu::Vcpu {
    fn pe(&self) -> &cpu::Vcpu {
        self
    }

    fn pe_mut(&mut self) -> &mut cpu::Vcpu {
        self
    }

    fn run(&mut self) -> Stop {
        cpu::Vcpu::run(self)
    }
}

/// A vCPU of an emulated machine.
struct EmuVcpu {
    runner: Box<dyn Runner>,
    /// Keeps the memory that the vCPU points to.
    _ram: GuestRam,
}

impl Vcpu for EmuVcpu {
    fn reset(&mut self, entry: u64, x: [u64; 4]) {
        self.runner.pe_mut().reset(entry, x);
    }

    fn run(&mut self) -> Stop {
        self.runner.run()
    }

    fn save(&self) -> Result<Value, Failure> {
        serde_json::to_value(self.runner.pe().save())
            .map_err(|e| Failure::internal(format!("vCPU state has no JSON form: {e}")))
    }

    fn load(&mut self, state: &Value) -> Result<(), Failure> {
        let state: VcpuState = serde::Deserialize::deserialize(state)
            .map_err(|e| Failure::usage(format!("a saved vCPU is malformed: {e}")))?;
        self.runner.pe_mut().load(&state).map_err(|e| Failure::usage(explain(&e)))
    }

    fn set_debug_points(&mut self, points: &DebugPoints) -> Result<(), Failure> {
        self.runner.pe_mut().set_debug_points(points.clone());
        Ok(())
    }

    fn view(&mut self) -> Result<View, Failure> {
        let pe = self.runner.pe_mut();
        let instruction = pe.instruction_at_pc();
        let arch = &pe.arch;
        Ok(View { pc: arch.pc, pstate: arch.spsr(), sp: arch.sp, x: arch.x[..31].to_vec(), instruction })
    }

    fn report(&self) -> String {
        self.runner.pe().report()
    }

    fn counters(&self) -> Value {
        let mut counters = self.runner.pe().counters();
        if let (Some((name, own)), Some(fields)) = (self.runner.counters(), counters.as_object_mut()) {
            fields.insert(name.into(), own);
        }
        counters
    }
}
