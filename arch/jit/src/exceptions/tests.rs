//! A program that calls from EL0 and from EL1h and returns, with the thunks and without: the state must be the same, and what is counted and kept for reports.

use cpu::exception::Record;
use cpu::{Exception, Stop};

use crate::machine::tests::{BASE, vcpu};
use crate::{JitCpu, JitShared, Optimisation, Optimisations, Options};

/// Code at 0x0.
const START: &[u32] = &[
    0x10004000, // adr x0, .+0x800
    0xd518c000, // msr vbar_el1, x0
    0xd2860009, // mov x9, #0x3000
    0xf2a80009, // movk x9, #0x4000, lsl #16
    0x9100013f, // mov sp, x9
    0x91040129, // add x9, x9, #0x100
    0xd5184109, // msr sp_el0, x9
    0x100000e0, // adr x0, .+0x1c
    0xd5184020, // msr elr_el1, x0
    0xd2820000, // mov x0, #0x1000
    0xf2ac2000, // movk x0, #0x6100, lsl #16
    0xd5184000, // msr spsr_el1, x0
    0xd5033fdf, // isb
    0xd69f03e0, // eret
    0xf10050ff, // cmp x7, #0x14
    0xd40000e1, // svc #0x7
    0x910003ec, // mov x12, sp
    0x8b0c014a, // add x10, x10, x12
    0xb10004ff, // cmn x7, #0x1
    0xd41fffe1, // svc #0xffff
    0x17fffffa, // b .-0x18
];

/// Code at 0xa00.
const FROM_EL1: &[u32] = &[
    0xd5385208, // mrs x8, esr_el1
    0x8b080042, // add x2, x2, x8
    0xd5384008, // mrs x8, spsr_el1
    0x8b080084, // add x4, x4, x8
    0xd69f03e0, // eret
];

/// Code at 0xc00.
const FROM_EL0: &[u32] = &[
    0xd5385201, // mrs x1, esr_el1
    0x8b010042, // add x2, x2, x1
    0xd5384003, // mrs x3, spsr_el1
    0x8b030084, // add x4, x4, x3
    0xd5384025, // mrs x5, elr_el1
    0x8b0500c6, // add x6, x6, x5
    0x910003ec, // mov x12, sp
    0x8b0c016b, // add x11, x11, x12
    0x910004e7, // add x7, x7, #0x1
    0xf100c8ff, // cmp x7, #0x32
    0x5400014a, // b.ge .+0x28
    0xd4000021, // svc #0x1
    0xd5184025, // msr elr_el1, x5
    0xd5184003, // msr spsr_el1, x3
    0xf27e00ff, // tst x7, #0x4
    0x54000080, // b.eq .+0x10
    0xb26a0063, // orr x3, x3, #0x400000
    0xd2740063, // eor x3, x3, #0x1000
    0xd5184003, // msr spsr_el1, x3
    0xd69f03e0, // eret
    0xd4000002, // hvc #0x0
];

/// Code at 0xd80.
const SERROR: &[u32] = &[
    0xd28009ad, // mov x13, #0x4d
    0xd4000002, // hvc #0x0
];

/// Offset of the first instruction at EL0.
const USER: u64 = 0x38;

fn run(optimise: Optimisations) -> Option<crate::HugeBox<JitCpu>> {
    let shared = JitShared::new(Options { cache_bytes: 4 << 20, optimise, ..Options::default() }).ok()?;
    let mut v = vcpu();
    for (offset, code) in [(0, START), (0xa00, FROM_EL1), (0xc00, FROM_EL0), (0xd80, SERROR)] {
        for (i, w) in code.iter().enumerate() {
            v.vm.ram.write_bytes(BASE + offset + 4 * i as u64, &w.to_le_bytes());
        }
    }
    v.reset(BASE, [0; 4]);
    let mut j = JitCpu::new(v, shared).expect("maps");
    assert_eq!(j.run(), Stop::Shutdown);
    Some(j)
}

#[test]
fn thunks_take_exceptions_as_the_interpreter_does() {
    let Some(fast) = run(Optimisations::ALL) else { return };
    let slow = run(Optimisations::ALL.with(Optimisation::ExceptionCode, false)).expect("as before");
    assert_eq!(fast.vcpu.arch, slow.vcpu.arch);
    assert_eq!(fast.vcpu.arch.x[7], 50);
    assert_eq!(fast.vcpu.counters.exceptions, slow.vcpu.counters.exceptions);
    assert_eq!(fast.vcpu.ring.count(), slow.vcpu.ring.count());
    let records = |j: &JitCpu| j.vcpu.ring.iter().map(|r| Record { when: 0, ..*r }).collect::<Vec<_>>();
    assert_eq!(records(&fast), records(&slow));
    assert!(fast.counters.enters * 3 < slow.counters.enters, "{:?} {:?}", fast.counters, slow.counters);
}

#[test]
fn a_return_that_unmasks_an_interrupt_is_the_dispatchers() {
    for optimise in [Optimisations::ALL, Optimisations::ALL.with(Optimisation::ExceptionCode, false)] {
        let Some(mut j) = run(optimise) else { return };
        // In the handler again, about to return to EL0 with everything unmasked.
        j.vcpu.take_exception(Exception::Irq);
        let eret = FROM_EL0.iter().position(|w| *w == 0xd69f_03e0).expect("ERET");
        j.vcpu.arch.pc = BASE + 0xc00 + 4 * eret as u64;
        j.vcpu.arch.set_sys(cpu::sysreg::Slot::SPSR_EL1, 0);
        j.vcpu.arch.set_sys(cpu::sysreg::Slot::ELR_EL1, BASE + USER);
        j.vcpu.shared.set_serror_pending(true);
        j.vcpu.update_interrupts();
        assert_eq!(j.run(), Stop::Shutdown);
        let last = *j.vcpu.ring.iter().last().expect("an exception");
        assert_eq!((last.vector, last.pc), (0x580, BASE + USER), "before the first instruction at EL0");
        assert_eq!(j.vcpu.arch.x[13], 77);
    }
}
