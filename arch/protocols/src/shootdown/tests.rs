//! Models: a translation is not used after the DSB of the TLBI that removed it.

use super::*;
use crate::doze::Doze;
use crate::doze::tests::Futex;
use crate::sync::Arc;
use crate::sync::atomic::AtomicU32;
use loom::thread;

const SHOOT: u32 = 4;
const OLD: u32 = 1;
const NEW: u32 = 2;

struct Pe {
    shoot: Shootdown<()>,
    asids: AsidFilter,
    doze: Doze,
    futex: Futex,
}

impl Pe {
    fn new() -> Pe {
        Pe { shoot: Shootdown::default(), asids: AsidFilter::new(64), doze: Doze::default(), futex: Futex::new() }
    }
}

struct Machine {
    pes: [Pe; 2],
    /// A table entry for each initiator, and whether its old page has been given to somebody else.
    entries: [AtomicU32; 2],
    freed: [AtomicBool; 2],
}

impl Machine {
    fn new() -> Arc<Machine> {
        let one = || AtomicU32::new(OLD);
        let no = || AtomicBool::new(false);
        Arc::new(Machine { pes: [Pe::new(), Pe::new()], entries: [one(), one()], freed: [no(), no()] })
    }

    fn rouse(&self, who: u64) {
        for (i, pe) in self.pes.iter().enumerate() {
            if who >> i & 1 != 0 && pe.doze.rouse() {
                pe.futex.wake();
            }
        }
    }

    /// Apply what is queued for `me`.
    fn drain(&self, me: usize, cached: &mut Option<u32>) {
        let (ops, number) = self.pes[me].shoot.take();
        if !ops.is_empty() {
            *cached = None;
        }
        self.rouse(self.pes[me].shoot.applied(number));
    }

    /// Use the translation of `entry`, walking if it is not cached.
    fn access(&self, entry: usize, cached: &mut Option<u32>) {
        let value = *cached.get_or_insert_with(|| self.entries[entry].load(Ordering::SeqCst));
        assert!(value == NEW || !self.freed[entry].load(Ordering::SeqCst), "a stale translation was used");
    }

    fn poll(&self, me: usize, cached: &mut Option<u32>) {
        if self.pes[me].doze.requests().swap(0, Ordering::SeqCst) & SHOOT != 0 {
            self.drain(me, cached);
        }
    }

    /// Change entry `me`, TLBI, DSB; `cached` is what `me` caches of the other's entry.
    fn change(&self, me: usize, cached: &mut Option<u32>, sleep: bool) {
        let other = &self.pes[1 - me];
        self.entries[me].store(NEW, Ordering::SeqCst);
        if other.asids.may_hold(5, true) {
            let number = other.shoot.post((), &(), 8);
            if other.doze.request(SHOOT) {
                other.futex.wake();
            }
            while !other.shoot.done(number) {
                self.poll(me, cached);
                if sleep {
                    let done = || other.shoot.done_or_rouse(number, me);
                    self.pes[me].doze.sleep(SHOOT, done, |w| self.pes[me].futex.wait(w));
                } else {
                    thread::yield_now();
                }
            }
        }
        self.freed[me].store(true, Ordering::SeqCst);
    }
}

/// One changes, the other accesses, stops to run, comes back.
#[test]
fn a_victim_that_comes_and_goes() {
    let mut model = loom::model::Builder::new();
    model.preemption_bound = Some(3);
    model.check(|| {
        let m = Machine::new();
        let v = Arc::clone(&m);
        let victim = thread::spawn(move || {
            let mut cached = None;
            v.pes[1].shoot.begin();
            v.drain(1, &mut cached);
            v.pes[1].asids.add(5);
            v.access(0, &mut cached);
            v.rouse(v.pes[1].shoot.end());
            v.pes[1].shoot.begin();
            v.drain(1, &mut cached);
            v.access(0, &mut cached);
            v.poll(1, &mut cached);
            v.rouse(v.pes[1].shoot.end());
        });
        m.change(0, &mut None, true);
        victim.join().expect("ends");
    });
}

/// Two change at once and wait for each other.
#[test]
fn two_initiators_do_not_wait_for_ever() {
    let mut model = loom::model::Builder::new();
    model.preemption_bound = Some(3);
    model.check(|| {
        let m = Machine::new();
        let run = |m: Arc<Machine>, me: usize| {
            let mut cached = None;
            m.pes[me].shoot.begin();
            m.drain(me, &mut cached);
            m.pes[me].asids.add(5);
            m.access(1 - me, &mut cached);
            m.change(me, &mut cached, true);
            m.access(1 - me, &mut cached);
            m.rouse(m.pes[me].shoot.end());
        };
        let other = Arc::clone(&m);
        let thread = thread::spawn(move || run(other, 1));
        run(m, 0);
        thread.join().expect("ends");
    });
}

/// An initiator that finds an ASID absent posts nothing: then the victim walks the new entry.
#[test]
fn an_absent_asid_needs_no_answer() {
    loom::model(|| {
        let m = Machine::new();
        let v = Arc::clone(&m);
        let victim = thread::spawn(move || {
            let mut cached = None;
            v.pes[1].shoot.begin();
            v.drain(1, &mut cached);
            v.pes[1].asids.add(5);
            v.access(0, &mut cached);
            v.poll(1, &mut cached);
            // Another address space: what is left of the old one goes, and it is not asked for any more.
            cached = None;
            v.pes[1].asids.remove(5);
            v.pes[1].asids.add(5);
            v.access(0, &mut cached);
            v.rouse(v.pes[1].shoot.end());
        });
        m.change(0, &mut None, false);
        victim.join().expect("ends");
    });
}
