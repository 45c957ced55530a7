//! The virtio devices of a machine: from options to devices at their slots.

use std::path::Path;
use std::sync::{Arc, OnceLock};

use devices::disk::{self, Aio, Disk, DiskOptions, FaultyDisk, Injection};
use devices::gic::its;
use devices::pci::host::BUS_LEN;
use devices::pci::{PciFunction, PciHost};
use devices::virtio::balloon::BalloonOptions;
use devices::virtio::blk::{BlkOptions, MAX_QUEUES, Rates, SERIAL_LEN};
use devices::virtio::console::{MAX_PORTS, PortOptions};
use devices::virtio::fs::FsOptions;
use devices::virtio::pci::Slot;
use devices::virtio::vsock::{CIDS, VsockOptions};
use devices::virtio::{
    VirtioBalloon, VirtioBlk, VirtioConsole, VirtioDevice, VirtioFs, VirtioMmio, VirtioPci, VirtioRng, VirtioVsock,
};
use devices::{Bus, IrqLine, MmioDevice, WiredOr};
use firmware::BoardDescription;
use firmware::fdt::{PcieDescription, Peripheral, Region, Trigger, VirtioSlot};

use super::interrupts::InterruptController;
use super::layout;
use super::net::{NetConfig, allow_many_files};
use super::ram::GuestRam;
use crate::exit::{Failure, explain};

/// A disk of the guest.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DiskConfig {
    /// The image.
    pub image: DiskOptions,
    /// Serial number; empty: none.
    pub serial: String,
    /// Number of queues.
    pub queues: u16,
    /// How much it may do in a second.
    pub rates: Rates,
    /// What does its transfers.
    pub aio: Aio,
}

impl DiskConfig {
    /// A disk with the defaults.
    pub fn new(image: DiskOptions) -> DiskConfig {
        DiskConfig { image, serial: String::new(), queues: 1, rates: Rates::default(), aio: Aio::default() }
    }
}

/// What is called with the path of a disk for which the host has no room.
pub type FullDisk = Box<dyn Fn(&Path) + Send + Sync>;

/// Who hears of full disks, once there is somebody.
#[derive(Default)]
pub struct FullDisks(OnceLock<FullDisk>);

impl FullDisks {
    /// `hear` is told from now on.
    pub fn set(&self, hear: FullDisk) {
        // The first one stays.
        let _ = self.0.set(hear);
    }

    fn tell(&self, path: &Path) {
        if let Some(hear) = self.0.get() {
            hear(path);
        }
    }
}

/// How the guest reaches its virtio devices.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum Transport {
    /// Functions of a PCIe bridge, with MSI-X by way of the interrupt translation service
    #[default]
    Pci,
    /// Registers in guest physical memory, found by the device tree
    Mmio,
}

/// The virtio devices, in the order in which the guest finds them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct VirtioConfig {
    /// How the guest reaches them.
    pub transport: Transport,
    /// Disks: `/dev/vda` and so on.
    pub disks: Vec<DiskConfig>,
    /// Network cards: `eth0` and so on.
    pub nets: Vec<NetConfig>,
    /// Ports of a virtio console, if there are any.
    pub ports: Vec<PortOptions>,
    /// Streams between guest and host.
    pub vsock: Option<VsockOptions>,
    /// Memory that the guest gives back.
    pub balloon: Option<BalloonOptions>,
    /// Folders of the host.
    pub folders: Vec<FsOptions>,
    /// A source of entropy.
    pub rng: bool,
    /// Faults on purpose.
    pub faults: Vec<Injection>,
}

impl VirtioConfig {
    /// Number of devices.
    pub fn devices(&self) -> usize {
        self.disks.len()
            + self.nets.len()
            + usize::from(!self.ports.is_empty())
            + usize::from(self.rng)
            + usize::from(self.vsock.is_some())
            + usize::from(self.balloon.is_some())
            + self.folders.len()
    }

    /// Checks what can be checked without opening anything; messages name the options.
    pub fn check(&self) -> Result<(), Failure> {
        if self.devices() > self.room() {
            return Err(Failure::usage(format!(
                "{} virtio devices are asked for, this machine has room for {}",
                self.devices(),
                self.room()
            )));
        }
        let twice = |(index, port): (usize, &PortOptions)| {
            self.ports.iter().take(index).any(|one| one.name == port.name || one.socket == port.socket)
        };
        if self.ports.len() > MAX_PORTS || self.ports.iter().enumerate().any(twice) {
            return Err(Failure::usage(format!(
                "--port: at most {MAX_PORTS} ports, each with a name and a socket of its own"
            )));
        }
        if let Some(vsock) = self.vsock.as_ref().filter(|vsock| !CIDS.contains(&vsock.cid)) {
            return Err(Failure::usage(format!(
                "--vsock: cid={} is not {} to {}; smaller ones and the greatest have meanings of their own",
                vsock.cid,
                CIDS.start(),
                CIDS.end()
            )));
        }
        let twice = |(index, fs): (usize, &FsOptions)| self.folders.iter().take(index).any(|one| one.tag == fs.tag);
        if self.folders.iter().enumerate().any(twice) {
            return Err(Failure::usage("--fs: each folder needs a tag of its own"));
        }
        for disk in &self.disks {
            let path = disk.image.path.display();
            if disk.serial.len() > SERIAL_LEN || !disk.serial.bytes().all(|b| b.is_ascii_graphic()) {
                return Err(Failure::usage(format!(
                    "--disk {path}: serial={:?} is not 1 to {SERIAL_LEN} printable ASCII characters without spaces",
                    disk.serial
                )));
            }
            if !(1..=MAX_QUEUES).contains(&disk.queues) {
                return Err(Failure::usage(format!("--disk {path}: queues={} is not 1 to {MAX_QUEUES}", disk.queues)));
            }
        }
        Ok(())
    }

    /// How many devices the transport has room for.
    fn room(&self) -> usize {
        match self.transport {
            Transport::Pci => PciHost::MAX_FUNCTIONS,
            Transport::Mmio => layout::VIRTIO_SLOTS,
        }
    }

    /// Tells the device tree about them.
    pub fn describe(&self, board: &mut BoardDescription) {
        match self.transport {
            Transport::Pci => {
                board.gic.its = Some(Region { base: layout::ITS, size: its::ITS_LEN });
                board.pcie = Some(PcieDescription {
                    ecam: Region { base: layout::PCIE_ECAM, size: BUS_LEN },
                    pio: Region { base: layout::PCIE_PIO, size: layout::PCIE_PIO_LEN },
                    mmio32: Region { base: layout::PCIE_MMIO32, size: layout::PCIE_MMIO32_LEN },
                    mmio64: Region { base: layout::PCIE_MMIO64, size: layout::PCIE_MMIO64_LEN },
                    spis: layout::PCIE_SPIS,
                });
            }
            Transport::Mmio => board.virtio_mmio = (0..self.devices()).map(slot).collect(),
        }
    }

    /// Opens what they need on the host.
    fn open(&self, full: &Arc<FullDisks>, ram: &GuestRam) -> Result<Opened, Failure> {
        let mut devices: Vec<Arc<dyn VirtioDevice>> = Vec::with_capacity(self.devices());
        for (index, config) in self.disks.iter().enumerate() {
            let disk = disk::open(&config.image).map_err(|e| Failure::usage(format!("--disk: {}", explain(&e))))?;
            let options = BlkOptions {
                serial: config.serial.clone(),
                read_only: config.image.read_only,
                cache: config.image.cache,
                queues: config.queues,
                rates: config.rates,
                aio: config.aio,
            };
            let (full, path) = (Arc::clone(full), config.image.path.clone());
            let disk = self.with_faults(index, disk)?;
            let device = VirtioBlk::waiting_for_room(disk, options, Arc::new(move || full.tell(&path)));
            devices.push(Arc::new(device));
        }
        for (index, net) in self.nets.iter().enumerate() {
            devices.push(Arc::new(net.open(index)?));
        }
        if !self.ports.is_empty() {
            let console = VirtioConsole::new(&self.ports)
                .map_err(|e| Failure::usage(format!("--port: the sockets cannot be made: {e}")))?;
            devices.push(Arc::new(console));
        }
        if let Some(options) = &self.vsock {
            allow_many_files();
            let vsock = VirtioVsock::new(options).map_err(|e| {
                Failure::usage(format!("--vsock: the socket {} cannot be made: {e}", options.socket.display()))
            })?;
            devices.push(Arc::new(vsock));
        }
        for options in &self.folders {
            allow_many_files();
            let fs = VirtioFs::new(options).map_err(|e| {
                Failure::usage(format!("--fs: the folder {} cannot be shared: {e}", options.folder.display()))
            })?;
            devices.push(Arc::new(fs));
        }
        let balloon = self.balloon.map(|options| Arc::new(VirtioBalloon::new(options, Arc::new(ram.clone()))));
        devices.extend(balloon.iter().map(|balloon| Arc::clone(balloon) as Arc<dyn VirtioDevice>));
        if self.rng {
            devices.push(Arc::new(VirtioRng::new()));
        }
        Ok(Opened { devices, balloon })
    }

    /// The disk with the faults that are meant for it.
    fn with_faults(&self, index: usize, disk: Arc<dyn Disk>) -> Result<Arc<dyn Disk>, Failure> {
        let here = self.faults.iter().filter(|injection| injection.disk.is_none_or(|disk| disk == index));
        let faults: Vec<_> = here.map(|injection| injection.fault.clone()).collect();
        if faults.is_empty() {
            return Ok(disk);
        }
        let faulty = FaultyDisk::new(disk, faults);
        Ok(Arc::new(faulty.map_err(|e| Failure::usage(format!("--inject: the log cannot be made: {e}")))?))
    }

    /// Puts the devices on the bus; `full` is told of disks for which the host has no room. The balloon, if there is one,
    /// is for who sets its size.
    pub fn build(
        &self,
        bus: &mut Bus,
        interrupts: &dyn InterruptController,
        ram: &GuestRam,
        full: &Arc<FullDisks>,
    ) -> Result<Option<Arc<VirtioBalloon>>, Failure> {
        self.check()?;
        let Opened { devices, balloon } = self.open(full, ram)?;
        match self.transport {
            Transport::Pci => build_pci(devices, bus, interrupts, ram)?,
            Transport::Mmio => build_mmio(devices, bus, interrupts, ram)?,
        }
        Ok(balloon)
    }
}

/// Devices that have what they need on the host.
struct Opened {
    devices: Vec<Arc<dyn VirtioDevice>>,
    balloon: Option<Arc<VirtioBalloon>>,
}

fn no_threads(error: &std::io::Error) -> Failure {
    Failure::backend(format!("no threads for a virtio device: {error}"))
}

fn no_doorbells(error: &std::io::Error) -> Failure {
    Failure::backend(format!("no descriptors for a virtio device's doorbells: {error}"))
}

fn insert(bus: &mut Bus, base: u64, len: u64, device: Arc<dyn MmioDevice>) -> Result<(), Failure> {
    bus.insert(base, len, device).map_err(|e| Failure::internal(e.to_string()))
}

fn build_mmio(
    devices: Vec<Arc<dyn VirtioDevice>>,
    bus: &mut Bus,
    interrupts: &dyn InterruptController,
    ram: &GuestRam,
) -> Result<(), Failure> {
    for (index, device) in devices.into_iter().enumerate() {
        let Peripheral { region, spi } = slot(index).device;
        let transport = VirtioMmio::new(region.base, device, ram.shared_memory(), interrupts.spi_line(spi))
            .map_err(|e| no_threads(&e))?;
        if let Some(kernel) = interrupts.doorbells() {
            transport.connect_doorbells(kernel).map_err(|e| no_doorbells(&e))?;
        }
        insert(bus, region.base, region.size, transport)?;
    }
    Ok(())
}

fn build_pci(
    devices: Vec<Arc<dyn VirtioDevice>>,
    bus: &mut Bus,
    interrupts: &dyn InterruptController,
    ram: &GuestRam,
) -> Result<(), Failure> {
    let ((base, len, its), messages) = interrupts.its().ok_or_else(|| Failure::internal("a GIC without LPIs"))?;
    insert(bus, base, len, its)?;
    let pins = layout::PCIE_SPIS.map(|spi| WiredOr::new(interrupts.spi_line(spi)));
    let mut functions: Vec<Arc<dyn PciFunction>> = Vec::with_capacity(devices.len());
    for (index, device) in devices.into_iter().enumerate() {
        // Device n's INTA is swizzled to pin n modulo 4; the bridge is device 0.
        let intx = pins.get((index + 1) % 4).map_or_else(IrqLine::disconnected, |pin| pin.input(index as u32));
        let messages = Arc::clone(&messages);
        let place = Slot { requester_id: PciHost::requester_id(index), messages, intx };
        let function = VirtioPci::new(device, ram.shared_memory(), place).map_err(|e| no_threads(&e))?;
        if let Some(kernel) = interrupts.doorbells() {
            function.connect_doorbells(kernel).map_err(|e| no_doorbells(&e))?;
        }
        functions.push(function);
    }
    let count = functions.len();
    let host = PciHost::new(functions);
    if let Some(memory) = interrupts.config_memory(layout::PCIE_ECAM, count) {
        host.connect_memory(memory);
    }
    insert(bus, layout::PCIE_ECAM, BUS_LEN, host.ecam())?;
    for (base, len) in [
        (layout::PCIE_MMIO32, layout::PCIE_MMIO32_LEN),
        (layout::PCIE_MMIO64, layout::PCIE_MMIO64_LEN),
        // No function has ports: they read all ones.
        (layout::PCIE_PIO, layout::PCIE_PIO_LEN),
    ] {
        insert(bus, base, len, host.window(base))?;
    }
    Ok(())
}

/// Where device `index` is.
fn slot(index: usize) -> VirtioSlot {
    let base = layout::VIRTIO + index as u64 * layout::VIRTIO_WINDOW;
    let device = Peripheral {
        region: Region { base, size: layout::VIRTIO_WINDOW },
        // At most VIRTIO_SLOTS.
        spi: layout::VIRTIO_SPI + index as u32,
    };
    VirtioSlot { device, trigger: Trigger::Level }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn disk(path: &str) -> DiskConfig {
        DiskConfig::new(DiskOptions::new(path))
    }

    fn config(disks: Vec<DiskConfig>, transport: Transport) -> VirtioConfig {
        VirtioConfig { transport, disks, rng: true, ..VirtioConfig::default() }
    }

    #[test]
    fn impossible_devices_are_refused() {
        for (transport, room) in [(Transport::Pci, "room for 31"), (Transport::Mmio, "room for 32")] {
            let message = config(vec![disk("a"); 32], transport).check().unwrap_err().message;
            assert!(message.contains(room), "{message}");
        }
        let pci = Transport::Pci;
        let serial = DiskConfig { serial: "x".repeat(21), ..disk("a") };
        assert!(config(vec![serial], pci).check().unwrap_err().message.contains("serial="));
        let queues = DiskConfig { queues: 17, ..disk("a") };
        assert!(config(vec![queues], pci).check().unwrap_err().message.contains("queues="));
    }

    #[test]
    fn slots_are_where_the_board_has_them() {
        let mut board = BoardDescription::virt(1, 0..1);
        config(vec![disk("a"), disk("b")], Transport::Mmio).describe(&mut board);
        let slots = &board.virtio_mmio;
        assert_eq!((slots.len(), board.pcie, board.gic.its), (3, None, None));
        assert_eq!(slots[2].device.region.base, 0x0a00_0400);
        assert_eq!(slots[2].device.spi, 18);
    }
}
