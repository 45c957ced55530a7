//! A cable between two machines: a unix socket of whole messages, each a frame with its offload header.
//!
//! The first to come makes the socket and listens, the second connects. When the other one goes, the one that listened
//! takes the next that comes, and the one that connected tries again.

use std::io;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use rustix::net::{
    AddressFamily, RecvFlags, SendFlags, SocketAddrUnix, SocketFlags, SocketType, accept_with, bind, connect, listen,
    recv, send, socket_with, sockopt,
};

use super::poller::{Happened, Interest, Poller};
use super::{Backend, Packet, Wake, offload};
use crate::lock;

/// Key of the listening socket.
const LISTENER: u64 = 0;
/// Key of the connection.
const PEER: u64 = 1;
/// Between two tries to connect.
const RETRY: u64 = 200;
/// How long a frame waits for room at the other side before it is lost.
const PATIENCE: Timespec = Timespec { tv_sec: 0, tv_nsec: 20_000_000 };
/// Bytes that may be under way, if the host allows as many.
const BUFFER: usize = 4 << 20;

/// A back end over a unix socket.
pub struct SocketPair {
    shared: Arc<Shared>,
    thread: Mutex<Option<JoinHandle<()>>>,
}

struct Shared {
    path: PathBuf,
    poller: Poller,
    listener: Option<OwnedFd>,
    peer: Mutex<Option<Arc<OwnedFd>>>,
    /// The other side did not take the last frame in time: it gets no more patience until it takes one.
    stuck: AtomicBool,
    ended: AtomicBool,
    sent: AtomicU64,
    received: AtomicU64,
    lost: AtomicU64,
}

fn make() -> io::Result<OwnedFd> {
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let socket = socket_with(AddressFamily::UNIX, SocketType::SEQPACKET, flags, None)?;
    // As much as the host allows.
    let _ = sockopt::set_socket_send_buffer_size(&socket, BUFFER);
    Ok(socket)
}

/// Connects to who listens at `path`; `None` if nobody does.
fn try_connect(path: &Path) -> io::Result<Option<OwnedFd>> {
    let socket = make()?;
    match connect(&socket, &SocketAddrUnix::new(path)?) {
        Ok(()) => Ok(Some(socket)),
        Err(Errno::NOENT | Errno::CONNREFUSED | Errno::AGAIN) => Ok(None),
        Err(error) => Err(error.into()),
    }
}

fn try_listen(path: &Path) -> io::Result<Option<OwnedFd>> {
    let socket = make()?;
    match bind(&socket, &SocketAddrUnix::new(path)?) {
        Ok(()) => {}
        Err(Errno::ADDRINUSE) => return Ok(None),
        Err(error) => return Err(error.into()),
    }
    listen(&socket, 4)?;
    Ok(Some(socket))
}

impl SocketPair {
    /// Connects to the machine that listens at `path`, or listens there.
    pub fn open(path: &Path) -> io::Result<SocketPair> {
        let mut ends = (None, None);
        for _ in 0..10 {
            ends.0 = try_connect(path)?;
            if ends.0.is_some() {
                break;
            }
            ends.1 = try_listen(path)?;
            if ends.1.is_some() {
                break;
            }
            // A socket that nobody listens at any more, or one whose owner is about to listen.
            std::thread::sleep(Duration::from_millis(20));
            if try_connect(path)?.is_none() && is_socket(path) {
                std::fs::remove_file(path)?;
            }
        }
        let (peer, listener) = ends;
        if peer.is_none() && listener.is_none() {
            return Err(io::Error::new(io::ErrorKind::AddrInUse, "it exists and is no socket that can be used"));
        }
        let poller = Poller::new()?;
        if let Some(listener) = &listener {
            poller.add(listener, LISTENER, Interest { read: true, write: false })?;
        }
        let zero = AtomicU64::default;
        let shared = Arc::new(Shared {
            path: path.to_owned(),
            poller,
            listener,
            peer: Mutex::new(None),
            stuck: AtomicBool::new(false),
            ended: AtomicBool::new(false),
            sent: zero(),
            received: zero(),
            lost: zero(),
        });
        if let Some(peer) = peer {
            shared.take(peer)?;
        }
        Ok(SocketPair { shared, thread: Mutex::new(None) })
    }
}

fn is_socket(path: &Path) -> bool {
    use std::os::unix::fs::FileTypeExt;
    std::fs::symlink_metadata(path).is_ok_and(|data| data.file_type().is_socket())
}

impl Shared {
    /// The other machine is there.
    fn take(&self, peer: OwnedFd) -> io::Result<()> {
        self.poller.add(&peer, PEER, Interest { read: true, write: false })?;
        self.stuck.store(false, Ordering::Relaxed);
        *lock(&self.peer) = Some(Arc::new(peer));
        Ok(())
    }

    fn peer(&self) -> Option<Arc<OwnedFd>> {
        lock(&self.peer).clone()
    }

    /// The other machine is gone.
    fn lose(&self, gone: &Arc<OwnedFd>) {
        let mut peer = lock(&self.peer);
        if peer.as_ref().is_some_and(|peer| Arc::ptr_eq(peer, gone)) {
            *peer = None;
            drop(peer);
            self.seek();
            self.poller.wake();
        }
    }

    /// Waits for another one.
    fn seek(&self) {
        if let Some(listener) = &self.listener {
            // It was added once, and stays.
            let _ = self.poller.arm(listener, LISTENER, Interest { read: true, write: false });
        }
    }

    fn accept(&self) {
        let Some(listener) = &self.listener else { return };
        let peer = accept_with(listener, SocketFlags::CLOEXEC | SocketFlags::NONBLOCK);
        if !peer.is_ok_and(|peer| self.take(peer).is_ok()) {
            self.seek();
        }
    }

    fn watch(&self, wake: &Wake) {
        let mut happened: Vec<Happened> = Vec::new();
        while !self.ended.load(Ordering::SeqCst) {
            let alone = self.peer().is_none();
            let limit = (alone && self.listener.is_none()).then_some(RETRY);
            if self.poller.wait(limit, &mut happened).is_err() {
                return;
            }
            if alone
                && self.listener.is_none()
                && let Ok(Some(peer)) = try_connect(&self.path)
            {
                // One that cannot be watched is closed, and tried again.
                let _ = self.take(peer);
            }
            if happened.iter().any(|one| one.key == LISTENER) {
                self.accept();
            }
            wake();
        }
    }
}

impl Backend for SocketPair {
    fn connect(&self, wake: Wake) {
        let shared = Arc::clone(&self.shared);
        let thread = std::thread::Builder::new().name("net-socket".into());
        // Without a thread nothing comes in: as with a cable that is not plugged in.
        *lock(&self.thread) = thread.spawn(move || shared.watch(&wake)).ok();
    }

    fn send(&self, packet: &mut Packet) {
        let shared = &*self.shared;
        let delivered = shared.peer().is_some_and(|peer| {
            let try_send = || send(&*peer, packet.whole(), SendFlags::NOSIGNAL | SendFlags::DONTWAIT);
            let mut done = try_send();
            if done == Err(Errno::AGAIN) && !shared.stuck.load(Ordering::Relaxed) {
                let mut wait = [PollFd::new(&*peer, PollFlags::OUT)];
                // The second try tells.
                let _ = poll(&mut wait, Some(&PATIENCE));
                done = try_send();
            }
            shared.stuck.store(done == Err(Errno::AGAIN), Ordering::Relaxed);
            if matches!(done, Err(error) if error != Errno::AGAIN && error != Errno::MSGSIZE && error != Errno::NOBUFS)
            {
                shared.lose(&peer);
            }
            done.is_ok()
        });
        let count = if delivered { &shared.sent } else { &shared.lost };
        count.fetch_add(1, Ordering::Relaxed);
    }

    fn receive(&self, packet: &mut Packet) -> bool {
        let shared = &*self.shared;
        let Some(peer) = shared.peer() else { return false };
        loop {
            match recv(&*peer, packet.whole_room(), RecvFlags::DONTWAIT) {
                Ok((_, 0)) => {
                    shared.lose(&peer);
                    return false;
                }
                Ok((_, len)) => {
                    // The other machine's guest is nobody's friend.
                    if packet.set_whole_len(len) && offload::is_sound(&packet.header(), packet.frame()) {
                        shared.received.fetch_add(1, Ordering::Relaxed);
                        return true;
                    }
                    shared.lost.fetch_add(1, Ordering::Relaxed);
                }
                Err(Errno::INTR) => {}
                Err(Errno::AGAIN) => {
                    // It was added when it came.
                    let _ = shared.poller.arm(&*peer, PEER, Interest { read: true, write: false });
                    return false;
                }
                Err(_) => {
                    shared.lose(&peer);
                    return false;
                }
            }
        }
    }

    fn counters(&self) -> serde_json::Value {
        let count = |n: &AtomicU64| n.load(Ordering::Relaxed);
        let shared = &self.shared;
        serde_json::json!({
            "connected": shared.peer().is_some(),
            "sent": count(&shared.sent), "received": count(&shared.received), "lost": count(&shared.lost),
        })
    }
}

impl Drop for SocketPair {
    fn drop(&mut self) {
        self.shared.ended.store(true, Ordering::SeqCst);
        self.shared.poller.wake();
        if let Some(thread) = lock(&self.thread).take() {
            // One that panicked has said so.
            let _ = thread.join();
        }
        if self.shared.listener.is_some() {
            // Somebody else may have taken it away.
            let _ = std::fs::remove_file(&self.shared.path);
        }
    }
}

#[cfg(test)]
mod tests;
