//! Threads that raise, take and end interrupts all at once: nothing is lost, nothing is taken twice, nothing hangs.

use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use super::*;

const VCPUS: usize = 4;
const LEVEL_SPIS: u32 = 6;
const EDGE_SPI: u32 = 40;
const ROUNDS: u32 = 3000;

/// A CPU interface as a processing element has it: one word for each group.
#[derive(Default)]
struct Words([AtomicU64; VCPUS]);

impl CpuInterfaceSink for Words {
    fn publish(&self, vcpu: usize, group: usize, best: Option<(u8, u32)>) {
        if group == 1 {
            self.0[vcpu].store(best.map_or(0, |(p, i)| 1 << 32 | u64::from(p) << 16 | u64::from(i)), Ordering::Release);
        }
    }
}

struct Machine {
    gic: Arc<Gic>,
    words: Arc<Words>,
    done: AtomicBool,
    /// For each INTID: how often it was handled.
    handled: Vec<AtomicU32>,
    /// For each SPI: somebody is in its handler.
    busy: Vec<AtomicBool>,
    /// For each vCPU: how often its SGI 1 was handled.
    sgis: Vec<AtomicU32>,
}

impl Machine {
    /// What a guest does on `vcpu`: take what is offered, handle it, end it.
    fn vcpu(&self, vcpu: usize) {
        while !self.done.load(Ordering::Acquire) {
            let word = self.words.0[vcpu].load(Ordering::Acquire);
            if word == 0 {
                thread::yield_now();
                continue;
            }
            let intid = (word & 0xffff) as u32;
            if !self.gic.acknowledge(vcpu, intid) {
                continue;
            }
            if intid < 16 {
                self.sgis[vcpu].fetch_add(1, Ordering::AcqRel);
            } else {
                let busy = &self.busy[intid as usize];
                assert!(!busy.swap(true, Ordering::AcqRel), "INTID {intid} was taken twice");
                if intid < 32 + LEVEL_SPIS {
                    self.gic.set_spi(intid - 32, false);
                }
                busy.store(false, Ordering::Release);
                self.handled[intid as usize].fetch_add(1, Ordering::AcqRel);
            }
            self.gic.deactivate(vcpu, intid);
        }
    }

    /// Waits until `counter` has come to `count`.
    fn wait(&self, counter: &AtomicU32, count: u32, what: &str) {
        let start = Instant::now();
        while counter.load(Ordering::Acquire) < count {
            thread::yield_now();
            assert!(!self.done.load(Ordering::Acquire), "another driver gave up");
            if start.elapsed() > Duration::from_secs(30) {
                self.done.store(true, Ordering::Release);
                panic!("{what} was lost at {count}\n{}", self.gic.report());
            }
        }
    }
}

#[test]
fn threads_lose_nothing_and_take_nothing_twice() {
    let rig = Rig::linux(VCPUS, 64);
    let words = Arc::new(Words::default());
    let gic = Gic::new(VCPUS, 64, words.clone()).unwrap();
    let (d, r) = (gic.distributor(), gic.redistributors());
    d.load(&rig.d.save()).unwrap();
    r.load(&rig.r.save()).unwrap();
    // SPIs 0 and 1 go to any vCPU, the others to one each; SPI 40 is edge triggered.
    for spi in 0..u64::from(LEVEL_SPIS) {
        let route = if spi < 2 { spec::IROUTER_IRM } else { spi % VCPUS as u64 };
        d.write(IROUTER + 8 * (32 + spi), 8, route).unwrap();
    }
    d.write(ICFGR + 4 * ((32 + u64::from(EDGE_SPI)) / 16), 4, !0).unwrap();
    d.write(ISENABLER + 4, 4, !0).unwrap();
    d.write(ISENABLER + 8, 4, !0).unwrap();
    let machine = Machine {
        gic: gic.clone(),
        words,
        done: AtomicBool::new(false),
        handled: (0..128).map(|_| AtomicU32::new(0)).collect(),
        busy: (0..128).map(|_| AtomicBool::new(false)).collect(),
        sgis: (0..VCPUS).map(|_| AtomicU32::new(0)).collect(),
    };
    let m = &machine;
    thread::scope(|scope| {
        (0..VCPUS).for_each(|vcpu| drop(scope.spawn(move || m.vcpu(vcpu))));
        let mut drivers = vec![];
        for spi in 0..LEVEL_SPIS {
            drivers.push(scope.spawn(move || {
                for round in 1..=ROUNDS {
                    m.gic.set_spi(spi, true);
                    m.wait(&m.handled[32 + spi as usize], round, &format!("SPI {spi}"));
                }
            }));
        }
        drivers.push(scope.spawn(move || {
            for round in 1..=ROUNDS {
                m.gic.spi_line(EDGE_SPI).pulse();
                m.wait(&m.handled[32 + EDGE_SPI as usize], round, "the edge");
            }
        }));
        for vcpu in 0..2 {
            drivers.push(scope.spawn(move || {
                let target = vcpu + 2;
                for round in 1..=ROUNDS {
                    m.gic.send_sgi(vcpu, 1 << 24 | 1 << target, SgiGroup::Group1);
                    m.wait(&m.sgis[target], round, "the SGI");
                }
            }));
        }
        // Meanwhile somebody reconfigures: moves an SPI about, masks and unmasks one, sleeps and wakes.
        let d = &d;
        let r = &r;
        drivers.push(scope.spawn(move || {
            for round in 0..u64::from(ROUNDS) {
                d.write(IROUTER + 8 * 34, 8, round % VCPUS as u64).unwrap();
                d.write(ICENABLER + 4, 4, 8).unwrap();
                d.write(ISENABLER + 4, 4, 8).unwrap();
                r.write(REDISTRIBUTOR_LEN + spec::GICR_WAKER, 4, round % 2 * 2).unwrap();
            }
            r.write(REDISTRIBUTOR_LEN + spec::GICR_WAKER, 4, 0).unwrap();
        }));
        let results: Vec<_> = drivers.into_iter().map(|t| t.join()).collect();
        m.done.store(true, Ordering::Release);
        assert!(results.iter().all(Result::is_ok), "{}", m.gic.report());
    });
    for spi in (0..LEVEL_SPIS).chain([EDGE_SPI]) {
        assert_eq!(machine.handled[32 + spi as usize].load(Ordering::Acquire), ROUNDS, "SPI {spi}");
    }
    assert!(machine.words.0.iter().all(|w| w.load(Ordering::Acquire) == 0), "nothing is left over\n{}", gic.report());
}

/// `cargo test --release -p devices hot_paths -- --ignored --nocapture`: nanoseconds of each call that guests make often.
#[test]
#[ignore = "a measurement"]
fn hot_paths() {
    let rig = Rig::linux(2, 224);
    rig.enable_spi(100);
    rig.wr(0, ISENABLER, !0);
    let words = Arc::new(Words::default());
    let gic = Gic::new(2, 224, words).unwrap();
    gic.distributor().load(&rig.d.save()).unwrap();
    gic.redistributors().load(&rig.r.save()).unwrap();
    let time = |name: &str, call: &dyn Fn()| {
        let (start, rounds) = (Instant::now(), 1_000_000u32);
        (0..rounds).for_each(|_| call());
        println!("{name}: {:.0} ns", start.elapsed().as_nanos() as f64 / f64::from(rounds));
    };
    time("PPI up, acknowledge, down, deactivate", &|| {
        gic.set_ppi(0, 27, true);
        assert!(gic.acknowledge(0, 27));
        gic.set_ppi(0, 27, false);
        gic.deactivate(0, 27);
    });
    time("SGI, acknowledge, deactivate", &|| {
        gic.send_sgi(1, 1 << 24 | 1, SgiGroup::Group1);
        assert!(gic.acknowledge(0, 1));
        gic.deactivate(0, 1);
    });
    time("SPI up, acknowledge, down, deactivate", &|| {
        gic.set_spi(100, true);
        assert!(gic.acknowledge(0, 132));
        gic.set_spi(100, false);
        gic.deactivate(0, 132);
    });
}
