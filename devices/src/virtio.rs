//! VIRTIO 1.2 devices.
//!
//! Three parts that know little of each other: a *device* ([`VirtioDevice`]: what requests mean), the *common
//! configuration* ([`common::Common`]: status, features, queues, workers) and a *transport* ([`mmio::VirtioMmio`]: the
//! registers by which a driver reaches the common configuration). Requests are served on worker threads, one for each
//! queue; a vCPU that rings a doorbell only wakes one.

pub mod balloon;
pub mod blk;
pub mod chain;
pub mod common;
pub mod console;
pub mod device;
mod doorbells;
pub mod fs;
#[cfg(test)]
mod hostile;
mod linger;
pub mod mmio;
pub mod net;
pub mod pci;
mod put_off;
pub mod queue;
pub mod rng;
pub mod spec;
#[cfg(test)]
mod testing;
pub mod vsock;
mod worker;

pub use crate::memory::{GuestMemory, SharedMemory};
pub use balloon::VirtioBalloon;
pub use blk::VirtioBlk;
pub use chain::{Chain, ChainError};
pub use console::VirtioConsole;
pub use device::{QueueHandler, Served, VirtioDevice};
pub use doorbells::{BellPlace, KernelDoorbells};
pub use fs::VirtioFs;
pub use mmio::VirtioMmio;
pub use net::VirtioNet;
pub use pci::VirtioPci;
pub use put_off::before_sleep;
pub use queue::{ActiveQueue, QueueError, Used};
pub use rng::VirtioRng;
pub use vsock::VirtioVsock;
pub use worker::{Bell, ConfigurationBell};

/// How a device interrupts the driver; each transport has its own.
pub trait Interrupts: Send + Sync {
    /// Buffers of queue `index` were used.
    fn used(&self, index: u16);
    /// The configuration or the status changed.
    fn configuration(&self);
}
