//! The lines of `plan model`.

use super::{active, computed, expert_layers, terms};
use crate::formula::Symbols;
use crate::{Amount, Answer, Dimensions, Part, Result, Unit};

const PARAMETERS: Unit = Unit::Count("");

/// What a file holds, to stand beside what its dimensions come to.
#[derive(Clone, Debug, PartialEq)]
pub struct Held {
    /// The part.
    pub name: String,
    /// Its parameters.
    pub parameters: u64,
    /// Its bytes.
    pub bytes: u64,
}

/// The answer of `plan model`; `held` is what the file has, if there is one.
///
/// # Errors
/// None for dimensions that were checked.
pub fn answer(d: &Dimensions, held: &[Held]) -> Result<Answer> {
    let mut answer = Answer::new(&d.name);
    d.give(&mut answer);
    let symbols = d.symbols();
    let part = answer.part("parameters");
    let mut sum = Amount::Whole(0);
    for (key, what, formula) in terms(d) {
        sum = sum.add(part.line(key, what, &formula, &symbols, PARAMETERS)?);
    }
    part.known("total", "all", sum, PARAMETERS);
    estimate(d, sum, answer.part("beside the estimate"))?;
    if d.experts.is_some() {
        of_experts(d, sum, answer.part("a token uses"))?;
    }
    if !held.is_empty() {
        in_the_file(held, answer.part("in the file, bits of a weight"))?;
        let there: u64 = held.iter().map(|h| h.parameters).sum();
        if Amount::from(there) != sum {
            answer.note(difference(d, sum, there));
        }
    }
    notes(d, &mut answer);
    Ok(answer)
}

/// 12 L d^2, and what makes the difference.
fn estimate(d: &Dimensions, sum: Amount, part: &mut Part) -> Result<()> {
    let symbols = d.symbols().with("N", sum);
    let estimate = part.line("estimate", "12 L d^2", "12 * L * d^2", &symbols, PARAMETERS)?;
    part.line("estimate_share", "of all", "12 * L * d^2 / N", &symbols, Unit::Percent)?;
    let mut rest = sum.sub(estimate);
    let mut more = |key: &str, what: &str, formula: &str, part: &mut Part| -> Result<()> {
        let value = computed(formula, &symbols)?;
        if value != Amount::Whole(0) {
            part.line(key, what, formula, &symbols, PARAMETERS)?;
        }
        rest = rest.sub(value);
        Ok(())
    };
    let projections = d.ffn_projections();
    more("more_attention", "attention, not 4 d^2", "L * (2 * d * h * k + 2 * d * g * k - 4 * d^2)", part)?;
    match d.experts {
        None => {
            let what = if d.ffn.gated { "gated network, not 8 d^2" } else { "network, not 8 d^2" };
            more("more_feed_forward", what, &format!("L * ({projections} * d * f - 8 * d^2)"), part)?;
        }
        Some(_) => {
            let plain = match d.plain_layers() {
                0 => String::new(),
                _ => format!("(L - M) * {projections} * d * f + "),
            };
            let formula = format!("{plain}{} * E * {projections} * d * e - L * 8 * d^2", expert_layers(d));
            more("more_feed_forward", "experts, not 8 d^2", &formula, part)?;
        }
    }
    match (d.vocab > 0, d.tied) {
        (true, true) => more("more_embedding", "embedding, also the head", "V * d", part)?,
        (true, false) => more("more_embedding", "embedding and head", "2 * V * d", part)?,
        (false, _) => {}
    }
    if rest != Amount::Whole(0) {
        part.known("more_small", "norms, biases, the rest", rest, PARAMETERS);
    }
    Ok(())
}

fn of_experts(d: &Dimensions, sum: Amount, part: &mut Part) -> Result<()> {
    let symbols = d.symbols().with("N", sum).with("A", active(d)?);
    let n = d.ffn_projections();
    part.line("active_experts", "experts", &format!("{} * top * {n} * d * e", expert_layers(d)), &symbols, PARAMETERS)?;
    part.line("active_expert_share", "of the expert parameters", "top / E", &symbols, Unit::Percent)?;
    part.known("active", "all that works on it (A)", active(d)?, PARAMETERS);
    part.line("active_share", "of all parameters", "A / N", &symbols, Unit::Percent)?;
    Ok(())
}

fn in_the_file(held: &[Held], part: &mut Part) -> Result<()> {
    let bits = |key: &str, what: &str, parameters: u64, bytes: u64, part: &mut Part| {
        let symbols = Symbols::new().with("bytes", bytes).with("N", parameters);
        part.line(key, what, "8 * bytes / N", &symbols, Unit::Number("bits"))
    };
    for h in held {
        bits(&format!("file_{}", h.name.replace([' ', '-'], "_")), &h.name, h.parameters, h.bytes, part)?;
    }
    let (parameters, bytes) = held.iter().fold((0, 0), |(p, b), h| (p + h.parameters, b + h.bytes));
    bits("file_bits", "all", parameters, bytes, part)?;
    part.known("file_total", "parameters", parameters, PARAMETERS);
    part.known("file_bytes", "bytes of weights", bytes, Unit::Bytes);
    Ok(())
}

fn difference(d: &Dimensions, sum: Amount, there: u64) -> String {
    let more = Amount::from(there).sub(sum);
    let copy = Amount::from(d.vocab * d.width);
    let shown = Unit::Count("").show(more);
    if d.tied && more == copy {
        format!("the file has {shown} more: a copy of the embedding as the head, in a type of its own")
    } else {
        format!("the file has {shown} parameters more than its dimensions come to")
    }
}

fn notes(d: &Dimensions, answer: &mut Answer) {
    if d.vocab == 0 {
        answer.note("no vocabulary was given: embedding and head are not counted");
    }
    if d.ffn.gated || d.kv_heads != d.heads || d.vocab > 0 {
        answer.note(
            "12 L d^2 takes 4 d^2 for attention and 8 d^2 for a network of two projections and width 4 d; it leaves \
             out embeddings, a gate, and key and value heads that are shared",
        );
    }
    if d.experts.is_some() {
        answer.note(
            "top / E is the share of the experts' parameters; attention, embedding and head work on every token \
             (the book's 2/64 = 3.125 % counts experts only)",
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::presets;

    #[test]
    fn the_differences_add_up() {
        for name in presets::names() {
            let answer = answer(&presets::find(name).expect(name), &[]).expect("an answer");
            let value = |key: &str| answer.find(key).map_or(0.0, |l| l.value.real());
            let parts: f64 = ["more_attention", "more_feed_forward", "more_embedding", "more_small"]
                .iter()
                .map(|key| value(key))
                .sum();
            assert_eq!(value("estimate") + parts, value("total"), "{name}");
        }
    }

    #[test]
    fn a_file_stands_beside_its_dimensions() {
        let d = presets::find("qwen2.5-0.5b").expect("a preset");
        let held = [Held { name: "all of it".into(), parameters: 630_167_424, bytes: 485_500_000 }];
        let answer = answer(&d, &held).expect("an answer");
        assert!(answer.notes[0].contains("136 M more: a copy of the embedding"), "{:?}", answer.notes);
        assert_eq!(answer.find("file_total").map(|l| l.value), Some(Amount::Whole(630_167_424)));
    }
}
