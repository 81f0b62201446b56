//! Numbers in words: six digits, and no more than are there.

use porism_plan::units::grouped;

/// A number in up to six digits: `0.51025`, `2.05`, `500,000`, `1.3e-29`.
pub(crate) fn show(x: f64) -> String {
    let size = x.abs();
    if size == 0.0 {
        return "0".into();
    }
    if !size.is_finite() {
        return if x.is_nan() {
            "NaN".into()
        } else if x > 0.0 {
            "inf".into()
        } else {
            "-inf".into()
        };
    }
    if x.fract() == 0.0 && size < 1e9 {
        return if size < 1e4 { format!("{x:.0}") } else { grouped(x as i128) };
    }
    if !(1e-4..1e7).contains(&size) {
        let text = format!("{x:.3e}");
        let (digits, exponent) = text.split_once('e').unwrap_or((&text, "0"));
        return format!("{}e{exponent}", digits.trim_end_matches('0').trim_end_matches('.'));
    }
    let decimals = (5 - size.log10().floor() as i32).max(0) as usize;
    let text = format!("{x:.decimals$}");
    match text.contains('.') {
        true => text.trim_end_matches('0').trim_end_matches('.').to_string(),
        false => text,
    }
}

/// The same in parentheses if it is below zero, to stand behind an operator.
pub(crate) fn operand(x: f64) -> String {
    if x < 0.0 { format!("({})", show(x)) } else { show(x) }
}

/// `[0.25, 0.4]`.
pub(crate) fn list(xs: &[f64]) -> String {
    let texts: Vec<String> = xs.iter().map(|&x| show(x)).collect();
    format!("[{}]", texts.join(", "))
}

/// A share as per cent.
pub(crate) fn percent(share: f64) -> String {
    format!("{} %", show(100.0 * share))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_have_the_digits_that_matter() {
        let all = [0.1 + 0.2, 0.51025, -0.1025, 2.05, std::f64::consts::LN_2, 500_000.0, 4096.0, 1.3e-29, 3.0e8 + 0.5];
        let want = ["0.3", "0.51025", "-0.1025", "2.05", "0.693147", "500,000", "4096", "1.3e-29", "3e8"];
        assert_eq!(all.map(show), want);
        assert_eq!([f64::INFINITY, f64::NEG_INFINITY, f64::NAN].map(show), ["inf", "-inf", "NaN"]);
        assert_eq!(list(&[0.25, -0.4]), "[0.25, -0.4]");
        assert_eq!(operand(-6.0), "(-6)");
        assert_eq!(percent(2.0 / 64.0), "3.125 %");
    }
}
