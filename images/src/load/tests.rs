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

/// What the ext4 writer writes, and what mke2fs makes of the same files, is read as it went in.
#[test]
fn file_systems_are_read() {
    use std::os::unix::fs::FileExt;
    let scratch = Scratch::new("load-ext4");
    let spool = Spool::new(&scratch.0).expect("a spool");
    let mut tree = Tree::new(1_700_000_000);
    let large: Vec<u8> = (0..3_000_000u32).map(|n| (n / 7) as u8).collect();
    let mut add = |path: &str, kind: Kind, mode| {
        let mut inode = Inode::new(kind, mode, 1_600_000_000);
        if path == "bin/ping" {
            inode.xattrs.insert(b"security.capability".to_vec(), vec![1, 0, 0, 2, 0, 32, 0, 0]);
        }
        tree.insert(path.as_bytes(), Inode { uid: 70_000, gid: 5, ..inode })
    };
    let id = add("bin/ping", Kind::File(spool.put(&large).expect("put")), 0o4755);
    add("bin/short", Kind::Symlink(b"ping".to_vec()), 0o777);
    add("bin/long", Kind::Symlink(vec![b'x'; 100]), 0o777);
    add("dev/null", Kind::CharacterDevice(1, 3), 0o666);
    add("dev/many", Kind::BlockDevice(259, 70_000), 0o600);
    add("fifo", Kind::Fifo, 0o600);
    for number in 0..2000 {
        add(&format!("many/file-{number:04}"), Kind::File(spool.put(b"x").expect("put")), 0o600);
    }
    tree.link(b"bin/other", id);
    let file = File::options().read(true).write(true).create_new(true).open(scratch.0.join("a.ext4")).expect("a file");
    let options = crate::format::file_system(&tree, 1_700_000_000, None);
    crate::format::ext4::write(&tree, &options, &file, 0).expect("written");
    let size = file.metadata().expect("there").len();
    let read = |offset: u64, out: &mut [u8]| file.read_exact_at(out, offset);
    let again = load_disk(Path::new("a"), &DiskView { size, read: &read }, &spool).expect("read");
    let options = crate::diff::DiffOptions { times: true };
    assert_eq!(crate::diff::diff(&tree, &again, options).expect("compared"), Vec::<String>::new());
}

#[test]
fn other_makers_file_systems_are_read() {
    use std::os::unix::fs::FileExt;
    use std::process::Command;
    let scratch = Scratch::new("load-mke2fs");
    let spool = Spool::new(&scratch.0).expect("a spool");
    let folder = scratch.0.join("root");
    std::fs::create_dir_all(folder.join("a/b")).expect("made");
    let large: Vec<u8> = (0..3_000_000u32).map(|n| (n / 7) as u8).collect();
    std::fs::write(folder.join("a/b/large"), &large).expect("written");
    std::os::unix::fs::symlink("b/large", folder.join("a/link")).expect("made");
    for (kind, more) in [("ext4", ""), ("ext4", "64bit,metadata_csum,inline_data"), ("ext3", ""), ("ext2", "")] {
        let image = scratch.0.join("image");
        let mut command = Command::new("mke2fs");
        command.args(["-q", "-F", "-t", kind, "-b", "1024", "-d"]).arg(&folder);
        if !more.is_empty() {
            command.args(["-O", more]);
        }
        let Ok(status) = command.arg(&image).arg("16M").status() else {
            eprintln!("no mke2fs here: skipped");
            return;
        };
        assert!(status.success());
        let file = File::open(&image).expect("there");
        let read = |offset: u64, out: &mut [u8]| file.read_exact_at(out, offset);
        let tree = load_disk(&image, &DiskView { size: 16 << 20, read: &read }, &spool);
        if more.contains("inline_data") {
            assert!(crate::explain(&tree.expect_err("not known")).contains("not known"));
            continue;
        }
        let tree = tree.expect("read");
        let Some(Kind::File(content)) = tree.get(b"a/b/large").map(|inode| &inode.kind) else { panic!("no file") };
        assert!(content.bytes(1 << 30).expect("read") == large, "{kind}");
        assert_eq!(tree.get(b"a/link").map(|inode| &inode.kind), Some(&Kind::Symlink(b"b/large".to_vec())));
        std::fs::remove_file(&image).expect("removed");
    }
}

proptest::proptest! {
    #[test]
    fn damaged_file_systems_never_panic(at in 0usize..80_000, value: [u8; 4]) {
        use std::cell::RefCell;
        use std::sync::OnceLock;
        static IMAGE: OnceLock<Vec<u8>> = OnceLock::new();
        let scratch = Scratch::new(&format!("load-damaged-{at}"));
        let spool = Spool::new(&scratch.0).expect("a spool");
        let image = IMAGE.get_or_init(|| {
            let mut tree = Tree::new(0);
            tree.insert(b"a/b", Inode::new(Kind::File(spool.put(b"text").expect("put")), 0o600, 0));
            tree.insert(b"a/c", Inode::new(Kind::Symlink(vec![b'x'; 100]), 0o600, 0));
            let path = scratch.0.join("image");
            let file = File::options().read(true).write(true).create_new(true).open(&path).expect("a file");
            let options = crate::format::file_system(&tree, 0, None);
            crate::format::ext4::write(&tree, &options, &file, 0).expect("written");
            let mut bytes = std::fs::read(path).expect("there");
            bytes.truncate(8 << 20);
            bytes
        });
        // Where there is something: superblock, descriptors, inodes, the first directories.
        let places: Vec<usize> = image.iter().enumerate().filter(|(_, byte)| **byte != 0).map(|(at, _)| at).collect();
        let place = places[at % places.len()];
        let reads = RefCell::new(0u32);
        let read = |offset: u64, out: &mut [u8]| -> io::Result<()> {
            *reads.borrow_mut() += 1;
            for (index, byte) in out.iter_mut().enumerate() {
                let here = usize::try_from(offset).expect("small") + index;
                let changed = here.checked_sub(place).and_then(|index| value.get(index));
                *byte = changed.or(image.get(here)).copied().ok_or(io::ErrorKind::UnexpectedEof)?;
            }
            Ok(())
        };
        let _ = load_disk(Path::new("a"), &DiskView { size: 8 << 20, read: &read }, &spool);
        assert!(*reads.borrow() < 100_000, "it goes on for ever");
    }
}
