//! Directories as they are on disk: blocks of entries, each as long as it says.

use super::layout::BLOCK;
use crate::tree::{Kind, Tree};

/// The names in a directory.
pub(super) fn names<'a>(tree: &'a Tree, path: &[u8]) -> Vec<&'a [u8]> {
    let skip = if path.is_empty() { 0 } else { path.len() + 1 };
    let relative = tree.below(path).filter_map(move |name| name.get(skip..));
    relative.filter(|name| !name.contains(&b'/')).collect()
}

pub(super) fn file_type(kind: &Kind) -> u8 {
    match kind {
        Kind::File(_) => 1,
        Kind::Directory => 2,
        Kind::CharacterDevice(..) => 3,
        Kind::BlockDevice(..) => 4,
        Kind::Fifo => 5,
        Kind::Symlink(_) => 7,
    }
}

/// Bytes of an entry.
fn size(name: &[u8]) -> usize {
    8 + name.len().next_multiple_of(4)
}

/// How many blocks these names need, at most: `lost+found` is in every count.
pub(super) fn blocks(names: &[&[u8]]) -> u64 {
    let entries: Vec<(&[u8], u32, u8)> =
        names.iter().map(|name| (*name, 0, 0)).chain([(b"lost+found".as_slice(), 0, 0)]).collect();
    write(0, 0, &entries).len() as u64
}

/// The blocks of a directory.
pub(super) fn write(own: u32, parent: u32, entries: &[(&[u8], u32, u8)]) -> Vec<Vec<u8>> {
    let all = [(b".".as_slice(), own, 2), (b"..".as_slice(), parent, 2)];
    let mut blocks: Vec<Vec<u8>> = Vec::new();
    let mut block: Vec<u8> = Vec::new();
    let mut last = 0;
    for (name, inode, kind) in all.iter().chain(entries) {
        if block.len() + size(name) > BLOCK as usize {
            finish(&mut block, last);
            blocks.push(std::mem::take(&mut block));
        }
        last = block.len();
        block.extend(inode.to_le_bytes());
        block.extend((size(name) as u16).to_le_bytes());
        block.extend([name.len() as u8, *kind]);
        block.extend(*name);
        block.resize(last + size(name), 0);
    }
    finish(&mut block, last);
    blocks.push(block);
    blocks
}

/// The last entry of a block goes to its end.
fn finish(block: &mut Vec<u8>, last: usize) {
    block.resize(BLOCK as usize, 0);
    let length = (BLOCK as usize - last) as u16;
    if let Some(place) = block.get_mut(last + 4..last + 6) {
        place.copy_from_slice(&length.to_le_bytes());
    }
}

/// A directory without entries but with room.
pub(super) fn empty(own: u32, parent: u32, blocks: u64) -> Vec<Vec<u8>> {
    let mut all = write(own, parent, &[]);
    while (all.len() as u64) < blocks {
        let mut block = vec![0; BLOCK as usize];
        finish(&mut block, 0);
        all.push(block);
    }
    all
}
