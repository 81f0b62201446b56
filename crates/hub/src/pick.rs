//! Which files of a hub repository a pick means. Pure: names in, files out.

use crate::catalogue::File;
use crate::name::{HubId, Pick};
use crate::{Error, Result};

/// The files that `id` means among all those that its repository lists.
pub(crate) fn pick(id: &HubId, listed: &[File]) -> Result<Vec<File>> {
    let picked = match &id.pick {
        Pick::File(path) => match listed.iter().find(|file| file.path == *path) {
            Some(file) => vec![file.clone()],
            None => {
                return Err(none(id, &format!("there is no file {path}"), names(listed, |_| true)));
            }
        },
        Pick::Quant(label) => vec![quant(id, label, listed)?],
        Pick::Whole => whole(id, listed)?,
    };
    for file in &picked {
        if is_split(&file.path) {
            let why = format!(
                "{} is one part of a split GGUF file, which is not fetched whole: fetch its parts by hand and name the first",
                file.path
            );
            return Err(none(id, &why, Vec::new()));
        }
        if !crate::cache::is_safe(&file.path) {
            let repository = id.to_string();
            return Err(Error::UnsafeName { repository, path: file.path.to_string() });
        }
    }
    Ok(picked)
}

fn none(id: &HubId, why: &str, candidates: Vec<String>) -> Error {
    Error::Pick { name: id.to_string(), why: why.into(), candidates }
}

fn names(listed: &[File], keep: impl Fn(&str) -> bool) -> Vec<String> {
    listed.iter().map(|file| file.path.to_string()).filter(|path| keep(path)).take(40).collect()
}

/// A GGUF file with a language model in it; `mmproj` files hold only the projector of a vision one.
fn is_gguf(path: &str) -> bool {
    let path = path.to_ascii_lowercase();
    path.ends_with(".gguf") && !path.contains("mmproj")
}

/// `...-00001-of-00003.gguf`
fn is_split(path: &str) -> bool {
    let Some(stem) = path.strip_suffix(".gguf") else {
        return false;
    };
    let digits = |s: &str| s.len() == 5 && s.bytes().all(|b| b.is_ascii_digit());
    let mut parts = stem.rsplitn(4, '-');
    let (last, of, first) = (parts.next(), parts.next(), parts.next());
    last.is_some_and(digits) && of == Some("of") && first.is_some_and(digits)
}

/// The GGUF file with the label in its name. One where the label stands alone (`F16`, and not as
/// a part of `BF16`; `Q4_0`, and not of `Q4_0_8_8`) is preferred.
fn quant(id: &HubId, label: &str, listed: &[File]) -> Result<File> {
    let all: Vec<&File> = listed.iter().filter(|file| is_gguf(&file.path)).collect();
    let with = |alone: bool| -> Vec<&File> {
        let fits = |file: &&&File| has_label(&file.path.to_ascii_uppercase(), label, alone);
        all.iter().filter(fits).copied().collect()
    };
    let mut found = with(true);
    if found.is_empty() {
        found = with(false);
    }
    match &found[..] {
        [only] => Ok((*only).clone()),
        [] => {
            let why = format!("no GGUF file has {label} in its name");
            Err(none(id, &why, names(listed, is_gguf)))
        }
        [first, ..] if is_split(&first.path) => {
            let why = format!(
                "{label} is a split GGUF file, which is not fetched whole: fetch its parts by hand and name the first"
            );
            Err(none(id, &why, names(listed, |path| is_gguf(path) && !is_split(path))))
        }
        _ => {
            let why = format!("{label} fits more than one file; name one as owner/repo/file");
            Err(none(id, &why, found.iter().map(|file| file.path.to_string()).collect()))
        }
    }
}

fn has_label(path: &str, label: &str, alone: bool) -> bool {
    let word = |c: char| c.is_ascii_alphanumeric() || c == '_';
    path.match_indices(label).any(|(at, _)| {
        let before = path[..at].chars().next_back();
        let after = path[at + label.len()..].chars().next();
        !alone || !(before.is_some_and(word) || after.is_some_and(word))
    })
}

/// The folder of safetensors with what belongs to it; else the only GGUF file.
fn whole(id: &HubId, listed: &[File]) -> Result<Vec<File>> {
    let root = |path: &str| !path.contains('/');
    let weights: Vec<&File> =
        listed.iter().filter(|file| root(&file.path) && file.path.ends_with(".safetensors")).collect();
    if !weights.is_empty() {
        // Some repositories carry a second copy under another name (consolidated.safetensors).
        let usual = |file: &&&File| file.path.starts_with("model");
        let of_model: Vec<&File> = weights.iter().filter(usual).copied().collect();
        let weights = if of_model.is_empty() { weights } else { of_model };
        let beside = listed.iter().filter(|file| is_beside_weights(&file.path));
        return Ok(weights.into_iter().chain(beside).cloned().collect());
    }
    let ggufs = names(listed, is_gguf);
    match &ggufs[..] {
        [only] => Ok(listed.iter().filter(|file| file.path == *only).cloned().collect()),
        [] => {
            let why = "the repository has no safetensors and no GGUF file; other formats are not read";
            Err(none(id, why, names(listed, |_| true)))
        }
        _ => {
            let why = "there is more than one GGUF file; name one as owner/repo:quant or owner/repo/file";
            Err(none(id, why, ggufs))
        }
    }
}

/// Configuration, tokenizer and chat template, and sentence-transformers' pooling.
fn is_beside_weights(path: &str) -> bool {
    let known = ["tokenizer.model", "vocab.txt", "merges.txt", "1_Pooling/config.json"];
    let kind = path.ends_with(".json") || path.ends_with(".jinja");
    known.contains(&path) || (kind && !path.contains('/') && !path.starts_with('.'))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn picked(id: &str, listed: &[&str]) -> Result<Vec<String>> {
        let file = |path: &&str| File { path: path.to_string().into(), bytes: 1, sha256: None };
        let listed: Vec<File> = listed.iter().map(file).collect();
        let files = pick(&HubId::parse(id).unwrap().unwrap(), &listed)?;
        Ok(files.into_iter().map(|file| file.path.into_owned()).collect())
    }

    #[test]
    fn a_quantization_picks_one_file_or_says_which_there_are() {
        let listed = [
            "README.md",
            "m-BF16.gguf",
            "m-F16.gguf",
            "m.Q4_0.gguf",
            "m.Q4_0_8_8.gguf",
            "m.Q4_K_M.gguf",
            "m.Q4_K_S.gguf",
            "mmproj-m-F16.gguf",
            "big/m-Q8_0-00001-of-00002.gguf",
            "big/m-Q8_0-00002-of-00002.gguf",
        ];
        assert_eq!(picked("a/b:q4_k_m", &listed).unwrap(), ["m.Q4_K_M.gguf"]);
        assert_eq!(picked("a/b:f16", &listed).unwrap(), ["m-F16.gguf"]);
        assert_eq!(picked("a/b:Q4_0", &listed).unwrap(), ["m.Q4_0.gguf"]);
        assert_eq!(picked("a/b/m-BF16.gguf", &listed).unwrap(), ["m-BF16.gguf"]);
        let error = |id| picked(id, &listed).unwrap_err().to_string();
        let ambiguous = error("a/b:q4_k");
        assert!(ambiguous.contains("m.Q4_K_M.gguf") && ambiguous.contains("m.Q4_K_S.gguf"));
        assert!(!ambiguous.contains("m.Q4_0"), "{ambiguous}");
        assert!(error("a/b:q2_k").contains("no GGUF file has Q2_K"));
        assert!(error("a/b:q8_0").contains("split"));
        assert!(error("a/b/big/m-Q8_0-00001-of-00002.gguf").contains("split"));
        assert!(error("a/b/nothing.gguf").contains("there is no file nothing.gguf"));
        assert!(error("a/b").contains("more than one GGUF file"));
    }

    #[test]
    fn a_bare_repository_is_its_safetensors_folder_or_its_only_gguf() {
        let folder = [
            ".gitattributes",
            "README.md",
            "config.json",
            "consolidated.safetensors",
            "model-00001-of-00002.safetensors",
            "model-00002-of-00002.safetensors",
            "model.safetensors.index.json",
            "onnx/model.onnx",
            "pytorch_model.bin",
            "tokenizer.json",
            "chat_template.jinja",
            "1_Pooling/config.json",
            "other/config.json",
        ];
        let mut files = picked("a/b", &folder).unwrap();
        files.sort();
        assert_eq!(
            files,
            [
                "1_Pooling/config.json",
                "chat_template.jinja",
                "config.json",
                "model-00001-of-00002.safetensors",
                "model-00002-of-00002.safetensors",
                "model.safetensors.index.json",
                "tokenizer.json",
            ]
        );
        assert_eq!(picked("a/b", &["x.gguf", "mmproj-x.gguf"]).unwrap(), ["x.gguf"]);
        let bin = picked("a/b", &["config.json", "pytorch_model.bin"]).unwrap_err().to_string();
        assert!(bin.contains("no safetensors") && bin.contains("pytorch_model.bin"), "{bin}");
    }

    #[test]
    fn hostile_names_are_refused_when_they_are_picked() {
        for bad in ["../x.gguf", "/etc/x.gguf", "a/../../x.gguf", ".x/y.gguf"] {
            let error = picked("a/b", &[bad]).unwrap_err();
            assert!(matches!(error, Error::UnsafeName { .. }), "{bad}: {error}");
        }
        // The whole folder is listed by plain names only; a hostile one is never part of it.
        let files = picked("a/b", &["model.safetensors", "../evil.json", "/evil.json"]).unwrap();
        assert_eq!(files, ["model.safetensors"]);
    }
}
