//! `plan serve`: how fast a machine can answer, by what it reads and by what it computes.

use crate::cache::{CacheShape, KvType};
use crate::formula::Symbols;
use crate::{Amount, Answer, Dimensions, Error, Machine, Result, Unit, parameters};

/// What serving is asked about.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Serving {
    /// Bytes of weights that a token reads: of a mixture those of the experts that are chosen.
    pub weight_bytes: u64,
    /// Bytes of all weights.
    pub held_bytes: u64,
    /// Tokens in the cache.
    pub tokens: u64,
    /// Tokens of the prompt.
    pub prompt: u64,
    /// Sequences at a time.
    pub batch: u64,
    /// How the cache keeps keys and values.
    pub kv: KvType,
    /// The machine.
    pub machine: Machine,
}

/// The answer of `plan serve`.
///
/// # Errors
/// The machine is not known, or the numbers are beyond all bounds.
pub fn answer(d: &Dimensions, serving: &Serving) -> Result<Answer> {
    let (Some(bandwidth), Some(flops)) = (serving.machine.bandwidth, serving.machine.flops) else {
        return Err(Error::Range(
            "the machine is not known: `porism bench` measures it once, or give --bandwidth (such as 40GB/s) and \
             --flops (such as 300G)"
                .into(),
        ));
    };
    for (value, what) in [(serving.batch, "sequences"), (serving.tokens, "tokens"), (serving.prompt, "prompt tokens")] {
        if value == 0 {
            return Err(Error::Range(format!("0 {what}: there has to be at least 1")));
        }
    }
    let mut answer = Answer::new(format!("serving {}", d.name));
    d.give(&mut answer);
    answer.give("n", "tokens in the cache", serving.tokens);
    answer.give("p", "prompt tokens", serving.prompt);
    answer.give("b", "sequences at a time", serving.batch);
    answer.give_in("R", "reading", bandwidth, Unit::BytesPerSecond);
    answer.give_in("F", "computing, a second", flops, Unit::Flop);

    let seen = attended(d, serving.tokens)?;
    let kv = CacheShape::of(d).bytes(serving.kv, serving.tokens)?;
    let symbols = d
        .symbols()
        .with("n", serving.tokens)
        .with("p", serving.prompt)
        .with("b", serving.batch)
        .with("R", bandwidth)
        .with("F", flops)
        .with("weights", serving.weight_bytes)
        .with("cache", kv)
        .with("all", serving.held_bytes)
        .with("T", parameters::multiplied(d)?)
        .with("seen", seen)
        .with("half", half(d, serving.prompt)?);

    let part = answer.part("one pass, a token of each sequence");
    part.known("weights", "weights", serving.weight_bytes, Unit::Bytes);
    part.known("cache", format!("cache of a sequence, {}", serving.kv.name()), kv, Unit::Bytes);
    part.line("bytes", "bytes read", "weights + b * cache", &symbols, Unit::Bytes)?;
    part.line("flops", "operations", "b * (2 * T + 4 * h * k * seen)", &symbols, Unit::Flop)?;
    part.line(
        "intensity",
        "operations a byte",
        "b * (2 * T + 4 * h * k * seen) / (weights + b * cache)",
        &symbols,
        Unit::Number(""),
    )?;
    part.line("machine_intensity", "the machine's", "F / R", &symbols, Unit::Number(""))?;

    let part = answer.part("memory");
    part.line("memory", "weights and caches", "all + b * cache", &symbols, Unit::Bytes)?;
    part.mark(serving.machine.ram);

    let part = answer.part("generation, at most");
    let by_reading =
        part.line("by_bandwidth", "by reading", "b * R / (weights + b * cache)", &symbols, Unit::Number("tokens/s"))?;
    let by_computing =
        part.line("by_flops", "by computing", "F / (2 * T + 4 * h * k * seen)", &symbols, Unit::Number("tokens/s"))?;
    let (least, what) = match by_reading.real() <= by_computing.real() {
        true => (by_reading, "the bound: reading"),
        false => (by_computing, "the bound: computing"),
    };
    part.known("tokens_per_second", what, least, Unit::Number("tokens/s"));
    let even = part.line(
        "even_batch",
        "sequences until it computes",
        "weights / ((2 * T + 4 * h * k * seen) * R / F - cache)",
        &symbols,
        Unit::Number(""),
    );
    // With a long cache each sequence reads more than it computes: no batch changes that.
    if even.is_err() || even.is_ok_and(|n| n.real() < 0.0) {
        part.lines.retain(|l| l.key != "even_batch");
        part.known("even_batch", "never computes: cache reads", 0u64, Unit::Number(""));
    }

    let part = answer.part("prompt, at least");
    let work = "p * 2 * T + 4 * h * k * half";
    part.line("prompt_flops", "operations", work, &symbols, Unit::Flop)?;
    let seconds =
        part.line("prompt_seconds", "first token after", &format!("({work}) / F"), &symbols, Unit::Seconds)?;
    let reading = symbols.clone().with("t", seconds);
    part.line("prompt_rate", "tokens a second", "p / t", &reading, Unit::Number("tokens/s"))?;
    answer.note("bounds, not forecasts: measured speeds come to a part of them (`porism bench` says which)");
    Ok(answer)
}

/// Positions that a token at the end of a text sees, all layers together.
fn attended(d: &Dimensions, tokens: u64) -> Result<Amount> {
    let symbols = d.symbols().with("n", tokens).with("Lw", windowed(d)).with("W", window(d, tokens));
    crate::formula::compute("(L - Lw) * n + Lw * W", &symbols).map(|c| c.value)
}

/// Positions that all tokens of a prompt see, all layers together.
fn half(d: &Dimensions, tokens: u64) -> Result<Amount> {
    let symbols = d.symbols().with("n", tokens).with("Lw", windowed(d)).with("W", window(d, tokens));
    let formula = "(L - Lw) * n * (n + 1) / 2 + Lw * (W * n - W * (W - 1) / 2)";
    crate::formula::compute(formula, &symbols).map(|c| c.value)
}

fn windowed(d: &Dimensions) -> u64 {
    if d.window.is_some() { d.windowed_layers } else { 0 }
}

fn window(d: &Dimensions, tokens: u64) -> u64 {
    d.window.map_or(tokens, |w| w.min(tokens))
}

/// Bytes of weights that a token reads, of weights that are all of one type: `bits` a weight.
///
/// # Errors
/// The numbers are beyond all bounds.
pub fn bytes_read(d: &Dimensions, bits: f64) -> Result<u64> {
    let symbols = Symbols::new().with("T", parameters::multiplied(d)?).with("bits", bits);
    Ok(crate::formula::compute("T * bits / 8", &symbols)?.value.rounded())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::presets;

    fn serving(tokens: u64, batch: u64) -> Serving {
        let machine = Machine { bandwidth: Some(40_000_000_000), flops: Some(300_000_000_000), ram: None, threads: 2 };
        Serving {
            weight_bytes: 3_700_000_000,
            held_bytes: 3_800_000_000,
            tokens,
            prompt: 512,
            batch,
            kv: KvType::F16,
            machine,
        }
    }

    #[test]
    fn a_single_sequence_is_bound_by_reading() {
        let llama = presets::find("llama-7b").expect("a preset");
        let one = answer(&llama, &serving(1, 1)).expect("an answer");
        let value = |a: &Answer, key: &str| a.find(key).expect(key).value.real();
        assert!((value(&one, "by_bandwidth") - 40e9 / (3.7e9 + 134_217_728.0)).abs() < 1e-6);
        assert_eq!(one.find("tokens_per_second").map(|l| l.what.as_str()), Some("the bound: reading"));
        // At the batch that is named, both bounds meet.
        let even = value(&one, "even_batch");
        let reading = even * 40e9 / (3.7e9 + even * 134_217_728.0);
        assert!((reading / value(&one, "by_flops") - 1.0).abs() < 1e-9);
        let long = answer(&llama, &serving(2_000_000, 1)).expect("an answer");
        assert!(value(&long, "even_batch") == 0.0);
    }

    #[test]
    fn windows_bound_what_is_attended() {
        let gemma = presets::find("gemma-3-270m").expect("a preset");
        assert_eq!(attended(&gemma, 4096), Ok(Amount::Whole(3 * 4096 + 15 * 512)));
        let seen: u64 = (1..=1000u64).map(|i| 3 * i + 15 * i.min(512)).sum();
        assert_eq!(half(&gemma, 1000), Ok(Amount::Whole(seen.into())));
    }

    #[test]
    fn an_unknown_machine_is_an_error_that_helps() {
        let llama = presets::find("llama-7b").expect("a preset");
        let unknown = Serving { machine: Machine::default(), ..serving(1, 1) };
        assert!(answer(&llama, &unknown).expect_err("refused").to_string().contains("porism bench"));
        assert!(answer(&llama, &serving(1, 0)).expect_err("refused").to_string().contains("0 sequences"));
    }
}
