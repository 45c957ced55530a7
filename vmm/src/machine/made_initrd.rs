//! The initrd that the machine makes itself where a Linux kernel and a disk are given, but no initrd.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use devices::disk::{self, Disk};
use images::initrd::{self, DiskView, Words};
use images::kernel::ModuleSet;

use super::virtio::{Transport, VirtioConfig};
use crate::exit::{Failure, explain};

/// What decides about it.
pub struct Request<'a> {
    /// The kernel's file.
    pub kernel: &'a Path,
    /// The kernel, unwrapped.
    pub image: &'a [u8],
    /// `--modules`.
    pub modules: Option<&'a Path>,
    /// The kernel's command line.
    pub command_line: &'a str,
    /// The disks, and how they are reached.
    pub virtio: &'a VirtioConfig,
}

impl Request<'_> {
    /// The initrd; `None` if the kernel has to do without: no disk, no Linux, or no modules next to it and none named.
    ///
    /// # Errors
    /// Modules without a driver that is needed, no root on the disks, and what cannot be read.
    pub fn make(&self) -> Result<Option<Vec<u8>>, Failure> {
        if self.virtio.disks.is_empty() {
            return match self.modules {
                None => Ok(None),
                Some(_) => Err(Failure::usage("--modules is for booting from a disk; add --disk IMAGE")),
            };
        }
        let version = initrd::kernel_version(self.image);
        let (path, version) = match (self.modules, version) {
            (None, None) => return Ok(None),
            (Some(_), None) => {
                let kernel = self.kernel.display();
                return Err(Failure::usage(format!(
                    "--modules: {kernel} has no Linux version in it; is it a Linux kernel?"
                )));
            }
            (Some(path), Some(version)) => (path.to_owned(), version),
            (None, Some(version)) => match initrd::modules_beside(self.kernel, &version) {
                Some(path) => (path, version),
                None => return Ok(None),
            },
        };
        let bytes =
            self.made_from(&path, &version).map_err(|e| Failure::usage(format!("{}{}", self.blame(), explain(&e))))?;
        Ok(Some(bytes))
    }

    /// Which option an error is about.
    fn blame(&self) -> &'static str {
        if self.modules.is_some() { "--modules: " } else { "no --initrd, and none can be made: " }
    }

    fn made_from(&self, path: &Path, version: &str) -> Result<Vec<u8>, initrd::InitrdError> {
        let words = Words::of(self.command_line);
        let disks = self.open_disks()?;
        let readers: Vec<_> =
            disks.iter().map(|disk| move |offset: u64, out: &mut [u8]| disk.read(offset, out)).collect();
        let views: Vec<DiskView<'_>> =
            disks.iter().zip(&readers).map(|(disk, read)| DiskView { size: disk.size(), read }).collect();
        let root = initrd::find_root(&views, &words)?;
        let transport = match self.virtio.transport {
            Transport::Pci => "virtio_pci",
            Transport::Mmio => "virtio_mmio",
        };
        initrd::make(&ModuleSet::open(path, version)?, (path, version), transport, &root, &words)
    }

    /// The disks, only to be looked at; they are closed again before the machine opens them.
    fn open_disks(&self) -> Result<Vec<Arc<dyn Disk>>, initrd::InitrdError> {
        let open = |config: &super::virtio::DiskConfig| {
            let mut options = config.image.clone();
            (options.read_only, options.ephemeral) = (true, false);
            let failed = |path: PathBuf, error| initrd::InitrdError::Io { path, source: std::io::Error::other(error) };
            disk::open(&options).map_err(|error| failed(options.path.clone(), error))
        };
        self.virtio.disks.iter().map(open).collect()
    }
}
