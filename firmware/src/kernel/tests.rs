//! Kernels made here, wrapped every way that is known, and mistaken for each other.

use std::io::Write;

use proptest::prelude::*;

use super::*;

/// An `Image` of `size` bytes with contents that compress neither fully nor not at all.
pub(crate) fn image(size: usize, text_offset: u64, image_size: u64) -> Vec<u8> {
    let mut bytes: Vec<u8> = (0..size).map(|i| ((i * i) >> 7) as u8).collect();
    bytes[..64].fill(0);
    bytes[..4].copy_from_slice(&[0x4d, 0x5a, 0x40, 0xfa]);
    bytes[8..16].copy_from_slice(&text_offset.to_le_bytes());
    bytes[16..24].copy_from_slice(&image_size.to_le_bytes());
    bytes[24..32].copy_from_slice(&0b1010u64.to_le_bytes());
    bytes[56..60].copy_from_slice(image::MAGIC);
    bytes
}

/// An AArch64 ELF file; segments are (virtual, physical, contents, memory size).
pub(crate) fn elf(kind: u16, entry: u64, segments: &[(u64, u64, &[u8], u64)]) -> Vec<u8> {
    let mut bytes = vec![0; 64];
    bytes[..7].copy_from_slice(b"\x7fELF\x02\x01\x01");
    bytes[16..18].copy_from_slice(&kind.to_le_bytes());
    bytes[18..20].copy_from_slice(&183u16.to_le_bytes());
    bytes[24..32].copy_from_slice(&entry.to_le_bytes());
    bytes[32..40].copy_from_slice(&64u64.to_le_bytes());
    bytes[54..56].copy_from_slice(&56u16.to_le_bytes());
    bytes[56..58].copy_from_slice(&(segments.len() as u16).to_le_bytes());
    let mut offset = 64 + 56 * segments.len();
    for (virtual_address, physical, contents, memory) in segments {
        bytes.extend(1u32.to_le_bytes());
        bytes.extend(7u32.to_le_bytes());
        for value in [offset as u64, *virtual_address, *physical, contents.len() as u64, *memory, 0x1000] {
            bytes.extend(value.to_le_bytes());
        }
        offset += contents.len();
    }
    for (_, _, contents, _) in segments {
        bytes.extend(*contents);
    }
    bytes
}

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    encoder.write_all(bytes).expect("memory");
    encoder.finish().expect("memory")
}

fn bzip2(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = ::bzip2::write::BzEncoder::new(Vec::new(), ::bzip2::Compression::fast());
    encoder.write_all(bytes).expect("memory");
    encoder.finish().expect("memory")
}

fn zstd(bytes: &[u8]) -> Vec<u8> {
    ruzstd::encoding::compress_to_vec(bytes, ruzstd::encoding::CompressionLevel::Fastest)
}

fn xz(bytes: &[u8]) -> Vec<u8> {
    let mut encoder =
        lzma_rust2::XzWriter::new(Vec::new(), lzma_rust2::XzOptions::with_preset(1)).expect("valid options");
    encoder.write_all(bytes).expect("memory");
    encoder.finish().expect("memory")
}

fn lzma(bytes: &[u8]) -> Vec<u8> {
    let options = lzma_rust2::LzmaOptions::with_preset(1);
    let mut encoder = lzma_rust2::LzmaWriter::new_use_header(Vec::new(), &options, None).expect("valid options");
    encoder.write_all(bytes).expect("memory");
    encoder.finish().expect("memory")
}

fn lz4_frame(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = lz4_flex::frame::FrameEncoder::new(Vec::new());
    encoder.write_all(bytes).expect("memory");
    encoder.finish().expect("memory")
}

/// As `lz4 -l` and the kernel's build make it, with the size that the build appends.
fn lz4_legacy(bytes: &[u8]) -> Vec<u8> {
    let mut out = vec![0x02, 0x21, 0x4c, 0x18];
    for block in bytes.chunks(8 << 20) {
        let packed = lz4_flex::block::compress(block);
        out.extend((packed.len() as u32).to_le_bytes());
        out.extend(packed);
    }
    out.extend((bytes.len() as u32).to_le_bytes());
    out
}

fn zboot(payload: &[u8]) -> Vec<u8> {
    let mut bytes = vec![0; 0x1000];
    bytes[..2].copy_from_slice(b"MZ");
    bytes[4..8].copy_from_slice(b"zimg");
    bytes[8..12].copy_from_slice(&0x1000u32.to_le_bytes());
    bytes[12..16].copy_from_slice(&(payload.len() as u32).to_le_bytes());
    bytes[24..28].copy_from_slice(b"what");
    bytes.extend(payload);
    bytes.extend(0x1234_5678u32.to_le_bytes());
    bytes
}

fn uimage(machine: u8, payload: &[u8]) -> Vec<u8> {
    let mut bytes = vec![0; 64];
    bytes[..4].copy_from_slice(b"\x27\x05\x19\x56");
    bytes[12..16].copy_from_slice(&(payload.len() as u32).to_be_bytes());
    bytes[28..32].copy_from_slice(&[5, machine, 2, 0]);
    bytes.extend(payload);
    bytes
}

fn parse(bytes: &[u8]) -> Result<Kernel, KernelError> {
    parse_kernel(bytes.to_vec(), &Limits::default())
}

fn message(bytes: &[u8]) -> String {
    parse(bytes).expect_err("must be refused").to_string()
}

#[test]
fn a_raw_image_keeps_its_bytes_and_header() {
    let bytes = image(0x3000, 0, 0x8000);
    let kernel = parse(&bytes).expect("an Image");
    assert_eq!(kernel.kind(), KernelKind::Image);
    assert!(kernel.wrapping.is_empty());
    assert_eq!(kernel.bytes, bytes);
    let expected = ImageHeader { text_offset: 0, image_size: 0x8000, page_size: PageSize::K4, anywhere: true };
    assert_eq!(kernel.layout, Layout::Image(expected));
}

#[test]
fn an_image_is_known_by_its_head() {
    let bytes = image(0x3000, 0, 0x8000);
    let whole = parse(&bytes).expect("an Image");
    let head = |n: usize, length: u64| parse_image_head(bytes[..n].to_vec(), length, &Limits::default());
    for n in [64, 0x1000, bytes.len()] {
        let kernel = head(n, 0x3000).expect("an Image");
        assert_eq!((kernel.layout, kernel.unread), (whole.layout.clone(), 0x3000 - n as u64));
    }
    assert!(head(63, 0x3000).is_none() && head(0x1000, 0xfff).is_none(), "less than a header, more than the file");
    assert!(head(0x1000, Limits::default().max_size + 1).is_none());
    let elf = parse_image_head(b"\x7fELF".to_vec(), 4, &Limits::default());
    assert!(elf.is_none());
}

#[test]
fn a_kernel_without_image_size_gets_the_old_offset_and_room() {
    let kernel = parse(&image(0x3000, 0x1234_5678, 0)).expect("an old Image");
    let Layout::Image(header) = kernel.layout else { panic!("not an Image") };
    assert_eq!(header.text_offset, 0x8_0000);
    assert!(header.image_size > 0x3000 + (16 << 20));
    assert!(!header.anywhere);
}

#[test]
fn every_compression_comes_off() {
    // Two blocks of LZ4's legacy format.
    let plain = image((8 << 20) + 4711, 0, 16 << 20);
    for (name, packed) in [
        ("gzip", gzip(&plain)),
        ("bzip2", bzip2(&plain)),
        ("zstd", zstd(&plain)),
        ("xz", xz(&plain)),
        ("lzma", lzma(&plain)),
        ("lz4", lz4_frame(&plain)),
        ("lz4", lz4_legacy(&plain)),
    ] {
        let kernel = parse(&packed).unwrap_or_else(|error| panic!("{name}: {error}"));
        assert_eq!(kernel.wrapping, [name]);
        assert!(kernel.bytes == plain, "{name} changed the contents");
        // The kernel's build and signing tools append things.
        let mut longer = packed.clone();
        longer.extend((plain.len() as u32).to_le_bytes());
        if name != "lz4" {
            assert!(parse(&longer).unwrap_or_else(|error| panic!("{name}: {error}")).bytes == plain, "{name}");
        }
        let cut = packed.len() / 2;
        let error = message(&packed[..cut]);
        assert!(error.contains(name) && error.contains("cut off"), "{name}: {error}");
    }
}

#[test]
fn members_one_behind_the_other_are_joined() {
    let plain = image(0x9000, 0, 0x1_0000);
    let (a, b) = plain.split_at(0x4321);
    for (name, pack) in [("gzip", gzip as fn(&[u8]) -> Vec<u8>), ("bzip2", bzip2), ("zstd", zstd)] {
        let kernel = parse(&[pack(a), pack(b)].concat()).unwrap_or_else(|error| panic!("{name}: {error}"));
        assert!(kernel.bytes == plain, "{name}");
    }
}

#[test]
fn wrappings_nest_up_to_the_limit() {
    let plain = image(0x9000, 0, 0x1_0000);
    let kernel = parse(&gzip(&zboot(&zstd(&plain)))).expect("a wrapped kernel");
    assert_eq!(kernel.wrapping, ["gzip", "zboot", "zstd"]);
    assert_eq!(kernel.bytes, plain);
    assert_eq!(parse(&uimage(22, &plain)).expect("a uImage").wrapping, ["uImage"]);
    let five = (0..5).fold(plain, |inner, _| gzip(&inner));
    assert!(matches!(parse(&five), Err(KernelError::TooDeep { limit: 4, .. })));
}

#[test]
fn unpacking_stops_at_the_limit() {
    let bomb = gzip(&vec![0u8; 64 << 20]);
    let limits = Limits { max_size: 4 << 20, max_depth: 4 };
    match parse_kernel(bomb, &limits) {
        Err(KernelError::TooLarge { size, .. }) => assert!(size <= 6 << 20, "{size} bytes were unpacked"),
        other => panic!("{other:?}"),
    }
    assert!(matches!(
        parse_kernel(vec![0; 5 << 20], &limits),
        Err(KernelError::TooLarge { size, .. }) if size == 5 << 20
    ));
}

#[test]
fn each_mistaken_file_gets_its_own_message() {
    assert_eq!(parse(b""), Err(KernelError::Empty));
    let mut bzimage = vec![0; 0x400];
    bzimage[..2].copy_from_slice(b"MZ");
    bzimage[0x1fe..0x206].copy_from_slice(b"\x55\xaa\0\0HdrS");
    let mut zimage = vec![0; 0x100];
    zimage[0x24..0x28].copy_from_slice(&0x016f_2818u32.to_le_bytes());
    let mut riscv = vec![0; 0x100];
    riscv[56..60].copy_from_slice(b"RSC\x05");
    let mut pe = vec![0; 0x100];
    pe[..2].copy_from_slice(b"MZ");
    pe[60] = 0x80;
    pe[0x80..0x86].copy_from_slice(b"PE\0\0\x64\x86");
    let mut ext4 = vec![0; 0x800];
    ext4[0x438..0x43a].copy_from_slice(&0xef53u16.to_le_bytes());
    let mut gpt = vec![0; 0x800];
    gpt[512..520].copy_from_slice(b"EFI PART");
    let cpio = [b"070701".as_slice(), &[b'0'; 0x2_0000]].concat();
    for (bytes, parts) in [
        (bzimage, ["x86 kernel (bzImage)", "built for arm64"]),
        (zimage, ["32-bit ARM kernel", "built for arm64"]),
        (riscv, ["RISC-V", "built for arm64"]),
        (pe, ["x86-64 EFI program", "--kernel"]),
        (cpio.clone(), ["an initrd", "--initrd"]),
        (gzip(&cpio), ["an initrd (cpio archive) inside gzip", "--initrd"]),
        (b"\xd0\x0d\xfe\xed0000".to_vec(), ["device tree", "--dtb"]),
        (ext4, ["ext2/3/4", "--disk"]),
        (gpt, ["partition table", "--disk"]),
        (b"QFI\xfb0000".to_vec(), ["qcow2", "--disk"]),
        (b"#!/bin/sh\n".to_vec(), ["a script", "--kernel"]),
        (b"<!DOCTYPE html>".to_vec(), ["HTML", "--kernel"]),
        (b"!<arch>\ndebian-binary".to_vec(), ["Debian package", "unpack"]),
        (b"Hello, kernel.\n".to_vec(), ["a text file", "--kernel"]),
        (vec![0x99; 5000], ["no known format", "--kernel"]),
        (uimage(2, b"x"), ["machine type 2", "arm64"]),
    ] {
        let text = message(&bytes);
        assert!(parts.iter().all(|part| text.contains(part)), "{text} lacks one of {parts:?}");
    }
}

#[test]
fn big_endian_and_damaged_images_are_refused() {
    let mut big_endian = image(0x1000, 0, 0x1000);
    big_endian[24] |= 1;
    assert!(matches!(parse(&big_endian), Err(KernelError::BigEndian { .. })));
    assert!(matches!(parse(&image(0x1000, 3 << 20, 0x1000)), Err(KernelError::BadImageHeader { .. })));
    assert!(matches!(parse(&image(0x1000, 0, u64::MAX)), Err(KernelError::BadImageHeader { .. })));
    assert!(matches!(parse(&image(0x1000, 0, 0x1000)[..62]), Err(KernelError::Truncated { expected: 64, .. })));
}

#[test]
fn the_section_table_shows_a_truncated_image() {
    let mut bytes = image(0x3000, 0, 0x8000);
    bytes[60] = 0x40;
    bytes[0x40..0x44].copy_from_slice(b"PE\0\0");
    bytes[0x44..0x5c].fill(0);
    bytes[0x46] = 1; // one section, no optional header
    bytes[0x68..0x6c].copy_from_slice(&0x2000u32.to_le_bytes());
    bytes[0x6c..0x70].copy_from_slice(&0x1000u32.to_le_bytes());
    assert!(parse(&bytes).is_ok());
    bytes.truncate(0x2fff);
    let expected = KernelError::Truncated { what: "arm64 Image", size: 0x2fff, expected: 0x3000 };
    assert_eq!(parse(&bytes), Err(expected));
}

#[test]
fn an_elf_program_gives_its_segments() {
    let bytes = elf(2, 0x4010_0004, &[(0x4010_0000, 0x4010_0000, b"code", 4), (0x4020_0000, 0x4020_0000, b"data", 64)]);
    let kernel = parse(&gzip(&bytes)).expect("an ELF program");
    assert_eq!(kernel.kind(), KernelKind::Elf);
    let Layout::Elf(program) = &kernel.layout else { panic!("not ELF") };
    assert_eq!(program.physical_range(), 0x4010_0000..0x4020_0040);
    assert_eq!(program.physical_entry(), None);
    assert_eq!(program.linux, None);
}

#[test]
fn elf_files_that_are_no_kernels_are_refused() {
    let good = elf(2, 0, &[(0, 0, b"code", 4)]);
    let changed = |offset: usize, value: u8| {
        let mut bytes = good.clone();
        bytes[offset] = value;
        bytes
    };
    for (bytes, part) in [
        (changed(18, 62), "machine 62 (x86-64)"),
        (changed(4, 1), "ILP32"),
        (changed(16, 1), "kernel module"),
        (changed(16, 4), "core dump"),
        (changed(64, 3), "operating system"),
        (changed(64, 4), "no segment"),
        (changed(54, 32), "program headers of 32 bytes"),
        (changed(64 + 40, 1), "0x4 bytes of contents"),
        (changed(64 + 15, 1), "cut off"),
        (changed(39, 1), "cut off"),
        (good[..40].to_vec(), "cut off"),
        (elf(2, 0, &[(0, 0, b"code", 4), (0, 2, b"code", 4)]), "overlap"),
        (elf(2, 0, &[(0, u64::MAX - 2, b"code", 4)]), "wraps"),
    ] {
        let text = message(&bytes);
        assert!(text.contains(part), "{text} lacks {part}");
    }
    let mut big_endian = good;
    big_endian[5] = 2;
    big_endian[18..20].copy_from_slice(&183u16.to_be_bytes());
    assert!(matches!(parse(&big_endian), Err(KernelError::BigEndian { .. })));
}

/// Kernels as distributions ship them: `VMM_TEST_KERNELS` lists their paths, separated by colons.
#[test]
#[ignore = "needs VMM_TEST_KERNELS, the paths of real kernels"]
fn real_kernels() {
    let list = std::env::var("VMM_TEST_KERNELS").expect("VMM_TEST_KERNELS");
    for path in list.split(':') {
        let bytes = std::fs::read(path).expect(path);
        let begin = std::time::Instant::now();
        let kernel = parse(&bytes).unwrap_or_else(|error| panic!("{path}: {error}"));
        eprintln!("{path}: {:?} {:?} in {:?}", kernel.wrapping, kernel.layout, begin.elapsed());
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, ..ProptestConfig::default() })]

    #[test]
    fn no_mutation_of_a_wrapped_kernel_panics(which in 0usize..10, cut in 0usize..20_000, at in 0usize..300, value: u8, far in 0usize..20_000) {
        let plain = image(0x4000, 0, 0x8000);
        let program = elf(3, 0, &[(0, 0, b"code", 4), (0x1000, 0x1000, b"data", 40)]);
        let mut bytes = match which {
            0 => plain, 1 => gzip(&plain), 2 => bzip2(&plain), 3 => zstd(&plain), 4 => xz(&plain),
            5 => lzma(&plain), 6 => lz4_frame(&plain), 7 => lz4_legacy(&plain), 8 => zboot(&gzip(&plain)), _ => program,
        };
        if let Some(byte) = bytes.get_mut(at) { *byte = value; }
        if let Some(byte) = bytes.get_mut(far) { *byte ^= value; }
        bytes.truncate(cut);
        let limits = Limits { max_size: 16 << 20, max_depth: 4 };
        if let Ok(kernel) = parse_kernel(bytes, &limits)
            && let Ok(placement) = crate::place(&kernel, 0x4000_0000..0x8000_0000, 1 << 20, 0x1000)
        {
            for load in kernel.loads(&placement) {
                prop_assert!(load.address >= 0x4000_0000);
                prop_assert!(load.address + load.bytes.len() as u64 + load.zeros <= 0x8000_0000);
            }
        }
    }

    #[test]
    fn arbitrary_bytes_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..600)) {
        let _ = parse(&bytes);
        let _ = crate::check_initrd(&bytes);
    }
}
