//! The data queues of a port.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use rustix::io::Errno;
use rustix::net::{RecvFlags, SendFlags, recv, send};

use super::Inner;
use super::port::Port;
use crate::virtio::chain::Chain;
use crate::virtio::device::{QueueHandler, Served};
use crate::virtio::queue::{ActiveQueue, QueueError};

/// Bytes that go between guest RAM and a socket at once.
const PIECE: usize = 16 << 10;

/// From the peer to the driver.
pub(super) struct ToDriver {
    device: Arc<Inner>,
    port: usize,
    chain: Chain,
    buffer: Vec<u8>,
}

impl ToDriver {
    pub(super) fn new(device: Arc<Inner>, port: usize) -> ToDriver {
        ToDriver { device, port, chain: Chain::new(), buffer: vec![0; PIECE] }
    }
}

impl QueueHandler for ToDriver {
    fn serve(&mut self, queue: &mut ActiveQueue<'_>) -> Result<Served, QueueError> {
        let device = &*self.device;
        let Some(port) = device.ports.get(self.port) else { return Ok(Served::All) };
        loop {
            let Some(peer) = port.peer() else { return Ok(Served::Waiting) };
            if !queue.pop(&mut self.chain)? {
                return Ok(Served::All);
            }
            let mut room = self.chain.writer();
            let len = usize::try_from(room.left()).unwrap_or(PIECE).min(PIECE);
            if len == 0 {
                queue.complete(self.chain.head(), 0)?;
                continue;
            }
            let bytes = self.buffer.get_mut(..len).unwrap_or_default();
            match recv(&*peer, &mut *bytes, RecvFlags::DONTWAIT) {
                Ok((_, count @ 1..)) => {
                    room.write(queue.memory(), bytes.get(..count).unwrap_or_default())?;
                    // At most PIECE.
                    queue.complete(self.chain.head(), count as u32)?;
                }
                Err(Errno::AGAIN | Errno::INTR) => {
                    queue.put_back(1);
                    port.wait(&peer, &device.poller, false);
                    return Ok(Served::Waiting);
                }
                _ => {
                    queue.put_back(1);
                    gone(device, port, self.port, &peer);
                }
            }
        }
    }
}

/// The peer has closed its end.
fn gone(device: &Inner, port: &Port, index: usize, peer: &Arc<std::os::fd::OwnedFd>) {
    if port.lose(peer, &device.poller) {
        device.tell_connected(index);
    }
}

/// From the driver to the peer.
pub(super) struct FromDriver {
    device: Arc<Inner>,
    port: usize,
    chain: Chain,
    buffer: Vec<u8>,
    /// Bytes of the next request that the peer has already, and the reset since which.
    done: (u64, u64),
}

/// What became of a request.
enum Outcome {
    Sent,
    /// The peer took only this many bytes for now.
    Full(u64),
}

impl FromDriver {
    pub(super) fn new(device: Arc<Inner>, port: usize) -> FromDriver {
        FromDriver { device, port, chain: Chain::new(), buffer: vec![0; PIECE], done: (0, 0) }
    }

    /// Sends the request from byte `skip` on.
    fn send(&mut self, queue: &ActiveQueue<'_>, port: &Port, skip: u64) -> Result<Outcome, QueueError> {
        let mut from = self.chain.reader();
        let mut at = 0;
        while from.left() > 0 {
            let behind = skip.saturating_sub(at);
            let want = if behind > 0 { behind.min(from.left()) } else { from.left() };
            let len = usize::try_from(want).unwrap_or(PIECE).min(PIECE);
            let bytes = self.buffer.get_mut(..len).unwrap_or_default();
            from.read(queue.memory(), bytes)?;
            let start = at;
            at += len as u64;
            if behind > 0 {
                continue;
            }
            let Some(peer) = port.peer() else { return Ok(Outcome::Sent) };
            match send(&*peer, bytes, SendFlags::NOSIGNAL | SendFlags::DONTWAIT) {
                Ok(count) if count == len => {}
                Ok(count) => return Ok(Outcome::Full(start + count as u64)),
                Err(Errno::AGAIN | Errno::INTR) => return Ok(Outcome::Full(start)),
                Err(_) => {
                    gone(&self.device, port, self.port, &peer);
                    return Ok(Outcome::Sent);
                }
            }
        }
        Ok(Outcome::Sent)
    }
}

impl QueueHandler for FromDriver {
    fn serve(&mut self, queue: &mut ActiveQueue<'_>) -> Result<Served, QueueError> {
        let device = Arc::clone(&self.device);
        let Some(port) = device.ports.get(self.port) else { return Ok(Served::All) };
        let generation = device.generation.load(Ordering::SeqCst);
        if self.done.1 != generation {
            self.done = (0, generation);
        }
        while queue.pop(&mut self.chain)? {
            match self.send(queue, port, self.done.0)? {
                Outcome::Sent => {
                    self.done.0 = 0;
                    queue.complete(self.chain.head(), 0)?;
                }
                Outcome::Full(done) => {
                    self.done.0 = done;
                    queue.put_back(1);
                    if let Some(peer) = port.peer() {
                        port.wait(&peer, &device.poller, true);
                    }
                    return Ok(Served::Waiting);
                }
            }
        }
        Ok(Served::All)
    }
}
