//! What the comparisons share: a generator of random numbers and lists of known differences.

use std::cell::RefCell;
use std::collections::BTreeMap;

/// SplitMix64, the upper half of each output. The seed is fixed, or what `VMM_TEST_SEED` says.
pub fn generator() -> impl FnMut() -> u32 {
    let seed = std::env::var("VMM_TEST_SEED").ok().and_then(|text| text.parse().ok()).unwrap_or(0x5eed_u64);
    println!("seed {seed} (VMM_TEST_SEED)");
    let mut state = seed;
    move || {
        state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = state;
        z = (z ^ z >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ z >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((z ^ z >> 31) >> 32) as u32
    }
}

/// How many words of each encoding are compared: `VMM_TEST_WORDS`, else `default`.
pub fn words_per_encoding(default: usize) -> usize {
    std::env::var("VMM_TEST_WORDS").ok().and_then(|text| text.parse().ok()).unwrap_or(default)
}

/// One line of a list of known differences: `KIND | PATTERN | REASON`.
pub struct Rule {
    kind: String,
    pattern: String,
    line: usize,
}

/// A list of known differences. A rule that nothing needs is a mistake too.
pub struct Rules {
    file: &'static str,
    rules: Vec<Rule>,
    used: RefCell<BTreeMap<usize, usize>>,
}

impl Rules {
    /// Reads a list, with comments that begin with `#`.
    pub fn parse(file: &'static str, text: &str) -> Rules {
        let mut rules = Vec::new();
        for (index, line) in text.lines().enumerate() {
            if line.is_empty() || line.starts_with('#') {
                continue;
            }
            let columns: Vec<&str> = line.split(" | ").map(str::trim).collect();
            let [kind, patterns, reason] = columns[..] else { panic!("{file}:{}: expected 3 columns", index + 1) };
            assert!(!reason.is_empty(), "{file}:{}: no reason", index + 1);
            rules.extend(patterns.split_whitespace().map(|pattern| Rule {
                kind: kind.to_owned(),
                pattern: pattern.to_owned(),
                line: index + 1,
            }));
        }
        Rules { file, rules, used: RefCell::default() }
    }

    /// Is the name listed under this kind?
    pub fn lists(&self, kind: &str, name: &str) -> bool {
        let found = self.rules.iter().position(|rule| rule.kind == kind && matches(&rule.pattern, name));
        if let Some(index) = found {
            *self.used.borrow_mut().entry(index).or_default() += 1;
        }
        found.is_some()
    }

    /// The patterns of these kinds that were never needed.
    pub fn unused(&self, kinds: &[&str]) -> Vec<String> {
        let used = self.used.borrow();
        let unused = self
            .rules
            .iter()
            .enumerate()
            .filter(|(index, rule)| kinds.contains(&rule.kind.as_str()) && !used.contains_key(index));
        unused.map(|(_, rule)| format!("{}:{}: {} {}", self.file, rule.line, rule.kind, rule.pattern)).collect()
    }
}

/// Does the name match a pattern, in which `*` stands for any text and `?` for one character?
fn matches(pattern: &str, name: &str) -> bool {
    let (mut pattern_rest, mut name_rest) = (pattern.chars(), name.chars());
    match (pattern_rest.next(), name_rest.next()) {
        (None, None) => true,
        (Some('*'), found) => {
            matches(pattern_rest.as_str(), name) || (found.is_some() && matches(pattern, name_rest.as_str()))
        }
        (Some('?'), Some(_)) => matches(pattern_rest.as_str(), name_rest.as_str()),
        (Some(wanted), Some(found)) => wanted == found && matches(pattern_rest.as_str(), name_rest.as_str()),
        _ => false,
    }
}

/// Differences by name: how many, and the first few.
#[derive(Default)]
pub struct Differences(BTreeMap<String, (usize, Vec<String>)>);

impl Differences {
    pub fn add(&mut self, name: &str, what: impl FnOnce() -> String) {
        let (count, examples) = self.0.entry(name.to_owned()).or_default();
        *count += 1;
        if examples.len() < 3 {
            examples.push(what());
        }
    }

    /// Prints them all; true when there are none.
    pub fn report(&self, title: &str) -> bool {
        for (name, (count, examples)) in &self.0 {
            println!("{title}: {name}: {count} words");
            for example in examples {
                println!("    {example}");
            }
        }
        self.0.is_empty()
    }
}
