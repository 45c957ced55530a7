//! Writes tar archives.

use std::io::{self, Read, Write};

use super::{BLOCK, Entry, EntryKind, XATTR};

/// Writes an archive: ustar headers, with pax records for what does not fit into them.
pub struct Writer<W: Write> {
    out: W,
}

impl<W: Write> Writer<W> {
    /// Writes to `out`.
    pub fn new(out: W) -> Writer<W> {
        Writer { out }
    }

    /// An entry; `contents` are those of a regular file.
    ///
    /// # Errors
    /// What `W` and `contents` refuse, and contents of another size than the entry says.
    pub fn entry(&mut self, entry: &Entry, contents: &mut dyn Read) -> io::Result<()> {
        let records = records(entry);
        if !records.is_empty() {
            let size = EntryKind::File(records.len() as u64);
            let header =
                Entry { path: b"pax-header".to_vec(), kind: size, mode: 0o644, uid: 0, gid: 0, ..entry.clone() };
            self.header(&header, b'x')?;
            self.out.write_all(&records)?;
            self.pad(records.len() as u64)?;
        }
        self.header(entry, type_flag(&entry.kind))?;
        if let EntryKind::File(size) = entry.kind {
            let copied = io::copy(&mut contents.take(size), &mut self.out)?;
            if copied != size {
                let name = String::from_utf8_lossy(&entry.path).into_owned();
                return Err(io::Error::new(
                    io::ErrorKind::UnexpectedEof,
                    format!("{name} has {copied} bytes, {size} expected"),
                ));
            }
            self.pad(size)?;
        }
        Ok(())
    }

    /// Ends the archive.
    ///
    /// # Errors
    /// What `W` refuses.
    pub fn finish(mut self) -> io::Result<W> {
        self.out.write_all(&[0; 2 * BLOCK])?;
        Ok(self.out)
    }

    fn pad(&mut self, size: u64) -> io::Result<()> {
        let zeros = (BLOCK as u64 - size % BLOCK as u64) % BLOCK as u64;
        self.out.write_all([0; BLOCK].get(..zeros as usize).unwrap_or_default())
    }

    fn header(&mut self, entry: &Entry, flag: u8) -> io::Result<()> {
        let mut block = [0u8; BLOCK];
        let mut put = |at: usize, bytes: &[u8], room: usize| {
            let count = bytes.len().min(room);
            if let (Some(place), Some(bytes)) = (block.get_mut(at..at + count), bytes.get(..count)) {
                place.copy_from_slice(bytes);
            }
        };
        let (link, size): (&[u8], u64) = match &entry.kind {
            EntryKind::File(size) => (&[], *size),
            EntryKind::HardLink(target) | EntryKind::Symlink(target) => (target, 0),
            _ => (&[], 0),
        };
        let (major, minor) = match entry.kind {
            EntryKind::CharacterDevice(major, minor) | EntryKind::BlockDevice(major, minor) => (major, minor),
            _ => (0, 0),
        };
        put(0, &entry.path, 100);
        put(100, &octal(u64::from(entry.mode), 7), 8);
        put(108, &octal(u64::from(entry.uid), 7), 8);
        put(116, &octal(u64::from(entry.gid), 7), 8);
        put(124, &octal(size, 11), 12);
        put(136, &octal(u64::try_from(entry.mtime).unwrap_or(0), 11), 12);
        put(148, b"        ", 8);
        put(156, &[flag], 1);
        put(157, link, 100);
        put(257, b"ustar\x0000", 8);
        put(329, &octal(u64::from(major), 7), 8);
        put(337, &octal(u64::from(minor), 7), 8);
        let sum: u64 = block.iter().map(|&byte| u64::from(byte)).sum();
        if let Some(place) = block.get_mut(148..155) {
            place.copy_from_slice(&[octal(sum, 6).as_slice(), b"\0"].concat());
        }
        self.out.write_all(&block)
    }
}

fn type_flag(kind: &EntryKind) -> u8 {
    match kind {
        EntryKind::File(_) => b'0',
        EntryKind::HardLink(_) => b'1',
        EntryKind::Symlink(_) => b'2',
        EntryKind::CharacterDevice(..) => b'3',
        EntryKind::BlockDevice(..) => b'4',
        EntryKind::Directory => b'5',
        EntryKind::Fifo => b'6',
    }
}

/// Digits of a number, cut off on the left: what does not fit stands in a pax record.
fn octal(value: u64, digits: usize) -> Vec<u8> {
    let text = format!("{value:0digits$o}").into_bytes();
    text.get(text.len() - digits..).unwrap_or_default().to_vec()
}

/// The pax records that an entry needs.
fn records(entry: &Entry) -> Vec<u8> {
    let mut out = Vec::new();
    let mut record = |key: &[u8], value: &[u8]| {
        // The length counts its own digits.
        let rest = key.len() + value.len() + 3;
        let mut length = rest;
        while length != rest + length.to_string().len() {
            length = rest + length.to_string().len();
        }
        out.extend([length.to_string().as_bytes(), b" ", key, b"=", value, b"\n"].concat());
    };
    if entry.path.len() > 100 {
        record(b"path", &entry.path);
    }
    match &entry.kind {
        EntryKind::HardLink(link) | EntryKind::Symlink(link) if link.len() > 100 => record(b"linkpath", link),
        EntryKind::File(size) if *size >= 1 << 33 => record(b"size", size.to_string().as_bytes()),
        _ => {}
    }
    for (key, id) in [(b"uid", entry.uid), (b"gid", entry.gid)] {
        if id >= 1 << 21 {
            record(key, id.to_string().as_bytes());
        }
    }
    if !(0..1 << 33).contains(&entry.mtime) {
        record(b"mtime", entry.mtime.to_string().as_bytes());
    }
    for (name, value) in &entry.xattrs {
        record(&[XATTR.as_bytes(), name].concat(), value);
    }
    out
}
