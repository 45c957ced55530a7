//! Debian binary packages (deb(5)): an ar archive with `debian-binary`, `control.tar.*` and `data.tar.*`.

use std::fs::File;
use std::io::{self, BufReader, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use crate::compression;
use crate::tarball::{self, EntryKind};

mod entries;

pub use entries::{DebEntry, DebNode, read_entries};

const CONTROL: &str = "control.tar";
const DATA: &str = "data.tar";
/// Greatest size of the files with which a package is managed: fonts and kernels have some MB of file lists.
const MAX_CONTROL: u64 = 64 << 20;
const BUFFER: usize = 1 << 17;
const AR_MAGIC: &[u8; 8] = b"!<arch>\n";

/// Why a package cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum DebError {
    /// The operating system refused, or compressed data is damaged.
    #[error("Cannot read the package {}", path.display())]
    Io {
        /// The package.
        path: PathBuf,
        /// What it said.
        source: io::Error,
    },
    /// Not a package of format 2.
    #[error("{} is no Debian package: {reason}", path.display())]
    Format {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        reason: String,
    },
    /// A file in it is larger than allowed.
    #[error("{name} in the package {} has {size} bytes, over the limit of {limit}", path.display())]
    TooLarge {
        /// The package.
        path: PathBuf,
        /// The file in it.
        name: String,
        /// Its size.
        size: u64,
        /// Bytes allowed.
        limit: u64,
    },
}

/// A regular file of a package.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DebFile {
    /// Its path without a leading `./` or `/`.
    pub name: String,
    /// Its permissions.
    pub mode: u32,
    /// Its contents.
    pub contents: Vec<u8>,
}

/// The regular files of the package at `path` whose name `wanted` accepts, in the package's order, at most `limit` bytes
/// of contents together.
///
/// # Errors
/// [`DebError`].
pub fn read_files(path: &Path, wanted: impl Fn(&str) -> bool, limit: u64) -> Result<Vec<DebFile>, DebError> {
    read_member_files(path, DATA, wanted, limit)
}

/// The files with which the package is managed: `control`, `postinst` and so on.
///
/// # Errors
/// [`DebError`].
pub fn read_control(path: &Path) -> Result<Vec<DebFile>, DebError> {
    read_member_files(path, CONTROL, |_| true, MAX_CONTROL)
}

/// The archive of the package's files, unpacked. Read it to its end: there are the checks of its compression.
///
/// # Errors
/// [`DebError`].
pub fn data(path: &Path) -> Result<Box<dyn Read>, DebError> {
    member(path, DATA)
}

/// Writes the package with the same contents, but not compressed: where this is read, time is dearer than space.
///
/// # Errors
/// [`DebError`], also for what `out` refuses.
pub fn write_uncompressed(path: &Path, out: &mut (impl Write + Seek)) -> Result<(), DebError> {
    let io_error = |source| DebError::Io { path: path.to_owned(), source };
    out.write_all(AR_MAGIC).map_err(io_error)?;
    write_member(out, "debian-binary", &mut b"2.0\n".as_slice()).map_err(io_error)?;
    for (prefix, name) in [(CONTROL, "control.tar"), (DATA, "data.tar")] {
        write_member(out, name, &mut *member(path, prefix)?).map_err(io_error)?;
    }
    Ok(())
}

fn write_member(out: &mut (impl Write + Seek), name: &str, contents: &mut dyn Read) -> io::Result<()> {
    let header = |size: u64| format!("{name:<16}{:<12}{:<6}{:<6}{:<8}{size:<10}`\n", 0, 0, 0, 100_644);
    let start = out.stream_position()?;
    out.write_all(header(0).as_bytes())?;
    let size = io::copy(contents, out)?;
    if size % 2 == 1 {
        out.write_all(b"\n")?;
    }
    let end = out.stream_position()?;
    out.seek(SeekFrom::Start(start))?;
    out.write_all(header(size).as_bytes())?;
    out.seek(SeekFrom::Start(end)).map(drop)
}

/// A member of the package, unpacked.
fn member(path: &Path, prefix: &str) -> Result<Box<dyn Read>, DebError> {
    let io_error = |source| DebError::Io { path: path.to_owned(), source };
    let file = File::open(path).map_err(io_error)?;
    let member = ar_member(BufReader::with_capacity(BUFFER, file), prefix, path)?;
    compression::reader(BufReader::with_capacity(BUFFER, member)).map_err(io_error)
}

fn read_member_files(
    path: &Path,
    prefix: &str,
    wanted: impl Fn(&str) -> bool,
    limit: u64,
) -> Result<Vec<DebFile>, DebError> {
    let io_error = |source| DebError::Io { path: path.to_owned(), source };
    let mut archive = tarball::Reader::new(member(path, prefix)?);
    let mut files = Vec::new();
    let mut total = 0u64;
    while let Some(entry) = archive.next_entry().map_err(io_error)? {
        let EntryKind::File(size) = entry.kind else { continue };
        let name = String::from_utf8_lossy(&entry.path).into_owned();
        let name = name.trim_start_matches("./").trim_start_matches('/').to_owned();
        if !wanted(&name) {
            continue;
        }
        total = total.saturating_add(size);
        if total > limit {
            return Err(DebError::TooLarge { path: path.to_owned(), name, size, limit });
        }
        let mut contents = Vec::new();
        archive.contents().read_to_end(&mut contents).map_err(io_error)?;
        files.push(DebFile { name, mode: entry.mode, contents });
    }
    // To the end, where the checks of the compression are.
    io::copy(&mut archive.into_inner(), &mut io::sink()).map_err(io_error)?;
    Ok(files)
}

/// The member whose name begins with `prefix` of the ar archive in `input`.
fn ar_member<R: Read>(mut input: R, prefix: &str, path: &Path) -> Result<io::Take<R>, DebError> {
    let io_error = |source| DebError::Io { path: path.to_owned(), source };
    let bad = |reason: String| DebError::Format { path: path.to_owned(), reason };
    let mut magic = [0; 8];
    input.read_exact(&mut magic).map_err(io_error)?;
    if &magic != AR_MAGIC {
        return Err(bad("it does not begin with !<arch>".to_owned()));
    }
    let mut first = true;
    loop {
        let mut header = [0; 60];
        input.read_exact(&mut header).map_err(|error| match error.kind() {
            io::ErrorKind::UnexpectedEof => bad(format!("it has no member {prefix}.*")),
            _ => io_error(error),
        })?;
        let (name, size) = ar_header(&header).ok_or_else(|| bad("an ar header in it is damaged".to_owned()))?;
        if first && name != "debian-binary" {
            return Err(bad(format!("its first member is {name:?}, debian-binary expected")));
        }
        if first {
            let mut version = String::new();
            (&mut input).take(size.min(64)).read_to_string(&mut version).map_err(io_error)?;
            if !version.starts_with("2.") || size > 64 {
                return Err(bad(format!("it has format version {:?}, 2.0 expected", version.trim_end())));
            }
            skip(&mut input, size & 1).map_err(io_error)?;
        } else if name.starts_with(prefix) {
            return Ok(input.take(size));
        } else {
            skip(&mut input, size.saturating_add(size & 1)).map_err(io_error)?;
        }
        first = false;
    }
}

/// Name and size in an ar header (ar(5)).
fn ar_header(header: &[u8; 60]) -> Option<(&str, u64)> {
    let text = |range: std::ops::Range<usize>| std::str::from_utf8(header.get(range)?).ok();
    if !header.ends_with(b"`\n") {
        return None;
    }
    Some((text(0..16)?.trim_end().trim_end_matches('/'), text(48..58)?.trim_end().parse().ok()?))
}

fn skip(input: &mut impl Read, count: u64) -> io::Result<()> {
    if io::copy(&mut input.take(count), &mut io::sink())? == count {
        Ok(())
    } else {
        Err(io::ErrorKind::UnexpectedEof.into())
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use std::io::Write;

    use super::*;
    use crate::cache::tests::Scratch;

    /// An ar archive.
    pub(crate) fn ar(members: &[(&str, &[u8])]) -> Vec<u8> {
        let mut out = AR_MAGIC.to_vec();
        for (name, contents) in members {
            writeln!(out, "{name:<16}{:<12}{:<6}{:<6}{:<8}{:<10}`", 0, 0, 0, "100644", contents.len()).expect("memory");
            out.extend(*contents);
            out.resize(out.len().next_multiple_of(2), b'\n');
        }
        out
    }

    fn tar(files: &[(&str, &[u8])]) -> Vec<u8> {
        let mut builder = tar::Builder::new(Vec::new());
        for (name, contents) in files {
            let mut header = tar::Header::new_gnu();
            header.set_size(contents.len() as u64);
            header.set_mode(0o755);
            builder.append_data(&mut header, name, *contents).expect("memory");
        }
        builder.into_inner().expect("memory")
    }

    /// A package with these files, `data.tar.xz` inside.
    pub(crate) fn deb(files: &[(&str, &[u8])]) -> Vec<u8> {
        let mut xz =
            lzma_rust2::XzWriter::new(Vec::new(), lzma_rust2::XzOptions::with_preset(1)).expect("valid options");
        xz.write_all(&tar(files)).expect("memory");
        let data = xz.finish().expect("memory");
        ar(&[("debian-binary", b"2.0\n"), ("control.tar.xz", b"odd"), ("data.tar.xz", &data)])
    }

    fn read(bytes: &[u8], limit: u64) -> Result<Vec<DebFile>, DebError> {
        let scratch = Scratch::new(&format!("deb-{:?}", std::thread::current().id()));
        let path = scratch.0.join("it.deb");
        std::fs::write(&path, bytes).expect("written");
        read_files(&path, |name| name != "no", limit)
    }

    #[test]
    fn wanted_files_come_out() {
        let files = read(&deb(&[("bin/a", b"abc"), ("no", b"x"), ("bin/b", b"")]), 100).expect("a package");
        let expected = [("bin/a", b"abc".as_slice()), ("bin/b", b"")];
        assert_eq!(files.len(), 2);
        for (file, (name, contents)) in files.iter().zip(expected) {
            assert_eq!((file.name.as_str(), file.contents.as_slice(), file.mode), (name, contents, 0o755));
        }
    }

    #[test]
    fn every_compression_of_the_data_is_read() {
        let data = tar(&[("a", b"abc")]);
        let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        gzip.write_all(&data).expect("memory");
        let zstd = ruzstd::encoding::compress_to_vec(data.as_slice(), ruzstd::encoding::CompressionLevel::Fastest);
        for (name, data) in
            [("data.tar", data), ("data.tar.gz", gzip.finish().expect("memory")), ("data.tar.zst", zstd)]
        {
            let files = read(&ar(&[("debian-binary/", b"2.0\n"), (name, &data)]), 100)
                .unwrap_or_else(|e| panic!("{name}: {e}"));
            assert_eq!(files[0].contents, b"abc", "{name}");
        }
    }

    #[test]
    fn what_is_no_package_is_refused() {
        let good = deb(&[("a", b"abc")]);
        assert!(matches!(read(&good, 2), Err(DebError::TooLarge { size: 3, limit: 2, .. })));
        assert!(matches!(read(b"!<arch>\x0b0000", 9), Err(DebError::Format { .. })));
        assert!(matches!(read(&ar(&[("other", b"")]), 9), Err(DebError::Format { .. })));
        assert!(matches!(read(&ar(&[("debian-binary", b"3.0\n")]), 9), Err(DebError::Format { .. })));
        assert!(matches!(read(&ar(&[("debian-binary", b"2.0\n")]), 9), Err(DebError::Format { .. })));
        for cut in [0, 4, 30, 70, 150, good.len() - 2, good.len() - 40] {
            assert!(read(&good[..cut], 100).is_err(), "cut to {cut}");
        }
    }
}
