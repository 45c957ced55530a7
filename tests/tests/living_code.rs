//! Kernels that rewrite their own code while two processors execute it: kprobes, the function tracers, programs compiled by
//! the kernel's BPF compiler, modules that come and go, jump labels, and a kernel that is replaced by another (kexec).
//!
//! `LIVING_CODE=full` does more rounds, runs the kernel's own tests of its BPF compiler, and adds the newer kernels.

use std::time::Duration;

use tests::linux::{PROMPT, Shell};
use tests::monitor;
use tests::workshop::Workshop;

const LIMIT: Duration = Duration::from_secs(300);
const TRACING: &str = "/sys/kernel/tracing";
/// A system call that nothing but `living calls` makes.
const CALLED: &str = "__arm64_sys_sched_get_priority_max";
/// Modules that need no others and no hardware.
const MODULES: [&str; 5] = ["crc-itu-t", "crc7", "ts_bm", "ts_fsm", "ts_kmp"];
const KEYS: [&str; 2] = ["test_static_key_base", "test_static_keys"];
const BPF_TESTS: &str = "test_bpf";

fn full() -> bool {
    std::env::var_os("LIVING_CODE").is_some_and(|value| value == "full")
}

/// A part of the test, in a guest under load.
type Part = fn(&mut Shell);

/// Rounds in CI, under stress a third of them; and on demand.
fn rounds(few: u32, many: u32) -> u32 {
    if full() { many } else { monitor::rounds(few) }
}

/// Something to do for both processors all the time, in user space and in many parts of the kernel.
fn load(shell: &mut Shell) {
    let work = "md5sum /bin/busybox; ls -lR /sys/kernel/slab /proc/sys; cat /proc/meminfo | sort | uniq";
    shell.command(&format!("for i in 1 2; do (while :; do {work}; done >/dev/null 2>&1 &); done"));
}

/// Each call of a function is seen by the probe at its start and the one at its return.
fn kprobes(shell: &mut Shell, calls: u32) {
    shell.command(&format!(
        "cd {TRACING}; echo 'p:mine/call {CALLED}' >kprobe_events; echo 'r:mine/back {CALLED}' >>kprobe_events"
    ));
    shell.command("echo 1 >events/mine/enable; cat /sys/kernel/debug/kprobes/list 2>/dev/null");
    assert_eq!(shell.long(&format!("/living calls {calls} 2"), LIMIT), "living: done");
    let profile = shell.command("cat kprobe_profile");
    let counted: Vec<Vec<&str>> = profile.lines().map(|line| line.split_whitespace().collect()).collect();
    assert_eq!(counted.len(), 2, "{profile}");
    for row in counted {
        assert_eq!(row[1..], [&*(2 * calls).to_string(), "0"], "hits and misses: {profile}");
    }
    shell.command("echo 0 >events/mine/enable; echo >kprobe_events; echo >trace");
    // Nothing is seen any more.
    shell.command("/living calls 100 2");
    assert_eq!(shell.command("grep -vc '^#' trace; cat kprobe_profile"), "0");
}

/// Tracers are put into all functions of the kernel and taken out again; a probe counts meanwhile, and misses nothing.
fn tracers(shell: &mut Shell, times: u32) {
    let calls = 3000;
    shell.command(&format!(
        "cd {TRACING}; echo 256 >buffer_size_kb; echo 'p:mine/call {CALLED}' >kprobe_events; echo 1 >events/mine/enable"
    ));
    for round in 0..times {
        let tracer = if round % 2 == 0 { "function" } else { "function_graph" };
        let toggle = format!("echo {tracer} >current_tracer; sleep 0.2; echo nop >current_tracer");
        let said = shell.long(&format!("/living calls {calls} 2 >/tmp/said & {toggle}; wait $!; cat /tmp/said"), LIMIT);
        assert!(said.contains("living: done"), "{said}");
        // Now certainly while it is in.
        shell.long(&format!("echo {CALLED} >set_ftrace_filter; echo {tracer} >current_tracer; echo >trace"), LIMIT);
        shell.long("/living calls 50 2", LIMIT);
        let seen = shell.command("grep -v call: trace | grep -c sched_get_priority_max");
        shell.command("echo nop >current_tracer; echo >set_ftrace_filter; echo >trace");
        assert_eq!(seen, "100", "{tracer}");
    }
    let hits = shell.command("awk '{print $2, $3}' kprobe_profile");
    assert_eq!(hits, format!("{} 0", times * (2 * calls + 100)));
    shell.command("echo 0 >events/mine/enable; echo >kprobe_events");
}

/// Branches that the kernel patches: those of trace points and statistics, and the kernel's own test of them.
fn jump_labels(shell: &mut Shell, times: u32) {
    let tracepoints = format!(
        "cd {TRACING}; for on in 1 0; do echo $on >events/syscalls/enable; echo $on >events/sched/enable; echo $on >/proc/sys/kernel/sched_schedstats; done"
    );
    shell.long(&format!("for i in $(seq {times}); do {tracepoints}; done"), LIMIT);
    shell.command(&format!(
        "cd {TRACING}; echo >trace; echo 1 >events/syscalls/enable; /living calls 10 1; echo 0 >events/syscalls/enable"
    ));
    let seen = shell.command("grep -c 'sys_sched_get_priority_max(' trace");
    assert_eq!(seen, "10");
    let modules = "insmod /modules/test_static_key_base.ko && insmod /modules/test_static_keys.ko && rmmod test_static_keys test_static_key_base";
    let said = shell.long(&format!("for i in $(seq {times}); do {modules} || echo failed; done"), LIMIT);
    assert_eq!(said, "");
}

/// Code comes to where other code was.
fn modules(shell: &mut Shell, times: u32) {
    let all = MODULES.map(|name| format!("insmod /modules/{name}.ko")).join(" && ");
    let none = MODULES.map(|name| name.replace('-', "_")).join(" ");
    let said = shell.long(&format!("for i in $(seq {times}); do {all} && rmmod {none} || echo failed $i; done"), LIMIT);
    assert_eq!(said, "");
}

fn bpf(shell: &mut Shell, programs: u32) {
    shell.command("echo 1 >/proc/sys/net/core/bpf_jit_enable");
    assert_eq!(shell.command("cat /proc/sys/net/core/bpf_jit_enable"), "1");
    assert_eq!(shell.long(&format!("/living bpf {programs} 2"), LIMIT), "living: done");
    if full() {
        shell.long(&format!("insmod /modules/{BPF_TESTS}.ko; rmmod {BPF_TESTS}"), LIMIT);
        let summary = shell.command("dmesg | grep 'test_bpf: Summary'");
        assert!(summary.contains("PASSED") && !summary.contains("0 PASSED"), "{summary}");
        // What failed, and what was not translated by the kernel's compiler.
        assert!(summary.split("Summary").skip(1).all(|line| line.contains("0 FAILED")), "{summary}");
    }
}

/// The same kernel again, started by the kernel that runs: memory with code is overwritten, the other processor brought up anew.
#[test]
fn a_kernel_that_starts_another() {
    let mut workshop = Workshop::new("bookworm", "linux-image-cloud-arm64");
    workshop.packages(&["kexec-tools"]);
    let (kernel, plain) = (std::fs::read(workshop.kernel()), std::fs::read(workshop.plain_initrd()));
    workshop.file("kernel", 0o644, &kernel.expect("a kernel"));
    // The next generation has neither the tool nor the kernel.
    workshop.file("plain", 0o644, &plain.expect("an initramfs"));
    let (guest, _folder) = workshop.finish();
    let mut shell = Shell::boot("auto", &guest, 2, "512M", "quiet");
    assert_eq!(shell.command("ls /kernel"), "/kernel");
    // Away from the tables that the first kernel gave the redistributors: without UEFI the next one does not hear of them, and
    // where they lie inside of its image it clears them. On hardware and on QEMU too.
    let load = "kexec -c --mem-min=0x50000000 -l /kernel --initrd=/plain";
    let said =
        shell.long(&format!("{load} --command-line='console=ttyAMA0 quiet next'; cat /sys/kernel/kexec_loaded"), LIMIT);
    assert_eq!(said, "1");
    shell.until("kexec -e", PROMPT, LIMIT);
    assert_eq!(
        shell.command("cat /proc/cmdline; nproc; ls /kernel 2>&1"),
        "console=ttyAMA0 quiet next\n2\nls: /kernel: No such file or directory"
    );
    assert_eq!(shell.end("poweroff -f").status.code(), Some(0));
}

fn living_code(suite: &str, package: &str) {
    let mut workshop = Workshop::new(suite, package);
    workshop.program("living");
    workshop.modules(&MODULES.iter().chain(&KEYS).copied().chain([BPF_TESTS]).collect::<Vec<_>>());
    let (guest, _folder) = workshop.finish();
    let mut shell = Shell::boot("auto", &guest, 2, "1G", "quiet");
    shell.command(&format!("mount -t tracefs tracefs {TRACING}; mount -t debugfs debugfs /sys/kernel/debug"));
    load(&mut shell);
    let parts: [(&str, Part); 5] = [
        ("kprobes", |shell| (0..rounds(3, 30)).for_each(|_| kprobes(shell, 5000))),
        ("tracers", |shell| tracers(shell, rounds(2, 20).max(2))),
        ("BPF", |shell| bpf(shell, rounds(150, 3000))),
        ("modules", |shell| modules(shell, rounds(20, 100))),
        ("jump labels", |shell| jump_labels(shell, rounds(5, 100))),
    ];
    for (name, part) in parts {
        let begin = std::time::Instant::now();
        part(&mut shell);
        println!("{package} of {suite}: {name} in {:.1?}", begin.elapsed());
    }
    let complaints = shell.command("dmesg | grep -iE 'bug:|warning:|call trace|lockup|oops'");
    assert_eq!(complaints, "", "{package} of {suite} complains");
    assert_eq!(shell.end("poweroff -f").status.code(), Some(0));
}

#[test]
fn a_kernel_that_rewrites_itself() {
    living_code("bookworm", "linux-image-arm64");
}

#[test]
fn newer_kernels_that_rewrite_themselves() {
    if !full() {
        eprintln!("only with LIVING_CODE=full: minutes");
        return;
    }
    living_code("bookworm-backports", "linux-image-arm64");
    living_code("bookworm-backports", "linux-image-arm64-16k");
}
