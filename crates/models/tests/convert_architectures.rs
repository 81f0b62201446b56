//! Conversion of every architecture: the tiny models of transformers through a folder of another type, and what
//! comes out against what transformers computed of the original.

mod tiny_model;

use std::io::Write;
use std::path::Path;
use std::sync::Arc;

use porism_formats::{Gguf, HfFolder};
use porism_kernels::{BlockType, Isa, Pool};
use porism_models::convert::{Target, convert};
use porism_models::cpu::{Activations, CpuExecutor, CpuState, KvType};
use porism_models::{Batch, HeadRequest, LoadOptions, ModelSource, Pooling, Steps, load_decoder_with, load_encoder};
use serde_json::Value;
use tempfile::TempDir;
use tiny_model::TinyModel;

fn folder() -> TempDir {
    tempfile::tempdir().expect("a temporary folder")
}

fn run(from: &Path, to: &Path, target: Target) -> Result<(), String> {
    let source = ModelSource::open(from).expect("a model");
    convert(&source, to, target, &mut |_, _| {}).map(|_| ()).map_err(|e| e.to_string())
}

/// How far a model is from transformers' values, in standard deviations.
fn error(model: &TinyModel, path: &Path) -> f64 {
    model.error(&rows(model, path))
}

fn rows(model: &TinyModel, path: &Path) -> Vec<Vec<f32>> {
    let source = ModelSource::open(path).expect("a model");
    let mut steps = CpuExecutor::new(Arc::new(Pool::new(1)), Isa::detect(), Activations::F32);
    let mut batch = Batch::single(&model.ids, 0);
    if model.encoder {
        let encoder = load_encoder(&source).unwrap_or_else(|e| panic!("{}: {e}", model.name));
        let mut states = [CpuState::new(&encoder.stack.config, KvType::F32)];
        let x = encoder.hidden(&mut steps, &batch, &mut states).expect("a pass");
        let width = steps.shape(&x).1;
        let all = steps.to_vec(&x).expect("numbers");
        return model.rows.iter().map(|&r| all[r * width..(r + 1) * width].to_vec()).collect();
    }
    let options = LoadOptions { context: Some(model.ids.len()), rope: None };
    let decoder = load_decoder_with(&source, &options).unwrap_or_else(|e| panic!("{}: {e}", model.name));
    batch.wanted = model.rows.clone();
    let mut states = [CpuState::new(&decoder.stack.config, KvType::F32)];
    let out = decoder.forward(&mut steps, &batch, &mut states, HeadRequest::Logits).and_then(|o| o.into_rows());
    let x = out.expect("logits");
    let width = steps.shape(&x).1;
    steps.to_vec(&x).expect("numbers").chunks_exact(width).map(<[f32]>::to_vec).collect()
}

fn json(path: &Path) -> Value {
    serde_json::from_slice(&std::fs::read(path).expect("a file")).expect("JSON")
}

/// Every fixture with a whole model.
fn fixtures() -> Vec<String> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures");
    let mut names: Vec<String> = std::fs::read_dir(path)
        .expect("fixtures")
        .map(|e| e.expect("an entry").path())
        .filter(|path| json(path).get("tensors").is_some())
        .map(|path| path.file_stem().expect("a name").to_str().expect("text").to_owned())
        .collect();
    names.sort();
    names
}

/// What this build does not run.
const NOT_RUN: [&str; 1] = ["stablelm_parallel"];

/// The fixture's configuration; of GPT-2 with the width of its network spelled out, which is four of the model's.
fn config(model: &TinyModel) -> Value {
    let mut config = model.config.clone();
    if config.get("n_inner").is_some_and(Value::is_null) {
        config["n_inner"] = (config["n_embd"].as_u64().expect("a width") * 4).into();
    }
    config
}

/// Kept, the numbers are the same bits; rounded to f16, they are as far off as eleven bits are.
#[test]
fn every_architecture_goes_from_folder_to_folder() {
    let names: Vec<String> = fixtures().into_iter().filter(|n| !NOT_RUN.contains(&n.as_str())).collect();
    assert!(names.len() >= 30, "{names:?}");
    let at = folder();
    let mut failed = Vec::new();
    for name in &names {
        let model = TinyModel::read(name);
        let first = model.write(at.path(), &config(&model));
        let path = |kind: &str| at.path().join(format!("{name}-{kind}"));
        run(&first, &path("keep"), Target::Keep).unwrap_or_else(|e| panic!("{name}: {e}"));
        assert_eq!(rows(&model, &first), rows(&model, &path("keep")), "{name}");
        run(&first, &path("f16"), Target::F16).unwrap_or_else(|e| panic!("{name}: {e}"));
        let opened = HfFolder::open(&path("f16")).expect("a folder");
        assert!(opened.names().all(|n| opened.weight(n).expect("a weight").block() == BlockType::F16), "{name}");
        assert_eq!(json(&path("f16").join("config.json"))["dtype"], "float16");
        let error = error(&model, &path("f16"));
        if error > 0.02 {
            failed.push(format!("{name}: {error:.1e} standard deviations"));
        }
    }
    assert!(failed.is_empty(), "{}", failed.join("\n"));
}

/// Files that llama.cpp's converter made: experts in stacks, tables and routers that stay F32, RoPE's divisors.
#[test]
fn every_architecture_goes_from_file_to_file() {
    let Some(files) = std::env::var_os("PORISM_TEST_TINY_GGUF") else {
        let _ = std::io::stderr()
            .write_all(b"skipped: PORISM_TEST_TINY_GGUF names no folder with the tiny models as GGUF files\n");
        return;
    };
    let at = folder();
    let mut seen = 0;
    for name in fixtures().iter().filter(|n| !NOT_RUN.contains(&n.as_str())) {
        let first = Path::new(&files).join(format!("{name}.gguf"));
        if !first.exists() {
            continue;
        }
        let model = TinyModel::read(name);
        let path = |kind: &str| at.path().join(format!("{name}-{kind}.gguf"));
        run(&first, &path("keep"), Target::Keep).unwrap_or_else(|e| panic!("{name}: {e}"));
        let (a, b) = (Gguf::open(&first).expect("a file"), Gguf::open(&path("keep")).expect("a file"));
        assert_eq!(a.metadata().collect::<Vec<_>>(), b.metadata().collect::<Vec<_>>(), "{name}");
        assert_eq!(a.tensors().len(), b.tensors().len(), "{name}");
        for tensor in a.tensors() {
            let (x, y) = (a.weight(tensor.name()).expect("a weight"), b.weight(tensor.name()).expect("a weight"));
            let twin = b.tensor(tensor.name()).expect("the same tensor");
            assert_eq!((tensor.dims(), x.bytes()), (twin.dims(), y.bytes()), "{name}: {}", tensor.name());
        }
        run(&first, &path("f16"), Target::F16).unwrap_or_else(|e| panic!("{name}: {e}"));
        let b = Gguf::open(&path("f16")).expect("a file");
        for tensor in b.tensors() {
            let table = ["position_embd", "token_types", "ffn_gate_inp"].iter().any(|t| tensor.name().contains(t));
            let want = if tensor.dims().len() == 1 || table { BlockType::F32 } else { BlockType::F16 };
            assert_eq!(tensor.block(), want, "{name}: {}", tensor.name());
        }
        let (before, after) = (rows(&model, &first), rows(&model, &path("f16")));
        let pairs = before.iter().flatten().zip(after.iter().flatten());
        let far = pairs.map(|(x, y)| f64::from((x - y).abs())).fold(0.0, f64::max) / model.std;
        assert!(far < 0.02, "{name}: {far:.1e} standard deviations");
        seen += 1;
    }
    assert!(seen >= 20, "{seen} files in {}", Path::new(&files).display());
}

/// What turns rows into one vector stands in folders of its own: pooling and a projection.
#[test]
fn modules_of_sentence_transformers_go_along() {
    let at = folder();
    let model = TinyModel::read("bert");
    let first = model.write(at.path(), &model.config);
    let modules = serde_json::json!([
        { "idx": 0, "path": "", "type": "sentence_transformers.models.Transformer" },
        { "idx": 1, "path": "1_Pooling", "type": "sentence_transformers.models.Pooling" },
        { "idx": 2, "path": "2_Normalize", "type": "sentence_transformers.models.Normalize" },
    ]);
    std::fs::write(first.join("modules.json"), modules.to_string()).expect("written");
    std::fs::create_dir(first.join("1_Pooling")).expect("a folder");
    std::fs::write(first.join("1_Pooling/config.json"), "{\"pooling_mode_cls_token\": true}").expect("written");
    let (out, empty) = (at.path().join("out"), at.path().join("empty"));
    std::fs::create_dir(&empty).expect("a folder");
    for out in [&out, &empty] {
        run(&first, out, Target::F16).expect("a folder");
        let encoder = load_encoder(&ModelSource::open(out).expect("a model")).expect("an encoder");
        assert_eq!((encoder.pooling, encoder.normalize), (Pooling::Cls, true));
    }
    let mut names: Vec<_> = std::fs::read_dir(at.path()).expect("a folder").map(|e| e.unwrap().file_name()).collect();
    names.sort();
    assert_eq!(names, ["bert", "empty", "out"], "nothing is left behind");

    std::fs::write(first.join("modules.json"), modules.to_string().replace("1_Pooling", "../x")).expect("written");
    let message = run(&first, &at.path().join("no"), Target::F16).expect_err("a path outside");
    assert!(message.contains("../x"), "{message}");
}
