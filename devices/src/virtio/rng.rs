//! virtio-rng (VIRTIO 1.2 section 5.4): bytes of the host's random generator.

use super::chain::Chain;
use super::device::{QueueHandler, Served, VirtioDevice};
use super::queue::{ActiveQueue, QueueError};
use super::spec;

/// Most bytes for one request; a driver that wants more asks again (5.4.6.2: a device may fill less).
const MAX_BYTES: usize = 4096;

/// The device.
#[derive(Default)]
pub struct VirtioRng;

impl VirtioRng {
    /// A source of entropy.
    pub fn new() -> VirtioRng {
        VirtioRng
    }
}

struct Handler {
    chain: Chain,
    buffer: Vec<u8>,
}

impl VirtioDevice for VirtioRng {
    fn device_type(&self) -> u32 {
        spec::device_type::ENTROPY
    }
    fn type_name(&self) -> &'static str {
        "virtio-rng"
    }
    fn features(&self) -> u64 {
        0
    }
    fn queue_sizes(&self) -> Vec<u16> {
        vec![64]
    }
    fn handler(&self, _index: u16) -> Box<dyn QueueHandler> {
        Box::new(Handler { chain: Chain::new(), buffer: vec![0; MAX_BYTES] })
    }
    fn read_config(&self, _offset: u64, _data: &mut [u8]) {}
}

impl QueueHandler for Handler {
    fn serve(&mut self, queue: &mut ActiveQueue<'_>) -> Result<Served, QueueError> {
        while queue.pop(&mut self.chain)? {
            let mut room = self.chain.writer();
            let len = usize::try_from(room.left()).unwrap_or(MAX_BYTES).min(MAX_BYTES);
            let bytes = self.buffer.get_mut(..len).unwrap_or_default();
            let filled = fill_random(bytes);
            room.write(queue.memory(), bytes.get(..filled).unwrap_or_default())?;
            // At most MAX_BYTES.
            queue.complete(self.chain.head(), filled as u32)?;
        }
        Ok(Served::All)
    }
}

/// Fills `bytes` from the front; the answer is how many, which is less only if the host has no random generator.
fn fill_random(bytes: &mut [u8]) -> usize {
    let mut filled = 0;
    while let Some(rest) = bytes.get_mut(filled..).filter(|rest| !rest.is_empty()) {
        match rustix::rand::getrandom(rest, rustix::rand::GetRandomFlags::empty()) {
            Ok(0) => break,
            Ok(count) => filled += count,
            Err(rustix::io::Errno::INTR) => {}
            Err(_) => break,
        }
    }
    filled
}

#[cfg(test)]
mod tests;
