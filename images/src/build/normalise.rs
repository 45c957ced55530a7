//! What is taken out of an image so that the same packages give the same bytes: traces of when and where it was made.
//! `docs/design/image-build.md` has the list for people.

use std::io;

use crate::tree::{Inode, Kind, Spool, Tree};

/// Files that are removed.
const REMOVED: [&str; 13] = [
    "var/cache/apt/pkgcache.bin",
    "var/cache/apt/srcpkgcache.bin",
    "var/cache/ldconfig/aux-cache",
    "var/lib/dbus/machine-id",
    "var/lib/dpkg/available-old",
    "var/lib/dpkg/diversions-old",
    "var/lib/dpkg/statoverride-old",
    "var/lib/dpkg/status-old",
    "var/lib/systemd/random-seed",
    "var/log/alternatives.log",
    "var/log/dpkg.log",
    "var/log/apt/eipp.log.xz",
    "var/log/bootstrap.log",
];
/// Files that become empty if they are there: who boots the image fills them (machine-id(5)).
const EMPTIED: [&str; 1] = ["etc/machine-id"];
/// Directories that become empty.
const EMPTIED_DIRECTORIES: [&str; 3] = ["run", "tmp", "var/tmp"];
/// Keys that belong to one machine. They are made anew where the image runs.
const HOST_KEYS: &str = "etc/ssh/ssh_host_";

/// Takes out the traces. Times after the epoch become the epoch; directories, which are all made by unpacking, have it.
///
/// # Errors
/// What the spool refuses.
pub fn normalise(tree: &mut Tree, spool: &Spool, epoch: i64) -> io::Result<()> {
    for path in REMOVED {
        tree.remove(path.as_bytes());
    }
    for directory in EMPTIED_DIRECTORIES {
        let names: Vec<Vec<u8>> = tree.below(directory.as_bytes()).map(<[u8]>::to_vec).collect();
        // /var/lock leads to /run/lock.
        for name in names.into_iter().filter(|name| name != b"run/lock") {
            tree.remove(&name);
        }
    }
    let keys: Vec<Vec<u8>> =
        tree.below(b"etc/ssh").filter(|name| name.starts_with(HOST_KEYS.as_bytes())).map(<[u8]>::to_vec).collect();
    for key in keys {
        tree.remove(&key);
    }
    for path in EMPTIED {
        if tree.get(path.as_bytes()).is_some() {
            let mode = if path == "etc/machine-id" { 0o444 } else { 0o644 };
            let empty = spool.put(b"")?;
            tree.insert(path.as_bytes(), Inode::new(Kind::File(empty), mode, epoch));
        }
    }
    for inode in tree.inodes_mut() {
        let is_directory = inode.kind == Kind::Directory;
        inode.mtime = if is_directory { epoch } else { inode.mtime.clamp(0, epoch) };
        if matches!(inode.kind, Kind::Symlink(_)) {
            inode.mode = 0o777;
        }
    }
    Ok(())
}

/// The device nodes and links in `/dev` that a system needs before anything fills it, as mmdebstrap makes them.
pub fn add_devices(tree: &mut Tree, epoch: i64) {
    for (name, major, minor) in [
        ("console", 5, 1),
        ("full", 1, 7),
        ("null", 1, 3),
        ("ptmx", 5, 2),
        ("random", 1, 8),
        ("tty", 5, 0),
        ("urandom", 1, 9),
        ("zero", 1, 5),
    ] {
        let device = Inode::new(Kind::CharacterDevice(major, minor), 0o666, epoch);
        tree.insert(format!("dev/{name}").as_bytes(), device);
    }
    for (name, target) in [
        ("fd", "/proc/self/fd"),
        ("stdin", "/proc/self/fd/0"),
        ("stdout", "/proc/self/fd/1"),
        ("stderr", "/proc/self/fd/2"),
    ] {
        tree.insert(format!("dev/{name}").as_bytes(), Inode::new(Kind::Symlink(target.into()), 0o777, epoch));
    }
    for name in ["pts", "shm"] {
        tree.insert(format!("dev/{name}").as_bytes(), Inode::new(Kind::Directory, 0o755, epoch));
    }
}
