//! The program under test: `vmm`, as `cargo build --release -p vmm` left it.

use crate::tools::crate_dir;
use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

/// The engines that run on this host.
pub const ENGINES: [&str; 2] = ["interp", "jit"];

/// The engines to try one after the other where a test does not compare them: under stress ([`stress`]) the translator alone.
#[must_use]
pub fn engines() -> &'static [&'static str] {
    if stress().is_some() { &["jit"] } else { &ENGINES }
}

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

/// `VMM_STRESS=SEED` in the environment puts the translator under stress (`--jit-stress`) wherever a test starts `vmm run` on it.
#[must_use]
pub fn stress() -> Option<String> {
    let seed = std::env::var("VMM_STRESS").ok()?;
    assert!(seed.parse::<u64>().is_ok(), "VMM_STRESS is a number, not `{seed}`");
    jit::detect().is_ok().then_some(seed)
}

/// `limit` for a guest that may be under stress: its time runs at a quarter of the host's, and its code is slower yet. At most
/// ten minutes, so that a hang is told while somebody waits, unless `limit` is longer.
#[must_use]
pub fn patience(limit: Duration) -> Duration {
    if stress().is_some() { (6 * limit).min(limit.max(Duration::from_secs(600))) } else { limit }
}

/// How often a test does what it repeats: `times`, under stress a third of them.
#[must_use]
pub fn rounds(times: u32) -> u32 {
    if stress().is_some() { times.div_ceil(3) } else { times }
}

/// `vmm run` with an engine; the caller adds the rest.
#[must_use]
pub fn run_with(engine: &str) -> Command {
    let mut command = Command::new(program());
    command.args(["run", "--engine", engine]).args(stress_option(engine));
    command
}

/// The option of `vmm run` that [`stress`] asks for, if it does and the engine is, or may be, the translator.
#[must_use]
pub fn stress_option(engine: &str) -> Option<String> {
    stress().filter(|_| engine != "interp").map(|seed| format!("--jit-stress={seed}"))
}
