use std::io::Write;

use super::*;
use crate::cache::tests::Scratch;
use crate::format;

fn tree(spool: &Spool) -> Tree {
    let mut tree = Tree::new(100);
    tree.insert(b"bin", Inode::new(Kind::Directory, 0o755, 100));
    let file = Inode { uid: 5, gid: 6, ..Inode::new(Kind::File(spool.put(b"contents").expect("kept")), 0o4755, 90) };
    let id = tree.insert(b"bin/tool", file);
    tree.link(b"bin/also", id);
    tree.insert(b"bin/empty", Inode::new(Kind::File(spool.put(b"").expect("kept")), 0o600, 90));
    tree.insert(b"dev/null", Inode::new(Kind::CharacterDevice(1, 3), 0o666, 100));
    tree.insert(b"link", Inode::new(Kind::Symlink(b"bin/tool".to_vec()), 0o777, 80));
    tree
}

#[test]
fn each_format_is_read_back() {
    let scratch = Scratch::new("load");
    let spool = Spool::new(&scratch.0).expect("a spool");
    let tree = tree(&spool);
    let path = |name: &str| scratch.0.join(name);
    format::cpio::write(&tree, 100, File::create(path("cpio")).expect("made")).expect("written");
    format::tar::write(&tree, File::create(path("tar")).expect("made")).expect("written");
    std::fs::create_dir(path("oci")).expect("made");
    oci::write(&tree, 100, "it", &path("oci")).expect("written");
    for (name, stored) in [("cpio", Stored::Cpio), ("tar", Stored::Tar), ("oci", Stored::Oci)] {
        let (found, mut back) = load(&path(name), &spool).expect(name);
        assert_eq!(found, stored);
        // The initramfs has a first process and no entry for its root.
        back.remove(b"init");
        let differences = crate::diff::diff(&tree, &back, crate::diff::DiffOptions { times: true }).expect("compared");
        let allowed = |line: &String| name == "cpio" && line.starts_with("/:");
        assert!(differences.iter().all(allowed), "{name}: {differences:?}");
    }
}

#[test]
fn hostile_images_are_refused() {
    let scratch = Scratch::new("load-bad");
    let spool = Spool::new(&scratch.0).expect("a spool");
    let error = |bytes: &[u8]| {
        let path = scratch.0.join("image");
        File::create(&path).expect("made").write_all(bytes).expect("written");
        load(&path, &spool).expect_err("refused").to_string()
    };
    assert!(error(b"hello").contains("expected a cpio or tar"));
    let cpio = |name: &str, mode: u32| {
        let mut writer = cpio::Writer::new(Vec::new(), 0);
        writer.symlink("link", "/etc").expect("memory");
        let node = cpio::Node { inode: 9, mode, links: 1, ..cpio::Node::default() };
        writer.node(name.as_bytes(), &node, &mut io::empty()).expect("memory");
        writer.finish().expect("memory")
    };
    assert!(error(&cpio("link/passwd", 0o100_644)).contains("below something that is no directory"));
    assert!(error(&cpio("x", 0o140_644)).contains("unknown type"));
    let mut up = cpio("aa/b", 0o100_644);
    let at = up.windows(4).position(|window| window == b"aa/b").expect("there");
    up[at..at + 4].copy_from_slice(b"../b");
    assert!(error(&up).contains("is not one to unpack"));
}
