//! What the translator does for speed, each with a switch of its own, so that a fault can be bisected to one of them.
//!
//! Every combination is right: a switch changes how fast code is, never what it computes.
//!
//! # Examples
//! ```
//! use jit::{Optimisation, Optimisations};
//! let chosen = Optimisations::parse("no-links,no-dead-writes")?;
//! assert!(!chosen.has(Optimisation::Links) && chosen.has(Optimisation::FlagFusion));
//! assert_eq!(Optimisations::parse("none")?, Optimisations::NONE);
//! # Ok::<(), jit::UnknownOptimisation>(())
//! ```

use std::fmt;

macro_rules! optimisations {
    ($($variant:ident $name:literal $about:literal;)*) => {
        /// One thing that the translator does for speed.
        #[derive(Clone, Copy, PartialEq, Eq, Debug)]
        pub enum Optimisation {
            $(#[doc = $about] $variant,)*
        }

        impl Optimisation {
            /// All of them.
            pub const ALL: &'static [Optimisation] = &[$(Optimisation::$variant,)*];

            /// The name on the command line.
            #[must_use]
            pub const fn name(self) -> &'static str {
                match self { $(Optimisation::$variant => $name,)* }
            }

            /// What it does, one line.
            #[must_use]
            pub const fn about(self) -> &'static str {
                match self { $(Optimisation::$variant => $about,)* }
            }
        }
    };
}

optimisations! {
    FlagFusion "flag-fusion" "NZCV stays in host flags, or as a compare not yet done, between instructions.";
    DeadFlags "dead-flags" "NZCV that nothing reads is not kept.";
    DeadWrites "dead-writes" "Results that nothing can read before they are overwritten are not computed.";
    PairFusion "pair-fusion" "Neighbouring instructions become one: constants, AESE with AESMC, barriers.";
    Links "links" "Direct branches between fragments are patched to their target.";
    FarLinks "far-links" "... also across pages, at EL1.";
    InnerBranches "inner-branches" "Branches to a place inside a fragment stay inside.";
    JumpCache "jump-cache" "Indirect branches look up their target in line.";
    Slots "slots" "Each access site has a translation slot of its own (off: one for all).";
    Vectors32 "vectors-32" "With AVX-512, 26 vector registers of the guest live in host registers, not 12.";
    HostExtensions "host-extensions" "AES, SHA, PCLMUL, GFNI and AVX-512 of the host are used.";
    FpCode "fp-code" "Floating point is translated (off: interpreted).";
    VectorCode "vector-code" "Advanced SIMD and crypto are translated (off: interpreted).";
    AtomicCode "atomic-code" "Atomics, exclusives, acquire and release are translated (off: interpreted).";
    SystemCode "system-code" "Barriers, PSTATE fields and system registers are translated (off: interpreted).";
    CounterCode "counter-code" "CNTVCT_EL0 and CNTPCT_EL0 are read in line from the host's time stamp counter.";
    ExceptionCode "exception-code" "SVC and ERET are taken in generated code.";
    AccessGroups "access-groups" "One check covers neighbouring accesses at one base register.";
    DeferredFences "deferred-fences" "STLR is a plain store; a later LDAR pays for the order, if there is one.";
    SpaceCode "space-code" "TTBR0_EL1 and TTBR1_EL1 are written without leaving generated code.";
    MaintenanceCode "maintenance-code" "TLB maintenance and IC IVAU are done by a helper of their own (off: interpreted).";
    KeptScratch "kept-scratch" "Scratch registers hand a multiplier or the state of SHA-256 on to the next instructions.";
    SecondTlb "second-tlb" "A second-level TLB stands behind the first-level table.";
    JumpVictims "jump-victims" "What is driven out of the jump cache is found in a second one.";
    SlotBuckets "slot-buckets" "TLB maintenance of a page finds the slots that may hold it by the page.";
    RevivedCode "revived-code" "Code of a page that was changed is used again where the guest's words are the same.";
    PageDrops "page-drops" "Where code of a page at EL1 goes, only the jumps into that page are forgotten.";
    IdleTrim "idle-trim" "While the machine idles all but the newest code goes, and its memory back to the host.";
    InlineProbes "inline-probes" "Most access sites look into the first-level table in line (off: all have slots).";
    NarrowDivision "narrow-division" "64-bit divisions of numbers of 32 bits are done in 32 bits.";
    HugePages "huge-pages" "Code and translation tables lie in huge pages of the host.";
}

/// A set of [`Optimisation`]s. The default is all of them.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Optimisations(u32);

/// A name that no optimisation has.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[error("there is no optimisation `{0}`; write NAME or no-NAME, `all` or `none`, with NAME one of: {names}", names = names())]
pub struct UnknownOptimisation(String);

fn names() -> String {
    Optimisation::ALL.iter().map(|o| o.name()).collect::<Vec<_>>().join(", ")
}

impl Optimisations {
    /// Everything.
    pub const ALL: Optimisations = Optimisations((1 << Optimisation::ALL.len()) - 1);
    /// Nothing: plain code, slow and simple.
    pub const NONE: Optimisations = Optimisations(0);

    /// True if `o` is in the set.
    #[must_use]
    pub const fn has(self, o: Optimisation) -> bool {
        self.0 & 1 << o as u32 != 0
    }

    /// The set with `o`, or without it.
    #[must_use]
    pub const fn with(self, o: Optimisation, on: bool) -> Optimisations {
        let bit = 1 << o as u32;
        Optimisations(if on { self.0 | bit } else { self.0 & !bit })
    }

    /// A list of words separated by commas, applied from left to right to the full set: `all`, `none`, `NAME`, `no-NAME`.
    ///
    /// # Errors
    /// A word that is none of these.
    pub fn parse(text: &str) -> Result<Optimisations, UnknownOptimisation> {
        let mut set = Optimisations::ALL;
        for word in text.split(',').map(str::trim).filter(|w| !w.is_empty()) {
            set = match word {
                "all" => Optimisations::ALL,
                "none" => Optimisations::NONE,
                _ => {
                    let (name, on) = word.strip_prefix("no-").map_or((word, true), |n| (n, false));
                    let found = Optimisation::ALL.iter().find(|o| o.name() == name);
                    set.with(*found.ok_or_else(|| UnknownOptimisation(word.to_owned()))?, on)
                }
            };
        }
        Ok(set)
    }
}

impl Default for Optimisations {
    fn default() -> Optimisations {
        Optimisations::ALL
    }
}

impl fmt::Debug for Optimisations {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(Optimisation::ALL.iter().filter(|o| self.has(**o)).map(|o| o.name())).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_name_switches_one_off_and_on_again() {
        for o in Optimisation::ALL {
            let off = Optimisations::parse(&format!("no-{}", o.name())).expect("a name");
            assert_eq!(off, Optimisations::ALL.with(*o, false));
            assert!(!off.has(*o) && off != Optimisations::ALL);
            let on = Optimisations::parse(&format!("none, {}", o.name())).expect("a name");
            assert_eq!(on, Optimisations::NONE.with(*o, true));
        }
        assert_eq!(Optimisations::parse("").expect("nothing"), Optimisations::ALL);
    }

    #[test]
    fn an_unknown_word_is_named_with_what_there_is() {
        let e = Optimisations::parse("no-links,no-magic").expect_err("unknown").to_string();
        assert!(e.contains("`no-magic`") && e.contains("far-links"), "{e}");
    }
}
