//! Rows of every kind of file: what pyarrow wrote (`scripts/fixtures/rows.py`), small texts, and files that were damaged.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use arrow_array::types::{Int8Type, UInt32Type};
use arrow_array::{
    ArrayRef, BinaryArray, DictionaryArray, Float32Array, Float64Array, Int8Array, Int64Array, RecordBatch,
    StringArray, StructArray, TimestampSecondArray, UInt32Array,
};
use arrow_ipc::writer::{FileWriter, StreamWriter};
use arrow_schema::{Field, Schema};
use parquet::arrow::ArrowWriter;
use porism_formats::rows::{Options, Row, read};
use rand::{Rng, SeedableRng, rngs::StdRng};
use serde_json::{Value, json};

fn fixture(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/rows").join(name)
}

fn rows(path: &Path) -> Vec<Row> {
    read(path, &Options::default()).unwrap_or_else(|e| panic!("{e}"))
}

fn refusal(path: &Path) -> String {
    read(path, &Options::default()).expect_err("a refusal").to_string()
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
    assert_eq!(values(rows(&fixture("binary.parquet"))), [json!({})], "bytes are no JSON");
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
        ("i.csv", b"a,b,a\n1,2,3\n", "i.csv: the column \"a\" is there twice"),
        ("i.tsv", b"\t\n1\t2\n", "the column \"\" is there twice"),
        ("j.jsonl.gz", b"no gzip", "j.jsonl.gz"),
        ("k.txt", b"", ".parquet"),
        ("l.parquet", b"PAR1", "l.parquet"),
        ("m.arrow", b"", "m.arrow"),
        ("n.arrow", b"ARROW1\0\0", "n.arrow"),
    ] {
        let error = refusal(&write(name, bytes));
        assert!(error.contains(words), "{name}: {error}");
    }
    assert!(read(&folder.path().join("none.jsonl"), &Options::default()).is_err());
}

#[test]
fn damaged_files_are_refused_or_read() {
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
    assert!(refused > 100, "{refused}");
    // The length of a block's body, for which memory would be reserved.
    let mut bytes = std::fs::read(fixture("file.arrow")).expect("a fixture");
    bytes[3115] = 155;
    let path = folder.path().join("file.arrow");
    std::fs::write(&path, &bytes).expect("a file");
    assert!(refusal(&path).ends_with("a block ends after it"));
}

/// Columns as a file of each kind: both Arrow formats and Parquet.
fn files(folder: &Path, columns: &[(&str, ArrayRef)]) -> [PathBuf; 3] {
    let fields = columns.iter().map(|(name, column)| Field::new(*name, column.data_type().clone(), true));
    let schema = Arc::new(Schema::new(fields.collect::<Vec<_>>()));
    let batch = RecordBatch::try_new(schema.clone(), columns.iter().map(|(_, column)| column.clone()).collect());
    let batch = batch.expect("a batch");
    let paths = ["stream.arrow", "file.arrow", "a.parquet"].map(|name| folder.join(name));
    let [stream, file, parquet] = paths.each_ref().map(|path| std::fs::File::create(path).expect("a file"));
    let mut stream = StreamWriter::try_new(stream, &schema).expect("a schema");
    stream.write(&batch).and_then(|()| stream.finish()).expect("a stream");
    let mut file = FileWriter::try_new(file, &schema).expect("a schema");
    file.write(&batch).and_then(|()| file.finish()).expect("a file");
    let mut parquet = ArrowWriter::try_new(parquet, schema, None).expect("a schema");
    parquet.write(&batch).and_then(|()| parquet.close()).expect("a Parquet file");
    paths
}

#[test]
fn long_dictionary_columns_are_read_in_linear_time() {
    let folder = tempfile::tempdir().expect("a folder");
    let rows_of_file = 300_000;
    let words = Arc::new(StringArray::from(vec![Some("red"), None, Some("blue")]));
    let small = Int8Array::from_iter((0..rows_of_file).map(|i| (i % 4 < 3).then_some((i % 4) as i8)));
    let large = UInt32Array::from_iter_values((0..rows_of_file).map(|i| i % 3));
    let columns: [(&str, ArrayRef); 2] = [
        ("small", Arc::new(DictionaryArray::<Int8Type>::new(small, words.clone()))),
        ("large", Arc::new(DictionaryArray::<UInt32Type>::new(large, words))),
    ];
    for path in files(folder.path(), &columns) {
        let start = Instant::now();
        let got = values(rows(&path));
        // A second or so. A look at all keys for each row takes minutes.
        assert!(start.elapsed() < Duration::from_secs(30), "{}: {:?}", path.display(), start.elapsed());
        assert_eq!(got.len(), rows_of_file as usize);
        let word = |i: usize| [json!("red"), json!(null), json!("blue"), json!(null)][i].clone();
        for (i, row) in got.iter().enumerate().skip(rows_of_file as usize - 12) {
            assert_eq!(*row, json!({"small": word(i % 4), "large": word(i % 3)}), "{}", path.display());
        }
    }
}

#[test]
fn columns_without_a_form_in_json_are_left_out() {
    let folder = tempfile::tempdir().expect("a folder");
    let number: ArrayRef = Arc::new(Int64Array::from(vec![1, 2]));
    let bytes: ArrayRef = Arc::new(BinaryArray::from(vec![&b"\xff"[..], b""]));
    let parts = [("path", number.clone()), ("bytes", bytes.clone())];
    let parts = parts.map(|(name, column)| (Arc::new(Field::new(name, column.data_type().clone(), true)), column));
    let columns: [(&str, ArrayRef); 4] = [
        ("image", Arc::new(StructArray::from(parts.to_vec()))),
        ("bytes", bytes),
        ("time", Arc::new(TimestampSecondArray::from(vec![Some(0), None]))),
        ("number", number),
    ];
    for path in files(folder.path(), &columns) {
        let want = [1, 2].map(|i| json!({"image": {"path": i}, "number": i}));
        assert_eq!(values(rows(&path)), want, "{}", path.display());
    }
}

#[test]
fn what_a_row_cannot_hold_is_refused() {
    let folder = tempfile::tempdir().expect("a folder");
    let column = |numbers: [f64; 2]| -> ArrayRef { Arc::new(Float64Array::from(numbers.to_vec())) };
    let single: ArrayRef = Arc::new(Float32Array::from(vec![Some(0.5), None, Some(f32::NEG_INFINITY)]));
    let field = |name: &str| Arc::new(Field::new(name, column([0.0; 2]).data_type().clone(), true));
    let twins = StructArray::from(vec![(field("y"), column([1.0, 2.0])), (field("y"), column([1.0, 2.0]))]);
    let cases: [(&[(&str, ArrayRef)], &str); 4] = [
        (&[("x", column([1.0, f64::NAN]))], "row 2, column \"x\": NaN is no number in JSON"),
        (&[("x", single)], "row 3, column \"x\": -inf is no number in JSON"),
        (&[("x", column([1.0, 2.0])), ("x", column([1.0, 2.0]))], "the column \"x\" is there twice"),
        (&[("x", Arc::new(twins))], "the column \"x.y\" is there twice"),
    ];
    for (columns, want) in cases {
        for path in files(folder.path(), columns) {
            assert_eq!(refusal(&path), format!("{}: {want}", path.display()));
        }
    }
}

/// A field of the schema's elements: its name, and how many children it has (0 for a number).
fn element(name: &[u8], children: u32) -> Vec<u8> {
    // The fields' steps and types: the type of a number, the repetition, the name, the children.
    let mut bytes = if children == 0 { vec![0x15, 2, 0x25, 0, 0x18] } else { vec![0x35, 0, 0x18] };
    bytes.push(name.len() as u8);
    bytes.extend(name);
    if children > 0 {
        bytes.push(0x15);
        varint(&mut bytes, u64::from(children) * 2);
    }
    bytes.push(0);
    bytes
}

fn varint(bytes: &mut Vec<u8>, mut number: u64) {
    while number > 127 {
        bytes.push(number as u8 | 128);
        number >>= 7;
    }
    bytes.push(number as u8);
}

/// A Parquet file of a schema, without rows.
fn parquet(elements: &[Vec<u8>]) -> Vec<u8> {
    let mut metadata = vec![0x15, 2, 0x19, 0xfc];
    varint(&mut metadata, elements.len() as u64);
    metadata.extend(elements.concat());
    // No rows, and no groups of them.
    metadata.extend([0x16, 0, 0x19, 0x0c, 0]);
    let length = (metadata.len() as u32).to_le_bytes();
    [b"PAR1", &metadata[..], &length, b"PAR1"].concat()
}

#[test]
fn schemas_of_damaged_parquet_files_are_refused_before_the_library_reads_them() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("a.parquet");
    let write = |bytes: &[u8]| std::fs::write(&path, bytes).expect("a file");
    let leaf = || element(b"a", 0);
    let nested = |depth: usize| -> Vec<_> { (0..depth).map(|_| element(b"g", 1)).chain([leaf()]).collect() };
    for good in [nested(1), nested(64), vec![element(b"r", 2), leaf(), element(b"b", 0)]] {
        write(&parquet(&good));
        assert_eq!(rows(&path), []);
    }
    // A decimal's scale that is called text: the library would read a number there, and after it other elements.
    let mut odd = leaf();
    odd.splice(odd.len() - 1.., [0x6c, 0x5c, 0x18, 0, 0x15, 2, 0, 0, 0]);
    let mut negative = element(b"r", 1);
    let at = negative.len() - 2;
    negative[at] = 1;
    for (elements, words) in [
        (vec![element(b"r", i32::MAX as u32), leaf()], "names 2147483647 more elements where 1 are left"),
        (vec![element(b"r", 2), element(b"g", 2), leaf(), leaf()], "names 3 more elements where 2 are left"),
        (nested(65), "more than 64 groups"),
        (nested(100_000), "more than 64 groups"),
        (vec![element(b"r", 1), leaf(), leaf()], "more than one root"),
        (vec![element(b"r", 1), odd], "the field 1 of something in its schema is of the wrong type"),
        (vec![negative, leaf()], "-1 children"),
        (vec![element(b"r", 1), vec![0x18, 1]], "the field 1 of something"),
    ] {
        write(&parquet(&elements));
        let error = refusal(&path);
        assert!(error.starts_with(&path.display().to_string()) && error.contains(words), "{error}");
    }
    // An encrypted footer is the library's to refuse.
    let mut encrypted = parquet(&nested(1));
    encrypted.truncate(encrypted.len() - 1);
    encrypted.push(b'E');
    write(&encrypted);
    assert!(refusal(&path).contains("a.parquet"));
}
