//! The receive queue: frames of the back end into the driver's buffers.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use super::{Inner, spec};
use crate::net::offload::{self, Segments};
use crate::net::packet::HEADER;
use crate::net::{Accepts, Packet};
use crate::virtio::chain::{Chain, ChainError};
use crate::virtio::device::{QueueHandler, Served};
use crate::virtio::queue::{ActiveQueue, QueueError, Used};

/// Most buffers for one frame.
const MOST_BUFFERS: usize = super::QUEUE_SIZE as usize;

/// Serves the queue.
pub(super) struct Receiver {
    device: Arc<Inner>,
    /// What the back end gave.
    packet: Packet,
    /// `packet` in pieces that the driver takes, while there are some left.
    segments: Option<Segments>,
    segment: Packet,
    state: State,
    first: Chain,
    more: Chain,
    used: Vec<Used>,
}

/// What is to be delivered next.
#[derive(Clone, Copy, PartialEq, Eq)]
enum State {
    Nothing,
    /// `packet` as it is.
    Packet,
    /// `segment`.
    Segment,
}

/// What became of a frame.
enum Delivery {
    /// The driver has it, or it is lost.
    Done,
    /// There are not enough buffers.
    NoRoom,
}

impl Receiver {
    pub(super) fn new(device: Arc<Inner>) -> Receiver {
        Receiver {
            device,
            packet: Packet::new(),
            segments: None,
            segment: Packet::new(),
            state: State::Nothing,
            first: Chain::new(),
            more: Chain::new(),
            used: Vec::with_capacity(MOST_BUFFERS),
        }
    }

    /// Makes the next frame ready; false if there is none.
    fn fetch(&mut self, accepts: Accepts) -> bool {
        loop {
            if let Some(segments) = &mut self.segments {
                if segments.next(&self.packet, &mut self.segment) {
                    self.state = State::Segment;
                    return true;
                }
                self.segments = None;
            }
            if !self.device.backend.receive(&mut self.packet) {
                return false;
            }
            if offload::is_accepted(&self.packet.header(), accepts) {
                self.state = State::Packet;
                return true;
            }
            self.segments = Some(Segments::new(&self.packet));
        }
    }

    fn deliver(&mut self, queue: &mut ActiveQueue<'_>) -> Result<Delivery, QueueError> {
        let packet = if self.state == State::Segment { &self.segment } else { &self.packet };
        let merge = self.device.has(spec::MRG_RXBUF);
        let mut rest = packet.whole();
        self.used.clear();
        while !rest.is_empty() {
            let is_first = self.used.is_empty();
            let chain = if is_first { &mut self.first } else { &mut self.more };
            // At most MOST_BUFFERS.
            let taken = self.used.len() as u16;
            if !queue.pop(chain)? {
                queue.put_back(taken);
                return Ok(Delivery::NoRoom);
            }
            let mut room = chain.writer();
            let len = usize::try_from(room.left()).unwrap_or(usize::MAX).min(rest.len());
            if len == 0 || (is_first && len < HEADER) {
                return Err(ChainError::Short.into());
            }
            if len < rest.len() && (!merge || self.used.len() + 1 >= MOST_BUFFERS) {
                // It will never fit: lost, as a frame that is too long for its receiver.
                queue.put_back(taken + 1);
                self.device.counters.dropped.fetch_add(1, Ordering::Relaxed);
                self.segments = None;
                return Ok(Delivery::Done);
            }
            let (now, later) = rest.split_at(len);
            room.write(queue.memory(), now)?;
            self.used.push(Used { head: chain.head(), written: len as u32 });
            rest = later;
        }
        if self.used.len() > 1 {
            let header = packet.header().bytes(self.used.len() as u16);
            self.first.writer().write(queue.memory(), &header)?;
        }
        queue.publish(&self.used)?;
        queue.signal()?;
        Ok(Delivery::Done)
    }
}

impl QueueHandler for Receiver {
    fn serve(&mut self, queue: &mut ActiveQueue<'_>) -> Result<Served, QueueError> {
        let accepts = self.device.accepts();
        loop {
            if self.state == State::Nothing && !self.fetch(accepts) {
                return Ok(Served::Waiting);
            }
            match self.deliver(queue)? {
                Delivery::Done => self.state = State::Nothing,
                Delivery::NoRoom => return Ok(Served::All),
            }
        }
    }
}
