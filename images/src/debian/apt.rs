//! Where this system's apt finds the Debian archive (sources.list(5)): the same mirror serves us.

use std::fs;
use std::path::{Path, PathBuf};

use super::deb822;

/// Suites by which a source is recognised as Debian's main archive: any of its suites can be had there.
pub(super) const DEBIAN_SUITES: [&str; 12] = [
    "buster",
    "bullseye",
    "bookworm",
    "trixie",
    "forky",
    "duke",
    "sid",
    "oldoldstable",
    "oldstable",
    "stable",
    "testing",
    "unstable",
];

/// One source of packages.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AptSource {
    /// Base of the mirror, without a slash at its end.
    pub uri: String,
    /// Suites that are taken from it.
    pub suites: Vec<String>,
    /// Components that are taken from it.
    pub components: Vec<String>,
    /// Keyring that signs it.
    pub signed_by: Option<PathBuf>,
}

/// What apt's configuration says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AptConfiguration {
    /// The sources of binary packages over HTTP and HTTPS.
    pub sources: Vec<AptSource>,
    /// `Acquire::Check-Valid-Until`.
    pub check_valid_until: bool,
    /// `Acquire::Check-Date`.
    pub check_date: bool,
}

impl AptConfiguration {
    /// Reads the configuration below `root` (`/` but in tests). What is not there or cannot be read counts as empty.
    pub fn read(root: &Path) -> AptConfiguration {
        let directory = root.join("etc/apt");
        let mut sources = Vec::new();
        for path in files(&directory.join("sources.list"), &directory.join("sources.list.d")) {
            let text = fs::read_to_string(&path).unwrap_or_default();
            match path.extension().and_then(|extension| extension.to_str()) {
                Some("sources") => sources.extend(deb822::paragraphs(&text).flat_map(|paragraph| stanza(&paragraph))),
                Some("list") => sources.extend(text.lines().filter_map(line)),
                _ => {}
            }
        }
        let settings = files(&directory.join("apt.conf"), &directory.join("apt.conf.d"));
        let settings: String = settings.iter().filter_map(|path| fs::read_to_string(path).ok()).collect();
        AptConfiguration {
            sources,
            check_valid_until: setting(&settings, "Acquire::Check-Valid-Until"),
            check_date: setting(&settings, "Acquire::Check-Date"),
        }
    }

    /// The source that has `suite`: one that names it, or Debian's main archive, which has all suites that do not live
    /// apart (`-security` does).
    pub fn source_of(&self, suite: &str) -> Option<&AptSource> {
        let named = self.sources.iter().find(|source| source.suites.iter().any(|name| name == suite));
        let apart = suite.ends_with("-security");
        let is_debian = |source: &&AptSource| {
            source.components.iter().any(|name| name == "main")
                && source.suites.iter().any(|name| DEBIAN_SUITES.contains(&name.as_str()))
        };
        named.or_else(|| self.sources.iter().filter(|_| !apart).find(is_debian))
    }
}

/// `first` and the files of `directory`, sorted.
fn files(first: &Path, directory: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(directory).into_iter().flatten().filter_map(Result::ok).map(|entry| entry.path());
    let mut paths: Vec<PathBuf> = entries.collect();
    paths.sort();
    paths.insert(0, first.to_owned());
    paths
}

fn is_fetchable(uri: &str) -> bool {
    uri.starts_with("http://") || uri.starts_with("https://")
}

fn words(text: Option<&str>) -> Vec<String> {
    text.unwrap_or_default().split_whitespace().map(str::to_owned).collect()
}

/// The sources of one stanza of a `.sources` file.
fn stanza(paragraph: &deb822::Paragraph<'_>) -> Vec<AptSource> {
    let disabled = paragraph.get("Enabled").is_some_and(|value| value.eq_ignore_ascii_case("no"));
    if disabled || !words(paragraph.get("Types")).iter().any(|kind| kind == "deb") {
        return Vec::new();
    }
    let signed_by = paragraph.get("Signed-By").filter(|value| value.starts_with('/') && !value.contains('\n'));
    // Comment lines may stand between the fields' lines.
    let source = |uri: &str| AptSource {
        uri: uri.trim_end_matches('/').to_owned(),
        suites: words(paragraph.get("Suites")),
        components: words(paragraph.get("Components")),
        signed_by: signed_by.map(PathBuf::from),
    };
    words(paragraph.get("URIs")).iter().filter(|uri| is_fetchable(uri)).map(|uri| source(uri)).collect()
}

/// The source of a line of `sources.list`: `deb [options] URI suite component...`.
fn line(line: &str) -> Option<AptSource> {
    let line = line.split('#').next()?.trim();
    let rest = line.strip_prefix("deb").filter(|rest| rest.starts_with([' ', '\t', '[']))?.trim_start();
    let (options, rest) = match rest.strip_prefix('[') {
        Some(rest) => rest.split_once(']')?,
        None => ("", rest),
    };
    let mut words = rest.split_whitespace();
    let uri = words.next().filter(|uri| is_fetchable(uri))?;
    let signed_by = options.split_whitespace().find_map(|option| option.strip_prefix("signed-by="));
    Some(AptSource {
        uri: uri.trim_end_matches('/').to_owned(),
        suites: vec![words.next()?.to_owned()],
        components: words.map(str::to_owned).collect(),
        signed_by: signed_by.filter(|path| path.starts_with('/')).map(PathBuf::from),
    })
}

/// A switch of apt.conf(5) that is on unless it is written off; the form with braces is not read.
fn setting(text: &str, name: &str) -> bool {
    let value = text.lines().rev().find_map(|line| {
        let (word, value) = line.trim().split_once(char::is_whitespace)?;
        word.eq_ignore_ascii_case(name)
            .then(|| value.trim().trim_end_matches(';').trim_matches('"').to_ascii_lowercase())
    });
    !value.is_some_and(|value| ["false", "no", "0", "off", "without", "disable"].contains(&value.as_str()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cache::tests::Scratch;

    fn configuration(name: &str, files: &[(&str, &str)]) -> AptConfiguration {
        let scratch = Scratch::new(name);
        for (path, text) in files {
            let path = scratch.0.join("etc/apt").join(path);
            fs::create_dir_all(path.parent().expect("a parent")).expect("made");
            fs::write(path, text).expect("written");
        }
        AptConfiguration::read(&scratch.0)
    }

    #[test]
    fn both_formats_of_sources_are_read() {
        let found = configuration(
            "apt-sources",
            &[
                (
                    "sources.list",
                    "# x\ndeb [arch=arm64 signed-by=/k.gpg] http://mirror.example/debian/ trixie main contrib # y\ndeb-src http://a.example/ b c\ndeb cdrom:[x]/ b main\n",
                ),
                (
                    "sources.list.d/a.sources",
                    "Types: deb deb-src\n# c\nURIs: https://two.example/debian-security\nSuites: trixie-security\n x-security\nComponents: main\nSigned-By: /s.gpg\n\nTypes: deb\nEnabled: no\nURIs: http://off.example/\nSuites: x\n",
                ),
                ("sources.list.d/b.sources.off", "Types: deb\nURIs: http://off.example/\nSuites: x\n"),
            ],
        );
        let uris: Vec<&str> = found.sources.iter().map(|source| source.uri.as_str()).collect();
        assert_eq!(uris, ["http://mirror.example/debian", "https://two.example/debian-security"]);
        assert_eq!(found.sources[0].components, ["main", "contrib"]);
        assert_eq!(found.sources[0].signed_by, Some("/k.gpg".into()));
        assert_eq!(found.sources[1].suites, ["trixie-security", "x-security"]);
        assert!(found.check_valid_until && found.check_date);
        assert_eq!(found.source_of("trixie-security"), Some(&found.sources[1]));
        assert_eq!(found.source_of("bookworm-backports"), Some(&found.sources[0]));
        assert_eq!(found.source_of("bookworm-security"), None);
    }

    #[test]
    fn other_distributions_do_not_serve_debian() {
        let found = configuration("apt-other", &[("sources.list", "deb http://u.example/ubuntu noble main\n")]);
        assert_eq!(found.source_of("bookworm"), None);
        assert_eq!(configuration("apt-none", &[]).source_of("bookworm"), None);
    }

    #[test]
    fn the_checks_can_be_off() {
        let text = "// x\nAcquire::Check-Valid-Until \"false\";\nAcquire::Check-Date \"true\";\n";
        let found = configuration("apt-checks", &[("apt.conf.d/99x", text)]);
        assert!(!found.check_valid_until && found.check_date);
    }
}
