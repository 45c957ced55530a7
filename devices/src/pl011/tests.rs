use std::sync::atomic::{AtomicU32, Ordering};

use proptest::prelude::*;

use super::spec::*;
use super::*;
use crate::testing::{Wire, accesses, apply, more_cases, read, transfer, write};

/// Break, among the interrupts.
const INT_BE: u32 = 1 << 9;

/// A host end that remembers what was sent.
#[derive(Default)]
struct Host {
    sent: Mutex<Vec<u8>>,
    wanted: AtomicU32,
}

impl CharSink for Host {
    fn write(&self, bytes: &[u8]) {
        self.sent.lock().unwrap().extend_from_slice(bytes);
    }
    fn input_wanted(&self) {
        self.wanted.fetch_add(1, Ordering::AcqRel);
    }
}

struct Rig {
    uart: Arc<Pl011>,
    host: Arc<Host>,
    wire: Arc<Wire>,
}

impl Rig {
    fn new() -> Rig {
        let (host, wire) = (Arc::new(Host::default()), Wire::new());
        Rig { uart: Pl011::new(wire.line(), host.clone()), host, wire }
    }

    /// As Linux's amba-pl011 opens a port: FIFOs on, enabled, receive interrupts let through.
    fn opened() -> Rig {
        let rig = Rig::new();
        rig.write(LCR_H, 0x70);
        rig.write(CR, 0x301);
        rig.write(IMSC, INT_RX | INT_RT);
        rig.write(CR, 0xf01);
        rig
    }

    fn read(&self, offset: u64) -> u32 {
        read(&*self.uart, offset)
    }
    fn write(&self, offset: u64, value: u32) {
        write(&*self.uart, offset, value);
    }
    fn sent(&self) -> Vec<u8> {
        self.host.sent.lock().unwrap().clone()
    }
    fn wanted(&self) -> u32 {
        self.host.wanted.load(Ordering::Acquire)
    }
}

#[test]
fn reset_values_and_identification() {
    let rig = Rig::new();
    let ids: Vec<u32> = (0..8).map(|i| rig.read(0xfe0 + 4 * i)).collect();
    assert_eq!(ids, [0x11, 0x10, 0x14, 0, 0x0d, 0xf0, 0x05, 0xb1]);
    assert_eq!(rig.read(FR), FR_TXFE | FR_RXFE);
    assert_eq!(rig.read(CR), 0x300);
    assert_eq!(rig.read(IFLS), 0x12);
    for register in [DR, RSR, ILPR, IBRD, FBRD, LCR_H, IMSC, RIS, MIS, DMACR, 0x800] {
        assert_eq!(rig.read(register), 0, "offset {register:#x}");
    }
}

#[test]
fn registers_keep_the_bits_that_exist() {
    let rig = Rig::new();
    for (register, bits) in [
        (ILPR, 0xff),
        (IBRD, 0xffff),
        (FBRD, 0x3f),
        (LCR_H, 0xff),
        (CR, 0xff87),
        (IFLS, 0x3f),
        (IMSC, 0x7ff),
        (DMACR, 7),
    ] {
        rig.write(register, !0);
        assert_eq!(rig.read(register), bits, "offset {register:#x}");
    }
}

#[test]
fn what_is_sent_leaves_at_once_in_order() {
    let rig = Rig::new();
    b"early".iter().for_each(|&b| rig.write(DR, b.into()));
    rig.uart.write(DR, 1, u64::from(b'!')).unwrap();
    rig.uart.write(DR, 2, 0x0a).unwrap();
    rig.uart.write(DR, 8, 0xffff_ffff_0000_0041).unwrap();
    rig.uart.write(DR + 1, 1, 0x42).unwrap();
    assert_eq!(rig.sent(), b"early!\nA", "before the port is enabled too, as on QEMU");
    assert_eq!(rig.read(FR) & (1 << 5 | 1 << 3), 0, "neither full nor busy");
}

#[test]
fn the_transmit_interrupt_follows_a_character() {
    let rig = Rig::opened();
    rig.write(IMSC, INT_TX);
    assert!(!rig.wire.level(), "nothing was sent yet");
    rig.write(DR, 0x41);
    assert!(rig.wire.level());
    assert_eq!(rig.read(MIS), INT_TX);
    // The handler fills the FIFO again, then has no more to send.
    rig.write(ICR, INT_TX);
    assert!(!rig.wire.level());
    rig.write(DR, 0x42);
    assert!(rig.wire.level());
    rig.write(IMSC, 0);
    assert!(!rig.wire.level());
    assert_eq!(rig.read(RIS), INT_TX);
    rig.write(IMSC, INT_TX);
    assert!(rig.wire.level(), "start_tx needs no character to get its interrupt");
}

#[test]
fn few_characters_raise_the_timeout_and_many_the_level() {
    let rig = Rig::opened();
    assert_eq!(rig.uart.receive(b"1234567"), 7);
    assert_eq!(rig.read(RIS), INT_RT);
    assert!(rig.wire.level());
    assert_eq!(rig.uart.receive(b"8"), 1);
    assert_eq!(rig.read(RIS), INT_RX, "half of 16");
    let read: Vec<u8> = (0..2).map(|_| rig.read(DR) as u8).collect();
    assert_eq!(read, b"12");
    assert_eq!(rig.read(RIS), INT_RT, "six wait");
    (0..6).for_each(|_| assert_ne!(rig.read(DR), 0));
    assert_eq!(rig.read(RIS), 0);
    assert!(!rig.wire.level());
    assert_eq!(rig.read(FR) & FR_RXFE, FR_RXFE);
}

#[test]
fn the_receive_level_is_what_ifls_says() {
    for (select, level) in [(0, 2), (1, 4), (2, 8), (3, 12), (4, 14), (7, 14)] {
        let rig = Rig::opened();
        rig.write(IFLS, select << 3);
        assert_eq!(rig.uart.receive(&vec![0; level - 1]), level - 1);
        assert_eq!(rig.read(RIS) & INT_RX, 0, "{select}");
        rig.uart.receive(b"x");
        assert_eq!(rig.read(RIS) & INT_RX, INT_RX, "{select}");
    }
    let rig = Rig::opened();
    rig.write(LCR_H, 0x60);
    assert_eq!(rig.uart.receive(b"ab"), 1, "without FIFO there is one holding register");
    assert_eq!(rig.read(RIS), INT_RX);
    assert_eq!(rig.read(FR) & (FR_RXFF | FR_RXFE), FR_RXFF);
}

#[test]
fn clearing_interrupts_loses_no_character() {
    let rig = Rig::opened();
    rig.uart.receive(b"123456789");
    rig.write(ICR, INT_RX);
    assert_eq!(rig.read(RIS), INT_RT, "characters still wait");
    rig.write(ICR, INT_RT);
    assert!(rig.wire.level());
    (0..9).for_each(|_| assert_ne!(rig.read(DR), 0));
    assert!(!rig.wire.level());
}

#[test]
fn a_full_fifo_pushes_back_and_calls_again() {
    let rig = Rig::opened();
    assert_eq!(rig.uart.can_receive(), 16);
    assert_eq!(rig.uart.receive(&[b'x'; 20]), 16);
    assert_eq!(rig.uart.receive(b"yyyy"), 0);
    assert_eq!(rig.read(FR) & FR_RXFF, FR_RXFF);
    assert_eq!(rig.wanted(), 0);
    rig.read(DR);
    assert_eq!(rig.wanted(), 1);
    rig.read(DR);
    assert_eq!(rig.wanted(), 1, "once is enough");
    assert_eq!(rig.uart.receive(b"yyyy"), 2);
    assert_eq!(rig.read(RIS) & INT_OE, 0, "nothing overruns");
    rig.uart.receive(b"");
    rig.read(DR);
    assert_eq!(rig.wanted(), 1, "nothing is owed any more");
}

#[test]
fn what_is_typed_early_waits_for_the_driver() {
    let rig = Rig::new();
    assert_eq!(rig.uart.receive(b"ls"), 0);
    // The console prints, the driver opens the port and drains the FIFO.
    for _ in 0..100 {
        rig.read(FR);
        rig.write(DR, 0x2e);
    }
    rig.write(LCR_H, 0x70);
    rig.write(CR, 0x301);
    for _ in 0..32 {
        if rig.read(FR) & FR_RXFE != 0 {
            break;
        }
        rig.read(DR);
    }
    assert_eq!((rig.uart.can_receive(), rig.wanted()), (0, 0));
    rig.write(IMSC, INT_RX | INT_RT);
    assert_eq!(rig.wanted(), 0, "the port is not open yet");
    rig.write(CR, 0xf01);
    assert_eq!(rig.wanted(), 1);
    assert_eq!(rig.uart.receive(b"ls"), 2);
}

#[test]
fn an_interrupt_enabled_for_a_moment_takes_nothing() {
    let rig = Rig::new();
    rig.write(LCR_H, 0x70);
    rig.write(CR, 0x301);
    rig.write(IMSC, INT_RX | INT_RT);
    assert_eq!(rig.uart.receive(b"ls"), 0);
    rig.write(IMSC, 0);
    assert_eq!((rig.uart.can_receive(), rig.wanted()), (0, 0));
    rig.write(IMSC, INT_RX | INT_RT);
    assert_eq!(rig.uart.receive(b"ls"), 0);
    assert_eq!(rig.uart.receive(b"ls"), 2, "a driver that configures nothing more gets it at the second offer");
}

#[test]
fn a_guest_that_polls_gets_its_input() {
    let rig = Rig::new();
    assert_eq!(rig.uart.receive(b"k"), 0);
    let polls = (1..100).find(|_| rig.read(FR) & FR_RXFE != 0 && rig.wanted() == 1);
    assert_eq!(polls, Some(POLLS_THAT_WAIT.into()));
    assert_eq!(rig.uart.receive(b"k"), 1);
    assert_eq!(rig.read(FR) & FR_RXFE, 0);
    assert_eq!(rig.read(DR), u32::from(b'k'));
    rig.write(CR, 0x101);
    assert_eq!(rig.uart.can_receive(), 0, "receiver switched off");
}

#[test]
fn a_break_is_a_character_with_an_error() {
    let rig = Rig::new();
    assert!(!rig.uart.send_break(), "nobody listens");
    let rig = Rig::opened();
    rig.uart.receive(b"a");
    assert!(rig.uart.send_break());
    assert_eq!(rig.read(RIS), INT_BE | INT_RT);
    assert_eq!(rig.read(DR), 0x61);
    assert_eq!(rig.read(RSR), 0);
    assert_eq!(rig.read(DR), u32::from(DR_BE));
    assert_eq!(rig.read(RSR), 4);
    rig.write(RSR, 0);
    assert_eq!(rig.read(RSR), 0);
    rig.write(ICR, INT_BE);
    assert_eq!(rig.read(RIS), 0);
}

#[test]
fn loop_back_returns_characters_breaks_and_modem_lines() {
    let rig = Rig::new();
    rig.write(LCR_H, 0x70);
    rig.write(CR, 0x381);
    assert_eq!(rig.uart.can_receive(), 0, "the outside is cut off");
    b"loop".iter().for_each(|&b| rig.write(DR, b.into()));
    assert!(rig.sent().is_empty());
    let back: Vec<u8> = (0..4).map(|_| rig.read(DR) as u8).collect();
    assert_eq!(back, b"loop");
    rig.write(LCR_H, 0x71);
    assert_eq!(rig.read(DR), u32::from(DR_BE));
    rig.write(ICR, INT_ALL);
    rig.write(CR, 0x381 | CR_RTS | CR_OUT2);
    assert_eq!(rig.read(FR) & FR_MODEM, FR_CTS | FR_RI);
    assert_eq!(rig.read(RIS), INT_CTS | INT_RI);
    rig.write(CR, 0x381 | CR_DTR | CR_OUT1);
    assert_eq!(rig.read(FR) & FR_MODEM, FR_DSR | FR_DCD);
    assert_eq!(rig.read(RIS), INT_CTS | INT_RI | INT_DSR | INT_DCD);
    rig.write(CR, 0x301 | CR_DTR);
    assert_eq!(rig.read(FR) & FR_MODEM, 0, "no modem is connected");
}

#[test]
fn an_overrun_in_loop_back_is_told() {
    let rig = Rig::new();
    rig.write(LCR_H, 0x70);
    rig.write(CR, 0x381);
    (0..17).for_each(|i| rig.write(DR, i));
    assert_eq!(rig.read(RSR), 8);
    assert_eq!(rig.read(RIS) & INT_OE, INT_OE);
    assert_eq!(rig.read(DR), 0);
    rig.write(DR, 0x55);
    let rest: Vec<u32> = (0..16).map(|_| rig.read(DR)).collect();
    assert_eq!(rest[14], 15);
    assert_eq!(rest[15], 0x55 | u32::from(DR_OE), "the first character after those lost");
}

#[test]
fn switching_the_fifo_empties_it() {
    let rig = Rig::opened();
    rig.uart.receive(b"123456789");
    rig.write(LCR_H, 0x60);
    assert_eq!(rig.read(FR) & FR_RXFE, FR_RXFE);
    assert_eq!(rig.read(RIS), 0);
}

#[test]
fn reset_empties_and_lowers_the_line() {
    let rig = Rig::opened();
    rig.uart.receive(b"123");
    assert!(rig.wire.level());
    rig.uart.reset();
    assert!(!rig.wire.level());
    assert_eq!(rig.uart.save(), Rig::new().uart.save());
    assert_eq!(rig.wire.changes(), 2);
}

#[test]
fn saved_state_goes_on_and_bad_state_is_refused() {
    let rig = Rig::opened();
    rig.uart.receive(b"xyz");
    let next = Rig::new();
    transfer(&*rig.uart, &*next.uart);
    assert!(next.wire.level());
    assert_eq!(next.uart.save(), rig.uart.save());
    assert_eq!(next.read(DR), u32::from(b'x'));
    let mut long = rig.uart.save();
    long["state"]["fifo"] = serde_json::json!(vec![0; 17]);
    assert!(matches!(next.uart.load(&long), Err(StateError::Malformed { .. })));
    assert_eq!(next.read(DR), u32::from(b'y'), "a refused load changes nothing");
}

proptest! {
    #![proptest_config(more_cases(300))]

    /// No access panics; the line is what MIS says; the FIFO keeps its bound; a moved device goes on as the old one.
    #[test]
    fn any_history_keeps_the_invariants(history in accesses(0x50), typed in prop::collection::vec(any::<u8>(), 0..40)) {
        let (mut rig, shadow) = (Rig::new(), Rig::new());
        for (i, &access) in history.iter().enumerate() {
            prop_assert_eq!(apply(&*rig.uart, access), apply(&*shadow.uart, access));
            if i % 7 == 3 {
                prop_assert_eq!(rig.uart.receive(&typed), shadow.uart.receive(&typed));
                prop_assert_eq!(rig.uart.send_break(), shadow.uart.send_break());
            }
            if i % 31 == 30 {
                let next = Rig::new();
                transfer(&*rig.uart, &*next.uart);
                rig = next;
                // What is owed stays with the host of each.
                let owed = shadow.uart.state.lock().unwrap().owed;
                rig.uart.state.lock().unwrap().owed = owed;
            }
            prop_assert_eq!(rig.wire.level(), rig.read(MIS) != 0);
            prop_assert!(rig.uart.state.lock().unwrap().fifo.len() <= FIFO_DEPTH);
        }
        prop_assert_eq!(rig.uart.save(), shadow.uart.save());
    }
}
