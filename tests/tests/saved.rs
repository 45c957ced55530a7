//! A machine that is saved in the middle of a boot and continued in a new process prints what one prints that was left alone.

use std::path::Path;
use std::process::Command;
use std::time::{Duration, SystemTime, UNIX_EPOCH};
use tests::linux::{BOOT_LIMIT, debian};
use tests::monitor::{rounds, run_with};
use tests::process::{Finished, run};

/// A boot without a shell: sums that need user code, files, pipes and processes, then power-off. Without address space
/// randomization, so that lines differ in numbers only.
const COMMAND_LINE: &str = "console=ttyAMA0 nokaslr rdinit=/bin/busybox -- sh -c \"busybox sha256sum /bin/busybox; \
     for i in 1 2 3; do busybox gzip -c /bin/busybox | busybox gunzip | busybox md5sum; done; busybox poweroff -f\"";

fn command(engine: &str, cpus: u32) -> Command {
    let guest = debian("bookworm", "linux-image-cloud-arm64");
    let mut command = run_with(engine);
    command.arg("--kernel").arg(&guest.kernel).arg("--initrd").arg(&guest.initrd);
    command.args(["--memory", "256M", "--cpus", &cpus.to_string(), "--append", COMMAND_LINE]);
    command
}

/// The lines without what may differ (numbers, and the order of what the kernel does in the background), sorted.
fn lines(transcript: &str) -> Vec<String> {
    let mut lines: Vec<String> = transcript
        .lines()
        .map(|line| line.trim_end_matches('\r'))
        .filter(|line| !line.contains("hrtimer: interrupt took")) // a busy host
        .map(|line| line.split_once("] ").map_or(line, |(_, rest)| rest))
        .map(|line| line.chars().filter(|c| !c.is_ascii_hexdigit() && *c != ' ').collect())
        .collect();
    lines.sort();
    lines
}

fn ended(finished: &Finished, what: &str) {
    assert_eq!(finished.status.code(), Some(0), "{what}: {}\n{}", finished.stdout, finished.stderr);
}

/// `count` points of time in a boot of this length. The seed is `VMM_SEED`, or the time of day, and is printed.
fn points(length: Duration, count: u32) -> Vec<Duration> {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(1, |time| time.as_nanos() as u64);
    let mut seed = std::env::var("VMM_SEED").ok().and_then(|text| text.parse().ok()).unwrap_or(now);
    println!("VMM_SEED={seed}");
    let mut next = || {
        seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        0.03 + 0.9 * ((seed >> 40) as f64 / f64::from(1 << 24))
    };
    (0..count).map(|_| length.mul_f64(next())).collect()
}

/// Points per test: `VMM_SAVE_POINTS`, or few.
fn point_count(few: u32) -> u32 {
    std::env::var("VMM_SAVE_POINTS").ok().and_then(|text| text.parse().ok()).unwrap_or(rounds(few))
}

fn saved_and_continued(saver: &str, loader: &str, cpus: u32, count: u32) {
    let whole = run(&mut command(saver, cpus), BOOT_LIMIT);
    ended(&whole, "the boot that is left alone");
    let expected = lines(&whole.stdout);
    assert!(expected.len() > 150, "{}", whole.stdout);
    let file = std::env::temp_dir().join(format!("vmm-saved-{}-{saver}-{loader}-{cpus}", std::process::id()));
    for point in points(whole.elapsed, count) {
        check(saver, loader, cpus, point, &file, &expected);
    }
    let _ = std::fs::remove_file(file);
}

fn check(saver: &str, loader: &str, cpus: u32, point: Duration, file: &Path, expected: &[String]) {
    let after = format!("{}:{}", point.as_secs_f64(), file.display());
    let first = run(command(saver, cpus).args(["--save-after", &after]), BOOT_LIMIT);
    ended(&first, "the first half");
    if first.stdout.contains("reboot: Power down") {
        println!("{point:.2?}: the boot was over");
        return;
    }
    let second = run(command(loader, cpus).arg("--load").arg(file), BOOT_LIMIT);
    ended(&second, "the second half");
    let both = format!("{}{}", first.stdout, second.stdout);
    assert!(both.contains("reboot: Power down"), "saved after {point:?}: {both}");
    if cpus == 1 {
        assert_eq!(lines(&both), expected, "saved after {point:?}");
    }
    println!("{point:.2?}: {} and {} lines", first.stdout.lines().count(), second.stdout.lines().count());
}

#[test]
fn on_the_translator() {
    saved_and_continued("jit", "jit", 1, point_count(5));
}

#[test]
fn on_the_translator_with_four_processors() {
    saved_and_continued("jit", "jit", 4, point_count(2));
}

#[test]
fn on_the_interpreter() {
    saved_and_continued("interp", "interp", 1, point_count(2));
}

#[test]
fn from_the_translator_to_the_interpreter_and_back() {
    saved_and_continued("jit", "interp", 1, point_count(1));
    saved_and_continued("interp", "jit", 1, point_count(1));
}

#[test]
fn at_a_mark_that_the_guest_prints() {
    const TEXT: &str = "  /bin/busybox";
    let file = tempfile::NamedTempFile::new().expect("a file for the state");
    let on = format!("{TEXT}:{}", file.path().display());
    let first = run(command("jit", 2).args(["--save-on", &on]), BOOT_LIMIT);
    ended(&first, "the first half");
    assert!(first.stdout.contains(TEXT) && !first.stdout.contains("reboot: Power down"), "{}", first.stdout);
    let second = run(command("jit", 2).arg("--load").arg(file.path()), BOOT_LIMIT);
    ended(&second, "the second half");
    assert!(!second.stdout.contains(TEXT) && second.stdout.contains("reboot: Power down"), "{}", second.stdout);
    assert_eq!(second.stdout.lines().filter(|line| line.trim_end().ends_with("  -")).count(), 3, "{}", second.stdout);
}
