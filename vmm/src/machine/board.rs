//! The board: devices at their addresses, the interrupt controller, firmware calls. It is what the vCPUs see of the machine.

use std::cell::Cell;
use std::sync::mpsc::Sender;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, OnceLock, PoisonError, Weak};
use std::thread;
use std::time::Duration;

use cpu::{BusFault, Clock, Conduit, Outside, SmcccOutcome, TraceEvent};
use devices::pl011::{CharSink, Pl011};
use devices::pl031::{Pl031, WallClock};
use devices::pl061::Pl061;
use devices::pvpanic::{PanicEvent, Pvpanic};
use devices::virtio::VirtioBalloon;
use devices::{Bus, CpuInterfaceSink, Gic, MmioDevice};

use super::boot::fill_random;
use super::interrupts::{Emulated, InterruptController, Window};
use super::layout;
use super::psci::{self, Outcome, Psci};
use super::ram::GuestRam;
use super::stolen_time::{Still, StolenTime};
use super::vcpus::Command;
use super::virtio::{FullDisks, Transport, VirtioConfig};
use crate::console::SerialLine;
use crate::console::input::SerialInput;
use crate::engine::Vm;
use crate::exit::Failure;
use crate::panic_watch::PanicWatch;
use crate::trace::{Category, Tracer};

thread_local! {
    /// The vCPU that this thread runs; devices' callbacks ask for it.
    static CURRENT_VCPU: Cell<usize> = const { Cell::new(0) };
}

/// Tells the callbacks on this thread which vCPU it runs.
pub fn set_current_vcpu(vcpu: usize) {
    CURRENT_VCPU.with(|current| current.set(vcpu));
}

/// Everything behind the vCPUs.
pub struct Board {
    /// The devices by address.
    pub bus: Bus,
    /// The interrupt controller.
    pub interrupts: Arc<dyn InterruptController>,
    /// The emulated one, for emulated processing elements; idle if the kernel has its own.
    gic: Arc<Gic>,
    /// The serial port.
    pub uart: Arc<Pl011>,
    /// Holds the power button.
    pub gpio: Arc<Pl061>,
    /// Firmware calls.
    pub psci: Psci,
    /// Looks for a guest panic.
    pub watch: Arc<Mutex<PanicWatch>>,
    /// Hears of disks for which the host has no room.
    pub full_disks: Arc<FullDisks>,
    /// Memory that the guest gives back.
    pub balloon: Option<Arc<VirtioBalloon>>,
    tracer: Arc<Tracer>,
    vm: Arc<dyn Vm>,
    ram: std::ops::Range<u64>,
    /// The vCPU threads, once they exist.
    threads: OnceLock<Vec<Sender<Command>>>,
}

fn lock(watch: &Mutex<PanicWatch>) -> MutexGuard<'_, PanicWatch> {
    watch.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Board {
    /// Puts the devices on the bus.
    pub fn new(
        vm: &Arc<dyn Vm>,
        clock: &Arc<Clock>,
        vcpus: usize,
        ram: &GuestRam,
        virtio: &VirtioConfig,
        line: &SerialLine,
        tracer: Arc<Tracer>,
    ) -> Result<Board, Failure> {
        let defect = |e: &dyn std::fmt::Display| Failure::internal(format!("the board cannot be built: {e}"));
        let lpis = virtio.transport == Transport::Pci;
        let emulated = Emulated::new(vcpus, lpis, Arc::new(Publisher(Arc::clone(vm))), ram)?;
        let gic = Arc::clone(emulated.gic());
        let interrupts = vm.interrupt_controller().unwrap_or_else(|| Arc::new(emulated));
        let watch = Arc::new(Mutex::new(PanicWatch::default()));
        let sink = UartSink { line: line.clone(), watch: Arc::clone(&watch), vm: Arc::clone(vm) };
        let uart = Pl011::new(interrupts.spi_line(layout::UART_SPI), Arc::new(sink));
        let alarm = Arc::new(Alarm { clock: Arc::clone(clock), due: Mutex::new(None), changed: Condvar::new() });
        let rtc = Pl031::new(interrupts.spi_line(layout::RTC_SPI), Arc::clone(&alarm) as Arc<dyn WallClock>);
        spawn_alarm(&alarm, Arc::downgrade(&rtc))?;
        let gpio = Pl061::new(interrupts.spi_line(layout::GPIO_SPI));
        let reported = Arc::clone(&watch);
        let pvpanic = Pvpanic::new(Arc::new(move |event| {
            if event == PanicEvent::Panicked {
                lock(&reported).report();
            }
        }));
        let mut bus = Bus::new();
        let records = vm.stolen_time().unwrap_or_else(|| Arc::new(Still::new(vcpus)));
        let devices: [Window; 5] = [
            (layout::UART, layout::PAGE, Arc::clone(&uart) as Arc<dyn MmioDevice>),
            (layout::RTC, layout::PAGE, rtc),
            (layout::GPIO, layout::PAGE, Arc::clone(&gpio) as Arc<dyn MmioDevice>),
            (layout::PVPANIC, layout::PAGE, pvpanic),
            (layout::PVTIME, layout::PVTIME_LEN, StolenTime::new(vcpus, records)),
        ];
        for (base, length, device) in interrupts.windows().into_iter().chain(devices) {
            bus.insert(base, length, device).map_err(|e| defect(&e))?;
        }
        let full_disks = Arc::new(FullDisks::default());
        let balloon = virtio.build(&mut bus, &*interrupts, ram, &full_disks)?;
        let psci = Psci::new(vcpus);
        let ram = ram.range();
        let (vm, threads) = (Arc::clone(vm), OnceLock::new());
        Ok(Board { bus, interrupts, gic, uart, gpio, psci, watch, full_disks, balloon, tracer, vm, ram, threads })
    }

    /// The vCPU threads exist now.
    pub fn connect(&self, threads: Vec<Sender<Command>>) {
        // Connected once, by the machine's constructor.
        let _ = self.threads.set(threads);
    }

    /// True if `vcpu`'s reset or power-off, which just happened, is the end of a kernel panic.
    pub fn ended_in_panic(&self, vcpu: usize) -> bool {
        let returns = self.vm.returns_to_el0();
        lock(&self.watch).is_panic(vcpu, &returns)
    }

    /// All devices, firmware state and watchers as at power-on. No vCPU may run.
    pub fn reset(&self) {
        self.bus.reset();
        self.psci.reset();
        lock(&self.watch).reset();
    }

    /// Presses the power button and lets it go 200 ms later.
    pub fn press_power_button(&self) {
        self.gpio.press_power_button();
        let gpio = Arc::downgrade(&self.gpio);
        let release = move || {
            thread::sleep(Duration::from_millis(200));
            if let Some(gpio) = gpio.upgrade() {
                gpio.release_power_button();
            }
        };
        if thread::Builder::new().name("power-button".into()).spawn(release).is_err() {
            self.gpio.release_power_button();
        }
    }
}

impl Outside for Board {
    fn mmio_read(&self, vcpu: usize, pa: u64, size: u8) -> Result<u64, BusFault> {
        let _ = vcpu;
        self.bus.read(pa, size).map_err(|_| BusFault)
    }

    fn mmio_write(&self, vcpu: usize, pa: u64, size: u8, value: u64) -> Result<(), BusFault> {
        let _ = vcpu;
        self.bus.write(pa, size, value).map_err(|_| BusFault)
    }

    fn gic_acknowledge(&self, vcpu: usize, intid: u32) -> bool {
        self.gic.acknowledge(vcpu, intid)
    }

    fn gic_deactivate(&self, vcpu: usize, intid: u32) {
        if self.tracer.wants(Category::Irq) {
            self.tracer.log(Category::Irq, vcpu, &format!("deactivate {intid}"));
        }
        self.gic.deactivate(vcpu, intid);
    }

    fn gic_send_sgi(&self, vcpu: usize, sgir: u64, group: cpu::SgiGroup) {
        if self.tracer.wants(Category::Irq) {
            self.tracer.log(Category::Irq, vcpu, &format!("send SGI {} to {sgir:#x}", sgir >> 24 & 0xf));
        }
        let group = match group {
            cpu::SgiGroup::Group0 => devices::SgiGroup::Group0,
            cpu::SgiGroup::Group1 => devices::SgiGroup::Group1,
        };
        self.gic.send_sgi(vcpu, sgir, group);
    }

    fn gic_set_ppi(&self, vcpu: usize, intid: u32, level: bool) {
        self.gic.set_ppi(vcpu, intid, level);
    }

    fn before_sleep(&self, _vcpu: usize) {
        devices::virtio::before_sleep();
    }

    fn smccc(&self, vcpu: usize, conduit: Conduit, imm: u16, regs: &mut [u64; 18]) -> SmcccOutcome {
        // There is no EL3, so SMC is UNDEFINED; HVC with another immediate than 0 is nobody's call.
        if conduit == Conduit::Smc {
            return SmcccOutcome::Undefined;
        }
        let call = *regs;
        let outcome = if imm == 0 {
            self.psci.call(vcpu, regs, self)
        } else {
            regs[0] = u64::MAX;
            Outcome::Continue
        };
        if self.tracer.wants(Category::Psci) {
            let [x0, x1, x2, x3, ..] = call;
            self.tracer.log(
                Category::Psci,
                vcpu,
                &format!("{}({x1:#x}, {x2:#x}, {x3:#x}) = {:#x}", psci::name(x0 as u32), regs[0]),
            );
        }
        match outcome {
            Outcome::Continue => SmcccOutcome::Continue,
            Outcome::Suspend => SmcccOutcome::Suspend,
            Outcome::CpuOff => SmcccOutcome::CpuOff,
            Outcome::SystemOff => SmcccOutcome::Shutdown,
            Outcome::SystemReset => SmcccOutcome::Reset,
        }
    }

    fn trace(&self, vcpu: usize, event: &TraceEvent<'_>) {
        let (category, text) = crate::trace::describe(event);
        self.tracer.log(category, vcpu, &text);
    }
}

impl psci::Machine for Board {
    fn start_vcpu(&self, vcpu: usize, entry: u64, context: u64) {
        if let Some(thread) = self.threads.get().and_then(|threads| threads.get(vcpu)) {
            // A thread that is gone has told why already.
            let _ = thread.send(Command::Start { entry, context });
        }
    }

    fn is_ram(&self, address: u64) -> bool {
        self.ram.contains(&address)
    }

    fn entropy(&self, bytes: &mut [u8]) -> bool {
        fill_random(bytes)
    }
}

/// Carries the interrupt controller's offers to the vCPUs.
struct Publisher(Arc<dyn Vm>);

impl CpuInterfaceSink for Publisher {
    fn publish(&self, vcpu: usize, group: usize, best: Option<(u8, u32)>) {
        self.0.publish_irq(vcpu, group, best);
    }
}

/// What the serial port writes to.
struct UartSink {
    line: SerialLine,
    watch: Arc<Mutex<PanicWatch>>,
    vm: Arc<dyn Vm>,
}

impl CharSink for UartSink {
    fn write(&self, bytes: &[u8]) {
        let vcpu = CURRENT_VCPU.with(Cell::get);
        lock(&self.watch).output(vcpu, bytes, &|| self.vm.returns_to_el0());
        self.line.output.push(bytes);
        self.line.mark.look_at(bytes);
    }

    fn input_wanted(&self) {
        self.line.input.wanted();
    }
}

/// Gives the console's input to the serial port.
pub struct UartInput(pub Arc<Pl011>);

impl SerialInput for UartInput {
    fn receive(&self, bytes: &[u8]) -> usize {
        self.0.receive(bytes)
    }

    fn send_break(&self) {
        // A full FIFO loses the break, as on the wire.
        self.0.send_break();
    }
}

/// The host's clock for the RTC, with one alarm.
struct Alarm {
    clock: Arc<Clock>,
    due: Mutex<Option<u64>>,
    changed: Condvar,
}

impl WallClock for Alarm {
    fn seconds(&self) -> u64 {
        self.clock.wall().as_secs()
    }

    fn set_alarm(&self, at: Option<u64>) {
        *self.due.lock().unwrap_or_else(PoisonError::into_inner) = at;
        self.changed.notify_all();
    }
}

/// Waits for the alarm on a thread that sleeps unless one is set, and ends with the machine.
fn spawn_alarm(alarm: &Arc<Alarm>, rtc: Weak<Pl031>) -> Result<(), Failure> {
    let alarm = Arc::clone(alarm);
    let body = move || {
        loop {
            let mut due = alarm.due.lock().unwrap_or_else(PoisonError::into_inner);
            // The device is looked at now and then even without an alarm, to see whether it still exists.
            let wait = due.map_or(3600, |at| at.saturating_sub(alarm.seconds()).min(3600));
            if due.is_none_or(|at| at > alarm.seconds()) {
                due = alarm
                    .changed
                    .wait_timeout(due, Duration::from_secs(wait.max(1)))
                    .unwrap_or_else(PoisonError::into_inner)
                    .0;
            }
            let ring = due.is_some_and(|at| at <= alarm.seconds());
            if ring {
                *due = None;
            }
            drop(due);
            let Some(rtc) = rtc.upgrade() else { return };
            if ring {
                rtc.alarm();
            }
        }
    };
    thread::Builder::new()
        .name("rtc-alarm".into())
        .spawn(body)
        .map(drop)
        .map_err(|e| Failure::backend(format!("no thread for the RTC: {e}")))
}
