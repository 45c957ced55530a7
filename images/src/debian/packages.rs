//! The packages of an archive, as its `Packages` indexes list them.

use super::deb822;
use crate::cache::Sha256Sum;

/// One alternative of a dependency.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Dependency {
    /// The package.
    pub name: String,
    /// The version, when exactly one will do (`= VERSION`).
    pub exactly: Option<String>,
}

/// A package that can be fetched.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Package {
    /// Its name.
    pub name: String,
    /// Its version.
    pub version: String,
    /// Its architecture, or `all`.
    pub architecture: String,
    /// Path below the mirror's base.
    pub filename: String,
    /// Bytes.
    pub size: u64,
    /// Hash.
    pub sha256: Sha256Sum,
    /// What it depends on: each entry is a list of alternatives.
    pub depends: Vec<Vec<Dependency>>,
    /// Which of the archive's sources has it.
    pub(super) source: usize,
}

/// The packages that `index` lists. Entries that lack a field or name a path outside the archive are left out: they could
/// not be fetched.
pub(super) fn parse(index: &str, source: usize) -> Vec<Package> {
    deb822::paragraphs(index)
        .filter_map(|paragraph| {
            let field = |name| paragraph.get(name).filter(|value| !value.is_empty()).map(str::to_owned);
            Some(Package {
                name: field("Package")?,
                version: field("Version")?,
                architecture: field("Architecture")?,
                filename: field("Filename").filter(|path| is_inside(path))?,
                size: paragraph.get("Size")?.parse().ok()?,
                sha256: Sha256Sum::parse(paragraph.get("SHA256")?)?,
                depends: paragraph.get("Depends").map(dependencies).unwrap_or_default(),
                source,
            })
        })
        .collect()
}

/// Whether a path of the archive stays below the mirror's base and needs no quoting in a URL.
pub(super) fn is_inside(path: &str) -> bool {
    let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '+' | '-' | '~' | ':' | '%');
    path.split('/').all(|part| !part.is_empty() && part != "." && part != ".." && part.chars().all(plain))
}

/// `a (>= 1) | b, c (= 2):any` and so on.
fn dependencies(field: &str) -> Vec<Vec<Dependency>> {
    let alternative = |text: &str| {
        let text = text.split('[').next().unwrap_or_default();
        let (name, relation) = text.split_once('(').unwrap_or((text, ""));
        let name = name.trim().split(':').next().unwrap_or_default().to_owned();
        let exactly = relation.trim_end().strip_suffix(')').and_then(|relation| relation.trim().strip_prefix('='));
        Dependency { name, exactly: exactly.map(|version| version.trim().to_owned()) }
    };
    field.split(',').map(|one| one.split('|').map(alternative).collect()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_index_gives_its_packages() {
        let hash = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
        let entry = |name: &str, filename: &str| {
            format!(
                "Package: {name}\nVersion: 1\nArchitecture: arm64\nFilename: {filename}\nSize: 3\nSHA256: {hash}\n\
                 Depends: a (= 1:2-3), b:any | c (>= 4) [arm64]\n\n"
            )
        };
        let index = entry("good", "pool/main/g/good_1%3a1+b~_arm64.deb")
            + &entry("up", "pool/../../x.deb")
            + &entry("root", "/etc/passwd")
            + &entry("query", "pool/x.deb?y")
            + "Package: short\n";
        let packages = parse(&index, 7);
        assert_eq!(packages.len(), 1);
        assert_eq!((packages[0].name.as_str(), packages[0].size, packages[0].source), ("good", 3, 7));
        let exactly =
            |name: &str, version: Option<&str>| Dependency { name: name.into(), exactly: version.map(Into::into) };
        let expected = vec![vec![exactly("a", Some("1:2-3"))], vec![exactly("b", None), exactly("c", None)]];
        assert_eq!(packages[0].depends, expected);
    }
}
