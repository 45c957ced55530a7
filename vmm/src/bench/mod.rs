//! `vmm bench`: Debian programs on the host itself, in `vmm` and in QEMU, side by side in one run. See `docs/design/benchmarks.md`.

pub mod chart;
pub mod devices;
pub mod memory;
pub mod root;
pub mod scaling;
pub mod share;
pub mod start;
pub mod subject;
pub mod table;
pub mod taken;

use std::path::PathBuf;

use images::cache::Cache;
use images::demo::{DemoOptions, build_with};
use images::progress::Progress;

use crate::exit::{Failure, explain};
use devices::Attached;
use subject::{Job, Seen, Subject};
use table::{NATIVE, Table};

/// What is measured without `--only`.
pub const PROGRAMS: [&str; 17] = [
    "boot",
    "gcc",
    "python",
    "json",
    "perl-regex",
    "perl-hash",
    "gzip",
    "xz",
    "zstd",
    "aes-gcm",
    "sha256",
    "rsa",
    "ecdsa",
    "matmul",
    "sort",
    "vector",
    "fork-exec",
];
/// The memory of the guests that programs run in.
const MEMORY: &str = "2G";
/// The row that is no program in a guest: a whole machine from start to power-off.
const BOOT: &str = "boot";

/// What to measure.
#[derive(Clone, Debug)]
pub struct Options {
    /// The QEMUs.
    pub qemus: Vec<PathBuf>,
    /// Whether the host itself is measured.
    pub native: bool,
    /// Options for `vmm run` in this benchmark, such as `--engine interp`.
    pub vmm_options: Vec<String>,
    /// Runs of everything.
    pub runs: u32,
    /// Each program is run again until so many seconds have passed; 0: once.
    pub seconds: u32,
    /// Whether instructions are counted, in runs of their own.
    pub interpreted: bool,
    /// Whether processor time counts instead of the clock.
    pub processor_time: bool,
    /// Numbers of vCPUs.
    pub cpus: Vec<u16>,
    /// Names out of [`PROGRAMS`].
    pub programs: Vec<String>,
    /// The guests' kernel; `None`: Debian's cloud kernel.
    pub kernel: Option<PathBuf>,
    /// The Debian mirror; `None`: that of the host's apt.
    pub mirror: Option<String>,
}

/// Measures; tells `progress` about each program.
///
/// # Errors
/// When packages or the cache cannot be used, or a subject fails.
pub fn run(options: &Options, progress: &dyn Progress) -> Result<Vec<Table>, Failure> {
    let cache = Cache::of_user().map_err(|e| Failure::backend(explain(&e)))?;
    let mirror = options.mirror.as_deref();
    let kernel = match &options.kernel {
        Some(kernel) => kernel.clone(),
        None => {
            let mut demo = DemoOptions::new(root::SUITE);
            demo.archive.mirrors.extend(options.mirror.clone());
            build_with(&demo, &cache, progress).map_err(|e| Failure::backend(explain(&e)))?.kernel
        }
    };
    let programs: Vec<&str> = options.programs.iter().map(String::as_str).filter(|name| *name != BOOT).collect();
    let mut subjects = Vec::new();
    if options.native && !programs.is_empty() {
        subjects.push(Subject::Native(root::native(mirror, &cache, progress)?));
    }
    subjects.push(Subject::Vmm(options.vmm_options.clone()));
    for program in &options.qemus {
        subjects.push(Subject::qemu(program)?);
    }
    let boots = options.programs.iter().any(|name| name == BOOT);
    let boot = boots.then(|| root::boot_initramfs(mirror, &cache, progress)).transpose()?;
    let initramfs = if programs.is_empty() { None } else { Some(root::initramfs(mirror, &cache, progress)?) };
    let names: Vec<String> = subjects.iter().map(Subject::name).collect();
    let new_table = |cpus: &u16| {
        let mut table = Table::new(*cpus, names.clone(), options.programs.clone());
        table.processor_time = options.processor_time;
        table
    };
    let mut tables: Vec<Table> = options.cpus.iter().map(new_table).collect();
    let job = |cpus, programs, initramfs| Job {
        cpus,
        seconds: if boot.as_deref() == Some(initramfs) { 0 } else { options.seconds },
        programs,
        kernel: &kernel,
        initramfs,
        memory: MEMORY,
        attached: &Attached::Nothing,
    };
    // Interleaved, so that what else the host does meets all alike.
    for number in 1..=options.runs {
        for table in &mut tables {
            for subject in &subjects {
                let name = subject.name();
                let title = format!("run {number}, {} vCPU, {name}", table.cpus);
                if let Some(initramfs) = boot.as_deref().filter(|_| name != NATIVE) {
                    let run = subject.run(&job(table.cpus, &[], initramfs), &mut |_| ())?;
                    let time = if options.processor_time { run.spent } else { run.elapsed };
                    progress.note(&format!("{title}: boot {:.3} s", time.as_secs_f64()));
                    table.enter_time(&name, BOOT, time);
                }
                if let Some(initramfs) = initramfs.as_deref() {
                    let run = subject.run(&job(table.cpus, &programs, initramfs), &mut |seen| {
                        let Seen::Measured(measured) = seen else { return };
                        let (time, spent) = (measured.time.as_secs_f64(), measured.spent.as_secs_f64());
                        progress.note(&format!("{title}: {} {time:.3} s, processor {spent:.2} s", measured.program));
                    })?;
                    table.enter(&name, &run);
                }
            }
        }
    }
    if options.interpreted {
        for table in &mut tables {
            let once = |programs, initramfs| Job { seconds: 0, ..job(table.cpus, programs, initramfs) };
            let boot = boot.as_deref().map(|initramfs| once(&[], initramfs));
            let work = initramfs.as_deref().map(|initramfs| once(&programs, initramfs));
            table.shares =
                share::measure(&options.vmm_options, boot.as_ref().map(|job| (BOOT, job)), work.as_ref(), progress)?;
        }
    }
    Ok(tables)
}
