//! Debian images end to end: configured in a guest, always with the same bytes, and bootable. `IMAGES_INCLUDE=PKG,...` adds
//! packages, `IMAGES_SUITE` names another suite.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use tests::linux::{BOOT_LIMIT, debian};
use tests::monitor::{program, run_with};
use tests::process::{Finished, run};
use tests::tools::{Tool, must_succeed};

const E2FSCK: Tool = Tool { program: "e2fsck", package: "e2fsprogs" };
/// Longest build, on a slow, busy host.
const BUILD_LIMIT: Duration = Duration::from_secs(1200);

struct Folder(PathBuf);

impl Folder {
    fn new(parent: &Path, name: &str) -> Folder {
        let path = parent.join(format!("vmm-test-{}-{name}", std::process::id()));
        fs::create_dir_all(&path).expect("a folder");
        Folder(path)
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// `vmm image` with this umask.
fn image(umask: &str, arguments: &[&str]) -> Finished {
    let mut command = Command::new("sh");
    command.args(["-c", &format!("umask {umask}; exec \"$0\" image \"$@\"")]).arg(program()).args(arguments);
    run(&mut command, BUILD_LIMIT)
}

fn succeeds(umask: &str, arguments: &[&str]) -> String {
    let finished = image(umask, arguments);
    assert!(finished.status.success(), "{arguments:?}: {}\n{}", finished.stdout, finished.stderr);
    finished.stdout
}

/// Room on the file system of a folder; 0 where there is no such folder.
fn free_mib(folder: &Path) -> u64 {
    let output = Command::new("df").args(["--output=avail", "--block-size=1M"]).arg(folder).output();
    let text = output.map(|output| String::from_utf8_lossy(&output.stdout).into_owned()).unwrap_or_default();
    text.lines().nth(1).and_then(|line| line.trim().parse().ok()).unwrap_or(0)
}

fn text(path: &Path) -> &str {
    path.to_str().expect("a path of text")
}

#[test]
fn the_same_packages_give_the_same_bytes_and_a_system_that_boots() {
    let suite = std::env::var("IMAGES_SUITE").unwrap_or_else(|_| "bookworm".to_owned());
    let include = std::env::var("IMAGES_INCLUDE").unwrap_or_default();
    let mut what = vec!["--suite", suite.as_str()];
    if !include.is_empty() {
        what.extend(["--include", &include]);
    }
    let one = Folder::new(&std::env::temp_dir(), "images-one");
    // Another file system where there is one with room.
    let memory = Path::new("/dev/shm");
    let other = Folder::new(if free_mib(memory) > 2048 { memory } else { &one.0 }, "images-other");
    let [first, second] = [one.0.join("a.cpio"), other.0.join("another-name.cpio")];
    let build = |umask: &str, more: &[&str]| {
        succeeds(umask, &[&["build"], what.as_slice(), more].concat());
    };
    build("022", &["--cpus", "1", "--output", text(&first)]);
    fs::copy(one.0.join("a.lock"), other.0.join("another-name.lock")).expect("a lock file");
    // The hash of the first is in the lock file: other bytes would fail here already.
    let scratch = other.0.join("scratch");
    build("077", &["--cpus", "4", "--locked", "--scratch", text(&scratch), "--output", text(&second)]);
    assert!(fs::read(&first).expect("an image") == fs::read(&second).expect("an image"), "the images differ");
    assert_eq!(fs::read_dir(&scratch).expect("there").count(), 0, "the scratch folder is left as it was");

    let tar = one.0.join("a.tar");
    let layout = one.0.join("a.oci");
    succeeds("022", &["convert", text(&first), text(&tar)]);
    succeeds("022", &["convert", text(&tar), text(&layout)]);
    let difference = image("022", &["diff", text(&first), text(&layout)]);
    assert_eq!(difference.stdout, "/init: only in the first\n", "{}", difference.stderr);
    assert_eq!(difference.status.code(), Some(1));
    let packages = succeeds("022", &["inspect", "--packages", text(&tar)]);
    assert!(packages.lines().any(|line| line.starts_with("base-files ")), "{packages}");
    let disk = one.0.join("a.ext4");
    succeeds("022", &["convert", text(&tar), text(&disk)]);
    must_succeed(E2FSCK.command().args(["-f", "-n"]).arg(&disk));

    let kernel = debian("bookworm", "linux-image-cloud-arm64").kernel;
    let mut boot = run_with("jit");
    boot.arg("--kernel").arg(kernel).arg("--initrd").arg(&first);
    boot.args(["--append", "console=ttyAMA0 quiet -- dpkg --audit"]);
    let finished = run(&mut boot, BOOT_LIMIT);
    assert!(finished.status.success(), "{}", finished.stderr);
    assert!(finished.stdout.contains("exit status 0"), "{}", finished.stdout);
}

#[test]
fn what_cannot_be_made_leaves_nothing() {
    let folder = Folder::new(&std::env::temp_dir(), "images-bad");
    let output = folder.0.join("a.cpio");
    let fails = |arguments: &[&str]| {
        let finished = image("022", &[&["build", "--output", text(&output)], arguments].concat());
        assert!(!finished.status.success(), "{arguments:?} succeeds");
        assert_eq!(fs::read_dir(&folder.0).expect("there").count(), 0, "{arguments:?} leaves something");
        finished.stderr
    };
    assert!(fails(&["--include", "pyhton3"]).contains("near: python3"));
    assert!(fails(&["--suite", "bockworm"]).contains("near: bookworm"));
    assert!(fails(&["--exclude", "libc6"]).contains("libc6 is excluded"));
    assert!(fails(&["--variant", "tiny"]).contains("minbase"));
    assert!(fails(&["--format", "iso"]).contains("qcow2"));
    assert!(fails(&["--locked"]).contains("lock file"));
}
