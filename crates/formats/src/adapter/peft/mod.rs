//! PEFT's folders: `adapter_config.json` and `adapter_model.safetensors`.
//!
//! A module's tensors are named `base_model.model.<module>.lora_A.weight` `[rank, in]`, `.lora_B.weight` `[out, rank]`; of an
//! embedding `.lora_embedding_A` `[rank, vocabulary]` and `.lora_embedding_B` `[width, rank]`; DoRA adds
//! `.lora_magnitude_vector` `[out]`. The scale is `lora_alpha / r`, with `use_rslora` `lora_alpha / sqrt(r)` (Kalajdzievski
//! 2023), where `rank_pattern` and `alpha_pattern` name other numbers for some modules. Read in PEFT 0.21.2.

mod config;
mod pattern;
mod read;
mod write;

use super::LowRankPair;

/// The configuration's file.
const CONFIG: &str = "adapter_config.json";
/// The tensors' file.
const TENSORS: &str = "adapter_model.safetensors";
/// What stands before a module's path.
const PREFIX: &str = "base_model.model.";

/// A LoRA or DoRA adapter as PEFT keeps it.
///
/// What a configuration can say and this cannot (other methods, trained biases, whole modules, a base that is changed at
/// load) is refused when it is read.
#[derive(Clone, Debug, Default)]
pub struct PeftAdapter {
    /// The model that it was made for, as it was called there (`base_model_name_or_path`).
    pub base_model: Option<String>,
    /// Whether scales are written as `alpha / sqrt(rank)`.
    pub rslora: bool,
    /// The share of A's input that training dropped; nothing is dropped here.
    pub dropout: f32,
    /// Whether the base keeps its weights as `[in, out]` (GPT-2). A and B are the same either way.
    pub fan_in_fan_out: bool,
    /// Which modules have a pair: whole paths, or their last parts. Of a folder that gives a pattern instead, the paths.
    pub target_modules: Vec<String>,
    /// The pairs; their names are module paths (`model.layers.0.self_attn.q_proj`).
    pub pairs: Vec<LowRankPair>,
    /// Tensors of the folder that were passed over: the copies of a base's embeddings that PEFT keeps beside their adapters.
    pub ignored: Vec<String>,
}
