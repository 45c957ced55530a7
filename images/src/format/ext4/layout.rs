//! Where everything is: the file system consists of groups of 32768 blocks, each with its bitmaps and inodes at its
//! beginning; some have copies of superblock and descriptors before these.

use std::io;

use super::inode::{Extent, RawInode};

pub(super) const BLOCK: u64 = 4096;
/// As many as a bitmap of one block has bits.
pub(super) const BLOCKS_PER_GROUP: u64 = BLOCK * 8;
pub(super) const INODE_SIZE: u64 = 256;
const INODES_PER_BLOCK: u64 = BLOCK / INODE_SIZE;
const DESCRIPTOR: u64 = 32;
/// Blocks kept for more descriptors: each serves 16 GiB.
pub(super) const RESERVED_DESCRIPTOR_BLOCKS: u64 = 128;
/// Less is refused by fsck.
const JOURNAL_BLOCKS: u64 = 1024;
const LARGE_JOURNAL_BLOCKS: u64 = 4096;
/// Free room in a file system of which no size is asked for.
const FREE: u64 = (32 << 20) / BLOCK;
/// A last group that has less room for files is not worth its metadata.
const SMALLEST_GROUP: u64 = 64;
/// Largest file system that is made, in blocks: the descriptors still fit before the first bitmap.
const MAX_BLOCKS: u64 = (1 << 40) / BLOCK;

/// The numbers of a file system.
#[derive(Clone, Debug)]
pub(super) struct Layout {
    pub(super) blocks: u64,
    pub(super) inodes_per_group: u64,
    pub(super) journal_blocks: u64,
    /// The journal's inode, which the superblock has a copy of.
    pub(super) journal: Option<RawInode>,
}

/// Whether a group has a copy of the superblock: 0, 1 and powers of 3, 5 and 7.
pub(super) fn has_superblock(group: usize) -> bool {
    let power_of = |base: usize| {
        let mut power = base;
        while power < group {
            power = power.saturating_mul(base);
        }
        power == group
    };
    group <= 1 || power_of(3) || power_of(5) || power_of(7)
}

impl Layout {
    /// A layout with room for files that need so many blocks and inodes.
    pub(super) fn new(size: Option<u64>, blocks: u64, inodes: u64) -> io::Result<Layout> {
        let journal_blocks = if blocks > (512 << 20) / BLOCK { LARGE_JOURNAL_BLOCKS } else { JOURNAL_BLOCKS };
        // One more for the map of reserved blocks.
        let blocks = blocks + journal_blocks + 1;
        let with = |total: u64| {
            let groups = total.div_ceil(BLOCKS_PER_GROUP).max(1);
            let inodes = (inodes + inodes / 4).max(total / 4);
            let inodes_per_group = inodes.div_ceil(groups).next_multiple_of(INODES_PER_BLOCK).min(BLOCKS_PER_GROUP);
            let layout = Layout { blocks: total, inodes_per_group, journal_blocks, journal: None };
            layout.without_small_end()
        };
        let invalid = |text: String| io::Error::new(io::ErrorKind::InvalidInput, text);
        let layout = match size {
            Some(size) => with(size / BLOCK),
            None => {
                let mut total = (blocks + blocks / 16 + FREE).next_multiple_of(256);
                while with(total).data_blocks() < blocks + FREE && total < MAX_BLOCKS {
                    total += 256;
                }
                with(total)
            }
        };
        if layout.blocks > MAX_BLOCKS {
            return Err(invalid(
                "a file system of more than 1 TiB is not made; make a smaller one and grow it".to_owned(),
            ));
        }
        if layout.data_blocks() < blocks || layout.inodes_per_group * (layout.groups() as u64) < inodes {
            return Err(invalid(format!(
                "the files need at least {} MiB, the file system has room for {} MiB",
                ((blocks * BLOCK) >> 20) + 1,
                (layout.data_blocks() * BLOCK) >> 20
            )));
        }
        Ok(layout)
    }

    fn without_small_end(self) -> Layout {
        let last = self.groups().saturating_sub(1);
        let room = self.end(last).saturating_sub(self.data_start(last));
        if last > 0 && room < SMALLEST_GROUP { Layout { blocks: self.start(last), ..self } } else { self }
    }

    pub(super) fn groups(&self) -> usize {
        usize::try_from(self.blocks.div_ceil(BLOCKS_PER_GROUP)).unwrap_or(usize::MAX)
    }

    pub(super) fn descriptor_blocks(&self) -> u64 {
        (self.groups() as u64 * DESCRIPTOR).div_ceil(BLOCK)
    }

    /// The first block of a group.
    pub(super) fn start(&self, group: usize) -> u64 {
        group as u64 * BLOCKS_PER_GROUP
    }

    /// The block behind a group.
    pub(super) fn end(&self, group: usize) -> u64 {
        (self.start(group) + BLOCKS_PER_GROUP).min(self.blocks)
    }

    pub(super) fn block_bitmap(&self, group: usize) -> u64 {
        let before = 1 + self.descriptor_blocks() + RESERVED_DESCRIPTOR_BLOCKS;
        self.start(group) + if has_superblock(group) { before } else { 0 }
    }

    pub(super) fn inode_bitmap(&self, group: usize) -> u64 {
        self.block_bitmap(group) + 1
    }

    pub(super) fn inode_table(&self, group: usize) -> u64 {
        self.block_bitmap(group) + 2
    }

    /// The first block of a group that files can have.
    pub(super) fn data_start(&self, group: usize) -> u64 {
        self.inode_table(group) + self.inodes_per_group / INODES_PER_BLOCK
    }

    /// Blocks that files can have.
    fn data_blocks(&self) -> u64 {
        (0..self.groups()).map(|group| self.end(group).saturating_sub(self.data_start(group))).sum()
    }

    /// Group and byte of an inode.
    pub(super) fn inode_place(&self, number: u32) -> (usize, u64) {
        let index = u64::from(number).saturating_sub(1);
        let group = usize::try_from(index / self.inodes_per_group).unwrap_or(0);
        (group, self.inode_table(group) * BLOCK + index % self.inodes_per_group * INODE_SIZE)
    }

    pub(super) fn allocator(&self) -> Allocator {
        let next = self.data_start(0);
        Allocator { layout: self.clone(), next }
    }

    /// Blocks in use, when files have all up to `next`.
    fn used_until(&self, group: usize, next: u64) -> u64 {
        next.clamp(self.data_start(group).min(self.end(group)), self.end(group)) - self.start(group)
    }

    pub(super) fn used_blocks_bitmap(&self, group: usize, next: u64) -> Vec<u8> {
        let size = self.end(group) - self.start(group);
        // What is behind the end counts as used.
        bitmap(|bit| bit < self.used_until(group, next) || bit >= size)
    }

    pub(super) fn used_inodes(&self, group: usize, used: u32) -> u64 {
        u64::from(used).saturating_sub(group as u64 * self.inodes_per_group).min(self.inodes_per_group)
    }

    pub(super) fn used_inodes_bitmap(&self, group: usize, used: u32) -> Vec<u8> {
        let count = self.used_inodes(group, used);
        bitmap(|bit| bit < count || bit >= self.inodes_per_group)
    }

    pub(super) fn free_blocks(&self, next: u64) -> u64 {
        (0..self.groups()).map(|group| self.end(group) - self.start(group) - self.used_until(group, next)).sum()
    }

    /// All group descriptors.
    pub(super) fn descriptors(&self, next: u64, used_inodes: u32, directories: &[u16]) -> Vec<u8> {
        let mut out = Vec::new();
        for group in 0..self.groups() {
            for block in [self.block_bitmap(group), self.inode_bitmap(group), self.inode_table(group)] {
                out.extend((block as u32).to_le_bytes());
            }
            let free_blocks = self.end(group) - self.start(group) - self.used_until(group, next);
            let free_inodes = self.inodes_per_group - self.used_inodes(group, used_inodes);
            for count in [free_blocks as u16, free_inodes as u16, directories.get(group).copied().unwrap_or(0)] {
                out.extend(count.to_le_bytes());
            }
            out.resize((group + 1) * DESCRIPTOR as usize, 0);
        }
        out
    }
}

fn bitmap(used: impl Fn(u64) -> bool) -> Vec<u8> {
    let byte = |index: u64| (0..8).filter(|bit| used(index * 8 + bit)).fold(0u8, |byte, bit| byte | 1 << bit);
    (0..BLOCK).map(byte).collect()
}

/// Hands out blocks, one after the other.
pub(super) struct Allocator {
    layout: Layout,
    next: u64,
}

impl Allocator {
    /// The block behind the last one that was handed out.
    pub(super) fn next(&self) -> u64 {
        self.next
    }

    /// So many blocks, in few pieces.
    pub(super) fn take(&mut self, count: u64) -> io::Result<Vec<Extent>> {
        let mut extents = Vec::new();
        let mut logical = 0;
        while logical < count {
            let group = usize::try_from(self.next / BLOCKS_PER_GROUP).unwrap_or(usize::MAX);
            if group >= self.layout.groups() {
                return Err(io::Error::other("the file system is too small for its files"));
            }
            self.next = self.next.max(self.layout.data_start(group));
            // An extent of more blocks would mean something else.
            let length = (count - logical).min(self.layout.end(group).saturating_sub(self.next)).min(32_768);
            if length == 0 {
                self.next = self.layout.end(group);
                if self.next >= self.layout.blocks {
                    return Err(io::Error::other("the file system is too small for its files"));
                }
                continue;
            }
            extents.push(Extent { logical: logical as u32, start: self.next, length: length as u32 });
            self.next += length;
            logical += length;
        }
        Ok(extents)
    }
}
