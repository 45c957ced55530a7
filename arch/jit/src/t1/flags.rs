//! NZCV: where it is, how it gets there.
//!
//! At any point of a fragment the guest flags are in one or more of three places: host EFLAGS (with a polarity for C), a *recipe*
//! (the compare that made them, its inputs still intact, nothing emitted yet), and the environment. A compare without a result emits nothing: its
//! consumer emits it where it is wanted. Before an instruction that clobbers EFLAGS or overwrites a recipe's input, [`Builder::begin`] saves what
//! would get lost, if something still reads it.
//!
//! Where nothing but C is still wanted (inside a chain of ADCS or SBCS), C alone is put away, as a byte: one instruction to keep and one to get back.
//!
//! Environment format: what `lahf; seto al` leaves in AX (AH = SF ZF . . . . . CF, AL = OF), with CF = C.
//!
//! A value of NZCV that no instruction can read before it is overwritten is not kept: an exception taken in between saves an older NZCV.

use isa::insn::Cond;

use crate::asm::{Alu, Cc, Gpr, Mem, Sz};
use crate::env;

use super::analysis::ONLY_C;
use super::builder::Builder;
use super::regs::ENV;

/// What CF says about C while the flags are in EFLAGS.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Polarity {
    /// C = CF: after additions and logic (CF = OF = 0).
    Add,
    /// C = !CF: after subtractions and compares.
    Sub,
}

/// Second operand of a recipe.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Op2 {
    /// A register.
    Reg(u8),
    /// A sign-extended immediate.
    Imm(i32),
}

/// A compare that can be emitted at any place where its inputs are intact.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Recipe {
    /// `Sub`: compare, `Add`: compare negative, `And`: test.
    pub op: RecipeOp,
    /// Width.
    pub sz: Sz,
    /// First operand.
    pub a: u8,
    /// Second operand.
    pub b: Op2,
}

/// Operation of a recipe.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum RecipeOp {
    /// CMP.
    Cmp,
    /// CMN.
    Cmn,
    /// TST.
    Test,
}

impl Recipe {
    fn reads(&self, reg: u8) -> bool {
        self.a == reg || self.b == Op2::Reg(reg)
    }
}

/// Which operand of a floating-point compare in EFLAGS came first.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum FpOrder {
    /// `vucomis n, m`: one host condition each for GE, LT, GT and LE.
    Straight,
    /// `vucomis m, n`: one host condition each for CS, CC, MI, PL, HI and LS.
    Swapped,
}

/// A floating-point compare that can be done again: it sets no exception flag that its first execution did not set.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct FpCompareRecipe {
    /// Of doubles (else singles).
    pub double: bool,
    /// First operand.
    pub n: u8,
    /// Second operand; `None` for +0.
    pub m: Option<u8>,
}

/// Where the guest flags are.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Flags {
    /// As a floating-point compare that was done, whose operands are intact.
    pub fp: Option<FpCompareRecipe>,
    /// In EFLAGS as such a compare leaves them.
    pub fp_host: Option<FpOrder>,
    /// In EFLAGS.
    pub host: Option<Polarity>,
    /// As a compare to do.
    pub recipe: Option<Recipe>,
    /// In the environment.
    pub env: bool,
    /// CF in the environment's byte for it (inverted), with what it says about C; the others are not wanted any more.
    pub carry: Option<Polarity>,
}

impl Flags {
    /// Only in the environment: the state at fragment entry and at labels.
    pub const STORED: Flags = Flags { fp: None, fp_host: None, host: None, recipe: None, env: true, carry: None };
}

const FLAGS: Mem = Mem::b(ENV, env::FLAGS);
const CARRY: Mem = Mem::b(ENV, env::CARRY);

impl Builder<'_> {
    /// Call first in every lowering that writes a general register or clobbers EFLAGS: keeps the guest flags safe if they are still wanted.
    /// Uses RAX. `writes`: general registers that the lowering writes. `clobbers`: it changes EFLAGS.
    pub fn begin(&mut self, writes: &[u8], clobbers: bool) {
        let hit = self.flags.recipe.is_some_and(|r| writes.iter().any(|w| r.reads(*w)));
        if self.flags_live_out() && !self.flags.env && self.flags.carry.is_none() {
            let in_host = self.flags.host.is_some() || self.flags.fp_host.is_some();
            let survives = !hit && self.flags.recipe.is_some() || self.flags.fp.is_some() || !clobbers && in_host;
            if !survives {
                if clobbers {
                    if !self.store_carry() {
                        self.store_flags();
                    }
                } else {
                    self.need_flags();
                }
            }
        }
        if clobbers {
            self.flags.host = None;
            self.flags.fp_host = None;
        }
        if hit {
            self.flags.recipe = None;
        }
    }

    /// True if the flags are in EFLAGS, nowhere else, and wanted behind this instruction: then it pays to leave EFLAGS alone.
    #[must_use]
    pub fn keeps_flags(&self) -> bool {
        let Flags { host, recipe, env, carry, .. } = self.flags;
        host.is_some() && recipe.is_none() && !env && carry.is_none() && self.flags_live_out()
    }

    /// True if an instruction may change EFLAGS at no cost: nothing that is wanted is in them.
    #[must_use]
    pub fn eflags_free(&self) -> bool {
        !self.flags_live_out() || self.flags.host.is_none() && self.flags.fp_host.is_none()
    }

    /// Put C away, if nothing else of the flags is wanted behind this instruction and C is in EFLAGS.
    fn store_carry(&mut self) -> bool {
        let only_c = self.info.get(self.i).is_some_and(|i| i.flags_out == ONLY_C);
        // A lockstep run compares all flags.
        let (true, false, Some(p)) = (only_c, self.lockstep, self.flags.host) else { return false };
        self.a.setcc(Cc::Ae, CARRY);
        self.flags.carry = Some(p);
        true
    }

    /// As [`Builder::begin`] for an instruction that defines all flags itself: only forgets.
    pub fn begin_def(&mut self) {
        self.flags = Flags { env: false, ..Flags::STORED };
    }

    /// The flags are in EFLAGS now, and nowhere else.
    pub fn flags_in_host(&mut self, polarity: Polarity) {
        self.flags = Flags { host: Some(polarity), env: false, ..Flags::STORED };
    }

    /// The flags are what `recipe` says; nothing is emitted.
    pub fn flags_by(&mut self, recipe: Recipe) {
        self.flags = Flags { recipe: Some(recipe), env: false, ..Flags::STORED };
    }

    /// Emit a recipe.
    fn emit_recipe(&mut self, r: Recipe) -> Polarity {
        let (alu, polarity) = match r.op {
            RecipeOp::Cmp => (Alu::Cmp, Polarity::Sub),
            RecipeOp::Cmn => (Alu::Add, Polarity::Add),
            RecipeOp::Test => (Alu::And, Polarity::Add),
        };
        match (r.op, r.b) {
            (RecipeOp::Cmp, Op2::Imm(i)) => {
                let a = self.rm(r.a, Gpr::RAX);
                self.a.alu_imm(alu, r.sz, a, i);
            }
            (RecipeOp::Test, Op2::Imm(i)) => {
                let a = self.rm(r.a, Gpr::RAX);
                self.a.test_imm(r.sz, a, i);
            }
            (RecipeOp::Cmn, Op2::Imm(i)) => {
                self.load_x(Gpr::RAX, r.a);
                self.a.alu_imm(alu, r.sz, Gpr::RAX, i);
            }
            (RecipeOp::Cmp, Op2::Reg(b)) => {
                let a = self.r(r.a, Gpr::RAX);
                let b = self.rm_zero(b, a);
                self.a.alu(alu, r.sz, a, b);
            }
            (RecipeOp::Test, Op2::Reg(b)) => {
                let b = self.r(b, Gpr::RAX);
                let a = if r.b == Op2::Reg(r.a) { b.into() } else { self.rm_zero(r.a, b) };
                self.a.test(r.sz, a, b);
            }
            (RecipeOp::Cmn, Op2::Reg(b)) => {
                self.load_x(Gpr::RAX, r.a);
                let b = self.rm_zero(b, Gpr::RAX);
                self.a.alu(alu, r.sz, Gpr::RAX, b);
            }
        }
        polarity
    }

    /// A source operand while `other` is in use: the zero register comes from a zero word in the environment.
    pub fn rm_zero(&mut self, reg: u8, _other: Gpr) -> crate::asm::Rm {
        if reg == super::regs::ZR { Mem::b(ENV, env::ZERO).into() } else { self.rm(reg, Gpr::RAX) }
    }

    /// Make EFLAGS hold the guest flags; answers the polarity of C. Uses RAX.
    pub fn need_flags(&mut self) -> Polarity {
        if let Some(p) = self.flags.host {
            return p;
        }
        let p = if self.fp_flags_to_rax() {
            self.flags.fp_host = None;
            self.a.alu_imm(Alu::Add, Sz::B, Gpr::RAX, 0x7f);
            self.a.sahf();
            Polarity::Add
        } else if let Some(r) = self.flags.recipe {
            self.emit_recipe(r)
        } else if let Some(p) = self.flags.carry {
            // CF = the byte is 0.
            self.a.alu_imm(Alu::Cmp, Sz::B, CARRY, 1);
            p
        } else {
            self.a.load(Sz::D, Gpr::RAX, FLAGS);
            self.a.alu_imm(Alu::Add, Sz::B, Gpr::RAX, 0x7f);
            self.a.sahf();
            Polarity::Add
        };
        self.flags.host = Some(p);
        p
    }

    /// Make EFLAGS hold the guest flags with CF = C (`Add`) or CF = !C (`Sub`).
    pub fn need_polarity(&mut self, want: Polarity) {
        if self.need_flags() != want {
            self.a.cmc();
            self.flags.host = Some(want);
        }
    }

    /// Make the environment hold the guest flags. Uses RAX; EFLAGS keep their meaning where they had one.
    pub fn store_flags(&mut self) {
        if self.flags.env {
            return;
        }
        if self.flags.host.is_none() && self.fp_flags_to_rax() {
            self.a.store(Sz::D, FLAGS, Gpr::RAX);
            self.flags.env = true;
            return;
        }
        if self.flags.host.is_none()
            && let Some(p) = self.flags.carry
        {
            self.a.movzx(Sz::B, Gpr::RAX, CARRY);
            if p == Polarity::Add {
                self.a.alu_imm(Alu::Xor, Sz::D, Gpr::RAX, 1);
            }
            self.a.rorx(Sz::D, Gpr::RAX, Gpr::RAX, 24);
            self.a.store(Sz::D, FLAGS, Gpr::RAX);
            self.flags.env = true;
            return;
        }
        self.need_polarity(Polarity::Add);
        self.a.lahf();
        self.a.setcc(Cc::O, Gpr::RAX);
        self.a.store(Sz::D, FLAGS, Gpr::RAX);
        self.flags.env = true;
    }

    /// Host condition for `cond`, with EFLAGS prepared for it. `None` for AL and NV. Uses RAX.
    pub fn cond(&mut self, cond: Cond) -> Option<Cc> {
        if cond.always() {
            return None;
        }
        if self.flags.host.is_none()
            && let Some(cc) = self.fp_cond(cond)
        {
            return Some(cc);
        }
        let mut p = self.need_flags();
        if matches!(cond, Cond::Hi | Cond::Ls) && p == Polarity::Add {
            self.need_polarity(Polarity::Sub);
            p = Polarity::Sub;
        }
        Some(match cond {
            Cond::Eq => Cc::E,
            Cond::Ne => Cc::Ne,
            Cond::Cs => {
                if p == Polarity::Sub {
                    Cc::Ae
                } else {
                    Cc::B
                }
            }
            Cond::Cc => {
                if p == Polarity::Sub {
                    Cc::B
                } else {
                    Cc::Ae
                }
            }
            Cond::Mi => Cc::S,
            Cond::Pl => Cc::Ns,
            Cond::Vs => Cc::O,
            Cond::Vc => Cc::No,
            Cond::Hi => Cc::A,
            Cond::Ls => Cc::Be,
            Cond::Ge => Cc::Ge,
            Cond::Lt => Cc::L,
            Cond::Gt => Cc::G,
            Cond::Le | Cond::Al | Cond::Nv => Cc::Le,
        })
    }
}

/// NZCV (in bits 31:28) from the environment format.
#[must_use]
pub fn to_nzcv(env: u32) -> u32 {
    (env >> 15 & 1) << 31 | (env >> 14 & 1) << 30 | (env >> 8 & 1) << 29 | (env & 1) << 28
}

/// The environment format of NZCV (in bits 31:28).
#[must_use]
pub fn from_nzcv(nzcv: u32) -> u32 {
    (nzcv >> 31 & 1) << 15 | (nzcv >> 30 & 1) << 14 | (nzcv >> 29 & 1) << 8 | nzcv >> 28 & 1
}
