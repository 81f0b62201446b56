//! GGUF files that are damaged or made to harm: each is refused with words that say what is wrong.

use std::path::Path;
use std::sync::Arc;

use porism_formats::gguf::{Array, Gguf, GgufHeader, GgufWriter, Value};
use porism_kernels::BlockType;
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

/// A valid file with every kind of value, and the length of its header.
fn valid() -> (Vec<u8>, usize) {
    let mut header = GgufHeader::new();
    header.set("general.architecture", "llama");
    header.set("llama.block_count", 1u32);
    header.set("llama.rope.freq_base", 10000.0f32);
    header.set("flag", true);
    header.set("tokens", Array::strings(["a", "b", "cd"]));
    header.set("scores", [0.5f32, 1.0, -2.0].as_slice());
    header.set("wide", u64::MAX);
    let nested = ["x", "y"].map(|s| Value::Array(Array::strings([s])));
    header.set("nested", Array::new(porism_formats::gguf::ValueType::Array, nested).unwrap());
    header.tensor("token_embd.weight", &[32, 3], BlockType::Q8_0);
    header.tensor("output_norm.weight", &[32], BlockType::F32);
    let mut writer = GgufWriter::new(Vec::new(), Path::new("valid"), &header).unwrap();
    writer.write("token_embd.weight", &[1; 34 * 3]).unwrap();
    writer.write("output_norm.weight", &[0; 128]).unwrap();
    let bytes = writer.finish().unwrap();
    let first = bytes.len() - 128 - 128;
    (bytes, first)
}

fn open(bytes: Vec<u8>) -> Result<Gguf, String> {
    Gguf::from_bytes(Arc::new(bytes), "bad.gguf").map_err(|e| e.to_string())
}

/// Uses all that an accepted file offers: nothing may panic.
fn use_all(file: &Gguf) {
    for (key, value) in file.metadata() {
        assert!(!format!("{key} {value}").is_empty());
        let _ = (file.get_u32(key), file.get_f32(key), file.get_str(key), file.get_bool(key));
        let _ = file.strings(key).map(Iterator::count);
        let _ = (file.integers::<i32>(key), file.f32s(key));
    }
    for tensor in file.tensors() {
        let weight = file.weight(tensor.name()).unwrap();
        assert!(weight.slice_rows(0..1).unwrap().to_f32().len() == tensor.cols());
    }
}

/// Little-endian pieces of a header.
#[derive(Clone, Default)]
struct Raw(Vec<u8>);

impl Raw {
    fn new(tensors: u64, keys: u64) -> Raw {
        Raw(b"GGUF".to_vec()).u32(3).u64(tensors).u64(keys)
    }

    fn bytes(mut self, bytes: &[u8]) -> Raw {
        self.0.extend_from_slice(bytes);
        self
    }

    fn u32(self, value: u32) -> Raw {
        self.bytes(&value.to_le_bytes())
    }

    fn u64(self, value: u64) -> Raw {
        self.bytes(&value.to_le_bytes())
    }

    fn string(self, text: &str) -> Raw {
        self.u64(text.len() as u64).bytes(text.as_bytes())
    }

    fn tensor(self, name: &str, dims: &[u64], kind: u32, offset: u64) -> Raw {
        let raw = self.string(name).u32(dims.len() as u32);
        dims.iter().fold(raw, |raw, d| raw.u64(*d)).u32(kind).u64(offset)
    }

    /// The data section: `count` zeros after the padding.
    fn data(mut self, count: usize) -> Vec<u8> {
        self.0.resize(self.0.len().next_multiple_of(32) + count, 0);
        self.0
    }
}

#[test]
fn each_defect_is_named() {
    let u32_key = |raw: Raw, key: &str, value: u32| raw.string(key).u32(4).u32(value);
    let deep = |levels: usize| {
        let raw = Raw::new(0, 1).string("deep").u32(9);
        (0..levels).fold(raw, |raw, _| raw.u32(9).u64(1)).u32(4).u64(0).data(64)
    };
    let alignment = |value| u32_key(Raw::new(0, 1), "general.alignment", value).data(0);
    let tensor = |dims: &[u64], kind, offset| Raw::new(1, 0).tensor("t", dims, kind, offset).data(64);
    let one = 1u64 << 32;
    let table: Vec<(&str, Vec<u8>, &str)> = vec![
        ("empty", vec![], "the file is empty"),
        ("magic", b"PK\x03\x04 and more".to_vec(), "not a GGUF file: it begins with \"PK"),
        ("short magic", b"GG".to_vec(), "not a GGUF file"),
        ("pickle", vec![0x80, 2, b'}', b'q'], "not a GGUF file"),
        ("version 1", Raw(b"GGUF".to_vec()).u32(1).data(64), "version 1 is not supported"),
        ("version 4", Raw(b"GGUF".to_vec()).u32(4).data(64), "version 4 is not supported"),
        ("big-endian", Raw(b"GGUF".to_vec()).bytes(&[0, 0, 0, 3]).data(64), "big-endian"),
        ("no counts", Raw(b"GGUF".to_vec()).u32(3).0, "cut off"),
        ("2^63 tensors", Raw::new(1 << 63, 0).data(64), "claims 9223372036854775808 tensors"),
        ("2^63 keys", Raw::new(0, 1 << 63).data(64), "claims 9223372036854775808 metadata keys"),
        ("too many keys for the file", Raw::new(0, 60000).data(64), "claims 60000 metadata keys, but"),
        ("too many tensors for the file", Raw::new(9000, 0).data(64), "claims 9000 tensors, but only"),
        ("2^63 bytes of key", Raw::new(0, 1).u64(1 << 63).data(64), "claims 9223372036854775808 bytes"),
        ("2^64-1 bytes of key", Raw::new(0, 1).u64(u64::MAX).data(64), "metadata key 0: a string at"),
        ("key not UTF-8", Raw::new(0, 1).u64(1).bytes(&[0xff]).data(64), "the name \"\\xff\" is not UTF-8"),
        ("long key", Raw::new(0, 1).string(&"k".repeat(70_000)).data(9), "70000 bytes is longer than"),
        ("unknown value type", Raw::new(0, 1).string("k").u32(13).data(64), "`k`: value of unknown type 13"),
        ("bool of 2", Raw::new(0, 1).string("k").u32(7).bytes(&[2]).data(64), "neither 0 nor 1"),
        ("value cut off", Raw::new(0, 1).string("k").u32(12).bytes(&[0]).0, "cut off"),
        (
            "2^63 elements",
            Raw::new(0, 1).string("k").u32(9).u32(4).u64(1 << 63).data(64),
            "claims 9223372036854775808 elements of u32",
        ),
        (
            "2^61 strings",
            Raw::new(0, 1).string("k").u32(9).u32(8).u64(1 << 61).data(64),
            "claims 2305843009213693952 elements of string",
        ),
        (
            "2^62 arrays",
            Raw::new(0, 1).string("k").u32(9).u32(9).u64(1 << 62).data(64),
            "claims 4611686018427387904 elements of array",
        ),
        ("array of unknown type", Raw::new(0, 1).string("k").u32(9).u32(77).u64(1).data(64), "unknown type 77"),
        (
            "string in array too long",
            Raw::new(0, 1).string("k").u32(9).u32(8).u64(2).string("a").u64(1 << 60).data(64),
            "`k`: a string at byte",
        ),
        ("bools in array", Raw::new(0, 1).string("k").u32(9).u32(7).u64(2).bytes(&[1, 3]).data(64), "array of bools"),
        ("nesting", deep(60), "arrays are nested more than 4 deep"),
        (
            "same key twice",
            u32_key(u32_key(Raw::new(0, 2), "k", 1), "k", 2).data(64),
            "the metadata key `k` occurs twice",
        ),
        ("alignment 0", alignment(0), "`general.alignment` is 0"),
        ("alignment 24", alignment(24), "`general.alignment` is 24, which is not a power of two"),
        (
            "alignment a string",
            Raw::new(0, 1).string("general.alignment").u32(8).string("32").data(0),
            "`general.alignment` is not a u32",
        ),
        ("5 dimensions", tensor(&[1; 5], 0, 0), "`t`: 5 dimensions; at most 4"),
        ("2^32-1 dimensions", Raw::new(1, 0).string("t").u32(u32::MAX).data(64), "4294967295 dimensions"),
        ("dimension 0", tensor(&[4, 0], 0, 0), "`t`: a dimension is zero: [4, 0]"),
        ("elements overflow", tensor(&[one, one], 0, 0), "`t`: the number of weights overflows"),
        ("2^63 elements", tensor(&[1 << 63], 0, 0), "`t`: the number of weights overflows"),
        ("bytes overflow", tensor(&[1 << 62], 0, 0), "overflow"),
        ("removed type", tensor(&[32], 4, 0), "`t`: stored as an unknown type (number 4), which is not supp"),
        ("type of the future", tensor(&[32], 4_000_000_000, 0), "(number 4000000000)"),
        ("known, unsupported type", tensor(&[256], 40, 0), "stored as NVFP4 (type number 40)"),
        ("row not whole blocks", tensor(&[33], 8, 0), "rows of 33 weights cannot be Q8_0"),
        ("K row not whole blocks", tensor(&[576, 2], 12, 0), "blocks are of 256"),
        ("offset not aligned", tensor(&[1], 0, 4), "`t`: offset 4 is not aligned to 32 bytes"),
        ("offset past the end", tensor(&[1], 0, 96), "`t`: its 4 bytes at offset 96 of the data lie past"),
        ("offset overflows", tensor(&[1], 0, !31), "lie past the end of the file"),
        ("data cut off", tensor(&[17], 0, 0), "damaged or not completely downloaded"),
        (
            "same tensor twice",
            Raw::new(2, 0).tensor("t", &[1], 0, 0).tensor("t", &[1], 0, 32).data(64),
            "the tensor `t` occurs twice",
        ),
        (
            "tensors overlap",
            Raw::new(2, 0).tensor("a", &[9], 0, 0).tensor("b", &[1], 0, 32).data(64),
            "tensors `a` and `b` overlap",
        ),
        (
            "name too long",
            Raw::new(1, 0).tensor(&"n".repeat(2000), &[1], 0, 0).data(64),
            "tensor 0: a name of 2000 bytes",
        ),
    ];
    for (what, bytes, words) in table {
        let message = open(bytes).err().unwrap_or_else(|| panic!("{what} was accepted"));
        assert!(message.contains(words), "{what}: \"{message}\" should contain \"{words}\"");
        assert!(message.starts_with("bad.gguf: "), "{what}: {message}");
    }
}

#[test]
fn unusual_files_are_accepted() {
    // Version 2 has the same layout.
    let (mut bytes, _) = valid();
    bytes[4] = 2;
    assert_eq!(open(bytes).unwrap().version(), 2);
    // A vocabulary alone: no tensors, and no padding after the header.
    let bytes = Raw::new(0, 1).string("k").u32(0).bytes(&[7]).0;
    use_all(&open(bytes).unwrap());
    // Tensors in another order than their data, with a gap between.
    let bytes = Raw::new(2, 0).tensor("b", &[2], 0, 64).tensor("a", &[1], 0, 0).data(72);
    use_all(&open(bytes).unwrap());
    // An alignment larger than the file, without tensors.
    let bytes = Raw::new(0, 1).string("general.alignment").u32(4).u32(1 << 31).0;
    use_all(&open(bytes).unwrap());
    // Not aligned at all: weights are read at any address.
    let raw = Raw::new(1, 1).string("general.alignment").u32(4).u32(1);
    let bytes = raw.tensor("tt", &[2], 0, 0).u32(0x3f80_0000).u32(0x4000_0000).0;
    assert_eq!(open(bytes).unwrap().weight("tt").unwrap().to_f32(), [1.0, 2.0]);
    // No dimensions: a scalar.
    let file = open(Raw::new(1, 0).tensor("s", &[], 0, 0).data(4)).unwrap();
    assert_eq!(file.weight("s").unwrap().to_f32(), [0.0]);
}

#[test]
fn a_cut_file_is_refused_wherever_it_is_cut() {
    let (bytes, data) = valid();
    use_all(&open(bytes.clone()).unwrap());
    let header = 0..data;
    let inside_data = (data..data + 128 + 128).step_by(7);
    for cut in header.chain(inside_data) {
        let message = open(bytes[..cut].to_vec()).err().unwrap_or_else(|| panic!("cut at {cut}"));
        let words = ["the file is empty", "not a GGUF file", "cut off", "claims", "past the end"];
        assert!(words.iter().any(|w| message.contains(w)), "cut at {cut}: {message}");
    }
}

#[test]
fn mutations_never_panic() {
    let (bytes, data) = valid();
    let mut rng = StdRng::seed_from_u64(0x6775_6766);
    let mut accepted = 0;
    for _ in 0..4000 {
        let mut mutant = bytes.clone();
        for _ in 0..rng.random_range(1..4) {
            let at = rng.random_range(0..data);
            match rng.random_range(0..5) {
                0 => mutant[at] = rng.random(),
                1 => mutant[at] ^= 1 << rng.random_range(0..8),
                2 => {
                    let word = [0, 1, 1 << 31, 1 << 63, u64::MAX, 1 << 32][rng.random_range(0..6)];
                    let end = (at + 8).min(mutant.len());
                    mutant[at..end].copy_from_slice(&word.to_le_bytes()[..end - at]);
                }
                3 => drop(mutant.remove(at)),
                _ => mutant.insert(at, rng.random()),
            }
        }
        if let Ok(file) = open(mutant) {
            use_all(&file);
            accepted += 1;
        }
    }
    // Names, scores and the like may change without harm; counts and types may not.
    assert!((100..3000).contains(&accepted), "{accepted} of 4000 mutants were accepted");
}

#[test]
fn paths_that_are_no_files() {
    let folder = tempfile::tempdir().unwrap();
    let message = |path: &Path| Gguf::open(path).err().unwrap().to_string();
    let missing = message(&folder.path().join("none.gguf"));
    assert!(missing.contains("cannot open") && missing.contains("none.gguf"), "{missing}");
    let directory = message(folder.path());
    assert!(directory.ends_with("not a regular file"), "{directory}");
    let empty = folder.path().join("empty.gguf");
    std::fs::write(&empty, "").unwrap();
    assert!(message(&empty).ends_with("the file is empty"));
}
