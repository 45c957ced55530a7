//! `vmm bench memory`: what a machine takes of the host beside its guest's memory, at a shell's prompt after a while.

use std::io::Read;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc;
use std::time::Duration;

use images::cache::Cache;
use images::demo::{DemoGuest, DemoOptions, build_with};
use images::progress::Progress;
use serde_json::{Value, json};

use super::root;
use super::subject::Subject;
use super::taken::Taken;
use crate::exit::{Failure, explain};

/// Memory of the guests.
const MEMORY_MIB: u64 = 512;
/// How long a guest sits at its prompt before its machine is measured.
const SETTLE: Duration = Duration::from_secs(60);
/// Longest boot.
const BOOT: Duration = Duration::from_secs(300);
/// What the guest's shell says when it waits for a command.
const PROMPT: &[u8] = b"# ";

/// What to measure.
#[derive(Clone, Debug)]
pub struct Options {
    /// Options for `vmm run`.
    pub vmm_options: Vec<String>,
    /// The QEMUs to compare with.
    pub qemus: Vec<std::path::PathBuf>,
    /// Runs of everything; the medians count.
    pub runs: u32,
    /// Numbers of vCPUs.
    pub cpus: Vec<u16>,
    /// The guests' kernel; `None`: Debian's cloud kernel.
    pub kernel: Option<std::path::PathBuf>,
    /// The Debian mirror; `None`: that of the host's apt.
    pub mirror: Option<String>,
}

/// One row: a machine with a number of vCPUs, and what it took in each run.
#[derive(Clone, Debug)]
pub struct Row {
    /// The machine.
    pub subject: String,
    /// vCPUs.
    pub cpus: u16,
    /// All runs, least first.
    pub runs: Vec<Taken>,
}

impl Row {
    fn median(&self) -> Taken {
        self.runs.get(self.runs.len() / 2).copied().unwrap_or_default()
    }
}

/// The table for people.
pub fn text(rows: &[Row]) -> String {
    let mut out = format!(
        "MiB of the host at a prompt after {} s, a guest of {MEMORY_MIB} MiB\n{:16}{:>6}{:>10}{:>10}{:>14}{:>10}\n",
        SETTLE.as_secs(),
        "",
        "vCPUs",
        "PSS",
        "guest's",
        "beside it",
        "RSS"
    );
    for row in rows {
        let taken = row.median();
        let mib = |kib: u64| kib as f64 / 1024.0;
        out += &format!(
            "{:16}{:>6}{:>10.1}{:>10.1}{:>14.1}{:>10.1}\n",
            row.subject,
            row.cpus,
            mib(taken.pss),
            mib(taken.guest_pss),
            taken.beside_mib(),
            mib(taken.rss)
        );
    }
    out
}

/// All that was measured.
pub fn json(rows: &[Row]) -> Value {
    let row = |row: &Row| {
        let runs: Vec<Value> = row
            .runs
            .iter()
            .map(|t| json!({ "pss_kib": t.pss, "guest_pss_kib": t.guest_pss, "rss_kib": t.rss }))
            .collect();
        json!({ "subject": row.subject, "cpus": row.cpus, "beside_guest_mib": row.median().beside_mib(), "runs": runs })
    };
    json!({ "memory_mib": MEMORY_MIB, "settle_seconds": SETTLE.as_secs(), "rows": rows.iter().map(row).collect::<Vec<_>>() })
}

/// Measures; takes more than a minute for each run of each machine.
///
/// # Errors
/// When the guest cannot be had, or a machine does not come to the prompt.
pub fn run(options: &Options, progress: &dyn Progress) -> Result<Vec<Row>, Failure> {
    let cache = Cache::of_user().map_err(|e| Failure::backend(explain(&e)))?;
    let mut demo = DemoOptions::new(root::SUITE);
    demo.archive.mirrors.extend(options.mirror.clone());
    let mut guest = build_with(&demo, &cache, progress).map_err(|e| Failure::backend(explain(&e)))?;
    guest.kernel = options.kernel.clone().unwrap_or(guest.kernel);
    let mut subjects = vec![Subject::Vmm(options.vmm_options.clone())];
    for program in &options.qemus {
        subjects.push(Subject::qemu(program)?);
    }
    let mut rows = Vec::new();
    for &cpus in &options.cpus {
        for subject in &subjects {
            let mut row = Row { subject: subject.name(), cpus, runs: Vec::new() };
            for number in 1..=options.runs {
                let taken = one(subject, &guest, cpus)?;
                progress.note(&format!("run {number}, {cpus} vCPU, {}: {:.1} MiB", row.subject, taken.beside_mib()));
                row.runs.push(taken);
            }
            row.runs.sort_by_key(|taken| taken.pss.saturating_sub(taken.guest_pss));
            rows.push(row);
        }
    }
    Ok(rows)
}

/// A machine that ends with this value.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn command(subject: &Subject, guest: &DemoGuest, cpus: u16) -> Result<Command, Failure> {
    let (memory, cpus) = (format!("{MEMORY_MIB}M"), cpus.to_string());
    let append = "console=ttyAMA0 quiet";
    let mut command = match subject {
        Subject::Qemu(program, _) => {
            let mut command = Command::new(program);
            command.args(["-M", "virt,gic-version=3", "-cpu", "max", "-m", &memory, "-smp", &cpus]);
            command.args(["-display", "none", "-monitor", "none", "-serial", "stdio", "-nic", "none"]);
            command.arg("-kernel").arg(&guest.kernel).arg("-initrd").arg(&guest.initrd).args(["-append", append]);
            command
        }
        Subject::Vmm(options) => {
            let program = std::env::current_exe()
                .map_err(|e| Failure::backend(format!("this program does not know where it is: {e}")))?;
            let mut command = Command::new(program);
            command.args(["run", "--memory", &memory, "--cpus", &cpus]).args(options);
            command.arg("--kernel").arg(&guest.kernel).arg("--initrd").arg(&guest.initrd).args(["--append", append]);
            command
        }
        Subject::Native(_) => return Err(Failure::internal("the host itself has no guest")),
    };
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null());
    Ok(command)
}

fn one(subject: &Subject, guest: &DemoGuest, cpus: u16) -> Result<Taken, Failure> {
    let mut command = command(subject, guest, cpus)?;
    let child = command.spawn().map_err(|e| Failure::backend(format!("{command:?}: {e}")))?;
    let mut running = Running(child);
    prompt(&mut running)
        .ok_or_else(|| Failure::backend(format!("{} did not come to the guest's prompt", subject.name())))?;
    std::thread::sleep(SETTLE);
    Taken::by(running.0.id(), MEMORY_MIB << 10)
}

/// Waits for the prompt; goes on reading, so that the guest can go on writing.
fn prompt(running: &mut Running) -> Option<()> {
    let mut out = running.0.stdout.take()?;
    let (sender, found) = mpsc::channel();
    std::thread::spawn(move || {
        let (mut last, mut byte) = ([0; 2], [0]);
        while let Ok(1..) = out.read(&mut byte) {
            last = [last[1], byte[0]];
            if last == PROMPT && sender.send(()).is_err() {
                break;
            }
        }
    });
    found.recv_timeout(BOOT).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_median_is_shown() {
        let taken = |pss| Taken { pss, guest_pss: 1024, rss: pss, guest_rss: 0 };
        let row = Row { subject: "vmm".into(), cpus: 2, runs: vec![taken(2048), taken(3072), taken(99_000)] };
        let json = json(std::slice::from_ref(&row));
        assert_eq!(json["rows"][0]["beside_guest_mib"], 2.0);
        assert!(text(&[row]).lines().any(|line| line.starts_with("vmm") && line.contains(" 2.0 ")));
    }
}
