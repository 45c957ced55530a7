//! `cargo xtask test`: everything that a change must pass, in the order in which a mistake is found soonest.

use std::path::Path;
use std::process::{Command, ExitCode};
use std::time::Instant;

/// Host programs that the tests call, and the Debian package of each.
const TOOLS: [(&str, &str); 11] = [
    ("aarch64-linux-gnu-gcc", "gcc-aarch64-linux-gnu"),
    ("aarch64-linux-gnu-objdump", "binutils-aarch64-linux-gnu"),
    ("qemu-aarch64", "qemu-user"),
    ("qemu-system-aarch64", "qemu-system-arm"),
    ("dtc", "device-tree-compiler"),
    ("qemu-img", "qemu-utils"),
    ("mke2fs", "e2fsprogs"),
    ("ip", "iproute2"),
    ("unshare", "util-linux"),
    ("ssh-keygen", "openssh-client"),
    ("faketime", "faketime"),
];
/// A file that only the C library for arm64 brings.
const CROSS_LIBC: (&str, &str) = ("/usr/aarch64-linux-gnu/lib/libc.a", "libc6-dev-arm64-cross");

/// One step: what it is called and its command line.
struct Step {
    name: &'static str,
    cargo: &'static [&'static str],
}

const STEPS: [Step; 9] = [
    Step { name: "format", cargo: &["fmt", "--all", "--check"] },
    Step {
        name: "generated files are current",
        cargo: &["run", "--quiet", "--package", "xtask", "--", "gen", "--check"],
    },
    Step { name: "clippy", cargo: &["clippy", "--workspace", "--all-targets", "--", "-D", "warnings"] },
    Step { name: "the program", cargo: &["build", "--release", "--package", "vmm"] },
    Step { name: "unit and property tests", cargo: &["test", "--workspace", "--exclude", "tests"] },
    Step { name: "differential, bare-metal and end-to-end tests", cargo: &["test", "--release", "--package", "tests"] },
    Step {
        name: "end-to-end tests with the translator under stress",
        cargo: &["run", "--quiet", "--package", "xtask", "--", "stress"],
    },
    Step {
        name: "clippy of the arm64 half",
        cargo: &["run", "--quiet", "--package", "xtask", "--", "cross", "aarch64", "--check"],
    },
    Step {
        name: "KVM in an emulated arm64 host",
        cargo: &["run", "--quiet", "--package", "xtask", "--", "nested", "--small"],
    },
];

/// Installs what is missing, then runs each step; stops at the first that fails.
pub fn run() -> ExitCode {
    if let Err(message) = install_tools() {
        eprintln!("xtask: {message}");
        return ExitCode::FAILURE;
    }
    let begin = Instant::now();
    for step in &STEPS {
        let started = Instant::now();
        println!("==> {}: cargo {}", step.name, step.cargo.join(" "));
        match cargo().args(step.cargo).status() {
            Ok(status) if status.success() => {
                println!("==> {}: ok, {:.0} s", step.name, started.elapsed().as_secs_f32());
            }
            Ok(status) => {
                eprintln!("==> {}: failed ({status})", step.name);
                return ExitCode::FAILURE;
            }
            Err(error) => {
                eprintln!("==> {}: cargo cannot be started: {error}", step.name);
                return ExitCode::FAILURE;
            }
        }
    }
    println!("==> everything passed in {:.0} s", begin.elapsed().as_secs_f32());
    ExitCode::SUCCESS
}

/// Nothing is compiled a second time on a machine that is new for each run: what a second time would need is not kept there.
fn cargo() -> Command {
    let mut cargo = Command::new(env!("CARGO"));
    if std::env::var_os("CI").is_some() && std::env::var_os("CARGO_INCREMENTAL").is_none() {
        cargo.env("CARGO_INCREMENTAL", "0");
    }
    cargo
}

fn in_path(program: &str) -> bool {
    std::env::var_os("PATH").is_some_and(|path| std::env::split_paths(&path).any(|dir| dir.join(program).is_file()))
}

/// Debian packages that are not there, by the programs and files that they bring.
fn missing_packages() -> Vec<&'static str> {
    let mut packages: Vec<_> =
        TOOLS.iter().filter(|(program, _)| !in_path(program)).map(|(_, package)| *package).collect();
    if !Path::new(CROSS_LIBC.0).exists() {
        packages.push(CROSS_LIBC.1);
    }
    packages
}

fn install_tools() -> Result<(), String> {
    let packages = missing_packages();
    if packages.is_empty() {
        return Ok(());
    }
    println!("==> installing {}", packages.join(" "));
    let as_root = Command::new("id").arg("-u").output().is_ok_and(|output| output.stdout == b"0\n");
    let apt = |arguments: &[&str]| {
        let mut command = if as_root {
            Command::new("apt-get")
        } else {
            let mut sudo = Command::new("sudo");
            sudo.arg("apt-get");
            sudo
        };
        command.args(arguments).env("DEBIAN_FRONTEND", "noninteractive").status().is_ok_and(|status| status.success())
    };
    // A failed update is not the end: the lists at hand may do.
    let _ = apt(&["update", "-q"]);
    let mut install = vec!["install", "-y", "-q", "--no-install-recommends"];
    install.extend(&packages);
    if apt(&install) && missing_packages().is_empty() {
        Ok(())
    } else {
        Err(format!("cannot install what the tests need; as root: apt-get install {}", packages.join(" ")))
    }
}
