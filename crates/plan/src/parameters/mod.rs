//! `plan model`: parameters by part, the estimate of 12 L d^2 beside them, and what a token uses.

mod answer;

pub use answer::{Held, answer};

use crate::formula::Symbols;
use crate::{Amount, Dimensions, QueryKeyNorm, Result};

/// A part of a model: its key, its name and its formula.
type Term = (&'static str, &'static str, String);

/// The letter of the layers with experts: all have them, or some.
fn expert_layers(d: &Dimensions) -> &'static str {
    if d.plain_layers() > 0 { "M" } else { "L" }
}

/// The parts of a model with their formulas.
fn terms(d: &Dimensions) -> Vec<Term> {
    let mut terms: Vec<Term> = Vec::new();
    let mut term = |key, what, formula: String| terms.push((key, what, formula));
    let n = d.ffn_projections();
    if d.vocab > 0 {
        term("embedding", "token embedding", "V * d".into());
    }
    if d.positions > 0 {
        term("positions", "positions", "P * d".into());
    }
    term("attention", "attention", "L * (2 * d * h * k + 2 * d * g * k)".into());
    match (d.experts, d.plain_layers()) {
        (None, _) => term("feed_forward", "feed-forward", format!("L * {n} * d * f")),
        (Some(e), plain) => {
            let layers = expert_layers(d);
            if plain > 0 {
                term("feed_forward", "feed-forward", format!("(L - M) * {n} * d * f"));
            }
            term("experts", "experts", format!("{layers} * E * {n} * d * e"));
            term("router", "router", format!("{layers} * E * d"));
            if e.shared > 0 {
                term("shared_expert", "shared expert", format!("{layers} * ({n} * d * s + d)"));
            }
        }
    }
    let numbers = if d.norms.numbers == 1 { String::new() } else { format!("{} * ", d.norms.numbers) };
    term("norms", "norms", format!("({} * L + 1) * {numbers}d", d.norms.in_layer));
    match d.query_key_norm {
        Some(QueryKeyNorm::Head) => term("query_key_norms", "norms of queries, keys", "L * 2 * k".into()),
        Some(QueryKeyNorm::Row) => term("query_key_norms", "norms of queries, keys", "L * (h + g) * k".into()),
        None => {}
    }
    let qkv = d.qkv_bias.then_some("(h + 2 * g) * k");
    let rest = d.other_bias.then_some(if d.ffn.gated { "2 * d + 2 * f" } else { "2 * d + f" });
    let biases: Vec<&str> = qkv.into_iter().chain(rest).collect();
    if !biases.is_empty() {
        term("biases", "biases", format!("L * ({})", biases.join(" + ")));
    }
    if d.vocab > 0 && !d.tied {
        term("head", "head", "V * d".into());
    }
    terms
}

fn computed(formula: &str, symbols: &Symbols) -> Result<Amount> {
    crate::formula::compute(formula, symbols).map(|c| c.value)
}

/// Parameters in all.
///
/// # Errors
/// None for dimensions that were checked.
pub fn total(d: &Dimensions) -> Result<Amount> {
    let symbols = d.symbols();
    terms(d).iter().try_fold(Amount::Whole(0), |sum, (_, _, formula)| Ok(sum.add(computed(formula, &symbols)?)))
}

/// Parameters that work on a token: of a mixture's experts only those that are chosen.
///
/// # Errors
/// None for dimensions that were checked.
pub fn active(d: &Dimensions) -> Result<Amount> {
    let Some(e) = d.experts else { return total(d) };
    total(&Dimensions { experts: Some(crate::Experts { count: e.used, ..e }), ..d.clone() }).map(|sum| {
        // The router looks at all experts.
        sum.add(Amount::from((e.count - e.used) * e.layers * d.width))
    })
}

/// Parameters of the projections that a token is multiplied with: all that work on it but tables that are looked up
/// in and what is added or scaled.
///
/// # Errors
/// None for dimensions that were checked.
pub fn multiplied(d: &Dimensions) -> Result<Amount> {
    let mut bare = Dimensions { positions: 0, qkv_bias: false, other_bias: false, query_key_norm: None, ..d.clone() };
    bare.tied = true;
    let norms = Amount::from((d.norms.in_layer * d.layers + 1) * d.norms.numbers * d.width);
    // The one table that is left counts as the head.
    Ok(active(&bare)?.sub(norms))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{GivenDimensions, presets};

    fn whole(amount: Result<Amount>) -> u64 {
        amount.expect("a value").whole().expect("a whole number")
    }

    /// What the publishers' own files hold.
    #[test]
    fn totals_are_those_of_the_published_models() {
        for (name, parameters) in [
            ("llama-7b", 6_738_415_616),
            ("llama-13b", 13_015_864_320),
            ("llama-30b", 32_528_943_616),
            ("llama-65b", 65_285_660_672),
            ("llama-2-70b", 68_976_648_192),
            ("llama-3-8b", 8_030_261_248),
            ("llama-3-70b", 70_553_706_496),
            ("llama-3.2-1b", 1_235_814_400),
            ("llama-3.2-3b", 3_212_749_824),
            ("tinyllama-1.1b", 1_100_048_384),
            ("mistral-7b", 7_241_732_096),
            ("mixtral-8x7b", 46_702_792_704),
            ("qwen2.5-0.5b", 494_032_768),
            ("qwen2.5-1.5b", 1_543_714_304),
            ("qwen2.5-3b", 3_085_938_688),
            ("qwen2.5-7b", 7_615_616_512),
            ("qwen2.5-14b", 14_770_033_664),
            ("qwen2.5-32b", 32_763_876_352),
            ("qwen2.5-72b", 72_706_203_648),
            ("qwen3-0.6b", 596_049_920),
            ("qwen3-8b", 8_190_735_360),
            ("qwen3-30b-a3b", 30_532_122_624),
            ("olmoe-1b-7b", 6_919_161_856),
            ("smollm2-135m", 134_515_008),
            ("smollm2-360m", 361_821_120),
            ("smollm2-1.7b", 1_711_376_384),
            ("gemma-2-2b", 2_614_341_888),
            ("gemma-2-9b", 9_241_705_984),
            ("gemma-3-270m", 268_098_176),
            ("gemma-3-1b", 999_885_952),
            ("gpt2", 124_439_808),
            ("gpt2-medium", 354_823_168),
            ("gpt2-large", 774_030_080),
            ("gpt2-xl", 1_557_611_200),
        ] {
            assert_eq!(whole(total(&presets::find(name).expect(name))), parameters, "{name}");
        }
    }

    #[test]
    fn a_mixture_uses_a_part_of_itself() {
        let mixtral = presets::find("mixtral-8x7b").expect("a preset");
        // Jiang et al. 2024, section 2: 13 B of 47 B.
        assert_eq!(whole(active(&mixtral)), 12_879_925_248);
        let olmoe = presets::find("olmoe-1b-7b").expect("a preset");
        // Muennighoff et al. 2024: 1.3 B of 6.9 B.
        assert_eq!(whole(active(&olmoe)), 1_282_017_280);
        let dense = presets::find("llama-7b").expect("a preset");
        assert_eq!(active(&dense), total(&dense));
    }

    #[test]
    fn what_is_multiplied_leaves_tables_and_vectors_out() {
        let llama = presets::find("llama-7b").expect("a preset");
        assert_eq!(whole(multiplied(&llama)), 6_738_415_616 - 32_000 * 4096 - 65 * 4096);
        let gpt2 = presets::find("gpt2").expect("a preset");
        assert_eq!(whole(multiplied(&gpt2)), 12 * 12 * 768 * 768 + 50_257 * 768);
        let bare = GivenDimensions { layers: Some(2), width: Some(8), heads: Some(2), ..Default::default() };
        assert_eq!(whole(multiplied(&bare.alone().expect("a model"))), 12 * 2 * 64);
    }
}
