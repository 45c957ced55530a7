//! `--disk PATH[,KEY=VALUE...]`.

use devices::disk::{Aio, CacheMode, DiskOptions, Format};

use super::size;

use crate::machine::virtio::DiskConfig;

const KEYS: &str = "format=raw|qcow2, readonly, cache=writeback|writethrough|none|unsafe, serial=TEXT, ephemeral, queues=N, iops=N, bps=SIZE, aio=auto|threads";

/// Reads the option. A comma in the path is written twice.
pub fn parse(text: &str) -> Result<DiskConfig, String> {
    let mut parts = split(text).into_iter();
    let path = parts.next().unwrap_or_default();
    if path.is_empty() {
        return Err("expected PATH[,KEY=VALUE...]".into());
    }
    let mut disk = DiskConfig::new(DiskOptions::new(path));
    for part in parts {
        let (key, value) = part.split_once('=').map_or((part.as_str(), None), |(key, value)| (key, Some(value)));
        match (key, value) {
            ("format", Some("raw")) => disk.image.format = Some(Format::Raw),
            ("format", Some("qcow2")) => disk.image.format = Some(Format::Qcow2),
            ("format", Some(other)) => return Err(format!("format={other}: expected raw or qcow2")),
            ("readonly", None | Some("on")) => disk.image.read_only = true,
            ("readonly", Some("off")) => disk.image.read_only = false,
            ("ephemeral", None | Some("on")) => disk.image.ephemeral = true,
            ("ephemeral", Some("off")) => disk.image.ephemeral = false,
            ("cache", Some(mode)) => disk.image.cache = cache(mode)?,
            ("serial", Some(serial)) => serial.clone_into(&mut disk.serial),
            ("queues", Some(number)) => {
                disk.queues = number.parse().map_err(|_| format!("queues={number}: not a number"))?;
            }
            ("aio", Some("auto")) => disk.aio = Aio::Auto,
            ("aio", Some("threads")) => disk.aio = Aio::Threads,
            ("iops", Some(number)) => disk.rates.requests = Some(rate("iops", number.parse().ok())?),
            ("bps", Some(number)) => disk.rates.bytes = Some(rate("bps", rate_size(number))?),
            _ => return Err(format!("{part:?} is not known; after the path come {KEYS}")),
        }
    }
    if disk.image.read_only && disk.image.ephemeral {
        return Err("readonly and ephemeral exclude each other: an ephemeral disk can be written".into());
    }
    Ok(disk)
}

/// A limit of nothing is none.
fn rate(key: &str, number: Option<u64>) -> Result<u64, String> {
    number.filter(|&n| n > 0).ok_or_else(|| format!("{key}: expected a number above 0, with a unit for bytes: 10M"))
}

fn rate_size(text: &str) -> Option<u64> {
    text.parse().ok().or_else(|| size::parse(text).ok())
}

fn cache(mode: &str) -> Result<CacheMode, String> {
    match mode {
        "writeback" => Ok(CacheMode::Writeback),
        "writethrough" => Ok(CacheMode::Writethrough),
        "none" => Ok(CacheMode::None),
        "unsafe" => Ok(CacheMode::Unsafe),
        _ => Err(format!("cache={mode}: expected writeback, writethrough, none or unsafe")),
    }
}

/// Splits at single commas; a doubled one stands for itself.
pub(super) fn split(text: &str) -> Vec<String> {
    let mut parts = vec![String::new()];
    let mut characters = text.chars().peekable();
    while let Some(character) = characters.next() {
        if character == ',' && characters.next_if_eq(&',').is_none() {
            parts.push(String::new());
        } else if let Some(part) = parts.last_mut() {
            part.push(character);
        }
    }
    parts
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::path::Path;

    #[test]
    fn a_path_and_keys() {
        let disk = parse("a,,b.img,format=raw,cache=none,serial=root,queues=4,readonly").unwrap();
        assert_eq!(disk.image.path, Path::new("a,b.img"));
        assert_eq!((disk.image.format, disk.image.cache), (Some(Format::Raw), CacheMode::None));
        assert_eq!((disk.serial.as_str(), disk.queues, disk.image.read_only), ("root", 4, true));
        let limited = parse("x,format=qcow2,iops=500,bps=10M").unwrap();
        assert_eq!((limited.image.format, limited.rates.requests), (Some(Format::Qcow2), Some(500)));
        assert_eq!(limited.rates.bytes, Some(10 << 20));
        assert!(parse("x,ephemeral").unwrap().image.ephemeral);
        assert_eq!(parse("x").unwrap().image, DiskOptions::new("x"));
    }

    #[test]
    fn mistakes_say_what_is_expected() {
        for (text, word) in [
            ("", "PATH"),
            ("x,cache=fast", "writeback"),
            ("x,format=vmdk", "raw"),
            ("x,iops=0", "above 0"),
            ("x,bps=fast", "10M"),
            ("x,speed=9", "serial=TEXT"),
            ("x,queues=many", "number"),
            ("x,readonly,ephemeral", "exclude"),
        ] {
            assert!(parse(text).unwrap_err().contains(word), "{text}");
        }
    }
}
