//! What a model's metadata says, whichever kind of file it stands in: the words that architectures describe
//! themselves with.

mod rope;

use porism_formats::hf::JsonFile;
use porism_formats::{Gguf, Weight};
use porism_kernels::activation::Activation;

use crate::config::{LayerSpec, ModelConfig, MoeSpec};
use crate::moe::Routing;
use crate::names::NameTable;
use crate::parts::NormKind;
use crate::source::ModelSource;
use crate::{Error, Result};

/// The metadata of an opened model.
pub struct Facts<'a> {
    source: &'a ModelSource,
    names: &'static NameTable,
    json: Option<JsonFile>,
}

impl<'a> Facts<'a> {
    pub(crate) fn new(source: &'a ModelSource, names: &'static NameTable) -> Result<Facts<'a>> {
        let json = match source {
            ModelSource::Gguf(_) => None,
            ModelSource::Hf(folder) => Some(folder.config()?),
        };
        Ok(Facts { source, names, json })
    }

    /// Whether the file is GGUF.
    pub fn is_gguf(&self) -> bool {
        self.json.is_none()
    }

    fn gguf(&self) -> Option<&'a Gguf> {
        match self.source {
            ModelSource::Gguf(gguf) => Some(gguf),
            ModelSource::Hf(_) => None,
        }
    }

    /// An error about the metadata.
    pub fn problem(&self, what: impl Into<String>) -> Error {
        let file = self.json.as_ref().map_or_else(|| self.source.name(), |json| json.name().to_string());
        Error::Config { file, what: what.into() }
    }

    /// What this file calls a key, and the key as it is looked up.
    fn key(&self, gguf: &str, hf: &str) -> String {
        match &self.json {
            None => format!("{}.{gguf}", self.names.gguf_architecture),
            Some(_) => self.names.hf_keys.iter().find(|(usual, _)| *usual == hf).map_or(hf, |(_, own)| own).to_string(),
        }
    }

    /// A count or size, by its key in GGUF (without the architecture) and in `config.json`; an empty key is one
    /// that this kind of file has not. A list with a number for each layer counts if all are equal.
    pub fn usize(&self, gguf: &str, hf: &str) -> Result<Option<usize>> {
        let key = self.key(gguf, hf);
        match (self.gguf(), &self.json) {
            (Some(file), _) if !gguf.is_empty() => {
                match file.find_array(&key) {
                    Ok(Some(_)) => {
                        let numbers: Vec<usize> = file.integers(&key)?;
                        match numbers.first() {
                            Some(first) if numbers.iter().all(|n| n == first) => Ok(Some(*first)),
                            _ => Err(self
                                .problem(format!("{key} differs from layer to layer, which this build does not do"))),
                        }
                    }
                    _ => Ok(file.find_usize(&key)?),
                }
            }
            (_, Some(json)) if !hf.is_empty() => Ok(json.find_usize(&key)?),
            _ => Ok(None),
        }
    }

    /// [`Facts::usize`] that has to be there.
    pub fn need(&self, gguf: &str, hf: &str) -> Result<usize> {
        self.usize(gguf, hf)?.ok_or_else(|| self.problem(format!("{} is missing", self.key(gguf, hf))))
    }

    /// A number.
    pub fn f32(&self, gguf: &str, hf: &str) -> Result<Option<f32>> {
        let key = self.key(gguf, hf);
        match (self.gguf(), &self.json) {
            (Some(file), _) if !gguf.is_empty() => Ok(file.find_f32(&key)?),
            (_, Some(json)) if !hf.is_empty() => Ok(json.find_f64(&key)?.map(|v| v as f32)),
            _ => Ok(None),
        }
    }

    /// A switch.
    pub fn bool(&self, gguf: &str, hf: &str) -> Result<Option<bool>> {
        let key = self.key(gguf, hf);
        match (self.gguf(), &self.json) {
            (Some(file), _) if !gguf.is_empty() => Ok(file.find_bool(&key)?),
            (_, Some(json)) if !hf.is_empty() => Ok(json.find_bool(&key)?),
            _ => Ok(None),
        }
    }

    /// A list of words of `config.json`, one a layer (`layer_types`).
    pub fn words(&self, hf: &str) -> Result<Option<Vec<String>>> {
        let Some(value) = self.json.as_ref().and_then(|json| json.get(hf)) else { return Ok(None) };
        let words = value.as_array().map(|list| list.iter().map(|v| v.as_str().map(str::to_string)).collect());
        words.flatten().map(Some).ok_or_else(|| self.problem(format!("{hf} is no list of words")))
    }

    /// A list of numbers of `config.json`.
    pub fn numbers(&self, hf: &str) -> Result<Option<Vec<f64>>> {
        self.json.as_ref().map_or(Ok(None), |json| numbers(json, hf).map_err(|what| self.problem(what)))
    }

    /// A vector that a GGUF file keeps as a tensor.
    fn tensor(&self, name: &str) -> Result<Option<Vec<f32>>> {
        let Some(gguf) = self.gguf() else { return Ok(None) };
        Ok(gguf.tensor(name).map(|_| gguf.weight(name)).transpose()?.map(|w: Weight| w.to_f32()))
    }

    /// A setting that this build runs only at its usual value.
    pub fn refuse(&self, hf: &str, why: &str) -> Result<()> {
        match self.bool("", hf)? {
            Some(true) => Err(self.problem(format!("{hf} is true: {why}"))),
            _ => Ok(()),
        }
    }

    /// The numbers under the names that nearly all architectures use, and what most of them leave at its default:
    /// a decoder with RMSNorm before the branches, a gated network, one rotary embedding, no windows. An
    /// architecture changes what it does otherwise.
    pub fn base(&self) -> Result<ModelConfig> {
        let ffn = self.need("feed_forward_length", "intermediate_size")?;
        self.base_of(ffn)
    }

    /// [`Facts::base`] with a width of the feed-forward network that was found otherwise.
    pub fn base_of(&self, ffn: usize) -> Result<ModelConfig> {
        let layers = self.need("block_count", "num_hidden_layers")?;
        let heads = self.need("attention.head_count", "num_attention_heads")?;
        let width = self.need("embedding_length", "hidden_size")?;
        if heads == 0 {
            return Err(self.problem(format!("{} is 0", self.key("attention.head_count", "num_attention_heads"))));
        }
        if layers == 0 || layers > MOST_LAYERS {
            return Err(self.problem(format!("{layers} blocks; expected 1 to {MOST_LAYERS}")));
        }
        let own_head = self.usize("attention.key_length", "head_dim")?;
        if own_head.is_none() && !width.is_multiple_of(heads) {
            return Err(self.problem(format!("{heads} attention heads do not divide a width of {width}")));
        }
        let head_dim = own_head.unwrap_or(width / heads);
        let value_dim = self.usize("attention.value_length", "")?.unwrap_or(head_dim);
        if value_dim != head_dim {
            return Err(self.problem(format!("values of {value_dim} features where keys have {head_dim}")));
        }
        let (norm, norm_eps) = self.norm()?;
        Ok(ModelConfig {
            architecture: self.names.gguf_architecture.to_string(),
            layers,
            width,
            heads,
            kv_heads: self.usize("attention.head_count_kv", "num_key_value_heads")?.unwrap_or(heads),
            head_dim,
            ffn,
            vocab: self.vocab()?,
            context: self.need("context_length", "max_position_embeddings")?,
            norm,
            norm_eps,
            activation: self.activation(Activation::Silu)?,
            ropes: vec![self.rope(head_dim)?],
            layer_specs: vec![LayerSpec { window: None, rope: Some(0), moe: false }; layers],
            attention_scale: 1.0 / (head_dim as f32).sqrt(),
            tied_embeddings: self.tied(false)?,
            ..ModelConfig::default()
        })
    }

    /// Whether the head is the embedding table; `usual` is what transformers takes where the file is silent.
    pub fn tied(&self, usual: bool) -> Result<bool> {
        match self.gguf() {
            Some(gguf) => Ok(gguf.tensor("output.weight").is_none()),
            None => Ok(self.bool("", "tie_word_embeddings")?.unwrap_or(usual)),
        }
    }

    fn vocab(&self) -> Result<usize> {
        match self.gguf() {
            None => self.need("", "vocab_size"),
            Some(gguf) => gguf.tensor("token_embd.weight").map(|t| t.rows()).ok_or_else(|| Error::MissingTensor {
                file: gguf.name().to_string(),
                tensor: "token_embd.weight".into(),
                architecture: self.names.gguf_architecture.into(),
            }),
        }
    }

    /// The norms' kind follows from the key that their epsilon stands under.
    fn norm(&self) -> Result<(NormKind, f32)> {
        if let Some(eps) = self.f32("attention.layer_norm_rms_epsilon", "rms_norm_eps")? {
            return Ok((NormKind::Rms, eps));
        }
        for hf in ["layer_norm_eps", "layer_norm_epsilon", "norm_epsilon"] {
            if let Some(eps) = self.f32("attention.layer_norm_epsilon", hf)? {
                return Ok((NormKind::Layer, eps));
            }
        }
        match self.is_gguf() {
            true => Err(self.problem("no epsilon of its norms is given")),
            // transformers writes the value always; this is its default where it does not.
            false => Ok((NormKind::Rms, 1e-6)),
        }
    }

    /// The feed-forward network's non-linearity; GGUF files do not say it.
    pub fn activation(&self, usual: Activation) -> Result<Activation> {
        let Some(json) = &self.json else { return Ok(usual) };
        for key in ["hidden_activation", "hidden_act", "activation_function"] {
            let Some(name) = json.find_str(key)? else { continue };
            return match name {
                "silu" | "swish" | "swiglu" => Ok(Activation::Silu),
                "gelu_pytorch_tanh" | "gelu_new" | "gelu_fast" => Ok(Activation::GeluTanh),
                "gelu" => Ok(Activation::GeluErf),
                other => Err(self.problem(format!(
                    "{key} is \"{other}\"; this build knows silu, gelu, gelu_new and gelu_pytorch_tanh"
                ))),
            };
        }
        Ok(usual)
    }

    /// The window of sliding layers: `None` where there is none.
    pub fn window(&self) -> Result<Option<usize>> {
        let window = self.usize("attention.sliding_window", "sliding_window")?;
        if window == Some(0) && !self.is_gguf() && self.bool("", "use_sliding_window")? != Some(false) {
            return Err(self.problem("sliding_window is 0: a row would see nothing, not even itself"));
        }
        Ok(window.filter(|&w| w > 0))
    }

    /// Gives the sliding layers their window: those that `layer_types` names, or else those that `usual` picks.
    pub fn windows(&self, config: &mut ModelConfig, usual: impl Fn(usize) -> bool) -> Result<()> {
        let window = self.window()?;
        let types = self.words("layer_types")?;
        if let Some(types) = types.as_ref().filter(|t| t.len() != config.layers) {
            return Err(self.problem(format!("layer_types names {} layers of {}", types.len(), config.layers)));
        }
        for (i, layer) in config.layer_specs.iter_mut().enumerate() {
            let sliding = match types.as_ref().map(|t| t[i].as_str()) {
                Some("sliding_attention") => true,
                Some("full_attention") => false,
                Some(other) => return Err(self.problem(format!("layer {i} is of type \"{other}\", which is unknown"))),
                None => usual(i),
            };
            layer.window = window.filter(|_| sliding);
        }
        Ok(())
    }

    /// The mixture's numbers: `ffn` is an expert's width.
    pub fn moe(&self, ffn: usize, normalize: bool) -> Result<MoeSpec> {
        let mut experts = self.usize("expert_count", "num_local_experts")?;
        if experts.is_none() {
            experts = self.usize("expert_count", "num_experts")?;
        }
        let experts = experts.ok_or_else(|| self.problem("the number of experts is missing"))?;
        let used = self.need("expert_used_count", "num_experts_per_tok")?;
        if experts == 0 || used == 0 || used > experts || experts > 1 << 16 {
            return Err(self.problem(format!("{used} of {experts} experts for each token make no mixture")));
        }
        let normalize = self.bool("", "norm_topk_prob")?.unwrap_or(normalize);
        Ok(MoeSpec { routing: Routing { experts, used, normalize }, ffn, shared_ffn: None })
    }

    /// An object of `config.json`.
    pub fn object(&self, hf: &str) -> Result<Option<JsonFile>> {
        Ok(self.json.as_ref().map(|json| json.find_object(hf)).transpose()?.flatten())
    }

    /// `config.json` itself.
    pub fn json(&self) -> Option<&JsonFile> {
        self.json.as_ref()
    }
}

/// Sizes beyond this are mistakes or attacks.
pub(crate) const MOST_LAYERS: usize = 4096;

fn numbers(json: &JsonFile, key: &str) -> std::result::Result<Option<Vec<f64>>, String> {
    let Some(value) = json.get(key) else { return Ok(None) };
    let list = value.as_array().and_then(|list| list.iter().map(serde_json::Value::as_f64).collect());
    list.map(Some).ok_or_else(|| format!("{key} is no list of numbers"))
}
