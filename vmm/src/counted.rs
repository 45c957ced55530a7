//! What counters of all vCPUs say together.

use serde_json::Value;

/// The sum of a counter over the vCPUs of `stats`, by its JSON pointer in each.
pub fn sum(stats: &Value, path: &str) -> u64 {
    stats["vcpus"].as_array().into_iter().flatten().filter_map(|vcpu| vcpu.pointer(path)?.as_u64()).sum()
}

/// Guest instructions of a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Executed {
    /// All of them.
    pub all: u64,
    /// Those that the interpreter executed.
    pub interpreted: u64,
}

impl Executed {
    /// What `stats` has of it; `None` where translated instructions were not counted (`--count-instructions`).
    pub fn of(stats: &Value) -> Option<Executed> {
        let (translated, between) = (sum(stats, "/jit/executed"), sum(stats, "/jit/steps"));
        (translated != 0).then(|| Executed { all: translated + between, interpreted: sum(stats, "/instructions") })
    }

    /// What was executed beyond `before`, which a run does in any case; `None` where that is nothing.
    pub fn beyond(self, before: Executed) -> Option<Executed> {
        let all = self.all.checked_sub(before.all).filter(|n| *n != 0)?;
        Some(Executed { all, interpreted: self.interpreted.saturating_sub(before.interpreted) })
    }

    /// The interpreter's share.
    pub fn percent(self) -> f64 {
        self.interpreted as f64 / self.all.max(1) as f64 * 100.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn the_interpreters_share() {
        let one = |executed: u64| json!({ "instructions": 3, "jit": { "executed": executed, "steps": 2 } });
        let executed = Executed::of(&json!({ "vcpus": [one(1000), one(2996)] })).expect("counted");
        assert_eq!(executed, Executed { all: 4000, interpreted: 6 });
        assert!((executed.percent() - 0.15).abs() < 1e-9);
        assert_eq!(Executed::of(&json!({ "vcpus": [one(0)] })), None);
        let own = executed.beyond(Executed { all: 1000, interpreted: 9 });
        assert_eq!(own, Some(Executed { all: 3000, interpreted: 0 }));
        assert_eq!(executed.beyond(executed), None);
    }
}
