//! A program in C that executes single instructions, built for arm64 and asked under `qemu-aarch64`.

use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

const HINT: &str = "this test needs `apt-get install gcc-aarch64-linux-gnu libc6-dev-arm64-cross qemu-user`";

/// The running program. It answers each request with as many bytes as the request asks for.
pub struct Runner {
    child: Child,
    program: PathBuf,
}

impl Runner {
    /// Builds `tests/SOURCE` and starts it on a processor of `qemu-aarch64`'s. The error says what to install.
    pub fn start(source: &str, cpu: &str) -> Result<Runner, String> {
        let name = format!("{}-{}", source.replace(['/', '.'], "-"), std::process::id());
        let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests").join(source);
        let program = Path::new(env!("CARGO_TARGET_TMPDIR")).join(name);
        let status = Command::new("aarch64-linux-gnu-gcc")
            .args(["-O1", "-static", "-march=armv8-a", "-o"])
            .args([&program, &source])
            .status()
            .map_err(|e| format!("aarch64-linux-gnu-gcc: {e}; {HINT}"))?;
        if !status.success() {
            return Err(format!("aarch64-linux-gnu-gcc failed on {}; {HINT}", source.display()));
        }
        let child = Command::new("qemu-aarch64")
            .args(["-cpu", cpu])
            .arg(&program)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .map_err(|e| format!("qemu-aarch64: {e}; {HINT}"))?;
        Ok(Runner { child, program })
    }

    /// Sends a request about `word` and waits for `reply` bytes. It is written whole before anything is read: a reply
    /// has to fit in a pipe.
    pub fn ask(&mut self, word: u32, request: &[u8], reply: usize) -> Result<Vec<u8>, String> {
        let stdin = self.child.stdin.as_mut().ok_or("no pipe to the runner")?;
        stdin.write_all(request).and_then(|()| stdin.flush()).map_err(|e| format!("the runner died: {e}"))?;
        let mut bytes = vec![0; reply];
        let stdout = self.child.stdout.as_mut().ok_or("no pipe from the runner")?;
        stdout
            .read_exact(&mut bytes)
            .map_err(|e| format!("the runner died on {word:#010x} (undefined there?): {e}"))?;
        Ok(bytes)
    }
}

impl Drop for Runner {
    fn drop(&mut self) {
        // The end of its input ends it. Whatever it says: it is gone, and so is its program.
        drop(self.child.stdin.take());
        let _ = self.child.wait();
        let _ = std::fs::remove_file(&self.program);
    }
}

/// The 64-bit number at `offset` of what a runner answered.
pub fn word64(bytes: &[u8], offset: usize) -> u64 {
    bytes[offset..offset + 8].iter().rev().fold(0, |value, byte| value << 8 | u64::from(*byte))
}
