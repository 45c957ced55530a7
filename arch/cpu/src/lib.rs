//! One AArch64 processing element: registers, system registers, exceptions, stage-1 translation, generic timer and the interpreter.
//!
//! [`Vcpu`] is one PE; [`VmShared`] is what the PEs of a machine share; [`Outside`] is what they need of the rest of the machine. The interpreter runs a `Vcpu`
//! by itself; the translator uses the same building blocks (`translate`, `take_exception`, `mrs`, `msr`, `sys`, `poll`, `eret`) for what it does not inline.

pub mod clock;
pub mod code;
pub mod config;
pub mod debug;
mod debugger;
pub mod exception;
mod futex;
pub mod gic;
mod hostmem;
mod interp;
mod interrupts;
mod memory;
pub mod mmu;
pub mod outside;
mod pmu;
pub mod ram;
mod random;
pub mod rehearsal;
mod report;
mod save;
pub mod shared;
pub mod state;
mod stepping;
pub mod stop;
pub mod stress;
pub mod sysreg;
#[cfg(test)]
mod testing;
pub mod timer;
mod vcpu;

pub use clock::Clock;
pub use code::{CodeChange, CodeEpochs, CodeStamp};
pub use config::CpuConfig;
pub use debugger::{DebugEvent, DebugPoints, Watched, Watchpoint};
pub use exception::{Exception, Syndrome};
pub use hostmem::Rmw;
pub use outside::{BusFault, Conduit, Outside, SgiGroup, SmcccOutcome, TraceEvent};
pub use ram::{Ram, zeroed_atomics};
pub use save::{STATE_VERSION, StateError, VcpuState};
pub use shared::{VcpuShared, VmShared};
pub use state::ArchState;
pub use stop::Stop;
pub use vcpu::{Counters, Trap, Vcpu};
