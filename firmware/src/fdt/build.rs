//! Writes the device tree of a [`BoardDescription`]. Node and property names follow the bindings in Linux'
//! `Documentation/devicetree/bindings`, and QEMU's `virt` where guests may look for its names.

use vm_fdt::FdtWriter;

use super::board::{BoardDescription, Conduit, PcieDescription, Region, Trigger};
use super::{FdtError, Peripheral};
use crate::place::FDT_MAX_SIZE;

const PHANDLE_GIC: u32 = 1;
const PHANDLE_CLOCK: u32 = 2;
const PHANDLE_ITS: u32 = 3;
const PHANDLE_GPIO: u32 = 4;
const PHANDLE_CPU0: u32 = 0x100;

/// First cell of a GIC interrupt specifier: shared peripheral interrupt.
const SPI: u32 = 0;
/// First cell of a GIC interrupt specifier: private peripheral interrupt.
const PPI: u32 = 1;
/// Third cell: rising edge.
const EDGE_RISING: u32 = 1;
/// Third cell: high level.
const LEVEL_HIGH: u32 = 4;

/// Line of the PL061 that is the power button.
const POWER_BUTTON_LINE: u32 = 3;
/// `KEY_POWER` of Linux' input events.
const KEY_POWER: u32 = 116;

/// Writes the device tree of `board`.
///
/// # Errors
/// [`FdtError`] when the board has no CPU or memory, a text has a NUL byte, or the tree is larger than 2 MiB.
pub fn build_fdt(board: &BoardDescription) -> Result<Vec<u8>, FdtError> {
    let first_memory = board.memory.first().ok_or(FdtError::Missing("memory region"))?.start;
    if board.cpus.is_empty() {
        return Err(FdtError::Missing("CPU"));
    }
    if let Some(position) = board.bootargs.bytes().position(|byte| byte == 0) {
        return Err(FdtError::NulInText { what: "kernel command line (--append)", position });
    }
    let mut fdt = FdtWriter::new()?;
    let root = fdt.begin_node("")?;
    fdt.property_string("compatible", "linux,dummy-virt")?;
    fdt.property_string("model", "linux,dummy-virt")?;
    fdt.property_u32("#address-cells", 2)?;
    fdt.property_u32("#size-cells", 2)?;
    fdt.property_u32("interrupt-parent", PHANDLE_GIC)?;
    fdt.property_null("dma-coherent")?;
    chosen(&mut fdt, board)?;
    aliases(&mut fdt, board)?;
    memory(&mut fdt, board, first_memory)?;
    cpus(&mut fdt, board)?;
    psci(&mut fdt, board)?;
    timer_and_pmu(&mut fdt, board)?;
    gic(&mut fdt, board)?;
    clock(&mut fdt)?;
    peripherals(&mut fdt, board)?;
    flash_and_fw_cfg(&mut fdt, board)?;
    virtio(&mut fdt, board)?;
    if let Some(bridge) = &board.pcie {
        pcie(&mut fdt, bridge, board.gic.its.is_some())?;
    }
    fdt.end_node(root)?;
    let bytes = fdt.finish()?;
    match usize::try_from(FDT_MAX_SIZE) {
        Ok(limit) if bytes.len() > limit => Err(FdtError::TooLarge { found: bytes.len(), limit }),
        _ => Ok(bytes),
    }
}

fn reg(fdt: &mut FdtWriter, regions: &[Region]) -> Result<(), FdtError> {
    let cells: Vec<u64> = regions.iter().flat_map(|region| [region.base, region.size]).collect();
    Ok(fdt.property_array_u64("reg", &cells)?)
}

fn strings(fdt: &mut FdtWriter, name: &str, values: &[&str]) -> Result<(), FdtError> {
    Ok(fdt.property_string_list(name, values.iter().map(|&value| value.to_owned()).collect())?)
}

fn uart_path(uart: &Peripheral) -> String {
    format!("/pl011@{:x}", uart.region.base)
}

fn chosen(fdt: &mut FdtWriter, board: &BoardDescription) -> Result<(), FdtError> {
    let node = fdt.begin_node("chosen")?;
    if let Some(uart) = &board.uart {
        fdt.property_string("stdout-path", &uart_path(uart))?;
    }
    if !board.bootargs.is_empty() {
        fdt.property_string("bootargs", &board.bootargs)?;
    }
    if let Some(initrd) = &board.initrd {
        fdt.property_u64("linux,initrd-start", initrd.start)?;
        fdt.property_u64("linux,initrd-end", initrd.end)?;
    }
    if !board.rng_seed.is_empty() {
        fdt.property("rng-seed", &board.rng_seed)?;
    }
    if let Some(seed) = board.kaslr_seed {
        fdt.property_u64("kaslr-seed", seed)?;
    }
    Ok(fdt.end_node(node)?)
}

fn aliases(fdt: &mut FdtWriter, board: &BoardDescription) -> Result<(), FdtError> {
    let Some(uart) = &board.uart else {
        return Ok(());
    };
    let node = fdt.begin_node("aliases")?;
    fdt.property_string("serial0", &uart_path(uart))?;
    Ok(fdt.end_node(node)?)
}

fn memory(fdt: &mut FdtWriter, board: &BoardDescription, first: u64) -> Result<(), FdtError> {
    let node = fdt.begin_node(&format!("memory@{first:x}"))?;
    fdt.property_string("device_type", "memory")?;
    let regions: Vec<Region> = board
        .memory
        .iter()
        .map(|range| Region { base: range.start, size: range.end.saturating_sub(range.start) })
        .collect();
    reg(fdt, &regions)?;
    Ok(fdt.end_node(node)?)
}

fn cpus(fdt: &mut FdtWriter, board: &BoardDescription) -> Result<(), FdtError> {
    let node = fdt.begin_node("cpus")?;
    // Two cells only when Aff3 is used: old readers know one.
    let two_cells = board.cpus.iter().any(|cpu| cpu.mpidr >> 32 != 0);
    fdt.property_u32("#address-cells", if two_cells { 2 } else { 1 })?;
    fdt.property_u32("#size-cells", 0)?;
    for (cpu, phandle) in board.cpus.iter().zip(PHANDLE_CPU0..) {
        let node = fdt.begin_node(&format!("cpu@{:x}", cpu.mpidr))?;
        fdt.property_string("device_type", "cpu")?;
        fdt.property_string("compatible", &cpu.compatible)?;
        if two_cells {
            fdt.property_u64("reg", cpu.mpidr)?;
        } else {
            fdt.property_u32("reg", cpu.mpidr as u32)?;
        }
        fdt.property_string("enable-method", "psci")?;
        fdt.property_phandle(phandle)?;
        fdt.end_node(node)?;
    }
    cpu_map(fdt, board)?;
    Ok(fdt.end_node(node)?)
}

/// One socket with one cluster: Linux then shows the CPUs as equal cores, as QEMU's `virt` does.
fn cpu_map(fdt: &mut FdtWriter, board: &BoardDescription) -> Result<(), FdtError> {
    let map = fdt.begin_node("cpu-map")?;
    let socket = fdt.begin_node("socket0")?;
    let cluster = fdt.begin_node("cluster0")?;
    for (index, (_, phandle)) in board.cpus.iter().zip(PHANDLE_CPU0..).enumerate() {
        let core = fdt.begin_node(&format!("core{index}"))?;
        fdt.property_u32("cpu", phandle)?;
        fdt.end_node(core)?;
    }
    fdt.end_node(cluster)?;
    fdt.end_node(socket)?;
    Ok(fdt.end_node(map)?)
}

fn psci(fdt: &mut FdtWriter, board: &BoardDescription) -> Result<(), FdtError> {
    let node = fdt.begin_node("psci")?;
    strings(fdt, "compatible", &["arm,psci-1.0", "arm,psci-0.2"])?;
    let method = match board.psci_conduit {
        Conduit::Hvc => "hvc",
        Conduit::Smc => "smc",
    };
    fdt.property_string("method", method)?;
    Ok(fdt.end_node(node)?)
}

fn timer_and_pmu(fdt: &mut FdtWriter, board: &BoardDescription) -> Result<(), FdtError> {
    let node = fdt.begin_node("timer")?;
    strings(fdt, "compatible", &["arm,armv8-timer", "arm,armv7-timer"])?;
    let cells: Vec<u32> = board.timer_ppis.iter().flat_map(|&ppi| [PPI, ppi, LEVEL_HIGH]).collect();
    fdt.property_array_u32("interrupts", &cells)?;
    fdt.property_null("always-on")?;
    fdt.end_node(node)?;
    if let Some(ppi) = board.pmu_ppi {
        let node = fdt.begin_node("pmu")?;
        fdt.property_string("compatible", "arm,armv8-pmuv3")?;
        fdt.property_array_u32("interrupts", &[PPI, ppi, LEVEL_HIGH])?;
        fdt.end_node(node)?;
    }
    Ok(())
}

fn gic(fdt: &mut FdtWriter, board: &BoardDescription) -> Result<(), FdtError> {
    let gic = &board.gic;
    let node = fdt.begin_node(&format!("intc@{:x}", gic.distributor.base))?;
    fdt.property_string("compatible", "arm,gic-v3")?;
    fdt.property_null("interrupt-controller")?;
    fdt.property_u32("#interrupt-cells", 3)?;
    fdt.property_u32("#address-cells", 2)?;
    fdt.property_u32("#size-cells", 2)?;
    fdt.property_null("ranges")?;
    fdt.property_u32("#redistributor-regions", gic.redistributors.len() as u32)?;
    let mut regions = vec![gic.distributor];
    regions.extend(&gic.redistributors);
    reg(fdt, &regions)?;
    fdt.property_phandle(PHANDLE_GIC)?;
    if let Some(its) = gic.its {
        let node = fdt.begin_node(&format!("its@{:x}", its.base))?;
        fdt.property_string("compatible", "arm,gic-v3-its")?;
        fdt.property_null("msi-controller")?;
        fdt.property_u32("#msi-cells", 1)?;
        reg(fdt, &[its])?;
        fdt.property_phandle(PHANDLE_ITS)?;
        fdt.end_node(node)?;
    }
    Ok(fdt.end_node(node)?)
}

/// The clock that the PrimeCell drivers ask for.
fn clock(fdt: &mut FdtWriter) -> Result<(), FdtError> {
    let node = fdt.begin_node("apb-pclk")?;
    fdt.property_string("compatible", "fixed-clock")?;
    fdt.property_u32("#clock-cells", 0)?;
    fdt.property_u32("clock-frequency", 24_000_000)?;
    fdt.property_string("clock-output-names", "clk24mhz")?;
    fdt.property_phandle(PHANDLE_CLOCK)?;
    Ok(fdt.end_node(node)?)
}

/// Opens the node of a PrimeCell and writes what all of them have.
fn primecell(
    fdt: &mut FdtWriter,
    name: &str,
    device: &Peripheral,
    clocks: &[&str],
) -> Result<vm_fdt::FdtWriterNode, FdtError> {
    let node = fdt.begin_node(&format!("{name}@{:x}", device.region.base))?;
    strings(fdt, "compatible", &[&format!("arm,{name}"), "arm,primecell"])?;
    reg(fdt, &[device.region])?;
    fdt.property_array_u32("interrupts", &[SPI, device.spi, LEVEL_HIGH])?;
    fdt.property_array_u32("clocks", &vec![PHANDLE_CLOCK; clocks.len()])?;
    strings(fdt, "clock-names", clocks)?;
    Ok(node)
}

fn peripherals(fdt: &mut FdtWriter, board: &BoardDescription) -> Result<(), FdtError> {
    if let Some(uart) = &board.uart {
        let node = primecell(fdt, "pl011", uart, &["uartclk", "apb_pclk"])?;
        fdt.end_node(node)?;
    }
    if let Some(rtc) = &board.rtc {
        let node = primecell(fdt, "pl031", rtc, &["apb_pclk"])?;
        fdt.end_node(node)?;
    }
    if let Some(gpio) = &board.gpio {
        let node = primecell(fdt, "pl061", gpio, &["apb_pclk"])?;
        fdt.property_null("gpio-controller")?;
        fdt.property_u32("#gpio-cells", 2)?;
        fdt.property_phandle(PHANDLE_GPIO)?;
        fdt.end_node(node)?;
        let keys = fdt.begin_node("gpio-keys")?;
        fdt.property_string("compatible", "gpio-keys")?;
        let button = fdt.begin_node("poweroff")?;
        fdt.property_string("label", "GPIO Key Poweroff")?;
        fdt.property_u32("linux,code", KEY_POWER)?;
        fdt.property_array_u32("gpios", &[PHANDLE_GPIO, POWER_BUTTON_LINE, 0])?;
        fdt.end_node(button)?;
        fdt.end_node(keys)?;
    }
    if let Some(region) = board.pvpanic {
        let node = fdt.begin_node(&format!("pvpanic@{:x}", region.base))?;
        fdt.property_string("compatible", "qemu,pvpanic-mmio")?;
        reg(fdt, &[region])?;
        fdt.end_node(node)?;
    }
    Ok(())
}

fn flash_and_fw_cfg(fdt: &mut FdtWriter, board: &BoardDescription) -> Result<(), FdtError> {
    if let Some(first) = board.flash.first() {
        let node = fdt.begin_node(&format!("flash@{:x}", first.base))?;
        fdt.property_string("compatible", "cfi-flash")?;
        reg(fdt, &board.flash)?;
        fdt.property_u32("bank-width", 4)?;
        fdt.end_node(node)?;
    }
    if let Some(region) = board.fw_cfg {
        let node = fdt.begin_node(&format!("fw-cfg@{:x}", region.base))?;
        fdt.property_string("compatible", "qemu,fw-cfg-mmio")?;
        reg(fdt, &[region])?;
        fdt.property_null("dma-coherent")?;
        fdt.end_node(node)?;
    }
    Ok(())
}

fn virtio(fdt: &mut FdtWriter, board: &BoardDescription) -> Result<(), FdtError> {
    for slot in &board.virtio_mmio {
        let node = fdt.begin_node(&format!("virtio_mmio@{:x}", slot.device.region.base))?;
        fdt.property_string("compatible", "virtio,mmio")?;
        reg(fdt, &[slot.device.region])?;
        let trigger = match slot.trigger {
            Trigger::Edge => EDGE_RISING,
            Trigger::Level => LEVEL_HIGH,
        };
        fdt.property_array_u32("interrupts", &[SPI, slot.device.spi, trigger])?;
        fdt.property_null("dma-coherent")?;
        fdt.end_node(node)?;
    }
    Ok(())
}

fn pcie(fdt: &mut FdtWriter, bridge: &PcieDescription, msi: bool) -> Result<(), FdtError> {
    let halves = |value: u64| [(value >> 32) as u32, value as u32];
    let node = fdt.begin_node(&format!("pcie@{:x}", bridge.mmio32.base))?;
    fdt.property_string("compatible", "pci-host-ecam-generic")?;
    fdt.property_string("device_type", "pci")?;
    fdt.property_u32("#address-cells", 3)?;
    fdt.property_u32("#size-cells", 2)?;
    fdt.property_u32("linux,pci-domain", 0)?;
    let buses = (bridge.ecam.size >> 20).clamp(1, 256) as u32;
    fdt.property_array_u32("bus-range", &[0, buses - 1])?;
    reg(fdt, &[bridge.ecam])?;
    fdt.property_null("dma-coherent")?;
    // IEEE 1275 PCI binding: space code, PCI address, CPU address, size. I/O ports count from 0.
    let mut ranges = Vec::new();
    for (space, pci, region) in [
        (0x0100_0000, 0, bridge.pio),
        (0x0200_0000, bridge.mmio32.base, bridge.mmio32),
        (0x0300_0000, bridge.mmio64.base, bridge.mmio64),
    ] {
        if region.size != 0 {
            ranges.push(space);
            ranges.extend(halves(pci));
            ranges.extend(halves(region.base));
            ranges.extend(halves(region.size));
        }
    }
    fdt.property_array_u32("ranges", &ranges)?;
    fdt.property_u32("#interrupt-cells", 1)?;
    fdt.property_array_u32("interrupt-map-mask", &[0x1800, 0, 0, 7])?;
    fdt.property_array_u32("interrupt-map", &interrupt_map(bridge.spis))?;
    if msi {
        fdt.property_array_u32("msi-map", &[0, PHANDLE_ITS, 0, 0x1_0000])?;
    }
    Ok(fdt.end_node(node)?)
}

/// INTx of device numbers 0 to 3 (the pattern repeats), swizzled by one for each device.
fn interrupt_map(spis: [u32; 4]) -> Vec<u32> {
    let mut map = Vec::new();
    for device in 0..4u32 {
        for pin in 0..4u32 {
            let spi = spis.get(((device + pin) % 4) as usize).copied().unwrap_or_default();
            // Child unit address (3 cells), pin; parent, its unit address (2 cells), specifier (3 cells).
            map.extend([device << 11, 0, 0, pin + 1, PHANDLE_GIC, 0, 0, SPI, spi, LEVEL_HIGH]);
        }
    }
    map
}

#[cfg(test)]
mod tests;
