use proptest::prelude::*;

use super::spec::*;
use super::*;
use crate::testing::{Wire, accesses, apply, more_cases, read, transfer, write};

struct Rig {
    gpio: Arc<Pl061>,
    wire: Arc<Wire>,
}

impl Rig {
    fn new() -> Rig {
        let wire = Wire::new();
        Rig { gpio: Pl061::new(wire.line()), wire }
    }
    fn read(&self, offset: u64) -> u32 {
        read(&*self.gpio, offset)
    }
    fn write(&self, offset: u64, value: u32) {
        write(&*self.gpio, offset, value);
    }
}

/// The address of `GPIODATA` that sees the lines `lines`.
fn data(lines: u64) -> u64 {
    lines << 2
}

#[test]
fn it_identifies_itself_and_keeps_its_registers() {
    let rig = Rig::new();
    let ids: Vec<u32> = (0..8).map(|i| rig.read(0xfe0 + 4 * i)).collect();
    assert_eq!(ids, [0x61, 0x10, 0x04, 0, 0x0d, 0xf0, 0x05, 0xb1]);
    for register in [DIR, IS, IBE, IEV, IE, AFSEL] {
        rig.write(register, !0);
        assert_eq!(rig.read(register), 0xff, "offset {register:#x}");
        rig.write(register, 0);
    }
}

#[test]
fn the_address_chooses_the_lines() {
    let rig = Rig::new();
    rig.write(DIR, 0x0f);
    rig.write(data(0xff), 0xff);
    assert_eq!(rig.read(data(0xff)), 0x0f, "inputs cannot be written");
    rig.write(data(0x05), 0x00);
    assert_eq!(rig.read(data(0xff)), 0x0a);
    rig.gpio.set_input(7, true);
    rig.gpio.set_input(0, true);
    rig.gpio.set_input(8, true);
    assert_eq!(rig.read(data(0xff)), 0x8a, "an output shows what was written to it");
    assert_eq!(rig.read(data(0x80)), 0x80);
    assert_eq!(rig.read(data(0x02)), 0x02);
    assert_eq!(rig.read(data(0)), 0);
    rig.write(DIR, 0);
    assert_eq!(rig.read(data(0xff)), 0x81);
    rig.write(DIR, 0xff);
    assert_eq!(rig.read(data(0xff)), 0x0a, "what was written to inputs is not kept for later");
}

#[test]
fn the_power_button_as_linux_watches_it() {
    let rig = Rig::new();
    // gpio-keys asks for both edges.
    rig.write(IBE, 8);
    rig.write(IE, 8);
    rig.gpio.press_power_button();
    assert!(rig.wire.level());
    assert_eq!((rig.read(RIS), rig.read(MIS), rig.read(data(8))), (8, 8, 8));
    rig.write(IC, 8);
    assert!(!rig.wire.level());
    rig.gpio.press_power_button();
    assert!(!rig.wire.level(), "it is down already");
    rig.gpio.release_power_button();
    assert!(rig.wire.level());
    assert_eq!(rig.read(data(8)), 0);
}

#[test]
fn single_edges_and_levels() {
    let rig = Rig::new();
    rig.write(IEV, 0b01); // line 0 rising, line 1 falling
    for (line, level, raised) in [(0, true, 1), (1, true, 1), (1, false, 3)] {
        rig.gpio.set_input(line, level);
        assert_eq!(rig.read(RIS), raised, "line {line} to {level}");
    }
    assert!(!rig.wire.level(), "not let through");
    rig.write(IE, 2);
    assert!(rig.wire.level());
    rig.write(IC, 0xff);
    assert_eq!(rig.read(RIS), 0);
    rig.write(IS, 0b100);
    rig.write(IEV, 0b100);
    assert_eq!(rig.read(RIS), 0);
    rig.gpio.set_input(2, true);
    assert_eq!(rig.read(RIS), 4);
    rig.write(IC, 4);
    assert_eq!(rig.read(RIS), 4, "a level cannot be cleared");
    rig.write(IEV, 0);
    assert_eq!(rig.read(RIS), 0);
    rig.gpio.set_input(2, false);
    assert_eq!(rig.read(RIS), 4, "low is its level now");
}

#[test]
fn reset_keeps_what_the_board_drives() {
    let rig = Rig::new();
    rig.write(IBE, 8);
    rig.write(IE, 8);
    rig.gpio.press_power_button();
    rig.gpio.reset();
    assert!(!rig.wire.level());
    assert_eq!((rig.read(data(8)), rig.read(RIS), rig.read(IE)), (8, 0, 0));
}

proptest! {
    #![proptest_config(more_cases(300))]

    #[test]
    fn any_history_keeps_the_invariants(history in accesses(0x430), lines in any::<[u8; 5]>()) {
        let (mut rig, shadow) = (Rig::new(), Rig::new());
        for (i, &access) in history.iter().enumerate() {
            prop_assert_eq!(apply(&*rig.gpio, access), apply(&*shadow.gpio, access));
            let line = lines[i % 5];
            [&rig, &shadow].iter().for_each(|r| r.gpio.set_input(line % 9, line & 0x10 != 0));
            if i % 17 == 16 {
                let next = Rig::new();
                transfer(&*rig.gpio, &*next.gpio);
                rig = next;
            }
            prop_assert_eq!(rig.wire.level(), rig.read(MIS) != 0);
        }
        prop_assert_eq!(rig.gpio.save(), shadow.gpio.save());
    }
}
