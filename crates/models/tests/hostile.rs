//! Models that lie about their numbers are refused or load; they never make the loader panic or allocate without bound.

mod tiny_model;

use std::sync::Arc;

use porism_formats::Gguf;
use porism_models::{LoadOptions, ModelSource, load_decoder_with, load_encoder};
use serde_json::{Value, json};
use tiny_model::TinyModel;

const MODELS: [&str; 9] = [
    "gemma3_text",
    "gpt2",
    "llama_tied_llama3",
    "mpnet",
    "phi3_longrope_long",
    "qwen2_moe",
    "qwen2_yarn",
    "smollm3",
    "stablelm",
];

fn lies() -> Vec<Value> {
    vec![
        json!(0),
        json!(1),
        json!(3),
        json!(-1),
        json!(4096),
        json!(1u64 << 31),
        json!(u64::MAX),
        json!(0.3),
        json!(1e308),
        json!("seven"),
        json!(true),
        json!([]),
        json!([1, 2, 3]),
        json!({}),
        Value::Null,
    ]
}

/// Every value of an object, those of inner objects too, by its path.
fn paths(value: &Value, at: &str, all: &mut Vec<String>) {
    for (key, inner) in value.as_object().into_iter().flatten() {
        let path = format!("{at}/{key}");
        paths(inner, &path, all);
        all.push(path);
    }
}

fn load(source: &ModelSource) -> bool {
    let options = LoadOptions { context: Some(4096), rope: None };
    let (decoder, encoder) = (load_decoder_with(source, &options), load_encoder(source));
    decoder.is_ok() || encoder.is_ok()
}

#[test]
fn a_configuration_with_any_value_replaced_never_panics() {
    let folder = tempfile::tempdir().expect("a folder");
    let (mut loaded, mut refused) = (0, 0);
    for name in MODELS {
        let model = TinyModel::read(name);
        let path = model.write(folder.path(), &model.config);
        let mut all = Vec::new();
        paths(&model.config, "", &mut all);
        for place in &all {
            for lie in lies() {
                let mut config = model.config.clone();
                *config.pointer_mut(place).expect("a value") = lie;
                std::fs::write(path.join("config.json"), config.to_string()).expect("config.json");
                match ModelSource::open(&path) {
                    Ok(source) if load(&source) => loaded += 1,
                    _ => refused += 1,
                }
            }
        }
    }
    assert!(loaded > 100 && refused > 100, "{loaded} loaded, {refused} refused");
}

/// A GGUF header with every metadata number replaced by others of its type.
#[test]
fn a_gguf_header_with_any_bytes_changed_never_panics() {
    let folder = tempfile::tempdir().expect("a folder");
    let model = TinyModel::read("qwen3");
    let path = folder.path().join("qwen3.gguf");
    let source = ModelSource::open(&model.write(folder.path(), &model.config)).expect("a model");
    write_gguf(&source, &model, &path);
    let bytes = std::fs::read(&path).expect("the file");
    let header = bytes.windows(11).position(|w| w == b"output.weig").unwrap_or(bytes.len() / 8).min(4096);
    let mut state = 1u64;
    let mut next = || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 33) as usize
    };
    let mut opened = 0;
    for _ in 0..4000 {
        let mut changed = bytes.clone();
        for _ in 0..1 + next() % 3 {
            let at = next() % header;
            changed[at] = [0, 1, 0x7f, 0xff, next() as u8][next() % 5];
        }
        if let Ok(gguf) = Gguf::from_bytes(Arc::new(changed), "changed") {
            opened += 1;
            load(&ModelSource::Gguf(gguf));
        }
    }
    assert!(opened > 100, "{opened} files opened");
}

/// The tiny model as a GGUF file without a tokenizer.
fn write_gguf(source: &ModelSource, model: &TinyModel, path: &std::path::Path) {
    use porism_formats::gguf::{GgufHeader, GgufWriter};
    use porism_kernels::BlockType;
    let names = source.names().expect("names");
    let number = |key: &str| model.config[key].as_u64().expect("a number") as u32;
    let mut header = GgufHeader::new();
    header.set("general.architecture", names.gguf_architecture);
    for (key, hf) in [
        ("block_count", "num_hidden_layers"),
        ("context_length", "max_position_embeddings"),
        ("embedding_length", "hidden_size"),
        ("feed_forward_length", "intermediate_size"),
        ("attention.head_count", "num_attention_heads"),
        ("attention.head_count_kv", "num_key_value_heads"),
        ("attention.key_length", "head_dim"),
        ("attention.value_length", "head_dim"),
    ] {
        header.set(&format!("{}.{key}", names.gguf_architecture), number(hf));
    }
    header.set(&format!("{}.attention.layer_norm_rms_epsilon", names.gguf_architecture), 0.01f32);
    header.set(&format!("{}.rope.scaling.type", names.gguf_architecture), "yarn");
    header.set(&format!("{}.rope.scaling.factor", names.gguf_architecture), 4.0f32);
    header.set(&format!("{}.rope.scaling.original_context_length", names.gguf_architecture), 32u32);
    let mut tensors = Vec::new();
    for name in source.tensor_names() {
        let (site, suffix) = names.site_of_hf(name).expect("a site");
        let weight = source.find_weight(name).expect("a weight").expect("a weight");
        tensors.push((names.gguf_name(site, suffix).expect("a name"), weight));
    }
    for (name, weight) in &tensors {
        let (rows, cols) = (weight.rows() as u64, weight.cols() as u64);
        let dims = if rows == 1 { vec![cols] } else { vec![cols, rows] };
        header.tensor(name, &dims, BlockType::F32);
    }
    let mut writer = GgufWriter::create(path, &header).expect("a file");
    for (name, weight) in &tensors {
        writer.write(name, weight.bytes()).expect("written");
    }
    writer.commit().expect("a file");
}
