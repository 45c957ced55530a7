//! The same wrong drivers for every type of device, at each of its queues.

use std::path::Path;
use std::sync::Arc;

use super::super::balloon::{BalloonOptions, Reclaim};
use super::super::blk::tests::memory_disk;
use super::super::blk::{BlkOptions, VirtioBlk};
use super::super::console::{PortOptions, VirtioConsole};
use super::super::fs::{FsOptions, VirtioFs};
use super::super::net::{NetOptions, VirtioNet};
use super::super::spec::{feature, mmio as reg, status};
use super::super::testing::{BUFFERS, NEXT, Port, RAM, RAM_LEN, Rig, WRITE};
use super::super::vsock::{VirtioVsock, VsockOptions};
use super::super::{VirtioBalloon, VirtioDevice, VirtioMmio, VirtioRng};
use super::breaks;
use crate::net::wire::Mac;
use crate::net::{Backend, Packet, Wake};
use crate::testing::write;

/// A type of device, and a request that it answers.
struct Kind {
    name: &'static str,
    make: fn(&Path) -> Arc<dyn VirtioDevice>,
    queues: u16,
    /// Those of which every request is looked at at once; the others wait for something to happen on the host.
    eager: &'static [u16],
    /// Queue, bytes and room for an answer of a request that is right.
    right: (u16, &'static [u8], u32),
}

/// A cable that goes nowhere.
struct Loose;

impl Backend for Loose {
    fn connect(&self, _wake: Wake) {}
    fn send(&self, _packet: &mut Packet) {}
    fn receive(&self, _packet: &mut Packet) -> bool {
        false
    }
}

struct Ram;

impl Reclaim for Ram {
    fn size(&self) -> u64 {
        RAM_LEN
    }
    fn reclaim(&self, address: u64, len: u64) -> bool {
        address >= RAM && address.checked_add(len).is_some_and(|end| end <= RAM + RAM_LEN)
    }
}

fn console(folder: &Path) -> Arc<dyn VirtioDevice> {
    let port = |name: &str| PortOptions { name: name.into(), socket: folder.join(name) };
    Arc::new(VirtioConsole::new(&[port("agent"), port("hvc0")]).unwrap())
}

fn balloon(_: &Path) -> Arc<dyn VirtioDevice> {
    let options = BalloonOptions { free_page_reporting: true, statistics: true, deflate_on_oom: true, target: None };
    Arc::new(VirtioBalloon::new(options, Arc::new(Ram)))
}

fn net(_: &Path) -> Arc<dyn VirtioDevice> {
    let options = NetOptions { mac: Mac([2, 0, 0, 0, 0, 1]), mtu: None, offloads: true };
    Arc::new(VirtioNet::new(Box::new(Loose), options))
}

/// An operation of FUSE that nobody knows: 40 bytes, opcode 99.
const FUSE: &[u8] = &[
    40, 0, 0, 0, 99, 0, 0, 0, 7, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0,
    0, 0,
];
/// VIRTIO_BLK_T_FLUSH.
const FLUSH: &[u8] = &[4, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];

const KINDS: [Kind; 7] = [
    Kind { name: "rng", make: |_| Arc::new(VirtioRng::new()), queues: 1, eager: &[0], right: (0, &[], 8) },
    Kind {
        name: "blk",
        make: |_| Arc::new(VirtioBlk::new(memory_disk(), BlkOptions { queues: 2, ..BlkOptions::default() })),
        queues: 2,
        eager: &[0, 1],
        right: (1, FLUSH, 1),
    },
    Kind { name: "net", make: net, queues: 3, eager: &[1, 2], right: (1, &[0; 72], 0) },
    Kind { name: "console", make: console, queues: 6, eager: &[3], right: (3, &[0; 8], 0) },
    Kind {
        name: "vsock",
        make: |folder| Arc::new(VirtioVsock::new(&VsockOptions { cid: 3, socket: folder.join("v") }).unwrap()),
        queues: 3,
        eager: &[1],
        right: (1, &[0; 44], 0),
    },
    Kind { name: "balloon", make: balloon, queues: 5, eager: &[0, 1], right: (0, &[0; 4], 0) },
    Kind {
        name: "fs",
        make: |folder| Arc::new(VirtioFs::new(&FsOptions::new("tag", folder.join("shared"))).unwrap()),
        queues: 2,
        eager: &[0, 1],
        right: (1, FUSE, 64),
    },
];

impl Kind {
    /// Does something with a new device, which then does what it is there for after a reset.
    fn put_to(&self, what: &str, test: impl FnOnce(&mut Rig)) {
        let folder = tempfile::tempdir().unwrap();
        std::fs::create_dir(folder.path().join("shared")).unwrap();
        let mut rig = Rig::of((self.make)(folder.path()));
        rig.start(self.queues, 0);
        test(&mut rig);
        rig.device.write_status(0);
        assert_eq!(rig.status(), 0, "{}: {what}: a reset heals", self.name);
        rig.device.common().resume();
        rig.start(self.queues, 0);
        self.works(&mut rig, what);
    }

    /// The right request.
    fn ask(&self, rig: &mut Rig) {
        let (queue, bytes, room) = self.right;
        rig.put(BUFFERS, bytes);
        let request = [(BUFFERS, bytes.len() as u32)];
        let answer = [(BUFFERS + 0x1000, room)];
        rig.submit(queue, if bytes.is_empty() { &[] } else { &request }, if room == 0 { &[] } else { &answer });
    }

    fn works(&self, rig: &mut Rig, what: &str) {
        self.ask(rig);
        rig.used(self.right.0);
        assert_eq!(rig.status() & status::DEVICE_NEEDS_RESET, 0, "{}: {what}", self.name);
    }

    /// The first request in `queue` is served or refused, if the device looks at everything at once.
    fn is_over(&self, rig: &Rig, queue: u16) {
        if self.eager.contains(&queue) {
            rig.until("neither served nor refused", |rig| {
                let used = rig.queues[usize::from(queue)].used + 2;
                rig.get(used, 2) == [1, 0] || rig.status() & status::DEVICE_NEEDS_RESET != 0
            });
        } else {
            rig.device.common().pause();
        }
    }

    /// The device has looked at what is in `queue`: it needs a reset if it looks at everything at once.
    fn is_stopped(&self, rig: &Rig, queue: u16) {
        if self.eager.contains(&queue) {
            rig.until_needs_reset();
        } else {
            // Nothing is under way then.
            rig.device.common().pause();
        }
    }
}

/// For each queue of each device.
fn each(test: impl Fn(&Kind, u16)) {
    KINDS.iter().for_each(|kind| (0..kind.queues).for_each(|queue| test(kind, queue)));
}

/// Bytes to read and room to write, both at a wrong place.
fn nowhere(rig: &Rig, table: u64, address: u64, len: u32) {
    rig.write_descriptor(table, 0, address, len, NEXT, 1);
    rig.write_descriptor(table, 1, address, len, NEXT | WRITE, 2);
    rig.write_descriptor(table, 2, address, len, WRITE, 0);
}

#[test]
fn broken_chains_stop_every_device() {
    each(|kind, queue| {
        // Wrong by their form; what lies outside of RAM follows.
        for (what, wreck) in breaks::<VirtioMmio>().into_iter().filter(|(what, _)| !what.contains("RAM")) {
            if what == "wraps" {
                continue;
            }
            kind.put_to(what, |rig| {
                wreck(rig, rig.queues[usize::from(queue)].descriptors);
                rig.offer(queue, 0);
                kind.is_stopped(rig, queue);
                assert_eq!(rig.try_used(queue), None, "{} {queue}: {what}", kind.name);
            });
        }
        for (address, len) in [(RAM - 4, 64), (u64::MAX - 3, 64), (0, 4096)] {
            kind.put_to("outside of RAM", |rig| {
                nowhere(rig, rig.queues[usize::from(queue)].descriptors, address, len);
                rig.offer(queue, 0);
                kind.is_stopped(rig, queue);
            });
        }
        // A short request may be answered before the place where RAM ends.
        kind.put_to("ends outside of RAM", |rig| {
            nowhere(rig, rig.queues[usize::from(queue)].descriptors, RAM + RAM_LEN - 4, 64);
            rig.offer(queue, 0);
            kind.is_over(rig, queue);
        });
    });
}

#[test]
fn broken_rings_stop_every_device() {
    each(|kind, queue| {
        for jump in [17u16, 300, 0x8000, u16::MAX] {
            kind.put_to("an index that jumps", |rig| {
                rig.put(rig.queues[usize::from(queue)].avail + 2, &jump.to_le_bytes());
                rig.device.notify(queue);
                kind.is_stopped(rig, queue);
            });
        }
        kind.put_to("a head beyond the table", |rig| {
            rig.offer(queue, 99);
            kind.is_stopped(rig, queue);
        });
    });
}

#[test]
fn empty_and_longest_buffers_hang_no_device() {
    each(|kind, queue| {
        for len in [0, u32::MAX] {
            for (readable, writable) in [(1, 1), (1, 0), (0, 1), (3, 3)] {
                kind.put_to("a length", |rig| {
                    rig.submit(queue, &vec![(BUFFERS, len); readable], &vec![(BUFFERS, len); writable]);
                    kind.is_over(rig, queue);
                });
            }
        }
    });
}

#[test]
fn lies_about_features_stop_no_device() {
    for kind in &KINDS {
        kind.put_to("features", |rig| {
            rig.device.write_status(0);
            rig.set_status(status::ACKNOWLEDGE | status::DRIVER);
            let offered = rig.offered();
            // What is not offered, one at a time and all; a device that is none of version 1.
            let lies = (0..64).map(|bit| 1 << bit).filter(|bit| offered & bit == 0).map(|bit| offered | bit);
            for lie in lies.chain([u64::MAX, offered & !feature::VERSION_1, 0]) {
                rig.accept(lie);
                assert_eq!(rig.set_status(status::FEATURES_OK) & status::FEATURES_OK, 0, "{}: {lie:#x}", kind.name);
            }
            // A driver that says it can do less than it then does.
            for bit in (0..64).map(|bit| 1u64 << bit).filter(|bit| offered & bit != 0 && *bit != feature::VERSION_1) {
                rig.device.write_status(0);
                rig.start(kind.queues, bit);
                for queue in 0..kind.queues {
                    rig.submit(queue, &[(BUFFERS, 64)], &[(BUFFERS + 0x100, 64)]);
                }
                rig.device.common().pause();
                rig.device.common().resume();
            }
        });
    }
}

#[test]
fn queues_that_are_changed_while_they_live() {
    each(|kind, queue| {
        kind.put_to("changed", |rig| {
            let mut other = rig.queues[usize::from(queue)].clone();
            (other.size, other.descriptors, other.avail, other.used) = (3, u64::MAX, RAM - 2, 1);
            kind.ask(rig);
            rig.write_setup(queue, &other);
            assert!(rig.device.is_ready(queue), "{} {queue}: a queue in use is not changed", kind.name);
            rig.used(kind.right.0);
            kind.works(rig, "changed");
            // Taken away and put back with requests under way, which are no more.
            for _ in 0..20 {
                kind.ask(rig);
                write(&*rig.device, reg::QUEUE_SEL, queue.into());
                write(&*rig.device, reg::QUEUE_READY, 0);
                rig.set_up_queue(queue, 16);
                if queue != kind.right.0 {
                    rig.used(kind.right.0);
                }
            }
            kind.works(rig, "put back");
        });
    });
}

#[test]
fn resets_with_requests_under_way() {
    for kind in &KINDS {
        kind.put_to("resets", |rig| {
            for round in 0..60u16 {
                (0..round % 8).for_each(|_| kind.ask(rig));
                for queue in (0..kind.queues).filter(|queue| *queue != kind.right.0) {
                    rig.submit(queue, &[], &[(BUFFERS + 0x2000, 256)]);
                }
                if round % 3 == 0 {
                    std::thread::yield_now();
                }
                rig.device.write_status(0);
                assert_eq!(rig.status(), 0, "{}", kind.name);
                rig.start(kind.queues, 0);
            }
        });
    }
}
