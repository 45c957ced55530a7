//! Messages that devices send to the guest by events (KVM_IRQFD): a device writes to an event, and the kernel has the route
//! (KVM_SET_GSI_ROUTING) from there to the ITS.
//!
//! A message (device, address, data) gets its route when it is sent for the first time. There are as many as events, which
//! are made with the machine, as vCPU threads may make none; messages beyond them are sent by a call (KVM_SIGNAL_MSI).

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use kvm_bindings::{
    KVM_IRQ_ROUTING_MSI, KVM_MSI_VALID_DEVID, KvmIrqRouting, kvm_irq_routing_entry, kvm_irq_routing_msi, kvm_msi,
};
use kvm_ioctls::{Cap, VmFd};
use serde_json::{Value, json};
use vmm_sys_util::eventfd::{EFD_NONBLOCK, EventFd};

/// More vectors than the devices of most machines have.
const ROUTES: u32 = 64;

/// What a device sends.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct Message {
    pub(super) device: u32,
    pub(super) address: u64,
    pub(super) data: u32,
}

/// An event whose route is its number.
struct Event {
    route: u32,
    fd: EventFd,
}

struct State {
    free: Vec<Event>,
    used: HashMap<Message, Event>,
}

/// The routes of one machine.
pub(super) struct Routes {
    vm: Arc<VmFd>,
    state: Mutex<State>,
    by_event: AtomicU64,
    by_call: AtomicU64,
}

impl Routes {
    pub(super) fn new(vm: &Arc<VmFd>) -> Routes {
        let works = [Cap::Irqfd, Cap::IrqRouting, Cap::MsiDevid].into_iter().all(|cap| vm.check_extension(cap));
        let event = |route| EventFd::new(EFD_NONBLOCK).ok().map(|fd| Event { route, fd });
        let free = if works { (0..ROUTES).filter_map(event).collect() } else { Vec::new() };
        let state = Mutex::new(State { free, used: HashMap::new() });
        Routes { vm: Arc::clone(vm), state, by_event: AtomicU64::new(0), by_call: AtomicU64::new(0) }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Sends it.
    pub(super) fn send(&self, message: Message) {
        let mut state = self.lock();
        if !state.used.contains_key(&message) {
            self.connect(&mut state, message);
        }
        if let Some(event) = state.used.get(&message)
            && event.fd.write(1).is_ok()
        {
            self.by_event.fetch_add(1, Ordering::Relaxed);
            return;
        }
        drop(state);
        self.by_call.fetch_add(1, Ordering::Relaxed);
        let msi = kvm_msi {
            address_lo: message.address as u32,
            address_hi: (message.address >> 32) as u32,
            data: message.data,
            flags: KVM_MSI_VALID_DEVID,
            devid: message.device,
            ..kvm_msi::default()
        };
        // A message that the guest's tables lead nowhere is lost, as on a real ITS.
        let _ = self.vm.signal_msi(msi);
    }

    /// Gives the message an event, if there is one left and the kernel takes it.
    fn connect(&self, state: &mut State, message: Message) {
        let Some(event) = state.free.pop() else { return };
        let added = (message, event.route);
        let routes = state.used.iter().map(|(message, event)| (*message, event.route)).chain([added]);
        let done = self.set(routes).is_some() && self.vm.register_irqfd(&event.fd, event.route).is_ok();
        if done {
            state.used.insert(message, event);
        } else {
            state.free.push(event);
        }
    }

    fn set(&self, routes: impl Iterator<Item = (Message, u32)>) -> Option<()> {
        let entries: Vec<_> = routes.map(|(message, route)| entry(message, route)).collect();
        let table = KvmIrqRouting::from_entries(&entries).ok()?;
        self.vm.set_gsi_routing(&table).ok()
    }

    /// Every message that was sent is in the interrupt controller when this returns: the kernel ends what it has under way
    /// before it lets an event go. Later ones get new routes.
    pub(super) fn settle(&self) {
        let mut state = self.lock();
        let State { free, used } = &mut *state;
        for (_, event) in used.drain() {
            // What was registered can be taken back.
            let _ = self.vm.unregister_irqfd(&event.fd, event.route);
            free.push(event);
        }
    }

    /// How many messages went which way.
    pub(super) fn counters(&self) -> Value {
        json!({
            "messages_by_event": self.by_event.load(Ordering::Relaxed),
            "messages_by_call": self.by_call.load(Ordering::Relaxed),
        })
    }
}

fn entry(message: Message, route: u32) -> kvm_irq_routing_entry {
    let mut msi = kvm_irq_routing_msi {
        address_lo: message.address as u32,
        address_hi: (message.address >> 32) as u32,
        data: message.data,
        ..kvm_irq_routing_msi::default()
    };
    msi.__bindgen_anon_1.devid = message.device;
    let mut entry = kvm_irq_routing_entry {
        gsi: route,
        type_: KVM_IRQ_ROUTING_MSI,
        flags: KVM_MSI_VALID_DEVID,
        ..kvm_irq_routing_entry::default()
    };
    entry.u.msi = msi;
    entry
}
