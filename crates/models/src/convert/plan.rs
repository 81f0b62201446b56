//! Which tensors are written: their names, types, shapes and order of rows, all from the name table.

use std::sync::Arc;

use porism_formats::Weight;
use porism_kernels::BlockType;

use super::{OutputFormat, Target};
use crate::config::ModelConfig;
use crate::names::{NameTable, Transform, gguf_rows_from_hf};
use crate::rope::RopeScaling;
use crate::site::Site;
use crate::source::ModelSource;
use crate::{Error, Result};

/// One tensor on its way.
pub(super) struct Item {
    /// Its place in the model.
    pub(super) site: Site,
    /// Whether it is a bias (else the weight itself).
    pub(super) bias: bool,
    /// Its name in the target.
    pub(super) name: String,
    /// File and name in the source, for messages.
    pub(super) origin: String,
    /// What is stored now.
    pub(super) weight: Weight,
    /// What it is to be stored as.
    pub(super) block: BlockType,
    /// Target row `i` is source row `order[i]`; of a vector, element `i`.
    pub(super) order: Option<Arc<[usize]>>,
}

impl Item {
    /// Norms and biases have one dimension.
    pub(super) fn is_vector(&self) -> bool {
        self.bias || self.site.is_norm()
    }

    /// The shape, the slowest dimension first.
    pub(super) fn shape(&self) -> Vec<usize> {
        match self.is_vector() {
            true => vec![self.weight.len()],
            false => vec![self.weight.rows(), self.weight.cols()],
        }
    }

    /// Bytes in the target.
    fn bytes(&self) -> u64 {
        // The shape was checked when the source was loaded; only the type differs.
        let row = self.block.row_bytes(self.weight.cols()).unwrap_or(0) as u64;
        row * self.weight.rows() as u64
    }
}

/// All tensors, in the order of a GGUF file: embedding, blocks, last norm, head.
pub(super) struct Plan {
    pub(super) items: Vec<Item>,
}

impl Plan {
    pub(super) fn new(source: &ModelSource, config: &ModelConfig, format: OutputFormat, to: Target) -> Result<Plan> {
        let names = source.names()?;
        refuse_others(source, config)?;
        let rows = RowOrders::new(source, config, format)?;
        let mut plan = Plan { items: Vec::new() };
        for site in sites(names, config) {
            for suffix in ["weight", "bias"] {
                let origin = source.tensor_name(names, site, suffix);
                let Some(weight) = source.find_weight(&origin)? else { continue };
                let bias = suffix == "bias";
                if bias && !may_have_bias(site) {
                    return Err(Error::Convert(format!(
                        "{}: the tensor `{origin}` is a bias where a {} has none",
                        source.name(),
                        config.architecture,
                    )));
                }
                let name = match format {
                    OutputFormat::Gguf => names.gguf_name(site, suffix),
                    OutputFormat::HuggingFace => names.hf_name(site, suffix),
                };
                let mut item = Item {
                    site,
                    bias,
                    name: name.unwrap_or_default(),
                    origin: format!("{}: the tensor `{origin}`", source.name()),
                    block: to.block().unwrap_or(weight.block()),
                    weight,
                    order: rows.of(names, site),
                };
                if format == OutputFormat::Gguf && item.is_vector() {
                    // llama.cpp adds and multiplies vectors in f32 only.
                    item.block = BlockType::F32;
                }
                check(&item, format)?;
                plan.items.push(item);
            }
        }
        Ok(plan)
    }

    /// Bytes of all tensors in the target.
    pub(super) fn bytes(&self) -> u64 {
        self.items.iter().map(Item::bytes).sum()
    }

    /// The types and how many tensors are of each, the type of the most weights first.
    pub(super) fn types(&self) -> Vec<(BlockType, usize)> {
        let mut types: Vec<(BlockType, usize, usize)> = Vec::new();
        for item in &self.items {
            match types.iter_mut().find(|t| t.0 == item.block) {
                Some(seen) => *seen = (seen.0, seen.1 + 1, seen.2 + item.weight.len()),
                None => types.push((item.block, 1, item.weight.len())),
            }
        }
        types.sort_by_key(|t| std::cmp::Reverse(t.2));
        types.into_iter().map(|(block, tensors, _)| (block, tensors)).collect()
    }

    /// The type of the most weights.
    pub(super) fn main_type(&self) -> BlockType {
        self.types().first().map_or(BlockType::F32, |t| t.0)
    }
}

/// What the two formats say of a model in words of their own is written for these alone.
const CONVERTED: [&str; 3] = ["llama", "qwen2", "qwen3"];

fn refuse_others(source: &ModelSource, config: &ModelConfig) -> Result<()> {
    let plain = CONVERTED.contains(&config.architecture.as_str())
        && config.moe.is_none()
        && config.layer_specs.iter().all(|l| l.window.is_none() && l.rope == Some(0))
        && config.rope().is_some_and(|r| r.scaling == RopeScaling::None);
    if plain {
        return Ok(());
    }
    Err(Error::Convert(format!(
        "{} is a {} model: this build converts {} models without windows, experts or a stretched rotary embedding",
        source.name(),
        config.architecture,
        CONVERTED.join(", "),
    )))
}

/// Every place of the model. A tied head is the embedding table, even where a folder carries a copy.
fn sites(names: &NameTable, config: &ModelConfig) -> Vec<Site> {
    let in_block = || {
        names.entries().filter_map(|e| match e.site {
            Site::Block(_, site) => Some(site),
            _ => None,
        })
    };
    let blocks = (0..config.layers as u32).flat_map(|i| in_block().map(move |site| Site::Block(i, site)));
    let head = (!config.tied_embeddings).then_some(Site::Head);
    std::iter::once(Site::TokenEmbedding).chain(blocks).chain([Site::OutputNorm]).chain(head).collect()
}

/// As for the loader: projections of blocks.
fn may_have_bias(site: Site) -> bool {
    matches!(site, Site::Block(..)) && !site.is_norm()
}

fn check(item: &Item, format: OutputFormat) -> Result<()> {
    if format == OutputFormat::HuggingFace && !item.block.is_dense() {
        return Err(Error::Convert(format!(
            "{} is stored as {}, which a Hugging Face folder cannot keep; --to f32 decodes it exactly, --to f16 and \
             --to bf16 round it",
            item.origin, item.block,
        )));
    }
    if item.bias && item.order.is_some() && !item.weight.block().is_dense() {
        return Err(Error::Convert(format!(
            "{} is a bias stored as {}: its elements cannot be reordered",
            item.origin,
            item.weight.block(),
        )));
    }
    Ok(())
}

/// The orders of rows between the two worlds; none inside one of them.
struct RowOrders {
    query: Option<Arc<[usize]>>,
    key: Option<Arc<[usize]>>,
}

impl RowOrders {
    fn new(source: &ModelSource, config: &ModelConfig, format: OutputFormat) -> Result<RowOrders> {
        let invert = match (source, format) {
            (ModelSource::Gguf(_), OutputFormat::Gguf) | (ModelSource::Hf(_), OutputFormat::HuggingFace) => {
                return Ok(RowOrders { query: None, key: None });
            }
            (ModelSource::Gguf(_), OutputFormat::HuggingFace) => true,
            (ModelSource::Hf(_), OutputFormat::Gguf) => false,
        };
        let rotary_dim = config.rope().map_or(0, |r| r.rotary_dim);
        if rotary_dim != config.head_dim {
            return Err(Error::Convert(format!(
                "{}: RoPE turns {} of the {} features of a head, which a {} of the other format cannot say",
                source.name(),
                rotary_dim,
                config.head_dim,
                config.architecture,
            )));
        }
        let order = |heads: usize| {
            let rows = gguf_rows_from_hf(heads, config.head_dim);
            Some(Arc::from(if invert { inverse(&rows) } else { rows }))
        };
        Ok(RowOrders { query: order(config.heads), key: order(config.kv_heads) })
    }

    fn of(&self, names: &NameTable, site: Site) -> Option<Arc<[usize]>> {
        match names.entry(site)?.transform {
            Transform::QueryPairs => self.query.clone(),
            Transform::KeyPairs => self.key.clone(),
            _ => None,
        }
    }
}

fn inverse(order: &[usize]) -> Vec<usize> {
    let mut inverse = vec![0; order.len()];
    for (i, &row) in order.iter().enumerate() {
        inverse[row] = i;
    }
    inverse
}
