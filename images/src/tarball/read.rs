//! Reads tar archives.

use std::collections::BTreeMap;
use std::io::{self, Read};

use super::{BLOCK, Entry, EntryKind, XATTR};

/// Greatest size of a long name or of pax records: Linux holds paths to 4 KiB and an attribute to 64 KiB.
const MAX_EXTENSION: u64 = 1 << 20;

/// A block of zeros ends the archive.
type Block = [u8; BLOCK];

/// Reads an archive, entry by entry.
pub struct Reader<R: Read> {
    input: R,
    /// Bytes read.
    position: u64,
    /// Bytes of the current entry that were not read yet, and padding behind them.
    left: u64,
    padding: u64,
}

/// What extension headers say about the entry behind them.
#[derive(Default)]
struct Extensions {
    path: Option<Vec<u8>>,
    link: Option<Vec<u8>>,
    size: Option<u64>,
    uid: Option<u32>,
    gid: Option<u32>,
    mtime: Option<i64>,
    xattrs: BTreeMap<Vec<u8>, Vec<u8>>,
}

impl<R: Read> Reader<R> {
    /// Reads what `input` gives.
    pub fn new(input: R) -> Reader<R> {
        Reader { input, position: 0, left: 0, padding: 0 }
    }

    /// The next entry; `None` at the end of the archive. What was not read of the contents of the one before is skipped.
    ///
    /// # Errors
    /// What the input refuses, and what is no tar archive, with the offset.
    pub fn next_entry(&mut self) -> io::Result<Option<Entry>> {
        let mut extensions = Extensions::default();
        loop {
            self.skip_rest()?;
            let at = self.position;
            let Some(block) = self.block()? else {
                return Ok(None);
            };
            let size = number(&block, 124..136).ok_or_else(|| bad(at, "its size is no number"))?;
            match block.get(156).copied().unwrap_or_default() {
                b'L' => extensions.path = Some(until_nul(&self.extension(at, size)?).to_vec()),
                b'K' => extensions.link = Some(until_nul(&self.extension(at, size)?).to_vec()),
                b'x' => {
                    let records = self.extension(at, size)?;
                    extensions.read(&records).ok_or_else(|| bad(at, "its pax records are damaged"))?;
                }
                // Records for all entries: only comments in practice.
                b'g' => drop(self.extension(at, size)?),
                kind => return self.entry(at, &block, kind, size, extensions).map(Some),
            }
        }
    }

    /// The contents of the current entry.
    pub fn contents(&mut self) -> Contents<'_, R> {
        Contents(self)
    }

    /// What the archive is read from.
    pub fn into_inner(self) -> R {
        self.input
    }

    fn entry(&mut self, at: u64, block: &Block, kind: u8, size: u64, more: Extensions) -> io::Result<Entry> {
        let field = |range| number(block, range).ok_or_else(|| bad(at, "a field is no number"));
        let small = |range| field(range).and_then(|n| u32::try_from(n).map_err(|_| bad(at, "a number is too large")));
        let text = |range: std::ops::Range<usize>| until_nul(block.get(range).unwrap_or_default()).to_vec();
        let is_ustar = block.get(257..262) == Some(b"ustar");
        let mut path = text(0..100);
        let prefix = text(345..500);
        // GNU's own format has times where the prefix is.
        if is_ustar && block.get(262) == Some(&0) && !prefix.is_empty() {
            path = [prefix.as_slice(), b"/", path.as_slice()].concat();
        }
        let path = more.path.unwrap_or(path);
        let link = more.link.unwrap_or_else(|| text(157..257));
        let size = more.size.unwrap_or(size);
        let devices = || Ok::<_, io::Error>((small(329..337)?, small(337..345)?));
        let kind = match kind {
            // A name with a slash at its end is a directory in archives of old.
            0 | b'0' | b'7' if !path.ends_with(b"/") => EntryKind::File(size),
            b'1' => EntryKind::HardLink(link),
            b'2' => EntryKind::Symlink(link),
            b'3' => devices().map(|(major, minor)| EntryKind::CharacterDevice(major, minor))?,
            b'4' => devices().map(|(major, minor)| EntryKind::BlockDevice(major, minor))?,
            0 | b'0' | b'7' | b'5' => EntryKind::Directory,
            b'6' => EntryKind::Fifo,
            other => return Err(bad(at, &format!("its type {:?} is not known", char::from(other)))),
        };
        if let EntryKind::File(size) = kind {
            self.expect(size);
        }
        Ok(Entry {
            path,
            kind,
            mode: small(100..108)? & 0o7777,
            uid: more.uid.map_or_else(|| small(108..116), Ok)?,
            gid: more.gid.map_or_else(|| small(116..124), Ok)?,
            mtime: more.mtime.map_or_else(|| field(136..148).map(|n| i64::try_from(n).unwrap_or(0)), Ok)?,
            xattrs: more.xattrs,
        })
    }

    fn expect(&mut self, size: u64) {
        self.left = size;
        self.padding = (BLOCK as u64 - size % BLOCK as u64) % BLOCK as u64;
    }

    /// The contents of an extension header.
    fn extension(&mut self, at: u64, size: u64) -> io::Result<Vec<u8>> {
        if size > MAX_EXTENSION {
            return Err(bad(at, &format!("{size} bytes of name or attributes are too many")));
        }
        self.expect(size);
        let mut bytes = Vec::new();
        self.contents().read_to_end(&mut bytes)?;
        if bytes.len() as u64 == size { Ok(bytes) } else { Err(bad(at, "cut off")) }
    }

    fn skip_rest(&mut self) -> io::Result<()> {
        let count = self.left.saturating_add(self.padding);
        if io::copy(&mut (&mut self.input).take(count), &mut io::sink())? != count {
            return Err(bad(self.position, "the archive is cut off"));
        }
        self.position = self.position.saturating_add(count);
        (self.left, self.padding) = (0, 0);
        Ok(())
    }

    /// A header; `None` at the end.
    fn block(&mut self) -> io::Result<Option<Block>> {
        let at = self.position;
        let mut block = [0; BLOCK];
        let mut filled = 0;
        while let Some(rest) = block.get_mut(filled..).filter(|rest| !rest.is_empty()) {
            match self.input.read(rest) {
                Ok(0) if filled == 0 => return Ok(None),
                Ok(0) => return Err(bad(at, "the archive is cut off")),
                Ok(count) => filled += count,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        self.position += BLOCK as u64;
        if block.iter().all(|&byte| byte == 0) {
            return Ok(None);
        }
        let sum = number(&block, 148..156).ok_or_else(|| bad(at, "no tar header"))?;
        let in_sum = |(index, byte): (usize, &u8)| if (148..156).contains(&index) { 32 } else { u64::from(*byte) };
        if block.iter().enumerate().map(in_sum).sum::<u64>() != sum {
            return Err(bad(at, "its checksum is wrong"));
        }
        Ok(Some(block))
    }
}

/// The contents of an entry.
pub struct Contents<'a, R: Read>(&'a mut Reader<R>);

impl<R: Read> Read for Contents<'_, R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let reader = &mut self.0;
        let count = buffer.len().min(usize::try_from(reader.left).unwrap_or(usize::MAX));
        let Some(part) = buffer.get_mut(..count).filter(|part| !part.is_empty()) else {
            return Ok(0);
        };
        let read = reader.input.read(part)?;
        if read == 0 {
            return Err(bad(reader.position, "the archive is cut off"));
        }
        reader.left -= read as u64;
        reader.position += read as u64;
        Ok(read)
    }
}

impl Extensions {
    /// Records `LENGTH KEY=VALUE\n`; keys that are not known are left out.
    fn read(&mut self, mut records: &[u8]) -> Option<()> {
        while !records.is_empty() {
            let space = records.iter().position(|&byte| byte == b' ')?;
            let length: usize = std::str::from_utf8(records.get(..space)?).ok()?.parse().ok()?;
            let record = records.get(space + 1..length)?.strip_suffix(b"\n")?;
            let equals = record.iter().position(|&byte| byte == b'=')?;
            let (key, value) = (std::str::from_utf8(record.get(..equals)?).ok()?, record.get(equals + 1..)?);
            let text = || std::str::from_utf8(value).ok();
            match key {
                "path" => self.path = Some(value.to_vec()),
                "linkpath" => self.link = Some(value.to_vec()),
                "size" => self.size = Some(text()?.parse().ok()?),
                "uid" => self.uid = Some(text()?.parse().ok()?),
                "gid" => self.gid = Some(text()?.parse().ok()?),
                // Fractions of a second are left out.
                "mtime" => self.mtime = Some(text()?.split('.').next()?.parse().ok()?),
                _ => {
                    if let Some(name) = key.strip_prefix(XATTR) {
                        self.xattrs.insert(name.as_bytes().to_vec(), value.to_vec());
                    }
                }
            }
            records = records.get(length..)?;
        }
        Some(())
    }
}

fn bad(at: u64, what: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, format!("tar entry at {at:#x}: {what}"))
}

fn until_nul(bytes: &[u8]) -> &[u8] {
    bytes.split(|&byte| byte == 0).next().unwrap_or_default()
}

/// A number: octal digits, or binary with the first bit set.
fn number(block: &Block, range: std::ops::Range<usize>) -> Option<u64> {
    let field = block.get(range)?;
    if field.first()? & 0x80 != 0 {
        // Negative numbers are not used for anything that counts here.
        return field.iter().enumerate().try_fold(0u64, |value, (index, &byte)| {
            let byte = if index == 0 { byte & 0x7f } else { byte };
            value.checked_mul(256).map(|value| value | u64::from(byte))
        });
    }
    let text = std::str::from_utf8(field).ok()?.trim_matches(['\0', ' ']);
    if text.is_empty() { Some(0) } else { u64::from_str_radix(text, 8).ok() }
}
