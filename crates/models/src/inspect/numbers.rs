//! The numbers that describe a model, of whatever architecture, as far as its file tells them.

use porism_formats::Gguf;
use porism_formats::hf::JsonFile;
use serde::Serialize;

use crate::config::ModelConfig;
use crate::cpu::{CpuState, KvType};

/// The model's numbers; `None` is what the file does not say.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Numbers {
    /// Blocks.
    pub layers: Option<u64>,
    /// Width of the residual stream.
    pub width: Option<u64>,
    /// Query heads.
    pub heads: Option<u64>,
    /// Key and value heads.
    pub kv_heads: Option<u64>,
    /// Features of a query or key head.
    pub head_dim: Option<u64>,
    /// Width of the feed-forward network.
    pub ffn: Option<u64>,
    /// Experts, in a mixture.
    pub experts: Option<u64>,
    /// Experts that work on a token.
    pub experts_used: Option<u64>,
    /// Rows of the embedding table.
    pub vocabulary: Option<u64>,
    /// Positions that it was trained for.
    pub context: Option<u64>,
    /// Positions that windowed layers see.
    pub sliding_window: Option<u64>,
    /// Layers with that window; none where the model cannot be run.
    pub windowed_layers: Option<u64>,
    /// Positions that information can come from through all layers, where all have a window: layers times window.
    pub receptive_field: Option<u64>,
    /// The norms' epsilon.
    pub norm_eps: Option<f32>,
    /// RoPE's base.
    pub rope_base: Option<f32>,
    /// Features of a head that RoPE turns.
    pub rope_dim: Option<u64>,
    /// How RoPE is stretched; none if it is not.
    pub rope_scaling: Option<String>,
    /// Whether the head is the embedding table.
    pub tied_embeddings: Option<bool>,
    /// Features of a value head, where they are other than `head_dim`.
    #[serde(skip)]
    value_dim: Option<u64>,
    /// Every layer keeps keys and values of every position.
    #[serde(skip)]
    plain_cache: bool,
}

/// Sizes of the key and value cache, all layers together.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct KvCache {
    /// Bytes a token with `--kv-type f16`.
    pub f16_bytes_per_token: u64,
    /// Bytes a token with `--kv-type f32`.
    pub f32_bytes_per_token: u64,
    /// Positions of the full context.
    pub context: Option<u64>,
    /// Bytes of a full context in f16.
    pub f16_bytes_full: Option<u64>,
    /// Bytes of a full context in f32.
    pub f32_bytes_full: Option<u64>,
    /// Bytes a token with `--kv-type q8_0`; none where heads are no whole blocks.
    pub q8_0_bytes_per_token: Option<u64>,
    /// Bytes of a full context in q8_0.
    pub q8_0_bytes_full: Option<u64>,
    /// Bytes a token with `--kv-type q4_0`; none where heads are no whole blocks.
    pub q4_0_bytes_per_token: Option<u64>,
    /// Bytes of a full context in q4_0.
    pub q4_0_bytes_full: Option<u64>,
}

impl KvCache {
    /// The cache of a model that runs, at a context: layers with a window keep no more than that.
    pub(super) fn of(config: &ModelConfig, context: usize) -> KvCache {
        let token = |kind| CpuState::bytes_per_row(config, kind) as u64;
        let full = |kind| CpuState::bytes_at(config, kind, context) as u64;
        let if_it_fits = |kind: KvType, bytes: u64| kind.fits(config.head_dim).then_some(bytes);
        KvCache {
            f16_bytes_per_token: token(KvType::F16),
            f32_bytes_per_token: token(KvType::F32),
            context: Some(context as u64),
            f16_bytes_full: Some(full(KvType::F16)),
            f32_bytes_full: Some(full(KvType::F32)),
            q8_0_bytes_per_token: if_it_fits(KvType::Q8_0, token(KvType::Q8_0)),
            q8_0_bytes_full: if_it_fits(KvType::Q8_0, full(KvType::Q8_0)),
            q4_0_bytes_per_token: if_it_fits(KvType::Q4_0, token(KvType::Q4_0)),
            q4_0_bytes_full: if_it_fits(KvType::Q4_0, full(KvType::Q4_0)),
        }
    }
}

impl Numbers {
    pub(super) fn of_gguf(gguf: &Gguf, architecture: &str) -> Numbers {
        // Some architectures have a list, a number a layer, under a key that others have one number under.
        let number = |key: &str| gguf.find_u64(&format!("{architecture}.{key}")).ok().flatten();
        let float = |key: &str| gguf.find_f32(&format!("{architecture}.{key}")).ok().flatten();
        let has = |key: &str| gguf.get(&format!("{architecture}.{key}")).is_some();
        let (width, heads) = (number("embedding_length"), number("attention.head_count"));
        let head_dim = number("attention.key_length").or_else(|| width?.checked_div(heads?));
        let scaling = gguf.find_str(&format!("{architecture}.rope.scaling.type")).ok().flatten();
        let tokens = || Some(gguf.find_array("tokenizer.ggml.tokens").ok()??.len() as u64);
        let table = gguf.tensor("token_embd.weight").map(|t| t.rows() as u64);
        let causal = gguf.find_bool(&format!("{architecture}.attention.causal")).ok().flatten();
        let listed_heads = has("attention.head_count_kv") && number("attention.head_count_kv").is_none();
        let other_memory =
            gguf.metadata().any(|(key, _)| key.contains(".ssm.") || key.contains("kv_lora") || key.contains(".wkv."));
        Numbers {
            layers: number("block_count"),
            width,
            heads,
            kv_heads: number("attention.head_count_kv").or(heads.filter(|_| !listed_heads)),
            head_dim,
            ffn: number("feed_forward_length"),
            experts: number("expert_count").filter(|&n| n > 0),
            experts_used: number("expert_used_count").filter(|&n| n > 0),
            vocabulary: table.or_else(|| number("vocab_size")).or_else(tokens),
            context: number("context_length"),
            sliding_window: number("attention.sliding_window").filter(|&n| n > 0),
            windowed_layers: None,
            receptive_field: None,
            norm_eps: float("attention.layer_norm_rms_epsilon").or_else(|| float("attention.layer_norm_epsilon")),
            rope_base: float("rope.freq_base"),
            rope_dim: number("rope.dimension_count"),
            rope_scaling: scaling
                .filter(|s| *s != "none")
                .map(str::to_string)
                .or_else(|| gguf.tensor("rope_freqs.weight").map(|_| "a factor for each frequency".into())),
            tied_embeddings: table.map(|_| gguf.tensor("output.weight").is_none()),
            value_dim: number("attention.value_length").filter(|&dim| Some(dim) != head_dim),
            plain_cache: causal != Some(false) && !other_memory,
        }
    }

    pub(super) fn of_config(config: &JsonFile) -> Numbers {
        let text = config.find_object("text_config").ok().flatten();
        let inner = text.as_ref().unwrap_or(config);
        let number = |keys: &[&str]| keys.iter().find_map(|key| inner.find_usize(key).ok().flatten()).map(|n| n as u64);
        let float = |keys: &[&str]| keys.iter().find_map(|key| inner.find_f64(key).ok().flatten()).map(|n| n as f32);
        let rope = ["rope_parameters", "rope_scaling"].iter().find_map(|key| inner.find_object(key).ok().flatten());
        let rope_text = |key: &str| rope.as_ref()?.find_str(key).ok().flatten().map(str::to_string);
        let rope_base = rope.as_ref().and_then(|r| r.find_f64("rope_theta").ok().flatten()).map(|n| n as f32);
        let (width, heads) =
            (number(&["hidden_size", "n_embd", "d_model"]), number(&["num_attention_heads", "n_head", "num_heads"]));
        let causal = config
            .get("architectures")
            .and_then(|a| a.as_array())
            .is_some_and(|classes| classes.iter().filter_map(|c| c.as_str()).any(|c| c.ends_with("CausalLM")));
        let other_memory = ["kv_lora_rank", "state_size", "layer_types", "mamba_d_state"];
        Numbers {
            layers: number(&["num_hidden_layers", "n_layer", "num_layers"]),
            width,
            heads,
            kv_heads: number(&["num_key_value_heads"]).or(heads),
            head_dim: number(&["head_dim"]).or_else(|| width?.checked_div(heads?)),
            ffn: number(&["intermediate_size", "n_inner", "d_ff"]),
            experts: number(&["num_local_experts", "num_experts", "n_routed_experts"]),
            experts_used: number(&["num_experts_per_tok"]),
            vocabulary: number(&["vocab_size"]),
            context: number(&["max_position_embeddings", "n_positions"]),
            sliding_window: number(&["sliding_window"]),
            windowed_layers: None,
            receptive_field: None,
            norm_eps: float(&["rms_norm_eps", "layer_norm_eps", "layer_norm_epsilon"]),
            rope_base: rope_base.or_else(|| float(&["rope_theta"])),
            rope_dim: None,
            rope_scaling: rope_text("rope_type").or_else(|| rope_text("type")).filter(|kind| kind != "default"),
            tied_embeddings: config.find_bool("tie_word_embeddings").ok().flatten(),
            value_dim: None,
            plain_cache: causal && !other_memory.iter().any(|key| inner.get(key).is_some_and(has_other_memory)),
        }
    }

    /// Fills in the architecture's defaults of a model that loads.
    pub(super) fn complete(&mut self, config: &ModelConfig) {
        self.kv_heads = Some(config.kv_heads as u64);
        self.head_dim = Some(config.head_dim as u64);
        self.norm_eps = Some(config.norm_eps);
        self.rope_base = config.rope().map(|r| r.theta);
        self.rope_dim = config.rope().map(|r| r.rotary_dim as u64);
        self.tied_embeddings = Some(config.tied_embeddings);
        self.rope_scaling = config.rope().map(|r| r.scaling.name().to_string()).filter(|name| name != "none");
        let windows = || config.layer_specs.iter().filter_map(|l| l.window);
        if let Some(window) = windows().max() {
            self.sliding_window = Some(window as u64);
            self.windowed_layers = Some(windows().count() as u64);
            self.receptive_field = config.receptive_field().map(|n| n as u64);
        } else {
            // A file may name a window that no layer uses.
            self.sliding_window = None;
        }
    }

    pub(super) fn kv_cache(&self) -> Option<KvCache> {
        if !self.plain_cache {
            return None;
        }
        let key = self.head_dim?;
        let features = key.checked_add(self.value_dim.unwrap_or(key))?;
        let numbers = self.layers?.checked_mul(self.kv_heads?)?.checked_mul(features)?;
        let (f16, f32) = (numbers.checked_mul(2)?, numbers.checked_mul(4)?);
        let full = |bytes: u64| self.context.and_then(|n| n.checked_mul(bytes));
        Some(KvCache {
            f16_bytes_per_token: f16,
            f32_bytes_per_token: f32,
            context: self.context,
            f16_bytes_full: full(f16),
            f32_bytes_full: full(f32),
            q8_0_bytes_per_token: None,
            q8_0_bytes_full: None,
            q4_0_bytes_per_token: None,
            q4_0_bytes_full: None,
        })
    }
}

/// Layers that are not all attention: a list of layer types with anything else in it, or a state's size.
fn has_other_memory(value: &serde_json::Value) -> bool {
    match value.as_array() {
        Some(types) => types.iter().any(|t| t.as_str().is_some_and(|t| !t.ends_with("attention"))),
        None => !value.is_null(),
    }
}
