//! The Gregorian calendar, carried on to both sides, and the days since 1970 that computers count. Years begin in March
//! inside, so that the leap day comes last; 400 of them have always the same length.

/// From 1 March of the year 0 to 1 January 1970.
const TO_1970: u64 = 719_468;
/// Days of 400 years.
const ERA: u64 = 146_097;

/// Year, month (1 to 12) and day of the month (from 1) of a day since 1970.
pub(crate) fn date(days: u64) -> (u64, u64, u64) {
    let days = days + TO_1970;
    let (era, day) = (days / ERA, days % ERA);
    let year = (day - day / 1460 + day / 36_524 - day / 146_096) / 365;
    let day = day - (365 * year + year / 4 - year / 100);
    let month = (5 * day + 2) / 153;
    let day = day - (153 * month + 2) / 5 + 1;
    let (year, month) = if month < 10 { (year, month + 3) } else { (year + 1, month - 9) };
    (year + era * 400, month, day)
}

/// The day since 1970 of a date as [`date`] gives it; `None` before 1970. `month` and `day` are at least 1.
pub(crate) fn days((year, month, day): (u64, u64, u64)) -> Option<u64> {
    let (year, month) = if month > 2 { (year, month - 3) } else { (year - 1, month + 9) };
    let days = 365 * year + year / 4 - year / 100 + year / 400 + (153 * month + 2) / 5 + day - 1;
    days.checked_sub(TO_1970)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_day_has_its_date() {
        assert_eq!(
            [date(0), date(58), date(59), date(11_016)],
            [(1970, 1, 1), (1970, 2, 28), (1970, 3, 1), (2000, 2, 29)]
        );
        for day in 0..2 * ERA {
            assert_eq!(days(date(day)), Some(day));
        }
        assert_eq!(days((1969, 12, 31)), None);
    }
}
