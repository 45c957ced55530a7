//! Debian images end to end: configured in a guest, always with the same bytes, and bootable. On demand: `IMAGES_UEFI=1` boots
//! a disk in QEMU with AAVMF (packages `qemu-system-arm`, `qemu-efi-aarch64`); `IMAGES_RECONFIGURE=N` configures `libc-bin` so
//! often (100); `IMAGES_LARGE=1` makes an image with a kernel and a Java machine, `IMAGES_AGENT=1` one with a configuration
//! agent, `IMAGES_INIT=1` such whose file systems systemd and sysvinit grow, which lead to a login on the console.
//! `IMAGES_SUITE` names another suite for the comparison of two builds. The comparison with mmdebstrap needs the mirror.

use std::collections::HashSet;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use images::cache::Cache;
use images::debian::{Archive, ArchiveOptions};
use images::format::Format;
use images::lock::Lock;
use images::progress::Silent;
use images::resolve::{Request, resolve};
use tests::archive::Mirror;
use tests::linux::BOOT_LIMIT;
use tests::monitor::{program, run_with};
use tests::process::{Finished, run, start};
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

/// Greatest memory of the process that makes an image, in KiB: the guest is another one.
const MOST_MEMORY: u64 = 300 << 10;

/// `vmm image`, and the most memory that the process had at a time, in KiB.
fn image_with_memory(arguments: &[&str]) -> u64 {
    let mut builder = start(Command::new(program()).arg("image").args(arguments));
    let status = format!("/proc/{}/status", builder.id());
    let watcher = std::thread::spawn(move || {
        let mut most = 0;
        // What it had stays there until it ends.
        while let Ok(status) = fs::read_to_string(&status) {
            let Some(line) = status.lines().find_map(|line| line.strip_prefix("VmHWM:")) else { break };
            most = line.trim_end_matches("kB").trim().parse().unwrap_or(most);
            std::thread::sleep(Duration::from_millis(20));
        }
        most
    });
    let finished = builder.finish(BUILD_LIMIT);
    assert!(finished.status.success(), "{arguments:?}: {}\n{}", finished.stdout, finished.stderr);
    watcher.join().expect("no panic")
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

/// Every format that there is; the lock file has their hashes.
const FORMATS: [&str; 11] = Format::NAMES;

/// Options for one output in each format, in a folder.
fn outputs(folder: &Path) -> Vec<String> {
    FORMATS
        .iter()
        .flat_map(|format| ["--output".to_owned(), text(&folder.join(format!("a.{format}"))).to_owned()])
        .collect()
}

/// Runs what follows in a namespace in which `$PLACE/merged` is an overlayfs.
const WITH_OVERLAY: &str = "mount -t tmpfs none \"$PLACE\" && cd \"$PLACE\" && mkdir lower upper work merged && \
    mount -t overlay overlay -o lowerdir=lower,upperdir=upper,workdir=work merged && cd / && exec \"$@\"";

/// What the user does elsewhere.
const ELSEWHERE: &str =
    "umask 077; scratch=$1; shift; export LD_PRELOAD=\"$LATER\"; exec \"$@\" --scratch \"$scratch\"";
/// Sets the clock of programs.
const LATER: &str = "/usr/lib/x86_64-linux-gnu/faketime/libfaketime.so.1";

/// A command that begins `vmm` years later as another user with another umask, a cache of its own that is empty, and its scratch folder on
/// an overlayfs, as far as this host lets it.
fn elsewhere(folder: &Path) -> Command {
    fs::set_permissions(folder, fs::Permissions::from_mode(0o777)).expect("our folder");
    let place = folder.join("place");
    fs::create_dir(&place).expect("a folder");
    fs::set_permissions(&place, fs::Permissions::from_mode(0o777)).expect("our folder");
    // Where the program is, others may not look.
    let program_here = folder.join("vmm");
    fs::copy(program(), &program_here).expect("a copy");
    let root = Command::new("id").arg("-u").output().is_ok_and(|output| output.stdout == b"0\n");
    let mut words: Vec<&str> = Vec::new();
    if root {
        words.extend(["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups", "--inh-caps=-all"]);
    }
    let overlay = ["unshare", "--map-root-user", "--mount", "sh", "-c", WITH_OVERLAY, "sh"];
    let mut probe = Command::new(*words.first().unwrap_or(&overlay[0]));
    probe.args([words.get(1..).unwrap_or_default(), if root { &overlay } else { &overlay[1..] }].concat());
    let has_overlay = probe.arg("true").env("PLACE", &place).output().is_ok_and(|output| output.status.success());
    if has_overlay {
        words.extend(overlay);
    } else {
        eprintln!("no overlayfs: this host has no namespaces for users");
    }
    let scratch = place.join(if has_overlay { "merged" } else { "scratch" });
    words.extend(["sh", "-c", ELSEWHERE, "sh"]);
    let mut command = Command::new(words[0]);
    command.args(&words[1..]).arg(scratch).arg(program_here).env("PLACE", &place).current_dir("/");
    command.env("XDG_CACHE_HOME", folder.join("cache")).env_remove("HOME");
    // Years later; what sets the clock belongs to the user who begins with it.
    assert!(Path::new(LATER).exists(), "{LATER} is missing: install faketime");
    command.env("LATER", LATER).env("FAKETIME", "+1234d").env("FAKETIME_DONT_FAKE_MONOTONIC", "1");
    command
}

/// One minbase image in every format, by the translator with one processor, and all that can be said of it: others that are
/// to be the same, and what becomes of it where it boots.
#[test]
fn a_minbase_image_is_the_same_whoever_makes_it() {
    let one = Folder::new(&std::env::temp_dir(), "images-one");
    let built = outputs(&one.0);
    let built: Vec<&str> = built.iter().map(String::as_str).collect();
    let suite = std::env::var("IMAGES_SUITE").unwrap_or_else(|_| "bookworm".to_owned());
    let first = ["build", "--suite", &suite, "--cpus", "1", "--engine", "jit", "--kernel", "debian"];
    let memory_of_builder = image_with_memory(&[first.as_slice(), &built].concat());
    assert!((20 << 10..MOST_MEMORY).contains(&memory_of_builder), "the builder took {memory_of_builder} KiB");
    eprintln!("the builder took {memory_of_builder} KiB");
    let lock = Lock::parse(&fs::read_to_string(one.0.join("a.lock")).expect("a lock file")).expect("a lock");
    assert_eq!(lock.outputs.len(), FORMATS.len(), "{:?}", lock.outputs);
    let image = Made { folder: one, cache: Cache::of_user().expect("a cache"), lock };
    std::thread::scope(|scope| {
        let elsewhere = scope.spawn(|| another_build_makes_the_same(&image));
        // The list of what differs is that of this release.
        let by_others = scope.spawn(|| {
            if image.lock.suite == "bookworm" {
                mmdebstrap_makes_the_same(&image)
            }
        });
        formats_are_read_back(&image);
        let boot = BootFiles::of(&image.folder, &image.lock, &image.cache);
        a_disk_grows_when_it_boots(&boot, &image.file("a.disk"));
        a_file_system_grows_when_it_boots(&boot, &image.file("a.ext4"));
        for thread in [elsewhere, by_others] {
            thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic));
        }
    });
}

/// An image that was made in every format, and what it was made of.
struct Made {
    folder: Folder,
    cache: Cache,
    lock: Lock,
}

impl Made {
    fn file(&self, name: &str) -> PathBuf {
        self.folder.0.join(name)
    }
}

/// A build that differs in everything but what goes in: folder, user, umask, time, engine, processors, file system, mirror.
fn another_build_makes_the_same(image: &Made) {
    // Another file system where there is one with room.
    let memory = Path::new("/dev/shm");
    let other = Folder::new(if free_mib(memory) > 4096 { memory } else { &image.folder.0 }, "images-other");
    // A mirror that dies half way, and another one.
    let mirrors = ["debian", "debian"].map(|name| Mirror::of_lock(name, &image.lock, &image.cache));
    mirrors[0].dies_after(20 << 20);
    let lock_copy = other.0.join("copy.lock");
    fs::write(&lock_copy, image.lock.text()).expect("a lock file");
    let mut command = elsewhere(&other.0);
    command.args(["image", "build", "--suite", &image.lock.suite, "--locked", "--lock", text(&lock_copy)]);
    command.args(["--cpus", "4", "--engine", "interp"]);
    command.args(["--mirror", &mirrors[0].base, "--mirror", &mirrors[1].base]).args(outputs(&other.0));
    // The hashes of the first are in the lock file: other bytes fail here.
    let finished = run(&mut command, BUILD_LIMIT);
    assert!(finished.status.success(), "{}\n{}", finished.stdout, finished.stderr);
    assert!(mirrors[0].is_dead(), "the first mirror was not used up");
    for output in &image.lock.outputs {
        let format = Format::parse(&output.format).expect("a format");
        let found = images::format::hash_of(&other.0.join(format!("a.{}", output.format)), format).expect("an image");
        assert_eq!(found.to_string(), output.sha256, "{}", output.format);
    }
}

fn formats_are_read_back(made: &Made) {
    let file = |name: &str| made.file(name);
    let difference = image("022", &["diff", text(&file("a.cpio.zst")), text(&file("a.oci"))]);
    assert_eq!(difference.stdout, "/init: only in the first\n", "{}", difference.stderr);
    assert_eq!(difference.status.code(), Some(1));
    let difference = image("022", &["diff", text(&file("a.tar.gz")), text(&file("a.disk.qcow2"))]);
    let added = "/etc/fstab: only in the second\n/usr/sbin/init: only in the second\n";
    assert_eq!(difference.stdout, added, "{}", difference.stderr);
    let packages = succeeds("022", &["inspect", "--packages", text(&file("a.qcow2"))]);
    assert!(packages.lines().any(|line| line.starts_with("base-files ")), "{packages}");
    must_succeed(E2FSCK.command().args(["-f", "-n"]).arg(file("a.ext4")));
    let converted = file("converted.tar");
    succeeds("022", &["convert", text(&file("a.oci")), text(&converted)]);
    assert!(fs::read(&converted).expect("there") == fs::read(file("a.tar")).expect("there"), "converted");

    let mut boot = run_with("jit");
    boot.arg("--kernel").arg(file("a.vmlinuz")).arg("--initrd").arg(file("a.cpio.gz"));
    boot.args(["--append", "console=ttyAMA0 quiet -- dpkg --audit"]);
    let finished = run(&mut boot, BOOT_LIMIT);
    assert!(finished.status.success(), "{}", finished.stderr);
    assert!(finished.stdout.contains("exit status 0"), "{}", finished.stdout);
}

/// What firmware would start from a disk.
struct BootFiles {
    kernel: PathBuf,
    initrd: PathBuf,
}

impl BootFiles {
    fn of(folder: &Folder, lock: &Lock, cache: &Cache) -> BootFiles {
        let files =
            images::build::boot(lock, &ArchiveOptions::new(&lock.suite), cache, &Silent).expect("a boot loader");
        let [kernel, initrd] = ["kernel", "initrd"].map(|name| folder.0.join(name));
        fs::write(&kernel, files.kernel).and_then(|()| fs::write(&initrd, files.initrd)).expect("written");
        BootFiles { kernel, initrd }
    }

    fn guest(&self, disk: &Path, words: &str) -> Command {
        let mut guest = run_with("jit");
        guest.arg("--kernel").arg(&self.kernel).arg("--initrd").arg(&self.initrd).arg("--disk").arg(disk);
        guest.args(["--append", &format!("console=ttyAMA0 root=LABEL=root {words}")]);
        guest
    }

    /// Boots to a login, and gives what is shown until then, and the sizes of root and of `/dev/$name` in MiB.
    fn boot_and_measure(&self, disk: &Path, words: &str, name: &str) -> (String, u64, u64) {
        let mut guest = start(&mut self.guest(disk, words));
        let shown = guest.expect("root@localhost:~#", BOOT_LIMIT);
        let line = format!(
            "echo; stat -f -c %b:%S: /; echo $(cat /sys/class/block/{name}/size):512:; sync; echo E''ND; sleep 1; echo o >/proc/sysrq-trigger\n"
        );
        guest.send(&line);
        let told = guest.expect("END", BOOT_LIMIT);
        let finished = guest.finish(BOOT_LIMIT);
        assert!(finished.status.success(), "{}", finished.stderr);
        let sizes: Vec<u64> = ["4096", "512"]
            .iter()
            .map(|unit| {
                let count =
                    told.lines().find_map(|line| line.trim().strip_suffix(&format!(":{unit}:"))?.parse::<u64>().ok());
                (count.unwrap_or_else(|| panic!("no size: {told}")) * unit.parse::<u64>().expect("a number")) >> 20
            })
            .collect();
        (shown, sizes[0], sizes[1])
    }
}

/// A disk that was copied onto a larger one: partition and file system grow, once.
fn a_disk_grows_when_it_boots(boot: &BootFiles, disk: &Path) {
    let larger = fs::File::options().write(true).open(disk).expect("a disk");
    larger.set_len(3 << 30).expect("a larger disk");
    let (first, root, partition) = boot.boot_and_measure(disk, "rw", "vda2");
    assert!(first.contains("GPT:"), "the kernel saw that the table was not at the end: {first}");
    assert!(partition > 2800 && root > 2600, "{root} MiB of {partition}");
    let (second, ..) = boot.boot_and_measure(disk, "rw", "vda2");
    assert!(!second.contains("GPT:"), "{second}");
    let partition = format!("{}?offset={}", text(disk), root_offset(disk));
    must_succeed(E2FSCK.command().args(["-f", "-n", &partition]));
}

/// A file system and nothing else, of an image without an init: the first process that it was given grows it.
fn a_file_system_grows_when_it_boots(boot: &BootFiles, disk: &Path) {
    let before = fs::metadata(disk).expect("there").len() >> 20;
    assert!(before < 2000, "{before} MiB");
    succeeds("022", &["resize", text(disk), "3G"]);
    // Mounted for reading only, the initrd leaves it as it is.
    let (_, root, _) = boot.boot_and_measure(disk, "ro", "vda");
    assert!(root > 2600, "{root} MiB");
    must_succeed(E2FSCK.command().args(["-f", "-n"]).arg(disk));
}

/// Where the second partition begins.
fn root_offset(disk: &Path) -> u64 {
    let mut entry = [0; 8];
    let file = fs::File::open(disk).expect("a disk");
    std::os::unix::fs::FileExt::read_exact_at(&file, &mut entry, 1024 + 128 + 32).expect("a table");
    u64::from_le_bytes(entry) * 512
}

fn on_demand(variable: &str) -> bool {
    let asked = std::env::var_os(variable).is_some();
    if !asked {
        eprintln!("skipped: {variable} is not set");
    }
    asked
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
    let times = std::env::var("IMAGES_RECONFIGURE").unwrap_or_else(|_| "100".to_owned());
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

/// A disk with a tar archive of what mmdebstrap needs beside minbase, unpacked: no script of these packages has to run.
fn packages_of_mmdebstrap(made: &Made) -> PathBuf {
    let options = ArchiveOptions { updates: true, ..ArchiveOptions::new("bookworm") };
    let archive = Archive::open(&options, &made.cache, &Silent).unwrap_or_else(|error| panic!("{error}"));
    let request = Request { include: vec!["mmdebstrap".to_owned()], ..Request::default() };
    let selection = resolve(&archive, &request).unwrap_or_else(|error| panic!("{error}"));
    let there: HashSet<&str> = made.lock.packages.iter().map(|package| package.name.as_str()).collect();
    let folder = made.file("mmdebstrap");
    fs::create_dir(&folder).expect("a folder");
    for one in selection.values().filter(|one| !there.contains(one.package.name.as_str())) {
        let file = archive.fetch(&one.package, &Silent).unwrap_or_else(|error| panic!("{error}"));
        must_succeed(Command::new("dpkg-deb").arg("-x").arg(file).arg(&folder));
    }
    let tar = made.file("mmdebstrap.tar");
    must_succeed(Command::new("tar").args(["--owner=0", "--group=0", "-cf"]).arg(&tar).arg("-C").arg(&folder).arg("."));
    tar
}

/// The same packages by mmdebstrap, on a real arm64 kernel: what differs is what `docs/design/image-build.md` lists.
fn mmdebstrap_makes_the_same(made: &Made) {
    let (ours, out) = (made.file("a.tar"), made.file("out.tar"));
    fs::File::create(&out).and_then(|file| file.set_len(1 << 30)).expect("a file");
    let sources = made.lock.sources.iter().map(|source| format!("'deb {} {} main'", source.uri, source.suite));
    let listed = sources.collect::<Vec<_>>().join(" ");
    let mut guest = run_with("jit");
    guest.args(["debian:bookworm", "--cpus", "2", "--memory", "3G", "--net", "user"]);
    guest.args(["--disk", text(&packages_of_mmdebstrap(made)), "--disk", text(&out)]);
    let mut guest = tests::process::start(&mut guest);
    guest.expect("root@bookworm:~#", BUILD_LIMIT);
    let epoch = made.lock.epoch;
    // In memory: dpkg waits for a disk after each package.
    guest.send(&format!(
        "mount -t tmpfs -o size=80% none /mnt && tar -xf /dev/vda -C / --keep-directory-symlink && \
         TMPDIR=/mnt SOURCE_DATE_EPOCH={epoch} mmdebstrap --mode=root --variant=minbase --format=tar bookworm \
         /mnt/out.tar {listed} && dd if=/mnt/out.tar of=/dev/vdb bs=1M conv=fsync && echo DO''NE; exit\n"
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

/// More than a few packages: a kernel with its initrd, and a Java machine, whose scripts need memory and room.
#[test]
fn a_large_image_is_made() {
    if !on_demand("IMAGES_LARGE") {
        return;
    }
    let folder = Folder::new(&std::env::temp_dir(), "large");
    let made = folder.0.join("a.tar");
    succeeds("022", &["build", "--include", "linux-image-arm64,default-jdk-headless", "--output", text(&made)]);
    let packages = succeeds("022", &["inspect", text(&made)]);
    assert!(packages.contains("boot/initrd.img-") && packages.contains("boot/vmlinuz-"), "{packages}");
    succeeds("022", &["extract-kernel", "--output", text(&folder.0), text(&made)]);
    let names: Vec<_> =
        fs::read_dir(&folder.0).expect("there").map(|entry| entry.expect("there").file_name()).collect();
    assert!(names.iter().any(|name| name.to_string_lossy().starts_with("initrd.img-")), "{names:?}");
}

/// Each init grows the root of an image that is a file system and nothing else.
#[test]
fn an_init_grows_a_file_system() {
    if !on_demand("IMAGES_INIT") {
        return;
    }
    for init in ["systemd-sysv", "sysvinit-core"] {
        let folder = Folder::new(&std::env::temp_dir(), init);
        let made = folder.0.join("a.ext4");
        succeeds("022", &["build", "--include", init, "--output", text(&made)]);
        succeeds("022", &["resize", text(&made), "3G"]);
        let lock = Lock::parse(&fs::read_to_string(folder.0.join("a.lock")).expect("a lock file")).expect("a lock");
        let boot = BootFiles::of(&folder, &lock, &Cache::of_user().expect("a cache"));
        // Mounted for reading only, the initrd leaves it as it is.
        start(&mut boot.guest(&made, "ro quiet")).expect("login:", BOOT_LIMIT);
        // Nobody may log in without a password: the file system itself says what became of it, once its journal is done.
        let _ = E2FSCK.command().args(["-f", "-y"]).arg(&made).output();
        must_succeed(E2FSCK.command().args(["-f", "-n"]).arg(&made));
        let mut blocks = [0; 4];
        let file = fs::File::open(&made).expect("there");
        std::os::unix::fs::FileExt::read_exact_at(&file, &mut blocks, 1024 + 4).expect("a superblock");
        assert_eq!(u32::from_le_bytes(blocks), 3 << 18, "{init} has not grown it");
    }
}

/// A configuration agent of the suite is there and runs.
#[test]
fn a_configuration_agent_runs() {
    if !on_demand("IMAGES_AGENT") {
        return;
    }
    let folder = Folder::new(&std::env::temp_dir(), "agent");
    let made = folder.0.join("a.cpio");
    succeeds("022", &["build", "--include", "puppet-agent", "--kernel", "debian", "--output", text(&made)]);
    let mut boot = run_with("jit");
    boot.arg("--kernel").arg(folder.0.join("a.vmlinuz")).arg("--initrd").arg(&made).args(["--memory", "2G"]);
    boot.args(["--append", "console=ttyAMA0 quiet -- puppet apply -e notify{'from-puppet':}"]);
    let finished = run(&mut boot, BOOT_LIMIT);
    assert!(
        finished.stdout.contains("from-puppet") && finished.stdout.contains("exit status 0"),
        "{}",
        finished.stdout
    );
}
