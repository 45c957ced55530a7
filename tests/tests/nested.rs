//! `vmm` for arm64 on a real `/dev/kvm`, in a host that QEMU emulates. Run by `cargo xtask nested`.

use std::time::Duration;

use tests::guests::verdict;
use tests::linux::debian;
use tests::monitor::run_with;
use tests::nested::{Host, Job, Outcome, guest_root};
use tests::process::{Finished, run};

/// The host's processor: VHE, SVE, PAuth of the quick kind.
const HOST: &str = "max,pauth-impdef=on";
const KERNEL: &str = "linux-image-cloud-arm64";
const LIMIT: Duration = Duration::from_secs(1200);
/// Bare-metal guests, with the numbers of processors that they run with.
const BARE_METAL: [(&str, u32); 8] =
    [("boot", 1), ("mmio", 1), ("exceptions", 1), ("mmu", 1), ("timer", 1), ("gic", 1), ("debug", 1), ("smp", 2)];
/// Checks that the emulated hardware fails, by guest. With stage 2 on, QEMU takes no alignment faults on Device memory of
/// a disabled stage 1; and it loses the sign extension (ESR_EL2.SSE) of a load.
const BEYOND_QEMU: [(&str, &str); 5] = [
    ("exceptions", "unaligned access to Device"),
    ("exceptions", "alignment fault"),
    ("exceptions", "alignment FAR"),
    ("exceptions", "unaligned exclusive"),
    ("mmio", "LDRSH"),
];

const RUN: &str = "/vmm run --engine kvm --timeout 300 --memory 256M";
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

/// Lines of failed checks, without those that the emulated hardware is known to fail.
fn failures(outcome: &Outcome) -> Vec<&str> {
    let lines = outcome.output.lines().filter(|line| line.starts_with("FAIL "));
    let is_known = |line: &str| BEYOND_QEMU.iter().any(|(name, text)| outcome.name == *name && line.contains(text));
    lines.filter(|line| !is_known(line)).collect()
}

fn check_bare_metal(outcomes: &[Outcome]) {
    let failed: Vec<&Outcome> = BARE_METAL
        .iter()
        .map(|(name, _)| find(outcomes, name))
        .filter(|o| o.status != 0 || verdict(&o.output).is_none_or(|v| v.passed == 0) || !failures(o).is_empty())
        .collect();
    assert!(failed.is_empty(), "{failed:#?}");
}

/// What a boot may cost: exits to user space, and exits in all. Counted with Debian's 6.1 cloud kernel, one vCPU, 256 MiB,
/// to power-off: 735 and 2700 to 3000. Without huge pages in stage 2 the second number is 17 000.
const EXITS: (u64, u64) = (800, 10_000);

/// A boot with the exits counted by the host's tracepoints, each in a buffer of its own.
fn counted_boot() -> String {
    let events = "for event in kvm_userspace_exit kvm_exit; do";
    format!(
        "cd /sys/kernel/tracing/instances || exit 1; {events} mkdir $event; \
         echo 1 >$event/events/kvm/$event/enable || exit 1; done; \
         {RUN} --stats=json {LINUX} 'console=ttyAMA0 quiet'; status=$?; \
         {events} echo 0 >$event/events/kvm/$event/enable; \
         echo \"EXITS $event $(cat $event/per_cpu/cpu*/stats | awk '/^(entries|overrun):/ {{ n += $2 }} END {{ print n }}')\"; \
         rmdir $event; done; exit $status"
    )
}

fn check_exits(outcome: &Outcome) {
    assert_eq!(outcome.status, 0, "{outcome:#?}");
    let count = |event: &str| -> u64 {
        let rest = outcome.output.split(&format!("EXITS {event} ")).nth(1).and_then(|rest| rest.lines().next());
        rest.and_then(|number| number.trim().parse().ok()).unwrap_or_else(|| panic!("not counted: {outcome:#?}"))
    };
    let (user, all) = (count("kvm_userspace_exit"), count("kvm_exit"));
    println!("exits to user space {user}, in all {all}");
    assert!((100..=EXITS.0).contains(&user), "{user} exits to user space: {outcome:#?}");
    assert!((user..=EXITS.1).contains(&all), "{all} exits: {outcome:#?}");
}

/// A Linux guest: its two boots with a disk, each processor's work, its end.
fn linux_jobs() -> Vec<Job> {
    vec![
        Job::new("doctor", "/vmm doctor"),
        Job::new("bench", "/vmm bench kvm --bare --runs 1"),
        Job::new("exits", counted_boot()),
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

/// Saved in the middle of its work and continued: nothing is lost, nothing is done twice. Then a panic, an option that
/// KVM cannot keep, and a time limit.
fn state_jobs() -> Vec<Job> {
    let machine = format!("{RUN} --cpus 2 --disk /tmp/sums {LINUX} 'console=ttyAMA0 quiet job=sums'");
    let sve = format!("{RUN} --cpu max,sve=on,pmu=off,pauth=off {LINUX} 'console=ttyAMA0 quiet job=features'");
    let disk = "dd if=/dev/zero of=/tmp/sums bs=1M count=1 2>/dev/null";
    vec![
        Job::new(
            "saved",
            format!("{disk}; {machine} --save-after 6:/tmp/state && echo CUT && {machine} --load /tmp/state"),
        ),
        Job::new("panic", format!("{RUN} {LINUX} 'console=ttyAMA0 quiet job=panic'")),
        Job::new("hotplug", format!("{RUN} --cpus 2 {LINUX} 'console=ttyAMA0 quiet job=hotplug'")),
        Job::new("model", format!("{RUN} --cpu neoverse-n1 {LINUX} ''")),
        Job::new("sve", format!("{sve} --save-after 4:/tmp/sve && echo CUT && {sve} --load /tmp/sve")),
        Job::new("nosuch", format!("{RUN} --cpu max,sme=on {LINUX} ''")),
        Job::new("report", format!("/vmm run --engine kvm --timeout 0.5 --memory 256M {LINUX} 'console=ttyAMA0'")),
    ]
}

fn check_state(outcomes: &[Outcome], host: &str) {
    let saved = find(outcomes, "saved");
    assert_eq!(saved.status, 0, "{}", saved.output);
    let (first, second) = saved.output.split_once("CUT").unwrap_or_else(|| panic!("not saved: {}", saved.output));
    assert!(!first.contains("GUEST sum 8"), "saved too late to prove anything: {}", saved.output);
    check_sums(&format!("{first}{second}"));
    assert_eq!(find(outcomes, "panic").status, 250, "{:#?}", find(outcomes, "panic"));
    let hotplug = find(outcomes, "hotplug");
    assert!(hotplug.output.contains("GUEST online 0\n"), "{}", hotplug.output);
    assert!(hotplug.output.contains("GUEST online 0-1\n"), "{}", hotplug.output);
    let model = find(outcomes, "model");
    assert!(model.status == 254 && model.output.contains("MIDR_EL1"), "{model:#?}");
    let sve = find(outcomes, "sve");
    if host.starts_with("max") {
        let features = sve.output.split("Features").nth(1).and_then(|rest| rest.lines().next()).unwrap_or_default();
        let has = |name| features.split_whitespace().any(|feature| feature == name);
        assert!(sve.status == 0 && has("sve") && has("asimd") && !has("paca"), "{sve:#?}");
    } else {
        assert!(sve.status == 254 && sve.output.contains("no SVE"), "{sve:#?}");
    }
    let nosuch = find(outcomes, "nosuch");
    assert!(nosuch.status == 254 && nosuch.output.contains("pmu=, pauth=, sve="), "{nosuch:#?}");
    let report = find(outcomes, "report");
    assert!(report.status == 124 && report.output.contains("GICv3 of the kernel"), "{report:#?}");
    assert!(report.output.contains("TTBR1_EL1"), "{report:#?}");
}

/// Every sum once, and all the same; each time the whole disk was read.
fn check_sums(text: &str) {
    let sum = |n: u32| -> Vec<&str> {
        text.split(&format!("GUEST sum {n} ")).skip(1).filter_map(|rest| rest.get(..32)).collect()
    };
    let first = sum(1);
    assert_eq!(text.matches(" 1048576\n").count(), 8, "{text}");
    for n in 1..=8 {
        assert!(sum(n).len() == 1 && sum(n) == first, "sum {n}: {text}");
    }
}

fn check_linux(outcomes: &[Outcome]) {
    let doctor = find(outcomes, "doctor");
    assert!(doctor.output.contains("ok   engine kvm") && doctor.output.contains("takes kvm"), "{}", doctor.output);
    let bench = find(outcomes, "bench");
    assert!(bench.status == 0 && bench.output.contains("first guest instruction"), "{bench:#?}");
    check_exits(find(outcomes, "exits"));
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
    let outcomes = host(HOST, "bookworm").run(&jobs, LIMIT);
    println!("{outcomes:#?}");
    check_linux(&outcomes);
    check_bare_metal(&outcomes);
}

#[test]
#[ignore = "needs the program for arm64: cargo xtask nested"]
fn short_saved_state_and_bad_input() {
    let outcomes = host(HOST, "bookworm").run(&state_jobs(), LIMIT);
    check_state(&outcomes, HOST);
}

/// An older processor (no VHE, no PAuth, KPTI) and a newer kernel.
#[test]
#[ignore = "needs the program for arm64: cargo xtask nested --full"]
fn other_hosts() {
    for (cpu, suite) in [("cortex-a72", "bookworm"), ("max,pauth-impdef=on", "bookworm-backports")] {
        let jobs: Vec<Job> = linux_jobs().into_iter().chain(bare_metal_jobs()).chain(state_jobs()).collect();
        let outcomes = host(cpu, suite).run(&jobs, 2 * LIMIT);
        check_linux(&outcomes);
        check_bare_metal(&outcomes);
        check_state(&outcomes, cpu);
    }
}

/// A machine of four processors moves from the translator to KVM and back.
#[test]
#[ignore = "needs the program for arm64: cargo xtask nested --full"]
fn machine_moves_from_the_translator_to_kvm_and_back() {
    const OPTIONS: &str = "--cpu cortex-a72 --cpus 4 --memory 192M --disk";
    const COMMAND_LINE: &str = "console=ttyAMA0 quiet job=sums";
    let folder = std::env::temp_dir().join(format!("vmm-moves-{}", std::process::id()));
    std::fs::create_dir_all(&folder).expect("a folder for the states");
    let guest = debian("bookworm", KERNEL);
    let root = folder.join("root.cpio");
    std::fs::write(&root, guest_root(&guest)).expect("the guest's root");
    let sums = folder.join("sums");
    std::fs::write(&sums, vec![0; 1 << 20]).expect("the disk");
    let here = |word: &str, value: &std::path::Path| -> Finished {
        let mut command = run_with("jit");
        command.args(OPTIONS.split(' ')).arg(&sums).arg("--kernel").arg(&guest.kernel).arg("--initrd").arg(&root);
        run(command.args(["--append", COMMAND_LINE, word]).arg(value), LIMIT)
    };
    let state = folder.join("state");
    let first = here("--save-after", std::path::Path::new(&format!("2.5:{}", state.display())));
    assert_eq!(first.status.code(), Some(0), "{first:#?}");
    // The state travels on the host's disk, with room for what it becomes.
    let disk = std::fs::OpenOptions::new().write(true).open(&state).expect("the state");
    let length = disk.metadata().expect("the state's length").len();
    disk.set_len(512 << 20).expect("room on the disk");
    // The emulated host's counter runs as fast as the translator's.
    let mut host = Host::new("cortex-a72,cntfrq=1000000000", debian("bookworm", KERNEL), &guest);
    host.disk = Some(state.clone());
    let machine = format!("/vmm run --engine kvm {OPTIONS} /tmp/sums {LINUX} '{COMMAND_LINE}'");
    let job = format!(
        "dd if=/dev/zero of=/tmp/sums bs=1M count=1 2>/dev/null; head -c {length} /dev/vda >/tmp/state && {machine} --load /tmp/state --save-after 3:/tmp/next && \
         dd if=/tmp/next of=/dev/vda bs=1M conv=notrunc 2>/dev/null && sync && echo LENGTH $(stat -c %s /tmp/next)"
    );
    let outcomes = host.run(&[Job::new("move", job)], LIMIT);
    let moved = find(&outcomes, "move");
    assert_eq!(moved.status, 0, "{moved:#?}");
    let length = moved.output.split("LENGTH ").nth(1).and_then(|rest| rest.trim().parse().ok());
    disk.set_len(length.unwrap_or_else(|| panic!("{moved:#?}"))).expect("the state's length");
    let last = here("--load", &state);
    assert_eq!(last.status.code(), Some(0), "{last:#?}");
    assert!(!first.stdout.contains("GUEST sum 8") && !moved.output.contains("GUEST sum 8"), "moved too late");
    check_sums(&format!("{}{}{}", first.stdout, moved.output, last.stdout));
    let _ = std::fs::remove_dir_all(folder);
}
