//! The translator at work on small programs.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

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
    vcpus(1).remove(0)
}

/// The vCPUs of one machine.
pub fn vcpus(count: usize) -> Vec<Box<Vcpu>> {
    let host = Box::leak(vec![0u8; SIZE + 4096].into_boxed_slice()).as_mut_ptr();
    let host = host.wrapping_add(host.align_offset(4096));
    // SAFETY: leaked memory, page aligned, SIZE bytes long.
    let ram = unsafe { Ram::new(&[(BASE, SIZE as u64, host)]) }.expect("aligned");
    let vm = VmShared::new(ram, Arc::new(Clock::new()), count, CpuConfig::max());
    (0..count).map(|i| Vcpu::new(i, vm.clone(), Arc::new(Nothing))).collect()
}

fn jit(words: &[u32]) -> Option<crate::HugeBox<JitCpu>> {
    jit_with(words, 4 << 20)
}

fn jit_with(words: &[u32], cache_bytes: usize) -> Option<crate::HugeBox<JitCpu>> {
    let shared = JitShared::new(Options { cache_bytes, ..Options::default() }).ok()?;
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
    assert_eq!(stop, Stop::Shutdown);
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

const HVC: u32 = 0xd400_0002;

#[test]
fn executed_instructions_are_counted_one_by_one() {
    // A loop inside a unit, a call, a conditional exit, an inner forward branch; counted by hand.
    let words = [
        0x5280_0140, // mov w0, #10
        0xf100_0400, // 1: subs x0, x0, #1
        0x3600_0040, // tbz w0, #0, 2f
        0x9100_0421, // add x1, x1, #1
        0xb5ff_ffa0, // 2: cbnz x0, 1b
        0x9400_0002, // bl 3f
        HVC,
        0xd65f_03c0, // 3: ret
    ];
    let options = Options { cache_bytes: 4 << 20, count_executed: true, ..Options::default() };
    let Ok(shared) = JitShared::new(options) else { return };
    let mut v = vcpu();
    for (i, w) in words.iter().enumerate() {
        v.vm.ram.write_bytes(BASE + 4 * i as u64, &w.to_le_bytes());
    }
    v.reset(BASE, [0; 4]);
    let mut j = JitCpu::new(v, shared).expect("maps");
    assert_eq!(j.run(), Stop::Shutdown);
    assert_eq!(j.vcpu.arch.x[1], 5);
    // mov; ten rounds of three with five additions; bl, ret, hvc.
    assert_eq!(j.counters.executed, 1 + 10 * 3 + 5 + 3, "{}", j.counters.report());
}

#[test]
fn a_multiplication_by_zero_in_between_is_not_taken_for_the_factor_before() {
    let words = [
        0x9bc6_7df8, // umulh x24, x15, x6
        0x9bc4_7ffc, // umulh x28, xzr, x4
        0x9bcf_7db2, // umulh x18, x13, x15
        HVC,
    ];
    let Some(mut j) = jit_with(&words, 4 << 20) else { return };
    let x = &mut j.vcpu.arch.x;
    (x[6], x[4], x[13], x[15]) = (3 << 62, 5, 0xfb4d_f662_3c9c_fadb, 1 << 32);
    assert_eq!(j.run(), Stop::Shutdown);
    assert_eq!([24, 28, 18].map(|n| j.vcpu.arch.x[n]), [3 << 30, 0, 0xfb4d_f662]);
}

fn branch(from: usize, to: usize) -> u32 {
    0x1400_0000 | (to.wrapping_sub(from) as u32 & 0x3ff_ffff)
}

/// `blocks` blocks of eight additions to X1, each jumping to the next, X0 times over; HVC at the end.
fn long_walk(blocks: usize) -> Vec<u32> {
    let mut words = Vec::new();
    for _ in 0..blocks {
        words.extend([0x9100_0421; 8]); // add x1, x1, #1
        let at = words.len();
        words.extend([branch(at, at + 2), HVC]);
    }
    words.push(0xf100_0400); // subs x0, x0, #1
    let at = words.len();
    words.push(0x5400_0001 | ((0usize.wrapping_sub(at) as u32 & 0x7ffff) << 5)); // b.ne first
    words.push(HVC);
    words
}

#[test]
fn a_full_code_cache_loses_its_oldest_chunks_and_execution_goes_on() {
    let Some(mut j) = jit_with(&long_walk(8000), 1 << 16) else { return };
    j.vcpu.arch.x[0] = 2;
    assert_eq!(j.run(), Stop::Shutdown);
    assert_eq!(j.vcpu.arch.x[1], 2 * 8000 * 8);
    let c = &j.counters;
    assert!(c.chunks_evicted > 4 && c.no_chunk == 0 && c.links > 1000, "{}", c.report());
}

#[test]
fn vcpus_share_code_and_a_cache_that_is_too_small() {
    for (bytes, times) in [(1 << 16, 4u64), (8 << 20, 20)] {
        let Ok(shared) = JitShared::new(Options { cache_bytes: bytes, ..Options::default() }) else { return };
        let vcpus = vcpus(3);
        for (i, w) in long_walk(8000).iter().enumerate() {
            vcpus[0].vm.ram.write_bytes(BASE + 4 * i as u64, &w.to_le_bytes());
        }
        let mut cpus: Vec<_> = vcpus.into_iter().map(|v| JitCpu::new(v, shared.clone()).expect("maps")).collect();
        std::thread::scope(|s| {
            for j in &mut cpus {
                j.vcpu.reset(BASE, [times, 0, 0, 0]);
                s.spawn(|| assert_eq!(j.run(), Stop::Shutdown));
            }
        });
        let made: u64 = cpus.iter().map(|j| j.counters.fragments).sum();
        for j in &cpus {
            assert_eq!(j.vcpu.arch.x[1], times * 8000 * 8, "{}", j.counters.report());
        }
        if bytes > 1 << 20 {
            assert!((1200..1500).contains(&made), "{made}");
            assert!(cpus.iter().all(|j| j.counters.chunks_evicted == 0));
        }
    }
}

#[test]
fn memory_is_given_back_under_vcpus_that_run() {
    let optimise = crate::Optimisations::ALL.with(crate::Optimisation::RevivedCode, false);
    let options = Options { cache_bytes: 8 << 20, optimise, ..Options::default() };
    let Ok(shared) = JitShared::new(options) else { return };
    let vcpus = vcpus(3);
    for (i, w) in long_walk(8000).iter().enumerate() {
        vcpus[0].vm.ram.write_bytes(BASE + 4 * i as u64, &w.to_le_bytes());
    }
    let mut cpus: Vec<_> = vcpus.into_iter().map(|v| JitCpu::new(v, shared.clone()).expect("maps")).collect();
    let code = cpus[0].code.clone();
    let (times, mut taken) = (300u64, None);
    let vm = cpus[0].vcpu.vm.clone();
    for _ in 0..100 {
        // All is translated anew, so chunks become full.
        vm.code.invalidate_all();
        let running = AtomicUsize::new(cpus.len());
        std::thread::scope(|s| {
            for j in &mut cpus {
                j.vcpu.reset(BASE, [times, 0, 0, 0]);
                s.spawn(|| {
                    let stop = j.run();
                    running.fetch_sub(1, Ordering::SeqCst);
                    assert_eq!(stop, Stop::Shutdown);
                });
            }
            while running.load(Ordering::SeqCst) != 0 {
                // Takes a block's chunks, so that vCPUs fill others and whole blocks become free.
                for _ in 0..16 {
                    taken = code.next_chunk(taken.take(), &mut 0);
                }
                code.trim_to(0, 0);
                std::thread::yield_now();
            }
        });
        for j in &cpus {
            assert_eq!(j.vcpu.arch.x[1], times * 8000 * 8, "{}", j.counters.report());
        }
        // All are out: what was taken is free, and whole blocks go.
        assert!(code.trim_to(0, 0));
        if code.trimmed() >= 256 {
            return;
        }
    }
    panic!("only {} chunks were taken out under vCPUs that ran", code.trimmed());
}

#[test]
fn code_that_another_vcpu_rewrites_is_followed_at_its_next_isb() {
    // One vCPU writes `movz x1, #n` to f with the maintenance that the architecture asks for, then says so at flag; the other waits for that, ISB, calls f.
    let Ok(shared) = JitShared::new(Options { cache_bytes: 1 << 16, ..Options::default() }) else { return };
    let mut two = vcpus(2);
    let (f, flag) = (BASE + 0x2000, BASE + 0x3000);
    let vm = two[0].vm.clone();
    let put = |at: u64, words: &[u32]| {
        for (i, w) in words.iter().enumerate() {
            vm.ram.write_bytes(at + 4 * i as u64, &w.to_le_bytes());
        }
    };
    put(f, &[0xd280_0001, 0xd65f_03c0]); // movz x1, #0; ret
    // x2 = f, x3 = flag, x4 = movz x1, #0, x5 = acknowledgement, x6 = rounds
    let writer = [
        0x9100_0400u32, // add x0, x0, #1
        0x2a00_1487,    // orr w7, w4, w0, lsl #5
        0xb900_0047,    // str w7, [x2]
        0xd50b_7b22,    // dc cvau, x2
        0xd503_3b9f,    // dsb ish
        0xd50b_7522,    // ic ivau, x2
        0xd503_3b9f,    // dsb ish
        0xc89f_fc60,    // stlr x0, [x3]
        0xc8df_fca7,    // ldar x7, [x5]
        0xeb00_00ff,    // cmp x7, x0
        0x54ff_ffc1,    // b.ne .-8
        0xeb06_001f,    // cmp x0, x6
        0x54ff_fe81,    // b.ne .-48
        HVC,
    ];
    let reader = [
        0x9100_0400u32, // add x0, x0, #1
        0xc8df_fc67,    // ldar x7, [x3]
        0xeb00_00ff,    // cmp x7, x0
        0x54ff_ffc1,    // b.ne .-8
        0xd503_3fdf,    // isb
        0xd63f_0040,    // blr x2
        0xeb00_003f,    // cmp x1, x0
        0x5400_00a1,    // b.ne .+20
        0xc89f_fca0,    // stlr x0, [x5]
        0xeb06_001f,    // cmp x0, x6
        0x54ff_fec1,    // b.ne .-40
        HVC,
        HVC,
    ];
    put(BASE, &writer);
    put(BASE + 0x1000, &reader);
    let rounds = 3000u64;
    let mut cpus: Vec<_> = two.drain(..).map(|v| JitCpu::new(v, shared.clone()).expect("maps")).collect();
    for (n, j) in cpus.iter_mut().enumerate() {
        j.vcpu.reset(BASE + 0x1000 * n as u64, [0; 4]);
        let x = &mut j.vcpu.arch.x;
        (x[2], x[3], x[4], x[5], x[6]) = (f, flag, 0xd280_0001, flag + 64, rounds);
    }
    std::thread::scope(|s| {
        for j in &mut cpus {
            s.spawn(|| assert_eq!(j.run(), Stop::Shutdown));
        }
    });
    assert_eq!(cpus[1].vcpu.arch.x[..2], [rounds, rounds], "{}", cpus[1].counters.report());
}

#[test]
fn changed_code_is_executed_after_ic_ivau() {
    // Calls f, overwrites its first instruction (mov x0, #1 by mov x0, #2), IC IVAU, ISB, calls it again.
    let words = [
        0x9400_000d, // 0: bl f
        0xaa00_03e1, // mov x1, x0
        0x1000_0182, // adr x2, f
        0x5280_0043, // mov w3, #2
        0x5280_0004, // mov w4, #0
        0xf2ba_5004, // movk x4, #0xd280, lsl #16
        0x2a03_1484, // orr w4, w4, w3, lsl #5
        0xb900_0044, // str w4, [x2]
        0xd50b_7b22, // dc cvau, x2
        0xd503_3b9f, // dsb ish
        0xd50b_7522, // ic ivau, x2
        0xd503_3fdf, // isb
        0x9400_0002, // bl f
        HVC,
        0xd280_0020, // 14: f: mov x0, #1
        0xd65f_03c0, // ret
    ];
    let mut words = words;
    // The targets, computed rather than counted.
    let f = 14usize;
    words[0] = 0x9400_0000 | f as u32;
    words[2] = 0x1000_0002 | ((f - 2) as u32) << 5;
    words[12] = 0x9400_0000 | (f - 12) as u32;
    let Some(mut j) = jit(&words) else { return };
    assert_eq!(j.run(), Stop::Shutdown);
    assert_eq!((j.vcpu.arch.x[1], j.vcpu.arch.x[0]), (1, 2), "{}", j.counters.report());
    assert!(j.counters.pages_dropped > 0, "{}", j.counters.report());
}

#[test]
fn branches_to_strange_addresses_fault_there() {
    for target in [1u64, 2, 0x4000_0002, 0xffff_ffff_ffff_fffc, 0x0055_5555_5555_5000] {
        let words = [0xd61f_0020]; // br x1
        let Some(mut j) = jit(&words) else { return };
        // Vectors: HVC at each entry.
        for n in 0..16u64 {
            j.vcpu.vm.ram.write_bytes(BASE + 0x10000 + n * 0x80, &HVC.to_le_bytes());
        }
        j.vcpu.arch.set_sys(cpu::sysreg::Slot::VBAR_EL1, BASE + 0x10000);
        j.vcpu.arch.x[1] = target;
        assert_eq!(j.run(), Stop::Shutdown);
        assert_eq!(j.vcpu.arch.sys(cpu::sysreg::Slot::ELR_EL1), target, "target {target:#x}");
    }
}

#[test]
fn a_tight_loop_notices_a_request() {
    let Some(mut j) = jit(&[0x1400_0000]) else { return }; // b .
    let shared = j.vcpu.shared.clone();
    let kicker = std::thread::spawn(move || {
        std::thread::sleep(std::time::Duration::from_millis(5));
        shared.request_pause();
    });
    assert_eq!(j.run(), Stop::Paused);
    assert_eq!(j.vcpu.arch.pc, BASE);
    kicker.join().expect("kicks");
}
