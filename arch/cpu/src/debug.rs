//! Self-hosted debug (Arm ARM D2): when breakpoints and watchpoints match and when debug exceptions are enabled.
//!
//! Pure functions over register values; who asks and what is then raised stands in `exception` and the engines.

/// MDSCR_EL1.SS: software step is enabled.
pub const MDSCR_SS: u64 = 1;
/// MDSCR_EL1.TDCC: EL0 accesses to the debug communication channel are trapped.
pub const MDSCR_TDCC: u64 = 1 << 12;
/// MDSCR_EL1.KDE: debug exceptions from EL1 to EL1 are enabled.
pub const MDSCR_KDE: u64 = 1 << 13;
/// MDSCR_EL1.MDE: breakpoint and watchpoint exceptions are enabled.
pub const MDSCR_MDE: u64 = 1 << 15;

/// DBGBCR/DBGWCR.E.
const ENABLED: u64 = 1;
/// DBGBCR.BT or DBGWCR.WT bit "linked".
const LINKED: u64 = 1 << 20;
/// DBGBCR.BT bit "context id match".
const CONTEXT: u64 = 1 << 21;

/// The debug registers that matching reads.
#[derive(Clone, Copy, Debug)]
pub struct DebugRegs<'a> {
    /// DBGBVR<n>_EL1.
    pub bvr: &'a [u64],
    /// DBGBCR<n>_EL1.
    pub bcr: &'a [u64],
    /// DBGWVR<n>_EL1.
    pub wvr: &'a [u64],
    /// DBGWCR<n>_EL1.
    pub wcr: &'a [u64],
    /// CONTEXTIDR_EL1.
    pub contextidr: u64,
}

/// True when a debug exception from `el` may be taken to EL1: never under the OS lock, from EL1 only with KDE and PSTATE.D clear.
#[inline]
#[must_use]
pub fn exceptions_enabled(mdscr: u64, os_lock: bool, el: u8, d_masked: bool) -> bool {
    !os_lock && (el == 0 || (mdscr & MDSCR_KDE != 0 && !d_masked))
}

/// HMC, SSC, PMC/PAC: does the control word `control` ask for exception level `el` (0 or 1)?
fn level_matches(control: u64, el: u8) -> bool {
    let (pmc, hmc) = (control >> 1 & 3, control >> 13 & 1);
    matches!((hmc, pmc, el), (_, 1, 1) | (0, 2, 0) | (_, 3, _))
}

impl DebugRegs<'_> {
    /// A context-matching breakpoint that another one is linked to.
    fn linked_context_matches(&self, control: u64) -> bool {
        let index = (control >> 16 & 15) as usize;
        match (self.bcr.get(index), self.bvr.get(index)) {
            (Some(&bcr), Some(&bvr)) => {
                bcr & (ENABLED | LINKED | CONTEXT) == ENABLED | LINKED | CONTEXT
                    && bvr & 0xffff_ffff == self.contextidr & 0xffff_ffff
            }
            _ => false,
        }
    }

    /// True when a breakpoint matches the instruction at `pc`, executed at `el`.
    #[must_use]
    pub fn breakpoint_hit(&self, pc: u64, el: u8) -> bool {
        self.bcr.iter().zip(self.bvr).any(|(&bcr, &bvr)| {
            if bcr & ENABLED == 0 || !level_matches(bcr, el) {
                return false;
            }
            match bcr >> 20 & 15 {
                0 => Self::address_matches(bcr, bvr, pc),
                1 => Self::address_matches(bcr, bvr, pc) && self.linked_context_matches(bcr),
                2 => bvr & 0xffff_ffff == self.contextidr & 0xffff_ffff,
                _ => false, // linked context (only as a target of links), and the EL2 types
            }
        })
    }

    fn address_matches(bcr: u64, bvr: u64, pc: u64) -> bool {
        // Bits 63:49 of DBGBVR are a sign extension; BAS other than 0b1111 is for AArch32.
        bcr >> 5 & 15 == 15 && (pc ^ bvr) & 0x0001_ffff_ffff_fffc == 0
    }

    /// The lowest watched address of an access of `size` bytes at `address` by `el` (the level that the access is made
    /// as: 0 for unprivileged ones), if a watchpoint matches.
    #[must_use]
    pub fn watchpoint_hit(&self, address: u64, size: u64, store: bool, el: u8) -> Option<u64> {
        let wanted = if store { 2 } else { 1 };
        self.wcr
            .iter()
            .zip(self.wvr)
            .filter(|&(&wcr, _)| {
                wcr & ENABLED != 0
                    && wcr >> 3 & wanted != 0
                    && level_matches(wcr, el)
                    && (wcr & LINKED == 0 || self.linked_context_matches(wcr))
            })
            .find_map(|(&wcr, &wvr)| watched_byte(wcr, wvr, address, size))
    }
}

/// The first byte of `address..address + size` that the watchpoint covers.
fn watched_byte(wcr: u64, wvr: u64, address: u64, size: u64) -> Option<u64> {
    const ADDRESS: u64 = 0x0001_ffff_ffff_ffff;
    let mask = wcr >> 24 & 31;
    let bytes = (0..size.min(64)).map(|offset| address.wrapping_add(offset));
    if mask >= 3 {
        let ignored = (1u64 << mask) - 1;
        let mut bytes = bytes;
        bytes.find(|byte| (byte ^ wvr) & ADDRESS & !ignored == 0)
    } else {
        let select = wcr >> 5 & 0xff;
        let mut bytes = bytes;
        bytes.find(|byte| (byte ^ wvr) & ADDRESS & !7 == 0 && select >> (byte & 7) & 1 != 0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const EL1: u64 = 1 << 1;
    const EL0: u64 = 2 << 1;

    fn regs<'a>(bvr: &'a [u64], bcr: &'a [u64], wvr: &'a [u64], wcr: &'a [u64]) -> DebugRegs<'a> {
        DebugRegs { bvr, bcr, wvr, wcr, contextidr: 7 }
    }

    #[test]
    fn breakpoints_match_address_level_and_context() {
        let on = ENABLED | EL1 | 0xf << 5;
        let hit = |bcr: &[u64], bvr: &[u64], pc, el| regs(bvr, bcr, &[], &[]).breakpoint_hit(pc, el);
        assert!(hit(&[on], &[0xffff_8000_1234_5678], 0xffff_8000_1234_5678, 1));
        assert!(!hit(&[on], &[0x1000], 0x1004, 1));
        assert!(!hit(&[on], &[0x1000], 0x1000, 0));
        assert!(hit(&[ENABLED | EL0 | 0xf << 5], &[0x1000], 0x1000, 0));
        assert!(!hit(&[on & !ENABLED], &[0x1000], 0x1000, 1));
        let link = on | 1 << 20 | 1 << 16;
        let context = ENABLED | LINKED | CONTEXT | EL1 | 0xf << 5;
        assert!(hit(&[link, context], &[0x1000, 7], 0x1000, 1));
        assert!(!hit(&[link, context], &[0x1000, 8], 0x1000, 1));
        assert!(!hit(&[link], &[0x1000], 0x1000, 1), "linked to nothing");
    }

    #[test]
    fn watchpoints_match_bytes_masks_and_direction() {
        let stores = ENABLED | EL1 | 2 << 3;
        let hit =
            |wcr: u64, wvr: u64, at, size, store| regs(&[], &[], &[wvr], &[wcr]).watchpoint_hit(at, size, store, 1);
        assert_eq!(hit(stores | 0xff << 5, 0x2000, 0x1ffc, 8, true), Some(0x2000), "an access that reaches in");
        assert_eq!(hit(stores | 0xff << 5, 0x2000, 0x2000, 8, false), None, "a load");
        assert_eq!(hit(stores | 0x10 << 5, 0x2000, 0x2000, 4, true), None, "byte 4 only");
        assert_eq!(hit(stores | 0x10 << 5, 0x2000, 0x2000, 8, true), Some(0x2004));
        assert_eq!(hit(stores | 0xff << 5 | 12 << 24, 0x3000, 0x3ff8, 8, true), Some(0x3ff8), "4 KiB mask");
        assert_eq!(hit(stores | 0xff << 5 | 12 << 24, 0x3000, 0x4000, 8, true), None);
    }

    #[test]
    fn exceptions_need_kde_and_an_open_mask_at_el1() {
        assert!(exceptions_enabled(0, false, 0, true));
        assert!(!exceptions_enabled(0, true, 0, false));
        assert!(!exceptions_enabled(MDSCR_MDE, false, 1, false));
        assert!(!exceptions_enabled(MDSCR_KDE, false, 1, true));
        assert!(exceptions_enabled(MDSCR_KDE, false, 1, false));
    }
}
