use super::*;
use crate::cache::tests::Scratch;
use crate::debian::archive::tests::{DATE, Server, options as archive_options, package, publish};
use crate::debian::signature::tests::make_key;
use crate::progress::Silent;
use pgp::composed::SignedSecretKey;

/// An archive on the loopback interface.
struct Fixture {
    scratch: Scratch,
    server: Server,
    key: SignedSecretKey,
}

impl Fixture {
    fn new(name: &str) -> Fixture {
        Fixture { scratch: Scratch::new(&format!("choose-{name}")), server: Server::start(), key: make_key() }
    }

    fn package(&self, name: &str, version: &str, fields: &str) -> String {
        let contents = format!("{name} {version}");
        package(&self.server, name, version, "", &[("usr/share/contents", contents.as_bytes())])
            .replace("Depends: \n", fields)
    }

    fn publish(&self, suite: &str, index: &str, more: &str) {
        publish(&self.server, &self.key, suite, index, &format!("{DATE}{more}"));
    }

    fn drop_file(&self, name: &str, version: &str) {
        let gone = self.server.files.lock().expect("no panic").remove(&format!("pool/{name}_{version}_arm64.deb"));
        assert!(gone.is_some(), "{name} {version} was not there");
    }

    fn lock(&self, include: &[&str]) -> Result<Lock, BuildError> {
        let mut options = BuildOptions::new("one", self.scratch.0.join("build"));
        options.archive =
            ArchiveOptions { updates: true, ..archive_options(&self.server, &self.key, &self.scratch, "one") };
        options.request.variant = resolve::Variant::Essential;
        options.request.include = include.iter().map(|name| (*name).to_owned()).collect();
        let cache = Cache::new(self.scratch.0.join("cache"));
        let mut archive = Archive::open(&options.archive, &cache, &Silent)?;
        new_lock(&options, &mut archive, &cache, &Silent)
    }

    fn tools(&self) -> String {
        self.package(CLOUD_KERNEL, "1", "Depends: linux-image-1\n")
            + &self.package("linux-image-1", "1", "")
            + &self.package(BUSYBOX, "1", "")
    }
}

fn versions(lock: &Lock) -> Vec<(&str, &str, Option<&str>)> {
    lock.packages.iter().map(|one| (one.name.as_str(), one.version.as_str(), one.instead_of.as_deref())).collect()
}

/// `base` is gone from the updates, `more` is there.
fn with_gone_updates(name: &str, more: &str, valid: &str) -> Fixture {
    let t = Fixture::new(name);
    let base = |version: &str| t.package("base", version, "Essential: yes\n");
    let plain = base("1") + &t.package("more", "1", "") + &t.tools();
    t.publish("one", &plain, "");
    let updates = base("2") + &t.package("more", "2", more);
    t.publish("one-updates", &updates, valid);
    t.drop_file("base", "2");
    t
}

#[test]
fn what_ended_and_is_gone_is_passed_over() {
    let t = with_gone_updates("ended", "", "");
    let lock = t.lock(&["more"]).expect("chosen");
    assert_eq!(versions(&lock), [("base", "1", Some("2")), ("more", "2", None)]);
    assert!(lock.text().contains("instead_of = \"2\""), "{}", lock.text());
    assert_eq!(Lock::parse(&lock.text()).expect("a lock"), lock);
}

#[test]
fn what_is_left_may_not_fit() {
    let t = with_gone_updates("misfit", "Depends: base (>= 2)\n", "");
    let lock = t.lock(&["more"]).expect("chosen");
    assert_eq!(versions(&lock), [("base", "1", Some("2")), ("more", "1", None)]);
}

/// A mirror that is attacked could withhold updates: while they are made, that is an error.
#[test]
fn what_is_alive_may_not_be_withheld() {
    let t = with_gone_updates("alive", "", "Valid-Until: Sat, 11 Jul 2099 10:16:37 UTC\n");
    let lock = t.lock(&["more"]).expect("the index is believed");
    assert_eq!(versions(&lock), [("base", "2", None), ("more", "2", None)]);
    let package = lock.packages[0].to_package(&lock.sources).expect("a package");
    let cache = Cache::new(t.scratch.0.join("cache"));
    let options = archive_options(&t.server, &t.key, &t.scratch, "one");
    let error = super::super::archive_of(&lock.sources, &options, &cache).expect("opens").fetch(&package, &Silent);
    let said = error.expect_err("it is gone").to_string();
    assert!(said.contains("one-updates lists base 2, but") && said.contains("--no-updates"), "{said}");
}

#[test]
fn an_archive_may_name_its_kernel_as_it_likes() {
    let t = Fixture::new("kernel");
    let index = t.package("base", "1", "Essential: yes\n")
        + &t.package("linux-image-arm64", "1", "Depends: linux-image-1-arm64\n")
        + &t.package("linux-image-1-arm64", "1", "")
        + &t.package(BUSYBOX, "1", "");
    t.publish("one", &index, "");
    let lock = t.lock(&[]).expect("chosen");
    let names: Vec<&str> = lock.build_packages.iter().map(|one| one.name.as_str()).collect();
    assert_eq!(names, ["linux-image-1-arm64", BUSYBOX]);
    assert!(lock.build_sources.is_empty());
}

#[test]
fn without_a_kernel_debian_is_asked() {
    let t = Fixture::new("no-kernel");
    t.publish("one", &t.package("base", "1", "Essential: yes\n"), "");
    // No source of Debian is known here.
    let error = t.lock(&[]).expect_err("no kernel");
    let is_named = |source: &DebianError| matches!(source, DebianError::NoMirror { .. });
    assert!(matches!(&error, BuildError::NoTools { source, .. } if is_named(source)), "{error}");
    assert!(error.to_string().contains("one has no kernel") && error.to_string().contains("--build-kernel"), "{error}");
}
