//! What a mirror of the Debian archive sends before any of it is trusted.

use std::io::Read;
use std::path::PathBuf;
use std::sync::OnceLock;

use images::debian::{Keyring, PackageIndex, Release, compare_versions, relation};
use images::{compression, cpio, deb, lock, tarball};

/// Most bytes that a decompressor may give.
const MAX_PLAIN: u64 = 1 << 20;

/// A signed message, a keyring, a release file, versions, cpio and tar archives, an index of packages, compressed data, a
/// lock file.
pub fn archive(data: &[u8]) {
    static KEYS: OnceLock<Keyring> = OnceLock::new();
    let keys = KEYS.get_or_init(|| Keyring::built_in().expect("part of the program"));
    let signed = [b"-----BEGIN PGP SIGNED MESSAGE-----\nHash: SHA256\n\n".as_slice(), data].concat();
    for message in [data, &signed] {
        assert!(keys.verified_text("input", message, 1_800_000_000).is_err(), "nobody signed this");
    }
    let _ = Keyring::parse("input", data);
    let _ = images::cpio::read(data);
    let _ = images::cpio::read(&[b"070701".as_slice(), data].concat());
    let text = String::from_utf8_lossy(data);
    let _ = Release::parse(&text, "bookworm");
    let _ = Release::parse(&format!("Codename: bookworm\nDate: {text}"), "bookworm");
    archives(data);
    let mut index = PackageIndex::new("arm64");
    index.add(text.clone().into_owned(), 0);
    index.add(format!("Package: a\nVersion: 1\nArchitecture: all\nProvides: {text}"), 0);
    let names: Vec<&str> = index.names().collect();
    names.iter().for_each(|name| drop(index.named(name)));
    let _ = (index.base(), index.providing("a"), relation::parse(&text, "arm64"));
    let _ = lock::Lock::parse(&text);
    if let Some((a, b)) = text.split_once(' ') {
        assert_eq!(compare_versions(a, b), compare_versions(b, a).reverse());
    }
}

/// A package: the bytes as they are, and as a part of one that is else made right.
pub fn package(data: &[u8]) {
    let file = FILE.with(|file| file.path.clone());
    let read = |bytes: &[u8]| {
        std::fs::write(&file, bytes).expect("a temporary file");
        let _ = deb::read_control(&file);
        let _ = deb::read_files(&file, |_| true, MAX_PLAIN);
        if let Ok(reader) = deb::data(&file) {
            let _ = std::io::copy(&mut reader.take(MAX_PLAIN), &mut std::io::sink());
        }
    };
    read(data);
    read(&[b"!<arch>\n", data].concat());
    let member = |name: &str, bytes: &[u8]| {
        let mut member =
            format!("{name:<16}{:<12}{:<6}{:<6}{:<8}{:<10}`\n", 0, 0, 0, 100_644, bytes.len()).into_bytes();
        member.extend(bytes);
        member.resize(member.len().next_multiple_of(2), b'\n');
        member
    };
    let beginning = [b"!<arch>\n".as_slice(), &member("debian-binary", b"2.0\n")].concat();
    read(&[&beginning, data].concat());
    for (control, contents) in
        [("control.tar", "data.tar"), ("control.tar.gz", "data.tar.xz"), ("control.tar", "data.tar.zst")]
    {
        read(&[beginning.as_slice(), &member(control, data), &member(contents, data)].concat());
    }
}

thread_local! {
    static FILE: Temporary = Temporary {
        path: std::env::temp_dir().join(format!("fuzz-{}-{:?}.deb", std::process::id(), std::thread::current().id())),
    };
}

/// The file that packages are read from, removed at the end.
struct Temporary {
    path: PathBuf,
}

impl Drop for Temporary {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.path);
    }
}

/// Archives, plain and compressed.
fn archives(data: &[u8]) {
    let mut archive = cpio::Reader::new(data);
    while let Ok(Some(_)) = archive.next_entry() {}
    let mut archive = tarball::Reader::new(data);
    while let Ok(Some(_)) = archive.next_entry() {}
    // A header whose checksum is right leads further.
    let mut header: Vec<u8> = data.iter().copied().take(512).collect();
    header.resize(512, 0);
    let sum: u32 =
        header.iter().enumerate().map(|(at, &byte)| if (148..156).contains(&at) { 32 } else { u32::from(byte) }).sum();
    header[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
    header.extend(data.iter().skip(512));
    let mut archive = tarball::Reader::new(header.as_slice());
    while let Ok(Some(_)) = archive.next_entry() {}
    for magic in [b"".as_slice(), b"\x1f\x8b\x08\0", b"\xfd7zXZ\0\0\x04", b"\x28\xb5\x2f\xfd"] {
        let bytes = [magic, data].concat();
        if let Ok(reader) = compression::reader(bytes.as_slice()) {
            let _ = std::io::copy(&mut reader.take(MAX_PLAIN), &mut std::io::sink());
        }
    }
}
