use super::*;
use crate::cache::tests::Scratch;

fn tree() -> Tree {
    let mut tree = Tree::new(1);
    let link = |target: &str| Inode::new(Kind::Symlink(target.into()), 0o777, 1);
    tree.insert(b"usr/bin", Inode::new(Kind::Directory, 0o755, 1));
    tree.insert(b"bin", link("usr/bin"));
    tree.insert(b"usr/local", link("/bin/.."));
    tree.insert(b"usr/bin/tool", Inode::new(Kind::Fifo, 0o755, 1));
    tree.insert(b"usr/bin/t", link("../../bin/tool"));
    tree.insert(b"loop", link("loop2"));
    tree.insert(b"loop2", link("loop"));
    tree
}

#[test]
fn paths_lead_through_links_and_never_out() {
    let tree = tree();
    let resolved = |path: &str| tree.resolve(path.as_bytes()).map(|path| String::from_utf8(path).expect("text"));
    assert_eq!(resolved("bin/tool").as_deref(), Some("usr/bin/tool"));
    assert_eq!(resolved("usr/local/bin/x").as_deref(), Some("usr/bin/x"));
    assert_eq!(resolved("bin").as_deref(), Some("bin"));
    assert_eq!(resolved("../../bin/../x").as_deref(), Some("usr/x"));
    assert_eq!(resolved("loop/x"), None);
    assert_eq!(resolved("bin/tool/x"), None);
    assert_eq!(tree.follow(b"bin/t").as_deref(), Some(b"usr/bin/tool".as_slice()));
    assert_eq!(tree.follow(b"loop"), None);
}

#[test]
fn names_come_and_go() {
    let mut tree = tree();
    let id = tree.id(b"usr/bin/tool").expect("there");
    tree.link(b"opt/deep/tool", id);
    assert_eq!(tree.link_counts()[Tree::index(id)], 2);
    assert!(matches!(tree.get(b"opt/deep").expect("made").kind, Kind::Directory));
    tree.insert(b"new/deep/tool", Inode::new(Kind::Fifo, 0o755, 1));
    assert!(matches!(tree.get(b"new/deep").expect("made").kind, Kind::Directory));
    assert!(matches!(tree.get(b"new/deep/tool").expect("there").kind, Kind::Fifo));
    let below: Vec<&[u8]> = tree.below(b"usr").collect();
    assert_eq!(below, [b"usr/bin".as_slice(), b"usr/bin/t", b"usr/bin/tool", b"usr/local"]);
    tree.remove(b"usr");
    assert!(tree.get(b"usr/bin/tool").is_none() && tree.get(b"opt/deep/tool").is_some());
}

#[test]
fn paths_are_cleaned_or_refused() {
    assert_eq!(clean_path(b"./usr//bin/").expect("good"), b"usr/bin");
    assert_eq!(clean_path(b"/").expect("good"), b"");
    for bad in [b"a/../b".as_slice(), b"..", b"a\0b", &[b'a'; 5000], &[b'a'; 256]] {
        assert!(clean_path(bad).is_err());
    }
}

#[test]
fn contents_are_kept() {
    let scratch = Scratch::new("spool");
    let spool = Spool::new(&scratch.0).expect("a spool");
    let a = spool.put(b"abc").expect("kept");
    let b = spool.copy(&mut b"defgh".as_slice(), 4).expect("kept");
    assert_eq!((a.bytes(9).expect("read"), b.bytes(9).expect("read")), (b"abc".to_vec(), b"defg".to_vec()));
    assert!(a.bytes(2).is_err() && spool.copy(&mut b"x".as_slice(), 2).is_err());
    assert_eq!(std::fs::read_dir(&scratch.0).expect("there").count(), 0, "the spool has no name");
}
