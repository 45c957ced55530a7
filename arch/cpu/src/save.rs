//! Saved state of one PE: self-describing, versioned, plain numbers by the Arm ARM's names, the same for both engines.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::gic::CpuInterface;
use crate::state::{ExclusiveMonitor, pstate};
use crate::sysreg::{ROWS, Rw, SLOT_COUNT, Slot, Via};
use crate::vcpu::Vcpu;

/// Version of [`VcpuState`].
pub const STATE_VERSION: u32 = 1;

/// One PE, between two instructions.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct VcpuState {
    /// [`STATE_VERSION`].
    pub version: u32,
    /// MIDR_EL1 of the machine that saved: checked.
    pub midr: u64,
    /// CNTFRQ_EL0: checked.
    pub cntfrq: u64,
    /// X0 to X30.
    pub x: Vec<u64>,
    /// SP_EL0 and SP_EL1.
    pub sp: [u64; 2],
    /// PC.
    pub pc: u64,
    /// PSTATE in SPSR format.
    pub pstate: u64,
    /// V0 to V31, each (low, high).
    pub v: Vec<[u64; 2]>,
    /// FPCR, FPSR.
    pub fp: [u64; 2],
    /// The event register.
    pub event: bool,
    /// System registers with plain storage, by name.
    pub sys: BTreeMap<String, u64>,
    /// GIC CPU interface.
    pub gic: CpuInterface,
    /// A pending SError.
    pub serror: bool,
}

/// Why a saved state cannot be loaded.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum StateError {
    /// Another format.
    #[error("saved vCPU state has version {found}; this program reads version {STATE_VERSION}")]
    Version {
        /// What was found.
        found: u32,
    },
    /// Another machine.
    #[error(
        "saved vCPU state is of a machine with {what} {found:#x}, this one has {expected:#x}: start it with the same --cpu"
    )]
    Machine {
        /// Register.
        what: &'static str,
        /// Saved value.
        found: u64,
        /// Value here.
        expected: u64,
    },
    /// A register is missing, unknown or out of range.
    #[error("saved vCPU state: {0}")]
    Register(String),
}

impl Vcpu {
    /// All state. Call between instructions (not inside `run`).
    pub fn save(&self) -> VcpuState {
        let a = &self.arch;
        let mut sys: BTreeMap<String, u64> =
            (0..SLOT_COUNT).filter_map(|i| Some((Slot::name(i)?.to_string(), *a.sys.get(i)?))).collect();
        // The stored count lags behind while the counter runs.
        sys.insert("PMCCNTR_EL0".into(), self.pmu_cycles());
        VcpuState {
            version: STATE_VERSION,
            midr: self.vm.config.midr,
            cntfrq: self.vm.clock.frequency(),
            x: a.x.to_vec(),
            sp: [a.sp_of(0), a.sp_of(1)],
            pc: a.pc,
            pstate: a.spsr(),
            v: a.v.iter().map(|v| [*v as u64, (*v >> 64) as u64]).collect(),
            fp: [u64::from(a.fpcr), u64::from(a.fpsr)],
            event: a.event != 0,
            sys,
            gic: self.gic.clone(),
            serror: self.shared.serror_pending(),
        }
    }

    /// Loads what `save` gave. On error nothing has changed.
    ///
    /// # Errors
    /// Another version, another machine, or registers that are missing or impossible.
    pub fn load(&mut self, s: &VcpuState) -> Result<(), StateError> {
        if s.version != STATE_VERSION {
            return Err(StateError::Version { found: s.version });
        }
        for (what, found, expected) in
            [("MIDR_EL1", s.midr, self.vm.config.midr), ("CNTFRQ_EL0", s.cntfrq, self.vm.clock.frequency())]
        {
            if found != expected {
                return Err(StateError::Machine { what, found, expected });
            }
        }
        if s.x.len() != 31 || s.v.len() != 32 {
            return Err(StateError::Register(format!(
                "{} X and {} V registers instead of 31 and 32",
                s.x.len(),
                s.v.len()
            )));
        }
        if !crate::ArchState::spsr_is_legal(s.pstate) {
            return Err(StateError::Register(format!("PSTATE {:#x} is not EL0t, EL1t or EL1h", s.pstate)));
        }
        let mut sys = [0u64; SLOT_COUNT];
        for (i, slot) in sys.iter_mut().enumerate() {
            let name = Slot::name(i).unwrap_or_default();
            *slot = *s.sys.get(name).ok_or_else(|| StateError::Register(format!("{name} is missing")))?;
        }
        if let Some(unknown) = s.sys.keys().find(|k| !(0..SLOT_COUNT).any(|i| Slot::name(i) == Some(k.as_str()))) {
            return Err(StateError::Register(format!("{unknown} is unknown here: saved by a newer version?")));
        }
        // Bits that do not exist here cannot come in by a file.
        for row in ROWS {
            if let Via::Slot(slot) = row.via
                && row.rw == Rw::Rw
            {
                sys[slot as usize] = sys[slot as usize] & row.mask | row.res1;
            }
        }
        let a = &mut self.arch;
        a.sys = sys;
        a.x.copy_from_slice(&s.x);
        a.el = (s.pstate >> 2 & 1) as u8;
        a.spsel = (s.pstate & 1) as u8;
        a.sp_el = s.sp;
        a.sp = s.sp[a.sp_bank()];
        a.pc = s.pc;
        a.set_pstate_flags(s.pstate);
        a.il = u8::from(s.pstate & pstate::IL != 0);
        a.ss = u8::from(s.pstate & pstate::SS != 0);
        for (v, s) in a.v.iter_mut().zip(&s.v) {
            *v = u128::from(s[0]) | u128::from(s[1]) << 64;
        }
        a.fpcr = s.fp[0] as u32 & crate::sysreg::FPCR_MASK as u32;
        a.fpsr = s.fp[1] as u32 & crate::sysreg::FPSR_MASK as u32;
        a.event = u8::from(s.event);
        a.exclusive = ExclusiveMonitor::default();
        self.gic = s.gic.sanitized();
        self.pmu_base = 0;
        self.exit = None;
        self.shared.set_serror_pending(s.serror);
        self.after_load();
        Ok(())
    }
}
