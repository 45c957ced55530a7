use super::*;
use proptest::prelude::*;

#[test]
fn what_is_written_is_read() {
    let ends = Ends {
        to_mac: Mac([2, 0, 0, 0, 0, 1]),
        from_mac: Mac([2, 0, 0, 0, 0, 2]),
        source: "fec0::2".parse().unwrap(),
        destination: "fec0::15".parse().unwrap(),
    };
    let v4 = Ends { source: [10, 0, 2, 2].into(), destination: [10, 0, 2, 15].into(), ..ends };
    for (ends, kind) in [(ends, EtherType::Ipv6), (v4, EtherType::Ipv4)] {
        let mut packet = Packet::new();
        let at = write_ip(&mut packet, &ends, protocol::UDP, 33, 20);
        assert_eq!(macs(packet.frame()), Some((ends.to_mac, ends.from_mac)));
        assert_eq!(ethertype(packet.frame()), Some((kind, ETHERNET)));
        let ip = Ip::parse(kind, &packet.frame()[ETHERNET..]).unwrap();
        assert_eq!((ip.source, ip.destination), (ends.source, ends.destination));
        assert_eq!((ip.protocol, ip.hop_limit, ip.payload.len(), ip.fragment), (protocol::UDP, 33, 20, None));
        assert_eq!(ip.header_len + ETHERNET, at);
    }
    let mut packet = Packet::new();
    write_ip(&mut packet, &v4, protocol::UDP, 64, 20);
    packet.frame_mut()[ETHERNET + 8] ^= 1;
    assert!(Ip::parse(EtherType::Ipv4, &packet.frame()[ETHERNET..]).is_none(), "a wrong checksum");
}

#[test]
fn addresses_of_cards() {
    assert_eq!("52:54:00:12:34:56".parse(), Ok(Mac([0x52, 0x54, 0, 0x12, 0x34, 0x56])));
    assert_eq!(Mac([0x52, 0x54, 0, 0x12, 0x34, 0x56]).to_string(), "52:54:00:12:34:56");
    for bad in [
        "",
        "52:54:00:12:34",
        "52:54:00:12:34:56:78",
        "01:00:00:00:00:00",
        "00:00:00:00:00:00",
        "5:5:5:5:5:5",
        "+2:54:00:12:34:5x",
    ] {
        assert!(bad.parse::<Mac>().is_err(), "{bad}");
    }
}

#[test]
fn options_of_a_syn() {
    let tcp = |options| Tcp { source: 0, destination: 0, seq: 0, ack: 0, flags: 0, window: 0, options, data: &[] };
    assert_eq!(tcp(&[2, 4, 5, 0xb4, 4, 2, 1, 3, 3, 7]).syn_options(), (Some(1460), Some(7)));
    assert_eq!(tcp(&[3, 3, 99]).syn_options(), (None, Some(14)));
    for bad in [&[2][..], &[2, 0, 1], &[2, 4, 1], &[3, 99], &[0, 2, 4, 5, 5], &[9, 1, 2, 4, 1, 1]] {
        assert_eq!(tcp(bad).syn_options(), (None, None), "{bad:?}");
    }
}

proptest! {
    #[test]
    fn any_bytes_are_survived(mut bytes in prop::collection::vec(any::<u8>(), 0..200), v6 in any::<bool>()) {
        if let Some(first) = bytes.first_mut() {
            *first = if v6 { 0x60 } else { 0x40 | *first & 15 };
        }
        for kind in [EtherType::Ipv4, EtherType::Ipv6] {
            if let Some(ip) = Ip::parse(kind, &bytes) {
                prop_assert!(ip.payload.len() + ip.header_len == ip.whole.len());
            }
        }
        if let Some(tcp) = Tcp::parse(&bytes) {
            tcp.syn_options();
        }
        Udp::parse(&bytes);
        ethertype(&bytes);
    }
}
