//! The bodies of the fuzz targets: functions of bytes that no bytes may make panic, hang or grow.
#![forbid(unsafe_code)]

mod archive_files;
mod bytes;
mod devices_of_the_board;
mod disk_images;
mod firmware_files;
mod interrupts;
mod networks;
mod processor;
mod translation;
mod virtio_devices;
mod virtio_requests;

pub use archive_files::{archive, package};
pub use devices_of_the_board::{device_state, pl011, pl031, pl061};
pub use disk_images::disk_image;
pub use firmware_files::{fdt, kernel};
pub use interrupts::gic;
pub use networks::{dhcp, nat, virtio_net};
pub use processor::{decoder, processing_element, walker};
pub use translation::its;
pub use virtio_devices::{virtio_blk, virtio_mmio, virtio_pci};
pub use virtio_requests::{virtio_balloon, virtio_console, virtio_fs, virtio_vsock};
