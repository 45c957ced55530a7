//! cpio archives in the "newc" format (Linux, `Documentation/driver-api/early-userspace/buffer-format.rst`): what an
//! initramfs is. The same entries give the same bytes: numbers count from 1, times are what the caller says, owner is root.

use std::io::{self, Read, Write};

const MAGIC: &[u8; 6] = b"070701";
const HEADER: usize = 110;
const TRAILER: &str = "TRAILER!!!";
/// `PATH_MAX` of Linux, which its unpacker holds names to.
const MAX_NAME: usize = 4096;

const DIRECTORY: u32 = 0o040_000;
const FILE: u32 = 0o100_000;
const SYMLINK: u32 = 0o120_000;
const CHARACTER_DEVICE: u32 = 0o020_000;

/// Writes an archive, entry by entry. Directories must come before what they contain: the kernel makes none itself.
pub struct Writer<W: Write> {
    out: W,
    entries: u32,
    mtime: u32,
}

/// A name that an entry may have: relative, without empty, `.` or `..` parts.
fn check_name(name: &[u8]) -> io::Result<()> {
    let bad = |part: &[u8]| matches!(part, b"" | b"." | b"..");
    let parts_are_bad = name.split(|&byte| byte == b'/').any(bad);
    if parts_are_bad || name.contains(&0) || name == TRAILER.as_bytes() || name.len() >= MAX_NAME {
        let name = String::from_utf8_lossy(name);
        return Err(io::Error::new(io::ErrorKind::InvalidInput, format!("{name:?} is no name for an archive entry")));
    }
    Ok(())
}

/// What the header of a file of an image says. Files with several names have the same inode number in each entry, and
/// contents in the first.
#[derive(Copy, Clone, Debug, Default, PartialEq, Eq)]
pub struct Node {
    /// Inode number.
    pub inode: u32,
    /// Type and permissions.
    pub mode: u32,
    /// Owner.
    pub uid: u32,
    /// Group.
    pub gid: u32,
    /// Number of names.
    pub links: u32,
    /// Modification time in seconds since 1970.
    pub mtime: u32,
    /// Bytes of contents.
    pub size: u32,
    /// Major and minor number of a device.
    pub device: (u32, u32),
}

/// What an entry's header says beside its name.
struct Entry<'a> {
    mode: u32,
    device: (u32, u32),
    contents: &'a [u8],
}

impl<W: Write> Writer<W> {
    /// An archive whose files all have the modification time `mtime` (seconds since 1970).
    pub fn new(out: W, mtime: u32) -> Writer<W> {
        Writer { out, entries: 0, mtime }
    }

    /// A directory.
    ///
    /// # Errors
    /// A name that is absolute, has empty or `..` parts or a NUL byte, and what `W` refuses. So for the other entries.
    pub fn directory(&mut self, name: &str, permissions: u32) -> io::Result<()> {
        self.entry(name, &Entry { mode: DIRECTORY | permissions, device: (0, 0), contents: &[] })
    }

    /// A regular file.
    ///
    /// # Errors
    /// As [`Writer::directory`]; and contents of 4 GiB or more, which the format cannot hold.
    pub fn file(&mut self, name: &str, permissions: u32, contents: &[u8]) -> io::Result<()> {
        self.entry(name, &Entry { mode: FILE | permissions, device: (0, 0), contents })
    }

    /// A symbolic link to `target`.
    ///
    /// # Errors
    /// As [`Writer::directory`].
    pub fn symlink(&mut self, name: &str, target: &str) -> io::Result<()> {
        self.entry(name, &Entry { mode: SYMLINK | 0o777, device: (0, 0), contents: target.as_bytes() })
    }

    /// A character device.
    ///
    /// # Errors
    /// As [`Writer::directory`].
    pub fn character_device(&mut self, name: &str, permissions: u32, major: u32, minor: u32) -> io::Result<()> {
        self.entry(name, &Entry { mode: CHARACTER_DEVICE | permissions, device: (major, minor), contents: &[] })
    }

    /// Ends the archive.
    ///
    /// # Errors
    /// What `W` refuses.
    pub fn finish(mut self) -> io::Result<W> {
        self.header(TRAILER.as_bytes(), &Node { links: 1, ..Node::default() })?;
        Ok(self.out)
    }

    /// A file of an image, with everything that the format can say about it.
    ///
    /// # Errors
    /// As [`Writer::file`], and contents that end too early.
    pub fn node(&mut self, name: &[u8], node: &Node, contents: &mut dyn Read) -> io::Result<()> {
        check_name(name)?;
        self.entries += 1;
        self.header(name, node)?;
        let copied = io::copy(&mut contents.take(u64::from(node.size)), &mut self.out)?;
        if copied != u64::from(node.size) {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        self.pad(node.size as usize)
    }

    fn entry(&mut self, name: &str, entry: &Entry<'_>) -> io::Result<()> {
        let size = u32::try_from(entry.contents.len())
            .map_err(|_| io::Error::new(io::ErrorKind::InvalidInput, format!("{name} has 4 GiB or more")))?;
        let node = Node {
            inode: self.entries + 1,
            mode: entry.mode,
            links: if entry.mode & 0o170_000 == DIRECTORY { 2 } else { 1 },
            mtime: self.mtime,
            size,
            device: entry.device,
            ..Node::default()
        };
        self.node(name.as_bytes(), &node, &mut &*entry.contents)
    }

    fn header(&mut self, name: &[u8], node: &Node) -> io::Result<()> {
        self.out.write_all(MAGIC)?;
        // inode, mode, uid, gid, links, mtime, size, device (2), special device (2), name size, checksum
        let (major, minor) = node.device;
        let name_size = name.len() as u32 + 1;
        let Node { inode, mode, uid, gid, links, mtime, size, .. } = *node;
        for field in [inode, mode, uid, gid, links, mtime, size, 0, 0, major, minor, name_size, 0] {
            write!(self.out, "{field:08x}")?;
        }
        self.out.write_all(name)?;
        self.out.write_all(&[0])?;
        self.pad(HEADER + name.len() + 1)
    }

    fn pad(&mut self, written: usize) -> io::Result<()> {
        let zeros = written.next_multiple_of(4) - written;
        self.out.write_all([0; 3].get(..zeros).unwrap_or_default())
    }
}

/// An entry that was read.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub struct Found<'a> {
    /// Its name.
    pub name: &'a str,
    /// Type and permissions.
    pub mode: u32,
    /// Contents of a file, target of a link.
    pub contents: &'a [u8],
}

/// Reads an archive up to its trailer.
///
/// # Errors
/// What is wrong, with the offset in the archive.
pub fn read(archive: &[u8]) -> io::Result<Vec<Found<'_>>> {
    let mut entries = Vec::new();
    let mut at = 0usize;
    let bad =
        |at: usize, what: &str| io::Error::new(io::ErrorKind::InvalidData, format!("cpio entry at {at:#x}: {what}"));
    loop {
        let header = archive.get(at..at.saturating_add(HEADER)).ok_or_else(|| bad(at, "cut off"))?;
        if !header.starts_with(MAGIC) {
            return Err(bad(at, "no newc magic"));
        }
        let field = |index: usize| -> io::Result<usize> {
            let digits = header.get(6 + index * 8..14 + index * 8).and_then(|digits| std::str::from_utf8(digits).ok());
            let value = digits.and_then(|digits| u32::from_str_radix(digits, 16).ok());
            value.map(|value| value as usize).ok_or_else(|| bad(at, "a field is no number"))
        };
        let (mode, size, name_size) = (field(1)?, field(6)?, field(11)?);
        let start = at + HEADER;
        let name = archive.get(start..start + name_size).and_then(|name| name.strip_suffix(&[0]));
        let name = name.and_then(|name| std::str::from_utf8(name).ok()).ok_or_else(|| bad(at, "bad name"))?;
        if name == TRAILER {
            return Ok(entries);
        }
        let start = (start + name_size).next_multiple_of(4);
        let contents = archive.get(start..start + size).ok_or_else(|| bad(at, "contents cut off"))?;
        entries.push(Found { name, mode: mode as u32, contents });
        at = (start + size).next_multiple_of(4);
    }
}

/// Reads archives as a stream: also several, one behind the other, as the kernel does.
pub struct Reader<R: Read> {
    input: R,
    position: u64,
    left: u64,
    padding: u64,
}

impl<R: Read> Reader<R> {
    /// Reads what `input` gives.
    pub fn new(input: R) -> Reader<R> {
        Reader { input, position: 0, left: 0, padding: 0 }
    }

    /// Name and header of the next file; `None` at the end. What was not read of the contents of the one before is skipped.
    ///
    /// # Errors
    /// What the input refuses, and what is no archive, with the offset.
    pub fn next_entry(&mut self) -> io::Result<Option<(Vec<u8>, Node)>> {
        loop {
            let rest = self.left + self.padding;
            self.skip(rest)?;
            (self.left, self.padding) = (0, 0);
            // Between archives there may be zeros.
            let mut first = [0; 4];
            loop {
                if !self.fill(&mut first)? {
                    return Ok(None);
                }
                if first != [0; 4] {
                    break;
                }
            }
            let (name, node) = self.entry(first)?;
            if name != TRAILER.as_bytes() {
                return Ok(Some((name, node)));
            }
        }
    }

    fn entry(&mut self, first: [u8; 4]) -> io::Result<(Vec<u8>, Node)> {
        let at = self.position - 4;
        let bad = |what: &str| io::Error::new(io::ErrorKind::InvalidData, format!("cpio entry at {at:#x}: {what}"));
        let mut rest = [0; HEADER - 4];
        if !self.fill(&mut rest)? {
            return Err(bad("cut off"));
        }
        let header = [first.as_slice(), &rest].concat();
        if !header.starts_with(MAGIC) {
            return Err(bad("no newc magic"));
        }
        let field = |index: usize| {
            let digits = header.get(6 + index * 8..14 + index * 8).and_then(|digits| std::str::from_utf8(digits).ok());
            digits.and_then(|digits| u32::from_str_radix(digits, 16).ok()).ok_or_else(|| bad("a field is no number"))
        };
        let node = Node {
            inode: field(0)?,
            mode: field(1)?,
            uid: field(2)?,
            gid: field(3)?,
            links: field(4)?,
            mtime: field(5)?,
            size: field(6)?,
            device: (field(9)?, field(10)?),
        };
        let size = field(11)? as usize;
        if size == 0 || size > MAX_NAME {
            return Err(bad("bad name"));
        }
        let mut name = vec![0; size];
        if !self.fill(&mut name)? {
            return Err(bad("cut off"));
        }
        if name.pop() != Some(0) {
            return Err(bad("bad name"));
        }
        let padding = (HEADER + size).next_multiple_of(4) - HEADER - size;
        self.skip(padding as u64)?;
        self.left = u64::from(node.size);
        self.padding = self.left.next_multiple_of(4) - self.left;
        Ok((name, node))
    }

    /// The contents of the current file.
    pub fn contents(&mut self) -> Contents<'_, R> {
        Contents(self)
    }

    fn skip(&mut self, count: u64) -> io::Result<()> {
        let skipped = io::copy(&mut (&mut self.input).take(count), &mut io::sink())?;
        self.position += skipped;
        if skipped == count {
            Ok(())
        } else {
            Err(io::Error::new(io::ErrorKind::InvalidData, "the cpio archive is cut off"))
        }
    }

    /// Fills the buffer; false if there is nothing more.
    fn fill(&mut self, buffer: &mut [u8]) -> io::Result<bool> {
        let mut filled = 0;
        while let Some(rest) = buffer.get_mut(filled..).filter(|rest| !rest.is_empty()) {
            match self.input.read(rest) {
                Ok(0) if filled == 0 => return Ok(false),
                Ok(0) => return Err(io::Error::new(io::ErrorKind::InvalidData, "the cpio archive is cut off")),
                Ok(count) => filled += count,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        self.position += filled as u64;
        Ok(true)
    }
}

/// The contents of a file.
pub struct Contents<'a, R: Read>(&'a mut Reader<R>);

impl<R: Read> Read for Contents<'_, R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let reader = &mut self.0;
        let count = buffer.len().min(usize::try_from(reader.left).unwrap_or(usize::MAX));
        let read = reader.input.read(buffer.get_mut(..count).unwrap_or_default())?;
        if read == 0 && count > 0 {
            return Err(io::Error::new(io::ErrorKind::InvalidData, "the cpio archive is cut off"));
        }
        reader.left -= read as u64;
        reader.position += read as u64;
        Ok(read)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn archive() -> Vec<u8> {
        let mut writer = Writer::new(Vec::new(), 1_700_000_000);
        writer.directory("bin", 0o755).expect("memory");
        writer.file("bin/tool", 0o755, b"12345").expect("memory");
        writer.symlink("bin/sh", "tool").expect("memory");
        writer.character_device("console", 0o600, 5, 1).expect("memory");
        writer.finish().expect("memory")
    }

    #[test]
    fn the_bytes_are_always_the_same() {
        let bytes = archive();
        assert_eq!(bytes, archive());
        let text = String::from_utf8_lossy(&bytes);
        let console = concat!(
            "070701",
            "00000004",
            "00002180",
            "00000000",
            "00000000",
            "00000001",
            "6553f100",
            "00000000",
            "00000000",
            "00000000",
            "00000005",
            "00000001",
            "00000008",
            "00000000",
            "console\0"
        );
        assert!(text.contains(console), "{text}");
        assert_eq!(bytes.len() % 4, 0);
    }

    #[test]
    fn what_is_written_is_read() {
        let bytes = archive();
        let found = read(&bytes).expect("a valid archive");
        let names: Vec<&str> = found.iter().map(|entry| entry.name).collect();
        assert_eq!(names, ["bin", "bin/tool", "bin/sh", "console"]);
        assert_eq!((found[1].mode, found[1].contents), (0o100_755, b"12345".as_slice()));
        assert_eq!((found[2].mode, found[2].contents), (0o120_777, b"tool".as_slice()));
    }

    #[test]
    fn names_that_leave_the_archive_are_refused() {
        let mut writer = Writer::new(Vec::new(), 0);
        for name in ["/bin", "a/../b", "", "a//b", "./a", "a\0b", TRAILER] {
            assert!(writer.directory(name, 0o755).is_err(), "{name:?}");
        }
        assert!(writer.file(&"a".repeat(4096), 0o644, b"").is_err());
    }

    /// GNU cpio reads it, where there is one.
    #[test]
    fn cpio_lists_the_same() {
        use std::process::{Command, Stdio};
        let child =
            Command::new("cpio").arg("-t").stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null()).spawn();
        let Ok(mut child) = child else {
            eprintln!("no cpio here: skipped");
            return;
        };
        child.stdin.take().expect("stdin").write_all(&archive()).expect("cpio reads");
        let output = child.wait_with_output().expect("cpio ends");
        assert_eq!(String::from_utf8_lossy(&output.stdout), "bin\nbin/tool\nbin/sh\nconsole\n");
    }

    #[test]
    fn archives_are_read_as_streams_one_behind_the_other() {
        let bytes = [archive(), vec![0; 512], archive()].concat();
        let mut reader = Reader::new(bytes.as_slice());
        let (mut names, mut contents) = (Vec::new(), Vec::new());
        while let Some((name, node)) = reader.next_entry().expect("an archive") {
            assert!(node.links > 0);
            names.push(String::from_utf8(name).expect("text"));
            if node.mode == 0o100_755 {
                reader.contents().read_to_end(&mut contents).expect("contents");
            }
        }
        assert_eq!(names, ["bin", "bin/tool", "bin/sh", "console", "bin", "bin/tool", "bin/sh", "console"]);
        assert_eq!(contents, b"1234512345");
        let cut = bytes.get(..150).expect("long");
        let mut reader = Reader::new(cut);
        assert!(std::iter::from_fn(|| reader.next_entry().transpose()).any(|entry| entry.is_err()));
    }

    proptest! {
        #[test]
        fn damaged_streams_never_panic(at in 0usize..600, value: u8, cut in 0usize..700) {
            let mut bytes = archive();
            if let Some(byte) = bytes.get_mut(at) { *byte = value; }
            bytes.truncate(cut);
            let mut reader = Reader::new(bytes.as_slice());
            while let Ok(Some(_)) = reader.next_entry() {}
        }

        #[test]
        fn damaged_archives_never_panic(at in 0usize..600, value: u8, cut in 0usize..700) {
            let mut bytes = archive();
            if let Some(byte) = bytes.get_mut(at) { *byte = value; }
            bytes.truncate(cut);
            let _ = read(&bytes);
        }
    }
}
