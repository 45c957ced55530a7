//! Every base encoding of the table that user-mode software can execute, decoded and executed, against `qemu-aarch64`.

use isa::{Encoding, Features, Insn};

use super::generate::{Random, arrange, word};
use super::machine::Machine;
use super::oracle::{Oracle, Registers};

#[test]
fn every_row_agrees_with_qemu() {
    let mut random = Random(std::env::var("SEED").ok().and_then(|s| s.parse().ok()).unwrap_or(1));
    let each: usize = std::env::var("CASES").ok().and_then(|s| s.parse().ok()).unwrap_or(60);
    let mut oracle = Oracle::start().unwrap_or_else(|e| panic!("{e}"));
    let (mut rows, mut cases, mut failures) = (0, 0, Vec::new());
    for encoding in Encoding::all() {
        let mut seen = 0;
        for _ in 0..each * 8 {
            let Some((word, insn, kind)) = word(encoding, &mut random) else { continue };
            let (prefix, before) = arrange(encoding, word, kind, &mut random);
            let seed = random.next();
            let expected = oracle.run(prefix, word, seed, &before).unwrap_or_else(|e| panic!("{encoding:?}: {e}"));
            if let Some(what) = differs(&expected, prefix, &insn, seed, &before) {
                failures.push(format!("{encoding:?} {word:#010x} {insn:?} {before:x?}\n  {what}"));
                break;
            }
            seen += 1;
            if seen == each {
                break;
            }
        }
        rows += usize::from(seen != 0);
        cases += seen;
    }
    assert!(failures.is_empty(), "{} of {rows} rows differ:\n{}", failures.len(), failures.join("\n"));
    assert!(rows > 150, "only {rows} rows were compared");
    println!("{rows} rows, {cases} cases agree");
}

/// Runs prefix and instruction; says what is not as expected.
fn differs(
    (registers, window): &(Registers, Vec<u8>),
    prefix: u32,
    insn: &Insn,
    seed: u64,
    before: &Registers,
) -> Option<String> {
    let mut m = Machine::new(seed);
    m.x[..16].copy_from_slice(&before.x);
    (m.x[30], m.sp, m.nzcv) = (before.x30, before.sp, before.nzcv as u32);
    for insn in [&isa::decode(prefix, Features::ALL), insn] {
        if let Err(stop) = m.execute(insn) {
            return Some(format!("stopped: {stop:?}"));
        }
    }
    if m.registers() != *registers {
        return Some(format!("expected {registers:x?}\n  got      {:x?}", m.registers()));
    }
    let place = (0..window.len()).find(|&i| m.window[i] != window[i])?;
    Some(format!("memory at {place:#x}: expected {:#04x}, got {:#04x}", window[place], m.window[place]))
}
