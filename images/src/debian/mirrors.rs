//! Which mirrors have a suite, and what to do when one of them fails.

use super::apt::AptConfiguration;
use crate::http::HttpError;
use crate::progress::Progress;

/// Suites that are never updated from beside: they are updated themselves.
const ROLLING: [&str; 4] = ["sid", "unstable", "experimental", "rc-buggy"];

/// The suites with updates and security updates of `suite`, which may not exist.
pub(super) fn companions(suite: &str) -> Vec<String> {
    if ROLLING.contains(&suite) || suite.contains('-') {
        return Vec::new();
    }
    vec![format!("{suite}-updates"), format!("{suite}-security")]
}

/// The mirrors that may have `suite`: of those that were `given`, else of the system's apt.
pub(super) fn of_suite(suite: &str, given: &[String], apt: &AptConfiguration) -> Vec<String> {
    let given: Vec<String> = given.iter().map(|mirror| mirror.trim_end_matches('/').to_owned()).collect();
    let is_security = |mirror: &String| mirror.ends_with("-security");
    let (security, plain): (Vec<String>, Vec<String>) = given.into_iter().partition(is_security);
    if !suite.ends_with("-security") {
        return match apt.source_of(suite) {
            Some(source) if plain.is_empty() => vec![source.uri.clone()],
            _ => plain,
        };
    }
    if !security.is_empty() {
        return security;
    }
    if !plain.is_empty() {
        return plain.iter().map(|mirror| security_beside(mirror)).collect();
    }
    let named = apt.source_of(suite);
    let other = || apt.sources.iter().find(|source| source.suites.iter().any(|name| name.ends_with("-security")));
    let beside = || apt.source_of(suite.trim_end_matches("-security")).map(|source| security_beside(&source.uri));
    let found = named.or_else(other).map(|source| source.uri.clone()).or_else(beside);
    found.into_iter().collect()
}

/// Which of these mirrors has `suite`: that ending in `-security` has security updates, where there is one.
pub(crate) fn mirror_of(suite: &str, mirrors: &[String]) -> Option<String> {
    let none = AptConfiguration { sources: Vec::new(), check_valid_until: true, check_date: true };
    of_suite(suite, mirrors, &none).into_iter().next()
}

/// Mirrors of Debian have security updates beside `debian`; those of others have them in the same place.
fn security_beside(mirror: &str) -> String {
    if mirror.ends_with("/debian") { format!("{mirror}-security") } else { mirror.to_owned() }
}

/// Asks one mirror after the other for `path`, as long as it is the mirror that fails.
pub(crate) fn first_that_serves<T>(
    mirrors: &[String],
    path: &str,
    progress: &dyn Progress,
    get: impl Fn(&str) -> Result<T, HttpError>,
) -> Result<T, HttpError> {
    let mut failure = HttpError::BadUrl(path.to_owned());
    for (number, mirror) in mirrors.iter().enumerate() {
        match get(&format!("{mirror}/{path}")) {
            Err(error @ (HttpError::Failed { .. } | HttpError::Missing { .. } | HttpError::Cache(_))) => {
                if number + 1 < mirrors.len() {
                    progress.note(&format!("{error}; trying the next mirror"));
                }
                failure = error;
            }
            result => return result,
        }
    }
    Err(failure)
}

#[cfg(test)]
mod tests {
    use super::super::apt::AptSource;
    use super::*;

    fn apt(sources: &[(&str, &str)]) -> AptConfiguration {
        let source = |(uri, suite): &(&str, &str)| AptSource {
            uri: (*uri).to_owned(),
            suites: vec![(*suite).to_owned()],
            components: vec!["main".to_owned()],
            signed_by: None,
        };
        let sources = sources.iter().map(source).collect();
        AptConfiguration { sources, check_valid_until: true, check_date: true }
    }

    #[test]
    fn updates_and_where_they_are() {
        assert_eq!(companions("bookworm"), ["bookworm-updates", "bookworm-security"]);
        assert!(companions("sid").is_empty() && companions("bookworm-backports").is_empty());
        let none = apt(&[]);
        let given = ["http://a/debian/".to_owned(), "http://b/debian".to_owned()];
        assert_eq!(of_suite("trixie", &given, &none), ["http://a/debian", "http://b/debian"]);
        assert_eq!(
            of_suite("trixie-security", &given, &none),
            ["http://a/debian-security", "http://b/debian-security"]
        );
        let both = ["http://a/debian".to_owned(), "http://s/x-security".to_owned()];
        assert_eq!(of_suite("trixie-security", &both, &none), ["http://s/x-security"]);
        assert!(of_suite("trixie", &[], &none).is_empty() && of_suite("trixie-security", &[], &none).is_empty());
        let host = apt(&[("http://m/debian", "bookworm")]);
        assert_eq!(of_suite("trixie-security", &[], &host), ["http://m/debian-security"]);
        let host = apt(&[("http://m/debian", "bookworm"), ("http://s/sec", "bookworm-security")]);
        assert_eq!(of_suite("trixie-security", &[], &host), ["http://s/sec"]);
        assert_eq!(of_suite("trixie-updates", &[], &host), ["http://m/debian"]);
    }

    #[test]
    fn the_next_mirror_is_asked_only_when_that_can_help() {
        let missing = |url: &str| HttpError::Missing { url: url.to_owned(), status: 404 };
        let mirrors = ["a".to_owned(), "b".to_owned()];
        let get = |url: &str| if url == "b/x" { Ok(1) } else { Err(missing(url)) };
        assert_eq!(first_that_serves(&mirrors, "x", &crate::progress::Silent, get).expect("b has it"), 1);
        let large = |url: &str| Err::<(), _>(HttpError::TooLarge { url: url.to_owned(), limit: 1 });
        let error = first_that_serves(&mirrors, "x", &crate::progress::Silent, large).expect_err("too large");
        assert!(error.to_string().starts_with("a/x"), "{error}");
    }
}
