//! Rows of every kind of file: what pyarrow wrote (`scripts/fixtures/rows.py`), small texts, and files that were damaged.

use std::io::Write;
use std::path::{Path, PathBuf};

use porism_formats::rows::{Options, Row, read};
use rand::{Rng, SeedableRng, rngs::StdRng};
use serde_json::{Value, json};

fn fixture(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/rows").join(name)
}

fn rows(path: &Path) -> Vec<Row> {
    read(path, &Options::default()).unwrap_or_else(|e| panic!("{e}"))
}

fn values(rows: Vec<Row>) -> Vec<Value> {
    rows.into_iter().map(|row| Value::Object(row.value)).collect()
}

#[test]
fn arrow_and_parquet_hold_what_python_put_there() {
    let want = values(rows(&fixture("rows.jsonl")));
    assert_eq!(want.len(), 5);
    for name in ["stream.arrow", "file.arrow", "snappy.parquet", "gzip.parquet", "none.parquet"] {
        let got = rows(&fixture(name));
        assert_eq!(got[3].at, format!("{name}, row 4"));
        assert_eq!(values(got), want, "{name}");
    }
    let error = read(&fixture("binary.parquet"), &Options::default()).expect_err("bytes are no JSON").to_string();
    assert!(error.contains("row 1, column \"image\"") && error.contains("Binary"), "{error}");
}

#[test]
fn texts_are_read_and_their_mistakes_are_placed() {
    let folder = tempfile::tempdir().expect("a folder");
    let write = |name: &str, bytes: &[u8]| {
        let path = folder.path().join(name);
        std::fs::write(&path, bytes).expect("a file");
        path
    };
    let lines = rows(&write("a.jsonl", b"\xef\xbb\xbf{\"a\": 1}\r\n\n{\"a\": [true]}"));
    assert_eq!(lines[1].at, "a.jsonl, line 3");
    assert_eq!(values(lines), [json!({"a": 1}), json!({"a": [true]})]);
    assert_eq!(values(rows(&write("a.json", b"[{\"a\": 1}, {}]"))), [json!({"a": 1}), json!({})]);
    assert_eq!(values(rows(&write("one.json", b"{\"a\": 1}"))), [json!({"a": 1})]);
    let table = rows(&write("a.csv", b"q,a\n\"one, \"\"two\"\"\nmore\",B\nx,\n"));
    assert_eq!(table[1].at, "a.csv, line 4");
    assert_eq!(values(table), [json!({"q": "one, \"two\"\nmore", "a": "B"}), json!({"q": "x", "a": ""})]);
    assert_eq!(values(rows(&write("a.tsv", b"q\ta\n1\t2\n"))), [json!({"q": "1", "a": "2"})]);
    let named = Options { header: Some(vec!["x".into(), "y".into()]) };
    assert_eq!(values(read(&write("b.csv", b"1,2\n"), &named).expect("rows")), [json!({"x": "1", "y": "2"})]);
    let mut packed = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    packed.write_all(b"{\"a\": 2}\n").expect("bytes");
    assert_eq!(values(rows(&write("c.jsonl.gz", &packed.finish().expect("bytes")))), [json!({"a": 2})]);

    for (name, bytes, words) in [
        ("d.jsonl", &b"{\"a\": 1}\n{\"a\":\n"[..], "line 2"),
        ("e.jsonl", b"[1]\n", "line 1: no JSON object"),
        ("f.json", b"[{\"a\": 1}, 2]", "row 2: no JSON object"),
        ("g.json", b"3", "neither a list of JSON objects nor one"),
        ("h.csv", b"a,b\n1,2\n3\n", "line 3: 1 values for 2 columns"),
        ("i.csv", b"a\n\xff\n", "UTF-8"),
        ("j.jsonl.gz", b"no gzip", "j.jsonl.gz"),
        ("k.txt", b"", ".parquet"),
        ("l.parquet", b"PAR1", "l.parquet"),
        ("m.arrow", b"", "m.arrow"),
        ("n.arrow", b"ARROW1\0\0", "n.arrow"),
    ] {
        let error = read(&write(name, bytes), &Options::default()).expect_err(name).to_string();
        assert!(error.contains(words), "{name}: {error}");
    }
    assert!(read(&folder.path().join("none.jsonl"), &Options::default()).is_err());
}

#[test]
fn damaged_files_are_refused_or_read() {
    // Panics of the Arrow crates are caught; their words are not wanted here.
    std::panic::set_hook(Box::new(|_| {}));
    let folder = tempfile::tempdir().expect("a folder");
    let mut random = StdRng::seed_from_u64(11);
    let mut refused = 0;
    for name in ["stream.arrow", "file.arrow", "snappy.parquet", "gzip.parquet"] {
        let good = std::fs::read(fixture(name)).expect("a fixture");
        for _ in 0..300 {
            let mut bytes = good.clone();
            for _ in 0..random.random_range(1..4) {
                let at = random.random_range(0..bytes.len());
                bytes[at] = random.random();
            }
            if random.random_bool(0.2) {
                bytes.truncate(random.random_range(0..bytes.len()));
            }
            let path = folder.path().join(name);
            std::fs::write(&path, &bytes).expect("a file");
            refused += usize::from(read(&path, &Options::default()).is_err());
        }
    }
    let _ = std::panic::take_hook();
    assert!(refused > 100, "{refused}");
}
