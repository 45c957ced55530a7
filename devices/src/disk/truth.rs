//! Storage tells the truth: four threads, as four queues, do random things to the same disk side by side, and each finds
//! what it wrote. Ranges of the four lie within the same clusters, so that allocations and copies meet.
//!
//! `STORAGE_OPERATIONS` asks for more than 100 000 operations for each kind of disk.

use std::process::Command;
use std::sync::Arc;
use std::thread;

use super::{Disk, DiskOptions, Format, SECTOR, open};

const SIZE: u64 = 16 << 20;
const THREADS: u64 = 4;
/// The unit that belongs to one thread.
const UNIT: u64 = 16 << 10;

/// A generator of its own for each thread.
struct Random(u64);

impl Random {
    fn below(&mut self, limit: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % limit
    }
}

/// What a thread knows of its sectors: the number that each is filled with.
struct Knowledge {
    thread: u64,
    sectors: Vec<u32>,
}

fn fill(number: u32, out: &mut [u8]) {
    out.chunks_mut(4).for_each(|word| word.copy_from_slice(&number.to_le_bytes()));
}

impl Knowledge {
    fn new(thread: u64) -> Knowledge {
        Knowledge { thread, sectors: vec![0; (SIZE / THREADS / SECTOR) as usize] }
    }

    /// A random range within one unit: index of the first sector, offset on the disk, sectors.
    fn place(&self, random: &mut Random) -> (usize, u64, usize) {
        let unit = random.below(SIZE / UNIT / THREADS);
        let first = random.below(UNIT / SECTOR);
        let count = 1 + random.below(UNIT / SECTOR - first);
        let offset = (unit * THREADS + self.thread) * UNIT + first * SECTOR;
        ((unit * UNIT / SECTOR + first) as usize, offset, count as usize)
    }

    fn check(&self, disk: &dyn Disk, (index, offset, count): (usize, u64, usize)) {
        let mut bytes = vec![0xee; count * SECTOR as usize];
        disk.read(offset, &mut bytes).unwrap();
        let mut expected = bytes.clone();
        for (n, sector) in expected.chunks_mut(SECTOR as usize).enumerate() {
            fill(self.sectors[index + n], sector);
        }
        assert!(bytes == expected, "thread {}: {count} sectors at {offset:#x} differ", self.thread);
    }

    fn step(&mut self, disk: &dyn Disk, random: &mut Random, number: u32) {
        let place @ (index, offset, count) = self.place(random);
        let len = count as u64 * SECTOR;
        match random.below(100) {
            0..45 => {
                let mut bytes = vec![0; len as usize];
                fill(number, &mut bytes);
                disk.write(offset, &bytes).unwrap();
                self.sectors[index..index + count].fill(number);
            }
            45..90 => self.check(disk, place),
            90..96 => {
                disk.write_zeroes(offset, len, number & 1 != 0).unwrap();
                self.sectors[index..index + count].fill(0);
            }
            96..98 => {
                // Anything may be there now; the next write says what is.
                disk.discard(offset, len).unwrap();
                disk.write_zeroes(offset, len, true).unwrap();
                self.sectors[index..index + count].fill(0);
            }
            _ => disk.flush().unwrap(),
        }
    }
}

fn run(disk: &Arc<dyn Disk>) {
    let operations = std::env::var("STORAGE_OPERATIONS").ok().and_then(|n| n.parse().ok()).unwrap_or(100_000u32);
    thread::scope(|scope| {
        for thread in 0..THREADS {
            scope.spawn(move || {
                let mut random = Random(thread + 1);
                let mut knowledge = Knowledge::new(thread);
                (1..=operations / THREADS as u32).for_each(|n| knowledge.step(&**disk, &mut random, n));
                for unit in 0..SIZE / UNIT / THREADS {
                    let offset = (unit * THREADS + thread) * UNIT;
                    let sectors = (UNIT / SECTOR) as usize;
                    knowledge.check(&**disk, (unit as usize * sectors, offset, sectors));
                }
            });
        }
    });
}

fn raw() -> tempfile::NamedTempFile {
    let file = tempfile::NamedTempFile::new().unwrap();
    file.as_file().set_len(SIZE).unwrap();
    file
}

fn qcow2(more: &[&str]) -> tempfile::NamedTempFile {
    let file = tempfile::NamedTempFile::with_suffix(".qcow2").unwrap();
    let status = Command::new("qemu-img")
        .args(["create", "-q", "-f", "qcow2"])
        .args(more)
        .arg(file.path())
        .arg(SIZE.to_string())
        .status()
        .expect("qemu-img runs (package qemu-utils)");
    assert!(status.success());
    file
}

#[test]
fn raw_images() {
    let file = raw();
    run(&open(&DiskOptions::new(file.path())).unwrap());
}

#[test]
fn overlays() {
    let file = raw();
    run(&open(&DiskOptions { ephemeral: true, ..DiskOptions::new(file.path()) }).unwrap());
}

#[test]
fn qcow2_images() {
    let base = raw();
    let backing = ["-b", base.path().to_str().unwrap(), "-F", "raw"];
    for more in [&[][..], &backing] {
        let file = qcow2(more);
        let disk = open(&DiskOptions { format: Some(Format::Qcow2), ..DiskOptions::new(file.path()) }).unwrap();
        run(&disk);
        disk.flush().unwrap();
        drop(disk);
        let check = Command::new("qemu-img").args(["check", "-f", "qcow2"]).arg(file.path()).output().unwrap();
        assert!(check.status.success(), "{}", String::from_utf8_lossy(&check.stdout));
    }
}
