//! Guests by name, such as `debian:bookworm`: a minbase image and a kernel that are made once, kept in the cache, and boot to
//! a login at once from then on.

use std::fs::File;
use std::io::{self, BufReader, BufWriter, Seek, SeekFrom};
use std::path::PathBuf;
use std::time::{SystemTime, UNIX_EPOCH};

use serde::{Deserialize, Serialize};

use crate::build::{self, BuildError, BuildOptions, GuestRunner};
use crate::cache::{Cache, CacheError, Sha256Sum};
use crate::cpio::Writer;
use crate::files;
use crate::format;
use crate::kernel::{GuestKernel, KernelError};
use crate::progress::Progress;

/// Loads the modules of the devices, then goes on as the image would.
const INIT: &str = include_str!("ready/init.sh");
/// What BusyBox' DHCP client calls.
const UDHCPC: &str = include_str!("ready/udhcpc.sh");

/// Why there is no such guest.
#[derive(Debug, thiserror::Error)]
pub enum ReadyError {
    /// It cannot be made.
    #[error(transparent)]
    Build(#[from] BuildError),
    /// There is no kernel for it.
    #[error(transparent)]
    Kernel(#[from] KernelError),
    /// It cannot be kept.
    #[error(transparent)]
    Cache(#[from] CacheError),
    /// It cannot be written.
    #[error("Cannot write the guest's initramfs")]
    Io(#[from] io::Error),
}

/// A kernel and an initramfs, ready to boot.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReadyGuest {
    /// The kernel.
    pub kernel: PathBuf,
    /// The initramfs.
    pub initrd: PathBuf,
}

/// What is remembered of a guest that was made.
#[derive(Serialize, Deserialize)]
struct Manifest {
    /// Changes when guests are made in another way.
    recipe: String,
    /// Seconds since 1970.
    made: u64,
    kernel: Blob,
    initrd: Blob,
}

#[derive(Serialize, Deserialize)]
struct Blob {
    sha256: String,
    size: u64,
}

/// The guest for these options: the one that was made before, else a new one.
///
/// # Errors
/// [`ReadyError`].
pub fn guest(
    options: &BuildOptions,
    cache: &Cache,
    runner: &dyn GuestRunner,
    progress: &dyn Progress,
) -> Result<ReadyGuest, ReadyError> {
    let recipe_hash = options.recipe_hash().map_err(BuildError::from)?;
    let choice = format!("{:?} {} {recipe_hash}", options.archive.mirrors, options.suite());
    let name = format!("guest-{}.json", Sha256Sum::of(choice.as_bytes()));
    if let Some(guest) = made_before(cache, &name) {
        return Ok(guest);
    }
    progress.note(&format!(
        "Debian {} is made for the first use: its packages are fetched and configured in a guest; from then on it starts at once",
        options.suite()
    ));
    let image = build::build(options, cache, runner, progress)?;
    let (kernel, busybox) = build::tools(&image.lock, &options.archive, cache, progress)?;
    progress.begin("writing the guest", None);
    let mut file = BufWriter::with_capacity(1 << 18, files::unnamed(&options.scratch)?);
    // The kernel unpacks one archive after the other; what comes later counts.
    file = format::cpio::write(&image.tree, i64::try_from(image.epoch).unwrap_or(0), file)?;
    file = additions(&kernel, &busybox, file)?;
    let initrd = put(cache, file.into_inner().map_err(io::IntoInnerError::into_error)?)?;
    let (sum, kernel_path) = cache.put(&kernel.image)?;
    let kernel = Blob { sha256: sum.to_string(), size: kernel.image.len() as u64 };
    let made = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |time| time.as_secs());
    let guest = ReadyGuest { kernel: kernel_path, initrd: initrd.1 };
    let manifest = Manifest { recipe: recipe(), made, kernel, initrd: initrd.0 };
    cache.replace_named(&name, &serde_json::to_vec_pretty(&manifest).map_err(io::Error::from)?)?;
    progress.end();
    Ok(guest)
}

/// Keeps a file by its hash.
fn put(cache: &Cache, mut file: File) -> Result<(Blob, PathBuf), ReadyError> {
    file.seek(SeekFrom::Start(0))?;
    let (sum, size) = format::hash(&mut file)?;
    file.seek(SeekFrom::Start(0))?;
    let path = cache.path(&sum);
    let path = cache.store("the guest's initramfs", &sum, size, |out| {
        let copied = io::copy(&mut BufReader::with_capacity(1 << 18, file), out);
        copied.map(drop).map_err(|source| CacheError::Io { path: path.clone(), source })
    })?;
    Ok((Blob { sha256: sum.to_string(), size }, path))
}

/// Changes with everything that such a guest is made of beside the packages.
fn recipe() -> String {
    Sha256Sum::of([INIT, UDHCPC, format::cpio::INIT, env!("CARGO_PKG_VERSION")].concat().as_bytes()).to_string()
}

fn made_before(cache: &Cache, name: &str) -> Option<ReadyGuest> {
    let manifest: Manifest = serde_json::from_slice(&std::fs::read(cache.named(name)).ok()?).ok()?;
    let find = |blob: &Blob| cache.find(&Sha256Sum::parse(&blob.sha256)?, blob.size);
    if manifest.recipe != recipe() {
        return None;
    }
    Some(ReadyGuest { kernel: find(&manifest.kernel)?, initrd: find(&manifest.initrd)? })
}

/// What a guest needs beside its image: the drivers of this machine's devices, and tools to load them.
fn additions<W: io::Write>(kernel: &GuestKernel, busybox: &[u8], out: W) -> io::Result<W> {
    let mut writer = Writer::new(out, 0);
    for name in [".vmm", ".vmm/modules"] {
        writer.directory(name, 0o755)?;
    }
    writer.file(".vmm/busybox", 0o755, busybox)?;
    writer.file(".vmm/init", 0o755, format::cpio::INIT.as_bytes())?;
    writer.file(".vmm/udhcpc", 0o755, UDHCPC.as_bytes())?;
    writer.file("init", 0o755, INIT.as_bytes())?;
    let mut order = String::new();
    for module in &kernel.modules {
        writer.file(&format!(".vmm/modules/{}.ko", module.name), 0o644, &module.contents)?;
        order += &format!("{}.ko\n", module.name);
    }
    writer.file(".vmm/modules/order", 0o644, order.as_bytes())?;
    writer.finish()
}
