//! virtio-blk and virtio-rng under Debian's kernels: what the guest writes is in the image, and nothing else.

use std::path::PathBuf;
use tests::linux::{Shell, debian};

const MIB: usize = 1 << 20;

/// A file of this test's own that is gone afterwards.
struct Image(PathBuf);

impl Image {
    fn new(name: &str, contents: &[u8]) -> Image {
        let path = std::env::temp_dir().join(format!("vmm-test-{}-{name}.img", std::process::id()));
        std::fs::write(&path, contents).expect("an image");
        Image(path)
    }
    fn option(&self, rest: &str) -> [String; 2] {
        ["--disk".to_owned(), format!("{}{rest}", self.0.display())]
    }
    fn contents(&self) -> Vec<u8> {
        std::fs::read(&self.0).expect("the image")
    }
}

impl Drop for Image {
    fn drop(&mut self) {
        // Nothing more can be done about a file that does not go.
        let _ = std::fs::remove_file(&self.0);
    }
}

fn pattern(len: usize) -> Vec<u8> {
    tests::pattern(len, 1)
}

fn boot(cpus: u32, options: &[[String; 2]]) -> Shell {
    let guest = debian("bookworm", "linux-image-cloud-arm64");
    Shell::boot_with("auto", &guest, cpus, "256M", "quiet", &options.concat())
}

fn no_complaints(shell: &mut Shell) {
    let complaints = shell.command("dmesg | grep -iE 'bug:|call trace|i/o error'");
    assert_eq!(complaints, "");
}

/// Both ways to a disk.
fn transport(how: &str) -> [String; 2] {
    ["--transport".to_owned(), how.to_owned()]
}

/// Interrupts that Linux counts by what delivers them: message-signalled ones say "ITS-MSI".
fn interrupts(shell: &mut Shell) -> String {
    shell.command("grep virtio /proc/interrupts")
}

#[test]
fn what_the_guest_copies_is_in_the_image_by_pci() {
    let mut shell = copies("pci", "bookworm");
    assert_eq!(shell.command("ls /sys/bus/pci/devices | wc -l"), "4", "the bridge and three functions");
    let table = interrupts(&mut shell);
    for name in ["virtio0-req.0", "virtio1-req.0", "virtio1-req.1"] {
        assert!(table.lines().any(|line| line.contains("ITS-MSI") && line.ends_with(name)), "{name}: {table}");
    }
    // A function that is reset and bound again works as before.
    // Short lines: the terminal breaks long ones.
    shell.command("cd /sys/bus/pci/devices; d=0000:00:02.0");
    assert_eq!(shell.command("echo $d > $d/driver/unbind; echo $?"), "0");
    assert_eq!(shell.command("cat $d/reset_method"), "flr");
    assert_eq!(shell.command("echo 1 > $d/reset; echo $?"), "0");
    shell.command("cd /sys/bus/pci/drivers/virtio-pci");
    assert_eq!(shell.command("echo $d > bind; echo $?"), "0");
    shell.command("cd /");
    assert_eq!(shell.command("cmp /dev/vda /dev/vdb && echo same"), "same");
    assert_eq!(shell.end("poweroff -f").status.code(), Some(0));
}

#[test]
fn what_the_guest_copies_is_in_the_image_by_mmio() {
    let mut shell = copies("mmio", "bookworm");
    let table = interrupts(&mut shell);
    assert!(table.contains("GICv3") && !table.contains("ITS"), "{table}");
    assert_eq!(shell.end("poweroff -f").status.code(), Some(0));
}

#[test]
fn a_newer_kernel_copies_by_pci() {
    let shell = copies("pci", "bookworm-backports");
    assert_eq!(shell.end("poweroff -f").status.code(), Some(0));
}

#[test]
fn without_messages_the_functions_interrupt_by_a_shared_wire() {
    let from = Image::new("intx", &pattern(4 * MIB));
    let guest = debian("bookworm", "linux-image-cloud-arm64");
    // Five disks: two of them on the same pin.
    let options: Vec<[String; 2]> = (0..5).map(|_| from.option(",readonly")).collect();
    let mut shell = Shell::boot_with("auto", &guest, 2, "256M", "quiet pci=nomsi", &options.concat());
    assert_eq!(shell.command("cd /dev; for d in b c d e; do cmp vda vd$d; done"), "");
    let table = interrupts(&mut shell);
    assert!(table.contains("GICv3") && !table.contains("ITS"), "{table}");
    assert!(table.contains("virtio0, virtio4") || table.contains("virtio0,virtio4"), "{table}");
    no_complaints(&mut shell);
    assert_eq!(shell.end("poweroff -f").status.code(), Some(0));
}

/// Copies a disk to another under the kernel of `suite`.
fn copies(how: &str, suite: &str) -> Shell {
    let (from, to) = (
        Image::new(&format!("from-{how}-{suite}"), &pattern(24 * MIB)),
        Image::new(&format!("to-{how}-{suite}"), &vec![0; 24 * MIB]),
    );
    let guest = debian(suite, "linux-image-cloud-arm64");
    let options = [from.option(",readonly,serial=ORIGIN"), to.option(",queues=2,cache=none"), transport(how)];
    let mut shell = Shell::boot_with("auto", &guest, 2, "256M", "quiet", &options.concat());
    assert_eq!(shell.command("cd /sys/block; cat vda/serial; echo; cat vda/ro vdb/ro"), "ORIGIN\n1\n0");
    assert_eq!(shell.command("cat vdb/size; ls vdb/mq | wc -l"), "49152\n2");
    shell.command("dd if=/dev/vda of=/dev/vdb bs=256k conv=fsync");
    assert!(to.contents() == pattern(24 * MIB), "the copy differs");
    shell.command("echo 3 > /proc/sys/vm/drop_caches");
    assert_eq!(shell.command("cmp /dev/vda /dev/vdb && echo same"), "same");
    let refused = shell.command("dd if=/dev/zero of=/dev/vda bs=4k count=1 || echo refused");
    assert!(refused.contains("refused"), "{refused}");
    no_complaints(&mut shell);
    assert!(from.contents() == pattern(24 * MIB), "the origin changed");
    shell
}

#[test]
fn ephemeral_writes_vanish_and_survive_a_reboot_of_the_guest() {
    let image = Image::new("ephemeral", &pattern(8 * MIB));
    let mut shell = boot(1, &[image.option(",ephemeral")]);
    shell.command("echo changed | dd of=/dev/vda bs=512 seek=3 conv=fsync,notrunc");
    shell.until("reboot -f", tests::linux::PROMPT, tests::linux::BOOT_LIMIT);
    assert_eq!(shell.command("head -c 1543 /dev/vda | tail -c 7"), "changed");
    assert_eq!(shell.end("poweroff -f").status.code(), Some(0));
    assert!(image.contents() == pattern(8 * MIB), "the image changed");
}

#[test]
fn entropy_comes_from_the_host() {
    let mut shell = boot(1, &[]);
    assert_eq!(shell.command("cat /sys/class/misc/hw*/rng_current"), "virtio_rng.0");
    let (one, two) = (shell.command("head -c 32 /dev/hwrng | md5sum"), shell.command("head -c 32 /dev/hwrng | md5sum"));
    assert_ne!(one, two);
    no_complaints(&mut shell);
    assert_eq!(shell.end("poweroff -f").status.code(), Some(0));
}

#[test]
fn a_disk_in_use_is_refused() {
    let image = Image::new("locked", &[0; MIB]);
    let shell = boot(1, &[image.option("")]);
    let guest = debian("bookworm", "linux-image-cloud-arm64");
    let second = tests::monitor::run_with("auto")
        .arg("--kernel")
        .arg(&guest.kernel)
        .args(["--timeout", "60", "--disk"])
        .arg(&image.0)
        .output();
    assert_eq!(shell.end("poweroff -f").status.code(), Some(0));
    let second = second.expect("vmm runs");
    assert_eq!(second.status.code(), Some(254));
    let text = String::from_utf8_lossy(&second.stderr).into_owned();
    assert!(text.contains("in use") && text.contains("ephemeral"), "{text}");
}

/// Loads the drivers, copies a disk, compares, powers off: without a shell that waits for somebody.
const COPY: &str = "console=ttyAMA0 quiet rdinit=/bin/busybox -- sh -c \"busybox mount -t devtmpfs d /dev; \
     while read m; do busybox insmod /lib/modules/$m; done </lib/modules/order; \
     busybox dd if=/dev/vda of=/dev/vdb bs=4k conv=fsync; \
     busybox cmp /dev/vda /dev/vdb && busybox echo SAME; busybox poweroff -f\"";

#[test]
fn a_guest_saved_while_it_uses_its_disks_by_pci_goes_on() {
    saved_and_continued("pci");
}

#[test]
fn a_guest_saved_while_it_uses_its_disks_by_mmio_goes_on() {
    saved_and_continued("mmio");
}

fn saved_and_continued(how: &str) {
    let guest = debian("bookworm", "linux-image-cloud-arm64");
    let (from, to) = (
        Image::new(&format!("saved-from-{how}"), &pattern(24 * MIB)),
        Image::new(&format!("saved-to-{how}"), &vec![0; 24 * MIB]),
    );
    let state = Image::new(&format!("state-{how}"), &[]);
    let run = |more: &[String]| {
        let mut command = tests::monitor::run_with("auto");
        command.arg("--kernel").arg(&guest.kernel).arg("--initrd").arg(&guest.initrd);
        command.args(["--memory", "256M", "--timeout", "200", "--append", COPY]);
        command.args(transport(how)).args(from.option("")).args(to.option("")).args(more);
        let finished = tests::process::run(&mut command, tests::linux::BOOT_LIMIT);
        assert_eq!(finished.status.code(), Some(0), "{more:?}: {}{}", finished.stdout, finished.stderr);
        finished
    };
    let whole = run(&[]);
    assert!(whole.stdout.contains("SAME"), "{}", whole.stdout);
    for part in [0.7, 0.8, 0.9] {
        std::fs::write(&to.0, vec![0; 24 * MIB]).expect("zeros");
        std::fs::write(&state.0, []).expect("nothing");
        let seconds = whole.elapsed.as_secs_f64() * part;
        let mut text = run(&["--save-after".to_owned(), format!("{seconds}:{}", state.0.display())]).stdout;
        // A run that was quicker than the first has ended by itself.
        if !state.contents().is_empty() {
            text += &run(&["--load".to_owned(), state.0.display().to_string()]).stdout;
        }
        assert!(text.contains("SAME"), "saved at {part}: {text}");
        assert!(to.contents() == pattern(24 * MIB), "saved at {part}: the copy differs");
    }
}

/// Runs `qemu-img`.
fn qemu_img(arguments: &[&str]) {
    let output = std::process::Command::new("qemu-img").args(arguments).output().expect("qemu-img (qemu-utils)");
    let text = String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "qemu-img {arguments:?}: {text}");
}

#[test]
fn a_guest_copies_into_a_qcow2_over_a_compressed_one() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = |name: &str| folder.path().join(name).display().to_string();
    let (from, contents) = (Image::new("qcow2-from", &pattern(16 * MIB)), path("contents.raw"));
    let old = Image::new("qcow2-old", &vec![3; 16 * MIB]);
    qemu_img(&["convert", "-c", "-O", "qcow2", &old.0.display().to_string(), &path("base.qcow2")]);
    qemu_img(&["create", "-q", "-f", "qcow2", "-b", "base.qcow2", "-F", "qcow2", &path("top.qcow2")]);
    let to = ["--disk".to_owned(), path("top.qcow2") + ",format=qcow2,queues=2"];
    let mut shell = boot(2, &[from.option(",readonly"), to]);
    assert_eq!(shell.command("head -c 2 /dev/vdb | md5sum | cut -c 1-8"), "ac2bfee6", "bytes 3, 3");
    shell.command("dd if=/dev/vda of=/dev/vdb bs=64k count=128 conv=fsync");
    shell.command("dd if=/dev/vda of=/dev/vdb bs=512 skip=30001 seek=30001 count=7 conv=fsync");
    no_complaints(&mut shell);
    assert_eq!(shell.end("poweroff -f").status.code(), Some(0));
    qemu_img(&["check", "-q", &path("top.qcow2")]);
    qemu_img(&["convert", "-O", "raw", &path("top.qcow2"), &contents]);
    let (mut expected, new) = (vec![3; 16 * MIB], pattern(16 * MIB));
    expected[..8 * MIB].copy_from_slice(&new[..8 * MIB]);
    expected[30001 * 512..30008 * 512].copy_from_slice(&new[30001 * 512..30008 * 512]);
    assert!(std::fs::read(contents).expect("contents") == expected, "the copy differs");
}

/// The guest writes numbered blocks and says each number when it is permanent; `vmm` is killed at some time.
#[test]
fn what_was_said_to_be_permanent_survives_a_kill() {
    let few = tests::monitor::rounds(3) as usize;
    let rounds = std::env::var("KILL_ROUNDS").ok().and_then(|n| n.parse().ok()).unwrap_or(few);
    let folder = tempfile::tempdir().expect("a folder");
    let (image, contents) = (folder.path().join("a.qcow2"), folder.path().join("contents.raw"));
    let (image, contents) = (image.display().to_string(), contents.display().to_string());
    qemu_img(&["create", "-q", "-f", "qcow2", &image, "64M"]);
    for round in 0..rounds {
        let mut shell = boot(1, &[["--disk".to_owned(), image.clone()]]);
        let last = 10 + 7 * round;
        // Block n of 64 KiB begins with the line "n".
        let line =
            "n=0; while n=$((n+1)); do echo $n | dd of=/dev/vda bs=64k seek=$n conv=fsync 2>/dev/null; echo =$n; done";
        shell.until(line, &format!("={last}\r\n"), std::time::Duration::from_secs(100));
        let id = shell.process().id().to_string();
        assert!(std::process::Command::new("kill").args(["-9", &id]).status().expect("kill").success());
        drop(shell);
        // Clusters that nobody uses are all that a kill may leave.
        let check = std::process::Command::new("qemu-img").args(["check", &image]).output().expect("qemu-img");
        assert!(matches!(check.status.code(), Some(0 | 3)), "{}", String::from_utf8_lossy(&check.stdout));
        qemu_img(&["convert", "-O", "raw", &image, &contents]);
        let bytes = std::fs::read(&contents).expect("contents");
        for n in 1..=last {
            let text = format!("{n}\n");
            assert!(bytes[n * 0x1_0000..].starts_with(text.as_bytes()), "round {round}: block {n} of {last} is lost");
        }
    }
}

#[test]
fn injected_faults_are_errors_for_the_guest() {
    let image = Image::new("faults", &pattern(4 * MIB));
    let inject = |fault: &str| ["--inject".to_owned(), fault.to_owned()];
    let mut shell = boot(1, &[image.option(""), inject("blk0:eio@100-107"), inject("blk0:flush-fail@1")]);
    shell.command("dmesg -n 1; cd /dev");
    assert_eq!(shell.command("dd if=vda bs=4k skip=12 count=1 2>&1 | grep -c rror"), "1");
    assert_eq!(shell.command("dd if=vda bs=4k skip=14 count=1 2>/dev/null | wc -c"), "4096");
    let flush = shell.command("dd if=vda of=vda count=8 conv=fsync,notrunc 2>&1");
    assert!(flush.contains("rror"), "{flush}");
    assert!(shell.command("dmesg | grep -i 'i/o error'").contains("vda"));
    assert_eq!(shell.end("poweroff -f").status.code(), Some(0));
    assert!(image.contents() == pattern(4 * MIB));
}

#[test]
fn a_full_host_disk_pauses_the_guest_until_there_is_room() {
    let image = Image::new("full", &vec![0; 4 * MIB]);
    // Writes 2 to 4 find no room, each tried anew after a pause; the fifth does.
    let inject = ["--inject".to_owned(), "blk:enospc@2-4".to_owned()];
    let mut shell = boot(1, &[image.option(""), inject]);
    shell.command("for n in 0 1 2 3; do echo $n | dd of=/dev/vda bs=64k seek=$n conv=fsync,notrunc; done");
    no_complaints(&mut shell);
    let finished = shell.end("poweroff -f");
    assert_eq!(finished.status.code(), Some(0));
    assert_eq!(finished.stderr.matches("no room").count(), 1, "{}", finished.stderr);
    for n in 0..4u8 {
        assert_eq!(image.contents()[usize::from(n) << 16], b'0' + n);
    }
}
