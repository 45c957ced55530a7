//! The nodes that the guest knows and the files that it has open, each held by a descriptor.
//!
//! A node is a descriptor that names one file and nothing else (`O_PATH`). It was got from its folder's by one name
//! without following a link, so nothing that is renamed, moved or replaced later leads anywhere else.

use std::collections::HashMap;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::{Arc, Mutex};

use rustix::fs::{AtFlags, FileType, Mode, OFlags, ResolveFlags, Stat, openat, openat2, statat};
use rustix::io::Errno;

use crate::lock;

/// The node of the shared folder.
pub(super) const ROOT: u64 = 1;

/// A file that the guest knows.
pub(super) struct Node {
    /// `None`: it was not found again after the machine was restored.
    fd: Option<OwnedFd>,
    pub(super) kind: FileType,
}

impl Node {
    pub(super) fn new(fd: OwnedFd, kind: FileType) -> Node {
        Node { fd: Some(fd), kind }
    }

    pub(super) fn stale(kind: FileType) -> Node {
        Node { fd: None, kind }
    }

    pub(super) fn fd(&self) -> Result<BorrowedFd<'_>, Errno> {
        self.fd.as_ref().map(AsFd::as_fd).ok_or(Errno::STALE)
    }

    pub(super) fn stat(&self) -> Result<Stat, Errno> {
        statat(self.fd()?, c"", AtFlags::EMPTY_PATH | AtFlags::SYMLINK_NOFOLLOW)
    }
}

/// A file or folder that the guest has open.
pub(super) struct Open {
    pub(super) fd: OwnedFd,
    pub(super) node: u64,
    pub(super) flags: OFlags,
}

pub(super) struct Known {
    pub(super) node: Arc<Node>,
    pub(super) key: (u64, u64),
    pub(super) lookups: u64,
}

#[derive(Default)]
pub(super) struct Tables {
    pub(super) nodes: HashMap<u64, Known>,
    by_key: HashMap<(u64, u64), u64>,
    pub(super) open: HashMap<u64, Arc<Open>>,
    pub(super) next_node: u64,
    pub(super) next_open: u64,
}

/// What there is of the shared folder.
pub(super) struct Tree {
    pub(super) tables: Mutex<Tables>,
    /// `/proc/self/fd`: the way from a descriptor that only names a file to one that opens it.
    pub(super) descriptors: OwnedFd,
    root: OwnedFd,
    /// Most descriptors.
    most: usize,
    has_openat2: bool,
}

const NAMED: OFlags = OFlags::PATH.union(OFlags::NOFOLLOW).union(OFlags::CLOEXEC);
const CONTAINED: ResolveFlags = ResolveFlags::BENEATH.union(ResolveFlags::NO_SYMLINKS);

fn key(stat: &Stat) -> (u64, u64) {
    (stat.st_dev, stat.st_ino)
}

impl Tree {
    /// Over the folder `root`, with at most `most` descriptors.
    pub(super) fn new(root: OwnedFd, most: usize) -> Result<Tree, Errno> {
        let folder = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let descriptors = openat(rustix::fs::CWD, c"/proc/self/fd", folder, Mode::empty())?;
        let has_openat2 = openat2(&root, c".", NAMED, Mode::empty(), CONTAINED).is_ok();
        let tree = Tree { tables: Mutex::default(), descriptors, root, most, has_openat2 };
        tree.clear()?;
        Ok(tree)
    }

    /// Forgets everything but the root.
    pub(super) fn clear(&self) -> Result<(), Errno> {
        let root = self.root.try_clone().map_err(|_| Errno::NFILE)?;
        let stat = rustix::fs::fstat(&root)?;
        let mut tables = lock(&self.tables);
        *tables = Tables { next_node: ROOT + 1, next_open: 1, ..Tables::default() };
        tables.insert(ROOT, Node::new(root, FileType::Directory), key(&stat), 1);
        Ok(())
    }

    /// A descriptor that names the file at `path` below `folder`. Without `openat2` the path is one component, which
    /// does not lead out of the folder either, as links are not followed and `..` is nobody's name.
    pub(super) fn find(&self, folder: impl AsFd, path: &[u8]) -> Result<OwnedFd, Errno> {
        if self.has_openat2 {
            openat2(folder, path, NAMED, Mode::empty(), CONTAINED)
        } else if path.contains(&b'/') {
            Err(Errno::STALE)
        } else {
            openat(folder, path, NAMED, Mode::empty())
        }
    }

    pub(super) fn root(&self) -> BorrowedFd<'_> {
        self.root.as_fd()
    }

    pub(super) fn node(&self, id: u64) -> Result<Arc<Node>, Errno> {
        lock(&self.tables).nodes.get(&id).map(|known| Arc::clone(&known.node)).ok_or(Errno::STALE)
    }

    /// The node of a descriptor, which the guest then knows once more.
    pub(super) fn know(&self, fd: OwnedFd) -> Result<(u64, Stat), Errno> {
        let stat = rustix::fs::fstat(&fd)?;
        let mut tables = lock(&self.tables);
        let full = tables.size() >= self.most;
        let Tables { nodes, by_key, .. } = &mut *tables;
        if let Some(known) = by_key.get(&key(&stat)).and_then(|id| nodes.get_mut(id).map(|known| (*id, known))) {
            known.1.lookups = known.1.lookups.saturating_add(1);
            return Ok((known.0, stat));
        }
        if full {
            return Err(Errno::NFILE);
        }
        let id = tables.next_node;
        tables.next_node += 1;
        tables.insert(id, Node::new(fd, FileType::from_raw_mode(stat.st_mode)), key(&stat), 1);
        Ok((id, stat))
    }

    /// The guest knows a node `count` times less.
    pub(super) fn forget(&self, id: u64, count: u64) {
        let mut tables = lock(&self.tables);
        let Some(known) = tables.nodes.get_mut(&id).filter(|_| id != ROOT) else { return };
        known.lookups = known.lookups.saturating_sub(count);
        if known.lookups == 0 {
            let key = known.key;
            tables.nodes.remove(&id);
            if tables.by_key.get(&key) == Some(&id) {
                tables.by_key.remove(&key);
            }
        }
    }

    /// Opens the file of a node. Only files and folders: opening anything else would do something to the host.
    pub(super) fn reopen(&self, node: &Node, flags: OFlags) -> Result<OwnedFd, Errno> {
        use std::os::fd::AsRawFd;
        match node.kind {
            FileType::RegularFile | FileType::Directory => {}
            FileType::Symlink => return Err(Errno::LOOP),
            _ => return Err(Errno::PERM),
        }
        let name = node.fd()?.as_raw_fd().to_string();
        openat(&self.descriptors, name.as_str(), flags | OFlags::CLOEXEC | OFlags::NONBLOCK, Mode::empty())
    }

    /// The guest has this open from now on.
    pub(super) fn open(&self, fd: OwnedFd, node: u64, flags: OFlags) -> Result<u64, Errno> {
        let mut tables = lock(&self.tables);
        if tables.size() >= self.most {
            return Err(Errno::NFILE);
        }
        let id = tables.next_open;
        tables.next_open += 1;
        tables.open.insert(id, Arc::new(Open { fd, node, flags }));
        Ok(id)
    }

    pub(super) fn opened(&self, id: u64) -> Result<Arc<Open>, Errno> {
        lock(&self.tables).open.get(&id).cloned().ok_or(Errno::BADF)
    }

    pub(super) fn close(&self, id: u64) {
        let closed = lock(&self.tables).open.remove(&id);
        // Closing may take its time, but not under the lock.
        drop(closed);
    }
}

impl Tables {
    /// Number of descriptors.
    fn size(&self) -> usize {
        self.nodes.len() + self.open.len()
    }

    pub(super) fn insert(&mut self, id: u64, node: Node, key: (u64, u64), lookups: u64) {
        if node.fd.is_some() {
            self.by_key.insert(key, id);
        }
        self.nodes.insert(id, Known { node: Arc::new(node), key, lookups });
    }
}
