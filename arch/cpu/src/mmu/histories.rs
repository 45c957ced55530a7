//! Random histories of table edits with the maintenance that the architecture asks for, ASID switches and accesses: the caches must never answer differently
//! from a fresh walk.

use proptest::prelude::*;

use super::walk::walk;
use super::*;
use crate::Vcpu;
use crate::sysreg::{Slot, SysEnc};
use crate::testing::{RAM_BASE, pe};

/// Tables of one address space: three consecutive pages. Spaces 0 to 2 are lower halves of ASIDs 1 to 3, space 3 is the upper half.
const fn tables(space: u64) -> u64 {
    RAM_BASE + 0x1_0000 + space * 0x3000
}
/// 64 pages that mappings lead to; each begins with its number.
const POOL: u64 = RAM_BASE + 0x8_0000;
const UPPER: u64 = 0xffff_ff80_0000_0000;

#[derive(Debug, Clone)]
enum Step {
    /// Page `index` of the space now leads to `page` with these AP and nG bits (none: unmapped); then a TLBI of this form.
    Edit {
        space: u64,
        index: u64,
        page: Option<u64>,
        ap: u64,
        ng: bool,
        form: u8,
    },
    /// The second 2 MiB, or the second 1 GiB: a block or nothing.
    Block {
        space: u64,
        gib: bool,
        mapped: bool,
        ap: u64,
        form: u8,
    },
    /// TTBR0 and ASID of the space.
    Switch {
        space: u64,
    },
    Pan {
        on: bool,
    },
    Access {
        space_is_upper: bool,
        index: u64,
        block: u8,
        kind: u8,
        el1: bool,
    },
}

/// Forms of maintenance; those that drop much are rare, or nothing would stay cached.
fn form() -> impl Strategy<Value = u8> {
    prop_oneof![8 => Just(0u8), 8 => Just(1), 1 => Just(2), 8 => Just(3), 8 => Just(4), 1 => Just(5)]
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        4 => (0u64..4, 0u64..12, proptest::option::weighted(0.8, 0u64..64), 0u64..4, any::<bool>(), form())
            .prop_map(|(space, index, page, ap, ng, form)| Step::Edit { space, index, page, ap, ng, form }),
        2 => (0u64..4, any::<bool>(), any::<bool>(), 0u64..4, form())
            .prop_map(|(space, gib, mapped, ap, form)| Step::Block { space, gib, mapped, ap, form }),
        2 => (0u64..3).prop_map(|space| Step::Switch { space }),
        1 => any::<bool>().prop_map(|on| Step::Pan { on }),
        12 => (any::<bool>(), 0u64..12, 0u8..3, 0u8..3, any::<bool>())
            .prop_map(|(space_is_upper, index, block, kind, el1)| Step::Access { space_is_upper, index, block, kind, el1 }),
    ]
}

fn put(v: &Vcpu, pa: u64, descriptor: u64) {
    assert!(v.vm.ram.write_bytes(pa, &descriptor.to_le_bytes()));
}

/// A maintenance operation that covers `va` of the space.
fn maintain(v: &mut Vcpu, space: u64, va: u64, form: u8) {
    let asid = if space == 3 { 0 } else { space + 1 } << 48;
    let page = va >> 12 & 0xfff_ffff_ffff;
    let (crm, op2, operand) = match form {
        // The upper half holds entries of every ASID: forms with an ASID do not do.
        0 if space != 3 => (7, 1, asid | page),
        1 => (7, 3, page),
        2 if space != 3 => (7, 2, asid),
        0 | 3 => (7, 7, page),
        4 => (6, 3, 1 << 46 | page & 0x1f_ffff_ffff),
        _ => (7, 0, 0),
    };
    v.sys(SysEnc::new(1, 0, 8, crm, op2), 0, operand).unwrap();
}

fn prepared() -> Box<Vcpu> {
    let (mut v, _) = pe();
    for page in 0..64 {
        put(&v, POOL + page * 4096, page);
    }
    for space in 0..4 {
        put(&v, tables(space), (tables(space) + 0x1000) | 3);
        put(&v, tables(space) + 0x1000, (tables(space) + 0x2000) | 3);
    }
    v.arch.set_sys(Slot::MAIR_EL1, 0xff);
    v.arch.set_sys(Slot::TTBR1_EL1, tables(3));
    v.arch.set_sys(Slot::TTBR0_EL1, tables(0) | 1 << 48);
    v.arch.set_sys(Slot::TCR_EL1, 25 | 25 << 16 | 2 << 30 | 4 << 32 | 1 << 36);
    v.msr(SysEnc::new(3, 0, 1, 0, 0), 0, 1).unwrap();
    v
}

fn access(v: &mut Vcpu, va: u64, kind: u8, el1: bool, in_ram: bool) {
    let kind = [AccessKind::Read, AccessKind::Write, AccessKind::Execute][usize::from(kind)];
    let who = Privilege { el1, pan: el1 && v.arch.pan != 0 };
    let controls = v.controls();
    let expected = walk(&v.vm.ram, &controls, va, kind, who).and_then(|w| {
        let (r, wr, x) = w.permissions(who, controls.sctlr);
        let allowed = match kind {
            AccessKind::Read => r,
            AccessKind::Write => wr,
            AccessKind::Execute => x,
        };
        if allowed { Ok(w.pa) } else { Err(Fault::Permission(w.level)) }
    });
    assert_eq!(v.translate(va, kind, who).map(|t| t.pa), expected, "{kind:?} {va:#x} EL1 {el1}");
    // The same by the path of instructions, fast table included, twice.
    if in_ram && el1 && kind == AccessKind::Read {
        for _ in 0..2 {
            let found = v.read(va & !7, 8).ok();
            let expected = expected.ok().and_then(|pa| v.vm.ram.load_u64(pa & !7));
            assert_eq!(found, expected, "{va:#x}");
        }
    }
}

fn perform(v: &mut Vcpu, step: &Step) {
    match *step {
        Step::Edit { space, index, page, ap, ng, form } => {
            // Lower halves are per ASID, so their entries are not global.
            let ng = ng || space != 3;
            let descriptor = page.map_or(0, |p| (POOL + p * 4096) | 1 << 10 | ap << 6 | u64::from(ng) << 11 | 3);
            put(v, tables(space) + 0x2000 + index * 8, descriptor);
            let base = if space == 3 { UPPER } else { 0 };
            maintain(v, space, base + index * 4096, form);
        }
        Step::Block { space, gib, mapped, ap, form } => {
            let at = if gib { tables(space) + 8 } else { tables(space) + 0x1008 };
            put(v, at, if mapped { RAM_BASE | 1 << 10 | ap << 6 | 1 << 11 | 1 } else { 0 });
            let base = if space == 3 { UPPER } else { 0 };
            // Any address of the block will do.
            let inside =
                if gib { (1 << 30) + u64::from(form) * 0x713_3000 } else { 0x20_0000 + u64::from(form) * 0x1_3000 };
            maintain(v, space, base + inside, form);
        }
        Step::Switch { space } => {
            v.msr(SysEnc::new(3, 0, 2, 0, 0), 0, tables(space) | (space + 1) << 48).unwrap();
        }
        Step::Pan { on } => v.set_pan(on),
        Step::Access { space_is_upper, index, block, kind, el1 } => {
            let base = if space_is_upper { UPPER } else { 0 };
            let va = base
                + match block {
                    0 => index * 4096 + 8 * (index & 1),
                    1 => 0x20_0000 + index * 0x1_1000,
                    _ => (1 << 30) + index * 0x25_3000,
                };
            access(v, va, kind, el1, block == 0);
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn caches_answer_as_a_fresh_walk(steps in proptest::collection::vec(step(), 1..800)) {
        let mut v = prepared();
        for step in &steps {
            perform(&mut v, step);
        }
    }
}
