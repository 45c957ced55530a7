//! Device accesses that the hardware does not describe (ESR_EL2.ISV = 0): pairs, post-index, SIMD&FP, atomics.
//!
//! The kernel hands them over (KVM_CAP_ARM_NISV_TO_USER) with the address only. The instruction is executed by crate
//! `cpu`: its registers are loaded into an emulated processing element, which finds the instruction by the guest's own
//! translation tables, executes it with the same devices, and gives the registers back.

use std::sync::Arc;

use cpu::{Outside, VcpuState};

use super::host::KvmVm;
use super::state::Registers;

/// Exception classes of Instruction Aborts: the instruction could not be fetched.
const INSTRUCTION_ABORTS: [u64; 2] = [0x20, 0x21];
/// Exception class of an instruction that the emulated processing element does not have.
const UNKNOWN: u64 = 0;

/// The emulated processing element of one vCPU.
pub(super) struct Assistant {
    pe: Box<cpu::Vcpu>,
}

impl Assistant {
    /// Makes it; `midr` is the host's.
    pub(super) fn new(index: usize, vm: &KvmVm, midr: u64, outside: Arc<dyn Outside>) -> Result<Assistant, String> {
        let mut config = cpu::CpuConfig::max();
        config.midr = midr;
        let shared = vm.helper(config).map_err(|e| e.message)?;
        Ok(Assistant { pe: cpu::Vcpu::new(index, shared, outside) })
    }

    /// The instruction at the vCPU's PC by the guest's own tables, for messages; nothing if there is none in RAM.
    pub(super) fn instruction(&mut self, state: &VcpuState) -> String {
        self.fetch(state).map_or_else(String::new, |word| format!(" ({word:08x}: {})", isa::disasm(word, state.pc)))
    }

    /// The word at the vCPU's PC by the guest's own tables.
    pub(super) fn fetch(&mut self, state: &VcpuState) -> Option<u32> {
        self.pe.load(state).ok()?;
        self.pe.instruction_at_pc()
    }

    /// Executes the instruction at the vCPU's PC, which accessed `address`.
    pub(super) fn execute(&mut self, registers: &Registers<'_>, cntfrq: u64, address: u64) -> Result<(), String> {
        let before = registers.read(cntfrq)?;
        self.attempt(registers, &before).map_err(|why| {
            let instruction = self.instruction(&before);
            let pc = before.pc;
            format!(
                "the guest accesses {address:#x}, which is no RAM, by the instruction at {pc:#x}{instruction}, which cannot be executed here: {why}"
            )
        })
    }

    fn attempt(&mut self, registers: &Registers<'_>, before: &VcpuState) -> Result<(), String> {
        let pe = &mut self.pe;
        pe.load(before).map_err(|e| crate::exit::explain(&e))?;
        let exceptions = pe.ring.count();
        let stop = pe.step();
        if let Some(stop) = stop {
            return Err(format!("it stops with {stop:?}"));
        }
        let executed = pe.save();
        if pe.ring.count() == exceptions {
            return registers.write(&completed(before, executed), Some(before));
        }
        let class = pe.arch.sys(cpu::sysreg::Slot::ESR_EL1) >> 26 & 0x3f;
        if INSTRUCTION_ABORTS.contains(&class) || class == UNKNOWN {
            return Err("it cannot be fetched or decoded".into());
        }
        registers.write(&excepted(before, executed), Some(before))
    }
}

/// What a memory access changes. All else stays: the host's processor may have bits that the emulated one has not.
fn completed(before: &VcpuState, executed: VcpuState) -> VcpuState {
    VcpuState { x: executed.x, v: executed.v, sp: executed.sp, pc: executed.pc, ..before.clone() }
}

/// What an exception to EL1 changes.
fn excepted(before: &VcpuState, executed: VcpuState) -> VcpuState {
    let mut after = VcpuState { pstate: executed.pstate, pc: executed.pc, ..before.clone() };
    for name in ["ELR_EL1", "SPSR_EL1", "ESR_EL1", "FAR_EL1"] {
        if let Some(value) = executed.sys.get(name) {
            after.sys.insert(name.to_owned(), *value);
        }
    }
    after
}
