//! The reference: `runner.c` under user-mode QEMU (or bare on an arm64 machine).

use super::block::{Block, Outcome, REPLY_BYTES, reply, request};
use crate::tools::{CROSS_GCC, QEMU_USER, build_dir, crate_dir, must_succeed};
use std::io::{Read, Write};
use std::process::{Child, ChildStdin, ChildStdout, Stdio};

/// A running reference.
#[derive(Debug)]
pub struct Reference {
    child: Child,
    input: ChildStdin,
    output: ChildStdout,
}

impl Reference {
    /// Builds and starts the runner.
    ///
    /// # Panics
    /// When the compiler or QEMU is missing.
    #[must_use]
    pub fn start() -> Reference {
        let program = build_dir().join(format!("runner.{}", std::process::id()));
        must_succeed(
            CROSS_GCC
                .command()
                .args(["-O2", "-static", "-Wall", "-Werror", "-o"])
                .arg(&program)
                .arg(crate_dir().join("src/differential/runner.c")),
        );
        let mut child = QEMU_USER
            .command()
            .args(["-cpu", "max,pauth=off,sve=off"])
            .arg(&program)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("qemu-aarch64 starts");
        let input = child.stdin.take().expect("stdin is piped");
        let output = child.stdout.take().expect("stdout is piped");
        Reference { child, input, output }
    }

    /// Runs blocks in order.
    ///
    /// # Panics
    /// When the runner ends: it survives every signal of a block, so that is a fault of the harness.
    pub fn run(&mut self, blocks: &[Block]) -> Vec<Outcome> {
        let (input, output) = (&mut self.input, &mut self.output);
        std::thread::scope(|scope| {
            // Requests and replies flow at once: neither pipe may fill up and stop the other.
            scope.spawn(move || {
                for block in blocks {
                    if input.write_all(&request(block)).is_err() {
                        return; // the reader sees the end of the output
                    }
                }
                let _ = input.flush();
            });
            blocks
                .iter()
                .map(|_| {
                    let mut record = [0; REPLY_BYTES];
                    output.read_exact(&mut record).expect("the runner replies to each block");
                    reply(&record)
                })
                .collect()
        })
    }
}

impl Drop for Reference {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
