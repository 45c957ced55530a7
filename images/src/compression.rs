//! Compressed streams, recognised by content.

use std::io::{self, BufRead};

/// Greatest window or dictionary that a decoder may allocate: what `xz -9` and `zstd -19` use, and some more.
const MAX_WINDOW: u64 = 128 << 20;

/// The contents of a stream that is compressed with gzip, xz or zstd, or not at all.
///
/// # Errors
/// What the input refuses, and damaged headers.
pub fn reader<'a>(mut input: impl BufRead + 'a) -> io::Result<Box<dyn io::Read + 'a>> {
    let start = input.fill_buf()?;
    if start.starts_with(b"\x1f\x8b") {
        Ok(Box::new(flate2::bufread::MultiGzDecoder::new(input)))
    } else if start.starts_with(b"\xfd7zXZ\0") {
        Ok(Box::new(lzma_rust2::XzReader::new_mem_limit(input, true, (MAX_WINDOW >> 10) as u32)))
    } else if start.starts_with(b"\x28\xb5\x2f\xfd") {
        let decoder = ruzstd::decoding::StreamingDecoder::new_with_max_window_size(input, MAX_WINDOW);
        Ok(Box::new(decoder.map_err(io::Error::other)?))
    } else {
        Ok(Box::new(input))
    }
}
