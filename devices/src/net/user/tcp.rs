//! The guest's side of a TCP connection (RFC 9293) as a machine of its own: segments in, segments out, bytes in two
//! queues between. It knows no socket and no clock.
//!
//! The cable to the guest loses only what the guest's own kernel drops: a lost segment is rare, so everything from the
//! lost one on is sent again, and segments ahead of a gap are not kept.

use super::ring::Ring;
use crate::net::wire::{Tcp, tcp_flag as flag};

/// Bytes for each direction to begin with: what a window without scaling holds.
pub(super) const FIRST_LIMIT: usize = 64 << 10;
/// Bytes for each direction of a connection that carries much.
pub(super) const MOST: usize = 512 << 10;
/// Our window scale.
const SCALE: u8 = 5;
/// First time until a segment is sent again, milliseconds; doubles each time.
const RETRANSMIT: u64 = 300;
/// Longest time until a segment is sent again.
const MOST_RETRANSMIT: u64 = 30_000;
/// How often a segment is sent again before the connection is given up.
const PATIENCE: u32 = 9;

/// How far the beginning of a connection got.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Phase {
    /// The guest asked for a connection; the host has not made it yet.
    Asked,
    /// The host has it: the guest is answered.
    Answering,
    /// The guest is asked.
    Asking,
    /// Both know of it.
    Open,
    /// Over: by a reset, or in vain.
    Dead,
}

/// A segment to be sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Segment {
    pub(super) seq: u32,
    pub(super) ack: u32,
    pub(super) flags: u8,
    pub(super) window: u16,
    /// For a segment with SYN: maximum segment size and window scale.
    pub(super) options: Option<(u16, Option<u8>)>,
    /// Where its data begin in [`Connection::outgoing`], and how many they are.
    pub(super) data: (usize, usize),
}

/// One connection.
#[derive(Debug)]
pub(super) struct Connection {
    pub(super) phase: Phase,
    /// From the host to the guest; the first byte has the number `una`.
    pub(super) outgoing: Ring,
    /// From the guest to the host.
    pub(super) incoming: Ring,
    /// The host sends no more.
    pub(super) host_fin: bool,
    /// The guest sends no more.
    pub(super) guest_fin: bool,
    /// Our FIN was acknowledged.
    fin_acked: bool,
    /// The host's end of the connection was reset: so is the guest's.
    reset: bool,
    iss: u32,
    una: u32,
    next: u32,
    /// The greatest `next` so far.
    most: u32,
    window: u32,
    scale: u8,
    scaling: bool,
    mss: u16,
    our_mss: u16,
    expected: u32,
    /// The end of the window that the guest was told.
    edge: u32,
    ack_now: bool,
    duplicates: u8,
    probe: bool,
    due: Option<u64>,
    tries: u32,
}

fn after(a: u32, b: u32) -> bool {
    (a.wrapping_sub(b) as i32) > 0
}

impl Connection {
    fn new(phase: Phase, iss: u32, our_mss: u16) -> Connection {
        Connection {
            phase,
            outgoing: Ring::new(FIRST_LIMIT),
            incoming: Ring::new(FIRST_LIMIT),
            host_fin: false,
            guest_fin: false,
            fin_acked: false,
            reset: false,
            iss,
            una: iss,
            next: iss,
            most: iss,
            window: 0,
            scale: 0,
            scaling: false,
            mss: 536,
            our_mss,
            expected: 0,
            edge: 0,
            ack_now: false,
            duplicates: 0,
            probe: false,
            due: None,
            tries: 0,
        }
    }

    /// The guest asks with `syn`. `iss` is our first number, `our_mss` what a segment to us may have.
    pub(super) fn asked(syn: &Tcp<'_>, iss: u32, our_mss: u16) -> Connection {
        let mut connection = Connection::new(Phase::Asked, iss, our_mss);
        connection.take_options(syn);
        connection
    }

    /// The guest is to be asked.
    pub(super) fn asking(iss: u32, our_mss: u16) -> Connection {
        let mut connection = Connection::new(Phase::Asking, iss, our_mss);
        connection.scaling = true;
        connection
    }

    fn take_options(&mut self, syn: &Tcp<'_>) {
        let (mss, scale) = syn.syn_options();
        self.mss = mss.unwrap_or(536).clamp(64, self.our_mss.max(64));
        self.scaling = scale.is_some();
        self.scale = scale.unwrap_or(0);
        self.expected = syn.seq.wrapping_add(1);
        self.edge = self.expected;
        self.window = syn.window.into();
    }

    /// Data in a segment to the guest.
    pub(super) fn mss(&self) -> usize {
        self.mss.into()
    }

    /// The host has made the connection that the guest asked for.
    pub(super) fn answer(&mut self) {
        if self.phase == Phase::Asked {
            self.phase = Phase::Answering;
        }
    }

    /// The host's end is gone.
    pub(super) fn reset(&mut self) {
        self.reset = true;
    }

    /// Nothing will come or go any more.
    pub(super) fn is_over(&self) -> bool {
        self.phase == Phase::Dead || (self.guest_fin && self.incoming.is_empty() && self.fin_acked && !self.ack_now)
    }

    /// When [`on_time`](Self::on_time) is to be called, in milliseconds of the caller's clock.
    pub(super) fn due(&self) -> Option<u64> {
        self.due
    }

    /// The connection carries much: lets more be under way.
    pub(super) fn widen(&mut self, limit: usize) {
        self.outgoing.set_limit(limit);
        if self.scaling {
            self.incoming.set_limit(limit);
        }
    }

    /// Numbers that were sent and not acknowledged.
    fn sent(&self) -> usize {
        self.next.wrapping_sub(self.una) as usize
    }

    /// Takes a segment of the guest. The answer is the part of its data that is new, in order and in the window; the
    /// caller has to put it into `incoming` or to deliver it.
    pub(super) fn take<'a>(&mut self, tcp: &Tcp<'a>) -> &'a [u8] {
        if tcp.has(flag::RST) {
            let expected = match self.phase {
                Phase::Asking => tcp.has(flag::ACK) && tcp.ack == self.most,
                _ => tcp.seq == self.expected,
            };
            if expected {
                self.phase = Phase::Dead;
            } else {
                // RFC 5961: who sent it is asked.
                self.ack_now = self.phase == Phase::Open;
            }
            return &[];
        }
        match self.phase {
            // A SYN again, or data before there is a connection: the answer comes when the host has one.
            Phase::Asked | Phase::Dead => return &[],
            Phase::Asking => {
                self.take_answer(tcp);
                return &[];
            }
            Phase::Answering if tcp.has(flag::SYN) => {
                self.next = self.una;
                return &[];
            }
            Phase::Answering | Phase::Open => {}
        }
        if tcp.has(flag::SYN) || !tcp.has(flag::ACK) {
            self.ack_now = true;
            return &[];
        }
        if after(tcp.ack, self.most) {
            self.ack_now = true;
            return &[];
        }
        if self.phase == Phase::Answering {
            if tcp.ack != self.iss.wrapping_add(1) {
                return &[];
            }
            self.phase = Phase::Open;
            self.una = tcp.ack;
            self.acknowledged();
        }
        self.take_ack(tcp);
        self.take_data(tcp)
    }

    /// The guest's answer to our SYN.
    fn take_answer(&mut self, tcp: &Tcp<'_>) {
        if !tcp.has(flag::SYN) || !tcp.has(flag::ACK) || tcp.ack != self.iss.wrapping_add(1) || self.most == self.iss {
            return;
        }
        self.take_options(tcp);
        self.phase = Phase::Open;
        self.una = tcp.ack;
        self.acknowledged();
        self.ack_now = true;
    }

    /// Something new was acknowledged.
    fn acknowledged(&mut self) {
        if after(self.una, self.next) {
            self.next = self.una;
        }
        self.tries = 0;
        self.duplicates = 0;
        self.due = None;
    }

    fn take_ack(&mut self, tcp: &Tcp<'_>) {
        let window = u32::from(tcp.window) << if self.scaling { self.scale } else { 0 };
        let count = tcp.ack.wrapping_sub(self.una) as usize;
        if after(self.una, tcp.ack) {
            return;
        }
        if count > 0 {
            // `ack` is at most `most`: beyond the data it can only be the FIN.
            self.fin_acked |= self.host_fin && count > self.outgoing.len();
            self.outgoing.consume(count);
            self.una = tcp.ack;
            self.acknowledged();
        } else if tcp.data.is_empty() && window == self.window && self.most != self.una && !tcp.has(flag::FIN) {
            self.duplicates = self.duplicates.saturating_add(1);
            if self.duplicates == 3 {
                self.next = self.una;
            }
        }
        if window == 0 {
            // Who answers that there is no room may take as long as it likes.
            self.tries = self.tries.min(6);
        }
        self.window = window;
    }

    fn take_data<'a>(&mut self, tcp: &Tcp<'a>) -> &'a [u8] {
        let skip = self.expected.wrapping_sub(tcp.seq);
        let fin = usize::from(tcp.has(flag::FIN));
        if tcp.data.is_empty() && fin == 0 {
            // A question whether we are still there has an old number.
            self.ack_now |= tcp.seq != self.expected;
            return &[];
        }
        self.ack_now = true;
        if after(tcp.seq, self.expected) || skip as usize > tcp.data.len() || self.guest_fin {
            return &[];
        }
        let new = tcp.data.get(skip as usize..).unwrap_or_default();
        let taken = new.get(..new.len().min(self.incoming.free())).unwrap_or_default();
        self.expected = self.expected.wrapping_add(taken.len() as u32);
        if fin == 1 && taken.len() == new.len() {
            self.guest_fin = true;
            self.expected = self.expected.wrapping_add(1);
        }
        taken
    }

    /// The host took bytes from `incoming`: the guest may have to be told of a wider window.
    pub(super) fn drained(&mut self) {
        let told = self.edge.wrapping_sub(self.expected) as usize;
        let step = (self.incoming.limit() / 4).min(2 * usize::from(self.our_mss));
        if self.phase == Phase::Open && !self.guest_fin && self.incoming.free() >= told.saturating_add(step) {
            self.ack_now = true;
        }
    }

    /// Whether [`emit`](Self::emit) may have something.
    pub(super) fn wants_to_emit(&self) -> bool {
        self.reset || self.ack_now || self.probe || (self.phase != Phase::Asked && self.plan(usize::MAX).is_some())
    }

    /// The next segment with at most `most` bytes of data; `None` if there is nothing to be said.
    pub(super) fn emit(&mut self, now: u64, most: usize) -> Option<Segment> {
        if self.reset {
            let asked = self.phase == Phase::Asked;
            let was_dead = self.phase == Phase::Dead;
            self.phase = Phase::Dead;
            self.reset = false;
            let flags = flag::RST | flag::ACK;
            return (!was_dead).then(|| self.segment(if asked { 0 } else { self.next }, flags, (0, 0)));
        }
        match self.phase {
            Phase::Asked | Phase::Dead => None,
            Phase::Answering | Phase::Asking => self.emit_syn(now),
            Phase::Open => self.emit_open(now, most),
        }
    }

    fn emit_syn(&mut self, now: u64) -> Option<Segment> {
        if self.next != self.iss {
            return None;
        }
        self.sending(now, 1);
        let flags = if self.phase == Phase::Asking { flag::SYN } else { flag::SYN | flag::ACK };
        let mut segment = self.segment(self.iss, flags, (0, 0));
        // The window of a SYN is not scaled.
        segment.window = self.incoming.free().min(65535) as u16;
        segment.options = Some((self.our_mss, self.scaling.then_some(SCALE)));
        Some(segment)
    }

    /// What can be sent: where its data begin, how many they are, and whether a FIN follows. `None`: nothing.
    fn plan(&self, most: usize) -> Option<(usize, usize, bool)> {
        if self.phase != Phase::Open {
            return (self.next == self.iss && matches!(self.phase, Phase::Answering | Phase::Asking))
                .then_some((0, 0, false));
        }
        let sent = self.sent();
        let left = self.outgoing.len().saturating_sub(sent);
        let room = (self.window as usize).saturating_sub(sent);
        let mut count = left.min(room).min(most);
        if self.probe && count == 0 {
            count = left.min(1);
        }
        // A window that is nearly closed is not filled with crumbs while an acknowledgement is to come.
        if count < left && count < self.mss() && sent > 0 && count < most {
            count = 0;
        }
        let fin = self.host_fin && !self.fin_acked && sent + count == self.outgoing.len();
        (count > 0 || fin).then_some((sent, count, fin))
    }

    fn emit_open(&mut self, now: u64, most: usize) -> Option<Segment> {
        let planned = self.plan(most);
        self.probe = false;
        let Some((at, count, fin)) = planned else {
            self.watch_window(now);
            if !self.ack_now {
                return None;
            }
            // Not a number that was sent and rolled back: the guest would take it for an old segment.
            let seq = self.most;
            return Some(self.segment(seq, flag::ACK, (0, 0)));
        };
        let mut flags = flag::ACK;
        if at + count == self.outgoing.len() {
            flags |= flag::PSH;
        }
        if fin {
            flags |= flag::FIN;
        }
        let seq = self.next;
        self.sending(now, count as u32 + u32::from(fin));
        Some(self.segment(seq, flags, (at, count)))
    }

    /// A window that stays closed is asked for now and then.
    fn watch_window(&mut self, now: u64) {
        if self.due.is_none() && self.outgoing.len() > self.sent() {
            self.due = Some(now + self.patience());
        }
    }

    fn patience(&self) -> u64 {
        (RETRANSMIT << self.tries.min(10)).min(MOST_RETRANSMIT)
    }

    /// `count` numbers go out.
    fn sending(&mut self, now: u64, count: u32) {
        self.next = self.next.wrapping_add(count);
        if after(self.next, self.most) {
            self.most = self.next;
        }
        let due = now + self.patience();
        self.due.get_or_insert(due);
    }

    fn segment(&mut self, seq: u32, flags: u8, data: (usize, usize)) -> Segment {
        let scale = if self.scaling { SCALE } else { 0 };
        let window = (self.incoming.free() >> scale).min(65535);
        let syn = flags & flag::SYN != 0;
        let edge = self.expected.wrapping_add((window << scale) as u32);
        if after(edge, self.edge) && !syn {
            self.edge = edge;
        }
        self.ack_now = false;
        let ack = if flags & flag::ACK != 0 { self.expected } else { 0 };
        Segment { seq, ack, flags, window: window as u16, options: None, data }
    }

    /// Time has passed: what is due is sent again.
    pub(super) fn on_time(&mut self, now: u64) {
        if self.due.is_none_or(|due| due > now) {
            return;
        }
        self.due = None;
        self.tries += 1;
        if self.tries > PATIENCE {
            self.reset = true;
            return;
        }
        self.probe = self.phase == Phase::Open && self.window as usize <= self.sent();
        self.next = self.una;
    }
}

#[cfg(test)]
mod tests;
