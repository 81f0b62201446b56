//! The built-in tasks against lm-evaluation-harness: prompts, choices and scores of rows of our own
//! (`scripts/fixtures/benchmarks.py`).

use std::collections::BTreeMap;
use std::path::Path;

use porism_measure::benchmark::{self, Exam, Likelihood, Source, Wording};
use porism_text::ChatTemplate;
use serde_json::Value;

/// The template that the script puts messages into.
const TEMPLATE: &str = "{% for m in messages %}{{ m.role }}: {{ m.content }}\n{% endfor %}{% if add_generation_prompt %}assistant:{% endif %}";

fn fixture() -> Value {
    serde_json::from_str(include_str!("fixtures/benchmarks.json")).expect("the fixture")
}

/// Puts a task's rows where `--data` finds them.
fn lay_out(folder: &Path, case: &Value) {
    for (split, rows) in case["rows"].as_object().expect("rows") {
        let lines: Vec<String> = rows.as_array().expect("rows").iter().map(Value::to_string).collect();
        std::fs::write(folder.join(format!("{split}.jsonl")), lines.join("\n")).expect("a file");
    }
}

fn exam(name: &str, case: &Value, fewshot: usize, chat: bool) -> Exam {
    let folder = tempfile::tempdir().expect("a folder");
    lay_out(folder.path(), case);
    let mut task = benchmark::task(name).expect("a task").expect("a task that can be read");
    if name == "mmlu" {
        task.data.configs = vec!["college_biology".into()];
        std::fs::create_dir(folder.path().join("college_biology")).expect("a folder");
        lay_out(&folder.path().join("college_biology"), case);
    }
    if name == "hendrycks_math" {
        task.data.configs.clear();
    }
    let template = ChatTemplate::new(TEMPLATE, "", "").expect("a template");
    let wording = Wording { fewshot, limit: Some(4), chat: chat.then_some(&template) };
    let exams = benchmark::prepare(&task, &mut Source::Local(folder.path()), &wording);
    exams.unwrap_or_else(|e| panic!("{name}: {e}")).remove(0)
}

#[test]
fn prompts_and_choices_are_the_harness_own() {
    let mut compared = 0;
    for (name, case) in fixture().as_object().expect("tasks") {
        for (key, chat) in [("requests", false), ("chat", true)] {
            for (shots, requests) in case[key].as_object().expect("requests") {
                let exam = exam(name, case, shots.parse().expect("a number"), chat);
                let requests = requests.as_array().expect("requests");
                assert_eq!(exam.items().len(), requests.len());
                for (item, request) in exam.items().iter().zip(requests) {
                    let what = format!("{name}, {shots} examples, chat {chat}, item {}", item.id);
                    assert_eq!(item.prompt, request["prompt"].as_str().expect("a prompt"), "{what}");
                    let choices: Vec<&str> =
                        request["choices"].as_array().expect("choices").iter().filter_map(Value::as_str).collect();
                    assert_eq!(item.choices, choices, "{what}");
                    compared += 1;
                }
            }
        }
    }
    assert_eq!(compared, 4 * 2 * (9 * 3 + 2));
}

#[test]
fn stop_texts_are_the_harness_own() {
    for name in ["gsm8k", "gsm8k_cot", "hendrycks_math"] {
        let task = benchmark::task(name).expect("a task").expect("a task that can be read");
        let until = &fixture()[name]["requests"]["0"][0]["until"];
        assert_eq!(serde_json::json!(task.generate.until), *until, "{name}");
        assert_eq!(task.generate.max_tokens, 256, "the harness's limit");
    }
}

#[test]
fn scores_are_the_harness_own() {
    let mut compared = 0;
    for (name, case) in fixture().as_object().expect("tasks") {
        let exam = exam(name, case, 0, false);
        for score in case["scores"].as_array().expect("scores") {
            let item = score["item"].as_u64().expect("a number") as usize;
            let want: BTreeMap<String, f64> = serde_json::from_value(score["metrics"].clone()).expect("metrics");
            let got = match score.get("loglikelihoods") {
                Some(pairs) => {
                    let pairs: Vec<(f64, bool)> = serde_json::from_value(pairs.clone()).expect("pairs");
                    let likelihoods: Vec<Likelihood> =
                        pairs.into_iter().map(|(log, greedy)| Likelihood { log, greedy }).collect();
                    exam.score_choices(item, &likelihoods)
                }
                None => {
                    let response = score["response"].as_str().expect("a response");
                    let (answers, metrics) = exam.score_text(item, response).expect("a score");
                    let want: BTreeMap<String, String> =
                        serde_json::from_value(score["answers"].clone()).expect("answers");
                    if name != "hendrycks_math" {
                        assert_eq!(answers, want, "{name}: {response}");
                    }
                    metrics
                }
            };
            assert_eq!(got.keys().collect::<Vec<_>>(), want.keys().collect::<Vec<_>>(), "{name}");
            for (key, value) in &want {
                assert!((got[key] - value).abs() < 1e-12, "{name}, item {item}, {key}: {} and {value}", got[key]);
            }
            compared += 1;
        }
    }
    assert_eq!(compared, 8 * 4 * 3 + 3 * 4 * 8);
}
