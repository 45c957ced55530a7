//! The walker against a second one written from the Arm ARM's pseudocode, on random tables; the caches against the walker; maintenance.

use proptest::prelude::*;

use super::maintenance::decode;
use super::walk::{Controls, walk};
use super::*;
use crate::sysreg::{Slot, SysEnc};
use crate::testing::{RAM_BASE, pe, ram};

const LEN: u64 = 1 << 18;

/// A naive walker: bit slices by arithmetic on whole numbers, one function, no shared code with `walk`.
mod naive {
    use super::*;

    fn bits(v: u64, hi: u32, lo: u32) -> u64 {
        (v >> lo) % (1u64 << (hi - lo + 1))
    }

    #[derive(Debug, PartialEq)]
    pub struct Out {
        pub pa: u64,
        pub ap: u64,
        pub xn: u64,
        pub pxn: u64,
        pub level: u32,
        pub ng: bool,
        pub mair: u8,
        pub clean: bool,
    }

    pub fn walk(read: &dyn Fn(u64) -> Option<u64>, c: &Controls, va: u64, user: bool) -> Result<Out, Fault> {
        let t = c.tcr;
        let top_half = bits(va, 55, 55) == 1;
        let (tsz, tg, epd, tbi, hpd, e0pd, ttbr) = if top_half {
            (
                bits(t, 21, 16),
                [4, 16, 4, 64][bits(t, 31, 30) as usize],
                bits(t, 23, 23),
                bits(t, 38, 38),
                bits(t, 42, 42),
                bits(t, 56, 56),
                c.ttbr1,
            )
        } else {
            (
                bits(t, 5, 0),
                [4, 64, 16, 4][bits(t, 15, 14) as usize],
                bits(t, 7, 7),
                bits(t, 37, 37),
                bits(t, 41, 41),
                bits(t, 55, 55),
                c.ttbr0,
            )
        };
        let tsz = tsz.clamp(16, 39) as u32;
        let size = 64 - tsz;
        let addr_top = if tbi == 1 { 55 } else { 63 };
        for b in size..=addr_top {
            if (bits(va, b, b) == 1) != top_half {
                return Err(Fault::Translation(0));
            }
        }
        if epd == 1 || (e0pd == 1 && user) {
            return Err(Fault::Translation(0));
        }
        let (grain, stride) = match tg {
            4 => (12, 9),
            16 => (14, 11),
            _ => (16, 13),
        };
        let pa_size = [32, 36, 40, 42, 44, 44, 44, 44][bits(t, 34, 32) as usize];
        let first_level = 4 - (1 + (size - grain - 1) / stride);
        let mut base = bits(ttbr, 47, 1) * 2;
        if base >= 1 << pa_size {
            return Err(Fault::AddressSize(0));
        }
        let first_entries_log2 = size - ((3 - first_level) * stride + grain);
        let align = (first_entries_log2 + 3).max(6);
        base -= base % (1 << align);
        let (mut ro, mut nouser, mut xnt, mut pxnt) = (0, 0, 0, 0);
        let mut level = first_level;
        loop {
            let lo = (3 - level) * stride + grain;
            let hi = if level == first_level { size - 1 } else { lo + stride - 1 };
            let index = bits(va, hi, lo);
            let pa = base + index * 8;
            let d = read(pa).ok_or(Fault::ExternalOnWalk(level as u8))?;
            let valid_block = match tg {
                4 => level == 1 || level == 2,
                _ => level == 2,
            };
            let kind = bits(d, 1, 0);
            if kind == 3 && level < 3 {
                let next = bits(d, 47, grain) << grain;
                if next >= 1 << pa_size {
                    return Err(Fault::AddressSize(level as u8));
                }
                if hpd == 0 {
                    ro |= bits(d, 62, 62);
                    nouser |= bits(d, 61, 61);
                    xnt |= bits(d, 60, 60);
                    pxnt |= bits(d, 59, 59);
                }
                base = next;
                level += 1;
                continue;
            }
            if !((kind == 3 && level == 3) || (kind == 1 && valid_block)) {
                return Err(Fault::Translation(level as u8));
            }
            let out = bits(d, 47, lo) << lo;
            if out >= 1 << pa_size {
                return Err(Fault::AddressSize(level as u8));
            }
            let ha = bits(t, 39, 39) == 1;
            let hd = ha && bits(t, 40, 40) == 1;
            if bits(d, 10, 10) == 0 && !ha {
                return Err(Fault::AccessFlag(level as u8));
            }
            let clean = hd && bits(d, 51, 51) == 1 && bits(d, 7, 7) == 1 && ro == 0;
            let ap2 = if clean { 0 } else { bits(d, 7, 7) | ro };
            let ap1 = if nouser == 1 { 0 } else { bits(d, 6, 6) };
            return Ok(Out {
                pa: out + bits(va, lo - 1, 0),
                ap: ap2 * 2 + ap1,
                xn: bits(d, 54, 54) | xnt,
                pxn: bits(d, 53, 53) | pxnt,
                level,
                ng: bits(d, 11, 11) == 1,
                mair: c.mair.to_le_bytes()[bits(d, 4, 2) as usize],
                clean,
            });
        }
    }
}

/// A descriptor that leads somewhere most of the time.
fn descriptor() -> impl Strategy<Value = u64> {
    let address = prop_oneof![
        8 => (0..LEN / 4096).prop_map(|p| RAM_BASE + p * 4096),
        2 => (0..LEN / 65536).prop_map(|p| RAM_BASE + p * 65536),
        1 => any::<u64>().prop_map(|a| a & 0xffff_ffff_f000),
    ];
    let kind = prop_oneof![6 => Just(3u64), 2 => Just(1u64), 1 => Just(0u64)];
    (address, kind, any::<u64>(), any::<bool>()).prop_map(|(a, kind, noise, accessed)| {
        let attributes = noise & (0x7f8_0000_0000_0000 << 1 | 0x9fc | 0x7800_0000_0000_0000);
        a | kind | attributes | if accessed { 1 << 10 } else { noise & 1 << 10 }
    })
}

fn controls() -> impl Strategy<Value = Controls> {
    (any::<u64>(), 0u64..LEN / 64, 0u64..LEN / 64, any::<u64>(), prop_oneof![Just(25u64), 14u64..42], 0u64..3, 0u64..3)
        .prop_map(|(noise, t0, t1, mair, tsz, g0, g1)| {
            // IPS is 44 bits mostly, so that tables are reachable.
            let ips = if noise >> 60 == 0 { noise >> 50 & 7 } else { 4 };
            let tcr = tsz
                | tsz << 16
                | g0 << 14
                | [2, 1, 3][g1 as usize] << 30
                | ips << 32
                | noise & (3 << 37 | 3 << 39 | 3 << 41)
                | if noise & 0xf00 == 0 { 1 << 7 | 1 << 23 } else { 0 }
                | if noise & 0xf000 == 0 { 3 << 55 } else { 0 };
            Controls {
                tcr,
                ttbr0: RAM_BASE + t0 * 64,
                ttbr1: RAM_BASE + t1 * 64,
                mair,
                sctlr: 1,
                pa_bits: 44,
                hardware_af: true,
                hardware_dirty: true,
            }
        })
}

fn address() -> impl Strategy<Value = u64> {
    (any::<u64>(), 14u32..42, any::<bool>(), any::<u8>(), 0..12u8).prop_map(|(v, tsz, high, top, tag)| {
        let low = v & (u64::MAX >> tsz);
        let va = if high { low | !(u64::MAX >> tsz) } else { low };
        if tag == 0 { va & !(0xff << 56) | u64::from(top) << 56 } else { va }
    })
}

fn read_only(who: &str, r: Result<Walk, Fault>) -> Result<naive::Out, Fault> {
    let _ = who;
    r.map(|w| naive::Out {
        pa: w.pa,
        ap: u64::from(w.ap),
        xn: u64::from(w.uxn),
        pxn: u64::from(w.pxn),
        level: u32::from(w.level),
        ng: w.ng,
        mair: w.attributes.mair,
        clean: w.dirty_on_write,
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]

    #[test]
    fn walker_agrees_with_the_naive_one(
        c in controls(),
        words in proptest::collection::vec(descriptor(), 512),
        vas in proptest::collection::vec(address(), 64),
        user: bool,
    ) {
        let ram = ram(RAM_BASE, LEN);
        for page in 0..LEN / 4096 {
            // Each page holds the 512 words, shifted, so that random indexes find descriptors.
            let bytes: Vec<u8> = (0..512).flat_map(|i| words[(i + 37 * page as usize) % 512].to_le_bytes()).collect();
            prop_assert!(ram.write_bytes(RAM_BASE + page * 4096, &bytes));
        }
        for va in vas {
            let before = |pa: u64| ram.load_u64(pa);
            let expected = naive::walk(&before, &c, va, user);
            let who = Privilege { el1: !user, pan: false };
            let found = walk(&ram, &c, va, AccessKind::Read, who);
            if let Ok(w) = &found {
                let now = ram.load_u64(w.descriptor_pa).unwrap();
                prop_assert!(now >> 10 & 1 == 1, "the access flag is set after a walk");
            }
            prop_assert_eq!(read_only("walk", found), expected, "va {:#x} tcr {:#x}", va, c.tcr);
        }
    }
}

#[test]
fn permissions_by_the_table_of_the_manual() {
    // (AP[2:1], EL1 read/write, EL0 read/write), Arm ARM table D8-61.
    for (ap, el1_write, el0_read, el0_write) in
        [(0, true, false, false), (1, true, true, true), (2, false, false, false), (3, false, true, false)]
    {
        let w = Walk { ap, ..cached_walk() };
        let el1 = Privilege { el1: true, pan: false };
        let el0 = Privilege { el1: false, pan: false };
        assert_eq!(w.permissions(el1, 1), (true, el1_write, !el0_write));
        assert_eq!(w.permissions(el0, 1), (el0_read, el0_write, true), "execute-only for EL0 is allowed");
        assert_eq!(w.permissions(Privilege { el1: true, pan: true }, 1).0, !el0_read, "PAN");
        assert_eq!(w.permissions(el1, 1 << 19 | 1).2, !el1_write, "WXN at EL1");
        assert_eq!(w.permissions(el0, 1 << 19 | 1).2, !el0_write, "WXN at EL0");
    }
}

fn cached_walk() -> Walk {
    Walk {
        pa: 0,
        block_shift: 12,
        level: 3,
        ap: 0,
        uxn: false,
        pxn: false,
        ng: false,
        dirty_on_write: false,
        attributes: Attributes::NORMAL,
        descriptor_pa: 0,
        descriptor: 0,
    }
}

/// Tables for VA 0 and up: level 1 at RAM_BASE, level 2 at +4K, level 3 at +8K; 39-bit, 4K.
fn mapped_pe() -> Box<crate::Vcpu> {
    let (mut v, _) = pe();
    let write = |v: &crate::Vcpu, pa: u64, d: u64| assert!(v.vm.ram.write_bytes(pa, &d.to_le_bytes()));
    write(&v, RAM_BASE, (RAM_BASE + 0x1000) | 3);
    write(&v, RAM_BASE + 0x1000, (RAM_BASE + 0x2000) | 3);
    for i in 0..512 {
        // Not global, AF, EL0 and EL1 read-write.
        write(
            &v,
            RAM_BASE + 0x2000 + i * 8,
            (RAM_BASE + 0x4_0000 + (i % 64) * 0x1000) | 1 << 11 | 1 << 10 | 1 << 6 | 3,
        );
    }
    // The second 2 MiB: a block.
    write(&v, RAM_BASE + 0x1008, RAM_BASE | 1 << 10 | 1 << 11 | 1 << 6 | 1);
    v.arch.set_sys(Slot::MAIR_EL1, 0xff);
    v.arch.set_sys(Slot::TTBR0_EL1, RAM_BASE | 5 << 48);
    v.arch.set_sys(Slot::TCR_EL1, 25 | 25 << 16 | 2 << 30 | 4 << 32 | 1 << 36 | 1 << 23);
    v.msr(SysEnc::new(3, 0, 1, 0, 0), 0, 1).unwrap();
    v
}

const EL1: Privilege = Privilege { el1: true, pan: false };

#[test]
fn entries_live_until_invalidated_and_are_tagged_by_asid() {
    let mut v = mapped_pe();
    let l3 = RAM_BASE + 0x2000;
    let pa = |v: &mut crate::Vcpu, va| v.translate(va, AccessKind::Read, EL1).map(|t| t.pa);
    assert_eq!(pa(&mut v, 0x3010), Ok(RAM_BASE + 0x4_3010));
    assert!(v.vm.ram.write_bytes(l3 + 3 * 8, &0u64.to_le_bytes()));
    assert_eq!(pa(&mut v, 0x3010), Ok(RAM_BASE + 0x4_3010), "still cached");
    // Another ASID does not see it, and coming back keeps it.
    v.msr(SysEnc::new(3, 0, 2, 0, 0), 0, RAM_BASE | 6 << 48).unwrap();
    assert_eq!(pa(&mut v, 0x3010), Err(Fault::Translation(3)));
    v.msr(SysEnc::new(3, 0, 2, 0, 0), 0, RAM_BASE | 5 << 48).unwrap();
    assert_eq!(pa(&mut v, 0x3010), Ok(RAM_BASE + 0x4_3010), "no flush at an ASID switch");
    // TLBI ASIDE1 of the other ASID does nothing to this one.
    v.sys(SysEnc::new(1, 0, 8, 7, 2), 0, 6 << 48).unwrap();
    assert_eq!(pa(&mut v, 0x3010), Ok(RAM_BASE + 0x4_3010));
    v.sys(SysEnc::new(1, 0, 8, 7, 2), 0, 5 << 48).unwrap();
    assert_eq!(pa(&mut v, 0x3010), Err(Fault::Translation(3)));
    assert_eq!(pa(&mut v, 0x4010), Ok(RAM_BASE + 0x4_4010));
}

#[test]
fn every_tlbi_form_removes_the_page() {
    for (crm, op2, operand) in [
        (7, 0, 0),                     // VMALLE1
        (7, 1, 5 << 48 | 3),           // VAE1
        (7, 2, 5 << 48),               // ASIDE1
        (7, 3, 3),                     // VAAE1
        (7, 5, 5 << 48 | 3),           // VALE1
        (7, 7, 3),                     // VAALE1
        (3, 1, 5 << 48 | 3),           // VAE1IS
        (1, 1, 5 << 48 | 3),           // VAE1OS
        (6, 1, 5 << 48 | 1 << 46 | 2), // RVAE1: pages 2, 3
        (2, 7, 1 << 46 | 1 << 39),     // RVAALE1IS: pages 0 to 3
        (5, 3, 1 << 46 | 1 << 44),     // RVAAE1OS: 64 pages
    ] {
        let mut v = mapped_pe();
        assert!(v.translate(0x3010, AccessKind::Write, EL1).is_ok());
        assert!(v.read(0x3010, 8).is_ok());
        assert!(v.vm.ram.write_bytes(RAM_BASE + 0x2000 + 3 * 8, &0u64.to_le_bytes()));
        assert!(v.read(0x3010, 8).is_ok());
        v.sys(SysEnc::new(1, 0, 8, crm, op2), 0, operand).unwrap();
        assert_eq!(v.translate(0x3010, AccessKind::Read, EL1), Err(Fault::Translation(3)), "CRm {crm} op2 {op2}");
        assert!(v.read(0x3010, 8).is_err());
    }
}

#[test]
fn a_block_goes_as_a_whole() {
    let mut v = mapped_pe();
    for va in [0x20_0000u64, 0x25_5000, 0x3f_f000] {
        assert!(v.read(va & 0x23_ffff, 8).is_ok());
    }
    assert!(v.vm.ram.write_bytes(RAM_BASE + 0x1008, &0u64.to_le_bytes()));
    v.sys(SysEnc::new(1, 0, 8, 7, 1), 0, 5 << 48 | 0x200).unwrap();
    for va in [0x20_0000u64, 0x21_5000, 0x23_f000] {
        assert_eq!(v.translate(va, AccessKind::Read, EL1), Err(Fault::Translation(2)), "{va:#x}");
    }
}

#[test]
fn hardware_dirty_state() {
    let mut v = mapped_pe();
    let at = RAM_BASE + 0x2000 + 7 * 8;
    // DBM, AP[2] = 1, AF = 0.
    let d = (RAM_BASE + 0x5_0000) | 1 << 51 | 1 << 7 | 1 << 11 | 3;
    assert!(v.vm.ram.write_bytes(at, &d.to_le_bytes()));
    assert_eq!(v.translate(0x7000, AccessKind::Read, EL1), Err(Fault::AccessFlag(3)));
    let tcr = v.arch.sys(Slot::TCR_EL1);
    v.msr(SysEnc::new(3, 0, 2, 0, 2), 0, tcr | 3 << 39).unwrap();
    assert_eq!(v.read(0x7000, 8), Ok(0));
    assert_eq!(v.vm.ram.load_u64(at), Some(d | 1 << 10), "read: accessed, still clean");
    v.write(0x7000, 8, 1).unwrap();
    assert_eq!(v.vm.ram.load_u64(at), Some((d | 1 << 10) & !(1 << 7)), "write: dirty");
    assert_eq!(v.read(0x7000, 8), Ok(1));
}

#[test]
fn device_memory_and_mmu_off_refuse_unaligned_accesses() {
    let (mut v, machine) = pe();
    assert_eq!(v.read(RAM_BASE, 8), Ok(0));
    assert!(v.read(RAM_BASE + 1, 8).is_err());
    assert_eq!(v.syndrome.iss & 0x3f, 0x21);
    assert_eq!(v.read(0x900_0000, 4), Ok(0x900_0055));
    assert!(v.read(0x3000_0000, 4).is_err(), "nobody there");
    assert_eq!((v.syndrome.iss & 0x3f, v.syndrome.far), (0x10, Some(0x3000_0000)));
    assert!(v.read(1 << 44, 4).is_err());
    assert_eq!(v.syndrome.iss & 0x3f, 0, "address size fault, level 0");
    assert_eq!(machine.log.lock().unwrap().last().unwrap(), "read 0x30000000 4");
}

#[test]
fn accesses_over_a_page_end() {
    let mut v = mapped_pe();
    v.write(0x3ffd, 8, 0x8877_6655_4433_2211).unwrap();
    assert_eq!(v.read(0x3ffd, 8), Ok(0x8877_6655_4433_2211));
    assert_eq!(v.read(0x4000, 4), Ok(0x7766_5544));
    assert!(v.vm.ram.write_bytes(RAM_BASE + 0x2000 + 4 * 8, &0u64.to_le_bytes()));
    v.sys(SysEnc::new(1, 0, 8, 7, 0), 0, 0).unwrap();
    assert!(v.write(0x3ffd, 8, 0).is_err());
    assert_eq!(v.syndrome.far, Some(0x4000));
    assert_eq!(v.read(0x3ffd, 1), Ok(0x11), "nothing was written");
}

#[test]
fn exclusives_and_atomics() {
    let mut v = mapped_pe();
    v.write(0x1000, 8, 5).unwrap();
    assert_eq!(v.load_exclusive(0x1000, 8).unwrap(), 5);
    assert_eq!(v.store_exclusive(0x1000, 8, 6), Ok(true));
    assert_eq!(v.store_exclusive(0x1000, 8, 7), Ok(false), "the monitor is open");
    v.load_exclusive(0x1000, 4).unwrap();
    v.write(0x1000, 4, 9).unwrap();
    assert_eq!(v.store_exclusive(0x1000, 4, 1), Ok(false), "somebody wrote");
    assert!(v.load_exclusive(0x1004, 8).is_err());
    assert_eq!(v.atomic_rmw(0x1000, 1, crate::Rmw::SignedMax, 0x80), Ok(9));
    assert_eq!(v.atomic_rmw(0x1000, 4, crate::Rmw::Add, u64::MAX), Ok(9));
    assert_eq!(v.compare_and_swap(0x1000, 2, 8, 0x1234), Ok(8));
    assert_eq!(v.read(0x1000, 8), Ok(0x1234));
    let big = u128::from(u64::MAX) << 64 | 3;
    assert_eq!(v.compare_and_swap128(0x1000, 0x1234, big), Ok(0x1234));
    assert_eq!(v.load_exclusive(0x1000, 16), Ok(big));
    assert_eq!(v.store_exclusive(0x1000, 16, 1), Ok(true));
    assert_eq!(v.read128(0x1000), Ok(1));
}

#[test]
fn at_writes_par() {
    let mut v = mapped_pe();
    v.sys(SysEnc::new(1, 0, 7, 8, 0), 0, 0x5123).unwrap();
    assert_eq!(v.arch.sys(Slot::PAR_EL1), 0xff << 56 | (RAM_BASE + 0x4_5000) | 1 << 11);
    v.sys(SysEnc::new(1, 0, 7, 8, 3), 0, 0x80_0000).unwrap();
    assert_eq!(v.arch.sys(Slot::PAR_EL1), 1 << 11 | 6 << 1 | 1, "level 2 translation fault");
}

#[test]
fn tlbi_encodings_that_do_not_exist() {
    assert!(decode(SysEnc::new(1, 0, 8, 7, 4), 0, true).is_none());
    assert!(decode(SysEnc::new(1, 0, 8, 6, 0), 0, true).is_none());
    assert!(decode(SysEnc::new(1, 4, 8, 7, 0), 0, true).is_none());
    let (op, broadcast) = decode(SysEnc::new(1, 0, 8, 3, 1), 0xffff_0fff_ffff_ffff, false).unwrap();
    assert_eq!(
        (op.asid, broadcast, op.start),
        (0xff, true, 0xffff_ffff_ffff_f000),
        "8-bit ASIDs; VA sign-extended from bit 55"
    );
}

#[test]
fn broadcast_tlbi_reaches_the_other_pe() {
    let (vm, machine) = crate::testing::vm(2, 1 << 20);
    let mut a = crate::Vcpu::new(0, vm.clone(), machine.clone());
    let mut b = crate::Vcpu::new(1, vm.clone(), machine);
    b.tlbi_log = Some(Vec::new());
    // PE 1 never had ASID 7: it is not asked.
    a.sys(SysEnc::new(1, 0, 8, 3, 1), 0, 7 << 48 | 0x123).unwrap();
    a.sys(SysEnc::new(1, 0, 8, 3, 2), 0, 7 << 48).unwrap();
    assert!(
        !a.shoot_pending && b.shared.req().load(std::sync::atomic::Ordering::SeqCst) & crate::shared::req::SHOOT == 0
    );
    // It has it now, and is asked about the upper half whatever the ASID.
    b.arch.set_sys(Slot::TTBR0_EL1, 7 << 48);
    b.arch.set_sys(Slot::TCR_EL1, 1 << 36);
    b.select_context();
    a.sys(SysEnc::new(1, 0, 8, 3, 1), 0, 7 << 48 | 0x123).unwrap();
    assert!(a.shoot_pending);
    assert_eq!(b.poll(), None);
    assert_eq!(
        b.tlbi_log.as_ref().unwrap(),
        &[TlbiOp { kind: TlbiKind::Va, asid: 7, start: 0x12_3000, last: 0x12_3fff }]
    );
    a.complete_tlbi();
    a.tlbi_log = Some(Vec::new());
    a.sys(SysEnc::new(1, 0, 8, 3, 1), 0, 9 << 48 | 0xfff_ffff_f123).unwrap();
    assert!(a.shoot_pending && a.completed.is_empty(), "the upper half");
    a.complete_tlbi();
    assert_eq!(a.completed, [(0xffff_ffff_ff12_3000, 0xffff_ffff_ff12_3fff)]);
    // An address space that is not current goes as a whole, and is not asked about again.
    b.arch.set_sys(Slot::TTBR0_EL1, 8 << 48);
    b.select_context();
    b.poll();
    a.sys(SysEnc::new(1, 0, 8, 3, 1), 0, 7 << 48 | 0x123).unwrap();
    assert!(a.shoot_pending);
    b.poll();
    a.complete_tlbi();
    a.sys(SysEnc::new(1, 0, 8, 3, 1), 0, 7 << 48 | 0x123).unwrap();
    assert!(!a.shoot_pending, "nothing of it is left");
}

#[test]
fn who_forgets_by_itself_is_not_asked_any_more() {
    let (vm, machine) = crate::testing::vm(2, 1 << 20);
    let mut a = crate::Vcpu::new(0, vm.clone(), machine.clone());
    let mut b = crate::Vcpu::new(1, vm.clone(), machine);
    b.arch.set_sys(Slot::TCR_EL1, 1 << 36);
    for asid in [9, 8] {
        b.arch.set_sys(Slot::TTBR0_EL1, asid << 48);
        b.select_context();
    }
    // A page of an ASID by PE 0: is PE 1 asked?
    let mut asked = |b: &mut crate::Vcpu, asid: u64| {
        a.sys(SysEnc::new(1, 0, 8, 3, 1), 0, asid << 48 | 0x123).unwrap();
        let asked = a.shoot_pending;
        b.poll();
        a.complete_tlbi();
        asked
    };
    // As behind a walk of an identity map: of whatever ASID the page is, it may be cached.
    assert!(!b.shared.asids.add_low_global());
    assert!(asked(&mut b, 7));
    // VMALLE1, of PE 1 alone.
    b.sys(SysEnc::new(1, 0, 8, 7, 0), 0, 0).unwrap();
    assert!(!asked(&mut b, 7) && !asked(&mut b, 9));
    assert!(asked(&mut b, 8), "the space that it runs");
    // ASIDE1 of a space that it does not run, and of the one that it does.
    b.shared.asids.add(9);
    b.sys(SysEnc::new(1, 0, 8, 7, 2), 0, 9 << 48).unwrap();
    b.sys(SysEnc::new(1, 0, 8, 7, 2), 0, 8 << 48).unwrap();
    assert!(!asked(&mut b, 9) && asked(&mut b, 8));
}
