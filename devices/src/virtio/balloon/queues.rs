//! The balloon's queues.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use super::statistics::LONGEST;
use super::{Inner, PAGE, REPORTING, STATS_VQ};
use crate::lock;
use crate::virtio::chain::{Chain, ChainError};
use crate::virtio::device::{QueueHandler, Served};
use crate::virtio::queue::{ActiveQueue, QueueError};

/// Most page numbers in one request; Linux sends 256.
const MOST_PAGES: u64 = 16 << 10;
/// Page numbers that are read at once.
const PIECE: usize = 1024;

/// What a queue is for.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Role {
    Inflate,
    Deflate,
    Statistics,
    Report,
    Nothing,
}

pub(super) struct Handler {
    device: Arc<Inner>,
    index: u16,
    chain: Chain,
    buffer: Vec<u8>,
    /// The buffer that the driver gets back when it is to give new statistics.
    held: Option<u16>,
}

impl Handler {
    pub(super) fn new(device: Arc<Inner>, index: u16) -> Handler {
        Handler { device, index, chain: Chain::new(), buffer: vec![0; PIECE * 4], held: None }
    }

    fn role(&self) -> Role {
        match self.index {
            0 => Role::Inflate,
            1 => Role::Deflate,
            2 if self.device.has(STATS_VQ) => Role::Statistics,
            _ if self.device.has(REPORTING) => Role::Report,
            _ => Role::Nothing,
        }
    }

    /// Runs of pages that a request names go to `each`: first address and length.
    fn pages(&mut self, queue: &ActiveQueue<'_>, mut each: impl FnMut(&Inner, u64, u64)) -> Result<(), ChainError> {
        let mut from = self.chain.reader();
        if from.left() > MOST_PAGES * 4 {
            return Err(ChainError::Long { head: self.chain.head() });
        }
        let (mut start, mut len) = (0u64, 0u64);
        while from.left() >= 4 {
            let bytes = usize::try_from(from.left()).unwrap_or(usize::MAX).min(self.buffer.len()) & !3;
            let piece = self.buffer.get_mut(..bytes).unwrap_or_default();
            from.read(queue.memory(), piece)?;
            for number in piece.chunks_exact(4) {
                let page = number.first_chunk().map_or(0, |number| u64::from(u32::from_le_bytes(*number))) * PAGE;
                if len != 0 && page == start + len {
                    len += PAGE;
                } else if len != 0 && page + PAGE == start {
                    // Linux takes pages from the top down.
                    (start, len) = (page, len + PAGE);
                } else {
                    if len != 0 {
                        each(&self.device, start, len);
                    }
                    (start, len) = (page, PAGE);
                }
            }
        }
        if len != 0 {
            each(&self.device, start, len);
        }
        Ok(())
    }

    fn inflate(&mut self, queue: &ActiveQueue<'_>) -> Result<(), ChainError> {
        self.pages(queue, |device, start, len| {
            let counter = if device.memory.reclaim(start, len) {
                (&device.counters.inflated, len)
            } else {
                (&device.counters.refused, 1)
            };
            counter.0.fetch_add(counter.1, Ordering::Relaxed);
        })
    }

    fn deflate(&mut self, queue: &ActiveQueue<'_>) -> Result<(), ChainError> {
        // The host gives pages again when they are touched.
        self.pages(queue, |device, _, len| {
            device.counters.deflated.fetch_add(len, Ordering::Relaxed);
        })
    }

    fn report(&self) {
        for (start, len) in self.chain.writable_buffers() {
            let counter = if self.device.memory.reclaim(start, len.into()) {
                (&self.device.counters.reported, u64::from(len))
            } else {
                (&self.device.counters.refused, 1)
            };
            counter.0.fetch_add(counter.1, Ordering::Relaxed);
        }
    }

    /// Takes the driver's statistics and keeps its buffer until new ones are wanted.
    fn statistics(&mut self, queue: &mut ActiveQueue<'_>) -> Result<(), QueueError> {
        // One is enough; a driver that gives more gets them back.
        if let Some(head) = self.held.take() {
            queue.complete(head, 0)?;
        }
        let mut from = self.chain.reader();
        let len = usize::try_from(from.left()).unwrap_or(LONGEST).min(LONGEST);
        let message = self.buffer.get_mut(..len).unwrap_or_default();
        from.read(queue.memory(), message)?;
        lock(&self.device.statistics).take(message);
        self.device.heard.notify_all();
        self.held = Some(self.chain.head());
        Ok(())
    }
}

impl QueueHandler for Handler {
    fn serve(&mut self, queue: &mut ActiveQueue<'_>) -> Result<Served, QueueError> {
        let role = self.role();
        if role == Role::Statistics
            && self.device.asked.swap(false, Ordering::SeqCst)
            && let Some(head) = self.held.take()
        {
            queue.complete(head, 0)?;
        }
        while queue.pop(&mut self.chain)? {
            match role {
                Role::Inflate => self.inflate(queue)?,
                Role::Deflate => self.deflate(queue)?,
                Role::Report => self.report(),
                Role::Statistics => {
                    self.statistics(queue)?;
                    continue;
                }
                Role::Nothing => {}
            }
            queue.complete(self.chain.head(), 0)?;
        }
        Ok(Served::All)
    }

    fn forget(&mut self) {
        self.held = None;
    }

    fn give_up(&mut self, queue: &mut ActiveQueue<'_>) -> Result<(), QueueError> {
        // The driver takes it for a question, and answers where the machine goes on.
        self.held.take().map_or(Ok(()), |head| queue.complete(head, 0))
    }
}
