//! What differs between two images, and why.

use std::collections::{BTreeSet, HashMap};
use std::io::{self, Read};

use sha2::{Digest, Sha256};

use crate::tree::{Content, Inode, Kind, Tree, show};

/// Greatest text file of which differing lines are shown.
const MAX_TEXT: u64 = 1 << 20;
/// Lines that are shown of a file.
const MAX_LINES: usize = 6;

/// What is compared.
#[derive(Copy, Clone, Debug)]
pub struct DiffOptions {
    /// Also modification times.
    pub times: bool,
}

/// One line for each difference, and lines of text behind some.
///
/// # Errors
/// What the operating system refuses.
pub fn diff(a: &Tree, b: &Tree, options: DiffOptions) -> io::Result<Vec<String>> {
    let names: BTreeSet<&[u8]> = a.iter().chain(b.iter()).map(|(path, ..)| path).collect();
    let mut found = Vec::new();
    for path in names {
        match (a.get(path), b.get(path)) {
            (Some(_), None) => found.push(format!("{}: only in the first", show(path))),
            (None, Some(_)) => found.push(format!("{}: only in the second", show(path))),
            (Some(x), Some(y)) => {
                let (what, lines) = differences(x, y, options)?;
                if !what.is_empty() {
                    found.push(format!("{}: {}", show(path), what.join(", ")));
                    found.extend(lines);
                }
            }
            (None, None) => {}
        }
    }
    found.extend(other_links(a, b, "first"));
    found.extend(other_links(b, a, "second"));
    Ok(found)
}

/// Names of one file in `a` that are names of several in `b`.
fn other_links(a: &Tree, b: &Tree, which: &str) -> Vec<String> {
    let mut first_names = HashMap::new();
    let mut found = Vec::new();
    for (path, id, _) in a.iter() {
        let first: &[u8] = first_names.entry(id).or_insert(path);
        if let (Some(one), Some(other)) = (b.id(first), b.id(path))
            && one != other
        {
            found.push(format!("{}: the same file as {} only in the {which}", show(path), show(first)));
        }
    }
    found
}

fn differences(x: &Inode, y: &Inode, options: DiffOptions) -> io::Result<(Vec<String>, Vec<String>)> {
    let (mut what, mut lines) = (Vec::new(), Vec::new());
    match (&x.kind, &y.kind) {
        (Kind::File(p), Kind::File(q)) => {
            if p.len() != q.len() {
                what.push(format!("{} and {} bytes", p.len(), q.len()));
            }
            if p.len() != q.len() || sha256(p)? != sha256(q)? {
                what.push("other contents".to_owned());
                lines = other_lines(p, q)?;
            }
        }
        (Kind::Symlink(p), Kind::Symlink(q)) if p != q => {
            what.push(format!("links to {} and {}", String::from_utf8_lossy(p), String::from_utf8_lossy(q)));
        }
        (p, q) if std::mem::discriminant(p) != std::mem::discriminant(q) => {
            what.push(format!("type {} and {}", type_name(p), type_name(q)));
        }
        (Kind::CharacterDevice(..) | Kind::BlockDevice(..), _) if x.kind != y.kind => {
            what.push("other device".to_owned())
        }
        _ => {}
    }
    let is_link = matches!(x.kind, Kind::Symlink(_));
    if x.mode != y.mode && !is_link {
        what.push(format!("mode {:04o} and {:04o}", x.mode, y.mode));
    }
    if (x.uid, x.gid) != (y.uid, y.gid) {
        what.push(format!("owner {}:{} and {}:{}", x.uid, x.gid, y.uid, y.gid));
    }
    if options.times && x.mtime != y.mtime {
        what.push(format!("time {} and {}", x.mtime, y.mtime));
    }
    if x.xattrs != y.xattrs {
        what.push("other extended attributes".to_owned());
    }
    Ok((what, lines))
}

fn type_name(kind: &Kind) -> &'static str {
    match kind {
        Kind::Directory => "directory",
        Kind::File(_) => "file",
        Kind::Symlink(_) => "symbolic link",
        Kind::CharacterDevice(..) => "character device",
        Kind::BlockDevice(..) => "block device",
        Kind::Fifo => "pipe",
    }
}

/// Hash of contents.
pub(crate) fn sha256(content: &Content) -> io::Result<[u8; 32]> {
    let mut hasher = Sha256::new();
    let mut reader = content.reader();
    let mut buffer = vec![0; 1 << 16];
    loop {
        let count = reader.read(&mut buffer)?;
        if count == 0 {
            return Ok(hasher.finalize().into());
        }
        hasher.update(buffer.get(..count).unwrap_or_default());
    }
}

/// Lines that only one of two texts has; nothing for other files.
fn other_lines(p: &Content, q: &Content) -> io::Result<Vec<String>> {
    if p.len() > MAX_TEXT || q.len() > MAX_TEXT {
        return Ok(Vec::new());
    }
    let (Ok(p), Ok(q)) = (String::from_utf8(p.bytes(MAX_TEXT)?), String::from_utf8(q.bytes(MAX_TEXT)?)) else {
        return Ok(Vec::new());
    };
    if p.contains('\0') || q.contains('\0') {
        return Ok(Vec::new());
    }
    let (in_p, in_q): (BTreeSet<&str>, BTreeSet<&str>) = (p.lines().collect(), q.lines().collect());
    let only = |lines: &str, others: &BTreeSet<&str>, sign: char| -> Vec<String> {
        let lines = lines.lines().filter(|line| !others.contains(line)).take(MAX_LINES);
        lines.map(|line| format!("  {sign} {}", line.escape_debug())).collect()
    };
    Ok([only(&p, &in_q, '-'), only(&q, &in_p, '+')].concat())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cache::tests::Scratch;
    use crate::tree::Spool;

    #[test]
    fn each_difference_is_told() {
        let scratch = Scratch::new("diff");
        let spool = Spool::new(&scratch.0).expect("a spool");
        let file = |text: &str, mode| Inode::new(Kind::File(spool.put(text.as_bytes()).expect("kept")), mode, 1);
        let (mut a, mut b) = (Tree::new(1), Tree::new(2));
        a.insert(b"same", file("x", 0o644));
        b.insert(b"same", Inode { mtime: 9, ..file("x", 0o644) });
        a.insert(b"text", file("one\ntwo\n", 0o644));
        b.insert(b"text", file("one\nthree\n", 0o755));
        a.insert(b"gone", Inode::new(Kind::Fifo, 0o644, 1));
        b.insert(b"new", Inode::new(Kind::Symlink(b"a".to_vec()), 0o777, 1));
        a.insert(b"kind", Inode::new(Kind::Fifo, 0o644, 1));
        b.insert(b"kind", Inode { uid: 5, ..Inode::new(Kind::Directory, 0o644, 1) });
        let found = diff(&a, &b, DiffOptions { times: false }).expect("compared");
        let expected = [
            "/gone: only in the first",
            "/kind: type pipe and directory, owner 0:0 and 5:0",
            "/new: only in the second",
            "/text: 8 and 10 bytes, other contents, mode 0644 and 0755",
            "  - two",
            "  + three",
        ];
        assert_eq!(found, expected);
        assert!(diff(&a, &a, DiffOptions { times: true }).expect("compared").is_empty());
        assert_eq!(diff(&a, &b, DiffOptions { times: true }).expect("compared").len(), 8);
    }
}
