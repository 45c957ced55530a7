//! Options of the translator: proofs, switches and profiles. All hidden from the short help.

use clap::Args;
#[cfg(target_arch = "x86_64")] // the translator makes x86-64 code
use jit::{Optimisations, Options};

/// Options for `--engine jit`, which this host cannot have.
#[cfg(not(target_arch = "x86_64"))] // as above
#[derive(Args, Clone, Debug, Default)]
pub struct TranslatorArgs {}

/// Options for `--engine jit`.
#[cfg(target_arch = "x86_64")] // as above
#[derive(Args, Clone, Debug, Default)]
#[command(next_help_heading = "Translator (--engine jit): proofs and profiles")]
pub struct TranslatorArgs {
    /// Compare every piece of translated code with the interpreter; the first difference ends the machine with a report
    ///
    /// Tens of times slower. One vCPU runs at a time.
    #[arg(long, hide_short_help = true)]
    pub check_jit: bool,
    /// Switch optimisations off or on: a list of no-NAME, NAME, all, none
    ///
    /// To find the one at fault: `none` must work; then switch halves of the names on. An unknown name lists them all.
    #[arg(long, value_name = "LIST", value_parser = parse_optimisations, hide_short_help = true)]
    pub jit_opt: Option<Optimisations>,
    /// Make what is rare common: a tiny code cache, one-page translation tables, random evictions, delays and side exits; for tests
    #[arg(
        long,
        value_name = "SEED",
        num_args = 0..=1,
        require_equals = true,
        default_missing_value = "1",
        hide_short_help = true
    )]
    pub jit_stress: Option<u64>,
    /// With --stats: count the guest instructions that translated code executes (some percent slower)
    #[arg(long, hide_short_help = true)]
    pub count_instructions: bool,
    /// Write /tmp/perf-PID.map, by which `perf` names translated code
    #[arg(long, hide_short_help = true)]
    pub perf_map: bool,
    /// With --stats: count by instruction what the interpreter executes
    #[arg(long, hide = true)]
    pub count_interpreted: bool,
    /// Translate one instruction wrongly: proves that --check-jit finds it
    #[arg(long, hide = true)]
    pub jit_seeded_fault: bool,
}

#[cfg(target_arch = "x86_64")] // as above
fn parse_optimisations(text: &str) -> Result<Optimisations, String> {
    Optimisations::parse(text).map_err(|e| e.to_string())
}

#[cfg(target_arch = "x86_64")] // as above
impl TranslatorArgs {
    /// What the translator is told.
    pub fn options(&self) -> Options {
        Options {
            check: self.check_jit,
            stress: self.jit_stress,
            count_executed: self.count_instructions,
            perf_map: self.perf_map,
            optimise: self.jit_opt.unwrap_or_default(),
            count_interp: self.count_interpreted,
            seeded_fault: self.jit_seeded_fault,
            ..Options::default()
        }
    }
}
