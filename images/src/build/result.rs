//! Takes over what the guest made of an image: a list of all names, and an archive with the files that changed. Both come
//! from a guest and are hostile until they agree with each other and with what went in.

use std::collections::HashMap;
use std::fs::File;
use std::io::{self, BufRead, BufReader};

use super::guest::Results;
use super::unpack::{inode, kind};
use crate::tarball::{Entry, EntryKind, Reader};
use crate::tree::{Content, Inode, Kind, PathError, Spool, Tree, clean_path, show};

/// Longest field of the list: a path, or the target of a link.
const MAX_FIELD: u64 = 8192;
/// Most files of an image.
const MAX_FILES: usize = 8_000_000;

/// Why the result of a guest is not believed.
#[derive(Debug, thiserror::Error)]
pub enum ResultError {
    /// It cannot be read.
    #[error("Cannot read what the guest made of the image")]
    Io(#[from] io::Error),
    /// A path leads out of the image.
    #[error("What the guest made of the image has a bad path")]
    Path(#[from] PathError),
    /// It is not made as expected.
    #[error("What the guest made of the image is damaged: {0}")]
    Damaged(String),
}

/// A file of the list.
struct Listed {
    kind: u8,
    mode: u32,
    uid: u32,
    gid: u32,
    inode: u64,
    mtime: i64,
    target: Vec<u8>,
    path: Vec<u8>,
}

/// Directories that are mount points while the image is configured: they are as they were, and empty.
const MOUNT_POINTS: [&[u8]; 3] = [b"dev", b"proc", b"sys"];

/// The image after the guest: `before` with what the guest did to it.
///
/// # Errors
/// [`ResultError`].
pub fn read(results: &Results, before: &Tree, spool: &Spool, epoch: i64) -> Result<Tree, ResultError> {
    let changed = changed(results, spool)?;
    let mut tree = Tree::new(epoch);
    let mut ids = HashMap::new();
    let mut input = BufReader::with_capacity(1 << 17, File::open(&results.list)?);
    let mut count = 0;
    while let Some(listed) = next(&mut input)? {
        count += 1;
        if count > MAX_FILES {
            return Err(ResultError::Damaged(format!("more than {MAX_FILES} files")));
        }
        let path = listed.path.clone();
        let below = |point: &&[u8]| path.starts_with(point) && path.get(point.len()).is_none_or(|&byte| byte == b'/');
        // Sockets have no place in an image: their programs make them.
        if listed.kind == b's' || MOUNT_POINTS.iter().any(below) {
            continue;
        }
        if let Some(id) = ids.get(&listed.inode).filter(|_| listed.kind != b'd') {
            tree.link(&path, *id);
            continue;
        }
        let inode = match changed.get(&path) {
            Some((entry, content)) => after(&listed, entry, content)?,
            None if path.is_empty() => directory(&listed),
            None => unchanged(&listed, before)?,
        };
        if path.is_empty() {
            if let Some(root) = tree.get_mut(b"") {
                *root = inode;
            }
        } else {
            ids.insert(listed.inode, tree.insert(&path, inode));
        }
    }
    for point in MOUNT_POINTS {
        let names = before.below(point).chain([point]);
        for name in names.collect::<Vec<_>>() {
            if let Some(inode) = before.get(name) {
                tree.insert(name, inode.clone());
            }
        }
    }
    Ok(tree)
}

fn directory(listed: &Listed) -> Inode {
    Inode { uid: listed.uid, gid: listed.gid, ..Inode::new(Kind::Directory, listed.mode, listed.mtime) }
}

/// A file that changed: list and archive have to agree.
fn after(listed: &Listed, entry: &Entry, content: &Option<Content>) -> Result<Inode, ResultError> {
    let mismatch = || ResultError::Damaged(format!("list and archive differ about {}", show(&listed.path)));
    let kind = kind(&entry.kind, content.clone()).ok_or_else(mismatch)?;
    let inode = inode(entry, kind);
    let letter = letter(&inode.kind);
    if (letter, inode.uid, inode.gid) != (listed.kind, listed.uid, listed.gid)
        || (letter != b'l' && inode.mode != listed.mode)
    {
        return Err(mismatch());
    }
    Ok(Inode { mode: listed.mode, ..inode })
}

/// A file that did not change: it has to be what went in.
fn unchanged(listed: &Listed, before: &Tree) -> Result<Inode, ResultError> {
    let there = before.get(&listed.path);
    let same = there.filter(|inode| {
        let target = match &inode.kind {
            Kind::Symlink(target) => target.as_slice(),
            _ => &[],
        };
        (letter(&inode.kind), inode.uid, inode.gid, target) == (listed.kind, listed.uid, listed.gid, &listed.target)
            && (listed.kind == b'l' || inode.mode == listed.mode)
    });
    // Directories that the kernel made on the way have no entry of their own.
    match same {
        Some(inode) => Ok(inode.clone()),
        None => {
            Err(ResultError::Damaged(format!("{} is not what it was, but was not sent as changed", show(&listed.path))))
        }
    }
}

/// The letter of find(1) for a type.
fn letter(kind: &Kind) -> u8 {
    match kind {
        Kind::Directory => b'd',
        Kind::File(_) => b'f',
        Kind::Symlink(_) => b'l',
        Kind::CharacterDevice(..) => b'c',
        Kind::BlockDevice(..) => b'b',
        Kind::Fifo => b'p',
    }
}

type Changed = HashMap<Vec<u8>, (Entry, Option<Content>)>;

/// The files of the archive. Other names of a file get its contents: the list says which are one file.
fn changed(results: &Results, spool: &Spool) -> Result<Changed, ResultError> {
    let mut archive = Reader::new(BufReader::with_capacity(1 << 17, File::open(&results.data)?));
    let mut changed = Changed::new();
    while let Some(mut entry) = archive.next_entry()? {
        if changed.len() > MAX_FILES {
            return Err(ResultError::Damaged(format!("more than {MAX_FILES} files")));
        }
        entry.path = clean_path(&entry.path)?;
        let content = match &entry.kind {
            EntryKind::File(size) => Some(spool.copy(&mut archive.contents(), *size)?),
            EntryKind::HardLink(target) => {
                let target = changed.get(&clean_path(target)?).cloned();
                let (first, content) = target
                    .ok_or_else(|| ResultError::Damaged(format!("{} is a link to nothing", show(&entry.path))))?;
                entry = Entry { path: entry.path, ..first };
                content
            }
            _ => None,
        };
        changed.insert(entry.path.clone(), (entry, content));
    }
    Ok(changed)
}

/// The next file of the list; `None` at its end.
fn next(input: &mut impl BufRead) -> Result<Option<Listed>, ResultError> {
    let mut field = || -> Result<Vec<u8>, ResultError> {
        let mut bytes = Vec::new();
        io::Read::take(&mut *input, MAX_FIELD).read_until(0, &mut bytes)?;
        if bytes.pop() == Some(0) { Ok(bytes) } else { Err(ResultError::Damaged("the list is cut off".to_owned())) }
    };
    let kind = field()?;
    if kind == b"end" {
        return Ok(None);
    }
    let mut text = |what: &str| {
        let text = String::from_utf8_lossy(&field()?).into_owned();
        Ok::<_, ResultError>((text, ResultError::Damaged(format!("{what} in the list is no number"))))
    };
    fn number<N: std::str::FromStr>((text, error): (String, ResultError)) -> Result<N, ResultError> {
        text.parse().map_err(|_| error)
    }
    let (mode, error) = text("a mode")?;
    let mode = u32::from_str_radix(&mode, 8).map_err(|_| error)? & 0o7777;
    let (uid, gid, inode) = (number(text("an owner")?)?, number(text("a group")?)?, number(text("an inode")?)?);
    let (time, error) = text("a time")?;
    let mtime = time.split('.').next().unwrap_or_default().parse().map_err(|_| error)?;
    let (target, path) = (field()?, field()?);
    let kind = kind.first().copied().unwrap_or_default();
    Ok(Some(Listed { kind, mode, uid, gid, inode, mtime, target, path: clean_path(&path)? }))
}

#[cfg(test)]
mod tests;
