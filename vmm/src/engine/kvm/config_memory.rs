//! PCI configuration space as memory that the guest reads without an exit: a read-only memory slot at the ECAM window.
#![expect(unsafe_code, reason = "mappings at fixed addresses, giving one to the kernel, and cache maintenance")]

use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::sync::Arc;

use devices::pci::ConfigMemory;
use devices::pci::host::BUS_LEN;
use devices::pci::spec::{CONFIG_LEN, DEVICES};
use kvm_bindings::{KVM_MEM_READONLY, kvm_userspace_memory_region};
use kvm_ioctls::{Cap, VmFd};

use super::host::CONFIG_SLOT;

/// Bytes from one device's configuration space to the next one's: eight functions.
const STRIDE: usize = CONFIG_LEN * 8;
const LEN: usize = BUS_LEN as usize;
const PROTECTION: libc::c_int = libc::PROT_READ | libc::PROT_WRITE;

/// The memory of one bridge.
pub(super) struct ConfigPages {
    vm: Arc<VmFd>,
    address: u64,
    /// `LEN` bytes, most of which are one page of ones, mapped over and over: nobody answers there.
    host: *mut u8,
    /// Devices 0 to this one have pages of their own.
    last: usize,
}

// SAFETY: the mapping is of the whole process and stays until the drop; its users write words of it under a bridge's lock.
unsafe impl Send for ConfigPages {}
// SAFETY: as above.
unsafe impl Sync for ConfigPages {}

impl ConfigPages {
    /// Memory for a bridge and `functions` functions; none where the kernel or the host cannot.
    pub(super) fn new(vm: &Arc<VmFd>, address: u64, functions: usize) -> Option<ConfigPages> {
        if !vm.check_extension(Cap::ReadonlyMem) {
            return None;
        }
        let last = functions.min(DEVICES - 1);
        let host = map(last).ok()?;
        Some(ConfigPages { vm: Arc::clone(vm), address, host, last })
    }
}

/// A page of ones, and one that begins with ones, for each page of this host in which a device has its first function.
fn map(last: usize) -> std::io::Result<*mut u8> {
    let failed = std::io::Error::last_os_error;
    // SAFETY: no preconditions.
    let page = usize::try_from(unsafe { libc::sysconf(libc::_SC_PAGESIZE) }).map_err(std::io::Error::other)?;
    let mut own: Vec<usize> = (0..=last).map(|device| device * STRIDE / page).collect();
    own.dedup();
    let bytes = page * (own.len() + 1);
    // SAFETY: the name is a C string; the answer is checked.
    let raw = unsafe { libc::memfd_create(c"pci-config".as_ptr(), libc::MFD_CLOEXEC) };
    if raw < 0 {
        return Err(failed());
    }
    // SAFETY: a descriptor that was just made, and nobody else has.
    let file = std::fs::File::from(unsafe { OwnedFd::from_raw_fd(raw) });
    std::os::unix::fs::FileExt::write_all_at(&file, &vec![0xff; bytes], 0)?;
    // SAFETY: a new mapping at an address that the kernel chooses.
    let base = unsafe {
        libc::mmap(std::ptr::null_mut(), LEN, libc::PROT_NONE, libc::MAP_PRIVATE | libc::MAP_ANONYMOUS, -1, 0)
    };
    if base == libc::MAP_FAILED {
        return Err(failed());
    }
    for index in 0..LEN / page {
        let place = own.iter().position(|&at| at == index).map_or(0, |position| position + 1);
        let offset = libc::off_t::try_from(place * page).map_err(std::io::Error::other)?;
        // SAFETY: the page is within the mapping just made, which nobody uses yet.
        let mapped = unsafe {
            let at = base.byte_add(index * page);
            libc::mmap(at, page, PROTECTION, libc::MAP_SHARED | libc::MAP_FIXED, file.as_raw_fd(), offset)
        };
        if mapped == libc::MAP_FAILED {
            let error = failed();
            // SAFETY: the mapping just made, which nobody uses.
            unsafe { libc::munmap(base, LEN) };
            return Err(error);
        }
    }
    Ok(base.cast())
}

impl ConfigMemory for ConfigPages {
    fn show(&self, device: usize, bytes: &[u8]) {
        if device > self.last {
            return;
        }
        for (index, word) in bytes.chunks_exact(4).take(CONFIG_LEN / 4).enumerate() {
            let word = word.try_into().map_or(0, u32::from_ne_bytes);
            // SAFETY: within the pages of device `device`, which is one of those that have their own; aligned to 4. The
            // guest may read it at the same time, by single accesses; here nobody else touches it (the bridge's lock).
            unsafe {
                let at = self.host.add(device * STRIDE + 4 * index).cast::<u32>();
                if at.read_volatile() != word {
                    at.write_volatile(word);
                    clean(at.cast());
                }
            }
        }
        barrier();
    }

    fn expose(&self, on: bool) -> bool {
        let slot = kvm_userspace_memory_region {
            slot: CONFIG_SLOT,
            flags: KVM_MEM_READONLY,
            guest_phys_addr: self.address,
            memory_size: if on { BUS_LEN } else { 0 },
            userspace_addr: self.host.addr() as u64,
        };
        // SAFETY: the range is a mapping of this length, which stays until the slot has gone (the drop).
        unsafe { self.vm.set_user_memory_region(slot) }.is_ok()
    }
}

impl Drop for ConfigPages {
    fn drop(&mut self) {
        if self.expose(false) {
            // SAFETY: the mapping of `map`; the kernel does not look at it any more, and neither does anybody else.
            unsafe { libc::munmap(self.host.cast(), LEN) };
        }
    }
}

/// Guests map the window as Device memory and, on processors without FEAT_S2FWB, read past the caches.
///
/// # Safety
/// The address is mapped.
unsafe fn clean(address: *const u8) {
    // SAFETY: cleaning a line changes no contents; Linux leaves it to programs.
    unsafe { std::arch::asm!("dc cvac, {}", in(reg) address, options(nostack, preserves_flags)) };
}

/// What was cleaned is in memory.
fn barrier() {
    // SAFETY: a barrier.
    unsafe { std::arch::asm!("dsb sy", options(nostack, preserves_flags)) };
}
