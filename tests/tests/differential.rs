//! Random instructions on the engines and on user-mode QEMU: registers, flags, vectors, FP status and memory must agree.
//!
//! 10^7 instructions by default. `DIFFERENTIAL_SEED` repeats a run, `DIFFERENTIAL_PER_ENCODING` sets its size: 4000 by default, 400000 for 10^9.

use std::time::{SystemTime, UNIX_EPOCH};
use tests::differential::reference::Reference;
use tests::differential::subject::Subject;
use tests::differential::{Plan, Report, compare};

/// Encodings that no program at EL0 executes to an end: bare-metal guests cover them by name.
const NOT_FROM_BLOCKS: [(&str, &str); 29] = [
    ("UDF", "exceptions.c: UDF"),
    ("SVC", "exceptions.c, and the end of every block"),
    ("HVC", "boot.c: PSCI; exceptions.c: from EL0"),
    ("SMC", "exceptions.c: UNDEFINED without EL3"),
    ("BRK", "exceptions.c: BRK"),
    ("HLT", "exceptions.c: HLT"),
    ("DCPS1", "exceptions.c: UNDEFINED outside Debug state"),
    ("DCPS2", "exceptions.c: UNDEFINED outside Debug state"),
    ("DCPS3", "exceptions.c: UNDEFINED outside Debug state"),
    ("ERET", "exceptions.c, and the start of every block"),
    ("WFE", "timer.c"),
    ("WFI", "timer.c"),
    ("WFET", "timer.c"),
    ("WFIT", "timer.c"),
    ("MSR_PAN", "mmu.c: PAN"),
    ("MSR_SPSel", "start.S, exceptions.c"),
    ("MSR_SSBS", "exceptions.c"),
    ("MSR_DIT", "exceptions.c"),
    ("MSR_DAIFSet", "gic.c"),
    ("MSR_DAIFClr", "gic.c"),
    ("SYS", "mmu.c: AT, DC, TLBI"),
    ("SYSL", "exceptions.c: UNDEFINED"),
    ("MSR", "all guests; NZCV, FPCR and FPSR in blocks"),
    ("MRS", "all guests; NZCV, FPCR and FPSR in blocks"),
    ("LDR_lit", "atomics.c"),
    ("LDRSW_lit", "atomics.c"),
    ("PRFM_lit", "atomics.c"),
    ("LDR_simd_lit", "arch/isa/tests/simd_oracle.rs: literal loads"),
    ("HINT", "hint space: NOPs"),
];

fn plan() -> Plan {
    let from_environment = |name: &str| {
        let text = std::env::var(name).ok()?;
        let digits = text.trim_start_matches("0x");
        u64::from_str_radix(digits, if digits.len() < text.len() { 16 } else { 10 }).ok()
    };
    let clock = SystemTime::now().duration_since(UNIX_EPOCH).map_or(1, |time| time.as_nanos() as u64);
    Plan {
        seed: from_environment("DIFFERENTIAL_SEED").unwrap_or(clock),
        per_encoding: from_environment("DIFFERENTIAL_PER_ENCODING").unwrap_or(4000) as usize,
        block_length: 24,
    }
}

fn finish(engine: &str, plan: Plan, result: Result<Report, String>) {
    let report = result.unwrap_or_else(|difference| panic!("{difference}"));
    println!(
        "{engine}: {} instructions in {} blocks, {} ended by a signal, seed {:#x}",
        report.instructions, report.blocks, report.signals, plan.seed
    );
    // Rounding up to the smallest normal number, on an engine that cannot tell: rare even with operands chosen for it.
    println!("{engine}: {} blocks differ in FPSR.UFC only", report.late_tininess);
    assert!(report.late_tininess * 100 <= report.blocks, "{} blocks differ in FPSR.UFC", report.late_tininess);
    let missing: Vec<_> =
        report.uncovered.iter().filter(|name| !NOT_FROM_BLOCKS.iter().any(|(known, _)| known == *name)).collect();
    assert!(missing.is_empty(), "encodings that no block executed: {missing:?}");
    assert!(report.signals * 50 > report.blocks, "only {} blocks ended by a signal", report.signals);
    // Of the default run: 10^7 in both engines together.
    let wanted = 1500 * plan.per_encoding as u64;
    assert!(report.instructions >= wanted, "only {} instructions of {wanted}", report.instructions);
}

#[test]
fn the_interpreter_agrees_with_qemu() {
    let plan = plan();
    println!("DIFFERENTIAL_SEED={:#x}", plan.seed);
    let mut reference = Reference::start();
    let mut subject = Subject::interpreter();
    finish("interpreter", plan, compare(plan, &mut reference, &mut subject));
}

/// The translator makes code of every block anew, so its runs are shorter.
fn translator_plan() -> Plan {
    let plan = plan();
    Plan { per_encoding: (plan.per_encoding * 5).div_ceil(8), ..plan }
}

#[test]
fn the_translator_agrees_with_qemu() {
    let plan = translator_plan();
    println!("DIFFERENTIAL_SEED={:#x}", plan.seed);
    let mut subject = match Subject::translator() {
        Ok(subject) => subject,
        Err(why) => return println!("no translator on this host: {why}"),
    };
    let mut reference = Reference::start();
    finish("translator", plan, compare(plan, &mut reference, &mut subject));
}

/// One switch after the other off, then all: each run is short, their sum sees every encoding.
#[test]
fn the_translator_agrees_with_qemu_whatever_is_switched_off() {
    let mut plan = plan();
    println!("DIFFERENTIAL_SEED={:#x}", plan.seed);
    plan.per_encoding = plan.per_encoding.div_ceil(400);
    let mut reference = Reference::start();
    let singles = jit::Optimisation::ALL.iter().map(|o| jit::Optimisations::ALL.with(*o, false));
    for optimise in singles.chain([jit::Optimisations::NONE]) {
        let mut subject = match Subject::translator_with(optimise) {
            Ok(subject) => subject,
            Err(why) => return println!("no translator on this host: {why}"),
        };
        let report = compare(plan, &mut reference, &mut subject);
        let report = report.unwrap_or_else(|difference| panic!("only {optimise:?}: {difference}"));
        assert!(report.instructions > 0);
        plan.seed = plan.seed.wrapping_add(1);
    }
}
