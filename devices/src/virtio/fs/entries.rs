//! Entries of folders: made, removed, renamed, listed.

use std::mem::MaybeUninit;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};

use rustix::fs::{
    AtFlags, FileType, Gid, Mode, OFlags, RawDir, RenameFlags, SeekFrom, Uid, chmodat, chownat, linkat, mkdirat,
    mknodat, openat, readlinkat, renameat_with, seek, symlinkat, unlinkat,
};
use rustix::io::Errno;

use super::abi::{Answer, Args, Request};
use super::owners;
use super::server::Server;
use super::tree::Node;

type Done = Result<(), Errno>;

/// Bytes of a folder that are read at once.
const PIECE: usize = 16 << 10;
/// Length of `fuse_entry_out`.
const ENTRY: usize = 128;
/// Length of `fuse_dirent` without its name.
const DIRENT: usize = 24;
/// The number of a file that the guest does not know.
const UNKNOWN: u64 = 0xffff_ffff;
/// The bits of a mode that a guest may set: a program that runs as the host's user for others on the host it cannot make.
const PERMISSIONS: u32 = 0o777;
const SET_ID: u32 = 0o6000;

/// The mode of a new file of this kind.
pub(super) fn permitted(mode: u32, kind: FileType) -> Mode {
    Mode::from_raw_mode(if kind == FileType::Directory {
        mode & 0o7777
    } else {
        mode & (PERMISSIONS | 0o1000) & !SET_ID
    })
}

impl Server {
    /// The folder that a request is about.
    pub(super) fn folder(&self, id: u64) -> Result<std::sync::Arc<Node>, Errno> {
        let node = self.tree.node(id)?;
        if node.kind == FileType::Directory { Ok(node) } else { Err(Errno::NOTDIR) }
    }

    /// Gives a new file to who made it, with the mode that was asked for: the host's mask plays no part.
    pub(super) fn adopt(&self, head: &Request, folder: &Node, new: &OwnedFd, mode: Option<Mode>) -> Done {
        if self.may_give {
            // Who has no number here leaves its files to this process' user.
            let user = owners::to_host(&self.users, head.uid).ok().map(Uid::from_raw);
            let group = owners::to_host(&self.groups, head.gid).ok().map(Gid::from_raw);
            // New files of a set-group-id folder have its group.
            let group = if folder.stat()?.st_mode & 0o2000 == 0 { group } else { None };
            chownat(new, c"", user, group, AtFlags::EMPTY_PATH | AtFlags::SYMLINK_NOFOLLOW)?;
        }
        let Some(mode) = mode else { return Ok(()) };
        let name = new.as_raw_fd().to_string();
        chmodat(&self.tree.descriptors, name.as_str(), mode, AtFlags::empty())
    }

    /// The entry that was just made, as the guest's.
    fn made(&self, head: &Request, folder: &Node, name: &[u8], mode: Option<Mode>, out: &mut Answer<'_>) -> Done {
        let fd = self.tree.find(folder.fd()?, name)?;
        self.adopt(head, folder, &fd, mode)?;
        self.entry(fd, out)
    }

    pub(super) fn symlink(&self, head: &Request, mut args: Args<'_>, out: &mut Answer<'_>) -> Done {
        let folder = self.folder(head.node)?;
        let name = args.name()?;
        // Where it leads is the guest's business: nobody follows it here.
        symlinkat(args.text()?, folder.fd()?, name)?;
        self.made(head, &folder, name, None, out)
    }

    pub(super) fn read_link(&self, head: &Request, out: &mut Answer<'_>) -> Done {
        let node = self.tree.node(head.node)?;
        out.put(readlinkat(node.fd()?, c"", Vec::new())?.as_bytes())
    }

    pub(super) fn make_node(&self, head: &Request, mut args: Args<'_>, out: &mut Answer<'_>) -> Done {
        let (mode, _device) = (args.u32()?, args.u32()?);
        args.u64()?;
        let (folder, name) = (self.folder(head.node)?, args.name()?);
        let kind = FileType::from_raw_mode(mode);
        let kind = if mode & 0o170_000 == 0 { FileType::RegularFile } else { kind };
        if !matches!(kind, FileType::RegularFile | FileType::Fifo | FileType::Socket) {
            return Err(Errno::PERM);
        }
        let permissions = permitted(mode, kind);
        mknodat(folder.fd()?, name, kind, permissions, 0)?;
        self.made(head, &folder, name, Some(permissions), out)
    }

    pub(super) fn make_folder(&self, head: &Request, mut args: Args<'_>, out: &mut Answer<'_>) -> Done {
        let mode = permitted(args.u32()?, FileType::Directory);
        args.u32()?;
        let (folder, name) = (self.folder(head.node)?, args.name()?);
        mkdirat(folder.fd()?, name, mode)?;
        let fd = self.tree.find(folder.fd()?, name)?;
        if rustix::fs::fstat(&fd).map(|stat| FileType::from_raw_mode(stat.st_mode)) != Ok(FileType::Directory) {
            // Somebody on the host was quicker.
            return Err(Errno::STALE);
        }
        // A set-group-id folder hands that on.
        let inherited = Mode::from_raw_mode(folder.stat()?.st_mode & 0o2000);
        self.adopt(head, &folder, &fd, Some(mode | inherited))?;
        self.entry(fd, out)
    }

    pub(super) fn remove(&self, head: &Request, mut args: Args<'_>, is_folder: bool) -> Done {
        let flags = if is_folder { AtFlags::REMOVEDIR } else { AtFlags::empty() };
        unlinkat(self.folder(head.node)?.fd()?, args.name()?, flags)
    }

    pub(super) fn rename(&self, head: &Request, mut args: Args<'_>, has_flags: bool) -> Done {
        let to = self.folder(args.u64()?)?;
        let flags = if has_flags {
            let flags = RenameFlags::from_bits(args.u32()?).ok_or(Errno::INVAL)?;
            args.u32()?;
            flags
        } else {
            RenameFlags::empty()
        };
        if !(RenameFlags::NOREPLACE | RenameFlags::EXCHANGE).contains(flags) {
            return Err(Errno::INVAL);
        }
        let (old, new) = (args.name()?, args.name()?);
        renameat_with(self.folder(head.node)?.fd()?, old, to.fd()?, new, flags)
    }

    pub(super) fn link(&self, head: &Request, mut args: Args<'_>, out: &mut Answer<'_>) -> Done {
        let old = self.tree.node(args.u64()?)?;
        let (folder, name) = (self.folder(head.node)?, args.name()?);
        let from = old.fd()?.as_raw_fd().to_string();
        linkat(&self.tree.descriptors, from.as_str(), folder.fd()?, name, AtFlags::SYMLINK_FOLLOW)?;
        let fd = self.tree.find(folder.fd()?, name)?;
        self.entry(fd, out)
    }

    pub(super) fn open_folder(&self, head: &Request, out: &mut Answer<'_>) -> Done {
        let folder = self.folder(head.node)?;
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let fd = openat(folder.fd()?, c".", flags, Mode::empty())?;
        let handle = self.tree.open(fd, head.node, OFlags::DIRECTORY)?;
        out.opened(handle)
    }

    /// Lists a folder from a place on; with what LOOKUP would answer, if `plus`.
    pub(super) fn read_folder(&self, mut args: Args<'_>, plus: bool, out: &mut Answer<'_>) -> Done {
        let (handle, offset, size) = (args.u64()?, args.u64()?, args.u32()?);
        let open = self.tree.opened(handle)?;
        if !open.flags.contains(OFlags::DIRECTORY) {
            return Err(Errno::NOTDIR);
        }
        seek(&open.fd, SeekFrom::Start(offset))?;
        let mut piece = [MaybeUninit::uninit(); PIECE];
        let mut entries = RawDir::new(open.fd.as_fd(), &mut piece);
        let end = out.left().saturating_sub(size as usize);
        while let Some(entry) = entries.next() {
            let entry = entry?;
            let name = entry.file_name().to_bytes();
            let head = if plus { ENTRY } else { 0 };
            let len = head + (DIRENT + name.len()).next_multiple_of(8);
            if out.left().saturating_sub(end) < len {
                break;
            }
            let is_dots = matches!(name, b"." | b"..");
            if plus {
                let known = if is_dots { Err(Errno::NOENT) } else { self.tree.find(&open.fd, name) };
                // One that goes meanwhile is listed without more.
                match known.and_then(|fd| self.tree.know(fd)) {
                    Ok((node, stat)) => out.entry(node, &stat, self.owner(&stat))?,
                    Err(_) => out.zeros(ENTRY)?,
                }
            }
            out.u64(if is_dots { UNKNOWN } else { entry.ino() })?;
            out.u64(entry.next_entry_cookie())?;
            out.u32(name.len() as u32)?;
            out.u32(entry.file_type().as_raw_mode() >> 12)?;
            out.put(name)?;
            out.zeros(len - head - DIRENT - name.len())?;
        }
        Ok(())
    }
}
