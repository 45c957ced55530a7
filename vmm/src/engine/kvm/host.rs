//! `/dev/kvm`: what it can do, and a virtual machine of it.
#![expect(unsafe_code, reason = "giving the kernel memory of this process, and reading the counter register")]

use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

use cpu::config::ID_AA64DFR0;
use cpu::{Clock, CpuConfig, Outside, VmShared};
use kvm_bindings::{
    KVM_CAP_ARM_NISV_TO_USER, kvm_device_type_KVM_DEV_TYPE_ARM_VGIC_V3, kvm_enable_cap, kvm_userspace_memory_region,
};
use kvm_ioctls::{Cap, VcpuFd, VmFd};
use vm_memory::{GuestMemoryBackend, GuestMemoryRegion};

use super::dirty::KernelLog;
use super::gic::KernelGic;
use super::kick::{self, Kick};
use super::options::CpuOptions;
use super::registers;
use super::stolen_time::KernelRecords;
use super::vcpu::KvmVcpu;
use crate::engine::{Engine, Setup, Vcpu, Vm};
use crate::exit::Failure;
use crate::machine::dirty::DirtyLog;
use crate::machine::interrupts::InterruptController;
use crate::machine::layout;
use crate::machine::ram::GuestRam;
use crate::machine::stolen_time::Records;
use crate::sandbox::Needs;

/// Guest physical address bits that the board needs: its last window ends at 1 TiB.
const BOARD_BITS: i32 = 40;

/// The memory slot of PCI configuration space; guest RAM has those below.
pub(super) const CONFIG_SLOT: u32 = 16;

/// The memory slot of the records of stolen time.
pub(super) const STOLEN_TIME_SLOT: u32 = 17;

/// Capabilities without which there is no machine, and what each is for.
const NEEDED: [(Cap, &str); 6] = [
    (Cap::UserMemory, "KVM_CAP_USER_MEMORY (guest RAM)"),
    (Cap::OneReg, "KVM_CAP_ONE_REG (registers)"),
    (Cap::ArmPsci02, "KVM_CAP_ARM_PSCI_0_2 (firmware calls)"),
    (Cap::DeviceCtrl, "KVM_CAP_DEVICE_CTRL (interrupt controller)"),
    (Cap::ImmediateExit, "KVM_CAP_IMMEDIATE_EXIT (pausing)"),
    (Cap::MpState, "KVM_CAP_MP_STATE (processors that are off)"),
];

pub(super) fn kvm_error(what: &str, error: &dyn std::fmt::Display) -> Failure {
    Failure::backend(format!("--engine kvm: {what}: {error}"))
}

/// Opens `/dev/kvm`; the error says what to do about it.
fn open_device() -> Result<kvm_ioctls::Kvm, String> {
    match std::fs::OpenOptions::new().read(true).write(true).open("/dev/kvm") {
        Ok(_) => kvm_ioctls::Kvm::new().map_err(|e| format!("/dev/kvm does not open: {e}")),
        Err(error) => Err(why_closed(&error)),
    }
}

/// What to do where the device does not open.
fn why_closed(error: &std::io::Error) -> String {
    use std::io::ErrorKind;
    match error.kind() {
        ErrorKind::NotFound => {
            "there is no /dev/kvm: the kernel was not started at EL2, as in a virtual machine without nesting, or has no KVM"
                .into()
        }
        ErrorKind::PermissionDenied => {
            "no permission to open /dev/kvm: join its group (usermod -aG kvm USER), then log in again".into()
        }
        _ => format!("/dev/kvm does not open: {error}"),
    }
}

/// Whether KVM can be used here: what it has, or why not.
pub fn probe() -> Result<String, String> {
    let kvm = open_device()?;
    let version = kvm.get_api_version();
    if version == -1 {
        return Err("/dev/kvm is no KVM of this architecture: a program for arm64 under an emulator?".into());
    }
    if version != 12 {
        return Err(format!("/dev/kvm speaks version {version} of its interface, 12 is needed"));
    }
    lacking(|cap| kvm.check_extension(cap))?;
    let bits = ipa_bits(&kvm);
    let vm = create_vm(&kvm).map_err(|e| e.message)?;
    if !has_gicv3(&vm) {
        return Err("this host's interrupt controller is a GICv2, a GICv3 is needed".into());
    }
    let mut found = format!("GICv3, {bits}-bit guest addresses");
    for (cap, name) in [(Cap::ArmPmuV3, "PMUv3"), (Cap::ArmSve, "SVE"), (Cap::ArmPtrAuthAddress, "PAuth")] {
        if vm.check_extension(cap) {
            found.push_str(", ");
            found.push_str(name);
        }
    }
    Ok(found)
}

/// Names what is needed and is not there.
fn lacking(has: impl Fn(Cap) -> bool) -> Result<(), String> {
    let missing: Vec<&str> = NEEDED.iter().filter(|(cap, _)| !has(*cap)).map(|(_, name)| *name).collect();
    if missing.is_empty() { Ok(()) } else { Err(format!("the kernel's KVM lacks {}", missing.join(", "))) }
}

/// Guest physical address bits of this host.
fn ipa_bits(kvm: &kvm_ioctls::Kvm) -> i32 {
    // 0: an old kernel, which has 40 only.
    match kvm.check_extension_int(Cap::ArmVmIPASize) {
        0 => 40,
        bits => bits,
    }
}

fn create_vm(kvm: &kvm_ioctls::Kvm) -> Result<VmFd, Failure> {
    let bits = ipa_bits(kvm).min(BOARD_BITS);
    // 0 means 40, also to kernels that cannot be asked.
    let kind = if bits == 40 { 0 } else { u64::try_from(bits).unwrap_or(0) };
    kvm.create_vm_with_type(kind).map_err(|e| kvm_error("the kernel makes no virtual machine", &e))
}

/// Tries it: KVM_CREATE_DEVICE_TEST gives no descriptor, which kvm-ioctls would take 0 for.
fn has_gicv3(vm: &VmFd) -> bool {
    let type_ = kvm_device_type_KVM_DEV_TYPE_ARM_VGIC_V3;
    vm.create_device(&mut kvm_bindings::kvm_create_device { type_, fd: 0, flags: 0 }).is_ok()
}

/// CNTVCT_EL0 of the host.
fn host_counter() -> u64 {
    let value;
    // SAFETY: reads a counter that Linux leaves open to programs; no memory, no flags.
    unsafe { std::arch::asm!("isb", "mrs {}, cntvct_el0", out(reg) value, options(nomem, nostack)) };
    value
}

/// The engine.
pub struct Kvm {
    kvm: kvm_ioctls::Kvm,
}

impl Kvm {
    /// Opens `/dev/kvm`.
    pub fn open() -> Result<Kvm, Failure> {
        kick::install_handler()?;
        open_device().map(|kvm| Kvm { kvm }).map_err(|e| Failure::backend(format!("--engine kvm: {e}")))
    }
}

impl Engine for Kvm {
    fn name(&self) -> &'static str {
        "kvm"
    }

    fn counter_frequency(&self) -> u64 {
        let value: u64;
        // SAFETY: reads a constant register that programs may read; no memory, no flags.
        unsafe { std::arch::asm!("mrs {}, cntfrq_el0", out(reg) value, options(nomem, nostack)) };
        value
    }

    fn cpu(&self, name: &str) -> Result<CpuConfig, Failure> {
        let (base, options) = CpuOptions::parse(name).map_err(|e| Failure::usage(format!("--cpu {name}: {e}")))?;
        let mut config = crate::engine::emu::cpu_model(base)?;
        if base != name {
            // A machine that is loaded has to have the same.
            config.model = format!("{},{}", config.model, name.split_once(',').map_or("", |(_, rest)| rest));
        }
        // The guest sees the host's processor, but performance monitors only if KVM has them.
        let shift = 8;
        config.id[ID_AA64DFR0] &= !(0xf << shift);
        if options.pmu && self.kvm.check_extension(Cap::ArmPmuV3) {
            config.id[ID_AA64DFR0] |= 1 << shift;
        }
        Ok(config)
    }

    fn create(&self, setup: Setup) -> Result<Arc<dyn Vm>, Failure> {
        let kvm = &self.kvm;
        let bits = ipa_bits(kvm);
        let end = setup.ram.range().end;
        if bits < 64 && end > 1 << bits {
            return Err(Failure::usage(format!(
                "--memory: this host's guest addresses have {bits} bits, RAM would end at {end:#x}; use --memory {}G or less",
                ((1u64 << bits).saturating_sub(layout::RAM)) >> 30
            )));
        }
        let most = kvm.get_max_vcpus();
        if setup.vcpus > most {
            return Err(Failure::usage(format!("--cpus {}: this host's KVM takes up to {most}", setup.vcpus)));
        }
        let fd = Arc::new(create_vm(kvm)?);
        map_ram(&fd, &setup.ram, 0)?;
        // Without it KVM_RUN fails for such an access, and the run ends with its address.
        let nisv = kvm_enable_cap { cap: KVM_CAP_ARM_NISV_TO_USER, ..kvm_enable_cap::default() };
        let _ = fd.enable_cap(&nisv);
        let gic = KernelGic::new(&fd, &setup)?;
        let stolen_time = KernelRecords::new(&fd)?;
        Ok(Arc::new(Handle(Arc::new(KvmVm {
            gic,
            stolen_time,
            kicks: (0..setup.vcpus).map(|_| Arc::default()).collect(),
            created: AtomicUsize::new(0),
            quiet: Mutex::new(()),
            epoch: AtomicU64::new(1),
            time: Mutex::new(Time { epoch: 0, offset: 0 }),
            helper: OnceLock::new(),
            fd,
            setup,
        }))))
    }
}

/// Guest RAM as memory slots with these flags.
pub(super) fn map_ram(vm: &VmFd, ram: &GuestRam, flags: u32) -> Result<(), Failure> {
    for (slot, region) in (0u32..).zip(ram.memory().iter()) {
        let host = region.as_ptr().addr() as u64;
        let slot = kvm_userspace_memory_region {
            slot,
            flags,
            guest_phys_addr: region.start_addr().0,
            memory_size: region.len(),
            userspace_addr: host,
        };
        // SAFETY: the region is mapped for as long as `ram`, a clone of which the machine keeps beside the descriptor;
        // its bytes are accessed by volatile and atomic operations only, as the guest may change them at any time.
        unsafe { vm.set_user_memory_region(slot) }
            .map_err(|e| kvm_error(&format!("the kernel does not take {} MiB of guest RAM", region.len() >> 20), &e))?;
    }
    Ok(())
}

/// The guest's counter is the host's less an offset.
struct Time {
    /// The last [`KvmVm::epoch`] that the offset was set for.
    epoch: u64,
    offset: u64,
}

/// What all vCPUs of a KVM machine share.
pub(super) struct KvmVm {
    pub(super) fd: Arc<VmFd>,
    pub(super) gic: Arc<KernelGic>,
    /// None if the kernel does not count it.
    stolen_time: Option<Arc<KernelRecords>>,
    /// One per vCPU.
    kicks: Vec<Arc<Kick>>,
    /// vCPUs made so far.
    created: AtomicUsize,
    /// Held by who reads or writes state in the kernel: it refuses (EBUSY) the controller's while any vCPU is in a call.
    quiet: Mutex<()>,
    /// Bumped when the clock was stopped or set.
    epoch: AtomicU64,
    time: Mutex<Time>,
    /// Processing elements that execute single instructions.
    helper: OnceLock<Arc<VmShared>>,
    pub(super) setup: Setup,
}

impl KvmVm {
    /// Nobody else reads or writes the machine's state in the kernel.
    pub(super) fn quiet(&self) -> MutexGuard<'_, ()> {
        self.quiet.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Sets the guest's counter from the clock, once after each time that the clock stood still.
    pub(super) fn follow_clock(&self, vcpu: &VcpuFd) -> Result<(), String> {
        let epoch = self.epoch.load(Ordering::SeqCst);
        let mut time = self.time.lock().unwrap_or_else(PoisonError::into_inner);
        if time.epoch == epoch {
            return Ok(());
        }
        let counter = self.setup.clock.counter();
        time.offset = host_counter().wrapping_sub(counter);
        vcpu.set_one_reg(registers::VIRTUAL_COUNT, &counter.to_le_bytes())
            .map_err(|e| format!("the kernel does not set the guest's counter: {e}"))?;
        // Before Linux 6.4 the physical counter is the host's.
        let _ = vcpu.set_one_reg(registers::PHYSICAL_COUNT, &counter.to_le_bytes());
        time.epoch = epoch;
        Ok(())
    }

    /// The machine as emulated processing elements see it, for single instructions.
    pub(super) fn helper(&self, config: CpuConfig) -> Result<Arc<VmShared>, Failure> {
        if let Some(shared) = self.helper.get() {
            return Ok(Arc::clone(shared));
        }
        let ram = self.setup.ram.for_processing_elements()?;
        let clock: Arc<Clock> = Arc::clone(&self.setup.clock);
        Ok(Arc::clone(self.helper.get_or_init(|| VmShared::new(ram, clock, self.setup.vcpus, config))))
    }
}

struct Handle(Arc<KvmVm>);

impl Vm for Handle {
    fn create_vcpu(&self, index: usize, outside: Arc<dyn Outside>) -> Result<Box<dyn Vcpu>, Failure> {
        let vm = &self.0;
        let fd = vm
            .fd
            .create_vcpu(index as u64)
            .map_err(|e| kvm_error(&format!("the kernel makes no vCPU {index}; use fewer --cpus"), &e))?;
        if vm.stolen_time.is_some() {
            KernelRecords::connect(&fd, index)?;
        }
        let kick = vm.kicks.get(index).ok_or_else(|| Failure::internal(format!("no vCPU {index}")))?;
        let vcpu = KvmVcpu::new(index, fd, kick, Arc::clone(vm), outside)?;
        if vm.created.fetch_add(1, Ordering::SeqCst) + 1 == vm.setup.vcpus {
            vm.gic.initialize()?;
            vm.gic.reset()?;
        }
        Ok(Box::new(vcpu))
    }

    fn publish_irq(&self, _: usize, _: usize, _: Option<(u8, u32)>) {}

    fn request_pause(&self, vcpu: usize) {
        if let Some(kick) = self.0.kicks.get(vcpu) {
            kick.request_pause();
        }
    }

    fn returns_to_el0(&self) -> Vec<u64> {
        // The kernel does not count them: a panic is told by its words alone.
        vec![0; self.0.setup.vcpus]
    }

    fn interrupt_controller(&self) -> Option<Arc<dyn InterruptController>> {
        Some(Arc::new(super::gic::Controller { gic: Arc::clone(&self.0.gic), vm: Arc::clone(&self.0) }))
    }

    fn needs(&self) -> Needs {
        Needs { kvm: true }
    }

    fn serves_psci(&self) -> bool {
        true
    }

    fn guest_counter(&self) -> Option<u64> {
        let time = self.0.time.lock().unwrap_or_else(PoisonError::into_inner);
        // Before the first run, and after the clock was set, the clock is right.
        (time.epoch == self.0.epoch.load(Ordering::SeqCst)).then(|| host_counter().wrapping_sub(time.offset))
    }

    fn resume_time(&self) {
        self.0.epoch.fetch_add(1, Ordering::SeqCst);
    }

    fn adopt_ram(&self) -> Result<(), Failure> {
        let _quiet = self.0.quiet();
        self.0.gic.adopt_ram().map_err(Failure::usage)
    }

    fn stolen_time(&self) -> Option<Arc<dyn Records>> {
        self.0.stolen_time.clone().map(|records| records as _)
    }

    fn dirty_log(&self) -> Option<Arc<dyn DirtyLog>> {
        Some(Arc::new(KernelLog::new(&self.0.fd, &self.0.setup.ram)))
    }

    fn forget_code(&self) {}
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_device_that_does_not_open_says_what_to_do() {
        let why = |errno| why_closed(&std::io::Error::from_raw_os_error(errno));
        assert!(why(libc::ENOENT).contains("without nesting"));
        assert!(why(libc::EACCES).contains("usermod -aG kvm"));
        assert!(why(libc::EBUSY).contains("does not open"));
    }

    #[test]
    fn each_missing_capability_is_named() {
        assert_eq!(lacking(|_| true), Ok(()));
        for (needed, name) in NEEDED {
            let error = lacking(|cap| cap as u32 != needed as u32).unwrap_err();
            assert_eq!(error, format!("the kernel's KVM lacks {name}"));
        }
        let error = lacking(|_| false).unwrap_err();
        assert!(NEEDED.iter().all(|(_, name)| error.contains(name)), "{error}");
    }
}
