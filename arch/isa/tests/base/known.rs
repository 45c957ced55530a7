//! Results that follow from the Arm ARM, one or more per class, and what no user-mode program can show: system instructions, faults.

use isa::Features;
use isa::operand::{BarrierDomain, BarrierTypes, BranchKind, PstateField, SysEnc};
use isa::sem::AccessKind;

use super::machine::{CODE, Event, Machine, Stop, WINDOW};

const N: u32 = 8;
const Z: u32 = 4;
const C: u32 = 2;
const V: u32 = 1;
const MIN: u64 = 1 << 63;
const ALL: u64 = u64::MAX;

fn execute(m: &mut Machine, word: u32) -> Result<(), Stop> {
    m.execute(&isa::decode(word, Features::ALL))
}

/// (text, word, X0 to X3, NZCV) and (X0, NZCV) after it.
type Case = (&'static str, u32, [u64; 4], u32, u64, u32);

fn check(cases: &[Case]) {
    for &(text, word, x, nzcv, x0, flags) in cases {
        let mut m = Machine::new(1);
        m.x[..4].copy_from_slice(&x);
        m.nzcv = nzcv << 28;
        assert_eq!(execute(&mut m, word), Ok(()), "{text}");
        assert_eq!((m.x[0], m.nzcv >> 28), (x0, flags), "{text} of {x:x?}: got {:#x}, {:x}", m.x[0], m.nzcv >> 28);
        assert_eq!(m.pc, CODE + 4, "{text}");
    }
}

#[test]
fn additions_and_subtractions() {
    check(&[
        ("add x0, x1, #4095, lsl #12", 0x917f_fc20, [0, 1, 0, 0], 5, 0xff_f001, 5),
        ("adds w0, w1, w2", 0x2b02_0020, [0, 0x7fff_ffff, 1, 0], 0, 0x8000_0000, N | V),
        ("adds w0, w1, w2", 0x2b02_0020, [0, ALL, 0xffff_ffff_0000_0001, 0], 0, 0, Z | C),
        ("subs x0, x1, x2", 0xeb02_0020, [0, MIN, 1, 0], 0, MIN - 1, C | V),
        ("subs x0, x1, x2", 0xeb02_0020, [0, 1, 2, 0], 0, ALL, N),
        ("subs w0, w1, #1", 0x7100_0420, [0, 1 << 32, 0, 0], 0, 0xffff_ffff, N),
        ("sub x0, x1, w2, uxtb #4", 0xcb22_1020, [0, 0x1000, 0x1ff, 0], 0, 0x10, 0),
        ("adcs w0, w1, w2", 0x3a02_0020, [0, 0xffff_ffff, 0, 0], C, 0, Z | C),
        ("adcs w0, w1, w2", 0x3a02_0020, [0, 0x7fff_ffff, 0, 0], C, 0x8000_0000, N | V),
        ("sbc x0, x1, x2", 0xda02_0020, [0, 5, 3, 0], 0, 1, 0),
        ("sbc x0, x1, x2", 0xda02_0020, [0, 5, 3, 0], C, 2, C),
        ("adrp x0, .+0x3000", 0xf000_0000, [0; 4], 0, CODE + 0x3000, 0),
    ]);
}

#[test]
fn stack_pointer_forms() {
    let mut m = Machine::new(1);
    m.x[1] = 0x100;
    assert_eq!(execute(&mut m, 0x9100_403f), Ok(())); // add sp, x1, #16
    assert_eq!(m.sp, 0x110);
    assert_eq!(execute(&mut m, 0xf100_43ff), Ok(())); // cmp sp, #16: the result goes to ZR, not to SP
    assert_eq!((m.sp, m.nzcv >> 28), (0x110, C));
    m.x[1] = 0xffff_fffe;
    assert_eq!(execute(&mut m, 0x8b21_cbe0), Ok(())); // add x0, sp, w1, sxtw #2
    assert_eq!(m.x[0], 0x108);
    assert_eq!(execute(&mut m, 0xb240_1c3f), Ok(())); // orr sp, x1, #0xff
    assert_eq!(m.sp, 0xffff_ffff);
}

#[test]
fn logic_moves_and_fields() {
    check(&[
        ("and x0, x1, #0x5555555555555555", 0x9200_f020, [0, ALL, 0, 0], 3, 0x5555_5555_5555_5555, 3),
        ("ands w0, w1, #0x80000000", 0x7201_0020, [0, ALL, 0, 0], C | V, 0x8000_0000, N),
        ("bics x0, x1, x2, ror #4", 0xeae2_1020, [0, ALL, 0xf, 0], C, ALL >> 4, 0),
        ("orn w0, wzr, w1", 0x2a21_03e0, [0, 0xffff_ffff_0000_00ff, 0, 0], 0, 0xffff_ff00, 0),
        ("movn w0, #0x1234, lsl #16", 0x12a2_4680, [ALL; 4], 0, 0xedcb_ffff, 0),
        ("movk x0, #0xbeef, lsl #32", 0xf2d7_dde0, [ALL, 0, 0, 0], 0, 0xffff_beef_ffff_ffff, 0),
        ("movz x0, #1, lsl #48", 0xd2e0_0020, [ALL; 4], 0, 1 << 48, 0),
        ("sbfx x0, x1, #4, #8", 0x9344_2c20, [0, 0xabc, 0, 0], 0, 0xffff_ffff_ffff_ffab, 0),
        ("sbfiz w0, w1, #28, #4", 0x1304_0c20, [0, 0xff8, 0, 0], 0, 0x8000_0000, 0),
        ("ubfiz x0, x1, #60, #4", 0xd344_0c20, [0, 0xffff_fff9, 0, 0], 0, 9 << 60, 0),
        ("bfi w0, w1, #8, #4", 0x3318_0c20, [ALL, 0xffff_fff5, 0, 0], 0, 0xffff_f5ff, 0),
        ("bfxil x0, x1, #56, #8", 0xb378_fc20, [0x1111, 0xab << 56, 0, 0], 0, 0x11ab, 0),
        ("extr x0, x1, x2, #8", 0x93c2_2020, [0, 0x12, 0xff00, 0], 0, 0x1200_0000_0000_00ff, 0),
        ("ror w0, w1, #4", 0x1381_1020, [0, 0xffff_ffff_1234_5678, 0, 0], 0, 0x8123_4567, 0),
    ]);
}

#[test]
fn division_shifts_and_counts() {
    check(&[
        ("udiv x0, x1, x2", 0x9ac2_0820, [0, 7, 0, 0], 0, 0, 0),
        ("udiv x0, x1, x2", 0x9ac2_0820, [0, ALL, 2, 0], 0, ALL >> 1, 0),
        ("sdiv w0, w1, w2", 0x1ac2_0c20, [0, 0x8000_0000, 0xffff_ffff, 0], 0, 0x8000_0000, 0),
        ("sdiv w0, w1, w2", 0x1ac2_0c20, [0, 0xffff_fff9, 2, 0], 0, 0xffff_fffd, 0),
        ("lsl w0, w1, w2", 0x1ac2_2020, [0, 1, 33, 0], 0, 2, 0),
        ("asr x0, x1, x2", 0x9ac2_2820, [0, MIN, 127, 0], 0, ALL, 0),
        ("clz w0, w1", 0x5ac0_1020, [0, 1 << 32, 0, 0], 0, 32, 0),
        ("cls x0, x1", 0xdac0_1420, [0, ALL, 0, 0], 0, 63, 0),
        ("cls x0, x1", 0xdac0_1420, [0, 1 << 62, 0, 0], 0, 0, 0),
        ("rbit w0, w1", 0x5ac0_0020, [0, 0xffff_ffff_0000_0001, 0, 0], 0, 0x8000_0000, 0),
        ("rev16 w0, w1", 0x5ac0_0420, [0, 0x1122_3344, 0, 0], 0, 0x2211_4433, 0),
        ("rev32 x0, x1", 0xdac0_0820, [0, 0x1122_3344_5566_7788, 0, 0], 0, 0x4433_2211_8877_6655, 0),
        ("rev x0, x1", 0xdac0_0c20, [0, 0x1122_3344_5566_7788, 0, 0], 0, 0x8877_6655_4433_2211, 0),
    ]);
}

#[test]
fn products_selections_and_checksums() {
    check(&[
        ("smaddl x0, w1, w2, x3", 0x9b22_0c20, [0, 0xffff_ffff, 0x1_0000_0002, 5], 0, 3, 0),
        ("umsubl x0, w1, w2, x3", 0x9ba2_8c20, [0, 0xffff_ffff, 2, 0], 0, 0u64.wrapping_sub(0x1_ffff_fffe), 0),
        ("smulh x0, x1, x2", 0x9b42_7c20, [0, ALL, 2, 0], 0, ALL, 0),
        ("umulh x0, x1, x2", 0x9bc2_7c20, [0, ALL, 2, 0], 0, 1, 0),
        ("csinc w0, w1, w2, eq", 0x1a82_0420, [0, 7, 0xffff_ffff, 0], 0, 0, 0),
        ("csinc w0, w1, w2, eq", 0x1a82_0420, [0, 1 << 32 | 7, 0xffff_ffff, 0], Z, 7, Z),
        ("csneg x0, x1, x2, ge", 0xda82_a420, [0, 7, 1, 0], N, ALL, N),
        ("ccmp x1, x2, #0xf, ne", 0xfa42_102f, [0, 1, 1, 0], Z, 0, 15),
        ("ccmp x1, x2, #0xf, ne", 0xfa42_102f, [0, 1, 1, 0], 0, 0, Z | C),
        ("ccmn w1, #1, #0, al", 0x3a41_e820, [0, 0xffff_ffff, 0, 0], 0, 0, Z | C),
        // The check values of "123456789" are defined with inverted start and end.
        ("crc32b w0, w1, w2", 0x1ac2_4020, [0, 0xffff_ffff, 0x31, 0], 0, 0x7c23_1048, 0),
        ("crc32cx w0, w1, x2", 0x9ac2_5c20, [0, 0, 0, 0], 0, 0, 0),
    ]);
}

#[test]
fn crc_check_values() {
    use isa::operand::Size;
    use isa::value::crc::crc32;
    for (castagnoli, check) in [(false, 0xcbf4_3926), (true, 0xe306_9283)] {
        let eight = crc32(castagnoli, Size::X, !0, u64::from_le_bytes(*b"12345678"));
        assert_eq!(!crc32(castagnoli, Size::B, eight, 0x39), check);
    }
}

fn branch(word: u32, prepare: impl FnOnce(&mut Machine)) -> (u64, u64, Vec<Event>) {
    let mut m = Machine::new(1);
    prepare(&mut m);
    assert_eq!(execute(&mut m, word), Ok(()));
    (m.pc, m.x[30], m.events)
}

#[test]
fn branches() {
    let nothing = |_: &mut Machine| {};
    assert_eq!(branch(0x9400_0010, nothing), (CODE + 64, CODE + 4, vec![Event::Branch(BranchKind::Call)])); // bl .+64
    // blr x30 goes to what X30 was.
    let blr = branch(0xd63f_03c0, |m| m.x[30] = 0x1234);
    assert_eq!(blr, (0x1234, CODE + 4, vec![Event::Branch(BranchKind::Call)]));
    let ret = branch(0xd65f_03c0, |m| m.x[30] = 0x1234);
    assert_eq!(ret, (0x1234, 0x1234, vec![Event::Branch(BranchKind::Return)]));
    assert_eq!(branch(0x54ff_ffc0, |m| m.nzcv = 1 << 30).0, CODE - 8); // b.eq .-8
    assert_eq!(branch(0x54ff_ffc0, nothing).0, CODE + 4);
    assert_eq!(branch(0x3400_0081, |m| m.x[1] = 1 << 32).0, CODE + 16); // cbz w1, .+16
    assert_eq!(branch(0x3400_0081, |m| m.x[1] = 1).0, CODE + 4);
    assert_eq!(branch(0xb7ff_ff01, |m| m.x[1] = MIN).0, CODE - 32); // tbnz x1, #63, .-32
    assert_eq!(branch(0xb7ff_ff01, |m| m.x[1] = MIN - 1).0, CODE + 4);
}

#[test]
fn every_condition_of_every_flags() {
    for cond in 0..16u32 {
        for flags in 0..16u32 {
            let (n, z, c, v) = (flags & N != 0, flags & Z != 0, flags & C != 0, flags & V != 0);
            let base = match cond >> 1 {
                0 => z,
                1 => c,
                2 => n,
                3 => v,
                4 => c && !z,
                5 => n == v,
                6 => n == v && !z,
                _ => true,
            };
            let holds = if cond & 1 == 1 && cond != 15 { !base } else { base };
            let target = branch(0x5400_0100 | cond, |m| m.nzcv = flags << 28).0;
            assert_eq!(target == CODE + 32, holds, "condition {cond} of flags {flags:04b}");
        }
    }
}

/// Executes with registers that must all stay as they are when it stops.
fn stops(word: u32, prepare: impl FnOnce(&mut Machine)) -> Stop {
    let mut m = Machine::new(1);
    m.x = std::array::from_fn(|i| 0x5000 + i as u64);
    prepare(&mut m);
    let (x, sp, nzcv, window) = (m.x, m.sp, m.nzcv, m.window.clone());
    let stop = execute(&mut m, word).expect_err("it does not stop");
    assert_eq!((m.x, m.sp, m.nzcv), (x, sp, nzcv), "{word:#x} changed registers");
    assert_eq!(m.window, window, "{word:#x} changed memory");
    assert_eq!(m.pc, CODE);
    stop
}

#[test]
fn a_faulting_access_changes_no_register() {
    let end = WINDOW + 4096;
    let outside = |m: &mut Machine| m.x[1] = end;
    assert_eq!(stops(0xf840_8420, outside), Stop::Fault(end)); // ldr x0, [x1], #8
    assert_eq!(stops(0xf840_8421, outside), Stop::Fault(end)); // ldr x1, [x1], #8
    assert_eq!(stops(0xf81f_0c20, |m| m.x[1] = WINDOW), Stop::Fault(WINDOW - 16)); // str x0, [x1, #-16]!
    // ldp x0, x1, [x2, #16]!: the second half is outside
    assert_eq!(stops(0xa9c1_0440, |m| m.x[2] = end - 24), Stop::Fault(end));
    assert_eq!(stops(0xa9bf_07e0, |m| m.sp = WINDOW), Stop::Fault(WINDOW - 16)); // stp x0, x1, [sp, #-16]!
    assert_eq!(stops(0xc8df_fc20, |m| m.x[1] = WINDOW + 1), Stop::Alignment(WINDOW + 1)); // ldar x0, [x1]
    assert_eq!(stops(0xc85f_7c20, |m| m.x[1] = WINDOW + 4), Stop::Alignment(WINDOW + 4)); // ldxr x0, [x1]
}

#[test]
fn an_unaligned_stack_pointer_stops_before_the_access() {
    for word in [0xf940_03e0, 0xa9bf_07e0, 0xf820_0be0 | 3 << 13] {
        assert_eq!(stops(word, |m| m.sp = WINDOW + 8), Stop::SpAlignment);
    }
}

#[test]
fn loads_extend_and_have_their_kind() {
    for (word, x0, kind) in [
        (0x39c0_0020, 0xffff_ffff, AccessKind::Normal),       // ldrsb w0, [x1]
        (0x6940_0820, ALL, AccessKind::Normal),               // ldpsw x0, x2, [x1]
        (0xb840_0820, 0xffff_ffff, AccessKind::Unprivileged), // ldtr w0, [x1]
        (0xc8df_fc20, 0x7fff_ffff_ffff_ffff, AccessKind::Acquire), // ldar x0, [x1]
        (0xb8bf_c020, 0xffff_ffff, AccessKind::AcquirePc),    // ldapr w0, [x1]
    ] {
        let mut m = Machine::new(1);
        m.x[1] = WINDOW;
        assert_eq!(m.write(WINDOW, 8, 0x7fff_ffff_ffff_ffff), Ok(()));
        assert_eq!(execute(&mut m, word), Ok(()));
        assert_eq!(m.x[0], x0, "{word:#x}");
        assert!(matches!(m.events[0], Event::Load(access) if access.kind == kind), "{word:#x}: {:?}", m.events);
    }
    for (word, kind) in [(0x7800_0820, AccessKind::Unprivileged), (0x889f_fc20, AccessKind::Release)] {
        let mut m = Machine::new(1);
        m.x[1] = WINDOW;
        assert_eq!(execute(&mut m, word), Ok(()));
        assert!(matches!(m.events[..], [Event::Store(access)] if access.kind == kind), "{word:#x}: {:?}", m.events);
    }
}

#[test]
fn exclusives_store_once() {
    let mut m = Machine::new(1);
    m.x[1] = WINDOW;
    assert_eq!(execute(&mut m, 0xc85f_7c20), Ok(())); // ldxr x0, [x1]
    m.x[0] = 77;
    assert_eq!(execute(&mut m, 0xc802_7c20), Ok(())); // stxr w2, x0, [x1]
    assert_eq!((m.x[2], m.read(WINDOW, 8)), (0, Ok(77)));
    m.x[0] = 78;
    assert_eq!(execute(&mut m, 0xc802_7c20), Ok(()));
    assert_eq!((m.x[2], m.read(WINDOW, 8)), (1, Ok(77)));
    assert_eq!(execute(&mut m, 0xc85f_7c20), Ok(()));
    assert_eq!(execute(&mut m, 0xd503_3f5f), Ok(())); // clrex
    assert_eq!(execute(&mut m, 0xc802_7c20), Ok(()));
    assert_eq!(m.x[2], 1);
}

#[test]
fn calls_stop_with_their_immediate() {
    let nothing = |_: &mut Machine| {};
    for (word, name, imm) in [
        (0xd400_00e1, "svc", 7),
        (0xd400_0102, "hvc", 8),
        (0xd400_0123, "smc", 9),
        (0xd420_0140, "brk", 10),
        (0xd440_0160, "hlt", 11),
        (0xd69f_03e0, "eret", 0),
    ] {
        assert_eq!(stops(word, nothing), Stop::Call(name, imm));
    }
    // DCPS1, UDF, and words that are nothing
    for word in [0xd4a0_0001, 0, 0xffff_ffff, 0x0010_0003] {
        assert_eq!(stops(word, nothing), Stop::Undefined, "{word:#x}");
    }
}

#[test]
fn system_instructions_reach_the_system() {
    let counter = SysEnc::new(3, 3, 14, 0, 2);
    let mut m = Machine::new(1);
    m.system = 99;
    m.x[1] = 5;
    assert_eq!(execute(&mut m, 0xd53b_e040), Ok(())); // mrs x0, cntvct_el0
    assert_eq!(m.x[0], 99);
    assert_eq!(isa::decode(0xd53b_e040, Features::ALL), isa::Insn::Mrs { enc: counter, rt: 0 });
    for word in [0xd518_4101, 0xd503_42df, 0xd50b_7421] {
        assert_eq!(execute(&mut m, word), Ok(())); // msr sp_el0, x1; msr daifset, #2; dc zva, x1
    }
    m.system = 100;
    assert_eq!(execute(&mut m, 0xd52b_7420), Ok(())); // sysl x0, #3, c7, c4, #1
    assert_eq!(m.x[0], 100);
    let zva = SysEnc::new(1, 3, 7, 4, 1);
    let expected =
        [Event::Msr(SysEnc::new(3, 0, 4, 1, 0), 1, 5), Event::MsrImm(PstateField::DaifSet, 2), Event::Sys(zva, 1, 5)];
    assert_eq!(m.events, expected);
}

#[test]
fn hints_and_barriers_are_told_apart() {
    let barrier = |name, domain, types| Event::Barrier(name, Some((domain, types)));
    for (word, event) in [
        (0xd503_207f, Some(Event::Wait("wfi", None))),
        (0xd503_205f, Some(Event::Wait("wfe", None))),
        (0xd503_1001, Some(Event::Wait("wfe", Some(500)))), // wfet x1
        (0xd503_1021, Some(Event::Wait("wfi", Some(500)))), // wfit x1
        (0xd503_209f, Some(Event::Hint("sev"))),
        (0xd503_20bf, Some(Event::Hint("sevl"))),
        (0xd503_203f, Some(Event::Hint("yield"))),
        (0xd503_221f, Some(Event::Hint("esb"))),
        (0xd503_3fdf, Some(Event::Barrier("isb", None))),
        (0xd503_30ff, Some(Event::Barrier("sb", None))),
        (0xd503_3bbf, Some(barrier("dmb", BarrierDomain::Inner, BarrierTypes::All))),
        (0xd503_329f, Some(barrier("dsb", BarrierDomain::Outer, BarrierTypes::Writes))),
        (0xd503_201f, None),
        (0xd503_233f, None), // paciasp, which without the feature is a hint that does nothing
        (0xd503_245f, None), // bti c
        (0xf980_0020, None), // prfm pldl1keep, [x1]: no access, so no fault
    ] {
        let mut m = Machine::new(1);
        m.x[1] = 500;
        assert_eq!(execute(&mut m, word), Ok(()), "{word:#x}");
        assert_eq!(m.events, Vec::from_iter(event), "{word:#x}");
        assert_eq!(m.pc, CODE + 4);
    }
}

#[test]
fn flag_manipulation() {
    check(&[
        ("cfinv", 0xd500_401f, [0; 4], N | C, 0, N),
        ("axflag of less", 0xd500_405f, [0; 4], N, 0, 0),
        ("axflag of unordered", 0xd500_405f, [0; 4], C | V, 0, Z),
        ("axflag of equal", 0xd500_405f, [0; 4], Z | C, 0, Z | C),
        ("xaflag of less", 0xd500_403f, [0; 4], 0, 0, N),
        ("xaflag of unordered", 0xd500_403f, [0; 4], Z, 0, C | V),
        ("xaflag of greater", 0xd500_403f, [0; 4], C, 0, C),
        ("xaflag of equal", 0xd500_403f, [0; 4], Z | C, 0, Z | C),
        ("setf8 w1", 0x3a00_082d, [0, 0x80, 0, 0], C, 0, N | C | V),
        ("setf8 w1", 0x3a00_082d, [0, 0xff00, 0, 0], 0, 0, Z | V),
        ("setf16 w1", 0x3a00_482d, [0, 0x1_8000, 0, 0], 0, 0, N),
        ("rmif x1, #4, #5", 0xba02_0425, [0, 0xff0, 0, 0], N, 0, N | Z | V),
    ]);
}
