//! Rows of training data against transformers: tokens and what counts in `fixtures/examples.json` come from its
//! apply_chat_template and its assistant mask, over the default model's tokenizer (scripts/fixtures/text_examples.py).

use std::collections::BTreeMap;
use std::env::var_os;
use std::sync::LazyLock;

use porism_formats::Gguf;
use porism_formats::rows::Row;
use porism_hub::{CacheDir, Network, Silent, ensure_default_model};
use porism_text::examples::{Composer, Example};
use porism_text::{ChatTemplate, SpacePrefix, SpecialIds, TokenType, Tokenizer, VocabModel, VocabSource};
use proptest::prelude::*;
use serde::Deserialize;
use serde_json::{Map, Value, json};

#[derive(Deserialize)]
struct Fixture {
    templates: BTreeMap<String, String>,
    cases: Vec<Case>,
}

#[derive(Deserialize)]
struct Case {
    template: Option<String>,
    row: Map<String, Value>,
    examples: Vec<Expected>,
}

#[derive(Deserialize)]
struct Expected {
    ids: Vec<u32>,
    /// Places of the tokens that count.
    counts: Vec<usize>,
}

/// The default model's tokenizer; the model is fetched into the shared cache the first time.
static TOKENIZER: LazyLock<Tokenizer> = LazyLock::new(|| {
    let cache = CacheDir::resolve(var_os("PORISM_HOME"), var_os("XDG_CACHE_HOME"), var_os("HOME")).expect("a cache");
    let path = ensure_default_model(&cache, &Network::default(), &mut Silent).expect("the default model");
    Tokenizer::from_gguf(&Gguf::open(&path).expect("a model file")).expect("a tokenizer")
});

fn row(value: Value) -> Row {
    let Value::Object(value) = value else { panic!("an object") };
    Row { at: "rows.jsonl, line 7".into(), value }
}

fn counts(example: &Example) -> Vec<usize> {
    (0..example.ids.len()).filter(|&i| example.scored[i]).collect()
}

#[test]
fn tokens_and_what_counts_are_those_of_transformers() {
    let fixture: Fixture = serde_json::from_str(include_str!("fixtures/examples.json")).unwrap();
    let own = ChatTemplate::of(&TOKENIZER).unwrap().expect("a template");
    let others: BTreeMap<&str, ChatTemplate> = fixture
        .templates
        .iter()
        .map(|(name, source)| (name.as_str(), ChatTemplate::new(source, "<|im_start|>", "<|im_end|>").unwrap()))
        .collect();
    assert!(fixture.cases.len() >= 25);
    let mut wrong = Vec::new();
    for case in &fixture.cases {
        let template = case.template.as_deref().map(|name| if name == "default" { &own } else { &others[name] });
        let composer = Composer::new(&TOKENIZER, template);
        let row = row(case.row.clone().into());
        let examples = composer.compose_all(&row).unwrap();
        assert_eq!(examples.len(), case.examples.len(), "{row:?}");
        if let [example] = &examples[..] {
            assert_eq!(composer.compose(&row).unwrap(), *example);
        }
        for (ours, theirs) in examples.iter().zip(&case.examples) {
            assert_eq!((ours.ids.len(), &*ours.at), (ours.scored.len(), "rows.jsonl, line 7"));
            assert_eq!(ours.targets(), counts(ours).len());
            if ours.ids != theirs.ids || counts(ours) != theirs.counts {
                let shown = |ids: &[u32], places: &[usize]| {
                    let pieces = ids.iter().enumerate().map(|(i, &id)| {
                        let text = TOKENIZER.token_text(id).unwrap_or("?");
                        if places.contains(&i) { format!("[{text}]") } else { text.to_owned() }
                    });
                    pieces.collect::<Vec<_>>().join(" ")
                };
                let (got, want) = (shown(&ours.ids, &counts(ours)), shown(&theirs.ids, &theirs.counts));
                wrong.push(format!("{:?}\n  {got}\n  {want}", case.row));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn rows_that_are_no_examples_are_refused_with_their_place() {
    let fixture: Fixture = serde_json::from_str(include_str!("fixtures/examples.json")).unwrap();
    let own = ChatTemplate::of(&TOKENIZER).unwrap().expect("a template");
    let thoughts = ChatTemplate::new(&fixture.templates["thoughts"], "", "").unwrap();
    let refusing = ChatTemplate::new("{{ raise_exception('only whispers') }}", "", "").unwrap();
    let backwards = ChatTemplate::new(
        "{% for m in messages[::-1] %}{{ m.content }}\n{% endfor %}{% if add_generation_prompt %}>{% endif %}",
        "",
        "",
    )
    .unwrap();
    let chat = json!({ "messages": [
        { "role": "user", "content": "a" }, { "role": "assistant", "content": "b", "thoughts": "hm" },
        { "role": "user", "content": "c" }, { "role": "assistant", "content": "d", "thoughts": "ah" }] });
    for (template, value, want) in [
        (None, chat.clone(), "the model has no chat template for messages"),
        (Some(&thoughts), chat.clone(), "shows message 2 in another way when more follows"),
        (Some(&refusing), chat.clone(), "only whispers"),
        (Some(&backwards), chat.clone(), "in another place than a prompt's end"),
        (Some(&own), json!({ "question": "q" }), "fields are question"),
        (
            Some(&own),
            json!({ "messages": [{ "role": "assistant", "content": "Hello" }] }),
            "the first message is the assistant's",
        ),
    ] {
        let error = Composer::new(&TOKENIZER, template).compose(&row(value)).unwrap_err().to_string();
        assert!(error.starts_with("rows.jsonl, line 7: ") && error.contains(want), "{want}: {error}");
    }
}

#[test]
fn an_example_is_cut_at_its_end() {
    let composer = Composer::new(&TOKENIZER, None);
    let mut example = composer.compose(&row(json!({ "prompt": "a b", "completion": " c d" }))).unwrap();
    let whole = example.clone();
    assert!(!example.truncate(whole.ids.len()));
    assert_eq!(example, whole);
    assert_eq!((whole.ids.len(), whole.targets()), (5, 3));
    assert!(example.truncate(3));
    assert_eq!((example.ids.as_slice(), example.targets()), (&whole.ids[..3], 1));
}

proptest! {
    /// The default model's tokens spell the text, so that which of them have a byte of the completion can be counted.
    #[test]
    fn a_token_counts_if_it_has_a_byte_of_the_completion(
        prompt in "(un|inter|nation| |\n|é|好|😀|'|ll|12|<\\|im_end\\|>|\\PC){0,8}",
        completion in "(able|al|ization| |\n|é|好|s|re|34|\\PC){1,8}",
    ) {
        let composer = Composer::new(&TOKENIZER, None);
        let example = composer.compose(&row(json!({ "prompt": prompt, "completion": completion }))).unwrap();
        let mut end = 0;
        for (i, &id) in example.ids.iter().enumerate() {
            end += TOKENIZER.token_bytes(id).unwrap().len();
            prop_assert_eq!(example.scored[i], i > 0 && end > prompt.len(), "token {} of {:?}", i, &example);
        }
        let spelt = TOKENIZER.decode_strict(&example.ids).unwrap();
        // A text that has ended is not ended again, white space aside.
        let text = format!("{prompt}{completion}");
        let ended = text.trim_end_matches(|c: char| c.is_ascii_whitespace()).ends_with("<|im_end|>");
        let end = if ended { "" } else { "<|im_end|>" };
        prop_assert_eq!(spelt, format!("{text}{end}"));
    }
}

/// A SentencePiece vocabulary: a space is put before a text, a BOS before that.
fn sentence_piece() -> Tokenizer {
    let pieces = [
        ("<unk>", TokenType::Unknown, 0.0),
        ("<s>", TokenType::Control, 0.0),
        ("</s>", TokenType::Control, 0.0),
        ("▁", TokenType::Normal, -9.0),
        ("a", TokenType::Normal, -9.0),
        ("b", TokenType::Normal, -9.0),
        ("▁a", TokenType::Normal, -1.0),
        ("ab", TokenType::Normal, -2.0),
        ("▁b", TokenType::Normal, -3.0),
    ];
    Tokenizer::from_source(&VocabSource {
        model: VocabModel::SentencePiece,
        tokens: pieces.iter().map(|p| p.0.into()).collect(),
        types: pieces.iter().map(|p| p.1).collect(),
        scores: pieces.iter().map(|p| p.2).collect(),
        special: SpecialIds { unk: Some(0), bos: Some(1), eos: Some(2), ..SpecialIds::default() },
        add_bos: Some(true),
        add_eos: Some(true),
        space_prefix: SpacePrefix::Every,
        ..VocabSource::default()
    })
    .unwrap()
}

/// By hand, from what SentencePiece is: no space where prompt and completion meet, one BOS, one EOS.
#[test]
fn texts_begin_and_end_once() {
    let tokenizer = sentence_piece();
    let composer = Composer::new(&tokenizer, None);
    let shown = |value: Value| {
        let example = composer.compose(&row(value)).unwrap();
        let pieces = example.ids.iter().zip(&example.scored).map(|(&id, &scored)| {
            let text = tokenizer.token_text(id).unwrap();
            if scored { format!("[{text}]") } else { text.to_owned() }
        });
        pieces.collect::<Vec<_>>().join(" ")
    };
    for (value, want) in [
        (json!({ "text": "a b" }), "<s> [▁a] [▁b] [</s>]"),
        (json!({ "text": "<s>a b</s>" }), "<s> [▁a] [▁b] [</s>]"),
        (json!({ "text": "" }), "<s> [</s>]"),
        (json!({ "prompt": "a", "completion": "a" }), "<s> ▁a [a] [</s>]"),
        (json!({ "prompt": "a", "completion": " b" }), "<s> ▁a [▁b] [</s>]"),
        // The prompt's space belongs to the answer's token.
        (json!({ "prompt": "a ", "completion": "b" }), "<s> ▁a [▁b] [</s>]"),
        // `ab` has a byte of the answer; without it the prompt is `▁a a`.
        (json!({ "prompt": "aa", "completion": "b" }), "<s> ▁a [ab] [</s>]"),
    ] {
        assert_eq!(shown(value.clone()), want, "{value}");
    }
}

/// What a template does with its BOS is the template's affair.
#[test]
fn a_template_brings_its_own_bos() {
    let tokenizer = sentence_piece();
    let source = "{{ bos_token }}{% for m in messages %}{% if m.role == 'user' %}{{ m.content }}{% else %}\
        {{ ' ' + m.content + eos_token }}{% endif %}{% endfor %}";
    let template = ChatTemplate::new(source, "<s>", "</s>").unwrap();
    let value = json!({ "messages": [
        { "role": "user", "content": "a" }, { "role": "assistant", "content": "b" },
        { "role": "user", "content": "b" }, { "role": "assistant", "content": "a" }] });
    let example = Composer::new(&tokenizer, Some(&template)).compose(&row(value)).unwrap();
    // <s> ▁a [▁b </s>] ▁b [▁a </s>]
    assert_eq!((example.ids.as_slice(), counts(&example)), (&[1, 6, 8, 2, 8, 6, 2][..], vec![2, 3, 5, 6]));
}
