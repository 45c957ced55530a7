//! Random histories against a naive model: one record for each interrupt, and the rules of the architecture as it
//! words them, with no bit sets, no caches and no order of updates.

use proptest::prelude::*;

use crate::testing::more_cases;

use super::*;

const VCPUS: usize = 3;
/// Two full banks and a part of one.
const SPIS: usize = 70;

#[derive(Clone, Copy, Default)]
struct Irq {
    group1: bool,
    enabled: bool,
    latch: bool,
    line: bool,
    message: bool,
    active: bool,
    edge: bool,
    priority: u8,
    route: u64,
}

impl Irq {
    fn pending(&self) -> bool {
        self.latch || (!self.edge && (self.line || self.message))
    }
    fn drive(&mut self, level: bool) {
        if self.edge && level && !self.line {
            self.latch = true;
        }
        self.line = level;
    }
}

struct Model {
    groups: u32,
    private: [[Irq; 32]; VCPUS],
    shared: [Irq; SPIS],
    asleep: [bool; VCPUS],
}

impl Model {
    fn new() -> Model {
        let mut private = [[Irq::default(); 32]; VCPUS];
        private.iter_mut().flat_map(|p| &mut p[..16]).for_each(|irq| irq.edge = true);
        Model { groups: 0, private, shared: [Irq::default(); SPIS], asleep: [true; VCPUS] }
    }

    fn irq(&mut self, vcpu: usize, intid: usize) -> Option<&mut Irq> {
        if intid < 32 { self.private[vcpu].get_mut(intid) } else { self.shared.get_mut(intid - 32) }
    }

    fn may_take(&self, vcpu: usize, intid: usize) -> bool {
        let irq = if intid < 32 { &self.private[vcpu][intid] } else { &self.shared[intid - 32] };
        let any = irq.route >> 31 & 1 != 0;
        let here = intid < 32 || if any { !self.asleep[vcpu] } else { irq.route & 0xff_00ff_ffff == vcpu as u64 };
        let group_enabled = self.groups >> u32::from(irq.group1) & 1 != 0;
        here && group_enabled && irq.enabled && irq.pending() && !irq.active
    }

    fn best(&self, vcpu: usize, group: usize) -> Option<(u8, u32)> {
        (0..32 + SPIS)
            .filter(|&i| self.may_take(vcpu, i))
            .map(|i| (i, if i < 32 { self.private[vcpu][i] } else { self.shared[i - 32] }))
            .filter(|(_, irq)| irq.group1 == (group == 1))
            .map(|(i, irq)| (irq.priority, i as u32))
            .min()
    }

    /// Writes a 32-bit register of interrupt state, in the distributor (`vcpu` none) or a redistributor.
    fn write_bits(&mut self, vcpu: Option<usize>, offset: u64, value: u32) {
        let first = (offset as usize % 0x80) * 8;
        for bit in 0..32 {
            let (intid, set) = (first + bit, value >> bit & 1 != 0);
            // Private interrupts are in the redistributors only, shared ones in the distributor only.
            if vcpu.is_some() != (intid < 32) {
                continue;
            }
            let Some(irq) = self.irq(vcpu.unwrap_or(0), intid) else { continue };
            match (offset / 0x80, set) {
                (1, _) => irq.group1 = set,
                (2, true) => irq.enabled = true,
                (3, true) => irq.enabled = false,
                (4, true) => irq.latch = true,
                (5, true) => irq.latch = false,
                (6, true) => irq.active = true,
                (7, true) => irq.active = false,
                _ => {}
            }
        }
    }

    fn write_priority(&mut self, vcpu: Option<usize>, intid: usize, value: u8) {
        if vcpu.is_some() == (intid < 32)
            && let Some(irq) = self.irq(vcpu.unwrap_or(0), intid)
        {
            irq.priority = value & 0xf8;
        }
    }

    fn write_config(&mut self, vcpu: Option<usize>, offset: u64, value: u32) {
        for n in 0..16 {
            let intid = (offset - ICFGR) as usize * 4 + n;
            if vcpu.is_some() == (intid < 32)
                && intid >= 16
                && let Some(irq) = self.irq(vcpu.unwrap_or(0), intid)
            {
                irq.edge = value >> (2 * n + 1) & 1 != 0;
            }
        }
    }
}

#[derive(Debug, Clone)]
enum Op {
    Bits(Option<usize>, u64, u32),
    Priority(Option<usize>, usize, u8, u32),
    Config(Option<usize>, u64, u32),
    Groups(u32),
    Route(usize, u64),
    Message(u32, bool),
    Waker(usize, bool),
    Spi(u32, bool),
    Ppi(usize, u32, bool),
    Sgi(usize, u64, bool),
    /// Acknowledge what is published in a group, or any INTID.
    TakeOffered(usize, usize),
    Take(usize, u32),
    Deactivate(usize, u32),
    /// Save, and go on in another GIC.
    Move,
}

/// Register values that hit few, many or all interrupts.
fn bits() -> impl Strategy<Value = u32> {
    prop_oneof![any::<u32>(), (0u32..32).prop_map(|n| 1 << n), Just(!0), Just(0)]
}

fn target() -> impl Strategy<Value = Option<usize>> {
    prop_oneof![Just(None), (0..VCPUS).prop_map(Some)]
}

fn op() -> impl Strategy<Value = Op> {
    let intid = 0..(32 + SPIS as u32 + 4);
    prop_oneof![
        4 => (target(), 1u64..8, 0u64..5, bits()).prop_map(|(t, kind, n, v)| Op::Bits(t, kind * 0x80 + n * 4, v)),
        2 => (target(), 0usize..112, prop_oneof![Just(1u8), Just(4)], any::<u32>())
            .prop_map(|(t, n, size, v)| Op::Priority(t, if size == 4 { n & !3 } else { n }, size, v)),
        1 => (target(), 0u64..8, any::<u32>()).prop_map(|(t, n, v)| Op::Config(t, ICFGR + 4 * n, v)),
        1 => prop_oneof![3 => Just(3u32), 1 => 0u32..4].prop_map(Op::Groups),
        2 => (32usize..32 + SPIS, prop_oneof![3 => 0u64..4, 1 => Just(1 << 31), 1 => any::<u64>()])
            .prop_map(|(n, v)| Op::Route(n, v)),
        1 => (30u32..110, any::<bool>()).prop_map(|(n, l)| Op::Message(n, l)),
        1 => (0..VCPUS, any::<bool>()).prop_map(|(v, s)| Op::Waker(v, s)),
        4 => (0u32..SPIS as u32 + 2, any::<bool>()).prop_map(|(n, l)| Op::Spi(n, l)),
        3 => (0..VCPUS, 14u32..34, any::<bool>()).prop_map(|(v, n, l)| Op::Ppi(v, n, l)),
        3 => (0..VCPUS, 0u64..16, 0u64..16, any::<bool>(), any::<bool>())
            .prop_map(|(v, id, list, all, g1)| Op::Sgi(v, id << 24 | list | u64::from(all) << 40, g1)),
        4 => (0..VCPUS, 0usize..2).prop_map(|(v, g)| Op::TakeOffered(v, g)),
        1 => (0..VCPUS, intid.clone()).prop_map(|(v, n)| Op::Take(v, n)),
        3 => (0..VCPUS, intid).prop_map(|(v, n)| Op::Deactivate(v, n)),
        1 => Just(Op::Move),
    ]
}

/// Does `op` to both.
fn apply(rig: &mut Rig, model: &mut Model, op: &Op) {
    let write = |rig: &Rig, target: Option<usize>, offset, size, value: u32| match target {
        None => rig.d.write(offset, size, value.into()).unwrap(),
        Some(v) => {
            rig.r.write(v as u64 * REDISTRIBUTOR_LEN + spec::SGI_BASE + offset, size, value.into()).unwrap();
        }
    };
    match *op {
        Op::Bits(target, offset, value) => {
            write(rig, target, offset, 4, value);
            model.write_bits(target, offset, value);
        }
        Op::Priority(target, intid, size, value) => {
            write(rig, target, IPRIORITYR + intid as u64, size, value);
            (0..usize::from(size)).for_each(|i| model.write_priority(target, intid + i, (value >> (8 * i)) as u8));
        }
        Op::Config(target, offset, value) => {
            write(rig, target, offset, 4, value);
            model.write_config(target, offset, value);
        }
        Op::Groups(value) => {
            rig.wd(CTLR, value);
            model.groups = value;
        }
        Op::Route(intid, value) => {
            rig.d.write(IROUTER + 8 * intid as u64, 8, value).unwrap();
            model.shared[intid - 32].route = value & 0xff_80ff_ffff;
        }
        Op::Message(intid, level) => {
            rig.wd(if level { spec::GICD_SETSPI_NSR } else { spec::GICD_CLRSPI_NSR }, intid);
            if intid >= 32
                && let Some(irq) = model.irq(0, intid as usize)
            {
                if irq.edge { irq.latch = level } else { irq.message = level }
            }
        }
        Op::Waker(vcpu, asleep) => {
            rig.r.write(vcpu as u64 * REDISTRIBUTOR_LEN + spec::GICR_WAKER, 4, u64::from(asleep) << 1).unwrap();
            model.asleep[vcpu] = asleep;
        }
        Op::Spi(spi, level) => {
            rig.gic.set_spi(spi, level);
            model.irq(0, spi as usize + 32).into_iter().for_each(|irq| irq.drive(level));
        }
        Op::Ppi(vcpu, intid, level) => {
            rig.gic.set_ppi(vcpu, intid, level);
            if (16..32).contains(&intid) {
                model.private[vcpu][intid as usize].drive(level);
            }
        }
        Op::Sgi(vcpu, value, group1) => {
            rig.gic.send_sgi(vcpu, value, if group1 { SgiGroup::Group1 } else { SgiGroup::Group0 });
            for (v, private) in model.private.iter_mut().enumerate() {
                let meant = if value >> 40 & 1 != 0 { v != vcpu } else { value >> v & 1 != 0 };
                let irq = &mut private[(value >> 24 & 15) as usize];
                irq.latch |= meant && irq.group1 == group1;
            }
        }
        Op::TakeOffered(vcpu, group) => {
            if let Some((_, intid)) = rig.published()[vcpu][group] {
                assert!(rig.gic.acknowledge(vcpu, intid), "what is offered can be taken");
                let irq = model.irq(vcpu, intid as usize).unwrap();
                (irq.latch, irq.active) = (false, true);
            }
        }
        Op::Take(vcpu, intid) => {
            let may = (intid as usize) < 32 + SPIS && model.may_take(vcpu, intid as usize);
            assert_eq!(rig.gic.acknowledge(vcpu, intid), may);
            if may {
                let irq = model.irq(vcpu, intid as usize).unwrap();
                (irq.latch, irq.active) = (false, true);
            }
        }
        Op::Deactivate(vcpu, intid) => {
            rig.gic.deactivate(vcpu, intid);
            model.irq(vcpu, intid as usize).into_iter().for_each(|irq| irq.active = false);
        }
        Op::Move => {
            let next = Rig::new(VCPUS, SPIS);
            // Through text, as a file would hold it; in either order.
            let text = |v: serde_json::Value| serde_json::from_str(&v.to_string()).unwrap();
            next.r.load(&text(rig.r.save())).unwrap();
            next.d.load(&text(rig.d.save())).unwrap();
            *rig = next;
        }
    }
}

/// All registers of interrupt state show what the model holds.
fn compare_registers(rig: &Rig, model: &Model) {
    let read = |vcpu: Option<usize>, offset| match vcpu {
        None => rig.rd(offset),
        Some(v) => rig.rr(v, offset),
    };
    let check = |vcpu: Option<usize>, intid: usize, irq: &Irq| {
        let (word, bit) = (intid as u64 / 32 * 4, intid % 32);
        for (offset, expected) in [
            (IGROUPR, irq.group1),
            (ISENABLER, irq.enabled),
            (ICENABLER, irq.enabled),
            (ISPENDR, irq.pending()),
            (ICPENDR, irq.pending()),
            (ISACTIVER, irq.active),
            (ICACTIVER, irq.active),
        ] {
            assert_eq!(read(vcpu, offset + word) >> bit & 1 != 0, expected, "INTID {intid} register {offset:#x}");
        }
        let priorities = read(vcpu, IPRIORITYR + (intid as u64 & !3));
        assert_eq!((priorities >> (8 * (intid % 4))) as u8, irq.priority, "INTID {intid}");
        let config = read(vcpu, ICFGR + intid as u64 / 16 * 4);
        assert_eq!(config >> (2 * (intid % 16)) & 3, u32::from(irq.edge) << 1, "INTID {intid}");
    };
    model.shared.iter().enumerate().for_each(|(n, irq)| check(None, n + 32, irq));
    for (vcpu, private) in model.private.iter().enumerate() {
        private.iter().enumerate().for_each(|(n, irq)| check(Some(vcpu), n, irq));
    }
    for (n, irq) in model.shared.iter().enumerate() {
        assert_eq!(rig.d.read(IROUTER + 8 * (n as u64 + 32), 8), Ok(irq.route));
    }
}

proptest! {
    #![proptest_config(more_cases(400))]

    #[test]
    fn random_histories_agree_with_the_naive_model(ops in prop::collection::vec(op(), 1..200)) {
        let (mut rig, mut model) = (Rig::new(VCPUS, SPIS), Model::new());
        // Most of the time something is enabled, or little would happen.
        let enable = [Op::Groups(3), Op::Bits(None, ISENABLER + 4, !0), Op::Bits(None, ISENABLER + 8, 0xffff)];
        for op in enable.iter().chain(&ops) {
            apply(&mut rig, &mut model, op);
            for (vcpu, published) in rig.published().iter().enumerate() {
                for (group, offer) in published.iter().enumerate() {
                    prop_assert_eq!(*offer, model.best(vcpu, group), "vCPU {} group {} after {:?}", vcpu, group, op);
                }
            }
        }
        compare_registers(&rig, &model);
    }

    #[test]
    fn no_access_panics(accesses in prop::collection::vec((any::<bool>(), 0u64..0x8_0000, 0u8..17, any::<u64>()), 1..300)) {
        let rig = Rig::new(VCPUS, SPIS);
        for (redistributor, offset, size, value) in accesses {
            let device = if redistributor { &rig.r } else { &rig.d };
            let _ = device.write(offset, size, value);
            let _ = device.read(offset, size);
            let _ = device.read(!offset, size);
        }
        let _ = rig.gic.report();
    }
}
