//! `porism plan memory`: what running, tuning and training take, and what fits.

use anyhow::Result;
use clap::Args;
use porism_generate::PROMPT_CHUNK;
use porism_kernels::pool;
use porism_plan::memory::{Engine, Question, WeightType, answer as plan, of_parameters};
use porism_plan::{Answer, KvType, Machine};

use super::source::{SourceArgs, context_of, count, length, size};
use super::{answered, asked};
use crate::commands::words::{KvArg, thread_count};
use crate::context::Context;
use crate::machine::total_memory;

/// Weights, cache and activations; running, tuning and training; what fits
///
/// The peak of `porism run` is counted from how it allocates. Training is counted in f32 with AdamW, a base in bf16 or
/// NF4 under an adapter, attention in tiles; with all activations kept, or layers recomputed on the way back.
#[derive(Args)]
#[command(after_help = "Examples:
  porism plan memory model.gguf
  porism plan memory model.gguf --context 4k --kv-type q8_0 --ram 2GiB
  porism plan memory llama-70b --ram 80GB --weights q4_k
  porism plan memory --parameters 7B               the weights alone, at each precision
  porism plan memory mistral-7b --batch 2k --rank 64 --json")]
pub(super) struct MemoryArgs {
    /// A number of parameters instead of a model
    #[arg(long, value_name = "N", value_parser = count, conflicts_with = "model")]
    parameters: Option<u64>,
    /// The memory that it has to fit into [default: this machine's]
    #[arg(long, value_name = "BYTES", value_parser = size)]
    ram: Option<u64>,
    /// Tokens in the cache, of prompt and answer; k is 1024 [default: the model's context]
    #[arg(long, value_name = "N", value_parser = length)]
    context: Option<u64>,
    /// How the cache keeps keys and values
    #[arg(long, value_enum, default_value = "f16")]
    kv_type: KvArg,
    /// The type of the weights, where there is no file
    #[arg(long, value_name = "TYPE", default_value = "Q4_K")]
    weights: String,
    /// Threads [default: usable cores]
    #[arg(long, value_name = "N", value_parser = thread_count)]
    threads: Option<usize>,
    /// Tokens that a training step works on at a time; k is 1024
    #[arg(long, value_name = "N", default_value = "512", value_parser = length)]
    batch: u64,
    /// The rank of the adapter
    #[arg(long, value_name = "R", default_value_t = 16)]
    rank: u64,
    /// Print one JSON object
    #[arg(long)]
    pub(super) json: bool,
    // Last, since its heading would go on.
    #[command(flatten)]
    source: SourceArgs,
}

/// The plan's word for a cache's type.
pub(super) fn kv(arg: KvArg) -> KvType {
    match arg {
        KvArg::F32 => KvType::F32,
        KvArg::F16 => KvType::F16,
        KvArg::Q8_0 => KvType::Q8_0,
        KvArg::Q4_0 => KvType::Q4_0,
    }
}

pub(super) fn answer(args: &MemoryArgs, context: &Context) -> Result<Answer> {
    let ram = args.ram.or_else(total_memory);
    if let Some(parameters) = args.parameters {
        return answered(of_parameters(parameters, ram));
    }
    let facts = args.source.find(context)?;
    let threads = args.threads.unwrap_or_else(pool::usable_cores) as u64;
    let question = Question {
        model: &facts.model,
        file: facts.file.as_ref(),
        engine: Engine { prompt_rows: PROMPT_CHUNK as u64, threads },
        tokens: context_of(&facts.model, args.context),
        kv: kv(args.kv_type),
        weights: asked(WeightType::named(&args.weights))?,
        machine: Machine { ram, threads, ..Machine::default() },
        batch_tokens: args.batch,
        rank: args.rank,
    };
    answered(plan(&question))
}
