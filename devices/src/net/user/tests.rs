//! A guest with a TCP/IP of its own (smoltcp) behind the network, over a cable that loses and reorders if it is told to.
//! Everything on the host's side is on its loopback.

use std::collections::VecDeque;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream, UdpSocket};
use std::time::Duration;

use proptest::prelude::*;
use smoltcp::iface::{Config, Interface, SocketHandle, SocketSet};
use smoltcp::phy::{Device, DeviceCapabilities, Medium, RxToken, TxToken};
use smoltcp::socket::{dhcpv4, icmp, tcp, udp};
use smoltcp::time::Instant as Time;
use smoltcp::wire::{EthernetAddress, Icmpv4Packet, Icmpv4Repr, IpAddress, IpCidr, IpEndpoint};

use super::*;
use crate::net::offload::Segments;
use crate::net::wire::{self, protocol, tcp_flag};

const MAC: Mac = Mac([0x52, 0x54, 0, 0x12, 0x34, 0x56]);
const LIMIT: Duration = Duration::from_secs(60);

fn network(change: impl FnOnce(&mut UserConfig)) -> UserNet {
    let mut config = UserConfig::new(MAC);
    change(&mut config);
    let net = UserNet::new(config).unwrap();
    net.connect(Arc::new(|| {}));
    net
}

/// The cable.
struct Link {
    net: UserNet,
    inbox: VecDeque<Vec<u8>>,
    /// Of 1000 frames, in each direction.
    loss: u32,
    state: u64,
    packet: Packet,
    segment: Packet,
}

impl Link {
    fn chance(&mut self) -> u32 {
        self.state = self.state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.state >> 33) as u32 % 1000
    }

    fn pull(&mut self) {
        while self.inbox.len() < 200 && self.net.receive(&mut self.packet) {
            let mut segments = Segments::new(&self.packet);
            while segments.next(&self.packet, &mut self.segment) {
                if self.chance() < self.loss {
                    continue;
                }
                let frame = self.segment.frame().to_vec();
                if self.chance() < self.loss && !self.inbox.is_empty() {
                    self.inbox.insert(self.inbox.len() - 1, frame);
                } else {
                    self.inbox.push_back(frame);
                }
            }
        }
    }
}

struct Into(Vec<u8>);
struct Out<'a>(&'a mut Link);

impl RxToken for Into {
    fn consume<R, F: FnOnce(&[u8]) -> R>(self, f: F) -> R {
        f(&self.0)
    }
}

impl TxToken for Out<'_> {
    fn consume<R, F: FnOnce(&mut [u8]) -> R>(self, len: usize, f: F) -> R {
        let mut frame = vec![0; len];
        let result = f(&mut frame);
        if self.0.chance() >= self.0.loss {
            let mut packet = Packet::new();
            packet.copy_from(&frame);
            self.0.net.send(&mut packet);
        }
        result
    }
}

impl Device for Link {
    type RxToken<'a> = Into;
    type TxToken<'a> = Out<'a>;

    fn receive(&mut self, _: Time) -> Option<(Into, Out<'_>)> {
        self.pull();
        let frame = self.inbox.pop_front()?;
        Some((Into(frame), Out(self)))
    }
    fn transmit(&mut self, _: Time) -> Option<Out<'_>> {
        Some(Out(self))
    }
    fn capabilities(&self) -> DeviceCapabilities {
        let mut capabilities = DeviceCapabilities::default();
        capabilities.medium = Medium::Ethernet;
        capabilities.max_transmission_unit = 1514;
        capabilities
    }
}

struct Guest {
    link: Link,
    interface: Interface,
    sockets: SocketSet<'static>,
}

impl Guest {
    fn new(net: UserNet, loss: u32) -> Guest {
        let mut link =
            Link { net, inbox: VecDeque::new(), loss, state: 7, packet: Packet::new(), segment: Packet::new() };
        let mut interface = Interface::new(Config::new(EthernetAddress(MAC.0).into()), &mut link, Time::now());
        interface.update_ip_addrs(|addresses| {
            addresses.push(IpCidr::new(IpAddress::v4(10, 0, 2, 15), 24)).unwrap();
            addresses.push(IpCidr::new(IpAddress::v6(0xfec0, 0, 0, 0, 0, 0, 0, 0x15), 64)).unwrap();
        });
        interface.routes_mut().add_default_ipv4_route([10, 0, 2, 2].into()).unwrap();
        interface.routes_mut().add_default_ipv6_route(addresses::GATEWAY6).unwrap();
        Guest { link, interface, sockets: SocketSet::new(Vec::new()) }
    }

    fn tcp(&mut self) -> SocketHandle {
        let buffer = || tcp::SocketBuffer::new(vec![0; 65536]);
        self.sockets.add(tcp::Socket::new(buffer(), buffer()))
    }

    fn connect(&mut self, to: impl std::convert::Into<IpEndpoint>, port: u16) -> SocketHandle {
        let handle = self.tcp();
        self.sockets.get_mut::<tcp::Socket>(handle).connect(self.interface.context(), to, port).unwrap();
        handle
    }

    fn udp(&mut self, port: u16) -> SocketHandle {
        let buffer = || udp::PacketBuffer::new(vec![udp::PacketMetadata::EMPTY; 8], vec![0; 16384]);
        let handle = self.sockets.add(udp::Socket::new(buffer(), buffer()));
        self.sockets.get_mut::<udp::Socket>(handle).bind(port).unwrap();
        handle
    }

    /// Has the guest go on until `done` gives something.
    fn until<T>(&mut self, what: &str, mut done: impl FnMut(&mut SocketSet<'static>) -> Option<T>) -> T {
        let limit = Instant::now() + LIMIT;
        loop {
            self.interface.poll(Time::now(), &mut self.link, &mut self.sockets);
            if let Some(result) = done(&mut self.sockets) {
                self.interface.poll(Time::now(), &mut self.link, &mut self.sockets);
                return result;
            }
            assert!(Instant::now() < limit, "{what}: {}", self.link.net.counters());
            if self.link.inbox.is_empty() {
                std::thread::sleep(Duration::from_micros(200));
            }
        }
    }

    /// Sends `data`, closes, and reads to the end.
    fn exchange(&mut self, handle: SocketHandle, data: &[u8]) -> Vec<u8> {
        let (mut sent, mut got, mut closed) = (0, Vec::new(), false);
        self.until("the exchange does not end", |sockets| {
            let socket = sockets.get_mut::<tcp::Socket>(handle);
            if socket.can_send() && sent < data.len() {
                sent += socket.send_slice(&data[sent..]).unwrap();
            }
            if sent == data.len() && socket.may_send() && !closed {
                socket.close();
                closed = true;
            }
            while socket.can_recv() {
                socket
                    .recv(|bytes| {
                        got.extend_from_slice(bytes);
                        (bytes.len(), ())
                    })
                    .unwrap();
            }
            (closed && matches!(socket.state(), tcp::State::Closed | tcp::State::TimeWait)).then_some(())
        });
        got
    }
}

fn pattern(len: usize) -> Vec<u8> {
    (0..len).map(|i| (i * 31 + i / 253) as u8).collect()
}

/// A server on the loopback that sends everything back after it was read to its end.
fn echo_server(v6: bool) -> SocketAddr {
    let listener = TcpListener::bind(if v6 { "[::1]:0" } else { "127.0.0.1:0" }).unwrap();
    let address = listener.local_addr().unwrap();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            std::thread::spawn(move || {
                let mut data = Vec::new();
                // A guest that goes early is one of the cases.
                let _ = stream.read_to_end(&mut data).and_then(|_| stream.write_all(&data));
            });
        }
    });
    address
}

fn has_loopback6() -> bool {
    TcpListener::bind("[::1]:0").is_ok()
}

#[test]
fn connections_carry_bytes_both_ways() {
    let server = echo_server(false);
    let mut guest = Guest::new(network(|config| config.allow_host = true), 0);
    let data = pattern(400_000);
    let handle = guest.connect((IpAddress::v4(10, 0, 2, 2), server.port()), 50_001);
    assert!(guest.exchange(handle, &data) == data);
    if has_loopback6() {
        let server = echo_server(true);
        let gateway: IpAddress = IpAddress::Ipv6(addresses::GATEWAY6);
        let handle = guest.connect((gateway, server.port()), 50_002);
        assert!(guest.exchange(handle, &data) == data);
    }
    let limit = Instant::now() + LIMIT;
    while lock(&guest.link.net.shared.nat).flows().0 > 0 {
        assert!(Instant::now() < limit, "{:?}", lock(&guest.link.net.shared.nat).phases());
        guest.interface.poll(Time::now(), &mut guest.link, &mut guest.sockets);
    }
}

#[test]
fn a_cable_that_loses_and_reorders_loses_no_byte() {
    let server = echo_server(false);
    let mut guest = Guest::new(network(|config| config.allow_host = true), 25);
    for port in [50_001, 50_002] {
        let data = pattern(90_000);
        let handle = guest.connect((IpAddress::v4(10, 0, 2, 2), server.port()), port);
        assert!(guest.exchange(handle, &data) == data);
    }
}

#[test]
fn forwarded_ports_lead_to_the_guest() {
    let any: SocketAddr = "127.0.0.1:0".parse().unwrap();
    let guest_at = |port| SocketAddr::from(([10, 0, 2, 15], port));
    let net = network(|config| {
        config.forwards = vec![
            Forward { tcp: true, host: any, guest: guest_at(80) },
            Forward { tcp: false, host: any, guest: guest_at(5353) },
        ]
    });
    let [web, names] = net.listening() else { panic!("two ports") };
    let (web, names) = (*web, *names);
    let mut guest = Guest::new(net, 0);
    let (server, questions) = (guest.tcp(), guest.udp(5353));
    guest.sockets.get_mut::<tcp::Socket>(server).listen(80).unwrap();
    let client = std::thread::spawn(move || {
        let mut stream = TcpStream::connect(web).unwrap();
        stream.write_all(b"question").unwrap();
        stream.shutdown(std::net::Shutdown::Write).unwrap();
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer).unwrap();
        answer
    });
    guest.until("nobody connects", |sockets| {
        let socket = sockets.get_mut::<tcp::Socket>(server);
        (socket.recv_queue() == 8).then_some(())
    });
    let peer = guest.sockets.get_mut::<tcp::Socket>(server).remote_endpoint().unwrap();
    assert_eq!(peer.addr, IpAddress::v4(10, 0, 2, 2));
    assert_eq!(guest.exchange(server, &pattern(100_000)), b"question");
    assert!(client.join().unwrap() == pattern(100_000));

    let client = UdpSocket::bind("127.0.0.1:0").unwrap();
    client.set_read_timeout(Some(LIMIT)).unwrap();
    client.send_to(b"who?", names).unwrap();
    let from = guest.until("no datagram", |sockets| {
        let socket = sockets.get_mut::<udp::Socket>(questions);
        let (data, meta) = socket.recv().ok()?;
        assert_eq!(data, b"who?");
        Some(meta.endpoint)
    });
    guest.sockets.get_mut::<udp::Socket>(questions).send_slice(b"me", from).unwrap();
    guest.until("never", |_| Some(()));
    let mut answer = [0; 16];
    assert_eq!(client.recv_from(&mut answer).unwrap(), (2, names));
}

#[test]
fn datagrams_and_questions_find_their_way() {
    let server = UdpSocket::bind("127.0.0.1:0").unwrap();
    let port = server.local_addr().unwrap().port();
    let resolver = UdpSocket::bind("127.0.0.1:0").unwrap();
    let resolver_at = resolver.local_addr().unwrap();
    for (socket, answer) in [(server, &b"pong"[..]), (resolver, b"an address")] {
        std::thread::spawn(move || {
            let mut data = [0; 100];
            while let Ok((_, from)) = socket.recv_from(&mut data) {
                socket.send_to(answer, from).unwrap();
            }
        });
    }
    let net = network(|config| {
        config.allow_host = true;
        config.dns = Some(resolver_at);
    });
    let mut guest = Guest::new(net, 0);
    let handle = guest.udp(40_000);
    let gateway = IpAddress::v4(10, 0, 2, 2);
    let dns6: IpAddress = IpAddress::Ipv6(addresses::DNS6);
    for (to, expected) in [
        ((gateway, port), &b"pong"[..]),
        ((IpAddress::v4(10, 0, 2, 3), 53), b"an address"),
        ((dns6, 53), b"an address"),
    ] {
        let to = IpEndpoint::from(to);
        guest.sockets.get_mut::<udp::Socket>(handle).send_slice(b"ping", to).unwrap();
        guest.until("no answer", |sockets| {
            let (data, meta) = sockets.get_mut::<udp::Socket>(handle).recv().ok()?;
            assert_eq!((data, meta.endpoint), (expected, to));
            Some(())
        });
    }
}

#[test]
fn a_guest_gets_its_address_and_pings_the_gateway() {
    let mut guest = Guest::new(network(|_| {}), 0);
    let dhcp = guest.sockets.add(dhcpv4::Socket::new());
    guest.until("no lease", |sockets| match sockets.get_mut::<dhcpv4::Socket>(dhcp).poll() {
        Some(dhcpv4::Event::Configured(config)) => {
            assert_eq!(config.address.to_string(), "10.0.2.15/24");
            assert_eq!(config.router, Some([10, 0, 2, 2].into()));
            assert_eq!(config.dns_servers.first(), Some(&[10, 0, 2, 3].into()));
            Some(())
        }
        _ => None,
    });
    let buffer = || icmp::PacketBuffer::new(vec![icmp::PacketMetadata::EMPTY; 4], vec![0; 4096]);
    let ping = guest.sockets.add(icmp::Socket::new(buffer(), buffer()));
    let socket = guest.sockets.get_mut::<icmp::Socket>(ping);
    socket.bind(icmp::Endpoint::Ident(77)).unwrap();
    let request = Icmpv4Repr::EchoRequest { ident: 77, seq_no: 5, data: b"hello" };
    let room = socket.send(request.buffer_len(), IpAddress::v4(10, 0, 2, 2)).unwrap();
    request.emit(&mut Icmpv4Packet::new_unchecked(room), &Default::default());
    guest.until("no reply", |sockets| {
        let (data, from) = sockets.get_mut::<icmp::Socket>(ping).recv().ok()?;
        let reply = Icmpv4Repr::parse(&Icmpv4Packet::new_checked(data).unwrap(), &Default::default()).unwrap();
        assert_eq!(reply, Icmpv4Repr::EchoReply { ident: 77, seq_no: 5, data: b"hello" });
        assert_eq!(from, IpAddress::v4(10, 0, 2, 2));
        Some(())
    });
}

#[test]
fn what_the_guest_may_not_reach_is_refused_at_once() {
    let server = echo_server(false);
    let mut guest = Guest::new(network(|_| {}), 0);
    for (number, address) in
        [[10, 0, 2, 2], [10, 0, 2, 3], [127, 0, 0, 1], [169, 254, 169, 254], [0, 0, 0, 0x7f]].into_iter().enumerate()
    {
        let mut segment = Segment::new(50_000 + number as u16, tcp_flag::SYN);
        segment.to = SocketAddr::from((address, server.port()));
        guest.link.net.send(&mut segment.packet());
        let mut answer = Packet::new();
        assert!(guest.link.net.receive(&mut answer), "{address:?}");
        let ip = wire::Ip::parse(wire::EtherType::Ipv4, &answer.frame()[14..]).unwrap();
        assert_eq!(wire::Tcp::parse(ip.payload).unwrap().flags, tcp_flag::RST | tcp_flag::ACK, "{address:?}");
    }
    let handle = guest.connect((IpAddress::v4(10, 0, 2, 2), server.port()), 50_100);
    guest.until("not refused", |sockets| {
        (sockets.get_mut::<tcp::Socket>(handle).state() == tcp::State::Closed).then_some(())
    });
    assert_eq!(lock(&guest.link.net.shared.nat).flows(), (0, 0));
}

#[test]
fn a_port_where_nobody_listens_refuses() {
    let free = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let mut guest = Guest::new(network(|config| config.allow_host = true), 0);
    let handle = guest.connect((IpAddress::v4(10, 0, 2, 2), free.port()), 50_001);
    guest.until("not refused", |sockets| {
        (sockets.get_mut::<tcp::Socket>(handle).state() == tcp::State::Closed).then_some(())
    });
}

/// A segment as a guest might make it.
#[derive(Clone, Debug)]
struct Segment {
    from: SocketAddr,
    to: SocketAddr,
    seq: u32,
    ack: u32,
    flags: u8,
    window: u16,
    options: Vec<u8>,
    data: Vec<u8>,
}

impl Segment {
    fn new(port: u16, flags: u8) -> Segment {
        Segment {
            from: SocketAddr::from(([10, 0, 2, 15], port)),
            to: SocketAddr::from(([10, 0, 2, 2], 1)),
            seq: 1000,
            ack: 0,
            flags,
            window: 64000,
            options: Vec::new(),
            data: Vec::new(),
        }
    }

    fn packet(&self) -> Packet {
        let ends = wire::Ends {
            to_mac: addresses::GATEWAY_MAC,
            from_mac: MAC,
            source: self.from.ip(),
            destination: self.to.ip(),
        };
        let mut options = self.options.clone();
        options.resize(options.len().next_multiple_of(4).min(40), 0);
        let mut packet = Packet::new();
        let len = 20 + options.len() + self.data.len();
        let at = wire::write_ip(&mut packet, &ends, protocol::TCP, 64, len);
        let frame = packet.frame_mut();
        for (place, bytes) in [
            (0, &self.from.port().to_be_bytes()[..]),
            (2, &self.to.port().to_be_bytes()),
            (4, &self.seq.to_be_bytes()),
            (8, &self.ack.to_be_bytes()),
            (12, &[(5 + options.len() as u8 / 4) << 4, self.flags]),
            (14, &self.window.to_be_bytes()),
            (20, &options),
            (20 + options.len(), &self.data),
        ] {
            wire::put(frame, at + place, bytes);
        }
        wire::leave_checksum(&mut packet, &ends, protocol::TCP, at, 16);
        packet
    }
}

fn hostile_segment() -> impl Strategy<Value = Segment> {
    let data = prop::collection::vec(any::<u8>(), 0..200);
    let options = prop::collection::vec(any::<u8>(), 0..40);
    (0u16..3, any::<u8>(), any::<bool>(), -3i32..5000, any::<u32>(), any::<u16>(), options, data).prop_map(
        |(port, flags, near, seq, ack, window, options, data)| Segment {
            seq: if near { 1001u32.wrapping_add(seq as u32) } else { ack.rotate_left(9) },
            ack,
            window,
            options,
            data,
            ..Segment::new(50_000 + port, flags)
        },
    )
}

proptest! {
    #![proptest_config(crate::testing::more_cases(64))]

    #[test]
    fn hostile_segments_end_in_nothing(segments in prop::collection::vec(hostile_segment(), 1..60)) {
        let server = TcpListener::bind("127.0.0.1:0").unwrap();
        let net = network(|config| config.allow_host = true);
        let mut out = Packet::new();
        let mut iss = 0;
        for mut segment in segments {
            segment.to.set_port(server.local_addr().unwrap().port());
            if segment.ack & 1 != 0 {
                // One that the other side takes for an answer.
                segment.ack = iss + 1 + (segment.ack >> 28);
            }
            net.send(&mut segment.packet());
            for _ in 0..4 {
                if net.receive(&mut out) {
                    let ip = wire::Ip::parse(wire::EtherType::Ipv4, &out.frame()[14..]).unwrap();
                    if let Some(tcp) = wire::Tcp::parse(ip.payload)
                        && ip.protocol == protocol::TCP
                        && tcp.has(tcp_flag::SYN)
                    {
                        iss = tcp.seq;
                    }
                }
            }
        }
        prop_assert!(lock(&net.shared.nat).flows().0 <= 3);
    }

    #[test]
    fn hostile_frames_end_in_nothing(mut frame in prop::collection::vec(any::<u8>(), 14..200), kind in 0u8..5) {
        let net = network(|_| {});
        frame[..12].copy_from_slice(&[0x52, 0x55, 10, 0, 2, 2, 0x52, 0x54, 0, 0x12, 0x34, 0x56]);
        let number = [0x0806u16, 0x0800, 0x86dd, 0x8100, 0x1234][usize::from(kind)];
        frame[12..14].copy_from_slice(&number.to_be_bytes());
        let mut packet = Packet::new();
        packet.copy_from(&frame);
        net.send(&mut packet);
        while net.receive(&mut packet) {}
        prop_assert_eq!(lock(&net.shared.nat).flows(), (0, 0));
    }
}

#[test]
fn others_than_the_guest_are_not_heard() {
    let server = TcpListener::bind("127.0.0.1:0").unwrap();
    let net = network(|config| config.allow_host = true);
    for from in ["10.0.2.2", "10.0.2.3", "10.0.3.15", "127.0.0.1", "192.0.2.1", "255.255.255.255", "224.0.0.1"] {
        let mut segment = Segment::new(1, tcp_flag::SYN);
        segment.from.set_ip(from.parse().unwrap());
        segment.to.set_port(server.local_addr().unwrap().port());
        net.send(&mut segment.packet());
        assert!(!net.receive(&mut Packet::new()), "{from}");
    }
    let counters = net.counters();
    assert_eq!((counters["refused"].as_u64(), counters["tcp"].as_u64()), (Some(7), Some(0)));
}

#[test]
fn tables_are_bounded() {
    use super::table::{Ends, Kind, Table};
    let ends = |port| Ends {
        guest: SocketAddr::from(([10, 0, 2, 15], port)),
        remote: SocketAddr::from(([1, 1, 1, 1], 1)),
        protocol: 17,
    };
    let mut table: Table<u16> = Table::new(Kind::Datagram, 3);
    let keys: Vec<_> = (0..3).map(|port| table.insert(ends(port), |_| Some(port)).unwrap()).collect();
    assert!(table.is_full() && table.insert(ends(9), |_| Some(9)).is_none());
    assert_eq!(table.remove(keys[1]), Some(1));
    assert!(table.insert(ends(0), |_| Some(0)).is_none(), "there already");
    assert!(table.insert(ends(5), |_| None).is_none() && table.len() == 2);
    let new = table.insert(ends(9), |_| Some(9)).unwrap();
    // The old key does not name the new entry.
    assert!(table.get_mut(keys[1]).is_none() && table.remove(keys[1]).is_none());
    assert_eq!(table.find(&ends(9)), Some(new));
    assert_eq!(super::table::Key::from_bits(new.to_bits()), Some(new));
}
