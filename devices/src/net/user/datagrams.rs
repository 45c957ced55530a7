//! UDP and echo requests: a socket of the host for each pair of ends, or the forwarded port that they came in by.

use std::net::{IpAddr, SocketAddr};
use std::os::fd::OwnedFd;

use rustix::io::Errno;
use rustix::net::{RecvFlags, SendFlags, recv, recvfrom, send, sendto};

use super::addresses::GATEWAY_MAC;
use super::icmp;
use super::table::{Ends, Key};
use crate::net::offload::checksum;
use crate::net::packet::Packet;
use crate::net::poller::{Interest, Poller};
use crate::net::wire::{self, Mac, protocol, pseudo};

/// Milliseconds of silence after which a flow is forgotten: a question to a name server, one that was not answered,
/// any other.
const QUESTION: u64 = 20_000;
const UNANSWERED: u64 = 30_000;
const SILENCE: u64 = 180_000;

/// By which socket a flow reaches the host.
pub(super) enum Via {
    /// Its own.
    Own(OwnedFd),
    /// A forwarded port's, to this place.
    Forward(usize, SocketAddr),
}

/// One flow.
pub(super) struct Datagram {
    pub(super) via: Via,
    pub(super) mac: Mac,
    key: Key,
    pub(super) listed: bool,
    readable: bool,
    armed: bool,
    answered: bool,
    /// It goes to a name server.
    pub(super) question: bool,
    pub(super) last: u64,
}

/// What a flow had for the guest.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Got {
    /// A datagram of this many bytes, in its place in the packet.
    Data(usize),
    /// The host says that nobody listens there.
    Refused,
    /// Nothing now.
    Nothing,
}

impl Datagram {
    pub(super) fn new(via: Via, key: Key, mac: Mac, question: bool, now: u64) -> Datagram {
        Datagram { via, mac, key, listed: false, readable: true, armed: false, answered: false, question, last: now }
    }

    /// Waits for an answer.
    pub(super) fn arm(&mut self, poller: &Poller) {
        if let Via::Own(socket) = &self.via
            && !self.readable
            && !self.armed
        {
            // It was added when the flow was made.
            self.armed = poller.arm(socket, self.key.to_bits(), Interest { read: true, write: false }).is_ok();
        }
    }

    /// Something came from the host.
    pub(super) fn take_from_host(&mut self) {
        self.armed = false;
        self.readable = true;
    }

    /// Whether it is to be forgotten.
    pub(super) fn is_stale(&self, now: u64) -> bool {
        let limit = match (self.question, self.answered) {
            (true, _) => QUESTION,
            (_, false) => UNANSWERED,
            _ => SILENCE,
        };
        now > self.last + limit
    }

    /// Sends the guest's data; what the host does not take is lost, as datagrams are. Says whether nobody listens.
    pub(super) fn take_from_guest(&mut self, data: &[u8], forwards: &[OwnedFd], now: u64) -> bool {
        self.last = now;
        let flags = SendFlags::NOSIGNAL | SendFlags::DONTWAIT;
        let sent = match &self.via {
            Via::Own(socket) => send(socket, data, flags),
            Via::Forward(index, peer) => match forwards.get(*index) {
                Some(socket) => sendto(socket, data, flags, peer),
                None => Ok(0),
            },
        };
        sent == Err(Errno::CONNREFUSED)
    }

    /// Takes the next datagram of an own socket into `packet`, `offset` bytes behind its beginning.
    pub(super) fn receive(&mut self, packet: &mut Packet, offset: usize, now: u64) -> Got {
        let Via::Own(socket) = &self.via else { return Got::Nothing };
        if !self.readable {
            return Got::Nothing;
        }
        let room = packet.room().get_mut(offset..).unwrap_or_default();
        match recv(socket, room, RecvFlags::DONTWAIT) {
            Ok((_, len)) => {
                (self.answered, self.last) = (true, now);
                Got::Data(len)
            }
            Err(Errno::CONNREFUSED) => Got::Refused,
            // Nothing, or an error that the host had about something sent earlier.
            Err(_) => {
                self.readable = false;
                Got::Nothing
            }
        }
    }

    pub(super) fn has_more(&self) -> bool {
        // What comes in by a forwarded port is found there.
        self.readable && matches!(self.via, Via::Own(_))
    }
}

/// Takes a datagram that came in by a forwarded port.
pub(super) fn receive_from(socket: &OwnedFd, packet: &mut Packet, offset: usize) -> Option<(usize, SocketAddr)> {
    let room = packet.room().get_mut(offset..).unwrap_or_default();
    loop {
        match recvfrom(socket, &mut *room, RecvFlags::DONTWAIT) {
            Ok((_, len, Some(from))) => return Some((len, SocketAddr::try_from(from).ok()?)),
            Err(Errno::INTR | Errno::CONNREFUSED) => {}
            _ => return None,
        }
    }
}

/// Where the data of a flow are in a frame to the guest.
pub(super) fn data_offset(guest: IpAddr, number: u8) -> usize {
    wire::headers_len(guest) + if number == protocol::UDP { 8 } else { 0 }
}

/// Writes the headers in front of `len` bytes of data that are in their place.
pub(super) fn write_headers(packet: &mut Packet, ends: &Ends, mac: Mac, len: usize) -> wire::Ends {
    let to = wire::Ends { to_mac: mac, from_mac: GATEWAY_MAC, source: ends.remote.ip(), destination: ends.guest.ip() };
    if ends.protocol == protocol::UDP {
        let at = wire::write_ip(packet, &to, protocol::UDP, 64, len + 8);
        let mut header = [0; 8];
        header[0..2].copy_from_slice(&ends.remote.port().to_be_bytes());
        header[2..4].copy_from_slice(&ends.guest.port().to_be_bytes());
        header[4..6].copy_from_slice(&((len + 8).min(65535) as u16).to_be_bytes());
        wire::put(packet.frame_mut(), at, &header);
        wire::leave_checksum(packet, &to, protocol::UDP, at, 6);
    } else {
        let at = wire::write_ip(packet, &to, ends.protocol, 64, len);
        let before =
            if ends.protocol == protocol::ICMPV6 { pseudo(to.source, to.destination, ends.protocol, len) } else { 0 };
        let frame = packet.frame_mut();
        // The host's kernel chose an identifier of its own.
        wire::put(frame, at + 4, &ends.guest.port().to_be_bytes());
        wire::put(frame, at + 2, &[0, 0]);
        let value = checksum(frame.get(at..).unwrap_or_default(), before);
        wire::put(frame, at + 2, &value.to_be_bytes());
    }
    to
}

/// Whether a message that came from a ping socket is an echo reply.
pub(super) fn is_echo_reply(message: &[u8], number: u8) -> bool {
    let wanted = if number == protocol::ICMP { icmp::ECHO_REPLY } else { icmp::ECHO_REPLY6 };
    message.len() >= 8 && message.first() == Some(&wanted)
}

/// The packet that the guest sent, as far as an error message has to quote it.
pub(super) fn quoted(ends: &Ends, data: &[u8]) -> Vec<u8> {
    let from = wire::Ends {
        to_mac: GATEWAY_MAC,
        from_mac: Mac::default(),
        source: ends.guest.ip(),
        destination: ends.remote.ip(),
    };
    let len = data.len() + 8;
    let mut frame = vec![0; wire::headers_len(from.destination) + len];
    wire::write_ip_into(&mut frame, &from, ends.protocol, 64, len, None);
    let at = wire::headers_len(from.destination);
    wire::put(&mut frame, at, &ends.guest.port().to_be_bytes());
    wire::put(&mut frame, at + 2, &ends.remote.port().to_be_bytes());
    wire::put(&mut frame, at + 4, &(len.min(65535) as u16).to_be_bytes());
    wire::put(&mut frame, at + 8, data);
    frame.split_off(wire::ETHERNET)
}
