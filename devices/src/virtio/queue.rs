//! A queue in use: `virtio-queue`'s rings, the handler that serves it, and the gate that holds it still.

use std::os::fd::OwnedFd;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering, fence};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use virtio_queue::{Queue, QueueOwnedT, QueueState, QueueT};
use vm_memory::{Bytes, GuestAddress};

use super::chain::{Chain, ChainError};
use super::common::Shared;
use super::device::{QueueHandler, Served};
use super::linger::Linger;
use super::spec;
use super::worker::Doorbell;
use crate::lock;

/// Why a queue cannot go on. The device needs a reset.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum QueueError {
    /// The rings make no sense.
    #[error("Queue {index}: {reason}")]
    Ring {
        /// The queue.
        index: u16,
        /// What `virtio-queue` says about it.
        reason: String,
    },
    /// A request makes no sense.
    #[error(transparent)]
    Chain(#[from] ChainError),
}

/// One queue of a device. The transport and the worker share it.
pub(super) struct Slot {
    pub(super) index: u16,
    pub(super) doorbell: Arc<Doorbell>,
    /// The driver takes this queue away.
    hold: AtomicBool,
    live: Mutex<Live>,
    pub(super) counters: Counters,
}

/// What happened on a queue since the machine started.
#[derive(Default)]
pub(super) struct Counters {
    pub(super) requests: AtomicU64,
    pub(super) interrupts: AtomicU64,
}

struct Live {
    /// `None` unless the driver has made it ready.
    queue: Option<Queue>,
    handler: Box<dyn QueueHandler>,
    linger: Linger,
}

/// Where a queue is and how far it got.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub(super) struct Position {
    pub(super) next_avail: u16,
    pub(super) next_used: u16,
}

impl Slot {
    pub(super) fn new(index: u16, handler: Box<dyn QueueHandler>) -> Slot {
        Slot {
            index,
            doorbell: Arc::default(),
            hold: AtomicBool::new(false),
            live: Mutex::new(Live { queue: None, handler, linger: Linger::new() }),
            counters: Counters::default(),
        }
    }

    /// Puts `queue` into use, or takes the queue out of it. Waits until the handler is between two requests.
    pub(super) fn set(&self, queue: Option<Queue>) {
        self.hold.store(true, Ordering::SeqCst);
        // A handler that waits for the host looks up.
        self.doorbell.wake();
        {
            let mut live = lock(&self.live);
            live.queue = queue;
            live.handler.forget();
        }
        self.hold.store(false, Ordering::SeqCst);
    }

    /// Waits until the handler is not serving. The caller has closed the gate.
    pub(super) fn settle(&self) {
        self.doorbell.wake();
        drop(lock(&self.live));
    }

    /// Has the handler answer what only it remembers, so that the rings say all.
    pub(super) fn give_up(&self, shared: &Shared) {
        let mut live = lock(&self.live);
        let Live { queue: Some(queue), handler, linger } = &mut *live else { return };
        let mut active = ActiveQueue { queue, slot: self, shared, linger, unsignalled: 0 };
        if let Err(error) = handler.give_up(&mut active).and_then(|()| active.signal()) {
            shared.fail(&error);
        }
    }

    /// How far the queue got, if it is in use.
    pub(super) fn position(&self) -> Option<Position> {
        let live = lock(&self.live);
        live.queue.as_ref().map(|q| Position { next_avail: q.next_avail(), next_used: q.next_used() })
    }

    /// Serves what there is; on the worker thread.
    pub(super) fn serve(&self, shared: &Shared) {
        let mut live = lock(&self.live);
        let Live { queue: Some(queue), handler, linger } = &mut *live else { return };
        let mut active = ActiveQueue { queue, slot: self, shared, linger, unsignalled: 0 };
        active.woke();
        if let Err(error) = active.serve_all(&mut **handler) {
            shared.fail(&error);
        }
    }
}

/// A queue that a handler serves now.
pub struct ActiveQueue<'a> {
    queue: &'a mut Queue,
    slot: &'a Slot,
    shared: &'a Shared,
    linger: &'a mut Linger,
    /// Buffers that were given back since the driver's wish for interrupts was last looked at.
    unsignalled: u16,
}

/// A buffer that goes back to the driver: first descriptor of its chain, and bytes written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Used {
    /// What [`Chain::head`] gave.
    pub head: u16,
    /// Bytes written, from the first on.
    pub written: u32,
}

impl ActiveQueue<'_> {
    /// Guest RAM.
    pub fn memory(&self) -> &super::GuestMemory {
        &self.shared.memory
    }

    /// Takes the next request into `chain`. False when there is none, or when the queue has to stand still: a handler
    /// completes what it has taken, and returns.
    pub fn pop(&mut self, chain: &mut Chain) -> Result<bool, QueueError> {
        if !self.may_run() {
            return Ok(false);
        }
        let memory = &*self.shared.memory;
        let Some(from) = self.queue.iter(memory).map_err(|e| self.slot.broken(&e))?.next() else { return Ok(false) };
        chain.fill(from)?;
        self.slot.counters.requests.fetch_add(1, Ordering::Relaxed);
        Ok(true)
    }

    /// Asks the driver to ring for what comes next. True if something is there already.
    pub fn listen(&mut self) -> Result<bool, QueueError> {
        self.queue.enable_notification(&*self.shared.memory).map_err(|e| self.slot.broken(&e))
    }

    /// Asks the driver not to ring.
    pub fn ignore(&mut self) -> Result<(), QueueError> {
        self.queue.disable_notification(&*self.shared.memory).map_err(|e| self.slot.broken(&e))
    }

    /// Whether there is a request to pop.
    pub fn has_more(&self) -> bool {
        self.slot.has_more(self.queue, self.shared)
    }

    /// There is nothing to do: looks for a while whether there is a request, a ring, or what `is_done` looks for. False if
    /// the handler may as well sleep.
    pub(super) fn look(&mut self, is_done: impl FnMut() -> bool) -> bool {
        self.look_or_nap(false, is_done)
    }

    /// `may_nap`: nothing matters but requests and rings.
    fn look_or_nap(&mut self, may_nap: bool, mut is_done: impl FnMut() -> bool) -> bool {
        let (queue, slot, shared) = (&*self.queue, self.slot, self.shared);
        let is_ready = || is_done() || slot.doorbell.take() || slot.has_more(queue, shared) || !slot.may_run(shared);
        self.linger.look(may_nap, is_ready)
    }

    /// The handler slept after [`look`](Self::look) found nothing.
    pub(super) fn woke(&mut self) {
        self.linger.woke(self.slot.doorbell.rang_at());
    }

    /// Sleeps until the doorbell is rung, by the driver or by a [`Bell`](super::Bell).
    pub fn wait(&self) {
        self.slot.doorbell.wait();
    }

    /// Has the worker come again after it returns.
    pub fn come_again(&self) {
        self.slot.doorbell.wake();
    }

    /// What the kernel writes to when the driver rings, if it does.
    pub(super) fn kernel_event(&self) -> Option<&Arc<OwnedFd>> {
        self.slot.doorbell.kernel_event()
    }

    /// As [`Doorbell::nap`].
    pub(super) fn nap(&self, sleep: impl FnMut(Duration) -> bool) -> bool {
        self.slot.doorbell.nap(sleep)
    }

    /// The worker is about to sleep until `event` is written to. False if the doorbell has been rung already.
    pub(super) fn begin_wait(&self, event: &Arc<OwnedFd>) -> bool {
        self.slot.doorbell.begin_wait(event)
    }

    /// The worker is awake.
    pub(super) fn end_wait(&self) {
        self.slot.doorbell.end_wait();
    }

    /// Puts the last `count` requests back, as if [`pop`](Self::pop) had not taken them.
    pub fn put_back(&mut self, count: u16) {
        self.queue.set_next_avail(self.queue.next_avail().wrapping_sub(count));
    }

    /// Puts requests back that were taken before the last ones, and are not answered: they are the next to be popped. Each
    /// place in the ring from which a request was taken is free until the driver hears of an answer.
    pub fn take_back(&mut self, heads: &[u16]) -> Result<(), QueueError> {
        let (ring, size) = (self.queue.avail_ring(), self.queue.size().max(1));
        // As many as are under way: not more than the ring is long.
        let first = self.queue.next_avail().wrapping_sub(heads.len() as u16);
        for (index, head) in heads.iter().enumerate() {
            let place = first.wrapping_add(index as u16) % size;
            let at = ring.wrapping_add(4 + 2 * u64::from(place));
            self.shared.memory.write_obj(head.to_le(), GuestAddress(at)).map_err(|e| self.slot.broken(&e))?;
        }
        self.queue.set_next_avail(first);
        Ok(())
    }

    /// Gives the request with first descriptor `head` back to the driver, `written` bytes of answer in it, and
    /// interrupts if the driver wants that.
    pub fn complete(&mut self, head: u16, written: u32) -> Result<(), QueueError> {
        self.publish(&[Used { head, written }])?;
        self.signal()
    }

    /// Gives requests back to the driver, which sees all of them at once or none. [`signal`](Self::signal) follows, at
    /// the latest when the handler returns.
    pub fn publish(&mut self, used: &[Used]) -> Result<(), QueueError> {
        let memory = &*self.shared.memory;
        let broken = |e| self.slot.broken(&e);
        // Addresses do not wrap: the ring was found to be in RAM.
        let (ring, size) = (self.queue.used_ring(), self.queue.size().max(1));
        let mut next = self.queue.next_used();
        for one in used {
            let element = [u32::from(one.head).to_le(), one.written.to_le()];
            let at = ring.wrapping_add(4 + 8 * u64::from(next % size));
            memory.write_obj(element, GuestAddress(at)).map_err(broken)?;
            next = next.wrapping_add(1);
            self.unsignalled = self.unsignalled.wrapping_add(1);
        }
        self.queue.set_next_used(next);
        memory.store(next.to_le(), GuestAddress(ring.wrapping_add(2)), Ordering::Release).map_err(broken)
    }

    /// Interrupts if the driver wants to hear of what was published since the last call.
    pub fn signal(&mut self) -> Result<(), QueueError> {
        if self.unsignalled != 0 && self.wants_interrupt()? {
            self.slot.counters.interrupts.fetch_add(1, Ordering::Relaxed);
            self.shared.interrupts.used(self.slot.index);
        }
        self.unsignalled = 0;
        Ok(())
    }

    fn wants_interrupt(&self) -> Result<bool, QueueError> {
        let memory = &*self.shared.memory;
        let broken = |e| self.slot.broken(&e);
        // The used index is to be seen before the driver's wish is read (2.7.7.2, 2.7.10).
        fence(Ordering::SeqCst);
        let ring = self.queue.avail_ring();
        if self.queue.event_idx_enabled() {
            let event = ring.wrapping_add(4 + 2 * u64::from(self.queue.size()));
            let event = u16::from_le(memory.load(GuestAddress(event), Ordering::Relaxed).map_err(broken)?);
            return Ok(self.queue.next_used().wrapping_sub(event).wrapping_sub(1) < self.unsignalled);
        }
        let flags: u16 = memory.load(GuestAddress(ring), Ordering::Relaxed).map_err(broken)?;
        Ok(u16::from_le(flags) & spec::AVAIL_NO_INTERRUPT == 0)
    }

    /// False when the queue has to stand still: a handler that waits for something goes on waiting no longer.
    pub fn may_run(&self) -> bool {
        self.slot.may_run(self.shared)
    }

    fn serve_all(&mut self, handler: &mut dyn QueueHandler) -> Result<(), QueueError> {
        let memory = &*self.shared.memory;
        while self.may_run() {
            self.queue.disable_notification(memory).map_err(|e| self.slot.broken(&e))?;
            let served = handler.serve(self)?;
            self.signal()?;
            if served == Served::Waiting {
                return Ok(());
            }
            // The driver need not ring for what comes now.
            if self.look_or_nap(true, || false) {
                continue;
            }
            if !self.queue.enable_notification(memory).map_err(|e| self.slot.broken(&e))? {
                return Ok(());
            }
        }
        Ok(())
    }
}

impl Slot {
    fn may_run(&self, shared: &Shared) -> bool {
        shared.may_run() && !self.hold.load(Ordering::SeqCst)
    }

    fn has_more(&self, queue: &Queue, shared: &Shared) -> bool {
        let index: Result<u16, _> =
            shared.memory.load(GuestAddress(queue.avail_ring().wrapping_add(2)), Ordering::Acquire);
        index.is_ok_and(|index| u16::from_le(index) != queue.next_avail())
    }

    fn broken(&self, error: &dyn std::fmt::Display) -> QueueError {
        QueueError::Ring { index: self.index, reason: error.to_string() }
    }
}

/// What a driver says about a queue before it makes it ready.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub(super) struct QueueSetup {
    pub(super) size: u16,
    pub(super) ready: bool,
    pub(super) descriptors: u64,
    pub(super) driver: u64,
    pub(super) device: u64,
}

impl QueueSetup {
    /// The queue as set up, if size, alignment and addresses are right.
    pub(super) fn open(
        &self,
        max: u16,
        event_idx: bool,
        position: Position,
        memory: &super::GuestMemory,
    ) -> Option<Queue> {
        let state = QueueState {
            max_size: max,
            next_avail: position.next_avail,
            next_used: position.next_used,
            event_idx_enabled: event_idx,
            size: self.size,
            ready: true,
            desc_table: self.descriptors,
            avail_ring: self.driver,
            used_ring: self.device,
        };
        Queue::try_from(state).ok().filter(|queue| queue.is_valid(memory))
    }
}
