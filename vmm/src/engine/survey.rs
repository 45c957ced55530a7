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

#[cfg(target_arch = "aarch64")] // the host kernel runs guests of its own architecture only
fn kvm() -> Survey {
    let (usable, why) = match super::kvm::probe() {
        Ok(found) => (true, found),
        Err(why) => (false, why),
    };
    Survey { name: "kvm", usable, why, speed: "native speed" }
}

#[cfg(not(target_arch = "aarch64"))] // as above
fn kvm() -> Survey {
    let arch = std::env::consts::ARCH;
    let why = if std::path::Path::new("/dev/kvm").exists() {
        format!("needs an arm64 host; /dev/kvm of this one runs {arch} guests only")
    } else {
        format!("needs an arm64 host, this is {arch}")
    };
    Survey { name: "kvm", usable: false, why, speed: "native speed" }
}

#[cfg(target_arch = "x86_64")] // it makes x86-64 code
fn jit() -> Survey {
    let (usable, why) = match jit::detect() {
        Ok(_) => (true, "x86-64-v3 host".to_owned()),
        Err(error) => (false, error.to_string()),
    };
    Survey { name: "jit", usable, why, speed: "a few times slower than native; a Debian kernel boots in about 2 s" }
}

#[cfg(not(target_arch = "x86_64"))] // as above
fn jit() -> Survey {
    let why = format!("needs an x86-64 host, this is {}", std::env::consts::ARCH);
    Survey { name: "jit", usable: false, why, speed: "a few times slower than native" }
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
