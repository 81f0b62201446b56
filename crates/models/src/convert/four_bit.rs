//! Folders with a decoder's projections in four bits: which weights are packed, and the words of `config.json` by which
//! transformers and bitsandbytes know them.
//!
//! transformers packs the linear layers of the blocks and leaves the rest: embeddings, norms, biases and the head. What
//! is left keeps its type; where that is a block format of GGUF, it becomes F32, which is exact.

use porism_formats::hf::{Decoded, Packing};
use porism_kernels::BlockType;
use serde_json::{Map, Value, json};

use super::config_json::dtype;
use super::plan::{Item, Plan};
use super::{OutputFormat, Target};
use crate::config::ModelConfig;
use crate::names::{Purpose, Transform};
use crate::site::{BlockSite, Site};
use crate::source::ModelSource;
use crate::{Error, Result};

/// `config.json`'s key.
const KEY: &str = "quantization_config";

/// Whether a weight is packed.
pub(super) fn packs(site: Site) -> bool {
    use BlockSite::{AttentionOutput, Down, Gate, GateUp, Key, Query, QueryKeyValue, Up, Value};
    let Site::Block(_, site) = site else { return false };
    matches!(site, Query | Key | Value | QueryKeyValue | AttentionOutput | Gate | Up | GateUp | Down)
}

/// Refuses a GGUF file of four-bit weights, before anything is read.
pub(super) fn refuse_format(format: OutputFormat, to: Target) -> Result<()> {
    match (format, to) {
        (OutputFormat::Gguf, Target::FourBit { kind, .. }) => Err(Error::Convert(format!(
            "GGUF files have no type {}: a name without an ending gives a Hugging Face folder, which bitsandbytes loads",
            kind.block()
        ))),
        _ => Ok(()),
    }
}

/// Refuses models whose projections are no linear layers to bitsandbytes.
pub(super) fn refuse_model(source: &ModelSource, config: &ModelConfig) -> Result<()> {
    let names = source.names()?;
    let what = if names.purpose == Purpose::Encoder {
        "an encoder: decoders alone are packed into four bits"
    } else if config.moe.is_some() {
        "a mixture of experts, which bitsandbytes does not pack"
    } else if names.entries().any(|entry| entry.transform == Transform::Transposed && packs(entry.site)) {
        "a model whose projections lie transposed in its files: these are not packed"
    } else {
        return Ok(());
    };
    Err(Error::Convert(format!("{}: it is {what}; --to f16 and --to bf16 take half of f32", source.name())))
}

/// Refuses a matrix that cannot be stored in four bits.
pub(super) fn check(item: &Item, format: OutputFormat) -> Result<()> {
    let (block, cols) = (item.block, item.weight.cols());
    if format == OutputFormat::Gguf {
        return Err(Error::Convert(format!(
            "{} is stored as {block}, which GGUF files do not have; --to f32 decodes it exactly, --to f16 and --to bf16 \
             round it",
            item.origin
        )));
    }
    if !cols.is_multiple_of(block.block_len()) {
        return Err(Error::Convert(format!(
            "{} has rows of {cols} weights, which are no whole blocks of {}: it cannot be {block}",
            item.origin,
            block.block_len()
        )));
    }
    Ok(())
}

/// How the matrices are packed.
pub(super) fn packing(plan: &Plan, to: Target) -> Packing {
    let decoded = match plan.main_type() {
        BlockType::F16 => Decoded::F16,
        BlockType::BF16 => Decoded::BF16,
        _ => Decoded::F32,
    };
    Packing { double_quant: matches!(to, Target::FourBit { double_quant: true, .. }), decoded }
}

/// Puts the words into `config.json`, or takes those of the source away where nothing is packed any more.
pub(super) fn describe(source: &ModelSource, plan: &Plan, to: Target, config: &mut Map<String, Value>) -> Result<()> {
    let Some(block) = plan.four_bit() else {
        config.remove(KEY);
        return Ok(());
    };
    let packing = packing(plan, to);
    let head = source.names()?.hf_name(Site::Head, "weight").unwrap_or_default();
    let kept = dtype(plan.main_type());
    config.insert("dtype".into(), json!(kept));
    config.insert("torch_dtype".into(), json!(kept));
    let words = json!({
        "_load_in_4bit": true,
        "_load_in_8bit": false,
        "bnb_4bit_compute_dtype": packing.decoded.name(),
        "bnb_4bit_quant_storage": "uint8",
        "bnb_4bit_quant_type": block.name().to_lowercase(),
        "bnb_4bit_use_double_quant": packing.double_quant,
        "llm_int8_enable_fp32_cpu_offload": false,
        "llm_int8_has_fp16_weight": false,
        "llm_int8_skip_modules": [head.strip_suffix(".weight").unwrap_or("lm_head")],
        "llm_int8_threshold": 6.0,
        "load_in_4bit": true,
        "load_in_8bit": false,
        "quant_method": "bitsandbytes",
    });
    config.insert(KEY.into(), words);
    Ok(())
}

/// What is to be said of weights that stay packed.
pub(super) fn note(plan: &Plan, to: Target) -> Option<String> {
    let kept = to == Target::Keep && plan.four_bit().is_some();
    kept.then(|| "the scales are written as f32, whether they had 8 bits or not: the weights are the same".into())
}
