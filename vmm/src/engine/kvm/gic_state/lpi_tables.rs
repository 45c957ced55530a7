//! The tables of a vCPU's LPIs in guest RAM (Arm IHI 0069, "LPI Configuration tables", "LPI Pending tables").

use devices::gic::{FIRST_LPI, LPI_COUNT};
use devices::memory::GuestMemory;
use vm_memory::{Bytes, GuestAddress};

/// `GICR_PROPBASER.IDbits` and `.Physical_Address`.
const ID_BITS: u64 = 0x1f;
const PROPERTIES: u64 = 0x000f_ffff_ffff_f000;
/// `GICR_PENDBASER.Physical_Address`.
const PENDING: u64 = 0x000f_ffff_ffff_0000;

/// Where they are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LpiTables {
    /// `GICR_PROPBASER`.
    pub propbaser: u64,
    /// `GICR_PENDBASER`.
    pub pendbaser: u64,
}

impl LpiTables {
    /// How many LPIs the tables have room for.
    fn count(self) -> usize {
        let bits = (self.propbaser & ID_BITS) as u32 + 1;
        (1usize << bits.min(31)).saturating_sub(FIRST_LPI as usize).min(LPI_COUNT)
    }

    fn pending_table(self) -> GuestAddress {
        // 52 bits.
        GuestAddress((self.pendbaser & PENDING) + u64::from(FIRST_LPI / 8))
    }

    /// The bits of the pending table; none if it is not in RAM.
    fn read(self, memory: &GuestMemory) -> Option<Vec<u8>> {
        let mut bits = vec![0; self.count() / 8];
        memory.read_slice(&mut bits, self.pending_table()).ok().map(|()| bits)
    }

    /// Takes what the kernel saved out of the pending table: INTIDs with their configuration. The kernel reads the table
    /// again for an LPI that is mapped later, which must not find it pending then.
    pub fn take_pending(self, memory: &GuestMemory) -> Vec<(u32, u8)> {
        let Some(bits) = self.read(memory) else { return Vec::new() };
        // It was read from there.
        let _ = memory.write_slice(&vec![0; bits.len()], self.pending_table());
        let set = (0..8 * bits.len()).filter(|n| bits.get(n / 8).is_some_and(|byte| byte >> (n % 8) & 1 != 0));
        set.map(|n| {
            let configuration = GuestAddress((self.propbaser & PROPERTIES) + n as u64);
            (FIRST_LPI + n as u32, memory.read_obj(configuration).unwrap_or(0)) // at most 2^16
        })
        .collect()
    }

    /// Puts LPIs where the kernel looks for those that are pending.
    pub fn put_pending(self, memory: &GuestMemory, pending: &[(u32, u8)]) {
        let Some(mut bits) = self.read(memory) else { return };
        bits.fill(0);
        for index in pending.iter().filter_map(|(intid, _)| intid.checked_sub(FIRST_LPI)) {
            if let Some(byte) = bits.get_mut(index as usize / 8) {
                *byte |= 1 << (index % 8);
            }
        }
        // It was read from there.
        let _ = memory.write_slice(&bits, self.pending_table());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_put_is_taken_once_and_nothing_else_is_touched() {
        let memory = GuestMemory::from_ranges(&[(GuestAddress(0), 1 << 20)]).unwrap();
        for bits in [13u64, 15, 31] {
            let tables = LpiTables { propbaser: 0x2_0000 | bits, pendbaser: 0x1_0000 | 1 << 62 };
            let last = if bits == 13 { 16383 } else { 65535 };
            memory.write_slice(&[0xff; 0x1_0000], GuestAddress(0x1_0000)).unwrap();
            memory.write_obj(0xa1u8, GuestAddress(0x2_0000 + u64::from(last - FIRST_LPI))).unwrap();
            tables.put_pending(&memory, &[(8192, 7), (8201, 0), (last, 9), (65536, 0), (3, 0), (u32::MAX, 0)]);
            let byte = |at: u64| memory.read_obj::<u8>(GuestAddress(0x1_0000 + at)).unwrap();
            assert_eq!((byte(1023), byte(1024), byte(1025), byte(1026)), (0xff, 1, 2, 0));
            assert_eq!((byte(u64::from(last) / 8), byte(u64::from(last) / 8 + 1)), (0x80, 0xff));
            assert_eq!(tables.take_pending(&memory), [(8192, 0), (8201, 0), (last, 0xa1)]);
            assert_eq!(tables.take_pending(&memory), []);
        }
        let nowhere = LpiTables { propbaser: u64::MAX, pendbaser: u64::MAX };
        nowhere.put_pending(&memory, &[(8192, 0)]);
        assert_eq!(nowhere.take_pending(&memory), []);
        assert_eq!(LpiTables { propbaser: 0, pendbaser: 0 }.take_pending(&memory), []);
    }
}
