//! From a word to the instruction that it is. The table behind it is generated from `a64.isa`.

use crate::features::{Feature, Features};
use crate::generated::decode::{BUCKETS, CANDIDATES, ROWS, construct};
use crate::insn::Insn;

/// A field of an encoding.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub struct Field {
    /// Its name in the table, lower case.
    pub name: &'static str,
    /// Its lowest bit.
    pub low: u8,
    /// Its width in bits.
    pub width: u8,
}

impl Field {
    /// Its value in `word`.
    #[must_use]
    pub const fn of(&self, word: u32) -> u32 {
        (word & self.mask()) >> self.low
    }

    /// The bits that it stands in.
    #[must_use]
    pub const fn mask(&self) -> u32 {
        (((1u64 << self.width) - 1) << self.low) as u32
    }
}

/// A line of the table.
#[derive(Debug)]
pub struct Row {
    /// The name of the encoding.
    pub name: &'static str,
    /// The bits that are fixed.
    pub mask: u32,
    /// Their values.
    pub value: u32,
    /// The feature that offers it.
    pub feature: Option<Feature>,
    /// Its fields, most significant first.
    pub fields: &'static [Field],
}

impl Row {
    /// The value of the field `name` in `word`; 0 when the encoding has no such field.
    #[must_use]
    pub fn field(&self, name: &str, word: u32) -> u32 {
        self.fields.iter().find(|field| field.name == name).map_or(0, |field| field.of(word))
    }
}

/// One encoding of the table.
#[derive(Copy, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Encoding(u16);

impl std::fmt::Debug for Encoding {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.row().name)
    }
}

impl Encoding {
    /// All encodings, in the order of the table.
    pub fn all() -> impl ExactSizeIterator<Item = Encoding> {
        (0..ROWS.len()).map(|index| Encoding(index as u16))
    }

    /// Its line of the table.
    #[must_use]
    pub fn row(self) -> &'static Row {
        &ROWS[usize::from(self.0)]
    }

    /// Its place in the table, for arrays by encoding.
    #[must_use]
    pub fn index(self) -> usize {
        usize::from(self.0)
    }
}

/// A line of the table in the list of a bucket: what the decoder's first level needs of it, in 12 bytes.
#[derive(Debug)]
pub(crate) struct Candidate {
    mask: u32,
    value: u32,
    row: u16,
    /// The feature that offers it, `NO_FEATURE` when every processor has it.
    feature: u8,
}

/// In [`Candidate::feature`]: none.
const NO_FEATURE: u8 = u8::MAX;
/// In [`Candidate::row`]: the end of the list.
const NO_ROW: u16 = u16::MAX;

/// Ends each list: it takes every word.
pub(crate) const END: Candidate = Candidate { mask: 0, value: 0, row: NO_ROW, feature: NO_FEATURE };

/// A line in the list of a bucket.
pub(crate) const fn candidate(mask: u32, value: u32, feature: Option<Feature>, row: u16) -> Candidate {
    let feature = match feature {
        Some(feature) => feature as u8,
        None => NO_FEATURE,
    };
    Candidate { mask, value, row, feature }
}

/// The bits that choose a bucket: 31:20 and 11:10 leave 1.1 candidates for a word of a Linux kernel.
const fn bucket(word: u32) -> usize {
    (word >> 18 & 0x3ffc | word >> 10 & 3) as usize
}

/// The candidates for a word that agree with its fixed bits.
fn candidates(word: u32) -> impl Iterator<Item = &'static Candidate> {
    CANDIDATES[usize::from(BUCKETS[bucket(word)])..]
        .iter()
        .filter(move |candidate| word & candidate.mask == candidate.value)
        .take_while(|candidate| candidate.row != NO_ROW)
}

/// The instruction that `word` is on a processor with `features`; [`Insn::Undefined`] when it is none.
#[inline]
#[must_use]
pub fn decode(word: u32, features: Features) -> Insn {
    for candidate in candidates(word) {
        if let Some(insn) = construct(candidate.row, word) {
            // No other line takes the word.
            return if candidate.feature == NO_FEATURE || features.has_number(candidate.feature) {
                insn
            } else {
                Insn::Undefined
            };
        }
    }
    Insn::Undefined
}

/// The encoding that `word` belongs to, whatever features a processor has.
#[must_use]
pub fn encoding(word: u32) -> Option<Encoding> {
    bucket_takers(word).next()
}

/// All encodings that take the word among those that the first level leaves. At most one in a sound table.
pub fn bucket_takers(word: u32) -> impl Iterator<Item = Encoding> {
    candidates(word)
        .filter(move |candidate| construct(candidate.row, word).is_some())
        .map(|candidate| Encoding(candidate.row))
}

/// All encodings that take the word: at most one in a sound table. Asks every line of it, unlike [`bucket_takers`], and is slow.
pub fn takers(word: u32) -> impl Iterator<Item = Encoding> {
    Encoding::all().filter(move |encoding| {
        let row = encoding.row();
        word & row.mask == row.value && construct(encoding.0, word).is_some()
    })
}

/// The word of an encoding with these values of its fields, in the order of [`Row::fields`]; `None` when their number is
/// wrong, a value does not fit, or the result is not of this encoding (a guard refuses it).
#[must_use]
pub fn encode(encoding: Encoding, values: &[u32]) -> Option<u32> {
    let row = encoding.row();
    if values.len() != row.fields.len() {
        return None;
    }
    let word = row.fields.iter().zip(values).try_fold(row.value, |word, (field, &value)| {
        (u64::from(value) < 1 << field.width).then(|| word | value << field.low)
    })?;
    construct(encoding.0, word).map(|_| word)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::insn::{AddrMode, LoadExt, Size};

    #[test]
    fn known_words() {
        let all = Features::ALL;
        assert_eq!(
            decode(0x9100_43ff, all),
            Insn::AddSubImm { sf: true, sub: false, setflags: false, rd: 31, rn: 31, imm: 16 }
        );
        assert_eq!(decode(0xd503_201f, all), Insn::Nop);
        assert_eq!(decode(0x1400_0000, all), Insn::Branch { link: false, offset: 0 });
        assert_eq!(
            decode(0xf940_0421, all),
            Insn::LoadImm {
                size: Size::X,
                ext: LoadExt::Zero,
                unpriv: false,
                mode: AddrMode::Offset,
                rt: 1,
                rn: 1,
                offset: 8
            }
        );
        assert_eq!(decode(0xffff_ffff, all), Insn::Undefined);
    }

    #[test]
    fn features_gate_their_encodings() {
        assert!(matches!(decode(0xb820_0041, Features::ALL), Insn::AtomicRmw { .. }));
        assert_eq!(decode(0xb820_0041, Features::ALL.without(Feature::Lse)), Insn::Undefined);
    }

    #[test]
    fn encoding_a_field_list_gives_a_word_of_the_same_fields() {
        for encoding in Encoding::all() {
            let fields = encoding.row().fields;
            let values: Vec<u32> = fields.iter().map(|_| 1).collect();
            if let Some(word) = encode(encoding, &values) {
                assert_eq!(super::encoding(word), Some(encoding), "{word:08x}");
                for field in fields {
                    assert_eq!(word >> field.low & ((1 << field.width) - 1), 1, "{encoding:?} {}", field.name);
                }
            }
            assert_eq!(encode(encoding, &[u32::MAX; 40]), None);
        }
    }
}
