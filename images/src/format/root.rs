//! What an image gets that is the root of a file system, beside its own files: it mounts itself, grows with its disk, and has
//! a first process.

use std::io;

use super::{cpio, disk, file_system};
use crate::tree::{Inode, Kind, Spool, Tree};

/// Programs that Linux and Debian's initrds start, and systemd where nothing else leads to it.
const INITS: [&str; 4] = ["sbin/init", "etc/init", "bin/init", "lib/systemd/systemd"];
/// sysvinit's table of what it starts (inittab(5)).
pub(crate) const INITTAB: &str = "etc/inittab";
/// Longest table that is changed.
pub(crate) const MAX_INITTAB: u64 = 1 << 20;
/// The init of sysvinit has no way to grow a file system but a line of its own.
const GROW: &str =
    "\n# The root grows with its disk.\ngr::bootwait:/sbin/resize2fs $(findmnt -n -o SOURCE /) >/dev/null 2>&1\n";

/// Adds what is missing: `/etc/fstab` as systemd reads it, a line in sysvinit's `/etc/inittab`, a first process in an image
/// without any.
///
/// # Errors
/// What the spool refuses.
pub(super) fn complete(tree: &mut Tree, epoch: u64, spool: &Spool) -> io::Result<()> {
    let seconds = i64::try_from(epoch).unwrap_or(i64::MAX);
    let has = |path: &str| tree.follow(path.as_bytes()).is_some_and(|path| is_file(tree, &path));
    if has("bin/sh")
        && !INITS.into_iter().any(has)
        && let Some(path) = tree.resolve(b"sbin/init")
    {
        let init = Kind::File(spool.put(cpio::INIT.as_bytes())?);
        tree.insert(&path, Inode::new(init, 0o755, seconds));
    }
    // Who has a table of file systems has made up his mind.
    if tree.get(b"etc/fstab").is_some() {
        return Ok(());
    }
    tree.append(INITTAB.as_bytes(), GROW, MAX_INITTAB, spool)?;
    disk::add_fstab(tree, seconds, spool, |tree| file_system(tree, epoch, None).uuid)
}

fn is_file(tree: &Tree, path: &[u8]) -> bool {
    tree.get(path).is_some_and(|inode| matches!(inode.kind, Kind::File(_)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cache::tests::Scratch;

    fn text(tree: &Tree, path: &str) -> Option<String> {
        let Kind::File(content) = &tree.get(path.as_bytes())?.kind else { return None };
        Some(String::from_utf8(content.bytes(1 << 20).expect("read")).expect("text"))
    }

    #[test]
    fn what_is_missing_is_added() {
        let scratch = Scratch::new("format-root");
        let spool = Spool::new(&scratch.0).expect("a spool");
        let link = |target: &str| Inode::new(Kind::Symlink(target.as_bytes().to_vec()), 0o777, 5);
        let file = || Inode::new(Kind::File(spool.put(b"text\n").expect("put")), 0o755, 5);
        let complete = |files: &[(&str, Inode)]| {
            let mut tree = Tree::new(5);
            tree.insert(b"usr/sbin", Inode::new(Kind::Directory, 0o755, 5));
            tree.insert(b"usr/bin/sh", link("dash"));
            tree.insert(b"usr/bin/dash", file());
            tree.insert(b"bin", link("usr/bin"));
            tree.insert(b"sbin", link("usr/sbin"));
            tree.insert(b"lib", link("usr/lib"));
            for (path, inode) in files {
                tree.insert(path.as_bytes(), inode.clone());
            }
            complete(&mut tree, 5, &spool).expect("completed");
            tree
        };
        // Through the link: nothing may become a directory in its place.
        let plain = complete(&[]);
        assert_eq!(text(&plain, "usr/sbin/init").as_deref(), Some(cpio::INIT));
        assert!(matches!(plain.get(b"sbin").map(|inode| &inode.kind), Some(Kind::Symlink(_))));
        let fstab = text(&plain, "etc/fstab").expect("a table");
        let uuid = disk::uuid_text(&file_system(&plain, 5, None).uuid);
        assert!(fstab.starts_with(&format!("UUID={uuid} / ext4 ")) && fstab.contains("x-systemd.growfs"), "{fstab}");
        let systemd = complete(&[("usr/lib/systemd/systemd", file()), ("usr/sbin/init", link("/lib/systemd/systemd"))]);
        assert_eq!(text(&systemd, "usr/sbin/init"), None);
        let without_link = complete(&[("usr/lib/systemd/systemd", file())]);
        assert!(without_link.get(b"usr/sbin/init").is_none());
        // A link that leads nowhere is no init.
        let broken = complete(&[("usr/sbin/init", link("/lib/systemd/systemd"))]);
        assert_eq!(text(&broken, "usr/sbin/init").as_deref(), Some(cpio::INIT));
        let sysvinit = complete(&[("usr/sbin/init", file()), ("etc/inittab", file())]);
        assert_eq!(text(&sysvinit, "usr/sbin/init").as_deref(), Some("text\n"));
        assert_eq!(text(&sysvinit, "etc/inittab"), Some(format!("text\n{GROW}")));
        let own = complete(&[("etc/fstab", file()), ("etc/inittab", file())]);
        assert_eq!(text(&own, "etc/fstab").as_deref(), Some("text\n"));
        assert_eq!(text(&own, "etc/inittab").as_deref(), Some("text\n"));
    }
}
