//! What an image has beside the files of its packages.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, BufReader, BufWriter, Write};
use std::path::Path;

use super::unpack::{UnpackError, Unpacked};
use crate::deb;
use crate::lock::Lock;
use crate::tree::{Inode, Kind, Spool, Tree};

/// Nobody starts services in an image that is being made (policy-rc.d, invoke-rc.d(8)).
const DENY_SERVICES: &str = "#!/bin/sh\nexit 101\n";

/// Directories that have to be there before the first package is unpacked.
const DIRECTORIES: [(&str, u32); 10] = [
    ("dev", 0o755),
    ("etc/apt", 0o755),
    ("proc", 0o755),
    ("root", 0o700),
    ("run", 0o755),
    ("sys", 0o755),
    ("tmp", 0o1777),
    ("usr/sbin", 0o755),
    ("var/lib/dpkg", 0o755),
    ("var/tmp", 0o1777),
];

/// Fills the tree before the packages are unpacked.
pub(super) fn prepare(
    tree: &mut Tree,
    packages: &BTreeMap<String, Unpacked>,
    lock: &Lock,
    hostname: &str,
    spool: &Spool,
    epoch: i64,
) -> io::Result<()> {
    // With merged /usr from the start there is nothing to merge (see `resolve`).
    if packages.contains_key("usr-is-merged") {
        for name in ["bin", "lib", "sbin"] {
            tree.insert(format!("usr/{name}").as_bytes(), Inode::new(Kind::Directory, 0o755, epoch));
            let link = Inode::new(Kind::Symlink(format!("usr/{name}").into_bytes()), 0o777, epoch);
            tree.insert(name.as_bytes(), link);
        }
    }
    for (name, mode) in DIRECTORIES {
        tree.insert(name.as_bytes(), Inode::new(Kind::Directory, mode, epoch));
    }
    let mut file = |path: &str, text: &str, mode: u32| -> io::Result<()> {
        tree.insert(path.as_bytes(), Inode::new(Kind::File(spool.put(text.as_bytes())?), mode, epoch));
        Ok(())
    };
    file("usr/sbin/policy-rc.d", DENY_SERVICES, 0o755)?;
    file("etc/hostname", &format!("{hostname}\n"), 0o644)?;
    let source = |source: &crate::lock::LockedSource| {
        format!(
            "deb {} {} {}\n",
            source.image_uri.as_ref().unwrap_or(&source.uri),
            source.suite,
            source.components.join(" ")
        )
    };
    file("etc/apt/sources.list", &lock.sources.iter().map(source).collect::<String>(), 0o644)
}

/// What the guest needs in a system that was made elsewhere.
pub(super) fn prepare_existing(tree: &mut Tree, hostname: Option<&str>, spool: &Spool, epoch: i64) -> io::Result<()> {
    if let Some(name) = hostname {
        let name = Kind::File(spool.put(format!("{name}\n").as_bytes())?);
        tree.insert(b"etc/hostname", Inode::new(name, 0o644, epoch));
    }
    for name in ["dev", "proc", "sys", "tmp"] {
        if tree.get(name.as_bytes()).is_none() {
            let mode = if name == "tmp" { 0o1777 } else { 0o755 };
            tree.insert(name.as_bytes(), Inode::new(Kind::Directory, mode, epoch));
        }
    }
    let deny = Inode::new(Kind::File(spool.put(DENY_SERVICES.as_bytes())?), 0o755, epoch);
    tree.insert(b"usr/sbin/policy-rc.d", deny);
    Ok(())
}

/// Puts a package where dpkg in the guest finds it.
pub(super) fn add_deb(
    tree: &mut Tree,
    spool: &Spool,
    scratch: &Path,
    name: &str,
    package: &Path,
    epoch: i64,
) -> Result<(), UnpackError> {
    let io_error = |source| UnpackError::Io { package: name.to_owned(), source };
    let path = scratch.join("package.deb");
    let mut out = BufWriter::new(File::create(&path).map_err(io_error)?);
    deb::write_uncompressed(package, &mut out)?;
    out.flush().map_err(io_error)?;
    drop(out);
    let file = File::open(&path).map_err(io_error)?;
    let length = file.metadata().map_err(io_error)?.len();
    let content = spool.copy(&mut BufReader::new(file), length).map_err(io_error)?;
    tree.insert(format!(".debs/{name}.deb").as_bytes(), Inode::new(Kind::File(content), 0o644, epoch));
    Ok(())
}

/// Adds what apt would have noted about the packages that nobody asked for.
pub(super) fn finish(tree: &mut Tree, spool: &Spool, lock: &Lock) -> io::Result<()> {
    let automatic = lock.packages.iter().filter(|package| package.automatic);
    let entry = |package: &crate::lock::LockedPackage| {
        format!("Package: {}\nArchitecture: {}\nAuto-Installed: 1\n\n", package.name, lock.architecture)
    };
    let text: String = automatic.map(entry).collect();
    let epoch = i64::try_from(lock.epoch).unwrap_or(i64::MAX);
    if !text.is_empty() && tree.get(b"var/lib/apt").is_some() {
        let file = Inode::new(Kind::File(spool.put(text.as_bytes())?), 0o644, epoch);
        tree.insert(b"var/lib/apt/extended_states", file);
    }
    Ok(())
}
