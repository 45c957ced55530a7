//! Stolen time that the kernel counts: memory at the board's records, and where each vCPU's is (KVM_ARM_VCPU_PVTIME_CTRL).
#![expect(unsafe_code, reason = "a mapping for the kernel, and numbers in it that the guest and the kernel share")]

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use kvm_bindings::{
    KVM_ARM_VCPU_PVTIME_CTRL, KVM_ARM_VCPU_PVTIME_IPA, KVM_CAP_STEAL_TIME, kvm_device_attr, kvm_userspace_memory_region,
};
use kvm_ioctls::{VcpuFd, VmFd};

use super::host::STOLEN_TIME_SLOT;
use crate::exit::Failure;
use crate::machine::layout::{PVTIME, PVTIME_LEN, PVTIME_RECORD};
use crate::machine::stolen_time::{NANOSECONDS, Records};

/// The memory of one machine. Stays mapped to the end of the process, as the kernel's slot does to the machine's.
pub(super) struct KernelRecords(*const u8);

// SAFETY: the mapping is of the whole process, and only accessed by atomic operations.
unsafe impl Send for KernelRecords {}
// SAFETY: as above.
unsafe impl Sync for KernelRecords {}

impl KernelRecords {
    /// Memory for the records; none if the kernel does not count.
    pub(super) fn new(vm: &VmFd) -> Result<Option<Arc<KernelRecords>>, Failure> {
        if vm.check_extension_raw(KVM_CAP_STEAL_TIME.into()) <= 0 {
            return Ok(None);
        }
        let failed =
            |e: &dyn std::fmt::Display| Failure::backend(format!("--engine kvm: no memory for stolen time: {e}"));
        let length = usize::try_from(PVTIME_LEN).map_err(|e| failed(&e))?;
        let protection = libc::PROT_READ | libc::PROT_WRITE;
        let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS;
        // SAFETY: a new mapping at an address that the kernel chooses.
        let host = unsafe { libc::mmap(std::ptr::null_mut(), length, protection, flags, -1, 0) };
        if host == libc::MAP_FAILED {
            return Err(failed(&std::io::Error::last_os_error()));
        }
        let slot = kvm_userspace_memory_region {
            slot: STOLEN_TIME_SLOT,
            flags: 0,
            guest_phys_addr: PVTIME,
            memory_size: PVTIME_LEN,
            userspace_addr: host.addr() as u64,
        };
        // SAFETY: the mapping just made, which stays to the end of the process.
        unsafe { vm.set_user_memory_region(slot) }.map_err(|e| failed(&e))?;
        Ok(Some(Arc::new(KernelRecords(host.cast()))))
    }

    /// Tells the kernel where the record of vCPU `index` is, before it runs for the first time.
    pub(super) fn connect(vcpu: &VcpuFd, index: usize) -> Result<(), Failure> {
        let address = PVTIME + PVTIME_RECORD * index as u64;
        let attribute = kvm_device_attr {
            flags: 0,
            group: KVM_ARM_VCPU_PVTIME_CTRL,
            attr: KVM_ARM_VCPU_PVTIME_IPA.into(),
            addr: std::ptr::from_ref(&address).addr() as u64,
        };
        vcpu.set_device_attr(&attribute)
            .map_err(|e| Failure::backend(format!("--engine kvm: vCPU {index}'s stolen time is not counted: {e}")))
    }

    fn record(&self, vcpu: usize) -> Option<&AtomicU64> {
        let offset = (vcpu as u64).checked_mul(PVTIME_RECORD)?.checked_add(NANOSECONDS)?;
        let offset = usize::try_from(offset).ok().filter(|offset| (*offset as u64) < PVTIME_LEN)?;
        // SAFETY: within the mapping, aligned to 8; the kernel and the guest access it by single accesses.
        Some(unsafe { &*self.0.byte_add(offset).cast::<AtomicU64>() })
    }
}

impl Records for KernelRecords {
    fn get(&self, vcpu: usize) -> u64 {
        self.record(vcpu).map_or(0, |record| record.load(Ordering::Relaxed))
    }

    fn set(&self, vcpu: usize, nanoseconds: u64) {
        if let Some(record) = self.record(vcpu) {
            record.store(nanoseconds, Ordering::Relaxed);
        }
    }
}
