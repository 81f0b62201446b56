//! A decoder's projections in four bits: what a folder of bitsandbytes gives back is what is made in memory, and what
//! cannot be packed is refused.

mod support;
mod tiny;
mod tiny_model;

use std::path::Path;

use porism_formats::HfFolder;
use porism_kernels::BlockType;
use porism_models::convert::{FourBit, Report, Target, convert};
use porism_models::cpu::{Activations, CpuState, KvType};
use porism_models::names::gguf_rows_from_hf;
use porism_models::{Batch, Decoder, HeadRequest, ModelSource, Steps, load_decoder};
use support::cpu;
use tiny::{HEAD_DIM, HEADS, KV_HEADS, LAYERS, Tiny};
use tiny_model::TinyModel;

fn open(path: &Path) -> ModelSource {
    ModelSource::open(path).expect("a model")
}

fn run(input: &Path, out: &Path, to: Target) -> Result<Report, String> {
    convert(&open(input), out, to, &mut |_, _| {}).map_err(|e| e.to_string())
}

fn logits(decoder: &Decoder, activations: Activations) -> Vec<f32> {
    let mut states = [CpuState::new(&decoder.stack.config, KvType::F32)];
    let mut steps = cpu(2, activations);
    let rows = decoder
        .forward(&mut steps, &Batch::single(&[104, 101, 256, 7, 12], 0), &mut states, HeadRequest::Logits)
        .and_then(|out| out.into_rows())
        .expect("a forward pass");
    steps.to_vec(&rows).expect("logits")
}

fn all() -> impl Iterator<Item = (FourBit, bool)> {
    [FourBit::NF4, FourBit::FP4].into_iter().flat_map(|kind| [false, true].map(|double_quant| (kind, double_quant)))
}

#[test]
fn a_folder_gives_back_what_is_made_in_memory() {
    let at = tempfile::tempdir().unwrap();
    let (gguf, f32s) = (at.path().join("a.gguf"), at.path().join("f32"));
    Tiny { width: 64, ..Tiny::default() }.write(&gguf);
    run(&gguf, &f32s, Target::F32).unwrap();
    for (kind, double_quant) in all() {
        let block = kind.block();
        let what = format!("{block} {double_quant}");
        let packed = at.path().join(&what);
        let report = run(&gguf, &packed, Target::FourBit { kind, double_quant }).unwrap();
        assert_eq!(report.types.iter().find(|t| t.0 == block), Some(&(block, 7 * LAYERS)), "{what}");
        let folder = HfFolder::open(&packed).unwrap();
        for name in folder.names() {
            let projection = name.ends_with("_proj.weight");
            let want = if projection { block } else { BlockType::F32 };
            assert_eq!(folder.weight(name).unwrap().block(), want, "{name}");
        }
        let config: serde_json::Value =
            serde_json::from_slice(&std::fs::read(packed.join("config.json")).unwrap()).unwrap();
        let words = &config["quantization_config"];
        assert_eq!(words["bnb_4bit_quant_type"], block.name().to_lowercase());
        assert_eq!(words["bnb_4bit_use_double_quant"], double_quant);
        assert_eq!(words["llm_int8_skip_modules"], serde_json::json!(["lm_head"]));
        assert_eq!((&config["dtype"], &words["load_in_4bit"]), (&"float32".into(), &true.into()));

        let loaded = load_decoder(&open(&packed)).unwrap();
        let mut same_order = load_decoder(&open(&f32s)).unwrap();
        same_order.stack.requantize(block, double_quant).unwrap();
        for (a, b) in loaded.linears().zip(same_order.linears()) {
            assert!(a.weight.block() == b.weight.block() && a.weight.bytes() == b.weight.bytes(), "{what} {}", a.site);
        }
        let exact = logits(&loaded, Activations::F32);
        assert_eq!(exact, logits(&same_order, Activations::F32), "{what}");
        // Neither type has an int8 product, and the head is dense: the other mode computes the same.
        assert_eq!(exact, logits(&loaded, Activations::Int8), "{what}");

        // A GGUF file has the rows of query and key in another order, and the scales are rounded in the folder's.
        let mut other_order = load_decoder(&open(&gguf)).unwrap();
        other_order.stack.requantize(block, double_quant).unwrap();
        for (a, b) in loaded.stack.blocks.iter().zip(&other_order.stack.blocks) {
            for (hf, gguf, heads) in
                [(&a.attention.query, &b.attention.query, HEADS), (&a.attention.key, &b.attention.key, KV_HEADS)]
            {
                let bytes = hf.weight.row_bytes();
                let rows: Vec<u8> = gguf_rows_from_hf(heads, HEAD_DIM)
                    .into_iter()
                    .flat_map(|row| &hf.weight.bytes()[row * bytes..(row + 1) * bytes])
                    .copied()
                    .collect();
                assert!(rows == gguf.weight.bytes(), "{what} {}", hf.site);
            }
            assert_eq!(a.attention.value.weight.bytes(), b.attention.value.weight.bytes(), "{what}");
        }
    }
}

/// To dense weights and back: exact, and the words about packing go. Kept as it is, a folder has the same weights.
#[test]
fn a_packed_folder_converts_like_any_other() {
    let at = tempfile::tempdir().unwrap();
    let path = |name: &str| at.path().join(name);
    Tiny { width: 64, block: BlockType::Q8_0, ..Tiny::default() }.write(&path("q8.gguf"));
    let to = Target::FourBit { kind: FourBit::NF4, double_quant: true };
    run(&path("q8.gguf"), &path("nf4"), to).unwrap();
    run(&path("nf4"), &path("f32"), Target::F32).unwrap();
    run(&path("nf4"), &path("f32.gguf"), Target::F32).unwrap();
    let kept = run(&path("nf4"), &path("kept"), Target::Keep).unwrap();
    assert!(kept.notes.len() == 1 && kept.notes[0].contains("the weights are the same"), "{:?}", kept.notes);
    let folder = |name: &str| HfFolder::open(&path(name)).unwrap();
    let (packed, dense, kept) = (folder("nf4"), folder("f32"), folder("kept"));
    assert_eq!(packed.names().len(), dense.names().len());
    for name in packed.names() {
        let weight = packed.weight(name).unwrap();
        assert_eq!(dense.weight(name).unwrap().to_f32(), weight.to_f32(), "{name}");
        assert_eq!(kept.weight(name).unwrap().bytes(), weight.bytes(), "{name}");
    }
    let words = |folder: &HfFolder| folder.config().unwrap().get("quantization_config").cloned();
    assert!(words(&dense).is_none());
    assert_eq!(words(&kept).unwrap()["bnb_4bit_use_double_quant"], false);
    // The values of a GGUF file are the same; its rows are summed in another order.
    let (a, b) = (load_decoder(&open(&path("nf4"))).unwrap(), load_decoder(&open(&path("f32.gguf"))).unwrap());
    for (a, b) in logits(&a, Activations::F32).iter().zip(logits(&b, Activations::F32)) {
        assert!((a - b).abs() < 1e-4, "{a} and {b}");
    }
}

#[test]
fn what_cannot_be_packed_is_said_and_leaves_nothing() {
    let at = tempfile::tempdir().unwrap();
    let path = |name: &str| at.path().join(name);
    Tiny::default().write(&path("narrow.gguf"));
    Tiny { width: 64, ..Tiny::default() }.write(&path("good.gguf"));
    Tiny { width: 64, outlier: f32::INFINITY, ..Tiny::default() }.write(&path("loud.gguf"));
    let nf4 = Target::FourBit { kind: FourBit::NF4, double_quant: false };
    run(&path("good.gguf"), &path("nf4"), nf4).unwrap();
    let before = std::fs::read_dir(at.path()).unwrap().count();
    for (input, out, to, words) in [
        ("narrow.gguf", "out", nf4, &["the tensor `blk.0.attn_q.weight` has rows of 32 weights", "blocks of 64"][..]),
        ("good.gguf", "out.gguf", nf4, &["GGUF files have no type NF4", "folder"]),
        ("nf4", "out.gguf", Target::Keep, &["is stored as NF4, which GGUF files do not have", "--to f32"]),
        ("loud.gguf", "out", nf4, &["`blk.1.ffn_down.weight`", "NF4", "not finite"]),
    ] {
        let message = run(&path(input), &path(out), to).unwrap_err();
        assert!(words.iter().all(|w| message.contains(w)), "{input}: {message}");
        assert_eq!(std::fs::read_dir(at.path()).unwrap().count(), before, "{input}: something was left");
    }
    for (name, words) in
        [("bert", "an encoder"), ("qwen3_moe", "a mixture of experts"), ("gpt2", "projections lie transposed")]
    {
        let home = tempfile::tempdir().unwrap();
        let model = TinyModel::read(name);
        let input = model.write(home.path(), &model.config);
        let message = run(&input, &home.path().join("out"), nf4).unwrap_err();
        assert!(message.contains(words), "{name}: {message}");
        let mut decoder = match load_decoder(&open(&input)) {
            Ok(decoder) => decoder,
            Err(_) => continue,
        };
        let unpacked = decoder.stack.requantize(BlockType::Q6K, false).unwrap_err().to_string();
        assert!(unpacked.contains("block 0 Query as Q6_K"), "{unpacked}");
    }
}
