//! What a process takes of the host's memory, told from the guest's.

use std::fs;

use crate::exit::Failure;

/// KiB of one process.
#[derive(Clone, Copy, Default, Debug, PartialEq, Eq)]
pub struct Taken {
    /// Proportional set size, all of it.
    pub pss: u64,
    /// ... of the mapping that is the guest's memory.
    pub guest_pss: u64,
    /// Resident set size, all of it.
    pub rss: u64,
    /// ... of the mapping that is the guest's memory.
    pub guest_rss: u64,
}

impl Taken {
    /// What process `id` takes, whose guest has `memory_kib` of memory.
    ///
    /// # Errors
    /// No such process, or no mapping of it is as large as the guest's memory.
    pub fn by(id: u32, memory_kib: u64) -> Result<Taken, Failure> {
        let path = format!("/proc/{id}/smaps");
        let maps = fs::read_to_string(&path).map_err(|e| Failure::backend(format!("{path}: {e}")))?;
        Taken::of(&maps, memory_kib)
            .ok_or_else(|| Failure::backend(format!("{path} has no mapping of {memory_kib} KiB: the guest's memory")))
    }

    /// What `/proc/PID/smaps` says; `None` where no mapping is as large as the guest's memory.
    fn of(maps: &str, memory_kib: u64) -> Option<Taken> {
        let number = |line: &str| line.split_whitespace().nth(1).and_then(|n| n.parse::<u64>().ok()).unwrap_or(0);
        let (mut taken, mut is_guest, mut found) = (Taken::default(), false, false);
        for line in maps.lines() {
            let (all, guest) = match line.split(':').next() {
                Some("Size") => {
                    is_guest = number(line) == memory_kib;
                    found |= is_guest;
                    continue;
                }
                Some("Rss") => (&mut taken.rss, &mut taken.guest_rss),
                Some("Pss") => (&mut taken.pss, &mut taken.guest_pss),
                _ => continue,
            };
            *all += number(line);
            *guest += if is_guest { number(line) } else { 0 };
        }
        found.then_some(taken)
    }

    /// What the machine takes beside the guest's memory, in MiB: proportional.
    pub fn beside_mib(self) -> f64 {
        self.pss.saturating_sub(self.guest_pss) as f64 / 1024.0
    }

    /// The same in KiB that are resident.
    pub fn resident_beside(self) -> u64 {
        self.rss.saturating_sub(self.guest_rss)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MAPS: &str = "55-56 r-xp 0 0 0 /vmm\nSize:   3000 kB\nRss:   2048 kB\nPss: 1024 kB\nPss_Dirty: 9 kB\n\
                        7f-80 rw-p 0 0 0 \nSize:   524288 kB\nRss:   8192 kB\nPss:  8000 kB\n\
                        80-81 rw-p 0 0 0 \nSize:   132 kB\nRss:   12 kB\n";

    #[test]
    fn the_guests_memory_is_told_from_the_rest() {
        let taken = Taken::of(MAPS, 524_288).expect("it is there");
        assert_eq!(taken, Taken { pss: 9024, guest_pss: 8000, rss: 10252, guest_rss: 8192 });
        assert_eq!((taken.beside_mib(), taken.resident_beside()), (1.0, 2060));
        assert_eq!(Taken::of(MAPS, 1 << 20), None);
        assert_eq!(Taken::of("nonsense\nPss:\nSize: x\n", 524_288), None);
    }
}
