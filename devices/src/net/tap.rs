//! A tap device of the host: the guest's card is the other end of a network interface that the host's kernel has.
//!
//! The file is opened and set up by the program (system calls that this crate has no right to); frames carry the offload
//! header in both directions, so that the kernel on either side cuts and checksums only what has to be.

use std::fs::File;
use std::io::{self, Read, Write};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;

use super::poller::{Happened, Interest, Poller};
use super::{Accepts, Backend, Packet, Wake, offload};
use crate::lock;

/// Tells the host's kernel what the guest takes.
pub type SetOffload = Box<dyn Fn(Accepts) -> io::Result<()> + Send + Sync>;

/// A back end over a tap device.
pub struct Tap {
    shared: Arc<Shared>,
    set_offload: SetOffload,
    thread: std::sync::Mutex<Option<JoinHandle<()>>>,
}

struct Shared {
    file: File,
    poller: Poller,
    ended: AtomicBool,
    sent: AtomicU64,
    received: AtomicU64,
    lost: AtomicU64,
}

impl Tap {
    /// Over `file`: not blocking, with a header of 12 bytes on each frame.
    pub fn new(file: File, set_offload: SetOffload) -> io::Result<Tap> {
        let poller = Poller::new()?;
        poller.add(&file, 0, Interest::default())?;
        let zero = AtomicU64::default;
        let shared =
            Shared { file, poller, ended: AtomicBool::new(false), sent: zero(), received: zero(), lost: zero() };
        Ok(Tap { shared: Arc::new(shared), set_offload, thread: std::sync::Mutex::new(None) })
    }
}

impl Backend for Tap {
    fn connect(&self, wake: Wake) {
        let shared = Arc::clone(&self.shared);
        let body = move || {
            let mut happened: Vec<Happened> = Vec::new();
            while !shared.ended.load(Ordering::SeqCst) {
                if shared.poller.wait(None, &mut happened).is_err() {
                    return;
                }
                if !happened.is_empty() {
                    wake();
                }
            }
        };
        // Without a thread nothing comes in: as with a cable that is not plugged in.
        *lock(&self.thread) = std::thread::Builder::new().name("net-tap".into()).spawn(body).ok();
    }

    fn accepts(&self, accepts: Accepts) {
        // A host that refuses sends what the card then has to do by computation.
        let _ = (self.set_offload)(accepts);
    }

    fn send(&self, packet: &mut Packet) {
        let done = (&self.shared.file).write(packet.whole());
        let count = if done.is_ok() { &self.shared.sent } else { &self.shared.lost };
        count.fetch_add(1, Ordering::Relaxed);
    }

    fn receive(&self, packet: &mut Packet) -> bool {
        loop {
            match (&self.shared.file).read(packet.whole_room()) {
                Ok(len) => {
                    if packet.set_whole_len(len) && offload::is_sound(&packet.header(), packet.frame()) {
                        self.shared.received.fetch_add(1, Ordering::Relaxed);
                        return true;
                    }
                    self.shared.lost.fetch_add(1, Ordering::Relaxed);
                    if len == 0 {
                        return false;
                    }
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                // The kernel gave up on this one frame: it has no header for it. The next may be there already.
                Err(error) if error.kind() == io::ErrorKind::InvalidInput => {
                    self.shared.lost.fetch_add(1, Ordering::Relaxed);
                }
                Err(error) => {
                    if error.kind() == io::ErrorKind::WouldBlock {
                        // It was added once, and stays.
                        let _ = self.shared.poller.arm(&self.shared.file, 0, Interest { read: true, write: false });
                    }
                    return false;
                }
            }
        }
    }

    fn counters(&self) -> serde_json::Value {
        let count = |n: &AtomicU64| n.load(Ordering::Relaxed);
        let shared = &self.shared;
        serde_json::json!({ "sent": count(&shared.sent), "received": count(&shared.received), "lost": count(&shared.lost) })
    }
}

impl Drop for Tap {
    fn drop(&mut self) {
        self.shared.ended.store(true, Ordering::SeqCst);
        self.shared.poller.wake();
        if let Some(thread) = lock(&self.thread).take() {
            // One that panicked has said so.
            let _ = thread.join();
        }
    }
}
