//! AES, SHA-1 and SHA-256 steps by the host's own, and CRC-32 by carry-less multiplication.

use isa::insn::{AesOp, Insn, ShaOp, Size, VecBinOp, VecWidth};

use crate::asm::{Alu, Gpr, Shift, Sz, VLen, Xmm, ops};
use crate::constants::{CRC32, SHA1_K};
use crate::optimisations::Optimisation;
use crate::t1::builder::Builder;

use super::vector::{X0, X1, X2, X3};

const L: VLen = VLen::L128;
const RAX: Gpr = Gpr::RAX;
const RCX: Gpr = Gpr::RCX;

// Opcodes in map 0F38.
const SHA256RNDS2: u8 = 0xcb;
const SHA256MSG1: u8 = 0xcc;
const SHA256MSG2: u8 = 0xcd;

/// Lower one instruction of this family; false if it has no lowering.
pub fn lower(b: &mut Builder<'_>, insn: &Insn) -> bool {
    match *insn {
        Insn::CryptoAes { op, rd, rn } if b.host.aes => {
            b.begin(&[], false);
            aes(b, op, rd, rn);
        }
        Insn::CryptoSha { op, rd, rn, rm } => return sha(b, op, rd, rn, rm),
        _ => return false,
    }
    true
}

/// The host's round adds the key behind the other steps, Arm's before them; with the mixing of columns behind it a round is one host instruction.
fn aes(b: &mut Builder<'_>, op: AesOp, rd: u8, rn: u8) {
    let mixing = if op == AesOp::Aese { AesOp::Aesmc } else { AesOp::Aesimc };
    match op {
        AesOp::Aese | AesOp::Aesd => {
            let old = b.v(rd, X1);
            let key = b.vm(rn);
            b.v128(ops::VPXOR, X1, old, key);
            b.a.vzero(X0);
            let fused = matches!(b.peek_fusable(), Some(Insn::CryptoAes { op, rd: d, rn: n }) if *op == mixing && (*d, *n) == (rd, rd));
            let round = match (op, fused) {
                (AesOp::Aese, false) => ops::VAESENCLAST,
                (AesOp::Aese, true) => ops::VAESENC,
                (_, false) => ops::VAESDECLAST,
                (_, true) => ops::VAESDEC,
            };
            b.finish_op(round, rd, X1, X0, VecWidth::Q16);
            if fused {
                b.skip_next();
            }
        }
        AesOp::Aesmc => {
            let n = b.v(rn, X1);
            b.a.vzero(X0);
            b.v128(ops::VAESDECLAST, X1, n, X0);
            b.finish_op(ops::VAESENC, rd, X1, X0, VecWidth::Q16);
        }
        AesOp::Aesimc => {
            let n = b.vm(rn);
            let d = b.dv(rd, X0);
            b.a.v2(ops::VAESIMC, L, d, n);
            b.set_v(rd, d);
        }
    }
}

fn sha(b: &mut Builder<'_>, op: ShaOp, rd: u8, rn: u8, rm: u8) -> bool {
    let plain = matches!(op, ShaOp::Sha1h | ShaOp::Sha1su0 | ShaOp::Sha1su1);
    if !plain && !b.host.sha {
        return false;
    }
    b.begin(&[], false);
    match op {
        ShaOp::Sha256h | ShaOp::Sha256h2 => sha256_rounds(b, op == ShaOp::Sha256h2, rd, rn, rm),
        ShaOp::Sha256su0 => {
            let n = b.v(rn, X1);
            let d = legacy(b, rd, X0);
            if d == X0 {
                b.v_copy(rd, X0);
            }
            b.a.sha(SHA256MSG1, d, n);
            b.set_v(rd, d);
        }
        ShaOp::Sha256su1 => {
            let n = b.v(rn, X0);
            let m = b.v(rm, X1);
            let old = b.vm(rd);
            b.a.v3i(ops::VPALIGNR, L, X0, m, n, 4);
            let d = if rd == rm { X0 } else { legacy(b, rd, X0) };
            b.v128(ops::VPADDD, d, X0, old);
            b.a.sha(SHA256MSG2, d, m);
            b.set_v(rd, d);
        }
        ShaOp::Sha1c => sha1_rounds(b, 0, rd, rn, rm),
        ShaOp::Sha1p => sha1_rounds(b, 1, rd, rn, rm),
        ShaOp::Sha1m => sha1_rounds(b, 2, rd, rn, rm),
        ShaOp::Sha1h => {
            let n = b.v(rn, X0);
            b.a.vshift(ops::VPSLLD_I, L, X1, n, 30);
            b.a.vshift(ops::VPSRLD_I, L, X0, n, 2);
            b.v128(ops::VPOR, X0, X0, X1);
            b.finish_v(rd, X0, VecWidth::S4);
        }
        ShaOp::Sha1su0 => {
            let old = b.v(rd, X0);
            let n = b.v(rn, X1);
            let m = b.vm(rm);
            b.a.v3i(ops::VPALIGNR, L, X1, n, old, 8);
            b.v128(ops::VPXOR, X0, old, m);
            b.finish_op(ops::VPXOR, rd, X0, X1, VecWidth::Q16);
        }
        ShaOp::Sha1su1 => {
            let n = b.v(rn, X1);
            b.a.vshift(ops::VPSRLDQ, L, X1, n, 4);
            let old = b.vm(rd);
            b.v128(ops::VPXOR, X1, X1, old);
            // The last word also gets the first one, rotated by two.
            b.a.vshift(ops::VPSLLDQ, L, X3, X1, 12);
            rotate_left(b, X0, X1, X2, 1);
            rotate_left(b, X1, X3, X2, 2);
            b.finish_op(ops::VPXOR, rd, X0, X1, VecWidth::Q16);
        }
    }
    true
}

/// `d` = words of `n` rotated left by `by`; not in place.
fn rotate_left(b: &mut Builder<'_>, d: Xmm, n: Xmm, scratch: Xmm, by: u8) {
    if b.host.avx512 {
        return b.a.vshift(ops::VPROLD, L, d, n, by);
    }
    b.a.vshift(ops::VPSRLD_I, L, scratch, n, 32 - by);
    b.a.vshift(ops::VPSLLD_I, L, d, n, by);
    b.v128(ops::VPOR, d, d, scratch);
}

/// The host register of `rd` if the legacy encoding reaches it, so that an operation may be done there, else `scratch`.
fn legacy(b: &Builder<'_>, rd: u8, scratch: Xmm) -> Xmm {
    b.pin_v(rd).filter(|x| x.0 < 16).unwrap_or(scratch)
}

/// What SHA256H and the SHA256H2 behind it have in common.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Pair {
    /// Nothing.
    None,
    /// The same state: SHA256H2 has a copy of the first half, so both are halves of the same four rounds.
    SameRounds,
    /// SHA256H2 goes on from the result of SHA256H.
    NextRounds,
}

/// How the instruction behind SHA256H `rd, rn, rm` goes on.
fn pair_behind(b: &Builder<'_>, rd: u8, rn: u8, rm: u8) -> Pair {
    let Some(&Insn::CryptoSha { op: ShaOp::Sha256h2, rd: d, rn: n, rm: m }) = b.peek_fusable() else {
        return Pair::None;
    };
    if d != rn || m != rm || d == rm || rd == rm || rd == rn {
        return Pair::None;
    }
    if n == rd {
        return Pair::NextRounds;
    }
    let copied = matches!(
        b.previous_fusable(),
        Some(&Insn::VecBin { op: VecBinOp::Orr, width: VecWidth::Q16, rd: copy, rn: from, rm: same, .. })
            if copy == n && from == rd && same == rd
    );
    if copied && n != rm && n != rn { Pair::SameRounds } else { Pair::None }
}

/// Four rounds on the state in X2 (ABEF) and X3 (CDGH), with the words of `rm`. The host keeps the state in these halves, highest element
/// first, and does two rounds at a time with the words in xmm0, after which the old ABEF is the new CDGH.
fn four_rounds(b: &mut Builder<'_>, rm: u8) {
    b.v_copy(rm, X0);
    b.a.sha(SHA256RNDS2, X3, X2);
    b.a.v2i(ops::VPSHUFD, L, X0, X0, 0x0e);
    b.a.sha(SHA256RNDS2, X2, X3);
}

/// `rd` = the half ABCD (or EFGH) of the state in X2 (ABEF) and X3 (CDGH).
fn half_of_state(b: &mut Builder<'_>, rd: u8, second: bool) {
    let d = b.dv(rd, X0);
    b.a.v3i(ops::VSHUFPS, L, d, X2, X3, if second { 0x11 } else { 0xbb });
    b.set_v(rd, d);
}

/// SHA256H or SHA256H2, the first with the second behind it where they share work.
fn sha256_rounds(b: &mut Builder<'_>, second: bool, rd: u8, rn: u8, rm: u8) {
    let pair = if second { Pair::None } else { pair_behind(b, rd, rn, rm) };
    let (abcd, efgh) = if second { (rn, rd) } else { (rd, rn) };
    let known = b.kept.sha256.take() == Some((abcd, efgh));
    let (p, q) = (legacy(b, abcd, X0), legacy(b, efgh, X0));
    if pair != Pair::None && p != X0 && q != X0 {
        if !known {
            b.a.v3i(ops::VSHUFPS, L, X3, q, p, 0xbb);
            b.a.v3i(ops::VSHUFPS, L, X2, q, p, 0x11);
        }
        if pair == Pair::SameRounds {
            four_rounds(b, rm);
            b.a.v3i(ops::VSHUFPS, L, p, X2, X3, 0xbb);
            b.a.v3i(ops::VSHUFPS, L, q, X2, X3, 0x11);
        } else {
            eight_rounds(b, p, q, rm);
        }
        if b.optimise.has(Optimisation::KeptScratch) {
            b.kept.sha256 = Some((abcd, efgh));
        }
        return b.skip_next();
    }
    let x = b.v(abcd, X1);
    let y = b.v(efgh, X2);
    b.a.v3i(ops::VSHUFPS, L, X3, y, x, 0xbb);
    b.a.v3i(ops::VSHUFPS, L, X2, y, x, 0x11);
    four_rounds(b, rm);
    half_of_state(b, rd, second);
    match pair {
        Pair::None => return,
        Pair::SameRounds => {}
        Pair::NextRounds => {
            // ABCD is new, EFGH is still the old one.
            let y = b.v(efgh, X1);
            b.a.v3i(ops::VSHUFPS, L, X3, y, X3, 0xeb);
            b.a.v3i(ops::VSHUFPS, L, X2, y, X2, 0xe1);
            four_rounds(b, rm);
        }
    }
    half_of_state(b, rn, true);
    b.skip_next();
}

/// SHA256H with the SHA256H2 that goes on from its result: of the state in X2 (ABEF) and X3 (CDGH), and in ABCD = `p` and EFGH = `q`, which all are as the two leave them.
///
/// What SHA256H2 answers depends on one of D, C, B and A in each of its rounds, and D and C are there after half of SHA256H: its first two rounds, with an A and B
/// that do not matter, run beside the last two of SHA256H.
fn eight_rounds(b: &mut Builder<'_>, p: Xmm, q: Xmm, rm: u8) {
    // The upper half of the second operand, the lower half of the first.
    let join = |b: &mut Builder<'_>, d: Xmm, low: Xmm, high: Xmm| b.a.v3i(ops::VPBLENDD, L, d, low, high, 0b1100);
    b.v_copy(rm, X0);
    b.a.vmov(X1, X3);
    b.a.sha(SHA256RNDS2, X1, X2);
    join(b, X3, X3, X1);
    b.a.sha(SHA256RNDS2, X3, X2);
    b.a.v2i(ops::VPSHUFD, L, X0, X0, 0x0e);
    b.a.vmov(p, X2);
    b.a.sha(SHA256RNDS2, p, X1);
    join(b, q, X2, p);
    b.a.sha(SHA256RNDS2, q, X3);
    join(b, X2, q, p);
    b.a.v3i(ops::VSHUFPS, L, p, p, X1, 0xbb);
    b.a.v3i(ops::VSHUFPS, L, q, q, X3, 0x11);
    join(b, X3, X3, X1);
}

/// Four rounds. The host has the first word in the highest element and adds the constant of the round itself, which the guest has done already.
fn sha1_rounds(b: &mut Builder<'_>, function: u8, rd: u8, rn: u8, rm: u8) {
    let m = b.v(rm, X0);
    b.v128(ops::VPSUBD, X0, m, SHA1_K.plus(function));
    b.a.v2i(ops::VPSHUFD, L, X0, X0, 0x1b);
    let e = b.v(rn, X1);
    b.a.vshift(ops::VPSLLDQ, L, X1, e, 12);
    b.v128(ops::VPADDD, X0, X0, X1);
    let old = b.vm(rd);
    b.a.v2i(ops::VPSHUFD, L, X2, old, 0x1b);
    b.a.sha1rnds4(X2, X0, function);
    let d = b.dv(rd, X2);
    b.a.v2i(ops::VPSHUFD, L, d, X2, 0x1b);
    b.set_v(rd, d);
}

/// CRC32B to CRC32X; false without carry-less multiplication.
///
/// The checksum is a division of power series, bit 0 first: the quotient of 64 bits is the value times the polynomial's inverse, and quotient
/// times polynomial has the remainder above them. Shorter values go to the upper end: zeros in front do not matter.
pub fn crc32(b: &mut Builder<'_>, size: Size, rd: u8, rn: u8, rm: u8) -> bool {
    if !b.host.pclmul {
        return false;
    }
    let bits = u8::try_from(8 * size.bytes().min(8)).unwrap_or(64);
    b.begin(&[rd], true);
    b.load_w(RAX, rn);
    if bits == 64 {
        let m = b.rm(rm, RCX);
        b.a.alu(Alu::Xor, Sz::Q, RAX, m);
    } else {
        b.load_w(RCX, rm);
        b.a.alu(Alu::Xor, Sz::D, RCX, RAX);
        b.a.shift_imm(Shift::Shl, Sz::Q, RCX, 64 - bits);
        if bits < 32 {
            b.a.shift_imm(Shift::Shr, Sz::D, RAX, bits);
        }
    }
    b.a.v2(ops::VMOVQ, L, X0, if bits == 64 { RAX } else { RCX });
    b.a.v3i(ops::VPCLMULQDQ, L, X0, X0, CRC32.plus(1), 0);
    b.a.v3i(ops::VPCLMULQDQ, L, X0, X0, CRC32, 0);
    if bits >= 32 {
        b.a.vsti(ops::VPEXTRD, L, RAX, X0, 2);
    } else {
        b.a.vsti(ops::VPEXTRD, L, RCX, X0, 2);
        b.a.alu(Alu::Xor, Sz::D, RAX, RCX);
    }
    b.set(rd, RAX);
    true
}
