//! Code that all fragments share: the way in, the ways out, TLB misses, calls of the interpreter. Made once per code cache.

use std::mem::offset_of;

use crate::asm::{Alu, Asm, AsmError, Cc, Gpr, Label, Mem, Shift, Sz, VLen, Xmm, ops};
use crate::contexts::LOCAL_LIMIT;
use crate::env;
use crate::exceptions;
use crate::host::HostFeatures;
use crate::second;
use crate::t1::flags::from_nzcv;
use crate::t1::mem::{MISS_TAIL, NO_SLOT};
use crate::t1::regs::{CTX, ENV, PINNED, home, home_v, pinned_v};
use crate::tlb::{BUCKET_BITS, BUCKET_FULL, BUCKET_SHIFT, EMPTY_PAGE, FILLED_LIMIT};

/// Why generated code returned to the dispatcher.
pub mod reason {
    /// From a helper: try the access again.
    pub const RETRY: u32 = 0;
    /// From a helper: the instruction is done, go on behind it.
    pub const DONE: u32 = 1;
    /// `pc` is set: look at requests, then go on there.
    pub const CHECK: u32 = 2;
    /// A direct exit: `hot.exit` says which.
    pub const EXIT: u32 = 3;
    /// `pc` is set: an indirect branch found nothing in the jump cache, or there is a request.
    pub const LOOKUP: u32 = 4;
    /// `pc` is set: this instruction is for the interpreter.
    pub const STEP: u32 = 5;
    /// `stop` is set.
    pub const STOP: u32 = 6;
    /// `pc` is set, `hot.exit` is the immediate: SVC.
    pub const SVC: u32 = 7;
    /// `pc` is set: ERET.
    pub const ERET: u32 = 8;
    /// `pc` is set, `hot.exit` is the immediate: HVC.
    pub const HVC: u32 = 9;
    /// `pc` is set: ISB.
    pub const ISB: u32 = 10;
}

/// Host addresses of the Rust functions that thunks call.
#[derive(Clone, Copy, Debug)]
pub struct Helpers {
    /// `extern "sysv64" fn(*mut JitCpu) -> u32`: execute the instruction at `pc`.
    pub interp: u64,
    /// `extern "sysv64" fn(*mut JitCpu) -> u32`: the access described by `hot.tmp` missed the first-level table.
    pub miss: u64,
    /// `extern "sysv64" fn(*mut JitCpu) -> u32`: TTBR`tmp[1]`_EL1 = `tmp[0]`; 0 if that was done.
    pub set_space: u64,
    /// `extern "sysv64" fn(*mut JitCpu) -> u32`: the SYS instruction with encoding `tmp[1]` of the value `tmp[0]`; 0 if that was done.
    pub maintain: u64,
    /// `extern "sysv64" fn(*mut JitCpu) -> u32`: so did the group of accesses; [`reason::RETRY`] or [`reason::DONE`], which means the detour.
    pub miss_group: u64,
}

/// Executable addresses of the thunks.
#[derive(Clone, Copy, Debug, Default)]
pub struct Thunks {
    /// `extern "sysv64" fn(*mut JitCpu, code) -> u32`.
    pub enter: u64,
    /// Called with RAX = offset in page: execute there by the interpreter, return.
    pub interp: u64,
    /// Jumped to with RAX = offset in page: execute there by the interpreter and go on with whatever comes.
    pub interp_end: u64,
    /// Called with RAX = value, RDX = number: write TTBR0_EL1 or TTBR1_EL1. ZF set if that was done; else it is the dispatcher's.
    pub set_space: u64,
    /// Called with RAX = value, RDX = encoding: TLB maintenance or IC IVAU at EL1. ZF set if that was done; else it is the interpreter's.
    pub maintain: u64,
    /// Called with RCX = VA, RDX = `t1::mem::info_word`: a load missed its slot of EL0, EL1. Returns RDX = addend, changes RCX, XMM0 and XMM1; what follows
    /// the call says `t1::mem::MISS_TAIL`.
    pub miss_read: [u64; 2],
    /// As `miss_read`, for stores.
    pub miss_write: [u64; 2],
    /// As `miss_read`, for groups: carry set if the detour has to be taken.
    pub miss_read_group: [u64; 2],
    /// As `miss_read_group`, for stores.
    pub miss_write_group: [u64; 2],
    /// Jumped to with RAX = offset in page: leave with `pc` there.
    pub leave_at: u64,
    /// Jumped to with RAX = offset in page, RDX = reason | immediate << 8: leave for the instruction there.
    pub leave_for: u64,
    /// Jumped to with RAX = target << 32 | exit number * 2: leave without linking.
    pub exit_slow: u64,
    /// Jumped to with RAX = target << 32 | exit number * 2 + 1: link. The target counts from the page of the fragment.
    pub exit_link: u64,
    /// Jumped to with RAX = guest VA.
    pub indirect_miss: u64,
    /// Called with EFLAGS of `vucomis n, m` (first) or `vucomis m, n`: EAX = NZCV in the environment's format. Changes nothing else.
    pub fp_flags: [u64; 2],
    /// Jumped to with RAX = offset in page, RDX = immediate: SVC at EL0 and at EL1h.
    pub svc: [u64; 2],
    /// Jumped to with RAX = offset in page: ERET at EL1h.
    pub eret: u64,
}

fn save_all(a: &mut Asm, features: HostFeatures) {
    for (reg, host) in PINNED {
        a.store(Sz::Q, home(reg), host);
    }
    for (v, host) in pinned_v(features) {
        a.vstore(home_v(*v), *host);
    }
    a.stmxcsr(Mem::b(ENV, env::MXCSR));
    a.ldmxcsr(Mem::b(ENV, env::HOST_MXCSR));
}

fn load_all(a: &mut Asm, features: HostFeatures) {
    for (reg, host) in PINNED {
        a.load(Sz::Q, host, home(reg));
    }
    for (v, host) in pinned_v(features) {
        a.vload(*host, home_v(*v));
    }
    a.ldmxcsr(Mem::b(ENV, env::MXCSR));
}

const SAVED: [Gpr; 6] = [Gpr::RBX, Gpr::RBP, Gpr::R12, Gpr::R13, Gpr::R14, Gpr::R15];

fn call_helper(a: &mut Asm, helper: u64) {
    a.lea(Sz::Q, Gpr::RDI, Mem::b(ENV, -env::BIAS));
    a.mov_imm(Gpr::RAX, helper);
    a.call_rm(Gpr::RAX);
}

/// Emit the thunks for the hot section at `base`; the bytes stay in `a`.
///
/// # Errors
/// The encoder's, which would be a mistake here.
pub fn emit(a: &mut Asm, base: u64, helpers: &Helpers, host: HostFeatures) -> Result<(Vec<u8>, Thunks), AsmError> {
    let mut t = Thunks::default();
    let at = |a: &mut Asm| {
        let pad = (16 - a.offset() % 16) % 16;
        a.nop(pad);
        base + u64::from(a.offset())
    };

    t.enter = at(a);
    for r in SAVED {
        a.push(r);
    }
    a.alu_imm(Alu::Sub, Sz::Q, Gpr::RSP, 8);
    a.lea(Sz::Q, ENV, Mem::b(Gpr::RDI, env::BIAS));
    a.mov(Sz::Q, Gpr::RAX, Gpr::RSI);
    a.load(Sz::Q, CTX, Mem::b(ENV, env::CTX));
    load_all(a, host);
    a.jmp_rm(Gpr::RAX);

    // EAX = reason; everything is saved.
    let leave = a.here();
    a.alu_imm(Alu::Add, Sz::Q, Gpr::RSP, 8);
    for r in SAVED.iter().rev() {
        a.pop(*r);
    }
    a.vzeroupper();
    a.ret();

    let set_pc = |a: &mut Asm| {
        a.alu(Alu::Add, Sz::Q, Gpr::RAX, Mem::b(ENV, env::PC_PAGE));
        a.store(Sz::Q, Mem::b(ENV, env::PC), Gpr::RAX);
    };

    for (field, reason) in
        [(&mut t.leave_at, reason::CHECK), (&mut t.interp_end, reason::STEP), (&mut t.indirect_miss, reason::LOOKUP)]
    {
        *field = at(a);
        if reason == reason::LOOKUP {
            probe_victims(a);
            a.store(Sz::Q, Mem::b(ENV, env::PC), Gpr::RAX);
        } else {
            set_pc(a);
        }
        save_all(a, host);
        a.mov_imm(Gpr::RAX, u64::from(reason));
        a.jmp(leave);
    }

    t.leave_for = at(a);
    set_pc(a);
    a.mov(Sz::D, Gpr::RAX, Gpr::RDX);
    a.shift_imm(Shift::Shr, Sz::D, Gpr::RDX, 8);
    a.store(Sz::D, Mem::b(ENV, env::EXIT), Gpr::RDX);
    save_all(a, host);
    a.movzx(Sz::B, Gpr::RAX, Gpr::RAX);
    a.jmp(leave);

    t.exit_slow = at(a);
    t.exit_link = t.exit_slow;
    a.store(Sz::Q, Mem::b(ENV, env::EXIT), Gpr::RAX);
    save_all(a, host);
    a.mov_imm(Gpr::RAX, u64::from(reason::EXIT));
    a.jmp(leave);

    t.interp = at(a);
    set_pc(a);
    a.alu_imm(Alu::Sub, Sz::Q, Gpr::RSP, 8);
    save_all(a, host);
    call_helper(a, helpers.interp);
    let out = a.label();
    a.test(Sz::D, Gpr::RAX, Gpr::RAX);
    a.jcc(Cc::Ne, out);
    load_all(a, host);
    a.alu_imm(Alu::Add, Sz::Q, Gpr::RSP, 8);
    a.ret();
    a.bind(out);
    a.alu_imm(Alu::Add, Sz::Q, Gpr::RSP, 16);
    a.jmp(leave);

    t.set_space = at(a);
    call_with_value(a, helpers.set_space, host);
    t.maintain = at(a);
    call_with_value(a, helpers.maintain, host);

    for (write, group, entries) in [
        (false, false, &mut t.miss_read),
        (true, false, &mut t.miss_write),
        (false, true, &mut t.miss_read_group),
        (true, true, &mut t.miss_write_group),
    ] {
        for (el1, entry) in entries.iter_mut().enumerate() {
            *entry = at(a);
            miss(a, &Miss { write, el0: el1 == 0, group }, helpers, host, leave);
        }
    }
    for (swapped, entry) in t.fp_flags.iter_mut().enumerate() {
        *entry = at(a);
        let image = |nzcv: u32| u64::from(from_nzcv(nzcv << 28));
        let (above, below) = if swapped == 0 { (0b0010, 0b1000) } else { (0b1000, 0b0010) };
        a.push(Gpr::RCX);
        a.mov_imm(Gpr::RAX, image(above));
        for (cc, nzcv) in [(Cc::B, below), (Cc::E, 0b0110), (Cc::P, 0b0011)] {
            a.mov_imm(Gpr::RCX, image(nzcv));
            a.cmov(cc, Sz::D, Gpr::RAX, Gpr::RCX);
        }
        a.pop(Gpr::RCX);
        a.ret();
    }
    for (level, entry) in t.svc.iter_mut().enumerate() {
        *entry = at(a);
        exceptions::svc(a, level == 1, t.leave_for, t.indirect_miss);
    }
    t.eret = at(a);
    exceptions::eret(a, t.leave_for, t.indirect_miss);
    let (hot, _) = a.finish(base, 0)?;
    Ok((hot.to_vec(), t))
}

/// Victims that are found until one is promoted.
const PROMOTION: i32 = 32;

/// Go on at the guest address in RAX, if the victim cache knows it and there is no request; else behind this.
fn probe_victims(a: &mut Asm) {
    let (rax, rcx, rdx) = (Gpr::RAX, Gpr::RCX, Gpr::RDX);
    let unknown = a.label();
    let entry = |field: i32| Mem::bi(CTX, rcx, 2, env::CTX_VICTIMS + field);
    a.mov(Sz::D, rcx, rax);
    a.shift_imm(Shift::Shr, Sz::D, rcx, env::VICTIM_SHIFT);
    a.alu(Alu::Xor, Sz::D, rcx, rax);
    a.alu_imm(Alu::And, Sz::D, rcx, env::VICTIM_MASK);
    a.alu(Alu::Cmp, Sz::Q, rax, entry(0));
    a.jcc(Cc::Ne, unknown);
    a.load(Sz::Q, rdx, Mem::b(ENV, env::REQ));
    a.alu_imm(Alu::Cmp, Sz::D, Mem::b(rdx, 0), 0);
    a.jcc(Cc::Ne, unknown);
    a.inc_dec(false, Sz::Q, Mem::b(ENV, env::VICTIM_HITS));
    // Now and then the dispatcher makes the one that is wanted again the first, and the other the victim.
    a.test_imm(Sz::B, Mem::b(ENV, env::VICTIM_HITS), PROMOTION - 1);
    a.jcc(Cc::E, unknown);
    a.alu_imm(Alu::And, Sz::Q, rax, -4096);
    a.store(Sz::Q, Mem::b(ENV, env::PC_PAGE), rax);
    a.jmp_rm(entry(8));
    a.bind(unknown);
}

/// Call the helper for a value in RAX and a number in RDX with what it may change put away. It computes nothing in floating point, so the guest's MXCSR may stay.
fn call_with_value(a: &mut Asm, helper: u64, host: HostFeatures) {
    let lost = PINNED.iter().filter(|(_, host)| !SAVED.contains(host));
    a.store(Sz::Q, Mem::b(ENV, env::TMP), Gpr::RAX);
    a.store(Sz::Q, Mem::b(ENV, env::TMP + 8), Gpr::RDX);
    for (reg, host) in lost.clone() {
        a.store(Sz::Q, home(*reg), *host);
    }
    for (v, host) in pinned_v(host) {
        a.vstore(home_v(*v), *host);
    }
    a.push(Gpr::RAX);
    call_helper(a, helper);
    a.test(Sz::D, Gpr::RAX, Gpr::RAX);
    // None of these changes ZF.
    a.pop(Gpr::RCX);
    for (reg, host) in lost {
        a.load(Sz::Q, *host, home(*reg));
    }
    for (v, host) in pinned_v(host) {
        a.vload(*host, home_v(*v));
    }
    a.ret();
}

/// In `hot.tmp[3]`: the missed access is a store.
pub const HOW_WRITE: u64 = 1;
/// In `hot.tmp[3]`: it has EL0's rights.
pub const HOW_EL0: u64 = 2;

/// Which thunk for missed accesses.
struct Miss {
    write: bool,
    el0: bool,
    /// The check of a group: what cannot be entered is not for the interpreter but for the group's detour.
    group: bool,
}

/// Probe the first-level table, then the second-level one, and refill the slot; else call the helper and begin again. Keeps RAX.
fn miss(a: &mut Asm, m: &Miss, helpers: &Helpers, host: HostFeatures, leave: Label) {
    let (rax, rcx, rdx, rsi, rdi) = (Gpr::RAX, Gpr::RCX, Gpr::RDX, Gpr::RSI, Gpr::RDI);
    let tmp = |n: i32| Mem::b(ENV, env::TMP + n * 8);
    let half = if m.write { env::SLOT_WPAGE } else { env::SLOT_RPAGE };
    let tag = Mem::b(rax, env::CTX_PAGES + half);
    let slots = if m.el0 { env::L0_EL0 } else { env::L0_EL1 };
    let (second, crossing, slow) = (a.label(), a.label(), a.label());
    a.push(rax);
    a.inc_dec(false, Sz::Q, Mem::b(ENV, env::SLOT_MISSES));
    // RAX = the entry, RCX = offset from its page.
    let probe = a.here();
    a.mov(Sz::D, rax, rcx);
    a.shift_imm(Shift::Shr, Sz::D, rax, env::PAGE_TO_ENTRY);
    a.alu_imm(Alu::And, Sz::D, rax, env::L1_MASK);
    a.alu(Alu::Add, Sz::Q, rax, Mem::b(ENV, if m.el0 { env::CTX_EL0 } else { env::CTX_EL1 }));
    a.alu(Alu::Sub, Sz::Q, rcx, tag);
    a.alu_imm(Alu::Cmp, Sz::Q, rcx, 4095);
    a.jcc(Cc::A, second);
    let found = a.here();
    a.alu(Alu::Add, Sz::D, rcx, rdx);
    a.test_imm(Sz::D, rcx, 0x1000);
    a.jcc(Cc::Ne, crossing);
    let slotless = a.label();
    const _: () = assert!(NO_SLOT == 1 << 31);
    a.test(Sz::D, rdx, rdx);
    a.jcc(Cc::S, slotless);
    // The half of the entry becomes that of the slot. No access site keeps anything in XMM0 and XMM1: the helper would lose it.
    a.shift_imm(Shift::Shr, Sz::D, rdx, 8);
    a.vload(Xmm(0), tag);
    let (known, full) = (a.label(), Mem::b(ENV, slots + env::SLOTS_TO_FILLED));
    a.mov_imm(rcx, EMPTY_PAGE);
    a.alu(Alu::Cmp, Sz::Q, rcx, Mem::bi(ENV, rdx, 0, slots + half));
    a.jcc(Cc::Ne, known);
    a.load(Sz::D, rcx, full);
    a.alu_imm(Alu::Cmp, Sz::D, rcx, FILLED_LIMIT as i32);
    a.jcc(Cc::Ae, known);
    a.store(Sz::D, Mem::bi(ENV, rcx, 2, slots + env::SLOTS_TO_FILLED + env::FILLED_OFFSETS), rdx);
    a.inc_dec(false, Sz::D, full);
    a.bind(known);
    a.vstore(Mem::bi(ENV, rdx, 0, slots + half), Xmm(0));
    // The slot is named in the bucket of its page.
    let (named, [counts, names]) = (a.label(), env::SLOTS_TO_BUCKETS.map(|at| slots + at));
    a.load(Sz::D, rcx, tag);
    a.shift_imm(Shift::Shr, Sz::D, rcx, 12);
    a.alu_imm(Alu::And, Sz::D, rcx, (1 << BUCKET_BITS) - 1);
    a.movzx(Sz::B, rax, Mem::bi(ENV, rcx, 0, counts));
    a.alu_imm(Alu::Cmp, Sz::D, rax, BUCKET_FULL.into());
    a.jcc(Cc::Ae, named);
    a.inc_dec(false, Sz::B, Mem::bi(ENV, rcx, 0, counts));
    a.shift_imm(Shift::Shl, Sz::D, rcx, BUCKET_SHIFT);
    a.alu(Alu::Add, Sz::D, rcx, rax);
    a.shift_imm(Shift::Shr, Sz::D, rdx, env::ENTRY_SHIFT);
    a.store(Sz::H, Mem::bi(ENV, rcx, 1, names), rdx);
    a.bind(named);
    a.vsti(ops::VPEXTRQ, VLen::L128, rdx, Xmm(0), 1);
    let answer = |a: &mut Asm| {
        a.pop(rax);
        if m.group {
            a.clc();
        }
        a.ret();
    };
    answer(a);
    a.bind(slotless);
    a.load(Sz::Q, rdx, Mem::b(rax, env::CTX_PAGES + half + env::PAGE_TO_ADDEND));
    answer(a);

    let slow_popped = a.label();
    a.bind(second);
    a.alu(Alu::Add, Sz::Q, rcx, tag);
    a.store(Sz::Q, tmp(0), rdx);
    a.store(Sz::Q, tmp(1), rcx);
    a.push(rsi);
    a.push(rdi);
    a.mov(Sz::Q, rdi, rcx);
    a.alu_imm(Alu::And, Sz::Q, rdi, -4096);
    a.mov(Sz::Q, rsi, rax);
    probe_second(a, m.write, m.el0, slow_popped);
    a.mov(Sz::Q, rax, rsi);
    a.pop(rdi);
    a.pop(rsi);
    a.inc_dec(false, Sz::Q, Mem::b(ENV, env::SECOND_HITS));
    a.load(Sz::D, rdx, tmp(0));
    a.load(Sz::Q, rcx, tmp(1));
    a.alu(Alu::Sub, Sz::Q, rcx, tag);
    a.jmp(found);

    let fail = a.label();
    a.bind(crossing);
    if m.group {
        a.jmp(fail);
    } else {
        a.alu(Alu::Sub, Sz::D, rcx, rdx);
        a.alu(Alu::Add, Sz::Q, rcx, tag);
        a.store(Sz::Q, tmp(0), rdx);
        a.store(Sz::Q, tmp(1), rcx);
        a.jmp(slow);
    }
    a.bind(slow_popped);
    a.pop(rdi);
    a.pop(rsi);
    a.bind(slow);
    if !m.group {
        // The offset of the instruction, behind the jump at the return address.
        a.load(Sz::Q, rax, Mem::b(Gpr::RSP, 8));
        a.movzx(Sz::H, rax, Mem::b(rax, 5));
        a.store(Sz::Q, tmp(2), rax);
    }
    let how = (if m.write { HOW_WRITE } else { 0 }) | (if m.el0 { HOW_EL0 } else { 0 });
    a.store_imm(Sz::Q, tmp(3), how as i32);
    save_all(a, host);
    call_helper(a, if m.group { helpers.miss_group } else { helpers.miss });
    let (out, done) = (a.label(), a.label());
    a.alu_imm(Alu::Cmp, Sz::D, rax, reason::DONE as i32);
    a.jcc(Cc::A, out);
    a.jcc(Cc::E, done);
    load_all(a, host);
    a.load(Sz::D, rdx, tmp(0));
    a.load(Sz::Q, rcx, tmp(1));
    a.jmp(probe);
    a.bind(done);
    load_all(a, host);
    if m.group {
        a.bind(fail);
        a.pop(rax);
        a.stc();
    } else {
        a.alu_imm(Alu::Add, Sz::Q, Gpr::RSP, 8);
        a.alu_imm(Alu::Add, Sz::Q, Mem::b(Gpr::RSP, 0), MISS_TAIL);
    }
    a.ret();
    a.bind(out);
    a.alu_imm(Alu::Add, Sz::Q, Gpr::RSP, 16);
    a.jmp(leave);
    if !m.group {
        a.bind(fail);
    }
}

/// Move a page from the second level into the first, as `JitCpu::fill` enters it. RDI = page, RSI = context plus the offset of the entry; RAX, RCX, RDX and XMM0 are used.
fn probe_second(a: &mut Asm, write: bool, el0: bool, slow: Label) {
    let (rax, rcx, rsi, rdi) = (Gpr::RAX, Gpr::RCX, Gpr::RSI, Gpr::RDI);
    let (read_only, entered, done, pan_set) = (a.label(), a.label(), a.label(), a.label());
    a.mov(Sz::Q, rcx, rdi);
    a.shift_imm(Shift::Shr, Sz::Q, rcx, 55);
    a.alu_imm(Alu::And, Sz::D, rcx, 1);
    if el0 {
        // Accesses of EL1 with EL0's rights, and of EL0 to the upper half, are the helper's.
        a.movzx(Sz::B, rax, Mem::b(ENV, env::EL));
        a.alu(Alu::Or, Sz::D, rax, rcx);
        a.jcc(Cc::Ne, slow);
        a.load(Sz::Q, rcx, Mem::b(ENV, env::CONTEXTS));
    } else {
        a.load(Sz::Q, rcx, Mem::bi(ENV, rcx, 3, env::CONTEXTS));
    }
    a.alu(Alu::Or, Sz::Q, rcx, rdi);
    a.mov(Sz::D, rax, rdi);
    a.shift_imm(Shift::Shr, Sz::D, rax, 12);
    a.alu_imm(Alu::And, Sz::D, rax, second::SETS as i32 - 1);
    const _: () = assert!(size_of::<second::Set>() == 64);
    a.shift_imm(Shift::Shl, Sz::D, rax, 6);
    a.alu(Alu::Add, Sz::Q, rax, Mem::b(ENV, env::SECOND));
    let found = a.label();
    for way in 0..second::WAYS {
        let next = if way + 1 < second::WAYS { a.label() } else { slow };
        a.alu(Alu::Cmp, Sz::Q, rcx, Mem::b(rax, (offset_of!(second::Set, tags) + 8 * way) as i32));
        a.jcc(Cc::Ne, next);
        a.load(Sz::Q, rax, Mem::b(rax, (offset_of!(second::Set, addends) + 8 * way) as i32));
        if way + 1 < second::WAYS {
            a.jmp(found);
            a.bind(next);
        }
    }
    a.bind(found);
    note_filled(a, el0);
    a.mov(Sz::D, rcx, rax);
    a.alu_imm(Alu::And, Sz::Q, rax, -4096);
    a.test_imm(Sz::B, rcx, second::WRITABLE as i32);
    if write {
        a.jcc(Cc::E, slow);
    }
    let entry = |field: i32| Mem::b(rsi, env::CTX_PAGES + field);
    // Stored as it will be loaded.
    a.v2(ops::VMOVQ, VLen::L128, Xmm(0), rdi);
    a.v3i(ops::VPINSRQ, VLen::L128, Xmm(0), Xmm(0), rax, 1);
    a.vstore(entry(env::SLOT_RPAGE), Xmm(0));
    a.jcc(Cc::E, read_only);
    a.vstore(entry(env::SLOT_WPAGE), Xmm(0));
    a.jmp(entered);
    a.bind(read_only);
    a.mov_imm(rcx, EMPTY_PAGE);
    a.store(Sz::Q, entry(env::SLOT_WPAGE), rcx);
    a.load(Sz::Q, rcx, Mem::b(ENV, env::EMPTY_ADDEND));
    a.store(Sz::Q, entry(env::SLOT_WPAGE + env::PAGE_TO_ADDEND), rcx);
    a.bind(entered);
    if el0 {
        return;
    }
    // In the lower half, where a page may belong to the address space: it leaves with it, and when PAN is set if it was made without.
    a.bit_imm(4, Sz::Q, rdi, 55);
    a.jcc(Cc::B, done);
    a.alu_imm(Alu::Cmp, Sz::B, Mem::b(ENV, env::PAN), 0);
    a.jcc(Cc::Ne, pan_set);
    a.store_imm(Sz::B, Mem::b(ENV, env::PAN_OPEN), 1);
    a.bind(pan_set);
    a.load(Sz::D, rcx, Mem::b(ENV, env::LOCAL));
    a.alu_imm(Alu::Cmp, Sz::D, rcx, LOCAL_LIMIT as i32);
    a.jcc(Cc::Ae, done);
    a.mov(Sz::Q, rax, rdi);
    a.shift_imm(Shift::Shl, Sz::Q, rax, 8);
    a.shift_imm(Shift::Shr, Sz::Q, rax, 8);
    a.store(Sz::Q, Mem::bi(ENV, rcx, 3, env::LOCAL + 8), rax);
    a.inc_dec(false, Sz::Q, Mem::b(ENV, env::LOCAL));
    a.bind(done);
}

/// Remember that an entry of the first level (RSI = context plus its offset) is filled, if it was empty. Uses RCX and RDX.
fn note_filled(a: &mut Asm, el0: bool) {
    let (rcx, rdx, rsi) = (Gpr::RCX, Gpr::RDX, Gpr::RSI);
    let (known, count) = (a.label(), Mem::b(rdx, env::CTX_FILLED));
    a.mov_imm(rcx, EMPTY_PAGE);
    a.alu(Alu::Cmp, Sz::Q, rcx, Mem::b(rsi, env::CTX_PAGES + env::SLOT_RPAGE));
    a.jcc(Cc::Ne, known);
    a.load(Sz::Q, rdx, Mem::b(ENV, if el0 { env::CTX_EL0 } else { env::CTX_EL1 }));
    a.load(Sz::D, rcx, count);
    a.alu_imm(Alu::Cmp, Sz::D, rcx, FILLED_LIMIT as i32);
    a.jcc(Cc::Ae, known);
    a.alu(Alu::Sub, Sz::Q, rsi, rdx);
    a.store(Sz::D, Mem::bi(rdx, rcx, 2, env::CTX_FILLED + env::FILLED_OFFSETS), rsi);
    a.alu(Alu::Add, Sz::Q, rsi, rdx);
    a.inc_dec(false, Sz::D, count);
    a.bind(known);
}
