//! `runner.c`, built for arm64 and run under `qemu-aarch64`.

use std::io::{Read, Write};
use std::path::Path;
use std::process::{Child, Command, Stdio};

use super::machine::WINDOW;

/// What an instruction may read and write. `x[1]` is an offset into the window.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Registers {
    pub v: [u128; 32],
    pub x: [u64; 8],
    pub fpsr: u64,
}

const REGISTER_BYTES: usize = 32 * 16 + 8 * 8 + 8;

pub struct Oracle(Child);

const HINT: &str = "this test needs `apt-get install gcc-aarch64-linux-gnu libc6-dev-arm64-cross qemu-user`";

impl Oracle {
    pub fn start() -> Result<Oracle, String> {
        let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/simd_oracle/runner.c");
        let program = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("simd-runner-{}", std::process::id()));
        let status = Command::new("aarch64-linux-gnu-gcc")
            .args(["-O1", "-static", "-o"])
            .arg(&program)
            .arg(&source)
            .status()
            .map_err(|e| format!("aarch64-linux-gnu-gcc: {e}; {HINT}"))?;
        if !status.success() {
            return Err(format!("aarch64-linux-gnu-gcc failed on {}; {HINT}", source.display()));
        }
        let child = Command::new("qemu-aarch64")
            .args(["-cpu", "max"])
            .arg(&program)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .map_err(|e| format!("qemu-aarch64: {e}; {HINT}"))?;
        Ok(Oracle(child))
    }

    /// Runs one instruction; gives the registers and the memory window after it.
    pub fn run(&mut self, word: u32, seed: u32, registers: &Registers) -> Result<(Registers, Vec<u8>), String> {
        let mut request = Vec::with_capacity(8 + REGISTER_BYTES);
        request.extend(word.to_le_bytes());
        request.extend(seed.to_le_bytes());
        registers.v.iter().for_each(|v| request.extend(v.to_le_bytes()));
        registers.x.iter().for_each(|x| request.extend(x.to_le_bytes()));
        request.extend(registers.fpsr.to_le_bytes());
        let stdin = self.0.stdin.as_mut().ok_or("no pipe to the runner")?;
        stdin.write_all(&request).and_then(|()| stdin.flush()).map_err(|e| format!("the runner died: {e}"))?;
        let mut reply = vec![0; REGISTER_BYTES + WINDOW];
        let stdout = self.0.stdout.as_mut().ok_or("no pipe from the runner")?;
        stdout.read_exact(&mut reply).map_err(|e| format!("the runner died: {e}"))?;
        let (head, window) = reply.split_at(REGISTER_BYTES);
        let word64 = |at: usize| head[at..at + 8].iter().rev().fold(0u64, |v, &b| v << 8 | u64::from(b));
        let output = Registers {
            v: std::array::from_fn(|i| u128::from(word64(16 * i + 8)) << 64 | u128::from(word64(16 * i))),
            x: std::array::from_fn(|i| word64(512 + 8 * i)),
            fpsr: word64(576),
        };
        Ok((output, window.to_vec()))
    }
}

impl Drop for Oracle {
    fn drop(&mut self) {
        drop(self.0.stdin.take());
        let _ = self.0.wait();
        let program = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("simd-runner-{}", std::process::id()));
        let _ = std::fs::remove_file(program);
    }
}
