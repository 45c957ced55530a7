//! `vmm` for arm64 on a real `/dev/kvm`, in a host that QEMU emulates. Run by `cargo xtask nested`.

use std::time::Duration;

use tests::guests::verdict;
use tests::linux::debian;
use tests::nested::{Host, Job, Outcome};

const KERNEL: &str = "linux-image-cloud-arm64";
const LIMIT: Duration = Duration::from_secs(600);
/// Bare-metal guests, with the numbers of processors that they run with.
const BARE_METAL: [(&str, u32); 6] = [("boot", 1), ("exceptions", 1), ("mmu", 1), ("timer", 1), ("gic", 1), ("smp", 2)];

const RUN: &str = "/vmm run --engine kvm --timeout 120 --memory 256M";
const LINUX: &str = "--kernel /guest/vmlinuz --initrd /guest/root.cpio --append";

fn bare_metal_jobs() -> Vec<Job> {
    let job = |(name, cpus): &(&str, u32)| Job::new(name, format!("{RUN} --cpus {cpus} --kernel /guest/{name}.elf"));
    BARE_METAL.iter().map(job).collect()
}

fn host(cpu: &'static str, suite: &str) -> Host {
    let guest = debian("bookworm", KERNEL);
    let host = Host::new(cpu, debian(suite, KERNEL), &guest);
    BARE_METAL.iter().fold(host, |host, (name, _)| host.with_bare_metal(name))
}

fn find<'a>(outcomes: &'a [Outcome], name: &str) -> &'a Outcome {
    outcomes.iter().find(|o| o.name == name).unwrap_or_else(|| panic!("{name} did not run: {outcomes:#?}"))
}

fn check_bare_metal(outcomes: &[Outcome]) {
    let failed: Vec<&Outcome> = BARE_METAL
        .iter()
        .map(|(name, _)| find(outcomes, name))
        .filter(|o| o.status != 0 || verdict(&o.output).is_none_or(|v| v.failed != 0 || v.passed == 0))
        .collect();
    assert!(failed.is_empty(), "{failed:#?}");
}

/// A Linux guest: its two boots with a disk, each processor's work, its end.
fn linux_jobs() -> Vec<Job> {
    vec![
        Job::new("doctor", "/vmm doctor"),
        Job::new(
            "disk",
            format!(
                "dd if=/dev/zero of=/tmp/disk bs=1M count=1 2>/dev/null; \
                 {RUN} --cpus 2 --disk /tmp/disk --stats=json {LINUX} 'console=ttyAMA0 quiet job=disk' && \
                 dd if=/tmp/disk bs=512 count=1024 2>/dev/null | sha256sum"
            ),
        ),
    ]
}

fn check_linux(outcomes: &[Outcome]) {
    let doctor = find(outcomes, "doctor");
    assert!(doctor.output.contains("ok   engine kvm") && doctor.output.contains("takes kvm"), "{}", doctor.output);
    let disk = find(outcomes, "disk");
    let text = &disk.output;
    assert_eq!(disk.status, 0, "{text}");
    assert!(text.contains("GUEST aarch64 CPUS 2 MEMORY 1"), "{text}");
    let (first, second) = text.split_once("GUEST second boot").unwrap_or_else(|| panic!("no second boot: {text}"));
    assert!(first.contains("GUEST first boot"), "{text}");
    // Both processors compute the same in both boots, and disk contents are what the guest wrote, seen from both sides.
    let sums = |text: &str| -> Vec<String> {
        let words = text.split_whitespace().filter(|w| w.len() == 64 && w.bytes().all(|b| b.is_ascii_hexdigit()));
        words.map(str::to_owned).collect()
    };
    let before = sums(first);
    assert_eq!(before.len(), 4, "{text}");
    assert!(before.iter().all(|sum| *sum == before[0]), "{text}");
    let after = sums(second);
    assert_eq!(after.len(), 2, "{text}");
    assert_eq!(after[0], after[1], "the disk from inside and from outside: {text}");
}

#[test]
#[ignore = "needs the program for arm64: cargo xtask nested"]
fn short_linux_and_bare_metal_guests() {
    let jobs: Vec<Job> = linux_jobs().into_iter().chain(bare_metal_jobs()).collect();
    let outcomes = host("max,pauth-impdef=on", "bookworm").run(&jobs, LIMIT);
    println!("{outcomes:#?}");
    check_linux(&outcomes);
    check_bare_metal(&outcomes);
}
