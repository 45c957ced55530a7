//! Guest RAM: one anonymous mapping that costs host memory only where the guest touches it.
#![expect(
    unsafe_code,
    reason = "mmap, madvise, and handing the mapping to the processing elements, are unsafe by nature"
)]

use std::sync::Arc;

use devices::memory::{GuestMemory, WriteLog};
use devices::virtio::balloon::Reclaim;
use vm_memory::mmap::{GuestRegionMmap, MmapRegion};
use vm_memory::{Bytes, GuestAddress};

use super::layout;
use crate::exit::Failure;

/// The RAM of one machine. Clones are the same memory.
#[derive(Clone, Debug)]
pub struct GuestRam {
    memory: Arc<GuestMemory>,
    host: usize,
    size: u64,
    writes: WriteLog,
    _pages: Arc<HostPages>,
}

/// Guest and host addresses are alike below this: only then can KVM map what the host has as a huge page as one.
const ALIGNMENT: usize = 2 << 20;
const PROTECTION: i32 = libc::PROT_READ | libc::PROT_WRITE;
const FLAGS: i32 = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_NORESERVE;

/// Host pages at a multiple of [`ALIGNMENT`]. The addresses stay mapped to the end of the process, as devices' threads may
/// end later than the machine; the memory is given back when the machine goes.
#[derive(Debug)]
struct HostPages {
    start: usize,
    bytes: usize,
}

impl HostPages {
    fn map(bytes: usize) -> std::io::Result<HostPages> {
        let longer = bytes.checked_add(ALIGNMENT).ok_or(std::io::ErrorKind::OutOfMemory)?;
        // SAFETY: a new mapping at an address that the kernel chooses.
        let address = unsafe { libc::mmap(std::ptr::null_mut(), longer, PROTECTION, FLAGS, -1, 0) };
        if address == libc::MAP_FAILED {
            return Err(std::io::Error::last_os_error());
        }
        let first = address.addr();
        let start = first.next_multiple_of(ALIGNMENT);
        let (head, tail) = (start - first, ALIGNMENT - (start - first));
        // Failing to give back address space is no harm.
        if head != 0 {
            // SAFETY: the beginning of the mapping just made, which nobody uses.
            unsafe { libc::munmap(address, head) };
        }
        if tail != 0 {
            // SAFETY: the end of the mapping just made, which nobody uses.
            unsafe { libc::munmap((start + bytes) as *mut libc::c_void, tail) };
        }
        Ok(HostPages { start, bytes })
    }
}

impl Drop for HostPages {
    fn drop(&mut self) {
        // SAFETY: the range is the mapping of `map`; its pages read as zeros from now on, to whoever still looks.
        unsafe { libc::madvise(self.start as *mut libc::c_void, self.bytes, libc::MADV_DONTNEED) };
    }
}

impl GuestRam {
    /// Maps `size` bytes of zeros.
    pub fn new(size: u64) -> Result<GuestRam, Failure> {
        let failed = |why: String| {
            Failure::backend(format!(
                "--memory: the host does not give {} MiB of address space ({why}); ask for less",
                size >> 20
            ))
        };
        let bytes = usize::try_from(size).map_err(|e| failed(e.to_string()))?;
        let pages = HostPages::map(bytes).map_err(|e| failed(e.to_string()))?;
        // SAFETY: the pages are a mapping of this size with these properties, which stays to the end of the process.
        let region = unsafe { MmapRegion::build_raw(pages.start as *mut u8, bytes, PROTECTION, FLAGS) };
        let region: MmapRegion<WriteLog> = region.map_err(|e| failed(e.to_string()))?;
        let host = region.as_ptr().addr();
        let writes = region.bitmap().clone();
        // SAFETY: the range is exactly the mapping just made; MADV_HUGEPAGE changes no contents. Failure (no THP) costs speed only.
        unsafe { libc::madvise(region.as_ptr().cast(), bytes, libc::MADV_HUGEPAGE) };
        let region =
            GuestRegionMmap::new(region, GuestAddress(layout::RAM)).ok_or_else(|| failed("it wraps".into()))?;
        let memory = GuestMemory::from_regions(vec![region]).map_err(|e| failed(e.to_string()))?;
        Ok(GuestRam { memory: Arc::new(memory), host, size, writes, _pages: Arc::new(pages) })
    }

    /// Number of bytes.
    pub fn size(&self) -> u64 {
        self.size
    }

    /// Guest physical addresses.
    pub fn range(&self) -> std::ops::Range<u64> {
        layout::RAM..layout::RAM + self.size
    }

    /// For devices and loaders.
    pub fn memory(&self) -> &GuestMemory {
        &self.memory
    }

    /// For devices that outlive the caller.
    pub fn shared_memory(&self) -> Arc<GuestMemory> {
        Arc::clone(&self.memory)
    }

    /// What this program writes into it, if that is logged.
    pub fn writes(&self) -> &WriteLog {
        &self.writes
    }

    /// All bytes zero again. No vCPU may run.
    pub fn clear(&self) {
        // SAFETY: the range is the private anonymous mapping that `memory` owns; after MADV_DONTNEED its pages read as zeros. Nobody holds references into it:
        // vm-memory and `cpu::Ram` access it by volatile and atomic operations only.
        let done = unsafe { libc::madvise(self.host as *mut libc::c_void, self.size as usize, libc::MADV_DONTNEED) };
        if done != 0 {
            let zeros = vec![0u8; 1 << 20];
            for offset in (0..self.size).step_by(zeros.len()) {
                let length = (self.size - offset).min(zeros.len() as u64) as usize;
                // The range is inside the only region.
                let _ = self
                    .memory
                    .write_slice(zeros.get(..length).unwrap_or_default(), GuestAddress(layout::RAM + offset));
            }
        }
    }

    /// Whole host pages within the range, as host address and length.
    fn pages_within(&self, address: u64, len: u64) -> Option<(usize, usize)> {
        let page = rustix::param::page_size() as u64;
        let first = address.checked_sub(layout::RAM)?;
        let end = first.checked_add(len).filter(|&end| end <= self.size)?;
        let (first, end) = (first.checked_next_multiple_of(page)?, end - end % page);
        let len = usize::try_from(end.checked_sub(first).filter(|&len| len != 0)?).ok()?;
        Some((self.host + usize::try_from(first).ok()?, len))
    }

    /// The same memory as processing elements see it. The caller keeps a clone of `self` for as long as it keeps the result.
    pub fn for_processing_elements(&self) -> Result<cpu::Ram, Failure> {
        // SAFETY: the mapping is readable and writable, lives as long as `self.memory`, which the caller keeps (see `engine::emu`), and no Rust references to its
        // bytes exist (vm-memory gives volatile slices only).
        unsafe { cpu::Ram::new(&[(layout::RAM, self.size, self.host as *mut u8)]) }
            .map_err(|e| Failure::internal(e.to_string()))
    }

    /// Number of bytes of it that take host memory now.
    pub fn resident(&self) -> Option<u64> {
        let page = 4096usize;
        let mut total = 0u64;
        let chunk = 1usize << 30;
        let mut map = vec![0u8; chunk / page];
        let mut offset = 0usize;
        while (offset as u64) < self.size {
            let length = chunk.min(self.size as usize - offset);
            // SAFETY: the range is inside the mapping, `map` has one byte for each of its pages.
            let done = unsafe { libc::mincore((self.host + offset) as *mut libc::c_void, length, map.as_mut_ptr()) };
            if done != 0 {
                return None;
            }
            total += map.iter().take(length.div_ceil(page)).filter(|&&b| b & 1 != 0).count() as u64 * page as u64;
            offset += length;
        }
        Some(total)
    }
}

impl Reclaim for GuestRam {
    fn size(&self) -> u64 {
        self.size
    }

    fn reclaim(&self, address: u64, len: u64) -> bool {
        let Some((start, len)) = self.pages_within(address, len) else { return false };
        // SAFETY: the range is inside the private anonymous mapping that `memory` owns, which stays mapped: its pages read as zeros from now on. Nobody holds
        // references into it (see `clear`), and host addresses that engines have kept stay valid.
        unsafe { libc::madvise(start as *mut libc::c_void, len, libc::MADV_DONTNEED) == 0 }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn untouched_ram_costs_nothing_and_clear_forgets() {
        let ram = GuestRam::new(64 << 30).unwrap();
        let at = GuestAddress(layout::RAM + (40 << 30));
        ram.memory().write_obj(7u64, at).unwrap();
        assert_eq!(ram.memory().read_obj::<u64>(at).unwrap(), 7);
        ram.clear();
        assert_eq!(ram.memory().read_obj::<u64>(at).unwrap(), 0);
        let small = GuestRam::new(64 << 20).unwrap();
        small.memory().write_obj(7u64, GuestAddress(layout::RAM)).unwrap();
        let resident = small.resident().unwrap();
        assert!((4096..=4 << 20).contains(&resident), "{resident}");
    }

    #[test]
    fn huge_pages_fit_guest_and_host() {
        for _ in 0..3 {
            let ram = GuestRam::new(16 << 20).unwrap();
            assert_eq!(ram.host as u64 % (2 << 20), layout::RAM % (2 << 20));
            ram.memory().write_obj(7u64, GuestAddress(layout::RAM + (16 << 20) - 8)).unwrap();
        }
    }

    #[test]
    fn what_is_reclaimed_reads_as_zeros_and_nothing_else_changes() {
        let ram = GuestRam::new(16 << 20).unwrap();
        let fill = vec![7u8; 16 << 20];
        ram.memory().write_slice(&fill, GuestAddress(layout::RAM)).unwrap();
        assert_eq!(ram.resident(), Some(16 << 20));
        assert!(ram.reclaim(layout::RAM + (4 << 20) - 100, (4 << 20) + 200));
        assert_eq!(ram.resident(), Some(12 << 20));
        let at = |offset: u64| ram.memory().read_obj::<u8>(GuestAddress(layout::RAM + offset)).unwrap();
        assert_eq!([(4 << 20) - 1, 4 << 20, (8 << 20) - 1, 8 << 20].map(at), [7, 0, 0, 7]);
        let end = layout::RAM + (16 << 20);
        for (address, len) in
            [(layout::RAM - 4096, 8192), (end - 4096, 8192), (u64::MAX - 10, 4096), (end, 4096), (0, u64::MAX)]
        {
            assert!(!ram.reclaim(address, len), "{address:#x}");
        }
        assert!(!ram.reclaim(layout::RAM + 1, 4096), "no whole page");
    }

    #[test]
    fn too_much_is_an_error_that_names_the_option() {
        let error = GuestRam::new(1 << 60).unwrap_err();
        assert!(error.message.contains("--memory"), "{error}");
    }
}
