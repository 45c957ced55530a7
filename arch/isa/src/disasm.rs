//! Text of an instruction, in the style of `objdump -M no-aliases`: one mnemonic per encoding and none of the preferred aliases, so
//! that what is printed is what was decoded.
//!
//! The mnemonic is the name of the line of the table up to the first `_`; the operands come from the decoded [`Insn`], so that a
//! comparison of this text with another disassembler's checks the operands that the table's constructors give. What decoding drops (hint numbers,
//! prefetch operations, immediates before expansion) is read from the fields of the line. System registers are printed by encoding
//! (`s3_0_c1_c0_0`): their names belong to the crate that implements them.

mod base;
mod memory;
mod operands;
mod simd;

use crate::decode::{Row, decode, encoding};
use crate::features::Features;
use crate::insn::Insn;

/// A word on its way to text.
struct Line {
    row: &'static Row,
    insn: Insn,
    word: u32,
    /// Address of the word.
    pc: u64,
}

impl Line {
    /// The mnemonic of the line of the table, lower case.
    fn mnemonic(&self) -> String {
        let name = self.row.name;
        name.split_once('_').map_or(name, |(mnemonic, _)| mnemonic).to_ascii_lowercase()
    }

    fn field(&self, name: &str) -> u32 {
        self.row.field(name, self.word)
    }

    /// Does the line's name have this word after its mnemonic?
    fn is_form(&self, form: &str) -> bool {
        self.row.name.split('_').skip(1).any(|part| part == form)
    }
}

/// Mnemonic and operands.
type Text = (String, String);

/// The text of `word` at address `pc`, whatever features a processor has; `.inst` when it is unallocated. Mnemonic and operands are
/// separated by one space.
#[must_use]
pub fn disasm(word: u32, pc: u64) -> String {
    let Some(encoding) = encoding(word) else {
        return format!(".inst 0x{word:08x}");
    };
    let line = Line { row: encoding.row(), insn: decode(word, Features::ALL), word, pc };
    let text =
        base::text(&line).or_else(|| memory::text(&line)).or_else(|| simd::float(&line)).or_else(|| simd::text(&line));
    match text {
        Some((mnemonic, operands)) if operands.is_empty() => mnemonic,
        Some((mnemonic, operands)) => format!("{mnemonic} {operands}"),
        None => line.row.name.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::decode::Encoding;
    use crate::random::word_of;

    #[test]
    fn known_texts() {
        for (word, text) in [
            (0x9100_43ff, "add sp, sp, #0x10"),
            (0x5400_0000, "b.eq 0x1000"),
            (0x17ff_ffff, "b 0xffc"),
            (0x9000_0001, "adrp x1, 0x1000"),
            (0xf840_8c41, "ldr x1, [x2, #8]!"),
            (0xb8e1_0042, "ldaddal w1, w2, [x2]"),
            (0xd503_201f, "hint #0x0"),
            (0xd538_1000, "mrs x0, s3_0_c1_c0_0"),
            (0x1e6e_1000, "fmov d0, #1.000000000000000000e+00"),
            (0x4ddf_8420, "ld1 {v0.d}[1], [x1], #8"),
            (0x4e61_2820, "xtn2 v0.8h, v1.4s"),
            (0xffff_ffff, ".inst 0xffffffff"),
        ] {
            assert_eq!(disasm(word, 0x1000), text);
        }
    }

    #[test]
    fn every_encoding_has_text() {
        let mut state = 7u32;
        let mut random = move || {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            state ^ state >> 15
        };
        for encoding in Encoding::all() {
            for _ in 0..20 {
                let Some(word) = word_of(encoding, &mut random) else { panic!("{encoding:?} takes no word") };
                let text = disasm(word, 0);
                assert_ne!(text, encoding.row().name, "{encoding:?} has no text");
                assert!(text.starts_with(|c: char| c.is_ascii_lowercase()), "{text}");
            }
        }
    }
}
