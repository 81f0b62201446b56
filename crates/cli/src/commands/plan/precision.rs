//! `porism plan precision`: number formats.

use anyhow::Result;
use clap::Args;
use porism_plan::Answer;
use porism_plan::precision::{FORMATS, Format, answer as plan};

use super::{answered, asked};

/// Range and resolution of number formats, and what becomes of a number in them
#[derive(Args)]
#[command(after_help = "Examples:
  porism plan precision
  porism plan precision fp16 bf16
  porism plan precision --value 70000 --value 1e-8   what overflows, what is lost
  porism plan precision fp8 int4 nf4 --value 0.1 --value 1 --json")]
pub(super) struct PrecisionArgs {
    /// Formats: fp32, fp16, bf16, fp8, int8, int4, nf4 [default: all]
    #[arg(value_name = "FORMAT")]
    formats: Vec<String>,
    /// A number to round; several are a block of int8, int4 and nf4, with one scale
    #[arg(long = "value", value_name = "X", value_parser = number, allow_negative_numbers = true)]
    values: Vec<f64>,
    /// Print one JSON object
    #[arg(long)]
    pub(super) json: bool,
}

fn number(text: &str) -> Result<f64, String> {
    match text.parse::<f64>() {
        Ok(x) if x.is_finite() => Ok(x),
        _ => Err(format!("`{text}` is no finite number")),
    }
}

pub(super) fn answer(args: &PrecisionArgs) -> Result<Answer> {
    let mut formats: Vec<Format> = Vec::new();
    for name in &args.formats {
        for format in asked(Format::named(name))? {
            if !formats.contains(&format) {
                formats.push(format);
            }
        }
    }
    let mut values: Vec<f64> = Vec::new();
    for &value in &args.values {
        if !values.contains(&value) {
            values.push(value);
        }
    }
    answered(plan(if formats.is_empty() { &FORMATS } else { &formats }, &values))
}
