//! What all Arm PrimeCell peripherals have in common: 32-bit registers, and identification at the end of 4 KiB.

/// Length of the register window of a PrimeCell in bytes.
pub const WINDOW_LEN: u64 = 0x1000;

/// First identification register: PeriphID0..3, then PCellID0..3.
const ID_BASE: u64 = 0xfe0;

/// The identification register at `offset`; `part` holds PeriphID0..3.
pub(crate) fn id_register(offset: u64, part: [u8; 4]) -> Option<u32> {
    const PCELL_ID: [u8; 4] = [0x0d, 0xf0, 0x05, 0xb1];
    let index = (offset.checked_sub(ID_BASE)? / 4) as usize;
    part.iter().chain(&PCELL_ID).nth(index).map(|&b| b.into())
}

/// The bytes that an access of `size` bytes at `offset` sees of the 32-bit register that it starts in.
pub(crate) fn read_part(register: u32, offset: u64, size: u8) -> u64 {
    let value = u64::from(register) >> (8 * (offset & 3));
    value & (u64::MAX >> (64 - 8 * u32::from(size.clamp(1, 4))))
}

/// What an access of `size` bytes at `offset` writes to a register: nothing if it does not start at the register's
/// first byte; bytes that a narrow access leaves out are written as 0, because the peripheral bus has no strobes.
pub(crate) fn written(offset: u64, size: u8, value: u64) -> Option<u32> {
    let mask = u32::MAX >> (32 - 8 * u32::from(size.clamp(1, 4)));
    (offset & 3 == 0).then_some(value as u32 & mask)
}
