//! Transfers by io_uring: many under way with one system call for all that are begun together.
#![expect(unsafe_code, reason = "the kernel is given addresses of buffers that must stay until it is done with them")]

use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::sync::Arc;
use std::time::Duration;

use io_uring::{IoUring, opcode, types};
use rustix::event::{EventfdFlags, eventfd};

use super::ticket::{Op, Ticket};
use crate::disk::Disk;
use crate::virtio::queue::ActiveQueue;

/// Most transfers under way.
pub(super) const DEPTH: usize = 128;
/// `user_data` of the poll of the doorbell's event.
const EVENT: u64 = u64::MAX;
/// `RWF_DSYNC`: a write is permanent when it is done.
const DSYNC: i32 = libc::RWF_DSYNC;

/// A ring with its tickets.
///
/// Invariant: a ticket whose entry is in the ring stays in `tickets`, and its buffer, which is on the heap, is neither moved nor
/// touched, until the kernel's answer to it has been taken; `drop` waits for all answers.
pub(super) struct Ring {
    ring: IoUring,
    disk: Arc<dyn Disk>,
    /// Those that the kernel has, by `user_data`.
    tickets: Vec<Option<Ticket>>,
    vacant: Vec<usize>,
    /// Entries that the kernel has not been told of.
    queued: bool,
    /// Written to by a doorbell while the worker sleeps in the ring.
    event: Arc<OwnedFd>,
    /// The event is polled.
    armed: bool,
}

impl Ring {
    /// None if the host gives no ring.
    pub(super) fn new(disk: Arc<dyn Disk>) -> Option<Ring> {
        let ring = IoUring::new(2 * DEPTH as u32).ok()?;
        let mut probe = io_uring::Probe::new();
        ring.submitter().register_probe(&mut probe).ok()?;
        let needed = [opcode::Read::CODE, opcode::Write::CODE, opcode::Fsync::CODE, opcode::PollAdd::CODE];
        if !needed.iter().all(|&code| probe.is_supported(code)) {
            return None;
        }
        let event = eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK).ok()?;
        Some(Ring {
            ring,
            disk,
            tickets: (0..DEPTH).map(|_| None).collect(),
            vacant: (0..DEPTH).collect(),
            queued: false,
            event: Arc::new(event),
            armed: false,
        })
    }

    pub(super) fn in_flight(&self) -> usize {
        DEPTH - self.vacant.len()
    }

    /// Puts a transfer into the ring. Given back if there is no place, or if it does not go to a file.
    pub(super) fn begin(&mut self, mut ticket: Ticket) -> Result<(), Ticket> {
        let (offset, len, op) = (ticket.offset, ticket.len as u32, ticket.op); // at most MAX_BUFFER
        let Some(file) = self.disk.descriptor(offset, ticket.bytes()).map(|fd| types::Fd(fd.as_raw_fd())) else {
            return Err(ticket);
        };
        let Some(place) = self.vacant.pop() else { return Err(ticket) };
        let bytes = ticket.bytes().as_mut_ptr();
        let entry = match op {
            Op::Read => opcode::Read::new(file, bytes, len).offset(offset).build(),
            Op::Write { durable } => {
                let flags = if durable { DSYNC } else { 0 };
                opcode::Write::new(file, bytes, len).offset(offset).rw_flags(flags).build()
            }
            Op::Flush => opcode::Fsync::new(file).flags(types::FsyncFlags::DATASYNC).build(),
        };
        if let Some(slot) = self.tickets.get_mut(place) {
            *slot = Some(ticket);
        }
        self.push(entry.user_data(place as u64));
        Ok(())
    }

    fn push(&mut self, entry: io_uring::squeue::Entry) {
        loop {
            // SAFETY: the buffer belongs to a ticket that stays in `tickets` until the answer is taken (the type's
            // invariant), the descriptor to the disk, which this ring keeps alive, or to `event`.
            if unsafe { self.ring.submission().push(&entry) }.is_ok() {
                self.queued = true;
                return;
            }
            // There are more entries than tickets: it is full only of what the kernel has not been told of.
            self.submit();
        }
    }

    pub(super) fn submit(&mut self) {
        if self.queued {
            self.enter(0);
        }
    }

    /// Tells the kernel, and waits for `want` answers.
    fn enter(&mut self, want: usize) {
        loop {
            match self.ring.submit_and_wait(want) {
                Ok(_) => break,
                // Answers have to be taken first, or a signal came.
                Err(error) if matches!(error.raw_os_error(), Some(libc::EBUSY | libc::EAGAIN)) => {
                    std::thread::yield_now()
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                // Nothing else is documented to happen; the entries stay in the ring.
                Err(_) => return,
            }
        }
        self.queued = false;
    }

    /// Tells the kernel, and waits for an answer for no longer than `most`. True if there is one, or this kernel knows no limit.
    fn doze(&mut self, most: Duration) -> bool {
        if !self.ring.params().is_feature_ext_arg() {
            self.enter(1);
            return true;
        }
        let limit = types::Timespec::from(most);
        // What goes wrong here goes wrong again where it is looked at.
        let _ = self.ring.submitter().submit_with_args(1, &types::SubmitArgs::new().timespec(&limit));
        self.has_done()
    }

    /// Whether there is an answer.
    pub(super) fn has_done(&mut self) -> bool {
        !self.ring.completion().is_empty()
    }

    /// Takes one answer.
    pub(super) fn take_done(&mut self) -> Option<Ticket> {
        loop {
            let answer = self.ring.completion().next()?;
            if answer.user_data() == EVENT {
                self.armed = false;
                // The count does not matter, only that it is zero again.
                let _ = rustix::io::read(&*self.event, &mut [0u8; 8]);
                continue;
            }
            let place = answer.user_data() as usize;
            let Some(mut ticket) = self.tickets.get_mut(place).and_then(Option::take) else { continue };
            self.vacant.push(place);
            self.finish(&mut ticket, answer.result());
            return Some(ticket);
        }
    }

    fn finish(&self, ticket: &mut Ticket, result: i32) {
        let whole = if ticket.op == Op::Flush { 0 } else { ticket.len };
        match usize::try_from(result) {
            Ok(count) if count == whole => ticket.result = Ok(()),
            // Cut short, or the host was busy: once more in the plain way, which knows what to do.
            Ok(_) => ticket.perform(&*self.disk),
            Err(_) if matches!(-result, libc::EAGAIN | libc::EINTR | libc::EOPNOTSUPP | libc::EINVAL) => {
                ticket.perform(&*self.disk);
            }
            Err(_) => ticket.result = Err(io::Error::from_raw_os_error(-result)),
        }
    }

    /// Sleeps until there is an answer or the doorbell is rung.
    pub(super) fn wait(&mut self, queue: &ActiveQueue<'_>) {
        if !self.armed {
            if let Some(event) = queue.kernel_event() {
                self.event = Arc::clone(event);
            }
            let poll = opcode::PollAdd::new(types::Fd(self.event.as_raw_fd()), libc::POLLIN as u32);
            self.push(poll.build().user_data(EVENT));
            self.armed = true;
        }
        if queue.begin_wait(&self.event) {
            if !queue.nap(|most| self.doze(most)) {
                self.enter(1);
            }
            queue.end_wait();
        } else {
            self.submit();
        }
    }
}

impl Drop for Ring {
    fn drop(&mut self) {
        while self.in_flight() > 0 {
            self.enter(1);
            while self.take_done().is_some() {}
        }
    }
}
