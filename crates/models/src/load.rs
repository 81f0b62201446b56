//! From an opened file to a model: the numbers, then the weights, each checked against the other.

use std::sync::Arc;

use porism_formats::Weight;
use porism_kernels::attention::RelativeBias;
use porism_kernels::rope::RopeLayout;

use crate::config::{ModelConfig, QueryKeyNorm, ResidualKind};
use crate::decoder::Decoder;
use crate::encoder::{Encoder, Pooling};
use crate::facts::Facts;
use crate::linear::{Delta, DeltaKind, Linear};
use crate::moe::{Moe, Shared};
use crate::names::{NameTable, Purpose, Transform};
use crate::parts::{
    Attention, AttentionSpec, Embedding, Ffn, FfnKind, Gated, Head, Norm, NormKind, Plain, Residual, Rope,
};
use crate::rope::{RopeScaling, Yarn};
use crate::site::{BlockSite, Site};
use crate::source::ModelSource;
use crate::stack::{Block, Embeddings, Stack};
use crate::{Error, Result};

mod check;
mod sentence;

/// What may be asked for beyond what a file says.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct LoadOptions {
    /// The longest text that will be run: longrope and dynamic NTK choose their frequencies by it. `None`: the
    /// context that the model was trained with.
    pub context: Option<usize>,
    /// Another stretch of the rotary embedding than the file's.
    pub rope: Option<RopeScaling>,
}

/// Loads the decoder of an opened model. Weights stay where the file has them.
pub fn load_decoder(source: &ModelSource) -> Result<Decoder> {
    load_decoder_with(source, &LoadOptions::default())
}

/// [`load_decoder`] with wishes.
pub fn load_decoder_with(source: &ModelSource, options: &LoadOptions) -> Result<Decoder> {
    let names = source.names()?;
    if names.purpose == Purpose::Encoder {
        return Err(Error::Purpose {
            file: source.name(),
            architecture: source.architecture()?,
            what: "turns texts into vectors and cannot continue them; `porism embed` runs it",
        });
    }
    let config = describe(source, names, options)?;
    Loader::new(source, names, &config)?.decoder()
}

/// Loads the encoder of an opened model; a decoder becomes one by its last row.
pub fn load_encoder(source: &ModelSource) -> Result<Encoder> {
    let names = source.names()?;
    if names.purpose == Purpose::Decoder {
        return load_decoder(source).map(Encoder::of_decoder);
    }
    let config = describe(source, names, &LoadOptions::default())?;
    let loader = Loader::new(source, names, &config)?;
    let stack = loader.stack()?;
    let output_norm = names.entry(Site::OutputNorm).map(|_| loader.norm(Site::OutputNorm, config.width)).transpose()?;
    let longest = config.context;
    let encoder = Encoder { stack, output_norm, pooling: Pooling::Mean, dense: Vec::new(), normalize: true, longest };
    sentence::complete(source, encoder)
}

/// The numbers of an opened model, checked.
pub fn describe(source: &ModelSource, names: &'static NameTable, options: &LoadOptions) -> Result<ModelConfig> {
    let mut config = (names.describe)(&Facts::new(source, names)?)?;
    stretch(source, &mut config, options)?;
    check::config(source, &config)?;
    check::tensors(source, names, &config)?;
    Ok(config)
}

/// The numbers of an opened model whose weights need not be there: for questions about its size.
pub fn numbers(source: &ModelSource) -> Result<ModelConfig> {
    let names = source.names()?;
    let mut config = (names.describe)(&Facts::new(source, names)?)?;
    stretch(source, &mut config, &LoadOptions::default())?;
    check::config(source, &config)?;
    Ok(config)
}

/// Applies the options, and settles what depends on the length of the text.
fn stretch(source: &ModelSource, config: &mut ModelConfig, options: &LoadOptions) -> Result<()> {
    let trained = config.context;
    if let Some(scaling) = &options.rope {
        let Some(rope) = config.ropes.first_mut() else {
            return Err(check::problem(source, "it has no rotary embedding that could be stretched"));
        };
        rope.scaling = scaling.clone();
        let factor = match scaling {
            RopeScaling::Linear { factor } | RopeScaling::Ntk { factor } => *factor,
            RopeScaling::Dynamic { factor, .. } | RopeScaling::Yarn(Yarn { factor, .. }) => *factor,
            _ => 1.0,
        };
        let original = scaling.original().unwrap_or(trained);
        config.context = (original as f64 * f64::from(factor)) as usize;
    }
    config.rope_length = options.context.unwrap_or(0);
    // Frequencies that differ within and beyond the context of training: beyond has to be asked for.
    match config.rope().map(|r| &r.scaling) {
        Some(RopeScaling::LongRope { original, .. }) if config.rope_length <= *original => config.context = *original,
        Some(RopeScaling::Dynamic { original, .. }) => config.context = config.rope_length.max(*original),
        _ => {}
    }
    Ok(())
}

struct Loader<'a> {
    source: &'a ModelSource,
    names: &'static NameTable,
    config: &'a ModelConfig,
    ropes: Vec<Rope>,
    bias: Option<Arc<RelativeBias>>,
}

impl<'a> Loader<'a> {
    fn new(source: &'a ModelSource, names: &'static NameTable, config: &'a ModelConfig) -> Result<Loader<'a>> {
        let layout = match source {
            ModelSource::Gguf(_) => names.gguf_rope,
            ModelSource::Hf(_) => RopeLayout::Halves,
        };
        let ropes = config.ropes.iter().map(|spec| {
            let (frequencies, attention_factor) = spec.frequencies(config.rope_length);
            Rope { layout, inverse_frequencies: Arc::from(frequencies), attention_factor }
        });
        let mut loader = Loader { source, names, config, ropes: ropes.collect(), bias: None };
        if let Some(buckets) = config.relative_buckets {
            let table = loader.weight(Site::RelativeBias, buckets, config.heads)?;
            loader.bias = Some(Arc::new(relative_bias(&table.to_f32(), buckets, config.heads)));
        }
        Ok(loader)
    }

    fn decoder(&self) -> Result<Decoder> {
        let c = self.config;
        let stack = self.stack()?;
        // A tied head reads the table; a file may still carry a copy, which must then be used.
        let head_name = self.source.tensor_name(self.names, Site::Head, "weight");
        let head = match self.source.find_weight(&head_name)? {
            Some(_) if !c.tied_embeddings => self.weight(Site::Head, c.vocab, c.width)?,
            None if !c.tied_embeddings => return Err(self.missing(head_name)),
            _ => stack.embeddings.tokens.weight.clone(),
        };
        let norm = self.norm(Site::OutputNorm, c.width)?;
        Ok(Decoder { stack, head: Head { norm, linear: Linear::new(Site::Head, head), softcap: c.final_softcap } })
    }

    fn stack(&self) -> Result<Stack> {
        let blocks = (0..self.config.layers).map(|i| self.block(i)).collect::<Result<_>>()?;
        Ok(Stack { config: self.config.clone(), embeddings: self.embeddings()?, blocks })
    }

    fn embeddings(&self) -> Result<Embeddings> {
        let c = self.config;
        let tokens = Embedding {
            site: Site::TokenEmbedding,
            weight: self.weight(Site::TokenEmbedding, c.vocab, c.width)?,
            scale: c.embedding_scale,
        };
        let table = |site| -> Result<Option<Embedding>> {
            let Some(weight) = self.any_rows(site, c.width)? else { return Ok(None) };
            Ok(Some(Embedding { site, weight, scale: 1.0 }))
        };
        let positions = match c.learned_positions {
            None => None,
            Some(offset) => {
                let missing = || self.missing(self.source.tensor_name(self.names, Site::PositionEmbedding, "weight"));
                Some((table(Site::PositionEmbedding)?.ok_or_else(missing)?, offset))
            }
        };
        let norm = c.embedding_norm.then(|| self.norm(Site::EmbeddingNorm, c.width)).transpose()?;
        Ok(Embeddings { tokens, positions, token_types: table(Site::TokenTypeEmbedding)?, norm })
    }

    fn block(&self, i: usize) -> Result<Block> {
        let c = self.config;
        let site = |s| Site::Block(i as u32, s);
        let (q, kv) = (c.heads * c.head_dim, c.kv_heads * c.head_dim);
        let [query, key, value] = if self.has(site(BlockSite::QueryKeyValue))? {
            self.cut(site(BlockSite::QueryKeyValue), [BlockSite::Query, BlockSite::Key, BlockSite::Value], [q, kv, kv])?
        } else {
            [
                self.linear(site(BlockSite::Query), q, c.width)?,
                self.linear(site(BlockSite::Key), kv, c.width)?,
                self.linear(site(BlockSite::Value), kv, c.width)?,
            ]
        };
        let normed = |s, heads| -> Result<Option<Norm>> {
            c.query_key_norm
                .map(|over| {
                    let width = if over == QueryKeyNorm::Row { heads * c.head_dim } else { c.head_dim };
                    self.norm(site(s), width)
                })
                .transpose()
        };
        let layer = &c.layer_specs[i];
        Ok(Block {
            attention: Attention {
                residual: self.residual(i, BlockSite::AttentionNorm, BlockSite::AttentionPostNorm)?,
                query,
                key,
                value,
                output: self.linear(site(BlockSite::AttentionOutput), c.width, q)?,
                query_norm: normed(BlockSite::QueryNorm, c.heads)?,
                key_norm: normed(BlockSite::KeyNorm, c.kv_heads)?,
                rope: layer.rope.and_then(|kind| self.ropes.get(kind)).cloned(),
                spec: AttentionSpec {
                    heads: c.heads,
                    kv_heads: c.kv_heads,
                    head_dim: c.head_dim,
                    scale: c.attention_scale,
                    softcap: c.attention_softcap,
                    mask: c.mask(i),
                    bias: self.bias.clone(),
                },
            },
            ffn: Ffn {
                residual: self.residual(i, BlockSite::FfnNorm, BlockSite::FfnPostNorm)?,
                kind: self.ffn(i as u32, layer.moe)?,
            },
        })
    }

    fn residual(&self, i: usize, before: BlockSite, after: BlockSite) -> Result<Residual> {
        let norm = |s| self.norm(Site::Block(i as u32, s), self.config.width);
        Ok(match self.config.residual {
            ResidualKind::Pre => Residual::Pre(norm(before)?),
            ResidualKind::Post => Residual::Post(norm(after)?),
            ResidualKind::Sandwich => Residual::Sandwich { before: norm(before)?, after: norm(after)? },
        })
    }

    fn ffn(&self, i: u32, mixture: bool) -> Result<FfnKind> {
        let (c, activation) = (self.config, self.config.activation);
        let site = |s| Site::Block(i, s);
        if let Some(moe) = c.moe.filter(|_| mixture) {
            return self.moe(i, &moe).map(|moe| FfnKind::Moe(Box::new(moe)));
        }
        let down = self.linear(site(BlockSite::Down), c.width, c.ffn)?;
        if !c.gated {
            let up = self.linear(site(BlockSite::Up), c.ffn, c.width)?;
            return Ok(FfnKind::Plain(Plain { up, down, activation }));
        }
        let [gate, up] = if self.has(site(BlockSite::GateUp))? {
            self.cut(site(BlockSite::GateUp), [BlockSite::Gate, BlockSite::Up], [c.ffn, c.ffn])?
        } else {
            [self.linear(site(BlockSite::Gate), c.ffn, c.width)?, self.linear(site(BlockSite::Up), c.ffn, c.width)?]
        };
        Ok(FfnKind::Gated(Gated { gate, up, down, activation }))
    }

    fn moe(&self, i: u32, spec: &crate::config::MoeSpec) -> Result<Moe> {
        let (c, activation) = (self.config, self.config.activation);
        let site = |s| Site::Block(i, s);
        let expert = |e: usize| -> Result<Gated> {
            let linear = |s, rows, cols| -> Result<Linear> {
                let site = Site::Expert(i, e as u32, s);
                Ok(Linear::new(site, self.expert(site, spec.routing.experts, rows, cols)?))
            };
            Ok(Gated {
                gate: linear(BlockSite::Gate, spec.ffn, c.width)?,
                up: linear(BlockSite::Up, spec.ffn, c.width)?,
                down: linear(BlockSite::Down, c.width, spec.ffn)?,
                activation,
            })
        };
        let shared = |ffn: usize| -> Result<Shared> {
            Ok(Shared {
                network: Gated {
                    gate: self.linear(site(BlockSite::SharedGate), ffn, c.width)?,
                    up: self.linear(site(BlockSite::SharedUp), ffn, c.width)?,
                    down: self.linear(site(BlockSite::SharedDown), c.width, ffn)?,
                    activation,
                },
                gate: self.linear(site(BlockSite::SharedRouter), 1, c.width)?,
            })
        };
        Ok(Moe {
            router: self.linear(site(BlockSite::Router), spec.routing.experts, c.width)?,
            routing: spec.routing,
            experts: (0..spec.routing.experts).map(expert).collect::<Result<_>>()?,
            shared: spec.shared_ffn.map(shared).transpose()?,
        })
    }

    /// One expert's weight: a tensor of its own, or its rows of the stack.
    fn expert(&self, site: Site, experts: usize, rows: usize, cols: usize) -> Result<Weight> {
        let ModelSource::Gguf(_) = self.source else { return self.weight(site, rows, cols) };
        let Site::Expert(_, e, _) = site else { return self.weight(site, rows, cols) };
        let total =
            experts.checked_mul(rows).ok_or_else(|| check::problem(self.source, "its experts are too large"))?;
        let first = e as usize * rows;
        Ok(self.weight(site, total, cols)?.slice_rows(first..first + rows)?)
    }

    /// Several projections that one tensor holds, one below the other.
    fn cut<const N: usize>(&self, site: Site, parts: [BlockSite; N], rows: [usize; N]) -> Result<[Linear; N]> {
        let Site::Block(block, _) = site else { return Err(self.missing(format!("{site}"))) };
        let total = rows.iter().sum();
        let weight = self.weight(site, total, self.config.width)?;
        // As a column, a bias can be cut by rows.
        let bias = self.find(site, "bias", 1, total)?.map(|b| Weight::from_f32(&b.to_f32(), total, 1)).transpose()?;
        let mut first = 0;
        let mut linears = Vec::with_capacity(N);
        for (part, rows) in parts.into_iter().zip(rows) {
            let mut linear = Linear::new(Site::Block(block, part), weight.slice_rows(first..first + rows)?);
            if let Some(bias) = &bias {
                let bias = Weight::from_f32(&bias.slice_rows(first..first + rows)?.to_f32(), 1, rows)?;
                linear.deltas.push(Delta { adapter: None, kind: DeltaKind::Bias(bias) });
            }
            first += rows;
            linears.push(linear);
        }
        linears.try_into().map_err(|_| self.missing(format!("{site}")))
    }

    fn linear(&self, site: Site, rows: usize, cols: usize) -> Result<Linear> {
        let mut linear = Linear::new(site, self.weight(site, rows, cols)?);
        if let Some(bias) = self.find(site, "bias", 1, rows)? {
            linear.deltas.push(Delta { adapter: None, kind: DeltaKind::Bias(bias) });
        }
        Ok(linear)
    }

    fn norm(&self, site: Site, width: usize) -> Result<Norm> {
        let c = self.config;
        let bias = match c.norm {
            NormKind::Layer => self.find(site, "bias", 1, width)?,
            NormKind::Rms => None,
        };
        let weight = self.weight(site, 1, width)?;
        Ok(Norm { site, kind: c.norm, weight, bias, eps: c.norm_eps, offset: c.norm_offset })
    }

    /// Whether the file has the tensor of a site.
    fn has(&self, site: Site) -> Result<bool> {
        let name = self.source.tensor_name(self.names, site, "weight");
        Ok(!name.is_empty() && self.source.has_tensor(&name))
    }

    /// A table of the width, with as many rows as it has.
    fn any_rows(&self, site: Site, width: usize) -> Result<Option<Weight>> {
        let name = self.source.tensor_name(self.names, site, "weight");
        match self.source.find_weight(&name)? {
            None => Ok(None),
            Some(weight) => self.find(site, "weight", weight.rows(), width),
        }
    }

    fn weight(&self, site: Site, rows: usize, cols: usize) -> Result<Weight> {
        self.find(site, "weight", rows, cols)?
            .ok_or_else(|| self.missing(self.source.tensor_name(self.names, site, "weight")))
    }

    fn find(&self, site: Site, suffix: &str, rows: usize, cols: usize) -> Result<Option<Weight>> {
        let tensor = self.source.tensor_name(self.names, site, suffix);
        let Some(weight) = self.source.find_weight(&tensor)? else { return Ok(None) };
        let transposed = matches!(self.source, ModelSource::Hf(_))
            && suffix == "weight"
            && self.names.entry(site).is_some_and(|e| e.transform == Transform::Transposed)
            // bitsandbytes packs such a weight the other way round.
            && weight.block().is_dense();
        let expected = if transposed { (cols, rows) } else { (rows, cols) };
        if (weight.rows(), weight.cols()) != expected {
            return Err(Error::Shape {
                file: self.source.name(),
                tensor,
                found_rows: weight.rows(),
                found_cols: weight.cols(),
                rows: expected.0,
                cols: expected.1,
            });
        }
        if transposed { transpose(&weight).map(Some) } else { Ok(Some(weight)) }
    }

    fn missing(&self, tensor: String) -> Error {
        Error::MissingTensor { file: self.source.name(), tensor, architecture: self.config.architecture.clone() }
    }
}

/// A copy in f32, rows and columns exchanged: the one layout of a file that no projection can read in place.
fn transpose(weight: &Weight) -> Result<Weight> {
    let (rows, cols) = (weight.rows(), weight.cols());
    let values = weight.to_f32();
    let mut turned = vec![0.0; values.len()];
    for (r, row) in values.chunks_exact(cols).enumerate() {
        for (c, &v) in row.iter().enumerate() {
            turned[c * rows + r] = v;
        }
    }
    Ok(Weight::from_f32(&turned, cols, rows)?)
}

/// MPNet's bias: half of the buckets for each direction, of each half the first half a distance each, the others
/// over logarithmically growing ranges up to a distance of 128 (T5; Raffel et al. 2020).
fn relative_bias(table: &[f32], buckets: usize, heads: usize) -> RelativeBias {
    const FARTHEST: usize = 128;
    let half = buckets / 2;
    let exact = half / 2;
    let bucket = |distance: isize| {
        // An entry behind the row's own counts from the second half.
        let side = if distance > 0 { half } else { 0 };
        let n = distance.unsigned_abs();
        let within = if n < exact {
            n
        } else {
            let ratio = (n as f32 / exact as f32).ln() / (FARTHEST as f32 / exact as f32).ln();
            (exact + (ratio * (half - exact) as f32) as usize).min(half - 1)
        };
        side + within
    };
    let width = 2 * FARTHEST + 1;
    let expanded = (0..heads * width)
        .map(|i| table[bucket((i % width) as isize - FARTHEST as isize) * heads + i / width])
        .collect();
    RelativeBias { heads, max: FARTHEST, table: expanded }
}
