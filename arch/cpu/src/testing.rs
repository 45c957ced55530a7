//! What the tests share: RAM from the heap and a machine that records what the PE asks of it.

use std::sync::{Arc, Mutex};

use crate::outside::{BusFault, Conduit, Outside, SgiGroup, SmcccOutcome};
use crate::{Clock, CpuConfig, Ram, Vcpu, VmShared};

/// Where test RAM begins.
pub const RAM_BASE: u64 = 0x4000_0000;

/// Zeroed RAM of `len` bytes at `base`.
pub fn ram(base: u64, len: u64) -> Ram {
    Ram::allocated(&[(base, len)]).unwrap()
}

/// Calls seen.
#[derive(Debug, Default)]
pub struct Machine {
    pub log: Mutex<Vec<String>>,
    /// When set, private lines go to the CPU interface at priority 0x80 (one at a time).
    pub wire: Mutex<Option<Arc<VmShared>>>,
}

impl Machine {
    fn note(&self, what: String) {
        self.log.lock().unwrap().push(what);
    }
}

impl Outside for Machine {
    fn mmio_read(&self, _vcpu: usize, pa: u64, size: u8) -> Result<u64, BusFault> {
        self.note(format!("read {pa:#x} {size}"));
        if pa < 0x1000_0000 { Ok(pa ^ 0x55) } else { Err(BusFault) }
    }
    fn mmio_write(&self, _vcpu: usize, pa: u64, size: u8, value: u64) -> Result<(), BusFault> {
        self.note(format!("write {pa:#x} {size} {value:#x}"));
        if pa < 0x1000_0000 { Ok(()) } else { Err(BusFault) }
    }
    fn gic_acknowledge(&self, _vcpu: usize, intid: u32) -> bool {
        self.note(format!("acknowledge {intid}"));
        true
    }
    fn gic_deactivate(&self, _vcpu: usize, intid: u32) {
        self.note(format!("deactivate {intid}"));
    }
    fn gic_send_sgi(&self, _vcpu: usize, sgir: u64, group: SgiGroup) {
        self.note(format!("sgi {sgir:#x} {group:?}"));
    }
    fn gic_set_ppi(&self, vcpu: usize, intid: u32, level: bool) {
        self.note(format!("ppi {intid} {level}"));
        if let Some(vm) = &*self.wire.lock().unwrap() {
            vm.vcpus[vcpu].publish_irq(1, level.then_some((0x80, intid)));
        }
    }
    fn smccc(&self, _vcpu: usize, conduit: Conduit, imm: u16, regs: &mut [u64; 18]) -> SmcccOutcome {
        self.note(format!("{conduit:?} {imm} {:#x}", regs[0]));
        match regs[0] {
            0x8400_0008 => SmcccOutcome::Shutdown,
            0x8400_0002 => SmcccOutcome::CpuOff,
            _ => {
                regs[0] = u64::MAX;
                SmcccOutcome::Continue
            }
        }
    }
}

/// A machine of `vcpus` PEs with `len` bytes of RAM.
pub fn vm(vcpus: usize, len: u64) -> (Arc<VmShared>, Arc<Machine>) {
    let vm = VmShared::new(ram(RAM_BASE, len), Arc::new(Clock::new()), vcpus, CpuConfig::max());
    (vm, Arc::new(Machine::default()))
}

/// One PE with 1 MiB of RAM.
pub fn pe() -> (Box<Vcpu>, Arc<Machine>) {
    let (vm, machine) = vm(1, 1 << 20);
    (Vcpu::new(0, vm, machine.clone()), machine)
}
