//! Ethernet, IPv4, IPv6, TCP, UDP: headers as numbers and back.
//!
//! What is parsed comes from a guest or from strangers: everything that does not fit is `None`.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use super::offload::{checksum, fold, sum};
use super::packet::{self, Header, Packet};

/// Length of an Ethernet header.
pub const ETHERNET: usize = 14;

/// Protocol numbers of IP.
pub mod protocol {
    /// ICMP.
    pub const ICMP: u8 = 1;
    /// TCP.
    pub const TCP: u8 = 6;
    /// UDP.
    pub const UDP: u8 = 17;
    /// ICMP for IPv6.
    pub const ICMPV6: u8 = 58;
}

/// Flags of TCP.
pub mod tcp_flag {
    /// No more data comes.
    pub const FIN: u8 = 0x01;
    /// Begins a connection.
    pub const SYN: u8 = 0x02;
    /// Ends a connection at once.
    pub const RST: u8 = 0x04;
    /// Data is to be delivered now.
    pub const PSH: u8 = 0x08;
    /// The acknowledgement number counts.
    pub const ACK: u8 = 0x10;
    /// Congestion window reduced.
    pub const CWR: u8 = 0x80;
}

/// An Ethernet address.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Mac(pub [u8; 6]);

impl Mac {
    /// Everybody.
    pub const BROADCAST: Mac = Mac([0xff; 6]);

    /// One card's address: neither a group nor zero.
    pub fn is_unicast(self) -> bool {
        self.0[0] & 1 == 0 && self.0 != [0; 6]
    }
}

impl std::fmt::Display for Mac {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let [a, b, c, d, e, g] = self.0;
        write!(f, "{a:02x}:{b:02x}:{c:02x}:{d:02x}:{e:02x}:{g:02x}")
    }
}

impl std::str::FromStr for Mac {
    type Err = String;

    fn from_str(text: &str) -> Result<Mac, String> {
        let mut mac = [0; 6];
        let mut parts = text.split(':');
        for byte in &mut mac {
            let part = parts.next().filter(|part| part.len() == 2);
            *byte = part
                .and_then(|part| u8::from_str_radix(part, 16).ok())
                .ok_or_else(|| format!("{text:?} is not an Ethernet address such as 52:54:00:12:34:56"))?;
        }
        if parts.next().is_some() || !Mac(mac).is_unicast() {
            return Err(format!("{text:?} is not the address of one card, such as 52:54:00:12:34:56"));
        }
        Ok(Mac(mac))
    }
}

/// The protocols over Ethernet that are known here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EtherType {
    /// ARP.
    Arp,
    /// IPv4.
    Ipv4,
    /// IPv6.
    Ipv6,
}

impl EtherType {
    fn number(self) -> u16 {
        match self {
            EtherType::Arp => 0x0806,
            EtherType::Ipv4 => 0x0800,
            EtherType::Ipv6 => 0x86dd,
        }
    }
}

/// Two bytes in network order.
pub fn be16(bytes: &[u8], at: usize) -> Option<u16> {
    bytes.get(at..)?.first_chunk().map(|b| u16::from_be_bytes(*b))
}

/// Four bytes in network order.
pub fn be32(bytes: &[u8], at: usize) -> Option<u32> {
    bytes.get(at..)?.first_chunk().map(|b| u32::from_be_bytes(*b))
}

/// `N` bytes.
pub fn array<const N: usize>(bytes: &[u8], at: usize) -> Option<[u8; N]> {
    bytes.get(at..)?.first_chunk().copied()
}

/// Writes `data` at `at`, if it fits.
pub fn put(bytes: &mut [u8], at: usize, data: &[u8]) -> bool {
    let place = at.checked_add(data.len()).and_then(|end| bytes.get_mut(at..end));
    place.map(|place| place.copy_from_slice(data)).is_some()
}

/// The protocol of a frame and where it begins; a VLAN tag is gone over.
pub fn ethertype(frame: &[u8]) -> Option<(EtherType, usize)> {
    let (mut number, mut at) = (be16(frame, 12)?, ETHERNET);
    if number == 0x8100 {
        (number, at) = (be16(frame, 16)?, ETHERNET + 4);
    }
    let kind = match number {
        0x0806 => EtherType::Arp,
        0x0800 => EtherType::Ipv4,
        0x86dd => EtherType::Ipv6,
        _ => return None,
    };
    Some((kind, at))
}

/// Destination and source of a frame.
pub fn macs(frame: &[u8]) -> Option<(Mac, Mac)> {
    Some((Mac(array(frame, 0)?), Mac(array(frame, 6)?)))
}

/// A part of an IP packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fragment {
    /// Which packet it belongs to.
    pub id: u32,
    /// Where in it, bytes.
    pub offset: usize,
    /// More comes.
    pub more: bool,
}

/// An IP packet of either version.
#[derive(Clone, Copy, Debug)]
pub struct Ip<'a> {
    /// Sender.
    pub source: IpAddr,
    /// Receiver.
    pub destination: IpAddr,
    /// What is in it.
    pub protocol: u8,
    /// Hops left.
    pub hop_limit: u8,
    /// Bytes before the payload.
    pub header_len: usize,
    /// What is in it, without padding.
    pub payload: &'a [u8],
    /// It is not whole.
    pub fragment: Option<Fragment>,
    /// The packet from its first byte, without padding.
    pub whole: &'a [u8],
}

impl<'a> Ip<'a> {
    /// Reads a packet. The header's checksum has to be right.
    pub fn parse(kind: EtherType, bytes: &'a [u8]) -> Option<Ip<'a>> {
        match kind {
            EtherType::Ipv4 => Ip::parse4(bytes),
            EtherType::Ipv6 => Ip::parse6(bytes),
            EtherType::Arp => None,
        }
    }

    fn parse4(bytes: &'a [u8]) -> Option<Ip<'a>> {
        let first = *bytes.first()?;
        let header_len = usize::from(first & 15) * 4;
        let total = usize::from(be16(bytes, 2)?);
        if first >> 4 != 4 || header_len < 20 || total < header_len {
            return None;
        }
        let whole = bytes.get(..total)?;
        if checksum(whole.get(..header_len)?, 0) != 0 {
            return None;
        }
        let flags = be16(whole, 6)?;
        let (offset, more) = (usize::from(flags & 0x1fff) * 8, flags & 0x2000 != 0);
        let fragment = (offset != 0 || more).then_some(Fragment { id: be16(whole, 4)?.into(), offset, more });
        Some(Ip {
            source: Ipv4Addr::from(array(whole, 12)?).into(),
            destination: Ipv4Addr::from(array(whole, 16)?).into(),
            protocol: *whole.get(9)?,
            hop_limit: *whole.get(8)?,
            header_len,
            payload: whole.get(header_len..)?,
            fragment,
            whole,
        })
    }

    fn parse6(bytes: &'a [u8]) -> Option<Ip<'a>> {
        let len = usize::from(be16(bytes, 4)?);
        if *bytes.first()? >> 4 != 6 {
            return None;
        }
        let whole = bytes.get(..40 + len)?;
        let (mut next, mut at, mut fragment) = (*whole.get(6)?, 40, None);
        // Hop-by-hop, destination options, fragment: each at most once or twice; a chain of more is nobody's packet.
        for _ in 0..4 {
            match next {
                0 | 60 => {
                    let step = usize::from(*whole.get(at + 1)?) * 8 + 8;
                    (next, at) = (*whole.get(at)?, at + step);
                }
                44 => {
                    let (place, id) = (be16(whole, at + 2)?, be32(whole, at + 4)?);
                    fragment = Some(Fragment { id, offset: usize::from(place & !7), more: place & 1 != 0 });
                    (next, at) = (*whole.get(at)?, at + 8);
                    // What follows is in the first fragment only.
                    break;
                }
                _ => break,
            }
        }
        Some(Ip {
            source: Ipv6Addr::from(array::<16>(whole, 8)?).into(),
            destination: Ipv6Addr::from(array::<16>(whole, 24)?).into(),
            protocol: next,
            hop_limit: *whole.get(7)?,
            header_len: at,
            payload: whole.get(at..)?,
            fragment,
            whole,
        })
    }

    /// The sum of the pseudo-header for `len` bytes.
    pub fn pseudo(&self, len: usize) -> u64 {
        pseudo(self.source, self.destination, self.protocol, len)
    }
}

/// The sum of the pseudo-header of TCP, UDP and ICMPv6.
pub fn pseudo(source: IpAddr, destination: IpAddr, protocol: u8, len: usize) -> u64 {
    address_sum(source) + address_sum(destination) + u64::from(protocol) + (len as u64 >> 16) + (len as u64 & 0xffff)
}

fn address_sum(address: IpAddr) -> u64 {
    match address {
        IpAddr::V4(v4) => sum(&v4.octets()),
        IpAddr::V6(v6) => sum(&v6.octets()),
    }
}

/// A TCP segment.
#[derive(Clone, Copy, Debug)]
pub struct Tcp<'a> {
    /// Port of the sender.
    pub source: u16,
    /// Port of the receiver.
    pub destination: u16,
    /// Number of the first byte.
    pub seq: u32,
    /// Next byte that the sender expects.
    pub ack: u32,
    /// [`tcp_flag`]s.
    pub flags: u8,
    /// Window, not scaled.
    pub window: u16,
    /// Options.
    pub options: &'a [u8],
    /// Data.
    pub data: &'a [u8],
}

impl<'a> Tcp<'a> {
    /// Reads a segment.
    pub fn parse(bytes: &'a [u8]) -> Option<Tcp<'a>> {
        let offset = usize::from(*bytes.get(12)? >> 4) * 4;
        Some(Tcp {
            source: be16(bytes, 0)?,
            destination: be16(bytes, 2)?,
            seq: be32(bytes, 4)?,
            ack: be32(bytes, 8)?,
            flags: *bytes.get(13)?,
            window: be16(bytes, 14)?,
            options: bytes.get(20..offset)?,
            data: bytes.get(offset..)?,
        })
    }

    /// Whether a flag is set.
    pub fn has(&self, flag: u8) -> bool {
        self.flags & flag != 0
    }

    /// Maximum segment size and window scale, where the options have them.
    pub fn syn_options(&self) -> (Option<u16>, Option<u8>) {
        let (mut mss, mut scale, mut rest) = (None, None, self.options);
        while let Some((&kind, after)) = rest.split_first() {
            if kind == 0 {
                break;
            }
            if kind == 1 {
                rest = after;
                continue;
            }
            let len = usize::from(after.first().copied().unwrap_or(0));
            if len < 2 {
                break;
            }
            match (kind, len) {
                (2, 4) => mss = be16(after, 1),
                (3, 3) => scale = after.get(1).map(|&s| s.min(14)),
                _ => {}
            }
            rest = rest.get(len..).unwrap_or_default();
        }
        (mss, scale)
    }
}

/// A UDP datagram.
#[derive(Clone, Copy, Debug)]
pub struct Udp<'a> {
    /// Port of the sender.
    pub source: u16,
    /// Port of the receiver.
    pub destination: u16,
    /// Data.
    pub data: &'a [u8],
}

impl<'a> Udp<'a> {
    /// Reads a datagram.
    pub fn parse(bytes: &'a [u8]) -> Option<Udp<'a>> {
        let len = usize::from(be16(bytes, 4)?);
        let data = bytes.get(8..len)?;
        Some(Udp { source: be16(bytes, 0)?, destination: be16(bytes, 2)?, data })
    }
}

/// Who sends to whom, on both layers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ends {
    /// Card of the receiver.
    pub to_mac: Mac,
    /// Card of the sender.
    pub from_mac: Mac,
    /// Sender.
    pub source: IpAddr,
    /// Receiver, of the same version.
    pub destination: IpAddr,
}

/// Length of the headers before the transport's for packets to `address`.
pub fn headers_len(address: IpAddr) -> usize {
    if address.is_ipv4() { ETHERNET + 20 } else { ETHERNET + 40 }
}

/// Writes Ethernet and IP headers for `len` bytes of `protocol`, sets the frame's length; the answer is where the bytes belong.
pub fn write_ip(packet: &mut Packet, ends: &Ends, protocol: u8, hop_limit: u8, len: usize) -> usize {
    let at = headers_len(ends.destination);
    packet.set_header(Header::default());
    packet.set_len(at + len);
    write_ip_into(packet.frame_mut(), ends, protocol, hop_limit, len, None);
    at
}

/// As [`write_ip`], into plain bytes; with an identification and place if it is a fragment (IPv4 only).
pub fn write_ip_into(
    frame: &mut [u8],
    ends: &Ends,
    protocol: u8,
    hop_limit: u8,
    len: usize,
    fragment: Option<Fragment>,
) {
    write_ethernet(frame, ends.to_mac, ends.from_mac, EtherType::Ipv4);
    match (ends.source, ends.destination) {
        (IpAddr::V4(source), IpAddr::V4(destination)) => {
            let mut header = [0; 20];
            let total = (20 + len).min(65535) as u16;
            // Whole packets must not be cut on the way: their identification may then be anything (RFC 6864).
            let (id, place) = fragment
                .map_or((0, 0x4000), |f| (f.id as u16, (f.offset / 8) as u16 | if f.more { 0x2000 } else { 0 }));
            header[0] = 0x45;
            header[2..4].copy_from_slice(&total.to_be_bytes());
            header[4..6].copy_from_slice(&id.to_be_bytes());
            header[6..8].copy_from_slice(&place.to_be_bytes());
            header[8] = hop_limit;
            header[9] = protocol;
            header[12..16].copy_from_slice(&source.octets());
            header[16..20].copy_from_slice(&destination.octets());
            let value = checksum(&header, 0);
            header[10..12].copy_from_slice(&value.to_be_bytes());
            put(frame, ETHERNET, &header);
        }
        (IpAddr::V6(source), IpAddr::V6(destination)) => {
            put(frame, 12, &EtherType::Ipv6.number().to_be_bytes());
            let mut header = [0; 40];
            header[0] = 0x60;
            header[4..6].copy_from_slice(&(len.min(65535) as u16).to_be_bytes());
            header[6] = protocol;
            header[7] = hop_limit;
            header[8..24].copy_from_slice(&source.octets());
            header[24..40].copy_from_slice(&destination.octets());
            put(frame, ETHERNET, &header);
        }
        // Both ends have one version.
        _ => {}
    }
}

/// Writes an Ethernet header.
pub fn write_ethernet(frame: &mut [u8], to: Mac, from: Mac, kind: EtherType) {
    put(frame, 0, &to.0);
    put(frame, 6, &from.0);
    put(frame, 12, &kind.number().to_be_bytes());
}

/// Leaves the checksum of the transport at `start`, whose field is at `offset` in it, to the receiver.
pub fn leave_checksum(packet: &mut Packet, ends: &Ends, protocol: u8, start: usize, offset: u16) {
    let len = packet.frame().len().saturating_sub(start);
    let partial = fold(pseudo(ends.source, ends.destination, protocol, len));
    put(packet.frame_mut(), start + usize::from(offset), &partial.to_be_bytes());
    let header = Header { flags: packet::NEEDS_CSUM, csum_start: start as u16, csum_offset: offset, ..packet.header() };
    packet.set_header(header);
}

#[cfg(test)]
mod tests;
