//! An image as an initramfs.

use std::io::{self, Write};

use crate::cpio::{Node, Writer};
use crate::tree::{Kind, Tree};

/// The first process of an image that is booted as an initramfs.
pub const INIT: &str = include_str!("init.sh");

/// Writes a tree as an initramfs with the first process [`INIT`]. The format has no place for extended attributes: they are
/// left out.
///
/// # Errors
/// What `out` refuses, and files of 4 GiB or more.
pub fn write<W: Write>(tree: &Tree, epoch: i64, out: W) -> io::Result<W> {
    let mut writer = Writer::new(out, u32::try_from(epoch).unwrap_or(0));
    write_tree(&mut writer, tree, b"")?;
    if tree.get(b"init").is_none() {
        writer.file("init", 0o755, INIT.as_bytes())?;
    }
    writer.finish()
}

/// Writes the files of a tree below the directory `below`; its root is left out where that is the archive's.
///
/// # Errors
/// As [`write`].
pub fn write_tree<W: Write>(writer: &mut Writer<W>, tree: &Tree, below: &[u8]) -> io::Result<()> {
    let links = tree.link_counts();
    // Numbered by their first names, from 1 and beyond those of the files that stand before the tree.
    let mut numbers = vec![0u32; links.len()];
    let mut last = 9_999u32;
    for (path, id, inode) in tree.iter() {
        let name = match (below, path) {
            (b"", b"") => continue,
            (b"", path) => path.to_vec(),
            (below, b"") => below.to_vec(),
            (below, path) => [below, b"/", path].concat(),
        };
        let index = Tree::index(id);
        let Some(number) = numbers.get_mut(index) else { continue };
        let first = *number == 0;
        if first {
            last = last.saturating_add(1);
            *number = last;
        }
        let target;
        let (mut contents, size): (Box<dyn io::Read + '_>, u64) = match &inode.kind {
            Kind::File(content) if first => (Box::new(content.reader()), content.len()),
            Kind::Symlink(text) => {
                target = text.as_slice();
                (Box::new(target), target.len() as u64)
            }
            _ => (Box::new(io::empty()), 0),
        };
        let large = |_| {
            let name = String::from_utf8_lossy(path);
            io::Error::new(
                io::ErrorKind::InvalidInput,
                format!("{name} has 4 GiB or more: a cpio archive cannot hold it"),
            )
        };
        let count = links.get(index).copied().unwrap_or(1);
        let node = Node {
            inode: *number,
            mode: inode.st_mode(),
            uid: inode.uid,
            gid: inode.gid,
            links: if inode.kind == Kind::Directory { 2 } else { count },
            mtime: u32::try_from(inode.mtime).unwrap_or(0),
            size: u32::try_from(size).map_err(large)?,
            device: match inode.kind {
                Kind::CharacterDevice(major, minor) | Kind::BlockDevice(major, minor) => (major, minor),
                _ => (0, 0),
            },
        };
        writer.node(&name, &node, &mut *contents)?;
    }
    Ok(())
}
