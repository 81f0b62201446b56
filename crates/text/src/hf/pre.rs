//! The rules of pre-tokenizers as the JSON of `tokenizer.json`, and back.
//!
//! A file's `pre_tokenizer` is taken to its steps and compared with those of the rules we know. What does
//! not change the pieces (`trim_offsets`) is not compared.

use serde_json::{Value, json};

use crate::pre_tokenizer::{Rule, patterns};

const RULES: [Rule; 12] = [
    Rule::Gpt2,
    Rule::DigitsGpt2,
    Rule::Cl100k { digits: 1 },
    Rule::Cl100k { digits: 3 },
    Rule::Qwen35,
    Rule::Tekken,
    Rule::Gpt4o,
    Rule::Default,
    Rule::Falcon,
    Rule::DeepseekCoder,
    Rule::DeepseekLlm,
    Rule::Deepseek3,
];

/// The `pre_tokenizer` of a `tokenizer.json`.
pub(crate) fn pre_tokenizer_json(rule: Rule) -> Value {
    let byte_level = |use_regex: bool| json!({ "type": "ByteLevel", "add_prefix_space": false, "trim_offsets": true, "use_regex": use_regex });
    let split = |pattern: &str| json!({ "type": "Split", "pattern": { "Regex": pattern }, "behavior": "Isolated", "invert": false });
    let digits = json!({ "type": "Digits", "individual_digits": true });
    let mut steps: Vec<Value> = match rule {
        Rule::Gpt2 => return byte_level(true),
        Rule::DigitsGpt2 => {
            return json!({ "type": "Sequence", "pretokenizers": [digits, byte_level(true)] });
        }
        Rule::Cl100k { digits: 1 } => vec![split(patterns::QWEN2)],
        Rule::Cl100k { .. } => vec![split(patterns::LLAMA3)],
        Rule::Qwen35 => vec![split(patterns::QWEN35)],
        Rule::Tekken => vec![split(patterns::TEKKEN)],
        Rule::Gpt4o => vec![split(patterns::GPT4O)],
        Rule::Default => patterns::DEFAULT.map(split).to_vec(),
        Rule::Falcon => patterns::FALCON.map(split).to_vec(),
        Rule::DeepseekCoder => patterns::DEEPSEEK_CODER.map(split).into_iter().chain([digits]).collect(),
        Rule::DeepseekLlm => patterns::DEEPSEEK_LLM.map(split).into_iter().chain([digits]).collect(),
        Rule::Deepseek3 => patterns::DEEPSEEK3.map(split).to_vec(),
    };
    steps.push(byte_level(false));
    json!({ "type": "Sequence", "pretokenizers": steps })
}

/// The rule that a `pre_tokenizer` is, if we know it.
pub(crate) fn rule_of(json: &Value) -> Option<Rule> {
    let steps = steps(json, 0)?;
    RULES.into_iter().find(|&rule| self::steps(&pre_tokenizer_json(rule), 0).as_ref() == Some(&steps))
}

/// Whether a `pre_tokenizer` or `decoder` works on bytes at all.
pub(crate) fn has_byte_level(json: &Value) -> bool {
    let inner = json.get("pretokenizers").or(json.get("decoders")).and_then(Value::as_array);
    match inner {
        Some(inner) => inner.iter().any(|j| j.get("type") == Some(&json!("ByteLevel"))),
        None => json.get("type") == Some(&json!("ByteLevel")),
    }
}

#[derive(PartialEq)]
enum Step<'a> {
    Digits,
    Split(&'a str),
    ByteLevel { regex: bool },
}

/// The steps of a pre-tokenizer; None if one of them is of no kind that occurs in our rules.
fn steps(json: &Value, depth: usize) -> Option<Vec<Step<'_>>> {
    let is = |key: &str, want: bool, default: bool| json.get(key).map_or(Some(default), Value::as_bool) == Some(want);
    match json.get("type")?.as_str()? {
        "Sequence" if depth < 4 => {
            let mut all = Vec::new();
            for inner in json.get("pretokenizers")?.as_array()? {
                all.extend(steps(inner, depth + 1)?);
            }
            Some(all)
        }
        "Digits" if is("individual_digits", true, false) => Some(vec![Step::Digits]),
        "ByteLevel" if is("add_prefix_space", false, true) => {
            Some(vec![Step::ByteLevel { regex: is("use_regex", true, true) }])
        }
        "Split" => {
            let pattern = json.get("pattern")?.get("Regex")?.as_str()?;
            // Where every character is in some match, keeping the matches and removing what is between them come
            // to the same.
            let isolated = match json.get("behavior")?.as_str()? {
                "Isolated" => is("invert", false, false),
                "Removed" => is("invert", true, false) && pattern.ends_with(r"|\s+(?!\S)|\s+"),
                _ => false,
            };
            isolated.then(|| vec![Step::Split(pattern)])
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_rule_is_found_again() {
        for rule in RULES {
            assert_eq!(rule_of(&pre_tokenizer_json(rule)), Some(rule));
        }
    }

    #[test]
    fn published_files_are_recognized() {
        // As they stand in the tokenizer.json of SmolLM2, Qwen2.5 and GPT-2.
        let smollm = r#"{"type":"Sequence","pretokenizers":[{"type":"Digits","individual_digits":true},
            {"type":"ByteLevel","add_prefix_space":false,"trim_offsets":true,"use_regex":true}]}"#;
        let qwen = r#"{"type":"Sequence","pretokenizers":[{"type":"Split","pattern":{"Regex":
            "(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\\r\\n\\p{L}\\p{N}]?\\p{L}+|\\p{N}| ?[^\\s\\p{L}\\p{N}]+[\\r\\n]*|\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+"},
            "behavior":"Isolated","invert":false},
            {"type":"ByteLevel","add_prefix_space":false,"trim_offsets":false,"use_regex":false}]}"#;
        let gpt2 = r#"{"type":"ByteLevel","add_prefix_space":false,"trim_offsets":true}"#;
        let rule = |text: &str| rule_of(&serde_json::from_str(text).unwrap());
        assert_eq!(rule(smollm), Some(Rule::DigitsGpt2));
        assert_eq!(rule(qwen), Some(Rule::Cl100k { digits: 1 }));
        assert_eq!(rule(gpt2), Some(Rule::Gpt2));
        assert_eq!(rule(&gpt2.replace("false", "true")), None);
        assert_eq!(rule(&smollm.replace("\"individual_digits\":true", "\"individual_digits\":false")), None);
        assert_eq!(rule(&qwen.replace("p{N}|", "p{N}{1,2}|")), None);
        assert_eq!(rule(&qwen.replace("Isolated", "MergedWithNext")), None);
        assert_eq!(rule(r#"{"type":"Whitespace"}"#), None);
        assert_eq!(rule("null"), None);
    }
}
