//! Writes images: the same tree gives the same bytes.

pub mod cpio;
pub mod disk;
pub mod ext4;
mod fat;
pub mod oci;
pub mod qcow2;
mod root;
pub mod tar;

use std::fs::File;
use std::io::{self, BufWriter, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use sha2::{Digest, Sha256};

pub(crate) use self::ext4::Ext4Options;
pub(crate) use self::root::{INITTAB, MAX_INITTAB};
use crate::cache::Sha256Sum;
use crate::files::{self, Pending};
use crate::tree::{Spool, Tree};

/// A format that images are written in.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub enum Format {
    /// An initramfs.
    Cpio,
    /// An initramfs, compressed with gzip.
    CpioGzip,
    /// An initramfs, compressed with zstd.
    CpioZstd,
    /// A tar archive.
    Tar,
    /// A tar archive, compressed with gzip.
    TarGzip,
    /// A tar archive, compressed with zstd.
    TarZstd,
    /// A file system.
    Ext4,
    /// A file system as a disk of QEMU's format.
    Qcow2,
    /// A disk that UEFI boots, as it is.
    Disk,
    /// A disk that UEFI boots, as one of QEMU's format.
    DiskQcow2,
    /// A folder for container tools.
    Oci,
}

const FORMATS: [Format; 11] = [
    Format::Cpio,
    Format::CpioGzip,
    Format::CpioZstd,
    Format::Tar,
    Format::TarGzip,
    Format::TarZstd,
    Format::Ext4,
    // Their names end as others do: the longer one counts.
    Format::DiskQcow2,
    Format::Disk,
    Format::Qcow2,
    Format::Oci,
];

impl Format {
    /// All names that [`Format::parse`] knows.
    pub const NAMES: [&'static str; 11] =
        ["cpio", "cpio.gz", "cpio.zst", "tar", "tar.gz", "tar.zst", "ext4", "disk", "disk.qcow2", "qcow2", "oci"];

    /// Its name.
    pub fn name(self) -> &'static str {
        match self {
            Format::Cpio => "cpio",
            Format::CpioGzip => "cpio.gz",
            Format::Tar => "tar",
            Format::TarGzip => "tar.gz",
            Format::CpioZstd => "cpio.zst",
            Format::TarZstd => "tar.zst",
            Format::Ext4 => "ext4",
            Format::Qcow2 => "qcow2",
            Format::Disk => "disk",
            Format::DiskQcow2 => "disk.qcow2",
            Format::Oci => "oci",
        }
    }

    /// Whether it needs a kernel and a boot loader.
    pub fn boots(self) -> bool {
        matches!(self, Format::Disk | Format::DiskQcow2)
    }

    /// The format of this name.
    pub fn parse(name: &str) -> Option<Format> {
        FORMATS.into_iter().find(|format| format.name() == name)
    }

    /// The format that the ending of a file's name says.
    pub fn of_path(path: &Path) -> Option<Format> {
        let name = path.file_name()?.to_str()?;
        FORMATS.into_iter().find(|format| name.ends_with(&format!(".{}", format.name())))
    }
}

/// An image that is written, but has not got its name yet.
#[derive(Debug)]
pub struct Written {
    pending: Pending,
    size: u64,
    /// Hash of its bytes.
    pub sha256: Sha256Sum,
}

impl Written {
    /// Gives the image its name; returns its size.
    ///
    /// # Errors
    /// What the operating system refuses.
    pub fn commit(self) -> io::Result<u64> {
        self.pending.commit()?;
        Ok(self.size)
    }
}

/// How an image is written.
#[derive(Clone, Debug, Default)]
pub struct WriteOptions {
    /// Bytes of a file system; `None`: what the files need and some more.
    pub size: Option<u64>,
    /// The name of an image in an OCI layout.
    pub name: String,
    /// What a disk boots.
    pub boot: Option<disk::Boot>,
    /// Another OCI layout whose images go into the same index.
    pub merge: Option<PathBuf>,
}

/// Why an image cannot be written.
#[derive(Debug, thiserror::Error)]
pub enum WriteError {
    /// The operating system refuses, or the format cannot hold it.
    #[error(transparent)]
    Io(#[from] io::Error),
    /// Another layout cannot be taken in.
    #[error(transparent)]
    Oci(#[from] oci::OciError),
}

/// Writes a tree beside `output`.
///
/// # Errors
/// [`WriteError`].
pub fn write(
    tree: &Tree,
    epoch: u64,
    format: Format,
    options: &WriteOptions,
    output: &Path,
) -> Result<Written, WriteError> {
    if format == Format::Oci {
        let pending = Pending::directory(output)?;
        let mut sha256 = oci::write(tree, epoch, &options.name, pending.path())?;
        if let Some(other) = &options.merge {
            sha256 = oci::merge(pending.path(), other)?;
        }
        let size = folder_size(pending.path())?;
        return Ok(Written { pending, size, sha256 });
    }
    let (pending, file) = Pending::file(output)?;
    let mut file = write_file(tree, epoch, format, options, file, output)?;
    file.seek(SeekFrom::Start(0))?;
    let (sha256, size) = hash(&mut file)?;
    Ok(Written { pending, size, sha256 })
}

fn write_file(
    tree: &Tree,
    epoch: u64,
    format: Format,
    options: &WriteOptions,
    file: File,
    output: &Path,
) -> io::Result<File> {
    let seconds = i64::try_from(epoch).unwrap_or(i64::MAX);
    let beside = || {
        let directory = output.parent().filter(|parent| !parent.as_os_str().is_empty());
        files::unnamed(directory.unwrap_or(Path::new(".")))
    };
    let buffered = |file| BufWriter::with_capacity(1 << 18, file);
    let flushed = |out: BufWriter<File>| out.into_inner().map_err(io::IntoInnerError::into_error);
    match format {
        Format::Cpio => flushed(cpio::write(tree, seconds, buffered(file))?),
        Format::CpioGzip => flushed(cpio::write(tree, seconds, gzip(buffered(file)))?.finish()?),
        Format::CpioZstd => zstd(flushed(cpio::write(tree, seconds, buffered(beside()?))?)?, file),
        Format::Tar => flushed(tar::write(tree, buffered(file))?),
        Format::TarGzip => flushed(tar::write(tree, gzip(buffered(file)))?.finish()?),
        Format::TarZstd => zstd(flushed(tar::write(tree, buffered(beside()?))?)?, file),
        Format::Ext4 => {
            let tree = as_root(tree, epoch, &beside()?)?;
            ext4::write(&tree, &file_system(&tree, epoch, options.size), &file, 0)?;
            Ok(file)
        }
        Format::Qcow2 => {
            let disk = beside()?;
            let tree = as_root(tree, epoch, &beside()?)?;
            let size = ext4::write(&tree, &file_system(&tree, epoch, options.size), &disk, 0)?;
            qcow2::write(&disk, size, &file)?;
            Ok(file)
        }
        Format::Disk => {
            write_disk(tree, epoch, options, &file, &beside()?)?;
            Ok(file)
        }
        Format::DiskQcow2 => {
            let disk = beside()?;
            let size = write_disk(tree, epoch, options, &disk, &beside()?)?;
            qcow2::write(&disk, size, &file)?;
            Ok(file)
        }
        Format::Oci => Err(io::Error::other("an OCI layout is no file")),
    }
}

/// The tree with what the root of a file system needs; `spool` takes it.
fn as_root(tree: &Tree, epoch: u64, spool: &File) -> io::Result<Tree> {
    let mut tree = tree.clone();
    root::complete(&mut tree, epoch, &Spool::of_file(spool.try_clone()?))?;
    Ok(tree)
}

/// Writes a disk that boots; `spool` takes what is added to the files.
fn write_disk(tree: &Tree, epoch: u64, options: &WriteOptions, out: &File, spool: &File) -> io::Result<u64> {
    let missing = "a disk needs a kernel and a boot loader: make it with `vmm image build`";
    let boot = options.boot.as_ref().ok_or_else(|| io::Error::new(io::ErrorKind::InvalidInput, missing))?;
    let tree = as_root(tree, epoch, spool)?;
    disk::write(&tree, &file_system(&tree, epoch, options.size), boot, out)
}

/// The file system of an image, of `size` bytes or of what the files need and some more. Its UUID depends on its files'
/// names and times alone.
pub(crate) fn file_system(tree: &Tree, epoch: u64, size: Option<u64>) -> Ext4Options {
    let mut hasher = Sha256::new();
    for (path, _, inode) in tree.iter() {
        hasher.update(path);
        hasher.update(inode.mtime.to_le_bytes());
        hasher.update(inode.st_mode().to_le_bytes());
    }
    let sum: [u8; 32] = hasher.finalize().into();
    let mut uuid = [0; 16];
    uuid.copy_from_slice(sum.split_at(16).0);
    // Version 8: made of one's own; variant of RFC 9562.
    if let Some(byte) = uuid.get_mut(6) {
        *byte = *byte & 0x0f | 0x80;
    }
    if let Some(byte) = uuid.get_mut(8) {
        *byte = *byte & 0x3f | 0x80;
    }
    let epoch = u32::try_from(epoch).unwrap_or(0);
    Ext4Options { size, label: "root".to_owned(), uuid, epoch }
}

/// Compresses a file.
fn zstd(mut plain: File, mut out: File) -> io::Result<File> {
    plain.seek(SeekFrom::Start(0))?;
    let (mut read, mut written) = (None, None);
    {
        // The encoder has no way to tell of an error: they are kept beside it.
        let source = Remembering { inner: &mut plain, error: &mut read };
        let target = Remembering { inner: &mut out, error: &mut written };
        ruzstd::encoding::compress(
            io::BufReader::with_capacity(1 << 18, source),
            BufWriter::with_capacity(1 << 18, target),
            ruzstd::encoding::CompressionLevel::Fastest,
        );
    }
    match read.or(written) {
        Some(error) => Err(error),
        None => Ok(out),
    }
}

/// Remembers the first error, and goes on as if there were nothing more to read, and room for everything.
struct Remembering<'a> {
    inner: &'a mut File,
    error: &'a mut Option<io::Error>,
}

impl Read for Remembering<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        Ok(self.inner.read(buffer).unwrap_or_else(|error| {
            self.error.get_or_insert(error);
            0
        }))
    }
}

impl Write for Remembering<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.error.is_none()
            && let Err(error) = self.inner.write_all(bytes)
        {
            self.error.get_or_insert(error);
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Bytes of all files below a folder.
fn folder_size(path: &Path) -> io::Result<u64> {
    let mut size = 0;
    for entry in std::fs::read_dir(path)? {
        let entry = entry?;
        let metadata = entry.metadata()?;
        size += if metadata.is_dir() { folder_size(&entry.path())? } else { metadata.len() };
    }
    Ok(size)
}

/// The hash of an image that was written in a format: of a layout that of its index, which covers everything.
///
/// # Errors
/// What the operating system refuses.
pub fn hash_of(path: &Path, format: Format) -> io::Result<Sha256Sum> {
    let path = if format == Format::Oci { path.join("index.json") } else { path.to_owned() };
    Ok(hash(&mut File::open(path)?)?.0)
}

/// gzip without name and time.
fn gzip<W: Write>(out: W) -> flate2::write::GzEncoder<W> {
    flate2::write::GzEncoder::new(out, flate2::Compression::new(6))
}

/// Hash and size of a file.
pub(crate) fn hash(file: &mut File) -> io::Result<(Sha256Sum, u64)> {
    let mut hasher = Sha256::new();
    let mut buffer = vec![0; 1 << 18];
    let mut size = 0;
    loop {
        let count = file.read(&mut buffer)?;
        if count == 0 {
            return Ok((Sha256Sum::from_bytes(hasher.finalize().into()), size));
        }
        size += count as u64;
        hasher.update(buffer.get(..count).unwrap_or_default());
    }
}
