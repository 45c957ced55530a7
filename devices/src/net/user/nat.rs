//! The network behind the card: takes the guest's frames, makes frames for it, and keeps the flows between.
//!
//! One lock is around all of it. The card's transmit worker brings frames in, its receive worker takes frames out, and a
//! thread of its own brings what the host's sockets report; none of them waits while it has the lock.

use std::collections::{HashMap, VecDeque};
use std::net::{IpAddr, SocketAddr};
use std::os::fd::OwnedFd;
use std::sync::Arc;

use rustix::net::{SocketFlags, accept_with, getpeername};

use super::addresses::{self, GATEWAY_MAC, GATEWAY4};
use super::datagrams::{self, Datagram, Got, Via};
use super::flows::{self, TcpFlow};
use super::fragments::{Assembly, Cut, identification};
use super::icmp::{self, Unreachable};
use super::resolver::Resolver;
use super::table::{Ends, Key, Kind, Table};
use super::tcp::Connection;
#[cfg(test)]
use super::tcp::Phase;
use super::{Forward, UserConfig, dhcp, host, neighbours};
use crate::net::offload::checksum;
use crate::net::packet::{NEEDS_CSUM, Packet};
use crate::net::poller::{Happened, Interest, Poller};
use crate::net::wire::{self, EtherType, Ip, Mac, Tcp, Udp, protocol, tcp_flag};

/// Most TCP connections.
const MOST_TCP: usize = 4096;
/// Most flows of datagrams.
const MOST_DATAGRAMS: usize = 1024;
/// Most frames that wait for the guest and belong to no flow.
const MOST_FRAMES: usize = 256;
/// Most addresses whose cards are known.
const MOST_CARDS: usize = 64;
/// Connections that one event of a listening socket takes.
const MOST_ACCEPTED: usize = 16;
/// Milliseconds between two looks at all flows: with something due, and without.
const SOON: u64 = 100;
const LATER: u64 = 5000;
/// Milliseconds of silence after which a connection is given up: one that one side has ended, one that is in the way of
/// a new one.
const CLOSING: u64 = 600_000;
const IN_THE_WAY: u64 = 300_000;

/// What happened so far, for reports.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Counters {
    pub(super) from_guest: u64,
    pub(super) to_guest: u64,
    /// Frames that were no packets, or not from the guest's addresses.
    pub(super) refused: u64,
    /// Places that the guest may not reach.
    pub(super) forbidden: u64,
    pub(super) connections: u64,
    /// New flows for which there was no room.
    pub(super) full: u64,
}

/// The network.
pub(super) struct Nat {
    config: UserConfig,
    poller: Arc<Poller>,
    tcp: Table<TcpFlow>,
    datagrams: Table<Datagram>,
    /// Listening sockets, in the order of the configuration.
    listeners: Vec<OwnedFd>,
    /// Flows and forwarded ports that may have something for the guest.
    ready: VecDeque<Key>,
    /// Frames for the guest that belong to no flow.
    frames: VecDeque<Vec<u8>>,
    cut: Option<Cut>,
    assembly: Assembly,
    cards: HashMap<IpAddr, Mac>,
    resolver: Resolver,
    may_ping: bool,
    pub(super) counters: Counters,
    next_look: u64,
    next_id: u64,
}

impl Nat {
    /// With listening sockets for the forwarded ports of `config`, in their order.
    pub(super) fn new(config: UserConfig, listeners: Vec<OwnedFd>, poller: Arc<Poller>) -> std::io::Result<Nat> {
        for (index, listener) in listeners.iter().enumerate() {
            poller.add(listener, Key::forward(index).to_bits(), Interest { read: true, write: false })?;
        }
        let resolver = Resolver::new(config.resolv_conf.clone());
        Ok(Nat {
            config,
            poller,
            tcp: Table::new(Kind::Tcp, MOST_TCP),
            datagrams: Table::new(Kind::Datagram, MOST_DATAGRAMS),
            listeners,
            ready: VecDeque::with_capacity(64),
            frames: VecDeque::new(),
            cut: None,
            assembly: Assembly::default(),
            cards: HashMap::new(),
            resolver,
            may_ping: host::may_ping(),
            counters: Counters::default(),
            next_look: 0,
            next_id: 1,
        })
    }

    /// Flows at this moment: TCP, datagrams.
    pub(super) fn flows(&self) -> (usize, usize) {
        (self.tcp.len(), self.datagrams.len())
    }

    /// Whether [`next_frame`](Self::next_frame) may have a frame.
    pub(super) fn has_work(&self) -> bool {
        !self.ready.is_empty() || !self.frames.is_empty() || self.cut.is_some()
    }

    /// Forgets all flows: the guest was reset.
    pub(super) fn clear(&mut self) {
        self.tcp.clear();
        self.datagrams.clear();
        self.assembly.clear();
        // Forwarded ports are not flows: what waits at them still does.
        self.ready.retain(|key| key.kind == Kind::Forward);
        self.frames.clear();
        self.cut = None;
    }

    fn post(&mut self, frame: Vec<u8>) {
        if self.frames.len() < MOST_FRAMES {
            self.frames.push_back(frame);
        }
    }

    fn list(&mut self, key: Key) {
        let listed = match key.kind {
            Kind::Tcp => self.tcp.get_mut(key).map(|(_, flow)| &mut flow.listed),
            Kind::Datagram => self.datagrams.get_mut(key).map(|(_, flow)| &mut flow.listed),
            Kind::Forward => None,
        };
        match listed {
            Some(true) => {}
            Some(listed) => {
                *listed = true;
                self.ready.push_back(key);
            }
            None if key.kind == Kind::Forward && !self.ready.contains(&key) => self.ready.push_back(key),
            None => {}
        }
    }

    // ---- from the guest ----

    /// Takes a frame of the guest.
    pub(super) fn take_frame(&mut self, packet: &Packet, now: u64) {
        self.counters.from_guest += 1;
        if self.try_take(packet, now).is_none() {
            self.counters.refused += 1;
        }
    }

    fn try_take(&mut self, packet: &Packet, now: u64) -> Option<()> {
        let frame = packet.frame();
        let (to, from) = wire::macs(frame)?;
        let (kind, at) = wire::ethertype(frame)?;
        if !from.is_unicast() || (to != GATEWAY_MAC && to.is_unicast()) {
            return None;
        }
        if kind == EtherType::Arp {
            let (sender, mac, reply) = neighbours::arp(frame, at)?;
            self.learn(sender.into(), mac);
            if let Some(reply) = reply {
                self.post(reply);
            }
            return Some(());
        }
        let ip = Ip::parse(kind, frame.get(at..)?)?;
        let trusted = packet.header().flags & NEEDS_CSUM != 0;
        match ip.fragment {
            Some(piece) => {
                let whole = self.assembly.take(&ip, piece, now);
                match whole {
                    Some(payload) => self.take_ip(&Ip { payload: &payload, fragment: None, ..ip }, from, false, now),
                    None => Some(()),
                }
            }
            None => self.take_ip(&ip, from, trusted, now),
        }
    }

    /// Remembers which card has an address of the guest's.
    fn learn(&mut self, address: IpAddr, mac: Mac) {
        if addresses::is_guest(address) && (self.cards.len() < MOST_CARDS || self.cards.contains_key(&address)) {
            self.cards.insert(address, mac);
        }
    }

    fn card(&self, address: IpAddr) -> Mac {
        self.cards.get(&address).copied().unwrap_or(self.config.mac)
    }

    fn take_ip(&mut self, ip: &Ip<'_>, from: Mac, trusted: bool, now: u64) -> Option<()> {
        let before = if ip.protocol == protocol::ICMP { 0 } else { ip.pseudo(ip.payload.len()) };
        let known = matches!(ip.protocol, protocol::TCP | protocol::UDP | protocol::ICMP | protocol::ICMPV6);
        let no_checksum = ip.protocol == protocol::UDP && ip.source.is_ipv4() && wire::be16(ip.payload, 6)? == 0;
        if !known || (!trusted && !no_checksum && checksum(ip.payload, before) != 0) {
            return None;
        }
        if ip.protocol == protocol::ICMPV6
            && let Some(answer) = neighbours::discovery(ip, from, self.config.mtu)
        {
            self.post(answer);
            return Some(());
        }
        if ip.protocol == protocol::UDP && ip.source.is_ipv4() {
            let udp = Udp::parse(ip.payload)?;
            if (udp.source, udp.destination) == (dhcp::CLIENT_PORT, dhcp::SERVER_PORT) {
                return self.take_dhcp(&udp, from, now);
            }
        }
        // Nobody but the guest itself speaks on this cable.
        if !addresses::is_guest(ip.source) || ip.source.is_ipv4() != ip.destination.is_ipv4() {
            return None;
        }
        self.learn(ip.source, from);
        if ip.destination.is_multicast() || ip.destination == IpAddr::V4(addresses::BROADCAST4) {
            return Some(());
        }
        match ip.protocol {
            protocol::TCP => self.take_tcp(ip, &Tcp::parse(ip.payload)?, from, now),
            protocol::UDP => self.take_udp(ip, &Udp::parse(ip.payload)?, from, now),
            _ => self.take_echo(ip, from, now),
        }
    }

    fn take_dhcp(&mut self, udp: &Udp<'_>, from: Mac, now: u64) -> Option<()> {
        let settings = dhcp::Settings { mtu: self.config.mtu, search: self.resolver.search(now) };
        let answer = dhcp::answer(udp.data, &settings)?;
        let mut packet = vec![0; wire::headers_len(GATEWAY4.into()) + 8 + answer.message.len()];
        let to_mac = if answer.to.is_broadcast() { Mac::BROADCAST } else { from };
        let ends = wire::Ends { to_mac, from_mac: GATEWAY_MAC, source: GATEWAY4.into(), destination: answer.to.into() };
        let len = answer.message.len() + 8;
        wire::write_ip_into(&mut packet, &ends, protocol::UDP, 64, len, None);
        let at = wire::headers_len(ends.destination);
        // Without a checksum, which IPv4 allows.
        for (place, value) in [(0, dhcp::SERVER_PORT), (2, dhcp::CLIENT_PORT), (4, len as u16)] {
            wire::put(&mut packet, at + place, &value.to_be_bytes());
        }
        wire::put(&mut packet, at + 8, &answer.message);
        self.post(packet);
        Some(())
    }

    /// Where on the host's side the guest's packet to `remote` goes.
    fn target(&mut self, remote: SocketAddr, now: u64) -> Option<SocketAddr> {
        if addresses::is_dns(remote.ip()) {
            let server = self.config.dns.unwrap_or_else(|| self.resolver.server(now));
            return (remote.port() == 53).then_some(server);
        }
        let target = addresses::reachable(remote.ip(), self.config.allow_host);
        if target.is_none() {
            self.counters.forbidden += 1;
        }
        target.map(|ip| SocketAddr::new(ip, remote.port()))
    }

    /// Tells the guest that its packet was not delivered.
    fn refuse(&mut self, to: IpAddr, mac: Mac, original: &[u8], why: Unreachable) {
        let frame = icmp::unreachable(addresses::gateway_for(to), mac, to, original, why);
        self.post(frame);
    }

    fn take_tcp(&mut self, ip: &Ip<'_>, tcp: &Tcp<'_>, from: Mac, now: u64) -> Option<()> {
        let ends = Ends {
            guest: SocketAddr::new(ip.source, tcp.source),
            remote: SocketAddr::new(ip.destination, tcp.destination),
            protocol: protocol::TCP,
        };
        let key = match self.tcp.find(&ends) {
            Some(key) => key,
            None if tcp.flags & (tcp_flag::SYN | tcp_flag::ACK | tcp_flag::RST) == tcp_flag::SYN => {
                match self.begin(&ends, tcp, from, now) {
                    Some(key) => key,
                    None => return self.reset(&ends, tcp, from),
                }
            }
            None => return self.reset(&ends, tcp, from),
        };
        if let Some((_, flow)) = self.tcp.get_mut(key) {
            flow.take_from_guest(tcp, from, now);
            flow.arm(&self.poller);
            if flow.is_over() {
                self.end(key);
            } else {
                self.list(key);
            }
        }
        Some(())
    }

    fn reset(&mut self, ends: &Ends, tcp: &Tcp<'_>, mac: Mac) -> Option<()> {
        if tcp.has(tcp_flag::RST) {
            return Some(());
        }
        let segment = flows::reset_for(tcp, tcp.data.len());
        let to =
            wire::Ends { to_mac: mac, from_mac: GATEWAY_MAC, source: ends.remote.ip(), destination: ends.guest.ip() };
        let at = wire::headers_len(to.destination);
        let mut frame = vec![0; at + 20];
        wire::write_ip_into(&mut frame, &to, protocol::TCP, 64, 20, None);
        flows::write_tcp(&mut frame, at, ends, &segment);
        let before = wire::pseudo(to.source, to.destination, protocol::TCP, 20);
        let value = checksum(frame.get(at..)?, before);
        wire::put(&mut frame, at + 16, &value.to_be_bytes());
        self.post(frame);
        Some(())
    }

    /// What a segment to us may have.
    fn our_mss(&self, address: IpAddr) -> u16 {
        self.config.mtu.saturating_sub(if address.is_ipv4() { 40 } else { 60 })
    }

    /// The guest asks for a connection.
    fn begin(&mut self, ends: &Ends, syn: &Tcp<'_>, mac: Mac, now: u64) -> Option<Key> {
        let target = self.target(ends.remote, now)?;
        self.make_room(now);
        let connection = Connection::asked(syn, random()?, self.our_mss(ends.guest.ip()));
        let poller = &self.poller;
        let key = self.tcp.insert(*ends, |key| {
            let (socket, connected) = host::connect_tcp(target).ok()?;
            poller.add(&socket, key.to_bits(), Interest::default()).ok()?;
            let mut connection = connection;
            if connected {
                connection.answer();
            }
            Some(TcpFlow::new(connection, socket, connected, key, mac, now))
        });
        self.look_within(LATER, now);
        match key {
            Some(_) => self.counters.connections += 1,
            None if self.tcp.is_full() => self.counters.full += 1,
            None => {}
        }
        key
    }

    /// In a full table a connection that has long been silent gives way.
    fn make_room(&mut self, now: u64) {
        if self.tcp.is_full() {
            let silent = self.tcp.iter_mut().min_by_key(|(_, flow)| flow.last).map(|(key, flow)| (key, flow.last));
            if let Some((key, _)) = silent.filter(|(_, last)| now > last + IN_THE_WAY) {
                self.end(key);
            }
        }
    }

    fn end(&mut self, key: Key) {
        if let Some(flow) = self.tcp.remove(key) {
            flow.close();
        }
    }

    fn take_udp(&mut self, ip: &Ip<'_>, udp: &Udp<'_>, from: Mac, now: u64) -> Option<()> {
        let ends = Ends {
            guest: SocketAddr::new(ip.source, udp.source),
            remote: SocketAddr::new(ip.destination, udp.destination),
            protocol: protocol::UDP,
        };
        self.send_datagram(&ends, udp.data, ip.whole, from, now)
    }

    fn take_echo(&mut self, ip: &Ip<'_>, from: Mac, now: u64) -> Option<()> {
        // Other messages are errors about what the guest got, or nobody's.
        let Some(id) = icmp::echo_request(ip) else { return Some(()) };
        if addresses::is_ours(ip.destination) {
            let reply = icmp::echo_reply(ip, from);
            if reply.len() <= usize::from(self.config.mtu) + wire::ETHERNET {
                self.post(reply);
            } else {
                self.post_cut(&reply, ip, from);
            }
            return Some(());
        }
        if !self.may_ping {
            self.refuse(ip.source, from, ip.whole, Unreachable::Prohibited);
            return Some(());
        }
        let ends = Ends {
            guest: SocketAddr::new(ip.source, id),
            remote: SocketAddr::new(ip.destination, 0),
            protocol: ip.protocol,
        };
        self.send_datagram(&ends, ip.payload, ip.whole, from, now)
    }

    /// Sends a reply that is longer than the MTU in pieces.
    fn post_cut(&mut self, reply: &[u8], ip: &Ip<'_>, to_mac: Mac) {
        let ends = wire::Ends { to_mac, from_mac: GATEWAY_MAC, source: ip.destination, destination: ip.source };
        let mut packet = Packet::new();
        packet.copy_from(reply);
        let mut cut = Cut::new(&mut packet, ends, ip.protocol, self.identification(), self.config.mtu.into());
        while cut.next(&mut packet) {
            self.post(packet.frame().to_vec());
        }
    }

    fn identification(&mut self) -> u32 {
        self.next_id += 1;
        identification(self.next_id)
    }

    fn send_datagram(&mut self, ends: &Ends, data: &[u8], original: &[u8], mac: Mac, now: u64) -> Option<()> {
        let key = match self.datagrams.find(ends) {
            Some(key) => key,
            None => match self.begin_datagrams(ends, mac, now) {
                Ok(key) => key,
                Err(why) => {
                    self.refuse(ends.guest.ip(), mac, original, why);
                    return Some(());
                }
            },
        };
        let (_, flow) = self.datagrams.get_mut(key)?;
        flow.mac = mac;
        let refused = flow.take_from_guest(data, &self.listeners, now);
        flow.arm(&self.poller);
        if refused {
            if flow.question {
                self.resolver.failed();
            }
            self.refuse(ends.guest.ip(), mac, original, Unreachable::Port);
        }
        self.list(key);
        Some(())
    }

    fn begin_datagrams(&mut self, ends: &Ends, mac: Mac, now: u64) -> Result<Key, Unreachable> {
        let target = self.target(ends.remote, now).ok_or(Unreachable::Prohibited)?;
        let question = addresses::is_dns(ends.remote.ip());
        if self.datagrams.is_full() {
            let oldest = self.datagrams.iter_mut().min_by_key(|(_, flow)| flow.last).map(|(key, _)| key);
            oldest.map(|key| self.datagrams.remove(key));
            self.counters.full += 1;
        }
        let poller = &self.poller;
        let key = self.datagrams.insert(*ends, |key| {
            let socket = host::connect_datagram(target, ends.protocol).ok()?;
            poller.add(&socket, key.to_bits(), Interest::default()).ok()?;
            Some(Datagram::new(Via::Own(socket), key, mac, question, now))
        });
        self.look_within(LATER, now);
        key.ok_or(Unreachable::Host)
    }

    // ---- to the guest ----

    /// Fills `packet` with the next frame for the guest; false if there is none now.
    pub(super) fn next_frame(&mut self, packet: &mut Packet, now: u64) -> bool {
        let there = self.try_next(packet, now);
        self.counters.to_guest += u64::from(there);
        there
    }

    fn try_next(&mut self, packet: &mut Packet, now: u64) -> bool {
        if let Some(cut) = &mut self.cut {
            if cut.next(packet) {
                return true;
            }
            self.cut = None;
        }
        if let Some(frame) = self.frames.pop_front() {
            packet.copy_from(&frame);
            return true;
        }
        while let Some(key) = self.ready.pop_front() {
            let there = match key.kind {
                Kind::Tcp => self.next_of_tcp(key, packet, now),
                Kind::Datagram => self.next_of_datagrams(key, packet, now),
                Kind::Forward => self.next_of_forward(key, packet, now),
            };
            if there {
                return true;
            }
            // An error message may have come of it.
            if let Some(frame) = self.frames.pop_front() {
                packet.copy_from(&frame);
                return true;
            }
        }
        false
    }

    fn next_of_tcp(&mut self, key: Key, packet: &mut Packet, now: u64) -> bool {
        let Some((ends, flow)) = self.tcp.get_mut(key) else { return false };
        flow.listed = false;
        let there = flow.emit(ends, packet, now);
        let again = flow.wants_to_emit();
        let due = flow.connection.due().is_some();
        if flow.is_over() {
            self.end(key);
            return there;
        }
        flow.arm(&self.poller);
        if there && again {
            self.list(key);
        }
        if due {
            self.look_within(SOON, now);
        }
        there
    }

    fn next_of_datagrams(&mut self, key: Key, packet: &mut Packet, now: u64) -> bool {
        let Some((ends, flow)) = self.datagrams.get_mut(key) else { return false };
        flow.listed = false;
        let ends = *ends;
        let offset = datagrams::data_offset(ends.guest.ip(), ends.protocol);
        let got = flow.receive(packet, offset, now);
        let (mac, question) = (flow.mac, flow.question);
        flow.arm(&self.poller);
        if flow.has_more() {
            self.list(key);
        }
        match got {
            Got::Data(len) => self.give_datagram(packet, &ends, mac, len),
            Got::Refused => {
                if question {
                    self.resolver.failed();
                }
                let original = datagrams::quoted(&ends, &[]);
                self.refuse(ends.guest.ip(), mac, &original, Unreachable::Port);
                false
            }
            Got::Nothing => false,
        }
    }

    /// Finishes a datagram whose data are in their place.
    fn give_datagram(&mut self, packet: &mut Packet, ends: &Ends, mac: Mac, len: usize) -> bool {
        if ends.protocol != protocol::UDP {
            let at = datagrams::data_offset(ends.guest.ip(), ends.protocol);
            let message = packet.room().get(at..at + len).unwrap_or_default();
            if !datagrams::is_echo_reply(message, ends.protocol) {
                return false;
            }
        }
        let to = datagrams::write_headers(packet, ends, mac, len);
        let mtu = usize::from(self.config.mtu);
        if packet.frame().len() <= mtu + wire::ETHERNET {
            return true;
        }
        let id = self.identification();
        let mut cut = Cut::new(packet, to, ends.protocol, id, mtu);
        let there = cut.next(packet);
        self.cut = Some(cut);
        there
    }

    fn forward(&self, key: Key) -> Option<(&Forward, &OwnedFd)> {
        Some((self.config.forwards.get(key.index())?, self.listeners.get(key.index())?))
    }

    /// A datagram that came in by a forwarded port.
    fn next_of_forward(&mut self, key: Key, packet: &mut Packet, now: u64) -> bool {
        let Some((forward, listener)) = self.forward(key) else { return false };
        let guest = forward.guest;
        let offset = datagrams::data_offset(guest.ip(), protocol::UDP);
        let Some((len, peer)) = datagrams::receive_from(listener, packet, offset) else {
            // It was added at the start, and stays.
            let _ = self.poller.arm(listener, key.to_bits(), Interest { read: true, write: false });
            return false;
        };
        self.ready.push_back(key);
        let remote = SocketAddr::new(seen_as(peer.ip(), guest.ip()), peer.port());
        let ends = Ends { guest, remote, protocol: protocol::UDP };
        let mac = self.card(guest.ip());
        let flow = self.datagrams.find(&ends).or_else(|| {
            let via = Via::Forward(key.index(), peer);
            self.datagrams.insert(ends, |key| Some(Datagram::new(via, key, mac, false, now)))
        });
        match flow.and_then(|key| self.datagrams.get_mut(key)) {
            Some((_, flow)) => {
                flow.last = now;
                self.look_within(LATER, now);
                self.give_datagram(packet, &ends, mac, len)
            }
            None => {
                self.counters.full += 1;
                false
            }
        }
    }

    // ---- from the host ----

    /// Takes what the host's sockets report.
    pub(super) fn take_event(&mut self, event: Happened, now: u64) {
        let Some(key) = Key::from_bits(event.key) else { return };
        match key.kind {
            Kind::Tcp => {
                if let Some((_, flow)) = self.tcp.get_mut(key) {
                    flow.take_from_host(event.read, event.write, now);
                    flow.arm(&self.poller);
                    self.list(key);
                }
            }
            Kind::Datagram => {
                if let Some((_, flow)) = self.datagrams.get_mut(key) {
                    flow.take_from_host();
                    self.list(key);
                }
            }
            Kind::Forward if self.forward(key).is_some_and(|(forward, _)| forward.tcp) => self.accept(key, now),
            Kind::Forward => self.list(key),
        }
    }

    /// Connections to a forwarded port.
    fn accept(&mut self, key: Key, now: u64) {
        for _ in 0..MOST_ACCEPTED {
            let Some((forward, listener)) = self.forward(key) else { return };
            let guest = forward.guest;
            let Ok(socket) = accept_with(listener, SocketFlags::CLOEXEC | SocketFlags::NONBLOCK) else { break };
            let peer = getpeername(&socket).ok().flatten().and_then(|peer| SocketAddr::try_from(peer).ok());
            let (Some(peer), Some(iss)) = (peer, random()) else { continue };
            host::tune(&socket);
            let remote = SocketAddr::new(seen_as(peer.ip(), guest.ip()), peer.port());
            let ends = Ends { guest, remote, protocol: protocol::TCP };
            self.make_room(now);
            let connection = Connection::asking(iss, self.our_mss(guest.ip()));
            let (poller, mac) = (&self.poller, self.card(guest.ip()));
            // A connection that cannot be taken is closed.
            let made = self.tcp.insert(ends, |key| {
                poller.add(&socket, key.to_bits(), Interest::default()).ok()?;
                Some(TcpFlow::new(connection, socket, true, key, mac, now))
            });
            match made {
                Some(key) => {
                    self.counters.connections += 1;
                    self.look_within(LATER, now);
                    self.list(key);
                }
                None => self.counters.full += 1,
            }
        }
        if let Some((_, listener)) = self.forward(key) {
            // It was added at the start, and stays.
            let _ = self.poller.arm(listener, key.to_bits(), Interest { read: true, write: false });
        }
    }

    // ---- time ----

    /// The thread that waits is to look at the flows within `limit` milliseconds, or a little later.
    fn look_within(&mut self, limit: u64, now: u64) {
        if self.next_look > now + limit + SOON {
            self.next_look = now + limit;
            self.poller.wake();
        }
    }

    /// How long the thread may wait for events, milliseconds; `None`: until there are some.
    pub(super) fn patience(&mut self, now: u64) -> Option<u64> {
        if self.tcp.len() == 0 && self.datagrams.len() == 0 {
            self.next_look = u64::MAX;
            return None;
        }
        Some(self.next_look.saturating_sub(now).max(1))
    }

    /// Time has passed: sends again what is due, forgets what is stale.
    pub(super) fn on_time(&mut self, now: u64) {
        if now < self.next_look {
            return;
        }
        let (mut over, mut due, mut soon) = (Vec::new(), Vec::new(), false);
        for (key, flow) in self.tcp.iter_mut() {
            flow.connection.on_time(now);
            if flow.connection.wants_to_emit() {
                due.push(key);
            }
            soon |= flow.connection.due().is_some();
            if flow.is_over() || (flow.is_closing() && now > flow.last + CLOSING) {
                over.push(key);
            }
        }
        due.into_iter().for_each(|key| self.list(key));
        over.into_iter().for_each(|key| self.end(key));
        let stale = |(key, flow): (Key, &mut Datagram)| flow.is_stale(now).then_some(key);
        let stale: Vec<Key> = self.datagrams.iter_mut().filter_map(stale).collect();
        stale.into_iter().for_each(|key| drop(self.datagrams.remove(key)));
        self.next_look = now + if soon { SOON } else { LATER };
    }

    /// Whether every connection that is not open yet or not any more is one of the guest's.
    #[cfg(test)]
    pub(super) fn phases(&mut self) -> Vec<Phase> {
        self.tcp.iter_mut().map(|(_, flow)| flow.connection.phase).collect()
    }
}

/// The address by which a guest with `guest` knows a peer: those of the host itself, and of the other version of IP, are
/// the gateway.
fn seen_as(peer: IpAddr, guest: IpAddr) -> IpAddr {
    let other_version = peer.is_ipv4() != guest.is_ipv4();
    if peer.is_loopback() || peer.is_unspecified() || other_version || addresses::is_guest(peer) {
        addresses::gateway_for(guest)
    } else {
        peer
    }
}

/// A number that nobody can foresee.
fn random() -> Option<u32> {
    let mut bytes = [0; 4];
    let filled = rustix::rand::getrandom(&mut bytes[..], rustix::rand::GetRandomFlags::empty()).ok()?;
    (filled == bytes.len()).then(|| u32::from_ne_bytes(bytes))
}
