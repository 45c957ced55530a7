use std::path::PathBuf;
use std::sync::Mutex;
use std::sync::mpsc::{self, Receiver};

use cpu::SmcccOutcome;
use vm_memory::{Bytes, GuestAddress};

use super::*;
use crate::console::output::Port;
use crate::engine::Stop;
use crate::engine::scripted::{Guest, Scripted};
use crate::exit::ExitStatus;
use crate::machine::vcpus::Stopped;
use crate::supervisor::{End, Event, Policy, Supervisor};
use crate::trace::TraceSpec;

const PANIC_LINE: &str = "[    1.0] Kernel panic - not syncing: test\r\n";
const SYSTEM_OFF: [u64; 4] = [0x8400_0008, 0, 0, 0];
const SYSTEM_RESET: [u64; 4] = [0x8400_0009, 0, 0, 0];

/// An arm64 Image of one page with 1 MiB of BSS.
fn kernel_file() -> PathBuf {
    static FILE: std::sync::OnceLock<PathBuf> = std::sync::OnceLock::new();
    FILE.get_or_init(|| {
        let mut image = vec![0u8; 4096];
        image[0..4].copy_from_slice(&0x1400_0400u32.to_le_bytes());
        image[16..24].copy_from_slice(&(1u64 << 20).to_le_bytes());
        image[24..32].copy_from_slice(&0xau64.to_le_bytes());
        image[56..60].copy_from_slice(b"ARM\x64");
        let path = std::env::temp_dir().join(format!("vmm-test-kernel-{}", std::process::id()));
        std::fs::write(&path, image).unwrap();
        path
    })
    .clone()
}

fn config(vcpus: usize) -> MachineConfig {
    let boot = BootSource { kernel: kernel_file(), ..BootSource::default() };
    MachineConfig {
        boot,
        vcpus,
        memory: 64 << 20,
        cpu: CpuConfig::max(),
        virtio: VirtioConfig { rng: true, ..VirtioConfig::default() },
        sandbox: true,
    }
}

struct Bench {
    machine: Machine,
    events: Receiver<Event>,
    line: SerialLine,
    printed: Arc<Mutex<Vec<u8>>>,
}

struct Collect(Arc<Mutex<Vec<u8>>>);
impl Port for Collect {
    fn write_all(&mut self, bytes: &[u8]) -> std::io::Result<()> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(())
    }
}

fn bench(vcpus: usize, script: impl Fn(&Guest<'_>) -> Stop + Send + Sync + 'static) -> Bench {
    let (sender, events) = mpsc::channel();
    let stops: StopSink = Arc::new(move |stopped| drop(sender.send(Event::Stopped(stopped))));
    let line = SerialLine::default();
    let printed = Arc::new(Mutex::new(Vec::new()));
    line.output.spawn_writer(Box::new(Collect(Arc::clone(&printed))), |_| ()).unwrap();
    let tracer = Arc::new(Tracer::open(&TraceSpec::default()).unwrap());
    let machine = Machine::new(config(vcpus), &Scripted(Arc::new(script)), &line, tracer, &stops).unwrap();
    Bench { machine, events, line, printed }
}

impl Bench {
    fn stopped(&self) -> Stopped {
        match self.events.recv_timeout(Duration::from_secs(10)).unwrap() {
            Event::Stopped(stopped) => stopped,
            other => panic!("{other:?}"),
        }
    }

    fn supervise(mut self, policy: Policy) -> End {
        let output = Arc::clone(&self.line.output);
        Supervisor::new(&mut self.machine, self.events, output, policy).run().unwrap()
    }
}

/// Executes nothing until the machine is paused.
fn idle(guest: &Guest<'_>) -> Stop {
    guest.idle()
}

/// Does what the engine does after a firmware call.
fn after(outcome: SmcccOutcome) -> Stop {
    match outcome {
        SmcccOutcome::Shutdown => Stop::Shutdown,
        SmcccOutcome::Reset => Stop::Reset,
        SmcccOutcome::CpuOff => Stop::CpuOff,
        other => Stop::Internal(format!("{other:?}")),
    }
}

#[test]
fn the_first_vcpu_starts_in_the_kernel_with_the_tree_in_x0() {
    let bench = bench(2, |guest| {
        let read = |address| guest.ram.memory().read_obj::<u32>(GuestAddress(address)).unwrap();
        let good = guest.index == 0 && read(guest.pc) == 0x1400_0400 && read(guest.x0) == 0xd00d_feed_u32.to_be();
        guest.print(if good { "good" } else { "bad" });
        after(guest.call(SYSTEM_OFF).1)
    });
    assert!(bench.machine.is_paused(), "a new machine does not run by itself");
    bench.machine.resume();
    let stopped = bench.stopped();
    assert_eq!((stopped.vcpu, stopped.stop), (0, Stop::Shutdown));
    assert!(bench.line.output.flush(Duration::from_secs(5)));
    assert_eq!(*bench.printed.lock().unwrap(), b"good");
}

#[test]
fn a_vcpu_turns_another_on_which_turns_itself_off() {
    let bench = bench(3, |guest| {
        if guest.index == 2 {
            let text = format!("started at {:#x} with {}", guest.pc, guest.x0);
            guest.print(&text);
            return after(guest.call([0x8400_0002, 0, 0, 0]).1);
        }
        assert_eq!(guest.call([0xc400_0003, 2, layout::RAM + 0x1000, 42]).0, 0);
        while guest.call([0xc400_0004, 2, 0, 0]).0 != 1 {
            std::thread::sleep(Duration::from_millis(1));
        }
        after(guest.call(SYSTEM_OFF).1)
    });
    bench.machine.resume();
    assert_eq!(bench.stopped().stop, Stop::Shutdown);
    assert!(bench.line.output.flush(Duration::from_secs(5)));
    assert_eq!(String::from_utf8(bench.printed.lock().unwrap().clone()).unwrap(), "started at 0x40001000 with 42");
}

#[test]
fn reset_gives_the_same_machine_again() {
    let mut bench = bench(2, |guest| {
        guest.call([0xc400_0003, 1, layout::RAM, 0]);
        guest.idle()
    });
    let at = GuestAddress(layout::RAM);
    let dirty = GuestAddress(layout::RAM + (60 << 20));
    bench.machine.resume();
    bench.machine.pause().unwrap();
    bench.machine.ram.memory().write_obj(7u64, dirty).unwrap();
    bench.machine.ram.memory().write_obj(7u64, at).unwrap();
    bench.machine.reset().unwrap();
    assert_eq!(bench.machine.ram.memory().read_obj::<u64>(dirty).unwrap(), 0);
    assert_eq!(bench.machine.ram.memory().read_obj::<u32>(at).unwrap(), 0x1400_0400);
    assert_eq!(bench.machine.board.psci.states(), [psci::Power::On, psci::Power::Off]);
    assert!(bench.machine.is_paused());
}

#[test]
fn a_panic_ends_with_250_and_a_program_that_prints_it_with_0() {
    let kernel = bench(1, |guest| {
        guest.run_user_code();
        guest.print(PANIC_LINE);
        guest.print("[    1.1] more of the report\r\n");
        after(guest.call(SYSTEM_RESET).1)
    });
    assert_eq!(kernel.supervise(Policy::default()).status, ExitStatus::GuestPanic);
    let program = bench(1, |guest| {
        guest.print(PANIC_LINE);
        guest.run_user_code();
        after(guest.call(SYSTEM_OFF).1)
    });
    let end = program.supervise(Policy::default());
    assert_eq!((end.status, end.reason), (ExitStatus::Success, "poweroff"));
}

#[test]
fn reboot_restarts_or_ends() {
    let script = |guest: &Guest<'_>| {
        guest.print("boot\r\n");
        after(guest.call(SYSTEM_RESET).1)
    };
    let end = bench(1, script).supervise(Policy { no_reboot: true, ..Policy::default() });
    assert_eq!((end.status, end.reason), (ExitStatus::Success, "reboot"));
    let restarts = Arc::new(std::sync::atomic::AtomicU32::new(0));
    let count = Arc::clone(&restarts);
    let end = bench(2, move |guest| {
        let reset = count.fetch_add(1, std::sync::atomic::Ordering::SeqCst) < 3;
        after(guest.call(if reset { SYSTEM_RESET } else { SYSTEM_OFF }).1)
    })
    .supervise(Policy::default());
    assert_eq!(end.reason, "poweroff");
    assert_eq!(restarts.load(std::sync::atomic::Ordering::SeqCst), 4);
}

#[test]
fn the_time_limit_ends_with_124() {
    let end = bench(1, idle).supervise(Policy { timeout: Some(Duration::from_millis(50)), ..Policy::default() });
    assert_eq!(end.status, ExitStatus::Timeout);
}

#[test]
fn the_hang_report_shows_vcpus_and_lets_the_machine_go_on() {
    let bench = bench(2, |guest| {
        guest.run_user_code();
        guest.idle()
    });
    bench.machine.resume();
    let report = bench.machine.hang_report();
    assert!(
        report.contains("vCPU 0 (On)")
            && report.contains("vCPU 1 (Off)")
            && report.contains("GICv3")
            && report.contains("pl011"),
        "{report}"
    );
    assert!(!bench.machine.is_paused());
    let before = bench.machine.vm.returns_to_el0();
    std::thread::sleep(Duration::from_millis(50));
    assert!(bench.machine.vm.returns_to_el0()[0] >= before[0]);
}

#[test]
fn a_saved_machine_goes_on_elsewhere() {
    let saved = {
        let bench = bench(2, idle);
        bench.machine.resume();
        bench.machine.pause().unwrap();
        bench.machine.ram.memory().write_obj(0x1234u64, GuestAddress(layout::RAM + (33 << 20))).unwrap();
        bench.machine.clock.set_counter(1 << 40);
        let mut out = Vec::new();
        bench.machine.save(&mut out).unwrap();
        out
    };
    assert!(saved.len() < 4 << 20, "zeros are left out: {}", saved.len());
    let mut other = bench(2, idle);
    other.machine.load(&saved[..]).unwrap();
    assert_eq!(other.machine.ram.memory().read_obj::<u64>(GuestAddress(layout::RAM + (33 << 20))).unwrap(), 0x1234);
    assert_eq!(other.machine.clock.counter(), 1 << 40);
    let mut again = Vec::new();
    other.machine.save(&mut again).unwrap();
    let words = |bytes: &[u8]| bytes.len();
    assert_eq!(words(&again), words(&saved));
    // Another shape is refused with both shapes in the message.
    let mut small = bench(1, idle);
    let error = small.machine.load(&saved[..]).unwrap_err();
    assert!(error.message.contains("vcpus: 2") && error.message.contains("vcpus: 1"), "{error}");
    let error = other.machine.load(&saved[..saved.len() - 40]).unwrap_err();
    assert_eq!(error.status, ExitStatus::Usage);
}

#[test]
fn impossible_machines_are_refused_with_the_option_that_fixes_it() {
    let check = |vcpus, memory| MachineConfig { memory, ..config(vcpus) }.check();
    assert!(check(1, 64 << 20).is_ok());
    assert!(check(65, 64 << 20).unwrap_err().message.contains("--cpus"));
    assert!(check(1, 1 << 20).unwrap_err().message.contains("--memory"));
    assert!(check(1, 300 << 30).unwrap_err().message.contains("255G"));
    assert!(check(1, (64 << 20) + 4096).unwrap_err().message.contains("66M"));
}
