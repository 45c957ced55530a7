//! The kernel's log of pages that the guest writes (KVM_MEM_LOG_DIRTY_PAGES, KVM_GET_DIRTY_LOG).

use std::sync::Arc;

use kvm_bindings::KVM_MEM_LOG_DIRTY_PAGES;
use kvm_ioctls::VmFd;
use vm_memory::{GuestMemoryBackend, GuestMemoryRegion};

use super::host::{kvm_error, map_ram};
use crate::exit::Failure;
use crate::machine::dirty::{DirtyLog, Pages};
use crate::machine::ram::GuestRam;

/// The log of a machine's RAM.
pub(super) struct KernelLog {
    vm: Arc<VmFd>,
    ram: GuestRam,
}

impl KernelLog {
    pub(super) fn new(vm: &Arc<VmFd>, ram: &GuestRam) -> KernelLog {
        KernelLog { vm: Arc::clone(vm), ram: ram.clone() }
    }
}

impl DirtyLog for KernelLog {
    fn start(&self) -> Result<(), Failure> {
        map_ram(&self.vm, &self.ram, KVM_MEM_LOG_DIRTY_PAGES)
    }

    fn take(&self) -> Result<Pages, Failure> {
        let mut words = Vec::new();
        // One slot: see `host::map_ram`.
        for (slot, region) in (0u32..).zip(self.ram.memory().iter()) {
            let len = usize::try_from(region.len()).map_err(|e| Failure::internal(e.to_string()))?;
            let log = self.vm.get_dirty_log(slot, len);
            words.extend(log.map_err(|e| kvm_error("the kernel does not tell which pages were written", &e))?);
        }
        Ok(Pages { size: rustix::param::page_size() as u64, words })
    }

    fn stop(&self) {
        // What goes on being logged costs time only.
        let _ = map_ram(&self.vm, &self.ram, 0);
    }
}
