//! What the translator counts, per vCPU.

use std::collections::HashMap;

/// Counters of one vCPU. Only slow paths count: the hot path of generated code carries none.
#[derive(Clone, Debug, Default)]
pub struct JitCounters {
    /// Fragments translated.
    pub fragments: u64,
    /// ... emitted again without groups of accesses; expected to be none.
    pub ungrouped: u64,
    /// Fragments used again after a change of their page, as their words had not changed.
    pub revived: u64,
    /// Guest instructions translated.
    pub guest_insns: u64,
    /// Host bytes emitted.
    pub host_bytes: u64,
    /// Nanoseconds spent translating.
    pub translate_ns: u64,
    /// Entries into generated code.
    pub enters: u64,
    /// Direct exits linked.
    pub links: u64,
    /// Direct exits taken through the dispatcher.
    pub exits: u64,
    /// Indirect branches that the jump cache did not know, but its victim cache.
    pub victim_hits: u64,
    /// Indirect branches that neither knew.
    pub lookups: u64,
    /// Accesses that missed their slot.
    pub slot_misses: u64,
    /// ... and the first-level table, but not the second-level TLB.
    pub second_hits: u64,
    /// Times that TLB maintenance of a page looked at all slots, as the bucket of the page was full.
    pub bucket_overflows: u64,
    /// Accesses that missed the first-level table.
    pub l1_misses: u64,
    /// ... that were filled.
    pub l1_fills: u64,
    /// Accesses executed by the interpreter (device, page crossing, fault).
    pub slow_accesses: u64,
    /// Instructions executed by the interpreter, by instruction word, if that is asked for.
    pub interp_words: HashMap<u32, u64>,
    /// All of them.
    pub interp_calls: u64,
    /// Instructions executed by the interpreter between fragments.
    pub steps: u64,
    /// EL0 context switches.
    pub context_switches: u64,
    /// EL0 contexts made anew.
    pub context_misses: u64,
    /// TLB and instruction cache maintenance by the helper of its own.
    pub maintenance: u64,
    /// TLB maintenance operations applied.
    pub tlbi: u64,
    /// Times that code pages were dropped because their code changed.
    pub pages_dropped: u64,
    /// Times that all jumps were forgotten, as code of no page in particular was dropped.
    pub jumps_cleared: u64,
    /// Chunks of the code cache whose code was dropped to make room.
    pub chunks_evicted: u64,
    /// Chunks of the code cache whose code was dropped because the machine idled (of the whole machine, by its first vCPU).
    pub chunks_trimmed: u64,
    /// Translations that another vCPU had published first, or that were stale when they were done.
    pub not_published: u64,
    /// Fragments not translated because no chunk was free yet.
    pub no_chunk: u64,
    /// Links between pages cut by TLB maintenance.
    pub links_cut: u64,
    /// Guest instructions executed by translated code, if that is asked for; but for those before a fault in a run of code without branches.
    pub executed: u64,
    /// Lockstep: units compared.
    pub check_units: u64,
    /// ... guest instructions in them.
    pub check_insns: u64,
    /// ... units that are not compared.
    pub check_alone: u64,
    /// ... units that differed because somebody else wrote the memory between the two runs.
    pub check_raced: u64,
    /// ... words of memory beside those written that somebody changed.
    pub check_strays: u64,
    /// ... units whose FPSR.UFC differed as it may.
    pub check_late_tininess: u64,
}

impl JitCounters {
    /// One counter a line, `name value`.
    #[must_use]
    pub fn report(&self) -> String {
        use std::fmt::Write;
        let mut s = String::new();
        let rows = [
            ("fragments", self.fragments),
            ("ungrouped", self.ungrouped),
            ("revived", self.revived),
            ("guest_insns", self.guest_insns),
            ("host_bytes", self.host_bytes),
            ("translate_ns", self.translate_ns),
            ("enters", self.enters),
            ("links", self.links),
            ("exits", self.exits),
            ("victim_hits", self.victim_hits),
            ("lookups", self.lookups),
            ("slot_misses", self.slot_misses),
            ("second_hits", self.second_hits),
            ("bucket_overflows", self.bucket_overflows),
            ("l1_misses", self.l1_misses),
            ("l1_fills", self.l1_fills),
            ("slow_accesses", self.slow_accesses),
            ("interp_calls", self.interp_calls),
            ("steps", self.steps),
            ("context_switches", self.context_switches),
            ("context_misses", self.context_misses),
            ("maintenance", self.maintenance),
            ("tlbi", self.tlbi),
            ("pages_dropped", self.pages_dropped),
            ("jumps_cleared", self.jumps_cleared),
            ("chunks_evicted", self.chunks_evicted),
            ("chunks_trimmed", self.chunks_trimmed),
            ("not_published", self.not_published),
            ("no_chunk", self.no_chunk),
            ("links_cut", self.links_cut),
            ("executed", self.executed),
            ("check_units", self.check_units),
            ("check_insns", self.check_insns),
            ("check_alone", self.check_alone),
            ("check_raced", self.check_raced),
            ("check_strays", self.check_strays),
            ("check_late_tininess", self.check_late_tininess),
        ];
        for (name, value) in rows {
            // Writing to a String cannot fail.
            let _ = writeln!(s, "jit.{name} {value}");
        }
        for (class, n) in self.interp_classes().into_iter().take(40) {
            let _ = writeln!(s, "jit.interp.{class} {n}");
        }
        s
    }

    /// Instructions executed by the interpreter by class, most frequent first.
    #[must_use]
    pub fn interp_classes(&self) -> Vec<(String, u64)> {
        let mut classes: HashMap<String, u64> = HashMap::new();
        for (word, n) in &self.interp_words {
            let text = format!("{:?}", isa::decode(*word, isa::Features::ALL));
            let name = text.split([' ', '{', '(']).next().unwrap_or("?").to_string();
            let key = if matches!(name.as_str(), "Msr" | "Mrs" | "Sys") { text } else { name };
            *classes.entry(key).or_default() += n;
        }
        let mut rows: Vec<_> = classes.into_iter().collect();
        rows.sort_by_key(|(_, n)| std::cmp::Reverse(*n));
        rows
    }
}
