use super::*;

fn lock() -> Lock {
    let package = |name: &str| LockedPackage {
        name: name.to_owned(),
        version: "1:2-3".to_owned(),
        architecture: "arm64".to_owned(),
        size: 5,
        sha256: Sha256Sum::of(b"x").to_string(),
        path: format!("pool/{name}.deb"),
        suite: "one".to_owned(),
        base: name == "a",
        automatic: false,
        instead_of: (name == "b").then(|| "1:9".to_owned()),
    };
    Lock {
        version: VERSION,
        tool: env!("CARGO_PKG_VERSION").to_owned(),
        suite: "one".to_owned(),
        variant: "minbase".to_owned(),
        architecture: "arm64".to_owned(),
        epoch: 1_700_000_000,
        recipe: Sha256Sum::of(b"").to_string(),
        sources: vec![LockedSource {
            uri: "http://mirror.example/debian".to_owned(),
            image_uri: None,
            suite: "one".to_owned(),
            components: vec!["main".to_owned()],
            date: 1_700_000_000,
            inrelease_sha256: Sha256Sum::of(b"y").to_string(),
        }],
        packages: vec![package("a"), package("b")],
        build_sources: Vec::new(),
        build_packages: vec![package("linux-image")],
        boot_package: None,
        outputs: Vec::new(),
    }
}

#[test]
fn a_lock_is_written_and_read() {
    let lock = lock();
    assert_eq!(Lock::parse(&lock.text()).expect("a lock"), lock);
    let package = lock.packages[0].to_package(&lock.sources).expect("good");
    assert_eq!(LockedPackage { base: true, ..LockedPackage::new(&package, &lock.sources) }, lock.packages[0]);
}

#[test]
fn what_is_wrong_is_told() {
    let lock = lock();
    let text = lock.text();
    let newer = Lock::parse(&text.replace("version = 1\n", "version = 9\n")).expect_err("another version");
    assert!(newer.to_string().contains("format version 9"), "{newer}");
    assert!(Lock::parse("version = 1\n").is_err() && Lock::parse("x").is_err());
    assert!(lock.check("one", "minbase", &lock.recipe).is_ok());
    let other = lock.check("two", "minbase", &lock.recipe).expect_err("another suite").to_string();
    assert!(other.contains("the suite \"one\", but \"two\""), "{other}");
    for change in [
        |package: &mut LockedPackage| package.path = "../x".to_owned(),
        |package: &mut LockedPackage| package.sha256 = "0".to_owned(),
        |package: &mut LockedPackage| package.suite = "none".to_owned(),
        |package: &mut LockedPackage| package.name = "A/b".to_owned(),
    ] {
        let mut package = lock.packages[0].clone();
        change(&mut package);
        assert!(matches!(package.to_package(&lock.sources), Err(LockError::Value { .. })));
    }
}

#[test]
fn outputs_are_noted_once_and_then_checked() {
    let mut lock = lock();
    lock.output("tar", &Sha256Sum::of(b"1")).expect("noted");
    lock.output("cpio", &Sha256Sum::of(b"2")).expect("noted");
    lock.output("tar", &Sha256Sum::of(b"1")).expect("the same");
    let error = lock.output("tar", &Sha256Sum::of(b"3")).expect_err("other bytes").to_string();
    assert!(error.contains("for the format tar"), "{error}");
    assert_eq!(lock.outputs[0].format, "cpio");
}

proptest::proptest! {
    #[test]
    fn any_text_is_read(text in ".{0,200}") {
        let _ = Lock::parse(&text);
    }
}
