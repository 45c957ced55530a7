//! Numbers of the PCI transport (VIRTIO 1.2 section 4.1), and where this transport puts its structures.

use crate::virtio::spec::device_type;

/// PCI vendor of all VIRTIO devices.
pub(super) const VENDOR: u16 = 0x1af4;
/// PCI device ID is this and the device type.
pub(super) const DEVICE_BASE: u16 = 0x1040;
/// Revision of devices that are not transitional.
pub(super) const REVISION: u8 = 1;
/// As QEMU's.
pub(super) const SUBSYSTEM: u16 = 0x1100;

/// `cfg_type` of a capability (4.1.4).
pub(super) mod cfg_type {
    pub(in super::super) const COMMON: u8 = 1;
    pub(in super::super) const NOTIFY: u8 = 2;
    pub(in super::super) const ISR: u8 = 3;
    pub(in super::super) const DEVICE: u8 = 4;
    pub(in super::super) const PCI: u8 = 5;
}

/// BAR of the MSI-X table and its pending bits: 32 bits, not prefetchable.
pub(super) const MSIX_BAR: usize = 1;
/// Bytes of it.
pub(super) const MSIX_BAR_LEN: u64 = 0x2000;
/// Offset of the pending bits; room for 256 vectors before it.
pub(super) const MSIX_PENDING: u64 = 0x1000;
/// BAR of the virtio structures: 64 bits.
pub(super) const BAR: usize = 4;
/// Bytes of it.
pub(super) const BAR_LEN: u64 = 0x4000;
/// Offset of the common configuration.
pub(super) const COMMON: u64 = 0x0000;
/// Offset of the ISR status.
pub(super) const ISR: u64 = 0x1000;
/// Offset of the device configuration.
pub(super) const DEVICE: u64 = 0x2000;
/// Offset of the doorbells.
pub(super) const NOTIFY: u64 = 0x3000;
/// Bytes between two doorbells.
pub(in super::super) const NOTIFY_MULTIPLIER: u64 = 4;
/// Bytes of each structure's place.
pub(super) const PLACE: u64 = 0x1000;

/// Registers of the common configuration (4.1.4.3).
pub(super) mod common {
    pub(in super::super) const DEVICE_FEATURE_SELECT: u64 = 0x00;
    pub(in super::super) const DEVICE_FEATURE: u64 = 0x04;
    pub(in super::super) const DRIVER_FEATURE_SELECT: u64 = 0x08;
    pub(in super::super) const DRIVER_FEATURE: u64 = 0x0c;
    pub(in super::super) const CONFIG_MSIX_VECTOR: u64 = 0x10;
    pub(in super::super) const NUM_QUEUES: u64 = 0x12;
    pub(in super::super) const DEVICE_STATUS: u64 = 0x14;
    pub(in super::super) const CONFIG_GENERATION: u64 = 0x15;
    pub(in super::super) const QUEUE_SELECT: u64 = 0x16;
    pub(in super::super) const QUEUE_SIZE: u64 = 0x18;
    pub(in super::super) const QUEUE_MSIX_VECTOR: u64 = 0x1a;
    pub(in super::super) const QUEUE_ENABLE: u64 = 0x1c;
    pub(in super::super) const QUEUE_NOTIFY_OFF: u64 = 0x1e;
    pub(in super::super) const QUEUE_DESC: u64 = 0x20;
    pub(in super::super) const QUEUE_DRIVER: u64 = 0x28;
    pub(in super::super) const QUEUE_DEVICE: u64 = 0x30;
    /// After the last register that exists without VIRTIO_F_NOTIF_CONFIG_DATA and VIRTIO_F_RING_RESET.
    pub(in super::super) const END: u64 = 0x38;
}

/// No vector (4.1.5.1.2).
pub(super) const NO_VECTOR: u16 = 0xffff;
/// ISR status: a used buffer.
pub(super) const ISR_QUEUE: u8 = 1;
/// ISR status: the configuration changed.
pub(super) const ISR_CONFIGURATION: u8 = 2;

/// PCI class code of a device type.
pub(super) fn class(device: u32) -> u32 {
    match device {
        device_type::BLOCK => 0x01_0000,
        device_type::NETWORK => 0x02_0000,
        device_type::CONSOLE => 0x07_8000,
        device_type::FILE_SYSTEM => 0x01_8000,
        device_type::SOCKET => 0x02_8000,
        _ => 0x00_ff00,
    }
}
