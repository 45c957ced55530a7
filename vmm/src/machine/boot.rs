//! What stands in RAM before the first instruction: kernel, initrd, device tree. Done at start and at every reset.

use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};

use firmware::fdt::FdtPatch;
use firmware::{BoardDescription, Kernel, Placement};
use vm_memory::{Bytes, GuestAddress};

use super::kernel_file::KernelFile;
use super::layout;
use super::made_initrd;
use super::ram::GuestRam;
use super::virtio::VirtioConfig;
use crate::exit::{Failure, explain};

/// The command line of a guest for which none was given.
const DEFAULT_COMMAND_LINE: &str = "console=ttyAMA0";
/// Longest command line that arm64 Linux keeps (COMMAND_LINE_SIZE).
const LONGEST_COMMAND_LINE: usize = 2048;

/// The files and words that a guest starts from.
#[derive(Clone, Debug, Default)]
pub struct BootSource {
    /// `--kernel`.
    pub kernel: PathBuf,
    /// `--initrd`.
    pub initrd: Option<PathBuf>,
    /// `--append`.
    pub append: Option<String>,
    /// `--dtb`.
    pub dtb: Option<PathBuf>,
    /// `--modules`.
    pub modules: Option<PathBuf>,
}

/// Everything needed to fill RAM, as often as the machine is reset.
pub struct Boot {
    kernel: KernelFile,
    initrd: Option<Initrd>,
    /// What the kernel is told; `None`: what the user's tree says.
    command_line: Option<String>,
    user_tree: Option<Vec<u8>>,
    vcpus: usize,
    pmu: bool,
    virtio: VirtioConfig,
}

/// An initrd stays in its file, if it is one: RAM holds it already once.
struct Initrd {
    content: Content,
    length: u64,
    path: PathBuf,
}

enum Content {
    File(File),
    Bytes(Vec<u8>),
}

/// Where the first instruction is, and what X0 holds there.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Entry {
    /// Physical address of the first instruction.
    pub pc: u64,
    /// X0: address of the device tree.
    pub x0: u64,
}

/// The kernel command line: what the user gave, or the default, with `panic=-1` unless it says something about it: a panic then ends the run with a status.
pub fn command_line(append: Option<&str>) -> Result<String, Failure> {
    let given = append.unwrap_or(DEFAULT_COMMAND_LINE).trim();
    // Words after `--` are for init.
    let (kernel, init) = match given.split_once(" -- ") {
        Some((kernel, init)) => (kernel, Some(init)),
        None => (given, None),
    };
    let mut line = kernel.to_owned();
    if !kernel.split_whitespace().any(|word| word.starts_with("panic=")) {
        line = format!("{kernel} panic=-1").trim().to_owned();
    }
    if let Some(init) = init {
        line = format!("{line} -- {init}");
    }
    if line.len() >= LONGEST_COMMAND_LINE {
        return Err(Failure::usage(format!(
            "--append has {} characters, arm64 Linux takes {}; shorten it",
            line.len(),
            LONGEST_COMMAND_LINE - 1
        )));
    }
    Ok(line)
}

impl Boot {
    /// Opens and checks the files.
    pub fn open(source: &BootSource, vcpus: usize, pmu: bool, virtio: &VirtioConfig) -> Result<Boot, Failure> {
        let kernel = KernelFile::open(&source.kernel)?;
        let initrd = match source.initrd.as_deref() {
            Some(path) => Some(Initrd::open(path)?),
            // Without a disk it looks into no kernel.
            None if virtio.disks.is_empty() => kernel.with(|kernel| made_initrd(source, kernel, virtio))?,
            None => kernel.with_whole(|kernel| made_initrd(source, kernel, virtio))?,
        };
        let user_tree = source.dtb.as_deref().map(read_tree).transpose()?;
        let keeps_its_own = user_tree.is_some() && source.append.is_none();
        let command_line = if keeps_its_own { None } else { Some(command_line(source.append.as_deref())?) };
        Ok(Boot { kernel, initrd, command_line, user_tree, vcpus, pmu, virtio: virtio.clone() })
    }

    /// One line about the kernel for `--stats` and reports.
    pub fn describe(&self) -> &str {
        self.kernel.describe()
    }

    /// The device tree for a placement; seeds are new at each call.
    pub fn device_tree(
        &self,
        ram: std::ops::Range<u64>,
        initrd: Option<std::ops::Range<u64>>,
    ) -> Result<Vec<u8>, Failure> {
        let mut seed = [0u8; 72];
        // Without a random generator the guest gets no seeds rather than known ones.
        let seeded = fill_random(&mut seed);
        let (rng, kaslr) = seed.split_at(64);
        let rng_seed = if seeded { rng.to_vec() } else { Vec::new() };
        let kaslr_seed = kaslr.first_chunk::<8>().filter(|_| seeded).map(|bytes| u64::from_le_bytes(*bytes));
        let tree = match &self.user_tree {
            None => {
                let mut board = BoardDescription::virt(self.vcpus, ram);
                board.bootargs = self.command_line.clone().unwrap_or_default();
                board.initrd = initrd;
                board.pmu_ppi = self.pmu.then_some(layout::PMU_PPI);
                self.virtio.describe(&mut board);
                board.rng_seed = rng_seed;
                board.kaslr_seed = kaslr_seed;
                firmware::build_fdt(&board)
            }
            Some(tree) => {
                let patch =
                    FdtPatch { bootargs: self.command_line.clone(), memory: vec![ram], initrd, rng_seed, kaslr_seed };
                firmware::patch_fdt(tree, &patch)
            }
        };
        tree.map_err(|e| Failure::usage(explain(&e)))
    }

    /// The device tree as the guest will get it, for `--dump-dtb`.
    pub fn dump_tree(&self, ram: &GuestRam) -> Result<Vec<u8>, Failure> {
        let placement = self.kernel.with(|kernel| self.place(kernel, ram, firmware::place::FDT_MAX_SIZE))?;
        self.device_tree(ram.range(), placement.initrd)
    }

    fn place(&self, kernel: &Kernel, ram: &GuestRam, tree: u64) -> Result<Placement, Failure> {
        let initrd = self.initrd.as_ref().map_or(0, |initrd| initrd.length);
        firmware::place(kernel, ram.range(), initrd, tree).map_err(|e| Failure::usage(explain(&e)))
    }

    /// Fills RAM, which must be all zeros.
    pub fn load(&self, ram: &GuestRam) -> Result<Entry, Failure> {
        let entry = self.kernel.with(|kernel| self.load_kernel(kernel, ram));
        self.kernel.forget();
        entry
    }

    fn load_kernel(&self, kernel: &Kernel, ram: &GuestRam) -> Result<Entry, Failure> {
        // The tree's length depends on the placement only through numbers of fixed width.
        let probe = self.device_tree(ram.range(), self.initrd.as_ref().map(|_| 0..1))?;
        let placement = self.place(kernel, ram, probe.len() as u64)?;
        let tree = self.device_tree(ram.range(), placement.initrd.clone())?;
        let memory = ram.memory();
        let store = |bytes: &[u8], address: u64, what: &str| {
            memory.write_slice(bytes, GuestAddress(address)).map_err(|e| {
                Failure::usage(format!("{what} does not fit into RAM at {address:#x} ({e}); give more --memory"))
            })
        };
        for load in kernel.loads(&placement) {
            store(load.bytes, load.address, "the kernel")?;
            if load.unread != 0 {
                let done = load.bytes.len() as u64;
                self.kernel.copy(done, load.unread, ram, load.address + done)?;
            }
        }
        store(&tree, placement.fdt, "the device tree")?;
        if let (Some(initrd), Some(range)) = (&self.initrd, &placement.initrd) {
            initrd.load(range.start, &store)?;
        }
        Ok(Entry { pc: placement.entry, x0: placement.fdt })
    }
}

type Store<'a> = &'a dyn Fn(&[u8], u64, &str) -> Result<(), Failure>;

/// An initrd that finds the root on the disks, if the machine can and has to make one.
fn made_initrd(source: &BootSource, kernel: &Kernel, virtio: &VirtioConfig) -> Result<Option<Initrd>, Failure> {
    let request = made_initrd::Request {
        kernel: &source.kernel,
        image: &kernel.bytes,
        modules: source.modules.as_deref(),
        command_line: source.append.as_deref().unwrap_or_default(),
        virtio,
    };
    let made = request.make()?;
    Ok(made.map(|bytes| Initrd { length: bytes.len() as u64, content: Content::Bytes(bytes), path: "made".into() }))
}

fn read_tree(path: &Path) -> Result<Vec<u8>, Failure> {
    firmware::read_file(path, "--dtb", firmware::place::FDT_MAX_SIZE).map_err(|e| Failure::usage(explain(&e)))
}

impl Initrd {
    /// Bytes that tell what kind of file it is.
    const HEAD: u64 = 64 << 10;
    /// Longest initrd from a pipe, which has to be kept for the next reset.
    const LONGEST_PIPE: u64 = 4 << 30;

    fn open(path: &Path) -> Result<Initrd, Failure> {
        let found = |what: &dyn std::fmt::Display| Failure::usage(format!("--initrd {}: {what}", path.display()));
        let is_file = std::fs::metadata(path).is_ok_and(|meta| meta.is_file());
        let (content, length, head) = if is_file {
            let file = File::open(path).map_err(|e| found(&e))?;
            let length = file.metadata().map_err(|e| found(&e))?.len();
            let mut head = Vec::new();
            (&file).take(Self::HEAD).read_to_end(&mut head).map_err(|e| found(&e))?;
            (Content::File(file), length, head)
        } else {
            let bytes =
                firmware::read_file(path, "--initrd", Self::LONGEST_PIPE).map_err(|e| Failure::usage(explain(&e)))?;
            let head = bytes.iter().take(Self::HEAD as usize).copied().collect();
            let length = bytes.len() as u64;
            (Content::Bytes(bytes), length, head)
        };
        firmware::check_initrd(&head).map_err(|e| found(&e))?;
        Ok(Initrd { content, length, path: path.to_owned() })
    }

    /// Copies it into RAM, in pieces: it may be larger than what the host wants to hold twice.
    fn load(&self, address: u64, store: Store<'_>) -> Result<(), Failure> {
        let mut file = match &self.content {
            Content::Bytes(bytes) => return store(bytes, address, "the initrd"),
            Content::File(file) => file,
        };
        let failed = |e: std::io::Error| Failure::backend(format!("--initrd {}: {e}", self.path.display()));
        file.seek(SeekFrom::Start(0)).map_err(failed)?;
        let mut buffer = vec![0u8; 1 << 20];
        let mut offset = 0;
        while offset < self.length {
            let piece = buffer.len().min(usize::try_from(self.length - offset).unwrap_or(usize::MAX));
            let piece = buffer.get_mut(..piece).unwrap_or_default();
            file.read_exact(piece).map_err(failed)?;
            store(piece, address + offset, "the initrd")?;
            offset += piece.len() as u64;
        }
        Ok(())
    }
}

/// Fills a buffer from the host's random generator; false if it has none.
pub fn fill_random(bytes: &mut [u8]) -> bool {
    let mut filled = 0;
    while let Some(rest) = bytes.get_mut(filled..)
        && !rest.is_empty()
    {
        match rustix::rand::getrandom(rest, rustix::rand::GetRandomFlags::empty()) {
            Ok(count) => filled += count,
            Err(rustix::io::Errno::INTR) => {}
            Err(_) => return false,
        }
    }
    true
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn panic_is_added_unless_given() {
        assert_eq!(command_line(None).unwrap(), "console=ttyAMA0 panic=-1");
        assert_eq!(command_line(Some("quiet panic=5")).unwrap(), "quiet panic=5");
        assert_eq!(command_line(Some("panic_on_oops=1")).unwrap(), "panic_on_oops=1 panic=-1");
        assert_eq!(command_line(Some("a -- b c")).unwrap(), "a panic=-1 -- b c");
        assert_eq!(command_line(Some("")).unwrap(), "panic=-1");
        assert!(command_line(Some(&"x".repeat(3000))).unwrap_err().message.contains("--append"));
    }

    #[test]
    fn bad_initrds_are_named() {
        let message = |path: &str| Initrd::open(Path::new(path)).err().map(|e| e.message).unwrap_or_default();
        assert!(message("/").contains("directory"));
        assert!(message("/dev/null").contains("empty"));
        assert!(message("/nonexistent/file").contains("--initrd"));
    }

    #[test]
    fn random_bytes_are_not_all_alike() {
        let mut bytes = [0u8; 64];
        assert!(fill_random(&mut bytes));
        assert!(bytes.iter().any(|&b| b != bytes[0]));
    }
}
