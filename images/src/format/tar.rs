//! An image as a tar archive, as mmdebstrap and container tools have them.

use std::collections::HashMap;
use std::io::{self, Write};

use crate::tarball::{Entry, EntryKind, Writer};
use crate::tree::{InodeId, Kind, Tree};

/// Writes a tree. Paths begin with `./`, the root is `./`.
///
/// # Errors
/// What `out` refuses.
pub fn write<W: Write>(tree: &Tree, out: W) -> io::Result<W> {
    let mut writer = Writer::new(out);
    let mut seen: HashMap<InodeId, Vec<u8>> = HashMap::new();
    for (path, id, inode) in tree.iter() {
        let slash: &[u8] = if inode.kind == Kind::Directory && !path.is_empty() { b"/" } else { b"" };
        let path = [b"./", path, slash].concat();
        let mut contents: Box<dyn io::Read + '_> = Box::new(io::empty());
        let kind = match (&inode.kind, seen.get(&id)) {
            (_, Some(first)) => EntryKind::HardLink(first.clone()),
            (Kind::File(content), None) => {
                contents = Box::new(content.reader());
                EntryKind::File(content.len())
            }
            (Kind::Symlink(target), None) => EntryKind::Symlink(target.clone()),
            (Kind::Directory, None) => EntryKind::Directory,
            (Kind::CharacterDevice(major, minor), None) => EntryKind::CharacterDevice(*major, *minor),
            (Kind::BlockDevice(major, minor), None) => EntryKind::BlockDevice(*major, *minor),
            (Kind::Fifo, None) => EntryKind::Fifo,
        };
        // Other names of a file say nothing new about it.
        let xattrs = if seen.contains_key(&id) { Default::default() } else { inode.xattrs.clone() };
        let entry = Entry {
            path: path.clone(),
            kind,
            mode: inode.mode,
            uid: inode.uid,
            gid: inode.gid,
            mtime: inode.mtime,
            xattrs,
        };
        writer.entry(&entry, &mut *contents)?;
        seen.entry(id).or_insert(path);
    }
    writer.finish()
}
