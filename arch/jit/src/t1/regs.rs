//! The register convention that holds at every instruction boundary of every fragment.
//!
//! | host | holds |
//! |---|---|
//! | r15 | the environment: `JitCpu`, biased so that the general registers have short displacements |
//! | r14 | the current translation context (jump cache and first-level TLB) |
//! | rbx rsi rdi r8 rbp r12 r9 r10 r11 r13 | X0 X1 X2 X3 X4 X5 X8 X19 X20 SP |
//! | xmm4-11, xmm12-15 | V0-V7, V16-V19 on hosts with 16 vector registers |
//! | xmm4-11, xmm12-13, xmm16-29, xmm30-31 | V0-V7, V16-V17, V18-V31, V8-V9 with 32 (AVX-512); xmm14 and xmm15 are the encoder's |
//! | rax rcx rdx, xmm0-3 | scratch inside one guest instruction |
//!
//! Everything else lives in memory behind r15. NZCV is in host EFLAGS, in a recipe or in memory: see `flags`.

use crate::asm::{Gpr, Mem, Rm, Sz, Xmm};
use crate::env;
use crate::host::HostFeatures;

use super::builder::Builder;

/// Register number 31 where it means SP.
pub const SP: u8 = 32;
/// Register number 31 where it means zero.
pub const ZR: u8 = 31;

/// Environment pointer.
pub const ENV: Gpr = Gpr::R15;
/// Translation context pointer.
pub const CTX: Gpr = Gpr::R14;

/// The pinned general registers: guest number ([`SP`] for SP) and host register.
pub const PINNED: [(u8, Gpr); 10] = [
    (0, Gpr::RBX),
    (1, Gpr::RSI),
    (2, Gpr::RDI),
    (3, Gpr::R8),
    (4, Gpr::RBP),
    (5, Gpr::R12),
    (8, Gpr::R9),
    (19, Gpr::R10),
    (20, Gpr::R11),
    (SP, Gpr::R13),
];

/// The pinned vector registers of a host with 32 of its own. What has no EVEX form reaches the upper half by way of xmm14 and xmm15: see `asm::vec`.
const PINNED_V32: [(u8, Xmm); 26] = [
    (0, Xmm(4)),
    (1, Xmm(5)),
    (2, Xmm(6)),
    (3, Xmm(7)),
    (4, Xmm(8)),
    (5, Xmm(9)),
    (6, Xmm(10)),
    (7, Xmm(11)),
    (16, Xmm(12)),
    (17, Xmm(13)),
    (18, Xmm(16)),
    (19, Xmm(17)),
    (20, Xmm(18)),
    (21, Xmm(19)),
    (22, Xmm(20)),
    (23, Xmm(21)),
    (24, Xmm(22)),
    (25, Xmm(23)),
    (26, Xmm(24)),
    (27, Xmm(25)),
    (28, Xmm(26)),
    (29, Xmm(27)),
    (30, Xmm(28)),
    (31, Xmm(29)),
    (8, Xmm(30)),
    (9, Xmm(31)),
];

/// The pinned vector registers of other hosts.
const PINNED_V16: [(u8, Xmm); 12] = [
    (0, Xmm(4)),
    (1, Xmm(5)),
    (2, Xmm(6)),
    (3, Xmm(7)),
    (4, Xmm(8)),
    (5, Xmm(9)),
    (6, Xmm(10)),
    (7, Xmm(11)),
    (16, Xmm(12)),
    (17, Xmm(13)),
    (18, Xmm(14)),
    (19, Xmm(15)),
];

/// The host register of each guest register, by its number.
const fn pin_table<R: Copy, const N: usize>(pinned: &[(u8, R)]) -> [Option<R>; N] {
    let mut t = [None; N];
    let mut i = 0;
    while i < pinned.len() {
        t[pinned[i].0 as usize] = Some(pinned[i].1);
        i += 1;
    }
    t
}

const PIN: [Option<Gpr>; 33] = pin_table(&PINNED);
const PIN_V16: [Option<Xmm>; 32] = pin_table(&PINNED_V16);
const PIN_V32: [Option<Xmm>; 32] = pin_table(&PINNED_V32);

/// Host register that holds guest register `reg` (31 = zero register, [`SP`] = SP), if it is pinned.
#[must_use]
pub fn pin(reg: u8) -> Option<Gpr> {
    PIN.get(usize::from(reg)).copied().flatten()
}

/// The pinned vector registers: guest number and host register.
#[must_use]
pub fn pinned_v(host: HostFeatures) -> &'static [(u8, Xmm)] {
    if host.vectors32 { &PINNED_V32 } else { &PINNED_V16 }
}

/// The number that a field has where 31 means SP.
#[must_use]
pub fn or_sp(reg: u8) -> u8 {
    if reg == 31 { SP } else { reg }
}

/// Memory home of a general register or SP.
#[must_use]
pub fn home(reg: u8) -> Mem {
    Mem::b(ENV, if reg == SP { env::SP } else { env::x(reg) })
}

/// Memory home of a vector register.
#[must_use]
pub fn home_v(v: u8) -> Mem {
    Mem::b(ENV, env::v(v))
}

impl Builder<'_> {
    /// `reg` in some host register: its pinned one, or loaded into `scratch`. Leaves the host flags alone.
    pub fn r(&mut self, reg: u8, scratch: Gpr) -> Gpr {
        if let Some(g) = pin(reg) {
            return g;
        }
        self.load_x(scratch, reg);
        scratch
    }

    /// `reg` as a source operand: pinned register, memory, or zero in `scratch`.
    pub fn rm(&mut self, reg: u8, scratch: Gpr) -> Rm {
        if let Some(g) = pin(reg) {
            return g.into();
        }
        if reg == ZR {
            self.a.mov_imm(scratch, 0);
            return scratch.into();
        }
        home(reg).into()
    }

    /// Copy `reg` into `dst`. Leaves the host flags alone.
    pub fn load_x(&mut self, dst: Gpr, reg: u8) {
        match pin(reg) {
            Some(g) if g == dst => {}
            Some(g) => self.a.mov(Sz::Q, dst, g),
            None if reg == ZR => self.a.mov_imm(dst, 0),
            None => self.a.load(Sz::Q, dst, home(reg)),
        }
    }

    /// Copy the low half of `reg`, zero-extended, into `dst`.
    pub fn load_w(&mut self, dst: Gpr, reg: u8) {
        match pin(reg) {
            Some(g) => self.a.mov(Sz::D, dst, g),
            None if reg == ZR => self.a.mov_imm(dst, 0),
            None => self.a.load(Sz::D, dst, home(reg)),
        }
    }

    /// Copy `reg` (`sz` wide, zero-extended) into `dst`.
    pub fn load_sz(&mut self, sz: Sz, dst: Gpr, reg: u8) {
        if sz == Sz::Q { self.load_x(dst, reg) } else { self.load_w(dst, reg) }
    }

    /// Memory home of `reg`, if an operation on 64 bits is best done there: `reg` is not pinned and is both its destination and its first operand.
    #[must_use]
    pub fn in_place(&self, sz: Sz, rd: u8, rn: u8) -> Option<Mem> {
        (sz == Sz::Q && rd == rn && rd != ZR && pin(rd).is_none()).then(|| home(rd))
    }

    /// As [`Builder::load_sz`] where the bits above `sz` do not matter: nothing to do if `dst` already is `reg`.
    pub fn load_low(&mut self, sz: Sz, dst: Gpr, reg: u8) {
        if pin(reg) != Some(dst) {
            self.load_sz(sz, dst, reg);
        }
    }

    /// Where to compute a result for `reg`: its pinned register, or `scratch` (also for the zero register).
    /// Finish with [`Builder::set`]. Only write it after the last read of the sources.
    #[must_use]
    pub fn d(&self, reg: u8, scratch: Gpr) -> Gpr {
        pin(reg).unwrap_or(scratch)
    }

    /// `reg` = the 64 bits of `from`. Leaves the host flags alone.
    pub fn set(&mut self, reg: u8, from: Gpr) {
        match pin(reg) {
            Some(g) if g == from => {}
            Some(g) => self.a.mov(Sz::Q, g, from),
            None if reg == ZR => {}
            None => self.a.store(Sz::Q, home(reg), from),
        }
    }

    /// `reg` = `value`.
    pub fn set_imm(&mut self, reg: u8, value: u64) {
        match pin(reg) {
            Some(g) => self.a.mov_imm(g, value),
            None if reg == ZR => {}
            None => match i32::try_from(value.cast_signed()) {
                Ok(v) => self.a.store_imm(Sz::Q, home(reg), v),
                Err(_) => {
                    self.a.mov_imm(Gpr::RAX, value);
                    self.a.store(Sz::Q, home(reg), Gpr::RAX);
                }
            },
        }
    }

    /// Host register that holds vector register `v`, if it is pinned.
    #[must_use]
    pub fn pin_v(&self, v: u8) -> Option<Xmm> {
        let table = if self.host.vectors32 { &PIN_V32 } else { &PIN_V16 };
        table.get(usize::from(v)).copied().flatten()
    }

    /// Vector register `v` in some host register: its pinned one, or loaded into `scratch`.
    pub fn v(&mut self, v: u8, scratch: Xmm) -> Xmm {
        if let Some(x) = self.pin_v(v) {
            return x;
        }
        self.a.vload(scratch, home_v(v));
        scratch
    }

    /// Vector register `v` as a source operand. Unaligned use is fine: all forms are VEX.
    #[must_use]
    pub fn vm(&self, v: u8) -> Rm {
        self.pin_v(v).map_or_else(|| home_v(v).into(), Into::into)
    }

    /// Where to compute a result for vector register `v`. Finish with [`Builder::set_v`].
    #[must_use]
    pub fn dv(&self, v: u8, scratch: Xmm) -> Xmm {
        self.pin_v(v).unwrap_or(scratch)
    }

    /// `v` = all 128 bits of `from`.
    pub fn set_v(&mut self, v: u8, from: Xmm) {
        match self.pin_v(v) {
            Some(x) => self.a.vmov(x, from),
            None => self.a.vstore(home_v(v), from),
        }
    }
}
