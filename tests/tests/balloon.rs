//! virtio-balloon under Debian's kernels: memory that the guest does without goes back to the host, and comes again.

use std::time::{Duration, Instant};

use tests::linux::{Shell, debian};
use tests::monitor::patience;

const LIMIT: Duration = Duration::from_secs(60);

fn boot(suite: &str, options: &[&str]) -> Shell {
    let guest = debian(suite, "linux-image-cloud-arm64");
    let options: Vec<String> = options.iter().map(|&option| option.to_owned()).collect();
    Shell::boot_with("auto", &guest, 1, "768M", "quiet", &options)
}

/// MiB of host memory that the process has.
fn resident(shell: &mut Shell) -> u64 {
    let status =
        std::fs::read_to_string(format!("/proc/{}/status", shell.process().id())).expect("the process is there");
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).expect("a size");
    line.trim().trim_end_matches(" kB").parse::<u64>().expect("a number") / 1024
}

/// Waits until the process has at most, or at least, so much.
fn until(shell: &mut Shell, what: &str, done: impl Fn(u64) -> bool) -> u64 {
    let limit = Instant::now() + patience(LIMIT);
    loop {
        let now = resident(shell);
        if done(now) {
            return now;
        }
        assert!(Instant::now() < limit, "{what}: {now} MiB");
        std::thread::sleep(Duration::from_millis(100));
    }
}

fn last_line(text: &str) -> serde_json::Value {
    serde_json::from_str(text.lines().last().unwrap_or_default()).expect("counters as JSON")
}

/// The balloon's counters, wherever it stands among the devices.
fn counters(stats: &serde_json::Value) -> Option<&serde_json::Value> {
    match stats {
        serde_json::Value::Object(fields) if fields.contains_key("inflated_bytes") => Some(stats),
        serde_json::Value::Object(fields) => fields.values().find_map(counters),
        _ => None,
    }
}

#[test]
fn a_guest_that_starts_with_less_uses_less_and_takes_it_back_in_need() {
    let mut shell = boot("bookworm", &["--balloon=stats,deflate-on-oom,target=256M"]);
    let available = |shell: &mut Shell| -> u64 {
        let text = shell.command("grep MemFree /proc/meminfo");
        text.split_whitespace().nth(1).and_then(|n| n.parse::<u64>().ok()).expect("a size") / 1024
    };
    let limit = Instant::now() + patience(LIMIT);
    while available(&mut shell) > 300 {
        assert!(Instant::now() < limit, "the balloon does not grow");
    }
    // 400 MiB are not there, unless the balloon gives them.
    let text = shell.command("mount -o remount,size=600M /tmp; head -c 400000000 /dev/zero >/tmp/big; ls -l /tmp/big");
    assert!(text.contains("400000000"), "{text}");
    let finished = shell.end("poweroff -f");
    assert_eq!(finished.status.code(), Some(0));
    let stats = last_line(&finished.stderr);
    let balloon = counters(&stats).expect("a balloon");
    let number = |name: &str| balloon[name].as_u64().unwrap_or(0) >> 20;
    assert!(number("inflated_bytes") >= 400 && number("deflated_bytes") >= 50, "{balloon}");
    assert!(balloon["guest"]["total_memory"].as_u64().is_some_and(|bytes| bytes > 600 << 20), "{balloon}");
}

fn reported(suite: &str, transport: &str) {
    let mut shell = boot(suite, &["--balloon=free-page-reporting", "--transport", transport]);
    let before = resident(&mut shell);
    shell.command("mount -o remount,size=600M /tmp; head -c 400000000 /dev/zero >/tmp/big; sync");
    let full = resident(&mut shell);
    assert!(full > before + 300, "{before} MiB, then {full} MiB");
    shell.command("rm /tmp/big");
    let after = until(&mut shell, "free pages are not given back", |now| now < full - 300);
    // What was given back is there again when it is needed.
    let sum = shell.command("head -c 100000000 /dev/zero >/tmp/big; md5sum </tmp/big");
    assert!(sum.contains("0f86d7c5a6180cf9584c1d21144d85b0"), "{sum}");
    println!("{suite}, {transport}: {before} MiB, {full} MiB with a file, {after} MiB without");
    let finished = shell.end("poweroff -f");
    assert_eq!(finished.status.code(), Some(0));
    let stats = last_line(&finished.stderr);
    let bytes = counters(&stats).expect("a balloon")["reported_free_bytes"].as_u64().unwrap_or(0);
    assert!(bytes > 300 << 20, "{bytes}");
}

#[test]
fn free_memory_goes_back_by_itself() {
    reported("bookworm", "pci");
}

#[test]
fn free_memory_of_a_newer_kernel_goes_back_by_itself() {
    reported("bookworm-backports", "mmio");
}
