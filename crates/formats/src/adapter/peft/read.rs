//! Reading a folder.

use std::collections::BTreeMap;
use std::path::Path;

use super::config::{Config, refuse};
use super::{CONFIG, PREFIX, PeftAdapter, TENSORS};
use crate::adapter::LowRankPair;
use crate::hf::{JsonFile, SafeTensors};
use crate::{Error, Result, Weight, mapping};

/// A configuration is a page of text; one with a pattern for each module of a large model is a hundred.
const MAX_CONFIG_BYTES: usize = 8 << 20;

impl PeftAdapter {
    /// Opens a folder. The weights are views into the mapped file, which must not be changed or cut meanwhile.
    ///
    /// # Errors
    /// A file is missing or damaged; the adapter is of a kind that is not read; pairs are incomplete or contradict the
    /// configuration. The message says which.
    pub fn open(folder: &Path) -> Result<PeftAdapter> {
        let path = folder.join(CONFIG);
        let bytes = mapping::map(&path)?;
        let name = path.display().to_string();
        if bytes.bytes().len() > MAX_CONFIG_BYTES {
            return Err(Error::invalid(&name, format!("larger than {} MiB", MAX_CONFIG_BYTES >> 20)));
        }
        let json = JsonFile::parse(bytes.bytes(), &name)?;
        let path = folder.join(TENSORS);
        if !path.exists() && folder.join("adapter_model.bin").exists() {
            let problem = format!("there is no {TENSORS}; adapter_model.bin is not read: convert it to safetensors");
            return Err(Error::invalid(&folder.display().to_string(), problem));
        }
        PeftAdapter::read(&json, &SafeTensors::open(&path)?, &path.display().to_string())
    }

    /// Reads files that are in memory; `file` stands for the tensors' one in messages.
    ///
    /// # Errors
    /// As [`PeftAdapter::open`].
    pub fn read(json: &JsonFile, tensors: &SafeTensors, file: &str) -> Result<PeftAdapter> {
        let invalid = |problem: String| Error::invalid(file, problem);
        // What cannot be read at all is said before the tensors are looked at.
        refuse(json)?;
        let mut modules: BTreeMap<&str, Parts> = BTreeMap::new();
        let mut ignored = Vec::new();
        for tensor in tensors.tensors() {
            let name = tensor.name();
            let Some((module, role)) = name.strip_prefix(PREFIX).and_then(role) else {
                return Err(invalid(format!(
                    "the tensor `{name}` is no part of a LoRA: whole modules, biases and resized vocabularies are not \
                     read"
                )));
            };
            if role == Role::Copy {
                ignored.push(name.to_owned());
                continue;
            }
            let (shape, dims) = (tensor.shape(), if role == Role::Magnitude { 1 } else { 2 });
            if shape.len() != dims {
                return Err(invalid(format!(
                    "the tensor `{name}` has the shape {shape:?}; {dims} dimensions are read"
                )));
            }
            if shape.contains(&0) {
                return Err(invalid(format!("the tensor `{name}` has the shape {shape:?}: its rank is 0")));
            }
            let parts = modules.entry(module).or_default();
            parts.embedding |= matches!(role, Role::EmbeddingA | Role::EmbeddingB);
            let place = match role {
                Role::A | Role::EmbeddingA => &mut parts.a,
                Role::B | Role::EmbeddingB => &mut parts.b,
                Role::Magnitude | Role::Copy => &mut parts.magnitude,
            };
            if place.replace(tensors.weight(name)?).is_some() {
                return Err(invalid(format!("`{module}` has two tensors of one kind: `{name}` is the second")));
            }
        }
        if modules.is_empty() {
            return Err(invalid("there are no low-rank pairs".into()));
        }
        let config = Config::read(json, modules.len())?;
        let pair = |(module, parts)| pair(&config, module, parts, file);
        let pairs = modules.into_iter().map(pair).collect::<Result<Vec<LowRankPair>>>()?;
        let paths = || pairs.iter().map(|p| p.name.clone()).collect();
        Ok(PeftAdapter {
            target_modules: config.target_modules.unwrap_or_else(paths),
            base_model: config.base_model,
            rslora: config.rslora,
            dropout: config.dropout,
            fan_in_fan_out: config.fan_in_fan_out,
            pairs,
            ignored,
        })
    }
}

/// The tensors of one module.
#[derive(Default)]
struct Parts {
    a: Option<Weight>,
    b: Option<Weight>,
    magnitude: Option<Weight>,
    embedding: bool,
}

/// A module's pair, checked against the configuration.
fn pair(config: &Config, module: &str, parts: Parts, file: &str) -> Result<LowRankPair> {
    let invalid = |problem: String| Err(Error::invalid(file, problem));
    let Parts { a: Some(a), b: Some(b), magnitude, embedding } = parts else {
        return invalid(format!("`{module}` has not both of A and B: the file is incomplete"));
    };
    let scale = config.scale_of(module)?;
    let pair = LowRankPair { name: module.to_owned(), a, b, scale, magnitude, embedding };
    if let Some(problem) = pair.problem() {
        return invalid(problem);
    }
    let (rank, said) = (pair.rank(), config.rank_of(module)?);
    if rank != said {
        return invalid(format!("`{module}` has rank {rank}, and {CONFIG} says {said}"));
    }
    match (config.dora, &pair.magnitude) {
        (true, None) => invalid(format!("`{module}` has no lora_magnitude_vector, and {CONFIG} says use_dora")),
        (false, Some(_)) => invalid(format!("`{module}` has a magnitude, and {CONFIG} does not say use_dora")),
        _ => Ok(pair),
    }
}

/// What a tensor is to its module.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Role {
    A,
    B,
    EmbeddingA,
    EmbeddingB,
    Magnitude,
    /// A copy of the base's own weights, which PEFT keeps of adapted embeddings.
    Copy,
}

/// A tensor's module and what it is to it.
fn role(name: &str) -> Option<(&str, Role)> {
    [
        (".lora_A.weight", Role::A),
        (".lora_B.weight", Role::B),
        (".lora_embedding_A", Role::EmbeddingA),
        (".lora_embedding_B", Role::EmbeddingB),
        (".lora_magnitude_vector", Role::Magnitude),
        (".lora_magnitude_vector.weight", Role::Magnitude),
        (".base_layer.weight", Role::Copy),
    ]
    .into_iter()
    .find_map(|(suffix, role)| Some((name.strip_suffix(suffix)?, role)))
}
