//! The arm64 `Image` header (Linux, `Documentation/arch/arm64/booting.rst`, section 4).

use super::KernelError;
use crate::bytes::{has, le16, le32, le64};

/// `ARM\x64` at [`MAGIC_OFFSET`].
pub(super) const MAGIC: &[u8] = b"ARM\x64";
/// Where [`MAGIC`] stands.
pub(super) const MAGIC_OFFSET: usize = 56;
/// Size of the header.
const HEADER_SIZE: usize = 64;
/// Where the text starts after a 2 MiB boundary in kernels before 3.17, which leave `image_size` 0.
const OLD_TEXT_OFFSET: u64 = 0x8_0000;
/// Room that is kept behind the file of a kernel that does not tell its `image_size`: its BSS lies there.
const OLD_BSS_ROOM: u64 = 32 << 20;

/// The page size that the kernel says it was built for.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub enum PageSize {
    /// The header does not say (kernels before 4.2).
    Unspecified,
    /// 4 KiB.
    K4,
    /// 16 KiB.
    K16,
    /// 64 KiB.
    K64,
}

/// The checked header of a raw `Image`.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub struct ImageHeader {
    /// Distance in bytes of the image from a 2 MiB aligned base.
    pub text_offset: u64,
    /// Effective size in bytes, BSS included: from the header, or an estimate for kernels before 3.17.
    pub image_size: u64,
    /// The page size the kernel needs of the CPU.
    pub page_size: PageSize,
    /// Whether the 2 MiB aligned base may be anywhere in memory, not only near its start.
    pub anywhere: bool,
}

impl ImageHeader {
    /// Checks the header of the raw `Image` in `bytes`.
    ///
    /// # Errors
    /// [`KernelError::Truncated`] when the header or a section that its PE table names is cut off,
    /// [`KernelError::BigEndian`] for a big-endian kernel, [`KernelError::BadImageHeader`] for impossible numbers.
    pub fn parse(bytes: &[u8]) -> Result<ImageHeader, KernelError> {
        ImageHeader::parse_head(bytes, bytes.len() as u64)
    }

    /// As [`ImageHeader::parse`], for an `Image` of `size` bytes of which `bytes` are the first.
    pub(super) fn parse_head(bytes: &[u8], size: u64) -> Result<ImageHeader, KernelError> {
        let short = KernelError::Truncated { what: "arm64 Image", size, expected: HEADER_SIZE as u64 };
        let (Some(text_offset), Some(image_size), Some(flags)) = (le64(bytes, 8), le64(bytes, 16), le64(bytes, 24))
        else {
            return Err(short);
        };
        if bytes.len() < HEADER_SIZE {
            return Err(short);
        }
        if let Some(expected) = pe_file_size(bytes)
            && size < expected
        {
            return Err(KernelError::Truncated { what: "arm64 Image", size, expected });
        }
        ImageHeader::check(text_offset, image_size, flags, size)
    }

    /// Checks the header at the start of the first segment of a `vmlinux`, which takes `memory_size` bytes.
    pub(super) fn parse_in_elf(bytes: &[u8], memory_size: u64) -> Result<ImageHeader, KernelError> {
        let field = |offset| le64(bytes, offset).unwrap_or_default();
        ImageHeader::check(field(8), field(16), field(24), memory_size)
    }

    /// Checks the fields of the header of a kernel of at least `size` bytes.
    fn check(text_offset: u64, image_size: u64, flags: u64, size: u64) -> Result<ImageHeader, KernelError> {
        if flags & 1 != 0 {
            return Err(KernelError::BigEndian { what: "arm64 Image" });
        }
        if image_size == 0 {
            return Ok(ImageHeader {
                text_offset: OLD_TEXT_OFFSET,
                image_size: size.saturating_add(OLD_BSS_ROOM),
                page_size: PageSize::Unspecified,
                anywhere: false,
            });
        }
        // An offset of 2 MiB or more would contradict "from a 2 MiB aligned base".
        if text_offset >= 2 << 20 || !text_offset.is_multiple_of(0x1000) || image_size >= 1 << 40 {
            return Err(KernelError::BadImageHeader { text_offset, image_size });
        }
        let page_size = match (flags >> 1) & 3 {
            1 => PageSize::K4,
            2 => PageSize::K16,
            3 => PageSize::K64,
            _ => PageSize::Unspecified,
        };
        Ok(ImageHeader { text_offset, image_size: image_size.max(size), page_size, anywhere: flags & 8 != 0 })
    }
}

/// Whether the arm64 magic stands where the header has it.
pub(super) fn is_image(bytes: &[u8]) -> bool {
    has(bytes, MAGIC_OFFSET, MAGIC)
}

/// The file size that the PE section table of an EFI-stub kernel promises, if there is such a table.
fn pe_file_size(bytes: &[u8]) -> Option<u64> {
    let pe = le32(bytes, 60)? as usize;
    if pe == 0 || !has(bytes, pe, b"PE\0\0") {
        return None;
    }
    let sections = usize::from(le16(bytes, pe.checked_add(6)?)?);
    let optional = usize::from(le16(bytes, pe.checked_add(20)?)?);
    let table = pe.checked_add(24)?.checked_add(optional)?;
    let mut end = 0;
    for section in 0..sections {
        let entry = table.checked_add(section * 40)?;
        let (raw_size, raw_start) = (le32(bytes, entry.checked_add(16)?)?, le32(bytes, entry.checked_add(20)?)?);
        if raw_size != 0 {
            end = end.max(u64::from(raw_start) + u64::from(raw_size));
        }
    }
    Some(end)
}
