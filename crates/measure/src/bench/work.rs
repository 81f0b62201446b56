//! What a row has to read and to compute, counted from the model's shapes.

use porism_models::cpu::KvType;
use porism_models::parts::FfnKind;
use porism_models::{Decoder, Linear, Site};

use super::{RowSpec, Test};
use crate::chunks::chunks;

/// The work of one repetition.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Work {
    /// Bytes read of weights and cache, each counted once for every pass that touches it; of the cache what the
    /// windows of the layers let the rows see. A pass is a generated token, a chunk of a prompt, or a small batch.
    pub bytes: u64,
    /// Operations of the projections, a multiply-add counted as two. Attention and norms are not counted.
    pub projection_operations: u64,
}

/// What one pass through a decoder reads.
struct Pass {
    /// All weights of the blocks.
    blocks: u64,
    /// Weights of their projections.
    block_weights: u64,
    /// The head's bytes, its norm included.
    head: u64,
    head_weights: u64,
    /// One row of the embedding table.
    embedding_row: u64,
    /// One entry of the cache in one layer.
    cache_entry: u64,
    /// The window of each layer, where it has one.
    windows: Vec<Option<usize>>,
}

impl Pass {
    fn of(decoder: &Decoder, kv: KvType) -> Pass {
        let (mut blocks, mut block_weights) = (0, 0);
        for block in &decoder.stack.blocks {
            // Of a mixture, the router and the experts that work on one token.
            let idle = match &block.ffn.kind {
                FfnKind::Moe(moe) => moe.routing.used..moe.routing.experts,
                _ => 0..0,
            };
            let works =
                |linear: &&Linear| !matches!(linear.site, Site::Expert(_, e, _) if idle.contains(&(e as usize)));
            for linear in block.linears().into_iter().filter(works) {
                blocks += linear.weight.bytes().len();
                block_weights += linear.weight.len();
            }
            blocks += block.norms().map(|n| n.weight.bytes().len()).sum::<usize>();
        }
        let config = &decoder.stack.config;
        Pass {
            blocks: blocks as u64,
            block_weights: block_weights as u64,
            head: (decoder.head.linear.weight.bytes().len() + decoder.head.norm.weight.bytes().len()) as u64,
            head_weights: decoder.head.linear.weight.len() as u64,
            embedding_row: decoder.stack.embeddings.tokens.weight.row_bytes() as u64,
            cache_entry: 2 * kv.bytes(config.kv_heads * config.head_dim) as u64,
            windows: config.layer_specs.iter().map(|layer| layer.window).collect(),
        }
    }

    /// Bytes of the cache that the last `rows` of `entries` entries of a sequence see, in all layers.
    fn cache(&self, rows: usize, entries: usize) -> u64 {
        // The first of the rows is in its own window.
        let seen = |window: &Option<usize>| window.map_or(entries, |w| entries.min(w + rows.saturating_sub(1)));
        self.windows.iter().map(seen).sum::<usize>() as u64 * self.cache_entry
    }

    /// A pass of `rows` rows that sees `cache` bytes of the cache, with the logits of some rows.
    fn work(&self, rows: usize, cache: u64, logits: usize) -> Work {
        let head = if logits > 0 { self.head } else { 0 };
        let weights = self.block_weights * rows as u64 + self.head_weights * logits as u64;
        let bytes = self.blocks + self.embedding_row * rows as u64 + cache + head;
        Work { bytes, projection_operations: 2 * weights }
    }
}

/// The work of one repetition of a row.
pub fn work(decoder: &Decoder, spec: &RowSpec) -> Work {
    let pass = Pass::of(decoder, spec.kv_type);
    let end = spec.positions();
    let passes: Vec<Work> = match spec.test {
        Test::Prefill | Test::FirstToken => chunks(spec.depth..end)
            .map(|c| pass.work(c.len(), pass.cache(c.len(), c.end), usize::from(c.end == end)))
            .collect(),
        Test::Generate | Test::Contention => {
            (spec.depth..end).map(|position| pass.work(1, pass.cache(1, position + 1), 1)).collect()
        }
        Test::Attention => chunks(spec.depth..end)
            .map(|c| Work { bytes: pass.cache(c.len(), c.end), projection_operations: 0 })
            .collect(),
        Test::Batch => vec![pass.work(spec.n, pass.cache(spec.n, end), spec.n)],
        Test::Sequences => vec![pass.work(spec.n, pass.cache(1, end) * spec.n as u64, spec.n)],
    };
    passes.iter().fold(Work::default(), |sum, w| Work {
        bytes: sum.bytes + w.bytes,
        projection_operations: sum.projection_operations + w.projection_operations,
    })
}
