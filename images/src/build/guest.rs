//! The guest in which an image is configured: a Debian kernel with an initramfs that holds the image and our first process.
//! Nothing of it reaches the image but what the image's own programs did. See `docs/design/image-build.md`.

use std::collections::VecDeque;
use std::fs::File;
use std::io::{self, BufWriter};
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::cpio;
use crate::format::cpio::write_tree;
use crate::kernel::{self, GuestKernel, KernelError};
use crate::progress::Progress;
use crate::tree::{Kind, Tree};

const INIT: &str = include_str!("configure.sh");
/// Lines of the guest's console that an error shows.
const SHOWN_LINES: usize = 40;
/// Longest line that is kept.
const MAX_LINE: usize = 2000;
/// Room of each disk. They are sparse: what the guest does not write costs nothing.
const DISK_SIZE: u64 = 32 << 30;

/// A guest to run.
#[derive(Clone, Debug)]
pub struct GuestSpec {
    /// The kernel.
    pub kernel: PathBuf,
    /// The initramfs.
    pub initrd: PathBuf,
    /// The kernel's command line.
    pub append: String,
    /// Bytes of RAM.
    pub memory: u64,
    /// Number of processors.
    pub cpus: u16,
    /// Raw disks and their serial numbers.
    pub disks: Vec<(PathBuf, &'static str)>,
    /// How long it may take.
    pub timeout: Duration,
}

/// How a guest ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum GuestEnd {
    /// It switched itself off.
    PoweredOff,
    /// It was stopped, or failed: what happened.
    Failed(String),
}

/// Runs guests: the virtual machine monitor gives one to those who make images.
pub trait GuestRunner {
    /// Runs a guest without a network until it ends; `console` gets what it writes on its serial line.
    ///
    /// # Errors
    /// What keeps it from running.
    fn run(&self, guest: &GuestSpec, console: &mut dyn FnMut(&[u8])) -> io::Result<GuestEnd>;
}

/// Why an image could not be configured.
#[derive(Debug, thiserror::Error)]
pub enum GuestError {
    /// The operating system refused.
    #[error("Cannot prepare the guest that configures the image")]
    Io(#[from] io::Error),
    /// The guest's kernel cannot be used.
    #[error(transparent)]
    Kernel(#[from] KernelError),
    /// The guest could not be run.
    #[error("Cannot run the guest that configures the image")]
    Run(#[source] io::Error),
    /// The guest did not come to its end.
    #[error("The guest that configures the image failed: {what}\nThe end of its console:\n{log}")]
    Failed {
        /// What happened.
        what: String,
        /// The last lines of its console.
        log: String,
    },
    /// The `preinst` of this package changed the files that had been put there before it ran.
    #[error("The preinst of {0} changes files of the package")]
    Preinst(String),
    /// Something in the image failed, such as a maintainer script.
    #[error("The image cannot be configured: {what}; nothing is written\nThe end of the log:\n{log}")]
    Configure {
        /// What failed.
        what: String,
        /// The last lines of its console.
        log: String,
    },
}

/// What the guest has to do beside booting.
#[derive(Clone, Debug, Default)]
pub struct Plan {
    /// The time that its clock starts at.
    pub epoch: u64,
    /// Essential packages that dpkg unpacks: their files below `.debs`.
    pub base_debs: Vec<String>,
    /// Other packages that dpkg unpacks.
    pub other_debs: Vec<String>,
    /// Essential packages whose files are there and whose `preinst` has yet to run, as dpkg names their control files.
    pub base_preinsts: Vec<String>,
    /// Other such packages.
    pub other_preinsts: Vec<String>,
    /// Names of the essential packages, configured first.
    pub base: Vec<String>,
    /// Whether packages wait to be configured.
    pub configure: bool,
}

impl Plan {
    fn settings(&self, timeout: Duration) -> String {
        let paths = |names: &[String]| names.iter().map(|name| format!("/.debs/{name}")).collect::<Vec<_>>().join(" ");
        format!(
            "epoch={}\nwindow={}\nbase_debs='{}'\nother_debs='{}'\nbase_preinsts='{}'\nother_preinsts='{}'\nbase='{}'\nconfigure={}\n",
            self.epoch,
            // What the kernel unpacked bears the host's time: it is not in this window, or is sent for nothing.
            timeout.as_secs().saturating_add(60),
            paths(&self.base_debs),
            paths(&self.other_debs),
            self.base_preinsts.join(" "),
            self.other_preinsts.join(" "),
            self.base.join(" "),
            if self.configure { "1" } else { "" }
        )
    }
}

/// What the guest gave back.
pub struct Results {
    /// All names of the image.
    pub list: PathBuf,
    /// What changed, as a tar archive.
    pub data: PathBuf,
}

/// A guest for one image.
pub struct BuildGuest<'a> {
    /// Who runs it.
    pub runner: &'a dyn GuestRunner,
    /// Where its files are.
    pub directory: &'a Path,
    /// Its kernel.
    pub kernel: &'a GuestKernel,
    /// The tools of its first process.
    pub busybox: &'a [u8],
    /// Number of processors.
    pub cpus: u16,
    /// Bytes of RAM; `None`: by the size of what goes in.
    pub memory: Option<u64>,
    /// How long it may take.
    pub timeout: Duration,
    /// Who is told.
    pub progress: &'a dyn Progress,
}

impl BuildGuest<'_> {
    /// Configures the image in `tree`.
    ///
    /// # Errors
    /// [`GuestError`].
    pub fn run(&self, tree: &Tree, plan: &Plan) -> Result<Results, GuestError> {
        let path = |name: &str| self.directory.join(name);
        let (kernel, initrd) = (path("kernel"), path("initrd"));
        std::fs::write(&kernel, &self.kernel.image)?;
        let size = self.write_initrd(&initrd, tree, plan)?;
        let results = Results { list: path("list"), data: path("data") };
        for disk in [&results.list, &results.data] {
            File::create(disk)?.set_len(DISK_SIZE)?;
        }
        let guest = GuestSpec {
            kernel,
            initrd,
            append: "console=ttyAMA0 quiet loglevel=0 rdinit=/init rootfstype=tmpfs random.trust_bootloader=on"
                .to_owned(),
            memory: self.memory.unwrap_or_else(|| memory_for(size, waiting(tree))),
            cpus: self.cpus,
            disks: vec![(results.list.clone(), "list"), (results.data.clone(), "data")],
            timeout: self.timeout,
        };
        let mut log = Log::new(self.progress);
        let end = self.runner.run(&guest, &mut |bytes| log.add(bytes)).map_err(GuestError::Run);
        self.progress.end();
        let failed = |what: String, log: &Log| Err(GuestError::Failed { what, log: log.text() });
        match (end?, &log.status) {
            (GuestEnd::PoweredOff, Some(status)) if status == "0" => Ok(results),
            (GuestEnd::PoweredOff, Some(status)) => {
                if let Some(name) = status.strip_prefix("preinst ") {
                    return Err(GuestError::Preinst(name.to_owned()));
                }
                Err(GuestError::Configure { what: status.clone(), log: log.text() })
            }
            (GuestEnd::PoweredOff, None) => failed("it ended too early".to_owned(), &log),
            (GuestEnd::Failed(what), _) => failed(what, &log),
        }
    }

    /// Writes the initramfs; gives its size.
    fn write_initrd(&self, path: &Path, tree: &Tree, plan: &Plan) -> Result<u64, GuestError> {
        let modules = self.kernel.modules(&kernel::DISKS)?;
        let file = File::create(path)?;
        let mut writer = cpio::Writer::new(BufWriter::with_capacity(1 << 18, file), 0);
        for name in ["bin", "dev", "lib", "lib/modules", "plan", "proc", "sys"] {
            writer.directory(name, 0o755)?;
        }
        // The kernel opens it for the first process before that can mount anything.
        writer.character_device("dev/console", 0o600, 5, 1)?;
        writer.file("init", 0o755, INIT.as_bytes())?;
        writer.file("bin/busybox", 0o755, self.busybox)?;
        let mut order = String::new();
        for module in &modules {
            writer.file(&format!("lib/modules/{}.ko", module.name), 0o644, &module.contents)?;
            order += &format!("{}.ko\n", module.name);
        }
        writer.file("lib/modules/order", 0o644, order.as_bytes())?;
        writer.file("plan/settings", 0o644, plan.settings(self.timeout).as_bytes())?;
        write_tree(&mut writer, tree, b"root")?;
        let file = writer.finish()?.into_inner().map_err(io::IntoInnerError::into_error)?;
        Ok(file.metadata()?.len())
    }
}

/// Bytes of packages that dpkg has yet to unpack, not compressed.
fn waiting(tree: &Tree) -> u64 {
    let debs = tree.below(b".debs").filter_map(|path| tree.get(path));
    debs.map(|inode| if let Kind::File(content) = &inode.kind { content.len() } else { 0 }).sum()
}

/// Bytes of RAM for an initramfs of `size` bytes of which `waiting` bytes are unpacked once more. It is there twice until the
/// kernel has unpacked it; then there is room for as much again, and for what programs take. What a guest does not touch costs
/// its host nothing.
fn memory_for(size: u64, waiting: u64) -> u64 {
    let files = size.saturating_mul(3).saturating_add(waiting.saturating_mul(2));
    files.saturating_add(1 << 30).next_multiple_of(64 << 20)
}

/// Reads the guest's console: steps for the progress, the status, and the last lines for errors.
struct Log<'a> {
    progress: &'a dyn Progress,
    line: Vec<u8>,
    last: VecDeque<String>,
    status: Option<String>,
}

impl<'a> Log<'a> {
    fn new(progress: &'a dyn Progress) -> Log<'a> {
        progress.begin("booting the guest that configures the image", None);
        Log { progress, line: Vec::new(), last: VecDeque::new(), status: None }
    }

    fn add(&mut self, bytes: &[u8]) {
        for &byte in bytes {
            match byte {
                b'\n' => self.end_line(),
                b'\r' => {}
                _ if self.line.len() < MAX_LINE => self.line.push(byte),
                _ => {}
            }
        }
    }

    fn end_line(&mut self) {
        let line = String::from_utf8_lossy(&self.line).into_owned();
        self.line.clear();
        if let Some(step) = line.strip_prefix("@step ") {
            self.progress.end();
            self.progress.begin(&format!("in the guest: {}", printable(step)), None);
        } else if let Some(status) = line.strip_prefix("@status ") {
            self.status = Some(printable(status));
        } else {
            self.progress.detail(&printable(&line));
            self.last.push_back(printable(&line));
            if self.last.len() > SHOWN_LINES {
                self.last.pop_front();
            }
        }
    }

    fn text(&self) -> String {
        self.last.iter().map(|line| format!("  {line}")).collect::<Vec<_>>().join("\n")
    }
}

/// What a guest writes cannot steer the user's terminal.
fn printable(text: &str) -> String {
    text.chars().map(|c| if c.is_control() && c != '\t' { '?' } else { c }).collect()
}
