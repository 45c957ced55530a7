//! One request: a chain of descriptors, checked, as bytes to read and room to write.
//!
//! A [`Chain`] is made once for each handler and filled again for each request, so that the hot path allocates nothing.

use virtio_queue::DescriptorChain;
use vm_memory::{Address, Bytes, GuestAddress};

use super::GuestMemory;

/// Most descriptors in one chain. Linux puts as many as the queue is long, the greatest of which has 1024, and some.
const MAX_SEGMENTS: usize = 1100;

/// Why a chain is none. The device can only be reset then: what the driver means is unknown.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ChainError {
    /// The chain does not end: a loop, an index beyond the table, a table outside of RAM or inside of another one, or
    /// more than 4 GiB of buffers.
    #[error("Descriptor chain {head} leads to no end")]
    Broken {
        /// Its first descriptor.
        head: u16,
    },
    /// A device-readable descriptor after a device-writable one.
    #[error("Descriptor chain {head} has a readable buffer after a writable one")]
    Order {
        /// Its first descriptor.
        head: u16,
    },
    /// More descriptors than any driver needs.
    #[error("Descriptor chain {head} has more than {MAX_SEGMENTS} buffers")]
    Long {
        /// Its first descriptor.
        head: u16,
    },
    /// A buffer is not in RAM.
    #[error("Buffer of {len} bytes at {address:#x} is not in RAM")]
    Memory {
        /// Guest physical address.
        address: u64,
        /// Bytes.
        len: usize,
    },
    /// The request needs more bytes than the chain has.
    #[error("Request is shorter than its header or has no room for its answer")]
    Short,
}

#[derive(Debug, Clone, Copy)]
struct Segment {
    address: GuestAddress,
    len: u32,
}

/// A request.
#[derive(Debug, Default)]
pub struct Chain {
    head: u16,
    readable: Vec<Segment>,
    writable: Vec<Segment>,
}

impl Chain {
    /// Room for one request.
    pub fn new() -> Chain {
        Chain { head: 0, readable: Vec::with_capacity(64), writable: Vec::with_capacity(64) }
    }

    /// Index of the first descriptor: names the request to the driver.
    pub fn head(&self) -> u16 {
        self.head
    }

    /// What the driver gives.
    pub fn reader(&self) -> Reader<'_> {
        Reader(Cursor::new(&self.readable))
    }

    /// Room for what the device gives.
    pub fn writer(&self) -> Writer<'_> {
        Writer(Cursor::new(&self.writable))
    }

    /// The buffers for what the device gives, as guest physical address and length; they may lie anywhere.
    pub fn writable_buffers(&self) -> impl Iterator<Item = (u64, u32)> {
        self.writable.iter().map(|segment| (segment.address.raw_value(), segment.len))
    }

    /// Takes over the descriptors of `from`.
    pub(super) fn fill(&mut self, from: DescriptorChain<&GuestMemory>) -> Result<(), ChainError> {
        self.head = from.head_index();
        self.readable.clear();
        self.writable.clear();
        let head = self.head;
        // The iterator ends at an error as at the end: the difference is that the last descriptor names a next one.
        let mut ended = false;
        for descriptor in from {
            if self.readable.len() + self.writable.len() >= MAX_SEGMENTS {
                return Err(ChainError::Long { head });
            }
            let segment = Segment { address: descriptor.addr(), len: descriptor.len() };
            if descriptor.is_write_only() {
                self.writable.push(segment);
            } else if self.writable.is_empty() {
                self.readable.push(segment);
            } else {
                return Err(ChainError::Order { head });
            }
            ended = !descriptor.has_next();
        }
        if ended { Ok(()) } else { Err(ChainError::Broken { head }) }
    }
}

/// A place in a list of buffers, and how many bytes from there on count.
#[derive(Debug, Clone)]
struct Cursor<'a> {
    segments: &'a [Segment],
    /// Bytes of the first segment that are behind.
    skip: u32,
    left: u64,
}

impl<'a> Cursor<'a> {
    fn new(segments: &'a [Segment]) -> Cursor<'a> {
        Cursor { segments, skip: 0, left: segments.iter().map(|s| u64::from(s.len)).sum() }
    }

    /// The next piece that is in one buffer, of at most `max` bytes; `None` at the end.
    fn piece(&mut self, max: usize) -> Result<Option<(GuestAddress, usize)>, ChainError> {
        while let Some((first, rest)) = self.segments.split_first() {
            let here = u64::from(first.len.saturating_sub(self.skip)).min(self.left);
            let len = usize::try_from(here).unwrap_or(usize::MAX).min(max);
            if here == 0 {
                self.segments = rest;
                self.skip = 0;
                continue;
            }
            if len == 0 {
                return Ok(None);
            }
            let address = first
                .address
                .checked_add(u64::from(self.skip))
                .ok_or(ChainError::Memory { address: first.address.raw_value(), len })?;
            // `len` is at most `first.len - skip`.
            self.skip += len as u32;
            self.left -= len as u64;
            return Ok(Some((address, len)));
        }
        Ok(None)
    }

    /// Goes over `len` bytes and gives each piece, and where it is within them, to `each`.
    fn advance(
        &mut self,
        len: usize,
        mut each: impl FnMut(GuestAddress, std::ops::Range<usize>) -> Result<(), ChainError>,
    ) -> Result<(), ChainError> {
        let mut done = 0;
        while done < len {
            let (address, piece) = self.piece(len - done)?.ok_or(ChainError::Short)?;
            each(address, done..done + piece)?;
            done += piece;
        }
        Ok(())
    }

    /// Splits off the last `len` bytes.
    fn split_last(&mut self, len: u64) -> Option<Cursor<'a>> {
        let front = self.left.checked_sub(len)?;
        let mut last = self.clone();
        let mut ahead = front;
        while ahead > 0 {
            let step = usize::try_from(ahead).unwrap_or(usize::MAX);
            ahead -= last.piece(step).ok()??.1 as u64;
        }
        self.left = front;
        Some(last)
    }
}

fn outside(address: GuestAddress, len: usize) -> ChainError {
    ChainError::Memory { address: address.raw_value(), len }
}

/// The bytes that the driver gives, from a place on.
#[derive(Debug, Clone)]
pub struct Reader<'a>(Cursor<'a>);

impl Reader<'_> {
    /// Bytes left.
    pub fn left(&self) -> u64 {
        self.0.left
    }

    /// Fills all of `out`.
    pub fn read(&mut self, memory: &GuestMemory, out: &mut [u8]) -> Result<(), ChainError> {
        self.0.advance(out.len(), |address, range| {
            let piece = out.get_mut(range).unwrap_or_default();
            memory.read_slice(piece, address).map_err(|_| outside(address, piece.len()))
        })
    }

    /// The next `N` bytes.
    pub fn read_array<const N: usize>(&mut self, memory: &GuestMemory) -> Result<[u8; N], ChainError> {
        let mut bytes = [0; N];
        self.read(memory, &mut bytes)?;
        Ok(bytes)
    }
}

/// Room for what the device gives, from a place on.
#[derive(Debug, Clone)]
pub struct Writer<'a>(Cursor<'a>);

impl<'a> Writer<'a> {
    /// Bytes of room left.
    pub fn left(&self) -> u64 {
        self.0.left
    }

    /// Writes all of `data`.
    pub fn write(&mut self, memory: &GuestMemory, data: &[u8]) -> Result<(), ChainError> {
        self.0.advance(data.len(), |address, range| {
            let piece = data.get(range).unwrap_or_default();
            memory.write_slice(piece, address).map_err(|_| outside(address, piece.len()))
        })
    }

    /// Splits off the last `len` bytes of room, if there are as many.
    pub fn split_last(&mut self, len: u64) -> Option<Writer<'a>> {
        self.0.split_last(len).map(Writer)
    }
}
