//! Raw images: a file or a block device whose bytes are the disk's.

use std::fs::File;
use std::io::{self, IoSliceMut, Seek, SeekFrom};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::fs::{FileExt, FileTypeExt, OpenOptionsExt};
use std::path::Path;

use rustix::fs::{FallocateFlags, OFlags};
use rustix::io::ReadWriteFlags;

use super::{Disk, DiskError, SECTOR, check_range};

/// Zeros are written in pieces of this size where the host has no quicker way.
const ZEROS: usize = 64 << 10;
/// Alignment of offset, length and buffer that every `O_DIRECT` of today takes.
pub(crate) const DIRECT_ALIGNMENT: usize = 4096;

/// A raw image.
pub struct RawDisk {
    file: File,
    /// The same file opened with `O_DIRECT`, for requests that are aligned.
    direct: Option<File>,
    size: u64,
    /// Bytes in the file: less than `size` if a read-only file ends within a sector.
    length: u64,
    block_size: u32,
}

impl RawDisk {
    /// The image in `file`, which was opened from `path`.
    pub(super) fn new(path: &Path, file: File, writable: bool, direct: bool) -> Result<RawDisk, DiskError> {
        let failed = |source| DiskError::Io { path: path.to_owned(), source };
        let metadata = file.metadata().map_err(failed)?;
        // A block device has no length of its own, but an end.
        let length = (&file).seek(SeekFrom::End(0)).map_err(failed)?;
        let size = length.next_multiple_of(SECTOR);
        if length == 0 || (writable && size != length) {
            let hint = if length == 0 {
                ": it is empty; make it with truncate -s SIZE".to_owned()
            } else {
                format!("; append the missing bytes with truncate -s {size}, or add readonly")
            };
            return Err(DiskError::Size { path: path.to_owned(), size: length, hint });
        }
        let block_size = if metadata.file_type().is_block_device() {
            rustix::fs::ioctl_blkpbszget(&file).unwrap_or(512)
        } else {
            4096
        };
        let direct = direct.then(|| open_direct(path, writable)).transpose()?;
        let block_size = if block_size.is_power_of_two() { block_size.clamp(512, 1 << 16) } else { 512 };
        Ok(RawDisk { file, direct, size, length, block_size })
    }

    /// The file for a request: direct only if it is aligned in every way.
    fn file_for(&self, offset: u64, bytes: &[u8]) -> &File {
        let aligned = offset.is_multiple_of(DIRECT_ALIGNMENT as u64)
            && bytes.len().is_multiple_of(DIRECT_ALIGNMENT)
            && bytes.as_ptr().addr().is_multiple_of(DIRECT_ALIGNMENT)
            && offset + bytes.len() as u64 <= self.length;
        match &self.direct {
            Some(direct) if aligned => direct,
            _ => &self.file,
        }
    }

    fn fallocate(&self, flags: FallocateFlags, offset: u64, len: u64) -> rustix::io::Result<()> {
        loop {
            match rustix::fs::fallocate(&self.file, flags | FallocateFlags::KEEP_SIZE, offset, len) {
                Err(rustix::io::Errno::INTR) => {}
                other => return other,
            }
        }
    }
}

pub(super) fn open_direct(path: &Path, writable: bool) -> Result<File, DiskError> {
    let flags = OFlags::DIRECT.bits().cast_signed();
    let direct = |source| DiskError::Direct { path: path.to_owned(), source };
    let file = File::options().read(true).write(writable).custom_flags(flags).open(path).map_err(direct)?;
    Ok(file)
}

impl Disk for RawDisk {
    fn size(&self) -> u64 {
        self.size
    }

    fn block_size(&self) -> u32 {
        self.block_size
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        check_range(self.size, offset, out.len() as u64)?;
        let there = usize::try_from(self.length.saturating_sub(offset)).unwrap_or(usize::MAX).min(out.len());
        let (bytes, beyond) = out.split_at_mut(there);
        beyond.fill(0);
        self.file_for(offset, bytes).read_exact_at(bytes, offset)
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        check_range(self.size, offset, data.len() as u64)?;
        self.file_for(offset, data).write_all_at(data, offset)
    }

    fn flush(&self) -> io::Result<()> {
        // One file: the direct descriptor's writes are covered.
        self.file.sync_data()
    }

    fn discard(&self, offset: u64, len: u64) -> io::Result<()> {
        check_range(self.size, offset, len)?;
        if len == 0 {
            return Ok(());
        }
        match self.fallocate(FallocateFlags::PUNCH_HOLE, offset, len) {
            // Only advice.
            Err(rustix::io::Errno::OPNOTSUPP | rustix::io::Errno::NOSYS) => Ok(()),
            done => done.map_err(io::Error::from),
        }
    }

    fn write_zeroes(&self, offset: u64, len: u64, unmap: bool) -> io::Result<()> {
        check_range(self.size, offset, len)?;
        if len == 0 {
            return Ok(());
        }
        let ways: &[FallocateFlags] = if unmap {
            &[FallocateFlags::PUNCH_HOLE, FallocateFlags::ZERO_RANGE]
        } else {
            &[FallocateFlags::ZERO_RANGE]
        };
        for &way in ways {
            match self.fallocate(way, offset, len) {
                Err(rustix::io::Errno::OPNOTSUPP | rustix::io::Errno::NOSYS) => {}
                done => return done.map_err(io::Error::from),
            }
        }
        static ZERO: [u8; ZEROS] = [0; ZEROS];
        let mut at = offset;
        let end = offset + len;
        while at < end {
            let piece = usize::try_from(end - at).unwrap_or(ZEROS).min(ZEROS);
            self.file.write_all_at(ZERO.get(..piece).unwrap_or_default(), at)?;
            at += piece as u64;
        }
        Ok(())
    }

    fn is_file(&self) -> bool {
        true
    }

    fn descriptor(&self, offset: u64, bytes: &[u8]) -> Option<BorrowedFd<'_>> {
        let end = offset.checked_add(bytes.len() as u64)?;
        (end <= self.length).then(|| self.file_for(offset, bytes).as_fd())
    }

    fn read_cached(&self, offset: u64, out: &mut [u8]) -> io::Result<bool> {
        let inside = offset.checked_add(out.len() as u64).is_some_and(|end| end <= self.length);
        if self.direct.is_some() || !inside {
            return Ok(false);
        }
        let len = out.len();
        match rustix::io::preadv2(&self.file, &mut [IoSliceMut::new(out)], offset, ReadWriteFlags::NOWAIT) {
            Ok(count) => Ok(count == len),
            // Some file systems in memory do not know the question: there is nothing to wait for.
            Err(rustix::io::Errno::OPNOTSUPP) => self.read(offset, out).map(|()| true),
            Err(_) => Ok(false),
        }
    }

    fn writes_to_cache(&self) -> bool {
        self.direct.is_none()
    }
}
