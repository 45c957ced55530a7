//! Debian's kernel for a guest: the image, and the modules of the devices that the machine offers.

mod modules;

pub(crate) use modules::FOR_DEVICES;
pub use modules::{DEVICES, DISKS, Module, ModuleError, ModuleSet};

use std::path::Path;

use crate::deb::{self, DebError, DebFile};
use crate::debian::{Archive, DebianError, Package, compare_versions};
use crate::progress::Progress;

/// Greatest size of what is taken out of a package.
const MAX_CONTENTS: u64 = 512 << 20;
/// The package whose dependency is the newest cloud kernel.
pub const CLOUD_KERNEL: &str = "linux-image-cloud-arm64";

/// Why there is no kernel.
#[derive(Debug, thiserror::Error)]
pub enum KernelError {
    /// The archive cannot be used.
    #[error(transparent)]
    Debian(#[from] DebianError),
    /// A package cannot be read.
    #[error(transparent)]
    Deb(#[from] DebError),
    /// A package is not made as expected.
    #[error("The package {package} has no {what}: is it Debian's?")]
    Missing {
        /// The package.
        package: String,
        /// What is not in it.
        what: &'static str,
    },
    /// No initrd can be made of it.
    #[error("No initrd can be made for the kernel of {package}")]
    Initrd {
        /// The package.
        package: String,
        /// What is wrong.
        source: std::io::Error,
    },
    /// A module cannot be unpacked.
    #[error("A kernel module of {package} is damaged")]
    Module {
        /// The package.
        package: String,
        /// What the decoder said.
        source: ModuleError,
    },
}

/// A kernel, ready to boot.
#[derive(Clone, Debug)]
pub struct GuestKernel {
    /// The name of its package.
    pub package: String,
    /// Its version as it says it itself, such as `6.1.0-50-cloud-arm64`.
    pub version: String,
    /// The image.
    pub image: Vec<u8>,
    /// Its modules of devices and file systems.
    pub modules: ModuleSet,
}

impl GuestKernel {
    /// The modules `names` and those that they need, in an order in which they can be loaded.
    ///
    /// # Errors
    /// [`KernelError::Module`].
    pub fn modules(&self, names: &[&str]) -> Result<Vec<Module>, KernelError> {
        self.modules.in_order(names).map_err(|source| KernelError::Module { package: self.package.clone(), source })
    }
}

/// The packages that the kernel of the meta package `name` consists of, the one with the image first.
///
/// # Errors
/// [`KernelError::Debian`].
pub fn packages(archive: &Archive, name: &str) -> Result<Vec<Package>, KernelError> {
    packages_of(archive, archive.find(name)?)
}

/// The same, of the newest version of the meta package whose packages the archive really has: that of a suite's updates may be
/// gone from a mirror, or be there before its files are. They are in the cache then.
///
/// # Errors
/// [`KernelError::Debian`]: what was wrong with the newest.
pub fn available(archive: &Archive, name: &str, progress: &dyn Progress) -> Result<Vec<Package>, KernelError> {
    let mut versions = archive.index().named(name);
    versions.sort_by(|a, b| compare_versions(&b.version, &a.version));
    let mut newest = None;
    for meta in versions {
        let version = meta.version.clone();
        let fetched = packages_of(archive, meta).and_then(|packages| {
            for package in packages.iter().filter(|package| !archive.has(package)) {
                archive.fetch(package, progress)?;
            }
            Ok(packages)
        });
        match fetched {
            Err(KernelError::Debian(DebianError::Gone { what })) => {
                progress.note(&format!("{name} {version} is passed over: {what}"));
                newest.get_or_insert(DebianError::Gone { what });
            }
            Err(KernelError::Debian(error @ DebianError::NoPackage { .. })) => {
                progress.note(&format!("{name} {version} is passed over: {error}"));
                newest.get_or_insert(error);
            }
            result => return result,
        }
    }
    match newest {
        Some(error) => Err(error.into()),
        // There is none: the error says so.
        None => packages(archive, name),
    }
}

fn packages_of(archive: &Archive, meta: Package) -> Result<Vec<Package>, KernelError> {
    let kernel = meta.depends.iter().flatten().find(|dependency| dependency.name.starts_with("linux-image-"));
    let kernel = match kernel {
        Some(kernel) => match kernel.exactly() {
            Some(version) => archive.find_version(&kernel.name, version)?,
            None => archive.find(&kernel.name)?,
        },
        // A package with a kernel of its own.
        None => meta,
    };
    // Newer packages have the modules apart, and still newer ones the image and the list of what is built in too. (The
    // package `linux-base` is another thing.)
    let apart = |name: &&str| modules::PACKAGES.iter().any(|kind| name.starts_with(kind));
    let apart: Vec<&str> = kernel.depends.iter().flatten().map(|one| one.name.as_str()).filter(apart).collect();
    let mut packages = Vec::new();
    for name in apart {
        packages.push(archive.find(name)?);
    }
    packages.insert(0, kernel);
    Ok(packages)
}

/// Reads the kernel of these [`packages`].
///
/// # Errors
/// [`KernelError`].
pub fn read(archive: &Archive, packages: &[Package], progress: &dyn Progress) -> Result<GuestKernel, KernelError> {
    let package = packages.first().map(|package| package.name.clone()).unwrap_or_default();
    let mut files = Vec::new();
    for package in packages {
        files.extend(read_files(
            archive,
            package,
            |name| image_version(name).is_some() || modules::is_useful(name),
            progress,
        )?);
    }
    let (images, modules): (Vec<DebFile>, Vec<DebFile>) =
        files.into_iter().partition(|file| image_version(&file.name).is_some());
    let missing = || KernelError::Missing { package: package.clone(), what: "boot/vmlinuz" };
    let image = images.into_iter().next().ok_or_else(missing)?;
    let version = image_version(&image.name).unwrap_or_default().to_owned();
    let modules = ModuleSet::of_files(Path::new(&package), modules, &version)
        .map_err(|source| KernelError::Module { package: package.clone(), source })?;
    Ok(GuestKernel { package, version, image: image.contents, modules })
}

/// The static BusyBox of the package `busybox-static`.
///
/// # Errors
/// [`KernelError`].
pub fn busybox(archive: &Archive, package: &Package, progress: &dyn Progress) -> Result<Vec<u8>, KernelError> {
    let files = read_files(archive, package, |name| name.ends_with("bin/busybox"), progress)?;
    let missing = || KernelError::Missing { package: package.name.clone(), what: "bin/busybox" };
    Ok(files.into_iter().next().ok_or_else(missing)?.contents)
}

/// systemd-boot for UEFI, of a package that has it.
///
/// # Errors
/// [`KernelError`].
pub fn boot_loader(archive: &Archive, package: &Package, progress: &dyn Progress) -> Result<Vec<u8>, KernelError> {
    const NAME: &str = "systemd-bootaa64.efi";
    let files = read_files(archive, package, |name| name.ends_with(NAME), progress)?;
    let missing = || KernelError::Missing { package: package.name.clone(), what: NAME };
    Ok(files.into_iter().next().ok_or_else(missing)?.contents)
}

/// The version of the kernel that a file of a package is; nothing for other files.
fn image_version(name: &str) -> Option<&str> {
    let beside_modules = || {
        let name = name.strip_prefix("usr/").unwrap_or(name).strip_prefix("lib/modules/")?;
        name.strip_suffix("/vmlinuz").filter(|version| !version.contains('/'))
    };
    name.strip_prefix("boot/vmlinuz-").or_else(beside_modules)
}

/// The wanted files of a package.
fn read_files(
    archive: &Archive,
    package: &Package,
    wanted: impl Fn(&str) -> bool,
    progress: &dyn Progress,
) -> Result<Vec<DebFile>, KernelError> {
    let path = archive.fetch(package, progress)?;
    progress.begin(&format!("unpacking {} {}", package.name, package.version), None);
    let files = deb::read_files(&path, wanted, MAX_CONTENTS);
    progress.end();
    Ok(files?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_kernel_that_is_gone_from_the_mirror_is_passed_over() {
        use crate::cache::{Cache, tests::Scratch};
        use crate::debian::archive::tests::{DATE, Server, options, package, publish};
        use crate::debian::signature::tests::make_key;
        use crate::progress::Silent;
        let scratch = Scratch::new("kernel-gone");
        let (server, key) = (Server::start(), make_key());
        let kernel = |version: &str| {
            package(&server, CLOUD_KERNEL, version, &format!("linux-image-{version} (= {version})"), &[])
                + &package(&server, &format!("linux-image-{version}"), version, "", &[])
        };
        publish(&server, &key, "one", &(kernel("5.9") + &kernel("5.10")), DATE);
        let cache = Cache::new(scratch.0.join("cache"));
        let archive = Archive::open(&options(&server, &key, &scratch, "one"), &cache, &Silent).expect("opens");
        server.files.lock().expect("no panic").remove("pool/linux-image-5.10_5.10_arm64.deb");
        assert_eq!(packages(&archive, CLOUD_KERNEL).expect("listed")[0].version, "5.10");
        assert_eq!(available(&archive, CLOUD_KERNEL, &Silent).expect("the other")[0].version, "5.9");
        server.files.lock().expect("no panic").remove("pool/linux-image-5.9_5.9_arm64.deb");
        archive
            .find("linux-image-5.9")
            .map(|one| std::fs::remove_file(cache.path(&one.sha256)))
            .expect("there")
            .expect("kept");
        let error = available(&archive, CLOUD_KERNEL, &Silent).expect_err("both are gone");
        assert!(error.to_string().contains("linux-image-5.10"), "{error}");
        assert_eq!(archive.find_available(CLOUD_KERNEL, &Silent).expect("there").version, "5.10");
        server.files.lock().expect("no panic").remove(&format!("pool/{CLOUD_KERNEL}_5.10_arm64.deb"));
        archive
            .find(CLOUD_KERNEL)
            .map(|one| std::fs::remove_file(cache.path(&one.sha256)))
            .expect("there")
            .expect("kept");
        assert_eq!(archive.find_available(CLOUD_KERNEL, &Silent).expect("there").version, "5.9");
        let error = available(&archive, "linux-image-other", &Silent).expect_err("unknown");
        assert!(matches!(error, KernelError::Debian(DebianError::NoPackage { .. })), "{error}");
    }

    #[test]
    fn kernels_are_known_by_their_places() {
        assert_eq!(image_version("boot/vmlinuz-6.1.0-50-cloud-arm64"), Some("6.1.0-50-cloud-arm64"));
        assert_eq!(image_version("usr/lib/modules/7.2.13/vmlinuz"), Some("7.2.13"));
        assert_eq!(image_version("usr/lib/modules/7.2.13/kernel/vmlinuz"), None);
        assert_eq!(image_version("boot/config-6.1"), None);
    }
}
