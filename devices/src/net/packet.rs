//! A frame with the offload header of virtio-net in front of it (VIRTIO 1.2 section 5.1.6).

/// Length of the header, with `num_buffers`.
pub const HEADER: usize = 12;
/// Longest frame: Ethernet header, one VLAN tag, and the longest IP packet.
pub const MAX_FRAME: usize = 14 + 4 + 65535;

/// Header flag: the checksum from `csum_start` on is to be computed and put at `csum_offset` from there.
pub const NEEDS_CSUM: u8 = 1;
/// Header flag: the checksum was found to be right.
pub const DATA_VALID: u8 = 2;
/// `gso_type`: one segment.
pub const GSO_NONE: u8 = 0;
/// `gso_type`: TCP over IPv4, to be cut.
pub const GSO_TCPV4: u8 = 1;
/// `gso_type`: TCP over IPv6, to be cut.
pub const GSO_TCPV6: u8 = 4;
/// Bit of `gso_type`: the first segment has CWR.
pub const GSO_ECN: u8 = 0x80;

/// The fields of the header; `num_buffers` belongs to the card.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Header {
    /// [`NEEDS_CSUM`], [`DATA_VALID`].
    pub flags: u8,
    /// [`GSO_NONE`] and the like.
    pub gso_type: u8,
    /// Bytes of headers in front of the data: a hint.
    pub hdr_len: u16,
    /// Bytes of data in each segment.
    pub gso_size: u16,
    /// Where the checksummed part begins.
    pub csum_start: u16,
    /// Where in it the checksum is.
    pub csum_offset: u16,
}

impl Header {
    /// From the bytes of guest RAM or a tap device.
    pub fn parse(bytes: &[u8; HEADER]) -> Header {
        let [flags, gso_type, h0, h1, g0, g1, s0, s1, o0, o1, _, _] = *bytes;
        Header {
            flags,
            gso_type,
            hdr_len: u16::from_le_bytes([h0, h1]),
            gso_size: u16::from_le_bytes([g0, g1]),
            csum_start: u16::from_le_bytes([s0, s1]),
            csum_offset: u16::from_le_bytes([o0, o1]),
        }
    }

    /// The bytes for guest RAM or a tap device, with `num_buffers`.
    pub fn bytes(&self, num_buffers: u16) -> [u8; HEADER] {
        let [h0, h1] = self.hdr_len.to_le_bytes();
        let [g0, g1] = self.gso_size.to_le_bytes();
        let [s0, s1] = self.csum_start.to_le_bytes();
        let [o0, o1] = self.csum_offset.to_le_bytes();
        let [n0, n1] = num_buffers.to_le_bytes();
        [self.flags, self.gso_type, h0, h1, g0, g1, s0, s1, o0, o1, n0, n1]
    }

    /// The type of segmentation without [`GSO_ECN`].
    pub fn gso(&self) -> u8 {
        self.gso_type & !GSO_ECN
    }
}

/// Room for a frame of any length, made once and filled again and again.
pub struct Packet {
    /// Header and frame; never shorter than the greatest of them.
    bytes: Box<[u8]>,
    len: usize,
}

impl Default for Packet {
    fn default() -> Packet {
        Packet::new()
    }
}

impl Packet {
    /// An empty packet.
    pub fn new() -> Packet {
        Packet { bytes: vec![0; HEADER + MAX_FRAME].into_boxed_slice(), len: 0 }
    }

    /// The header.
    pub fn header(&self) -> Header {
        self.bytes.first_chunk().map(Header::parse).unwrap_or_default()
    }

    /// Sets the header.
    pub fn set_header(&mut self, header: Header) {
        if let Some(bytes) = self.bytes.first_chunk_mut() {
            *bytes = header.bytes(1);
        }
    }

    /// The frame.
    pub fn frame(&self) -> &[u8] {
        self.bytes.get(HEADER..HEADER + self.len).unwrap_or_default()
    }

    /// The frame, to be changed.
    pub fn frame_mut(&mut self) -> &mut [u8] {
        self.bytes.get_mut(HEADER..HEADER + self.len).unwrap_or_default()
    }

    /// Sets the length of the frame, at most [`MAX_FRAME`].
    pub fn set_len(&mut self, len: usize) {
        self.len = len.min(MAX_FRAME);
    }

    /// Room for the longest frame.
    pub fn room(&mut self) -> &mut [u8] {
        self.bytes.get_mut(HEADER..).unwrap_or_default()
    }

    /// Header and frame as one.
    pub fn whole(&self) -> &[u8] {
        self.bytes.get(..HEADER + self.len).unwrap_or_default()
    }

    /// Room for header and frame as one; [`set_whole_len`](Self::set_whole_len) follows.
    pub fn whole_room(&mut self) -> &mut [u8] {
        &mut self.bytes
    }

    /// Header and frame together have `len` bytes; false if that is no header. Who sent them has no say in `num_buffers`: a
    /// tap device leaves it as it was, and a driver believes it.
    pub fn set_whole_len(&mut self, len: usize) -> bool {
        self.set_len(len.saturating_sub(HEADER));
        self.set_header(self.header());
        len >= HEADER
    }

    /// Takes over a frame of one segment with all checksums.
    pub fn copy_from(&mut self, frame: &[u8]) {
        self.set_header(Header::default());
        self.set_len(frame.len());
        self.frame_mut().iter_mut().zip(frame).for_each(|(to, from)| *to = *from);
    }
}

impl std::fmt::Debug for Packet {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Packet").field("header", &self.header()).field("len", &self.len).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_sender_does_not_say_how_many_buffers_the_driver_gets() {
        for said in [0u16, 7, u16::MAX] {
            let header = Header { flags: NEEDS_CSUM, csum_start: 34, csum_offset: 16, ..Header::default() };
            let mut packet = Packet::new();
            packet.whole_room()[..HEADER].copy_from_slice(&header.bytes(said));
            assert!(packet.set_whole_len(HEADER + 60));
            assert_eq!((packet.whole(), packet.header()), (&[&header.bytes(1)[..], &[0; 60]].concat()[..], header));
        }
        assert!(!Packet::new().set_whole_len(HEADER - 1));
    }
}
