//! Bytes on their way from the guest to the host: a bounded queue between vCPU threads and one writer thread.

use std::io;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

/// A vCPU that prints faster than the host takes it waits when this many bytes are queued.
const CAPACITY: usize = 256 << 10;

/// Where the writer thread puts the bytes.
pub trait Port: Send {
    /// Writes all of `bytes`, waiting as long as it takes.
    fn write_all(&mut self, bytes: &[u8]) -> io::Result<()>;
}

#[derive(Default)]
struct State {
    queued: Vec<u8>,
    /// The writer holds bytes that it has not yet written.
    writing: bool,
    /// The writer waits for bytes: nobody else is told of them. A guest prints byte by byte, and each call of the host costs more than the byte.
    waiting: bool,
    /// How many wait for bytes to leave.
    draining: usize,
    /// No more output is wanted: writers must not wait.
    closed: bool,
}

/// The queue itself.
#[derive(Default)]
pub struct OutputQueue {
    state: Mutex<State>,
    /// Signalled when bytes arrive or the queue closes.
    filled: Condvar,
    /// Signalled when bytes have left.
    drained: Condvar,
}

impl OutputQueue {
    /// An empty queue.
    pub fn new() -> Arc<OutputQueue> {
        Arc::new(OutputQueue::default())
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // Every update of the state is complete before a panic could happen.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Queues bytes; waits while the queue is full and open. Bytes for a closed queue are dropped.
    pub fn push(&self, bytes: &[u8]) {
        let mut state = self.lock();
        while state.queued.len() >= CAPACITY && !state.closed {
            state.draining += 1;
            state = self.drained.wait(state).unwrap_or_else(PoisonError::into_inner);
            state.draining -= 1;
        }
        if state.closed {
            return;
        }
        state.queued.extend_from_slice(bytes);
        let wake = std::mem::take(&mut state.waiting);
        drop(state);
        if wake {
            self.filled.notify_one();
        }
    }

    /// Waits until all that was queued is written, at most for `limit`; false when the time ran out.
    pub fn flush(&self, limit: Duration) -> bool {
        let deadline = Instant::now() + limit;
        let mut state = self.lock();
        while (state.writing || !state.queued.is_empty()) && !state.closed {
            let Some(left) = deadline.checked_duration_since(Instant::now()) else { return false };
            state.draining += 1;
            state = self.drained.wait_timeout(state, left).unwrap_or_else(PoisonError::into_inner).0;
            state.draining -= 1;
        }
        state.queued.is_empty()
    }

    /// Lets every waiting vCPU go; what is queued is dropped.
    pub fn close(&self) {
        let mut state = self.lock();
        state.closed = true;
        state.queued.clear();
        drop(state);
        self.filled.notify_all();
        self.drained.notify_all();
    }

    /// Takes what is queued, waiting for it; `None` once closed.
    fn take(&self) -> Option<Vec<u8>> {
        let mut state = self.lock();
        loop {
            if state.closed {
                return None;
            }
            if !state.queued.is_empty() {
                state.writing = true;
                return Some(std::mem::take(&mut state.queued));
            }
            state.waiting = true;
            state = self.filled.wait(state).unwrap_or_else(PoisonError::into_inner);
            state.waiting = false;
        }
    }

    fn written(&self) {
        let mut state = self.lock();
        state.writing = false;
        let wake = state.draining != 0;
        drop(state);
        if wake {
            self.drained.notify_all();
        }
    }

    /// Starts the writer thread. When the port fails, the queue closes and `on_error` is told why.
    pub fn spawn_writer(
        self: &Arc<Self>,
        mut port: Box<dyn Port>,
        on_error: impl FnOnce(io::Error) + Send + 'static,
    ) -> io::Result<JoinHandle<()>> {
        let queue = Arc::clone(self);
        thread::Builder::new().name("console-out".into()).spawn(move || {
            while let Some(bytes) = queue.take() {
                let result = port.write_all(&bytes);
                queue.written();
                if let Err(error) = result {
                    queue.close();
                    on_error(error);
                    return;
                }
            }
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::mpsc;

    struct Collect(Arc<Mutex<Vec<u8>>>, Duration);
    impl Port for Collect {
        fn write_all(&mut self, bytes: &[u8]) -> io::Result<()> {
            thread::sleep(self.1);
            self.0.lock().unwrap().extend_from_slice(bytes);
            Ok(())
        }
    }

    #[test]
    fn nothing_is_lost_when_the_port_is_slow() {
        let out = Arc::new(Mutex::new(Vec::new()));
        let queue = OutputQueue::new();
        queue.spawn_writer(Box::new(Collect(Arc::clone(&out), Duration::from_millis(1))), |_| ()).unwrap();
        let mut expected = Vec::new();
        for i in 0..2000u32 {
            let line = format!("line {i} {}\n", "x".repeat(300));
            expected.extend_from_slice(line.as_bytes());
            queue.push(line.as_bytes());
        }
        assert!(queue.flush(Duration::from_secs(20)));
        assert_eq!(*out.lock().unwrap(), expected);
    }

    #[test]
    fn closing_frees_a_waiting_writer() {
        let queue = OutputQueue::new(); // nobody drains it
        let (sender, receiver) = mpsc::channel();
        let pusher = Arc::clone(&queue);
        thread::spawn(move || {
            for _ in 0..3 {
                pusher.push(&vec![0; CAPACITY]);
            }
            sender.send(()).unwrap();
        });
        assert!(receiver.recv_timeout(Duration::from_millis(50)).is_err(), "the queue must hold the writer back");
        assert!(!queue.flush(Duration::from_millis(10)));
        queue.close();
        receiver.recv_timeout(Duration::from_secs(5)).unwrap();
    }

    #[test]
    fn a_failing_port_is_reported_and_does_not_hold_anybody() {
        struct Broken;
        impl Port for Broken {
            fn write_all(&mut self, _: &[u8]) -> io::Result<()> {
                Err(io::ErrorKind::BrokenPipe.into())
            }
        }
        let queue = OutputQueue::new();
        let (sender, receiver) = mpsc::channel();
        queue.spawn_writer(Box::new(Broken), move |error| sender.send(error.kind()).unwrap()).unwrap();
        queue.push(b"x");
        assert_eq!(receiver.recv_timeout(Duration::from_secs(5)).unwrap(), io::ErrorKind::BrokenPipe);
        for _ in 0..10 {
            queue.push(&vec![0; CAPACITY]);
        }
    }
}
