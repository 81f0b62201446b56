//! What the tests of this crate share: the default model, the golden values, executors.
#![allow(dead_code)] // Each test file uses its part.

use std::env::var_os;
use std::sync::Arc;

use porism_hub::{CacheDir, Network, Silent, ensure_default_model};
use porism_kernels::{Isa, Pool};
use porism_models::cpu::{Activations, CpuExecutor};
use porism_models::{Decoder, ModelSource, load_decoder};

/// One prompt and what transformers makes of it.
#[derive(serde::Deserialize)]
pub(crate) struct Golden {
    pub(crate) prompt: String,
    pub(crate) prompt_ids: Vec<u32>,
    pub(crate) top_ids: Vec<u32>,
    pub(crate) top_logits: Vec<f64>,
    pub(crate) logsumexp: f64,
    pub(crate) logits_mean: f64,
    pub(crate) logits_std: f64,
    pub(crate) greedy_ids: Vec<u32>,
}

pub(crate) fn golden() -> Vec<Golden> {
    serde_json::from_str(include_str!("../smollm2-q4_1-logits.json")).expect("golden values")
}

/// The default model, fetched into the shared cache the first time.
pub(crate) fn default_source() -> ModelSource {
    let cache = CacheDir::resolve(var_os("PORISM_HOME"), var_os("XDG_CACHE_HOME"), var_os("HOME")).expect("a cache");
    let path = ensure_default_model(&cache, &Network::default(), &mut Silent).expect("the default model");
    ModelSource::open(&path).expect("a model file")
}

pub(crate) fn default_decoder() -> Decoder {
    load_decoder(&default_source()).expect("a decoder")
}

pub(crate) fn cpu(threads: usize, activations: Activations) -> CpuExecutor {
    CpuExecutor::new(Arc::new(Pool::new(threads)), Isa::detect(), activations)
}
