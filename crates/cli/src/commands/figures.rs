//! Numbers and names as people read them in a terminal.

/// A size: `98.4 MB` (a million bytes each), three digits.
pub(crate) fn bytes(count: u64) -> String {
    scaled(count, &["B", "kB", "MB", "GB", "TB", "PB", "EB"])
}

/// A count: `134.5 M`.
pub(crate) fn count(count: u64) -> String {
    scaled(count, &["", "k", "M", "G", "T", "P", "E"])
}

fn scaled(count: u64, units: &[&str]) -> String {
    let mut value = count as f64;
    let mut unit = 0;
    // What would be rounded to 1000 of a unit is one of the next.
    while value >= 999.95 && unit + 1 < units.len() {
        value /= 1000.0;
        unit += 1;
    }
    match unit {
        0 => format!("{count} {}", units[0]).trim_end().to_string(),
        _ => format!("{value:.1} {}", units[unit]),
    }
}

/// Digits in groups: `49,152`.
pub(crate) fn thousands(number: u64) -> String {
    let digits = number.to_string();
    let mut out = String::with_capacity(digits.len() + digits.len() / 3);
    for (i, digit) in digits.chars().enumerate() {
        if i > 0 && (digits.len() - i).is_multiple_of(3) {
            out.push(',');
        }
        out.push(digit);
    }
    out
}

/// Text out of a file for a line of a terminal: control characters spelt out, at most `most` characters.
pub(crate) fn shown(text: &str, most: usize) -> String {
    let mut out = String::new();
    for (i, c) in text.chars().enumerate() {
        if i == most {
            out.push_str("...");
            break;
        }
        match c.is_control() {
            true => out.extend(c.escape_default()),
            false => out.push(c),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_have_a_fitting_unit() {
        assert_eq!(bytes(0), "0 B");
        assert_eq!(bytes(999), "999 B");
        assert_eq!(bytes(23_040), "23.0 kB");
        assert_eq!(bytes(98_362_432), "98.4 MB");
        assert_eq!(bytes(999_960), "1.0 MB");
        assert_eq!(bytes(u64::MAX), "18.4 EB");
        assert_eq!(count(576), "576");
        assert_eq!(count(134_515_008), "134.5 M");
    }

    #[test]
    fn digits_are_grouped() {
        let all = [0, 12, 123, 1234, 49_152, 1_000_000].map(thousands);
        assert_eq!(all, ["0", "12", "123", "1,234", "49,152", "1,000,000"]);
    }

    #[test]
    fn a_file_cannot_speak_to_the_terminal() {
        assert_eq!(shown("a\x1b[31mb\nc", 100), "a\\u{1b}[31mb\\nc");
        assert_eq!(shown("äbc", 2), "äb...");
    }
}
