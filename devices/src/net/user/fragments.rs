//! IP packets in pieces: put together when the guest sends them, cut when they are too long for it.

use std::net::IpAddr;

use crate::net::offload::fold;
use crate::net::packet::{Header, Packet};
use crate::net::wire::{self, Ends, Fragment, Ip};

/// Packets that are put together at the same time.
const MOST_PACKETS: usize = 8;
/// Pieces of one packet.
const MOST_PIECES: usize = 64;
/// Longest packet.
const MOST_BYTES: usize = 65535;
/// Milliseconds until the missing pieces are given up.
const PATIENCE: u64 = 30_000;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Whose {
    source: IpAddr,
    destination: IpAddr,
    protocol: u8,
    id: u32,
}

struct Unfinished {
    whose: Whose,
    since: u64,
    bytes: Vec<u8>,
    pieces: Vec<(usize, usize)>,
    /// Where the last piece ends.
    end: Option<usize>,
}

/// Puts packets together.
#[derive(Default)]
pub(super) struct Assembly(Vec<Unfinished>);

impl Assembly {
    /// Takes a piece; the answer is the payload once it is whole. Overlaps make a packet nobody's (RFC 5722).
    pub(super) fn take(&mut self, ip: &Ip<'_>, piece: Fragment, now: u64) -> Option<Vec<u8>> {
        let whose = Whose { source: ip.source, destination: ip.destination, protocol: ip.protocol, id: piece.id };
        self.0.retain(|one| now < one.since + PATIENCE);
        let end = piece.offset + ip.payload.len();
        if ip.payload.is_empty() || end > MOST_BYTES || (piece.more && !ip.payload.len().is_multiple_of(8)) {
            return None;
        }
        let at = self.0.iter().position(|one| one.whose == whose).unwrap_or_else(|| {
            if self.0.len() >= MOST_PACKETS {
                // The oldest is the least likely to be finished.
                self.0.remove(0);
            }
            self.0.push(Unfinished { whose, since: now, bytes: Vec::new(), pieces: Vec::new(), end: None });
            self.0.len() - 1
        });
        let one = self.0.get_mut(at)?;
        let overlaps = one.pieces.iter().any(|&(from, to)| piece.offset < to && from < end);
        let contradicts = one.end.is_some_and(|last| end > last || (!piece.more && end != last))
            || (!piece.more && one.pieces.iter().any(|&(_, to)| to > end));
        if overlaps || contradicts || one.pieces.len() >= MOST_PIECES {
            self.0.remove(at);
            return None;
        }
        if one.bytes.len() < end {
            one.bytes.resize(end, 0);
        }
        wire::put(&mut one.bytes, piece.offset, ip.payload);
        one.pieces.push((piece.offset, end));
        if !piece.more {
            one.end = Some(end);
        }
        let have: usize = one.pieces.iter().map(|(from, to)| to - from).sum();
        (one.end == Some(have)).then(|| self.0.remove(at).bytes)
    }

    pub(super) fn clear(&mut self) {
        self.0.clear();
    }
}

/// A packet that is sent to the guest in pieces.
pub(super) struct Cut {
    ends: Ends,
    protocol: u8,
    id: u32,
    mtu: usize,
    payload: Vec<u8>,
    at: usize,
}

impl Cut {
    /// Takes over a finished frame that is longer than the MTU.
    pub(super) fn new(packet: &mut Packet, ends: Ends, protocol: u8, id: u32, mtu: usize) -> Cut {
        let header = packet.header();
        let at = wire::headers_len(ends.destination);
        if header.flags != 0 {
            // The checksum goes over all pieces.
            crate::net::offload::complete_checksum(packet.frame_mut(), &header);
        }
        Cut { ends, protocol, id, mtu, payload: packet.frame().get(at..).unwrap_or_default().to_vec(), at: 0 }
    }

    /// The next piece; false when there is none left.
    pub(super) fn next(&mut self, packet: &mut Packet) -> bool {
        let left = self.payload.len().saturating_sub(self.at);
        if left == 0 {
            return false;
        }
        let v6 = self.ends.destination.is_ipv6();
        let headers = wire::headers_len(self.ends.destination);
        let extra = if v6 { 8 } else { 0 };
        let most = self.mtu.saturating_sub(headers - wire::ETHERNET + extra).max(8) & !7;
        let count = left.min(most);
        let piece = Fragment { id: self.id, offset: self.at, more: count < left };
        packet.set_header(Header::default());
        packet.set_len(headers + extra + count);
        let frame = packet.frame_mut();
        if v6 {
            // The fragment header's number is 44.
            wire::write_ip_into(frame, &self.ends, 44, 64, extra + count, None);
            let place = piece.offset as u16 | u16::from(piece.more);
            wire::put(frame, headers, &[self.protocol, 0]);
            wire::put(frame, headers + 2, &place.to_be_bytes());
            wire::put(frame, headers + 4, &piece.id.to_be_bytes());
        } else {
            wire::write_ip_into(frame, &self.ends, self.protocol, 64, count, Some(piece));
        }
        let data = self.payload.get(self.at..self.at + count).unwrap_or_default();
        wire::put(frame, headers + extra, data);
        self.at += count;
        true
    }
}

/// A small number from a large one, for identifications.
pub(super) fn identification(seed: u64) -> u32 {
    u32::from(fold(seed)) | 0x1_0000
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::net::wire::{EtherType, Mac, protocol};
    use proptest::prelude::*;

    fn ends(v6: bool) -> Ends {
        let address = |last: u8| -> IpAddr {
            if v6 {
                std::net::Ipv6Addr::new(0xfec0, 0, 0, 0, 0, 0, 0, last.into()).into()
            } else {
                [10, 0, 2, last].into()
            }
        };
        Ends { to_mac: Mac([2; 6]), from_mac: Mac([4; 6]), source: address(2), destination: address(15) }
    }

    proptest! {
        #[test]
        fn what_is_cut_can_be_put_together_in_any_order(
            len in 1500usize..60_000, v6 in any::<bool>(), mtu in prop::sample::select(vec![576usize, 1280, 1500]), seed in any::<u64>()
        ) {
            let mut packet = Packet::new();
            let at = wire::write_ip(&mut packet, &ends(v6), protocol::UDP, 64, len);
            packet.frame_mut()[at..].iter_mut().enumerate().for_each(|(i, b)| *b = (i * 7 + i / 256) as u8);
            let whole = packet.frame()[at..].to_vec();
            let mut cut = Cut::new(&mut packet, ends(v6), protocol::UDP, 77, mtu);
            let (mut pieces, mut piece) = (Vec::new(), Packet::new());
            while cut.next(&mut piece) {
                prop_assert!(piece.frame().len() <= mtu + 14);
                pieces.push(piece.frame().to_vec());
            }
            let mut order: Vec<usize> = (0..pieces.len()).collect();
            let mut state = seed | 1;
            for i in (1..order.len()).rev() {
                state = state.wrapping_mul(6364136223846793005).wrapping_add(1);
                order.swap(i, (state >> 33) as usize % (i + 1));
            }
            let mut assembly = Assembly::default();
            let mut done = None;
            let most = pieces.len() <= MOST_PIECES;
            for i in order {
                let kind = if v6 { EtherType::Ipv6 } else { EtherType::Ipv4 };
                let ip = Ip::parse(kind, &pieces[i][14..]).unwrap();
                prop_assert!(done.is_none() || !most);
                done = done.or(assembly.take(&ip, ip.fragment.unwrap(), 0));
            }
            if most {
                prop_assert_eq!(done.unwrap(), whole);
                prop_assert!(assembly.0.is_empty());
            }
        }
    }

    #[test]
    fn overlaps_floods_and_waits_are_bounded() {
        let mut assembly = Assembly::default();
        let bytes = [1u8; 16];
        let ip = Ip {
            source: [10, 0, 2, 15].into(),
            destination: [10, 0, 2, 2].into(),
            protocol: 17,
            hop_limit: 64,
            header_len: 20,
            payload: &bytes,
            fragment: None,
            whole: &[],
        };
        let piece = |id, offset, more| Fragment { id, offset, more };
        assert!(assembly.take(&ip, piece(1, 0, true), 0).is_none());
        assert!(assembly.take(&ip, piece(1, 8, false), 0).is_none(), "overlap");
        assert!(assembly.0.is_empty());
        assert!(assembly.take(&ip, piece(2, 65528, false), 0).is_none(), "too long");
        (0..100).for_each(|id| drop(assembly.take(&ip, piece(id, 0, true), 0)));
        assert_eq!(assembly.0.len(), MOST_PACKETS);
        assert!(assembly.take(&ip, piece(99, 16, false), 1).is_some());
        assert!(assembly.take(&ip, piece(200, 16, false), PATIENCE + 1).is_none());
        assert_eq!(assembly.0.len(), 1);
    }
}
