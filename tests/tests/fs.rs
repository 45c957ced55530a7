//! virtio-fs under Debian's kernels: a tree of the host copied to and fro, owners, attempts to get out, reading only.

use std::os::unix::fs::{MetadataExt, symlink};
use std::path::Path;

use tests::linux::{Shell, debian};

/// A folder `shared` with a tree of files, and a secret beside it.
fn tree() -> tempfile::TempDir {
    let all = tempfile::tempdir().expect("a folder");
    let folder = all.path().join("shared");
    std::fs::create_dir(&folder).expect("a folder");
    let mut state = 1u64;
    for n in 0..400usize {
        let place = folder.join(format!("from/{}/{}", n % 7, n % 3));
        std::fs::create_dir_all(&place).expect("a folder");
        let contents: Vec<u8> = (0..(n * 397) % 100_000)
            .map(|_| {
                state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
                (state >> 33) as u8
            })
            .collect();
        std::fs::write(place.join(format!("file {n}")), contents).expect("a file");
    }
    std::fs::write(folder.join("from/large"), vec![0x5a; 40 << 20]).expect("a file");
    std::fs::write(all.path().join("secret"), "secret").expect("a file");
    symlink("../secret", folder.join("out")).expect("a link");
    symlink("..", folder.join("up")).expect("a link");
    all
}

fn boot(suite: &str, transport: &str, folder: &Path, more: &str) -> Shell {
    let guest = debian(suite, "linux-image-cloud-arm64");
    let fs = format!("tag=work,dir={}{more}", folder.join("shared").display());
    let options = ["--fs", &fs, "--transport", transport].map(str::to_owned);
    let mut shell = Shell::boot_with("auto", &guest, 2, "256M", "quiet", &options);
    shell.command("dmesg -n 1; mkdir /work; mount -t virtiofs work /work");
    shell
}

/// All files below a folder with their contents' hashes, as the guest's tools and the host's say it.
const SUMS: &str = "find . -type f | sort | xargs -d '\\n' md5sum | md5sum";

fn host_sums(folder: &Path) -> String {
    let output = std::process::Command::new("sh").args(["-c", SUMS]).current_dir(folder).output().expect("md5sum");
    String::from_utf8_lossy(&output.stdout).trim().to_owned()
}

fn copies(suite: &str, transport: &str) {
    let all = tree();
    let folder = all.path().join("shared");
    let mut shell = boot(suite, transport, all.path(), "");
    let expected = host_sums(&folder.join("from"));
    let in_guest = "find . -type f -exec md5sum {} + | sort -k 2 | md5sum";
    assert_eq!(shell.command(&format!("cd /work/from && {in_guest}; cd /")), expected);
    // Out of the folder, then into it again.
    shell.command("cp -a /work/from /tmp/copy && cp -a /tmp/copy /work/to; sync");
    assert_eq!(host_sums(&folder.join("to")), expected);
    assert_eq!(shell.command("diff -r /work/from /work/to && echo same"), "same");
    // What one side does the other sees.
    shell.command(
        "mkdir /work/new; echo by the guest >/work/new/file; chmod 640 /work/new/file; ln -s file /work/new/link",
    );
    let made = std::fs::metadata(folder.join("new/file")).expect("the guest's file");
    assert_eq!(made.mode() & 0o7777, 0o640);
    assert_eq!(made.uid(), std::fs::metadata(&folder).expect("a folder").uid(), "the guest's root is this user");
    assert_eq!(shell.command("stat -c '%u:%g %a' /work/new/file"), "0:0 640");
    assert_eq!(std::fs::read_link(folder.join("new/link")).expect("a link").to_str(), Some("file"));
    std::fs::write(folder.join("new/file"), "by the host").expect("a file");
    assert_eq!(shell.command("sleep 1.1; cat /work/new/link"), "by the host");
    shell.command("mv /work/new/file /work/new/renamed; rm -r /work/to");
    assert!(folder.join("new/renamed").exists() && !folder.join("to").exists());
    // The guest follows links in its own root only.
    assert_eq!(shell.command("cat /work/out 2>&1 | grep -c 'No such file'"), "1");
    assert_eq!(shell.command("ls /work/up/ | grep -c '^secret$'"), "0");
    shell.command("rm -f /work/out; ln -s /etc/passwd /work/out; echo x >>/work/up/secret");
    assert_eq!(std::fs::read(all.path().join("secret")).expect("the secret"), b"secret");
    assert_eq!(shell.command("df /work | grep -c work"), "1");
    assert_eq!(shell.command("umount /work && mount -t virtiofs work /work && cat /work/new/renamed"), "by the host");
    assert_eq!(shell.command("dmesg | grep -iE 'bug:|call trace|fuse.*error'"), "");
    assert_eq!(shell.end("poweroff -f").status.code(), Some(0));
}

#[test]
fn a_tree_is_copied_by_pci() {
    copies("bookworm", "pci");
}

#[test]
fn a_tree_is_copied_by_mmio_with_a_newer_kernel() {
    copies("bookworm-backports", "mmio");
}

#[test]
fn a_folder_for_reading_only_stays_as_it_is() {
    let all = tree();
    let mut shell = boot("bookworm", "pci", all.path(), ",ro");
    let before = host_sums(&all.path().join("shared"));
    for line in [
        "echo x >/work/new",
        "rm /work/from/large",
        "mkdir /work/d",
        "chmod 777 /work/from",
        "echo x >>/work/from/large",
    ] {
        assert_eq!(shell.command(&format!("({line}) 2>&1 | grep -c 'Read-only'")), "1", "{line}");
    }
    assert_eq!(shell.command("head -c 3 /work/from/large"), "ZZZ");
    assert_eq!(shell.end("poweroff -f").status.code(), Some(0));
    assert_eq!(host_sums(&all.path().join("shared")), before);
}

#[test]
fn a_guest_that_reboots_mounts_again() {
    let all = tree();
    let mut shell = boot("bookworm", "pci", all.path(), "");
    shell.command("exec 3>/work/held; echo one >&3");
    shell.until("reboot -f", tests::linux::PROMPT, tests::linux::BOOT_LIMIT);
    assert_eq!(shell.command("mkdir /work; mount -t virtiofs work /work; cat /work/held"), "one");
    assert_eq!(shell.end("poweroff -f").status.code(), Some(0));
}
