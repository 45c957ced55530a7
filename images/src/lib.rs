//! Debian archives, packages and images: fetched, verified, unpacked and written.
//!
//! Nothing that comes from a mirror is believed: the archive's signature covers the hashes of the indexes, these cover the
//! hashes of the packages, and every size is bounded before a byte is read. What was fetched is kept in a cache that is
//! addressed by content and verified again when it is read.
#![forbid(unsafe_code)]

pub mod cache;
pub mod compression;
pub mod cpio;
pub mod deb;
pub mod debian;
pub mod demo;
pub mod http;
pub mod initrd;
pub mod progress;
