//! virtio-console (VIRTIO 1.2 section 5.3), multiport: `hvc0` and named ports, each a unix socket on the host.
//!
//! A port's socket listens; one peer at a time is connected. The guest is told when one comes and goes. A peer that
//! does not read holds up its port's transmit queue and nothing else; what a console says to nobody is dropped.

mod control;
mod port;
#[cfg(test)]
mod tests;
mod transfer;

use std::io;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, OnceLock};
use std::thread::JoinHandle;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use self::control::Messages;
use self::port::Port;
use super::device::{QueueHandler, VirtioDevice};
use super::spec::device_type;
use super::worker::Bell;
use crate::lock;
use crate::net::poller::Poller;
use crate::state::{self, StateError};

const NAME: &str = "virtio-console";
const VERSION: u64 = 1;
/// Feature: several ports and control queues.
const MULTIPORT: u64 = 1 << 1;
/// Offset in the configuration: greatest number of ports.
const CONFIG_MAX_PORTS: usize = 4;
/// Length of the configuration.
const CONFIG_LEN: usize = 12;
/// Entries of each queue.
const QUEUE_SIZE: u16 = 64;
/// Index of the queue of control messages to the driver.
const CONTROL_RX: usize = 2;
/// Most ports.
pub const MAX_PORTS: usize = 16;
/// The name of the port that is a console.
pub const CONSOLE: &str = "hvc0";
/// Longest name of a port.
pub const MAX_NAME: usize = 64;

/// A port of the guest.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PortOptions {
    /// `hvc0` for the console, else the name below `/dev/virtio-ports`.
    pub name: String,
    /// The unix socket on the host, which is made.
    pub socket: PathBuf,
}

/// The device.
pub struct VirtioConsole {
    inner: Arc<Inner>,
    thread: Mutex<Option<JoinHandle<()>>>,
}

/// What the handlers and the thread share.
struct Inner {
    ports: Vec<Port>,
    poller: Poller,
    bells: OnceLock<Vec<Bell>>,
    messages: Mutex<Messages>,
    features: AtomicU64,
    /// Changes with each reset.
    generation: AtomicU64,
    ended: AtomicBool,
}

#[derive(Serialize, Deserialize)]
struct Saved {
    ports: Vec<String>,
    messages: Messages,
    features: u64,
}

/// Indices of a port's queues: to the driver, from the driver.
fn queues_of(port: usize) -> (usize, usize) {
    if port == 0 { (0, 1) } else { (2 + 2 * port, 3 + 2 * port) }
}

/// The port of a data queue, and whether the queue is to the driver.
fn port_of(queue: usize) -> (usize, bool) {
    (if queue < 2 { 0 } else { queue / 2 - 1 }, queue.is_multiple_of(2))
}

impl VirtioConsole {
    /// Makes the sockets. The port named [`CONSOLE`] comes first; without one the first port is a port like the others.
    pub fn new(options: &[PortOptions]) -> io::Result<VirtioConsole> {
        let mut options = options.to_vec();
        options.sort_by_key(|port| port.name != CONSOLE);
        let poller = Poller::new()?;
        let mut ports = Vec::with_capacity(options.len());
        for (index, port) in options.iter().take(MAX_PORTS).enumerate() {
            ports.push(Port::listen(port, index, &poller)?);
        }
        let inner = Arc::new(Inner {
            ports,
            poller,
            bells: OnceLock::new(),
            messages: Mutex::default(),
            features: AtomicU64::new(0),
            generation: AtomicU64::new(0),
            ended: AtomicBool::new(false),
        });
        Ok(VirtioConsole { inner, thread: Mutex::new(None) })
    }
}

impl Inner {
    fn ring(&self, queue: usize) {
        if let Some(bell) = self.bells.get().and_then(|bells| bells.get(queue)) {
            bell.ring();
        }
    }

    fn is_multiport(&self) -> bool {
        self.features.load(Ordering::Relaxed) & MULTIPORT != 0
    }

    /// Changes what the driver is to be told, and has it told.
    fn tell(&self, change: impl FnOnce(&mut Messages)) {
        change(&mut lock(&self.messages));
        self.ring(CONTROL_RX);
    }

    /// Tells the driver whether somebody is at the other end of port `index`.
    fn tell_connected(&self, index: usize) {
        let connected = self.ports.get(index).is_some_and(Port::is_open);
        self.tell(|messages| messages.port_open(index, connected));
    }

    /// The thread's body: peers come, and have data or room for some.
    fn watch(&self) {
        let mut happened = Vec::new();
        while !self.ended.load(Ordering::SeqCst) {
            if self.poller.wait(None, &mut happened).is_err() {
                return;
            }
            for event in &happened {
                let Some((index, is_listener)) = port::from_key(event.key) else { continue };
                let Some(port) = self.ports.get(index) else { continue };
                if is_listener && port.accept(&self.poller) {
                    self.tell_connected(index);
                }
                let (to_driver, from_driver) = queues_of(index);
                self.ring(to_driver);
                if event.write || is_listener {
                    self.ring(from_driver);
                }
            }
        }
    }

    fn config(&self) -> [u8; CONFIG_LEN] {
        let mut config = [0; CONFIG_LEN];
        let ports = self.ports.len() as u32;
        crate::net::wire::put(&mut config, CONFIG_MAX_PORTS, &ports.to_le_bytes());
        config
    }
}

impl VirtioDevice for VirtioConsole {
    fn device_type(&self) -> u32 {
        device_type::CONSOLE
    }

    fn type_name(&self) -> &'static str {
        NAME
    }

    fn features(&self) -> u64 {
        MULTIPORT
    }

    fn queue_sizes(&self) -> Vec<u16> {
        vec![QUEUE_SIZE; 2 + 2 * self.inner.ports.len().max(1)]
    }

    fn handler(&self, index: u16) -> Box<dyn QueueHandler> {
        let inner = Arc::clone(&self.inner);
        match index {
            2 => Box::new(control::ToDriver::new(inner)),
            3 => Box::new(control::FromDriver::new(inner)),
            _ => match port_of(index.into()) {
                (port, true) => Box::new(transfer::ToDriver::new(inner, port)),
                (port, false) => Box::new(transfer::FromDriver::new(inner, port)),
            },
        }
    }

    fn connect(&self, bells: Vec<Bell>) {
        // Connected once.
        let _ = self.inner.bells.set(bells);
        let inner = Arc::clone(&self.inner);
        let thread = std::thread::Builder::new().name("virtio-console".into());
        // Without a thread nobody comes: as with a line that is not plugged in.
        *lock(&self.thread) = thread.spawn(move || inner.watch()).ok();
    }

    fn read_config(&self, offset: u64, data: &mut [u8]) {
        let config = self.inner.config();
        let from = usize::try_from(offset).ok().and_then(|at| config.get(at..)).unwrap_or_default();
        data.iter_mut().zip(from).for_each(|(to, from)| *to = *from);
    }

    fn activate(&self, features: u64) {
        self.inner.features.store(features, Ordering::SeqCst);
    }

    fn reset(&self) {
        self.inner.features.store(0, Ordering::SeqCst);
        self.inner.generation.fetch_add(1, Ordering::SeqCst);
        *lock(&self.inner.messages) = Messages::default();
    }

    fn save(&self) -> Value {
        let ports = self.inner.ports.iter().map(|port| port.name.clone()).collect();
        let features = self.inner.features.load(Ordering::SeqCst);
        state::pack(VERSION, &Saved { ports, messages: lock(&self.inner.messages).clone(), features })
    }

    fn load(&self, value: &Value) -> Result<(), StateError> {
        let saved: Saved = state::unpack(NAME, VERSION, value)?;
        if !self.inner.ports.iter().map(|port| &port.name).eq(&saved.ports) {
            return Err(StateError::machine(NAME, format!("had the ports {:?}", saved.ports)));
        }
        if !saved.messages.is_sound(self.inner.ports.len()) {
            return Err(StateError::malformed(NAME, "messages about ports that there are not"));
        }
        self.inner.generation.fetch_add(1, Ordering::SeqCst);
        let mut messages = lock(&self.inner.messages);
        *messages = saved.messages;
        // Other peers than before may be there now.
        for (index, port) in self.inner.ports.iter().enumerate() {
            messages.port_open(index, port.is_open());
        }
        Ok(())
    }
}

impl Drop for VirtioConsole {
    fn drop(&mut self) {
        self.inner.ended.store(true, Ordering::SeqCst);
        self.inner.poller.wake();
        if let Some(thread) = lock(&self.thread).take() {
            // One that panicked has said so.
            let _ = thread.join();
        }
    }
}
