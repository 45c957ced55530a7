//! What a guest writes to a disk and when it flushes, in the order in which it happened: to find out, for any moment, what a
//! power loss would have left. `--inject blk[N]:log@FILE`; the format is in `docs/design/disks.md`.

use std::fs::File;
use std::io::{self, Read, Write};
use std::path::Path;
use std::sync::Mutex;

use crate::lock;

/// Something that happened to a disk.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// Bytes were written at an offset.
    Write(u64, Vec<u8>),
    /// A flush began: what was written before is permanent.
    Flush,
    /// A range (offset, length) was given back: it has any contents.
    Discard(u64, u64),
    /// A range (offset, length) became zeros.
    Zeroes(u64, u64),
}

const WRITE: u64 = 0;
const FLUSH: u64 = 1;
const DISCARD: u64 = 2;
const ZEROES: u64 = 3;
/// Greatest write in a log that is read: more than any device asks for.
const MOST: u64 = 64 << 20;

/// A log that is being written.
#[derive(Debug)]
pub(super) struct WriteLog(Mutex<File>);

impl WriteLog {
    /// A new log at `path`.
    pub(super) fn create(path: &Path) -> io::Result<WriteLog> {
        Ok(WriteLog(Mutex::new(File::create(path)?)))
    }

    fn record(&self, kind: u64, offset: u64, len: u64, data: &[u8]) -> io::Result<()> {
        let mut record = Vec::with_capacity(24 + data.len());
        for word in [kind, offset, len] {
            record.extend(word.to_le_bytes());
        }
        record.extend(data);
        lock(&self.0).write_all(&record)
    }

    /// After a write is done, and before the guest hears of it.
    pub(super) fn written(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        self.record(WRITE, offset, data.len() as u64, data)
    }

    /// Before a flush begins: writes that are done while it goes on may be lost.
    pub(super) fn flushing(&self) -> io::Result<()> {
        self.record(FLUSH, 0, 0, &[])
    }

    /// After a range was given back.
    pub(super) fn discarded(&self, offset: u64, len: u64) -> io::Result<()> {
        self.record(DISCARD, offset, len, &[])
    }

    /// After a range became zeros.
    pub(super) fn zeroed(&self, offset: u64, len: u64) -> io::Result<()> {
        self.record(ZEROES, offset, len, &[])
    }
}

/// Reads the next event of a log; `None` at its end.
///
/// # Errors
/// What the reader says, and a log that is damaged.
pub fn read(log: &mut impl Read) -> io::Result<Option<Event>> {
    let mut header = [0; 24];
    let mut filled = 0;
    while let Some(rest) = header.get_mut(filled..).filter(|rest| !rest.is_empty()) {
        match log.read(rest)? {
            0 if filled == 0 => return Ok(None),
            0 => return Err(io::ErrorKind::UnexpectedEof.into()),
            count => filled += count,
        }
    }
    let [kind, offset, len] =
        [0, 8, 16].map(|at| header.get(at..at + 8).and_then(|b| b.try_into().ok()).map_or(0, u64::from_le_bytes));
    Ok(Some(match kind {
        WRITE if len <= MOST => {
            let mut data = vec![0; usize::try_from(len).unwrap_or(0)];
            log.read_exact(&mut data)?;
            Event::Write(offset, data)
        }
        FLUSH => Event::Flush,
        DISCARD => Event::Discard(offset, len),
        ZEROES => Event::Zeroes(offset, len),
        _ => return Err(io::Error::new(io::ErrorKind::InvalidData, "this is no log of a disk's writes")),
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_log_is_read_as_it_was_written() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let log = WriteLog::create(file.path()).unwrap();
        log.written(512, &[7; 1024]).unwrap();
        log.flushing().unwrap();
        log.discarded(4096, 8192).unwrap();
        log.zeroed(0, 512).unwrap();
        let mut bytes = &std::fs::read(file.path()).unwrap()[..];
        let events: Vec<Event> = std::iter::from_fn(|| read(&mut bytes).unwrap()).collect();
        let expected =
            [Event::Write(512, vec![7; 1024]), Event::Flush, Event::Discard(4096, 8192), Event::Zeroes(0, 512)];
        assert_eq!(events, expected);
        assert!(read(&mut &[9; 24][..]).is_err() && read(&mut &[0; 10][..]).is_err());
        let long = [WRITE, 0, MOST + 1].map(u64::to_le_bytes).concat();
        assert!(read(&mut &long[..]).is_err());
    }
}
