//! Every floating-point encoding of the table is decoded, executed, and compared with `qemu-aarch64`: special values in every FPCR mode;
//! the result, FPSR and NZCV. `FP_ORACLE_CASES` sets the number of cases per encoding.

mod machine;
mod operands;
mod oracle;
#[path = "../common/runner.rs"]
mod runner;

use isa::decode::Encoding;
use isa::fp::FpSize;
use isa::{Features, decode};
use machine::Machine;
use operands::{Operands, Random};
use oracle::{Input, Oracle};

const SEED: u64 = 0x5eed;

/// How many different words of an encoding are tried: its immediates, conditions, element indices and shapes.
const WORDS: usize = 24;

/// Words of one encoding: registers as the runner loads them, everything else random. Empty when it is not floating point.
fn words(encoding: Encoding, random: &mut Random) -> Vec<u32> {
    let row = encoding.row();
    let mut word = || {
        row.fields.iter().fold(row.value, |word, field| {
            let value = match field.name {
                "rd" => 0,
                "rn" => 1,
                "rm" => 2,
                "ra" => 3,
                _ => random.next() as u32 & ((1 << field.width) - 1),
            };
            word | value << field.low
        })
    };
    let allocated = |word: &u32| decode(*word, Features::ALL).is_floating_point();
    (0..WORDS * 4).map(|_| word()).filter(allocated).take(WORDS).collect()
}

fn input(operands: &Operands, random: &mut Random) -> Input {
    let size = [FpSize::Single, FpSize::Double, FpSize::Half][random.below(3)];
    Input {
        v: std::array::from_fn(|_| operands.vector(size, random)),
        x: std::array::from_fn(|_| operands.integer(random)),
        fpcr: (random.next() as u32 & 0x1f) << 22, // RMode, FZ, DN, AHP
        fpsr: (random.next() & random.next()) as u32 & 0x9f,
        nzcv: random.next() as u32 & 0xf000_0000,
    }
}

#[test]
fn every_floating_point_encoding_agrees_with_qemu() {
    let cases = match std::env::var("FP_ORACLE_CASES") {
        Ok(text) => text.parse().expect("FP_ORACLE_CASES is a number of cases per encoding"),
        Err(_) => 6000,
    };
    let mut oracle = Oracle::start().unwrap_or_else(|message| panic!("{message}"));
    let operands = Operands::new();
    let mut random = Random(SEED);
    let (mut total, mut encodings) = (0, 0);
    let mut differing = Vec::new();
    for encoding in Encoding::all() {
        let words = words(encoding, &mut random);
        if words.is_empty() {
            continue;
        }
        encodings += 1;
        let mut differences = 0;
        for &word in &words {
            let insn = decode(word, Features::ALL);
            let inputs: Vec<Input> = (0..cases / words.len()).map(|_| input(&operands, &mut random)).collect();
            let answers = oracle.run(word, &inputs).unwrap_or_else(|message| panic!("{encoding:?}: {message}"));
            for (input, reference) in inputs.iter().zip(answers) {
                let mut machine = Machine::new(input);
                machine.execute(&insn).unwrap_or_else(|message| panic!("{insn:?}: {message}"));
                let ours = machine.output();
                total += 1;
                if ours != reference {
                    differences += 1;
                    if differences <= 2 {
                        println!(
                            "{encoding:?} {word:#010x} {insn:?}\n{input:#x?}\nours {ours:#x?}\nreference {reference:#x?}"
                        );
                    }
                }
            }
        }
        if differences != 0 {
            differing.push((encoding, differences));
        }
    }
    println!("{total} cases of {encodings} encodings, seed {SEED:#x}");
    assert!(differing.is_empty(), "encodings and their differences (first cases above): {differing:?}");
    assert!(encodings >= 192, "only {encodings} floating-point encodings were found in the table");
}

/// CPACR_EL1 comes before everything else: a trapped instruction has read and changed nothing.
#[test]
fn a_trapped_instruction_changes_nothing() {
    let operands = Operands::new();
    let mut random = Random(SEED);
    let mut tried = 0;
    for word in Encoding::all().flat_map(|encoding| words(encoding, &mut Random(SEED))) {
        let input = input(&operands, &mut random);
        let mut machine = Machine::new(&input);
        let before = machine.output();
        machine.trapping = true;
        assert_eq!(machine.execute(&decode(word, Features::ALL)), Err("trapped".to_owned()), "{word:#010x}");
        assert_eq!(machine.output(), before, "{word:#010x}");
        tried += 1;
    }
    assert!(tried > 192 * WORDS / 2, "only {tried} words were tried");
}
