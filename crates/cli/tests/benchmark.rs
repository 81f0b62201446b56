//! `porism measure run`: what it prints and logs with a tiny model, a task that a person made, and what bad input gets.

mod support;

use std::path::{Path, PathBuf};

use serde_json::Value;
use support::{Ran, Tiny, porism};

const TASK: &str = r#"
name = "mine"
about = "a task of my own"
output = "multiple_choice"
[data]
split = "test"
fewshot_split = "train"
[[rows]]
fields = { q = "string", c = "strings", a = "integer" }
[prompt]
text = "Q: {{ q }}\nA:"
choices = "c"
target = "a"
[[metrics]]
name = "acc"
[[metrics]]
name = "acc_norm"
"#;

struct Bench {
    folder: tempfile::TempDir,
}

impl Bench {
    fn new() -> Bench {
        let bench = Bench { folder: tempfile::tempdir().expect("a folder") };
        Tiny::default().write(&bench.path("m.gguf"));
        bench.write("mine.toml", TASK);
        bench.write(
            "test.jsonl",
            "{\"q\":\"one\",\"c\":[\"x\",\"yy\"],\"a\":0}\n\n{\"q\":\"two\",\"c\":[\"z\",\"w\"],\"a\":1}\n",
        );
        bench.write(
            "train.jsonl",
            "{\"q\":\"three\",\"c\":[\"x\",\"yy\"],\"a\":1}\n{\"q\":\"four\",\"c\":[\"z\"],\"a\":0}\n",
        );
        bench
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn write(&self, name: &str, text: &str) -> String {
        std::fs::write(self.path(name), text).expect("a file");
        self.path(name).display().to_string()
    }

    fn run(&self, args: &[&str]) -> Ran {
        let model = self.path("m.gguf").display().to_string();
        let mut all = vec!["measure", "run", "-m", &model, "--threads", "1"];
        all.extend(args);
        porism(&self.path("home"), &[("HF_HUB_OFFLINE", "1")], &all)
    }

    /// Runs the task of our own on a folder.
    fn mine(&self, data: &Path, args: &[&str]) -> Ran {
        let (task, data) = (self.path("mine.toml").display().to_string(), data.display().to_string());
        let mut all = vec![task.as_str(), "--data", &data];
        all.extend(args);
        self.run(&all)
    }
}

fn json(text: &str) -> Value {
    serde_json::from_str(text).unwrap_or_else(|e| panic!("{e}: {text}"))
}

#[test]
fn a_task_of_ones_own_gives_scores_and_a_log() {
    let bench = Bench::new();
    let log = bench.path("log.jsonl");
    let ran = bench.mine(bench.folder.path(), &["--fewshot", "1", "--log", log.to_str().expect("UTF-8"), "--json"]);
    assert_eq!(ran.code, Some(0), "{ran:?}");
    let report = json(&ran.stdout);
    for key in ["model", "activations", "kv_type", "context", "chat", "seconds", "results"] {
        assert!(report.get(key).is_some(), "{key}: {report}");
    }
    let mine = &report["results"]["mine"];
    assert_eq!(
        (mine["items"].as_u64(), mine["fewshot"].as_u64(), mine["truncated"].as_u64()),
        (Some(2), Some(1), Some(0))
    );
    let lines: Vec<Value> = std::fs::read_to_string(&log).expect("the log").lines().map(json).collect();
    assert_eq!(lines.len(), 2);
    for row in &lines {
        for key in [
            "id",
            "prompt",
            "choices",
            "tokens",
            "loglikelihoods",
            "greedy",
            "truncated",
            "stop_reason",
            "answer",
            "target",
            "metrics",
        ] {
            assert!(row.get(key).is_some(), "{key}: {row}");
        }
        assert_eq!(row["loglikelihoods"].as_array().map(Vec::len), Some(2));
        assert!(row["prompt"].as_str().is_some_and(|p| p.matches("Q: ").count() == 2), "{row}");
    }
    assert_eq!(lines[1]["choices"], serde_json::json!([" z", " w"]));
    let mean = lines.iter().filter_map(|row| row["metrics"]["acc"].as_f64()).sum::<f64>() / 2.0;
    assert_eq!(mine["metrics"]["acc"]["value"].as_f64(), Some(mean));

    // The same again does nothing and says the same.
    let again = bench.mine(bench.folder.path(), &["--fewshot", "1", "--log", log.to_str().expect("UTF-8"), "--json"]);
    assert_eq!(json(&again.stdout)["results"]["mine"]["metrics"], mine["metrics"]);
    assert_eq!(std::fs::read_to_string(&log).expect("the log").lines().count(), 2);

    // One file is the split that is measured; a table for people.
    let ran = bench.mine(&bench.path("test.jsonl"), &["--limit", "1"]);
    assert_eq!(ran.code, Some(0), "{ran:?}");
    assert!(ran.stdout.contains("mine") && ran.stdout.contains("acc_norm"), "{ran:?}");
}

#[test]
fn two_logs_are_compared() {
    let bench = Bench::new();
    let row = |id: usize, acc: f64, answer: usize| {
        serde_json::json!({"task": "t", "id": id.to_string(), "prompt": "p", "choices": ["a", "b"],
            "loglikelihoods": [-1.0, -2.0], "answer": answer, "target": 0, "metrics": {"acc": acc}})
        .to_string()
    };
    let log = |name: &str, wrong: usize| {
        let rows = (0..40).map(|i| if i < wrong { row(i, 0.0, 1) } else { row(i, 1.0, 0) });
        bench.write(name, &(rows.collect::<Vec<_>>().join("\n") + "\n"))
    };
    let (a, b) = (log("a.jsonl", 5), log("b.jsonl", 20));
    let twice = bench.write("twice.jsonl", &[row(1, 1.0, 0), row(1, 1.0, 0)].join("\n"));
    let other = bench.write("other.jsonl", &row(1, 1.0, 0).replace("\"t\"", "\"u\""));
    let lacking = bench.write("lacking.jsonl", "{\"task\": \"t\"}");
    let empty = bench.write("empty.jsonl", "");
    let diff = |args: &[&str]| porism(&bench.path("home"), &[], &[&["measure", "diff"], args].concat());
    let ran = diff(&[&a, &b, "--json"]);
    assert_eq!(ran.code, Some(0), "{ran:?}");
    let found = json(&ran.stdout);
    let row = &found["rows"][0];
    assert_eq!((row["won"].as_u64(), row["lost"].as_u64(), row["items"].as_u64()), (Some(0), Some(15), Some(40)));
    // Fifteen of fifteen on one side: 2 * 2^-15.
    assert!((row["p_value"].as_f64().expect("p") - 2f64.powi(-14)).abs() < 1e-12, "{row}");
    let words = diff(&[&a, &b, "--items", "2"]).stdout;
    assert!(words.contains("B is worse in acc of t: 15 items lost, 0 won"), "{words}");
    assert!(diff(&[&a, &a]).stdout.contains("no difference shown in acc of t"), "itself");
    for (args, said) in [
        ([a.as_str(), "nothing.jsonl"], "nothing.jsonl"),
        ([&a, &twice], "twice.jsonl, line 2"),
        ([&a, &other], "no item of a task in common"),
        ([&a, &lacking], "lacking.jsonl, line 1"),
        ([&a, &lacking], "missing field `id`"),
        ([&a, &empty], "no rows"),
    ] {
        let ran = diff(&args);
        assert!(ran.code == Some(1) && ran.stderr.contains(said), "{said}: {ran:?}");
    }
    let ran = diff(&[&a, &b, "--metric", "f1"]);
    assert!(ran.code == Some(1) && ran.stderr.contains("no item has f1"), "{ran:?}");
}

#[test]
fn built_in_tasks_are_listed_and_shown() {
    let bench = Bench::new();
    let list = bench.run(&["--list"]).stdout;
    let names = "mmlu arc_easy arc_challenge hellaswag truthfulqa_mc1 truthfulqa_mc2 gsm8k gsm8k_cot hendrycks_math boolq openbookqa";
    for name in names.split(' ') {
        assert!(list.lines().any(|line| line.split_whitespace().next() == Some(name)), "{name}: {list}");
        let shown = bench.run(&["--show", name]);
        assert!(shown.stdout.contains(&format!("name = \"{name}\"")), "{name}");
    }
}

#[test]
fn a_prompt_beyond_the_context_is_flagged_and_counted() {
    let bench = Bench::new();
    let long = format!("{{\"q\":\"{}\",\"c\":[\"x\",\"yy\"],\"a\":0}}\n", "so long ".repeat(40));
    let data = bench.write("long.jsonl", &long);
    let log = bench.path("log.jsonl").display().to_string();
    let ran = bench.mine(Path::new(&data), &["--log", &log, "--json"]);
    assert_eq!(ran.code, Some(0), "{ran:?}");
    assert_eq!(json(&ran.stdout)["results"]["mine"]["truncated"].as_u64(), Some(1));
    assert!(ran.stderr.contains("1 of 1 prompts are longer than the context of 128 tokens"), "{ran:?}");
    assert!(std::fs::read_to_string(&log).expect("the log").contains("\"truncated\":true"));
}

#[test]
fn ready_made_requests_are_scored() {
    let bench = Bench::new();
    let line = |document: u64, index: u64, context: &str, choice: &str| {
        serde_json::json!({"request_type": "loglikelihood", "request": {"context": context, "continuation": choice},
            "doc_id": document, "idx": index, "label": 1, "task_name": "ready"})
        .to_string()
    };
    let lines = [
        line(0, 0, "Q", " a"),
        line(0, 1, "Q", " b"),
        line(1, 0, "R", " a"),
        line(1, 1, "R", " b"),
        line(1_000_000, 0, "Answer:", " a"),
    ];
    let file = bench.write("requests.jsonl", &lines.join("\n"));
    let ran = bench.run(&["--requests", &file, "--json"]);
    assert_eq!(ran.code, Some(0), "{ran:?}");
    assert_eq!(json(&ran.stdout)["results"]["ready"]["items"].as_u64(), Some(2));
    assert!(ran.stderr.contains("1 requests without their question"), "{ran:?}");
}

#[test]
fn bad_input_is_refused_in_words() {
    let bench = Bench::new();
    let task = |name: &str, from: &str, to: &str| {
        assert!(TASK.contains(from), "{from}");
        bench.write(name, &TASK.replace(from, to))
    };
    let mine = bench.path("mine.toml").display().to_string();
    let folder = bench.folder.path().display().to_string();
    let unknown_key = task("key.toml", "about", "abuot");
    let template = task("template.toml", "{{ q }}", "{{ q ");
    let absent = task("absent.toml", "{{ q }}", "{{ question }}");
    let metric = task("metric.toml", "name = \"acc\"", "name = \"accuracy\"");
    let wrong_output = task("output.toml", "multiple_choice", "generate_until");
    let target = task("target.toml", "target = \"a\"", "target = \"a + 7\"");
    let missing =
        bench.write("missing.jsonl", "{\"q\":\"one\",\"c\":[\"x\"],\"a\":0}\n{\"q\":\"two\",\"c\":[\"x\"]}\n");
    let kind = bench.write("kind.jsonl", "{\"q\":\"one\",\"c\":[\"x\", 2],\"a\":0}\n");
    let broken = bench.write("broken.jsonl", "{\"q\":\"one\",\"c\":[\"x\"],\"a\":0}\n{\"q\":\n");
    let empty = bench.write("empty.jsonl", "");
    let notes = bench.write("notes.docx", "x");
    let no_log = bench.write("no_log.jsonl", "{\"id\": 1}\n");
    let prompts =
        bench.write("prompts.jsonl", "{\"doc_id\":0,\"idx\":0,\"label\":0,\"request\":{\"context\":\"a\"}}\n");
    let label = bench.write(
        "label.jsonl",
        "{\"doc_id\":0,\"idx\":0,\"label\":3,\"request\":{\"context\":\"a\",\"continuation\":\" b\"}}\n",
    );
    let request = |document: u64, index: u64, label: u64, task: &str| {
        format!(
            "{{\"doc_id\":{document},\"idx\":{index},\"label\":{label},\"task_name\":\"{task}\",\"request\":{{\"context\":\"a\",\
             \"continuation\":\" b\"}}}}\n"
        )
    };
    let twice = bench.write("twice.jsonl", &(request(0, 0, 0, "t") + &request(0, 0, 0, "t")));
    let gap = bench.write("gap.jsonl", &(request(0, 0, 0, "t") + &request(0, 2, 0, "t")));
    let labels = bench.write("labels.jsonl", &(request(0, 0, 0, "t") + &request(0, 1, 1, "t")));
    let tasks = bench.write("tasks.jsonl", &(request(0, 0, 0, "t") + &request(1, 0, 0, "u")));
    let no_rows = bench.write("results.json", "{\"results\": 1}");
    let shards = bench.path("shards");
    std::fs::create_dir(&shards).expect("a folder");
    std::fs::write(shards.join("test-00000-of-00002.parquet"), "x").expect("a file");
    let shards = shards.display().to_string();
    let doubled = task("doubled.toml", "split = \"test\"", "split = \"test\"\nconfigs = [\"x\", \"x\"]");
    let none = bench.path("none");
    std::fs::create_dir(&none).expect("a folder");
    let none = none.display().to_string();
    let table: &[(&str, &[&str], i32, &[&str])] = &[
        ("no task", &[], 2, &["--list"]),
        ("unknown task", &["mmlo"], 2, &["`mmlo` is no task", "mmlu"]),
        ("no such task file", &["./nothing.toml"], 1, &["nothing.toml"]),
        ("unknown key", &[&unknown_key, "--data", &folder], 1, &["key.toml, line 3", "abuot"]),
        ("broken template", &[&template, "--data", &folder], 1, &["template.toml", "prompt.text"]),
        (
            "name that is not there",
            &[&absent, "--data", &folder],
            1,
            &["test.jsonl, line 1", "`question` is not there"],
        ),
        ("unknown metric", &[&metric, "--data", &folder], 1, &["\"accuracy\" is none of acc, acc_norm"]),
        ("choices for a generated answer", &[&wrong_output, "--data", &folder], 1, &["output.toml", "prompt.choices"]),
        (
            "target out of range",
            &[&target, "--data", &folder],
            1,
            &["test.jsonl, line 1", "7 is the number of no choice"],
        ),
        ("missing field", &[&mine, "--data", &missing], 1, &["missing.jsonl, line 2", "the field \"a\" is missing"]),
        ("wrong kind", &[&mine, "--data", &kind], 1, &["kind.jsonl, line 1", "\"c\" is a list, and a list of strings"]),
        ("broken JSON", &[&mine, "--data", &broken], 1, &["broken.jsonl", "line 2"]),
        ("empty data", &[&mine, "--data", &empty], 1, &["no rows"]),
        ("unknown kind of file", &[&mine, "--data", &notes], 1, &["notes.docx", ".parquet"]),
        ("no data", &["arc_easy", "--data", &none], 1, &["no data for arc_easy", "allenai/ai2_arc", "--data"]),
        ("no hub", &["arc_easy"], 1, &["no data for arc_easy", "offline", "--data"]),
        ("no dataset named", &[&mine], 1, &["names no dataset of the hub", "--data"]),
        (
            "too few examples",
            &[&mine, "--data", &folder, "--fewshot", "5"],
            1,
            &["5 worked examples are wanted and there are 2"],
        ),
        ("examples from one file", &[&mine, "--data", &missing, "--fewshot", "1"], 1, &["missing.jsonl"]),
        ("a log that is none", &[&mine, "--data", &folder, "--log", &no_log], 1, &["no_log.jsonl, line 1", "--log"]),
        ("no log folder", &[&mine, "--data", &folder, "--log", "/no/such/folder/x"], 1, &["/no/such/folder/x"]),
        (
            "a request without continuation",
            &["--requests", &prompts],
            1,
            &["prompts.jsonl, line 1", "request.continuation"],
        ),
        ("a label that is none", &["--requests", &label], 1, &["label.jsonl, line 1", "3 is the number of none"]),
        ("requests and tasks", &["arc_easy", "--requests", &label], 2, &["cannot be used with"]),
        ("no such requests", &["--requests", "nothing.jsonl"], 1, &["nothing.jsonl"]),
        ("a choice twice", &["--requests", &twice], 1, &["twice.jsonl, line 2", "0 twice"]),
        ("a choice that is missing", &["--requests", &gap], 1, &["gap.jsonl, line 2", "no 1"]),
        ("two labels", &["--requests", &labels], 1, &["labels.jsonl, line 2", "its label is 1"]),
        ("two tasks in a file", &["--requests", &tasks], 1, &["tasks.jsonl, line 2", "task_name is u"]),
        ("requests and a split", &["--requests", &label, "--split", "x"], 2, &["cannot be used with"]),
        (
            "a file that is no log",
            &[&mine, "--data", &folder, "--log", &no_rows],
            1,
            &["results.json, line 1", "--log"],
        ),
        ("a task twice", &[&mine, &mine, "--data", &folder], 2, &["two of the tasks are called"]),
        ("a part twice", &[&doubled, "--data", &folder], 1, &["doubled.toml", "\"x\" stands there twice"]),
        ("one file for many parts", &["mmlu", "--data", &missing], 1, &["one file", "57 parts"]),
        ("half of a split", &["arc_easy", "--data", &shards], 1, &["of the 2 files test-*-of-00002.* 1 are there"]),
        ("no folder for the page", &[&mine, "--data", &folder, "--html", "/no/such/x.html"], 1, &["/no/such/x.html"]),
        ("limit of none", &[&mine, "--limit", "0"], 2, &["--limit"]),
    ];
    let mut complaints = Vec::new();
    for (name, args, code, words) in table {
        let ran = bench.run(args);
        let absent: Vec<_> = words.iter().filter(|word| !ran.stderr.contains(**word)).collect();
        if ran.code != Some(*code) || !absent.is_empty() || ran.stderr.contains("panicked") || !ran.stdout.is_empty() {
            complaints.push(format!("{name}: code {:?}, not said {absent:?}\n{ran:?}", ran.code));
        }
    }
    assert!(complaints.is_empty(), "{}", complaints.join("\n\n"));
}
