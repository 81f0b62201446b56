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
use porism_models::rope::RopeScaling;
use porism_models::{
    Batch, HeadRequest, LoadOptions, ModelConfig, ModelSource, Pooling, Steps, load_decoder_with, load_encoder,
};
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

/// A tokenizer with fewer tokens than the tiny models have rows.
fn add_tokenizer(folder: &Path) {
    let mut vocab: serde_json::Map<String, Value> =
        ('!'..='u').enumerate().map(|(id, c)| (c.to_string(), id.into())).collect();
    let end = vocab.len();
    vocab.insert("</s>".into(), end.into());
    let tokenizer = serde_json::json!({
        "version": "1.0",
        "added_tokens": [{
            "id": end, "content": "</s>", "single_word": false, "lstrip": false, "rstrip": false,
            "normalized": false, "special": true,
        }],
        "normalizer": null,
        "pre_tokenizer": { "type": "ByteLevel", "add_prefix_space": false, "trim_offsets": true, "use_regex": true },
        "post_processor": null,
        "decoder": { "type": "ByteLevel", "add_prefix_space": false, "trim_offsets": true, "use_regex": true },
        "model": { "type": "BPE", "vocab": vocab, "merges": [] },
    });
    let settings = serde_json::json!({ "eos_token": "</s>" });
    std::fs::write(folder.join("tokenizer.json"), tokenizer.to_string()).expect("tokenizer.json");
    std::fs::write(folder.join("tokenizer_config.json"), settings.to_string()).expect("tokenizer_config.json");
}

/// A fixture with some settings changed; `null` takes one away.
fn changed(model: &TinyModel, changes: &Value) -> Value {
    let mut config = config(model);
    for (key, value) in changes.as_object().expect("settings") {
        config[key] = value.clone();
    }
    config
}

/// The description that a reader makes of a file, without what the two formats have different words for.
fn described(path: &Path) -> ModelConfig {
    let source = ModelSource::open(path).expect("a model");
    let mut config = load_encoder(&source).expect("a model").stack.config;
    config.norm_offset = 0.0;
    for rope in &mut config.ropes {
        if let RopeScaling::Llama3 { .. } | RopeScaling::Divisors(_) = rope.scaling {
            rope.scaling = RopeScaling::None;
        }
    }
    config
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

    // A file names the pooling.
    add_tokenizer(&first);
    let file = at.path().join("bert.gguf");
    run(&first, &file, Target::Keep).expect("a file");
    assert_eq!(Gguf::open(&file).expect("a file").get_u32("bert.pooling_type").expect("a number"), 2);
    let encoder = load_encoder(&ModelSource::open(&file).expect("a model")).expect("an encoder");
    assert_eq!((encoder.pooling, encoder.normalize), (Pooling::Cls, true));

    std::fs::write(first.join("modules.json"), modules.to_string().replace("1_Pooling", "../x")).expect("written");
    let message = run(&first, &at.path().join("no"), Target::F16).expect_err("a path outside");
    assert!(message.contains("../x"), "{message}");
}

/// Fixtures that convert from one world to the other, and what is changed in them first: what GGUF files cannot say.
fn across() -> Vec<(&'static str, Value)> {
    use serde_json::json;
    vec![
        ("llama", json!({})),
        ("llama_linear", json!({})),
        ("qwen2", json!({})),
        ("qwen2_yarn", json!({})),
        ("qwen3", json!({})),
        ("mistral", json!({ "sliding_window": null })),
        ("smollm3", json!({})),
        ("gemma2", json!({ "query_pre_attn_scalar": 8 })),
        ("gemma3_text", json!({ "query_pre_attn_scalar": 8 })),
        ("phi3", json!({})),
        ("phi3_longrope_short", json!({})),
        ("phi3_longrope_long", json!({})),
        ("starcoder2", json!({ "sliding_window": null })),
        ("stablelm", json!({})),
        ("stablelm_qkv_bias", json!({})),
        ("bert", json!({})),
    ]
}

fn distance(model: &TinyModel, a: &[Vec<f32>], b: &[Vec<f32>]) -> f64 {
    assert_eq!(a.len(), b.len());
    let pairs = a.iter().flatten().zip(b.iter().flatten());
    pairs.map(|(x, y)| f64::from((x - y).abs())).fold(0.0, f64::max) / model.std
}

/// To a file and back: the same description, the same weights, the logits but for the order of sums.
#[test]
fn listed_architectures_go_across_and_back() {
    let at = folder();
    for (name, changes) in across() {
        let model = TinyModel::read(name);
        let first = model.write(at.path(), &changed(&model, &changes));
        add_tokenizer(&first);
        let (gguf, back) = (at.path().join(format!("{name}.gguf")), at.path().join(format!("{name}-back")));
        run(&first, &gguf, Target::Keep).unwrap_or_else(|e| panic!("{name}: {e}"));
        run(&gguf, &back, Target::Keep).unwrap_or_else(|e| panic!("{name}: {e}"));
        let want = rows(&model, &first);
        if changes.as_object().is_some_and(|c| c.is_empty()) {
            assert!(model.error(&want) < 1e-3, "{name}");
        }
        for path in [&gguf, &back] {
            assert_eq!(described(path), described(&first), "{name}");
            let far = distance(&model, &want, &rows(&model, path));
            assert!(far < 1e-5, "{name}: {far:.1e} standard deviations");
        }
        let (a, b) = (HfFolder::open(&first).expect("a folder"), HfFolder::open(&back).expect("a folder"));
        for tensor in b.names() {
            let (x, y) = (a.weight(tensor).expect(tensor).to_f32(), b.weight(tensor).expect(tensor).to_f32());
            // Of a factor less one, what the factor in f32 holds comes back.
            let same = |x: &f32, y: &f32| x == y || name.starts_with("gemma") && x + 1.0 == y + 1.0;
            assert!(x.iter().zip(&y).all(|(x, y)| same(x, y)), "{name}: {tensor}");
        }
        let count = a.names().filter(|n| !n.contains("pooler.")).count();
        assert_eq!(b.names().count(), count, "{name}");
    }
}

/// Llama 3's rule is evaluated on the way into a file. On the way back it is recognized where it is a published one.
#[test]
fn the_rule_of_llama_3_becomes_divisors() {
    let at = folder();
    let model = TinyModel::read("llama_tied_llama3");
    let path = |name: &str| at.path().join(name);
    let first = model.write(at.path(), &model.config);
    add_tokenizer(&first);
    run(&first, &path("tiny.gguf"), Target::Keep).expect("a file");
    assert!(error(&model, &path("tiny.gguf")) < 1e-3);
    assert!(distance(&model, &rows(&model, &first), &rows(&model, &path("tiny.gguf"))) < 1e-5);
    assert_eq!(described(&first), described(&path("tiny.gguf")));
    let message = run(&path("tiny.gguf"), &path("no"), Target::Keep).expect_err("a rule of its own");
    assert!(message.contains("its rotary embedding is stretched (a divisor for each frequency)"), "{message}");

    let published = &mut model.config.clone()["rope_parameters"];
    published["original_max_position_embeddings"] = 8192.into();
    published["rope_theta"] = 500_000.0.into();
    let first = model
        .write(&folder_in(&at, "published"), &changed(&model, &serde_json::json!({ "rope_parameters": published })));
    add_tokenizer(&first);
    run(&first, &path("published.gguf"), Target::Keep).expect("a file");
    run(&path("published.gguf"), &path("back"), Target::Keep).expect("a folder");
    assert_eq!(&json(&path("back").join("config.json"))["rope_parameters"], published);
}

fn folder_in(at: &TempDir, name: &str) -> std::path::PathBuf {
    let path = at.path().join(name);
    std::fs::create_dir(&path).expect("a folder");
    path
}

/// What the other format cannot say is refused with its reason, and nothing is left behind.
#[test]
fn what_the_other_format_cannot_say_is_refused() {
    use serde_json::json;
    let at = folder();
    let out = folder();
    for (name, changes, words) in [
        ("mistral", json!({}), "layer 0 has a window of 6 positions, which a GGUF file of a llama cannot say"),
        ("qwen2_sliding", json!({}), "has a window of"),
        ("starcoder2", json!({}), "layer 0 has a window of 6 positions"),
        ("gemma2", json!({}), "divided by the root of 12.0 (query_pre_attn_scalar), not of 8"),
        ("gemma2", json!({ "query_pre_attn_scalar": 8, "attn_logit_softcapping": null }), "have no cap"),
        ("gemma2", json!({ "query_pre_attn_scalar": 8, "sliding_window": null }), "layer 0 has no window"),
        ("gemma3_text", json!({ "query_pre_attn_scalar": 8, "attn_logit_softcapping": 5.0 }), "its scores have a cap"),
        ("llama_dynamic", json!({}), "its rotary embedding is stretched (dynamic)"),
        ("llama", json!({ "hidden_act": "gelu" }), "its non-linearity is GeluErf"),
        ("smollm3", json!({ "no_rope_layers": [1, 1, 0, 0] }), "layer 2 has no rotary embedding"),
        (
            "mixtral",
            json!({}),
            "is a mixtral model: between GGUF files and Hugging Face folders this build converts llama",
        ),
        ("gpt2", json!({}), "is a gpt2 model"),
        ("roberta", json!({}), "is a roberta model"),
        ("gemma3_bidirectional", json!({}), "is a gemma3_text model"),
    ] {
        let model = TinyModel::read(name);
        let first = model.write(at.path(), &changed(&model, &changes));
        add_tokenizer(&first);
        let message = run(&first, &out.path().join("out.gguf"), Target::Keep).expect_err(name);
        assert!(message.contains(words), "{name}: {message}");
        assert_eq!(std::fs::read_dir(out.path()).expect("a folder").count(), 0, "{name}");
    }
}

/// Metadata and weights as llama.cpp's converter writes them, but for the vocabulary and what only describes.
#[test]
fn files_are_as_the_converter_of_llama_cpp_writes_them() {
    let Some(files) = std::env::var_os("PORISM_TEST_TINY_GGUF") else {
        let _ = std::io::stderr()
            .write_all(b"skipped: PORISM_TEST_TINY_GGUF names no folder with the tiny models as GGUF files\n");
        return;
    };
    let at = folder();
    let mut cases = across();
    cases.push(("llama_tied_llama3", serde_json::json!({})));
    let mut seen = 0;
    for (name, changes) in cases {
        // Variants with the settings that GGUF files can say have names of their own.
        let variant = if changes.as_object().is_some_and(|c| c.is_empty()) { "" } else { "_gguf" };
        let theirs = Path::new(&files).join(format!("{name}{variant}.gguf"));
        if !theirs.exists() {
            continue;
        }
        let model = TinyModel::read(name);
        let first = model.write(at.path(), &changed(&model, &changes));
        add_tokenizer(&first);
        let ours = at.path().join(format!("{name}.gguf"));
        run(&first, &ours, Target::Keep).unwrap_or_else(|e| panic!("{name}: {e}"));
        let (theirs, ours) = (Gguf::open(&theirs).expect("a file"), Gguf::open(&ours).expect("a file"));
        for (key, value) in theirs.metadata() {
            let describes = ["general.name", "general.size_label"].contains(&key);
            if !describes && (!key.starts_with("tokenizer.") || key.ends_with("token_type_count")) {
                assert_eq!(ours.get(key), Some(value), "{name}: {key}");
            }
        }
        let mut names: Vec<_> = theirs.tensors().iter().map(|t| t.name()).collect();
        let mut own: Vec<_> = ours.tensors().iter().map(|t| t.name()).collect();
        names.sort_unstable();
        own.sort_unstable();
        assert_eq!(names, own, "{name}");
        for tensor in theirs.tensors() {
            let twin = ours.tensor(tensor.name()).expect("the same tensor");
            assert_eq!((tensor.dims(), tensor.block()), (twin.dims(), twin.block()), "{name}: {}", tensor.name());
            let (x, y) =
                (theirs.weight(tensor.name()).expect("a weight"), ours.weight(tensor.name()).expect("a weight"));
            if tensor.name() == "rope_freqs.weight" {
                // Computed in another order of operations.
                assert!(x.to_f32().iter().zip(y.to_f32()).all(|(x, y)| (x - y).abs() <= 1e-6 * y), "{name}");
            } else {
                assert_eq!(x.bytes(), y.bytes(), "{name}: {}", tensor.name());
            }
        }
        seen += 1;
    }
    assert!(seen >= 15, "{seen} files in {}", Path::new(&files).display());
}
