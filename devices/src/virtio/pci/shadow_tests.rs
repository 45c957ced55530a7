//! Configuration space read as memory never differs from what an access would read.

use proptest::prelude::*;

use super::tests::pci_rig;
use super::*;
use crate::bus::MmioDevice;
use crate::pci::spec::{CONFIG_LEN, offset};
use crate::pci::{ConfigMemory, PciHost};
use crate::testing::more_cases;
use crate::virtio::VirtioRng;

/// What a guest would see.
struct Seen {
    pages: Mutex<Vec<Vec<u8>>>,
    exposed: Mutex<bool>,
    refuses: bool,
}

impl ConfigMemory for Seen {
    fn show(&self, device: usize, bytes: &[u8]) {
        lock(&self.pages)[device] = bytes.to_vec();
    }

    fn expose(&self, on: bool) -> bool {
        if !self.refuses {
            *lock(&self.exposed) = on;
        }
        !self.refuses
    }
}

/// A bridge with one function, shown in memory of three devices.
fn bridge(refuses: bool) -> (Arc<VirtioPci>, Arc<dyn MmioDevice>, Arc<Seen>) {
    let function = pci_rig(VirtioRng::new()).device;
    let host = PciHost::new(vec![Arc::clone(&function) as Arc<dyn PciFunction>]);
    let pages = Mutex::new(vec![vec![0xff; CONFIG_LEN]; 3]);
    let seen = Arc::new(Seen { pages, exposed: Mutex::new(false), refuses });
    host.connect_memory(Arc::clone(&seen) as Arc<dyn ConfigMemory>);
    (function, host.ecam(), seen)
}

/// True if reads find the memory; what they find is then right.
fn agrees(ecam: &dyn MmioDevice, seen: &Seen) -> bool {
    if !*lock(&seen.exposed) {
        return false;
    }
    for (device, page) in lock(&seen.pages).iter().enumerate() {
        for (word, bytes) in page.chunks(4).enumerate() {
            let read = ecam.read((device << 15 | word << 2) as u64, 4).unwrap();
            assert_eq!(read, u64::from(u32::from_le_bytes(bytes.try_into().unwrap())), "device {device}, word {word}");
        }
    }
    true
}

#[test]
fn memory_goes_when_reading_has_effects_and_comes_back() {
    let (function, ecam, seen) = bridge(false);
    assert!(agrees(&*ecam, &seen));
    // INTA is asserted: Status.Interrupt is set, until the driver reads the ISR status.
    function.signals.used(0);
    assert!(!agrees(&*ecam, &seen));
    assert_eq!(ecam.read(1 << 15 | offset::STATUS as u64, 2).unwrap() as u16 & pci::STATUS_INTERRUPT, 8);
    function.read_bar(spec::BAR, spec::ISR, 1);
    ecam.write(1 << 15 | offset::INTERRUPT_LINE as u64, 1, 7).unwrap();
    assert!(agrees(&*ecam, &seen), "the next write brings it back");
    // The window of the access capability is open.
    let access = 1 << 15 | function.places.access as u64;
    ecam.write(access + 12, 4, 1).unwrap();
    assert!(!agrees(&*ecam, &seen));
    ecam.reset();
    assert!(agrees(&*ecam, &seen));
}

#[test]
fn a_kernel_that_refuses_changes_nothing() {
    let (function, ecam, seen) = bridge(true);
    function.signals.used(0);
    ecam.write(1 << 15 | 4, 2, 6).unwrap();
    assert!(!*lock(&seen.exposed));
    assert_eq!(ecam.read(1 << 15 | 4, 2).unwrap(), 6);
}

#[derive(Clone, Debug)]
enum Step {
    Write(u64, u8, u32),
    Interrupt,
    Changed,
    ReadIsr,
    Reset,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    // Command, a BAR, MSI-X control (0x40), and what follows: the capabilities with the access window.
    let places = prop_oneof![Just(4u64), Just(0x10), Just(0x40), 0x40u64..0xd0, 0u64..4096];
    let values = prop_oneof![0u32..8, Just(u32::MAX), any::<u32>()];
    let write = (0u64..3, places, prop::sample::select(vec![1u8, 2, 4]), values)
        .prop_map(|(device, at, size, value)| Step::Write(device << 15 | at & !(u64::from(size) - 1), size, value));
    let step = prop_oneof![8 => write, 1 => Just(Step::Interrupt), 1 => Just(Step::Changed), 1 => Just(Step::ReadIsr), 1 => Just(Step::Reset)];
    prop::collection::vec(step, 1..40)
}

proptest! {
    #![proptest_config(more_cases(64))]
    #[test]
    fn memory_is_what_accesses_read(steps in steps()) {
        let (function, ecam, seen) = bridge(false);
        for step in steps {
            match step {
                Step::Write(at, size, value) => ecam.write(at, size, value.into()).unwrap(),
                Step::Interrupt => function.signals.used(0),
                Step::Changed => function.signals.configuration(),
                Step::ReadIsr => drop(function.read_bar(spec::BAR, spec::ISR, 1)),
                Step::Reset => ecam.reset(),
            }
            agrees(&*ecam, &seen);
        }
    }
}
