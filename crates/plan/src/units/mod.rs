//! Quantities as people write and read them.
//!
//! Written: `16GiB`, `16 GB`, `1.5e9`, `7B`, `32k`, `40 GB/s`, `80 %`. Read: three digits and a unit. Bytes and
//! counts go by powers of 1000 (`Ki`, `Mi`, `Gi`, `Ti` by powers of 1024), but lengths in tokens by 1024, as
//! everywhere in this program: `32k` is 32,768.

mod show;

pub use show::{bytes, count, grouped, plain, scientific, time};

use crate::{Error, Result};

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

    proptest::proptest! {
        #[test]
        fn no_text_makes_parsing_fail_otherwise_than_by_an_error(text in ".{0,12}") {
            let _ = (parse_bytes(&text), parse_count(&text), parse_length(&text));
            let _ = (parse_bandwidth(&text), parse_speed(&text), parse_share(&text));
        }
    }
}
