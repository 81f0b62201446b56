//! The `config.json` of a model that comes from a GGUF file.
//!
//! transformers 4 reads RoPE's base and the type of the weights under `rope_theta` and `torch_dtype`,
//! transformers 5 under `rope_parameters` and `dtype`: both are written. What GGUF files leave to their reader is
//! written down.

use porism_formats::Gguf;
use porism_kernels::BlockType;
use porism_kernels::activation::Activation;
use serde_json::{Map, Value, json};

use super::across::{published_llama3, scaled_by};
use super::plan::Plan;
use crate::config::ModelConfig;
use crate::parts::NormKind;
use crate::rope::{RopeScaling, RopeSpec, Yarn};
use crate::site::{BlockSite, Site};
use crate::source::ModelSource;
use crate::{Error, Result};

/// The model's numbers in transformers' words; the tokens' ids are not among them.
pub(super) fn model_config(
    gguf: &Gguf,
    source: &ModelSource,
    config: &ModelConfig,
    plan: &Plan,
) -> Result<Map<String, Value>> {
    let names = source.names()?;
    let dtype = dtype(plan.main_type());
    let mut map = object(json!({
        "architectures": [names.hf_class],
        "dtype": dtype,
        "hidden_size": config.width,
        "initializer_range": 0.02,
        "intermediate_size": config.ffn,
        "max_position_embeddings": config.context,
        "model_type": names.hf_model_type,
        "num_attention_heads": config.heads,
        "num_hidden_layers": config.layers,
        "tie_word_embeddings": config.tied_embeddings,
        "torch_dtype": dtype,
        "use_cache": true,
        "vocab_size": config.vocab,
    }));
    let activation = match config.activation {
        Activation::GeluTanh => "gelu_pytorch_tanh",
        Activation::GeluErf => "gelu",
        // Others were refused.
        _ => "silu",
    };
    let gemma = config.architecture.starts_with("gemma");
    map.insert(if gemma { "hidden_activation" } else { "hidden_act" }.into(), json!(activation));
    let eps = match (config.norm, config.architecture.as_str()) {
        (NormKind::Rms, _) => "rms_norm_eps",
        (NormKind::Layer, "starcoder2") => "norm_epsilon",
        (NormKind::Layer, _) => "layer_norm_eps",
    };
    map.insert(eps.into(), decimal(config.norm_eps));
    if config.architecture != "bert" {
        map.insert("attention_dropout".into(), json!(0.0));
        map.insert("num_key_value_heads".into(), json!(config.kv_heads));
        rope(config, &mut map);
    }
    map.append(&mut own(gguf, config, &Biases { source, plan, config })?);
    Ok(map)
}

fn object(value: Value) -> Map<String, Value> {
    match value {
        Value::Object(map) => map,
        _ => Map::new(),
    }
}

/// What only this architecture has.
fn own(gguf: &Gguf, config: &ModelConfig, biases: &Biases<'_>) -> Result<Map<String, Value>> {
    use BlockSite::{AttentionOutput, Down, Gate, GateUp, Key, Query, QueryKeyValue, Up, Value as ValueSite};
    let projections = [Query, Key, ValueSite, AttentionOutput];
    let (inputs, network) = ([Query, Key, ValueSite], [Gate, Up, Down]);
    let layer_types: Vec<&str> = config
        .layer_specs
        .iter()
        .map(|l| if l.window.is_some() { "sliding_attention" } else { "full_attention" })
        .collect();
    let window = config.layer_specs.iter().find_map(|l| l.window);
    biases.of_norms()?;
    let architecture = config.architecture.as_str();
    Ok(object(match architecture {
        "qwen2" => {
            // It always has biases on query, key and value, and no switch for them.
            biases.need(&inputs, "query, key and value", true)?;
            biases.need(&[AttentionOutput, Gate, Up, Down], "other", false)?;
            json!({ "attention_bias": false, "head_dim": config.head_dim, "mlp_bias": false, "pretraining_tp": 1 })
        }
        "qwen3" => {
            biases.need(&network, "feed-forward", false)?;
            json!({ "attention_bias": biases.of(&projections, "attention")?, "head_dim": config.head_dim })
        }
        "smollm3" => json!({
            "attention_bias": biases.of(&projections, "attention")?,
            "layer_types": layer_types,
            "mlp_bias": biases.of(&network, "feed-forward")?,
            "no_rope_layer_interval": 4,
            "no_rope_layers": config.layer_specs.iter().map(|l| u8::from(l.rope.is_some())).collect::<Vec<_>>(),
            "sliding_window": null,
            "use_sliding_window": false,
        }),
        "gemma2" | "gemma3" => {
            biases.need(&network, "feed-forward", false)?;
            let mut map = object(json!({
                "attention_bias": biases.of(&projections, "attention")?,
                "attn_logit_softcapping": config.attention_softcap.map(decimal),
                "final_logit_softcapping": config.final_softcap.map(decimal),
                "head_dim": config.head_dim,
                "layer_types": layer_types,
                "query_pre_attn_scalar": scaled_by(config),
                "sliding_window": window,
            }));
            if architecture == "gemma3" {
                map.insert("sliding_window_pattern".into(), json!(6));
            }
            Value::Object(map)
        }
        "phi3" => {
            biases.need(&[QueryKeyValue, AttentionOutput, GateUp, Down], "", false)?;
            let key = "phi3.rope.scaling.original_context_length";
            let original = gguf.find_usize(key)?.unwrap_or(config.context);
            json!({
                "embd_pdrop": 0.0,
                "original_max_position_embeddings": original,
                "resid_pdrop": 0.0,
                "sliding_window": window,
            })
        }
        "starcoder2" => {
            let all = [Query, Key, ValueSite, AttentionOutput, Up, Down];
            json!({
                "embedding_dropout": 0.0,
                "residual_dropout": 0.0,
                "sliding_window": window,
                "use_bias": biases.of(&all, "")?,
            })
        }
        "stablelm" => {
            biases.need(&[AttentionOutput, Gate, Up, Down], "other", false)?;
            json!({
                "hidden_dropout": 0.0,
                "qk_layernorm": false,
                "use_parallel_residual": false,
                "use_qkv_bias": biases.of(&inputs, "query, key and value")?,
            })
        }
        "bert" => {
            biases.need(&[Query, Key, ValueSite, AttentionOutput, Up, Down], "", true)?;
            pooling(gguf)?;
            let types = biases.plan.items.iter().find(|item| item.site == Some(Site::TokenTypeEmbedding));
            let types = types.ok_or_else(|| biases.problem("it has no table of token types, as transformers has"))?;
            json!({
                "attention_probs_dropout_prob": 0.1,
                "hidden_dropout_prob": 0.1,
                "is_decoder": false,
                "position_embedding_type": "absolute",
                "type_vocab_size": types.weight.rows(),
            })
        }
        _ => json!({
            "attention_bias": biases.of(&projections, "attention")?,
            "head_dim": config.head_dim,
            "mlp_bias": biases.of(&network, "feed-forward")?,
            "pretraining_tp": 1,
        }),
    }))
}

/// A folder without modules pools by the mean; others are not written.
fn pooling(gguf: &Gguf) -> Result<()> {
    match gguf.find_u32("bert.pooling_type")? {
        None | Some(0 | 1) => Ok(()),
        Some(other) => Err(Error::Convert(format!(
            "{}: it pools otherwise than by the mean (type {other}), and the modules that say so in a Hugging Face \
             folder are not written by this build",
            gguf.name()
        ))),
    }
}

/// The rotary embedding, in the words of both versions of transformers.
fn rope(config: &ModelConfig, map: &mut Map<String, Value>) {
    let Some(main) = config.rope() else { return };
    let parameters = parameters(config, main);
    map.insert("rope_theta".into(), decimal(main.theta));
    if let Some(part) = parameters.get("partial_rotary_factor") {
        map.insert("partial_rotary_factor".into(), part.clone());
    }
    if main.scaling != RopeScaling::None {
        let mut older = parameters.clone();
        // Phi-3's first configuration class counts the keys.
        for key in ["rope_theta", "partial_rotary_factor"] {
            older.remove(key);
        }
        if matches!(main.scaling, RopeScaling::LongRope { .. }) {
            older.remove("original_max_position_embeddings");
            older.remove("rope_type");
            older.insert("type".into(), json!("longrope"));
        }
        map.insert("rope_scaling".into(), Value::Object(older));
    }
    match config.ropes.get(1) {
        None => map.insert("rope_parameters".into(), Value::Object(parameters)),
        Some(local) => {
            map.insert("rope_local_base_freq".into(), decimal(local.theta));
            let kinds = json!({ "full_attention": parameters, "sliding_attention": self::parameters(config, local) });
            map.insert("rope_parameters".into(), kinds)
        }
    };
}

/// The object that transformers 5 reads.
fn parameters(config: &ModelConfig, rope: &RopeSpec) -> Map<String, Value> {
    let published = published_llama3(rope);
    let mut map = object(match published.as_ref().unwrap_or(&rope.scaling) {
        RopeScaling::Linear { factor } => json!({ "rope_type": "linear", "factor": decimal(*factor) }),
        RopeScaling::Yarn(yarn) => {
            let mut map = object(json!({
                "rope_type": "yarn",
                "beta_fast": decimal(yarn.beta_fast),
                "beta_slow": decimal(yarn.beta_slow),
                "factor": decimal(yarn.factor),
                "original_max_position_embeddings": yarn.original,
            }));
            if yarn.attention_factor != Yarn::temperature(yarn.factor, 1.0) {
                map.insert("attention_factor".into(), decimal(yarn.attention_factor));
            }
            Value::Object(map)
        }
        RopeScaling::Llama3 { factor, low, high, original } => json!({
            "rope_type": "llama3",
            "factor": decimal(*factor),
            "high_freq_factor": decimal(*high),
            "low_freq_factor": decimal(*low),
            "original_max_position_embeddings": original,
        }),
        RopeScaling::LongRope { short, long, original, attention_factor } => {
            let list = |factors: &[f32]| factors.iter().copied().map(decimal).collect::<Vec<_>>();
            let mut map = object(json!({
                "rope_type": "longrope",
                "long_factor": list(long),
                "original_max_position_embeddings": original,
                "short_factor": list(short),
            }));
            let stretch = config.context as f64 / *original as f64;
            let usual = if stretch > 1.0 { (1.0 + stretch.ln() / (*original as f64).ln()).sqrt() } else { 1.0 };
            if (f64::from(*attention_factor) - usual).abs() > 1e-6 {
                map.insert("attention_factor".into(), decimal(*attention_factor));
            }
            Value::Object(map)
        }
        _ => json!({ "rope_type": "default" }),
    });
    map.insert("rope_theta".into(), decimal(rope.theta));
    if ["stablelm", "phi3"].contains(&config.architecture.as_str()) {
        let (head, turned) = (config.head_dim as f64, rope.rotary_dim);
        let part = turned as f64 / head;
        // Readers cut the product to a whole number.
        let part = if (head * part) as usize == turned { part } else { part.next_up() };
        map.insert("partial_rotary_factor".into(), json!(part));
    }
    map
}

/// transformers' name of a type.
pub(super) fn dtype(block: BlockType) -> &'static str {
    match block {
        BlockType::F16 => "float16",
        BlockType::BF16 => "bfloat16",
        _ => "float32",
    }
}

/// The number that an f32 was written as before it was rounded (1e-5 and not 9.99999974e-6).
fn decimal(value: f32) -> Value {
    let shortest: f64 = value.to_string().parse().unwrap_or(f64::from(value));
    json!(shortest)
}

/// Which weights have biases: transformers has switches for groups of them.
struct Biases<'a> {
    source: &'a ModelSource,
    plan: &'a Plan,
    config: &'a ModelConfig,
}

impl Biases<'_> {
    fn problem(&self, what: &str) -> Error {
        Error::Convert(format!("{}: {what}", self.source.name()))
    }

    /// Whether these projections have biases: all or none.
    fn of(&self, sites: &[BlockSite], what: &str) -> Result<bool> {
        let items = self.plan.items.iter().filter(|item| item.bias);
        let found =
            items.filter(|item| matches!(item.site, Some(Site::Block(_, site)) if sites.contains(&site))).count();
        let all = sites.len() * self.config.layers;
        match found {
            0 => Ok(false),
            some if some == all => Ok(true),
            some => Err(self.problem(&format!(
                "{some} of the {all} {what}{}projections have a bias: transformers knows all or none",
                if what.is_empty() { "" } else { " " }
            ))),
        }
    }

    /// Refuses what transformers has no switch for.
    fn need(&self, sites: &[BlockSite], what: &str, wanted: bool) -> Result<()> {
        if self.of(sites, what)? == wanted {
            return Ok(());
        }
        let (has, knows) = if wanted { ("no", "with") } else { ("a", "without") };
        let (gap, name) = (if what.is_empty() { "" } else { " " }, &self.config.architecture);
        Err(self
            .problem(&format!("its {what}{gap}projections have {has} bias: transformers knows {name} {knows} only")))
    }

    /// transformers' norms that subtract the mean add a bias.
    fn of_norms(&self) -> Result<()> {
        let norms = |bias: bool| {
            let items = self.plan.items.iter().filter(move |item| item.bias == bias);
            items.filter(|item| item.site.is_some_and(|site| site.is_norm())).count()
        };
        if self.config.norm == NormKind::Layer && norms(true) != norms(false) {
            return Err(self.problem("some of its norms have no bias, as all of transformers have"));
        }
        Ok(())
    }
}
