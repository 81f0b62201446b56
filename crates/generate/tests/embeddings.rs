//! Embeddings of whole texts against sentence-transformers and transformers (fixtures by
//! `scripts/fixtures/embeddings.py`): tokens, cosine and length.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use porism_generate::Embedder;
use porism_kernels::{Isa, Pool};
use porism_models::cpu::{Activations, CpuExecutor};
use porism_models::{ModelSource, load_encoder};
use serde_json::Value;

fn skip(what: &str) {
    let _ = std::io::stderr().write_all(format!("skipped: {what}\n").as_bytes());
}

/// Compares a model with the rows of its fixture.
fn compare(model: &Path, fixture: &str) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../models/tests/fixtures").join(fixture);
    let value: Value = serde_json::from_slice(&std::fs::read(path).expect("a fixture")).expect("JSON");
    let unit = value["unit"].as_f64().expect("a unit");
    let source = ModelSource::open(model).expect("a model");
    let (encoder, tokenizer) = (load_encoder(&source).expect("an encoder"), source.tokenizer().expect("a tokenizer"));
    let steps = CpuExecutor::new(Arc::new(Pool::new(2)), Isa::detect(), Activations::F32);
    let mut embedder = Embedder::new(&encoder, &tokenizer, steps);
    let rows = value["rows"].as_array().expect("rows");
    let word = |row: &Value, key: &str| row[key].as_str().expect("a text").to_string();
    let texts: Vec<String> = rows.iter().map(|row| word(row, "prompt") + &word(row, "text")).collect();
    for (row, text) in rows.iter().zip(&texts) {
        let ids: Vec<u64> = row["tokens"].as_array().expect("ids").iter().filter_map(Value::as_u64).collect();
        let (got, _) = embedder.tokens(text).expect("tokens");
        assert_eq!(got.iter().map(|&id| u64::from(id)).collect::<Vec<_>>(), ids, "{text}");
    }
    let embedded = embedder.embed(&texts, &mut |_| {}).expect("vectors");
    for ((row, text), got) in rows.iter().zip(&texts).zip(&embedded) {
        let want: Vec<f64> =
            row["embedding"].as_array().expect("numbers").iter().filter_map(Value::as_f64).map(|v| v * unit).collect();
        assert_eq!(got.vector.len(), want.len());
        let dot = |a: &[f64], b: &[f64]| a.iter().zip(b).map(|(a, b)| a * b).sum::<f64>();
        let got: Vec<f64> = got.vector.iter().map(|&v| f64::from(v)).collect();
        let (length, wanted) = (dot(&got, &got).sqrt(), dot(&want, &want).sqrt());
        let cosine = dot(&got, &want) / (length * wanted);
        assert!(cosine > 0.9999, "{fixture}, {text}: cosine {cosine}");
        assert!((length - wanted).abs() < 1e-3, "{fixture}, {text}: length {length} and {wanted}");
    }
}

#[test]
fn minilm_embeds_as_sentence_transformers_does() {
    let home = std::env::var_os("PORISM_HOME");
    let cache = porism_hub::CacheDir::resolve(home, std::env::var_os("XDG_CACHE_HOME"), std::env::var_os("HOME"));
    let cache = cache.expect("a cache");
    let resolved = porism_hub::resolve("all-minilm-l6-v2", &cache, &porism_hub::Network::default()).expect("a name");
    let path = match resolved {
        porism_hub::Resolved::Present(path) => path,
        porism_hub::Resolved::Fetch(plan) => {
            match porism_hub::pull(&plan, &porism_hub::Network::default(), &mut porism_hub::Silent) {
                Ok(path) => path,
                Err(error) => return skip(&format!("the embedding model cannot be fetched: {error}")),
            }
        }
    };
    compare(&path, "embeddings_minilm.json");
}

#[test]
fn other_encoders_embed_as_their_references_do() {
    let Some(folder) = std::env::var_os("PORISM_TEST_MODELS").map(PathBuf::from) else {
        return skip("PORISM_TEST_MODELS names no folder of models");
    };
    for (model, fixture) in [
        ("mpnet/all-mpnet-base-v2", "embeddings_mpnet.json"),
        ("nomic-embed-text-v1.5.f16.gguf", "embeddings_nomic.json"),
        ("embeddinggemma-300m", "embeddings_embeddinggemma.json"),
    ] {
        let path = folder.join(model);
        if path.exists() {
            compare(&path, fixture);
        } else {
            skip(&format!("no {model} among the models"));
        }
    }
}
