//! A kernel in the hands of the test rings; places follow what software writes.

use std::sync::Mutex;

use super::*;
use crate::pci::PciFunction;
use crate::pci::spec::{COMMAND_MEMORY, offset};
use crate::virtio::VirtioRng;
use crate::virtio::pci::tests::pci_rig;
use crate::virtio::testing::{Port, Rig};

#[derive(Default)]
struct Kernel {
    places: Mutex<Vec<(BellPlace, Arc<OwnedFd>)>>,
}

impl Kernel {
    fn places(&self) -> Vec<(u64, Option<u32>)> {
        lock(&self.places).iter().map(|(place, _)| (place.address, place.value)).collect()
    }
    fn ring(&self, index: usize) {
        let event = Arc::clone(&lock(&self.places)[index].1);
        rustix::io::write(&*event, &1u64.to_ne_bytes()).unwrap();
    }
}

impl KernelDoorbells for Kernel {
    fn connect(&self, place: BellPlace, event: &Arc<OwnedFd>) -> bool {
        lock(&self.places).push((place, Arc::clone(event)));
        true
    }
    fn disconnect(&self, place: BellPlace, event: &Arc<OwnedFd>) {
        let mut places = lock(&self.places);
        let index = places.iter().position(|(p, e)| *p == place && Arc::ptr_eq(e, event)).expect("it is connected");
        places.remove(index);
    }
}

/// Requests that the kernel rings for and requests that arrive as accesses, in turns.
fn serves<P: Port>(rig: &mut Rig<P>, kernel: &Kernel) {
    rig.start(1, 0);
    let before = rig.device.common().counters()["queues"][0]["doorbells"].as_u64().unwrap();
    for round in 0..50 {
        let buffer = rig.buffer(64);
        let head = rig.submit_quietly(0, &[], &[(buffer, 64)]);
        if round % 3 == 0 {
            rig.device.notify(0)
        } else {
            kernel.ring(0)
        }
        assert_eq!(rig.used(0), (head.into(), 64));
        assert_ne!(rig.get(buffer, 64), [0; 64]);
    }
    // The last ring may be counted after what it led to.
    rig.until("all rings are counted", |rig| {
        rig.device.common().counters()["queues"][0]["doorbells"].as_u64() == Some(before + 50)
    });
    // While it is paused the kernel may ring; it is served afterwards.
    rig.device.common().pause();
    let buffer = rig.buffer(64);
    let head = rig.submit_quietly(0, &[], &[(buffer, 64)]);
    kernel.ring(0);
    rig.device.common().resume();
    assert_eq!(rig.used(0), (head.into(), 64));
}

#[test]
fn registers_have_one_place_and_a_value_for_each_queue() {
    let kernel = Arc::new(Kernel::default());
    let mut rig = Rig::new(VirtioRng::new());
    rig.device.connect_doorbells(kernel.clone()).unwrap();
    assert_eq!(kernel.places(), [(0xa00_0050, Some(0))]);
    serves(&mut rig, &kernel);
}

#[test]
fn doorbells_of_a_function_follow_its_bar() {
    let kernel = Arc::new(Kernel::default());
    let mut rig = pci_rig(VirtioRng::new());
    rig.device.connect_doorbells(kernel.clone()).unwrap();
    assert_eq!(kernel.places(), []);
    let bar = offset::BAR0 as u16 + 16;
    let device = Arc::clone(&rig.device);
    let put = |low: u32, high: u32| {
        device.write_config(bar, 4, low);
        device.write_config(bar + 4, 4, high);
    };
    put(0, 0x80);
    device.write_config(offset::COMMAND as u16, 2, COMMAND_MEMORY.into());
    assert_eq!(kernel.places(), [(0x80_0000_3000, None)]);
    serves(&mut rig, &kernel);
    let saved = device.save();
    put(0x10_0000, 0x80);
    assert_eq!(kernel.places(), [(0x80_0010_3000, None)]);
    device.write_config(offset::COMMAND as u16, 2, 0);
    assert_eq!(kernel.places(), []);
    device.load(&saved).unwrap();
    assert_eq!(kernel.places(), [(0x80_0000_3000, None)]);
    device.reset();
    assert_eq!(kernel.places(), []);
}
