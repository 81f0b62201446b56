//! What converts from one world to the other, and what the other format cannot say of a model: refused, not dropped.
//!
//! A GGUF file leaves to its reader what all published models of an architecture share: the non-linearity, which layers
//! have a window or no RoPE, the scale of scores. What differs there cannot be written down.

use porism_kernels::activation::Activation;

use super::OutputFormat;
use crate::config::ModelConfig;
use crate::rope::{RopeScaling, RopeSpec};
use crate::source::ModelSource;
use crate::{Error, Result};

/// `model_type` of what converts: for these alone the words of both formats are written.
const CONVERTED: [&str; 11] = [
    "llama",
    "mistral",
    "smollm3",
    "qwen2",
    "qwen3",
    "gemma2",
    "gemma3_text",
    "phi3",
    "starcoder2",
    "stablelm",
    "bert",
];

/// Refuses what does not convert.
pub(super) fn refuse(source: &ModelSource, config: &ModelConfig, format: OutputFormat) -> Result<()> {
    let names = source.names()?;
    // EmbeddingGemma has the model type of a Gemma 3.
    if !CONVERTED.contains(&names.hf_model_type) || config.bidirectional != (names.hf_model_type == "bert") {
        return Err(Error::Convert(format!(
            "{} is a {} model: between GGUF files and Hugging Face folders this build converts {}; within one of the \
             two it converts every model that it runs",
            source.name(),
            source.architecture()?,
            CONVERTED.join(", "),
        )));
    }
    let whose = match format {
        OutputFormat::Gguf => "GGUF file",
        OutputFormat::HuggingFace => "Hugging Face folder",
    };
    match unsaid(config, format) {
        None => Ok(()),
        Some(what) => Err(Error::Convert(format!(
            "{}: {what}, which a {whose} of a {} cannot say",
            source.name(),
            config.architecture,
        ))),
    }
}

/// What readers of the architecture's GGUF files take for granted and this model has otherwise.
fn unsaid(config: &ModelConfig, format: OutputFormat) -> Option<String> {
    let architecture = config.architecture.as_str();
    let usual = match architecture {
        "gemma2" | "gemma3" | "starcoder2" => Activation::GeluTanh,
        "bert" => Activation::GeluErf,
        _ => Activation::Silu,
    };
    if config.activation != usual {
        return Some(format!("its non-linearity is {:?}", config.activation));
    }
    layers(config)
        .or_else(|| scores(config))
        .or_else(|| config.ropes.first().and_then(|rope| main_rope(config, rope, format)))
        .or_else(|| config.ropes.get(1).and_then(|rope| local_rope(config, rope)))
}

/// Windows and RoPE, layer by layer.
fn layers(config: &ModelConfig) -> Option<String> {
    let architecture = config.architecture.as_str();
    let any = config.layer_specs.iter().find_map(|l| l.window);
    for (i, layer) in config.layer_specs.iter().enumerate() {
        let slides = match architecture {
            "gemma2" => i % 2 == 0,
            "gemma3" => (i + 1) % 6 != 0,
            "phi3" => any.is_some(),
            _ => false,
        };
        match (slides, layer.window) {
            (false, Some(window)) => return Some(format!("layer {i} has a window of {window} positions")),
            (true, None) => return Some(format!("layer {i} has no window")),
            (true, window) if window != any => return Some(format!("layer {i} has another window than those before")),
            _ => {}
        }
        let rope = match architecture {
            "bert" => None,
            "smollm3" => ((i + 1) % 4 != 0).then_some(0),
            "gemma3" => Some(usize::from(slides)),
            _ => Some(0),
        };
        if layer.rope != rope {
            let has = if layer.rope.is_some() { "a" } else { "no" };
            return Some(format!("layer {i} has {has} rotary embedding where others of its kind do not agree"));
        }
        if layer.moe {
            return Some(format!("layer {i} is a mixture of experts"));
        }
    }
    None
}

/// The features that the scores are scaled by: of the 27B models of Gemma the residual stream's share of a head.
pub(super) fn scaled_by(config: &ModelConfig) -> usize {
    match (config.architecture.as_str(), config.layers) {
        ("gemma2", 46) | ("gemma3", 62) => config.width / config.heads,
        _ => config.head_dim,
    }
}

/// The scale and caps of attention's scores.
fn scores(config: &ModelConfig) -> Option<String> {
    let usual = 1.0 / (scaled_by(config) as f32).sqrt();
    if (config.attention_scale - usual).abs() > 1e-6 * usual {
        let by = 1.0 / config.attention_scale.powi(2);
        return Some(format!(
            "its scores are divided by the root of {by:.1} (query_pre_attn_scalar), not of {}",
            scaled_by(config)
        ));
    }
    match config.architecture.as_str() {
        // A reader caps by the published models' numbers where none are written.
        "gemma2" if config.attention_softcap.is_none() || config.final_softcap.is_none() => {
            Some("its scores or logits have no cap".into())
        }
        "gemma3" if config.attention_softcap.is_some() => Some("its scores have a cap".into()),
        _ => None,
    }
}

fn main_rope(config: &ModelConfig, rope: &RopeSpec, format: OutputFormat) -> Option<String> {
    let architecture = config.architecture.as_str();
    if rope.rotary_dim != config.head_dim && !["stablelm", "phi3"].contains(&architecture) {
        return Some(format!("RoPE turns {} of the {} features of a head", rope.rotary_dim, config.head_dim));
    }
    let known = match (&rope.scaling, format) {
        (RopeScaling::None | RopeScaling::Linear { .. }, _) => true,
        // Both readers end the ramp at whole pairs unless they are told otherwise, which a GGUF file cannot.
        (RopeScaling::Yarn(yarn), _) => yarn.truncate,
        (RopeScaling::LongRope { .. }, _) => architecture == "phi3",
        (RopeScaling::Llama3 { .. }, OutputFormat::Gguf) => architecture == "llama",
        (RopeScaling::Divisors(_), OutputFormat::HuggingFace) => published_llama3(rope).is_some(),
        _ => false,
    };
    (!known).then(|| format!("its rotary embedding is stretched ({})", rope.scaling.name()))
}

/// The rotary embedding of Gemma 3's windows, of which only the base is written.
fn local_rope(config: &ModelConfig, rope: &RopeSpec) -> Option<String> {
    let plain = rope.scaling == RopeScaling::None && rope.rotary_dim == config.head_dim;
    (!plain).then(|| "the rotary embedding of its windows is no plain one".into())
}

/// The rule whose evaluation a GGUF file's divisors are: that of Llama 3.1 or 3.2 (Meta's model cards), if it gives
/// the same.
pub(super) fn published_llama3(rope: &RopeSpec) -> Option<RopeScaling> {
    let RopeScaling::Divisors(divisors) = &rope.scaling else { return None };
    [8.0, 32.0].into_iter().map(|factor| RopeScaling::Llama3 { factor, low: 1.0, high: 4.0, original: 8192 }).find(
        |scaling| {
            let evaluated = self::divisors(&RopeSpec { scaling: scaling.clone(), ..rope.clone() });
            evaluated.iter().zip(divisors).all(|(a, b)| (a - b).abs() <= 1e-5 * b.abs())
        },
    )
}

/// What each frequency is divided by.
pub(super) fn divisors(rope: &RopeSpec) -> Vec<f32> {
    let plain = RopeSpec { scaling: RopeScaling::None, ..rope.clone() }.frequencies(0).0;
    plain.iter().zip(rope.frequencies(0).0).map(|(plain, f)| plain / f).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Another factor is not taken for one of the two.
    #[test]
    fn the_rule_of_published_models_is_found_again() {
        let rope = |scaling| RopeSpec { theta: 500_000.0, rotary_dim: 64, scaling };
        let llama3 = |factor| RopeScaling::Llama3 { factor, low: 1.0, high: 4.0, original: 8192 };
        for factor in [8.0, 32.0] {
            let found = published_llama3(&rope(RopeScaling::Divisors(divisors(&rope(llama3(factor))))));
            assert_eq!(found, Some(llama3(factor)));
        }
        let other = RopeScaling::Divisors(divisors(&rope(llama3(16.0))));
        assert_eq!(published_llama3(&rope(other)), None);
    }
}
