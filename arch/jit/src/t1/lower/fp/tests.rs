//! Random floating-point instructions, translated and interpreted, from the same state: everything must agree, FPSR included.

use cpu::Stop;
use cpu::sysreg::Slot;
use isa::insn::Insn;

use crate::host::{HostFeatures, detect};
use crate::machine::tests::{BASE, vcpu};
use crate::t1::has_lowering;
use crate::{JitCpu, JitShared, Options};

const BLOCKS: usize = 20_000;
const LENGTH: usize = 24;
const HVC: u32 = 0xd400_0002;

fn generator(mut state: u64) -> impl FnMut() -> u32 {
    move || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 32) as u32
    }
}

fn is_fp(insn: &Insn) -> bool {
    format!("{insn:?}").starts_with("Fp") || matches!(insn, Insn::GprToFp { .. } | Insn::IntToFpLanes { .. })
}

/// Words of one floating-point encoding, and the compares' readers.
fn words(random: &mut impl FnMut() -> u32) -> Vec<u32> {
    let pool: Vec<_> = isa::decode::Encoding::all()
        .filter(|e| {
            isa::random::word_of(*e, random).is_some_and(|w| {
                let insn = isa::decode(w, isa::Features::ALL);
                is_fp(&insn) || matches!(insn, Insn::CondSelect { .. } | Insn::CondCompareReg { .. })
            })
        })
        .collect();
    let mut out = Vec::new();
    let mut seen = std::collections::BTreeSet::new();
    while out.len() < 20_000 {
        let e = pool[random() as usize % pool.len()];
        let Some(mut word) = isa::random::word_of(e, random) else { continue };
        if random() & 1 == 0 {
            // Registers that meet each other more often.
            word &= !(0x18 << 16 | 0x18 << 5);
        }
        let insn = isa::decode(word, isa::Features::ALL);
        if insn != Insn::Undefined && has_lowering(word, isa::Features::ALL) {
            out.push(word);
            seen.insert(format!("{e:?}"));
        }
    }
    assert!(seen.len() > 140, "too few encodings have a lowering: {seen:?}");
    out
}

const DOUBLES: [u64; 24] = [
    0,
    1 << 63,
    1,
    0x000f_ffff_ffff_ffff,
    0x0010_0000_0000_0000,
    0x7fef_ffff_ffff_ffff,
    0x7ff0_0000_0000_0000,
    0xfff0_0000_0000_0000,
    0x7ff0_0000_0000_0001,
    0x7ff8_0000_0000_0000,
    0xfff8_0000_0000_1234,
    0x3ff0_0000_0000_0000,
    0xbff0_0000_0000_0000,
    0x3fe0_0000_0000_0000,
    0x3fdf_ffff_ffff_ffff,
    0x4000_0000_0000_0000,
    0x3ff8_0000_0000_0000,
    0x4004_0000_0000_0000,
    0x41df_ffff_ffe0_0000,
    0xc1e0_0000_0010_0000,
    0x43e0_0000_0000_0000,
    0xc3e0_0000_0000_0000,
    0x43ef_ffff_ffff_ffff,
    0x41ef_ffff_fff0_0000,
];

const SINGLES: [u32; 20] = [
    0,
    1 << 31,
    1,
    0x007f_ffff,
    0x0080_0000,
    0x7f7f_ffff,
    0x7f80_0000,
    0xff80_0000,
    0x7f80_0001,
    0x7fc0_0000,
    0xffc0_1234,
    0x3f80_0000,
    0xbf00_0000,
    0x3f00_0000,
    0x3eff_ffff,
    0x4020_0000,
    0x4f00_0000,
    0xcf00_0000,
    0x5f00_0000,
    0x4f80_0000,
];

fn half(random: &mut impl FnMut() -> u32) -> u64 {
    let wide = |r: &mut dyn FnMut() -> u32| u64::from(r()) << 32 | u64::from(r());
    match random() % 6 {
        0 => wide(random),
        1 => DOUBLES[random() as usize % DOUBLES.len()],
        2 => u64::from(SINGLES[random() as usize % 20]) | u64::from(SINGLES[random() as usize % 20]) << 32,
        3 => wide(random) & 0x800f_ffff_ffff_ffff | u64::from(0x3fe + random() % 66) << 52,
        4 => {
            wide(random) & 0x807f_ffff_807f_ffff
                | u64::from(0x7e + random() % 34) << 23
                | u64::from(0x7e + random() % 34) << 55
        }
        _ => u64::from(random() % 64),
    }
}

fn run_with(host: HostFeatures, seed: u64) {
    let mut random = generator(seed);
    let words = words(&mut random);
    let (mut tiny, mut fallbacks, mut executed) = (0, 0, 0);
    let mut other = vcpu();
    other.reset(BASE, [0; 4]);
    other.arch.set_sys(Slot::CPACR_EL1, 3 << 20);
    let template = other.arch.clone();
    let shared = JitShared::with_host(Options { cache_bytes: 64 << 20, ..Options::default() }, host);
    let mut first = vcpu();
    first.reset(BASE, [0; 4]);
    let mut j = JitCpu::new(first, shared).expect("maps");
    for block in 0..BLOCKS {
        // Short blocks show the flags of each instruction, long ones what instructions do to each other.
        let length = [1, 1, 2, 4, LENGTH][block % 5];
        let code: Vec<u32> = (0..length).map(|_| words[random() as usize % words.len()]).chain([HVC]).collect();
        let pc = BASE + 128 * block as u64;
        for (i, w) in code.iter().enumerate() {
            j.vcpu.vm.ram.write_bytes(pc + 4 * i as u64, &w.to_le_bytes());
            other.vm.ram.write_bytes(pc + 4 * i as u64, &w.to_le_bytes());
        }
        let mut start = template.clone();
        start.pc = pc;
        start.x.fill_with(|| half(&mut random));
        for v in &mut start.v {
            *v = u128::from(half(&mut random)) << 64 | u128::from(half(&mut random));
        }
        start.fpcr = if random() & 1 == 0 { 0 } else { (random() & 3) << 22 };
        if random().is_multiple_of(4) {
            // DN and AHP.
            start.fpcr |= (random() & 3) << 25;
        }
        if random().is_multiple_of(4) {
            // FZ, as in the midst of a program, and as at its start.
            start.fpcr |= 1 << 24;
            start.fpsr = if random().is_multiple_of(4) { 0 } else { 0x10 };
        }
        start.nzcv = (random() & 15) << 28;
        other.arch = start.clone();
        j.vcpu.arch = start.clone();
        let mut each = Vec::new();
        for _ in 0..length {
            assert!(other.step().is_none());
            each.push((other.arch.v, other.arch.fpsr, other.arch.nzcv));
        }
        assert!(matches!(j.run(), Stop::Shutdown | Stop::Internal(_)));
        executed += length;
        fallbacks = j.counters.interp_calls;
        let (a, b) = (&j.vcpu.arch, &other.arch);
        let underflow = a.fpsr != b.fpsr && a.fpsr | 8 == b.fpsr;
        tiny += u32::from(underflow);
        if a.x == b.x && a.v == b.v && a.nzcv == b.nzcv && (a.fpsr == b.fpsr || underflow) {
            continue;
        }
        println!("host {host:?} seed {seed:#x} block {block} fpcr {:#x}", start.fpcr);
        for (w, (v, fpsr, nzcv)) in code.iter().zip(&each) {
            let (d, n, m) = ((w & 31) as usize, (w >> 5 & 31) as usize, (w >> 16 & 31) as usize);
            println!("{w:08x} {:?}", isa::decode(*w, isa::Features::ALL));
            println!("  v{d} = {:032x} v{n} {:032x} v{m} {:032x} fpsr {fpsr:x} nzcv {nzcv:x}", v[d], v[n], v[m]);
        }
        for i in (0..32).filter(|i| a.v[*i] != b.v[*i]) {
            println!("v{i}: {:032x} should be {:032x}, was {:032x}", a.v[i], b.v[i], start.v[i]);
        }
        for i in (0..31).filter(|i| a.x[*i] != b.x[*i]) {
            println!("x{i}: {:016x} should be {:016x}", a.x[i], b.x[i]);
        }
        panic!("nzcv {:x} {:x} fpsr {:x} should be {:x}", a.nzcv, b.nzcv, a.fpsr, b.fpsr);
    }
    println!("{fallbacks} of {executed} instructions by the interpreter; {tiny} differences of UFC");
    assert!(fallbacks < executed as u64 / 2, "{fallbacks} calls of the interpreter");
    assert!(tiny < 60, "UFC differed in {tiny} blocks: more than rounding to the smallest normal number explains");
}

#[test]
fn translated_and_interpreted_arithmetic_agree() {
    let Ok(host) = detect() else { return };
    run_with(host, 1);
    run_with(HostFeatures::default(), 2);
}

#[test]
fn flushing_costs_no_call_of_the_interpreter_where_nothing_is_flushed() {
    let Ok(host) = detect() else { return };
    // fadd d0, d1, d2; fmul v3.4s, v4.4s, v5.4s; fmla v6.2d, v7.2d, v1.2d; fcmp d1, d2; csel; fdiv s8, s9, s10; fcvtzs x0, d1; scvtf d11, x0
    let code = [0x1e62_2820, 0x6e25_dc83, 0x4e61_cce6, 0x1e62_2020, 0x9a82_1020, 0x1e2a_1928, 0x9e78_0020, 0x9e62_000b];
    let mut first = vcpu();
    first.reset(BASE, [0; 4]);
    first.arch.set_sys(Slot::CPACR_EL1, 3 << 20);
    let shared = JitShared::with_host(Options { cache_bytes: 1 << 20, ..Options::default() }, host);
    let mut j = JitCpu::new(first, shared).expect("maps");
    for (i, w) in code.iter().chain(&[HVC]).enumerate() {
        j.vcpu.vm.ram.write_bytes(BASE + 4 * i as u64, &w.to_le_bytes());
    }
    let start = j.vcpu.arch.clone();
    for (fpsr, number, calls) in
        [(0x10, 0x3fc0_0000_3fc0_0000u64, 0), (0, 0x3fc0_0000_3fc0_0000, 3), (0x10, 1 << 32 | 1, 7)]
    {
        let before = j.counters.interp_calls;
        j.vcpu.arch = start.clone();
        (j.vcpu.arch.fpcr, j.vcpu.arch.fpsr) = (1 << 24, fpsr);
        j.vcpu.arch.v.fill(u128::from(number) << 64 | u128::from(number));
        assert!(matches!(j.run(), Stop::Shutdown | Stop::Internal(_)));
        // HVC is no interpreter call; the last conversion looks at no floating-point number.
        let made = j.counters.interp_calls - before;
        println!("{fpsr:#x} {number:#x}: {made}");
        assert!(if calls == 0 { made == 0 } else { (1..=calls).contains(&made) }, "{made} calls with FPSR {fpsr:#x}");
    }
}
