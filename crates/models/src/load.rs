//! From an opened file to a [`Decoder`]: the numbers, then the weights, each checked against the other.

use std::sync::Arc;

use porism_formats::{Gguf, HfFolder, Weight};
use porism_kernels::activation::Activation;
use porism_kernels::attention::Mask;
use porism_kernels::rope::{RopeLayout, inverse_frequencies};

use crate::decoder::{Block, Decoder, DecoderConfig};
use crate::linear::{Delta, DeltaKind, Linear};
use crate::names::NameTable;
use crate::site::{BlockSite, Site};
use crate::source::ModelSource;
use crate::steps::{Attention, AttentionSpec, Embedding, Ffn, Head, Norm, Rope};
use crate::{Error, Result};

/// Loads the decoder of an opened model. Weights stay where the file has them.
pub fn load_decoder(source: &ModelSource) -> Result<Decoder> {
    let names = source.names()?;
    let config = match source {
        ModelSource::Gguf(gguf) => config_from_gguf(gguf, names)?,
        ModelSource::Hf(folder) => config_from_hf(folder)?,
    };
    check_config(source, &config)?;
    refuse_strange_tensors(source, names, &config)?;
    Loader { source, names, config: &config }.decoder()
}

fn config_error(source: &ModelSource, what: impl Into<String>) -> Error {
    Error::Config { file: source.name(), what: what.into() }
}

fn config_from_gguf(gguf: &Gguf, names: &NameTable) -> Result<DecoderConfig> {
    let arch = names.gguf_architecture;
    let key = |name: &str| format!("{arch}.{name}");
    let problem = |what: String| Error::Config { file: gguf.name().to_string(), what };
    let heads = gguf.get_usize(&key("attention.head_count"))?;
    let width = gguf.get_usize(&key("embedding_length"))?;
    if heads == 0 {
        return Err(problem(format!("{} is 0", key("attention.head_count"))));
    }
    let head_dim = gguf.find_usize(&key("attention.key_length"))?.unwrap_or(width / heads);
    if let Some(experts) = gguf.find_usize(&key("expert_count"))?.filter(|&n| n > 0) {
        return Err(problem(format!("a mixture of {experts} experts: this build runs dense llama models only")));
    }
    let scaling = gguf.find_str(&key("rope.scaling.type"))?.unwrap_or("none");
    if scaling != "none" || gguf.tensor("rope_freqs.weight").is_some() {
        return Err(problem("it scales its rotary embedding, which this build does not do".into()));
    }
    let table = gguf.tensor("token_embd.weight").ok_or_else(|| Error::MissingTensor {
        file: gguf.name().to_string(),
        tensor: "token_embd.weight".into(),
        architecture: arch.into(),
    })?;
    Ok(DecoderConfig {
        architecture: arch.to_string(),
        layers: gguf.get_usize(&key("block_count"))?,
        width,
        heads,
        kv_heads: gguf.find_usize(&key("attention.head_count_kv"))?.unwrap_or(heads),
        head_dim,
        ffn: gguf.get_usize(&key("feed_forward_length"))?,
        vocab: table.rows(),
        context: gguf.get_usize(&key("context_length"))?,
        norm_eps: gguf.get_f32(&key("attention.layer_norm_rms_epsilon"))?,
        rope_theta: gguf.find_f32(&key("rope.freq_base"))?.unwrap_or(10_000.0),
        rotary_dim: gguf.find_usize(&key("rope.dimension_count"))?.unwrap_or(head_dim),
        tied_embeddings: gguf.tensor("output.weight").is_none(),
    })
}

fn config_from_hf(folder: &HfFolder) -> Result<DecoderConfig> {
    let config = folder.config()?;
    let problem = |what: String| Error::Config { file: config.name().to_string(), what };
    let heads = config.get_usize("num_attention_heads")?;
    let width = config.get_usize("hidden_size")?;
    if heads == 0 {
        return Err(problem("num_attention_heads is 0".into()));
    }
    let head_dim = config.find_usize("head_dim")?.unwrap_or(width / heads);
    if let Some(act) = config.find_str("hidden_act")?.filter(|a| *a != "silu") {
        return Err(problem(format!("hidden_act is \"{act}\"; this build knows silu")));
    }
    // transformers 5 keeps RoPE's numbers in `rope_parameters`, earlier ones beside the others.
    let mut theta = config.find_f64("rope_theta")?;
    for key in ["rope_parameters", "rope_scaling"] {
        let Some(rope) = config.find_object(key)? else { continue };
        let kind = rope.find_str("rope_type")?.or(rope.find_str("type")?).unwrap_or("default").to_string();
        if kind != "default" {
            return Err(problem(format!("{key} is of type \"{kind}\", which this build does not do")));
        }
        theta = rope.find_f64("rope_theta")?.or(theta);
    }
    Ok(DecoderConfig {
        architecture: config.get_str("model_type")?.to_string(),
        layers: config.get_usize("num_hidden_layers")?,
        width,
        heads,
        kv_heads: config.find_usize("num_key_value_heads")?.unwrap_or(heads),
        head_dim,
        ffn: config.get_usize("intermediate_size")?,
        vocab: config.get_usize("vocab_size")?,
        context: config.get_usize("max_position_embeddings")?,
        norm_eps: config.find_f64("rms_norm_eps")?.unwrap_or(1e-6) as f32,
        rope_theta: theta.unwrap_or(10_000.0) as f32,
        rotary_dim: head_dim,
        tied_embeddings: config.find_bool("tie_word_embeddings")?.unwrap_or(false),
    })
}

/// Sizes beyond these are mistakes or attacks; products of any three of them fit 64 bits.
const MOST_LAYERS: usize = 4096;
const MOST_FEATURES: usize = 1 << 20;

fn check_config(source: &ModelSource, c: &DecoderConfig) -> Result<()> {
    let checks = [
        (c.layers, MOST_LAYERS, "blocks"),
        (c.width, MOST_FEATURES, "features in the residual stream"),
        (c.heads, MOST_FEATURES, "attention heads"),
        (c.kv_heads, MOST_FEATURES, "key and value heads"),
        (c.head_dim, MOST_FEATURES, "features a head"),
        (c.ffn, MOST_FEATURES, "features in the feed-forward network"),
        (c.vocab, 1 << 24, "tokens in the vocabulary"),
        (c.context, 1 << 30, "positions of context"),
    ];
    for (value, most, what) in checks {
        if value == 0 || value > most {
            return Err(config_error(source, format!("{value} {what}; expected 1 to {most}")));
        }
    }
    if !c.heads.is_multiple_of(c.kv_heads) {
        return Err(config_error(
            source,
            format!("{} attention heads do not share {} key heads evenly", c.heads, c.kv_heads),
        ));
    }
    if c.rotary_dim > c.head_dim || !c.rotary_dim.is_multiple_of(2) {
        return Err(config_error(source, format!("RoPE over {} of {} features of a head", c.rotary_dim, c.head_dim)));
    }
    if !(c.norm_eps.is_finite() && c.norm_eps >= 0.0 && c.rope_theta.is_finite() && c.rope_theta > 0.0) {
        return Err(config_error(
            source,
            format!("norm epsilon {} and RoPE base {} make no sense", c.norm_eps, c.rope_theta),
        ));
    }
    Ok(())
}

/// A tensor that the description does not use means that the description is not of this model.
fn refuse_strange_tensors(source: &ModelSource, names: &NameTable, config: &DecoderConfig) -> Result<()> {
    for tensor in source.tensor_names() {
        let known = match source.site_of(names, tensor) {
            Some((Site::Block(i, _), _)) => (i as usize) < config.layers,
            Some(_) => true,
            // Old exports keep RoPE's frequencies, which follow from the base.
            None => tensor.ends_with("rotary_emb.inv_freq"),
        };
        if !known {
            return Err(config_error(
                source,
                format!("tensor \"{tensor}\" has no place in a {} of {} blocks", config.architecture, config.layers),
            ));
        }
    }
    Ok(())
}

struct Loader<'a> {
    source: &'a ModelSource,
    names: &'static NameTable,
    config: &'a DecoderConfig,
}

impl Loader<'_> {
    fn decoder(&self) -> Result<Decoder> {
        let c = self.config;
        let layout = match self.source {
            ModelSource::Gguf(_) => RopeLayout::Adjacent,
            ModelSource::Hf(_) => RopeLayout::Halves,
        };
        let rope = Rope { layout, inverse_frequencies: Arc::from(inverse_frequencies(c.rope_theta, c.rotary_dim)) };
        let embedding =
            Embedding { site: Site::TokenEmbedding, weight: self.weight(Site::TokenEmbedding, c.vocab, c.width)? };
        let blocks = (0..c.layers as u32).map(|i| self.block(i, &rope)).collect::<Result<_>>()?;
        // A tied head reads the table; a file may still carry a copy, which must then be used.
        let head_name = self.source.tensor_name(self.names, Site::Head, "weight");
        let head = match self.source.find_weight(&head_name)? {
            Some(_) if !c.tied_embeddings => self.weight(Site::Head, c.vocab, c.width)?,
            None if !c.tied_embeddings => return Err(self.missing(head_name)),
            _ => embedding.weight.clone(),
        };
        let head = Head { norm: self.norm(Site::OutputNorm)?, linear: Linear::new(Site::Head, head) };
        Ok(Decoder { config: c.clone(), embedding, blocks, head })
    }

    fn block(&self, i: u32, rope: &Rope) -> Result<Block> {
        let c = self.config;
        let site = |s| Site::Block(i, s);
        let (q, kv) = (c.heads * c.head_dim, c.kv_heads * c.head_dim);
        Ok(Block {
            attention: Attention {
                norm: self.norm(site(BlockSite::AttentionNorm))?,
                query: self.linear(site(BlockSite::Query), q, c.width)?,
                key: self.linear(site(BlockSite::Key), kv, c.width)?,
                value: self.linear(site(BlockSite::Value), kv, c.width)?,
                output: self.linear(site(BlockSite::AttentionOutput), c.width, q)?,
                rope: rope.clone(),
                spec: AttentionSpec {
                    heads: c.heads,
                    kv_heads: c.kv_heads,
                    head_dim: c.head_dim,
                    scale: 1.0 / (c.head_dim as f32).sqrt(),
                    softcap: None,
                    mask: Mask::Causal,
                },
            },
            ffn: Ffn {
                norm: self.norm(site(BlockSite::FfnNorm))?,
                gate: self.linear(site(BlockSite::Gate), c.ffn, c.width)?,
                up: self.linear(site(BlockSite::Up), c.ffn, c.width)?,
                down: self.linear(site(BlockSite::Down), c.width, c.ffn)?,
                activation: Activation::Silu,
            },
        })
    }

    fn linear(&self, site: Site, rows: usize, cols: usize) -> Result<Linear> {
        let mut linear = Linear::new(site, self.weight(site, rows, cols)?);
        if let Some(bias) = self.find(site, "bias", 1, rows)? {
            linear.deltas.push(Delta { adapter: None, kind: DeltaKind::Bias(bias) });
        }
        Ok(linear)
    }

    fn norm(&self, site: Site) -> Result<Norm> {
        Ok(Norm { site, weight: self.weight(site, 1, self.config.width)?, eps: self.config.norm_eps })
    }

    fn weight(&self, site: Site, rows: usize, cols: usize) -> Result<Weight> {
        self.find(site, "weight", rows, cols)?
            .ok_or_else(|| self.missing(self.source.tensor_name(self.names, site, "weight")))
    }

    fn find(&self, site: Site, suffix: &str, rows: usize, cols: usize) -> Result<Option<Weight>> {
        let tensor = self.source.tensor_name(self.names, site, suffix);
        let Some(weight) = self.source.find_weight(&tensor)? else { return Ok(None) };
        if (weight.rows(), weight.cols()) != (rows, cols) {
            return Err(Error::Shape {
                file: self.source.name(),
                tensor,
                found_rows: weight.rows(),
                found_cols: weight.cols(),
                rows,
                cols,
            });
        }
        Ok(Some(weight))
    }

    fn missing(&self, tensor: String) -> Error {
        Error::MissingTensor { file: self.source.name(), tensor, architecture: self.config.architecture.clone() }
    }
}
