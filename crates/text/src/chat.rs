//! Chats: messages, and the JSON files that hold them.
//!
//! A file is an array of messages or an object with `messages` and optionally `tools`, as the common chat
//! APIs have it. A message's content is a string; a list of text parts is joined, and null (an assistant's
//! message that only calls tools) is empty. Everything else in a message (`tool_calls`, `name`, ...) is
//! kept for the template; nulls are dropped, as transformers does, since templates stumble over them.

use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize};
use serde_json::{Map, Value};

use crate::{Error, Result};

/// One message of a chat.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Message {
    /// Who speaks: `system`, `user`, `assistant`, `tool`, or what else the template knows.
    pub role: String,
    /// What is said.
    #[serde(default, deserialize_with = "content")]
    pub content: String,
    /// Whatever else the message has.
    #[serde(flatten, deserialize_with = "without_nulls")]
    pub extra: Map<String, Value>,
}

impl Message {
    /// A message with nothing but a role and content.
    pub fn new(role: impl Into<String>, content: impl Into<String>) -> Message {
        Message { role: role.into(), content: content.into(), extra: Map::new() }
    }
}

/// A chat file: messages, and the tools that the model may call.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Chat {
    /// The messages in order.
    pub messages: Vec<Message>,
    /// An array of tool descriptions.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tools: Option<Value>,
}

impl Chat {
    /// Reads a chat file. `name` stands for it in messages.
    ///
    /// # Errors
    /// The text is no JSON, or not of that shape; the error has the line.
    pub fn parse(name: &str, json: &str) -> Result<Chat> {
        let fail = |e: serde_json::Error| Error::json(name, &e);
        let chat = match json.trim_start().as_bytes().first() {
            Some(b'[') => Chat { messages: serde_json::from_str(json).map_err(fail)?, tools: None },
            Some(b'{') => serde_json::from_str(json).map_err(fail)?,
            _ => {
                return Err(Error::Chat(format!(
                    "{name} is neither an array of messages nor an object with `messages`"
                )));
            }
        };
        if chat.messages.is_empty() {
            return Err(Error::Chat(format!("{name} has no messages")));
        }
        if chat.tools.as_ref().is_some_and(|tools| !tools.is_array()) {
            return Err(Error::Chat(format!("{name}: `tools` is not an array")));
        }
        Ok(chat)
    }
}

/// The messages of a chat file's text.
///
/// # Errors
/// As for [`Chat::parse`].
pub fn parse_chat(json: &str) -> Result<Vec<Message>> {
    Ok(Chat::parse("chat", json)?.messages)
}

/// Content that is a string, a list of text parts, or null.
fn content<'de, D: Deserializer<'de>>(deserializer: D) -> std::result::Result<String, D::Error> {
    #[derive(Deserialize)]
    #[serde(untagged)]
    enum Content {
        Text(String),
        Parts(Vec<Map<String, Value>>),
        Null(()),
    }
    let wrong = || D::Error::custom("a message's content is a string or a list of {\"type\": \"text\", \"text\": ...}");
    match Content::deserialize(deserializer).map_err(|_| wrong())? {
        Content::Text(text) => Ok(text),
        Content::Null(()) => Ok(String::new()),
        Content::Parts(parts) => {
            let text = |part: &Map<String, Value>| {
                let is_text = part.get("type").is_none_or(|t| t == "text");
                part.get("text").and_then(Value::as_str).filter(|_| is_text).map(str::to_owned)
            };
            parts.iter().map(text).collect::<Option<String>>().ok_or_else(wrong)
        }
    }
}

fn without_nulls<'de, D: Deserializer<'de>>(deserializer: D) -> std::result::Result<Map<String, Value>, D::Error> {
    let mut map = Map::deserialize(deserializer)?;
    map.retain(|_, value| !value.is_null());
    Ok(map)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn both_shapes_are_read() {
        let messages = r#"[{"role": "user", "content": "Hi"}, {"role": "assistant", "content": null,
            "tool_calls": [1], "name": null}]"#;
        let read = parse_chat(messages).unwrap();
        assert_eq!(read[0], Message::new("user", "Hi"));
        assert_eq!(read[1].content, "");
        assert_eq!(Value::Object(read[1].extra.clone()), json!({"tool_calls": [1]}));
        let chat = Chat::parse("c", &format!(r#" {{"messages": {messages}, "tools": [{{}}]}}"#)).unwrap();
        assert_eq!((chat.messages, chat.tools), (read, Some(json!([{}]))));
    }

    #[test]
    fn text_parts_are_joined() {
        let parts = r#"[{"role": "user", "content": [{"type": "text", "text": "a"}, {"type": "text", "text": "b"}]}]"#;
        assert_eq!(parse_chat(parts).unwrap()[0].content, "ab");
    }

    #[test]
    fn errors_say_where() {
        let message = |text: &str| Chat::parse("chat.json", text).unwrap_err().to_string();
        for (text, want) in [
            ("", "chat: chat.json is neither"),
            ("\"a\"", "neither"),
            ("[]", "no messages"),
            ("{}", "missing field `messages`"),
            ("[\n {\"role\": \"user\", \"content\": \"a\"},\n {\"content\": \"a\"}\n]", "chat.json:3:"),
            ("[\n {\"role\": \"user\",\n  \"content\": 5}]", "a message's content is a string"),
            ("[{\"role\": \"user\", \"content\": [{\"type\": \"image\"}]}]", "a message's content is a string"),
            ("[{\"role\": \"user\", \"content\": \"a\"}", "chat.json:1:"),
            ("{\"messages\": [{\"role\": \"user\"}], \"tools\": 1}", "`tools` is not an array"),
        ] {
            let got = message(text);
            assert!(got.contains(want), "{text}: {got}");
        }
    }

    #[test]
    fn deep_nesting_is_an_error() {
        let deep = format!("[{{\"role\": \"user\", \"x\": {}", "[".repeat(100_000));
        assert!(parse_chat(&deep).is_err());
    }
}
