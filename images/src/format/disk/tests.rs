use super::*;
use crate::cache::tests::Scratch;
use crate::initrd::{DiskView, Words, find_root};

fn tree(spool: &Spool) -> Tree {
    let mut tree = Tree::new(1_700_000_000);
    let contents = spool.put(b"Debian").expect("a spool");
    tree.insert(b"etc/issue", Inode::new(Kind::File(contents), 0o644, 1_700_000_000));
    tree
}

fn boot() -> Boot {
    Boot { loader: b"MZ".to_vec(), kernel: vec![7; 1 << 20], version: "6.1".to_owned(), initrd: vec![8; 70_000] }
}

fn options(tree: &Tree, size: Option<u64>) -> Ext4Options {
    crate::format::file_system(tree, 1_700_000_000, size)
}

#[test]
fn a_disk_is_found_and_its_parts_are_sound() {
    use std::process::Command;
    let scratch = Scratch::new("disk");
    let spool = Spool::new(&scratch.0).expect("a spool");
    let mut tree = tree(&spool);
    add_fstab(&mut tree, 1_700_000_000, &spool, |tree| options(tree, None).uuid).expect("a spool");
    for size in [None, Some(1 << 30)] {
        let root = options(&tree, size);
        let file = |name: &str| {
            let path = scratch.0.join(name);
            let file = File::options().read(true).write(true).create(true).truncate(true).open(&path).expect("a file");
            (path, file)
        };
        let ((path, out), (other_path, other)) = (file("a"), file("b"));
        let total = write(&tree, &root, &boot(), &out).expect("written");
        assert_eq!(out.metadata().expect("there").len(), total);
        if let Some(size) = size {
            assert_eq!(total, size);
        }
        write(&tree, &root, &boot(), &other).expect("written");
        assert!(std::fs::read(&path).expect("there") == std::fs::read(&other_path).expect("there"));
        // Found as the machine finds it.
        let read = |offset: u64, bytes: &mut [u8]| out.read_exact_at(bytes, offset);
        let words = Words { root: Some(format!("UUID={}", uuid_text(&root.uuid))), ..Words::default() };
        let view = DiskView { size: total, read: &read };
        let found = find_root(&[view], &words).expect("found");
        assert_eq!((found.device.as_str(), found.file_system), ("/dev/vda2", "ext4"));
        if let Ok(output) = Command::new("sfdisk").args(["--verify"]).arg(&path).output() {
            let text = String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
            assert!(output.status.success() && text.contains("No errors"), "{text}");
        }
        let esp = std::fs::read(&path).expect("there");
        let entry = esp.windows(5).filter(|window| window == b"title").count();
        assert_eq!(entry, 1);
    }
}

#[test]
fn a_disk_that_is_too_small_is_refused() {
    let scratch = Scratch::new("disk-small");
    let spool = Spool::new(&scratch.0).expect("a spool");
    let tree = tree(&spool);
    let out = File::create(scratch.0.join("a")).expect("a file");
    for size in [0, 1 << 20, 70 << 20] {
        assert!(write(&tree, &options(&tree, Some(size)), &boot(), &out).is_err(), "{size}");
    }
}

#[test]
fn a_disk_grows_with_its_last_partition() {
    let scratch = Scratch::new("disk-grow");
    let spool = Spool::new(&scratch.0).expect("a spool");
    let tree = tree(&spool);
    let out = File::options().read(true).write(true).create_new(true).open(scratch.0.join("a")).expect("a file");
    let total = write(&tree, &options(&tree, None), &boot(), &out).expect("written");
    assert!(resize(&out, total - SECTOR).is_err(), "smaller");
    let grown = resize(&out, 1 << 30).expect("grown");
    let expected = (1 << 30) - (1 << 20) - (1 << 20) - Fat::size_for(2 << 20);
    assert_eq!(grown, Resized::Partition(2, expected));
    assert_eq!(resize(&out, 1 << 30).expect("again"), grown);
    // As is done when somebody copies it onto a larger disk.
    out.set_len(2 << 30).expect("sparse");
    assert_eq!(resize(&out, 2 << 30).expect("mended"), Resized::Partition(2, expected + (1 << 30)));
    let read = |offset: u64, bytes: &mut [u8]| out.read_exact_at(bytes, offset);
    assert!(find_root(&[DiskView { size: 2 << 30, read: &read }], &Words::default()).is_ok());
    out.write_all_at(&[1], SECTOR + 60).expect("written");
    assert!(resize(&out, 3 << 30).is_err(), "a damaged table");
    let plain = File::options().read(true).write(true).create_new(true).open(scratch.0.join("b")).expect("a file");
    assert_eq!(resize(&plain, 1 << 20).expect("grown"), Resized::Plain);
}

proptest::proptest! {
    #[test]
    fn no_table_makes_it_panic(bytes: [u8; 32], at in 512u64..1200, sum: bool) {
        let scratch = Scratch::new(&format!("disk-any-{at}-{sum}"));
        let out = File::options().read(true).write(true).create_new(true).open(scratch.0.join("a")).expect("a file");
        out.set_len(1 << 20).expect("sparse");
        write_table(&out, 1 << 20, [1; 16], &[]).expect("written");
        out.write_all_at(&bytes, at).expect("written");
        if sum {
            // Entries of whatever kind with a sum that is right.
            let mut entries = vec![0; ENTRIES * ENTRY];
            out.read_exact_at(&mut entries, 1024).expect("read");
            write_entries(&out, 1 << 20, [1; 16], &entries).expect("written");
        }
        let _ = resize(&out, 2 << 20);
    }
}

#[test]
fn crc_and_uuid() {
    assert_eq!(crc32(b"123456789"), 0xcbf4_3926);
    let uuid = *b"\x01\x23\x45\x67\x89\xab\xcd\xef\x01\x23\x45\x67\x89\xab\xcd\xef";
    assert_eq!(uuid_text(&uuid), "01234567-89ab-cdef-0123-456789abcdef");
}
