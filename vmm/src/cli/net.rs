//! `--net BACKEND[,KEY=VALUE...]`.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use devices::net::user::Forward;
use devices::net::user::addresses::GUEST4;
use devices::virtio::net::MTU_RANGE;

use super::disk::split;
use crate::machine::net::{Cable, NetConfig};

const BACKENDS: &str = "user, tap:NAME, fd:NUMBER, socket:PATH or none";
const KEYS: &str = "mac=MAC, mtu=N, pcap=FILE, offloads=on|off; for user also hostfwd=tcp|udp:[ADDR]:PORT-[ADDR]:PORT, allow-host, dns=ADDR[:PORT]";

/// Reads the option; `None` is no card. A comma in a path is written twice.
pub fn parse(text: &str) -> Result<Option<NetConfig>, String> {
    let mut parts = split(text).into_iter();
    let backend = parts.next().unwrap_or_default();
    let (name, argument) = backend.split_once(':').map_or((backend.as_str(), None), |(name, rest)| (name, Some(rest)));
    let cable = match (name, argument) {
        ("none", None) => return parts.next().map_or(Ok(None), |part| Err(format!("{part:?}: none takes no keys"))),
        ("user", None) => Cable::User { allow_host: false, forwards: Vec::new(), dns: None },
        ("tap", Some(name)) if !name.is_empty() => Cable::Tap(name.to_owned()),
        ("fd", Some(number)) => Cable::TapFd(number.parse().map_err(|_| format!("fd:{number}: not a number"))?),
        ("socket", Some(path)) if !path.is_empty() => Cable::Socket(path.into()),
        _ => return Err(format!("{backend:?} is not known; expected {BACKENDS}")),
    };
    let mut net = NetConfig { cable, mac: None, mtu: None, pcap: None, offloads: true };
    for part in parts {
        add(&mut net, &part)?;
    }
    Ok(Some(net))
}

fn add(net: &mut NetConfig, part: &str) -> Result<(), String> {
    let (key, value) = part.split_once('=').map_or((part, None), |(key, value)| (key, Some(value)));
    match (key, value, &mut net.cable) {
        ("mac", Some(mac), _) => net.mac = Some(mac.parse()?),
        ("mtu", Some(mtu), _) => {
            let number = mtu.parse().ok().filter(|mtu| MTU_RANGE.contains(mtu) && *mtu >= 1280);
            net.mtu = Some(number.ok_or_else(|| format!("mtu={mtu}: expected 1280 to {}", MTU_RANGE.end()))?);
        }
        ("pcap", Some(path), _) if !path.is_empty() => net.pcap = Some(path.into()),
        ("offloads", Some("on"), _) => net.offloads = true,
        ("offloads", Some("off"), _) => net.offloads = false,
        ("allow-host", None | Some("on"), Cable::User { allow_host, .. }) => *allow_host = true,
        ("allow-host", Some("off"), Cable::User { allow_host, .. }) => *allow_host = false,
        ("hostfwd", Some(rule), Cable::User { forwards, .. }) => forwards.push(forward(rule)?),
        ("dns", Some(server), Cable::User { dns, .. }) => *dns = Some(name_server(server)?),
        _ => return Err(format!("{part:?} is not known here; after the back end come {KEYS}")),
    }
    Ok(())
}

/// `tcp:127.0.0.1:2222-:22`. Without an address the host listens on its loopback, and the guest is the one with the
/// address that DHCP gives.
fn forward(rule: &str) -> Result<Forward, String> {
    let wrong = || format!("hostfwd={rule}: expected tcp|udp:[ADDR]:PORT-[ADDR]:PORT, such as tcp:127.0.0.1:2222-:22");
    let (kind, rest) = rule.split_once(':').ok_or_else(wrong)?;
    let (host, guest) = rest.rsplit_once('-').ok_or_else(wrong)?;
    let tcp = match kind {
        "tcp" => true,
        "udp" => false,
        _ => return Err(wrong()),
    };
    let host = place(host, Ipv4Addr::LOCALHOST.into()).ok_or_else(wrong)?;
    let guest = place(guest, GUEST4.into()).filter(|guest| guest.port() != 0).ok_or_else(wrong)?;
    Ok(Forward { tcp, host, guest })
}

fn name_server(text: &str) -> Result<SocketAddr, String> {
    let alone = text.parse().map(|address: IpAddr| SocketAddr::new(address, 53));
    alone.or_else(|_| text.parse()).map_err(|_| format!("dns={text}: expected ADDR or ADDR:PORT"))
}

fn place(text: &str, default: IpAddr) -> Option<SocketAddr> {
    let (address, port) = text.rsplit_once(':')?;
    let address = address.strip_prefix('[').and_then(|a| a.strip_suffix(']')).unwrap_or(address);
    let address = if address.is_empty() { default } else { address.parse().ok()? };
    Some(SocketAddr::new(address, port.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn back_ends_and_keys() {
        let net =
            parse("user,hostfwd=tcp::2222-:22,hostfwd=udp:0.0.0.0:53-10.0.2.16:5353,allow-host,mtu=9000,dns=192.0.2.1")
                .unwrap()
                .unwrap();
        let Cable::User { allow_host, forwards, dns } = net.cable else { panic!("{net:?}") };
        assert!(allow_host);
        assert_eq!(dns, Some(([192, 0, 2, 1], 53).into()));
        assert_eq!(
            forwards[0],
            Forward { tcp: true, host: ([127, 0, 0, 1], 2222).into(), guest: ([10, 0, 2, 15], 22).into() }
        );
        assert_eq!(
            forwards[1],
            Forward { tcp: false, host: ([0, 0, 0, 0], 53).into(), guest: ([10, 0, 2, 16], 5353).into() }
        );
        assert_eq!((net.mtu, net.offloads), (Some(9000), true));
        let net = parse("tap:vmtap0,mac=52:54:00:00:00:07,pcap=a,,b.pcap,offloads=off").unwrap().unwrap();
        assert_eq!(net.cable, Cable::Tap("vmtap0".into()));
        assert_eq!(net.mac, Some(devices::net::wire::Mac([0x52, 0x54, 0, 0, 0, 7])));
        assert_eq!((net.pcap, net.offloads), (Some("a,b.pcap".into()), false));
        assert_eq!(parse("socket:/run/x").unwrap().unwrap().cable, Cable::Socket("/run/x".into()));
        assert_eq!(parse("fd:5").unwrap().unwrap().cable, Cable::TapFd(5));
        assert_eq!(parse("none").unwrap(), None);
        let v6 = parse("user,hostfwd=tcp:[::1]:80-[fec0::5]:80").unwrap().unwrap();
        assert!(matches!(v6.cable, Cable::User { forwards, .. } if forwards[0].host == "[::1]:80".parse().unwrap()));
    }

    #[test]
    fn mistakes_say_what_is_expected() {
        for (text, word) in [
            ("", "expected user"),
            ("slirp", "expected user"),
            ("tap", "expected user"),
            ("tap:x,hostfwd=tcp::1-:2", "not known here"),
            ("user,hostfwd=tcp:22", "such as tcp:"),
            ("user,hostfwd=sctp::1-:2", "such as tcp:"),
            ("user,hostfwd=tcp::1-:0", "such as tcp:"),
            ("user,mac=01:00:00:00:00:00", "one card"),
            ("user,mac=5:4", "Ethernet address"),
            ("user,mtu=60", "1280"),
            ("user,dns=home", "ADDR:PORT"),
            ("none,mtu=1500", "no keys"),
        ] {
            assert!(parse(text).unwrap_err().contains(word), "{text}: {:?}", parse(text));
        }
    }
}
