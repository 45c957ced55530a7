//! The board's addresses and interrupt numbers (the table in `docs/design/machine.md`), as on QEMU's `virt`.

/// GIC distributor.
pub const GICD: u64 = 0x0800_0000;
/// GIC interrupt translation service.
pub const ITS: u64 = 0x0808_0000;
/// GIC redistributors, 128 KiB for each vCPU.
pub const GICR: u64 = 0x080a_0000;
/// PL011 UART.
pub const UART: u64 = 0x0900_0000;
/// PL031 real-time clock.
pub const RTC: u64 = 0x0901_0000;
/// PL061 GPIO with the power button.
pub const GPIO: u64 = 0x0903_0000;
/// Records of stolen time, one for each vCPU.
pub const PVTIME: u64 = 0x090a_0000;
/// Bytes of that window: a page of any host.
pub const PVTIME_LEN: u64 = 0x1_0000;
/// Bytes of a record.
pub const PVTIME_RECORD: u64 = 64;
/// virtio-mmio transports, one after the other.
pub const VIRTIO: u64 = 0x0a00_0000;
/// Window of one of them.
pub const VIRTIO_WINDOW: u64 = 0x200;
/// How many there is room for.
pub const VIRTIO_SLOTS: usize = 32;
/// pvpanic-mmio.
pub const PVPANIC: u64 = 0x0b01_0000;
/// PCIe: window for 32-bit BARs.
pub const PCIE_MMIO32: u64 = 0x1000_0000;
/// Bytes of it.
pub const PCIE_MMIO32_LEN: u64 = 0x2eff_0000;
/// PCIe: I/O ports, which no function here has.
pub const PCIE_PIO: u64 = 0x3eff_0000;
/// Bytes of it.
pub const PCIE_PIO_LEN: u64 = 0x1_0000;
/// PCIe: configuration space; one bus.
pub const PCIE_ECAM: u64 = 0x40_1000_0000;
/// PCIe: window for 64-bit BARs.
pub const PCIE_MMIO64: u64 = 0x80_0000_0000;
/// Bytes of it.
pub const PCIE_MMIO64_LEN: u64 = 0x80_0000_0000;
/// First byte of RAM.
pub const RAM: u64 = 0x4000_0000;
/// Window of a PrimeCell device.
pub const PAGE: u64 = 0x1000;

/// SPI of the UART.
pub const UART_SPI: u32 = 1;
/// SPI of the real-time clock.
pub const RTC_SPI: u32 = 2;
/// SPIs of PCIe's INTA to INTD.
pub const PCIE_SPIS: [u32; 4] = [3, 4, 5, 6];
/// SPI of the GPIO.
pub const GPIO_SPI: u32 = 7;
/// SPI of the first virtio-mmio transport; the others follow.
pub const VIRTIO_SPI: u32 = 16;
/// SPIs that the distributor has: INTIDs 32 to 95, the fewest that hold those above. An operating system writes registers for
/// each one at its start.
pub const SPIS: usize = 64;
/// PPI of the performance monitors as the device tree counts (INTID 23).
pub const PMU_PPI: u32 = 7;

/// Most vCPUs.
pub const MAX_VCPUS: usize = 64;
/// Least RAM: a kernel, its device tree and room for both.
pub const MIN_RAM: u64 = 16 << 20;
/// Most RAM: ends below the high PCIe windows (255 GiB above the base), as on `virt`.
pub const MAX_RAM: u64 = 255 << 30;
