//! The translator with everything rare made common (`--jit-stress`): evictions, one-page tables, random ends of fragments, delays between vCPUs.
//!
//! `STRESS_SEED` repeats a run; `STRESS_RUNS` (1 by default) does more of them, with the seeds behind it.

use std::time::{Duration, SystemTime, UNIX_EPOCH};
use tests::guests::{build, verdict};
use tests::linux::{Shell, debian};
use tests::monitor::run_with;
use tests::process;

fn number(name: &str) -> Option<u64> {
    std::env::var(name).ok()?.parse().ok()
}

/// The seeds to run, printed so that a failure can be repeated; none on a host without a translator.
fn seeds() -> Vec<u64> {
    if let Err(why) = jit::detect() {
        println!("no translator on this host: {why}");
        return Vec::new();
    }
    let clock = SystemTime::now().duration_since(UNIX_EPOCH).map_or(1, |time| u64::from(time.subsec_nanos()));
    let first = number("STRESS_SEED").unwrap_or(clock);
    let seeds: Vec<u64> = (first..).take(number("STRESS_RUNS").unwrap_or(1) as usize).collect();
    println!("STRESS_SEED={first}");
    seeds
}

#[test]
fn bare_metal_guests_pass() {
    let guests = [
        ("boot", 1),
        ("exceptions", 1),
        ("strict", 1),
        ("mmu", 1),
        ("timer", 1),
        ("gic", 1),
        ("debug", 1),
        ("smp", 2),
        ("smp", 8),
    ];
    for seed in seeds() {
        for (name, cpus) in guests {
            let mut command = run_with("jit");
            command.args([
                &format!("--jit-stress={seed}"),
                "--memory",
                "512M",
                "--cpus",
                &cpus.to_string(),
                "--kernel",
            ]);
            let finished = process::run(command.arg(build(name)), Duration::from_secs(120));
            let verdict = verdict(&finished.stdout);
            assert!(
                finished.status.code() == Some(0) && verdict.is_some_and(|v| v.failed == 0 && v.passed > 0),
                "{name} with {cpus} vCPUs, seed {seed}: {}\n{}\n{}",
                finished.status,
                finished.stdout,
                finished.stderr
            );
        }
    }
}

fn linux(cpus: u32, options: &[&str]) {
    let guest = debian("bookworm", "linux-image-cloud-arm64");
    for seed in seeds() {
        let mut all = vec![format!("--jit-stress={seed}")];
        all.extend(options.iter().map(ToString::to_string));
        let mut shell = Shell::boot_with("jit", &guest, cpus, "256M", "quiet", &all);
        assert_eq!(shell.command("nproc"), cpus.to_string());
        let sums = shell.command("for i in 1 2 3; do md5sum /bin/busybox & done; wait");
        let sums: Vec<&str> = sums.lines().filter(|l| l.ends_with("/bin/busybox")).collect();
        assert!(sums.len() == 3 && sums.iter().all(|s| *s == sums[0]), "seed {seed}: {sums:?}");
        let finished = shell.end("poweroff -f");
        assert_eq!(finished.status.code(), Some(0), "seed {seed}: {}{}", finished.stdout, finished.stderr);
    }
}

#[test]
fn linux_boots() {
    linux(1, &[]);
}

#[test]
fn linux_boots_with_two_processors() {
    linux(2, &[]);
}
