//! `Release` files: what a suite of the archive consists of, and how long that holds.

use std::collections::HashMap;

use super::deb822;
use crate::cache::Sha256Sum;
use crate::calendar;

/// Seconds that the clocks of the archive and of this host may differ.
const CLOCK_TOLERANCE: u64 = 24 * 3600;
/// Seconds without a change after which updates that set themselves no end are no longer made.
const CLOSED_AFTER: u64 = 30 * 24 * 3600;

/// Why a signed `Release` is not used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ReleaseError {
    /// A field is missing or cannot be read.
    #[error("The Release file of {suite} has no usable field {field}: is --mirror a Debian archive?")]
    Field {
        /// The suite that was asked for.
        suite: String,
        /// The field.
        field: &'static str,
    },
    /// It is for another suite: somebody hands out the wrong one.
    #[error("The Release file for {suite} is that of {found}: the mirror is broken or tampers; try another --mirror")]
    OtherSuite {
        /// The suite that was asked for.
        suite: String,
        /// The one that came.
        found: String,
    },
    /// It comes from the future.
    #[error("The Release file of {suite} is dated {date}, later than this host's clock: set the clock")]
    Future {
        /// The suite.
        suite: String,
        /// Its `Date`.
        date: String,
    },
    /// Its time is over.
    #[error(
        "The Release file of {suite} was valid until {until}: the mirror is not kept up to date, try another --mirror \
         (for an archive frozen on purpose set Acquire::Check-Valid-Until \"false\" in apt's configuration)"
    )]
    Expired {
        /// The suite.
        suite: String,
        /// Its `Valid-Until`.
        until: String,
    },
    /// It is older than what was seen before.
    #[error(
        "The Release file of {suite} is dated {date}, older than the one seen before ({seen}): the mirror is out of step or tampers; try another --mirror"
    )]
    Downgrade {
        /// The suite.
        suite: String,
        /// Its `Date`.
        date: String,
        /// The `Date` seen before.
        seen: String,
    },
}

/// A checked `Release` file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Release {
    suite: String,
    date: (String, u64),
    valid_until: Option<(String, u64)>,
    by_hash: bool,
    not_automatic: bool,
    automatic_upgrades: bool,
    files: HashMap<String, (Sha256Sum, u64)>,
}

impl Release {
    /// Reads the text of a `Release` file of which the signature is checked already.
    ///
    /// # Errors
    /// [`ReleaseError::Field`], and [`ReleaseError::OtherSuite`] when it is not that of `suite`.
    pub fn parse(text: &str, suite: &str) -> Result<Release, ReleaseError> {
        let field = |field| ReleaseError::Field { suite: suite.to_owned(), field };
        let paragraph = deb822::paragraphs(text).next().ok_or(field("Suite"))?;
        let names = [paragraph.get("Codename"), paragraph.get("Suite")];
        if !names.contains(&Some(suite)) {
            let found = names.into_iter().flatten().next().ok_or(field("Suite"))?.to_owned();
            return Err(ReleaseError::OtherSuite { suite: suite.to_owned(), found });
        }
        let time = |name| -> Result<Option<(String, u64)>, ReleaseError> {
            let Some(value) = paragraph.get(name) else {
                return Ok(None);
            };
            let seconds = parse_date(value).ok_or(field(name))?;
            Ok(Some((value.to_owned(), seconds)))
        };
        let list = paragraph.get("SHA256").ok_or(field("SHA256"))?;
        let files = list.lines().map(str::trim).filter(|line| !line.is_empty()).map(|line| {
            let mut words = line.split_whitespace();
            let entry = (
                words.next().and_then(Sha256Sum::parse),
                words.next().and_then(|size| size.parse().ok()),
                words.next(),
            );
            match entry {
                (Some(sum), Some(size), Some(name)) => Ok((name.to_owned(), (sum, size))),
                _ => Err(field("SHA256")),
            }
        });
        Ok(Release {
            suite: suite.to_owned(),
            date: time("Date")?.ok_or(field("Date"))?,
            valid_until: time("Valid-Until")?,
            by_hash: paragraph.get("Acquire-By-Hash") == Some("yes"),
            not_automatic: paragraph.get("NotAutomatic") == Some("yes"),
            automatic_upgrades: paragraph.get("ButAutomaticUpgrades") == Some("yes"),
            files: files.collect::<Result<_, _>>()?,
        })
    }

    /// Whether it may be used at the time `now` (seconds since 1970).
    ///
    /// # Errors
    /// [`ReleaseError::Future`] and [`ReleaseError::Expired`].
    pub fn check_time(&self, now: u64) -> Result<(), ReleaseError> {
        let suite = self.suite.clone();
        if self.date.1 > now.saturating_add(CLOCK_TOLERANCE) {
            return Err(ReleaseError::Future { suite, date: self.date.0.clone() });
        }
        match &self.valid_until {
            Some((until, seconds)) if *seconds < now => Err(ReleaseError::Expired { suite, until: until.clone() }),
            _ => Ok(()),
        }
    }

    /// Whether it may follow `seen`, the one that was used last.
    ///
    /// # Errors
    /// [`ReleaseError::Downgrade`].
    pub fn check_follows(&self, seen: &Release) -> Result<(), ReleaseError> {
        if self.date.1 >= seen.date.1 {
            return Ok(());
        }
        Err(ReleaseError::Downgrade { suite: self.suite.clone(), date: self.date.0.clone(), seen: seen.date.0.clone() })
    }

    /// Whether these are updates of a suite at the end of its life: as long as updates are made, each `Release` is valid for
    /// days; the last one sets no end. Who could send such a one in place of a newer one could as well withhold packages.
    pub fn is_closed(&self, now: u64) -> bool {
        let updates = self.suite.ends_with("-security") || self.suite.ends_with("-updates");
        updates && self.valid_until.is_none() && self.date.1.saturating_add(CLOSED_AFTER) < now
    }

    /// Its date, in seconds since 1970.
    pub fn date(&self) -> u64 {
        self.date.1
    }

    /// The priority of its packages where nothing else is configured (apt_preferences(5)).
    pub fn pin_priority(&self) -> u32 {
        match (self.not_automatic, self.automatic_upgrades) {
            (false, _) => 500,
            (true, true) => 100,
            (true, false) => 1,
        }
    }

    /// Hash and size of a file below the suite's directory.
    pub fn file(&self, name: &str) -> Option<&(Sha256Sum, u64)> {
        self.files.get(name)
    }

    /// Whether files can be asked for by their hash, which does not race with an update of the mirror.
    pub fn by_hash(&self) -> bool {
        self.by_hash
    }
}

/// Seconds since 1970 of a date as `Release` files have it: `Sat, 11 Jul 2026 10:16:37 UTC`.
fn parse_date(text: &str) -> Option<u64> {
    const MONTHS: [&str; 12] = ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];
    let (_, rest) = text.split_once(", ")?;
    let mut words = rest.split_whitespace();
    let day: u64 = words.next()?.parse().ok().filter(|day| (1..=31).contains(day))?;
    let name = words.next()?;
    let month = MONTHS.iter().position(|month| *month == name)? as u64 + 1;
    let year: u64 = words.next()?.parse().ok().filter(|year| (1970..10_000).contains(year))?;
    let mut clock = words.next()?.split(':').map(|part| part.parse::<u64>().ok());
    let (hour, minute, second) = (clock.next()??, clock.next()??, clock.next()??);
    if !matches!(words.next()?, "UTC" | "GMT" | "+0000") || hour > 23 || minute > 59 || second > 60 {
        return None;
    }
    let days = calendar::days((year, month, day))?;
    Some(((days * 24 + hour) * 60 + minute) * 60 + second)
}

#[cfg(test)]
mod tests {
    use super::*;

    const HASH: &str = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";

    fn release(date: &str, more: &str) -> String {
        format!(
            "Suite: oldstable\nCodename: bookworm\nDate: {date}\n{more}SHA256:\n {HASH} 3 main/binary-arm64/Packages.xz\n"
        )
    }

    #[test]
    fn dates_are_read() {
        for (text, seconds) in [
            ("Thu, 01 Jan 1970 00:00:00 UTC", Some(0)),
            ("Sat, 11 Jul 2026 10:16:37 UTC", Some(1_783_764_997)),
            ("Tue, 29 Feb 2000 23:59:59 +0000", Some(951_868_799)),
            ("Sat, 11 Jul 2026 10:16:37 CEST", None),
            ("Sat, 11 Foo 2026 10:16:37 UTC", None),
            ("Sat, 41 Jul 2026 10:16:37 UTC", None),
            ("Thu, 01 Jan 99999999999 00:00:00 UTC", None),
            ("", None),
        ] {
            assert_eq!(parse_date(text), seconds, "{text}");
        }
    }

    #[test]
    fn a_release_says_what_it_has() {
        let text = release("Sat, 11 Jul 2026 10:16:37 UTC", "Acquire-By-Hash: yes\n");
        for suite in ["bookworm", "oldstable"] {
            let release = Release::parse(&text, suite).expect("a release");
            assert!(release.by_hash());
            assert_eq!(release.file("main/binary-arm64/Packages.xz"), Some(&(Sha256Sum::of(b"abc"), 3)));
            assert_eq!(release.file("main/binary-amd64/Packages.xz"), None);
        }
        let other = Release::parse(&text, "trixie");
        assert_eq!(other, Err(ReleaseError::OtherSuite { suite: "trixie".into(), found: "bookworm".into() }));
        let no_date = Release::parse("Suite: x\nSHA256:\n", "x");
        assert_eq!(no_date, Err(ReleaseError::Field { suite: "x".into(), field: "Date" }));
        let bad_list = Release::parse(&text.replace(" 3 ", " x "), "bookworm");
        assert_eq!(bad_list, Err(ReleaseError::Field { suite: "bookworm".into(), field: "SHA256" }));
    }

    #[test]
    fn updates_end_when_they_set_no_end() {
        let at = |suite: &str, more: &str| {
            let text = release("Sat, 11 Jul 2026 10:16:37 UTC", more).replace("bookworm", suite);
            let release = Release::parse(&text, suite).expect("a release");
            [20, 40].map(|days| release.is_closed(1_783_764_997 + days * 24 * 3600))
        };
        assert_eq!(at("bookworm-security", ""), [false, true]);
        assert_eq!(at("bookworm-updates", ""), [false, true]);
        assert_eq!(at("bookworm-security", "Valid-Until: Sat, 18 Jul 2026 10:00:00 UTC\n"), [false, false]);
        assert_eq!(at("bookworm", ""), [false, false]);
    }

    #[test]
    fn time_only_goes_forward() {
        let now = 1_783_764_997;
        let parse = |date, more| Release::parse(&release(date, more), "bookworm").expect("a release");
        let today = parse("Sat, 11 Jul 2026 10:16:37 UTC", "");
        let yesterday = parse("Fri, 10 Jul 2026 10:16:37 UTC", "Valid-Until: Sat, 11 Jul 2026 10:00:00 UTC\n");
        assert_eq!(today.check_time(now), Ok(()));
        assert!(matches!(today.check_time(now - 2 * 24 * 3600), Err(ReleaseError::Future { .. })));
        assert!(matches!(yesterday.check_time(now), Err(ReleaseError::Expired { .. })));
        assert_eq!(today.check_follows(&yesterday), Ok(()));
        assert!(matches!(yesterday.check_follows(&today), Err(ReleaseError::Downgrade { .. })));
    }
}
