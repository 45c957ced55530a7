//! The control queue (5.1.6.5).

use std::sync::Arc;

use super::{Inner, OFFLOADS, spec};
use crate::lock;
use crate::net::wire::Mac;
use crate::virtio::GuestMemory;
use crate::virtio::chain::{Chain, ChainError, Reader};
use crate::virtio::device::{QueueHandler, Served};
use crate::virtio::queue::{ActiveQueue, QueueError};

/// Serves the queue.
pub(super) struct Control {
    device: Arc<Inner>,
    chain: Chain,
}

impl Control {
    pub(super) fn new(device: Arc<Inner>) -> Control {
        Control { device, chain: Chain::new() }
    }

    fn command(&self, memory: &GuestMemory) -> Result<bool, ChainError> {
        let mut from = self.chain.reader();
        let [class, command] = from.read_array(memory)?;
        Ok(match (class, command) {
            // Everything is received always, which the driver has to expect (5.1.6.5.1).
            (spec::CLASS_RX, 0..=5) | (spec::CLASS_MAC, spec::MAC_TABLE_SET) => true,
            (spec::CLASS_MAC, spec::MAC_ADDR_SET) => self.set_mac(memory, &mut from)?,
            (spec::CLASS_GUEST_OFFLOADS, spec::GUEST_OFFLOADS_SET) => self.set_offloads(memory, &mut from)?,
            _ => false,
        })
    }

    fn set_mac(&self, memory: &GuestMemory, from: &mut Reader<'_>) -> Result<bool, ChainError> {
        if from.left() != 6 {
            return Ok(false);
        }
        let mac = Mac(from.read_array(memory)?);
        if !mac.is_unicast() {
            return Ok(false);
        }
        *lock(&self.device.mac) = mac;
        Ok(true)
    }

    fn set_offloads(&self, memory: &GuestMemory, from: &mut Reader<'_>) -> Result<bool, ChainError> {
        if from.left() != 8 || !self.device.has(spec::CTRL_GUEST_OFFLOADS) {
            return Ok(false);
        }
        let on = u64::from_le_bytes(from.read_array(memory)?);
        // The same numbers as the features (5.1.6.5.6).
        if on & !OFFLOADS != 0 || !self.device.has_all(on) {
            return Ok(false);
        }
        self.device.switch_off(!on);
        Ok(true)
    }
}

impl QueueHandler for Control {
    fn serve(&mut self, queue: &mut ActiveQueue<'_>) -> Result<Served, QueueError> {
        while queue.pop(&mut self.chain)? {
            let answer = if self.command(queue.memory())? { spec::OK } else { spec::ERR };
            self.chain.writer().write(queue.memory(), &[answer])?;
            queue.complete(self.chain.head(), 1)?;
        }
        Ok(Served::All)
    }
}
