//! A model as a Hugging Face folder: `config.json` and its companions, then the tensors.
//!
//! transformers 4 reads RoPE's base and the type of the weights under `rope_theta` and `torch_dtype`,
//! transformers 5 under `rope_parameters` and `dtype`: both are written. From another folder the files are
//! taken over.

use std::path::Path;

use porism_formats::hf::{HfTensor, HfWriter, MAX_SHARD_BYTES};
use porism_formats::{Gguf, HfFolder};
use porism_text::{SpecialIds, TokenType, VocabSource};
use serde_json::{Value, json};

use super::config_json::{dtype, model_config};
use super::modules::{self, Staging};
use super::plan::Plan;
use super::{Target, four_bit, stream};
use crate::config::ModelConfig;
use crate::source::ModelSource;
use crate::{Error, Result};

/// Writes the folder; gives the notes.
pub(super) fn write(
    source: &ModelSource,
    config: &ModelConfig,
    plan: &Plan,
    to: Target,
    out: &Path,
    progress: &mut dyn FnMut(u64, u64),
) -> Result<Vec<String>> {
    let files = match source {
        ModelSource::Gguf(gguf) => described(gguf, source, config, plan, to)?,
        ModelSource::Hf(folder) => taken_over(folder, source, plan, to)?,
    };
    let tensors: Vec<HfTensor> = plan
        .items
        .iter()
        .map(|item| HfTensor { name: item.name.clone(), shape: item.shape.clone(), block: item.block })
        .collect();
    let modules = match source {
        ModelSource::Gguf(_) => Vec::new(),
        ModelSource::Hf(folder) => modules::of(folder)?,
    };
    let staging = if modules.is_empty() { None } else { Some(Staging::beside(out)?) };
    let target = staging.as_ref().map_or_else(|| out.to_owned(), Staging::model);
    let mut writer = HfWriter::create_packed(&target, &tensors, four_bit::packing(plan, to), MAX_SHARD_BYTES)?;
    for (name, bytes) in files {
        writer.write_file(&name, &bytes)?;
    }
    stream(plan, progress, |name, bytes| writer.write(name, bytes))?;
    writer.commit()?;
    if let Some(staging) = staging {
        staging.commit(&modules, out)?;
    }
    Ok(four_bit::note(plan, to).into_iter().collect())
}

/// A name and the bytes of a file.
type File = (String, Vec<u8>);

fn file(name: &str, value: &Value) -> Result<File> {
    let mut bytes = serde_json::to_vec_pretty(value).map_err(|e| Error::Convert(format!("{name}: {e}")))?;
    bytes.push(b'\n');
    Ok((name.to_owned(), bytes))
}

/// The files of a model that comes from a GGUF file.
fn described(gguf: &Gguf, source: &ModelSource, config: &ModelConfig, plan: &Plan, to: Target) -> Result<Vec<File>> {
    let tokenizer = source.tokenizer()?;
    let mut vocabulary = tokenizer.source()?;
    if vocabulary.tokens.len() != config.vocab {
        return Err(Error::Convert(format!(
            "{}: {} tokens, but {} rows in the embedding table",
            source.name(),
            vocabulary.tokens.len(),
            config.vocab,
        )));
    }
    let ids = Ids::of(&vocabulary);
    drop_padding(&mut vocabulary);
    let mut tokenizer_config = vocabulary.to_tokenizer_config();
    if let Some(object) = tokenizer_config.as_object_mut() {
        object.insert("model_max_length".into(), json!(config.context));
    }
    let mut model = model_config(gguf, source, config, plan)?;
    for (key, id) in [("bos_token_id", json!(ids.bos)), ("eos_token_id", ids.ends()), ("pad_token_id", json!(ids.pad))]
    {
        model.insert(key.into(), id);
    }
    four_bit::describe(source, plan, to, &mut model)?;
    if let Some(name) = gguf.find_str("general.name")? {
        model.insert("_name_or_path".into(), json!(name));
    }
    Ok(vec![
        file("config.json", &Value::Object(model))?,
        file("generation_config.json", &generation_config(&ids))?,
        file("tokenizer.json", &vocabulary.to_tokenizer_json()?)?,
        file("tokenizer_config.json", &tokenizer_config)?,
    ])
}

/// The tokens that the configuration names.
struct Ids {
    bos: Option<u32>,
    pad: Option<u32>,
    /// All that end an answer, the EOS first.
    ends: Vec<u32>,
}

impl Ids {
    fn of(vocabulary: &VocabSource<'_>) -> Ids {
        let SpecialIds { bos, eos, eot, eom, pad, .. } = vocabulary.special;
        let mut ends = Vec::new();
        for id in [eos, eot, eom].into_iter().flatten().chain(vocabulary.end_ids.iter().copied()) {
            if !ends.contains(&id) {
                ends.push(id);
            }
        }
        Ids { bos, pad, ends }
    }

    /// One id, a list of several, or null.
    fn ends(&self) -> Value {
        match self.ends[..] {
            [] => Value::Null,
            [one] => json!(one),
            _ => json!(self.ends),
        }
    }
}

/// Removes the tokens at the end that only fill the embedding table up: `vocab_size` says how many rows
/// there are.
fn drop_padding(vocabulary: &mut VocabSource<'_>) {
    let is_padding = |v: &VocabSource<'_>| {
        let id = v.tokens.len() - 1;
        let unnamed = v.special.named().all(|(_, named)| named as usize != id);
        v.types[id] == TokenType::Unused && v.tokens[id] == format!("[PAD{id}]") && unnamed
    };
    while vocabulary.tokens.len() > 1 && is_padding(vocabulary) {
        vocabulary.tokens.pop();
        vocabulary.types.pop();
    }
}

fn generation_config(ids: &Ids) -> Value {
    json!({ "bos_token_id": ids.bos, "eos_token_id": ids.ends(), "pad_token_id": ids.pad })
}

/// Files beside the weights that belong to a model.
const COMPANIONS: [&str; 5] = ["json", "jinja", "txt", "model", "md"];

/// The files of another folder, with the new type of the weights.
fn taken_over(folder: &HfFolder, source: &ModelSource, plan: &Plan, to: Target) -> Result<Vec<File>> {
    let mut config = folder.config()?.root().clone();
    if to != Target::Keep {
        let dtype = dtype(plan.main_type());
        config.insert("dtype".into(), json!(dtype));
        config.insert("torch_dtype".into(), json!(dtype));
    }
    four_bit::describe(source, plan, to, &mut config)?;
    let mut files = vec![file("config.json", &Value::Object(config))?];
    let path = folder.path();
    let unreadable = |e: std::io::Error| Error::Convert(format!("{} cannot be listed: {e}", path.display()));
    let mut names = Vec::new();
    for entry in std::fs::read_dir(path).map_err(unreadable)? {
        let entry = entry.map_err(unreadable)?;
        // The links of a cache's folder lead to files.
        if let (Ok(name), true) = (entry.file_name().into_string(), entry.path().is_file()) {
            names.push(name);
        }
    }
    names.sort();
    for name in names {
        let suffix = name.rsplit_once('.').map_or("", |(_, suffix)| suffix);
        let companion = COMPANIONS.contains(&suffix) || name == "LICENSE" || name == "NOTICE";
        if companion && name != "config.json" && !name.ends_with(".index.json") {
            files.extend(folder.read(&name)?.map(|bytes| (name, bytes)));
        }
    }
    Ok(files)
}
