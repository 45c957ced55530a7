//! Guests by name, such as `debian:bookworm`: a minbase image on a disk and a kernel that are made once, kept in the cache,
//! and boot to a login at once from then on. The guest writes to a layer of its own that vanishes with it.

use std::io;
use std::path::PathBuf;

use crate::build::{self, BuildError, BuildOptions, GuestRunner, Image};
use crate::cache::{Cache, CacheError, Sha256Sum};
use crate::files::Pending;
use crate::format::{self, disk};
use crate::kept::{self, Kept, Made, UDHCPC};
use crate::kernel::{DEVICES, DISKS, KernelError};
use crate::progress::Progress;
use crate::tree::{Inode, Kind, Spool, Tree};

/// Brings the network up, then goes on as the image would.
const INIT: &str = include_str!("ready/init.sh");
/// Where these programs are in the guest.
const FOLDER: &str = ".vmm";
/// Room on the disk, most of which is a hole.
const DISK_SIZE: u64 = 8 << 30;

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
    #[error("Cannot write the guest's disk")]
    Io(#[from] io::Error),
}

/// A guest, ready to boot from its disk.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReadyGuest {
    /// The kernel.
    pub kernel: PathBuf,
    /// The kernel's modules.
    pub modules: PathBuf,
    /// The disk with the root, an ext4 file system. Others use it too: it must not be written to.
    pub disk: PathBuf,
    /// What the kernel has to be told.
    pub words: String,
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
    let name = format!("guest-{}", Sha256Sum::of(choice.as_bytes()));
    if let Some(kept) = kept::find(cache, &name, &recipe()) {
        return ready(kept);
    }
    progress.note(&format!(
        "Debian {} is made for the first use: its packages are fetched and configured in a guest; from then on it starts at once",
        options.suite()
    ));
    let mut image = build::build(options, cache, runner, progress)?;
    let (kernel, busybox) = build::tools(&image.lock, &options.archive, cache, progress)?;
    progress.begin("writing the guest", None);
    // What is added is read from a spool, too.
    let spool = Spool::new(&options.scratch)?;
    additions(&mut image, &busybox, &spool)?;
    let file_system = format::file_system(&image.tree, image.epoch, Some(DISK_SIZE));
    let (pending, file) = Pending::file(&kept::disk_path(cache, &name))?;
    format::ext4::write(&image.tree, &file_system, &file, 0)?;
    let names = [DISKS.as_slice(), &["ext4"], &DEVICES].concat();
    let modules = kernel.modules.archive(&names, &kernel.version);
    let modules = modules.map_err(|source| KernelError::Module { package: kernel.package.clone(), source })?;
    let about = disk::uuid_text(&file_system.uuid);
    let made = Made { kernel: &kernel.image, archive: &modules, disk: Some((pending, file)), about };
    let kept = kept::keep(cache, &name, recipe(), made)?;
    progress.end();
    ready(kept)
}

fn ready(kept: Kept) -> Result<ReadyGuest, ReadyError> {
    let disk = kept.disk.ok_or_else(|| io::Error::other("it was kept without one"))?;
    let words = format!("root=UUID={} init=/{FOLDER}/init", kept.about);
    Ok(ReadyGuest { kernel: kept.kernel, modules: kept.archive, disk, words })
}

/// Changes with everything that such a guest is made of beside the packages.
fn recipe() -> String {
    let text = [INIT, UDHCPC, format::cpio::INIT, env!("CARGO_PKG_VERSION"), &DEVICES.join(" "), "ext4"].concat();
    Sha256Sum::of(text.as_bytes()).to_string()
}

/// What the guest needs beside its image: a first process, and the tools of the network.
fn additions(image: &mut Image, busybox: &[u8], spool: &Spool) -> io::Result<()> {
    let epoch = i64::try_from(image.epoch).unwrap_or(0);
    let tree: &mut Tree = &mut image.tree;
    tree.insert(FOLDER.as_bytes(), Inode::new(Kind::Directory, 0o755, epoch));
    let files = [("busybox", busybox), ("init", INIT.as_bytes()), ("start", format::cpio::INIT.as_bytes())];
    for (name, contents) in files.into_iter().chain([("udhcpc", UDHCPC.as_bytes())]) {
        let file = Inode::new(Kind::File(spool.put(contents)?), 0o755, epoch);
        tree.insert(format!("{FOLDER}/{name}").as_bytes(), file);
    }
    Ok(())
}
