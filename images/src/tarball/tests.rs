use std::io::Read;

use proptest::prelude::*;

use super::*;

fn entry(path: &str, kind: EntryKind) -> Entry {
    Entry { path: path.into(), kind, mode: 0o644, uid: 1, gid: 2, mtime: 1_700_000_000, xattrs: BTreeMap::new() }
}

fn entries() -> Vec<(Entry, Vec<u8>)> {
    let long = format!("d/{}", "n".repeat(300));
    let mut capable = entry("d/ping", EntryKind::File(3));
    capable.xattrs.insert(b"security.capability".to_vec(), b"\x01\0\n=\0".to_vec());
    capable.mode = 0o4755;
    let mut far = entry("d/far", EntryKind::Fifo);
    (far.uid, far.gid, far.mtime) = (3_000_000, 4_000_000_000, -5);
    let plain = |entry| (entry, Vec::new());
    vec![
        plain(entry("d", EntryKind::Directory)),
        (capable, b"abc".to_vec()),
        (entry(&long, EntryKind::File(600)), vec![7; 600]),
        plain(entry("d/sym", EntryKind::Symlink("t".repeat(200).into()))),
        plain(entry("d/hard", EntryKind::HardLink(b"d/ping".to_vec()))),
        plain(entry("d/null", EntryKind::CharacterDevice(1, 3))),
        plain(entry("d/vda", EntryKind::BlockDevice(254, 0))),
        plain(far),
    ]
}

fn archive() -> Vec<u8> {
    let mut writer = Writer::new(Vec::new());
    for (entry, contents) in entries() {
        writer.entry(&entry, &mut contents.as_slice()).expect("memory");
    }
    writer.finish().expect("memory")
}

fn read_all(bytes: &[u8]) -> std::io::Result<Vec<(Entry, Vec<u8>)>> {
    let mut reader = Reader::new(bytes);
    let mut found = Vec::new();
    while let Some(entry) = reader.next_entry()? {
        let mut contents = Vec::new();
        reader.contents().read_to_end(&mut contents)?;
        found.push((entry, contents));
    }
    Ok(found)
}

#[test]
fn what_is_written_is_read() {
    assert_eq!(read_all(&archive()).expect("an archive"), entries());
}

#[test]
fn contents_may_be_left_out() {
    let bytes = archive();
    let mut reader = Reader::new(bytes.as_slice());
    let mut count = 0;
    while reader.next_entry().expect("an archive").is_some() {
        count += 1;
    }
    assert_eq!(count, entries().len());
}

/// The crate `tar` as a judge of what is written.
#[test]
fn others_read_it_too() {
    let bytes = archive();
    let mut archive = tar::Archive::new(bytes.as_slice());
    let found: Vec<_> = archive
        .entries()
        .expect("an archive")
        .map(|entry| entry.expect("an entry"))
        .map(|entry| {
            (entry.path_bytes().into_owned(), entry.link_name_bytes().map(|name| name.into_owned()), entry.size())
        })
        .collect();
    let expected: Vec<_> = entries()
        .into_iter()
        .map(|(entry, _)| match entry.kind {
            EntryKind::File(size) => (entry.path, None, size),
            EntryKind::Symlink(link) | EntryKind::HardLink(link) => (entry.path, Some(link), 0),
            _ => (entry.path, None, 0),
        })
        .collect();
    assert_eq!(found, expected);
}

/// What the crate `tar` writes, with GNU's long names.
#[test]
fn what_others_write_is_read() {
    let mut builder = tar::Builder::new(Vec::new());
    let long = format!("x/{}", "l".repeat(200));
    let mut header = tar::Header::new_gnu();
    header.set_size(2);
    header.set_mode(0o755);
    header.set_mtime(5);
    builder.append_data(&mut header, &long, b"hi".as_slice()).expect("memory");
    let bytes = builder.into_inner().expect("memory");
    let found = read_all(&bytes).expect("an archive");
    assert_eq!((found[0].0.path.as_slice(), found[0].1.as_slice()), (long.as_bytes(), b"hi".as_slice()));
}

#[test]
fn damage_is_told() {
    let bytes = archive();
    for (at, byte, word) in [(0, b'X', "checksum"), (156, b'Z', "checksum"), (150, b'Z', "no tar header")] {
        let mut bytes = bytes.clone();
        bytes[at] = byte;
        let error = read_all(&bytes).expect_err("damaged").to_string();
        assert!(error.contains(word), "{error}");
    }
    assert!(read_all(&bytes[..700]).expect_err("cut off").to_string().contains("cut off"));
    assert!(read_all(&bytes[..2600]).is_err());
}

proptest! {
    #[test]
    fn any_bytes_are_read(at in 0usize..6000, value: u8, cut in 0usize..9000) {
        let mut bytes = archive();
        if let Some(byte) = bytes.get_mut(at) { *byte = value; }
        bytes.truncate(cut);
        let _ = read_all(&bytes);
    }

    #[test]
    fn pax_records_never_panic(records: Vec<u8>) {
        let mut writer = Writer::new(Vec::new());
        let mut entry = entry("x", EntryKind::File(records.len() as u64));
        entry.mode = 0;
        writer.entry(&entry, &mut records.as_slice()).expect("memory");
        let mut bytes = writer.finish().expect("memory");
        bytes[156] = b'x';
        let sum: u32 = bytes[..512].iter().enumerate().map(|(i, &b)| if (148..156).contains(&i) { 32 } else { u32::from(b) }).sum();
        bytes[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
        let _ = read_all(&bytes);
    }
}
