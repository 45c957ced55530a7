//! The state of a shared folder's server: what the guest knows and has open, by path. What is not at its path when the
//! machine goes on is stale to the guest; everything else goes on as if nothing had happened.

use std::os::fd::AsRawFd;

use rustix::fs::{FileType, Mode, OFlags, openat, readlinkat};
use rustix::io::Errno;
use serde::{Deserialize, Serialize};

use super::tree::{Known, Node, Open, ROOT, Tables, Tree};
use crate::lock;

#[derive(Serialize, Deserialize)]
struct SavedNode {
    id: u64,
    lookups: u64,
    /// The type bits of its mode.
    kind: u32,
    /// From the root on; `None`: it has no name any more.
    path: Option<Vec<u8>>,
}

#[derive(Serialize, Deserialize)]
struct SavedOpen {
    id: u64,
    node: u64,
    flags: u32,
}

#[derive(Serialize, Deserialize)]
pub(super) struct SavedTree {
    nodes: Vec<SavedNode>,
    open: Vec<SavedOpen>,
    next_node: u64,
    next_open: u64,
}

impl Tree {
    fn path_of(&self, node: &Node) -> Option<Vec<u8>> {
        let name = |fd: std::os::fd::BorrowedFd<'_>| {
            let path = readlinkat(&self.descriptors, fd.as_raw_fd().to_string().as_str(), Vec::new());
            path.ok().map(std::ffi::CString::into_bytes)
        };
        let (mut root, path) = (name(self.root())?, name(node.fd().ok()?)?);
        if root.last() != Some(&b'/') {
            root.push(b'/');
        }
        // A name that ends so by itself is looked for in vain, and then stale.
        path.strip_prefix(root.as_slice()).filter(|path| !path.ends_with(b" (deleted)")).map(<[u8]>::to_vec)
    }

    pub(super) fn save(&self) -> SavedTree {
        let tables = lock(&self.tables);
        let node = |(&id, known): (&u64, &Known)| SavedNode {
            id,
            lookups: known.lookups,
            kind: known.node.kind.as_raw_mode(),
            path: self.path_of(&known.node),
        };
        let open =
            |(&id, open): (&u64, &std::sync::Arc<Open>)| SavedOpen { id, node: open.node, flags: open.flags.bits() };
        SavedTree {
            nodes: tables.nodes.iter().filter(|(id, _)| **id != ROOT).map(node).collect(),
            open: tables.open.iter().map(open).collect(),
            next_node: tables.next_node,
            next_open: tables.next_open,
        }
    }

    /// Takes over what [`save`](Self::save) gave, as far as it is there.
    pub(super) fn load(&self, saved: &SavedTree) -> Result<(), Errno> {
        self.clear()?;
        for one in &saved.nodes {
            let kind = FileType::from_raw_mode(one.kind);
            let found = one.path.as_ref().and_then(|path| self.find(self.root(), path).ok());
            let found = found.and_then(|fd| rustix::fs::fstat(&fd).ok().map(|stat| (fd, stat)));
            let found = found.filter(|(_, stat)| FileType::from_raw_mode(stat.st_mode) == kind);
            let mut tables = lock(&self.tables);
            match found {
                Some((fd, stat)) => {
                    tables.insert(one.id, Node::new(fd, kind), (stat.st_dev, stat.st_ino), one.lookups);
                }
                None => tables.insert(one.id, Node::stale(kind), (0, 0), one.lookups),
            }
        }
        for one in &saved.open {
            let flags = OFlags::from_bits_retain(one.flags) & !(OFlags::TRUNC | OFlags::CREATE | OFlags::EXCL);
            let fd = self.node(one.node).and_then(|node| {
                if flags.contains(OFlags::DIRECTORY) {
                    openat(node.fd()?, c".", OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())
                } else {
                    self.reopen(&node, flags)
                }
            });
            if let Ok(fd) = fd {
                let open = Open { fd, node: one.node, flags };
                lock(&self.tables).open.insert(one.id, std::sync::Arc::new(open));
            }
        }
        let mut tables = lock(&self.tables);
        let Tables { next_node, next_open, nodes, open, .. } = &mut *tables;
        // Numbers in use are not given again, whatever the state says.
        *next_node = saved.next_node.max(nodes.keys().copied().max().unwrap_or(ROOT).saturating_add(1));
        *next_open = saved.next_open.max(open.keys().copied().max().unwrap_or(0).saturating_add(1));
        Ok(())
    }
}
