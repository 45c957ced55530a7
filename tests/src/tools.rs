//! The programs that tests call, and what to install when one is missing.

use std::path::{Path, PathBuf};
use std::process::Command;

/// A tool of the host that tests need.
#[derive(Clone, Copy, Debug)]
pub struct Tool {
    /// The program's name in `PATH`.
    pub program: &'static str,
    /// The Debian package that has it.
    pub package: &'static str,
}

/// The C compiler for arm64 programs, with a C library.
pub const CROSS_GCC: Tool =
    Tool { program: "aarch64-linux-gnu-gcc", package: "gcc-aarch64-linux-gnu libc6-dev-arm64-cross" };
/// User-mode QEMU: the reference of the differential tests.
pub const QEMU_USER: Tool = Tool { program: "qemu-aarch64", package: "qemu-user" };
/// System-mode QEMU: the reference of the benchmarks and of `cargo xtask guests-on-qemu`.
pub const QEMU_SYSTEM: Tool = Tool { program: "qemu-system-aarch64", package: "qemu-system-arm" };

impl Tool {
    /// A command that runs the tool.
    ///
    /// # Panics
    /// When the tool is not installed: a test without it would prove nothing.
    #[must_use]
    pub fn command(self) -> Command {
        let found = std::env::var_os("PATH")
            .is_some_and(|path| std::env::split_paths(&path).any(|dir| dir.join(self.program).is_file()));
        assert!(found, "`{}` is not installed; install it: apt-get install {}", self.program, self.package);
        Command::new(self.program)
    }
}

/// The folder of this crate.
#[must_use]
pub fn crate_dir() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// A folder for what the tests build, below the workspace's target folder.
///
/// # Panics
/// When it cannot be made.
#[must_use]
pub fn build_dir() -> PathBuf {
    let target = std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| crate_dir().join("../target"), PathBuf::from);
    let dir = target.join("guests");
    std::fs::create_dir_all(&dir).unwrap_or_else(|error| panic!("cannot make {}: {error}", dir.display()));
    dir
}

/// Runs a build step and fails the test with its output when it fails.
///
/// # Panics
/// When the command cannot be started or does not end with status 0.
pub fn must_succeed(command: &mut Command) {
    let output = command.output().unwrap_or_else(|error| panic!("cannot start {command:?}: {error}"));
    assert!(
        output.status.success(),
        "{command:?} ended with {}:\n{}{}",
        output.status,
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    );
}
