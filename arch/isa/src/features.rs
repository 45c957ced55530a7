//! The optional features of the architecture that an encoding may depend on.

/// A feature (Arm ARM A2): its name there is `FEAT_` and the upper-case name here.
#[derive(Copy, Clone, PartialEq, Eq, Debug, Hash)]
#[repr(u8)]
pub enum Feature {
    /// CRC32 and CRC32C.
    Crc32,
    /// Large system extensions: atomic memory operations.
    Lse,
    /// Limited ordering regions.
    Lor,
    /// Load-acquire RCpc.
    Lrcpc,
    /// Load-acquire RCpc with an offset.
    Lrcpc2,
    /// Flag manipulation.
    FlagM,
    /// Flag format conversion.
    FlagM2,
    /// JavaScript conversion.
    Jscvt,
    /// Rounding double multiply accumulate.
    Rdm,
    /// Dot product.
    DotProd,
    /// AES.
    Aes,
    /// PMULL of doublewords.
    Pmull,
    /// SHA-1.
    Sha1,
    /// SHA-256.
    Sha256,
    /// Privileged access never.
    Pan,
    /// Speculative store bypass safe, with MSR.
    Ssbs,
    /// Data independent timing.
    Dit,
    /// WFE and WFI with a timeout.
    Wfxt,
    /// Speculation barrier.
    Sb,
}

impl Feature {
    /// All features.
    pub const ALL: [Feature; 19] = [
        Feature::Crc32,
        Feature::Lse,
        Feature::Lor,
        Feature::Lrcpc,
        Feature::Lrcpc2,
        Feature::FlagM,
        Feature::FlagM2,
        Feature::Jscvt,
        Feature::Rdm,
        Feature::DotProd,
        Feature::Aes,
        Feature::Pmull,
        Feature::Sha1,
        Feature::Sha256,
        Feature::Pan,
        Feature::Ssbs,
        Feature::Dit,
        Feature::Wfxt,
        Feature::Sb,
    ];
}

/// A set of features.
#[derive(Copy, Clone, PartialEq, Eq, Debug, Hash)]
pub struct Features(u32);

impl Features {
    /// Armv8.0 without options.
    pub const NONE: Features = Features(0);
    /// Everything that the table knows.
    pub const ALL: Features = Features((1 << Feature::ALL.len()) - 1);

    /// The set with one feature more.
    #[must_use]
    pub const fn with(self, feature: Feature) -> Features {
        Features(self.0 | 1 << feature as u32)
    }

    /// The set with one feature less.
    #[must_use]
    pub const fn without(self, feature: Feature) -> Features {
        Features(self.0 & !(1 << feature as u32))
    }

    /// Is the feature with this discriminant in the set?
    #[inline]
    pub(crate) const fn has_number(self, number: u8) -> bool {
        self.0 >> (number & 31) & 1 != 0
    }

    /// Is the feature in the set?
    #[inline]
    #[must_use]
    pub const fn has(self, feature: Feature) -> bool {
        self.0 >> feature as u32 & 1 != 0
    }
}

impl Default for Features {
    fn default() -> Self {
        Features::ALL
    }
}
