//! Interpreter and translator side by side over whole machines (`--check-jit`): every unit of translated code is compared.

use std::time::Duration;
use tests::guests::{build, verdict};
use tests::linux::{Shell, debian};
use tests::monitor::run_with;
use tests::process;

fn host_has_a_translator() -> bool {
    jit::detect().map_err(|why| println!("no translator on this host: {why}")).is_ok()
}

/// A number of the JSON on the last line of stderr, summed over vCPUs.
fn counter(stderr: &str, name: &str) -> u64 {
    let key = format!("\"{name}\":");
    let sum = |line: &str| -> u64 {
        line.match_indices(&key)
            .map(|(at, _)| line[at + key.len()..].chars().take_while(char::is_ascii_digit).collect::<String>())
            .map(|digits| digits.parse::<u64>().unwrap_or(0))
            .sum()
    };
    stderr.lines().filter(|line| line.contains(&key)).map(sum).sum()
}

#[test]
fn a_whole_kernel_boot_agrees() {
    if !host_has_a_translator() {
        return;
    }
    let guest = debian("bookworm", "linux-image-cloud-arm64");
    let options = ["--check-jit", "--no-rng"].map(String::from);
    let mut shell = Shell::boot_with("jit", &guest, 1, "256M", "quiet", &options);
    assert_eq!(
        shell.command("cd /; for i in 1 2 3; do ls -l /bin | md5sum | cut -c1-4 >/dev/null; done; echo $((6*7))"),
        "42"
    );
    let finished = shell.end("poweroff -f");
    assert_eq!(finished.status.code(), Some(0), "{}{}", finished.stdout, finished.stderr);
    let [units, alone, strays] = ["check_units", "check_alone", "check_strays"].map(|n| counter(&finished.stderr, n));
    println!("{units} units compared, {alone} not, {strays} words written by nobody, {:.1?}", finished.elapsed);
    assert!(units > 1_000_000 && alone * 5 < units, "{}", finished.stderr);
    // No device writes memory in this machine.
    assert_eq!(strays, 0, "{}", finished.stderr);
}

#[test]
fn bare_metal_guests_agree() {
    if !host_has_a_translator() {
        return;
    }
    for (name, cpus) in
        [("boot", 1), ("exceptions", 1), ("strict", 1), ("mmu", 1), ("gic", 1), ("debug", 1), ("smp", 2)]
    {
        let elf = build(name);
        let mut command = run_with("jit");
        command.args(["--check-jit", "--stats=json", "--memory", "512M", "--cpus", &cpus.to_string(), "--kernel"]);
        let finished = process::run(command.arg(&elf), Duration::from_secs(120));
        let verdict = verdict(&finished.stdout);
        assert!(
            finished.status.code() == Some(0) && verdict.is_some_and(|v| v.failed == 0 && v.passed > 0),
            "{name}: {}\n{}\n{}",
            finished.status,
            finished.stdout,
            finished.stderr
        );
        assert!(counter(&finished.stderr, "check_units") > 100, "{}", finished.stderr);
    }
}

#[test]
fn a_seeded_fault_is_found_in_a_boot() {
    if !host_has_a_translator() {
        return;
    }
    let guest = debian("bookworm", "linux-image-cloud-arm64");
    let mut command = run_with("jit");
    command.args(["--check-jit", "--jit-seeded-fault", "--memory", "256M", "--append", "console=ttyAMA0", "--kernel"]);
    let finished = process::run(command.arg(&guest.kernel), Duration::from_secs(120));
    assert_eq!(finished.status.code(), Some(255), "{}{}", finished.stdout, finished.stderr);
    let text = &finished.stderr;
    assert!(text.contains("disagree") && text.contains(" eor ") && text.contains("host code at"), "{text}");
}
