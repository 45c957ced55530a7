use proptest::prelude::*;

use super::*;
use crate::testing::{accesses, apply, more_cases, read, transfer, write};
use crate::virtio::VirtioRng;
use crate::virtio::spec::{feature, status};
use crate::virtio::testing::{BUFFERS, Rig};

fn rig() -> Rig {
    Rig::new(VirtioRng::new())
}

#[test]
fn the_device_identifies_itself() {
    let rig = rig();
    let words: Vec<u32> = (0..4).map(|n| read(&*rig.device, n * 4)).collect();
    assert_eq!(words, [0x7472_6976, 2, 4, reg::VENDOR]);
    assert_eq!(rig.device.name(), "virtio-rng@a000000");
    assert_eq!(rig.offered(), feature::COMMON);
    write(&*rig.device, reg::DEVICE_FEATURES_SEL, 2);
    assert_eq!(read(&*rig.device, reg::DEVICE_FEATURES), 0);
    assert_eq!(rig.device.read(0, 1).unwrap(), 0, "registers have 32 bits");
    assert_eq!((0..4).map(|n| read(&*rig.device, 0xb0 + n * 4)).collect::<Vec<_>>(), [u32::MAX; 4], "no shared memory");
}

#[test]
fn features_are_negotiated_in_order_and_lies_are_refused() {
    let rig = rig();
    assert_eq!(rig.set_status(status::DRIVER), 0, "before it is acknowledged");
    rig.set_status(status::ACKNOWLEDGE);
    rig.set_status(status::DRIVER);
    for lie in [feature::VERSION_1 | 1 << 40, feature::RING_EVENT_IDX, 0] {
        rig.accept(lie);
        assert_eq!(rig.set_status(status::FEATURES_OK) & status::FEATURES_OK, 0, "{lie:#x}");
    }
    assert_eq!(rig.set_status(status::DRIVER_OK) & status::DRIVER_OK, 0, "before features are agreed");
    rig.accept(feature::VERSION_1);
    let before = rig.set_status(status::FEATURES_OK);
    assert_eq!(before, 11);
    rig.accept(feature::COMMON);
    write(&*rig.device, reg::STATUS, status::ACKNOWLEDGE);
    assert_eq!(rig.status(), before, "bits are never cleared");
    assert_eq!(rig.set_status(status::DRIVER_OK), 15);
    assert_eq!(rig.device.common().features(), feature::VERSION_1, "features stand after negotiation");
    write(&*rig.device, reg::STATUS, 0);
    assert_eq!(rig.status(), 0);
}

#[test]
fn requests_are_served_and_the_line_follows_the_reasons() {
    for without in [0, feature::RING_EVENT_IDX] {
        let mut rig = rig();
        rig.start(1, without);
        for round in 0..100 {
            let at = rig.buffer(40);
            rig.put(at, &[0; 40]);
            let head = rig.submit(0, &[], &[(at, 16), (at + 16, 16)]);
            assert_eq!(rig.used(0), (head.into(), 32));
            let bytes = rig.get(at, 40);
            assert!(bytes[..32].iter().any(|&b| b != 0) && bytes[32..] == [0; 8]);
            if round == 0 || without != 0 {
                rig.until("no interrupt", |rig| rig.wire.level());
                assert_eq!(read(&*rig.device, reg::INTERRUPT_STATUS), 1);
                write(&*rig.device, reg::INTERRUPT_ACK, 2);
                assert!(rig.wire.level());
                write(&*rig.device, reg::INTERRUPT_ACK, 1);
                assert!(!rig.wire.level());
            }
        }
    }
}

#[test]
fn a_driver_that_wants_no_interrupts_gets_none() {
    // By the flag, and by an index that is never reached.
    for without in [0, feature::RING_EVENT_IDX] {
        let mut rig = rig();
        rig.start(1, without);
        let avail = rig.queues[0].avail;
        rig.put(avail, &1u16.to_le_bytes());
        rig.put(avail + 4 + 16 * 2, &30000u16.to_le_bytes());
        for _ in 0..50 {
            rig.submit(0, &[], &[(BUFFERS, 8)]);
            rig.used(0);
        }
        rig.device.pause();
        assert!(!rig.wire.level());
    }
}

#[test]
fn a_queue_in_use_cannot_be_moved_and_can_be_taken_away() {
    let mut rig = rig();
    rig.start(1, 0);
    let mut elsewhere = rig.queues[0].clone();
    elsewhere.descriptors += 0x100;
    rig.write_setup(0, &elsewhere);
    rig.submit(0, &[], &[(BUFFERS, 8)]);
    rig.used(0);
    write(&*rig.device, reg::QUEUE_READY, 0);
    assert_eq!(read(&*rig.device, reg::QUEUE_READY), 0);
    rig.submit(0, &[], &[(BUFFERS, 8)]);
    std::thread::sleep(std::time::Duration::from_millis(20));
    assert_eq!(rig.try_used(0), None);
    rig.set_up_queue(0, 32);
    rig.submit(0, &[], &[(BUFFERS, 8)]);
    assert_eq!(rig.used(0), (0, 8), "from the start again");
    // Queues that there are not.
    write(&*rig.device, reg::QUEUE_SEL, 1);
    assert_eq!(read(&*rig.device, reg::QUEUE_SIZE_MAX), 0);
    write(&*rig.device, reg::QUEUE_READY, 1);
    write(&*rig.device, reg::QUEUE_NOTIFY, 77);
    assert_eq!(rig.status(), 15);
}

#[test]
fn a_paused_device_stands_still_and_goes_on_elsewhere() {
    let mut rig = rig();
    rig.start(1, 0);
    for _ in 0..20 {
        rig.submit(0, &[], &[(BUFFERS, 8)]);
        rig.used(0);
    }
    rig.device.pause();
    let head = rig.submit(0, &[], &[(BUFFERS + 64, 8)]);
    std::thread::sleep(std::time::Duration::from_millis(20));
    assert_eq!(rig.try_used(0), None);
    let mut other = Rig::with_memory(VirtioRng::new(), rig.memory.clone());
    other.device.pause();
    transfer(&*rig.device, &*other.device);
    assert_eq!(other.device.save(), rig.device.save());
    assert_eq!(other.wire.level(), rig.wire.level());
    other.take_driver(&rig);
    assert_eq!(other.try_used(0), None);
    other.device.resume();
    assert_eq!(other.used(0), (head.into(), 8), "what was offered before is served after");
}

#[test]
fn saved_state_of_other_devices_is_refused() {
    let mut rig = rig();
    rig.start(1, 0);
    rig.device.pause();
    let good = rig.device.save();
    let refused = |change: &dyn Fn(&mut Value)| {
        let mut bad = good.clone();
        change(&mut bad["state"]["common"]["state"]);
        rig.device.load(&bad).unwrap_err().to_string()
    };
    assert!(refused(&|s| s["device_type"] = 2.into()).contains("type 2"));
    assert!(refused(&|s| s["registers"]["driver_features"] = 1.into()).contains("features 0x1"));
    assert!(refused(&|s| s["registers"]["queues"] = Value::Array(Vec::new())).contains("0 queues"));
    assert!(refused(&|s| s["registers"]["queues"][0]["descriptors"] = 16.into()).contains("RAM"));
    assert!(refused(&|s| s["positions"][0] = Value::Null).contains("ready"));
    assert_eq!(rig.device.save(), good, "what is refused changes nothing");
}

proptest! {
    #![proptest_config(more_cases(200))]

    /// No accesses to the registers panic, and the device still resets.
    #[test]
    fn any_accesses(accesses in accesses(0x200)) {
        let rig = rig();
        for access in accesses {
            apply(&*rig.device, access);
        }
        rig.device.reset();
        prop_assert_eq!(rig.status(), 0);
        prop_assert!(!rig.wire.level());
    }
}
