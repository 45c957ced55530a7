//! Registers, operand sizes, memory operands and conditions of x86-64.

/// A general-purpose register by its hardware number (0..=15).
#[derive(Clone, Copy, PartialEq, Eq, Debug, Hash)]
pub struct Gpr(pub u8);

macro_rules! gprs { ($($name:ident = $n:literal),* $(,)?) => {
    impl Gpr { $(#[doc = concat!("Register ", stringify!($name), ".")] pub const $name: Gpr = Gpr($n);)* }
} }
gprs! {
    RAX = 0, RCX = 1, RDX = 2, RBX = 3, RSP = 4, RBP = 5, RSI = 6, RDI = 7,
    R8 = 8, R9 = 9, R10 = 10, R11 = 11, R12 = 12, R13 = 13, R14 = 14, R15 = 15,
}

/// A vector register by its hardware number: 0..=15 everywhere, 16..=31 only in EVEX forms.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Hash)]
pub struct Xmm(pub u8);

/// Width of an integer operation.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Sz {
    /// 8 bits.
    B,
    /// 16 bits.
    H,
    /// 32 bits: the upper half of a register destination is zeroed.
    D,
    /// 64 bits.
    Q,
}

impl Sz {
    /// `Q` if `wide`, else `D`: the two widths of A64 data processing.
    #[must_use]
    pub const fn dq(wide: bool) -> Sz {
        if wide { Sz::Q } else { Sz::D }
    }

    /// The width of `1 << log2` bytes (0..=3).
    #[must_use]
    pub const fn of_log2(log2: u8) -> Sz {
        match log2 {
            0 => Sz::B,
            1 => Sz::H,
            2 => Sz::D,
            _ => Sz::Q,
        }
    }

    /// Bytes.
    #[must_use]
    pub const fn bytes(self) -> u32 {
        match self {
            Sz::B => 1,
            Sz::H => 2,
            Sz::D => 4,
            Sz::Q => 8,
        }
    }
}

/// `[base + index * 2^scale + disp]`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Mem {
    /// Base register.
    pub base: Gpr,
    /// Index register (not RSP) and log2 of the scale (0..=3).
    pub index: Option<(Gpr, u8)>,
    /// Displacement.
    pub disp: i32,
}

impl Mem {
    /// `[base + disp]`.
    #[must_use]
    pub const fn b(base: Gpr, disp: i32) -> Mem {
        Mem { base, index: None, disp }
    }

    /// `[base + index * 2^scale + disp]`.
    #[must_use]
    pub const fn bi(base: Gpr, index: Gpr, scale: u8, disp: i32) -> Mem {
        Mem { base, index: Some((index, scale)), disp }
    }

    /// The same operand `delta` bytes further.
    #[must_use]
    pub const fn at(self, delta: i32) -> Mem {
        Mem { base: self.base, index: self.index, disp: self.disp.wrapping_add(delta) }
    }
}

/// The operand of a ModRM byte: a register (of the class that the instruction says) or memory.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Rm {
    /// Register number.
    Reg(u8),
    /// Memory.
    Mem(Mem),
}

impl From<Gpr> for Rm {
    fn from(r: Gpr) -> Rm {
        Rm::Reg(r.0)
    }
}
impl From<Xmm> for Rm {
    fn from(r: Xmm) -> Rm {
        Rm::Reg(r.0)
    }
}
impl From<Mem> for Rm {
    fn from(m: Mem) -> Rm {
        Rm::Mem(m)
    }
}

/// Condition codes, by their encoding in Jcc, SETcc and CMOVcc.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u8)]
pub enum Cc {
    /// Overflow.
    O = 0,
    /// No overflow.
    No = 1,
    /// Below (CF).
    B = 2,
    /// Above or equal (!CF).
    Ae = 3,
    /// Equal (ZF).
    E = 4,
    /// Not equal.
    Ne = 5,
    /// Below or equal (CF or ZF).
    Be = 6,
    /// Above.
    A = 7,
    /// Sign.
    S = 8,
    /// No sign.
    Ns = 9,
    /// Parity (unordered).
    P = 10,
    /// No parity.
    Np = 11,
    /// Less (SF != OF).
    L = 12,
    /// Greater or equal.
    Ge = 13,
    /// Less or equal.
    Le = 14,
    /// Greater.
    G = 15,
}

impl Cc {
    /// Every condition in encoding order.
    pub const ALL: [Cc; 16] = [
        Cc::O,
        Cc::No,
        Cc::B,
        Cc::Ae,
        Cc::E,
        Cc::Ne,
        Cc::Be,
        Cc::A,
        Cc::S,
        Cc::Ns,
        Cc::P,
        Cc::Np,
        Cc::L,
        Cc::Ge,
        Cc::Le,
        Cc::G,
    ];

    /// The opposite condition.
    #[must_use]
    pub const fn not(self) -> Cc {
        Cc::ALL[(self as usize) ^ 1]
    }
}
