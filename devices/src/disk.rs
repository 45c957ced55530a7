//! Disk images on the host: what stands behind a block device of the guest.
//!
//! [`open`] checks, locks and opens an image. A [`Disk`] takes requests from any thread.

pub mod faults;
mod overlay;
mod qcow2;
mod raw;
#[cfg(test)]
mod tests;
#[cfg(test)]
mod truth;
pub mod write_log;

pub use faults::{Fault, FaultyDisk, Injection};
pub use overlay::Overlay;
pub use qcow2::Qcow2Disk;
pub use raw::RawDisk;

use std::fs::File;
use std::io;
use std::os::fd::BorrowedFd;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustix::fs::FlockOperation;

/// Bytes in a sector, the unit of all requests.
pub const SECTOR: u64 = 512;

/// The contents of a disk. Ranges that reach beyond its end are errors. After [`flush`](Self::flush) everything written
/// before it survives a crash of the host.
pub trait Disk: Send + Sync {
    /// Bytes, a multiple of [`SECTOR`].
    fn size(&self) -> u64;
    /// Bytes of the smallest piece that the storage below writes in one go; a power of two.
    fn block_size(&self) -> u32;
    /// Fills `out` from `offset` on.
    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()>;
    /// Writes `data` at `offset`.
    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()>;
    /// Makes everything written so far permanent.
    fn flush(&self) -> io::Result<()>;
    /// The range is not needed any more: its contents are undefined from now on, and its space may be given back.
    fn discard(&self, offset: u64, len: u64) -> io::Result<()>;
    /// The range reads as zeros from now on; with `unmap` its space may be given back.
    fn write_zeroes(&self, offset: u64, len: u64, unmap: bool) -> io::Result<()>;

    /// Whether requests can go to a file directly ([`descriptor`](Self::descriptor)).
    fn is_file(&self) -> bool {
        false
    }
    /// The file in which `bytes`, which begin at `offset` in it, are to be read or written; none if they are not in a file as
    /// they are.
    fn descriptor(&self, offset: u64, bytes: &[u8]) -> Option<BorrowedFd<'_>> {
        let _ = (offset, bytes);
        None
    }
    /// Fills `out` if that takes no wait for storage. False: it would, or this is not known.
    fn read_cached(&self, offset: u64, out: &mut [u8]) -> io::Result<bool> {
        let _ = (offset, out);
        Ok(false)
    }
    /// Whether writes go to the host's page cache, so that they take no wait for storage.
    fn writes_to_cache(&self) -> bool {
        false
    }
}

/// What does transfers side by side.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Aio {
    /// io_uring where it can be, threads elsewhere.
    #[default]
    Auto,
    /// Threads.
    Threads,
}

/// How writes reach the storage.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum CacheMode {
    /// Through the host's page cache; permanent after the guest's flush.
    #[default]
    Writeback,
    /// Through the host's page cache; permanent when a write completes.
    Writethrough,
    /// Past the host's page cache (`O_DIRECT`); permanent after the guest's flush.
    None,
    /// Flushes do nothing: fast, and lost if the host crashes.
    Unsafe,
}

/// How the bytes of a disk lie in its file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// As they are.
    Raw,
    /// QEMU's format: what the guest has written, over a backing file or nothing.
    Qcow2,
}

/// What to open, and how.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DiskOptions {
    /// A file or a block device.
    pub path: PathBuf,
    /// The user says what the format is. Otherwise the contents are looked at: what looks like a qcow2 is taken for one only
    /// if it is called `.qcow2` too, since a guest could write the header of one on a raw disk.
    pub format: Option<Format>,
    /// The guest cannot write.
    pub read_only: bool,
    /// The guest writes into a file that nobody else sees and that is gone afterwards.
    pub ephemeral: bool,
    /// How writes reach the storage.
    pub cache: CacheMode,
}

impl DiskOptions {
    /// The image at `path`, with the defaults.
    pub fn new(path: impl Into<PathBuf>) -> DiskOptions {
        DiskOptions { path: path.into(), format: None, read_only: false, ephemeral: false, cache: CacheMode::default() }
    }
}

/// Why an image cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum DiskError {
    /// It cannot be opened.
    #[error("{path} cannot be opened for {purpose}{hint}")]
    Open {
        /// The image.
        path: PathBuf,
        /// Reading, or reading and writing.
        purpose: &'static str,
        /// What may help.
        hint: &'static str,
        /// What the host says.
        source: io::Error,
    },
    /// It is neither a file nor a block device.
    #[error("{path} is {found}; a disk image is a file or a block device")]
    Kind {
        /// The image.
        path: PathBuf,
        /// What it is.
        found: &'static str,
    },
    /// It has no sectors, or half of one.
    #[error("{path} has {size} bytes, which is no multiple of 512{hint}")]
    Size {
        /// The image.
        path: PathBuf,
        /// Its length.
        size: u64,
        /// What may help.
        hint: String,
    },
    /// Somebody else uses it.
    #[error("{path} is in use by another program{hint}")]
    Locked {
        /// The image.
        path: PathBuf,
        /// What may help.
        hint: &'static str,
    },
    /// It has a format that this program does not read.
    #[error("{path} looks like a {format} image; {hint}, or format=raw if these bytes are the disk")]
    Format {
        /// The image.
        path: PathBuf,
        /// What it looks like.
        format: &'static str,
        /// What helps.
        hint: &'static str,
    },
    /// It is damaged, or made in a way that this program does not know.
    #[error("{path} cannot be used as a {format} image")]
    Image {
        /// The image.
        path: PathBuf,
        /// The format.
        format: &'static str,
        /// What is wrong with it.
        source: io::Error,
    },
    /// It wants another file to be read.
    #[error(
        "{path} says that {backing} is its backing file, which the guest could then read; add format=qcow2 if that is wanted"
    )]
    Backing {
        /// The image.
        path: PathBuf,
        /// The file.
        backing: PathBuf,
    },
    /// Its file system does not do `O_DIRECT`.
    #[error("{path} cannot be used with cache=none: its file system has no direct I/O; use cache=writeback")]
    Direct {
        /// The image.
        path: PathBuf,
        /// What the host says.
        source: io::Error,
    },
    /// There is no room for what the guest writes.
    #[error("No file for ephemeral writes can be made in {directory}; set TMPDIR to a directory with room")]
    Overlay {
        /// Where it was tried.
        directory: PathBuf,
        /// What the host says.
        source: io::Error,
    },
    /// The host fails in some other way.
    #[error("{path} cannot be used")]
    Io {
        /// The image.
        path: PathBuf,
        /// What the host says.
        source: io::Error,
    },
}

/// Opens, checks and locks the image that `options` name. The lock lasts as long as the answer.
pub fn open(options: &DiskOptions) -> Result<Arc<dyn Disk>, DiskError> {
    let writable = !options.read_only && !options.ephemeral;
    let file = open_file(&options.path, writable)?;
    lock_image(&options.path, &file, writable)?;
    let direct = options.cache == CacheMode::None;
    let format = match options.format {
        Some(format) => format,
        None => detect(&options.path, &file)?,
    };
    let image: Box<dyn Disk> = match format {
        Format::Raw => Box::new(RawDisk::new(&options.path, file, writable, direct)?),
        Format::Qcow2 => {
            let follow = options.format.is_some();
            Box::new(Qcow2Disk::new(file, &qcow2::Open { path: &options.path, writable, direct, follow })?)
        }
    };
    if !options.ephemeral {
        return Ok(image.into());
    }
    let directory = temporary_directory();
    let overlay = Overlay::new(image, &directory).map_err(|source| DiskError::Overlay { directory, source })?;
    Ok(Arc::new(overlay))
}

fn open_file(path: &Path, writable: bool) -> Result<File, DiskError> {
    let failed = |source: io::Error| {
        let denied =
            writable && matches!(source.kind(), io::ErrorKind::PermissionDenied | io::ErrorKind::ReadOnlyFilesystem);
        let hint = if denied { "; add readonly, or ephemeral to throw the guest's writes away" } else { "" };
        let purpose = if writable { "reading and writing" } else { "reading" };
        DiskError::Open { path: path.to_owned(), purpose, hint, source }
    };
    let kind = std::fs::metadata(path).map_err(failed)?.file_type();
    use std::os::unix::fs::FileTypeExt;
    if !kind.is_file() && !kind.is_block_device() {
        let found = if kind.is_dir() {
            "a directory"
        } else if kind.is_char_device() {
            "a character device"
        } else {
            "a pipe or a socket"
        };
        return Err(DiskError::Kind { path: path.to_owned(), found });
    }
    File::options().read(true).write(writable).open(path).map_err(failed)
}

/// One writer, or any number of readers.
fn lock_image(path: &Path, file: &File, writable: bool) -> Result<(), DiskError> {
    let (operation, hint) = if writable {
        (
            FlockOperation::NonBlockingLockExclusive,
            ": two writers would destroy it. End the other program, or use a copy; a disk that only readers use can be shared with readonly or ephemeral",
        )
    } else {
        (FlockOperation::NonBlockingLockShared, ", which may write to it: end that program, or use a copy")
    };
    match rustix::fs::flock(file, operation) {
        Ok(()) => Ok(()),
        Err(rustix::io::Errno::WOULDBLOCK) => Err(DiskError::Locked { path: path.to_owned(), hint }),
        // A file system without locks: nothing can be promised there.
        Err(rustix::io::Errno::NOLCK | rustix::io::Errno::OPNOTSUPP | rustix::io::Errno::NOSYS) => Ok(()),
        Err(error) => Err(DiskError::Io { path: path.to_owned(), source: error.into() }),
    }
}

/// The format of an image of which the user does not say it.
fn detect(path: &Path, file: &File) -> Result<Format, DiskError> {
    let mut head = [0; 8];
    // An image too short for a magic number has none.
    let known = match file.read_exact_at(&mut head, 0).map(|()| head) {
        Ok(bytes) if bytes.starts_with(&qcow2::MAGIC) => {
            if path.extension().is_some_and(|name| name == "qcow2") {
                return Ok(Format::Qcow2);
            }
            Some("qcow2")
        }
        Ok([b'K', b'D', b'M', b'V', ..]) => Some("vmdk"),
        Ok(bytes) if &bytes == b"conectix" => Some("vhd"),
        Ok(bytes) if &bytes == b"vhdxfile" => Some("vhdx"),
        _ => None,
    };
    match known {
        None => Ok(Format::Raw),
        Some(format) => {
            let hint = if format == "qcow2" { "add format=qcow2" } else { "convert it (qemu-img convert -O qcow2)" };
            Err(DiskError::Format { path: path.to_owned(), format, hint })
        }
    }
}

/// `TMPDIR`, or where large temporary files belong.
fn temporary_directory() -> PathBuf {
    match std::env::var_os("TMPDIR") {
        Some(directory) => directory.into(),
        None if Path::new("/var/tmp").is_dir() => "/var/tmp".into(),
        None => std::env::temp_dir(),
    }
}

/// The error for a range that is not on the disk.
fn beyond_the_end() -> io::Error {
    io::Error::new(io::ErrorKind::InvalidInput, "range beyond the end of the disk")
}

/// Checks that `len` bytes at `offset` are on a disk of `size` bytes.
fn check_range(size: u64, offset: u64, len: u64) -> io::Result<()> {
    match offset.checked_add(len) {
        Some(end) if end <= size => Ok(()),
        _ => Err(beyond_the_end()),
    }
}
