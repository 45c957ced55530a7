use super::*;
use crate::mmu::Fault;
use crate::state::pstate;
use crate::sysreg::Slot;
use crate::testing::pe;

const VBAR: u64 = 0xffff_8000_0001_0000;

#[test]
fn vectors_by_source_and_kind() {
    for (el, spsel, base) in [(1, 1, 0x200), (1, 0, 0), (0, 0, 0x400)] {
        for (exception, offset) in [
            (Exception::Sync(Syndrome::svc(5)), 0),
            (Exception::Irq, 0x80),
            (Exception::Fiq, 0x100),
            (Exception::SError(0), 0x180),
        ] {
            let (mut v, _) = pe();
            v.arch.set_sys(Slot::VBAR_EL1, VBAR);
            v.arch.set_el_sp(el, spsel);
            v.arch.daif = 0;
            v.arch.nzcv = 0x6000_0000;
            v.arch.pc = 0x1234;
            v.take_exception(exception);
            assert_eq!(v.arch.pc, VBAR + base + offset);
            assert_eq!(v.arch.sys(Slot::SPSR_EL1), 0x6000_0000 | u64::from(el) << 2 | u64::from(spsel));
            assert_eq!((v.arch.el, v.arch.spsel, u64::from(v.arch.daif)), (1, 1, pstate::DAIF));
            let next = u64::from(offset == 0) * 4;
            assert_eq!(v.arch.sys(Slot::ELR_EL1), 0x1234 + next, "only SVC returns to the next instruction");
        }
    }
}

#[test]
fn abort_syndromes() {
    let (mut v, _) = pe();
    v.arch.pc = 0x1000;
    v.take_exception(Exception::Sync(Syndrome::data_abort(Fault::Permission(3), true, false, 0xdead_beef)));
    assert_eq!(v.arch.sys(Slot::ESR_EL1), 0x25 << 26 | 1 << 25 | 1 << 6 | 0xf, "same EL, WnR, level 3 permission");
    assert_eq!(v.arch.sys(Slot::FAR_EL1), 0xdead_beef);
    v.arch.set_el_sp(0, 0);
    v.take_exception(Exception::Sync(Syndrome::instruction_abort(Fault::Translation(2), 0x77)));
    assert_eq!(v.arch.sys(Slot::ESR_EL1), 0x20 << 26 | 1 << 25 | 6);
    for (fault, code) in [
        (Fault::AddressSize(0), 0),
        (Fault::Translation(0), 4),
        (Fault::AccessFlag(1), 9),
        (Fault::External, 0x10),
        (Fault::ExternalOnWalk(3), 0x17),
        (Fault::Alignment, 0x21),
        (Fault::UnsupportedAtomic, 0x35),
    ] {
        assert_eq!(fault.status(), code);
    }
}

#[test]
fn pan_is_set_on_entry_unless_span() {
    let (mut v, _) = pe();
    v.take_exception(Exception::Irq);
    assert_eq!(v.arch.pan, 0, "SPAN is 1 after reset");
    v.arch.set_sys(Slot::SCTLR_EL1, 0);
    v.take_exception(Exception::Irq);
    assert_eq!(v.arch.pan, 1);
}

#[test]
fn eret_restores_and_illegal_returns_set_il() {
    let (mut v, _) = pe();
    v.arch.sp = 0x100;
    v.arch.set_sp_of(0, 0x200);
    v.arch.set_sys(Slot::ELR_EL1, 0x4000);
    v.arch.set_sys(Slot::SPSR_EL1, 0x8000_0000 | pstate::PAN);
    v.eret();
    assert_eq!(
        (v.arch.pc, v.arch.el, v.arch.nzcv, v.arch.daif, v.arch.pan, v.arch.sp),
        (0x4000, 0, 0x8000_0000, 0, 1, 0x200)
    );
    v.take_exception(Exception::Irq);
    for bad in [0x1d5, 9, 0xd, 1, 2] {
        v.arch.set_sys(Slot::SPSR_EL1, bad);
        v.arch.set_sys(Slot::ELR_EL1, 0x4000);
        v.eret();
        assert_eq!((v.arch.pc, v.arch.el, v.arch.spsel, v.arch.il), (0x4000, 1, 1, 1), "{bad:#x}");
        v.arch.il = 0;
    }
}

#[test]
fn interrupts_are_taken_when_unmasked_and_acknowledged() {
    let (mut v, machine) = pe();
    v.gic.set_pmr(0xff);
    v.gic.set_group_enabled(1, 1);
    v.shared.publish_irq(1, Some((0xa0, 42)));
    assert_eq!(v.poll(), None);
    assert_eq!(v.ring.count(), 0, "masked by PSTATE.I");
    v.set_daif(0);
    assert_ne!(v.shared.req().load(std::sync::atomic::Ordering::SeqCst), 0, "unmasking asks for a poll");
    assert_eq!(v.poll(), None);
    assert_eq!(v.ring.iter().last().unwrap().vector, 0x280);
    assert_eq!(v.mrs(crate::sysreg::SysEnc::new(3, 0, 12, 12, 0), 0).unwrap(), 42);
    v.shared.publish_irq(1, None);
    v.msr(crate::sysreg::SysEnc::new(3, 0, 12, 12, 1), 0, 42).unwrap();
    let log = machine.log.lock().unwrap();
    assert!(log.ends_with(&["acknowledge 42".into(), "deactivate 42".into()]), "{log:?}");
}

#[test]
fn the_ring_keeps_the_last() {
    let (mut v, _) = pe();
    for i in 0..100 {
        v.arch.pc = i;
        v.take_exception(Exception::Irq);
    }
    let pcs: Vec<u64> = v.ring.iter().map(|r| r.pc).collect();
    assert_eq!(pcs, (36..100).collect::<Vec<_>>());
}

#[test]
fn state_round_trips_through_json() {
    let (mut v, _) = pe();
    for i in 0..31 {
        v.arch.x[i] = i as u64 * 0x0101_0101_0101;
        v.arch.v[i] = u128::MAX / (i as u128 + 1);
    }
    v.arch.set_el_sp(0, 0);
    v.arch.sp = 77;
    v.arch.set_sys(Slot::TPIDR_EL0, u64::MAX);
    v.arch.set_sys(Slot::PMCCNTR_EL0, 5);
    v.gic.set_pmr(0xf0);
    let json = serde_json::to_string(&v.save()).unwrap();
    let (mut w, _) = pe();
    let state: crate::VcpuState = serde_json::from_str(&json).unwrap();
    w.load(&state).unwrap();
    assert_eq!(w.arch.x, v.arch.x);
    assert_eq!(w.save(), v.save());
    let mut bad = state.clone();
    bad.pstate = 9;
    assert!(w.load(&bad).is_err());
    bad = state.clone();
    bad.sys.remove("TTBR0_EL1");
    assert!(w.load(&bad).unwrap_err().to_string().contains("TTBR0_EL1"));
    bad = state;
    bad.version = 9;
    assert!(w.load(&bad).is_err());
}
