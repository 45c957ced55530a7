//! Who has which card: ARP (RFC 826) and neighbour discovery (RFC 4861), and the router's advertisement.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use super::addresses::{DNS6, GATEWAY_MAC, PREFIX6, ROUTER6, is_ours};
use crate::net::offload::checksum;
use crate::net::wire::{self, Ends, EtherType, Ip, Mac, protocol, pseudo};

/// Length of an ARP frame.
const ARP_FRAME: usize = wire::ETHERNET + 28;
/// Seconds that the router is good for.
const LIFETIME: u16 = 9000;

const ROUTER_SOLICITATION: u8 = 133;
const ROUTER_ADVERTISEMENT: u8 = 134;
const NEIGHBOUR_SOLICITATION: u8 = 135;
const NEIGHBOUR_ADVERTISEMENT: u8 = 136;

/// What an ARP packet says of its sender, and the answer to it if it asks for one of our addresses.
pub(super) fn arp(frame: &[u8], at: usize) -> Option<(Ipv4Addr, Mac, Option<Vec<u8>>)> {
    let packet = frame.get(at..)?;
    if wire::array(packet, 0)? != [0, 1, 8, 0, 6, 4] {
        return None;
    }
    let (sender_mac, sender): (Mac, Ipv4Addr) = (Mac(wire::array(packet, 8)?), wire::array::<4>(packet, 14)?.into());
    let target: Ipv4Addr = wire::array::<4>(packet, 24)?.into();
    let asks = wire::be16(packet, 6)? == 1 && is_ours(target.into());
    if !sender_mac.is_unicast() {
        return None;
    }
    let reply = asks.then(|| arp_packet(2, target, sender_mac, sender, sender_mac));
    Some((sender, sender_mac, reply))
}

fn arp_packet(operation: u16, from: Ipv4Addr, to_mac: Mac, to: Ipv4Addr, frame_to: Mac) -> Vec<u8> {
    let mut frame = vec![0; ARP_FRAME];
    wire::write_ethernet(&mut frame, frame_to, GATEWAY_MAC, EtherType::Arp);
    wire::put(&mut frame, 14, &[0, 1, 8, 0, 6, 4]);
    wire::put(&mut frame, 20, &operation.to_be_bytes());
    wire::put(&mut frame, 22, &GATEWAY_MAC.0);
    wire::put(&mut frame, 28, &from.octets());
    wire::put(&mut frame, 32, &to_mac.0);
    wire::put(&mut frame, 38, &to.octets());
    frame
}

/// A frame with an ICMPv6 message, whose checksum is filled in.
pub(super) fn icmp6(to_mac: Mac, source: Ipv6Addr, destination: Ipv6Addr, message: &[u8]) -> Vec<u8> {
    let ends = Ends { to_mac, from_mac: GATEWAY_MAC, source: source.into(), destination: destination.into() };
    let at = wire::headers_len(ends.destination);
    let mut frame = vec![0; at + message.len()];
    wire::write_ip_into(&mut frame, &ends, protocol::ICMPV6, 255, message.len(), None);
    wire::put(&mut frame, at, message);
    wire::put(&mut frame, at + 2, &[0, 0]);
    let before = pseudo(ends.source, ends.destination, protocol::ICMPV6, message.len());
    let value = checksum(frame.get(at..).unwrap_or_default(), before);
    wire::put(&mut frame, at + 2, &value.to_be_bytes());
    frame
}

/// The answer to a message of neighbour discovery.
pub(super) fn discovery(ip: &Ip<'_>, from: Mac, mtu: u16) -> Option<Vec<u8>> {
    // From this link only (RFC 4861 section 7.1).
    if ip.hop_limit != 255 {
        return None;
    }
    let IpAddr::V6(source) = ip.source else { return None };
    match *ip.payload.first()? {
        ROUTER_SOLICITATION => Some(advertisement(mtu)),
        NEIGHBOUR_SOLICITATION => {
            let target: Ipv6Addr = wire::array::<16>(ip.payload, 8)?.into();
            if !is_ours(target.into()) {
                return None;
            }
            // A question about an address without one of its own is a test whether it is taken (RFC 4862).
            let (to, flags) = if source.is_unspecified() { (ALL_NODES, 0xa0) } else { (source, 0xe0) };
            let mut message = vec![NEIGHBOUR_ADVERTISEMENT, 0, 0, 0, flags, 0, 0, 0];
            message.extend(target.octets());
            message.extend([2, 1]);
            message.extend(GATEWAY_MAC.0);
            Some(icmp6(if source.is_unspecified() { ALL_NODES_MAC } else { from }, target, to, &message))
        }
        _ => None,
    }
}

const ALL_NODES: Ipv6Addr = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 1);
const ALL_NODES_MAC: Mac = Mac([0x33, 0x33, 0, 0, 0, 1]);

/// The router tells everybody of the prefix, the MTU and the name server.
fn advertisement(mtu: u16) -> Vec<u8> {
    let mut message = vec![ROUTER_ADVERTISEMENT, 0, 0, 0, 64, 0];
    message.extend(LIFETIME.to_be_bytes());
    message.extend([0; 8]);
    message.extend([1, 1]);
    message.extend(GATEWAY_MAC.0);
    message.extend([5, 1, 0, 0]);
    message.extend(u32::from(mtu).to_be_bytes());
    // Prefix: on the link, addresses may be made from it.
    message.extend([3, 4, 64, 0xc0]);
    message.extend(86400u32.to_be_bytes());
    message.extend(14400u32.to_be_bytes());
    message.extend([0; 4]);
    message.extend(PREFIX6.octets());
    // Name server (RFC 8106).
    message.extend([25, 3, 0, 0]);
    message.extend(u32::from(LIFETIME).to_be_bytes());
    message.extend(DNS6.octets());
    icmp6(ALL_NODES_MAC, ROUTER6, ALL_NODES, &message)
}

#[cfg(test)]
mod tests {
    use super::*;

    const CARD: Mac = Mac([0x52, 0x54, 0, 1, 2, 3]);

    fn request(target: Ipv4Addr) -> Vec<u8> {
        let mut frame = arp_packet(1, Ipv4Addr::new(10, 0, 2, 15), Mac([0; 6]), target, Mac::BROADCAST);
        wire::put(&mut frame, 22, &CARD.0);
        frame
    }

    #[test]
    fn arp_answers_for_the_gateway_and_the_name_server_only() {
        for (last, answered) in [(2, true), (3, true), (4, false), (15, false)] {
            let target = Ipv4Addr::new(10, 0, 2, last);
            let (sender, mac, reply) = arp(&request(target), 14).unwrap();
            assert_eq!((sender, mac), (Ipv4Addr::new(10, 0, 2, 15), CARD));
            assert_eq!(reply.is_some(), answered, "{target}");
            if let Some(reply) = reply {
                assert_eq!(wire::macs(&reply), Some((CARD, GATEWAY_MAC)));
                assert_eq!(reply[20..32], [0, 2, 0x52, 0x55, 10, 0, 2, 2, 10, 0, 2, last]);
            }
        }
        let whole = request(Ipv4Addr::new(10, 0, 2, 2));
        (14..whole.len()).for_each(|len| assert!(arp(&whole[..len], 14).is_none()));
    }

    #[test]
    fn neighbours_are_told_of_ours() {
        let mut message = vec![NEIGHBOUR_SOLICITATION, 0, 0, 0, 0, 0, 0, 0];
        message.extend(ROUTER6.octets());
        let source: Ipv6Addr = "fe80::1".parse().unwrap();
        let ip = Ip {
            source: source.into(),
            destination: ROUTER6.into(),
            protocol: 58,
            hop_limit: 255,
            header_len: 40,
            payload: &message,
            fragment: None,
            whole: &[],
        };
        let reply = discovery(&ip, CARD, 1500).unwrap();
        let back = Ip::parse(EtherType::Ipv6, &reply[14..]).unwrap();
        assert_eq!((back.source, back.destination), (ROUTER6.into(), source.into()));
        assert_eq!(checksum(back.payload, back.pseudo(back.payload.len())), 0);
        assert_eq!(back.payload[0], NEIGHBOUR_ADVERTISEMENT);
        assert!(discovery(&Ip { hop_limit: 64, ..ip }, CARD, 1500).is_none());
        assert!(discovery(&Ip { payload: &message[..20], ..ip }, CARD, 1500).is_none());
        let solicitation = [ROUTER_SOLICITATION, 0, 0, 0, 0, 0, 0, 0];
        let told = discovery(&Ip { payload: &solicitation, ..ip }, CARD, 1500).unwrap();
        let back = Ip::parse(EtherType::Ipv6, &told[14..]).unwrap();
        assert_eq!(checksum(back.payload, back.pseudo(back.payload.len())), 0);
        assert_eq!(back.payload.len() % 8, 0);
    }
}
