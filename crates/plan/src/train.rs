//! `plan train`: steps, operations and days of pretraining.

use crate::formula::Symbols;
use crate::{Amount, Answer, Dimensions, Error, Result, Unit, parameters};

/// What training is asked about.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Training {
    /// Parameters.
    pub parameters: u64,
    /// Tokens to learn from; by default twenty a parameter (Hoffmann et al. 2022).
    pub tokens: Option<u64>,
    /// Tokens of a step.
    pub batch: u64,
    /// Operations a second of a device.
    pub flops: Option<u64>,
    /// Devices.
    pub devices: u64,
    /// The share of their operations that is used.
    pub utilization: f64,
}

/// Tokens a parameter that use a budget of operations best (Hoffmann et al. 2022, "Chinchilla").
const TOKENS_A_PARAMETER: u64 = 20;

/// The answer of `plan train`; the model's dimensions are known or not.
///
/// # Errors
/// The numbers are no training.
pub fn answer(model: Option<&Dimensions>, training: &Training) -> Result<Answer> {
    let title = model.map_or("a model".to_string(), |d| d.name.clone());
    let mut answer = Answer::new(format!("training {title}"));
    for (value, what) in
        [(training.parameters, "parameters"), (training.batch, "tokens a step"), (training.devices, "devices")]
    {
        if value == 0 {
            return Err(Error::Range(format!("0 {what}: there has to be at least 1")));
        }
    }
    let mut symbols = Symbols::new()
        .with("N", training.parameters)
        .with("B", training.batch)
        .with("G", training.devices)
        .with("u", training.utilization);
    answer.give("N", "parameters", training.parameters);
    let working = match model.filter(|d| d.experts.is_some()) {
        Some(d) => {
            let active = parameters::active(d)?;
            answer.give("A", "parameters that work on a token", active);
            symbols.set("A", active);
            "A"
        }
        None => "N",
    };
    if let Some(tokens) = training.tokens {
        answer.give("D", "tokens", tokens);
    }
    answer.give("B", "tokens a step", training.batch);

    let part = answer.part("data");
    let best = part.line(
        "best_tokens",
        "20 tokens a parameter",
        &format!("{TOKENS_A_PARAMETER} * N"),
        &symbols,
        Unit::Count("tokens"),
    )?;
    symbols.set("D", training.tokens.map_or(best, Amount::from));
    part.line("tokens_a_parameter", "tokens a parameter", "D / N", &symbols, Unit::Number(""))?;
    part.line("steps", "steps", "ceil(D / B)", &symbols, Unit::Count("steps"))?;

    let part = answer.part("operations");
    let cost = format!("6 * {working} * D");
    part.line("flops_token", "a token, there and back", &format!("6 * {working}"), &symbols, Unit::Flop)?;
    part.line("flops", "in all", &cost, &symbols, Unit::Flop)?;
    if let Some(flops) = training.flops {
        symbols.set("F", flops);
        answer.give_in("F", "a second and device", flops, Unit::Flop);
        answer.give("G", "devices", training.devices);
        answer.give("u", "share of them that is used", training.utilization);
        let part = answer.part("time");
        part.line("seconds", "in all", &format!("{cost} / (F * G * u)"), &symbols, Unit::Seconds)?;
        let step = format!("6 * {working} * B / (F * G * u)");
        part.line("seconds_step", "a step", &step, &symbols, Unit::Seconds)?;
        let rate = format!("F * G * u / (6 * {working})");
        part.line("tokens_second", "tokens a second", &rate, &symbols, Unit::Number("tokens/s"))?;
    }
    if training.tokens.is_none() {
        answer.note("no tokens were given: 20 a parameter are taken, the best use of a budget of operations");
    }
    if training.flops.is_none() {
        answer.note("--flops gives the time: 312T for an A100 in bf16, and --devices how many there are");
    }
    answer.note("6 N D counts the products with weights; attention over long texts comes on top");
    Ok(answer)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::presets;

    #[test]
    fn a_mixture_is_trained_by_what_works() {
        let mixtral = presets::find("mixtral-8x7b").expect("a preset");
        let training = Training {
            parameters: 46_702_792_704,
            tokens: Some(1_000_000_000_000),
            batch: 4_000_000,
            flops: None,
            devices: 1,
            utilization: 0.4,
        };
        let answer = answer(Some(&mixtral), &training).expect("an answer");
        let flops = answer.find("flops").expect("a line").value.real();
        assert_eq!(flops, 6.0 * 12_879_925_248.0 * 1e12);
    }

    #[test]
    fn a_machine_takes_its_time() {
        let training = Training {
            parameters: 135_000_000,
            tokens: None,
            batch: 500_000,
            flops: Some(100_000_000_000),
            devices: 1,
            utilization: 0.5,
        };
        let answer = answer(None, &training).expect("an answer");
        let value = |key: &str| answer.find(key).expect(key).value.real();
        assert_eq!(value("best_tokens"), 2.7e9);
        assert_eq!(value("seconds"), 6.0 * 1.35e8 * 2.7e9 / 5e10);
        assert_eq!(value("tokens_a_parameter"), 20.0);
        let none = Training { batch: 0, ..training };
        assert!(super::answer(None, &none).expect_err("refused").to_string().contains("0 tokens a step"));
    }
}
