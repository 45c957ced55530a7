//! Which partition of which disk is the root, and what file system it has: by the kernel's command line and the disks'
//! contents. The disks are hostile: every number on them is checked before it is used.

use std::io;

use super::InitrdError;

/// Bytes in a sector of a partition table of virtio disks.
const SECTOR: u64 = 512;
/// Partitions that are looked at; the standard table has 128.
const MAX_PARTITIONS: u32 = 128;
/// Type of the root partition for arm64 (the Discoverable Partitions Specification), as it is on the disk.
const ROOT_ARM64: [u8; 16] =
    [0x45, 0xb0, 0x21, 0xb9, 0xf0, 0x1d, 0xc3, 0x41, 0xaf, 0x44, 0x4c, 0x6f, 0x28, 0x0d, 0x3f, 0xae];

/// A disk whose contents can be looked at.
pub struct DiskView<'a> {
    /// Bytes.
    pub size: u64,
    /// Fills the buffer from an offset on.
    pub read: &'a dyn Fn(u64, &mut [u8]) -> io::Result<()>,
}

/// What is to be mounted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Root {
    /// `/dev/vda1`.
    pub device: String,
    /// Its type for mount(2), which is the name of the module too.
    pub file_system: &'static str,
    /// Options of the file system.
    pub options: String,
    /// Flags of mount(2).
    pub flags: u64,
}

/// `MS_RDONLY` of mount(2).
const READ_ONLY: u64 = 1;
/// Options that are flags of mount(2) and not the file system's.
const FLAGS: [(&str, u64); 12] = [
    ("defaults", 0),
    ("rw", 0),
    ("ro", READ_ONLY),
    ("nosuid", 1 << 1),
    ("nodev", 1 << 2),
    ("noexec", 1 << 3),
    ("sync", 1 << 4),
    ("dirsync", 1 << 7),
    ("noatime", 1 << 10),
    ("nodiratime", 1 << 11),
    ("relatime", 1 << 21),
    ("lazytime", 1 << 25),
];

/// What the command line says of the root.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Words {
    /// `root=`.
    pub root: Option<String>,
    /// `rootflags=`.
    pub options: String,
    /// `ro` stands there, and no `rw` behind it.
    pub read_only: bool,
    /// `init=`.
    pub init: Option<String>,
}

impl Words {
    /// Reads them out of the command line; as in the kernel the last one holds.
    pub fn of(command_line: &str) -> Words {
        let mut words = Words::default();
        for word in command_line.split_whitespace().take_while(|word| *word != "--") {
            match word.split_once('=') {
                Some(("root", value)) => words.root = Some(value.to_owned()),
                Some(("rootflags", value)) => value.clone_into(&mut words.options),
                Some(("init", value)) => words.init = Some(value.to_owned()),
                None if word == "ro" => words.read_only = true,
                None if word == "rw" => words.read_only = false,
                _ => {}
            }
        }
        words
    }
}

/// A place where a file system may be.
#[derive(Clone, Debug)]
struct Volume {
    /// `/dev/vda1`.
    device: String,
    /// Bytes from the start of the disk.
    start: u64,
    /// Bytes.
    size: u64,
    /// The partition's own UUID, in hexadecimal digits.
    part_uuid: String,
    /// The name in the partition table.
    part_label: String,
    is_arm64_root: bool,
    file_system: Option<FileSystem>,
}

/// A file system that can be told by its first bytes.
#[derive(Clone, Debug, PartialEq, Eq)]
struct FileSystem {
    name: &'static str,
    /// In hexadecimal digits.
    uuid: String,
    label: String,
}

/// Finds the root of a machine with these disks.
///
/// # Errors
/// [`InitrdError::NoRoot`] with what was looked for and what there is.
pub fn find(disks: &[DiskView<'_>], words: &Words) -> Result<Root, InitrdError> {
    let mut volumes = Vec::new();
    for (index, disk) in disks.iter().enumerate() {
        volumes.extend(volumes_of(disk, &disk_name(index)));
    }
    let found = match &words.root {
        Some(root) => volumes.iter().find(|volume| volume.answers_to(root)),
        None => likely_root(&volumes),
    };
    let no_root = || InitrdError::NoRoot {
        wanted: words.root.as_ref().map_or_else(|| "a root file system".to_owned(), |root| format!("root={root}")),
        found: describe(&volumes),
    };
    let volume = found.ok_or_else(no_root)?;
    let file_system = volume.file_system.as_ref().ok_or_else(no_root)?.name;
    let flag = |option: &str| FLAGS.iter().find(|(name, _)| *name == option).map(|(_, flag)| flag);
    let (flags, own): (Vec<&str>, Vec<&str>) =
        words.options.split(',').filter(|option| !option.is_empty()).partition(|option| flag(option).is_some());
    let read_only = if words.read_only { READ_ONLY } else { 0 };
    let flags = flags.into_iter().filter_map(flag).fold(read_only, |flags, flag| flags | flag);
    Ok(Root { device: volume.device.clone(), file_system, options: own.join(","), flags })
}

/// Start, size and kind of the file system that is the root of a disk.
pub fn root_extent(disk: &DiskView<'_>) -> Option<(u64, u64, &'static str)> {
    let volumes = volumes_of(disk, &disk_name(0));
    let volume = likely_root(&volumes)?;
    Some((volume.start, volume.size, volume.file_system.as_ref()?.name))
}

/// Without `root=`: a partition that says that it is one; else the first disk that is one file system; else the largest
/// file system.
fn likely_root(volumes: &[Volume]) -> Option<&Volume> {
    let usable = || volumes.iter().filter(|volume| volume.file_system.is_some());
    let whole = |volume: &&Volume| volume.start == 0;
    let declared = usable().find(|volume| volume.is_arm64_root);
    declared.or_else(|| usable().find(whole)).or_else(|| usable().max_by_key(|volume| volume.size))
}

fn describe(volumes: &[Volume]) -> String {
    let one = |volume: &Volume| {
        let kind = volume.file_system.as_ref().map_or("no known file system", |system| system.name);
        format!("{} ({kind})", volume.device)
    };
    match volumes {
        [] => "nothing".to_owned(),
        some => some.iter().map(one).collect::<Vec<_>>().join(", "),
    }
}

impl Volume {
    /// Whether `root=` names it.
    fn answers_to(&self, root: &str) -> bool {
        let digits = |text: &str| text.trim_matches('"').to_ascii_lowercase().replace('-', "");
        let system = self.file_system.as_ref();
        match root.split_once('=') {
            Some(("PARTUUID", uuid)) => !self.part_uuid.is_empty() && self.part_uuid == digits(uuid),
            Some(("PARTLABEL", label)) => !self.part_label.is_empty() && self.part_label == label.trim_matches('"'),
            Some(("UUID", uuid)) => system.is_some_and(|system| !system.uuid.is_empty() && system.uuid == digits(uuid)),
            Some(("LABEL", label)) => {
                system.is_some_and(|system| !system.label.is_empty() && system.label == label.trim_matches('"'))
            }
            _ => self.device == root,
        }
    }
}

/// `/dev/vda`, ..., `/dev/vdz`, `/dev/vdaa`, ...
fn disk_name(index: usize) -> String {
    let mut letters = Vec::new();
    let mut rest = index;
    loop {
        letters.push(char::from(b'a' + (rest % 26) as u8));
        match rest / 26 {
            0 => break,
            more => rest = more - 1,
        }
    }
    format!("/dev/vd{}", letters.iter().rev().collect::<String>())
}

/// The disk as a whole and its partitions, without those that reach beyond its end.
fn volumes_of(disk: &DiskView<'_>, name: &str) -> Vec<Volume> {
    let whole = Volume {
        device: name.to_owned(),
        start: 0,
        size: disk.size,
        part_uuid: String::new(),
        part_label: String::new(),
        is_arm64_root: false,
        file_system: None,
    };
    let mut volumes = gpt(disk, &whole).or_else(|| mbr(disk, &whole)).unwrap_or_default();
    volumes.retain(|volume| volume.start.checked_add(volume.size).is_some_and(|end| end <= disk.size));
    volumes.insert(0, whole);
    for volume in &mut volumes {
        volume.file_system = file_system(disk, volume);
    }
    volumes
}

/// Bytes of a disk, if it has them.
fn bytes<const N: usize>(disk: &DiskView<'_>, offset: u64) -> Option<[u8; N]> {
    let mut out = [0; N];
    let end = offset.checked_add(N as u64)?;
    (end <= disk.size && (disk.read)(offset, &mut out).is_ok()).then_some(out)
}

fn word(bytes: &[u8], offset: usize) -> u32 {
    bytes.get(offset..).and_then(|rest| rest.first_chunk()).map_or(0, |four| u32::from_le_bytes(*four))
}

fn doubleword(bytes: &[u8], offset: usize) -> u64 {
    u64::from(word(bytes, offset)) | u64::from(word(bytes, offset + 4)) << 32
}

fn hexadecimal(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// The partitions of a GUID partition table (UEFI 2.10, 5.3).
fn gpt(disk: &DiskView<'_>, whole: &Volume) -> Option<Vec<Volume>> {
    let header: [u8; 92] = bytes(disk, SECTOR)?;
    if !header.starts_with(b"EFI PART") {
        return None;
    }
    let (table, count, stride) = (doubleword(&header, 72), word(&header, 80), word(&header, 84));
    let mut volumes = Vec::new();
    for index in 0..count.min(MAX_PARTITIONS) {
        let offset = u64::from(index).checked_mul(stride.into())?.checked_add(table.checked_mul(SECTOR)?)?;
        let Some(entry) = bytes::<128>(disk, offset) else { break };
        let (kind, rest) = entry.split_at(16);
        let (first, last) = (doubleword(&entry, 32), doubleword(&entry, 40));
        if kind.iter().all(|&byte| byte == 0) || last < first {
            continue;
        }
        let (Some(start), Some(size)) =
            (first.checked_mul(SECTOR), (last - first).saturating_add(1).checked_mul(SECTOR))
        else {
            continue;
        };
        let name: Vec<u16> = entry
            .get(56..)?
            .chunks_exact(2)
            .map(|pair| u16::from_le_bytes([pair[0], pair[1]]))
            .take_while(|&unit| unit != 0)
            .collect();
        volumes.push(Volume {
            device: format!("{}{}", whole.device, index + 1),
            start,
            size,
            part_uuid: rest.first_chunk::<16>().map(guid).unwrap_or_default(),
            part_label: String::from_utf16_lossy(&name),
            is_arm64_root: *kind == ROOT_ARM64,
            file_system: None,
        });
    }
    Some(volumes)
}

/// A GUID's digits: its first three fields are little-endian.
fn guid(bytes: &[u8; 16]) -> String {
    let order = [3, 2, 1, 0, 5, 4, 7, 6, 8, 9, 10, 11, 12, 13, 14, 15];
    order.iter().map(|&index: &usize| format!("{:02x}", bytes[index])).collect()
}

/// The four primary partitions of a master boot record.
fn mbr(disk: &DiskView<'_>, whole: &Volume) -> Option<Vec<Volume>> {
    let sector: [u8; 512] = bytes(disk, 0)?;
    if !sector.ends_with(&[0x55, 0xaa]) {
        return None;
    }
    let signature = word(&sector, 440);
    let mut volumes = Vec::new();
    for index in 0..4 {
        let entry = sector.get(446 + 16 * index..)?.first_chunk::<16>()?;
        let (start, size) = (u64::from(word(entry, 8)) * SECTOR, u64::from(word(entry, 12)) * SECTOR);
        if entry[4] == 0 || start == 0 || size == 0 {
            continue;
        }
        volumes.push(Volume {
            device: format!("{}{}", whole.device, index + 1),
            start,
            size,
            part_uuid: format!("{signature:08x}{:02x}", index + 1),
            ..whole.clone()
        });
    }
    Some(volumes)
}

/// What file system begins where the volume does.
fn file_system(disk: &DiskView<'_>, volume: &Volume) -> Option<FileSystem> {
    let piece = |offset: u64| -> Option<[u8; 2048]> {
        (offset + 2048 <= volume.size).then(|| bytes(disk, volume.start.checked_add(offset)?)).flatten()
    };
    let start = piece(0)?;
    let text = |bytes: Option<&[u8]>| {
        let bytes = bytes.unwrap_or_default();
        let end = bytes.iter().position(|&byte| byte == 0).unwrap_or(bytes.len());
        String::from_utf8_lossy(bytes.get(..end).unwrap_or_default()).into_owned()
    };
    let make = |name, uuid: Option<&[u8]>, label: Option<&[u8]>| {
        Some(FileSystem { name, uuid: hexadecimal(uuid.unwrap_or_default()), label: text(label) })
    };
    if start.starts_with(b"hsqs") {
        return make("squashfs", None, None);
    }
    if start.starts_with(b"XFSB") {
        return make("xfs", start.get(32..48), start.get(108..120));
    }
    let second = start.get(1024..)?;
    if second.get(56..58) == Some(&[0x53, 0xef]) {
        // One driver for ext2, ext3 and ext4.
        return make("ext4", second.get(104..120), second.get(120..136));
    }
    match word(second, 0) {
        0xe0f5_e1e2 => return make("erofs", second.get(48..64), second.get(64..80)),
        0xf2f5_2010 => return make("f2fs", second.get(108..124), None),
        _ => {}
    }
    let super_block = piece(0x1_0000)?;
    if super_block.get(0x40..0x48) == Some(b"_BHRfS_M") {
        return make("btrfs", super_block.get(0x20..0x30), super_block.get(0x12b..0x22b));
    }
    None
}

#[cfg(test)]
mod tests;
