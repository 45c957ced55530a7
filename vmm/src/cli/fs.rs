//! `--fs tag=T,dir=PATH[,KEY...]`.

use devices::virtio::fs::{FsOptions, MAX_TAG, Range};

use super::disk::split;

const KEYS: &str = "tag=T, dir=PATH, ro, uid-map=GUEST:HOST[:COUNT], gid-map=GUEST:HOST[:COUNT]";

/// Reads the option. A comma in the path is written twice.
pub fn parse(text: &str) -> Result<FsOptions, String> {
    let mut fs = FsOptions::new("", "");
    for part in split(text) {
        match part.split_once('=').map_or((part.as_str(), None), |(key, value)| (key, Some(value))) {
            ("tag", Some(tag)) if (1..=MAX_TAG).contains(&tag.len()) => tag.clone_into(&mut fs.tag),
            ("tag", _) => return Err(format!("{part:?}: a tag has 1 to {MAX_TAG} bytes")),
            ("dir", Some(path)) if !path.is_empty() => fs.folder = path.into(),
            ("ro", None) => fs.read_only = true,
            ("uid-map", Some(range)) => fs.users.push(parse_range("uid-map", range)?),
            ("gid-map", Some(range)) => fs.groups.push(parse_range("gid-map", range)?),
            _ => return Err(format!("{part:?} is not known; expected {KEYS}")),
        }
    }
    if fs.tag.is_empty() || fs.folder.as_os_str().is_empty() {
        return Err("expected tag=T,dir=PATH".into());
    }
    Ok(fs)
}

fn parse_range(key: &str, text: &str) -> Result<Range, String> {
    let numbers: Option<Vec<u32>> = text.split(':').map(|number| number.parse().ok()).collect();
    match numbers.as_deref() {
        Some([guest, host]) => Ok(Range { guest: *guest, host: *host, count: 1 }),
        Some([guest, host, count]) if *count > 0 => Ok(Range { guest: *guest, host: *host, count: *count }),
        _ => Err(format!("{key}={text}: expected GUEST:HOST[:COUNT], such as 0:1000 or 0:100000:65536")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn folders_and_owners() {
        let fs = parse("tag=src,dir=/home/a,,b,ro,uid-map=0:1000,uid-map=1:100000:65535,gid-map=0:100").unwrap();
        assert_eq!((fs.tag.as_str(), fs.folder.to_str(), fs.read_only), ("src", Some("/home/a,b"), true));
        let second = Range { guest: 1, host: 100_000, count: 65535 };
        assert_eq!(fs.users, [Range { guest: 0, host: 1000, count: 1 }, second]);
        assert_eq!(fs.groups, [Range { guest: 0, host: 100, count: 1 }]);
        assert_eq!(parse("tag=t,dir=.").unwrap(), FsOptions::new("t", "."));
        let long = format!("tag={},dir=.", "x".repeat(37));
        for (text, word) in [
            ("", "not known"),
            ("tag=t", "dir=PATH"),
            ("dir=.", "tag=T"),
            ("tag=,dir=.", "1 to 36"),
            (long.as_str(), "1 to 36"),
            ("tag=t,dir=", "not known"),
            ("tag=t,dir=.,rw", "not known"),
            ("tag=t,dir=.,uid-map=0", "0:1000"),
            ("tag=t,dir=.,uid-map=0:1:0", "0:1000"),
            ("tag=t,dir=.,gid-map=0:-1", "0:1000"),
        ] {
            assert!(parse(text).unwrap_err().contains(word), "{text}");
        }
    }
}
