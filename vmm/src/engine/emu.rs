//! The emulating engines: processing elements of crate `cpu`, run by its interpreter or by the translator of crate `jit`.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use cpu::config::ID_AA64DFR0;
use cpu::{CpuConfig, Outside, VcpuState, VmShared};
use jit::{JitCpu, JitShared, Options};
use serde_json::{Map, Value, json};

use super::{Engine, Setup, Stop, Vcpu, Vm};
use crate::exit::{Failure, explain};
use crate::machine::ram::GuestRam;

/// Executes every instruction by its meaning.
#[derive(Debug)]
pub struct Interpreter;

/// Translates guest code to x86-64 code.
#[derive(Clone, Default, Debug)]
pub struct Translator {
    /// How it works.
    pub options: Options,
}

impl Engine for Interpreter {
    fn name(&self) -> &'static str {
        "interp"
    }

    fn create(&self, setup: Setup) -> Result<Arc<dyn Vm>, Failure> {
        EmuVm::create(setup, None)
    }
}

impl Engine for Translator {
    fn name(&self) -> &'static str {
        "jit"
    }

    fn create(&self, setup: Setup) -> Result<Arc<dyn Vm>, Failure> {
        let translator = JitShared::new(self.options.clone()).map_err(|e| Failure::backend(explain(&e)))?;
        EmuVm::create(setup, Some(translator))
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
struct EmuVm {
    shared: Arc<VmShared>,
    /// Set if the vCPUs run by generated code.
    translator: Option<Arc<JitShared>>,
    /// Keeps the memory that `shared.ram` points to.
    ram: GuestRam,
}

impl EmuVm {
    fn create(setup: Setup, translator: Option<Arc<JitShared>>) -> Result<Arc<dyn Vm>, Failure> {
        let ram = setup.ram.for_processing_elements()?;
        let shared = VmShared::new(ram, setup.clock, setup.vcpus, setup.cpu);
        shared.trace.store(setup.trace, Ordering::Relaxed);
        shared.start_timer_thread().map_err(|e| Failure::backend(format!("no thread for the timers: {e}")))?;
        Ok(Arc::new(EmuVm { shared, translator, ram: setup.ram }))
    }
}

impl Vm for EmuVm {
    fn create_vcpu(&self, index: usize, outside: Arc<dyn Outside>) -> Result<Box<dyn Vcpu>, Failure> {
        let vcpu = cpu::Vcpu::new(index, Arc::clone(&self.shared), outside);
        let runner = match &self.translator {
            None => Runner::Interpreter(vcpu),
            Some(translator) => {
                let vcpu = JitCpu::new(vcpu, Arc::clone(translator)).map_err(|e| Failure::backend(explain(&e)))?;
                Runner::Translator(vcpu)
            }
        };
        Ok(Box::new(EmuVcpu { runner, _ram: self.ram.clone() }))
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
enum Runner {
    Interpreter(Box<cpu::Vcpu>),
    Translator(Box<JitCpu>),
}

impl Runner {
    fn pe(&self) -> &cpu::Vcpu {
        match self {
            Runner::Interpreter(vcpu) => vcpu,
            Runner::Translator(jit) => &jit.vcpu,
        }
    }

    fn pe_mut(&mut self) -> &mut cpu::Vcpu {
        match self {
            Runner::Interpreter(vcpu) => vcpu,
            Runner::Translator(jit) => &mut jit.vcpu,
        }
    }
}

/// A vCPU of an emulated machine.
struct EmuVcpu {
    runner: Runner,
    /// Keeps the memory that the vCPU points to.
    _ram: GuestRam,
}

impl Vcpu for EmuVcpu {
    fn reset(&mut self, entry: u64, x: [u64; 4]) {
        self.runner.pe_mut().reset(entry, x);
    }

    fn run(&mut self) -> Stop {
        match &mut self.runner {
            Runner::Interpreter(vcpu) => vcpu.run(),
            Runner::Translator(jit) => jit.run(),
        }
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

    fn report(&self) -> String {
        self.runner.pe().report()
    }

    fn counters(&self) -> Value {
        let mut counters = self.runner.pe().counters();
        if let (Runner::Translator(jit), Some(fields)) = (&self.runner, counters.as_object_mut()) {
            fields.insert("jit".into(), translator_counters(jit));
        }
        counters
    }
}

/// The translator's counters: its report has a name and a number in each line.
fn translator_counters(jit: &JitCpu) -> Value {
    let report = jit.counters.report();
    let row = |line: &str| {
        let (name, value) = line.rsplit_once(' ')?;
        Some((name.trim_start_matches("jit.").to_owned(), json!(value.parse::<u64>().ok()?)))
    };
    Value::Object(report.lines().filter_map(row).collect::<Map<_, _>>())
}
