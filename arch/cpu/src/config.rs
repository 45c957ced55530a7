//! What the processing elements of a machine are: identification registers, one array for all of the ID space.

use serde::{Deserialize, Serialize};

/// Number of words of the ID register space `op0 3, op1 0, CRn 0, CRm 0..7, op2 0..7`.
pub const ID_SPACE: usize = 64;

/// Index into the ID register space.
pub const fn id_index(crm: usize, op2: usize) -> usize {
    crm * 8 + op2
}

/// ID_AA64PFR0_EL1.
pub const ID_AA64PFR0: usize = id_index(4, 0);
/// ID_AA64PFR1_EL1.
pub const ID_AA64PFR1: usize = id_index(4, 1);
/// ID_AA64DFR0_EL1.
pub const ID_AA64DFR0: usize = id_index(5, 0);
/// ID_AA64ISAR0_EL1.
pub const ID_AA64ISAR0: usize = id_index(6, 0);
/// ID_AA64ISAR1_EL1.
pub const ID_AA64ISAR1: usize = id_index(6, 1);
/// ID_AA64ISAR2_EL1.
pub const ID_AA64ISAR2: usize = id_index(6, 2);
/// ID_AA64MMFR0_EL1.
pub const ID_AA64MMFR0: usize = id_index(7, 0);
/// ID_AA64MMFR1_EL1.
pub const ID_AA64MMFR1: usize = id_index(7, 1);
/// ID_AA64MMFR2_EL1.
pub const ID_AA64MMFR2: usize = id_index(7, 2);

/// Number of hardware breakpoints.
pub const BREAKPOINTS: usize = 6;
/// Number of hardware watchpoints.
pub const WATCHPOINTS: usize = 4;
/// Physical address bits.
pub const PA_BITS: u32 = 44;

/// Identification of the processing elements.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CpuConfig {
    /// Name of the model, as `--cpu` says it.
    pub model: String,
    /// MIDR_EL1.
    pub midr: u64,
    /// REVIDR_EL1.
    pub revidr: u64,
    /// CTR_EL0.
    pub ctr: u64,
    /// CLIDR_EL1.
    pub clidr: u64,
    /// DCZID_EL0.
    pub dczid: u64,
    /// ID_* registers by `CRm * 8 + op2`; unallocated ones are 0.
    pub id: Vec<u64>,
}

/// (register, field's low bit, value) of everything that the guest is offered; all other fields read as zero.
const MAX_FIELDS: &[(usize, u32, u64)] = &[
    (ID_AA64PFR0, 0, 1),  // EL0: AArch64 only
    (ID_AA64PFR0, 4, 1),  // EL1: AArch64 only
    (ID_AA64PFR0, 24, 1), // GIC: system register interface 3.0/4.0
    (ID_AA64PFR0, 48, 1), // DIT
    (ID_AA64PFR0, 56, 3), // CSV2_3
    (ID_AA64PFR0, 60, 1), // CSV3
    (ID_AA64PFR1, 4, 2),  // SSBS with MSR/MRS
    (ID_AA64DFR0, 0, 6),  // Armv8 debug
    (ID_AA64DFR0, 8, 1),  // PMUv3
    (ID_AA64DFR0, 12, BREAKPOINTS as u64 - 1),
    (ID_AA64DFR0, 20, WATCHPOINTS as u64 - 1),
    (ID_AA64DFR0, 28, 1),  // two context-aware breakpoints
    (ID_AA64DFR0, 36, 15), // no OS double lock
    (ID_AA64ISAR0, 4, 2),  // AES, PMULL
    (ID_AA64ISAR0, 8, 1),  // SHA1
    (ID_AA64ISAR0, 12, 1), // SHA256
    (ID_AA64ISAR0, 16, 1), // CRC32
    (ID_AA64ISAR0, 20, 2), // LSE
    (ID_AA64ISAR0, 28, 1), // RDM
    (ID_AA64ISAR0, 44, 1), // DotProd
    (ID_AA64ISAR0, 52, 2), // FlagM2
    (ID_AA64ISAR0, 56, 2), // TLBI range and outer shareable
    (ID_AA64ISAR0, 60, 1), // RNDR
    (ID_AA64ISAR1, 0, 2),  // DC CVAP, CVADP
    (ID_AA64ISAR1, 12, 1), // JSCVT
    (ID_AA64ISAR1, 20, 2), // LRCPC2
    (ID_AA64ISAR1, 36, 1), // SB
    (ID_AA64ISAR1, 40, 1), // SPECRES
    (ID_AA64ISAR2, 0, 2),  // WFxT
    (ID_AA64MMFR0, 0, 4),  // 44 bits of physical address
    (ID_AA64MMFR0, 4, 2),  // 16-bit ASIDs
    (ID_AA64MMFR0, 20, 1), // 16K granule; 4K and 64K are "0 = supported"
    (ID_AA64MMFR1, 0, 2),  // hardware access flag and dirty state
    (ID_AA64MMFR1, 12, 1), // hierarchical permission disables
    (ID_AA64MMFR1, 16, 1), // LORegions
    (ID_AA64MMFR1, 20, 2), // PAN2 (AT S1E1RP, AT S1E1WP)
    (ID_AA64MMFR2, 0, 1),  // CnP
    (ID_AA64MMFR2, 48, 1), // TTL
    (ID_AA64MMFR2, 60, 1), // E0PD
];

impl CpuConfig {
    /// Everything that is implemented (`--cpu max`).
    pub fn max() -> CpuConfig {
        let mut id = vec![0u64; ID_SPACE];
        for &(register, shift, value) in MAX_FIELDS {
            id[register] |= value << shift;
        }
        CpuConfig {
            model: "max".into(),
            midr: 0x000f_0510,
            revidr: 0,
            // RES1 bit 31; IDC 1, DIC 0: IC IVAU is what invalidates code; CWG, ERG, DminLine 64 bytes; L1Ip PIPT; IminLine 4 KiB: one IC IVAU a page.
            ctr: 1 << 31 | 1 << 28 | 4 << 24 | 4 << 20 | 4 << 16 | 3 << 14 | 10,
            // L1 separate, L2 unified, LoC 2; IDC makes LoUU and LoUIS 0.
            clidr: 3 | 4 << 3 | 2 << 24,
            dczid: 4,
            id,
        }
    }

    /// The model of a name, `None` when there is no such model.
    pub fn by_name(name: &str) -> Option<CpuConfig> {
        let mut config = CpuConfig::max();
        match name {
            "max" | "host" => return Some(config),
            // Cortex-A72 r0p3: Armv8.0, no LSE, no PAN, no CSV fields.
            "cortex-a72" => {
                config.midr = 0x410f_d083;
                config.id[ID_AA64PFR0] &= 0xff00_00ff | 0xf << 24;
                config.id[ID_AA64PFR0] &= !(0xff << 56 | 0xf << 48);
                config.id[ID_AA64PFR1] = 0;
                config.id[ID_AA64ISAR0] &= 0xf_fff0;
                config.id[ID_AA64ISAR1] = 0;
                config.id[ID_AA64ISAR2] = 0;
                config.id[ID_AA64MMFR1] = 0;
                config.id[ID_AA64MMFR2] = 0;
            }
            // Neoverse N1 r4p1: Armv8.2.
            "neoverse-n1" => {
                config.midr = 0x414f_d0c1;
                config.id[ID_AA64PFR0] &= !(0xf << 48 | 0xf << 56);
                config.id[ID_AA64PFR0] |= 1 << 56;
                config.id[ID_AA64ISAR0] &= !(0xf << 52 | 0xff << 56);
                config.id[ID_AA64ISAR1] = 1 | 1 << 20;
                config.id[ID_AA64ISAR2] = 0;
                config.id[ID_AA64MMFR2] &= 1;
            }
            _ => return None,
        }
        config.model = name.into();
        Some(config)
    }

    /// Names that [`CpuConfig::by_name`] knows.
    pub const MODELS: &'static [&'static str] = &["max", "cortex-a72", "neoverse-n1"];

    /// A four-bit field of an ID register.
    pub fn id_field(&self, register: usize, shift: u32) -> u64 {
        self.id.get(register).map_or(0, |v| v >> shift & 15)
    }

    /// MPIDR_EL1 of a vCPU: 16 to a cluster (Aff1), as GICv3's SGI target lists want it.
    pub fn mpidr(index: usize) -> u64 {
        1 << 31 | (index as u64 >> 4) << 8 | index as u64 & 15
    }
}

impl Default for CpuConfig {
    fn default() -> Self {
        CpuConfig::max()
    }
}
