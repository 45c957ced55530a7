//! One connection: a socket of the host, and what each side was told and owes.

use std::collections::VecDeque;
use std::os::fd::OwnedFd;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use rustix::net::{RecvFlags, SendFlags, Shutdown, recv, send, shutdown};

use super::packet::{HOST, Header, NO_RECEIVE, NO_SEND, STREAM, op};
use crate::net::poller::{Interest, Poller};

/// Bytes that are kept for a host that does not read; what the guest is told as the room for it.
pub(super) const ROOM: u32 = 128 << 10;
/// Longest first line of a host's connection, `CONNECT PORT`.
const LONGEST_LINE: usize = 32;
const BOTH: u32 = NO_RECEIVE | NO_SEND;

/// The two ends' ports.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct Ports {
    pub(super) host: u32,
    pub(super) guest: u32,
}

/// How far a connection has got.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Stage {
    /// The host has not said yet which port it wants.
    Greeting(Vec<u8>),
    /// The guest has not answered yet.
    Requested,
    /// Bytes go both ways.
    Open,
    /// The guest has forgotten it; the host gets what is left.
    Lingering,
}

/// What became of a first line.
pub(super) enum Line {
    Unfinished,
    Wrong,
    Port(u32),
}

pub(super) struct Connection {
    pub(super) socket: OwnedFd,
    pub(super) id: u64,
    pub(super) stage: Stage,
    pub(super) ports: Ports,
    /// It stands in the list of those that have something for the guest.
    pub(super) has_turn: bool,
    /// Ops that the guest is to get, a bit each, in the order of their numbers.
    wanted: u32,
    /// The socket may have something to read.
    readable: bool,
    /// The host sends no more.
    ended: bool,
    /// The host receives no more.
    deaf: bool,
    told_shutdown: u32,
    guest_shutdown: u32,
    /// Bytes sent to the guest, and what it says about its room.
    sent: u32,
    guest_room: u32,
    guest_forwarded: u32,
    asked_for_credit: bool,
    /// Bytes of the guest that the host has not taken yet.
    waiting: VecDeque<u8>,
    received: u32,
    forwarded: u32,
    told_forwarded: u32,
    /// What the poller was asked for and has not told yet.
    armed: Option<Interest>,
}

impl Connection {
    pub(super) fn new(socket: OwnedFd, id: u64, stage: Stage, ports: Ports) -> Connection {
        Connection {
            socket,
            id,
            stage,
            ports,
            has_turn: false,
            wanted: 0,
            readable: false,
            ended: false,
            deaf: false,
            told_shutdown: 0,
            guest_shutdown: 0,
            sent: 0,
            guest_room: 0,
            guest_forwarded: 0,
            asked_for_credit: false,
            waiting: VecDeque::new(),
            received: 0,
            forwarded: 0,
            told_forwarded: 0,
            armed: None,
        }
    }

    /// Reads the host's first line as far as it has come.
    pub(super) fn greet(&mut self) -> Line {
        let Stage::Greeting(line) = &mut self.stage else { return Line::Wrong };
        let mut bytes = [0; LONGEST_LINE];
        let seen = match recv(&self.socket, &mut bytes, RecvFlags::PEEK | RecvFlags::DONTWAIT) {
            Ok((_, seen @ 1..)) => seen,
            Err(Errno::AGAIN | Errno::INTR) => return Line::Unfinished,
            _ => return Line::Wrong,
        };
        let end = bytes.iter().take(seen).position(|&byte| byte == b'\n');
        let taken = end.map_or(seen, |end| end + 1);
        // What follows the line is for the guest.
        let Ok((_, count)) = recv(&self.socket, bytes.get_mut(..taken).unwrap_or_default(), RecvFlags::DONTWAIT) else {
            return Line::Wrong;
        };
        line.extend(bytes.iter().take(count));
        if line.len() > LONGEST_LINE {
            return Line::Wrong;
        }
        if end.is_none() {
            return Line::Unfinished;
        }
        let text = String::from_utf8_lossy(line);
        let port = text.trim_end().strip_prefix("CONNECT ").and_then(|port| port.parse().ok());
        port.map_or(Line::Wrong, Line::Port)
    }

    /// The guest has accepted: the host is told, and may send.
    pub(super) fn open(&mut self, greeting: Option<&str>) -> bool {
        self.stage = Stage::Open;
        self.readable = true;
        // The first bytes on a socket always find room.
        greeting.is_none_or(|text| {
            send(&self.socket, text.as_bytes(), SendFlags::NOSIGNAL | SendFlags::DONTWAIT) == Ok(text.len())
        })
    }

    /// The guest is to get a packet of this kind.
    pub(super) fn want(&mut self, op: u16) {
        self.wanted |= 1 << op;
    }

    /// Whether there is something for the guest, as far as is known.
    pub(super) fn has_something(&self) -> bool {
        self.wanted != 0 || self.may_send()
    }

    fn may_send(&self) -> bool {
        self.stage == Stage::Open && self.readable && !self.ended && self.credit() > 0 && !self.is_guest_deaf()
    }

    fn is_guest_deaf(&self) -> bool {
        self.guest_shutdown & NO_RECEIVE != 0
    }

    /// Bytes that the guest has room for.
    fn credit(&self) -> u32 {
        self.guest_room.saturating_sub(self.sent.wrapping_sub(self.guest_forwarded))
    }

    /// What the guest says about its room, which every packet does.
    pub(super) fn take_credit(&mut self, header: &Header) {
        (self.guest_room, self.guest_forwarded) = (header.buf_alloc, header.fwd_cnt);
        self.asked_for_credit &= self.credit() == 0;
    }

    /// The next packet for the guest; its data goes to the front of `buffer`.
    pub(super) fn next_packet(&mut self, cid: u64, buffer: &mut [u8]) -> Option<Header> {
        for op in [op::REQUEST, op::RESPONSE, op::CREDIT_REQUEST] {
            if self.takes(op) {
                return Some(self.packet(cid, op, 0));
            }
        }
        if self.may_send() {
            let room = usize::try_from(self.credit()).unwrap_or(usize::MAX).min(buffer.len());
            match recv(&self.socket, buffer.get_mut(..room).unwrap_or_default(), RecvFlags::DONTWAIT) {
                Ok((_, 0)) => self.end_of_host(),
                Ok((_, count)) => {
                    // At most the guest's room, a number of 32 bits.
                    self.sent = self.sent.wrapping_add(count as u32);
                    return Some(self.packet(cid, op::RW, count as u32));
                }
                Err(Errno::AGAIN | Errno::INTR) => self.readable = false,
                Err(_) => {
                    self.deaf = true;
                    self.end_of_host();
                }
            }
        } else if self.readable && self.credit() == 0 && !self.ended && !self.asked_for_credit && self.is_open() {
            self.asked_for_credit = true;
            return Some(self.packet(cid, op::CREDIT_REQUEST, 0));
        }
        if self.takes(op::SHUTDOWN) {
            let mut packet = self.packet(cid, op::SHUTDOWN, 0);
            packet.flags = if self.ended { NO_SEND } else { 0 } | if self.deaf { NO_RECEIVE } else { 0 };
            self.told_shutdown = packet.flags;
            return Some(packet);
        }
        self.takes(op::CREDIT_UPDATE).then(|| self.packet(cid, op::CREDIT_UPDATE, 0))
    }

    /// Whether the guest has heard of it, and not given it up.
    pub(super) fn is_known(&self) -> bool {
        match self.stage {
            Stage::Greeting(_) | Stage::Lingering => false,
            Stage::Requested => self.wanted >> op::REQUEST & 1 == 0,
            Stage::Open => true,
        }
    }

    pub(super) fn is_open(&self) -> bool {
        self.stage == Stage::Open
    }

    fn takes(&mut self, op: u16) -> bool {
        let wanted = self.wanted >> op & 1 != 0;
        self.wanted &= !(1 << op);
        wanted
    }

    fn packet(&mut self, cid: u64, op: u16, len: u32) -> Header {
        self.told_forwarded = self.forwarded;
        self.wanted &= !(1 << op::CREDIT_UPDATE);
        Header {
            src_cid: HOST,
            dst_cid: cid,
            src_port: self.ports.host,
            dst_port: self.ports.guest,
            len,
            kind: STREAM,
            op,
            flags: 0,
            buf_alloc: ROOM,
            fwd_cnt: self.forwarded,
        }
    }

    /// The host sends no more; perhaps it is gone altogether.
    fn end_of_host(&mut self) {
        self.ended = true;
        self.deaf |= self.is_gone();
        self.tell_shutdown();
    }

    fn tell_shutdown(&mut self) {
        let now = if self.ended { NO_SEND } else { 0 } | if self.deaf { NO_RECEIVE } else { 0 };
        if now != self.told_shutdown && self.is_open() {
            self.want(op::SHUTDOWN);
        }
    }

    /// Whether the other end of the socket is closed in both directions.
    pub(super) fn is_gone(&self) -> bool {
        let mut files = [PollFd::new(&self.socket, PollFlags::empty())];
        let now = Timespec { tv_sec: 0, tv_nsec: 0 };
        poll(&mut files, Some(&now)).is_ok() && files[0].revents().intersects(PollFlags::HUP | PollFlags::ERR)
    }

    /// Bytes of the guest. False if it was told that there is no room for them.
    pub(super) fn take(&mut self, data: &[u8]) -> bool {
        let held = self.received.wrapping_sub(self.forwarded);
        let allowed = u32::try_from(data.len()).is_ok_and(|len| ROOM.checked_sub(held).is_some_and(|room| len <= room));
        if !allowed || self.guest_shutdown & NO_SEND != 0 {
            return false;
        }
        self.received = self.received.wrapping_add(data.len() as u32);
        let done = if self.waiting.is_empty() { self.send(data) } else { 0 };
        self.waiting.extend(data.get(done..).unwrap_or_default());
        self.settle_credit();
        true
    }

    /// Gives the host bytes; the answer is how many are dealt with.
    fn send(&mut self, data: &[u8]) -> usize {
        let mut done = 0;
        while let Some(rest) = data.get(done..).filter(|rest| !rest.is_empty()) {
            if self.deaf {
                // Nobody is there to take them.
                done = data.len();
                break;
            }
            match send(&self.socket, rest, SendFlags::NOSIGNAL | SendFlags::DONTWAIT) {
                Ok(count) => done += count,
                Err(Errno::INTR) => {}
                Err(Errno::AGAIN) => break,
                Err(_) => {
                    self.deaf = true;
                    self.tell_shutdown();
                }
            }
        }
        self.forwarded = self.forwarded.wrapping_add(done as u32);
        done
    }

    /// The host may have room again.
    pub(super) fn flush(&mut self) {
        let mut waiting = std::mem::take(&mut self.waiting);
        let done = self.send(waiting.make_contiguous());
        waiting.drain(..done);
        if !waiting.is_empty() || waiting.capacity() <= ROOM as usize {
            self.waiting = waiting;
        }
        self.settle_credit();
    }

    /// The guest hears of room before it runs out of it.
    fn settle_credit(&mut self) {
        let seen_held = self.received.wrapping_sub(self.told_forwarded);
        if seen_held >= ROOM / 2 && self.forwarded != self.told_forwarded && self.is_open() {
            self.want(op::CREDIT_UPDATE);
        }
        if self.waiting.is_empty() && self.guest_shutdown & NO_SEND != 0 {
            // One that is gone has heard it.
            let _ = shutdown(&self.socket, Shutdown::Write);
        }
    }

    /// The guest closes directions.
    pub(super) fn guest_shuts_down(&mut self, flags: u32) {
        self.guest_shutdown |= flags & BOTH;
        self.settle_credit();
    }

    /// Whether nothing is left to be done for either side.
    pub(super) fn is_finished(&self) -> bool {
        let over = self.guest_shutdown == BOTH || self.stage == Stage::Lingering;
        over && (self.waiting.is_empty() || self.deaf)
    }

    /// Whether both sides have ended, so that it may go when there is need of its place.
    pub(super) fn is_done_with(&self) -> bool {
        (self.ended && self.deaf) || self.stage == Stage::Lingering
    }

    /// Whether the guest has closed both directions but the host has not got everything.
    pub(super) fn may_linger(&self) -> bool {
        self.guest_shutdown == BOTH && !self.waiting.is_empty() && !self.deaf
    }

    /// Something happened to the socket.
    pub(super) fn happened(&mut self, read: bool, write: bool) {
        self.armed = None;
        if write && !self.waiting.is_empty() {
            self.flush();
        }
        if read {
            self.readable = true;
            if self.ended && self.is_gone() {
                self.deaf = true;
                self.waiting.clear();
                self.tell_shutdown();
            }
        }
    }

    /// Bytes that wait for the host.
    pub(super) fn backlog(&self) -> usize {
        self.waiting.len()
    }

    /// Asks the poller for what it waits for. The end of the other side is always told, so nothing is asked for where that
    /// would be of no use.
    pub(super) fn arm(&mut self, poller: &Poller) {
        let greeting = matches!(self.stage, Stage::Greeting(_));
        let read = greeting || (self.is_open() && !self.readable && !self.ended);
        let want = Interest { read, write: !self.waiting.is_empty() && !self.deaf };
        let hears_end = self.stage == Stage::Requested || (self.ended && !self.deaf);
        if (want != Interest::default() || hears_end) && self.armed != Some(want) {
            self.armed = Some(want);
            // It was added when it came.
            let _ = poller.arm(&self.socket, self.id, want);
        }
    }
}
