//! Waits for many host files at once, on one thread.

use std::io;
use std::os::fd::{AsFd, OwnedFd};

use rustix::event::{EventfdFlags, Timespec, epoll, eventfd};

/// The key by which [`Poller::wake`] is told.
const WOKEN: u64 = u64::MAX;

/// What can be waited for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Interest {
    /// Something can be read, or the other side has closed.
    pub read: bool,
    /// Something can be written.
    pub write: bool,
}

/// What happened.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Happened {
    /// The key that the file was added with.
    pub key: u64,
    /// Something can be read, or an error is there to be read.
    pub read: bool,
    /// Something can be written.
    pub write: bool,
}

/// A set of files to wait for. Each is waited for once; [`arm`](Poller::arm) asks again.
pub struct Poller {
    epoll: OwnedFd,
    waker: OwnedFd,
}

fn flags(interest: Interest) -> epoll::EventFlags {
    let mut flags = epoll::EventFlags::ONESHOT;
    if interest.read {
        flags |= epoll::EventFlags::IN | epoll::EventFlags::RDHUP;
    }
    if interest.write {
        flags |= epoll::EventFlags::OUT;
    }
    flags
}

impl Poller {
    /// An empty set.
    pub fn new() -> io::Result<Poller> {
        let epoll = epoll::create(epoll::CreateFlags::CLOEXEC)?;
        let waker = eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?;
        epoll::add(&epoll, &waker, epoll::EventData::new_u64(WOKEN), epoll::EventFlags::IN)?;
        Ok(Poller { epoll, waker })
    }

    /// Adds a file under `key`, which is not `u64::MAX`.
    pub fn add(&self, file: impl AsFd, key: u64, interest: Interest) -> io::Result<()> {
        Ok(epoll::add(&self.epoll, file, epoll::EventData::new_u64(key), flags(interest))?)
    }

    /// Waits for the file once more. Files leave the set when they are closed.
    pub fn arm(&self, file: impl AsFd, key: u64, interest: Interest) -> io::Result<()> {
        Ok(epoll::modify(&self.epoll, file, epoll::EventData::new_u64(key), flags(interest))?)
    }

    /// Has the waiting thread return.
    pub fn wake(&self) {
        // Full means that a wake-up is on its way already.
        let _ = rustix::io::write(&self.waker, &1u64.to_ne_bytes());
    }

    /// Waits until something happens, [`wake`](Self::wake) is called or `milliseconds` (`None`: no limit) have passed.
    pub fn wait(&self, milliseconds: Option<u64>, happened: &mut Vec<Happened>) -> io::Result<()> {
        happened.clear();
        let limit = milliseconds.map(|ms| Timespec {
            tv_sec: i64::try_from(ms / 1000).unwrap_or(i64::MAX),
            tv_nsec: ((ms % 1000) * 1_000_000) as _,
        });
        let mut events = [epoll::Event { flags: epoll::EventFlags::empty(), data: epoll::EventData::new_u64(0) }; 64];
        let count = match epoll::wait(&self.epoll, &mut events, limit.as_ref()) {
            Ok(count) => count,
            Err(rustix::io::Errno::INTR) => 0,
            Err(error) => return Err(error.into()),
        };
        for event in events.iter().take(count) {
            let (flags, key) = (event.flags, event.data.u64());
            if key == WOKEN {
                let mut value = [0; 8];
                // It may have been read already.
                let _ = rustix::io::read(&self.waker, &mut value);
                continue;
            }
            let failed = flags.intersects(epoll::EventFlags::ERR | epoll::EventFlags::HUP);
            happened.push(Happened {
                key,
                read: failed || flags.intersects(epoll::EventFlags::IN | epoll::EventFlags::RDHUP),
                write: failed || flags.contains(epoll::EventFlags::OUT),
            });
        }
        Ok(())
    }
}
