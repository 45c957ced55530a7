//! The interrupt controller's saved state, in the form of crate `devices`, from and to the kernel's registers.
//!
//! Plain data: compiled and tested on every host. What reaches the kernel is a [`Port`].

mod lpi_tables;

use serde::{Deserialize, Serialize};

pub use self::lpi_tables::LpiTables;

/// A register file: KVM's distributor, redistributor or wires, 32 bits at a time.
pub trait Port {
    /// Why an access failed.
    type Error;
    /// Reads a register.
    fn read(&self, register: Register) -> Result<u32, Self::Error>;
    /// Writes a register.
    fn write(&self, register: Register, value: u32) -> Result<(), Self::Error>;
}

/// A register by its place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Register {
    /// At an offset of the distributor.
    Distributor(u64),
    /// At an offset of a vCPU's redistributor.
    Redistributor(usize, u64),
    /// The wires of 32 interrupts from this INTID on, of a vCPU if they are private.
    Levels(usize, u32),
}

/// Offsets of the registers (Arm IHI 0069): the same in the distributor and in a redistributor's SGI frame.
mod offset {
    pub const GROUP: u64 = 0x080;
    pub const SET_ENABLE: u64 = 0x100;
    pub const CLEAR_ENABLE: u64 = 0x180;
    pub const SET_PENDING: u64 = 0x200;
    pub const CLEAR_PENDING: u64 = 0x280;
    pub const SET_ACTIVE: u64 = 0x300;
    pub const CLEAR_ACTIVE: u64 = 0x380;
    pub const PRIORITY: u64 = 0x400;
    pub const CONFIG: u64 = 0xc00;
    pub const ROUTER: u64 = 0x6000;
    pub const SGI_FRAME: u64 = 0x1_0000;
    pub const GICD_CTLR: u64 = 0;
    pub const GICR_CTLR: u64 = 0;
    pub const PROPBASER: u64 = 0x70;
    pub const PENDBASER: u64 = 0x78;
}

/// 32 interrupts, as `devices::gic` saves them.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Bank {
    exists: u32,
    group1: u32,
    enabled: u32,
    latch: u32,
    line: u32,
    message: u32,
    active: u32,
    edge: u32,
    priority: [u8; 32],
}

/// The distributor.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Distributor {
    /// `GICD_CTLR.EnableGrp0` and `.EnableGrp1`.
    groups: u32,
    banks: Vec<Bank>,
    routes: Vec<u64>,
}

/// LPIs of a vCPU, as the emulated controller saves them. The kernel saves them in guest RAM.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Lpis {
    enabled: bool,
    /// INTID and configuration byte of each that is pending.
    pending: Vec<(u32, u8)>,
}

/// The ITS, as the emulated one saves itself. Its tables are in guest RAM (`devices::gic::its::linked`).
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Its {
    /// `GITS_CTLR.Enabled`.
    pub enabled: bool,
    /// `GITS_CBASER`.
    pub cbaser: u64,
    /// `GITS_CWRITER`.
    pub cwriter: u64,
    /// `GITS_CREADR`.
    pub creadr: u64,
    /// `GITS_BASER0` (devices) and `GITS_BASER1` (collections).
    pub baser: [u64; 2],
}

/// The redistributor of one vCPU.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Redistributor {
    bank: Bank,
    asleep: bool,
    propbaser: u64,
    pendbaser: u64,
    lpis: Lpis,
}

/// The CPU interface of one vCPU, as crate `cpu` saves it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CpuInterface {
    /// ICC_PMR_EL1.
    pub pmr: u8,
    /// ICC_BPR0_EL1, ICC_BPR1_EL1.
    pub bpr: [u8; 2],
    /// ICC_AP0R0_EL1, ICC_AP1R0_EL1.
    pub active: [u32; 2],
    /// ICC_IGRPEN0_EL1, ICC_IGRPEN1_EL1.
    pub enabled: [bool; 2],
    /// The writable bits of ICC_CTLR_EL1.
    pub ctlr: u64,
}

/// Where a bank's registers are.
#[derive(Clone, Copy)]
struct Place {
    /// The vCPU whose redistributor has it; none: the distributor.
    vcpu: Option<usize>,
    first: u32,
}

impl Place {
    fn register(self, offset: u64) -> Register {
        match self.vcpu {
            Some(vcpu) => Register::Redistributor(vcpu, offset::SGI_FRAME + offset),
            None => Register::Distributor(offset),
        }
    }

    /// A register with a bit for each interrupt.
    fn bits(self, offset: u64) -> Register {
        self.register(offset + u64::from(self.first / 8))
    }

    fn priorities(self, word: u32) -> Register {
        self.register(offset::PRIORITY + u64::from(self.first + 4 * word))
    }

    fn config(self, half: u32) -> Register {
        self.register(offset::CONFIG + u64::from(self.first / 4 + 4 * half))
    }

    fn levels(self) -> Register {
        Register::Levels(self.vcpu.unwrap_or(0), self.first)
    }
}

impl Bank {
    fn read<P: Port>(port: &P, place: Place) -> Result<Bank, P::Error> {
        let mut bank = Bank {
            exists: u32::MAX,
            group1: port.read(place.bits(offset::GROUP))?,
            enabled: port.read(place.bits(offset::SET_ENABLE))?,
            latch: port.read(place.bits(offset::SET_PENDING))?,
            line: port.read(place.levels())?,
            active: port.read(place.bits(offset::SET_ACTIVE))?,
            ..Bank::default()
        };
        for half in 0..2 {
            let word = port.read(place.config(half))?;
            for n in 0..16 {
                bank.edge |= (word >> (2 * n + 1) & 1) << (16 * half + n);
            }
        }
        for (word, bytes) in (0u32..).zip(bank.priority.as_chunks_mut::<4>().0) {
            *bytes = port.read(place.priorities(word))?.to_le_bytes();
        }
        Ok(bank)
    }

    fn write<P: Port>(&self, port: &P, place: Place) -> Result<(), P::Error> {
        port.write(place.bits(offset::CLEAR_ENABLE), u32::MAX)?;
        port.write(place.bits(offset::GROUP), self.group1)?;
        for half in 0..2 {
            // SGIs are fixed.
            if place.vcpu.is_some() && half == 0 {
                continue;
            }
            let word = (0..16).fold(0, |word, n| word | (self.edge >> (16 * half + n) & 1) << (2 * n + 1));
            port.write(place.config(half), word)?;
        }
        for (word, bytes) in (0u32..).zip(self.priority.as_chunks::<4>().0) {
            port.write(place.priorities(word), u32::from_le_bytes(*bytes))?;
        }
        port.write(place.bits(offset::CLEAR_ACTIVE), u32::MAX)?;
        port.write(place.bits(offset::SET_ACTIVE), self.active)?;
        port.write(place.levels(), self.line)?;
        port.write(place.bits(offset::CLEAR_PENDING), u32::MAX)?;
        // The kernel has no messages to SPIs: what one asserts is pending.
        port.write(place.bits(offset::SET_PENDING), self.latch | self.message)?;
        port.write(place.bits(offset::SET_ENABLE), self.enabled)
    }

    /// As after reset; wires keep their level.
    fn after_reset(&self, private: bool) -> Bank {
        Bank { exists: u32::MAX, line: self.line, edge: if private { 0xffff } else { 0 }, ..Bank::default() }
    }
}

impl Distributor {
    /// Reads the state of `spis` SPIs.
    pub fn read<P: Port>(port: &P, spis: usize) -> Result<Distributor, P::Error> {
        let banks = (0..spis.div_ceil(32) as u32)
            .map(|index| Bank::read(port, Place { vcpu: None, first: 32 + 32 * index }))
            .collect::<Result<_, _>>()?;
        let route = |spi: usize| {
            let low = offset::ROUTER + 8 * (32 + spi as u64);
            let (low, high) = (port.read(Register::Distributor(low))?, port.read(Register::Distributor(low + 4))?);
            Ok(u64::from(low) | u64::from(high) << 32)
        };
        let routes = (0..spis).map(route).collect::<Result<_, _>>()?;
        Ok(Distributor { groups: port.read(Register::Distributor(offset::GICD_CTLR))? & 3, banks, routes })
    }

    /// Number of SPIs.
    pub fn spis(&self) -> usize {
        self.routes.len()
    }

    /// Writes the state; wires get their saved levels.
    pub fn write<P: Port>(&self, port: &P) -> Result<(), P::Error> {
        port.write(Register::Distributor(offset::GICD_CTLR), 0)?;
        for (spi, route) in (0u64..).zip(&self.routes) {
            let low = offset::ROUTER + 8 * (32 + spi);
            port.write(Register::Distributor(low), *route as u32)?;
            port.write(Register::Distributor(low + 4), (route >> 32) as u32)?;
        }
        for (index, bank) in (0u32..).zip(&self.banks) {
            bank.write(port, Place { vcpu: None, first: 32 + 32 * index })?;
        }
        port.write(Register::Distributor(offset::GICD_CTLR), self.groups)
    }

    /// A line for each SPI that something is going on with.
    pub fn report(&self) -> String {
        let mut text = String::new();
        for (index, bank) in self.banks.iter().enumerate() {
            let busy = bank.latch | bank.line | bank.active;
            for n in (0..32).filter(|n| busy >> n & 1 != 0) {
                let words = [
                    (bank.latch, " pending"),
                    (bank.line, " line-high"),
                    (bank.active, " active"),
                    (!bank.enabled, " DISABLED"),
                    (bank.edge, " edge"),
                ];
                text.push_str(&format!("    INTID {}:", 32 + 32 * index + n));
                words.iter().filter(|(bits, _)| bits >> n & 1 != 0).for_each(|(_, word)| text.push_str(word));
                text.push('\n');
            }
        }
        text
    }

    /// As after reset.
    pub fn after_reset(&self) -> Distributor {
        Distributor {
            groups: 0,
            banks: self.banks.iter().map(|bank| bank.after_reset(false)).collect(),
            routes: vec![0; self.routes.len()],
        }
    }
}

impl Redistributor {
    /// Reads the state of a vCPU's redistributor.
    pub fn read<P: Port>(port: &P, vcpu: usize) -> Result<Redistributor, P::Error> {
        let wide = |offset: u64| {
            let low = port.read(Register::Redistributor(vcpu, offset))?;
            Ok(u64::from(low) | u64::from(port.read(Register::Redistributor(vcpu, offset + 4))?) << 32)
        };
        Ok(Redistributor {
            bank: Bank::read(port, Place { vcpu: Some(vcpu), first: 0 })?,
            asleep: false,
            propbaser: wide(offset::PROPBASER)?,
            pendbaser: wide(offset::PENDBASER)?,
            lpis: Lpis {
                enabled: port.read(Register::Redistributor(vcpu, offset::GICR_CTLR))? & 1 != 0,
                pending: Vec::new(),
            },
        })
    }

    /// The tables of its LPIs, if they are on.
    pub fn lpi_tables(&self) -> Option<LpiTables> {
        self.lpis.enabled.then_some(LpiTables { propbaser: self.propbaser, pendbaser: self.pendbaser })
    }

    /// The LPIs that are pending.
    pub fn pending_lpis(&self) -> &[(u32, u8)] {
        &self.lpis.pending
    }

    /// Sets them.
    pub fn set_pending_lpis(&mut self, pending: Vec<(u32, u8)>) {
        self.lpis.pending = pending;
    }

    /// Writes the state.
    pub fn write<P: Port>(&self, port: &P, vcpu: usize) -> Result<(), P::Error> {
        let wide = |offset: u64, value: u64| {
            port.write(Register::Redistributor(vcpu, offset), value as u32)?;
            port.write(Register::Redistributor(vcpu, offset + 4), (value >> 32) as u32)
        };
        // The tables' addresses are fixed while LPIs are on.
        port.write(Register::Redistributor(vcpu, offset::GICR_CTLR), 0)?;
        wide(offset::PROPBASER, self.propbaser)?;
        wide(offset::PENDBASER, self.pendbaser)?;
        port.write(Register::Redistributor(vcpu, offset::GICR_CTLR), self.lpis.enabled.into())?;
        self.bank.write(port, Place { vcpu: Some(vcpu), first: 0 })
    }

    /// As after reset.
    pub fn after_reset(&self) -> Redistributor {
        Redistributor { bank: self.bank.after_reset(true), asleep: true, ..Redistributor::default() }
    }
}

#[cfg(test)]
mod tests;
