//! Tokenizers in GGUF metadata: a round trip through a file, and vocabularies that contradict themselves.

use std::borrow::Cow;
use std::path::Path;
use std::sync::Arc;

use porism_formats::Gguf;
use porism_formats::gguf::{Array, GgufHeader, GgufWriter, Value, ValueType};
use porism_text::{
    ChatTemplate, Message, NamedTemplate, SpecialIds, TokenType, Tokenizer, TokenizerOptions, VocabSource,
};

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
        ("tokenizer model \"rwkv\" is not supported; supported: gpt2, llama, t5, bert, gemma4", |e| {
            set(e, "model", "rwkv".into());
        }),
        ("there is no tokenizer.ggml.scores", |e| set(e, "model", "llama".into())),
        ("there is no tokenizer.ggml.scores", |e| set(e, "model", "t5".into())),
        ("token 8 has no number for a score", |e| {
            set(e, "model", "llama".into());
            set(e, "scores", (&[0., 0., 0., 0., 0., 0., 0., 0., f32::NAN][..]).into());
        }),
        ("`tokenizer.ggml.scores` should hold", |e| {
            set(e, "model", "t5".into());
            set(e, "scores", strings(&["1"]));
        }),
        ("precompiled_charsmap: its trie is longer than itself", |e| {
            set(e, "model", "t5".into());
            set(e, "scores", (&[0f32; 9][..]).into());
            set(e, "precompiled_charsmap", Value::Array(Array::new(ValueType::U8, (1..9).map(Value::U8)).unwrap()));
        }),
        ("pre-tokenizer \"unheard-of\" is not supported; supported: gpt-2,", |e| set(e, "pre", "unheard-of".into())),
        ("force one with --pre-tokenizer NAME", |e| set(e, "pre", "unheard-of".into())),
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

#[test]
fn a_pre_tokenizer_can_be_forced() {
    let with = |model: &'static str, pre: &str| {
        let mut entries = small().to_gguf_metadata();
        set(&mut entries, "pre", "unheard-of".into());
        set(&mut entries, "model", model.into());
        set(&mut entries, "scores", (&[0f32; 9][..]).into());
        Tokenizer::from_gguf_with(&file(entries), &TokenizerOptions { pre_tokenizer: Some(pre.into()) })
    };
    assert_eq!(with("gpt2", "llama-bpe").unwrap().pre_tokenizer(), Some("llama-bpe"));
    assert!(with("gpt2", "no").unwrap_err().to_string().contains("pre-tokenizer \"no\" is not supported"));
    let message = with("llama", "llama-bpe").unwrap_err().to_string();
    assert!(message.contains("test.gguf has no byte-level BPE"), "{message}");
}
