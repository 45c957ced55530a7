//! A rehearsal: the interpreter executes instructions whose stores go to private copies of the pages of guest RAM, so that another engine can then execute them in earnest
//! and be compared.
//!
//! While a [`Rehearsal`] is installed in [`Vcpu::rehearsal`] the fast table of the TLB stays empty, so every access passes [`Rehearsal::backing`]. Between
//! [`Rehearsal::begin`] and [`Rehearsal::end`] a page that is written is copied first; reads of it see the copy. A device cannot be rehearsed: an access to one stops the
//! instruction before it did anything ([`Rehearsal::met_device`]), in the rehearsal and, until [`Rehearsal::allow_devices`], afterwards too.
#![expect(unsafe_code, reason = "copies and compares pages of guest RAM, which other threads may write meanwhile")]

use std::sync::atomic::{AtomicU64, Ordering};

use crate::exception::Exception;
use crate::state::ArchState;
use crate::stop::Stop;
use crate::vcpu::{Trap, Vcpu};

/// 64-bit words of a page.
const WORDS: usize = 512;

/// A page's content.
#[repr(C, align(4096))]
#[derive(Clone)]
struct Page([u64; WORDS]);

/// A page that the rehearsal writes.
#[derive(Debug)]
struct CopiedPage {
    /// Host address of the real page.
    real: usize,
    /// Physical address of the page.
    pa: u64,
    /// As it was when the rehearsal first wrote it.
    before: Box<Page>,
    /// With the writes of the rehearsal.
    after: Box<Page>,
}

impl std::fmt::Debug for Page {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Page")
    }
}

/// Eight bytes of RAM that are not what the rehearsal made of them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MemoryDifference {
    /// Physical address of the word.
    pub pa: u64,
    /// Before the rehearsal.
    pub before: u64,
    /// What the rehearsal wrote.
    pub rehearsed: u64,
    /// What is there.
    pub found: u64,
}

impl MemoryDifference {
    /// A byte differs that the rehearsal wrote; else others only were written by somebody, who may be a device.
    #[must_use]
    pub fn is_written(&self) -> bool {
        let (written, wrong) = (self.before ^ self.rehearsed, self.rehearsed ^ self.found);
        (0..8).any(|byte| (written >> (8 * byte)) & 0xff != 0 && (wrong >> (8 * byte)) & 0xff != 0)
    }
}

/// The private memory of rehearsals.
#[derive(Debug, Default)]
pub struct Rehearsal {
    pages: Vec<CopiedPage>,
    spare: Vec<CopiedPage>,
    rehearsing: bool,
    devices_refused: bool,
    /// An instruction was stopped at a device.
    pub met_device: bool,
}

fn read_page(real: usize) -> impl Iterator<Item = u64> {
    let base: *const u64 = std::ptr::with_exposed_provenance(real & !0xfff);
    (0..WORDS).map(move |i| {
        // SAFETY: `real` came from `Ram::host`, so the whole page is mapped as long as the machine lives; the word is aligned.
        unsafe { AtomicU64::from_ptr(base.add(i).cast_mut()) }.load(Ordering::Relaxed)
    })
}

impl Rehearsal {
    /// Stores go to copies from now on, and devices are refused.
    pub fn begin(&mut self) {
        self.spare.append(&mut self.pages);
        (self.rehearsing, self.devices_refused, self.met_device) = (true, true, false);
    }

    /// As [`Rehearsal::begin`], on the memory as it was before the last rehearsal, but for bytes that only others have written since.
    pub fn begin_again(&mut self) {
        for page in &mut self.pages {
            let CopiedPage { real, before, after, .. } = page;
            for ((b, a), now) in before.0.iter_mut().zip(&mut after.0).zip(read_page(*real)) {
                let mut keep = 0u64;
                for byte in 0..8 {
                    if ((*b ^ *a) >> (8 * byte)) & 0xff != 0 {
                        keep |= 0xff << (8 * byte);
                    }
                }
                *b = *b & keep | now & !keep;
                *a = *b;
            }
        }
        (self.rehearsing, self.devices_refused, self.met_device) = (true, true, false);
    }

    /// Stores go to RAM again.
    pub fn end(&mut self) {
        self.rehearsing = false;
    }

    /// Devices answer again.
    pub fn allow_devices(&mut self) {
        self.devices_refused = false;
    }

    /// A device is about to be accessed: true if it must not be.
    pub(crate) fn refuses_device(&mut self) -> bool {
        self.met_device |= self.devices_refused;
        self.devices_refused
    }

    /// Host address for an access to the byte at host address `host`, physical address `pa`.
    pub(crate) fn backing(&mut self, host: usize, pa: u64, write: bool) -> usize {
        if !self.rehearsing {
            return host;
        }
        let real = host & !0xfff;
        let found = self.pages.iter().position(|page| page.real == real);
        let at = match found {
            Some(at) => at,
            None if write => {
                let mut page = self.spare.pop().unwrap_or_else(|| CopiedPage {
                    real: 0,
                    pa: 0,
                    before: Box::new(Page([0; WORDS])),
                    after: Box::new(Page([0; WORDS])),
                });
                (page.real, page.pa) = (real, pa & !0xfff);
                for (to, from) in page.before.0.iter_mut().zip(read_page(real)) {
                    *to = from;
                }
                page.after.0 = page.before.0;
                self.pages.push(page);
                self.pages.len() - 1
            }
            None => return host,
        };
        match self.pages.get_mut(at) {
            Some(page) => (&raw mut *page.after).expose_provenance() | host & 0xfff,
            None => host,
        }
    }

    /// Where RAM is not what the rehearsal made of it; at most 16 places.
    #[must_use]
    pub fn differences(&self) -> Vec<MemoryDifference> {
        let mut found = Vec::new();
        for page in &self.pages {
            for (i, now) in read_page(page.real).enumerate() {
                let (before, rehearsed) = (page.before.0[i], page.after.0[i]);
                if now != rehearsed && found.len() < 16 {
                    found.push(MemoryDifference { pa: page.pa + 8 * i as u64, before, rehearsed, found: now });
                }
            }
        }
        found
    }
}

impl Vcpu {
    /// Installs the memory of rehearsals: from now on every access takes the slow path.
    pub fn install_rehearsal(&mut self) {
        self.rehearsal = Some(Box::default());
        self.tlb.no_fast = true;
        self.apply_tlbi(&crate::mmu::TlbiOp::ALL);
    }

    /// Host address for an access to RAM: the RAM itself, or a private copy of the page.
    #[inline]
    pub(crate) fn backing(&mut self, host: usize, pa: u64, write: bool) -> usize {
        match &mut self.rehearsal {
            None => host,
            Some(rehearsal) => rehearsal.backing(host, pa, write),
        }
    }

    /// The instruction at PC, without a look at requests before it and without taking the exception that it raises: the registers are then as before it, and
    /// `syndrome` says what is to be taken. PC moves behind the instruction, or to where it branched.
    ///
    /// # Errors
    /// The instruction did not complete normally: pass it to [`Vcpu::complete`] (unless a device was refused).
    pub fn attempt(&mut self) -> Result<(), Trap> {
        self.run_one()
    }

    /// Takes what an unfinished instruction asks for: its exception, or its stop.
    pub fn complete(&mut self, trap: Trap) -> Option<Stop> {
        self.handle(trap)
    }

    /// Puts registers back, with what is derived from them.
    pub fn restore_registers(&mut self, arch: &ArchState) {
        let same = self.arch.el == arch.el && self.arch.pan == arch.pan;
        let pending = self.arch.pending;
        self.arch.clone_from(arch);
        self.arch.pending = pending;
        if !same {
            self.select_context();
            self.fetch_stale();
        }
    }

    /// The registers after `syndrome` would have been taken as an exception now; nothing else happens.
    #[must_use]
    pub fn after_exception(&mut self, syndrome: crate::exception::Syndrome) -> ArchState {
        let before = self.arch.clone();
        let (exceptions, ring) = (self.counters.exceptions, self.ring.clone());
        self.take_exception(Exception::Sync(syndrome));
        (self.counters.exceptions, self.ring) = (exceptions, ring);
        let after = self.arch.clone();
        self.restore_registers(&before);
        after
    }
}

#[cfg(test)]
mod tests {
    use crate::testing::{RAM_BASE, pe};
    use crate::vcpu::Trap;

    #[test]
    fn stores_of_a_rehearsal_stay_private_and_are_read_back() {
        let (mut v, _) = pe();
        v.install_rehearsal();
        let at = RAM_BASE + 0x3ff8;
        v.write(at, 8, 7).unwrap();
        v.rehearsal.as_mut().unwrap().begin();
        v.write(at, 8, 8).unwrap();
        assert_eq!(v.read(at, 8), Ok(8));
        assert_eq!(v.atomic_rmw(at, 8, crate::Rmw::Add, 1), Ok(8));
        v.rehearsal.as_mut().unwrap().end();
        assert_eq!(v.read(at, 8), Ok(7), "RAM is untouched");
        let d = v.rehearsal.as_ref().unwrap().differences();
        assert!(d.len() == 1 && d[0].is_written() && (d[0].pa, d[0].rehearsed, d[0].found) == (at, 9, 7), "{d:?}");
        v.write(at, 8, 9).unwrap();
        assert!(v.rehearsal.as_ref().unwrap().differences().is_empty());
        // What somebody else writes on the page is seen, and is told apart.
        v.write(at - 8, 1, 1).unwrap();
        let d = v.rehearsal.as_ref().unwrap().differences();
        assert!(d.len() == 1 && !d[0].is_written(), "{d:?}");
        v.rehearsal.as_mut().unwrap().begin_again();
        assert_eq!((v.read(at, 8), v.read(at - 8, 1)), (Ok(7), Ok(1)));
    }

    #[test]
    fn a_device_is_refused_before_anything_happened() {
        let (mut v, machine) = pe();
        v.install_rehearsal();
        v.rehearsal.as_mut().unwrap().begin();
        assert_eq!(v.read(0x100, 4), Err(Trap::Exit));
        let asked = machine.log.lock().unwrap().iter().any(|call| call.starts_with("read"));
        assert!(v.rehearsal.as_ref().unwrap().met_device && !asked);
        v.rehearsal.as_mut().unwrap().allow_devices();
        assert_eq!(v.read(0x100, 4), Ok(0x155));
    }
}
