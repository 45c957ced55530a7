//! `cargo xtask nested`: the program on a KVM that QEMU's emulation of EL2 makes possible.

use std::process::{Command, ExitCode};

use crate::cross;

/// Builds the program for arm64 and runs the tests of the nested machine; `--full` adds the long ones.
pub fn run(arguments: &[String]) -> ExitCode {
    let full = match arguments {
        [] => false,
        [word] if word == "--full" => true,
        _ => {
            eprintln!("xtask: nested takes --full or nothing");
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
    if !full {
        cargo.arg("short");
    }
    match cargo.status() {
        Ok(status) if status.success() => ExitCode::SUCCESS,
        _ => ExitCode::FAILURE,
    }
}
