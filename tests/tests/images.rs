//! Debian images end to end: configured in a guest, always with the same bytes, and bootable. `IMAGES_INCLUDE=PKG,...` adds
//! packages, `IMAGES_SUITE` names another suite. On demand, as they take minutes: `IMAGES_ALL_FORMATS=1` compares all formats
//! of two builds, one of them by the interpreter; `IMAGES_UEFI=1` boots a disk in QEMU with AAVMF (packages
//! `qemu-system-arm`, `qemu-efi-aarch64`); `IMAGES_RECONFIGURE=100` configures `libc-bin` so often; `IMAGES_MMDEBSTRAP=1`
//! compares with mmdebstrap, run in an arm64 guest that needs the mirror.

use std::collections::HashSet;
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

fn on_demand(variable: &str) -> bool {
    let asked = std::env::var_os(variable).is_some();
    if !asked {
        eprintln!("skipped: {variable} is not set");
    }
    asked
}

/// All formats of an image by the translator and by the interpreter, with other processors, umasks and folders.
#[test]
fn all_formats_are_the_same_on_each_engine() {
    if !on_demand("IMAGES_ALL_FORMATS") {
        return;
    }
    let [one, other] = ["formats-one", "formats-other"].map(|name| Folder::new(&std::env::temp_dir(), name));
    for format in ["cpio.zst", "tar.gz", "ext4", "qcow2", "disk", "disk.qcow2", "oci"] {
        let outputs = [&one, &other].map(|folder| folder.0.join(format!("a.{format}")));
        let [first, second] = [text(&outputs[0]), text(&outputs[1])];
        let lock = one.0.join("a.lock");
        let locked: &[&str] = if lock.exists() { &["--locked"] } else { &[] };
        succeeds("022", &[&["build", "--lock", text(&lock), "--cpus", "1", "--output", first], locked].concat());
        // The hash of the first is in the lock file.
        let options =
            ["build", "--locked", "--lock", text(&lock), "--cpus", "4", "--engine", "interp", "--output", second];
        succeeds("077", &options);
    }
}

/// A disk boots under UEFI, in another machine than ours.
#[test]
fn a_disk_boots_under_uefi() {
    const QEMU: Tool = Tool { program: "qemu-system-aarch64", package: "qemu-system-arm" };
    const FIRMWARE: &str = "/usr/share/qemu-efi-aarch64/QEMU_EFI.fd";
    if !on_demand("IMAGES_UEFI") {
        return;
    }
    assert!(Path::new(FIRMWARE).exists(), "{FIRMWARE} is missing: install qemu-efi-aarch64");
    let folder = Folder::new(&std::env::temp_dir(), "uefi");
    let disk = folder.0.join("a.disk");
    succeeds("022", &["build", "--hostname", "from-uefi", "--output", text(&disk)]);
    let mut command = QEMU.command();
    command.args(["-M", "virt", "-cpu", "cortex-a72", "-m", "1G", "-nographic", "-nic", "none", "-bios", FIRMWARE]);
    command.args(["-drive", &format!("if=virtio,format=raw,file={}", text(&disk))]);
    let mut machine = tests::process::start(&mut command);
    machine.expect("root@from-uefi:~#", BUILD_LIMIT);
    machine.send("findmnt -no SOURCE,FSTYPE /; dpkg --audit && echo SO''UND\n");
    let shown = machine.expect("SOUND", Duration::from_secs(120));
    assert!(shown.contains("/dev/vda2") && shown.contains("ext4"), "{shown}");
}

/// `libc-bin` is configured again and again: under translators of programs its `ldconfig` is known to crash.
#[test]
fn libc_bin_is_configured_many_times() {
    let times = std::env::var("IMAGES_RECONFIGURE").unwrap_or_else(|_| "3".to_owned());
    let mut guest = run_with("jit");
    let script = format!(
        "for i in $(seq {times}); do /var/lib/dpkg/info/libc-bin.postinst configure 2.0 && ldconfig -p >/dev/null || exit; done; \
         echo all $i ti''mes; exit\n"
    );
    guest.args(["debian:bookworm", "--cpus", "2"]);
    let mut guest = tests::process::start(&mut guest);
    guest.expect("root@bookworm:~#", BUILD_LIMIT);
    guest.send(&script);
    guest.expect(&format!("all {times} times"), BUILD_LIMIT);
}

/// The same packages by mmdebstrap, on a real arm64 kernel: what differs is what `docs/design/image-build.md` lists.
#[test]
fn mmdebstrap_makes_the_same() {
    if !on_demand("IMAGES_MMDEBSTRAP") {
        return;
    }
    let folder = Folder::new(&std::env::temp_dir(), "mmdebstrap");
    let [ours, maker, out] = ["ours.tar", "maker.ext4", "out.tar"].map(|name| folder.0.join(name));
    succeeds("022", &["build", "--output", text(&ours)]);
    succeeds(
        "022",
        &["build", "--include", "mmdebstrap", "--size", "4G", "--output", text(&maker), "--kernel", "debian"],
    );
    fs::File::create(&out).and_then(|file| file.set_len(1 << 30)).expect("a file");
    let mirror = fs::read_to_string(folder.0.join("ours.lock")).expect("a lock file");
    let sources: Vec<String> = {
        let value =
            |line: &str, key: &str| line.strip_prefix(key).map(|rest| rest.trim_matches([' ', '=', '"']).to_owned());
        let uris: Vec<String> = mirror.lines().filter_map(|line| value(line, "uri")).collect();
        let suites: Vec<String> =
            mirror.lines().filter_map(|line| value(line, "suite")).skip(1).take(uris.len()).collect();
        uris.iter().zip(&suites).map(|(uri, suite)| format!("deb {uri} {suite} main")).collect()
    };
    let listed = sources.iter().map(|source| format!("'{source}'")).collect::<Vec<_>>().join(" ");
    let mut guest = run_with("jit");
    guest.args(["debian:bookworm", "--cpus", "2", "--memory", "2G", "--net", "user"]);
    guest.args(["--disk", text(&maker), "--disk", text(&out)]);
    let mut guest = tests::process::start(&mut guest);
    guest.expect("root@bookworm:~#", BUILD_LIMIT);
    let epoch = mirror.lines().find_map(|line| line.strip_prefix("epoch = ")).expect("an epoch").to_owned();
    guest.send(&format!(
        "mount /dev/vda /mnt && mount --bind /dev /mnt/dev && mount -t proc proc /mnt/proc && \
         cp /etc/resolv.conf /mnt/etc/ && SOURCE_DATE_EPOCH={epoch} chroot /mnt mmdebstrap --mode=root --variant=minbase \
         --format=tar bookworm /out.tar {listed} && dd if=/mnt/out.tar of=/dev/vdb bs=1M conv=fsync && echo DO''NE; exit\n"
    ));
    guest.expect("DONE", Duration::from_secs(3600));
    let difference = image("022", &["diff", text(&ours), text(&out)]);
    // Merged from the start, our image has no usrmerge and nothing that only usrmerge needs.
    let extra = [
        "usrmerge",
        "perl",
        "perl-modules-5.36",
        "libperl5.36:arm64",
        "libgdbm6:arm64",
        "libgdbm-compat4:arm64",
        "libtext-glob-perl",
        "libnumber-compare-perl",
        "libfile-find-rule-perl",
    ];
    let list = |package: &str| {
        let mut tar = Command::new("tar");
        tar.arg("--extract")
            .arg("--to-stdout")
            .arg("--file")
            .arg(&out)
            .arg(format!("./var/lib/dpkg/info/{package}.list"));
        String::from_utf8_lossy(&tar.output().expect("tar runs").stdout).into_owned()
    };
    let theirs: String = extra.iter().map(|package| list(package)).collect();
    let theirs: HashSet<&str> = theirs.lines().map(|path| path.strip_prefix("/usr").unwrap_or(path)).collect();
    // One of the two says it of itself, or takes it from its host; see `docs/design/image-build.md`.
    let known = [
        "/etc/apt/sources.list",
        "/etc/fstab",
        "/etc/hostname",
        "/etc/ld.so.cache",
        "/etc/resolv.conf",
        "/etc/shells",
        "/usr/share/doc/usr-is-merged",
        "/usr/bin/uncompress: the same file",
        "/var/cache/apt/archives/",
        "/var/cache/debconf/",
        "/var/lib/apt/",
        "/var/lib/dpkg/",
    ];
    let is_known = |line: &str| {
        let path = line.split(": ").next().unwrap_or(line);
        known.iter().any(|start| line.starts_with(start)) || theirs.contains(path.strip_prefix("/usr").unwrap_or(path))
    };
    let unknown: Vec<&str> =
        difference.stdout.lines().filter(|line| !line.starts_with(' ') && !is_known(line)).collect();
    eprintln!("{}", difference.stdout);
    assert!(unknown.is_empty(), "{unknown:#?}");
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
