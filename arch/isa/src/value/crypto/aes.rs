//! AES single rounds (FIPS 197) as AESE, AESD, AESMC and AESIMC define them.

/// One AES step.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Hash)]
#[repr(u8)]
pub enum AesOp {
    /// AddRoundKey, ShiftRows, SubBytes.
    Aese,
    /// AddRoundKey, inverse ShiftRows, inverse SubBytes.
    Aesd,
    /// MixColumns.
    Aesmc,
    /// Inverse MixColumns.
    Aesimc,
}

/// Computes `op`. For `Aese` and `Aesd`, `state` is combined with `key` first; the other two ignore `key`.
pub fn aes(op: AesOp, state: u128, key: u128) -> u128 {
    match op {
        AesOp::Aese => {
            let bytes = (state ^ key).to_le_bytes();
            // Row r of column c comes from column c + r: byte 4c + r from byte 4(c + r) + r.
            u128::from_le_bytes(core::array::from_fn(|i| SBOX[usize::from(bytes[(5 * i) % 16])]))
        }
        AesOp::Aesd => {
            let bytes = (state ^ key).to_le_bytes();
            u128::from_le_bytes(core::array::from_fn(|i| INVERSE_SBOX[usize::from(bytes[(13 * i) % 16])]))
        }
        AesOp::Aesmc => columns(state, mix),
        AesOp::Aesimc => columns(state, |column| {
            // The inverse matrix is the matrix itself times one that adds 4 * (a + c) to each row.
            let twice = double(double(column ^ column.rotate_left(16)));
            mix(column ^ twice)
        }),
    }
}

fn columns(state: u128, f: impl Fn(u32) -> u32) -> u128 {
    super::super::lanes::map1::<u32, 4>(state, f)
}

/// MixColumns of one column, row 0 in the least significant byte.
fn mix(column: u32) -> u32 {
    let doubled = double(column);
    doubled ^ (doubled ^ column).rotate_right(8) ^ column.rotate_right(16) ^ column.rotate_right(24)
}

/// Each byte times x in GF(2^8) modulo x^8 + x^4 + x^3 + x + 1.
fn double(bytes: u32) -> u32 {
    let carries = bytes >> 7 & 0x0101_0101;
    (bytes << 1 & 0xfefe_fefe) ^ carries.wrapping_mul(0x1b)
}

const fn multiply(mut a: u8, mut b: u8) -> u8 {
    let mut product = 0;
    while b != 0 {
        if b & 1 != 0 {
            product ^= a;
        }
        a = a << 1 ^ if a & 0x80 != 0 { 0x1b } else { 0 };
        b >>= 1;
    }
    product
}

const fn inverse(x: u8) -> u8 {
    // x^254 is the inverse in a field of 256 elements, and 0 for 0.
    let (mut result, mut i) = (1, 0);
    while i < 254 {
        result = multiply(result, x);
        i += 1;
    }
    result
}

/// The substitution table, from its definition in FIPS 197 section 5.1.1.
static SBOX: [u8; 256] = sbox();
static INVERSE_SBOX: [u8; 256] = {
    let (forward, mut table, mut i) = (sbox(), [0; 256], 0);
    while i < 256 {
        table[forward[i] as usize] = i as u8;
        i += 1;
    }
    table
};

const fn sbox() -> [u8; 256] {
    let (mut table, mut i) = ([0; 256], 0);
    while i < 256 {
        let b = inverse(i as u8);
        table[i] = b ^ b.rotate_left(1) ^ b.rotate_left(2) ^ b.rotate_left(3) ^ b.rotate_left(4) ^ 0x63;
        i += 1;
    }
    table
}
