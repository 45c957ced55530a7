//! Register map of the distributor and the redistributors: Arm IHI 0069, chapter "Programmers' Model".

/// `GICD_CTLR`.
pub const GICD_CTLR: u64 = 0x0000;
/// `GICD_CTLR.EnableGrp0` and `.EnableGrp1`: the bits that can be written.
pub const CTLR_GROUPS: u32 = 0b11;
/// `GICD_CTLR.ARE` and `.DS`, both fixed to 1. `.RWP` (bit 31) is always 0: a write is done when it returns.
pub const CTLR_FIXED: u32 = 1 << 6 | 1 << 4;
/// `GICD_TYPER`.
pub const GICD_TYPER: u64 = 0x0004;
/// `GICD_TYPER.A3V` (affinity level 3 may be nonzero), `.IDbits` = 9 (INTIDs of 10 bits), `.MBIS` (SPIs by message).
pub const TYPER_FIXED: u32 = 1 << 24 | 9 << 19 | 1 << 16;
/// `GICD_IIDR`, and `GICR_IIDR` at the offset of [`GICR_IIDR`].
pub const GICD_IIDR: u64 = 0x0008;
/// Implementer Arm (0x43b), no product, variant or revision that a driver would know errata of.
pub const IIDR: u32 = 0x43b;
/// `GICD_SETSPI_NSR`: makes an SPI pending by message.
pub const GICD_SETSPI_NSR: u64 = 0x0040;
/// `GICD_CLRSPI_NSR`: takes that back.
pub const GICD_CLRSPI_NSR: u64 = 0x0048;
/// `GICD_IROUTER<n>` for n = 32 (those below are reserved).
pub const GICD_IROUTER: u64 = 0x6100;
/// End of `GICD_IROUTER<n>`: after n = 1019.
pub const GICD_IROUTER_END: u64 = 0x7fe0;
/// `GICD_IROUTER.IRM`: any one of the processing elements that take part.
pub const IROUTER_IRM: u64 = 1 << 31;
/// `GICD_IROUTER` Aff3, Aff2, Aff1, Aff0.
pub const IROUTER_AFFINITY: u64 = 0xff_00ff_ffff;

/// `GICD_TYPER` of a GIC with LPIs: `.IDbits` (instead of 9) and `.LPIS`.
pub const TYPER_LPIS: u32 = 1 << 24 | (super::lpi::LPI_BITS - 1) << 19 | 1 << 17 | 1 << 16;

/// `GICR_CTLR`.
pub const GICR_CTLR: u64 = 0x0000;
/// `GICR_CTLR.EnableLPIs`.
pub const CTLR_ENABLE_LPIS: u32 = 1;
/// `GICR_CTLR.CES`: EnableLPIs may be cleared again. RWP (bit 3) is always 0: a write is done when it returns.
pub const CTLR_CES: u32 = 1 << 1;
/// `GICR_IIDR`.
pub const GICR_IIDR: u64 = 0x0004;
/// `GICR_TYPER`, 64 bits.
pub const GICR_TYPER: u64 = 0x0008;
/// `GICR_TYPER.PLPIS`: physical LPIs.
pub const TYPER_PLPIS: u64 = 1;
/// `GICR_TYPER.Last`.
pub const TYPER_LAST: u64 = 1 << 4;
/// `GICR_WAKER`.
pub const GICR_WAKER: u64 = 0x0014;
/// `GICR_WAKER.ProcessorSleep`.
pub const WAKER_PROCESSOR_SLEEP: u32 = 1 << 1;
/// `GICR_WAKER.ChildrenAsleep`: follows ProcessorSleep at once.
pub const WAKER_CHILDREN_ASLEEP: u32 = 1 << 2;
/// `GICR_PROPBASER`, 64 bits.
pub const GICR_PROPBASER: u64 = 0x0070;
/// Fields of `GICR_PROPBASER`: OuterCache, Physical_Address, Shareability, InnerCache, IDbits.
pub const PROPBASER_FIELDS: u64 = 0x0700_0000_0000_0000 | 0x000f_ffff_ffff_f000 | 0xf9f;
/// `GICR_PROPBASER.IDbits`: number of INTID bits less one.
pub const PROPBASER_ID_BITS: u64 = 0x1f;
/// `GICR_PROPBASER.Physical_Address`.
pub const PROPBASER_ADDRESS: u64 = 0x000f_ffff_ffff_f000;
/// `GICR_PENDBASER`, 64 bits.
pub const GICR_PENDBASER: u64 = 0x0078;
/// `GICR_PENDBASER.Physical_Address`.
pub const PENDBASER_ADDRESS: u64 = 0x000f_ffff_ffff_0000;
/// `GICR_PENDBASER.PTZ`: the pending table is all zeros.
pub const PENDBASER_PTZ: u64 = 1 << 62;
/// Fields of `GICR_PENDBASER` that read back: OuterCache, Physical_Address, Shareability, InnerCache (PTZ is write-only).
pub const PENDBASER_FIELDS: u64 = 0x0700_0000_0000_0000 | 0x000f_ffff_ffff_0000 | 0xf80;
/// Offset of the second frame of a redistributor.
pub const SGI_BASE: u64 = 0x1_0000;

/// First of the identification registers, in both the distributor and RD_base.
pub const ID_BASE: u64 = 0xffd0;
/// PIDR4..7, PIDR0..3 and CIDR0..3 from [`ID_BASE`] on: designer Arm, architecture revision 3 in `PIDR2`.
pub const ID_REGISTERS: [u8; 12] = [0x44, 0, 0, 0, 0x92, 0xb4, 0x3b, 0, 0x0d, 0xf0, 0x05, 0xb1];

/// A register of interrupt state that distributor and SGI_base lay out alike.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum IrqRegister {
    /// `IGROUPR<n>`.
    Group,
    /// `ISENABLER<n>`.
    SetEnable,
    /// `ICENABLER<n>`.
    ClearEnable,
    /// `ISPENDR<n>`.
    SetPending,
    /// `ICPENDR<n>`.
    ClearPending,
    /// `ISACTIVER<n>`.
    SetActive,
    /// `ICACTIVER<n>`.
    ClearActive,
}

/// Where an offset leads among the registers of interrupt state.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Place {
    /// One bit for each interrupt: register `.0` for INTIDs `32 * .1` onwards.
    Bits(IrqRegister, usize),
    /// `IPRIORITYR`: one byte for each interrupt; the INTID of the first byte accessed.
    Priority(usize),
    /// `ICFGR`: two bits for each interrupt; the INTID of the first.
    Config(usize),
    /// Anything else.
    Other,
}

/// Finds the interrupt-state register at `offset`, if an access of `size` bytes may go there.
pub fn place(offset: u64, size: u8) -> Place {
    let index = offset as usize;
    match (offset, size) {
        (0x080..0x400, 4) if offset.is_multiple_of(4) => {
            let register = match offset >> 7 {
                1 => IrqRegister::Group,
                2 => IrqRegister::SetEnable,
                3 => IrqRegister::ClearEnable,
                4 => IrqRegister::SetPending,
                5 => IrqRegister::ClearPending,
                6 => IrqRegister::SetActive,
                _ => IrqRegister::ClearActive,
            };
            Place::Bits(register, (index & 0x7f) / 4)
        }
        (0x400..0x7fc, 1) => Place::Priority(index - 0x400),
        (0x400..0x7fc, 4) if offset.is_multiple_of(4) => Place::Priority(index - 0x400),
        (0xc00..0xd00, 4) if offset.is_multiple_of(4) => Place::Config((index - 0xc00) * 4),
        _ => Place::Other,
    }
}

/// The identification register at `offset`, if there is one.
pub fn id_register(offset: u64) -> Option<u32> {
    let index = offset.checked_sub(ID_BASE)? / 4;
    ID_REGISTERS.get(index as usize).map(|&b| u32::from(b))
}

/// The part of a 64-bit register that an access of `size` (4 or 8) bytes at `offset` reads.
pub fn read_part(register: u64, offset: u64, size: u8) -> u64 {
    let value = register >> (8 * (offset & 4));
    if size == 8 { register } else { value & 0xffff_ffff }
}

/// `register` with the part replaced that an access of `size` (4 or 8) bytes at `offset` writes.
pub fn write_part(register: u64, offset: u64, size: u8, value: u64) -> u64 {
    match (size, offset & 4) {
        (8, _) => value,
        (_, 0) => register & !0xffff_ffff | value & 0xffff_ffff,
        _ => register & 0xffff_ffff | value << 32,
    }
}
