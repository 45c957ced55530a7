//! Checksums and segmentation by computation: what a driver or a host does not do itself.

use super::Accepts;
use super::packet::{self, Header, Packet};
use super::wire::{self, ETHERNET, EtherType, protocol, tcp_flag};

/// Sum of `bytes` as 16-bit words in network order, not folded; `bytes` begin at an even place.
pub fn sum(bytes: &[u8]) -> u64 {
    // Words of any width and order of bytes give the same sum after folding (RFC 1071).
    let (chunks, rest) = bytes.as_chunks::<4>();
    let total: u64 = chunks.iter().map(|c| u64::from(u32::from_ne_bytes(*c))).sum();
    let mut last = [0; 4];
    last.iter_mut().zip(rest).for_each(|(to, from)| *to = *from);
    let words = fold(total + u64::from(u32::from_ne_bytes(last)));
    u64::from(u16::from_be_bytes(words.to_ne_bytes()))
}

/// Folds a sum to 16 bits with end-around carry.
pub fn fold(mut sum: u64) -> u16 {
    while sum >> 16 != 0 {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    sum as u16
}

/// The checksum of `bytes` and what was summed before.
pub fn checksum(bytes: &[u8], before: u64) -> u16 {
    !fold(sum(bytes) + before)
}

/// Does what the header asks for: the checksum from `csum_start` on. False if the place is not in the frame.
pub fn complete_checksum(frame: &mut [u8], header: &Header) -> bool {
    let (start, offset) = (usize::from(header.csum_start), usize::from(header.csum_offset));
    let Some(part) = frame.get_mut(start..) else { return false };
    // The field holds the sum of the pseudo-header.
    let value = match checksum(part, 0) {
        // Zero means "none" in UDP; the two zeros are the same number elsewhere.
        0 => 0xffff,
        value => value,
    };
    wire::put(part, offset, &value.to_be_bytes())
}

/// Where the parts of a TCP frame are.
#[derive(Clone, Copy, Debug)]
struct TcpLayout {
    ip: usize,
    tcp: usize,
    data: usize,
    version6: bool,
}

fn tcp_layout(frame: &[u8]) -> Option<TcpLayout> {
    let (kind, ip) = wire::ethertype(frame)?;
    let version6 = kind == EtherType::Ipv6;
    let packet = wire::Ip::parse(kind, frame.get(ip..)?)?;
    if packet.protocol != protocol::TCP || packet.fragment.is_some() {
        return None;
    }
    let tcp = ip + packet.header_len;
    let offset = usize::from(frame.get(tcp + 12)? >> 4) * 4;
    (offset >= 20 && tcp + offset <= frame.len()).then_some(TcpLayout { ip, tcp, data: tcp + offset, version6 })
}

/// Whether a header that a guest wrote fits its frame: flags, type and places.
pub fn is_sound(header: &Header, frame: &[u8]) -> bool {
    let needs = header.flags & packet::NEEDS_CSUM != 0;
    let place = usize::from(header.csum_start) + usize::from(header.csum_offset) + 2;
    if needs && (place > frame.len() || usize::from(header.csum_start) < ETHERNET) {
        return false;
    }
    match header.gso() {
        packet::GSO_NONE => true,
        kind @ (packet::GSO_TCPV4 | packet::GSO_TCPV6) => {
            let Some(layout) = tcp_layout(frame) else { return false };
            needs
                && header.gso_size > 0
                && layout.version6 == (kind == packet::GSO_TCPV6)
                && usize::from(header.csum_start) == layout.tcp
                && header.csum_offset == 16
        }
        _ => false,
    }
}

/// Whether a driver with `accepts` takes the packet as it is.
pub fn is_accepted(header: &Header, accepts: Accepts) -> bool {
    let type_taken = match header.gso() {
        packet::GSO_NONE => true,
        packet::GSO_TCPV4 => accepts.tso4,
        packet::GSO_TCPV6 => accepts.tso6,
        _ => false,
    };
    type_taken
        && (accepts.ecn || header.gso_type & packet::GSO_ECN == 0)
        && (accepts.checksum || header.flags & packet::NEEDS_CSUM == 0)
}

/// Cuts a packet into frames of one segment with all checksums, one after the other.
pub struct Segments {
    layout: Option<TcpLayout>,
    /// Data of the next segment begins here.
    at: usize,
    size: usize,
    index: u16,
    done: bool,
}

impl Segments {
    /// Begins to cut `packet`, whose header was found to be sound.
    pub fn new(packet: &Packet) -> Segments {
        let header = packet.header();
        let layout = if header.gso() == packet::GSO_NONE { None } else { tcp_layout(packet.frame()) };
        let at = layout.map_or(0, |l| l.data);
        Segments { layout, at, size: usize::from(header.gso_size).max(1), index: 0, done: false }
    }

    /// Puts the next frame of `from` into `to`; false when there is none left.
    pub fn next(&mut self, from: &Packet, to: &mut Packet) -> bool {
        if self.done {
            return false;
        }
        let Some(layout) = self.layout else {
            self.done = true;
            to.copy_from(from.frame());
            let header = from.header();
            return header.flags & packet::NEEDS_CSUM == 0 || complete_checksum(to.frame_mut(), &header);
        };
        let frame = from.frame();
        let data = frame.get(self.at..).unwrap_or_default();
        let data = data.get(..data.len().min(self.size)).unwrap_or_default();
        let end = self.at + data.len();
        let last = end >= frame.len();
        to.set_header(Header::default());
        to.set_len(layout.data + data.len());
        let out = to.frame_mut();
        wire::put(out, 0, frame.get(..layout.data).unwrap_or_default());
        wire::put(out, layout.data, data);
        self.finish(out, layout, last);
        self.at = end;
        self.index = self.index.wrapping_add(1);
        self.done = last;
        true
    }

    /// Lengths, identification, sequence number, flags and checksums of one segment.
    fn finish(&self, out: &mut [u8], layout: TcpLayout, last: bool) {
        let ip_len = out.len() - layout.ip;
        if layout.version6 {
            wire::put(out, layout.ip + 4, &((ip_len - 40) as u16).to_be_bytes());
        } else {
            wire::put(out, layout.ip + 2, &(ip_len as u16).to_be_bytes());
            let id = wire::be16(out, layout.ip + 4).unwrap_or(0).wrapping_add(self.index);
            wire::put(out, layout.ip + 4, &id.to_be_bytes());
            wire::put(out, layout.ip + 10, &[0, 0]);
            let value = checksum(out.get(layout.ip..layout.tcp).unwrap_or_default(), 0);
            wire::put(out, layout.ip + 10, &value.to_be_bytes());
        }
        let seq = wire::be32(out, layout.tcp + 4).unwrap_or(0).wrapping_add((self.at - layout.data) as u32);
        wire::put(out, layout.tcp + 4, &seq.to_be_bytes());
        if let Some(flags) = out.get_mut(layout.tcp + 13) {
            if !last {
                *flags &= !(tcp_flag::FIN | tcp_flag::PSH);
            }
            if self.index > 0 {
                *flags &= !tcp_flag::CWR;
            }
        }
        let l4_len = (out.len() - layout.tcp) as u32;
        let addresses = if layout.version6 { layout.ip + 8..layout.ip + 40 } else { layout.ip + 12..layout.ip + 20 };
        let pseudo = sum(out.get(addresses).unwrap_or_default()) + u64::from(l4_len) + u64::from(protocol::TCP);
        wire::put(out, layout.tcp + 16, &[0, 0]);
        let value = checksum(out.get(layout.tcp..).unwrap_or_default(), pseudo);
        wire::put(out, layout.tcp + 16, &value.to_be_bytes());
    }
}

#[cfg(test)]
mod tests;
