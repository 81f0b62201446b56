//! Which tensors are written: within one world those that there are, from one to the other those of the name table,
//! with their names, types, shapes and order of rows.

use std::sync::Arc;

use porism_formats::Weight;
use porism_kernels::BlockType;

use super::{OutputFormat, Target, across, four_bit};
use crate::config::ModelConfig;
use crate::names::{NameTable, Transform, gguf_rows_from_hf};
use crate::parts::NormKind;
use crate::rope::RopeScaling;
use crate::site::{BlockSite, Site};
use crate::source::ModelSource;
use crate::{Error, Result};

/// One tensor on its way.
pub(super) struct Item {
    /// Its place in the model; none for what stands beside the weights (RoPE's divisors).
    pub(super) site: Option<Site>,
    /// Whether it is a bias (else the weight itself).
    pub(super) bias: bool,
    /// Its name in the target.
    pub(super) name: String,
    /// File and name in the source, for messages.
    pub(super) origin: String,
    /// What is stored now.
    pub(super) weight: Weight,
    /// Its shape, the slowest dimension first: the same in both.
    pub(super) shape: Vec<usize>,
    /// What it is to be stored as.
    pub(super) block: BlockType,
    /// Target row `i` is source row `order[i]`; of a vector, element `i`.
    pub(super) order: Option<Arc<[usize]>>,
    /// Added to every weight: 1 or -1 where one world keeps factors less one, else 0.
    pub(super) shift: f32,
}

impl Item {
    /// Norms, biases and the like have one dimension.
    pub(super) fn is_vector(&self) -> bool {
        self.shape.len() <= 1
    }

    /// Bytes in the target.
    fn bytes(&self) -> u64 {
        // The shape was checked when the source was loaded; only the type differs.
        let row = self.block.row_bytes(self.weight.cols()).unwrap_or(0) as u64;
        row * self.weight.rows() as u64
    }
}

/// All tensors, in the order that they are written in.
pub(super) struct Plan {
    pub(super) items: Vec<Item>,
}

impl Plan {
    pub(super) fn new(source: &ModelSource, config: &ModelConfig, format: OutputFormat, to: Target) -> Result<Plan> {
        let items = match (source, format) {
            (ModelSource::Gguf(_), OutputFormat::Gguf) | (ModelSource::Hf(_), OutputFormat::HuggingFace) => {
                kept(source, config, format, to)?
            }
            _ => renamed(source, config, format, to)?,
        };
        Ok(Plan { items })
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

    /// The type of the most weights that are not packed into blocks.
    pub(super) fn main_type(&self) -> BlockType {
        self.types().iter().find(|t| t.0.is_dense()).map_or(BlockType::F32, |t| t.0)
    }

    /// The type of four bits that there is, if there is one.
    pub(super) fn four_bit(&self) -> Option<BlockType> {
        self.items.iter().map(|item| item.block).find(|block| block.is_four_bit())
    }
}

/// The tensors within one world: all of them, with their names, shapes and order.
fn kept(source: &ModelSource, config: &ModelConfig, format: OutputFormat, to: Target) -> Result<Vec<Item>> {
    let names = source.names()?;
    let mut items = Vec::new();
    for name in source.tensor_names() {
        let place = source.site_of(names, name);
        let shape = match source {
            // The loader has refused what it does not know; what it ignores is left out of a folder.
            ModelSource::Hf(_) if place.is_none() => continue,
            // A tied head is the embedding table, even where a folder carries a copy.
            ModelSource::Hf(_) if config.tied_embeddings && place.is_some_and(|p| p.0 == Site::Head) => continue,
            ModelSource::Hf(folder) => folder.tensor(name).map(|t| t.shape().to_vec()),
            ModelSource::Gguf(gguf) => gguf.tensor(name).map(|t| t.dims().iter().rev().map(|&d| d as usize).collect()),
        };
        let (Some(shape), Some(weight)) = (shape, source.find_weight(name)?) else { continue };
        let mut item = Item {
            site: place.map(|p| p.0),
            bias: place.is_some_and(|p| p.1 == "bias"),
            name: name.to_owned(),
            origin: format!("{}: the tensor `{name}`", source.name()),
            block: weight.block(),
            weight,
            shape,
            order: None,
            shift: 0.0,
        };
        settle_type(&mut item, format, to);
        check(&item, format)?;
        items.push(item);
    }
    Ok(items)
}

/// The tensors from one world to the other: embeddings, blocks, last norm, head, as the name table has them.
fn renamed(source: &ModelSource, config: &ModelConfig, format: OutputFormat, to: Target) -> Result<Vec<Item>> {
    let names = source.names()?;
    across::refuse(source, config, format)?;
    let rows = RowOrders::new(source, config, format)?;
    let mut items = Vec::new();
    for site in sites(names, config) {
        for suffix in ["weight", "bias"] {
            let origin = source.tensor_name(names, site, suffix);
            let Some(weight) = source.find_weight(&origin)? else { continue };
            let bias = suffix == "bias";
            if bias && !may_have_bias(site, config) {
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
            let less_one = !bias && names.entry(site).is_some_and(|e| e.transform == Transform::LessOne);
            let mut item = Item {
                site: Some(site),
                bias,
                name: name.unwrap_or_default(),
                origin: format!("{}: the tensor `{origin}`", source.name()),
                block: weight.block(),
                shape: match bias || site.is_norm() {
                    true => vec![weight.len()],
                    false => vec![weight.rows(), weight.cols()],
                },
                weight,
                order: rows.of(names, site),
                shift: match format {
                    _ if !less_one => 0.0,
                    OutputFormat::Gguf => 1.0,
                    OutputFormat::HuggingFace => -1.0,
                },
            };
            settle_type(&mut item, format, to);
            check(&item, format)?;
            items.push(item);
        }
    }
    if format == OutputFormat::Gguf {
        items.extend(divisors(source, config)?);
    }
    Ok(items)
}

/// What a folder says about RoPE in numbers, and a GGUF file in tensors.
fn divisors(source: &ModelSource, config: &ModelConfig) -> Result<Vec<Item>> {
    let Some(rope) = config.rope() else { return Ok(Vec::new()) };
    let lists = match &rope.scaling {
        RopeScaling::Llama3 { .. } => vec![("rope_freqs.weight", across::divisors(rope))],
        RopeScaling::LongRope { short, long, .. } => {
            vec![("rope_factors_long.weight", long.clone()), ("rope_factors_short.weight", short.clone())]
        }
        _ => Vec::new(),
    };
    let item = |(name, list): (&str, Vec<f32>)| -> Result<Item> {
        Ok(Item {
            site: None,
            bias: false,
            name: name.to_owned(),
            origin: format!("{}: its rotary embedding", source.name()),
            weight: Weight::from_f32(&list, 1, list.len())?,
            shape: vec![list.len()],
            block: BlockType::F32,
            order: None,
            shift: 0.0,
        })
    };
    lists.into_iter().map(item).collect()
}

/// llama.cpp adds and multiplies vectors in f32 only, and its converter keeps a few tables and routers so. Beside
/// weights of four bits dense ones are as they are, and others decoded.
fn settle_type(item: &mut Item, format: OutputFormat, to: Target) {
    item.block = match to {
        Target::FourBit { kind, .. } if !item.bias && item.site.is_some_and(four_bit::packs) => kind.block(),
        Target::FourBit { .. } if !item.block.is_dense() => BlockType::F32,
        _ => to.block().unwrap_or(item.block),
    };
    use BlockSite::{Router, SharedRouter};
    let table = matches!(
        item.site,
        Some(Site::PositionEmbedding | Site::TokenTypeEmbedding | Site::Block(_, Router | SharedRouter))
    );
    if format == OutputFormat::Gguf && (item.is_vector() || table && to != Target::Keep) {
        item.block = BlockType::F32;
    }
}

/// Every place of the model. A tied head is the embedding table, even where a folder carries a copy.
fn sites(names: &NameTable, config: &ModelConfig) -> Vec<Site> {
    let outside = |last: bool| {
        names.entries().map(|e| e.site).filter(move |site| match site {
            Site::Block(..) | Site::Expert(..) => false,
            Site::Head => last && !config.tied_embeddings,
            site => last == (*site == Site::OutputNorm),
        })
    };
    let in_block = || {
        names.entries().filter_map(|e| match e.site {
            Site::Block(_, site) => Some(site),
            _ => None,
        })
    };
    let blocks = (0..config.layers as u32).flat_map(|i| in_block().map(move |site| Site::Block(i, site)));
    outside(false).chain(blocks).chain(outside(true)).collect()
}

/// As for the loader: projections of blocks, and norms that subtract the mean.
fn may_have_bias(site: Site, config: &ModelConfig) -> bool {
    match site.is_norm() {
        true => config.norm == NormKind::Layer,
        false => matches!(site, Site::Block(..)),
    }
}

fn check(item: &Item, format: OutputFormat) -> Result<()> {
    if item.block.is_four_bit() {
        four_bit::check(item, format)?;
    } else if format == OutputFormat::HuggingFace && !item.block.is_dense() {
        return Err(Error::Convert(format!(
            "{} is stored as {}, which a Hugging Face folder cannot keep; --to f32 decodes it exactly, --to f16, \
             --to bf16, --to nf4 and --to fp4 round it",
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

/// The orders of rows between the two worlds.
struct RowOrders {
    query: Option<Arc<[usize]>>,
    key: Option<Arc<[usize]>>,
}

impl RowOrders {
    fn new(source: &ModelSource, config: &ModelConfig, format: OutputFormat) -> Result<RowOrders> {
        let paired = source.names()?.entries().any(|e| e.transform == Transform::QueryPairs);
        if !paired {
            return Ok(RowOrders { query: None, key: None });
        }
        let invert = format == OutputFormat::HuggingFace;
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
