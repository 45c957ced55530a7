//! Faults on purpose: a disk that fails, fills up, is slow or loses a flush when it is told to. What the guest then sees
//! is an error, never wrong data.

use std::fmt;
use std::io;
use std::ops::RangeInclusive;
use std::path::PathBuf;
use std::str::FromStr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use super::write_log::WriteLog;
use super::{Disk, SECTOR};

/// Longest delay of a request.
const SLOWEST: u64 = 60_000;

/// What goes wrong.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Fault {
    /// Transfers that touch these sectors fail.
    Eio(RangeInclusive<u64>),
    /// Writes with these numbers (the first is 1) find no room.
    Enospc(RangeInclusive<u64>),
    /// Transfers with these numbers end in the middle.
    Short(RangeInclusive<u64>),
    /// Each request takes this much longer.
    Slow(Duration),
    /// Flushes with these numbers fail.
    FlushFail(RangeInclusive<u64>),
    /// Nothing; but what is written is logged in this file (`super::write_log`).
    Log(PathBuf),
}

/// A fault, and the disk that it is for: the first is 0; none: all of them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Injection {
    /// Which disk.
    pub disk: Option<usize>,
    /// What goes wrong.
    pub fault: Fault,
}

/// Not a fault.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "{0:?} is no fault: expected blk[N]:eio@SECTOR[-SECTOR], blk[N]:enospc|short|flush-fail[@NUMBER[-NUMBER]], blk[N]:slow@MILLISECONDS or blkN:log@FILE"
)]
pub struct InjectionError(String);

fn range(text: Option<&str>) -> Option<RangeInclusive<u64>> {
    let Some(text) = text else { return Some(0..=u64::MAX) };
    match text.split_once('-') {
        None => text.parse().ok().map(|one| one..=one),
        Some((first, "")) => Some(first.parse().ok()?..=u64::MAX),
        Some((first, last)) => Some(first.parse().ok()?..=last.parse().ok()?),
    }
}

impl FromStr for Injection {
    type Err = InjectionError;

    fn from_str(text: &str) -> Result<Injection, InjectionError> {
        let parse = || {
            let (disk, fault) = text.strip_prefix("blk")?.split_once(':')?;
            let disk = if disk.is_empty() { None } else { Some(disk.parse().ok()?) };
            let (kind, when) = fault.split_once('@').map_or((fault, None), |(kind, when)| (kind, Some(when)));
            let fault = match kind {
                "eio" => Fault::Eio(range(Some(when?))?),
                "enospc" => Fault::Enospc(range(when)?),
                "short" => Fault::Short(range(when)?),
                "flush-fail" => Fault::FlushFail(range(when)?),
                "slow" => Fault::Slow(Duration::from_millis(when?.parse().ok().filter(|ms| *ms <= SLOWEST)?)),
                // Two disks in one log would be of no use.
                "log" if disk.is_some() => Fault::Log(when.filter(|path| !path.is_empty())?.into()),
                _ => return None,
            };
            Some(Injection { disk, fault })
        };
        parse().ok_or_else(|| InjectionError(text.to_owned()))
    }
}

/// A disk with faults.
pub struct FaultyDisk {
    disk: Arc<dyn Disk>,
    faults: Vec<Fault>,
    log: Option<WriteLog>,
    transfers: AtomicU64,
    writes: AtomicU64,
    flushes: AtomicU64,
}

impl fmt::Debug for FaultyDisk {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "FaultyDisk({:?})", self.faults)
    }
}

fn next(counter: &AtomicU64) -> u64 {
    counter.fetch_add(1, Ordering::SeqCst) + 1
}

impl FaultyDisk {
    /// `disk` with `faults`.
    ///
    /// # Errors
    /// When a log cannot be made.
    pub fn new(disk: Arc<dyn Disk>, faults: Vec<Fault>) -> io::Result<FaultyDisk> {
        let path = faults.iter().find_map(|fault| if let Fault::Log(path) = fault { Some(path) } else { None });
        let log = path.map(|path| WriteLog::create(path)).transpose()?;
        Ok(FaultyDisk { disk, faults, log, transfers: 0.into(), writes: 0.into(), flushes: 0.into() })
    }

    /// Has the log, if there is one, keep what has just been done.
    fn logged(&self, done: io::Result<()>, note: impl FnOnce(&WriteLog) -> io::Result<()>) -> io::Result<()> {
        done.and_then(|()| self.log.as_ref().map_or(Ok(()), note))
    }

    fn delay(&self) {
        for fault in &self.faults {
            if let Fault::Slow(delay) = fault {
                std::thread::sleep(*delay);
            }
        }
    }

    /// How many of `len` bytes are transferred before it goes wrong, and how; none: all goes well.
    fn transfer(&self, offset: u64, len: usize, write: bool) -> Option<(usize, io::Error)> {
        self.delay();
        let number = next(&self.transfers);
        let write = write.then(|| next(&self.writes));
        let sectors = offset / SECTOR..(offset + len as u64).div_ceil(SECTOR);
        self.faults.iter().find_map(|fault| match fault {
            Fault::Eio(bad) if *bad.start() < sectors.end && sectors.start <= *bad.end() => Some((0, eio())),
            Fault::Short(numbers) if numbers.contains(&number) => Some((len / 2, eio())),
            Fault::Enospc(numbers) if write.is_some_and(|number| numbers.contains(&number)) => {
                Some((0, rustix::io::Errno::NOSPC.into()))
            }
            _ => None,
        })
    }
}

fn eio() -> io::Error {
    rustix::io::Errno::IO.into()
}

impl Disk for FaultyDisk {
    fn size(&self) -> u64 {
        self.disk.size()
    }

    fn block_size(&self) -> u32 {
        self.disk.block_size()
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        match self.transfer(offset, out.len(), false) {
            None => self.disk.read(offset, out),
            Some((done, error)) => {
                self.disk.read(offset, out.get_mut(..done).unwrap_or_default())?;
                Err(error)
            }
        }
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        match self.transfer(offset, data.len(), true) {
            None => self.logged(self.disk.write(offset, data), |log| log.written(offset, data)),
            Some((done, error)) => {
                let data = data.get(..done).unwrap_or_default();
                self.logged(self.disk.write(offset, data), |log| log.written(offset, data))?;
                Err(error)
            }
        }
    }

    fn flush(&self) -> io::Result<()> {
        self.delay();
        let number = next(&self.flushes);
        match self.faults.iter().any(|f| matches!(f, Fault::FlushFail(numbers) if numbers.contains(&number))) {
            true => Err(eio()),
            false => {
                self.logged(Ok(()), WriteLog::flushing)?;
                self.disk.flush()
            }
        }
    }

    fn discard(&self, offset: u64, len: u64) -> io::Result<()> {
        // Only advice: a disk that fails has done nothing.
        match self.transfer(offset, usize::try_from(len).unwrap_or(usize::MAX), true) {
            None => self.logged(self.disk.discard(offset, len), |log| log.discarded(offset, len)),
            Some((_, error)) => Err(error),
        }
    }

    fn write_zeroes(&self, offset: u64, len: u64, unmap: bool) -> io::Result<()> {
        match self.transfer(offset, usize::try_from(len).unwrap_or(usize::MAX), true) {
            None => self.logged(self.disk.write_zeroes(offset, len, unmap), |log| log.zeroed(offset, len)),
            Some((_, error)) => Err(error),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn faults_are_read() {
        let parse = |text: &str| text.parse::<Injection>().map(|i| (i.disk, i.fault));
        assert_eq!(parse("blk:eio@5"), Ok((None, Fault::Eio(5..=5))));
        assert_eq!(parse("blk1:eio@5-9"), Ok((Some(1), Fault::Eio(5..=9))));
        assert_eq!(parse("blk:enospc"), Ok((None, Fault::Enospc(0..=u64::MAX))));
        assert_eq!(parse("blk:short@3-"), Ok((None, Fault::Short(3..=u64::MAX))));
        assert_eq!(parse("blk0:slow@20"), Ok((Some(0), Fault::Slow(Duration::from_millis(20)))));
        assert_eq!(parse("blk2:log@a@b"), Ok((Some(2), Fault::Log("a@b".into()))));
        assert_eq!(parse("blk:flush-fail@1"), Ok((None, Fault::FlushFail(1..=1))));
        for wrong in [
            "",
            "blk",
            "blk:",
            "blkx:eio@1",
            "blk:eio",
            "blk:slow",
            "blk:slow@99999999",
            "net:eio@1",
            "blk:eio@b",
            "blk:log@a",
            "blk0:log",
            "blk0:log@",
        ] {
            assert!(parse(wrong).unwrap_err().to_string().contains("no fault"), "{wrong}");
        }
    }

    #[test]
    fn faults_come_when_they_are_told_to() {
        let file = tempfile::NamedTempFile::new().unwrap();
        file.as_file().set_len(1 << 20).unwrap();
        let disk = super::super::open(&super::super::DiskOptions::new(file.path())).unwrap();
        let faults = [Fault::Eio(8..=9), Fault::Enospc(2..=2), Fault::Short(6..=6), Fault::FlushFail(1..=1)];
        let faulty = FaultyDisk::new(disk, faults.to_vec()).unwrap();
        let mut bytes = [0; 1024];
        assert!(faulty.read(7 * 512, &mut bytes).is_err(), "1: touches sector 8");
        assert!(faulty.read(10 * 512, &mut bytes).is_ok(), "2");
        assert!(faulty.write(0, &[1; 512]).is_ok(), "3");
        assert_eq!(faulty.write(0, &[2; 512]).unwrap_err().kind(), io::ErrorKind::StorageFull, "4");
        assert!(faulty.read(0, &mut bytes).is_ok_and(|()| bytes[0] == 1), "5");
        assert!(faulty.write(0, &[3; 1024]).is_err(), "6: half of it");
        faulty.read(0, &mut bytes).unwrap();
        assert_eq!((bytes[511], bytes[512]), (3, 0));
        assert!(faulty.flush().is_err() && faulty.flush().is_ok());
    }
}
