//! Numbers of the PCI Local Bus Specification 3.0 and the PCI Express Base Specification.

/// Bytes of a configuration space.
pub const CONFIG_LEN: usize = 4096;
/// Functions on a bus, counting function 0 of each device.
pub const DEVICES: usize = 32;

/// Offsets in a configuration space of type 0.
pub mod offset {
    /// Vendor ID.
    pub const VENDOR: usize = 0x00;
    /// Device ID.
    pub const DEVICE: usize = 0x02;
    /// Command.
    pub const COMMAND: usize = 0x04;
    /// Status.
    pub const STATUS: usize = 0x06;
    /// Revision ID; the class code is in the three bytes above.
    pub const REVISION: usize = 0x08;
    /// Class code.
    pub const CLASS: usize = 0x09;
    /// Cache line size.
    pub const CACHE_LINE: usize = 0x0c;
    /// First base address register.
    pub const BAR0: usize = 0x10;
    /// After the last one.
    pub const BARS_END: usize = 0x28;
    /// Subsystem vendor ID.
    pub const SUBSYSTEM_VENDOR: usize = 0x2c;
    /// Subsystem ID.
    pub const SUBSYSTEM: usize = 0x2e;
    /// First capability.
    pub const CAPABILITIES: usize = 0x34;
    /// Interrupt line: a scratch register for software.
    pub const INTERRUPT_LINE: usize = 0x3c;
    /// Interrupt pin.
    pub const INTERRUPT_PIN: usize = 0x3d;
    /// End of the header.
    pub const HEADER_END: usize = 0x40;
}

/// Command: I/O ports are decoded.
pub const COMMAND_IO: u16 = 1;
/// Command: memory is decoded.
pub const COMMAND_MEMORY: u16 = 2;
/// Command: the function may write and signal by itself.
pub const COMMAND_MASTER: u16 = 4;
/// Command: parity and system errors are reported; stored, without effect.
pub const COMMAND_ERRORS: u16 = 1 << 6 | 1 << 8;
/// Command: no INTx.
pub const COMMAND_INTX_DISABLE: u16 = 1 << 10;
/// Status: INTx is asserted.
pub const STATUS_INTERRUPT: u16 = 1 << 3;
/// Status: there is a list of capabilities.
pub const STATUS_CAPABILITIES: u16 = 1 << 4;

/// BAR: 64 bits wide.
pub const BAR_64: u32 = 4;
/// BAR: prefetchable.
pub const BAR_PREFETCHABLE: u32 = 8;
/// BAR: bits that are no address.
pub const BAR_FLAGS: u32 = 0xf;

/// Capability ID: vendor-specific.
pub const CAP_VENDOR: u8 = 0x09;
/// Capability ID: PCI Express.
pub const CAP_EXPRESS: u8 = 0x10;
/// Capability ID: MSI-X.
pub const CAP_MSIX: u8 = 0x11;

/// PCI Express Capabilities register: version 2, root complex integrated endpoint.
pub const EXPRESS_FLAGS: u16 = 9 << 4 | 2;
/// Device Capabilities: role-based error reporting, Function Level Reset.
pub const EXPRESS_DEVICE_CAPABILITIES: u32 = 1 << 15 | 1 << 28;
/// Device Control in the PCI Express capability.
pub const EXPRESS_DEVICE_CONTROL: usize = 8;
/// Device Control: Initiate Function Level Reset; reads zero.
pub const EXPRESS_FLR: u16 = 1 << 15;
/// Bytes of the PCI Express capability, version 2.
pub const EXPRESS_LEN: usize = 0x3c;

/// Message Control in the MSI-X capability.
pub const MSIX_CONTROL: usize = 2;
/// Message Control: MSI-X is used instead of INTx.
pub const MSIX_ENABLE: u16 = 1 << 15;
/// Message Control: all vectors are masked.
pub const MSIX_FUNCTION_MASK: u16 = 1 << 14;
/// Bytes of an entry of the MSI-X table.
pub const MSIX_ENTRY: u64 = 16;
