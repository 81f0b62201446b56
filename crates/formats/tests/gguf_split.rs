//! Split GGUF files: opened from the first part; what does not fit together says what is wrong.

use std::path::{Path, PathBuf};

use porism_formats::Gguf;
use porism_formats::gguf::{GgufHeader, GgufWriter};
use porism_kernels::BlockType;

/// Writes a part with one tensor of four numbers.
fn part(folder: &Path, name: &str, keys: &[(&str, u32)], tensor: &str, value: f32) -> PathBuf {
    let path = folder.join(name);
    let mut header = GgufHeader::new();
    for (key, value) in keys {
        header.set(key, *value);
    }
    header.tensor(tensor, &[4], BlockType::F32);
    let mut writer = GgufWriter::create(&path, &header).expect("a file");
    let bytes: Vec<u8> = [value; 4].iter().flat_map(|v| v.to_le_bytes()).collect();
    writer.write(tensor, &bytes).expect("written");
    writer.commit().expect("a part");
    path
}

fn keys(no: u32, count: u32) -> Vec<(&'static str, u32)> {
    vec![("split.no", no), ("split.count", count), ("split.tensors.count", count), ("some.number", 7 + no)]
}

fn three(folder: &Path) -> PathBuf {
    for i in 1..3 {
        let name = format!("m-{:05}-of-00003.gguf", i + 1);
        part(folder, &name, &keys(i, 3), &format!("t{i}"), i as f32);
    }
    part(folder, "m-00001-of-00003.gguf", &keys(0, 3), "t0", 0.0)
}

#[test]
fn a_split_model_is_one_model() {
    let folder = tempfile::tempdir().expect("a folder");
    let gguf = Gguf::open(&three(folder.path())).expect("a model");
    assert_eq!(gguf.parts(), 3);
    assert_eq!(gguf.get_u32("some.number").expect("the first part's"), 7);
    for i in 0..3 {
        assert_eq!(gguf.weight(&format!("t{i}")).expect("a tensor").to_f32(), [i as f32; 4]);
    }
    assert_eq!(gguf.tensors().len(), 3);
}

#[test]
fn what_does_not_fit_together_says_so() {
    let folder = tempfile::tempdir().expect("a folder");
    let under = folder.path();
    let refusal = |path: &Path| Gguf::open(path).err().expect("a refusal").to_string();
    let cases: [(&str, &[&str]); 6] = [
        ("a later part", &["part 2 of 3", "open the first", "m-00001-of-00003.gguf"]),
        ("a missing part", &["part 3 of 3 is missing", "m-00003-of-00003.gguf", "leave the parts together"]),
        ("another name", &["part 1 of 3", "has to end in \"-00001-of-00003.gguf\""]),
        ("another number", &["says that it is part 1 of 3", "its name part 2 of 3"]),
        ("a tensor twice", &["`t0` occurs in two parts"]),
        ("a claim of too many", &["one of 4000000000 parts"]),
    ];
    for (case, words) in cases {
        let first = three(under);
        let path = match case {
            "a later part" => under.join("m-00002-of-00003.gguf"),
            "a missing part" => {
                std::fs::remove_file(under.join("m-00003-of-00003.gguf")).expect("removed");
                first
            }
            "another name" => part(under, "renamed.gguf", &keys(0, 3), "t0", 0.0),
            "another number" => {
                part(under, "m-00002-of-00003.gguf", &keys(0, 3), "t1", 0.0);
                first
            }
            "a tensor twice" => {
                part(under, "m-00002-of-00003.gguf", &keys(1, 3), "t0", 0.0);
                first
            }
            _ => part(under, "x-00001-of-00001.gguf", &[("split.no", 0), ("split.count", 4_000_000_000)], "t", 0.0),
        };
        let message = refusal(&path);
        for word in words {
            assert!(message.contains(word), "{case}: {message}");
        }
    }
}
