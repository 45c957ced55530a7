//! Another implementation of the architecture, asked one instruction at a time: `runner.c` under `qemu-aarch64`.

use std::io::{Read, Write};
use std::path::PathBuf;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

/// What an instruction sees: v0..v3, x0..x3, FPCR, FPSR and NZCV (in its register position).
#[derive(Copy, Clone, Debug, Default)]
pub struct Input {
    pub v: [u128; 4],
    pub x: [u64; 4],
    pub fpcr: u32,
    pub fpsr: u32,
    pub nzcv: u32,
}

/// What it may change.
#[derive(Copy, Clone, Debug, Default, PartialEq, Eq)]
pub struct Output {
    pub v0: u128,
    pub x0: u64,
    pub nzcv: u32,
    pub fpsr: u32,
}

const INPUT_BYTES: usize = 120;
const OUTPUT_BYTES: usize = 40;

impl Input {
    fn encode(&self, out: &mut Vec<u8>) {
        self.v.iter().for_each(|v| out.extend(v.to_le_bytes()));
        self.x.iter().for_each(|x| out.extend(x.to_le_bytes()));
        [self.fpcr, self.fpsr, self.nzcv].iter().for_each(|x| out.extend(u64::from(*x).to_le_bytes()));
    }
}

impl Output {
    fn decode(bytes: &[u8]) -> Output {
        let word = |at: usize| bytes[at..at + 8].iter().rev().fold(0, |value: u64, byte| value << 8 | u64::from(*byte));
        Output {
            v0: u128::from(word(0)) | u128::from(word(8)) << 64,
            x0: word(16),
            nzcv: word(24) as u32,
            fpsr: word(32) as u32,
        }
    }
}

/// The running reference.
pub struct Oracle {
    child: Child,
    stdin: Option<ChildStdin>,
    stdout: ChildStdout,
}

impl Oracle {
    /// Builds the runner and starts it. The error says what to install.
    pub fn start() -> Result<Oracle, String> {
        let dir = PathBuf::from(env!("CARGO_TARGET_TMPDIR"));
        let exe = dir.join("fp-oracle-runner");
        let source = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/fp_oracle/runner.c");
        let gcc = Command::new("aarch64-linux-gnu-gcc").args(["-static", "-O1", "-o"]).arg(&exe).arg(&source).output();
        let gcc =
            gcc.map_err(|e| missing("aarch64-linux-gnu-gcc", "gcc-aarch64-linux-gnu libc6-dev-arm64-cross", &e))?;
        if !gcc.status.success() {
            return Err(format!("{} does not build: {}", source.display(), String::from_utf8_lossy(&gcc.stderr)));
        }
        let mut child = Command::new("qemu-aarch64")
            .args(["-cpu", "max"])
            .arg(&exe)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .map_err(|e| missing("qemu-aarch64", "qemu-user", &e))?;
        let (stdin, stdout) = (child.stdin.take(), child.stdout.take());
        let stdout = stdout.ok_or("the reference has no standard output")?;
        Ok(Oracle { child, stdin, stdout })
    }

    /// Runs `word` on each input.
    pub fn run(&mut self, word: u32, inputs: &[Input]) -> Result<Vec<Output>, String> {
        let stdin = self.stdin.as_mut().ok_or("the reference has ended")?;
        let mut outputs = Vec::with_capacity(inputs.len());
        // The runner reads a whole batch before it answers, and the answer fits a pipe.
        for batch in inputs.chunks(1024) {
            let mut request = Vec::with_capacity(8 + batch.len() * INPUT_BYTES);
            request.extend(word.to_le_bytes());
            request.extend((batch.len() as u32).to_le_bytes());
            batch.iter().for_each(|input| input.encode(&mut request));
            let mut answer = vec![0; batch.len() * OUTPUT_BYTES];
            stdin
                .write_all(&request)
                .and_then(|()| stdin.flush())
                .and_then(|()| self.stdout.read_exact(&mut answer))
                .map_err(|e| format!("the reference stopped at {word:#010x} (undefined there?): {e}"))?;
            outputs.extend(answer.chunks_exact(OUTPUT_BYTES).map(Output::decode));
        }
        Ok(outputs)
    }
}

impl Drop for Oracle {
    fn drop(&mut self) {
        self.stdin = None; // end of input ends the runner
        let _ = self.child.wait();
    }
}

fn missing(tool: &str, packages: &str, error: &std::io::Error) -> String {
    format!("cannot run {tool} ({error}); this test needs it: apt-get install {packages}")
}
