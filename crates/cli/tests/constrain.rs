//! `porism run` with a grammar: what a tiny model is made to say, and what bad grammars get.

mod support;

use std::path::PathBuf;

use serde_json::Value;
use support::{Ran, Tiny, porism};

struct Bench {
    folder: tempfile::TempDir,
}

impl Bench {
    fn new() -> Bench {
        let bench = Bench { folder: tempfile::tempdir().expect("a folder") };
        Tiny::default().write(&bench.path("m.gguf"));
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
        let all = [&["run", "-m", &model, "--threads", "1", "--seed", "1", "--max-tokens", "40", "Hi"], args].concat();
        porism(&self.path("home"), &[], &all)
    }
}

#[test]
fn a_model_that_knows_nothing_keeps_to_the_grammar() {
    let bench = Bench::new();
    for extra in [&["--raw"][..], &["--temperature", "0"], &[]] {
        let ran = bench.run(&[&["--regex", "ab{3}(c|d)"], extra].concat());
        assert_eq!(ran.code, Some(0), "{ran:?}");
        assert!(ran.stdout == "abbbc\n" || ran.stdout == "abbbd\n", "{ran:?}");
    }
    let schema = bench.write("schema.json", "{\"enum\": [\"yes\", \"no\"]}");
    let ran = bench.run(&["--json-schema", &schema, "--json"]);
    let report: Value = serde_json::from_str(&ran.stdout).unwrap_or_else(|e| panic!("{e}: {ran:?}"));
    assert!(["\"yes\"", "\"no\""].contains(&report["text"].as_str().expect("a text")), "{report}");
    assert_eq!((report["constraint"].as_str(), report["complete"].as_bool()), (Some("json_schema"), Some(true)));
    assert_eq!(report["stop_reason"], "eos");
    let grammar = bench.write("grammar.lark", "start: \"one\" \" two\"? \"!\"\n");
    let ran = bench.run(&["--grammar", &grammar]);
    assert!(ran.stdout == "one!\n" || ran.stdout == "one two!\n", "{ran:?}");
    // Not whole when the tokens ran out.
    let ran = bench.run(&["--regex", "a{60}", "--json"]);
    let report: Value = serde_json::from_str(&ran.stdout).unwrap_or_else(|e| panic!("{e}: {ran:?}"));
    assert_eq!((report["complete"].as_bool(), report["stop_reason"].as_str()), (Some(false), Some("length")));
    let ran = bench.run(&["--regex", "a{60}"]);
    assert!(ran.stderr.contains("ended before it was whole by the regex"), "{ran:?}");
    // A stop text still ends it.
    let ran = bench.run(&["--regex", "abcdef", "--stop", "de"]);
    assert_eq!(ran.stdout, "abc\n", "{ran:?}");
}

#[test]
fn bad_grammars_are_errors_and_nothing_is_said() {
    let bench = Bench::new();
    let text = bench.write("text.json", "{\"type\":");
    let unmet = bench.write("unmet.json", "{\"type\": \"integer\", \"minimum\": 5, \"maximum\": 3}");
    let nothing = bench.write("nothing.json", "false");
    let unknown = bench.write("unknown.json", "{\"type\": \"array\", \"uniqueItems\": true}");
    let lark = bench.write("bad.lark", "start: \"a\"\n  nothing here\n");
    let table: &[(&[&str], i32, &[&str])] = &[
        (&["--json-schema", "no.json"], 1, &["no.json"]),
        (&["--json-schema", &text], 1, &["text.json", "JSON schema", "line 1"]),
        (&["--json-schema", &unmet], 1, &["unmet.json", "minimum (5) is greater than maximum (3)"]),
        (&["--json-schema", &nothing], 1, &["nothing.json", "Unsatisfiable"]),
        (&["--json-schema", &unknown], 1, &["unknown.json", "uniqueItems"]),
        (&["--regex", "a(b"], 1, &["--regex", "unclosed group"]),
        (&["--grammar", &lark], 1, &["bad.lark", "2(11)"]),
        (&["--grammar", "no.lark"], 1, &["no.lark"]),
        (&["--regex", "a", "--json-schema", &unmet], 2, &["cannot be used with"]),
    ];
    let mut complaints = Vec::new();
    for (args, code, words) in table {
        let ran = bench.run(args);
        let absent: Vec<_> = words.iter().filter(|word| !ran.stderr.contains(**word)).collect();
        if ran.code != Some(*code) || !absent.is_empty() || ran.stderr.contains("panicked") || !ran.stdout.is_empty() {
            complaints.push(format!("{args:?}: code {:?}, not said {absent:?}\n{ran:?}", ran.code));
        }
    }
    assert!(complaints.is_empty(), "{}", complaints.join("\n\n"));
}
