//! `porism plan serve`: how fast a machine can answer.

use anyhow::Result;
use clap::Args;
use porism_kernels::pool;
use porism_plan::memory::WeightType;
use porism_plan::serve::{Serving, answer as plan, bytes_read};
use porism_plan::{Answer, Machine, parameters};

use super::memory::kv;
use super::source::{SourceArgs, bandwidth, context_of, length, size, speed};
use super::{answered, asked};
use crate::commands::words::KvArg;
use crate::context::{Context, say};
use crate::machine::{recall, total_memory};

/// Tokens a second, bounded by what is read and by what is computed
///
/// `porism bench` measures the machine once and remembers it; until then --bandwidth and --flops have to be given.
#[derive(Args)]
#[command(after_help = "Examples:
  porism plan serve model.gguf
  porism plan serve model.gguf --context 4k --prompt 1k --batch 8
  porism plan serve llama-7b --weights q8_0 --bandwidth 40GB/s --flops 300G
  porism plan serve llama-70b --weights f16 --bandwidth 2TB/s --flops 312T --ram 80GB --json")]
pub(super) struct ServeArgs {
    /// Tokens in the cache of each sequence; k is 1024
    #[arg(long, value_name = "N", value_parser = length)]
    context: Option<u64>,
    /// Tokens of the prompt; k is 1024
    #[arg(long, value_name = "N", default_value = "512", value_parser = length)]
    prompt: u64,
    /// Sequences at a time
    #[arg(long, value_name = "N", default_value_t = 1)]
    batch: u64,
    /// How the cache keeps keys and values
    #[arg(long, value_enum, default_value = "f16")]
    kv_type: KvArg,
    /// The type of the weights, where there is no file
    #[arg(long, value_name = "TYPE", default_value = "Q4_K")]
    weights: String,
    /// The memory that it has to fit into [default: this machine's]
    #[arg(long, value_name = "BYTES", value_parser = size)]
    ram: Option<u64>,
    /// Bytes that are read from memory in a second, such as 40GB/s [default: as measured]
    #[arg(long, value_name = "BYTES/S", value_parser = bandwidth)]
    bandwidth: Option<u64>,
    /// Operations a second, such as 300G [default: as measured, in int8 or f32 as the weights are]
    #[arg(long, value_name = "FLOPS", value_parser = speed)]
    flops: Option<u64>,
    /// Print one JSON object
    #[arg(long)]
    pub(super) json: bool,
    // Last, since its heading would go on.
    #[command(flatten)]
    source: SourceArgs,
}

pub(super) fn answer(args: &ServeArgs, context: &Context) -> Result<Answer> {
    let facts = args.source.find(context)?;
    let weights = asked(WeightType::named(&args.weights))?;
    let (read, held) = match (facts.bytes_read(), &facts.file) {
        (Some(read), Some(file)) => (read, file.weight_bytes),
        _ => {
            let parameters = asked(parameters::total(&facts.model))?.rounded();
            (asked(bytes_read(&facts.model, weights.bits()))?, asked(weights.bytes(parameters))?.rounded())
        }
    };
    // Weights of fewer than 16 bits are multiplied in int8.
    let parameters = facts
        .file
        .as_ref()
        .map_or_else(|| asked(parameters::total(&facts.model)).map(|n| n.rounded()), |f| Ok(f.parameters))?;
    let rounded = (held as f64) < 1.9 * parameters as f64;
    let mut machine = Machine {
        ram: args.ram.or_else(total_memory),
        bandwidth: args.bandwidth,
        flops: args.flops,
        threads: pool::usable_cores() as u64,
    };
    let asks = machine.bandwidth.is_none() || machine.flops.is_none();
    // Where nothing was measured, the answer says what to do.
    if let Some(kept) = recall(&context.cache).filter(|_| asks) {
        let operations = if rounded { kept.limits.int8_gops } else { kept.limits.f32_gflops };
        machine.bandwidth = machine.bandwidth.or(Some((kept.limits.read_gb_per_second * 1e9) as u64));
        machine.flops = machine.flops.or(Some((operations * 1e9) as u64));
        let kind = if rounded { "int8" } else { "f32" };
        say(&format!("the machine as measured: {}, {} threads, {kind}", kept.isa, kept.threads));
    }
    let serving = Serving {
        weight_bytes: read,
        held_bytes: held,
        tokens: context_of(&facts.model, args.context),
        prompt: args.prompt,
        batch: args.batch,
        kv: kv(args.kv_type),
        machine,
    };
    answered(plan(&facts.model, &serving))
}
