//! The GIC: any register accesses, wires, acknowledgements.

use std::sync::{Arc, Mutex};

use devices::{CpuInterfaceSink, Gic, MmioDevice, SgiGroup};

use crate::bytes::Bytes;

const VCPUS: usize = 2;
const SPIS: usize = 40;

/// A priority and an INTID, or nothing.
type Offer = Option<(u8, u32)>;

/// What is offered to each vCPU in each group.
pub(crate) struct Offers(Mutex<Vec<[Offer; 2]>>);

impl Offers {
    pub(crate) fn new(vcpus: usize) -> Offers {
        Offers(Mutex::new(vec![[None; 2]; vcpus]))
    }
    pub(crate) fn get(&self, vcpu: usize, group: usize) -> Option<(u8, u32)> {
        self.0.lock().expect("no thread panicked")[vcpu][group]
    }
}

impl CpuInterfaceSink for Offers {
    fn publish(&self, vcpu: usize, group: usize, best: Option<(u8, u32)>) {
        self.0.lock().expect("no thread panicked")[vcpu][group] = best;
    }
}

fn step(gic: &Gic, d: &dyn MmioDevice, r: &dyn MmioDevice, offers: &Offers, bytes: &mut Bytes) -> Option<()> {
    let kind = bytes.u8()?;
    let vcpu = usize::from(kind >> 4) % VCPUS;
    match kind & 0xf {
        0..=3 => {
            // The registers of interrupt state, mostly.
            let offset = u64::from(bytes.u16()?) & if kind & 0x10 != 0 { 0xffc } else { 0xffff };
            let value = bytes.u32()?;
            d.write(offset, [4, 4, 1, 8][usize::from(kind & 3)], u64::from(value) << 32 | u64::from(value)).ok()?;
        }
        4..=6 => {
            let offset = u64::from(bytes.u16()?) & if kind & 0x20 != 0 { 0xffc } else { 0xffff };
            let frame = (vcpu as u64) << 17 | u64::from(kind >> 7) << 16;
            r.write(frame + offset, [4, 4, 1, 8][usize::from(kind & 3)], bytes.u32()?.into()).ok()?;
        }
        7 => gic.set_spi(bytes.u8()?.into(), kind & 0x80 != 0),
        8 => gic.set_ppi(vcpu, bytes.u8()?.into(), kind & 0x80 != 0),
        9 => gic.send_sgi(vcpu, bytes.u64()?, if kind & 0x80 != 0 { SgiGroup::Group1 } else { SgiGroup::Group0 }),
        10 => drop(gic.acknowledge(vcpu, bytes.u16()?.into())),
        11 => gic.deactivate(vcpu, bytes.u16()?.into()),
        12 => drop((d.read(bytes.u16()?.into(), 4), r.read(bytes.u32()?.into(), 4))),
        13 => {
            let saved = (d.save(), r.save());
            d.load(&saved.0).expect("what was saved can be loaded");
            r.load(&saved.1).expect("what was saved can be loaded");
            assert_eq!((d.save(), r.save()), saved);
        }
        14 => {
            if let Some((priority, intid)) = offers.get(vcpu, 1) {
                assert!(priority & 7 == 0 && (intid as usize) < 32 + SPIS);
                assert!(gic.acknowledge(vcpu, intid), "what is offered can be taken");
                assert_ne!(offers.get(vcpu, 1).map(|o| o.1), Some(intid), "once");
            }
        }
        _ => drop(gic.report()),
    }
    Some(())
}

/// Any history of a GIC.
pub fn gic(data: &[u8]) {
    let offers = Arc::new(Offers::new(VCPUS));
    let gic = Gic::new(VCPUS, SPIS, offers.clone()).expect("a GIC of this size");
    let (d, r) = (gic.distributor(), gic.redistributors());
    let mut bytes = Bytes(data);
    while step(&gic, &*d, &*r, &offers, &mut bytes).is_some() {}
    d.reset();
    r.reset();
    (0..VCPUS).for_each(|v| assert_eq!((offers.get(v, 0), offers.get(v, 1)), (None, None)));
}
