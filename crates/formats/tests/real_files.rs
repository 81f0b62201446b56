//! Files that other programs made: the default model in `PORISM_TEST_MODELS`, vocabularies in
//! `PORISM_TEST_DATA`.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use porism_formats::Gguf;
use porism_formats::gguf::{GgufHeader, GgufWriter};

/// A path below the folder that the variable names, or one visible line saying that it is not there.
fn find(variable: &str, below: &str) -> Option<PathBuf> {
    let path = std::env::var_os(variable).map(|folder| Path::new(&folder).join(below));
    let path = path.filter(|path| path.exists());
    if path.is_none() {
        // Not `eprintln!`, which the test harness swallows; one call, so that lines stay whole.
        let line = format!("skipped: {variable} names no folder with {below}\n");
        let _ = std::io::stderr().write_all(line.as_bytes());
    }
    path
}

fn model() -> Option<PathBuf> {
    find("PORISM_TEST_MODELS", "SmolLM2-135M-Instruct.Q4_1.gguf")
}

/// What the Python package `gguf` says about the file.
#[test]
fn the_header_is_read() {
    let Some(path) = model() else { return };
    let file = Gguf::open(&path).unwrap();
    assert_eq!(file.metadata().len(), 33);
    assert_eq!(file.tensors().len(), 272);
    assert_eq!(file.tensors().iter().map(|t| t.offset()).min(), Some(1_785_664));
    assert_eq!(file.get_u32("llama.block_count").unwrap(), 30);
    assert_eq!(file.get_f32("llama.rope.freq_base").unwrap(), 100_000.0);
    assert_eq!(file.strings("tokenizer.ggml.tokens").unwrap().len(), 49_152);
    assert_eq!(file.strings("tokenizer.ggml.merges").unwrap().len(), 48_900);
    assert_eq!(file.integers::<i32>("tokenizer.ggml.token_type").unwrap().len(), 49_152);
    let embeddings = file.weight("token_embd.weight").unwrap();
    assert_eq!((embeddings.rows(), embeddings.cols()), (49_152, 576));
}

/// The checksum over all weights that `scripts/fixtures/compare_model.py` prints for the decoder of the
/// Python package `gguf`.
#[test]
fn all_weights_decode_to_the_same_bits() {
    let Some(path) = model() else { return };
    let file = Gguf::open(&path).unwrap();
    let mut checksum = 0u64;
    let mut odd = 1u64;
    for tensor in file.tensors() {
        for value in file.weight(tensor.name()).unwrap().to_f32() {
            checksum = checksum.wrapping_add(u64::from(value.to_bits()).wrapping_mul(odd));
            odd += 2;
        }
    }
    assert_eq!(odd, 2 * 134_515_008 + 1);
    assert_eq!(checksum, 0x73ef_1267_e142_d240);
}

/// A file of llama.cpp's own tools, copied value by value and tensor by tensor, is the same file.
#[test]
fn a_copy_has_the_same_bytes() {
    let Some(path) = model() else { return };
    let file = Gguf::open(&path).unwrap();
    let mut header = GgufHeader::new();
    for (key, value) in file.metadata() {
        header.set(key, value);
    }
    for tensor in file.tensors() {
        header.tensor(tensor.name(), tensor.dims(), tensor.block());
    }
    let mut writer = GgufWriter::new(Vec::new(), Path::new("copy"), &header).unwrap();
    for tensor in file.tensors() {
        writer.write(tensor.name(), file.weight(tensor.name()).unwrap().bytes()).unwrap();
    }
    let copy = writer.finish().unwrap();
    assert!(copy == std::fs::read(&path).unwrap(), "the copy differs");
    assert!(Gguf::from_bytes(Arc::new(copy), "copy").is_ok());
}

/// llama.cpp's vocabulary files: no tensors, and nothing after the header.
#[test]
fn vocabularies_are_read() {
    let Some(folder) = find("PORISM_TEST_DATA", "tokenizers") else { return };
    let mut sizes = Vec::new();
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_some_and(|e| e == "gguf") {
            let file = Gguf::open(&path).unwrap();
            assert!(file.tensors().is_empty());
            let tokens = file.byte_strings("tokenizer.ggml.tokens").unwrap();
            sizes.push((path.file_stem().unwrap().to_string_lossy().into_owned(), tokens.count()));
        }
    }
    sizes.sort();
    let sizes: Vec<_> = sizes.iter().map(|(name, size)| (name.as_str(), *size)).collect();
    // Counts by the Python package `gguf`.
    let expected = [
        ("ggml-vocab-bert-bge", 30522),
        ("ggml-vocab-gpt-2", 50257),
        ("ggml-vocab-llama-bpe", 128256),
        ("ggml-vocab-llama-spm", 32000),
        ("ggml-vocab-phi-3", 32064),
        ("ggml-vocab-qwen2", 151936),
    ];
    assert_eq!(sizes, expected);
}
