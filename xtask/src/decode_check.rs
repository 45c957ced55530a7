//! `cargo xtask decode-check`: every one of the 2^32 words is taken by one line of the instruction table, or by none.
//!
//! The check itself is an example of `isa`, so that `xtask`, which writes that crate's tables, does not depend on it.

use std::process::{Command, ExitCode};

/// Runs the check; the arguments (`--sample N`) are passed on.
pub fn run(arguments: &[String]) -> ExitCode {
    let status = Command::new(env!("CARGO"))
        .args(["run", "--release", "--quiet", "--package", "isa", "--example", "decode_check", "--"])
        .args(arguments)
        .status();
    match status {
        Ok(status) if status.success() => ExitCode::SUCCESS,
        Ok(_) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("xtask decode-check: cargo cannot be started: {error}");
            ExitCode::FAILURE
        }
    }
}
