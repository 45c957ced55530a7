//! The two roots that are measured: Debian packages of the same names and release for arm64, as an initramfs, and for the
//! host's own architecture, as a directory. Unpacked only: no maintainer script runs, so nothing needs to be configured.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};

use images::cache::{Cache, Sha256Sum};
use images::cpio::Writer;
use images::deb::{DebNode, read_entries};
use images::debian::{Archive, ArchiveOptions};
use images::progress::Progress;

use crate::exit::{Failure, explain};

/// The release that is measured: one and the same, so that figures of different times can be compared.
pub const SUITE: &str = "bookworm";
/// Changes when roots are made in another way.
const RECIPE: &str = "1";
/// Greatest size of the contents of one package.
const MAX_CONTENTS: u64 = 512 << 20;

/// The packages of both roots, with what they load.
const PACKAGES: [&str; 46] = [
    "base-files",
    "bash",
    "binutils",
    "binutils-common",
    "busybox-static",
    "coreutils",
    "cpp-12",
    "gcc-12",
    "gzip",
    "libacl1",
    "libattr1",
    "libbinutils",
    "libbz2-1.0",
    "libc6",
    "libcrypt1",
    "libctf0",
    "libexpat1",
    "libffi8",
    "libgcc-s1",
    "libgfortran5",
    "libgmp10",
    "libisl23",
    "libjansson4",
    "liblz4-1",
    "liblzma5",
    "libmpc3",
    "libmpfr6",
    "libopenblas0-pthread",
    "libpcre2-8-0",
    "libpython3.11-minimal",
    "libpython3.11-stdlib",
    "libselinux1",
    "libssl3",
    "libstdc++6",
    "libtinfo6",
    "libuuid1",
    "libzstd1",
    "openssl",
    "perl-base",
    "perl-modules-5.36",
    "python3-numpy",
    "python3.11",
    "python3.11-minimal",
    "xz-utils",
    "zlib1g",
    "zstd",
];

/// What the programs do not need: documentation, other compilers' halves, tests, static libraries.
const UNWANTED: [&str; 16] = [
    "usr/share/doc/",
    "usr/share/man/",
    "usr/share/info/",
    "usr/share/locale/",
    "usr/share/lintian/",
    "usr/share/perl/5.36.0/pod/",
    "usr/share/perl/5.36.0/unicore/",
    "/lto1",
    "/lto-wrapper",
    "/g++-mapper-server",
    "/12/plugin/",
    "/tests/",
    "/idlelib/",
    "/lib2to3/",
    "/ensurepip/",
    "/f2py/",
];

/// Directories that Debian has merged into `/usr`: packages may still name them.
pub(super) const MERGED: [&str; 4] = ["bin", "lib", "lib64", "sbin"];
/// Directories that are there without a package's saying so.
pub(super) const MADE: [&str; 9] = ["bench", "dev", "etc", "proc", "root", "run", "sys", "tmp", "usr"];

/// The measured programs' files, in the root's `/bench`.
const WORK: [(&str, &str); 11] = [
    ("run.sh", include_str!("work/run.sh")),
    ("prepare.py", include_str!("work/prepare.py")),
    ("loops.py", include_str!("work/loops.py")),
    ("documents.py", include_str!("work/documents.py")),
    ("crypto.py", include_str!("work/crypto.py")),
    ("arrays.py", include_str!("work/arrays.py")),
    ("regex.pl", include_str!("work/regex.pl")),
    ("hash.pl", include_str!("work/hash.pl")),
    ("program.c", include_str!("work/program.c")),
    ("unit.h", include_str!("work/unit.h")),
    ("init.sh", include_str!("work/init.sh")),
];

/// A root as names below it, parents before their contents.
pub(super) type Tree = BTreeMap<String, (u32, DebNode)>;

pub(super) fn failed(what: &str) -> impl Fn(io::Error) -> Failure {
    move |error| Failure::backend(format!("{what}: {error}"))
}

/// Changes whenever what is in a root does.
fn recipe() -> Sha256Sum {
    let work: String = WORK.iter().map(|(name, text)| format!("{name}\0{text}\0")).collect();
    Sha256Sum::of(format!("{RECIPE} {SUITE} {PACKAGES:?} {UNWANTED:?} {work}").as_bytes())
}

/// The initramfs of the arm64 root, from the cache if it was made before.
///
/// # Errors
/// When the archive, the cache or a package cannot be used.
pub fn initramfs(mirror: Option<&str>, cache: &Cache, progress: &dyn Progress) -> Result<PathBuf, Failure> {
    let noted = format!("bench-{}.initramfs", recipe());
    if let Some(path) = made_before(cache, &noted) {
        return Ok(path);
    }
    let tree = tree(mirror, "arm64", cache, progress)?;
    progress.begin("writing the initramfs of the benchmark", None);
    let bytes = write_cpio(&tree).map_err(failed("Cannot write the initramfs of the benchmark"))?;
    let kept = keep(cache, &noted, &bytes);
    progress.end();
    kept
}

/// An initramfs that only powers off: what the time of a boot is taken with.
///
/// # Errors
/// As [`initramfs`].
pub fn boot_initramfs(mirror: Option<&str>, cache: &Cache, progress: &dyn Progress) -> Result<PathBuf, Failure> {
    let noted = format!("bench-{}.boot", recipe());
    if let Some(path) = made_before(cache, &noted) {
        return Ok(path);
    }
    let archive = open(mirror, "arm64", cache, progress)?;
    let tree = unpacked(&archive, &["busybox-static"], progress)?;
    let busybox = contents(&tree, "usr/bin/busybox");
    let busybox = busybox.ok_or_else(|| Failure::backend("The package busybox-static has no bin/busybox"))?;
    let write = || -> io::Result<Vec<u8>> {
        let mut writer = Writer::new(Vec::new(), 0);
        for name in ["bin", "dev"] {
            writer.directory(name, 0o755)?;
        }
        writer.character_device("dev/console", 0o600, 5, 1)?;
        writer.file("bin/busybox", 0o755, busybox)?;
        writer.file(
            "init",
            0o755,
            b"#!/bin/busybox sh\n/bin/busybox echo VMM-BENCH end\n/bin/busybox poweroff -f\n",
        )?;
        writer.finish()
    };
    let bytes = write().map_err(failed("Cannot write the initramfs of the boot"))?;
    keep(cache, &noted, &bytes)
}

/// Puts a file into the cache, to be found again by a note.
pub(super) fn keep(cache: &Cache, noted: &str, bytes: &[u8]) -> Result<PathBuf, Failure> {
    let (sum, path) = cache.put(bytes).map_err(|e| Failure::backend(explain(&e)))?;
    let note = format!("{sum} {}", bytes.len());
    cache.replace_named(noted, note.as_bytes()).map_err(|e| Failure::backend(explain(&e)))?;
    Ok(path)
}

pub(super) fn made_before(cache: &Cache, noted: &str) -> Option<PathBuf> {
    let note = fs::read_to_string(cache.named(noted)).ok()?;
    let (sum, size) = note.split_once(' ')?;
    cache.find(&Sha256Sum::parse(sum)?, size.parse().ok()?)
}

/// The directory with the host's root, made if it is not there.
///
/// # Errors
/// As [`initramfs`].
pub fn native(mirror: Option<&str>, cache: &Cache, progress: &dyn Progress) -> Result<PathBuf, Failure> {
    let root = cache.named(&format!("bench-{}.root", recipe()));
    if root.is_dir() {
        return Ok(root);
    }
    let tree = tree(mirror, "amd64", cache, progress)?;
    let part = cache.named(&format!("bench-{}.part", std::process::id()));
    progress.begin("writing the native root of the benchmark", None);
    write_directory(&tree, &part)
        .and_then(|()| fs::rename(&part, &root))
        .map_err(failed("Cannot write the native root of the benchmark"))?;
    progress.end();
    Ok(root)
}

pub(super) fn open(
    mirror: Option<&str>,
    architecture: &str,
    cache: &Cache,
    progress: &dyn Progress,
) -> Result<Archive, Failure> {
    let mut options = ArchiveOptions::new(SUITE);
    options.mirrors.extend(mirror.map(str::to_owned));
    options.architecture = architecture.to_owned();
    Archive::open(&options, cache, progress).map_err(|e| Failure::backend(explain(&e)))
}

/// The files of the packages.
pub(super) fn unpacked(archive: &Archive, packages: &[&str], progress: &dyn Progress) -> Result<Tree, Failure> {
    let mut tree = Tree::new();
    for name in packages {
        let package = archive.find(name).map_err(|e| Failure::backend(explain(&e)))?;
        let path = archive.fetch(&package, progress).map_err(|e| Failure::backend(explain(&e)))?;
        let entries = read_entries(&path, is_wanted, MAX_CONTENTS).map_err(|e| Failure::backend(explain(&e)))?;
        for entry in entries {
            let node = match entry.node {
                DebNode::HardLink(target) => DebNode::HardLink(merged(&target)),
                node => node,
            };
            tree.insert(merged(&entry.name), (entry.mode, node));
        }
    }
    Ok(tree)
}

/// The whole root for `architecture`.
fn tree(mirror: Option<&str>, architecture: &str, cache: &Cache, progress: &dyn Progress) -> Result<Tree, Failure> {
    let archive = open(mirror, architecture, cache, progress)?;
    let own = match architecture {
        "arm64" => ["binutils-aarch64-linux-gnu"].as_slice(),
        _ => &["binutils-x86-64-linux-gnu", "libquadmath0"],
    };
    let packages: Vec<&str> = PACKAGES.iter().chain(own).copied().collect();
    Ok(with_frame(unpacked(&archive, &packages, progress)?, &WORK))
}

/// A tree of packages with the directories that every root has, and the files of `work` in `/bench`.
pub(super) fn with_frame(mut tree: Tree, work: &[(&str, &str)]) -> Tree {
    for name in MADE {
        tree.insert(name.to_owned(), (if name == "tmp" { 0o1777 } else { 0o755 }, DebNode::Directory));
    }
    for name in MERGED {
        tree.insert(name.to_owned(), (0o777, DebNode::Symlink(format!("usr/{name}"))));
    }
    for (name, text) in work {
        let place = if *name == "init.sh" { "init".to_owned() } else { format!("bench/{name}") };
        tree.insert(place, (0o755, DebNode::File(text.as_bytes().to_vec())));
    }
    with_parents(&mut tree);
    tree
}

fn is_wanted(name: &str) -> bool {
    let slashed = format!("{name}/");
    !name.ends_with(".a") && !UNWANTED.iter().any(|part| slashed.contains(part) || name.ends_with(part))
}

/// The name under `/usr` of what lies in a merged directory.
fn merged(name: &str) -> String {
    let first = name.split('/').next().unwrap_or_default();
    if MERGED.contains(&first) { format!("usr/{name}") } else { name.to_owned() }
}

/// Adds directories that are named only as part of a path.
pub(super) fn with_parents(tree: &mut Tree) {
    let names: Vec<String> = tree.keys().cloned().collect();
    for name in names {
        let mut parent = Path::new(&name).parent();
        while let Some(directory) = parent.and_then(Path::to_str).filter(|directory| !directory.is_empty()) {
            tree.entry(directory.to_owned()).or_insert((0o755, DebNode::Directory));
            parent = Path::new(directory).parent();
        }
    }
}

/// The contents of a file, through hard links.
pub(super) fn contents<'a>(tree: &'a Tree, name: &str) -> Option<&'a [u8]> {
    match tree.get(name) {
        Some((_, DebNode::File(contents))) => Some(contents),
        _ => None,
    }
}

pub(super) fn write_cpio(tree: &Tree) -> io::Result<Vec<u8>> {
    let mut writer = Writer::new(Vec::new(), 0);
    // In the order of names, `a` stands before `a/b`.
    for (name, (mode, node)) in tree {
        match node {
            DebNode::Directory => writer.directory(name, *mode)?,
            DebNode::File(contents) => writer.file(name, *mode, contents)?,
            DebNode::Symlink(target) => writer.symlink(name, target)?,
            // Copies: the same file under two names is rare here.
            DebNode::HardLink(target) => writer.file(name, *mode, contents(tree, target).unwrap_or_default())?,
        }
    }
    writer.character_device("dev/console", 0o600, 5, 1)?;
    writer.character_device("dev/null", 0o666, 1, 3)?;
    writer.finish()
}

pub(super) fn write_directory(tree: &Tree, root: &Path) -> io::Result<()> {
    fs::create_dir_all(root)?;
    for (name, (mode, node)) in tree {
        let path = root.join(name);
        let file = match node {
            DebNode::Directory => {
                fs::create_dir(&path)?;
                continue;
            }
            DebNode::Symlink(target) => {
                symlink(target, &path)?;
                continue;
            }
            DebNode::File(contents) => contents,
            DebNode::HardLink(target) => contents(tree, target).unwrap_or_default(),
        };
        fs::write(&path, file)?;
        fs::set_permissions(&path, fs::Permissions::from_mode(*mode))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn documentation_is_left_out_and_merged_directories_move() {
        for name in ["usr/share/doc/bash/copyright", "usr/share/doc", "usr/lib/gcc/x/12/lto1", "usr/lib/libc.a"] {
            assert!(!is_wanted(name), "{name}");
        }
        assert!(is_wanted("usr/lib/gcc/x/12/cc1") && is_wanted("usr/share/perl"));
        assert_eq!([merged("lib/x/libc.so.6"), merged("etc/passwd")], ["usr/lib/x/libc.so.6", "etc/passwd"]);
    }

    #[test]
    fn a_root_has_all_directories_before_their_contents() {
        let mut tree = Tree::new();
        tree.insert("a/b/c".into(), (0o644, DebNode::File(b"x".to_vec())));
        tree.insert("a/b/d".into(), (0o644, DebNode::HardLink("a/b/c".into())));
        with_parents(&mut tree);
        let bytes = write_cpio(&tree).expect("memory");
        let found = images::cpio::read(&bytes).expect("an archive");
        let names: Vec<(&str, &[u8])> = found.iter().map(|entry| (entry.name, entry.contents)).collect();
        assert_eq!(names[..4], [("a", b"".as_slice()), ("a/b", b""), ("a/b/c", b"x"), ("a/b/d", b"x")]);
    }
}
