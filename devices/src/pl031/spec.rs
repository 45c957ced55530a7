//! Register map of the PL031: Arm DDI 0224, "PrimeCell Real Time Clock (PL031) Technical Reference Manual".

/// `RTCDR`: the time in seconds.
pub const DR: u64 = 0x00;
/// `RTCMR`: the time of the alarm.
pub const MR: u64 = 0x04;
/// `RTCLR`: sets the time.
pub const LR: u64 = 0x08;
/// `RTCCR`: bit 0, the clock runs.
pub const CR: u64 = 0x0c;
/// `RTCIMSC`: bit 0, the interrupt is let through.
pub const IMSC: u64 = 0x10;
/// `RTCRIS`: bit 0, the interrupt is raised.
pub const RIS: u64 = 0x14;
/// `RTCMIS`: bit 0, the interrupt is raised and let through.
pub const MIS: u64 = 0x18;
/// `RTCICR`: bit 0 clears the interrupt.
pub const ICR: u64 = 0x1c;
/// RTCPeriphID0..3: part 0x031, designer Arm, revision 1.
pub const PERIPH_ID: [u8; 4] = [0x31, 0x10, 0x14, 0x00];
