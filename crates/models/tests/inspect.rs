//! The facts of files: of the default model, of a folder, of a vocabulary alone, of an architecture that is
//! not known.

mod support;
mod tiny;

use std::env::var_os;
use std::path::PathBuf;

use porism_formats::gguf::{GgufHeader, GgufWriter};
use porism_kernels::BlockType;
use porism_models::ModelSource;
use porism_models::convert::{Target, convert};
use porism_models::inspect::{Facts, inspect};
use support::default_source;
use tiny::Tiny;

fn share<'a>(shares: &'a [porism_models::inspect::Share], name: &str) -> &'a porism_models::inspect::Share {
    shares.iter().find(|s| s.name == name).unwrap_or_else(|| panic!("no {name} in {shares:?}"))
}

fn facts(path: PathBuf) -> Facts {
    inspect(&path).expect("facts")
}

#[test]
fn the_default_model() {
    let facts = facts(default_source().name().into());
    assert!(facts.runs && facts.problem.is_none());
    assert_eq!(facts.format, "GGUF version 3");
    assert_eq!(facts.architecture.as_deref(), Some("llama"));
    assert_eq!(facts.license.as_deref(), Some("apache-2.0"));
    // 49,152 x 576 for the table; a block has 2 x 576 x 576 + 2 x 192 x 576 in attention and 3 x 576 x 1,536
    // in the feed-forward network; 61 norms of 576.
    assert_eq!(facts.parameters, 134_515_008);
    assert_eq!(share(&facts.parts, "token embedding").parameters, 28_311_552);
    assert_eq!(share(&facts.parts, "attention").parameters, 26_542_080);
    assert_eq!(share(&facts.parts, "feed-forward").parameters, 79_626_240);
    assert_eq!(share(&facts.parts, "norms").parameters, 35_136);
    assert_eq!(share(&facts.types, "Q4_1").bits_per_weight, 5.0);
    assert_eq!(share(&facts.types, "Q8_0").bits_per_weight, 8.5);
    assert_eq!(facts.types.iter().map(|t| t.bytes).sum::<u64>(), facts.weight_bytes);
    assert_eq!((facts.numbers.layers, facts.numbers.kv_heads, facts.numbers.head_dim), (Some(30), Some(3), Some(64)));
    assert_eq!((facts.numbers.rope_base, facts.numbers.tied_embeddings), (Some(100_000.0), Some(true)));
    // Keys and values of 3 heads of 64 in 30 layers.
    let cache = facts.kv_cache.expect("a decoder has a cache");
    assert_eq!((cache.f16_bytes_per_token, cache.f32_bytes_per_token), (23_040, 46_080));
    assert_eq!(cache.f16_bytes_full, Some(23_040 * 8192));
    let tokenizer = facts.tokenizer.expect("a tokenizer");
    assert_eq!((tokenizer.kind.as_str(), tokenizer.pre.as_deref()), ("byte-level BPE", Some("smollm")));
    assert_eq!((tokenizer.size, tokenizer.chat_template, tokenizer.runs), (Some(49_152), true, true));
    let eos = tokenizer.special.iter().find(|s| s.role == "eos").expect("an EOS");
    assert_eq!((eos.id, eos.text.as_deref()), (2, Some("<|im_end|>")));
}

#[test]
fn a_file_and_its_folder_say_the_same() {
    let at = tempfile::tempdir().unwrap();
    let (gguf, hf) = (at.path().join("a.gguf"), at.path().join("hf"));
    Tiny::default().write(&gguf);
    convert(&ModelSource::open(&gguf).unwrap(), &hf, Target::F32, &mut |_, _| {}).unwrap();
    let (a, b) = (facts(gguf), facts(hf.clone()));
    assert_eq!((a.parameters, a.weight_bytes), (b.parameters, b.weight_bytes));
    assert_eq!(a.kv_cache, b.kv_cache);
    let shapes = |facts: &Facts, part: &str| share(&facts.parts, part).parameters;
    for part in ["token embedding", "attention", "feed-forward", "norms", "head"] {
        assert_eq!(shapes(&a, part), shapes(&b, part), "{part}");
    }
    assert_eq!(a.numbers, b.numbers);
    let query = a.tensors.iter().find(|t| t.name == "blk.0.attn_q.weight").unwrap();
    let same = b.tensors.iter().find(|t| t.name == "model.layers.0.self_attn.q_proj.weight").unwrap();
    assert_eq!((&query.shape, query.bytes), (&vec![64, 32], same.bytes));
    assert_eq!(query.shape, same.shape);

    let bare = facts(hf.join("model.safetensors"));
    assert_eq!((bare.parameters, bare.runs, bare.architecture), (a.parameters, false, None));
    assert_eq!(bare.types[0].name, "F32");
}

#[test]
fn an_unknown_architecture_is_described_and_not_run() {
    let at = tempfile::tempdir().unwrap();
    let path = at.path().join("strange.gguf");
    let mut header = GgufHeader::new();
    header.set("general.architecture", "strange");
    header.set("strange.block_count", 7u32);
    header.set("strange.embedding_length", 64u32);
    header.set("tokenizer.ggml.model", "llama");
    header.set("tokenizer.ggml.eos_token_id", 9u32);
    header.tensor("blk.0.mixer.weight", &[64, 2], BlockType::F32);
    header.tensor("table", &[64, 3], BlockType::F16);
    let mut writer = GgufWriter::create(&path, &header).unwrap();
    writer.write("blk.0.mixer.weight", &[0; 64 * 2 * 4]).unwrap();
    writer.write("table", &[0; 64 * 3 * 2]).unwrap();
    writer.commit().unwrap();

    let facts = facts(path);
    assert!(!facts.runs);
    assert!(facts.problem.as_deref().unwrap().contains("unknown architecture \"strange\""), "{:?}", facts.problem);
    assert_eq!((facts.parameters, facts.numbers.layers), (64 * 5, Some(7)));
    assert_eq!(share(&facts.parts, "blocks").parameters, 128);
    assert_eq!(share(&facts.parts, "outside of blocks").parameters, 192);
    assert_eq!(facts.kv_cache, None);
    let tokenizer = facts.tokenizer.unwrap();
    assert_eq!((tokenizer.kind.as_str(), tokenizer.runs), ("SentencePiece", false));
    assert!(tokenizer.problem.is_some());
    assert_eq!((tokenizer.special[0].id, &tokenizer.special[0].text), (9, &None));
}

#[test]
fn vocabularies_alone_are_described() {
    let Some(data) = var_os("PORISM_TEST_DATA").map(PathBuf::from) else {
        return skipped();
    };
    for (name, kind, size, runs) in [
        ("gpt-2", "byte-level BPE", 50_257, true),
        ("llama-bpe", "byte-level BPE", 128_256, true),
        ("llama-spm", "SentencePiece", 32_000, true),
        ("bert-bge", "WordPiece", 30_522, true),
    ] {
        let facts = facts(data.join("tokenizers").join(format!("ggml-vocab-{name}.gguf")));
        assert_eq!(facts.problem.as_deref(), Some("it has no weights"), "{name}");
        assert_eq!((facts.parameters, facts.bits_per_weight), (0, None));
        let tokenizer = facts.tokenizer.expect("a tokenizer");
        assert_eq!((tokenizer.kind.as_str(), tokenizer.size, tokenizer.runs), (kind, Some(size), runs), "{name}");
    }
}

#[allow(clippy::print_stderr)] // the one visible line of a skipped test
fn skipped() {
    skip("skipped: PORISM_TEST_DATA does not name a folder with tokenizers/\n");
}

/// A visible line: not `eprintln!`, which the test harness swallows.
fn skip(line: &str) {
    use std::io::Write;
    let _ = std::io::stderr().write_all(line.as_bytes());
}
