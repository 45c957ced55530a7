//! GICv3: distributor and redistributors (Arm IHI 0069, GIC architecture v3, one Security state: `GICD_CTLR.DS` = 1).
//!
//! The CPU interface (`ICC_*`) lives with the processing element. This part holds the state of each interrupt and
//! publishes, for each processing element and interrupt group, the best one that is pending: highest priority first,
//! lowest INTID among equals, active ones left out. The processing element compares that with its running priority
//! and mask, and takes an interrupt with [`Gic::acknowledge`].
//!
//! Locks: one for all SPIs, then one per processing element, taken in that order and never the other way round. An
//! offer is published under the lock of its processing element, so that the last one published is the newest.

mod bank;
mod distributor;
pub mod its;
mod lpi;
mod redistributor;
mod report;
mod spec;
#[cfg(test)]
mod tests;

use std::fmt;
use std::sync::{Arc, Mutex};

use bank::{Bank, NO_OFFER, Offer};
pub use its::Its;
pub use lpi::{FIRST_LPI, LPI_BITS, LPI_COUNT};

use lpi::Lpis;

use crate::bus::MmioDevice;
use crate::irq::{InterruptSink, IrqLine};
use crate::latency::Probe;
use crate::lock;
use crate::memory::{GuestMemory, SharedMemory};

/// INTID of the first SPI.
pub const FIRST_SPI: u32 = 32;
/// Most SPIs that the architecture numbers without the extended range: INTIDs 32 to 1019.
pub const MAX_SPIS: usize = 988;
/// Most processing elements: their redistributors fill the board's window.
pub const MAX_VCPUS: usize = 123;
/// Length of the distributor's window in bytes.
pub const DISTRIBUTOR_LEN: u64 = 0x1_0000;
/// Length of the window of one redistributor (RD_base and SGI_base) in bytes.
pub const REDISTRIBUTOR_LEN: u64 = 0x2_0000;
/// Implemented priority bits: priorities are multiples of 8, `ICC_CTLR_EL1.PRIbits` is this less one.
pub const PRIORITY_BITS: u32 = 5;

/// Where the GIC leaves what a processing element should look at next.
pub trait CpuInterfaceSink: Send + Sync {
    /// The best pending interrupt of `group` (0 or 1) for `vcpu` is now `best`: (priority, INTID), or none. It stands
    /// until the next call. Called under a lock of the GIC: store it, wake the vCPU, and do not call the GIC.
    fn publish(&self, vcpu: usize, group: usize, best: Option<(u8, u32)>);
}

/// The interrupt group of a software generated interrupt, by the register that it was asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SgiGroup {
    /// `ICC_SGI0R_EL1`.
    Group0,
    /// `ICC_SGI1R_EL1`.
    Group1,
}

/// A GIC that cannot be built.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum GicError {
    /// The number of processing elements is out of range.
    #[error("A GICv3 with {0} processing elements was asked for: it takes 1 to {MAX_VCPUS}")]
    Vcpus(usize),
    /// The number of SPIs is out of range.
    #[error("A GICv3 with {0} SPIs was asked for: it takes 1 to {MAX_SPIS}")]
    Spis(usize),
}

/// The affinity of processing element `vcpu` as `MPIDR_EL1` and `GICD_IROUTER` have it: clusters of 16, so that
/// `ICC_SGI1R_EL1.RS` is always 0.
pub const fn affinity(vcpu: usize) -> u64 {
    ((vcpu as u64 >> 4) << 8) | (vcpu as u64 & 0xf)
}

/// The inverse of [`affinity`]: `value` is Aff3 in bits 39:32, Aff2, Aff1, Aff0 in bits 23:0.
fn vcpu_of(value: u64, vcpus: usize) -> Option<usize> {
    let index = (((value >> 8) & 0xff) << 4 | (value & 0xff)) as usize;
    (index < vcpus && affinity(index) == value & spec::IROUTER_AFFINITY).then_some(index)
}

/// What stands in the distributor.
struct Spis {
    /// `GICD_CTLR.EnableGrp0` and `.EnableGrp1` in bits 0 and 1.
    groups: u32,
    /// Bank `i` holds INTIDs `32 + 32 * i` onwards.
    banks: Vec<Bank>,
    /// `GICD_IROUTER<n>`, from n = 32.
    routes: Vec<u64>,
    /// For each vCPU and bank the SPIs that are routed to it; follows from `routes` and `asleep`.
    routed: Vec<Vec<u32>>,
    /// `GICR_WAKER.ProcessorSleep` of each vCPU: who sleeps gets no 1-of-N interrupt.
    asleep: Vec<bool>,
}

/// What stands in one redistributor.
struct Pe {
    /// SGIs and PPIs.
    bank: Bank,
    lpis: Lpis,
    /// Copy of `Spis::groups`.
    groups: u32,
    /// The best SPI that is routed here, per group.
    spi_best: [Offer; 2],
    /// What the CPU interface knows.
    published: [Offer; 2],
}

impl Pe {
    fn new() -> Pe {
        Pe { bank: Bank::private(), lpis: Lpis::new(), groups: 0, spi_best: [NO_OFFER; 2], published: [NO_OFFER; 2] }
    }

    /// Tells the CPU interface what changed.
    fn publish(&mut self, sink: &dyn CpuInterfaceSink, vcpu: usize) {
        let mut best = self.spi_best;
        self.bank.best(u32::MAX, 0, &mut best);
        // With one Security state all LPIs are in group 1.
        best[1] = best[1].min(self.lpis.best());
        for (group, best) in best.into_iter().enumerate() {
            let offer = if self.groups >> group & 1 != 0 { best } else { NO_OFFER };
            if self.published[group] != offer {
                self.published[group] = offer;
                sink.publish(vcpu, group, offer.decode());
            }
        }
    }
}

/// The distributor and all redistributors of a machine.
pub struct Gic {
    sink: Arc<dyn CpuInterfaceSink>,
    /// Where the tables of LPIs are; none if there are no LPIs.
    memory: Option<SharedMemory>,
    spi_count: usize,
    spis: Mutex<Spis>,
    pes: Vec<Mutex<Pe>>,
    /// How long devices' interrupts take to be acknowledged.
    probe: Probe,
}

impl Gic {
    /// A GIC in its reset state for `vcpus` processing elements, with the SPIs of INTIDs 32 to 31 + `spis`.
    pub fn new(vcpus: usize, spis: usize, sink: Arc<dyn CpuInterfaceSink>) -> Result<Arc<Gic>, GicError> {
        Gic::build(vcpus, spis, sink, None)
    }

    /// The same with LPIs, whose tables are in `memory`.
    pub fn with_lpis(
        vcpus: usize,
        spis: usize,
        sink: Arc<dyn CpuInterfaceSink>,
        memory: SharedMemory,
    ) -> Result<Arc<Gic>, GicError> {
        Gic::build(vcpus, spis, sink, Some(memory))
    }

    fn build(
        vcpus: usize,
        spis: usize,
        sink: Arc<dyn CpuInterfaceSink>,
        memory: Option<SharedMemory>,
    ) -> Result<Arc<Gic>, GicError> {
        if !(1..=MAX_VCPUS).contains(&vcpus) {
            return Err(GicError::Vcpus(vcpus));
        }
        if !(1..=MAX_SPIS).contains(&spis) {
            return Err(GicError::Spis(spis));
        }
        let pes = (0..vcpus).map(|_| Mutex::new(Pe::new())).collect();
        Ok(Arc::new(Gic {
            sink,
            memory,
            spi_count: spis,
            spis: Mutex::new(Spis::new(vcpus, spis)),
            pes,
            probe: Probe::default(),
        }))
    }

    /// Number of processing elements.
    pub fn vcpus(&self) -> usize {
        self.pes.len()
    }

    /// Number of SPIs.
    pub fn spis(&self) -> usize {
        self.spi_count
    }

    /// The wire to SPI `spi` (0 is INTID 32).
    pub fn spi_line(self: &Arc<Self>, spi: u32) -> IrqLine {
        IrqLine::new(self.clone(), spi)
    }

    /// The register window of the distributor: [`DISTRIBUTOR_LEN`] bytes.
    pub fn distributor(self: &Arc<Self>) -> Arc<dyn MmioDevice> {
        Arc::new(distributor::Distributor(self.clone()))
    }

    /// The register windows of all redistributors: [`REDISTRIBUTOR_LEN`] bytes for each processing element.
    pub fn redistributors(self: &Arc<Self>) -> Arc<dyn MmioDevice> {
        Arc::new(redistributor::Redistributors(self.clone()))
    }

    /// `vcpu` takes interrupt `intid`: if it is still offered to `vcpu` it becomes active, loses its pending latch, and
    /// the next best is published. Otherwise nothing changes and the vCPU looks again at what is published.
    pub fn acknowledge(&self, vcpu: usize, intid: u32) -> bool {
        let Some(pe) = self.pes.get(vcpu) else { return false };
        if intid < FIRST_SPI {
            let mut pe = lock(pe);
            let groups = pe.groups;
            let taken = pe.bank.activate(1 << intid, groups);
            if taken {
                pe.publish(&*self.sink, vcpu);
            }
            return taken;
        }
        if intid >= FIRST_LPI {
            let mut pe = lock(pe);
            let taken = pe.groups & 0b10 != 0 && pe.lpis.acknowledge(intid);
            if taken {
                self.probe.acknowledged(intid);
                pe.publish(&*self.sink, vcpu);
            }
            return taken;
        }
        let Some((bank, bit)) = spi_place(intid) else { return false };
        let mut spis = lock(&self.spis);
        let groups = spis.groups;
        let routed = spis.routed[vcpu].get(bank).is_some_and(|r| r & bit != 0);
        let taken = routed && spis.banks.get_mut(bank).is_some_and(|b| b.activate(bit, groups));
        if taken {
            self.probe.acknowledged(intid);
            self.offer_changed(&spis, bank, bit);
        }
        taken
    }

    /// Changes the LPIs of `vcpu` and publishes what that means. Nothing without LPIs, or if there is no such vCPU.
    fn change_lpis<T>(&self, vcpu: usize, change: impl FnOnce(&mut Lpis, &GuestMemory) -> T) -> Option<T> {
        let (memory, pe) = (self.memory.as_ref()?, self.pes.get(vcpu)?);
        let mut pe = lock(pe);
        let changed = change(&mut pe.lpis, memory);
        pe.publish(&*self.sink, vcpu);
        Some(changed)
    }

    /// `vcpu` is done with interrupt `intid`: it is no longer active. LPIs never are.
    pub fn deactivate(&self, vcpu: usize, intid: u32) {
        if intid < FIRST_SPI {
            if let Some(pe) = self.pes.get(vcpu) {
                let mut pe = lock(pe);
                pe.bank.active &= !(1 << intid);
                pe.publish(&*self.sink, vcpu);
            }
        } else if let Some((bank, bit)) = spi_place(intid) {
            self.change_spi(bank, bit, |b| b.active &= !bit);
        }
    }

    /// `vcpu` writes `sgi1r` (the form of `ICC_SGI1R_EL1`) to the SGI register of `group`. A target takes the interrupt
    /// if it has it configured in that group.
    pub fn send_sgi(&self, vcpu: usize, sgi1r: u64, group: SgiGroup) {
        let bit = 1u32 << (sgi1r >> 24 & 0xf);
        if sgi1r >> 40 & 1 != 0 {
            (0..self.pes.len()).filter(|&target| target != vcpu).for_each(|target| self.pend_sgi(target, bit, group));
            return;
        }
        // Aff0 values stand in ranges of 16, chosen by RS; ours are all in the first.
        let cluster = (sgi1r >> 48 & 0xff) << 32 | (sgi1r >> 32 & 0xff) << 16 | (sgi1r >> 16 & 0xff) << 8;
        if sgi1r >> 44 & 0xf != 0 {
            return;
        }
        let mut list = sgi1r & 0xffff;
        while list != 0 {
            let aff0 = u64::from(list.trailing_zeros());
            list &= list - 1;
            if let Some(target) = vcpu_of(cluster | aff0, self.pes.len()) {
                self.pend_sgi(target, bit, group);
            }
        }
    }

    fn pend_sgi(&self, target: usize, bit: u32, group: SgiGroup) {
        let mut pe = lock(&self.pes[target]);
        if (pe.bank.group1 & bit != 0) == (group == SgiGroup::Group1) {
            pe.bank.latch |= bit;
            pe.publish(&*self.sink, target);
        }
    }

    /// Drives private interrupt `intid` (16 to 31) of `vcpu` to `level`.
    pub fn set_ppi(&self, vcpu: usize, intid: u32, level: bool) {
        let (Some(pe), 16..=31) = (self.pes.get(vcpu), intid) else { return };
        let mut pe = lock(pe);
        if pe.bank.drive(1 << intid, level) {
            pe.publish(&*self.sink, vcpu);
        }
    }

    /// Drives SPI `spi` (0 is INTID 32) to `level`.
    pub fn set_spi(&self, spi: u32, level: bool) {
        let Some((bank, bit)) = spi.checked_add(FIRST_SPI).and_then(spi_place) else { return };
        if level {
            self.probe.raised(spi + FIRST_SPI);
        }
        let mut spis = lock(&self.spis);
        if spis.banks.get_mut(bank).is_some_and(|b| b.drive(bit, level)) {
            self.offer_changed(&spis, bank, bit);
        }
    }

    /// Changes one bank of SPIs, then publishes what that means to those that the SPIs `bits` are routed to.
    fn change_spi(&self, bank: usize, bits: u32, change: impl FnOnce(&mut Bank)) {
        let mut spis = lock(&self.spis);
        if let Some(b) = spis.banks.get_mut(bank) {
            change(b);
            self.offer_changed(&spis, bank, bits);
        }
    }

    /// Publishes anew to each vCPU that one of the SPIs `bits` of `bank` is routed to.
    fn offer_changed(&self, spis: &Spis, bank: usize, bits: u32) {
        for (vcpu, routed) in spis.routed.iter().enumerate() {
            if routed.get(bank).is_some_and(|r| r & bits != 0) {
                self.offer_spis(spis, vcpu);
            }
        }
    }

    /// Publishes the best SPI of `vcpu`, and that the groups are enabled or not.
    fn offer_spis(&self, spis: &Spis, vcpu: usize) {
        let best = spis.best_of(vcpu);
        let mut pe = lock(&self.pes[vcpu]);
        if pe.spi_best != best || pe.groups != spis.groups {
            pe.spi_best = best;
            pe.groups = spis.groups;
            pe.publish(&*self.sink, vcpu);
        }
    }

    fn offer_spis_to_all(&self, spis: &Spis) {
        (0..self.pes.len()).for_each(|vcpu| self.offer_spis(spis, vcpu));
    }
}

impl Spis {
    fn new(vcpus: usize, count: usize) -> Spis {
        let banks = Bank::shared(count);
        let mut spis = Spis {
            groups: 0,
            routes: vec![0; count],
            routed: vec![vec![0; banks.len()]; vcpus],
            asleep: vec![true; vcpus],
            banks,
        };
        spis.route_all();
        spis
    }

    /// The best SPI of each group that is routed to `vcpu`.
    fn best_of(&self, vcpu: usize) -> [Offer; 2] {
        let mut best = [NO_OFFER; 2];
        let mut first = FIRST_SPI;
        for (bank, &routed) in self.banks.iter().zip(&self.routed[vcpu]) {
            bank.best(routed, first, &mut best);
            first += 32;
        }
        best
    }

    /// Sets `routed` for SPI `index` from its `GICD_IROUTER`.
    fn route(&mut self, index: usize) {
        let route = self.routes[index];
        let any = route & spec::IROUTER_IRM != 0;
        let target = vcpu_of(route & spec::IROUTER_AFFINITY, self.routed.len());
        let (bank, bit) = (index / 32, 1u32 << (index % 32));
        for (vcpu, routed) in self.routed.iter_mut().enumerate() {
            let here = if any { !self.asleep[vcpu] } else { target == Some(vcpu) };
            routed[bank] = if here { routed[bank] | bit } else { routed[bank] & !bit };
        }
    }

    fn route_all(&mut self) {
        (0..self.routes.len()).for_each(|index| self.route(index));
    }
}

/// Bank and bit of an SPI; none for INTIDs that are no SPIs.
fn spi_place(intid: u32) -> Option<(usize, u32)> {
    let index = intid.checked_sub(FIRST_SPI).filter(|&i| (i as usize) < MAX_SPIS)?;
    Some((index as usize / 32, 1 << (index % 32)))
}

impl InterruptSink for Gic {
    fn set_spi(&self, spi: u32, level: bool) {
        Gic::set_spi(self, spi, level);
    }
}

impl fmt::Debug for Gic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.report())
    }
}
