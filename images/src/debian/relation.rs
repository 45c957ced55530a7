//! Relations between packages (Debian Policy, chapter 7): `Depends: a (>= 1) | b [arm64], c:any` and so on.

use std::cmp::Ordering;
use std::fmt;

use super::version::compare_versions;

/// How versions are compared.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub enum Operator {
    /// `<<`
    Earlier,
    /// `<=`
    EarlierOrEqual,
    /// `=`
    Equal,
    /// `>=`
    LaterOrEqual,
    /// `>>`
    Later,
}

impl Operator {
    fn parse(text: &str) -> Option<Operator> {
        Some(match text {
            "<<" => Operator::Earlier,
            // A single sign is the old form of the one with `=` (Policy, 7.1).
            "<=" | "<" => Operator::EarlierOrEqual,
            "=" => Operator::Equal,
            ">=" | ">" => Operator::LaterOrEqual,
            ">>" => Operator::Later,
            _ => return None,
        })
    }

    fn sign(self) -> &'static str {
        match self {
            Operator::Earlier => "<<",
            Operator::EarlierOrEqual => "<=",
            Operator::Equal => "=",
            Operator::LaterOrEqual => ">=",
            Operator::Later => ">>",
        }
    }

    /// Whether `version OPERATOR than` holds.
    pub fn holds(self, version: &str, than: &str) -> bool {
        let order = compare_versions(version, than);
        match self {
            Operator::Earlier => order == Ordering::Less,
            Operator::EarlierOrEqual => order != Ordering::Greater,
            Operator::Equal => order == Ordering::Equal,
            Operator::LaterOrEqual => order != Ordering::Less,
            Operator::Later => order == Ordering::Greater,
        }
    }
}

/// A package, perhaps of certain versions only.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Relation {
    /// The package, real or virtual.
    pub name: String,
    /// What its version must be.
    pub version: Option<(Operator, String)>,
}

impl Relation {
    /// A package of any version.
    pub fn any(name: &str) -> Relation {
        Relation { name: name.to_owned(), version: None }
    }

    /// The version, when exactly one will do.
    pub fn exactly(&self) -> Option<&str> {
        match &self.version {
            Some((Operator::Equal, version)) => Some(version),
            _ => None,
        }
    }

    /// Whether a package of this version fits.
    pub fn accepts(&self, version: &str) -> bool {
        self.version.as_ref().is_none_or(|(operator, than)| operator.holds(version, than))
    }

    /// Whether something that a package provides, with the version that it says, fits. What is provided without a
    /// version fits only where none is asked for (Policy, 7.5).
    pub fn accepts_provided(&self, version: Option<&str>) -> bool {
        match (&self.version, version) {
            (None, _) => true,
            (Some(_), None) => false,
            (Some(_), Some(version)) => self.accepts(version),
        }
    }
}

impl fmt::Display for Relation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.version {
            Some((operator, version)) => write!(f, "{} ({} {version})", self.name, operator.sign()),
            None => f.write_str(&self.name),
        }
    }
}

/// Alternatives, the preferred one first. One of them is enough.
pub type Alternatives = Vec<Relation>;

/// The relations of a field, as they are for packages of `architecture`. What cannot be read is left out.
pub fn parse(field: &str, architecture: &str) -> Vec<Alternatives> {
    let entry =
        |entry: &str| -> Alternatives { entry.split('|').filter_map(|text| relation(text, architecture)).collect() };
    field.split(',').map(entry).filter(|alternatives| !alternatives.is_empty()).collect()
}

fn relation(text: &str, architecture: &str) -> Option<Relation> {
    let (text, architectures) = match text.split_once('[') {
        Some((text, rest)) => (text, rest.split(']').next().unwrap_or_default()),
        None => (text, ""),
    };
    if !applies(architectures, architecture) {
        return None;
    }
    // Build profiles (`<!nocheck>`) have no meaning in binary packages, but their sign is also that of versions.
    let (name, version) = match text.split_once('(') {
        Some((name, rest)) => (name, Some(rest.split(')').next().unwrap_or_default())),
        None => (text, None),
    };
    let name = name.trim().split(':').next().unwrap_or_default();
    if name.is_empty() {
        return None;
    }
    let version = match version {
        Some(version) => {
            let version = version.trim();
            let split = version.find(|c: char| !matches!(c, '<' | '>' | '='))?;
            let (operator, than) = version.split_at(split);
            Some((Operator::parse(operator)?, than.trim().to_owned()))
        }
        None => None,
    };
    Some(Relation { name: name.to_owned(), version })
}

/// Whether a restriction such as `amd64 arm64` or `!i386` includes the architecture.
fn applies(restriction: &str, architecture: &str) -> bool {
    let mut words = restriction.split_whitespace().peekable();
    let is = |word: &str| word == architecture || word == "any" || word == "linux-any";
    match words.peek() {
        None => true,
        Some(word) if word.starts_with('!') => !words.any(|word| is(word.trim_start_matches('!'))),
        Some(_) => words.any(is),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(field: &str) -> Vec<String> {
        let show = |one: &Alternatives| one.iter().map(ToString::to_string).collect::<Vec<_>>().join(" | ");
        parse(field, "arm64").iter().map(show).collect()
    }

    #[test]
    fn fields_are_read() {
        assert_eq!(shown("a (>= 1:2-3), b:any|c(<<4~),d"), ["a (>= 1:2-3)", "b | c (<< 4~)", "d"]);
        assert_eq!(
            shown("a [amd64], b [arm64 i386], c [!arm64], d [!i386] | e [i386], f [linux-any]"),
            ["b", "d", "f"]
        );
        assert_eq!(shown(",, a (>=1) ,\n b"), ["a (>= 1)", "b"]);
        assert_eq!(shown("a (?? 1), (>= 2), b (> 3)"), ["b (>= 3)"]);
    }

    #[test]
    fn versions_decide() {
        let of = |field: &str| parse(field, "arm64").remove(0).remove(0);
        for (field, version, fits) in [
            ("a (>= 2)", "2", true),
            ("a (>= 2)", "1.9", false),
            ("a (<< 2)", "2~rc1", true),
            ("a (>> 2)", "2", false),
            ("a (= 2)", "2-0", true),
            ("a (<= 2)", "1:0", false),
            ("a", "0", true),
        ] {
            assert_eq!(of(field).accepts(version), fits, "{field} {version}");
        }
        assert_eq!(of("a (= 2)").exactly(), Some("2"));
        assert_eq!(of("a (>= 2)").exactly(), None);
        assert!(of("a").accepts_provided(None) && of("a (>= 1)").accepts_provided(Some("1")));
        assert!(!of("a (>= 1)").accepts_provided(None));
    }

    proptest::proptest! {
        #[test]
        fn any_text_is_read(text in "[a-c ,|()\\[\\]<>=!:é0-9.]{0,60}") {
            let _ = parse(&text, "arm64");
        }
    }
}
