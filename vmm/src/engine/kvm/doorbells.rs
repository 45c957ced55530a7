//! Doorbells that the kernel takes: a write of the guest becomes a write to an event (KVM_IOEVENTFD).
#![expect(unsafe_code, reason = "kvm-ioctls takes descriptors of a type that only raw ones become")]

use std::os::fd::{FromRawFd, IntoRawFd, OwnedFd};
use std::sync::Arc;

use devices::virtio::{BellPlace, KernelDoorbells};
use kvm_ioctls::{IoEventAddress, NoDatamatch, VmFd};
use vmm_sys_util::eventfd::EventFd;

/// The virtual machine's writes to devices.
pub(super) struct Ioeventfd(Arc<VmFd>);

impl Ioeventfd {
    pub(super) fn new(vm: &Arc<VmFd>) -> Ioeventfd {
        Ioeventfd(Arc::clone(vm))
    }
}

/// Another descriptor of the same event.
fn event_fd(event: &OwnedFd) -> Option<EventFd> {
    let raw = event.try_clone().ok()?.into_raw_fd();
    // SAFETY: the descriptor was just made, is an eventfd as the caller's is, and nobody else has it.
    Some(unsafe { EventFd::from_raw_fd(raw) })
}

impl KernelDoorbells for Ioeventfd {
    fn connect(&self, place: BellPlace, event: &Arc<OwnedFd>) -> bool {
        let address = IoEventAddress::Mmio(place.address);
        // Refused where two functions' BARs overlap: the first one answers.
        event_fd(event).is_some_and(|fd| match place.value {
            Some(value) => self.0.register_ioevent(&fd, &address, value).is_ok(),
            None => self.0.register_ioevent(&fd, &address, NoDatamatch).is_ok(),
        })
    }

    fn disconnect(&self, place: BellPlace, event: &Arc<OwnedFd>) {
        let address = IoEventAddress::Mmio(place.address);
        // What was connected can be disconnected; the kernel keeps nothing of ours otherwise.
        let _ = event_fd(event).map(|fd| match place.value {
            Some(value) => self.0.unregister_ioevent(&fd, &address, value),
            None => self.0.unregister_ioevent(&fd, &address, NoDatamatch),
        });
    }
}
