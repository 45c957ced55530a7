//! qcow2 images, by crate `imago`: backing files, compressed clusters, zero clusters.
//!
//! An image names its backing file itself, and who made the image may not be who runs it. So this module opens every file
//! of a chain by itself, read-only and locked as the image is, and lets the crate open none; and a chain is followed only
//! if the user said that the image is a qcow2.

mod sound;

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, PoisonError, RwLock};

use imago::file::File as ImageFile;
use imago::qcow2::Qcow2;
use imago::raw::Raw;
use imago::storage::{Storage, StorageOpenOptions};
use imago::{DenyImplicitOpenGate, FormatAccess, FormatDriverBuilder};

use crate::contained::contain;

use super::{Disk, DiskError, SECTOR, check_range, lock_image, open_file, raw};

/// "QFI\xfb".
pub(super) const MAGIC: [u8; 4] = *b"QFI\xfb";
/// Longest chain of backing files.
const LONGEST_CHAIN: usize = 32;
/// Bytes at the start of an image in which header, extensions and name of the backing file are: the smallest cluster that
/// QEMU makes is 512 bytes, its default 64 KiB.
const HEAD: usize = 64 << 10;
/// Longest name of a backing file.
const LONGEST_NAME: usize = 1023;
/// Incompatible feature: reference counts may be wrong.
const FEATURE_DIRTY: u64 = 1;
/// Incompatible feature: some structure is wrong.
const FEATURE_CORRUPT: u64 = 2;
/// Incompatible feature: the guest's data is in another file.
const FEATURE_DATA_FILE: u64 = 4;
/// Zeros are written in pieces of this size to images that have no zero clusters.
const ZEROS: u64 = 64 << 10;
/// Header extension: format of the backing file.
const EXTENSION_BACKING_FORMAT: u32 = 0xe279_2aca;

/// A qcow2 image.
pub struct Qcow2Disk<S: Storage + 'static = ImageFile> {
    /// Discarding takes mappings away from under requests, so it excludes them.
    access: RwLock<FormatAccess<S>>,
    size: u64,
    cluster: u32,
    /// The crate has failed in a way that leaves nothing to rely on.
    broken: AtomicBool,
    /// What keeps the images locked, where the crate has files of its own.
    _locks: Vec<File>,
}

/// What a header says about the backing file.
#[derive(Debug, Default, PartialEq, Eq)]
struct Backing {
    name: Option<String>,
    format: Option<String>,
}

/// How an image is to be opened.
pub(super) struct Open<'a> {
    pub(super) path: &'a Path,
    pub(super) writable: bool,
    pub(super) direct: bool,
    /// Its backing files may be read.
    pub(super) follow: bool,
}

impl Qcow2Disk<ImageFile> {
    /// The image in `file`, which was opened from `open.path` and is locked.
    pub(super) fn new(file: File, open: &Open<'_>) -> Result<Qcow2Disk, DiskError> {
        let mut locks = Vec::new();
        let cluster = cluster_size(&file);
        let access = contain(|| open_layer(file, open, &mut locks, 0)).unwrap_or_else(|| Err(open.failed(defect())))?;
        Qcow2Disk::over(access, cluster, locks).map_err(|source| open.failed(source))
    }
}

impl<S: Storage + 'static> Qcow2Disk<S> {
    /// An image that is open.
    fn over(access: FormatAccess<S>, cluster: u32, locks: Vec<File>) -> io::Result<Qcow2Disk<S>> {
        // Formats count in bytes, disks in sectors: the rest of the last one is not the guest's.
        let size = access.size() / SECTOR * SECTOR;
        if size == 0 {
            return Err(io::Error::new(io::ErrorKind::InvalidData, "the disk in it has no sectors"));
        }
        Ok(Qcow2Disk { access: RwLock::new(access), size, cluster, broken: AtomicBool::new(false), _locks: locks })
    }

    #[cfg(test)]
    pub(super) fn of_storage(storage: S) -> io::Result<Qcow2Disk<S>> {
        let builder = Qcow2::<S, Arc<FormatAccess<S>>>::builder(storage);
        let image = builder.write(true).backing(None).open(DenyImplicitOpenGate::default())?;
        Qcow2Disk::over(FormatAccess::new(image), 0x1_0000, Vec::new())
    }

    fn shared<T>(&self, act: impl FnOnce(&FormatAccess<S>) -> io::Result<T>) -> io::Result<T> {
        self.contained(|| act(&self.access.read().unwrap_or_else(PoisonError::into_inner)))
    }

    fn alone<T>(&self, act: impl FnOnce(&mut FormatAccess<S>) -> io::Result<T>) -> io::Result<T> {
        self.contained(|| act(&mut self.access.write().unwrap_or_else(PoisonError::into_inner)))
    }

    /// Calls the crate. A panic in it is an error, and the last call: the image on the host stays as it is.
    fn contained<T>(&self, act: impl FnOnce() -> io::Result<T>) -> io::Result<T> {
        if self.broken.load(Ordering::SeqCst) {
            return Err(defect());
        }
        contain(act).unwrap_or_else(|| {
            self.broken.store(true, Ordering::SeqCst);
            Err(defect())
        })
    }
}

/// What a panic in the crate is to the guest's requests.
fn defect() -> io::Error {
    io::Error::other("a defect in the code for qcow2 was met; the disk is not used any more")
}

impl Open<'_> {
    fn failed(&self, source: io::Error) -> DiskError {
        DiskError::Image { path: self.path.to_owned(), format: "qcow2", source }
    }
}

fn open_layer(
    file: File,
    open: &Open<'_>,
    locks: &mut Vec<File>,
    depth: usize,
) -> Result<FormatAccess<ImageFile>, DiskError> {
    let failed = |source| open.failed(source);
    let backing = read_backing(&file).map_err(failed)?;
    let backing = match &backing.name {
        None => None,
        Some(name) if !open.follow => {
            return Err(DiskError::Backing { path: open.path.to_owned(), backing: name.into() });
        }
        Some(_) if depth == LONGEST_CHAIN => {
            return Err(failed(invalid(format!("it has more than {LONGEST_CHAIN} backing files below it"))));
        }
        Some(name) => Some(Arc::new(open_backing(name, backing.format.as_deref(), open, locks, depth)?)),
    };
    let image = Qcow2::builder(storage(file, open, locks)?)
        .write(open.writable)
        .backing(backing)
        .open(DenyImplicitOpenGate::default())
        .map_err(failed)?;
    Ok(FormatAccess::new(image))
}

/// The crate's view of a file that is open; for direct I/O it is opened again.
fn storage(file: File, open: &Open<'_>, locks: &mut Vec<File>) -> Result<ImageFile, DiskError> {
    let options = StorageOpenOptions::new().filename(open.path).write(open.writable).direct(open.direct);
    let file = if open.direct {
        locks.push(file);
        raw::open_direct(open.path, open.writable)?
    } else {
        file
    };
    ImageFile::from_open_file(file, options).map_err(|source| open.failed(source))
}

fn open_backing(
    name: &str,
    format: Option<&str>,
    of: &Open<'_>,
    locks: &mut Vec<File>,
    depth: usize,
) -> Result<FormatAccess<ImageFile>, DiskError> {
    let path: PathBuf = of.path.parent().unwrap_or_else(|| Path::new("")).join(name);
    let open = Open { path: &path, writable: false, direct: of.direct, follow: true };
    let file = open_file(&path, false)?;
    lock_image(&path, &file, false)?;
    let mut magic = [0; 4];
    // Shorter than that: raw.
    let looks_like_qcow2 = file.read_exact_at(&mut magic, 0).is_ok() && magic == MAGIC;
    match format {
        Some("qcow2") => open_layer(file, &open, locks, depth + 1),
        // A guest may have written the magic number into its raw disk.
        Some("raw") => open_raw(file, &open, locks),
        None if !looks_like_qcow2 => open_raw(file, &open, locks),
        None => Err(of.failed(invalid(format!(
            "it does not say which format its backing file {name} has; say it with qemu-img rebase -u -F qcow2 -b {name}"
        )))),
        Some(other) => {
            Err(of.failed(invalid(format!("its backing file {name} has format {other}; raw and qcow2 are read"))))
        }
    }
}

fn open_raw(file: File, open: &Open<'_>, locks: &mut Vec<File>) -> Result<FormatAccess<ImageFile>, DiskError> {
    let image = Raw::builder(storage(file, open, locks)?)
        .open(DenyImplicitOpenGate::default())
        .map_err(|source| open.failed(source))?;
    Ok(FormatAccess::new(image))
}

fn invalid(reason: impl Into<String>) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, reason.into())
}

fn be32(head: &[u8], at: usize) -> Option<u32> {
    head.get(at..)?.first_chunk().map(|bytes| u32::from_be_bytes(*bytes))
}

fn be64(head: &[u8], at: usize) -> Option<u64> {
    head.get(at..)?.first_chunk().map(|bytes| u64::from_be_bytes(*bytes))
}

/// The first bytes of a file, up to [`HEAD`].
fn head_of(file: &File) -> io::Result<Vec<u8>> {
    let mut head = vec![0; HEAD];
    let mut filled = 0;
    while let Some(rest) = head.get_mut(filled..).filter(|rest| !rest.is_empty()) {
        match file.read_at(rest, filled as u64)? {
            0 => break,
            count => filled += count,
        }
    }
    head.truncate(filled);
    Ok(head)
}

/// Bytes in a cluster, within what images have.
fn cluster_size(file: &File) -> u32 {
    let bits = head_of(file).ok().and_then(|head| be32(&head, 20)).unwrap_or(16);
    1 << bits.clamp(9, 16)
}

/// What the header in `file` says about a backing file; an error if it asks for what is not done here.
fn read_backing(file: &File) -> io::Result<Backing> {
    let head = head_of(file)?;
    let features = if be32(&head, 4) == Some(3) { be64(&head, 72).unwrap_or(0) } else { 0 };
    if be32(&head, 32) != Some(0) && head.len() >= 36 {
        return Err(invalid("it is encrypted; decrypt it with qemu-img convert"));
    }
    if features & (FEATURE_DIRTY | FEATURE_CORRUPT) != 0 {
        return Err(invalid("it was not closed properly; repair it with qemu-img check -r all"));
    }
    if features & FEATURE_DATA_FILE != 0 {
        return Err(invalid("its data is in another file; put it into one with qemu-img convert"));
    }
    sound::check(file, &head)?;
    parse_backing(&head).ok_or_else(|| invalid("its header is cut short or makes no sense"))
}

/// Reads the header: magic, version, name of the backing file, extensions.
fn parse_backing(head: &[u8]) -> Option<Backing> {
    if head.get(..4)? != MAGIC {
        return None;
    }
    let header_length = match be32(head, 4)? {
        2 => 72,
        3 => usize::try_from(be32(head, 100)?).ok().filter(|&length| length >= 104)?,
        _ => return None,
    };
    let (at, length) = (usize::try_from(be64(head, 8)?).ok()?, usize::try_from(be32(head, 16)?).ok()?);
    let mut backing = Backing::default();
    if at != 0 && length != 0 {
        let name = head.get(at..at.checked_add(length).filter(|_| length <= LONGEST_NAME)?)?;
        backing.name = Some(String::from_utf8(name.to_vec()).ok()?);
    }
    let mut at = header_length;
    // The extensions end with number 0, or where the name begins.
    while let Some((kind, length)) = be32(head, at).zip(be32(head, at.checked_add(4)?)) {
        let (body, length) = (at + 8, usize::try_from(length).ok()?);
        match kind {
            0 => break,
            EXTENSION_BACKING_FORMAT => {
                let text = head.get(body..body.checked_add(length)?)?;
                backing.format = Some(String::from_utf8(text.to_vec()).ok()?);
            }
            _ => {}
        }
        at = body.checked_add(length.checked_next_multiple_of(8)?)?;
    }
    Some(backing)
}

impl<S: Storage + 'static> Disk for Qcow2Disk<S> {
    fn size(&self) -> u64 {
        self.size
    }

    fn block_size(&self) -> u32 {
        // Less than a cluster is written in place, or copied once.
        self.cluster.min(4096)
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        check_range(self.size, offset, out.len() as u64)?;
        self.shared(|access| access.read(out, offset))
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        check_range(self.size, offset, data.len() as u64)?;
        self.shared(|access| access.write(data, offset))
    }

    fn flush(&self) -> io::Result<()> {
        self.shared(|access| access.flush().and_then(|()| access.sync()))
    }

    fn discard(&self, offset: u64, len: u64) -> io::Result<()> {
        check_range(self.size, offset, len)?;
        match self.alone(|access| access.discard_to_any(offset, len)) {
            // Only advice.
            Err(error) if error.kind() == io::ErrorKind::Unsupported => Ok(()),
            done => done,
        }
    }

    fn write_zeroes(&self, offset: u64, len: u64, unmap: bool) -> io::Result<()> {
        check_range(self.size, offset, len)?;
        let done = if unmap {
            self.alone(|access| access.discard_to_zero(offset, len))
        } else {
            self.shared(|access| access.write_zeroes(offset, len))
        };
        match done {
            // Version 2 has no zero clusters.
            Err(error) if error.kind() == io::ErrorKind::Unsupported => {
                let (zeros, end) = ([0; ZEROS as usize], offset + len);
                (offset..end).step_by(ZEROS as usize).try_for_each(|at| {
                    let piece = zeros.get(..(end - at).min(ZEROS) as usize).unwrap_or_default();
                    self.write(at, piece)
                })
            }
            done => done,
        }
    }
}

#[cfg(test)]
mod tests;
