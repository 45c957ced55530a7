//! Superblocks: that of the file system, and that of its journal.

use super::layout::{BLOCK, BLOCKS_PER_GROUP, INODE_SIZE, Layout, RESERVED_DESCRIPTOR_BLOCKS};
use super::{Ext4Options, JOURNAL, LOST_AND_FOUND};

/// has_journal, ext_attr, resize_inode, dir_index.
const COMPATIBLE: u32 = 0x04 | 0x08 | 0x10 | 0x20;
/// filetype, extents.
const INCOMPATIBLE: u32 = 0x02 | 0x40;
/// sparse_super, large_file, huge_file, dir_nlink, extra_isize.
const READ_ONLY_COMPATIBLE: u32 = 0x01 | 0x02 | 0x08 | 0x20 | 0x40;

struct Bytes(Vec<u8>);

impl Bytes {
    fn put(&mut self, at: usize, bytes: &[u8]) {
        if let Some(place) = self.0.get_mut(at..at + bytes.len()) {
            place.copy_from_slice(bytes);
        }
    }

    fn u16(&mut self, at: usize, value: u16) {
        self.put(at, &value.to_le_bytes());
    }

    fn u32(&mut self, at: usize, value: u32) {
        self.put(at, &value.to_le_bytes());
    }
}

/// The superblock as it stands in `group`.
pub(super) fn bytes(layout: &Layout, options: &Ext4Options, group: usize, next: u64, used_inodes: u32) -> Vec<u8> {
    let mut out = Bytes(vec![0; 1024]);
    let inodes = layout.inodes_per_group * layout.groups() as u64;
    out.u32(0x00, inodes as u32);
    out.u32(0x04, layout.blocks as u32);
    // For root alone, so that a full file system can be mended.
    out.u32(0x08, (layout.blocks / 50) as u32);
    out.u32(0x0c, layout.free_blocks(next) as u32);
    out.u32(0x10, inodes as u32 - used_inodes);
    // 1 KiB times 2 to the power of 2.
    out.u32(0x18, 2);
    out.u32(0x1c, 2);
    out.u32(0x20, BLOCKS_PER_GROUP as u32);
    out.u32(0x24, BLOCKS_PER_GROUP as u32);
    out.u32(0x28, layout.inodes_per_group as u32);
    out.u32(0x30, options.epoch);
    // Never checked because of its age.
    out.u16(0x36, 0xffff);
    out.u16(0x38, 0xef53);
    // Clean; go on after errors.
    out.u16(0x3a, 1);
    out.u16(0x3c, 1);
    out.u32(0x40, options.epoch);
    out.u32(0x4c, 1);
    out.u32(0x54, LOST_AND_FOUND);
    out.u16(0x58, INODE_SIZE as u16);
    out.u16(0x5a, group as u16);
    out.u32(0x5c, COMPATIBLE);
    out.u32(0x60, INCOMPATIBLE);
    out.u32(0x64, READ_ONLY_COMPATIBLE);
    out.put(0x68, &options.uuid);
    let label = options.label.as_bytes();
    out.put(0x78, label.get(..label.len().min(16)).unwrap_or_default());
    out.u16(0xce, RESERVED_DESCRIPTOR_BLOCKS as u16);
    out.u32(0xe0, JOURNAL);
    // The seed of the hashes of names: any constant will do.
    out.put(0xec, &options.uuid);
    // Half MD4, of signed characters.
    out.put(0xfc, &[1]);
    out.u32(0x160, 1);
    // Attributes and access control lists.
    out.u32(0x100, 0x0c);
    out.u32(0x108, options.epoch);
    if let Some(journal) = &layout.journal {
        out.put(0xfd, &[1]);
        out.put(0x10c, journal.map());
        out.u32(0x10c + 16 * 4, (layout.journal_blocks * BLOCK) as u32);
    }
    out.u16(0x15c, 32);
    out.u16(0x15e, 32);
    out.0
}

/// The first block of an empty journal.
pub(super) fn journal(blocks: u64, uuid: &[u8; 16]) -> Vec<u8> {
    let mut out = Bytes(vec![0; BLOCK as usize]);
    // Magic, "superblock version 2"; block size, length, first block, first transaction.
    for (at, value) in [(0, 0xc03b_3998), (4, 4), (12, BLOCK as u32), (16, blocks as u32), (20, 1), (24, 1), (64, 1)] {
        out.put(at, &u32::to_be_bytes(value));
    }
    out.put(48, uuid);
    out.0
}
