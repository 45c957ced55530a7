use std::sync::Mutex;

use serde_json::json;

use super::*;

/// A window of bytes that refuses 8-byte accesses.
struct Bytes {
    name: &'static str,
    data: Mutex<[u8; 16]>,
}

impl Bytes {
    fn new(name: &'static str) -> Arc<Bytes> {
        Arc::new(Bytes { name, data: Mutex::new([0; 16]) })
    }
}

impl MmioDevice for Bytes {
    fn name(&self) -> &str {
        self.name
    }
    fn read(&self, offset: u64, size: u8) -> Result<u64, AccessError> {
        if size == 8 {
            return Err(AccessError { offset, size });
        }
        let data = self.data.lock().unwrap();
        Ok((0..usize::from(size)).fold(0, |v, i| v | u64::from(data[offset as usize + i]) << (8 * i)))
    }
    fn write(&self, offset: u64, size: u8, value: u64) -> Result<(), AccessError> {
        let mut data = self.data.lock().unwrap();
        (0..usize::from(size)).for_each(|i| data[offset as usize + i] = (value >> (8 * i)) as u8);
        Ok(())
    }
    fn reset(&self) {
        *self.data.lock().unwrap() = [0; 16];
    }
    fn save(&self) -> Value {
        crate::state::pack(1, &self.data.lock().unwrap().to_vec())
    }
    fn load(&self, value: &Value) -> Result<(), StateError> {
        let bytes: Vec<u8> = crate::state::unpack(self.name, 1, value)?;
        *self.data.lock().unwrap() =
            bytes.try_into().map_err(|_| StateError::malformed(self.name, "expected 16 bytes"))?;
        Ok(())
    }
}

fn bus() -> Bus {
    let mut bus = Bus::new();
    bus.insert(0x2000, 16, Bytes::new("b")).unwrap();
    bus.insert(0x1000, 16, Bytes::new("a")).unwrap();
    bus.insert(0x1010, 16, Bytes::new("c")).unwrap();
    bus
}

#[test]
fn accesses_reach_the_device_that_is_there() {
    let bus = bus();
    bus.write(0x1004, 4, 0x1234_5678).unwrap();
    bus.write(0x1010, 1, 0xaa).unwrap();
    assert_eq!(bus.read(0x1004, 4), Ok(0x1234_5678));
    assert_eq!(bus.read(0x1005, 1), Ok(0x56));
    assert_eq!(bus.read(0x1010, 2), Ok(0xaa));
    assert_eq!(bus.read(0x2000, 4), Ok(0));
    let rows = bus.ranges();
    assert_eq!(rows.iter().map(|r| r.device.as_str()).collect::<Vec<_>>(), ["a", "c", "b"]);
    assert_eq!(rows[0].accesses, Accesses { reads: 2, writes: 1 });
    assert_eq!(rows[0].range, 0x1000..0x1010);
}

#[test]
fn holes_edges_and_odd_widths_are_unmapped() {
    let bus = bus();
    for (address, size) in [
        (0, 1),
        (0xfff, 1),
        (0x100e, 4),
        (0x101f, 2),
        (0x1020, 1),
        (0x1fff, 8),
        (u64::MAX, 8),
        (0x1000, 3),
        (0x1000, 0),
    ] {
        assert_eq!(bus.read(address, size), Err(BusError::Unmapped { address, size }));
        assert_eq!(bus.write(address, size, 0), Err(BusError::Unmapped { address, size }));
    }
    assert_eq!(bus.unmapped_accesses(), 18);
    assert!(matches!(bus.read(0x1000, 8), Err(BusError::Refused { device, .. }) if device == "a"));
}

#[test]
fn overlaps_wraps_and_double_names_are_refused() {
    let mut bus = bus();
    assert!(matches!(bus.insert(0x100f, 1, Bytes::new("d")), Err(MapError::Overlap { other, .. }) if other == "a"));
    assert!(matches!(bus.insert(0x0ff8, 0x4000, Bytes::new("d")), Err(MapError::Overlap { .. })));
    assert!(matches!(bus.insert(0x4000, 0, Bytes::new("d")), Err(MapError::Window { .. })));
    assert!(matches!(bus.insert(u64::MAX, 2, Bytes::new("d")), Err(MapError::Window { .. })));
    assert!(matches!(bus.insert(0x4000, 16, Bytes::new("a")), Err(MapError::Name { .. })));
    bus.insert(u64::MAX - 15, 16, Bytes::new("top")).unwrap();
    assert_eq!(bus.read(u64::MAX, 1), Ok(0));
}

#[test]
fn one_device_at_two_places_is_saved_once() {
    let mut bus = Bus::new();
    let device = Bytes::new("twice");
    bus.insert(0, 16, device.clone()).unwrap();
    bus.insert(0x100, 16, device).unwrap();
    bus.write(0x100, 1, 7).unwrap();
    assert_eq!(bus.read(0, 1), Ok(7));
    assert_eq!(bus.devices().len(), 1);
}

#[test]
fn state_of_all_devices_survives_and_differing_machines_are_refused() {
    let source = bus();
    source.write(0x1000, 4, 0xdead_beef).unwrap();
    let saved = source.save();
    let target = bus();
    target.load(&saved).unwrap();
    assert_eq!(target.read(0x1000, 4), Ok(0xdead_beef));
    target.reset();
    assert_eq!(target.read(0x1000, 4), Ok(0));

    let mut bigger = bus();
    bigger.insert(0x9000, 16, Bytes::new("more")).unwrap();
    assert!(matches!(bigger.load(&saved), Err(StateError::Machine { device, .. }) if device == "more"));
    assert!(matches!(bus().load(&bigger.save()), Err(StateError::Machine { device, .. }) if device == "more"));
    let mut wrong = saved.clone();
    wrong["a"]["version"] = json!(2);
    assert!(matches!(bus().load(&wrong), Err(StateError::Version { found: 2, expected: 1, .. })));
    wrong["a"] = json!({"version": 1, "state": [1, 2]});
    assert!(matches!(bus().load(&wrong), Err(StateError::Malformed { .. })));
    assert!(bus().load(&json!(17)).is_err());
}
