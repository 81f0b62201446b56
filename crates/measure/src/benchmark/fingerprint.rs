//! Telling one model's files from another's without reading all of them.

use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};

use sha2::{Digest, Sha256};

use crate::{Error, Result};

/// Bytes at each end of a file that are looked at.
const END: u64 = 1 << 20;
/// Samples between the ends, and the bytes of each.
const SAMPLES: (u64, u64) = (64, 1 << 16);

/// A hash of a model: of a file, of all parts of a split one, or of the files of a folder that a model is made of; each by its
/// size, its first megabyte, its last, and samples between them.
///
/// # Errors
/// Something cannot be read.
pub fn fingerprint(path: &Path) -> Result<String> {
    let list = |folder: &Path, belongs: &dyn Fn(&str) -> bool| -> Result<Vec<PathBuf>> {
        let entries = std::fs::read_dir(folder).map_err(Error::io(format!("read the folder {}", folder.display())))?;
        let named = |path: &PathBuf| path.is_file() && path.file_name().and_then(|n| n.to_str()).is_some_and(belongs);
        let mut files: Vec<PathBuf> = entries.flatten().map(|entry| entry.path()).filter(named).collect();
        files.sort();
        Ok(files)
    };
    let files = if path.is_dir() {
        list(path, &part_of_a_model)?
    } else {
        match path.file_name().and_then(|name| name.to_str()).and_then(split) {
            Some((before, after)) => {
                let folder = path.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."));
                list(folder, &|name| split(name) == Some((before, after)))?
            }
            None => vec![path.to_path_buf()],
        }
    };
    let mut hash = Sha256::new();
    for file in &files {
        sample(file, &mut hash).map_err(Error::io(format!("read {}", file.display())))?;
    }
    Ok(hash.finalize().iter().map(|byte| format!("{byte:02x}")).collect())
}

/// Whether a file of a folder is weights, configuration or tokenizer: a log or a report that lies beside them is not.
fn part_of_a_model(name: &str) -> bool {
    let weights = [".safetensors", ".bin", ".gguf"].iter().any(|ending| name.ends_with(ending));
    let starts = [
        "config",
        "adapter_config",
        "generation_config",
        "tokenizer",
        "vocab",
        "merges",
        "special_tokens",
        "added_tokens",
        "chat_template",
    ];
    weights || name.ends_with(".index.json") || starts.iter().any(|start| name.starts_with(start))
}

/// What stands around the number of a part, in `name-00001-of-00005.gguf`.
fn split(name: &str) -> Option<(&str, &str)> {
    let (before, count) = name.rsplit_once("-of-")?;
    let (name, number) = before.rsplit_once('-')?;
    (number.len() == 5 && number.bytes().all(|b| b.is_ascii_digit())).then_some((name, count))
}

fn sample(path: &Path, hash: &mut Sha256) -> std::io::Result<()> {
    let mut file = File::open(path)?;
    let len = file.metadata()?.len();
    hash.update(len.to_le_bytes());
    let mut part = Vec::new();
    let mut read = |from: u64, most: u64| -> std::io::Result<()> {
        part.clear();
        file.seek(SeekFrom::Start(from))?;
        (&file).take(most).read_to_end(&mut part)?;
        hash.update(&part);
        Ok(())
    };
    read(0, END)?;
    if len > 2 * END {
        let (count, most) = SAMPLES;
        (0..count).try_for_each(|i| read(END + (len - 2 * END) / count * i, most))?;
    }
    read(len.saturating_sub(END), END)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_part_counts_and_a_log_does_not() {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        let write = |name: &str, byte: u8| std::fs::write(at(name), vec![byte; 40]).unwrap();
        for name in ["m-00001-of-00002.gguf", "m-00002-of-00002.gguf", "config.json", "model.safetensors"] {
            write(name, 1);
        }
        let (file, whole) = (at("m-00001-of-00002.gguf"), folder.path().to_owned());
        let of = |path: &Path| fingerprint(path).unwrap();
        let (split, all) = (of(&file), of(&whole));
        write("log.jsonl", 2);
        write("results.json", 2);
        write("n-00002-of-00002.gguf", 2);
        assert_eq!(of(&file), split);
        std::fs::remove_file(at("n-00002-of-00002.gguf")).unwrap();
        assert_eq!(of(&whole), all);
        write("m-00002-of-00002.gguf", 2);
        assert_ne!(of(&file), split);
        assert_ne!(of(&whole), all);
        // A change in the middle of a large file.
        let mut large = vec![0u8; 9 << 20];
        std::fs::write(at("large.gguf"), &large).unwrap();
        let before = of(&at("large.gguf"));
        large[3 << 20..5 << 20].fill(1);
        std::fs::write(at("large.gguf"), &large).unwrap();
        assert_ne!(of(&at("large.gguf")), before);
    }
}
