//! Wakes that a vCPU puts off until it has nothing else to do: to wake a thread of the host costs microseconds, which a vCPU
//! that runs the guest does not have, and one that is about to sleep has.
//!
//! Only for workers that nap, which look by themselves soon: a vCPU that stays busy makes them late by one nap.

use std::cell::RefCell;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use super::worker::Doorbell;

/// Most workers that one vCPU puts off; further ones are woken at once.
const MOST: usize = 16;

/// Whether any thread puts wakes off: without one no worker needs to nap.
static IN_USE: AtomicBool = AtomicBool::new(false);

#[derive(Default)]
struct PutOff {
    /// The thread says when it is about to sleep: it has done so before.
    tells: bool,
    workers: Vec<Arc<Doorbell>>,
}

thread_local! {
    static OF_THREAD: RefCell<PutOff> = RefCell::default();
}

/// The calling thread, a vCPU, is about to sleep: wakes the workers of the doorbells that the guest has rung on it. It has to
/// be called before every sleep.
pub fn before_sleep() {
    OF_THREAD.with_borrow_mut(|own| {
        if !own.tells {
            own.tells = true;
            own.workers.reserve_exact(MOST);
            IN_USE.store(true, Ordering::Relaxed);
        }
        own.workers.drain(..).for_each(|worker| worker.rouse_late());
    });
}

/// Has [`before_sleep`] wake the worker of `doorbell`. False if the calling thread will not come there.
pub(super) fn put_off(doorbell: &Arc<Doorbell>) -> bool {
    OF_THREAD.with_borrow_mut(|own| {
        if own.workers.iter().any(|worker| Arc::ptr_eq(worker, doorbell)) {
            return true;
        }
        let may = own.tells && own.workers.len() < MOST;
        if may {
            own.workers.push(Arc::clone(doorbell));
        }
        may
    })
}

/// Whether some thread puts wakes off.
pub(super) fn is_in_use() -> bool {
    IN_USE.load(Ordering::Relaxed)
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc::channel;
    use std::thread;
    use std::time::Duration;

    use super::*;

    /// A worker that waits until it is rung.
    fn asleep(doorbell: &Arc<Doorbell>) -> thread::JoinHandle<()> {
        let own = Arc::clone(doorbell);
        thread::spawn(move || {
            own.be_worker();
            own.wait();
        })
    }

    #[test]
    fn a_thread_that_never_tells_wakes_at_once() {
        let doorbell = Arc::new(Doorbell::default());
        let worker = asleep(&doorbell);
        assert!(!put_off(&doorbell));
        doorbell.ring();
        worker.join().expect("woken");
    }

    #[test]
    fn a_worker_in_a_long_nap_is_woken_before_the_vcpu_sleeps() {
        before_sleep();
        let doorbell = Arc::new(Doorbell::default());
        let own = Arc::clone(&doorbell);
        let (tell, told) = channel();
        let worker = thread::spawn(move || {
            own.be_worker();
            let sleep = |_| {
                tell.send(()).expect("somebody listens");
                // Nothing but a wake ends this.
                thread::park();
                false
            };
            // A busy host may have no time for the first nap.
            while !own.nap(sleep) {}
        });
        told.recv().expect("it naps");
        doorbell.ring();
        thread::sleep(Duration::from_millis(20));
        assert!(!worker.is_finished() && doorbell.put_off() == 1);
        before_sleep();
        worker.join().expect("woken");
    }

    #[test]
    fn a_busy_vcpu_makes_a_worker_late_by_a_nap() {
        before_sleep();
        for _ in 0..200 {
            let doorbell = Arc::new(Doorbell::default());
            let worker = asleep(&doorbell);
            doorbell.ring();
            worker.join().expect("it looked by itself");
        }
        before_sleep();
    }

    #[test]
    fn no_more_are_put_off_than_there_is_room_for() {
        before_sleep();
        let doorbells: Vec<Arc<Doorbell>> = (0..=MOST).map(|_| Arc::default()).collect();
        let put: Vec<bool> = doorbells.iter().map(put_off).collect();
        assert!(put.iter().enumerate().all(|(index, &put)| put == (index < MOST)));
        assert!(put_off(&doorbells[0]), "it is there already");
        before_sleep();
        assert!(put_off(&doorbells[MOST]));
        before_sleep();
    }
}
