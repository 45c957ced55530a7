//! The kernel's GICv3 and ITS, as the board's interrupt controller.
#![expect(unsafe_code, reason = "device attributes are read through a pointer")]

use std::sync::Arc;

use devices::pci::{ConfigMemory, MsiSink};
use devices::virtio::KernelDoorbells;
use devices::{AccessError, InterruptSink, IrqLine, MmioDevice, StateError, state};
use kvm_bindings::*;
use kvm_ioctls::{Cap, DeviceFd, VmFd};
use serde_json::Value;

use super::gic_state::{self, CpuInterface, Distributor, Port, Redistributor, Register};
use super::host::KvmVm;
use super::its::KernelIts;
use super::routes::{Message, Routes};
use crate::engine::Setup;
use crate::exit::Failure;
use crate::machine::interrupts::{InterruptController, Window};
use crate::machine::layout;

/// What the emulated controller's parts are called in saved state, and the version of their form.
const DISTRIBUTOR: (&str, u64) = ("gicv3-distributor", 1);
const REDISTRIBUTORS: (&str, u64) = ("gicv3-redistributors", 1);
const ITS: (&str, u64) = ("gicv3-its", 2);

/// The kernel's devices.
pub(super) struct KernelGic {
    vm: Arc<VmFd>,
    gic: DeviceFd,
    its: Option<KernelIts>,
    routes: Routes,
    vcpus: usize,
}

fn refused(what: &str, error: &kvm_ioctls::Error) -> Failure {
    Failure::backend(format!("--engine kvm: the kernel's interrupt controller: {what}: {error}"))
}

pub(super) fn set<T>(device: &DeviceFd, group: u32, attr: u64, value: &T) -> Result<(), kvm_ioctls::Error> {
    let addr = std::ptr::from_ref(value).addr() as u64;
    device.set_device_attr(&kvm_device_attr { flags: 0, group, attr, addr })
}

pub(super) fn get<T: Default>(device: &DeviceFd, group: u32, attr: u64) -> Result<T, kvm_ioctls::Error> {
    let mut value = T::default();
    let addr = std::ptr::from_mut(&mut value).addr() as u64;
    let mut attr = kvm_device_attr { flags: 0, group, attr, addr };
    // SAFETY: the attributes that this module reads have the size of the type that it reads them as (u32 or u64), and
    // `value` outlives the call.
    unsafe { device.get_device_attr(&mut attr) }?;
    Ok(value)
}

impl KernelGic {
    /// Makes the devices at the board's addresses. They work after [`KernelGic::initialize`].
    pub(super) fn new(vm: &Arc<VmFd>, setup: &Setup) -> Result<Arc<KernelGic>, Failure> {
        let make = |type_| vm.create_device(&mut kvm_create_device { type_, fd: 0, flags: 0 });
        let gic = make(kvm_device_type_KVM_DEV_TYPE_ARM_VGIC_V3).map_err(|e| {
            refused("there is no GICv3 (a host with a GICv2 cannot run this machine; use --engine interp)", &e)
        })?;
        let address = |device, kind: u32, address: u64| {
            set(device, KVM_DEV_ARM_VGIC_GRP_ADDR, kind.into(), &address)
                .map_err(|e| refused(&format!("not at address {address:#x}"), &e))
        };
        address(&gic, KVM_VGIC_V3_ADDR_TYPE_DIST, layout::GICD)?;
        address(&gic, KVM_VGIC_V3_ADDR_TYPE_REDIST, layout::GICR)?;
        let lines = layout::SPIS as u32 + 32;
        set(&gic, KVM_DEV_ARM_VGIC_GRP_NR_IRQS, 0, &lines)
            .map_err(|e| refused(&format!("not with {lines} interrupts"), &e))?;
        let mut its = None;
        if setup.lpis {
            let device = make(kvm_device_type_KVM_DEV_TYPE_ARM_VGIC_ITS)
                .map_err(|e| refused("there is no ITS; use --transport mmio", &e))?;
            address(&device, KVM_VGIC_ITS_ADDR_TYPE, layout::ITS)?;
            its = Some(KernelIts::new(device, setup.ram.clone()));
        }
        Ok(Arc::new(KernelGic { vm: Arc::clone(vm), gic, its, routes: Routes::new(vm), vcpus: setup.vcpus }))
    }

    /// All vCPUs exist.
    pub(super) fn initialize(&self) -> Result<(), Failure> {
        let init = |device| set(device, KVM_DEV_ARM_VGIC_GRP_CTRL, KVM_DEV_ARM_VGIC_CTRL_INIT.into(), &0u64);
        init(&self.gic).map_err(|e| refused("it does not start", &e))?;
        self.its.as_ref().map_or(Ok(()), |its| init(its.device())).map_err(|e| refused("the ITS does not start", &e))
    }

    /// Distributor and redistributors as after reset.
    pub(super) fn reset(&self) -> Result<(), Failure> {
        let failed = |e| refused("it is not reset", &e);
        self.reset_distributor().map_err(failed)?;
        self.reset_redistributors().map_err(failed)
    }

    fn reset_distributor(&self) -> Result<(), kvm_ioctls::Error> {
        Distributor::read(self, layout::SPIS)?.after_reset().write(self)
    }

    fn reset_redistributors(&self) -> Result<(), kvm_ioctls::Error> {
        (0..self.vcpus).try_for_each(|vcpu| Redistributor::read(self, vcpu)?.after_reset().write(self, vcpu))
    }

    /// Guest RAM of a saved machine is in place, and the ITS' tables in it.
    pub(super) fn adopt_ram(&self) -> Result<(), String> {
        self.its.as_ref().map_or(Ok(()), KernelIts::adopt_ram)
    }

    /// A vCPU's CPU interface.
    pub(super) fn cpu_interface(&self, vcpu: usize) -> Result<CpuInterface, kvm_ioctls::Error> {
        let read = |encoding| get::<u64>(&self.gic, KVM_DEV_ARM_VGIC_GRP_CPU_SYSREGS, attribute(vcpu, encoding));
        Ok(CpuInterface {
            pmr: read(icc::PMR)? as u8,
            bpr: [read(icc::BPR0)? as u8, read(icc::BPR1)? as u8],
            active: [read(icc::AP0R0)? as u32, read(icc::AP1R0)? as u32],
            enabled: [read(icc::IGRPEN0)? & 1 != 0, read(icc::IGRPEN1)? & 1 != 0],
            ctlr: read(icc::CTLR)? & icc::CTLR_WRITABLE,
        })
    }

    /// Sets a vCPU's CPU interface.
    pub(super) fn set_cpu_interface(&self, vcpu: usize, state: &CpuInterface) -> Result<(), kvm_ioctls::Error> {
        let write =
            |encoding, value: u64| set(&self.gic, KVM_DEV_ARM_VGIC_GRP_CPU_SYSREGS, attribute(vcpu, encoding), &value);
        // What is fixed in it has to be what the kernel has.
        let fixed: u64 = get(&self.gic, KVM_DEV_ARM_VGIC_GRP_CPU_SYSREGS, attribute(vcpu, icc::CTLR))?;
        write(icc::CTLR, fixed & !icc::CTLR_WRITABLE | state.ctlr & icc::CTLR_WRITABLE)?;
        write(icc::PMR, state.pmr.into())?;
        write(icc::BPR0, state.bpr[0].into())?;
        write(icc::BPR1, state.bpr[1].into())?;
        write(icc::AP0R0, state.active[0].into())?;
        write(icc::AP1R0, state.active[1].into())?;
        write(icc::IGRPEN0, state.enabled[0].into())?;
        write(icc::IGRPEN1, state.enabled[1].into())
    }
}

/// CPU interface registers by their encodings.
mod icc {
    const fn encoding(crn: u64, crm: u64, op2: u64) -> u64 {
        3 << 14 | crn << 7 | crm << 3 | op2
    }
    pub const PMR: u64 = encoding(4, 6, 0);
    pub const BPR0: u64 = encoding(12, 8, 3);
    pub const AP0R0: u64 = encoding(12, 8, 4);
    pub const AP1R0: u64 = encoding(12, 9, 0);
    pub const BPR1: u64 = encoding(12, 12, 3);
    pub const CTLR: u64 = encoding(12, 12, 4);
    pub const IGRPEN0: u64 = encoding(12, 12, 6);
    pub const IGRPEN1: u64 = encoding(12, 12, 7);
    /// CBPR and EOImode.
    pub const CTLR_WRITABLE: u64 = 3;
}

/// An attribute of a vCPU: its affinity in bits 63:32.
fn attribute(vcpu: usize, register: u64) -> u64 {
    devices::gic::affinity(vcpu) << KVM_DEV_ARM_VGIC_V3_MPIDR_SHIFT | register
}

fn group_and_attribute(register: Register) -> (u32, u64) {
    match register {
        Register::Distributor(offset) => (KVM_DEV_ARM_VGIC_GRP_DIST_REGS, offset),
        Register::Redistributor(vcpu, offset) => (KVM_DEV_ARM_VGIC_GRP_REDIST_REGS, attribute(vcpu, offset)),
        Register::Levels(vcpu, first) => {
            let kind = u64::from(VGIC_LEVEL_INFO_LINE_LEVEL) << KVM_DEV_ARM_VGIC_LINE_LEVEL_INFO_SHIFT;
            (KVM_DEV_ARM_VGIC_GRP_LEVEL_INFO, attribute(vcpu, kind | u64::from(first)))
        }
    }
}

impl Port for KernelGic {
    type Error = kvm_ioctls::Error;

    fn read(&self, register: Register) -> Result<u32, kvm_ioctls::Error> {
        let (group, attr) = group_and_attribute(register);
        get(&self.gic, group, attr)
    }

    fn write(&self, register: Register, value: u32) -> Result<(), kvm_ioctls::Error> {
        let (group, attr) = group_and_attribute(register);
        set(&self.gic, group, attr, &value)
    }
}

impl InterruptSink for KernelGic {
    fn set_spi(&self, spi: u32, level: bool) {
        let line = KVM_ARM_IRQ_TYPE_SPI << KVM_ARM_IRQ_TYPE_SHIFT | (spi + 32);
        // Refused only before the controller is initialized, when no line is high.
        let _ = self.vm.set_irq_line(line, level);
    }
}

impl MsiSink for KernelGic {
    fn send(&self, device: u32, address: u64, data: u32) {
        self.routes.send(Message { device, address, data });
    }
}

/// The board's view of it.
pub(super) struct Controller {
    pub(super) gic: Arc<KernelGic>,
    pub(super) vm: Arc<KvmVm>,
}

impl InterruptController for Controller {
    fn spi_line(&self, spi: u32) -> IrqLine {
        IrqLine::new(Arc::clone(&self.gic) as Arc<dyn InterruptSink>, spi)
    }

    fn windows(&self) -> Vec<Window> {
        let part = |part| Arc::new(Part { part, gic: Arc::clone(&self.gic), vm: Arc::clone(&self.vm) });
        let redistributors = devices::gic::REDISTRIBUTOR_LEN * self.gic.vcpus as u64;
        vec![
            (layout::GICD, devices::gic::DISTRIBUTOR_LEN, part(PartKind::Distributor)),
            (layout::GICR, redistributors, part(PartKind::Redistributors)),
        ]
    }

    fn its(&self) -> Option<(Window, Arc<dyn MsiSink>)> {
        self.gic.its.as_ref()?;
        let part = Part { part: PartKind::Its, gic: Arc::clone(&self.gic), vm: Arc::clone(&self.vm) };
        let window: Window = (layout::ITS, devices::gic::its::ITS_LEN, Arc::new(part));
        Some((window, Arc::clone(&self.gic) as Arc<dyn MsiSink>))
    }

    fn doorbells(&self) -> Option<Arc<dyn KernelDoorbells>> {
        self.vm.fd.check_extension(Cap::Ioeventfd).then(|| Arc::new(super::doorbells::Ioeventfd::new(&self.vm.fd)) as _)
    }

    fn config_memory(&self, address: u64, functions: usize) -> Option<Arc<dyn ConfigMemory>> {
        super::config_memory::ConfigPages::new(&self.vm.fd, address, functions).map(|pages| Arc::new(pages) as _)
    }

    fn report(&self) -> String {
        let _quiet = self.vm.quiet();
        match Distributor::read(&*self.gic, layout::SPIS) {
            Ok(state) => format!("GICv3 of the kernel: {} vCPUs\n{}", self.gic.vcpus, state.report()),
            Err(error) => format!("GICv3 of the kernel: busy ({error})"),
        }
    }
}

/// A register window that the kernel serves; here it is saved, loaded and reset.
struct Part {
    part: PartKind,
    gic: Arc<KernelGic>,
    vm: Arc<KvmVm>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum PartKind {
    Distributor,
    Redistributors,
    Its,
}

impl Part {
    fn kind(&self) -> (&'static str, u64) {
        match self.part {
            PartKind::Distributor => DISTRIBUTOR,
            PartKind::Redistributors => REDISTRIBUTORS,
            PartKind::Its => ITS,
        }
    }

    fn redistributors(&self) -> Result<Vec<Redistributor>, kvm_ioctls::Error> {
        self.gic.routes.settle();
        if self.gic.its.is_some() {
            let save = KVM_DEV_ARM_VGIC_SAVE_PENDING_TABLES.into();
            set(&self.gic.gic, KVM_DEV_ARM_VGIC_GRP_CTRL, save, &0u64)?;
        }
        (0..self.gic.vcpus).map(|vcpu| self.redistributor(vcpu)).collect()
    }

    fn redistributor(&self, vcpu: usize) -> Result<Redistributor, kvm_ioctls::Error> {
        let mut state = Redistributor::read(&*self.gic, vcpu)?;
        if let (Some(its), Some(tables)) = (&self.gic.its, state.lpi_tables()) {
            state.set_pending_lpis(its.take_pending(tables));
        }
        Ok(state)
    }

    fn save_kernel(&self) -> Result<Value, String> {
        let failed = |e: kvm_ioctls::Error| format!("the kernel's interrupt controller is not saved: {e}");
        let (_, version) = self.kind();
        Ok(match (self.part, &self.gic.its) {
            (PartKind::Distributor, _) => {
                state::pack(version, &Distributor::read(&*self.gic, layout::SPIS).map_err(failed)?)
            }
            (PartKind::Redistributors, _) => state::pack(version, &self.redistributors().map_err(failed)?),
            (PartKind::Its, Some(its)) => state::pack(version, &its.save()?),
            (PartKind::Its, None) => Value::Null,
        })
    }

    fn reset_kernel(&self) -> Result<(), kvm_ioctls::Error> {
        let _quiet = self.vm.quiet();
        match self.part {
            PartKind::Distributor => self.gic.reset_distributor(),
            PartKind::Redistributors => self.gic.reset_redistributors(),
            PartKind::Its => self.gic.its.as_ref().map_or(Ok(()), KernelIts::reset),
        }
    }

    fn load_kernel(&self, value: &Value) -> Result<(), StateError> {
        let (name, version) = self.kind();
        let failed = |e: kvm_ioctls::Error| StateError::machine(name, format!("is refused by the kernel ({e})"));
        let _quiet = self.vm.quiet();
        match self.part {
            PartKind::Distributor => {
                let saved: Distributor = state::unpack(name, version, value)?;
                if saved.spis() != layout::SPIS {
                    return Err(StateError::machine(name, format!("has {} SPIs", layout::SPIS)));
                }
                saved.write(&*self.gic).map_err(failed)
            }
            PartKind::Redistributors => {
                let saved: Vec<Redistributor> = state::unpack(name, version, value)?;
                if saved.len() != self.gic.vcpus {
                    return Err(StateError::machine(name, format!("serves {} vCPUs", self.gic.vcpus)));
                }
                let with_tables = saved.iter().filter_map(|state| Some((state.lpi_tables()?, state.pending_lpis())));
                for (tables, pending) in with_tables {
                    let Some(its) = &self.gic.its else {
                        return Err(StateError::machine(
                            name,
                            "has no LPIs: save with --transport mmio, or load with pci",
                        ));
                    };
                    its.load_pending(tables, pending);
                }
                (0..).zip(saved).try_for_each(|(vcpu, state)| state.write(&*self.gic, vcpu)).map_err(failed)
            }
            PartKind::Its => {
                let saved: gic_state::Its = state::unpack(name, version, value)?;
                self.gic.its.as_ref().map_or(Ok(()), |its| its.load(saved))
            }
        }
    }
}

impl MmioDevice for Part {
    fn name(&self) -> &str {
        self.kind().0
    }

    fn read(&self, offset: u64, size: u8) -> Result<u64, AccessError> {
        Err(AccessError { offset, size })
    }

    fn write(&self, offset: u64, size: u8, _: u64) -> Result<(), AccessError> {
        Err(AccessError { offset, size })
    }

    fn counters(&self) -> Value {
        if self.part == PartKind::Its { self.gic.routes.counters() } else { Value::Null }
    }

    fn reset(&self) {
        self.gic.routes.settle();
        if let Err(error) = self.reset_kernel() {
            crate::console::terminal::message(&format!("vmm: {} is not reset: {error}", self.name()));
        }
    }

    fn save(&self) -> Value {
        let _quiet = self.vm.quiet();
        self.save_kernel().unwrap_or_else(|error| {
            // No machine takes this form.
            crate::console::terminal::message(&format!("vmm: {error}"));
            Value::Null
        })
    }

    fn load(&self, value: &Value) -> Result<(), StateError> {
        self.load_kernel(value)
    }
}
