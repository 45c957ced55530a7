//! Random instruction words, for tests that compare two readings of the same word.
//!
//! The source of randomness is a closure, so that a caller can print a seed and replay it; this crate has no generator of its own.

use crate::decode::{Encoding, encoding};

/// Tries before [`word_of`] gives up. The rarest guard of the table (AND_imm and its kin) takes about every second word.
const TRIES: u32 = 10_000;

/// A random word of the encoding: its fields and the bits that it ignores are random. `None` when the table gives the encoding no
/// word, which would be a mistake in the table.
pub fn word_of(wanted: Encoding, random: &mut impl FnMut() -> u32) -> Option<u32> {
    let row = wanted.row();
    (0..TRIES).map(|_| random() & !row.mask | row.value).find(|&word| encoding(word) == Some(wanted))
}

/// A random allocated word. Each encoding is as likely as any other, however few words it has.
pub fn any(random: &mut impl FnMut() -> u32) -> u32 {
    loop {
        let number = random() as usize % Encoding::all().len();
        let word = Encoding::all().nth(number).and_then(|wanted| word_of(wanted, random));
        if let Some(word) = word {
            return word;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::decode::takers;

    /// A linear congruential generator of Knuth's; its upper half is random enough here.
    fn generator(mut state: u64) -> impl FnMut() -> u32 {
        move || {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (state >> 32) as u32
        }
    }

    #[test]
    fn every_encoding_has_words_and_no_word_two_encodings() {
        let mut random = generator(1);
        for wanted in Encoding::all() {
            for _ in 0..200 {
                let word = word_of(wanted, &mut random).unwrap_or_else(|| panic!("{wanted:?} takes no word"));
                let all: Vec<Encoding> = takers(word).collect();
                assert_eq!(all, [wanted], "{word:08x}");
            }
        }
    }

    #[test]
    fn the_first_level_loses_no_encoding() {
        let mut random = generator(2);
        for round in 0..100_000 {
            let word = if round % 2 == 0 { random() } else { any(&mut random) ^ 1 << (random() % 32) };
            assert_eq!(takers(word).next(), encoding(word), "{word:08x}");
            assert!(takers(word).count() <= 1, "{word:08x}: {:?}", takers(word).collect::<Vec<_>>());
        }
    }

    #[test]
    fn the_fields_of_a_word_encode_to_it() {
        let mut random = generator(3);
        for _ in 0..20_000 {
            let word = any(&mut random);
            let Some(found) = encoding(word) else { panic!("{word:08x} was allocated") };
            let row = found.row();
            let values: Vec<u32> = row.fields.iter().map(|field| field.of(word)).collect();
            let significant = row.fields.iter().fold(row.mask, |mask, field| mask | field.mask());
            assert_eq!(crate::encode(found, &values), Some(word & significant), "{found:?} {word:08x}");
        }
    }
}
