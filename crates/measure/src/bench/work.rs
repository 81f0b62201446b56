//! What a row has to read and to compute, counted from the model's shapes.

use porism_models::cpu::{CpuState, KvType};
use porism_models::parts::FfnKind;
use porism_models::{Decoder, Linear, Site};

use super::{RowSpec, Test};
use crate::chunks::chunks;

/// The work of one repetition.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Work {
    /// Bytes read of weights and cache, each counted once for every pass that touches it. A pass is a
    /// generated token, or a chunk of a prompt.
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
    /// One entry of the cache in all layers.
    cache_entry: u64,
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
        Pass {
            blocks: blocks as u64,
            block_weights: block_weights as u64,
            head: (decoder.head.linear.weight.bytes().len() + decoder.head.norm.weight.bytes().len()) as u64,
            head_weights: decoder.head.linear.weight.len() as u64,
            embedding_row: decoder.stack.embeddings.tokens.weight.row_bytes() as u64,
            cache_entry: CpuState::bytes_per_row(&decoder.stack.config, kv) as u64,
        }
    }

    /// A pass of `rows` rows after which the cache has `entries` entries, with the logits of one row or of none.
    fn work(&self, rows: usize, entries: usize, logits: bool) -> Work {
        let head = u64::from(logits);
        let bytes =
            self.blocks + self.embedding_row * rows as u64 + self.cache_entry * entries as u64 + self.head * head;
        let weights = self.block_weights * rows as u64 + self.head_weights * head;
        Work { bytes, projection_operations: 2 * weights }
    }
}

/// The work of one repetition of a row.
pub fn work(decoder: &Decoder, spec: &RowSpec) -> Work {
    let pass = Pass::of(decoder, spec.kv_type);
    let end = spec.positions();
    let passes: Vec<Work> = match spec.test {
        Test::Prefill | Test::FirstToken => {
            chunks(spec.depth..end).map(|c| pass.work(c.len(), c.end, c.end == end)).collect()
        }
        Test::Generate => (spec.depth..end).map(|position| pass.work(1, position + 1, true)).collect(),
        Test::Attention => chunks(spec.depth..end)
            .map(|c| Work { bytes: pass.cache_entry * c.end as u64, projection_operations: 0 })
            .collect(),
    };
    passes.iter().fold(Work::default(), |sum, w| Work {
        bytes: sum.bytes + w.bytes,
        projection_operations: sum.projection_operations + w.projection_operations,
    })
}
