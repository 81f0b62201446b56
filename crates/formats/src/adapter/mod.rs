//! Adapter files: what fine-tuning leaves beside a base model, as PEFT's folders ([`peft`]) and as llama.cpp's GGUF
//! files ([`gguf_lora`]).
//!
//! Both hold pairs of small matrices (LoRA; Hu et al. 2021): a projection W gets `scale * B A` added. They differ in names,
//! in where the scale stands, and in what they can say at all; a [`LowRankPair`] is what both come down to.

pub mod gguf_lora;
pub mod peft;

use std::collections::HashMap;
use std::hash::Hash;

use crate::Weight;

pub use gguf_lora::GgufLora;
pub use peft::PeftAdapter;

/// One adapted matrix W `[out, in]` as a file has it: `W + scale * B A`, or with a magnitude m (DoRA; Liu et al. 2024,
/// section 4.1) that sum with each row brought to the length `m_i`.
#[derive(Clone, Debug)]
pub struct LowRankPair {
    /// Whose it is, in the file's own words: a module's path (PEFT), a tensor's name (GGUF).
    pub name: String,
    /// A, `[rank, in]`.
    pub a: Weight,
    /// B, `[out, rank]`.
    pub b: Weight,
    /// The factor on B A.
    pub scale: f32,
    /// DoRA's magnitudes, one row of `out` numbers.
    pub magnitude: Option<Weight>,
    /// Whether W is the transpose of an embedding table: `in` is the vocabulary and `out` the width.
    pub embedding: bool,
}

impl LowRankPair {
    /// The rank.
    pub fn rank(&self) -> usize {
        self.a.rows()
    }

    /// Why the matrices are no pair, if they are none.
    fn problem(&self) -> Option<String> {
        let (rank, out) = (self.a.rows(), self.b.rows());
        let LowRankPair { name, a, b, scale, magnitude, .. } = self;
        if a.is_empty() || b.is_empty() {
            return Some(format!("`{name}`: its rank is 0"));
        }
        if b.cols() != rank {
            let (cols, by) = (a.cols(), b.cols());
            return Some(format!("`{name}`: A of {rank} x {cols} and B of {out} x {by} are of different ranks"));
        }
        if let Some(m) = magnitude.as_ref().filter(|m| m.len() != out) {
            return Some(format!("`{name}`: {} magnitudes for {out} features", m.len()));
        }
        (!scale.is_finite()).then(|| format!("`{name}`: its scale of {scale} is no number"))
    }
}

/// The alpha of a scale: `scale * rank`, freed from the rounding of a division by the rank.
fn alpha_of(scale: f32, divisor: f64) -> f64 {
    let alpha = f64::from(scale) * divisor;
    let whole = alpha.round();
    if (alpha - whole).abs() <= 1e-6 * alpha.abs() { whole } else { alpha }
}

/// The value that occurs most often, of several the first.
fn most_common<T: Copy + Eq + Hash>(values: impl IntoIterator<Item = T>) -> Option<T> {
    let mut counts: HashMap<T, (usize, usize)> = HashMap::new();
    for (at, value) in values.into_iter().enumerate() {
        counts.entry(value).or_insert((0, at)).0 += 1;
    }
    counts.into_iter().max_by_key(|(_, (count, at))| (*count, std::cmp::Reverse(*at))).map(|(value, _)| value)
}
