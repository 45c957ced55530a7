//! `runner.c`, built for arm64 and run under `qemu-aarch64`.

use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use super::machine::{Machine, SIZE};

/// Registers and where the instruction went, in the layout of the runner.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Registers {
    pub x: [u64; 16],
    pub x30: u64,
    pub sp: u64,
    pub nzcv: u64,
    pub taken: u64,
}

const REGISTER_BYTES: usize = 20 * 8;

pub struct Oracle {
    child: Child,
    program: PathBuf,
}

const HINT: &str = "this test needs `apt-get install gcc-aarch64-linux-gnu libc6-dev-arm64-cross qemu-user`";

impl Oracle {
    pub fn start() -> Result<Oracle, String> {
        let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/base/runner.c");
        let program = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("base-runner-{}", std::process::id()));
        let status = Command::new("aarch64-linux-gnu-gcc")
            .args(["-O1", "-static", "-march=armv8-a", "-o"])
            .arg(&program)
            .arg(&source)
            .status()
            .map_err(|e| format!("aarch64-linux-gnu-gcc: {e}; {HINT}"))?;
        if !status.success() {
            return Err(format!("aarch64-linux-gnu-gcc failed on {}; {HINT}", source.display()));
        }
        let child = Command::new("qemu-aarch64")
            .args(["-cpu", "max,pauth=off"])
            .arg(&program)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .map_err(|e| format!("qemu-aarch64: {e}; {HINT}"))?;
        Ok(Oracle { child, program })
    }

    /// Runs `prefix`, then `word`; gives the registers and the memory window after them.
    pub fn run(&mut self, prefix: u32, word: u32, seed: u64, r: &Registers) -> Result<(Registers, Vec<u8>), String> {
        let mut request = Vec::with_capacity(16 + REGISTER_BYTES);
        request.extend(prefix.to_le_bytes());
        request.extend(word.to_le_bytes());
        request.extend(seed.to_le_bytes());
        r.x.iter().chain([&r.x30, &r.sp, &r.nzcv, &r.taken]).for_each(|x| request.extend(x.to_le_bytes()));
        let stdin = self.child.stdin.as_mut().ok_or("no pipe to the runner")?;
        stdin.write_all(&request).and_then(|()| stdin.flush()).map_err(|e| format!("the runner died: {e}"))?;
        let mut reply = vec![0; REGISTER_BYTES + SIZE];
        let stdout = self.child.stdout.as_mut().ok_or("no pipe from the runner")?;
        stdout.read_exact(&mut reply).map_err(|e| format!("the runner died on {word:#010x}: {e}"))?;
        let (head, window) = reply.split_at(REGISTER_BYTES);
        let at = |i: usize| head[8 * i..8 * i + 8].iter().rev().fold(0u64, |v, &b| v << 8 | u64::from(b));
        let after = Registers { x: std::array::from_fn(at), x30: at(16), sp: at(17), nzcv: at(18), taken: at(19) };
        Ok((after, window.to_vec()))
    }
}

impl Drop for Oracle {
    fn drop(&mut self) {
        drop(self.child.stdin.take());
        // Whatever it says: it is gone, and so is its program.
        let _ = self.child.wait();
        let _ = std::fs::remove_file(&self.program);
    }
}

impl Machine {
    /// What the runner reports.
    pub fn registers(&self) -> Registers {
        Registers {
            x: std::array::from_fn(|i| self.x[i]),
            x30: self.x[30],
            sp: self.sp,
            nzcv: self.nzcv.into(),
            taken: u64::from(self.next_pc != super::machine::CODE + 8),
        }
    }
}
