//! The rows. Order as in the Arm ARM's list by encoding; `mask` holds the bits that exist for the features offered.

use super::{Effect, El0, KvmOwner, Row, Rw, Special, SysEnc, Via};

macro_rules! slots {
    ($($name:ident),+ $(,)?) => {
        /// Index of a register in [`crate::ArchState::sys`].
        #[expect(non_camel_case_types, reason = "the Arm ARM's names")]
        #[expect(missing_docs, reason = "the Arm ARM documents them under these names")]
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
        #[repr(u16)]
        pub enum Slot { $($name),+ }
        /// Names in the order of [`Slot`].
        pub(crate) const SLOT_NAMES: &[&str] = &[$(stringify!($name)),+];
        /// Number of registers with plain storage.
        pub const SLOT_COUNT: usize = SLOT_NAMES.len();
    };
}

slots! {
    // What exceptions and context switches touch, together.
    TPIDR_EL0, TPIDRRO_EL0, TPIDR_EL1, VBAR_EL1, ELR_EL1, SPSR_EL1, ESR_EL1, FAR_EL1,
    SCTLR_EL1, TCR_EL1, TTBR0_EL1, TTBR1_EL1, MAIR_EL1, CONTEXTIDR_EL1, CPACR_EL1, CNTKCTL_EL1,
    ACTLR_EL1, AMAIR_EL1, AFSR0_EL1, AFSR1_EL1, PAR_EL1, CSSELR_EL1, SCXTNUM_EL0, SCXTNUM_EL1,
    LORSA_EL1, LOREA_EL1, LORN_EL1, LORC_EL1,
    CNTV_CTL_EL0, CNTV_CVAL_EL0, CNTP_CTL_EL0, CNTP_CVAL_EL0,
    PMCR_EL0, PMCNTENSET_EL0, PMOVSSET_EL0, PMSELR_EL0, PMUSERENR_EL0, PMINTENSET_EL1, PMCCFILTR_EL0, PMCCNTR_EL0,
    MDSCR_EL1, MDCCINT_EL1, OSLSR_EL1, OSDTRRX_EL1, OSDTRTX_EL1, OSECCR_EL1, DBGCLAIM, DBGPRCR_EL1, OSDLR_EL1,
    DBGBVR0_EL1, DBGBVR1_EL1, DBGBVR2_EL1, DBGBVR3_EL1, DBGBVR4_EL1, DBGBVR5_EL1,
    DBGBCR0_EL1, DBGBCR1_EL1, DBGBCR2_EL1, DBGBCR3_EL1, DBGBCR4_EL1, DBGBCR5_EL1,
    DBGWVR0_EL1, DBGWVR1_EL1, DBGWVR2_EL1, DBGWVR3_EL1,
    DBGWCR0_EL1, DBGWCR1_EL1, DBGWCR2_EL1, DBGWCR3_EL1,
}

impl Slot {
    /// Name of the register in slot `index`.
    pub fn name(index: usize) -> Option<&'static str> {
        SLOT_NAMES.get(index).copied()
    }
}

const fn enc(e: (u32, u32, u32, u32, u32)) -> SysEnc {
    SysEnc::new(e.0, e.1, e.2, e.3, e.4)
}

/// A register of EL1 with plain storage.
const fn el1(name: &'static str, e: (u32, u32, u32, u32, u32), slot: Slot, mask: u64) -> Row {
    Row {
        name,
        enc: enc(e),
        rw: Rw::Rw,
        el0: El0::No,
        via: Via::Slot(slot),
        mask,
        res1: 0,
        reset: 0,
        effect: Effect::None,
        kvm: KvmOwner::OneReg,
    }
}

/// A register of EL1 with a function behind it.
const fn special(name: &'static str, e: (u32, u32, u32, u32, u32), rw: Rw, what: Special) -> Row {
    Row {
        name,
        enc: enc(e),
        rw,
        el0: El0::No,
        via: Via::Special(what),
        mask: u64::MAX,
        res1: 0,
        reset: 0,
        effect: Effect::None,
        kvm: KvmOwner::None,
    }
}

/// A constant.
const fn constant(name: &'static str, e: (u32, u32, u32, u32, u32), value: u64) -> Row {
    Row {
        name,
        enc: enc(e),
        rw: Rw::Ro,
        el0: El0::No,
        via: Via::Const(value),
        mask: 0,
        res1: 0,
        reset: 0,
        effect: Effect::None,
        kvm: KvmOwner::Config,
    }
}

impl Row {
    const fn effect(self, effect: Effect) -> Row {
        Row { effect, ..self }
    }
    const fn el0(self, el0: El0) -> Row {
        Row { el0, ..self }
    }
    const fn res1(self, res1: u64) -> Row {
        Row { res1, ..self }
    }
    const fn reset(self, reset: u64) -> Row {
        Row { reset, ..self }
    }
    const fn kvm(self, kvm: KvmOwner) -> Row {
        Row { kvm, ..self }
    }
}

/// SCTLR_EL1 bits that exist: M A C SA SA0 nAA-less UMA EnRCTX I DZE UCT nTWI nTWE WXN TSCXT SPAN UCI DSSBS.
const SCTLR_MASK: u64 = 0x1f
    | 1 << 9
    | 1 << 10
    | 1 << 12
    | 1 << 14
    | 1 << 15
    | 1 << 16
    | 1 << 18
    | 1 << 19
    | 1 << 20
    | 1 << 23
    | 1 << 26
    | 1 << 44;
/// ITD, SED (no AArch32), EOS, EIS (no ExS), nTLSMD, LSMAOE.
const SCTLR_RES1: u64 = 1 << 7 | 1 << 8 | 1 << 11 | 1 << 22 | 1 << 28 | 1 << 29;
/// TCR_EL1: T0SZ EPD0 IRGN0 ORGN0 SH0 TG0 T1SZ A1 EPD1 IRGN1 ORGN1 SH1 TG1 IPS AS TBI0 TBI1 HA HD HPD0 HPD1 E0PD0 E0PD1; no LPA2, no MTE, no NFD.
const TCR_MASK: u64 = 0x0180_07f7_ffff_ffbf;
/// DBGBCR: E PMC HMC SSC LBN BT; BAS is RES1 without AArch32.
const DBGBCR_MASK: u64 = 0x00ff_e007;
/// DBGWCR: E PAC LSC BAS HMC SSC LBN WT MASK.
const DBGWCR_MASK: u64 = 0x1f1f_ffff;

const GIC: KvmOwner = KvmOwner::Vgic;
/// MDSCR_EL1: SS ERR TDCC KDE HDE MDE and the bits that the OS lock lets software save and restore.
const MDSCR_MASK: u64 =
    1 | 1 << 6 | 1 << 12 | 1 << 13 | 1 << 14 | 1 << 15 | 0xf << 19 | 3 << 22 | 1 << 26 | 1 << 27 | 3 << 29;
const W32: u64 = 0xffff_ffff;

/// All registers.
pub static ROWS: &[Row] = TABLE;

const TABLE: &[Row] = &[
    // Debug, op0 = 2.
    el1("OSDTRRX_EL1", (2, 0, 0, 0, 2), Slot::OSDTRRX_EL1, W32),
    el1("MDCCINT_EL1", (2, 0, 0, 2, 0), Slot::MDCCINT_EL1, 3 << 29),
    el1("MDSCR_EL1", (2, 0, 0, 2, 2), Slot::MDSCR_EL1, MDSCR_MASK).effect(Effect::Debug),
    el1("OSDTRTX_EL1", (2, 0, 0, 3, 2), Slot::OSDTRTX_EL1, W32),
    el1("OSECCR_EL1", (2, 0, 0, 6, 2), Slot::OSECCR_EL1, W32),
    el1("DBGBVR0_EL1", (2, 0, 0, 0, 4), Slot::DBGBVR0_EL1, !3).effect(Effect::Debug),
    el1("DBGBVR1_EL1", (2, 0, 0, 1, 4), Slot::DBGBVR1_EL1, !3).effect(Effect::Debug),
    el1("DBGBVR2_EL1", (2, 0, 0, 2, 4), Slot::DBGBVR2_EL1, !3).effect(Effect::Debug),
    el1("DBGBVR3_EL1", (2, 0, 0, 3, 4), Slot::DBGBVR3_EL1, !3).effect(Effect::Debug),
    el1("DBGBVR4_EL1", (2, 0, 0, 4, 4), Slot::DBGBVR4_EL1, u64::MAX).effect(Effect::Debug),
    el1("DBGBVR5_EL1", (2, 0, 0, 5, 4), Slot::DBGBVR5_EL1, u64::MAX).effect(Effect::Debug),
    el1("DBGBCR0_EL1", (2, 0, 0, 0, 5), Slot::DBGBCR0_EL1, DBGBCR_MASK).res1(0xf << 5).effect(Effect::Debug),
    el1("DBGBCR1_EL1", (2, 0, 0, 1, 5), Slot::DBGBCR1_EL1, DBGBCR_MASK).res1(0xf << 5).effect(Effect::Debug),
    el1("DBGBCR2_EL1", (2, 0, 0, 2, 5), Slot::DBGBCR2_EL1, DBGBCR_MASK).res1(0xf << 5).effect(Effect::Debug),
    el1("DBGBCR3_EL1", (2, 0, 0, 3, 5), Slot::DBGBCR3_EL1, DBGBCR_MASK).res1(0xf << 5).effect(Effect::Debug),
    el1("DBGBCR4_EL1", (2, 0, 0, 4, 5), Slot::DBGBCR4_EL1, DBGBCR_MASK).res1(0xf << 5).effect(Effect::Debug),
    el1("DBGBCR5_EL1", (2, 0, 0, 5, 5), Slot::DBGBCR5_EL1, DBGBCR_MASK).res1(0xf << 5).effect(Effect::Debug),
    el1("DBGWVR0_EL1", (2, 0, 0, 0, 6), Slot::DBGWVR0_EL1, !3).effect(Effect::Debug),
    el1("DBGWVR1_EL1", (2, 0, 0, 1, 6), Slot::DBGWVR1_EL1, !3).effect(Effect::Debug),
    el1("DBGWVR2_EL1", (2, 0, 0, 2, 6), Slot::DBGWVR2_EL1, !3).effect(Effect::Debug),
    el1("DBGWVR3_EL1", (2, 0, 0, 3, 6), Slot::DBGWVR3_EL1, !3).effect(Effect::Debug),
    el1("DBGWCR0_EL1", (2, 0, 0, 0, 7), Slot::DBGWCR0_EL1, DBGWCR_MASK).effect(Effect::Debug),
    el1("DBGWCR1_EL1", (2, 0, 0, 1, 7), Slot::DBGWCR1_EL1, DBGWCR_MASK).effect(Effect::Debug),
    el1("DBGWCR2_EL1", (2, 0, 0, 2, 7), Slot::DBGWCR2_EL1, DBGWCR_MASK).effect(Effect::Debug),
    el1("DBGWCR3_EL1", (2, 0, 0, 3, 7), Slot::DBGWCR3_EL1, DBGWCR_MASK).effect(Effect::Debug),
    constant("MDRAR_EL1", (2, 0, 1, 0, 0), 0),
    special("OSLAR_EL1", (2, 0, 1, 0, 4), Rw::Wo, Special::OsLar),
    // OSLM = 0b10: OS lock implemented; locked out of reset.
    Row { rw: Rw::Ro, ..el1("OSLSR_EL1", (2, 0, 1, 1, 4), Slot::OSLSR_EL1, 0) }.res1(1 << 3).reset(1 << 1),
    el1("OSDLR_EL1", (2, 0, 1, 3, 4), Slot::OSDLR_EL1, 0),
    el1("DBGPRCR_EL1", (2, 0, 1, 4, 4), Slot::DBGPRCR_EL1, 1),
    special("DBGCLAIMSET_EL1", (2, 0, 7, 8, 6), Rw::Rw, Special::ClaimSet),
    special("DBGCLAIMCLR_EL1", (2, 0, 7, 9, 6), Rw::Rw, Special::ClaimClear),
    // Non-secure invasive and non-invasive debug implemented and enabled.
    constant("DBGAUTHSTATUS_EL1", (2, 0, 7, 14, 6), 0xf),
    constant("MDCCSR_EL0", (2, 3, 0, 1, 0), 0).el0(El0::Tdcc),
    special("DBGDTR_EL0", (2, 3, 0, 4, 0), Rw::Rw, Special::DebugTransfer).el0(El0::Tdcc),
    special("DBGDTRRX_EL0", (2, 3, 0, 5, 0), Rw::Rw, Special::DebugTransfer).el0(El0::Tdcc),
    // Identification that is not in the ID space.
    special("MIDR_EL1", (3, 0, 0, 0, 0), Rw::Ro, Special::Midr).kvm(KvmOwner::Config),
    special("MPIDR_EL1", (3, 0, 0, 0, 5), Rw::Ro, Special::Mpidr).kvm(KvmOwner::Config),
    special("REVIDR_EL1", (3, 0, 0, 0, 6), Rw::Ro, Special::Revidr).kvm(KvmOwner::Config),
    // EL1 system control.
    el1("SCTLR_EL1", (3, 0, 1, 0, 0), Slot::SCTLR_EL1, SCTLR_MASK)
        .res1(SCTLR_RES1)
        .reset(1 << 23)
        .effect(Effect::Translation),
    el1("ACTLR_EL1", (3, 0, 1, 0, 1), Slot::ACTLR_EL1, 0),
    el1("CPACR_EL1", (3, 0, 1, 0, 2), Slot::CPACR_EL1, 3 << 20).effect(Effect::Traps),
    el1("TTBR0_EL1", (3, 0, 2, 0, 0), Slot::TTBR0_EL1, u64::MAX).effect(Effect::Context),
    el1("TTBR1_EL1", (3, 0, 2, 0, 1), Slot::TTBR1_EL1, u64::MAX).effect(Effect::Context),
    el1("TCR_EL1", (3, 0, 2, 0, 2), Slot::TCR_EL1, TCR_MASK).effect(Effect::Translation),
    el1("SPSR_EL1", (3, 0, 4, 0, 0), Slot::SPSR_EL1, u64::MAX),
    el1("ELR_EL1", (3, 0, 4, 0, 1), Slot::ELR_EL1, u64::MAX),
    special("SP_EL0", (3, 0, 4, 1, 0), Rw::Rw, Special::SpEl0).kvm(KvmOwner::OneReg),
    special("SPSel", (3, 0, 4, 2, 0), Rw::Rw, Special::SpSel),
    special("CurrentEL", (3, 0, 4, 2, 2), Rw::Ro, Special::CurrentEl),
    special("PAN", (3, 0, 4, 2, 3), Rw::Rw, Special::Pan),
    special("ICC_PMR_EL1", (3, 0, 4, 6, 0), Rw::Rw, Special::IccPmr).kvm(GIC),
    el1("AFSR0_EL1", (3, 0, 5, 1, 0), Slot::AFSR0_EL1, 0),
    el1("AFSR1_EL1", (3, 0, 5, 1, 1), Slot::AFSR1_EL1, 0),
    el1("ESR_EL1", (3, 0, 5, 2, 0), Slot::ESR_EL1, 0x1f_ffff_ffff),
    el1("FAR_EL1", (3, 0, 6, 0, 0), Slot::FAR_EL1, u64::MAX),
    el1("PAR_EL1", (3, 0, 7, 4, 0), Slot::PAR_EL1, u64::MAX),
    special("PMINTENSET_EL1", (3, 0, 9, 14, 1), Rw::Rw, Special::PmIntenSet).kvm(KvmOwner::OneReg),
    special("PMINTENCLR_EL1", (3, 0, 9, 14, 2), Rw::Rw, Special::PmIntenClr),
    el1("MAIR_EL1", (3, 0, 10, 2, 0), Slot::MAIR_EL1, u64::MAX).effect(Effect::Translation),
    el1("AMAIR_EL1", (3, 0, 10, 3, 0), Slot::AMAIR_EL1, 0),
    el1("LORSA_EL1", (3, 0, 10, 4, 0), Slot::LORSA_EL1, 0),
    el1("LOREA_EL1", (3, 0, 10, 4, 1), Slot::LOREA_EL1, 0),
    el1("LORN_EL1", (3, 0, 10, 4, 2), Slot::LORN_EL1, 0),
    el1("LORC_EL1", (3, 0, 10, 4, 3), Slot::LORC_EL1, 0),
    // No LOR descriptors: LoadLOAcquire and StoreLORelease are LoadAcquire and StoreRelease.
    constant("LORID_EL1", (3, 0, 10, 4, 7), 0),
    el1("VBAR_EL1", (3, 0, 12, 0, 0), Slot::VBAR_EL1, !0x7ff),
    constant("RVBAR_EL1", (3, 0, 12, 0, 1), 0),
    special("ISR_EL1", (3, 0, 12, 1, 0), Rw::Ro, Special::Isr),
    special("ICC_IAR0_EL1", (3, 0, 12, 8, 0), Rw::Ro, Special::IccIar0).kvm(GIC),
    special("ICC_EOIR0_EL1", (3, 0, 12, 8, 1), Rw::Wo, Special::IccEoir0).kvm(GIC),
    special("ICC_HPPIR0_EL1", (3, 0, 12, 8, 2), Rw::Ro, Special::IccHppir0).kvm(GIC),
    special("ICC_BPR0_EL1", (3, 0, 12, 8, 3), Rw::Rw, Special::IccBpr0).kvm(GIC),
    special("ICC_AP0R0_EL1", (3, 0, 12, 8, 4), Rw::Rw, Special::IccAp0r0).kvm(GIC),
    special("ICC_AP1R0_EL1", (3, 0, 12, 9, 0), Rw::Rw, Special::IccAp1r0).kvm(GIC),
    special("ICC_DIR_EL1", (3, 0, 12, 11, 1), Rw::Wo, Special::IccDir).kvm(GIC),
    special("ICC_RPR_EL1", (3, 0, 12, 11, 3), Rw::Ro, Special::IccRpr).kvm(GIC),
    special("ICC_SGI1R_EL1", (3, 0, 12, 11, 5), Rw::Wo, Special::IccSgi1r).kvm(GIC),
    special("ICC_ASGI1R_EL1", (3, 0, 12, 11, 6), Rw::Wo, Special::IccAsgi1r).kvm(GIC),
    special("ICC_SGI0R_EL1", (3, 0, 12, 11, 7), Rw::Wo, Special::IccSgi0r).kvm(GIC),
    special("ICC_IAR1_EL1", (3, 0, 12, 12, 0), Rw::Ro, Special::IccIar1).kvm(GIC),
    special("ICC_EOIR1_EL1", (3, 0, 12, 12, 1), Rw::Wo, Special::IccEoir1).kvm(GIC),
    special("ICC_HPPIR1_EL1", (3, 0, 12, 12, 2), Rw::Ro, Special::IccHppir1).kvm(GIC),
    special("ICC_BPR1_EL1", (3, 0, 12, 12, 3), Rw::Rw, Special::IccBpr1).kvm(GIC),
    special("ICC_CTLR_EL1", (3, 0, 12, 12, 4), Rw::Rw, Special::IccCtlr).kvm(GIC),
    special("ICC_SRE_EL1", (3, 0, 12, 12, 5), Rw::Rw, Special::IccSre).kvm(GIC),
    special("ICC_IGRPEN0_EL1", (3, 0, 12, 12, 6), Rw::Rw, Special::IccIgrpen0).kvm(GIC),
    special("ICC_IGRPEN1_EL1", (3, 0, 12, 12, 7), Rw::Rw, Special::IccIgrpen1).kvm(GIC),
    el1("CONTEXTIDR_EL1", (3, 0, 13, 0, 1), Slot::CONTEXTIDR_EL1, W32).effect(Effect::Debug),
    el1("TPIDR_EL1", (3, 0, 13, 0, 4), Slot::TPIDR_EL1, u64::MAX),
    el1("SCXTNUM_EL1", (3, 0, 13, 0, 7), Slot::SCXTNUM_EL1, u64::MAX),
    // EL0PCTEN EL0VCTEN EVNTEN EVNTDIR EVNTI EL0VTEN EL0PTEN EVNTIS
    el1("CNTKCTL_EL1", (3, 0, 14, 1, 0), Slot::CNTKCTL_EL1, 0x3ff),
    // Caches.
    special("CCSIDR_EL1", (3, 1, 0, 0, 0), Rw::Ro, Special::Ccsidr),
    special("CLIDR_EL1", (3, 1, 0, 0, 1), Rw::Ro, Special::Clidr).kvm(KvmOwner::Config),
    constant("AIDR_EL1", (3, 1, 0, 0, 7), 0),
    el1("CSSELR_EL1", (3, 2, 0, 0, 0), Slot::CSSELR_EL1, 0xf),
    special("CTR_EL0", (3, 3, 0, 0, 1), Rw::Ro, Special::Ctr).el0(El0::Uct).kvm(KvmOwner::Config),
    special("DCZID_EL0", (3, 3, 0, 0, 7), Rw::Ro, Special::Dczid).el0(El0::Free).kvm(KvmOwner::Config),
    // EL0.
    special("RNDR", (3, 3, 2, 4, 0), Rw::Ro, Special::Rndr).el0(El0::Free),
    special("RNDRRS", (3, 3, 2, 4, 1), Rw::Ro, Special::Rndr).el0(El0::Free),
    special("NZCV", (3, 3, 4, 2, 0), Rw::Rw, Special::Nzcv).el0(El0::Free),
    special("DAIF", (3, 3, 4, 2, 1), Rw::Rw, Special::Daif).el0(El0::Uma),
    special("DIT", (3, 3, 4, 2, 5), Rw::Rw, Special::Dit).el0(El0::Free),
    special("SSBS", (3, 3, 4, 2, 6), Rw::Rw, Special::Ssbs).el0(El0::Free),
    special("FPCR", (3, 3, 4, 4, 0), Rw::Rw, Special::Fpcr).el0(El0::Fp),
    special("FPSR", (3, 3, 4, 4, 1), Rw::Rw, Special::Fpsr).el0(El0::Fp),
    special("PMCR_EL0", (3, 3, 9, 12, 0), Rw::Rw, Special::Pmcr).el0(El0::Pmu).kvm(KvmOwner::OneReg),
    special("PMCNTENSET_EL0", (3, 3, 9, 12, 1), Rw::Rw, Special::PmCntenSet).el0(El0::Pmu).kvm(KvmOwner::OneReg),
    special("PMCNTENCLR_EL0", (3, 3, 9, 12, 2), Rw::Rw, Special::PmCntenClr).el0(El0::Pmu),
    special("PMOVSCLR_EL0", (3, 3, 9, 12, 3), Rw::Rw, Special::PmOvsClr).el0(El0::Pmu),
    special("PMSWINC_EL0", (3, 3, 9, 12, 4), Rw::Wo, Special::PmIgnored).el0(El0::PmuSw),
    el1("PMSELR_EL0", (3, 3, 9, 12, 5), Slot::PMSELR_EL0, 0x1f).el0(El0::PmuEr),
    // Events that could be counted: cycles (0x11), which the cycle counter does.
    constant("PMCEID0_EL0", (3, 3, 9, 12, 6), 1 << 0x11).el0(El0::Pmu),
    constant("PMCEID1_EL0", (3, 3, 9, 12, 7), 0).el0(El0::Pmu),
    special("PMCCNTR_EL0", (3, 3, 9, 13, 0), Rw::Rw, Special::Pmccntr).el0(El0::PmuCr).kvm(KvmOwner::OneReg),
    special("PMXEVTYPER_EL0", (3, 3, 9, 13, 1), Rw::Rw, Special::PmXevtyper).el0(El0::Pmu),
    special("PMXEVCNTR_EL0", (3, 3, 9, 13, 2), Rw::Rw, Special::PmIgnored).el0(El0::PmuEr),
    Row { el0: El0::ReadOnly, ..el1("PMUSERENR_EL0", (3, 3, 9, 14, 0), Slot::PMUSERENR_EL0, 0xf) },
    special("PMOVSSET_EL0", (3, 3, 9, 14, 3), Rw::Rw, Special::PmOvsSet).el0(El0::Pmu).kvm(KvmOwner::OneReg),
    el1("TPIDR_EL0", (3, 3, 13, 0, 2), Slot::TPIDR_EL0, u64::MAX).el0(El0::Free),
    el1("TPIDRRO_EL0", (3, 3, 13, 0, 3), Slot::TPIDRRO_EL0, u64::MAX).el0(El0::ReadOnly),
    el1("SCXTNUM_EL0", (3, 3, 13, 0, 7), Slot::SCXTNUM_EL0, u64::MAX).el0(El0::Scxt),
    special("CNTFRQ_EL0", (3, 3, 14, 0, 0), Rw::Rw, Special::Cntfrq).el0(El0::AnyCounter).kvm(KvmOwner::Config),
    special("CNTPCT_EL0", (3, 3, 14, 0, 1), Rw::Ro, Special::Counter).el0(El0::PhysicalCounter),
    special("CNTVCT_EL0", (3, 3, 14, 0, 2), Rw::Ro, Special::Counter).el0(El0::VirtualCounter),
    special("CNTP_TVAL_EL0", (3, 3, 14, 2, 0), Rw::Rw, Special::CntpTval).el0(El0::PhysicalTimer),
    special("CNTP_CTL_EL0", (3, 3, 14, 2, 1), Rw::Rw, Special::CntpCtl).el0(El0::PhysicalTimer).kvm(KvmOwner::OneReg),
    special("CNTP_CVAL_EL0", (3, 3, 14, 2, 2), Rw::Rw, Special::CntpCval).el0(El0::PhysicalTimer).kvm(KvmOwner::OneReg),
    special("CNTV_TVAL_EL0", (3, 3, 14, 3, 0), Rw::Rw, Special::CntvTval).el0(El0::VirtualTimer),
    special("CNTV_CTL_EL0", (3, 3, 14, 3, 1), Rw::Rw, Special::CntvCtl).el0(El0::VirtualTimer).kvm(KvmOwner::OneReg),
    special("CNTV_CVAL_EL0", (3, 3, 14, 3, 2), Rw::Rw, Special::CntvCval).el0(El0::VirtualTimer).kvm(KvmOwner::OneReg),
    special("PMCCFILTR_EL0", (3, 3, 14, 15, 7), Rw::Rw, Special::Pmccfiltr).el0(El0::Pmu).kvm(KvmOwner::OneReg),
];

/// Registers of the ID space `op0 3, op1 0, CRn 0, CRm 1..7`: named or not, all read; the unallocated ones as zero.
static ID_ROWS: [Row; 64] = {
    let mut rows = [constant("ID_RESERVED", (3, 0, 0, 0, 0), 0); 64];
    let mut i = 0;
    while i < 64 {
        rows[i] = constant(id_name(i), (3, 0, 0, (i / 8) as u32, (i % 8) as u32), 0);
        rows[i].via = Via::Id(i as u8);
        i += 1;
    }
    rows
};

const fn id_name(index: usize) -> &'static str {
    match (index / 8, index % 8) {
        (1, 0) => "ID_PFR0_EL1",
        (1, 1) => "ID_PFR1_EL1",
        (1, 2) => "ID_DFR0_EL1",
        (1, 3) => "ID_AFR0_EL1",
        (1, 4) => "ID_MMFR0_EL1",
        (1, 5) => "ID_MMFR1_EL1",
        (1, 6) => "ID_MMFR2_EL1",
        (1, 7) => "ID_MMFR3_EL1",
        (2, 0) => "ID_ISAR0_EL1",
        (2, 1) => "ID_ISAR1_EL1",
        (2, 2) => "ID_ISAR2_EL1",
        (2, 3) => "ID_ISAR3_EL1",
        (2, 4) => "ID_ISAR4_EL1",
        (2, 5) => "ID_ISAR5_EL1",
        (2, 6) => "ID_MMFR4_EL1",
        (2, 7) => "ID_ISAR6_EL1",
        (3, 0) => "MVFR0_EL1",
        (3, 1) => "MVFR1_EL1",
        (3, 2) => "MVFR2_EL1",
        (3, 4) => "ID_PFR2_EL1",
        (3, 5) => "ID_DFR1_EL1",
        (3, 6) => "ID_MMFR5_EL1",
        (4, 0) => "ID_AA64PFR0_EL1",
        (4, 1) => "ID_AA64PFR1_EL1",
        (4, 2) => "ID_AA64PFR2_EL1",
        (4, 4) => "ID_AA64ZFR0_EL1",
        (4, 5) => "ID_AA64SMFR0_EL1",
        (4, 7) => "ID_AA64FPFR0_EL1",
        (5, 0) => "ID_AA64DFR0_EL1",
        (5, 1) => "ID_AA64DFR1_EL1",
        (5, 4) => "ID_AA64AFR0_EL1",
        (5, 5) => "ID_AA64AFR1_EL1",
        (6, 0) => "ID_AA64ISAR0_EL1",
        (6, 1) => "ID_AA64ISAR1_EL1",
        (6, 2) => "ID_AA64ISAR2_EL1",
        (6, 3) => "ID_AA64ISAR3_EL1",
        (7, 0) => "ID_AA64MMFR0_EL1",
        (7, 1) => "ID_AA64MMFR1_EL1",
        (7, 2) => "ID_AA64MMFR2_EL1",
        (7, 3) => "ID_AA64MMFR3_EL1",
        (7, 4) => "ID_AA64MMFR4_EL1",
        _ => "ID_RESERVED",
    }
}

/// Row number + 1 by the low 15 bits of the encoding (op0 is 2 or 3).
static INDEX: [u16; 1 << 15] = {
    let mut index = [0u16; 1 << 15];
    let mut i = 0;
    while i < TABLE.len() {
        index[(TABLE[i].enc.0 & 0x7fff) as usize] = i as u16 + 1;
        i += 1;
    }
    index
};

/// The row of an encoding with op0 2 or 3.
#[inline]
pub fn find(enc: SysEnc) -> Option<&'static Row> {
    let row = INDEX[usize::from(enc.0 & 0x7fff)];
    if row != 0 {
        return ROWS.get(usize::from(row) - 1);
    }
    // op0 3, op1 0, CRn 0, CRm 1..7.
    if enc.0 & !0x3f == SysEnc::new(3, 0, 0, 0, 0).0 && enc.crm() != 0 {
        return ID_ROWS.get(usize::from(enc.0 & 0x3f));
    }
    None
}
