//! One vCPU of a KVM machine: KVM_RUN and what it returns for.

use std::collections::BTreeMap;
use std::sync::Arc;

use cpu::{DebugEvent, DebugPoints, Outside, VcpuState};
use kvm_bindings::*;
use kvm_ioctls::{Cap, VcpuExit, VcpuFd};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::assist::Assistant;
use super::debug;
use super::gic_state::CpuInterface;
use super::host::KvmVm;
use super::kick::{Armed, Kick};
use super::options::CpuOptions;
use super::registers;
use super::state::Registers;
use crate::engine::{Stop, Vcpu, View};
use crate::exit::Failure;

/// PSTATE at the first instruction: EL1h, everything masked.
const PSTATE_AT_RESET: u64 = 0x3c5;

/// How often KVM_RUN returned, and what for.
#[derive(Clone, Copy, Debug, Default, Serialize)]
struct Exits {
    mmio_reads: u64,
    mmio_writes: u64,
    /// Device accesses without a syndrome.
    assisted: u64,
    /// Device accesses that nobody answered.
    aborts: u64,
    interrupted: u64,
    system_events: u64,
    /// A debugger's places.
    debug: u64,
}

/// A vCPU. Used on one thread.
pub(super) struct KvmVcpu {
    // Before `fd`: nobody may point into its page when it goes.
    armed: Armed,
    fd: VcpuFd,
    index: usize,
    vm: Arc<KvmVm>,
    outside: Arc<dyn Outside>,
    features: kvm_vcpu_init,
    pmu_is_set_up: bool,
    assistant: Option<Assistant>,
    points: DebugPoints,
    /// It stopped for one of them: the instruction at PC is the next one.
    stopped: Option<DebugEvent>,
    /// That instruction is under way, in one step without breakpoints.
    passing: Option<DebugEvent>,
    /// A reset that the kernel refused is told at the next run.
    failed: Option<String>,
    exits: Exits,
}

/// What there is to do after KVM_RUN.
enum Next {
    Continue,
    /// Nobody answered an access to this address.
    Abort(u64),
    /// An access to this address without a syndrome.
    Assist(u64),
    Stop(Stop),
    /// A debugger's place, or a step's end.
    Debug(DebugEvent),
    Interrupted,
}

/// The saved form: the emulated engines' fields, and what only hosts of this kind have.
#[derive(Serialize, Deserialize)]
struct SavedVcpu {
    #[serde(flatten)]
    common: VcpuState,
    #[serde(default)]
    kvm: BTreeMap<String, u64>,
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    sve: BTreeMap<String, String>,
}

impl KvmVcpu {
    pub(super) fn new(
        index: usize,
        mut fd: VcpuFd,
        kick: &Arc<Kick>,
        vm: Arc<KvmVm>,
        outside: Arc<dyn Outside>,
    ) -> Result<KvmVcpu, Failure> {
        let features = features(index, &vm)?;
        fd.vcpu_init(&features)
            .map_err(|e| Failure::backend(format!("--engine kvm: the kernel does not start vCPU {index}: {e}")))?;
        let sve = KVM_ARM_VCPU_SVE;
        if features.features[0] >> sve & 1 != 0 {
            // From here on vectors have the lengths that the host has.
            fd.vcpu_finalize(&(sve as libc::c_int)).map_err(|e| Failure::backend(format!("--engine kvm: SVE: {e}")))?;
        }
        check_model(&fd, &vm)?;
        Ok(KvmVcpu {
            armed: kick.arm(&mut fd),
            fd,
            index,
            vm,
            outside,
            features,
            pmu_is_set_up: false,
            assistant: None,
            points: DebugPoints::default(),
            stopped: None,
            passing: None,
            failed: None,
            exits: Exits::default(),
        })
    }

    /// Performance monitors can be set up once, when all vCPUs and the interrupt controller exist.
    fn set_up_pmu(&mut self) -> Result<(), String> {
        if self.pmu_is_set_up || !crate::engine::emu::has_pmu(&self.vm.setup.cpu) {
            return Ok(());
        }
        let intid = cpu::outside::PPI_PMU;
        let attribute =
            |attr: u32, addr| kvm_device_attr { flags: 0, group: KVM_ARM_VCPU_PMU_V3_CTRL, attr: attr.into(), addr };
        let irq = std::ptr::from_ref(&intid).addr() as u64;
        self.fd
            .set_device_attr(&attribute(KVM_ARM_VCPU_PMU_V3_IRQ, irq))
            .and_then(|()| self.fd.set_device_attr(&attribute(KVM_ARM_VCPU_PMU_V3_INIT, 0)))
            .map_err(|e| format!("the performance monitors do not start: {e}"))?;
        self.pmu_is_set_up = true;
        Ok(())
    }

    fn try_reset(&mut self, entry: u64, x: [u64; 4]) -> Result<(), String> {
        let vm = Arc::clone(&self.vm);
        let _quiet = vm.quiet();
        self.forget_stop()?;
        self.fd.vcpu_init(&self.features).map_err(|e| format!("the kernel does not reset vCPU {}: {e}", self.index))?;
        self.set_up_pmu()?;
        let interface = CpuInterface { pmr: 0, bpr: [2, 3], active: [0; 2], enabled: [false; 2], ctlr: 0 };
        vm.gic.set_cpu_interface(self.index, &interface).map_err(|e| format!("the CPU interface is not reset: {e}"))?;
        if self.index == 0 {
            let registers = Registers(&self.fd);
            let core = |e: kvm_ioctls::Error| format!("the kernel does not take a register: {e}");
            for (n, value) in (0u64..).zip(x) {
                registers.set(registers::x(n), value).map_err(core)?;
            }
            registers.set(registers::PC, entry).map_err(core)?;
            registers.set(registers::PSTATE, PSTATE_AT_RESET).map_err(core)?;
        }
        Ok(())
    }

    /// Enters the guest once.
    fn enter(&mut self) -> Next {
        let exits = &mut self.exits;
        match self.fd.run() {
            Ok(VcpuExit::MmioRead(address, data)) => {
                exits.mmio_reads += 1;
                match self.outside.mmio_read(self.index, address, data.len() as u8) {
                    Ok(value) => {
                        data.iter_mut().zip(value.to_le_bytes()).for_each(|(byte, value)| *byte = value);
                        Next::Continue
                    }
                    Err(_) => Next::Abort(address),
                }
            }
            Ok(VcpuExit::MmioWrite(address, data)) => {
                exits.mmio_writes += 1;
                let mut bytes = [0u8; 8];
                bytes.iter_mut().zip(data.iter()).for_each(|(byte, value)| *byte = *value);
                let value = u64::from_le_bytes(bytes);
                match self.outside.mmio_write(self.index, address, data.len() as u8, value) {
                    Ok(()) => Next::Continue,
                    Err(_) => Next::Abort(address),
                }
            }
            Ok(VcpuExit::SystemEvent(event, _)) => {
                exits.system_events += 1;
                Next::Stop(match event {
                    KVM_SYSTEM_EVENT_SHUTDOWN => Stop::Shutdown,
                    KVM_SYSTEM_EVENT_RESET => Stop::Reset,
                    other => Stop::Internal(system_event(other)),
                })
            }
            Ok(VcpuExit::Intr) => Next::Interrupted,
            Ok(VcpuExit::Debug(exit)) => {
                exits.debug += 1;
                match debug::event(exit.hsr, exit.far, &self.points) {
                    Some(event) => Next::Debug(event),
                    None => Next::Stop(self.unhandled(&format!("a debug exit with syndrome {:#x}", exit.hsr))),
                }
            }
            Ok(VcpuExit::Unsupported(KVM_EXIT_ARM_NISV)) => {
                exits.assisted += 1;
                Next::Assist(self.fault_address())
            }
            Ok(other) => {
                let what = format!("{other:?}");
                Next::Stop(self.unhandled(&what))
            }
            Err(error) => match error.errno() {
                libc::EINTR | libc::EAGAIN => Next::Interrupted,
                libc::EFAULT | libc::ENOMEM => Next::Stop(self.unhandled(&format!(
                    "the host cannot map guest RAM ({error}): give the guest less --memory, or the host more"
                ))),
                _ => Next::Stop(self.unhandled(&error.to_string())),
            },
        }
    }

    #[expect(unsafe_code, reason = "a field of the union that KVM_RUN returns in")]
    fn fault_address(&mut self) -> u64 {
        let run = self.fd.get_kvm_run();
        // SAFETY: the exit reason is KVM_EXIT_ARM_NISV, whose member this is; it is plain data.
        unsafe { run.__bindgen_anon_1.arm_nisv.fault_ipa }
    }

    /// A stop with what a person needs to see why.
    fn unhandled(&mut self, what: &str) -> Stop {
        let place = match Registers(&self.fd).read(self.vm.setup.clock.frequency()) {
            Err(_) => "an unknown PC".into(),
            Ok(state) => {
                let instruction = self.assistant().map(|assistant| assistant.instruction(&state));
                format!("PC {:#x}{}", state.pc, instruction.unwrap_or_default())
            }
        };
        Stop::Internal(format!("KVM_RUN: {what}, at {place}"))
    }

    /// Made when it is needed for the first time.
    fn assistant(&mut self) -> Result<&mut Assistant, String> {
        if self.assistant.is_none() {
            let midr = Registers(&self.fd).get(registers::MIDR).map_err(|e| e.to_string())?;
            self.assistant = Some(Assistant::new(self.index, &self.vm, midr, Arc::clone(&self.outside))?);
        }
        self.assistant.as_mut().ok_or_else(|| "it was just made".into())
    }

    /// Completes the access that KVM_RUN returned for, without executing more.
    fn complete(&mut self) {
        self.fd.set_kvm_immediate_exit(1);
        // It returns EINTR: what else could it do.
        let _ = self.fd.run();
        self.fd.set_kvm_immediate_exit(0);
    }

    /// The guest takes a synchronous external abort for the access to `address` that KVM_RUN returned for.
    ///
    /// The access is completed first and then undone: kernels before 6.13 would complete it on top of the abort. Then it
    /// is executed again here, which gives the abort its whole syndrome; the kernel's has no direction (WnR).
    fn abort(&mut self, address: u64) -> Result<(), String> {
        self.exits.aborts += 1;
        let failed = |e: kvm_ioctls::Error| format!("the kernel does not inject an external abort: {e}");
        let registers = Registers(&self.fd);
        let (pc, general) = (registers.get(registers::PC).map_err(failed)?, registers.general().map_err(failed)?);
        self.complete();
        let registers = Registers(&self.fd);
        for (n, value) in (0u64..).zip(general) {
            registers.set(registers::x(n), value).map_err(failed)?;
        }
        registers.set(registers::PC, pc).map_err(failed)?;
        if self.assist(address).is_ok() {
            return Ok(());
        }
        let mut events = self.fd.get_vcpu_events().map_err(failed)?;
        events.exception.ext_dabt_pending = 1;
        self.fd.set_vcpu_events(&events).map_err(failed)
    }

    fn assist(&mut self, address: u64) -> Result<(), String> {
        let cntfrq = self.vm.setup.clock.frequency();
        self.assistant()?;
        let Some(assistant) = &mut self.assistant else { return Ok(()) };
        assistant.execute(&Registers(&self.fd), cntfrq, address)
    }

    /// Tells the kernel where to stop: at all places, or after the instruction that was stopped at.
    fn watch(&self) -> Result<(), String> {
        let count = |cap| usize::try_from(self.vm.fd.check_extension_int(cap)).unwrap_or(0);
        let mut points = self.points.clone();
        if let Some(event) = self.passing {
            points.step = true;
            points.breakpoints.clear();
            if matches!(event, DebugEvent::Watchpoint(_)) {
                points.watchpoints.clear();
            }
        }
        let hardware = debug::hardware(&points, count(Cap::DebugHwBps), count(Cap::DebugHwWps))?;
        let mut request = kvm_guest_debug::default();
        if !points.is_empty() {
            request.control = KVM_GUESTDBG_ENABLE;
        }
        if points.step {
            request.control |= KVM_GUESTDBG_SINGLESTEP;
        }
        let registers = &mut request.arch;
        let breakpoints = registers.dbg_bcr.iter_mut().zip(&mut registers.dbg_bvr).zip(hardware.breakpoints);
        let watchpoints = registers.dbg_wcr.iter_mut().zip(&mut registers.dbg_wvr).zip(hardware.watchpoints);
        for ((control, value), point) in breakpoints.chain(watchpoints) {
            request.control |= KVM_GUESTDBG_USE_HW;
            (*control, *value) = point;
        }
        self.fd.set_guest_debug(&request).map_err(|e| format!("the kernel does not debug the guest: {e}"))
    }

    /// Execution begins elsewhere: what was stopped at is no more.
    fn forget_stop(&mut self) -> Result<(), String> {
        self.stopped = None;
        self.passing.take().map_or(Ok(()), |_| self.watch())
    }

    /// What a stop of KVM_RUN for the debugger means: nothing if it is only the end of the instruction that was stopped at.
    fn debugged(&mut self, event: DebugEvent) -> Result<Option<Stop>, String> {
        if self.passing.take().is_some() {
            self.watch()?;
            if event == DebugEvent::Step && !self.points.step {
                return Ok(None);
            }
        }
        self.stopped = Some(event);
        Ok(Some(Stop::Debug(event)))
    }

    /// The end of an instruction that was executed here. The kernel does not count it as a step.
    fn executed_here(&mut self, done: Result<(), String>) -> Result<Option<Stop>, String> {
        done?;
        if self.passing.is_some() || self.points.step { self.debugged(DebugEvent::Step) } else { Ok(None) }
    }

    fn try_view(&mut self) -> Result<View, String> {
        let vm = Arc::clone(&self.vm);
        let _quiet = vm.quiet();
        let state = Registers(&self.fd).read(vm.setup.clock.frequency())?;
        let instruction = self.assistant()?.fetch(&state);
        let sp = state.sp[usize::from(state.pstate & 1 != 0)];
        Ok(View { pc: state.pc, pstate: state.pstate, sp, x: state.x, instruction })
    }

    fn try_save(&self) -> Result<SavedVcpu, String> {
        let _quiet = self.vm.quiet();
        let registers = Registers(&self.fd);
        let mut common = registers.read(self.vm.setup.clock.frequency())?;
        let interface = self.vm.gic.cpu_interface(self.index).map_err(|e| format!("the CPU interface: {e}"))?;
        let interface = serde_json::to_value(interface).map_err(|e| e.to_string())?;
        common.gic = serde_json::from_value(interface).map_err(|e| e.to_string())?;
        Ok(SavedVcpu { common, kvm: registers.read_own()?, sve: registers.read_sve()? })
    }

    fn try_load(&mut self, saved: &SavedVcpu) -> Result<(), String> {
        let vm = Arc::clone(&self.vm);
        let _quiet = vm.quiet();
        let state = &saved.common;
        let midr = Registers(&self.fd).get(registers::MIDR).map_err(|e| e.to_string())?;
        let cntfrq = vm.setup.clock.frequency();
        if state.version != cpu::STATE_VERSION {
            return Err(format!("version {} of the form, {} is known here", state.version, cpu::STATE_VERSION));
        }
        for (what, found, expected) in [("MIDR_EL1", state.midr, midr), ("CNTFRQ_EL0", state.cntfrq, cntfrq)] {
            if found != expected {
                return Err(format!("its {what} is {found:#x}, this host's is {expected:#x}"));
            }
        }
        if !cpu::ArchState::spsr_is_legal(state.pstate) {
            return Err(format!("PSTATE {:#x} is not EL0t, EL1t or EL1h", state.pstate));
        }
        self.forget_stop()?;
        self.fd.vcpu_init(&self.features).map_err(|e| e.to_string())?;
        self.set_up_pmu()?;
        let registers = Registers(&self.fd);
        registers.write_own(&saved.kvm)?;
        registers.write(state, None)?;
        registers.write_sve(&saved.sve)?;
        registers.set_serror(state.serror)?;
        let interface = serde_json::to_value(state.gic.sanitized()).map_err(|e| e.to_string())?;
        let interface: CpuInterface = serde_json::from_value(interface).map_err(|e| e.to_string())?;
        vm.gic.set_cpu_interface(self.index, &interface).map_err(|e| format!("the CPU interface: {e}"))
    }
}

/// A system event that no guest of this board asks for.
fn system_event(event: u32) -> String {
    let name = match event {
        KVM_SYSTEM_EVENT_CRASH => "a crash of the guest",
        KVM_SYSTEM_EVENT_WAKEUP => "a wake-up",
        KVM_SYSTEM_EVENT_SUSPEND => "suspension (PSCI SYSTEM_SUSPEND)",
        KVM_SYSTEM_EVENT_SEV_TERM => "the end of a confidential guest",
        _ => "one that this program does not know",
    };
    format!("the kernel reports system event {event}, {name}")
}

/// What KVM_ARM_VCPU_INIT is asked for.
fn features(index: usize, vm: &KvmVm) -> Result<kvm_vcpu_init, Failure> {
    let mut init = kvm_vcpu_init::default();
    vm.fd
        .get_preferred_target(&mut init)
        .map_err(|e| Failure::backend(format!("--engine kvm: the kernel knows no processor for guests: {e}")))?;
    let mut want = |feature: u32| init.features[0] |= 1 << feature;
    want(KVM_ARM_VCPU_PSCI_0_2);
    if index != 0 {
        want(KVM_ARM_VCPU_POWER_OFF);
    }
    if crate::engine::emu::has_pmu(&vm.setup.cpu) {
        want(KVM_ARM_VCPU_PMU_V3);
    }
    let (_, options) = CpuOptions::parse(&vm.setup.cpu.model).map_err(Failure::internal)?;
    if options.sve {
        if !vm.fd.check_extension(Cap::ArmSve) {
            return Err(Failure::usage("--cpu: sve=on: this host's KVM has no SVE; leave it out"));
        }
        want(KVM_ARM_VCPU_SVE);
    }
    if options.pauth && vm.fd.check_extension(Cap::ArmPtrAuthAddress) && vm.fd.check_extension(Cap::ArmPtrAuthGeneric) {
        want(KVM_ARM_VCPU_PTRAUTH_ADDRESS);
        want(KVM_ARM_VCPU_PTRAUTH_GENERIC);
    }
    Ok(init)
}

/// A processor asked for by name has to be the host's: KVM shows no other.
fn check_model(fd: &VcpuFd, vm: &KvmVm) -> Result<(), Failure> {
    let config = &vm.setup.cpu;
    if matches!(config.model.split(',').next(), Some("max" | "host")) {
        return Ok(());
    }
    let midr =
        Registers(fd).get(registers::MIDR).map_err(|e| Failure::backend(format!("--engine kvm: MIDR_EL1: {e}")))?;
    if midr == config.midr {
        return Ok(());
    }
    Err(Failure::usage(format!(
        "--cpu {}: KVM shows the guest the host's processor, MIDR_EL1 {midr:#x} instead of {:#x}; use --cpu max, or --engine interp",
        config.model, config.midr
    )))
}

impl Vcpu for KvmVcpu {
    fn reset(&mut self, entry: u64, x: [u64; 4]) {
        self.failed = self.try_reset(entry, x).err();
    }

    fn run(&mut self) -> Stop {
        if let Some(error) = self.failed.take() {
            return Stop::Internal(error);
        }
        if let Err(error) = self.vm.follow_clock(&self.fd) {
            return Stop::Internal(error);
        }
        if !self.points.is_empty() && self.stopped.is_some() {
            self.passing = self.stopped.take();
            if let Err(error) = self.watch() {
                return Stop::Internal(error);
            }
        }
        loop {
            if self.armed.kick().is_pause_wanted() {
                // The next entry completes a device access and returns at once.
                self.fd.set_kvm_immediate_exit(1);
            }
            let done = match self.enter() {
                Next::Continue => Ok(None),
                Next::Interrupted => {
                    self.exits.interrupted += 1;
                    self.fd.set_kvm_immediate_exit(0);
                    if self.armed.kick().take_pause() {
                        return Stop::Paused;
                    }
                    Ok(None)
                }
                Next::Abort(address) => {
                    let done = self.abort(address);
                    self.executed_here(done)
                }
                Next::Assist(address) => {
                    let done = self.assist(address);
                    self.executed_here(done)
                }
                Next::Debug(event) => self.debugged(event),
                Next::Stop(stop) => return stop,
            };
            match done {
                Ok(None) => {}
                Ok(Some(stop)) => return stop,
                Err(error) => return Stop::Internal(error),
            }
        }
    }

    fn save(&self) -> Result<Value, Failure> {
        let saved =
            self.try_save().map_err(|e| Failure::backend(format!("vCPU {} cannot be saved: {e}", self.index)))?;
        serde_json::to_value(saved).map_err(|e| Failure::internal(format!("vCPU state has no JSON form: {e}")))
    }

    fn load(&mut self, state: &Value) -> Result<(), Failure> {
        let state: SavedVcpu =
            Deserialize::deserialize(state).map_err(|e| Failure::usage(format!("a saved vCPU is malformed: {e}")))?;
        self.try_load(&state).map_err(|e| Failure::usage(format!("saved vCPU {}: {e}", self.index)))
    }

    fn is_on(&self) -> Option<bool> {
        let _quiet = self.vm.quiet();
        Some(Registers(&self.fd).is_on().unwrap_or(true))
    }

    fn set_on(&mut self, on: bool) -> Result<(), Failure> {
        let _quiet = self.vm.quiet();
        Registers(&self.fd).set_on(on).map_err(|e| Failure::backend(format!("vCPU {}: {e}", self.index)))
    }

    fn set_debug_points(&mut self, points: &DebugPoints) -> Result<(), Failure> {
        let before = std::mem::replace(&mut self.points, points.clone());
        self.watch().map_err(|error| {
            self.points = before;
            Failure::usage(format!("--engine kvm: {error}"))
        })
    }

    fn view(&mut self) -> Result<View, Failure> {
        self.try_view().map_err(|e| Failure::backend(format!("vCPU {}: {e}", self.index)))
    }

    fn report(&self) -> String {
        let _quiet = self.vm.quiet();
        match Registers(&self.fd).read(self.vm.setup.clock.frequency()) {
            Err(error) => error,
            Ok(state) => describe(&state),
        }
    }

    fn counters(&self) -> Value {
        json!({ "exits": self.exits })
    }
}

fn describe(state: &VcpuState) -> String {
    let mut text =
        format!("PC {:#018x} PSTATE {:#010x} SP {:#x} {:#x}\n", state.pc, state.pstate, state.sp[0], state.sp[1]);
    for (row, values) in state.x.chunks(4).enumerate() {
        for (column, value) in values.iter().enumerate() {
            text.push_str(&format!(" x{:<2} {value:#018x}", 4 * row + column));
        }
        text.push('\n');
    }
    for name in
        ["SCTLR_EL1", "TCR_EL1", "TTBR0_EL1", "TTBR1_EL1", "VBAR_EL1", "ELR_EL1", "SPSR_EL1", "ESR_EL1", "FAR_EL1"]
    {
        text.push_str(&format!(" {name:9} {:#018x}\n", state.sys.get(name).copied().unwrap_or(0)));
    }
    text
}
