//! The Debian archive: where it is, what it signs, which packages it has. See `docs/design/debian-archive.md`.

mod apt;
pub(crate) mod archive;
pub(crate) mod deb822;
mod mirrors;
pub(crate) mod packages;
pub mod relation;
mod release;
pub(crate) mod signature;
mod version;

pub use apt::{AptConfiguration, AptSource};
pub use archive::{Archive, ArchiveOptions, DebianError, Source};
pub(crate) use mirrors::mirror_of;
pub use packages::{Package, PackageIndex};
pub use release::{Release, ReleaseError};
pub use signature::{Keyring, SignatureError};
pub use version::compare_versions;
