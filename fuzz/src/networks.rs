//! Network cards, and the network behind them.

use std::collections::VecDeque;
use std::net::TcpListener;
use std::sync::{Arc, Mutex};

use devices::MmioDevice;
use devices::net::packet::{MAX_FRAME, Packet};
use devices::net::user::{UserConfig, UserNet};
use devices::net::wire::{self, Ip, Mac};
use devices::net::{Backend, Wake};
use devices::virtio::VirtioNet;
use devices::virtio::net::NetOptions;
use vm_memory::{Bytes as _, GuestAddress};

use crate::bytes::Bytes;
use crate::virtio_devices::{RAM, behind_mmio, settle, start_queue};

/// A cable that is a loop: what is sent comes back.
#[derive(Default)]
struct Loop {
    frames: Mutex<VecDeque<Vec<u8>>>,
    wake: Mutex<Option<Wake>>,
}

impl Backend for Loop {
    fn connect(&self, wake: Wake) {
        *self.wake.lock().expect("no thread panicked") = Some(wake);
    }
    fn send(&self, packet: &mut Packet) {
        assert!(packet.frame().len() <= MAX_FRAME);
        let mut frames = self.frames.lock().expect("no thread panicked");
        if frames.len() < 16 {
            frames.push_back(packet.whole().to_vec());
        }
        drop(frames);
        if let Some(wake) = &*self.wake.lock().expect("no thread panicked") {
            wake();
        }
    }
    fn receive(&self, packet: &mut Packet) -> bool {
        let Some(whole) = self.frames.lock().expect("no thread panicked").pop_front() else { return false };
        packet.whole_room()[..whole.len()].copy_from_slice(&whole);
        packet.set_whole_len(whole.len())
    }
}

/// Any descriptors and frames to a card whose cable is a loop.
pub fn virtio_net(data: &[u8]) {
    let options = NetOptions { mac: Mac([2; 6]), mtu: Some(1500), offloads: true };
    let (memory, device) = behind_mmio(Arc::new(VirtioNet::new(Box::new(Loop::default()), options)));
    let mut bytes = Bytes(data);
    let without = bytes.u32().unwrap_or(0);
    start_queue(&*device, 3, without & 0x00ff_ffff);
    for queue in 0..3u64 {
        for index in 0..16u64 {
            let (Some(kind), Some(at), Some(len)) = (bytes.u8(), bytes.u16(), bytes.u16()) else { break };
            let address = if kind & 0xf0 == 0xf0 { u64::from(at) << 48 } else { RAM + 0x2_0000 + u64::from(at) };
            let len = if kind & 8 != 0 { u32::from(len) } else { u32::from(len & 0x7f) };
            // Mostly to be read on the transmit queue, to be written on the receive queue.
            let flags = u64::from(kind & 7 ^ if queue == 0 { 2 } else { 0 });
            let place = RAM + queue * 0x4000 + index * 16;
            memory.write_obj(address, GuestAddress(place)).expect("in RAM");
            let low = u64::from(len) | flags << 32 | ((index + 1) % 16) << 48;
            memory.write_obj(low, GuestAddress(place + 8)).expect("in RAM");
        }
    }
    let mut offered = [0u16; 3];
    while let (Some(head), Some(word)) = (bytes.u8(), bytes.u64()) {
        let queue = usize::from(head >> 5) % 3;
        memory.write_obj(word, GuestAddress(RAM + 0x2_0000 + u64::from(head) * 8)).expect("in RAM");
        let ring = RAM + queue as u64 * 0x4000 + 0x1000;
        let place = ring + 4 + u64::from(offered[queue] % 16) * 2;
        memory.write_obj(u16::from(head % 18), GuestAddress(place)).expect("in RAM");
        offered[queue] = offered[queue].wrapping_add(1);
        memory.write_obj(offered[queue], GuestAddress(ring + 2)).expect("in RAM");
        device.write(0x50, 4, queue as u64).expect("a register");
    }
    settle(&device);
    let saved = device.save();
    device.load(&saved).expect("what was saved can be loaded");
    device.resume();
    device.reset();
}

/// Whether a frame stays on this host: everything else is not for a fuzzer to send.
fn stays_here(frame: &[u8], port: u16) -> bool {
    let Some((kind, at)) = wire::ethertype(frame) else { return true };
    let Some(ip) = frame.get(at..).and_then(|bytes| Ip::parse(kind, bytes)) else { return true };
    let gateway = ip.destination == std::net::IpAddr::from([10, 0, 2, 2]);
    let ours = wire::be16(ip.payload, 2) == Some(port);
    let local = ip.destination.is_multicast() || ip.destination == std::net::IpAddr::from([10, 0, 2, 255]);
    ip.fragment.is_none() && (local || (gateway && (ours || ip.protocol == wire::protocol::ICMP)))
}

/// Any frames of a guest to the user network; connections go to a listener of this process.
pub fn nat(data: &[u8]) {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let port = listener.local_addr().expect("an address").port();
    let mut config = UserConfig::new(Mac([0x52, 0x54, 0, 0x12, 0x34, 0x56]));
    config.allow_host = true;
    let net = UserNet::new(config).expect("a network");
    let (mut packet, mut out) = (Packet::new(), Packet::new());
    let mut rest = data;
    while let Some((&kind, after)) = rest.split_first() {
        let (frame, after) = after.split_at(after.len().min(usize::from(kind & 0x7f) + 14));
        rest = after;
        let mut frame = frame.to_vec();
        frame.resize(frame.len().max(60), 0);
        wire::put(&mut frame, 0, &[0x52, 0x55, 10, 0, 2, 2, 0x52, 0x54, 0, 0x12, 0x34, 0x56]);
        match kind >> 7 {
            0 => drop(wire::put(&mut frame, 12, &[8, [0, 6, 0, 0][usize::from(kind & 3)]])),
            _ => {
                // A whole IPv4 header, so that the fuzzer need not find checksums.
                let len = (frame.len() - 14) as u16;
                let protocol = [6u8, 6, 17, 1][usize::from(kind & 3)];
                wire::put(&mut frame, 12, &[8, 0, 0x45, 0]);
                wire::put(&mut frame, 16, &len.to_be_bytes());
                wire::put(&mut frame, 20, &[0, 0, 64, protocol, 0, 0, 10, 0, 2, 15, 10, 0, 2, 2]);
                wire::put(&mut frame, 36, &port.to_be_bytes());
                let sum = devices::net::offload::checksum(&frame[14..34], 0);
                wire::put(&mut frame, 24, &sum.to_be_bytes());
            }
        }
        if stays_here(&frame, port) {
            packet.copy_from(&frame);
            let mut header = packet.header();
            header.flags = kind >> 7;
            packet.set_header(header);
            net.send(&mut packet);
        }
        for _ in 0..4 {
            if !net.receive(&mut out) {
                break;
            }
            assert!((14..=MAX_FRAME).contains(&out.frame().len()));
            assert!(devices::net::offload::is_sound(&out.header(), out.frame()));
        }
    }
}

/// Any message to the DHCP server.
pub fn dhcp(data: &[u8]) {
    devices::net::user::dhcp::fuzz(data);
}
