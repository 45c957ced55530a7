//! The requests of a block device.

use std::io::ErrorKind;
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use super::{Inner, SERIAL_LEN, spec};
use crate::disk::SECTOR;
use crate::virtio::GuestMemory;
use crate::virtio::chain::{Chain, ChainError, Reader, Writer};
use crate::virtio::device::{QueueHandler, Served};
use crate::virtio::queue::{ActiveQueue, QueueError};

/// Bytes that go between guest RAM and the disk at once: as much as fits into a host's second-level cache.
const BUFFER: usize = 256 << 10;
/// Alignment of the buffer, for direct I/O.
const ALIGNMENT: usize = 4096;

/// How soon a queue that waits for its rate notices that it has to stand still.
const LONGEST_NAP: Duration = Duration::from_millis(20);

/// Serves one queue.
pub(super) struct Handler {
    device: Arc<Inner>,
    chain: Chain,
    buffer: Buffer,
}

/// An aligned buffer.
struct Buffer {
    bytes: Vec<u8>,
    start: usize,
}

impl Buffer {
    fn new() -> Buffer {
        let bytes = vec![0; BUFFER + ALIGNMENT];
        // Never moves: the vector does not grow.
        let start = bytes.as_ptr().addr().next_multiple_of(ALIGNMENT) - bytes.as_ptr().addr();
        Buffer { bytes, start }
    }

    /// Its first `len` bytes, at most [`BUFFER`].
    fn get(&mut self, len: u64) -> &mut [u8] {
        let len = usize::try_from(len).unwrap_or(BUFFER).min(BUFFER);
        self.bytes.get_mut(self.start..self.start + len).unwrap_or_default()
    }
}

/// A request that the device refuses; the status byte tells which.
enum Refused {
    /// Beyond the end, not whole sectors, or the disk failed.
    Failed,
    /// The host has no room for it.
    Full,
    /// No such request.
    Unknown,
    /// Buffers that are not in RAM.
    Chain(ChainError),
}

impl From<std::io::Error> for Refused {
    fn from(error: std::io::Error) -> Refused {
        match error.kind() {
            ErrorKind::StorageFull | ErrorKind::QuotaExceeded => Refused::Full,
            _ => Refused::Failed,
        }
    }
}

impl From<ChainError> for Refused {
    fn from(error: ChainError) -> Refused {
        Refused::Chain(error)
    }
}

type Done = Result<(), Refused>;

impl Handler {
    pub(super) fn new(device: Arc<Inner>) -> Handler {
        Handler { device, chain: Chain::new(), buffer: Buffer::new() }
    }

    /// Serves the request in `self.chain`; the answer is how many bytes of it, from the first on, were written. None: there
    /// is no room for it on the host, and it stays as if it had not been looked at.
    fn request(&mut self, memory: &GuestMemory) -> Result<Option<u32>, ChainError> {
        let mut from = self.chain.reader();
        let mut to = self.chain.writer();
        let mut status = to.split_last(1).ok_or(ChainError::Short)?;
        let room = to.left();
        let header: [u8; spec::HEADER] = from.read_array(memory)?;
        let [t0, t1, t2, t3, _, _, _, _, s0, s1, s2, s3, s4, s5, s6, s7] = header;
        let kind = u32::from_le_bytes([t0, t1, t2, t3]);
        let sector = u64::from_le_bytes([s0, s1, s2, s3, s4, s5, s6, s7]);
        let (device, buffer) = (&*self.device, &mut self.buffer);
        let done = match kind {
            spec::T_IN => device.read(memory, sector, &mut to, buffer),
            spec::T_OUT => device.write(memory, sector, &mut from, buffer),
            spec::T_FLUSH => device.flush(),
            spec::T_GET_ID => device.identify(memory, &mut to),
            spec::T_DISCARD | spec::T_WRITE_ZEROES => device.ranges(memory, kind, &mut from),
            _ => Err(Refused::Unknown),
        };
        let code = match done {
            Ok(()) => spec::S_OK,
            Err(Refused::Full) if device.when_full.is_some() => return Ok(None),
            Err(Refused::Failed | Refused::Full) => spec::S_IOERR,
            Err(Refused::Unknown) => spec::S_UNSUPP,
            Err(Refused::Chain(error)) => return Err(error),
        };
        status.write(memory, &[code])?;
        // A chain has at most 4 GiB less one byte. Only bytes without a gap before them count (2.7.8.2).
        let written = (room - to.left()) as u32;
        Ok(Some(if to.left() == 0 { written.saturating_add(1) } else { written }))
    }
}

impl QueueHandler for Handler {
    fn serve(&mut self, queue: &mut ActiveQueue<'_>) -> Result<Served, QueueError> {
        loop {
            self.device.await_rate(queue);
            if !queue.pop(&mut self.chain)? {
                return Ok(Served::All);
            }
            self.device.limiter.take(self.chain.reader().left() + self.chain.writer().left());
            match self.request(queue.memory())? {
                Some(written) => queue.complete(self.chain.head(), written)?,
                None => {
                    queue.put_back(1);
                    self.device.when_full.iter().for_each(|tell| tell());
                    return Ok(Served::Waiting);
                }
            }
        }
    }
}

impl Inner {
    /// Sleeps until the rate limits let a request through, or the queue has to stand still.
    fn await_rate(&self, queue: &ActiveQueue<'_>) {
        while let Some(wait) = self.limiter.wait(Instant::now()).filter(|_| queue.may_run()) {
            thread::sleep(wait.min(LONGEST_NAP));
        }
    }

    /// The byte offset of a transfer, if it is whole sectors of the disk.
    fn place(&self, sector: u64, len: u64) -> Result<u64, Refused> {
        let offset = sector.checked_mul(SECTOR).ok_or(Refused::Failed)?;
        let end = offset.checked_add(len).ok_or(Refused::Failed)?;
        if !len.is_multiple_of(SECTOR) || end > self.disk.size() { Err(Refused::Failed) } else { Ok(offset) }
    }

    fn read(&self, memory: &GuestMemory, sector: u64, to: &mut Writer<'_>, buffer: &mut Buffer) -> Done {
        let mut offset = self.place(sector, to.left())?;
        while to.left() > 0 {
            let piece = buffer.get(to.left());
            self.disk.read(offset, piece)?;
            to.write(memory, piece)?;
            offset += piece.len() as u64;
        }
        Ok(())
    }

    fn write(&self, memory: &GuestMemory, sector: u64, from: &mut Reader<'_>, buffer: &mut Buffer) -> Done {
        let mut offset = self.place(sector, from.left())?;
        self.check_writable()?;
        while from.left() > 0 {
            let piece = buffer.get(from.left());
            from.read(memory, piece)?;
            self.disk.write(offset, piece)?;
            offset += piece.len() as u64;
        }
        self.written()
    }

    fn check_writable(&self) -> Done {
        if self.options.read_only { Err(Refused::Failed) } else { Ok(()) }
    }

    /// After a write: permanent now, unless the driver is content with later.
    fn written(&self) -> Done {
        if self.may_cache() { Ok(()) } else { Ok(self.disk.flush()?) }
    }

    fn flush(&self) -> Done {
        match self.options.cache {
            crate::disk::CacheMode::Unsafe => Ok(()),
            _ => Ok(self.disk.flush()?),
        }
    }

    fn identify(&self, memory: &GuestMemory, to: &mut Writer<'_>) -> Done {
        let mut serial = [0; SERIAL_LEN];
        serial.iter_mut().zip(self.options.serial.bytes()).for_each(|(to, from)| *to = from);
        let len = usize::try_from(to.left()).unwrap_or(SERIAL_LEN).min(SERIAL_LEN);
        Ok(to.write(memory, serial.get(..len).unwrap_or_default())?)
    }

    /// Discard and write-zeroes: a list of ranges. All of them are checked before the first is changed.
    fn ranges(&self, memory: &GuestMemory, kind: u32, from: &mut Reader<'_>) -> Done {
        self.check_writable()?;
        let (most, flags) = match kind {
            spec::T_DISCARD => (spec::MOST_DISCARD_SECTORS, 0),
            _ => (spec::MOST_WRITE_ZEROES_SECTORS, spec::RANGE_UNMAP),
        };
        let count = from.left() / spec::RANGE as u64;
        if !from.left().is_multiple_of(spec::RANGE as u64) || count == 0 || count > spec::MOST_RANGES.into() {
            return Err(Refused::Failed);
        }
        let mut ranges = [(0, 0, false); spec::MOST_RANGES as usize];
        let ranges = ranges.get_mut(..count as usize).unwrap_or_default();
        for range in ranges.iter_mut() {
            let bytes: [u8; spec::RANGE] = from.read_array(memory)?;
            let [s0, s1, s2, s3, s4, s5, s6, s7, n0, n1, n2, n3, f0, f1, f2, f3] = bytes;
            let sector = u64::from_le_bytes([s0, s1, s2, s3, s4, s5, s6, s7]);
            let sectors = u32::from_le_bytes([n0, n1, n2, n3]);
            let flag = u32::from_le_bytes([f0, f1, f2, f3]);
            if flag & !flags != 0 {
                return Err(Refused::Unknown);
            }
            if sectors > most {
                return Err(Refused::Failed);
            }
            let len = u64::from(sectors) * SECTOR;
            *range = (self.place(sector, len)?, len, flag != 0);
        }
        for &(offset, len, unmap) in ranges.iter() {
            if kind == spec::T_DISCARD {
                self.disk.discard(offset, len)?;
            } else {
                self.disk.write_zeroes(offset, len, unmap)?;
            }
        }
        self.written()
    }
}
