//! `porism book`: bad input, the spellings that others rely on, and the figures that it draws.

mod support;

use std::path::Path;
use std::process::{Command, Stdio};

use serde_json::Value;
use support::Ran;
use tempfile::TempDir;

/// Runs the command in a folder of its own, where figures go.
fn book(folder: &Path, args: &[&str]) -> Ran {
    let mut command = Command::new(env!("CARGO_BIN_EXE_porism"));
    command.arg("book").args(args).current_dir(folder).env("PORISM_HOME", folder).env("NO_COLOR", "1");
    let out = command.stdin(Stdio::null()).output().expect("the binary runs");
    Ran {
        code: out.status.code(),
        stdout: String::from_utf8_lossy(&out.stdout).into_owned(),
        stderr: String::from_utf8_lossy(&out.stderr).into_owned(),
    }
}

fn json(folder: &Path, args: &[&str]) -> Value {
    let ran = book(folder, &[args, &["--json"]].concat());
    assert_eq!(ran.code, Some(0), "{args:?}\n{ran:?}");
    serde_json::from_str(&ran.stdout).expect("JSON on stdout")
}

fn keys(value: &Value) -> Vec<&str> {
    value.as_object().expect("an object").keys().map(String::as_str).collect()
}

fn files(folder: &Path) -> Vec<String> {
    let names = std::fs::read_dir(folder).expect("a folder").flatten().map(|e| e.file_name());
    let mut names: Vec<String> = names.map(|n| n.to_string_lossy().into_owned()).collect();
    names.sort();
    names
}

fn step<'a>(solution: &'a Value, key: &str) -> &'a Value {
    let parts = solution["parts"].as_array().expect("parts");
    let mut steps = parts.iter().flat_map(|p| p["steps"].as_array().expect("steps"));
    steps.find(|s| s["key"] == key).unwrap_or_else(|| panic!("no step {key} in {solution}"))
}

#[test]
fn bad_input() {
    let folder = TempDir::new().expect("a folder");
    let table: [(&[&str], i32, &[&str]); 17] = [
        (&["I.9.9"], 2, &["no exercise `I.9.9`", "I.1.1, I.1.3, I.2.2", "III.IV", "`porism book`"]),
        (&["backpropagation"], 2, &["no exercise `backpropagation`", "I.3.3"]),
        (&["I.3.3", "--set", "rate=1"], 2, &["I.3.3 has no setting `rate`", "lr, y, x1, x2, decimals, updates"]),
        (&["I.3.3", "--set", "lr"], 2, &["`lr` sets nothing", "NAME=NUMBER", "lr=0.1"]),
        (&["I.3.3", "--set", "lr=fast"], 2, &["`lr=fast` sets nothing"]),
        (&["I.3.3", "--set", "lr="], 2, &["sets nothing"]),
        (&["I.3.3", "--set", "lr=-1"], 2, &["lr = -1 is out of range", "the step size", "from 0 to 100"]),
        (&["I.3.3", "--set", "lr=nan"], 2, &["lr = nan is out of range"]),
        (&["I.3.3", "--set", "lr=inf"], 2, &["lr = inf is out of range"]),
        (&["I.3.3", "--set", "updates=2.5"], 2, &["updates = 2.5", "a whole number from 1 to 1000"]),
        (&["I.3.3", "--set", "lr=1", "--set", "lr=2"], 2, &["`lr` is set twice"]),
        (&["I.6.4", "--set", "heads=3"], 2, &["3 heads do not divide a width of 256", "heads=2"]),
        (&["I.7.4", "--set", "top=64", "--set", "experts=8"], 2, &["top=64 of 8 experts", "at most 8"]),
        (&["--set", "lr=1"], 2, &["SECTION"]),
        (&["--svg", "a.svg"], 2, &["SECTION"]),
        (&["I.3.3", "--svg", "no/such/folder/a.svg"], 1, &["no/such/folder/a.svg"]),
        (&["I.3.3", "--svg", "."], 1, &["folder"]),
    ];
    let mut complaints = Vec::new();
    for (args, code, words) in table {
        let ran = book(folder.path(), args);
        let missing: Vec<&&str> = words.iter().filter(|w| !ran.stderr.contains(**w)).collect();
        if ran.code != Some(code) || !missing.is_empty() || ran.stderr.contains("panicked") {
            complaints.push(format!("{args:?}: expected code {code}, missing words {missing:?}\n  {ran:?}"));
        }
    }
    assert!(complaints.is_empty(), "{}", complaints.join("\n"));
    assert!(files(folder.path()).is_empty(), "nothing is drawn that was refused");
}

#[test]
fn the_list_has_every_section() {
    let folder = TempDir::new().expect("a folder");
    let sections = ["I.1.1", "I.1.3", "I.2.2", "I.3.3", "I.4.2", "I.5.1", "I.6.4", "I.7.4", "III.I", "III.IV"];
    let ran = book(folder.path(), &[]);
    assert_eq!((ran.code, ran.stderr.as_str()), (Some(0), ""));
    let mut rest = ran.stdout.as_str();
    for section in sections {
        let place = rest.find(&format!("\n  {section} ")).unwrap_or_else(|| panic!("{section} is not next in\n{rest}"));
        rest = &rest[place + 1..];
    }
    let list = json(folder.path(), &[]);
    let list = list.as_array().expect("a list");
    assert_eq!(list.iter().map(|e| e["section"].as_str().expect("text")).collect::<Vec<_>>(), sections);
    for exercise in list {
        assert_eq!(keys(exercise), ["section", "chapter", "title", "settings"]);
        for setting in exercise["settings"].as_array().expect("settings") {
            assert_eq!(keys(setting), ["name", "what", "default", "low", "high", "whole"]);
        }
    }
}

#[test]
fn a_solution_has_its_keys_and_draws_nothing_unasked() {
    let folder = TempDir::new().expect("a folder");
    for section in ["I.3.3", "i.3.3", "\u{a7}I.3.3"] {
        let solution = json(folder.path(), &[section]);
        assert_eq!(keys(&solution), ["section", "chapter", "title", "settings", "parts", "errata", "figure"]);
        assert_eq!(solution["section"], "I.3.3");
        assert_eq!(step(&solution, "delta2")["shown"], "-0.41");
    }
    for section in ["I.2.2", "III.I"] {
        let solution = json(folder.path(), &[section]);
        for setting in solution["settings"].as_array().expect("settings") {
            assert_eq!(keys(setting), ["name", "what", "default", "low", "high", "whole", "value"]);
            assert_eq!(setting["value"], setting["default"]);
        }
        for part in solution["parts"].as_array().expect("parts") {
            assert_eq!(keys(part), ["label", "question", "steps", "remarks"]);
            for step in part["steps"].as_array().expect("steps") {
                assert_eq!(keys(step), ["key", "what", "work", "value", "shown"]);
            }
        }
        for erratum in solution["errata"].as_array().expect("errata") {
            assert_eq!(keys(erratum), ["book", "right", "steps"]);
        }
        assert_eq!(keys(&solution["figure"])[..3], ["title", "x", "y"]);
    }
    assert!(files(folder.path()).is_empty());
}

#[test]
fn a_change_stands_beside_the_book() {
    let folder = TempDir::new().expect("a folder");
    let both = json(folder.path(), &["I.1.3", "--set", "lr=0.5", "--set", "steps=4"]);
    let wanted = ["section", "chapter", "title", "settings", "set", "changed", "before", "after", "figure"];
    assert_eq!(keys(&both), wanted);
    assert_eq!(both["set"], serde_json::json!({"lr": 0.5, "steps": 4.0}));
    assert_eq!(step(&both["before"], "theta1")["shown"], "0.6");
    assert_eq!(step(&both["after"], "theta1")["value"], 3.0);
    let changed: Vec<&str> = both["changed"].as_array().expect("keys").iter().flat_map(Value::as_str).collect();
    assert!(changed.contains(&"theta1") && changed.contains(&"theta4") && !changed.contains(&"dy_dw"), "{changed:?}");
    let names: Vec<&str> =
        both["figure"]["series"].as_array().expect("series").iter().flat_map(|s| s["name"].as_str()).collect();
    assert!(names.contains(&"theta (as in the book)") && names.contains(&"theta (lr = 0.5, steps = 4)"), "{names:?}");
    assert_eq!(files(folder.path()), ["I.1.3.svg"]);

    let ran = book(folder.path(), &["I.3.3", "--set", "lr=0.5"]);
    let line = |words: &str| {
        let found =
            ran.stdout.lines().find(|l| l.contains(words)).unwrap_or_else(|| panic!("{words} in\n{}", ran.stdout));
        found.split_whitespace().map(str::to_string).collect::<Vec<String>>().join(" ")
    };
    // Only what differs is marked, and has its new work.
    assert_eq!(line("W1[22]"), "* W1[22] 0.4123 0.4615 0.4 - 0.5 x (-0.246) x 0.5");
    assert_eq!(line("delta2 = a2 - y"), "delta2 = a2 - y -0.41 -0.41");
    assert_eq!(ran.stderr, "drawn into I.3.3.svg\n");
    assert_eq!(files(folder.path()), ["I.1.3.svg", "I.3.3.svg"]);
}

#[test]
fn figures_go_where_they_are_wanted() {
    let folder = TempDir::new().expect("a folder");
    let ran = book(folder.path(), &["I.2.2", "--svg", "loss.svg"]);
    assert_eq!((ran.code, ran.stderr.as_str()), (Some(0), "drawn into loss.svg\n"));
    let ran = book(folder.path(), &["I.2.2", "--svg"]);
    assert_eq!((ran.code, ran.stderr.as_str()), (Some(0), "drawn into I.2.2.svg\n"));
    assert_eq!(files(folder.path()), ["I.2.2.svg", "loss.svg"]);
    let read = |name: &str| std::fs::read_to_string(folder.path().join(name)).expect("a figure");
    assert_eq!(read("loss.svg"), read("I.2.2.svg"));
    assert!(read("loss.svg").starts_with("<svg xmlns=\"http://www.w3.org/2000/svg\""));
    // Replaced, by both runs in one picture.
    let ran = book(folder.path(), &["I.2.2", "--set", "b=1", "--svg", "loss.svg"]);
    assert_eq!(ran.stderr, "drawn into loss.svg\n");
    assert!(read("loss.svg").contains("the model (b = 1)</text>"));
    assert!(read("loss.svg").contains("the model (as in the book)</text>"));
    assert_eq!(files(folder.path()), ["I.2.2.svg", "loss.svg"]);
}
