//! The bytes of one instruction, gathered in registers and written at once: how long an instruction gets is known only when its operands are looked at.

use super::{Asm, Gpr, Rm};

/// An instruction being encoded. Prefixes, opcode, ModRM and SIB are at most eight bytes, a displacement behind them at most four.
#[derive(Clone, Copy, Default)]
pub(super) struct Bytes {
    head: u64,
    /// Bits of `head`.
    bits: u32,
    displacement: u32,
    /// Bits of the displacement.
    displacement_bits: u32,
}

impl Bytes {
    /// One byte, in front of ModRM.
    #[inline]
    pub(super) fn push(&mut self, b: u8) {
        debug_assert!(self.bits < 64 && self.displacement_bits == 0);
        self.head |= u64::from(b) << (self.bits & 63);
        self.bits += 8;
    }

    /// Some bytes, in front of ModRM.
    #[inline]
    pub(super) fn push_all(&mut self, bytes: &[u8]) {
        for b in bytes {
            self.push(*b);
        }
    }

    /// ModRM, SIB and displacement. `disp8_n`: disp8 is scaled by this (1 outside EVEX).
    #[inline]
    pub(super) fn modrm(&mut self, reg: u8, rm: &Rm, disp8_n: i32) {
        let reg = (reg & 7) << 3;
        let m = match rm {
            Rm::Reg(r) => return self.push(0xc0 | reg | *r & 7),
            Rm::Mem(m) => m,
        };
        let base = m.base.0 & 7;
        let short = if disp8_n == 1 {
            i8::try_from(m.disp).ok()
        } else {
            (m.disp % disp8_n == 0).then(|| i8::try_from(m.disp / disp8_n).ok()).flatten()
        };
        let (mode, displacement, bits) = match short {
            _ if m.disp == 0 && base != 5 => (0, 0, 0),
            Some(d) => (0x40, u32::from(d.cast_unsigned()), 8),
            None => (0x80, m.disp.cast_unsigned(), 32),
        };
        if let Some((index, scale)) = m.index {
            debug_assert!(index != Gpr::RSP && scale < 4);
            self.push(mode | reg | 4);
            self.push(scale << 6 | (index.0 & 7) << 3 | base);
        } else if base == 4 {
            self.push(mode | reg | 4);
            self.push(4 << 3 | base);
        } else {
            self.push(mode | reg | base);
        }
        (self.displacement, self.displacement_bits) = (displacement, bits);
    }
}

impl Asm {
    /// Append an instruction.
    #[inline]
    pub(super) fn put(&mut self, o: Bytes) {
        let word = u128::from(o.head) | u128::from(o.displacement) << o.bits;
        self.put_word(word, (o.bits + o.displacement_bits) as usize / 8);
    }

    /// Append the lowest `len` bytes of `word`, at most 16: one store and a new length, whatever the length is.
    #[inline]
    pub(super) fn put_word(&mut self, word: u128, len: usize) {
        let code = &mut self.code[self.current];
        let end = code.len() + len;
        code.extend_from_slice(&word.to_le_bytes());
        code.truncate(end);
    }
}
