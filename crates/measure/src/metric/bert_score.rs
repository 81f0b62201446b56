//! BERTScore (Zhang et al. 2020, "BERTScore: Evaluating Text Generation with BERT"), as bert_score 0.3.13 computes it.
//!
//! Each token of the hypothesis is matched with the token of the reference whose activations are nearest by cosine
//! (precision), and the other way round (recall); the special tokens around a text can be matched, but do not count.

use std::collections::{HashMap, HashSet};

use porism_generate::{Embedder, Hidden};
use porism_models::Encoder;
use porism_models::cpu::CpuExecutor;
use porism_text::Tokenizer;

use super::python::strip;
use super::{Corpus, Signature};
use crate::{Error, Result};

/// Segments whose activations are kept at a time.
const TILE: usize = 64;
/// Sums that a product of two rows is spread over.
const LANES: usize = 16;

/// What precision, recall and F-score of unrelated texts are, in this order; scores are rescaled so that they become 0.
pub type Baseline = [f64; 3];

/// BERTScore over an encoder.
#[derive(Debug)]
pub struct BertScorer<'a> {
    embedder: Embedder<'a>,
    layer: usize,
    /// The tokens that stand around every text.
    ends: Vec<u32>,
    /// What a text is begun with: bert_score puts a space before it where the tokenizer is GPT-2's or RoBERTa's.
    lead: &'static str,
    /// For each token of the references the weight that its rarity gives, and the weight of all others.
    idf: Option<(HashMap<u32, f64>, f64)>,
    baseline: Option<Baseline>,
}

/// An encoder cut off behind so many blocks, as bert_score cuts it: a norm behind the last block stays, texts may be as
/// long as the model's positions reach.
///
/// # Errors
/// If the encoder has fewer blocks.
pub fn cut_encoder(mut encoder: Encoder, layer: usize) -> Result<Encoder> {
    let blocks = encoder.stack.blocks.len();
    if layer > blocks {
        return Err(Error::Options(format!("there is no layer {layer}: the model has {blocks} (0 is its embeddings)")));
    }
    encoder.stack.blocks.truncate(layer);
    encoder.longest = encoder.stack.config.context;
    Ok(encoder)
}

/// A layer's baseline from a file of bert_score's: a line `LAYER,P,R,F`, then a line for each layer from 0 up.
///
/// # Errors
/// If the file has another form or no line for the layer.
pub fn read_baseline(text: &str, layer: usize) -> Result<Baseline> {
    let line = text.lines().nth(layer + 1);
    let line = line.ok_or_else(|| Error::Options(format!("there is no line for layer {layer} below the heading")))?;
    let numbers: Option<Vec<f64>> = line.split(',').map(|field| field.trim().parse().ok()).collect();
    match numbers.as_deref() {
        Some(&[stated, p, r, f]) if stated == layer as f64 && [p, r, f].iter().all(|b| *b < 1.0) => Ok([p, r, f]),
        _ => {
            Err(Error::Options(format!("line {}: `{line}` is not layer {layer} with three numbers below 1", layer + 2)))
        }
    }
}

/// A text as it is read; nothing stands before one without words.
fn begun(lead: &str, text: &str) -> String {
    if text.is_empty() { String::new() } else { format!("{lead}{text}") }
}

impl<'a> BertScorer<'a> {
    /// A scorer on an encoder from [`cut_encoder`].
    ///
    /// # Errors
    /// If the tokenizer fails.
    pub fn new(encoder: &'a Encoder, tokenizer: &'a Tokenizer, steps: CpuExecutor) -> Result<BertScorer<'a>> {
        let embedder = Embedder::new(encoder, tokenizer, steps);
        let (ends, _) = embedder.tokens("")?;
        let lead = if matches!(tokenizer.pre_tokenizer(), Some("gpt-2")) { " " } else { "" };
        Ok(BertScorer { embedder, layer: encoder.stack.blocks.len(), ends, lead, idf: None, baseline: None })
    }

    /// Rescales scores: `(score - baseline) / (1 - baseline)`.
    pub fn rescale(&mut self, baseline: Baseline) {
        self.baseline = Some(baseline);
    }

    /// Weights tokens by how few of the references have them: `ln((n + 1) / (those + 1))`.
    ///
    /// # Errors
    /// If the tokenizer fails.
    pub fn weigh(&mut self, corpus: &Corpus<'_>) -> Result<()> {
        let mut counts: HashMap<u32, u64> = HashMap::new();
        let mut texts = 0u64;
        for text in corpus.references().iter().flatten() {
            let (ids, _) = self.embedder.tokens(&begun(self.lead, strip(text)))?;
            ids.into_iter().collect::<HashSet<u32>>().into_iter().for_each(|id| *counts.entry(id).or_default() += 1);
            texts += 1;
        }
        let weight = |count: u64| ((texts + 1) as f64 / (count + 1) as f64).ln();
        self.idf = Some((counts.into_iter().map(|(id, count)| (id, weight(count))).collect(), weight(0)));
        Ok(())
    }

    /// Precision, recall and F-score of each segment, of several references the best of each; `done` hears how many
    /// segments there are so far. A text without words has zeros before rescaling.
    ///
    /// # Errors
    /// If the tokenizer or the forward pass fails.
    pub fn score(&mut self, corpus: &Corpus<'_>, done: &mut dyn FnMut(usize)) -> Result<Vec<f64>> {
        let mut out = Vec::with_capacity(3 * corpus.len());
        for first in (0..corpus.len()).step_by(TILE) {
            let segments = first..corpus.len().min(first + TILE);
            let sets = std::iter::once(corpus.hypotheses()).chain(corpus.references().iter().map(Vec::as_slice));
            let texts: Vec<Vec<&str>> =
                sets.map(|set| set[segments.clone()].iter().map(|t| strip(t)).collect()).collect();
            // Each text once, though it may stand in several places.
            let mut places: HashMap<&str, usize> = HashMap::new();
            let mut once: Vec<String> = Vec::new();
            for &text in texts.iter().flatten().filter(|text| !text.is_empty()) {
                places.entry(text).or_insert_with(|| {
                    once.push(begun(self.lead, text));
                    once.len() - 1
                });
            }
            let sides: Vec<Side> = self.embedder.hidden(&once)?.into_iter().map(|hidden| self.side(hidden)).collect();
            let side = |text: &str| places.get(text).map(|&place| &sides[place]);
            for i in 0..segments.len() {
                let own = side(texts[0][i]);
                let mut best = [f64::NEG_INFINITY; 3];
                for set in &texts[1..] {
                    let scores = own.zip(side(set[i])).map_or([0.0; 3], |(own, theirs)| greedy(own, theirs));
                    best.iter_mut().zip(scores).for_each(|(best, score)| *best = best.max(score));
                }
                let baseline = self.baseline.unwrap_or_default();
                out.extend(best.iter().zip(baseline).map(|(score, below)| (score - below) / (1.0 - below)));
            }
            done(segments.end);
        }
        Ok(out)
    }

    fn side(&self, hidden: Hidden) -> Side {
        let Hidden { tokens, mut rows, .. } = hidden;
        let width = rows.len() / tokens.len().max(1);
        for row in rows.chunks_exact_mut(width) {
            let length = dot(row, row).sqrt();
            row.iter_mut().for_each(|v| *v /= length);
        }
        let weight = |id: &u32| match &self.idf {
            Some((known, other)) => *known.get(id).unwrap_or(other),
            None => f64::from(!self.ends.contains(id)),
        };
        Side { weights: tokens.iter().map(weight).collect(), rows, width }
    }

    /// What fixes the score, with the model's name.
    pub fn signature(&self, references: usize, model: &str) -> Signature {
        Signature::new(references)
            .with("model", model.replace(['|', ':'], "_"))
            .with("layer", self.layer)
            .with_flag("idf", self.idf.is_some())
            .with_flag("rescaled", self.baseline.is_some())
    }
}

/// A text's activations, each of length one, and its tokens' weights.
struct Side {
    weights: Vec<f64>,
    rows: Vec<f32>,
    width: usize,
}

fn dot(a: &[f32], b: &[f32]) -> f32 {
    let mut sums = [0.0f32; LANES];
    let (whole, rest) = (a.len() / LANES * LANES, a.len() % LANES);
    for (a, b) in a.chunks_exact(LANES).zip(b.chunks_exact(LANES)) {
        sums.iter_mut().zip(a.iter().zip(b)).for_each(|(sum, (a, b))| *sum += a * b);
    }
    let tail: f32 = (whole..whole + rest).map(|i| a[i] * b[i]).sum();
    sums.iter().sum::<f32>() + tail
}

/// Precision, recall and F-score of greedy matching.
fn greedy(own: &Side, theirs: &Side) -> [f64; 3] {
    let mut nearest = vec![f32::NEG_INFINITY; theirs.weights.len()];
    let mut precision = 0.0;
    for (row, weight) in own.rows.chunks_exact(own.width).zip(&own.weights) {
        let mut most = f32::NEG_INFINITY;
        for (other, nearest) in theirs.rows.chunks_exact(theirs.width).zip(&mut nearest) {
            let cosine = dot(row, other);
            most = most.max(cosine);
            *nearest = nearest.max(cosine);
        }
        precision += weight * f64::from(most);
    }
    let recall: f64 = nearest.iter().zip(&theirs.weights).map(|(&cosine, weight)| weight * f64::from(cosine)).sum();
    let share = |sum: f64, weights: &[f64]| match weights.iter().sum::<f64>() {
        total if total > 0.0 => sum / total,
        _ => 0.0,
    };
    let (precision, recall) = (share(precision, &own.weights), share(recall, &theirs.weights));
    let f = 2.0 * precision * recall / (precision + recall);
    [precision, recall, if f.is_finite() { f } else { 0.0 }]
}
