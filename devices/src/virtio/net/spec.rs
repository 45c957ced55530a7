//! Numbers of VIRTIO 1.2 section 5.1.

/// Feature: the device computes checksums of what it gets.
pub const CSUM: u64 = 1 << 0;
/// Feature: the driver computes checksums of what it gets.
pub const GUEST_CSUM: u64 = 1 << 1;
/// Feature: the driver may switch off what it takes.
pub const CTRL_GUEST_OFFLOADS: u64 = 1 << 2;
/// Feature: the configuration has the greatest packet.
pub const MTU: u64 = 1 << 3;
/// Feature: the configuration has the card's address.
pub const MAC: u64 = 1 << 5;
/// Feature: the driver takes TCP over IPv4 in pieces that are to be cut.
pub const GUEST_TSO4: u64 = 1 << 7;
/// Feature: the same for IPv6.
pub const GUEST_TSO6: u64 = 1 << 8;
/// Feature: the same with ECN.
pub const GUEST_ECN: u64 = 1 << 9;
/// Feature: the device takes TCP over IPv4 in pieces that are to be cut.
pub const HOST_TSO4: u64 = 1 << 11;
/// Feature: the same for IPv6.
pub const HOST_TSO6: u64 = 1 << 12;
/// Feature: the same with ECN.
pub const HOST_ECN: u64 = 1 << 13;
/// Feature: a frame may fill several buffers.
pub const MRG_RXBUF: u64 = 1 << 15;
/// Feature: the configuration has the link's status.
pub const STATUS: u64 = 1 << 16;
/// Feature: there is a control queue.
pub const CTRL_VQ: u64 = 1 << 17;
/// Feature: what the card receives can be chosen.
pub const CTRL_RX: u64 = 1 << 18;
/// Feature: the card's address can be changed over the control queue.
pub const CTRL_MAC_ADDR: u64 = 1 << 23;

/// Index of the receive queue.
pub const RX: u16 = 0;
/// Index of the transmit queue.
pub const TX: u16 = 1;
/// Index of the control queue.
pub const CONTROL: u16 = 2;

/// Offset in the configuration: address of the card.
pub const CONFIG_MAC: usize = 0;
/// Offset: status of the link.
pub const CONFIG_STATUS: usize = 6;
/// Offset: greatest packet.
pub const CONFIG_MTU: usize = 10;
/// Length of the configuration.
pub const CONFIG_LEN: usize = 12;
/// Bit of the status: the link is up.
pub const LINK_UP: u16 = 1;

/// Control class: what is received.
pub const CLASS_RX: u8 = 0;
/// Control class: addresses.
pub const CLASS_MAC: u8 = 1;
/// Command: the tables of addresses.
pub const MAC_TABLE_SET: u8 = 0;
/// Command: the card's address.
pub const MAC_ADDR_SET: u8 = 1;
/// Control class: what the driver takes.
pub const CLASS_GUEST_OFFLOADS: u8 = 5;
/// Command: set it.
pub const GUEST_OFFLOADS_SET: u8 = 0;
/// Answer: done.
pub const OK: u8 = 0;
/// Answer: not done.
pub const ERR: u8 = 1;
