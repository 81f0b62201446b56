//! Chat templates against transformers: `fixtures/chat_templates.json` was rendered by its jinja2
//! environment (scripts/fixtures/text_chat_templates.py).

use porism_text::{Chat, ChatTemplate, LocalTime};
use serde::Deserialize;
use serde_json::{Map, Value};

#[derive(Deserialize)]
struct Fixture {
    bos: String,
    eos: String,
    templates: Map<String, Value>,
    chats: Vec<Chat>,
    cases: Vec<Case>,
}

#[derive(Deserialize)]
struct Case {
    template: String,
    chat: usize,
    add_generation_prompt: bool,
    text: Option<String>,
    error: Option<String>,
    kind: Option<String>,
}

/// 2026-02-03 04:05:06, the script's clock.
const TIME: LocalTime = LocalTime { unix_seconds: 1_770_091_506, utc_offset: 0 };

#[test]
fn templates_render_as_in_transformers() {
    let fixture: Fixture = serde_json::from_str(include_str!("fixtures/chat_templates.json")).unwrap();
    let mut compared = 0;
    for case in &fixture.cases {
        let source = fixture.templates[&case.template].as_str().unwrap();
        let template = ChatTemplate::new(source, &fixture.bos, &fixture.eos).unwrap().with_time(TIME);
        let chat = &fixture.chats[case.chat];
        let rendered = template.render(&chat.messages, case.add_generation_prompt, chat.tools.as_ref());
        let place = format!("template \"{}\", chat {}, {}", case.template, case.chat, case.add_generation_prompt);
        match (rendered, &case.text, &case.error) {
            (Ok(ours), Some(theirs), _) => assert_eq!(ours, *theirs, "{place}"),
            (Err(error), None, Some(theirs)) => {
                // The template's own words are to be ours; Python's for its failures are not.
                if case.kind.as_deref() == Some("TemplateError") {
                    assert!(error.to_string().ends_with(theirs), "{place}: {error} for {theirs}");
                }
            }
            (ours, theirs, error) => panic!("{place}: {ours:?} instead of {theirs:?} {error:?}"),
        }
        compared += 1;
    }
    assert!(compared > 200, "only {compared} cases");
}
