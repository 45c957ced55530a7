use std::io::{Read, Write};
use std::net::Shutdown;
use std::os::unix::net::{UnixListener, UnixStream};
use std::time::{Duration, Instant};

use super::connection::ROOM;
use super::packet::{HEADER, HOST, Header, NO_RECEIVE, NO_SEND, STREAM, op};
use super::*;
use crate::bus::MmioDevice;
use crate::testing::transfer;
use crate::virtio::spec::status;
use crate::virtio::testing::{BUFFERS, RAM, RAM_LEN, Rig};

const LIMIT: Duration = Duration::from_secs(30);
const CID: u32 = 42;
/// Where the driver's packets are built.
const OUT: u64 = BUFFERS;
/// Where the device's packets arrive.
const IN: u64 = BUFFERS + 0x2_0000;

struct Host(tempfile::TempDir);

impl Host {
    fn new() -> Host {
        Host(tempfile::tempdir().unwrap())
    }
    fn options(&self) -> VsockOptions {
        VsockOptions { cid: CID, socket: self.0.path().join("v") }
    }
    fn listen(&self, port: u32) -> UnixListener {
        UnixListener::bind(self.0.path().join(format!("v_{port}"))).unwrap()
    }
    fn connect(&self, greeting: &str) -> UnixStream {
        let mut stream = UnixStream::connect(self.0.path().join("v")).unwrap();
        stream.set_read_timeout(Some(LIMIT)).unwrap();
        stream.write_all(greeting.as_bytes()).unwrap();
        stream
    }
}

fn rig(host: &Host) -> Rig {
    let mut rig = Rig::new(VirtioVsock::new(&host.options()).unwrap());
    rig.start(3, 0);
    rig
}

fn from_guest(op: u16, guest: u32, host: u32) -> Header {
    Header {
        src_cid: CID.into(),
        dst_cid: HOST,
        src_port: guest,
        dst_port: host,
        kind: STREAM,
        op,
        buf_alloc: 1 << 18,
        ..Header::default()
    }
}

fn say(rig: &mut Rig, header: Header, data: &[u8]) {
    rig.put(OUT, &[&header.bytes()[..], data].concat());
    rig.submit(1, &[(OUT, HEADER as u32), (OUT + HEADER as u64, data.len() as u32)], &[]);
    rig.used(1);
}

/// The next packet of the device.
fn hear(rig: &mut Rig) -> (Header, Vec<u8>) {
    rig.submit(0, &[], &[(IN, 0x1_0000)]);
    let len = rig.used(0).1 as usize;
    let bytes = rig.get(IN, len);
    let header = Header::read(bytes[..HEADER].try_into().unwrap());
    assert_eq!((header.dst_cid, header.kind, header.len as usize), (CID.into(), header.kind, len - HEADER));
    (header, bytes[HEADER..].to_vec())
}

/// The next packet with this op; updates of credit may come before it.
fn hear_op(rig: &mut Rig, op: u16) -> (Header, Vec<u8>) {
    loop {
        let (header, data) = hear(rig);
        if header.op == op {
            return (header, data);
        }
        assert_eq!(header.op, op::CREDIT_UPDATE, "waited for {op}: {header:?}");
    }
}

/// A connection of the guest's port 5000 to port 7 of the host.
fn opened(rig: &mut Rig, host: &Host) -> UnixStream {
    let listener = host.listen(7);
    say(rig, from_guest(op::REQUEST, 5000, 7), &[]);
    let (answer, _) = hear(rig);
    assert_eq!((answer.op, answer.src_port, answer.dst_port, answer.buf_alloc), (op::RESPONSE, 7, 5000, ROOM));
    let stream = listener.accept().unwrap().0;
    stream.set_read_timeout(Some(LIMIT)).unwrap();
    drop(listener);
    std::fs::remove_file(host.0.path().join("v_7")).unwrap();
    stream
}

fn rw(data: &[u8]) -> Header {
    Header { len: data.len() as u32, ..from_guest(op::RW, 5000, 7) }
}

#[test]
fn the_guest_reaches_who_listens_on_the_host() {
    let host = Host::new();
    let mut rig = rig(&host);
    assert_eq!(rig.device.read(0x100, 4).unwrap(), u64::from(CID));
    let mut stream = opened(&mut rig, &host);
    say(&mut rig, rw(b"question"), b"question");
    let mut got = [0; 8];
    stream.read_exact(&mut got).unwrap();
    assert_eq!(&got, b"question");
    stream.write_all(b"answer").unwrap();
    let (packet, data) = hear(&mut rig);
    assert_eq!((packet.op, packet.fwd_cnt, data.as_slice()), (op::RW, 8, &b"answer"[..]));
    // Half of it is closed by the host, then the other half by the guest.
    stream.shutdown(Shutdown::Write).unwrap();
    assert_eq!(hear(&mut rig).0, Header { flags: NO_SEND, fwd_cnt: 8, ..reply(op::SHUTDOWN) });
    say(&mut rig, rw(b"late"), b"late");
    say(&mut rig, Header { flags: NO_SEND | NO_RECEIVE, ..from_guest(op::SHUTDOWN, 5000, 7) }, &[]);
    let mut rest = String::new();
    stream.read_to_string(&mut rest).unwrap();
    assert_eq!(rest, "late");
    assert_eq!(hear(&mut rig).0.op, op::RST);
    assert_eq!(rig.counter("connections"), 0);
    assert_eq!(rig.counter("bytes_from_guest"), 12);
}

fn reply(op: u16) -> Header {
    Header {
        src_cid: HOST,
        dst_cid: CID.into(),
        src_port: 7,
        dst_port: 5000,
        kind: STREAM,
        op,
        buf_alloc: ROOM,
        ..Header::default()
    }
}

#[test]
fn the_host_reaches_a_port_of_the_guest() {
    let host = Host::new();
    let mut rig = rig(&host);
    // What follows the line is for the guest, even if it comes at once.
    let mut stream = host.connect("CONNECT 99\nearly");
    let (request, _) = hear(&mut rig);
    assert_eq!((request.op, request.dst_port), (op::REQUEST, 99));
    say(&mut rig, from_guest(op::RESPONSE, 99, request.src_port), &[]);
    let (packet, data) = hear(&mut rig);
    assert_eq!((packet.op, data.as_slice()), (op::RW, &b"early"[..]));
    let mut line = vec![0; format!("OK {}\n", request.src_port).len()];
    stream.read_exact(&mut line).unwrap();
    assert_eq!(String::from_utf8(line).unwrap(), format!("OK {}\n", request.src_port));
    // Both ends of the host go: nothing can be sent nor received there.
    drop(stream);
    let (end, _) = hear(&mut rig);
    assert_eq!((end.op, end.flags), (op::SHUTDOWN, NO_SEND | NO_RECEIVE));
    say(&mut rig, from_guest(op::RST, 99, request.src_port), &[]);
    assert_eq!(rig.counter("connections"), 0);
    // A port where nobody is.
    let mut stream = host.connect("CONNECT 1\n");
    let (request, _) = hear(&mut rig);
    say(&mut rig, from_guest(op::RST, 1, request.src_port), &[]);
    assert_eq!(stream.read(&mut [0; 10]).unwrap(), 0);
    // One that leaves before the guest has answered.
    let early = host.connect("CONNECT 2\n");
    let (request, _) = hear(&mut rig);
    assert_eq!(request.op, op::REQUEST);
    drop(early);
    assert_eq!(hear(&mut rig).0.op, op::RST);
    for wrong in ["CONNECT x\n", "HELLO 5\n", "\n", "CONNECT 99999999999\n", &"C".repeat(100)] {
        assert_eq!(host.connect(wrong).read(&mut [0; 10]).unwrap_or(0), 0, "{wrong}");
    }
}

#[test]
fn a_host_that_does_not_read_holds_up_the_guest_and_loses_nothing() {
    let host = Host::new();
    let mut rig = rig(&host);
    let mut stream = opened(&mut rig, &host);
    let data: Vec<u8> = (0..1u32 << 20).map(|i| (i * 7 + (i >> 9)) as u8).collect();
    let (mut sent, mut forwarded) = (0usize, 0usize);
    // The guest sends what it may, until the host's buffers are full too.
    while ROOM as usize > sent - forwarded {
        let len = (ROOM as usize - (sent - forwarded)).min(0x4000).min(data.len() - sent);
        say(&mut rig, rw(&data[sent..sent + len]), &data[sent..sent + len]);
        sent += len;
        say(&mut rig, from_guest(op::CREDIT_REQUEST, 5000, 7), &[]);
        forwarded = hear_op(&mut rig, op::CREDIT_UPDATE).0.fwd_cnt as usize;
        assert!(rig.counter("bytes_waiting") <= ROOM.into());
    }
    assert!(sent < data.len(), "nothing holds it up");
    let mut got = vec![0; sent];
    stream.read_exact(&mut got).unwrap();
    assert!(got == data[..sent], "bytes were lost or doubled");
    // The guest hears of the room without asking.
    let limit = Instant::now() + LIMIT;
    while forwarded < sent {
        forwarded = hear_op(&mut rig, op::CREDIT_UPDATE).0.fwd_cnt as usize;
        assert!(forwarded >= sent - ROOM as usize / 2 || Instant::now() < limit);
        if forwarded >= sent - ROOM as usize / 2 {
            break;
        }
    }
    // More than it may is a breach.
    let mut breach = 0;
    while rig.counter("reset") == 0 {
        let piece = vec![1; 0x1_0000];
        say(&mut rig, rw(&piece), &piece);
        breach += piece.len();
        assert!(breach < 4 << 20);
    }
    assert_eq!(hear_op(&mut rig, op::RST).0.op, op::RST);
}

#[test]
fn the_guest_gets_no_more_than_it_has_room_for() {
    let host = Host::new();
    let mut rig = rig(&host);
    let mut stream = opened(&mut rig, &host);
    say(&mut rig, Header { buf_alloc: 100, ..from_guest(op::CREDIT_UPDATE, 5000, 7) }, &[]);
    stream.write_all(&[7; 250]).unwrap();
    let mut seen = 0;
    for forwarded in [100u32, 200] {
        while seen < forwarded as usize {
            let (packet, data) = hear(&mut rig);
            assert_eq!(packet.op, op::RW);
            seen += data.len();
        }
        assert_eq!(seen, forwarded as usize);
        say(&mut rig, Header { buf_alloc: 100, fwd_cnt: forwarded, ..from_guest(op::CREDIT_UPDATE, 5000, 7) }, &[]);
    }
    assert_eq!(hear_op(&mut rig, op::RW).1.len(), 50);
}

#[test]
fn nonsense_is_refused_and_hurts_nobody_else() {
    let host = Host::new();
    let mut rig = rig(&host);
    let mut stream = opened(&mut rig, &host);
    let wrong = [
        from_guest(op::RW, 1, 1),
        from_guest(op::RESPONSE, 5001, 7),
        from_guest(op::REQUEST, 5001, 8),
        from_guest(77, 5001, 7),
        Header { kind: 2, ..from_guest(op::REQUEST, 5001, 7) },
        Header { dst_cid: 1 << 40, ..from_guest(op::RW, 5000, 7) },
    ];
    for header in wrong {
        say(&mut rig, header, &[]);
        let (answer, _) = hear(&mut rig);
        assert_eq!((answer.op, answer.dst_port, answer.src_port), (op::RST, header.src_port, header.dst_port));
    }
    // Neither is answered: somebody else's packet, a reset of nothing.
    say(&mut rig, Header { src_cid: 9, ..from_guest(op::RW, 5000, 7) }, &[]);
    say(&mut rig, from_guest(op::RST, 1, 1), &[]);
    assert_eq!(rig.counter("dropped_packets"), 1);
    say(&mut rig, rw(b"alive"), b"alive");
    let mut got = [0; 5];
    stream.read_exact(&mut got).unwrap();
    for wrong in [
        from_guest(op::RESPONSE, 5000, 7),
        from_guest(op::REQUEST, 5000, 7),
        from_guest(op::INVALID, 5000, 7),
        Header { len: u32::MAX, ..from_guest(op::RW, 5000, 7) },
        Header { len: 10, ..from_guest(op::RW, 5000, 7) },
    ] {
        say(&mut rig, wrong, b"few");
        assert_eq!(hear(&mut rig).0.op, op::RST, "{wrong:?}");
        stream = opened(&mut rig, &host);
    }
    drop(stream);
    assert_eq!(hear(&mut rig).0.op, op::SHUTDOWN);
    assert_eq!(rig.status() & status::DEVICE_NEEDS_RESET, 0);
}

#[test]
fn hostile_rings_stop_the_device_and_nothing_else() {
    let outside = RAM + RAM_LEN - 4;
    for case in 0..5 {
        let host = Host::new();
        let mut rig = rig(&host);
        let mut stream = opened(&mut rig, &host);
        match case {
            0 => drop(rig.submit(1, &[(BUFFERS, 43)], &[])),
            1 => drop(rig.submit(1, &[(outside, 44)], &[])),
            2 => {
                rig.put(OUT, &Header { len: 100, ..rw(&[]) }.bytes());
                rig.submit(1, &[(OUT, 44), (outside, 100)], &[]);
            }
            3 => {
                stream.write_all(b"data").unwrap();
                rig.submit(0, &[], &[(IN, 43)]);
            }
            _ => {
                stream.write_all(b"data").unwrap();
                rig.submit(0, &[], &[(outside, 44)]);
            }
        }
        rig.until_needs_reset();
        rig.device.reset();
        drop(stream);
        rig.start(3, 0);
        opened(&mut rig, &host);
    }
}

#[test]
fn refusals_that_nobody_takes_are_bounded_and_connections_are_counted() {
    let host = Host::new();
    let mut rig = rig(&host);
    for port in 0..5000 {
        say(&mut rig, from_guest(op::RW, port, 1), &[]);
    }
    assert_eq!(rig.counter("reset"), 5000);
    let mut answers = 0;
    rig.submit(0, &[], &[(IN, 44)]);
    while rig.used(0).1 == 44 {
        answers += 1;
        if answers == 2048 {
            break;
        }
        rig.submit(0, &[], &[(IN, 44)]);
    }
    rig.submit(0, &[], &[(IN, 44)]);
    rig.device.pause();
    assert!(rig.try_used(0).is_none(), "more refusals than are kept");
}

#[test]
fn a_restored_machine_hears_that_its_connections_are_gone() {
    let (host, other_host) = (Host::new(), Host::new());
    let mut rig = rig(&host);
    let stream = opened(&mut rig, &host);
    rig.submit(2, &[], &[(IN + 0x1_0000, 4)]);
    rig.device.pause();
    let mut other = Rig::with_memory(VirtioVsock::new(&other_host.options()).unwrap(), Arc::clone(&rig.memory));
    other.take_driver(&rig);
    other.device.pause();
    transfer(&*rig.device, &*other.device);
    other.device.resume();
    assert_eq!(other.used(2).1, 4);
    assert_eq!(other.get(IN + 0x1_0000, 4), [0; 4]);
    say(&mut other, rw(b"old"), b"old");
    assert_eq!(hear(&mut other).0.op, op::RST);
    drop(stream);
    opened(&mut other, &other_host);
    let stranger = VsockOptions { cid: 7, ..Host::new().options() };
    let stranger = VirtioVsock::new(&VsockOptions { socket: other_host.0.path().join("w"), ..stranger }).unwrap();
    assert!(Rig::new(stranger).device.load(&other.device.save()).is_err());
}
