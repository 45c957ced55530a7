//! Executes generated code: the only place that does, and only on x86-64 hosts.
#![expect(unsafe_code, reason = "calls machine code that the translator made")]

use crate::machine::JitCpu;

/// Run the fragment at `code` through the thunk at `enter`; the reason why it returned.
///
/// # Safety
/// `enter` is the entry thunk of `cpu`'s code cache, `code` the start of a fragment in it, and `cpu` the value that both were made for,
/// with its context pointers valid.
#[cfg(target_arch = "x86_64")]
pub unsafe fn enter(cpu: *mut JitCpu, enter: u64, code: u64) -> u32 {
    // SAFETY: the address of a complete function with this signature, by the contract above.
    let f = unsafe { std::mem::transmute::<usize, extern "sysv64" fn(*mut JitCpu, u64) -> u32>(enter as usize) };
    f(cpu, code)
}

/// There is no translator on other hosts: `JitShared::new` refuses before anything is made.
///
/// # Safety
/// None needed.
#[cfg(not(target_arch = "x86_64"))]
pub unsafe fn enter(_cpu: *mut JitCpu, _enter: u64, _code: u64) -> u32 {
    crate::thunks::reason::STEP
}
