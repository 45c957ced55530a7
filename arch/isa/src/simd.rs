//! Operations and shapes of the Advanced SIMD classes, and the functions that decode their fields: shared by the decoder, the meaning
//! functions, the interpreter and translators.

pub use crate::value::crypto::AesOp;
pub use crate::value::lanes::{
    ESize, VecAcrossOp, VecBinOp, VecLongOp, VecNarrowOp, VecPairLongOp, VecPermuteOp, VecShiftOp, VecShiftRegOp,
    VecTernOp, VecUnOp, VecWidth, expand_imm,
};

/// What a long operation does with the old value of its destination.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Hash)]
#[repr(u8)]
pub enum Accumulate {
    /// The result replaces it.
    None,
    /// The result is added to it.
    Add,
    /// The result is subtracted from it.
    Sub,
    /// The result is added to it, signed and saturating.
    SatAdd,
    /// The result is subtracted from it, signed and saturating.
    SatSub,
}

/// What an immediate does to a vector register.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Hash)]
#[repr(u8)]
pub enum VecImmOp {
    /// MOVI, MVNI: replaces it. (MVNI's complement is taken at decode time.)
    Set,
    /// ORR: is inclusively ORed into it.
    Orr,
    /// BIC: clears its bits.
    Bic,
}

/// One step of SHA-1 or SHA-256. The comments name the roles of the registers.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Hash)]
#[repr(u8)]
pub enum ShaOp {
    /// `rd` = abcd after four choose rounds; `rn` = e, `rm` = words.
    Sha1c,
    /// `rd` = abcd after four parity rounds; `rn` = e, `rm` = words.
    Sha1p,
    /// `rd` = abcd after four majority rounds; `rn` = e, `rm` = words.
    Sha1m,
    /// `rd` = schedule step 1 of `rd`, `rn`, `rm`.
    Sha1su0,
    /// `rd` = e for the rounds after the next four, of `rn`.
    Sha1h,
    /// `rd` = schedule step 2 of `rd`, `rn`.
    Sha1su1,
    /// `rd` = abcd after four rounds; `rn` = efgh, `rm` = words.
    Sha256h,
    /// `rd` = efgh after four rounds; `rn` = abcd before them, `rm` = words.
    Sha256h2,
    /// `rd` = schedule step 1 of `rd`, `rn`.
    Sha256su0,
    /// `rd` = schedule step 2 of `rd`, `rn`, `rm`.
    Sha256su1,
}

/// The element size of a two-bit `size` field.
#[inline]
#[must_use]
pub const fn es(size: u32) -> ESize {
    ESize::from_field(size)
}

/// The width of a vector form: the `Q` field.
#[inline]
#[must_use]
pub const fn wq(q: bool) -> VecWidth {
    if q { VecWidth::Q16 } else { VecWidth::D8 }
}

/// The width of a scalar form with a two-bit `size` field.
#[inline]
#[must_use]
pub const fn ws(size: u32) -> VecWidth {
    ESize::from_field(size).scalar()
}

/// Index of the element of an "indexed element" form with elements of 16 (`H:L:M`) or 32 bits (`H:L`).
#[inline]
#[must_use]
pub const fn elem_index(size: u32, h: bool, l: bool, m: bool) -> u8 {
    let upper = (h as u8) << 1 | l as u8;
    if size == 1 { upper << 1 | m as u8 } else { upper }
}

/// Register of an "indexed element" form: four bits with elements of 16 bits, else five, the highest of which is `M`.
#[inline]
#[must_use]
pub const fn elem_rm(size: u32, m: bool, rm: u32) -> u8 {
    if size == 1 || !m { rm as u8 } else { rm as u8 | 16 }
}

/// Element size of a shift by immediate: the highest one bit of `immh`, which is not zero.
#[inline]
#[must_use]
pub const fn shift_es(immh: u32) -> ESize {
    match immh {
        8.. => ESize::D,
        4.. => ESize::S,
        2.. => ESize::H,
        _ => ESize::B,
    }
}

/// Count of a right shift by immediate: 1 to the element's bits.
#[inline]
#[must_use]
pub const fn right_count(immh: u32, immb: u32) -> u8 {
    (2 * shift_es(immh).bits()).wrapping_sub(immh << 3 | immb) as u8
}

/// Count of a left shift by immediate: 0 to the element's bits less one.
#[inline]
#[must_use]
pub const fn left_count(immh: u32, immb: u32) -> u8 {
    (immh << 3 | immb).wrapping_sub(shift_es(immh).bits()) as u8
}

/// Element size of DUP, INS, SMOV and UMOV: the lowest one bit of `imm5`.
#[inline]
#[must_use]
pub const fn copy_es(imm5: u32) -> ESize {
    ESize::from_field(imm5.trailing_zeros())
}

/// Element index of DUP, INS, SMOV and UMOV: the bits of `imm5` above its lowest one.
#[inline]
#[must_use]
pub const fn copy_index(imm5: u32) -> u8 {
    (imm5 >> (copy_es(imm5) as u32 + 1)) as u8
}

/// Width of a SIMD&FP load or store of one register: `opc<1>` with `size` 0 is 128 bits.
#[inline]
#[must_use]
pub const fn mem_width(size: u32, opc1: bool) -> VecWidth {
    if opc1 { VecWidth::Q16 } else { ESize::from_field(size).scalar() }
}

/// Width of each register of a SIMD&FP load or store of a pair, and of a literal: 4, 8 or 16 bytes.
#[inline]
#[must_use]
pub const fn pair_width(opc: u32) -> VecWidth {
    match opc {
        0 => VecWidth::S4,
        1 => VecWidth::D8,
        _ => VecWidth::Q16,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shift_counts_cover_their_ranges() {
        for immh in 1..16 {
            for immb in 0..8 {
                let bits = shift_es(immh).bits() as u8;
                let (right, left) = (right_count(immh, immb), left_count(immh, immb));
                assert!((1..=bits).contains(&right) && left < bits, "{immh} {immb}: {right} {left}");
                assert_eq!(right + left, bits);
            }
        }
    }

    #[test]
    fn copies_find_size_and_index() {
        assert_eq!((copy_es(0b10111), copy_index(0b10111)), (ESize::B, 11));
        assert_eq!((copy_es(0b10110), copy_index(0b10110)), (ESize::H, 5));
        assert_eq!((copy_es(0b10100), copy_index(0b10100)), (ESize::S, 2));
        assert_eq!((copy_es(0b11000), copy_index(0b11000)), (ESize::D, 1));
    }

    #[test]
    fn indexed_elements() {
        assert_eq!((elem_index(1, true, false, true), elem_rm(1, true, 9)), (5, 9));
        assert_eq!((elem_index(2, true, false, true), elem_rm(2, true, 9)), (2, 25));
    }
}
