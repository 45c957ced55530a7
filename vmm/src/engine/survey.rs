//! Which engines this host can use, and why.

/// An engine, and whether this host can use it.
#[derive(Clone, Debug)]
pub struct Survey {
    /// The word for `--engine`.
    pub name: &'static str,
    /// True if `--engine NAME` works here.
    pub usable: bool,
    /// What decided.
    pub why: String,
    /// What to expect of it.
    pub speed: &'static str,
}

/// Looks at every engine, the fastest first.
pub fn survey() -> Vec<Survey> {
    vec![kvm(), jit(), interpreter()]
}

/// The engine that `--engine auto` takes.
pub fn choose(engines: &[Survey]) -> Option<&Survey> {
    engines.iter().find(|engine| engine.usable)
}

fn kvm() -> Survey {
    let why = if std::env::consts::ARCH != "aarch64" {
        format!("needs an arm64 host, this is {}", std::env::consts::ARCH)
    } else if !std::path::Path::new("/dev/kvm").exists() {
        "there is no /dev/kvm".into()
    } else {
        "not built into this version".into()
    };
    Survey { name: "kvm", usable: false, why, speed: "native speed" }
}

fn jit() -> Survey {
    let (usable, why) = match jit::detect() {
        Ok(_) => (true, "x86-64-v3 host".to_owned()),
        Err(error) => (false, error.to_string()),
    };
    Survey { name: "jit", usable, why, speed: "a few times slower than native; a Debian kernel boots in about 2 s" }
}

fn interpreter() -> Survey {
    Survey {
        name: "interp",
        usable: true,
        why: "works on every host".into(),
        speed: "tens of times slower than native; a Debian kernel boots in 10 to 20 s",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_host_has_an_engine() {
        let engines = survey();
        assert!(choose(&engines).is_some());
        assert!(engines.iter().all(|engine| !engine.why.is_empty() && !engine.speed.is_empty()));
    }
}
