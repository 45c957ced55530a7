use std::io::Write;

use super::*;
use crate::cache::tests::Scratch;
use crate::tarball::Writer;

struct Guest {
    scratch: Scratch,
    list: Vec<u8>,
    files: Vec<(Entry, Vec<u8>)>,
}

impl Guest {
    fn new(name: &str) -> Guest {
        let mut guest = Guest { scratch: Scratch::new(&format!("result-{name}")), list: Vec::new(), files: Vec::new() };
        guest.listed("d", "755", 1, "", "");
        guest
    }

    fn listed(&mut self, kind: &str, mode: &str, inode: u32, target: &str, path: &str) {
        for field in [kind, mode, "0", "0", &inode.to_string(), "5.25", target, path] {
            self.list.extend(field.as_bytes());
            self.list.push(0);
        }
    }

    fn changed(&mut self, path: &str, kind: EntryKind, contents: &[u8]) {
        let entry =
            Entry { path: path.into(), kind, mode: 0o644, uid: 0, gid: 0, mtime: 9, xattrs: Default::default() };
        self.files.push((entry, contents.to_vec()));
    }

    fn read(&self, before: &Tree) -> Result<Tree, ResultError> {
        let results = Results { list: self.scratch.0.join("list"), data: self.scratch.0.join("data") };
        let mut writer = Writer::new(File::create(&results.data).expect("made"));
        for (entry, contents) in &self.files {
            writer.entry(entry, &mut contents.as_slice()).expect("written");
        }
        writer.finish().expect("written");
        let mut list = File::create(&results.list).expect("made");
        list.write_all(&self.list).expect("written");
        read(&results, before, &Spool::new(&self.scratch.0).expect("a spool"), 100)
    }
}

fn before() -> Tree {
    let mut tree = Tree::new(1);
    tree.insert(b"dev", Inode::new(Kind::Directory, 0o755, 1));
    tree.insert(b"dev/null", Inode::new(Kind::CharacterDevice(1, 3), 0o666, 1));
    tree.insert(b"kept", Inode::new(Kind::Symlink(b"x".to_vec()), 0o777, 3));
    tree.insert(b"gone", Inode::new(Kind::Fifo, 0o644, 3));
    tree
}

#[test]
fn changes_are_taken_over() {
    let mut guest = Guest::new("good");
    guest.listed("l", "777", 2, "x", "kept");
    guest.listed("f", "644", 3, "", "new");
    guest.listed("f", "644", 3, "", "other");
    guest.listed("d", "1777", 4, "", "dev");
    guest.listed("s", "755", 5, "", "socket");
    guest.list.extend(b"end\0garbage");
    guest.changed("./new", EntryKind::File(2), b"hi");
    guest.changed("./other", EntryKind::HardLink(b"./new".to_vec()), b"");
    let tree = guest.read(&before()).expect("good");
    let names: Vec<&[u8]> = tree.iter().map(|(path, ..)| path).collect();
    assert_eq!(names, [b"".as_slice(), b"dev", b"dev/null", b"kept", b"new", b"other"]);
    assert_eq!(tree.id(b"new"), tree.id(b"other"));
    assert_eq!(tree.get(b"dev").expect("there").mode, 0o755, "a mount point stays as it was");
    assert_eq!(tree.get(b"kept").expect("there").mtime, 3);
}

#[test]
fn list_and_archive_must_agree() {
    let error = |fill: &dyn Fn(&mut Guest)| {
        let mut guest = Guest::new("bad");
        fill(&mut guest);
        guest.list.extend(b"end\0");
        guest.read(&before()).expect_err("bad").to_string()
    };
    assert!(error(&|g| g.listed("f", "644", 2, "", "kept")).contains("not sent as changed"));
    assert!(error(&|g| g.listed("l", "777", 2, "y", "kept")).contains("not sent as changed"));
    assert!(error(&|g| g.listed("f", "644", 2, "", "new")).contains("/new"));
    assert!(error(&|g| g.listed("f", "644", 2, "", "../x")).contains("bad path"));
    assert!(error(&|g| g.listed("f", "x", 2, "", "new")).contains("a mode"));
    assert!(
        error(&|g| {
            g.listed("f", "755", 2, "", "new");
            g.changed("new", EntryKind::File(0), b"");
        })
        .contains("differ about /new")
    );
    assert!(error(&|g| g.changed("x", EntryKind::HardLink(b"y".to_vec()), b"")).contains("link to nothing"));
    assert!(error(&|g| g.changed("../x", EntryKind::Fifo, b"")).contains("bad path"));
    let guest = Guest::new("cut");
    assert!(guest.read(&before()).expect_err("cut off").to_string().contains("cut off"));
}
