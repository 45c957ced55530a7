//! Small programs in lockstep: the right ones pass, a seeded fault is found and said.

use cpu::Stop;

use crate::machine::tests::{BASE, vcpu};
use crate::{JitCpu, JitShared, Options};

const HVC: u32 = 0xd400_0002;

fn run(words: &[u32], seeded_fault: bool) -> Option<(Stop, crate::HugeBox<JitCpu>)> {
    let options = Options { cache_bytes: 4 << 20, check: true, seeded_fault, ..Options::default() };
    let shared = JitShared::new(options).ok()?;
    let mut v = vcpu();
    for (i, w) in words.iter().enumerate() {
        v.vm.ram.write_bytes(BASE + 4 * i as u64, &w.to_le_bytes());
    }
    v.reset(BASE, [0; 4]);
    let mut cpu = JitCpu::new(v, shared).expect("maps");
    Some((cpu.run(), cpu))
}

const LOOP: [u32; 12] = [
    0x52800c80, // mov w0, #100
    0xd2800001, // mov x1, #0
    0xd2a80405, // mov x5, #0x40200000
    0xf90000a1, // 1: str x1, [x5]
    0xf94000a4, // ldr x4, [x5]
    0x94000005, // bl 2f
    0xca1f0081, // eor x1, x4, xzr
    0xf1000400, // subs x0, x0, #1
    0x54ffff61, // b.ne 1b
    HVC, 0x8b000084, // 2: add x4, x4, x0
    0xd65f03c0, // ret
];

#[test]
fn a_right_program_passes_and_everything_was_compared() {
    let Some((stop, cpu)) = run(&LOOP, false) else { return };
    assert_eq!(stop, Stop::Shutdown);
    assert_eq!(cpu.vcpu.arch.x[1], 5050);
    let c = &cpu.counters;
    assert!(c.check_insns >= 800 && c.check_units >= 300 && c.check_alone == 1, "{}", c.report());
}

#[test]
fn a_seeded_fault_stops_the_machine_with_a_report() {
    let mut words = LOOP;
    words[6] = 0xca00_0081; // eor x1, x4, x0
    assert_eq!(run(&words, false).expect("a translator").0, Stop::Shutdown);
    let Some((Stop::Internal(report), _)) = run(&words, true) else { panic!("the fault is not found") };
    assert!(report.contains("eor x1, x4, x0") && report.contains("  x1 "), "{report}");
}

#[test]
fn loops_inside_a_unit_and_stores_in_them_are_compared() {
    // 1: str x0, [x5], #8; add x1, x1, x0; subs x0, x0, #1; b.ne 1b
    let words = [0x5280_0c80, 0xd2a8_0405, 0xf800_84a0, 0x8b00_0021, 0xf100_0400, 0x54ff_ffa1, HVC];
    let Some((stop, cpu)) = run(&words, false) else { return };
    assert_eq!((stop, cpu.vcpu.arch.x[1]), (Stop::Shutdown, 5050));
    assert!((20..40).contains(&cpu.counters.check_units), "{}", cpu.counters.report());
}
