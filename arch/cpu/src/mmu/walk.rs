//! The stage 1 walker (Arm ARM D8.2 to D8.5; AArch64.S1Translate): pure but for the descriptor updates of FEAT_HAFDBS.

use super::{AccessKind, Fault, Privilege};
use crate::ram::Ram;
use crate::sysreg::Slot;
use crate::vcpu::Vcpu;

/// Memory attributes of a mapping.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Attributes {
    /// The MAIR byte.
    pub mair: u8,
    /// Shareability as the descriptor says it.
    pub sh: u8,
}

impl Attributes {
    /// Device-nGnRnE.
    pub const DEVICE: Attributes = Attributes { mair: 0, sh: 2 };
    /// Normal, write-back.
    pub const NORMAL: Attributes = Attributes { mair: 0xff, sh: 3 };

    /// Device memory of any kind: unaligned accesses fault.
    #[inline]
    pub const fn is_device(self) -> bool {
        self.mair & 0xf0 == 0
    }
}

/// Registers that a walk depends on.
#[derive(Debug, Clone, Copy)]
pub struct Controls {
    /// TCR_EL1.
    pub tcr: u64,
    /// TTBR0_EL1.
    pub ttbr0: u64,
    /// TTBR1_EL1.
    pub ttbr1: u64,
    /// MAIR_EL1.
    pub mair: u64,
    /// SCTLR_EL1.
    pub sctlr: u64,
    /// Physical address bits that exist.
    pub pa_bits: u32,
    /// TCR.HA is implemented.
    pub hardware_af: bool,
    /// TCR.HD is implemented.
    pub hardware_dirty: bool,
}

/// What the tables say about a page, before permissions are checked for somebody.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Walk {
    /// Physical address of the byte asked for.
    pub pa: u64,
    /// log2 of the mapping's bytes.
    pub block_shift: u8,
    /// Level of the descriptor.
    pub level: u8,
    /// AP[2:1] with the tables' restrictions; AP[2] as if dirty where `dirty_on_write`.
    pub ap: u8,
    /// UXN with the tables' restriction.
    pub uxn: bool,
    /// PXN with the tables' restriction.
    pub pxn: bool,
    /// Not global.
    pub ng: bool,
    /// Writable, but the descriptor must be marked dirty first.
    pub dirty_on_write: bool,
    /// Attributes.
    pub attributes: Attributes,
    /// Where the descriptor is.
    pub descriptor_pa: u64,
    /// Its value.
    pub descriptor: u64,
}

const AF: u64 = 1 << 10;
const AP2: u64 = 1 << 7;
const DBM: u64 = 1 << 51;
/// SCTLR_EL1.WXN.
const WXN: u64 = 1 << 19;

impl Walk {
    /// (readable, writable, executable) for a privilege, Arm ARM D8.4.
    pub fn permissions(&self, who: Privilege, sctlr: u64) -> (bool, bool, bool) {
        if sctlr & 1 == 0 {
            // Stage 1 disabled: no permission checks at all.
            return (true, true, true);
        }
        let user = self.ap & 1 != 0;
        let writable = self.ap & 2 == 0;
        let wxn = sctlr & WXN != 0;
        if who.el1 {
            let data = !(who.pan && user);
            let execute = !self.pxn && (!writable || !(user || wxn));
            (data, data && writable, execute)
        } else {
            let write = user && writable;
            (user, write, !(self.uxn || wxn && write))
        }
    }
}

/// Translation granule: (log2 of the page, bits a level).
#[derive(Clone, Copy)]
struct Granule {
    shift: u32,
    stride: u32,
}

const GRANULE_4K: Granule = Granule { shift: 12, stride: 9 };
const GRANULE_16K: Granule = Granule { shift: 14, stride: 11 };
const GRANULE_64K: Granule = Granule { shift: 16, stride: 13 };

/// One half of the address space as TCR describes it.
struct Half {
    granule: Granule,
    input_bits: u32,
    disabled: bool,
    tbi: bool,
    hpd: bool,
    e0pd: bool,
    ttbr: u64,
}

impl Controls {
    fn half(&self, high: bool) -> Half {
        let tcr = self.tcr;
        let (tsz, tg, epd, tbi, hpd, e0pd) = if high {
            (tcr >> 16 & 63, tcr >> 30 & 3, tcr >> 23 & 1, tcr >> 38 & 1, tcr >> 42 & 1, tcr >> 56 & 1)
        } else {
            (tcr & 63, tcr >> 14 & 3, tcr >> 7 & 1, tcr >> 37 & 1, tcr >> 41 & 1, tcr >> 55 & 1)
        };
        let granule = match (high, tg) {
            (false, 1) | (true, 3) => GRANULE_64K,
            (false, 2) | (true, 1) => GRANULE_16K,
            // Reserved values behave as 4K.
            _ => GRANULE_4K,
        };
        Half {
            granule,
            // Out of range values behave as the nearest legal one.
            input_bits: 64 - (tsz as u32).clamp(16, 39),
            disabled: epd != 0,
            tbi: tbi != 0,
            hpd: hpd != 0,
            e0pd: e0pd != 0,
            ttbr: if high { self.ttbr1 } else { self.ttbr0 },
        }
    }

    fn output_bits(&self) -> u32 {
        let ips = match self.tcr >> 32 & 7 {
            0 => 32,
            1 => 36,
            2 => 40,
            3 => 42,
            4 => 44,
            _ => 48,
        };
        ips.min(self.pa_bits)
    }
}

/// With SCTLR_EL1.M = 0: flat.
fn disabled(c: &Controls, va: u64, kind: AccessKind) -> Result<Walk, Fault> {
    let high = va >> 55 & 1 != 0;
    let va = if c.half(high).tbi { va & (u64::MAX >> 8) } else { va };
    if va >> c.pa_bits != 0 {
        return Err(Fault::AddressSize(0));
    }
    let attributes = if kind == AccessKind::Execute { Attributes::NORMAL } else { Attributes::DEVICE };
    Ok(Walk {
        pa: va,
        block_shift: 12,
        level: 0,
        ap: 1,
        uxn: false,
        pxn: false,
        ng: false,
        dirty_on_write: false,
        attributes,
        descriptor_pa: 0,
        descriptor: 0,
    })
}

/// Translates `va`. Sets the access flag of the descriptor where hardware does that. Does not check permissions.
///
/// # Errors
/// Address size, translation, access flag and table read faults.
pub fn walk(ram: &Ram, c: &Controls, va: u64, kind: AccessKind, who: Privilege) -> Result<Walk, Fault> {
    loop {
        // `None`: somebody changed the descriptor between read and update.
        if let Some(done) = walk_once(ram, c, va, kind, who)? {
            return Ok(done);
        }
    }
}

fn walk_once(ram: &Ram, c: &Controls, va: u64, kind: AccessKind, who: Privilege) -> Result<Option<Walk>, Fault> {
    if c.sctlr & 1 == 0 {
        return disabled(c, va, kind).map(Some);
    }
    let high = va >> 55 & 1 != 0;
    let half = c.half(high);
    // All bits above the input range must equal bit 55.
    let top = if half.tbi { 56 } else { 64 };
    let upper = (va << (64 - top)) as i64 >> (64 - top) >> half.input_bits;
    if upper != if high { -1 } else { 0 } || half.disabled || (half.e0pd && !who.el1) {
        return Err(Fault::Translation(0));
    }
    let Granule { shift, stride } = half.granule;
    let levels = (half.input_bits - shift).div_ceil(stride);
    let mut level = 4 - levels;
    // The first table may be smaller than a page, or concern fewer bits.
    let first_bits = half.input_bits - (shift + stride * (levels - 1));
    let output_bits = c.output_bits();
    let base = half.ttbr & 0x0000_ffff_ffff_fffe;
    if base >> output_bits != 0 {
        return Err(Fault::AddressSize(0));
    }
    let mut table = base & !((8u64 << first_bits) - 1) & !0x3f;
    let mut index_bits = first_bits;
    let (mut ap_table, mut uxn_table, mut pxn_table) = (0u8, false, false);
    loop {
        let low = shift + stride * (3 - level);
        let index = va >> low & ((1 << index_bits) - 1);
        let at = table | index << 3;
        let descriptor = ram.load_u64(at).ok_or(Fault::ExternalOnWalk(level as u8))?;
        if descriptor & 1 == 0 {
            return Err(Fault::Translation(level as u8));
        }
        if descriptor & 2 != 0 && level < 3 {
            let next = descriptor & 0x0000_ffff_ffff_ffff & !((1u64 << shift) - 1);
            if next >> output_bits != 0 {
                return Err(Fault::AddressSize(level as u8));
            }
            if !half.hpd {
                ap_table |= (descriptor >> 61 & 3) as u8;
                uxn_table |= descriptor >> 60 & 1 != 0;
                pxn_table |= descriptor >> 59 & 1 != 0;
            }
            table = next;
            level += 1;
            index_bits = stride;
            continue;
        }
        let is_page = level == 3 && descriptor & 2 != 0;
        // Blocks: 4K at levels 1 and 2, 16K and 64K at level 2 only (no LPA2, no 52-bit addresses).
        let is_block = descriptor & 2 == 0 && (level == 2 || level == 1 && shift == 12);
        if !is_page && !is_block {
            return Err(Fault::Translation(level as u8));
        }
        let leaf = Leaf { level: level as u8, low, at, descriptor, ap_table, uxn_table, pxn_table };
        return finish(ram, c, va, &leaf, output_bits);
    }
}

struct Leaf {
    level: u8,
    low: u32,
    at: u64,
    descriptor: u64,
    ap_table: u8,
    uxn_table: bool,
    pxn_table: bool,
}

fn finish(ram: &Ram, c: &Controls, va: u64, leaf: &Leaf, output_bits: u32) -> Result<Option<Walk>, Fault> {
    let mut descriptor = leaf.descriptor;
    let offset_mask = (1u64 << leaf.low) - 1;
    let output = descriptor & 0x0000_ffff_ffff_ffff & !offset_mask;
    if output >> output_bits != 0 {
        return Err(Fault::AddressSize(leaf.level));
    }
    let ha = c.hardware_af && c.tcr >> 39 & 1 != 0;
    let hd = ha && c.hardware_dirty && c.tcr >> 40 & 1 != 0;
    if descriptor & AF == 0 {
        if !ha {
            return Err(Fault::AccessFlag(leaf.level));
        }
        match ram.compare_exchange_u64(leaf.at, descriptor, descriptor | AF) {
            Some(Ok(_)) => descriptor |= AF,
            Some(Err(_)) => return Ok(None),
            None => return Err(Fault::ExternalOnWalk(leaf.level)),
        }
    }
    let mut ap = (descriptor >> 6 & 3) as u8;
    let dirty_on_write = hd && descriptor & DBM != 0 && descriptor & AP2 != 0 && leaf.ap_table & 2 == 0;
    if dirty_on_write {
        ap &= !2;
    }
    // APTable[1]: read only; APTable[0]: no EL0 access.
    ap |= leaf.ap_table & 2;
    if leaf.ap_table & 1 != 0 {
        ap &= !1;
    }
    let mair = (c.mair >> (8 * (descriptor >> 2 & 7))) as u8;
    Ok(Some(Walk {
        pa: output | va & offset_mask,
        block_shift: leaf.low as u8,
        level: leaf.level,
        ap,
        uxn: descriptor >> 54 & 1 != 0 || leaf.uxn_table,
        pxn: descriptor >> 53 & 1 != 0 || leaf.pxn_table,
        ng: descriptor >> 11 & 1 != 0,
        dirty_on_write,
        attributes: Attributes { mair, sh: (descriptor >> 8 & 3) as u8 },
        descriptor_pa: leaf.at,
        descriptor,
    }))
}

/// Marks the descriptor of a permitted write dirty (clears AP[2]). False: it changed meanwhile, walk again.
pub fn mark_dirty(ram: &Ram, walk: &Walk) -> Result<bool, Fault> {
    match ram.compare_exchange_u64(walk.descriptor_pa, walk.descriptor, walk.descriptor & !AP2) {
        Some(r) => Ok(r.is_ok()),
        None => Err(Fault::ExternalOnWalk(walk.level)),
    }
}

impl Vcpu {
    /// The registers that a walk depends on, as they are now.
    pub fn controls(&self) -> Controls {
        let a = &self.arch;
        Controls {
            tcr: a.sys(Slot::TCR_EL1),
            ttbr0: a.sys(Slot::TTBR0_EL1),
            ttbr1: a.sys(Slot::TTBR1_EL1),
            mair: a.sys(Slot::MAIR_EL1),
            sctlr: a.sys(Slot::SCTLR_EL1),
            pa_bits: crate::config::PA_BITS,
            hardware_af: self.features.hardware_af,
            hardware_dirty: self.features.hardware_dirty,
        }
    }
}
