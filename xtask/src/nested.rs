//! `cargo xtask nested`: the program on a KVM that QEMU's emulation of EL2 makes possible.

use std::process::{Command, ExitCode};

use crate::cross;

/// Builds the program for arm64 and runs the tests of the nested machine: `--small` one host for CI, `--full` all.
pub fn run(arguments: &[String]) -> ExitCode {
    // Tests are chosen by parts of their names.
    let names: &[&str] = match arguments.iter().map(String::as_str).collect::<Vec<_>>().as_slice() {
        [] => &["small", "short"],
        ["--small"] => &["small"],
        ["--full"] => &[],
        _ => {
            eprintln!("xtask: nested takes --small, --full or nothing");
            return ExitCode::FAILURE;
        }
    };
    let built = cross::run(&["aarch64".to_owned(), "--dev".to_owned()]);
    if built != ExitCode::SUCCESS {
        return built;
    }
    let mut cargo = Command::new(env!("CARGO"));
    cargo.args(["test", "--release", "--package", "tests", "--test", "nested", "--", "--ignored", "--nocapture"]);
    cargo.args(["--test-threads", "1"]).env("VMM_AARCH64", cross::dev_program());
    cargo.args(names);
    match cargo.status() {
        Ok(status) if status.success() => ExitCode::SUCCESS,
        _ => ExitCode::FAILURE,
    }
}
