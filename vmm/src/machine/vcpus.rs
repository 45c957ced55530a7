//! One thread for each vCPU.
//!
//! A thread either waits for commands or runs its vCPU. It runs while the vCPU is on (PSCI), the machine's gate is open and the vCPU has not
//! stopped for good. Commands are served in the order in which they came, between two runs.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{self, Receiver, Sender};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use super::board::{Board, set_current_vcpu};
use crate::engine::{Stop, Vcpu, Vm};
use crate::exit::Failure;
use crate::sandbox::Sandbox;

/// What a vCPU thread can be told.
pub enum Command {
    /// PSCI CPU_ON: start at a physical address with a value in X0.
    Start {
        /// The address.
        entry: u64,
        /// X0.
        context: u64,
    },
    /// Look at or change the vCPU.
    Visit(Box<dyn FnOnce(&mut Seat) + Send>),
    /// Look at the gate again.
    Wake,
    /// End the thread.
    Quit,
}

/// A vCPU on its thread, with what decides whether it runs.
pub struct Seat {
    /// The vCPU.
    pub vcpu: Box<dyn Vcpu>,
    /// On or off in the sense of PSCI.
    pub on: bool,
    /// It stopped for a reason that ends or resets the machine.
    pub stopped: bool,
}

/// A vCPU stopped for a reason that the machine has to deal with.
#[derive(Debug)]
pub struct Stopped {
    /// Which one.
    pub vcpu: usize,
    /// Why.
    pub stop: Stop,
}

/// Receives [`Stopped`] from the vCPU threads.
pub type StopSink = Arc<dyn Fn(Stopped) + Send + Sync>;

/// All vCPU threads of a machine.
pub struct Vcpus {
    senders: Vec<Sender<Command>>,
    threads: Vec<JoinHandle<()>>,
    /// Closed: no vCPU runs.
    gate_closed: Arc<AtomicBool>,
    vm: Arc<dyn Vm>,
}

impl Vcpus {
    /// Starts the threads; the gate is closed.
    pub fn spawn(
        vm: &Arc<dyn Vm>,
        board: &Arc<Board>,
        count: usize,
        sandbox: Option<&Sandbox>,
        stops: &StopSink,
    ) -> Result<Vcpus, Failure> {
        let gate_closed = Arc::new(AtomicBool::new(true));
        let mut vcpus = Vcpus { senders: Vec::new(), threads: Vec::new(), gate_closed, vm: Arc::clone(vm) };
        for index in 0..count {
            let (sender, commands) = mpsc::channel();
            let (ready, made) = mpsc::channel();
            let worker = Worker {
                index,
                vm: Arc::clone(vm),
                board: Arc::clone(board),
                gate_closed: Arc::clone(&vcpus.gate_closed),
                stops: Arc::clone(stops),
                sandbox: sandbox.cloned(),
            };
            let thread = thread::Builder::new()
                .name(format!("vcpu{index}"))
                .spawn(move || worker.start(&commands, &ready))
                .map_err(|e| Failure::backend(format!("no thread for vCPU {index}: {e}; use fewer --cpus")))?;
            made.recv().map_err(|_| Failure::internal(format!("vCPU {index} died at its start")))??;
            vcpus.senders.push(sender);
            vcpus.threads.push(thread);
        }
        Ok(vcpus)
    }

    /// The threads' command queues.
    pub fn senders(&self) -> Vec<Sender<Command>> {
        self.senders.clone()
    }

    /// Number of vCPUs.
    pub fn count(&self) -> usize {
        self.senders.len()
    }

    /// Closes the gate and waits until no vCPU runs; gives the vCPUs that did not stop in time.
    pub fn pause(&self, limit: Duration) -> Vec<usize> {
        self.gate_closed.store(true, Ordering::SeqCst);
        let replies = self.visit_all(|_, _| ());
        let deadline = Instant::now() + limit;
        let mut late = Vec::new();
        for (index, reply) in replies.into_iter().enumerate() {
            let left = deadline.saturating_duration_since(Instant::now());
            if reply.recv_timeout(left).is_err() {
                late.push(index);
            }
        }
        late
    }

    /// Opens the gate.
    pub fn resume(&self) {
        self.gate_closed.store(false, Ordering::SeqCst);
        for sender in &self.senders {
            let _ = sender.send(Command::Wake);
        }
    }

    /// True while the gate is closed.
    pub fn is_paused(&self) -> bool {
        self.gate_closed.load(Ordering::SeqCst)
    }

    /// Calls `visit` on every vCPU's thread, without waiting. Running vCPUs are interrupted for it.
    fn visit_all<T: Send + 'static>(
        &self,
        visit: impl Fn(usize, &mut Seat) -> T + Send + Sync + 'static,
    ) -> Vec<Receiver<T>> {
        let visit = Arc::new(visit);
        let mut replies = Vec::new();
        for (index, sender) in self.senders.iter().enumerate() {
            let (reply, result) = mpsc::channel();
            let visit = Arc::clone(&visit);
            let command = Command::Visit(Box::new(move |seat| drop(reply.send(visit(index, seat)))));
            let _ = sender.send(command);
            self.vm.request_pause(index);
            replies.push(result);
        }
        replies
    }

    /// Calls `visit` on every vCPU's thread and collects the answers; `None` for one that did not answer within 2 s.
    pub fn each<T: Send + 'static>(
        &self,
        visit: impl Fn(usize, &mut Seat) -> T + Send + Sync + 'static,
    ) -> Vec<Option<T>> {
        let deadline = Instant::now() + Duration::from_secs(2);
        let wait = |reply: Receiver<T>| reply.recv_timeout(deadline.saturating_duration_since(Instant::now())).ok();
        self.visit_all(visit).into_iter().map(wait).collect()
    }
}

impl Drop for Vcpus {
    fn drop(&mut self) {
        self.gate_closed.store(true, Ordering::SeqCst);
        for (index, sender) in self.senders.iter().enumerate() {
            let _ = sender.send(Command::Quit);
            self.vm.request_pause(index);
        }
        let deadline = Instant::now() + Duration::from_secs(2);
        for thread in self.threads.drain(..) {
            // One that hangs must not keep the program from ending.
            while !thread.is_finished() && Instant::now() < deadline {
                thread::sleep(Duration::from_millis(1));
            }
            if thread.is_finished() {
                let _ = thread.join();
            }
        }
    }
}

/// What a vCPU thread knows.
struct Worker {
    index: usize,
    vm: Arc<dyn Vm>,
    board: Arc<Board>,
    gate_closed: Arc<AtomicBool>,
    stops: StopSink,
    sandbox: Option<Sandbox>,
}

impl Worker {
    fn start(self, commands: &Receiver<Command>, ready: &Sender<Result<(), Failure>>) {
        set_current_vcpu(self.index);
        let outside = Arc::clone(&self.board) as Arc<dyn cpu::Outside>;
        let vcpu = self.vm.create_vcpu(self.index, outside);
        // What is made at the start is there: from here on the guest may be in charge.
        let entered = self.sandbox.as_ref().map_or(Ok(()), Sandbox::enter);
        match entered.and(vcpu) {
            Err(failure) => drop(ready.send(Err(failure))),
            Ok(vcpu) => {
                if ready.send(Ok(())).is_ok() {
                    self.serve(commands, Seat { vcpu, on: false, stopped: false });
                }
            }
        }
    }

    fn serve(&self, commands: &Receiver<Command>, mut seat: Seat) {
        loop {
            let runs = seat.on && !seat.stopped && !self.gate_closed.load(Ordering::SeqCst);
            let command = if runs {
                match commands.try_recv() {
                    Ok(command) => Some(command),
                    Err(mpsc::TryRecvError::Empty) => None,
                    Err(mpsc::TryRecvError::Disconnected) => return,
                }
            } else {
                match commands.recv() {
                    Ok(command) => Some(command),
                    Err(_) => return,
                }
            };
            match command {
                Some(Command::Quit) => return,
                Some(Command::Wake) => {}
                Some(Command::Visit(visit)) => visit(&mut seat),
                Some(Command::Start { entry, context }) => {
                    seat.vcpu.reset(entry, [context, 0, 0, 0]);
                    seat.on = true;
                    self.board.psci.started(self.index);
                }
                None => self.run(&mut seat),
            }
        }
    }

    fn run(&self, seat: &mut Seat) {
        match seat.vcpu.run() {
            Stop::Paused | Stop::Budget => {}
            Stop::CpuOff => seat.on = false,
            stop @ (Stop::Shutdown | Stop::Reset | Stop::Debug(_) | Stop::Internal(_)) => {
                seat.stopped = true;
                (self.stops)(Stopped { vcpu: self.index, stop });
            }
        }
    }
}
