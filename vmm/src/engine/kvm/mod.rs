//! The engine that has the host kernel execute the guest: KVM of arm64 hosts.
//!
//! `host` opens `/dev/kvm` and makes the virtual machine, `vcpu` runs a vCPU and serves its exits, `assist` executes the
//! device accesses that the hardware does not describe, `gic` and `its` are the kernel's interrupt controller, `doorbells` has the kernel
//! take virtio's, `routes` has it send devices' messages, `dirty` has it log what the guest writes, `config_memory` has the guest read PCI configuration space without an exit, `stolen_time` has it count what vCPUs wait for, `kick` interrupts a vCPU, `state` saves and loads it in the form of the emulated engines. `registers`, `gic_state` and `debug` are plain data and
//! are tested on every host.

#[cfg(target_arch = "aarch64")] // all of these talk to the kernel
mod assist;
#[cfg(target_arch = "aarch64")]
mod config_memory;
mod debug;
#[cfg(target_arch = "aarch64")]
mod dirty;
#[cfg(target_arch = "aarch64")]
mod doorbells;
#[cfg(target_arch = "aarch64")]
mod gic;
mod gic_state;
#[cfg(target_arch = "aarch64")]
mod host;
#[cfg(target_arch = "aarch64")]
mod its;
#[cfg(target_arch = "aarch64")]
mod kick;
mod options;
mod registers;
#[cfg(target_arch = "aarch64")]
mod routes;
#[cfg(target_arch = "aarch64")]
mod state;
#[cfg(target_arch = "aarch64")]
mod stolen_time;
#[cfg(target_arch = "aarch64")]
mod sve;
#[cfg(target_arch = "aarch64")]
mod vcpu;

#[cfg(target_arch = "aarch64")]
pub use host::{Kvm, probe};
