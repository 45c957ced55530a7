//! The files of an image: names, owners, modes, links and attributes in memory, contents in a spool on disk. Nothing of it
//! stands on the host's file system as a file of its own, so that neither its rights nor its rules matter.

mod path;
mod spool;

pub use path::{PathError, clean_path, show};
pub use spool::{Content, Spool};

use std::collections::BTreeMap;
use std::io;

/// Symbolic links that one path may lead through, as in Linux.
const MAX_LINKS: usize = 40;

/// What an inode is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A directory.
    Directory,
    /// A regular file.
    File(Content),
    /// A symbolic link with this target.
    Symlink(Vec<u8>),
    /// A character device: major and minor number.
    CharacterDevice(u32, u32),
    /// A block device: major and minor number.
    BlockDevice(u32, u32),
    /// A named pipe.
    Fifo,
}

/// A file, whatever its names are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Inode {
    /// What it is.
    pub kind: Kind,
    /// Permissions.
    pub mode: u32,
    /// Owner.
    pub uid: u32,
    /// Group.
    pub gid: u32,
    /// Modification time in seconds since 1970.
    pub mtime: i64,
    /// Extended attributes.
    pub xattrs: BTreeMap<Vec<u8>, Vec<u8>>,
}

impl Inode {
    /// Root's, without extended attributes.
    pub fn new(kind: Kind, mode: u32, mtime: i64) -> Inode {
        Inode { kind, mode, uid: 0, gid: 0, mtime, xattrs: BTreeMap::new() }
    }

    /// Type and permissions as in `st_mode`.
    pub fn st_mode(&self) -> u32 {
        let kind = match self.kind {
            Kind::Directory => 0o040_000,
            Kind::File(_) => 0o100_000,
            Kind::Symlink(_) => 0o120_000,
            Kind::CharacterDevice(..) => 0o020_000,
            Kind::BlockDevice(..) => 0o060_000,
            Kind::Fifo => 0o010_000,
        };
        kind | self.mode
    }
}

/// Identifies an inode of a tree.
#[derive(Copy, Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct InodeId(usize);

/// The files of an image. Paths are relative to the root, whose own path is empty, and have no empty, `.` or `..` parts.
#[derive(Clone, Debug)]
pub struct Tree {
    names: BTreeMap<Vec<u8>, InodeId>,
    inodes: Vec<Inode>,
}

impl Tree {
    /// A tree with only a root directory.
    pub fn new(mtime: i64) -> Tree {
        let root = Inode::new(Kind::Directory, 0o755, mtime);
        Tree { names: BTreeMap::from([(Vec::new(), InodeId(0))]), inodes: vec![root] }
    }

    /// All names in the order of their bytes, so that directories come before what they contain.
    pub fn iter(&self) -> impl Iterator<Item = (&[u8], InodeId, &Inode)> {
        self.names.iter().filter_map(|(path, id)| Some((path.as_slice(), *id, self.inodes.get(id.0)?)))
    }

    /// Number of names.
    pub fn len(&self) -> usize {
        self.names.len()
    }

    /// Whether there is only the root.
    pub fn is_empty(&self) -> bool {
        self.names.len() <= 1
    }

    /// The file with this path, symbolic links not followed.
    pub fn get(&self, path: &[u8]) -> Option<&Inode> {
        self.inodes.get(self.id(path)?.0)
    }

    /// As [`Tree::get`], to be changed.
    pub fn get_mut(&mut self, path: &[u8]) -> Option<&mut Inode> {
        let id = self.id(path)?;
        self.inodes.get_mut(id.0)
    }

    /// Which inode has this path.
    pub fn id(&self, path: &[u8]) -> Option<InodeId> {
        self.names.get(path).copied()
    }

    /// All inodes that have a name, to be changed.
    pub fn inodes_mut(&mut self) -> impl Iterator<Item = &mut Inode> {
        self.inodes.iter_mut()
    }

    /// How many names each inode has.
    pub fn link_counts(&self) -> Vec<u32> {
        let mut counts = vec![0u32; self.inodes.len()];
        for id in self.names.values() {
            if let Some(count) = counts.get_mut(id.0) {
                *count += 1;
            }
        }
        counts
    }

    /// The place of an inode in [`Tree::link_counts`].
    pub fn index(id: InodeId) -> usize {
        id.0
    }

    /// Puts a new inode at `path` in place of what was there; directories that lead there and do not exist are made.
    pub fn insert(&mut self, path: &[u8], inode: Inode) -> InodeId {
        self.make_parents(path, inode.mtime);
        let id = InodeId(self.inodes.len());
        self.inodes.push(inode);
        self.names.insert(path.to_vec(), id);
        id
    }

    /// Gives an inode another name.
    pub fn link(&mut self, path: &[u8], id: InodeId) {
        let mtime = self.inodes.get(id.0).map_or(0, |inode| inode.mtime);
        self.make_parents(path, mtime);
        self.names.insert(path.to_vec(), id);
    }

    fn make_parents(&mut self, path: &[u8], mtime: i64) {
        let slashes = path.iter().enumerate().filter(|(_, byte)| **byte == b'/').map(|(at, _)| at);
        for at in slashes {
            let parent = path.get(..at).unwrap_or_default();
            if !self.names.contains_key(parent) {
                let id = InodeId(self.inodes.len());
                self.inodes.push(Inode::new(Kind::Directory, 0o755, mtime));
                self.names.insert(parent.to_vec(), id);
            }
        }
    }

    /// Removes a name, and all below it.
    pub fn remove(&mut self, path: &[u8]) {
        let below: Vec<Vec<u8>> = self.below(path).map(<[u8]>::to_vec).collect();
        for name in below {
            self.names.remove(&name);
        }
        if !path.is_empty() {
            self.names.remove(path);
        }
    }

    /// The names below a directory, at any depth.
    pub fn below<'a>(&'a self, path: &[u8]) -> impl Iterator<Item = &'a [u8]> + use<'a> {
        let prefix = if path.is_empty() { Vec::new() } else { [path, b"/"].concat() };
        let start = prefix.clone();
        let names = self.names.range(start..).map(|(name, _)| name.as_slice());
        names.take_while(move |name| name.starts_with(&prefix)).filter(|name| !name.is_empty())
    }

    /// The path where `path` leads when all its directories that are symbolic links are followed, but not its last part.
    /// `None` if it goes through something that is no directory, or through too many links.
    pub fn resolve(&self, path: &[u8]) -> Option<Vec<u8>> {
        let mut waiting: Vec<Vec<u8>> = path::parts(path).rev().map(<[u8]>::to_vec).collect();
        let mut at: Vec<u8> = Vec::new();
        let mut links = 0;
        while let Some(part) = waiting.pop() {
            if part == b".." {
                at.truncate(at.iter().rposition(|&byte| byte == b'/').unwrap_or(0));
                continue;
            }
            let next = if at.is_empty() { part } else { [at.as_slice(), b"/", part.as_slice()].concat() };
            match self.get(&next).map(|inode| &inode.kind) {
                Some(Kind::Symlink(target)) if !waiting.is_empty() => {
                    links += 1;
                    if links > MAX_LINKS {
                        return None;
                    }
                    if target.starts_with(b"/") {
                        at.clear();
                    }
                    waiting.extend(path::parts(target).rev().map(<[u8]>::to_vec));
                }
                Some(Kind::Directory) | None => at = next,
                Some(_) if waiting.is_empty() => at = next,
                Some(_) => return None,
            }
        }
        Some(at)
    }

    /// Appends `text` to the file at `path`, if there is one of at most `most` bytes; `spool` takes what it becomes.
    ///
    /// # Errors
    /// A longer file, and what the spool refuses.
    pub fn append(&mut self, path: &[u8], text: &str, most: u64, spool: &Spool) -> io::Result<()> {
        let Some(inode) = self.get_mut(path) else { return Ok(()) };
        if let Kind::File(content) = &inode.kind {
            let whole = [content.bytes(most)?, text.as_bytes().to_vec()].concat();
            inode.kind = Kind::File(spool.put(&whole)?);
        }
        Ok(())
    }

    /// As [`Tree::resolve`], following the last part too.
    pub fn follow(&self, path: &[u8]) -> Option<Vec<u8>> {
        let mut at = self.resolve(path)?;
        for _ in 0..MAX_LINKS {
            let Some(Kind::Symlink(target)) = self.get(&at).map(|inode| &inode.kind) else {
                return Some(at);
            };
            let base = at.get(..at.iter().rposition(|&byte| byte == b'/').unwrap_or(0)).unwrap_or_default();
            let joined = if target.starts_with(b"/") { target.clone() } else { [base, b"/", target].concat() };
            at = self.resolve(&joined)?;
        }
        None
    }
}

#[cfg(test)]
mod tests;
