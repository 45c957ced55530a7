//! The control queues (5.3.6.2): which ports there are, what they are called, who is there.

use std::collections::VecDeque;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::{CONTROL_RX, Inner, MAX_NAME, MAX_PORTS};
use crate::lock;
use crate::virtio::GuestMemory;
use crate::virtio::chain::{Chain, ChainError};
use crate::virtio::device::{QueueHandler, Served};
use crate::virtio::queue::{ActiveQueue, QueueError};

const DEVICE_READY: u16 = 0;
const DEVICE_ADD: u16 = 1;
const PORT_READY: u16 = 3;
const CONSOLE_PORT: u16 = 4;
const PORT_OPEN: u16 = 6;
const PORT_NAME: u16 = 7;
/// Length of a message without a name.
const MESSAGE: usize = 8;

/// A message to the driver.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Message {
    port: u32,
    event: u16,
    value: u16,
}

/// What the driver is to be told, and what it is known to know.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Messages {
    waiting: VecDeque<Message>,
    /// Ports that the driver has said to be ready for, a bit each.
    ready: u32,
}

impl Messages {
    /// Of each kind about each port one is enough: the newest.
    fn add(&mut self, message: Message) {
        self.waiting.retain(|one| (one.port, one.event) != (message.port, message.event));
        self.waiting.push_back(message);
    }

    /// Somebody came to a port's other end, or went.
    pub(super) fn port_open(&mut self, port: usize, open: bool) {
        if port < MAX_PORTS && self.ready >> port & 1 != 0 {
            self.add(Message { port: port as u32, event: PORT_OPEN, value: open.into() });
        }
    }

    /// Whether it is about `ports` ports only.
    pub(super) fn is_sound(&self, ports: usize) -> bool {
        let known = |one: &Message| (one.port as usize) < ports && one.event <= PORT_NAME;
        self.waiting.iter().all(known) && self.waiting.len() <= 4 * MAX_PORTS && self.ready >> ports.min(31) == 0
    }
}

/// Messages to the driver.
pub(super) struct ToDriver {
    device: Arc<Inner>,
    chain: Chain,
}

impl ToDriver {
    pub(super) fn new(device: Arc<Inner>) -> ToDriver {
        ToDriver { device, chain: Chain::new() }
    }
}

impl QueueHandler for ToDriver {
    fn serve(&mut self, queue: &mut ActiveQueue<'_>) -> Result<Served, QueueError> {
        loop {
            let Some(message) = lock(&self.device.messages).waiting.front().copied() else {
                return Ok(Served::Waiting);
            };
            if !queue.pop(&mut self.chain)? {
                return Ok(Served::All);
            }
            let mut bytes = Vec::with_capacity(MESSAGE + MAX_NAME);
            bytes.extend(message.port.to_le_bytes());
            bytes.extend(message.event.to_le_bytes());
            bytes.extend(message.value.to_le_bytes());
            if let (PORT_NAME, Some(port)) = (message.event, self.device.ports.get(message.port as usize)) {
                bytes.extend(port.name.as_bytes());
            }
            let mut room = self.chain.writer();
            if room.left() < bytes.len() as u64 {
                return Err(ChainError::Short.into());
            }
            room.write(queue.memory(), &bytes)?;
            queue.complete(self.chain.head(), bytes.len() as u32)?;
            let mut messages = lock(&self.device.messages);
            // A newer one may have taken its place meanwhile.
            if messages.waiting.front() == Some(&message) {
                messages.waiting.pop_front();
            }
        }
    }
}

/// Messages of the driver.
pub(super) struct FromDriver {
    device: Arc<Inner>,
    chain: Chain,
}

impl FromDriver {
    pub(super) fn new(device: Arc<Inner>) -> FromDriver {
        FromDriver { device, chain: Chain::new() }
    }

    fn take(&self, memory: &GuestMemory) -> Result<(), ChainError> {
        let [p0, p1, p2, p3, e0, e1, v0, v1]: [u8; MESSAGE] = self.chain.reader().read_array(memory)?;
        let (port, event) = (u32::from_le_bytes([p0, p1, p2, p3]), u16::from_le_bytes([e0, e1]));
        let value = u16::from_le_bytes([v0, v1]);
        if value != 1 || !self.device.is_multiport() {
            // What a driver could not do or has closed changes nothing here.
            return Ok(());
        }
        let index = port as usize;
        match (event, self.device.ports.get(index)) {
            (DEVICE_READY, _) => self.device.tell(|messages| {
                for port in 0..self.device.ports.len() as u32 {
                    messages.add(Message { port, event: DEVICE_ADD, value: 1 });
                }
            }),
            (PORT_READY, Some(known)) => self.device.tell(|messages| {
                messages.ready |= 1 << index;
                if known.is_console() {
                    messages.add(Message { port, event: CONSOLE_PORT, value: 1 });
                }
                messages.add(Message { port, event: PORT_NAME, value: 1 });
                messages.port_open(index, known.is_open());
            }),
            _ => {}
        }
        Ok(())
    }
}

impl QueueHandler for FromDriver {
    fn serve(&mut self, queue: &mut ActiveQueue<'_>) -> Result<Served, QueueError> {
        while queue.pop(&mut self.chain)? {
            self.take(queue.memory())?;
            queue.complete(self.chain.head(), 0)?;
        }
        self.device.ring(CONTROL_RX);
        Ok(Served::All)
    }
}
