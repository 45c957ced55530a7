//! `vmm bench storage` and `vmm bench network`: how fast a guest's disks and cards are, in `vmm` and in QEMU, with what the
//! host spends on them. See `docs/design/benchmarks.md`.

pub mod guest;
pub mod host;
pub mod rates;

use std::ffi::OsString;
use std::fs::{self, File};
use std::io::{self, Write};
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::Command;

use images::cache::Cache;
use images::progress::Progress;

use super::subject::{Job, Run, Seen, Subject};
use crate::exit::{Failure, explain};
use rates::{HOST, Measure, Rates};

/// What is measured of disks: the unit, and how many times QEMU's rate is asked for.
pub const STORAGE: [Measure; 6] = [
    Measure { name: "dd-write", unit: "MiB/s", bar: 2.0 },
    Measure { name: "dd-read", unit: "MiB/s", bar: 2.0 },
    Measure { name: "randread-1", unit: "IO/s", bar: 2.0 },
    Measure { name: "randwrite-1", unit: "IO/s", bar: 2.0 },
    Measure { name: "randread-32", unit: "IO/s", bar: 2.0 },
    Measure { name: "randwrite-32", unit: "IO/s", bar: 2.0 },
];
/// What is measured of cards. `out` is from the guest, the number that of connections at a time.
pub const NETWORK: [Measure; 8] = [
    Measure { name: "user-out", unit: "Mbit/s", bar: 3.0 },
    Measure { name: "user-in", unit: "Mbit/s", bar: 3.0 },
    Measure { name: "user-out-4", unit: "Mbit/s", bar: 3.0 },
    Measure { name: "user-in-4", unit: "Mbit/s", bar: 3.0 },
    Measure { name: "tap-out", unit: "Mbit/s", bar: 2.0 },
    Measure { name: "tap-in", unit: "Mbit/s", bar: 2.0 },
    Measure { name: "tap-out-4", unit: "Mbit/s", bar: 2.0 },
    Measure { name: "tap-in-4", unit: "Mbit/s", bar: 2.0 },
];

/// The guests' memory: less than is written.
const MEMORY: &str = "768M";
/// Bytes of the disk with a file system, of which dd writes 1000 MiB.
const SYSTEM_DISK: u64 = 1400 << 20;
/// Bytes of the disk that fio uses, all of them written before.
const DATA_DISK: u64 = 512 << 20;
/// The interface of the guest's tap, in a network namespace of its own.
const TAP: &str = "vmtap0";

/// Starts the network's peer and goes on as the virtual machine: `$0` is the root of the peer, `$1` its port, `$2` the
/// interface to make for the machine's tap, if any.
const WITH_PEER: &str = r#"port=$1 tap=$2; shift 2
if [ -n "$tap" ]; then
    ip link set lo up && ip tuntap add dev "$tap" mode tap vnet_hdr && ip addr add 192.168.77.1/24 dev "$tap" &&
    ip link set "$tap" up || exit 1
fi
mount --rbind /dev "$0/dev" && mount -t tmpfs tmp "$0/tmp" || exit 1
setpriv --pdeathsig KILL chroot "$0" /usr/bin/iperf3 -s -p "$port" >/dev/null 2>&1 &
exec "$@""#;

/// What a guest has besides processors and memory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Attached {
    /// Nothing.
    Nothing,
    /// Two raw disks.
    Disks(PathBuf, PathBuf),
    /// A card, and its peer.
    Card {
        /// The root of the peer.
        root: PathBuf,
        /// Where the peer listens.
        port: u16,
        /// By a tap device, or else the user network.
        tap: bool,
    },
}

impl Attached {
    /// Runs `program`, with all that its surroundings need.
    pub fn start(&self, program: &Path) -> Command {
        match self {
            Attached::Nothing | Attached::Disks(..) => Command::new(program),
            Attached::Card { root, port, tap } => {
                let mut command = Command::new("unshare");
                // A user namespace, so that no root is needed; a tap is in a network namespace of its own.
                let (namespaces, interface) = if *tap { ("-rmn", TAP) } else { ("-rm", "") };
                command.args([namespaces, "sh", "-c", WITH_PEER]).arg(root);
                command.arg(port.to_string()).arg(interface).arg(program);
                command
            }
        }
    }

    /// Options of `vmm run`.
    pub fn options_of_vmm(&self) -> Vec<OsString> {
        match self {
            Attached::Nothing => Vec::new(),
            Attached::Disks(system, data) => {
                ["--disk".into(), system.into(), "--disk".into(), data.into()].into_iter().collect()
            }
            Attached::Card { tap: false, .. } => vec!["--net".into(), "user,allow-host".into()],
            Attached::Card { tap: true, .. } => vec!["--net".into(), format!("tap:{TAP}").into()],
        }
    }

    /// Options of QEMU for the same: virtio by PCI, everything else as it is without being asked for.
    pub fn options_of_qemu(&self) -> Vec<OsString> {
        let card = |backend: String| -> Vec<OsString> {
            ["-netdev".to_owned(), backend, "-device".to_owned(), "virtio-net-pci,netdev=n,romfile=".to_owned()]
                .map(OsString::from)
                .to_vec()
        };
        let disk = |path: &Path, name: &str| -> Vec<OsString> {
            let mut drive = OsString::from(format!("if=none,format=raw,id={name},file="));
            // A comma in a name is written twice.
            drive.push(path.to_string_lossy().replace(',', ",,"));
            vec!["-drive".into(), drive, "-device".into(), format!("virtio-blk-pci,drive={name}").into()]
        };
        let none: Vec<OsString> = vec!["-nic".into(), "none".into()];
        match self {
            Attached::Nothing => none,
            Attached::Disks(system, data) => [none, disk(system, "system"), disk(data, "data")].concat(),
            Attached::Card { tap: false, .. } => card("user,id=n".to_owned()),
            Attached::Card { tap: true, .. } => card(format!("tap,id=n,ifname={TAP},script=no,downscript=no")),
        }
    }
}

/// What to measure.
#[derive(Clone, Debug)]
pub struct Options {
    /// The QEMUs.
    pub qemus: Vec<PathBuf>,
    /// Options for `vmm run` in this benchmark.
    pub vmm_options: Vec<String>,
    /// Runs of everything.
    pub runs: u32,
    /// Numbers of vCPUs.
    pub cpus: Vec<u16>,
    /// What is measured: some of [`STORAGE`] or some of [`NETWORK`].
    pub measures: Vec<Measure>,
    /// Where disks are put; `None`: in memory.
    pub scratch: Option<PathBuf>,
    /// The guests' kernel; `None`: Debian's cloud kernel, whose drivers the guest has.
    pub kernel: Option<PathBuf>,
    /// The Debian mirror; `None`: that of the host's apt.
    pub mirror: Option<String>,
}

/// Measures; tells `progress` about each figure.
///
/// # Errors
/// When packages, the cache or the scratch folder cannot be used, or a subject fails.
pub fn run(options: &Options, progress: &dyn Progress) -> Result<Vec<Rates>, Failure> {
    let cache = Cache::of_user().map_err(|e| Failure::backend(explain(&e)))?;
    let mirror = options.mirror.as_deref();
    let guest = guest::guest(mirror, &cache, progress)?;
    let mut subjects = vec![Subject::Vmm(options.vmm_options.clone())];
    for program in &options.qemus {
        subjects.push(Subject::qemu(program)?);
    }
    let mut names: Vec<String> = subjects.iter().map(Subject::name).collect();
    // Where the disk is memory, the host's own speed says nothing.
    let host = options.scratch.as_deref().filter(|_| options.measures.iter().any(|one| one.name.starts_with("dd-")));
    names.extend(host.map(|_| HOST.to_owned()));
    let new_table = |cpus: &u16| Rates::new(*cpus, names.clone(), options.measures.clone());
    let mut tables: Vec<Rates> = options.cpus.iter().map(new_table).collect();
    let kernel = options.kernel.as_deref().unwrap_or(&guest.kernel);
    for number in 1..=options.runs {
        for table in &mut tables {
            if let Some(folder) = host {
                progress.begin("the host's own disk", None);
                let path = folder.join(format!("vmm-bench-{}-host", std::process::id()));
                let rated =
                    host::dd(&path).map_err(|e| Failure::backend(format!("--scratch {}: {e}", folder.display())))?;
                table.enter(HOST, &Run { rated, ..Run::default() });
                progress.end();
            }
            for machine in Machine::all(&options.measures) {
                for subject in &subjects {
                    let name = subject.name();
                    let ready = machine.make(options.scratch.as_deref(), mirror, &cache, progress)?;
                    let mut words: Vec<&str> = ready.port.iter().map(String::as_str).collect();
                    words.extend(machine.measures.iter().copied());
                    let (cpus, attached) = (table.cpus, &ready.attached);
                    let initramfs = &guest.initramfs;
                    let job = Job { cpus, seconds: 0, programs: &words, kernel, initramfs, memory: MEMORY, attached };
                    let run = subject.run(&job, &mut |seen| {
                        let Seen::Rated(rated) = seen else { return };
                        let what = format!("run {number}, {cpus} vCPU, {name}: {}", rated.name);
                        progress.note(&format!("{what} {:.0}, processor {:.2} us each", rated.rate, rated.cost * 1e6));
                    })?;
                    table.enter(&name, &run);
                }
            }
        }
    }
    Ok(tables)
}

/// Guests of one kind, and what is measured in them.
struct Machine<'a> {
    kind: &'static str,
    measures: Vec<&'a str>,
}

/// A machine's disks or card; files go with it.
struct Ready {
    attached: Attached,
    /// The peer's port, as the guest is told.
    port: Option<String>,
    _files: Vec<Removed>,
}

/// A file that is gone when this is.
struct Removed(PathBuf);

impl Drop for Removed {
    fn drop(&mut self) {
        // Nothing more can be done about a file that does not go.
        let _ = fs::remove_file(&self.0);
    }
}

impl<'a> Machine<'a> {
    /// One for each kind that `measures` need.
    fn all(measures: &'a [Measure]) -> Vec<Machine<'a>> {
        let kind = |name: &str| ["user-", "tap-"].into_iter().find(|kind| name.starts_with(kind)).unwrap_or("disk-");
        let machines = ["disk-", "user-", "tap-"].map(|wanted| Machine {
            kind: wanted,
            measures: measures.iter().map(|one| one.name).filter(|name| kind(name) == wanted).collect(),
        });
        machines.into_iter().filter(|machine| !machine.measures.is_empty()).collect()
    }

    fn make(
        &self,
        scratch: Option<&Path>,
        mirror: Option<&str>,
        cache: &Cache,
        progress: &dyn Progress,
    ) -> Result<Ready, Failure> {
        if self.kind != "disk-" {
            let root = guest::peer(mirror, cache, progress)?;
            let port = TcpListener::bind("127.0.0.1:0").and_then(|listener| listener.local_addr());
            let port = port.map_err(|e| Failure::backend(format!("no port is free: {e}")))?.port();
            let attached = Attached::Card { root, port, tap: self.kind == "tap-" };
            return Ok(Ready { attached, port: Some(format!("port={port}")), _files: Vec::new() });
        }
        let folder = scratch.map_or_else(memory_folder, Path::to_owned);
        let failed = |e: io::Error| Failure::backend(format!("--scratch {}: {e}", folder.display()));
        let paths = ["system", "data"].map(|name| folder.join(format!("vmm-bench-{}-{name}.img", std::process::id())));
        let files = paths.clone().map(Removed).into();
        let [system, data] = paths;
        // New for each run: the first to write to a disk has more to do.
        File::create(&system).and_then(|file| file.set_len(SYSTEM_DISK)).map_err(failed)?;
        fill(&data).map_err(failed)?;
        Ok(Ready { attached: Attached::Disks(system, data), port: None, _files: files })
    }
}

/// Where files are in memory.
fn memory_folder() -> PathBuf {
    let shared = Path::new("/dev/shm");
    if shared.is_dir() { shared.to_owned() } else { std::env::temp_dir() }
}

/// A disk without holes.
fn fill(path: &Path) -> io::Result<()> {
    let mut file = File::create(path)?;
    let mut state = 0x9e37_79b9_7f4a_7c15u64;
    let mut block = vec![0; 1 << 20];
    for _ in 0..DATA_DISK >> 20 {
        for word in block.chunks_exact_mut(8) {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            word.copy_from_slice(&state.to_le_bytes());
        }
        file.write_all(&block)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn guests_are_made_for_what_is_measured() {
        let of = |measures: &[Measure]| -> Vec<(&'static str, usize)> {
            Machine::all(measures).iter().map(|machine| (machine.kind, machine.measures.len())).collect()
        };
        assert_eq!(of(&STORAGE), [("disk-", 6)]);
        assert_eq!(of(&NETWORK), [("user-", 4), ("tap-", 4)]);
        assert_eq!(of(&[]), []);
    }

    #[test]
    fn both_machines_get_the_same_devices() {
        let disks = Attached::Disks("/a,b".into(), "/c".into());
        assert_eq!(disks.options_of_vmm(), ["--disk", "/a,b", "--disk", "/c"]);
        assert!(disks.options_of_qemu().contains(&"if=none,format=raw,id=system,file=/a,,b".into()));
        let card = |tap| Attached::Card { root: "/r".into(), port: 7, tap };
        assert_eq!(card(true).options_of_vmm(), ["--net", "tap:vmtap0"]);
        assert!(card(false).options_of_qemu().contains(&"user,id=n".into()));
        let command = card(true).start(Path::new("/bin/vmm"));
        let arguments: Vec<_> = command.get_args().collect();
        assert_eq!((arguments[0], arguments.last()), ("-rmn".as_ref(), Some(&"/bin/vmm".as_ref())));
    }
}
