//! Accesses at every extreme of the address space: the translator does what the interpreter does, with and without a look over its shoulder.
//!
//! Extremes: both ends of both halves, ends of mappings and of RAM, holes in the address space, tags, every misalignment, accesses that cross from one kind of
//! page to another (RAM, nothing, Device memory, read-only, unmapped), and the page number that empty slots hold.

use cpu::sysreg::Slot as Sys;
use cpu::{Stop, Vcpu};

use super::tests::{BASE, vcpu};
use super::{JitCpu, JitShared, Options};

const HVC: u32 = 0xd400_0002;
const CODE: u64 = BASE + 0x8000;
const VECTORS: u64 = BASE + 0x1_0000;
const TABLES: u64 = BASE + 0x10_0000;
/// Bytes of a block of the map.
const BLOCK: u64 = 2 << 20;
/// What blocks that lead to RAM lead to, but for the first.
const DATA: u64 = BASE + BLOCK;

/// X1 is the address.
const ACCESSES: [(u32, &str); 53] = [
    (0x3940_0020, "ldrb w0, [x1]"),
    (0x7980_0020, "ldrsh x0, [x1]"),
    (0xb940_0020, "ldr w0, [x1]"),
    (0xf940_0020, "ldr x0, [x1]"),
    (0xf840_8c20, "ldr x0, [x1, #8]!"),
    (0xf85f_8420, "ldr x0, [x1], #-8"),
    (0xf85f_d020, "ldur x0, [x1, #-3]"),
    (0xf862_6820, "ldr x0, [x1, x2]"),
    (0xb862_d820, "ldr w0, [x1, w2, sxtw #2]"),
    (0x2940_0c20, "ldp w0, w3, [x1]"),
    (0xa940_0c20, "ldp x0, x3, [x1]"),
    (0xa9ff_0c20, "ldp x0, x3, [x1, #-16]!"),
    (0x6940_0c20, "ldpsw x0, x3, [x1]"),
    (0xf840_0820, "ldtr x0, [x1]"),
    (0x3d40_0020, "ldr b0, [x1]"),
    (0xfd40_0020, "ldr d0, [x1]"),
    (0x3dc0_0020, "ldr q0, [x1]"),
    (0xad40_0420, "ldp q0, q1, [x1]"),
    (0x4c40_2020, "ld1 {v0.16b-v3.16b}, [x1]"),
    (0x4c40_4420, "ld3 {v0.8h-v2.8h}, [x1]"),
    (0x0d40_9020, "ld1 {v0.s}[1], [x1]"),
    (0x4d40_cc20, "ld1r {v0.2d}, [x1]"),
    (0xc8df_fc20, "ldar x0, [x1]"),
    (0xb8bf_c020, "ldapr w0, [x1]"),
    (0xc85f_7c20, "ldxr x0, [x1]"),
    (0x085f_fc20, "ldaxrb w0, [x1]"),
    (0xc87f_0c20, "ldxp x0, x3, [x1]"),
    (0x3900_0022, "strb w2, [x1]"),
    (0x7900_0022, "strh w2, [x1]"),
    (0xb900_0022, "str w2, [x1]"),
    (0xf900_0022, "str x2, [x1]"),
    (0xf800_8c22, "str x2, [x1, #8]!"),
    (0xf81f_b022, "stur x2, [x1, #-5]"),
    (0xa900_1022, "stp x2, x4, [x1]"),
    (0x2881_1022, "stp w2, w4, [x1], #8"),
    (0xf800_0822, "sttr x2, [x1]"),
    (0x3d80_0022, "str q2, [x1]"),
    (0x7d00_0022, "str h2, [x1]"),
    (0xad00_0c22, "stp q2, q3, [x1]"),
    (0x4c00_a020, "st1 {v0.16b, v1.16b}, [x1]"),
    (0x4c00_0820, "st4 {v0.4s-v3.4s}, [x1]"),
    (0x0d20_0c20, "st2 {v0.b, v1.b}[3], [x1]"),
    (0xc89f_fc22, "stlr x2, [x1]"),
    (0x489f_fc22, "stlrh w2, [x1]"),
    (0xc800_7c22, "stxr w0, x2, [x1]"),
    (0xf822_0020, "ldadd x2, x0, [x1]"),
    (0x78e2_8020, "swpalh w2, w0, [x1]"),
    (0x3822_4020, "ldsmaxb w2, w0, [x1]"),
    (0xc8a0_7c22, "cas x0, x2, [x1]"),
    (0x4824_7c26, "casp x4, x5, x6, x7, [x1]"),
    (0xd50b_7421, "dc zva, x1"),
    (0xd50b_7a21, "dc cvac, x1"),
    (0xf980_0020, "prfm pldl1keep, [x1]"),
];

/// Vectors, tables and one access with an HVC behind it for each of [`ACCESSES`].
fn machine() -> Box<Vcpu> {
    let mut v = vcpu();
    let ram = &v.vm.ram;
    let word = |at: u64, w: u32| assert!(ram.write_bytes(at, &w.to_le_bytes()));
    let entry = |at: u64, e: u64| assert!(ram.write_bytes(at, &e.to_le_bytes()));
    (0..16).for_each(|n| word(VECTORS + n * 0x80, HVC));
    for (i, (access, _)) in ACCESSES.iter().enumerate() {
        word(CODE + 8 * i as u64, *access);
        word(CODE + 8 * i as u64 + 4, HVC);
    }
    // 39 bits, both halves by the same tables: RAM (2 blocks), no RAM, Device, read-only, nothing, EL0 too.
    let normal = |pa: u64| pa | 1 << 10 | 3 << 8 | 1;
    entry(TABLES + 8, (TABLES + 0x1000) | 3);
    let blocks = [
        normal(BASE),
        normal(DATA),
        normal(BASE + 2 * BLOCK),
        normal(DATA) | 1 << 2,
        normal(DATA) | 1 << 7,
        0,
        normal(DATA) | 1 << 6 | 1 << 53,
    ];
    (0..).zip(blocks).for_each(|(n, b)| entry(TABLES + 0x1000 + 8 * n, b));
    v.reset(BASE, [0; 4]);
    let half = 25 | 1 << 8 | 1 << 10 | 3 << 12;
    for (slot, value) in [
        (Sys::MAIR_EL1, 0x00ff),
        (Sys::TCR_EL1, half | half << 16 & !(1 << 30) | 2 << 30 | 2 << 32 | 3 << 37),
        (Sys::TTBR0_EL1, TABLES),
        (Sys::TTBR1_EL1, TABLES),
        (Sys::VBAR_EL1, VECTORS),
        (Sys::CPACR_EL1, 3 << 20),
        (Sys::SCTLR_EL1, 0x30d0_0801 | 1 << 2 | 1 << 12),
    ] {
        v.arch.set_sys(slot, value);
    }
    v
}

fn addresses() -> Vec<u64> {
    let mut all = Vec::new();
    let edges = (0..8).map(|n| BASE + n * BLOCK).chain([
        0,
        DATA + 0x1000,
        1 << 38,
        1 << 39,
        1 << 47,
        1 << 48,
        1 << 52,
        1 << 55,
        1 << 56,
        1 << 63,
        crate::tlb::EMPTY_PAGE,
        crate::tlb::EMPTY_PAGE + 0x1000,
        0xffff_ff80_0000_0000,
        0xffff_ff80_0000_0000 + DATA,
        0xffff_ff80_0000_0000 + DATA + 3 * BLOCK,
    ]);
    for edge in edges {
        for offset in [-64i64, -33, -16, -15, -9, -8, -7, -4, -3, -2, -1, 0, 1, 2, 4, 8, 12, 16] {
            all.push(edge.wrapping_add_signed(offset));
        }
    }
    // Tags, where the top byte is ignored.
    let tagged: Vec<u64> = all.iter().step_by(5).map(|va| va & !(0xff << 56) | 0xa5 << 56).collect();
    all.extend(tagged);
    all
}

/// What an access left: registers and the memory around all edges.
fn outcome(v: &Vcpu) -> (Vec<u64>, Vec<u128>, Vec<u8>) {
    let a = &v.arch;
    let mut x = a.x.to_vec();
    x.extend([Sys::ESR_EL1, Sys::FAR_EL1, Sys::ELR_EL1, Sys::SPSR_EL1].map(|s| a.sys(s)));
    let mut bytes = vec![0; 4 * 256];
    for (part, at) in bytes.chunks_mut(256).zip([BASE, DATA - 128, DATA + 0x1000 - 128, DATA + BLOCK - 256]) {
        assert!(v.vm.ram.read_bytes(at, part));
    }
    (x, a.v.to_vec(), bytes)
}

fn prepare(v: &mut Vcpu, index: usize, address: u64) {
    for at in [BASE, DATA - 128, DATA + 0x1000 - 128, DATA + BLOCK - 256] {
        let pattern: Vec<u8> = (0..=255u8).map(|b| b.wrapping_mul(7) ^ at.to_le_bytes()[2]).collect();
        assert!(v.vm.ram.write_bytes(at, &pattern));
    }
    let a = &mut v.arch;
    for (n, x) in a.x.iter_mut().enumerate() {
        *x = 0x0123_4567_89ab_cdef_u64.rotate_left(n as u32);
    }
    (a.x[1], a.x[2]) = (address, 8);
    (0u128..).zip(&mut a.v).for_each(|(n, v)| *v = n << 64 | 0x5555_0000_1111_2222);
    for slot in [Sys::ESR_EL1, Sys::FAR_EL1, Sys::ELR_EL1, Sys::SPSR_EL1] {
        a.set_sys(slot, 0);
    }
    a.set_el_sp(1, 1);
    a.sp = BASE + 0x4000;
    a.nzcv = 0;
    // As if a load-exclusive had been there before.
    a.exclusive.size = 0;
    a.pc = CODE + 8 * index as u64;
}

#[test]
fn wild_accesses_do_the_same_on_both_engines() {
    let jit = |check| {
        let shared = JitShared::new(Options { cache_bytes: 4 << 20, check, ..Options::default() }).ok()?;
        Some(JitCpu::new(machine(), shared).expect("maps"))
    };
    let (Some(mut plain), Some(mut checked)) = (jit(false), jit(true)) else { return };
    let mut reference = machine();
    let mut faults = 0u32;
    let mut wrong: Vec<(&str, String)> = Vec::new();
    let addresses = addresses();
    for (index, (_, text)) in ACCESSES.iter().enumerate() {
        for &address in &addresses {
            prepare(&mut reference, index, address);
            assert_eq!(reference.run(), Stop::Shutdown, "{text} at {address:#x}");
            let expected = outcome(&reference);
            faults += u32::from(reference.arch.sys(Sys::ESR_EL1) != 0);
            for (name, cpu) in [("translator", &mut plain), ("lockstep", &mut checked)] {
                prepare(&mut cpu.vcpu, index, address);
                assert_eq!(cpu.run(), Stop::Shutdown, "{name}: {text} at {address:#x}");
                let found = outcome(&cpu.vcpu);
                if found != expected && !wrong.iter().any(|(t, _)| t == text) {
                    let differs = |(a, b): &(&u64, &u64)| a != b;
                    let registers: Vec<_> = found.0.iter().zip(&expected.0).filter(differs).collect();
                    wrong.push((*text, format!("{name} at {address:#x}: {registers:x?}")));
                }
            }
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
    let all = (ACCESSES.len() * addresses.len()) as u32;
    assert!(faults > all / 4 && faults < all * 9 / 10, "{faults} of {all} faulted");
}
