//! Guest RAM as devices see it: every access is a checked copy.

use std::sync::Arc;

/// Guest RAM as devices see it.
pub type GuestMemory = vm_memory::GuestMemoryMmap<()>;

/// Shared guest RAM.
pub type SharedMemory = Arc<GuestMemory>;
