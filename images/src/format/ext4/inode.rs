//! Inodes as they are on disk.

use std::io;

use super::layout::{BLOCK, INODE_SIZE};

/// Links shorter than this stand in the inode.
pub(super) const SHORT_LINK: usize = 60;
pub(super) const EXTENTS_IN_INODE: usize = 4;
pub(super) const EXTENTS_IN_BLOCK: usize = (BLOCK as usize - 12) / 12;
const EXTENT_MAGIC: u16 = 0xf30a;
const FLAG_EXTENTS: u32 = 0x8_0000;
/// Bytes of the inode behind the first 128 that have a meaning.
const EXTRA: u16 = 32;
const XATTR_START: usize = 128 + EXTRA as usize;

/// Blocks that follow each other in a file and on the disk.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub(super) struct Extent {
    pub(super) logical: u32,
    pub(super) start: u64,
    pub(super) length: u32,
}

impl Extent {
    pub(super) fn blocks(&self) -> impl Iterator<Item = u64> + use<> {
        self.start..self.start + u64::from(self.length)
    }

    fn bytes(&self) -> Vec<u8> {
        let high = (self.start >> 32) as u16;
        [
            &self.logical.to_le_bytes()[..],
            &(self.length as u16).to_le_bytes(),
            &high.to_le_bytes(),
            &(self.start as u32).to_le_bytes(),
        ]
        .concat()
    }
}

fn extent_header(entries: usize, room: usize, depth: u16) -> Vec<u8> {
    let words = [EXTENT_MAGIC, entries as u16, room as u16, depth, 0, 0];
    words.iter().flat_map(|word| word.to_le_bytes()).collect()
}

/// A block of an extent tree.
pub(super) fn extent_block(extents: &[Extent]) -> Vec<u8> {
    let mut bytes = extent_header(extents.len(), EXTENTS_IN_BLOCK, 0);
    bytes.extend(extents.iter().flat_map(Extent::bytes));
    bytes.resize(BLOCK as usize, 0);
    bytes
}

/// An inode.
#[derive(Clone, Debug)]
pub(super) struct RawInode(Vec<u8>);

impl RawInode {
    /// Root's, with one name.
    pub(super) fn new(mode: u32, time: u32) -> RawInode {
        let mut inode = RawInode(vec![0; INODE_SIZE as usize]);
        inode.put(0, &(mode as u16).to_le_bytes());
        for at in [8, 12, 16, 0x90] {
            inode.put(at, &time.to_le_bytes());
        }
        inode.put(128, &EXTRA.to_le_bytes());
        inode.set_links(1);
        inode
    }

    fn put(&mut self, at: usize, bytes: &[u8]) {
        if let Some(place) = self.0.get_mut(at..at + bytes.len()) {
            place.copy_from_slice(bytes);
        }
    }

    pub(super) fn bytes(&self) -> Vec<u8> {
        self.0.clone()
    }

    /// The map of blocks, and the size: what the superblock keeps of the journal.
    pub(super) fn map(&self) -> &[u8] {
        self.0.get(40..100).unwrap_or_default()
    }

    pub(super) fn is_directory(&self) -> bool {
        self.0.get(1).is_some_and(|byte| byte >> 4 == 4)
    }

    pub(super) fn set_owner(&mut self, uid: u32, gid: u32) {
        self.put(2, &(uid as u16).to_le_bytes());
        self.put(24, &(gid as u16).to_le_bytes());
        self.put(120, &((uid >> 16) as u16).to_le_bytes());
        self.put(122, &((gid >> 16) as u16).to_le_bytes());
    }

    pub(super) fn set_links(&mut self, links: u32) {
        self.put(26, &(links as u16).to_le_bytes());
    }

    pub(super) fn set_size(&mut self, size: u64) {
        self.put(4, &(size as u32).to_le_bytes());
        self.put(108, &((size >> 32) as u32).to_le_bytes());
    }

    /// How many blocks belong to it; counted in sectors.
    pub(super) fn set_blocks(&mut self, blocks: u64) {
        self.put(28, &((blocks * 8) as u32).to_le_bytes());
        self.put(116, &(((blocks * 8) >> 32) as u16).to_le_bytes());
    }

    /// A map with one entry for blocks that are reached over two others.
    pub(super) fn set_double_indirect(&mut self, block: u64) {
        self.put(40 + 13 * 4, &(block as u32).to_le_bytes());
    }

    /// The extents, or the blocks where they are.
    pub(super) fn set_extents(&mut self, extents: &[Extent], blocks: &[(u32, u64)]) -> io::Result<()> {
        if blocks.len() > EXTENTS_IN_INODE {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, "a file is in too many pieces"));
        }
        let mut map = if blocks.is_empty() {
            let mut map = extent_header(extents.len(), EXTENTS_IN_INODE, 0);
            map.extend(extents.iter().flat_map(Extent::bytes));
            map
        } else {
            let mut map = extent_header(blocks.len(), EXTENTS_IN_INODE, 1);
            for (logical, block) in blocks {
                map.extend(logical.to_le_bytes());
                map.extend((*block as u32).to_le_bytes());
                map.extend(((block >> 32) as u16).to_le_bytes());
                map.extend([0, 0]);
            }
            map
        };
        map.resize(60, 0);
        self.put(40, &map);
        self.put(32, &FLAG_EXTENTS.to_le_bytes());
        Ok(())
    }

    pub(super) fn set_short_link(&mut self, target: &[u8]) {
        self.put(40, target);
        self.set_size(target.len() as u64);
    }

    pub(super) fn set_device(&mut self, major: u32, minor: u32) {
        if major < 256 && minor < 256 {
            self.put(40, &(major << 8 | minor).to_le_bytes());
        } else {
            self.put(44, &(minor & 0xff | major << 8 | (minor & !0xff) << 12).to_le_bytes());
        }
    }

    /// Bytes for extended attributes.
    pub(super) const XATTR_ROOM: usize = INODE_SIZE as usize - XATTR_START;

    /// Extended attributes that stand in the inode.
    pub(super) fn set_xattrs(&mut self, bytes: &[u8]) {
        self.put(XATTR_START, bytes);
    }

    /// Extended attributes in a block of their own, which counts as one of the file's: the last thing that is set.
    pub(super) fn set_xattr_block(&mut self, block: u64) {
        self.put(104, &(block as u32).to_le_bytes());
        self.put(118, &((block >> 32) as u16).to_le_bytes());
        let low = self.0.get(28..32).and_then(|bytes| bytes.try_into().ok()).map_or(0, u32::from_le_bytes);
        let high = self.0.get(116..118).and_then(|bytes| bytes.try_into().ok()).map_or(0, u16::from_le_bytes);
        self.set_blocks(((u64::from(high) << 32) | u64::from(low)) / 8 + 1);
    }
}
