//! What sentence-transformers keeps beside a model: `modules.json` lists pooling, dense layers and normalization, each
//! with a folder of its own. GGUF files have a pooling type.

use porism_formats::HfFolder;

use super::check::problem;
use crate::Result;
use crate::encoder::{Encoder, Pooling};
use crate::source::ModelSource;

/// Completes an encoder with what stands beside it; without anything, its rows' mean at length one.
pub(super) fn complete(source: &ModelSource, mut encoder: Encoder) -> Result<Encoder> {
    let folder = match source {
        ModelSource::Gguf(gguf) => {
            let architecture = source.architecture()?;
            encoder.pooling = match gguf.find_u32(&format!("{architecture}.pooling_type"))? {
                Some(2) => Pooling::Cls,
                Some(3) => Pooling::Last,
                None | Some(0 | 1) => Pooling::Mean,
                Some(other) => return Err(problem(source, format!("pooling of type {other} is unknown"))),
            };
            return Ok(encoder);
        }
        ModelSource::Hf(folder) => folder,
    };
    if let Some(settings) = folder.json("sentence_bert_config.json")? {
        let longest = settings.find_usize("max_seq_length")?.unwrap_or(encoder.longest);
        encoder.longest = encoder.longest.min(longest.max(2));
    }
    let Some(list) = folder.read("modules.json")? else { return Ok(encoder) };
    let list: Vec<serde_json::Map<String, serde_json::Value>> = serde_json::from_slice(&list)
        .map_err(|e| problem(source, format!("modules.json is no list of modules: {e}")))?;
    encoder.normalize = false;
    for module in list {
        let text = |key: &str| module.get(key).and_then(|v| v.as_str()).unwrap_or_default();
        let (kind, path) = (text("type"), text("path"));
        // The class's name: its module path has changed over the years.
        match kind.rsplit('.').next().unwrap_or_default() {
            "Transformer" => {}
            "Normalize" => encoder.normalize = true,
            "Pooling" => encoder.pooling = pooling(source, folder, path)?,
            "Dense" => dense(source, folder, path, &mut encoder)?,
            other => {
                return Err(problem(source, format!("modules.json has a module of type \"{other}\", unknown here")));
            }
        }
    }
    Ok(encoder)
}

/// Folders of modules are named by a file: only plain names are followed.
fn plain<'a>(source: &ModelSource, path: &'a str) -> Result<&'a str> {
    let fine = !path.is_empty() && path.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_' || b == b'-');
    fine.then_some(path).ok_or_else(|| problem(source, format!("modules.json names the folder \"{path}\"")))
}

fn pooling(source: &ModelSource, folder: &HfFolder, path: &str) -> Result<Pooling> {
    let name = format!("{}/config.json", plain(source, path)?);
    let Some(config) = folder.json(&name)? else { return Err(problem(source, format!("{name} is missing"))) };
    let on = |key: &str| -> Result<bool> { Ok(config.find_bool(key)?.unwrap_or(false)) };
    // sentence-transformers 5.3 and later name the mode; earlier ones have a switch for each.
    if let Some(mode) = config.find_str("pooling_mode")? {
        return match mode {
            "mean" => Ok(Pooling::Mean),
            "cls" => Ok(Pooling::Cls),
            "lasttoken" => Ok(Pooling::Last),
            other => {
                Err(problem(source, format!("{name}: pooling \"{other}\"; this build knows mean, cls and lasttoken")))
            }
        };
    }
    let others = ["pooling_mode_max_tokens", "pooling_mode_mean_sqrt_len_tokens", "pooling_mode_weightedmean_tokens"];
    for key in others {
        if on(key)? {
            return Err(problem(source, format!("{name}: {key}; this build pools by mean, cls and last token")));
        }
    }
    let modes = [
        ("pooling_mode_mean_tokens", Pooling::Mean),
        ("pooling_mode_cls_token", Pooling::Cls),
        ("pooling_mode_lasttoken", Pooling::Last),
    ];
    let mut chosen = Vec::new();
    for (key, mode) in modes {
        if on(key)? {
            chosen.push(mode);
        }
    }
    match chosen.as_slice() {
        [one] => Ok(*one),
        _ => Err(problem(source, format!("{name} turns on {} ways of pooling, not one", chosen.len()))),
    }
}

fn dense(source: &ModelSource, folder: &HfFolder, path: &str, encoder: &mut Encoder) -> Result<()> {
    let path = plain(source, path)?;
    let part = HfFolder::open(&folder.path().join(path))?;
    if let Some(act) = part.config()?.find_str("activation_function")?.filter(|a| !a.ends_with("Identity")) {
        return Err(problem(source, format!("{path}: a dense layer with {act}; this build knows the identity")));
    }
    if part.tensor("linear.bias").is_some() {
        return Err(problem(source, format!("{path}: a dense layer with a bias, which this build does not do")));
    }
    encoder.push_dense(part.weight("linear.weight")?)
}
