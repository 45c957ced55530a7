//! `cargo xtask cross`: the program for arm64 hosts, built on an x86-64 one with Debian's own compiler packages.
//!
//! Debian has the compiler as `rustc-web`, with a standard library for each of its architectures. The packages are
//! unpacked into a private folder, nothing is installed; the linker and the C library are those of the cross packages.

use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};

const TARGET: &str = "aarch64-unknown-linux-gnu";
/// The profile of programs for tests, and its folder.
const DEV_PROFILE: &str = "cross";
/// Packages of this host's architecture.
const HOST_PACKAGES: [&str; 5] =
    ["rustc-web", "libstd-rust-web-dev", "libstd-rust-web-1.96", "libllvm22", "rust-web-clippy"];
/// The standard library of the target.
const TARGET_PACKAGE: &str = "libstd-rust-web-dev:arm64";
/// Crates with code that differs on arm64: their unit tests run under qemu-user.
const TESTED: [&str; 1] = ["vmm"];
/// Tests that mean nothing there: qemu-user has no seccomp, under which machines run, and counts its own processor time.
const BEYOND_QEMU_USER: [&str; 3] = ["sandbox::", "machine::tests::", "bench::subject::"];

/// What to do with the target's compiler.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Task {
    Build,
    /// For tests: compiled in a third of the time.
    BuildDev,
    Check,
    Test,
}

/// Runs the command.
pub fn run(arguments: &[String]) -> ExitCode {
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let task = match words.as_slice() {
        ["aarch64"] => Task::Build,
        ["aarch64", "--dev"] => Task::BuildDev,
        ["aarch64", "--check"] => Task::Check,
        ["aarch64", "--test"] => Task::Test,
        _ => {
            eprintln!("xtask: cross takes `aarch64`, and --dev, --check or --test");
            return ExitCode::FAILURE;
        }
    };
    report(cross(task))
}

/// `cargo xtask release`: a binary for each architecture.
pub fn release() -> ExitCode {
    report(both())
}

fn report(result: Result<(), String>) -> ExitCode {
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(message) => {
            eprintln!("xtask: {message}");
            ExitCode::FAILURE
        }
    }
}

fn both() -> Result<(), String> {
    succeed(Command::new(env!("CARGO")).args(["build", "--release", "--package", "vmm"]))?;
    cross(Task::Build)?;
    let folder = target_folder().join("dist");
    std::fs::create_dir_all(&folder).map_err(|e| format!("{}: {e}", folder.display()))?;
    for (from, to) in [
        (target_folder().join("release/vmm"), folder.join("vmm-x86_64")),
        (cross_folder().join(TARGET).join("release/vmm"), folder.join("vmm-aarch64")),
    ] {
        std::fs::copy(&from, &to).map_err(|e| format!("{}: {e}", from.display()))?;
        println!("{}", to.display());
    }
    Ok(())
}

fn target_folder() -> PathBuf {
    // Where this runs, not where it was compiled: target folders are copied.
    let here =
        || PathBuf::from(std::env::var_os("CARGO_MANIFEST_DIR").unwrap_or_else(|| env!("CARGO_MANIFEST_DIR").into()));
    std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| here().join("../target"), PathBuf::from)
}

/// Where cross builds go: another compiler's files must not mix with this one's.
fn cross_folder() -> PathBuf {
    std::env::var_os("VMM_CROSS_TARGET").map_or_else(|| target_folder().join("cross"), PathBuf::from)
}

/// The program for arm64 after `cross aarch64 --dev`.
pub fn dev_program() -> PathBuf {
    cross_folder().join(TARGET).join(DEV_PROFILE).join("vmm")
}

fn cross(task: Task) -> Result<(), String> {
    let compiler = compiler()?;
    let mut cargo = Command::new(env!("CARGO"));
    let linker = "CARGO_TARGET_AARCH64_UNKNOWN_LINUX_GNU_LINKER";
    cargo
        .env("CARGO_TARGET_DIR", cross_folder())
        .env("RUSTC", wrapper(&compiler, "rustc")?)
        .env("CARGO_BUILD_TARGET", TARGET)
        .env(linker, "aarch64-linux-gnu-gcc")
        .env("CARGO_TARGET_AARCH64_UNKNOWN_LINUX_GNU_RUSTFLAGS", "-C target-feature=+crt-static")
        .env("CARGO_TARGET_AARCH64_UNKNOWN_LINUX_GNU_RUNNER", "qemu-aarch64")
        .env_remove("RUSTUP_TOOLCHAIN");
    match task {
        Task::Build => cargo.args(["build", "--release", "--package", "vmm"]),
        Task::BuildDev => cargo.args(["build", "--profile", DEV_PROFILE, "--package", "vmm"]),
        Task::Check => {
            // What `cargo clippy` does, with the clippy of this compiler; warnings that only its version has do not fail.
            cargo.env("RUSTC_WORKSPACE_WRAPPER", wrapper(&compiler, "clippy-driver")?);
            cargo.args(["check", "--profile", DEV_PROFILE, "--package", "vmm", "--all-targets"])
        }
        Task::Test => {
            cargo.args(["test", "--profile", DEV_PROFILE, "--lib", "--no-fail-fast"]);
            cargo.args(TESTED.iter().flat_map(|package| ["--package", package]));
            cargo.arg("--").args(BEYOND_QEMU_USER.iter().flat_map(|test| ["--skip", test]))
        }
    };
    succeed(&mut cargo)?;
    if task == Task::Build {
        println!("{}", cross_folder().join(TARGET).join("release/vmm").display());
    }
    Ok(())
}

/// The folder with the unpacked compiler; made at the first call.
fn compiler() -> Result<PathBuf, String> {
    let prefix =
        std::env::var_os("VMM_CROSS_COMPILER").map_or_else(|| target_folder().join("cross-compiler"), PathBuf::from);
    if !prefix.join("usr/bin/rustc").is_file() {
        println!("==> unpacking Debian's compiler for arm64 into {}", prefix.display());
        let partial = prefix.with_extension("partial");
        let _ = std::fs::remove_dir_all(&partial);
        unpack(&partial)?;
        let _ = std::fs::remove_dir_all(&prefix);
        std::fs::rename(&partial, &prefix).map_err(|e| format!("{}: {e}", prefix.display()))?;
    }
    std::fs::canonicalize(&prefix).map_err(|e| format!("{}: {e}", prefix.display()))
}

fn unpack(prefix: &Path) -> Result<(), String> {
    let failed = |e: std::io::Error| format!("{}: {e}", prefix.display());
    let downloads = prefix.join("downloads");
    std::fs::create_dir_all(prefix.join("lists/partial")).map_err(failed)?;
    std::fs::create_dir_all(&downloads).map_err(failed)?;
    let apt = |options: &[String], words: &[&str]| {
        let mut apt = Command::new("apt-get");
        apt.current_dir(&downloads).arg("-q").args(options).args(words);
        succeed(&mut apt)
    };
    let mut words = vec!["download"];
    words.extend(HOST_PACKAGES);
    apt(&[], &words)?;
    // The target's lists in a folder of their own: the system's architectures stay as they are.
    let lists = std::fs::canonicalize(prefix.join("lists")).map_err(failed)?;
    let options = [
        "-oAPT::Architecture=arm64".to_owned(),
        "-oAPT::Architectures=arm64".to_owned(),
        format!("-oDir::State::Lists={}", lists.display()),
        "-oDir::Cache::pkgcache=".to_owned(),
        "-oDir::Cache::srcpkgcache=".to_owned(),
    ];
    apt(&options, &["update"])?;
    apt(&options, &["download", TARGET_PACKAGE])?;
    for entry in std::fs::read_dir(&downloads).map_err(failed)? {
        let package = entry.map_err(failed)?.path();
        succeed(Command::new("dpkg").arg("-x").arg(&package).arg(prefix))?;
    }
    for folder in ["downloads", "lists"] {
        std::fs::remove_dir_all(prefix.join(folder)).map_err(failed)?;
    }
    Ok(())
}

/// A script that runs a program of the unpacked compiler with its own libraries.
fn wrapper(compiler: &Path, program: &str) -> Result<PathBuf, String> {
    let script = compiler.join(format!("{program}.sh"));
    let libraries = format!("{0}/usr/lib:{0}/usr/lib/x86_64-linux-gnu", compiler.display());
    let text = format!("#!/bin/sh\nLD_LIBRARY_PATH={libraries} exec {}/usr/bin/{program} \"$@\"\n", compiler.display());
    std::fs::write(&script, text).map_err(|e| format!("{}: {e}", script.display()))?;
    succeed(Command::new("chmod").arg("+x").arg(&script))?;
    Ok(script)
}

fn succeed(command: &mut Command) -> Result<(), String> {
    match command.status() {
        Ok(status) if status.success() => Ok(()),
        Ok(status) => Err(format!("{command:?} failed ({status})")),
        Err(error) => Err(format!("{command:?} cannot be started: {error}")),
    }
}
