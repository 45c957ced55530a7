//! The same random instructions on `vmm`'s engines and on a reference, and the smallest block on which they differ.

pub mod block;
pub mod generate;
pub mod reference;
pub mod subject;

use block::{Block, Outcome};
use generate::{Candidate, Generator, Rng, Unit};
use reference::Reference;
use std::fmt::Write as _;
use subject::{Engine, Subject};

/// How much to run.
#[derive(Clone, Copy, Debug)]
pub struct Plan {
    /// Decides everything; printed with every difference.
    pub seed: u64,
    /// Executions of each encoding at least, as far as its words are allocated at all.
    pub per_encoding: usize,
    /// Units of a block.
    pub block_length: usize,
}

/// What was run.
#[derive(Debug, Default)]
pub struct Report {
    /// Instruction words executed on both sides.
    pub instructions: u64,
    /// Blocks.
    pub blocks: u64,
    /// Blocks that a signal ended.
    pub signals: u64,
    /// Blocks that differ only in FPSR.UFC, on an engine that may ([`Engine::LATE_TININESS`]).
    pub late_tininess: u64,
    /// Executions of each encoding as the subject of a unit, by index in the table.
    pub executed: Vec<u64>,
    /// Encodings that no block executed.
    pub uncovered: Vec<&'static str>,
}

/// All encodings of the table, as the generator wants them.
#[must_use]
pub fn candidates() -> Vec<Candidate> {
    isa::Encoding::all()
        .map(|encoding| {
            let row = encoding.row();
            // Bits that the table ignores are "should be" bits: another value is CONSTRAINED UNPREDICTABLE. They are ones
            // but in the system space, where they are zeros.
            let fields = row.fields.iter().fold(0, |all, field| all | ((1 << field.width) - 1) << field.low);
            let ignored = !(row.mask | fields);
            let zeros = row.name.ends_with("AXFLAG") || row.name.ends_with("XAFLAG") || row.name == "CFINV";
            let value = if zeros { row.value } else { row.value | ignored };
            Candidate { name: row.name, mask: row.mask | ignored, value }
        })
        .collect()
}

fn allocated(word: u32) -> bool {
    isa::decode(word, isa::Features::ALL) != isa::Insn::Undefined
}

/// Blocks that are sent to the reference at once.
const BATCH: usize = 256;

/// Runs the plan; the first difference, minimised, is the error.
///
/// # Errors
/// A text with the smallest differing block, its start and both ends.
pub fn compare<E: Engine>(plan: Plan, reference: &mut Reference, subject: &mut Subject<E>) -> Result<Report, String> {
    let generator = Generator::new(candidates(), allocated);
    let mut report = Report { executed: vec![0; generator.candidates().len()], ..Report::default() };
    let mut rng = Rng::new(plan.seed);
    let mut work = Vec::new();
    for &encoding in generator.usable() {
        let wanted = plan.per_encoding as u64;
        let mut barren = 0;
        while report.executed[encoding] < wanted && barren < 3 {
            let before = report.executed[encoding];
            let units = generator.units(encoding, plan.block_length, &mut rng);
            for unit in &units {
                report.executed[unit.candidate] += 1;
            }
            barren = if report.executed[encoding] == before { barren + 1 } else { 0 };
            work.push((units, rng.word()));
            if work.len() == BATCH {
                run_batch(&work, reference, subject, &mut report, plan.seed)?;
                work.clear();
            }
        }
    }
    run_batch(&work, reference, subject, &mut report, plan.seed)?;
    report.uncovered = generator
        .candidates()
        .iter()
        .zip(&report.executed)
        .filter(|(_, count)| **count == 0)
        .map(|(candidate, _)| candidate.name)
        .collect();
    Ok(report)
}

fn run_batch<E: Engine>(
    work: &[(Vec<Unit>, u64)],
    reference: &mut Reference,
    subject: &mut Subject<E>,
    report: &mut Report,
    plan_seed: u64,
) -> Result<(), String> {
    let blocks: Vec<Block> = work.iter().map(|(units, seed)| Generator::block(units, *seed)).collect();
    let expected = reference.run(&blocks);
    for ((block, expected), (units, seed)) in blocks.iter().zip(&expected).zip(work) {
        let got = subject.run(block);
        report.blocks += 1;
        report.instructions += block.words.len() as u64;
        report.signals += u64::from(expected.signal != block::Signal::None);
        report.late_tininess += u64::from(got.end.fpsr != expected.end.fpsr);
        if !agree::<E>(block, &got, expected) {
            return Err(minimised(units, *seed, plan_seed, reference, subject));
        }
    }
    Ok(())
}

/// FPSR.UFC.
const UFC: u64 = 8;

/// True if both ends are the same, apart from what translated code may do otherwise: miss FPSR.UFC (also in a register that the block read
/// FPSR to), and NZCV at an exception.
fn agree<E: Engine>(block: &Block, got: &Outcome, expected: &Outcome) -> bool {
    if got == expected {
        return true;
    }
    if !E::LATE_TININESS {
        return false;
    }
    let mut masked = got.clone();
    let missing = |got: u64, expected: u64| if got | UFC == expected { expected } else { got };
    masked.end.fpsr = missing(got.end.fpsr, expected.end.fpsr);
    for (rt, x) in (0u32..).zip(&mut masked.end.x) {
        let mrs_fpsr = 0xd53b_4420 | rt;
        if block.words.contains(&mrs_fpsr) {
            *x = missing(*x, expected.end.x[rt as usize]);
        }
    }
    // Flags that are overwritten before anything reads them are not kept: an exception in between saves older ones (docs/design/translator.md).
    if expected.signal != block::Signal::None
        && (got.end.nzcv ^ expected.end.nzcv) & certainly_read(block, expected) == 0
    {
        masked.end.nzcv = expected.end.nzcv;
    }
    masked == *expected
}

/// The flags that the block would read behind the instruction that the signal ended it at, as bits of NZCV.
fn certainly_read(block: &Block, outcome: &Outcome) -> u64 {
    let at = usize::try_from(outcome.end.pc.wrapping_sub(block::CODE) / 4).unwrap_or(usize::MAX);
    let rest = block.words.get(at..).unwrap_or_default();
    let insns: Vec<_> = rest.iter().map(|word| isa::decode(*word, isa::Features::ALL)).collect();
    u64::from(jit::t1::analysis::flags_certainly_read(&insns)) << 28
}

/// Leaves out units as long as the difference stays, and describes what is left.
fn minimised<E: Engine>(
    units: &[Unit],
    seed: u64,
    plan_seed: u64,
    reference: &mut Reference,
    subject: &mut Subject<E>,
) -> String {
    let mut differs = |units: &[Unit]| {
        let block = Generator::block(units, seed);
        let expected = reference.run(std::slice::from_ref(&block)).remove(0);
        let got = subject.run(&block);
        (!agree::<E>(&block, &got, &expected)).then_some((block, got, expected))
    };
    let mut units = units.to_vec();
    let mut at = 0;
    while at < units.len() {
        let mut fewer = units.clone();
        fewer.remove(at);
        if differs(&fewer).is_some() {
            units = fewer;
        } else {
            at += 1;
        }
    }
    let Some((block, got, expected)) = differs(&units) else {
        return format!("seed {plan_seed:#x}: a difference that does not come again");
    };
    describe(&block, &got, &expected, plan_seed)
}

fn describe(block: &Block, got: &Outcome, expected: &Outcome, plan_seed: u64) -> String {
    let mut text = format!("seed {plan_seed:#x}: the engine and the reference differ on\n");
    for word in &block.words {
        let name = isa::encoding(*word).map_or("?", |encoding| encoding.row().name);
        let _ = writeln!(text, "  {word:08x}  {name:16} {:?}", isa::decode(*word, isa::Features::ALL));
    }
    let (start, a, b) = (&block.start, &got.end, &expected.end);
    let _ = writeln!(
        text,
        "start: nzcv {:08x} fpcr {:08x} fpsr {:08x} sp {:x}",
        start.nzcv, start.fpcr, start.fpsr, start.sp
    );
    let mut line = |what: &str, start: u128, got: u128, expected: u128| {
        if got != expected {
            let _ = writeln!(text, "  {what:6} start {start:#x}\n         got {got:#x}\n    expected {expected:#x}");
        }
    };
    for n in 0..31 {
        line(&format!("x{n}"), start.x[n].into(), a.x[n].into(), b.x[n].into());
    }
    for n in 0..32 {
        line(&format!("v{n}"), start.v[n], a.v[n], b.v[n]);
    }
    line("sp", start.sp.into(), a.sp.into(), b.sp.into());
    line("nzcv", start.nzcv.into(), a.nzcv.into(), b.nzcv.into());
    line("fpcr", start.fpcr.into(), a.fpcr.into(), b.fpcr.into());
    line("fpsr", start.fpsr.into(), a.fpsr.into(), b.fpsr.into());
    line("pc", block::CODE.into(), a.pc.into(), b.pc.into());
    line("window", 0, got.window_hash.into(), expected.window_hash.into());
    if got.signal != expected.signal {
        let _ = writeln!(text, "  signal: got {:?}, expected {:?}", got.signal, expected.signal);
    }
    // The sources of the last instruction: most differences are in it.
    if let Some(last) = block.words.last() {
        for register in [last >> 5 & 31, last >> 16 & 31, last >> 10 & 31, last & 31] {
            let n = register as usize;
            let _ = writeln!(text, "  start of v{n}: {:#034x}   x{n}: {:#x}", start.v[n], start.x.get(n).unwrap_or(&0));
        }
    }
    text
}
