//! Reads the files that people name on the command line, and says what is wrong with them in their words.

use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

/// Why a file cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum FileError {
    /// A directory was named.
    #[error("{} is a directory; {option} expects a file: name one inside it", path.display())]
    Directory {
        /// The path as given.
        path: PathBuf,
        /// The option that named it.
        option: &'static str,
    },
    /// The operating system refused.
    #[error("Cannot read {} (given with {option})", path.display())]
    Io {
        /// The path as given.
        path: PathBuf,
        /// The option that named it.
        option: &'static str,
        /// What it said.
        source: io::Error,
    },
    /// The file is larger than such a file can be.
    #[error("{} (given with {option}) has more than {limit} bytes: is this the right file?", path.display())]
    TooLarge {
        /// The path as given.
        path: PathBuf,
        /// The option that named it.
        option: &'static str,
        /// Bytes allowed.
        limit: u64,
    },
}

/// Reads the whole of a file or pipe, at most `limit` bytes of it. `option` is the command-line option that named it.
///
/// # Errors
/// [`FileError`] for a directory, a file over the limit and what the operating system refuses.
pub fn read_file(path: &Path, option: &'static str, limit: u64) -> Result<Vec<u8>, FileError> {
    let io_error = |source| FileError::Io { path: path.to_owned(), option, source };
    let too_large = || FileError::TooLarge { path: path.to_owned(), option, limit };
    let metadata = std::fs::metadata(path).map_err(io_error)?;
    if metadata.is_dir() {
        return Err(FileError::Directory { path: path.to_owned(), option });
    }
    if metadata.len() > limit {
        return Err(too_large());
    }
    let mut bytes = Vec::new();
    // Pipes and files that grow have no size to trust.
    let reader = File::open(path).map_err(io_error)?;
    reader.take(limit.saturating_add(1)).read_to_end(&mut bytes).map_err(io_error)?;
    if bytes.len() as u64 > limit {
        return Err(too_large());
    }
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_directory_an_absent_file_and_a_large_file_are_told_apart() {
        let directory = std::env::temp_dir();
        assert!(matches!(read_file(&directory, "--kernel", 10), Err(FileError::Directory { .. })));
        let absent = directory.join("vmm-no-such-file");
        let error = read_file(&absent, "--kernel", 10).expect_err("absent");
        assert!(error.to_string().contains("--kernel"), "{error}");
        let this = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/file.rs");
        assert!(matches!(read_file(&this, "--kernel", 10), Err(FileError::TooLarge { limit: 10, .. })));
        assert!(read_file(&this, "--kernel", 1 << 20).expect("this file").starts_with(b"//!"));
    }
}
