//! Every Advanced SIMD integer, cryptographic and SIMD&FP load/store encoding of the table, decoded and executed, against `qemu-aarch64`.

#[path = "simd_oracle/machine.rs"]
mod machine;
#[path = "simd_oracle/oracle.rs"]
mod oracle;
#[path = "common/runner.rs"]
mod runner;

use isa::{Encoding, Features};
use machine::{Machine, PC, WINDOW};
use oracle::{Oracle, Registers};

/// A small generator of random numbers; the seed makes a failure repeatable.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let z = (self.0 ^ self.0 >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let z = (z ^ z >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ z >> 31
    }

    /// A vector: random, or of elements that are extreme for one element size.
    fn vector(&mut self) -> u128 {
        let random = u128::from(self.next()) << 64 | u128::from(self.next());
        let pick = self.next();
        let bits = 8u32 << (pick & 3);
        match pick >> 2 & 7 {
            0..3 => random,
            3 => 0,
            4 => self.lanes(bits, |r| {
                [0, 1, 2, u64::from(bits) - 1, u64::from(bits), 0xff, (256 - u64::from(bits)) & 0xff][r as usize % 7]
            }),
            _ => self.lanes(bits, |r| {
                let top = 1u64 << (bits - 1);
                [top, top - 1, u64::MAX, 0, 1, r][r as usize % 6]
            }),
        }
    }

    fn lanes(&mut self, bits: u32, f: impl Fn(u64) -> u64) -> u128 {
        let mask = u64::MAX >> (64 - bits);
        (0..128 / bits).fold(0, |v, _| v << (bits % 128) | u128::from(f(self.next()) & mask))
    }
}

fn is_memory(word: u32) -> bool {
    // Loads and stores are op0 = x1x0.
    word >> 27 & 1 == 1 && word >> 25 & 1 == 0
}

/// Puts the register numbers and offsets of a word into what the runner allows.
fn tame(word: u32, random: &mut Random) -> u32 {
    let register = [0, 2, 3, 4, 5, 6, 7, 31][random.next() as usize & 7];
    if !is_memory(word) {
        // DUP, INS, SMOV, UMOV: whatever is a general-purpose register here keeps clear of x1.
        let is_copy = word & 0x9fe0_8400 == 0x0e00_0400;
        let (to_vector, from_vector) = (matches!(word >> 11 & 15, 1 | 3), matches!(word >> 11 & 15, 5 | 7));
        return match (is_copy && word >> 29 & 1 == 0, to_vector, from_vector) {
            (true, true, _) => word & !(31 << 5) | register << 5,
            (true, _, true) => word & !31 | register,
            _ => word,
        };
    }
    let word = word & !(31 << 5) | 1 << 5;
    match word >> 24 & 0x3f {
        // Structures with post-index, and register offsets: rm is x2 or, where that means the size, 31.
        0b001100 | 0b001101 if word >> 23 & 1 == 1 => word & !(31 << 16) | [2, 31][random.next() as usize & 1] << 16,
        0b111100 if word >> 21 & 1 == 1 => word & !(31 << 16) | 2 << 16,
        // Unsigned offsets stay inside the window.
        0b111101 => word & !(0xfc0 << 10),
        _ => word,
    }
}

/// Is the encoding of an Advanced SIMD integer, cryptographic or SIMD&FP load/store class?
fn is_ours(encoding: Encoding) -> bool {
    let row = encoding.row();
    (0..4096u32)
        .find_map(|bits| {
            // Any word of the encoding tells the class; fields are filled with patterns until the guard accepts one.
            let word = row.value | bits.wrapping_mul(0x9e37_79b9).rotate_left(bits) & !row.mask;
            (isa::encoding(word) == Some(encoding)).then(|| isa::decode(word, Features::ALL))
        })
        .is_some_and(|insn| {
            let class = format!("{insn:?}");
            ["Vec", "Simd", "Crypto"].iter().any(|prefix| class.starts_with(prefix))
        })
}

#[test]
fn every_row_agrees_with_qemu() {
    let mut random = Random(std::env::var("SEED").ok().and_then(|s| s.parse().ok()).unwrap_or(1));
    let each: usize = std::env::var("CASES").ok().and_then(|s| s.parse().ok()).unwrap_or(60);
    let mut oracle = Oracle::start().unwrap_or_else(|e| panic!("{e}"));
    let mut failures = Vec::new();
    let mut total = 0;
    for encoding in Encoding::all().filter(|&encoding| is_ours(encoding)) {
        let (name, mask, value) = (encoding.row().name, encoding.row().mask, encoding.row().value);
        if name == "LDR_simd_lit" {
            continue; // PC-relative: a test of its own
        }
        let (mut done, mut tries) = (0, 0);
        while done < each {
            tries += 1;
            assert!(tries < 10_000 * each, "{name}: no word satisfies the guard");
            let word = tame(random.next() as u32 & !mask | value, &mut random);
            if isa::encoding(word) != Some(encoding) {
                continue;
            }
            let insn = isa::decode(word, Features::ALL);
            done += 1;
            total += 1;
            let mut input = Registers { v: [0; 32], x: [0; 8], fpsr: 0 };
            input.v.iter_mut().for_each(|v| *v = random.vector());
            input.x.iter_mut().for_each(|x| *x = random.next());
            input.x[1] = WINDOW as u64 / 2 + (random.next() & 31);
            if is_memory(word) {
                // A zero-extended word (UXTW) cannot be a small negative offset.
                let choices = if name.ends_with("_reg") && word >> 13 & 7 == 2 { 4 } else { 7 };
                input.x[2] = [0, 1, 16, 40, u64::MAX, -16i64 as u64, -33i64 as u64][random.next() as usize % choices];
            }
            let seed = random.next() as u32;
            let mut machine = Machine::new(&input, seed);
            let outcome = machine.execute(&insn);
            let (expected, window) =
                oracle.run(word, seed, &input).unwrap_or_else(|e| panic!("{name} {word:#010x}: {e}"));
            let got = machine.registers();
            if outcome.is_err() || got != expected || machine.window != window {
                failures.push(format!(
                    "{name} {word:08x} {insn:?} {outcome:?}\n{}",
                    differences(&input, &got, &expected, &machine.window, &window)
                ));
                break;
            }
        }
    }
    assert!(failures.is_empty(), "{} rows differ:\n{}", failures.len(), failures.join("\n"));
    println!("{total} instructions agree");
}

fn differences(
    input: &Registers,
    got: &Registers,
    expected: &Registers,
    window: &[u8],
    expected_window: &[u8],
) -> String {
    let mut text = String::new();
    for i in 0..32 {
        if got.v[i] != expected.v[i] {
            text += &format!("  v{i}: {:032x} should be {:032x}, was {:032x}\n", got.v[i], expected.v[i], input.v[i]);
        }
    }
    for i in 0..8 {
        if got.x[i] != expected.x[i] {
            text += &format!("  x{i}: {:016x} should be {:016x}, was {:016x}\n", got.x[i], expected.x[i], input.x[i]);
        }
    }
    if got.fpsr != expected.fpsr {
        text += &format!("  fpsr: {:x} should be {:x}\n", got.fpsr, expected.fpsr);
    }
    for i in (0..window.len()).filter(|&i| window[i] != expected_window[i]).take(8) {
        text += &format!("  [{i}]: {:02x} should be {:02x}\n", window[i], expected_window[i]);
    }
    text + &format!("  v1 {:032x} v2 {:032x}", input.v[1], input.v[2])
}

/// The runner's code lies elsewhere than the window, so that literals are compared with the window's bytes here.
#[test]
fn literals_come_from_beside_the_instruction() {
    let input = Registers { v: [u128::MAX; 32], x: [0; 8], fpsr: 0 };
    for (opc, bytes) in [(0u32, 4usize), (1, 8), (2, 16)] {
        for offset in [-1024i64, -4, 0, 4, 400] {
            let word = 0x1c00_0000 | opc << 30 | (offset as u32 >> 2 & 0x7_ffff) << 5 | 9;
            let mut machine = Machine::new(&input, 5);
            machine.execute(&isa::decode(word, Features::ALL)).unwrap();
            let start = PC.wrapping_add_signed(offset) as usize;
            let expected = machine.window[start..start + bytes].iter().rev().fold(0, |v, &b| v << 8 | u128::from(b));
            assert_eq!(machine.registers().v[9], expected, "{word:08x}");
        }
    }
}

/// A fault at any of the accesses leaves every register as it was, the base too.
#[test]
fn a_fault_leaves_all_registers() {
    for (word, what) in [
        (0x4cdf_0020u32, "ld4 {v0.16b-v3.16b}, [x1], #64"),
        (0x4cdf_2020, "ld1 {v0.16b-v3.16b}, [x1], #64"),
        (0x4c9f_0020, "st4 {v0.16b-v3.16b}, [x1], #64"),
        (0x0dff_e020, "ld4r {v0.8b-v3.8b}, [x1], #4"),
        (0x0dff_2020, "ld4 {v0.b-v3.b}[0], [x1], #4"),
        (0xacc1_0420, "ldp q0, q1, [x1], #32"),
        (0x3cc1_0420, "ldr q0, [x1], #16"),
    ] {
        let insn = isa::decode(word, Features::ALL);
        let mut input = Registers { v: std::array::from_fn(|i| i as u128), x: [7; 8], fpsr: 0 };
        let mut faults = 0;
        for distance in 1..64 {
            input.x[1] = (WINDOW - distance) as u64;
            let mut machine = Machine::new(&input, 1);
            if machine.execute(&insn).is_err() {
                assert_eq!(machine.registers(), input, "{what}, {distance} bytes before the end");
                faults += 1;
            }
        }
        assert!(faults > 0, "{what}");
    }
}
