//! Numbers of VIRTIO 1.2 that concern all devices.

/// Device status bits (2.1).
pub mod status {
    /// The driver has found the device.
    pub const ACKNOWLEDGE: u32 = 1;
    /// The driver knows how to drive it.
    pub const DRIVER: u32 = 2;
    /// The driver is set up.
    pub const DRIVER_OK: u32 = 4;
    /// Feature negotiation is complete.
    pub const FEATURES_OK: u32 = 8;
    /// The device has met an error that it cannot recover from.
    pub const DEVICE_NEEDS_RESET: u32 = 64;
    /// The driver has given up.
    pub const FAILED: u32 = 128;
}

/// Feature bits that belong to no device type (6).
pub mod feature {
    /// Buffers may be described by a table elsewhere.
    pub const RING_INDIRECT_DESC: u64 = 1 << 28;
    /// Driver and device tell at which index they want to be notified.
    pub const RING_EVENT_IDX: u64 = 1 << 29;
    /// The device follows VIRTIO 1.0 or later.
    pub const VERSION_1: u64 = 1 << 32;
    /// What every device here offers beside its own.
    pub const COMMON: u64 = RING_INDIRECT_DESC | RING_EVENT_IDX | VERSION_1;
}

/// Device types (5).
pub mod device_type {
    /// Network card.
    pub const NETWORK: u32 = 1;
    /// Block device.
    pub const BLOCK: u32 = 2;
    /// Console.
    pub const CONSOLE: u32 = 3;
    /// Entropy source.
    pub const ENTROPY: u32 = 4;
    /// Memory balloon.
    pub const BALLOON: u32 = 5;
    /// Socket device.
    pub const SOCKET: u32 = 19;
    /// File system.
    pub const FILE_SYSTEM: u32 = 26;
}

/// `VIRTQ_AVAIL_F_NO_INTERRUPT` (2.7.6): the driver asks for no interrupts.
pub const AVAIL_NO_INTERRUPT: u16 = 1;

/// Registers of the MMIO transport (4.2.2).
pub mod mmio {
    /// "virt".
    pub const MAGIC_VALUE: u64 = 0x000;
    /// 2: not the legacy interface.
    pub const VERSION: u64 = 0x004;
    /// Device type.
    pub const DEVICE_ID: u64 = 0x008;
    /// Vendor.
    pub const VENDOR_ID: u64 = 0x00c;
    /// 32 feature bits of the device.
    pub const DEVICE_FEATURES: u64 = 0x010;
    /// Which 32.
    pub const DEVICE_FEATURES_SEL: u64 = 0x014;
    /// 32 feature bits that the driver accepts.
    pub const DRIVER_FEATURES: u64 = 0x020;
    /// Which 32.
    pub const DRIVER_FEATURES_SEL: u64 = 0x024;
    /// The queue that the registers below are about.
    pub const QUEUE_SEL: u64 = 0x030;
    /// Greatest size of the queue.
    pub const QUEUE_SIZE_MAX: u64 = 0x034;
    /// Size of the queue.
    pub const QUEUE_SIZE: u64 = 0x038;
    /// 1: in use.
    pub const QUEUE_READY: u64 = 0x044;
    /// Doorbell.
    pub const QUEUE_NOTIFY: u64 = 0x050;
    /// Why the device interrupts.
    pub const INTERRUPT_STATUS: u64 = 0x060;
    /// Takes away reasons.
    pub const INTERRUPT_ACK: u64 = 0x064;
    /// Device status.
    pub const STATUS: u64 = 0x070;
    /// Address of the descriptor table; the high half is 4 further on.
    pub const QUEUE_DESC_LOW: u64 = 0x080;
    /// Address of the available ring.
    pub const QUEUE_DRIVER_LOW: u64 = 0x090;
    /// Address of the used ring.
    pub const QUEUE_DEVICE_LOW: u64 = 0x0a0;
    /// Length of a shared memory region.
    pub const SHM_LEN_LOW: u64 = 0x0b0;
    /// High half of its base.
    pub const SHM_BASE_HIGH: u64 = 0x0bc;
    /// Changes with the configuration.
    pub const CONFIG_GENERATION: u64 = 0x0fc;
    /// Device configuration, to the end of the window.
    pub const CONFIG: u64 = 0x100;
    /// The value of `MAGIC_VALUE`.
    pub const MAGIC: u32 = 0x7472_6976;
    /// The value of `VENDOR_ID`: "VMM ".
    pub const VENDOR: u32 = 0x204d_4d56;
    /// Interrupt reason: a used buffer.
    pub const INTERRUPT_USED: u32 = 1;
    /// Interrupt reason: the configuration changed.
    pub const INTERRUPT_CONFIGURATION: u32 = 2;
    /// Length of the window.
    pub const WINDOW: u64 = 0x200;
}
