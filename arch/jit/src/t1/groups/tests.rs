//! Random accesses at one base, with groups and without: registers and memory must be the same.

use cpu::Stop;
use cpu::sysreg::Slot;
use isa::insn::{AddrMode, Insn, LoadExt, Size};

use super::*;
use crate::machine::tests::{BASE, vcpu};
use crate::t1::builder::{Ids, Mode};
use crate::t1::flags::Polarity;
use crate::t1::{Request, Translator, Unit};
use crate::thunks::Thunks;
use crate::{JitCpu, JitShared, Optimisations, Options};

fn load(mode: AddrMode, rt: u8, rn: u8, offset: i64) -> Insn {
    Insn::LoadImm { size: Size::X, ext: LoadExt::Zero, unpriv: false, mode, rt, rn, offset }
}

#[test]
fn members_say_where_they_access_and_what_follows() {
    let m = member(&load(AddrMode::PostIndex, 1, 9, 16), true).expect("a member");
    assert_eq!((m.offset, m.bytes, m.step, m.base, m.ends), (0, 8, 16, 9, false));
    let m = member(&load(AddrMode::PreIndex, 1, 31, -16), true).expect("a member");
    assert_eq!((m.offset, m.step, m.base), (-16, -16, SP));
    assert!(member(&load(AddrMode::Offset, 9, 9, 0), true).expect("a member").ends);
    assert!(member(&load(AddrMode::PreIndex, 9, 9, 8), true).is_none());
}

fn generator(mut state: u64) -> impl FnMut(u32) -> u32 {
    move |below| {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 33) as u32 % below
    }
}

/// Words of 12 accesses at `rn`, mostly of one kind, with arithmetic and branches to the end in between, and compares whose flags are read behind them.
fn program(random: &mut impl FnMut(u32) -> u32, rn: u32) -> Vec<u32> {
    let mut words = vec![0xeb02_003f]; // cmp x1, x2
    let mut load = random(2);
    for n in 0..12 {
        if random(6) == 0 {
            load ^= 1;
        }
        let rt = [0, 1, 5, 8, 19, 24][random(6) as usize];
        let rt2 = [2, 3, 6, 20, 25][random(5) as usize];
        let imm7 = random(24).wrapping_sub(12) & 0x7f;
        words.push(match random(11) {
            // LDP and STP of X, signed offset; rarely pre-indexed and post-indexed.
            0 | 1 => 0xa900_0000 | load << 22 | imm7 << 15 | rt2 << 10 | rn << 5 | rt,
            2 => 0xa980_0000 | load << 22 | imm7 << 15 | rt2 << 10 | rn << 5 | rt,
            3 => 0xa880_0000 | load << 22 | imm7 << 15 | rt2 << 10 | rn << 5 | rt,
            // LDR and STR of X and B, unsigned offset.
            4 | 5 => 0xf900_0000 | load << 22 | random(16) << 10 | rn << 5 | rt,
            6 => 0x3900_0000 | load << 22 | random(100) << 10 | rn << 5 | rt,
            // CMP, CSEL EQ, ADCS, UBFX, EOR, LSLV; B.cond and CBZ to the last two words.
            8 => 0xeb00_001f | rt << 16 | rt2 << 5,
            9 => match random(5) {
                0 => 0x9a80_0000 | rt << 16 | rt2 << 5 | rt,
                1 => 0xba00_0000 | rt << 16 | rt2 << 5 | rt2,
                2 => 0xd344_2c00 | rt << 5 | rt2,
                3 => 0xca00_0c00 | rt << 16 | rt2 << 5 | rt,
                _ => 0x9ac0_2000 | rt << 16 | rt2 << 5 | rt,
            },
            10 => {
                (if random(2) == 0 { 0x5400_0000 | random(14) } else { 0xb400_0000 | rt }) | (12 + random(2) - n) << 5
            }
            // LDR and STR of Q, or ADD.
            _ if random(2) == 0 => 0x3d80_0000 | load << 22 | random(6) << 10 | rn << 5 | random(32),
            _ => 0x9100_0000 | random(64) << 10 | rt << 5 | rt2,
        });
    }
    words.push(0x9a9f_17e4); // cset x4, eq
    words.push(0xd400_0002); // hvc #0
    words
}

fn run(words: &[u32], at: u64, optimise: Optimisations) -> Option<(cpu::ArchState, Vec<u8>)> {
    let shared = JitShared::new(Options { cache_bytes: 1 << 20, optimise, ..Options::default() }).ok()?;
    let mut v = vcpu();
    for (i, w) in words.iter().enumerate() {
        v.vm.ram.write_bytes(BASE + 4 * i as u64, &w.to_le_bytes());
    }
    let data: Vec<u8> = (0..8192u32).map(|i| (i * 7 + (i >> 8)) as u8).collect();
    v.vm.ram.write_bytes(BASE + 0x10_0000, &data);
    // An identity map by one block of 1 GiB, Normal memory.
    v.vm.ram.write_bytes(BASE + 0x20_0008, &(BASE | 1 << 10 | 3 << 8 | 1).to_le_bytes());
    v.reset(BASE, [0; 4]);
    for (slot, value) in [
        (Slot::MAIR_EL1, 0xff),
        (Slot::TCR_EL1, 25 | 1 << 8 | 1 << 10 | 3 << 12 | 1 << 23 | 2 << 32),
        (Slot::TTBR0_EL1, BASE + 0x20_0000),
        // On, without alignment checks of accesses and of SP.
        (Slot::SCTLR_EL1, v.arch.sys(Slot::SCTLR_EL1) & !0x1a | 1),
        (Slot::CPACR_EL1, 3 << 20),
    ] {
        v.arch.set_sys(slot, value);
    }
    for n in 0..31 {
        v.arch.x[n] = n as u64 * 0x0101_0101_0101;
    }
    v.arch.x[9] = at;
    v.arch.x[29] = at;
    v.arch.sp = at;
    let mut j = JitCpu::new(v, shared).expect("maps");
    assert_eq!(j.run(), Stop::Shutdown, "{words:x?}");
    let mut memory = vec![0; 8192];
    j.vcpu.vm.ram.read_bytes(BASE + 0x10_0000, &mut memory);
    Some((j.vcpu.arch.clone(), memory))
}

#[test]
fn groups_change_nothing_but_speed() {
    let mut random = generator(0x5eed);
    for n in 0..200 {
        let rn = [9, 29, 31][n % 3];
        let words = program(&mut random, rn);
        // In the midst of a page, and where groups cross into the next one.
        for at in [0x400, 0xfe0, 0x1000 - 16 * u64::from(random(8)), 0x1000] {
            let at = BASE + 0x10_0000 + at;
            let Some(fast) = run(&words, at, Optimisations::ALL) else { return };
            let plain = run(&words, at, Optimisations::ALL.with(Optimisation::AccessGroups, false)).expect("as before");
            assert_eq!(fast.0, plain.0, "{words:x?} at {at:#x}");
            assert!(fast.1 == plain.1, "memory differs: {words:x?} at {at:#x}");
        }
    }
}

#[test]
fn only_code_that_knows_as_much_may_be_followed() {
    let plain = Known { flags: Flags::STORED, sp_aligned: false, zero_above: [1, 3] };
    let aligned = Known { sp_aligned: true, ..plain };
    assert!(plain.covers(&plain) && aligned.covers(&plain) && !plain.covers(&aligned));
    let more = Known { zero_above: [1, 7], ..plain };
    assert!(more.covers(&plain) && !plain.covers(&more));
    let other = Known { flags: Flags { host: Some(Polarity::Add), ..Flags::STORED }, ..plain };
    assert!(!other.covers(&plain) && !plain.covers(&other), "flags in another place");
}

fn translate(t: &mut Translator, words: &[u32], optimise: Optimisations) -> (Unit, Vec<u8>) {
    let unit = t.translate(&Request {
        words,
        start: 0x100,
        slot_base: 0,
        mode: Mode { mmu: true, ..Mode::default() },
        features: isa::Features::ALL,
        thunks: &Thunks::default(),
        first_exit: 0,
        ids: Ids::default(),
        host: crate::HostFeatures::default(),
        optimise,
        count: false,
        lockstep: false,
        seeded_fault: false,
    });
    (unit, t.asm.finish(0x1000, 0x2000).expect("in reach").0.to_vec())
}

#[test]
fn a_unit_whose_groups_disagree_is_emitted_without_them() {
    let (mut t, mut random) = (Translator::default(), generator(7));
    let plain = Optimisations::ALL.with(Optimisation::AccessGroups, false);
    for n in 0..3000 {
        let words = program(&mut random, [9, 29, 31][n % 3]);
        let (unit, grouped) = translate(&mut t, &words, Optimisations::ALL);
        assert!(!unit.ungrouped, "{words:x?}");
        if n % 100 == 0 {
            t.disagree = true;
            let (unit, code) = translate(&mut t, &words, Optimisations::ALL);
            assert!(unit.ungrouped && code == translate(&mut t, &words, plain).1 && code != grouped, "{words:x?}");
        }
    }
}
