//! The peak memory of `porism run`, from how it allocates.
//!
//! The file is mapped, and what is read of it stays: all but a table that is only looked up in. The tokenizer is
//! built from the file's metadata and then shrinks; the cache grows by pages; activations lie in buffers that are
//! reused, of the rows of one pass.

use porism_kernels::attention::paged::PAGE;

use super::Question;
use crate::cache::CacheShape;
use crate::formula::Symbols;
use crate::{Amount, Part, Result, Unit};

/// How this program computes: what its crates say of themselves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Engine {
    /// Rows of a prompt that are computed at a time.
    pub prompt_rows: u64,
    /// Threads.
    pub threads: u64,
}

/// A tokenizer, as far as its memory goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Tokenizer {
    /// Tokens.
    pub tokens: u64,
    /// Bytes of their texts.
    pub text_bytes: u64,
    /// Merges; 0: it has scores instead.
    pub merges: u64,
}

impl Tokenizer {
    /// A byte-level tokenizer of so many tokens, where nothing else is known.
    pub fn usual(tokens: u64) -> Tokenizer {
        Tokenizer { tokens, text_bytes: 8 * tokens, merges: tokens }
    }
}

/// A model's file.
#[derive(Clone, Debug, PartialEq)]
pub struct File {
    /// Its bytes.
    pub bytes: u64,
    /// Its parameters.
    pub parameters: u64,
    /// Bytes of its weights.
    pub weight_bytes: u64,
    /// Bytes of the embedding table where it is not the head too: it is looked up in, not read through.
    pub looked_up: u64,
    /// Bytes of the weights of experts.
    pub expert_bytes: u64,
    /// Its tokenizer.
    pub tokenizer: Tokenizer,
}

/// What the program itself takes, its code and libraries as far as a run touches them, and its stacks and heap
/// (measured on x86-64 Linux: 10 MB of code, 1 MB of the rest).
const PROGRAM: u64 = 11_000_000;
/// Bytes around a byte that is read which the system maps with it.
const FAULT_AROUND: u64 = 64 << 10;
/// Lines that a tile of attention holds, and the numbers from one line of its scores to the next.
const TILE: (u64, u64) = (96, PAGE as u64 + 16);

/// What a run takes.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Run {
    /// All of it.
    pub total: Amount,
    /// What does not depend on the tokens.
    pub fixed: Amount,
}

/// The slots of a hash table for so many entries: a power of two that is at most seven eighths full.
fn slots(entries: u64) -> u64 {
    (entries * 8).div_ceil(7).next_power_of_two()
}

/// Without lines: what a run takes with weights of `weight_bytes`.
///
/// # Errors
/// The numbers are beyond all bounds.
pub fn run(question: &Question<'_>, parameters: u64) -> Result<Run> {
    let mut unseen = crate::Answer::default();
    lines(question, parameters, unseen.part(""))
}

/// The lines of a run, and its sum.
pub(super) fn lines(question: &Question<'_>, parameters: u64, part: &mut Part) -> Result<Run> {
    let d = question.model;
    let mut sum = Amount::Whole(0);
    let mut add = |value: Amount| sum = sum.add(value);

    part.known("run_program", "the program", PROGRAM, Unit::Bytes);
    add(PROGRAM.into());

    // The table of an own head's model is looked up in; a file says how large it is.
    let table = match question.file {
        Some(file) => file.looked_up,
        None if d.tied => 0,
        None => question.weights.bytes(d.vocab * d.width)?.rounded(),
    };
    let symbols = Symbols::new().with("N", parameters).with("table", table);
    let weights = match question.file {
        Some(file) => {
            let symbols = symbols.with("file", file.bytes);
            let formula = if table > 0 { "file - table" } else { "file" };
            part.line("run_weights", "the file, mapped", formula, &symbols, Unit::Bytes)?
        }
        None => {
            let formula = question.weights.formula();
            let formula = if table > 0 { format!("{formula} - table") } else { formula };
            part.line("run_weights", "weights, mapped", &formula, &symbols, Unit::Bytes)?
        }
    };
    add(weights);
    if table > 0 {
        // How many of its windows n tokens touch, of which about n^0.85 are different (Heaps 1978).
        let windows = table.div_ceil(FAULT_AROUND);
        let symbols = Symbols::new().with("n", question.tokens).with("w", windows).with("around", FAULT_AROUND);
        let formula = "around * w * (1 - (1 - 1 / w)^(n^0.85))";
        add(part.line("run_table", "rows of the table looked up", formula, &symbols, Unit::Bytes)?);
    }
    let fixed = weights.add(Amount::from(PROGRAM));

    let vocab = question.file.map_or(Tokenizer::usual(d.vocab), |f| f.tokenizer);
    let symbols = Symbols::new()
        .with("tokens", vocab.tokens)
        .with("text", vocab.text_bytes)
        .with("merges", vocab.merges)
        .with("slots", slots(vocab.tokens))
        .with("pairs", slots(vocab.merges));
    let (kept, building) = match vocab.merges {
        0 => ("text + tokens * 18 + 5 * slots", "tokens * 41"),
        _ => ("text + tokens * 6 + 5 * slots + merges * 12 + 5 * pairs", "tokens * 25 + merges * 32"),
    };
    let kept = part.line("run_tokenizer", "tokenizer", kept, &symbols, Unit::Bytes)?;

    // Everything that is taken while it runs, in place of what building the tokenizer took.
    let mut running = CacheShape::of(d).line(part, "run_cache", "cache, whole pages", question.kv, question.tokens)?;
    let rows = question.tokens.min(question.engine.prompt_rows);
    let (ffn, outs) = match d.experts {
        Some(e) => (e.width.max(e.shared), e.used),
        None => (d.ffn.width, 0),
    };
    let symbols = d.symbols().with("rows", rows).with("f", ffn).with("outs", outs);
    let wide = if d.ffn.gated { 3 } else { 2 };
    // Three rows of the width (of a mixture one for each choice beside), what the network holds, and its input in
    // int8 with a scale and three sums of blocks of 32.
    let experts = if outs > 0 { " + outs * d" } else { "" };
    let formula = format!("rows * (4 * (3 * d{experts} + {wide} * f) + f * 52 / 32)");
    running = running.add(part.line("run_activations", "activations of a pass", &formula, &symbols, Unit::Bytes)?);
    let symbols = d
        .symbols()
        .with("threads", question.engine.threads)
        .with("lines", TILE.0)
        .with("stride", TILE.1)
        .with("page", PAGE as u64);
    let formula = "4 * threads * (lines * (stride + 3 * k) + page * k)";
    running = running.add(part.line("run_tiles", "attention's tiles", formula, &symbols, Unit::Bytes)?);
    // Logits in two digits, their sum, the session's copy, and the candidates of the draw.
    running = running.add(part.line("run_logits", "logits and candidates", "24 * V", &symbols, Unit::Bytes)?);

    let building =
        crate::formula::compute(building, &Symbols::new().with("tokens", vocab.tokens).with("merges", vocab.merges))?;
    let more = building.value.real() - running.real();
    if more > 0.0 {
        part.known("run_building", "building the tokenizer", Amount::from(more.round()), Unit::Bytes);
        running = running.add(Amount::from(more.round()));
    }
    add(kept);
    add(running);
    Ok(Run { total: Amount::from(sum.real().round()), fixed: fixed.add(kept) })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hash_tables_are_at_most_seven_eighths_full() {
        assert_eq!(slots(7), 8);
        assert_eq!(slots(8), 16);
        assert_eq!(slots(49_152), 65_536);
        assert_eq!(slots(262_144), 524_288);
        assert_eq!(slots(0), 1);
    }
}
