//! The program under test: `vmm`, as `cargo build --release -p vmm` left it.

use crate::tools::crate_dir;
use std::path::PathBuf;
use std::process::Command;

/// The engines that run on this host.
pub const ENGINES: [&str; 2] = ["interp", "jit"];

/// Where the program is: `VMM` in the environment, or the release build.
///
/// # Panics
/// When it has not been built.
#[must_use]
pub fn program() -> PathBuf {
    if let Some(path) = std::env::var_os("VMM") {
        return PathBuf::from(path);
    }
    let target = std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| crate_dir().join("../target"), PathBuf::from);
    let path = target.join("release/vmm");
    assert!(path.is_file(), "{} is missing; build it: cargo build --release -p vmm", path.display());
    path
}

/// `vmm run` with an engine; the caller adds the rest. `VMM_STRESS=SEED` in the environment puts the translator under stress
/// (`--jit-stress`), in every test that starts its machines by this.
#[must_use]
pub fn run_with(engine: &str) -> Command {
    let mut command = Command::new(program());
    command.args(["run", "--engine", engine]);
    if let Some(seed) = std::env::var_os("VMM_STRESS").filter(|_| engine != "interp") {
        command.arg(format!("--jit-stress={}", seed.display()));
    }
    command
}
