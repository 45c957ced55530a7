//! The requests of a block device.

use std::io::ErrorKind;
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use super::engine::Engine;
use super::ticket::{Buffer, MAX_BUFFER, Op, Ticket};
use super::{Inner, SERIAL_LEN, spec};
use crate::disk::{CacheMode, SECTOR};
use crate::virtio::GuestMemory;
use crate::virtio::chain::{ChainError, Reader, Writer};
use crate::virtio::device::{QueueHandler, Served};
use crate::virtio::queue::{ActiveQueue, QueueError, Used};

/// Most bytes of a queue's requests that are under way at once.
const MAX_BYTES: u64 = 16 << 20;
/// Most requests of a queue that are under way at once.
const MAX_TICKETS: usize = super::ring::DEPTH;
/// How soon a queue that waits for its rate notices that it has to stand still.
const LONGEST_NAP: Duration = Duration::from_millis(20);

/// Serves one queue.
pub(super) struct Handler {
    device: Arc<Inner>,
    index: u16,
    engine: Engine,
    free: Vec<Ticket>,
    /// Writes that found no room on the host after later requests had been taken.
    stuck: Vec<Ticket>,
    /// Answers that the driver has not been told of.
    used: Vec<Used>,
    /// Bytes under way.
    bytes: u64,
}

/// Why no further request was taken.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Taken {
    /// There is none.
    All,
    /// As many as may be are under way.
    Enough,
    /// There is no room for the last one, which was put back.
    Full,
}

/// What became of a request that was looked at.
enum Looked {
    /// It is done: so many bytes were written into it.
    Done(u32),
    /// The ticket is ready for the disk.
    Ready,
    /// There is no room for it.
    Full,
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
    pub(super) fn new(device: Arc<Inner>, index: u16) -> Handler {
        let engine = Engine::new(&device.disk, device.options.aio);
        Handler { device, index, engine, free: Vec::new(), stuck: Vec::new(), used: Vec::new(), bytes: 0 }
    }

    /// Takes requests from the queue and begins them, as many as may be under way.
    fn take(&mut self, queue: &mut ActiveQueue<'_>) -> Result<Taken, QueueError> {
        while self.engine.in_flight() < MAX_TICKETS && self.bytes < MAX_BYTES {
            if self.engine.in_flight() == 0 {
                self.publish(queue)?;
                self.device.await_rate(queue);
            } else if self.device.limiter.wait(Instant::now()).is_some() {
                return Ok(Taken::Enough);
            }
            let mut ticket = self.free.pop().unwrap_or_else(Ticket::new);
            if !queue.pop(&mut ticket.chain)? {
                self.free.push(ticket);
                return Ok(Taken::All);
            }
            self.device.limiter.take(ticket.chain.reader().left() + ticket.chain.writer().left());
            match look(&self.device, &mut ticket, queue.memory())? {
                Looked::Done(written) => self.answer(ticket, written),
                Looked::Full => return self.put_back(ticket, queue),
                Looked::Ready => {
                    if let Some(taken) = self.begin(ticket, queue)? {
                        return Ok(taken);
                    }
                }
            }
        }
        Ok(Taken::Enough)
    }

    /// Begins a request, or does it here if that is quicker.
    fn begin(&mut self, mut ticket: Ticket, queue: &mut ActiveQueue<'_>) -> Result<Option<Taken>, QueueError> {
        let disk = &*self.device.disk;
        let here = match ticket.op {
            Op::Read => {
                let offset = ticket.offset;
                // An error shows again in what follows.
                let cached = disk.read_cached(offset, ticket.bytes()).unwrap_or(false);
                if cached {
                    ticket.result = Ok(());
                    self.finish(ticket, queue)?;
                    return Ok(None);
                }
                false
            }
            Op::Write { durable } => !durable && disk.writes_to_cache(),
            Op::Flush => false,
        };
        let alone = self.engine.prefers_inline() && !queue.has_more();
        let bells = self.device.bells.get().filter(|_| !here && !alone);
        let Some(bell) = bells.and_then(|bells| bells.get(usize::from(self.index))) else {
            return self.perform(ticket, queue);
        };
        let bytes = ticket.len as u64;
        match self.engine.begin(ticket, bell) {
            Ok(()) => {
                self.bytes += bytes;
                Ok(None)
            }
            Err(back) => self.perform(back, queue),
        }
    }

    /// Does a request on this thread.
    fn perform(&mut self, mut ticket: Ticket, queue: &mut ActiveQueue<'_>) -> Result<Option<Taken>, QueueError> {
        ticket.perform(&*self.device.disk);
        if self.device.is_full(&ticket.result) {
            return self.put_back(ticket, queue).map(Some);
        }
        self.finish(ticket, queue)?;
        Ok(None)
    }

    /// The request that was taken last goes back into the ring.
    fn put_back(&mut self, ticket: Ticket, queue: &mut ActiveQueue<'_>) -> Result<Taken, QueueError> {
        self.free.push(ticket);
        queue.put_back(1);
        Ok(Taken::Full)
    }

    /// Takes what the host has done.
    fn reap(&mut self, queue: &ActiveQueue<'_>) -> Result<(), QueueError> {
        while let Some(ticket) = self.engine.take_done() {
            self.bytes = self.bytes.saturating_sub(ticket.len as u64);
            if self.device.is_full(&ticket.result) {
                self.stuck.push(ticket);
            } else {
                self.finish(ticket, queue)?;
            }
        }
        Ok(())
    }

    /// Writes the answer of a request that is done.
    fn finish(&mut self, mut ticket: Ticket, queue: &ActiveQueue<'_>) -> Result<(), QueueError> {
        let memory = queue.memory();
        let Ticket { chain, buffer, op, len, result, .. } = &mut ticket;
        let mut to = chain.writer();
        let mut status = to.split_last(1).ok_or(ChainError::Short)?;
        let room = to.left();
        let code = if result.is_ok() { spec::S_OK } else { spec::S_IOERR };
        if *op == Op::Read && result.is_ok() {
            to.write(memory, buffer.get(*len))?;
        }
        status.write(memory, &[code])?;
        let written = written(room, to.left());
        self.answer(ticket, written);
        Ok(())
    }

    fn answer(&mut self, ticket: Ticket, written: u32) {
        self.used.push(Used { head: ticket.chain.head(), written });
        self.free.push(ticket);
    }

    /// Gives the driver what is answered.
    fn publish(&mut self, queue: &mut ActiveQueue<'_>) -> Result<(), QueueError> {
        if !self.used.is_empty() {
            queue.publish(&self.used)?;
            self.used.clear();
            queue.signal()?;
        }
        Ok(())
    }

    /// Tries again what found no room. True if all of it did now.
    fn unstick(&mut self, queue: &ActiveQueue<'_>) -> Result<bool, QueueError> {
        while let Some(mut ticket) = self.stuck.pop() {
            ticket.perform(&*self.device.disk);
            if self.device.is_full(&ticket.result) {
                self.stuck.push(ticket);
                return Ok(false);
            }
            self.finish(ticket, queue)?;
        }
        Ok(true)
    }

    fn run(&mut self, queue: &mut ActiveQueue<'_>) -> Result<Served, QueueError> {
        loop {
            let taken = if self.unstick(queue)? { self.take(queue)? } else { Taken::Full };
            self.engine.submit();
            self.reap(queue)?;
            self.publish(queue)?;
            if taken == Taken::Full || !self.stuck.is_empty() {
                self.drain(queue)?;
                self.device.when_full.iter().for_each(|tell| tell());
                return Ok(Served::Waiting);
            }
            match (self.engine.in_flight(), taken) {
                (0, Taken::All) => return Ok(Served::All),
                (0, _) => continue,
                _ if !queue.may_run() => return Ok(Served::All),
                _ => {}
            }
            // While no more may be taken only what is under way matters: the doorbell says nothing.
            let engine = &mut self.engine;
            if taken == Taken::All && queue.look(|| engine.has_done()) {
                continue;
            }
            // Requests that come while others are under way are not to wait for those.
            if taken == Taken::All && queue.listen()? {
                queue.ignore()?;
                continue;
            }
            self.engine.wait(queue);
            queue.woke();
            queue.ignore()?;
        }
    }

    /// Waits until nothing is under way.
    fn drain(&mut self, queue: &mut ActiveQueue<'_>) -> Result<(), QueueError> {
        let mut result = Ok(());
        if self.engine.in_flight() > 0 {
            self.engine.submit();
            while self.engine.in_flight() > 0 {
                let reaped = self.reap(queue);
                result = result.and(reaped);
                if self.engine.in_flight() > 0 {
                    self.engine.wait(queue);
                }
            }
            // A ring of the driver may have been taken for one of the host.
            queue.come_again();
        }
        result.and_then(|()| self.publish(queue))
    }
}

/// How much of an answer with `room` bytes, `left` of which are left, was written without a gap (2.7.8.2), and the status.
fn written(room: u64, left: u64) -> u32 {
    // A chain has at most 4 GiB less one byte.
    let written = (room - left) as u32;
    if left == 0 { written.saturating_add(1) } else { written }
}

/// Looks at the request in `ticket`: makes a transfer ready for the disk, and does everything else.
fn look(device: &Inner, ticket: &mut Ticket, memory: &GuestMemory) -> Result<Looked, ChainError> {
    let mut from = ticket.chain.reader();
    let mut to = ticket.chain.writer();
    let mut status = to.split_last(1).ok_or(ChainError::Short)?;
    let room = to.left();
    let header: [u8; spec::HEADER] = from.read_array(memory)?;
    let [t0, t1, t2, t3, _, _, _, _, s0, s1, s2, s3, s4, s5, s6, s7] = header;
    let kind = u32::from_le_bytes([t0, t1, t2, t3]);
    let sector = u64::from_le_bytes([s0, s1, s2, s3, s4, s5, s6, s7]);
    let len = match kind {
        spec::T_IN => to.left(),
        spec::T_OUT => from.left(),
        _ => 0,
    };
    // Long ones go in pieces, one after the other.
    let one_piece = len <= MAX_BUFFER as u64;
    let durable = !device.may_cache();
    let done = match kind {
        spec::T_IN if one_piece => device.place(sector, len).map(|offset| Some((Op::Read, offset))),
        spec::T_OUT if one_piece => device.place(sector, len).and_then(|offset| {
            device.check_writable()?;
            from.read(memory, ticket.buffer.get(len as usize))?;
            Ok(Some((Op::Write { durable }, offset)))
        }),
        spec::T_FLUSH if device.options.cache != CacheMode::Unsafe => Ok(Some((Op::Flush, 0))),
        spec::T_IN => device.read(memory, sector, &mut to, &mut ticket.buffer).map(|()| None),
        spec::T_OUT => device.write(memory, sector, &mut from, &mut ticket.buffer).map(|()| None),
        spec::T_FLUSH => Ok(None),
        spec::T_GET_ID => device.identify(memory, &mut to).map(|()| None),
        spec::T_DISCARD | spec::T_WRITE_ZEROES => device.ranges(memory, kind, &mut from).map(|()| None),
        _ => Err(Refused::Unknown),
    };
    let code = match done {
        Ok(Some((op, offset))) => {
            (ticket.op, ticket.offset, ticket.len) = (op, offset, len as usize);
            return Ok(Looked::Ready);
        }
        Ok(None) => spec::S_OK,
        Err(Refused::Full) if device.when_full.is_some() => return Ok(Looked::Full),
        Err(Refused::Failed | Refused::Full) => spec::S_IOERR,
        Err(Refused::Unknown) => spec::S_UNSUPP,
        Err(Refused::Chain(error)) => return Err(error),
    };
    status.write(memory, &[code])?;
    Ok(Looked::Done(written(room, to.left())))
}

impl QueueHandler for Handler {
    fn serve(&mut self, queue: &mut ActiveQueue<'_>) -> Result<Served, QueueError> {
        let served = self.run(queue);
        // Whatever happened, nothing is under way when the queue is let go of.
        let drained = self.drain(queue);
        if served.is_err() {
            self.used.clear();
        }
        served.and_then(|served| drained.map(|()| served))
    }

    fn forget(&mut self) {
        self.stuck.clear();
        self.used.clear();
    }

    fn give_up(&mut self, queue: &mut ActiveQueue<'_>) -> Result<(), QueueError> {
        // They are tried again where the machine goes on.
        let heads: Vec<u16> = self.stuck.iter().map(|ticket| ticket.chain.head()).collect();
        queue.take_back(&heads)?;
        self.free.append(&mut self.stuck);
        self.publish(queue)
    }
}

impl Inner {
    /// Sleeps until the rate limits let a request through, or the queue has to stand still.
    fn await_rate(&self, queue: &ActiveQueue<'_>) {
        while let Some(wait) = self.limiter.wait(Instant::now()).filter(|_| queue.may_run()) {
            thread::sleep(wait.min(LONGEST_NAP));
        }
    }

    /// Whether a request failed for want of room on the host, and somebody is there to make some.
    fn is_full(&self, result: &std::io::Result<()>) -> bool {
        let full = |error: &std::io::Error| matches!(error.kind(), ErrorKind::StorageFull | ErrorKind::QuotaExceeded);
        self.when_full.is_some() && result.as_ref().is_err_and(full)
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
            let piece = buffer.get(usize::try_from(to.left()).unwrap_or(MAX_BUFFER));
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
            let piece = buffer.get(usize::try_from(from.left()).unwrap_or(MAX_BUFFER));
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
