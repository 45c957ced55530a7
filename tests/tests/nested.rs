//! `vmm` for arm64 on a real `/dev/kvm`, in a host that QEMU emulates. Run by `cargo xtask nested`.

use std::time::Duration;

use tests::guests::{POINTS, told, verdict};
use tests::linux::debian;
use tests::monitor::run_with;
use tests::nested::{Host, Job, Outcome, guest_root};
use tests::process::{Finished, run};

/// The host's processor: VHE, SVE, PAuth of the quick kind.
const HOST: &str = "max,pauth-impdef=on";
const KERNEL: &str = "linux-image-cloud-arm64";
const LIMIT: Duration = Duration::from_secs(1200);
/// Bare-metal guests, with the numbers of processors that they run with.
const BARE_METAL: [(&str, u32); 10] = [
    ("boot", 1),
    ("strict", 1),
    ("mmio", 1),
    ("exceptions", 1),
    ("mmu", 1),
    ("timer", 1),
    ("gic", 1),
    ("device", 1),
    ("debug", 1),
    ("smp", 2),
];
/// Checks that the emulated hardware fails, by guest. With stage 2 on, QEMU takes no alignment faults on Device memory of
/// a disabled stage 1; it loses the sign extension (ESR_EL2.SSE) of a load; and it has no alignment check of the stack pointer.
const BEYOND_QEMU: [(&str, &str); 7] = [
    ("exceptions", "unaligned access to Device"),
    ("exceptions", "alignment fault"),
    ("exceptions", "alignment FAR"),
    ("exceptions", "unaligned exclusive"),
    ("mmio", "LDRSH"),
    ("strict", "misaligned SP"),
    ("strict", "SP alignment"),
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
    BARE_METAL
        .iter()
        .fold(host, |host, (name, _)| host.with_bare_metal(name))
        .with_bare_metal("beyond")
        .with_bare_metal("points")
        .with_bare_metal("dirty")
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

/// Exits of a boot, as counted: vmm's and kvmtool's.
const COUNTED: &str = include_str!("../exits.txt");
/// Exits to user space, those that the guest caused, and all.
fn counted(who: &str) -> [u64; 3] {
    let row =
        COUNTED.lines().find_map(|line| line.strip_prefix(who)).unwrap_or_else(|| panic!("no {who} in exits.txt"));
    let numbers: Vec<u64> = row.split_whitespace().map(|word| word.parse().expect("a number")).collect();
    numbers.try_into().expect("three numbers")
}

/// A boot with the exits counted by the host's tracepoints, each in a buffer of its own.
fn counted_boot(transport: &str) -> String {
    format!(
        "cd /sys/kernel/tracing/instances || exit 1; mkdir user guest all; \
         on() {{ [ -z \"$3\" ] || echo \"$3\" >$1/events/kvm/$2/filter; echo 1 >$1/events/kvm/$2/enable || exit 1; }}; \
         on user kvm_userspace_exit ''; on guest kvm_exit 'ret != 0'; on all kvm_exit ''; \
         {RUN} --transport {transport} --stats=json {LINUX} 'console=ttyAMA0 quiet'; status=$?; \
         for n in user guest all; do echo 0 >$n/tracing_on; \
         echo \"EXITS $n $(cat $n/per_cpu/cpu*/stats | awk '/^(entries|overrun):/ {{ n += $2 }} END {{ print n }}')\"; \
         rmdir $n; done; exit $status"
    )
}

/// No more than kvmtool's, and no more than ever.
fn check_exits(outcome: &Outcome, who: &str) {
    assert_eq!(outcome.status, 0, "{outcome:#?}");
    let count = |event: &str| -> u64 {
        let rest = outcome.output.split(&format!("EXITS {event} ")).nth(1).and_then(|rest| rest.lines().next());
        rest.and_then(|number| number.trim().parse().ok()).unwrap_or_else(|| panic!("not counted: {outcome:#?}"))
    };
    let [user, guest, all] = ["user", "guest", "all"].map(count);
    println!("exits of {who}: to user space {user}, caused by the guest {guest}, in all {all}");
    let (best, theirs) = (counted(who), counted("kvmtool"));
    for (found, (best, theirs)) in [user, guest, all].into_iter().zip(best.into_iter().zip(theirs)) {
        assert!(found <= theirs, "{found} exits, kvmtool has {theirs}: {outcome:#?}");
        // A few depend on when interrupts come.
        assert!(found.abs_diff(best) <= best / 20, "{found} exits, {best} were counted (exits.txt): {outcome:#?}");
    }
}

/// A Linux guest: its two boots with a disk, each processor's work, its end.
fn linux_jobs() -> Vec<Job> {
    vec![
        Job::new("doctor", "/vmm doctor"),
        Job::new("bench", "/vmm bench kvm --bare --runs 1"),
        Job::new("points", format!("{RUN} --kernel /guest/points.elf {}", POINTS.join(" "))),
        Job::new("dirty", format!("{RUN} --kernel /guest/dirty.elf --save-on '!:/tmp/dirty' --save-live")),
        network_job(),
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

/// Bytes that the guest gets from its host, and sends to it.
const NET_BYTES: usize = 300_000;

/// A guest on the user network: an address by DHCP, a file from the host's web server, a file to a port of the host.
fn network_job() -> Job {
    Job::new(
        "net",
        format!(
            "ip link set lo up; mkdir -p /tmp/www; head -c {NET_BYTES} /vmm >/tmp/www/file; \
             httpd -p 127.0.0.1:8080 -h /tmp/www; sleep 1000 | nc -l -p 8081 >/tmp/got & \
             {RUN} --net user,allow-host {LINUX} 'console=ttyAMA0 quiet job=net'; status=$?; \
             echo \"HOST $(md5sum </tmp/www/file | cut -c1-32) $(md5sum </tmp/got | cut -c1-32) $(wc -c </tmp/got)\"; \
             exit $status"
        ),
    )
}

fn check_network(outcome: &Outcome) {
    assert_eq!(outcome.status, 0, "{outcome:#?}");
    let words = |after: &str| -> Vec<&str> {
        let line = outcome.output.split(after).nth(1).and_then(|rest| rest.lines().next()).unwrap_or_default();
        line.split_whitespace().collect()
    };
    let (guest, host) = (words("GUEST net "), words("HOST "));
    assert!(guest.len() == 3 && host.len() == 3 && guest[0] == "10.0.2.15/24", "{outcome:#?}");
    assert!(guest[1] == host[0] && guest[1].len() == 32, "the file that the guest got: {outcome:#?}");
    assert!(guest[2] == host[1] && host[2] == NET_BYTES.to_string(), "the file that the host got: {outcome:#?}");
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
            format!("{disk}; {machine} --save-on 'GUEST at 3:/tmp/state' && echo CUT && {machine} --load /tmp/state"),
        ),
        Job::new("panic", format!("{RUN} {LINUX} 'console=ttyAMA0 quiet job=panic'")),
        Job::new("hotplug", format!("{RUN} --cpus 2 {LINUX} 'console=ttyAMA0 quiet job=hotplug'")),
        Job::new("model", format!("{RUN} --cpu neoverse-n1 {LINUX} ''")),
        Job::new("sve", format!("{sve} --save-on 'GUEST aarch64:/tmp/sve' && echo CUT && {sve} --load /tmp/sve")),
        Job::new("beyond", format!("{RUN} --cpu max,sve=on --kernel /guest/beyond.elf")),
        // The last one is not given the memory that it asks for.
        Job::new(
            "hosts",
            format!(
                "mv /dev/kvm /dev/away; {RUN} {LINUX} ''; echo STATUS $?; ln -s null /dev/kvm; /vmm doctor; \
                 rm /dev/kvm; mv /dev/away /dev/kvm; ulimit -v 100000; {RUN} {LINUX} ''"
            ),
        ),
        Job::new("nosuch", format!("{RUN} --cpu max,sme=on {LINUX} ''")),
        Job::new(
            "live",
            format!(
                "{disk}; {machine} --save-on 'GUEST at 2:/tmp/live' --save-live && echo CUT && {machine} --load /tmp/live"
            ),
        ),
        Job::new("report", format!("/vmm run --engine kvm --timeout 0.5 --memory 256M {LINUX} 'console=ttyAMA0'")),
    ]
}

fn check_state(outcomes: &[Outcome], host: &str) {
    let saved = find(outcomes, "saved");
    assert_eq!(saved.status, 0, "{}", saved.output);
    let (first, second) = saved.output.split_once("CUT").unwrap_or_else(|| panic!("not saved: {}", saved.output));
    assert!(first.contains("GUEST at 3") && !first.contains("GUEST sum 6"), "not saved at its mark: {}", saved.output);
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
        let stolen = sve.output.split("GUEST stolen ").nth(1).and_then(|rest| rest.lines().next()).unwrap_or_default();
        let stolen: Vec<u64> = stolen.split_whitespace().filter_map(|word| word.parse().ok()).collect();
        assert!(matches!(stolen[..], [1, stolen, uptime] if stolen < uptime), "stolen time: {sve:#?}");
    } else {
        assert!(sve.status == 254 && sve.output.contains("no SVE"), "{sve:#?}");
    }
    check_refusals(outcomes, host);
    let nosuch = find(outcomes, "nosuch");
    assert!(nosuch.status == 254 && nosuch.output.contains("pmu=, pauth=, sve="), "{nosuch:#?}");
    let live = find(outcomes, "live");
    assert!(live.status == 0 && live.output.contains("CUT"), "{live:#?}");
    check_sums(&live.output.replace("CUT", ""));
    let report = find(outcomes, "report");
    assert!(report.status == 124 && report.output.contains("GICv3 of the kernel"), "{report:#?}");
    assert!(report.output.contains("TTBR1_EL1"), "{report:#?}");
}

/// A debugger's places tell what they do on the interpreter; the log of written pages has those that were.
fn check_logs(outcomes: &[Outcome]) {
    let points = find(outcomes, "points");
    assert_eq!(points.status, 0, "{points:#?}");
    let elf = tests::guests::build("points");
    let emulated = run(run_with("interp").args(POINTS).args(["--memory", "256M", "--kernel"]).arg(elf), LIMIT);
    assert_eq!(told(&points.output), told(&emulated.stderr), "KVM and the interpreter differ");
    let dirty = find(outcomes, "dirty");
    let pages = "written meanwhile: 12 KiB in 3 ranges: \
                 0x40400000..0x40401000, 0x40500000..0x40501000, 0x40700000..0x40701000";
    assert!(dirty.status == 0 && dirty.output.contains(pages), "{dirty:#?}");
}

/// An access that nobody can execute, hosts without KVM, with something else in its place, and without memory.
fn check_refusals(outcomes: &[Outcome], host: &str) {
    let beyond = find(outcomes, "beyond");
    if host.starts_with("max") {
        assert!(beyond.status == 255 && beyond.output.contains("BEYOND"), "{beyond:#?}");
        for words in ["0x9010000, which is no RAM", "the instruction at 0x40", "a400a000"] {
            assert!(beyond.output.contains(words), "{words}: {beyond:#?}");
        }
    }
    let hosts = find(outcomes, "hosts");
    for words in ["there is no /dev/kvm", "STATUS 253", "no KVM of this architecture", "takes interp", "address space"]
    {
        assert!(hosts.output.contains(words), "{words}: {hosts:#?}");
    }
    assert_eq!(hosts.status, 253, "{hosts:#?}");
}

/// Every sum once, and all the same; each time the whole disk was read.
fn check_sums(text: &str) {
    // A console on this side has the guest's carriage returns.
    let text = text.replace('\r', "");
    let sum = |n: u32| -> Vec<&str> {
        text.split(&format!("GUEST sum {n} ")).skip(1).filter_map(|rest| rest.get(..32)).collect()
    };
    let first = sum(1);
    assert_eq!(text.matches(" 1048576\n").count(), 6, "{text}");
    for n in 1..=6 {
        assert!(sum(n).len() == 1 && sum(n) == first, "sum {n}: {text}");
    }
}

fn check_linux(outcomes: &[Outcome]) {
    check_network(find(outcomes, "net"));
    check_logs(outcomes);
    let doctor = find(outcomes, "doctor");
    assert!(doctor.output.contains("ok   engine kvm") && doctor.output.contains("takes kvm"), "{}", doctor.output);
    let bench = find(outcomes, "bench");
    assert!(bench.status == 0 && bench.output.contains("first guest instruction"), "{bench:#?}");
    let disk = find(outcomes, "disk");
    let text = &disk.output;
    assert_eq!(disk.status, 0, "{text}");
    let by_event = text.split("\"messages_by_event\":").nth(1).and_then(|rest| rest.split([',', '}']).next());
    let by_event: Option<u64> = by_event.and_then(|number| number.trim().parse().ok());
    assert!(by_event.is_some_and(|count| count > 10), "interrupts by routes: {text}");
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
fn small_linux_and_bare_metal_guests() {
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

#[test]
#[ignore = "needs the program for arm64: cargo xtask nested"]
fn short_no_more_exits_than_kvmtool() {
    let mut host = Host::new(HOST, debian("bookworm", KERNEL), &debian("bookworm", KERNEL));
    host.counts_time = true;
    let jobs = ["pci", "mmio"].map(|transport| Job::new(transport, counted_boot(transport)));
    let outcomes = host.run(&jobs, LIMIT);
    check_exits(find(&outcomes, "pci"), "vmm-pci");
    check_exits(find(&outcomes, "mmio"), "vmm-mmio");
}

/// A host with a GICv2 has a `/dev/kvm`, but not for this machine.
#[test]
#[ignore = "needs the program for arm64: cargo xtask nested --full"]
fn host_with_a_gicv2_is_refused() {
    let mut host = host("cortex-a72", "bookworm");
    host.gic = 2;
    let run = format!("{RUN} --kernel /guest/boot.elf");
    let outcomes = host.run(&[Job::new("doctor", "/vmm doctor"), Job::new("run", run)], LIMIT);
    let (doctor, run) = (find(&outcomes, "doctor"), find(&outcomes, "run"));
    assert!(
        doctor.output.contains("is a GICv2, a GICv3 is needed") && doctor.output.contains("takes interp"),
        "{doctor:#?}"
    );
    assert!(run.status == 253 && run.output.contains("is a GICv2, a GICv3 is needed"), "{run:#?}");
}

/// An older processor: no VHE, no PAuth, KPTI.
#[test]
#[ignore = "needs the program for arm64: cargo xtask nested --full"]
fn other_host_with_an_older_processor() {
    everything_on("cortex-a72", "bookworm");
}

#[test]
#[ignore = "needs the program for arm64: cargo xtask nested --full"]
fn other_host_with_a_newer_kernel() {
    everything_on(HOST, "bookworm-backports");
}

fn everything_on(cpu: &'static str, suite: &str) {
    let jobs: Vec<Job> = linux_jobs().into_iter().chain(bare_metal_jobs()).chain(state_jobs()).collect();
    let outcomes = host(cpu, suite).run(&jobs, 2 * LIMIT);
    check_linux(&outcomes);
    check_bare_metal(&outcomes);
    check_state(&outcomes, cpu);
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
    let first = here("--save-on", std::path::Path::new(&format!("GUEST at 3:{}", state.display())));
    assert_eq!(first.status.code(), Some(0), "{first:#?}");
    // The state travels on the host's disk, with room for what it becomes.
    let disk = std::fs::OpenOptions::new().write(true).open(&state).expect("the state");
    let length = disk.metadata().expect("the state's length").len();
    disk.set_len(512 << 20).expect("room on the disk");
    // A host whose counter runs at another frequency, and another processor, are refused.
    let get = format!("dd if=/dev/zero of=/tmp/sums bs=1M count=1 2>/dev/null; head -c {length} /dev/vda >/tmp/state");
    let refusal = |options: &str| {
        format!("{get}; /vmm run --engine kvm {options} /tmp/sums {LINUX} '{COMMAND_LINE}' --load /tmp/state")
    };
    let mut other = Host::new("cortex-a72", debian("bookworm", KERNEL), &guest);
    other.disk = Some(state.clone());
    let jobs =
        [Job::new("frequency", refusal(OPTIONS)), Job::new("cpu", refusal(&OPTIONS.replace("cortex-a72", "max")))];
    let refused = other.run(&jobs, LIMIT);
    for (name, word) in [("frequency", "counter_frequency: 1000000000"), ("cpu", "cpu_model: \"max\"")] {
        let outcome = find(&refused, name);
        assert!(outcome.status == 254 && outcome.output.contains("the saved machine is"), "{outcome:#?}");
        assert!(outcome.output.contains(word), "{outcome:#?}");
    }
    // The emulated host's counter runs as fast as the translator's.
    let mut host = Host::new("cortex-a72,cntfrq=1000000000", debian("bookworm", KERNEL), &guest);
    host.disk = Some(state.clone());
    let machine = format!("/vmm run --engine kvm {OPTIONS} /tmp/sums {LINUX} '{COMMAND_LINE}'");
    let job = format!(
        "{get} && {machine} --load /tmp/state --save-on 'GUEST at 5:/tmp/next' && \
         dd if=/tmp/next of=/dev/vda bs=1M conv=notrunc 2>/dev/null && sync && echo LENGTH $(stat -c %s /tmp/next)"
    );
    let outcomes = host.run(&[Job::new("move", job)], LIMIT);
    let moved = find(&outcomes, "move");
    assert_eq!(moved.status, 0, "{moved:#?}");
    let length = moved.output.split("LENGTH ").nth(1).and_then(|rest| rest.trim().parse().ok());
    disk.set_len(length.unwrap_or_else(|| panic!("{moved:#?}"))).expect("the state's length");
    let last = here("--load", &state);
    assert_eq!(last.status.code(), Some(0), "{last:#?}");
    assert!(moved.output.contains("GUEST at 5") && !moved.output.contains("GUEST sum 6"), "moved too late");
    check_sums(&format!("{}{}{}", first.stdout, moved.output, last.stdout));
    let _ = std::fs::remove_dir_all(folder);
}
