//! Named cases of the architecture; random ones in `model`, threads in `stress`.

mod model;
mod stress;

use std::sync::Mutex;

use super::*;

const CTLR: u64 = 0;
const IGROUPR: u64 = 0x80;
const ISENABLER: u64 = 0x100;
const ICENABLER: u64 = 0x180;
const ISPENDR: u64 = 0x200;
const ICPENDR: u64 = 0x280;
const ISACTIVER: u64 = 0x300;
const ICACTIVER: u64 = 0x380;
const IPRIORITYR: u64 = 0x400;
const ICFGR: u64 = 0xc00;
const IROUTER: u64 = 0x6000;

/// (priority, INTID) or none, for each vCPU and group.
type Published = Vec<[Option<(u8, u32)>; 2]>;

/// Remembers what is published.
#[derive(Default)]
struct Sink(Mutex<Published>);

impl CpuInterfaceSink for Sink {
    fn publish(&self, vcpu: usize, group: usize, best: Option<(u8, u32)>) {
        let mut all = self.0.lock().unwrap();
        let len = all.len().max(vcpu + 1);
        all.resize(len, [None; 2]);
        assert_ne!(all[vcpu][group], best, "what is known already is not published again");
        all[vcpu][group] = best;
    }
}

/// A GIC with its two register windows.
struct Rig {
    gic: Arc<Gic>,
    sink: Arc<Sink>,
    d: Arc<dyn MmioDevice>,
    r: Arc<dyn MmioDevice>,
}

impl Rig {
    fn new(vcpus: usize, spis: usize) -> Rig {
        let sink = Arc::new(Sink(Mutex::new(vec![[None; 2]; vcpus])));
        let gic = Gic::new(vcpus, spis, sink.clone()).unwrap();
        Rig { d: gic.distributor(), r: gic.redistributors(), gic, sink }
    }

    /// As Linux sets it up: all in group 1, priority 0xa0, SPIs disabled and routed to vCPU 0.
    fn linux(vcpus: usize, spis: usize) -> Rig {
        let rig = Rig::new(vcpus, spis);
        for bank in 1..=spis.div_ceil(32) as u64 {
            rig.wd(IGROUPR + 4 * bank, !0);
            (0..8).for_each(|i| rig.wd(IPRIORITYR + 32 * bank + 4 * i, 0xa0a0_a0a0));
        }
        rig.wd(CTLR, 0b11);
        for vcpu in 0..vcpus {
            rig.r.write(vcpu as u64 * REDISTRIBUTOR_LEN + spec::GICR_WAKER, 4, 0).unwrap();
            rig.wr(vcpu, IGROUPR, !0);
            rig.wr(vcpu, ISENABLER, 0xffff);
            (0..8).for_each(|i| rig.wr(vcpu, IPRIORITYR + 4 * i, 0xa0a0_a0a0));
        }
        rig
    }

    fn rd(&self, offset: u64) -> u32 {
        self.d.read(offset, 4).unwrap() as u32
    }
    fn wd(&self, offset: u64, value: u32) {
        self.d.write(offset, 4, value.into()).unwrap();
    }
    /// Reads a register of SGI_base.
    fn rr(&self, vcpu: usize, offset: u64) -> u32 {
        self.r.read(vcpu as u64 * REDISTRIBUTOR_LEN + spec::SGI_BASE + offset, 4).unwrap() as u32
    }
    /// Writes a register of SGI_base.
    fn wr(&self, vcpu: usize, offset: u64, value: u32) {
        self.r.write(vcpu as u64 * REDISTRIBUTOR_LEN + spec::SGI_BASE + offset, 4, value.into()).unwrap();
    }
    fn published(&self) -> Published {
        self.sink.0.lock().unwrap().clone()
    }
    /// The INTID that is offered to `vcpu` in group 1.
    fn offered(&self, vcpu: usize) -> Option<u32> {
        self.published()[vcpu][1].map(|(_, intid)| intid)
    }
    fn enable_spi(&self, spi: u64) {
        self.wd(ISENABLER + 4 * (1 + spi / 32), 1 << (spi % 32));
    }
}

#[test]
fn identification_is_a_gicv3_with_one_security_state() {
    let rig = Rig::new(3, 224);
    assert_eq!(rig.rd(CTLR), 0x50, "ARE and DS are fixed, groups disabled, RWP clear");
    assert_eq!(rig.rd(4) & 0x1f, 7, "224 SPIs and the 32 private ones are 8 banks");
    assert_eq!(rig.rd(4) >> 10 & 1, 0, "no SecurityExtn");
    assert_eq!(rig.rd(4) >> 17 & 1, 0, "no LPIs");
    assert_eq!(rig.rd(4) >> 19 & 0x1f, 9, "INTIDs of 10 bits");
    assert_eq!(rig.rd(0xffe8) >> 4 & 0xf, 3);
    assert_eq!(rig.r.read(REDISTRIBUTOR_LEN + 0xffe8, 4).unwrap() >> 4 & 0xf, 3);
    let typer = |vcpu: u64| rig.r.read(vcpu * REDISTRIBUTOR_LEN + 8, 8).unwrap();
    assert_eq!(typer(0), 0);
    assert_eq!(typer(1), 1 << 32 | 1 << 8);
    assert_eq!(typer(2), 2 << 32 | 2 << 8 | spec::TYPER_LAST);
    assert_eq!(rig.r.read(REDISTRIBUTOR_LEN + 0xc, 4), Ok(1), "upper half of TYPER");
    rig.wd(CTLR, !0);
    assert_eq!(rig.rd(CTLR), 0x53);
}

#[test]
fn sizes_out_of_range_are_refused() {
    let sink: Arc<Sink> = Arc::default();
    assert_eq!(Gic::new(0, 32, sink.clone()).err(), Some(GicError::Vcpus(0)));
    assert_eq!(Gic::new(124, 32, sink.clone()).err(), Some(GicError::Vcpus(124)));
    assert_eq!(Gic::new(1, 0, sink.clone()).err(), Some(GicError::Spis(0)));
    assert_eq!(Gic::new(1, 989, sink.clone()).err(), Some(GicError::Spis(989)));
    let rig = Rig::new(123, 988);
    assert_eq!(rig.rd(4) & 0x1f, 31);
    // INTIDs 1020 to 1023 do not exist.
    rig.wd(ISENABLER + 4 * 31, !0);
    assert_eq!(rig.rd(ISENABLER + 4 * 31), 0x0fff_ffff);
}

#[test]
fn affinities_are_clusters_of_sixteen() {
    assert_eq!(affinity(0), 0);
    assert_eq!(affinity(15), 15);
    assert_eq!(affinity(16), 0x100);
    assert_eq!(affinity(122), 0x70a);
    (0..123).for_each(|v| assert_eq!(vcpu_of(affinity(v), 123), Some(v)));
    assert_eq!(vcpu_of(0x10, 123), None, "Aff0 of 16 is nobody's");
    assert_eq!(vcpu_of(1 << 16, 123), None);
    assert_eq!(vcpu_of(1 << 32, 123), None);
}

#[test]
fn a_level_interrupt_stays_until_the_line_falls() {
    let rig = Rig::linux(1, 64);
    rig.enable_spi(33);
    rig.gic.set_spi(33, true);
    assert_eq!(rig.published()[0], [None, Some((0xa0, 65))]);
    assert!(rig.gic.acknowledge(0, 65));
    assert_eq!(rig.offered(0), None, "active and pending is not offered");
    assert_eq!(rig.rd(ISPENDR + 8), 2);
    assert_eq!(rig.rd(ISACTIVER + 8), 2);
    rig.gic.deactivate(0, 65);
    assert_eq!(rig.offered(0), Some(65), "the line is still high");
    assert!(rig.gic.acknowledge(0, 65));
    rig.gic.set_spi(33, false);
    rig.gic.deactivate(0, 65);
    assert_eq!(rig.offered(0), None);
    assert!(!rig.gic.acknowledge(0, 65));
    // A line that falls before it is acknowledged takes the offer back.
    rig.gic.set_spi(33, true);
    rig.gic.set_spi(33, false);
    assert_eq!(rig.offered(0), None);
}

#[test]
fn an_edge_is_latched_until_it_is_acknowledged() {
    let rig = Rig::linux(1, 32);
    rig.wd(ICFGR + 8, 2 << 10); // INTID 37
    rig.enable_spi(5);
    rig.gic.spi_line(5).pulse();
    assert_eq!(rig.offered(0), Some(37));
    assert!(rig.gic.acknowledge(0, 37));
    assert_eq!(rig.rd(ISPENDR + 4), 0);
    rig.gic.spi_line(5).pulse();
    assert_eq!(rig.rd(ISPENDR + 4), 1 << 5, "pending again while active");
    assert_eq!(rig.offered(0), None);
    rig.gic.deactivate(0, 37);
    assert_eq!(rig.offered(0), Some(37));
    rig.wd(ICPENDR + 4, 1 << 5);
    assert_eq!(rig.offered(0), None);
    // A line that stays high is one edge.
    rig.gic.set_spi(5, true);
    rig.gic.set_spi(5, true);
    assert!(rig.gic.acknowledge(0, 37));
    rig.gic.deactivate(0, 37);
    assert_eq!(rig.offered(0), None);
}

#[test]
fn software_makes_interrupts_pending_and_active() {
    let rig = Rig::linux(1, 32);
    rig.enable_spi(0);
    rig.wd(ISPENDR + 4, 1);
    assert_eq!(rig.offered(0), Some(32), "a level interrupt, by ISPENDR");
    assert!(rig.gic.acknowledge(0, 32));
    rig.gic.deactivate(0, 32);
    assert_eq!(rig.offered(0), None, "acknowledging cleared what ISPENDR set");
    rig.wd(ISACTIVER + 4, 1);
    rig.wd(ISPENDR + 4, 1);
    assert_eq!(rig.offered(0), None);
    rig.wd(ICACTIVER + 4, 1);
    assert_eq!(rig.offered(0), Some(32));
    rig.wd(ICENABLER + 4, 1);
    assert_eq!(rig.offered(0), None);
    assert!(!rig.gic.acknowledge(0, 32));
    assert_eq!(rig.rd(ISPENDR + 4), 1, "disabled ones stay pending");
}

#[test]
fn the_highest_priority_wins_then_the_lowest_intid() {
    let rig = Rig::linux(1, 96);
    for spi in [3, 40, 41, 80] {
        rig.enable_spi(spi);
        rig.gic.set_spi(spi as u32, true);
    }
    assert_eq!(rig.offered(0), Some(35));
    rig.d.write(IPRIORITYR + 32 + 80, 1, 0x57).unwrap();
    assert_eq!(rig.published()[0][1], Some((0x50, 112)), "five bits of priority");
    rig.d.write(IPRIORITYR + 32 + 41, 1, 0x50).unwrap();
    assert_eq!(rig.offered(0), Some(73));
    rig.gic.set_ppi(0, 27, true);
    rig.wr(0, ISENABLER, 1 << 27);
    rig.r.write(spec::SGI_BASE + IPRIORITYR + 27, 1, 0x50).unwrap();
    assert_eq!(rig.offered(0), Some(27), "private and shared ones compete");
    assert!(rig.gic.acknowledge(0, 27));
    assert_eq!(rig.offered(0), Some(73));
}

#[test]
fn groups_are_offered_apart_and_only_when_enabled() {
    let rig = Rig::linux(1, 32);
    rig.wd(IGROUPR + 4, !2); // SPI 1 in group 0
    [1, 2].iter().for_each(|&s| rig.enable_spi(s));
    rig.gic.set_spi(1, true);
    rig.gic.set_spi(2, true);
    assert_eq!(rig.published()[0], [Some((0xa0, 33)), Some((0xa0, 34))]);
    rig.wd(CTLR, 0b10);
    assert_eq!(rig.published()[0], [None, Some((0xa0, 34))]);
    assert!(!rig.gic.acknowledge(0, 33));
    rig.wd(CTLR, 0);
    assert_eq!(rig.published()[0], [None, None]);
}

#[test]
fn spis_go_where_irouter_says() {
    let rig = Rig::linux(18, 32);
    rig.enable_spi(9);
    rig.gic.set_spi(9, true);
    assert_eq!(rig.offered(0), Some(41));
    let router = IROUTER + 8 * 41;
    rig.d.write(router, 8, 0x101).unwrap();
    assert_eq!((rig.offered(0), rig.offered(17)), (None, Some(41)));
    assert!(!rig.gic.acknowledge(0, 41));
    rig.wd(router, 0x2); // the low half alone
    assert_eq!((rig.offered(17), rig.offered(2)), (None, Some(41)));
    rig.d.write(router, 8, 0x700).unwrap();
    assert!(rig.published().iter().all(|p| p[1].is_none()), "nobody has that affinity");
    assert_eq!(rig.d.read(router, 8), Ok(0x700));
    rig.d.write(router, 8, u64::MAX).unwrap();
    assert_eq!(rig.d.read(router, 8), Ok(0xff_80ff_ffff), "reserved bits");
}

#[test]
fn one_of_n_is_offered_to_all_who_are_awake_and_taken_by_one() {
    let rig = Rig::linux(3, 32);
    rig.enable_spi(0);
    rig.d.write(IROUTER + 8 * 32, 8, spec::IROUTER_IRM).unwrap();
    rig.r.write(REDISTRIBUTOR_LEN + spec::GICR_WAKER, 4, 2).unwrap();
    assert_eq!(rig.r.read(REDISTRIBUTOR_LEN + spec::GICR_WAKER, 4), Ok(6));
    rig.gic.set_spi(0, true);
    assert_eq!([0, 1, 2].map(|v| rig.offered(v)), [Some(32), None, Some(32)]);
    assert!(rig.gic.acknowledge(2, 32));
    assert!(!rig.gic.acknowledge(0, 32));
    assert_eq!([0, 1, 2].map(|v| rig.offered(v)), [None; 3]);
    rig.gic.deactivate(2, 32);
    rig.r.write(REDISTRIBUTOR_LEN + spec::GICR_WAKER, 4, 0).unwrap();
    assert_eq!([0, 1, 2].map(|v| rig.offered(v)), [Some(32); 3]);
}

#[test]
fn sgis_reach_their_targets() {
    let rig = Rig::linux(18, 32);
    let who = |intid: u32| (0..18).filter(|&v| rig.rr(v, ISPENDR) >> intid & 1 != 0).collect::<Vec<_>>();
    rig.gic.send_sgi(3, 5 << 24 | 0b1010, SgiGroup::Group1);
    assert_eq!(who(5), [1, 3]);
    assert_eq!(rig.offered(1), Some(5));
    rig.gic.send_sgi(0, 6 << 24 | 1 << 16 | 0b111, SgiGroup::Group1);
    assert_eq!(who(6), [16, 17], "cluster 1 has two");
    rig.gic.send_sgi(3, 7 << 24 | 1 << 40, SgiGroup::Group1);
    assert_eq!(who(7), (0..18).filter(|&v| v != 3).collect::<Vec<_>>(), "all but self");
    rig.gic.send_sgi(0, 8 << 24 | 1 << 32 | 1, SgiGroup::Group1);
    rig.gic.send_sgi(0, 8 << 24 | 1 << 48 | 1, SgiGroup::Group1);
    rig.gic.send_sgi(0, 8 << 24 | 1 << 44 | 1, SgiGroup::Group1);
    assert!(who(8).is_empty(), "no such Aff2, Aff3, range");
    rig.gic.send_sgi(0, 9 << 24 | 1, SgiGroup::Group0);
    assert!(who(9).is_empty(), "it is configured in group 1");
    rig.wr(0, IGROUPR, !(1 << 9));
    rig.gic.send_sgi(0, 9 << 24 | 1, SgiGroup::Group0);
    assert_eq!(who(9), [0]);
    assert!(rig.gic.acknowledge(1, 5));
    assert_eq!(who(5), [3]);
    // It can be sent again while it is active.
    rig.gic.send_sgi(0, 5 << 24 | 0b10, SgiGroup::Group1);
    assert_ne!(rig.offered(1), Some(5));
    rig.gic.deactivate(1, 5);
    assert_eq!(rig.offered(1), Some(5));
}

#[test]
fn messages_assert_spis() {
    let rig = Rig::linux(1, 32);
    rig.enable_spi(7);
    rig.wd(spec::GICD_SETSPI_NSR, 39);
    assert!(rig.gic.acknowledge(0, 39));
    rig.gic.deactivate(0, 39);
    assert_eq!(rig.offered(0), Some(39), "a level message stays until it is taken back");
    rig.d.write(spec::GICD_CLRSPI_NSR, 2, 39).unwrap();
    assert_eq!(rig.offered(0), None);
    rig.wd(ICFGR + 8, 2 << 14);
    rig.wd(spec::GICD_SETSPI_NSR, 39);
    assert!(rig.gic.acknowledge(0, 39));
    rig.gic.deactivate(0, 39);
    assert_eq!(rig.offered(0), None, "an edge message is used up");
    [5, 31, 64, 1020, 1023, 0xffff].iter().for_each(|&n| rig.wd(spec::GICD_SETSPI_NSR, n));
    assert_eq!(rig.offered(0), None);
}

#[test]
fn registers_that_are_reserved_or_fixed_ignore_writes() {
    let rig = Rig::new(1, 40);
    for offset in [IGROUPR, ISENABLER, ISPENDR, ISACTIVER, IPRIORITYR, ICFGR, ICFGR + 4, IROUTER, 0x800, 0xd04, 0xe08] {
        rig.wd(offset, !0);
        assert_eq!(rig.rd(offset), 0, "GICD offset {offset:#x}");
    }
    rig.wd(ISENABLER + 8, !0);
    assert_eq!(rig.rd(ISENABLER + 8), 0xff, "40 SPIs");
    rig.wd(IPRIORITYR + 32 + 40, !0);
    assert_eq!(rig.rd(IPRIORITYR + 32 + 40), 0);
    rig.wr(0, ICFGR, 0);
    assert_eq!(rig.rr(0, ICFGR), 0xaaaa_aaaa, "SGIs are edge triggered");
    rig.wr(0, ICFGR + 4, !0);
    assert_eq!(rig.rr(0, ICFGR + 4), 0xaaaa_aaaa, "PPIs can be either");
    for (offset, size) in [(ISENABLER + 4, 8), (ISENABLER + 4, 2), (ISENABLER + 5, 1), (ISENABLER + 6, 4), (CTLR, 1)] {
        rig.d.write(offset, size, u64::MAX).unwrap();
        assert_eq!(rig.d.read(offset, size), Ok(0), "{size} bytes at {offset:#x}");
    }
    assert_eq!(rig.rd(ISENABLER + 4), 0);
    assert_eq!(rig.rd(CTLR), 0x50);
}

#[test]
fn reset_forgets_all_but_the_wires() {
    let rig = Rig::linux(2, 32);
    rig.enable_spi(1);
    rig.gic.set_spi(1, true);
    rig.gic.send_sgi(0, 1 << 40 | 3 << 24, SgiGroup::Group1);
    assert_eq!([rig.offered(0), rig.offered(1)], [Some(33), Some(3)]);
    rig.d.reset();
    rig.r.reset();
    assert_eq!(rig.published(), [[None; 2]; 2]);
    assert_eq!(rig.rd(ISPENDR + 4), 2, "the line is still high");
    let fresh = Rig::new(2, 32);
    fresh.gic.set_spi(1, true);
    assert_eq!((rig.d.save(), rig.r.save()), (fresh.d.save(), fresh.r.save()));
}

#[test]
fn saved_state_of_another_machine_is_refused() {
    let rig = Rig::linux(2, 64);
    let other = Rig::new(2, 32);
    assert!(matches!(other.d.load(&rig.d.save()), Err(crate::StateError::Machine { .. })));
    other.r.load(&rig.r.save()).unwrap();
    let other = Rig::new(3, 64);
    assert!(matches!(other.r.load(&rig.r.save()), Err(crate::StateError::Machine { .. })));
    other.d.load(&rig.d.save()).unwrap();
    let mut broken = rig.d.save();
    broken["state"]["banks"][0]["priority"] = serde_json::json!([1, 2]);
    assert!(matches!(other.d.load(&broken), Err(crate::StateError::Malformed { .. })));
}

#[test]
fn the_report_names_what_is_going_on() {
    let rig = Rig::linux(2, 32);
    rig.enable_spi(1);
    rig.gic.set_spi(1, true);
    rig.gic.set_spi(2, true);
    let text = rig.gic.report();
    assert!(text.contains("vCPU 0: offered group 0: none, group 1: 33 (priority 0xa0)"), "{text}");
    assert!(text.contains("INTID 33: priority 0xa0 pending line-high group1 to affinity 0x0"), "{text}");
    assert!(text.contains("INTID 34: priority 0xa0 pending line-high DISABLED group1"), "{text}");
}
