//! `cargo xtask gen`: writes `arch/isa/src/generated/` from `arch/isa/a64.isa`. `--check` only says whether it is current.

use std::collections::HashMap;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};

/// Number of buckets of the decoder's first level; `bucket` here and in `isa::decode` must agree.
const BUCKETS: usize = 1 << 14;
const BUCKET_MASK: u32 = 0xfff0_0c00;

fn bucket(word: u32) -> usize {
    (word >> 18 & 0x3ffc | word >> 10 & 3) as usize
}

struct Field {
    name: String,
    low: u32,
    width: u32,
}

struct Row {
    name: String,
    mask: u32,
    value: u32,
    feature: Option<String>,
    guard: Option<String>,
    instruction: String,
    fields: Vec<Field>,
}

/// Runs the generator.
pub fn run(arguments: &[String]) -> ExitCode {
    let check = match arguments {
        [] => false,
        [only] if only == "--check" => true,
        _ => {
            eprintln!("xtask gen: the only option is --check");
            return ExitCode::FAILURE;
        }
    };
    match generate(check) {
        Ok(()) => ExitCode::SUCCESS,
        Err(message) => {
            eprintln!("xtask gen: {message}");
            ExitCode::FAILURE
        }
    }
}

fn generate(check: bool) -> Result<(), String> {
    let isa = Path::new(env!("CARGO_MANIFEST_DIR")).join("../arch/isa");
    let table = isa.join("a64.isa");
    let text = std::fs::read_to_string(&table).map_err(|error| format!("{}: {error}", table.display()))?;
    let rows = parse(&text)?;
    let output: PathBuf = isa.join("src/generated/decode.rs");
    let fresh = formatted(&emit(&rows))?;
    if check {
        let current = std::fs::read_to_string(&output).unwrap_or_default();
        return if current == fresh {
            Ok(())
        } else {
            Err(format!("{} is not what a64.isa says; run: cargo xtask gen", output.display()))
        };
    }
    std::fs::write(&output, fresh).map_err(|error| format!("{}: {error}", output.display()))?;
    println!("{}: {} encodings", output.display(), rows.len());
    Ok(())
}

fn parse(text: &str) -> Result<Vec<Row>, String> {
    let mut rows: Vec<Row> = Vec::new();
    for (number, line) in text.lines().enumerate() {
        let line = line.trim();
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        let row = parse_row(line).map_err(|why| format!("a64.isa:{}: {why}", number + 1))?;
        if rows.iter().any(|other| other.name == row.name) {
            return Err(format!("a64.isa:{}: a second {}", number + 1, row.name));
        }
        rows.push(row);
    }
    Ok(rows)
}

fn parse_row(line: &str) -> Result<Row, String> {
    let columns: Vec<&str> = line.splitn(5, " | ").map(str::trim).collect();
    let [name, bits, feature, guard, instruction] = columns[..] else {
        return Err(format!("{} columns, expected 5: NAME | bits | feature | guard | instruction", columns.len()));
    };
    let mut row = Row {
        name: name.to_owned(),
        mask: 0,
        value: 0,
        feature: (feature != "-").then(|| feature.to_owned()),
        guard: (guard != "-").then(|| guard.to_owned()),
        instruction: instruction.to_owned(),
        fields: Vec::new(),
    };
    let mut at = 32;
    let mut take = |width: u32| -> Result<u32, String> {
        if width > at {
            return Err(format!("{name}: more than 32 bits"));
        }
        at -= width;
        Ok(at)
    };
    for token in bits.split_whitespace() {
        if let Some((field, width)) = token.split_once(':') {
            let width = width.parse().map_err(|_| format!("{token}: not a width"))?;
            let low = take(width)?;
            row.fields.push(Field { name: field.to_lowercase(), low, width });
        } else if matches!(token, "Rd" | "Rn" | "Rm" | "Rt" | "Rt2" | "Rs" | "Ra") {
            let low = take(5)?;
            row.fields.push(Field { name: token.to_lowercase(), low, width: 5 });
        } else {
            for digit in token.chars() {
                let low = take(1)?;
                match digit {
                    '0' | '1' => {
                        row.mask |= 1 << low;
                        row.value |= u32::from(digit == '1') << low;
                    }
                    'x' => {}
                    _ => return Err(format!("{token}: neither bits nor a field")),
                }
            }
        }
    }
    if at != 0 {
        return Err(format!("{name}: {} bits, expected 32", 32 - at));
    }
    Ok(row)
}

/// Is `name` a word of its own in `text`?
fn mentions(text: &str, name: &str) -> bool {
    let is_word = |c: char| c.is_ascii_alphanumeric() || c == '_';
    text.match_indices(name)
        .any(|(at, _)| !text[..at].ends_with(is_word) && !text[at + name.len()..].starts_with(is_word))
}

fn emit(rows: &[Row]) -> String {
    // Only modules that some constructor names, or the compiler would complain of an unused import.
    let used = |prefix: &str| rows.iter().any(|row| row.instruction.contains(prefix));
    let mut out = format!(
        "// Generated by `cargo xtask gen` from a64.isa. Do not edit.\n\n\
         use crate::{{decode::{{Candidate, END, Field, Row, candidate as c}}, features::Feature, {}insn::*, operand::*{}}};\n\n",
        if used(" Fp") { "fp::*, " } else { "" },
        if used(" Vec") { ", simd::*" } else { "" },
    );
    let _ = writeln!(out, "/// The lines of the table.\npub(crate) static ROWS: [Row; {}] = [", rows.len());
    for row in rows {
        let feature = row.feature.as_ref().map_or("None".to_owned(), |name| format!("Some(Feature::{name})"));
        let fields: Vec<String> = row
            .fields
            .iter()
            .map(|field| format!("Field {{ name: {:?}, low: {}, width: {} }}", field.name, field.low, field.width))
            .collect();
        let _ = writeln!(
            out,
            "Row {{ name: {:?}, mask: 0x{:08x}, value: 0x{:08x}, feature: {feature}, fields: &[{}] }},",
            row.name,
            row.mask,
            row.value,
            fields.join(", ")
        );
    }
    out.push_str("];\n\n");
    emit_buckets(rows, &mut out);
    emit_constructors(rows, &mut out);
    out
}

fn emit_buckets(rows: &[Row], out: &mut String) {
    // No two lines take one word, so that any order is right. The lines with the most words come first: they are the likelier ones.
    let mut order: Vec<usize> = (0..rows.len()).collect();
    order.sort_by_key(|&index| rows[index].mask.count_ones());
    let mut buckets: Vec<Vec<usize>> = vec![Vec::new(); BUCKETS];
    for index in order {
        let row = &rows[index];
        let (mask, value) = (bucket(row.mask & BUCKET_MASK), bucket(row.value & BUCKET_MASK));
        for (number, members) in buckets.iter_mut().enumerate() {
            if number & mask == value {
                members.push(index);
            }
        }
    }
    // Buckets with the same lines share one list, which keeps the tables in the cache.
    let mut lists: Vec<Vec<usize>> = Vec::new();
    let mut start_of: HashMap<Vec<usize>, usize> = HashMap::new();
    let mut next = 0;
    let starts: Vec<usize> = buckets
        .into_iter()
        .map(|members| {
            *start_of.entry(members).or_insert_with_key(|members| {
                lists.push(members.clone());
                next += members.len() + 1;
                next - members.len() - 1
            })
        })
        .collect();
    let _ = writeln!(
        out,
        "/// Where in `CANDIDATES` the lines of each bucket start.\npub(crate) static BUCKETS: [u16; {BUCKETS}] = ["
    );
    for start in starts {
        let _ = write!(out, "{start},");
    }
    out.push_str("];\n\n");
    let _ = writeln!(
        out,
        "/// The lists of the buckets, each with an `END`.\npub(crate) static CANDIDATES: [Candidate; {next}] = ["
    );
    for members in lists {
        for index in members {
            let row = &rows[index];
            let feature = row.feature.as_ref().map_or("None".to_owned(), |name| format!("Some(Feature::{name})"));
            let _ = write!(out, "c(0x{:08x}, 0x{:08x}, {feature}, {index}),", row.mask, row.value);
        }
        out.push_str("END,\n");
    }
    out.push_str("];\n\n");
}

fn emit_constructors(rows: &[Row], out: &mut String) {
    out.push_str(
        "/// The instruction of line `row`; `None` when its guard refuses the word.\n\
         pub(crate) fn construct(row: u16, word: u32) -> Option<Insn> {\nSome(match row {\n",
    );
    for (index, row) in rows.iter().enumerate() {
        let _ = writeln!(out, "// {}\n{index} => {{", row.name);
        let guard = row.guard.as_deref().unwrap_or("");
        for field in &row.fields {
            if !mentions(&row.instruction, &field.name) && !mentions(guard, &field.name) {
                continue;
            }
            let shifted = if field.low == 0 { "word".to_owned() } else { format!("(word >> {})", field.low) };
            let mask = (1u64 << field.width) - 1;
            let value = match (field.name.as_str(), field.width) {
                (name, 5) if name.starts_with('r') && name.len() <= 3 => format!("({shifted} & 31) as Reg"),
                (_, 1) => format!("{shifted} & 1 != 0"),
                _ => format!("{shifted} & 0x{mask:x}"),
            };
            let _ = writeln!(out, "let {} = {value};", field.name);
        }
        if !guard.is_empty() {
            let _ = writeln!(out, "let allocated = {guard};\nif !allocated {{ return None; }}");
        }
        let _ = writeln!(out, "Insn::{}\n}}", row.instruction);
    }
    out.push_str("_ => return None,\n})\n}\n");
}

/// The text as rustfmt would have it.
fn formatted(text: &str) -> Result<String, String> {
    let path = std::env::temp_dir().join(format!("vmm-gen-{}.rs", std::process::id()));
    let config = Path::new(env!("CARGO_MANIFEST_DIR")).join("../rustfmt.toml");
    let result = (|| {
        std::fs::write(&path, text)?;
        let output =
            Command::new("rustfmt").args(["--edition", "2024", "--config-path"]).arg(&config).arg(&path).output()?;
        if !output.status.success() {
            return Ok(Err(format!("rustfmt: {}", String::from_utf8_lossy(&output.stderr))));
        }
        std::fs::read_to_string(&path).map(Ok)
    })();
    let _ = std::fs::remove_file(&path);
    result.map_err(|error: std::io::Error| format!("{}: {error}", path.display()))?
}
