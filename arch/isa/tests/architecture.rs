//! The instruction table against Arm's machine-readable list of encodings, as the crate `aarchmrs-instructions` has it.
//!
//! `architecture.txt` lists the encodings that are not offered, by feature; every other one must be in the table, under its
//! name, and the table must have nothing else. Arm's list gives masks and values but not the conditions on fields that make words
//! of an encoding reserved; `binutils.rs` compares those.

mod common;

use common::{Differences, Rules, generator, words_per_encoding};
use isa::random::word_of;
use isa::{Encoding, disasm, encoding};
use std::path::{Path, PathBuf};

const PACKAGE: &str = "aarchmrs-instructions";

/// An encoding of Arm's list.
struct Arm {
    name: String,
    mask: u32,
    value: u32,
    /// Is it outside what is offered?
    refused: bool,
}

impl Arm {
    /// `STLXRB_SR32_ldstexclr`: the mnemonic is what stands before the first `_`.
    fn mnemonic(&self) -> &str {
        self.name.split('_').next().unwrap_or_default()
    }

    fn takes(&self, word: u32) -> bool {
        word & self.mask == self.value
    }
}

/// The folder of the package's source.
fn source() -> PathBuf {
    let output = std::process::Command::new(env!("CARGO"))
        .args(["metadata", "--format-version=1", "--locked"])
        // Not the packages of other systems, which a build here has not downloaded.
        .arg(format!("--filter-platform={}-unknown-linux-gnu", std::env::consts::ARCH))
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .output()
        .unwrap_or_else(|error| panic!("cargo metadata: {error}"));
    let text = String::from_utf8_lossy(&output.stdout);
    let folder = text
        .split("\"manifest_path\":\"")
        .filter_map(|rest| rest.split('"').next())
        .filter_map(|path| path.strip_suffix("/Cargo.toml"))
        .find(|path| path.rsplit('/').next().is_some_and(|name| name.starts_with(PACKAGE)));
    let Some(folder) = folder else {
        panic!("cargo metadata names no {PACKAGE}: {}", String::from_utf8_lossy(&output.stderr))
    };
    Path::new(folder).join("src/A64")
}

/// The binary number of the constant `name` after the start of `text`.
fn constant(text: &str, name: &str) -> u32 {
    let start = format!("pub const {name}: u32 = 0b");
    let digits = text.split(&start).nth(1).and_then(|rest| rest.split("u32").next());
    let number = digits.and_then(|digits| u32::from_str_radix(digits, 2).ok());
    number.unwrap_or_else(|| panic!("{PACKAGE} has another form: no {name}"))
}

fn read_folder(folder: &Path, rules: &Rules, all: &mut Vec<Arm>) {
    let entries = std::fs::read_dir(folder).unwrap_or_else(|error| panic!("{}: {error}", folder.display()));
    for entry in entries {
        let path = entry.unwrap_or_else(|error| panic!("{}: {error}", folder.display())).path();
        let stem = path.file_stem().unwrap_or_default().to_string_lossy().into_owned();
        if path.is_dir() {
            if !rules.lists("part", &stem) {
                read_folder(&path, rules, all);
            }
            continue;
        }
        let text = std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        for part in text.split("pub const OPCODE_MASK").skip(1) {
            let part = format!("pub const OPCODE_MASK{part}");
            let Some(name) = part.split("pub const NAME: &str = \"").nth(1).and_then(|rest| rest.split('"').next())
            else {
                panic!("{PACKAGE} has another form: no NAME")
            };
            // Bits that should be one or zero are ignored by the decoder.
            let ignored = constant(&part, "SHOULD_BE_MASK");
            let mask = constant(&part, "OPCODE_MASK") & !ignored;
            let value = constant(&part, "OPCODE") & mask;
            all.push(Arm { name: name.to_owned(), mask, value, refused: rules.lists("not-offered", name) });
        }
    }
}

fn rules() -> Rules {
    Rules::parse("architecture.txt", include_str!("architecture.txt"))
}

fn arm(rules: &Rules) -> Vec<Arm> {
    let mut all = Vec::new();
    read_folder(&source(), rules, &mut all);
    assert!(all.len() > 2000, "{} encodings in {PACKAGE}", all.len());
    all
}

/// Is this Arm's name for the text of a word?
fn names(arm: &Arm, text: &str) -> bool {
    let mnemonic = text.split([' ', '.']).next().unwrap_or_default().to_ascii_uppercase();
    // One encoding has a plain form and one for the upper halves; hints have a name each.
    mnemonic == arm.mnemonic()
        || mnemonic.strip_suffix('2') == Some(arm.mnemonic())
        || (mnemonic == "HINT" && arm.name.ends_with("_hints"))
}

#[test]
fn every_offered_encoding_of_the_architecture_is_in_the_table() {
    let (mut random, rules, mut differences) = (generator(), rules(), Differences::default());
    let all = arm(&rules);
    let (mut offered, mut words, mut reserved) = (0, 0, 0);
    for one in all.iter().filter(|one| !one.refused) {
        offered += 1;
        let mut found = false;
        for _ in 0..words_per_encoding(100) {
            let word = random() & !one.mask | one.value;
            words += 1;
            if encoding(word).is_none() {
                reserved += 1;
                continue;
            }
            let text = disasm(word, 0);
            if names(one, &text) {
                found = true;
            } else if !all.iter().any(|other| other.takes(word) && names(other, &text)) {
                differences.add(&one.name, || format!("{word:08x} is {text:?}"));
            }
        }
        if !found {
            differences.add(&one.name, || "missing".to_owned());
        }
    }
    println!("{} encodings of Arm's, {offered} offered; {words} words of them, {reserved} reserved", all.len());
    let unused = rules.unused(&["part", "not-offered"]);
    assert!(differences.report("Arm's") & unused.is_empty(), "differences, or rules that nothing needs: {unused:?}");
}

#[test]
fn the_table_has_nothing_that_the_architecture_has_not() {
    let (mut random, rules, mut differences) = (generator(), rules(), Differences::default());
    let all = arm(&rules);
    for ours in Encoding::all() {
        let name = ours.row().name;
        for _ in 0..words_per_encoding(100) {
            let Some(word) = word_of(ours, &mut random) else { panic!("{ours:?} takes no word") };
            let text = disasm(word, 0);
            let (named, other): (Vec<&Arm>, Vec<&Arm>) =
                all.iter().filter(|one| one.takes(word)).partition(|one| !one.refused && names(one, &text));
            if named.is_empty() && !rules.lists("ours", name) {
                differences.add(name, || {
                    let other: Vec<&str> = other.iter().map(|one| one.name.as_str()).collect();
                    format!("{word:08x} {text:?}, which Arm has as {other:?}")
                });
            }
        }
    }
    let unused = rules.unused(&["ours"]);
    assert!(differences.report("ours") & unused.is_empty(), "differences, or rules that nothing needs: {unused:?}");
}
