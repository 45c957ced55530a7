//! The guest of the first command: Debian's arm64 cloud kernel, and an initramfs with a static BusyBox that ends in a
//! shell. Both come from the archive and are made into what the machine loads in Rust only: no tool of the host is used.

mod initramfs;

use std::path::PathBuf;
use std::time::{SystemTime, UNIX_EPOCH};

use serde::{Deserialize, Serialize};

use crate::cache::{Cache, CacheError, Sha256Sum};
use crate::debian::{Archive, ArchiveOptions, DebianError};
use crate::http::HttpError;
use crate::kernel::{self, CLOUD_KERNEL, KernelError};
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

/// What is remembered of a guest that was made.
#[derive(Serialize, Deserialize)]
struct Manifest {
    /// Changes when guests are made in another way.
    recipe: String,
    /// Seconds since 1970.
    made: u64,
    kernel: Blob,
    initrd: Blob,
    kernel_version: String,
}

#[derive(Serialize, Deserialize)]
struct Blob {
    sha256: String,
    size: u64,
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
    let name = manifest_name(options);
    let made = made_before(cache, &name);
    if let Some((guest, at)) = &made
        && !options.refresh
        && now.saturating_sub(*at) < FRESH
    {
        return Ok(guest.clone());
    }
    let error = match make(options, cache, progress) {
        Ok((guest, mut manifest)) => {
            manifest.made = now;
            let text = serde_json::to_vec_pretty(&manifest).map_err(std::io::Error::from)?;
            cache.replace_named(&name, &text)?;
            return Ok(guest);
        }
        Err(error) => error,
    };
    match (made, &error) {
        (
            Some((guest, _)),
            DemoError::Debian(DebianError::Http(HttpError::Failed { .. }))
            | DemoError::Kernel(KernelError::Debian(DebianError::Http(HttpError::Failed { .. }))),
        ) => {
            progress.note(&format!("{error}; using the guest made before"));
            Ok(guest)
        }
        _ => Err(error),
    }
}

/// The name of the manifest: one for each choice of packages and mirror.
fn manifest_name(options: &DemoOptions) -> String {
    let choice = format!("{:?} {:?} {}", options.archive.mirrors, options.archive.suites, options.kernel);
    format!("demo-{}.json", Sha256Sum::of(choice.as_bytes()))
}

/// Changes with everything that the initramfs is made of beside the packages.
fn recipe() -> String {
    let modules = format!("{:?}", kernel::FOR_DEVICES);
    let parts = [initramfs::INIT, initramfs::UDHCPC, env!("CARGO_PKG_VERSION"), &modules];
    Sha256Sum::of(parts.concat().as_bytes()).to_string()
}

/// The guest that was made before, if all of it is still there, and when it was made.
fn made_before(cache: &Cache, name: &str) -> Option<(DemoGuest, u64)> {
    let manifest: Manifest = serde_json::from_slice(&std::fs::read(cache.named(name)).ok()?).ok()?;
    let find = |blob: &Blob| cache.find(&Sha256Sum::parse(&blob.sha256)?, blob.size);
    if manifest.recipe != recipe() {
        return None;
    }
    let (kernel, initrd) = (find(&manifest.kernel)?, find(&manifest.initrd)?);
    Some((DemoGuest { kernel, initrd, kernel_version: manifest.kernel_version }, manifest.made))
}

fn make(options: &DemoOptions, cache: &Cache, progress: &dyn Progress) -> Result<(DemoGuest, Manifest), DemoError> {
    let archive = Archive::open(&options.archive, cache, progress)?;
    let busybox = kernel::busybox(&archive, &archive.find("busybox-static")?, progress)?;
    let packages = kernel::packages(&archive, &options.kernel)?;
    let guest = kernel::read(&archive, &packages, progress)?;
    let initrd = initramfs::write(&busybox, &guest.modules)?;
    let store = |bytes: &[u8]| {
        let (sum, path) = cache.put(bytes)?;
        Ok::<_, CacheError>((Blob { sha256: sum.to_string(), size: bytes.len() as u64 }, path))
    };
    let ((kernel_blob, kernel_path), (initrd_blob, initrd_path)) = (store(&guest.image)?, store(&initrd)?);
    let kernel_version = packages.first().map(|package| package.version.clone()).unwrap_or_default();
    let guest = DemoGuest { kernel: kernel_path, initrd: initrd_path, kernel_version: kernel_version.clone() };
    let manifest = Manifest { recipe: recipe(), made: 0, kernel: kernel_blob, initrd: initrd_blob, kernel_version };
    Ok((guest, manifest))
}

#[cfg(test)]
mod tests;
