//! What a guest says about its memory (VIRTIO 1.2 section 5.5.6.3).

/// The names of the tags, in the order of their numbers; amounts are bytes, the others count events.
const NAMES: [&str; 16] = [
    "swap_in",
    "swap_out",
    "major_faults",
    "minor_faults",
    "free_memory",
    "total_memory",
    "available_memory",
    "disk_caches",
    "hugetlb_allocations",
    "hugetlb_failures",
    "oom_kills",
    "allocation_stalls",
    "async_scans",
    "direct_scans",
    "async_reclaims",
    "direct_reclaims",
];
/// Length of an entry: a tag of 16 bits and a value of 64.
pub(super) const ENTRY: usize = 10;
/// Most bytes of a message that are looked at.
pub(super) const LONGEST: usize = 64 * ENTRY;

/// The guest's last statistics.
#[derive(Debug, Default)]
pub(super) struct Statistics {
    values: [Option<u64>; NAMES.len()],
    times: u64,
}

impl Statistics {
    /// Takes in a message. Tags that are not known are left out.
    pub(super) fn take(&mut self, message: &[u8]) {
        self.values = [None; NAMES.len()];
        for entry in message.chunks_exact(ENTRY) {
            let (Some(tag), Some(value)) = (entry.first_chunk(), entry.last_chunk()) else { continue };
            if let Some(place) = self.values.get_mut(usize::from(u16::from_le_bytes(*tag))) {
                *place = Some(u64::from_le_bytes(*value));
            }
        }
        self.times = self.times.wrapping_add(1);
    }

    pub(super) fn clear(&mut self) {
        self.values = [None; NAMES.len()];
    }

    /// How many messages there were.
    pub(super) fn times(&self) -> u64 {
        self.times
    }

    pub(super) fn named(&self) -> impl Iterator<Item = (&'static str, u64)> {
        NAMES.iter().zip(self.values).filter_map(|(name, value)| Some((*name, value?)))
    }
}
