//! Tokenizers in GGUF metadata: a round trip through a file, vocabularies that contradict themselves, and
//! (where there are such files) llama.cpp's vectors and the default model.

use std::borrow::Cow;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use porism_formats::Gguf;
use porism_formats::gguf::{Array, GgufHeader, GgufWriter, Value};
use porism_text::{ChatTemplate, Message, NamedTemplate, SpecialIds, TokenType, Tokenizer, VocabSource};
use serde::Deserialize;

fn file(entries: Vec<(String, Value<'static>)>) -> Gguf {
    let mut header = GgufHeader::new();
    for (key, value) in entries {
        header.set(&key, value);
    }
    let bytes = GgufWriter::new(Vec::new(), Path::new("test.gguf"), &header).unwrap().finish().unwrap();
    Gguf::from_bytes(Arc::new(bytes), "test.gguf").unwrap()
}

fn small() -> VocabSource<'static> {
    let tokens = ["<s>", "</s>", "a", "b", "Ġ", "ab", "Ġab", "<|tool|>", "[PAD8]"];
    let types = [3, 3, 1, 1, 1, 1, 1, 4, 5].map(|n| TokenType::from_number(n).unwrap());
    VocabSource {
        tokens: tokens.map(Cow::Borrowed).to_vec(),
        types: types.to_vec(),
        merges: [("a", "b"), ("Ġ", "ab")].map(|(l, r)| (l.into(), r.into())).to_vec(),
        pre: "qwen2".into(),
        special: SpecialIds { bos: Some(0), eos: Some(1), fim_pre: Some(7), ..SpecialIds::default() },
        add_bos: Some(true),
        add_eos: Some(false),
        chat_template: Some("{{ bos_token }}".into()),
        named_templates: vec![NamedTemplate { name: "tool_use".into(), source: "tools".into() }],
        ..VocabSource::default()
    }
}

#[test]
fn what_is_written_is_read() {
    let gguf = file(small().to_gguf_metadata());
    let tokenizer = Tokenizer::from_gguf(&gguf).unwrap();
    assert_eq!(tokenizer.source().unwrap(), small());
    assert_eq!(tokenizer.encode("ab ab<|tool|></s>", true, true).unwrap(), [0, 5, 6, 7, 1]);
    // What looks like a control token is text here; its characters have no tokens.
    assert_eq!(tokenizer.encode("ab</s>", false, false).unwrap(), [5]);
    assert_eq!(tokenizer.uncovered_bytes("ab</s>"), 4);
    assert_eq!(tokenizer.decode_text(&[0, 5, 6, 1], true).unwrap(), "ab ab");
    assert_eq!(tokenizer.decode_text(&[0, 5, 6, 1], false).unwrap(), "<s>ab ab</s>");
    let template = ChatTemplate::of(&tokenizer).unwrap().unwrap();
    assert_eq!(template.render(&[Message::new("user", "")], true, None).unwrap(), "<s>");
    let again = file(tokenizer.to_gguf_metadata().unwrap());
    assert_eq!(VocabSource::from_gguf(&again).unwrap(), small());
}

#[test]
fn a_pre_tokenizer_says_whether_a_bos_is_added_where_the_file_does_not() {
    for (pre, adds) in [("llama-bpe", true), ("llama3", true), ("dbrx", false), ("gpt-2", false), ("", false)] {
        let source = VocabSource { pre: pre.into(), add_bos: None, ..small() };
        let tokenizer = Tokenizer::from_gguf(&file(source.to_gguf_metadata())).unwrap();
        assert_eq!(tokenizer.adds_bos(), adds, "{pre}");
    }
}

/// A change of the metadata, and words of the error.
type Bad = (&'static str, fn(&mut Vec<(String, Value<'static>)>));

fn set(entries: &mut Vec<(String, Value<'static>)>, key: &str, value: Value<'static>) {
    remove(entries, key);
    entries.push((format!("tokenizer.ggml.{key}"), value));
}

fn remove(entries: &mut Vec<(String, Value<'static>)>, key: &str) {
    entries.retain(|(k, _)| *k != format!("tokenizer.ggml.{key}"));
}

fn strings(strings: &[&str]) -> Value<'static> {
    Value::Array(Array::strings(strings))
}

#[test]
fn contradictions_are_refused_in_words() {
    let table: &[Bad] = &[
        ("no key tokenizer.ggml.model", |e| remove(e, "model")),
        ("tokenizer model \"llama\" is not supported", |e| set(e, "model", "llama".into())),
        ("tokenizer model \"bert\" is not supported", |e| set(e, "model", "bert".into())),
        ("pre-tokenizer \"tekken\" is not supported; supported: gpt-2,", |e| set(e, "pre", "tekken".into())),
        ("`tokenizer.ggml.pre` should hold", |e| set(e, "pre", 5u32.into())),
        ("`tokenizer.ggml.tokens` is missing", |e| remove(e, "tokens")),
        ("`tokenizer.ggml.tokens` should hold", |e| set(e, "tokens", (&[1u32][..]).into())),
        ("`tokenizer.ggml.tokens` should hold", |e| {
            set(e, "tokens", Value::Array(Array::strings([&b"\xff"[..]])));
        }),
        ("`tokenizer.ggml.merges` is missing", |e| remove(e, "merges")),
        ("it has no tokens", |e| {
            set(e, "tokens", strings(&[]));
            set(e, "token_type", (&[0i32; 0][..]).into());
        }),
        ("test.gguf: tokens 0 and 2 are both `a`", |e| {
            set(e, "tokens", strings(&["a", "b", "a", "d", "e", "f", "g", "h", "i"]));
        }),
        ("9 tokens but 8 token types", |e| set(e, "token_type", (&[1i32; 8][..]).into())),
        ("9 tokens but 10 token types", |e| set(e, "token_type", (&[1i32; 10][..]).into())),
        ("token 0 has type 9", |e| set(e, "token_type", (&[9i32; 9][..]).into())),
        ("token 0 has type -1", |e| set(e, "token_type", (&[-1i32; 9][..]).into())),
        ("9 tokens but 1 scores", |e| set(e, "scores", (&[0f32][..]).into())),
        ("merge 0 is `ab`, not two tokens", |e| set(e, "merges", strings(&["ab"]))),
        ("merge 0 is `a `, not two tokens", |e| set(e, "merges", strings(&["a "]))),
        ("merge 1 (`a` `z`): there is no token `z`", |e| set(e, "merges", strings(&["a b", "a z"]))),
        ("merge 0 (`b` `a`): there is no token `ba`", |e| set(e, "merges", strings(&["b a"]))),
        ("the eos token is id 9, beyond the 9 tokens", |e| set(e, "eos_token_id", 9u32.into())),
        ("`tokenizer.ggml.bos_token_id` should hold", |e| set(e, "bos_token_id", (-1i32).into())),
        ("a BOS is to be added but none is named", |e| remove(e, "bos_token_id")),
        ("an EOS is to be added but none is named", |e| {
            remove(e, "eos_token_id");
            set(e, "add_eos_token", true.into());
        }),
    ];
    for (want, change) in table {
        let mut entries = small().to_gguf_metadata();
        change(&mut entries);
        let error = Tokenizer::from_gguf(&file(entries)).err().unwrap_or_else(|| panic!("{want}: accepted"));
        assert!(error.to_string().contains(want), "{want}: {error}");
    }
}

#[test]
fn a_long_run_is_merged_in_order_n_log_n() {
    // Quadratic work on these would take hours.
    let source = VocabSource { add_bos: None, ..small() };
    let tokenizer = Tokenizer::from_source(&source).unwrap();
    let text = "ab".repeat(1_000_000);
    assert_eq!(tokenizer.encode(&text, false, false).unwrap(), vec![5; 1_000_000]);
    let text = " ".repeat(1_000_000) + "ab";
    let ids = tokenizer.encode(&text, false, false).unwrap();
    assert_eq!((ids.len(), ids[999_999]), (1_000_000, 6));
}

/// A folder that an environment variable names; prints that the test is skipped if it is not set.
fn folder(variable: &str, test: &str) -> Option<PathBuf> {
    let folder = std::env::var_os(variable).map(PathBuf::from).filter(|f| f.is_dir());
    if folder.is_none() {
        skip(&format!("skipped: {test} needs {variable}\n"));
    }
    folder
}

#[test]
fn llama_cpp_vectors() {
    let Some(folder) = folder("PORISM_TEST_DATA", "llama_cpp_vectors") else { return };
    for name in ["gpt-2", "llama-bpe", "qwen2"] {
        let path = folder.join(format!("tokenizers/ggml-vocab-{name}.gguf"));
        let tokenizer = Tokenizer::from_gguf(&Gguf::open(&path).unwrap()).unwrap();
        let read = |suffix: &str| std::fs::read_to_string(format!("{}{suffix}", path.display())).unwrap();
        let (texts, ids) = (read(".inp"), read(".out"));
        let mut texts: Vec<&str> = texts.split("\n__ggml_vocab_test__\n").collect();
        assert_eq!(texts.pop(), Some(""), "the last text is followed by the separator too");
        let lines: Vec<&str> = ids.lines().collect();
        assert_eq!(texts.len(), lines.len(), "{name}");
        assert!(texts.len() > 40);
        for (text, line) in texts.iter().zip(lines) {
            let want: Vec<u32> = line.split_whitespace().map(|id| id.parse().unwrap()).collect();
            assert_eq!(tokenizer.encode(text, false, false).unwrap(), want, "{name}: {text:?}");
            assert_eq!(tokenizer.decode(&want).unwrap(), text.as_bytes(), "{name}");
        }
        // The same vocabulary as a file of ours.
        let again = file(tokenizer.to_gguf_metadata().unwrap());
        assert_eq!(Tokenizer::from_gguf(&again).unwrap().source().unwrap(), tokenizer.source().unwrap());
    }
    for (name, model) in [("llama-spm", "llama"), ("bert-bge", "bert"), ("phi-3", "llama")] {
        let gguf = Gguf::open(&folder.join(format!("tokenizers/ggml-vocab-{name}.gguf"))).unwrap();
        let message = Tokenizer::from_gguf(&gguf).err().unwrap().to_string();
        assert!(message.contains(&format!("tokenizer model \"{model}\" is not supported")), "{message}");
    }
}

#[derive(Deserialize)]
struct Fixture {
    cases: Vec<Case>,
}

#[derive(Deserialize)]
struct Case {
    text: String,
    ids: Vec<u32>,
    parsed: Option<Vec<u32>>,
}

/// `fixtures/smollm2_ids.json`: ids from Python's tokenizers (scripts/fixtures/text_tokenizers.py).
#[test]
fn the_default_model_gives_the_ids_of_python() {
    let test = "the_default_model_gives_the_ids_of_python";
    let Some(folder) = folder("PORISM_TEST_MODELS", test) else { return };
    let path = folder.join("SmolLM2-135M-Instruct.Q4_1.gguf");
    if !path.is_file() {
        skip(&format!("skipped: {test} needs {}\n", path.display()));
        return;
    }
    let gguf = Gguf::open(&path).unwrap();
    let tokenizer = Tokenizer::from_gguf(&gguf).unwrap();
    let fixture: Fixture = serde_json::from_str(include_str!("fixtures/smollm2_ids.json")).unwrap();
    assert!(fixture.cases.len() >= 300);
    for Case { text, ids, parsed } in &fixture.cases {
        let parsed = parsed.as_ref().unwrap_or(ids);
        assert_eq!(&tokenizer.encode(text, true, false).unwrap(), ids, "{text:?}");
        assert_eq!(&tokenizer.encode(text, true, true).unwrap(), parsed, "{text:?}");
        if tokenizer.uncovered_bytes(text) == 0 {
            assert_eq!(&tokenizer.decode_strict(parsed).unwrap(), text);
        }
    }
    assert_eq!((tokenizer.bos(), tokenizer.eos(), tokenizer.adds_bos()), (Some(1), Some(2), false));
    assert_eq!(tokenizer.vocab_size(), 49_152);
    // <|endoftext|>, <|im_end|> and, by llama.cpp's list, <reponame>.
    assert_eq!(tokenizer.end_of_generation_ids(), [0, 2, 4]);
    // Bytes that this vocabulary lacks are left out.
    assert_eq!(tokenizer.uncovered_bytes("a\u{4}b\u{40000}"), 2);
}

/// A visible line: not `eprintln!`, which the test harness swallows.
fn skip(line: &str) {
    use std::io::Write;
    let _ = std::io::stderr().write_all(line.as_bytes());
}
