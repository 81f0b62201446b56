//! Ids of real vocabularies, where there are such files: llama.cpp's vectors, and the default model.

use std::path::{Path, PathBuf};

use porism_formats::Gguf;
use porism_formats::gguf::{GgufHeader, GgufWriter};
use porism_text::{Tokenizer, VocabModel};
use serde::Deserialize;

/// A folder that an environment variable names; prints that the test is skipped if it is not set.
fn folder(variable: &str, test: &str) -> Option<PathBuf> {
    let folder = std::env::var_os(variable).map(PathBuf::from).filter(|f| f.is_dir());
    if folder.is_none() {
        skip(&format!("skipped: {test} needs {variable}\n"));
    }
    folder
}

/// The vocabularies with vectors in a folder.
fn vocabularies(folder: &Path) -> Vec<PathBuf> {
    let files = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    let has_vectors = |path: &PathBuf| PathBuf::from(format!("{}.inp", path.display())).is_file();
    let mut found: Vec<PathBuf> =
        files.filter(|path| path.extension().is_some_and(|e| e == "gguf") && has_vectors(path)).collect();
    found.sort();
    found
}

/// Each text of a vocabulary's `.inp` gives the line of ids in its `.out`; as a file of ours too.
fn check_vectors(path: &Path) {
    let name = path.display();
    let tokenizer = Tokenizer::from_gguf(&Gguf::open(path).unwrap()).unwrap();
    let read = |suffix: &str| std::fs::read_to_string(format!("{name}{suffix}")).unwrap();
    let (texts, ids) = (read(".inp"), read(".out"));
    let mut texts: Vec<&str> = texts.split("\n__ggml_vocab_test__\n").collect();
    // In most of the files the separator follows the last text too.
    if texts.last() == Some(&"") {
        texts.pop();
    }
    let lines: Vec<&str> = ids.lines().collect();
    assert_eq!(texts.len(), lines.len(), "{name}");
    assert!(texts.len() > 40, "{name}");
    let again = tempfile::tempdir().unwrap();
    let again = again.path().join("vocab.gguf");
    let mut header = GgufHeader::new();
    for (key, value) in tokenizer.to_gguf_metadata().unwrap() {
        header.set(&key, value);
    }
    GgufWriter::create(&again, &header).unwrap().commit().unwrap();
    let again = Tokenizer::from_gguf(&Gguf::open(&again).unwrap()).unwrap();
    for (text, line) in texts.iter().zip(lines) {
        let want: Vec<u32> = line.split_whitespace().map(|id| id.parse().unwrap()).collect();
        assert_eq!(tokenizer.encode(text, false, false).unwrap(), want, "{name}: {text:?}");
        assert_eq!(again.encode(text, false, false).unwrap(), want, "{name} written and read: {text:?}");
        // WordPiece and unigram change the text; the others give it back.
        if tokenizer.model().is_some_and(|m| !matches!(m, VocabModel::WordPiece | VocabModel::Unigram)) {
            assert_eq!(tokenizer.decode(&want).unwrap(), text.as_bytes(), "{name}");
        }
    }
}

#[test]
fn llama_cpp_vectors() {
    let Some(folder) = folder("PORISM_TEST_DATA", "llama_cpp_vectors") else { return };
    let found = vocabularies(&folder.join("tokenizers"));
    assert!(found.len() >= 6, "{found:?}");
    found.iter().for_each(|path| check_vectors(path));
}

#[test]
fn llama_cpp_vectors_of_more_vocabularies() {
    let test = "llama_cpp_vectors_of_more_vocabularies";
    let Some(folder) = folder("PORISM_TEST_MODELS", test).map(|f| f.join("vocab")) else { return };
    if !folder.is_dir() {
        skip(&format!("skipped: {test} needs {}\n", folder.display()));
        return;
    }
    let found = vocabularies(&folder);
    assert!(found.len() >= 15, "{found:?}");
    found.iter().for_each(|path| check_vectors(path));
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
