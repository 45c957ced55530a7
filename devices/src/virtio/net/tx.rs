//! The transmit queue: frames of the driver to the back end.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use super::{Inner, spec};
use crate::net::packet::{self, HEADER, Header, MAX_FRAME};
use crate::net::wire::ETHERNET;
use crate::net::{Packet, offload};
use crate::virtio::GuestMemory;
use crate::virtio::chain::{Chain, ChainError};
use crate::virtio::device::{QueueHandler, Served};
use crate::virtio::queue::{ActiveQueue, QueueError, Used};

/// Buffers that go back to the driver at once.
const BATCH: usize = 16;

/// Serves the queue.
pub(super) struct Transmitter {
    device: Arc<Inner>,
    packet: Packet,
    chain: Chain,
    used: Vec<Used>,
}

impl Transmitter {
    pub(super) fn new(device: Arc<Inner>) -> Transmitter {
        Transmitter { device, packet: Packet::new(), chain: Chain::new(), used: Vec::with_capacity(BATCH) }
    }

    /// Reads the frame in `self.chain`; false if it is none, or asks for what was not negotiated.
    fn read(&mut self, memory: &GuestMemory) -> Result<bool, ChainError> {
        let mut from = self.chain.reader();
        let header: [u8; HEADER] = from.read_array(memory)?;
        let mut header = Header::parse(&header);
        header.flags &= packet::NEEDS_CSUM;
        let Some(len) = usize::try_from(from.left()).ok().filter(|len| (ETHERNET..=MAX_FRAME).contains(len)) else {
            return Ok(false);
        };
        self.packet.set_header(header);
        self.packet.set_len(len);
        from.read(memory, self.packet.frame_mut())?;
        Ok(self.negotiated(&header) && offload::is_sound(&header, self.packet.frame()))
    }

    fn negotiated(&self, header: &Header) -> bool {
        let segmentation = match header.gso() {
            packet::GSO_NONE => true,
            packet::GSO_TCPV4 => self.device.has(spec::HOST_TSO4),
            packet::GSO_TCPV6 => self.device.has(spec::HOST_TSO6),
            _ => false,
        };
        segmentation
            && (header.gso_type & packet::GSO_ECN == 0 || self.device.has(spec::HOST_ECN))
            && (header.flags & packet::NEEDS_CSUM == 0 || self.device.has(spec::CSUM))
    }

    fn give_back(&mut self, queue: &mut ActiveQueue<'_>) -> Result<(), QueueError> {
        queue.publish(&self.used)?;
        self.used.clear();
        queue.signal()
    }
}

impl QueueHandler for Transmitter {
    fn serve(&mut self, queue: &mut ActiveQueue<'_>) -> Result<Served, QueueError> {
        // What an error left.
        self.used.clear();
        while queue.pop(&mut self.chain)? {
            if self.read(queue.memory())? {
                self.device.backend.send(&mut self.packet);
            } else {
                self.device.counters.refused.fetch_add(1, Ordering::Relaxed);
            }
            self.used.push(Used { head: self.chain.head(), written: 0 });
            if self.used.len() >= BATCH {
                self.give_back(queue)?;
            }
        }
        if !self.used.is_empty() {
            self.give_back(queue)?;
        }
        Ok(Served::All)
    }
}
