use super::*;
use crate::net::packet::{GSO_TCPV4, GSO_TCPV6, NEEDS_CSUM};
use crate::net::wire::{Ends, Mac, Tcp};
use proptest::prelude::*;

/// The definition, word by word (RFC 1071).
fn naive(bytes: &[u8]) -> u16 {
    let mut sum = 0u64;
    for pair in bytes.chunks(2) {
        sum += u64::from(u16::from_be_bytes([pair[0], pair.get(1).copied().unwrap_or(0)]));
    }
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    !(sum as u16)
}

fn ends(v6: bool) -> Ends {
    let address = |last: u8| -> std::net::IpAddr {
        if v6 { std::net::Ipv6Addr::new(0xfec0, 0, 0, 0, 1, 2, 3, last.into()).into() } else { [10, 0, 2, last].into() }
    };
    Ends { to_mac: Mac([2; 6]), from_mac: Mac([4; 6]), source: address(2), destination: address(15) }
}

/// A TCP packet with `options` bytes of options and `len` of data, to be cut into pieces of `mss`.
fn tcp_packet(v6: bool, options: usize, len: usize, mss: u16, flags: u8) -> Packet {
    let mut packet = Packet::new();
    let header_len = 20 + options;
    let at = wire::write_ip(&mut packet, &ends(v6), protocol::TCP, 64, header_len + len);
    let frame = packet.frame_mut();
    wire::put(frame, at + 4, &0xffff_fff0u32.to_be_bytes());
    frame[at + 12] = ((header_len / 4) as u8) << 4;
    frame[at + 13] = flags;
    frame[at + 20..at + header_len].fill(1);
    frame[at + header_len..].iter_mut().enumerate().for_each(|(i, b)| *b = (i * 31 + i / 251) as u8);
    wire::leave_checksum(&mut packet, &ends(v6), protocol::TCP, at, 16);
    let header = Header { gso_type: if v6 { GSO_TCPV6 } else { GSO_TCPV4 }, gso_size: mss, ..packet.header() };
    packet.set_header(header);
    packet
}

proptest! {
    #[test]
    fn checksums_are_those_of_the_definition(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
        prop_assert_eq!(checksum(&bytes, 0), naive(&bytes));
    }

    #[test]
    fn segments_are_the_packet_and_each_is_right(
        v6 in any::<bool>(), options in 0usize..11, len in 1usize..60_000, mss in 200u16..9000, flags in any::<u8>()
    ) {
        let packet = tcp_packet(v6, options * 4, len, mss, flags);
        prop_assert!(is_sound(&packet.header(), packet.frame()));
        let kind = if v6 { EtherType::Ipv6 } else { EtherType::Ipv4 };
        let (mut segments, mut out, mut data, mut count) = (Segments::new(&packet), Packet::new(), Vec::<u8>::new(), 0usize);
        while segments.next(&packet, &mut out) {
            prop_assert_eq!(out.header(), Header::default());
            let ip = wire::Ip::parse(kind, &out.frame()[14..]).unwrap();
            prop_assert_eq!(14 + ip.whole.len(), out.frame().len());
            prop_assert_eq!(checksum(ip.payload, ip.pseudo(ip.payload.len())), 0);
            let tcp = Tcp::parse(ip.payload).unwrap();
            prop_assert_eq!(tcp.seq, 0xffff_fff0u32.wrapping_add(data.len() as u32));
            data.extend(tcp.data);
            count += 1;
            let last = data.len() == len;
            prop_assert!(last || tcp.data.len() == usize::from(mss));
            let mut expected = flags;
            if !last { expected &= !(tcp_flag::FIN | tcp_flag::PSH); }
            if count > 1 { expected &= !tcp_flag::CWR; }
            prop_assert_eq!(tcp.flags, expected);
        }
        prop_assert_eq!(count, len.div_ceil(mss.into()));
        let whole: Vec<u8> = (0..len).map(|i| (i * 31 + i / 251) as u8).collect();
        prop_assert_eq!(data, whole);
    }

    #[test]
    fn no_header_and_no_frame_do_harm(
        raw in any::<[u8; 12]>(), frame in prop::collection::vec(any::<u8>(), 0..200), cut in 0usize..100
    ) {
        let mut header = Header::parse(&raw);
        let mut packet = Packet::new();
        packet.copy_from(&frame);
        packet.set_header(header);
        let real = tcp_packet(false, 0, 100, 50, 0x18);
        for mut packet in [packet, real] {
            packet.set_len(packet.frame().len().saturating_sub(cut));
            header.flags &= NEEDS_CSUM;
            packet.set_header(header);
            if is_sound(&header, packet.frame()) {
                let (mut segments, mut out, mut count) = (Segments::new(&packet), Packet::new(), 0);
                while segments.next(&packet, &mut out) { count += 1; }
                prop_assert!(count <= packet.frame().len() + 1);
            }
        }
    }
}

#[test]
fn headers_that_do_not_fit_are_refused() {
    let packet = tcp_packet(false, 0, 3000, 1000, 0x10);
    let (good, frame) = (packet.header(), packet.frame());
    assert!(is_sound(&good, frame));
    for bad in [
        Header { gso_size: 0, ..good },
        Header { flags: 0, ..good },
        Header { gso_type: GSO_TCPV6, ..good },
        Header { gso_type: 3, ..good },
        Header { csum_start: good.csum_start + 2, ..good },
        Header { csum_offset: 17, ..good },
        Header { csum_start: 0, gso_type: 0, ..good },
        Header { csum_start: 3053, gso_type: 0, ..good },
        Header { csum_start: u16::MAX, csum_offset: u16::MAX, gso_type: 0, ..good },
    ] {
        assert!(!is_sound(&bad, frame), "{bad:?}");
    }
    let taken = |tso4, checksum| is_accepted(&good, Accepts { checksum, tso4, tso6: true, ecn: true });
    assert!(taken(true, true) && !taken(false, true) && !taken(true, false));
}
