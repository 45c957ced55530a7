//! Bare-metal guests: C programs under `guests/`, built by the cross compiler, entered at EL1 with the MMU off.
//!
//! Each prints `FAIL ...` for a check that does not hold and ends with `RESULT passed=N failed=M` and PSCI SYSTEM_OFF.

use crate::tools::{CROSS_GCC, build_dir, crate_dir, must_succeed};
use std::path::PathBuf;
use std::sync::atomic::{AtomicU32, Ordering};

/// Builds `guests/NAME.c` and returns the ELF file.
///
/// # Panics
/// When the compiler is missing or refuses the program.
#[must_use]
pub fn build(name: &str) -> PathBuf {
    build_with(name, &[])
}

/// As [`build`], with these macros (`NAME=VALUE`).
///
/// # Panics
/// When the compiler is missing or refuses the program.
#[must_use]
pub fn build_with(name: &str, macros: &[String]) -> PathBuf {
    let sources = crate_dir().join("guests");
    // Tests run in parallel, as threads and as processes: each builds under a name of its own and renames.
    static BUILDS: AtomicU32 = AtomicU32::new(0);
    let build = BUILDS.fetch_add(1, Ordering::Relaxed);
    let elf = build_dir().join(format!("{name}.elf"));
    let partial = build_dir().join(format!("{name}.{}.{build}.partial", std::process::id()));
    let mut gcc = CROSS_GCC.command();
    gcc.args(["-O2", "-ffreestanding", "-nostdlib", "-static", "-mgeneral-regs-only", "-mstrict-align", "-fno-pic"])
        .args(macros.iter().map(|m| format!("-D{m}")))
        .args(["-Wall", "-Werror", "-Wl,--build-id=none,--no-warn-rwx-segments", "-T"])
        .arg(sources.join("link.ld"))
        .args([sources.join("start.S"), sources.join("guest.c"), sources.join(format!("{name}.c"))])
        .arg("-o")
        .arg(&partial);
    must_succeed(&mut gcc);
    std::fs::rename(&partial, &elf).unwrap_or_else(|error| panic!("cannot rename to {}: {error}", elf.display()));
    elf
}

/// What a guest said at its end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Verdict {
    /// Checks that held.
    pub passed: u32,
    /// Checks that did not.
    pub failed: u32,
}

/// Reads the `RESULT` line of a guest's console output.
#[must_use]
pub fn verdict(console: &str) -> Option<Verdict> {
    let line = console.lines().rev().find_map(|line| line.trim().strip_prefix("RESULT passed="))?;
    let (passed, failed) = line.split_once(" failed=")?;
    Some(Verdict { passed: passed.parse().ok()?, failed: failed.parse().ok()? })
}

/// A debugger's places in the guest `points`: the first of its instructions with the next ones, a load and a store.
pub const POINTS: [&str; 6] =
    ["--break", "0x40400000,steps=8", "--watch", "0x40410008,len=8,on=load", "--watch", "0x40410000,len=4,on=store"];

/// What a debugger's places told: the lines of stops, and of registers. PSTATE has bits of what only some processors have.
#[must_use]
pub fn told(text: &str) -> Vec<String> {
    let is_told = |line: &&str| ["vmm: vCPU", " x"].iter().any(|start| line.starts_with(start));
    text.lines().filter(is_told).map(|line| line.trim_end().to_owned()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_verdict_is_read_and_nothing_else_is() {
        assert_eq!(verdict("x\r\nRESULT passed=3 failed=1\r\n"), Some(Verdict { passed: 3, failed: 1 }));
        assert_eq!(verdict("RESULT passed=3"), None);
        assert_eq!(verdict(""), None);
    }
}
