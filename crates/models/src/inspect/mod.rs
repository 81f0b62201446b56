//! What is in a model file: the facts behind `porism inspect`, of any architecture.
//!
//! Only headers are read. What a file does not say is left out and nothing is guessed; a model that this
//! build cannot run is described all the same, with the reason.

mod numbers;
mod tokenizer;

use std::path::Path;

use porism_formats::hf::SafeTensors;
use porism_formats::{Gguf, HfFolder};
use serde::Serialize;

use crate::Result;
use crate::load::load_encoder;
use crate::names::NameTable;
use crate::site::{BlockSite, Site};
use crate::source::ModelSource;

pub use numbers::{KvCache, Numbers};
pub use tokenizer::{SpecialToken, TokenizerFacts};

/// Everything about a file or folder.
#[derive(Clone, Debug, Serialize)]
pub struct Facts {
    /// The file or folder.
    pub file: String,
    /// `GGUF version 3`, `Hugging Face folder` or `safetensors`.
    pub format: String,
    /// Its size; of a folder, that of the files in it.
    pub file_bytes: u64,
    /// The model's own name.
    pub name: Option<String>,
    /// The licence of the weights, as the file has it.
    pub license: Option<String>,
    /// The architecture, by the name in the file.
    pub architecture: Option<String>,
    /// Whether this build can run it.
    pub runs: bool,
    /// Why not.
    pub problem: Option<String>,
    /// Weights in all tensors.
    pub parameters: u64,
    /// Their bytes.
    pub weight_bytes: u64,
    /// Bits per weight over all tensors; none without weights.
    pub bits_per_weight: Option<f64>,
    /// The weights by what they are for.
    pub parts: Vec<Share>,
    /// The weights by how they are stored.
    pub types: Vec<Share>,
    /// The model's numbers.
    pub numbers: Numbers,
    /// What a key and value cache takes; none where there is none, or its size is not known.
    pub kv_cache: Option<KvCache>,
    /// The tokenizer, if there is one.
    pub tokenizer: Option<TokenizerFacts>,
    /// The tensors, in the file's order (of a folder: by name).
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub tensors: Vec<TensorFacts>,
}

/// A part of the weights.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Share {
    /// Of what.
    pub name: String,
    /// Tensors.
    pub tensors: usize,
    /// Weights.
    pub parameters: u64,
    /// Bytes.
    pub bytes: u64,
    /// Bits per weight, with scales.
    pub bits_per_weight: f64,
}

/// One tensor.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct TensorFacts {
    /// Its name.
    pub name: String,
    /// Its type, as the file calls it.
    #[serde(rename = "type")]
    pub kind: String,
    /// The dimensions, the slowest first (rows, then columns) whatever the file's order.
    pub shape: Vec<u64>,
    /// Its bytes.
    pub bytes: u64,
}

impl TensorFacts {
    fn parameters(&self) -> u64 {
        // The readers have checked that the product fits.
        self.shape.iter().product()
    }
}

/// Reads the facts of a GGUF file, a Hugging Face folder, or a single safetensors file.
///
/// # Errors
/// It is none of them, or is damaged. An architecture that is not known is no error.
pub fn inspect(path: &Path) -> Result<Facts> {
    inspect_at(path, None)
}

/// [`inspect`] with the cache's bytes at another context than the model's own.
///
/// # Errors
/// As [`inspect`].
pub fn inspect_at(path: &Path, context: Option<usize>) -> Result<Facts> {
    if !path.is_dir() && path.extension().is_some_and(|s| s == "safetensors") {
        return Ok(bare(&SafeTensors::open(path)?, path));
    }
    let source = ModelSource::open(path)?;
    let mut facts = match &source {
        ModelSource::Gguf(gguf) => of_gguf(gguf),
        ModelSource::Hf(folder) => of_folder(folder)?,
    };
    match load_encoder(&source) {
        Ok(encoder) => {
            facts.runs = true;
            let config = &encoder.stack.config;
            facts.numbers.complete(config);
            // An encoder keeps nothing from one text to the next.
            facts.kv_cache = (!config.bidirectional).then(|| KvCache::of(config, context.unwrap_or(config.context)));
        }
        Err(_) if facts.tensors.is_empty() => facts.problem = Some("it has no weights".into()),
        Err(error) => facts.problem = Some(error.to_string()),
    }
    if !facts.runs {
        facts.kv_cache = facts.numbers.kv_cache();
    }
    facts.count(source.names().ok());
    Ok(facts)
}

impl Facts {
    fn new(file: String, format: String) -> Facts {
        Facts {
            file,
            format,
            file_bytes: 0,
            name: None,
            license: None,
            architecture: None,
            runs: false,
            problem: None,
            parameters: 0,
            weight_bytes: 0,
            bits_per_weight: None,
            parts: Vec::new(),
            types: Vec::new(),
            numbers: Numbers::default(),
            kv_cache: None,
            tokenizer: None,
            tensors: Vec::new(),
        }
    }

    /// Fills in the sums over all tensors.
    fn count(&mut self, names: Option<&NameTable>) {
        self.parameters = self.tensors.iter().map(TensorFacts::parameters).sum();
        self.weight_bytes = self.tensors.iter().map(|t| t.bytes).sum();
        self.bits_per_weight = bits(self.weight_bytes, self.parameters);
        self.types = shares(&self.tensors, |t| t.kind.clone());
        self.types.sort_by_key(|s| std::cmp::Reverse(s.bytes));
        self.parts = shares(&self.tensors, |t| part(names, &t.name).to_string());
        self.parts.sort_by_key(|s| PARTS.iter().position(|part| *part == s.name));
    }
}

fn bits(bytes: u64, parameters: u64) -> Option<f64> {
    (parameters > 0).then(|| bytes as f64 * 8.0 / parameters as f64)
}

fn shares(tensors: &[TensorFacts], name: impl Fn(&TensorFacts) -> String) -> Vec<Share> {
    let mut shares: Vec<Share> = Vec::new();
    for tensor in tensors {
        let name = name(tensor);
        let at = shares.iter().position(|s| s.name == name).unwrap_or_else(|| {
            shares.push(Share { name, tensors: 0, parameters: 0, bytes: 0, bits_per_weight: 0.0 });
            shares.len() - 1
        });
        let share = &mut shares[at];
        share.tensors += 1;
        share.parameters += tensor.parameters();
        share.bytes += tensor.bytes;
    }
    for share in &mut shares {
        share.bits_per_weight = bits(share.bytes, share.parameters).unwrap_or(0.0);
    }
    shares
}

/// The parts, in the order in which they are shown.
const PARTS: [&str; 9] = [
    "token embedding",
    "positions",
    "attention",
    "feed-forward",
    "experts",
    "norms",
    "blocks",
    "head",
    "outside of blocks",
];

/// What a tensor is for: by the name table of a known architecture, else by whether it has a block's number.
fn part(names: Option<&NameTable>, tensor: &str) -> &'static str {
    use BlockSite::{AttentionOutput, Key, Query, QueryKeyValue, Value};
    let site = names.and_then(|n| n.site_of_gguf(tensor).or(n.site_of_hf(tensor)));
    match site {
        Some((Site::TokenEmbedding, _)) => "token embedding",
        Some((Site::PositionEmbedding | Site::TokenTypeEmbedding | Site::RelativeBias, _)) => "positions",
        Some((Site::Head | Site::Dense(_), _)) => "head",
        Some((site, _)) if site.is_norm() => "norms",
        Some((Site::Block(_, Query | Key | Value | QueryKeyValue | AttentionOutput), _)) => "attention",
        Some((Site::Expert(..), _)) => "experts",
        Some(_) => "feed-forward",
        None if tensor.split('.').any(|s| !s.is_empty() && s.bytes().all(|b| b.is_ascii_digit())) => "blocks",
        None => "outside of blocks",
    }
}

fn of_gguf(gguf: &Gguf) -> Facts {
    let mut facts = Facts::new(gguf.name().to_string(), format!("GGUF version {}", gguf.version()));
    facts.file_bytes = gguf.byte_len() as u64;
    // A key of another type than expected is as good as none here.
    let text = |key: &str| gguf.find_str(key).ok().flatten().map(str::to_string);
    facts.name = text("general.name");
    facts.license = text("general.license");
    facts.architecture = text("general.architecture");
    facts.tensors = tensors_of_gguf(gguf);
    facts.numbers = Numbers::of_gguf(gguf, facts.architecture.as_deref().unwrap_or_default());
    facts.tokenizer = tokenizer::of_gguf(gguf);
    facts
}

fn tensors_of_gguf(gguf: &Gguf) -> Vec<TensorFacts> {
    let tensors = gguf.tensors().iter().map(|t| TensorFacts {
        name: t.name().to_string(),
        kind: t.block().name().to_string(),
        shape: t.dims().iter().rev().copied().collect(),
        bytes: t.byte_len() as u64,
    });
    tensors.collect()
}

fn tensors_of_folder(folder: &HfFolder) -> Vec<TensorFacts> {
    let mut names: Vec<&str> = folder.names().collect();
    names.sort_unstable();
    names.into_iter().filter_map(|n| folder.tensor(n)).map(of_safetensor).collect()
}

/// The weights of an opened model by what they are for; its tokenizer and metadata are not looked at.
pub fn parts_of(source: &ModelSource) -> Vec<Share> {
    let tensors = match source {
        ModelSource::Gguf(gguf) => tensors_of_gguf(gguf),
        ModelSource::Hf(folder) => tensors_of_folder(folder),
    };
    let names = source.names().ok();
    let mut parts = shares(&tensors, |t| part(names, &t.name).to_string());
    parts.sort_by_key(|s| PARTS.iter().position(|part| *part == s.name));
    parts
}

fn of_folder(folder: &HfFolder) -> Result<Facts> {
    let path = folder.path();
    let mut facts = Facts::new(path.display().to_string(), "Hugging Face folder".into());
    facts.file_bytes = std::fs::read_dir(path)
        .map(|entries| {
            let sizes = entries.filter_map(|e| std::fs::metadata(e.ok()?.path()).ok());
            sizes.filter(|m| m.is_file()).map(|m| m.len()).sum()
        })
        .unwrap_or(0);
    if let Some(config) = folder.json("config.json")? {
        facts.architecture = config.find_str("model_type")?.map(str::to_string);
        facts.name = config.find_str("_name_or_path")?.map(str::to_string);
        facts.numbers = Numbers::of_config(&config);
    }
    facts.tensors = tensors_of_folder(folder);
    facts.tokenizer = tokenizer::of_folder(folder)?;
    Ok(facts)
}

fn of_safetensor(tensor: &porism_formats::hf::TensorInfo) -> TensorFacts {
    TensorFacts {
        name: tensor.name().to_string(),
        kind: tensor.dtype().to_string(),
        shape: tensor.shape().iter().map(|&d| d as u64).collect(),
        bytes: tensor.byte_len() as u64,
    }
}

fn bare(file: &SafeTensors, path: &Path) -> Facts {
    let mut facts = Facts::new(path.display().to_string(), "safetensors".into());
    facts.file_bytes = std::fs::metadata(path).map_or(0, |m| m.len());
    facts.problem = Some("a safetensors file alone does not say what model it is: give its folder".into());
    facts.tensors = file.tensors().iter().map(of_safetensor).collect();
    facts.count(None);
    facts
}
