//! Paths inside an image: bytes, relative to its root.

/// `PATH_MAX` and `NAME_MAX` of Linux.
const MAX_PATH: usize = 4096;
const MAX_NAME: usize = 255;

/// A path that has no place in an image.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{path:?} is no path inside of an image: {reason}")]
pub struct PathError {
    /// The path.
    pub path: String,
    /// What is wrong with it.
    pub reason: &'static str,
}

/// A path for people.
pub fn show(path: &[u8]) -> String {
    format!("/{}", String::from_utf8_lossy(path))
}

/// The parts of a path; empty ones and `.` mean nothing.
pub(super) fn parts(path: &[u8]) -> impl DoubleEndedIterator<Item = &[u8]> {
    path.split(|&byte| byte == b'/').filter(|part| !part.is_empty() && *part != b".")
}

/// The path of an archive's entry, `./usr/bin/` or `/usr/bin`, as trees have it: `usr/bin`.
///
/// # Errors
/// A path with `..` parts or NUL bytes, or longer than Linux allows.
pub fn clean_path(path: &[u8]) -> Result<Vec<u8>, PathError> {
    let bad = |reason| PathError { path: String::from_utf8_lossy(path).into_owned(), reason };
    if path.contains(&0) {
        return Err(bad("it has a NUL byte"));
    }
    if path.len() >= MAX_PATH {
        return Err(bad("it is too long"));
    }
    let parts: Vec<&[u8]> = parts(path).collect();
    if parts.contains(&b"..".as_slice()) {
        return Err(bad("it leads out with .."));
    }
    if parts.iter().any(|part| part.len() > MAX_NAME) {
        return Err(bad("a name in it is too long"));
    }
    Ok(parts.join(&b'/'))
}
