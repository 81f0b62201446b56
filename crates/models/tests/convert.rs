//! Conversion: what goes there and back is the same, what both forms compute is the same, and what cannot be
//! converted leaves nothing behind.

mod support;
mod tiny;

use std::path::{Path, PathBuf};

use porism_formats::{Gguf, HfFolder};
use porism_kernels::BlockType;
use porism_models::convert::{OutputFormat, Report, Target, convert};
use porism_models::cpu::{Activations, CpuState, KvType};
use porism_models::{Batch, HeadRequest, ModelSource, Steps, load_decoder};
use serde_json::{Value, json};
use support::{cpu, default_source, golden};
use tempfile::TempDir;
use tiny::Tiny;

const TEXTS: [&str; 5] = [
    "The capital of France is",
    "he said: hello, he  said 12345 times\n\n\tЖ naïve 😀",
    "<|im_start|>user\nHi<|im_end|>\n",
    "[PAD261] <|endoftext|>",
    "",
];

fn folder() -> TempDir {
    tempfile::tempdir().expect("a temporary folder")
}

fn open(path: &Path) -> ModelSource {
    ModelSource::open(path).expect("a model")
}

fn run(source: &ModelSource, out: &Path, to: Target) -> Result<Report, String> {
    let mut last = (0, 0);
    let report = convert(source, out, to, &mut |done, total| {
        assert!(last.0 <= done && done <= total, "progress {done} of {total} after {last:?}");
        last = (done, total);
    })
    .map_err(|e| e.to_string())?;
    assert_eq!(last, (report.bytes, report.bytes));
    Ok(report)
}

/// The last position's logits in exact mode.
fn logits(source: &ModelSource, ids: &[u32]) -> Vec<f32> {
    let decoder = load_decoder(source).expect("a decoder");
    let mut states = [CpuState::new(&decoder.stack.config, KvType::F32)];
    let mut steps = cpu(2, Activations::F32);
    let rows = decoder
        .forward(&mut steps, &Batch::single(ids, 0), &mut states, HeadRequest::Logits)
        .and_then(|out| out.into_rows())
        .expect("a forward pass");
    steps.to_vec(&rows).expect("logits")
}

fn deviation(values: &[f32]) -> f64 {
    let n = values.len() as f64;
    let mean = values.iter().map(|&v| f64::from(v)).sum::<f64>() / n;
    (values.iter().map(|&v| (f64::from(v) - mean).powi(2)).sum::<f64>() / n).sqrt()
}

/// The largest difference, in standard deviations.
fn distance(a: &[f32], b: &[f32]) -> f64 {
    assert_eq!(a.len(), b.len());
    let largest = a.iter().zip(b).map(|(a, b)| f64::from((a - b).abs())).fold(0.0, f64::max);
    largest / deviation(a)
}

/// The root mean square of the differences, in standard deviations.
fn typical_distance(a: &[f32], b: &[f32]) -> f64 {
    let squares = a.iter().zip(b).map(|(a, b)| f64::from(a - b).powi(2)).sum::<f64>();
    (squares / a.len() as f64).sqrt() / deviation(a)
}

fn assert_same_tokens(a: &ModelSource, b: &ModelSource) {
    let (a, b) = (a.tokenizer().expect("a tokenizer"), b.tokenizer().expect("a tokenizer"));
    for text in TEXTS {
        for (add, parse) in [(true, true), (false, false)] {
            assert_eq!(a.encode(text, add, parse).unwrap(), b.encode(text, add, parse).unwrap(), "{text:?}");
        }
    }
    assert_eq!(a.special_ids().eos, b.special_ids().eos);
    assert_eq!(a.end_of_generation_ids(), b.end_of_generation_ids());
    assert_eq!(a.chat_template(), b.chat_template());
}

/// Every tensor of `a` is in `b` with the same dimensions and, decoded, the same bits.
fn assert_same_weights(a: &Gguf, b: &Gguf) {
    assert_eq!(a.tensors().len(), b.tensors().len());
    for tensor in a.tensors() {
        let name = tensor.name();
        assert_eq!(tensor.dims(), b.tensor(name).expect(name).dims(), "{name}");
        let (x, y) = (a.weight(name).unwrap().to_f32(), b.weight(name).unwrap().to_f32());
        let different = x.iter().zip(&y).filter(|(x, y)| x.to_bits() != y.to_bits()).count();
        assert_eq!(different, 0, "{name}");
    }
}

/// What the first file says about the model and its tokenizer, the second says too.
fn assert_same_metadata(a: &Gguf, b: &Gguf) {
    for (key, value) in a.metadata() {
        let kept = key.starts_with("llama.") || key.starts_with("tokenizer.");
        if kept || ["general.architecture", "general.name"].contains(&key) {
            assert_eq!(b.get(key), Some(value), "{key}");
        }
    }
}

fn json_file(path: PathBuf) -> Value {
    serde_json::from_slice(&std::fs::read(path).expect("a file")).expect("JSON")
}

/// The model that everybody runs, through a folder and back: the same bits, the same metadata, and the logits
/// of transformers (the golden values) from the folder.
#[test]
fn the_default_model_goes_there_and_back() {
    let source = default_source();
    let there = folder();
    let hf = there.path().join("f32");
    let report = run(&source, &hf, Target::F32).unwrap();
    assert_eq!((report.tensors, report.parameters, report.bytes), (272, 134_515_008, 538_060_032));
    assert_eq!(report.types, [(BlockType::F32, 272)]);
    let converted = open(&hf);
    assert_same_tokens(&source, &converted);

    let names: Vec<String> = HfFolder::open(&hf).unwrap().names().map(str::to_string).collect();
    assert_eq!(names.iter().filter(|n| n.starts_with("model.layers.")).count(), 30 * 9);
    assert!(!names.contains(&"lm_head.weight".to_string()), "the head is the table");
    let config = json_file(hf.join("config.json"));
    // As in the config.json that the model was published with.
    for (key, want) in [
        ("architectures", json!(["LlamaForCausalLM"])),
        ("bos_token_id", json!(1)),
        ("eos_token_id", json!(2)),
        ("pad_token_id", json!(2)),
        ("hidden_size", json!(576)),
        ("intermediate_size", json!(1536)),
        ("max_position_embeddings", json!(8192)),
        ("num_attention_heads", json!(9)),
        ("num_hidden_layers", json!(30)),
        ("num_key_value_heads", json!(3)),
        ("rms_norm_eps", json!(1e-5)),
        ("rope_theta", json!(100_000.0)),
        ("tie_word_embeddings", json!(true)),
        ("vocab_size", json!(49152)),
        ("attention_bias", json!(false)),
        ("dtype", json!("float32")),
    ] {
        assert_eq!(config[key], want, "{key}");
    }

    for golden in golden() {
        // Where attention sees one position, its scores decide nothing: the bits are the same.
        let first = &golden.prompt_ids[..1];
        assert_eq!(logits(&source, first), logits(&converted, first), "{:?}", golden.prompt);
        // Over more, products of queries and keys are summed in the order of a head's features, which differs.
        // Measured: the farthest of 49,152 logits is 2.5e-5 standard deviations off, the root mean square 6e-6.
        let (ours, theirs) = (logits(&source, &golden.prompt_ids), logits(&converted, &golden.prompt_ids));
        let (far, typical) = (distance(&ours, &theirs), typical_distance(&ours, &theirs));
        assert!(far < 1e-4 && typical < 1e-5, "{:?}: {far}, {typical} standard deviations", golden.prompt);
        let tops = golden.top_ids.iter().zip(&golden.top_logits);
        let far = tops.map(|(&id, want)| (f64::from(theirs[id as usize]) - want).abs()).fold(0.0, f64::max);
        assert!(far < 1e-3 * golden.logits_std, "{:?}: {far} from transformers", golden.prompt);
    }

    let back = there.path().join("back.gguf");
    let report = run(&converted, &back, Target::F32).unwrap();
    assert_eq!((report.tensors, report.bytes), (272, 538_060_032));
    let back = Gguf::open(&back).unwrap();
    let ModelSource::Gguf(first) = &source else { panic!("the default model is a GGUF file") };
    assert_same_weights(first, &back);
    assert_same_metadata(first, &back);
    assert_eq!(back.get_u32("general.file_type").unwrap(), 0);
    let ids = &golden()[0].prompt_ids;
    assert_eq!(logits(&source, ids), logits(&ModelSource::Gguf(back), ids));
}

#[test]
fn a_model_with_everything_goes_there_and_back() {
    let at = folder();
    let (first, hf, last) = (at.path().join("a.gguf"), at.path().join("hf"), at.path().join("b.gguf"));
    Tiny::default().write(&first);
    let source = open(&first);
    run(&source, &hf, Target::Keep).unwrap();
    let config = json_file(hf.join("config.json"));
    assert_eq!((&config["attention_bias"], &config["mlp_bias"]), (&json!(true), &json!(false)));
    assert_eq!((&config["head_dim"], &config["tie_word_embeddings"]), (&json!(16), &json!(false)));
    assert_eq!(config["eos_token_id"], json!([260, 258]));
    // Rows that no token has are no tokens.
    let tokenizer = json_file(hf.join("tokenizer.json"));
    assert_eq!(tokenizer["model"]["vocab"].as_object().unwrap().len(), 261);

    let converted = open(&hf);
    assert_same_tokens(&source, &converted);
    let ids = [104, 101, 256, 257, 7, 260, 12];
    let far = distance(&logits(&source, &ids), &logits(&converted, &ids));
    assert!(far < 1e-5, "{far} standard deviations");

    run(&converted, &last, Target::Keep).unwrap();
    let (first, last) = (Gguf::open(&first).unwrap(), Gguf::open(&last).unwrap());
    assert_same_weights(&first, &last);
    assert_same_metadata(&first, &last);
}

/// Rows of blocks change places as they are: a block format survives no folder, but a file keeps it.
#[test]
fn types_are_as_asked() {
    let at = folder();
    let path = |name: &str| at.path().join(name);
    Tiny { block: BlockType::Q8_0, ..Tiny::default() }.write(&path("q8.gguf"));
    let source = open(&path("q8.gguf"));
    for (to, block, file_type, dtype) in [
        (Target::F16, BlockType::F16, 1, "float16"),
        (Target::BF16, BlockType::BF16, 32, "bfloat16"),
        (Target::F32, BlockType::F32, 0, "float32"),
    ] {
        let (hf, gguf, direct) = (path(dtype), path(&format!("{dtype}.gguf")), path(&format!("{dtype}-direct.gguf")));
        run(&source, &hf, to).unwrap();
        assert_eq!(json_file(hf.join("config.json"))["torch_dtype"], dtype);
        let opened = HfFolder::open(&hf).unwrap();
        assert!(opened.names().all(|n| opened.weight(n).unwrap().block() == block));

        run(&open(&hf), &gguf, Target::Keep).unwrap();
        run(&source, &direct, to).unwrap();
        let (gguf, direct) = (Gguf::open(&gguf).unwrap(), Gguf::open(&direct).unwrap());
        for tensor in gguf.tensors() {
            let want = if tensor.dims().len() == 1 { BlockType::F32 } else { block };
            assert_eq!(tensor.block(), want, "{}", tensor.name());
            if tensor.dims().len() == 2 {
                // Rounded once, whichever way it went.
                let (a, b) = (gguf.weight(tensor.name()).unwrap(), direct.weight(tensor.name()).unwrap());
                assert_eq!(a.bytes(), b.bytes(), "{}", tensor.name());
            }
        }
        assert_eq!(gguf.get_u32("general.file_type").unwrap(), file_type);
        assert_eq!(direct.get_u32("general.file_type").unwrap(), file_type);
    }
    let kept = run(&source, &path("kept.gguf"), Target::Keep).unwrap();
    assert_eq!(kept.types[0].0, BlockType::Q8_0);
    assert_same_weights(&Gguf::open(&path("q8.gguf")).unwrap(), &Gguf::open(&path("kept.gguf")).unwrap());
}

#[test]
fn a_folder_to_a_folder_takes_its_files_along() {
    let at = folder();
    let (gguf, first, second) = (at.path().join("a.gguf"), at.path().join("f32"), at.path().join("f16"));
    Tiny::default().write(&gguf);
    run(&open(&gguf), &first, Target::F32).unwrap();
    std::fs::write(first.join("README.md"), "A card.").unwrap();
    std::fs::write(first.join("optimizer.pt"), "no part of the model").unwrap();
    let report = run(&open(&first), &second, Target::F16).unwrap();
    assert_eq!((report.format, report.types[0].0), (OutputFormat::HuggingFace, BlockType::F16));
    let mut names: Vec<_> =
        std::fs::read_dir(&second).unwrap().map(|e| e.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    let want = [
        "README.md",
        "config.json",
        "generation_config.json",
        "model.safetensors",
        "tokenizer.json",
        "tokenizer_config.json",
    ];
    assert_eq!(names, want);
    assert_eq!(json_file(second.join("config.json"))["dtype"], "float16");
    let ids = [104, 101, 256];
    assert!(distance(&logits(&open(&first), &ids), &logits(&open(&second), &ids)) < 0.02);
}

/// Input, output, type: what must be said. Nothing may be left in the folder.
#[test]
fn what_cannot_be_converted_is_said_and_leaves_nothing() {
    let at = folder();
    let path = |name: &str| at.path().join(name);
    Tiny::default().write(&path("tiny.gguf"));
    Tiny { block: BlockType::Q4_1, ..Tiny::default() }.write(&path("q4.gguf"));
    Tiny { tokenizer: false, ..Tiny::default() }.write(&path("silent.gguf"));
    Tiny { outlier: 1e6, ..Tiny::default() }.write(&path("loud.gguf"));
    run(&open(&path("tiny.gguf")), &path("folder"), Target::F32).unwrap();
    run(&open(&path("tiny.gguf")), &path("mute"), Target::F32).unwrap();
    std::fs::remove_file(path("mute/tokenizer.json")).unwrap();
    std::fs::write(path("file"), "mine").unwrap();
    let names = || {
        let mut names: Vec<_> = std::fs::read_dir(at.path()).unwrap().map(|e| e.unwrap().file_name()).collect();
        names.sort();
        names
    };
    let before = names();
    for (input, out, to, words) in [
        (
            "q4.gguf",
            "out",
            Target::Keep,
            &["q4.gguf: the tensor `token_embd.weight` is stored as Q4_1", "--to f32"][..],
        ),
        (
            "loud.gguf",
            "out",
            Target::F16,
            &["`blk.1.ffn_down.weight` holds a weight of 1e6, too large for F16", "--to f32"],
        ),
        ("loud.gguf", "out.gguf", Target::F16, &["too large for F16"]),
        ("silent.gguf", "out", Target::F32, &["no tokenizer", "tokenizer.ggml.model"]),
        ("mute", "out.gguf", Target::F32, &["no tokenizer", "mute has no tokenizer.json"]),
        ("tiny.gguf", "out.safetensors", Target::F32, &[".safetensors files are not written"]),
        ("tiny.gguf", "tiny.gguf", Target::F32, &["tiny.gguf exists already and is not replaced"]),
        ("tiny.gguf", "file", Target::F32, &["file exists already and is not replaced"]),
        ("tiny.gguf", "folder", Target::F32, &["folder is a folder with files in it", "choose another name"]),
        ("folder", "nowhere/out.gguf", Target::F32, &["there is no folder", "nowhere: make it first"]),
    ] {
        let message = run(&open(&path(input)), &path(out), to).unwrap_err();
        for word in words {
            assert!(message.contains(word), "{input} to {out}: {message}");
        }
        assert_eq!(names(), before, "{input} to {out}");
    }
    assert_eq!(std::fs::read(path("file")).unwrap(), b"mine");
}

#[test]
fn an_empty_folder_may_be_filled() {
    let at = folder();
    let path = |name: &str| at.path().join(name);
    Tiny::default().write(&path("tiny.gguf"));
    std::fs::create_dir(path("empty")).unwrap();
    run(&open(&path("tiny.gguf")), &path("empty"), Target::BF16).unwrap();
    assert!(path("empty/model.safetensors").is_file());
}

/// Biases on some projections only have no place in transformers' llama.
#[test]
fn half_of_the_biases_are_refused() {
    let at = folder();
    let path = |name: &str| at.path().join(name);
    Tiny::default().write(&path("tiny.gguf"));
    run(&open(&path("tiny.gguf")), &path("hf"), Target::F32).unwrap();
    // The same model without the biases of attention's output.
    let hf = HfFolder::open(&path("hf")).unwrap();
    let mut names: Vec<&str> = hf.names().filter(|n| !n.ends_with("o_proj.bias")).collect();
    names.sort_unstable();
    let tensors: Vec<porism_formats::hf::HfTensor> = names
        .iter()
        .map(|&n| porism_formats::hf::HfTensor {
            name: n.to_string(),
            shape: hf.tensor(n).unwrap().shape().to_vec(),
            block: BlockType::F32,
        })
        .collect();
    let mut writer = porism_formats::hf::HfWriter::create(&path("half"), &tensors, u64::MAX).unwrap();
    for name in names {
        writer.write(name, hf.weight(name).unwrap().bytes()).unwrap();
    }
    for name in ["config.json", "tokenizer.json", "tokenizer_config.json"] {
        writer.write_file(name, &std::fs::read(path("hf").join(name)).unwrap()).unwrap();
    }
    writer.commit().unwrap();
    // A GGUF file may have them.
    run(&open(&path("half")), &path("half.gguf"), Target::Keep).unwrap();
    let message = run(&open(&path("half.gguf")), &path("again"), Target::Keep).unwrap_err();
    assert!(message.contains("6 of the 8 attention projections have a bias"), "{message}");
}
