//! Which packages an image consists of: those that every system has, those that are asked for, and what they need; chosen
//! as apt would on an empty system, without recommendations.

mod error;
pub(crate) mod near;

pub use error::ResolveError;

use std::collections::{BTreeMap, HashMap, HashSet, VecDeque};

use crate::debian::relation::{Alternatives, Relation};
use crate::debian::{Archive, Package, compare_versions};

/// Which packages are taken without being asked for; the names of mmdebstrap(1).
#[derive(Copy, Clone, Debug, PartialEq, Eq, Default)]
pub enum Variant {
    /// Essential packages and what they need.
    Essential,
    /// These and apt.
    Apt,
    /// These and all of priority required.
    #[default]
    Minbase,
    /// These and all of priority important.
    Important,
    /// These and all of priority standard.
    Standard,
}

impl Variant {
    /// All names that [`Variant::parse`] knows.
    pub const NAMES: [&'static str; 6] = ["essential", "apt", "minbase", "required", "important", "standard"];

    /// The variant of this name.
    pub fn parse(name: &str) -> Option<Variant> {
        Some(match name {
            "essential" => Variant::Essential,
            "apt" => Variant::Apt,
            "minbase" | "required" => Variant::Minbase,
            "important" => Variant::Important,
            "standard" => Variant::Standard,
            _ => return None,
        })
    }

    /// Its name.
    pub fn name(self) -> &'static str {
        match self {
            Variant::Essential => "essential",
            Variant::Apt => "apt",
            Variant::Minbase => "minbase",
            Variant::Important => "important",
            Variant::Standard => "standard",
        }
    }

    fn takes(self, priority: &str) -> bool {
        let priorities: &[&str] = match self {
            Variant::Essential | Variant::Apt => &[],
            Variant::Minbase => &["required"],
            Variant::Important => &["required", "important"],
            Variant::Standard => &["required", "important", "standard"],
        };
        priorities.contains(&priority)
    }
}

/// What is asked for.
#[derive(Clone, Debug, Default)]
pub struct Request {
    /// What is taken without being asked for.
    pub variant: Variant,
    /// Packages: `NAME`, `NAME=VERSION` or `NAME/SUITE`.
    pub include: Vec<String>,
    /// Packages that must not be taken.
    pub exclude: Vec<String>,
}

/// Why a package is taken.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reason {
    /// Essential, or needed by what is.
    Base,
    /// Of the variant.
    Variant,
    /// Asked for.
    Included,
    /// Needed by this package.
    NeededBy(String),
}

/// A package that is taken.
#[derive(Clone, Debug)]
pub struct Selected {
    /// The package.
    pub package: Package,
    /// Why.
    pub reason: Reason,
}

/// The packages to take, by name.
pub type Selection = BTreeMap<String, Selected>;

/// Chooses the packages.
///
/// # Errors
/// [`ResolveError`].
pub fn resolve(archive: &Archive, request: &Request) -> Result<Selection, ResolveError> {
    let mut solver = Solver::new(archive, request)?;
    let base = archive.index().base();
    let names = |wanted: &dyn Fn(&Package) -> bool| {
        let names: HashSet<&String> = base.iter().filter(|one| wanted(one)).map(|one| &one.name).collect();
        let mut names: Vec<String> = names.into_iter().cloned().collect();
        names.sort();
        names
    };
    for name in names(&|package| package.essential) {
        // What was essential in one suite and is not in a newer one is not.
        if let Some(package) = solver.candidate(&name).filter(|package| package.essential) {
            solver.take(package, Reason::Base)?;
        }
    }
    solver.close()?;
    if request.variant != Variant::Essential {
        solver.take_named("apt", Reason::Variant)?;
    }
    for name in names(&|package| request.variant.takes(&package.priority)) {
        if let Some(package) = solver.candidate(&name).filter(|package| request.variant.takes(&package.priority)) {
            solver.take(package, Reason::Variant)?;
        }
    }
    for item in &request.include {
        let name = item.split(['=', '/']).next().unwrap_or_default();
        solver.take_named(name, Reason::Included)?;
    }
    solver.close()?;
    Ok(solver.selected)
}

struct Solver<'a> {
    archive: &'a Archive,
    /// Versions and suites that were asked for by package.
    pinned: HashMap<String, Package>,
    excluded: HashSet<String>,
    selected: Selection,
    /// Which selected packages provide a name.
    provided: HashMap<String, Vec<String>>,
    /// What selected packages cannot be together with, by name.
    refused: HashMap<String, Vec<(String, Relation)>>,
    waiting: VecDeque<(Alternatives, String)>,
}

impl<'a> Solver<'a> {
    fn new(archive: &'a Archive, request: &Request) -> Result<Solver<'a>, ResolveError> {
        let mut pinned = HashMap::new();
        for item in &request.include {
            let Some(at) = item.find(['=', '/']) else { continue };
            let (name, wanted) = item.split_at(at);
            let wanted = wanted.get(1..).unwrap_or_default();
            let suite = |package: &Package| archive.sources().get(package.source).map(|source| source.suite.as_str());
            let fits = |package: &Package| {
                if item.get(at..at + 1) == Some("=") {
                    package.version == wanted
                } else {
                    suite(package) == Some(wanted)
                }
            };
            let named = archive.index().named(name);
            let found = named.iter().filter(|one| fits(one)).max_by(|a, b| compare_versions(&a.version, &b.version));
            let found = found.ok_or_else(|| error::not_so(archive, item, &named))?;
            pinned.insert(name.to_owned(), found.clone());
        }
        Ok(Solver {
            archive,
            pinned,
            excluded: request.exclude.iter().cloned().collect(),
            selected: Selection::new(),
            provided: HashMap::new(),
            refused: HashMap::new(),
            waiting: VecDeque::new(),
        })
    }

    fn priority(&self, package: &Package) -> u32 {
        self.archive.sources().get(package.source).map_or(0, |source| source.priority)
    }

    /// The version of a package that apt would take: of the suites with the highest priority the newest.
    fn candidate(&self, name: &str) -> Option<Package> {
        if self.excluded.contains(name) {
            return None;
        }
        if let Some(package) = self.pinned.get(name) {
            return Some(package.clone());
        }
        let order = |a: &Package, b: &Package| {
            self.priority(a).cmp(&self.priority(b)).then_with(|| compare_versions(&a.version, &b.version))
        };
        self.archive.index().named(name).into_iter().max_by(order)
    }

    fn take_named(&mut self, name: &str, reason: Reason) -> Result<(), ResolveError> {
        match self.candidate(name) {
            Some(package) => self.take(package, reason),
            None if self.excluded.contains(name) => Err(ResolveError::Excluded { name: name.to_owned() }),
            // A virtual package will do if there is no choice.
            None => {
                let providers = self.providers(&Relation::any(name));
                match providers.as_slice() {
                    [] => Err(error::unknown(self.archive, name)),
                    [one] => self.take(one.clone(), reason),
                    several => Err(ResolveError::Virtual {
                        name: name.to_owned(),
                        providers: several.iter().map(|one| one.name.clone()).collect::<Vec<_>>().join(", "),
                    }),
                }
            }
        }
    }

    fn take(&mut self, package: Package, reason: Reason) -> Result<(), ResolveError> {
        if let Some(there) = self.selected.get_mut(&package.name) {
            if reason == Reason::Included {
                there.reason = if there.reason == Reason::Base { Reason::Base } else { reason };
            }
            return Ok(());
        }
        if let Some(why) = self.conflict(&package) {
            return Err(ResolveError::Conflict { wanted: self.chain(&package.name, &reason), why });
        }
        let needs = package.pre_depends.iter().chain(&package.depends).cloned();
        self.waiting.extend(needs.map(|need| (need, package.name.clone())));
        for name in package.provides.iter().map(|one| &one.name).chain([&package.name]) {
            self.provided.entry(name.clone()).or_default().push(package.name.clone());
        }
        for relation in package.conflicts.iter().chain(&package.breaks) {
            self.refused.entry(relation.name.clone()).or_default().push((package.name.clone(), relation.clone()));
        }
        self.selected.insert(package.name.clone(), Selected { package, reason });
        Ok(())
    }

    /// Takes what is needed until nothing is missing.
    fn close(&mut self) -> Result<(), ResolveError> {
        let base = self.selected.values().all(|one| one.reason == Reason::Base);
        while let Some((need, by)) = self.waiting.pop_front() {
            if need.iter().any(|relation| self.is_satisfied(relation)) {
                continue;
            }
            let reason = if base { Reason::Base } else { Reason::NeededBy(by.clone()) };
            let found = self.choose(&need).ok_or_else(|| self.unsatisfied(&need, &by))?;
            self.take(found, reason)?;
        }
        Ok(())
    }

    fn is_satisfied(&self, relation: &Relation) -> bool {
        let names = self.provided.get(&relation.name).into_iter().flatten();
        names.filter_map(|name| self.selected.get(name)).any(|one| one.package.satisfies(relation))
    }

    /// The package for the first alternative for which there is one.
    fn choose(&self, need: &Alternatives) -> Option<Package> {
        // The image is made with merged /usr from the start: nothing is left to be merged by a package.
        let merged = need.iter().find(|relation| relation.name == "usr-is-merged");
        merged
            .into_iter()
            .chain(need)
            .find_map(|relation| self.options(relation).into_iter().find(|package| self.conflict(package).is_none()))
    }

    /// Packages for a relation, the best first.
    fn options(&self, relation: &Relation) -> Vec<Package> {
        let candidate = self.candidate(&relation.name);
        let mut options: Vec<Package> = candidate.into_iter().filter(|one| relation.accepts(&one.version)).collect();
        options.extend(self.providers(relation));
        if options.is_empty() && !self.excluded.contains(&relation.name) && !self.pinned.contains_key(&relation.name) {
            // A version that apt would not take by itself: a backport that needs another.
            let mut others = self.archive.index().named(&relation.name);
            others.retain(|one| relation.accepts(&one.version) && self.priority(one) >= 100);
            others.sort_by(|a, b| compare_versions(&b.version, &a.version));
            options.extend(others);
        }
        options
    }

    /// Packages that provide what a relation asks for, the best first.
    fn providers(&self, relation: &Relation) -> Vec<Package> {
        let mut providers = self.archive.index().providing(&relation.name);
        providers.retain(|one| {
            one.satisfies(relation) && self.candidate(&one.name).is_some_and(|best| best.version == one.version)
        });
        let rank = |package: &Package| {
            let priorities = ["required", "important", "standard", "optional"];
            let priority = priorities.iter().position(|name| *name == package.priority).unwrap_or(4);
            (!package.essential, priority)
        };
        providers.sort_by(|a, b| rank(a).cmp(&rank(b)).then_with(|| a.name.cmp(&b.name)));
        providers.dedup_by(|a, b| a.name == b.name);
        providers
    }

    /// What speaks against taking a package.
    fn conflict(&self, package: &Package) -> Option<String> {
        let owns = package.provides.iter().map(|one| &one.name).chain([&package.name]);
        for (by, relation) in owns.filter_map(|name| self.refused.get(name)).flatten() {
            if *by != package.name && package.satisfies(relation) {
                return Some(format!("{by} conflicts with {relation}, which {} {} is", package.name, package.version));
            }
        }
        for relation in package.conflicts.iter().chain(&package.breaks) {
            for name in self.provided.get(&relation.name).into_iter().flatten() {
                let other = self.selected.get(name).map(|one| &one.package);
                if let Some(other) = other.filter(|other| other.name != package.name && other.satisfies(relation)) {
                    let (name, version) = (&other.name, &other.version);
                    return Some(format!("{} conflicts with {relation}, which {name} {version} is", package.name));
                }
            }
        }
        None
    }

    /// Who wants a package, from the one that was asked for on.
    fn chain(&self, name: &str, reason: &Reason) -> String {
        let mut chain = vec![name.to_owned()];
        let mut reason = reason.clone();
        while let Reason::NeededBy(by) = reason {
            if chain.contains(&by) {
                break;
            }
            reason = self.selected.get(&by).map_or(Reason::Base, |one| one.reason.clone());
            chain.push(by);
        }
        chain.reverse();
        chain.join(" -> ")
    }

    fn unsatisfied(&self, need: &Alternatives, by: &str) -> ResolveError {
        let reason = self.selected.get(by).map_or(Reason::Base, |one| one.reason.clone());
        let why = |relation: &Relation| {
            if self.excluded.contains(&relation.name) {
                return format!("{} is excluded", relation.name);
            }
            match (self.options(relation).first(), self.candidate(&relation.name)) {
                (Some(option), _) => self.conflict(option).unwrap_or_default(),
                (None, Some(other)) => format!("{} has version {}", other.name, other.version),
                (None, None) => format!("there is no {}", relation.name),
            }
        };
        ResolveError::Unsatisfied {
            wanted: self.chain(by, &reason),
            need: need.iter().map(ToString::to_string).collect::<Vec<_>>().join(" | "),
            why: need.iter().map(why).collect::<Vec<_>>().join("; "),
        }
    }
}

#[cfg(test)]
mod tests;
