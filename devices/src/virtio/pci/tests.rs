use proptest::prelude::*;

use super::*;
use crate::pci::spec::offset;
use crate::testing::{Wire, more_cases};
use crate::virtio::spec::{feature, status};
use crate::virtio::testing::{BUFFERS, DriverQueue, Port, Rig, ram};
use crate::virtio::{VirtioBlk, VirtioRng};

/// Messages that a function sent: address and data.
#[derive(Default)]
pub(crate) struct Messages(Mutex<Vec<(u64, u32)>>);

impl MsiSink for Messages {
    fn send(&self, device: u32, address: u64, data: u32) {
        assert_eq!(device, 0x18);
        lock(&self.0).push((address, data));
    }
}

impl Messages {
    fn take(&self) -> Vec<(u64, u32)> {
        std::mem::take(&mut *lock(&self.0))
    }
}

impl Port for VirtioPci {
    fn status(&self) -> u32 {
        self.read_bar(spec::BAR, reg::DEVICE_STATUS, 1) as u32
    }
    fn write_status(&self, value: u32) {
        self.write_bar(spec::BAR, reg::DEVICE_STATUS, 1, value.into());
    }
    fn offered(&self) -> u64 {
        let half = |half: u64| {
            self.write_bar(spec::BAR, reg::DEVICE_FEATURE_SELECT, 4, half);
            self.read_bar(spec::BAR, reg::DEVICE_FEATURE, 4)
        };
        half(0) | half(1) << 32
    }
    fn accept(&self, features: u64) {
        for half in [0, 1] {
            self.write_bar(spec::BAR, reg::DRIVER_FEATURE_SELECT, 4, half);
            self.write_bar(spec::BAR, reg::DRIVER_FEATURE, 4, features >> (32 * half) & 0xffff_ffff);
        }
    }
    fn set_up(&self, index: u16, queue: &DriverQueue) {
        self.write_bar(spec::BAR, reg::QUEUE_SELECT, 2, index.into());
        self.write_bar(spec::BAR, reg::QUEUE_SIZE, 2, queue.size.into());
        self.write_bar(spec::BAR, reg::QUEUE_MSIX_VECTOR, 2, u64::from(index) + 1);
        self.write_bar(spec::BAR, reg::QUEUE_DESC, 8, queue.descriptors);
        self.write_bar(spec::BAR, reg::QUEUE_DRIVER, 4, queue.avail & 0xffff_ffff);
        self.write_bar(spec::BAR, reg::QUEUE_DRIVER + 4, 4, queue.avail >> 32);
        self.write_bar(spec::BAR, reg::QUEUE_DEVICE, 8, queue.used);
        self.write_bar(spec::BAR, reg::QUEUE_ENABLE, 2, 1);
    }
    fn is_ready(&self, index: u16) -> bool {
        self.write_bar(spec::BAR, reg::QUEUE_SELECT, 2, index.into());
        self.read_bar(spec::BAR, reg::QUEUE_ENABLE, 2) == 1
    }
    fn notify(&self, index: u16) {
        self.write_bar(spec::BAR, spec::NOTIFY + u64::from(index) * spec::NOTIFY_MULTIPLIER, 2, index.into());
    }
    fn common(&self) -> &Common {
        VirtioPci::common(self)
    }
}

fn rig_with_messages(device: impl VirtioDevice + 'static, memory: SharedMemory) -> (Rig<VirtioPci>, Arc<Messages>) {
    let (wire, messages) = (Wire::new(), Arc::new(Messages::default()));
    let slot = Slot { requester_id: 0x18, messages: Arc::clone(&messages) as Arc<dyn MsiSink>, intx: wire.line() };
    let device = VirtioPci::new(Arc::new(device), Arc::clone(&memory), slot).unwrap();
    (Rig::around(device, memory, wire), messages)
}

/// A driver's side by this transport.
pub(crate) fn pci_rig(device: impl VirtioDevice + 'static) -> Rig<VirtioPci> {
    rig_with_messages(device, ram()).0
}

/// Offset of the capability `id`, the `nth` of them.
fn capability(device: &VirtioPci, id: u32, nth: usize) -> u16 {
    let mut at = device.read_config(offset::CAPABILITIES as u16, 1);
    let mut found = Vec::new();
    while at != 0 {
        if device.read_config(at as u16, 1) == id {
            found.push(at as u16);
        }
        at = device.read_config(at as u16 + 1, 1);
    }
    found[nth]
}

/// Lets it write by itself and turns on MSI-X, vector n as message (0x1000 + n, n).
fn enable_messages(device: &VirtioPci) {
    device.write_config(offset::COMMAND as u16, 2, (pci::COMMAND_MEMORY | pci::COMMAND_MASTER).into());
    for vector in 0..device.signals.msix.vectors() {
        let at = u64::from(vector) * pci::MSIX_ENTRY;
        device.write_bar(spec::MSIX_BAR, at, 8, 0x1000 + u64::from(vector));
        device.write_bar(spec::MSIX_BAR, at + 8, 8, vector.into());
    }
    let control = device.places.msix_control as u16;
    device.write_config(control, 2, pci::MSIX_ENABLE.into());
}

#[test]
fn the_function_identifies_itself() {
    let rig = pci_rig(VirtioRng::new());
    let d = &*rig.device;
    assert_eq!(d.name(), "virtio-rng@03.0");
    assert_eq!(d.read_config(0, 4), 0x1044_1af4);
    assert_eq!(d.read_config(8, 4), 0x00ff_0001);
    assert_eq!(rig.offered(), feature::COMMON);
    let structures: Vec<(u32, u32, u32)> = (0..5)
        .map(|n| capability(d, 9, n))
        .map(|at| (d.read_config(at + 3, 1), d.read_config(at + 4, 1), d.read_config(at + 8, 4)))
        .collect();
    assert_eq!(structures, [(1, 4, 0), (3, 4, 0x1000), (4, 4, 0x2000), (2, 4, 0x3000), (5, 0, 0)]);
    let msix = capability(d, 0x11, 0);
    assert_eq!(d.read_config(msix + 2, 2), 1, "two vectors");
    assert_eq!((d.read_config(msix + 4, 4), d.read_config(msix + 8, 4)), (1, 0x1001));
    assert_eq!(d.read_bar(spec::BAR, reg::NUM_QUEUES, 2), 1);
}

#[test]
fn used_buffers_and_failures_are_messages() {
    let (mut rig, messages) = rig_with_messages(VirtioRng::new(), ram());
    enable_messages(&rig.device);
    rig.device.write_bar(spec::BAR, reg::CONFIG_MSIX_VECTOR, 2, 0);
    rig.start(1, feature::RING_EVENT_IDX);
    for _ in 0..10 {
        let head = rig.submit(0, &[], &[(BUFFERS, 16)]);
        assert_eq!(rig.used(0), (head.into(), 16));
        rig.until("no message", |_| !lock(&messages.0).is_empty());
        assert_eq!(messages.take(), [(0x1001, 1)]);
    }
    rig.offer(0, 99);
    rig.until("no message", |_| !lock(&messages.0).is_empty());
    assert_eq!(messages.take(), [(0x1000, 0)]);
    assert!(!rig.wire.level());
    // Vectors that there are not, and none.
    for vector in [2, 0xfffe, 0xffff] {
        rig.device.write_bar(spec::BAR, reg::CONFIG_MSIX_VECTOR, 2, vector);
        assert_eq!(rig.device.read_bar(spec::BAR, reg::CONFIG_MSIX_VECTOR, 2), 0xffff);
    }
    rig.device.write_status(0);
    rig.device.write_bar(spec::BAR, reg::QUEUE_SELECT, 2, 0);
    assert_eq!(rig.device.read_bar(spec::BAR, reg::QUEUE_MSIX_VECTOR, 2), 0xffff);
}

#[test]
fn without_messages_the_wire_follows_the_isr_status() {
    let mut rig = pci_rig(VirtioRng::new());
    rig.start(1, feature::RING_EVENT_IDX);
    rig.submit(0, &[], &[(BUFFERS, 16)]);
    rig.used(0);
    rig.until("no interrupt", |rig| rig.wire.level());
    let d = &*rig.device;
    assert_eq!(d.read_config(offset::STATUS as u16, 2) & 8, 8);
    d.write_config(offset::COMMAND as u16, 2, pci::COMMAND_INTX_DISABLE.into());
    assert!(!rig.wire.level());
    assert_eq!(d.read_config(offset::STATUS as u16, 2) & 8, 8, "pending although disabled");
    d.write_config(offset::COMMAND as u16, 2, 0);
    assert!(rig.wire.level());
    assert_eq!(d.read_bar(spec::BAR, spec::ISR, 1), 1);
    assert!(!rig.wire.level());
    assert_eq!(d.read_bar(spec::BAR, spec::ISR, 1), 0, "reading clears");
}

#[test]
fn the_configuration_access_capability_reaches_the_structures() {
    let rig = pci_rig(VirtioRng::new());
    let d = &*rig.device;
    let at = capability(d, 9, 4);
    let select = |bar: u32, offset: u32, len: u32| {
        d.write_config(at + 4, 1, bar);
        d.write_config(at + 8, 4, offset);
        d.write_config(at + 12, 4, len);
    };
    select(4, reg::DEVICE_STATUS as u32, 1);
    d.write_config(at + 16, 1, 1);
    assert_eq!((d.read_config(at + 16, 1), rig.status()), (1, 1));
    select(4, reg::DEVICE_FEATURE_SELECT as u32, 4);
    d.write_config(at + 16, 4, 1);
    select(4, reg::DEVICE_FEATURE as u32, 4);
    assert_eq!(d.read_config(at + 16, 4), 1, "VERSION_1");
    // Itself, BARs that there are not, lengths and offsets that are none.
    for (bar, offset, len) in [(0, 0, 4), (255, u32::MAX, 4), (4, 1, 4), (4, 0, 3), (4, 0, u32::MAX), (4, 0, 0)] {
        select(bar, offset, len);
        d.write_config(at + 16, 4, u32::MAX);
        assert_eq!(d.read_config(at + 16, 4), 0, "{bar} {offset:#x} {len}");
    }
}

#[test]
fn a_function_level_reset_is_a_reset() {
    let mut rig = pci_rig(VirtioRng::new());
    enable_messages(&rig.device);
    let fresh = pci_rig(VirtioRng::new()).device.save();
    rig.start(1, 0);
    let control = capability(&rig.device, 0x10, 0) + 8;
    rig.device.write_config(control, 2, pci::EXPRESS_FLR.into());
    assert_eq!(rig.device.save(), fresh);
    assert_eq!(rig.device.read_config(control, 2), 0);
}

#[test]
fn a_paused_function_goes_on_elsewhere() {
    let (mut rig, messages) = rig_with_messages(VirtioRng::new(), ram());
    enable_messages(&rig.device);
    rig.start(1, feature::RING_EVENT_IDX);
    rig.device.pause();
    let head = rig.submit(0, &[], &[(BUFFERS, 8)]);
    let (mut other, others) = rig_with_messages(VirtioRng::new(), rig.memory.clone());
    other.device.pause();
    other.device.load(&serde_json::from_str(&rig.device.save().to_string()).unwrap()).unwrap();
    assert_eq!(other.device.save(), rig.device.save());
    other.take_driver(&rig);
    assert_eq!((other.try_used(0), others.take()), (None, vec![]));
    other.device.resume();
    assert_eq!(other.used(0), (head.into(), 8));
    other.until("no message", |_| !lock(&others.0).is_empty());
    assert_eq!((others.take(), messages.take()), (vec![(0x1001, 1)], vec![]));
    // Of another shape.
    let mut saved = rig.device.save();
    saved["state"]["signals"]["queues"] = json!([1, 2]);
    let before = other.device.save();
    assert!(other.device.load(&saved).unwrap_err().to_string().contains("queues"));
    assert_eq!(other.device.save(), before);
}

#[test]
fn the_device_configuration_is_read_in_any_width() {
    let disk = crate::virtio::blk::tests::memory_disk();
    let rig = pci_rig(VirtioBlk::new(disk, crate::virtio::blk::BlkOptions::default()));
    let d = &*rig.device;
    assert_eq!(d.read_config(0, 4) >> 16, 0x1042);
    assert_eq!(d.read_bar(spec::BAR, spec::DEVICE, 8), 512);
    assert_eq!(d.read_bar(spec::BAR, spec::DEVICE + 1, 1), 2);
    assert_eq!(d.read_bar(spec::BAR, spec::DEVICE + spec::PLACE - 8, 8), 0);
    assert_eq!(rig.status() & status::DEVICE_NEEDS_RESET, 0);
}

proptest! {
    #![proptest_config(more_cases(300))]

    /// No accesses to registers and configuration space panic; a reset makes everything as it was.
    #[test]
    fn any_accesses(
        accesses in prop::collection::vec(
            (0u8..8, prop_oneof![0u64..0x40, 0u64..0x4000], prop::sample::select(vec![1u8, 2, 4, 8]), any::<u64>()),
            1..100,
        )
    ) {
        let rig = pci_rig(VirtioRng::new());
        let fresh = rig.device.save();
        for (kind, at, size, value) in accesses {
            let (narrow, aligned) = (size.min(4), (at & 0xfff) as u16 & !(u16::from(size.min(4)) - 1));
            match kind {
                0 => drop(rig.device.read_config(aligned, narrow)),
                1 | 2 => rig.device.write_config(aligned & 0xff, narrow, value as u32),
                3 => drop(rig.device.read_bar((value & 7) as usize, at, size)),
                _ => rig.device.write_bar(if kind == 4 { 1 } else { 4 }, at, size, value),
            }
            rig.device.decoded();
        }
        rig.device.pause();
        let saved = rig.device.save();
        rig.device.load(&saved).unwrap();
        prop_assert_eq!(rig.device.save(), saved);
        rig.device.reset();
        prop_assert_eq!(rig.device.save(), fresh);
        prop_assert!(!rig.wire.level());
    }
}
