use std::sync::atomic::{AtomicU64, Ordering};

use proptest::prelude::*;

use super::spec::*;
use super::*;
use crate::testing::{Wire, accesses, apply, more_cases, read, transfer, write};

/// A host clock that the test turns.
#[derive(Default)]
struct Host {
    now: AtomicU64,
    alarm: Mutex<Option<u64>>,
}

impl WallClock for Host {
    fn seconds(&self) -> u64 {
        self.now.load(Ordering::Acquire)
    }
    fn set_alarm(&self, at: Option<u64>) {
        *self.alarm.lock().unwrap() = at;
    }
}

struct Rig {
    rtc: Arc<Pl031>,
    host: Arc<Host>,
    wire: Arc<Wire>,
}

const NOW: u64 = 1_790_000_000;

impl Rig {
    fn new() -> Rig {
        let (host, wire) = (Arc::new(Host::default()), Wire::new());
        host.now.store(NOW, Ordering::Release);
        Rig { rtc: Pl031::new(wire.line(), host.clone()), host, wire }
    }
    /// The host's time passes; its timer fires if it is due.
    fn pass(&self, seconds: u64) {
        let now = self.host.now.fetch_add(seconds, Ordering::AcqRel) + seconds;
        if self.alarm().is_some_and(|at| at <= now) {
            self.rtc.alarm();
        }
    }
    fn alarm(&self) -> Option<u64> {
        *self.host.alarm.lock().unwrap()
    }
    fn read(&self, offset: u64) -> u32 {
        read(&*self.rtc, offset)
    }
    fn write(&self, offset: u64, value: u32) {
        write(&*self.rtc, offset, value);
    }
}

#[test]
fn it_shows_the_time_and_identifies_itself() {
    let rig = Rig::new();
    assert_eq!(u64::from(rig.read(DR)), NOW);
    rig.pass(5);
    assert_eq!(u64::from(rig.read(DR)), NOW + 5);
    assert_eq!(rig.read(CR), 1);
    rig.write(CR, 0);
    assert_eq!(rig.read(CR), 1, "it cannot be stopped");
    let ids: Vec<u32> = (0..8).map(|i| rig.read(0xfe0 + 4 * i)).collect();
    assert_eq!(ids, [0x31, 0x10, 0x14, 0, 0x0d, 0xf0, 0x05, 0xb1]);
}

#[test]
fn the_guest_sets_the_time_and_a_reset_keeps_it() {
    let rig = Rig::new();
    rig.write(LR, 1000);
    rig.pass(7);
    assert_eq!((rig.read(DR), rig.read(LR)), (1007, 1000));
    rig.rtc.reset();
    assert_eq!(rig.read(DR), 1007);
    rig.write(LR, u32::MAX);
    rig.pass(2);
    assert_eq!(rig.read(DR), 1, "32 bits of seconds wrap");
}

#[test]
fn the_alarm_comes_when_it_is_due() {
    let rig = Rig::new();
    rig.write(IMSC, 1);
    rig.write(MR, NOW as u32 + 10);
    assert_eq!(rig.alarm(), Some(NOW + 10));
    rig.rtc.alarm();
    rig.pass(9);
    assert!(!rig.wire.level());
    rig.pass(1);
    assert!(rig.wire.level());
    assert_eq!((rig.read(RIS), rig.read(MIS), rig.alarm()), (1, 1, None));
    rig.write(IMSC, 0);
    assert!(!rig.wire.level());
    assert_eq!((rig.read(RIS), rig.read(MIS)), (1, 0));
    rig.write(ICR, 1);
    assert_eq!(rig.read(RIS), 0);
    // Setting the time moves the alarm.
    rig.write(MR, NOW as u32 + 100);
    rig.write(LR, NOW as u32 + 90);
    assert_eq!(rig.alarm(), Some(NOW + 20));
    rig.write(MR, NOW as u32 + 90);
    assert_eq!(rig.read(RIS), 1, "now is at once");
    rig.write(ICR, 1);
    rig.write(LR, NOW as u32 + 90);
    assert_eq!(rig.read(RIS), 1, "a time that is set to the match value matches");
}

#[test]
fn saved_state_follows_the_clock_of_its_new_host() {
    let rig = Rig::new();
    rig.write(LR, 500);
    rig.write(IMSC, 1);
    rig.write(MR, 600);
    let next = Rig::new();
    next.pass(50);
    transfer(&*rig.rtc, &*next.rtc);
    assert_eq!((next.read(DR), next.alarm(), next.wire.level()), (550, Some(NOW + 100), false));
    let late = Rig::new();
    late.pass(1000);
    transfer(&*rig.rtc, &*late.rtc);
    assert!(late.wire.level(), "the alarm came meanwhile");
    assert!(rig.rtc.load(&serde_json::json!({"version": 9})).is_err());
}

proptest! {
    #![proptest_config(more_cases(300))]

    #[test]
    fn any_history_keeps_the_invariants(history in accesses(0x20), steps in any::<[u16; 4]>()) {
        let (mut rig, shadow) = (Rig::new(), Rig::new());
        for (i, &access) in history.iter().enumerate() {
            prop_assert_eq!(apply(&*rig.rtc, access), apply(&*shadow.rtc, access));
            [&rig, &shadow].iter().for_each(|r| r.pass(steps[i % 4].into()));
            if i % 17 == 16 {
                let next = Rig::new();
                next.host.now.store(rig.host.seconds(), Ordering::Release);
                transfer(&*rig.rtc, &*next.rtc);
                rig = next;
            }
            prop_assert_eq!(rig.wire.level(), rig.read(MIS) != 0);
            prop_assert!(rig.alarm().is_none_or(|at| at > rig.host.seconds()));
        }
        prop_assert_eq!(rig.rtc.save(), shadow.rtc.save());
    }
}
