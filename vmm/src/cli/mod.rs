//! The command line: what may be typed, and what it means.

pub mod balloon;
pub mod bench;
pub mod debug;
pub mod demo;
pub mod disk;
pub mod doctor;
pub mod fs;
pub mod image;
pub mod net;
pub mod progress;
pub mod run;
pub mod size;
pub mod translator;
pub mod vsock;

use std::ffi::OsString;
use std::io::Write;
use std::path::PathBuf;
use std::time::Duration;

use clap::error::ErrorKind;
use clap::{Args, Parser, Subcommand, ValueEnum};
use devices::disk::Injection;
use devices::virtio::balloon::BalloonOptions;
use devices::virtio::console::{MAX_NAME, PortOptions};
use devices::virtio::fs::FsOptions;
use devices::virtio::vsock::VsockOptions;

use crate::console::ConsoleKind;
use crate::console::mark::Mark;
use crate::console::terminal;
use crate::debugger::Point;
use crate::exit::ExitStatus;
use crate::machine::net::NetConfig;
use crate::machine::virtio::{DiskConfig, Transport};
use crate::trace::TraceSpec;

const EXAMPLES: &str = "\
Examples:
  vmm run                                     Debian bookworm: made at the first use, then at a shell at once
  vmm run demo                                only Debian's kernel and a BusyBox shell: nothing is to be made
  vmm run --kernel Image --initrd root.cpio   boot your own
  vmm run --cpus 4 --memory 2G --kernel vmlinuz --initrd initrd.img --append 'root=/dev/ram0 quiet'
  vmm doctor                                  what this host can do, and how fast a guest will be

In a running guest: Ctrl-A h lists the keys, Ctrl-A x ends it.

Exit status: 0 guest powered off, 124 --timeout, 250 guest kernel panic, 253 host lacks something, 254 usage, 255 defect of vmm.";

/// Runs arm64 virtual machines: a whole arm64 computer, on x86-64 hosts too.
#[derive(Parser, Debug)]
#[command(name = "vmm", version, after_help = EXAMPLES, arg_required_else_help = true, max_term_width = 120)]
pub struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand, Debug)]
enum Command {
    /// Run a virtual machine until it powers off
    Run(Box<RunArgs>),
    /// Measure speed: Debian programs natively, in vmm and in QEMU
    Bench(Box<bench::BenchArgs>),
    /// Make Debian images
    Image(image::ImageArgs),
    /// Say what this host can do: engine, memory, expected speed
    Doctor(DoctorArgs),
}

/// `vmm doctor`.
#[derive(Args, Debug)]
pub struct DoctorArgs {
    /// Print one JSON object
    #[arg(long)]
    pub json: bool,
}

/// Which engine executes the guest's instructions.
#[derive(Clone, Copy, PartialEq, Eq, Debug, ValueEnum)]
pub enum EngineChoice {
    /// The fastest that this host has
    Auto,
    /// Translate to host code (x86-64 hosts)
    Jit,
    /// Interpret: slow, exact, on any host
    Interp,
    /// The host kernel's KVM (arm64 hosts)
    Kvm,
}

impl EngineChoice {
    /// The word on the command line.
    pub fn word(self) -> &'static str {
        match self {
            EngineChoice::Auto => "auto",
            EngineChoice::Jit => "jit",
            EngineChoice::Interp => "interp",
            EngineChoice::Kvm => "kvm",
        }
    }
}

/// `--stats`.
#[derive(Clone, Copy, PartialEq, Eq, Debug, ValueEnum)]
pub enum StatsForm {
    /// For people
    Text,
    /// One JSON object on the last line of stderr
    Json,
}

const RUN_EXAMPLES: &str = "\
Examples:
  vmm run                                              debian:bookworm from the mirror (verified; made at the first use, cached)
  vmm run debian:trixie --net user --memory 2G         another release, with a network
  vmm run demo                                         only a kernel and BusyBox
  vmm run --kernel Image --initrd root.cpio
  vmm run --kernel vmlinuz --modules linux-image.deb --disk debian.img     boots from the disk
  vmm run --kernel hello.elf --console file:out.txt --timeout 10    bare-metal program, for scripts
  vmm run --engine interp --trace exception,psci:trace.txt ...      look at what the guest does
  vmm run --disk scratch.img,serial=scratch                          with /dev/vda; the root is the last disk
  vmm run --net user,hostfwd=tcp::2222-:22                           with a network
  vmm run --vsock cid=3,socket=/tmp/guest.sock                       streams to and from the guest: CONNECT 22 on the socket
  vmm run --fs tag=work,dir=.                                        a folder of the host: mount -t virtiofs work /mnt
  vmm run --dump-dtb board.dtb                                      only write the device tree

Kernels: arm64 Image, also compressed (gzip, zstd, lz4, xz, bzip2) or wrapped (EFI zboot), and arm64 ELF files. The format is seen from the content.
Without a GUEST and without --kernel, debian:bookworm runs. What a guest by name writes on its root vanishes with it.";

/// `vmm run`.
#[derive(Args, Debug)]
#[command(after_help = RUN_EXAMPLES)]
pub struct RunArgs {
    /// A guest by name: debian:SUITE, such as debian:bookworm (made at the first use; the default), or demo: a kernel and BusyBox
    #[arg(value_name = "GUEST", value_parser = parse_guest, conflicts_with = "kernel")]
    pub guest: Option<String>,
    /// The kernel: an arm64 Image, compressed or not, or an ELF program
    #[arg(long, value_name = "FILE")]
    pub kernel: Option<PathBuf>,
    /// The initial RAM file system
    #[arg(long, value_name = "FILE")]
    pub initrd: Option<PathBuf>,
    /// Modules of the kernel (its package, or a folder with lib/modules): boot from --disk without an initrd
    ///
    /// The machine makes an initrd that loads the drivers and starts init on the root disk: the one that root= names, or the one found.
    /// Without this option the kernel's package in the kernel's folder is used, or lib/modules of the tree that the kernel is in.
    #[arg(long, value_name = "DIR|DEB", requires = "kernel", conflicts_with = "initrd")]
    pub modules: Option<PathBuf>,
    /// The kernel command line (default: console=ttyAMA0)
    #[arg(long, value_name = "TEXT")]
    pub append: Option<String>,
    /// Number of vCPUs, 1 to 64
    #[arg(long, short = 'c', value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u16).range(1..=64))]
    pub cpus: u16,
    /// Guest RAM, with a unit: 512M, 4G
    #[arg(long, short = 'm', value_name = "SIZE", default_value = "1G", value_parser = size::parse)]
    pub memory: u64,
    /// A disk (repeatable): PATH[,format=raw|qcow2][,readonly][,ephemeral][,cache=MODE][,serial=TEXT][,queues=N][,iops=N][,bps=SIZE][,aio=auto|threads]
    ///
    /// PATH is a raw image, a block device or a qcow2 image; the first becomes /dev/vda. With ephemeral the guest's writes vanish with the machine.
    /// A qcow2's backing files are read only with format=qcow2. iops and bps limit requests and bytes in a second. aio=threads does without io_uring.
    /// MODE: writeback (default), writethrough, none (O_DIRECT) or unsafe (flushes do nothing). serial gives /dev/disk/by-id/virtio-TEXT.
    #[arg(long, value_name = "PATH[,..]", value_parser = disk::parse)]
    pub disk: Vec<DiskConfig>,
    /// A network card (repeatable): user, tap:NAME, fd:NUMBER, socket:PATH or none, then [,mac=MAC][,mtu=N][,pcap=FILE][,offloads=off]
    ///
    /// user is a network without any right on the host: DHCP, DNS, TCP, UDP and ping, at QEMU's addresses (guest 10.0.2.15, gateway 10.0.2.2).
    /// It takes hostfwd=tcp|udp:[ADDR]:PORT-[ADDR]:PORT (tcp:127.0.0.1:2222-:22 leads to the guest's ssh), allow-host (10.0.2.2 is the host's
    /// loopback) and dns=ADDR[:PORT]. tap is an interface of the host; socket is a cable to another vmm with the same PATH; pcap captures what the card sees.
    #[arg(long, value_name = "BACKEND[,..]", value_parser = net::parse)]
    pub net: Vec<Option<NetConfig>>,
    /// How the guest reaches its virtio devices: pci (PCIe, MSI-X, ITS) or mmio
    #[arg(long, value_enum, value_name = "HOW", default_value_t = Transport::Pci)]
    pub transport: Transport,
    /// A port of a virtio console (repeatable), with a unix socket on the host: NAME=PATH
    ///
    /// The guest finds it as /dev/virtio-ports/NAME; hvc0 is a console, /dev/hvc0.
    #[arg(long, value_name = "NAME=PATH", value_parser = parse_port)]
    pub port: Vec<PortOptions>,
    /// Streams between guest and host without a network: cid=N,socket=PATH
    ///
    /// The guest's address is N (3 or more). Who connects to PATH and writes "CONNECT PORT" reaches that port of the guest, and is answered
    /// "OK PORT"; a guest that connects to port P of the host (address 2) reaches who listens at PATH_P.
    #[arg(long, value_name = "cid=N,socket=PATH", value_parser = vsock::parse)]
    pub vsock: Option<VsockOptions>,
    /// A folder of the host for the guest (repeatable): tag=T,dir=PATH[,ro][,uid-map=GUEST:HOST[:COUNT]][,gid-map=..]
    ///
    /// In the guest: mount -t virtiofs T /mnt. The guest's root is this user, who owns all that the guest makes; run by root, users are the
    /// same on both sides, or as the maps say. Nothing leads out of the folder. With ro the guest changes nothing.
    #[arg(long, value_name = "tag=T,dir=PATH[,..]", value_parser = fs::parse)]
    pub fs: Vec<FsOptions>,
    /// A memory balloon: [free-page-reporting][,stats][,deflate-on-oom][,target=SIZE]
    ///
    /// Memory that the guest does without goes back to the host: with free-page-reporting by itself, and otherwise what the monitor's
    /// command "balloon SIZE" (at the start: target=SIZE) does not leave it. stats shows the guest's use of memory in the monitor and in --stats;
    /// with deflate-on-oom a guest that runs out of memory takes it back.
    #[arg(long, value_name = "LIST", num_args = 0..=1, require_equals = true, default_missing_value = "", value_parser = balloon::parse)]
    pub balloon: Option<BalloonOptions>,
    /// Faults of disks, for tests of a guest (repeatable): blk[N]:eio@SECTORS, enospc, short, slow@MS, flush-fail
    ///
    /// blkN:log@FILE is none: it logs all writes and flushes, so that a power loss can be played at any of them.
    #[arg(long, value_name = "FAULT", value_parser = clap::value_parser!(Injection))]
    pub inject: Vec<Injection>,
    /// Print a vCPU's registers each time it is about to execute the instruction at this virtual address, and the next N
    /// instructions: ADDRESS[,steps=N]
    #[arg(long = "break", value_name = "POINT", value_parser = debug::parse_break)]
    pub breakpoints: Vec<Point>,
    /// The same where it is about to access memory: ADDRESS[,len=BYTES][,on=load|store|both][,steps=N]
    #[arg(long = "watch", value_name = "POINT", value_parser = debug::parse_watch)]
    pub watchpoints: Vec<Point>,
    /// No virtio-rng device
    #[arg(long)]
    pub no_rng: bool,
    /// No seccomp filter on the vCPU threads, for hosts that give none
    #[arg(long, hide_short_help = true)]
    pub no_sandbox: bool,
    /// The guest's serial port: stdio, file:PATH, socket:PATH, pty or none
    #[arg(long, value_name = "WHERE", default_value = "stdio")]
    pub console: ConsoleKind,
    /// What executes the guest
    #[arg(long, value_enum, default_value_t = EngineChoice::Auto)]
    pub engine: EngineChoice,
    /// The processor that the guest sees: max, cortex-a72, ... (`--cpu help` lists them)
    ///
    /// With KVM it is the host's; pmu=off, pauth=off and sve=on after a comma choose its features.
    #[arg(long, value_name = "MODEL", default_value = "max")]
    pub cpu: String,
    /// Use this device tree instead of the built one (memory, chosen and initrd are filled in)
    #[arg(long, value_name = "FILE")]
    pub dtb: Option<PathBuf>,
    /// Write the device tree that the guest would get, and end
    #[arg(long, value_name = "FILE")]
    pub dump_dtb: Option<PathBuf>,
    /// End when the guest reboots
    #[arg(long)]
    pub no_reboot: bool,
    /// Log events: exception,sysreg,mmio,irq,psci or all; to stderr, or to FILE
    #[arg(long, value_name = "LIST[:FILE]")]
    pub trace: Option<TraceSpec>,
    /// Print counters at the end
    #[arg(long, value_enum, value_name = "FORM", num_args = 0..=1, require_equals = true, default_missing_value = "text")]
    pub stats: Option<StatsForm>,
    /// End after this many seconds with a hang report and status 124
    #[arg(long, value_name = "SECS", value_parser = parse_seconds)]
    pub timeout: Option<Duration>,
    /// The Debian mirror for a guest by name, such as http://mirror.example/debian (default: the one of this host's apt)
    #[arg(long, value_name = "URL")]
    pub mirror: Option<String>,
    /// The Debian release of the default guest and of the demo
    #[arg(long, value_name = "NAME", default_value = "bookworm")]
    pub suite: String,
    /// Print errors and the result as JSON objects on stderr
    #[arg(long)]
    pub json: bool,
    /// Options of the translator
    #[command(flatten)]
    pub translator: translator::TranslatorArgs,
    /// Save the machine into FILE after SECS, and end (for tests of saved state)
    #[arg(long, value_name = "SECS:FILE", value_parser = parse_save, hide = true)]
    pub save_after: Option<SaveAfter>,
    /// Save the machine into FILE when the guest's serial port has printed TEXT, and end
    #[arg(long, value_name = "TEXT:FILE", value_parser = parse_save_on, conflicts_with = "save_after", hide = true)]
    pub save_on: Option<SaveOn>,
    /// The machine runs on while --save-on or --save-after copies its memory, and stands only for what it wrote meanwhile
    #[arg(long, hide = true)]
    pub save_live: bool,
    /// Continue the machine saved in FILE; all other options as when it was saved
    #[arg(long, value_name = "FILE", hide = true)]
    pub load: Option<PathBuf>,
}

/// `--save-after`.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct SaveAfter {
    /// How long the machine runs first.
    pub after: Duration,
    /// Where it is saved to.
    pub file: PathBuf,
}

/// `--save-on`.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct SaveOn {
    /// What the guest prints.
    pub text: String,
    /// Where the machine is saved to.
    pub file: PathBuf,
}

fn parse_guest(text: &str) -> Result<String, String> {
    let suite = text.strip_prefix("debian:").is_some_and(|suite| !suite.is_empty());
    if suite || text == "demo" {
        Ok(text.to_owned())
    } else {
        Err(format!("{text:?} is no guest; expected debian:SUITE, such as debian:bookworm, or demo"))
    }
}

fn parse_save(text: &str) -> Result<SaveAfter, String> {
    let (seconds, file) = text.split_once(':').ok_or("expected SECS:FILE")?;
    Ok(SaveAfter { after: parse_seconds(seconds)?, file: file.into() })
}

/// The text may have colons, the name of the file has none.
fn parse_save_on(text: &str) -> Result<SaveOn, String> {
    match text.rsplit_once(':') {
        Some((text, file)) if !file.is_empty() && (1..=Mark::LONGEST).contains(&text.len()) => {
            Ok(SaveOn { text: text.to_owned(), file: file.into() })
        }
        _ => Err(format!("expected TEXT:FILE, the text of 1 to {} bytes", Mark::LONGEST)),
    }
}

fn parse_port(text: &str) -> Result<PortOptions, String> {
    let (name, path) = text.split_once('=').ok_or("expected NAME=PATH")?;
    let fits = (1..=MAX_NAME).contains(&name.len());
    if !fits || !name.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'-' | b'_')) || path.is_empty() {
        return Err(format!("{text:?}: expected NAME=PATH with a name of letters, digits, '.', '-' and '_'"));
    }
    Ok(PortOptions { name: name.to_owned(), socket: path.into() })
}

fn parse_seconds(text: &str) -> Result<Duration, String> {
    let seconds: f64 =
        text.trim_end_matches('s').parse().map_err(|_| format!("{text:?} is not a number of seconds"))?;
    if seconds <= 0.0 {
        return Err("a timeout has to be longer than 0 seconds".into());
    }
    Duration::try_from_secs_f64(seconds).map_err(|e| format!("{text:?}: {e}"))
}

/// The whole program: parses `arguments`, does what they say, reports errors; returns the status to end with.
pub fn main(arguments: impl IntoIterator<Item = OsString>) -> ExitStatus {
    let cli = match Cli::try_parse_from(arguments) {
        Ok(cli) => cli,
        Err(error) => return report_usage(&error),
    };
    let (result, json) = match cli.command {
        Command::Run(args) => {
            let json = args.json;
            (run::run(*args), json)
        }
        Command::Bench(args) => {
            let json = args.json;
            (bench::run(*args), json)
        }
        Command::Image(args) => {
            let json = args.json();
            (image::run(args), json)
        }
        Command::Doctor(args) => (doctor::run(&args), args.json),
    };
    match result {
        Ok(status) => status,
        Err(failure) => {
            let text = if json { failure.to_json().to_string() } else { format!("vmm: {failure}") };
            terminal::message(&text);
            failure.status
        }
    }
}

/// Prints on stdout; a reader that has gone is no error.
fn print_out(text: &str) {
    // See above.
    let _ = writeln!(std::io::stdout().lock(), "{text}");
}

fn report_usage(error: &clap::Error) -> ExitStatus {
    // A closed stdout or stderr changes nothing about the status.
    let _ = error.print();
    let _ = std::io::stdout().flush();
    match error.kind() {
        ErrorKind::DisplayHelp | ErrorKind::DisplayVersion => ExitStatus::Success,
        _ => ExitStatus::Usage,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    fn parse(line: &str) -> Result<RunArgs, clap::Error> {
        Cli::try_parse_from(line.split_whitespace()).map(|cli| match cli.command {
            Command::Run(args) => *args,
            _ => panic!("not a run"),
        })
    }

    #[test]
    fn definition_is_sound() {
        Cli::command().debug_assert();
    }

    #[test]
    fn defaults_and_values() {
        let args = parse("vmm run").unwrap();
        assert_eq!((args.cpus, args.memory, args.console), (1, 1 << 30, ConsoleKind::Stdio));
        let args = parse("vmm run --kernel K --cpus 8 --memory 16G --stats --timeout 1.5 --console none").unwrap();
        assert_eq!((args.cpus, args.memory, args.stats), (8, 16 << 30, Some(StatsForm::Text)));
        assert_eq!(args.timeout, Some(Duration::from_millis(1500)));
        assert_eq!(parse("vmm run --stats=json").unwrap().stats, Some(StatsForm::Json));
    }

    #[test]
    fn usage_errors_end_with_254_and_help_with_0() {
        for line in [
            "vmm",
            "vmm walk",
            "vmm run --cpus 0",
            "vmm run --cpus 65",
            "vmm run --memory 5",
            "vmm run --console x",
            "vmm run --timeout 0",
            "vmm run --timeout -1",
            "vmm run --engine fast",
            "vmm run --trace nothing",
            "vmm run --port hvc0",
            "vmm run --port a/b=/tmp/x",
            "vmm run --jit-opt no-magic",
            "vmm run demo --kernel K",
        ] {
            let status = main(line.split_whitespace().map(OsString::from));
            assert_eq!(status, ExitStatus::Usage, "{line}");
        }
        assert_eq!(main(["vmm", "--help"].map(OsString::from)), ExitStatus::Success);
        assert_eq!(main(["vmm", "--version"].map(OsString::from)), ExitStatus::Success);
    }
}
