//! Stolen time (Arm DEN0057A, PV_TIME_ST): for each vCPU a record that says for how long it wanted to run and did not.
//!
//! A guest asks the firmware for the records' place; KVM's answers, that of the emulated engines has none. The records are
//! there on every engine, as a machine that moves keeps the addresses that it was told.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use devices::{AccessError, MmioDevice, StateError, state};
use serde_json::Value;

use super::layout::{PVTIME_LEN, PVTIME_RECORD};

const NAME: &str = "stolen-time";
const VERSION: u64 = 1;
/// Offset of the nanoseconds in a record; before them are revision and attributes, both 0.
pub const NANOSECONDS: u64 = 8;

/// The records' contents.
pub trait Records: Send + Sync {
    /// Nanoseconds in the record of `vcpu`.
    fn get(&self, vcpu: usize) -> u64;
    /// Sets them. The machine is paused.
    fn set(&self, vcpu: usize, nanoseconds: u64);
}

/// Records that nobody counts in.
pub struct Still(Vec<AtomicU64>);

impl Still {
    /// One for each vCPU.
    pub fn new(vcpus: usize) -> Still {
        Still((0..vcpus).map(|_| AtomicU64::new(0)).collect())
    }
}

impl Records for Still {
    fn get(&self, vcpu: usize) -> u64 {
        self.0.get(vcpu).map_or(0, |record| record.load(Ordering::Relaxed))
    }

    fn set(&self, vcpu: usize, nanoseconds: u64) {
        if let Some(record) = self.0.get(vcpu) {
            record.store(nanoseconds, Ordering::Relaxed);
        }
    }
}

/// The window with the records.
pub struct StolenTime {
    vcpus: usize,
    records: Arc<dyn Records>,
}

impl StolenTime {
    /// For `vcpus` records.
    pub fn new(vcpus: usize, records: Arc<dyn Records>) -> Arc<StolenTime> {
        Arc::new(StolenTime { vcpus, records })
    }

    fn set_all(&self, mut nanoseconds: impl FnMut(usize) -> u64) {
        (0..self.vcpus).for_each(|vcpu| self.records.set(vcpu, nanoseconds(vcpu)));
    }
}

impl MmioDevice for StolenTime {
    fn name(&self) -> &str {
        NAME
    }

    fn read(&self, offset: u64, size: u8) -> Result<u64, AccessError> {
        let (index, place) = (offset / PVTIME_RECORD, offset % PVTIME_RECORD);
        let vcpu = usize::try_from(index).ok().filter(|vcpu| *vcpu < self.vcpus && offset < PVTIME_LEN);
        let bytes = vcpu.map_or(0, |vcpu| self.records.get(vcpu)).to_le_bytes();
        // Memory to the guest: any part of the number may be read.
        let byte = |at: u64| at.checked_sub(NANOSECONDS).and_then(|at| bytes.get(at as usize)).copied().unwrap_or(0);
        Ok((0..u64::from(size.min(8))).fold(0, |value, i| value | u64::from(byte(place + i)) << (8 * i)))
    }

    fn write(&self, _: u64, _: u8, _: u64) -> Result<(), AccessError> {
        // For the guest to read.
        Ok(())
    }

    fn reset(&self) {
        self.set_all(|_| 0);
    }

    fn save(&self) -> Value {
        state::pack(VERSION, &(0..self.vcpus).map(|vcpu| self.records.get(vcpu)).collect::<Vec<u64>>())
    }

    fn load(&self, value: &Value) -> Result<(), StateError> {
        let saved: Vec<u64> = state::unpack(NAME, VERSION, value)?;
        if saved.len() != self.vcpus {
            return Err(StateError::machine(NAME, format!("has {} records", self.vcpus)));
        }
        self.set_all(|vcpu| saved.get(vcpu).copied().unwrap_or(0));
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn records_are_read_like_memory_and_move() {
        let device = StolenTime::new(2, Arc::new(Still::new(2)));
        let records: Arc<dyn Records> = Arc::clone(&device.records);
        records.set(1, 0x0123_4567_89ab_cdef);
        let at = PVTIME_RECORD + NANOSECONDS;
        assert_eq!(device.read(at, 8), Ok(0x0123_4567_89ab_cdef));
        assert_eq!((device.read(at + 4, 4), device.read(at + 7, 1)), (Ok(0x0123_4567), Ok(1)));
        assert_eq!((device.read(PVTIME_RECORD, 8), device.read(8, 8)), (Ok(0), Ok(0)), "revision; another vCPU");
        assert_eq!(device.read(2 * PVTIME_RECORD + 8, 8), Ok(0), "a vCPU that there is not");
        device.write(at, 8, 5).unwrap();
        assert_eq!(device.read(at, 8), Ok(0x0123_4567_89ab_cdef), "read-only");
        let other = StolenTime::new(2, Arc::new(Still::new(2)));
        other.load(&device.save()).unwrap();
        assert_eq!(other.read(at, 8), Ok(0x0123_4567_89ab_cdef));
        assert!(StolenTime::new(3, Arc::new(Still::new(3))).load(&device.save()).is_err());
        other.reset();
        assert_eq!(other.read(at, 8), Ok(0));
    }
}
