//! A chat template, then (after a NUL byte) a chat file, which it renders.
#![no_main]

use libfuzzer_sys::fuzz_target;
use porism_text::{Chat, ChatTemplate, Message};

fuzz_target!(|data: &[u8]| {
    let mut parts = data.splitn(2, |&b| b == 0).map(String::from_utf8_lossy);
    let source = parts.next().unwrap_or_default();
    let chat = Chat::parse("chat", &parts.next().unwrap_or_default()).unwrap_or_else(|_| Chat {
        messages: vec![Message::new("system", "Be terse."), Message::new("user", " Hello! ")],
        tools: None,
    });
    let Ok(template) = ChatTemplate::new(&source, "<s>", "</s>") else { return };
    let _ = template.render(&chat.messages, true, chat.tools.as_ref());
});
