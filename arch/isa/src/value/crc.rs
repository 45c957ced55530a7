//! CRC32 and CRC32C as the CRC32* instructions compute them: no inversion before or after, bits in reflected order.

use crate::operand::Size;

/// 0x04C11DB7 reflected.
const IEEE: u32 = 0xedb8_8320;
/// 0x1EDC6F41 reflected.
const CASTAGNOLI: u32 = 0x82f6_3b78;

const IEEE_TABLE: [u32; 256] = table(IEEE);
const CASTAGNOLI_TABLE: [u32; 256] = table(CASTAGNOLI);

const fn table(polynomial: u32) -> [u32; 256] {
    let mut table = [0; 256];
    let mut byte = 0;
    while byte < 256 {
        let mut crc = byte as u32;
        let mut bit = 0;
        while bit < 8 {
            crc = if crc & 1 != 0 { crc >> 1 ^ polynomial } else { crc >> 1 };
            bit += 1;
        }
        table[byte] = crc;
        byte += 1;
    }
    table
}

/// The checksum `acc` continued over the low `size` bytes of `value`, lowest byte first. `castagnoli` selects CRC32C.
#[inline]
#[must_use]
pub fn crc32(castagnoli: bool, size: Size, acc: u32, value: u64) -> u32 {
    let table = if castagnoli { &CASTAGNOLI_TABLE } else { &IEEE_TABLE };
    let bytes = value.to_le_bytes();
    let count = (size.bytes() as usize).min(8);
    bytes[..count].iter().fold(acc, |crc, &byte| crc >> 8 ^ table[usize::from(crc as u8 ^ byte)])
}
