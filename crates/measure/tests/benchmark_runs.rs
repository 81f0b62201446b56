//! Benchmarks on the default model against plainer ways to the same numbers: each choice scored alone in a pass of its
//! own, each answer generated alone.

use std::path::Path;
use std::sync::Arc;

use porism_generate::{Request, Session};
use porism_hub::{CacheDir, Network, Silent};
use porism_kernels::{Isa, Pool};
use porism_measure::benchmark::{self, Candidate, Exam, Log, LogRow, Source, Task, Wording};
use porism_measure::perplexity::{DecoderScorer, Scorer};
use porism_models::cpu::{Activations, CpuExecutor, KvType};
use porism_models::{Decoder, ModelSource, load_decoder};
use porism_text::Tokenizer;

const CHOOSE: &str = r#"
name = "choose"
about = "choices of different lengths"
output = "multiple_choice"
fewshot = 2
[data]
split = "test"
fewshot_split = "train"
[[rows]]
fields = { q = "string", c = "strings", a = "integer" }
[prompt]
description = "Some questions about rivers, stones and lamps follow, each with a short answer behind it.\n\n"
text = "Question: {{ q }}\nAnswer:"
choices = "c"
target = "a"
[examples]
rule = "first"
[[metrics]]
name = "acc"
[[metrics]]
name = "acc_norm"
"#;

const WRITE: &str = r#"
name = "write"
about = "short answers"
output = "generate_until"
[data]
split = "test"
[[rows]]
fields = { q = "string", c = "strings", a = "integer" }
[prompt]
text = "Question: {{ q }}\nAnswer:"
target = "c[a]"
[generate]
until = ["\n\n", "Question:"]
max_tokens = 24
[[metrics]]
name = "f1"
"#;

fn model() -> (Decoder, Tokenizer) {
    let var = std::env::var_os;
    let cache = CacheDir::resolve(var("PORISM_HOME"), var("XDG_CACHE_HOME"), var("HOME")).expect("a cache folder");
    let path = porism_hub::ensure_default_model(&cache, &Network::default(), &mut Silent).expect("the default model");
    let source = ModelSource::open(&path).expect("a model");
    (load_decoder(&source).expect("a decoder"), source.tokenizer().expect("a tokenizer"))
}

fn cpu(activations: Activations) -> CpuExecutor {
    CpuExecutor::new(Arc::new(Pool::new(2)), Isa::detect(), activations)
}

fn candidate<'a>(decoder: &'a Decoder, tokenizer: &'a Tokenizer, context: usize) -> Candidate<'a> {
    let (steps, kv) = (cpu(Activations::F32), KvType::F32);
    Candidate { decoder, tokenizer, steps, kv, context, width: 3, fingerprint: "a model".into() }
}

/// Nine questions; the fourth is longer than a pass takes at once.
fn exam(task: &str, folder: &Path) -> Exam {
    let row = |i: usize| {
        let long = if i == 4 {
            "where the river turns around the stone and the lamp burns, ".repeat(60)
        } else {
            String::new()
        };
        let choices = ["yes", "no, it is only a very old lamp", "a stone", "Zürich 東京"];
        let question = format!("{long}what is number {i} of {}?", i * 7 % 5);
        serde_json::json!({"q": question, "c": &choices[..2 + i % 3], "a": i % 2}).to_string()
    };
    let lines = |numbers: std::ops::Range<usize>| numbers.map(row).collect::<Vec<_>>().join("\n");
    std::fs::write(folder.join("test.jsonl"), lines(0..9)).expect("a file");
    std::fs::write(folder.join("train.jsonl"), lines(20..23)).expect("a file");
    let task = Task::parse("task.toml", task).expect("a task");
    let wording = Wording { fewshot: task.fewshot, limit: None, chat: None };
    benchmark::prepare(&task, &mut Source::Local(folder), &wording).expect("an exam").remove(0)
}

fn rows(exam: &Exam, candidate: &mut Candidate<'_>, log: Option<&mut Log>) -> Vec<LogRow> {
    benchmark::run(exam, candidate, log, &mut |_| {}).expect("rows")
}

#[test]
fn a_choice_is_worth_what_it_is_worth_alone() {
    let (decoder, tokenizer) = model();
    let folder = tempfile::tempdir().expect("a folder");
    let exam = exam(CHOOSE, folder.path());
    let rows = rows(&exam, &mut candidate(&decoder, &tokenizer, 8192), None);
    let mut alone = DecoderScorer::new(&decoder, cpu(Activations::F32), KvType::F32);
    assert_eq!(rows.len(), 9);
    for row in &rows {
        assert!(!row.truncated);
        assert_eq!((row.choices.len(), row.tokens.len()), (row.loglikelihoods.len(), row.greedy.len()));
        for (choice, got) in row.tokens.iter().zip(&row.loglikelihoods) {
            let whole: Vec<u32> = row.prompt_tokens.iter().chain(choice).copied().collect();
            let scores = alone.score(&whole, row.prompt_tokens.len()).expect("scores");
            let want: f64 = scores.iter().map(|&s| f64::from(s)).sum();
            assert!((want - got).abs() < 2e-4 * (1.0 + want.abs()), "{}: {got}, alone {want}", row.id);
        }
    }
    assert!(rows[4].prompt_tokens.len() > 600, "more than one pass");
}

#[test]
fn what_does_not_fit_is_cut_at_its_beginning_and_says_so() {
    let (decoder, tokenizer) = model();
    let folder = tempfile::tempdir().expect("a folder");
    let exam = exam(CHOOSE, folder.path());
    let context = 40;
    let rows = rows(&exam, &mut candidate(&decoder, &tokenizer, context), None);
    let mut alone = DecoderScorer::new(&decoder, cpu(Activations::F32), KvType::F32);
    assert!(rows.iter().all(|row| row.truncated));
    for row in rows {
        // The harness: the last `context + 1` tokens of prompt and choice, of which the last is not shown.
        let prompt = tokenizer.encode(&row.prompt, true, true).expect("tokens");
        for (choice, got) in row.tokens.iter().zip(&row.loglikelihoods) {
            let whole: Vec<u32> = prompt.iter().chain(choice).copied().collect();
            let seen = &whole[whole.len() - context - 1..];
            let scores = alone.score(seen, seen.len() - choice.len()).expect("scores");
            let want: f64 = scores.iter().map(|&s| f64::from(s)).sum();
            assert!((want - got).abs() < 2e-4 * (1.0 + want.abs()), "{}: {got}, alone {want}", row.id);
        }
    }
}

#[test]
fn an_answer_is_what_it_is_alone() {
    let (decoder, tokenizer) = model();
    let folder = tempfile::tempdir().expect("a folder");
    let exam = exam(WRITE, folder.path());
    let rows = rows(&exam, &mut candidate(&decoder, &tokenizer, 8192), None);
    let stop = ["\n\n".to_owned(), "Question:".to_owned()];
    for row in rows {
        let mut session = Session::new(&decoder, &tokenizer, cpu(Activations::F32), KvType::F32, 8192);
        let request = Request { stop: &stop, ..Request::greedy(&row.prompt_tokens, 24) };
        let alone = session.generate(&request, &mut |_| {}).expect("an answer");
        assert_eq!(row.response.as_deref(), Some(alone.text.as_str()), "{}", row.id);
        assert_eq!(row.stop_reason.as_deref(), Some(alone.stop_reason.name()));
        let ids: Vec<u32> = alone.tokens.iter().map(|token| token.id).collect();
        assert_eq!(row.tokens, [ids]);
        let log: f64 = alone.tokens.iter().map(|token| f64::from(token.logprob)).sum();
        assert!((row.loglikelihoods[0] - log).abs() < 1e-3);
    }
}

#[test]
fn a_long_choice_alone_is_scored_as_any_text_is() {
    let (decoder, tokenizer) = model();
    let folder = tempfile::tempdir().expect("a folder");
    let words = "the lamp on the stone burns where the river turns, ".repeat(230);
    let row = |document: u64, index: u64, choice: &str| {
        serde_json::json!({"doc_id": document, "idx": index, "label": 0,
                           "request": {"context": "Once upon a time", "continuation": choice}})
        .to_string()
    };
    // One long choice, and two that are too long for a tree together.
    let halves = [format!(" {}", &words[..5600]), format!(" so {}", &words[..5600])];
    let lines = [row(0, 0, &format!(" {words}")), row(1, 0, &halves[0]), row(1, 1, &halves[1])];
    let path = folder.path().join("requests.jsonl");
    std::fs::write(&path, lines.join("\n")).expect("a file");
    let exam = benchmark::read_requests(&path, None).expect("requests").exam;
    let rows = rows(&exam, &mut candidate(&decoder, &tokenizer, 8192), None);
    let mut alone = DecoderScorer::new(&decoder, cpu(Activations::F32), KvType::F32);
    assert!(rows[0].tokens[0].len() > 2048 && rows[1].tokens.iter().map(Vec::len).sum::<usize>() > 2048);
    for row in &rows {
        for (choice, got) in row.tokens.iter().zip(&row.loglikelihoods) {
            let whole: Vec<u32> = row.prompt_tokens.iter().chain(choice).copied().collect();
            let scores = alone.score(&whole, row.prompt_tokens.len()).expect("scores");
            let want: f64 = scores.iter().map(|&s| f64::from(s)).sum();
            assert!((want - got).abs() < 2e-4 * (1.0 + want.abs()), "{}: {got}, alone {want}", row.id);
        }
    }
}

#[test]
fn a_run_goes_on_where_it_was_cut_off() {
    let (decoder, tokenizer) = model();
    let folder = tempfile::tempdir().expect("a folder");
    let exam = exam(CHOOSE, folder.path());
    let path = folder.path().join("log.jsonl");
    let whole = rows(&exam, &mut candidate(&decoder, &tokenizer, 8192), Some(&mut Log::open(&path).expect("a log")));
    let text = std::fs::read_to_string(&path).expect("the log");
    assert_eq!(text.lines().count(), 9);

    // A run that was stopped in the middle of the fifth line.
    let cut: usize = text.split_inclusive('\n').take(4).map(str::len).sum();
    std::fs::write(&path, &text[..cut + 20]).expect("a file");
    let mut done = Vec::new();
    let mut log = Log::open(&path).expect("a log");
    let again =
        benchmark::run(&exam, &mut candidate(&decoder, &tokenizer, 8192), Some(&mut log), &mut |p| done.push(p.done));
    let again = again.expect("rows");
    assert_eq!(done[0], 4, "four items were kept");
    assert!(again == whole, "to the last bit");
    assert_eq!(std::fs::read_to_string(&path).expect("the log"), text);

    // A right answer that was corrected since counts for what was done before too.
    let corrected =
        |line: String| line.replace("\"a\":0", "\"a\":2").replace("\"a\":1", "\"a\":0").replace("\"a\":2", "\"a\":1");
    let data = std::fs::read_to_string(folder.path().join("test.jsonl")).expect("the data");
    std::fs::write(folder.path().join("test.jsonl"), corrected(data)).expect("a file");
    let task = Task::parse("task.toml", CHOOSE).expect("a task");
    let wording = Wording { fewshot: 2, limit: None, chat: None };
    let other_exam = benchmark::prepare(&task, &mut Source::Local(folder.path()), &wording).expect("an exam").remove(0);
    let mut log = Log::open(&path).expect("a log");
    let mut steps = Vec::new();
    let new = candidate(&decoder, &tokenizer, 8192);
    let anew = benchmark::run(&other_exam, &mut { new }, Some(&mut log), &mut |p| steps.push(p.done)).expect("rows");
    assert_eq!(steps, [9], "nothing is computed again");
    let fresh = rows(&other_exam, &mut candidate(&decoder, &tokenizer, 8192), None);
    assert!(anew == fresh && anew.iter().zip(&whole).any(|(a, b)| a.metrics != b.metrics));

    // Another model's log is not gone on with.
    let mut other = Candidate { fingerprint: "another".into(), ..candidate(&decoder, &tokenizer, 8192) };
    let mut log = Log::open(&path).expect("a log");
    let error = benchmark::run(&exam, &mut other, Some(&mut log), &mut |_| {}).expect_err("a refusal").to_string();
    assert!(error.contains("a run with another model, task, data or settings"), "{error}");
}
