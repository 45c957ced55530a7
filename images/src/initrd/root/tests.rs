use super::*;

const MIB: usize = 1 << 20;

fn view(bytes: &[u8], run: impl FnOnce(&DiskView<'_>)) {
    let read = |offset: u64, out: &mut [u8]| {
        let start = usize::try_from(offset).map_err(io::Error::other)?;
        let piece = bytes.get(start..start + out.len()).ok_or(io::ErrorKind::UnexpectedEof)?;
        out.copy_from_slice(piece);
        Ok(())
    };
    run(&DiskView { size: bytes.len() as u64, read: &read });
}

fn ext4(disk: &mut [u8], start: usize, uuid: u8, label: &str) {
    disk[start + 1080..start + 1082].copy_from_slice(&[0x53, 0xef]);
    disk[start + 1128..start + 1144].fill(uuid);
    disk[start + 1144..start + 1144 + label.len()].copy_from_slice(label.as_bytes());
}

/// A partition table with two partitions of 1 MiB and 2 MiB: an ESP without a file system and a root.
fn partitioned() -> Vec<u8> {
    let mut disk = vec![0; 4 * MIB];
    disk[512..520].copy_from_slice(b"EFI PART");
    disk[512 + 72] = 2;
    disk[512 + 80] = 128;
    disk[512 + 84] = 128;
    let mut entry = |index: usize, kind: [u8; 16], first: u64, last: u64| {
        let at = 1024 + 128 * index;
        disk[at..at + 16].copy_from_slice(&kind);
        disk[at + 16..at + 32].copy_from_slice(&std::array::from_fn::<u8, 16, _>(|i| 16 * (index as u8 + 1) + i as u8));
        disk[at + 32..at + 40].copy_from_slice(&first.to_le_bytes());
        disk[at + 40..at + 48].copy_from_slice(&last.to_le_bytes());
        disk[at + 56] = b'A' + index as u8;
    };
    entry(0, [7; 16], 512, 2047);
    entry(4, [9; 16], 2048, 4095);
    entry(5, [9; 16], 4096, u64::MAX);
    ext4(&mut disk, MIB, 0xab, "system");
    disk
}

fn found(disk: &[u8], command_line: &str) -> Result<Root, InitrdError> {
    let mut result = None;
    view(disk, |view| {
        let read = view.read;
        let empty = DiskView { size: 0, read };
        result = Some(find(&[DiskView { size: view.size, read }, empty], &Words::of(command_line)));
    });
    result.expect("called")
}

#[test]
fn partitions_are_found_by_every_name() {
    let disk = partitioned();
    for root in [
        "",
        "root=/dev/vda5",
        "root=LABEL=system",
        "root=UUID=abababab-abab-ABAB-abab-abababababab",
        "root=PARTLABEL=E",
        "root=PARTUUID=53525150-5554-5756-5859-5a5b5c5d5e5f",
    ] {
        let expected = Root { device: "/dev/vda5".into(), file_system: "ext4", options: String::new(), flags: 0 };
        assert_eq!(found(&disk, root).expect("there"), expected, "{root}");
    }
}

#[test]
fn what_is_not_there_is_said() {
    let error = found(&partitioned(), "root=/dev/vda1").expect_err("no file system").to_string();
    assert!(error.contains("root=/dev/vda1") && error.contains("/dev/vda5 (ext4)"), "{error}");
    assert!(found(&partitioned(), "root=UUID=").is_err());
    assert!(found(&[0; 4096], "").is_err());
    assert!(found(&[], "").is_err());
}

#[test]
fn whole_disks_and_master_boot_records() {
    let mut disk = vec![0; 2 * MIB];
    ext4(&mut disk, 0, 1, "");
    let root = found(&disk, "rw ro rootflags=noatime,data=journal,,nodev").expect("there");
    assert_eq!((root.device.as_str(), root.options.as_str(), root.flags), ("/dev/vda", "data=journal", 0x405));
    let mut disk = vec![0; 4 * MIB];
    disk[510..512].copy_from_slice(&[0x55, 0xaa]);
    disk[440..444].copy_from_slice(&[1, 2, 3, 4]);
    disk[446 + 4] = 0x83;
    disk[446 + 9] = 8;
    disk[446 + 13] = 8;
    disk[MIB..MIB + 4].copy_from_slice(b"XFSB");
    assert_eq!(found(&disk, "root=PARTUUID=04030201-01").expect("there").file_system, "xfs");
    // Beyond the end of the disk.
    disk[446 + 15] = 1;
    assert!(found(&disk, "root=/dev/vda1").is_err());
}

#[test]
fn words_of_the_command_line() {
    let words = Words::of("quiet ro root=/dev/vdb rootflags=discard,x=1 init=/bin/true rw -- ro init=no");
    assert_eq!(words.root.as_deref(), Some("/dev/vdb"));
    assert_eq!((words.options.as_str(), words.read_only), ("discard,x=1", false));
    assert_eq!(words.init.as_deref(), Some("/bin/true"));
    assert_eq!(disk_name(0), "/dev/vda");
    assert_eq!(disk_name(26), "/dev/vdaa");
    assert_eq!(disk_name(27 * 26), "/dev/vdaaa");
}

proptest::proptest! {
    #[test]
    fn any_table_is_only_read(mut noise: Vec<u8>, header: [u8; 32]) {
        noise.resize(16384, 0x41);
        noise[512..520].copy_from_slice(b"EFI PART");
        noise[512 + 64..512 + 96].copy_from_slice(&header);
        let _ = found(&noise, "root=LABEL=x");
        noise[512] = 0;
        noise[510..512].copy_from_slice(&[0x55, 0xaa]);
        let _ = found(&noise, "");
    }
}
