//! Why packages cannot be chosen.

use super::near;
use crate::debian::{Archive, Package};

/// Why there is no selection of packages.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ResolveError {
    /// No such package.
    #[error("There is no package {name} in {suites}{near}: check the name, or add a suite or component that has it")]
    Unknown {
        /// What was asked for.
        name: String,
        /// Where it was looked for.
        suites: String,
        /// Names that look like it.
        near: String,
    },
    /// Not in this version or suite.
    #[error("There is no {wanted}; there is {found}: ask for one of these, or for the name alone")]
    NotSo {
        /// What was asked for.
        wanted: String,
        /// What there is.
        found: String,
    },
    /// Asked for and forbidden.
    #[error("The package {name} is both included and excluded: drop one of the two")]
    Excluded {
        /// The package.
        name: String,
    },
    /// Many packages provide it.
    #[error("{name} is a virtual package, provided by {providers}: include one of these")]
    Virtual {
        /// The virtual package.
        name: String,
        /// Packages that provide it.
        providers: String,
    },
    /// Two packages cannot be together.
    #[error(
        "{wanted} cannot be installed: {why}; exclude one of them, or take other versions (NAME/SUITE, NAME=VERSION)"
    )]
    Conflict {
        /// Who wants it, from the package that was asked for on.
        wanted: String,
        /// What is against it.
        why: String,
    },
    /// Something needed cannot be had.
    #[error("{wanted} needs {need}, but {why}: add the suite or component that has it, or do not exclude it")]
    Unsatisfied {
        /// Who needs it, from the package that was asked for on.
        wanted: String,
        /// What is needed.
        need: String,
        /// What is wrong with each alternative.
        why: String,
    },
}

pub(super) fn unknown(archive: &Archive, name: &str) -> ResolveError {
    let suites: Vec<&str> = archive.sources().iter().map(|source| source.suite.as_str()).collect();
    let near = near::names(archive.index().names(), name);
    let near = if near.is_empty() { String::new() } else { format!(" (near: {})", near.join(", ")) };
    ResolveError::Unknown { name: name.to_owned(), suites: suites.join(", "), near }
}

pub(super) fn not_so(archive: &Archive, wanted: &str, named: &[Package]) -> ResolveError {
    if named.is_empty() {
        return unknown(archive, wanted.split(['=', '/']).next().unwrap_or_default());
    }
    let suite = |package: &Package| archive.sources().get(package.source).map_or("", |source| source.suite.as_str());
    let found = named.iter().map(|one| format!("{} in {}", one.version, suite(one))).collect::<Vec<_>>().join(", ");
    ResolveError::NotSo { wanted: wanted.to_owned(), found }
}
