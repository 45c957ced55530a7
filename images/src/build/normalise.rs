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
/// Keys that belong to one machine. They are made anew where the image runs: Debian's package makes them only when it is
/// installed.
const HOST_KEYS: &str = "etc/ssh/ssh_host_";
/// Makes them before the server looks for them.
const MAKE_KEYS: [(&str, &str); 2] = [
    (
        "etc/systemd/system/ssh.service.d/host-keys.conf",
        "[Service]\nExecStartPre=\nExecStartPre=/usr/bin/ssh-keygen -A\nExecStartPre=/usr/sbin/sshd -t\n",
    ),
    ("etc/systemd/system/ssh@.service.d/host-keys.conf", "[Service]\nExecStartPre=/usr/bin/ssh-keygen -A\n"),
];

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
    let had_keys = !keys.is_empty();
    for key in keys {
        tree.remove(&key);
    }
    for (path, text) in MAKE_KEYS.into_iter().filter(|_| had_keys) {
        tree.insert(path.as_bytes(), Inode::new(Kind::File(spool.put(text.as_bytes())?), 0o644, epoch));
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cache::tests::Scratch;

    #[test]
    fn what_belongs_to_one_machine_is_taken_out() {
        let scratch = Scratch::new("normalise");
        let spool = Spool::new(&scratch.0).expect("a spool");
        let mut tree = Tree::new(10);
        let file = || Inode::new(Kind::File(spool.put(b"text").expect("put")), 0o600, 99);
        for path in ["etc/ssh/ssh_host_rsa_key", "etc/ssh/sshd_config", "etc/machine-id", "tmp/x", "run/lock/y"] {
            tree.insert(path.as_bytes(), file());
        }
        normalise(&mut tree, &spool, 50).expect("a spool");
        let names: Vec<_> = tree.iter().map(|(path, ..)| String::from_utf8_lossy(path).into_owned()).collect();
        for gone in ["etc/ssh/ssh_host_rsa_key", "tmp/x", "run/lock/y"] {
            assert!(!names.iter().any(|name| name == gone), "{gone}");
        }
        assert!(tree.get(b"etc/systemd/system/ssh.service.d/host-keys.conf").is_some());
        assert_eq!(tree.get(b"etc/ssh/sshd_config").map(|inode| inode.mtime), Some(50));
        let Some(Kind::File(id)) = tree.get(b"etc/machine-id").map(|inode| &inode.kind) else { panic!("no file") };
        assert!(id.is_empty());
        // A system without a server gets nothing.
        let mut plain = Tree::new(10);
        normalise(&mut plain, &spool, 50).expect("a spool");
        assert!(plain.is_empty());
    }
}
