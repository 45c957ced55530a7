//! `--net user`: a network for the guest without any right on the host.
//!
//! The guest is alone in a network of its own (10.0.2.0/24 and fec0::/64, the addresses that QEMU's user network has)
//! with a gateway that is this process: it gives the guest its address, answers for itself, forwards questions to the
//! host's name servers, and turns the guest's connections and datagrams into sockets of the host. Connections end here
//! on both sides ([`tcp`]), so that each side has its own segments, windows and losses.

pub mod addresses;
mod datagrams;
pub mod dhcp;
mod flows;
mod fragments;
mod host;
mod icmp;
mod nat;
mod neighbours;
mod resolver;
mod ring;
mod table;
mod tcp;
#[cfg(test)]
mod tests;

use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::Instant;

use self::nat::Nat;
use super::poller::Poller;
use super::wire::Mac;
use super::{Backend, Packet, Wake};
use crate::lock;

/// The MTU of the guest's network.
pub const MTU: u16 = 1500;

/// A port of the host that leads to the guest.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Forward {
    /// TCP, or else UDP.
    pub tcp: bool,
    /// Where the host listens.
    pub host: SocketAddr,
    /// Where the guest listens.
    pub guest: SocketAddr,
}

/// What the network is like.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UserConfig {
    /// The guest's card, which is asked for until another one has spoken.
    pub mac: Mac,
    /// Greatest packet to and from the guest, at least 1280.
    pub mtu: u16,
    /// The guest may reach the host itself: as the gateway its loopback, and its other addresses.
    pub allow_host: bool,
    /// Ports of the host that lead to the guest.
    pub forwards: Vec<Forward>,
    /// Where questions for addresses go; `None`: to the host's name servers.
    pub dns: Option<SocketAddr>,
    /// The host's list of name servers.
    pub resolv_conf: PathBuf,
}

impl UserConfig {
    /// For a card with address `mac`.
    pub fn new(mac: Mac) -> UserConfig {
        UserConfig {
            mac,
            mtu: MTU,
            allow_host: false,
            forwards: Vec::new(),
            dns: None,
            resolv_conf: "/etc/resolv.conf".into(),
        }
    }
}

/// The back end.
pub struct UserNet {
    shared: Arc<Shared>,
    /// Where forwarded ports listen.
    listening: Vec<SocketAddr>,
    thread: Mutex<Option<JoinHandle<()>>>,
}

struct Shared {
    nat: Mutex<Nat>,
    poller: Arc<Poller>,
    started: Instant,
    ended: AtomicBool,
    wake: Mutex<Option<Wake>>,
}

/// Why the network cannot be made.
#[derive(Debug, thiserror::Error)]
pub enum UserError {
    /// A forwarded port cannot be listened at.
    #[error("hostfwd: cannot listen at {host} ({}): {error}; is the port in use, or below 1024?", if *tcp { "TCP" } else { "UDP" })]
    Listen {
        /// Where.
        host: SocketAddr,
        /// TCP, or else UDP.
        tcp: bool,
        /// What the host says.
        error: io::Error,
    },
    /// The host lacks something.
    #[error("user network: {0}")]
    Io(#[from] io::Error),
}

impl UserNet {
    /// Listens at the forwarded ports.
    pub fn new(config: UserConfig) -> Result<UserNet, UserError> {
        let mut listeners = Vec::with_capacity(config.forwards.len());
        let mut listening = Vec::with_capacity(config.forwards.len());
        for forward in &config.forwards {
            let Forward { tcp, host, .. } = *forward;
            let failed = |error| UserError::Listen { host, tcp, error };
            let listener = host::listen_at(host, tcp).map_err(failed)?;
            let at = rustix::net::getsockname(&listener).map_err(io::Error::from).map_err(failed)?;
            listening.push(SocketAddr::try_from(at).unwrap_or(host));
            listeners.push(listener);
        }
        let poller = Arc::new(Poller::new()?);
        let nat = Mutex::new(Nat::new(config, listeners, Arc::clone(&poller))?);
        let wake = Mutex::new(None);
        let shared = Shared { nat, poller, started: Instant::now(), ended: AtomicBool::new(false), wake };
        Ok(UserNet { shared: Arc::new(shared), listening, thread: Mutex::new(None) })
    }

    /// Where the forwarded ports listen, in the order of the configuration: a port 0 has become one that was free.
    pub fn listening(&self) -> &[SocketAddr] {
        &self.listening
    }
}

impl Shared {
    /// Milliseconds since the network was made.
    fn now(&self) -> u64 {
        u64::try_from(self.started.elapsed().as_millis()).unwrap_or(u64::MAX)
    }

    fn wake(&self) {
        let wake = lock(&self.wake).clone();
        if let Some(wake) = wake {
            wake();
        }
    }

    /// The thread's body: the host's events and the passing of time.
    fn watch(&self) {
        let mut happened = Vec::new();
        while !self.ended.load(Ordering::SeqCst) {
            let patience = lock(&self.nat).patience(self.now());
            if self.poller.wait(patience, &mut happened).is_err() {
                return;
            }
            let mut nat = lock(&self.nat);
            let now = self.now();
            happened.iter().for_each(|&event| nat.take_event(event, now));
            nat.on_time(now);
            let work = nat.has_work();
            drop(nat);
            if work {
                self.wake();
            }
        }
    }
}

impl Backend for UserNet {
    fn connect(&self, wake: Wake) {
        *lock(&self.shared.wake) = Some(wake);
        let shared = Arc::clone(&self.shared);
        let thread = std::thread::Builder::new().name("net-user".into());
        // Without a thread nothing comes in: as with a cable that is not plugged in.
        *lock(&self.thread) = thread.spawn(move || shared.watch()).ok();
    }

    fn send(&self, packet: &mut Packet) {
        let mut nat = lock(&self.shared.nat);
        nat.take_frame(packet, self.shared.now());
        let work = nat.has_work();
        drop(nat);
        if work {
            self.shared.wake();
        }
    }

    fn receive(&self, packet: &mut Packet) -> bool {
        lock(&self.shared.nat).next_frame(packet, self.shared.now())
    }

    fn reset(&self) {
        lock(&self.shared.nat).clear();
    }

    fn counters(&self) -> serde_json::Value {
        let nat = lock(&self.shared.nat);
        let (counters, (tcp, datagrams)) = (nat.counters, nat.flows());
        serde_json::json!({
            "from_guest": counters.from_guest, "to_guest": counters.to_guest, "refused": counters.refused,
            "forbidden": counters.forbidden, "connections": counters.connections, "full": counters.full,
            "tcp": tcp, "datagrams": datagrams,
        })
    }
}

impl Drop for UserNet {
    fn drop(&mut self) {
        self.shared.ended.store(true, Ordering::SeqCst);
        self.shared.poller.wake();
        if let Some(thread) = lock(&self.thread).take() {
            // One that panicked has said so.
            let _ = thread.join();
        }
    }
}
