//! What training takes: weights, gradients, optimizer state and activations, with and without recompute.

use super::{Question, WeightType};
use crate::tune::{Targets, adapter_parameters};
use crate::{Amount, Answer, Dimensions, Part, Result, Unit};

/// A way of training and what it takes in all.
#[derive(Clone, Debug, PartialEq)]
pub struct Training {
    /// The key of its line.
    pub key: &'static str,
    /// Its name.
    pub name: &'static str,
    /// Bytes.
    pub total: Amount,
}

/// Numbers that a layer keeps of a token for the way back, attention in tiles.
fn per_layer(d: &Dimensions) -> String {
    // Inputs and outputs of both norms; q, k and v before and after positions, what attention gives, its log-sum-exp.
    let attention = "4 * d + 3 * h * k + 3 * g * k + h";
    let wide = d.ffn_projections();
    match d.experts {
        Some(_) => format!("{attention} + top * ({wide} * e + d)"),
        None => format!("{attention} + {wide} * f"),
    }
}

/// The ways of training without lines.
///
/// # Errors
/// The numbers are beyond all bounds.
pub fn training(question: &Question<'_>, parameters: u64) -> Result<Vec<Training>> {
    lines(question, parameters, &mut Answer::default())
}

/// The lines, and what each way takes.
pub(super) fn lines(question: &Question<'_>, parameters: u64, answer: &mut Answer) -> Result<Vec<Training>> {
    let (d, ram) = (question.model, question.machine.ram);
    let batch = question.batch_tokens;
    let adapter = adapter_parameters(d, Targets::ATTENTION, question.rank)?;
    let symbols = d.symbols().with("b", batch).with("N", parameters);

    let part = answer.part(format!("training, {batch} tokens (b) at a time: activations"));
    let layer = per_layer(d);
    let all = part.line("activations", "all kept", &format!("4 * b * L * ({layer})"), &symbols, Unit::Bytes)?;
    let formula = format!("4 * b * (L * d + {layer})");
    let few = part.line("activations_recompute", "layers recomputed", &formula, &symbols, Unit::Bytes)?;
    let logits = part.line("training_logits", "logits, their gradient", "8 * b * V", &symbols, Unit::Bytes)?;
    // What would come on top if the matrix of attention were kept.
    part.line("activations_matrix", "not kept: attention's", "4 * L * h * b^2", &symbols, Unit::Bytes)?;

    let symbols = symbols.with("A", adapter).with("all", all.add(logits)).with("few", few.add(logits));
    let part = answer.part(format!("training, in all; the adapter has rank {} on q, k, v, o", question.rank));
    part.known("adapter_parameters", "adapter parameters (A)", adapter, Unit::Count(""));
    let nf4 = WeightType::NormalFloat.formula();
    let mut ways = Vec::new();
    let mut way = |key, name, formula: &str, part: &mut Part| -> Result<()> {
        let total = part.line(key, name, formula, &symbols, Unit::Bytes)?;
        part.mark(ram);
        ways.push(Training { key, name, total });
        Ok(())
    };
    way("full", "full", "N * 16 + all", part)?;
    way("full_recompute", "full, recomputed", "N * 16 + few", part)?;
    way("lora", "LoRA on bf16", "N * 2 + A * 16 + all", part)?;
    way("lora_recompute", "LoRA, recomputed", "N * 2 + A * 16 + few", part)?;
    way("qlora", "QLoRA on NF4", &format!("{nf4} + A * 16 + all"), part)?;
    way("qlora_recompute", "QLoRA, recomputed", &format!("{nf4} + A * 16 + few"), part)?;
    Ok(ways)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cache::KvType;
    use crate::memory::Engine;
    use crate::{Machine, presets};

    #[test]
    fn each_saving_saves() {
        let model = presets::find("llama-7b").expect("a preset");
        let question = Question {
            model: &model,
            file: None,
            engine: Engine { prompt_rows: 256, threads: 2 },
            tokens: 2048,
            kv: KvType::F16,
            weights: WeightType::named("Q4_K").expect("a type"),
            machine: Machine::default(),
            batch_tokens: 512,
            rank: 16,
        };
        let ways = training(&question, 6_738_415_616).expect("an answer");
        let total = |key: &str| ways.iter().find(|w| w.key == key).expect(key).total.real();
        assert!(total("full") > 1.078e11 && total("full_recompute") < total("full"));
        assert!(total("lora") < total("full") / 5.0);
        assert!(total("qlora_recompute") < total("lora_recompute") / 2.5);
        // The book's "~6 GB" for LoRA on 7 B needs the base in 4 bits and recompute.
        assert!(total("qlora_recompute") > 3.5e9 && total("qlora_recompute") < 6e9);
        assert!(total("lora_recompute") > 12e9);
    }
}
