//! The chat formats of the model families against transformers: `fixtures/family_templates.json` was rendered by its
//! jinja2 environment (scripts/fixtures/text_family_templates.py).

use std::collections::BTreeMap;
use std::path::PathBuf;

use porism_formats::Gguf;
use porism_text::{Chat, ChatTemplate, Message, RenderOptions};
use serde::Deserialize;
use serde_json::{Map, Value, json};

#[derive(Deserialize)]
struct Fixture {
    bos: String,
    eos: String,
    templates: BTreeMap<String, String>,
    chats: Vec<Chat>,
    cases: Vec<Case>,
}

#[derive(Deserialize)]
struct Case {
    template: String,
    chat: usize,
    add_generation_prompt: bool,
    variables: Map<String, Value>,
    text: Option<String>,
    error: Option<String>,
}

/// The name under which the fixture has the template that is inside a GGUF file.
const INSIDE: &str = "of the GGUF file";

fn fixture() -> Fixture {
    serde_json::from_str(include_str!("fixtures/family_templates.json")).unwrap()
}

/// Compares the cases of one template; how many there are.
fn check(fixture: &Fixture, name: &str, source: &str) -> usize {
    let template = ChatTemplate::new(source, &fixture.bos, &fixture.eos).unwrap();
    let cases = fixture.cases.iter().filter(|case| case.template == name);
    let mut compared = 0;
    for case in cases {
        let chat = &fixture.chats[case.chat];
        let options = RenderOptions {
            add_generation_prompt: case.add_generation_prompt,
            tools: chat.tools.clone(),
            variables: case.variables.clone(),
        };
        let rendered = template.render_with(&chat.messages, &options);
        let place = format!("{name}, chat {}, {options:?}", case.chat);
        match (rendered, &case.text, &case.error) {
            (Ok(ours), Some(theirs), _) => assert_eq!(ours, *theirs, "{place}"),
            (Err(error), None, Some(theirs)) => assert!(error.to_string().ends_with(theirs), "{place}: {error}"),
            (ours, theirs, error) => panic!("{place}: {ours:?} instead of {theirs:?} {error:?}"),
        }
        compared += 1;
    }
    compared
}

#[test]
fn every_family_renders_as_in_transformers() {
    let fixture = fixture();
    let names: Vec<&str> = fixture.templates.keys().map(String::as_str).collect();
    let families = ["chatml", "command-r", "deepseek", "gemma", "llama-3", "mistral-v7", "phi-3", "qwen3", "zephyr"];
    assert_eq!(names, families);
    for (name, source) in &fixture.templates {
        assert!(check(&fixture, name, source) >= 18, "{name}");
    }
}

#[test]
fn the_template_inside_a_model_renders_as_in_transformers() {
    let test = "the_template_inside_a_model_renders_as_in_transformers";
    let path = std::env::var_os("PORISM_TEST_MODELS")
        .map(|folder| PathBuf::from(folder).join("qwen2.5-coder-0.5b-instruct-q4_k_m.gguf"));
    let Some(path) = path.filter(|path| path.is_file()) else {
        use std::io::Write;
        let line = format!("skipped: {test} needs qwen2.5-coder-0.5b-instruct-q4_k_m.gguf in PORISM_TEST_MODELS\n");
        let _ = std::io::stderr().write_all(line.as_bytes());
        return;
    };
    let gguf = Gguf::open(&path).unwrap();
    let source = gguf.get_str("tokenizer.chat_template").unwrap();
    assert_eq!(check(&fixture(), INSIDE, source), 18);
}

#[test]
fn variables_are_seen_but_replace_nothing() {
    let template = ChatTemplate::new("{{ mood }} {{ messages | length }} {{ bos_token }}", "<s>", "").unwrap();
    let variables = json!({ "mood": "calm", "messages": [], "bos_token": "x" });
    let options = RenderOptions { variables: variables.as_object().unwrap().clone(), ..RenderOptions::default() };
    let messages = [Message::new("user", "a")];
    assert_eq!(template.render_with(&messages, &options).unwrap(), "calm 1 <s>");
    assert_eq!(template.render(&messages, false, None).unwrap(), " 1 <s>");
}
