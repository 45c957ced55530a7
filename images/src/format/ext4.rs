//! An image as an ext4 file system (Linux, `Documentation/filesystems/ext4`), ready to be grown by resize2fs: 4 KiB blocks,
//! extents, a journal, no checksums. The same tree gives the same bytes.

mod directory;
mod inode;
mod layout;
mod resize;
mod superblock;
mod xattr;

use std::collections::HashMap;
use std::fs::File;
use std::io::{self, Read};
use std::os::unix::fs::FileExt;

use self::inode::{Extent, RawInode};
use self::layout::{BLOCK, Layout};
use self::xattr::Attributes;
use crate::tree::{Kind, Tree};

/// The root directory.
const ROOT: u32 = 2;
/// The inode that reserves room for more group descriptors.
const RESIZE: u32 = 7;
/// The journal.
const JOURNAL: u32 = 8;
/// Where fsck puts what it finds; the first inode that is not special.
const LOST_AND_FOUND: u32 = 11;
/// fsck wants room here before it needs it.
const LOST_AND_FOUND_BLOCKS: u64 = 4;

/// How a file system is made.
#[derive(Clone, Debug)]
pub struct Ext4Options {
    /// Bytes, a multiple of 4 KiB; `None`: what the files need and some more.
    pub size: Option<u64>,
    /// The label, at most 16 bytes.
    pub label: String,
    /// The UUID.
    pub uuid: [u8; 16],
    /// All times that no file says.
    pub epoch: u32,
}

/// Writes a tree into `out` from byte `offset` on; gives the size of the file system. Blocks of zeros are not written.
///
/// # Errors
/// What the operating system refuses, files that do not fit into the asked size, and what the file system cannot hold.
pub fn write(tree: &Tree, options: &Ext4Options, out: &File, offset: u64) -> io::Result<u64> {
    let numbers = number_inodes(tree);
    let needed = Needs::of(tree);
    let layout = Layout::new(options.size, needed.blocks, needed.inodes)?;
    let mut writer =
        Ext4 { tree, options, out, offset, numbers, blocks: layout.allocator(), layout, used_directories: Vec::new() };
    writer.used_directories = vec![0; writer.layout.groups()];
    writer.special()?;
    writer.files()?;
    writer.metadata()?;
    Ok(writer.layout.blocks * BLOCK)
}

/// Inode numbers in the order of first names.
fn number_inodes(tree: &Tree) -> HashMap<usize, u32> {
    let mut numbers = HashMap::new();
    let mut next = LOST_AND_FOUND + 1;
    for (path, id, _) in tree.iter() {
        let number = numbers.entry(Tree::index(id)).or_insert(if path.is_empty() { ROOT } else { next });
        if *number == next {
            next = next.saturating_add(1);
        }
    }
    numbers
}

/// What the files need.
struct Needs {
    blocks: u64,
    inodes: u64,
}

impl Needs {
    fn of(tree: &Tree) -> Needs {
        let (mut blocks, mut inodes) = (LOST_AND_FOUND_BLOCKS, u64::from(LOST_AND_FOUND));
        let mut seen = HashMap::new();
        for (path, id, inode) in tree.iter() {
            if seen.insert(Tree::index(id), ()).is_some() {
                continue;
            }
            inodes += 1;
            // One that cannot be kept is told of when it is written.
            let outside = |xattrs: Attributes| xattrs.inline(RawInode::XATTR_ROOM).is_none();
            blocks += u64::from(!inode.xattrs.is_empty() && Attributes::of(&inode.xattrs, path).is_ok_and(outside));
            blocks += match &inode.kind {
                // A block of extents for each file that may be in many pieces.
                Kind::File(content) => content.len().div_ceil(BLOCK) + u64::from(content.len() > 64 << 20),
                Kind::Symlink(target) => u64::from(target.len() >= inode::SHORT_LINK),
                Kind::Directory => directory::blocks(&directory::names(tree, path)),
                _ => 0,
            };
        }
        Needs { blocks, inodes }
    }
}

struct Ext4<'a> {
    tree: &'a Tree,
    options: &'a Ext4Options,
    out: &'a File,
    offset: u64,
    numbers: HashMap<usize, u32>,
    layout: Layout,
    blocks: layout::Allocator,
    /// Directories in each group.
    used_directories: Vec<u16>,
}

impl Ext4<'_> {
    fn write_block(&self, block: u64, bytes: &[u8]) -> io::Result<()> {
        if bytes.iter().all(|&byte| byte == 0) {
            return Ok(());
        }
        self.out.write_all_at(bytes, self.offset + block * BLOCK)
    }

    fn write_inode(&mut self, number: u32, raw: &RawInode) -> io::Result<()> {
        let (group, at) = self.layout.inode_place(number);
        if raw.is_directory()
            && let Some(count) = self.used_directories.get_mut(group)
        {
            *count += 1;
        }
        self.out.write_all_at(&raw.bytes(), self.offset + at)
    }

    /// Gives an inode its blocks as extents.
    fn set_extents(&mut self, raw: &mut RawInode, extents: &[Extent]) -> io::Result<()> {
        let count: u64 = extents.iter().map(|extent| u64::from(extent.length)).sum();
        let mut index_blocks = Vec::new();
        if extents.len() > inode::EXTENTS_IN_INODE {
            for chunk in extents.chunks(inode::EXTENTS_IN_BLOCK) {
                let block = self.blocks.take(1)?.first().map(|extent| extent.start).unwrap_or_default();
                self.write_block(block, &inode::extent_block(chunk))?;
                index_blocks.push((chunk.first().map_or(0, |extent| extent.logical), block));
            }
        }
        raw.set_extents(extents, &index_blocks)?;
        raw.set_blocks(count + index_blocks.len() as u64);
        Ok(())
    }

    fn set_xattrs(&mut self, raw: &mut RawInode, xattrs: &Attributes) -> io::Result<()> {
        if xattrs.is_empty() {
            return Ok(());
        }
        if let Some(bytes) = xattrs.inline(RawInode::XATTR_ROOM) {
            raw.set_xattrs(&bytes);
            return Ok(());
        }
        let block = self.blocks.take(1)?.first().map(|extent| extent.start).unwrap_or_default();
        self.write_block(block, &xattrs.block())?;
        raw.set_xattr_block(block);
        Ok(())
    }

    /// Journal, room to grow, and lost+found.
    fn special(&mut self) -> io::Result<()> {
        let extents = self.blocks.take(self.layout.journal_blocks)?;
        let first = extents.first().map(|extent| extent.start).unwrap_or_default();
        self.write_block(first, &superblock::journal(self.layout.journal_blocks, &self.options.uuid))?;
        let mut journal = RawInode::new(0o100_600, self.options.epoch);
        journal.set_size(self.layout.journal_blocks * BLOCK);
        self.set_extents(&mut journal, &extents)?;
        self.write_inode(JOURNAL, &journal)?;
        self.layout.journal = Some(journal);

        let block = self.blocks.take(1)?.first().map(|extent| extent.start).unwrap_or_default();
        for (number, bytes) in resize::blocks(&self.layout, block) {
            self.write_block(number, &bytes)?;
        }
        self.write_inode(RESIZE, &resize::inode(&self.layout, block, self.options.epoch))?;

        let extents = self.blocks.take(LOST_AND_FOUND_BLOCKS)?;
        for (number, bytes) in
            extents.iter().flat_map(Extent::blocks).zip(directory::empty(LOST_AND_FOUND, ROOT, LOST_AND_FOUND_BLOCKS))
        {
            self.write_block(number, &bytes)?;
        }
        let mut lost = RawInode::new(0o040_700, self.options.epoch);
        lost.set_links(2);
        lost.set_size(LOST_AND_FOUND_BLOCKS * BLOCK);
        self.set_extents(&mut lost, &extents)?;
        self.write_inode(LOST_AND_FOUND, &lost)
    }

    fn files(&mut self) -> io::Result<()> {
        let links = self.tree.link_counts();
        let mut done = HashMap::new();
        let tree = self.tree;
        for (path, id, file) in tree.iter() {
            if done.insert(Tree::index(id), ()).is_some() {
                continue;
            }
            let number = self.numbers.get(&Tree::index(id)).copied().unwrap_or_default();
            let mut raw = RawInode::new(file.st_mode(), u32::try_from(file.mtime).unwrap_or(0));
            raw.set_owner(file.uid, file.gid);
            raw.set_links(links.get(Tree::index(id)).copied().unwrap_or(1));
            match &file.kind {
                Kind::File(content) => {
                    let extents = self.blocks.take(content.len().div_ceil(BLOCK))?;
                    let mut reader = content.reader();
                    for block in extents.iter().flat_map(Extent::blocks) {
                        let mut bytes = vec![0; BLOCK as usize];
                        read_full(&mut reader, &mut bytes)?;
                        self.write_block(block, &bytes)?;
                    }
                    raw.set_size(content.len());
                    self.set_extents(&mut raw, &extents)?;
                }
                Kind::Symlink(target) if target.len() < inode::SHORT_LINK => raw.set_short_link(target),
                Kind::Symlink(target) => {
                    let extents = self.blocks.take(1)?;
                    let mut bytes = target.clone();
                    bytes.resize(BLOCK as usize, 0);
                    self.write_block(extents.first().map(|extent| extent.start).unwrap_or_default(), &bytes)?;
                    raw.set_size(target.len() as u64);
                    self.set_extents(&mut raw, &extents)?;
                }
                Kind::Directory => self.directory(path, number, &mut raw)?,
                Kind::CharacterDevice(major, minor) | Kind::BlockDevice(major, minor) => raw.set_device(*major, *minor),
                Kind::Fifo => {}
            }
            self.set_xattrs(&mut raw, &Attributes::of(&file.xattrs, path)?)?;
            self.write_inode(number, &raw)?;
        }
        Ok(())
    }

    fn directory(&mut self, path: &[u8], number: u32, raw: &mut RawInode) -> io::Result<()> {
        let mut entries = Vec::new();
        let mut directories = 2;
        for name in directory::names(self.tree, path) {
            let full = if path.is_empty() { name.to_vec() } else { [path, b"/", name].concat() };
            if let (Some(id), Some(file)) = (self.tree.id(&full), self.tree.get(&full)) {
                directories += u32::from(file.kind == Kind::Directory);
                let number = self.numbers.get(&Tree::index(id)).copied().unwrap_or_default();
                entries.push((name, number, directory::file_type(&file.kind)));
            }
        }
        if path.is_empty() {
            directories += 1;
            entries.push((b"lost+found".as_slice(), LOST_AND_FOUND, directory::file_type(&Kind::Directory)));
        }
        let parent = path.get(..path.iter().rposition(|&byte| byte == b'/').unwrap_or(0)).unwrap_or_default();
        let parent = self.tree.id(parent).and_then(|id| self.numbers.get(&Tree::index(id))).copied().unwrap_or(ROOT);
        let bytes = directory::write(number, parent, &entries);
        let extents = self.blocks.take(bytes.len() as u64)?;
        for (block, bytes) in extents.iter().flat_map(Extent::blocks).zip(&bytes) {
            self.write_block(block, bytes)?;
        }
        // More than 65 000 subdirectories are counted as 1.
        raw.set_links(if directories > 65_000 { 1 } else { directories });
        raw.set_size(bytes.len() as u64 * BLOCK);
        self.set_extents(raw, &extents)
    }

    /// Bitmaps, group descriptors and superblocks.
    fn metadata(&mut self) -> io::Result<()> {
        let used_inodes = self.numbers.len() as u32 + LOST_AND_FOUND - 1;
        for group in 0..self.layout.groups() {
            let (blocks, inodes) = (self.layout.block_bitmap(group), self.layout.inode_bitmap(group));
            self.write_block(blocks, &self.layout.used_blocks_bitmap(group, self.blocks.next()))?;
            self.write_block(inodes, &self.layout.used_inodes_bitmap(group, used_inodes))?;
        }
        let descriptors = self.layout.descriptors(self.blocks.next(), used_inodes, &self.used_directories);
        for group in (0..self.layout.groups()).filter(|group| layout::has_superblock(*group)) {
            let start = self.layout.start(group);
            let text = superblock::bytes(&self.layout, self.options, group, self.blocks.next(), used_inodes);
            // The first one stands behind the room for a boot loader.
            let at = self.offset + start * BLOCK + if group == 0 { 1024 } else { 0 };
            self.out.write_all_at(&text, at)?;
            for (number, block) in (start + 1..).zip(descriptors.chunks(BLOCK as usize)) {
                let mut block = block.to_vec();
                block.resize(BLOCK as usize, 0);
                self.write_block(number, &block)?;
            }
        }
        let end = self.offset + self.layout.blocks * BLOCK;
        if self.out.metadata()?.len() < end {
            self.out.set_len(end)?;
        }
        Ok(())
    }
}

/// Fills `buffer` as far as there is something to read.
fn read_full(reader: &mut impl Read, buffer: &mut [u8]) -> io::Result<()> {
    let mut filled = 0;
    while let Some(rest) = buffer.get_mut(filled..).filter(|rest| !rest.is_empty()) {
        match reader.read(rest)? {
            0 => break,
            count => filled += count,
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests;
