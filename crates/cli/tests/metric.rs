//! `porism measure metric`: its keys, its words, and what it says to bad input.

mod support;

use std::path::Path;

use serde_json::Value;
use support::{Ran, porism};

const REFERENCES: &str = "A heron stands in the water.\nThe train leaves at 5.30 p.m.\nNo.\n";
const HYPOTHESES: &str = "A heron is standing in water.\nThe train leaves at 5.30 p.m.\nYes.\n";

struct Files {
    folder: tempfile::TempDir,
}

impl Files {
    fn new() -> Files {
        let folder = tempfile::tempdir().expect("a folder");
        let files = Files { folder };
        files.write("ref.txt", REFERENCES.as_bytes());
        files.write("hyp.txt", HYPOTHESES.as_bytes());
        files
    }

    fn write(&self, name: &str, bytes: &[u8]) {
        std::fs::write(self.folder.path().join(name), bytes).expect("a file");
    }

    /// Runs a metric; words that end like files' names become paths.
    fn run(&self, words: &str) -> Ran {
        let place = |word: &str| {
            let path = self.folder.path().join(word);
            let is_file =
                Path::new(word).extension().is_some_and(|e| ["txt", "jsonl"].contains(&e.to_str().unwrap_or("")));
            if is_file { path.to_str().expect("UTF-8").to_string() } else { word.to_string() }
        };
        let args: Vec<String> = ["measure", "metric"].into_iter().chain(words.split(' ')).map(place).collect();
        let args: Vec<&str> = args.iter().map(String::as_str).collect();
        porism(self.folder.path(), &[], &args)
    }

    fn json(&self, words: &str) -> Value {
        let ran = self.run(words);
        assert_eq!(ran.code, Some(0), "{words}: {ran:?}");
        serde_json::from_str(&ran.stdout).expect("JSON on stdout")
    }
}

const TEXT_METRICS: [&str; 10] =
    ["bleu", "chrf", "chrf++", "ter", "rouge1", "rouge2", "rougeL", "rougeLsum", "meteor", "f1"];

#[test]
fn the_readme_names_every_metric_and_its_commands_run() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let readme = std::fs::read_to_string(root.join("README.md")).expect("the README");
    let names = readme.lines().find_map(|line| line.strip_prefix("for metric in ")).expect("a loop over metrics");
    let names: Vec<&str> = names.trim_end_matches("; do").split(' ').collect();
    let home = tempfile::tempdir().expect("a folder");
    let help = porism(home.path(), &[], &["measure", "metric", "--help"]).stdout;
    let listed = help.lines().skip_while(|line| *line != "Metrics:").skip(1).take_while(|line| !line.is_empty());
    for listed in listed.filter(|line| !line.starts_with("   ")).filter_map(|line| line.split_whitespace().next()) {
        assert!(["help", "pass@k"].contains(&listed) || names.contains(&listed), "{listed} is not in the README");
    }
    let commands = readme.lines().filter_map(|line| line.trim().strip_prefix("cargo run --release -- measure metric "));
    let (mut ran, mut seen) = (0, 0);
    for command in commands {
        seen += 1;
        let several = if command.contains("$metric") { names.as_slice() } else { &[""] };
        // BERTScore fetches an encoder: its own tests do.
        for name in several.iter().filter(|name| **name != "bertscore") {
            let command = command.replace("$metric", name);
            let place = |word: &str| match word.strip_prefix("examples/") {
                Some(file) => root.join("examples").join(file).to_str().expect("UTF-8").to_string(),
                None => word.to_string(),
            };
            let args: Vec<String> = ["measure", "metric"].into_iter().chain(command.split(' ')).map(place).collect();
            let args: Vec<&str> = args.iter().map(String::as_str).collect();
            let done = porism(home.path(), &[], &args);
            assert_eq!(done.code, Some(0), "{command}: {done:?}");
            ran += 1;
        }
    }
    assert!(seen == 2 && ran == names.len(), "{seen} commands, {ran} runs");
}

#[test]
fn every_metric_has_a_score_a_signature_and_an_interval() {
    let files = Files::new();
    for metric in TEXT_METRICS.into_iter().chain(["exact_match"]) {
        let value = files.json(&format!("{metric} --ref ref.txt --hyp hyp.txt --json --resamples 200"));
        let score = value["score"].as_f64().expect("a score");
        let (low, high) = (value["interval"][0].as_f64(), value["interval"][1].as_f64());
        let (low, high) = (low.expect("a low end"), high.expect("a high end"));
        assert!(low <= score && score <= high && low < high, "{metric}: {value}");
        let signature = value["signature"].as_str().expect("a signature");
        assert!(
            signature.starts_with("nrefs:1|bs:200|seed:12345|") && signature.contains("|version:porism-"),
            "{signature}"
        );
        assert_eq!(value["segments"], 3);
        // The same from the same seed, on another number of threads; another interval from another seed.
        let again = files.json(&format!("{metric} --ref ref.txt --hyp hyp.txt --json --resamples 200 --threads 1"));
        assert_eq!(value, again);

        // A text that is its own reference.
        let same = files.json(&format!("{metric} --ref ref.txt --hyp ref.txt --json --resamples 0"));
        let full = match metric {
            "ter" => 0.0,
            // NLTK's METEOR takes a little off even then: each segment is one chunk.
            "meteor" => same["score"].as_f64().filter(|s| (0.8..1.0).contains(s)).expect("almost 1"),
            // A segment of one word has no pairs.
            "rouge2" => 2.0 / 3.0,
            rouge if rouge.starts_with("rouge") => 1.0,
            _ => 100.0,
        };
        assert!((same["score"].as_f64().expect("a score") - full).abs() < 1e-9, "{metric}: {same}");
        assert_eq!(same["interval"], Value::Null);
    }
}

#[test]
fn references_and_sentences_may_be_many() {
    let files = Files::new();
    files.write("more.txt", HYPOTHESES.as_bytes());
    for metric in TEXT_METRICS {
        let value = files.json(&format!("{metric} --ref ref.txt more.txt --hyp hyp.txt --json --sentence"));
        assert!(value["signature"].as_str().expect("a signature").starts_with("nrefs:2|"));
        assert_eq!(value["sentences"].as_array().map(Vec::len), Some(3), "{value}");
    }
    let text = files.run("bleu --ref ref.txt --hyp hyp.txt --sentence").stdout;
    let lines: Vec<&str> = text.lines().collect();
    assert_eq!(lines.len(), 6, "{text}");
    assert_eq!(lines[1], "100.00");
    assert!(lines[3].starts_with("BLEU ") && lines[3].contains("95 % interval"), "{text}");
    assert!(lines[4].starts_with("precisions ") && lines[5].starts_with("signature nrefs:1|bs:1000|"), "{text}");
}

#[test]
fn what_meteor_matches_is_said() {
    let files = Files::new();
    let ran = files.run("meteor --ref ref.txt --hyp hyp.txt");
    assert!(ran.stderr.contains("no synonyms") && ran.stderr.contains("--wordnet"), "{ran:?}");
    assert!(ran.stdout.contains("|match:exact+stem|"), "{ran:?}");
}

#[test]
fn pass_at_k_counts_samples() {
    let files = Files::new();
    files.write("tasks.jsonl", b"{\"n\": 4, \"c\": 1}\n{\"passed\": [true, true, false, true]}\n");
    let value = files.json("pass@k --results tasks.jsonl --k 2 --json");
    // 1 - C(3, 2) / C(4, 2) and 1.
    assert!((value["score"].as_f64().expect("a score") - 0.75).abs() < 1e-12, "{value}");
    assert_eq!(value["segments"], 2);
    assert!(value["signature"].as_str().expect("a signature").starts_with("k:2|"), "{value}");
}

#[test]
fn bad_input_is_told() {
    let files = Files::new();
    files.write("short.txt", b"one line\n");
    files.write("empty.txt", b"");
    files.write("blank.txt", b"\n\n\n");
    files.write("gaps.txt", b"a\n\nb\n");
    files.write("latin.txt", b"caf\xe9\nb\nc\n");
    files.write("tasks.jsonl", b"{\"n\": 4, \"c\": 1}\n{\"n\": 4}\n");
    files.write("few.jsonl", b"{\"n\": 4, \"c\": 1}\n");
    std::fs::create_dir(files.folder.path().join("folder.txt")).expect("a folder");
    let table: &[(&str, i32, &[&str])] = &[
        ("bleu --ref short.txt --hyp hyp.txt", 1, &["hyp.txt has 3 lines", "short.txt has 1 line:"]),
        ("ter --ref ref.txt short.txt --hyp hyp.txt", 1, &["hyp.txt has 3 lines", "short.txt has 1 line:"]),
        ("bleu --ref empty.txt --hyp hyp.txt", 1, &["empty.txt has no references"]),
        ("chrf --ref blank.txt --hyp hyp.txt", 1, &["blank.txt has no references", "3 lines"]),
        ("f1 --ref ref.txt --hyp empty.txt", 1, &["empty.txt has no lines"]),
        ("rouge1 --ref gaps.txt --hyp hyp.txt", 0, &["note: 1 of 3 references", "gaps.txt"]),
        ("bleu --ref missing.txt --hyp hyp.txt", 1, &["cannot read", "missing.txt"]),
        ("bleu --ref ref.txt --hyp missing.txt", 1, &["cannot read", "missing.txt"]),
        ("bleu --ref ref.txt --hyp latin.txt", 1, &["latin.txt", "UTF-8", "0xe9"]),
        ("bleu --ref latin.txt --hyp hyp.txt", 1, &["latin.txt", "UTF-8", "0xe9"]),
        ("blue --ref ref.txt --hyp hyp.txt", 2, &["`blue`", "bleu, chrf, chrf++, ter", "pass@k"]),
        ("bleu --hyp hyp.txt", 2, &["--ref"]),
        ("bleu --ref ref.txt", 2, &["--hyp"]),
        ("bleu --tokenize moses --ref ref.txt --hyp hyp.txt", 2, &["--tokenize", "moses", "13a", "intl"]),
        ("bleu --smooth some --ref ref.txt --hyp hyp.txt", 2, &["--smooth", "add-k"]),
        ("bleu --smooth-value 2 --ref ref.txt --hyp hyp.txt", 2, &["--smooth-value", "floor and add-k"]),
        ("bleu --smooth floor --smooth-value 0 --ref ref.txt --hyp hyp.txt", 2, &["--smooth-value", "above 0"]),
        ("chrf --char-order 7 --ref ref.txt --hyp hyp.txt", 2, &["--char-order", "1..=6"]),
        ("chrf --beta 0 --ref ref.txt --hyp hyp.txt", 2, &["--beta"]),
        ("bleu --threads 0 --ref ref.txt --hyp hyp.txt", 2, &["--threads"]),
        ("ter --asian-support --ref ref.txt --hyp hyp.txt", 0, &["changes nothing"]),
        ("meteor --wordnet folder.txt --ref ref.txt --hyp hyp.txt", 1, &["folder.txt", "index.noun"]),
        ("bertscore -m missing.txt --ref ref.txt --hyp hyp.txt", 1, &["missing.txt"]),
        ("bertscore --baseline-values 0.3,0.3 --ref ref.txt --hyp hyp.txt", 2, &["three numbers"]),
        ("pass@k --results tasks.jsonl", 1, &["tasks.jsonl", "line 2", "`c` is missing"]),
        ("pass@k --results few.jsonl --k 5", 1, &["few.jsonl", "task 1", "pass@5", "4 samples"]),
        ("pass@k --results few.jsonl --k 0", 2, &["--k"]),
        ("pass@k --results empty.txt", 1, &["empty.txt", "no tasks"]),
    ];
    let mut complaints = Vec::new();
    for (words, code, said) in table {
        let ran = files.run(words);
        let missing: Vec<_> = said.iter().filter(|word| !ran.stderr.contains(**word)).collect();
        if ran.code != Some(*code) || !missing.is_empty() || ran.stderr.contains("panicked") {
            complaints.push(format!("{words}: missing {missing:?}\n  {ran:?}"));
        }
    }
    assert!(complaints.is_empty(), "{}", complaints.join("\n"));
}

#[test]
fn every_metric_has_an_example() {
    let files = Files::new();
    for metric in TEXT_METRICS.into_iter().chain(["exact_match", "bertscore", "pass@k"]) {
        let help = files.run(&format!("{metric} --help")).stdout;
        assert!(help.contains("Examples:") && help.contains(&format!("porism measure metric {metric} ")), "{help}");
    }
    let help = files.run("--help").stdout;
    assert!(TEXT_METRICS.iter().all(|metric| help.contains(metric)) && help.contains("Examples:"), "{help}");
}
