//! All that happens before the first instruction of the kernel: kernel formats, placement, the device tree.
