//! Golden files of emitted code for hot forms: guest instructions beside the host instructions they become, so that a change of code quality is seen in review.
//!
//! `JIT_BLESS=1 cargo test -p jit golden` writes the files anew.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::PathBuf;

use iced_x86::{Decoder, DecoderOptions, FlowControl, Formatter, Instruction, IntelFormatter};

use super::builder::{Ids, Mode};
use super::mem::NO_SLOT;
use super::regs::{PINNED, SP, pinned_v};
use super::{Request, Translator};
use crate::Optimisations;
use crate::asm::Section;
use crate::env;
use crate::host::HostFeatures;
use crate::thunks::Thunks;

/// A host with all extensions, whatever this one has.
const HOST: HostFeatures = HostFeatures {
    aes: true,
    pclmul: true,
    sha: true,
    gfni: true,
    avx512: true,
    vbmi: true,
    bitalg: true,
    vnni: true,
    vectors32: true,
};

/// The kernel's mode, and the mode of its processes.
const EL1: Mode = Mode {
    el1: true,
    strict: false,
    fp_trap: false,
    mmu: true,
    sp_elx: true,
    fp_odd: false,
    fp_careful: false,
    far: true,
};
const EL0: Mode = Mode { el1: false, sp_elx: false, far: false, ..EL1 };

/// File, mode, instructions as (word, text).
type Form = (&'static str, Mode, &'static [(u32, &'static str)]);

const FORMS: &[Form] = &[
    (
        "chase",
        EL0,
        &[
            (0xb400_0080, "cbz x0, .+16"),
            (0xf940_0400, "ldr x0, [x0, #8]"),
            (0xf940_0001, "ldr x1, [x0]"),
            (0xb5ff_ffa1, "cbnz x1, .-12"),
        ],
    ),
    (
        "carry_chain",
        EL0,
        &[
            (0xab0a_00c6, "adds x6, x6, x10"),
            (0x9bc9_7caa, "umulh x10, x5, x9"),
            (0x9b18_7cab, "mul x11, x5, x24"),
            (0xba0a_00e7, "adcs x7, x7, x10"),
            (0xa8c1_342c, "ldp x12, x13, [x1], #16"),
            (0xba0c_0000, "adcs x0, x0, x12"),
            (0xd360_fdae, "lsr x14, x13, #32"),
            (0x9a1f_0063, "adc x3, x3, xzr"),
            (0xeb02_003f, "cmp x1, x2"),
            (0x5400_0201, "b.ne .+64"),
        ],
    ),
    (
        "upper_vectors",
        EL0,
        &[
            (0x3dc0_0014, "ldr q20, [x0]"),
            (0x6e3e_1e95, "eor v21.16b, v20.16b, v30.16b"),
            (0x4eb8_86bf, "add v31.4s, v21.4s, v24.4s"),
            (0x6e28_8ff9, "cmeq v25.16b, v31.16b, v8.16b"),
            (0x4e70_cffa, "fmla v26.2d, v31.2d, v16.2d"),
            (0x3d80_003f, "str q31, [x1]"),
            (0xd65f_03c0, "ret"),
        ],
    ),
    ("loop", EL1, &[(0xf100_0400, "subs x0, x0, #1"), (0x54ff_ffe1, "b.ne .-4"), (0xd65f_03c0, "ret")]),
    (
        "load_compare_branch",
        EL1,
        &[(0xf940_0420, "ldr x0, [x1, #8]"), (0xeb02_001f, "cmp x0, x2"), (0x5400_010c, "b.gt .+32")],
    ),
    (
        "frame",
        EL0,
        &[
            (0xa9be_7bfd, "stp x29, x30, [sp, #-32]!"),
            (0x9100_03fd, "mov x29, sp"),
            (0xa901_53f3, "stp x19, x20, [sp, #16]"),
            (0xa941_53f3, "ldp x19, x20, [sp, #16]"),
            (0xa8c2_7bfd, "ldp x29, x30, [sp], #32"),
            (0xd65f_03c0, "ret"),
        ],
    ),
    (
        "group",
        EL0,
        &[
            (0xf940_0121, "ldr x1, [x9]"),
            (0xf940_0522, "ldr x2, [x9, #8]"),
            (0xf940_0923, "ldr x3, [x9, #16]"),
            (0xf940_0d24, "ldr x4, [x9, #24]"),
        ],
    ),
    (
        "dead_results",
        EL0,
        &[
            (0x9ac2_0865, "udiv x5, x3, x2"),
            (0x9ac2_0865, "udiv x5, x3, x2"),
            (0xeb02_003f, "cmp x1, x2"),
            (0x9a84_b065, "csel x5, x3, x4, lt"),
            (0xeb02_003f, "cmp x1, x2"),
            (0x9a84_b065, "csel x5, x3, x4, lt"),
        ],
    ),
    ("bits", EL0, &[(0xdac0_0065, "rbit x5, x3"), (0xdac0_1066, "clz x6, x3"), (0x9bc2_7c67, "umulh x7, x3, x2")]),
    (
        "shift_by_register",
        EL0,
        &[
            (0x6ea4_4466, "ushl v6.4s, v3.4s, v4.4s"),
            (0x4ea4_4466, "sshl v6.4s, v3.4s, v4.4s"),
            (0x9ac2_0865, "udiv x5, x3, x2"),
        ],
    ),
    ("counter", EL0, &[(0xd503_3fdf, "isb"), (0xd53b_e041, "mrs x1, cntvct_el0")]),
    (
        "acquire_release",
        EL0,
        &[(0xc89f_fd21, "stlr x1, [x9]"), (0xc8df_fd22, "ldar x2, [x9]"), (0xf82b_0121, "ldadd x11, x1, [x9]")],
    ),
    (
        "exclusive",
        EL0,
        &[
            (0xc85f_7d21, "ldxr x1, [x9]"),
            (0x9100_0421, "add x1, x1, #1"),
            (0xc802_7d21, "stxr w2, x1, [x9]"),
            (0x35ff_ffa2, "cbnz w2, .-12"),
        ],
    ),
    ("copy", EL0, &[(0xacc1_1c26, "ldp q6, q7, [x1], #32"), (0xac81_1c46, "stp q6, q7, [x2], #32")]),
    (
        "floating_point",
        EL0,
        &[
            (0x1e62_2800, "fadd d0, d0, d2"),
            (0x1f42_0020, "fmadd d0, d1, d2, d0"),
            (0x1e62_2000, "fcmp d0, d2"),
            (0x5400_0100, "b.eq .+32"),
        ],
    ),
    (
        "sha256",
        EL0,
        &[
            (0x4ea0_1c02, "mov v2.16b, v0.16b"),
            (0x5e10_4020, "sha256h q0, q1, v16.4s"),
            (0x5e10_5041, "sha256h2 q1, q2, v16.4s"),
            (0x5e28_28a4, "sha256su0 v4.4s, v5.4s"),
            (0x5e07_60c4, "sha256su1 v4.4s, v6.4s, v7.4s"),
        ],
    ),
    (
        "sha1",
        EL0,
        &[
            (0x5e03_00e6, "sha1c q6, s7, v3.4s"),
            (0x5e05_3083, "sha1su0 v3.4s, v4.4s, v5.4s"),
            (0x5e28_1883, "sha1su1 v3.4s, v4.4s"),
        ],
    ),
    ("aes", EL0, &[(0x4e28_4866, "aese v6.16b, v3.16b"), (0x4e28_68c6, "aesmc v6.16b, v6.16b")]),
    ("indirect", EL0, &[(0xd63f_00a0, "blr x5")]),
    ("svc", EL0, &[(0xd400_0001, "svc #0")]),
    ("eret", EL1, &[(0xd69f_03e0, "eret")]),
    ("call_other_page", EL1, &[(0x9400_0800, "bl .+8192")]),
];

fn host_names() -> BTreeMap<u64, &'static str> {
    let mut names = BTreeMap::new();
    let t = thunks();
    for (address, name) in [
        (t.interp, "interp"),
        (t.interp_end, "interp_end"),
        (t.set_space, "set_space"),
        (t.miss_read[0], "miss_read_el0"),
        (t.miss_read[1], "miss_read_el1"),
        (t.miss_write[0], "miss_write_el0"),
        (t.miss_write[1], "miss_write_el1"),
        (t.miss_read_group[0], "miss_read_group_el0"),
        (t.miss_read_group[1], "miss_read_group_el1"),
        (t.miss_write_group[0], "miss_write_group_el0"),
        (t.miss_write_group[1], "miss_write_group_el1"),
        (t.leave_at, "leave_at"),
        (t.leave_for, "leave_for"),
        (t.exit_slow, "exit_slow"),
        (t.exit_link, "exit_link"),
        (t.indirect_miss, "indirect_miss"),
        (t.fp_flags[0], "fp_flags"),
        (t.fp_flags[1], "fp_flags_swapped"),
        (t.svc[0], "svc_el0"),
        (t.svc[1], "svc_el1"),
        (t.eret, "eret"),
    ] {
        names.insert(address, name);
    }
    names
}

fn thunks() -> Thunks {
    let mut n = 0x30_0000;
    let mut next = || {
        n += 16;
        n
    };
    Thunks {
        enter: next(),
        interp: next(),
        interp_end: next(),
        set_space: next(),
        miss_read: [next(), next()],
        miss_write: [next(), next()],
        miss_read_group: [next(), next()],
        miss_write_group: [next(), next()],
        leave_at: next(),
        leave_for: next(),
        exit_slow: next(),
        exit_link: next(),
        indirect_miss: next(),
        fp_flags: [next(), next()],
        svc: [next(), next()],
        eret: next(),
        maintain: next(),
    }
}

/// What stands at a displacement from r15, without numbers that change with the layout of the environment.
fn environment(at: i32) -> String {
    let named = [
        (env::FLAGS, "flags"),
        (env::PC_PAGE, "pc_page"),
        (env::REQ, "req"),
        (env::CLOCK, "clock"),
        (env::CHANGES, "changes"),
        (env::CHANGES_SEEN, "changes_seen"),
        (env::CONTEXT_DIRTY, "context_dirty"),
        (env::TMP, "tmp"),
        (env::FPSR, "fpsr"),
        (env::EXCLUSIVE, "exclusive"),
        (env::EXCLUSIVE + 8, "exclusive.low"),
        (env::EXCLUSIVE + 24, "exclusive.size"),
        (env::ZERO, "zero"),
        (env::FENCE, "fence"),
        (env::sys(cpu::sysreg::Slot::CNTKCTL_EL1), "cntkctl"),
        (env::SP, "sp"),
    ];
    if let Some((_, name)) = named.iter().find(|(n, _)| *n == at) {
        return (*name).to_owned();
    }
    for n in 0..31 {
        if at == env::x(n) {
            return format!("x{n}");
        }
    }
    for n in 0..32 {
        if at == env::v(n) {
            return format!("v{n}");
        }
    }
    for (base, slots) in [(env::L0_EL0, env::SLOTS_EL0), (env::L0_EL1, env::SLOTS_EL1)] {
        let span = (slots * env::SLOT_BYTES).cast_signed();
        if (base..base + span).contains(&at) {
            let (n, field) = ((at - base) / env::SLOT_BYTES.cast_signed(), (at - base) % env::SLOT_BYTES.cast_signed());
            return format!("slot{n}{}", [".rpage", ".raddend", ".wpage", ".waddend"][field as usize / 8]);
        }
    }
    let table = at - env::CONSTANTS;
    if (0..size_of::<crate::constants::Table>() as i32).contains(&table) {
        return format!("constant{}", table / 16);
    }
    if (env::FP_CONSTANTS..env::FP_CONSTANTS + 1024).contains(&at) {
        return format!("fp_constant{}", (at - env::FP_CONSTANTS) / 16);
    }
    "env?".to_owned()
}

/// An entry of the first-level table, which the code has found the place of.
const PAGE_FIELDS: [&str; 4] = ["page.rpage", "page.raddend", "page.wpage", "page.waddend"];

/// Host register names replaced by what they hold.
fn readable(text: &str, i: &Instruction) -> String {
    let mut text = text.to_owned();
    if i.memory_base() == iced_x86::Register::R15 {
        let start = text.find('[').unwrap_or(0);
        let end = text.find(']').unwrap_or(text.len());
        let at = i.memory_displacement64() as i64;
        let index = if i.memory_index() == iced_x86::Register::None { "" } else { "+index" };
        text.replace_range(start..=end, &format!("[{}{index}]", environment(i32::try_from(at).unwrap_or(0))));
    }
    if i.memory_base() == iced_x86::Register::R14 {
        let (start, end) = (text.find('[').unwrap_or(0), text.find(']').unwrap_or(text.len()));
        let entry = i.memory_displacement64() as usize;
        let jump = entry.wrapping_sub(env::CTX_JUMPS as usize);
        let name = if jump < 16 { ["jump.va", "jump.host"][jump / 8] } else { PAGE_FIELDS[entry / 8] };
        text.replace_range(start..=end, &format!("[{name}]"));
    }
    text
}

fn listing(mode: Mode, code: &[(u32, &str)]) -> String {
    const HOT: u64 = 0x10_0000;
    const COLD: u64 = 0x20_0000;
    let words: Vec<u32> = code.iter().map(|c| c.0).collect();
    let mut t = Translator::default();
    let thunks = thunks();
    t.translate(&Request {
        words: &words,
        start: 0x100,
        slot_base: 0,
        mode,
        features: isa::Features::ALL,
        thunks: &thunks,
        first_exit: 0,
        ids: Ids { ctr: 0, dczid: 4 },
        host: HOST,
        optimise: Optimisations::ALL,
        count: false,
        lockstep: false,
        seeded_fault: false,
    });
    let lengths = [t.asm.len_of(Section::Hot), t.asm.len_of(Section::Cold)];
    let (hot, cold) = t.asm.finish(HOT, COLD).expect("in reach");
    let names = host_names();
    let mut decoded = Vec::new();
    for (bytes, base) in [(hot, HOT), (cold, COLD)] {
        let mut decoder = Decoder::with_ip(64, bytes, base, DecoderOptions::NONE);
        let mut jump_behind_miss = false;
        while decoder.can_decode() {
            let i = decoder.decode();
            decoded.push(i);
            if std::mem::take(&mut jump_behind_miss) {
                // The offset of the instruction in its page.
                let data = decoder.position() + 2;
                decoder.set_position(data).expect("inside");
                decoder.set_ip(base + data as u64);
            }
            let name = names.get(&i.near_branch_target()).copied().unwrap_or("");
            jump_behind_miss = is_miss(&i, name) && !name.contains("group");
        }
    }
    let near = |i: &Instruction| {
        (i.flow_control() != FlowControl::Next && i.near_branch_target() != 0).then(|| i.near_branch_target())
    };
    let mut labels: BTreeMap<u64, String> =
        decoded.iter().filter_map(near).filter(|t| !names.contains_key(t)).map(|t| (t, String::new())).collect();
    for (n, name) in labels.values_mut().enumerate() {
        *name = format!("L{n}");
    }
    let mut formatter = IntelFormatter::new();
    let mut out = String::new();
    for (_, text) in code {
        let _ = writeln!(out, "; {text}");
    }
    let _ = writeln!(out, "; {} host bytes hot, {} cold", lengths[0], lengths[1]);
    for (n, i) in decoded.iter().enumerate() {
        if i.ip() == COLD {
            out.push_str("cold:\n");
        }
        if let Some(l) = labels.get(&i.ip()) {
            let _ = writeln!(out, "{l}:");
        }
        let mut text = String::new();
        formatter.format(i, &mut text);
        if let Some(target) = near(i) {
            let mnemonic = text.split(' ').next().unwrap_or("").to_owned();
            let name = names.get(&target).map_or_else(|| labels[&target].clone(), |n| (*n).to_owned());
            text = format!("{mnemonic} {name}");
        }
        let next = decoded.get(n + 1).copied().unwrap_or_default();
        if is_miss(&next, names.get(&next.near_branch_target()).copied().unwrap_or("")) {
            let info = i.immediate32();
            let slot = if info & NO_SLOT == 0 { format!("slot{}", info >> 13) } else { "page".to_owned() };
            text = format!("mov edx,{slot}/{}bytes", (info & 0xff) + 1);
        }
        if !text.starts_with("nop") && text != "xchg ax,ax" {
            let _ = writeln!(out, "    {}", readable(&text, i));
        }
    }
    out
}

/// A call of a thunk for missed accesses.
fn is_miss(i: &Instruction, name: &str) -> bool {
    i.flow_control() == FlowControl::Call && name.starts_with("miss_")
}

fn legend() -> String {
    let mut s = String::from("; r15 environment, r14 context;");
    for (g, h) in PINNED {
        let name = if g == SP { "sp".to_owned() } else { format!("x{g}") };
        let _ = write!(
            s,
            " {}={name}",
            ["rax", "rcx", "rdx", "rbx", "rsp", "rbp", "rsi", "rdi", "r8", "r9", "r10", "r11", "r12", "r13"]
                [usize::from(h.0)]
        );
    }
    for (g, h) in pinned_v(HOST) {
        let _ = write!(s, " xmm{}=v{g}", h.0);
    }
    s.push('\n');
    s
}

#[test]
fn emitted_code_is_as_reviewed() {
    let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("src/t1/golden");
    let bless = std::env::var_os("JIT_BLESS").is_some();
    let mut changed = Vec::new();
    for (name, mode, code) in FORMS {
        let now = format!("{}{}", legend(), listing(*mode, code));
        let path = folder.join(format!("{name}.txt"));
        let reviewed = std::fs::read_to_string(&path).unwrap_or_default();
        if now == reviewed {
            continue;
        }
        if bless {
            std::fs::write(&path, &now).expect("the folder can be written");
        } else {
            changed.push(format!("--- {name}: reviewed\n{reviewed}\n+++ {name}: now\n{now}"));
        }
    }
    assert!(
        changed.is_empty(),
        "emitted code changed; if that is meant, write the files with JIT_BLESS=1 and review them\n{}",
        changed.join("\n")
    );
}
