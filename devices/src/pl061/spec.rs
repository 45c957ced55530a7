//! Register map of the PL061: Arm DDI 0190, "PrimeCell General Purpose Input/Output (PL061) Technical Reference Manual".

/// Last of the 256 addresses of `GPIODATA`.
pub const DATA_LAST: u64 = 0x3ff;
/// `GPIODIR`: 1 for outputs.
pub const DIR: u64 = 0x400;
/// `GPIOIS`: 1 for level-sensitive interrupts.
pub const IS: u64 = 0x404;
/// `GPIOIBE`: 1 for interrupts on both edges.
pub const IBE: u64 = 0x408;
/// `GPIOIEV`: 1 for interrupts on rising edges or high levels.
pub const IEV: u64 = 0x40c;
/// `GPIOIE`: interrupts that are let through.
pub const IE: u64 = 0x410;
/// `GPIORIS`: interrupts that are raised.
pub const RIS: u64 = 0x414;
/// `GPIOMIS`: interrupts that are raised and let through.
pub const MIS: u64 = 0x418;
/// `GPIOIC`: clears edges.
pub const IC: u64 = 0x41c;
/// `GPIOAFSEL`: stored; there is no alternate function.
pub const AFSEL: u64 = 0x420;
/// GPIOPeriphID0..3: part 0x061, designer Arm.
pub const PERIPH_ID: [u8; 4] = [0x61, 0x10, 0x04, 0x00];
