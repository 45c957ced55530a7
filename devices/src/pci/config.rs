//! A configuration space: bytes, and which bits of them software may write. Sizing a BAR, the fixed fields of capabilities
//! and the read-only identity all follow from that mask.

use serde::{Deserialize, Serialize};

use super::Decoded;
use super::spec::{self, CONFIG_LEN, offset};

/// What a function says that it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Identity {
    /// Vendor ID.
    pub vendor: u16,
    /// Device ID.
    pub device: u16,
    /// Revision ID.
    pub revision: u8,
    /// Class code, 24 bits.
    pub class: u32,
    /// Subsystem vendor ID.
    pub subsystem_vendor: u16,
    /// Subsystem ID.
    pub subsystem: u16,
}

/// A BAR for memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Bar {
    /// Bytes: a power of two, at least 16.
    size: u64,
    wide: bool,
}

/// A configuration space of type 0.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConfigSpace {
    bytes: Vec<u8>,
    /// Bits that software may change.
    writable: Vec<u8>,
    bars: [Option<Bar>; 6],
    /// Where the next capability goes, and where its address is written.
    next: usize,
    link: usize,
    /// The bytes at power-on.
    initial: Vec<u8>,
}

/// The bytes that software has changed.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct SavedConfig {
    /// Offset and value of each byte that is not as at power-on.
    changed: Vec<(u16, u8)>,
}

impl ConfigSpace {
    /// A function without BARs and capabilities.
    pub fn new(identity: Identity) -> ConfigSpace {
        let mut config = ConfigSpace {
            bytes: vec![0; CONFIG_LEN],
            writable: vec![0; CONFIG_LEN],
            bars: [None; 6],
            next: offset::HEADER_END,
            link: offset::CAPABILITIES,
            initial: Vec::new(),
        };
        config.put(offset::VENDOR, &identity.vendor.to_le_bytes());
        config.put(offset::DEVICE, &identity.device.to_le_bytes());
        config.put(offset::REVISION, &[identity.revision]);
        config.put(offset::CLASS, identity.class.to_le_bytes().get(..3).unwrap_or_default());
        config.put(offset::SUBSYSTEM_VENDOR, &identity.subsystem_vendor.to_le_bytes());
        config.put(offset::SUBSYSTEM, &identity.subsystem.to_le_bytes());
        let command = spec::COMMAND_MEMORY | spec::COMMAND_MASTER | spec::COMMAND_ERRORS | spec::COMMAND_INTX_DISABLE;
        config.allow(offset::COMMAND, &command.to_le_bytes());
        config.allow(offset::CACHE_LINE, &[0xff]);
        config.sealed()
    }

    /// With interrupt pin INTA.
    #[must_use]
    pub fn with_intx(mut self) -> ConfigSpace {
        self.put(offset::INTERRUPT_PIN, &[1]);
        self.allow(offset::INTERRUPT_LINE, &[0xff]);
        self.sealed()
    }

    /// With BAR `index` of `size` bytes (a power of two, at least 16) for memory. A wide one takes the next BAR too and is
    /// prefetchable.
    #[must_use]
    pub fn with_bar(mut self, index: usize, size: u64, wide: bool) -> ConfigSpace {
        let size = size.next_power_of_two().max(16);
        let mask = !(size - 1);
        let at = offset::BAR0 + 4 * index;
        let flags = if wide { spec::BAR_64 | spec::BAR_PREFETCHABLE } else { 0 };
        self.put(at, &flags.to_le_bytes());
        self.allow(at, &(mask as u32 & !spec::BAR_FLAGS).to_le_bytes());
        if wide {
            self.allow(at + 4, &((mask >> 32) as u32).to_le_bytes());
        }
        if let Some(bar) = self.bars.get_mut(index) {
            *bar = Some(Bar { size, wide });
        }
        self.sealed()
    }

    /// Adds a capability with ID `id`; `body` and `writable` follow its first two bytes. The answer is its offset.
    pub fn add_capability(&mut self, id: u8, body: &[u8], writable: &[u8]) -> usize {
        let at = self.next;
        self.put(self.link, &[at as u8]); // capabilities are below 256
        self.put(at, &[id, 0]);
        self.put(at + 2, body);
        self.allow(at + 2, writable);
        self.link = at + 1;
        self.next = (at + 2 + body.len()).next_multiple_of(4);
        self.put(offset::STATUS, &spec::STATUS_CAPABILITIES.to_le_bytes());
        self.initial.clone_from(&self.bytes);
        at
    }

    fn sealed(mut self) -> ConfigSpace {
        self.initial.clone_from(&self.bytes);
        self
    }

    fn put(&mut self, at: usize, bytes: &[u8]) {
        self.bytes.iter_mut().skip(at).zip(bytes).for_each(|(to, from)| *to = *from);
    }

    fn allow(&mut self, at: usize, mask: &[u8]) {
        self.writable.iter_mut().skip(at).zip(mask).for_each(|(to, from)| *to |= *from);
    }

    /// Back to power-on.
    pub fn reset(&mut self) {
        self.bytes.clone_from(&self.initial);
    }

    /// All of it.
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// `size` bytes at `at` as a number; zeros beyond the end.
    pub fn read(&self, at: usize, size: u8) -> u32 {
        let bytes = self.bytes.iter().skip(at).take(usize::from(size.min(4)));
        bytes.enumerate().fold(0, |value, (i, &byte)| value | u32::from(byte) << (8 * i))
    }

    /// Writes what may be written of `size` bytes at `at`.
    pub fn write(&mut self, at: usize, size: u8, value: u32) {
        let places = self.bytes.iter_mut().zip(&self.writable).skip(at).take(usize::from(size.min(4)));
        for ((byte, &mask), new) in places.zip(value.to_le_bytes()) {
            *byte = *byte & !mask | new & mask;
        }
    }

    /// Sets or clears a status bit.
    pub fn set_status(&mut self, bit: u16, on: bool) {
        let status = self.read(offset::STATUS, 2) as u16;
        let status = if on { status | bit } else { status & !bit };
        self.put(offset::STATUS, &status.to_le_bytes());
    }

    /// The Command register.
    pub fn command(&self) -> u16 {
        self.read(offset::COMMAND, 2) as u16
    }

    /// Where the BARs answer.
    pub fn decoded(&self) -> Decoded {
        std::array::from_fn(|index| {
            let bar = self.bars.get(index).copied().flatten()?;
            if self.command() & spec::COMMAND_MEMORY == 0 {
                return None;
            }
            let at = offset::BAR0 + 4 * index;
            let low = u64::from(self.read(at, 4) & !spec::BAR_FLAGS);
            let high = if bar.wide { u64::from(self.read(at + 4, 4)) << 32 } else { 0 };
            let base = high | low;
            // Zero is not an address that firmware or kernels give.
            base.checked_add(bar.size).filter(|_| base != 0).map(|end| base..end)
        })
    }

    /// What software has changed.
    pub fn save(&self) -> SavedConfig {
        let both = self.bytes.iter().zip(&self.initial).enumerate();
        let changed = both.filter(|(_, (now, initial))| now != initial).map(|(at, (now, _))| (at as u16, *now));
        SavedConfig { changed: changed.collect() }
    }

    /// Takes over what was saved, as far as software could have written it.
    pub fn load(&mut self, saved: &SavedConfig) {
        self.reset();
        for &(at, value) in &saved.changed {
            self.write(at.into(), 1, value.into());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const IDENTITY: Identity =
        Identity { vendor: 0x1af4, device: 0x1042, revision: 1, class: 0x01_0000, subsystem_vendor: 1, subsystem: 2 };

    fn space() -> ConfigSpace {
        let mut config = ConfigSpace::new(IDENTITY).with_intx().with_bar(1, 0x2000, false).with_bar(4, 0x8000, true);
        assert_eq!(config.add_capability(9, &[1, 2, 3, 4], &[0, 0xff]), 0x40);
        assert_eq!(config.add_capability(0x11, &[0; 10], &[]), 0x48);
        config
    }

    #[test]
    fn the_identity_is_read_only() {
        let mut config = space();
        for at in [0, 8, 0x2c] {
            let before = config.read(at, 4);
            config.write(at, 4, !before & 0xffff);
            assert_eq!(config.read(at, 4), before, "{at:#x}");
        }
        assert_eq!(config.read(0, 4), 0x1042_1af4);
        assert_eq!(config.read(8, 4), 0x0100_0001);
        assert_eq!(config.read(0x34, 1), 0x40);
        assert_eq!(config.read(0x40, 4), 0x0201_4809);
        assert_eq!(config.read(0x48, 2), 0x11, "the last capability");
        assert_eq!(config.read(6, 2), 0x10);
    }

    #[test]
    fn bars_are_sized_and_decoded() {
        let mut config = space();
        config.write(0x14, 4, u32::MAX);
        assert_eq!(config.read(0x14, 4), 0xffff_e000);
        config.write(0x20, 4, u32::MAX);
        config.write(0x24, 4, u32::MAX);
        assert_eq!((config.read(0x20, 4), config.read(0x24, 4)), (0xffff_800c, u32::MAX));
        config.write(0x10, 4, u32::MAX);
        assert_eq!(config.read(0x10, 4), 0, "no such BAR");
        config.write(0x14, 4, 0x1000_2000);
        config.write(0x20, 4, 0x8000);
        config.write(0x24, 4, 0x80);
        assert_eq!(config.decoded(), [const { None }; 6], "memory is not decoded yet");
        config.write(4, 2, 2);
        let decoded = config.decoded();
        assert_eq!(decoded[1], Some(0x1000_2000..0x1000_4000));
        assert_eq!(decoded[4], Some(0x80_0000_8000..0x80_0001_0000));
        config.write(0x24, 4, u32::MAX);
        config.write(0x20, 4, u32::MAX);
        assert_eq!(config.decoded()[4], None, "the last bytes of the address space");
    }

    proptest! {
        #[test]
        fn only_writable_bits_change_and_all_of_it_is_saved(
            writes in prop::collection::vec((0usize..4200, prop::sample::select(vec![1u8, 2, 4]), any::<u32>()), 0..60)
        ) {
            let mut config = space();
            let fresh = config.clone();
            for (at, size, value) in writes {
                config.write(at, size, value);
            }
            for at in 0..CONFIG_LEN {
                prop_assert_eq!((config.bytes[at] ^ fresh.bytes[at]) & !config.writable[at], 0);
            }
            let mut other = space();
            other.load(&serde_json::from_str(&serde_json::to_string(&config.save()).unwrap()).unwrap());
            prop_assert_eq!(&other, &config);
            config.reset();
            prop_assert_eq!(config, fresh);
        }
    }
}
