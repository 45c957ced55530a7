//! Who has which address in the guest's network, and which addresses of the world a guest may reach.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use rustix::net::{AddressFamily, SocketFlags, SocketType, connect, getsockname, socket_with};

use crate::net::wire::Mac;

/// The gateway, which is also the host.
pub const GATEWAY4: Ipv4Addr = Ipv4Addr::new(10, 0, 2, 2);
/// The name server.
pub const DNS4: Ipv4Addr = Ipv4Addr::new(10, 0, 2, 3);
/// What the guest gets by DHCP.
pub const GUEST4: Ipv4Addr = Ipv4Addr::new(10, 0, 2, 15);
/// Everybody in the network.
pub const BROADCAST4: Ipv4Addr = Ipv4Addr::new(10, 0, 2, 255);
/// Bits of the network.
pub const NETMASK4: Ipv4Addr = Ipv4Addr::new(255, 255, 255, 0);
/// The gateway's IPv6 address.
pub const GATEWAY6: Ipv6Addr = Ipv6Addr::new(0xfec0, 0, 0, 0, 0, 0, 0, 2);
/// The name server's IPv6 address.
pub const DNS6: Ipv6Addr = Ipv6Addr::new(0xfec0, 0, 0, 0, 0, 0, 0, 3);
/// The prefix, 64 bits, from which the guest makes its addresses.
pub const PREFIX6: Ipv6Addr = Ipv6Addr::new(0xfec0, 0, 0, 0, 0, 0, 0, 0);
/// The gateway's address on the link.
pub const ROUTER6: Ipv6Addr = Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, 2);
/// The gateway's and the name server's card.
pub const GATEWAY_MAC: Mac = Mac([0x52, 0x55, 10, 0, 2, 2]);

/// Whether `address` is one that the guest may have.
pub(super) fn is_guest(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(v4) => {
            let [a, b, c, d] = v4.octets();
            [a, b, c] == [10, 0, 2] && !matches!(d, 0 | 2 | 3 | 255)
        }
        IpAddr::V6(v6) => (in_prefix(v6) || v6.is_unicast_link_local()) && !is_ours(address),
    }
}

fn in_prefix(address: Ipv6Addr) -> bool {
    address.segments().get(..4) == PREFIX6.segments().get(..4)
}

/// Whether `address` is the gateway's or the name server's.
pub(super) fn is_ours(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(v4) => v4 == GATEWAY4 || v4 == DNS4,
        IpAddr::V6(v6) => v6 == GATEWAY6 || v6 == DNS6 || v6 == ROUTER6,
    }
}

/// Whether `address` is the name server's.
pub(super) fn is_dns(address: IpAddr) -> bool {
    address == IpAddr::V4(DNS4) || address == IpAddr::V6(DNS6)
}

/// The gateway as a guest with `address` knows it.
pub(super) fn gateway_for(address: IpAddr) -> IpAddr {
    if address.is_ipv4() { GATEWAY4.into() } else { GATEWAY6.into() }
}

/// Whether `address` is in the guest's network: nobody out there has it.
fn is_inside(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(v4) => v4.octets().get(..3) == Some(&[10, 0, 2]),
        IpAddr::V6(v6) => in_prefix(v6),
    }
}

/// Whether an address means one machine out in the world: not this host, not a group, not the own link.
fn is_outside(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(v4) => {
            !(v4.is_loopback()
                || v4.is_link_local()
                || v4.is_multicast()
                || v4.octets().first().is_none_or(|&first| first == 0 || first >= 240))
        }
        IpAddr::V6(v6) => {
            let embeds_v4 = v6.to_ipv4().is_some();
            !(v6.is_loopback() || v6.is_unspecified() || v6.is_multicast() || v6.is_unicast_link_local() || embeds_v4)
        }
    }
}

/// Whether `address` is one of the host's own. The host's routes tell: nothing is sent.
fn is_hosts_own(address: IpAddr) -> bool {
    let family = if address.is_ipv4() { AddressFamily::INET } else { AddressFamily::INET6 };
    let Ok(probe) = socket_with(family, SocketType::DGRAM, SocketFlags::CLOEXEC, None) else { return true };
    if connect(&probe, &SocketAddr::new(address, 9)).is_err() {
        // There is no way to it.
        return false;
    }
    let own = getsockname(&probe).ok().and_then(|any| SocketAddr::try_from(any).ok());
    own.is_none_or(|own| own.ip() == address)
}

/// Where on the host's side `address` is, if the guest may reach it; the name server is not decided here.
pub(super) fn reachable(address: IpAddr, allow_host: bool) -> Option<IpAddr> {
    if address == gateway_for(address) {
        let loopback = if address.is_ipv4() { Ipv4Addr::LOCALHOST.into() } else { Ipv6Addr::LOCALHOST.into() };
        return allow_host.then_some(loopback);
    }
    if is_inside(address) || !is_outside(address) || (!allow_host && is_hosts_own(address)) {
        return None;
    }
    Some(address)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_host_is_reached_only_if_it_is_asked_for() {
        for address in ["10.0.2.2", "fec0::2"] {
            assert_eq!(reachable(address.parse().unwrap(), false), None, "{address}");
        }
        assert_eq!(reachable("10.0.2.2".parse().unwrap(), true), Some(Ipv4Addr::LOCALHOST.into()));
        assert_eq!(reachable("fec0::2".parse().unwrap(), true), Some(Ipv6Addr::LOCALHOST.into()));
    }

    #[test]
    fn no_spelling_of_the_host_or_of_a_group_is_a_way_out() {
        for address in [
            "127.0.0.1",
            "127.9.9.9",
            "0.0.0.0",
            "0.1.2.3",
            "255.255.255.255",
            "224.0.0.1",
            "169.254.169.254",
            "10.0.2.77",
            "10.0.2.255",
            "240.0.0.1",
            "::",
            "::1",
            "::ffff:127.0.0.1",
            "::127.0.0.1",
            "ff02::1",
            "fe80::1",
            "fec0::77",
        ] {
            for allow_host in [false, true] {
                assert_eq!(reachable(address.parse().unwrap(), allow_host), None, "{address}");
            }
        }
    }

    #[test]
    fn a_guest_cannot_be_the_gateway() {
        for (address, expected) in [
            ("10.0.2.15", true),
            ("10.0.2.99", true),
            ("10.0.2.2", false),
            ("10.0.2.3", false),
            ("10.0.2.255", false),
            ("10.0.3.1", false),
            ("8.8.8.8", false),
            ("fec0::5054:ff:fe12:3456", true),
            ("fe80::1", true),
            ("fec0::2", false),
            ("fe80::2", false),
            ("2001:db8::1", false),
        ] {
            assert_eq!(is_guest(address.parse().unwrap()), expected, "{address}");
        }
    }
}
