//! What the device tree tells: the board as plain numbers. The machine fills it in from what it has built.

use std::ops::Range;

/// Part of the physical address space.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub struct Region {
    /// First address.
    pub base: u64,
    /// Bytes.
    pub size: u64,
}

/// A device with registers and one shared peripheral interrupt.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub struct Peripheral {
    /// Its registers.
    pub region: Region,
    /// SPI number (0 is INTID 32).
    pub spi: u32,
}

/// How a virtio-mmio transport signals.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub enum Trigger {
    /// Rising edge, as on QEMU's `virt`.
    Edge,
    /// High level.
    Level,
}

/// One virtio-mmio transport.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub struct VirtioSlot {
    /// Its registers and interrupt.
    pub device: Peripheral,
    /// How the interrupt is signalled.
    pub trigger: Trigger,
}

/// Instruction by which a guest calls PSCI.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub enum Conduit {
    /// `HVC #0`: a guest at EL1.
    Hvc,
    /// `SMC #0`: a guest that has EL2.
    Smc,
}

/// One CPU.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CpuDescription {
    /// `MPIDR_EL1` affinity fields: Aff3 in bits 39:32, Aff2..Aff0 in bits 23:0.
    pub mpidr: u64,
    /// `compatible` of the node, such as `arm,cortex-a57`.
    pub compatible: String,
}

/// The GICv3.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GicDescription {
    /// The distributor.
    pub distributor: Region,
    /// The redistributors: one region of consecutive frames each.
    pub redistributors: Vec<Region>,
    /// The interrupt translation service, if there is one.
    pub its: Option<Region>,
}

/// The PCIe host bridge with ECAM.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub struct PcieDescription {
    /// Configuration space; 1 MiB for each bus.
    pub ecam: Region,
    /// I/O ports.
    pub pio: Region,
    /// 32-bit memory window.
    pub mmio32: Region,
    /// 64-bit memory window.
    pub mmio64: Region,
    /// SPIs of INTA to INTD, before swizzling.
    pub spis: [u32; 4],
}

/// Everything that the device tree tells. [`BoardDescription::virt`] fills in the board of `docs/design/device-tree.md`;
/// the fields are public so that a machine can take devices away or move them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BoardDescription {
    /// The CPUs, boot CPU first.
    pub cpus: Vec<CpuDescription>,
    /// Memory, ascending.
    pub memory: Vec<Range<u64>>,
    /// Kernel command line.
    pub bootargs: String,
    /// Where the initrd was placed.
    pub initrd: Option<Range<u64>>,
    /// Seed of the kernel's random generator; empty: none is given.
    pub rng_seed: Vec<u8>,
    /// Seed of the kernel's address space layout randomization; `None`: the kernel is not moved.
    pub kaslr_seed: Option<u64>,
    /// How PSCI is called.
    pub psci_conduit: Conduit,
    /// The interrupt controller.
    pub gic: GicDescription,
    /// PPIs (0 is INTID 16) of the secure physical, physical, virtual and EL2 physical timer.
    pub timer_ppis: [u32; 4],
    /// PPI of the performance monitors; `None`: the CPUs have none.
    pub pmu_ppi: Option<u32>,
    /// PL011, the console.
    pub uart: Option<Peripheral>,
    /// PL031, the real-time clock.
    pub rtc: Option<Peripheral>,
    /// PL061, whose line 3 is the power button.
    pub gpio: Option<Peripheral>,
    /// The register by which a guest reports its panic.
    pub pvpanic: Option<Region>,
    /// virtio-mmio transports.
    pub virtio_mmio: Vec<VirtioSlot>,
    /// PCIe.
    pub pcie: Option<PcieDescription>,
    /// Flash banks.
    pub flash: Vec<Region>,
    /// fw_cfg.
    pub fw_cfg: Option<Region>,
}

impl BoardDescription {
    /// The board of `docs/design/device-tree.md` with `cpus` CPUs and `memory`: GICv3, PL011, PL031, PL061 and pvpanic;
    /// no virtio slots, PCIe, flash or fw_cfg.
    pub fn virt(cpus: usize, memory: Range<u64>) -> BoardDescription {
        let device = |base, spi| Some(Peripheral { region: Region { base, size: 0x1000 }, spi });
        BoardDescription {
            cpus: (0..cpus)
                .map(|index| CpuDescription { mpidr: mpidr_of(index), compatible: "arm,cortex-a57".to_owned() })
                .collect(),
            memory: vec![memory],
            bootargs: String::new(),
            initrd: None,
            rng_seed: Vec::new(),
            kaslr_seed: None,
            psci_conduit: Conduit::Hvc,
            gic: GicDescription {
                distributor: Region { base: 0x0800_0000, size: 0x1_0000 },
                redistributors: vec![Region { base: 0x080a_0000, size: 0x00f6_0000 }],
                its: None,
            },
            timer_ppis: [13, 14, 11, 10],
            pmu_ppi: None,
            uart: device(0x0900_0000, 1),
            rtc: device(0x0901_0000, 2),
            gpio: device(0x0903_0000, 7),
            pvpanic: Some(Region { base: 0x0b01_0000, size: 0x1000 }),
            virtio_mmio: Vec::new(),
            pcie: None,
            flash: Vec::new(),
            fw_cfg: None,
        }
    }
}

/// `MPIDR_EL1` affinity of CPU `index`: 16 CPUs to a cluster, as many as one write to `ICC_SGI1R_EL1` reaches.
pub fn mpidr_of(index: usize) -> u64 {
    let index = index as u64;
    (index & 0xf) | ((index >> 4) & 0xff) << 8 | ((index >> 12) & 0xff) << 16
}
