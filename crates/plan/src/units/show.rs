//! Quantities in a few digits.

use crate::Amount;

/// Digits in groups of three: `-32,768`.
pub fn grouped(number: i128) -> String {
    let digits = number.unsigned_abs().to_string();
    let mut out = String::with_capacity(digits.len() * 4 / 3 + 1);
    out.extend((number < 0).then_some('-'));
    for (i, digit) in digits.chars().enumerate() {
        if i > 0 && (digits.len() - i).is_multiple_of(3) {
            out.push(',');
        }
        out.push(digit);
    }
    out
}

/// A real number in up to four digits, without trailing zeros; large and small ones with an exponent.
pub fn plain(x: f64) -> String {
    let size = x.abs();
    if size == 0.0 {
        return "0".into();
    }
    if !(1e-4..1e7).contains(&size) {
        return scientific(x);
    }
    let digits = 3 - (size.log10().floor() as i32);
    if digits <= 0 {
        return grouped(x.round() as i128);
    }
    let text = format!("{x:.*}", digits as usize);
    text.trim_end_matches('0').trim_end_matches('.').to_string()
}

/// `2.75e11`.
pub fn scientific(x: f64) -> String {
    format!("{x:.2e}")
}

/// A size: `2.15 GB`, by powers of 1000.
pub fn bytes(amount: Amount) -> String {
    scaled(amount, &["B", "kB", "MB", "GB", "TB", "PB", "EB"], 1e3)
}

/// A count: exact below ten million, then `6.44 B`.
pub fn count(amount: Amount) -> String {
    match amount {
        Amount::Whole(n) if n.abs() < 10_000_000 => grouped(n),
        Amount::Real(x) if x.abs() < 10_000_000.0 => plain(x),
        large => scaled(large, &["", "k", "M", "B", "T"], 1e3).trim_end().to_string(),
    }
}

/// A time: seconds, minutes, hours, days or years.
pub fn time(seconds: f64) -> String {
    let steps =
        [(365.25 * 86_400.0, "years"), (86_400.0, "days"), (3_600.0, "h"), (60.0, "min"), (1.0, "s"), (1e-3, "ms")];
    let (size, unit) = steps.into_iter().find(|(size, _)| seconds >= 2.0 * size).unwrap_or((1e-3, "ms"));
    let size = if unit == "ms" && seconds >= 1.0 { 1.0 } else { size };
    let unit = if size == 1.0 { "s" } else { unit };
    format!("{} {unit}", three_digits(seconds / size))
}

fn three_digits(x: f64) -> String {
    let decimals = match x.abs() {
        s if s >= 99.95 => 0,
        s if s >= 9.995 => 1,
        _ => 2,
    };
    let text = format!("{x:.decimals$}");
    match text.parse::<i128>() {
        Ok(n) => grouped(n),
        Err(_) => text,
    }
}

fn scaled(amount: Amount, units: &[&str], base: f64) -> String {
    let mut value = amount.real();
    let mut unit = 0;
    // What would be rounded to 1000 of a unit is one of the next.
    while value.abs() >= base - 0.5 && unit + 1 < units.len() {
        value /= base;
        unit += 1;
    }
    match unit {
        0 => format!("{} {}", grouped(value.round() as i128), units[0]),
        _ => format!("{} {}", three_digits(value), units[unit]),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_shown_in_a_few_digits() {
        let whole = |n: i128| Amount::Whole(n);
        assert_eq!(bytes(whole(2_147_483_648)), "2.15 GB");
        assert_eq!(bytes(whole(98_362_432)), "98.4 MB");
        assert_eq!(bytes(whole(999_999)), "1.00 MB");
        assert_eq!(bytes(whole(140_000_000_000)), "140 GB");
        assert_eq!(bytes(whole(999)), "999 B");
        assert_eq!(count(whole(500_000)), "500,000");
        assert_eq!(count(whole(6_442_450_944)), "6.44 B");
        assert_eq!(count(whole(-16_777_216)), "-16.8 M");
        assert_eq!(plain(0.00776), "0.00776");
        assert_eq!(plain(3.125), "3.125");
        assert_eq!(plain(12.5), "12.5");
        assert_eq!(plain(6.1e-5), "6.10e-5");
        assert_eq!(plain(99_999.6), "100,000");
        assert_eq!(scientific(274_877_906_944.0), "2.75e11");
        assert_eq!(time(0.02), "20.0 ms");
        assert_eq!(time(1.5), "1.50 s");
        assert_eq!(time(7_200.0), "2.00 h");
        assert_eq!(time(86_400.0 * 21.0), "21.0 days");
        assert_eq!(grouped(-1_234), "-1,234");
    }
}
