//! Choices inside the base classes and the functions that decode their fields.

/// Declares an enum whose variants are the values of a raw field, in order, with `from_field`.
///
/// `from_field` masks its argument to the number of variants (a power of two), so it is total and cannot panic.
#[macro_export]
macro_rules! field_enum {
    ($(#[$meta:meta])* $name:ident { $($(#[$vmeta:meta])* $variant:ident),+ $(,)? }) => {
        $(#[$meta])*
        #[derive(Copy, Clone, PartialEq, Eq, Debug, Hash)]
        #[repr(u8)]
        pub enum $name { $($(#[$vmeta])* $variant),+ }
        impl $name {
            /// All values in the order of the raw field.
            pub const ALL: &'static [$name] = &[$($name::$variant),+];
            /// The value that a raw field stands for; excess high bits are ignored.
            #[inline]
            #[must_use]
            pub const fn from_field(raw: u32) -> $name {
                const TABLE: &[$name] = &[$($name::$variant),+];
                const { assert!(TABLE.len().is_power_of_two()) };
                TABLE[raw as usize & (TABLE.len() - 1)]
            }
        }
    };
}

field_enum! {
    /// Size of one memory element, or of a vector element: the discriminant is log2 of the number of bytes.
    Size {
        /// 8 bits.
        B,
        /// 16 bits.
        H,
        /// 32 bits.
        W,
        /// 64 bits.
        X,
        /// 128 bits.
        Q,
        /// Not a size; keeps `from_field` total.
        Reserved5,
        /// Not a size; keeps `from_field` total.
        Reserved6,
        /// Not a size; keeps `from_field` total.
        Reserved7,
    }
}

impl Size {
    /// Bytes of the element: 1, 2, 4, 8 or 16.
    #[inline]
    #[must_use]
    pub const fn bytes(self) -> u32 {
        1 << self as u32
    }
    /// Bits of the element.
    #[inline]
    #[must_use]
    pub const fn bits(self) -> u32 {
        8 << self as u32
    }
    /// log2 of the bytes.
    #[inline]
    #[must_use]
    pub const fn log2(self) -> u8 {
        self as u8
    }
    /// W or X.
    #[inline]
    #[must_use]
    pub const fn of_register(sf: bool) -> Size {
        if sf { Size::X } else { Size::W }
    }
}

field_enum! {
    /// Condition code, Arm ARM C1.2.4. `Nv` executes as `Al`.
    Cond {
        /// Z
        Eq,
        /// !Z
        Ne,
        /// C
        Cs,
        /// !C
        Cc,
        /// N
        Mi,
        /// !N
        Pl,
        /// V
        Vs,
        /// !V
        Vc,
        /// C && !Z
        Hi,
        /// !(C && !Z)
        Ls,
        /// N == V
        Ge,
        /// N != V
        Lt,
        /// !Z && N == V
        Gt,
        /// !(!Z && N == V)
        Le,
        /// always
        Al,
        /// always
        Nv,
    }
}

impl Cond {
    /// True for AL and NV, which hold whatever the flags are.
    #[inline]
    #[must_use]
    pub const fn always(self) -> bool {
        matches!(self, Cond::Al | Cond::Nv)
    }
    /// The opposite condition (AL gives NV, which still holds).
    #[inline]
    #[must_use]
    pub const fn inverted(self) -> Cond {
        Cond::from_field(self as u32 ^ 1)
    }
}

field_enum! {
    /// Shift of a register operand.
    Shift {
        /// Logical left.
        Lsl,
        /// Logical right.
        Lsr,
        /// Arithmetic right.
        Asr,
        /// Rotate right.
        Ror,
    }
}

field_enum! {
    /// Extension of a register operand to 64 bits (32-bit operations use the low half of the result).
    Extend {
        /// Zero-extended byte.
        Uxtb,
        /// Zero-extended halfword.
        Uxth,
        /// Zero-extended word.
        Uxtw,
        /// The doubleword itself (LSL).
        Uxtx,
        /// Sign-extended byte.
        Sxtb,
        /// Sign-extended halfword.
        Sxth,
        /// Sign-extended word.
        Sxtw,
        /// The doubleword itself.
        Sxtx,
    }
}

field_enum! {
    /// Bitwise operation.
    LogicalOp {
        /// AND
        And,
        /// ORR
        Orr,
        /// EOR
        Eor,
        /// AND that sets flags: the raw value of ANDS; decoded classes say `And` with `setflags`.
        Ands,
    }
}

impl LogicalOp {
    /// The operation of a raw `opc` without the flag-setting variant.
    #[inline]
    #[must_use]
    pub const fn of_opc(opc: u32) -> LogicalOp {
        match LogicalOp::from_field(opc) {
            LogicalOp::Ands => LogicalOp::And,
            op => op,
        }
    }
}

/// MOVN, MOVZ, MOVK.
#[derive(Copy, Clone, PartialEq, Eq, Debug, Hash)]
#[repr(u8)]
pub enum MoveWideOp {
    /// MOVN: the complement of the shifted immediate.
    N,
    /// MOVZ.
    Z,
    /// MOVK: the other bits are kept.
    K,
}

/// SBFM, BFM, UBFM.
#[derive(Copy, Clone, PartialEq, Eq, Debug, Hash)]
#[repr(u8)]
pub enum BitfieldOp {
    /// SBFM.
    Signed,
    /// BFM: the other bits of the destination are kept.
    Insert,
    /// UBFM.
    Unsigned,
}

/// Operation on one general-purpose register.
#[derive(Copy, Clone, PartialEq, Eq, Debug, Hash)]
#[repr(u8)]
pub enum AluUn {
    /// RBIT: reverse the bits.
    Rbit,
    /// REV16: reverse the bytes of each halfword.
    Rev16,
    /// REV32, or REV on a W register: reverse the bytes of each word.
    Rev32,
    /// REV on an X register.
    Rev64,
    /// CLZ: count of leading zeros.
    Clz,
    /// CLS: count of leading bits equal to the sign bit, itself not counted.
    Cls,
}

/// Operation of the class data-processing (2 source).
#[derive(Copy, Clone, PartialEq, Eq, Debug, Hash)]
#[repr(u8)]
pub enum DataOp2 {
    /// UDIV: division by zero gives zero.
    Udiv,
    /// SDIV: division by zero gives zero, overflow wraps.
    Sdiv,
    /// LSLV: the amount is taken modulo the register size.
    Lslv,
    /// LSRV.
    Lsrv,
    /// ASRV.
    Asrv,
    /// RORV.
    Rorv,
}

field_enum! {
    /// What happens to the second operand of a conditional select when the condition fails.
    CondSelectOp {
        /// CSEL: taken as it is.
        Csel,
        /// CSINC: plus one.
        Csinc,
        /// CSINV: complemented.
        Csinv,
        /// CSNEG: negated.
        Csneg,
    }
}

/// Instructions that only change PSTATE.NZCV (FEAT_FlagM, FEAT_FlagM2).
#[derive(Copy, Clone, PartialEq, Eq, Debug, Hash)]
#[repr(u8)]
pub enum FlagOp {
    /// CFINV: invert C.
    Cfinv,
    /// AXFLAG: from the Arm to the alternative ("external") floating-point comparison format.
    Axflag,
    /// XAFLAG: the other way.
    Xaflag,
    /// SETF8: N, Z, V from the low byte.
    Setf8,
    /// SETF16: N, Z, V from the low halfword.
    Setf16,
    /// RMIF: rotate right and insert into the flags that `mask` names.
    Rmif,
}

/// Why a branch happens; call stacks and predictors care.
#[derive(Copy, Clone, PartialEq, Eq, Debug, Hash)]
#[repr(u8)]
pub enum BranchKind {
    /// B, BR, conditional branches.
    Jump,
    /// BL, BLR: X30 has been set to the return address.
    Call,
    /// RET.
    Return,
}

/// What a load does with a value shorter than the register.
#[derive(Copy, Clone, PartialEq, Eq, Debug, Hash)]
#[repr(u8)]
pub enum LoadExt {
    /// Zero-extend to 64 bits.
    Zero,
    /// Sign-extend to 32 bits, zero above.
    SignTo32,
    /// Sign-extend to 64 bits.
    SignTo64,
}

impl LoadExt {
    /// The extension of the LDRS* encodings, whose `opc<0>` set means a W register.
    #[inline]
    #[must_use]
    pub const fn signed(to_32: bool) -> LoadExt {
        if to_32 { LoadExt::SignTo32 } else { LoadExt::SignTo64 }
    }
}

/// Addressing mode of a base register with an immediate.
#[derive(Copy, Clone, PartialEq, Eq, Debug, Hash)]
#[repr(u8)]
pub enum AddrMode {
    /// `[base, #offset]`: the base does not change.
    Offset,
    /// `[base, #offset]!`: the base becomes the address.
    PreIndex,
    /// `[base], #offset`: the address is the base, which then moves.
    PostIndex,
}

field_enum! {
    /// Read-modify-write operation of FEAT_LSE; the first eight in the order of the raw `opc`.
    AtomicOp {
        /// LDADD
        Add,
        /// LDCLR: and with the complement
        Clr,
        /// LDEOR
        Eor,
        /// LDSET: or
        Set,
        /// LDSMAX
        Smax,
        /// LDSMIN
        Smin,
        /// LDUMAX
        Umax,
        /// LDUMIN
        Umin,
        /// SWP (raw `o3` set)
        Swp,
        /// Not an operation; keeps `from_field` total.
        Reserved9,
        /// Not an operation; keeps `from_field` total.
        Reserved10,
        /// Not an operation; keeps `from_field` total.
        Reserved11,
        /// Not an operation; keeps `from_field` total.
        Reserved12,
        /// Not an operation; keeps `from_field` total.
        Reserved13,
        /// Not an operation; keeps `from_field` total.
        Reserved14,
        /// Not an operation; keeps `from_field` total.
        Reserved15,
    }
}

field_enum! {
    /// Shareability domain of a barrier (CRm<3:2>).
    BarrierDomain {
        /// Outer Shareable.
        Outer,
        /// Non-shareable.
        Non,
        /// Inner Shareable.
        Inner,
        /// Full system.
        Full,
    }
}

field_enum! {
    /// Access types of a barrier (CRm<1:0>).
    BarrierTypes {
        /// Reserved: everything, as `All`.
        Reserved,
        /// Loads before, loads and stores after.
        Reads,
        /// Stores.
        Writes,
        /// Everything.
        All,
    }
}

/// PSTATE field of MSR (immediate), Arm ARM C5.1.3.
#[derive(Copy, Clone, PartialEq, Eq, Debug, Hash)]
#[repr(u8)]
pub enum PstateField {
    /// SPSel (op1 0, op2 5).
    SpSel,
    /// DAIFSet (3, 6).
    DaifSet,
    /// DAIFClr (3, 7).
    DaifClr,
    /// UAO (0, 3), FEAT_UAO.
    Uao,
    /// PAN (0, 4), FEAT_PAN.
    Pan,
    /// SSBS (3, 1), FEAT_SSBS.
    Ssbs,
    /// DIT (3, 2), FEAT_DIT.
    Dit,
}

/// Target Exception level of a DCPS.
#[derive(Copy, Clone, PartialEq, Eq, Debug, Hash)]
#[repr(u8)]
pub enum DcpsLevel {
    /// DCPS1
    El1 = 1,
    /// DCPS2
    El2 = 2,
    /// DCPS3
    El3 = 3,
}

/// Encoding of a system register or system instruction: `op0:op1:CRn:CRm:op2` in 16 bits, op0 highest.
#[derive(Copy, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SysEnc(pub u16);

impl SysEnc {
    /// Packs the five fields; excess high bits are ignored.
    #[inline]
    #[must_use]
    pub const fn new(op0: u32, op1: u32, crn: u32, crm: u32, op2: u32) -> SysEnc {
        SysEnc(((op0 & 3) << 14 | (op1 & 7) << 11 | (crn & 15) << 7 | (crm & 15) << 3 | (op2 & 7)) as u16)
    }
    /// The fields as they stand in bits 20:5 of the instruction.
    #[inline]
    #[must_use]
    pub const fn from_insn_bits(bits_20_5: u32) -> SysEnc {
        SysEnc(bits_20_5 as u16)
    }
    /// op0, 0 to 3.
    #[inline]
    #[must_use]
    pub const fn op0(self) -> u8 {
        (self.0 >> 14) as u8
    }
    /// op1, 0 to 7.
    #[inline]
    #[must_use]
    pub const fn op1(self) -> u8 {
        (self.0 >> 11) as u8 & 7
    }
    /// CRn, 0 to 15.
    #[inline]
    #[must_use]
    pub const fn crn(self) -> u8 {
        (self.0 >> 7) as u8 & 15
    }
    /// CRm, 0 to 15.
    #[inline]
    #[must_use]
    pub const fn crm(self) -> u8 {
        (self.0 >> 3) as u8 & 15
    }
    /// op2, 0 to 7.
    #[inline]
    #[must_use]
    pub const fn op2(self) -> u8 {
        self.0 as u8 & 7
    }
}

impl std::fmt::Debug for SysEnc {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        std::fmt::Display::fmt(self, f)
    }
}

/// The generic assembler name, `S3_0_C1_C0_0`.
impl std::fmt::Display for SysEnc {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "S{}_{}_C{}_C{}_{}", self.op0(), self.op1(), self.crn(), self.crm(), self.op2())
    }
}

/// Sign-extends the low `bits` (1 to 32) of `value`.
#[inline]
#[must_use]
pub const fn sext(value: u32, bits: u32) -> i64 {
    let shift = 64 - bits;
    ((value as u64) << shift) as i64 >> shift
}

/// A signed, scaled immediate: the low `bits` of `value` times `1 << scale`.
#[inline]
#[must_use]
pub const fn sext_scaled(value: u32, bits: u32, scale: u32) -> i64 {
    sext(value, bits) << scale
}

/// Byte offset of a branch whose field counts instructions.
#[inline]
#[must_use]
pub const fn branch_offset(field: u32, bits: u32) -> i64 {
    sext_scaled(field, bits, 2)
}

/// Offset of ADR, or of ADRP when `page`.
#[inline]
#[must_use]
pub const fn adr_offset(page: bool, immhi: u32, immlo: u32) -> i64 {
    sext_scaled(immhi << 2 | immlo, 21, if page { 12 } else { 0 })
}

/// DecodeBitMasks of the Arm ARM for logical immediates: the expanded mask, `None` when reserved.
#[inline]
#[must_use]
pub const fn bitmask(sf: bool, n: bool, immr: u32, imms: u32) -> Option<u64> {
    let selector = (n as u32) << 6 | (!imms & 0x3f);
    if selector < 2 || (n && !sf) {
        return None;
    }
    let log2 = 31 - selector.leading_zeros();
    let size = 1u32 << log2;
    let levels = size - 1;
    let ones = imms & levels;
    if ones == levels {
        return None;
    }
    let rotate = immr & levels;
    let element_mask = u64::MAX >> (64 - size);
    let run = (1u64 << (ones + 1)) - 1;
    let rotated = if rotate == 0 { run } else { (run >> rotate | run << (size - rotate)) & element_mask };
    // Replicates the element over 64 bits: u64::MAX / element_mask has a one at the bottom of each element.
    let all = rotated * (u64::MAX / element_mask);
    Some(if sf { all } else { all & 0xffff_ffff })
}

/// As [`bitmask`], 0 when reserved: for constructors whose guard has excluded that.
#[inline]
#[must_use]
pub const fn bitmask_or_zero(sf: bool, n: bool, immr: u32, imms: u32) -> u64 {
    match bitmask(sf, n, immr, imms) {
        Some(mask) => mask,
        None => 0,
    }
}

/// The immediate of ADD/SUB: `imm12`, shifted left by 12 when `sh`.
#[inline]
#[must_use]
pub const fn add_imm(sh: bool, imm12: u32) -> u32 {
    if sh { imm12 << 12 } else { imm12 }
}

/// Left and right shift that move a bitfield in place: the field `immr`, `imms` of a source is
/// `(src << left) >> right` in 64 bits (arithmetic for SBFM, whose 32-bit form then drops the upper half).
#[inline]
#[must_use]
pub const fn bitfield_shifts(sf: bool, immr: u8, imms: u8) -> (u8, u8) {
    let left = 63 - imms;
    let size = if sf { 64 } else { 32 };
    // For imms < immr the field of imms+1 bits goes up to position size-immr, and imms + size - immr <= 63.
    let right = if imms >= immr { left + immr } else { left + immr - size };
    (left, right)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The pseudocode of the Arm ARM (J1.3.3, DecodeBitMasks), bit by bit.
    fn bitmask_naive(sf: bool, n: bool, immr: u32, imms: u32) -> Option<u64> {
        let length = (0..7).rev().find(|&i| (u32::from(n) << 6 | (!imms & 63)) >> i & 1 == 1)?;
        if length < 1 || (n && !sf) {
            return None;
        }
        let size = 1u32 << length;
        let (s, r) = (imms & (size - 1), immr & (size - 1));
        if s == size - 1 {
            return None;
        }
        let width = if sf { 64 } else { 32 };
        let bit = |i: u32| u64::from((i % size + r) % size <= s) << i;
        Some((0..width).map(bit).sum())
    }

    #[test]
    fn bitmask_agrees_with_the_pseudocode_for_every_field_value() {
        let mut valid = 0;
        for raw in 0..1u32 << 14 {
            let (sf, n, immr, imms) = (raw >> 13 & 1 != 0, raw >> 12 & 1 != 0, raw >> 6 & 63, raw & 63);
            assert_eq!(bitmask(sf, n, immr, imms), bitmask_naive(sf, n, immr, imms), "{sf} {n} {immr} {imms}");
            valid += u32::from(bitmask(sf, n, immr, imms).is_some());
        }
        assert!(valid > 5334, "5334 distinct 64-bit masks exist");
    }

    #[test]
    fn sign_extension_covers_the_edges() {
        assert_eq!(sext(0x1ff, 9), -1);
        assert_eq!(sext(0x0ff, 9), 255);
        assert_eq!(branch_offset(0x200_0000, 26), -(1 << 27));
        assert_eq!(adr_offset(true, 0x4_0000, 0), -(1 << 32));
    }

    #[test]
    fn sysenc_round_trips() {
        let e = SysEnc::new(3, 3, 14, 0, 2);
        assert_eq!((e.op0(), e.op1(), e.crn(), e.crm(), e.op2()), (3, 3, 14, 0, 2));
        assert_eq!(e.to_string(), "S3_3_C14_C0_2");
    }
}
