//! The file format of a saved machine: named sections, each with its length and its SHA-256.
//!
//! ```text
//! "vmmstate"  u32 version  u32 zero
//! section*:   u16 name length, name (UTF-8), u64 payload length, payload, SHA-256 of all of the section before it
//! the last section is named "end" and is empty: a truncated file is seen as such
//! ```
//! All numbers are little-endian.

use std::io::{self, Read, Write};

use sha2::{Digest, Sha256};

const MAGIC: &[u8; 8] = b"vmmstate";
/// The version that is written, and the only one that is read.
pub const VERSION: u32 = 1;
/// Longest section: the writer splits RAM into pieces far below it.
pub const LONGEST_SECTION: u64 = 64 << 20;
const LONGEST_NAME: usize = 64;
const END: &str = "end";

/// Why a saved machine cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum ContainerError {
    /// The file or pipe failed.
    #[error("the saved machine cannot be read or written: {0}")]
    Io(#[from] io::Error),
    /// No saved machine.
    #[error("this is no saved machine: it starts with {found:02x?}, not with \"vmmstate\"")]
    Magic {
        /// The first bytes.
        found: [u8; 8],
    },
    /// Written by another version.
    #[error(
        "the saved machine has format version {found}, this program reads version {VERSION}; use the program that wrote it"
    )]
    Version {
        /// The version in the file.
        found: u32,
    },
    /// A section's checksum is wrong.
    #[error("section {section:?} of the saved machine is damaged: its checksum does not match")]
    Damaged {
        /// The section's name.
        section: String,
    },
    /// A section's header makes no sense.
    #[error("the saved machine is damaged: {0}")]
    Malformed(String),
    /// A section that is needed is not there.
    #[error("the saved machine lacks the section {0:?}")]
    Missing(&'static str),
}

/// Writes a saved machine.
pub struct Writer<W: Write> {
    out: W,
}

impl<W: Write> Writer<W> {
    /// Writes the header.
    pub fn new(mut out: W) -> io::Result<Writer<W>> {
        out.write_all(MAGIC)?;
        out.write_all(&VERSION.to_le_bytes())?;
        out.write_all(&0u32.to_le_bytes())?;
        Ok(Writer { out })
    }

    /// Writes one section whose payload is the concatenation of `parts`.
    pub fn section(&mut self, name: &str, parts: &[&[u8]]) -> io::Result<()> {
        let length: usize = parts.iter().map(|part| part.len()).sum();
        if name.len() > LONGEST_NAME || length as u64 > LONGEST_SECTION {
            return Err(io::Error::new(
                io::ErrorKind::InvalidInput,
                format!("section {name:?} of {length} bytes is too long"),
            ));
        }
        let mut head = Vec::with_capacity(name.len() + 10);
        head.extend_from_slice(&(name.len() as u16).to_le_bytes()); // at most LONGEST_NAME
        head.extend_from_slice(name.as_bytes());
        head.extend_from_slice(&(length as u64).to_le_bytes());
        let mut hash = Sha256::new();
        for part in std::iter::once(head.as_slice()).chain(parts.iter().copied()) {
            hash.update(part);
            self.out.write_all(part)?;
        }
        self.out.write_all(&hash.finalize())
    }

    /// Writes the end mark.
    pub fn finish(mut self) -> io::Result<W> {
        self.section(END, &[])?;
        self.out.flush()?;
        Ok(self.out)
    }
}

/// Reads a saved machine.
#[derive(Debug)]
pub struct Reader<R: Read> {
    input: R,
    ended: bool,
}

impl<R: Read> Reader<R> {
    /// Checks the header.
    pub fn new(mut input: R) -> Result<Reader<R>, ContainerError> {
        let mut magic = [0u8; 8];
        input.read_exact(&mut magic)?;
        if &magic != MAGIC {
            return Err(ContainerError::Magic { found: magic });
        }
        let mut word = [0u8; 4];
        input.read_exact(&mut word)?;
        let found = u32::from_le_bytes(word);
        if found != VERSION {
            return Err(ContainerError::Version { found });
        }
        input.read_exact(&mut word)?;
        Ok(Reader { input, ended: false })
    }

    /// The next section, checked; `None` after the end mark.
    pub fn next_section(&mut self) -> Result<Option<(String, Vec<u8>)>, ContainerError> {
        if self.ended {
            return Ok(None);
        }
        let mut hash = Sha256::new();
        let mut short = [0u8; 2];
        self.input.read_exact(&mut short)?;
        hash.update(short);
        let name_length = usize::from(u16::from_le_bytes(short));
        if name_length > LONGEST_NAME {
            return Err(ContainerError::Malformed(format!("a section name of {name_length} bytes")));
        }
        let mut name = vec![0u8; name_length];
        self.input.read_exact(&mut name)?;
        hash.update(&name);
        let name =
            String::from_utf8(name).map_err(|_| ContainerError::Malformed("a section name that is no UTF-8".into()))?;
        let mut long = [0u8; 8];
        self.input.read_exact(&mut long)?;
        hash.update(long);
        let length = u64::from_le_bytes(long);
        if length > LONGEST_SECTION {
            return Err(ContainerError::Malformed(format!(
                "section {name:?} of {length} bytes; the longest has {LONGEST_SECTION}"
            )));
        }
        // A hostile length must not cost memory that the file does not have.
        let mut payload = Vec::new();
        (&mut self.input).take(length).read_to_end(&mut payload)?;
        if payload.len() as u64 != length {
            return Err(ContainerError::Malformed(format!("the file ends inside section {name:?}")));
        }
        hash.update(&payload);
        let mut found = [0u8; 32];
        self.input.read_exact(&mut found)?;
        if hash.finalize().as_slice() != found.as_slice() {
            return Err(ContainerError::Damaged { section: name });
        }
        if name == END {
            self.ended = true;
            return Ok(None);
        }
        Ok(Some((name, payload)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn sample() -> Vec<u8> {
        let mut writer = Writer::new(Vec::new()).unwrap();
        writer.section("machine", &[b"{\"cpus\":", b"2}"]).unwrap();
        writer.section("ram", &[&7u64.to_le_bytes(), &[1; 100]]).unwrap();
        writer.finish().unwrap()
    }

    fn read(bytes: &[u8]) -> Result<Vec<(String, Vec<u8>)>, ContainerError> {
        let mut reader = Reader::new(bytes)?;
        let mut sections = Vec::new();
        while let Some(section) = reader.next_section()? {
            sections.push(section);
        }
        Ok(sections)
    }

    #[test]
    fn what_is_written_is_read() {
        let sections = read(&sample()).unwrap();
        assert_eq!(sections[0], ("machine".into(), b"{\"cpus\":2}".to_vec()));
        assert_eq!(sections[1].1.len(), 108);
        assert_eq!(sections.len(), 2);
    }

    #[test]
    fn every_truncation_and_every_flipped_bit_is_noticed() {
        let good = sample();
        for length in 0..good.len() {
            assert!(read(&good[..length]).is_err(), "truncated to {length}");
        }
        for bit in 0..good.len() * 8 {
            if (12 * 8..16 * 8).contains(&bit) {
                continue; // the reserved word
            }
            let mut bad = good.clone();
            bad[bit / 8] ^= 1 << (bit % 8);
            assert!(read(&bad).is_err(), "bit {bit}");
        }
    }

    #[test]
    fn foreign_files_and_versions_are_named() {
        assert!(read(b"\x7fELF\x02\x01\x01\x00\0\0\0\0\0\0\0\0").unwrap_err().to_string().contains("no saved machine"));
        let mut other = sample();
        other[8] = 9;
        assert!(read(&other).unwrap_err().to_string().contains("version 9"));
    }

    proptest! {
        #[test]
        fn any_bytes(bytes in proptest::collection::vec(any::<u8>(), 0..300), with_header in any::<bool>()) {
            let mut input = if with_header { sample()[..16].to_vec() } else { Vec::new() };
            input.extend(bytes);
            let _ = read(&input);
        }
    }
}
