//! Networks of the host as a guest's network card sees them: frames out, frames in.
//!
//! A [`Backend`] is one end of a cable. The card ([`crate::virtio::VirtioNet`]) calls it from the worker threads of its
//! two queues; a back end that has to wait for the host does so on a thread of its own ([`poller::Poller`]) and then
//! wakes the card. Frames carry the offload header of virtio-net ([`packet`]), so that a back end that understands it
//! can hand over 64 KiB at once; [`offload`] does by computation what the other side does not accept.

pub mod offload;
pub mod packet;
pub mod pcap;
pub mod poller;
pub mod socket;
pub mod tap;
pub mod user;
pub mod wire;

use std::sync::Arc;

pub use packet::Packet;

/// Tells the card that [`Backend::receive`] may have a frame.
pub type Wake = Arc<dyn Fn() + Send + Sync>;

/// What the card's driver takes in frames that come to it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Accepts {
    /// Frames whose transport checksum is not complete.
    pub checksum: bool,
    /// TCP over IPv4 in more than one segment.
    pub tso4: bool,
    /// TCP over IPv6 in more than one segment.
    pub tso6: bool,
    /// TCP with the ECN bits of a first segment.
    pub ecn: bool,
}

/// One end of a cable.
pub trait Backend: Send + Sync {
    /// Takes the means to wake the card; called once, before any frame.
    fn connect(&self, wake: Wake);
    /// The driver says what it takes. A back end may go by it or not: the card computes what is missing.
    fn accepts(&self, accepts: Accepts) {
        let _ = accepts;
    }
    /// Takes a frame from the guest. What cannot be delivered is lost, as on a cable. May change the packet.
    fn send(&self, packet: &mut Packet);
    /// Fills `packet` with the next frame for the guest. False if there is none now: the card is woken when there is.
    fn receive(&self, packet: &mut Packet) -> bool;
    /// The guest was reset, and knows nothing of what was before.
    fn reset(&self) {}
    /// Counters for reports.
    fn counters(&self) -> serde_json::Value {
        serde_json::Value::Null
    }
}
