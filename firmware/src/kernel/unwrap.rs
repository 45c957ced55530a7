//! Takes wrappings off: compression, EFI zboot and U-Boot's legacy image.

use std::io::{BufRead, Read};

use super::{Format, KernelError, Limits, sniff};
use crate::bytes::{be32, le32};

/// Greatest window or dictionary that a decoder may allocate, in bytes: `zstd -22 --ultra`, with which kernels are
/// packed, asks for 128 MiB.
const MAX_WINDOW: u64 = 256 << 20;
/// After so many unpacked bytes it shows whether a kernel comes out or something else.
const PEEK: usize = 64 << 10;
/// Bytes unpacked between two checks of the limit.
const CHUNK: u64 = 1 << 20;
/// Greatest unpacked size of a block in LZ4's legacy format.
const LZ4_LEGACY_BLOCK: usize = 8 << 20;
/// Size of the header of U-Boot's legacy image.
const UIMAGE_HEADER: usize = 64;
/// `IH_ARCH_ARM64`.
const UIMAGE_ARM64: u8 = 22;

/// The name of a wrapping that can be taken off.
pub(super) fn name(format: Format) -> Option<&'static str> {
    match format {
        Format::Zboot => Some("zboot"),
        Format::UImage => Some("uImage"),
        _ => compression_name(format),
    }
}

/// Takes one wrapping of the given format off; see [`name`] for those that there are.
pub(super) fn unwrap(format: Format, bytes: &[u8], limits: &Limits) -> Result<Vec<u8>, KernelError> {
    match format {
        Format::Zboot => zboot_payload(bytes).map(<[u8]>::to_vec),
        Format::UImage => uimage_payload(bytes).map(<[u8]>::to_vec),
        _ => decompress(format, bytes, &Output { limit: limits.max_size, stop_at: None }),
    }
}

/// The first bytes, at most 64 KiB, of what is inside compressed data; as far as it can be read.
pub(crate) fn peek(format: Format, bytes: &[u8]) -> Option<Vec<u8>> {
    compression_name(format)?;
    decompress(format, bytes, &Output { limit: u64::MAX, stop_at: Some(PEEK) }).ok()
}

/// The name of a compression that can be taken off.
fn compression_name(format: Format) -> Option<&'static str> {
    Some(match format {
        Format::Gzip => "gzip",
        Format::Zstd => "zstd",
        Format::Lz4Frame | Format::Lz4Legacy => "lz4",
        Format::Xz => "xz",
        Format::Lzma => "lzma",
        Format::Bzip2 => "bzip2",
        _ => return None,
    })
}

/// How much may come out.
struct Output {
    /// Bytes that must not be exceeded.
    limit: u64,
    /// Enough is known after so many bytes.
    stop_at: Option<usize>,
}

impl Output {
    /// Reads all of `reader` behind what is in `out` already. Whether more is wanted.
    fn read(&self, name: &'static str, reader: &mut impl Read, out: &mut Vec<u8>) -> Result<bool, KernelError> {
        loop {
            let before = out.len();
            let chunk = self.stop_at.map_or(CHUNK, |stop| (stop as u64).min(CHUNK));
            let result = reader.by_ref().take(chunk).read_to_end(out);
            self.check(before, out)?;
            if let Err(error) = result {
                // The start of cut-off data is still good for saying what it is.
                return if self.stop_at.is_some() { Ok(false) } else { Err(damaged(name, out.len(), &error)) };
            }
            if self.stop_at.is_some_and(|stop| out.len() >= stop) {
                return Ok(false);
            }
            if out.len() == before {
                return Ok(true);
            }
        }
    }

    /// Stops early at the limit, and when what comes out is clearly no kernel.
    fn check(&self, before: usize, out: &[u8]) -> Result<(), KernelError> {
        if out.len() as u64 > self.limit {
            return Err(KernelError::TooLarge { size: out.len() as u64, limit: self.limit });
        }
        if self.stop_at.is_none() && before == 0 && out.len() >= PEEK {
            let found = sniff::sniff(out);
            if matches!(
                found,
                Format::Cpio | Format::DeviceTree | Format::Disk(_) | Format::Archive(_) | Format::Text(_)
            ) {
                return Err(KernelError::NotAKernel { found, wrapping: Vec::new() });
            }
        }
        Ok(())
    }
}

fn damaged(name: &'static str, after: usize, reason: &impl ToString) -> KernelError {
    KernelError::Damaged { what: name, after, reason: reason.to_string() }
}

fn decompress(format: Format, bytes: &[u8], output: &Output) -> Result<Vec<u8>, KernelError> {
    let mut out = Vec::new();
    let name = compression_name(format).unwrap_or("compressed");
    match format {
        Format::Gzip => members(bytes, b"\x1f\x8b\x08", |rest| {
            let mut decoder = flate2::bufread::GzDecoder::new(rest);
            let more = output.read(name, &mut decoder, &mut out)?;
            Ok((decoder.into_inner(), more))
        })?,
        Format::Bzip2 => members(bytes, b"BZh", |rest| {
            let mut decoder = bzip2::bufread::BzDecoder::new(rest);
            let more = output.read(name, &mut decoder, &mut out)?;
            Ok((decoder.into_inner(), more))
        })?,
        Format::Zstd => members(bytes, b"\x28\xb5\x2f\xfd", |mut rest| {
            let mut decoder = ruzstd::decoding::StreamingDecoder::new_with_max_window_size(&mut rest, MAX_WINDOW)
                .map_err(|error| damaged(name, 0, &error))?;
            let more = output.read(name, &mut decoder, &mut out)?;
            Ok((rest, more))
        })?,
        Format::Lz4Frame => {
            output.read(name, &mut lz4_flex::frame::FrameDecoder::new(bytes), &mut out)?;
        }
        Format::Lz4Legacy => lz4_legacy(bytes, output, &mut out)?,
        Format::Xz => {
            let mut reader = lzma_rust2::XzReader::new_mem_limit(bytes, false, (MAX_WINDOW >> 10) as u32);
            output.read(name, &mut reader, &mut out)?;
        }
        Format::Lzma => {
            let mut reader = lzma_rust2::LzmaReader::new_mem_limit(bytes, (MAX_WINDOW >> 10) as u32, None)
                .map_err(|error| damaged(name, 0, &error))?;
            output.read(name, &mut reader, &mut out)?;
        }
        _ => {}
    }
    Ok(out)
}

/// Decodes members (frames, streams) that stand one behind the other, as parallel compressors write them. What follows
/// the last one, such as the size that the kernel's build appends, is ignored.
fn members<'a>(
    mut rest: &'a [u8],
    magic: &[u8],
    mut decode: impl FnMut(&'a [u8]) -> Result<(&'a [u8], bool), KernelError>,
) -> Result<(), KernelError> {
    loop {
        let before = rest.len();
        let (after, more) = decode(rest)?;
        if !more || after.len() >= before || !after.starts_with(magic) {
            return Ok(());
        }
        rest = after;
    }
}

/// LZ4's legacy format: blocks of at most 8 MiB, each behind its 32-bit packed size. It has no end mark; the kernel's
/// build appends the unpacked size, which reads as one more block size with nothing behind it.
fn lz4_legacy(bytes: &[u8], output: &Output, out: &mut Vec<u8>) -> Result<(), KernelError> {
    const MAGIC: u32 = 0x184c_2102;
    let mut rest = bytes.get(4..).unwrap_or_default();
    let mut block = vec![0; LZ4_LEGACY_BLOCK];
    while let Some(size) = le32(rest, 0) {
        rest.consume(4);
        if size == MAGIC {
            continue;
        }
        if rest.is_empty() {
            break;
        }
        let packed = usize::try_from(size).ok().and_then(|size| rest.split_at_checked(size));
        let Some((packed, behind)) = packed else {
            return Err(damaged("lz4", out.len(), &format!("a block of {size} bytes with {} bytes left", rest.len())));
        };
        let length =
            lz4_flex::block::decompress_into(packed, &mut block).map_err(|error| damaged("lz4", out.len(), &error))?;
        let before = out.len();
        out.extend_from_slice(block.get(..length).unwrap_or_default());
        output.check(before, out)?;
        if output.stop_at.is_some_and(|stop| out.len() >= stop) {
            break;
        }
        rest = behind;
    }
    Ok(())
}

/// EFI zboot (Linux, `drivers/firmware/efi/libstub/zboot-header.S`): where the payload is stands at bytes 8 and 12; the
/// name of its compression at byte 24 is not trusted.
fn zboot_payload(bytes: &[u8]) -> Result<&[u8], KernelError> {
    let size = bytes.len() as u64;
    let header = le32(bytes, 8).zip(le32(bytes, 12));
    let (start, length) = header.ok_or(KernelError::Truncated { what: "EFI zboot image", size, expected: 64 })?;
    let end = u64::from(start) + u64::from(length);
    let range = usize::try_from(start).ok().zip(usize::try_from(end).ok());
    range.and_then(|(start, end)| bytes.get(start..end)).ok_or(KernelError::Truncated {
        what: "EFI zboot image",
        size,
        expected: end,
    })
}

/// U-Boot's legacy image (`include/image.h`): a big-endian header of 64 bytes; size at byte 12, operating system, machine,
/// type and compression from byte 28.
fn uimage_payload(bytes: &[u8]) -> Result<&[u8], KernelError> {
    let truncated = |expected| KernelError::Truncated { what: "U-Boot image", size: bytes.len() as u64, expected };
    let length = be32(bytes, 12).ok_or(truncated(UIMAGE_HEADER as u64))?;
    let machine = *bytes.get(29).ok_or(truncated(UIMAGE_HEADER as u64))?;
    if machine != UIMAGE_ARM64 {
        return Err(KernelError::ForeignUImage { machine });
    }
    let expected = UIMAGE_HEADER as u64 + u64::from(length);
    let end = usize::try_from(expected).map_err(|_| truncated(expected))?;
    bytes.get(UIMAGE_HEADER..end).ok_or(truncated(expected))
}
