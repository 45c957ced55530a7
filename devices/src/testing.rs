//! What the tests of several devices share.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};

use proptest::prelude::*;

use crate::bus::MmioDevice;
use crate::irq::{InterruptSink, IrqLine};

/// At least `cases` random cases; `PROPTEST_CASES` asks for more.
pub(crate) fn more_cases(cases: u32) -> ProptestConfig {
    let default = ProptestConfig::default();
    ProptestConfig { cases: cases.max(default.cases), ..default }
}

/// The end of an interrupt line that remembers its level.
#[derive(Default)]
pub(crate) struct Wire {
    level: AtomicBool,
    changes: AtomicU32,
}

impl Wire {
    pub(crate) fn new() -> Arc<Wire> {
        Arc::default()
    }
    pub(crate) fn line(self: &Arc<Self>) -> IrqLine {
        IrqLine::new(self.clone(), 0)
    }
    pub(crate) fn level(&self) -> bool {
        self.level.load(Ordering::Acquire)
    }
    pub(crate) fn changes(&self) -> u32 {
        self.changes.load(Ordering::Acquire)
    }
}

impl InterruptSink for Wire {
    fn set_spi(&self, _spi: u32, level: bool) {
        assert_ne!(self.level.swap(level, Ordering::AcqRel), level, "only changes are signalled");
        self.changes.fetch_add(1, Ordering::AcqRel);
    }
}

/// A 32-bit register as drivers read it.
pub(crate) fn read(device: &dyn MmioDevice, offset: u64) -> u32 {
    device.read(offset, 4).unwrap() as u32
}

/// A 32-bit register as drivers write it.
pub(crate) fn write(device: &dyn MmioDevice, offset: u64, value: u32) {
    device.write(offset, 4, value.into()).unwrap();
}

/// One access of any kind.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Access {
    pub(crate) write: bool,
    pub(crate) offset: u64,
    pub(crate) size: u8,
    pub(crate) value: u64,
}

/// Accesses to a window of 4 KiB and somewhat beyond: mostly whole registers near `registers`, some of any shape.
pub(crate) fn accesses(registers: u64) -> impl Strategy<Value = Vec<Access>> {
    let offset = prop_oneof![
        6 => (0..registers / 4).prop_map(|n| n * 4),
        1 => 0u64..0x1010,
        1 => any::<u64>(),
    ];
    let size = prop_oneof![4 => Just(4u8), 1 => prop_oneof![Just(1u8), Just(2), Just(8)], 1 => any::<u8>()];
    let one = (any::<bool>(), offset, size, any::<u64>()).prop_map(|(write, offset, size, value)| Access {
        write,
        offset,
        size,
        value,
    });
    prop::collection::vec(one, 1..100)
}

/// Does `access` and returns what it read.
pub(crate) fn apply(device: &dyn MmioDevice, access: Access) -> Option<u64> {
    if access.write {
        device.write(access.offset, access.size, access.value).ok().map(|()| 0)
    } else {
        device.read(access.offset, access.size).ok()
    }
}

/// Moves the state of `from` to `to` through text, as a file would.
pub(crate) fn transfer(from: &dyn MmioDevice, to: &dyn MmioDevice) {
    to.load(&serde_json::from_str(&from.save().to_string()).unwrap()).unwrap();
}
