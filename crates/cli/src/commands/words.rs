//! Words that several commands' flags share.

use clap::ValueEnum;
use porism_models::cpu::{Activations, KvType};

/// What projections' inputs are rounded to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum ActivationsArg {
    /// Exact: weights are decoded, products are f32
    F32,
    /// Fast: inputs of quantized weights are rounded to 8 bits in blocks of 32
    Int8,
}

impl From<ActivationsArg> for Activations {
    fn from(arg: ActivationsArg) -> Activations {
        match arg {
            ActivationsArg::F32 => Activations::F32,
            ActivationsArg::Int8 => Activations::Int8,
        }
    }
}

/// How keys and values are kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum KvArg {
    /// As computed
    F32,
    /// Rounded to half precision: half the memory
    F16,
}

impl From<KvArg> for KvType {
    fn from(arg: KvArg) -> KvType {
        match arg {
            KvArg::F32 => KvType::F32,
            KvArg::F16 => KvType::F16,
        }
    }
}

/// The cache's type where none was asked for: exact activations get an exact cache.
pub fn kv_type(wanted: Option<KvArg>, activations: Activations) -> KvType {
    match (wanted, activations) {
        (Some(kv), _) => kv.into(),
        (None, Activations::F32) => KvType::F32,
        (None, Activations::Int8) => KvType::F16,
    }
}

/// A number of threads.
pub fn thread_count(text: &str) -> Result<usize, String> {
    let n: usize = text.parse().map_err(|_| format!("`{text}` is no number"))?;
    if (1..=1024).contains(&n) { Ok(n) } else { Err(format!("{n} is not from 1 to 1024")) }
}

/// A number of at least one.
pub fn positive(text: &str) -> Result<usize, String> {
    match text.parse::<usize>() {
        Ok(0) => Err("0 is not from 1 up".into()),
        Ok(n) => Ok(n),
        Err(_) => Err(format!("`{text}` is no whole number")),
    }
}
