//! Quantities as people write and read them.
//!
//! Written: `16GiB`, `16 GB`, `1.5e9`, `7B`, `32k`, `40 GB/s`, `80 %`. Read: three digits and a unit. Bytes and
//! counts go by powers of 1000 (`Ki`, `Mi`, `Gi`, `Ti` by powers of 1024), but lengths in tokens by 1024, as
//! everywhere in this program: `32k` is 32,768.

use crate::{Amount, Error, Result};

const BYTES: &str = "16GiB, 16 GB or 1.5e9 (kB, MB, GB, TB are powers of 1000, KiB, MiB, GiB, TiB of 1024)";
const COUNT: &str = "7B, 350M or 1.5e9 (k, M, B or G, T are powers of 1000)";
const LENGTH: &str = "4096 or 32k (k is 1024)";
const RATE: &str = "40GB/s, 40 GB or 4e10 (bytes a second)";
const SPEED: &str = "300G, 1.2T or 3e11 (operations a second, a multiply-add is two)";
const SHARE: &str = "0.8 or 80% (above 0, at most 1)";

/// The largest number that is read: what is beyond is a slip, and products stay finite.
const MOST: f64 = 1e30;

/// The number at the front of a text, and what follows it.
fn number(text: &str) -> Option<(f64, &str)> {
    let text = text.trim();
    let mut end = text.find(|c: char| !(c.is_ascii_digit() || matches!(c, '.' | ',' | '_'))).unwrap_or(text.len());
    // An exponent, where digits follow: `1.5e9`, but not the e of another word.
    let rest = &text[end..];
    if let Some(after) = rest.strip_prefix(['e', 'E']) {
        let signed = after.strip_prefix(['+', '-']).unwrap_or(after);
        let digits = signed.find(|c: char| !c.is_ascii_digit()).unwrap_or(signed.len());
        if digits > 0 {
            end += 1 + (after.len() - signed.len()) + digits;
        }
    }
    let digits: String = text[..end].chars().filter(|c| !matches!(c, ',' | '_')).collect();
    let value: f64 = digits.parse().ok()?;
    (value > 0.0 && value <= MOST).then(|| (value, text[end..].trim()))
}

/// The factor of a prefix: `k`, `M`, `Gi` ...; none for what is no prefix.
fn prefix(text: &str) -> Option<f64> {
    let (letter, base) = match text.strip_suffix('i') {
        Some(letter) => (letter, 1024f64),
        None => (text, 1000f64),
    };
    let power = match letter {
        "" if base == 1000.0 => 0,
        "k" | "K" => 1,
        "m" | "M" => 2,
        "g" | "G" => 3,
        "t" | "T" => 4,
        "p" | "P" => 5,
        _ => return None,
    };
    Some(base.powi(power))
}

fn whole(value: f64) -> Option<u64> {
    (value >= 1.0 && value < u64::MAX as f64).then_some(value.round() as u64)
}

/// A size in bytes.
///
/// # Errors
/// The text is none, or it is not from 1 to 2^64.
pub fn parse_bytes(text: &str) -> Result<u64> {
    let read = || {
        let (value, unit) = number(text)?;
        whole(value * prefix(unit.strip_suffix(['b', 'B']).unwrap_or(unit))?)
    };
    read().ok_or_else(|| Error::Quantity { text: text.into(), what: "size", accepted: BYTES })
}

/// A count, of parameters or tokens of training.
///
/// # Errors
/// The text is none, or it is not from 1 to 2^64.
pub fn parse_count(text: &str) -> Result<u64> {
    let read = || {
        let (value, unit) = number(text)?;
        let factor = if matches!(unit, "b" | "B") { 1e9 } else { prefix(unit)? };
        whole(value * factor)
    };
    read().ok_or_else(|| Error::Quantity { text: text.into(), what: "count", accepted: COUNT })
}

/// A length in tokens, where `k` is 1024.
///
/// # Errors
/// The text is none, or it is not from 1 to 2^40.
pub fn parse_length(text: &str) -> Result<u64> {
    let read = || {
        let (value, unit) = number(text)?;
        let factor = match unit {
            "" => 1.0,
            "k" | "K" | "Ki" => 1024.0,
            "m" | "M" | "Mi" => 1024.0 * 1024.0,
            _ => return None,
        };
        let length = value * factor;
        whole(length).filter(|&n| n <= 1 << 40 && length.fract() == 0.0)
    };
    read().ok_or_else(|| Error::Quantity { text: text.into(), what: "length in tokens", accepted: LENGTH })
}

/// Bytes a second.
///
/// # Errors
/// The text is no rate.
pub fn parse_bandwidth(text: &str) -> Result<u64> {
    let text_of_size = text.trim().strip_suffix("/s").unwrap_or(text);
    parse_bytes(text_of_size).map_err(|_| Error::Quantity { text: text.into(), what: "bandwidth", accepted: RATE })
}

/// Operations a second.
///
/// # Errors
/// The text is no speed.
pub fn parse_speed(text: &str) -> Result<u64> {
    let read = || {
        let (value, unit) = number(text)?;
        let unit = unit.to_ascii_lowercase();
        let endings = ["flop/s", "flops", "op/s", "ops", "/s"];
        let unit = endings.iter().find_map(|e| unit.strip_suffix(e)).unwrap_or(&unit);
        whole(value * prefix(unit.trim())?)
    };
    read().ok_or_else(|| Error::Quantity { text: text.into(), what: "speed", accepted: SPEED })
}

/// A share of a whole: above 0, at most 1.
///
/// # Errors
/// The text is none.
pub fn parse_share(text: &str) -> Result<f64> {
    let read = || {
        let (value, unit) = number(text)?;
        let share = match unit {
            "" => value,
            "%" => value / 100.0,
            _ => return None,
        };
        (share <= 1.0).then_some(share)
    };
    read().ok_or_else(|| Error::Quantity { text: text.into(), what: "share", accepted: SHARE })
}

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
    fn sizes_are_read_in_every_usual_spelling() {
        let sizes = [
            ("16GiB", 16 << 30),
            ("16 GB", 16_000_000_000),
            ("1.5e9", 1_500_000_000),
            ("512 MiB", 512 << 20),
            ("24G", 24_000_000_000),
            ("100kb", 100_000),
            ("1,024", 1024),
            ("80 B", 80),
            (" 2TiB ", 2 << 40),
            ("1e3 kB", 1_000_000),
        ];
        for (text, want) in sizes {
            assert_eq!(parse_bytes(text), Ok(want), "{text}");
        }
        for text in ["16 apples", "", "-1", "0", "GB", "1.5.2", "1e40", "nan", "inf", "16 i", "1e", "0.2"] {
            let error = parse_bytes(text).expect_err(text).to_string();
            assert!(error.contains("16GiB, 16 GB or 1.5e9"), "{error}");
        }
    }

    #[test]
    fn counts_lengths_rates_and_shares_are_read() {
        assert_eq!(parse_count("7B"), Ok(7_000_000_000));
        assert_eq!(parse_count("1.5e9"), Ok(1_500_000_000));
        assert_eq!(parse_count("2T"), Ok(2_000_000_000_000));
        assert_eq!(parse_count("4 M"), Ok(4_000_000));
        assert_eq!(parse_count("4Mi"), Ok(4 << 20));
        assert_eq!(parse_length("32k"), Ok(32_768));
        assert_eq!(parse_length("128000"), Ok(128_000));
        assert_eq!(parse_bandwidth("40GB/s"), Ok(40_000_000_000));
        assert_eq!(parse_bandwidth("2 TB"), Ok(2_000_000_000_000));
        assert_eq!(parse_speed("300G"), Ok(300_000_000_000));
        assert_eq!(parse_speed("1.2 TFLOP/s"), Ok(1_200_000_000_000));
        assert_eq!(parse_speed("312e12"), Ok(312_000_000_000_000));
        assert_eq!(parse_share("80%"), Ok(0.8));
        assert_eq!(parse_share("0.25"), Ok(0.25));
        for (error, words) in [
            (parse_count("7 dwarfs").expect_err("words").to_string(), "7B"),
            (parse_length("1.0001k").expect_err("no whole").to_string(), "k is 1024"),
            (parse_length("9e15").expect_err("far").to_string(), "4096 or 32k"),
            (parse_bandwidth("fast").expect_err("words").to_string(), "40GB/s"),
            (parse_speed("3 knots").expect_err("words").to_string(), "300G"),
            (parse_share("120%").expect_err("above").to_string(), "at most 1"),
            (parse_share("0").expect_err("none").to_string(), "above 0"),
        ] {
            assert!(error.contains(words), "{error}");
        }
    }

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

    proptest::proptest! {
        #[test]
        fn no_text_makes_parsing_fail_otherwise_than_by_an_error(text in ".{0,12}") {
            let _ = (parse_bytes(&text), parse_count(&text), parse_length(&text));
            let _ = (parse_bandwidth(&text), parse_speed(&text), parse_share(&text));
        }
    }
}
