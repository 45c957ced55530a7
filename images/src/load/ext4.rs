//! Reads ext2, ext3 and ext4 file systems (Linux, `Documentation/filesystems/ext4`) without mounting them. They may come
//! from anybody: each number is checked, directories and extents are followed only so far.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::io::{self, Read};

use crate::initrd::DiskView;
use crate::tree::{Inode, InodeId, Kind, Spool, Tree, show};

use super::{LoadError, Loader};

const ROOT: u32 = 2;
const INCOMPATIBLE_RECOVER: u32 = 0x4;
const INCOMPATIBLE_64BIT: u32 = 0x80;
/// File types in directories, extents, 64 bits, mount protection, flexible groups, checksum seeds, large directories and
/// case folding: none of these changes what is read here.
const INCOMPATIBLE_KNOWN: u32 = 0x2 | 0x40 | INCOMPATIBLE_64BIT | 0x100 | 0x200 | 0x2000 | 0x4000 | 0x2_0000;
const EXTENTS: u32 = 0x8_0000;
const EXTENT_MAGIC: u16 = 0xf30a;
const XATTR_MAGIC: u32 = 0xea02_0000;
/// More is not needed for 2^32 blocks.
const DEEPEST: u16 = 5;
/// Most pieces of one file.
const MAX_RUNS: usize = 1 << 22;
/// Largest directory.
const MAX_DIRECTORY: u64 = 256 << 20;
/// Deepest directory: paths are not longer in Linux.
const MAX_PATH: usize = 4096;

/// Blocks of a file that are next to each other on the disk too.
#[derive(Copy, Clone, Debug)]
struct Run {
    logical: u64,
    physical: u64,
    length: u64,
}

/// A file system.
pub(super) struct Ext4<'a> {
    disk: &'a DiskView<'a>,
    start: u64,
    size: u64,
    block: u64,
    inode_size: u64,
    inodes: u32,
    inodes_per_group: u32,
    /// Where the group descriptors are, and their size.
    descriptors: (u64, u64),
}

/// An inode as it is on the disk.
struct Raw(Vec<u8>);

fn half(bytes: &[u8], at: usize) -> u16 {
    bytes.get(at..).and_then(|rest| rest.first_chunk()).map_or(0, |two| u16::from_le_bytes(*two))
}

fn word(bytes: &[u8], at: usize) -> u32 {
    bytes.get(at..).and_then(|rest| rest.first_chunk()).map_or(0, |four| u32::from_le_bytes(*four))
}

fn damaged(what: impl Into<String>) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, format!("its file system is damaged: {}", what.into()))
}

impl Raw {
    fn mode(&self) -> u32 {
        u32::from(half(&self.0, 0))
    }

    fn size(&self) -> u64 {
        u64::from(word(&self.0, 4)) | u64::from(word(&self.0, 108)) << 32
    }

    fn owner(&self) -> (u32, u32) {
        let number = |low, high| u32::from(half(&self.0, low)) | u32::from(half(&self.0, high)) << 16;
        (number(2, 120), number(24, 122))
    }

    /// Bytes of the inode that are in use beyond the first 128.
    fn extra(&self) -> usize {
        usize::from(half(&self.0, 128))
    }

    fn mtime(&self) -> i64 {
        let seconds = i64::from(word(&self.0, 16) as i32);
        let more = if self.0.len() > 128 && self.extra() >= 12 { word(&self.0, 136) & 3 } else { 0 };
        seconds + (i64::from(more) << 32)
    }

    /// The 60 bytes that say where the contents are.
    fn map(&self) -> &[u8] {
        self.0.get(40..100).unwrap_or_default()
    }

    fn xattr_block(&self) -> u64 {
        u64::from(word(&self.0, 104)) | u64::from(half(&self.0, 118)) << 32
    }
}

impl<'a> Ext4<'a> {
    /// The file system of `size` bytes at `start`.
    pub(super) fn open(disk: &'a DiskView<'a>, start: u64, size: u64) -> io::Result<Ext4<'a>> {
        let mut found = vec![0; 1024];
        (disk.read)(start.saturating_add(1024), &mut found)?;
        let unusual = |what: String| io::Error::new(io::ErrorKind::Unsupported, what);
        if half(&found, 56) != 0xef53 {
            return Err(damaged("no superblock"));
        }
        let features = if word(&found, 76) == 0 { 0 } else { word(&found, 96) };
        if features & INCOMPATIBLE_RECOVER != 0 {
            return Err(unusual(
                "its file system was not unmounted: run e2fsck, or boot it and power it off".to_owned(),
            ));
        }
        if features & !INCOMPATIBLE_KNOWN != 0 {
            return Err(unusual(format!(
                "its file system has features that are not known: {:#x}",
                features & !INCOMPATIBLE_KNOWN
            )));
        }
        let shift = word(&found, 24);
        let inode_size = if word(&found, 76) == 0 { 128 } else { u64::from(half(&found, 88)) };
        let inodes_per_group = word(&found, 40);
        if shift > 6 || !(128..=4096).contains(&inode_size) || !inode_size.is_power_of_two() || inodes_per_group == 0 {
            return Err(damaged("sizes that cannot be"));
        }
        let block = 1024 << shift;
        let descriptor = if features & INCOMPATIBLE_64BIT != 0 { u64::from(half(&found, 254)).max(64) } else { 32 };
        let descriptors = ((u64::from(word(&found, 20)) + 1) * block, descriptor);
        Ok(Ext4 { disk, start, size, block, inode_size, inodes: word(&found, 0), inodes_per_group, descriptors })
    }

    fn bytes(&self, at: u64, out: &mut [u8]) -> io::Result<()> {
        let end = at.checked_add(out.len() as u64).filter(|end| *end <= self.size);
        let place = end.and_then(|_| self.start.checked_add(at)).ok_or_else(|| damaged("it leads beyond its end"))?;
        (self.disk.read)(place, out)
    }

    fn inode(&self, number: u32) -> io::Result<Raw> {
        let index = number.checked_sub(1).filter(|_| number <= self.inodes);
        let index = index.ok_or_else(|| damaged(format!("there is no inode {number}")))?;
        let (group, index) = (u64::from(index / self.inodes_per_group), u64::from(index % self.inodes_per_group));
        let mut descriptor = vec![0; usize::try_from(self.descriptors.1).unwrap_or(64)];
        self.bytes(self.descriptors.0 + group * self.descriptors.1, &mut descriptor)?;
        let high = if descriptor.len() >= 64 { word(&descriptor, 0x28) } else { 0 };
        let table = (u64::from(word(&descriptor, 8)) | u64::from(high) << 32).checked_mul(self.block);
        let at = table.and_then(|table| table.checked_add(index * self.inode_size));
        let mut bytes = vec![0; usize::try_from(self.inode_size).unwrap_or(256)];
        self.bytes(at.ok_or_else(|| damaged("an inode table beyond its end"))?, &mut bytes)?;
        Ok(Raw(bytes))
    }

    fn read_block(&self, number: u64) -> io::Result<Vec<u8>> {
        let mut bytes = vec![0; usize::try_from(self.block).unwrap_or(4096)];
        self.bytes(number.checked_mul(self.block).ok_or_else(|| damaged("a block beyond its end"))?, &mut bytes)?;
        Ok(bytes)
    }

    /// Where the contents of a file are, in their order.
    fn runs(&self, raw: &Raw) -> io::Result<Vec<Run>> {
        let mut runs = Vec::new();
        if word(&raw.0, 32) & EXTENTS != 0 {
            self.extents(raw.map(), DEEPEST, &mut runs)?;
            let sorted = runs.windows(2).all(|pair| match pair {
                [one, next] => one.logical + one.length <= next.logical,
                _ => true,
            });
            return if sorted { Ok(runs) } else { Err(damaged("extents out of order")) };
        }
        let blocks = raw.size().div_ceil(self.block);
        let mut logical = 0;
        for slot in 0..15 {
            let depth = (slot as u32).saturating_sub(11);
            self.mapped(u64::from(word(raw.map(), slot * 4)), depth, &mut logical, blocks, &mut runs)?;
        }
        Ok(runs)
    }

    fn extents(&self, node: &[u8], deepest: u16, runs: &mut Vec<Run>) -> io::Result<()> {
        let (entries, depth) = (usize::from(half(node, 2)), half(node, 6));
        if half(node, 0) != EXTENT_MAGIC || depth > deepest || (entries + 1) * 12 > node.len() {
            return Err(damaged("a bad extent tree"));
        }
        for entry in node.chunks_exact(12).skip(1).take(entries) {
            if depth > 0 {
                let child = u64::from(word(entry, 4)) | u64::from(half(entry, 8)) << 32;
                self.extents(&self.read_block(child)?, depth - 1, runs)?;
                continue;
            }
            let length = u64::from(half(entry, 4));
            let physical = u64::from(word(entry, 8)) | u64::from(half(entry, 6)) << 32;
            // Longer ones are reserved and hold nothing yet.
            if (1..=32_768).contains(&length) {
                runs.push(Run { logical: u64::from(word(entry, 0)), physical, length });
            }
            if runs.len() > MAX_RUNS {
                return Err(damaged("a file of too many pieces"));
            }
        }
        Ok(())
    }

    /// Blocks by the older map: `depth` levels of blocks full of numbers.
    fn mapped(&self, block: u64, depth: u32, logical: &mut u64, blocks: u64, runs: &mut Vec<Run>) -> io::Result<()> {
        let span = (self.block / 4).saturating_pow(depth);
        if *logical >= blocks || block == 0 {
            *logical = logical.saturating_add(span);
            return Ok(());
        }
        if depth > 0 {
            let numbers = self.read_block(block)?;
            return numbers
                .chunks_exact(4)
                .try_for_each(|number| self.mapped(u64::from(word(number, 0)), depth - 1, logical, blocks, runs));
        }
        let too_many = runs.len() > MAX_RUNS;
        match runs.last_mut() {
            Some(run) if run.logical + run.length == *logical && run.physical + run.length == block => run.length += 1,
            _ if too_many => return Err(damaged("a file of too many pieces")),
            _ => runs.push(Run { logical: *logical, physical: block, length: 1 }),
        }
        *logical += 1;
        Ok(())
    }

    fn contents<'b>(&'b self, raw: &Raw) -> io::Result<Contents<'b>> {
        Ok(Contents { system: self, runs: self.runs(raw)?, size: raw.size(), position: 0, run: 0 })
    }

    fn xattrs(&self, raw: &Raw) -> io::Result<BTreeMap<Vec<u8>, Vec<u8>>> {
        let mut all = BTreeMap::new();
        let inside = raw.0.get(128 + raw.extra()..).unwrap_or_default();
        if raw.0.len() > 128 && word(inside, 0) == XATTR_MAGIC {
            let entries = inside.get(4..).unwrap_or_default();
            read_xattrs(entries, entries, &mut all)?;
        }
        if raw.xattr_block() != 0 {
            let block = self.read_block(raw.xattr_block())?;
            if word(&block, 0) != XATTR_MAGIC {
                return Err(damaged("bad extended attributes"));
            }
            read_xattrs(block.get(32..).unwrap_or_default(), &block, &mut all)?;
        }
        Ok(all)
    }
}

/// Reads entries up to their end; values are in `values`.
fn read_xattrs(mut entries: &[u8], values: &[u8], all: &mut BTreeMap<Vec<u8>, Vec<u8>>) -> io::Result<()> {
    while word(entries, 0) != 0 && entries.len() >= 16 {
        let (length, index) = (usize::from(entries[0]), entries[1]);
        let (offset, size) = (usize::from(half(entries, 2)), word(entries, 8) as usize);
        let prefix: &[u8] = match index {
            0 => b"",
            1 => b"user.",
            2 => b"system.posix_acl_access",
            3 => b"system.posix_acl_default",
            4 => b"trusted.",
            6 => b"security.",
            7 => b"system.",
            _ => return Err(damaged("extended attributes of an unknown kind")),
        };
        let name = entries.get(16..16 + length);
        let value = offset.checked_add(size).and_then(|end| values.get(offset..end));
        let (Some(name), Some(value), 0) = (name, value, word(entries, 4)) else {
            return Err(damaged("bad extended attributes"));
        };
        all.insert([prefix, name].concat(), value.to_vec());
        entries = entries.get((16 + length).next_multiple_of(4)..).unwrap_or_default();
    }
    Ok(())
}

/// Reads the contents of a file.
struct Contents<'a> {
    system: &'a Ext4<'a>,
    runs: Vec<Run>,
    size: u64,
    position: u64,
    /// The first run that does not end before the position.
    run: usize,
}

impl Read for Contents<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let block = self.system.block;
        let left = self.size.saturating_sub(self.position).min(buffer.len() as u64);
        if left == 0 {
            return Ok(0);
        }
        while self.runs.get(self.run).is_some_and(|run| (run.logical + run.length) * block <= self.position) {
            self.run += 1;
        }
        let run = self.runs.get(self.run);
        let (end, place) = match run {
            Some(run) if run.logical * block <= self.position => {
                let place = run.physical.checked_mul(block).map(|start| start + (self.position - run.logical * block));
                ((run.logical + run.length) * block, Some(place.ok_or_else(|| damaged("a block beyond its end"))?))
            }
            Some(run) => (run.logical * block, None),
            None => (self.size, None),
        };
        let count = usize::try_from(left.min(end - self.position)).unwrap_or(0);
        let part = buffer.get_mut(..count).unwrap_or_default();
        match place {
            Some(place) => self.system.bytes(place, part)?,
            None => part.fill(0),
        }
        self.position += count as u64;
        Ok(count)
    }
}

/// A walk through all directories.
pub(super) struct Walk<'a> {
    pub(super) loader: &'a Loader<'a>,
    pub(super) system: Ext4<'a>,
    spool: &'a Spool,
    known: HashMap<u32, InodeId>,
    /// Bytes of contents that may still come: holes cost room in the spool, so that a small file system cannot have any
    /// number of them.
    left: u64,
}

impl<'a> Walk<'a> {
    pub(super) fn new(loader: &'a Loader<'a>, system: Ext4<'a>) -> Walk<'a> {
        let left = system.size.saturating_mul(4).max(1 << 30);
        Walk { loader, spool: loader.spool, known: HashMap::new(), left, system }
    }

    /// Puts all files into the tree.
    pub(super) fn run(mut self, tree: &mut Tree) -> Result<(), LoadError> {
        let loader = self.loader;
        let failed = |error| loader.io(error);
        let root = self.system.inode(ROOT).map_err(failed)?;
        let inode = self.make(&root, Kind::Directory).map_err(failed)?;
        if let Some(place) = tree.get_mut(b"") {
            *place = inode;
        }
        let mut seen = HashSet::from([ROOT]);
        let mut waiting = vec![(Vec::new(), root)];
        while let Some((path, raw)) = waiting.pop() {
            for (name, number) in self.names(&raw).map_err(failed)? {
                let path = if path.is_empty() { name } else { [path.as_slice(), b"/", &name].concat() };
                if path.len() > MAX_PATH {
                    return Err(failed(damaged("a path that is too long")));
                }
                if let Some(id) = self.known.get(&number) {
                    tree.link(&path, *id);
                    continue;
                }
                let raw = self.system.inode(number).map_err(failed)?;
                let Some(kind) = self.kind(&raw, &path).map_err(failed)? else { continue };
                let is_directory = kind == Kind::Directory;
                if is_directory && !seen.insert(number) {
                    return Err(failed(damaged(format!("{} is a directory of two names", show(&path)))));
                }
                // Where fsck puts what it finds; nobody made it.
                if is_directory && path == b"lost+found" && self.names(&raw).map_err(failed)?.is_empty() {
                    continue;
                }
                let inode = self.make(&raw, kind).map_err(failed)?;
                let id = self.loader.insert(tree, &path, inode)?;
                if is_directory {
                    waiting.push((path, raw));
                } else {
                    self.known.insert(number, id);
                }
            }
        }
        Ok(())
    }

    fn make(&self, raw: &Raw, kind: Kind) -> io::Result<Inode> {
        let (uid, gid) = raw.owner();
        let xattrs = self.system.xattrs(raw)?;
        Ok(Inode { uid, gid, xattrs, ..Inode::new(kind, raw.mode() & 0o7777, raw.mtime()) })
    }

    /// What a file is; nothing for sockets, which their programs make.
    fn kind(&mut self, raw: &Raw, path: &[u8]) -> io::Result<Option<Kind>> {
        let (old, new) = (word(raw.map(), 0), word(raw.map(), 4));
        // Linux' two ways to write device numbers.
        let device = if old != 0 {
            (old >> 8 & 0xff, old & 0xff)
        } else {
            ((new & 0xf_ff00) >> 8, new & 0xff | new >> 12 & 0xf_ff00)
        };
        Ok(Some(match raw.mode() & 0o170_000 {
            0o040_000 => Kind::Directory,
            0o100_000 => {
                self.left =
                    self.left.checked_sub(raw.size()).ok_or_else(|| damaged("more contents than its size allows"))?;
                Kind::File(self.spool.copy(&mut self.system.contents(raw)?, raw.size())?)
            }
            0o120_000 if raw.size() < 60 && word(&raw.0, 32) & EXTENTS == 0 => {
                Kind::Symlink(raw.map().iter().copied().take(usize::try_from(raw.size()).unwrap_or(0)).collect())
            }
            0o120_000 if raw.size() <= MAX_PATH as u64 => {
                let mut target = Vec::new();
                self.system.contents(raw)?.read_to_end(&mut target)?;
                Kind::Symlink(target)
            }
            0o020_000 => Kind::CharacterDevice(device.0, device.1),
            0o060_000 => Kind::BlockDevice(device.0, device.1),
            0o010_000 => Kind::Fifo,
            0o140_000 => return Ok(None),
            other => return Err(damaged(format!("{} has the unknown type {other:o}", show(path)))),
        }))
    }

    /// Names and inode numbers in a directory.
    fn names(&self, raw: &Raw) -> io::Result<Vec<(Vec<u8>, u32)>> {
        if raw.size() > MAX_DIRECTORY {
            return Err(damaged("a directory that is too large"));
        }
        let mut bytes = Vec::new();
        self.system.contents(raw)?.read_to_end(&mut bytes)?;
        let mut names = Vec::new();
        for mut block in bytes.chunks(usize::try_from(self.system.block).unwrap_or(4096)) {
            while block.len() >= 8 {
                let (number, length, size) = (word(block, 0), usize::from(half(block, 4)), usize::from(block[6]));
                // 64 KiB do not fit into the field.
                let length = if length == 0 || length == 0xffff { block.len() } else { length };
                let name = block.get(8..8 + size);
                let (Some(name), Some(rest)) = (name.filter(|_| length >= 8 + size), block.get(length..)) else {
                    return Err(damaged("a bad directory"));
                };
                if number != 0 && name != b"." && name != b".." {
                    if name.is_empty() || name.contains(&b'/') || name.contains(&0) {
                        return Err(damaged(format!("a file with the name {}", show(name))));
                    }
                    names.push((name.to_vec(), number));
                }
                block = rest;
            }
        }
        names.sort();
        Ok(names)
    }
}
