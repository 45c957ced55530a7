use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::time::Duration;

use super::*;
use crate::bus::MmioDevice;
use crate::testing::transfer;
use crate::virtio::spec::status;
use crate::virtio::testing::{BUFFERS, RAM, RAM_LEN, Rig};

const LIMIT: Duration = Duration::from_secs(30);

struct Sockets(tempfile::TempDir);

impl Sockets {
    fn new() -> Sockets {
        Sockets(tempfile::tempdir().unwrap())
    }
    fn options(&self) -> Vec<PortOptions> {
        let port = |name: &str| PortOptions { name: name.into(), socket: self.0.path().join(name) };
        vec![port("org.example.agent"), port(CONSOLE)]
    }
    fn connect(&self, name: &str) -> UnixStream {
        let stream = UnixStream::connect(self.0.path().join(name)).unwrap();
        stream.set_read_timeout(Some(LIMIT)).unwrap();
        stream
    }
}

/// A device with a console and one named port, and buffers for control messages.
fn rig(sockets: &Sockets) -> Rig {
    let mut rig = Rig::new(VirtioConsole::new(&sockets.options()).unwrap());
    rig.start(6, 0);
    rig
}

fn say(rig: &mut Rig, port: u32, event: u16, value: u16) {
    let bytes = [&port.to_le_bytes()[..], &event.to_le_bytes(), &value.to_le_bytes()].concat();
    rig.put(BUFFERS, &bytes);
    rig.submit(3, &[(BUFFERS, 8)], &[]);
    rig.used(3);
}

/// The next control message: port, event, value, name.
fn hear(rig: &mut Rig) -> (u32, u16, u16, Vec<u8>) {
    let at = BUFFERS + 0x1000;
    rig.submit(2, &[], &[(at, 128)]);
    let len = rig.used(2).1 as usize;
    let bytes = rig.get(at, len);
    let half = |at: usize| u16::from_le_bytes([bytes[at], bytes[at + 1]]);
    (u32::from_le_bytes([bytes[0], bytes[1], bytes[2], bytes[3]]), half(4), half(6), bytes[8..].to_vec())
}

fn write(rig: &mut Rig, port: usize, data: &[u8]) {
    rig.put(BUFFERS + 0x2000, data);
    let queue = queues_of(port).1 as u16;
    rig.submit(queue, &[(BUFFERS + 0x2000, data.len() as u32)], &[]);
    rig.used(queue);
}

fn read(rig: &mut Rig, port: usize) -> Vec<u8> {
    let (queue, at) = (queues_of(port).0 as u16, BUFFERS + 0x8000);
    rig.submit(queue, &[], &[(at, 100)]);
    let len = rig.used(queue).1 as usize;
    rig.get(at, len)
}

/// The driver's side of the beginning, up to the names.
fn introduce(rig: &mut Rig) {
    say(rig, 0, 0, 1);
    assert_eq!(hear(rig), (0, 1, 1, vec![]));
    assert_eq!(hear(rig), (1, 1, 1, vec![]));
    say(rig, 0, 3, 1);
    assert_eq!(hear(rig), (0, 4, 1, vec![]));
    assert_eq!(hear(rig), (0, 7, 1, CONSOLE.into()));
    assert_eq!(hear(rig), (0, 6, 1, vec![]));
    say(rig, 1, 3, 1);
    assert_eq!(hear(rig), (1, 7, 1, b"org.example.agent".to_vec()));
    assert_eq!(hear(rig), (1, 6, 0, vec![]));
}

#[test]
fn ports_are_introduced_and_carry_bytes() {
    let sockets = Sockets::new();
    let mut rig = rig(&sockets);
    assert_eq!(rig.device.read(0x104, 4).unwrap(), 2);
    introduce(&mut rig);
    // Nobody listens to the console: what it says is dropped.
    write(&mut rig, 0, b"lost");
    let mut agent = sockets.connect("org.example.agent");
    assert_eq!(hear(&mut rig), (1, 6, 1, vec![]));
    let mut console = sockets.connect(CONSOLE);
    assert_eq!(hear(&mut rig), (0, 6, 1, vec![]));
    for (port, stream) in [(1, &mut agent), (0, &mut console)] {
        stream.write_all(b"question").unwrap();
        assert_eq!(read(&mut rig, port), b"question");
        write(&mut rig, port, b"answer");
        let mut got = [0; 6];
        stream.read_exact(&mut got).unwrap();
        assert_eq!(&got, b"answer");
    }
    drop(agent);
    // A buffer has to be there for the end to be seen.
    rig.submit(4, &[], &[(BUFFERS + 0x9000, 10)]);
    assert_eq!(hear(&mut rig), (1, 6, 0, vec![]));
    let mut agent = sockets.connect("org.example.agent");
    assert_eq!(hear(&mut rig), (1, 6, 1, vec![]));
    agent.write_all(b"again").unwrap();
    assert_eq!(rig.used(4).1, 5);
}

#[test]
fn a_peer_that_does_not_read_holds_up_its_port_only() {
    let sockets = Sockets::new();
    let mut rig = rig(&sockets);
    introduce(&mut rig);
    let mut agent = sockets.connect("org.example.agent");
    assert_eq!(hear(&mut rig), (1, 6, 1, vec![]));
    let (at, len) = (BUFFERS + 0x1_0000, 0x10_0000u32);
    let data: Vec<u8> = (0..len).map(|i| (i * 7 + (i >> 9)) as u8).collect();
    rig.put(at, &data);
    rig.submit(5, &[(at, len)], &[]);
    let mut console = sockets.connect(CONSOLE);
    hear(&mut rig);
    write(&mut rig, 0, b"still alive");
    let mut got = [0; 11];
    console.read_exact(&mut got).unwrap();
    assert!(rig.try_used(5).is_none(), "the socket cannot hold all of it");
    let mut all = vec![0; len as usize];
    agent.read_exact(&mut all).unwrap();
    assert!(all == data, "bytes were lost or doubled");
    rig.used(5);
}

#[test]
fn a_saved_console_goes_on() {
    let (sockets, others) = (Sockets::new(), Sockets::new());
    let mut rig = rig(&sockets);
    introduce(&mut rig);
    rig.device.pause();
    let mut other = Rig::with_memory(VirtioConsole::new(&others.options()).unwrap(), Arc::clone(&rig.memory));
    other.take_driver(&rig);
    other.device.pause();
    transfer(&*rig.device, &*other.device);
    other.device.resume();
    // The driver is told how things stand here.
    assert_eq!(hear(&mut other), (0, 6, 1, vec![]));
    assert_eq!(hear(&mut other), (1, 6, 0, vec![]));
    let mut agent = others.connect("org.example.agent");
    assert_eq!(hear(&mut other), (1, 6, 1, vec![]));
    write(&mut other, 1, b"here");
    let mut got = [0; 4];
    agent.read_exact(&mut got).unwrap();
    let fewer = VirtioConsole::new(&Sockets::new().options()[..1]).unwrap();
    assert!(Rig::new(fewer).device.load(&other.device.save()).is_err());
}

#[test]
fn hostile_drivers_stop_the_device_and_nothing_else() {
    let outside = RAM + RAM_LEN - 4;
    for case in 0..5 {
        let sockets = Sockets::new();
        let mut rig = rig(&sockets);
        let mut agent = sockets.connect("org.example.agent");
        // Ports and events that do not exist, and a flood.
        for number in 0..200u32 {
            say(&mut rig, number * 0x0101_0101, (number % 9) as u16, 1);
        }
        match case {
            0 => drop(rig.submit(3, &[(BUFFERS, 7)], &[])),
            1 => drop(rig.submit(3, &[(outside, 8)], &[])),
            2 => {
                say(&mut rig, 0, 0, 1);
                rig.submit(2, &[], &[(BUFFERS, 7)]);
            }
            3 => drop(rig.submit(5, &[(outside, 8)], &[])),
            _ => {
                agent.write_all(b"data").unwrap();
                rig.submit(4, &[], &[(outside, 8)]);
            }
        }
        if case < 4 {
            rig.until_needs_reset();
        }
        rig.device.reset();
        assert_eq!(rig.status() & status::DEVICE_NEEDS_RESET, 0, "case {case}");
        rig.start(6, 0);
        say(&mut rig, 0, 0, 1);
        assert_eq!(hear(&mut rig).1, 1);
    }
}

#[test]
fn sockets_that_cannot_be_made() {
    let sockets = Sockets::new();
    let first = VirtioConsole::new(&sockets.options()).unwrap();
    assert!(VirtioConsole::new(&sockets.options()).is_err(), "somebody listens there");
    drop(first);
    assert!(!sockets.0.path().join(CONSOLE).exists());
    std::fs::write(sockets.0.path().join(CONSOLE), "mine").unwrap();
    assert!(VirtioConsole::new(&sockets.options()).is_err());
    assert_eq!(std::fs::read(sockets.0.path().join(CONSOLE)).unwrap(), b"mine");
}
