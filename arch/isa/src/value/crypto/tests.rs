//! The steps against published vectors and against independent implementations of the whole functions.

use super::*;
use ::aes::{Block, hazmat};
use ::sha1::{Digest, Sha1};
use proptest::prelude::*;
use sha2::Sha256;

fn big_endian_words(block: &[u8]) -> Vec<u32> {
    block.chunks_exact(4).map(|w| u32::from_be_bytes([w[0], w[1], w[2], w[3]])).collect()
}

fn pack(words: &[u32]) -> u128 {
    words.iter().rev().fold(0, |v, &word| v << 32 | u128::from(word))
}

fn unpack(v: u128) -> [u32; 4] {
    [0, 1, 2, 3].map(|i| (v >> (32 * i)) as u32)
}

fn each(v: u128, f: impl Fn(usize, u32) -> u32) -> u128 {
    let words = unpack(v);
    pack(&[0, 1, 2, 3].map(|i| f(i, words[i])))
}

fn add_words(a: u128, b: u128) -> u128 {
    let b = unpack(b);
    each(a, |i, word| word.wrapping_add(b[i]))
}

/// A message padded to whole blocks of 64 bytes.
fn padded(message: &[u8]) -> Vec<u8> {
    let mut bytes = message.to_vec();
    bytes.push(0x80);
    while bytes.len() % 64 != 56 {
        bytes.push(0);
    }
    bytes.extend((8 * message.len() as u64).to_be_bytes());
    bytes
}

/// The cube-root and square-root fractions of FIPS 180-4, computed.
fn root_fraction(n: u32, cube: bool) -> u32 {
    let (mut low, mut high) = (0u128, 1u128 << 40);
    while high - low > 1 {
        let middle = u128::midpoint(low, high);
        let too_big = if cube {
            // (middle / 2^32)^3 > n in integers that fit: compare middle^3 with n * 2^96.
            middle.pow(3) > u128::from(n) << 96
        } else {
            middle.pow(2) > u128::from(n) << 64
        };
        if too_big { high = middle } else { low = middle }
    }
    low as u32
}

fn primes() -> Vec<u32> {
    (2..).filter(|n| (2..*n).all(|d| n % d != 0)).take(64).collect()
}

fn sha256(message: &[u8]) -> Vec<u8> {
    let constants: Vec<u32> = primes().into_iter().map(|p| root_fraction(p, true)).collect();
    let start: Vec<u32> = primes()[..8].iter().map(|&p| root_fraction(p, false)).collect();
    let (mut abcd, mut efgh) = (pack(&start[..4]), pack(&start[4..]));
    for block in padded(message).chunks_exact(64) {
        let mut w: Vec<u128> = big_endian_words(block).chunks_exact(4).map(pack).collect();
        let (saved, saved_e) = (abcd, efgh);
        for round in 0..16 {
            let words = add_words(w[0], pack(&constants[4 * round..4 * round + 4]));
            let next = sha256su1(sha256su0(w[0], w[1]), w[2], w[3]);
            w.remove(0);
            w.push(next);
            (abcd, efgh) = (sha256h(abcd, efgh, words), sha256h2(efgh, abcd, words));
        }
        (abcd, efgh) = (add_words(abcd, saved), add_words(efgh, saved_e));
    }
    unpack(abcd).into_iter().chain(unpack(efgh)).flat_map(u32::to_be_bytes).collect()
}

fn sha1(message: &[u8]) -> Vec<u8> {
    let (mut abcd, mut e) = (pack(&[0x6745_2301, 0xefcd_ab89, 0x98ba_dcfe, 0x1032_5476]), 0xc3d2_e1f0);
    for block in padded(message).chunks_exact(64) {
        let mut w: Vec<u128> = big_endian_words(block).chunks_exact(4).map(pack).collect();
        let (saved, saved_e) = (abcd, e);
        for round in 0..20 {
            let (op, constant) = match round / 5 {
                0 => (Sha1HashOp::Sha1c, 0x5a82_7999),
                1 => (Sha1HashOp::Sha1p, 0x6ed9_eba1),
                2 => (Sha1HashOp::Sha1m, 0x8f1b_bcdc),
                _ => (Sha1HashOp::Sha1p, 0xca62_c1d6_u32),
            };
            let words = each(w[0], |_, word| word.wrapping_add(constant));
            let next = sha1su1(sha1su0(w[0], w[1], w[2]), w[3]);
            w.remove(0);
            w.push(next);
            let rotated = sha1h(abcd as u32);
            abcd = sha1_hash(op, abcd, e, words);
            e = rotated;
        }
        (abcd, e) = (add_words(abcd, saved), e.wrapping_add(saved_e));
    }
    unpack(abcd).into_iter().chain([e]).flat_map(u32::to_be_bytes).collect()
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|b| format!("{b:02x}")).collect()
}

#[test]
fn sha1_of_the_standard_messages() {
    assert_eq!(hex(&sha1(b"abc")), "a9993e364706816aba3e25717850c26c9cd0d89d");
    assert_eq!(
        hex(&sha1(b"abcdbcdecdefdefgefghfghighijhijkijkljklmklmnlmnomnopnopq")),
        "84983e441c3bd26ebaae4aa1f95129e5e54670f1"
    );
}

#[test]
fn sha256_of_the_standard_messages() {
    assert_eq!(hex(&sha256(b"abc")), "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
    assert_eq!(
        hex(&sha256(b"abcdbcdecdefdefgefghfghighijhijkijkljklmklmnlmnomnopnopq")),
        "248d6a61d20638b8e5c026930c3e6039a33ce45964ff2167f6ecedd419db06c1"
    );
}

/// FIPS 197, appendix B: the state before and after each step of round 1.
#[test]
fn aes_round_one_of_the_standard_example() {
    let state = |s: &str| u128::from_be_bytes(u128::from_str_radix(s, 16).unwrap().to_le_bytes());
    let start = state("193de3bea0f4e22b9ac68d2ae9f84808");
    let rows_shifted = state("d4bf5d30e0b452aeb84111f11e2798e5");
    let mixed = state("046681e5e0cb199a48f8d37a2806264c");
    assert_eq!(aes(AesOp::Aese, start, 0), rows_shifted);
    assert_eq!(aes(AesOp::Aese, start ^ 0x1234, 0x1234), rows_shifted);
    assert_eq!(aes(AesOp::Aesmc, rows_shifted, 0), mixed);
    assert_eq!(aes(AesOp::Aesd, rows_shifted, 0), start);
    assert_eq!(aes(AesOp::Aesimc, mixed, 0), rows_shifted);
}

proptest! {
    #[test]
    fn hashes_agree_with_other_implementations(message in prop::collection::vec(any::<u8>(), 0..300)) {
        prop_assert_eq!(sha1(&message), Sha1::digest(&message).to_vec());
        prop_assert_eq!(sha256(&message), Sha256::digest(&message).to_vec());
    }

    #[test]
    fn aes_rounds_agree_with_another_implementation(state in any::<u128>(), key in any::<u128>()) {
        let block = |f: &dyn Fn(&mut Block)| {
            let mut block = Block::from(state.to_le_bytes());
            f(&mut block);
            u128::from_le_bytes(block.into())
        };
        let key_block = Block::from(key.to_le_bytes());
        // The other implementation adds the key last, the architecture first.
        let encrypted = aes(AesOp::Aesmc, aes(AesOp::Aese, state, 0), 0) ^ key;
        prop_assert_eq!(encrypted, block(&|b| hazmat::cipher_round(b, &key_block)));
        let decrypted = aes(AesOp::Aesimc, aes(AesOp::Aesd, state, 0), 0) ^ key;
        prop_assert_eq!(decrypted, block(&|b| hazmat::equiv_inv_cipher_round(b, &key_block)));
        prop_assert_eq!(aes(AesOp::Aesmc, state, key), block(&|b| hazmat::mix_columns(b)));
        prop_assert_eq!(aes(AesOp::Aesimc, state, key), block(&|b| hazmat::inv_mix_columns(b)));
        prop_assert_eq!(aes(AesOp::Aese, state, key), aes(AesOp::Aese, state ^ key, 0));
        prop_assert_eq!(aes(AesOp::Aesd, aes(AesOp::Aese, state, 0), 0), state);
    }
}
