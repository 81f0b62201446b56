//! `plan tune`: what an adapter learns of a model, and what that costs.

use crate::formula::compute;
use crate::{Amount, Answer, Dimensions, Error, Machine, Result, Unit, parameters};

/// Which projections have an adapter.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Targets {
    /// Queries.
    pub q: bool,
    /// Keys.
    pub k: bool,
    /// Values.
    pub v: bool,
    /// The attention's output.
    pub o: bool,
    /// All of the feed-forward network.
    pub ffn: bool,
}

impl Targets {
    /// The four projections of attention, as in the book's example.
    pub const ATTENTION: Targets = Targets { q: true, k: true, v: true, o: true, ffn: false };
    const NONE: Targets = Targets { q: false, k: false, v: false, o: false, ffn: false };

    /// Reads `q,v`, `attention` or `all`.
    ///
    /// # Errors
    /// A name is unknown; the error lists them.
    pub fn named(text: &str) -> Result<Targets> {
        let mut targets = Targets::NONE;
        for name in text.split(',').map(str::trim) {
            match name {
                "q" => targets.q = true,
                "k" => targets.k = true,
                "v" => targets.v = true,
                "o" => targets.o = true,
                "ffn" => targets.ffn = true,
                "attention" => targets = Targets { ffn: targets.ffn, ..Targets::ATTENTION },
                "all" => targets = Targets { ffn: true, ..Targets::ATTENTION },
                other => {
                    return Err(Error::Range(format!(
                        "there is no projection `{other}`; there are q, k, v, o, ffn, attention (q,k,v,o) and all"
                    )));
                }
            }
        }
        Ok(targets)
    }

    /// Names and formulas of the parameters of an adapter of rank r: `r` for each input and each output.
    fn terms(self, d: &Dimensions) -> Vec<(&'static str, &'static str, String)> {
        let mut terms = Vec::new();
        let query = "L * r * (d + h * k)";
        let key = "L * r * (d + g * k)";
        let mut term = |wanted: bool, name, label, formula: String| {
            if wanted {
                terms.push((name, label, formula));
            }
        };
        term(self.q, "q", "q", query.into());
        term(self.k, "k", "k", key.into());
        term(self.v, "v", "v", key.into());
        term(self.o, "o", "o", query.into());
        let n = d.ffn_projections();
        let ffn = match d.experts {
            None => format!("L * {n} * r * (d + f)"),
            Some(_) => format!("M * E * {n} * r * (d + e)"),
        };
        term(self.ffn, "ffn", "feed-forward", ffn);
        terms
    }
}

fn checked(d: &Dimensions, rank: u64) -> Result<()> {
    if rank == 0 {
        return Err(Error::Range("an adapter of rank 0 learns nothing: it has to be at least 1".into()));
    }
    if rank > d.width {
        return Err(Error::Range(format!("rank {rank} is above the width of {}: that is no low rank", d.width)));
    }
    Ok(())
}

/// Parameters of an adapter.
///
/// # Errors
/// The rank is 0 or beyond the width.
pub fn adapter_parameters(d: &Dimensions, targets: Targets, rank: u64) -> Result<Amount> {
    checked(d, rank)?;
    let symbols = d.symbols().with("r", rank);
    targets
        .terms(d)
        .iter()
        .try_fold(Amount::Whole(0), |sum, (_, _, formula)| Ok(sum.add(compute(formula, &symbols)?.value)))
}

/// What tuning is asked about.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Tuning {
    /// The adapter's rank.
    pub rank: u64,
    /// What has an adapter.
    pub targets: Targets,
    /// Parameters of the model, where they are known otherwise than by its dimensions.
    pub parameters: Option<u64>,
    /// Virtual tokens of a prefix.
    pub prefix: u64,
    /// Features of an inserted bottleneck.
    pub bottleneck: u64,
    /// Tokens to learn from, all epochs together.
    pub tokens: Option<u64>,
    /// The machine.
    pub machine: Machine,
}

/// The answer of `plan tune`.
///
/// # Errors
/// The numbers make no adapter.
pub fn answer(d: &Dimensions, tuning: &Tuning) -> Result<Answer> {
    checked(d, tuning.rank)?;
    let mut answer = Answer::new(format!("tuning {}", d.name));
    d.give(&mut answer);
    let total = tuning.parameters.map_or_else(|| parameters::total(d), |n| Ok(n.into()))?;
    answer.give("N", "parameters", total);
    answer.give("r", "rank", tuning.rank);
    let mut symbols = d
        .symbols()
        .with("r", tuning.rank)
        .with("N", total)
        .with("p", tuning.prefix)
        .with("m", tuning.bottleneck)
        .with("T", parameters::multiplied(d)?);

    let part = answer.part("one matrix, the queries' of a layer");
    part.line("matrix", "the matrix", "d * h * k", &symbols, Unit::Count(""))?;
    part.line("matrix_lora", "B and A", "h * k * r + r * d", &symbols, Unit::Count(""))?;
    let share = "(h * k * r + r * d) / (d * h * k)";
    part.line("matrix_share", "of the matrix", share, &symbols, Unit::Percent)?;

    let part = answer.part("LoRA, all layers");
    let mut sum = Amount::Whole(0);
    for (key, what, formula) in tuning.targets.terms(d) {
        sum = sum.add(part.line(&format!("lora_{key}"), what, &formula, &symbols, Unit::Count(""))?);
    }
    symbols.set("A", sum);
    part.known("lora", "all (A)", sum, Unit::Count(""));
    part.line("lora_share", "of the model", "A / N", &symbols, Unit::Percent)?;
    part.line("lora_bytes", "the adapter's file, f16", "2 * A", &symbols, Unit::Bytes)?;
    part.line("lora_state", "weights and AdamW, f32", "16 * A", &symbols, Unit::Bytes)?;

    let part = answer.part("other methods");
    part.line("prefix", "prefix of p keys, values", "2 * L * p * g * k", &symbols, Unit::Count(""))?;
    part.line("prefix_share", "  of the model", "2 * L * p * g * k / N", &symbols, Unit::Percent)?;
    let bottleneck = "2 * L * (2 * d * m + m + d)";
    part.line("bottleneck", "bottlenecks of m", bottleneck, &symbols, Unit::Count(""))?;
    part.line("bottleneck_share", "  of the model", &format!("{bottleneck} / N"), &symbols, Unit::Percent)?;
    part.line("prompt", "soft prompt of p tokens", "p * d", &symbols, Unit::Count(""))?;
    part.line("prompt_share", "  of the model", "p * d / N", &symbols, Unit::Percent)?;

    let part = answer.part("operations a token (T: parameters that it is multiplied with)");
    part.line("flops_full", "full", "6 * T", &symbols, Unit::Flop)?;
    part.line("flops_lora", "LoRA", "4 * T + 6 * A", &symbols, Unit::Flop)?;
    if let (Some(tokens), Some(flops)) = (tuning.tokens, tuning.machine.flops) {
        let symbols = symbols.clone().with("D", tokens).with("F", flops);
        let part = answer.part("time at the machine's limit");
        part.line("seconds_full", "full", "6 * T * D / F", &symbols, Unit::Seconds)?;
        part.line("seconds_lora", "LoRA", "(4 * T + 6 * A) * D / F", &symbols, Unit::Seconds)?;
    }
    if tuning.targets == Targets::ATTENTION {
        answer.note("the adapter is on q, k, v and o; --targets all adds the feed-forward network");
    }
    answer.note(format!(
        "p = {}, m = {}; frozen weights need no gradient: 4 T, not 6 T",
        tuning.prefix, tuning.bottleneck
    ));
    Ok(answer)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::presets;

    #[test]
    fn targets_are_read() {
        assert_eq!(Targets::named("q,v").map(|t| (t.q, t.k, t.v, t.o, t.ffn)), Ok((true, false, true, false, false)));
        assert_eq!(Targets::named("attention"), Ok(Targets::ATTENTION));
        assert!(Targets::named("all").is_ok_and(|t| t.ffn && t.o));
        let unknown = Targets::named("q,x").expect_err("unknown").to_string();
        assert!(unknown.contains("`x`") && unknown.contains("attention"), "{unknown}");
    }

    #[test]
    fn adapters_are_counted_as_peft_does() {
        // peft's print_trainable_parameters for LLaMA-7B: r 8 on q and v is 4,194,304; r 16 on all is 39,976,960.
        let llama = presets::find("llama-7b").expect("a preset");
        let count = |targets: &str, rank| adapter_parameters(&llama, Targets::named(targets).expect("targets"), rank);
        assert_eq!(count("q,v", 8), Ok(Amount::Whole(4_194_304)));
        assert_eq!(count("all", 16), Ok(Amount::Whole(39_976_960)));
        assert!(count("q", 0).is_err() && count("q", 4097).is_err());
        // Shared key heads have smaller adapters.
        let mistral = presets::find("mistral-7b").expect("a preset");
        assert_eq!(
            adapter_parameters(&mistral, Targets::named("q,v").expect("targets"), 8),
            Ok(Amount::Whole(3_407_872))
        );
    }
}
