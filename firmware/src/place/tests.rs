use proptest::prelude::*;

use super::*;
use crate::kernel::tests::{elf, image};
use crate::kernel::{Limits, parse_kernel};

const RAM: u64 = 0x4000_0000;
const MIB: u64 = 1 << 20;

fn kernel(bytes: Vec<u8>) -> Kernel {
    parse_kernel(bytes, &Limits::default()).expect("a kernel")
}

fn ram(size: u64) -> Range<u64> {
    RAM..RAM + size
}

#[test]
fn an_image_goes_to_the_start_and_the_rest_behind_it() {
    let image = kernel(image(0x3000, 0x8_0000, 0x30_0000));
    let placement = place(&image, ram(128 * MIB), 5000, 0x1000).expect("it fits");
    assert_eq!(placement.entry, RAM + 0x8_0000);
    assert_eq!(placement.kernel, RAM + 0x8_0000..RAM + 0x38_0000);
    assert_eq!(placement.fdt, RAM + 0x40_0000);
    assert_eq!(placement.initrd, Some(RAM + 0x60_0000..RAM + 0x60_0000 + 5000));
    let loads = image.loads(&placement);
    assert_eq!(loads.len(), 1);
    assert_eq!((loads[0].address, loads[0].bytes.len(), loads[0].zeros), (RAM + 0x8_0000, 0x3000, 0x30_0000 - 0x3000));
}

#[test]
fn too_little_memory_names_enough() {
    let image = kernel(image(0x3000, 0, 30 * MIB));
    for (memory, initrd, part) in
        [(16 * MIB, 0, "the kernel"), (31 * MIB, 0, "device tree"), (64 * MIB, 4 << 30, "initrd")]
    {
        let error = place(&image, ram(memory), initrd, 0x1000).expect_err("too little");
        let text = error.to_string();
        assert!(text.contains(part) && text.contains("--memory"), "{text}");
        let PlacementError::TooLittleMemory { enough, .. } = error else { panic!("{error:?}") };
        assert!(place(&image, ram(enough), initrd, 0x1000).is_ok());
    }
}

#[test]
fn an_initrd_of_several_gib_fits_and_one_beyond_the_window_does_not() {
    let image = kernel(image(0x3000, 0, 30 * MIB));
    let placement = place(&image, ram(64 << 30), 12 << 30, 0x1000).expect("it fits");
    let initrd = placement.initrd.expect("an initrd");
    assert_eq!(initrd.end - initrd.start, 12 << 30);
    let error = place(&image, ram(64 << 30), 32 << 30, 0x1000).expect_err("beyond the window");
    assert!(matches!(error, PlacementError::InitrdOutsideWindow { .. }));
    assert!(matches!(place(&image, ram(1 << 30), 0, 3 * MIB), Err(PlacementError::FdtTooLarge { .. })));
}

#[test]
fn a_vmlinux_goes_to_the_start_of_memory() {
    const TEXT: u64 = 0xffff_8000_8000_0000;
    let front = image(0x2000, 0, 0x20_0000);
    let vmlinux =
        kernel(elf(3, TEXT, &[(TEXT, TEXT, &front, 0x2000), (TEXT + 0x10_0000, TEXT + 0x10_0000, b"data", 16)]));
    let placement = place(&vmlinux, ram(128 * MIB), 100, 0x1000).expect("it fits");
    assert_eq!(placement.entry, RAM);
    assert_eq!(placement.kernel, RAM..RAM + 0x20_0000);
    assert_eq!(placement.fdt, RAM + 0x20_0000);
    let addresses: Vec<u64> = vmlinux.loads(&placement).iter().map(|load| load.address).collect();
    assert_eq!(addresses, [RAM, RAM + 0x10_0000]);
    // Old kernels stand 512 KiB after the boundary.
    let old = kernel(elf(2, TEXT + 0x8_0000, &[(TEXT + 0x8_0000, TEXT + 0x8_0000, b"code", 0x1000)]));
    assert_eq!(place(&old, ram(128 * MIB), 0, 0x1000).expect("it fits").entry, RAM + 0x8_0000);
}

#[test]
fn a_bare_metal_program_stays_where_it_is_linked() {
    let program = kernel(elf(2, 0x8_0004, &[(0x8_0000, RAM + 0x8_0000, b"code", 0x1000)]));
    let placement = place(&program, ram(16 * MIB), 100, 0x2000).expect("it fits");
    assert_eq!(placement.entry, RAM + 0x8_0004);
    assert_eq!(placement.elf_slide, 0);
    // As on QEMU's virt, the tree is at the start of memory when there is room.
    assert_eq!(placement.fdt, RAM);
    assert_eq!(placement.initrd, Some(RAM + 0x9_0000..RAM + 0x9_0064));
    let at_start = kernel(elf(2, RAM, &[(RAM, RAM, b"code", 0x1000)]));
    assert_eq!(place(&at_start, ram(16 * MIB), 0, 0x2000).expect("it fits").fdt, RAM + 2 * MIB);
}

#[test]
fn programs_for_other_places_are_refused_unless_they_can_move() {
    let segments: &[(u64, u64, &[u8], u64)] = &[(0x40_0000, 0x40_0000, b"code", 0x1000)];
    let fixed = kernel(elf(2, 0x40_0000, segments));
    let text = place(&fixed, ram(16 * MIB), 0, 0x2000).expect_err("outside").to_string();
    assert!(text.contains("0x400000..0x401000") && text.contains("0x40000000"), "{text}");
    let movable = kernel(elf(3, 0x40_0000, segments));
    assert_eq!(place(&movable, ram(16 * MIB), 0, 0x2000).expect("it moves").entry, RAM);
    let no_entry = kernel(elf(3, 0x50_0000, segments));
    assert!(matches!(place(&no_entry, ram(16 * MIB), 0, 0), Err(PlacementError::EntryOutsideProgram { .. })));
}

proptest! {
    #[test]
    fn nothing_overlaps_and_the_protocol_is_kept(
        text_offset in 0u64..512, image_mib in 1u64..80, memory_mib in 1u64..40_000, initrd in 0u64..(40 << 30),
    ) {
        let image = kernel(image(0x1000, text_offset * 0x1000, image_mib * MIB));
        let ram = ram(memory_mib * MIB);
        if let Ok(placement) = place(&image, ram.clone(), initrd, 0x1000) {
            prop_assert_eq!((placement.kernel.start - text_offset * 0x1000) % (2 * MIB), 0);
            prop_assert!(placement.kernel.start >= ram.start);
            prop_assert_eq!(placement.fdt % 8, 0);
            prop_assert!(placement.kernel.end <= placement.fdt);
            prop_assert!(placement.fdt + FDT_MAX_SIZE <= ram.end);
            prop_assert_eq!(placement.initrd.is_some(), initrd != 0);
            if let Some(range) = placement.initrd {
                prop_assert!(range.start >= placement.fdt + FDT_MAX_SIZE);
                prop_assert!(range.end <= ram.end);
                prop_assert!(range.end <= (placement.kernel.start >> 30 << 30) + (32 << 30));
            }
        }
    }
}
