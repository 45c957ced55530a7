//! Any registers, any tables, any code: the PE must neither panic nor stop on its own.

use proptest::prelude::*;

use crate::exception::ec;
use crate::sysreg::{ROWS, Rw, Slot};
use crate::testing::{RAM_BASE, vm};
use crate::{Stop, Vcpu};

/// Words that sleep until an interrupt: nothing would wake the test.
fn sleeps(word: u32) -> bool {
    matches!(isa::decode(word, isa::Features::ALL), isa::Insn::Wfi | isa::Insn::Wfit { .. })
}

/// System register accesses and system instructions, often; else words near real encodings.
fn word() -> impl Strategy<Value = u32> {
    let encodings: Vec<_> = isa::Encoding::all().collect();
    let rows = encodings.len();
    let allocated = (0..rows, any::<u32>()).prop_map(move |(i, noise)| {
        let row = encodings[i].row();
        row.value | noise & !row.mask
    });
    let register = (0..ROWS.len(), any::<bool>(), 0u32..32)
        .prop_map(|(i, read, rt)| 0xd500_0000 | u32::from(read) << 21 | u32::from(ROWS[i].enc.0) << 5 | rt);
    let system = (0u32..1 << 14, 0u32..32).prop_map(|(op, rt)| 0xd508_0000 | op << 5 | rt);
    prop_oneof![6 => allocated, 2 => register, 1 => system, 1 => any::<u32>()]
        .prop_map(|word| if sleeps(word) { 0xd503_201f } else { word })
}

/// Addresses that often hit something.
fn value() -> impl Strategy<Value = u64> {
    prop_oneof![
        3 => (0u64..0x10_0000).prop_map(|o| RAM_BASE + o),
        1 => (0u64..0x2000_0000).prop_map(|a| a),
        1 => any::<u64>(),
        1 => Just(u64::MAX),
        1 => 0u64..64,
        1 => (0u64..0x1000).prop_map(|o| o.wrapping_neg()),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn nothing_that_a_guest_does_panics(
        words in proptest::collection::vec(word(), 1024),
        x in proptest::collection::vec(value(), 31),
        registers in proptest::collection::vec((0..ROWS.len(), value()), 0..24),
        el0: bool,
        mmu in 0u8..4,
    ) {
        let (vm, machine) = vm(1, 1 << 20);
        let mut v = Vcpu::new(0, vm, machine);
        let bytes: Vec<u8> = words.iter().flat_map(|w| w.to_le_bytes()).collect();
        for page in 0..16u64 {
            prop_assert!(v.vm.ram.write_bytes(RAM_BASE + page * 0x3000, &bytes));
        }
        v.reset(RAM_BASE, [0; 4]);
        v.arch.x.copy_from_slice(&x);
        v.arch.sp = RAM_BASE + 0x8000;
        v.arch.set_sys(Slot::VBAR_EL1, RAM_BASE + 0x3000);
        v.arch.set_sys(Slot::CPACR_EL1, 3 << 20);
        for (i, value) in registers {
            if ROWS[i].rw != Rw::Ro {
                // Traps are no matter here.
                let _ = v.msr(ROWS[i].enc, 0, value);
            }
        }
        if mmu == 0 {
            // Identity for the first GiBs, executable at both levels, as blocks.
            let table = RAM_BASE + 0xf_f000;
            for gib in 0..512u64 {
                let block = gib << 30 | 1 << 10 | if el0 { 1 << 6 } else { 0 } | 1;
                prop_assert!(v.vm.ram.write_bytes(table + gib * 8, &block.to_le_bytes()));
            }
            v.arch.set_sys(Slot::TTBR0_EL1, table);
            v.arch.set_sys(Slot::TCR_EL1, 25 | 25 << 16 | 2 << 30 | 4 << 32);
            v.arch.set_sys(Slot::MAIR_EL1, 0xff);
            let sctlr = v.arch.sys(Slot::SCTLR_EL1) & !2 | 1;
            v.msr(crate::sysreg::SysEnc::new(3, 0, 1, 0, 0), 0, sctlr).unwrap();
        }
        if el0 {
            v.arch.set_el_sp(0, 0);
        }
        v.arch.pc = RAM_BASE;
        for _ in 0..8 {
            let stop = v.run_budget(300);
            prop_assert!(matches!(stop, Stop::Budget | Stop::Shutdown | Stop::CpuOff), "{stop:?}");
        }
        let _ = v.report();
        let saved = v.save();
        v.load(&saved).unwrap();
        prop_assert_eq!(v.save().sys.len(), saved.sys.len());
        prop_assert_eq!(v.counters.exceptions[usize::from(ec::HVC)], 0);
    }
}
