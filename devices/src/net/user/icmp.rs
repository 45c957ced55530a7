//! ICMP messages that the gateway itself sends.

use std::net::IpAddr;

use super::addresses::GATEWAY_MAC;
use super::neighbours::icmp6;
use crate::net::offload::checksum;
use crate::net::wire::{self, Ends, Ip, Mac, protocol};

/// Types of messages.
pub(super) const ECHO_REPLY: u8 = 0;
pub(super) const ECHO_REQUEST: u8 = 8;
pub(super) const ECHO_REQUEST6: u8 = 128;
pub(super) const ECHO_REPLY6: u8 = 129;

/// Why a packet cannot be delivered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Unreachable {
    /// Nobody listens at the port.
    Port,
    /// It is not allowed.
    Prohibited,
    /// There is no way.
    Host,
}

/// Bytes of the packet that are quoted.
const QUOTE: usize = 512;

/// A frame that tells `to_mac` that `original`, the packet from its first byte, was not delivered. It comes from
/// `reporter`, of the version of the packet.
pub(super) fn unreachable(reporter: IpAddr, to_mac: Mac, to: IpAddr, original: &[u8], why: Unreachable) -> Vec<u8> {
    let quote = original.get(..original.len().min(QUOTE)).unwrap_or_default();
    let code = |v4, v6| if to.is_ipv4() { v4 } else { v6 };
    let (kind, code) = match why {
        Unreachable::Port => (code(3, 1), code(3, 4)),
        Unreachable::Prohibited => (code(3, 1), code(13, 1)),
        Unreachable::Host => (code(3, 1), code(1, 3)),
    };
    let mut message = vec![kind, code, 0, 0, 0, 0, 0, 0];
    message.extend(quote);
    frame(reporter, to_mac, to, message)
}

/// A frame with an ICMP message of the version of the addresses; its checksum is filled in.
pub(super) fn frame(from: IpAddr, to_mac: Mac, to: IpAddr, mut message: Vec<u8>) -> Vec<u8> {
    match (from, to) {
        (IpAddr::V6(from), IpAddr::V6(to)) => icmp6(to_mac, from, to, &message),
        _ => {
            wire::put(&mut message, 2, &[0, 0]);
            let value = checksum(&message, 0);
            wire::put(&mut message, 2, &value.to_be_bytes());
            let ends = Ends { to_mac, from_mac: GATEWAY_MAC, source: from, destination: to };
            let at = wire::headers_len(to);
            let mut frame = vec![0; at + message.len()];
            wire::write_ip_into(&mut frame, &ends, protocol::ICMP, 64, message.len(), None);
            wire::put(&mut frame, at, &message);
            frame
        }
    }
}

/// Identifier and message of an echo request.
pub(super) fn echo_request(ip: &Ip<'_>) -> Option<u16> {
    let kind = *ip.payload.first()?;
    let wanted = if ip.protocol == protocol::ICMP { ECHO_REQUEST } else { ECHO_REQUEST6 };
    (kind == wanted && ip.payload.len() >= 8).then(|| wire::be16(ip.payload, 4))?
}

/// The reply to an echo request that is for the gateway itself.
pub(super) fn echo_reply(ip: &Ip<'_>, to_mac: Mac) -> Vec<u8> {
    let mut message = ip.payload.to_vec();
    if let Some(kind) = message.first_mut() {
        *kind = if ip.protocol == protocol::ICMP { ECHO_REPLY } else { ECHO_REPLY6 };
    }
    frame(ip.destination, to_mac, ip.source, message)
}
