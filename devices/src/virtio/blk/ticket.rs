//! A request on its way between the queue and the disk: its chain, and a buffer for its data.

use std::io;

use crate::disk::Disk;
use crate::virtio::chain::Chain;

/// Alignment of the buffer, for direct I/O.
const ALIGNMENT: usize = 4096;
/// Most bytes of one request that are in a buffer at once.
pub(super) const MAX_BUFFER: usize = 1 << 20;

/// What is done with the buffer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Op {
    Read,
    Write {
        /// Permanent when it is done.
        durable: bool,
    },
    Flush,
}

/// A request.
pub(super) struct Ticket {
    pub(super) chain: Chain,
    pub(super) buffer: Buffer,
    pub(super) op: Op,
    pub(super) offset: u64,
    pub(super) len: usize,
    pub(super) result: io::Result<()>,
}

/// An aligned buffer that grows to what is asked of it.
#[derive(Default)]
pub(super) struct Buffer {
    bytes: Vec<u8>,
}

impl Buffer {
    /// Its first `len` bytes, at most [`MAX_BUFFER`].
    pub(super) fn get(&mut self, len: usize) -> &mut [u8] {
        let len = len.min(MAX_BUFFER);
        if self.bytes.len() < len + ALIGNMENT {
            // Nothing of the old contents is needed.
            self.bytes = vec![0; len.next_power_of_two() + ALIGNMENT];
        }
        let address = self.bytes.as_ptr().addr();
        let start = address.next_multiple_of(ALIGNMENT) - address;
        self.bytes.get_mut(start..start + len).unwrap_or_default()
    }
}

impl Ticket {
    pub(super) fn new() -> Ticket {
        let buffer = Buffer::default();
        Ticket { chain: Chain::new(), buffer, op: Op::Flush, offset: 0, len: 0, result: Ok(()) }
    }

    /// The bytes that are read or written.
    pub(super) fn bytes(&mut self) -> &mut [u8] {
        self.buffer.get(self.len)
    }

    /// Does it, here and now.
    pub(super) fn perform(&mut self, disk: &dyn Disk) {
        let offset = self.offset;
        self.result = match self.op {
            Op::Read => disk.read(offset, self.bytes()),
            Op::Write { durable } => {
                disk.write(offset, self.bytes()).and_then(|()| if durable { disk.flush() } else { Ok(()) })
            }
            Op::Flush => disk.flush(),
        };
    }
}
