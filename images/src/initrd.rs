//! An initrd made for one kernel and one root disk, where the user gives none: it loads the drivers that Debian's kernels
//! have as modules, mounts the root and starts its init. `docs/design/initrd.md` has the whole picture.

mod init;
mod root;

use std::io;
use std::path::{Path, PathBuf};

pub use root::{DiskView, Root, Words, find as find_root, root_extent};

use crate::cpio::Writer;
use crate::kernel::{DEVICES, ModuleError, ModuleSet};

/// Where the modules lie in the initrd.
const FOLDER: &str = "modules";
/// What systemd asks for at its start, where the root may have no modules for this kernel.
const SYSTEMD: [&str; 2] = ["autofs4", "binfmt_misc"];
/// What the kernel tries, too, where the command line has no `init=`.
const PROGRAMS: [&str; 4] = ["/sbin/init", "/etc/init", "/bin/init", "/bin/sh"];
/// Why there is no initrd.
#[derive(Debug, thiserror::Error)]
pub enum InitrdError {
    /// The modules cannot be read.
    #[error(transparent)]
    Modules(#[from] ModuleError),
    /// A file cannot be read.
    #[error("Cannot read {}", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// What the host says.
        source: io::Error,
    },
    /// A driver is neither there nor built in.
    #[error("The modules in {} have no driver {name}, which the root disk needs; {hint}", path.display())]
    NoDriver {
        /// The modules.
        path: PathBuf,
        /// The module's name.
        name: String,
        /// What helps.
        hint: String,
    },
    /// No root.
    #[error(
        "No disk has {wanted}; there is {found}. Name the root with --append root=/dev/vdXN, UUID=, LABEL= or PARTUUID="
    )]
    NoRoot {
        /// What was looked for.
        wanted: String,
        /// What there is.
        found: String,
    },
}

/// The version of the Linux kernel whose unpacked image this is, such as `6.1.0-50-cloud-arm64`: the second word of its
/// banner.
pub fn kernel_version(image: &[u8]) -> Option<String> {
    const BANNER: &[u8] = b"Linux version ";
    /// Longest version; the kernel's own limit (`UTS_RELEASE`) is 64.
    const LONGEST: usize = 64;
    let mut rest = image;
    while let Some(at) = memchr::memmem::find(rest, BANNER) {
        rest = rest.get(at + BANNER.len()..)?;
        let word = rest.split(|byte| *byte == b' ').next()?;
        let is_version = word.first().is_some_and(u8::is_ascii_digit)
            && word.len() <= LONGEST
            && word.iter().all(|byte| byte.is_ascii_alphanumeric() || b".-+~_".contains(byte));
        if is_version {
            return String::from_utf8(word.to_vec()).ok();
        }
    }
    None
}

/// The kernel's modules next to the kernel: its package in the same folder, or `lib/modules` of the tree that the kernel
/// is in.
pub fn modules_beside(kernel: &Path, version: &str) -> Option<PathBuf> {
    let folder = kernel.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let prefixes = [format!("linux-image-{version}_"), format!("linux-modules-{version}_")];
    let is_package = |name: &str| name.ends_with(".deb") && prefixes.iter().any(|prefix| name.starts_with(prefix));
    let mut packages: Vec<PathBuf> = std::fs::read_dir(folder)
        .ok()?
        .filter_map(Result::ok)
        .filter(|entry| entry.file_name().to_str().is_some_and(is_package))
        .map(|entry| entry.path())
        .collect();
    packages.sort();
    let trees = ["", "usr", "..", "../usr"].map(|tree| folder.join(tree).join("lib/modules").join(version));
    // The image itself may be among the modules: `lib/modules/VERSION/vmlinuz`.
    let own = folder.file_name().is_some_and(|name| name == version).then(|| folder.to_owned());
    packages.pop().or_else(|| own.into_iter().chain(trees).find(|tree| tree.join("kernel").is_dir()))
}

/// Makes the initrd, a cpio archive, for a machine whose disks are reached by the driver `transport` (`virtio_pci` or
/// `virtio_mmio`). The same inputs give the same bytes.
///
/// # Errors
/// [`InitrdError::NoDriver`] and modules that cannot be read.
pub fn make(
    set: &ModuleSet,
    (origin, version): (&Path, &str),
    transport: &str,
    root: &Root,
    words: &Words,
) -> Result<Vec<u8>, InitrdError> {
    let needed = [transport, "virtio_blk", root.file_system];
    if let Some(missing) = needed.into_iter().find(|name| !set.has(name)) {
        let hint = match set.knows_built_in() {
            true => "use the kernel's full package".to_owned(),
            false => format!(
                "there is no modules.builtin either, the list of what the kernel has built in: put the package \
                 linux-base-{version} beside it, or use the folder lib/modules/{version} with all of its files"
            ),
        };
        return Err(InitrdError::NoDriver { path: origin.to_owned(), name: missing.to_owned(), hint });
    }
    let names: Vec<&str> = needed.into_iter().chain(DEVICES).chain(SYSTEMD).collect();
    let modules = set.in_order(&names)?;
    let paths: Vec<String> = modules.iter().map(|module| format!("/{FOLDER}/{}.ko", module.name)).collect();
    let programs: Vec<String> =
        words.init.clone().map_or_else(|| PROGRAMS.map(str::to_owned).to_vec(), |program| vec![program]);
    let written = || -> io::Result<Vec<u8>> {
        let mut archive = Writer::new(Vec::new(), 0);
        for (folder, mode) in [("dev", 0o755), ("root", 0o700), (FOLDER, 0o755)] {
            archive.directory(folder, mode)?;
        }
        archive.character_device("dev/console", 0o600, 5, 1)?;
        for module in &modules {
            archive.file(&format!("{FOLDER}/{}.ko", module.name), 0o644, &module.contents)?;
        }
        archive.file("init", 0o755, &init::program(root, &paths, &programs))?;
        archive.finish()
    };
    written().map_err(|source| InitrdError::Io { path: origin.to_owned(), source })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_version_is_in_the_banner() {
        let image = b"..Linux version %s (%s)\0..Linux version 6.1.0-50-cloud-arm64 (debian-kernel@\n";
        assert_eq!(kernel_version(image).as_deref(), Some("6.1.0-50-cloud-arm64"));
        assert_eq!(kernel_version(b"Linux version ../../etc "), None);
        assert_eq!(kernel_version(b"Linux version"), None);
    }
}
