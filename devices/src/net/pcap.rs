//! What goes over a cable, as a capture file that Wireshark and tcpdump read.
//!
//! Frames are as the card has them: segments that are cut later appear whole, with checksums still to be computed.

use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::path::Path;
use std::sync::Mutex;
use std::time::{SystemTime, UNIX_EPOCH};

use super::packet::MAX_FRAME;
use super::{Accepts, Backend, Packet, Wake};
use crate::lock;

/// pcap with nanoseconds, in the writer's order of bytes: little-endian here.
const MAGIC: u32 = 0xa1b2_3c4d;
/// LINKTYPE_ETHERNET.
const ETHERNET: u32 = 1;

/// A capture file.
pub struct Capture(Mutex<BufWriter<File>>);

impl Capture {
    /// Makes the file, or empties it.
    pub fn create(path: &Path) -> io::Result<Capture> {
        let mut out = BufWriter::with_capacity(256 << 10, File::create(path)?);
        for word in [MAGIC, 4 << 16 | 2, 0, 0, MAX_FRAME as u32, ETHERNET] {
            out.write_all(&word.to_le_bytes())?;
        }
        out.flush()?;
        Ok(Capture(Mutex::new(out)))
    }

    /// Adds a frame. A disk that is full loses frames, not the guest's connection.
    fn add(&self, frame: &[u8]) {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let len = frame.len() as u32;
        let mut head = [0; 16];
        for (to, word) in head.chunks_exact_mut(4).zip([now.as_secs() as u32, now.subsec_nanos(), len, len]) {
            to.copy_from_slice(&word.to_le_bytes());
        }
        let mut out = lock(&self.0);
        let _ = out.write_all(&head).and_then(|()| out.write_all(frame));
    }

    fn flush(&self) {
        // See `add`.
        let _ = lock(&self.0).flush();
    }
}

/// A back end whose frames are captured.
pub struct Captured<B: ?Sized> {
    capture: Capture,
    inner: Box<B>,
}

impl<B: Backend + ?Sized> Captured<B> {
    /// Captures what goes to and comes from `inner`.
    pub fn new(capture: Capture, inner: Box<B>) -> Captured<B> {
        Captured { capture, inner }
    }
}

impl<B: Backend + ?Sized> Backend for Captured<B> {
    fn connect(&self, wake: Wake) {
        self.inner.connect(wake);
    }
    fn accepts(&self, accepts: Accepts) {
        self.inner.accepts(accepts);
    }
    fn send(&self, packet: &mut Packet) {
        self.capture.add(packet.frame());
        self.inner.send(packet);
    }
    fn receive(&self, packet: &mut Packet) -> bool {
        let there = self.inner.receive(packet);
        if there {
            self.capture.add(packet.frame());
        } else {
            // Nothing more for now: what was seen so far can be looked at.
            self.capture.flush();
        }
        there
    }
    fn reset(&self) {
        self.inner.reset();
    }
    fn counters(&self) -> serde_json::Value {
        self.inner.counters()
    }
}

impl Drop for Capture {
    fn drop(&mut self) {
        self.flush();
    }
}
