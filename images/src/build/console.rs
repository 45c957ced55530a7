//! A login on the console for systems whose init gives none there: a virtual machine has nothing else.

use std::io;

use crate::format::{INITTAB, MAX_INITTAB};
use crate::tree::{Inode, Kind, Spool, Tree};

/// systemd waits for udev to announce a console before it starts a login there. This one waits for nobody.
const LOGIN: &str = "lib/systemd/system/console-getty.service";
const UDEV: &str = "lib/systemd/systemd-udevd";
/// What makes systemd wait, and what it starts instead (systemd.generator(7)).
const GENERATOR: &str = "etc/systemd/system-generators/systemd-getty-generator";
const WANTED: &str = "etc/systemd/system/getty.target.wants/console-getty.service";
/// What stands in sysvinit's table is started.
const RESPAWN: &str =
    "\n# A login on the console, whatever it is.\nco:2345:respawn:/sbin/getty -L console 115200 linux\n";

/// Adds a login where there would be none.
///
/// # Errors
/// What the spool refuses.
pub(super) fn add_login(tree: &mut Tree, spool: &Spool, epoch: i64) -> io::Result<()> {
    let has = |path: &str| tree.follow(path.as_bytes()).is_some_and(|path| tree.get(&path).is_some());
    if has(LOGIN) && !has(UDEV) {
        for (path, target) in [(GENERATOR, "/dev/null".to_owned()), (WANTED, format!("/{LOGIN}"))] {
            tree.insert(path.as_bytes(), Inode::new(Kind::Symlink(target.into_bytes()), 0o777, epoch));
        }
    }
    tree.append(INITTAB.as_bytes(), RESPAWN, MAX_INITTAB, spool)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cache::tests::Scratch;

    #[test]
    fn systems_without_a_login_get_one() {
        let scratch = Scratch::new("build-console");
        let spool = Spool::new(&scratch.0).expect("a spool");
        let with = |paths: &[&str]| {
            let mut tree = Tree::new(5);
            tree.insert(b"lib", Inode::new(Kind::Symlink(b"usr/lib".to_vec()), 0o777, 5));
            for path in paths {
                tree.insert(path.as_bytes(), Inode::new(Kind::File(spool.put(b"x\n").expect("put")), 0o644, 5));
            }
            add_login(&mut tree, &spool, 5).expect("added");
            tree
        };
        let unit = "usr/lib/systemd/system/console-getty.service";
        assert!(with(&[unit]).get(WANTED.as_bytes()).is_some());
        assert!(with(&[unit]).get(GENERATOR.as_bytes()).is_some());
        assert!(with(&[unit, "usr/lib/systemd/systemd-udevd"]).get(WANTED.as_bytes()).is_none());
        assert!(with(&[]).get(GENERATOR.as_bytes()).is_none());
        let sysvinit = with(&[INITTAB]);
        let Some(Kind::File(content)) = sysvinit.get(INITTAB.as_bytes()).map(|inode| &inode.kind) else {
            panic!("no table")
        };
        assert_eq!(content.bytes(1 << 20).expect("read"), format!("x\n{RESPAWN}").as_bytes());
    }
}
