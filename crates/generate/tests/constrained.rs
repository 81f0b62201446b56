//! Constrained answers of the default model, checked by parsers that are not llguidance's.

use std::cell::RefCell;
use std::sync::Arc;

use fancy_regex::Regex;
use porism_generate::{Constrainer, Grammar, Request, Sampling, Session, StopReason};
use porism_hub::{CacheDir, Network, Silent, ensure_default_model};
use porism_kernels::{Isa, Pool};
use porism_models::cpu::{Activations, CpuExecutor, KvType};
use porism_models::{Decoder, ModelSource, load_decoder};
use porism_text::Tokenizer;
use serde_json::Value;

fn model() -> (Decoder, Tokenizer) {
    let var = std::env::var_os;
    let cache = CacheDir::resolve(var("PORISM_HOME"), var("XDG_CACHE_HOME"), var("HOME")).expect("a cache folder");
    let path = ensure_default_model(&cache, &Network::default(), &mut Silent).expect("the default model");
    let source = ModelSource::open(&path).expect("a model");
    (load_decoder(&source).expect("a decoder"), source.tokenizer().expect("a tokenizer"))
}

/// Answers at a temperature that leads off the beaten path, one for each seed.
fn answers(grammar: Grammar<'_>, seeds: u64, max_tokens: usize) -> Vec<(String, StopReason, bool)> {
    let (decoder, tokenizer) = model();
    let constraint = Constrainer::new(&tokenizer).expect("a vocabulary").compile(grammar).expect("a grammar");
    let constraint = RefCell::new(constraint);
    let steps = CpuExecutor::new(Arc::new(Pool::new(2)), Isa::detect(), Activations::Int8);
    let mut session = Session::new(&decoder, &tokenizer, steps, KvType::F16, 1024);
    let prompt = tokenizer.encode("A person, a place or a thing:\n", true, true).expect("tokens");
    (0..seeds)
        .map(|seed| {
            let sampling = Sampling { temperature: 1.5, seed, ..Sampling::GREEDY };
            let request = Request { sampling, constraint: Some(&constraint), ..Request::greedy(&prompt, max_tokens) };
            let outcome = session.generate(&request, &mut |_| {}).expect("an answer");
            let complete = constraint.borrow_mut().complete();
            (outcome.text, outcome.stop_reason, complete)
        })
        .collect()
}

#[test]
fn json_is_what_its_schema_says() {
    let schema = r#"{"type": "object", "additionalProperties": false, "required": ["kind", "age"],
        "properties": {"kind": {"enum": ["person", "place", "thing"]}, "age": {"type": "integer", "minimum": 3, "maximum": 120},
                       "tags": {"type": "array", "maxItems": 2, "items": {"type": "string", "maxLength": 8}}}}"#;
    let mut whole = 0;
    for (text, reason, complete) in answers(Grammar::JsonSchema(schema), 12, 80) {
        if !complete {
            assert_eq!(reason, StopReason::Length, "{text}");
            continue;
        }
        whole += 1;
        let value: Value = serde_json::from_str(&text).unwrap_or_else(|e| panic!("{e}: {text}"));
        let fields = value.as_object().expect("an object");
        assert!(["person", "place", "thing"].contains(&fields["kind"].as_str().expect("a kind")), "{text}");
        assert!((3..=120).contains(&fields["age"].as_i64().expect("a whole number")), "{text}");
        assert!(fields.keys().all(|key| ["kind", "age", "tags"].contains(&key.as_str())), "{text}");
        for tag in fields.get("tags").and_then(Value::as_array).into_iter().flatten() {
            assert!(tag.as_str().expect("a string").chars().count() <= 8, "{text}");
        }
    }
    assert!(whole >= 6, "{whole} whole answers");
}

#[test]
fn text_is_what_the_expression_and_the_grammar_say() {
    let pattern = "(19|20)[0-9]{2}-(0[1-9]|1[0-2]): [A-Zß][a-zäöü]{1,6}!";
    let regex = Regex::new(&format!("^(?:{pattern})$")).expect("a pattern");
    for (text, reason, complete) in answers(Grammar::Regex(pattern), 10, 40) {
        assert!(complete && reason == StopReason::Eos, "{text}");
        assert!(regex.is_match(&text).expect("a match"), "{text}");
    }
    let lark = "start: \"(\" item (\",\" item)* \")\"\nitem: /[a-z]{1,3}/ | start\n";
    for (text, _, complete) in answers(Grammar::Lark(lark), 6, 60) {
        let mut depth = 0;
        for c in text.chars() {
            depth += i32::from(c == '(') - i32::from(c == ')');
            assert!(depth >= 0 && (c.is_ascii_lowercase() || "(),".contains(c)), "{text}");
        }
        assert_eq!(complete, depth == 0, "{text}");
    }
}

#[test]
fn grammars_that_cannot_be_used_are_refused() {
    let (_, tokenizer) = model();
    let constrainer = Constrainer::new(&tokenizer).expect("a vocabulary");
    for (grammar, words) in [
        (Grammar::JsonSchema("{\"type\":"), "JSON schema"),
        (Grammar::JsonSchema("{\"type\": \"strnig\"}"), "JSON schema"),
        (Grammar::JsonSchema("{\"type\": \"integer\", \"minimum\": 5, \"maximum\": 3}"), "JSON schema"),
        (Grammar::JsonSchema("{\"type\": \"array\", \"uniqueItems\": true}"), "uniqueItems"),
        (Grammar::JsonSchema("false"), "JSON schema"),
        (Grammar::JsonSchema("{\"enum\": []}"), "JSON schema"),
        (Grammar::Regex("a(b"), "regular expression"),
        (Grammar::Regex("(?=a)b"), "regular expression"),
        (Grammar::Lark("start: nothing\n"), "grammar"),
        (Grammar::Lark("start \"a\"\n"), "grammar"),
    ] {
        let error = constrainer.compile(grammar).expect_err("a refusal").to_string();
        assert!(error.contains(words), "{grammar:?}: {error}");
    }
}
