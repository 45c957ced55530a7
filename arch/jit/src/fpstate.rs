//! FPCR and FPSR as MXCSR: generated code runs with the guest's rounding mode, and the sticky bits it leaves are cumulative exception flags.
//!
//! One difference is left: x86 looks for tininess after rounding, Arm before. FPSR.UFC is not set when a result is rounded up to the smallest normal number.

/// Every exception masked, round to nearest, no flags.
pub const MXCSR: u32 = 0x1f80;

/// FPCR bit that host arithmetic does not reproduce: FZ.
const ODD: u32 = 1 << 24;
/// FPCR bits that only conversions and NaNs show: DN and AHP.
const CAREFUL: u32 = 3 << 25;

/// True if `fpcr` asks for what host arithmetic does not do.
pub const fn is_odd(fpcr: u32) -> bool {
    fpcr & ODD != 0
}

/// True if `fpcr` asks for what the host's conversions do not do, nor NaNs that operations hand on.
pub const fn is_careful(fpcr: u32) -> bool {
    fpcr & CAREFUL != 0
}

/// The bits of `fpcr` that code is specialised for.
pub const fn mode_bits(fpcr: u32) -> u32 {
    fpcr & (ODD | CAREFUL)
}

/// MXCSR, with no flags, for the rounding mode of `fpcr`.
pub const fn mxcsr(fpcr: u32) -> u32 {
    // RMode: nearest, up, down, zero. RC: nearest, down, up, zero.
    let mode = fpcr >> 22 & 3;
    MXCSR | (mode >> 1 | (mode & 1) << 1) << 13
}

/// FPSR bits for the sticky bits of `mxcsr`: IE, ZE, OE, UE, PE become IOC, DZC, OFC, UFC, IXC. DE has no counterpart with FZ = 0.
pub const fn cumulative(mxcsr: u32) -> u32 {
    mxcsr & 1 | mxcsr >> 1 & 0x1e
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rounding_modes_and_flags() {
        assert_eq!([0, 1, 2, 3].map(|mode| mxcsr(mode << 22) >> 13 & 3), [0, 2, 1, 3]);
        assert_eq!(cumulative(0b11_1101), 0b1_1111);
        assert_eq!(cumulative(0b00_0010), 0, "denormal operands are no exception");
        assert!(is_odd(1 << 24) && !is_odd(7 << 25 | 3 << 22));
        assert!(is_careful(1 << 25) && is_careful(1 << 26) && !is_careful(1 << 24 | 3 << 22));
        assert_eq!(mode_bits(u32::MAX), 7 << 24);
    }
}
