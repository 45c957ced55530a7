//! `vmm doctor`: what this host can do, why, and how fast a guest will be.

use std::io::IsTerminal;
use std::path::Path;

use serde_json::json;

use super::{DoctorArgs, print_out};
use crate::engine;
use crate::exit::{ExitStatus, Failure};

/// One thing that was looked at.
struct Finding {
    name: &'static str,
    ok: bool,
    text: String,
}

/// Runs the command.
pub fn run(args: &DoctorArgs) -> Result<ExitStatus, Failure> {
    let findings = examine();
    let engines = engine::survey();
    let chosen = engine::choose(&engines);
    if args.json {
        let value = json!({
            "version": env!("CARGO_PKG_VERSION"),
            "engine": chosen.map(|e| e.name),
            "engines": engines.iter().map(|e| json!({ "name": e.name, "usable": e.usable, "why": e.why, "speed": e.speed })).collect::<Vec<_>>(),
            "checks": findings.iter().map(|f| json!({ "name": f.name, "ok": f.ok, "found": f.text })).collect::<Vec<_>>(),
        });
        print_out(&format!("{value:#}"));
        return Ok(ExitStatus::Success);
    }
    let mut lines = vec![format!("vmm {} on {}", env!("CARGO_PKG_VERSION"), std::env::consts::ARCH)];
    for engine in &engines {
        lines.push(format!("{} engine {:7} {}", mark(engine.usable), engine.name, engine.why));
    }
    for finding in &findings {
        lines.push(format!("{} {:14} {}", mark(finding.ok), finding.name, finding.text));
    }
    lines.push(match chosen {
        Some(engine) => format!("--engine auto takes {}: {}", engine.name, engine.speed),
        None => "no engine is usable on this host".to_owned(),
    });
    print_out(&lines.join("\n"));
    Ok(ExitStatus::Success)
}

fn mark(ok: bool) -> &'static str {
    if ok { "ok  " } else { "note" }
}

fn examine() -> Vec<Finding> {
    vec![processor(), memory(), huge_pages(), processors(), terminal(), cache()]
}

/// The instruction set extensions that the translator makes use of.
fn processor() -> Finding {
    #[cfg(target_arch = "x86_64")] // the host's own features, for the translator
    {
        let features = [
            ("SSE4.2", std::arch::is_x86_feature_detected!("sse4.2")),
            ("CMPXCHG16B", std::arch::is_x86_feature_detected!("cmpxchg16b")),
            ("AVX2", std::arch::is_x86_feature_detected!("avx2")),
            ("BMI2", std::arch::is_x86_feature_detected!("bmi2")),
            ("FMA", std::arch::is_x86_feature_detected!("fma")),
            ("AES", std::arch::is_x86_feature_detected!("aes")),
            ("PCLMUL", std::arch::is_x86_feature_detected!("pclmulqdq")),
            ("SHA", std::arch::is_x86_feature_detected!("sha")),
        ];
        let list = |want: bool| features.iter().filter(|f| f.1 == want).map(|f| f.0).collect::<Vec<_>>().join(" ");
        let missing = list(false);
        let text = if missing.is_empty() {
            list(true)
        } else {
            format!("{}; without {missing} (slower floating point and vectors)", list(true))
        };
        Finding { name: "processor", ok: missing.is_empty(), text }
    }
    #[cfg(not(target_arch = "x86_64"))] // as above
    Finding { name: "processor", ok: true, text: std::env::consts::ARCH.into() }
}

/// A field of /proc/meminfo in bytes.
fn meminfo(field: &str) -> Option<u64> {
    let text = std::fs::read_to_string("/proc/meminfo").ok()?;
    let line = text.lines().find(|line| line.strip_prefix(field).is_some_and(|rest| rest.starts_with(':')))?;
    line.split_whitespace().nth(1)?.parse::<u64>().ok()?.checked_mul(1024)
}

fn memory() -> Finding {
    match (meminfo("MemTotal"), meminfo("MemAvailable")) {
        (Some(total), Some(available)) => Finding {
            name: "memory",
            ok: available >= 1 << 30,
            text: format!(
                "{} MiB of {} MiB available; a guest takes what it touches of --memory (default 1G)",
                available >> 20,
                total >> 20
            ),
        },
        _ => Finding { name: "memory", ok: false, text: "/proc/meminfo cannot be read".into() },
    }
}

fn huge_pages() -> Finding {
    let text = std::fs::read_to_string("/sys/kernel/mm/transparent_hugepage/enabled").unwrap_or_default();
    let ok = !text.contains("[never]") && !text.is_empty();
    let text = if ok {
        "transparent huge pages serve guest RAM".into()
    } else {
        "transparent huge pages are off: memory-bound guests run slower".into()
    };
    Finding { name: "huge pages", ok, text }
}

fn processors() -> Finding {
    let count = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    Finding { name: "processors", ok: count > 1, text: format!("{count}; more --cpus than that share them") }
}

fn terminal() -> Finding {
    let tty = std::io::stdin().is_terminal();
    let text = if tty {
        "stdin is a terminal: the console will be raw, Ctrl-A h lists the keys"
    } else {
        "stdin is no terminal: plain input and output, no keys"
    };
    Finding { name: "terminal", ok: true, text: text.into() }
}

fn cache() -> Finding {
    let base = std::env::var_os("XDG_CACHE_HOME")
        .map(std::path::PathBuf::from)
        .or_else(|| std::env::var_os("HOME").map(|home| Path::new(&home).join(".cache")));
    match base {
        Some(path) => Finding {
            name: "cache",
            ok: true,
            text: format!("downloads are kept under {}", path.join("vmm").display()),
        },
        None => Finding {
            name: "cache",
            ok: false,
            text: "neither XDG_CACHE_HOME nor HOME is set: the demo has no place for downloads".into(),
        },
    }
}
