//! What a mirror of the Debian archive sends before any of it is trusted.

use std::sync::OnceLock;

use images::debian::{Keyring, Release, compare_versions};

/// A signed message, a keyring, a release file, versions, a cpio archive.
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
    if let Some((a, b)) = text.split_once(' ') {
        assert_eq!(compare_versions(a, b), compare_versions(b, a).reverse());
    }
}
