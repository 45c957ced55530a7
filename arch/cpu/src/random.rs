//! Random numbers for RNDR from the host's generator.
#![expect(unsafe_code, reason = "getrandom has no safe wrapper in std")]

/// 64 random bits.
pub fn u64() -> u64 {
    let mut bytes = [0u8; 8];
    // SAFETY: the buffer is ours and has the length given.
    let n = unsafe { libc::getrandom(bytes.as_mut_ptr().cast(), bytes.len(), 0) };
    if n == 8 {
        return u64::from_ne_bytes(bytes);
    }
    // A host without getrandom: the standard library's hash keys are seeded from the system.
    use std::hash::{BuildHasher, Hasher};
    std::collections::hash_map::RandomState::new().build_hasher().finish()
}
