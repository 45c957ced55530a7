//! The three queues: packets to the driver, packets of the driver, events.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use super::packet::{HEADER, Header, op};
use super::{Inner, LONGEST_PACKET, RX};
use crate::lock;
use crate::virtio::chain::{Chain, ChainError};
use crate::virtio::device::{QueueHandler, Served};
use crate::virtio::queue::{ActiveQueue, QueueError};

/// `VIRTIO_VSOCK_EVENT_TRANSPORT_RESET`: all connections are gone.
const TRANSPORT_RESET: u32 = 0;

/// Packets to the driver.
pub(super) struct ToDriver {
    device: Arc<Inner>,
    chain: Chain,
    buffer: Vec<u8>,
}

impl ToDriver {
    pub(super) fn new(device: Arc<Inner>) -> ToDriver {
        ToDriver { device, chain: Chain::new(), buffer: vec![0; LONGEST_PACKET] }
    }
}

impl QueueHandler for ToDriver {
    fn serve(&mut self, queue: &mut ActiveQueue<'_>) -> Result<Served, QueueError> {
        loop {
            if !lock(&self.device.hub).has_packets() {
                return Ok(Served::Waiting);
            }
            if !queue.pop(&mut self.chain)? {
                return Ok(Served::All);
            }
            let mut room = self.chain.writer();
            let data = room.left().checked_sub(HEADER as u64).ok_or(ChainError::Short)?;
            let data = usize::try_from(data).unwrap_or(LONGEST_PACKET).min(LONGEST_PACKET);
            let buffer = self.buffer.get_mut(..data).unwrap_or_default();
            let Some(header) = lock(&self.device.hub).next_packet(buffer, &self.device.poller) else {
                queue.put_back(1);
                return Ok(Served::Waiting);
            };
            room.write(queue.memory(), &header.bytes())?;
            room.write(queue.memory(), buffer.get(..header.len as usize).unwrap_or_default())?;
            queue.complete(self.chain.head(), HEADER as u32 + header.len)?;
        }
    }
}

/// Packets of the driver.
pub(super) struct FromDriver {
    device: Arc<Inner>,
    chain: Chain,
    buffer: Vec<u8>,
}

impl FromDriver {
    pub(super) fn new(device: Arc<Inner>) -> FromDriver {
        FromDriver { device, chain: Chain::new(), buffer: vec![0; LONGEST_PACKET] }
    }
}

impl QueueHandler for FromDriver {
    fn serve(&mut self, queue: &mut ActiveQueue<'_>) -> Result<Served, QueueError> {
        while queue.pop(&mut self.chain)? {
            let mut from = self.chain.reader();
            let mut header = Header::read(&from.read_array(queue.memory())?);
            let len = header.len as usize;
            if len > LONGEST_PACKET || u64::from(header.len) > from.left() {
                // Its connection is reset.
                (header.op, header.len) = (op::INVALID, 0);
            }
            let data = self.buffer.get_mut(..header.len as usize).unwrap_or_default();
            from.read(queue.memory(), data)?;
            let mut hub = lock(&self.device.hub);
            hub.receive(&header, data, &self.device.poller);
            let answers = hub.has_packets();
            drop(hub);
            if answers {
                self.device.ring(RX);
            }
            queue.complete(self.chain.head(), 0)?;
        }
        Ok(Served::All)
    }
}

/// What the driver is to know beside packets.
pub(super) struct Events {
    device: Arc<Inner>,
    chain: Chain,
}

impl Events {
    pub(super) fn new(device: Arc<Inner>) -> Events {
        Events { device, chain: Chain::new() }
    }
}

impl QueueHandler for Events {
    fn serve(&mut self, queue: &mut ActiveQueue<'_>) -> Result<Served, QueueError> {
        if !self.device.was_moved.load(Ordering::SeqCst) {
            return Ok(Served::Waiting);
        }
        if queue.pop(&mut self.chain)? {
            self.chain.writer().write(queue.memory(), &TRANSPORT_RESET.to_le_bytes())?;
            queue.complete(self.chain.head(), 4)?;
            self.device.was_moved.store(false, Ordering::SeqCst);
        }
        Ok(Served::All)
    }
}
