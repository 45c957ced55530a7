//! Bytes on their way from the host to the guest's UART.

use std::collections::VecDeque;
use std::io;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::Duration;

/// Input beyond this waits in the host (a pipe) or is lost (a terminal: the keys must keep working).
const CAPACITY: usize = 64 << 10;
/// How long the feeder waits at most for the UART to ask for more: a guest that has just opened the device may not have been offered anything yet.
const LONGEST_WAIT: Duration = Duration::from_millis(100);

/// The receiving end of a serial line.
pub trait SerialInput: Send + Sync {
    /// Takes as many bytes as fit into the receive FIFO and says how many that were.
    fn receive(&self, bytes: &[u8]) -> usize;
    /// The line is held at 0 for longer than a character.
    fn send_break(&self);
}

/// What to do with bytes that do not fit.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum WhenFull {
    /// Wait for room.
    Wait,
    /// Drop them.
    Drop,
}

enum Element {
    Byte(u8),
    Break,
}

#[derive(Default)]
struct State {
    queued: VecDeque<Element>,
    closed: bool,
    /// The UART has room again.
    wanted: bool,
}

/// Bytes and breaks in the order in which they came.
#[derive(Default)]
pub struct InputQueue {
    state: Mutex<State>,
    filled: Condvar,
    drained: Condvar,
    wanted: Condvar,
}

impl InputQueue {
    /// An empty queue.
    pub fn new() -> Arc<InputQueue> {
        Arc::new(InputQueue::default())
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Queues bytes for the guest.
    pub fn push(&self, bytes: &[u8], when_full: WhenFull) {
        let mut state = self.lock();
        for &byte in bytes {
            while state.queued.len() >= CAPACITY && when_full == WhenFull::Wait && !state.closed {
                self.filled.notify_one();
                state = self.drained.wait(state).unwrap_or_else(PoisonError::into_inner);
            }
            if state.queued.len() >= CAPACITY || state.closed {
                return;
            }
            state.queued.push_back(Element::Byte(byte));
        }
        drop(state);
        self.filled.notify_one();
    }

    /// Queues a BREAK.
    pub fn push_break(&self) {
        let mut state = self.lock();
        if state.queued.len() < CAPACITY {
            state.queued.push_back(Element::Break);
        }
        drop(state);
        self.filled.notify_one();
    }

    /// Forgets what is queued (the machine was reset).
    pub fn clear(&self) {
        self.lock().queued.clear();
        self.drained.notify_all();
    }

    /// The UART takes characters again, after it took fewer than were offered.
    pub fn wanted(&self) {
        self.lock().wanted = true;
        self.wanted.notify_all();
    }

    fn wait_until_wanted(&self) {
        let state = self.lock();
        let waited = self.wanted.wait_timeout_while(state, LONGEST_WAIT, |state| !state.wanted && !state.closed);
        waited.unwrap_or_else(PoisonError::into_inner).0.wanted = false;
    }

    /// Ends the feeder and frees whoever waits.
    pub fn close(&self) {
        self.lock().closed = true;
        self.filled.notify_all();
        self.drained.notify_all();
        self.wanted.notify_all();
    }

    /// The bytes up to the next break, at most 64, or a break; `None` once closed.
    fn wait_for_some(&self) -> Option<Vec<u8>> {
        let mut state = self.lock();
        while state.queued.is_empty() && !state.closed {
            state = self.filled.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
        if state.closed {
            return None;
        }
        Some(
            state
                .queued
                .iter()
                .take(64)
                .map_while(|e| if let Element::Byte(b) = e { Some(*b) } else { None })
                .collect(),
        )
    }

    fn consume(&self, count: usize) {
        let mut state = self.lock();
        let count = count.min(state.queued.len());
        state.queued.drain(..count);
        drop(state);
        self.drained.notify_all();
    }

    /// Starts the thread that hands the bytes to the UART at the guest's pace.
    pub fn spawn_feeder(self: &Arc<Self>, uart: Arc<dyn SerialInput>) -> io::Result<JoinHandle<()>> {
        let queue = Arc::clone(self);
        thread::Builder::new().name("console-feed".into()).spawn(move || {
            while let Some(bytes) = queue.wait_for_some() {
                if bytes.is_empty() {
                    uart.send_break();
                    queue.consume(1);
                    continue;
                }
                let taken = uart.receive(&bytes);
                queue.consume(taken);
                if taken < bytes.len() {
                    queue.wait_until_wanted();
                }
            }
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::mpsc;

    /// Takes a few bytes at a time; 0x100 stands for a break.
    struct Slow(Mutex<mpsc::Sender<u16>>, usize);
    impl SerialInput for Slow {
        fn receive(&self, bytes: &[u8]) -> usize {
            let count = bytes.len().min(self.1);
            for &byte in &bytes[..count] {
                self.0.lock().unwrap().send(u16::from(byte)).unwrap();
            }
            count
        }
        fn send_break(&self) {
            self.0.lock().unwrap().send(0x100).unwrap();
        }
    }

    #[test]
    fn bytes_and_breaks_arrive_in_order() {
        let (sender, receiver) = mpsc::channel();
        let queue = InputQueue::new();
        queue.spawn_feeder(Arc::new(Slow(Mutex::new(sender), 3))).unwrap();
        queue.push(b"hello", WhenFull::Wait);
        queue.push_break();
        queue.push(b"h", WhenFull::Wait);
        let got: Vec<u16> = (0..7).map(|_| receiver.recv_timeout(Duration::from_secs(5)).unwrap()).collect();
        assert_eq!(got, [104, 101, 108, 108, 111, 0x100, 104]);
    }

    #[test]
    fn a_full_queue_drops_or_waits() {
        let queue = InputQueue::new();
        queue.push(&vec![b'x'; CAPACITY + 10], WhenFull::Drop);
        assert_eq!(queue.lock().queued.len(), CAPACITY);
        let waiter = Arc::clone(&queue);
        let thread = thread::spawn(move || waiter.push(b"more", WhenFull::Wait));
        thread::sleep(Duration::from_millis(20));
        assert!(!thread.is_finished());
        queue.consume(100);
        thread.join().unwrap();
        assert_eq!(queue.lock().queued.len(), CAPACITY - 96);
    }
}
