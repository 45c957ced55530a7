use super::*;
use crate::cache::Cache;
use crate::cache::tests::Scratch;
use crate::debian::archive::tests::{DATE, Server, options, publish};
use crate::debian::packages::tests::entry;
use crate::debian::signature::tests::make_key;
use crate::progress::Silent;

/// An archive with these suites.
fn archive(name: &str, suites: &[(&str, String, &str)]) -> Archive {
    let scratch = Scratch::new(&format!("resolve-{name}"));
    let (server, key) = (Server::start(), make_key());
    for (suite, index, more) in suites {
        publish(&server, &key, suite, index, &format!("{DATE}{more}"));
    }
    let mut options = options(&server, &key, &scratch, "one");
    options.suites = suites.iter().map(|(suite, ..)| (*suite).to_owned()).collect();
    Archive::open(&options, &Cache::new(scratch.0.join("cache")), &Silent).expect("opens")
}

fn base() -> String {
    entry("base-files", "12", "Essential: yes\nPriority: required\nPre-Depends: awk\nDepends: libc6 (>= 2)\n")
        + &entry("libc6", "2.36", "Priority: optional\n")
        + &entry("init", "1", "Essential: yes\nDepends: usrmerge | usr-is-merged\n")
        + &entry("usrmerge", "35", "")
        + &entry("usr-is-merged", "35", "")
        + &entry("gawk", "5", "Provides: awk\n")
        + &entry("mawk", "1", "Priority: required\nProvides: awk\n")
        + &entry("apt", "2.6", "Priority: important\nDepends: libapt (>= 1)\n")
        + &entry("libapt", "2.6", "")
        + &entry("tzdata", "2026", "Priority: required\n")
        + &entry("mta-a", "1", "Provides: mta\nConflicts: mta\n")
        + &entry("mta-b", "1", "Provides: mta\nConflicts: mta\n")
        + &entry("mailer", "1", "Depends: mta-b | mta\n")
        + &entry("tool", "1.0", "Depends: missing | libtool (>= 2)\n")
        + &entry("libtool", "1.0", "")
        + &entry("editor", "1.0", "Depends: tool\n")
        + &entry("breaker", "1", "Breaks: libapt (<< 3)\n")
}

fn names(archive: &Archive, variant: Variant, include: &[&str], exclude: &[&str]) -> Result<Vec<String>, ResolveError> {
    let own = |list: &[&str]| list.iter().map(|&name| name.to_owned()).collect();
    let request = Request { variant, include: own(include), exclude: own(exclude) };
    let selection = resolve(archive, &request)?;
    Ok(selection.values().map(|one| format!("{} {}", one.package.name, one.package.version)).collect())
}

#[test]
fn the_base_is_that_of_mmdebstrap() {
    let archive = archive("base", &[("one", base(), "")]);
    let essential = ["base-files 12", "init 1", "libc6 2.36", "mawk 1", "usr-is-merged 35"];
    assert_eq!(names(&archive, Variant::Essential, &[], &[]).expect("resolved"), essential);
    let minbase = names(&archive, Variant::Minbase, &[], &[]).expect("resolved");
    let expected =
        ["apt 2.6", "base-files 12", "init 1", "libapt 2.6", "libc6 2.36", "mawk 1", "tzdata 2026", "usr-is-merged 35"];
    assert_eq!(minbase, expected);
    let selection =
        resolve(&archive, &Request { include: vec!["libc6".into()], ..Request::default() }).expect("resolved");
    assert_eq!(selection["libapt"].reason, Reason::NeededBy("apt".into()));
    assert_eq!((&selection["libc6"].reason, &selection["apt"].reason), (&Reason::Base, &Reason::Variant));
}

#[test]
fn alternatives_and_virtual_packages() {
    let archive = archive("virtual", &[("one", base(), "")]);
    let with = |include: &[&str]| names(&archive, Variant::Essential, include, &[]);
    assert!(with(&["mailer"]).expect("resolved").contains(&"mta-b 1".to_owned()));
    let chosen = with(&["mailer", "mta-a"]).expect("resolved");
    assert!(chosen.contains(&"mta-a 1".to_owned()) && !chosen.contains(&"mta-b 1".to_owned()), "{chosen:?}");
    let without = names(&archive, Variant::Essential, &["mailer"], &["mta-b"]).expect("resolved");
    assert!(without.contains(&"mta-a 1".to_owned()));
    assert!(with(&["mta"]).expect_err("a choice").to_string().contains("mta-a, mta-b"));
}

#[test]
fn what_cannot_be_is_explained() {
    let archive = archive("errors", &[("one", base(), "")]);
    let error = |include: &[&str], exclude: &[&str]| {
        names(&archive, Variant::Minbase, include, exclude).expect_err("impossible").to_string()
    };
    assert!(
        error(&["mta-a", "mta-b"], &[]).contains("mta-a conflicts with mta"),
        "{}",
        error(&["mta-a", "mta-b"], &[])
    );
    let text = error(&["editor"], &[]);
    assert!(text.contains("editor -> tool needs missing | libtool (>= 2)"), "{text}");
    assert!(text.contains("there is no missing; libtool has version 1.0"), "{text}");
    assert!(error(&["editr"], &[]).contains("near: editor"));
    assert!(error(&["tool=9"], &[]).contains("1.0 in one"));
    assert!(error(&["tool"], &["tool"]).contains("both included and excluded"));
    assert!(error(&[], &["libapt"]).contains("libapt is excluded"));
    assert!(error(&["breaker"], &[]).contains("breaker"));
}

#[test]
fn backports_are_taken_only_when_asked_for() {
    let backport = entry("tool", "2.0~bpo", "Depends: libtool (>= 2)\n") + &entry("libtool", "2.0~bpo", "");
    let security = entry("libc6", "2.36-1+deb", "");
    let archive = archive(
        "pins",
        &[
            ("one", base().replace("missing | ", ""), ""),
            ("one-backports", backport, "NotAutomatic: yes\nButAutomaticUpgrades: yes\n"),
            ("one-updates", security, ""),
        ],
    );
    let with = |include: &[&str]| names(&archive, Variant::Essential, include, &[]).expect("resolved");
    assert!(with(&[]).contains(&"libc6 2.36-1+deb".to_owned()));
    let asked = with(&["tool/one-backports"]);
    assert!(asked.contains(&"tool 2.0~bpo".to_owned()) && asked.contains(&"libtool 2.0~bpo".to_owned()), "{asked:?}");
    assert!(with(&["libtool"]).contains(&"libtool 1.0".to_owned()));
    assert!(with(&["libtool=2.0~bpo"]).contains(&"libtool 2.0~bpo".to_owned()));
}
