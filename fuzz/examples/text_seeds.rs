//! Writes tokenizers and chat templates for the fuzzer to start from: `text_seeds FIXTURES FOLDER` (usually
//! `crates/text/tests/fixtures fuzz/corpus`).

use std::error::Error;
use std::fs;
use std::path::PathBuf;

use serde_json::{Value, json};

fn main() -> Result<(), Box<dyn Error>> {
    let mut args = std::env::args_os().skip(1).map(PathBuf::from);
    let (Some(fixtures), Some(corpus)) = (args.next(), args.next()) else {
        return Err("usage: text_seeds FIXTURES FOLDER".into());
    };
    let read = |name: &str| -> Result<Value, Box<dyn Error>> {
        Ok(serde_json::from_str(&fs::read_to_string(fixtures.join(name))?)?)
    };

    let folder = corpus.join("tokenizer_json");
    fs::create_dir_all(&folder)?;
    let small = read("small_bpe.json")?;
    for (pre, file) in small["files"].as_object().ok_or("no files")? {
        let mut file = file.clone();
        // Two dozen tokens and a few merges: enough for every kind of thing to go wrong.
        let vocab = ["<|endoftext|>", "<|im_start|>", "<|im_end|>", "a", "b", "Ġ", "ab", "Ġab", "1", "Ċ", "ä", "½"];
        file["model"]["vocab"] = vocab.iter().zip(0..).map(|(t, id)| (t.to_string(), json!(id))).collect();
        file["model"]["merges"] = json!(["a b", ["Ġ", "ab"]]);
        let tool = json!({ "id": 12, "content": "<tool>", "special": false, "lstrip": true });
        file["added_tokens"].as_array_mut().ok_or("no tokens")?.retain(|t| t["special"] == true);
        file["added_tokens"].as_array_mut().ok_or("no tokens")?.push(tool);
        file["post_processor"] = json!({ "type": "TemplateProcessing", "single": [
            { "SpecialToken": { "id": "<|im_start|>", "type_id": 0 } }, { "Sequence": { "id": "A", "type_id": 0 } }] });
        let config = json!({ "bos_token": "<|im_start|>", "eos_token": { "content": "<|im_end|>" },
            "add_eos_token": true, "chat_template": [{ "name": "default", "template": "{{ a }}" }] });
        let generation = json!({ "eos_token_id": [2, 3] });
        fs::write(folder.join(pre), format!("{file}\0{config}\0{generation}\0a b<tool> <|im_end|>"))?;
    }

    let folder = corpus.join("template");
    fs::create_dir_all(&folder)?;
    let chats = read("chat_templates.json")?;
    for (index, (_, source)) in chats["templates"].as_object().ok_or("no templates")?.iter().enumerate() {
        let chat = &chats["chats"][index % 6];
        fs::write(folder.join(index.to_string()), format!("{}\0{chat}", source.as_str().ok_or("no text")?))?;
    }
    Ok(())
}
