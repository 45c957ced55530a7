//! A disk with a file system that somebody else made.

use std::cell::Cell;
use std::fs::File;
use std::io;
use std::path::Path;
use std::sync::OnceLock;

use images::format::ext4::{self, Ext4Options};
use images::initrd::DiskView;
use images::load::load_disk;
use images::tree::{Inode, Kind, Spool, Tree};

/// Reads of a disk of 8 MiB that are more than a walk through it needs.
const MOST_READS: u32 = 100_000;

/// A sound file system of 8 MiB, and where it is not zero.
struct Sound {
    image: Vec<u8>,
    places: Vec<usize>,
}

fn sound() -> io::Result<Sound> {
    let folder = std::env::temp_dir();
    let spool = Spool::new(&folder)?;
    let mut tree = Tree::new(0);
    let mut file = Inode::new(Kind::File(spool.put(&[7; 9000])?), 0o644, 0);
    file.xattrs.insert(b"security.capability".to_vec(), vec![1; 20]);
    let id = tree.insert(b"a/file", file);
    tree.link(b"a/other", id);
    tree.insert(b"a/link", Inode::new(Kind::Symlink(vec![b'x'; 100]), 0o777, 0));
    tree.insert(b"a/b/null", Inode::new(Kind::CharacterDevice(1, 3), 0o666, 0));
    let path = folder.join(format!("vmm-fuzz-disk-{}", std::process::id()));
    let out = File::options().read(true).write(true).create(true).truncate(true).open(&path)?;
    let options = Ext4Options { size: None, label: "root".to_owned(), uuid: [9; 16], epoch: 0 };
    ext4::write(&tree, &options, &out, 0)?;
    let mut image = std::fs::read(&path)?;
    std::fs::remove_file(&path)?;
    image.truncate(8 << 20);
    let places = image.iter().enumerate().filter(|(_, byte)| **byte != 0).map(|(at, _)| at).collect();
    Ok(Sound { image, places })
}

/// Three bytes of input change one byte of a sound file system: which of those that are set, and to what.
pub fn disk_image(data: &[u8]) {
    static SOUND: OnceLock<Sound> = OnceLock::new();
    let Sound { image, places } = SOUND.get_or_init(|| sound().expect("the temporary folder can be written"));
    let change = |three: &[u8]| {
        let which = usize::from(u16::from_le_bytes([three[0], three[1]])) % places.len();
        (places[which], three[2])
    };
    let changes: Vec<(usize, u8)> = data.chunks_exact(3).take(64).map(change).collect();
    let reads = Cell::new(0u32);
    let read = |offset: u64, out: &mut [u8]| -> io::Result<()> {
        reads.set(reads.get() + 1);
        let start = usize::try_from(offset).map_err(io::Error::other)?;
        let end = start.checked_add(out.len()).ok_or(io::ErrorKind::UnexpectedEof)?;
        out.copy_from_slice(image.get(start..end).ok_or(io::ErrorKind::UnexpectedEof)?);
        for (at, byte) in &changes {
            if let Some(place) = at.checked_sub(start).and_then(|at| out.get_mut(at)) {
                *place = *byte;
            }
        }
        Ok(())
    };
    let spool = Spool::new(&std::env::temp_dir()).expect("the temporary folder can be written");
    let _ = load_disk(Path::new("disk"), &DiskView { size: image.len() as u64, read: &read }, &spool);
    assert!(reads.get() < MOST_READS, "{} reads", reads.get());
}
