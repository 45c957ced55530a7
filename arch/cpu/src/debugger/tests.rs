//! Where a debugger stops a program of a few words, and that the program does not notice.

use super::*;
use crate::sysreg::Slot;
use crate::testing::{RAM_BASE, pe};

const CODE: u64 = RAM_BASE + 0x1000;
const VECTORS: u64 = RAM_BASE + 0x8000;
const DATA: u64 = RAM_BASE + 0x1_0000;
const ADD_X0_1: u32 = 0x9100_0400;
const STR_X0_X1: u32 = 0xf900_0020;
const LDP_X2_X3_X1: u32 = 0xa940_0c22;
const SVC: u32 = 0xd400_0001;
const B_SELF: u32 = 0x1400_0000;

fn program(words: &[u32]) -> Box<Vcpu> {
    let (mut v, _) = pe();
    v.reset(CODE, [0, DATA, 0, 0]);
    let put = |v: &Vcpu, at: u64, words: &[u32]| {
        let bytes: Vec<u8> = words.iter().flat_map(|w| w.to_le_bytes()).collect();
        assert!(v.vm.ram.write_bytes(at, &bytes));
    };
    put(&v, CODE, words);
    put(&v, VECTORS + 0x200, &[ADD_X0_1, B_SELF]);
    v.arch.set_sys(Slot::VBAR_EL1, VECTORS);
    v
}

/// Runs on; the event and PC.
fn stop(v: &mut Vcpu) -> (DebugEvent, u64) {
    match v.run_budget(1000) {
        Stop::Debug(event) => (event, v.arch.pc),
        other => panic!("{other:?} at {:#x}", v.arch.pc),
    }
}

#[test]
fn breakpoints_stop_before_the_instruction_each_time() {
    let mut v = program(&[ADD_X0_1, ADD_X0_1, 0x17ff_fffe]); // a loop of three
    v.set_debug_points(DebugPoints { breakpoints: vec![CODE, CODE + 4], ..DebugPoints::default() });
    for round in 0..3 {
        assert_eq!(stop(&mut v), (DebugEvent::Breakpoint, CODE));
        assert_eq!(v.arch.x[0], 2 * round);
        assert_eq!(stop(&mut v), (DebugEvent::Breakpoint, CODE + 4));
        assert_eq!(v.arch.x[0], 2 * round + 1);
    }
    // One that comes back as the only place is found again too.
    v.set_debug_points(DebugPoints { breakpoints: vec![CODE + 4], ..DebugPoints::default() });
    assert_eq!(stop(&mut v), (DebugEvent::Breakpoint, CODE + 4));
    v.set_debug_points(DebugPoints::default());
    assert_eq!(v.run_budget(1000), Stop::Budget);
    assert!(!v.debug_is_careful());
}

#[test]
fn watchpoints_stop_before_the_access() {
    let mut v = program(&[ADD_X0_1, STR_X0_X1, LDP_X2_X3_X1, B_SELF]);
    let watch =
        |address, len, on| DebugPoints { watchpoints: vec![Watchpoint { address, len, on }], ..DebugPoints::default() };
    v.set_debug_points(watch(DATA + 4, 1, Watched::Stores));
    assert_eq!(stop(&mut v), (DebugEvent::Watchpoint(DATA + 4), CODE + 4));
    let mut memory = [0; 8];
    assert!(v.vm.ram.read_bytes(DATA, &mut memory) && memory == [0; 8], "not stored yet");
    v.set_debug_points(watch(DATA + 8, 8, Watched::Loads));
    assert_eq!(stop(&mut v), (DebugEvent::Watchpoint(DATA + 8), CODE + 8), "the second of a pair");
    assert!(v.vm.ram.read_bytes(DATA, &mut memory) && memory[0] == 1);
    assert_eq!(v.run_budget(1000), Stop::Budget);
    assert_eq!((v.arch.x[2], v.arch.pc), (1, CODE + 12));
}

#[test]
fn one_instruction_at_two_places_stops_twice() {
    let mut v = program(&[ADD_X0_1, STR_X0_X1, B_SELF]);
    let watchpoints = vec![Watchpoint { address: DATA, len: 8, on: Watched::Both }];
    v.set_debug_points(DebugPoints { breakpoints: vec![CODE + 4], watchpoints, step: true });
    assert_eq!(stop(&mut v), (DebugEvent::Step, CODE + 4), "not the breakpoint as well");
    assert_eq!(stop(&mut v), (DebugEvent::Watchpoint(DATA), CODE + 4));
    assert_eq!(stop(&mut v), (DebugEvent::Step, CODE + 8));
}

#[test]
fn addresses_of_watchpoints() {
    let point = Watchpoint { address: 0x1004, len: 4, on: Watched::Both };
    assert_eq!(point.hit(0x1000, 8, true), Some(0x1004), "an access that reaches in");
    assert_eq!(point.hit(0x1006, 1, false), Some(0x1006));
    assert_eq!(point.hit(0x1000, 4, true), None);
    assert_eq!(point.hit(0x1008, 8, true), None);
    let last = Watchpoint { address: u64::MAX, len: 1, on: Watched::Stores };
    assert_eq!(last.hit(u64::MAX - 3, 8, true), Some(u64::MAX), "an access that wraps");
    assert_eq!(last.hit(u64::MAX - 3, 8, false), None);
    assert_eq!(last.hit(0, 8, true), None);
}

#[test]
fn steps_are_one_instruction_or_one_exception() {
    let mut v = program(&[ADD_X0_1, SVC]);
    v.set_debug_points(DebugPoints { step: true, ..DebugPoints::default() });
    assert_eq!(stop(&mut v), (DebugEvent::Step, CODE + 4));
    assert_eq!(v.arch.x[0], 1);
    assert_eq!(stop(&mut v), (DebugEvent::Step, VECTORS + 0x200));
    assert_eq!((stop(&mut v), v.arch.x[0]), ((DebugEvent::Step, VECTORS + 0x204), 2));
    assert_eq!(stop(&mut v), (DebugEvent::Step, VECTORS + 0x204), "a branch to itself");
}

#[test]
fn the_guest_sees_nothing() {
    let mut v = program(&[ADD_X0_1, B_SELF]);
    let before = [Slot::MDSCR_EL1, Slot::DBGBCR0_EL1, Slot::DBGWCR0_EL1].map(|slot| v.arch.sys(slot));
    v.set_debug_points(DebugPoints { breakpoints: vec![CODE + 4], watchpoints: Vec::new(), step: false });
    stop(&mut v);
    assert_eq!(before, [Slot::MDSCR_EL1, Slot::DBGBCR0_EL1, Slot::DBGWCR0_EL1].map(|slot| v.arch.sys(slot)));
    assert_eq!(v.ring.count(), 0, "no exception");
    // A reset begins anew: the breakpoint is still there, the first instruction is not passed over.
    v.set_debug_points(DebugPoints { breakpoints: vec![CODE], ..DebugPoints::default() });
    v.reset(CODE, [0; 4]);
    assert_eq!(stop(&mut v), (DebugEvent::Breakpoint, CODE));
}
