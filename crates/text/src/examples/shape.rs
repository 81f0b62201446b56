//! What a row says, whichever of the usual shapes it has.

use porism_formats::rows::Row;
use serde_json::Value;

use crate::{Error, Message, Result};

/// A row's shape.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Shape {
    /// `messages`.
    Chat,
    /// `prompt` and `completion`.
    PromptCompletion,
    /// `instruction`, `output`, perhaps `input`.
    Instruction,
    /// `text`.
    Text,
}

/// What a row says.
#[derive(Clone, Debug, PartialEq)]
pub enum Dialogue {
    /// Messages of which those behind the first `given` count, if the assistant says them; and the tools that it knows.
    Chat {
        /// In order.
        messages: Vec<Message>,
        /// How many at the beginning never count.
        given: usize,
        /// An array of tool descriptions.
        tools: Option<Value>,
    },
    /// A text and what follows it.
    Continued {
        /// What is given; it does not count.
        prompt: String,
        /// What counts.
        completion: String,
    },
}

impl Dialogue {
    /// Reads a row.
    ///
    /// # Errors
    /// It has none of the shapes, or a field is of another kind than its shape asks for.
    pub fn read(row: &Row) -> Result<(Shape, Dialogue)> {
        let wrong = |what: String| Error::Row { at: row.at.clone(), what };
        let has = |field: &str| row.value.get(field).is_some_and(|value| !value.is_null());
        let text = |field: &str| match &row.value[field] {
            Value::String(text) => Ok(text.clone()),
            _ => Err(wrong(format!("\"{field}\" is no text"))),
        };
        let messages = |field: &str| -> Result<Vec<Message>> {
            let list: Vec<Message> = serde_json::from_value(row.value[field].clone())
                .map_err(|e| wrong(format!("\"{field}\" is no list of messages with role and content: {e}")))?;
            if list.is_empty() { Err(wrong(format!("\"{field}\" has no messages"))) } else { Ok(list) }
        };
        if has("messages") {
            let messages = messages("messages")?;
            return Ok((Shape::Chat, Dialogue::Chat { messages, given: 0, tools: tools(row)? }));
        }
        if has("prompt") && has("completion") {
            let lists = ["prompt", "completion"].map(|field| row.value[field].is_array());
            if lists == [true, true] {
                let mut all = messages("prompt")?;
                let given = all.len();
                all.extend(messages("completion")?);
                return Ok((Shape::PromptCompletion, Dialogue::Chat { messages: all, given, tools: tools(row)? }));
            }
            if lists.contains(&true) {
                return Err(wrong("\"prompt\" and \"completion\" are both texts or both lists of messages".into()));
            }
            let (prompt, completion) = (text("prompt")?, text("completion")?);
            return Ok((Shape::PromptCompletion, Dialogue::Continued { prompt, completion }));
        }
        if has("instruction") && has("output") {
            let mut question = text("instruction")?;
            if has("input") {
                let input = text("input")?;
                if !input.trim().is_empty() {
                    question = format!("{question}\n\n{input}");
                }
            }
            let messages = vec![Message::new("user", question), Message::new("assistant", text("output")?)];
            return Ok((Shape::Instruction, Dialogue::Chat { messages, given: 1, tools: None }));
        }
        if has("text") {
            return Ok((Shape::Text, Dialogue::Continued { prompt: String::new(), completion: text("text")? }));
        }
        let there: Vec<&str> = row.value.keys().map(String::as_str).collect();
        Err(wrong(format!(
            "fields are {}, and a row has messages; prompt and completion; instruction and output; or text",
            there.join(", ")
        )))
    }
}

/// The tools of a chat: a list, or, as some data sets have it, its JSON in a text.
fn tools(row: &Row) -> Result<Option<Value>> {
    let wrong = || Error::Row { at: row.at.clone(), what: "\"tools\" is no list of tool descriptions".into() };
    let tools = match row.value.get("tools") {
        None | Some(Value::Null) => return Ok(None),
        Some(Value::String(json)) if json.trim().is_empty() => return Ok(None),
        Some(Value::String(json)) => serde_json::from_str(json).map_err(|_| wrong())?,
        Some(tools) => tools.clone(),
    };
    match tools {
        Value::Array(list) if list.is_empty() => Ok(None),
        Value::Array(list) => Ok(Some(Value::Array(list))),
        _ => Err(wrong()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(json: &str) -> std::result::Result<(Shape, Dialogue), String> {
        let value = serde_json::from_str(json).unwrap();
        Dialogue::read(&Row { at: "train.jsonl, line 3".into(), value }).map_err(|e| e.to_string())
    }

    #[test]
    fn rows_have_the_usual_shapes() {
        let (shape, dialogue) = read(r#"{"instruction": "Add.", "input": "1 2", "output": "3"}"#).unwrap();
        assert_eq!(shape, Shape::Instruction);
        let messages = vec![Message::new("user", "Add.\n\n1 2"), Message::new("assistant", "3")];
        assert_eq!(dialogue, Dialogue::Chat { messages, given: 1, tools: None });
        let (shape, dialogue) = read(r#"{"text": "a", "prompt": null}"#).unwrap();
        assert_eq!(shape, Shape::Text);
        assert_eq!(dialogue, Dialogue::Continued { prompt: String::new(), completion: "a".into() });
        let (_, dialogue) = read(
            r#"{"prompt": [{"role": "user", "content": "q"}], "completion": [{"role": "assistant", "content": "a"}]}"#,
        )
        .unwrap();
        assert!(matches!(dialogue, Dialogue::Chat { ref messages, given: 1, .. } if messages.len() == 2));
        for (tools, want) in
            [("[{}]", Some(1)), ("\"[{}, {}]\"", Some(2)), ("[]", None), ("\"\"", None), ("null", None)]
        {
            let json = format!(r#"{{"messages": [{{"role": "user", "content": "q"}}], "tools": {tools}}}"#);
            let (_, dialogue) = read(&json).unwrap();
            let found = matches!(&dialogue, Dialogue::Chat { tools, .. }
                if tools.as_ref().map(|t| t.as_array().map_or(0, Vec::len)) == want);
            assert!(found, "{json}: {dialogue:?}");
        }
    }

    #[test]
    fn other_rows_are_refused_with_their_place() {
        let table = [
            (r#"{"question": "q", "answer": "a"}"#, "fields are question, answer"),
            (r#"{"text": 5}"#, "\"text\" is no text"),
            (r#"{"messages": "hello"}"#, "\"messages\" is no list of messages"),
            (r#"{"messages": []}"#, "\"messages\" has no messages"),
            (r#"{"messages": [{"content": "x"}]}"#, "missing field `role`"),
            (r#"{"prompt": "q", "completion": ["a"]}"#, "both texts or both lists"),
            (r#"{"prompt": "q", "completion": 5}"#, "\"completion\" is no text"),
            (r#"{"messages": [{"role": "user", "content": "q"}], "tools": {"name": "f"}}"#, "\"tools\" is no list"),
            (r#"{"messages": [{"role": "user", "content": "q"}], "tools": "[{"}"#, "\"tools\" is no list"),
            (r#"{"instruction": "q"}"#, "instruction and output"),
        ];
        for (json, words) in table {
            let error = read(json).unwrap_err();
            assert!(error.starts_with("train.jsonl, line 3: ") && error.contains(words), "{json}: {error}");
        }
    }
}
