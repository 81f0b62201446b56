//! Whether a model's numbers make sense, and whether every tensor has a place.

use crate::config::ModelConfig;
use crate::facts::MOST_LAYERS;
use crate::names::NameTable;
use crate::site::Site;
use crate::source::ModelSource;
use crate::{Error, Result};

/// Sizes beyond these are mistakes or attacks; products of any three of them fit 64 bits.
const MOST_FEATURES: usize = 1 << 20;

pub(super) fn problem(source: &ModelSource, what: impl Into<String>) -> Error {
    Error::Config { file: source.name(), what: what.into() }
}

/// Refuses numbers that contradict each other.
pub(super) fn config(source: &ModelSource, c: &ModelConfig) -> Result<()> {
    let experts = c.moe.map_or(1, |m| m.ffn);
    let checks = [
        (c.layers, MOST_LAYERS, "blocks"),
        (c.width, MOST_FEATURES, "features in the residual stream"),
        (c.heads, MOST_FEATURES, "attention heads"),
        (c.kv_heads, MOST_FEATURES, "key and value heads"),
        (c.head_dim, MOST_FEATURES, "features a head"),
        (c.ffn, MOST_FEATURES, "features in the feed-forward network"),
        (experts, MOST_FEATURES, "features in an expert"),
        (c.vocab, 1 << 24, "tokens in the vocabulary"),
        (c.context, 1 << 30, "positions of context"),
        (c.layer_specs.len(), MOST_LAYERS, "layers described"),
    ];
    for (value, most, what) in checks {
        if value == 0 || value > most {
            return Err(problem(source, format!("{value} {what}; expected 1 to {most}")));
        }
    }
    if !c.heads.is_multiple_of(c.kv_heads) {
        let (heads, kv) = (c.heads, c.kv_heads);
        return Err(problem(source, format!("{heads} attention heads do not share {kv} key heads evenly")));
    }
    for rope in &c.ropes {
        if rope.rotary_dim > c.head_dim || !rope.rotary_dim.is_multiple_of(2) {
            let (turned, features) = (rope.rotary_dim, c.head_dim);
            return Err(problem(source, format!("RoPE over {turned} of {features} features of a head")));
        }
        let (frequencies, factor) = rope.frequencies(c.rope_length);
        let finite = rope.theta.is_finite() && factor.is_finite() && frequencies.iter().all(|f| f.is_finite());
        if !finite || rope.theta <= 0.0 {
            let (theta, kind) = (rope.theta, rope.scaling.name());
            return Err(problem(source, format!("RoPE with base {theta} and scaling {kind} gives no finite angles")));
        }
    }
    if let Some(0) = c.layer_specs.iter().filter_map(|l| l.window).min() {
        return Err(problem(source, "a window of 0: a row would see nothing, not even itself"));
    }
    let finite = [c.norm_eps, c.attention_scale, c.embedding_scale];
    if finite.iter().any(|v| !v.is_finite() || *v < 0.0) {
        let (eps, scale) = (c.norm_eps, c.attention_scale);
        return Err(problem(
            source,
            format!("a norm epsilon of {eps} and an attention scale of {scale} make no sense"),
        ));
    }
    if c.relative_buckets.is_some_and(|b| !(8..=1024).contains(&b) || !b.is_multiple_of(4)) {
        return Err(problem(source, format!("{:?} buckets of relative positions", c.relative_buckets)));
    }
    Ok(())
}

/// A tensor that the description does not use means that the description is not of this model.
pub(super) fn tensors(source: &ModelSource, names: &NameTable, config: &ModelConfig) -> Result<()> {
    let experts = config.moe.map_or(0, |m| m.routing.experts);
    for tensor in source.tensor_names() {
        let known = match source.site_of(names, tensor) {
            Some((Site::Block(i, _), _)) => (i as usize) < config.layers,
            Some((Site::Expert(i, e, _), _)) => (i as usize) < config.layers && (e as usize) < experts,
            Some(_) => true,
            // Old exports keep what follows from the numbers; GGUF keeps RoPE's divisors, which were read before.
            None => {
                let leftovers = ["rotary_emb.inv_freq", "attn.masked_bias", "attn.bias"];
                let divisors = ["rope_freqs.weight", "rope_factors_long.weight", "rope_factors_short.weight"];
                match source {
                    ModelSource::Gguf(_) => divisors.contains(&tensor),
                    ModelSource::Hf(_) => leftovers.iter().any(|l| tensor.ends_with(l)) || names.ignores_hf(tensor),
                }
            }
        };
        if !known {
            let (layers, name) = (config.layers, &config.architecture);
            let what = format!("tensor \"{tensor}\" has no place in a {name} of {layers} blocks{}", quantized(source));
            return Err(problem(source, what));
        }
    }
    Ok(())
}

/// What a folder says about weights that are packed in a way that is not read.
fn quantized(source: &ModelSource) -> String {
    let ModelSource::Hf(folder) = source else { return String::new() };
    let method = || {
        let words = folder.config().ok()?.find_object("quantization_config").ok()??;
        let method = words.find_str("quant_method").ok()??.escape_debug().to_string();
        let eight = words.find_bool("load_in_8bit").ok()? == Some(true);
        Some(format!(
            " (quantization_config says {method}{}: of packed folders those of bitsandbytes with 4 bits are read)",
            if eight { " with 8 bits" } else { "" }
        ))
    };
    method().unwrap_or_default()
}
