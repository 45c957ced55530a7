use std::io::Write;
use std::process::{Command, Stdio};

use proptest::prelude::*;

use super::reader::{Token, Tree};
use super::*;

/// A board with everything that can be described.
fn full_board() -> BoardDescription {
    let mut board = BoardDescription::virt(2, 0x4000_0000..0x8000_0000);
    board.bootargs = "console=ttyAMA0 panic=-1".to_owned();
    board.initrd = Some(0x4400_0000..0x4400_1234);
    board.rng_seed = (0..32).collect();
    board.kaslr_seed = Some(0x0123_4567_89ab_cdef);
    board.pmu_ppi = Some(7);
    board.gic.its = Some(Region { base: 0x0808_0000, size: 0x2_0000 });
    board.flash = vec![Region { base: 0, size: 64 << 20 }, Region { base: 64 << 20, size: 64 << 20 }];
    board.fw_cfg = Some(Region { base: 0x0902_0000, size: 0x18 });
    board.virtio_mmio = (0..2)
        .map(|n| VirtioSlot {
            device: Peripheral { region: Region { base: 0x0a00_0000 + n * 0x200, size: 0x200 }, spi: 16 + n as u32 },
            trigger: if n == 0 { Trigger::Edge } else { Trigger::Level },
        })
        .collect();
    board.pcie = Some(PcieDescription {
        ecam: Region { base: 0x40_1000_0000, size: 256 << 20 },
        pio: Region { base: 0x3eff_0000, size: 0x1_0000 },
        mmio32: Region { base: 0x1000_0000, size: 0x2eff_0000 },
        mmio64: Region { base: 0x80_0000_0000, size: 0x80_0000_0000 },
        spis: [3, 4, 5, 6],
    });
    board
}

/// A tree as text: a line for each token, numbers in cells, strings quoted.
fn dump(dtb: &[u8]) -> Result<String, FdtError> {
    let tree = Tree::parse(dtb)?;
    let (mut text, mut depth) = (String::new(), 0usize);
    for token in tree.tokens() {
        let token = token?;
        depth -= usize::from(token == Token::End);
        let indent = "    ".repeat(depth);
        match token {
            Token::Begin { name } => {
                let name = if name.is_empty() { "/".into() } else { String::from_utf8_lossy(name) };
                text += &format!("{indent}{name} {{\n");
                depth += 1;
            }
            Token::Property { name, value } => {
                let name = String::from_utf8_lossy(name);
                text += &format!("{indent}{name}{};\n", value_text(value));
            }
            Token::End => text += &format!("{indent}}};\n"),
        }
    }
    Ok(text)
}

fn value_text(value: &[u8]) -> String {
    let strings = value.strip_suffix(&[0]).map(|inner| inner.split(|&byte| byte == 0).collect::<Vec<_>>());
    let printable = |strings: &Vec<&[u8]>| {
        strings.iter().all(|string| !string.is_empty() && string.iter().all(|byte| (0x20..0x7f).contains(byte)))
    };
    match strings {
        _ if value.is_empty() => String::new(),
        Some(strings) if printable(&strings) => {
            let quoted: Vec<String> =
                strings.iter().map(|string| format!("\"{}\"", String::from_utf8_lossy(string))).collect();
            format!(" = {}", quoted.join(", "))
        }
        _ => {
            let cells: Vec<String> = value
                .chunks(4)
                .map(|cell| format!("0x{}", cell.iter().map(|byte| format!("{byte:02x}")).collect::<String>()))
                .collect();
            format!(" = <{}>", cells.join(" "))
        }
    }
}

#[test]
fn the_full_board_is_as_the_golden_file_says() {
    let text = dump(&build_fdt(&full_board()).expect("a valid board")).expect("a valid tree");
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/src/fdt/tests/virt.dts");
    if std::env::var_os("BLESS").is_some() {
        std::fs::write(path, &text).expect("the golden file can be written");
    }
    let golden = std::fs::read_to_string(path).expect("the golden file");
    assert!(text == golden, "the tree has changed (BLESS=1 accepts it):\n{text}");
}

/// `dtc` reads our trees without a complaint and finds in them what we find. Where there is no `dtc`, nothing is compared.
#[test]
fn dtc_agrees() {
    for board in [full_board(), BoardDescription::virt(1, 0x4000_0000..0x4800_0000)] {
        let ours = build_fdt(&board).expect("a valid board");
        let Some((theirs, complaints)) = dtc(&ours) else {
            eprintln!("no dtc here: skipped");
            return;
        };
        assert_eq!(dump(&theirs), dump(&ours));
        assert_eq!(complaints, "");
    }
}

/// The tree after `dtc` has read and written it, and its complaints.
fn dtc(dtb: &[u8]) -> Option<(Vec<u8>, String)> {
    let mut child = Command::new("dtc")
        .args(["-I", "dtb", "-O", "dtb", "-W", "no-unique_unit_address_if_enabled", "-"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .ok()?;
    child.stdin.take()?.write_all(dtb).ok()?;
    let output = child.wait_with_output().ok()?;
    Some((output.stdout, String::from_utf8_lossy(&output.stderr).into_owned()))
}

fn one(range: std::ops::Range<u64>) -> Vec<std::ops::Range<u64>> {
    std::iter::once(range).collect()
}

fn patch() -> FdtPatch {
    FdtPatch {
        memory: one(0x4000_0000..0x1_4000_0000),
        bootargs: Some("quiet".to_owned()),
        initrd: None,
        rng_seed: vec![7; 32],
        kaslr_seed: Some(5),
    }
}

#[test]
fn a_patch_without_changes_keeps_everything() {
    let board = full_board();
    let dtb = build_fdt(&board).expect("a valid board");
    let same =
        patch_fdt(&dtb, &FdtPatch { initrd: board.initrd.clone(), ..FdtPatch::default() }).expect("a valid tree");
    let sorted = |dtb: &[u8]| {
        let text = dump(dtb).expect("a valid tree");
        let mut lines: Vec<String> = text.lines().map(str::to_owned).collect();
        lines.sort();
        lines
    };
    assert_eq!(sorted(&same), sorted(&dtb));
}

#[test]
fn a_patch_replaces_what_the_machine_knows() {
    let dtb = build_fdt(&full_board()).expect("a valid board");
    let text = dump(&patch_fdt(&dtb, &patch()).expect("a valid tree")).expect("a valid tree");
    for line in [
        "    memory@40000000 {\n        device_type = \"memory\";\n        reg = <0x00000000 0x40000000 0x00000001 0x00000000>;",
        "bootargs = \"quiet\";",
        "kaslr-seed = <0x00000000 0x00000005>;",
        "stdout-path = \"/pl011@9000000\";",
    ] {
        assert!(text.contains(line), "{text}");
    }
    assert_eq!(text.matches("memory@").count(), 1, "{text}");
    assert_eq!(text.matches("bootargs").count(), 1, "{text}");
    assert_eq!(text.matches("rng-seed").count(), 1, "{text}");
    assert!(!text.contains("initrd"), "{text}");
}

#[test]
fn a_tree_without_chosen_gets_one_and_narrow_cells_are_respected() {
    let mut writer = vm_fdt::FdtWriter::new().expect("a writer");
    let root = writer.begin_node("").expect("root");
    writer.property_u32("#address-cells", 1).expect("property");
    writer.property_u32("#size-cells", 1).expect("property");
    writer.end_node(root).expect("root");
    let dtb = writer.finish().expect("a tree");
    assert_eq!(patch_fdt(&dtb, &patch()), Err(FdtError::MemoryTooHigh { address: 0x1_0000_0000 }));
    let small = FdtPatch { memory: one(0x4000_0000..0x5000_0000), ..patch() };
    let text = dump(&patch_fdt(&dtb, &small).expect("a valid tree")).expect("a valid tree");
    assert!(text.contains("reg = <0x40000000 0x10000000>;"), "{text}");
    assert!(text.contains("    chosen {\n        bootargs"), "{text}");
}

#[test]
fn files_that_are_no_trees_are_told_apart() {
    let dtb = build_fdt(&full_board()).expect("a valid board");
    let message = |bytes: &[u8]| patch_fdt(bytes, &patch()).expect_err("no tree").to_string();
    assert!(message(b"/dts-v1/;\n/ { };\n").contains("dtc -O dtb"));
    assert!(message(b"\x7fELF0000").contains("ELF"));
    assert!(message(&dtb[..dtb.len() - 1]).contains("cut off"));
    assert!(message(&dtb[..20]).contains("cut off"));
    let mut old = dtb.clone();
    old[23] = 3;
    assert!(message(&old).contains("version 3"));
    let mut broken = dtb;
    broken[HEADER + 16] = 9;
    assert!(message(&broken).contains("damaged"));
}

const HEADER: usize = reader::HEADER_SIZE;

#[test]
fn endless_nesting_and_endless_growth_are_refused() {
    let tree = |structure: &[u8], strings: &[u8]| {
        let total = HEADER + 16 + structure.len() + strings.len();
        let header = [
            reader::MAGIC,
            total as u32,
            HEADER as u32 + 16,
            (HEADER + 16 + structure.len()) as u32,
            HEADER as u32,
            17,
            16,
            0,
            strings.len() as u32,
            structure.len() as u32,
        ];
        let mut bytes: Vec<u8> = header.iter().flat_map(|field| field.to_be_bytes()).collect();
        bytes.extend([0; 16]);
        bytes.extend(structure);
        bytes.extend(strings);
        bytes
    };
    let mut deep = [0, 0, 0, 1, 0, 0, 0, 0].to_vec();
    (0..100_000).for_each(|_| deep.extend([0, 0, 0, 1, b'a', 0, 0, 0]));
    assert!(matches!(patch_fdt(&tree(&deep, b""), &patch()), Err(FdtError::BadTree { .. })));
    // A name that starts in the middle of a string is a new string each time.
    let mut many = [0, 0, 0, 1, 0, 0, 0, 0].to_vec();
    (1..100_000u32).chain(1..50_000).for_each(|n| {
        many.extend([0, 0, 0, 3, 0, 0, 0, 0]);
        many.extend(n.to_be_bytes());
    });
    many.extend([0, 0, 0, 2, 0, 0, 0, 9]);
    let strings: Vec<u8> =
        (0..500u32).flat_map(|n| [vec![b'a' + (n % 26) as u8; 200 + n as usize % 50], vec![0]].concat()).collect();
    let refused = patch_fdt(&tree(&many, &strings), &FdtPatch::default());
    assert!(matches!(refused, Err(FdtError::TooLarge { .. })), "{refused:?}");
    let endless = [vec![b'a'; 200_000], vec![0]].concat();
    assert!(matches!(patch_fdt(&tree(&many, &endless), &FdtPatch::default()), Err(FdtError::BadTree { .. })));
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 500, ..ProptestConfig::default() })]

    #[test]
    fn no_mutation_of_a_tree_panics(changes in proptest::collection::vec((0usize..6000, any::<u8>()), 1..6), cut in 0usize..8000) {
        let mut dtb = build_fdt(&full_board()).expect("a valid board");
        for (at, value) in changes {
            if let Some(byte) = dtb.get_mut(at) { *byte = value; }
        }
        dtb.truncate(cut);
        if let Ok(patched) = patch_fdt(&dtb, &patch()) {
            // What is accepted is a valid tree afterwards.
            prop_assert!(dump(&patched).is_ok());
        }
    }

    #[test]
    fn every_command_line_arrives(bootargs in "[ -~]{0,300}") {
        let board = BoardDescription { bootargs: bootargs.clone(), ..full_board() };
        let dtb = build_fdt(&board).expect("a valid board");
        let wanted = [bootargs.as_bytes(), &[0]].concat();
        let tree = Tree::parse(&dtb).expect("a valid tree");
        let found = tree.tokens().any(|token| token == Ok(Token::Property { name: b"bootargs", value: &wanted }));
        prop_assert_eq!(found, !bootargs.is_empty());
    }
}
