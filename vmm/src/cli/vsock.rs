//! `--vsock cid=N,socket=PATH`.

use devices::virtio::vsock::{CIDS, VsockOptions};

use super::disk::split;

/// Reads the option. A comma in the path is written twice.
pub fn parse(text: &str) -> Result<VsockOptions, String> {
    let (mut cid, mut socket) = (None, None);
    for part in split(text) {
        match part.split_once('=') {
            Some(("cid", number)) => {
                let known = number.parse().ok().filter(|cid| CIDS.contains(cid));
                cid = Some(known.ok_or_else(|| format!("cid={number}: expected {} to {}", CIDS.start(), CIDS.end()))?);
            }
            Some(("socket", path)) if !path.is_empty() => socket = Some(path.into()),
            _ => return Err(format!("{part:?} is not known; expected cid=N,socket=PATH")),
        }
    }
    let (Some(cid), Some(socket)) = (cid, socket) else { return Err("expected cid=N,socket=PATH".into()) };
    Ok(VsockOptions { cid, socket })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_are_needed() {
        let expected = VsockOptions { cid: 3, socket: "/run/a,b".into() };
        assert_eq!(parse("cid=3,socket=/run/a,,b").unwrap(), expected);
        for (text, word) in [
            ("", "cid=N"),
            ("cid=3", "socket=PATH"),
            ("socket=x", "cid=N"),
            ("cid=2,socket=x", "3 to 4294967294"),
            ("cid=x,socket=x", "3 to"),
            ("cid=3,socket=", "socket=PATH"),
            ("cid=3,socket=x,more", "not known"),
        ] {
            assert!(parse(text).unwrap_err().contains(word), "{text}");
        }
    }
}
