//! The distributor's register window.

use std::sync::Arc;

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::spec::{self, Place};
use super::{Bank, FIRST_SPI, Gic, Spis, spi_place};
use crate::bus::{AccessError, MmioDevice};
use crate::lock;
use crate::state::{self, StateError};

const NAME: &str = "gicv3-distributor";
const VERSION: u64 = 1;

/// `GICD_*`.
pub(super) struct Distributor(pub(super) Arc<Gic>);

#[derive(Serialize, Deserialize)]
struct Saved {
    groups: u32,
    banks: Vec<Bank>,
    routes: Vec<u64>,
}

impl Gic {
    fn read_distributor(&self, offset: u64, size: u8) -> u64 {
        let spis = lock(&self.spis);
        let bank = |intid: usize| intid.checked_sub(32).and_then(|i| spis.banks.get(i / 32));
        match spec::place(offset, size) {
            // INTIDs below 32 live in the redistributors: their registers here are reserved.
            Place::Bits(register, index) => bank(32 * index).map_or(0, |b| b.read_bits(register).into()),
            Place::Priority(intid) => bank(intid).map_or(0, |b| b.read_priorities(intid % 32, size)),
            Place::Config(intid) => bank(intid).map_or(0, |b| b.read_config(intid % 32).into()),
            Place::Other => self.read_distributor_other(&spis, offset, size),
        }
    }

    fn read_distributor_other(&self, spis: &Spis, offset: u64, size: u8) -> u64 {
        match (offset, size) {
            (spec::GICD_CTLR, 4) => (spec::CTLR_FIXED | spis.groups).into(),
            (spec::GICD_TYPER, 4) => {
                let fixed = if self.memory.is_some() { spec::TYPER_LPIS } else { spec::TYPER_FIXED };
                u64::from(fixed) | self.spi_count.div_ceil(32) as u64
            }
            (spec::GICD_IIDR, 4) => spec::IIDR.into(),
            (spec::ID_BASE.., 4) if offset.is_multiple_of(4) => spec::id_register(offset).unwrap_or(0).into(),
            (spec::GICD_IROUTER..spec::GICD_IROUTER_END, 4 | 8) if offset.is_multiple_of(u64::from(size)) => {
                let index = (offset - spec::GICD_IROUTER) as usize / 8;
                spis.routes.get(index).map_or(0, |&route| spec::read_part(route, offset, size))
            }
            _ => 0,
        }
    }

    fn write_distributor(&self, offset: u64, size: u8, value: u64) {
        let shared = |intid: usize| intid.checked_sub(32).map(|i| i / 32);
        match spec::place(offset, size) {
            Place::Bits(register, index) => {
                if let Some(bank) = shared(32 * index) {
                    self.change_spi(bank, u32::MAX, |b| b.write_bits(register, value as u32));
                }
            }
            Place::Priority(intid) => {
                if let Some(bank) = shared(intid) {
                    self.change_spi(bank, u32::MAX, |b| b.write_priorities(intid % 32, size, value));
                }
            }
            Place::Config(intid) => {
                if let Some(bank) = shared(intid) {
                    self.change_spi(bank, u32::MAX, |b| b.write_config(intid % 32, value as u32));
                }
            }
            Place::Other => self.write_distributor_other(offset, size, value),
        }
    }

    fn write_distributor_other(&self, offset: u64, size: u8, value: u64) {
        match (offset, size) {
            (spec::GICD_CTLR, 4) => {
                let mut spis = lock(&self.spis);
                spis.groups = value as u32 & spec::CTLR_GROUPS;
                self.offer_spis_to_all(&spis);
            }
            (spec::GICD_SETSPI_NSR | spec::GICD_CLRSPI_NSR, 2 | 4) => {
                if let Some((bank, bit)) = spi_place(value as u32 & 0x1fff) {
                    self.change_spi(bank, bit, |b| b.message(bit, offset == spec::GICD_SETSPI_NSR));
                }
            }
            (spec::GICD_IROUTER..spec::GICD_IROUTER_END, 4 | 8) if offset.is_multiple_of(u64::from(size)) => {
                let index = (offset - spec::GICD_IROUTER) as usize / 8;
                self.write_route(index, |route| spec::write_part(route, offset, size, value));
            }
            _ => {}
        }
    }

    fn write_route(&self, index: usize, change: impl FnOnce(u64) -> u64) {
        let mut spis = lock(&self.spis);
        let Some(&route) = spis.routes.get(index) else { return };
        let (bank, bit) = (index / 32, 1 << (index % 32));
        let before: Vec<bool> = spis.routed.iter().map(|r| r[bank] & bit != 0).collect();
        spis.routes[index] = change(route) & (spec::IROUTER_IRM | spec::IROUTER_AFFINITY);
        spis.route(index);
        for (vcpu, before) in before.into_iter().enumerate() {
            if before != (spis.routed[vcpu][bank] & bit != 0) {
                self.offer_spis(&spis, vcpu);
            }
        }
    }
}

impl MmioDevice for Distributor {
    fn name(&self) -> &str {
        NAME
    }

    fn read(&self, offset: u64, size: u8) -> Result<u64, AccessError> {
        Ok(self.0.read_distributor(offset, size))
    }

    fn write(&self, offset: u64, size: u8, value: u64) -> Result<(), AccessError> {
        self.0.write_distributor(offset, size, value);
        Ok(())
    }

    fn counters(&self) -> Value {
        json!({ "interrupt_to_acknowledgement": self.0.probe.durations.report() })
    }

    fn reset(&self) {
        let mut spis = lock(&self.0.spis);
        spis.groups = 0;
        spis.routes.fill(0);
        spis.banks.iter_mut().for_each(|b| b.reset(false));
        spis.route_all();
        self.0.offer_spis_to_all(&spis);
    }

    fn save(&self) -> Value {
        let spis = lock(&self.0.spis);
        let saved = Saved { groups: spis.groups, banks: spis.banks.clone(), routes: spis.routes.clone() };
        state::pack(VERSION, &saved)
    }

    fn load(&self, value: &Value) -> Result<(), StateError> {
        let saved: Saved = state::unpack(NAME, VERSION, value)?;
        let mut spis = lock(&self.0.spis);
        if saved.banks.len() != spis.banks.len() || saved.routes.len() != spis.routes.len() {
            let reason = format!("has {} SPIs, {} were saved", spis.routes.len(), saved.routes.len());
            return Err(StateError::machine(NAME, reason));
        }
        spis.groups = saved.groups & spec::CTLR_GROUPS;
        spis.banks.iter_mut().zip(&saved.banks).for_each(|(bank, saved)| bank.restore(saved, false));
        spis.routes = saved.routes.iter().map(|r| r & (spec::IROUTER_IRM | spec::IROUTER_AFFINITY)).collect();
        spis.route_all();
        self.0.offer_spis_to_all(&spis);
        Ok(())
    }
}

const _: () = assert!(FIRST_SPI == 32, "The register maps count banks of 32 INTIDs");
