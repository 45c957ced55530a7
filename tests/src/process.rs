//! Child processes with a time limit (longer under stress, see [`patience`]): a hang ends with what was printed and, from `vmm`, with its hang report.

use crate::monitor::patience;
use std::io::{Read, Write};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc;
use std::time::{Duration, Instant};

/// What a finished process left.
#[derive(Debug)]
pub struct Finished {
    /// Its exit status.
    pub status: ExitStatus,
    /// Standard output, invalid UTF-8 replaced.
    pub stdout: String,
    /// Standard error, invalid UTF-8 replaced.
    pub stderr: String,
    /// From start to end.
    pub elapsed: Duration,
}

/// A running child whose output is collected as it comes.
#[derive(Debug)]
pub struct Running {
    child: Child,
    started: Instant,
    output: mpsc::Receiver<(bool, Vec<u8>)>,
    stdout: Vec<u8>,
    stderr: Vec<u8>,
    seen: usize,
}

/// Starts a command with pipes on its three standard streams.
///
/// # Panics
/// When it cannot be started.
#[must_use]
pub fn start(command: &mut Command) -> Running {
    let mut child = command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap_or_else(|error| panic!("cannot start {command:?}: {error}"));
    let (sender, output) = mpsc::channel();
    let out = child.stdout.take();
    let err = child.stderr.take();
    if let Some(out) = out {
        forward(out, true, sender.clone());
    }
    if let Some(err) = err {
        forward(err, false, sender);
    }
    Running { child, started: Instant::now(), output, stdout: Vec::new(), stderr: Vec::new(), seen: 0 }
}

fn forward(mut from: impl Read + Send + 'static, is_stdout: bool, to: mpsc::Sender<(bool, Vec<u8>)>) {
    std::thread::spawn(move || {
        let mut buffer = [0; 65536];
        while let Ok(length @ 1..) = from.read(&mut buffer) {
            if to.send((is_stdout, buffer[..length].to_vec())).is_err() {
                break;
            }
        }
    });
}

impl Running {
    fn collect(&mut self, until: Instant) -> bool {
        match self.output.recv_timeout(until.saturating_duration_since(Instant::now())) {
            Ok((true, bytes)) => self.stdout.extend(bytes),
            Ok((false, bytes)) => self.stderr.extend(bytes),
            Err(_) => return false,
        }
        true
    }

    /// The process id.
    #[must_use]
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// Writes to standard input.
    ///
    /// # Panics
    /// When the process has closed it.
    pub fn send(&mut self, text: &str) {
        let stdin = self.child.stdin.as_mut().expect("stdin is piped and open");
        stdin.write_all(text.as_bytes()).and_then(|()| stdin.flush()).expect("the process reads its input");
    }

    /// Waits until standard output, after what an earlier call found, contains `text`; returns all up to its end.
    ///
    /// # Panics
    /// When `limit` passes or the output ends first.
    pub fn expect(&mut self, text: &str, limit: Duration) -> String {
        let limit = patience(limit);
        let until = Instant::now() + limit;
        loop {
            let fresh = String::from_utf8_lossy(&self.stdout[self.seen..]).into_owned();
            if let Some(at) = fresh.find(text) {
                let end = at + text.len();
                self.seen += end;
                return fresh[..end].to_owned();
            }
            if !self.collect(until) {
                let ended = Instant::now() < until;
                let why = if ended { "before the output ended".to_owned() } else { format!("within {limit:?}") };
                self.fail(&format!("`{text}` did not come {why}"));
            }
        }
    }

    /// Waits for the end.
    ///
    /// # Panics
    /// When `limit` passes first.
    #[must_use]
    pub fn finish(&mut self, limit: Duration) -> Finished {
        drop(self.child.stdin.take());
        let limit = patience(limit);
        let until = Instant::now() + limit;
        while self.collect(until) {}
        if Instant::now() >= until {
            self.fail(&format!("still running after {limit:?}"));
        }
        let status = self.child.wait().expect("the child can be waited for");
        Finished {
            status,
            stdout: String::from_utf8_lossy(&self.stdout).into_owned(),
            stderr: String::from_utf8_lossy(&self.stderr).into_owned(),
            elapsed: self.started.elapsed(),
        }
    }

    /// Asks `vmm` where its guest is (SIGQUIT), ends it and fails the test.
    fn fail(&mut self, why: &str) -> ! {
        let _ = Command::new("kill").args(["-QUIT", &self.child.id().to_string()]).status();
        let until = Instant::now() + Duration::from_secs(2);
        while self.collect(until) {}
        let _ = self.child.kill();
        let _ = self.child.wait();
        panic!(
            "{why}\n--- stdout ---\n{}\n--- stderr ---\n{}",
            String::from_utf8_lossy(&self.stdout),
            String::from_utf8_lossy(&self.stderr)
        );
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Runs a command to its end with empty input.
///
/// # Panics
/// When it cannot be started or `limit` passes.
#[must_use]
pub fn run(command: &mut Command, limit: Duration) -> Finished {
    start(command).finish(limit)
}
