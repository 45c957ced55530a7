//! What `--cpu NAME,...` says beyond the name: features of the host's processor that the guest is to have.
//!
//! Plain data: compiled and tested on every host.

/// Features that can be chosen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CpuOptions {
    /// Performance monitors, where the host's KVM has them.
    pub pmu: bool,
    /// Pointer authentication, where the host's processor has it.
    pub pauth: bool,
    /// Scalable vectors. Off unless asked for: no other engine has them.
    pub sve: bool,
}

impl CpuOptions {
    /// Takes `NAME,pmu=off,sve=on` apart.
    ///
    /// # Errors
    /// An option that there is not, with those that there are.
    pub fn parse(text: &str) -> Result<(&str, CpuOptions), String> {
        let mut words = text.split(',');
        let name = words.next().unwrap_or_default();
        let mut options = CpuOptions { pmu: true, pauth: true, sve: false };
        for word in words {
            let value = match word.split_once('=') {
                Some((_, "on")) => Some(true),
                Some((_, "off")) => Some(false),
                _ => None,
            };
            let feature = match word.split('=').next() {
                Some("pmu") => Some(&mut options.pmu),
                Some("pauth") => Some(&mut options.pauth),
                Some("sve") => Some(&mut options.sve),
                _ => None,
            };
            match (feature, value) {
                (Some(feature), Some(value)) => *feature = value,
                _ => return Err(format!("{word:?} is none of pmu=, pauth=, sve= with on or off")),
            }
        }
        Ok((name, options))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn features_follow_the_name() {
        let all = CpuOptions { pmu: true, pauth: true, sve: false };
        assert_eq!(CpuOptions::parse("max"), Ok(("max", all)));
        assert_eq!(
            CpuOptions::parse("host,sve=on,pmu=off,pauth=off"),
            Ok(("host", CpuOptions { pmu: false, pauth: false, sve: true }))
        );
        for wrong in ["max,", "max,sve", "max,sve=yes", "max,sme=on", "max,pmu=off,,"] {
            assert!(CpuOptions::parse(wrong).unwrap_err().contains("pmu=, pauth=, sve="), "{wrong}");
        }
    }
}
