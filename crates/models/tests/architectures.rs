//! Every architecture against transformers: tiny models with reproducible weights, on both executors, from folders
//! with configurations of transformers 5 and of earlier ones. The table in the README is written from the results.

mod tiny_model;

use std::io::Write;
use std::sync::Arc;

use candle_core::{Device, Tensor, Var};
use porism_kernels::{Isa, Pool};
use porism_models::cpu::{Activations, CpuExecutor, CpuState, KvType};
use porism_models::tape::{Parameter, Parameters, TapeExecutor, TapeState};
use porism_models::{
    Batch, BlockSite, HeadRequest, LoadOptions, ModelConfig, ModelSource, Site, Steps, load_decoder, load_decoder_with,
    load_encoder,
};
use porism_ops::OpContext;
use tiny_model::TinyModel;

/// A fixture, the models that it stands for, and what GGUF files call them (where a GGUF file can say all of it): the
/// rows of the README's table.
const MODELS: &[(&str, &str, &str)] = &[
    ("llama", "LLaMA, SmolLM2, TinyLlama", "llama"),
    ("llama_tied_llama3", "the same, RoPE scaling llama3", "llama"),
    ("llama_linear", "the same, RoPE scaling linear", "llama"),
    ("llama_dynamic", "the same, RoPE scaling dynamic", ""),
    ("mistral", "Mistral, windows", ""),
    ("smollm3", "SmolLM3", "smollm3"),
    ("qwen2", "Qwen 2, Qwen 2.5", "qwen2"),
    ("qwen2_sliding", "the same, windows from a layer on", ""),
    ("qwen2_yarn", "the same, RoPE scaling yarn", "qwen2"),
    ("qwen3", "Qwen 3", "qwen3"),
    ("gemma2", "Gemma 2", "gemma2"),
    ("gemma3_text", "Gemma 3", "gemma3"),
    ("phi3", "Phi-3, Phi-4", "phi3"),
    ("phi3_longrope_short", "the same, longrope within its context", "phi3"),
    ("phi3_longrope_long", "the same, longrope beyond", "phi3"),
    ("mixtral", "Mixtral", "llama"),
    ("qwen2_moe", "Qwen 2 MoE, shared expert", "qwen2moe"),
    ("qwen3_moe", "Qwen 3 MoE", "qwen3moe"),
    ("qwen3_moe_dense_layer", "the same with a dense layer", ""),
    ("olmoe", "OLMoE", "olmoe"),
    ("gpt2", "GPT-2", "gpt2"),
    ("stablelm", "StableLM", "stablelm"),
    ("stablelm_qkv_bias", "the same with biases", "stablelm"),
    ("starcoder2", "StarCoder 2", "starcoder2"),
    ("bert", "BERT", "bert"),
    ("roberta", "RoBERTa", "bert"),
    ("xlm_roberta", "XLM-RoBERTa", "bert"),
    ("nomic_bert", "Nomic BERT", "nomic-bert"),
    ("mpnet", "MPNet", ""),
    ("gemma3_bidirectional", "EmbeddingGemma", "gemma-embedding"),
];

/// The wanted rows of a model through an executor.
fn rows<S: Steps>(
    model: &TinyModel,
    source: &ModelSource,
    steps: &mut S,
    state: impl Fn(&ModelConfig) -> S::State,
) -> Vec<Vec<f32>> {
    let mut batch = Batch::single(&model.ids, 0);
    let (x, width);
    if model.encoder {
        let encoder = load_encoder(source).unwrap_or_else(|e| panic!("{}: {e}", model.name));
        let mut states = [state(&encoder.stack.config)];
        x = encoder.hidden(steps, &batch, &mut states).expect("a pass");
        width = steps.shape(&x).1;
        let all = steps.to_vec(&x).expect("numbers");
        return model.rows.iter().map(|&r| all[r * width..(r + 1) * width].to_vec()).collect();
    }
    let options = LoadOptions { context: Some(model.ids.len()), rope: None };
    let decoder = load_decoder_with(source, &options).unwrap_or_else(|e| panic!("{}: {e}", model.name));
    batch.wanted = model.rows.clone();
    let mut states = [state(&decoder.stack.config)];
    x = decoder.forward(steps, &batch, &mut states, HeadRequest::Logits).expect("a pass").into_rows().expect("logits");
    width = steps.shape(&x).1;
    steps.to_vec(&x).expect("numbers").chunks_exact(width).map(<[f32]>::to_vec).collect()
}

#[test]
fn both_executors_give_what_transformers_gives() {
    let folder = tempfile::tempdir().expect("a folder");
    let pool = Arc::new(Pool::new(2));
    let mut failed = Vec::new();
    let mut table = String::from(
        "| models | in GGUF files | fixture | largest error, CPU | tape |\n| --- | --- | --- | --- | --- |\n",
    );
    let mut source_of_all = std::collections::BTreeSet::new();
    for (name, models, gguf) in MODELS {
        let model = TinyModel::read(name);
        source_of_all.insert(model.source.clone());
        let mut worst = [0.0f64; 2];
        let configs = [Some(&model.config), model.older_config.as_ref()];
        for (age, config) in ["", " (older config)"].into_iter().zip(configs) {
            let Some(config) = config else { continue };
            let path = model.write(folder.path(), config);
            let source = ModelSource::open(&path).expect("a model");
            let mut cpu = CpuExecutor::new(pool.clone(), Isa::detect(), Activations::F32);
            let on_cpu = model.error(&rows(&model, &source, &mut cpu, |c| CpuState::new(c, KvType::F32)));
            let mut tape = TapeExecutor::new(OpContext::new(2), Parameters::none());
            let on_tape = model.error(&rows(&model, &source, &mut tape, TapeState::new));
            worst = [worst[0].max(on_cpu), worst[1].max(on_tape)];
            if on_cpu > 1e-3 || on_tape > 1e-3 {
                failed.push(format!("{name}{age}: CPU {on_cpu:.1e}, tape {on_tape:.1e} standard deviations"));
            }
        }
        let [cpu, tape] = worst.map(bound);
        let gguf = if gguf.is_empty() { String::new() } else { format!("`{gguf}`") };
        table.push_str(&format!("| {models} | {gguf} | `{name}.json` | {cpu} | {tape} |\n"));
    }
    assert!(failed.is_empty(), "{}", failed.join("\n"));
    assert_eq!(source_of_all.len(), 1, "all fixtures are of one version: {source_of_all:?}");
    check_readme(&table);
}

/// An error rounded up to a power of ten, so that the table does not depend on the last bits of a machine.
fn bound(error: f64) -> String {
    // Rounding alone makes about 1e-6: below that there is nothing to tell.
    let power = error.max(1.001e-6).log10().ceil() as i32;
    format!("< 1e{power}")
}

/// The README carries this table. `PORISM_WRITE_README=1` puts it there.
fn check_readme(table: &str) {
    let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../../README.md");
    let readme = std::fs::read_to_string(&path).expect("the README");
    let (begin, end) = ("<!-- written by crates/models/tests/architectures.rs -->\n", "<!-- end -->");
    let start = readme.find(begin).expect("the table's begin") + begin.len();
    let stop = start + readme[start..].find(end).expect("the table's end");
    if std::env::var_os("PORISM_WRITE_README").is_some() {
        std::fs::write(&path, format!("{}{table}{}", &readme[..start], &readme[stop..])).expect("written");
    } else {
        assert_eq!(&readme[start..stop], table, "the README's table is old: run this test with PORISM_WRITE_README=1");
    }
}

/// What a GGUF file of llama.cpp's converter cannot say: windows of all layers, dynamic NTK, Gemma's query scale where
/// it is not that of a known size; of OLMoE the fixture's epsilon.
const NOT_IN_GGUF: [&str; 9] = [
    "llama_dynamic",
    "mistral",
    "qwen2_sliding",
    "starcoder2",
    "gemma2",
    "gemma3_text",
    "gemma3_bidirectional",
    "olmoe",
    "mpnet",
];

/// The same models as llama.cpp's converter writes them: names and layouts of GGUF files.
#[test]
fn gguf_files_of_llama_cpp_give_the_same() {
    let Some(folder) = std::env::var_os("PORISM_TEST_TINY_GGUF") else {
        let _ = std::io::stderr()
            .write_all(b"skipped: PORISM_TEST_TINY_GGUF names no folder with the tiny models as GGUF files\n");
        return;
    };
    let pool = Arc::new(Pool::new(2));
    let mut seen = 0;
    for (name, ..) in MODELS.iter().filter(|(name, ..)| !NOT_IN_GGUF.contains(name)) {
        let path = std::path::Path::new(&folder).join(format!("{name}.gguf"));
        if !path.exists() {
            continue;
        }
        let model = TinyModel::read(name);
        let source = ModelSource::open(&path).expect("a model");
        let mut cpu = CpuExecutor::new(pool.clone(), Isa::detect(), Activations::F32);
        let error = model.error(&rows(&model, &source, &mut cpu, |c| CpuState::new(c, KvType::F32)));
        assert!(error < 1e-3, "{name}: {error:.1e} standard deviations");
        seen += 1;
    }
    assert!(seen > 10, "{seen} files");
}

/// The slope of the loss along each parameter's own gradient, by central differences.
#[test]
fn every_parameter_has_its_gradient() {
    let folder = tempfile::tempdir().expect("a folder");
    for (name, ..) in MODELS {
        let model = TinyModel::read(name);
        let source = ModelSource::open(&model.write(folder.path(), &model.config)).expect("a model");
        let mut batch = Batch::single(&model.ids, 0);
        batch.wanted = (0..model.ids.len()).collect();
        let encoder = load_encoder(&source).expect("a model");
        let decoder = (!model.encoder).then(|| load_decoder(&source).expect("a decoder"));
        let parameters = match &decoder {
            Some(decoder) => Parameters::full(decoder).expect("parameters"),
            None => {
                let mut parameters = Parameters::none();
                parameters.train_stack(&encoder.stack).expect("parameters");
                parameters
            }
        };
        let mut steps = TapeExecutor::new(OpContext::new(1), parameters);
        let loss = |steps: &mut TapeExecutor| match &decoder {
            Some(decoder) => {
                let (n, mut states) = (model.ids.len(), [TapeState::new(&decoder.stack.config)]);
                let targets: Vec<u32> = model.ids.iter().rev().copied().collect();
                let request = HeadRequest::CrossEntropy { targets: &targets, weights: &vec![1.0; n] };
                decoder.forward(steps, &batch, &mut states, request).expect("a pass").into_rows().expect("a loss")
            }
            None => {
                let mut states = [TapeState::new(&encoder.stack.config)];
                let hidden = encoder.hidden(steps, &batch, &mut states).expect("a pass");
                let (rows, width) = hidden.dims2().expect("rows");
                let weights: Vec<f32> = (0..rows * width).map(|i| ((i * 37 % 101) as f32 - 50.0) / 2000.0).collect();
                let weights = Tensor::from_vec(weights, (rows, width), &Device::Cpu).expect("weights");
                porism_ops::inner_product(&hidden, &weights).expect("a loss")
            }
        };
        let number = |t: &Tensor| f64::from(t.flatten_all().expect("flat").to_vec1::<f32>().expect("f32")[0]);
        let gradients = loss(&mut steps).backward().expect("gradients");
        let vars: Vec<(Parameter, Var)> = steps.parameters().iter().map(|(name, var)| (name, var.clone())).collect();
        let mut checked = 0;
        for (parameter, var) in vars {
            let Some(gradient) = gradients.get(var.as_tensor()) else {
                let idle = matches!(parameter, Parameter::Weight(Site::Expert(..)));
                assert!(idle, "{name}: {parameter:?} has no gradient");
                continue;
            };
            let length = number(&gradient.sqr().expect("squares").sum_all().expect("a sum")).sqrt();
            if length < 1e-6 {
                // A bias on keys moves all scores of a row alike: softmax does not see it.
                let unseen = matches!(parameter, Parameter::Delta { site: Site::Block(_, BlockSite::Key), .. });
                assert!(unseen, "{name}: {parameter:?} has a gradient of length {length}");
                continue;
            }
            let start = var.as_tensor().copy().expect("a copy");
            let mut slope = |step: f64| {
                let at = |steps: &mut TapeExecutor, sign: f64| {
                    let moved = gradient.affine(sign * step / length, 0.0).and_then(|d| &start + d).expect("a step");
                    var.set(&moved).expect("set");
                    number(&loss(steps))
                };
                (at(&mut steps, 1.0) - at(&mut steps, -1.0)) / (2.0 * step)
            };
            // A router that changes its mind on the way makes a jump: then a shorter way is tried.
            let slopes: Vec<f64> = [8e-4, 3e-4, 1e-4].map(|d| (d / length).min(0.01)).map(&mut slope).to_vec();
            var.set(&start).expect("set");
            let fits = slopes.iter().any(|slope| (slope - length).abs() < 0.02 * length.max(1e-2));
            assert!(fits, "{name}: {parameter:?}: slopes {slopes:?}, gradient {length}");
            checked += 1;
        }
        assert!(checked > 10, "{name}: {checked} parameters");
    }
}
