//! Changes of the address space by code that goes on: what it reads and writes behind them belongs to the new one.

use cpu::Stop;
use cpu::sysreg::Slot;

use super::tests::{BASE, vcpu};
use super::{JitCpu, JitShared, Options};
use crate::{Optimisation, Optimisations};

/// The table of each space, and the page that its VA 0x8000_0000 is.
const TABLES: [u64; 2] = [BASE + 0x20_0000, BASE + 0x20_4000];
const PAGES: [u64; 2] = [BASE + 0x10_0000, BASE + 0x10_1000];
const CONTENTS: [u64; 2] = [0x11, 0x2200];
const PASSES: u64 = 300;

const PROGRAM: [u32; 12] = [
    0xd61f_0220, // br x17
    0xd503_201f, // nop
    0xca0b_014a, // 1: eor x10, x10, x11
    0xd518_200a, // msr ttbr0_el1, x10
    0xd503_3fdf, // isb
    0xf940_0121, // ldr x1, [x9]
    0xf900_0520, // str x0, [x9, #8]
    0x8b03_0463, // add x3, x3, x3, lsl #1
    0x8b01_0063, // add x3, x3, x1
    0xf100_0400, // subs x0, x0, #1
    0x54ff_ff01, // b.ne 1b
    0xd400_0002, // hvc #0
];

/// The CPU after [`PROGRAM`], whose loop runs at `code`.
fn run(optimise: Optimisations, code: u64) -> Option<crate::HugeBox<JitCpu>> {
    let shared = JitShared::new(Options { cache_bytes: 1 << 20, optimise, ..Options::default() }).ok()?;
    let mut v = vcpu();
    for (i, w) in PROGRAM.iter().enumerate() {
        v.vm.ram.write_bytes(BASE + 4 * i as u64, &w.to_le_bytes());
    }
    for ((table, page), contents) in TABLES.into_iter().zip(PAGES).zip(CONTENTS) {
        let write = |at: u64, value: u64| v.vm.ram.write_bytes(at, &value.to_le_bytes());
        // Code by a global block, data by a page that is not global.
        write(table + 8, BASE | 1 << 10 | 3 << 8 | 1);
        write(table + 16, (table + 0x1000) | 3);
        write(table + 0x1000, (table + 0x2000) | 3);
        write(table + 0x2000, page | 1 << 11 | 1 << 10 | 3 << 8 | 3);
        write(page, contents);
    }
    v.reset(BASE, [0; 4]);
    let half = 25 | 1 << 8 | 1 << 10 | 3 << 12;
    for (slot, value) in [
        (Slot::MAIR_EL1, 0xff),
        (Slot::TCR_EL1, half | half << 16 | 2 << 30 | 2 << 32 | 1 << 36),
        (Slot::TTBR0_EL1, TABLES[1] | 2 << 48),
        (Slot::TTBR1_EL1, TABLES[0]),
        (Slot::SCTLR_EL1, v.arch.sys(Slot::SCTLR_EL1) & !0x1a | 1),
    ] {
        v.arch.set_sys(slot, value);
    }
    v.arch.x[0] = PASSES;
    v.arch.x[9] = 0x8000_0000;
    v.arch.x[10] = TABLES[1] | 2 << 48;
    v.arch.x[11] = TABLES[0] ^ TABLES[1] | 3 << 48;
    v.arch.x[17] = code;
    let mut j = JitCpu::new(v, shared).expect("maps");
    assert_eq!(j.run(), Stop::Shutdown);
    Some(j)
}

#[test]
fn accesses_follow_the_address_space_at_once() {
    // Code in the upper half goes on, code that the old table maps is looked up anew.
    for (code, goes_on) in [(0xffff_ff80_0000_0000 | (BASE + 8), true), (BASE + 8, false)] {
        for on in [true, false] {
            let Some(j) = run(Optimisations::ALL.with(Optimisation::SpaceCode, on), code) else { return };
            let sum = (0..PASSES).fold(0u64, |sum, n| sum.wrapping_mul(3).wrapping_add(CONTENTS[(n & 1) as usize]));
            assert_eq!(j.vcpu.arch.x[3], sum, "code at {code:#x}, in line: {on}");
            for (page, last) in PAGES.into_iter().zip([2u64, 1]) {
                let mut bytes = [0; 8];
                j.vcpu.vm.ram.read_bytes(page + 8, &mut bytes);
                assert_eq!(u64::from_le_bytes(bytes), last, "the last pass that wrote it");
            }
            assert!(j.counters.context_switches >= PASSES - 1, "{}", j.counters.context_switches);
            let steps = j.counters.steps;
            assert_eq!(steps < PASSES / 2, on && goes_on, "{steps} steps by the interpreter at {code:#x}");
        }
    }
}
