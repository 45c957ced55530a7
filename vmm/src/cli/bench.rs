//! `vmm bench`.

use std::path::PathBuf;

use clap::{Args, ValueEnum};
use serde_json::{Value, json};

use super::print_out;
use super::progress::ProgressLine;
use crate::bench::devices::rates::Measure;
use crate::bench::devices::{self, NETWORK, STORAGE};
use crate::bench::{self, Options, PROGRAMS, chart, memory, scaling, start};
use crate::exit::{ExitStatus, Failure};

const EXAMPLES: &str = "\
Examples:
  vmm bench cpu                                          vmm beside the host's own processor
  vmm bench cpu --qemu qemu-system-aarch64               and beside QEMU
  vmm bench cpu --qemu A --qemu B --cpus 1,2 --runs 5 --chart speed.svg --json-file speed.json
  vmm bench cpu --only gcc,python,boot --no-native
  vmm bench cpu --no-native --runs 1 --interpreted       and what is left to the interpreter
  vmm bench smp                                          one and two processors, beside the host's own
  vmm bench memory --runs 1 --qemu qemu-system-aarch64   memory of the host beside the guest's
  vmm bench storage --qemu qemu-system-aarch64           dd and fio in a guest, disks in memory
  vmm bench network --qemu qemu-system-aarch64           iperf3 by the user network and by a tap
  vmm bench kvm --runs 20                                on arm64 hardware: time to the first instruction, to init; memory

Fetches Debian packages for arm64 and for the host (about 60 MB each, verified and kept), runs the same programs everywhere, interleaved,
and compares what they print: a wrong result is an error. Times are the medians, taken inside the guest by its clock.

storage: dd of 1000 MiB to ext4 and back, fio with blocks of 4 KiB at random places, one and 32 at a time, past the guest's cache.
network: iperf3 out of the guest and into it, one and four connections; `tap` needs the programs ip, unshare and setpriv, no root.";

/// What is measured.
#[derive(Clone, Copy, PartialEq, Eq, Debug, ValueEnum)]
pub enum BenchKind {
    /// Processor and memory: compilers, interpreters, compression, cryptography, numbers, processes, boot
    Cpu,
    /// The same programs on one processor and on two, here and natively: how they gain
    Smp,
    /// Memory of the host beside the guest's, at a prompt after a minute
    Memory,
    /// Disks: dd, and fio at random places
    Storage,
    /// Network cards: iperf3 by the user network and by a tap device
    Network,
    /// How soon a machine runs and what it takes beside the guest's memory, with KVM of an arm64 host
    Kvm,
}

/// `vmm bench`.
#[derive(Args, Debug)]
#[command(after_help = EXAMPLES)]
pub struct BenchArgs {
    /// What is measured
    #[arg(value_name = "WHAT", value_enum, default_value_t = BenchKind::Cpu)]
    pub kind: BenchKind,
    /// A QEMU to compare with: the program qemu-system-aarch64, or a script that starts it (repeatable)
    #[arg(long, value_name = "PROGRAM")]
    pub qemu: Vec<PathBuf>,
    /// Runs of everything; medians count
    #[arg(long, value_name = "N", default_value_t = 3, value_parser = clap::value_parser!(u32).range(1..=1000))]
    pub runs: u32,
    /// Run each program again until so many seconds have passed, and count one run (default: 3 for smp, otherwise once)
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(0..=3600))]
    pub seconds: Option<u32>,
    /// Numbers of vCPUs; with N vCPUs, N copies of each program run at a time
    #[arg(long, value_name = "N,..", value_delimiter = ',', default_value = "1", value_parser = clap::value_parser!(u16).range(1..=64))]
    pub cpus: Vec<u16>,
    /// Count the processor time that the host spends, not the clock: for hosts that do other things
    #[arg(long)]
    pub processor_time: bool,
    /// Then count, in runs of their own, what share of each program's instructions the interpreter executes
    #[arg(long)]
    pub interpreted: bool,
    /// Only these programs, or these rows of storage or network
    #[arg(long, value_name = "NAME,..", value_delimiter = ',')]
    pub only: Vec<String>,
    /// Where the disks of storage are put (default: /dev/shm, which is memory); dd of the host itself is measured there too
    #[arg(long, value_name = "DIR")]
    pub scratch: Option<PathBuf>,
    /// Of `kvm`, only what needs no kernel
    #[arg(long)]
    pub bare: bool,
    /// Leave out the host's own processor
    #[arg(long)]
    pub no_native: bool,
    /// Another kernel for the guests than Debian's cloud kernel
    #[arg(long, value_name = "FILE")]
    pub kernel: Option<PathBuf>,
    /// An option for `vmm run` (repeatable), such as --vmm-option=--engine=interp
    #[arg(long, value_name = "OPTION", allow_hyphen_values = true)]
    pub vmm_option: Vec<String>,
    /// Write all figures into FILE as JSON, with the counters of the last run
    #[arg(long, value_name = "FILE")]
    pub json_file: Option<PathBuf>,
    /// Write a chart into FILE (SVG)
    #[arg(long, value_name = "FILE")]
    pub chart: Option<PathBuf>,
    /// The Debian mirror (default: the one of this host's apt)
    #[arg(long, value_name = "URL")]
    pub mirror: Option<String>,
    /// Print JSON instead of tables
    #[arg(long)]
    pub json: bool,
}

/// The names to measure: all, or those that were asked for.
fn chosen<'a>(only: &[String], all: &[&'a str]) -> Result<Vec<&'a str>, Failure> {
    if let Some(unknown) = only.iter().find(|name| !all.contains(&name.as_str())) {
        return Err(Failure::usage(format!("--only {unknown}: there is no such row; there are {}", all.join(", "))));
    }
    Ok(all.iter().copied().filter(|name| only.is_empty() || only.iter().any(|one| one == name)).collect())
}

fn run_start(args: BenchArgs) -> Result<ExitStatus, Failure> {
    let options = start::Options {
        vmm_options: args.vmm_option,
        runs: args.runs,
        kernel: args.kernel,
        mirror: args.mirror,
        bare: args.bare,
    };
    let figures = start::run(&options, &ProgressLine::new())?;
    print_out(&if args.json { format!("{:#}", start::json(&figures)) } else { start::text(&figures) });
    Ok(ExitStatus::Success)
}

/// Runs the command.
pub fn run(args: BenchArgs) -> Result<ExitStatus, Failure> {
    match args.kind {
        BenchKind::Cpu => run_programs(args),
        BenchKind::Smp => run_smp(args),
        BenchKind::Memory => run_memory(args),
        BenchKind::Storage => run_devices(args, &STORAGE),
        BenchKind::Network => run_devices(args, &NETWORK),
        BenchKind::Kvm => run_start(args),
    }
}

/// What `smp` runs without `--only`: processor, memory, page tables and processes, each in its own way.
const SMP_PROGRAMS: [&str; 6] = ["gcc", "python", "gzip", "sha256", "sort", "fork-exec"];

/// Short runs measure their starts and ends, and which of two copies ends last.
const SMP_SECONDS: u32 = 3;

fn run_smp(mut args: BenchArgs) -> Result<ExitStatus, Failure> {
    args.seconds = args.seconds.or(Some(SMP_SECONDS));
    if args.cpus == [1] {
        args.cpus = vec![1, 2];
    }
    if args.only.is_empty() {
        args.only = SMP_PROGRAMS.map(str::to_owned).to_vec();
    }
    run_programs(args)
}

fn run_memory(args: BenchArgs) -> Result<ExitStatus, Failure> {
    let options = memory::Options {
        vmm_options: args.vmm_option.clone(),
        qemus: args.qemu.clone(),
        runs: args.runs,
        cpus: args.cpus.clone(),
        kernel: args.kernel.clone(),
        mirror: args.mirror.clone(),
    };
    let rows = memory::run(&options, &ProgressLine::new())?;
    report(&args, &memory::json(&rows), &[memory::text(&rows)], "")?;
    Ok(ExitStatus::Success)
}

fn run_programs(args: BenchArgs) -> Result<ExitStatus, Failure> {
    let programs = chosen(&args.only, &PROGRAMS)?.into_iter().map(str::to_owned).collect();
    let options = Options {
        qemus: args.qemu.clone(),
        native: !args.no_native,
        vmm_options: args.vmm_option.clone(),
        runs: args.runs,
        seconds: args.seconds.unwrap_or(0),
        interpreted: args.interpreted,
        processor_time: args.processor_time,
        cpus: args.cpus.clone(),
        programs,
        kernel: args.kernel.clone(),
        mirror: args.mirror.clone(),
    };
    let tables = bench::run(&options, &ProgressLine::new())?;
    let gains = scaling::of(&tables);
    let value = json!({
        "tables": tables.iter().map(|table| table.json()).collect::<Vec<_>>(),
        "scaling": gains.iter().map(scaling::Scaling::json).collect::<Vec<_>>(),
    });
    let texts = tables.iter().map(|table| table.text()).chain(gains.iter().map(scaling::Scaling::text));
    report(&args, &value, &texts.collect::<Vec<_>>(), &chart::svg(&tables))?;
    let wrong: Vec<&str> = tables.iter().flat_map(|table| &table.wrong).map(String::as_str).collect();
    if wrong.is_empty() { Ok(ExitStatus::Success) } else { Err(Failure::internal(wrong.join("; "))) }
}

fn run_devices(args: BenchArgs, all: &[Measure]) -> Result<ExitStatus, Failure> {
    let names: Vec<&str> = all.iter().map(|one| one.name).collect();
    let names = chosen(&args.only, &names)?;
    let options = devices::Options {
        qemus: args.qemu.clone(),
        vmm_options: args.vmm_option.clone(),
        runs: args.runs,
        cpus: args.cpus.clone(),
        measures: all.iter().copied().filter(|one| names.contains(&one.name)).collect(),
        scratch: args.scratch.clone(),
        kernel: args.kernel.clone(),
        mirror: args.mirror.clone(),
    };
    let tables = devices::run(&options, &ProgressLine::new())?;
    let value = json!({ "tables": tables.iter().map(|table| table.json()).collect::<Vec<_>>() });
    let texts: Vec<String> = tables.iter().map(|table| table.text()).collect();
    report(&args, &value, &texts, &chart::of_rates(&tables))?;
    Ok(ExitStatus::Success)
}

/// Prints what was measured, and writes the files that were asked for.
fn report(args: &BenchArgs, value: &Value, texts: &[String], chart: &str) -> Result<(), Failure> {
    if args.json {
        print_out(&format!("{value:#}"));
    } else {
        print_out(&texts.join("\n"));
    }
    let write = |option: &str, path: &Option<PathBuf>, text: &str| match path {
        Some(path) => std::fs::write(path, text)
            .map_err(|e| Failure::backend(format!("{option} {}: cannot be written: {e}", path.display()))),
        None => Ok(()),
    };
    write("--json-file", &args.json_file, &format!("{value:#}\n"))?;
    write("--chart", &args.chart, chart)
}
