//! Debian images end to end: configured in a guest, always with the same bytes, and bootable. On demand: `IMAGES_UEFI=1` boots
//! a disk in QEMU with AAVMF (packages `qemu-system-arm`, `qemu-efi-aarch64`); `IMAGES_RECONFIGURE=N` configures `libc-bin` so
//! often (100); `IMAGES_LARGE=1` makes an image with a kernel and a Java machine, `IMAGES_AGENT=1` one with a configuration
//! agent, `IMAGES_SYSTEMD=1` one whose file system systemd grows.
//! `IMAGES_SUITE` names another suite for the comparison of two builds. The comparison with mmdebstrap needs the mirror.

use std::collections::HashSet;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use images::cache::Cache;
use images::debian::ArchiveOptions;
use images::format::Format;
use images::lock::Lock;
use images::progress::Silent;
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

/// A command that begins `vmm` as another user with another umask, a cache of its own that is empty, and its scratch folder on
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
    words.extend(["sh", "-c", "umask 077; scratch=$1; shift; exec \"$@\" --scratch \"$scratch\"", "sh"]);
    let mut command = Command::new(words[0]);
    command.args(&words[1..]).arg(scratch).arg(program_here).env("PLACE", &place).current_dir("/");
    command.env("XDG_CACHE_HOME", folder.join("cache")).env_remove("HOME");
    command
}

/// Two builds that differ in everything but what goes in: folder, user, umask, time, engine, processors, file system, mirror.
#[test]
fn the_same_packages_give_the_same_bytes_in_every_format() {
    let one = Folder::new(&std::env::temp_dir(), "images-one");
    // Another file system where there is one with room.
    let memory = Path::new("/dev/shm");
    let other = Folder::new(if free_mib(memory) > 4096 { memory } else { &one.0 }, "images-other");
    let file = |name: &str| one.0.join(name);
    let built = outputs(&one.0);
    let built: Vec<&str> = built.iter().map(String::as_str).collect();
    let suite = std::env::var("IMAGES_SUITE").unwrap_or_else(|_| "bookworm".to_owned());
    let first = ["build", "--suite", &suite, "--cpus", "1", "--engine", "jit", "--kernel", "debian"];
    let memory_of_builder = image_with_memory(&[first.as_slice(), &built].concat());
    assert!((20 << 10..MOST_MEMORY).contains(&memory_of_builder), "the builder took {memory_of_builder} KiB");
    eprintln!("the builder took {memory_of_builder} KiB");
    let lock = Lock::parse(&fs::read_to_string(file("a.lock")).expect("a lock file")).expect("a lock");
    assert_eq!(lock.outputs.len(), FORMATS.len(), "{:?}", lock.outputs);

    // A mirror that dies half way, and another one.
    let cache = Cache::of_user().expect("a cache");
    let mirrors = ["debian", "debian"].map(|name| Mirror::of_lock(name, &lock, &cache));
    mirrors[0].dies_after(20 << 20);
    let lock_copy = other.0.join("copy.lock");
    fs::write(&lock_copy, lock.text()).expect("a lock file");
    let mut command = elsewhere(&other.0);
    command.args([
        "image",
        "build",
        "--suite",
        &suite,
        "--locked",
        "--lock",
        text(&lock_copy),
        "--cpus",
        "4",
        "--engine",
        "interp",
    ]);
    command.args(["--mirror", &mirrors[0].base, "--mirror", &mirrors[1].base]).args(outputs(&other.0));
    // The hashes of the first are in the lock file: other bytes fail here.
    let finished = run(&mut command, BUILD_LIMIT);
    assert!(finished.status.success(), "{}\n{}", finished.stdout, finished.stderr);
    assert!(mirrors[0].is_dead(), "the first mirror was not used up");
    for format in ["cpio", "disk"] {
        let [a, b] = [&one, &other].map(|folder| fs::read(folder.0.join(format!("a.{format}"))).expect("an image"));
        assert!(a == b, "{format} differs");
    }
    drop(other);

    let difference = image("022", &["diff", text(&file("a.cpio.zst")), text(&file("a.oci"))]);
    assert_eq!(difference.stdout, "/init: only in the first\n", "{}", difference.stderr);
    assert_eq!(difference.status.code(), Some(1));
    let difference = image("022", &["diff", text(&file("a.tar.gz")), text(&file("a.disk.qcow2"))]);
    assert_eq!(difference.stdout, "/etc/fstab: only in the second\n", "{}", difference.stderr);
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
    a_disk_grows_when_it_boots(&lock, &cache, &file("a.disk"));
}

/// What firmware would start from a disk that was copied onto a larger one: partition and file system grow, once.
fn a_disk_grows_when_it_boots(lock: &Lock, cache: &Cache, disk: &Path) {
    let files = images::build::boot(lock, &ArchiveOptions::new(&lock.suite), cache, &Silent).expect("a boot loader");
    let [kernel, initrd] = ["kernel", "initrd"].map(|name| disk.with_file_name(name));
    fs::write(&kernel, files.kernel).and_then(|()| fs::write(&initrd, files.initrd)).expect("written");
    let larger = fs::File::options().write(true).open(disk).expect("a disk");
    larger.set_len(3 << 30).expect("a larger disk");
    let boot = || {
        let mut guest = run_with("jit");
        guest.arg("--kernel").arg(&kernel).arg("--initrd").arg(&initrd).arg("--disk").arg(disk);
        let mut guest = start(guest.args(["--append", "console=ttyAMA0 root=LABEL=root rw"]));
        let shown = guest.expect("root@localhost:~#", BOOT_LIMIT);
        let line = "echo; stat -f -c %b:%S: /; cat /sys/class/block/vda2/size; sync; echo E''ND; sleep 1; echo o >/proc/sysrq-trigger";
        guest.send(&format!("{line}\n"));
        let told = guest.expect("END", BOOT_LIMIT);
        let finished = guest.finish(BOOT_LIMIT);
        assert!(finished.status.success(), "{}", finished.stderr);
        (shown, told)
    };
    let (first, told) = boot();
    assert!(first.contains("GPT:"), "the kernel saw that the table was not at the end: {first}");
    let sectors: Vec<u64> = told.lines().filter_map(|line| line.trim().parse().ok()).collect();
    let blocks = told.lines().find_map(|line| line.trim().strip_suffix(":4096:")?.parse::<u64>().ok());
    assert!(sectors.iter().any(|sectors| *sectors > 2_800 << 11), "{told}");
    assert!(blocks.is_some_and(|blocks| blocks > 2_600 << 8), "{told}");
    let (second, _) = boot();
    assert!(!second.contains("GPT:"), "{second}");
    let partition = format!("{}?offset={}", text(disk), root_offset(disk));
    must_succeed(E2FSCK.command().args(["-f", "-n", &partition]));
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

/// The same packages by mmdebstrap, on a real arm64 kernel: what differs is what `docs/design/image-build.md` lists.
#[test]
fn mmdebstrap_makes_the_same() {
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

/// systemd grows the root of an image that is a file system and nothing else.
#[test]
fn systemd_grows_a_file_system() {
    if !on_demand("IMAGES_SYSTEMD") {
        return;
    }
    let folder = Folder::new(&std::env::temp_dir(), "systemd");
    let made = folder.0.join("a.ext4");
    succeeds("022", &["build", "--include", "systemd-sysv", "--output", text(&made)]);
    succeeds("022", &["resize", text(&made), "3G"]);
    let lock = Lock::parse(&fs::read_to_string(folder.0.join("a.lock")).expect("a lock file")).expect("a lock");
    let cache = Cache::of_user().expect("a cache");
    let files = images::build::boot(&lock, &ArchiveOptions::new("bookworm"), &cache, &Silent).expect("a boot loader");
    let [kernel, initrd] = ["kernel", "initrd"].map(|name| folder.0.join(name));
    fs::write(&kernel, files.kernel).and_then(|()| fs::write(&initrd, files.initrd)).expect("written");
    let mut boot = run_with("jit");
    boot.arg("--kernel").arg(&kernel).arg("--initrd").arg(&initrd).arg("--disk").arg(&made);
    // Mounted for reading only, the initrd leaves it as it is.
    let run_there = "systemd.run=\"/bin/sh -c 'df -B1M / >/dev/ttyAMA0'\" systemd.run_success_action=poweroff";
    boot.args(["--append", &format!("console=ttyAMA0 quiet root=LABEL=root ro {run_there}")]);
    let finished = run(&mut boot, BOOT_LIMIT);
    let root = finished.stdout.lines().find(|line| line.contains(" /") && line.contains('%')).unwrap_or_default();
    let size = root.split_whitespace().nth(1).and_then(|size| size.parse::<u64>().ok());
    assert!(size.is_some_and(|size| size > 2600), "{root:?}: {}\n{}", finished.stdout, finished.stderr);
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
