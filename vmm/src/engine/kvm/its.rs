//! The kernel's ITS: its registers, and its tables in guest RAM, which are saved in the form of the emulated one.

use std::sync::{Mutex, PoisonError};

use devices::StateError;
use devices::gic::its::linked::LinkedTables;
use kvm_bindings::*;
use kvm_ioctls::DeviceFd;

use super::gic::{get, set};
use super::gic_state::{Its, LpiTables};
use crate::machine::ram::GuestRam;

const NAME: &str = "gicv3-its";

/// Offsets of its registers.
mod reg {
    pub const CTLR: u64 = 0x0000;
    pub const CBASER: u64 = 0x0080;
    pub const CWRITER: u64 = 0x0088;
    pub const CREADR: u64 = 0x0090;
    pub const BASER: [u64; 2] = [0x0100, 0x0108];
    pub const CTLR_ENABLED: u64 = 1;
}

/// What is loaded when guest RAM is in place.
#[derive(Default)]
struct Waiting {
    its: Option<Its>,
    lpis: Vec<(LpiTables, Vec<(u32, u8)>)>,
}

/// The device.
pub(super) struct KernelIts {
    device: DeviceFd,
    ram: GuestRam,
    waiting: Mutex<Waiting>,
}

impl KernelIts {
    pub(super) fn new(device: DeviceFd, ram: GuestRam) -> KernelIts {
        KernelIts { device, ram, waiting: Mutex::default() }
    }

    pub(super) fn device(&self) -> &DeviceFd {
        &self.device
    }

    fn waiting(&self) -> std::sync::MutexGuard<'_, Waiting> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn command(&self, attr: u32) -> Result<(), kvm_ioctls::Error> {
        set(&self.device, KVM_DEV_ARM_VGIC_GRP_CTRL, attr.into(), &0u64)
    }

    fn read(&self, offset: u64) -> Result<u64, kvm_ioctls::Error> {
        get(&self.device, KVM_DEV_ARM_VGIC_GRP_ITS_REGS, offset)
    }

    fn write(&self, offset: u64, value: u64) -> Result<(), kvm_ioctls::Error> {
        set(&self.device, KVM_DEV_ARM_VGIC_GRP_ITS_REGS, offset, &value)
    }

    pub(super) fn reset(&self) -> Result<(), kvm_ioctls::Error> {
        *self.waiting() = Waiting::default();
        self.command(KVM_DEV_ARM_ITS_CTRL_RESET)
    }

    /// Registers; the tables are brought up to date in guest RAM, which is to be saved after this.
    pub(super) fn save(&self) -> Result<Its, String> {
        let failed = |e: kvm_ioctls::Error| format!("the kernel's ITS is not saved: {e}");
        let state = Its {
            enabled: self.read(reg::CTLR).map_err(failed)? & reg::CTLR_ENABLED != 0,
            cbaser: self.read(reg::CBASER).map_err(failed)?,
            cwriter: self.read(reg::CWRITER).map_err(failed)?,
            creadr: self.read(reg::CREADR).map_err(failed)?,
            baser: [self.read(reg::BASER[0]).map_err(failed)?, self.read(reg::BASER[1]).map_err(failed)?],
        };
        let tables = LinkedTables { memory: self.ram.memory(), baser: state.baser };
        // The first pass is for the addresses of the devices' tables.
        tables.clear_devices();
        self.command(KVM_DEV_ARM_ITS_SAVE_TABLES).map_err(failed)?;
        tables.clear_events()?;
        self.command(KVM_DEV_ARM_ITS_SAVE_TABLES).map_err(failed)?;
        tables.unlink();
        Ok(state)
    }

    /// Pending LPIs of a vCPU, which the kernel just saved in guest RAM.
    pub(super) fn take_pending(&self, tables: LpiTables) -> Vec<(u32, u8)> {
        tables.take_pending(self.ram.memory())
    }

    /// Keeps pending LPIs until guest RAM is there.
    pub(super) fn load_pending(&self, tables: LpiTables, pending: &[(u32, u8)]) {
        self.waiting().lpis.push((tables, pending.to_vec()));
    }

    /// Keeps the registers until guest RAM is there.
    pub(super) fn load(&self, state: Its) -> Result<(), StateError> {
        let tables = LinkedTables { memory: self.ram.memory(), baser: state.baser };
        tables.check().map_err(|why| StateError::machine(NAME, format!("cannot take the tables: {why}")))?;
        self.waiting().its = Some(state);
        Ok(())
    }

    /// Guest RAM is there: gives the kernel what waited for it.
    pub(super) fn adopt_ram(&self) -> Result<(), String> {
        let Waiting { its, lpis } = std::mem::take(&mut *self.waiting());
        let memory = self.ram.memory();
        lpis.iter().for_each(|(tables, pending)| tables.put_pending(memory, pending));
        let Some(state) = its else { return Ok(()) };
        LinkedTables { memory, baser: state.baser }.link()?;
        self.restore(&state).map_err(|e| format!("the kernel's ITS does not take what was saved: {e}"))
    }

    fn restore(&self, state: &Its) -> Result<(), kvm_ioctls::Error> {
        // The kernel documents this order. Whatever was there before is forgotten.
        self.command(KVM_DEV_ARM_ITS_CTRL_RESET)?;
        self.write(reg::CBASER, state.cbaser)?;
        self.write(reg::CREADR, state.creadr)?;
        self.write(reg::CWRITER, state.cwriter)?;
        for (offset, value) in reg::BASER.into_iter().zip(state.baser) {
            self.write(offset, value)?;
        }
        self.command(KVM_DEV_ARM_ITS_RESTORE_TABLES)?;
        self.write(reg::CTLR, state.enabled.into())
    }
}
