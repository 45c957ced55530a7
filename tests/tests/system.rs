//! A whole Debian system: an image that `vmm image build` makes, with systemd, on a qcow2 disk over another one, without an
//! initrd. `SYSTEM_FULL=1` adds the long list: a newer kernel, apt, ssh and scp, file systems on large disks, fio, a reboot
//! under load. What is made once is kept in `target/guests/system`; delete it to have it made again.

use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use images::cache::{Cache, Sha256Sum};
use images::debian::Archive;
use images::demo::DemoOptions;
use images::kernel::{self, CLOUD_KERNEL};
use images::progress::Silent;
use tests::linux::Shell;
use tests::monitor::{program, run_with};
use tests::power_loss::{Life, Losing};
use tests::process::run;
use tests::tools::{Tool, build_dir, must_succeed};

const QEMU_IMG: Tool = Tool { program: "qemu-img", package: "qemu-utils" };
const SSH: Tool = Tool { program: "ssh", package: "openssh-client" };
const SCP: Tool = Tool { program: "scp", package: "openssh-client" };
const SSH_KEYGEN: Tool = Tool { program: "ssh-keygen", package: "openssh-client" };
const E2FSCK: &str = "/sbin/e2fsck";

/// The password is `vmm`.
const RECIPE: &str = r#"suite = "bookworm"
hostname = "system"
include = [PACKAGES]
[[user]]
name = "root"
password-hash = "$5$vmm$c/bJcFi5pZy9iip2dsY7As8OHY2Q4GjzWH2wfSi3uX7"
ssh-keys = ["KEY"]
[[file]]
source = "dhcp.network"
path = "/etc/systemd/network/50-dhcp.network"
"#;
const SMALL: &str = r#""systemd-sysv", "udev", "dbus""#;
const FULL: &str = r#""systemd-sysv", "udev", "dbus", "openssh-server", "fio", "e2fsprogs", "curl", "ca-certificates", "iproute2", "systemd-resolved", "systemd-timesyncd""#;
const DHCP: &str = "[Match]\nType=ether\n[Network]\nDHCP=yes\n";

/// Longest build of an image, longest boot, longest work in a guest: on a slow, busy host.
const BUILD_LIMIT: Duration = Duration::from_secs(1800);
const LIMIT: Duration = Duration::from_secs(600);

/// An image, and where it is.
struct System {
    image: PathBuf,
    key: PathBuf,
}

/// The folder for what is kept.
fn kept() -> PathBuf {
    let folder = build_dir().join("system");
    std::fs::create_dir_all(&folder).expect("a folder");
    folder
}

/// The image with these packages, made if it is not there.
fn system(packages: &str) -> System {
    let folder = kept();
    let key = folder.join("key");
    if !key.exists() {
        must_succeed(SSH_KEYGEN.command().args(["-q", "-t", "ed25519", "-N", "", "-C", "", "-f"]).arg(&key));
    }
    let public = std::fs::read_to_string(key.with_extension("pub")).expect("a key");
    let text = RECIPE.replace("PACKAGES", packages).replace("KEY", public.trim());
    let name = Sha256Sum::of(text.as_bytes()).to_string();
    let image = folder.join(format!("{}.qcow2", &name[..16]));
    if !image.exists() {
        let recipe = folder.join(format!("{}.toml", &name[..16]));
        std::fs::write(&recipe, text)
            .and_then(|()| std::fs::write(folder.join("dhcp.network"), DHCP))
            .expect("written");
        let part = folder.join(format!("{}-{}.qcow2", &name[..16], std::process::id()));
        let mut command = Command::new(program());
        command.args(["image", "build", "--size", "3G", "--recipe"]).arg(&recipe).arg("--output").arg(&part);
        let finished = run(&mut command, BUILD_LIMIT);
        assert!(finished.status.success(), "{}", finished.stderr);
        std::fs::rename(&part, &image).expect("renamed");
    }
    System { image, key }
}

/// Debian's cloud kernel of a suite, and its package with the modules.
fn kernel_of(suite: &str) -> (PathBuf, PathBuf) {
    let cache = Cache::of_user().expect("a cache folder");
    let archive = Archive::open(&DemoOptions::new(suite).archive, &cache, &Silent).expect("the archive");
    let packages = kernel::packages(&archive, CLOUD_KERNEL).expect("the cloud kernel");
    let image = kernel::read(&archive, &packages, &Silent).expect("a kernel").image;
    let path = kept().join(format!("vmlinuz-{suite}-{}", std::process::id()));
    std::fs::write(&path, image).expect("written");
    (path, archive.fetch(&packages[0], &Silent).expect("the package"))
}

/// A folder of one test, gone afterwards.
struct Folder(PathBuf);

impl Folder {
    fn new(name: &str) -> Folder {
        let path = std::env::temp_dir().join(format!("vmm-test-{}-{name}", std::process::id()));
        std::fs::create_dir_all(&path).expect("a folder");
        Folder(path)
    }
    /// An image over `base`, to be written to.
    fn over(&self, base: &Path) -> PathBuf {
        let path = self.0.join("root.qcow2");
        let mut command = QEMU_IMG.command();
        must_succeed(command.args(["create", "-q", "-f", "qcow2", "-F", "qcow2", "-b"]).arg(base).arg(&path));
        path
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        // Nothing more can be done about a folder that does not go.
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

fn start(suite: &str, cpus: &str, disk: &Path, options: &[String]) -> Shell {
    let (kernel, package) = kernel_of(suite);
    let mut command = run_with("auto");
    command.arg("--kernel").arg(&kernel).arg("--modules").arg(package);
    command.args(["--cpus", cpus, "--memory", "768M", "--append", "console=ttyAMA0 quiet root=/dev/vda rw"]);
    command.arg("--disk").arg(format!("{},format=qcow2", disk.display())).args(options);
    let shell = Shell::login(&mut command, "root", "vmm", LIMIT);
    // It has been read.
    let _ = std::fs::remove_file(kernel);
    shell
}

/// Everything that systemd was to start runs.
fn healthy(shell: &mut Shell) {
    let state = shell.command("systemctl is-system-running --wait; systemctl --failed --no-legend --plain");
    assert_eq!(state, "running", "{}", shell.command("journalctl -b --no-pager -p warning | tail -n 40"));
    assert_eq!(shell.command("findmnt -no SOURCE,FSTYPE / | tr -s ' '"), "/dev/vda ext4");
    let now = || SystemTime::now().duration_since(UNIX_EPOCH).expect("after 1970").as_secs();
    let before = now();
    let guest: u64 = shell.command("date +%s").parse().expect("seconds");
    assert!((before.saturating_sub(2)..=now() + 2).contains(&guest), "the clock says {guest}, the host's {before}");
}

/// The disk is sound as an image and as a file system.
fn sound(folder: &Folder, disk: &Path) {
    must_succeed(QEMU_IMG.command().args(["check", "-q"]).arg(disk));
    let raw = folder.0.join("raw.img");
    must_succeed(QEMU_IMG.command().args(["convert", "-O", "raw"]).arg(disk).arg(&raw));
    must_succeed(Command::new(E2FSCK).args(["-f", "-n"]).arg(&raw));
}

/// Bytes of the disk on which power is lost.
const FRAGILE: usize = 24 << 20;

/// A file system with a journal is made, and worked on. Every file is on the disk before the next is begun.
fn work(shell: &mut Shell, log: &Path) -> u64 {
    assert_eq!(shell.command("mkfs.ext4 -q -F -b 4096 -J size=4 /dev/vdb >/dev/null 2>&1; echo $?; sync"), "0");
    let made = std::fs::metadata(log).expect("a log").len();
    shell.command("mount /dev/vdb /mnt && cd /mnt && mkdir d0 d1 d2 d3 d4");
    let file =
        "f=d$((i % 5))/f$i; dd if=/dev/urandom of=$f bs=3000 count=$((1 + i % 9)) conv=fsync 2>/dev/null; mv $f $f.new";
    let old = "[ $((i % 4)) = 0 ] && rm -f d*/f$((i - 3)).new && ln -s $f d0/l$i";
    shell.long(&format!("for i in $(seq 60); do {file}; {old}; done"), LIMIT);
    assert_eq!(shell.command("cd /; umount /mnt; echo $?"), "0");
    made
}

/// Whether a file system is sound after its journal was replayed.
fn survives(image: &Path, contents: &[u8]) -> Result<(), String> {
    std::fs::write(image, contents).expect("written");
    // The second look finds nothing that the first, which may do what a mount does, has left.
    for (options, most) in [("-fp", 1), ("-fn", 0)] {
        let output = Command::new(E2FSCK).arg(options).arg(image).output().expect("e2fsck runs");
        if output.status.code().is_none_or(|code| code > most) {
            return Err(format!("e2fsck {options}: {}: {}", output.status, String::from_utf8_lossy(&output.stdout)));
        }
    }
    Ok(())
}

/// Power is lost at many moments after the first `made` bytes of the log.
fn power_losses(folder: &Folder, log: &Path, made: u64) {
    let begun = folder.0.join("begun");
    let bytes = std::fs::read(log).expect("a log");
    std::fs::write(&begun, &bytes[..usize::try_from(made).expect("small")]).expect("written");
    let (first, life) = (Life::read(&begun, FRAGILE).len(), Life::read(log, FRAGILE));
    assert!(life.flushes() > 60 && life.len() > first + 300, "{} events, {} flushes", life.len(), life.flushes());
    let points = std::env::var("CRASH_POINTS").map_or(300, |text| text.parse().expect("CRASH_POINTS is a number"));
    let image = folder.0.join("crash.img");
    for point in 0..points {
        let moment = first + (life.len() - first) * (point + 1) / points;
        let contents = life.lost_at(moment, first, Losing::Unflushed, point as u64);
        survives(&image, &contents).unwrap_or_else(|error| panic!("power lost after event {moment}: {error}"));
    }
    // The judge can be trusted: a disk that does not care for flushes is found out.
    let caught =
        (0..20).filter(|&seed| survives(&image, &life.lost_at(life.len(), first, Losing::Anything, seed)).is_err());
    assert!(caught.count() > 0, "e2fsck finds nothing wrong with disks that lost what was flushed");
}

#[test]
fn debian_with_systemd_comes_up_from_a_qcow2_and_goes_down() {
    let folder = Folder::new("system");
    let disk = folder.over(&system(SMALL).image);
    let (fragile, log) = (folder.0.join("fragile.img"), folder.0.join("log"));
    std::fs::File::create(&fragile).and_then(|file| file.set_len(FRAGILE as u64)).expect("a disk");
    let options = ["--disk", fragile.to_str().expect("a name"), "--inject", &format!("blk1:log@{}", log.display())]
        .map(str::to_owned);
    let mut shell = start("bookworm", "2", &disk, &options);
    healthy(&mut shell);
    assert_eq!(shell.command("cat /etc/hostname; nproc"), "system\n2");
    let made = work(&mut shell, &log);
    shell.command("echo remembered >/root/note");
    assert_eq!(shell.end("systemctl poweroff").status.code(), Some(0));
    sound(&folder, &disk);
    let mut command = Command::new("/sbin/debugfs");
    let note = command.args(["-R", "cat /root/note"]).arg(folder.0.join("raw.img")).output().expect("debugfs runs");
    assert_eq!(note.stdout, b"remembered\n");
    power_losses(&folder, &log, made);
}

fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").and_then(|listener| listener.local_addr()).expect("a port").port()
}

/// Options by which ssh and scp take the key, and any host for what it says it is.
fn by_key(key: &Path) -> Vec<String> {
    let mut options = vec!["-i".to_owned(), key.display().to_string()];
    for option in ["BatchMode=yes", "StrictHostKeyChecking=no", "UserKnownHostsFile=/dev/null", "LogLevel=ERROR"] {
        options.extend(["-o".to_owned(), option.to_owned()]);
    }
    options
}

/// ssh's answer, and files of 100 MB there and back.
fn ssh_and_scp(shell: &mut Shell, folder: &Folder, key: &Path, port: u16) {
    shell.command(
        "ls /etc/ssh/ssh_host_ed25519_key || { ssh-keygen -A; systemctl reset-failed; systemctl restart ssh; }",
    );
    let output = SSH.command().args(by_key(key)).args(["-p", &port.to_string(), "root@127.0.0.1", "uname -m"]).output();
    let output = output.expect("ssh runs");
    assert_eq!(String::from_utf8_lossy(&output.stdout), "aarch64\n", "{}", String::from_utf8_lossy(&output.stderr));
    let (there, back) = (folder.0.join("there"), folder.0.join("back"));
    let data: Vec<u8> = (0..100_000_000u32).map(|i| (i.wrapping_mul(2_654_435_761) >> 13) as u8).collect();
    std::fs::write(&there, &data).expect("written");
    let scp = || {
        let mut command = SCP.command();
        command.args(by_key(key)).args(["-P", &port.to_string()]).stdin(Stdio::null());
        command
    };
    must_succeed(scp().arg(&there).arg("root@127.0.0.1:/root/data"));
    must_succeed(scp().arg("root@127.0.0.1:/root/data").arg(&back));
    assert!(std::fs::read(&back).expect("came back") == data, "the bytes differ");
    shell.command("rm /root/data");
}

/// File systems on disks of 9 GiB and 2 TiB, with what fio writes and reads again.
fn large_disks(shell: &mut Shell) {
    for (disk, size) in [("vdb", 9u64 << 30), ("vdc", 2 << 40)] {
        assert_eq!(shell.command(&format!("blockdev --getsize64 /dev/{disk}")), size.to_string());
        assert_eq!(shell.long(&format!("mkfs.ext4 -q -F /dev/{disk} >/dev/null 2>&1; echo $?"), LIMIT), "0");
        shell.command(&format!("mkdir -p /mnt/{disk}; mount /dev/{disk} /mnt/{disk}"));
        let jobs = "--size=48M --rw=randwrite --bs=4k --iodepth=16 --ioengine=libaio --direct=1 --verify=crc32c";
        let fio = format!("fio --name=v --directory=/mnt/{disk} {jobs} --minimal >/dev/null; echo $?");
        assert_eq!(shell.long(&fio, LIMIT), "0");
        assert_eq!(
            shell.long(&format!("umount /mnt/{disk}; e2fsck -fn /dev/{disk} >/tmp/fsck 2>&1; echo $?"), LIMIT),
            "0"
        );
        // The last sector of the disk.
        let last = size / 512 - 1;
        shell.command(&format!("echo the end | dd of=/dev/{disk} bs=512 seek={last} conv=fsync,notrunc status=none"));
        assert_eq!(
            shell.command(&format!("dd if=/dev/{disk} bs=512 skip={last} count=1 status=none | head -c 7")),
            "the end"
        );
    }
}

#[test]
fn the_long_list() {
    if std::env::var_os("SYSTEM_FULL").is_none() {
        eprintln!("only with SYSTEM_FULL=1: it takes many minutes and needs the archive's network");
        return;
    }
    let System { image, key } = system(FULL);
    for (suite, cpus) in [("bookworm", "1"), ("bookworm-backports", "2")] {
        let folder = Folder::new(suite);
        let disk = folder.over(&image);
        let mut options = vec!["--net".to_owned()];
        let port = free_port();
        options.push(format!("user,hostfwd=tcp:127.0.0.1:{port}-:22"));
        for (name, size) in [("nine", 9u64 << 30), ("two", 2 << 40)] {
            let path = folder.0.join(name);
            std::fs::File::create(&path).and_then(|file| file.set_len(size)).expect("a sparse file");
            options.extend(["--disk".to_owned(), path.display().to_string()]);
        }
        let mut shell = start(suite, cpus, &disk, &options);
        shell.command("systemctl enable --now systemd-networkd systemd-resolved");
        ssh_and_scp(&mut shell, &folder, &key, port);
        healthy(&mut shell);
        assert_eq!(
            shell.long("apt-get -qq update >/tmp/log 2>&1; echo $?", LIMIT),
            "0",
            "{}",
            shell.command("cat /tmp/log")
        );
        assert_eq!(shell.long("apt-get -qq install -y tree >/tmp/log 2>&1; echo $?", LIMIT), "0");
        assert!(shell.command("tree --version").contains("tree v"));
        large_disks(&mut shell);
        // A reboot while disks are written to: the journal makes good what was under way.
        shell.command("mount /dev/vdb /mnt/vdb");
        shell.command("(fio --name=w --directory=/mnt/vdb --size=64M --rw=randwrite --loops=1000 --fsync=8 >/dev/null &) ; sleep 3");
        shell.again("reboot -f", "root", "vmm", LIMIT);
        shell.command("mkdir -p /mnt/vdb; mount /dev/vdb /mnt/vdb && umount /mnt/vdb");
        assert_eq!(shell.long("e2fsck -fn /dev/vdb >/tmp/fsck 2>&1; echo $?", LIMIT), "0");
        healthy(&mut shell);
        assert_eq!(shell.end("systemctl poweroff").status.code(), Some(0));
        sound(&folder, &disk);
    }
}
