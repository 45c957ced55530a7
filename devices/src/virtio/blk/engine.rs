//! What does the transfers of a queue side by side: the kernel's io_uring where the disk is a file, threads elsewhere.

use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex};
use std::thread::{self, JoinHandle};

use super::ring::Ring;
use super::ticket::Ticket;
use crate::disk::{Aio, Disk};
use crate::lock;
use crate::virtio::queue::ActiveQueue;
use crate::virtio::worker::Bell;

/// Threads for each queue, started when they are first needed.
const THREADS: usize = 4;

/// The transfers of one queue that are under way.
pub(super) enum Engine {
    /// io_uring.
    Ring(Box<Ring>),
    /// Threads.
    Pool(Pool),
}

impl Engine {
    /// What `disk` can and the user wants. Without io_uring on the host, threads.
    pub(super) fn new(disk: &Arc<dyn Disk>, aio: Aio) -> Engine {
        let ring = if aio == Aio::Threads || !disk.is_file() { None } else { Ring::new(Arc::clone(disk)) };
        ring.map_or_else(|| Engine::Pool(Pool::new(Arc::clone(disk))), |ring| Engine::Ring(Box::new(ring)))
    }

    /// Whether a transfer that is alone is better done by the caller: handing it to a thread costs more than it brings.
    pub(super) fn prefers_inline(&self) -> bool {
        matches!(self, Engine::Pool(pool) if pool.in_flight == 0)
    }

    /// How many are under way.
    pub(super) fn in_flight(&self) -> usize {
        match self {
            Engine::Ring(ring) => ring.in_flight(),
            Engine::Pool(pool) => pool.in_flight,
        }
    }

    /// Begins one; `bell` is rung when it is done. Given back if it cannot be begun: the caller then does it.
    pub(super) fn begin(&mut self, ticket: Ticket, bell: &Bell) -> Result<(), Ticket> {
        match self {
            Engine::Ring(ring) => ring.begin(ticket),
            Engine::Pool(pool) => pool.begin(ticket, bell),
        }
    }

    /// Lets the host know what was begun.
    pub(super) fn submit(&mut self) {
        if let Engine::Ring(ring) = self {
            ring.submit();
        }
    }

    /// Whether one is done.
    pub(super) fn has_done(&mut self) -> bool {
        match self {
            Engine::Ring(ring) => ring.has_done(),
            Engine::Pool(pool) => !lock(&pool.done).is_empty(),
        }
    }

    /// One that is done.
    pub(super) fn take_done(&mut self) -> Option<Ticket> {
        match self {
            Engine::Ring(ring) => ring.take_done(),
            Engine::Pool(pool) => pool.take_done(),
        }
    }

    /// Sleeps until one is done or the doorbell is rung.
    pub(super) fn wait(&mut self, queue: &ActiveQueue<'_>) {
        match self {
            Engine::Ring(ring) => ring.wait(queue),
            Engine::Pool(_) => queue.wait(),
        }
    }
}

/// Threads that do transfers.
pub(super) struct Pool {
    disk: Arc<dyn Disk>,
    in_flight: usize,
    done: Arc<Mutex<Vec<Ticket>>>,
    /// Once there are threads.
    jobs: Option<Sender<Ticket>>,
    threads: Vec<JoinHandle<()>>,
}

impl Pool {
    fn new(disk: Arc<dyn Disk>) -> Pool {
        Pool { disk, in_flight: 0, done: Arc::default(), jobs: None, threads: Vec::new() }
    }

    fn start(&mut self, bell: &Bell) {
        let (jobs, queue) = channel();
        let queue = Arc::new(Mutex::new(queue));
        for n in 0..THREADS {
            let (disk, done) = (Arc::clone(&self.disk), Arc::clone(&self.done));
            let (queue, bell) = (Arc::clone(&queue), bell.clone());
            let body = move || work(&*disk, &queue, &done, &bell);
            // Without any thread the caller does it all.
            self.threads.extend(thread::Builder::new().name(format!("blk-{n}")).spawn(body));
        }
        self.jobs = Some(jobs).filter(|_| !self.threads.is_empty());
    }

    fn begin(&mut self, ticket: Ticket, bell: &Bell) -> Result<(), Ticket> {
        if self.jobs.is_none() {
            self.start(bell);
        }
        match &self.jobs {
            None => Err(ticket),
            Some(jobs) => {
                jobs.send(ticket).map_err(|refused| refused.0)?;
                self.in_flight += 1;
                Ok(())
            }
        }
    }

    fn take_done(&mut self) -> Option<Ticket> {
        let ticket = lock(&self.done).pop()?;
        self.in_flight -= 1;
        Some(ticket)
    }
}

fn work(disk: &dyn Disk, jobs: &Mutex<Receiver<Ticket>>, done: &Mutex<Vec<Ticket>>, bell: &Bell) {
    loop {
        let Ok(mut ticket) = lock(jobs).recv() else { return };
        ticket.perform(disk);
        lock(done).push(ticket);
        bell.ring();
    }
}

impl Drop for Pool {
    fn drop(&mut self) {
        drop(self.jobs.take());
        for thread in self.threads.drain(..) {
            // One that panicked has said so already.
            let _ = thread.join();
        }
    }
}
