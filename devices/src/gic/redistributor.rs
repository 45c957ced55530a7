//! The register windows of the redistributors: RD_base and SGI_base of each processing element, one after the other.

use std::sync::Arc;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::lpi::SavedLpis;
use super::spec::{self, Place};
use super::{Bank, Gic, Pe, REDISTRIBUTOR_LEN, affinity};
use crate::bus::{AccessError, MmioDevice};
use crate::lock;
use crate::state::{self, StateError};

const NAME: &str = "gicv3-redistributors";
const VERSION: u64 = 1;

/// `GICR_*`.
pub(super) struct Redistributors(pub(super) Arc<Gic>);

#[derive(Serialize, Deserialize)]
struct Saved {
    bank: Bank,
    asleep: bool,
    propbaser: u64,
    pendbaser: u64,
    /// Absent in states saved before there were LPIs.
    #[serde(default)]
    lpis: SavedLpis,
}

/// Splits an offset into processing element and offset into its two frames.
fn split(offset: u64) -> (usize, u64) {
    ((offset / REDISTRIBUTOR_LEN) as usize, offset % REDISTRIBUTOR_LEN)
}

impl Gic {
    fn read_redistributor(&self, vcpu: usize, offset: u64, size: u8) -> u64 {
        let Some(pe) = self.pes.get(vcpu) else { return 0 };
        let Some(sgi_offset) = offset.checked_sub(spec::SGI_BASE) else {
            return self.read_rd_base(vcpu, offset, size);
        };
        let pe = lock(pe);
        match spec::place(sgi_offset, size) {
            Place::Bits(register, 0) => pe.bank.read_bits(register).into(),
            Place::Priority(intid @ 0..32) => pe.bank.read_priorities(intid, size),
            Place::Config(intid @ 0..32) => pe.bank.read_config(intid).into(),
            _ => 0,
        }
    }

    fn read_rd_base(&self, vcpu: usize, offset: u64, size: u8) -> u64 {
        let pe = |field: fn(&Pe) -> u64| field(&lock(&self.pes[vcpu]));
        if !offset.is_multiple_of(u64::from(size)) {
            return 0;
        }
        match (offset & !4, offset, size) {
            (spec::GICR_TYPER, _, 4 | 8) => {
                let last = if vcpu + 1 == self.pes.len() { spec::TYPER_LAST } else { 0 };
                // Affinity_Value packs Aff3 to Aff0 in 32 bits; our Aff3 is 0.
                let lpis = if self.memory.is_some() { spec::TYPER_PLPIS } else { 0 };
                let typer = affinity(vcpu) << 32 | (vcpu as u64) << 8 | last | lpis;
                spec::read_part(typer, offset, size)
            }
            (spec::GICR_PROPBASER, _, 4 | 8) => spec::read_part(pe(|p| p.lpis.propbaser), offset, size),
            (spec::GICR_PENDBASER, _, 4 | 8) => {
                spec::read_part(pe(|p| p.lpis.pendbaser & spec::PENDBASER_FIELDS), offset, size)
            }
            (_, spec::GICR_CTLR, 4) if self.memory.is_none() => 0,
            (_, spec::GICR_CTLR, 4) => {
                // EnableLPIs is bit 0.
                u64::from(spec::CTLR_CES) | pe(|p| p.lpis.enabled().into())
            }
            (_, spec::GICR_IIDR, 4) => spec::IIDR.into(),
            (_, spec::GICR_WAKER, 4) => match lock(&self.spis).asleep[vcpu] {
                true => (spec::WAKER_PROCESSOR_SLEEP | spec::WAKER_CHILDREN_ASLEEP).into(),
                false => 0,
            },
            (_, spec::ID_BASE.., 4) => spec::id_register(offset).unwrap_or(0).into(),
            _ => 0,
        }
    }

    fn write_redistributor(&self, vcpu: usize, offset: u64, size: u8, value: u64) {
        let Some(pe) = self.pes.get(vcpu) else { return };
        let Some(sgi_offset) = offset.checked_sub(spec::SGI_BASE) else {
            return self.write_rd_base(vcpu, offset, size, value);
        };
        let mut pe = lock(pe);
        match spec::place(sgi_offset, size) {
            Place::Bits(register, 0) => pe.bank.write_bits(register, value as u32),
            Place::Priority(intid @ 0..32) => pe.bank.write_priorities(intid, size, value),
            // ICFGR0 is read-only: SGIs are edge triggered.
            Place::Config(intid @ 16..32) => pe.bank.write_config(intid, value as u32),
            _ => return,
        }
        pe.publish(&*self.sink, vcpu);
    }

    fn write_rd_base(&self, vcpu: usize, offset: u64, size: u8, value: u64) {
        if !offset.is_multiple_of(u64::from(size)) {
            return;
        }
        match (offset & !4, offset, size) {
            // Both are fixed while LPIs are enabled.
            (spec::GICR_PROPBASER | spec::GICR_PENDBASER, _, 4 | 8) => {
                let mut pe = lock(&self.pes[vcpu]);
                let lpis = &mut pe.lpis;
                if lpis.enabled() {
                    return;
                }
                if offset & !4 == spec::GICR_PROPBASER {
                    lpis.propbaser = spec::write_part(lpis.propbaser, offset, size, value) & spec::PROPBASER_FIELDS;
                } else {
                    let fields = spec::PENDBASER_FIELDS | spec::PENDBASER_PTZ;
                    lpis.pendbaser = spec::write_part(lpis.pendbaser, offset, size, value) & fields;
                }
            }
            (_, spec::GICR_CTLR, 4) => {
                let enable = value as u32 & spec::CTLR_ENABLE_LPIS != 0;
                self.change_lpis(vcpu, |lpis, memory| lpis.enable(enable, memory));
            }
            (_, spec::GICR_WAKER, 4) => {
                let mut spis = lock(&self.spis);
                let asleep = value as u32 & spec::WAKER_PROCESSOR_SLEEP != 0;
                if spis.asleep[vcpu] != asleep {
                    spis.asleep[vcpu] = asleep;
                    spis.route_all();
                    self.offer_spis(&spis, vcpu);
                }
            }
            _ => {}
        }
    }
}

impl MmioDevice for Redistributors {
    fn name(&self) -> &str {
        NAME
    }

    fn read(&self, offset: u64, size: u8) -> Result<u64, AccessError> {
        let (vcpu, offset) = split(offset);
        Ok(self.0.read_redistributor(vcpu, offset, size))
    }

    fn write(&self, offset: u64, size: u8, value: u64) -> Result<(), AccessError> {
        let (vcpu, offset) = split(offset);
        self.0.write_redistributor(vcpu, offset, size, value);
        Ok(())
    }

    fn reset(&self) {
        let mut spis = lock(&self.0.spis);
        spis.asleep.fill(true);
        spis.route_all();
        for (vcpu, pe) in self.0.pes.iter().enumerate() {
            {
                let mut pe = lock(pe);
                pe.bank.reset(true);
                pe.lpis.reset();
                pe.publish(&*self.0.sink, vcpu);
            }
            self.0.offer_spis(&spis, vcpu);
        }
    }

    fn save(&self) -> Value {
        let spis = lock(&self.0.spis);
        let one = |(pe, &asleep): (&std::sync::Mutex<Pe>, &bool)| {
            let pe = lock(pe);
            Saved {
                bank: pe.bank.clone(),
                asleep,
                propbaser: pe.lpis.propbaser,
                pendbaser: pe.lpis.pendbaser,
                lpis: pe.lpis.save(),
            }
        };
        state::pack(VERSION, &self.0.pes.iter().zip(&spis.asleep).map(one).collect::<Vec<_>>())
    }

    fn load(&self, value: &Value) -> Result<(), StateError> {
        let saved: Vec<Saved> = state::unpack(NAME, VERSION, value)?;
        let pes = &self.0.pes;
        if saved.len() != pes.len() {
            let reason = format!("serves {} vCPUs, {} were saved", pes.len(), saved.len());
            return Err(StateError::machine(NAME, reason));
        }
        let no_lpis = SavedLpis::default();
        let mut spis = lock(&self.0.spis);
        spis.asleep = saved.iter().map(|s| s.asleep).collect();
        spis.route_all();
        for (vcpu, (pe, saved)) in pes.iter().zip(&saved).enumerate() {
            {
                let mut pe = lock(pe);
                pe.bank.restore(&saved.bank, true);
                pe.lpis.propbaser = saved.propbaser & spec::PROPBASER_FIELDS;
                pe.lpis.pendbaser = saved.pendbaser & (spec::PENDBASER_FIELDS | spec::PENDBASER_PTZ);
                pe.lpis.restore(if self.0.memory.is_some() { &saved.lpis } else { &no_lpis });
                pe.publish(&*self.0.sink, vcpu);
            }
            self.0.offer_spis(&spis, vcpu);
        }
        Ok(())
    }
}
