//! Names of encodings.

/// Encoding of a system register or system instruction: `op0:op1:CRn:CRm:op2` in 16 bits, op0 highest.
#[derive(Copy, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SysEnc(pub u16);

impl SysEnc {
    /// Packs the five fields; excess high bits are ignored.
    pub const fn new(op0: u32, op1: u32, crn: u32, crm: u32, op2: u32) -> SysEnc {
        SysEnc(((op0 & 3) << 14 | (op1 & 7) << 11 | (crn & 15) << 7 | (crm & 15) << 3 | (op2 & 7)) as u16)
    }
    /// op0.
    pub const fn op0(self) -> u8 {
        (self.0 >> 14) as u8
    }
    /// op1.
    pub const fn op1(self) -> u8 {
        (self.0 >> 11) as u8 & 7
    }
    /// CRn.
    pub const fn crn(self) -> u8 {
        (self.0 >> 7) as u8 & 15
    }
    /// CRm.
    pub const fn crm(self) -> u8 {
        (self.0 >> 3) as u8 & 15
    }
    /// op2.
    pub const fn op2(self) -> u8 {
        self.0 as u8 & 7
    }
}

impl std::fmt::Debug for SysEnc {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "S{}_{}_C{}_C{}_{}", self.op0(), self.op1(), self.crn(), self.crm(), self.op2())
    }
}
