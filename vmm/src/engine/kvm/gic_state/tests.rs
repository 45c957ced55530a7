//! The form is the one of the emulated controller, and what is written is read back.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::convert::Infallible;
use std::sync::Arc;

use devices::gic::REDISTRIBUTOR_LEN;
use devices::{CpuInterfaceSink, Gic, MmioDevice};
use serde_json::Value;

use super::*;

struct Nobody;

impl CpuInterfaceSink for Nobody {
    fn publish(&self, _: usize, _: usize, _: Option<(u8, u32)>) {}
}

/// Registers with the kernel's rules: set and clear registers change one state, `SET_PENDING` reads the latch.
#[derive(Default)]
struct Kernel(RefCell<BTreeMap<(u8, usize, u64), u32>>);

impl Kernel {
    fn key(register: Register) -> (u8, usize, u64) {
        match register {
            Register::Distributor(offset) => (0, 0, offset),
            Register::Redistributor(vcpu, offset) => (1, vcpu, offset),
            Register::Levels(vcpu, first) => (2, if first < 32 { vcpu } else { 0 }, first.into()),
        }
    }
}

impl Port for Kernel {
    type Error = Infallible;
    fn read(&self, register: Register) -> Result<u32, Infallible> {
        Ok(self.0.borrow().get(&Kernel::key(register)).copied().unwrap_or(0))
    }
    fn write(&self, register: Register, value: u32) -> Result<(), Infallible> {
        let (file, vcpu, offset) = Kernel::key(register);
        let mut registers = self.0.borrow_mut();
        let frame = offset & !0xffff;
        let (place, set) = match offset & 0xffff {
            low @ (0x100..0x180 | 0x200..0x280 | 0x300..0x380) if file < 2 => (frame | low, true),
            low @ (0x180..0x200 | 0x280..0x300 | 0x380..0x400) if file < 2 => {
                *registers.entry((file, vcpu, frame | (low - 0x80))).or_default() &= !value;
                return Ok(());
            }
            _ => (offset, false),
        };
        let cell = registers.entry((file, vcpu, place)).or_default();
        *cell = if set { *cell | value } else { value };
        Ok(())
    }
}

/// A controller in which something is going on.
fn busy() -> Arc<Gic> {
    let gic = Gic::new(2, 224, Arc::new(Nobody)).unwrap();
    let distributor = gic.distributor();
    let redistributors = gic.redistributors();
    let write = |device: &Arc<dyn MmioDevice>, offset: u64, size: u8, value: u64| device.write(offset, size, value);
    write(&distributor, 0x084, 4, 0xffff_ffff).unwrap();
    write(&distributor, 0x104, 4, 0x8000_00f0).unwrap();
    write(&distributor, 0x424, 4, 0x1122_3344).unwrap();
    write(&distributor, 0xc08, 4, 0x0000_0a00).unwrap();
    write(&distributor, 0x204, 4, 0x0000_0300).unwrap();
    write(&distributor, 0x6000 + 8 * 40, 8, 1).unwrap();
    write(&distributor, 0x0000, 4, 3).unwrap();
    for vcpu in 0..2 {
        let sgi = vcpu * REDISTRIBUTOR_LEN + 0x1_0000;
        write(&redistributors, sgi + 0x080, 4, 0xffff_0000).unwrap();
        write(&redistributors, sgi + 0x100, 4, 0x0800_ffff).unwrap();
        write(&redistributors, sgi + 0x418, 4, 0xa0b0_c0d0).unwrap();
        write(&redistributors, sgi + 0x200, 4, 0x0000_0007 << vcpu).unwrap();
    }
    gic.set_spi(5, true);
    gic.set_ppi(1, 27, true);
    assert!(gic.acknowledge(0, 0) || gic.acknowledge(1, 1));
    gic
}

fn inner<T: for<'a> Deserialize<'a>>(value: &Value) -> T {
    serde_json::from_value(value["state"].clone()).unwrap()
}

#[test]
fn the_emulated_controllers_state_goes_through_the_kernel_and_back() {
    let gic = busy();
    let (before, private) = (gic.distributor().save(), gic.redistributors().save());
    let distributor: Distributor = inner(&before);
    let redistributors: Vec<Redistributor> = inner(&private);
    assert_eq!((distributor.spis(), redistributors.len()), (224, 2));
    let kernel = Kernel::default();
    let Ok(()) = distributor.write(&kernel);
    for (vcpu, redistributor) in redistributors.iter().enumerate() {
        let Ok(()) = redistributor.write(&kernel, vcpu);
    }
    let Ok(read) = Distributor::read(&kernel, 224);
    assert_eq!(read, distributor);
    assert!(read.report().lines().any(|line| line.contains("INTID 37:") && line.contains("line-high")));
    assert!(redistributors.iter().all(|state| state.lpi_tables().is_none()));
    let other = Gic::new(2, 224, Arc::new(Nobody)).unwrap();
    let wrap = |version: &Value, state: Value| serde_json::json!({ "version": version["version"], "state": state });
    other.distributor().load(&wrap(&before, serde_json::to_value(read).unwrap())).unwrap();
    let read: Vec<Redistributor> = (0..2).map(|vcpu| Redistributor::read(&kernel, vcpu).unwrap()).collect();
    other.redistributors().load(&wrap(&private, serde_json::to_value(&read).unwrap())).unwrap();
    assert_eq!(other.distributor().save(), before);
    for (read, saved) in read.iter().zip(&redistributors) {
        // SGIs are edge triggered without a register that says so, and a kernel's redistributor never sleeps.
        assert_eq!((read.bank.edge | 0xffff, &read.bank.priority), (saved.bank.edge, &saved.bank.priority));
        assert_eq!((read.bank.latch, read.bank.active), (saved.bank.latch, saved.bank.active));
        assert_eq!((read.bank.line, read.bank.enabled), (saved.bank.line, saved.bank.enabled));
    }
}

#[test]
fn reset_is_the_emulated_controllers_reset() {
    let gic = busy();
    let (distributor, private) = (gic.distributor().save(), gic.redistributors().save());
    let distributor = inner::<Distributor>(&distributor).after_reset();
    let private: Vec<_> = inner::<Vec<Redistributor>>(&private).iter().map(Redistributor::after_reset).collect();
    gic.distributor().reset();
    gic.redistributors().reset();
    assert_eq!(distributor, inner(&gic.distributor().save()));
    assert_eq!(private, inner::<Vec<Redistributor>>(&gic.redistributors().save()));
}

#[test]
fn the_cpu_interface_has_the_form_of_the_emulated_one() {
    let value = serde_json::to_value(cpu::gic::CpuInterface::default()).unwrap();
    let here: CpuInterface = serde_json::from_value(value.clone()).unwrap();
    assert_eq!(serde_json::to_value(here).unwrap(), value);
}

#[test]
fn lpis_and_its_have_the_form_of_the_emulated_ones() {
    let memory = Arc::new(devices::virtio::GuestMemory::from_ranges(&[(vm_memory::GuestAddress(0), 1 << 20)]).unwrap());
    let gic = Gic::with_lpis(1, 224, Arc::new(Nobody), memory).unwrap();
    let its = devices::Its::new(&gic, 0x808_0000).unwrap();
    let wide = |offset: u64, value: u64| gic.redistributors().write(offset, 8, value).unwrap();
    wide(0x70, 0x2_0000 | 15);
    wide(0x78, 0x1_0000);
    gic.redistributors().write(0, 4, 1).unwrap();
    let mut state: Vec<Redistributor> = inner(&gic.redistributors().save());
    state[0].set_pending_lpis(vec![(8200, 0xa1)]);
    assert_eq!(state[0].pending_lpis(), [(8200, 0xa1)]);
    let other = serde_json::json!({ "version": gic.redistributors().save()["version"], "state": state });
    gic.redistributors().load(&other).unwrap();
    assert_eq!(inner::<Vec<Redistributor>>(&gic.redistributors().save())[0].pending_lpis(), [(8200, 0xa1)]);
    assert_eq!(state[0].lpi_tables(), Some(LpiTables { propbaser: 0x2_000f, pendbaser: 0x1_0000 }));
    for (offset, value) in [(0x80, 1 << 63 | 0x3_0000), (0x100, 1 << 63 | 0x4_0200), (0x108, 1 << 63 | 0x5_0200)] {
        its.write(offset, 8, value).unwrap();
    }
    its.write(0x88, 8, 0x20).unwrap();
    let saved = its.save();
    let state: Its = inner(&saved);
    let baser = [1 << 63 | 0x4_0200, 1 << 63 | 0x5_0200];
    assert_eq!(state, Its { enabled: false, cbaser: 1 << 63 | 0x3_0000, cwriter: 0x20, creadr: 0, baser });
    assert_eq!(saved["version"], 2, "as `gic.rs` says");
    assert_eq!(serde_json::to_value(state).unwrap(), saved["state"]);
}
