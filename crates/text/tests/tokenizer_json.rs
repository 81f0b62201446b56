//! Tokenizers from `tokenizer.json` against Python's `tokenizers`: the ids in `fixtures/small_bpe.json` come
//! from there (scripts/fixtures/text_tokenizers.py).

use std::collections::BTreeMap;

use porism_text::{Error, HfFiles, TokenType, Tokenizer, VocabSource};
use proptest::prelude::*;
use serde::Deserialize;
use serde_json::{Value, json};

#[derive(Deserialize)]
struct Fixture {
    vocab: Vec<String>,
    merges: Vec<String>,
    files: BTreeMap<String, Value>,
    cases: Vec<BTreeMap<String, Value>>,
}

fn fixture() -> Fixture {
    serde_json::from_str(include_str!("fixtures/small_bpe.json")).unwrap()
}

impl Fixture {
    /// The whole `tokenizer.json` with one of the pre-tokenizers.
    fn file(&self, pre: &str) -> Value {
        let mut file = self.files[pre].clone();
        let ids = self.vocab.iter().cloned().zip((0..).map(Value::from));
        file["model"]["vocab"] = Value::Object(ids.collect());
        file["model"]["merges"] = json!(self.merges);
        file
    }
}

fn load(file: &Value) -> Result<Tokenizer, Error> {
    Tokenizer::from_hf_files(&HfFiles { tokenizer: file.to_string(), ..HfFiles::default() })
}

fn ids(value: &Value) -> Vec<u32> {
    serde_json::from_value(value.clone()).unwrap()
}

#[test]
fn ids_are_those_of_python() {
    let fixture = fixture();
    for pre in fixture.files.keys() {
        let tokenizer = load(&fixture.file(pre)).unwrap();
        assert_eq!(tokenizer.pre_tokenizer(), Some(&**pre));
        for case in &fixture.cases {
            let text = case["text"].as_str().unwrap();
            let plain = ids(&case[pre]);
            let parsed = case.get(&format!("{pre} parsed")).map_or(plain.clone(), ids);
            assert_eq!(tokenizer.encode(text, false, false).unwrap(), plain, "{pre}: {text:?}");
            assert_eq!(tokenizer.encode(text, false, true).unwrap(), parsed, "{pre}: {text:?}");
            assert_eq!(tokenizer.decode(&parsed).unwrap(), text.as_bytes(), "{pre}: {text:?}");
        }
    }
}

#[test]
fn a_file_of_ours_gives_the_same_ids() {
    let fixture = fixture();
    for pre in fixture.files.keys() {
        let first = load(&fixture.file(pre)).unwrap();
        let second = load(&first.to_tokenizer_json().unwrap()).unwrap();
        assert_eq!(first.source().unwrap(), second.source().unwrap());
        for case in &fixture.cases {
            let text = case["text"].as_str().unwrap();
            assert_eq!(first.encode(text, true, true).unwrap(), second.encode(text, true, true).unwrap());
        }
    }
}

/// The library path: the same rule, written so that we do not recognize it.
#[test]
fn an_unknown_pre_tokenizer_runs_on_the_library() {
    let fixture = fixture();
    let mut file = fixture.file("qwen2");
    let pattern = file["pre_tokenizer"]["pretokenizers"][0]["pattern"]["Regex"].as_str().unwrap();
    file["pre_tokenizer"]["pretokenizers"][0]["pattern"]["Regex"] = format!("(?:{pattern})").into();
    let tokenizer = load(&file).unwrap();
    assert_eq!(tokenizer.pre_tokenizer(), None);
    for case in &fixture.cases {
        let text = case["text"].as_str().unwrap();
        let plain = ids(&case["qwen2"]);
        let parsed = case.get("qwen2 parsed").map_or(plain.clone(), ids);
        assert_eq!(tokenizer.encode(text, false, false).unwrap(), plain, "{text:?}");
        assert_eq!(tokenizer.encode(text, false, true).unwrap(), parsed, "{text:?}");
        assert_eq!(tokenizer.decode(&parsed).unwrap(), text.as_bytes());
    }
    let message = tokenizer.to_gguf_metadata().unwrap_err().to_string();
    assert!(message.contains("pre_tokenizer") && message.contains("not supported"), "{message}");
}

#[test]
fn nfc_is_applied_before_the_words_are_cut() {
    let fixture = fixture();
    let mut file = fixture.file("qwen2");
    file["normalizer"] = json!({ "type": "NFC" });
    let tokenizer = load(&file).unwrap();
    assert_eq!(tokenizer.pre_tokenizer(), Some("qwen2"));
    let encode = |text: &str| tokenizer.encode(text, false, true).unwrap();
    assert_eq!(encode("cafe\u{301}<tool>e\u{301}"), encode("café<tool>é"));
    assert_eq!(tokenizer.to_tokenizer_json().unwrap()["normalizer"], json!({ "type": "NFC" }));
}

#[test]
fn the_files_beside_it_say_what_is_added_and_what_ends() {
    let fixture = fixture();
    let mut file = fixture.file("llama-bpe");
    file["post_processor"] = json!({ "type": "TemplateProcessing",
        "single": [{ "SpecialToken": { "id": "<|im_start|>", "type_id": 0 } }, { "Sequence": { "id": "A", "type_id": 0 } }],
        "pair": [], "special_tokens": {} });
    let config = json!({ "bos_token": { "content": "<|im_start|>" }, "eos_token": "<|im_end|>",
        "pad_token": "<|endoftext|>", "unk_token": "nowhere", "chat_template": [
            { "name": "default", "template": "D" }, { "name": "tool_use", "template": "T" }] });
    let files = HfFiles {
        tokenizer: file.to_string(),
        tokenizer_config: Some(config.to_string()),
        generation_config: Some(json!({ "eos_token_id": [2, 7], "bos_token_id": 5 }).to_string()),
        ..HfFiles::default()
    };
    let tokenizer = Tokenizer::from_hf_files(&files).unwrap();
    assert_eq!((tokenizer.bos(), tokenizer.eos()), (Some(1), Some(2)));
    assert_eq!((tokenizer.special_ids().pad, tokenizer.special_ids().unk), (Some(0), None));
    assert!(tokenizer.adds_bos() && !tokenizer.adds_eos());
    assert_eq!(tokenizer.encode("a", true, false).unwrap()[0], 1);
    assert_eq!(tokenizer.end_of_generation_ids(), [0, 2, 7]);
    assert!(tokenizer.is_special(1) && !tokenizer.is_special(7));
    assert_eq!(tokenizer.chat_template(), Some("D"));
    assert_eq!(tokenizer.named_templates()[0].source, "T");
    let jinja = HfFiles { chat_template: Some("J".into()), ..files.clone() };
    assert_eq!(Tokenizer::from_hf_files(&jinja).unwrap().chat_template(), Some("J"));
    let single = HfFiles { generation_config: Some(json!({ "eos_token_id": 7 }).to_string()), ..files };
    assert!(Tokenizer::from_hf_files(&single).unwrap().end_of_generation(7));
    // And all of it again through the files that we write.
    let written = HfFiles {
        tokenizer: tokenizer.to_tokenizer_json().unwrap().to_string(),
        tokenizer_config: Some(tokenizer.to_tokenizer_config().unwrap().to_string()),
        generation_config: Some(json!({ "eos_token_id": [2, 7] }).to_string()),
        ..HfFiles::default()
    };
    let again = Tokenizer::from_hf_files(&written).unwrap();
    assert_eq!(again.source().unwrap(), tokenizer.source().unwrap());
}

#[test]
fn a_folder_is_read() {
    let fixture = fixture();
    let folder = tempfile::tempdir().unwrap();
    let message = Tokenizer::from_hf(folder.path()).err().unwrap().to_string();
    assert!(message.contains("no tokenizer.json"), "{message}");
    std::fs::write(folder.path().join("tokenizer.json"), fixture.file("gpt-2").to_string()).unwrap();
    std::fs::write(folder.path().join("chat_template.jinja"), "{{ messages }}").unwrap();
    let tokenizer = Tokenizer::from_hf(folder.path()).unwrap();
    assert_eq!(tokenizer.chat_template(), Some("{{ messages }}"));
    std::fs::write(folder.path().join("tokenizer_config.json"), "{\n\"a\":}").unwrap();
    let message = Tokenizer::from_hf(folder.path()).err().unwrap().to_string();
    assert!(message.starts_with("tokenizer_config.json:2:"), "{message}");
}

#[test]
fn gaps_in_the_numbering_are_filled() {
    let fixture = fixture();
    let mut file = fixture.file("gpt-2");
    let last = fixture.vocab.len() + 1; // <tool> is at the end of the vocabulary
    file["added_tokens"].as_array_mut().unwrap().push(json!({ "id": last + 2, "content": "<last>", "special": true }));
    let tokenizer = load(&file).unwrap();
    assert_eq!(tokenizer.vocab_size(), last + 3);
    assert_eq!(tokenizer.token_text(last as u32), Some(format!("[PAD{last}]").as_str()));
    assert_eq!(tokenizer.source().unwrap().types[last], TokenType::Unused);
    assert_eq!(tokenizer.encode("<last>", false, true).unwrap(), [last as u32 + 2]);
}

/// A change of the file, and words of the error it leads to.
type BadFile = (&'static str, fn(&mut Value));

#[test]
fn bad_files_are_refused_in_words() {
    let table: &[BadFile] = &[
        ("missing field `vocab`", |f| f["model"] = json!({ "type": "BPE", "merges": [] })),
        ("missing field `model`", |f| *f = json!({})),
        ("\"WordLevel\" is not supported", |f| f["model"]["type"] = "WordLevel".into()),
        ("missing field `vocab`", |f| f["model"] = json!({ "type": "Unigram" })),
        ("invalid type", |f| f["model"] = json!({ "type": "Unigram", "vocab": [["a", "b"]] })),
        ("missing field `vocab`", |f| f["model"] = json!({ "type": "WordPiece" })),
        ("byte_fallback of a model on bytes", |f| f["model"]["byte_fallback"] = true.into()),
        ("precompiled_charsmap: it leads outside of itself", |f| {
            f["model"] = json!({ "type": "Unigram", "unk_id": 0, "vocab": [["a", 0.5]] });
            f["added_tokens"] = json!([]);
            // A trie of one unit, and a pre-tokenizer that only the library knows.
            f["normalizer"] = json!({ "type": "Precompiled", "precompiled_charsmap": "BAAAAAAAAAAA" });
        }),
        ("single_word", |f| f["added_tokens"][0]["single_word"] = true.into()),
        ("merge 0 (`Q` `Q`): there is no token `QQ`", |f| f["model"]["merges"] = json!(["Q Q"])),
        ("merge 0 (`QQ` `Q`)", |f| f["model"]["merges"] = json!([["QQ", "Q"]])),
        ("`QQ` is no merge", |f| f["model"]["merges"] = json!(["QQ"])),
        ("a merge has two tokens", |f| f["model"]["merges"] = json!([["Q", "Q", "Q"]])),
        ("a merge: two tokens", |f| f["model"]["merges"] = json!([5])),
        ("id 5 is both", |f| f["model"]["vocab"]["extra"] = 5.into()),
        ("there is a token with id 4000000000", |f| f["model"]["vocab"]["extra"] = 4_000_000_000u32.into()),
        ("invalid value", |f| f["model"]["vocab"]["extra"] = (-1).into()),
        ("invalid type", |f| f["model"]["vocab"]["extra"] = "5".into()),
        ("are both `extra`", |f| {
            f["added_tokens"].as_array_mut().unwrap().push(json!({ "id": 9000, "content": "extra" }));
            f["added_tokens"].as_array_mut().unwrap().push(json!({ "id": 9001, "content": "extra" }));
        }),
        ("but the added token `other`", |f| f["added_tokens"][0]["content"] = "other".into()),
        ("no tokens", |f| {
            f["model"]["vocab"] = json!({});
            f["model"]["merges"] = json!([]);
            f["added_tokens"] = json!([]);
        }),
        ("post_processor", |f| f["post_processor"] = json!({ "type": "BertProcessing" })),
        ("`<nowhere>`, which is no token", |f| {
            f["post_processor"] = json!({ "type": "TemplateProcessing", "single": [
                { "SpecialToken": { "id": "<nowhere>" } }, { "Sequence": { "id": "A" } }] });
        }),
        ("TemplateProcessing", |f| {
            let piece = json!({ "SpecialToken": { "id": "<|im_end|>" } });
            f["post_processor"] = json!({ "type": "TemplateProcessing", "single": [piece, piece] });
        }),
    ];
    let fixture = fixture();
    for (want, change) in table {
        let mut file = fixture.file("gpt-2");
        change(&mut file);
        let message = load(&file).err().unwrap_or_else(|| panic!("{want}: accepted")).to_string();
        assert!(message.contains(want), "{want}: {message}");
    }
    for text in ["", "[", "null", "5", &"[".repeat(100_000)] {
        let files = HfFiles { tokenizer: text.to_owned(), ..HfFiles::default() };
        let message = Tokenizer::from_hf_files(&files).err().unwrap().to_string();
        assert!(message.starts_with("tokenizer.json:"), "{message}");
    }
}

#[test]
fn a_converter_is_told_that_a_rule_has_no_name() {
    let fixture = fixture();
    let refused = |file: &Value, want: &str| {
        let files = HfFiles { tokenizer: file.to_string(), ..HfFiles::default() };
        let message = VocabSource::from_hf_files(&files).err().unwrap().to_string();
        assert!(message.contains(want), "{message}");
    };
    let mut file = fixture.file("gpt-2");
    file["model"]["ignore_merges"] = true.into();
    refused(&file, "with ignore_merges true");
    let mut file = fixture.file("gpt-2");
    file["pre_tokenizer"]["add_prefix_space"] = true.into();
    refused(&file, "pre_tokenizer");
    let mut file = fixture.file("gpt-2");
    file["normalizer"] = json!({ "type": "Lowercase" });
    refused(&file, "normalizer");
}

proptest! {
    #[test]
    fn what_is_encoded_is_decoded(text in any::<String>(), parse in any::<bool>()) {
        let tokenizer = load(&fixture().file("llama-bpe")).unwrap();
        let ids = tokenizer.encode(&text, false, parse).unwrap();
        prop_assert_eq!(tokenizer.decode(&ids).unwrap(), text.as_bytes());
        prop_assert_eq!(tokenizer.decode_strict(&ids).unwrap(), text);
    }

    #[test]
    fn any_ids_are_decoded_or_refused(ids in prop::collection::vec(any::<u32>().prop_map(|i| i % 1000), 0..50)) {
        let tokenizer = load(&fixture().file("qwen2")).unwrap();
        let outside = ids.iter().any(|&id| id as usize >= tokenizer.vocab_size());
        prop_assert_eq!(tokenizer.decode(&ids).is_err(), outside);
        prop_assert_eq!(tokenizer.decode_text(&ids, true).is_err(), outside);
    }

    /// Anything done to the file gives an error or a tokenizer, not a panic.
    #[test]
    fn mutated_files_do_not_panic(seed in any::<u64>(), changes in 1usize..6) {
        let fixture = fixture();
        let mut bytes = fixture.file("smollm").to_string().into_bytes();
        let mut state = seed;
        for _ in 0..changes {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            let at = (state >> 33) as usize % bytes.len();
            match state >> 8 & 3 {
                0 => bytes[at] = b"0\"[]{},:-x"[(state >> 16) as usize % 10],
                1 => { bytes.remove(at); }
                2 => bytes.insert(at, b"9\"[]{},:\\ "[(state >> 16) as usize % 10]),
                _ => bytes.truncate(at.max(1)),
            }
        }
        let files = HfFiles { tokenizer: String::from_utf8_lossy(&bytes).into_owned(), ..HfFiles::default() };
        if let Ok(tokenizer) = Tokenizer::from_hf_files(&files) {
            let ids = tokenizer.encode("Hello <tool> World 123\n", true, true).unwrap();
            tokenizer.decode(&ids).unwrap();
        }
    }
}
