//! Programs of a few words: what the loop, exceptions, debug, idling and several PEs do together.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use crate::exception::{Exception, ec};
use crate::state::pstate;
use crate::sysreg::{Slot, SysEnc};
use crate::testing::{Machine, RAM_BASE, pe, vm};
use crate::{Stop, Vcpu};

const CODE: u64 = RAM_BASE + 0x1000;
const VECTORS: u64 = RAM_BASE + 0x8000;
const DATA: u64 = RAM_BASE + 0x1_0000;

const B_SELF: u32 = 0x1400_0000;
const ERET: u32 = 0xd69f_03e0;
const ISB: u32 = 0xd503_3fdf;
const DSB: u32 = 0xd503_3f9f;
const WFI: u32 = 0xd503_207f;
const HVC: u32 = 0xd400_0002;
const NOP: u32 = 0xd503_201f;

fn movz(rd: u32, imm: u32) -> u32 {
    0xd280_0000 | imm << 5 | rd
}
fn msr(enc: SysEnc, rt: u32) -> u32 {
    0xd500_0000 | u32::from(enc.0) << 5 | rt
}
fn mrs(rt: u32, enc: SysEnc) -> u32 {
    0xd520_0000 | u32::from(enc.0) << 5 | rt
}
const ADD_X0_1: u32 = 0x9100_0400;
const SUBS_X1_1: u32 = 0xf100_0421;
fn b_ne(words: i32) -> u32 {
    0x5400_0001 | (words as u32 & 0x7_ffff) << 5
}
fn cbnz_w2(words: i32) -> u32 {
    0x3500_0002 | (words as u32 & 0x7_ffff) << 5
}

fn put(v: &Vcpu, at: u64, words: &[u32]) {
    let bytes: Vec<u8> = words.iter().flat_map(|w| w.to_le_bytes()).collect();
    assert!(v.vm.ram.write_bytes(at, &bytes));
    v.vm.code.invalidate_range(&v.vm.ram, at, bytes.len() as u64);
}

/// A PE at CODE with `words` there; each vector loops on itself.
fn program(words: &[u32]) -> (Box<Vcpu>, Arc<Machine>) {
    let (mut v, machine) = pe();
    prepare(&mut v, words);
    (v, machine)
}

fn prepare(v: &mut Vcpu, words: &[u32]) {
    v.reset(CODE, [0; 4]);
    put(v, CODE, words);
    for vector in 0..16 {
        put(v, VECTORS + vector * 0x80, &[B_SELF]);
    }
    v.arch.set_sys(Slot::VBAR_EL1, VECTORS);
}

fn to_el0(v: &mut Vcpu) {
    v.arch.set_sp_of(0, DATA);
    v.arch.set_el_sp(0, 0);
    v.arch.daif = 0;
}

fn last(v: &Vcpu) -> (u8, u32) {
    let r = v.ring.iter().last().expect("no exception was taken");
    ((r.esr >> 26) as u8, (r.esr & 0x1ff_ffff) as u32)
}

#[test]
fn a_loop_counts_and_a_budget_ends() {
    let (mut v, _) = program(&[movz(1, 1000), ADD_X0_1, SUBS_X1_1, b_ne(-2), B_SELF]);
    assert_eq!(v.run_budget(10_000), Stop::Budget);
    assert_eq!((v.arch.x[0], v.arch.x[1], v.arch.pc), (1000, 0, CODE + 16));
    assert!(v.counters.instructions >= 10_000);
}

#[test]
fn step_is_one_instruction_or_one_entry() {
    let (mut v, _) = program(&[ADD_X0_1, 0xd400_0021, NOP]);
    assert_eq!(v.step(), None);
    assert_eq!((v.arch.x[0], v.arch.pc), (1, CODE + 4));
    assert_eq!(v.step(), None);
    assert_eq!((v.arch.pc, last(&v)), (VECTORS + 0x200, (ec::SVC, 1)));
    assert_eq!(v.arch.sys(Slot::ELR_EL1), CODE + 8);
}

#[test]
fn hvc_reaches_the_machine_and_stops() {
    // x0 = 0x84000008 (SYSTEM_OFF).
    let (mut v, machine) = program(&[movz(0, 8), 0xf2b0_8000, HVC | 7 << 5, NOP]);
    assert_eq!(v.run(), Stop::Shutdown);
    assert_eq!(v.arch.pc, CODE + 12, "the call is complete");
    assert!(machine.log.lock().unwrap().contains(&"Hvc 7 0x84000008".to_string()));
    let (mut v, _) = program(&[HVC]);
    to_el0(&mut v);
    v.step();
    assert_eq!(last(&v), (ec::UNKNOWN, 0));
}

#[test]
fn system_call_and_return() {
    let (mut v, _) = program(&[0xd400_0001, ADD_X0_1, B_SELF]);
    put(&v, VECTORS + 0x400, &[ADD_X0_1, ERET]);
    to_el0(&mut v);
    v.run_budget(50);
    assert_eq!((v.arch.x[0], v.arch.el, v.arch.pc), (2, 0, CODE + 8));
    assert_eq!(v.shared.eret_el0.load(Ordering::Relaxed), 1);
}

#[test]
fn faults_have_their_classes() {
    // (words, X1, class, ISS)
    let ldr = 0xf940_0020;
    let br = 0xd61f_0020;
    for (words, x1, class, iss) in [
        (&[0u32][..], 0, ec::UNKNOWN, 0),
        (&[ldr], 0x3000_0000, ec::DATA_ABORT_SAME, 0x10),
        (&[ldr], DATA + 1, ec::DATA_ABORT_SAME, 0x21),
        (&[0xf900_0020], DATA + 1, ec::DATA_ABORT_SAME, 0x61),
        (&[br], CODE + 2, ec::PC_ALIGNMENT, 0),
        (&[br], 0x3000_0000, ec::INSTRUCTION_ABORT_SAME, 0x10),
        (&[0xd420_0860], 0, ec::BRK, 0x43),
        (&[0x1e60_2820], 0, ec::FP, 0x1e0_0000),
    ] {
        let (mut v, _) = program(words);
        v.arch.x[1] = x1;
        v.run_budget(10);
        assert_eq!(last(&v), (class, iss), "{words:x?} {x1:#x}");
    }
    // LDR X0, [SP] with SCTLR.SA and a crooked SP.
    let (mut v, _) = program(&[0xf940_03e0]);
    v.arch.set_sys(Slot::SCTLR_EL1, 1 << 3);
    v.arch.sp = DATA + 8;
    v.step();
    assert_eq!(last(&v), (ec::SP_ALIGNMENT, 0));
}

#[test]
fn an_illegal_return_is_seen_by_the_next_instruction() {
    let (mut v, _) = program(&[ERET]);
    v.arch.set_sys(Slot::SPSR_EL1, 9);
    v.arch.set_sys(Slot::ELR_EL1, CODE + 0x40);
    v.step();
    v.step();
    assert_eq!(last(&v), (ec::ILLEGAL_STATE, 0));
    assert_eq!(v.arch.sys(Slot::SPSR_EL1) & pstate::IL, pstate::IL);
    assert_eq!(v.arch.sys(Slot::ELR_EL1), CODE + 0x40);
}

#[test]
fn new_code_runs_after_ic_ivau_and_isb() {
    let ic_ivau = msr(SysEnc::new(1, 3, 7, 5, 1), 1);
    // STR W2, [X1]; IC IVAU, X1; DSB; ISB; (patched word)
    let (mut v, _) = program(&[0xb900_0022, ic_ivau, DSB, ISB, NOP, B_SELF]);
    v.arch.x[1] = CODE + 16;
    v.arch.x[2] = u64::from(ADD_X0_1);
    // The word has been decoded as NOP before.
    v.arch.pc = CODE + 16;
    v.run_budget(1);
    v.arch.pc = CODE;
    v.run_budget(10);
    assert_eq!(v.arch.x[0], 1);
    // IC IALLU does it as well.
    put(&v, CODE, &[0xb900_0022, msr(SysEnc::new(1, 0, 7, 5, 0), 31), DSB, ISB, NOP, B_SELF]);
    v.arch.pc = CODE + 16;
    v.run_budget(1);
    v.arch.pc = CODE;
    v.run_budget(10);
    assert_eq!(v.arch.x[0], 2);
}

#[test]
fn software_step_goes_one_instruction_at_a_time() {
    let (mut v, _) = program(&[ADD_X0_1, ADD_X0_1, ADD_X0_1, B_SELF]);
    v.msr(SysEnc::new(2, 0, 1, 0, 4), 0, 0).unwrap();
    v.msr(SysEnc::new(2, 0, 0, 2, 2), 0, 1).unwrap();
    // The handler: ERET with SPSR.SS set by hand below.
    for n in 1..=3 {
        v.arch.set_sys(Slot::SPSR_EL1, pstate::SS);
        v.arch.set_sys(Slot::ELR_EL1, CODE + (n - 1) * 4);
        v.arch.set_el_sp(1, 1);
        v.eret();
        assert_eq!(v.arch.ss, 1);
        v.run_budget(3);
        assert_eq!(v.arch.x[0], n);
        assert_eq!(last(&v), (ec::STEP_LOWER, 1 << 24 | 0x22));
        assert_eq!(v.arch.sys(Slot::ELR_EL1), CODE + n * 4);
    }
}

#[test]
fn breakpoints_and_watchpoints_at_el0() {
    let (mut v, _) = program(&[ADD_X0_1, ADD_X0_1, 0xf940_0020, 0xf900_0020, B_SELF]);
    v.msr(SysEnc::new(2, 0, 1, 0, 4), 0, 0).unwrap();
    v.msr(SysEnc::new(2, 0, 0, 2, 2), 0, 1 << 15).unwrap();
    v.msr(SysEnc::new(2, 0, 0, 0, 4), 0, CODE + 4).unwrap();
    v.msr(SysEnc::new(2, 0, 0, 0, 5), 0, 1 | 2 << 1 | 0xf << 5).unwrap();
    to_el0(&mut v);
    v.run_budget(8);
    assert_eq!((last(&v), v.arch.x[0]), ((ec::BREAKPOINT_LOWER, 0x22), 1));
    // Off with it; watch stores to DATA + 8.
    v.msr(SysEnc::new(2, 0, 0, 0, 5), 0, 0).unwrap();
    v.msr(SysEnc::new(2, 0, 0, 0, 6), 0, DATA + 8).unwrap();
    v.msr(SysEnc::new(2, 0, 0, 0, 7), 0, 1 | 2 << 1 | 2 << 3 | 0xff << 5).unwrap();
    to_el0(&mut v);
    v.arch.pc = CODE + 4;
    v.arch.x[1] = DATA + 8;
    v.run_budget(8);
    assert_eq!(last(&v), (ec::WATCHPOINT_LOWER, 0x22 | 1 << 6));
    assert_eq!(v.arch.sys(Slot::FAR_EL1), DATA + 8);
    assert_eq!(v.arch.sys(Slot::ELR_EL1), CODE + 12, "the load passed, the store did not");
}

#[test]
fn wfi_sleeps_until_the_timer_and_the_interrupt_is_taken() {
    let cntv_ctl = SysEnc::new(3, 3, 14, 3, 1);
    let cntv_tval = SysEnc::new(3, 3, 14, 3, 0);
    // X1 = ticks; TVAL, CTL = 1; DAIFClr I; WFI; loop.
    let (mut v, machine) = program(&[msr(cntv_tval, 1), movz(2, 1), msr(cntv_ctl, 2), 0xd503_42ff, WFI, B_SELF]);
    *machine.wire.lock().unwrap() = Some(v.vm.clone());
    // The IRQ vector reads IAR and turns the machine off.
    let iar = SysEnc::new(3, 0, 12, 12, 0);
    put(&v, VECTORS + 0x280, &[mrs(5, iar), movz(0, 8), 0xf2b0_8000, HVC]);
    v.gic.set_pmr(0xff);
    v.gic.set_group_enabled(1, 1);
    v.arch.x[1] = 20_000_000;
    let start = Instant::now();
    assert_eq!(v.run(), Stop::Shutdown);
    let took = start.elapsed();
    assert_eq!(v.arch.x[5], 27);
    assert!(took >= Duration::from_millis(19) && took < Duration::from_secs(5), "{took:?}");
    assert!(v.counters.instructions < 100, "it slept");
    assert_eq!(v.counters.parks, 1);
}

#[test]
fn the_timer_thread_interrupts_a_running_guest() {
    let cntv_ctl = SysEnc::new(3, 3, 14, 3, 1);
    let cntv_tval = SysEnc::new(3, 3, 14, 3, 0);
    let (mut v, machine) = program(&[msr(cntv_tval, 1), movz(2, 1), msr(cntv_ctl, 2), 0xd503_42ff, B_SELF]);
    v.vm.start_timer_thread().unwrap();
    *machine.wire.lock().unwrap() = Some(v.vm.clone());
    put(&v, VECTORS + 0x280, &[movz(0, 8), 0xf2b0_8000, HVC]);
    v.gic.set_pmr(0xff);
    v.gic.set_group_enabled(1, 1);
    v.arch.x[1] = 5_000_000;
    assert_eq!(v.run(), Stop::Shutdown);
}

#[test]
fn pause_from_another_thread_and_go_on() {
    let (mut v, _) = program(&[ADD_X0_1, 0x17ff_ffff]);
    let shared = v.shared.clone();
    let other = std::thread::spawn(move || {
        std::thread::sleep(Duration::from_millis(5));
        shared.request_pause();
    });
    assert_eq!(v.run(), Stop::Paused);
    other.join().unwrap();
    let before = v.arch.x[0];
    assert!(before > 0);
    let saved = v.save();
    v.load(&saved).unwrap();
    v.run_budget(1000);
    assert!(v.arch.x[0] > before);
}

/// Runs `words` on two PEs at once; each ends by CPU_OFF.
fn on_two(words: &[u32], setup: impl Fn(&mut Vcpu)) -> Vec<Box<Vcpu>> {
    let (vm, machine) = vm(2, 1 << 20);
    let pes: Vec<_> = (0..2)
        .map(|i| {
            let mut v = Vcpu::new(i, vm.clone(), machine.clone());
            prepare(&mut v, words);
            setup(&mut v);
            v
        })
        .collect();
    let threads: Vec<_> = pes
        .into_iter()
        .map(|mut v| {
            std::thread::spawn(move || {
                assert_eq!(v.run(), Stop::CpuOff);
                v
            })
        })
        .collect();
    threads.into_iter().map(|t| t.join().unwrap()).collect()
}

/// x0 = 0x84000002 (CPU_OFF).
const OFF: [u32; 3] = [0xd280_0040, 0xf2b0_8000, HVC];

#[test]
fn exclusives_of_two_pes_lose_no_increment() {
    // loop: LDXR X0,[X3]; ADD X0,X0,#1; STXR W2,X0,[X3]; CBNZ W2,loop; SUBS X1,X1,#1; B.NE loop
    let mut words = vec![0xc85f_7c60, ADD_X0_1, 0xc802_7c60, cbnz_w2(-3), SUBS_X1_1, b_ne(-5)];
    words.extend(OFF);
    let pes = on_two(&words, |v| {
        v.arch.x[1] = 20_000;
        v.arch.x[3] = DATA;
    });
    assert_eq!(pes[0].vm.ram.load_u64(DATA), Some(40_000));
}

#[test]
fn atomics_of_two_pes_lose_no_increment() {
    // LDADD X4, X5, [X3] with X4 = 1
    let mut words = vec![0xf824_0065, SUBS_X1_1, b_ne(-2)];
    words.extend(OFF);
    let pes = on_two(&words, |v| {
        v.arch.x[1] = 50_000;
        v.arch.x[3] = DATA;
        v.arch.x[4] = 1;
    });
    assert_eq!(pes[0].vm.ram.load_u64(DATA), Some(100_000));
}

#[test]
fn two_pes_that_shoot_at_each_other_do_not_deadlock() {
    // TLBI VAE1IS, X3; DSB; ISB
    let mut words = vec![msr(SysEnc::new(1, 0, 8, 3, 1), 3), DSB, ISB, SUBS_X1_1, b_ne(-4)];
    words.extend(OFF);
    let pes = on_two(&words, |v| v.arch.x[1] = 2_000);
    let applied: u64 = pes.iter().map(|v| v.counters.tlbi).sum();
    assert!(applied >= 4_000);
}

#[test]
fn a_broadcast_tlbi_is_complete_after_dsb() {
    // PE 0 unmaps a page that PE 1 reads in a loop, then (after DSB) sets a flag in memory; PE 1 must never read the page's value after it saw the flag.
    // 4K granule, 39-bit VA; VA = PA for the first GiB block at 0x40000000, and VA 0x8000_0000 maps to DATA by a level 3 table.
    let l1 = RAM_BASE + 0x2_0000;
    let l2 = RAM_BASE + 0x2_1000;
    let l3 = RAM_BASE + 0x2_2000;
    let attributes = 1 << 10 | 1 << 6;
    let flag = DATA + 0x1000;
    for _ in 0..20 {
        let (vm, machine) = vm(2, 1 << 20);
        let word = |pa: u64, d: u64| assert!(vm.ram.write_bytes(pa, &d.to_le_bytes()));
        // AP = EL1 only for the identity block (else it would not be executable at EL1).
        word(l1 + 8, RAM_BASE | 1 << 10 | 1);
        word(l1 + 16, l2 | 3);
        word(l2, l3 | 3);
        word(l3, DATA | attributes | 3);
        let mut pes: Vec<_> = (0..2).map(|i| Vcpu::new(i, vm.clone(), machine.clone())).collect();
        // PE 0: STR XZR,[X3] (the descriptor); DSB; TLBI VAALE1IS, X4; DSB; STR X5,[X6]; off
        let mut zero = vec![0xf900_007f, DSB, msr(SysEnc::new(1, 0, 8, 3, 7), 4), DSB, 0xf900_00c5];
        zero.extend(OFF);
        // PE 1: loop: LDR X7,[X6]; DMB ISHLD; LDR X8,[X3]; CBZ X7, loop; ADD X9, X9, #1; B .
        let one = [0xf940_00c7, 0xd503_39bf, 0xf940_0068, 0xb4ff_ffa7, 0x9100_0529, B_SELF];
        prepare(&mut pes[0], &zero);
        put(&pes[1], RAM_BASE + 0x3_0000, &one);
        for v in &mut pes {
            v.arch.set_sys(Slot::VBAR_EL1, VECTORS);
            v.arch.set_sys(Slot::MAIR_EL1, 0xff);
            v.arch.set_sys(Slot::TTBR0_EL1, l1);
            v.arch.set_sys(Slot::TCR_EL1, 25 | 25 << 16 | 2 << 30 | 4 << 32 | 1 << 23);
            v.msr(SysEnc::new(3, 0, 1, 0, 0), 0, 1).unwrap();
            v.arch.x[6] = flag;
        }
        let mut b = pes.pop().unwrap();
        let mut a = pes.pop().unwrap();
        (a.arch.x[3], a.arch.x[4], a.arch.x[5]) = (l3, 0x8_0000, 1);
        b.arch.pc = RAM_BASE + 0x3_0000;
        b.arch.x[3] = 0x8000_0000;
        let reader = std::thread::spawn(move || {
            b.run_budget(3_000_000);
            b
        });
        std::thread::sleep(Duration::from_micros(300));
        assert_eq!(a.run(), Stop::CpuOff);
        let b = reader.join().unwrap();
        assert_eq!(b.arch.x[9], 0, "the page was read after the TLBI had completed");
        assert_eq!(b.ring.iter().last().map(|r| r.esr >> 26), Some(u64::from(ec::DATA_ABORT_SAME)));
    }
}

#[test]
fn wfi_and_wfe_are_trapped_from_el0() {
    for (word, ti) in [(WFI, 0), (0xd503_205f, 1)] {
        let (mut v, _) = program(&[word]);
        to_el0(&mut v);
        v.step();
        assert_eq!(last(&v), (ec::WFX, 0x1e0_0000 | ti));
    }
}

/// The loop by which Linux waits for a value, without anybody who writes it.
#[test]
fn a_long_wait_behind_sevl_does_not_burn_the_host() {
    let (mut v, _) = program(&[0xd503_20bf, 0xd503_205f, 0x885f_7c20, 0xd503_205f, 0x17ff_fffc]);
    v.arch.x[1] = DATA;
    for _ in 0..5 * 200 {
        assert!(v.step().is_none());
    }
    assert!(v.counters.parks > 0, "200 rounds, and it still spins");
}

#[test]
fn unprivileged_loads_use_el0s_permissions() {
    let (mut v, _) = program(&[]);
    let l1 = RAM_BASE + 0x2_0000;
    assert!(v.vm.ram.write_bytes(l1 + 8, &(RAM_BASE | 1 << 10 | 1u64).to_le_bytes()));
    v.arch.set_sys(Slot::MAIR_EL1, 0xff);
    v.arch.set_sys(Slot::TTBR0_EL1, l1);
    v.arch.set_sys(Slot::TCR_EL1, 25 | 25 << 16 | 2 << 30 | 4 << 32 | 1 << 23);
    v.msr(SysEnc::new(3, 0, 1, 0, 0), 0, 1).unwrap();
    assert!(v.read(DATA, 8).is_ok());
    assert!(v.load_unprivileged(DATA, 8).is_err());
    assert_eq!(v.syndrome.iss & 0x3f, 0xd, "permission fault, level 1");
    v.take_exception(Exception::Irq);
    assert!(v.read(DATA, 8).is_ok(), "not a user page: PAN does not matter");
}
