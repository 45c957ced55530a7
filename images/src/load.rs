//! Reads images back: cpio and tar archives, compressed or not, OCI layouts, and disks with an ext4 file system. They may
//! come from anybody.

mod ext4;

use std::collections::HashMap;
use std::fs::File;
use std::io::{self, BufRead, BufReader, Read};
use std::path::Path;

use crate::build::unpack::{inode, kind};
use crate::compression;
use crate::cpio;
use crate::format::oci::{self, OciError};
use crate::initrd::{self, DiskView};
use crate::tarball::{EntryKind, Reader};
use crate::tree::{Inode, Kind, PathError, Spool, Tree, clean_path, show};

/// Most files of an image.
const MAX_FILES: usize = 8_000_000;

/// Why an image cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    /// The operating system refused, or it is damaged.
    #[error("Cannot read the image {path}")]
    Io {
        /// The image.
        path: String,
        /// What went wrong.
        source: io::Error,
    },
    /// No image that is known.
    #[error(
        "{path} is no image that can be read: expected a cpio or tar archive (also compressed), an OCI layout, or a disk (raw or qcow2)"
    )]
    Unknown {
        /// The file.
        path: String,
    },
    /// A path leads out of the image.
    #[error("The image {path} is not one to unpack")]
    Path {
        /// The image.
        path: String,
        /// What is wrong.
        source: PathError,
    },
    /// It makes no sense.
    #[error("The image {path} makes no sense: {what}")]
    Strange {
        /// The image.
        path: String,
        /// What is wrong.
        what: String,
    },
    /// A layout that cannot be read.
    #[error(transparent)]
    Oci(#[from] OciError),
}

/// What an image is stored as.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub enum Stored {
    /// cpio archives, one after the other, as the kernel reads them.
    Cpio,
    /// A tar archive.
    Tar,
    /// A folder with an OCI layout.
    Oci,
    /// A disk, or a file system as a whole one.
    Disk,
}

impl Stored {
    /// Its name for people.
    pub fn name(self) -> &'static str {
        match self {
            Stored::Cpio => "cpio archive",
            Stored::Tar => "tar archive",
            Stored::Oci => "OCI layout",
            Stored::Disk => "disk with ext4",
        }
    }
}

/// Reads the image at `path`.
///
/// # Errors
/// [`LoadError`].
pub fn load(path: &Path, spool: &Spool) -> Result<(Stored, Tree), LoadError> {
    let loader = Loader { path: path.display().to_string(), spool };
    if path.is_dir() {
        let mut tree = Tree::new(0);
        for layer in oci::layers(path)? {
            let file = File::open(layer).map_err(|source| loader.io(source))?;
            let reader = compression::reader(BufReader::with_capacity(1 << 17, file));
            loader.tar(reader.map_err(|source| loader.io(source))?, &mut tree)?;
        }
        return Ok((Stored::Oci, tree));
    }
    let file = File::open(path).map_err(|source| loader.io(source))?;
    let input = BufReader::with_capacity(1 << 17, file);
    let plain = compression::reader(input).map_err(|source| loader.io(source))?;
    let mut plain = BufReader::with_capacity(1 << 17, plain);
    let start = plain.fill_buf().map_err(|source| loader.io(source))?;
    let mut tree = Tree::new(0);
    if start.starts_with(b"070701") {
        loader.cpio(plain, &mut tree)?;
        Ok((Stored::Cpio, tree))
    } else if start.get(257..262) == Some(b"ustar") {
        loader.tar(plain, &mut tree)?;
        Ok((Stored::Tar, tree))
    } else {
        Err(LoadError::Unknown { path: loader.path })
    }
}

/// Whether a file that begins so may be a disk: a qcow2, a partition table, or a file system.
pub fn may_be_disk(start: &[u8]) -> bool {
    let at = |offset: usize, magic: &[u8]| start.get(offset..offset + magic.len()) == Some(magic);
    at(0, b"QFI\xfb") || at(510, &[0x55, 0xaa]) || at(512, b"EFI PART") || at(1024 + 56, &[0x53, 0xef])
}

/// Reads the root of a disk; `path` names it in errors.
///
/// # Errors
/// [`LoadError`].
pub fn load_disk(path: &Path, disk: &DiskView<'_>, spool: &Spool) -> Result<Tree, LoadError> {
    let loader = Loader { path: path.display().to_string(), spool };
    let (start, size, system) =
        initrd::root_extent(disk).ok_or_else(|| LoadError::Unknown { path: loader.path.clone() })?;
    if system != "ext4" {
        return Err(loader.strange(format!("its root is a file system of the kind {system}; ext2 to ext4 can be read")));
    }
    let system = ext4::Ext4::open(disk, start, size).map_err(|source| loader.io(source))?;
    let mut tree = Tree::new(0);
    ext4::Walk::new(&loader, system).run(&mut tree)?;
    Ok(tree)
}

struct Loader<'a> {
    path: String,
    spool: &'a Spool,
}

impl Loader<'_> {
    fn io(&self, source: io::Error) -> LoadError {
        LoadError::Io { path: self.path.clone(), source }
    }

    fn strange(&self, what: String) -> LoadError {
        LoadError::Strange { path: self.path.clone(), what }
    }

    fn clean(&self, path: &[u8]) -> Result<Vec<u8>, LoadError> {
        clean_path(path).map_err(|source| LoadError::Path { path: self.path.clone(), source })
    }

    /// Puts a file into the tree, in place of what was there.
    fn insert(&self, tree: &mut Tree, path: &[u8], inode: Inode) -> Result<crate::tree::InodeId, LoadError> {
        if tree.len() > MAX_FILES {
            return Err(self.strange(format!("more than {MAX_FILES} files")));
        }
        let parent = path.get(..path.iter().rposition(|&byte| byte == b'/').unwrap_or(0)).unwrap_or_default();
        if tree.get(parent).is_some_and(|parent| parent.kind != Kind::Directory) {
            return Err(self.strange(format!("{} stands below something that is no directory", show(path))));
        }
        if inode.kind == Kind::Directory
            && let Some(there) = tree.get_mut(path).filter(|there| there.kind == Kind::Directory)
        {
            *there = inode;
            return tree.id(path).ok_or_else(|| self.strange(show(path)));
        }
        tree.remove(path);
        Ok(tree.insert(path, inode))
    }

    fn tar(&self, input: impl Read, tree: &mut Tree) -> Result<(), LoadError> {
        let mut archive = Reader::new(input);
        while let Some(mut entry) = archive.next_entry().map_err(|source| self.io(source))? {
            entry.path = self.clean(&entry.path)?;
            let content = match &entry.kind {
                EntryKind::File(size) => {
                    Some(self.spool.copy(&mut archive.contents(), *size).map_err(|source| self.io(source))?)
                }
                _ => None,
            };
            if let EntryKind::HardLink(target) = &entry.kind {
                let id = tree.id(&self.clean(target)?);
                let id = id.ok_or_else(|| self.strange(format!("{} is a link to nothing", show(&entry.path))))?;
                tree.link(&entry.path, id);
            } else if let Some(kind) = kind(&entry.kind, content) {
                self.insert(tree, &entry.path, inode(&entry, kind))?;
            }
        }
        // To the end, where the checks of the compression are.
        io::copy(&mut archive.into_inner(), &mut io::sink()).map(drop).map_err(|source| self.io(source))
    }

    fn cpio(&self, input: impl Read, tree: &mut Tree) -> Result<(), LoadError> {
        let mut reader = cpio::Reader::new(input);
        let mut links: HashMap<u32, crate::tree::InodeId> = HashMap::new();
        while let Some((name, node)) = reader.next_entry().map_err(|source| self.io(source))? {
            let path = self.clean(&name)?;
            let link = links.get(&node.inode).copied().filter(|_| node.links > 1 && node.size == 0);
            if let Some(id) = link.filter(|_| node.mode & 0o170_000 == 0o100_000) {
                tree.link(&path, id);
                continue;
            }
            let contents =
                self.spool.copy(&mut reader.contents(), u64::from(node.size)).map_err(|source| self.io(source))?;
            let kind = match node.mode & 0o170_000 {
                0o040_000 => Kind::Directory,
                0o100_000 => Kind::File(contents),
                0o120_000 => Kind::Symlink(contents.bytes(8192).map_err(|source| self.io(source))?),
                0o020_000 => Kind::CharacterDevice(node.device.0, node.device.1),
                0o060_000 => Kind::BlockDevice(node.device.0, node.device.1),
                0o010_000 => Kind::Fifo,
                other => return Err(self.strange(format!("{} has the unknown type {other:o}", show(&path)))),
            };
            let inode =
                Inode { uid: node.uid, gid: node.gid, ..Inode::new(kind, node.mode & 0o7777, i64::from(node.mtime)) };
            let id = self.insert(tree, &path, inode)?;
            if node.links > 1 {
                links.insert(node.inode, id);
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests;
