//! How KVM names registers (`KVM_GET_ONE_REG`), and which of them hold a processing element's saved state.
//!
//! Plain numbers (Linux' `Documentation/virt/kvm/api.rst`, "arm64 registers"): compiled and tested on every host.

use cpu::sysreg::{KvmOwner, ROWS, Slot, Via};

const ARM64: u64 = 0x6000_0000_0000_0000;
const U32: u64 = 0x0020_0000_0000_0000;
const U64: u64 = 0x0030_0000_0000_0000;
const U128: u64 = 0x0040_0000_0000_0000;
const U2048: u64 = 0x0080_0000_0000_0000;
const SVE: u64 = 0x0015 << 16;
const CORE: u64 = 0x0010 << 16;
const SYSTEM: u64 = 0x0013 << 16;

/// Byte offsets into `struct kvm_regs`.
mod offset {
    pub const SP_EL0: u64 = 248;
    pub const PC: u64 = 256;
    pub const PSTATE: u64 = 264;
    pub const SP_EL1: u64 = 272;
    pub const ELR_EL1: u64 = 280;
    pub const SPSR_EL1: u64 = 288;
    pub const V: u64 = 336;
    pub const FPSR: u64 = V + 512;
    pub const FPCR: u64 = FPSR + 4;
}

const fn core(size: u64, offset: u64) -> u64 {
    ARM64 | size | CORE | (offset / 4)
}

const fn system(op0: u64, op1: u64, crn: u64, crm: u64, op2: u64) -> u64 {
    ARM64 | U64 | SYSTEM | op0 << 14 | op1 << 11 | crn << 7 | crm << 3 | op2
}

/// X0 to X30.
pub const fn x(n: u64) -> u64 {
    core(U64, n * 8)
}
/// V0 to V31.
pub const fn v(n: u64) -> u64 {
    core(U128, offset::V + n * 16)
}
/// Z0 to Z31, in the greatest length that there is.
pub const fn z(n: u64) -> u64 {
    ARM64 | U2048 | SVE | n << 5
}
/// Bytes of a [`z`].
pub const Z_BYTES: usize = 256;
/// True for vectors, predicates, and the lengths of vectors.
pub const fn is_sve(id: u64) -> bool {
    id & 0xff00_0000_00ff_0000 == ARM64 | SVE
}
/// Bytes of a register.
pub const fn bytes(id: u64) -> usize {
    1 << (id >> 52 & 0xf)
}
/// SP_EL0.
pub const SP_EL0: u64 = core(U64, offset::SP_EL0);
/// SP_EL1.
pub const SP_EL1: u64 = core(U64, offset::SP_EL1);
/// PC.
pub const PC: u64 = core(U64, offset::PC);
/// PSTATE as in an SPSR.
pub const PSTATE: u64 = core(U64, offset::PSTATE);
/// FPSR, 32 bits.
pub const FPSR: u64 = core(U32, offset::FPSR);
/// FPCR, 32 bits.
pub const FPCR: u64 = core(U32, offset::FPCR);
/// MIDR_EL1.
pub const MIDR: u64 = system(3, 0, 0, 0, 0);
/// The virtual counter. Writing it moves the offset of the whole machine.
pub const VIRTUAL_COUNT: u64 = system(3, 3, 14, 3, 2);
/// The physical counter, likewise (kernels from 6.4 on; older ones have no offset for it).
pub const PHYSICAL_COUNT: u64 = system(3, 3, 14, 0, 1);
/// CNTV_CVAL_EL0: KVM has its number and that of CNTVCT_EL0 the wrong way round, for ever.
const VIRTUAL_COMPARE: u64 = system(3, 3, 14, 0, 2);

/// Where KVM has a system register with plain storage.
fn slot_register(slot: Slot, encoding: u16) -> u64 {
    match slot {
        Slot::ELR_EL1 => core(U64, offset::ELR_EL1),
        Slot::SPSR_EL1 => core(U64, offset::SPSR_EL1),
        Slot::CNTV_CVAL_EL0 => VIRTUAL_COMPARE,
        _ => ARM64 | U64 | SYSTEM | u64::from(encoding),
    }
}

/// A register of the saved state.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Saved {
    /// Its name in the saved state.
    pub name: &'static str,
    /// KVM's number; 0: KVM has none, the value is fixed.
    pub id: u64,
    /// Bits that a processing element of ours has.
    pub mask: u64,
    /// Value after reset.
    pub reset: u64,
}

/// Registers that are stored by another row's instruction, or that KVM does not save.
const UNSAVED: [Slot; 6] =
    [Slot::DBGCLAIM, Slot::DBGPRCR_EL1, Slot::OSDLR_EL1, Slot::OSDTRRX_EL1, Slot::OSDTRTX_EL1, Slot::OSECCR_EL1];

/// Every system register of a saved vCPU. The timers' control registers come last: with them a timer may fire.
pub fn saved() -> Vec<Saved> {
    let mut list: Vec<Saved> = (0..cpu::sysreg::SLOT_COUNT).filter_map(saved_slot).collect();
    list.sort_by_key(|register| register.name.contains("_CTL_"));
    list
}

/// The slot of a special register that has its storage in one under the same name.
fn by_name(index: usize) -> Option<&'static cpu::sysreg::Row> {
    let name = Slot::name(index)?;
    ROWS.iter().find(|row| row.name == name)
}

fn saved_slot(index: usize) -> Option<Saved> {
    let name = Slot::name(index)?;
    let stored = ROWS.iter().find(|row| matches!(row.via, Via::Slot(slot) if slot as usize == index));
    let row = stored.or_else(|| by_name(index)).filter(|row| row.kvm == KvmOwner::OneReg || stored.is_some());
    let unsaved = UNSAVED.iter().any(|slot| *slot as usize == index);
    Some(match row.filter(|_| !unsaved) {
        None => Saved { name, id: 0, mask: u64::MAX, reset: 0 },
        Some(row) => {
            let slot = match row.via {
                Via::Slot(slot) => slot_register(slot, row.enc.0),
                _ if name == "CNTV_CVAL_EL0" => VIRTUAL_COMPARE,
                _ => ARM64 | U64 | SYSTEM | u64::from(row.enc.0),
            };
            Saved { name, id: slot, mask: row.mask, reset: row.reset }
        }
    })
}

/// A system register or one of the firmware interface (kind 0x14), of 64 bits.
pub const fn is_wide_system_or_firmware(id: u64) -> bool {
    let kind = id & 0xff_0000;
    id & !0xff_ffff == ARM64 | U64 && (kind == SYSTEM || kind == 0x0014 << 16)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn find(name: &str) -> Saved {
        saved().into_iter().find(|register| register.name == name).unwrap()
    }

    #[test]
    fn numbers_are_those_of_the_kernels_headers() {
        // From <asm/kvm.h>: KVM_REG_ARM_TIMER_CTL, _CVAL, _CNT; and what `KVM_GET_REG_LIST` gives on an arm64 host.
        assert_eq!(find("CNTV_CTL_EL0").id, 0x6030_0000_0013_df19);
        assert_eq!(find("CNTV_CVAL_EL0").id, 0x6030_0000_0013_df02);
        assert_eq!(VIRTUAL_COUNT, 0x6030_0000_0013_df1a);
        assert_eq!(find("SCTLR_EL1").id, 0x6030_0000_0013_c080);
        assert_eq!(find("TTBR0_EL1").id, 0x6030_0000_0013_c100);
        assert_eq!(find("ELR_EL1").id, 0x6030_0000_0010_0046);
        assert!(is_wide_system_or_firmware(MIDR) && is_wide_system_or_firmware(0x6030_0000_0014_0000));
        assert!(!is_wide_system_or_firmware(PC) && !is_wide_system_or_firmware(FPCR));
        assert_eq!((x(0), PC), (0x6030_0000_0010_0000, 0x6030_0000_0010_0040));
        assert_eq!((SP_EL0, PSTATE), (0x6030_0000_0010_003e, 0x6030_0000_0010_0042));
        assert_eq!((SP_EL1, PHYSICAL_COUNT), (0x6030_0000_0010_0044, 0x6030_0000_0013_df01));
        assert_eq!((z(0), z(31)), (0x6080_0000_0015_0000, 0x6080_0000_0015_03e0));
        // A predicate, and KVM_REG_ARM64_SVE_VLS.
        assert_eq!((bytes(z(0)), bytes(0x6050_0000_0015_0400), bytes(0x6060_0000_0015_ffff)), (Z_BYTES, 32, 64));
        assert!(is_sve(z(1)) && is_sve(0x6060_0000_0015_ffff) && !is_sve(MIDR) && !is_sve(v(0)));
        assert_eq!((v(0), FPSR, FPCR), (0x6040_0000_0010_0054, 0x6020_0000_0010_00d4, 0x6020_0000_0010_00d5));
    }

    #[test]
    fn every_register_of_a_saved_processing_element_is_there_once() {
        let list = saved();
        assert_eq!(list.len(), cpu::sysreg::SLOT_COUNT);
        let mut ids: Vec<u64> = list.iter().map(|register| register.id).filter(|&id| id != 0).collect();
        ids.sort_unstable();
        ids.dedup();
        assert_eq!(ids.len(), list.iter().filter(|register| register.id != 0).count());
        // What an operating system cannot live without has a number.
        for name in ["VBAR_EL1", "TCR_EL1", "MAIR_EL1", "CPACR_EL1", "TPIDR_EL1", "CNTP_CVAL_EL0", "PMCCNTR_EL0"] {
            assert_ne!(find(name).id, 0, "{name}");
        }
        assert!(list.last().unwrap().name.contains("_CTL_"));
    }
}
