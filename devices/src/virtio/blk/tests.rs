use std::sync::Mutex;
use std::sync::atomic::AtomicBool;

use proptest::prelude::*;

use super::*;
use crate::bus::MmioDevice;
use crate::disk::{DiskOptions, Format};
use crate::testing::{more_cases, transfer};
use crate::virtio::spec::{feature, status};
use crate::virtio::testing::{BUFFERS, RAM, Rig};

const SECTORS: u64 = 512;

/// A disk in memory that knows what survives a crash, and fails when told to.
struct Memory {
    now: Mutex<Vec<u8>>,
    permanent: Mutex<Vec<u8>>,
    fails: AtomicBool,
    full: AtomicBool,
}

impl Memory {
    fn new() -> Arc<Memory> {
        let bytes = vec![0; (SECTORS * SECTOR) as usize];
        Arc::new(Memory {
            now: Mutex::new(bytes.clone()),
            permanent: Mutex::new(bytes),
            fails: AtomicBool::new(false),
            full: AtomicBool::new(false),
        })
    }
    fn check(&self) -> std::io::Result<()> {
        if self.fails.load(Ordering::SeqCst) { Err(std::io::Error::other("told to")) } else { Ok(()) }
    }
    fn is_permanent(&self) -> bool {
        *self.now.lock().unwrap() == *self.permanent.lock().unwrap()
    }
}

impl Disk for Memory {
    fn size(&self) -> u64 {
        SECTORS * SECTOR
    }
    fn block_size(&self) -> u32 {
        4096
    }
    fn read(&self, offset: u64, out: &mut [u8]) -> std::io::Result<()> {
        self.check()?;
        out.copy_from_slice(&self.now.lock().unwrap()[offset as usize..][..out.len()]);
        Ok(())
    }
    fn write(&self, offset: u64, data: &[u8]) -> std::io::Result<()> {
        self.check()?;
        if self.full.load(Ordering::SeqCst) {
            return Err(std::io::ErrorKind::StorageFull.into());
        }
        self.now.lock().unwrap()[offset as usize..][..data.len()].copy_from_slice(data);
        Ok(())
    }
    fn flush(&self) -> std::io::Result<()> {
        self.check()?;
        self.permanent.lock().unwrap().clone_from(&self.now.lock().unwrap());
        Ok(())
    }
    fn discard(&self, offset: u64, len: u64) -> std::io::Result<()> {
        self.write_zeroes(offset, len, true)
    }
    fn write_zeroes(&self, offset: u64, len: u64, _unmap: bool) -> std::io::Result<()> {
        self.write(offset, &vec![0; len as usize])
    }
}

/// A disk of 512 sectors.
pub(crate) fn memory_disk() -> Arc<dyn Disk> {
    Memory::new()
}

fn rig(disk: Arc<dyn Disk>, options: BlkOptions) -> Rig {
    Rig::new(VirtioBlk::new(disk, options))
}

fn header(kind: u32, sector: u64) -> [u8; 16] {
    let mut bytes = [0; 16];
    bytes[..4].copy_from_slice(&kind.to_le_bytes());
    bytes[8..].copy_from_slice(&sector.to_le_bytes());
    bytes
}

/// A request with `data` for the device and `room` for its answer: status and answer.
fn request(rig: &mut Rig, queue: u16, kind: u32, sector: u64, data: &[u8], room: u32) -> (u8, Vec<u8>) {
    let at = rig.buffer(16 + data.len() + room as usize + 1);
    rig.put(at, &[&header(kind, sector), data].concat());
    let answer = at + 16 + data.len() as u64;
    rig.put(answer, &vec![0xee; room as usize + 1]);
    let mut readable = vec![(at, 16)];
    // In two pieces, neither of which is a sector.
    if !data.is_empty() {
        readable.extend([(at + 16, 5), (at + 21, data.len() as u32 - 5)]);
    }
    let writable = if room > 7 { vec![(answer, 7), (answer + 7, room - 7 + 1)] } else { vec![(answer, room + 1)] };
    let head = rig.submit(queue, &readable, &writable);
    assert_eq!(rig.used(queue).0, u32::from(head));
    let bytes = rig.get(answer, room as usize + 1);
    (bytes[room as usize], bytes[..room as usize].to_vec())
}

fn range(sector: u64, sectors: u32, flags: u32) -> Vec<u8> {
    [&sector.to_le_bytes()[..], &sectors.to_le_bytes(), &flags.to_le_bytes()].concat()
}

fn config(rig: &Rig, offset: usize, size: u8) -> u64 {
    rig.device.read(0x100 + offset as u64, size).unwrap()
}

#[test]
fn the_configuration_tells_the_disk() {
    let rig = rig(Memory::new(), BlkOptions { queues: 4, ..BlkOptions::default() });
    assert_eq!(config(&rig, spec::CAPACITY, 8), SECTORS);
    assert_eq!(config(&rig, spec::CAPACITY, 4), SECTORS);
    assert_eq!(config(&rig, spec::SEG_MAX_FIELD, 4), 254);
    assert_eq!(config(&rig, spec::BLK_SIZE_FIELD, 4), 512);
    assert_eq!(config(&rig, spec::PHYSICAL_BLOCK_EXP, 1), 3);
    assert_eq!(config(&rig, spec::WRITEBACK, 1), 1);
    assert_eq!(config(&rig, spec::NUM_QUEUES, 2), 4);
    assert_eq!(config(&rig, 200, 8), 0);
    assert_eq!(rig.device.read(u64::MAX - 2, 8).unwrap(), 0);
    assert_eq!(rig.offered() & 0xffff, 0x7e44 & !spec::RO);
    let read_only = self::rig(Memory::new(), BlkOptions { read_only: true, ..BlkOptions::default() });
    assert_eq!(read_only.offered() & (spec::RO | spec::DISCARD | spec::MQ), spec::RO);
}

#[test]
fn requests_do_what_they_say() {
    let disk = Memory::new();
    let mut rig = rig(disk.clone(), BlkOptions { serial: "S3R1AL".into(), ..BlkOptions::default() });
    rig.start(1, 0);
    let data: Vec<u8> = (0..2048).map(|n| (n % 251) as u8).collect();
    assert_eq!(request(&mut rig, 0, spec::T_OUT, 3, &data, 0).0, spec::S_OK);
    assert_eq!(request(&mut rig, 0, spec::T_IN, 3, &[], 2048), (spec::S_OK, data.clone()));
    assert_eq!(disk.now.lock().unwrap()[1536..1536 + 2048], data);
    assert!(!disk.is_permanent());
    assert_eq!(request(&mut rig, 0, spec::T_FLUSH, 0, &[], 0).0, spec::S_OK);
    assert!(disk.is_permanent());
    let (code, id) = request(&mut rig, 0, spec::T_GET_ID, 0, &[], 20);
    assert_eq!((code, &id[..7], id[19]), (spec::S_OK, &b"S3R1AL\0"[..], 0));
    assert_eq!(request(&mut rig, 0, spec::T_WRITE_ZEROES, 0, &range(4, 1, 1), 0).0, spec::S_OK);
    assert_eq!(request(&mut rig, 0, spec::T_DISCARD, 0, &[range(3, 1, 0), range(6, 1, 0)].concat(), 0).0, spec::S_OK);
    let (_, bytes) = request(&mut rig, 0, spec::T_IN, 3, &[], 2048);
    assert_eq!(bytes, [&[0; 1024][..], &data[1024..1536], &[0; 512]].concat());
    assert_eq!(request(&mut rig, 0, 99, 0, &[], 0).0, spec::S_UNSUPP);
}

#[test]
fn wrong_requests_fail_and_change_nothing() {
    let disk = Memory::new();
    let mut rig = rig(disk.clone(), BlkOptions::default());
    rig.start(1, 0);
    let sector = [7; 512];
    for (kind, at, data, room) in [
        (spec::T_OUT, SECTORS, &sector[..], 0),
        (spec::T_OUT, u64::MAX, &sector, 0),
        (spec::T_OUT, u64::MAX / 512, &sector, 0),
        (spec::T_OUT, 0, &sector[..511], 0),
        (spec::T_IN, SECTORS - 1, &[], 1024),
        (spec::T_IN, 0, &[], 100),
        (spec::T_DISCARD, 0, &range(SECTORS, 1, 0), 0),
        (spec::T_DISCARD, 0, &range(0, u32::MAX, 0), 0),
        (spec::T_DISCARD, 0, &sector[..15], 0),
        (spec::T_DISCARD, 0, &[], 0),
        (spec::T_WRITE_ZEROES, 0, &[range(0, 1, 0), range(u64::MAX, 1, 0)].concat(), 0),
        (spec::T_WRITE_ZEROES, 0, &vec![0; 17 * 16], 0),
    ] {
        assert_eq!(request(&mut rig, 0, kind, at, data, room).0, spec::S_IOERR, "{kind} at {at}");
    }
    assert_eq!(request(&mut rig, 0, spec::T_DISCARD, 0, &range(0, 1, 1), 0).0, spec::S_UNSUPP);
    assert_eq!(request(&mut rig, 0, spec::T_WRITE_ZEROES, 0, &range(0, 1, 2), 0).0, spec::S_UNSUPP);
    assert!(disk.now.lock().unwrap().iter().all(|&b| b == 0));
    disk.fails.store(true, Ordering::SeqCst);
    for (kind, data, room) in [(spec::T_IN, &[][..], 512), (spec::T_OUT, &sector, 0), (spec::T_FLUSH, &[], 0)] {
        assert_eq!(request(&mut rig, 0, kind, 0, data, room).0, spec::S_IOERR, "{kind}");
    }
    assert_eq!(rig.status() & status::DEVICE_NEEDS_RESET, 0);
}

#[test]
fn requests_without_header_status_or_memory_need_a_reset() {
    for (readable, writable) in [
        (vec![(BUFFERS, 15)], vec![(BUFFERS + 64, 1)]),
        (vec![(BUFFERS, 16)], vec![]),
        (vec![], vec![(BUFFERS, 1)]),
        (vec![(BUFFERS, 16)], vec![(RAM - 512, 512), (BUFFERS, 1)]),
        (vec![(BUFFERS, 16)], vec![(BUFFERS + 1024, 512), (8, 1)]),
        (vec![(BUFFERS + 16, 16), (8, 512)], vec![(BUFFERS + 64, 1)]),
    ] {
        let mut rig = rig(Memory::new(), BlkOptions::default());
        rig.start(1, 0);
        rig.put(BUFFERS, &header(spec::T_IN, 0));
        rig.put(BUFFERS + 16, &header(spec::T_OUT, 0));
        rig.submit(0, &readable, &writable);
        rig.until_needs_reset();
    }
}

#[test]
fn a_read_only_disk_cannot_be_written() {
    let disk = Memory::new();
    let mut rig = rig(disk.clone(), BlkOptions { read_only: true, ..BlkOptions::default() });
    rig.start(1, 0);
    assert_eq!(request(&mut rig, 0, spec::T_OUT, 0, &[1; 512], 0).0, spec::S_IOERR);
    assert_eq!(request(&mut rig, 0, spec::T_WRITE_ZEROES, 0, &range(0, 1, 0), 0).0, spec::S_IOERR);
    assert_eq!(request(&mut rig, 0, spec::T_DISCARD, 0, &range(0, 1, 0), 0).0, spec::S_IOERR);
    assert!(disk.now.lock().unwrap().iter().all(|&b| b == 0));
}

#[test]
fn writes_are_permanent_when_they_are_said_to_be() {
    let options = |cache| BlkOptions { cache, ..BlkOptions::default() };
    let no_flush = spec::FLUSH | spec::CONFIG_WCE;
    for (cache, without, at_once, after_flush) in [
        (CacheMode::Writeback, 0, false, true),
        (CacheMode::Writeback, no_flush, true, true),
        (CacheMode::None, 0, false, true),
        (CacheMode::Writethrough, 0, true, true),
        (CacheMode::Writethrough, spec::CONFIG_WCE, true, true),
        (CacheMode::Unsafe, 0, false, false),
        (CacheMode::Unsafe, no_flush, false, false),
    ] {
        let disk = Memory::new();
        let mut rig = rig(disk.clone(), options(cache));
        rig.start(1, without);
        request(&mut rig, 0, spec::T_OUT, 0, &[1; 512], 0);
        assert_eq!(disk.is_permanent(), at_once, "{cache:?} without {without:#x}");
        request(&mut rig, 0, spec::T_FLUSH, 0, &[], 0);
        assert_eq!(disk.is_permanent(), after_flush, "{cache:?} without {without:#x}");
    }
    // The driver changes its mind.
    let disk = Memory::new();
    let mut rig = rig(disk.clone(), options(CacheMode::Writeback));
    rig.start(1, 0);
    request(&mut rig, 0, spec::T_OUT, 0, &[1; 512], 0);
    rig.device.write(0x120, 1, 0).unwrap();
    assert!(disk.is_permanent());
    request(&mut rig, 0, spec::T_OUT, 0, &[2; 512], 0);
    assert!(disk.is_permanent());
    assert_eq!(config(&rig, spec::WRITEBACK, 1), 0);
    rig.device.reset();
    assert_eq!(config(&rig, spec::WRITEBACK, 1), 1);
}

#[test]
fn a_saved_disk_goes_on_and_another_size_is_refused() {
    let disk = Memory::new();
    let mut rig = rig(disk.clone(), BlkOptions::default());
    rig.start(1, 0);
    rig.device.write(0x120, 1, 0).unwrap();
    request(&mut rig, 0, spec::T_OUT, 0, &[3; 512], 0);
    rig.device.pause();
    let mut other = Rig::with_memory(VirtioBlk::new(disk, BlkOptions::default()), rig.memory.clone());
    transfer(&*rig.device, &*other.device);
    other.take_driver(&rig);
    assert_eq!(config(&other, spec::WRITEBACK, 1), 0);
    assert_eq!(request(&mut other, 0, spec::T_IN, 0, &[], 512), (spec::S_OK, vec![3; 512]));
    let mut state = rig.device.save();
    state["state"]["common"]["state"]["device"]["state"]["capacity"] = 7.into();
    assert!(other.device.load(&state).unwrap_err().to_string().contains("7 sectors"));
}

#[test]
fn a_reset_in_flight_leaves_a_working_device() {
    let file = tempfile::NamedTempFile::new().unwrap();
    file.as_file().set_len(8 << 20).unwrap();
    let disk = crate::disk::open(&DiskOptions { format: Some(Format::Raw), ..DiskOptions::new(file.path()) }).unwrap();
    let mut rig = rig(disk, BlkOptions::default());
    for round in 0..50 {
        rig.start(1, 0);
        let at = rig.buffer(1 << 20);
        rig.put(BUFFERS, &header(spec::T_IN, 0));
        for _ in 0..4 {
            rig.submit(0, &[(BUFFERS, 16)], &[(at, 1 << 20), (BUFFERS + 32, 1)]);
        }
        rig.device.reset();
        let before = rig.get(rig.queues[0].used, 4);
        std::thread::sleep(std::time::Duration::from_micros(round * 10));
        assert_eq!(rig.get(rig.queues[0].used, 4), before, "nothing is used after a reset");
    }
    rig.start(1, 0);
    assert_eq!(request(&mut rig, 0, spec::T_FLUSH, 0, &[], 0).0, spec::S_OK);
}

#[derive(Debug, Clone)]
enum Step {
    Read { sector: u64, sectors: u32 },
    Write { sector: u64, sectors: u32, value: u8 },
    Zero { sector: u64, sectors: u32, unmap: bool },
    Flush,
    Reset,
}

fn steps() -> impl Strategy<Value = Vec<(u16, Step)>> {
    let place = || (0..SECTORS + 4, 1u32..20);
    let step = prop_oneof![
        4 => place().prop_map(|(sector, sectors)| Step::Read { sector, sectors }),
        4 => (place(), any::<u8>()).prop_map(|((sector, sectors), value)| Step::Write { sector, sectors, value }),
        1 => (place(), any::<bool>()).prop_map(|((sector, sectors), unmap)| Step::Zero { sector, sectors, unmap }),
        1 => Just(Step::Flush),
        1 => Just(Step::Reset),
    ];
    prop::collection::vec((0..4u16, step), 1..60)
}

proptest! {
    #![proptest_config(more_cases(100))]

    /// Through four queues, with and without event indices, over an image, an overlay or memory: a disk is an array of bytes.
    #[test]
    fn a_disk_is_an_array_of_bytes(steps in steps(), kind in 0..3, event_idx: bool) {
        let file = tempfile::NamedTempFile::new().unwrap();
        file.as_file().set_len(SECTORS * SECTOR).unwrap();
        let disk: Arc<dyn Disk> = match kind {
            0 => Memory::new(),
            _ => crate::disk::open(&DiskOptions { ephemeral: kind == 2, ..DiskOptions::new(file.path()) }).unwrap(),
        };
        let mut rig = rig(Arc::clone(&disk), BlkOptions { queues: 4, ..BlkOptions::default() });
        let without = if event_idx { 0 } else { feature::RING_EVENT_IDX };
        rig.start(4, without);
        let mut model = vec![0u8; (SECTORS * SECTOR) as usize];
        for (queue, step) in steps {
            let bytes = |sector: u64, sectors: u32| (sector * 512) as usize..(sector * 512) as usize + sectors as usize * 512;
            let fits = |sector: u64, sectors: u32| sector + u64::from(sectors) <= SECTORS;
            match step {
                Step::Read { sector, sectors } => {
                    let (code, answer) = request(&mut rig, queue, spec::T_IN, sector, &[], sectors * 512);
                    prop_assert_eq!(code == spec::S_OK, fits(sector, sectors));
                    prop_assert!(code != spec::S_OK || answer == model[bytes(sector, sectors)]);
                }
                Step::Write { sector, sectors, value } => {
                    let data: Vec<u8> = (0..sectors * 512).map(|n| value ^ (n / 3) as u8).collect();
                    let (code, _) = request(&mut rig, queue, spec::T_OUT, sector, &data, 0);
                    prop_assert_eq!(code == spec::S_OK, fits(sector, sectors));
                    if code == spec::S_OK {
                        model[bytes(sector, sectors)].copy_from_slice(&data);
                    }
                }
                Step::Zero { sector, sectors, unmap } => {
                    let (code, _) =
                        request(&mut rig, queue, spec::T_WRITE_ZEROES, 0, &range(sector, sectors, unmap.into()), 0);
                    prop_assert_eq!(code == spec::S_OK, fits(sector, sectors));
                    if code == spec::S_OK {
                        model[bytes(sector, sectors)].fill(0);
                    }
                }
                Step::Flush => prop_assert_eq!(request(&mut rig, queue, spec::T_FLUSH, 0, &[], 0).0, spec::S_OK),
                Step::Reset => {
                    rig.device.reset();
                    rig.start(4, without);
                }
            }
        }
        let mut all = vec![1; model.len()];
        disk.read(0, &mut all).unwrap();
        prop_assert!(all == model);
    }
}

#[test]
fn a_write_without_room_waits_and_is_done_when_there_is() {
    let disk = Memory::new();
    let told = Arc::new(AtomicU64::new(0));
    let tell = Arc::clone(&told);
    let when_full: WhenFull = Arc::new(move || {
        tell.fetch_add(1, Ordering::SeqCst);
    });
    let device = VirtioBlk::waiting_for_room(disk.clone(), BlkOptions::default(), when_full);
    let mut rig = Rig::new(device);
    rig.start(1, 0);
    disk.full.store(true, Ordering::SeqCst);
    rig.put(BUFFERS, &[&header(spec::T_OUT, 5)[..], &[9; 512], &[0xee]].concat());
    let head = rig.submit(0, &[(BUFFERS, 528)], &[(BUFFERS + 528, 1)]);
    rig.until("nobody is told", |_| told.load(Ordering::SeqCst) != 0);
    rig.device.pause();
    assert_eq!((rig.try_used(0), rig.get(BUFFERS + 528, 1)), (None, vec![0xee]));
    // Still no room: told again. The state holds the request as one that was not looked at.
    rig.device.resume();
    rig.until("nobody is told", |_| told.load(Ordering::SeqCst) > 1);
    rig.device.pause();
    let mut other = Rig::with_memory(VirtioBlk::new(disk.clone(), BlkOptions::default()), rig.memory.clone());
    other.device.pause();
    transfer(&*rig.device, &*other.device);
    other.take_driver(&rig);
    disk.full.store(false, Ordering::SeqCst);
    other.device.resume();
    assert_eq!(other.used(0).0, u32::from(head));
    assert_eq!((rig.get(BUFFERS + 528, 1), disk.now.lock().unwrap()[5 * 512]), (vec![spec::S_OK], 9));
    // Without anybody to tell, the guest gets an error.
    disk.full.store(true, Ordering::SeqCst);
    assert_eq!(request(&mut other, 0, spec::T_OUT, 5, &[1; 512], 0).0, spec::S_IOERR);
}

#[test]
fn faults_are_errors_and_never_wrong_data() {
    use crate::disk::{Fault, FaultyDisk};
    let disk = Memory::new();
    let faults = vec![Fault::Eio(7..=7), Fault::Short(3..=3), Fault::FlushFail(2..=2)];
    let mut rig = rig(Arc::new(FaultyDisk::new(disk, faults).unwrap()), BlkOptions::default());
    rig.start(1, 0);
    assert_eq!(request(&mut rig, 0, spec::T_OUT, 0, &[1; 1024], 0).0, spec::S_OK);
    assert_eq!(request(&mut rig, 0, spec::T_IN, 6, &[], 1024).0, spec::S_IOERR);
    assert_eq!(request(&mut rig, 0, spec::T_IN, 0, &[], 1024).0, spec::S_IOERR, "half a transfer is none");
    assert_eq!(request(&mut rig, 0, spec::T_IN, 0, &[], 1024), (spec::S_OK, vec![1; 1024]));
    assert_eq!(request(&mut rig, 0, spec::T_FLUSH, 0, &[], 0).0, spec::S_OK);
    assert_eq!(request(&mut rig, 0, spec::T_FLUSH, 0, &[], 0).0, spec::S_IOERR);
    assert_eq!(request(&mut rig, 0, spec::T_FLUSH, 0, &[], 0).0, spec::S_OK);
}

#[test]
fn a_limited_disk_is_paused_and_reset_at_once() {
    let rates = Rates { requests: Some(1), bytes: None };
    let mut rig = rig(Memory::new(), BlkOptions { rates, ..BlkOptions::default() });
    rig.start(1, 0);
    request(&mut rig, 0, spec::T_FLUSH, 0, &[], 0);
    for _ in 0..3 {
        rig.submit(0, &[(BUFFERS, 16)], &[(BUFFERS + 16, 1)]);
    }
    // Each of them would wait for a second.
    let start = std::time::Instant::now();
    rig.device.pause();
    rig.device.resume();
    rig.device.reset();
    assert!(start.elapsed().as_millis() < 900, "{:?}", start.elapsed());
}

/// Four queues with four requests under way each, on a file: by io_uring and by threads, through the page cache and past it.
#[test]
fn requests_side_by_side_do_what_they_say() {
    use crate::disk::open;
    const REGION: u64 = 256;
    for (aio, cache) in [
        (Aio::Auto, CacheMode::Writeback),
        (Aio::Auto, CacheMode::None),
        (Aio::Auto, CacheMode::Writethrough),
        (Aio::Threads, CacheMode::None),
        (Aio::Threads, CacheMode::Writethrough),
    ] {
        let file = tempfile::NamedTempFile::new().unwrap();
        file.as_file().set_len(4 * REGION * SECTOR).unwrap();
        let Ok(disk) = open(&DiskOptions { cache, ..DiskOptions::new(file.path()) }) else {
            continue; // a file system without direct I/O
        };
        let mut rig = rig(disk, BlkOptions { queues: 4, cache, aio, ..BlkOptions::default() });
        rig.start(4, 0);
        let mut random = 7u64;
        let mut below = move |limit: u64| {
            random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (random >> 33) % limit
        };
        let mut model = vec![0u8; (4 * REGION) as usize];
        for round in 0..60u64 {
            let mut under_way = Vec::new();
            for request in 0..16u64 {
                let (queue, part) = (request % 4, request / 4);
                // Each request has 64 sectors for itself.
                let first = queue * REGION + part * 64 + below(8) * 8;
                let count = if below(3) == 0 { 1 + below(8) } else { 8 };
                let kind = [spec::T_IN, spec::T_OUT, spec::T_OUT, spec::T_FLUSH][below(4) as usize];
                let at = BUFFERS + request * 8192;
                let len = (count * SECTOR) as u32;
                rig.put(at, &header(kind, first));
                let value = (round + request) as u8;
                rig.put(at + 4096, &vec![value; len as usize]);
                rig.put(at + 16, &[0xee]);
                let data = [(at + 4096, len)];
                let (from, to): (&[_], &[_]) = match kind {
                    spec::T_IN => (&[], &data),
                    spec::T_OUT => (&data, &[]),
                    _ => (&[], &[]),
                };
                let head = rig.submit(queue as u16, &[&[(at, 16)], from].concat(), &[to, &[(at + 16, 1)]].concat());
                if kind == spec::T_OUT {
                    model[first as usize..(first + count) as usize].fill(value);
                }
                under_way.push((queue as u16, head, kind, at, first, count));
            }
            for queue in 0..4 {
                for _ in 0..4 {
                    let (head, _) = rig.used(queue);
                    let index =
                        under_way.iter().position(|r| (r.0, u32::from(r.1)) == (queue, head)).expect("one of them");
                    let (_, _, kind, at, first, count) = under_way.swap_remove(index);
                    assert_eq!(rig.get(at + 16, 1), [spec::S_OK]);
                    if kind == spec::T_IN {
                        let expected: Vec<u8> = (first..first + count).flat_map(|s| [model[s as usize]; 512]).collect();
                        assert!(rig.get(at + 4096, expected.len()) == expected, "{aio:?} {cache:?}, round {round}");
                    }
                }
            }
        }
        rig.device.reset();
        let bytes = std::fs::read(file.path()).unwrap();
        assert!(bytes.chunks(512).zip(&model).all(|(sector, value)| sector.iter().all(|b| b == value)));
    }
}

/// A disk whose reads wait for each other: all four have to be under way for any to end.
struct Gathering(std::sync::Barrier);

impl Disk for Gathering {
    fn size(&self) -> u64 {
        SECTORS * SECTOR
    }
    fn block_size(&self) -> u32 {
        512
    }
    fn read(&self, _offset: u64, _out: &mut [u8]) -> std::io::Result<()> {
        self.0.wait();
        Ok(())
    }
    fn write(&self, _offset: u64, _data: &[u8]) -> std::io::Result<()> {
        Ok(())
    }
    fn flush(&self) -> std::io::Result<()> {
        Ok(())
    }
    fn discard(&self, _offset: u64, _len: u64) -> std::io::Result<()> {
        Ok(())
    }
    fn write_zeroes(&self, _offset: u64, _len: u64, _unmap: bool) -> std::io::Result<()> {
        Ok(())
    }
}

#[test]
fn a_slow_request_holds_up_no_other() {
    let mut rig = rig(Arc::new(Gathering(std::sync::Barrier::new(4))), BlkOptions::default());
    rig.start(1, 0);
    rig.put(BUFFERS, &header(spec::T_IN, 0));
    rig.device.pause();
    let heads: Vec<u32> =
        (0..4).map(|n| rig.submit(0, &[(BUFFERS, 16)], &[(BUFFERS + 4096 + n * 1024, 513)]).into()).collect();
    rig.device.resume();
    let mut used: Vec<u32> = (0..4).map(|_| rig.used(0).0).collect();
    used.sort_unstable();
    assert_eq!(used, heads);
}

/// A direct write that finds no room while others are under way.
#[test]
fn writes_without_room_wait_side_by_side_too() {
    let disk = Memory::new();
    let told = Arc::new(AtomicU64::new(0));
    let tell = Arc::clone(&told);
    let when_full: WhenFull = Arc::new(move || {
        tell.fetch_add(1, Ordering::SeqCst);
    });
    let device = VirtioBlk::waiting_for_room(disk.clone(), BlkOptions::default(), when_full);
    let mut rig = Rig::new(device);
    rig.start(1, 0);
    rig.device.pause();
    disk.full.store(true, Ordering::SeqCst);
    for n in 0..4u64 {
        let at = BUFFERS + n * 1024;
        rig.put(at, &[&header(spec::T_OUT, n)[..], &[n as u8 + 1; 512], &[0xee]].concat());
        rig.submit(0, &[(at, 528)], &[(at + 528, 1)]);
    }
    rig.device.resume();
    rig.until("nobody is told", |_| told.load(Ordering::SeqCst) != 0);
    rig.device.pause();
    disk.full.store(false, Ordering::SeqCst);
    rig.device.resume();
    for _ in 0..4 {
        rig.used(0);
    }
    for n in 0..4u64 {
        assert_eq!(rig.get(BUFFERS + n * 1024 + 528, 1), [spec::S_OK]);
        assert_eq!(disk.now.lock().unwrap()[n as usize * 512], n as u8 + 1);
    }
}

/// A machine that is saved while writes wait for room does them where it goes on.
#[test]
fn writes_without_room_are_saved_with_the_machine() {
    let (disk, other_disk) = (Memory::new(), Memory::new());
    let told = Arc::new(AtomicU64::new(0));
    let tell = Arc::clone(&told);
    let when_full: WhenFull = Arc::new(move || {
        tell.fetch_add(1, Ordering::SeqCst);
    });
    let mut rig = Rig::new(VirtioBlk::waiting_for_room(disk.clone(), BlkOptions::default(), when_full));
    rig.start(1, 0);
    // One that was answered before, so that places in the ring have been used.
    request(&mut rig, 0, spec::T_OUT, 9, &[9; 512], 0);
    rig.device.pause();
    disk.full.store(true, Ordering::SeqCst);
    for n in 0..4u64 {
        let at = BUFFERS + 0x1_0000 + n * 1024;
        rig.put(at, &[&header(spec::T_OUT, n)[..], &[n as u8 + 1; 512], &[0xee]].concat());
        rig.submit(0, &[(at, 528)], &[(at + 528, 1)]);
    }
    rig.device.resume();
    rig.until("nobody is told", |_| told.load(Ordering::SeqCst) != 0);
    rig.device.pause();
    let mut other = Rig::with_memory(VirtioBlk::new(other_disk.clone(), BlkOptions::default()), rig.memory.clone());
    other.device.pause();
    transfer(&*rig.device, &*other.device);
    other.take_driver(&rig);
    assert!(other.try_used(0).is_none(), "saving answers nothing");
    other.device.resume();
    for _ in 0..4 {
        other.used(0);
    }
    for n in 0..4u64 {
        assert_eq!(other.get(BUFFERS + 0x1_0000 + n * 1024 + 528, 1), [spec::S_OK]);
        assert_eq!(other_disk.now.lock().unwrap()[n as usize * 512], n as u8 + 1);
    }
    assert_eq!(other.status() & status::DEVICE_NEEDS_RESET, 0);
}
