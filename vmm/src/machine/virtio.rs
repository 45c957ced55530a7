//! The virtio devices of a machine: from options to devices at their slots.

use std::sync::Arc;

use devices::disk::{self, DiskOptions};
use devices::virtio::blk::{BlkOptions, MAX_QUEUES, SERIAL_LEN};
use devices::virtio::{VirtioBlk, VirtioDevice, VirtioMmio, VirtioRng};
use devices::{Bus, Gic, MmioDevice};
use firmware::fdt::{Peripheral, Region, Trigger, VirtioSlot};

use super::layout;
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
}

/// The virtio devices, in the order in which the guest finds them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct VirtioConfig {
    /// Disks: `/dev/vda` and so on.
    pub disks: Vec<DiskConfig>,
    /// A source of entropy.
    pub rng: bool,
}

impl VirtioConfig {
    /// Number of devices.
    pub fn devices(&self) -> usize {
        self.disks.len() + usize::from(self.rng)
    }

    /// Checks what can be checked without opening anything; messages name the options.
    pub fn check(&self) -> Result<(), Failure> {
        if self.devices() > layout::VIRTIO_SLOTS {
            return Err(Failure::usage(format!(
                "{} virtio devices are asked for, this machine has room for {}",
                self.devices(),
                layout::VIRTIO_SLOTS
            )));
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

    /// What the device tree says about them.
    pub fn slots(&self) -> Vec<VirtioSlot> {
        (0..self.devices()).map(slot).collect()
    }

    /// Opens what they need on the host.
    fn open(&self) -> Result<Vec<Arc<dyn VirtioDevice>>, Failure> {
        let mut devices: Vec<Arc<dyn VirtioDevice>> = Vec::with_capacity(self.devices());
        for config in &self.disks {
            let disk = disk::open(&config.image).map_err(|e| Failure::usage(format!("--disk: {}", explain(&e))))?;
            let options = BlkOptions {
                serial: config.serial.clone(),
                read_only: config.image.read_only,
                cache: config.image.cache,
                queues: config.queues,
            };
            devices.push(Arc::new(VirtioBlk::new(disk, options)));
        }
        if self.rng {
            devices.push(Arc::new(VirtioRng::new()));
        }
        Ok(devices)
    }

    /// Puts the devices on the bus.
    pub fn build(&self, bus: &mut Bus, gic: &Arc<Gic>, ram: &GuestRam) -> Result<(), Failure> {
        self.check()?;
        for (index, device) in self.open()?.into_iter().enumerate() {
            let Peripheral { region, spi } = slot(index).device;
            let transport = VirtioMmio::new(region.base, device, ram.shared_memory(), gic.spi_line(spi))
                .map_err(|e| Failure::backend(format!("no threads for a virtio device: {e}")))?;
            bus.insert(region.base, region.size, transport as Arc<dyn MmioDevice>)
                .map_err(|e| Failure::internal(e.to_string()))?;
        }
        Ok(())
    }
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
        DiskConfig { image: DiskOptions::new(path), serial: String::new(), queues: 1 }
    }

    #[test]
    fn impossible_devices_are_refused() {
        let config = VirtioConfig { disks: vec![disk("a"); 33], rng: false };
        assert!(config.check().unwrap_err().message.contains("room for 32"));
        let serial = DiskConfig { serial: "x".repeat(21), ..disk("a") };
        assert!(VirtioConfig { disks: vec![serial], rng: true }.check().unwrap_err().message.contains("serial="));
        let queues = DiskConfig { queues: 17, ..disk("a") };
        assert!(VirtioConfig { disks: vec![queues], rng: true }.check().unwrap_err().message.contains("queues="));
    }

    #[test]
    fn slots_are_where_the_board_has_them() {
        let slots = VirtioConfig { disks: vec![disk("a"), disk("b")], rng: true }.slots();
        assert_eq!(slots.len(), 3);
        assert_eq!(slots[2].device.region.base, 0x0a00_0400);
        assert_eq!(slots[2].device.spi, 18);
    }
}
