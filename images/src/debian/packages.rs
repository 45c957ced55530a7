//! The packages of an archive, as its `Packages` indexes list them. The indexes stay text, found by name and read when
//! somebody asks: a suite has 60 000 packages, an image needs a hundred.

use std::collections::HashMap;

use super::deb822;
use super::relation::{self, Alternatives, Relation};
use crate::cache::Sha256Sum;

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
    /// Whether a system cannot be without it.
    pub essential: bool,
    /// `required`, `important`, `standard`, `optional` or `extra`.
    pub priority: String,
    /// What must be configured before it is unpacked.
    pub pre_depends: Vec<Alternatives>,
    /// What must be there when it is configured.
    pub depends: Vec<Alternatives>,
    /// What cannot be there with it.
    pub conflicts: Vec<Relation>,
    /// What it breaks.
    pub breaks: Vec<Relation>,
    /// Virtual packages that it provides.
    pub provides: Vec<Relation>,
    /// Which of the archive's sources has it.
    pub source: usize,
}

impl Package {
    /// Whether it is what `relation` asks for, by its own name or by what it provides.
    pub fn satisfies(&self, relation: &Relation) -> bool {
        (self.name == relation.name && relation.accepts(&self.version))
            || self
                .provides
                .iter()
                .any(|provided| provided.name == relation.name && relation.accepts_provided(provided.exactly()))
    }
}

/// Where the entry of a package is.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
struct Entry {
    text: usize,
    start: usize,
    end: usize,
}

/// The indexes of all suites and components.
#[derive(Debug, Default)]
pub struct PackageIndex {
    architecture: String,
    /// The texts, and which of the archive's sources each comes from.
    texts: Vec<(String, usize)>,
    by_name: HashMap<String, Vec<Entry>>,
    by_provided: HashMap<String, Vec<Entry>>,
    /// Entries of packages that are essential or of priority standard and more.
    base: Vec<Entry>,
}

impl PackageIndex {
    /// An index without packages, for those of an architecture.
    pub fn new(architecture: &str) -> PackageIndex {
        PackageIndex { architecture: architecture.to_owned(), ..PackageIndex::default() }
    }

    /// The architecture of its packages.
    pub fn architecture(&self) -> &str {
        &self.architecture
    }

    /// Adds the packages of one component of one source.
    pub fn add(&mut self, text: String, source: usize) {
        let number = self.texts.len();
        let base = text.as_ptr() as usize;
        for (paragraph, raw) in deb822::paragraphs_with_text(&text) {
            let Some(name) = paragraph.get("Package") else { continue };
            let start = raw.as_ptr() as usize - base;
            let entry = Entry { text: number, start, end: start + raw.len() };
            self.by_name.entry(name.to_owned()).or_default().push(entry);
            for provided in paragraph.get("Provides").into_iter().flat_map(|field| field.split(',')) {
                let end = provided.find(['(', ':']).unwrap_or(provided.len());
                let name = provided.get(..end).unwrap_or_default().trim();
                self.by_provided.entry(name.to_owned()).or_default().push(entry);
            }
            let priority = paragraph.get("Priority").unwrap_or_default();
            if paragraph.get("Essential") == Some("yes") || matches!(priority, "required" | "important" | "standard") {
                self.base.push(entry);
            }
        }
        self.texts.push((text, source));
    }

    fn read(&self, entry: &Entry) -> Option<Package> {
        let (text, source) = self.texts.get(entry.text)?;
        let paragraph = deb822::paragraphs(text.get(entry.start..entry.end)?).next()?;
        parse(&paragraph, &self.architecture, *source)
    }

    fn read_all<'a>(&'a self, entries: Option<&'a Vec<Entry>>) -> impl Iterator<Item = Package> + 'a {
        entries.into_iter().flatten().filter_map(|entry| self.read(entry))
    }

    /// All packages of this name.
    pub fn named(&self, name: &str) -> Vec<Package> {
        self.read_all(self.by_name.get(name)).collect()
    }

    /// All packages that provide this virtual package.
    pub fn providing(&self, name: &str) -> Vec<Package> {
        self.read_all(self.by_provided.get(name)).collect()
    }

    /// All packages that are essential or have priority required, important or standard.
    pub fn base(&self) -> Vec<Package> {
        self.read_all(Some(&self.base)).collect()
    }

    /// Forgets packages: whatever asks for them finds what is left.
    pub fn forget(&mut self, is_gone: impl Fn(&Package) -> bool, names: &[String]) {
        for name in names {
            let Some(entries) = self.by_name.get(name) else { continue };
            let gone: Vec<(Entry, Package)> = entries
                .iter()
                .filter_map(|entry| Some((*entry, self.read(entry)?)))
                .filter(|(_, package)| is_gone(package))
                .collect();
            let lists = gone.iter().flat_map(|(_, package)| &package.provides).map(|provided| &provided.name);
            for provided in lists {
                if let Some(entries) = self.by_provided.get_mut(provided) {
                    entries.retain(|entry| !gone.iter().any(|(one, _)| one == entry));
                }
            }
            if let Some(entries) = self.by_name.get_mut(name) {
                entries.retain(|entry| !gone.iter().any(|(one, _)| one == entry));
            }
            self.base.retain(|entry| !gone.iter().any(|(one, _)| one == entry));
        }
    }

    /// All names, in no order.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.by_name.keys().map(String::as_str)
    }
}

/// A package from its entry. Entries that lack a field or name a path outside the archive give nothing: they could not be
/// fetched.
fn parse(paragraph: &deb822::Paragraph<'_>, architecture: &str, source: usize) -> Option<Package> {
    let field = |name| paragraph.get(name).filter(|value| !value.is_empty()).map(str::to_owned);
    let relations = |name| paragraph.get(name).map(|text| relation::parse(text, architecture)).unwrap_or_default();
    let flat = |name| relations(name).into_iter().flatten().collect();
    Some(Package {
        name: field("Package").filter(|name| is_name(name))?,
        version: field("Version").filter(|version| is_version(version))?,
        architecture: field("Architecture")?,
        filename: field("Filename").filter(|path| is_inside(path))?,
        size: paragraph.get("Size")?.parse().ok()?,
        sha256: Sha256Sum::parse(paragraph.get("SHA256")?)?,
        essential: paragraph.get("Essential") == Some("yes"),
        priority: field("Priority").unwrap_or_else(|| "optional".to_owned()),
        pre_depends: relations("Pre-Depends"),
        depends: relations("Depends"),
        conflicts: flat("Conflicts"),
        breaks: flat("Breaks"),
        provides: flat("Provides"),
        source,
    })
}

/// Whether this is a package name (Policy, 5.6.1): it becomes part of file names.
pub(crate) fn is_name(name: &str) -> bool {
    let plain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || matches!(c, '+' | '-' | '.');
    name.starts_with(|c: char| c.is_ascii_alphanumeric()) && name.chars().all(plain)
}

/// Whether this may be a version (Policy, 5.6.12).
fn is_version(version: &str) -> bool {
    version.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '.' | '+' | '-' | ':' | '~'))
}

/// Whether a path of the archive stays below the mirror's base and needs no quoting in a URL.
pub(crate) fn is_inside(path: &str) -> bool {
    let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '+' | '-' | '~' | ':' | '%');
    path.split('/').all(|part| !part.is_empty() && part != "." && part != ".." && part.chars().all(plain))
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// An entry of an index; `more` are lines of it.
    pub(crate) fn entry(name: &str, version: &str, more: &str) -> String {
        let hash = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
        format!(
            "Package: {name}\nVersion: {version}\nArchitecture: arm64\nFilename: pool/{name}_{version}.deb\nSize: 3\nSHA256: {hash}\n{more}\n"
        )
    }

    #[test]
    fn what_is_forgotten_is_found_no_more() {
        let text =
            entry("a", "1", "Provides: v\nPriority: required\n") + &entry("a", "2", "Provides: v, w\nEssential: yes\n");
        let mut index = PackageIndex::new("arm64");
        index.add(text, 0);
        let versions = |packages: Vec<Package>| packages.into_iter().map(|one| one.version).collect::<Vec<_>>();
        assert_eq!(versions(index.base()), ["1", "2"]);
        index.forget(|package| package.version == "2", &["a".to_owned(), "b".to_owned()]);
        assert_eq!(versions(index.named("a")), ["1"]);
        assert_eq!(versions(index.providing("v")), ["1"]);
        assert_eq!(versions(index.base()), ["1"]);
        assert!(index.providing("w").is_empty());
    }

    #[test]
    fn an_index_gives_its_packages() {
        let text = entry("good", "1", "Depends: a (= 1:2-3), b:any | c (>= 4) [arm64]\nProvides: v (= 2), w\n")
            + &entry("good", "2", "Essential: yes\n")
            + &entry("up", "1", "").replace("pool/", "pool/../../")
            + &entry("root", "1", "").replace("pool/", "/etc/")
            + &entry("../x", "1", "")
            + "Package: short\n";
        let mut index = PackageIndex::new("arm64");
        index.add(text, 7);
        let good = index.named("good");
        assert_eq!((good.len(), good[0].size, good[0].source), (2, 3, 7));
        let shown: Vec<String> = good[0].depends.iter().map(|one| format!("{one:?}")).collect();
        assert_eq!(shown.len(), 2);
        assert_eq!(good[0].depends[1].len(), 2);
        for name in ["up", "root", "../x", "short", "none"] {
            assert!(index.named(name).is_empty(), "{name}");
        }
        assert_eq!(index.base().len(), 1);
        assert_eq!(index.providing("v")[0].name, "good");
        let wants = |field: &str| good[0].satisfies(&relation::parse(field, "arm64")[0][0]);
        assert!(wants("good (<< 2)") && wants("v (>= 2)") && wants("w"));
        assert!(!wants("good (>= 2)") && !wants("v (>= 3)") && !wants("w (>= 1)"));
    }
}
