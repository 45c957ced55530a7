//! SHA-1 (FIPS 180-4) steps as the SHA1* instructions define them. Words are 32-bit elements, word 0 least significant.

use super::super::lanes::Lane;

/// The logical function of four SHA-1 rounds.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Hash)]
#[repr(u8)]
pub enum Sha1HashOp {
    /// Choose (rounds 0 to 19).
    Sha1c,
    /// Parity (rounds 20 to 39 and 60 to 79).
    Sha1p,
    /// Majority (rounds 40 to 59).
    Sha1m,
}

/// SHA1C, SHA1P, SHA1M: four rounds on `abcd` and `e` with the schedule words plus constants in `words`.
pub fn sha1_hash(op: Sha1HashOp, abcd: u128, e: u32, words: u128) -> u128 {
    let [mut a, mut b, mut c, mut d] = <u32 as Lane<4>>::split(abcd);
    let mut e = e;
    for word in <u32 as Lane<4>>::split(words) {
        let t = match op {
            Sha1HashOp::Sha1c => ((c ^ d) & b) ^ d,
            Sha1HashOp::Sha1p => b ^ c ^ d,
            Sha1HashOp::Sha1m => (b & c) | ((b | c) & d),
        };
        let new = e.wrapping_add(a.rotate_left(5)).wrapping_add(t).wrapping_add(word);
        (e, d, c, b, a) = (d, c, b.rotate_left(30), a, new);
    }
    u32::join([a, b, c, d])
}

/// SHA1H: the fixed rotation of the low word.
pub fn sha1h(x: u32) -> u32 {
    x.rotate_left(30)
}

/// SHA1SU0: first half of four schedule words; `d` holds words 0 to 3, `n` words 4 to 7, `m` words 8 to 11.
pub fn sha1su0(d: u128, n: u128, m: u128) -> u128 {
    (n << 64 | d >> 64) ^ d ^ m
}

/// SHA1SU1: second half of four schedule words; `d` is what [`sha1su0`] gave, `n` holds words 12 to 15.
pub fn sha1su1(d: u128, n: u128) -> u128 {
    let mut t = <u32 as Lane<4>>::split(d ^ (n >> 32)).map(|word| word.rotate_left(1));
    t[3] ^= t[0].rotate_left(1);
    u32::join(t)
}
