//! FAT32 file systems with a few files, as UEFI wants them for its system partition (Microsoft, "FAT32 File System
//! Specification", 1.03). Everything is contiguous and in the order in which it is given.

use std::collections::BTreeMap;
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;

use crate::calendar;

const SECTOR: u64 = 512;
const RESERVED: u64 = 32;
/// Clusters of one sector: small file systems still have as many as FAT32 needs.
const CLUSTER: u64 = SECTOR;
/// Fewer clusters would make it FAT16.
const FEWEST_CLUSTERS: u64 = 65_525;
const END_OF_CHAIN: u32 = 0x0fff_ffff;
const DIRECTORY: u8 = 0x10;
const ARCHIVE: u8 = 0x20;
const LONG_NAME: u8 = 0x0f;
/// UTF-16 units in an entry of a long name.
const UNITS: usize = 13;

/// A file system.
#[derive(Clone, Debug)]
pub struct Fat<'a> {
    /// Its files: paths with `/`, contents.
    pub files: Vec<(&'a str, &'a [u8])>,
    /// Bytes of the partition.
    pub size: u64,
    /// The serial number.
    pub id: u32,
    /// The time of everything, in seconds since 1970.
    pub epoch: u64,
}

/// A file or a directory on its way.
#[derive(Default)]
struct Node<'a> {
    contents: Option<&'a [u8]>,
    children: BTreeMap<&'a str, Node<'a>>,
    /// Its first cluster; 0 for an empty file.
    start: u32,
}

impl Node<'_> {
    fn attributes(&self) -> u8 {
        if self.contents.is_some() { ARCHIVE } else { DIRECTORY }
    }

    /// Bytes that it takes.
    fn length(&self, is_root: bool) -> u64 {
        match self.contents {
            Some(contents) => contents.len() as u64,
            None => {
                let entries: usize = self.children.keys().map(|name| entries_of(name)).sum();
                // "." and "..", and the end.
                ((entries + if is_root { 1 } else { 3 }) * 32) as u64
            }
        }
    }
}

impl Fat<'_> {
    /// Bytes of a partition in which files of so many bytes fit, in whole MiB.
    pub fn size_for(bytes: u64) -> u64 {
        // The table has four bytes for each cluster, twice; some room for a second kernel is left.
        let needed = (bytes * 2 + (16 << 20)) / 32 * 33;
        needed.max(64 << 20).next_multiple_of(1 << 20)
    }

    /// Writes it at `offset`.
    ///
    /// # Errors
    /// What the operating system refuses, files that do not fit, and names that are none.
    pub fn write(&self, out: &File, offset: u64) -> io::Result<()> {
        let geometry = Geometry::new(self.size)?;
        let mut root = self.tree()?;
        let mut table = vec![0x0fff_fff8, END_OF_CHAIN];
        allocate(&mut root, &mut table, true);
        if table.len() as u64 > geometry.clusters + 2 {
            return Err(io::Error::other(format!(
                "the files of the EFI system partition do not fit in {} MiB",
                self.size >> 20
            )));
        }
        let boot = self.boot_sector(&geometry, offset);
        let info = geometry.info_sector(table.len() as u64);
        for copy in [0, 6] {
            out.write_all_at(&boot, offset + copy * SECTOR)?;
            out.write_all_at(&info, offset + (copy + 1) * SECTOR)?;
        }
        let bytes: Vec<u8> = table.iter().flat_map(|entry| entry.to_le_bytes()).collect();
        for copy in 0..2 {
            out.write_all_at(&bytes, offset + (RESERVED + copy * geometry.table_sectors) * SECTOR)?;
        }
        self.write_node(&root, 0, true, out, offset + geometry.data)
    }

    fn tree(&self) -> io::Result<Node<'_>> {
        let mut root = Node::default();
        for (path, contents) in &self.files {
            let mut at = &mut root;
            for part in path.split('/') {
                let known = part.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"._-+~".contains(&byte));
                if part.trim_matches('.').is_empty() || part.len() > 200 || !known {
                    return Err(io::Error::other(format!(
                        "{path:?} is no name for a file of the EFI system partition"
                    )));
                }
                at = at.children.entry(part).or_default();
            }
            at.contents = Some(contents);
        }
        Ok(root)
    }

    fn boot_sector(&self, geometry: &Geometry, offset: u64) -> Vec<u8> {
        let mut sector = vec![0; SECTOR as usize];
        let mut put = |at: usize, bytes: &[u8]| {
            if let Some(place) = sector.get_mut(at..at + bytes.len()) {
                place.copy_from_slice(bytes);
            }
        };
        put(0, &[0xeb, 0x58, 0x90]);
        put(3, b"MSWIN4.1");
        put(11, &(SECTOR as u16).to_le_bytes());
        put(13, &[1]);
        put(14, &(RESERVED as u16).to_le_bytes());
        put(16, &[2]);
        put(21, &[0xf8]);
        put(24, &63u16.to_le_bytes());
        put(26, &255u16.to_le_bytes());
        put(28, &((offset / SECTOR) as u32).to_le_bytes());
        put(32, &((self.size / SECTOR) as u32).to_le_bytes());
        put(36, &(geometry.table_sectors as u32).to_le_bytes());
        put(44, &2u32.to_le_bytes());
        put(48, &1u16.to_le_bytes());
        put(50, &6u16.to_le_bytes());
        put(64, &[0x80, 0, 0x29]);
        put(67, &self.id.to_le_bytes());
        put(71, b"NO NAME    FAT32   ");
        put(510, &[0x55, 0xaa]);
        sector
    }

    fn write_node(&self, node: &Node<'_>, parent: u32, is_root: bool, out: &File, data: u64) -> io::Result<()> {
        let at = |cluster: u32| data + u64::from(cluster.saturating_sub(2)) * CLUSTER;
        if let Some(contents) = node.contents {
            return out.write_all_at(contents, at(node.start));
        }
        let mut bytes = Vec::new();
        if !is_root {
            bytes.extend(self.entry(*b".          ", DIRECTORY, node.start, 0));
            bytes.extend(self.entry(*b"..         ", DIRECTORY, parent, 0));
        }
        let mut taken = Vec::new();
        for (name, child) in &node.children {
            let short = short_name(name, &taken);
            bytes.extend(long_entries(name, &short));
            let size = child.contents.map_or(0, |contents| contents.len() as u32);
            bytes.extend(self.entry(short, child.attributes(), child.start, size));
            taken.push(short);
        }
        out.write_all_at(&bytes, at(node.start))?;
        // The root counts as cluster 0 where it is somebody's parent.
        let own = if is_root { 0 } else { node.start };
        node.children.values().try_for_each(|child| self.write_node(child, own, false, out, data))
    }

    fn entry(&self, name: [u8; 11], attributes: u8, start: u32, size: u32) -> [u8; 32] {
        let (date, time) = dos_time(self.epoch);
        let mut entry = [0; 32];
        let mut put = |at: usize, bytes: &[u8]| {
            if let Some(place) = entry.get_mut(at..at + bytes.len()) {
                place.copy_from_slice(bytes);
            }
        };
        put(0, &name);
        put(11, &[attributes]);
        put(14, &time.to_le_bytes());
        put(16, &date.to_le_bytes());
        put(18, &date.to_le_bytes());
        put(20, &((start >> 16) as u16).to_le_bytes());
        put(22, &time.to_le_bytes());
        put(24, &date.to_le_bytes());
        put(26, &(start as u16).to_le_bytes());
        put(28, &size.to_le_bytes());
        entry
    }
}

/// Gives a node and all below it clusters, in one piece each.
fn allocate(node: &mut Node<'_>, table: &mut Vec<u32>, is_root: bool) {
    let clusters = node.length(is_root).div_ceil(CLUSTER);
    if clusters > 0 {
        node.start = table.len() as u32;
        for _ in 1..clusters {
            table.push(table.len() as u32 + 1);
        }
        table.push(END_OF_CHAIN);
    }
    for child in node.children.values_mut() {
        allocate(child, table, false);
    }
}

struct Geometry {
    table_sectors: u64,
    clusters: u64,
    /// Where the first cluster is.
    data: u64,
}

impl Geometry {
    fn new(size: u64) -> io::Result<Geometry> {
        let sectors = size / SECTOR;
        // Each cluster takes its sector and 8 bytes of the tables; two entries belong to none.
        let clusters = (sectors.saturating_sub(RESERVED) * SECTOR).saturating_sub(16) / (CLUSTER + 8);
        let table_sectors = ((clusters + 2) * 4).div_ceil(SECTOR);
        let clusters = clusters.min(sectors.saturating_sub(RESERVED + 2 * table_sectors));
        if clusters < FEWEST_CLUSTERS || sectors > u64::from(u32::MAX) {
            return Err(io::Error::other(format!("a FAT32 file system cannot have {size} bytes")));
        }
        Ok(Geometry { table_sectors, clusters, data: (RESERVED + 2 * table_sectors) * SECTOR })
    }

    /// How much is free: a hint.
    fn info_sector(&self, used: u64) -> Vec<u8> {
        let mut sector = vec![0; SECTOR as usize];
        let free = (self.clusters + 2).saturating_sub(used) as u32;
        for (at, word) in [(0, 0x4161_5252), (484, 0x6141_7272), (488, free), (492, used as u32), (508, 0xaa55_0000)] {
            if let Some(place) = sector.get_mut(at..at + 4) {
                place.copy_from_slice(&u32::to_le_bytes(word));
            }
        }
        sector
    }
}

/// Whether a name is already one of 8 and 3 capital letters.
fn is_short(name: &str) -> bool {
    let (stem, extension) = name.split_once('.').unwrap_or((name, ""));
    let capital =
        |text: &str| text.bytes().all(|byte| byte.is_ascii_uppercase() || byte.is_ascii_digit() || byte == b'-');
    (1..=8).contains(&stem.len()) && extension.len() <= 3 && capital(stem) && capital(extension)
}

fn entries_of(name: &str) -> usize {
    if is_short(name) { 1 } else { name.len().div_ceil(UNITS) + 1 }
}

/// The name of 8 and 3 letters that a file has beside its long one.
fn short_name(name: &str, taken: &[[u8; 11]]) -> [u8; 11] {
    let (stem, extension) = name.rsplit_once('.').unwrap_or((name, ""));
    let letters = |text: &str, count: usize| -> Vec<u8> {
        text.bytes().filter(u8::is_ascii_alphanumeric).take(count).map(|byte| byte.to_ascii_uppercase()).collect()
    };
    let extension = letters(extension, 3);
    let fill = |stem: &[u8]| {
        let mut short = [b' '; 11];
        for (place, byte) in short.iter_mut().zip(stem.iter().take(8)) {
            *place = *byte;
        }
        for (place, byte) in short.iter_mut().skip(8).zip(&extension) {
            *place = *byte;
        }
        short
    };
    if is_short(name) {
        return fill(stem.as_bytes());
    }
    (1..1_000_000u32)
        .map(|number| {
            let tail = format!("~{number}");
            fill(&[letters(stem, 8 - tail.len()), tail.into_bytes()].concat())
        })
        .find(|short| !taken.contains(short))
        .unwrap_or([b'~'; 11])
}

/// The entries of a long name, last part first; none for a short one.
fn long_entries(name: &str, short: &[u8; 11]) -> Vec<u8> {
    if is_short(name) {
        return Vec::new();
    }
    let sum = short.iter().fold(0u8, |sum, byte| sum.rotate_right(1).wrapping_add(*byte));
    let units: Vec<u16> = name.encode_utf16().collect();
    let parts: Vec<&[u16]> = units.chunks(UNITS).collect();
    let mut bytes = Vec::new();
    for (index, part) in parts.iter().enumerate().rev() {
        let last = if index + 1 == parts.len() { 0x40 } else { 0 };
        // The end is marked by one zero where there is room for it.
        let unit = |at: usize| part.get(at).copied().unwrap_or(if at == part.len() { 0 } else { 0xffff });
        bytes.push((index + 1) as u8 | last);
        bytes.extend((0..5).flat_map(|at| unit(at).to_le_bytes()));
        bytes.extend([LONG_NAME, 0, sum]);
        bytes.extend((5..11).flat_map(|at| unit(at).to_le_bytes()));
        bytes.extend([0, 0]);
        bytes.extend((11..13).flat_map(|at| unit(at).to_le_bytes()));
    }
    bytes
}

/// Date and time as FAT has them, from 1980 on.
fn dos_time(epoch: u64) -> (u16, u16) {
    let seconds = epoch % 86_400;
    let (year, month, day) = calendar::date(epoch / 86_400);
    let year = year.clamp(1980, 2107) - 1980;
    let date = year << 9 | month << 5 | day;
    let time = ((seconds / 3600) << 11) | ((seconds / 60 % 60) << 5) | (seconds % 60 / 2);
    (date as u16, time as u16)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cache::tests::Scratch;

    #[test]
    fn times_and_names() {
        // 2024-02-29 12:34:56
        assert_eq!(dos_time(1_709_210_096), (44 << 9 | 2 << 5 | 29, 12 << 11 | 34 << 5 | 28));
        assert_eq!(dos_time(0).0 >> 9, 0);
        assert!(is_short("BOOTAA64.EFI") && is_short("EFI") && !is_short("debian.conf") && !is_short("a.b.c"));
        assert_eq!(short_name("BOOTAA64.EFI", &[]), *b"BOOTAA64EFI");
        let first = short_name("vmlinuz-6.1.0-50", &[]);
        assert_eq!(first, *b"VMLINU~1050");
        assert_eq!(short_name("vmlinuz-6.1.0-50", &[first]), *b"VMLINU~2050");
    }

    /// Those who know the format find nothing wrong, and the files are what they were.
    #[test]
    fn fsck_finds_nothing_wrong() {
        use std::process::Command;
        let scratch = Scratch::new("fat");
        let path = scratch.0.join("esp");
        let large: Vec<u8> = (0..300_000u32).map(|n| n as u8).collect();
        let files = vec![
            ("EFI/BOOT/BOOTAA64.EFI", large.as_slice()),
            ("loader/entries/a-name-that-is-longer-than-one-entry.conf", b"title x\n"),
            ("empty", b""),
        ];
        let fat = Fat { files, size: Fat::size_for(300_000), id: 0x1234_5678, epoch: 1_709_210_096 };
        let file = File::options().read(true).write(true).create_new(true).open(&path).expect("a file");
        file.set_len(fat.size).expect("room");
        fat.write(&file, 0).expect("written");
        let Ok(output) = Command::new("fsck.fat").args(["-n", "-v"]).arg(&path).output() else {
            eprintln!("no fsck.fat here: skipped");
            return;
        };
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        assert!(output.status.success(), "{text}");
        assert!(text.contains("7 files"), "{text}");
    }

    #[test]
    fn what_does_not_fit_is_refused() {
        let scratch = Scratch::new("fat-small");
        let file = File::create(scratch.0.join("esp")).expect("a file");
        let write = |files: Vec<(&str, &[u8])>, size| Fat { files, size, id: 1, epoch: 0 }.write(&file, 0);
        assert!(write(vec![], 1 << 20).is_err());
        assert!(write(vec![("a b", b"")], 64 << 20).is_err());
        assert!(write(vec![("a", &vec![1; 64 << 20])], 64 << 20).is_err());
    }
}
