//! An engine for tests of the machine: each vCPU "executes" a Rust function.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use cpu::{Conduit, Outside, SmcccOutcome};
use serde_json::{Value, json};

use super::{DebugPoints, Engine, Setup, Stop, Vcpu, View, Vm};
use crate::exit::Failure;
use crate::machine::ram::GuestRam;

/// What a vCPU executes, from its current PC until it stops.
pub type Script = dyn Fn(&Guest<'_>) -> Stop + Send + Sync;

/// The engine: all vCPUs execute the same script.
pub struct Scripted(pub Arc<Script>);

/// What a script sees.
pub struct Guest<'a> {
    /// Which vCPU.
    pub index: usize,
    /// Where it starts.
    pub pc: u64,
    /// X0 there.
    pub x0: u64,
    /// Guest RAM.
    pub ram: &'a GuestRam,
    outside: &'a dyn Outside,
    vm: &'a ScriptedVm,
}

impl Guest<'_> {
    /// HVC #0.
    pub fn call(&self, args: [u64; 4]) -> (u64, SmcccOutcome) {
        let mut regs = [0; 18];
        regs[..4].copy_from_slice(&args);
        let outcome = self.outside.smccc(self.index, Conduit::Hvc, 0, &mut regs);
        (regs[0], outcome)
    }

    /// Prints on the serial port.
    pub fn print(&self, text: &str) {
        for byte in text.bytes() {
            self.outside.mmio_write(self.index, crate::machine::layout::UART, 4, u64::from(byte)).unwrap();
        }
    }

    /// User code runs for a while.
    pub fn run_user_code(&self) {
        self.vm.returns[self.index].fetch_add(1, Ordering::SeqCst);
    }

    /// Idles until a pause is asked for.
    pub fn idle(&self) -> Stop {
        while !self.vm.pauses[self.index].swap(false, Ordering::SeqCst) {
            std::thread::sleep(Duration::from_millis(1));
        }
        Stop::Paused
    }
}

struct ScriptedVm {
    script: Arc<Script>,
    ram: GuestRam,
    pauses: Vec<AtomicBool>,
    returns: Vec<AtomicU64>,
}

impl Engine for Scripted {
    fn name(&self) -> &'static str {
        "scripted"
    }

    fn create(&self, setup: Setup) -> Result<Arc<dyn Vm>, Failure> {
        Ok(Arc::new(Handle(Arc::new(ScriptedVm {
            script: Arc::clone(&self.0),
            ram: setup.ram,
            pauses: (0..setup.vcpus).map(|_| AtomicBool::new(false)).collect(),
            returns: (0..setup.vcpus).map(|_| AtomicU64::new(0)).collect(),
        }))))
    }
}

struct Handle(Arc<ScriptedVm>);

impl Vm for Handle {
    fn create_vcpu(&self, index: usize, outside: Arc<dyn Outside>) -> Result<Box<dyn Vcpu>, Failure> {
        Ok(Box::new(ScriptedVcpu { index, pc: 0, x0: 0, vm: Arc::clone(&self.0), outside }))
    }
    fn publish_irq(&self, _: usize, _: usize, _: Option<(u8, u32)>) {}
    fn request_pause(&self, vcpu: usize) {
        self.0.pauses[vcpu].store(true, Ordering::SeqCst);
    }
    fn returns_to_el0(&self) -> Vec<u64> {
        self.0.returns.iter().map(|count| count.load(Ordering::SeqCst)).collect()
    }
    fn forget_code(&self) {}
}

struct ScriptedVcpu {
    index: usize,
    pc: u64,
    x0: u64,
    vm: Arc<ScriptedVm>,
    outside: Arc<dyn Outside>,
}

impl Vcpu for ScriptedVcpu {
    fn reset(&mut self, entry: u64, x: [u64; 4]) {
        (self.pc, self.x0) = (entry, x[0]);
    }
    fn run(&mut self) -> Stop {
        let guest = Guest {
            index: self.index,
            pc: self.pc,
            x0: self.x0,
            ram: &self.vm.ram,
            outside: &*self.outside,
            vm: &self.vm,
        };
        (self.vm.script)(&guest)
    }
    fn save(&self) -> Result<Value, Failure> {
        Ok(json!({ "pc": self.pc, "x0": self.x0 }))
    }
    fn load(&mut self, state: &Value) -> Result<(), Failure> {
        let field =
            |name: &str| state.get(name).and_then(Value::as_u64).ok_or_else(|| Failure::usage(format!("no {name}")));
        (self.pc, self.x0) = (field("pc")?, field("x0")?);
        Ok(())
    }
    fn set_debug_points(&mut self, _: &DebugPoints) -> Result<(), Failure> {
        Ok(())
    }
    fn view(&mut self) -> Result<View, Failure> {
        Ok(View { pc: self.pc, pstate: 0, sp: 0, x: vec![self.x0; 31], instruction: None })
    }
    fn report(&self) -> String {
        format!("PC {:#x}", self.pc)
    }
    fn counters(&self) -> Value {
        Value::Null
    }
}
