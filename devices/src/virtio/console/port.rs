//! A port's socket and its peer.

use std::io;
use std::os::fd::OwnedFd;
use std::sync::{Arc, Mutex};

use super::{CONSOLE, PortOptions};
use crate::lock;
use crate::net::poller::{Interest, Poller};
use crate::unix::Listener;

/// A port of the guest, as the host has it.
pub(super) struct Port {
    pub(super) name: String,
    index: usize,
    listener: Listener,
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

impl Port {
    /// Makes the socket of port `index`.
    pub(super) fn listen(options: &PortOptions, index: usize, poller: &Poller) -> io::Result<Port> {
        let listener = Listener::new(&options.socket, 4)?;
        poller.add(&listener, key(index, true), READ)?;
        Ok(Port { name: options.name.clone(), index, listener, peer: Mutex::new(None) })
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
        let new = self.listener.accept().filter(|new| poller.add(new, key(self.index, false), READ).is_ok());
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
