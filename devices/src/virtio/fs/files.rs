//! Files: their attributes, contents and extended attributes.

use std::os::fd::{AsRawFd, OwnedFd};
use std::sync::atomic::Ordering;

use rustix::fs::{
    AtFlags, FallocateFlags, FileType, Gid, Mode, OFlags, SeekFrom, Timespec, Timestamps, Uid, XattrFlags, chmodat,
    chownat, copy_file_range, fallocate, fdatasync, fgetxattr, flistxattr, fremovexattr, fsetxattr, fsync, ftruncate,
    openat, seek, utimensat,
};
use rustix::io::{Errno, pread, pwrite};

use super::abi::{Answer, Args, Request, set};
use super::entries::permitted;
use super::owners;
use super::server::Server;
use super::tree::Node;

type Done = Result<(), Errno>;

/// Flags of OPEN in the numbers that all architectures of Linux share; the others say nothing to a file server.
mod guest {
    pub(super) const ACCESS: u32 = 3;
    pub(super) const EXCLUSIVE: u32 = 0o200;
    pub(super) const TRUNCATE: u32 = 0o1000;
    pub(super) const APPEND: u32 = 0o2000;
    pub(super) const DSYNC: u32 = 0o10000;
    pub(super) const SYNC: u32 = 0o4_000_000;
}

const THIS: AtFlags = AtFlags::EMPTY_PATH.union(AtFlags::SYMLINK_NOFOLLOW);
/// Time "now" and "as it is", in the place of nanoseconds.
const UTIME_NOW: i64 = 0x3fff_ffff;
const UTIME_OMIT: i64 = 0x3fff_fffe;
/// Most bytes that are copied for one request: others wait meanwhile.
const MOST_COPIED: u64 = 64 << 20;
/// Most bytes of an extended attribute, or of their names: the kernel's limit.
const MOST_EXTENDED: usize = 64 << 10;
/// `SEEK_DATA` and `SEEK_HOLE`.
const SEEK_DATA: u32 = 3;
const SEEK_HOLE: u32 = 4;

fn host_flags(flags: u32) -> Result<OFlags, Errno> {
    let mut host = match flags & guest::ACCESS {
        0 => OFlags::RDONLY,
        1 => OFlags::WRONLY,
        2 => OFlags::RDWR,
        _ => return Err(Errno::INVAL),
    };
    for (bit, flag) in [
        (guest::TRUNCATE, OFlags::TRUNC),
        (guest::APPEND, OFlags::APPEND),
        (guest::DSYNC, OFlags::DSYNC),
        (guest::SYNC, OFlags::SYNC),
    ] {
        if flags & bit != 0 {
            host |= flag;
        }
    }
    Ok(host)
}

fn writes(flags: OFlags) -> bool {
    flags.intersects(OFlags::WRONLY | OFlags::RDWR | OFlags::TRUNC)
}

/// Seconds since 1970 as the guest has them, perhaps before.
fn seconds(value: u64) -> i64 {
    value as i64
}

impl Server {
    pub(super) fn get_attributes(&self, head: &Request, mut args: Args<'_>, out: &mut Answer<'_>) -> Done {
        let (flags, _) = (args.u32()?, args.u32()?);
        let by_handle = if flags & 1 != 0 { self.tree.opened(args.u64()?).ok() } else { None };
        let stat = match by_handle.filter(|open| open.node == head.node) {
            Some(open) => rustix::fs::fstat(&open.fd)?,
            None => self.tree.node(head.node)?.stat()?,
        };
        out.attributes_alone(&stat, self.owner(&stat))
    }

    pub(super) fn set_attributes(&self, head: &Request, mut args: Args<'_>, out: &mut Answer<'_>) -> Done {
        let (valid, _, handle, size) = (args.u32()?, args.u32()?, args.u64()?, args.u64()?);
        args.u64()?;
        let (atime, mtime, _ctime) = (args.u64()?, args.u64()?, args.u64()?);
        let (atime_nsec, mtime_nsec, _ctime_nsec) = (args.u32()?, args.u32()?, args.u32()?);
        let (mode, _, user, group) = (args.u32()?, args.u32()?, args.u32()?, args.u32()?);
        let node = self.tree.node(head.node)?;
        let has = |bit: u32| valid & bit != 0;
        if has(set::MODE) {
            self.set_mode(&node, mode)?;
        }
        if has(set::UID) || has(set::GID) {
            let wanted = (has(set::UID).then_some(user), has(set::GID).then_some(group));
            self.set_owner(&node, wanted)?;
        }
        if has(set::SIZE) {
            let open = if has(set::FH) { self.tree.opened(handle).ok() } else { None };
            match open.filter(|open| open.node == head.node && writes(open.flags)) {
                Some(open) => ftruncate(&open.fd, size)?,
                None => ftruncate(self.tree.reopen(&node, OFlags::WRONLY)?, size)?,
            }
        }
        let time = |set: bool, now: bool, seconds_of: u64, nanoseconds: u32| match (set, now) {
            (false, _) => Timespec { tv_sec: 0, tv_nsec: UTIME_OMIT as _ },
            (true, true) => Timespec { tv_sec: 0, tv_nsec: UTIME_NOW as _ },
            (true, false) => Timespec { tv_sec: seconds(seconds_of), tv_nsec: nanoseconds as _ },
        };
        if has(set::ATIME) || has(set::MTIME) {
            let times = Timestamps {
                last_access: time(has(set::ATIME), has(set::ATIME_NOW), atime, atime_nsec),
                last_modification: time(has(set::MTIME), has(set::MTIME_NOW), mtime, mtime_nsec),
            };
            utimensat(node.fd()?, c"", &times, THIS)?;
        }
        let stat = node.stat()?;
        out.attributes_alone(&stat, self.owner(&stat))
    }

    fn set_mode(&self, node: &Node, mode: u32) -> Done {
        if node.kind == FileType::Symlink {
            return Err(Errno::OPNOTSUPP);
        }
        let name = node.fd()?.as_raw_fd().to_string();
        chmodat(&self.tree.descriptors, name.as_str(), permitted(mode, node.kind), AtFlags::empty())
    }

    /// An owner that it has already is always right, any other needs rights on the host.
    fn set_owner(&self, node: &Node, wanted: (Option<u32>, Option<u32>)) -> Done {
        let now = self.owner(&node.stat()?);
        let user = wanted.0.filter(|&user| user != now.0).map(|user| owners::to_host(&self.users, user)).transpose()?;
        let group =
            wanted.1.filter(|&group| group != now.1).map(|group| owners::to_host(&self.groups, group)).transpose()?;
        if user.is_none() && group.is_none() {
            return Ok(());
        }
        chownat(node.fd()?, c"", user.map(Uid::from_raw), group.map(Gid::from_raw), THIS)
    }

    pub(super) fn open(&self, head: &Request, mut args: Args<'_>, out: &mut Answer<'_>) -> Done {
        let flags = host_flags(args.u32()?)?;
        if self.read_only && writes(flags) {
            return Err(Errno::ROFS);
        }
        let node = self.tree.node(head.node)?;
        if node.kind == FileType::Directory {
            return Err(Errno::ISDIR);
        }
        let fd = self.tree.reopen(&node, flags)?;
        out.opened(self.tree.open(fd, head.node, flags)?)
    }

    pub(super) fn create(&self, head: &Request, mut args: Args<'_>, out: &mut Answer<'_>) -> Done {
        let (wanted, mode) = (args.u32()?, args.u32()?);
        args.u64()?;
        let (folder, name) = (self.folder(head.node)?, args.name()?);
        let (flags, mode) = (host_flags(wanted)?, permitted(mode, FileType::RegularFile));
        let new = flags | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let named = OFlags::PATH | OFlags::CLOEXEC;
        let (fd, name_fd) = match openat(folder.fd()?, name, new, mode) {
            Ok(fd) => {
                let itself = openat(&self.tree.descriptors, fd.as_raw_fd().to_string().as_str(), named, Mode::empty())?;
                self.adopt(head, &folder, &itself, Some(mode))?;
                (fd, itself)
            }
            // Somebody made it meanwhile; what it is has to be seen before it is opened.
            Err(Errno::EXIST) if wanted & guest::EXCLUSIVE == 0 => {
                let found = self.tree.find(folder.fd()?, name)?;
                let kind = FileType::from_raw_mode(rustix::fs::fstat(&found)?.st_mode);
                let node = Node::new(found.try_clone().map_err(|_| Errno::NFILE)?, kind);
                (self.tree.reopen(&node, flags)?, found)
            }
            Err(error) => return Err(error),
        };
        self.entry_and_open(fd, name_fd, flags, out)
    }

    fn entry_and_open(&self, fd: OwnedFd, name_fd: OwnedFd, flags: OFlags, out: &mut Answer<'_>) -> Done {
        let (node, stat) = self.tree.know(name_fd)?;
        let owner = self.owner(&stat);
        let answered = self.tree.open(fd, node, flags).and_then(|handle| {
            let answered = out.entry(node, &stat, owner).and_then(|()| out.opened(handle));
            answered.inspect_err(|_| self.tree.close(handle))
        });
        // What the guest does not hear of it does not know.
        answered.inspect_err(|_| self.tree.forget(node, 1))
    }

    pub(super) fn read(&self, mut args: Args<'_>, out: &mut Answer<'_>) -> Done {
        let (handle, offset, size) = (args.u64()?, args.u64()?, args.u32()?);
        let open = self.tree.opened(handle)?;
        let before = out.len();
        out.fill(size as usize, |bytes| {
            let mut filled = 0;
            // Less than was asked for is the end of the file to the guest.
            while let Some(rest) = bytes.get_mut(filled..).filter(|rest| !rest.is_empty()) {
                match pread(&open.fd, rest, offset.saturating_add(filled as u64)) {
                    Ok(0) => break,
                    Ok(count) => filled += count,
                    Err(Errno::INTR) => {}
                    Err(error) if filled == 0 => return Err(error),
                    Err(_) => break,
                }
            }
            Ok(filled)
        })?;
        self.counters.read.fetch_add((out.len() - before) as u64, Ordering::Relaxed);
        Ok(())
    }

    pub(super) fn write(&self, mut args: Args<'_>, out: &mut Answer<'_>) -> Done {
        let (handle, offset, size) = (args.u64()?, args.u64()?, args.u32()?);
        // Flags and the owner of locks say nothing here.
        let data = Args(args.0.get(20..).ok_or(Errno::INVAL)?).bytes(size)?;
        let open = self.tree.opened(handle)?;
        let mut written = 0;
        while let Some(rest) = data.get(written..).filter(|rest| !rest.is_empty()) {
            match pwrite(&open.fd, rest, offset.saturating_add(written as u64)) {
                Ok(count) => written += count,
                Err(Errno::INTR) => {}
                Err(error) if written == 0 => return Err(error),
                Err(_) => break,
            }
        }
        self.counters.written.fetch_add(written as u64, Ordering::Relaxed);
        // At most `size`.
        out.u64(written as u64)
    }

    pub(super) fn sync(&self, mut args: Args<'_>) -> Done {
        let (handle, flags) = (args.u64()?, args.u32()?);
        let open = self.tree.opened(handle)?;
        if flags & 1 != 0 { fdatasync(&open.fd) } else { fsync(&open.fd) }
    }

    pub(super) fn allocate(&self, mut args: Args<'_>) -> Done {
        let (handle, offset, len, mode) = (args.u64()?, args.u64()?, args.u64()?, args.u32()?);
        let mode = FallocateFlags::from_bits(mode).ok_or(Errno::OPNOTSUPP)?;
        fallocate(&self.tree.opened(handle)?.fd, mode, offset, len)
    }

    pub(super) fn seek(&self, mut args: Args<'_>, out: &mut Answer<'_>) -> Done {
        let (handle, offset, whence) = (args.u64()?, args.u64()?, args.u32()?);
        let place = match whence {
            SEEK_DATA => SeekFrom::Data(offset),
            SEEK_HOLE => SeekFrom::Hole(offset),
            _ => return Err(Errno::INVAL),
        };
        // Nobody reads or writes at the file's own position.
        out.u64(seek(&self.tree.opened(handle)?.fd, place)?)
    }

    pub(super) fn copy(&self, mut args: Args<'_>, out: &mut Answer<'_>) -> Done {
        let (from, mut at_from, _node) = (args.u64()?, args.u64()?, args.u64()?);
        let (to, mut at_to, len) = (args.u64()?, args.u64()?, args.u64()?);
        let (from, to) = (self.tree.opened(from)?, self.tree.opened(to)?);
        let len = usize::try_from(len.min(MOST_COPIED)).unwrap_or(0);
        let copied = copy_file_range(&from.fd, Some(&mut at_from), &to.fd, Some(&mut at_to), len)?;
        self.counters.written.fetch_add(copied as u64, Ordering::Relaxed);
        out.u64(copied as u64)
    }

    /// The file whose extended attributes a request is about. Those of users only: others mean something to the host.
    fn extended(&self, head: &Request, name: Option<&[u8]>) -> Result<OwnedFd, Errno> {
        if name.is_some_and(|name| !name.starts_with(b"user.") || name.len() > 255) {
            return Err(Errno::OPNOTSUPP);
        }
        self.tree.reopen(&*self.tree.node(head.node)?, OFlags::RDONLY)
    }

    pub(super) fn set_extended(&self, head: &Request, mut args: Args<'_>) -> Done {
        let (size, flags) = (args.u32()?, args.u32()?);
        let name = args.text()?;
        let flags = XattrFlags::from_bits(flags).ok_or(Errno::INVAL)?;
        fsetxattr(self.extended(head, Some(name))?, name, args.bytes(size)?, flags)
    }

    pub(super) fn get_extended(&self, head: &Request, mut args: Args<'_>, out: &mut Answer<'_>) -> Done {
        let (size, _) = (args.u32()?, args.u32()?);
        let name = args.text()?;
        let file = self.extended(head, Some(name))?;
        let mut value = vec![0; MOST_EXTENDED];
        let len = fgetxattr(file, name, &mut *value)?;
        extended_answer(value.get(..len).unwrap_or_default(), size, out)
    }

    pub(super) fn list_extended(&self, head: &Request, mut args: Args<'_>, out: &mut Answer<'_>) -> Done {
        let (size, _) = (args.u32()?, args.u32()?);
        let file = self.extended(head, None)?;
        let mut names = vec![0; MOST_EXTENDED];
        let len = flistxattr(file, &mut *names)?;
        let names = names.get(..len).unwrap_or_default();
        let users: Vec<u8> = names
            .split_inclusive(|&byte| byte == 0)
            .filter(|name| name.starts_with(b"user."))
            .flatten()
            .copied()
            .collect();
        extended_answer(&users, size, out)
    }

    pub(super) fn remove_extended(&self, head: &Request, mut args: Args<'_>) -> Done {
        let name = args.text()?;
        fremovexattr(self.extended(head, Some(name))?, name)
    }
}

/// A value, or its length if there is no room asked for.
fn extended_answer(value: &[u8], size: u32, out: &mut Answer<'_>) -> Done {
    if size == 0 {
        return out.u64(value.len() as u64);
    }
    if value.len() > size as usize {
        return Err(Errno::RANGE);
    }
    out.put(value)
}
