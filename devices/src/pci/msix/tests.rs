use std::collections::BTreeSet;

use proptest::prelude::*;

use super::*;

#[derive(Default)]
struct Log(Mutex<Vec<(u32, u64, u32)>>);

impl MsiSink for Log {
    fn send(&self, device: u32, address: u64, data: u32) {
        lock(&self.0).push((device, address, data));
    }
}

impl Log {
    fn take(&self) -> Vec<(u32, u64, u32)> {
        std::mem::take(&mut *lock(&self.0))
    }
}

const VECTORS: u16 = 70;

fn msix() -> (Arc<Log>, Msix) {
    let log = Arc::new(Log::default());
    let msix = Msix::new(VECTORS, 0x28, Arc::clone(&log) as Arc<dyn MsiSink>);
    for vector in 0..u64::from(VECTORS) {
        msix.write_table(vector * 16, 8, 0x80_0000 + vector);
        msix.write_table(vector * 16 + 8, 4, 100 + vector);
        msix.write_table(vector * 16 + 12, 4, 0);
    }
    (log, msix)
}

#[test]
fn a_message_is_what_the_table_says() {
    let (log, msix) = msix();
    msix.signal(3);
    assert_eq!(log.take(), [], "not enabled");
    msix.set_control(spec::MSIX_ENABLE, true);
    msix.signal(3);
    msix.signal(69);
    msix.signal(70);
    assert_eq!(log.take(), [(0x28, 0x80_0003, 103), (0x28, 0x80_0045, 169)]);
    assert_eq!(msix.read_table(3 * 16, 8), 0x80_0003);
    assert_eq!(msix.read_table(3 * 16 + 8, 4), 103);
    assert_eq!(msix.read_table(3 * 16 + 2, 2), 0, "whole words only");
    assert_eq!(msix.read_table(u64::from(VECTORS) * 16, 8), 0);
}

#[test]
fn masks_hold_back_and_let_go_once() {
    let (log, msix) = msix();
    msix.set_control(spec::MSIX_ENABLE, true);
    msix.write_table(5 * 16 + 12, 4, 1);
    msix.signal(5);
    msix.signal(5);
    assert_eq!((log.take(), msix.read_pending(0, 8)), (vec![], 1 << 5));
    msix.write_table(5 * 16 + 12, 4, 0);
    assert_eq!((log.take().len(), msix.read_pending(0, 8)), (1, 0));
    msix.set_control(spec::MSIX_ENABLE | spec::MSIX_FUNCTION_MASK, true);
    msix.signal(69);
    assert_eq!((log.take(), msix.read_pending(8, 4)), (vec![], 1 << 5));
    msix.set_control(spec::MSIX_ENABLE, false);
    assert_eq!(log.take(), [], "the function may not write");
    msix.set_control(spec::MSIX_ENABLE, true);
    assert_eq!(log.take(), [(0x28, 0x80_0045, 169)]);
}

#[derive(Clone, Debug)]
enum Step {
    Signal(u16),
    Mask(u16, bool),
    Control(bool, bool, bool),
    Move,
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        4 => (0..VECTORS + 2).prop_map(Step::Signal),
        3 => (0..VECTORS, any::<bool>()).prop_map(|(v, m)| Step::Mask(v, m)),
        2 => (any::<bool>(), any::<bool>(), any::<bool>()).prop_map(|(e, m, b)| Step::Control(e, m, b)),
        1 => Just(Step::Move),
    ]
}

proptest! {
    /// Against sets of vectors: what is sent, and what is pending.
    #[test]
    fn any_history(steps in prop::collection::vec(step(), 0..200)) {
        let (log, mut msix) = msix();
        let (mut enabled, mut held) = (false, true);
        let (mut masked, mut pending) = (BTreeSet::new(), BTreeSet::new());
        for step in steps {
            let mut sent: Vec<u16> = Vec::new();
            match step {
                Step::Signal(v) => {
                    msix.signal(v);
                    if enabled && v < VECTORS {
                        if held || masked.contains(&v) { pending.insert(v); } else { sent.push(v); }
                    }
                }
                Step::Mask(v, mask) => {
                    msix.write_table(u64::from(v) * 16 + 12, 4, mask.into());
                    if mask { masked.insert(v); } else { masked.remove(&v); }
                }
                Step::Control(e, m, master) => {
                    let control = (u16::from(e) * spec::MSIX_ENABLE) | (u16::from(m) * spec::MSIX_FUNCTION_MASK);
                    msix.set_control(control, master);
                    (enabled, held) = (e, m || !master);
                }
                Step::Move => {
                    let other = Msix::new(VECTORS, 0x28, Arc::clone(&log) as Arc<dyn MsiSink>);
                    prop_assert!(other.load(&msix.save()));
                    msix = other;
                }
            }
            if enabled && !held {
                let free: Vec<u16> = pending.difference(&masked).copied().collect();
                free.iter().for_each(|v| { pending.remove(v); });
                sent.extend(free);
            }
            let seen: Vec<u16> = log.take().iter().map(|m| (m.2 - 100) as u16).collect();
            prop_assert_eq!(seen, sent);
            for v in 0..u64::from(VECTORS) {
                let bit = msix.read_pending(v / 64 * 8, 8) >> (v % 64) & 1 != 0;
                prop_assert_eq!(bit, pending.contains(&(v as u16)));
            }
        }
    }
}
