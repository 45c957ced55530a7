//! Constants of vector code: one table in the environment of each vCPU, so that each is a memory operand behind r15.

use crate::asm::{Mem, Rm};
use crate::env;
use crate::t1::regs::ENV;

/// A constant: its number in the table.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Const(u16);

impl Const {
    /// The constant `n` places further.
    #[must_use]
    pub const fn plus(self, n: u8) -> Const {
        Const(self.0 + n as u16)
    }

    /// Its place.
    #[must_use]
    pub fn mem(self) -> Mem {
        Mem::b(ENV, env::CONSTANTS + i32::from(self.0) * 16)
    }

    /// Its value.
    #[cfg(test)]
    #[must_use]
    pub fn value(self) -> u128 {
        TABLE[usize::from(self.0)]
    }
}

impl From<Const> for Rm {
    fn from(c: Const) -> Rm {
        c.mem().into()
    }
}

/// The table as generated code reads it.
#[repr(C, align(64))]
#[derive(Debug)]
pub struct Table([u128; LEN]);

impl Table {
    /// The table.
    #[must_use]
    pub const fn new() -> Table {
        Table(TABLE)
    }
}

/// Ones in the bytes of a [`isa::insn::VecWidth`], 5.
pub const WIDTH: Const = Const(0);
/// The lowest bit of each element, by size, 4.
pub const ONE: Const = Const(5);
/// The highest bit of each element, by size, 4.
pub const SIGN: Const = Const(9);
/// All but the highest bit of each element, by size, 4.
pub const POSITIVE: Const = Const(13);
/// The low half of each element of 16, 32 or 64 bits, by size of the half, 3.
pub const LOW_HALF: Const = Const(17);
/// The high half of each element of 16 bits.
pub const HIGH_BYTE: Const = Const(20);
/// 0x70 in each byte: added with saturation it sets the top bit of all bytes from 16 on.
pub const PAST_TABLE: Const = Const(21);
/// 16, 32 and 48 in each byte.
pub const TABLE_STEP: Const = Const(22);
/// 15, 31, 47 and 63 in each byte.
pub const TABLE_LAST: Const = Const(25);
/// 0xf in each byte.
pub const NIBBLE: Const = Const(29);
/// Ones in each number of four bits.
pub const POPCOUNT: Const = Const(30);
/// Each number of four bits reversed, in the high half of the byte, and in the low half, 2.
pub const REVERSED: Const = Const(31);
/// Leading zeros of a byte by its high half (8 for none set) and by its low half, 2.
pub const LEADING: Const = Const(33);
/// 0xff >> n in each byte, n = 0..=8, 9.
pub const BYTE_SHR: Const = Const(35);
/// 0xff << n in each byte, n = 0..=8, 9.
pub const BYTE_SHL: Const = Const(44);
/// 0x80 >> n in each byte, n = 0..=8, 9.
pub const BYTE_SIGN: Const = Const(53);
/// Shuffle: the low halves of elements of 16, 32 or 64 bits in the lower half, zero above, 3.
pub const NARROW: Const = Const(62);
/// Shuffle: the high halves, likewise, 3.
pub const NARROW_HIGH: Const = Const(65);
/// Shuffle: bytes reversed in 16, 32 and 64 bits, 3.
pub const REV_BYTES: Const = Const(68);
/// Shuffle: halfwords reversed in 32 and 64 bits, 2.
pub const REV_HALVES: Const = Const(71);
/// Shuffle: byte n everywhere, 16.
pub const DUP_BYTE: Const = Const(73);
/// Shuffle: halfword n everywhere, 8.
pub const DUP_HALF: Const = Const(89);
/// 0xff in each element, by size, 4.
pub const LOW_BYTE: Const = Const(97);
/// 8 in each byte.
pub const EIGHT: Const = Const(101);
/// Constants of SHA-1 rounds of choose, parity and majority, 3.
pub const SHA1_K: Const = Const(102);
/// The CRC-32 polynomial with its highest coefficient, in bit 0 the first one; its inverse as a power series to 64 bits, 2.
pub const CRC32: Const = Const(105);
/// Bit matrix that reverses the bits of a byte, for GF2P8AFFINEQB.
pub const BIT_REVERSE: Const = Const(107);
/// 1 << 31 in each 64 bits.
pub const ROUND_HIGH: Const = Const(108);
/// The sign bits of the elements within a width: by size (4) of widths 1, 2, 4, 8, 16 (5), 20.
pub const SIGN_IN: Const = Const(109);
/// 0x100 in each element of 16, 32 or 64 bits, 3.
pub const BYTE_COUNTS: Const = Const(129);
/// 0x80 in each element of 16, 32 or 64 bits, 3.
pub const BYTE_NEGATIVE: Const = Const(132);
const SHUFFLES: u16 = 135;
/// Shuffles of one size and number of structure elements: 4 + 9 + 16.
const SHUFFLES_EACH: u16 = 29;
const LEN: usize = (SHUFFLES + 2 * 4 * SHUFFLES_EACH) as usize;

/// Place of the shuffles of structures of `s` elements (2 to 4) among [`SHUFFLES_EACH`].
const fn structure_base(s: u16) -> u16 {
    match s {
        2 => 0,
        3 => 4,
        _ => 13,
    }
}

/// Shuffle that brings what register `to` of a structure gets out of the 16 bytes number `from` of memory; zero elsewhere.
/// `size` is log2 of the element's bytes.
#[must_use]
pub fn deinterleave(size: u8, structure: u8, to: u8, from: u8) -> Const {
    let s = u16::from(structure);
    Const(SHUFFLES + u16::from(size) * SHUFFLES_EACH + structure_base(s) + u16::from(to) * s + u16::from(from))
}

/// Shuffle that brings what the 16 bytes number `to` of memory get out of register `from` of a structure; zero elsewhere.
#[must_use]
pub fn interleave(size: u8, structure: u8, to: u8, from: u8) -> Const {
    let s = u16::from(structure);
    Const(SHUFFLES + (4 + u16::from(size)) * SHUFFLES_EACH + structure_base(s) + u16::from(to) * s + u16::from(from))
}

const TABLE: [u128; LEN] = build();

const fn splat8(v: u8) -> u128 {
    v as u128 * (u128::MAX / 0xff)
}

/// The low `bits` bits of `v` in each element of `bits` bits.
const fn splat(v: u128, bits: u32) -> u128 {
    v * (u128::MAX / ((1u128 << bits) - 1))
}

/// A shuffle that takes byte `$e` of `$i`.
macro_rules! shuffle {
    (|$i:ident| $e:expr) => {{
        let mut v = 0u128;
        let mut $i = 0u32;
        while $i < 16 {
            v |= (($e) as u128 & 0xff) << (8 * $i);
            $i += 1;
        }
        v
    }};
}

const fn reverse_nibble(x: u32) -> u32 {
    (x & 1) << 3 | (x & 2) << 1 | (x & 4) >> 1 | (x & 8) >> 3
}

/// `P` = the reflected CRC-32 polynomial of 33 bits, its inverse modulo z^64 as a power series.
const fn crc_inverse(p: u128) -> u64 {
    let mut q = 0u64;
    let mut rest = 1u128;
    let mut i = 0;
    while i < 64 {
        if rest >> i & 1 == 1 {
            q |= 1 << i;
            rest ^= p << i;
        }
        i += 1;
    }
    q
}

const fn build() -> [u128; LEN] {
    let mut t = [0u128; LEN];
    let mut n = 0;
    while n < 5 {
        t[n] = if n == 4 { u128::MAX } else { (1 << (8 << n)) - 1 };
        n += 1;
    }
    n = 0;
    while n < 4 {
        let bits = 8u32 << n;
        t[5 + n] = splat(1, bits);
        t[9 + n] = splat(1 << (bits - 1), bits);
        t[13 + n] = !t[9 + n];
        t[97 + n] = splat(0xff, bits);
        let mut w = 0;
        while w < 5 {
            t[109 + n * 5 + w] = t[9 + n] & t[w];
            w += 1;
        }
        n += 1;
    }
    n = 0;
    while n < 3 {
        let half = 8u32 << n;
        t[17 + n] = splat((1 << half) - 1, 2 * half);
        let bytes = 1u32 << n;
        t[129 + n] = splat(0x100, 2 * half);
        t[132 + n] = splat(0x80, 2 * half);
        t[62 + n] = shuffle!(|i| if i < 8 { (i / bytes) * 2 * bytes + i % bytes } else { 0x80 });
        t[65 + n] = shuffle!(|i| if i < 8 { (i / bytes) * 2 * bytes + bytes + i % bytes } else { 0x80 });
        t[22 + n] = splat8(16 * (n as u8 + 1));
        t[68 + n] = shuffle!(|i| i ^ (2 * bytes - 1));
        n += 1;
    }
    t[20] = splat(0xff00, 16);
    t[21] = splat8(0x70);
    n = 0;
    while n < 4 {
        t[25 + n] = splat8(16 * n as u8 + 15);
        n += 1;
    }
    t[29] = splat8(15);
    t[30] = shuffle!(|i| i.count_ones());
    t[31] = shuffle!(|i| reverse_nibble(i) << 4);
    t[32] = shuffle!(|i| reverse_nibble(i));
    t[33] = shuffle!(|i| if i == 0 { 8 } else { i.leading_zeros() - 28 });
    t[34] = shuffle!(|i| if i == 0 { 8 } else { i.leading_zeros() - 24 });
    n = 0;
    while n < 9 {
        t[35 + n] = splat8((0xffu16 >> n) as u8);
        t[44 + n] = splat8((0xffu16 << n) as u8);
        t[53 + n] = splat8((0x80u16 >> n) as u8);
        n += 1;
    }
    t[71] = shuffle!(|i| i ^ 2);
    t[72] = shuffle!(|i| i ^ 6);
    n = 0;
    while n < 16 {
        t[73 + n] = splat8(n as u8);
        if n < 8 {
            t[89 + n] = splat(0x100 * (2 * n as u128 + 1) + 2 * n as u128, 16);
        }
        n += 1;
    }
    t[101] = splat8(8);
    t[102] = splat(0x5a82_7999, 32);
    t[103] = splat(0x6ed9_eba1, 32);
    t[104] = splat(0x8f1b_bcdc, 32);
    let p = 0xedb8_8320u128 << 1 | 1;
    t[105] = p;
    t[106] = crc_inverse(p) as u128;
    t[107] = splat(0x8040_2010_0804_0201, 64);
    t[108] = splat(1 << 31, 64);
    structures(t)
}

const fn structures(mut t: [u128; LEN]) -> [u128; LEN] {
    let mut size = 0u32;
    while size < 4 {
        let bytes = 1u32 << size;
        let mut s = 2u32;
        while s <= 4 {
            let mut to = 0;
            while to < s {
                let mut from = 0;
                while from < s {
                    let at = structure_base(s as u16) as u32 + to * s + from;
                    let each = SHUFFLES_EACH as u32;
                    let load = (SHUFFLES as u32 + size * each + at) as usize;
                    t[load] = shuffle!(|i| {
                        let place = ((i / bytes) * s + to) * bytes + i % bytes;
                        if place / 16 == from { place % 16 } else { 0x80 }
                    });
                    let store = (SHUFFLES as u32 + (4 + size) * each + at) as usize;
                    t[store] = shuffle!(|i| {
                        let element = (16 * to + i) / bytes;
                        if element % s == from { (element / s) * bytes + i % bytes } else { 0x80 }
                    });
                    from += 1;
                }
                to += 1;
            }
            s += 1;
        }
        size += 1;
    }
    t
}

#[cfg(test)]
mod tests {
    use super::*;
    use isa::value::lanes::table;

    #[test]
    fn interleaving_undoes_deinterleaving() {
        let memory: Vec<u128> = (0..4u128).map(|n| (0..16).fold(0, |v, i| v | (16 * n + i) << (8 * i))).collect();
        for size in 0..4 {
            for s in 2..=4u8 {
                let gather = |sources: &[u128], shuffle: &dyn Fn(u8, u8) -> Const| -> Vec<u128> {
                    (0..s)
                        .map(|to| {
                            (0..s).fold(0, |v, from| {
                                v | table(&sources[usize::from(from)..][..1], shuffle(to, from).value(), 0)
                            })
                        })
                        .collect()
                };
                let registers = gather(&memory, &|to, from| deinterleave(size, s, to, from));
                let bytes = 1u32 << size;
                for (k, r) in registers.iter().enumerate() {
                    let second = (r >> (8 * bytes % 128)) as u8;
                    if size < 3 {
                        assert_eq!(u32::from(second), (u32::from(s) + k as u32) * bytes, "element 1 of register {k}");
                    }
                    assert_eq!(*r as u8, (k as u32 * bytes) as u8);
                }
                assert_eq!(gather(&registers, &|to, from| interleave(size, s, to, from)), memory[..usize::from(s)]);
            }
        }
    }

    #[test]
    fn the_inverse_polynomial_divides() {
        let product = isa::value::lanes::clmul64(CRC32.value() as u64, CRC32.plus(1).value() as u64);
        assert_eq!(product as u64, 1);
    }
}
