//! `plan precision`: the range and resolution of number formats, and what becomes of a number in them.

mod format;

pub use format::{FORMATS, Format, levels};

use crate::formula::Symbols;
use crate::{Amount, Answer, Error, Result, Unit};
use format::Format::{Float, Integer, NormalFloat};
use format::most;

/// The answer of `plan precision`, with what becomes of `numbers` in each format.
///
/// # Errors
/// A number is none.
pub fn answer(formats: &[Format], numbers: &[f64]) -> Result<Answer> {
    let mut answer = Answer::new("number formats");
    let symbols = |format: &Format| match *format {
        Float { exponent, mantissa, .. } => Symbols::new().with("e", exponent).with("m", mantissa),
        Integer { bits, .. } => Symbols::new().with("b", bits),
        NormalFloat => Symbols::new(),
    };
    let part = answer.part("bits: sign, exponent, mantissa");
    for format in formats {
        let (key, name) = (format!("{}_bits", format.name()), format.name());
        match format {
            Float { .. } => part.line(&key, name, "1 + e + m", &symbols(format), Unit::Count("bits"))?,
            Integer { .. } => part.line(&key, name, "b", &symbols(format), Unit::Count("bits"))?,
            NormalFloat => {
                part.known(&key, name, 4u64, Unit::Count("bits"));
                Amount::Whole(4)
            }
        };
    }
    let part = answer.part("largest number");
    for format in formats {
        let (key, name) = (format!("{}_largest", format.name()), format.name());
        match format {
            Float { finite: true, .. } => {
                let formula = "(2 - 2^(1 - m)) * 2^(2^(e - 1))";
                part.line(&key, name, formula, &symbols(format), Unit::Number(""))?;
            }
            Float { .. } => {
                let formula = "(2 - 2^-m) * 2^(2^(e - 1) - 1)";
                part.line(&key, name, formula, &symbols(format), Unit::Number(""))?;
            }
            Integer { .. } => {
                part.line(&key, name, "2^(b - 1) - 1", &symbols(format), Unit::Number("x scale"))?;
            }
            NormalFloat => part.known(&key, name, 1u64, Unit::Number("x scale")),
        }
    }
    let part = answer.part("smallest above zero");
    for format in formats {
        let (key, name) = (format!("{}_smallest", format.name()), format.name());
        match format {
            Float { .. } => {
                let normal = "2^(2 - 2^(e - 1))";
                part.line(&key, name, normal, &symbols(format), Unit::Number(""))?;
                let below = "2^(2 - 2^(e - 1) - m)";
                let key = format!("{}_subnormal", format.name());
                part.line(&key, "  subnormal", below, &symbols(format), Unit::Number(""))?;
            }
            Integer { .. } => part.known(&key, name, 1u64, Unit::Number("x scale")),
            NormalFloat => part.known(&key, name, levels()[8], Unit::Number("x scale")),
        }
    }
    let part = answer.part("resolution: the step behind 1, or behind the largest number as 1");
    for format in formats {
        let (key, name) = (format!("{}_step", format.name()), format.name());
        match format {
            Float { .. } => part.line(&key, name, "2^-m", &symbols(format), Unit::Number(""))?,
            Integer { .. } => part.line(&key, name, "1 / (2^(b - 1) - 1)", &symbols(format), Unit::Number(""))?,
            NormalFloat => {
                let levels = levels();
                let symbols = Symbols::new().with("first", levels[15]).with("second", levels[14]);
                part.line(&key, name, "first - second", &symbols, Unit::Number(""))?
            }
        };
    }
    let largest = numbers.iter().fold(0.0f64, |most, x| most.max(x.abs()));
    for &x in numbers {
        if !x.is_finite() {
            return Err(Error::Range("a number that is not finite is the same in every format that has it".into()));
        }
        let part = answer.part(format!("{} becomes", crate::units::plain(x)));
        for format in formats {
            let (name, rounded) = (format.name(), format.round(x, largest));
            let key = format!("{name}_of_{x}");
            match rounded.is_finite() {
                true if rounded == 0.0 && x != 0.0 => {
                    part.known(&key, format!("{name}: lost, 0"), 0u64, Unit::Number(""))
                }
                true => {
                    part.known(&key, name, rounded, Unit::Number(""));
                    if x != 0.0 {
                        let off = ((rounded - x) / x).abs() * 100.0;
                        part.known(&format!("{key}_off"), "  off by", Amount::from(off), Unit::Percent);
                    }
                }
                false => {
                    let what = if rounded.is_nan() { "no number (NaN)" } else { "infinite" };
                    let most = match format {
                        Float { exponent, mantissa, finite, .. } => most(*exponent as i32, *mantissa as i32, *finite),
                        _ => largest,
                    };
                    part.known(&key, format!("{name}: {what}, above"), most, Unit::Number(""));
                }
            }
        }
    }
    notes(formats, &mut answer);
    Ok(answer)
}

fn notes(formats: &[Format], answer: &mut Answer) {
    let has = |name: &str| formats.iter().any(|f| f.name() == name);
    if has("bf16") && has("fp32") {
        answer.note("bf16 has fp32's exponent and so its range, with 7 mantissa bits of 23");
    }
    if has("fp16") {
        answer.note("in fp16 a gradient above 65,504 is infinite and one below 3e-8 is lost: losses are scaled for it");
    }
    if has("fp8-e4m3") {
        answer.note("e4m3 has no infinity: its largest exponent stands for numbers too, up to 448");
    }
    if has("int8") || has("int4") || has("nf4") {
        answer.note(
            "integers and nf4 have a scale for each block: the largest number of a block is exact, small ones suffer",
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_that_do_not_fit_are_named() {
        let answer = answer(&FORMATS, &[70_000.0, 1e-9]).expect("an answer");
        let what = |key: &str| answer.find(key).unwrap_or_else(|| panic!("{key}")).what.clone();
        assert_eq!(what("fp16_of_70000"), "fp16: infinite, above");
        assert_eq!(what("fp8-e4m3_of_70000"), "fp8-e4m3: no number (NaN), above");
        assert_eq!(what("fp16_of_0.000000001"), "fp16: lost, 0");
        assert_eq!(what("bf16_of_0.000000001"), "bf16");
        let unknown = Format::named("fp12").expect_err("unknown").to_string();
        assert!(unknown.contains("fp12") && unknown.contains("bf16"), "{unknown}");
    }
}
