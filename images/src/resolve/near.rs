//! Names that look like a wrong one.

/// At most four of `names` that are few changes away from `wanted`, the nearest first.
pub(crate) fn names<'a>(names: impl Iterator<Item = &'a str>, wanted: &str) -> Vec<String> {
    let allowed = if wanted.len() < 5 { 1 } else { 2 };
    let distance = |name: &str| {
        if name.len().abs_diff(wanted.len()) > allowed {
            return None;
        }
        Some(changes(name.as_bytes(), wanted.as_bytes())).filter(|count| *count <= allowed)
    };
    let mut near: Vec<(usize, &str)> = names.filter_map(|name| Some((distance(name)?, name))).collect();
    near.sort_unstable();
    near.into_iter().take(4).map(|(_, name)| name.to_owned()).collect()
}

/// How many bytes must be put in, taken out or replaced to make `a` of `b`.
fn changes(a: &[u8], b: &[u8]) -> usize {
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (number, x) in a.iter().enumerate() {
        let mut diagonal = number;
        let mut left = number + 1;
        for (cell, y) in row.iter_mut().skip(1).zip(b) {
            let above = *cell;
            let replaced = diagonal + usize::from(x != y);
            left = replaced.min(above + 1).min(left + 1);
            (diagonal, *cell) = (above, left);
        }
        if let Some(first) = row.first_mut() {
            *first = number + 1;
        }
    }
    row.last().copied().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_nearest_come_first() {
        for (a, b, count) in [("gcc", "gcc", 0), ("gc", "gcc", 1), ("kitten", "sitting", 3), ("", "ab", 2)] {
            assert_eq!(changes(a.as_bytes(), b.as_bytes()), count, "{a} {b}");
        }
        let all = ["python3", "python2", "pyhton3", "perl", "python3-numpy"];
        assert_eq!(names(all.into_iter(), "pythn3"), ["python3", "pyhton3", "python2"]);
        assert!(names(all.into_iter(), "emacs").is_empty());
    }
}
