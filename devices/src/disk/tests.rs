use std::os::unix::fs::MetadataExt;

use proptest::prelude::*;

use super::*;
use crate::testing::more_cases;

const SIZE: u64 = 1 << 20;

fn image(size: u64) -> tempfile::NamedTempFile {
    let file = tempfile::NamedTempFile::new().unwrap();
    file.as_file().set_len(size).unwrap();
    file
}

fn options(file: &tempfile::NamedTempFile) -> DiskOptions {
    DiskOptions::new(file.path())
}

fn refused(options: &DiskOptions) -> String {
    open(options).err().expect("refused").to_string()
}

#[test]
fn a_second_writer_is_refused_and_readers_share() {
    let file = image(SIZE);
    let writer = open(&options(&file)).unwrap();
    let message = refused(&options(&file));
    assert!(message.contains("in use") && message.contains("readonly"), "{message}");
    let reader = DiskOptions { read_only: true, ..options(&file) };
    assert!(refused(&reader).contains("in use"));
    drop(writer);
    let (_one, _two) = (open(&reader).unwrap(), open(&DiskOptions { ephemeral: true, ..options(&file) }).unwrap());
    assert!(refused(&options(&file)).contains("in use"));
}

#[test]
fn what_is_no_image_is_refused_with_what_helps() {
    assert!(refused(&DiskOptions::new("/nonexistent/x")).contains("/nonexistent/x"));
    assert!(refused(&DiskOptions::new("/")).contains("a directory"));
    assert!(refused(&DiskOptions::new("/dev/null")).contains("character device"));
    assert!(refused(&options(&image(0))).contains("truncate -s SIZE"));
    let odd = image(1000);
    assert!(refused(&options(&odd)).contains("truncate -s 1024"));
    let qcow = image(SIZE);
    qcow.as_file().write_all_at(b"QFI\xfb\0\0\0\x03", 0).unwrap();
    assert!(refused(&options(&qcow)).contains("add format=qcow2"), "a guest could write that");
    assert!(open(&DiskOptions { format: Some(Format::Raw), ..options(&qcow) }).is_ok());
}

#[test]
fn a_read_only_file_may_end_within_a_sector() {
    let odd = image(1000);
    odd.as_file().write_all_at(&[7; 1000], 0).unwrap();
    let disk = open(&DiskOptions { read_only: true, ..options(&odd) }).unwrap();
    assert_eq!(disk.size(), 1024);
    let mut bytes = [1; 512];
    disk.read(512, &mut bytes).unwrap();
    assert_eq!((bytes[487], bytes[488], bytes[511]), (7, 0, 0));
    assert!(disk.read(1024, &mut bytes).is_err());
    assert!(disk.read(u64::MAX - 3, &mut bytes).is_err());
    assert!(disk.write(0, &bytes).is_err());
}

#[test]
fn discarded_space_is_given_back() {
    let file = image(SIZE);
    let disk = open(&options(&file)).unwrap();
    disk.write(0, &vec![1; SIZE as usize]).unwrap();
    disk.flush().unwrap();
    let blocks = || std::fs::metadata(file.path()).unwrap().blocks();
    let full = blocks();
    assert!(full * 512 >= SIZE);
    disk.discard(0, SIZE / 2).unwrap();
    assert!(blocks() <= full / 2 + 16, "{} of {full}", blocks());
    disk.write_zeroes(SIZE / 2, SIZE / 2, true).unwrap();
    assert!(blocks() <= 16, "{}", blocks());
    assert_eq!(std::fs::metadata(file.path()).unwrap().len(), SIZE);
}

#[test]
fn an_overlay_leaves_the_image_alone() {
    let file = image(SIZE);
    file.as_file().write_all_at(&vec![9; SIZE as usize], 0).unwrap();
    {
        let disk = open(&DiskOptions { ephemeral: true, ..options(&file) }).unwrap();
        disk.write(512, &[1; 512]).unwrap();
        disk.write_zeroes(8192, 65536, true).unwrap();
        let mut bytes = vec![0; 12288];
        disk.read(0, &mut bytes).unwrap();
        assert_eq!((bytes[511], bytes[512], bytes[1023], bytes[1024], bytes[8191], bytes[8192]), (9, 1, 1, 9, 9, 0));
    }
    assert!(std::fs::read(file.path()).unwrap().iter().all(|&b| b == 9));
}

#[test]
fn direct_io_sees_what_other_io_wrote() {
    let file = image(SIZE);
    let disk = match open(&DiskOptions { cache: CacheMode::None, ..options(&file) }) {
        Ok(disk) => disk,
        Err(DiskError::Direct { .. }) => return, // a file system without it, which is what this error says
        Err(error) => panic!("{error}"),
    };
    let mut buffer = vec![0; 3 * 4096];
    let start = 4096 - buffer.as_ptr().addr() % 4096;
    let aligned = &mut buffer[start..start + 4096];
    aligned.fill(5);
    disk.write(4096, aligned).unwrap();
    disk.write(4096 + 512, &[6; 512]).unwrap();
    disk.read(4096, aligned).unwrap();
    assert_eq!((aligned[511], aligned[512], aligned[1023], aligned[1024]), (5, 6, 6, 5));
}

#[derive(Debug, Clone)]
enum Step {
    Read(u64, u64),
    Write(u64, u64, u8),
    Zero(u64, u64, bool),
    Discard(u64, u64),
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    // In sectors; near each other, so that they overlap, and some at the very end.
    let place = prop_oneof![4 => 0u64..64, 1 => SIZE / 512 - 20..SIZE / 512];
    let step = (0..4u8, place, 1u64..40, any::<u8>()).prop_map(|(kind, at, len, value)| {
        let (at, len) = (at * 512, len.min(SIZE / 512 - at) * 512);
        match kind {
            0 => Step::Read(at, len),
            1 => Step::Write(at, len, value),
            2 => Step::Zero(at, len, value & 1 != 0),
            _ => Step::Discard(at, len),
        }
    });
    prop::collection::vec(step, 1..60)
}

proptest! {
    #![proptest_config(more_cases(150))]

    /// A raw image and an overlay have the contents of an array of bytes.
    #[test]
    fn disks_are_arrays_of_bytes(steps in steps(), ephemeral: bool) {
        let file = image(SIZE);
        let first: Vec<u8> = (0..SIZE).map(|n| (n / 512) as u8).collect();
        file.as_file().write_all_at(&first, 0).unwrap();
        let disk = open(&DiskOptions { ephemeral, ..options(&file) }).unwrap();
        let mut model = first.clone();
        for step in steps {
            let range = |at: u64, len: u64| at as usize..(at + len) as usize;
            match step {
                Step::Read(..) => {}
                Step::Write(at, len, value) => {
                    let data: Vec<u8> = (0..len).map(|n| value ^ n as u8).collect();
                    disk.write(at, &data).unwrap();
                    model[range(at, len)].copy_from_slice(&data);
                }
                Step::Zero(at, len, unmap) => {
                    disk.write_zeroes(at, len, unmap).unwrap();
                    model[range(at, len)].fill(0);
                }
                Step::Discard(at, len) => {
                    disk.discard(at, len).unwrap();
                    // Anything may be there now; from here on it stays what it is.
                    disk.read(at, &mut model[range(at, len)]).unwrap();
                }
            }
            if let Step::Read(at, len) = step {
                let mut bytes = vec![0; len as usize];
                disk.read(at, &mut bytes).unwrap();
                prop_assert!(bytes == model[range(at, len)]);
            }
        }
        let mut all = vec![0; SIZE as usize];
        disk.read(0, &mut all).unwrap();
        prop_assert!(all == model);
        let file = std::fs::read(file.path()).unwrap();
        let expected = if ephemeral { first } else { model };
        prop_assert!(file == expected);
    }
}
