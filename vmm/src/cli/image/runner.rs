//! Runs the guests of crate `images`: each as a `vmm run` of its own, so that its memory is not ours and its end, whatever
//! it is, leaves us alone.

use std::io::{self, Read};
use std::process::{Command, Stdio};

use images::build::{GuestEnd, GuestRunner, GuestSpec};

use crate::cli::EngineChoice;
use crate::exit::ExitStatus;

/// Runs guests with this program.
pub struct ChildRunner {
    /// What executes them.
    pub engine: EngineChoice,
}

/// Most text of the child's errors that is kept.
const MAX_ERRORS: u64 = 64 << 10;

impl GuestRunner for ChildRunner {
    fn run(&self, guest: &GuestSpec, console: &mut dyn FnMut(&[u8])) -> io::Result<GuestEnd> {
        let mut command = Command::new(std::env::current_exe()?);
        command.args(["run", "--engine", self.engine.word(), "--no-reboot", "--no-rng", "--console", "stdio"]);
        command
            .arg("--kernel")
            .arg(&guest.kernel)
            .arg("--initrd")
            .arg(&guest.initrd)
            .arg("--append")
            .arg(&guest.append);
        command.args(["--memory", &format!("{}M", guest.memory >> 20), "--cpus", &guest.cpus.to_string()]);
        command.args(["--timeout", &guest.timeout.as_secs().max(1).to_string()]);
        for (path, serial) in &guest.disks {
            let path = path.to_str().ok_or_else(|| io::Error::other("the scratch directory's name is no UTF-8"))?;
            command.args(["--disk", &format!("{},cache=unsafe,serial={serial}", path.replace(',', ",,"))]);
        }
        let mut child = command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn()?;
        let errors = child.stderr.take().map(|errors| {
            std::thread::spawn(move || {
                let mut text = String::new();
                let mut errors = errors;
                // What is more is read and dropped, so that the child never waits for room.
                let _ = (&mut errors).take(MAX_ERRORS).read_to_string(&mut text);
                let _ = io::copy(&mut errors, &mut io::sink());
                text
            })
        });
        if let Some(mut output) = child.stdout.take() {
            let mut buffer = [0; 4096];
            loop {
                match output.read(&mut buffer) {
                    Ok(0) => break,
                    Ok(count) => console(buffer.get(..count).unwrap_or_default()),
                    Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                    Err(error) => {
                        // Without its console it is of no use; it may be gone already.
                        let _ = child.kill();
                        let _ = child.wait();
                        return Err(error);
                    }
                }
            }
        }
        let status = child.wait()?;
        let errors = errors.and_then(|thread| thread.join().ok()).unwrap_or_default();
        if status.success() {
            return Ok(GuestEnd::PoweredOff);
        }
        let code = |status: ExitStatus| Some(i32::from(status.code()));
        let what = match status.code() {
            found if found == code(ExitStatus::GuestPanic) => "its kernel panicked".to_owned(),
            found if found == code(ExitStatus::Timeout) => {
                format!("it took longer than {} s (--timeout)", guest.timeout.as_secs())
            }
            _ => format!("{status}: {}", errors.trim()),
        };
        Ok(GuestEnd::Failed(what))
    }
}
