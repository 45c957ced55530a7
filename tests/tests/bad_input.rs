//! Wrong files on the command line: each gets an error that names the option and says what was found.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;
use tests::linux::debian;
use tests::monitor::program;
use tests::process::{Finished, run};

fn folder() -> PathBuf {
    let folder = std::env::temp_dir().join(format!("vmm-bad-input-{}", std::process::id()));
    std::fs::create_dir_all(&folder).expect("a temporary folder");
    folder
}

fn file(name: &str, contents: &[u8]) -> PathBuf {
    let path = folder().join(name);
    std::fs::write(&path, contents).expect("a temporary file");
    path
}

fn vmm(arguments: &[&dyn AsRef<std::ffi::OsStr>]) -> Finished {
    let mut command = Command::new(program());
    command.arg("run").args(arguments.iter().map(AsRef::as_ref));
    run(&mut command, Duration::from_secs(60))
}

/// `vmm run --kernel FILE` ends with 254 and says one of the words.
fn refused(what: &str, kernel: &Path, words: &[&str]) {
    let finished = vmm(&[&"--kernel", &kernel]);
    let said = finished.stderr.to_lowercase();
    assert_eq!(finished.status.code(), Some(254), "{what}: {}", finished.stderr);
    assert!(
        words.iter().any(|word| said.contains(&word.to_lowercase())),
        "{what}: expected {words:?} in: {}",
        finished.stderr
    );
}

#[test]
fn kernels_of_the_wrong_kind() {
    let mut bz_image = vec![0; 4096];
    bz_image[0x1fe..0x200].copy_from_slice(&[0x55, 0xaa]);
    bz_image[0x202..0x206].copy_from_slice(b"HdrS");
    refused("an x86 kernel", &file("bzImage", &bz_image), &["x86"]);
    refused("an empty file", &file("empty", b""), &["empty"]);
    refused("a text", &file("text", b"#!/bin/sh\necho hello\n"), &["script", "text", "not a kernel", "no kernel"]);
    refused("a directory", &folder(), &["directory"]);
    refused("nothing", &folder().join("missing"), &["cannot be read", "no such file"]);
    refused("this test, an x86-64 ELF", &std::env::current_exe().expect("a path"), &["x86"]);
    refused("an initramfs", &file("cpio", b"070701000000000000000000000000"), &["--initrd", "cpio"]);
    refused("a broken gzip", &file("gz", &[0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 3, 1, 2, 3]), &["gzip"]);
}

#[test]
fn kernels_that_are_cut_off_or_do_not_fit() {
    let guest = debian("bookworm", "linux-image-cloud-arm64");
    let kernel = std::fs::read(&guest.kernel).expect("the kernel");
    refused("a kernel's first half of a header", &file("short", &kernel[..48]), &["truncated", "short", "bytes"]);
    let no_room = vmm(&[&"--kernel", &guest.kernel, &"--memory", &"16M"]);
    assert_eq!(no_room.status.code(), Some(254), "{}", no_room.stderr);
    assert!(no_room.stderr.contains("--memory"), "{}", no_room.stderr);
    let huge = folder().join("huge");
    std::fs::File::create(&huge).and_then(|file| file.set_len(3 << 30)).expect("a sparse file");
    let no_room = vmm(&[&"--kernel", &guest.kernel, &"--memory", &"256M", &"--initrd", &huge]);
    assert_eq!(no_room.status.code(), Some(254), "{}", no_room.stderr);
    assert!(no_room.stderr.contains("--memory"), "{}", no_room.stderr);
}

#[test]
fn options_that_make_no_sense() {
    for arguments in [
        &["--cpus", "0"][..],
        &["--memory", "banana"],
        &["--engine", "warp"],
        &["--console", "moon"],
        &["--cpu", "6502"],
    ] {
        let mut command = Command::new(program());
        let finished = run(command.arg("run").args(arguments), Duration::from_secs(20));
        assert_eq!(finished.status.code(), Some(254), "{arguments:?}: {}", finished.stderr);
        assert!(finished.stderr.contains(arguments[0]), "{arguments:?}: {}", finished.stderr);
    }
}
