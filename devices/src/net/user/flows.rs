//! TCP connections between the guest's side ([`Connection`]) and a socket of the host.

use std::os::fd::OwnedFd;

use rustix::io::Errno;
use rustix::net::{RecvFlags, SendFlags, Shutdown, recv, send, shutdown, sockopt};

use super::addresses::GATEWAY_MAC;
use super::host;
use super::table::{Ends, Key};
use super::tcp::{Connection, MOST, Phase, Segment};
use crate::net::packet::{GSO_TCPV4, GSO_TCPV6, Packet};
use crate::net::poller::{Interest, Poller};
use crate::net::wire::{self, Mac, Tcp, protocol, tcp_flag};

/// Bytes after which a connection gets wider queues.
const MUCH: u64 = 128 << 10;
/// Most data in one packet to the guest: the longest IP packet less the longest headers.
const MOST_DATA: usize = 65535 - 60 - 20;

/// One connection.
pub(super) struct TcpFlow {
    pub(super) connection: Connection,
    socket: OwnedFd,
    key: Key,
    mac: Mac,
    /// The host has made the connection.
    connected: bool,
    readable: bool,
    writable: bool,
    /// The host's half was closed after the guest's.
    shut: bool,
    armed: Interest,
    /// It is in the list of those that may have a segment.
    pub(super) listed: bool,
    moved: u64,
    wide: bool,
    /// When something last came from either side, milliseconds.
    pub(super) last: u64,
}

impl TcpFlow {
    /// A flow over `socket`, which `poller` has under `key` and reports nothing of.
    pub(super) fn new(
        connection: Connection,
        socket: OwnedFd,
        connected: bool,
        key: Key,
        mac: Mac,
        now: u64,
    ) -> TcpFlow {
        TcpFlow {
            connection,
            socket,
            key,
            mac,
            connected,
            readable: connected,
            writable: connected,
            shut: false,
            armed: Interest::default(),
            listed: false,
            moved: 0,
            wide: false,
            last: now,
        }
    }

    /// Waits for what the flow cannot go on without.
    pub(super) fn arm(&mut self, poller: &Poller) {
        let wants = Interest {
            read: self.connected && !self.readable && !self.connection.host_fin,
            write: !self.connected || (!self.writable && !self.connection.incoming.is_empty()),
        };
        let more = (wants.read && !self.armed.read) || (wants.write && !self.armed.write);
        if more {
            self.armed = wants;
            if poller.arm(&self.socket, self.key.to_bits(), wants).is_err() {
                // Never happens to a file that was added; the connection could not go on.
                self.connection.reset();
            }
        }
    }

    /// Takes a segment of the guest.
    pub(super) fn take_from_guest(&mut self, tcp: &Tcp<'_>, mac: Mac, now: u64) {
        (self.last, self.mac) = (now, mac);
        let data = self.connection.take(tcp);
        if !data.is_empty() {
            let sent = if self.connection.incoming.is_empty() { self.send(data) } else { 0 };
            // As much as the connection gave out fits.
            self.connection.incoming.push(data.get(sent..).unwrap_or_default());
            self.has_moved(data.len());
        }
        self.finish_writing();
    }

    /// Gives bytes to the host; the answer is how many it took.
    fn send(&mut self, data: &[u8]) -> usize {
        if !self.writable {
            return 0;
        }
        let done = send(&self.socket, data, SendFlags::NOSIGNAL | SendFlags::DONTWAIT);
        self.sent(done, data.len())
    }

    fn sent(&mut self, done: Result<usize, Errno>, wanted: usize) -> usize {
        match done {
            Ok(count) => {
                self.writable = count == wanted;
                count
            }
            Err(Errno::AGAIN | Errno::INTR) => {
                self.writable = false;
                0
            }
            Err(_) => {
                self.writable = false;
                self.connection.reset();
                0
            }
        }
    }

    fn has_moved(&mut self, count: usize) {
        self.moved += count as u64;
        if self.moved > MUCH && !self.wide {
            self.wide = true;
            self.connection.widen(MOST);
        }
    }

    /// After everything the guest's end is the host's.
    fn finish_writing(&mut self) {
        if self.connection.guest_fin && self.connection.incoming.is_empty() && !self.shut && self.connected {
            self.shut = true;
            // A connection that is gone needs none.
            let _ = shutdown(&self.socket, Shutdown::Write);
        }
    }

    /// Something happened to the socket.
    pub(super) fn take_from_host(&mut self, read: bool, write: bool, now: u64) {
        self.armed = Interest::default();
        if !self.connected {
            return self.finish_connecting(now);
        }
        self.last = now;
        self.readable |= read;
        if write {
            self.writable = true;
            self.drain();
        }
    }

    fn finish_connecting(&mut self, now: u64) {
        match sockopt::socket_error(&self.socket) {
            Ok(Ok(())) => {
                (self.connected, self.readable, self.writable, self.last) = (true, true, true, now);
                self.connection.answer();
            }
            _ => self.connection.reset(),
        }
    }

    /// Gives the host what waits for it.
    fn drain(&mut self) {
        while self.writable {
            let (first, _) = self.connection.incoming.parts();
            if first.is_empty() {
                break;
            }
            let wanted = first.len();
            let done = send(&self.socket, first, SendFlags::NOSIGNAL | SendFlags::DONTWAIT);
            let count = self.sent(done, wanted);
            self.connection.incoming.consume(count);
        }
        self.connection.drained();
        self.finish_writing();
    }

    /// Reads from the host as much as there is room for in one piece.
    fn read(&mut self) {
        if !self.readable || self.connection.host_fin || self.connection.outgoing.free() == 0 {
            return;
        }
        let socket = &self.socket;
        let mut asked = 0;
        let done = self.connection.outgoing.fill(|room| {
            asked = room.len();
            Ok(recv(socket, room, RecvFlags::DONTWAIT).map(|(count, _)| count)?)
        });
        match done {
            Ok(0) => {
                self.connection.host_fin = true;
                self.readable = false;
            }
            Ok(count) => {
                // Less than there was room for: there is no more now.
                self.readable = count == asked;
                self.has_moved(count);
            }
            Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => self.readable = false,
            Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
            Err(_) => self.connection.reset(),
        }
    }

    /// Puts the next segment for the guest into `packet`; false if there is none. Reads from the host when there is
    /// nothing else.
    pub(super) fn emit(&mut self, ends: &Ends, packet: &mut Packet, now: u64) -> bool {
        self.read();
        let mss = self.connection.mss();
        let most = (MOST_DATA / mss).max(1) * mss;
        match self.connection.emit(now, most) {
            Some(segment) => {
                self.write(ends, &segment, packet);
                true
            }
            None => false,
        }
    }

    /// Whether [`emit`](Self::emit) may have something.
    pub(super) fn wants_to_emit(&self) -> bool {
        self.connection.wants_to_emit()
            || (self.readable && !self.connection.host_fin && self.connection.outgoing.free() > 0)
    }

    fn write(&self, ends: &Ends, segment: &Segment, packet: &mut Packet) {
        let to = wire::Ends {
            to_mac: self.mac,
            from_mac: GATEWAY_MAC,
            source: ends.remote.ip(),
            destination: ends.guest.ip(),
        };
        let (at, count) = segment.data;
        let header_len = header_len(segment);
        let start = wire::write_ip(packet, &to, protocol::TCP, 64, header_len + count);
        let out = packet.frame_mut();
        write_tcp(out, start, ends, segment);
        if let Some(room) = out.get_mut(start + header_len..) {
            self.connection.outgoing.peek(at, room);
        }
        wire::leave_checksum(packet, &to, protocol::TCP, start, 16);
        if count > self.connection.mss() {
            let mut header = packet.header();
            header.gso_type = if to.destination.is_ipv4() { GSO_TCPV4 } else { GSO_TCPV6 };
            header.gso_size = self.connection.mss() as u16;
            header.hdr_len = (start + header_len) as u16;
            packet.set_header(header);
        }
    }

    /// Nothing more will happen, and the socket can go.
    pub(super) fn is_over(&self) -> bool {
        self.connection.is_over()
    }

    /// The guest's end was reset, or given up: so is the host's.
    pub(super) fn close(self) {
        if self.connection.phase == Phase::Dead {
            host::reset_on_close(&self.socket);
        }
    }

    /// Whether either side has ended its half.
    pub(super) fn is_closing(&self) -> bool {
        self.connection.host_fin || self.connection.guest_fin
    }
}

fn header_len(segment: &Segment) -> usize {
    match segment.options {
        Some((_, Some(_))) => 28,
        Some((_, None)) => 24,
        None => 20,
    }
}

/// Writes the TCP header at `start`.
pub(super) fn write_tcp(out: &mut [u8], start: usize, ends: &Ends, segment: &Segment) {
    let mut header = [0; 28];
    let len = header_len(segment);
    header[0..2].copy_from_slice(&ends.remote.port().to_be_bytes());
    header[2..4].copy_from_slice(&ends.guest.port().to_be_bytes());
    header[4..8].copy_from_slice(&segment.seq.to_be_bytes());
    header[8..12].copy_from_slice(&segment.ack.to_be_bytes());
    header[12] = ((len / 4) as u8) << 4;
    header[13] = segment.flags;
    header[14..16].copy_from_slice(&segment.window.to_be_bytes());
    if let Some((mss, scale)) = segment.options {
        let [high, low] = mss.to_be_bytes();
        header[20..24].copy_from_slice(&[2, 4, high, low]);
        header[24..28].copy_from_slice(&[3, 3, scale.unwrap_or(0), 0]);
    }
    wire::put(out, start, header.get(..len).unwrap_or_default());
}

/// The reset that answers a segment of no connection (RFC 9293 section 3.10.7.1).
pub(super) fn reset_for(tcp: &Tcp<'_>, len: usize) -> Segment {
    let fin_and_syn = u32::from(tcp.has(tcp_flag::SYN)) + u32::from(tcp.has(tcp_flag::FIN));
    let (seq, ack, flags) = if tcp.has(tcp_flag::ACK) {
        (tcp.ack, 0, tcp_flag::RST)
    } else {
        (0, tcp.seq.wrapping_add(len as u32).wrapping_add(fin_and_syn), tcp_flag::RST | tcp_flag::ACK)
    };
    Segment { seq, ack, flags, window: 0, options: None, data: (0, 0) }
}
