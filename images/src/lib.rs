//! Debian archives, packages and images: fetched, verified, unpacked and written.
//!
//! Nothing that comes from a mirror is believed: the archive's signature covers the hashes of the indexes, these cover the
//! hashes of the packages, and every size is bounded before a byte is read. What was fetched is kept in a cache that is
//! addressed by content and verified again when it is read.
#![forbid(unsafe_code)]

pub mod build;
pub mod cache;
mod calendar;
pub mod compression;
pub mod cpio;
pub mod deb;
pub mod debian;
pub mod demo;
pub mod diff;
pub mod files;
pub mod format;
pub mod http;
pub mod initrd;
mod kept;
pub mod kernel;
pub mod load;
pub mod lock;
pub mod progress;
pub mod ready;
pub mod recipe;
pub mod resolve;
pub mod tarball;
pub mod tree;

/// An error with all its causes in one line, for tests.
#[cfg(test)]
pub(crate) fn explain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text = format!("{text}: {error}");
        cause = error.source();
    }
    text
}
