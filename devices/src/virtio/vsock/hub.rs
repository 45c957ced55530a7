//! All connections of a device: which there are, whose turn it is, what becomes of the guest's packets.

use std::collections::{HashMap, VecDeque};
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use super::connection::{Connection, Line, Ports, Stage};
use super::packet::{HOST, Header, STREAM, op};
use crate::net::poller::{Interest, Poller};
use crate::unix::{self, Listener};

/// Most connections at a time.
pub(super) const MOST_CONNECTIONS: usize = 1024;
/// Most refusals that wait for the guest to make room for them.
const MOST_REFUSALS: usize = 2048;
/// Key of the listening socket.
pub(super) const LISTENER: u64 = 0;
/// The first of the ports that connections of the host come from.
const FIRST_PORT: u32 = 1 << 30;
/// How many of them there are.
const PORTS: u32 = 1 << 30;

#[derive(Default)]
struct Counters {
    opened_by_guest: u64,
    opened_by_host: u64,
    refused: u64,
    reset: u64,
    dropped: u64,
    to_guest: u64,
    from_guest: u64,
}

pub(super) struct Hub {
    cid: u64,
    path: PathBuf,
    connections: HashMap<u64, Connection>,
    by_ports: HashMap<Ports, u64>,
    /// Connections that have something for the guest, each once.
    turns: VecDeque<u64>,
    refusals: VecDeque<Header>,
    next_id: u64,
    next_port: u32,
    counters: Counters,
}

impl Hub {
    pub(super) fn new(cid: u64, path: &Path) -> Hub {
        Hub {
            cid,
            path: path.to_owned(),
            connections: HashMap::new(),
            by_ports: HashMap::new(),
            turns: VecDeque::new(),
            refusals: VecDeque::new(),
            next_id: LISTENER + 1,
            next_port: 0,
            counters: Counters::default(),
        }
    }

    /// Forgets everything: the host's ends are closed.
    pub(super) fn clear(&mut self) {
        self.connections.clear();
        self.by_ports.clear();
        self.turns.clear();
        self.refusals.clear();
    }

    pub(super) fn counters(&self) -> Value {
        let count = &self.counters;
        json!({
            "connections": self.connections.len(),
            "opened_by_guest": count.opened_by_guest,
            "opened_by_host": count.opened_by_host,
            "refused": count.refused,
            "reset": count.reset,
            "dropped_packets": count.dropped,
            "bytes_to_guest": count.to_guest,
            "bytes_from_guest": count.from_guest,
            "bytes_waiting": self.connections.values().map(Connection::backlog).sum::<usize>(),
        })
    }

    /// Whether the guest is to get something, as far as is known.
    pub(super) fn has_packets(&self) -> bool {
        !self.turns.is_empty() || !self.refusals.is_empty()
    }

    /// Takes in who came to the listening socket.
    pub(super) fn accept(&mut self, listener: &Listener, poller: &Poller) {
        while let Some(socket) = listener.accept() {
            if self.make_room() {
                let nowhere = Ports { host: 0, guest: 0 };
                self.insert(socket, Stage::Greeting(Vec::new()), nowhere, poller);
            } else {
                self.counters.refused += 1;
            }
        }
        // It was added once, and stays.
        let _ = poller.arm(listener, LISTENER, Interest { read: true, write: false });
    }

    /// Whether one more connection finds a place; one that both sides have left gives way.
    fn make_room(&mut self) -> bool {
        if self.connections.len() >= MOST_CONNECTIONS {
            let done = self.connections.values().find(|one| one.is_done_with()).map(|one| one.id);
            done.into_iter().for_each(|id| self.reset(id));
        }
        self.connections.len() < MOST_CONNECTIONS
    }

    fn insert(&mut self, socket: OwnedFd, stage: Stage, ports: Ports, poller: &Poller) -> Option<u64> {
        let id = self.next_id;
        self.next_id += 1;
        poller.add(&socket, id, Interest::default()).ok()?;
        let mut connection = Connection::new(socket, id, stage, ports);
        connection.arm(poller);
        self.connections.insert(id, connection);
        Some(id)
    }

    /// A connection is no more, on both sides.
    fn remove(&mut self, id: u64) -> Option<Connection> {
        let gone = self.connections.remove(&id)?;
        if self.by_ports.get(&gone.ports) == Some(&id) {
            self.by_ports.remove(&gone.ports);
        }
        Some(gone)
    }

    /// Ends a connection; the guest is told if it knows it.
    fn reset(&mut self, id: u64) {
        if let Some(gone) = self.remove(id)
            && gone.is_known()
        {
            self.refuse(Header {
                src_cid: HOST,
                dst_cid: self.cid,
                src_port: gone.ports.host,
                dst_port: gone.ports.guest,
                kind: STREAM,
                op: op::RST,
                ..Header::default()
            });
        }
    }

    fn refuse(&mut self, refusal: Header) {
        self.counters.reset += 1;
        if self.refusals.len() >= MOST_REFUSALS {
            // A guest that takes no answers has no use for this one either.
            self.refusals.pop_front();
        }
        self.refusals.push_back(refusal);
    }

    /// Something happened to a connection's socket.
    pub(super) fn happened(&mut self, id: u64, read: bool, write: bool, poller: &Poller) {
        let Some(connection) = self.connections.get_mut(&id) else { return };
        connection.happened(read, write);
        match connection.stage {
            Stage::Greeting(_) => match connection.greet() {
                Line::Unfinished => {}
                Line::Wrong => {
                    self.counters.refused += 1;
                    drop(self.remove(id));
                    return;
                }
                Line::Port(port) => self.request(id, port),
            },
            // All that is waited for is that it goes.
            Stage::Requested if connection.is_gone() => return self.reset(id),
            _ => {}
        }
        self.settle(id, poller);
    }

    /// The host asks for a port of the guest.
    fn request(&mut self, id: u64, guest: u32) {
        let mut free = (0..=MOST_CONNECTIONS as u32).map(|step| {
            let host = FIRST_PORT + self.next_port.wrapping_add(step) % PORTS;
            Ports { host, guest }
        });
        let ports = free.find(|ports| !self.by_ports.contains_key(ports));
        let (Some(connection), Some(ports)) = (self.connections.get_mut(&id), ports) else { return };
        self.next_port = (ports.host - FIRST_PORT).wrapping_add(1) % PORTS;
        connection.ports = ports;
        connection.stage = Stage::Requested;
        connection.want(op::REQUEST);
        self.by_ports.insert(ports, id);
    }

    /// Brings a connection's place in the lists in line with its state.
    fn settle(&mut self, id: u64, poller: &Poller) {
        let Some(connection) = self.connections.get_mut(&id) else { return };
        if connection.is_finished() {
            return self.reset(id);
        }
        if connection.has_something() && !connection.has_turn {
            connection.has_turn = true;
            self.turns.push_back(id);
        }
        connection.arm(poller);
    }

    /// The next packet for the guest, its data at the front of `buffer`.
    pub(super) fn next_packet(&mut self, buffer: &mut [u8], poller: &Poller) -> Option<Header> {
        if let Some(refusal) = self.refusals.pop_front() {
            return Some(refusal);
        }
        while let Some(id) = self.turns.pop_front() {
            let Some(connection) = self.connections.get_mut(&id) else { continue };
            connection.has_turn = false;
            let packet = connection.next_packet(self.cid, buffer);
            // Behind the others, if there is more.
            self.settle(id, poller);
            if let Some(packet) = packet {
                self.counters.to_guest += u64::from(packet.len);
                return Some(packet);
            }
        }
        None
    }

    /// A packet of the guest.
    pub(super) fn receive(&mut self, header: &Header, data: &[u8], poller: &Poller) {
        if header.src_cid != self.cid {
            self.counters.dropped += 1;
            return;
        }
        let ports = Ports { host: header.dst_port, guest: header.src_port };
        let known = self.by_ports.get(&ports).copied();
        let known = known.filter(|_| header.dst_cid == HOST && header.kind == STREAM);
        let Some(connection) = known.and_then(|id| self.connections.get_mut(&id)) else {
            match header.op {
                op::RST => {}
                op::REQUEST if header.dst_cid == HOST && header.kind == STREAM => self.connect(header, ports, poller),
                _ => self.refuse(header.refusal()),
            }
            return;
        };
        let id = connection.id;
        connection.take_credit(header);
        let sound = match (header.op, &connection.stage) {
            (op::RST, _) => return self.forget(id, poller),
            (op::RESPONSE, Stage::Requested) => {
                self.counters.opened_by_host += 1;
                connection.open(Some(&format!("OK {}\n", ports.host)))
            }
            (op::SHUTDOWN, Stage::Open) => {
                connection.guest_shuts_down(header.flags);
                true
            }
            (op::RW, Stage::Open) => {
                self.counters.from_guest += data.len() as u64;
                data.len() == header.len as usize && connection.take(data)
            }
            (op::CREDIT_UPDATE, Stage::Open) => true,
            (op::CREDIT_REQUEST, Stage::Open) => {
                connection.want(op::CREDIT_UPDATE);
                true
            }
            _ => false,
        };
        if sound { self.settle(id, poller) } else { self.reset(id) }
    }

    /// The guest has given a connection up. What it had closed in good order still reaches the host.
    fn forget(&mut self, id: u64, poller: &Poller) {
        let Some(mut connection) = self.remove(id) else { return };
        if connection.may_linger() {
            connection.stage = Stage::Lingering;
            connection.arm(poller);
            self.connections.insert(id, connection);
        }
    }

    /// The guest asks for a port of the host.
    fn connect(&mut self, header: &Header, ports: Ports, poller: &Poller) {
        let mut path = self.path.clone().into_os_string();
        path.push(format!("_{}", ports.host));
        let socket = if self.make_room() { unix::try_connect(Path::new(&path)).ok() } else { None };
        let id = socket.and_then(|socket| self.insert(socket, Stage::Open, ports, poller));
        let Some(connection) = id.and_then(|id| self.connections.get_mut(&id)) else {
            self.counters.refused += 1;
            return self.refuse(header.refusal());
        };
        connection.take_credit(header);
        connection.open(None);
        connection.want(op::RESPONSE);
        let id = connection.id;
        self.by_ports.insert(ports, id);
        self.counters.opened_by_guest += 1;
        self.settle(id, poller);
    }
}
