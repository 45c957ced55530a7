//! The header of each packet (VIRTIO 1.2 section 5.10.6).

use crate::net::wire::put;

/// Length of a header.
pub(super) const HEADER: usize = 44;
/// The host's context identifier.
pub(super) const HOST: u64 = 2;
/// Type: a stream of bytes. Others are not offered.
pub(super) const STREAM: u16 = 1;
/// `SHUTDOWN`: the sender receives no more.
pub(super) const NO_RECEIVE: u32 = 1;
/// `SHUTDOWN`: the sender sends no more.
pub(super) const NO_SEND: u32 = 2;

/// What a packet is for.
pub(super) mod op {
    pub(in super::super) const INVALID: u16 = 0;
    pub(in super::super) const REQUEST: u16 = 1;
    pub(in super::super) const RESPONSE: u16 = 2;
    pub(in super::super) const RST: u16 = 3;
    pub(in super::super) const SHUTDOWN: u16 = 4;
    pub(in super::super) const RW: u16 = 5;
    pub(in super::super) const CREDIT_UPDATE: u16 = 6;
    pub(in super::super) const CREDIT_REQUEST: u16 = 7;
}

/// A header, in the order of its fields.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Header {
    pub(super) src_cid: u64,
    pub(super) dst_cid: u64,
    pub(super) src_port: u32,
    pub(super) dst_port: u32,
    pub(super) len: u32,
    pub(super) kind: u16,
    pub(super) op: u16,
    pub(super) flags: u32,
    pub(super) buf_alloc: u32,
    pub(super) fwd_cnt: u32,
}

fn number<const N: usize>(bytes: &[u8], at: usize) -> [u8; N] {
    bytes.get(at..).and_then(|rest| rest.first_chunk()).copied().unwrap_or([0; N])
}

impl Header {
    pub(super) fn read(bytes: &[u8; HEADER]) -> Header {
        Header {
            src_cid: u64::from_le_bytes(number(bytes, 0)),
            dst_cid: u64::from_le_bytes(number(bytes, 8)),
            src_port: u32::from_le_bytes(number(bytes, 16)),
            dst_port: u32::from_le_bytes(number(bytes, 20)),
            len: u32::from_le_bytes(number(bytes, 24)),
            kind: u16::from_le_bytes(number(bytes, 28)),
            op: u16::from_le_bytes(number(bytes, 30)),
            flags: u32::from_le_bytes(number(bytes, 32)),
            buf_alloc: u32::from_le_bytes(number(bytes, 36)),
            fwd_cnt: u32::from_le_bytes(number(bytes, 40)),
        }
    }

    pub(super) fn bytes(&self) -> [u8; HEADER] {
        let mut bytes = [0; HEADER];
        put(&mut bytes, 0, &self.src_cid.to_le_bytes());
        put(&mut bytes, 8, &self.dst_cid.to_le_bytes());
        put(&mut bytes, 16, &self.src_port.to_le_bytes());
        put(&mut bytes, 20, &self.dst_port.to_le_bytes());
        put(&mut bytes, 24, &self.len.to_le_bytes());
        put(&mut bytes, 28, &self.kind.to_le_bytes());
        put(&mut bytes, 30, &self.op.to_le_bytes());
        put(&mut bytes, 32, &self.flags.to_le_bytes());
        put(&mut bytes, 36, &self.buf_alloc.to_le_bytes());
        put(&mut bytes, 40, &self.fwd_cnt.to_le_bytes());
        bytes
    }

    /// The refusal of this packet.
    pub(super) fn refusal(&self) -> Header {
        Header {
            src_cid: self.dst_cid,
            dst_cid: self.src_cid,
            src_port: self.dst_port,
            dst_port: self.src_port,
            kind: self.kind,
            op: op::RST,
            ..Header::default()
        }
    }
}
