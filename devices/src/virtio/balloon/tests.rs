use super::*;
use crate::bus::MmioDevice;
use crate::testing::transfer;
use crate::virtio::spec::status;
use crate::virtio::testing::{BUFFERS, RAM, RAM_LEN, Rig};

/// Remembers what it was asked for.
#[derive(Default)]
struct Memory {
    taken: Mutex<Vec<(u64, u64)>>,
}

impl Reclaim for Memory {
    fn size(&self) -> u64 {
        RAM_LEN
    }
    fn reclaim(&self, address: u64, len: u64) -> bool {
        let inside = address >= RAM && address.checked_add(len).is_some_and(|end| end <= RAM + RAM_LEN);
        if inside {
            lock(&self.taken).push((address, len));
        }
        inside
    }
}

const ALL: BalloonOptions =
    BalloonOptions { free_page_reporting: true, statistics: true, deflate_on_oom: true, target: None };

fn rig(options: BalloonOptions) -> (Rig, Arc<Memory>) {
    let memory = Arc::<Memory>::default();
    let mut rig = Rig::new(VirtioBalloon::new(options, memory.clone()));
    rig.start(5, 0);
    (rig, memory)
}

fn name_pages(rig: &mut Rig, queue: u16, pages: &[u32]) {
    let bytes: Vec<u8> = pages.iter().flat_map(|page| page.to_le_bytes()).collect();
    rig.put(BUFFERS, &bytes);
    rig.submit(queue, &[(BUFFERS, bytes.len() as u32)], &[]);
}

const FIRST: u32 = (RAM / PAGE) as u32;

#[test]
fn pages_in_the_balloon_are_given_back_in_runs() {
    let (mut rig, memory) = rig(ALL);
    let f = FIRST;
    name_pages(&mut rig, 0, &[f + 300, f + 301, f + 302, f + 320, f + 319, f + 318, 7, u32::MAX, f + 400]);
    assert_eq!(rig.used(0).1, 0);
    let at = |page: u64| RAM + page * PAGE;
    assert_eq!(*lock(&memory.taken), [(at(300), 3 * PAGE), (at(318), 3 * PAGE), (at(400), PAGE)]);
    assert_eq!((rig.counter("inflated_bytes"), rig.counter("refused")), (7 * PAGE, 2));
    rig.device.write(0x104, 4, 7).unwrap();
    assert_eq!((rig.counter("actual_bytes"), rig.device.read(0x104, 4).unwrap()), (7 * PAGE, 7));
    // Only a whole write of the right field counts.
    rig.device.write(0x100, 4, 9).unwrap();
    rig.device.write(0x104, 2, 9).unwrap();
    assert_eq!((rig.device.read(0x100, 4).unwrap(), rig.device.read(0x104, 4).unwrap()), (0, 7));
    name_pages(&mut rig, 1, &[f + 300, f + 301]);
    rig.used(1);
    assert_eq!(rig.counter("deflated_bytes"), 2 * PAGE);
    assert_eq!(lock(&memory.taken).len(), 3);
}

#[test]
fn the_target_is_in_the_configuration_and_interrupts() {
    let memory = Arc::<Memory>::default();
    let options = BalloonOptions { target: Some(RAM_LEN - 16 * PAGE), ..ALL };
    let balloon = Arc::new(VirtioBalloon::new(options, memory));
    let wire = crate::testing::Wire::new();
    let ram = crate::virtio::testing::ram();
    let device: Arc<dyn VirtioDevice> = balloon.clone();
    let transport = crate::virtio::VirtioMmio::new(0xa00_0000, device, Arc::clone(&ram), wire.line()).unwrap();
    let mut rig = Rig::around(transport, ram, wire);
    rig.start(5, 0);
    assert_eq!(rig.device.read(0x100, 4).unwrap(), 16);
    assert!(!rig.wire.level());
    balloon.set_target(RAM_LEN - 100 * PAGE);
    assert!(rig.wire.level());
    assert_eq!(rig.device.read(0x100, 4).unwrap(), 100);
    balloon.set_target(u64::MAX);
    assert_eq!(rig.device.read(0x100, 4).unwrap(), 0);
    balloon.set_target(0);
    assert_eq!(rig.device.read(0x100, 4).unwrap(), RAM_LEN / PAGE);
    assert!(balloon.report().contains("wanted are 4 MiB"), "{}", balloon.report());
}

#[test]
fn free_pages_are_given_back_whichever_queue_reports_them() {
    for (statistics, queue) in [(true, 3), (true, 4), (false, 2), (false, 4)] {
        let (mut rig, memory) = rig(BalloonOptions { statistics, ..ALL });
        rig.submit(queue, &[], &[(BUFFERS, 0x2_0000), (RAM + RAM_LEN, 4096)]);
        rig.used(queue);
        assert_eq!(*lock(&memory.taken), [(BUFFERS, 0x2_0000)], "queue {queue}");
        assert_eq!((rig.counter("reported_free_bytes"), rig.counter("refused")), (0x2_0000, 1));
    }
    // Not asked for, not done.
    let (mut rig, memory) = rig(BalloonOptions::default());
    rig.submit(4, &[], &[(BUFFERS, 0x2_0000)]);
    rig.used(4);
    assert!(lock(&memory.taken).is_empty());
}

fn give_statistics(rig: &mut Rig, free: u64) {
    let entry = |tag: u16, value: u64| [&tag.to_le_bytes()[..], &value.to_le_bytes()].concat();
    let bytes = [entry(4, free), entry(5, 1 << 30), entry(999, 1), vec![1; 5]].concat();
    rig.put(BUFFERS, &bytes);
    rig.submit(2, &[(BUFFERS, bytes.len() as u32)], &[]);
}

#[test]
fn statistics_come_when_they_are_asked_for() {
    let (mut rig, _) = rig(ALL);
    give_statistics(&mut rig, 123);
    rig.until("no statistics", |rig| rig.device.common().counters()["device"]["guest"]["free_memory"] == 123);
    assert!(rig.try_used(2).is_none(), "the buffer is kept until new ones are wanted");
    rig.device.pause();
    assert!(rig.device.save().to_string().contains("wanted"));
    // Nobody but the device remembers the buffer: it went back with the state.
    rig.device.resume();
    assert_eq!(rig.used(2).1, 0);
    give_statistics(&mut rig, 456);
    rig.until("no statistics", |rig| rig.device.common().counters()["device"]["guest"]["free_memory"] == 456);
}

#[test]
fn a_saved_balloon_goes_on() {
    let (mut rig, _) = rig(BalloonOptions { target: Some(0), ..ALL });
    rig.device.write(0x104, 4, 77).unwrap();
    give_statistics(&mut rig, 1);
    rig.device.pause();
    let memory = Arc::<Memory>::default();
    let mut other = Rig::with_memory(VirtioBalloon::new(ALL, memory.clone()), Arc::clone(&rig.memory));
    other.take_driver(&rig);
    other.device.pause();
    transfer(&*rig.device, &*other.device);
    other.device.resume();
    assert_eq!((other.device.read(0x100, 4).unwrap(), other.device.read(0x104, 4).unwrap()), (RAM_LEN / PAGE, 77));
    name_pages(&mut other, 0, &[FIRST + 300]);
    other.used(0);
    assert_eq!(lock(&memory.taken).len(), 1);
}

#[test]
fn hostile_drivers_stop_the_device_and_nothing_else() {
    let outside = RAM + RAM_LEN - 4;
    for case in 0..4 {
        let (mut rig, memory) = rig(ALL);
        match case {
            0 => drop(rig.submit(0, &[(outside, 8)], &[])),
            1 => drop(rig.submit(0, &[(BUFFERS, 70_000)], &[])),
            2 => drop(rig.submit(1, &[(BUFFERS, u32::MAX)], &[])),
            _ => drop(rig.submit(2, &[(outside, 10)], &[])),
        }
        rig.until_needs_reset();
        rig.device.reset();
        assert_eq!(rig.status() & status::DEVICE_NEEDS_RESET, 0);
        rig.start(5, 0);
        // No pages, half a number: nothing.
        rig.submit(0, &[], &[]);
        rig.submit(0, &[(BUFFERS, 3)], &[]);
        name_pages(&mut rig, 0, &[FIRST + 300]);
        (0..3).for_each(|_| assert_eq!(rig.used(0).1, 0));
        assert_eq!(lock(&memory.taken).last(), Some(&(RAM + 300 * PAGE, PAGE)));
    }
}
