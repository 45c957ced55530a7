//! The decoder and the disassembler against `aarch64-linux-gnu-objdump`.
//!
//! The text of a word is made from the decoded instruction, so that equal text means that decoding found the same encoding and the
//! same operands. `binutils.txt` lists the differences that stay, each with its reason.

mod common;

use common::{Differences, Rules, generator, words_per_encoding};
use isa::random::{any, word_of};
use isa::{Encoding, Feature, disasm, encoding};
use std::collections::BTreeSet;
use std::process::Command;

const OBJDUMP: &str = "aarch64-linux-gnu-objdump";

fn rules() -> Rules {
    Rules::parse("binutils.txt", include_str!("binutils.txt"))
}

/// What objdump says of each word, at address 4 times its index; `None` for undefined ones.
fn objdump(name: &str, words: &[u32]) -> Vec<Option<String>> {
    let path = std::env::temp_dir().join(format!("vmm-{name}-{}.bin", std::process::id()));
    let bytes: Vec<u8> = words.iter().flat_map(|word| word.to_le_bytes()).collect();
    std::fs::write(&path, bytes).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    let output = Command::new(OBJDUMP)
        .args(["--disassemble-all", "--disassemble-zeroes", "--target=binary", "--architecture=aarch64"])
        .args(["--disassembler-options=no-aliases,no-notes"])
        .arg(&path)
        .output()
        .unwrap_or_else(|error| panic!("{OBJDUMP} ({error}); install it: apt-get install binutils-aarch64-linux-gnu"));
    let _ = std::fs::remove_file(&path);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let text = String::from_utf8_lossy(&output.stdout);
    // "   0:<tab>910043ff <tab>add<tab>sp, sp, #0x10"
    let lines: Vec<Option<String>> = text
        .lines()
        .filter_map(|line| line.splitn(3, '\t').nth(2))
        .map(|text| (!text.starts_with(".inst")).then(|| normal(text)))
        .collect();
    assert_eq!(lines.len(), words.len(), "a line per word");
    lines
}

/// Without comments and with single spaces.
fn normal(text: &str) -> String {
    let text = text.split("//").next().unwrap_or_default();
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

/// Equal text, but for the names of system registers, of which this crate knows the encodings only.
fn same(ours: &str, theirs: &str) -> bool {
    let register = |text: &str, place: usize| -> Option<(String, String)> {
        let (mnemonic, operands) = text.split_once(' ')?;
        let operands: Vec<&str> = operands.split(", ").collect();
        let name = operands.get(place)?;
        Some(((*name).to_owned(), format!("{mnemonic} {}", operands.get(1 - place)?)))
    };
    let place = match ours.get(..5) {
        Some("mrs x") => 1,
        Some("msr s") => 0,
        _ => return ours == theirs,
    };
    match (register(ours, place), register(theirs, place)) {
        (Some((our_name, our_rest)), Some((their_name, their_rest))) => {
            let generic = their_name.starts_with('s') && their_name.matches('_').count() == 4;
            our_rest == their_rest && (our_name == their_name || !generic)
        }
        _ => ours == theirs,
    }
}

/// The mnemonic, marked when an operand is of half precision or of its vectors: FEAT_FP16 has most of its mnemonics in common with the
/// offered floating point.
fn family(text: &str) -> String {
    let (mnemonic, operands) = text.split_once(' ').unwrap_or((text, ""));
    let half = operands.split(|c: char| !c.is_ascii_alphanumeric()).any(|word| {
        matches!(word, "2h" | "4h" | "8h") || word.strip_prefix('h').is_some_and(|n| n.parse::<u8>().is_ok())
    });
    if half { format!("{mnemonic}(half)") } else { mnemonic.to_owned() }
}

#[test]
fn every_encoding_has_the_text_of_objdump() {
    let (mut random, rules, mut differences) = (generator(), rules(), Differences::default());
    let mut words = Vec::new();
    for encoding in Encoding::all() {
        for _ in 0..words_per_encoding(100) {
            words.push(word_of(encoding, &mut random).unwrap_or_else(|| panic!("{encoding:?} takes no word")));
        }
    }
    let mut equal = 0;
    for (index, (&word, theirs)) in words.iter().zip(objdump("text", &words)).enumerate() {
        let Some(encoding) = encoding(word) else { panic!("{word:08x} was allocated") };
        let name = encoding.row().name;
        let ours = disasm(word, index as u64 * 4);
        match theirs {
            Some(theirs) if same(&ours, &theirs) => equal += 1,
            Some(theirs) if !rules.lists("text", name) => {
                differences.add(name, || format!("{word:08x} ours {ours:?} theirs {theirs:?}"));
            }
            None if !rules.lists("undefined", name) => {
                differences.add(name, || format!("{word:08x} ours {ours:?}, theirs undefined"));
            }
            _ => {}
        }
    }
    println!("{} words of {} encodings, {equal} equal", words.len(), Encoding::all().len());
    let unused = rules.unused(&["text", "undefined"]);
    assert!(differences.report("text") & unused.is_empty(), "differences, or rules that nothing needs: {unused:?}");
}

#[test]
fn what_objdump_knows_is_allocated_or_not_offered() {
    let (mut random, rules, mut differences) = (generator(), rules(), Differences::default());
    let count = words_per_encoding(100) * 2000;
    // Half of them are neighbours of allocated words: there the mistakes are.
    let words: Vec<u32> =
        (0..count).map(|n| if n % 2 == 0 { random() } else { any(&mut random) ^ 1 << (random() % 32) }).collect();
    let (mut both, mut neither) = (0, 0);
    for (&word, theirs) in words.iter().zip(objdump("words", &words)) {
        match (encoding(word), theirs) {
            (Some(_), Some(_)) => both += 1,
            (None, None) => neither += 1,
            (Some(encoding), None) => {
                let name = encoding.row().name;
                if !rules.lists("undefined", name) {
                    differences.add(name, || format!("{word:08x} {}: undefined for objdump", disasm(word, 0)));
                }
            }
            (None, Some(theirs)) => {
                let mnemonic = family(&theirs);
                // SVE and SME have two of the sixteen parts of the encoding space for themselves (Arm ARM C4.1).
                let scalable = word >> 25 & 15 == 0b0010 || word >> 31 == 1 && word >> 25 & 15 == 0;
                if !scalable && !rules.lists("not-offered", &mnemonic) {
                    differences.add(&mnemonic, || format!("{word:08x} {theirs}: unallocated for us"));
                }
            }
        }
    }
    println!("{count} words, {both} allocated and {neither} unallocated for both");
    assert!(differences.report("allocation"), "differences that binutils.txt does not list");
}

/// The lines that the assembler refuses for an architecture, by number from 1.
fn refused_for(architecture: &str, text: &str) -> BTreeSet<usize> {
    let base = std::env::temp_dir().join(format!("vmm-as-{}", std::process::id()));
    let (source, object) = (base.with_extension("s"), base.with_extension("o"));
    std::fs::write(&source, text).unwrap_or_else(|error| panic!("{}: {error}", source.display()));
    let output = Command::new("aarch64-linux-gnu-as")
        .arg(format!("-march={architecture}"))
        .arg("-o")
        .args([&object, &source])
        .output()
        .unwrap_or_else(|error| {
            panic!("aarch64-linux-gnu-as ({error}); install it: apt-get install binutils-aarch64-linux-gnu")
        });
    let _ = (std::fs::remove_file(&source), std::fs::remove_file(&object));
    // "x.s:12: Error: selected processor does not support `ldadd w0,w1,[x2]'"
    let messages = String::from_utf8_lossy(&output.stderr);
    let lines = messages.lines().filter(|line| line.contains("selected processor does not support"));
    lines.filter_map(|line| line.split(':').nth(1)?.parse().ok()).collect()
}

/// The architecture of the assembler that has a feature: the first version that demands it, or Armv8.0 with an extension.
fn architecture(feature: Feature) -> &'static str {
    match feature {
        Feature::Crc32 => "armv8-a+crc",
        Feature::Lse => "armv8-a+lse",
        Feature::Lor => "armv8-a+lor",
        Feature::Lrcpc => "armv8-a+rcpc",
        Feature::Lrcpc2 | Feature::Dit => "armv8.4-a",
        Feature::FlagM => "armv8-a+flagm",
        Feature::FlagM2 => "armv8.5-a",
        Feature::Jscvt => "armv8.3-a",
        Feature::Rdm => "armv8-a+rdma",
        Feature::DotProd => "armv8.2-a+dotprod",
        Feature::Aes | Feature::Pmull => "armv8-a+aes",
        Feature::Sha1 | Feature::Sha256 => "armv8-a+sha2",
        Feature::Pan => "armv8-a+pan",
        Feature::Ssbs => "armv8-a+ssbs",
        Feature::Wfxt => "armv8.7-a",
        Feature::Sb => "armv8-a+sb",
    }
}

/// The text of a random word of the encoding, such that the assembler takes it.
fn line_of(encoding: Encoding, random: &mut impl FnMut() -> u32) -> String {
    let word = word_of(encoding, random).unwrap_or_else(|| panic!("{encoding:?} takes no word"));
    // objdump's `msr pan, #0x7` is not what the assembler takes.
    let word = if encoding.row().name.starts_with("MSR_") { word & !0xe00 } else { word };
    disasm(word, 0)
}

#[test]
fn the_assembler_asks_for_the_same_features() {
    let (mut random, rules, mut differences) = (generator(), rules(), Differences::default());
    let lines: Vec<(Encoding, String)> =
        Encoding::all().map(|encoding| (encoding, line_of(encoding, &mut random))).collect();
    let text = |lines: &[(Encoding, String)]| lines.iter().map(|(_, line)| format!("{line}\n")).collect::<String>();
    let refused = refused_for("armv8-a", &text(&lines));
    for (index, (encoding, line)) in lines.iter().enumerate() {
        let (row, refused) = (encoding.row(), refused.contains(&(index + 1)));
        if row.feature.is_some() != refused && !rules.lists("feature", row.name) {
            differences.add(row.name, || format!("{line}: ours {:?}, refused for Armv8.0: {refused}", row.feature));
        }
    }
    // With its feature the line is taken.
    for feature in Feature::ALL {
        let lines: Vec<_> =
            lines.iter().filter(|(encoding, _)| encoding.row().feature == Some(feature)).cloned().collect();
        assert!(!lines.is_empty(), "{feature:?} has no encoding");
        for line in refused_for(architecture(feature), &text(&lines)) {
            let (encoding, text) = &lines[line - 1];
            differences.add(encoding.row().name, || format!("{text}: refused although {feature:?} is there"));
        }
    }
    println!("{} encodings, {} features", lines.len(), Feature::ALL.len());
    let unused = rules.unused(&["feature"]);
    assert!(differences.report("feature") & unused.is_empty(), "differences, or rules that nothing needs: {unused:?}");
}
