//! Sizes as people type them: `512M`, `2G`.

/// Reads a size in bytes. The unit is required: a bare number means MiB to some tools and bytes to others.
pub fn parse(text: &str) -> Result<u64, String> {
    let trimmed = text.trim();
    let digits = trimmed.find(|c: char| !c.is_ascii_digit()).unwrap_or(trimmed.len());
    let (number, unit) = trimmed.split_at(digits);
    let number: u64 =
        number.parse().map_err(|_| format!("{text:?} is not a size; write a number and a unit, as 512M or 2G"))?;
    let shift = match unit.to_ascii_uppercase().as_str() {
        "K" | "KB" | "KIB" => 10,
        "M" | "MB" | "MIB" => 20,
        "G" | "GB" | "GIB" => 30,
        "T" | "TB" | "TIB" => 40,
        "" => return Err(format!("{text:?} has no unit; write {number}M for MiB or {number}G for GiB")),
        _ => return Err(format!("{unit:?} is not a unit; use K, M, G or T (powers of 1024)")),
    };
    number.checked_mul(1 << shift).ok_or_else(|| format!("{text:?} does not fit into 64 bits"))
}

/// The shortest exact form of a number of bytes.
pub fn show(bytes: u64) -> String {
    for (shift, unit) in [(40, "TiB"), (30, "GiB"), (20, "MiB"), (10, "KiB")] {
        if bytes != 0 && bytes.trailing_zeros() >= shift {
            return format!("{} {unit}", bytes >> shift);
        }
    }
    format!("{bytes} bytes")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn units() {
        assert_eq!(parse("512M"), Ok(512 << 20));
        assert_eq!(parse("2g"), Ok(2 << 30));
        assert_eq!(parse("4GiB"), Ok(4 << 30));
        assert_eq!(parse("64k"), Ok(64 << 10));
    }

    #[test]
    fn errors_name_the_fix() {
        assert!(parse("512").unwrap_err().contains("512M"));
        assert!(parse("lots").unwrap_err().contains("512M"));
        assert!(parse("1X").unwrap_err().contains("K, M, G"));
        assert!(parse("99999999999T").unwrap_err().contains("64 bits"));
    }

    #[test]
    fn shown_exactly() {
        assert_eq!(show(1 << 30), "1 GiB");
        assert_eq!(show(1536 << 20), "1536 MiB");
        assert_eq!(show(3), "3 bytes");
    }
}
