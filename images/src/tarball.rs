//! tar archives (POSIX.1-2001 pax, and what GNU adds): read as hostile, written so that the same entries give the same
//! bytes.

mod read;
mod write;

pub use read::Reader;
pub use write::Writer;

use std::collections::BTreeMap;

/// Size of a block.
const BLOCK: usize = 512;
/// Prefix of the pax records that hold extended attributes.
const XATTR: &str = "SCHILY.xattr.";

/// What an entry is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum EntryKind {
    /// A regular file with this many bytes.
    File(u64),
    /// Another name of the file with this path.
    HardLink(Vec<u8>),
    /// A symbolic link with this target.
    Symlink(Vec<u8>),
    /// A directory.
    Directory,
    /// A character device: major and minor number.
    CharacterDevice(u32, u32),
    /// A block device: major and minor number.
    BlockDevice(u32, u32),
    /// A named pipe.
    Fifo,
}

/// What an archive says about a file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// Its path as it stands in the archive.
    pub path: Vec<u8>,
    /// What it is.
    pub kind: EntryKind,
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

#[cfg(test)]
mod tests;
