use std::collections::VecDeque;
use std::sync::Mutex;

use super::*;
use crate::bus::MmioDevice;
use crate::net::Wake;
use crate::net::packet::{GSO_TCPV4, HEADER, Header, NEEDS_CSUM, Packet};
use crate::net::wire::{self, Ends, protocol};
use crate::testing::transfer;
use crate::virtio::spec::{feature, status};
use crate::virtio::testing::{BUFFERS, NEXT, RAM, RAM_LEN, Rig, WRITE};

/// A cable whose other end is the test.
#[derive(Clone, Default)]
struct Cable(Arc<CableInner>);

#[derive(Default)]
struct CableInner {
    sent: Mutex<Vec<(Header, Vec<u8>)>>,
    waiting: Mutex<VecDeque<Vec<u8>>>,
    wake: Mutex<Option<Wake>>,
    accepts: Mutex<Accepts>,
}

impl Backend for Cable {
    fn connect(&self, wake: Wake) {
        *self.0.wake.lock().unwrap() = Some(wake);
    }
    fn accepts(&self, accepts: Accepts) {
        *self.0.accepts.lock().unwrap() = accepts;
    }
    fn send(&self, packet: &mut Packet) {
        self.0.sent.lock().unwrap().push((packet.header(), packet.frame().to_vec()));
    }
    fn receive(&self, packet: &mut Packet) -> bool {
        let Some(whole) = self.0.waiting.lock().unwrap().pop_front() else { return false };
        packet.whole_room()[..whole.len()].copy_from_slice(&whole);
        packet.set_whole_len(whole.len())
    }
}

impl Cable {
    /// A frame comes in.
    fn give(&self, whole: &[u8]) {
        self.0.waiting.lock().unwrap().push_back(whole.to_vec());
        (self.0.wake.lock().unwrap().as_ref().unwrap())();
    }
    fn sent(&self) -> usize {
        self.0.sent.lock().unwrap().len()
    }
}

const MAC: Mac = Mac([0x52, 0x54, 0, 1, 2, 3]);

fn rig() -> (Rig, Cable) {
    let cable = Cable::default();
    let options = NetOptions { mac: MAC, mtu: Some(1500), offloads: true };
    (Rig::new(VirtioNet::new(Box::new(cable.clone()), options)), cable)
}

fn whole(frame: &[u8]) -> Vec<u8> {
    [&Header::default().bytes(1), frame].concat()
}

/// A TCP packet of `len` bytes of data that is to be cut.
fn large(len: usize) -> Vec<u8> {
    let ends =
        Ends { to_mac: MAC, from_mac: Mac([2; 6]), source: [10, 0, 2, 2].into(), destination: [10, 0, 2, 15].into() };
    let mut packet = Packet::new();
    let at = wire::write_ip(&mut packet, &ends, protocol::TCP, 64, 20 + len);
    packet.frame_mut()[at + 12] = 0x50;
    wire::leave_checksum(&mut packet, &ends, protocol::TCP, at, 16);
    packet.set_header(Header { gso_type: GSO_TCPV4, gso_size: 1460, ..packet.header() });
    packet.whole().to_vec()
}

#[test]
fn frames_reach_the_cable_as_they_are() {
    let (mut rig, cable) = rig();
    rig.start(3, 0);
    let frames: Vec<Vec<u8>> =
        [14usize, 60, 1514, 9000].iter().map(|&n| (0..n).map(|i| (i * 7) as u8).collect()).collect();
    for frame in &frames {
        let bytes = whole(frame);
        let at = rig.buffer(bytes.len());
        rig.put(at, &bytes);
        // In pieces that do not respect the header.
        let first = 5.min(bytes.len());
        rig.submit(1, &[(at, first as u32), (at + first as u64, (bytes.len() - first) as u32)], &[]);
        assert_eq!(rig.used(1).1, 0);
    }
    let sent = cable.0.sent.lock().unwrap();
    assert!(sent.iter().map(|(_, frame)| frame).eq(&frames));
}

#[test]
fn what_the_driver_may_not_ask_for_is_not_sent() {
    let (mut rig, cable) = rig();
    rig.start(3, spec::CSUM | spec::HOST_TSO4 | spec::HOST_TSO6 | spec::HOST_ECN);
    for bytes in [large(3000), whole(&[0; 13]), vec![0; HEADER]] {
        rig.put(BUFFERS, &bytes);
        rig.submit(1, &[(BUFFERS, bytes.len() as u32)], &[]);
        rig.used(1);
    }
    // More than a frame can be.
    rig.submit(1, &[(BUFFERS, 70_000)], &[]);
    rig.used(1);
    assert_eq!(cable.sent(), 0);
    assert_eq!(rig.status() & status::DEVICE_NEEDS_RESET, 0);
}

#[test]
fn a_frame_fills_as_many_buffers_as_it_needs_and_all_at_once() {
    let (mut rig, cable) = rig();
    rig.start(3, 0);
    let frame: Vec<u8> = (0..3000).map(|i| (i * 13) as u8).collect();
    let at = rig.buffer(8 * 1024);
    // Not enough room yet: nothing is used, and nothing is lost.
    rig.submit(0, &[], &[(at, 1024)]);
    rig.submit(0, &[], &[(at + 1024, 1024)]);
    cable.give(&whole(&frame));
    cable.give(&whole(&[7; 60]));
    std::thread::sleep(std::time::Duration::from_millis(20));
    assert!(rig.try_used(0).is_none());
    rig.submit(0, &[], &[(at + 2048, 1024)]);
    let lengths: Vec<u32> = (0..3).map(|_| rig.used(0).1).collect();
    assert_eq!(lengths, [1024, 1024, 3012 - 2048]);
    let bytes = rig.get(at, 3012);
    assert_eq!(bytes[10..12], [3, 0], "num_buffers");
    assert_eq!(bytes[HEADER..], frame);
    rig.submit(0, &[], &[(at + 4096, 1024)]);
    assert_eq!(rig.used(0).1, 72);
    assert_eq!(rig.get(at + 4096, 12)[10..], [1, 0]);
}

#[test]
fn a_driver_without_offloads_gets_segments_with_checksums() {
    let (mut rig, cable) = rig();
    rig.start(3, OFFLOADS | spec::MRG_RXBUF | spec::CTRL_GUEST_OFFLOADS);
    assert_eq!(*cable.0.accepts.lock().unwrap(), Accepts::default());
    cable.give(&large(4000));
    let mut lengths = Vec::new();
    for i in 0..3 {
        let at = BUFFERS + i * 2048;
        rig.submit(0, &[], &[(at, 2048)]);
        let len = rig.used(0).1;
        let bytes = rig.get(at, len as usize);
        assert_eq!(bytes[..2], [0, 0]);
        let ip = wire::Ip::parse(wire::EtherType::Ipv4, &bytes[HEADER + 14..]).unwrap();
        assert_eq!(crate::net::offload::checksum(ip.payload, ip.pseudo(ip.payload.len())), 0);
        lengths.push(ip.payload.len() - 20);
    }
    assert_eq!(lengths, [1460, 1460, 1080]);
    // One that does not fit into its buffer is lost, the next is not.
    cable.give(&whole(&[1; 3000]));
    cable.give(&whole(&[2; 60]));
    rig.submit(0, &[], &[(BUFFERS, 2048)]);
    assert_eq!(rig.used(0).1, 72);
}

#[test]
fn a_driver_with_offloads_gets_them_until_it_switches_them_off() {
    let (mut rig, cable) = rig();
    rig.start(3, 0);
    assert!(cable.0.accepts.lock().unwrap().tso4);
    let command = |rig: &mut Rig, bytes: &[u8]| {
        rig.put(BUFFERS, bytes);
        rig.put(BUFFERS + 100, &[9]);
        rig.submit(2, &[(BUFFERS, 2), (BUFFERS + 2, bytes.len() as u32 - 2)], &[(BUFFERS + 100, 1)]);
        assert_eq!(rig.used(2).1, 1);
        rig.get(BUFFERS + 100, 1)[0]
    };
    let offloads = |bits: u64| [&[5, 0][..], &bits.to_le_bytes()].concat();
    assert_eq!(command(&mut rig, &offloads(spec::GUEST_CSUM)), spec::OK);
    assert_eq!(*cable.0.accepts.lock().unwrap(), Accepts { checksum: true, ..Accepts::default() });
    assert_eq!(command(&mut rig, &offloads(1 << 20)), spec::ERR);
    assert_eq!(command(&mut rig, &offloads(OFFLOADS)), spec::OK);
    assert_eq!(*cable.0.accepts.lock().unwrap(), Accepts { checksum: true, tso4: true, tso6: true, ecn: true });
    for (bytes, answer) in [
        (&[0u8, 0, 1][..], spec::OK),
        (&[1, 1, 0x52, 0x54, 0, 9, 9, 9], spec::OK),
        (&[1, 1, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff], spec::ERR),
        (&[1, 1, 1], spec::ERR),
        (&[77, 0, 0], spec::ERR),
        (&[5, 0, 1], spec::ERR),
    ] {
        assert_eq!(command(&mut rig, bytes), answer, "{bytes:?}");
    }
    assert_eq!(rig.device.read(0x100, 4).unwrap() as u32, 0x0900_5452);
    assert_eq!(command(&mut rig, &offloads(spec::GUEST_CSUM)), spec::OK);
    // A saved card comes back as it was.
    rig.device.pause();
    let saved = rig.device.save();
    let other_cable = Cable::default();
    let options = NetOptions { mac: MAC, mtu: Some(1500), offloads: true };
    let other = VirtioNet::new(Box::new(other_cable.clone()), options);
    let other = Rig::with_memory(other, Arc::clone(&rig.memory));
    other.device.load(&saved).unwrap();
    assert_eq!(*other_cable.0.accepts.lock().unwrap(), Accepts { checksum: true, ..Accepts::default() });
    assert_eq!(other.device.save(), saved);
    other.device.reset();
    assert_eq!(other.device.read(0x100, 4).unwrap() as u32, 0x0100_5452);
}

#[test]
fn a_saved_card_goes_on_with_the_same_rings() {
    let (mut rig, cable) = rig();
    rig.start(3, 0);
    rig.submit(0, &[], &[(BUFFERS, 2048)]);
    rig.submit(0, &[], &[(BUFFERS + 2048, 2048)]);
    cable.give(&whole(&[1; 60]));
    assert_eq!(rig.used(0).1, 72);
    rig.device.pause();
    let (second, second_cable) = (Cable::default(), Cable::default());
    drop(second);
    let options = NetOptions { mac: MAC, mtu: Some(1500), offloads: true };
    let mut other = Rig::with_memory(VirtioNet::new(Box::new(second_cable.clone()), options), Arc::clone(&rig.memory));
    other.take_driver(&rig);
    transfer(&*rig.device, &*other.device);
    second_cable.give(&whole(&[2; 61]));
    assert_eq!(other.used(0).1, 73);
    assert_eq!(other.get(BUFFERS + 2048 + HEADER as u64, 61), [2; 61]);
}

#[test]
fn broken_rings_stop_the_card_and_a_reset_brings_it_back() {
    let outside = RAM + RAM_LEN - 4;
    for case in 0..7u16 {
        let (mut rig, cable) = rig();
        rig.start(3, 0);
        let table = rig.queues[1].descriptors;
        match case {
            0 => drop(rig.submit(1, &[(outside, 60)], &[])),
            1 => drop(rig.submit(1, &[(BUFFERS, 4)], &[])),
            2 => {
                // A loop.
                rig.write_descriptor(table, 0, BUFFERS, 60, NEXT, 1);
                rig.write_descriptor(table, 1, BUFFERS, 60, NEXT, 0);
                rig.offer(1, 0);
            }
            3 => {
                rig.write_descriptor(table, 0, BUFFERS, u32::MAX, NEXT, 1);
                rig.write_descriptor(table, 1, BUFFERS, u32::MAX, 0, 0);
                rig.offer(1, 0);
            }
            4 => {
                // Room that is too small for a header.
                rig.submit(0, &[], &[(BUFFERS, 11)]);
                cable.give(&whole(&[1; 60]));
            }
            5 => {
                rig.submit(0, &[], &[(outside, 2048)]);
                cable.give(&whole(&[1; 60]));
            }
            _ => {
                // Nothing to write to on the receive queue.
                rig.write_descriptor(rig.queues[0].descriptors, 0, BUFFERS, 0, WRITE, 0);
                rig.offer(0, 0);
                cable.give(&whole(&[1; 60]));
            }
        }
        rig.until_needs_reset();
        rig.device.reset();
        rig.start(3, 0);
        rig.put(BUFFERS, &whole(&[5; 60]));
        rig.submit(1, &[(BUFFERS, 72)], &[]);
        rig.used(1);
        assert_eq!(cable.sent(), 1, "case {case}");
    }
}

#[test]
fn resets_while_frames_come_and_go() {
    let (mut rig, cable) = rig();
    let busy = cable.clone();
    let ended = Arc::new(std::sync::atomic::AtomicBool::new(false));
    let stop = Arc::clone(&ended);
    let feeder = std::thread::spawn(move || {
        while !stop.load(Ordering::SeqCst) {
            if busy.0.waiting.lock().unwrap().len() < 64 {
                busy.give(&large(20_000));
            }
            std::thread::yield_now();
        }
    });
    for round in 0..60u64 {
        rig.start(3, if round % 2 == 0 { 0 } else { spec::MRG_RXBUF | feature::RING_EVENT_IDX });
        for i in 0..8 {
            rig.submit(0, &[], &[(BUFFERS + i * 0x1_0000, 0x1_0000)]);
            rig.put(BUFFERS + 0x10_0000, &whole(&[1; 60]));
            rig.submit(1, &[(BUFFERS + 0x10_0000, 72)], &[]);
        }
        if round % 3 == 0 {
            rig.used(0);
        }
        rig.device.reset();
        assert_eq!(rig.status(), 0);
    }
    ended.store(true, Ordering::SeqCst);
    feeder.join().unwrap();
}

#[test]
fn the_configuration_space() {
    let (rig, _cable) = rig();
    let read = |offset: u64, size| rig.device.read(0x100 + offset, size).unwrap();
    assert_eq!([read(0, 1), read(5, 1), read(6, 2), read(8, 2), read(10, 2), read(12, 4)], [0x52, 3, 1, 0, 1500, 0]);
    assert_eq!(rig.offered() & spec::MTU, spec::MTU);
    let plain = NetOptions { mac: MAC, mtu: None, offloads: false };
    let plain = VirtioNet::new(Box::new(Cable::default()), plain);
    assert_eq!(plain.features() & (spec::MTU | spec::CSUM | OFFLOADS | spec::HOST_TSO4), 0);
    assert_eq!(NEEDS_CSUM, 1);
}
