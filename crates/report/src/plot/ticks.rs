//! Where an axis has its numbers, and how these are written.

/// A number of an axis.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Tick {
    /// Its place, in the axis' own numbers.
    pub(super) at: f64,
    /// How it is written; empty for a place without a number.
    pub(super) text: String,
}

/// Ticks of a linear axis: multiples of 1, 2 or 5 times a power of ten, about `wanted` of them.
pub(super) fn linear(low: f64, high: f64, wanted: usize) -> Vec<Tick> {
    let step = round_step((high - low) / wanted.max(1) as f64);
    let (first, last) = ((low / step - 1e-9).ceil(), (high / step + 1e-9).floor());
    let count = (last - first).clamp(0.0, 1000.0) as usize;
    let places: Vec<f64> = (0..=count).map(|i| (first + i as f64) * step).collect();
    let largest = places.iter().fold(0.0f64, |most, x| most.max(x.abs()));
    let write = |x: f64| match largest {
        // Zero of a large axis is still zero.
        _ if x == 0.0 => "0".to_string(),
        size if size >= 1e6 || step < 1e-4 => scientific(x, step),
        _ => decimal(x, step),
    };
    places.into_iter().map(|at| Tick { at, text: write(at) }).collect()
}

/// The next of 1, 2, 5 times a power of ten above a rough step.
fn round_step(rough: f64) -> f64 {
    let power = 10f64.powf(rough.log10().floor());
    let factor = [1.0, 2.0, 5.0].into_iter().find(|f| f * power >= rough * 0.999).unwrap_or(10.0);
    factor * power
}

/// As many decimals as the step has; whole numbers in groups of three.
fn decimal(x: f64, step: f64) -> String {
    let decimals = (-(step.log10() + 1e-9).floor()).max(0.0) as usize;
    let text = format!("{x:.decimals$}");
    let (sign, digits) = text.strip_prefix('-').map_or(("", text.as_str()), |digits| ("\u{2212}", digits));
    if decimals > 0 || digits.len() < 5 {
        return format!("{sign}{digits}");
    }
    let mut out = String::from(sign);
    for (i, digit) in digits.chars().enumerate() {
        if i > 0 && (digits.len() - i).is_multiple_of(3) {
            out.push(',');
        }
        out.push(digit);
    }
    out
}

/// `2.5e6`, with as many decimals as the step asks for.
fn scientific(x: f64, step: f64) -> String {
    let apart = x.abs().log10().floor() - (step.log10() + 1e-9).floor();
    let decimals = apart.clamp(0.0, 6.0) as usize;
    format!("{x:.decimals$e}").replace('-', "\u{2212}")
}

/// Ticks of a logarithmic axis: powers of ten, about `wanted` of them at most; with 2 and 5 times these where there are
/// but two powers.
pub(super) fn logarithmic(low: f64, high: f64, wanted: usize) -> Vec<Tick> {
    let (first, last) = (low.log10(), high.log10());
    let (from, to) = ((first - 1e-9).ceil() as i64, (last + 1e-9).floor() as i64);
    let decades = usize::try_from(to - from + 1).unwrap_or(0);
    if decades <= 2 {
        return between_powers(low, high, from - 1, to + 1);
    }
    let every = decades.div_ceil(wanted.max(2)).max(1);
    let every = [1, 2, 3, 5, 10, 20, 30, 50, 100].into_iter().find(|&e| e >= every).unwrap_or(every) as i64;
    let power = |i: i64| {
        let text = if i.rem_euclid(every) == 0 { power_of_ten(i) } else { String::new() };
        Tick { at: 10f64.powi(i as i32), text }
    };
    // Where many powers go by, those without a number are left out.
    (from..=to).map(power).filter(|tick| every == 1 || !tick.text.is_empty()).collect()
}

fn between_powers(low: f64, high: f64, from: i64, to: i64) -> Vec<Tick> {
    let inside = |x: &f64| *x >= low * (1.0 - 1e-9) && *x <= high * (1.0 + 1e-9);
    let at = |i: i64, factor: f64| factor * 10f64.powi(i as i32);
    let places: Vec<f64> = (from..=to).flat_map(|i| [1.0, 2.0, 5.0].map(|f| at(i, f))).filter(inside).collect();
    if places.len() < 2 {
        return linear(low, high, 4);
    }
    places.into_iter().map(|x| Tick { at: x, text: plain(x) }).collect()
}

fn power_of_ten(i: i64) -> String {
    match i {
        0 => "1".into(),
        1 => "10".into(),
        _ => format!("10{}", i.to_string().chars().map(raised).collect::<String>()),
    }
}

/// A digit or minus as an exponent.
fn raised(c: char) -> char {
    match c {
        '-' => '\u{207b}',
        '1' => '\u{b9}',
        '2' => '\u{b2}',
        '3' => '\u{b3}',
        c => c.to_digit(10).and_then(|d| char::from_u32(0x2070 + d)).unwrap_or(c),
    }
}

fn plain(x: f64) -> String {
    match x {
        _ if (1e-3..1e5).contains(&x) => decimal(x, x),
        _ => scientific(x, x),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn texts(ticks: &[Tick]) -> Vec<&str> {
        ticks.iter().map(|t| t.text.as_str()).collect()
    }

    #[test]
    fn ticks_are_round_numbers() {
        assert_eq!(texts(&linear(0.0, 1.0, 6)), ["0", "0.2", "0.4", "0.6", "0.8", "1.0"]);
        assert_eq!(texts(&linear(-0.3, 3.1, 6)), ["0", "1", "2", "3"]);
        assert_eq!(texts(&linear(-12.0, 9.0, 5)), ["\u{2212}10", "\u{2212}5", "0", "5"]);
        assert_eq!(texts(&linear(0.0, 41_000.0, 4)), ["0", "20,000", "40,000"]);
        assert_eq!(texts(&linear(0.0, 3e9, 3)), ["0", "1e9", "2e9", "3e9"]);
        assert_eq!(texts(&linear(0.0, 1.2e6, 3)), ["0", "5e5", "1.0e6"]);
    }

    #[test]
    fn logarithmic_ticks_are_powers_of_ten() {
        assert_eq!(texts(&logarithmic(1e-3, 100.0, 8)), ["10⁻³", "10⁻²", "10⁻¹", "1", "10", "10²"]);
        assert_eq!(texts(&logarithmic(1e-30, 1.0, 6)).len(), 4);
        assert_eq!(texts(&logarithmic(1.0, 60.0, 6)), ["1", "2", "5", "10", "20", "50"]);
        assert_eq!(texts(&logarithmic(0.03, 0.2, 6)), ["0.05", "0.1", "0.2"]);
    }

    proptest! {
        #[test]
        fn every_range_has_a_few_ticks_inside(low in -1e6..1e6f64, size in 1e-6..1e6f64, wanted in 3usize..9) {
            let ticks = linear(low, low + size, wanted);
            prop_assert!((1..=2 * wanted + 1).contains(&ticks.len()), "{ticks:?}");
            let slack = 1e-6 * size + 1e-9 * low.abs();
            prop_assert!(ticks.iter().all(|t| t.at >= low - slack && t.at <= low + size + slack));
        }

        #[test]
        fn every_logarithmic_range_too(low in -200.0..200.0f64, size in 0.01..90.0f64, wanted in 3usize..9) {
            let (low, high) = (10f64.powf(low), 10f64.powf(low + size));
            let ticks = logarithmic(low, high, wanted);
            prop_assert!((1..=2 * wanted + 4).contains(&ticks.len()), "{ticks:?}");
            prop_assert!(ticks.iter().all(|t| t.at >= low * 0.999 && t.at <= high * 1.001));
        }
    }
}
