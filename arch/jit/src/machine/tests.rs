//! The translator at work on small programs.

use std::sync::Arc;

use cpu::{BusFault, Clock, Conduit, CpuConfig, Outside, Ram, SgiGroup, SmcccOutcome, Stop, Vcpu, VmShared};

use super::{JitCpu, JitShared, Options};

pub const BASE: u64 = 0x4000_0000;
pub const SIZE: usize = 4 << 20;

/// A machine without devices whose HVC ends the run.
pub struct Nothing;

impl Outside for Nothing {
    fn mmio_read(&self, _: usize, _: u64, _: u8) -> Result<u64, BusFault> {
        Err(BusFault)
    }
    fn mmio_write(&self, _: usize, _: u64, _: u8, _: u64) -> Result<(), BusFault> {
        Err(BusFault)
    }
    fn gic_acknowledge(&self, _: usize, _: u32) -> bool {
        false
    }
    fn gic_deactivate(&self, _: usize, _: u32) {}
    fn gic_send_sgi(&self, _: usize, _: u64, _: SgiGroup) {}
    fn gic_set_ppi(&self, _: usize, _: u32, _: bool) {}
    fn smccc(&self, _: usize, _: Conduit, _: u16, _: &mut [u64; 18]) -> SmcccOutcome {
        SmcccOutcome::Shutdown
    }
}

pub fn vcpu() -> Box<Vcpu> {
    let host = Box::leak(vec![0u8; SIZE + 4096].into_boxed_slice()).as_mut_ptr();
    let host = host.wrapping_add(host.align_offset(4096));
    // SAFETY: leaked memory, page aligned, SIZE bytes long.
    let ram = unsafe { Ram::new(&[(BASE, SIZE as u64, host)]) }.expect("aligned");
    let vm = VmShared::new(ram, Arc::new(Clock::new()), 1, CpuConfig::max());
    Vcpu::new(0, vm, Arc::new(Nothing))
}

fn jit(words: &[u32]) -> Option<Box<JitCpu>> {
    let shared = JitShared::new(Options { cache_bytes: 4 << 20, ..Options::default() }).ok()?;
    let mut v = vcpu();
    for (i, w) in words.iter().enumerate() {
        v.vm.ram.write_bytes(BASE + 4 * i as u64, &w.to_le_bytes());
    }
    v.reset(BASE, [0; 4]);
    Some(JitCpu::new(v, shared).expect("maps"))
}

#[test]
fn a_loop_with_calls_and_memory() {
    let words = [
        0x52800c80, // mov w0, #100
        0xd2800001, // mov x1, #0
        0xd2a80405, // mov x5, #0x40200000
        0xf90000a1, // 1: str x1, [x5]
        0xf94000a4, // ldr x4, [x5]
        0x94000005, // bl 2f
        0xaa0403e1, // mov x1, x4
        0xf1000400, // subs x0, x0, #1
        0x54ffff61, // b.ne 1b
        0xd4000002, // hvc #0
        0x8b000084, // 2: add x4, x4, x0
        0xd65f03c0, // ret
    ];
    let Some(mut j) = jit(&words) else { return };
    let stop = j.run();
    assert!(matches!(stop, Stop::Shutdown | Stop::Internal(_)), "{stop:?}");
    assert_eq!(
        j.vcpu.arch.x[1],
        5050,
        "{stop:?} pc {:#x} x {:x?}\n{}",
        j.vcpu.arch.pc,
        j.vcpu.arch.x,
        j.counters.report()
    );
    assert_eq!(j.vcpu.arch.x[0], 0);
    assert!(j.counters.links > 0 && j.counters.fragments >= 3, "{}", j.counters.report());
}
