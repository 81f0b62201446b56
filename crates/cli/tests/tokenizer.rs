//! `porism tokenizer train`: what it says and writes, and what bad input gets.

mod support;

use std::io::Write as _;
use std::path::Path;
use std::process::{Command, Stdio};

use porism_text::Tokenizer;
use serde_json::Value;
use support::{Ran, porism};

/// 44 bytes, in which `lo`, `ow` and `ab` occur three times and no pair more often.
const TEXT: &str = "low lower lowest\nabab ab x y z\n1 2 3 4 5 6 7";

struct Bench {
    folder: tempfile::TempDir,
}

impl Bench {
    fn new() -> Bench {
        let bench = Bench { folder: tempfile::tempdir().expect("a folder") };
        bench.write("text.txt", TEXT.as_bytes());
        bench
    }

    fn path(&self, name: &str) -> String {
        self.folder.path().join(name).to_str().expect("UTF-8").to_owned()
    }

    fn write(&self, name: &str, bytes: &[u8]) {
        std::fs::write(self.folder.path().join(name), bytes).expect("a file");
    }

    /// Runs the command; words with a `/` at their beginning become paths.
    fn run(&self, words: &[&str]) -> Ran {
        let place = |word: &&str| word.strip_prefix('/').map_or_else(|| (*word).to_owned(), |name| self.path(name));
        let args: Vec<String> = ["tokenizer", "train"].iter().chain(words).map(place).collect();
        let args: Vec<&str> = args.iter().map(String::as_str).collect();
        porism(self.folder.path(), &[], &args)
    }

    fn names(&self) -> Vec<String> {
        let entries = std::fs::read_dir(self.folder.path()).expect("a folder");
        let mut names: Vec<String> =
            entries.map(|entry| entry.expect("an entry").file_name().to_string_lossy().into_owned()).collect();
        names.sort();
        names
    }
}

#[test]
fn a_text_becomes_a_tokenizer() {
    let bench = Bench::new();
    let ran = bench.run(&["/text.txt", "-o", "/out", "--vocab-size", "260", "--special", "<|endoftext|>"]);
    assert_eq!(ran.code, Some(0), "{ran:?}");
    let lines: Vec<&str> = ran.stdout.lines().collect();
    assert!(lines[0].ends_with("out: 260 tokens (1 special, 256 bytes, 3 merges)"), "{ran:?}");
    // low, Ġ low e r, Ġ low e s t, a newline: 11. ab ab, Ġ ab, Ġ x, Ġ y, Ġ z, a newline: 11. Seven digits, six spaces: 13.
    assert_eq!(lines[1], "44 bytes of text are 35 tokens: 1.26 bytes per token");
    let tokenizer = Tokenizer::from_hf(Path::new(&bench.path("out"))).expect("a tokenizer");
    assert_eq!((tokenizer.vocab_size(), tokenizer.eos()), (260, Some(0)));
    // Of equals the pair with the lower ids comes first.
    assert_eq!([257, 258, 259].map(|id| tokenizer.token_text(id)), ["ab", "lo", "low"].map(Some));
    assert_eq!(bench.names(), ["out", "text.txt"]);
}

#[test]
fn json_says_the_same_and_more() {
    let bench = Bench::new();
    let ran = bench.run(&[
        "/text.txt",
        "/text.txt",
        "-o",
        "/t.json",
        "--vocab-size",
        "9000",
        "--min-frequency",
        "6",
        "--json",
    ]);
    assert_eq!(ran.code, Some(0), "{ran:?}");
    assert!(ran.stderr.contains("note: 259 tokens, not 9,000: no pair is left that occurs 6 times"), "{ran:?}");
    let said: Value = serde_json::from_str(&ran.stdout).expect("JSON");
    // `lo`, `low` and `ab` occur six times in two texts.
    let want = [("tokens", 259), ("merges", 3), ("special", 0), ("bytes", 88), ("training_tokens", 70)];
    for (key, value) in want {
        assert_eq!(said[key], value, "{key}: {said}");
    }
    let file: Value = serde_json::from_slice(&std::fs::read(bench.path("t.json")).expect("the file")).expect("JSON");
    assert_eq!(file["model"]["merges"], serde_json::json!(["a b", "l o", "lo w"]));
}

#[test]
fn words_go_over_lines_where_asked() {
    let bench = Bench::new();
    bench.write("code.txt", "if a:\n    b\nif c:\n    d\n".as_bytes());
    for (flags, wanted) in [(&["--across-lines"][..], true), (&[], false)] {
        let out = format!("/{}.json", flags.len());
        let ran = bench.run(&[&["/code.txt", "-o", &out, "--vocab-size", "270"], flags].concat());
        assert_eq!(ran.code, Some(0), "{ran:?}");
        let file = std::fs::read_to_string(bench.path(&out[1..])).expect("the file");
        assert_eq!(file.contains("\"ĊĠ"), wanted, "{flags:?}");
    }
}

#[test]
fn text_comes_through_a_pipe() {
    let bench = Bench::new();
    let mut child = Command::new(env!("CARGO_BIN_EXE_porism"))
        .args(["tokenizer", "train", "-", "-o", &bench.path("t.json"), "--vocab-size", "258", "--json"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("the binary runs");
    child.stdin.take().expect("a pipe").write_all(TEXT.as_bytes()).expect("a reader");
    let out = child.wait_with_output().expect("an end");
    let said: Value = serde_json::from_slice(&out.stdout).expect("JSON");
    assert_eq!((said["bytes"].as_u64(), said["tokens"].as_u64()), (Some(44), Some(258)));
}

#[test]
fn bad_input_is_said_and_nothing_is_written() {
    let bench = Bench::new();
    bench.write("latin.txt", b"some words\ncaf\xe9\n");
    bench.write("empty.txt", b"");
    bench.write("taken.json", b"{}");
    std::fs::create_dir(bench.path("full")).expect("a folder");
    bench.write("full/file", b"mine");
    let before = bench.names();
    let base = ["/text.txt", "-o", "/t.json", "--vocab-size", "300"];
    let table: &[(&[&str], i32, &[&str])] = &[
        (&["/latin.txt", "-o", "/t.json", "--vocab-size", "300"], 1, &["latin.txt", "byte 0xe9 at offset 14", "UTF-8"]),
        (&["/empty.txt", "-o", "/t.json", "--vocab-size", "300"], 1, &["there is no text"]),
        (&["/none.txt", "-o", "/t.json", "--vocab-size", "300"], 1, &["cannot read", "none.txt"]),
        (&["/full", "-o", "/t.json", "--vocab-size", "300"], 1, &["full is a folder: name its files"]),
        (&["/text.txt", "-o", "/taken.json", "--vocab-size", "300"], 1, &["taken.json exists already"]),
        (&["/text.txt", "-o", "/full", "--vocab-size", "300"], 1, &["full is a folder with files in it"]),
        (&["/text.txt", "-o", "/no/such/t.json", "--vocab-size", "300"], 1, &["there is no folder", "no/such"]),
        (&["/text.txt", "-o", "/t.json", "--vocab-size", "200"], 2, &["at least 256 are needed"]),
        (&["/text.txt", "-o", "/t.json", "--vocab-size", "5000000"], 2, &["at most 2097152"]),
        (&["/text.txt", "-o", "/t.json", "--vocab-size", "many"], 2, &["--vocab-size", "many"]),
        (&["/text.txt", "-o", "/t.json"], 2, &["--vocab-size"]),
        (&["/text.txt", "--vocab-size", "300"], 2, &["--output"]),
        (&["-o", "/t.json", "--vocab-size", "300"], 2, &["FILE"]),
        (&[&base[..], &["--special", ""]].concat(), 2, &["a special token is empty"]),
        (&[&base[..], &["--special", "end"]].concat(), 2, &["`end` is a word that texts may hold", "<|name|>"]),
        (&[&base[..], &["--min-frequency", "0"]].concat(), 2, &["--min-frequency", "0 is not in 1.."]),
        (&[&base[..], &["--lines"]].concat(), 2, &["--lines"]),
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
    assert_eq!(bench.names(), before);
}
