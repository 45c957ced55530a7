//! The inode that keeps blocks behind the group descriptors free, so that there is room for more of them when the file
//! system grows: one of its indirect blocks is each reserved block, which names its copies in other groups.

use super::inode::RawInode;
use super::layout::{BLOCK, Layout, RESERVED_DESCRIPTOR_BLOCKS, has_superblock};

const POINTERS: u64 = BLOCK / 4;

/// Groups with copies of the descriptors.
fn copies(layout: &Layout) -> Vec<usize> {
    (1..layout.groups()).filter(|group| has_superblock(*group)).collect()
}

/// The blocks with pointers: the double indirect one, which is `map`, and the reserved ones.
pub(super) fn blocks(layout: &Layout, map: u64) -> Vec<(u64, Vec<u8>)> {
    let first = 1 + layout.descriptor_blocks();
    let mut blocks = Vec::new();
    let mut pointers = vec![0u32; POINTERS as usize];
    for index in 0..RESERVED_DESCRIPTOR_BLOCKS {
        let block = first + index;
        if let Some(pointer) = pointers.get_mut(((layout.descriptor_blocks() + index) % POINTERS) as usize) {
            *pointer = block as u32;
        }
        let copies = copies(layout).into_iter().map(|group| (layout.start(group) + block) as u32);
        let mut bytes: Vec<u8> = copies.flat_map(u32::to_le_bytes).collect();
        bytes.resize(BLOCK as usize, 0);
        blocks.push((block, bytes));
    }
    blocks.push((map, pointers.into_iter().flat_map(u32::to_le_bytes).collect()));
    blocks
}

/// The inode.
pub(super) fn inode(layout: &Layout, map: u64, epoch: u32) -> RawInode {
    let mut inode = RawInode::new(0o100_600, epoch);
    inode.set_size((POINTERS * POINTERS + POINTERS + 12) * BLOCK);
    inode.set_double_indirect(map);
    inode.set_blocks(1 + RESERVED_DESCRIPTOR_BLOCKS * (1 + copies(layout).len() as u64));
    inode
}
