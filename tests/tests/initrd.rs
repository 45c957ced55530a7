//! A kernel and a disk, no initrd: the machine makes one from the kernel's modules.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use images::cache::Cache;
use images::deb;
use images::debian::{Archive, ArchiveOptions};
use images::progress::Silent;
use tests::linux::BOOT_LIMIT;
use tests::monitor::run_with;
use tests::process::{Finished, run};
use tests::tools::{CROSS_GCC, Tool, build_dir, must_succeed};

const MKE2FS: Tool = Tool { program: "mke2fs", package: "e2fsprogs" };
const INIT: &str = "#!/bin/busybox sh
/bin/busybox mount -t proc proc /proc
echo ROOT $(/bin/busybox grep ' / ' /proc/mounts) ARGS $@
echo DISKS $(/bin/busybox ls /dev | /bin/busybox grep ^vd) CONSOLE $(/bin/busybox readlink -f /proc/self/fd/0)
/bin/busybox poweroff -f
";

#[test]
fn the_program_is_what_its_source_says() {
    let source = tests::tools::crate_dir().join("../images/src/initrd/init.S");
    let object = build_dir().join("made-initrd.o");
    let binary = build_dir().join("made-initrd.bin");
    must_succeed(CROSS_GCC.command().args(["-nostdlib", "-c"]).arg(&source).arg("-o").arg(&object));
    must_succeed(
        Command::new("aarch64-linux-gnu-objcopy").args(["-O", "binary", "-j", ".text"]).arg(&object).arg(&binary),
    );
    let kept = source.with_extension("bin");
    assert!(
        fs::read(&binary).expect("made") == fs::read(&kept).expect("kept"),
        "{} is not what {} gives: copy {} over it",
        kept.display(),
        source.display(),
        binary.display()
    );
}

/// Debian's kernel package, its kernel, and a disk with a root file system.
struct Fixture {
    folder: PathBuf,
    package: PathBuf,
    kernel: PathBuf,
}

impl Drop for Fixture {
    fn drop(&mut self) {
        // Nothing more can be done about a folder that does not go.
        let _ = fs::remove_dir_all(&self.folder);
    }
}

impl Fixture {
    fn new(name: &str) -> Fixture {
        let folder = std::env::temp_dir().join(format!("vmm-test-{}-{name}", std::process::id()));
        fs::create_dir_all(&folder).expect("a folder");
        let cache = Cache::of_user().expect("a cache folder");
        let archive = Archive::open(&ArchiveOptions::new("bookworm"), &cache, &Silent).expect("the archive");
        let meta = archive.find("linux-image-cloud-arm64").expect("the cloud kernel");
        let mut names = meta.depends.iter().flatten().map(|dependency| dependency.name.clone());
        let name = names.find(|name| name.starts_with("linux-image-")).expect("a dependency");
        let package = archive.fetch(&archive.find(&name).expect("the kernel"), &Silent).expect("the package");
        let image = deb::read_files(&package, |name| name.starts_with("boot/vmlinuz-"), 512 << 20).expect("a package");
        let kernel = folder.join("vmlinuz");
        fs::write(&kernel, &image.first().expect("an image").contents).expect("writable");
        let busybox = archive.fetch(&archive.find("busybox-static").expect("busybox"), &Silent).expect("the package");
        let busybox = deb::read_files(&busybox, |name| name.ends_with("bin/busybox"), 64 << 20).expect("a package");
        fixture_root(&folder.join("root"), &busybox.first().expect("a program").contents);
        Fixture { folder, package, kernel }
    }

    /// A disk of 32 MiB with the root in a file system at its start.
    fn disk(&self, options: &[&str]) -> PathBuf {
        let disk = self.folder.join("disk.img");
        let mut command = MKE2FS.command();
        command.args(["-q", "-F", "-t", "ext4", "-L", "top", "-d"]).arg(self.folder.join("root"));
        must_succeed(command.args(options).arg(&disk).arg("32M"));
        disk
    }

    fn boots(&self, arguments: &[&str]) -> Finished {
        let mut command = run_with("auto");
        command.arg("--kernel").arg(&self.kernel).args(arguments);
        run(&mut command, BOOT_LIMIT)
    }
}

fn fixture_root(root: &Path, busybox: &[u8]) {
    use std::os::unix::fs::PermissionsExt;
    for folder in ["bin", "sbin", "proc", "dev"] {
        fs::create_dir_all(root.join(folder)).expect("a folder");
    }
    for (name, contents) in [("bin/busybox", busybox), ("sbin/init", INIT.as_bytes())] {
        fs::write(root.join(name), contents).expect("writable");
        fs::set_permissions(root.join(name), fs::Permissions::from_mode(0o755)).expect("the owner's");
    }
}

#[test]
fn a_disk_boots_with_modules_out_of_the_package() {
    let fixture = Fixture::new("package");
    let (disk, package) = (fixture.disk(&[]), fixture.package.to_string_lossy().into_owned());
    for (transport, append, expected) in [
        ("pci", "console=ttyAMA0 quiet -- one two", "ROOT /dev/vda / ext4 rw,relatime 0 0 ARGS one two"),
        (
            "mmio",
            "console=ttyAMA0 quiet ro root=LABEL=top rootflags=noatime",
            "ROOT /dev/vda / ext4 ro,noatime 0 0 ARGS",
        ),
    ] {
        let disk = disk.to_string_lossy();
        let options = ["--modules", &package, "--disk", &disk, "--append", append, "--transport", transport];
        let finished = fixture.boots(&options);
        assert_eq!(finished.status.code(), Some(0), "{}{}", finished.stdout, finished.stderr);
        assert!(finished.stdout.contains(expected), "{}", finished.stdout);
        assert!(finished.stdout.contains("DISKS vda CONSOLE /dev/console"), "{}", finished.stdout);
    }
}

#[test]
fn the_package_next_to_the_kernel_is_found() {
    let fixture = Fixture::new("beside");
    let disk = fixture.disk(&[]).to_string_lossy().into_owned();
    let image = firmware::parse_kernel(fs::read(&fixture.kernel).expect("a file"), &firmware::Limits::default());
    let version = images::initrd::kernel_version(&image.expect("a kernel").bytes).expect("a version");
    fs::copy(&fixture.package, fixture.folder.join(format!("linux-image-{version}_1_arm64.deb"))).expect("a copy");
    let finished = fixture.boots(&["--disk", &disk]);
    assert_eq!(finished.status.code(), Some(0), "{}{}", finished.stdout, finished.stderr);
    assert!(finished.stdout.contains("ROOT /dev/vda / ext4 rw,relatime"), "{}", finished.stdout);
}

#[test]
fn what_is_missing_is_said() {
    let fixture = Fixture::new("missing");
    let package = fixture.package.to_string_lossy().into_owned();
    let disk = fixture.disk(&[]).to_string_lossy().into_owned();
    let empty = fixture.folder.to_string_lossy().into_owned();
    for (arguments, words) in [
        (vec!["--modules", &package, "--disk", &disk, "--append", "root=/dev/vda1"], "there is /dev/vda (ext4)"),
        (vec!["--modules", &empty, "--disk", &disk], "has no modules of the kernel"),
        (vec!["--modules", &package], "add --disk"),
        (vec!["--modules", &disk, "--disk", &disk], "is no Debian package"),
    ] {
        let finished = fixture.boots(&arguments);
        assert_eq!(finished.status.code(), Some(254), "{}", finished.stderr);
        assert!(finished.stderr.contains(words), "{}", finished.stderr);
    }
    // A root without any program: the kernel panics, and the console says why.
    let append = "console=ttyAMA0 init=/no/such/init";
    let finished = fixture.boots(&["--modules", &package, "--disk", &disk, "--append", append]);
    assert_eq!(finished.status.code(), Some(250), "{}", finished.stderr);
    assert!(
        finished.stdout.contains("no program on the root disk can be started as init: error 0002"),
        "{}",
        finished.stdout
    );
}
