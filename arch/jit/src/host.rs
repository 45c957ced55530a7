//! What the host processor offers to generated code.

/// Optional instruction set extensions of the host, beyond the baseline.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct HostFeatures {
    /// AES-NI.
    pub aes: bool,
    /// PCLMULQDQ.
    pub pclmul: bool,
    /// SHA extensions.
    pub sha: bool,
    /// GFNI.
    pub gfni: bool,
    /// AVX-512 F, VL, BW and DQ.
    pub avx512: bool,
    /// AVX-512 VBMI.
    pub vbmi: bool,
    /// AVX-512 BITALG.
    pub bitalg: bool,
    /// AVX-512 VNNI.
    pub vnni: bool,
    /// xmm16 to xmm31 hold guest registers (AVX-512 VL).
    pub vectors32: bool,
}

/// Why there is no translator on this host.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum Unsupported {
    /// Not an x86-64 processor.
    #[error("the translator makes x86-64 code and this host is {0}; use --engine interp")]
    Architecture(&'static str),
    /// A baseline extension is missing.
    #[error(
        "the translator needs AVX2, BMI1/2, FMA, LZCNT, MOVBE and F16C (x86-64-v3) and this host lacks {0}; use --engine interp"
    )]
    Missing(String),
    /// The file for profilers cannot be made.
    #[error("--perf-map: /tmp/perf-PID.map cannot be written ({0})")]
    PerfMap(String),
    /// No executable memory.
    #[error("no executable memory for the translator ({0}); use --engine interp")]
    Memory(String),
}

/// The host's optional features, or why generated code cannot run here.
///
/// # Errors
/// Not x86-64, or not x86-64-v3.
pub fn detect() -> Result<HostFeatures, Unsupported> {
    #[cfg(target_arch = "x86_64")]
    {
        use std::arch::is_x86_feature_detected as has;
        let baseline = [
            ("AVX2", has!("avx2")),
            ("BMI1", has!("bmi1")),
            ("BMI2", has!("bmi2")),
            ("FMA", has!("fma")),
            ("LZCNT", has!("lzcnt")),
            ("POPCNT", has!("popcnt")),
            ("F16C", has!("f16c")),
            ("SSE4.2", has!("sse4.2")),
            ("CMPXCHG16B", has!("cmpxchg16b")),
        ];
        let missing: Vec<&str> = baseline.iter().filter(|(_, has)| !has).map(|(name, _)| *name).collect();
        if !missing.is_empty() {
            return Err(Unsupported::Missing(missing.join(", ")));
        }
        let avx512 = has!("avx512f") && has!("avx512vl") && has!("avx512bw") && has!("avx512dq");
        Ok(HostFeatures {
            aes: has!("aes"),
            pclmul: has!("pclmulqdq"),
            sha: has!("sha"),
            gfni: has!("gfni"),
            avx512,
            vbmi: has!("avx512vbmi"),
            bitalg: has!("avx512bitalg"),
            vnni: has!("avx512vnni"),
            vectors32: avx512,
        })
    }
    #[cfg(not(target_arch = "x86_64"))]
    {
        Err(Unsupported::Architecture(std::env::consts::ARCH))
    }
}
