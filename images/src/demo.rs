//! The guest of the first command: Debian's arm64 cloud kernel, and an initramfs with a static BusyBox that ends in a
//! shell. Both come from the archive and are made into what the machine loads in Rust only: no tool of the host is used.

mod initramfs;

use std::path::PathBuf;
use std::time::{SystemTime, UNIX_EPOCH};

use crate::cache::{Cache, CacheError, Sha256Sum};
use crate::debian::{Archive, ArchiveOptions, DebianError};
use crate::http::HttpError;
use crate::kept::{self, Kept, Made, UDHCPC};
use crate::kernel::{self, CLOUD_KERNEL, DEVICES, DISKS, FOR_DEVICES, KernelError};
use crate::progress::Progress;

/// Seconds for which a guest that was made is used without asking the archive for a newer kernel.
const FRESH: u64 = 7 * 24 * 3600;

/// Why there is no demo guest.
#[derive(Debug, thiserror::Error)]
pub enum DemoError {
    /// The archive cannot be used.
    #[error(transparent)]
    Debian(#[from] DebianError),
    /// There is no kernel.
    #[error(transparent)]
    Kernel(#[from] KernelError),
    /// The guest cannot be kept.
    #[error(transparent)]
    Cache(#[from] CacheError),
    /// The initramfs cannot be written.
    #[error("Cannot write the initramfs")]
    Write(#[from] std::io::Error),
}

/// Which guest to make.
#[derive(Clone, Debug)]
pub struct DemoOptions {
    /// Where the packages come from.
    pub archive: ArchiveOptions,
    /// The meta package of the kernel.
    pub kernel: String,
    /// Ask the archive even if a fresh guest is there.
    pub refresh: bool,
}

impl DemoOptions {
    /// The cloud kernel of `suite`. A suite such as `bookworm-backports` is looked at together with the one it adds to.
    pub fn new(suite: &str) -> DemoOptions {
        let mut archive = ArchiveOptions::new(suite);
        if let Some((base, _)) = suite.split_once('-') {
            archive.suites.insert(0, base.to_owned());
        }
        DemoOptions { archive, kernel: CLOUD_KERNEL.to_owned(), refresh: false }
    }
}

/// A kernel and an initramfs, ready to boot.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DemoGuest {
    /// The kernel.
    pub kernel: PathBuf,
    /// The initramfs.
    pub initrd: PathBuf,
    /// Version of the kernel package.
    pub kernel_version: String,
}

impl From<Kept> for DemoGuest {
    fn from(kept: Kept) -> DemoGuest {
        DemoGuest { kernel: kept.kernel, initrd: kept.archive, kernel_version: kept.about }
    }
}

/// Makes the demo guest of `suite` with the mirror of the system's apt; see [`build_with`].
///
/// # Errors
/// [`DemoError`].
pub fn build(suite: &str, cache: &Cache, progress: &dyn Progress) -> Result<DemoGuest, DemoError> {
    build_with(&DemoOptions::new(suite), cache, progress)
}

/// Makes the demo guest, or takes the one made before if it is at most a week old. Without a network any one made before
/// will do.
///
/// # Errors
/// [`DemoError`].
pub fn build_with(options: &DemoOptions, cache: &Cache, progress: &dyn Progress) -> Result<DemoGuest, DemoError> {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |time| time.as_secs());
    let made = kept::find(cache, &name(options), &recipe());
    if let Some(guest) = &made
        && !options.refresh
        && now.saturating_sub(guest.made) < FRESH
    {
        return Ok(guest.clone().into());
    }
    let error = match make(options, cache, progress) {
        Ok(guest) => return Ok(guest),
        Err(error) => error,
    };
    match (made, &error) {
        (
            Some(guest),
            DemoError::Debian(DebianError::Http(HttpError::Failed { .. }))
            | DemoError::Kernel(KernelError::Debian(DebianError::Http(HttpError::Failed { .. }))),
        ) => {
            progress.note(&format!("{error}; using the guest made before"));
            Ok(guest.into())
        }
        _ => Err(error),
    }
}

/// What it is kept as: one for each choice of packages and mirror.
fn name(options: &DemoOptions) -> String {
    let choice = format!("{:?} {:?} {}", options.archive.mirrors, options.archive.suites, options.kernel);
    format!("demo-{}", Sha256Sum::of(choice.as_bytes()))
}

/// Changes with everything that the initramfs is made of beside the packages.
fn recipe() -> String {
    let text =
        [initramfs::INIT, UDHCPC, env!("CARGO_PKG_VERSION"), &DEVICES.join(" "), &format!("{FOR_DEVICES:?}")].concat();
    Sha256Sum::of(text.as_bytes()).to_string()
}

fn make(options: &DemoOptions, cache: &Cache, progress: &dyn Progress) -> Result<DemoGuest, DemoError> {
    let archive = Archive::open(&options.archive, cache, progress)?;
    let busybox = kernel::busybox(&archive, &archive.find("busybox-static")?, progress)?;
    let packages = kernel::packages(&archive, &options.kernel)?;
    let guest = kernel::read(&archive, &packages, progress)?;
    let modules = guest.modules(&[DISKS.as_slice(), &DEVICES].concat())?;
    let initrd = initramfs::write(&busybox, &modules)?;
    let about = packages.first().map(|package| package.version.clone()).unwrap_or_default();
    let made = Made { kernel: &guest.image, archive: &initrd, disk: None, about };
    Ok(kept::keep(cache, &name(options), recipe(), made)?.into())
}

#[cfg(test)]
mod tests;
