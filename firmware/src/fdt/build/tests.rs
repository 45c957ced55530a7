use super::*;

#[test]
fn a_board_without_cpu_or_memory_is_refused() {
    let mut board = BoardDescription::virt(0, 0x4000_0000..0x8000_0000);
    assert_eq!(build_fdt(&board), Err(FdtError::Missing("CPU")));
    board = BoardDescription::virt(1, 0x4000_0000..0x8000_0000);
    board.memory.clear();
    assert_eq!(build_fdt(&board), Err(FdtError::Missing("memory region")));
}

#[test]
fn a_nul_byte_in_the_command_line_is_refused() {
    let mut board = BoardDescription::virt(1, 0x4000_0000..0x8000_0000);
    board.bootargs = "a\0b".to_owned();
    assert!(matches!(build_fdt(&board), Err(FdtError::NulInText { position: 1, .. })));
}

#[test]
fn sixty_four_cpus_and_all_slots_fit() {
    let mut board = BoardDescription::virt(64, 0x4000_0000..0x8000_0000);
    board.virtio_mmio = (0..32)
        .map(|n| super::super::VirtioSlot {
            device: Peripheral { region: Region { base: 0x0a00_0000 + n * 0x200, size: 0x200 }, spi: 16 + n as u32 },
            trigger: Trigger::Edge,
        })
        .collect();
    assert!(build_fdt(&board).expect("a valid board").len() < 0x1_0000);
}
