//! A port's socket and its peer.

use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::fs::FileTypeExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use rustix::net::{
    AddressFamily, SocketAddrUnix, SocketFlags, SocketType, accept_with, bind, connect, listen, socket_with,
};

use super::{CONSOLE, PortOptions};
use crate::lock;
use crate::net::poller::{Interest, Poller};

/// A port of the guest, as the host has it.
pub(super) struct Port {
    pub(super) name: String,
    index: usize,
    path: PathBuf,
    listener: OwnedFd,
    peer: Mutex<Option<Arc<OwnedFd>>>,
}

const READ: Interest = Interest { read: true, write: false };

/// The key of a port's listening socket or of its peer.
fn key(index: usize, listener: bool) -> u64 {
    index as u64 * 2 + u64::from(listener)
}

/// Port and whether it is the listening socket.
pub(super) fn from_key(key: u64) -> Option<(usize, bool)> {
    Some((usize::try_from(key / 2).ok()?, key % 2 == 1))
}

fn make() -> io::Result<OwnedFd> {
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    Ok(socket_with(AddressFamily::UNIX, SocketType::STREAM, flags, None)?)
}

/// Takes away a socket that nobody listens at any more.
fn remove_stale(path: &Path) -> io::Result<()> {
    let is_socket = std::fs::symlink_metadata(path).is_ok_and(|data| data.file_type().is_socket());
    if is_socket && connect(&make()?, &SocketAddrUnix::new(path)?) == Err(rustix::io::Errno::CONNREFUSED) {
        std::fs::remove_file(path)?;
    }
    Ok(())
}

impl Port {
    /// Makes the socket of port `index`.
    pub(super) fn listen(options: &PortOptions, index: usize, poller: &Poller) -> io::Result<Port> {
        let path = options.socket.clone();
        remove_stale(&path)?;
        let listener = make()?;
        bind(&listener, &SocketAddrUnix::new(&path)?)?;
        listen(&listener, 4)?;
        poller.add(&listener, key(index, true), READ)?;
        Ok(Port { name: options.name.clone(), index, path, listener, peer: Mutex::new(None) })
    }

    /// Whether it is the guest's console.
    pub(super) fn is_console(&self) -> bool {
        self.name == CONSOLE
    }

    /// Whether the guest may write: somebody is there, or it does not matter.
    pub(super) fn is_open(&self) -> bool {
        self.is_console() || self.peer().is_some()
    }

    pub(super) fn peer(&self) -> Option<Arc<OwnedFd>> {
        lock(&self.peer).clone()
    }

    /// Takes the next peer, if none is there. True if one came.
    pub(super) fn accept(&self, poller: &Poller) -> bool {
        let mut peer = lock(&self.peer);
        if peer.is_some() {
            // The next one waits until this one goes.
            return false;
        }
        let new = accept_with(&self.listener, SocketFlags::CLOEXEC | SocketFlags::NONBLOCK);
        let new = new.ok().filter(|new| poller.add(new, key(self.index, false), READ).is_ok());
        let came = new.is_some();
        *peer = new.map(Arc::new);
        drop(peer);
        if !came {
            self.seek(poller);
        }
        came
    }

    fn seek(&self, poller: &Poller) {
        // It was added once, and stays.
        let _ = poller.arm(&self.listener, key(self.index, true), READ);
    }

    /// The peer is gone. True if it was still known.
    pub(super) fn lose(&self, gone: &Arc<OwnedFd>, poller: &Poller) -> bool {
        let mut peer = lock(&self.peer);
        let known = peer.as_ref().is_some_and(|peer| Arc::ptr_eq(peer, gone));
        if known {
            *peer = None;
            drop(peer);
            self.seek(poller);
        }
        known
    }

    /// Waits until the peer has data, and room for some if that is wanted.
    pub(super) fn wait(&self, peer: &OwnedFd, poller: &Poller, write: bool) {
        // It was added when it came.
        let _ = poller.arm(peer, key(self.index, false), Interest { read: true, write });
    }
}

impl Drop for Port {
    fn drop(&mut self) {
        // Somebody else may have taken it away.
        let _ = std::fs::remove_file(&self.path);
    }
}
