//! Safetensors files, indexes and configurations that are damaged or made to harm.

use std::path::Path;
use std::sync::Arc;

use porism_formats::HfFolder;
use porism_formats::hf::{JsonFile, SafeTensors, parse_index};
use proptest::prelude::*;
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

fn file(header: &str, data: usize) -> Vec<u8> {
    let mut bytes = (header.len() as u64).to_le_bytes().to_vec();
    bytes.extend_from_slice(header.as_bytes());
    bytes.resize(bytes.len() + data, 0);
    bytes
}

fn open(bytes: Vec<u8>) -> Result<SafeTensors, String> {
    SafeTensors::from_bytes(Arc::new(bytes), "bad.safetensors").map_err(|e| e.to_string())
}

fn use_all(file: &SafeTensors) {
    for tensor in file.tensors() {
        if let Ok(weight) = file.weight(tensor.name()) {
            assert_eq!(weight.len(), tensor.shape().iter().product::<usize>());
            assert_eq!(weight.slice_rows(0..1).unwrap().to_f32().len(), weight.cols());
        }
    }
}

#[test]
fn each_defect_is_named() {
    let f32_at = |name: &str, shape: &str, offsets: &str| {
        format!(r#""{name}":{{"dtype":"F32","shape":{shape},"data_offsets":{offsets}}}"#)
    };
    let one = |shape: &str, offsets: &str| format!("{{{}}}", f32_at("t", shape, offsets));
    let eight = "[2305843009213693951]";
    // Eight tensors of nearly 2^61 bytes: sums of offsets come close to 2^64.
    let giants: Vec<String> = (0..8u64)
        .map(|i| {
            let (a, b) = (i * 2305843009213693951, (i + 1) * 2305843009213693951);
            format!(r#""g{i}":{{"dtype":"U8","shape":{eight},"data_offsets":[{a},{b}]}}"#)
        })
        .collect();
    let table: Vec<(&str, Vec<u8>, &str)> = vec![
        ("empty", vec![], "the file is empty"),
        ("seven bytes", vec![0; 7], "cut off: 7 bytes are no safetensors file"),
        ("GGUF", b"GGUF\x03\0\0\0........".to_vec(), "not a safetensors file: it claims"),
        ("header of 2^63", (1u64 << 63).to_le_bytes().to_vec(), "claims a header of 9223372036854775808"),
        ("header of 2^64-1", vec![0xff; 64], "claims a header of 18446744073709551615 bytes"),
        ("header cut off", file("{}", 0)[..9].to_vec(), "claims 2 bytes, but only 1 follow"),
        ("no header", file("", 0), "not valid safetensors JSON"),
        ("not JSON", file("hello", 0), "not valid safetensors JSON"),
        ("an array", file("[]", 0), "expected an object of tensors"),
        ("not UTF-8", [&2u64.to_le_bytes()[..], b"{\xff"].concat(), "not valid safetensors JSON"),
        ("nesting", file(&"[".repeat(100_000), 0), "not valid safetensors JSON"),
        (
            "deep under an unknown key",
            file(&format!(r#"{{"t":{{"x":{}"#, "[".repeat(100_000)), 0),
            "EOF while parsing a list",
        ),
        ("text after the header", file("{} x", 0), "trailing characters"),
        ("no dtype", file(r#"{"t":{"shape":[],"data_offsets":[0,4]}}"#, 4), "missing field `dtype`"),
        ("negative offset", file(&one("[1]", "[-4,0]"), 4), "invalid value"),
        ("fractional shape", file(&one("[1.5]", "[0,4]"), 4), "invalid type: floating point"),
        ("shape of 2^64", file(&one("[18446744073709551616]", "[0,4]"), 4), "not valid safetensors"),
        ("many dimensions", file(&one("[1,1,1,1,1,1,1,1,1]", "[0,4]"), 4), "more than 8 dimensions"),
        ("metadata of numbers", file(r#"{"__metadata__":{"a":1}}"#, 0), "expected a string"),
        ("shape does not fit", file(&one("[2]", "[0,4]"), 4), "`t`: the shape [2] of F32 does not take 4"),
        ("shape overflows", file(&one("[4294967296,4294967296]", "[0,4]"), 4), "`t`: the shape [4294967296, 4"),
        ("bits overflow", file(&one("[4611686018427387904]", "[0,4]"), 4), "does not take 4 bytes"),
        ("reversed offsets", file(&one("[1]", "[4,0]"), 4), "`t`: its data at 4..0"),
        ("gap before", file(&one("[1]", "[4,8]"), 8), "leave a gap after byte 0"),
        ("past the end", file(&one("[2]", "[0,8]"), 4), "lie past the end of the data of 4 bytes"),
        ("offset of 2^64-1", file(&one("[1]", "[0,18446744073709551615]"), 4), "lie past the end"),
        ("giants", file(&format!("{{{}}}", giants.join(",")), 16), "`g0`: its data at 0..23058430"),
        ("bytes left over", file(&one("[1]", "[0,4]"), 5), "1 bytes follow the data of the last"),
        (
            "overlap",
            file(&format!("{{{},{}}}", f32_at("a", "[2]", "[0,8]"), f32_at("b", "[2]", "[4,12]")), 12),
            "`b`: its data at 4..12 overlap others",
        ),
        (
            "same tensor twice",
            file(&format!("{{{},{}}}", f32_at("a", "[1]", "[0,4]"), f32_at("a", "[1]", "[4,8]")), 8),
            "the tensor `a` occurs twice",
        ),
    ];
    for (what, bytes, words) in table {
        let message = open(bytes).err().unwrap_or_else(|| panic!("{what} was accepted"));
        assert!(message.contains(words), "{what}: \"{message}\" should contain \"{words}\"");
        assert!(message.starts_with("bad.safetensors: "), "{what}: {message}");
        assert!(message.len() < 400, "{what}: a message of {} bytes", message.len());
    }
}

#[test]
fn unusual_files_are_accepted() {
    use_all(&open(file("{}", 0)).unwrap());
    use_all(&open(file(r#"{"__metadata__":null}   "#, 0)).unwrap());
    // A header of odd length: the data are not aligned.
    let header = r#"{"t":{"dtype":"F32","shape":[],"data_offsets":[0,4]}}"#;
    let mut bytes = file(&format!("{header:<55}"), 0);
    bytes.extend(2.5f32.to_le_bytes());
    assert_eq!(open(bytes).unwrap().weight("t").unwrap().to_f32(), [2.5]);
    // A type of the future spoils only its own tensors.
    let header = r#"{"f":{"dtype":"F3","shape":[7],"data_offsets":[0,3]},
        "t":{"dtype":"BF16","shape":[1],"data_offsets":[3,5]}}"#;
    let future = open(file(header, 5)).unwrap();
    assert!(future.weight("f").unwrap_err().to_string().contains("`f`: stored as F3"));
    assert_eq!(future.weight("t").unwrap().to_f32(), [0.0]);
}

#[test]
fn a_cut_file_is_refused_wherever_it_is_cut() {
    let header = r#"{"a":{"dtype":"F16","shape":[4,4],"data_offsets":[0,32]},"b":{"dtype":"F32","shape":[4],"data_offsets":[32,48]}}"#;
    let bytes = file(header, 48);
    use_all(&open(bytes.clone()).unwrap());
    for cut in 0..bytes.len() {
        let message = open(bytes[..cut].to_vec()).err().unwrap_or_else(|| panic!("cut at {cut}"));
        let words = ["the file is empty", "cut off", "past the end"];
        assert!(words.iter().any(|w| message.contains(w)), "cut at {cut}: {message}");
    }
}

#[test]
fn mutations_never_panic() {
    let header = r#"{"__metadata__":{"format":"pt"},"a":{"dtype":"F16","shape":[4,4],"data_offsets":[0,32]},"b":{"dtype":"F32","shape":[4],"data_offsets":[32,48]}}"#;
    let bytes = file(header, 48);
    let mut rng = StdRng::seed_from_u64(0x7361_6665);
    let mut accepted = 0;
    for _ in 0..4000 {
        let mut mutant = bytes.clone();
        for _ in 0..rng.random_range(1..4) {
            let at = rng.random_range(0..8 + header.len());
            match rng.random_range(0..4) {
                0 => mutant[at] = rng.random_range(b' '..b'~'),
                1 => mutant[at] ^= 1 << rng.random_range(0..8),
                2 => drop(mutant.remove(at)),
                _ => mutant.insert(at, rng.random_range(b'0'..=b'9')),
            }
        }
        if let Ok(file) = open(mutant) {
            use_all(&file);
            accepted += 1;
        }
    }
    assert!((20..2000).contains(&accepted), "{accepted} of 4000 mutants were accepted");
}

proptest! {
    #[test]
    fn arbitrary_bytes_are_refused(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        prop_assert!(open(bytes.clone()).is_err());
        prop_assert!(parse_index(&bytes, "i").is_err());
        prop_assert!(JsonFile::parse(&bytes, "c").is_err());
    }
}

#[test]
fn an_index_cannot_point_elsewhere() {
    let refused = |text: &str| parse_index(text.as_bytes(), "index.json").unwrap_err().to_string();
    for shard in [
        "../a.safetensors",
        "/etc/a.safetensors",
        "a/b.safetensors",
        ".a.safetensors",
        "",
        "..",
        "c:a.safetensors",
        "a\\\\b.safetensors",
        "a\\u0000.safetensors",
        "config.json",
    ] {
        let message = refused(&format!(r#"{{"weight_map":{{"t":"{shard}"}}}}"#));
        assert!(message.contains("is not a plain file name"), "{shard}: {message}");
    }
    let a = "a.safetensors";
    let twice = refused(&format!(r#"{{"weight_map":{{"t":"{a}","t":"{a}"}}}}"#));
    assert!(twice.contains("the tensor `t` occurs twice"), "{twice}");
    assert!(refused("{}").contains("missing field `weight_map`"));
    assert!(refused(r#"{"weight_map":["a"]}"#).contains("expected an object of strings"));
    assert!(refused(r#"{"weight_map":{"t":1}}"#).contains("expected a string"));
    let many: Vec<String> = (0..5000).map(|i| format!(r#""t{i}":"{i}.safetensors""#)).collect();
    let many = refused(&format!(r#"{{"weight_map":{{{}}}}}"#, many.join(",")));
    assert!(many.contains("more than 4096 shards"), "{many}");
}

#[test]
fn folders_with_defects() {
    let home = tempfile::tempdir().unwrap();
    let message = |path: &Path| HfFolder::open(path).err().unwrap().to_string();
    let missing = message(&home.path().join("none"));
    assert!(missing.contains("cannot open") && missing.contains("none"), "{missing}");

    let write = |name: &str, bytes: &[u8]| std::fs::write(home.path().join(name), bytes).unwrap();
    assert!(message(home.path()).contains("neither config.json nor tokenizer.json nor safetensors"));
    write("tokenizer.json", b"{}");
    let open = || HfFolder::open(home.path()).unwrap();
    assert!(open().config().unwrap_err().to_string().ends_with("there is no config.json"));
    write("config.json", b"{\"a\": ");
    assert!(open().config().unwrap_err().to_string().contains("config.json: not valid JSON"));
    write("config.json", b"[1]");
    assert!(open().config().unwrap_err().to_string().ends_with("not a JSON object"));
    write("config.json", "[".repeat(1 << 10).as_bytes());
    assert!(open().config().unwrap_err().to_string().contains("recursion limit"));
    write("config.json", format!("{{\"a\": [{}0]}}", "[],".repeat(1 << 19)).as_bytes());
    assert!(open().config().unwrap_err().to_string().contains("more than 524288 values"));
    write("config.json", &vec![b' '; (8 << 20) + 1]);
    assert!(open().config().unwrap_err().to_string().contains("config.json: larger than 8 MiB"));
    std::fs::remove_file(home.path().join("config.json")).unwrap();
    std::fs::create_dir(home.path().join("config.json")).unwrap();
    assert!(open().config().unwrap_err().to_string().ends_with("not a regular file"));
    assert!(message(&home.path().join("config.json/x")).contains("cannot open"));

    let index = br#"{"weight_map":{"t":"a.safetensors"}}"#;
    write("model.safetensors.index.json", index);
    let absent = message(home.path());
    assert!(absent.contains("cannot open") && absent.contains("a.safetensors"), "{absent}");
    write("a.safetensors", &file("{}", 0));
    let other = message(home.path());
    assert!(other.contains("the tensor `t` is not in `a.safetensors`"), "{other}");
    write("model.safetensors", b"");
    let empty = message(home.path());
    assert!(empty.contains("model.safetensors: the file is empty"), "{empty}");
    assert!(message(&home.path().join("model.safetensors")).ends_with("not a folder"));
}
