use std::fmt;
use std::process::Command;
use std::sync::Mutex;

use imago::io_buffers::{IoVector, IoVectorMut};
use imago::storage::drivers::CommonStorageHelper;
use proptest::prelude::*;

use super::super::{CacheMode, DiskOptions, Format, open};
use super::*;
use crate::testing::more_cases;

const SIZE: u64 = 8 << 20;

/// Runs `qemu-img`; its output.
fn qemu_img(arguments: &[&str]) -> String {
    let output = Command::new("qemu-img").args(arguments).output().expect("qemu-img runs (package qemu-utils)");
    let text = String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "qemu-img {arguments:?}: {text}");
    text
}

/// A folder with images.
struct Folder(tempfile::TempDir);

impl Folder {
    fn new() -> Folder {
        Folder(tempfile::tempdir().unwrap())
    }
    fn path(&self, name: &str) -> String {
        self.0.path().join(name).to_str().unwrap().to_owned()
    }
    fn options(&self, name: &str) -> DiskOptions {
        DiskOptions { format: Some(Format::Qcow2), ..DiskOptions::new(self.path(name)) }
    }
    fn open(&self, name: &str) -> Arc<dyn Disk> {
        open(&self.options(name)).unwrap()
    }
    fn create(&self, name: &str, more: &[&str]) {
        let path = self.path(name);
        qemu_img(&[&["create", "-q", "-f", "qcow2"], more, &[&path, &SIZE.to_string()]].concat());
    }
    /// What QEMU reads out of an image, which it finds sound.
    fn contents(&self, name: &str) -> Vec<u8> {
        let (from, to) = (self.path(name), self.path("contents.raw"));
        qemu_img(&["check", "-q", "-f", "qcow2", &from]);
        qemu_img(&["convert", "-f", "qcow2", "-O", "raw", &from, &to]);
        std::fs::read(to).unwrap()
    }
    fn refused(&self, options: &DiskOptions) -> String {
        let mut text = String::new();
        let error = open(options).err().expect("refused");
        let mut next: Option<&dyn std::error::Error> = Some(&error);
        while let Some(error) = next {
            text += &error.to_string();
            next = error.source();
        }
        text
    }
}

/// Bytes that are different in each sector, and compress.
fn pattern(seed: u64, len: usize) -> Vec<u8> {
    (0..len as u64).map(|n| (n / 512).wrapping_mul(31).wrapping_add(seed + n % 7) as u8).collect()
}

#[test]
fn what_is_written_is_what_qemu_reads() {
    for more in
        [&[][..], &["-o", "cluster_size=4096"], &["-o", "compat=0.10"], &["-o", "refcount_bits=64,cluster_size=2M"]]
    {
        let folder = Folder::new();
        folder.create("a.qcow2", more);
        let mut model = vec![0; SIZE as usize];
        let disk = folder.open("a.qcow2");
        assert_eq!(disk.size(), SIZE);
        for (at, len) in [(0usize, 512usize), (65536 - 512, 1024), (1 << 20, 300 << 10), (SIZE as usize - 512, 512)] {
            let data = pattern(at as u64, len);
            disk.write(at as u64, &data).unwrap();
            model[at..at + len].copy_from_slice(&data);
        }
        disk.write_zeroes(1 << 20, 70 << 10, false).unwrap();
        disk.write_zeroes((1 << 20) + (100 << 10), 70 << 10, true).unwrap();
        model[1 << 20..(1 << 20) + (70 << 10)].fill(0);
        model[(1 << 20) + (100 << 10)..(1 << 20) + (170 << 10)].fill(0);
        disk.flush().unwrap();
        let mut bytes = vec![0; SIZE as usize];
        disk.read(0, &mut bytes).unwrap();
        assert!(bytes == model, "{more:?}");
        drop(disk);
        assert!(folder.contents("a.qcow2") == model, "{more:?}");
    }
}

#[test]
fn backing_files_and_compressed_clusters_are_read_and_left_alone() {
    let folder = Folder::new();
    let model = pattern(1, SIZE as usize);
    std::fs::write(folder.path("base.raw"), &model).unwrap();
    qemu_img(&["convert", "-c", "-f", "raw", "-O", "qcow2", &folder.path("base.raw"), &folder.path("middle.qcow2")]);
    folder.create("top.qcow2", &["-b", "middle.qcow2", "-F", "qcow2"]);
    let before = std::fs::read(folder.path("middle.qcow2")).unwrap();
    let mut expected = model.clone();
    {
        let disk = folder.open("top.qcow2");
        let mut bytes = vec![0; SIZE as usize];
        disk.read(0, &mut bytes).unwrap();
        assert!(bytes == model);
        disk.write(100 << 10, &[7; 512]).unwrap();
        expected[100 << 10..][..512].fill(7);
        // The chain is locked: nobody writes below.
        assert!(folder.refused(&folder.options("middle.qcow2")).contains("in use"));
        disk.flush().unwrap();
    }
    assert!(folder.contents("top.qcow2") == expected);
    assert!(std::fs::read(folder.path("middle.qcow2")).unwrap() == before);
    // Compressed clusters are written anew.
    let disk = folder.open("middle.qcow2");
    disk.write(100 << 10, &[8; 512]).unwrap();
    disk.flush().unwrap();
    drop(disk);
    let mut expected = model;
    expected[100 << 10..][..512].fill(8);
    assert!(folder.contents("middle.qcow2") == expected);
    let disk = open(&DiskOptions { ephemeral: true, ..folder.options("top.qcow2") }).unwrap();
    disk.write(0, &[9; 512]).unwrap();
    drop(disk);
    assert_eq!(folder.contents("top.qcow2")[0], expected[0]);
}

#[test]
fn other_files_are_only_read_if_the_user_wants_that() {
    let folder = Folder::new();
    std::fs::write(folder.path("secret"), [1; 4096]).unwrap();
    folder.create("a.qcow2", &["-b", "secret", "-F", "raw"]);
    let by_name = DiskOptions::new(folder.path("a.qcow2"));
    assert!(folder.refused(&by_name).contains("add format=qcow2"));
    folder.create("plain.qcow2", &[]);
    assert!(open(&DiskOptions::new(folder.path("plain.qcow2"))).is_ok());
    std::fs::copy(folder.path("plain.qcow2"), folder.path("plain.img")).unwrap();
    assert!(folder.refused(&DiskOptions::new(folder.path("plain.img"))).contains("add format=qcow2"));
    // A data file of its own, encryption, garbage.
    folder.create("data.qcow2", &["-o", &format!("data_file={},data_file_raw=on", folder.path("data"))]);
    assert!(folder.refused(&folder.options("data.qcow2")).contains("another file"));
    let mut bytes = std::fs::read(folder.path("plain.qcow2")).unwrap();
    bytes[35] = 1;
    std::fs::write(folder.path("crypt.qcow2"), &bytes).unwrap();
    assert!(folder.refused(&folder.options("crypt.qcow2")).contains("encrypted"));
    std::fs::write(folder.path("short.qcow2"), &bytes[..20]).unwrap();
    folder.refused(&folder.options("short.qcow2"));
    // A chain that leads to itself.
    folder.create("loop.qcow2", &[]);
    qemu_img(&["rebase", "-u", "-f", "qcow2", "-b", "loop.qcow2", "-F", "qcow2", &folder.path("loop.qcow2")]);
    let endless = DiskOptions { read_only: true, ..folder.options("loop.qcow2") };
    assert!(folder.refused(&endless).contains("more than 32"));
}

#[test]
fn direct_io_reads_and_writes_the_same() {
    let folder = Folder::new();
    folder.create("a.qcow2", &[]);
    match open(&DiskOptions { cache: CacheMode::None, ..folder.options("a.qcow2") }) {
        Ok(disk) => {
            disk.write(512, &[5; 512]).unwrap();
            disk.flush().unwrap();
        }
        Err(DiskError::Direct { .. }) => return, // a file system without it
        Err(error) => panic!("{error}"),
    }
    assert_eq!(folder.contents("a.qcow2")[511..514], [0, 5, 5]);
}

proptest! {
    #![proptest_config(more_cases(200))]

    #[test]
    fn any_header(head in prop::collection::vec(any::<u8>(), 0..300), version in 0u32..5) {
        let mut bytes = head;
        if bytes.len() > 8 {
            bytes[..4].copy_from_slice(&MAGIC);
            bytes[4..8].copy_from_slice(&version.to_be_bytes());
        }
        let _ = parse_backing(&bytes);
        let file = tempfile::tempfile().unwrap();
        file.write_all_at(&bytes, 0).unwrap();
        let open = Open { path: Path::new("x"), writable: true, direct: false, follow: true };
        let _ = Qcow2Disk::new(file, &open);
    }
}

proptest! {
    #![proptest_config(more_cases(300))]

    /// A sound image in which some bytes are changed, mostly in its tables: whatever it says, nothing panics or ends never.
    #[test]
    fn damaged_images_fail_or_work(
        damage in prop::collection::vec((prop_oneof![0usize..120, 0x1000usize..0x1040, 0x2000usize..0x2020,
            0x3000usize..0x3040, 0x4000usize..0x4200, 0usize..0x7000], any::<u8>()), 1..6),
    ) {
        let mut bytes = sound_image();
        for (at, value) in damage {
            if let Some(byte) = bytes.get_mut(at) {
                *byte = value;
            }
        }
        let folder = Folder::new();
        std::fs::write(folder.path("a.qcow2"), &bytes).unwrap();
        // No backing file: its name could be that of anything.
        if let Ok(disk) = open(&DiskOptions::new(folder.path("a.qcow2"))) {
            let mut out = vec![0; 0x3000];
            for at in [0, 0x1000, 0x10_0000, disk.size().saturating_sub(0x3000)] {
                let _ = disk.read(at, &mut out);
                let _ = disk.write(at, &out[..0x1000]);
                let _ = disk.discard(at, 0x2000);
                let _ = disk.write_zeroes(at, 0x2000, false);
            }
            let _ = disk.flush();
        }
    }
}

#[test]
fn tables_that_lead_out_of_the_file_are_refused() {
    let folder = Folder::new();
    // Reference count table, L1 table, an L1 entry, a cluster size; each led to endless work or worse.
    for (at, value) in [(0x33, 0x30), (0x2b, 0x30), (0x30, 1), (0x17, 63), (0x17, 8), (0x3b, 0xff)] {
        let mut bytes = sound_image();
        bytes[at] = value;
        std::fs::write(folder.path("a.qcow2"), &bytes).unwrap();
        folder.refused(&folder.options("a.qcow2"));
    }
}

/// An image with clusters of 4 KiB and some data.
fn sound_image() -> Vec<u8> {
    static IMAGE: std::sync::OnceLock<Vec<u8>> = std::sync::OnceLock::new();
    IMAGE
        .get_or_init(|| {
            let folder = Folder::new();
            folder.create("a.qcow2", &["-o", "cluster_size=4096"]);
            let disk = folder.open("a.qcow2");
            disk.write(0, &pattern(1, 0x2000)).unwrap();
            disk.write(1 << 20, &pattern(2, 0x1000)).unwrap();
            disk.flush().unwrap();
            drop(disk);
            std::fs::read(folder.path("a.qcow2")).unwrap()
        })
        .clone()
}

/// One step of an image's file.
#[derive(Clone, Debug)]
enum Logged {
    Write(u64, Vec<u8>),
    Resize(u64),
    Sync,
}

/// An image's file in memory that remembers what was done to it.
#[derive(Default)]
struct Recorder {
    bytes: Mutex<Vec<u8>>,
    log: Arc<Mutex<Vec<Logged>>>,
    helper: CommonStorageHelper,
}

impl fmt::Debug for Recorder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("recorder")
    }
}

impl fmt::Display for Recorder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("recorder")
    }
}

fn apply(bytes: &mut Vec<u8>, step: &Logged) {
    match step {
        Logged::Write(at, data) => {
            let (at, end) = (*at as usize, *at as usize + data.len());
            bytes.resize(bytes.len().max(end), 0);
            bytes[at..end].copy_from_slice(data);
        }
        Logged::Resize(size) => bytes.resize(*size as usize, 0),
        Logged::Sync => {}
    }
}

impl Recorder {
    fn new(bytes: Vec<u8>) -> Recorder {
        Recorder { bytes: Mutex::new(bytes), ..Recorder::default() }
    }
    fn step(&self, step: Logged) {
        let mut bytes = self.bytes.lock().unwrap();
        apply(&mut bytes, &step);
        self.log.lock().unwrap().push(step);
    }
}

#[expect(unsafe_code, reason = "the crate's trait has unsafe methods, whose conditions concern alignment only")]
impl Storage for Recorder {
    fn size(&self) -> io::Result<u64> {
        Ok(self.bytes.lock().unwrap().len() as u64)
    }
    unsafe fn pure_readv(&self, mut out: IoVectorMut<'_>, offset: u64) -> io::Result<()> {
        let bytes = self.bytes.lock().unwrap();
        let mut piece = vec![0; out.len() as usize];
        let there = bytes.get(offset as usize..).unwrap_or_default();
        piece.iter_mut().zip(there).for_each(|(to, from)| *to = *from);
        out.copy_from_slice(&piece);
        Ok(())
    }
    unsafe fn pure_writev(&self, data: IoVector<'_>, offset: u64) -> io::Result<()> {
        let mut piece = vec![0; data.len() as usize];
        data.copy_into_slice(&mut piece);
        self.step(Logged::Write(offset, piece));
        Ok(())
    }
    unsafe fn pure_write_zeroes(&self, offset: u64, length: u64) -> io::Result<()> {
        self.step(Logged::Write(offset, vec![0; length as usize]));
        Ok(())
    }
    unsafe fn pure_discard(&self, _offset: u64, _length: u64) -> io::Result<()> {
        Ok(())
    }
    fn flush(&self) -> io::Result<()> {
        Ok(())
    }
    fn sync(&self) -> io::Result<()> {
        self.step(Logged::Sync);
        Ok(())
    }
    unsafe fn invalidate_cache(&self) -> io::Result<()> {
        Ok(())
    }
    fn get_storage_helper(&self) -> &CommonStorageHelper {
        &self.helper
    }
    fn resize(&self, size: u64, _preallocate: imago::storage::PreallocateMode) -> io::Result<()> {
        self.step(Logged::Resize(size));
        Ok(())
    }
}

const BLOCK: u64 = 4096;

/// What the disk may hold after a crash: for each block the numbers of the writes since the last flush, and of the last
/// one before it.
struct Expected {
    /// Length of the log when the flush before these writes was complete, and the possible contents of each block.
    possible: Vec<Vec<u32>>,
}

fn stamp(number: u32) -> Vec<u8> {
    number.to_le_bytes().repeat(BLOCK as usize / 4)
}

/// Power is lost after each step of the image's file in turn: the image is sound, and holds what was flushed.
#[test]
fn power_loss_after_each_step_loses_nothing_that_was_flushed() {
    let points = std::env::var("CRASH_POINTS").ok().and_then(|n| n.parse().ok()).unwrap_or(1000usize);
    let folder = Folder::new();
    folder.create("a.qcow2", &["-o", "cluster_size=8192"]);
    let initial = std::fs::read(folder.path("a.qcow2")).unwrap();
    let recorder = Recorder::new(initial.clone());
    let log = Arc::clone(&recorder.log);
    let disk = Qcow2Disk::of_storage(recorder).unwrap();
    let blocks = (SIZE / BLOCK) as usize;
    // Epoch n lies between flush n and flush n + 1: where it begins in the log, and what blocks may hold in it.
    let mut epochs = vec![(0usize, Expected { possible: vec![vec![0]; blocks] })];
    let mut random = 1u64;
    let mut number = 0;
    while log.lock().unwrap().len() < points {
        random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        let block = (random >> 33) as usize % blocks;
        number += 1;
        let now = &mut epochs.last_mut().unwrap().1.possible[block];
        match random >> 60 {
            0 => {
                disk.write_zeroes(block as u64 * BLOCK, BLOCK, random >> 59 & 1 != 0).unwrap();
                now.push(0);
            }
            1 => {
                disk.flush().unwrap();
                let last = |values: &Vec<u32>| vec![*values.last().unwrap()];
                let possible = epochs.last().unwrap().1.possible.iter().map(last).collect();
                epochs.push((log.lock().unwrap().len(), Expected { possible }));
            }
            _ => {
                disk.write(block as u64 * BLOCK, &stamp(number)).unwrap();
                now.push(number);
            }
        }
    }
    let steps = std::mem::take(&mut *log.lock().unwrap());
    drop(disk);
    assert!(epochs.len() > 20, "flushes are part of it");
    let mut bytes = initial;
    for (done, step) in steps.iter().enumerate() {
        apply(&mut bytes, step);
        let at = epochs.partition_point(|(begin, _)| *begin <= done + 1) - 1;
        let path = folder.path("crashed.qcow2");
        let check = done % 16 == 0;
        if check {
            std::fs::write(&path, &bytes).unwrap();
            let output = Command::new("qemu-img").args(["check", "-f", "qcow2", &path]).output().unwrap();
            // 3: leaked clusters only, which cost space and no data.
            let text = String::from_utf8_lossy(&output.stdout).into_owned();
            assert!(matches!(output.status.code(), Some(0 | 3)), "after step {done}: {text}");
        }
        let crashed = Qcow2Disk::of_storage(Recorder::new(bytes.clone())).unwrap();
        let mut contents = vec![0; SIZE as usize];
        crashed.read(0, &mut contents).unwrap();
        for (block, found) in contents.chunks(BLOCK as usize).enumerate() {
            let value = u32::from_le_bytes(*found.first_chunk().unwrap());
            assert!(found == stamp(value), "after step {done}, block {block}: torn");
            let possible = &epochs[at].1.possible[block];
            // What follows the crash in the same epoch is allowed here too: the log does not say when a write was asked for.
            assert!(possible.contains(&value), "after step {done}, block {block}: {value} is none of {possible:?}");
        }
    }
}

#[test]
fn a_panic_of_the_crate_is_an_error_and_the_last_call() {
    let disk = Qcow2Disk::of_storage(Recorder::new(sound_image())).unwrap();
    let mut bytes = [0; 512];
    disk.read(0, &mut bytes).unwrap();
    let none: Vec<u8> = Vec::new();
    let failed = disk.shared(|_| Ok(none[std::hint::black_box(3)])).unwrap_err();
    assert!(failed.to_string().contains("defect"), "{failed}");
    assert!(disk.read(0, &mut bytes).is_err() && disk.flush().is_err() && disk.discard(0, 512).is_err());
}
