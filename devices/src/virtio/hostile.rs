//! What wrong and hostile drivers get, by each transport: the device needs a reset and heals by it, nothing is written
//! outside of the buffers that they name, nothing panics or hangs.

use proptest::prelude::*;

use super::VirtioRng;
use super::pci::tests::pci_rig;
use super::spec::{feature, status};
use super::testing::{BUFFERS, DriverQueue, INDIRECT, NEXT, Port, RAM, RAM_LEN, Rig, WRITE};
use crate::testing::more_cases;

mod every_device;

/// Runs a check on a fresh entropy source by each transport.
macro_rules! by_each_transport {
    ($check:ident $(, $argument:expr)*) => {{
        $check(&|| Rig::new(VirtioRng::new()) $(, $argument)*);
        $check(&|| pci_rig(VirtioRng::new()) $(, $argument)*);
    }};
}

type Make<'a, P> = &'a dyn Fn() -> Rig<P>;

fn check_impossible_queues<P: Port>(make: Make<'_, P>) {
    let base = {
        let mut rig = make();
        rig.start(1, 0);
        rig.queues[0].clone()
    };
    type Change = fn(&mut DriverQueue);
    let changes: [(&str, Change); 8] = [
        ("no size", |q| q.size = 0),
        ("no power of two", |q| q.size = 12),
        ("larger than offered", |q| q.size = 128),
        ("not in RAM", |q| q.descriptors = 0),
        ("ends outside of RAM", |q| q.used = RAM + RAM_LEN - 16),
        ("wraps", |q| q.avail = u64::MAX - 1),
        ("unaligned table", |q| q.descriptors += 8),
        ("unaligned ring", |q| q.used += 2),
    ];
    for (what, change) in changes {
        let rig = make();
        assert!(rig.negotiate(0));
        let mut queue = base.clone();
        change(&mut queue);
        rig.write_setup(0, &queue);
        assert!(!rig.device.is_ready(0), "{what}");
        assert_ne!(rig.status() & status::DEVICE_NEEDS_RESET, 0, "{what}");
        assert!(rig.device.common().failure().unwrap().contains("impossible"), "{what}");
        rig.device.write_status(0);
        assert!(rig.negotiate(0), "{what}: a reset heals");
        rig.write_setup(0, &base);
        assert!(rig.device.is_ready(0));
    }
}

#[test]
fn impossible_queues_need_a_reset() {
    by_each_transport!(check_impossible_queues);
}

type Break<P> = fn(&Rig<P>, u64);

/// Wrong chains; the first descriptor of each is number 0 of the table at the given address.
fn breaks<P: Port>() -> [(&'static str, Break<P>); 11] {
    [
        ("a loop", |rig, t| {
            rig.write_descriptor(t, 0, BUFFERS, 8, WRITE | NEXT, 1);
            rig.write_descriptor(t, 1, BUFFERS, 8, WRITE | NEXT, 0);
        }),
        ("a loop of one", |rig, t| rig.write_descriptor(t, 0, BUFFERS, 0, WRITE | NEXT, 0)),
        ("next beyond the table", |rig, t| rig.write_descriptor(t, 0, BUFFERS, 8, WRITE | NEXT, 16)),
        ("not in RAM", |rig, t| rig.write_descriptor(t, 0, RAM - 4, 8, WRITE, 0)),
        ("ends outside of RAM", |rig, t| rig.write_descriptor(t, 0, RAM + RAM_LEN - 4, 8, WRITE, 0)),
        ("wraps", |rig, t| rig.write_descriptor(t, 0, u64::MAX - 3, 8, WRITE, 0)),
        ("readable after writable", |rig, t| {
            rig.write_descriptor(t, 0, BUFFERS, 8, WRITE | NEXT, 1);
            rig.write_descriptor(t, 1, BUFFERS, 8, 0, 0);
        }),
        ("more than 4 GiB", |rig, t| {
            rig.write_descriptor(t, 0, BUFFERS, u32::MAX, WRITE | NEXT, 1);
            rig.write_descriptor(t, 1, BUFFERS, 2, WRITE, 0);
        }),
        ("a table outside of RAM", |rig, t| rig.write_descriptor(t, 0, 0, 16, INDIRECT, 0)),
        ("half a descriptor", |rig, t| rig.write_descriptor(t, 0, BUFFERS, 24, INDIRECT, 0)),
        ("a table in a table", |rig, t| {
            rig.write_descriptor(t, 0, BUFFERS, 16, INDIRECT, 0);
            rig.write_descriptor(BUFFERS, 0, BUFFERS, 16, INDIRECT, 0);
        }),
    ]
}

fn check_broken_chains<P: Port>(make: Make<'_, P>) {
    for (what, wreck) in breaks::<P>() {
        let mut rig = make();
        rig.start(1, 0);
        wreck(&rig, rig.queues[0].descriptors);
        rig.offer(0, 0);
        rig.until_needs_reset();
        assert_eq!(rig.try_used(0), None, "{what}");
        // Nothing is served any more, whatever is asked.
        rig.device.notify(0);
        rig.set_status(status::DRIVER_OK);
        assert_ne!(rig.status() & status::DEVICE_NEEDS_RESET, 0, "{what}: only a reset heals");
        rig.device.write_status(0);
        rig.start(1, 0);
        rig.submit(0, &[], &[(BUFFERS, 8)]);
        assert_eq!(rig.used(0).1, 8, "{what}");
    }
    // Rings that make no sense: an index that jumps, a head beyond the table.
    for jump in [17u16, 300, 0x8000, u16::MAX] {
        let mut rig = make();
        rig.start(1, 0);
        let avail = rig.queues[0].avail;
        rig.put(avail + 2, &jump.to_le_bytes());
        rig.device.notify(0);
        rig.until_needs_reset();
    }
    let mut rig = make();
    rig.start(1, 0);
    rig.offer(0, 99);
    rig.until_needs_reset();
}

#[test]
fn broken_chains_need_a_reset_and_a_reset_heals() {
    by_each_transport!(check_broken_chains);
}

fn check_empty_and_huge<P: Port>(make: Make<'_, P>) {
    let mut rig = make();
    rig.start(1, 0);
    // Lengths of zero are empty buffers, not ends.
    let head = rig.submit(0, &[], &[(BUFFERS, 0), (BUFFERS, 4), (BUFFERS + 64, 0)]);
    assert_eq!(rig.used(0), (head.into(), 4));
    // A buffer as long as a descriptor can say reaches out of RAM.
    rig.submit(0, &[], &[(BUFFERS, u32::MAX)]);
    rig.until("neither served nor refused", |rig| {
        let used: u16 =
            vm_memory::Bytes::read_obj(&*rig.memory, vm_memory::GuestAddress(rig.queues[0].used + 2)).unwrap();
        used == 2 || rig.status() & status::DEVICE_NEEDS_RESET != 0
    });
}

#[test]
fn empty_and_huge_buffers() {
    by_each_transport!(check_empty_and_huge);
}

fn check_feature_lies<P: Port>(make: Make<'_, P>) {
    let mut rig = make();
    rig.set_status(status::ACKNOWLEDGE | status::DRIVER);
    for lie in [u64::MAX, feature::VERSION_1 | 1 << 63, feature::RING_EVENT_IDX, 0] {
        rig.accept(lie);
        assert_eq!(rig.set_status(status::FEATURES_OK) & status::FEATURES_OK, 0, "{lie:#x}");
        assert_eq!(rig.set_status(status::DRIVER_OK) & status::DRIVER_OK, 0);
    }
    rig.device.write_status(0);
    rig.start(1, 0);
    rig.accept(0);
    rig.submit(0, &[], &[(BUFFERS, 8)]);
    assert_eq!(rig.used(0).1, 8, "what was agreed on stands");
}

#[test]
fn lies_about_features_are_refused() {
    by_each_transport!(check_feature_lies);
}

/// One thread offers requests without end while another resets, sets up anew, pauses and saves.
fn check_reset_in_flight<P: Port + 'static>(make: Make<'_, P>) {
    let mut rig = make();
    rig.start(1, 0);
    let (device, queue) = (std::sync::Arc::clone(&rig.device), rig.queues[0].clone());
    let over = std::sync::Arc::new(std::sync::atomic::AtomicBool::new(false));
    let stop = std::sync::Arc::clone(&over);
    let other = std::thread::spawn(move || {
        for round in 0..300u32 {
            match round % 3 {
                0 => device.write_status(0),
                1 => {
                    device.common().pause();
                    let saved = device.common().save();
                    device.common().load(&saved).unwrap();
                    device.common().resume();
                }
                _ => {
                    device.set_up(0, &queue);
                    device.notify(0);
                }
            }
            [1, 3].into_iter().for_each(|bits| device.write_status(bits));
            device.accept(device.offered());
            [11, 15].into_iter().for_each(|bits| device.write_status(bits));
            device.set_up(0, &queue);
        }
        stop.store(true, std::sync::atomic::Ordering::SeqCst);
    });
    while !over.load(std::sync::atomic::Ordering::SeqCst) {
        rig.submit(0, &[], &[(BUFFERS, 8)]);
    }
    other.join().unwrap();
    rig.device.write_status(0);
    rig.start(1, 0);
    rig.submit(0, &[], &[(BUFFERS, 8)]);
    assert_eq!(rig.used(0).1, 8);
}

#[test]
fn resets_in_flight() {
    by_each_transport!(check_reset_in_flight);
}

/// A ring and descriptors of any contents, mostly near what could be right.
fn hostile_words() -> impl Strategy<Value = Vec<(u64, u32, u16, u16)>> {
    let address = prop_oneof![
        6 => (0..RAM_LEN).prop_map(|offset| RAM + offset),
        1 => Just(RAM + RAM_LEN - 8),
        1 => any::<u64>(),
    ];
    let len = prop_oneof![4 => 0u32..64, 2 => (0u32..20).prop_map(|n| n * 16), 1 => any::<u32>()];
    let flags = prop_oneof![4 => 0u16..4, 1 => 0u16..8];
    prop::collection::vec((address, len, flags, 0u16..18), 16)
}

/// Whatever stands in the rings, only writable buffers and the used ring change, and the device comes to rest.
fn check_hostile_rings<P: Port>(make: Make<'_, P>, words: &[(u64, u32, u16, u16)], heads: &[u16]) {
    let mut rig = make();
    rig.start(1, 0);
    let queue = rig.queues[0].clone();
    for (index, &(address, len, flags, next)) in words.iter().enumerate() {
        rig.write_descriptor(queue.descriptors, index as u16, address, len, flags, next);
    }
    rig.device.common().pause();
    heads.iter().for_each(|&head| rig.offer(0, head));
    let before = rig.get(RAM, RAM_LEN as usize);
    rig.device.common().resume();
    let count = heads.len();
    let is_done = |rig: &Rig<P>| {
        let done: u16 = vm_memory::Bytes::read_obj(&*rig.memory, vm_memory::GuestAddress(queue.used + 2)).unwrap();
        usize::from(done) >= count || rig.status() & status::DEVICE_NEEDS_RESET != 0
    };
    // Descriptors may have been overwritten by what was asked for: then all ends in one way or the other too.
    let overwritten = words.iter().any(|w| w.2 & (WRITE | INDIRECT) != 0 && w.0 < BUFFERS);
    if !overwritten {
        rig.until("the device hangs", is_done);
    }
    rig.device.common().pause();
    let after = rig.get(RAM, RAM_LEN as usize);
    // Tables may be anywhere when there is indirection: then only the absence of a panic counts.
    let indirect = words.iter().any(|w| w.2 & INDIRECT != 0);
    for (offset, _) in before.iter().zip(&after).enumerate().filter(|(_, (b, a))| b != a) {
        let at = RAM + offset as u64;
        let in_used = (queue.used..queue.used + 4 + 16 * 8 + 2).contains(&at);
        let in_buffer = words
            .iter()
            .any(|&(address, len, flags, _)| flags & WRITE != 0 && at >= address && at - address < u64::from(len));
        assert!(in_used || in_buffer || indirect || overwritten, "wrote at {at:#x}");
    }
}

proptest! {
    #![proptest_config(more_cases(120))]

    #[test]
    fn hostile_rings_write_only_where_they_say(
        words in hostile_words(),
        heads in prop::collection::vec(0u16..20, 1..16),
    ) {
        by_each_transport!(check_hostile_rings, &words, &heads);
    }
}
