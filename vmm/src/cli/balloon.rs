//! `--balloon=LIST`.

use devices::virtio::balloon::BalloonOptions;

use super::size;

/// Reads the option.
pub fn parse(text: &str) -> Result<BalloonOptions, String> {
    let mut options = BalloonOptions::default();
    for part in text.split(',').filter(|part| !part.is_empty()) {
        match part.split_once('=').unwrap_or((part, "")) {
            ("free-page-reporting", "") => options.free_page_reporting = true,
            ("stats", "") => options.statistics = true,
            ("deflate-on-oom", "") => options.deflate_on_oom = true,
            ("target", size) => options.target = Some(size::parse(size)?),
            _ => {
                return Err(format!(
                    "{part:?} is not known; expected free-page-reporting, stats, deflate-on-oom, target=SIZE"
                ));
            }
        }
    }
    Ok(options)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists() {
        assert_eq!(parse(""), Ok(BalloonOptions::default()));
        let all = parse("free-page-reporting,stats,deflate-on-oom,target=512M").unwrap();
        assert!(all.free_page_reporting && all.statistics && all.deflate_on_oom);
        assert_eq!(all.target, Some(512 << 20));
        for wrong in ["more", "stats=yes", "target=", "target=x"] {
            assert!(parse(wrong).is_err(), "{wrong}");
        }
    }
}
