//! SentencePiece and WordPiece against the Python packages: `fixtures/small_vocabularies.json` holds tiny vocabularies
//! and the ids that `sentencepiece` and `tokenizers` give (scripts/fixtures/tokenizers_small.py).

use std::path::Path;
use std::sync::{Arc, LazyLock};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use porism_formats::Gguf;
use porism_formats::gguf::{GgufHeader, GgufWriter};
use porism_text::{HfFiles, SpacePrefix, Tokenizer, VocabModel, VocabSource};
use proptest::prelude::*;
use serde_json::{Value, json};

static FIXTURE: LazyLock<Value> =
    LazyLock::new(|| serde_json::from_str(include_str!("fixtures/small_vocabularies.json")).unwrap());

/// The model file of a kind.
fn proto(kind: &str) -> Vec<u8> {
    STANDARD.decode(FIXTURE["models"][kind].as_str().unwrap()).unwrap()
}

fn of_proto(bytes: Vec<u8>) -> porism_text::Result<Tokenizer> {
    Tokenizer::from_hf_files(&HfFiles { sentence_piece: Some(bytes), ..HfFiles::default() })
}

fn of_json(file: &Value) -> porism_text::Result<Tokenizer> {
    Tokenizer::from_hf_files(&HfFiles { tokenizer: file.to_string(), ..HfFiles::default() })
}

/// The tokenizer after a way through a GGUF file.
fn through_gguf(tokenizer: &Tokenizer) -> Tokenizer {
    let mut header = GgufHeader::new();
    for (key, value) in tokenizer.to_gguf_metadata().unwrap() {
        header.set(&key, value);
    }
    let bytes = GgufWriter::new(Vec::new(), Path::new("test.gguf"), &header).unwrap().finish().unwrap();
    Tokenizer::from_gguf(&Gguf::from_bytes(Arc::new(bytes), "test.gguf").unwrap()).unwrap()
}

fn cases() -> impl Iterator<Item = (&'static str, &'static Value)> {
    let cases = FIXTURE["cases"].as_array().unwrap();
    assert!(cases.len() >= 150);
    cases.iter().map(|case| (case["text"].as_str().unwrap(), case))
}

fn ids(value: &Value) -> Vec<u32> {
    serde_json::from_value(value.clone()).unwrap()
}

#[test]
fn ids_are_those_of_sentencepiece() {
    for kind in ["bpe", "unigram"] {
        let tokenizer = of_proto(proto(kind)).unwrap();
        for tokenizer in [&tokenizer, &through_gguf(&tokenizer)] {
            for (text, case) in cases() {
                assert_eq!(tokenizer.encode(text, false, false).unwrap(), ids(&case[kind]), "{kind}: {text:?}");
            }
        }
    }
}

/// `tokenizer.json` with Python's ids: read as it is, and written from the model file.
#[test]
fn ids_are_those_of_tokenizers() {
    for kind in ["bpe", "unigram"] {
        let name = format!("{kind} tokenizer.json");
        let written = of_proto(proto(kind)).unwrap().to_tokenizer_json().unwrap();
        let mut file = FIXTURE[&name].clone();
        file["model"] = written["model"].clone();
        for (file, whose) in [(&file, "theirs"), (&written, "ours")] {
            let tokenizer = of_json(file).unwrap();
            for (text, case) in cases() {
                // The library makes control tokens of any text that is spelt like one.
                if kind == "unigram" && (text.contains("<s>") || text.contains("</s>")) {
                    continue;
                }
                let want = ids(case.get(&name).unwrap_or(&case[kind]));
                assert_eq!(tokenizer.encode(text, false, false).unwrap(), want, "{kind}, {whose}: {text:?}");
            }
        }
        assert_eq!(written["normalizer"], FIXTURE[&name]["normalizer"], "{kind}");
    }
}

#[test]
fn a_list_of_all_pairs_is_a_sentence_piece_model_again() {
    let first = of_proto(proto("bpe")).unwrap();
    let written = first.to_tokenizer_json().unwrap();
    let read = of_json(&written).unwrap();
    assert_eq!((first.model(), read.model()), (Some(VocabModel::SentencePiece), Some(VocabModel::CharBpe)));
    let again = through_gguf(&read);
    assert_eq!(again.model(), Some(VocabModel::SentencePiece));
    for (text, case) in cases() {
        assert_eq!(again.encode(text, false, false).unwrap(), ids(&case["bpe"]), "{text:?}");
    }
    // Without one of the pairs it is not.
    let mut fewer = written.clone();
    fewer["model"]["merges"].as_array_mut().unwrap().pop();
    let message = of_json(&fewer).unwrap().to_gguf_metadata().unwrap_err().to_string();
    assert!(message.contains("pairs that make up a token"), "{message}");
    let mut other = written;
    other["model"]["ignore_merges"] = true.into();
    let message = of_json(&other).unwrap().to_gguf_metadata().unwrap_err().to_string();
    assert!(message.contains("ignore_merges"), "{message}");
}

#[test]
fn word_pieces_are_those_of_tokenizers() {
    let first = of_json(&FIXTURE["word_piece"]).unwrap();
    assert_eq!((first.adds_bos(), first.adds_eos()), (true, true));
    let written = of_json(&first.to_tokenizer_json().unwrap()).unwrap();
    for tokenizer in [&first, &written, &through_gguf(&first)] {
        assert_eq!(tokenizer.model(), Some(VocabModel::WordPiece));
        for (text, case) in cases() {
            assert_eq!(tokenizer.encode(text, true, false).unwrap(), ids(&case["word_piece"]), "{text:?}");
        }
        let ids = tokenizer.encode("The river, and the mill.", true, false).unwrap();
        assert_eq!(tokenizer.decode_text(&ids, true).unwrap(), "the river , and the mill .");
    }
    // The library does what our engine does not.
    let mut file = FIXTURE["word_piece"].clone();
    file["pre_tokenizer"] = json!({ "type": "Whitespace" });
    let tokenizer = of_json(&file).unwrap();
    assert_eq!(tokenizer.model(), None);
    assert!(tokenizer.encode("the river", true, false).unwrap().len() > 3);
    assert!(tokenizer.to_gguf_metadata().unwrap_err().to_string().contains("pre_tokenizer"));
}

#[test]
fn a_text_comes_back() {
    let tokenizer = of_proto(proto("bpe")).unwrap();
    for (text, _) in cases() {
        let encoded = tokenizer.encode(text, false, false).unwrap();
        // The mark itself is a space to a SentencePiece model.
        assert_eq!(tokenizer.decode_strict(&encoded).unwrap(), text.replace('▁', " "), "{text:?}");
        assert_eq!(tokenizer.uncovered_bytes(text), 0);
    }
    let ids = tokenizer.encode("the<s>river", true, true).unwrap();
    assert_eq!(tokenizer.decode_text(&ids, true).unwrap(), "the river");
    assert_eq!(ids.iter().filter(|&&id| id == 1).count(), 2, "one that was added, and one that was read");
}

/// Where a space is put before a text: the forms of `tokenizer.json`, with the ids of Python's tokenizers for `the`.
#[test]
fn the_space_before_a_text() {
    let written = of_proto(proto("bpe")).unwrap().to_tokenizer_json().unwrap();
    let with = |prefix: SpacePrefix| {
        let files = HfFiles { tokenizer: written.to_string(), ..HfFiles::default() };
        let mut source = VocabSource::from_hf_files(&files).unwrap();
        source.space_prefix = prefix;
        let file = source.to_tokenizer_json().unwrap();
        assert_eq!(of_json(&file).unwrap().source().unwrap().space_prefix, prefix);
        let ours = of_json(&file).unwrap();
        let theirs: tokenizers::Tokenizer = file.to_string().parse().unwrap();
        for text in ["the river", " the", "  the", "a</s>b", "</s> b", "</s>b"] {
            let want = theirs.encode(text, false).unwrap().get_ids().to_vec();
            assert_eq!(ours.encode(text, false, true).unwrap(), want, "{prefix:?}: {text:?}");
        }
    };
    use SpacePrefix::{Every, EveryUnlessSpace, FirstUnlessSpace, Never};
    [Never, Every, EveryUnlessSpace, FirstUnlessSpace].into_iter().for_each(with);
}

#[test]
fn damaged_model_files_are_refused_in_words() {
    let message = |bytes: &[u8]| of_proto(bytes.to_vec()).err().unwrap().to_string();
    assert!(message(&[]).contains("no tokens"));
    for (bytes, want) in [
        (&b"\x0a\x05\x0a\x01"[..], "ends within a field"),
        (b"\x0a\x04\x0a\x02\xff\xfe", "piece 0 is not UTF-8"),
        (b"\x0a\x02\x18\x09", "piece 0 has type 9"),
        (b"\x0b", "a field of kind 3"),
        (b"\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff", "more than 64 bits"),
        (b"\x0a\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01", "ends within a field"),
        (b"\x0a\x03\x0a\x01a\x12\x02\x18\x03", "number 3"),
        (b"\x0a\x03\x0a\x01a\x12\x03\xc0\x01\x01", "treat_whitespace_as_suffix"),
        (b"\x0a\x03\x0a\x01a\x0a\x03\x0a\x01a", "tokens 0 and 1 are both `a`"),
    ] {
        assert!(message(bytes).contains(want), "{bytes:?}: {}", message(bytes));
    }
    let config = Some(json!({ "tokenizer_class": "XLMRobertaTokenizer" }).to_string());
    let files = HfFiles { sentence_piece: Some(proto("unigram")), tokenizer_config: config, ..HfFiles::default() };
    let message = Tokenizer::from_hf_files(&files).err().unwrap().to_string();
    assert!(message.contains("tokenizer.json is needed"), "{message}");
}

#[test]
fn added_tokens_join_a_model_file() {
    let config = json!({ "bos_token": "<s>", "add_eos_token": true, "added_tokens_decoder": {
        "1": { "content": "<s>", "special": true },
        "700": { "content": "<|user|>", "special": true },
        "701": { "content": "<tab>" } } });
    let files = HfFiles {
        sentence_piece: Some(proto("bpe")),
        tokenizer_config: Some(config.to_string()),
        ..HfFiles::default()
    };
    let tokenizer = Tokenizer::from_hf_files(&files).unwrap();
    assert_eq!(tokenizer.vocab_size(), 702);
    let ids = tokenizer.encode("<tab><|user|>", true, false).unwrap();
    assert_eq!((ids[0], ids[1], ids.last()), (1, 701, Some(&2)));
    assert!(!ids.contains(&700));
    assert_eq!(tokenizer.encode("<tab><|user|>", false, true).unwrap(), [701, 700]);
}

#[test]
fn long_lines_take_no_longer_than_many_short_ones() {
    // Quadratic work on these would take hours.
    for kind in ["bpe", "unigram"] {
        let tokenizer = of_proto(proto(kind)).unwrap();
        for part in ["a", "the river ", "風", " "] {
            let text = part.repeat(1_000_000 / part.len());
            assert!(!tokenizer.encode(&text, false, false).unwrap().is_empty() || part == " ");
        }
    }
}

proptest! {
    /// Anything done to a model file gives an error or a tokenizer, not a panic.
    #[test]
    fn mutated_model_files_do_not_panic(unigram in any::<bool>(), changes in prop::collection::vec((any::<u32>(), any::<u8>()), 1..8)) {
        let mut bytes = proto(if unigram { "unigram" } else { "bpe" });
        for (at, byte) in changes {
            let at = at as usize % bytes.len();
            bytes[at] = byte;
        }
        if let Ok(tokenizer) = of_proto(bytes) {
            let ids = tokenizer.encode("the river\u{a0}ran ﬁ漢 <s>", true, true).unwrap();
            tokenizer.decode(&ids).unwrap();
            if let Ok(json) = tokenizer.to_tokenizer_json() {
                let _ = of_json(&json);
            }
        }
    }

    #[test]
    fn any_text_is_encoded(text in any::<String>(), parse in any::<bool>()) {
        for kind in ["bpe", "unigram"] {
            let tokenizer = of_proto(proto(kind)).unwrap();
            let ids = tokenizer.encode(&text, true, parse).unwrap();
            let back = tokenizer.decode(&ids).unwrap();
            if kind == "bpe" && !parse && !text.is_empty() {
                let want = format!("<s> {}", text.replace('▁', " "));
                prop_assert_eq!(String::from_utf8(back).unwrap(), want);
            }
        }
    }
}
