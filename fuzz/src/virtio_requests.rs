//! virtio devices that take structured requests: vsock, balloon, and a shared folder.

use std::io::{Read, Write};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use devices::MmioDevice;
use devices::virtio::balloon::{BalloonOptions, Reclaim};
use devices::virtio::console::PortOptions;
use devices::virtio::fs::FsOptions;
use devices::virtio::vsock::VsockOptions;
use devices::virtio::{SharedMemory, VirtioBalloon, VirtioConsole, VirtioFs, VirtioMmio, VirtioVsock};
use vm_memory::{Bytes as _, GuestAddress};

use crate::bytes::Bytes;
use crate::virtio_devices::{RAM, behind_mmio, settle, start_queue};

/// Where requests and room for answers are.
const REQUEST: u64 = RAM + 0x4_0000;
const ANSWER: u64 = RAM + 0x6_0000;

/// A folder of this run's own, which is gone afterwards.
struct Folder(PathBuf);

impl Folder {
    fn new(name: &str) -> Folder {
        static RUNS: AtomicU64 = AtomicU64::new(0);
        let run = RUNS.fetch_add(1, Ordering::Relaxed);
        let path = std::env::temp_dir().join(format!("vmm-fuzz-{name}-{}-{run}", std::process::id()));
        std::fs::create_dir_all(&path).expect("a folder");
        Folder(path)
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        // What is left is the host's to clean.
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// A driver's side of queues with 16 entries.
struct Driver<'a> {
    memory: &'a SharedMemory,
    device: &'a VirtioMmio,
    offered: [u16; 8],
}

impl Driver<'_> {
    /// Offers a request of these bytes with so much room for an answer.
    fn offer(&mut self, queue: u64, request: &[u8], room: u32) {
        let rings = RAM + queue * 0x4000;
        self.memory.write_slice(request, GuestAddress(REQUEST)).expect("in RAM");
        let first = u64::from(request.len() as u32) | 1 << 32 | 1 << 48;
        let second = u64::from(room) | 2 << 32;
        for (at, word) in [(0, REQUEST), (8, first), (16, ANSWER), (24, second)] {
            self.memory.write_obj(word, GuestAddress(rings + at)).expect("in RAM");
        }
        let offered = &mut self.offered[queue as usize];
        *offered = offered.wrapping_add(1);
        self.memory.write_obj(*offered, GuestAddress(rings + 0x1002)).expect("in RAM");
        self.device.write(0x50, 4, queue).expect("a register");
        // One at a time, as they share their buffers; some are kept until there is something for them.
        let is_served = |_: &u32| {
            std::thread::yield_now();
            self.memory.read_obj::<u16>(GuestAddress(rings + 0x2002)).expect("in RAM") == *offered
        };
        let _ = (0..200).find(is_served);
        settle(self.device);
        self.device.resume();
    }
}

fn finish(device: &VirtioMmio) {
    settle(device);
    let saved = device.save();
    device.load(&saved).expect("what was saved can be loaded");
    device.resume();
    device.reset();
}

/// Any packets of a guest to its streams: mostly about few ports, so that they meet.
pub fn virtio_vsock(data: &[u8]) {
    let folder = Folder::new("vsock");
    let listener = std::os::unix::net::UnixListener::bind(folder.0.join("v_1")).expect("a socket");
    listener.set_nonblocking(true).expect("a mode");
    let options = VsockOptions { cid: 3, socket: folder.0.join("v") };
    let (memory, device) = behind_mmio(Arc::new(VirtioVsock::new(&options).expect("a socket")));
    start_queue(&*device, 3, 0);
    let mut driver = Driver { memory: &memory, device: &device, offered: [0; 8] };
    let mut bytes = Bytes(data);
    let mut streams = Vec::new();
    while let (Some(kind), Some(ports), Some(op), Some(credit)) = (bytes.u8(), bytes.u8(), bytes.u8(), bytes.u32()) {
        match kind & 3 {
            0 => driver.offer(0, &[], u32::from(ports) * 64),
            1 => streams.extend(listener.accept().ok().filter(|_| streams.len() < 8)),
            _ => {
                let mut packet = Vec::new();
                packet.extend((3 + u64::from(kind == 255)).to_le_bytes());
                packet.extend((2 + u64::from(kind == 254)).to_le_bytes());
                packet.extend(u32::from(ports & 3).to_le_bytes());
                packet.extend(u32::from(ports >> 2 & 1).to_le_bytes());
                packet.extend((credit & 0x1ff).to_le_bytes());
                packet.extend([1 + u8::from(kind == 253), 0, op & 7, 0]);
                packet.extend(u32::from(op >> 3).to_le_bytes());
                packet.extend(credit.to_le_bytes());
                packet.extend((credit >> 8).to_le_bytes());
                packet.resize(44 + usize::from(kind), kind);
                driver.offer(1, &packet, 0);
            }
        }
    }
    finish(&device);
}

/// RAM of which nothing is given back.
struct Ram;

impl Reclaim for Ram {
    fn size(&self) -> u64 {
        1 << 20
    }
    fn reclaim(&self, address: u64, len: u64) -> bool {
        address >= RAM && address.checked_add(len).is_some_and(|end| end <= RAM + (1 << 20))
    }
}

/// Any pages, reports and statistics.
pub fn virtio_balloon(data: &[u8]) {
    let options = BalloonOptions {
        free_page_reporting: true,
        statistics: data.len() & 1 == 0,
        deflate_on_oom: true,
        target: None,
    };
    let balloon = Arc::new(VirtioBalloon::new(options, Arc::new(Ram)));
    let (memory, device) = behind_mmio(Arc::clone(&balloon) as Arc<dyn devices::virtio::VirtioDevice>);
    start_queue(&*device, 5, 0);
    let mut driver = Driver { memory: &memory, device: &device, offered: [0; 8] };
    let mut bytes = Bytes(data);
    while let (Some(kind), Some(len), Some(number)) = (bytes.u8(), bytes.u8(), bytes.u32()) {
        match kind & 7 {
            queue @ 0..5 => {
                let words =
                    (0..u32::from(len)).flat_map(|n| number.wrapping_add(n * u32::from(kind >> 3)).to_le_bytes());
                driver.offer(queue.into(), &words.collect::<Vec<u8>>(), number >> kind.min(31));
            }
            5 => device.write(0x100 + u64::from(len), 4, number.into()).expect("a register"),
            6 => balloon.set_target(number.into()),
            _ => assert!(device.counters()["device"]["actual_bytes"].is_u64()),
        }
    }
    finish(&device);
}

/// Any control messages and data to the ports of a console, one of which has a peer.
pub fn virtio_console(data: &[u8]) {
    let folder = Folder::new("console");
    let port = |name: &str| PortOptions { name: name.to_owned(), socket: folder.0.join(name) };
    let console = VirtioConsole::new(&[port("agent"), port("hvc0")]).expect("sockets");
    let peer = std::os::unix::net::UnixStream::connect(folder.0.join("agent")).expect("somebody listens");
    peer.set_nonblocking(true).expect("a mode");
    let (memory, device) = behind_mmio(Arc::new(console));
    start_queue(&*device, 6, 0);
    let mut driver = Driver { memory: &memory, device: &device, offered: [0; 8] };
    let mut bytes = Bytes(data);
    while let (Some(kind), Some(len), Some(number)) = (bytes.u8(), bytes.u8(), bytes.u32()) {
        match kind & 7 {
            3 => {
                let mut message = Vec::new();
                // Mostly ports and events that there are.
                message.extend(if kind & 0x80 != 0 { number } else { number & 3 }.to_le_bytes());
                message.extend((number >> 8 & 0xf | (number & 0x1000) << 4).to_le_bytes());
                message.truncate(if len == 0 { 7 } else { 8 });
                driver.offer(3, &message, 0);
            }
            queue @ (1 | 5) => driver.offer(queue.into(), &vec![kind; usize::from(len) * 16], 0),
            queue @ (0 | 2 | 4) => driver.offer(queue.into(), &[], number & 0x1fff),
            6 => {
                // It takes what fits.
                let _ = (&peer).write(&vec![kind; usize::from(len)]);
            }
            _ => {
                // There may be nothing.
                let _ = (&peer).read(&mut [0; 4096]);
            }
        }
    }
    finish(&device);
}

/// Any requests to a shared folder: nothing beside it changes.
pub fn virtio_fs(data: &[u8]) {
    const OPCODES: [u32; 36] = [
        1, 2, 3, 4, 5, 6, 8, 9, 10, 11, 12, 13, 14, 15, 16, 17, 18, 20, 21, 22, 23, 24, 25, 27, 28, 29, 30, 35, 42, 43,
        44, 45, 46, 47, 50, 99,
    ];
    const NAMES: [&[u8]; 8] = [b"a", b"b", b"link", b"..", b"../outside", b"/etc", b"sub", b""];
    let folder = Folder::new("fs");
    let shared = folder.0.join("shared");
    std::fs::create_dir_all(shared.join("sub")).expect("a folder");
    std::fs::write(folder.0.join("outside"), "untouched").expect("a file");
    std::os::unix::fs::symlink("../outside", shared.join("link")).expect("a link");
    let (memory, device) = behind_mmio(Arc::new(VirtioFs::new(&FsOptions::new("t", &shared)).expect("a folder")));
    start_queue(&*device, 2, 0);
    let mut driver = Driver { memory: &memory, device: &device, offered: [0; 8] };
    let request = |opcode: u32, node: u64, body: &[u8]| {
        let mut bytes = vec![0; 40];
        bytes[4..8].copy_from_slice(&opcode.to_le_bytes());
        bytes[16..24].copy_from_slice(&node.to_le_bytes());
        bytes.extend(body);
        bytes
    };
    driver.offer(1, &request(26, 0, &[[7, 0, 0, 0], [31, 0, 0, 0], [0; 4], [255; 4]].concat()), 4096);
    let mut bytes = Bytes(data);
    while let (Some(kind), Some(node), Some(names), Some(number)) = (bytes.u8(), bytes.u8(), bytes.u8(), bytes.u32()) {
        let opcode = OPCODES[usize::from(kind) % OPCODES.len()];
        // Numbers of a size that makes something happen, in the places of all arguments.
        let mut body: Vec<u8> = Vec::new();
        let fields = match opcode {
            4 => 11,
            14 | 18 | 20 | 22 | 23 | 27 | 29 | 30 | 9 | 12 | 13 => 1,
            35 | 8 => 2,
            15 | 16 | 28 | 44 => 5,
            43 | 46 | 47 => 7,
            _ => usize::from(names >> 6),
        };
        for field in 0..fields {
            let word = number.rotate_left(field as u32 * 7);
            body.extend(u64::from(if word & 1 != 0 { word & 7 } else { word & 0xfff }).to_le_bytes());
        }
        for name in [names & 7, names >> 3 & 7] {
            body.extend(NAMES[usize::from(name)]);
            body.push(0);
        }
        body.extend(&data[..data.len().min(usize::from(node))]);
        driver.offer(1, &request(opcode, u64::from(node & 7), &body), if kind == 255 { 20 } else { 0x1_0000 });
    }
    finish(&device);
    assert_eq!(std::fs::read(folder.0.join("outside")).expect("the file"), b"untouched");
    assert_eq!(std::fs::read_dir(&folder.0).expect("the folder").count(), 2, "something came out of the folder");
}
