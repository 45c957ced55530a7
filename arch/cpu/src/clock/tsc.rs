//! The host's time stamp counter, where it is a clock.
#![cfg_attr(target_arch = "x86_64", expect(unsafe_code, reason = "the instructions have no safe form in std"))]

/// True if the time stamp counter runs at one rate whatever the processor does and the kernel takes its own time from it, so that
/// all processors agree.
#[cfg(target_arch = "x86_64")]
pub fn usable() -> bool {
    use std::arch::x86_64::__cpuid;
    let invariant = __cpuid(0x8000_0000).eax >= 0x8000_0007 && __cpuid(0x8000_0007).edx >> 8 & 1 != 0;
    let source = std::fs::read_to_string("/sys/devices/system/clocksource/clocksource0/current_clocksource");
    invariant && source.is_ok_and(|s| matches!(s.trim(), "tsc" | "kvm-clock" | "hyperv_clocksource_tsc_page"))
}

/// The time stamp, not before what precedes in program order.
#[cfg(target_arch = "x86_64")]
#[inline]
pub fn read() -> u64 {
    // SAFETY: both are unprivileged instructions of every x86-64 processor (the kernel can forbid RDTSC: then it does not use it as its clock source either).
    unsafe {
        std::arch::x86_64::_mm_lfence();
        std::arch::x86_64::_rdtsc()
    }
}

/// Other hosts: the kernel's clock is fast there.
#[cfg(not(target_arch = "x86_64"))]
pub fn usable() -> bool {
    false
}

/// Not used where [`usable`] is false.
#[cfg(not(target_arch = "x86_64"))]
pub fn read() -> u64 {
    0
}
