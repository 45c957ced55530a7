//! Requests to answers: which operation a request is, and what all have in common.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use rustix::fs::{FileType, Stat};
use rustix::io::Errno;
use serde_json::{Value, json};

use super::abi::{self, Answer, Args, MAJOR, MINOR, MOST_DATA, Request, can, op};
use super::owners::{self, Range};
use super::tree::{ROOT, Tree};
use crate::lock;

/// The shared folder as a file server.
pub(super) struct Server {
    pub(super) tree: Tree,
    pub(super) read_only: bool,
    pub(super) users: Vec<Range>,
    pub(super) groups: Vec<Range>,
    /// Files can be given to other users.
    pub(super) may_give: bool,
    /// The guest has introduced itself.
    pub(super) introduced: AtomicBool,
    pub(super) counters: Counters,
}

#[derive(Default)]
pub(super) struct Counters {
    requests: AtomicU64,
    errors: AtomicU64,
    pub(super) read: AtomicU64,
    pub(super) written: AtomicU64,
}

/// What is answered.
pub(super) enum Outcome {
    /// So many bytes.
    Bytes(usize),
    Error(Errno),
    /// The request has no answer.
    Silence,
}

type Done = Result<(), Errno>;

impl Server {
    pub(super) fn counters(&self) -> Value {
        let count = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        let tables = lock(&self.tree.tables);
        json!({
            "requests": count(&self.counters.requests),
            "errors": count(&self.counters.errors),
            "bytes_read": count(&self.counters.read),
            "bytes_written": count(&self.counters.written),
            "known_files": tables.nodes.len(),
            "open_files": tables.open.len(),
        })
    }

    /// As at the start: the guest knows the root and nothing else.
    pub(super) fn reset(&self) {
        self.introduced.store(false, Ordering::SeqCst);
        // The root was there before.
        let _ = self.tree.clear();
    }

    /// The owner of a file as the guest sees it.
    pub(super) fn owner(&self, stat: &Stat) -> (u32, u32) {
        (owners::to_guest(&self.users, stat.st_uid), owners::to_guest(&self.groups, stat.st_gid))
    }

    /// Serves a request: its bytes, where the answer goes, and how much of it the guest has room for.
    pub(super) fn serve(&self, request: &[u8], buffer: &mut [u8], room: usize) -> (u64, Outcome) {
        let (head, args) = match Request::read(request) {
            Ok(request) => request,
            Err(error) => return (0, Outcome::Error(error)),
        };
        self.counters.requests.fetch_add(1, Ordering::Relaxed);
        if self.forgets(&head, args) {
            return (head.unique, Outcome::Silence);
        }
        let mut answer = Answer::new(buffer, room);
        let outcome = match self.answer(&head, args, &mut answer) {
            Ok(()) => Outcome::Bytes(answer.len()),
            Err(error) => {
                self.counters.errors.fetch_add(1, Ordering::Relaxed);
                Outcome::Error(error)
            }
        };
        (head.unique, outcome)
    }

    /// Requests without an answer. True if it was one, whatever was wrong with it.
    fn forgets(&self, head: &Request, mut args: Args<'_>) -> bool {
        match head.opcode {
            op::FORGET => {
                if let Ok(count) = args.u64() {
                    self.tree.forget(head.node, count);
                }
            }
            op::BATCH_FORGET => {
                let count = args.u32().unwrap_or(0);
                // The length of the request bounds what is really there.
                if args.u32().is_ok() {
                    for _ in 0..count {
                        let (Ok(node), Ok(times)) = (args.u64(), args.u64()) else { break };
                        self.tree.forget(node, times);
                    }
                }
            }
            _ => return false,
        }
        true
    }

    fn answer(&self, head: &Request, args: Args<'_>, out: &mut Answer<'_>) -> Done {
        if head.opcode == op::INIT {
            return self.init(args, out);
        }
        if !self.introduced.load(Ordering::SeqCst) {
            return Err(Errno::IO);
        }
        if self.read_only && changes(head.opcode) {
            return Err(Errno::ROFS);
        }
        match head.opcode {
            op::LOOKUP => self.lookup(head, args, out),
            op::GETATTR => self.get_attributes(head, args, out),
            op::SETATTR => self.set_attributes(head, args, out),
            op::READLINK => self.read_link(head, out),
            op::SYMLINK => self.symlink(head, args, out),
            op::MKNOD => self.make_node(head, args, out),
            op::MKDIR => self.make_folder(head, args, out),
            op::UNLINK => self.remove(head, args, false),
            op::RMDIR => self.remove(head, args, true),
            op::RENAME => self.rename(head, args, false),
            op::RENAME2 => self.rename(head, args, true),
            op::LINK => self.link(head, args, out),
            op::OPEN => self.open(head, args, out),
            op::CREATE => self.create(head, args, out),
            op::READ => self.read(args, out),
            op::WRITE => self.write(args, out),
            op::STATFS => self.file_system(head, out),
            op::RELEASE | op::RELEASEDIR => self.release(args),
            op::FSYNC | op::FSYNCDIR => self.sync(args),
            // What was written is on the host already.
            op::FLUSH => Ok(()),
            op::OPENDIR => self.open_folder(head, out),
            op::READDIR => self.read_folder(args, false, out),
            op::READDIRPLUS => self.read_folder(args, true, out),
            op::SETXATTR => self.set_extended(head, args),
            op::GETXATTR => self.get_extended(head, args, out),
            op::LISTXATTR => self.list_extended(head, args, out),
            op::REMOVEXATTR => self.remove_extended(head, args),
            op::FALLOCATE => self.allocate(args),
            op::LSEEK => self.seek(args, out),
            op::COPY_FILE_RANGE => self.copy(args, out),
            op::SYNCFS => rustix::fs::syncfs(self.tree.reopen(&*self.tree.node(ROOT)?, rustix::fs::OFlags::RDONLY)?),
            op::DESTROY => {
                self.reset();
                Ok(())
            }
            _ => Err(Errno::NOSYS),
        }
    }

    fn init(&self, mut args: Args<'_>, out: &mut Answer<'_>) -> Done {
        let (major, minor) = (args.u32()?, args.u32()?);
        if major > MAJOR {
            // The guest comes again with the version that it reads here.
            out.u32(MAJOR)?;
            out.u32(MINOR)?;
            return out.zeros(56);
        }
        if major < MAJOR || minor < 28 {
            return Err(Errno::PROTO);
        }
        let (read_ahead, flags) = (args.u32()?, args.u32()?);
        // A guest that was reset without saying so begins anew.
        self.reset();
        out.u32(MAJOR)?;
        out.u32(MINOR)?;
        out.u32(read_ahead)?;
        out.u32(flags & can::ALL)?;
        // Requests under way in the background: as many as it likes.
        out.u32(u32::from(u16::MAX) << 16 | u32::from(u16::MAX))?;
        out.u32(MOST_DATA as u32)?;
        // Times are in nanoseconds.
        out.u32(1)?;
        out.u32((MOST_DATA / 4096) as u32)?;
        out.zeros(32)?;
        self.introduced.store(true, Ordering::SeqCst);
        Ok(())
    }

    /// Answers with the entry that a descriptor names.
    pub(super) fn entry(&self, fd: std::os::fd::OwnedFd, out: &mut Answer<'_>) -> Done {
        let (node, stat) = self.tree.know(fd)?;
        let done = out.entry(node, &stat, self.owner(&stat));
        if done.is_err() {
            // The guest does not hear of it.
            self.tree.forget(node, 1);
        }
        done
    }

    fn lookup(&self, head: &Request, mut args: Args<'_>, out: &mut Answer<'_>) -> Done {
        let folder = self.tree.node(head.node)?;
        if folder.kind != FileType::Directory {
            return Err(Errno::NOTDIR);
        }
        let fd = self.tree.find(folder.fd()?, args.name()?)?;
        self.entry(fd, out)
    }

    fn file_system(&self, head: &Request, out: &mut Answer<'_>) -> Done {
        let stat = rustix::fs::fstatvfs(self.tree.node(head.node)?.fd()?)?;
        for number in [stat.f_blocks, stat.f_bfree, stat.f_bavail, stat.f_files, stat.f_ffree] {
            out.u64(number)?;
        }
        out.u32(stat.f_bsize as u32)?;
        out.u32(stat.f_namemax as u32)?;
        out.u32(stat.f_frsize as u32)?;
        out.zeros(28)
    }

    fn release(&self, mut args: Args<'_>) -> Done {
        self.tree.close(args.u64()?);
        Ok(())
    }
}

/// Whether a request changes the shared folder; OPEN and CREATE say themselves.
fn changes(opcode: u32) -> bool {
    matches!(
        opcode,
        op::SETATTR
            | op::SYMLINK
            | op::MKNOD
            | op::MKDIR
            | op::UNLINK
            | op::RMDIR
            | op::RENAME
            | op::RENAME2
            | op::LINK
            | op::CREATE
            | op::WRITE
            | op::SETXATTR
            | op::REMOVEXATTR
            | op::FALLOCATE
            | op::COPY_FILE_RANGE
    )
}

/// Bytes of an answer's header.
pub(super) fn header(unique: u64, outcome: &Outcome) -> [u8; abi::OUT_HEADER] {
    let (len, error) = match outcome {
        Outcome::Bytes(len) => (*len, 0),
        Outcome::Error(error) => (0, -error.raw_os_error()),
        Outcome::Silence => (0, 0),
    };
    let mut bytes = [0; abi::OUT_HEADER];
    crate::net::wire::put(&mut bytes, 0, &((abi::OUT_HEADER + len) as u32).to_le_bytes());
    crate::net::wire::put(&mut bytes, 4, &error.to_le_bytes());
    crate::net::wire::put(&mut bytes, 8, &unique.to_le_bytes());
    bytes
}
