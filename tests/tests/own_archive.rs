//! Images of an archive that is not Debian's: of its packages, with its keys; and what is wrong with packages, archives and
//! hosts, all of which ends with an error that says what it is, and leaves nothing. (An expired suite is tested in
//! `images::debian`: a host's apt may say that it does not matter.)

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;
use std::time::Duration;

use images::cache::Cache;
use images::debian::{Archive, ArchiveOptions};
use images::kernel::{self, CLOUD_KERNEL};
use images::lock::Lock;
use images::progress::Silent;
use images::resolve::{Request, Variant, resolve};
use images::tarball::EntryKind;
use tests::archive::OwnArchive;
use tests::monitor::program;
use tests::process::{Finished, run};

const LIMIT: Duration = Duration::from_secs(900);
const DATE: &str = "Date: Sat, 11 Jul 2020 10:16:37 UTC\n";

/// The archive, its keys, and a cache for it.
struct Fixture {
    folder: tempfile::TempDir,
    archive: OwnArchive,
}

/// Updates that ended and of which a package is gone, as those of a suite that Debian no longer keeps.
const GONE: &str = "Package: hello\nVersion: 2\nArchitecture: all\nFilename: pool/hello_2_all.deb\nSize: 9\n\
    SHA256: ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad\n\n";

/// Debian's essential packages under another name, and packages that are made here.
fn fixture() -> &'static Fixture {
    static FIXTURE: OnceLock<Fixture> = OnceLock::new();
    FIXTURE.get_or_init(|| {
        let folder = tempfile::tempdir().expect("a folder");
        let cache = Cache::of_user().expect("a cache");
        let options = ArchiveOptions { updates: true, ..ArchiveOptions::new("bookworm") };
        let debian = Archive::open(&options, &cache, &Silent).unwrap_or_else(|error| panic!("{error}"));
        let include = ["locales", "passwd"].map(str::to_owned).to_vec();
        let request = Request { variant: Variant::Essential, include, ..Request::default() };
        let selection = resolve(&debian, &request).expect("packages");
        let mut archive = OwnArchive::new("derivative");
        let add = |archive: &mut OwnArchive, package| {
            let file = debian.fetch(package, &Silent).unwrap_or_else(|error| panic!("{error}"));
            archive.add_package(package, &file);
            file
        };
        for package in selection.values() {
            add(&mut archive, &package.package);
        }
        add_packages(&mut archive);
        archive.publish("bare", DATE);
        archive.publish_index("bare-security", DATE, GONE);
        let mut tools = kernel::available(&debian, CLOUD_KERNEL, &Silent).expect("a kernel");
        tools.push(debian.find_available("busybox-static", &Silent).expect("BusyBox"));
        let ours = Cache::new(folder.path().join("cache/vmm"));
        for package in &tools {
            let file = add(&mut archive, package);
            // Debian's own are not fetched twice.
            let place = ours.path(&package.sha256);
            fs::create_dir_all(place.parent().expect("a folder")).expect("made");
            fs::copy(file, place).expect("copied");
        }
        add(&mut archive, &debian.find(CLOUD_KERNEL).expect("its name"));
        archive.publish("ours", DATE);
        archive.write_keyring(&folder.path().join("ours.gpg"));
        OwnArchive::new("other").write_keyring(&folder.path().join("other.gpg"));
        Fixture { folder, archive }
    })
}

fn add_packages(archive: &mut OwnArchive) {
    let file = EntryKind::File(0);
    archive.add("hello", "Depends: first | second\n", &[], &[("./usr/share/hello", file.clone(), "hello\n")]);
    archive.add("first", "", &[], &[]);
    archive.add("second", "", &[], &[]);
    archive.add("left", "Depends: nothing-left\n", &[], &[]);
    archive.add("newer", "Depends: right (>= 2)\n", &[], &[]);
    archive.add("nothing-left", "Conflicts: right\n", &[], &[]);
    archive.add("right", "", &[], &[]);
    let script = "#!/bin/sh\necho the frobnicator is jammed\nexit 3\n";
    archive.add("fails", "", &[("./postinst", script)], &[]);
    archive.add("device", "", &[], &[("./dev/evil", EntryKind::BlockDevice(8, 0), "")]);
    archive.add("outside", "", &[], &[("./../../evil", file.clone(), "evil")]);
    archive.add(
        "by-link",
        "",
        &[],
        &[("./usr/up", EntryKind::Symlink(b"../../../..".to_vec()), ""), ("./usr/up/evil", file.clone(), "evil")],
    );
    archive.add("takes-over", "", &[], &[("./bin/dash", file, "evil")]);
}

impl Fixture {
    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// `vmm image build` of an essential system from our archive.
    fn command(&self, before: &[&str], arguments: &[&str]) -> Command {
        let program = program();
        let words = [before, &[program.to_str().expect("a path of text"), "image", "build"]].concat();
        let mut command = Command::new(words[0]);
        command.args(&words[1..]).env("XDG_CACHE_HOME", self.path("cache"));
        command.args(arguments);
        if !arguments.contains(&"--from-tar") {
            command.args(["--variant", "essential"]);
        }
        if !arguments.contains(&"--suite") {
            command.args(["--suite", "ours"]);
        }
        if !arguments.contains(&"--keyring") {
            command.arg("--keyring").arg(self.path("ours.gpg"));
        }
        if !arguments.contains(&"--mirror") {
            command.args(["--mirror", &self.archive.mirror.base]);
        }
        command
    }

    /// A build that fails; gives what it says.
    fn fails(&self, arguments: &[&str]) -> String {
        let output = tempfile::tempdir().expect("a folder");
        // Of its own: the tests run side by side.
        let scratch = tempfile::tempdir().expect("a folder");
        let image = output.path().join("a.tar");
        let arguments = [arguments, &["--scratch", text(scratch.path()), "--output", text(&image)]].concat();
        let Finished { status, stderr, .. } = run(&mut self.command(&[], &arguments), LIMIT);
        assert!(status.code().is_some_and(|code| code != 0), "{arguments:?} does not fail: {status} {stderr}");
        assert_eq!(fs::read_dir(output.path()).expect("there").count(), 0, "{arguments:?} leaves something");
        assert_eq!(fs::read_dir(scratch.path()).expect("there").count(), 0, "{arguments:?} leaves scratch files");
        stderr
    }
}

fn text(path: &Path) -> &str {
    path.to_str().expect("a path of text")
}

/// A file of a tar archive.
fn extract(archive: &Path, path: &str) -> String {
    let output = Command::new("tar").arg("-xOf").arg(archive).arg(format!("./{path}")).output().expect("tar runs");
    assert!(output.status.success(), "{path}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8_lossy(&output.stdout).into_owned()
}

const RECIPE: &str = r#"
include = ["hello", "locales", "passwd"]
exclude = ["first"]
image-mirrors = ["https://archive.example.org/ours"]
hostname = "node"
locale = "de_DE.UTF-8"
script = "finish.sh"

[[file]]
source = "motd"
path = "/etc/motd"
mode = "0640"
owner = "root:adm"

[[user]]
name = "admin"
uid = 1500
ssh-keys = ["ssh-ed25519 AAAA a key"]
"#;

/// A layout as other tools write it: an index whose entry is an index of its own, of which one leads to the image.
fn amd64_layout(folder: &Path) {
    let blobs = folder.join("blobs/sha256");
    fs::create_dir_all(&blobs).expect("made");
    let put = |text: &str| {
        let sum = images::cache::Sha256Sum::of(text.as_bytes());
        fs::write(blobs.join(sum.to_string()), text).expect("written");
        format!(r#""digest":"sha256:{sum}","size":{}"#, text.len())
    };
    let (layer, config) = (put("not looked at"), put(r#"{"architecture":"amd64","os":"linux"}"#));
    let image = "application/vnd.oci.image";
    let manifest = put(&format!(
        r#"{{"schemaVersion":2,"mediaType":"{image}.manifest.v1+json","config":{{"mediaType":"{image}.config.v1+json",{config}}},"layers":[{{"mediaType":"{image}.layer.v1.tar+gzip",{layer}}}]}}"#
    ));
    let entry = format!(
        r#"{{"mediaType":"{image}.manifest.v1+json",{manifest},"platform":{{"architecture":"amd64","os":"linux"}}}}"#
    );
    fs::write(folder.join("oci-layout"), r#"{"imageLayoutVersion":"1.0.0"}"#).expect("written");
    fs::write(folder.join("index.json"), format!(r#"{{"schemaVersion":2,"manifests":[{entry}]}}"#)).expect("written");
}

#[test]
fn a_recipe_is_carried_out_with_packages_of_another_archive() {
    let t = fixture();
    let recipe = t.path("recipe.toml");
    fs::write(&recipe, RECIPE).expect("written");
    fs::write(t.path("motd"), "welcome\n").expect("written");
    fs::write(
        t.path("finish.sh"),
        "#!/bin/sh -e\nLC_ALL=de_DE.UTF-8 locale charmap >/etc/charmap\nuname -m >/etc/made-on\n",
    )
    .expect("written");
    amd64_layout(&t.path("amd64"));
    let [tar, layout] = ["made.tar", "made.oci"].map(|name| t.path(name));
    let [amd64, recipe_text] = [t.path("amd64"), recipe].map(|path| text(&path).to_owned());
    let arguments = ["--recipe", &recipe_text, "--merge", &amd64, "--output", text(&tar), "--output", text(&layout)];
    let finished = run(&mut t.command(&[], &arguments), LIMIT);
    assert!(finished.status.success(), "{}", finished.stderr);
    assert_eq!(extract(&tar, "etc/apt/sources.list"), "deb https://archive.example.org/ours ours main\n");
    assert_eq!(extract(&tar, "etc/hostname"), "node\n");
    assert_eq!(extract(&tar, "etc/default/locale"), "LANG=de_DE.UTF-8\n");
    assert_eq!(extract(&tar, "etc/charmap"), "UTF-8\n");
    assert_eq!(extract(&tar, "etc/made-on"), "aarch64\n");
    assert_eq!(extract(&tar, "usr/share/hello"), "hello\n");
    assert!(extract(&tar, "etc/passwd").contains("\nadmin:x:1500:1500::/home/admin:/bin/bash"));
    assert_eq!(extract(&tar, "home/admin/.ssh/authorized_keys"), "ssh-ed25519 AAAA a key\n");
    let list = Command::new("tar").arg("-tvf").arg(&tar).arg("./etc/motd").output().expect("tar runs");
    let list = String::from_utf8_lossy(&list.stdout).into_owned();
    assert!(list.starts_with("-rw-r----- 0/4 ") || list.starts_with("-rw-r----- root/adm "), "{list}");
    let status = extract(&tar, "var/lib/dpkg/status");
    assert!(status.contains("Package: second\n") && !status.contains("Package: first\n"));

    let index = fs::read_to_string(layout.join("index.json")).expect("an index");
    let index: serde_json::Value = serde_json::from_str(&index).expect("JSON");
    let platforms: Vec<_> = index["manifests"].as_array().expect("a list").iter().map(|one| &one["platform"]).collect();
    assert_eq!(platforms[0], &serde_json::json!({"architecture": "amd64", "os": "linux"}));
    assert_eq!(platforms[1], &serde_json::json!({"architecture": "arm64", "os": "linux", "variant": "v8"}));
    // The layout of others came along as a whole, and twice is an error.
    for entry in fs::read_dir(t.path("amd64/blobs/sha256")).expect("there") {
        assert!(layout.join("blobs/sha256").join(entry.expect("there").file_name()).exists());
    }

    // What was made is what the next one begins with.
    let [next_recipe, next] = ["next.toml", "next.tar"].map(|name| t.path(name));
    fs::write(&next_recipe, "hostname = \"next\"\nscript = \"next.sh\"\n").expect("written");
    fs::write(t.path("next.sh"), "#!/bin/sh -e\ncat /usr/share/hello >/etc/next\n").expect("written");
    let mut command =
        t.command(&[], &["--from-tar", text(&tar), "--recipe", text(&next_recipe), "--output", text(&next)]);
    let finished = run(&mut command, LIMIT);
    assert!(finished.status.success(), "{}", finished.stderr);
    assert_eq!(extract(&next, "etc/next"), "hello\n");
    assert_eq!(extract(&next, "etc/hostname"), "next\n");
    assert_eq!(extract(&next, "home/admin/.ssh/authorized_keys"), "ssh-ed25519 AAAA a key\n");

    // The same by --locked from another mirror: sources.list names what the lock file names.
    let lock = text(&t.path("made.lock")).to_owned();
    let again = t.path("again.tar");
    let other_mirror = t.archive.mirror.base.replace("derivative", "elsewhere");
    let arguments =
        ["--recipe", &recipe_text, "--locked", "--lock", &lock, "--mirror", &other_mirror, "--output", text(&again)];
    let finished = run(&mut t.command(&[], &arguments), LIMIT);
    assert!(finished.status.success(), "{}", finished.stderr);
    assert!(fs::read(&again).expect("there") == fs::read(&tar).expect("there"));
}

#[test]
fn what_is_wrong_with_an_archive_is_told() {
    let t = fixture();
    let other = t.path("other.gpg");
    let said = t.fails(&["--keyring", text(&other)]);
    assert!(said.contains("no good signature by a key of the keyring"), "{said}");
    let said = t.fails(&["--suite", "bookwurm"]);
    assert!(said.contains("near: bookworm"), "{said}");
    let said = t.fails(&["--include", "helo"]);
    assert!(said.contains("near: hello"), "{said}");
    let said = t.fails(&["--include", "left,right"]);
    assert!(said.contains("left needs nothing-left, but nothing-left conflicts with right"), "{said}");
    let said = t.fails(&["--include", "newer"]);
    assert!(said.contains("newer needs right (>= 2), but right has version 1"), "{said}");
    let said = t.fails(&["--include", "nothing-left,right"]);
    assert!(said.contains("nothing-left conflicts with right"), "{said}");
}

#[test]
fn what_is_wrong_with_a_package_is_told() {
    let t = fixture();
    let said = t.fails(&["--include", "device"]);
    assert!(said.contains("The package device has a device node, /dev/evil"), "{said}");
    let said = t.fails(&["--include", "outside"]);
    assert!(said.contains("The package outside") && said.contains(".."), "{said}");
    let said = t.fails(&["--include", "takes-over"]);
    assert!(said.contains("dash") && said.contains("takes-over") && said.contains("/bin/dash"), "{said}");
    let said = t.fails(&["--include", "fails"]);
    assert!(said.contains("the frobnicator is jammed") && said.contains("nothing is written"), "{said}");
    // A link that leads up ends at the image's root. The suite has no kernel, and no file of its updates.
    let made = t.path("by-link.tar");
    let arguments = ["--suite", "bare", "--include", "by-link,hello", "--output", text(&made)];
    let finished = run(&mut t.command(&[], &arguments), LIMIT);
    assert!(finished.status.success(), "{}", finished.stderr);
    assert_eq!(extract(&made, "evil"), "evil");
    assert!(finished.stderr.contains("those of Debian bookworm"), "{}", finished.stderr);
    assert!(
        finished.stderr.contains("bare-security ended") && finished.stderr.contains("hello 1 for 2"),
        "{}",
        finished.stderr
    );
    let lock = Lock::parse(&fs::read_to_string(t.path("by-link.lock")).expect("a lock file")).expect("a lock");
    let hello = lock.packages.iter().find(|package| package.name == "hello").expect("there");
    assert_eq!((&*hello.version, hello.instead_of.as_deref()), ("1", Some("2")));
    assert!(lock.build_sources.iter().any(|source| source.suite == "bookworm"), "{:?}", lock.build_sources);
    assert_eq!(extract(&made, "etc/apt/sources.list").lines().count(), 2, "Debian is no source of the image");
}

/// The scratch folder, the cache, and the folder of the image on file systems that are too small.
#[test]
fn a_full_disk_leaves_nothing() {
    let t = fixture();
    let small = t.path("small");
    fs::create_dir(&small).expect("made");
    let mounted = "mount -t tmpfs -o size=$SIZE none \"$SMALL\" && \"$@\"; status=$?; find \"$SMALL\" -mindepth 1 ! -type d; exit $status";
    let before = ["unshare", "--map-root-user", "--mount", "sh", "-c", mounted, "sh"];
    let possible = Command::new("unshare").args(["--map-root-user", "--mount", "true"]).output();
    if !possible.is_ok_and(|output| output.status.success()) {
        eprintln!("skipped: this host has no namespaces for users");
        return;
    }
    let (inside, outside) = (small.join("a.tar"), t.path("full.tar"));
    for (size, arguments) in [
        ("20m", vec!["--scratch", text(&small), "--output", text(&outside)]),
        ("200m", vec!["--scratch", text(&small), "--output", text(&outside)]),
        ("20m", vec!["--output", text(&inside)]),
    ] {
        let mut command = t.command(&before, &arguments);
        let finished = run(command.env("SMALL", &small).env("SIZE", size), LIMIT);
        assert!(!finished.status.success(), "{size} {arguments:?}");
        assert!(finished.stderr.contains("No space left on device"), "{size}: {}", finished.stderr);
        assert_eq!(finished.stdout, "", "{size}: something is left");
        assert!(!outside.exists());
    }
    let mut command = t.command(&before, &["--output", text(&outside)]);
    let finished = run(command.env("SMALL", &small).env("SIZE", "20m").env("XDG_CACHE_HOME", &small), LIMIT);
    assert!(finished.stderr.contains("No space left on device"), "{}", finished.stderr);
    assert!(!finished.stdout.contains("part") && !outside.exists(), "{}", finished.stdout);
}
