//! What a plan needs to know of a model's file: its dimensions, what it holds, its tokenizer's size.

use std::path::Path;

use anyhow::{Result, bail};
use porism_models::config::{ModelConfig, QueryKeyNorm as Normed, ResidualKind};
use porism_models::inspect::parts_of;
use porism_models::load::numbers;
use porism_models::parts::NormKind;
use porism_models::{ModelSource, inspect::Share};
use porism_plan::memory::{File, Tokenizer};
use porism_plan::parameters::Held;
use porism_plan::{Dimensions, Experts, FeedForward, Norms, QueryKeyNorm};

/// A model as a plan sees it.
pub(super) struct Facts {
    /// Its dimensions.
    pub(super) model: Dimensions,
    /// Its file, if there is one with weights.
    pub(super) file: Option<File>,
    /// What the file holds, by part.
    pub(super) held: Vec<Held>,
}

impl Facts {
    /// Dimensions alone.
    pub(super) fn of(model: Dimensions) -> Facts {
        Facts { model, file: None, held: Vec::new() }
    }

    /// Bytes of weights that a token reads, of those that the file has.
    pub(super) fn bytes_read(&self) -> Option<u64> {
        let file = self.file.as_ref()?;
        let idle = match self.model.experts {
            Some(e) => (u128::from(file.expert_bytes) * u128::from(e.count - e.used) / u128::from(e.count)) as u64,
            None => 0,
        };
        Some(file.weight_bytes.saturating_sub(file.looked_up).saturating_sub(idle))
    }
}

/// Reads a GGUF file, a Hugging Face folder, or the folder of a `config.json`.
pub(super) fn read(path: &Path) -> Result<Facts> {
    let config_alone = path.is_file() && path.file_name().is_some_and(|name| name == "config.json");
    let folder = path.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let source = ModelSource::open(if config_alone { folder } else { path })?;
    let config = numbers(&source)?;
    let name = source.name();
    if config.bidirectional {
        bail!("{name} is an encoder: plans are about decoders, which write a text token by token");
    }
    let names = source.tensor_names();
    let model = dimensions(name, &config, &names)?;
    let parts = parts_of(&source);
    if parts.is_empty() {
        return Ok(Facts::of(model));
    }
    let held = parts.iter().map(|p| Held { name: p.name.clone(), parameters: p.parameters, bytes: p.bytes }).collect();
    let file = file(&source, &config, &parts);
    Ok(Facts { model, file: Some(file), held })
}

fn dimensions(name: String, config: &ModelConfig, tensors: &[&str]) -> Result<Dimensions> {
    let biased = |ends: &[&str], architectures: &[&str]| match tensors.is_empty() {
        true => architectures.contains(&config.architecture.as_str()),
        false => tensors.iter().any(|t| ends.iter().any(|end| t.ends_with(end))),
    };
    let qkv = ["attn_q.bias", "attn_qkv.bias", "q_proj.bias", "qkv_proj.bias", "c_attn.bias"];
    let others = ["attn_output.bias", "ffn_down.bias", "o_proj.bias", "c_proj.bias"];
    let windows = || config.layer_specs.iter().filter_map(|l| l.window);
    let moe_layers = config.layer_specs.iter().filter(|l| l.moe).count() as u64;
    let dimensions = Dimensions {
        name,
        layers: config.layers as u64,
        width: config.width as u64,
        heads: config.heads as u64,
        kv_heads: config.kv_heads as u64,
        head_dim: config.head_dim as u64,
        ffn: FeedForward { width: config.ffn as u64, gated: config.gated },
        experts: config.moe.map(|moe| Experts {
            count: moe.routing.experts as u64,
            used: moe.routing.used as u64,
            width: moe.ffn as u64,
            shared: moe.shared_ffn.unwrap_or(0) as u64,
            layers: moe_layers,
        }),
        vocab: config.vocab as u64,
        tied: config.tied_embeddings,
        context: Some(config.context as u64),
        positions: config.learned_positions.map_or(0, |first| (first + config.context) as u64),
        norms: Norms {
            in_layer: if config.residual == ResidualKind::Sandwich { 4 } else { 2 },
            numbers: if config.norm == NormKind::Layer { 2 } else { 1 },
        },
        query_key_norm: config.query_key_norm.map(|over| match over {
            Normed::Head => QueryKeyNorm::Head,
            Normed::Row => QueryKeyNorm::Row,
        }),
        qkv_bias: biased(&qkv, &["qwen2", "qwen2moe", "gpt2", "starcoder2"]),
        other_bias: biased(&others, &["gpt2", "starcoder2"]),
        window: windows().max().map(|w| w as u64),
        windowed_layers: windows().count() as u64,
    };
    // What the loader took is a model; this only guards the plan's own bounds.
    Ok(dimensions.checked()?)
}

fn file(source: &ModelSource, config: &ModelConfig, parts: &[Share]) -> File {
    let sum = |of: fn(&Share) -> u64, wanted: &dyn Fn(&str) -> bool| -> u64 {
        parts.iter().filter(|p| wanted(&p.name)).map(of).sum()
    };
    let weight_bytes = sum(|p| p.bytes, &|_| true);
    let looked_up = if config.tied_embeddings { 0 } else { sum(|p| p.bytes, &|name| name == "token embedding") };
    let (bytes, tokenizer) = match source {
        ModelSource::Gguf(gguf) => {
            let key = |name: &str| format!("tokenizer.ggml.{name}");
            let length = |name: &str| gguf.find_array(&key(name)).ok().flatten().map_or(0, |a| a.len() as u64);
            let text_bytes = gguf.byte_strings(&key("tokens")).map_or(0, |all| all.map(|t| t.len() as u64).sum());
            (gguf.byte_len() as u64, Tokenizer { tokens: length("tokens"), text_bytes, merges: length("merges") })
        }
        ModelSource::Hf(_) => (weight_bytes, Tokenizer::usual(config.vocab as u64)),
    };
    File {
        bytes,
        parameters: sum(|p| p.parameters, &|_| true),
        weight_bytes,
        looked_up,
        expert_bytes: sum(|p| p.bytes, &|name| name == "experts"),
        tokenizer,
    }
}
