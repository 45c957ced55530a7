//! `vmm bench kvm`: how soon a machine runs, and what it takes beside the guest's memory. For arm64 hardware; any engine can
//! be named.

use std::io::{BufRead, BufReader, Read};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use images::cache::Cache;
use images::demo::{DemoOptions, build_with};
use images::progress::Progress;
use serde_json::{Value, json};

use super::root;
use super::taken::Taken;
use crate::exit::{Failure, explain};

/// Memory of the guests.
const MEMORY_MIB: u64 = 128;
/// What the init of [`root::boot_initramfs`] says first.
const INIT_SAYS: &str = "VMM-BENCH";

/// A guest that prints one character with its third instruction, then waits: `Image` header and code.
const GUEST: [u32; 21] = [
    0x1400_0010, // b 64
    0,
    0,
    0, // text_offset
    0x1000,
    0, // image_size
    0,
    0, // flags: little-endian
    0,
    0,
    0,
    0,
    0,
    0,
    0x644d_5241, // "ARM\x64"
    0,
    0xd2a1_2000, // mov x0, #0x9000000
    0x5280_0621, // mov w1, #'1'
    0x3900_0001, // strb w1, [x0]
    0xd503_207f, // wfi
    0x17ff_ffff, // b .-4
];

/// What to measure.
#[derive(Clone, Debug)]
pub struct Options {
    /// Options for `vmm run`.
    pub vmm_options: Vec<String>,
    /// Runs of everything.
    pub runs: u32,
    /// The guests' kernel; `None`: Debian's cloud kernel. Used for the start to init.
    pub kernel: Option<std::path::PathBuf>,
    /// The Debian mirror; `None`: that of the host's apt.
    pub mirror: Option<String>,
    /// Leave out what needs a kernel.
    pub bare: bool,
}

/// A figure of every run.
#[derive(Clone, Debug, PartialEq)]
pub struct Figure {
    name: &'static str,
    unit: &'static str,
    /// What it is to be at most.
    bar: f64,
    values: Vec<f64>,
}

impl Figure {
    fn new(name: &'static str, unit: &'static str, bar: f64) -> Figure {
        Figure { name, unit, bar, values: Vec::new() }
    }

    fn median(&self) -> f64 {
        let mut sorted = self.values.clone();
        sorted.sort_by(f64::total_cmp);
        sorted.get(sorted.len() / 2).copied().unwrap_or(f64::NAN)
    }

    fn text(&self) -> String {
        let median = self.median();
        let verdict = if median <= self.bar { "within" } else { "MISSES" };
        format!("{:42} {median:9.2} {:3}  {verdict} the bar of {} {}\n", self.name, self.unit, self.bar, self.unit)
    }

    fn json(&self) -> Value {
        json!({ "name": self.name, "unit": self.unit, "bar": self.bar, "median": self.median(), "values": self.values })
    }
}

/// The figures for people.
pub fn text(figures: &[Figure]) -> String {
    figures.iter().map(Figure::text).collect()
}

/// The figures for programs.
pub fn json(figures: &[Figure]) -> Value {
    json!({ "figures": figures.iter().map(Figure::json).collect::<Vec<_>>() })
}

/// Measures.
///
/// # Errors
/// The engine does not work here, packages cannot be had, or a machine does not come as far as it should.
pub fn run(options: &Options, progress: &dyn Progress) -> Result<Vec<Figure>, Failure> {
    let guest = std::env::temp_dir().join(format!("vmm-bench-{}.image", std::process::id()));
    let words: Vec<u8> = GUEST.iter().flat_map(|word| word.to_le_bytes()).collect();
    std::fs::write(&guest, words).map_err(|e| Failure::backend(format!("{}: {e}", guest.display())))?;
    let measured = measure(options, &guest, progress);
    // It is in the folder for such files.
    let _ = std::fs::remove_file(&guest);
    measured
}

fn measure(options: &Options, guest: &Path, progress: &dyn Progress) -> Result<Vec<Figure>, Failure> {
    let mut first = Figure::new("process start to the first guest instruction", "ms", 10.0);
    let mut memory = Figure::new("memory beside the guest's", "MiB", 5.0);
    let mut init = Figure::new("process start to init of Debian's kernel", "ms", 125.0);
    let linux = if options.bare { None } else { Some(linux(options, progress)?) };
    for _ in 0..options.runs {
        let (time, kib) = one_start(options, guest)?;
        first.values.push(time.as_secs_f64() * 1e3);
        memory.values.push(kib as f64 / 1024.0);
        if let Some((kernel, initramfs)) = &linux {
            init.values.push(one_boot(options, kernel, initramfs)?.as_secs_f64() * 1e3);
        }
    }
    Ok([first, init, memory].into_iter().filter(|figure| !figure.values.is_empty()).collect())
}

fn linux(options: &Options, progress: &dyn Progress) -> Result<(std::path::PathBuf, std::path::PathBuf), Failure> {
    let cache = Cache::of_user().map_err(|e| Failure::backend(explain(&e)))?;
    let kernel = match &options.kernel {
        Some(kernel) => kernel.clone(),
        None => {
            let mut demo = DemoOptions::new(root::SUITE);
            demo.archive.mirrors.extend(options.mirror.clone());
            build_with(&demo, &cache, progress).map_err(|e| Failure::backend(explain(&e)))?.kernel
        }
    };
    Ok((kernel, root::boot_initramfs(options.mirror.as_deref(), &cache, progress)?))
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

fn start(options: &Options, kernel: &Path, more: &[&std::ffi::OsStr]) -> Result<(Running, Instant), Failure> {
    let program = std::env::current_exe()
        .map_err(|e| Failure::backend(format!("this program does not know where it is: {e}")))?;
    let mut command = Command::new(program);
    command.args(["run", "--memory", &format!("{MEMORY_MIB}M")]);
    if !options.vmm_options.iter().any(|option| option.starts_with("--engine")) {
        command.args(["--engine", "kvm"]);
    }
    command.args(&options.vmm_options).arg("--kernel").arg(kernel).args(more);
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let started = Instant::now();
    let child = command.spawn().map_err(|e| Failure::backend(format!("{command:?}: {e}")))?;
    Ok((Running(child), started))
}

/// Why a machine did not come as far as it should.
fn ended(running: &mut Running) -> Failure {
    let mut text = String::new();
    if let Some(mut errors) = running.0.stderr.take() {
        // What could be read says why.
        let _ = errors.read_to_string(&mut text);
    }
    Failure::backend(format!("The machine ended early: {}", text.trim()))
}

/// The time to the first instruction, and KiB of host memory that are not the guest's.
fn one_start(options: &Options, guest: &Path) -> Result<(Duration, u64), Failure> {
    let (mut running, started) = start(options, guest, &["--no-rng".as_ref()])?;
    let mut byte = [0];
    let out = running.0.stdout.as_mut();
    if out.is_none_or(|out| out.read_exact(&mut byte).is_err()) {
        return Err(ended(&mut running));
    }
    let time = started.elapsed();
    let taken = Taken::by(running.0.id(), MEMORY_MIB << 10)?;
    Ok((time, taken.resident_beside()))
}

fn one_boot(options: &Options, kernel: &Path, initramfs: &Path) -> Result<Duration, Failure> {
    let more = ["--append".as_ref(), "console=ttyAMA0 quiet".as_ref(), "--initrd".as_ref(), initramfs.as_os_str()];
    let (mut running, started) = start(options, kernel, &more)?;
    let Some(out) = running.0.stdout.take() else { return Err(ended(&mut running)) };
    let found = BufReader::new(out)
        .split(b'\n')
        .map_while(Result::ok)
        .any(|line| String::from_utf8_lossy(&line).contains(INIT_SAYS));
    if found { Ok(started.elapsed()) } else { Err(ended(&mut running)) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_median_decides() {
        let mut figure = Figure::new("start", "ms", 10.0);
        figure.values = vec![30.0, 9.0, 8.0];
        assert!(figure.text().contains("9.00 ms   within the bar of 10 ms"), "{}", figure.text());
        figure.values = vec![30.0, 11.0, 8.0];
        assert!(figure.text().contains("MISSES"), "{}", figure.text());
    }
}
