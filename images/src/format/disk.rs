//! A disk that UEFI boots: a GUID partition table (UEFI 2.10, 5.3), an EFI system partition with a boot loader, a kernel and
//! its initrd, and the root.

mod resize;

pub use resize::{Resized, resize};

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;

use sha2::{Digest, Sha256};

use super::ext4::{self, Ext4Options};
use super::fat::Fat;
use crate::cpio::Writer;
use crate::kernel::{DEVICES, DISKS, GuestKernel, KernelError};
use crate::tree::{Inode, Kind, Spool, Tree};

/// The first process of the initrd.
const INIT: &str = include_str!("disk/init.sh");
/// Where firmware looks for a boot loader (UEFI 2.10, 3.5.1.1).
const LOADER: &str = "EFI/BOOT/BOOTAA64.EFI";
/// Drivers that disks need elsewhere, beside those of this machine.
const OTHER_DISKS: [&str; 4] = ["virtio_scsi", "sd_mod", "nvme", "ext4"];

const SECTOR: u64 = 512;
const ALIGNMENT: u64 = 1 << 20;
/// Entries of the table, 128 bytes each.
const ENTRIES: usize = 128;
const ENTRY: usize = 128;
const ESP_TYPE: [u8; 16] = *b"\x28\x73\x2a\xc1\x1f\xf8\xd2\x11\xba\x4b\x00\xa0\xc9\x3e\xc9\x3b";
/// "Linux root (ARM64)" of the Discoverable Partitions Specification.
const ROOT_TYPE: [u8; 16] = *b"\x45\xb0\x21\xb9\xf0\x1d\xc3\x41\xaf\x44\x4c\x6f\x28\x0d\x3f\xae";

/// What is on the EFI system partition.
#[derive(Clone, Debug)]
pub struct Boot {
    /// The boot loader, systemd-boot.
    pub loader: Vec<u8>,
    /// The kernel.
    pub kernel: Vec<u8>,
    /// The kernel's version.
    pub version: String,
    /// Its initrd.
    pub initrd: Vec<u8>,
}

impl Boot {
    /// With an initrd made of the kernel's modules and a static BusyBox: it finds the root by its UUID, and starts its init,
    /// or a login where there is none.
    ///
    /// # Errors
    /// Modules that cannot be read.
    pub fn new(loader: Vec<u8>, kernel: GuestKernel, busybox: &[u8]) -> Result<Boot, KernelError> {
        let modules = kernel.modules(&[DISKS.as_slice(), &OTHER_DISKS, &DEVICES].concat())?;
        let written = || -> io::Result<Vec<u8>> {
            let mut writer = Writer::new(Vec::new(), 0);
            for name in ["bin", "dev", "modules", "proc", "root", "sys"] {
                writer.directory(name, 0o755)?;
            }
            writer.character_device("dev/console", 0o600, 5, 1)?;
            writer.file("init", 0o755, INIT.as_bytes())?;
            writer.file("start", 0o755, super::cpio::INIT.as_bytes())?;
            writer.file("bin/busybox", 0o755, busybox)?;
            let mut order = String::new();
            for module in &modules {
                writer.file(&format!("modules/{}.ko", module.name), 0o644, &module.contents)?;
                order += &format!("{}.ko\n", module.name);
            }
            writer.file("modules/order", 0o644, order.as_bytes())?;
            writer.finish()
        };
        let initrd = written().map_err(|source| KernelError::Initrd { package: kernel.package.clone(), source })?;
        Ok(Boot { loader, kernel: kernel.image, version: kernel.version, initrd })
    }
}

/// The UUID of a file system as people write it.
pub fn uuid_text(uuid: &[u8; 16]) -> String {
    let digits: String = uuid.iter().map(|byte| format!("{byte:02x}")).collect();
    let part = |range: std::ops::Range<usize>| digits.get(range).unwrap_or_default().to_owned();
    [part(0..8), part(8..12), part(12..16), part(16..20), part(20..32)].join("-")
}

/// Says in the image's `/etc/fstab`, if it has none, what its root is, and that it grows with its partition.
///
/// # Errors
/// What the spool refuses.
pub fn add_fstab(tree: &mut Tree, epoch: i64, spool: &Spool, uuid: impl Fn(&Tree) -> [u8; 16]) -> io::Result<()> {
    if tree.get(b"etc/fstab").is_some() {
        return Ok(());
    }
    let insert = |text: &str, tree: &mut Tree| -> io::Result<()> {
        tree.insert(b"etc/fstab", Inode::new(Kind::File(spool.put(text.as_bytes())?), 0o644, epoch));
        Ok(())
    };
    // The UUID depends on the names of the files, this one too, not on their contents.
    insert("", tree)?;
    let uuid = uuid_text(&uuid(tree));
    insert(&format!("UUID={uuid} / ext4 defaults,x-systemd.growfs 0 1\n"), tree)
}

/// Writes the disk; returns its size. `root.size` is that of the whole disk.
///
/// # Errors
/// What the operating system refuses, and files that do not fit.
pub fn write(tree: &Tree, root: &Ext4Options, boot: &Boot, out: &File) -> io::Result<u64> {
    let files = boot_files(boot, root);
    let esp_start = ALIGNMENT;
    let files: Vec<(&str, &[u8])> = files.iter().map(|(path, bytes)| (path.as_str(), bytes.as_slice())).collect();
    let esp_size = Fat::size_for(files.iter().map(|(_, bytes)| bytes.len() as u64).sum());
    let root_start = esp_start + esp_size;
    let size = match root.size {
        None => None,
        Some(size) => Some(size.checked_sub(root_start + ALIGNMENT).filter(|left| *left > 0).ok_or_else(|| {
            io::Error::other(format!(
                "a disk of {size} bytes is too small: it needs {} MiB and the files",
                root_start >> 20
            ))
        })?),
    };
    let root_size = ext4::write(tree, &Ext4Options { size, ..root.clone() }, out, root_start)?;
    let root_end = (root_start + root_size).next_multiple_of(ALIGNMENT);
    // The table once more at the end.
    let total = root.size.map_or(root_end + ALIGNMENT, |size| size / SECTOR * SECTOR);
    out.set_len(total)?;
    let id = u32::from_le_bytes(derive(&root.uuid, "volume").first_chunk().copied().unwrap_or_default());
    let fat = Fat { files, size: esp_size, id, epoch: u64::from(root.epoch) };
    fat.write(out, esp_start)?;
    let partitions = [
        Partition { kind: ESP_TYPE, id: derive(&root.uuid, "esp"), start: esp_start, size: esp_size, name: "ESP" },
        // To the end of the disk, so that the file system can grow there.
        Partition {
            kind: ROOT_TYPE,
            id: derive(&root.uuid, "root"),
            start: root_start,
            size: (total - ALIGNMENT - root_start) / ALIGNMENT * ALIGNMENT,
            name: "root",
        },
    ];
    write_table(out, total, derive(&root.uuid, "disk"), &partitions)?;
    Ok(total)
}

fn boot_files(boot: &Boot, root: &Ext4Options) -> Vec<(String, Vec<u8>)> {
    let kernel = format!("vmlinuz-{}", boot.version);
    let initrd = format!("initrd.img-{}", boot.version);
    let entry = format!(
        "title Debian\nversion {}\nlinux /{kernel}\ninitrd /{initrd}\noptions root=UUID={} rw\n",
        boot.version,
        uuid_text(&root.uuid)
    );
    vec![
        (LOADER.to_owned(), boot.loader.clone()),
        (kernel, boot.kernel.clone()),
        (initrd, boot.initrd.clone()),
        ("loader/loader.conf".to_owned(), b"timeout 0\ndefault debian.conf\n".to_vec()),
        ("loader/entries/debian.conf".to_owned(), entry.into_bytes()),
    ]
}

/// An identity that depends on that of the root alone (RFC 9562, version 8).
fn derive(uuid: &[u8; 16], what: &str) -> [u8; 16] {
    let sum: [u8; 32] = Sha256::new().chain_update(uuid).chain_update(what).finalize().into();
    let mut id = [0; 16];
    id.copy_from_slice(sum.split_at(16).0);
    // As it stands on the disk, the third field is little-endian.
    id[7] = id[7] & 0x0f | 0x80;
    id[8] = id[8] & 0x3f | 0x80;
    id
}

/// A partition; start and size in bytes.
struct Partition {
    kind: [u8; 16],
    id: [u8; 16],
    start: u64,
    size: u64,
    name: &'static str,
}

/// Writes the table at both ends of the disk, and the protective master boot record.
fn write_table(out: &File, total: u64, id: [u8; 16], partitions: &[Partition]) -> io::Result<()> {
    let mut entries = vec![0; ENTRIES * ENTRY];
    for (entry, partition) in entries.chunks_exact_mut(ENTRY).zip(partitions) {
        let last = (partition.start + partition.size) / SECTOR - 1;
        let mut bytes = [partition.kind, partition.id].concat();
        bytes.extend((partition.start / SECTOR).to_le_bytes());
        bytes.extend(last.to_le_bytes());
        bytes.extend(0u64.to_le_bytes());
        bytes.extend(partition.name.encode_utf16().flat_map(u16::to_le_bytes));
        bytes.resize(ENTRY, 0);
        entry.copy_from_slice(&bytes);
    }
    write_entries(out, total, id, &entries)
}

/// Writes a table with these entries at both ends of a disk of `total` bytes.
fn write_entries(out: &File, total: u64, id: [u8; 16], entries: &[u8]) -> io::Result<()> {
    let sectors = total / SECTOR;
    let last = sectors - 1;
    let table = (entries.len() as u64).div_ceil(SECTOR);
    let header = |own: u64, other: u64, at: u64| {
        let mut header = b"EFI PART\0\0\x01\0".to_vec();
        header.extend(92u32.to_le_bytes());
        header.extend([0; 8]);
        for number in [own, other, 2 + table, last - table - 1] {
            header.extend(number.to_le_bytes());
        }
        header.extend(id);
        header.extend(at.to_le_bytes());
        header.extend(((entries.len() / ENTRY) as u32).to_le_bytes());
        header.extend((ENTRY as u32).to_le_bytes());
        header.extend(crc32(entries).to_le_bytes());
        let sum = crc32(&header);
        if let Some(place) = header.get_mut(16..20) {
            place.copy_from_slice(&sum.to_le_bytes());
        }
        header.resize(SECTOR as usize, 0);
        header
    };
    out.write_all_at(&header(1, last, 2), SECTOR)?;
    out.write_all_at(entries, 2 * SECTOR)?;
    out.write_all_at(entries, (last - table) * SECTOR)?;
    out.write_all_at(&header(last, 1, last - table), last * SECTOR)?;
    let mut record = vec![0; SECTOR as usize];
    let size = u32::try_from(last).unwrap_or(u32::MAX);
    let protective = [&[0, 0, 2, 0, 0xee, 0xff, 0xff, 0xff, 1, 0, 0, 0], size.to_le_bytes().as_slice()].concat();
    for (at, bytes) in [(446, protective.as_slice()), (510, &[0x55, 0xaa])] {
        if let Some(place) = record.get_mut(at..at + bytes.len()) {
            place.copy_from_slice(bytes);
        }
    }
    out.write_all_at(&record, 0)
}

/// CRC-32 of ISO 3309.
fn crc32(bytes: &[u8]) -> u32 {
    let step = |sum: u32, _| if sum & 1 == 0 { sum >> 1 } else { sum >> 1 ^ 0xedb8_8320 };
    !bytes.iter().fold(u32::MAX, |sum, byte| (0..8).fold(sum ^ u32::from(*byte), step))
}

#[cfg(test)]
mod tests;
