//! The flags that say how a measurement computes: exactly, unless it is told otherwise.

use clap::Args;
use porism_models::cpu::{Activations, CpuExecutor, KvType};

use super::words::{ActivationsArg, KvArg, kv_type, thread_count};
use crate::context::threads;

/// What is rounded, and on how many threads.
#[derive(Args, Clone, Copy, Debug)]
pub struct PrecisionArgs {
    /// What the inputs of quantized weights are rounded to
    #[arg(long, value_enum, default_value_t = ActivationsArg::F32)]
    activations: ActivationsArg,
    /// How the cache keeps keys and values [default: f32, or f16 with --activations int8]
    #[arg(long, value_enum)]
    kv_type: Option<KvArg>,
    /// Threads [default: usable cores]
    #[arg(long, value_name = "N", value_parser = thread_count)]
    threads: Option<usize>,
}

impl PrecisionArgs {
    pub fn activations(&self) -> Activations {
        self.activations.into()
    }

    pub fn kv(&self) -> KvType {
        kv_type(self.kv_type, self.activations())
    }

    /// Executors, as many as are asked for, on the same threads.
    pub fn executors<const N: usize>(&self) -> [CpuExecutor; N] {
        let (pool, isa) = threads(self.threads);
        std::array::from_fn(|_| CpuExecutor::new(pool.clone(), isa, self.activations()))
    }
}
