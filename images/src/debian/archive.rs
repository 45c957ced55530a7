//! An archive that is open: its signature verified, its packages known.

use std::fs;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

use super::apt::AptConfiguration;
use super::packages::{self, Package};
use super::release::{Release, ReleaseError};
use super::signature::{Keyring, SignatureError};
use super::version::compare_versions;
use crate::cache::{Cache, CacheError, Sha256Sum};
use crate::compression;
use crate::http::{Client, HttpError};
use crate::progress::Progress;

/// Greatest size of `InRelease`: that of a stable suite has 150 KB.
const MAX_RELEASE: u64 = 8 << 20;
/// Greatest size of a `Packages` index, compressed and not: that of sid has 60 MB.
const MAX_INDEX: u64 = 512 << 20;
/// Greatest size of a package.
const MAX_PACKAGE: u64 = 4 << 30;
/// Where Debian systems keep the archive's keys.
const SYSTEM_KEYRING: &str = "usr/share/keyrings/debian-archive-keyring.gpg";

/// Why the archive cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum DebianError {
    /// No mirror is known.
    #[error(
        "This system's apt has no source for Debian {suite}: name a mirror of the Debian archive, for instance --mirror https://MIRROR/debian"
    )]
    NoMirror {
        /// The suite that is wanted.
        suite: String,
    },
    /// The keyring cannot be read.
    #[error("Cannot read the keyring {} (--keyring)", path.display())]
    Keyring {
        /// The keyring.
        path: PathBuf,
        /// What the operating system said.
        source: std::io::Error,
    },
    /// Nothing trusted signed it.
    #[error(transparent)]
    Signature(#[from] SignatureError),
    /// It is signed, but not for now.
    #[error(transparent)]
    Release(#[from] ReleaseError),
    /// It cannot be fetched.
    #[error(transparent)]
    Http(#[from] HttpError),
    /// It cannot be kept.
    #[error(transparent)]
    Cache(#[from] CacheError),
    /// The suite lacks an index.
    #[error("Debian {suite} has no packages of {component} for {architecture}: check the suite and the architecture")]
    NoIndex {
        /// The suite.
        suite: String,
        /// The component.
        component: String,
        /// The architecture.
        architecture: String,
    },
    /// An index cannot be unpacked.
    #[error("The package index {name} is damaged")]
    Index {
        /// Which one.
        name: String,
        /// What the decoder said.
        source: std::io::Error,
    },
    /// There is no such package.
    #[error("There is no package {name} in Debian {suites}: check the name, or add a suite such as bookworm-backports")]
    NoPackage {
        /// The package.
        name: String,
        /// Where it was looked for.
        suites: String,
    },
}

/// Which archive to open.
#[derive(Clone, Debug)]
pub struct ArchiveOptions {
    /// Base of the mirror; `None`: that of the system's apt.
    pub mirror: Option<String>,
    /// Suites, such as `bookworm` and `bookworm-backports`.
    pub suites: Vec<String>,
    /// Components of each suite.
    pub components: Vec<String>,
    /// Architecture of the packages.
    pub architecture: String,
    /// Keys to trust; `None`: those of the system, else those built into this program.
    pub keyring: Option<PathBuf>,
    /// Root of the file system whose configuration counts: `/` but in tests.
    pub root: PathBuf,
    /// How files are fetched.
    pub client: Client,
}

impl ArchiveOptions {
    /// The arm64 packages of component main of `suite`, from the mirror that the system's apt uses.
    pub fn new(suite: &str) -> ArchiveOptions {
        ArchiveOptions {
            mirror: None,
            suites: vec![suite.to_owned()],
            components: vec!["main".to_owned()],
            architecture: "arm64".to_owned(),
            keyring: None,
            root: PathBuf::from("/"),
            client: Client::default(),
        }
    }
}

/// An archive that is open.
#[derive(Debug)]
pub struct Archive {
    client: Client,
    cache: Cache,
    sources: Vec<Source>,
    packages: Vec<Package>,
}

/// One suite on one mirror.
#[derive(Clone, Debug)]
struct Source {
    mirror: String,
    suite: String,
}

/// What opening needs beside the options.
struct Opening<'a> {
    options: &'a ArchiveOptions,
    apt: AptConfiguration,
    keyring: Keyring,
    cache: &'a Cache,
    progress: &'a dyn Progress,
    now: u64,
}

impl Archive {
    /// Fetches and verifies what the suites sign, and the indexes of their packages.
    ///
    /// # Errors
    /// [`DebianError`].
    pub fn open(options: &ArchiveOptions, cache: &Cache, progress: &dyn Progress) -> Result<Archive, DebianError> {
        let apt = AptConfiguration::read(&options.root);
        let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |time| time.as_secs());
        let opening = Opening { options, apt, keyring: keyring(options)?, cache, progress, now };
        let mut archive =
            Archive { client: options.client.clone(), cache: cache.clone(), sources: Vec::new(), packages: Vec::new() };
        for suite in &options.suites {
            let source = opening.source(suite)?;
            let release = opening.release(&source)?;
            for component in &options.components {
                let index = opening.index(&source, &release, component)?;
                archive.packages.extend(packages::parse(&index, archive.sources.len()));
            }
            archive.sources.push(source);
        }
        Ok(archive)
    }

    /// The newest package of this name.
    ///
    /// # Errors
    /// [`DebianError::NoPackage`].
    pub fn find(&self, name: &str) -> Result<&Package, DebianError> {
        let named = self.packages.iter().filter(|package| package.name == name);
        named.max_by(|a, b| compare_versions(&a.version, &b.version)).ok_or_else(|| self.no_package(name))
    }

    /// The package of this name with exactly this version.
    ///
    /// # Errors
    /// [`DebianError::NoPackage`].
    pub fn find_version(&self, name: &str, version: &str) -> Result<&Package, DebianError> {
        let found = self.packages.iter().find(|package| package.name == name && package.version == version);
        found.ok_or_else(|| self.no_package(&format!("{name} {version}")))
    }

    /// The package's file in the cache, fetched if it is not there.
    ///
    /// # Errors
    /// [`DebianError::Http`].
    pub fn fetch(&self, package: &Package, progress: &dyn Progress) -> Result<PathBuf, DebianError> {
        let source = self.sources.get(package.source).ok_or_else(|| self.no_package(&package.name))?;
        let url = format!("{}/{}", source.mirror, package.filename);
        if package.size > MAX_PACKAGE {
            return Err(HttpError::TooLarge { url, limit: MAX_PACKAGE }.into());
        }
        let what = format!("The package {} {}", package.name, package.version);
        Ok(self.client.get_cached(&self.cache, &what, &url, (&package.sha256, package.size), progress)?)
    }

    fn no_package(&self, name: &str) -> DebianError {
        let suites: Vec<&str> = self.sources.iter().map(|source| source.suite.as_str()).collect();
        DebianError::NoPackage { name: name.to_owned(), suites: suites.join(", ") }
    }
}

/// The keys to trust.
fn keyring(options: &ArchiveOptions) -> Result<Keyring, DebianError> {
    let read = |path: &Path| {
        let bytes = fs::read(path).map_err(|source| DebianError::Keyring { path: path.to_owned(), source })?;
        Ok(Keyring::parse(&path.display().to_string(), &bytes)?)
    };
    let system = options.root.join(SYSTEM_KEYRING);
    match &options.keyring {
        Some(path) => read(path),
        None if system.is_file() => read(&system),
        None => Ok(Keyring::built_in()?),
    }
}

impl Opening<'_> {
    fn source(&self, suite: &str) -> Result<Source, DebianError> {
        let mirror = match &self.options.mirror {
            Some(mirror) => mirror.trim_end_matches('/').to_owned(),
            None => {
                let source = self.apt.source_of(suite);
                source.ok_or_else(|| DebianError::NoMirror { suite: suite.to_owned() })?.uri.clone()
            }
        };
        // A suite is part of a URL.
        if !packages::is_inside(suite) {
            return Err(HttpError::BadUrl(format!("{mirror}/dists/{suite}")).into());
        }
        Ok(Source { mirror, suite: suite.to_owned() })
    }

    /// The suite's signed `Release`, verified. Without a network the one that was used last serves.
    fn release(&self, source: &Source) -> Result<Release, DebianError> {
        let url = format!("{}/dists/{}/InRelease", source.mirror, source.suite);
        let kept_name = format!("{}.InRelease", Sha256Sum::of(url.as_bytes()));
        let kept = fs::read(self.cache.named(&kept_name)).ok();
        let kept = kept.and_then(|message| self.verified(source, &message).ok().map(|release| (message, release)));
        let message = match (self.options.client.get(&url, MAX_RELEASE, self.progress), kept.as_ref()) {
            (Ok(message), _) => message,
            (Err(HttpError::Failed { reason, .. }), Some((message, _))) => {
                self.progress.note(&format!("{url} cannot be fetched ({reason}): using what was fetched before"));
                message.clone()
            }
            (Err(error), _) => return Err(error.into()),
        };
        let release = self.verified(source, &message)?;
        if let Err(error) = release.check_time(self.now) {
            let off = match error {
                ReleaseError::Expired { .. } => !self.apt.check_valid_until,
                _ => !self.apt.check_date,
            };
            if !off {
                return Err(error.into());
            }
            self.progress.note(&format!("{error} (used all the same: apt's configuration switches this check off)"));
        }
        if let Some((_, seen)) = &kept {
            release.check_follows(seen)?;
        }
        self.cache.replace_named(&kept_name, &message)?;
        Ok(release)
    }

    fn verified(&self, source: &Source, message: &[u8]) -> Result<Release, DebianError> {
        let what = format!("The InRelease file of {} ({})", source.suite, source.mirror);
        let text = self.keyring.verified_text(&what, message, self.now)?;
        Ok(Release::parse(&text, &source.suite)?)
    }

    /// The text of the index of a component.
    fn index(&self, source: &Source, release: &Release, component: &str) -> Result<String, DebianError> {
        let architecture = &self.options.architecture;
        let directory = format!("{component}/binary-{architecture}");
        let names = ["Packages.xz", "Packages.gz"].map(|name| format!("{directory}/{name}"));
        let found = names.iter().find_map(|name| release.file(name).map(|file| (name, file)));
        let Some((name, (sum, size))) = found else {
            let component = component.to_owned();
            return Err(DebianError::NoIndex {
                suite: source.suite.clone(),
                component,
                architecture: architecture.clone(),
            });
        };
        let below = if release.by_hash() { format!("{directory}/by-hash/SHA256/{sum}") } else { name.clone() };
        let url = format!("{}/dists/{}/{below}", source.mirror, source.suite);
        if *size > MAX_INDEX {
            return Err(HttpError::TooLarge { url, limit: MAX_INDEX }.into());
        }
        let what = format!("The package index {name} of {}", source.suite);
        let path = self.options.client.get_cached(self.cache, &what, &url, (sum, *size), self.progress)?;
        let damaged = |error| DebianError::Index { name: name.clone(), source: error };
        let file = fs::File::open(path).map_err(damaged)?;
        let mut text = String::new();
        let reader = compression::reader(std::io::BufReader::new(file)).map_err(damaged)?;
        reader.take(MAX_INDEX).read_to_string(&mut text).map_err(damaged)?;
        Ok(text)
    }
}

#[cfg(test)]
pub(crate) mod tests;
