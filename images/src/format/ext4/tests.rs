use std::process::Command;

use super::*;
use crate::cache::tests::Scratch;
use crate::tree::{Inode, Spool};

fn tree(spool: &Spool) -> Tree {
    let mut tree = Tree::new(1_700_000_000);
    let file = |bytes: &[u8]| Inode::new(Kind::File(spool.put(bytes).expect("kept")), 0o644, 1_600_000_000);
    tree.insert(b"etc/hello", file(b"hello\n"));
    let mut owned = file(&[7; 9000]);
    (owned.uid, owned.gid, owned.mode) = (100_000, 70_000, 0o4750);
    owned
        .xattrs
        .insert(b"security.capability".to_vec(), vec![1, 0, 0, 2, 0, 32, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]);
    owned.xattrs.insert(b"user.note".to_vec(), b"xyz".to_vec());
    let id = tree.insert(b"usr/bin/owned", owned);
    tree.link(b"usr/bin/other", id);
    // What systemd's package has on /var/log/journal: the group adm may read, and whatever is made below.
    let list = |tags: &[(u16, u32)]| {
        let entry = |&(tag, id): &(u16, u32)| [&tag.to_le_bytes()[..], &[5, 0], &id.to_le_bytes()].concat();
        [&[2, 0, 0, 0][..], &tags.iter().flat_map(entry).collect::<Vec<u8>>()].concat()
    };
    let tags = [(1, u32::MAX), (4, u32::MAX), (8, 4), (0x10, u32::MAX), (0x20, u32::MAX)];
    let mut journal = Inode::new(Kind::Directory, 0o2755, 1);
    journal.xattrs.insert(b"system.posix_acl_access".to_vec(), list(&tags));
    journal.xattrs.insert(b"system.posix_acl_default".to_vec(), list(&tags));
    tree.insert(b"var/log/journal", journal);
    let mut noted = file(&[9; 5000]);
    noted.xattrs.insert(b"user.long".to_vec(), vec![b'n'; 333]);
    noted.xattrs.insert(b"system.posix_acl_access".to_vec(), list(&tags));
    tree.insert(b"etc/noted", noted);
    tree.insert(b"usr/bin/short", Inode::new(Kind::Symlink(b"owned".to_vec()), 0o777, 1));
    tree.insert(b"usr/bin/long", Inode::new(Kind::Symlink(vec![b'x'; 200]), 0o777, 1));
    tree.insert(b"dev/null", Inode::new(Kind::CharacterDevice(1, 3), 0o666, 1));
    tree.insert(b"dev/far", Inode::new(Kind::BlockDevice(259, 300_000), 0o600, 1));
    tree.insert(b"dev/pipe", Inode::new(Kind::Fifo, 0o600, 1));
    tree.insert(b"empty", file(b""));
    for number in 0..700 {
        tree.insert(format!("many/a-name-that-is-long-enough-to-fill-blocks-{number}").as_bytes(), file(b"x"));
    }
    tree
}

fn options(size: Option<u64>) -> Ext4Options {
    Ext4Options { size, label: "root".to_owned(), uuid: *b"0123456789abcdef", epoch: 1_700_000_000 }
}

fn make(scratch: &Scratch, name: &str, tree: &Tree, size: Option<u64>) -> std::path::PathBuf {
    let path = scratch.0.join(name);
    let file = File::options().read(true).write(true).create_new(true).open(&path).expect("made");
    let written = write(tree, &options(size), &file, 0).expect("written");
    assert_eq!(file.metadata().expect("there").len(), written);
    path
}

/// e2fsck as a judge; `None` where there is none.
fn check(path: &std::path::Path) -> Option<()> {
    let Ok(output) = Command::new("/sbin/e2fsck").args(["-f", "-n"]).arg(path).output() else {
        eprintln!("no e2fsck here: skipped");
        return None;
    };
    let text = String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{text}");
    Some(())
}

fn debugfs(path: &std::path::Path, request: &str) -> String {
    let output = Command::new("/sbin/debugfs").args(["-R", request]).arg(path).output().expect("debugfs runs");
    String::from_utf8_lossy(&output.stdout).into_owned()
}

#[test]
fn fsck_finds_nothing_and_files_are_there() {
    let scratch = Scratch::new("ext4");
    let spool = Spool::new(&scratch.0).expect("a spool");
    let tree = tree(&spool);
    let path = make(&scratch, "image", &tree, None);
    assert_eq!(std::fs::read(&path).expect("read"), std::fs::read(make(&scratch, "again", &tree, None)).expect("read"));
    if check(&path).is_none() {
        return;
    }
    assert_eq!(debugfs(&path, "cat /etc/hello"), "hello\n");
    let owned = debugfs(&path, "stat /usr/bin/owned");
    for part in [
        "User: 100000",
        "Group: 70000",
        "Mode:  04750",
        "Links: 2",
        "Size: 9000",
        "security.capability (20)",
        "user.note (3)",
    ] {
        assert!(owned.contains(part), "{part}: {owned}");
    }
    for (path_inside, value) in [("/var/log/journal", "posix_acl_default"), ("/etc/noted", "posix_acl_access")] {
        let stat = debugfs(&path, &format!("stat {path_inside}"));
        assert!(stat.contains(value) && stat.contains("(28)"), "{stat}");
    }
    assert!(debugfs(&path, "ea_get /etc/noted user.long").contains(&"n".repeat(333)));
    assert!(debugfs(&path, "stat /usr/bin/long").contains("Size: 200"));
    assert!(debugfs(&path, "stat /usr/bin/short").contains("Fast link dest: \"owned\""));
    let far = debugfs(&path, "stat /dev/far");
    assert!(far.contains("259") && far.contains("300000"), "{far}");
    assert_eq!(debugfs(&path, "ls -p /many").lines().filter(|line| line.contains("a-name")).count(), 700);
}

#[test]
fn many_groups_are_right_and_can_be_grown() {
    let scratch = Scratch::new("ext4-large");
    let spool = Spool::new(&scratch.0).expect("a spool");
    let mut tree = tree(&spool);
    // Sparse files cost the spool nothing, but each block of this one is written.
    tree.insert(b"large", Inode::new(Kind::File(spool.put(&vec![1; 40 << 20]).expect("kept")), 0o644, 1));
    for size in [1 << 30, (1 << 30) + (40 << 12), 3 << 30] {
        let path = make(&scratch, &format!("image-{size}"), &tree, Some(size));
        if check(&path).is_none() {
            return;
        }
    }
    let path = scratch.0.join("image-1073741824");
    let grown = Command::new("/sbin/resize2fs").arg(&path).arg("5G").output();
    if let Ok(output) = grown {
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        check(&path);
    }
}

#[test]
fn what_does_not_fit_is_refused() {
    let scratch = Scratch::new("ext4-full");
    let spool = Spool::new(&scratch.0).expect("a spool");
    let mut tree = tree(&spool);
    tree.insert(b"large", Inode::new(Kind::File(spool.put(&vec![1; 40 << 20]).expect("kept")), 0o644, 1));
    let file = File::create(scratch.0.join("image")).expect("made");
    let error = write(&tree, &options(Some(32 << 20)), &file, 0).expect_err("too small").to_string();
    assert!(error.contains("the files need at least"), "{error}");
}
