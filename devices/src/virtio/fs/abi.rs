//! The FUSE protocol as far as it is used: opcodes, and requests and answers as bytes.

use rustix::fs::Stat;
use rustix::io::Errno;

/// Version of the protocol that is spoken.
pub(super) const MAJOR: u32 = 7;
pub(super) const MINOR: u32 = 31;
/// Length of a request's header.
pub(super) const IN_HEADER: usize = 40;
/// Length of an answer's header.
pub(super) const OUT_HEADER: usize = 16;
/// Most bytes of data in one request or answer.
pub(super) const MOST_DATA: usize = 1 << 20;
/// Seconds for which the guest need not ask again.
pub(super) const VALID: u64 = 1;

/// Opcodes.
pub(super) mod op {
    pub(in super::super) const LOOKUP: u32 = 1;
    pub(in super::super) const FORGET: u32 = 2;
    pub(in super::super) const GETATTR: u32 = 3;
    pub(in super::super) const SETATTR: u32 = 4;
    pub(in super::super) const READLINK: u32 = 5;
    pub(in super::super) const SYMLINK: u32 = 6;
    pub(in super::super) const MKNOD: u32 = 8;
    pub(in super::super) const MKDIR: u32 = 9;
    pub(in super::super) const UNLINK: u32 = 10;
    pub(in super::super) const RMDIR: u32 = 11;
    pub(in super::super) const RENAME: u32 = 12;
    pub(in super::super) const LINK: u32 = 13;
    pub(in super::super) const OPEN: u32 = 14;
    pub(in super::super) const READ: u32 = 15;
    pub(in super::super) const WRITE: u32 = 16;
    pub(in super::super) const STATFS: u32 = 17;
    pub(in super::super) const RELEASE: u32 = 18;
    pub(in super::super) const FSYNC: u32 = 20;
    pub(in super::super) const SETXATTR: u32 = 21;
    pub(in super::super) const GETXATTR: u32 = 22;
    pub(in super::super) const LISTXATTR: u32 = 23;
    pub(in super::super) const REMOVEXATTR: u32 = 24;
    pub(in super::super) const FLUSH: u32 = 25;
    pub(in super::super) const INIT: u32 = 26;
    pub(in super::super) const OPENDIR: u32 = 27;
    pub(in super::super) const READDIR: u32 = 28;
    pub(in super::super) const RELEASEDIR: u32 = 29;
    pub(in super::super) const FSYNCDIR: u32 = 30;
    pub(in super::super) const CREATE: u32 = 35;
    pub(in super::super) const DESTROY: u32 = 38;
    pub(in super::super) const BATCH_FORGET: u32 = 42;
    pub(in super::super) const FALLOCATE: u32 = 43;
    pub(in super::super) const READDIRPLUS: u32 = 44;
    pub(in super::super) const RENAME2: u32 = 45;
    pub(in super::super) const LSEEK: u32 = 46;
    pub(in super::super) const COPY_FILE_RANGE: u32 = 47;
    pub(in super::super) const SYNCFS: u32 = 50;
}

/// Bits of INIT: what both sides can do.
pub(super) mod can {
    const ASYNC_READ: u32 = 1;
    const ATOMIC_O_TRUNC: u32 = 1 << 3;
    const BIG_WRITES: u32 = 1 << 5;
    const AUTO_INVAL_DATA: u32 = 1 << 12;
    const DO_READDIRPLUS: u32 = 1 << 13;
    const READDIRPLUS_AUTO: u32 = 1 << 14;
    const PARALLEL_DIROPS: u32 = 1 << 18;
    const MAX_PAGES: u32 = 1 << 22;
    /// All that this side can do.
    pub(in super::super) const ALL: u32 = ASYNC_READ
        | ATOMIC_O_TRUNC
        | BIG_WRITES
        | AUTO_INVAL_DATA
        | DO_READDIRPLUS
        | READDIRPLUS_AUTO
        | PARALLEL_DIROPS
        | MAX_PAGES;
}

/// Bits of SETATTR: what is to be set.
pub(super) mod set {
    pub(in super::super) const MODE: u32 = 1;
    pub(in super::super) const UID: u32 = 1 << 1;
    pub(in super::super) const GID: u32 = 1 << 2;
    pub(in super::super) const SIZE: u32 = 1 << 3;
    pub(in super::super) const ATIME: u32 = 1 << 4;
    pub(in super::super) const MTIME: u32 = 1 << 5;
    pub(in super::super) const FH: u32 = 1 << 6;
    pub(in super::super) const ATIME_NOW: u32 = 1 << 7;
    pub(in super::super) const MTIME_NOW: u32 = 1 << 8;
}

/// The header of a request.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Request {
    pub(super) opcode: u32,
    pub(super) unique: u64,
    pub(super) node: u64,
    pub(super) uid: u32,
    pub(super) gid: u32,
}

impl Request {
    /// Reads a header; the length in it adds nothing to what the chain says.
    pub(super) fn read(bytes: &[u8]) -> Result<(Request, Args<'_>), Errno> {
        let mut args = Args(bytes);
        args.u32()?;
        let opcode = args.u32()?;
        let (unique, node) = (args.u64()?, args.u64()?);
        let (uid, gid) = (args.u32()?, args.u32()?);
        args.u64()?;
        Ok((Request { opcode, unique, node, uid, gid }, args))
    }
}

/// The bytes of a request behind its header, from a place on.
#[derive(Clone, Copy, Debug)]
pub(super) struct Args<'a>(pub(super) &'a [u8]);

impl<'a> Args<'a> {
    fn take<const N: usize>(&mut self) -> Result<[u8; N], Errno> {
        let (first, rest) = self.0.split_first_chunk().ok_or(Errno::INVAL)?;
        self.0 = rest;
        Ok(*first)
    }

    pub(super) fn u32(&mut self) -> Result<u32, Errno> {
        self.take().map(u32::from_le_bytes)
    }

    pub(super) fn u64(&mut self) -> Result<u64, Errno> {
        self.take().map(u64::from_le_bytes)
    }

    /// Bytes up to a NUL.
    pub(super) fn text(&mut self) -> Result<&'a [u8], Errno> {
        let end = self.0.iter().position(|&byte| byte == 0).ok_or(Errno::INVAL)?;
        let (text, rest) = self.0.split_at_checked(end).ok_or(Errno::INVAL)?;
        self.0 = rest.get(1..).unwrap_or_default();
        Ok(text)
    }

    /// The name of an entry of a folder: one component that leads neither up nor nowhere.
    pub(super) fn name(&mut self) -> Result<&'a [u8], Errno> {
        let name = self.text()?;
        match name {
            b"" | b"." | b".." => Err(Errno::INVAL),
            _ if name.len() > 255 => Err(Errno::NAMETOOLONG),
            _ if name.contains(&b'/') => Err(Errno::INVAL),
            _ => Ok(name),
        }
    }

    /// `len` bytes.
    pub(super) fn bytes(&mut self, len: u32) -> Result<&'a [u8], Errno> {
        let (bytes, rest) = self.0.split_at_checked(len as usize).ok_or(Errno::INVAL)?;
        self.0 = rest;
        Ok(bytes)
    }
}

/// The bytes of an answer behind its header, in a buffer that is there already.
pub(super) struct Answer<'a> {
    buffer: &'a mut [u8],
    len: usize,
    /// What the guest has room for.
    room: usize,
}

impl<'a> Answer<'a> {
    pub(super) fn new(buffer: &'a mut [u8], room: usize) -> Answer<'a> {
        let room = room.min(buffer.len());
        Answer { buffer, len: 0, room }
    }

    pub(super) fn len(&self) -> usize {
        self.len
    }

    /// Bytes that still find room.
    pub(super) fn left(&self) -> usize {
        self.room - self.len
    }

    pub(super) fn put(&mut self, bytes: &[u8]) -> Result<(), Errno> {
        let place = self.buffer.get_mut(self.len..self.room).and_then(|rest| rest.get_mut(..bytes.len()));
        place.ok_or(Errno::INVAL)?.copy_from_slice(bytes);
        self.len += bytes.len();
        Ok(())
    }

    pub(super) fn u32(&mut self, value: u32) -> Result<(), Errno> {
        self.put(&value.to_le_bytes())
    }

    pub(super) fn u64(&mut self, value: u64) -> Result<(), Errno> {
        self.put(&value.to_le_bytes())
    }

    pub(super) fn zeros(&mut self, count: usize) -> Result<(), Errno> {
        (0..count).try_for_each(|_| self.put(&[0]))
    }

    /// Room for up to `most` bytes, of which `fill` says how many it filled.
    pub(super) fn fill(
        &mut self,
        most: usize,
        fill: impl FnOnce(&mut [u8]) -> Result<usize, Errno>,
    ) -> Result<(), Errno> {
        let most = most.min(self.left());
        let place = self.buffer.get_mut(self.len..self.len + most).ok_or(Errno::INVAL)?;
        self.len += fill(place)?.min(most);
        Ok(())
    }

    /// `fuse_attr`: the owner is given as the guest sees it.
    pub(super) fn attributes(&mut self, stat: &Stat, owner: (u32, u32)) -> Result<(), Errno> {
        self.u64(stat.st_ino)?;
        self.u64(stat.st_size as u64)?;
        self.u64(stat.st_blocks as u64)?;
        self.u64(stat.st_atime as u64)?;
        self.u64(stat.st_mtime as u64)?;
        self.u64(stat.st_ctime as u64)?;
        self.u32(stat.st_atime_nsec as u32)?;
        self.u32(stat.st_mtime_nsec as u32)?;
        self.u32(stat.st_ctime_nsec as u32)?;
        self.u32(stat.st_mode)?;
        #[cfg_attr(target_arch = "aarch64", expect(clippy::unnecessary_cast, reason = "64 bits on x86-64"))]
        let links = stat.st_nlink as u32;
        self.u32(links)?;
        self.u32(owner.0)?;
        self.u32(owner.1)?;
        // Nodes of devices have no meaning here.
        self.u32(0)?;
        self.u32(stat.st_blksize as u32)?;
        self.u32(0)
    }

    /// `fuse_entry_out`.
    pub(super) fn entry(&mut self, node: u64, stat: &Stat, owner: (u32, u32)) -> Result<(), Errno> {
        self.u64(node)?;
        self.u64(0)?;
        self.u64(VALID)?;
        self.u64(VALID)?;
        self.u64(0)?;
        self.attributes(stat, owner)
    }

    /// `fuse_attr_out`.
    pub(super) fn attributes_alone(&mut self, stat: &Stat, owner: (u32, u32)) -> Result<(), Errno> {
        self.u64(VALID)?;
        self.u64(0)?;
        self.attributes(stat, owner)
    }

    /// `fuse_open_out`.
    pub(super) fn opened(&mut self, handle: u64) -> Result<(), Errno> {
        self.u64(handle)?;
        self.u64(0)
    }
}
