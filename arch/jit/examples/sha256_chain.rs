//! What the host's processor takes for the dependency chain of SHA256H with SHA256H2, natively: the least that translated code can take.
//!
//! `cargo run --release -p jit --example sha256_chain` prints cycles (dependent additions of 64 bits take one each). The design page `simd.md` says
//! what follows.
#![expect(unsafe_code, reason = "it measures machine instructions")]

#[cfg(not(target_arch = "x86_64"))]
fn main() {
    println!("this measures x86-64 hosts");
}

#[cfg(target_arch = "x86_64")]
fn main() {
    if std::arch::is_x86_feature_detected!("sha") && std::arch::is_x86_feature_detected!("avx2") {
        chain::report();
    } else {
        println!("this host has no SHA extensions or no AVX2");
    }
}

#[cfg(target_arch = "x86_64")]
mod chain {
    use std::arch::asm;
    use std::time::Instant;

    const ROUNDS: u64 = 20_000;
    const TRIES: u32 = 2000;

    /// A function that runs `ROUNDS` times four copies of what is given. Registers xmm0 to xmm11 and RAX may be used.
    macro_rules! looped {
        ($name:ident, $($line:literal),+ $(,)?) => {
            fn $name() {
                // SAFETY: the instructions only use registers that are named as lost; `report` runs where the host has them.
                unsafe {
                    asm!(
                        "2:",
                        ".rept 4",
                        $($line,)+
                        ".endr",
                        "dec {n}",
                        "jnz 2b",
                        n = inout(reg) ROUNDS => _,
                        out("rax") _, out("xmm0") _, out("xmm1") _, out("xmm2") _, out("xmm3") _, out("xmm4") _, out("xmm5") _,
                        out("xmm6") _, out("xmm7") _, out("xmm8") _, out("xmm9") _, out("xmm10") _, out("xmm11") _,
                        options(nomem, nostack)
                    );
                }
            }
        };
    }

    looped!(addition, "add rax, 1");
    looped!(rounds, "sha256rnds2 xmm2, xmm2, xmm0");
    looped!(join, "vpblendd xmm2, xmm2, xmm3, 12");
    /// SHA256H q6, q7, v3; SHA256H2 q7, q6, v3 as the translator emits them, the state in xmm2 and xmm3, and what follows them.
    macro_rules! looped_pair {
        ($name:ident $(, $line:literal)* $(,)?) => {
            looped!(
                $name,
                "vmovaps xmm0, xmm7",
                "vmovaps xmm1, xmm3",
                "sha256rnds2 xmm1, xmm2, xmm0",
                "vpblendd xmm3, xmm3, xmm1, 12",
                "sha256rnds2 xmm3, xmm2, xmm0",
                "vpshufd xmm0, xmm0, 14",
                "vmovaps xmm10, xmm2",
                "sha256rnds2 xmm10, xmm1, xmm0",
                "vpblendd xmm11, xmm2, xmm10, 12",
                "sha256rnds2 xmm11, xmm3, xmm0",
                "vpblendd xmm2, xmm11, xmm10, 12",
                "vshufps xmm10, xmm10, xmm1, 0xbb",
                "vshufps xmm11, xmm11, xmm3, 0x11",
                "vpblendd xmm3, xmm3, xmm1, 12"
                $(, $line)*
            );
        };
    }

    looped_pair!(pair);
    // SHA256SU0 and SHA256SU1 behind it: the row of the benchmark.
    looped_pair!(
        row,
        "sha256msg1 xmm7, xmm8",
        "vpalignr xmm0, xmm9, xmm8, 4",
        "vpaddd xmm7, xmm0, xmm7",
        "sha256msg2 xmm7, xmm9",
    );

    /// The least time of one, in ns.
    fn least(what: fn()) -> f64 {
        let tries = (0..TRIES).map(|_| {
            let begin = Instant::now();
            what();
            begin.elapsed().as_secs_f64()
        });
        tries.fold(f64::INFINITY, f64::min) * 1e9 / (4 * ROUNDS) as f64
    }

    pub fn report() {
        let each: [(&str, fn()); 5] = [
            ("addition", addition),
            ("SHA256RNDS2", rounds),
            ("VPBLENDD", join),
            ("SHA256H, SHA256H2", pair),
            ("... SHA256SU0, SHA256SU1", row),
        ];
        for (name, what) in each {
            // The clock of the processor changes: additions beside each.
            let (cycle, time) = (least(addition), least(what));
            println!("{name:26} {:5.2} cycles {time:6.3} ns", time / cycle);
        }
    }
}
