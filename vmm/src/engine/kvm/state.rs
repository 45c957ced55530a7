//! A vCPU's registers in the kernel, in the form in which the emulated engines save theirs.

use std::collections::BTreeMap;

use cpu::{STATE_VERSION, VcpuState};
use kvm_bindings::{KVM_MP_STATE_RUNNABLE, KVM_MP_STATE_STOPPED, RegList, kvm_mp_state};
use kvm_ioctls::VcpuFd;

use super::registers::{self, Saved};

/// Most registers that kvm-bindings has room for; kernels list about 250 without SVE.
pub(super) const MAX_REGISTERS: usize = 500;

/// The registers of one vCPU. All calls are from its own thread.
pub(super) struct Registers<'a>(pub(super) &'a VcpuFd);

fn failed(register: &str, error: &kvm_ioctls::Error) -> String {
    format!("the kernel does not give or take {register}: {error}")
}

/// True for "there is no such register".
fn is_unknown(error: &kvm_ioctls::Error) -> bool {
    matches!(error.errno(), libc::ENOENT | libc::EINVAL)
}

impl Registers<'_> {
    /// A 64-bit register.
    pub(super) fn get(&self, id: u64) -> Result<u64, kvm_ioctls::Error> {
        let mut bytes = [0u8; 8];
        self.0.get_one_reg(id, &mut bytes)?;
        Ok(u64::from_le_bytes(bytes))
    }

    /// Sets a 64-bit register.
    pub(super) fn set(&self, id: u64, value: u64) -> Result<(), kvm_ioctls::Error> {
        self.0.set_one_reg(id, &value.to_le_bytes()).map(drop)
    }

    fn get_32(&self, id: u64) -> Result<u64, kvm_ioctls::Error> {
        let mut bytes = [0u8; 4];
        self.0.get_one_reg(id, &mut bytes)?;
        Ok(u32::from_le_bytes(bytes).into())
    }

    fn get_vector(&self, n: u64) -> Result<[u64; 2], kvm_ioctls::Error> {
        let mut bytes = [0u8; 16];
        match self.0.get_one_reg(registers::v(n), &mut bytes) {
            // With SVE there is only the whole vector.
            Err(error) if is_unknown(&error) => return self.get_z(n),
            other => other?,
        };
        let value = u128::from_le_bytes(bytes);
        Ok([value as u64, (value >> 64) as u64])
    }

    /// X0 to X30.
    pub(super) fn general(&self) -> Result<Vec<u64>, kvm_ioctls::Error> {
        (0..31).map(|n| self.get(registers::x(n))).collect()
    }

    /// One register of the saved state; 0 where the kernel has none.
    fn get_saved(&self, register: &Saved) -> Result<u64, String> {
        if register.id == 0 {
            return Ok(register.reset);
        }
        match self.get(register.id) {
            Ok(value) => Ok(value),
            Err(error) if is_unknown(&error) => Ok(register.reset),
            Err(error) => Err(failed(register.name, &error)),
        }
    }

    /// Everything but the interrupt controller's part.
    pub(super) fn read(&self, cntfrq: u64) -> Result<VcpuState, String> {
        let core = |e: kvm_ioctls::Error| failed("a core register", &e);
        let mut sys = BTreeMap::new();
        for register in registers::saved() {
            sys.insert(register.name.to_owned(), self.get_saved(&register)?);
        }
        let events = self.0.get_vcpu_events().map_err(|e| failed("pending events", &e))?;
        Ok(VcpuState {
            version: STATE_VERSION,
            midr: self.get(registers::MIDR).map_err(|e| failed("MIDR_EL1", &e))?,
            cntfrq,
            x: self.general().map_err(core)?,
            sp: [self.get(registers::SP_EL0).map_err(core)?, self.get(registers::SP_EL1).map_err(core)?],
            pc: self.get(registers::PC).map_err(core)?,
            pstate: self.get(registers::PSTATE).map_err(core)?,
            v: (0..32).map(|n| self.get_vector(n)).collect::<Result<_, _>>().map_err(core)?,
            fp: [self.get_32(registers::FPCR).map_err(core)?, self.get_32(registers::FPSR).map_err(core)?],
            event: false,
            sys,
            gic: cpu::gic::CpuInterface::default(),
            serror: events.exception.serror_pending != 0,
        })
    }

    /// Writes what differs from `before`, or all without it.
    pub(super) fn write(&self, state: &VcpuState, before: Option<&VcpuState>) -> Result<(), String> {
        let core = |e: kvm_ioctls::Error| failed("a core register", &e);
        if state.x.len() != 31 || state.v.len() != 32 {
            return Err("a saved vCPU has another number of registers".into());
        }
        for (n, value) in (0u64..).zip(&state.x) {
            if before.and_then(|before| before.x.get(n as usize)) != Some(value) {
                self.set(registers::x(n), *value).map_err(core)?;
            }
        }
        for (n, [low, high]) in (0u64..).zip(&state.v) {
            if before.and_then(|before| before.v.get(n as usize)) != Some(&[*low, *high]) {
                let value = u128::from(*low) | u128::from(*high) << 64;
                match self.0.set_one_reg(registers::v(n), &value.to_le_bytes()) {
                    // As above.
                    Err(error) if is_unknown(&error) => self.set_z(n, [*low, *high]).map_err(core)?,
                    other => other.map(drop).map_err(core)?,
                }
            }
        }
        if before.map(|before| before.fp) != Some(state.fp) {
            self.0.set_one_reg(registers::FPCR, &(state.fp[0] as u32).to_le_bytes()).map_err(core)?;
            self.0.set_one_reg(registers::FPSR, &(state.fp[1] as u32).to_le_bytes()).map_err(core)?;
        }
        // PSTATE first: it decides about the others' banks on no kernel, but a mode that is none is refused at once.
        self.set(registers::PSTATE, state.pstate).map_err(|e| failed("PSTATE", &e))?;
        self.set(registers::SP_EL0, state.sp[0]).map_err(core)?;
        self.set(registers::SP_EL1, state.sp[1]).map_err(core)?;
        self.set(registers::PC, state.pc).map_err(core)?;
        for register in registers::saved() {
            let value = state.sys.get(register.name).ok_or_else(|| format!("{} is missing", register.name))?;
            if before.and_then(|before| before.sys.get(register.name)) != Some(value) {
                self.set_saved(&register, *value)?;
            }
        }
        Ok(())
    }

    fn set_saved(&self, register: &Saved, value: u64) -> Result<(), String> {
        let harmless = value & register.mask == register.reset & register.mask;
        if register.id == 0 {
            return Ok(());
        }
        match self.set(register.id, value) {
            Ok(()) => Ok(()),
            // A register that this kernel has not, but nobody has written either.
            Err(error) if is_unknown(&error) && (harmless || is_debug(register.name)) => Ok(()),
            Err(error) => Err(failed(&format!("{} = {value:#x}", register.name), &error)),
        }
    }

    /// Pending SError.
    pub(super) fn set_serror(&self, pending: bool) -> Result<(), String> {
        let mut events = self.0.get_vcpu_events().map_err(|e| failed("pending events", &e))?;
        events.exception.serror_pending = pending.into();
        self.0.set_vcpu_events(&events).map_err(|e| failed("pending events", &e))
    }

    /// True unless PSCI has the vCPU off.
    pub(super) fn is_on(&self) -> Option<bool> {
        self.0.get_mp_state().ok().map(|state| state.mp_state != KVM_MP_STATE_STOPPED)
    }

    /// Turns the vCPU on or off.
    pub(super) fn set_on(&self, on: bool) -> Result<(), String> {
        let mp_state = if on { KVM_MP_STATE_RUNNABLE } else { KVM_MP_STATE_STOPPED };
        self.0.set_mp_state(kvm_mp_state { mp_state }).map_err(|e| failed("the power state", &e))
    }

    /// Registers that only a host of the same kind has: identification, pointer authentication keys, firmware.
    pub(super) fn read_own(&self) -> Result<BTreeMap<String, u64>, String> {
        let mut list = RegList::new(MAX_REGISTERS).map_err(|e| format!("no list of registers: {e:?}"))?;
        self.0.get_reg_list(&mut list).map_err(|e| failed("its list of registers", &e))?;
        let common: Vec<u64> = registers::saved().iter().map(|register| register.id).collect();
        let is_own = |id: &&u64| {
            registers::is_wide_system_or_firmware(**id)
                && !common.contains(id)
                && ![registers::VIRTUAL_COUNT, registers::PHYSICAL_COUNT].contains(id)
        };
        let own: Vec<u64> = list.as_slice().iter().filter(is_own).copied().collect();
        own.into_iter()
            .map(|id| Ok((format!("{id:#x}"), self.get(id).map_err(|e| failed(&format!("register {id:#x}"), &e))?)))
            .collect()
    }

    /// Sets what [`Registers::read_own`] gave; what is fixed has to be equal.
    pub(super) fn write_own(&self, own: &BTreeMap<String, u64>) -> Result<(), String> {
        for (name, value) in own {
            let id = name.strip_prefix("0x").and_then(|digits| u64::from_str_radix(digits, 16).ok());
            let id = id.filter(|id| registers::is_wide_system_or_firmware(*id));
            let id = id.ok_or_else(|| format!("{name:?} is no register"))?;
            if self.get(id).ok() != Some(*value) {
                self.set(id, *value).map_err(|e| {
                    failed(&format!("register {name} = {value:#x} (saved on a host with another processor?)"), &e)
                })?;
            }
        }
        Ok(())
    }
}

/// Debug registers differ in number from host to host, and come to life only under a debugger in the guest.
fn is_debug(name: &str) -> bool {
    name.starts_with("DBG") || name.starts_with("OS") || name == "MDSCR_EL1" || name == "MDCCINT_EL1"
}
