//! `porism plan attention`: operations and bytes of attention.

use anyhow::Result;
use clap::Args;
use porism_plan::Answer;
use porism_plan::attention::{Attention, answer as plan, patches};

use super::answered;
use super::source::{SourceArgs, length};
use crate::context::{Context, usage};

/// Operations and bytes of attention: the matrix, tiles, a window, the cache
#[derive(Args)]
#[command(after_help = "Examples:
  porism plan attention --seq 32k --head-dim 128 --heads 32 --window 4096 --layers 32
  porism plan attention mistral-7b --seq 32k
  porism plan attention --seq 128000 --head-dim 128
  porism plan attention --image 224 --patch 16 --head-dim 64 --heads 12 --layers 12
  porism plan attention model.gguf --json")]
pub(super) struct AttentionArgs {
    /// Tokens; k is 1024 [default: the model's context]
    #[arg(long, value_name = "N", value_parser = length)]
    seq: Option<u64>,
    /// The side of a square image, whose patches are the tokens
    #[arg(long, value_name = "PIXELS", value_parser = length, requires = "patch", conflicts_with = "seq")]
    image: Option<u64>,
    /// The side of a patch
    #[arg(long, value_name = "PIXELS", value_parser = length, requires = "image")]
    patch: Option<u64>,
    /// Print one JSON object
    #[arg(long)]
    pub(super) json: bool,
    // Last, since its heading would go on.
    #[command(flatten)]
    source: SourceArgs,
}

pub(super) fn answer(args: &AttentionArgs, context: &Context) -> Result<Answer> {
    let image = args.image.zip(args.patch);
    let tokens = args.seq.or(image.map(|(side, patch)| patches(side, patch)));
    let dimensions = args.source.dimensions();
    let attention = if args.source.is_named() {
        let model = args.source.find(context)?.model;
        let Some(tokens) = tokens.or(model.context) else {
            return usage("how many tokens: give --seq, such as --seq 32k");
        };
        Attention { image, ..Attention::of(&model, tokens) }
    } else {
        let (Some(tokens), Some(head_dim)) = (tokens, dimensions.head_dim) else {
            return usage("name a model, or give --seq (or --image and --patch) and --head-dim");
        };
        let (heads, layers) = (dimensions.heads.unwrap_or(1), dimensions.layers.unwrap_or(1));
        Attention {
            tokens,
            heads,
            kv_heads: dimensions.kv_heads.unwrap_or(heads),
            head_dim,
            layers,
            window: dimensions.window,
            windowed_layers: if dimensions.window.is_some() { layers } else { 0 },
            image,
            name: "the given dimensions".into(),
        }
    };
    answered(plan(&attention))
}
