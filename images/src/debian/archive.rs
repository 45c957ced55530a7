//! An archive that is open: its signature verified, its packages known.

use std::collections::BTreeSet;
use std::fs;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{SystemTime, UNIX_EPOCH};

use super::apt::{AptConfiguration, DEBIAN_SUITES};
use super::mirrors;
use super::packages::{self, Package, PackageIndex};
use super::release::{Release, ReleaseError};
use super::signature::{Keyring, SignatureError};
use super::version::compare_versions;
use crate::cache::{Cache, CacheError, Sha256Sum};
use crate::compression;
use crate::http::{Client, HttpError};
use crate::progress::Progress;
use crate::resolve::near;

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
    /// There is no such suite.
    #[error("The mirror has no suite {suite}{near}: check the name (--suite), or name a mirror that has it (--mirror)")]
    NoSuite {
        /// The suite.
        suite: String,
        /// Names that look like it.
        near: String,
    },
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
    /// A package is listed, but no mirror has its file.
    #[error("{what}: the mirror is out of step; try another --mirror, or leave updates out with --no-updates")]
    Gone {
        /// Which one, and what the mirror said.
        what: String,
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
    /// Bases of the mirrors, tried in this order; none: those of the system's apt.
    pub mirrors: Vec<String>,
    /// Suites, such as `bookworm` and `bookworm-backports`.
    pub suites: Vec<String>,
    /// Also the suites with updates and security updates of each suite that may have such.
    pub updates: bool,
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
            mirrors: Vec::new(),
            suites: vec![suite.to_owned()],
            updates: false,
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
    index: PackageIndex,
    /// Mirrors that failed: they are asked last from then on.
    failed: Arc<Mutex<BTreeSet<String>>>,
}

/// One suite on its mirrors.
#[derive(Clone, Debug)]
pub struct Source {
    /// Bases of the mirrors, in the order in which they are tried.
    pub mirrors: Vec<String>,
    /// The suite.
    pub suite: String,
    /// Its components that are used.
    pub components: Vec<String>,
    /// The date of its `Release`, in seconds since 1970.
    pub date: u64,
    /// The hash of its `InRelease`.
    pub inrelease: Sha256Sum,
    /// apt's priority of its packages.
    pub priority: u32,
    /// Whether it has updates of a suite for which no more are made.
    pub closed: bool,
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
        let index = PackageIndex::new(&options.architecture);
        let mut archive = Archive {
            client: options.client.clone(),
            cache: cache.clone(),
            sources: Vec::new(),
            index,
            failed: Arc::default(),
        };
        for suite in &options.suites {
            archive.add(&opening, suite).map_err(|error| no_suite(suite, error))?;
            for more in mirrors::companions(suite).iter().filter(|_| options.updates) {
                match archive.add(&opening, more) {
                    Err(error @ (DebianError::NoMirror { .. } | DebianError::Http(HttpError::Missing { .. }))) => {
                        progress.note(&format!("{more} is left out: {error}"));
                    }
                    result => result?,
                }
            }
        }
        Ok(archive)
    }

    fn add(&mut self, opening: &Opening<'_>, suite: &str) -> Result<(), DebianError> {
        if self.sources.iter().any(|source| source.suite == suite) {
            return Ok(());
        }
        let mirrors = opening.mirrors(suite)?;
        let (release, inrelease) = opening.release(&mirrors, suite)?;
        let mut components = Vec::new();
        for component in &opening.options.components {
            match opening.index(&mirrors, suite, &release, component) {
                Ok(text) => self.index.add(text, self.sources.len()),
                // Not each suite has each component, but the first one.
                Err(DebianError::NoIndex { .. }) if !components.is_empty() => continue,
                Err(error) => return Err(error),
            }
            components.push(component.clone());
        }
        self.sources.push(Source {
            mirrors,
            suite: suite.to_owned(),
            components,
            date: release.date(),
            inrelease,
            priority: release.pin_priority(),
            closed: release.is_closed(opening.now),
        });
        Ok(())
    }

    /// An archive of which only packages are fetched that are known already: nothing is asked for or verified but them.
    pub fn of_known_packages(
        options: &ArchiveOptions,
        cache: &Cache,
        sources: Vec<Source>,
    ) -> Result<Archive, DebianError> {
        let apt = AptConfiguration::read(&options.root);
        let mut sources = sources;
        for source in &mut sources {
            let mirrors = mirrors::of_suite(&source.suite, &options.mirrors, &apt);
            // Where a mirror was named it counts; else the one that the packages came from comes first.
            if options.mirrors.is_empty() {
                source.mirrors.extend(mirrors)
            } else {
                source.mirrors = mirrors
            }
            if source.mirrors.is_empty() {
                return Err(DebianError::NoMirror { suite: source.suite.clone() });
            }
        }
        let index = PackageIndex::new(&options.architecture);
        Ok(Archive { client: options.client.clone(), cache: cache.clone(), sources, index, failed: Arc::default() })
    }

    /// The suites, in the order in which they were asked for.
    pub fn sources(&self) -> &[Source] {
        &self.sources
    }

    /// All packages.
    pub fn index(&self) -> &PackageIndex {
        &self.index
    }

    /// Whether a package is of updates that are no longer made, whose files mirrors may have dropped.
    pub fn is_of_closed(&self, package: &Package) -> bool {
        self.sources.get(package.source).is_some_and(|source| source.closed)
    }

    /// Goes on as if the index did not list these packages.
    pub fn forget(&mut self, packages: &[Package]) {
        let names: Vec<String> = packages.iter().map(|package| package.name.clone()).collect();
        self.index.forget(|package| packages.contains(package), &names);
    }

    /// Goes on as if there were no updates that are no longer made.
    pub fn forget_closed(&mut self) {
        let names: Vec<String> = self.index.names().map(str::to_owned).collect();
        let sources = &self.sources;
        let is_closed = |package: &Package| sources.get(package.source).is_some_and(|source| source.closed);
        self.index.forget(is_closed, &names);
    }

    /// The same without the indexes, which take much memory: only packages that are known already can be fetched.
    #[must_use]
    pub fn without_index(self) -> Archive {
        let index = PackageIndex::new(self.index.architecture());
        Archive { index, ..self }
    }

    /// Whether the package's file seems to be in the cache.
    pub fn has(&self, package: &Package) -> bool {
        self.cache.path(&package.sha256).is_file()
    }

    /// The newest package of this name.
    ///
    /// # Errors
    /// [`DebianError::NoPackage`].
    pub fn find(&self, name: &str) -> Result<Package, DebianError> {
        let named = self.index.named(name).into_iter();
        named.max_by(|a, b| compare_versions(&a.version, &b.version)).ok_or_else(|| self.no_package(name))
    }

    /// The newest package of this name whose file some mirror really has; it is in the cache then.
    ///
    /// # Errors
    /// [`DebianError`]: what was wrong with the newest.
    pub fn find_available(&self, name: &str, progress: &dyn Progress) -> Result<Package, DebianError> {
        let mut versions = self.index.named(name);
        versions.sort_by(|a, b| compare_versions(&b.version, &a.version));
        let mut newest = None;
        for package in versions {
            match if self.has(&package) { Ok(PathBuf::new()) } else { self.fetch(&package, progress) } {
                Err(DebianError::Gone { what }) => {
                    progress.note(&format!("{name} {} is passed over: {what}", package.version));
                    newest.get_or_insert(DebianError::Gone { what });
                }
                result => return result.map(|_| package),
            }
        }
        Err(newest.unwrap_or_else(|| self.no_package(name)))
    }

    /// The package of this name with exactly this version.
    ///
    /// # Errors
    /// [`DebianError::NoPackage`].
    pub fn find_version(&self, name: &str, version: &str) -> Result<Package, DebianError> {
        let found = self.index.named(name).into_iter().find(|package| package.version == version);
        found.ok_or_else(|| self.no_package(&format!("{name} {version}")))
    }

    /// The package's file in the cache, fetched if it is not there.
    ///
    /// # Errors
    /// [`DebianError::Http`]; [`DebianError::Gone`] when no mirror has it.
    pub fn fetch(&self, package: &Package, progress: &dyn Progress) -> Result<PathBuf, DebianError> {
        let source = self.sources.get(package.source).ok_or_else(|| self.no_package(&package.name))?;
        if package.size > MAX_PACKAGE {
            return Err(HttpError::TooLarge { url: package.filename.clone(), limit: MAX_PACKAGE }.into());
        }
        let what = format!("The package {} {}", package.name, package.version);
        let wanted = (&package.sha256, package.size);
        let failed = || self.failed.lock().unwrap_or_else(PoisonError::into_inner);
        let fetch = |url: &str| {
            let result = self.client.get_cached(&self.cache, &what, url, wanted, progress);
            if let (Err(HttpError::Failed { .. }), Some(base)) = (&result, url.strip_suffix(&package.filename)) {
                failed().insert(base.trim_end_matches('/').to_owned());
            }
            result
        };
        let mut mirrors = source.mirrors.clone();
        mirrors.sort_by_key(|mirror| failed().contains(mirror));
        mirrors::first_that_serves(&mirrors, &package.filename, progress, fetch).map_err(|error| match error {
            HttpError::Missing { url, status } => {
                let Package { name, version, .. } = package;
                let suite = &source.suite;
                DebianError::Gone {
                    what: format!("{suite} lists {name} {version}, but {url} is not there (HTTP status {status})"),
                }
            }
            error => error.into(),
        })
    }

    fn no_package(&self, name: &str) -> DebianError {
        let suites: Vec<&str> = self.sources.iter().map(|source| source.suite.as_str()).collect();
        DebianError::NoPackage { name: name.to_owned(), suites: suites.join(", ") }
    }
}

/// A mirror that has nothing of a suite means that there is no such suite.
fn no_suite(suite: &str, error: DebianError) -> DebianError {
    match error {
        DebianError::Http(HttpError::Missing { .. }) => {
            let near = near::names(DEBIAN_SUITES.into_iter(), suite);
            let near = if near.is_empty() { String::new() } else { format!(" (near: {})", near.join(", ")) };
            DebianError::NoSuite { suite: suite.to_owned(), near }
        }
        error => error,
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
    fn mirrors(&self, suite: &str) -> Result<Vec<String>, DebianError> {
        let mirrors = mirrors::of_suite(suite, &self.options.mirrors, &self.apt);
        // A suite is part of a URL.
        if !packages::is_inside(suite) {
            return Err(HttpError::BadUrl(format!("dists/{suite}")).into());
        }
        if mirrors.is_empty() { Err(DebianError::NoMirror { suite: suite.to_owned() }) } else { Ok(mirrors) }
    }

    /// The suite's signed `Release`, verified. Without a network the one that was used last serves.
    fn release(&self, mirrors: &[String], suite: &str) -> Result<(Release, Sha256Sum), DebianError> {
        let base = mirrors.first().map(String::as_str).unwrap_or_default();
        let url = format!("{base}/dists/{suite}/InRelease");
        let kept_name = format!("{}.InRelease", Sha256Sum::of(url.as_bytes()));
        let kept = fs::read(self.cache.named(&kept_name)).ok();
        let verified = |message: &[u8]| self.verified(base, suite, message);
        let kept = kept.and_then(|message| verified(&message).ok().map(|release| (message, release)));
        let get = |url: &str| self.options.client.get(url, MAX_RELEASE, self.progress);
        let path = format!("dists/{suite}/InRelease");
        let message = match (mirrors::first_that_serves(mirrors, &path, self.progress, get), kept.as_ref()) {
            (Ok(message), _) => message,
            (Err(HttpError::Failed { reason, .. }), Some((message, _))) => {
                self.progress.note(&format!("{url} cannot be fetched ({reason}): using what was fetched before"));
                message.clone()
            }
            (Err(error), _) => return Err(error.into()),
        };
        let release = verified(&message)?;
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
        Ok((release, Sha256Sum::of(&message)))
    }

    fn verified(&self, mirror: &str, suite: &str, message: &[u8]) -> Result<Release, DebianError> {
        let what = format!("The InRelease file of {suite} ({mirror})");
        let text = self.keyring.verified_text(&what, message, self.now)?;
        Ok(Release::parse(&text, suite)?)
    }

    /// The text of the index of a component.
    fn index(
        &self,
        mirrors: &[String],
        suite: &str,
        release: &Release,
        component: &str,
    ) -> Result<String, DebianError> {
        let architecture = &self.options.architecture;
        let directory = format!("{component}/binary-{architecture}");
        let names = ["Packages.xz", "Packages.gz"].map(|name| format!("{directory}/{name}"));
        let found = names.iter().find_map(|name| release.file(name).map(|file| (name, file)));
        let Some((name, (sum, size))) = found else {
            let (suite, component) = (suite.to_owned(), component.to_owned());
            return Err(DebianError::NoIndex { suite, component, architecture: architecture.clone() });
        };
        let below = if release.by_hash() { format!("{directory}/by-hash/SHA256/{sum}") } else { name.clone() };
        let path = format!("dists/{suite}/{below}");
        if *size > MAX_INDEX {
            return Err(HttpError::TooLarge { url: path, limit: MAX_INDEX }.into());
        }
        let what = format!("The package index {name} of {suite}");
        let get = |url: &str| self.options.client.get_cached(self.cache, &what, url, (sum, *size), self.progress);
        let path = mirrors::first_that_serves(mirrors, &path, self.progress, get)?;
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
