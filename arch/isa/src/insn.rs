//! `Insn`: a decoded instruction, one variant per *class* of encodings that share one meaning function.
//!
//! Fields are extracted once, at decode time, into the form that executing wants: immediates are expanded and scaled, branch
//! offsets are in bytes, operation choices are small enums. The interpreter, the translator's lowerings and the meaning functions
//! in `crate::sem` all match on this enum. It stays `Copy` and at most 16 bytes, so that a page of decoded code is an array.

#![expect(missing_docs, reason = "fields share the conventions stated at `Insn`; each variant is documented")]

pub use crate::operand::{
    AddrMode, AluUn, AtomicOp, BarrierDomain, BarrierTypes, BitfieldOp, BranchKind, Cond, CondSelectOp, DataOp2,
    DcpsLevel, Extend, FlagOp, LoadExt, LogicalOp, MoveWideOp, PstateField, Shift, Size, SysEnc,
};

pub use crate::fp::{FpBinOp, FpMulAddOp, FpRelation, FpRounding, FpShape, FpSize, FpUnOp};
pub use crate::simd::{
    Accumulate, AesOp, ESize, ShaOp, VecAcrossOp, VecBinOp, VecImmOp, VecLongOp, VecNarrowOp, VecPairLongOp,
    VecPermuteOp, VecShiftOp, VecShiftRegOp, VecTernOp, VecUnOp, VecWidth,
};

/// A register number, 0 to 31. Whether 31 means the zero register or SP is a matter of the class.
pub type Reg = u8;

/// A decoded instruction. Variant names follow the classes of the Arm ARM, chapter C4 ("A64 Instruction Set Encoding").
///
/// Conventions: `sf` = 64-bit operation (else 32-bit: results are zero-extended to 64 bits); `offset` = bytes, signed;
/// `rn` of a memory class = base register, where 31 means SP; elsewhere 31 means ZR unless the variant says otherwise.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub enum Insn {
    /// Unallocated, not offered, or architecturally UNDEFINED in this state.
    Undefined,
    /// UDF: permanently undefined; `imm` for debuggers only.
    Udf {
        /// The 16-bit comment field.
        imm: u16,
    },

    // ---- base: data processing, immediate -------------------------------------------------------------------------------------
    /// ADR, ADRP: PC (or its page when `page`) plus `offset`.
    PcRel { rd: Reg, page: bool, offset: i64 },
    /// ADD, ADDS, SUB, SUBS (immediate). `rn` 31 = SP; `rd` 31 = SP unless `setflags`, then ZR. `imm` is already shifted.
    AddSubImm { sf: bool, sub: bool, setflags: bool, rd: Reg, rn: Reg, imm: u32 },
    /// AND, ORR, EOR, ANDS (immediate). `rd` 31 = SP unless `setflags`, then ZR. `imm` is the expanded bitmask.
    LogicalImm { sf: bool, op: LogicalOp, setflags: bool, rd: Reg, rn: Reg, imm: u64 },
    /// MOVN, MOVZ, MOVK: `imm` shifted left by `shift` (0, 16, 32, 48) bits.
    MoveWide { sf: bool, op: MoveWideOp, rd: Reg, shift: u8, imm: u16 },
    /// SBFM, BFM, UBFM and so all immediate shifts and extensions.
    Bitfield { sf: bool, op: BitfieldOp, rd: Reg, rn: Reg, immr: u8, imms: u8 },
    /// EXTR (ROR immediate when `rn == rm`).
    Extract { sf: bool, rd: Reg, rn: Reg, rm: Reg, lsb: u8 },

    // ---- base: data processing, register --------------------------------------------------------------------------------------
    /// ADD, ADDS, SUB, SUBS (shifted register). `shift` is never ROR.
    AddSubShifted { sf: bool, sub: bool, setflags: bool, shift: Shift, amount: u8, rd: Reg, rn: Reg, rm: Reg },
    /// ADD, ADDS, SUB, SUBS (extended register). `rn` 31 = SP; `rd` 31 = SP unless `setflags`. `shift` 0 to 4.
    AddSubExtended { sf: bool, sub: bool, setflags: bool, extend: Extend, shift: u8, rd: Reg, rn: Reg, rm: Reg },
    /// ADC, ADCS, SBC, SBCS.
    AddSubCarry { sf: bool, sub: bool, setflags: bool, rd: Reg, rn: Reg, rm: Reg },
    /// AND, BIC, ORR, ORN, EOR, EON, ANDS, BICS (shifted register); `invert` complements the shifted operand.
    LogicalShifted {
        sf: bool,
        op: LogicalOp,
        invert: bool,
        setflags: bool,
        shift: Shift,
        amount: u8,
        rd: Reg,
        rn: Reg,
        rm: Reg,
    },
    /// RBIT, REV16, REV32, REV, CLZ, CLS.
    DataProc1 { sf: bool, op: AluUn, rd: Reg, rn: Reg },
    /// UDIV, SDIV, LSLV, LSRV, ASRV, RORV.
    DataProc2 { sf: bool, op: DataOp2, rd: Reg, rn: Reg, rm: Reg },
    /// CRC32x (polynomial 0x04C11DB7) and CRC32Cx (`castagnoli`, 0x1EDC6F41) over `size` bytes of `rm`.
    Crc32 { castagnoli: bool, size: Size, rd: Reg, rn: Reg, rm: Reg },
    /// MADD, MSUB.
    MulAdd { sf: bool, sub: bool, rd: Reg, rn: Reg, rm: Reg, ra: Reg },
    /// SMADDL, SMSUBL, UMADDL, UMSUBL.
    MulAddLong { signed: bool, sub: bool, rd: Reg, rn: Reg, rm: Reg, ra: Reg },
    /// SMULH, UMULH.
    MulHigh { signed: bool, rd: Reg, rn: Reg, rm: Reg },
    /// CSEL, CSINC, CSINV, CSNEG.
    CondSelect { sf: bool, op: CondSelectOp, cond: Cond, rd: Reg, rn: Reg, rm: Reg },
    /// CCMP (`sub`), CCMN with a register.
    CondCompareReg { sf: bool, sub: bool, cond: Cond, nzcv: u8, rn: Reg, rm: Reg },
    /// CCMP (`sub`), CCMN with a 5-bit immediate.
    CondCompareImm { sf: bool, sub: bool, cond: Cond, nzcv: u8, rn: Reg, imm: u8 },
    /// CFINV, AXFLAG, XAFLAG, SETF8, SETF16 and RMIF: PSTATE.NZCV alone changes. `rn` is read by the last three.
    FlagManip { op: FlagOp, rn: Reg, rotate: u8, mask: u8 },

    // ---- base: branches -------------------------------------------------------------------------------------------------------
    /// B, BL.
    Branch { link: bool, offset: i64 },
    /// B.cond.
    BranchCond { cond: Cond, offset: i64 },
    /// CBZ, CBNZ.
    CompareBranch { sf: bool, nonzero: bool, rt: Reg, offset: i64 },
    /// TBZ, TBNZ of bit `bit`.
    TestBranch { nonzero: bool, bit: u8, rt: Reg, offset: i64 },
    /// BR, BLR, RET.
    BranchReg { kind: BranchKind, rn: Reg },

    // ---- base: loads and stores -----------------------------------------------------------------------------------------------
    /// LDR, LDUR, LDTR and their B, H, SB, SH, SW forms with an immediate offset.
    LoadImm { size: Size, ext: LoadExt, unpriv: bool, mode: AddrMode, rt: Reg, rn: Reg, offset: i64 },
    /// STR, STUR, STTR and their B, H forms with an immediate offset.
    StoreImm { size: Size, unpriv: bool, mode: AddrMode, rt: Reg, rn: Reg, offset: i64 },
    /// LDR (register).
    LoadReg { size: Size, ext: LoadExt, extend: Extend, shift: u8, rt: Reg, rn: Reg, rm: Reg },
    /// STR (register).
    StoreReg { size: Size, extend: Extend, shift: u8, rt: Reg, rn: Reg, rm: Reg },
    /// LDR (literal), LDRSW (literal).
    LoadLiteral { size: Size, ext: LoadExt, rt: Reg, offset: i64 },
    /// LDP, LDPSW, LDNP.
    LoadPair { size: Size, ext: LoadExt, mode: AddrMode, rt: Reg, rt2: Reg, rn: Reg, offset: i16 },
    /// STP, STNP.
    StorePair { size: Size, mode: AddrMode, rt: Reg, rt2: Reg, rn: Reg, offset: i16 },
    /// LDAR, LDLAR, LDAPR, LDAPUR*: `pc` = the weaker RCpc acquire.
    LoadAcquire { size: Size, ext: LoadExt, pc: bool, rt: Reg, rn: Reg, offset: i16 },
    /// STLR, STLLR, STLUR*.
    StoreRelease { size: Size, rt: Reg, rn: Reg, offset: i16 },
    /// LDXR, LDAXR.
    LoadExclusive { size: Size, acquire: bool, rt: Reg, rn: Reg },
    /// STXR, STLXR: status (0 = stored) to `rs`.
    StoreExclusive { size: Size, release: bool, rs: Reg, rt: Reg, rn: Reg },
    /// LDXP, LDAXP: `size` is that of one register.
    LoadExclusivePair { size: Size, acquire: bool, rt: Reg, rt2: Reg, rn: Reg },
    /// STXP, STLXP.
    StoreExclusivePair { size: Size, release: bool, rs: Reg, rt: Reg, rt2: Reg, rn: Reg },
    /// LDADD, LDCLR, LDEOR, LDSET, LDSMAX, LDSMIN, LDUMAX, LDUMIN, SWP: old value to `rt`.
    AtomicRmw { size: Size, op: AtomicOp, acquire: bool, release: bool, rs: Reg, rt: Reg, rn: Reg },
    /// CAS: compares with `rs`, stores `rt`, old value to `rs`.
    CompareSwap { size: Size, acquire: bool, release: bool, rs: Reg, rt: Reg, rn: Reg },
    /// CASP: as CAS on the pairs `rs`, `rs + 1` and `rt`, `rt + 1` (both even); `size` is that of one register.
    CompareSwapPair { size: Size, acquire: bool, release: bool, rs: Reg, rt: Reg, rn: Reg },

    // ---- base: system ---------------------------------------------------------------------------------------------------------
    /// NOP, PRFM and every hint without effect here (PAC*, AUT*, BTI, CSDB, DGH, TSB, PSB, unallocated hints).
    Nop,
    /// YIELD.
    Yield,
    /// WFE.
    Wfe,
    /// WFI.
    Wfi,
    /// SEV.
    Sev,
    /// SEVL.
    Sevl,
    /// ESB (RAS error synchronization).
    Esb,
    /// WFET: WFE with a timeout at the counter value in `rt`.
    Wfet { rt: Reg },
    /// WFIT: WFI with a timeout at the counter value in `rt`.
    Wfit { rt: Reg },
    /// CLREX.
    Clrex,
    /// DSB, SSBB and PSSBB (which are DSBs here).
    Dsb { domain: BarrierDomain, types: BarrierTypes },
    /// DMB.
    Dmb { domain: BarrierDomain, types: BarrierTypes },
    /// ISB.
    Isb,
    /// SB (speculation barrier).
    Sb,
    /// MRS: system register to `rt`.
    Mrs { enc: SysEnc, rt: Reg },
    /// MSR (register): `rt` to system register.
    Msr { enc: SysEnc, rt: Reg },
    /// MSR (immediate).
    MsrImm { field: PstateField, imm: u8 },
    /// SYS: AT, DC, IC, TLBI, CFP and so on.
    Sys { enc: SysEnc, rt: Reg },
    /// SYSL.
    Sysl { enc: SysEnc, rt: Reg },
    /// SVC.
    Svc { imm: u16 },
    /// HVC.
    Hvc { imm: u16 },
    /// SMC.
    Smc { imm: u16 },
    /// BRK.
    Brk { imm: u16 },
    /// HLT.
    Hlt { imm: u16 },
    /// DCPS1, DCPS2, DCPS3: UNDEFINED outside Debug state.
    Dcps { level: DcpsLevel, imm: u16 },
    /// ERET.
    Eret,
    // ---- floating point: scalar and vector ------------------------------------------------------------------------------------
    /// FADD, FSUB, FMUL, FNMUL, FDIV, FMAX, FMIN, FMAXNM, FMINNM, FMULX, FABD, FRECPS, FRSQRTS: scalar and vector.
    FpBin { op: FpBinOp, shape: FpShape, rd: Reg, rn: Reg, rm: Reg },
    /// FMUL, FMULX (by element): every element of `rn` with element `index` of `rm`.
    FpBinElement { op: FpBinOp, shape: FpShape, rd: Reg, rn: Reg, rm: Reg, index: u8 },
    /// FADDP, FMAXP, FMINP, FMAXNMP, FMINNMP (vector): adjacent pairs of `rn`, then of `rm`.
    FpPairwise { op: FpBinOp, shape: FpShape, rd: Reg, rn: Reg, rm: Reg },
    /// FADDP, FMAXP... (scalar) and FMAXV...: all elements of `rn`, which has `shape`, to one scalar.
    FpReduce { op: FpBinOp, shape: FpShape, rd: Reg, rn: Reg },
    /// FMADD, FMSUB, FNMADD, FNMSUB, and FMLA, FMLS (vector), whose addend `ra` is `rd`.
    FpMulAdd { op: FpMulAddOp, shape: FpShape, rd: Reg, rn: Reg, rm: Reg, ra: Reg },
    /// FMLA, FMLS (by element), scalar and vector: the addend is `rd`.
    FpMulAddElement { op: FpMulAddOp, shape: FpShape, rd: Reg, rn: Reg, rm: Reg, index: u8 },
    /// FMOV (register), FABS, FNEG, FSQRT, FRECPE, FRSQRTE, FRECPX, URECPE, URSQRTE.
    FpUn { op: FpUnOp, shape: FpShape, rd: Reg, rn: Reg },
    /// FRINT*: `None` rounds by FPCR, `exact` sets IXC when the value changes.
    FpRoundToInt { rounding: Option<FpRounding>, exact: bool, shape: FpShape, rd: Reg, rn: Reg },
    /// FMOV (scalar and vector, immediate): the 8-bit immediate as [`expand_immediate`](crate::fp::expand_immediate) reads it.
    FpImmediate { shape: FpShape, rd: Reg, imm8: u8 },
    /// FCVT between formats, scalar, rounded by FPCR.
    FpConvert { from: FpSize, to: FpSize, rd: Reg, rn: Reg },
    /// FCVTXN (scalar): double to single, rounded to odd.
    FpConvertToOdd { rd: Reg, rn: Reg },
    /// FCVTL (lower half of `rn`), FCVTL2 (`upper` half): elements of format `from` to the next larger one.
    FpWiden { from: FpSize, upper: bool, rd: Reg, rn: Reg },
    /// FCVTN, FCVTXN (`to_odd`) to the lower half of `rd`, zero above; FCVTN2, FCVTXN2 (`upper`) to its upper half.
    FpNarrow { to: FpSize, to_odd: bool, upper: bool, rd: Reg, rn: Reg },
    /// FCMEQ, FCMGE, FCMGT, FACGE, FACGT: all ones or all zeros per element.
    FpCompareMask { relation: FpRelation, shape: FpShape, rd: Reg, rn: Reg, rm: Reg },
    /// FCMEQ, FCMGE, FCMGT (zero); FCMLE and FCMLT as the `reversed` FCMGE and FCMGT of zero and the element.
    FpCompareMaskZero { relation: FpRelation, reversed: bool, shape: FpShape, rd: Reg, rn: Reg },
    /// FCMP, FCMPE (`signal`: quiet NaNs set IOC too); `zero` compares with +0 instead of `rm`.
    FpCompare { size: FpSize, signal: bool, zero: bool, rn: Reg, rm: Reg },
    /// FCCMP, FCCMPE: when `cond` fails, NZCV becomes `nzcv`.
    FpCondCompare { size: FpSize, signal: bool, cond: Cond, nzcv: u8, rn: Reg, rm: Reg },
    /// FCSEL.
    FpCondSelect { size: FpSize, cond: Cond, rd: Reg, rn: Reg, rm: Reg },
    /// FCVT{N,P,M,Z,A}{S,U} and fixed-point FCVTZ{S,U} to the general-purpose register `rd`.
    FpToGpr { size: FpSize, sf: bool, unsigned: bool, rounding: FpRounding, fraction_bits: u8, rd: Reg, rn: Reg },
    /// SCVTF, UCVTF, integer and fixed-point, from the general-purpose register `rn`; rounded by FPCR.
    GprToFp { size: FpSize, sf: bool, unsigned: bool, fraction_bits: u8, rd: Reg, rn: Reg },
    /// FCVT{N,P,M,Z,A}{S,U} and fixed-point FCVTZ{S,U} on the elements of a vector register.
    FpToIntLanes { shape: FpShape, unsigned: bool, rounding: FpRounding, fraction_bits: u8, rd: Reg, rn: Reg },
    /// SCVTF, UCVTF, integer and fixed-point, on the elements of a vector register; rounded by FPCR.
    IntToFpLanes { shape: FpShape, unsigned: bool, fraction_bits: u8, rd: Reg, rn: Reg },
    /// FJCVTZS: double to 32-bit integer modulo 2^32; NZCV = 0, exact, 0, 0.
    FpJavaScriptConvert { rd: Reg, rn: Reg },
    /// FMOV Wd, Sn; FMOV Xd, Dn; FMOV Xd, Vn.D[1] (`top`): the bits as they are.
    FpMoveToGpr { size: FpSize, top: bool, rd: Reg, rn: Reg },
    /// FMOV Sd, Wn; FMOV Dd, Xn: zero above. FMOV Vd.D[1], Xn (`top`): the lower half is kept.
    FpMoveFromGpr { size: FpSize, top: bool, rd: Reg, rn: Reg },
    // ---- Advanced SIMD: integer, permute, SIMD&FP loads and stores, crypto ----------------------------------------------------
    // Vector and scalar forms are one class: `width` is what is written, the rest of the register becomes zero. `es` = element size
    // of the sources, unless said otherwise.
    /// Operations on two vectors: AND, ADD, CMEQ, SQADD, SMAX, ADDP and so on.
    VecBin { op: VecBinOp, es: ESize, width: VecWidth, rd: Reg, rn: Reg, rm: Reg },
    /// The same with element `index` of `rm` for every element: MUL, SQDMULH, SQRDMULH.
    VecBinElem { op: VecBinOp, es: ESize, width: VecWidth, rd: Reg, rn: Reg, rm: Reg, index: u8 },
    /// SUQADD, USQADD: `rd` is the first operand.
    VecBinAcc { op: VecBinOp, es: ESize, width: VecWidth, rd: Reg, rn: Reg },
    /// Operations that also read `rd`: MLA, SABA, BSL, SDOT and so on. `es` of SDOT and UDOT is that of the sums.
    VecTern { op: VecTernOp, es: ESize, width: VecWidth, rd: Reg, rn: Reg, rm: Reg },
    /// The same with element `index` of `rm` for every element.
    VecTernElem { op: VecTernOp, es: ESize, width: VecWidth, rd: Reg, rn: Reg, rm: Reg, index: u8 },
    /// Operations on one vector: ABS, NOT, REV64, CMEQ (zero) and so on.
    VecUn { op: VecUnOp, es: ESize, width: VecWidth, rd: Reg, rn: Reg },
    /// SSHL, SQRSHL and so on: shifts by a register.
    VecShiftReg { op: VecShiftRegOp, es: ESize, width: VecWidth, rd: Reg, rn: Reg, rm: Reg },
    /// SHL, SSHR, URSHR, SQSHLU and so on: shifts by an immediate.
    VecShift { op: VecShiftOp, es: ESize, width: VecWidth, count: u8, rd: Reg, rn: Reg },
    /// SSRA, USRA, SRSRA, URSRA: the shifted value is added to `rd`.
    VecShiftAcc { op: VecShiftOp, es: ESize, width: VecWidth, count: u8, rd: Reg, rn: Reg },
    /// SLI (`left`), SRI.
    VecShiftInsert { left: bool, es: ESize, width: VecWidth, count: u8, rd: Reg, rn: Reg },
    /// SADDLP, UADDLP; SADALP, UADALP when `accumulate`. `width` is that of source and result.
    VecPairLong { op: VecPairLongOp, accumulate: bool, es: ESize, width: VecWidth, rd: Reg, rn: Reg },
    /// XTN, SQXTN, UQXTN, SQXTUN and, with a `count`, SHRN and so on. `es` is that of the result, which goes to the upper half of `rd`
    /// when `upper`.
    VecNarrow { op: VecNarrowOp, round: bool, es: ESize, scalar: bool, upper: bool, count: u8, rd: Reg, rn: Reg },
    /// SSHLL, USHLL, SHLL of the lower or `upper` half.
    VecWiden { signed: bool, es: ESize, upper: bool, count: u8, rd: Reg, rn: Reg },
    /// SADDL, UMULL, SQDMLAL, PMULL and so on, of the lower or `upper` halves. `width` is that of the result.
    VecLong { op: VecLongOp, acc: Accumulate, es: ESize, width: VecWidth, upper: bool, rd: Reg, rn: Reg, rm: Reg },
    /// The same with element `index` of `rm` for every element.
    VecLongElem {
        op: VecLongOp,
        acc: Accumulate,
        es: ESize,
        width: VecWidth,
        upper: bool,
        rd: Reg,
        rn: Reg,
        rm: Reg,
        index: u8,
    },
    /// SADDW, UADDW, SSUBW, USUBW: `rm` has the narrow elements, of size `es`.
    VecWide { sub: bool, signed: bool, es: ESize, upper: bool, rd: Reg, rn: Reg, rm: Reg },
    /// ADDHN, RADDHN, SUBHN, RSUBHN. `es` is that of the result, which goes to the upper half of `rd` when `upper`.
    VecHighNarrow { sub: bool, round: bool, es: ESize, upper: bool, rd: Reg, rn: Reg, rm: Reg },
    /// ADDV, SADDLV, SMAXV and so on; ADDP (scalar).
    VecAcross { op: VecAcrossOp, es: ESize, width: VecWidth, rd: Reg, rn: Reg },
    /// ZIP, UZP, TRN.
    VecPermute { op: VecPermuteOp, es: ESize, width: VecWidth, rd: Reg, rn: Reg, rm: Reg },
    /// EXT: from byte `index` of `rm:rn`.
    VecExtract { width: VecWidth, index: u8, rd: Reg, rn: Reg, rm: Reg },
    /// TBL, or TBX when bytes outside the table are to `keep` their value. The table is `registers` (1 to 4) registers from `rn`.
    VecTable { keep: bool, width: VecWidth, registers: u8, rd: Reg, rn: Reg, rm: Reg },
    /// DUP (element).
    VecDupElem { es: ESize, width: VecWidth, index: u8, rd: Reg, rn: Reg },
    /// DUP (general).
    VecDupGeneral { es: ESize, width: VecWidth, rd: Reg, rn: Reg },
    /// INS (element): element `from` of `rn` to element `to` of `rd`.
    VecInsElem { es: ESize, to: u8, from: u8, rd: Reg, rn: Reg },
    /// INS (general).
    VecInsGeneral { es: ESize, index: u8, rd: Reg, rn: Reg },
    /// SMOV, UMOV: an element to a general-purpose register.
    VecToGeneral { signed: bool, sf: bool, es: ESize, index: u8, rd: Reg, rn: Reg },
    /// MOVI, MVNI, ORR, BIC (vector, immediate): `imm` for each 64 bits.
    VecImm { op: VecImmOp, width: VecWidth, rd: Reg, imm: u64 },
    /// AESE, AESD, AESMC, AESIMC.
    CryptoAes { op: AesOp, rd: Reg, rn: Reg },
    /// SHA1*, SHA256*. `rm` is not read by the operations that have two registers.
    CryptoSha { op: ShaOp, rd: Reg, rn: Reg, rm: Reg },
    /// LDR, LDUR of a SIMD&FP register with an immediate offset.
    SimdLoadImm { width: VecWidth, mode: AddrMode, rt: Reg, rn: Reg, offset: i32 },
    /// STR, STUR of a SIMD&FP register with an immediate offset.
    SimdStoreImm { width: VecWidth, mode: AddrMode, rt: Reg, rn: Reg, offset: i32 },
    /// LDR (register) of a SIMD&FP register.
    SimdLoadReg { width: VecWidth, extend: Extend, shift: u8, rt: Reg, rn: Reg, rm: Reg },
    /// STR (register) of a SIMD&FP register.
    SimdStoreReg { width: VecWidth, extend: Extend, shift: u8, rt: Reg, rn: Reg, rm: Reg },
    /// LDR (literal) of a SIMD&FP register.
    SimdLoadLiteral { width: VecWidth, rt: Reg, offset: i32 },
    /// LDP, LDNP of SIMD&FP registers; `width` is that of one.
    SimdLoadPair { width: VecWidth, mode: AddrMode, rt: Reg, rt2: Reg, rn: Reg, offset: i16 },
    /// STP, STNP of SIMD&FP registers; `width` is that of one.
    SimdStorePair { width: VecWidth, mode: AddrMode, rt: Reg, rt2: Reg, rn: Reg, offset: i16 },
    /// LD1 to LD4 (multiple structures): `structure` elements each, to `registers` registers from `rt`. When `post`, the base then moves
    /// by `rm`, or by the bytes read if `rm` is 31.
    VecLoadMultiple { es: ESize, width: VecWidth, structure: u8, registers: u8, post: bool, rt: Reg, rn: Reg, rm: Reg },
    /// ST1 to ST4 (multiple structures), as the loads.
    VecStoreMultiple { es: ESize, width: VecWidth, structure: u8, registers: u8, post: bool, rt: Reg, rn: Reg, rm: Reg },
    /// LD1 to LD4 (single structure): to element `index` of `structure` registers from `rt`; `post` and `rm` as above.
    VecLoadSingle { es: ESize, index: u8, structure: u8, post: bool, rt: Reg, rn: Reg, rm: Reg },
    /// ST1 to ST4 (single structure), as the loads.
    VecStoreSingle { es: ESize, index: u8, structure: u8, post: bool, rt: Reg, rn: Reg, rm: Reg },
    /// LD1R to LD4R: to every element of `structure` registers from `rt`; `post` and `rm` as above.
    VecLoadReplicate { es: ESize, width: VecWidth, structure: u8, post: bool, rt: Reg, rn: Reg, rm: Reg },
}

impl Insn {
    /// Whether the instruction is of a floating-point class: it reads FPCR or FPSR, or moves or makes a floating-point
    /// number. Loads, stores and the integer and cryptographic classes of Advanced SIMD are none.
    #[must_use]
    #[inline]
    pub const fn is_floating_point(&self) -> bool {
        matches!(
            self,
            Insn::FpBin { .. }
                | Insn::FpBinElement { .. }
                | Insn::FpPairwise { .. }
                | Insn::FpReduce { .. }
                | Insn::FpMulAdd { .. }
                | Insn::FpMulAddElement { .. }
                | Insn::FpUn { .. }
                | Insn::FpRoundToInt { .. }
                | Insn::FpImmediate { .. }
                | Insn::FpConvert { .. }
                | Insn::FpConvertToOdd { .. }
                | Insn::FpWiden { .. }
                | Insn::FpNarrow { .. }
                | Insn::FpCompareMask { .. }
                | Insn::FpCompareMaskZero { .. }
                | Insn::FpCompare { .. }
                | Insn::FpCondCompare { .. }
                | Insn::FpCondSelect { .. }
                | Insn::FpToGpr { .. }
                | Insn::GprToFp { .. }
                | Insn::FpToIntLanes { .. }
                | Insn::IntToFpLanes { .. }
                | Insn::FpJavaScriptConvert { .. }
                | Insn::FpMoveToGpr { .. }
                | Insn::FpMoveFromGpr { .. }
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_page_of_decoded_code_stays_small() {
        assert!(size_of::<Insn>() <= 16, "Insn is {} bytes", size_of::<Insn>());
    }
}
