//! Numbers of VIRTIO 1.2 section 5.2, and the limits that this device sets.

/// Feature: `seg_max` is valid.
pub const SEG_MAX: u64 = 1 << 2;
/// Feature: read-only.
pub const RO: u64 = 1 << 5;
/// Feature: `blk_size` is valid.
pub const BLK_SIZE: u64 = 1 << 6;
/// Feature: the flush command.
pub const FLUSH: u64 = 1 << 9;
/// Feature: `topology` is valid.
pub const TOPOLOGY: u64 = 1 << 10;
/// Feature: the driver may change `writeback`.
pub const CONFIG_WCE: u64 = 1 << 11;
/// Feature: several queues.
pub const MQ: u64 = 1 << 12;
/// Feature: the discard command.
pub const DISCARD: u64 = 1 << 13;
/// Feature: the write-zeroes command.
pub const WRITE_ZEROES: u64 = 1 << 14;

/// Request: read.
pub const T_IN: u32 = 0;
/// Request: write.
pub const T_OUT: u32 = 1;
/// Request: make everything written permanent.
pub const T_FLUSH: u32 = 4;
/// Request: serial number.
pub const T_GET_ID: u32 = 8;
/// Request: ranges are not needed any more.
pub const T_DISCARD: u32 = 11;
/// Request: ranges become zeros.
pub const T_WRITE_ZEROES: u32 = 13;

/// Length of a request's header.
pub const HEADER: usize = 16;
/// Length of a range in a discard or write-zeroes request.
pub const RANGE: usize = 16;
/// Flag of a range: its space may be given back.
pub const RANGE_UNMAP: u32 = 1;

/// Status: done.
pub const S_OK: u8 = 0;
/// Status: failed.
pub const S_IOERR: u8 = 1;
/// Status: not a request that the device knows.
pub const S_UNSUPP: u8 = 2;

/// Offset in the configuration: sectors.
pub const CAPACITY: usize = 0;
/// Offset: most buffers in a request.
pub const SEG_MAX_FIELD: usize = 12;
/// Offset: bytes in a block.
pub const BLK_SIZE_FIELD: usize = 20;
/// Offset: blocks in a physical block, as a power of two.
pub const PHYSICAL_BLOCK_EXP: usize = 24;
/// Offset: 1 if writes may stay in a cache.
pub const WRITEBACK: usize = 32;
/// Offset: number of queues.
pub const NUM_QUEUES: usize = 34;
/// Offset: most sectors in a discarded range.
pub const MAX_DISCARD_SECTORS: usize = 36;
/// Offset: most ranges in a discard request.
pub const MAX_DISCARD_SEG: usize = 40;
/// Offset: alignment of ranges in sectors.
pub const DISCARD_SECTOR_ALIGNMENT: usize = 44;
/// Offset: most sectors in a range of zeros.
pub const MAX_WRITE_ZEROES_SECTORS: usize = 48;
/// Offset: most ranges in a write-zeroes request.
pub const MAX_WRITE_ZEROES_SEG: usize = 52;
/// Offset: 1 if a range of zeros may give its space back.
pub const WRITE_ZEROES_MAY_UNMAP: usize = 56;
/// Length of the configuration.
pub const CONFIG_LEN: usize = 60;

/// Most buffers in a request: the queue less header and status.
pub const MAX_SEGMENTS: u32 = 254;
/// Most ranges in a request.
pub const MOST_RANGES: u32 = 16;
/// Most sectors in a discarded range: 2 GiB.
pub const MOST_DISCARD_SECTORS: u32 = 1 << 22;
/// Most sectors in a range of zeros: 128 MiB, which a host without a quick way writes in a moment.
pub const MOST_WRITE_ZEROES_SECTORS: u32 = 1 << 18;
