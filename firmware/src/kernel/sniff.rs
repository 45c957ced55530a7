//! What a file is, by its contents: names do not count.

use super::image;
use crate::bytes::{has, le16, le32};

/// A kind of file that people hand to a virtual machine as its kernel.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub enum Format {
    /// Raw arm64 `Image`.
    Image,
    /// ELF of any machine.
    Elf,
    /// EFI zboot: a self-decompressing arm64 EFI application around a compressed `Image`.
    Zboot,
    /// Legacy U-Boot image.
    UImage,
    /// gzip.
    Gzip,
    /// Zstandard.
    Zstd,
    /// LZ4 frame format.
    Lz4Frame,
    /// LZ4 legacy format, as the kernel's build makes it.
    Lz4Legacy,
    /// XZ.
    Xz,
    /// LZMA alone, the format before XZ.
    Lzma,
    /// bzip2.
    Bzip2,
    /// LZO as `lzop` writes it.
    Lzop,
    /// x86 Linux boot image.
    BzImage,
    /// 32-bit ARM self-decompressing kernel.
    ArmZImage,
    /// RISC-V or LoongArch boot image.
    ForeignImage(&'static str),
    /// PE program that is no Linux kernel, with its machine.
    Pe(u16),
    /// cpio archive: an initrd.
    Cpio,
    /// Flattened device tree (or a FIT image, which is one).
    DeviceTree,
    /// A file system or disk image.
    Disk(&'static str),
    /// An archive or a package.
    Archive(&'static str),
    /// Text.
    Text(&'static str),
    /// Nothing that is known here.
    Unknown,
}

/// Recognises `bytes`. Magics at large offsets are looked at only when the first bytes say nothing.
pub(crate) fn sniff(bytes: &[u8]) -> Format {
    if bytes.starts_with(b"MZ") || image::is_image(bytes) {
        return sniff_executable(bytes);
    }
    let start: [(&[u8], Format); 25] = [
        (b"\x7fELF", Format::Elf),
        (b"\x27\x05\x19\x56", Format::UImage),
        (b"\x1f\x8b\x08", Format::Gzip),
        (b"\x28\xb5\x2f\xfd", Format::Zstd),
        (b"\x04\x22\x4d\x18", Format::Lz4Frame),
        (b"\x02\x21\x4c\x18", Format::Lz4Legacy),
        (b"\xfd7zXZ\0", Format::Xz),
        (b"\x89LZO\0\r\n\x1a\n", Format::Lzop),
        (b"070701", Format::Cpio),
        (b"070702", Format::Cpio),
        (b"070707", Format::Cpio),
        (b"\xc7\x71", Format::Cpio),
        (b"\xd0\x0d\xfe\xed", Format::DeviceTree),
        (b"QFI\xfb", Format::Disk("a qcow2 disk image")),
        (b"KDMV", Format::Disk("a VMDK disk image")),
        (b"vhdxfile", Format::Disk("a VHDX disk image")),
        (b"hsqs", Format::Disk("a squashfs file system")),
        (b"ANDROID!", Format::Archive("an Android boot image")),
        (b"!<arch>\n", Format::Archive("an ar archive (a Debian package?)")),
        (b"PK\x03\x04", Format::Archive("a zip archive")),
        (b"\xed\xab\xee\xdb", Format::Archive("an RPM package")),
        (b"#!", Format::Text("a script")),
        (b"version https://git-lfs", Format::Text("a Git LFS pointer, not the file itself")),
        (b"<!", Format::Text("an HTML page (a failed download?)")),
        (b"<html", Format::Text("an HTML page (a failed download?)")),
    ];
    if let Some((_, format)) = start.iter().find(|(magic, _)| bytes.starts_with(magic)) {
        return *format;
    }
    if bytes.starts_with(b"BZh") && bytes.get(3).is_some_and(|level| (b'1'..=b'9').contains(level)) {
        return Format::Bzip2;
    }
    sniff_deep(bytes)
}

/// Files that start with `MZ` or are boot images without an EFI stub.
fn sniff_executable(bytes: &[u8]) -> Format {
    if has(bytes, 0x202, b"HdrS") {
        return Format::BzImage;
    }
    if has(bytes, 4, b"zimg") {
        return Format::Zboot;
    }
    if image::is_image(bytes) {
        return Format::Image;
    }
    if has(bytes, image::MAGIC_OFFSET, b"RSC\x05") {
        return Format::ForeignImage("a RISC-V kernel image");
    }
    let machine = le32(bytes, 60).and_then(|pe| {
        let pe = usize::try_from(pe).ok()?;
        has(bytes, pe, b"PE\0\0").then(|| le16(bytes, pe.checked_add(4)?)).flatten()
    });
    match machine {
        Some(0x6232 | 0x6264) => Format::ForeignImage("a LoongArch kernel image"),
        Some(machine) => Format::Pe(machine),
        None => Format::Unknown,
    }
}

/// Formats whose magic is not in front.
fn sniff_deep(bytes: &[u8]) -> Format {
    if has(bytes, 0x202, b"HdrS") {
        return Format::BzImage;
    }
    if le32(bytes, 0x24) == Some(0x016f_2818) {
        return Format::ArmZImage;
    }
    if has(bytes, 56, b"RSC\x05") {
        return Format::ForeignImage("a RISC-V kernel image");
    }
    if has(bytes, 257, b"ustar") {
        return Format::Archive("a tar archive");
    }
    if has(bytes, 512, b"EFI PART") || has(bytes, 510, &[0x55, 0xaa]) {
        return Format::Disk("a disk with a partition table");
    }
    if le16(bytes, 0x438) == Some(0xef53) {
        return Format::Disk("an ext2/3/4 file system");
    }
    if has(bytes, 0x8001, b"CD001") {
        return Format::Disk("an ISO 9660 image");
    }
    if is_lzma(bytes) {
        return Format::Lzma;
    }
    let head = bytes.get(..bytes.len().min(256)).unwrap_or_default();
    if !head.is_empty() && head.iter().all(|b| matches!(b, b'\t' | b'\n' | b'\r' | 0x20..=0x7e)) {
        return Format::Text("a text file");
    }
    Format::Unknown
}

/// LZMA alone has no magic: properties byte 0x5d (lc 3, lp 0, pb 2), a dictionary that is a power of two (or 3 times
/// one), and an uncompressed size that is unknown (all ones) or has its upper bytes clear.
fn is_lzma(bytes: &[u8]) -> bool {
    let (Some(0x5d), Some(dictionary)) = (bytes.first(), le32(bytes, 1)) else {
        return false;
    };
    let size_is_sane = has(bytes, 5, &[0xff; 8]) || has(bytes, 10, &[0; 3]);
    let dictionary_is_sane =
        dictionary.is_power_of_two() || (dictionary % 3 == 0 && (dictionary / 3).is_power_of_two());
    dictionary_is_sane && size_is_sane
}

impl Format {
    /// What the file is, with its article: "an x86 kernel (bzImage)".
    pub fn describe(self) -> String {
        let text = match self {
            Format::Image => "an arm64 Image",
            Format::Elf => "an ELF file",
            Format::Zboot => "an EFI zboot image",
            Format::UImage => "a U-Boot image",
            Format::Gzip => "a gzip file",
            Format::Zstd => "a Zstandard file",
            Format::Lz4Frame | Format::Lz4Legacy => "an LZ4 file",
            Format::Xz => "an XZ file",
            Format::Lzma => "an LZMA file",
            Format::Bzip2 => "a bzip2 file",
            Format::Lzop => "an LZO file",
            Format::BzImage => "an x86 kernel (bzImage)",
            Format::ArmZImage => "a 32-bit ARM kernel (zImage)",
            Format::Cpio => "an initrd (cpio archive)",
            Format::DeviceTree => "a flattened device tree",
            Format::ForeignImage(what) | Format::Disk(what) | Format::Archive(what) | Format::Text(what) => what,
            Format::Pe(0xaa64) => "an arm64 EFI program that is not a Linux kernel",
            Format::Pe(0x8664) => "an x86-64 EFI program",
            Format::Pe(0x014c) => "a 32-bit x86 program",
            Format::Pe(machine) => return format!("a PE program for machine {machine:#06x}"),
            Format::Unknown => "a file of no known format",
        };
        text.to_owned()
    }

    /// What to do with such a file instead of giving it as the kernel.
    pub(crate) fn advice(self) -> &'static str {
        match self {
            Format::Cpio => "give it with --initrd and a kernel with --kernel",
            Format::DeviceTree => "give it with --dtb and a kernel with --kernel",
            Format::Disk(_) => "give it with --disk and a kernel with --kernel",
            Format::BzImage | Format::ArmZImage | Format::ForeignImage(_) => {
                "this machine runs arm64 guests: give the kernel built for arm64 (Debian: linux-image-cloud-arm64)"
            }
            Format::Lzop => "unpack it first (lzop -d)",
            Format::Archive(_) => "unpack it and give the vmlinuz or Image inside with --kernel",
            _ => {
                "give an arm64 Image (plain, gzip, zstd, lz4, xz, lzma, bzip2, EFI zboot or uImage) or an AArch64 ELF with --kernel"
            }
        }
    }
}
