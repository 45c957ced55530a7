//! SHA-256 (FIPS 180-4) steps as the SHA256* instructions define them. Words are 32-bit elements, word 0 least significant.

use super::super::lanes::Lane;

fn hash(abcd: u128, efgh: u128, words: u128) -> (u128, u128) {
    let [mut a, mut b, mut c, mut d] = <u32 as Lane<4>>::split(abcd);
    let [mut e, mut f, mut g, mut h] = <u32 as Lane<4>>::split(efgh);
    for word in <u32 as Lane<4>>::split(words) {
        let choose = ((f ^ g) & e) ^ g;
        let majority = (a & b) | ((a | b) & c);
        let sigma1 = e.rotate_right(6) ^ e.rotate_right(11) ^ e.rotate_right(25);
        let sigma0 = a.rotate_right(2) ^ a.rotate_right(13) ^ a.rotate_right(22);
        let t = h.wrapping_add(sigma1).wrapping_add(choose).wrapping_add(word);
        (h, g, f, e) = (g, f, e, d.wrapping_add(t));
        (d, c, b, a) = (c, b, a, t.wrapping_add(sigma0).wrapping_add(majority));
    }
    (u32::join([a, b, c, d]), u32::join([e, f, g, h]))
}

/// SHA256H: the new `abcd` after four rounds with the schedule words plus constants in `words`.
pub fn sha256h(abcd: u128, efgh: u128, words: u128) -> u128 {
    hash(abcd, efgh, words).0
}

/// SHA256H2: the new `efgh` after four rounds; `abcd` is the value before them.
pub fn sha256h2(efgh: u128, abcd: u128, words: u128) -> u128 {
    hash(abcd, efgh, words).1
}

/// SHA256SU0: first half of four schedule words; `d` holds words 0 to 3, `n` words 4 to 7.
pub fn sha256su0(d: u128, n: u128) -> u128 {
    let (d, next) = (<u32 as Lane<4>>::split(d), <u32 as Lane<4>>::split(n << 96 | d >> 32));
    u32::join(core::array::from_fn(|i| {
        let x = next[i];
        d[i].wrapping_add(x.rotate_right(7) ^ x.rotate_right(18) ^ x >> 3)
    }))
}

/// SHA256SU1: second half of four schedule words; `d` is what [`sha256su0`] gave, `n` holds words 8 to 11, `m` words 12 to 15.
pub fn sha256su1(d: u128, n: u128, m: u128) -> u128 {
    let sigma = |x: u32| x.rotate_right(17) ^ x.rotate_right(19) ^ x >> 10;
    let (d, n, m) =
        (<u32 as Lane<4>>::split(d), <u32 as Lane<4>>::split(m << 96 | n >> 32), <u32 as Lane<4>>::split(m));
    let low = [0, 1].map(|i| d[i].wrapping_add(n[i]).wrapping_add(sigma(m[i + 2])));
    let high = [0, 1].map(|i| d[i + 2].wrapping_add(n[i + 2]).wrapping_add(sigma(low[i])));
    u32::join([low[0], low[1], high[0], high[1]])
}
