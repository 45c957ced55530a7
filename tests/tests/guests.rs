//! Bare-metal guests on every engine: what the processing element, the GIC, the timers and PSCI do, checked from inside.

use std::path::Path;
use std::time::Duration;
use tests::guests::{POINTS, build, build_with, told, verdict};
use tests::monitor::{ENGINES, engines, run_with};
use tests::process;

fn passes(name: &str, cpus: u32) {
    let elf = build(name);
    for &engine in engines() {
        passes_on(engine, name, &elf, cpus, 120);
    }
}

/// The console.
fn passes_on(engine: &str, name: &str, elf: &Path, cpus: u32, seconds: u64) -> String {
    let finished = process::run(
        run_with(engine).args(["--cpus", &cpus.to_string(), "--memory", "512M", "--kernel"]).arg(elf),
        Duration::from_secs(seconds),
    );
    let verdict = verdict(&finished.stdout);
    assert!(
        finished.status.code() == Some(0) && verdict.is_some_and(|verdict| verdict.failed == 0 && verdict.passed > 0),
        "{name} on {engine} with {cpus} vCPUs: {}\n{}\n{}",
        finished.status,
        finished.stdout,
        finished.stderr
    );
    // A guest leaves out what its processor has not; ours has it all.
    assert!(!finished.stdout.contains("WITHOUT "), "{name} on {engine}: {}", finished.stdout);
    println!("{name} on {engine}, {cpus} vCPUs: {verdict:?} in {:.2?}", finished.elapsed);
    finished.stdout
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

/// What the architecture leaves open at the borders the engines do alike: their consoles have digests of all that happened.
#[test]
fn data_accesses_at_every_border() {
    let elf = build("extremes");
    let consoles = ENGINES.map(|engine| passes_on(engine, "extremes", &elf, 1, 120));
    assert!(consoles[0].lines().filter(|line| line.contains(": 0x")).count() > 100, "{}", consoles[0]);
    assert_eq!(consoles[0], consoles[1], "the engines differ");
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
fn interrupts_of_devices() {
    passes("device", 1);
}

#[test]
fn self_hosted_debug() {
    passes("debug", 1);
}

/// Breakpoint, watchpoints and steps stop where they should and nowhere else, the guest does not notice, and the engines
/// tell the same, registers and all.
#[test]
fn debugger_points() {
    let elf = build("points");
    let told = ENGINES.map(|engine| {
        let run = process::run(run_with(engine).args(POINTS).arg("--kernel").arg(&elf), Duration::from_secs(60));
        assert_eq!(run.status.code(), Some(0), "{engine}: {run:#?}");
        assert!(verdict(&run.stdout).is_some_and(|verdict| verdict.failed == 0), "{engine}: {run:#?}");
        told(&run.stderr)
    });
    let stops: Vec<&str> = told[0].iter().filter_map(|line| line.strip_prefix("vmm: vCPU 0 ")).collect();
    let call = [
        "at breakpoint 0x40400000: d28000a0",
        "at 0x40400004: f9000020",
        "about to access 0x40410000, at 0x40400004: f9000020",
        "at 0x40400008: a9400c22",
        "about to access 0x40410008, at 0x40400008: a9400c22",
    ];
    assert_eq!(stops.iter().filter(|line| line.starts_with(call[0])).count(), 2, "{stops:#?}");
    assert!(stops[0].starts_with("about to access 0x40410000"), "the guest's first store there: {stops:#?}");
    for (stop, expected) in stops.iter().skip(1).zip(call) {
        assert!(stop.starts_with(expected), "{expected}: {stops:#?}");
    }
    assert!(
        stops.iter().any(|stop| stop.starts_with("at 0x40400014: 3900203f")),
        "past both device accesses: {stops:#?}"
    );
    assert_eq!(told[0], told[1], "the engines differ");
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

/// Whether the outcome that only reordering gives, and that is allowed, was among those of a run.
fn sees_reordering(console: &str) -> bool {
    let mut seen = console.lines().filter_map(|line| line.trim().strip_prefix("SB plain, allowed: seen "));
    seen.any(|count| !count.starts_with("0 "))
}

/// `LITMUS_ITERATIONS=1000000` asks for more than the 100000 of each test.
#[test]
fn memory_order() {
    let iterations = std::env::var("LITMUS_ITERATIONS").ok().and_then(|n| n.parse().ok()).unwrap_or(100_000u64);
    let seconds = 4 * iterations.div_ceil(100_000);
    let elf = build_with("litmus", &[format!("ITERATIONS={iterations}"), format!("SECONDS={seconds}")]);
    let parallel = std::thread::available_parallelism().is_ok_and(|n| n.get() > 1);
    for &engine in engines() {
        for cpus in [2, 4] {
            let run = || passes_on(engine, "litmus", &elf, cpus, 60 * seconds);
            let console = run();
            // Generated code on two processors does reorder a store with a later load: the test can see reordering. It
            // happens only while both have a processor of the host, which on a busy one may take a few runs.
            if engine == "jit" && cpus == 2 && parallel {
                let seen = sees_reordering(&console) || (0..20).any(|_| sees_reordering(&run()));
                assert!(seen, "nothing was reordered:\n{console}");
            }
        }
    }
}
