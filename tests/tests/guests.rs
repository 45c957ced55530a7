//! Bare-metal guests on every engine: what the processing element, the GIC, the timers and PSCI do, checked from inside.

use std::time::Duration;
use tests::guests::{build, verdict};
use tests::monitor::{ENGINES, run_with};
use tests::process;

fn passes(name: &str, cpus: u32) {
    let elf = build(name);
    for engine in ENGINES {
        let finished = process::run(
            run_with(engine).args(["--cpus", &cpus.to_string(), "--memory", "512M", "--kernel"]).arg(&elf),
            Duration::from_secs(120),
        );
        let verdict = verdict(&finished.stdout);
        assert!(
            finished.status.code() == Some(0)
                && verdict.is_some_and(|verdict| verdict.failed == 0 && verdict.passed > 0),
            "{name} on {engine} with {cpus} vCPUs: {}\n{}\n{}",
            finished.status,
            finished.stdout,
            finished.stderr
        );
        println!("{name} on {engine}, {cpus} vCPUs: {verdict:?} in {:.2?}", finished.elapsed);
    }
}

#[test]
fn boot_protocol_psci_and_unmapped_addresses() {
    passes("boot", 1);
}

#[test]
fn device_accesses_of_all_widths() {
    passes("mmio", 1);
}

#[test]
fn synchronous_exceptions() {
    passes("exceptions", 1);
}

#[test]
fn stack_pointer_alignment() {
    passes("strict", 1);
}

#[test]
fn translation_tables() {
    passes("mmu", 1);
}

#[test]
fn generic_timers() {
    passes("timer", 1);
}

#[test]
fn interrupt_controller() {
    passes("gic", 1);
}

#[test]
fn self_hosted_debug() {
    passes("debug", 1);
}

#[test]
fn one_processor_alone() {
    passes("smp", 1);
}

#[test]
fn two_processors() {
    passes("smp", 2);
}

#[test]
fn many_processors() {
    passes("smp", 8);
}

#[test]
fn code_and_mappings_that_change_under_other_processors() {
    passes("races", 3);
}
