use std::collections::HashSet;

use super::*;
use crate::config::ID_SPACE;
use crate::testing::pe;
use crate::vcpu::Trap;
use crate::{Syndrome, exception::ec};

const SCTLR: SysEnc = SysEnc::new(3, 0, 1, 0, 0);
const CTR: SysEnc = SysEnc::new(3, 3, 0, 0, 1);
const CNTVCT: SysEnc = SysEnc::new(3, 3, 14, 0, 2);

#[test]
fn rows_are_consistent() {
    let mut encodings = HashSet::new();
    let mut names = HashSet::new();
    let mut slots = HashSet::new();
    for row in ROWS {
        assert!(row.enc.op0() >= 2, "{}", row.name);
        assert!(encodings.insert(row.enc), "{} shares its encoding", row.name);
        assert!(names.insert(row.name), "{} twice", row.name);
        assert_eq!(row.mask & row.res1, 0, "{}: a RES1 bit is writable", row.name);
        assert_eq!(row.reset & row.res1, 0, "{}: reset repeats RES1", row.name);
        assert_eq!(find(row.enc).map(|r| r.name), Some(row.name));
        if let Via::Slot(slot) = row.via {
            assert!(slots.insert(slot as usize), "{}: slot used twice", row.name);
            assert_eq!(Slot::name(slot as usize), Some(row.name));
        }
        // The name says the lowest EL that may use it.
        if row.name.ends_with("_EL1") {
            assert_eq!(row.el0, El0::No, "{} from EL0", row.name);
        }
    }
}

#[test]
fn the_whole_id_space_reads_and_unallocated_encodings_do_not() {
    let (mut v, _) = pe();
    for i in 8..ID_SPACE as u32 {
        let value = v.mrs(SysEnc::new(3, 0, 0, i / 8, i % 8), 0).unwrap();
        assert_eq!(value, v.vm.config.id[i as usize]);
    }
    assert_eq!(v.mrs(SysEnc::new(3, 0, 0, 4, 0), 0).unwrap() & 0xff, 0x11, "AArch64 only at EL0 and EL1, no EL2");
    let nothing = SysEnc::new(3, 4, 1, 1, 0);
    assert_eq!(v.mrs(nothing, 0), Err(Trap::Exception));
    assert_eq!(v.mrs(nothing, 0), Err(Trap::Exception));
    assert_eq!(v.counters.unimplemented().collect::<Vec<_>>(), [(nothing, 2)]);
    assert_eq!(v.syndrome, Syndrome::UNDEFINED);
}

#[test]
fn every_register_has_its_masks() {
    for row in ROWS {
        let (mut v, _) = pe();
        let Via::Slot(_) = row.via else { continue };
        if row.rw != Rw::Rw {
            assert_eq!(v.msr(row.enc, 0, 0), Err(Trap::Exception), "{} is read-only", row.name);
            continue;
        }
        v.msr(row.enc, 0, u64::MAX).unwrap();
        assert_eq!(v.mrs(row.enc, 0).unwrap(), row.mask | row.res1, "{}", row.name);
        v.msr(row.enc, 0, 0).unwrap();
        assert_eq!(v.mrs(row.enc, 0).unwrap(), row.res1, "{}", row.name);
    }
}

#[test]
fn sctlr_after_reset_has_the_mmu_off_and_res1_bits() {
    let (mut v, _) = pe();
    assert_eq!(v.mrs(SCTLR, 0).unwrap(), 0x30d0_0980 & !(1 << 20));
}

#[test]
fn el0_is_trapped_or_refused() {
    let (mut v, _) = pe();
    v.arch.set_el_sp(0, 0);
    assert_eq!(v.mrs(SCTLR, 0), Err(Trap::Exception));
    assert_eq!(v.syndrome.ec, ec::UNKNOWN);
    assert_eq!(v.mrs(CTR, 7), Err(Trap::Exception));
    // MRS X7, CTR_EL0: Op0 3, Op2 1, Op1 3, CRn 0, Rt 7, CRm 0, read.
    assert_eq!((v.syndrome.ec, v.syndrome.iss), (ec::SYS, 3 << 20 | 1 << 17 | 3 << 14 | 7 << 5 | 1));
    v.arch.set_sys(Slot::SCTLR_EL1, 1 << 15);
    assert_eq!(v.mrs(CTR, 7).unwrap(), v.vm.config.ctr);
    assert_eq!(v.mrs(CNTVCT, 0), Err(Trap::Exception));
    v.arch.set_sys(Slot::CNTKCTL_EL1, 2);
    assert!(v.mrs(CNTVCT, 0).is_ok());
    assert_eq!(v.mrs(SysEnc::new(3, 3, 4, 4, 0), 0), Err(Trap::Exception));
    assert_eq!((v.syndrome.ec, v.syndrome.iss), (ec::FP, 0x1e0_0000));
}

#[test]
fn cache_and_tlb_maintenance_by_el0_needs_uci() {
    let (mut v, _) = pe();
    let ivau = SysEnc::new(1, 3, 7, 5, 1);
    v.sys(ivau, 0, crate::testing::RAM_BASE).unwrap();
    v.arch.set_el_sp(0, 0);
    assert_eq!(v.sys(ivau, 3, 0), Err(Trap::Exception));
    assert_eq!((v.syndrome.ec, v.syndrome.iss), (ec::SYS, 1 << 20 | 1 << 17 | 3 << 14 | 7 << 10 | 3 << 5 | 5 << 1));
    assert_eq!(v.sys(SysEnc::new(1, 0, 8, 7, 0), 3, 0), Err(Trap::Exception));
    assert_eq!(v.syndrome, Syndrome::UNDEFINED);
}

#[test]
fn a_model_without_a_feature_has_not_its_registers() {
    use crate::{Clock, CpuConfig, Vcpu, VmShared, testing};
    let config = CpuConfig::by_name("cortex-a72").unwrap();
    let vm = VmShared::new(testing::ram(testing::RAM_BASE, 4096), std::sync::Arc::new(Clock::new()), 1, config);
    let mut v = Vcpu::new(0, vm, std::sync::Arc::new(testing::Machine::default()));
    for name in ["RNDR", "DIT", "SSBS", "PAN", "SCXTNUM_EL0", "LORC_EL1"] {
        let enc = ROWS.iter().find(|r| r.name == name).unwrap().enc;
        assert_eq!(v.mrs(enc, 0), Err(Trap::Exception), "{name}");
        assert!(pe().0.mrs(enc, 0).is_ok(), "{name} of the full model");
    }
}
