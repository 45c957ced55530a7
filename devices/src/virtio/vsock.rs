//! virtio-vsock (VIRTIO 1.2 section 5.10): streams between guest and host without a network, the host's ends being unix
//! sockets in Firecracker's convention.
//!
//! Who connects to the device's socket and writes `CONNECT PORT\n` is answered `OK HOSTPORT\n` and is then joined to that
//! port of the guest. A guest that connects to port N of the host reaches who listens at the socket's path with `_N` after it.

mod connection;
mod hub;
mod packet;
mod queues;
#[cfg(test)]
mod tests;

use std::io;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, OnceLock};
use std::thread::JoinHandle;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use self::hub::{Hub, LISTENER};
use super::device::{QueueHandler, VirtioDevice};
use super::spec::device_type;
use super::worker::Bell;
use crate::lock;
use crate::net::poller::{Interest, Poller};
use crate::state::{self, StateError};
use crate::unix::Listener;

const NAME: &str = "virtio-vsock";
const VERSION: u64 = 1;
/// Feature: streams.
const STREAMS: u64 = 1;
/// Entries of each queue.
const QUEUE_SIZE: u16 = 256;
/// Most bytes of data in a packet: what Linux sends.
const LONGEST_PACKET: usize = 64 << 10;
/// Index of the queue of packets to the driver.
const RX: usize = 0;
/// Index of the queue of events.
const EVENTS: usize = 2;
/// Identifiers that a guest can have: below are the hypervisor, the loopback and the host, above is "any".
pub const CIDS: std::ops::RangeInclusive<u32> = 3..=u32::MAX - 1;

/// What the device is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VsockOptions {
    /// The guest's context identifier, one of [`CIDS`].
    pub cid: u32,
    /// The unix socket on the host, which is made; and the beginning of the paths of those that the guest connects to.
    pub socket: PathBuf,
}

/// The device.
pub struct VirtioVsock {
    inner: Arc<Inner>,
    thread: Mutex<Option<JoinHandle<()>>>,
}

/// What the handlers and the thread share.
struct Inner {
    cid: u64,
    listener: Listener,
    poller: Poller,
    hub: Mutex<Hub>,
    bells: OnceLock<Vec<Bell>>,
    /// The machine was restored: the driver has to hear that its connections are gone.
    was_moved: AtomicBool,
    ended: AtomicBool,
}

#[derive(Serialize, Deserialize)]
struct Saved {
    cid: u64,
}

impl VirtioVsock {
    /// Makes the socket.
    pub fn new(options: &VsockOptions) -> io::Result<VirtioVsock> {
        let poller = Poller::new()?;
        let listener = Listener::new(&options.socket, 64)?;
        poller.add(&listener, LISTENER, Interest { read: true, write: false })?;
        let cid = u64::from(options.cid);
        let inner = Arc::new(Inner {
            cid,
            listener,
            poller,
            hub: Mutex::new(Hub::new(cid, &options.socket)),
            bells: OnceLock::new(),
            was_moved: AtomicBool::new(false),
            ended: AtomicBool::new(false),
        });
        Ok(VirtioVsock { inner, thread: Mutex::new(None) })
    }
}

impl Inner {
    fn ring(&self, queue: usize) {
        if let Some(bell) = self.bells.get().and_then(|bells| bells.get(queue)) {
            bell.ring();
        }
    }

    /// The thread's body: somebody comes, has data, or room for some.
    fn watch(&self) {
        let mut happened = Vec::new();
        while !self.ended.load(Ordering::SeqCst) {
            if self.poller.wait(None, &mut happened).is_err() {
                return;
            }
            let mut hub = lock(&self.hub);
            for event in &happened {
                if event.key == LISTENER {
                    hub.accept(&self.listener, &self.poller);
                } else {
                    hub.happened(event.key, event.read, event.write, &self.poller);
                }
            }
            let rings = hub.has_packets();
            drop(hub);
            if rings {
                self.ring(RX);
            }
        }
    }
}

impl VirtioDevice for VirtioVsock {
    fn device_type(&self) -> u32 {
        device_type::SOCKET
    }

    fn type_name(&self) -> &'static str {
        NAME
    }

    fn features(&self) -> u64 {
        STREAMS
    }

    fn queue_sizes(&self) -> Vec<u16> {
        vec![QUEUE_SIZE; 3]
    }

    fn handler(&self, index: u16) -> Box<dyn QueueHandler> {
        let inner = Arc::clone(&self.inner);
        match index {
            0 => Box::new(queues::ToDriver::new(inner)),
            1 => Box::new(queues::FromDriver::new(inner)),
            _ => Box::new(queues::Events::new(inner)),
        }
    }

    fn connect(&self, bells: Vec<Bell>) {
        // Connected once.
        let _ = self.inner.bells.set(bells);
        let inner = Arc::clone(&self.inner);
        let thread = std::thread::Builder::new().name("virtio-vsock".into());
        // Without a thread nobody comes.
        *lock(&self.thread) = thread.spawn(move || inner.watch()).ok();
    }

    fn read_config(&self, offset: u64, data: &mut [u8]) {
        let config = self.inner.cid.to_le_bytes();
        let from = usize::try_from(offset).ok().and_then(|at| config.get(at..)).unwrap_or_default();
        data.iter_mut().zip(from).for_each(|(to, from)| *to = *from);
    }

    fn reset(&self) {
        lock(&self.inner.hub).clear();
        self.inner.was_moved.store(false, Ordering::SeqCst);
    }

    fn counters(&self) -> Value {
        lock(&self.inner.hub).counters()
    }

    fn save(&self) -> Value {
        state::pack(VERSION, &Saved { cid: self.inner.cid })
    }

    fn load(&self, value: &Value) -> Result<(), StateError> {
        let saved: Saved = state::unpack(NAME, VERSION, value)?;
        if saved.cid != self.inner.cid {
            return Err(StateError::machine(NAME, format!("had cid={}", saved.cid)));
        }
        lock(&self.inner.hub).clear();
        self.inner.was_moved.store(true, Ordering::SeqCst);
        self.inner.ring(EVENTS);
        Ok(())
    }
}

impl Drop for VirtioVsock {
    fn drop(&mut self) {
        self.inner.ended.store(true, Ordering::SeqCst);
        self.inner.poller.wake();
        if let Some(thread) = lock(&self.thread).take() {
            // One that panicked has said so.
            let _ = thread.join();
        }
    }
}
