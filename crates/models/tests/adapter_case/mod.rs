//! What the tests of adapters share: a fixture's adapter as a folder, and its base in one or two kinds of file.
#![allow(dead_code)] // Each test file uses its part.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use porism_kernels::{Isa, Pool};
use porism_models::adapter::{Adapter, Attached, Base, attach};
use porism_models::convert::{Target, convert};
use porism_models::cpu::{Activations, CpuExecutor, CpuState, KvType};
use porism_models::{AdapterId, Batch, Decoder, HeadRequest, ModelConfig, ModelSource, Steps, load_decoder};
use serde_json::{Value, json};

use crate::tiny_model::TinyModel;

/// Every adapter, and whether its base converts to GGUF.
pub(crate) const ADAPTERS: [(&str, bool); 13] = [
    ("lora", true),
    ("rslora", true),
    ("dora", true),
    ("patterns", true),
    ("patterns_rslora", true),
    ("ends", true),
    ("dora_ends", true),
    ("qwen2_dora", true),
    ("gpt2", false),
    ("gpt2_dora", false),
    ("phi3", true),
    ("phi3_dora", true),
    // Its query scale is one that a GGUF file cannot say.
    ("gemma3", false),
];

pub(crate) const ID: AdapterId = AdapterId(7);

/// An adapter of a fixture, written as a folder, and its base in one or two kinds of file.
pub(crate) struct Case {
    pub(crate) values: TinyModel,
    pub(crate) fixture: Value,
    pub(crate) folder: PathBuf,
    pub(crate) bases: Vec<ModelSource>,
    pub(crate) home: tempfile::TempDir,
}

impl Case {
    pub(crate) fn new(name: &str) -> Case {
        let home = tempfile::tempdir().expect("a folder");
        let values = TinyModel::read(&format!("../adapter_fixtures/{name}"));
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("tests/adapter_fixtures/{name}.json"));
        let fixture: Value = serde_json::from_slice(&std::fs::read(path).expect("a fixture")).expect("JSON");
        let folder = write_adapter(name, home.path());
        let model = TinyModel::read(fixture["base"].as_str().expect("a base"));
        let path = model.write(home.path(), &model.config);
        let mut bases = vec![ModelSource::open(&path).expect("a model")];
        if ADAPTERS.iter().any(|(n, converts)| *n == name && *converts) {
            add_tokenizer(&path);
            let gguf = home.path().join("base.gguf");
            convert(&ModelSource::open(&path).expect("a model"), &gguf, Target::F32, &mut |_, _| {})
                .expect("a GGUF file");
            bases.push(ModelSource::open(&gguf).expect("a model"));
        }
        Case { values, fixture, folder, bases, home }
    }

    /// How far logits are from PEFT's, in standard deviations.
    pub(crate) fn error(&self, decoder: &Decoder) -> f64 {
        self.values.error(&self.logits(decoder))
    }

    /// The wanted rows on the CPU executor, run with the adapter.
    pub(crate) fn logits(&self, decoder: &Decoder) -> Vec<Vec<f32>> {
        let mut cpu = CpuExecutor::new(pool(), Isa::detect(), Activations::F32);
        self.rows(decoder, &mut cpu, |c| CpuState::new(c, KvType::F32))
    }

    pub(crate) fn rows<S: Steps>(
        &self,
        decoder: &Decoder,
        steps: &mut S,
        state: impl Fn(&ModelConfig) -> S::State,
    ) -> Vec<Vec<f32>> {
        let mut batch = Batch::single(&self.values.ids, 0);
        batch.wanted = self.values.rows.clone();
        batch.spans[0].adapter = Some(ID);
        let mut states = [state(&decoder.stack.config)];
        let logits = decoder.forward(steps, &batch, &mut states, HeadRequest::Logits).and_then(|o| o.into_rows());
        let logits = logits.expect("logits");
        let width = steps.shape(&logits).1;
        steps.to_vec(&logits).expect("numbers").chunks_exact(width).map(<[f32]>::to_vec).collect()
    }
}

pub(crate) fn pool() -> Arc<Pool> {
    Arc::new(Pool::new(1))
}

/// The folder of an adapter's fixture.
pub(crate) fn write_adapter(name: &str, under: &Path) -> PathBuf {
    let mut values = TinyModel::read(&format!("../adapter_fixtures/{name}"));
    values.name = format!("{name}_adapter");
    let folder = values.write(under, &values.config);
    std::fs::rename(folder.join("config.json"), folder.join("adapter_config.json")).expect("renamed");
    std::fs::rename(folder.join("model.safetensors"), folder.join("adapter_model.safetensors")).expect("renamed");
    folder
}

/// A tokenizer with fewer tokens than the tiny models have rows.
pub(crate) fn add_tokenizer(folder: &Path) {
    let vocab: serde_json::Map<String, Value> =
        ('!'..='u').enumerate().map(|(id, c)| (c.to_string(), id.into())).chain([("</s>".into(), 85.into())]).collect();
    let level = json!({ "type": "ByteLevel", "add_prefix_space": false, "trim_offsets": true, "use_regex": true });
    let tokenizer = json!({
        "version": "1.0",
        "added_tokens": [{
            "id": 85, "content": "</s>", "single_word": false, "lstrip": false, "rstrip": false,
            "normalized": false, "special": true,
        }],
        "normalizer": null,
        "pre_tokenizer": level.clone(),
        "post_processor": null,
        "decoder": level,
        "model": { "type": "BPE", "vocab": vocab, "merges": [] },
    });
    std::fs::write(folder.join("tokenizer.json"), tokenizer.to_string()).expect("tokenizer.json");
    std::fs::write(folder.join("tokenizer_config.json"), json!({ "eos_token": "</s>" }).to_string()).expect("settings");
}

pub(crate) fn open(path: &Path, source: &ModelSource, decoder: &Decoder) -> Adapter {
    let base = Base::new(source, decoder).expect("a base");
    Adapter::open(path, &base).unwrap_or_else(|e| panic!("{}: {e}", path.display()))
}

/// Attaches one adapter.
pub(crate) fn put_on(decoder: &mut Decoder, adapter: Adapter) -> Attached {
    attach(&pool(), Isa::detect(), decoder, &[(adapter, 1.0)], ID).expect("attached")
}

/// A decoder with the adapter at a path.
pub(crate) fn adapted(path: &Path, source: &ModelSource) -> Decoder {
    let mut decoder = load_decoder(source).expect("a decoder");
    let adapter = open(path, source, &decoder);
    let _ = put_on(&mut decoder, adapter);
    decoder
}
