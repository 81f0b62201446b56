//! A model as a GGUF file: the metadata that llama.cpp reads, then the tensors.
//!
//! Keys follow the GGUF specification and what llama.cpp's converter writes for the architecture. From
//! another GGUF file all metadata are taken over.

use std::path::Path;

use porism_formats::HfFolder;
use porism_formats::gguf::{GgufHeader, GgufWriter};
use porism_kernels::BlockType;

use super::plan::Plan;
use super::{OutputFormat, Target, refuse_used, stream};
use crate::config::ModelConfig;
use crate::source::ModelSource;
use crate::{Error, Result};

/// Writes the file; gives the notes.
pub(super) fn write(
    source: &ModelSource,
    config: &ModelConfig,
    plan: &Plan,
    to: Target,
    out: &Path,
    progress: &mut dyn FnMut(u64, u64),
) -> Result<Vec<String>> {
    let mut header = GgufHeader::new();
    let mut notes = Vec::new();
    match source {
        ModelSource::Gguf(gguf) => {
            // One file is written, of however many parts the source has.
            for (key, value) in gguf.metadata().filter(|(key, _)| !key.starts_with("split.")) {
                header.set(key, value);
            }
            if let Some(file_type) = to.block().and_then(file_type) {
                header.set("general.file_type", file_type);
            }
        }
        ModelSource::Hf(folder) => {
            numbers(folder, config, plan, &mut header)?;
            tokenizer(source, config, &mut header, &mut notes)?;
        }
    }
    for item in &plan.items {
        let dims: Vec<u64> = item.shape.iter().rev().map(|&d| d as u64).collect();
        header.tensor(&item.name, &dims, item.block);
    }
    let mut writer = GgufWriter::create(out, &header)?;
    stream(plan, progress, |name, bytes| writer.write(name, bytes))?;
    refuse_used(out, OutputFormat::Gguf)?;
    writer.commit()?;
    Ok(notes)
}

/// llama.cpp's number for a file whose matrices are mostly of this type, for the types that are written here.
fn file_type(block: BlockType) -> Option<u32> {
    match block {
        BlockType::F32 => Some(0),
        BlockType::F16 => Some(1),
        BlockType::BF16 => Some(32),
        _ => None,
    }
}

fn numbers(folder: &HfFolder, config: &ModelConfig, plan: &Plan, header: &mut GgufHeader) -> Result<()> {
    let arch = &config.architecture;
    let number = |what: &str, value: usize| {
        u32::try_from(value).map_err(|_| Error::Convert(format!("{what} {value} does not fit 32 bits")))
    };
    header.set("general.architecture", arch.as_str());
    header.set("general.type", "model");
    header.set("general.name", name(folder)?);
    for (key, value) in [
        ("block_count", config.layers),
        ("context_length", config.context),
        ("embedding_length", config.width),
        ("feed_forward_length", config.ffn),
        ("attention.head_count", config.heads),
        ("attention.head_count_kv", config.kv_heads),
        ("rope.dimension_count", config.rope().map_or(0, |r| r.rotary_dim)),
        ("vocab_size", config.vocab),
    ] {
        header.set(&format!("{arch}.{key}"), number(key, value)?);
    }
    if config.head_dim * config.heads != config.width {
        for key in ["attention.key_length", "attention.value_length"] {
            header.set(&format!("{arch}.{key}"), number(key, config.head_dim)?);
        }
    }
    header.set(&format!("{arch}.rope.freq_base"), config.rope().map_or(10_000.0, |r| r.theta));
    header.set(&format!("{arch}.attention.layer_norm_rms_epsilon"), config.norm_eps);
    if let Some(file_type) = file_type(plan.main_type()) {
        header.set("general.file_type", file_type);
    }
    header.set("general.quantization_version", 2u32);
    Ok(())
}

/// The model's own name where `config.json` has a plain one (a path or hub id says where a copy lay once),
/// else the folder's.
fn name(folder: &HfFolder) -> Result<String> {
    let config = folder.config()?;
    if let Some(name) = config.find_str("_name_or_path")?.filter(|n| !n.is_empty() && !n.contains(['/', '\\'])) {
        return Ok(name.to_string());
    }
    let path = std::path::absolute(folder.path()).unwrap_or_else(|_| folder.path().to_owned());
    Ok(path.file_name().map(|n| n.to_string_lossy().into_owned()).unwrap_or_else(|| "model".into()))
}

fn tokenizer(
    source: &ModelSource,
    config: &ModelConfig,
    header: &mut GgufHeader,
    notes: &mut Vec<String>,
) -> Result<()> {
    let tokenizer = source.tokenizer()?;
    let mut vocabulary = tokenizer.source()?;
    // llama.cpp takes the number of tokens for the number of rows of the embedding table.
    vocabulary.pad_to(config.vocab)?;
    // One further token that ends an answer has a key of its own.
    if vocabulary.special.eot.is_none() {
        vocabulary.special.eot = vocabulary.end_ids.first().copied();
    }
    let named = vocabulary.special.eot;
    let lost: Vec<String> =
        vocabulary.end_ids.iter().filter(|&&id| Some(id) != named).map(|id| id.to_string()).collect();
    if !lost.is_empty() {
        notes.push(format!(
            "a GGUF file names two tokens that end an answer; {} end one only for programs that know their spelling",
            lost.join(", ")
        ));
    }
    if vocabulary.nfc {
        notes.push("the tokenizer brings text to Unicode's NFC first, which a GGUF file cannot say".into());
    }
    if !vocabulary.strips.is_empty() {
        let strips = vocabulary.strips.len();
        notes.push(format!("{strips} tokens swallow the white space beside them, which a GGUF file cannot say"));
    }
    for (key, value) in vocabulary.to_gguf_metadata() {
        header.set(&key, value);
    }
    Ok(())
}
