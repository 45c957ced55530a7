//! The GIC in words, for the report that a person asks for when a guest hangs.

use std::fmt::Write;

use super::{Bank, Gic, MAX_SPIS};
use crate::lock;

impl Gic {
    /// Each interrupt that is pending, active or driven, and what is published to each processing element.
    pub fn report(&self) -> String {
        let mut text = String::new();
        let spis = lock(&self.spis);
        let _ = writeln!(
            text,
            "GICv3: {} vCPUs, {} SPIs, groups enabled {:#04b}",
            self.pes.len(),
            self.spi_count,
            spis.groups
        );
        for (vcpu, pe) in self.pes.iter().enumerate() {
            let pe = lock(pe);
            let best = pe.published.map(|o| match o.decode() {
                Some((priority, intid)) => format!("{intid} (priority {priority:#04x})"),
                None => "none".to_owned(),
            });
            let asleep = if spis.asleep[vcpu] { ", asleep" } else { "" };
            let _ = writeln!(text, "  vCPU {vcpu}: offered group 0: {}, group 1: {}{asleep}", best[0], best[1]);
            describe(&mut text, &pe.bank, 0, |_| String::new());
            if pe.lpis.enabled() {
                let _ = writeln!(text, "    LPIs enabled, {} pending", pe.lpis.pending_count());
            }
        }
        for (index, bank) in spis.banks.iter().enumerate() {
            let route = |n: usize| match spis.routes.get(32 * index + n) {
                Some(&r) if r & super::spec::IROUTER_IRM != 0 => " to any".to_owned(),
                Some(&r) => format!(" to affinity {:#x}", r & super::spec::IROUTER_AFFINITY),
                None => String::new(),
            };
            describe(&mut text, bank, 32 + 32 * index, route);
        }
        text
    }
}

/// A line for each interrupt of `bank` that something is going on with.
fn describe(text: &mut String, bank: &Bank, first: usize, route: impl Fn(usize) -> String) {
    let interesting = bank.pending() | bank.active | bank.line;
    for n in (0..32).filter(|n| interesting >> n & 1 != 0) {
        let intid = first + n;
        let words = [
            (bank.pending(), " pending"),
            (bank.active, " active"),
            (bank.line, " line-high"),
            (!bank.enabled, " DISABLED"),
            (bank.edge, " edge"),
            (bank.group1, " group1"),
        ];
        let _ = write!(text, "    INTID {intid}: priority {:#04x}", bank.priority[n]);
        words.iter().filter(|(bits, _)| bits >> n & 1 != 0).for_each(|(_, word)| text.push_str(word));
        text.push_str(&route(n));
        text.push('\n');
    }
    debug_assert!(first <= 32 + MAX_SPIS);
}
