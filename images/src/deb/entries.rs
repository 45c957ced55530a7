//! All that a package installs, in its order, for whoever makes a root of it.

use std::fs::File;
use std::io::{self, BufReader, Read};
use std::path::Path;

use super::{DebError, ar_member};
use crate::compression;

/// What an entry of a package is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum DebNode {
    /// A directory.
    Directory,
    /// A regular file with these contents.
    File(Vec<u8>),
    /// A symbolic link to this target.
    Symlink(String),
    /// Another name of the regular file at this path of the package.
    HardLink(String),
}

/// An entry of a package.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DebEntry {
    /// Its path without a leading `./` or `/` and without a trailing `/`; never empty, never with a `..` part.
    pub name: String,
    /// Its permissions.
    pub mode: u32,
    /// What it is.
    pub node: DebNode,
}

/// The directories, files and links of the package at `path` whose name `wanted` accepts, at most `limit` bytes of contents
/// together. Other kinds (devices, pipes) are left out: Debian's packages have none.
///
/// # Errors
/// [`DebError`], also for names that leave the root.
pub fn read_entries(path: &Path, wanted: impl Fn(&str) -> bool, limit: u64) -> Result<Vec<DebEntry>, DebError> {
    let io_error = |source| DebError::Io { path: path.to_owned(), source };
    let file = File::open(path).map_err(io_error)?;
    let member = ar_member(BufReader::new(file), "data.tar", path)?;
    let data = compression::reader(BufReader::new(member)).map_err(io_error)?;
    let mut archive = tar::Archive::new(data);
    let mut found = Vec::new();
    let mut total = 0u64;
    for entry in archive.entries().map_err(io_error)? {
        let entry = entry.map_err(io_error)?;
        let Some(name) = plain_name(&entry.path_bytes()) else {
            let name = String::from_utf8_lossy(&entry.path_bytes()).into_owned();
            return Err(DebError::Format {
                path: path.to_owned(),
                reason: format!("the name {name:?} leaves the root"),
            });
        };
        if name.is_empty() || !wanted(&name) {
            continue;
        }
        let mode = entry.header().mode().map_err(io_error)? & 0o7777;
        let target = entry.link_name_bytes().map(|target| String::from_utf8_lossy(&target).into_owned());
        let kind = entry.header().entry_type();
        let node = if kind.is_dir() {
            DebNode::Directory
        } else if kind.is_symlink() {
            DebNode::Symlink(target.unwrap_or_default())
        } else if kind.is_hard_link() {
            DebNode::HardLink(plain_name(target.unwrap_or_default().as_bytes()).unwrap_or_default())
        } else if kind.is_file() {
            let size = entry.size();
            total = total.saturating_add(size);
            if total > limit {
                return Err(DebError::TooLarge { path: path.to_owned(), name, size, limit });
            }
            let mut contents = Vec::new();
            entry.take(size).read_to_end(&mut contents).map_err(io_error)?;
            DebNode::File(contents)
        } else {
            continue;
        };
        found.push(DebEntry { name, mode, node });
    }
    // To the end, where the checks of the compression are.
    io::copy(&mut archive.into_inner(), &mut io::sink()).map_err(io_error)?;
    Ok(found)
}

/// A tar name without what stands for the root; `None` if it is not UTF-8 or has a `..` part.
fn plain_name(name: &[u8]) -> Option<String> {
    let name = std::str::from_utf8(name).ok()?;
    let parts: Vec<&str> = name.split('/').filter(|part| !part.is_empty() && *part != ".").collect();
    if parts.contains(&"..") { None } else { Some(parts.join("/")) }
}

#[cfg(test)]
mod tests {
    use super::super::tests::ar;
    use super::*;
    use crate::cache::tests::Scratch;

    fn package(link: &str) -> Vec<u8> {
        let mut builder = tar::Builder::new(Vec::new());
        let mut add = |kind, name: &str, target: &str, contents: &[u8]| {
            let mut header = tar::Header::new_gnu();
            header.set_entry_type(kind);
            header.set_mode(0o750);
            header.set_size(contents.len() as u64);
            if !target.is_empty() {
                header.set_link_name(target).expect("short");
            }
            // As written by a hostile hand: the builder itself refuses `..`.
            let gnu = header.as_gnu_mut().expect("made as such");
            gnu.name[..name.len()].copy_from_slice(name.as_bytes());
            header.set_cksum();
            builder.append(&header, contents).expect("memory");
        };
        add(tar::EntryType::Directory, "./", "", b"");
        add(tar::EntryType::Directory, "./bin/", "", b"");
        add(tar::EntryType::Regular, "./bin/a", "", b"abc");
        add(tar::EntryType::Symlink, "./bin/b", "a", b"");
        add(tar::EntryType::Link, link, "./bin/a", b"");
        ar(&[("debian-binary", b"2.0\n"), ("data.tar", &builder.into_inner().expect("memory"))])
    }

    fn entries(bytes: &[u8], limit: u64) -> Result<Vec<DebEntry>, DebError> {
        let scratch = Scratch::new(&format!("entries-{:?}", std::thread::current().id()));
        let path = scratch.0.join("it.deb");
        std::fs::write(&path, bytes).expect("written");
        read_entries(&path, |name| name != "no", limit)
    }

    #[test]
    fn all_kinds_come_out() {
        let found = entries(&package("./bin/c"), 3).expect("a package");
        let expected = [
            ("bin", DebNode::Directory),
            ("bin/a", DebNode::File(b"abc".to_vec())),
            ("bin/b", DebNode::Symlink("a".into())),
            ("bin/c", DebNode::HardLink("bin/a".into())),
        ];
        let expected = expected.map(|(name, node)| DebEntry { name: name.into(), mode: 0o750, node });
        assert_eq!(found, expected);
    }

    #[test]
    fn names_outside_and_too_much_are_refused() {
        assert!(matches!(entries(&package("./../c"), 3), Err(DebError::Format { .. })));
        assert!(matches!(entries(&package("./bin/c"), 2), Err(DebError::TooLarge { .. })));
    }
}
