//! Firmware calls of the guest: PSCI 1.1 (DEN0022), SMCCC 1.1 (DEN0028) and the TRNG interface (DEN0098).
//!
//! Pure: the caller gives registers and gets registers and an [`Outcome`]; starting a vCPU is a callback.

use std::sync::{Mutex, MutexGuard, PoisonError};

use serde::{Deserialize, Serialize};

/// Status values of PSCI and SMCCC, as the guest sees them in X0.
mod status {
    pub const SUCCESS: i64 = 0;
    pub const NOT_SUPPORTED: i64 = -1;
    pub const INVALID_PARAMETERS: i64 = -2;
    pub const ALREADY_ON: i64 = -4;
    pub const ON_PENDING: i64 = -5;
    pub const INVALID_ADDRESS: i64 = -9;
    /// SMCCC_ARCH_WORKAROUND_*: this PE is not affected.
    pub const UNAFFECTED: i64 = 1;
    /// SMCCC_ARCH_FEATURES of WORKAROUND_2: no mitigation is needed.
    pub const NOT_REQUIRED: i64 = -2;
    /// TRNG: not as many bits as that.
    pub const TRNG_INVALID_PARAMETERS: i64 = -2;
    pub const TRNG_NO_ENTROPY: i64 = -3;
}

/// Bit 30 of a function identifier: arguments are 64 bits wide.
const SMC64: u32 = 1 << 30;

/// A function that is answered.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Function {
    /// PSCI_VERSION
    Version,
    /// CPU_SUSPEND
    CpuSuspend,
    /// CPU_OFF
    CpuOff,
    /// CPU_ON
    CpuOn,
    /// AFFINITY_INFO
    AffinityInfo,
    /// MIGRATE_INFO_TYPE
    MigrateInfoType,
    /// SYSTEM_OFF
    SystemOff,
    /// SYSTEM_RESET
    SystemReset,
    /// PSCI_FEATURES
    Features,
    /// SYSTEM_RESET2
    SystemReset2,
    /// SMCCC_VERSION
    SmcccVersion,
    /// SMCCC_ARCH_FEATURES
    ArchFeatures,
    /// SMCCC_ARCH_WORKAROUND_1 to 3: nothing to work around
    ArchWorkaround,
    /// TRNG_VERSION
    TrngVersion,
    /// TRNG_FEATURES
    TrngFeatures,
    /// TRNG_GET_UUID
    TrngUuid,
    /// TRNG_RND
    TrngRnd,
}

const WORKAROUND_1: u32 = 0x8000_8000;
const WORKAROUND_2: u32 = 0x8000_7fff;
const WORKAROUND_3: u32 = 0x8000_3fff;

/// The function that an identifier names, if it is answered.
pub fn function(id: u32) -> Option<Function> {
    Some(match id {
        0x8400_0000 => Function::Version,
        0x8400_0001 | 0xc400_0001 => Function::CpuSuspend,
        0x8400_0002 => Function::CpuOff,
        0x8400_0003 | 0xc400_0003 => Function::CpuOn,
        0x8400_0004 | 0xc400_0004 => Function::AffinityInfo,
        0x8400_0006 => Function::MigrateInfoType,
        0x8400_0008 => Function::SystemOff,
        0x8400_0009 => Function::SystemReset,
        0x8400_000a => Function::Features,
        0x8400_0012 | 0xc400_0012 => Function::SystemReset2,
        0x8000_0000 => Function::SmcccVersion,
        0x8000_0001 => Function::ArchFeatures,
        WORKAROUND_1 | WORKAROUND_2 | WORKAROUND_3 => Function::ArchWorkaround,
        0x8400_0050 => Function::TrngVersion,
        0x8400_0051 => Function::TrngFeatures,
        0x8400_0052 => Function::TrngUuid,
        0x8400_0053 | 0xc400_0053 => Function::TrngRnd,
        _ => return None,
    })
}

/// The name of a function identifier for traces.
pub fn name(id: u32) -> String {
    function(id).map_or_else(|| format!("unknown {id:#010x}"), |function| format!("{function:?}"))
}

/// What the vCPU does after the call.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Outcome {
    /// Go on with the next instruction.
    Continue,
    /// Wait for an interrupt, then go on.
    Suspend,
    /// This vCPU is off until another one turns it on.
    CpuOff,
    /// The machine powers off.
    SystemOff,
    /// The machine starts again.
    SystemReset,
}

/// The power state of one vCPU, numbered as AFFINITY_INFO answers.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub enum Power {
    /// Runs.
    On = 0,
    /// Waits for CPU_ON.
    Off = 1,
    /// CPU_ON was called, the vCPU has not started yet.
    OnPending = 2,
}

/// What PSCI needs of the machine.
pub trait Machine {
    /// Starts a vCPU that is off at `entry` with `context` in X0. It calls [`Psci::started`] when it runs.
    fn start_vcpu(&self, vcpu: usize, entry: u64, context: u64);
    /// True if code can stand at this physical address.
    fn is_ram(&self, address: u64) -> bool;
    /// Fills `bytes` with random ones; false if there are none now.
    fn entropy(&self, bytes: &mut [u8]) -> bool;
}

/// The affinity fields (Aff3..Aff0) of a vCPU's MPIDR_EL1: 16 vCPUs in each Aff1 group, as GICv3's SGI target list wants.
pub fn affinity(vcpu: usize) -> u64 {
    let vcpu = vcpu as u64;
    (vcpu & 0xf) | ((vcpu >> 4) & 0xff) << 8
}

/// The state of the PSCI implementation.
pub struct Psci {
    power: Mutex<Vec<Power>>,
}

impl Psci {
    /// vCPU 0 is on, all others are off.
    pub fn new(vcpus: usize) -> Psci {
        let psci = Psci { power: Mutex::new(vec![Power::Off; vcpus]) };
        psci.reset();
        psci
    }

    fn lock(&self) -> MutexGuard<'_, Vec<Power>> {
        self.power.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Back to the state at start.
    pub fn reset(&self) {
        for (vcpu, power) in self.lock().iter_mut().enumerate() {
            *power = if vcpu == 0 { Power::On } else { Power::Off };
        }
    }

    /// The vCPU runs.
    pub fn started(&self, vcpu: usize) {
        if let Some(power) = self.lock().get_mut(vcpu) {
            *power = Power::On;
        }
    }

    /// The power state of every vCPU.
    pub fn states(&self) -> Vec<Power> {
        self.lock().clone()
    }

    /// Takes over saved states; false if there are not as many as vCPUs.
    pub fn restore(&self, states: &[Power]) -> bool {
        let mut power = self.lock();
        let fits = power.len() == states.len();
        if fits {
            power.copy_from_slice(states);
        }
        fits
    }

    /// Serves the call in `regs` (X0 to X17), which `vcpu` made.
    pub fn call(&self, vcpu: usize, regs: &mut [u64; 18], machine: &dyn Machine) -> Outcome {
        let [x0, x1, x2, x3, ..] = *regs;
        let id = x0 as u32; // the identifier is W0
        let wide = id & SMC64 != 0;
        let argument = |x: u64| if wide { x } else { x & 0xffff_ffff };
        let (x1, x2, x3) = (argument(x1), argument(x2), argument(x3));
        let mut outcome = Outcome::Continue;
        let result = match function(id) {
            None => status::NOT_SUPPORTED,
            Some(Function::Version | Function::SmcccVersion) => 0x1_0001,
            Some(Function::CpuSuspend) => {
                // Power-down states are not offered in the device tree; a caller that asks for one gets the permitted weaker state, standby.
                outcome = Outcome::Suspend;
                status::SUCCESS
            }
            Some(Function::CpuOff) => {
                if let Some(power) = self.lock().get_mut(vcpu) {
                    *power = Power::Off;
                }
                outcome = Outcome::CpuOff;
                status::SUCCESS
            }
            Some(Function::CpuOn) => self.cpu_on(x1, x2, x3, machine),
            Some(Function::AffinityInfo) => self.affinity_info(x1, x2),
            Some(Function::MigrateInfoType) => 2, // no trusted OS that would have to migrate
            Some(Function::SystemOff) => {
                outcome = Outcome::SystemOff;
                status::SUCCESS
            }
            Some(Function::SystemReset) => {
                outcome = Outcome::SystemReset;
                status::SUCCESS
            }
            Some(Function::SystemReset2) if x1 & 0xffff_ffff == 0 => {
                outcome = Outcome::SystemReset;
                status::SUCCESS
            }
            Some(Function::SystemReset2) => status::INVALID_PARAMETERS,
            Some(Function::Features) => features(x1 as u32),
            Some(Function::ArchFeatures) => arch_features(x1 as u32),
            Some(Function::ArchWorkaround) => status::SUCCESS,
            Some(Function::TrngVersion) => 0x1_0000,
            Some(Function::TrngFeatures) => match function(x1 as u32) {
                Some(Function::TrngVersion | Function::TrngFeatures | Function::TrngUuid | Function::TrngRnd) => {
                    status::SUCCESS
                }
                _ => status::NOT_SUPPORTED,
            },
            Some(Function::TrngUuid) => {
                // A random (version 4) UUID that names this implementation.
                [regs[0], regs[1], regs[2], regs[3]] = [0x5be0_7b5c, 0x9d1e_4c55, 0xa4c1_2f0a, 0x62d3_9e71];
                return Outcome::Continue;
            }
            Some(Function::TrngRnd) => trng_rnd(x1, wide, regs, machine),
        };
        regs[0] = result as u64;
        outcome
    }

    fn cpu_on(&self, target: u64, entry: u64, context: u64, machine: &dyn Machine) -> i64 {
        let Some(vcpu) = self.find(target) else { return status::INVALID_PARAMETERS };
        if !machine.is_ram(entry) || entry & 3 != 0 {
            return status::INVALID_ADDRESS;
        }
        let mut states = self.lock();
        let Some(power) = states.get_mut(vcpu) else { return status::INVALID_PARAMETERS };
        match power {
            Power::On => status::ALREADY_ON,
            Power::OnPending => status::ON_PENDING,
            Power::Off => {
                *power = Power::OnPending;
                drop(states);
                machine.start_vcpu(vcpu, entry, context);
                status::SUCCESS
            }
        }
    }

    fn affinity_info(&self, target: u64, level: u64) -> i64 {
        // PSCI 1.0 and later need not answer for levels above 0.
        if level != 0 {
            return status::INVALID_PARAMETERS;
        }
        let states = self.lock();
        match (0..states.len()).find(|&vcpu| affinity(vcpu) == target).and_then(|vcpu| states.get(vcpu)) {
            Some(&power) => power as i64,
            None => status::INVALID_PARAMETERS,
        }
    }

    fn find(&self, target: u64) -> Option<usize> {
        (0..self.lock().len()).find(|&vcpu| affinity(vcpu) == target)
    }
}

/// PSCI_FEATURES: 0 for what is there (CPU_SUSPEND: the original power_state format, no OS-initiated mode).
fn features(id: u32) -> i64 {
    match function(id) {
        Some(
            Function::Version
            | Function::CpuSuspend
            | Function::CpuOff
            | Function::CpuOn
            | Function::AffinityInfo
            | Function::MigrateInfoType
            | Function::SystemOff
            | Function::SystemReset
            | Function::Features
            | Function::SystemReset2
            | Function::SmcccVersion,
        ) => status::SUCCESS,
        _ => status::NOT_SUPPORTED,
    }
}

/// SMCCC_ARCH_FEATURES: guest code is not executed speculatively by a PE of the guest's kind, so no workaround is needed.
fn arch_features(id: u32) -> i64 {
    match (function(id), id) {
        (Some(Function::SmcccVersion | Function::ArchFeatures), _) => status::SUCCESS,
        (_, WORKAROUND_1 | WORKAROUND_3) => status::UNAFFECTED,
        (_, WORKAROUND_2) => status::NOT_REQUIRED,
        _ => status::NOT_SUPPORTED,
    }
}

/// TRNG_RND: up to 3 registers of entropy, the lowest bits in X3.
fn trng_rnd(bits: u64, wide: bool, regs: &mut [u64; 18], machine: &dyn Machine) -> i64 {
    let width: u64 = if wide { 64 } else { 32 };
    // Unused bits read as zero, on errors all of them.
    [regs[1], regs[2], regs[3]] = [0; 3];
    if bits == 0 || bits > 3 * width {
        return status::TRNG_INVALID_PARAMETERS;
    }
    let mut bytes = [0u8; 24];
    if !machine.entropy(&mut bytes) {
        return status::TRNG_NO_ENTROPY;
    }
    let mut left = bits;
    for (reg, chunk) in [3, 2, 1].into_iter().zip(bytes.as_chunks::<8>().0) {
        let take = left.min(width);
        let mask = if take == 64 { u64::MAX } else { (1 << take) - 1 };
        regs[reg] = u64::from_le_bytes(*chunk) & mask;
        left -= take;
    }
    status::SUCCESS
}

#[cfg(test)]
#[path = "psci_tests.rs"]
mod tests;
