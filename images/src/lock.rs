//! `baseimg.lock`: everything that an image is made of, so that it can be made again with the same bytes.

use serde::{Deserialize, Serialize};

use crate::cache::Sha256Sum;
use crate::debian::packages::{is_inside, is_name};
use crate::debian::{Package, Source};

/// The version of the format that this program writes and reads.
pub const VERSION: u32 = 1;

/// Why a lock file cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum LockError {
    /// Not a lock file.
    #[error("The lock file cannot be read")]
    Syntax(#[from] toml::de::Error),
    /// Written by another version of this program.
    #[error("The lock file has format version {found}, this program knows {VERSION}: make a new one without --locked")]
    Version {
        /// Its version.
        found: u32,
    },
    /// A value that cannot be.
    #[error("The lock file says {what}, which cannot be: make a new one without --locked")]
    Value {
        /// What stands there.
        what: String,
    },
    /// Made for something else.
    #[error(
        "The lock file was made with {what} {locked:?}, but {asked:?} is asked for: make a new one without --locked"
    )]
    Other {
        /// What differs.
        what: &'static str,
        /// What the lock file says.
        locked: String,
        /// What is asked for.
        asked: String,
    },
    /// The same build gave other bytes.
    #[error("The image has SHA-256 {found}, but the lock file says {expected} for the format {format}: {hint}")]
    Output {
        /// The format.
        format: String,
        /// The hash in the lock file.
        expected: String,
        /// The hash of what was made.
        found: String,
        /// What may be the reason.
        hint: &'static str,
    },
}

/// A lock file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Lock {
    /// Version of the format.
    pub version: u32,
    /// The version of the program that wrote it.
    pub tool: String,
    /// The suite.
    pub suite: String,
    /// The variant.
    pub variant: String,
    /// The architecture.
    pub architecture: String,
    /// The latest time in the image, in seconds since 1970.
    pub epoch: u64,
    /// Hash of everything else that was asked for.
    pub recipe: String,
    /// Where packages come from.
    #[serde(rename = "source", default)]
    pub sources: Vec<LockedSource>,
    /// The packages of the image.
    #[serde(rename = "package", default)]
    pub packages: Vec<LockedPackage>,
    /// Where the packages of the guest come from in which it is configured; none: from where those of the image come.
    #[serde(rename = "build-source", default, skip_serializing_if = "Vec::is_empty")]
    pub build_sources: Vec<LockedSource>,
    /// The packages of the guest in which it is configured; no byte of them is in the image's root.
    #[serde(rename = "build-package", default)]
    pub build_packages: Vec<LockedPackage>,
    /// The package of the boot loader that disks get.
    #[serde(rename = "boot-package", default, skip_serializing_if = "Option::is_none")]
    pub boot_package: Option<LockedPackage>,
    /// The images that were made.
    #[serde(rename = "output", default)]
    pub outputs: Vec<LockedOutput>,
}

/// A suite of an archive.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LockedSource {
    /// Base of the mirror.
    pub uri: String,
    /// The base that the image's `sources.list` has in its place.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub image_uri: Option<String>,
    /// The suite.
    pub suite: String,
    /// The components.
    pub components: Vec<String>,
    /// Date of its `Release`, in seconds since 1970.
    pub date: u64,
    /// Hash of its `InRelease`.
    pub inrelease_sha256: String,
}

/// A package.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LockedPackage {
    /// Its name.
    pub name: String,
    /// Its version.
    pub version: String,
    /// Its architecture.
    pub architecture: String,
    /// Bytes.
    pub size: u64,
    /// Hash.
    pub sha256: String,
    /// Path below the mirror's base.
    pub path: String,
    /// The suite that has it.
    pub suite: String,
    /// Configured before all others, because it is essential or needed by what is.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub base: bool,
    /// There because another package needs it.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub automatic: bool,
    /// The newer version that updates list which are no longer made, and which no mirror has.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub instead_of: Option<String>,
}

/// An image that was made.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LockedOutput {
    /// Its format.
    pub format: String,
    /// Hash of the file, or of all files of a folder.
    pub sha256: String,
}

impl LockedSource {
    /// What is written about a source.
    pub fn new(source: &Source) -> LockedSource {
        LockedSource {
            uri: source.mirrors.first().cloned().unwrap_or_default(),
            image_uri: None,
            suite: source.suite.clone(),
            components: source.components.clone(),
            date: source.date,
            inrelease_sha256: source.inrelease.to_string(),
        }
    }

    /// The source.
    ///
    /// # Errors
    /// [`LockError::Value`].
    pub fn to_source(&self) -> Result<Source, LockError> {
        let bad = |what: &str| LockError::Value { what: format!("{what} of the source {}", self.suite) };
        Ok(Source {
            mirrors: vec![self.uri.clone()],
            suite: Some(self.suite.clone()).filter(|suite| is_inside(suite)).ok_or_else(|| bad("the suite"))?,
            components: self.components.clone(),
            date: self.date,
            inrelease: Sha256Sum::parse(&self.inrelease_sha256).ok_or_else(|| bad("inrelease_sha256"))?,
            priority: 500,
            closed: false,
        })
    }
}

impl LockedPackage {
    /// What is written about a package.
    pub fn new(package: &Package, sources: &[LockedSource]) -> LockedPackage {
        LockedPackage {
            name: package.name.clone(),
            version: package.version.clone(),
            architecture: package.architecture.clone(),
            size: package.size,
            sha256: package.sha256.to_string(),
            path: package.filename.clone(),
            suite: sources.get(package.source).map(|source| source.suite.clone()).unwrap_or_default(),
            base: false,
            automatic: false,
            instead_of: None,
        }
    }

    /// The package, as far as it is needed to fetch it.
    ///
    /// # Errors
    /// [`LockError::Value`].
    pub fn to_package(&self, sources: &[LockedSource]) -> Result<Package, LockError> {
        let bad = |what: &str| LockError::Value { what: format!("{what} of the package {:?}", self.name) };
        if !is_name(&self.name) {
            return Err(bad("the name"));
        }
        Ok(Package {
            name: self.name.clone(),
            version: self.version.clone(),
            architecture: self.architecture.clone(),
            filename: Some(self.path.clone()).filter(|path| is_inside(path)).ok_or_else(|| bad("the path"))?,
            size: self.size,
            sha256: Sha256Sum::parse(&self.sha256).ok_or_else(|| bad("sha256"))?,
            essential: false,
            priority: String::new(),
            pre_depends: Vec::new(),
            depends: Vec::new(),
            conflicts: Vec::new(),
            breaks: Vec::new(),
            provides: Vec::new(),
            source: sources.iter().position(|source| source.suite == self.suite).ok_or_else(|| bad("the suite"))?,
        })
    }
}

impl Lock {
    /// Where the packages of the build guest come from.
    pub fn sources_of_build(&self) -> &[LockedSource] {
        if self.build_sources.is_empty() { &self.sources } else { &self.build_sources }
    }

    /// Reads a lock file.
    ///
    /// # Errors
    /// [`LockError::Syntax`] and [`LockError::Version`].
    pub fn parse(text: &str) -> Result<Lock, LockError> {
        /// Readable in each version.
        #[derive(Deserialize)]
        struct Head {
            version: u32,
        }
        let head: Head = toml::from_str(text)?;
        if head.version != VERSION {
            return Err(LockError::Version { found: head.version });
        }
        Ok(toml::from_str(text)?)
    }

    /// The text of the file.
    pub fn text(&self) -> String {
        // The structure has nothing that TOML cannot hold.
        let body = toml::to_string(self).unwrap_or_default();
        format!("# Written by `vmm image build`. With --locked the same image is made of it again.\n{body}")
    }

    /// Checks that this lock is for what is asked for.
    ///
    /// # Errors
    /// [`LockError::Other`].
    pub fn check(&self, suite: &str, variant: &str, recipe: &str) -> Result<(), LockError> {
        for (what, locked, asked) in [
            ("the suite", &*self.suite, suite),
            ("the variant", &*self.variant, variant),
            ("the recipe", &*self.recipe, recipe),
        ] {
            if locked != asked {
                return Err(LockError::Other { what, locked: locked.to_owned(), asked: asked.to_owned() });
            }
        }
        Ok(())
    }

    /// Notes the hash of an image, or checks it against the one that is noted.
    ///
    /// # Errors
    /// [`LockError::Output`].
    pub fn output(&mut self, format: &str, found: &Sha256Sum) -> Result<(), LockError> {
        let found = found.to_string();
        match self.outputs.iter().find(|output| output.format == format) {
            Some(output) if output.sha256 == found => Ok(()),
            Some(output) => {
                let same = self.tool == env!("CARGO_PKG_VERSION");
                let hint = if same {
                    "a package gives other bytes each time it is configured; vmm image diff says which files"
                } else {
                    "another version of this program wrote the lock file"
                };
                let expected = output.sha256.clone();
                Err(LockError::Output { format: format.to_owned(), expected, found, hint })
            }
            None => {
                self.outputs.push(LockedOutput { format: format.to_owned(), sha256: found });
                self.outputs.sort_by(|a, b| a.format.cmp(&b.format));
                Ok(())
            }
        }
    }
}

#[cfg(test)]
mod tests;
