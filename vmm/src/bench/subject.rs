//! What is measured: the host itself, this program, and QEMUs. Each runs the same script and prints the same lines.

use std::io::{BufRead, BufReader, Read};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::time::{Duration, Instant};

use super::devices::Attached;
use crate::exit::Failure;

/// A guest that says nothing for this long is given up.
const SILENCE: Duration = Duration::from_secs(300);
/// Begins each line of the script that counts.
const MARK: &str = "VMM-BENCH ";

/// One way to run the programs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Subject {
    /// The host's own processor, in the root at this directory.
    Native(PathBuf),
    /// This program, with further options.
    Vmm(Vec<String>),
    /// A QEMU for arm64 systems: its program and its version.
    Qemu(PathBuf, String),
}

/// What is to be run.
#[derive(Clone, Debug)]
pub struct Job<'a> {
    /// vCPUs, and copies of each program at a time.
    pub cpus: u16,
    /// Each program is run again until so many seconds have passed; 0: once.
    pub seconds: u32,
    /// Names of programs.
    pub programs: &'a [&'a str],
    /// The guests' kernel.
    pub kernel: &'a Path,
    /// The guests' root.
    pub initramfs: &'a Path,
    /// The guests' memory, as `--memory` has it.
    pub memory: &'a str,
    /// Disks or a network card.
    pub attached: &'a Attached,
}

/// One program's run.
#[derive(Clone, Debug, PartialEq)]
pub struct Measured {
    /// The program.
    pub program: String,
    /// How long it took, by the clock of the system that ran it.
    pub time: Duration,
    /// The processor time that the host spent on it: less disturbed by what else the host does. In steps of 10 ms.
    pub spent: Duration,
    /// How often each copy ran it; `time` and `spent` are those of one run.
    pub runs: f64,
    /// Hash of what it printed.
    pub output: String,
}

/// How fast a device was.
#[derive(Clone, Debug, PartialEq)]
pub struct Rated {
    /// What was measured.
    pub name: String,
    /// Units in a second, by the clock of the guest.
    pub rate: f64,
    /// Processor time of the host for each unit, in seconds.
    pub cost: f64,
}

/// Something that was measured.
#[derive(Clone, Copy, Debug)]
pub enum Seen<'a> {
    /// A program's time.
    Measured(&'a Measured),
    /// A device's speed.
    Rated(&'a Rated),
}

/// One run of all programs.
#[derive(Clone, Debug, Default)]
pub struct Run {
    /// What the programs took.
    pub measured: Vec<Measured>,
    /// How fast devices were.
    pub rated: Vec<Rated>,
    /// From the start of the process to its end.
    pub elapsed: Duration,
    /// Processor time from start to end.
    pub spent: Duration,
    /// Counters, of a subject that has them.
    pub stats: Option<serde_json::Value>,
}

impl Subject {
    /// How tables and charts name it.
    pub fn name(&self) -> String {
        match self {
            Subject::Native(_) => "native".to_owned(),
            Subject::Vmm(_) => "vmm".to_owned(),
            Subject::Qemu(_, version) => format!("qemu {version}"),
        }
    }

    /// A QEMU at `program`, asked for its version.
    ///
    /// # Errors
    /// When it cannot be run or is none.
    pub fn qemu(program: &Path) -> Result<Subject, Failure> {
        let shown = program.display();
        let output = Command::new(program)
            .arg("--version")
            .output()
            .map_err(|e| Failure::usage(format!("--qemu {shown}: cannot be run: {e}")))?;
        let text = String::from_utf8_lossy(&output.stdout);
        let version = text
            .strip_prefix("QEMU ")
            .and_then(|text| text.split("version ").nth(1))
            .and_then(|rest| rest.split_whitespace().next());
        match version {
            Some(version) => Ok(Subject::Qemu(program.to_owned(), version.to_owned())),
            None => Err(Failure::usage(format!("--qemu {shown}: it does not say that it is QEMU"))),
        }
    }

    fn command(&self, job: &Job<'_>, arguments: &str) -> Result<Command, Failure> {
        let cpus = job.cpus.to_string();
        Ok(match self {
            Subject::Native(root) => {
                let mut command = Command::new("unshare");
                // A user namespace, so that no root is needed; /tmp in memory as in the guests.
                let script = "mount --rbind /dev \"$0/dev\" && mount -t tmpfs tmp \"$0/tmp\" && exec chroot \"$0\" /usr/bin/bash /bench/run.sh \"$@\"";
                command.args(["-rm", "sh", "-c", script]).arg(root).args(arguments.split(','));
                command
            }
            Subject::Vmm(options) => {
                let program = std::env::current_exe()
                    .map_err(|e| Failure::backend(format!("this program does not know where it is: {e}")))?;
                let mut command = job.attached.start(&program);
                command.args(["run", "--stats=json", "--memory", job.memory, "--cpus", &cpus]).args(options);
                command.args(job.attached.options_of_vmm());
                command.arg("--kernel").arg(job.kernel).arg("--initrd").arg(job.initramfs);
                command.args(["--append", &kernel_arguments(arguments)]);
                command
            }
            Subject::Qemu(program, _) => {
                let mut command = job.attached.start(program);
                command.args(["-M", "virt,gic-version=3", "-cpu", "max", "-m", job.memory, "-smp", &cpus]);
                command.args(["-display", "none", "-monitor", "none", "-serial", "stdio", "-no-reboot"]);
                command.args(job.attached.options_of_qemu());
                command.arg("-kernel").arg(job.kernel).arg("-initrd").arg(job.initramfs);
                command.args(["-append", &kernel_arguments(arguments)]);
                command
            }
        })
    }

    /// Runs the job.
    ///
    /// # Errors
    /// When it cannot be started, says nothing for long, or ends before its programs do.
    pub fn run(&self, job: &Job<'_>, seen: &mut dyn FnMut(Seen<'_>)) -> Result<Run, Failure> {
        let copies = if job.seconds == 0 { job.cpus.to_string() } else { format!("{}:{}", job.cpus, job.seconds) };
        let arguments = format!("{copies},{}", job.programs.join(","));
        let mut command = self.command(job, arguments.trim_end_matches(','))?;
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let started = Instant::now();
        let mut child = command.spawn().map_err(|e| Failure::backend(format!("{}: {command:?}: {e}", self.name())))?;
        let result = self.follow(&mut child, seen);
        if result.is_err() {
            // It may have ended by itself.
            let _ = child.kill();
        }
        let spent = until_zombie(&child);
        let status = child.wait();
        let (mut run, ended, errors) = result?;
        (run.elapsed, run.spent) = (started.elapsed(), spent);
        if !ended || !status.is_ok_and(|status| status.success()) {
            return Err(Failure::backend(format!("{} ended early: {}", self.name(), errors.trim())));
        }
        let last = errors.lines().rev().find(|line| line.starts_with('{'));
        run.stats = last.and_then(|line| serde_json::from_str(line).ok());
        Ok(run)
    }

    fn follow(&self, child: &mut Child, seen: &mut dyn FnMut(Seen<'_>)) -> Result<(Run, bool, String), Failure> {
        let (sender, lines) = mpsc::channel();
        if let Some(out) = child.stdout.take() {
            std::thread::spawn(move || forward(out, &sender));
        }
        let errors = child.stderr.take().map(|mut pipe| {
            std::thread::spawn(move || {
                let mut text = Vec::new();
                // What could be read says why.
                let _ = pipe.read_to_end(&mut text);
                String::from_utf8_lossy(&text).into_owned()
            })
        });
        let (mut run, mut ended) = (Run::default(), false);
        let (mut before, mut spent) = (Duration::ZERO, Duration::ZERO);
        loop {
            match lines.recv_timeout(SILENCE) {
                Ok(line) => match parse(&line) {
                    Some(Line::Begins) => before = processor_time(child.id()),
                    Some(Line::Ends) => spent = processor_time(child.id()).saturating_sub(before),
                    Some(Line::Measured(measured)) => {
                        let measured = Measured { spent: spent.div_f64(measured.runs), ..measured };
                        seen(Seen::Measured(&measured));
                        run.measured.push(measured);
                    }
                    Some(Line::Rate { name, rate, work }) => {
                        let rated = Rated { name, rate, cost: spent.as_secs_f64() / work };
                        seen(Seen::Rated(&rated));
                        run.rated.push(rated);
                    }
                    Some(Line::Failed(text)) => return Err(Failure::backend(format!("{}: {text}", self.name()))),
                    Some(Line::End) => ended = true,
                    None => {}
                },
                Err(RecvTimeoutError::Disconnected) => break,
                Err(RecvTimeoutError::Timeout) => {
                    return Err(Failure::backend(format!(
                        "{} has said nothing for {} s",
                        self.name(),
                        SILENCE.as_secs()
                    )));
                }
            }
        }
        let errors = errors.and_then(|reader| reader.join().ok()).unwrap_or_default();
        Ok((run, ended, errors))
    }
}

fn kernel_arguments(arguments: &str) -> String {
    format!("console=ttyAMA0 quiet panic=-1 bench={arguments}")
}

fn forward(out: impl Read, to: &mpsc::Sender<String>) {
    let mut reader = BufReader::new(out);
    let mut line = Vec::new();
    while let Ok(1..) = reader.read_until(b'\n', &mut line) {
        if to.send(String::from_utf8_lossy(&line).into_owned()).is_err() {
            break;
        }
        line.clear();
    }
}

/// The processor time of a process at its end: it has closed its outputs, and can be asked until it is waited for.
fn until_zombie(child: &Child) -> Duration {
    for _ in 0..200 {
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", child.id())).unwrap_or_default();
        if stat.rsplit(')').next().unwrap_or_default().trim_start().starts_with('Z') {
            break;
        }
        std::thread::sleep(Duration::from_millis(1));
    }
    processor_time(child.id())
}

/// The processor time of a process and of its children that have ended; zero if it is gone.
fn processor_time(id: u32) -> Duration {
    let stat = std::fs::read_to_string(format!("/proc/{id}/stat")).unwrap_or_default();
    // The name may have spaces; behind it utime, stime, cutime and cstime are the fields 12 to 15 (proc_pid_stat(5)).
    let fields = stat.rsplit(')').next().unwrap_or_default().split_whitespace();
    let ticks: u64 = fields.skip(11).take(4).filter_map(|field| field.parse::<u64>().ok()).sum();
    Duration::from_millis(ticks.saturating_mul(1000) / rustix::param::clock_ticks_per_second().max(1))
}

#[derive(Debug, PartialEq)]
enum Line {
    /// Units in a second, and how many it were.
    Rate {
        name: String,
        rate: f64,
        work: f64,
    },
    Begins,
    Ends,
    Measured(Measured),
    Failed(String),
    End,
}

/// Reads a line of the script; others are the kernel's.
fn parse(line: &str) -> Option<Line> {
    let (_, rest) = line.trim_end().split_once(MARK)?;
    if rest == "end" {
        return Some(Line::End);
    }
    let words: Vec<&str> = rest.split(' ').collect();
    match words.as_slice() {
        [program, nanoseconds, output, thousandths @ ..] if output.len() == 64 && thousandths.len() <= 1 => {
            let thousandths =
                thousandths.first().map_or(Ok(1000), |text| text.parse::<u32>()).ok().filter(|n| *n > 0)?;
            Some(Line::Measured(Measured {
                program: (*program).to_owned(),
                time: Duration::from_nanos(nanoseconds.parse().ok()?),
                spent: Duration::ZERO,
                runs: f64::from(thousandths) / 1000.0,
                output: (*output).to_owned(),
            }))
        }
        [name, "rate", rate, work] => {
            let positive = |text: &str| text.parse().ok().filter(|value: &f64| value.is_finite() && *value > 0.0);
            Some(Line::Rate { name: (*name).to_owned(), rate: positive(rate)?, work: positive(work)? })
        }
        [_, "begins"] => Some(Line::Begins),
        [_, "ends"] => Some(Line::Ends),
        [_, "failed:", ..] => Some(Line::Failed(rest.to_owned())),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_of_the_script_are_read_and_others_are_not() {
        let hash = "a".repeat(64);
        let (time, spent) = (Duration::from_micros(1500), Duration::ZERO);
        let expected = |runs| Measured { program: "gzip".into(), time, spent, runs, output: hash.clone() };
        let line = format!("[   1.0] VMM-BENCH gzip 1500000 {hash}");
        assert_eq!(parse(&format!("{line}\r\n")), Some(Line::Measured(expected(1.0))));
        assert_eq!(parse(&format!("{line} 2500\r\n")), Some(Line::Measured(expected(2.5))));
        assert_eq!((parse(&format!("{line} 0")), parse(&format!("{line} 1 1"))), (None, None));
        assert_eq!(parse("VMM-BENCH end"), Some(Line::End));
        assert_eq!((parse("VMM-BENCH xz begins"), parse("VMM-BENCH xz ends")), (Some(Line::Begins), Some(Line::Ends)));
        assert_eq!(parse("VMM-BENCH xz failed: no room"), Some(Line::Failed("xz failed: no room".into())));
        let rate = Line::Rate { name: "dd-write".into(), rate: 12.5, work: 1000.0 };
        assert_eq!(parse("VMM-BENCH dd-write rate 12.5 1000"), Some(rate));
        for line in [
            "VMM-BENCH x rate 0 1",
            "VMM-BENCH x rate inf 1",
            "",
            "VMM-BENCH",
            "VMM-BENCH gzip 1 short",
            &format!("VMM-BENCH gzip -1 {hash}"),
            "[ 0.1] Linux",
        ] {
            assert_eq!(parse(line), None, "{line}");
        }
    }

    #[test]
    fn processor_time_grows() {
        let id = std::process::id();
        let before = processor_time(id);
        let mut value = 1u64;
        while processor_time(id) == before {
            value = std::hint::black_box(value.wrapping_mul(3));
        }
        assert_eq!(processor_time(0), Duration::ZERO);
    }

    #[test]
    fn what_is_no_qemu_is_refused() {
        assert_eq!(Subject::qemu(Path::new("/bin/true")).unwrap_err().status, crate::exit::ExitStatus::Usage);
        assert!(Subject::qemu(Path::new("/nonexistent/qemu")).is_err());
    }
}
