//! The engine that translates guest code to x86-64 code (crate `jit`).

use std::sync::Arc;

use jit::{JitCpu, JitShared, Options};
use serde_json::{Map, Value, json};

use super::emu::{EmuVm, Runner};
use super::{Engine, Setup, Stop, Vm};
use crate::exit::{Failure, explain};

/// Translates guest code to x86-64 code.
#[derive(Clone, Default, Debug)]
pub struct Translator {
    /// How it works.
    pub options: Options,
}

/// Time under `--check-jit`, which executes a tenth of the instructions in a second, or less.
const CHECKED: f64 = 0.125;
/// Time under `--jit-stress`, which executes a third of the instructions in a second, or less.
const STRESSED: f64 = 0.25;

impl Engine for Translator {
    fn name(&self) -> &'static str {
        "jit"
    }

    fn time_scale(&self) -> f64 {
        match (self.options.check, self.options.stress) {
            (true, _) => CHECKED,
            (false, Some(_)) => STRESSED,
            (false, None) => 1.0,
        }
    }

    fn create(&self, setup: Setup) -> Result<Arc<dyn Vm>, Failure> {
        let translator = JitShared::new(self.options.clone()).map_err(|e| Failure::backend(explain(&e)))?;
        let runners = move |vcpu| {
            let vcpu = JitCpu::new(vcpu, Arc::clone(&translator)).map_err(|e| Failure::backend(explain(&e)))?;
            Ok(Box::new(Translated(vcpu)) as Box<dyn Runner>)
        };
        EmuVm::create(setup, Box::new(runners))
    }
}

struct Translated(jit::HugeBox<JitCpu>);

impl Runner for Translated {
    fn pe(&self) -> &cpu::Vcpu {
        &self.0.vcpu
    }

    fn pe_mut(&mut self) -> &mut cpu::Vcpu {
        &mut self.0.vcpu
    }

    fn run(&mut self) -> Stop {
        self.0.run()
    }

    /// The translator's report has a name and a number in each line.
    fn counters(&self) -> Option<(&'static str, Value)> {
        let report = self.0.counters.report();
        let row = |line: &str| {
            let (name, value) = line.rsplit_once(' ')?;
            Some((name.trim_start_matches("jit.").to_owned(), json!(value.parse::<u64>().ok()?)))
        };
        Some(("jit", Value::Object(report.lines().filter_map(row).collect::<Map<_, _>>())))
    }
}
