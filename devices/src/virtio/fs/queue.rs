//! The queues: whole requests out of the rings, answers into them.

use std::sync::Arc;

use super::abi::{IN_HEADER, MOST_DATA, OUT_HEADER};
use super::server::{Outcome, Server, header};
use crate::virtio::chain::{Chain, ChainError};
use crate::virtio::device::{QueueHandler, Served};
use crate::virtio::queue::{ActiveQueue, QueueError};

/// What a request has beside its data, at most: arguments and two names.
const MOST_ARGUMENTS: usize = 8192;

pub(super) struct Handler {
    server: Arc<Server>,
    chain: Chain,
    request: Vec<u8>,
    answer: Vec<u8>,
}

impl Handler {
    pub(super) fn new(server: Arc<Server>) -> Handler {
        Handler {
            server,
            chain: Chain::new(),
            request: vec![0; IN_HEADER + MOST_ARGUMENTS + MOST_DATA],
            answer: vec![0; MOST_DATA + MOST_ARGUMENTS],
        }
    }

    fn one(&mut self, queue: &mut ActiveQueue<'_>) -> Result<(), QueueError> {
        let (head, mut from, mut to) = (self.chain.head(), self.chain.reader(), self.chain.writer());
        let len = usize::try_from(from.left()).unwrap_or(usize::MAX);
        if len < IN_HEADER {
            return Err(ChainError::Short.into());
        }
        let request = self.request.get_mut(..len).ok_or(ChainError::Long { head })?;
        from.read(queue.memory(), request)?;
        let room = usize::try_from(to.left()).unwrap_or(usize::MAX).saturating_sub(OUT_HEADER);
        let (unique, outcome) = self.server.serve(request, &mut self.answer, room);
        let data = match outcome {
            Outcome::Silence => return queue.complete(head, 0),
            Outcome::Bytes(len) => self.answer.get(..len).unwrap_or_default(),
            Outcome::Error(_) => &[],
        };
        to.write(queue.memory(), &header(unique, &outcome))?;
        to.write(queue.memory(), data)?;
        // At most the length of the buffer.
        queue.complete(head, (OUT_HEADER + data.len()) as u32)
    }
}

impl QueueHandler for Handler {
    fn serve(&mut self, queue: &mut ActiveQueue<'_>) -> Result<Served, QueueError> {
        while queue.pop(&mut self.chain)? {
            self.one(queue)?;
        }
        Ok(Served::All)
    }
}
