//! `strftime_now`: the date in a prompt, without a time zone library.

use std::fmt::Write;
use std::time::{SystemTime, UNIX_EPOCH};

/// A moment and the distance of the local clock from UTC. The library does not look the zone up: that
/// takes the environment, which is the caller's.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct LocalTime {
    /// Seconds since 1970-01-01 00:00 UTC.
    pub unix_seconds: i64,
    /// How far the local clock is ahead of UTC, in seconds.
    pub utc_offset: i32,
}

const MONTHS: [&str; 12] = [
    "January",
    "February",
    "March",
    "April",
    "May",
    "June",
    "July",
    "August",
    "September",
    "October",
    "November",
    "December",
];
/// From the first of January 1970 on.
const DAYS: [&str; 7] = ["Thursday", "Friday", "Saturday", "Sunday", "Monday", "Tuesday", "Wednesday"];
/// The longest format that makes sense many times over.
const MAX_FORMAT: usize = 1000;

impl LocalTime {
    /// The system's clock, in UTC.
    pub fn now_utc() -> LocalTime {
        let since = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |d| d.as_secs());
        LocalTime { unix_seconds: since as i64, utc_offset: 0 }
    }

    /// The time in the format of C's `strftime`, English names. The error names what is not known.
    pub(super) fn format(self, format: &str) -> Result<String, String> {
        if format.len() > MAX_FORMAT {
            return Err(format!("strftime_now: a format of {} bytes", format.len()));
        }
        // Far beyond any calendar's use, so that no arithmetic below overflows.
        let local = self.unix_seconds.saturating_add(self.utc_offset.into()).clamp(-1 << 40, 1 << 40);
        let (days, second) = (local.div_euclid(86_400), local.rem_euclid(86_400));
        let (year, month, day) = civil(days);
        let (hour, minute, second) = (second / 3600, second / 60 % 60, second % 60);
        let weekday = days.rem_euclid(7) as usize;
        let half = if hour % 12 == 0 { 12 } else { hour % 12 };
        let mut out = String::new();
        let mut chars = format.chars();
        while let Some(c) = chars.next() {
            if c != '%' {
                out.push(c);
                continue;
            }
            let mut directive = chars.next();
            // `%-d`: without padding
            let plain = directive == Some('-');
            if plain {
                directive = chars.next();
            }
            let mut number = |value: i64, width: usize| {
                let width = if plain { 0 } else { width };
                write!(out, "{value:0width$}").is_ok()
            };
            let known = match directive {
                Some('Y') => number(year, 4),
                Some('y') => number(year.rem_euclid(100), 2),
                Some('m') => number(month, 2),
                Some('d') => number(day, 2),
                Some('H') => number(hour, 2),
                Some('I') => number(half, 2),
                Some('M') => number(minute, 2),
                Some('S') => number(second, 2),
                Some('j') => number(days - days_from_civil(year, 1, 1) + 1, 3),
                Some('e') if plain => number(day, 0),
                Some('e') => write!(out, "{day:2}").is_ok(),
                Some('u') => number((weekday as i64 + 3) % 7 + 1, 0),
                Some('w') => number((weekday as i64 + 4) % 7, 0),
                Some('s') => number(self.unix_seconds, 0),
                Some('F') => write!(out, "{year:04}-{month:02}-{day:02}").is_ok(),
                Some('T') => write!(out, "{hour:02}:{minute:02}:{second:02}").is_ok(),
                Some('R') => write!(out, "{hour:02}:{minute:02}").is_ok(),
                Some('D') => write!(out, "{month:02}/{day:02}/{:02}", year.rem_euclid(100)).is_ok(),
                Some('p') => write!(out, "{}", if hour < 12 { "AM" } else { "PM" }).is_ok(),
                Some('B') => write!(out, "{}", MONTHS[month as usize - 1]).is_ok(),
                Some('b' | 'h') => write!(out, "{}", &MONTHS[month as usize - 1][..3]).is_ok(),
                Some('A') => write!(out, "{}", DAYS[weekday]).is_ok(),
                Some('a') => write!(out, "{}", &DAYS[weekday][..3]).is_ok(),
                Some('n') => writeln!(out).is_ok(),
                Some('t') => write!(out, "\t").is_ok(),
                Some('%') => write!(out, "%").is_ok(),
                _ => false,
            };
            if !known {
                let directive = directive.map(String::from).unwrap_or_default();
                return Err(format!("strftime_now: the directive %{directive} is not supported"));
            }
        }
        Ok(out)
    }
}

/// Days since 1970-01-01 of a date in the Gregorian calendar (Howard Hinnant, "chrono-Compatible
/// Low-Level Date Algorithms").
fn days_from_civil(year: i64, month: i64, day: i64) -> i64 {
    let year = year - i64::from(month <= 2);
    let era = year.div_euclid(400);
    let year_of_era = year.rem_euclid(400);
    let day_of_year = (153 * ((month + 9) % 12) + 2) / 5 + day - 1;
    let day_of_era = year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year;
    era * 146_097 + day_of_era - 719_468
}

/// Year, month and day of that many days since 1970-01-01 (the same source).
fn civil(days: i64) -> (i64, i64, i64) {
    let days = days + 719_468;
    let era = days.div_euclid(146_097);
    let day_of_era = days.rem_euclid(146_097);
    let year_of_era = (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * shifted + 2) / 5 + 1;
    let month = if shifted < 10 { shifted + 3 } else { shifted - 9 };
    (year_of_era + era * 400 + i64::from(month <= 2), month, day)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Python: `datetime.fromtimestamp(t, timezone(timedelta(seconds=offset))).strftime(...)`.
    #[test]
    fn dates_are_those_of_python() {
        let format = "%Y-%m-%d %H:%M:%S %a %A %b %B %j %y %I %p %e %-d %w %u";
        for (unix_seconds, utc_offset, want) in [
            (0, 0, "1970-01-01 00:00:00 Thu Thursday Jan January 001 70 12 AM  1 1 4 4"),
            (951_782_400, 0, "2000-02-29 00:00:00 Tue Tuesday Feb February 060 00 12 AM 29 29 2 2"),
            (1_735_689_599, 0, "2024-12-31 23:59:59 Tue Tuesday Dec December 366 24 11 PM 31 31 2 2"),
            (1_735_689_599, 3600, "2025-01-01 00:59:59 Wed Wednesday Jan January 001 25 12 AM  1 1 3 3"),
            (1_793_000_000, -18_000, "2026-10-26 02:33:20 Mon Monday Oct October 299 26 02 AM 26 26 1 1"),
            (-1, 0, "1969-12-31 23:59:59 Wed Wednesday Dec December 365 69 11 PM 31 31 3 3"),
        ] {
            let time = LocalTime { unix_seconds, utc_offset };
            assert_eq!(time.format(format).unwrap(), want);
        }
    }

    #[test]
    fn what_is_unknown_is_said() {
        let time = LocalTime { unix_seconds: 0, utc_offset: 0 };
        assert_eq!(time.format("%d %b %Y 100%%").unwrap(), "01 Jan 1970 100%");
        assert!(time.format("%Q").unwrap_err().contains("%Q"));
        assert!(time.format("%").is_err() && time.format("%-").is_err());
        let end = LocalTime { unix_seconds: i64::MAX, utc_offset: i32::MAX };
        assert!(end.format("%Y %j").is_ok());
        let start = LocalTime { unix_seconds: i64::MIN, utc_offset: i32::MIN };
        assert!(start.format("%Y %j %A").is_ok());
    }
}
