//! The `/init` of the initrd: `init.bin` (assembled from `init.S`) with its instructions behind it, as an ELF file.

use super::root::Root;

/// The code of `init.S`.
const CODE: &[u8] = include_bytes!("init.bin");
/// Where the file is mapped.
const BASE: u64 = 0x40_0000;
/// Bytes of the ELF header and of the one program header.
const HEADERS: usize = 64 + 56;

/// An ELF program that loads `modules` (paths in the initrd) in their order, mounts `root` and goes on as the first of
/// `programs` that can be started there.
pub fn program(root: &Root, modules: &[String], programs: &[String]) -> Vec<u8> {
    let mut text = CODE.to_vec();
    text.extend(root.flags.to_le_bytes());
    let mut string = |value: &str| {
        // A NUL would end the string early: what came from the command line has none, other names lose theirs.
        text.extend(value.bytes().filter(|&byte| byte != 0));
        text.push(0);
    };
    string(&root.device);
    string(root.file_system);
    string(&root.options);
    modules.iter().filter(|path| !path.is_empty()).for_each(|path| string(path));
    string("");
    programs.iter().filter(|path| !path.is_empty()).for_each(|path| string(path));
    string("");
    let mut file = headers((HEADERS + text.len()) as u64);
    file.extend(text);
    file
}

/// The headers of a static program of `size` bytes, headers and all, that is mapped as a whole and only read.
fn headers(size: u64) -> Vec<u8> {
    let mut header = Vec::with_capacity(HEADERS);
    // ELFCLASS64, ELFDATA2LSB, version 1; ET_EXEC, EM_AARCH64, version 1.
    header.extend(b"\x7fELF\x02\x01\x01\0\0\0\0\0\0\0\0\0\x02\0\xb7\0\x01\0\0\0");
    header.extend((BASE + HEADERS as u64).to_le_bytes());
    // Program headers at 64, no sections, no flags; sizes of the headers, one program header.
    header.extend(64u64.to_le_bytes());
    header.extend(0u64.to_le_bytes());
    header.extend(0u32.to_le_bytes());
    for half in [64u16, 56, 1, 0, 0, 0] {
        header.extend(half.to_le_bytes());
    }
    // PT_LOAD, readable and executable.
    header.extend(1u32.to_le_bytes());
    header.extend(5u32.to_le_bytes());
    for word in [0, BASE, BASE, size, size, 0x1000] {
        header.extend(u64::to_le_bytes(word));
    }
    header
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn strings_stand_behind_the_code() {
        let root = Root { device: "/dev/vda1".into(), file_system: "ext4", options: String::new(), flags: 1 };
        let file = program(&root, &["/m/a.ko".into()], &["/sbin/init".into(), "/bin/sh".into()]);
        let (head, rest) = file.split_at(HEADERS);
        assert_eq!(head.len() + rest.len(), file.len());
        assert_eq!(&head[96..104], (file.len() as u64).to_le_bytes());
        let data = rest.strip_prefix(CODE).expect("the code comes first");
        assert_eq!(data, b"\x01\0\0\0\0\0\0\0/dev/vda1\0ext4\0\0/m/a.ko\0\0/sbin/init\0/bin/sh\0\0");
        assert_eq!(CODE.len() % 8, 0, "the flags are read as a doubleword");
        assert_eq!((HEADERS + CODE.len()) % 8, 0);
    }
}
