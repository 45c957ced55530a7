//! The program as a whole, with kernels of a few instructions: statuses, messages, signals, the terminal.
#![expect(clippy::unwrap_used, reason = "a test that cannot do what it needs fails")]

use std::io::{Read, Write};
use std::os::fd::OwnedFd;
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::PathBuf;
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal};
use rustix::termios::{LocalModes, tcgetattr};

const B_SELF: u32 = 0x1400_0000;
const WFI: u32 = 0xd503_207f;
const HVC0: u32 = 0xd400_0002;
/// b .-4
const B_BACK: u32 = 0x17ff_ffff;

/// movz/movk of a 32-bit value.
fn load(register: u32, value: u32) -> [u32; 2] {
    [0xd280_0000 | (value & 0xffff) << 5 | register, 0xf2a0_0000 | (value >> 16) << 5 | register]
}

/// Prints on the PL011.
fn print(text: &str) -> Vec<u32> {
    let mut code = load(1, 0x0900_0000).to_vec();
    for byte in text.bytes() {
        code.push(0xd280_0000 | u32::from(byte) << 5); // movz x0, #byte
        code.push(0xb900_0020); // str w0, [x1]
    }
    code
}

fn call(id: u32) -> Vec<u32> {
    let mut code = load(0, id).to_vec();
    code.push(HVC0);
    code
}

const OFF: u32 = 0x8400_0008;
const RESET: u32 = 0x8400_0009;

/// Writes an arm64 Image whose code is `code`, and gives its path.
fn kernel(name: &str, code: &[u32]) -> PathBuf {
    let mut image = vec![0u8; 64];
    image[0..4].copy_from_slice(&0x1400_0010u32.to_le_bytes()); // b over the header
    image[16..24].copy_from_slice(&(1u64 << 20).to_le_bytes());
    image[24..32].copy_from_slice(&0xau64.to_le_bytes());
    image[56..60].copy_from_slice(b"ARM\x64");
    for word in code {
        image.extend_from_slice(&word.to_le_bytes());
    }
    let path = std::env::temp_dir().join(format!("vmm-program-{}-{name}", std::process::id()));
    std::fs::write(&path, image).unwrap();
    path
}

fn vmm(kernel: &PathBuf, options: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_vmm"));
    command.args(["run", "--memory", "64M", "--kernel"]).arg(kernel).args(options).stdin(Stdio::null());
    command
}

fn run(kernel: &PathBuf, options: &[&str]) -> Output {
    vmm(kernel, options).output().unwrap()
}

fn stderr(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

/// Waits for the child with a limit, so that a hang is a failure and not a hang.
fn wait(child: &mut Child) -> std::process::ExitStatus {
    let deadline = Instant::now() + Duration::from_secs(20);
    loop {
        if let Some(status) = child.try_wait().unwrap() {
            return status;
        }
        if Instant::now() > deadline {
            child.kill().unwrap();
            panic!("vmm did not end");
        }
        std::thread::sleep(Duration::from_millis(5));
    }
}

fn send(child: &Child, signal: Signal) {
    rustix::process::kill_process(Pid::from_child(child), signal).unwrap();
}

#[test]
fn power_off_ends_with_0_and_all_output() {
    let code = [print("hello\n"), call(OFF)].concat();
    let output = run(&kernel("off", &code), &[]);
    assert_eq!(
        (output.status.code(), output.stdout.as_slice()),
        (Some(0), b"hello\n".as_slice()),
        "{}",
        stderr(&output)
    );
}

#[test]
fn reset_runs_the_kernel_again() {
    // The marker in RAM is gone after a reset, so the kernel prints for ever; the reader's end ends it with 141.
    let code = [print("x"), call(RESET)].concat();
    let kernel = kernel("reset", &code);
    let output = run(&kernel, &["--no-reboot"]);
    assert_eq!((output.status.code(), output.stdout.as_slice()), (Some(0), b"x".as_slice()));
    let mut child = vmm(&kernel, &[]).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let mut three = [0u8; 3];
    child.stdout.take().unwrap().read_exact(&mut three).unwrap();
    assert_eq!(&three, b"xxx");
    assert_eq!(wait(&mut child).code(), Some(141));
}

#[test]
fn a_panic_without_return_to_user_code_ends_with_250() {
    let code = [print("[    0.1] Kernel panic - not syncing: test\r\n"), call(RESET)].concat();
    let output = run(&kernel("panic", &code), &[]);
    assert_eq!(output.status.code(), Some(250));
    assert!(stderr(&output).contains("panicked"));
    let orderly = [print("Kernel panic - not syncing\r\nreboot: Power down\r\n"), call(OFF)].concat();
    assert_eq!(run(&kernel("orderly", &orderly), &[]).status.code(), Some(0));
}

#[test]
fn the_time_limit_ends_with_124_and_a_hang_report() {
    let output = run(&kernel("spin", &[B_SELF]), &["--timeout", "0.3"]);
    assert_eq!(output.status.code(), Some(124));
    let report = stderr(&output);
    assert!(report.contains("vCPU 0") && report.contains("0x0000000040000040") && report.contains("GICv3"), "{report}");
}

#[test]
fn sigterm_ends_and_sigquit_reports() {
    let mut child =
        vmm(&kernel("signals", &[WFI, B_BACK]), &[]).stderr(Stdio::piped()).stdout(Stdio::null()).spawn().unwrap();
    std::thread::sleep(Duration::from_millis(300));
    send(&child, Signal::QUIT);
    std::thread::sleep(Duration::from_millis(300));
    assert!(child.try_wait().unwrap().is_none(), "SIGQUIT must not end the guest");
    send(&child, Signal::TERM);
    assert_eq!(wait(&mut child).code(), Some(143));
    let mut report = String::new();
    child.stderr.take().unwrap().read_to_string(&mut report).unwrap();
    assert!(report.contains("hang report"), "{report}");
}

#[test]
fn an_idle_guest_costs_nothing() {
    let mut child = vmm(&kernel("idle", &[WFI, B_BACK]), &["--cpus", "4"]).stdout(Stdio::null()).spawn().unwrap();
    let ticks = |child: &Child| {
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", child.id())).unwrap();
        let fields: Vec<&str> = stat.rsplit(')').next().unwrap().split_whitespace().collect();
        fields[11].parse::<u64>().unwrap() + fields[12].parse::<u64>().unwrap()
    };
    std::thread::sleep(Duration::from_millis(500));
    let before = ticks(&child);
    std::thread::sleep(Duration::from_secs(2));
    let used = ticks(&child) - before;
    send(&child, Signal::TERM);
    wait(&mut child);
    assert!(used <= 4, "{used} ticks of 10 ms in 2 s");
}

#[test]
fn wrong_inputs_end_with_254_and_name_the_option() {
    let directory = std::env::temp_dir();
    let text = directory.join(format!("vmm-program-{}-text", std::process::id()));
    std::fs::write(&text, "just text\n").unwrap();
    let good = kernel("good", &call(OFF));
    let cases: [(&PathBuf, Vec<&str>, &str); 7] = [
        (&directory, vec![], "--kernel"),
        (&text, vec![], "--kernel"),
        (&PathBuf::from("/nonexistent/kernel"), vec![], "--kernel"),
        (&good, vec!["--initrd", "/nonexistent/initrd"], "--initrd"),
        (&good, vec!["--initrd", "/"], "--initrd"),
        (&good, vec!["--cpu", "z80"], "cortex-a72"),
        (&good, vec!["--dtb", good.to_str().unwrap()], "tree"),
    ];
    for (kernel, options, word) in cases {
        let output = run(kernel, &options);
        assert_eq!(output.status.code(), Some(254), "{kernel:?} {options:?}: {}", stderr(&output));
        assert!(stderr(&output).contains(word), "{kernel:?} {options:?}: {}", stderr(&output));
    }
    let output = run(&text, &["--json"]);
    let error: serde_json::Value = serde_json::from_slice(&output.stderr).unwrap();
    assert_eq!(error["error"]["status"], 254);
}

#[test]
fn statistics_and_ends_as_json() {
    let output = run(&kernel("stats", &call(OFF)), &["--engine", "interp", "--stats=json", "--json"]);
    assert_eq!(output.status.code(), Some(0));
    let lines: Vec<serde_json::Value> =
        stderr(&output).lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(lines[0]["engine"], "interp");
    assert_eq!(lines[1]["end"]["reason"], "poweroff");
}

#[test]
fn doctor_says_what_it_found() {
    let doctor =
        |options: &[&str]| Command::new(env!("CARGO_BIN_EXE_vmm")).arg("doctor").args(options).output().unwrap();
    let text = doctor(&[]);
    assert!(text.status.success() && String::from_utf8_lossy(&text.stdout).contains("interp"));
    let value: serde_json::Value = serde_json::from_slice(&doctor(&["--json"]).stdout).unwrap();
    assert!(value["engine"].is_string());
}

/// vmm on a terminal of its own.
struct OnTerminal {
    child: Child,
    terminal: std::fs::File,
}

fn on_terminal(kernel: &PathBuf) -> OnTerminal {
    use rustix::fs::{Mode, OFlags};
    use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
    let master = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY).unwrap();
    grantpt(&master).unwrap();
    unlockpt(&master).unwrap();
    let name = ptsname(&master, Vec::new()).unwrap();
    let slave: OwnedFd = rustix::fs::open(name.as_c_str(), OFlags::RDWR | OFlags::NOCTTY, Mode::empty()).unwrap();
    let mut command = vmm(kernel, &[]);
    command.stdin(slave.try_clone().unwrap()).stdout(slave.try_clone().unwrap()).stderr(slave).process_group(0);
    OnTerminal { child: command.spawn().unwrap(), terminal: std::fs::File::from(master) }
}

impl OnTerminal {
    fn is_raw(&self) -> bool {
        !tcgetattr(&self.terminal).unwrap().local_modes.contains(LocalModes::ICANON | LocalModes::ECHO)
    }

    /// Waits until the guest has printed its mark, with the terminal raw.
    fn wait_for(&mut self, mark: &str) {
        let mut seen = Vec::new();
        let mut byte = [0u8];
        while !seen.ends_with(mark.as_bytes()) {
            self.terminal.read_exact(&mut byte).unwrap();
            seen.push(byte[0]);
        }
    }
}

#[test]
fn the_terminal_is_raw_while_the_guest_runs_and_restored_on_every_way_out() {
    let kernel = kernel("terminal", &[print("ready"), vec![WFI, B_BACK]].concat());
    for way_out in ["keys", "term", "abort"] {
        let mut vm = on_terminal(&kernel);
        vm.wait_for("ready");
        assert!(vm.is_raw(), "{way_out}");
        match way_out {
            "keys" => vm.terminal.write_all(b"\x01x").unwrap(),
            "term" => send(&vm.child, Signal::TERM),
            _ => send(&vm.child, Signal::ABORT),
        }
        let status = wait(&mut vm.child);
        assert!(!vm.is_raw(), "{way_out}");
        match way_out {
            "keys" => assert_eq!(status.code(), Some(0)),
            "term" => assert_eq!(status.code(), Some(143)),
            _ => assert_eq!(status.signal(), Some(6)),
        }
    }
}

#[test]
fn the_monitor_answers_and_quits() {
    let kernel = kernel("monitor", &[print("ready"), vec![WFI, B_BACK]].concat());
    let mut vm = on_terminal(&kernel);
    vm.wait_for("ready");
    vm.terminal.write_all(b"\x01c").unwrap();
    vm.wait_for("(vmm) ");
    vm.terminal.write_all(b"info devices\r").unwrap();
    vm.wait_for("pl011");
    vm.wait_for("(vmm) ");
    vm.terminal.write_all(b"pause\rinfo status\r").unwrap();
    vm.wait_for("paused, engine");
    vm.terminal.write_all(b"quit\r").unwrap();
    assert_eq!(wait(&mut vm.child).code(), Some(0));
    assert!(!vm.is_raw());
}
