//! A disk as qcow2 version 3 (QEMU, `docs/interop/qcow2.rst`): only clusters that are not all zeros are in the file, in the
//! order of the disk.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;

const CLUSTER_BITS: u32 = 16;
const CLUSTER: u64 = 1 << CLUSTER_BITS;
/// Entries of a table of one cluster.
const TABLE: u64 = CLUSTER / 8;
/// Clusters that one block of reference counts of 16 bits is for.
const COUNTED: u64 = CLUSTER / 2;
/// The cluster belongs to nobody else.
const COPIED: u64 = 1 << 63;

/// Writes the raw disk in `disk`, of `size` bytes, into `out`.
///
/// # Errors
/// What the operating system refuses.
pub fn write(disk: &File, size: u64, out: &File) -> io::Result<()> {
    let clusters = size.div_ceil(CLUSTER);
    let l2_tables = clusters.div_ceil(TABLE);
    let l1_clusters = (l2_tables * 8).div_ceil(CLUSTER).max(1);
    // As many reference counts as could be needed at most: tables and all clusters.
    let most = 1 + l1_clusters + l2_tables + clusters;
    let count_blocks = (most + most.div_ceil(COUNTED) + 2).div_ceil(COUNTED);
    let count_table_clusters = (count_blocks * 8).div_ceil(CLUSTER);
    let count_table = 1;
    let counts = count_table + count_table_clusters;
    let l1 = counts + count_blocks;
    let mut next = l1 + l1_clusters;

    let mut l1_table = Vec::new();
    let mut buffer = vec![0; CLUSTER as usize];
    for table in 0..l2_tables {
        let mut l2_table = Vec::new();
        let at = next;
        let first = table * TABLE;
        let mut used = false;
        for cluster in first..(first + TABLE).min(clusters) {
            read_full(disk, &mut buffer, cluster * CLUSTER)?;
            if buffer.iter().all(|&byte| byte == 0) {
                l2_table.push(0);
                continue;
            }
            if !used {
                used = true;
                next += 1;
            }
            out.write_all_at(&buffer, next * CLUSTER)?;
            l2_table.push((next * CLUSTER) | COPIED);
            next += 1;
        }
        l1_table.push(if used { (at * CLUSTER) | COPIED } else { 0 });
        if used {
            out.write_all_at(&words(&l2_table), at * CLUSTER)?;
        }
    }
    out.write_all_at(&words(&l1_table), l1 * CLUSTER)?;
    let blocks: Vec<u64> = (0..count_blocks).map(|index| (counts + index) * CLUSTER).collect();
    out.write_all_at(&words(&blocks), count_table * CLUSTER)?;
    for index in 0..count_blocks {
        let first = index * COUNTED;
        let bytes: Vec<u8> =
            (first..first + COUNTED).flat_map(|cluster| u16::from(cluster < next).to_be_bytes()).collect();
        out.write_all_at(&bytes, (counts + index) * CLUSTER)?;
    }
    out.write_all_at(&header(size, l1_table.len() as u32, l1, count_table, count_table_clusters), 0)?;
    out.set_len(next * CLUSTER)
}

fn header(size: u64, l1_size: u32, l1: u64, count_table: u64, count_table_clusters: u64) -> Vec<u8> {
    let mut out = b"QFI\xfb".to_vec();
    out.extend(3u32.to_be_bytes());
    // No backing file.
    out.extend([0; 12]);
    out.extend(CLUSTER_BITS.to_be_bytes());
    out.extend(size.to_be_bytes());
    // Not encrypted.
    out.extend([0; 4]);
    out.extend(l1_size.to_be_bytes());
    out.extend((l1 * CLUSTER).to_be_bytes());
    out.extend((count_table * CLUSTER).to_be_bytes());
    out.extend((count_table_clusters as u32).to_be_bytes());
    // No snapshots, no features; counts of 2^4 bits; length of the header.
    out.extend([0; 12 + 24]);
    out.extend(4u32.to_be_bytes());
    out.extend(104u32.to_be_bytes());
    out
}

fn words(table: &[u64]) -> Vec<u8> {
    table.iter().flat_map(|word| word.to_be_bytes()).collect()
}

/// Fills the buffer; what is behind the end is zeros.
fn read_full(file: &File, buffer: &mut [u8], offset: u64) -> io::Result<()> {
    let mut filled = 0;
    while let Some(rest) = buffer.get_mut(filled..).filter(|rest| !rest.is_empty()) {
        match file.read_at(rest, offset + filled as u64)? {
            0 => {
                rest.fill(0);
                break;
            }
            count => filled += count,
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cache::tests::Scratch;

    /// qemu-img as a judge, where there is one; sizes that are no multiple of a cluster, holes, full tables.
    #[test]
    fn qemu_reads_the_same_disk() {
        let scratch = Scratch::new("qcow2");
        let path = |name: &str| scratch.0.join(name);
        let disk = File::options().read(true).write(true).create_new(true).open(path("raw")).expect("made");
        let size = (600 << 20) + 512;
        disk.set_len(size).expect("sized");
        for (at, byte) in [(0u64, 1u8), (70_000, 2), (512 << 20, 3), (600 << 20, 4)] {
            disk.write_all_at(&[byte; 300], at).expect("written");
        }
        let out = File::create(path("qcow2")).expect("made");
        write(&disk, size, &out).expect("written");
        assert!(out.metadata().expect("there").len() < 2 << 20, "holes are left out");
        let qemu = |arguments: &[&str]| {
            std::process::Command::new("qemu-img").args(arguments).current_dir(&scratch.0).output()
        };
        let Ok(check) = qemu(&["check", "-f", "qcow2", "qcow2"]) else {
            eprintln!("no qemu-img here: skipped");
            return;
        };
        assert!(check.status.success(), "{}", String::from_utf8_lossy(&check.stdout));
        let compare = qemu(&["compare", "-f", "raw", "-F", "qcow2", "raw", "qcow2"]).expect("runs");
        assert!(compare.status.success(), "{}", String::from_utf8_lossy(&compare.stdout));
    }
}
