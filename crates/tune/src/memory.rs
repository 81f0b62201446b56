//! What a pass keeps of its activations, and which blocks run a second time to save it (Chen et al. 2016).

use porism_models::tape::BlockMemory;
use porism_models::{Decoder, DeltaKind};

use crate::recipe::Recompute;

/// What decides which operations are on a tape.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tape {
    /// The model's own weights are trained.
    pub full: bool,
    /// Inputs of low-rank pairs are dropped.
    pub dropout: bool,
}

/// Numbers that a block's tape holds for a token, by the operations that make them: two norms, two sums and the attention's
/// three (queries before and behind the rotation, its result) of the width; keys and values, keys rotated; gate, up, their
/// product; what low-rank pairs put beside their projections. A feed-forward branch that is frozen keeps gate and up only. With
/// dropout a pair is several operations, and its input another one.
fn numbers_of_block(decoder: &Decoder, block: usize, tape: Tape) -> usize {
    let config = &decoder.stack.config;
    let keys = config.kv_heads * config.head_dim;
    let Some(part) = decoder.stack.blocks.get(block) else { return 0 };
    let pairs = part.linears().into_iter().flat_map(|linear| linear.deltas.iter().map(move |delta| (linear, delta)));
    let beside: usize = pairs
        .map(|(linear, delta)| match &delta.kind {
            // A pair alone is one operation with its projection.
            DeltaKind::LowRank { a, .. } if linear.deltas.len() == 1 && !tape.dropout => a.rows(),
            DeltaKind::LowRank { a, .. } => {
                let dropped = if tape.dropout { linear.in_features() } else { 0 };
                a.rows() + 2 * linear.out_features() + dropped
            }
            DeltaKind::InputScale(_) => linear.in_features(),
            DeltaKind::OutputScale(_) | DeltaKind::Bias(_) => linear.out_features(),
        })
        .sum();
    let frozen = !tape.full && part.ffn.linears().iter().all(|linear| linear.deltas.is_empty());
    let again = if frozen { config.width + config.ffn } else { 0 };
    10 * config.width + 4 * keys + 3 * config.ffn + beside - again
}

/// Bytes of activations that a block keeps of so many tokens, about.
pub fn kept_bytes(decoder: &Decoder, block: usize, tokens: usize, tape: Tape) -> u64 {
    4 * tokens as u64 * numbers_of_block(decoder, block, tape) as u64
}

/// Which blocks keep their activations: with `auto` as many as fit into a budget of bytes, the last ones, whose turn comes first.
pub fn plan(decoder: &Decoder, recompute: Recompute, tokens: usize, budget: u64, tape: Tape) -> Vec<BlockMemory> {
    let blocks = decoder.stack.blocks.len();
    let mut plan = vec![BlockMemory::Recompute; blocks];
    let mut left = match recompute {
        Recompute::All => return plan,
        Recompute::None => u64::MAX,
        Recompute::Auto => budget,
    };
    for block in (0..blocks).rev() {
        let bytes = kept_bytes(decoder, block, tokens, tape);
        if bytes > left {
            break;
        }
        left -= bytes;
        plan[block] = BlockMemory::Keep;
    }
    plan
}
