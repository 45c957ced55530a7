//! Takes numbers off the front of the fuzzer's bytes.

/// The bytes that are left; each number is none when they run out.
pub(crate) struct Bytes<'a>(pub(crate) &'a [u8]);

impl Bytes<'_> {
    pub(crate) fn u8(&mut self) -> Option<u8> {
        let (&first, rest) = self.0.split_first()?;
        self.0 = rest;
        Some(first)
    }

    fn number(&mut self, bytes: usize) -> Option<u64> {
        (0..bytes).try_fold(0, |value, i| Some(value | u64::from(self.u8()?) << (8 * i)))
    }

    pub(crate) fn u16(&mut self) -> Option<u16> {
        self.number(2).map(|v| v as u16)
    }

    pub(crate) fn u32(&mut self) -> Option<u32> {
        self.number(4).map(|v| v as u32)
    }

    pub(crate) fn u64(&mut self) -> Option<u64> {
        self.number(8)
    }
}
