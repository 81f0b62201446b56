//! Words that several commands' flags share.

use anyhow::Result;
use clap::{Args, ValueEnum};
use porism_kernels::Isa;
use porism_models::cpu::{Activations, KvType};
use porism_models::load::describe;
use porism_models::rope::{RopeScaling, Yarn};
use porism_models::{LoadOptions, ModelSource};
use porism_text::{Tokenizer, TokenizerOptions};

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
    /// Rounded to 8 bits in blocks of 32: a quarter
    #[value(name = "q8_0")]
    Q8_0,
    /// Rounded to 4 bits in blocks of 32: an eighth, and answers suffer
    #[value(name = "q4_0")]
    Q4_0,
}

impl From<KvArg> for KvType {
    fn from(arg: KvArg) -> KvType {
        match arg {
            KvArg::F32 => KvType::F32,
            KvArg::F16 => KvType::F16,
            KvArg::Q8_0 => KvType::Q8_0,
            KvArg::Q4_0 => KvType::Q4_0,
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

/// Which pre-tokenizer a GGUF file's vocabulary is used with.
#[derive(Args, Clone, Debug, Default)]
pub struct PreTokenizer {
    /// Cut text by the rules of this pre-tokenizer, whatever the GGUF file names
    #[arg(long, value_name = "NAME")]
    pre_tokenizer: Option<String>,
}

impl PreTokenizer {
    /// The model's tokenizer.
    pub fn tokenizer(&self, source: &ModelSource) -> porism_models::Result<Tokenizer> {
        source.tokenizer_with(&TokenizerOptions { pre_tokenizer: self.pre_tokenizer.clone() })
    }
}

/// How a rotary embedding is stretched, instead of the way that the file says.
#[derive(Args, Clone, Debug, Default)]
pub struct RopeArgs {
    /// Stretch the rotary embedding in this way, instead of the file's
    #[arg(long, value_enum, value_name = "TYPE")]
    rope_scaling: Option<RopeArg>,
    /// By how much [default: 2]
    #[arg(long, value_name = "F", requires = "rope_scaling", value_parser = stretch)]
    rope_factor: Option<f32>,
    /// The context of training [default: the file's]
    #[arg(long, value_name = "N", requires = "rope_scaling", value_parser = positive)]
    rope_original_context: Option<usize>,
}

/// The ways of stretching that need no more than a factor.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum RopeArg {
    /// Not at all
    None,
    /// All positions divided by the factor
    Linear,
    /// A larger base: low frequencies are stretched by the factor, high ones hardly
    Ntk,
    /// NTK with a base that follows --context
    Dynamic,
    /// Low frequencies stretched, high ones left alone, attention sharpened
    Yarn,
}

impl RopeArg {
    /// The scaling, for a model trained with `trained` tokens.
    pub fn scaling(self, factor: f32, trained: usize) -> RopeScaling {
        match self {
            RopeArg::None => RopeScaling::None,
            RopeArg::Linear => RopeScaling::Linear { factor },
            RopeArg::Ntk => RopeScaling::Ntk { factor },
            RopeArg::Dynamic => RopeScaling::Dynamic { factor, original: trained },
            RopeArg::Yarn => RopeScaling::Yarn(Yarn::new(factor, trained)),
        }
    }
}

impl RopeArgs {
    /// What the flags ask of the loader, with the context that will be used.
    pub fn options(&self, source: &ModelSource, context: Option<usize>) -> Result<LoadOptions> {
        let rope = match self.rope_scaling {
            None => None,
            Some(kind) => {
                let names = source.names()?;
                let trained = match self.rope_original_context {
                    Some(given) => given,
                    None => describe(source, names, &LoadOptions::default())?.context,
                };
                Some(kind.scaling(self.rope_factor.unwrap_or(2.0), trained))
            }
        };
        Ok(LoadOptions { context, rope })
    }
}

/// A factor of stretching.
pub fn stretch(text: &str) -> std::result::Result<f32, String> {
    match text.parse::<f32>() {
        Ok(v) if (1.0..=1000.0).contains(&v) => Ok(v),
        Ok(v) => Err(format!("{v} is not from 1 to 1000")),
        Err(_) => Err(format!("`{text}` is no number")),
    }
}

/// A level of vector instructions that this processor has.
pub fn isa(text: &str) -> std::result::Result<Isa, String> {
    let names = |levels: &[Isa]| levels.iter().map(|i| i.name()).collect::<Vec<_>>().join(", ");
    let available = Isa::available();
    match Isa::ALL.into_iter().find(|i| i.name() == text) {
        None => Err(format!("`{text}` is none of {}", names(&Isa::ALL))),
        Some(isa) if available.contains(&isa) => Ok(isa),
        Some(_) => Err(format!("this processor lacks it; it has {}", names(&available))),
    }
}

/// A number of threads.
pub fn thread_count(text: &str) -> std::result::Result<usize, String> {
    let n: usize = text.parse().map_err(|_| format!("`{text}` is no number"))?;
    if (1..=1024).contains(&n) { Ok(n) } else { Err(format!("{n} is not from 1 to 1024")) }
}

/// A number of at least one.
pub fn positive(text: &str) -> std::result::Result<usize, String> {
    match text.parse::<usize>() {
        Ok(0) => Err("0 is not from 1 up".into()),
        Ok(n) => Ok(n),
        Err(_) => Err(format!("`{text}` is no whole number")),
    }
}
