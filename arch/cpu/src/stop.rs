//! Why a vCPU left its run loop.

use crate::debugger::DebugEvent;

/// Real stops only: device accesses are callbacks inside `run`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Stop {
    /// [`crate::VcpuShared::request_pause`] was served.
    Paused,
    /// PSCI CPU_OFF of this vCPU.
    CpuOff,
    /// PSCI SYSTEM_OFF.
    Shutdown,
    /// PSCI SYSTEM_RESET or SYSTEM_RESET2.
    Reset,
    /// A debugger's place ([`crate::DebugPoints`]). When the vCPU runs again, it executes the instruction at PC.
    Debug(DebugEvent),
    /// A fault of the engine itself.
    Internal(String),
    /// The instruction budget given to `run_budget` is used up.
    Budget,
}
