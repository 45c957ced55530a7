//! Files that a person hands to the machine: kernels, initrds, device trees.

use firmware::{BoardDescription, FdtPatch, Limits};

/// Starts of kernel files: a byte of the input chooses one, so that random bytes get past the first check.
const STARTS: [&[u8]; 14] = [
    b"",
    b"\x1f\x8b\x08\0\0\0\0\0\0\x03",
    b"\x28\xb5\x2f\xfd",
    b"\x04\x22\x4d\x18\x40\x40\xc0",
    b"\x02\x21\x4c\x18",
    b"\xfd7zXZ\0\0\x01\x69\x22\xde\x36",
    b"BZh91AY&SY",
    b"\x5d\0\0\x01\0\xff\xff\xff\xff\xff\xff\xff\xff\0",
    b"MZ\0\0zimg\x20\0\0\0",
    b"\x27\x05\x19\x56",
    b"MZ\x40\xfa\0\0\0\0\0\0\x08\0\0\0\0\0",
    b"\x7fELF\x02\x01\x01\0\0\0\0\0\0\0\0\0\x02\0\xb7\0\x01\0\0\0",
    b"\x7fELF\x02\x01\x01\0\0\0\0\0\0\0\0\0\x03\0\xb7\0\x01\0\0\0",
    b"070701",
];

const RAM: std::ops::Range<u64> = 0x4000_0000..0x4800_0000;

/// A kernel of any format: what is accepted is loaded inside memory.
pub fn kernel(data: &[u8]) {
    let Some((choice, rest)) = data.split_first() else { return };
    let start = STARTS[usize::from(*choice) % STARTS.len()];
    let mut bytes = [start, rest].concat();
    if *choice >= 128 && bytes.len() >= 64 {
        bytes[56..60].copy_from_slice(b"ARM\x64");
    }
    let _ = firmware::check_initrd(&bytes);
    let limits = Limits { max_size: 4 << 20, max_depth: 3 };
    let Ok(kernel) = firmware::parse_kernel(bytes, &limits) else { return };
    assert!(kernel.bytes.len() as u64 <= limits.max_size);
    let Ok(placement) = firmware::place(&kernel, RAM, u64::from(*choice) << 12, 0x4000) else { return };
    assert!(placement.fdt % 8 == 0);
    for load in kernel.loads(&placement) {
        let size = load.bytes.len() as u64 + load.zeros;
        assert!(load.address >= RAM.start && size <= RAM.end - load.address);
    }
}

/// A device tree: the input itself, and a good tree with bytes of the input written over it. What is accepted is accepted
/// again.
pub fn fdt(data: &[u8]) {
    let patch = FdtPatch { bootargs: Some("quiet".into()), memory: Vec::from([RAM]), ..FdtPatch::default() };
    let check = |tree: &[u8]| {
        if let Ok(patched) = firmware::patch_fdt(tree, &patch) {
            firmware::patch_fdt(&patched, &patch).expect("a tree made here is good");
        }
    };
    check(data);
    let mut tree = firmware::build_fdt(&BoardDescription::virt(2, RAM)).expect("a good board");
    for change in data.chunks_exact(3) {
        let at = usize::from(u16::from_le_bytes([change[0], change[1]])) % tree.len();
        tree[at] = change[2];
    }
    check(&tree);
}
