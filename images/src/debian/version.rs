//! The order of Debian versions (deb-version(7)).

use std::cmp::Ordering;

/// Compares two versions: `[epoch:]upstream[-revision]`.
pub fn compare_versions(a: &str, b: &str) -> Ordering {
    let ((a_epoch, a), (b_epoch, b)) = (epoch(a), epoch(b));
    let ((a_upstream, a_revision), (b_upstream, b_revision)) = (revision(a), revision(b));
    compare_numbers(a_epoch, b_epoch)
        .then_with(|| compare_part(a_upstream, b_upstream))
        .then_with(|| compare_part(a_revision, b_revision))
}

fn epoch(version: &str) -> (&str, &str) {
    version.split_once(':').unwrap_or(("0", version))
}

fn revision(version: &str) -> (&str, &str) {
    version.rsplit_once('-').unwrap_or((version, "0"))
}

/// Compares runs of digits of any length as numbers.
fn compare_numbers(a: &str, b: &str) -> Ordering {
    let (a, b) = (a.trim_start_matches('0'), b.trim_start_matches('0'));
    a.len().cmp(&b.len()).then_with(|| a.cmp(b))
}

/// Compares by turns the longest start without digits and the longest start of digits.
fn compare_part(mut a: &str, mut b: &str) -> Ordering {
    while !a.is_empty() || !b.is_empty() {
        let (a_text, a_rest) = a.split_at(a.find(|c: char| c.is_ascii_digit()).unwrap_or(a.len()));
        let (b_text, b_rest) = b.split_at(b.find(|c: char| c.is_ascii_digit()).unwrap_or(b.len()));
        let (a_number, a_after) = a_rest.split_at(a_rest.find(|c: char| !c.is_ascii_digit()).unwrap_or(a_rest.len()));
        let (b_number, b_after) = b_rest.split_at(b_rest.find(|c: char| !c.is_ascii_digit()).unwrap_or(b_rest.len()));
        let order = compare_text(a_text, b_text).then_with(|| compare_numbers(a_number, b_number));
        if order != Ordering::Equal {
            return order;
        }
        (a, b) = (a_after, b_after);
    }
    Ordering::Equal
}

/// Tilde before the end, the end before letters, letters before everything else.
fn compare_text(a: &str, b: &str) -> Ordering {
    let weight = |c: Option<u8>| match c {
        Some(b'~') => -1,
        None => 0,
        Some(c) if c.is_ascii_alphabetic() => i32::from(c),
        Some(c) => i32::from(c) + 256,
    };
    let length = a.len().max(b.len());
    let mut pairs = (0..length).map(|i| (a.as_bytes().get(i).copied(), b.as_bytes().get(i).copied()));
    pairs.find_map(|(a, b)| Some(weight(a).cmp(&weight(b))).filter(|order| order.is_ne())).unwrap_or(Ordering::Equal)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_order_is_that_of_dpkg() {
        for (a, order, b) in [
            ("6.1.176-1", "<", "6.12.95-1~bpo12+1"),
            ("6.12.95-1~bpo12+1", "<", "6.12.95-1"),
            ("1:1.0", ">", "2.0"),
            ("0:1.0", "=", "1.0"),
            ("1.0", "=", "1.0-0"),
            ("1.0~rc1", "<", "1.0"),
            ("1.0a", ">", "1.0"),
            ("1.0+b1", ">", "1.0"),
            ("1.0a", "<", "1.0+"),
            ("1.010", "=", "1.10"),
            ("1.9", "<", "1.10"),
            ("1.2-3-4", ">", "1.2-3"),
            ("99999999999999999999999", ">", "99999999999999999999998"),
        ] {
            let expected = match order {
                "<" => Ordering::Less,
                ">" => Ordering::Greater,
                _ => Ordering::Equal,
            };
            assert_eq!(compare_versions(a, b), expected, "{a} {order} {b}");
            assert_eq!(compare_versions(b, a), expected.reverse(), "{b} against {a}");
        }
    }
}
