//! What the GGUF writer writes, the reader reads back.

use std::io::Cursor;
use std::path::Path;
use std::sync::Arc;

use porism_formats::gguf::{Array, Gguf, GgufHeader, GgufWriter, Value, ValueType};
use porism_kernels::BlockType;
use proptest::prelude::*;
use proptest::sample::select;

#[derive(Clone, Debug)]
struct Tensor {
    name: String,
    dims: Vec<u64>,
    block: BlockType,
    bytes: Vec<u8>,
}

fn write(metadata: &[(String, Value<'static>)], tensors: &[Tensor]) -> Vec<u8> {
    let mut header = GgufHeader::new();
    for (key, value) in metadata {
        header.set(key, value.clone());
    }
    for tensor in tensors {
        header.tensor(&tensor.name, &tensor.dims, tensor.block);
    }
    let mut writer = GgufWriter::new(Vec::new(), Path::new("memory"), &header).unwrap();
    for tensor in tensors {
        // In two parts, as a converter would stream a large one.
        let (first, second) = tensor.bytes.split_at(tensor.bytes.len() / 2);
        writer.write(&tensor.name, first).unwrap();
        writer.write(&tensor.name, second).unwrap();
    }
    writer.finish().unwrap()
}

fn scalar() -> impl Strategy<Value = Value<'static>> {
    prop_oneof![
        any::<u8>().prop_map(Value::from),
        any::<i8>().prop_map(Value::from),
        any::<u16>().prop_map(Value::from),
        any::<i16>().prop_map(Value::from),
        any::<u32>().prop_map(Value::from),
        any::<i32>().prop_map(Value::from),
        any::<f32>().prop_map(Value::from),
        any::<bool>().prop_map(Value::from),
        ".{0,12}".prop_map(Value::from),
        prop::collection::vec(any::<u8>(), 0..12).prop_map(|b| Value::String(b.into())),
        any::<u64>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<f64>().prop_map(Value::from),
    ]
}

/// Scalars, arrays of one type, arrays of arrays.
fn value() -> impl Strategy<Value = Value<'static>> {
    scalar().prop_recursive(3, 24, 6, |inner| {
        prop::collection::vec(inner, 0..6).prop_map(|mut values| {
            let kind = values.first().map_or(ValueType::String, Value::kind);
            values.retain(|v| v.kind() == kind);
            Array::new(kind, values).unwrap().into()
        })
    })
}

/// The types that a GGUF file can hold.
fn types() -> Vec<BlockType> {
    BlockType::ALL.into_iter().filter(|block| block.ggml_id().is_some()).collect()
}

fn tensor() -> impl Strategy<Value = Tensor> {
    let dims = prop::collection::vec(1..4u64, 0..=4);
    ("[a-z.0-9]{1,40}", dims, select(types())).prop_flat_map(|(name, mut dims, block)| {
        if dims.is_empty() && !block.is_dense() {
            dims.push(1);
        }
        if let Some(cols) = dims.first_mut() {
            *cols *= block.block_len() as u64;
        }
        let elements = dims.iter().product::<u64>() as usize;
        let size = elements / block.block_len() * block.block_bytes();
        prop::collection::vec(any::<u8>(), size).prop_map(move |bytes| Tensor {
            name: name.clone(),
            dims: dims.clone(),
            block,
            bytes,
        })
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn everything_comes_back(
        mut metadata in prop::collection::vec(("[a-z._]{0,20}", value()), 0..8),
        mut tensors in prop::collection::vec(tensor(), 0..5),
        alignment in prop::option::of(select(vec![1u32, 8, 32, 64, 4096])),
    ) {
        metadata.sort_by(|a, b| a.0.cmp(&b.0));
        metadata.dedup_by(|a, b| a.0 == b.0);
        if let Some(alignment) = alignment {
            metadata.push(("general.alignment".into(), alignment.into()));
        }
        tensors.sort_by(|a, b| a.name.cmp(&b.name));
        tensors.dedup_by(|a, b| a.name == b.name);

        let file = Gguf::from_bytes(Arc::new(write(&metadata, &tensors)), "memory").unwrap();
        prop_assert_eq!(file.version(), 3);
        prop_assert_eq!(file.alignment(), alignment.map_or(32, u64::from));
        let read: Vec<_> = file.metadata().map(|(k, v)| (k.to_owned(), v.into_owned())).collect();
        prop_assert_eq!(&read, &metadata);
        prop_assert_eq!(file.tensors().len(), tensors.len());
        for (info, tensor) in file.tensors().iter().zip(&tensors) {
            prop_assert_eq!(info.name(), &tensor.name);
            prop_assert_eq!(info.dims(), &tensor.dims);
            prop_assert_eq!(info.block(), tensor.block);
            prop_assert_eq!(info.offset() % file.alignment(), 0);
            let weight = file.weight(&tensor.name).unwrap();
            prop_assert_eq!(weight.bytes(), &tensor.bytes);
            prop_assert_eq!(weight.cols() as u64, tensor.dims.first().copied().unwrap_or(1));
            prop_assert_eq!(weight.rows() as u64, tensor.dims.iter().skip(1).product::<u64>());
        }
        // Copying a file value by value and tensor by tensor gives the same bytes.
        prop_assert_eq!(write(&read, &tensors), write(&metadata, &tensors));
    }

    #[test]
    fn arbitrary_bytes_are_refused(mut bytes in prop::collection::vec(any::<u8>(), 0..400)) {
        prop_assert!(Gguf::from_bytes(Arc::new(bytes.clone()), "memory").is_err());
        // Deeper: behind a right preamble with few entries.
        let preamble = [b"GGUF\x03\0\0\0".as_slice(), &1u64.to_le_bytes(), &1u64.to_le_bytes()];
        bytes.splice(0..0, preamble.concat());
        let _ = Gguf::from_bytes(Arc::new(bytes), "memory");
    }
}

#[test]
fn getters_convert_and_complain() {
    let mut header = GgufHeader::new();
    header.set("u8", 7u8);
    header.set("i64", 1i64 << 40);
    header.set("negative", -1i32);
    header.set("f64", 0.5f64);
    header.set("nan", f32::from_bits(0x7fc0_0123));
    header.set("name", "porism");
    header.set("flag", true);
    header.set("tokens", Array::strings(["a", "", "ü"]));
    header.set("raw", Array::strings([b"\xff\xfe".as_slice()]));
    header.set("scores", [0.25f32, -1.0].as_slice());
    header.set("kinds", [1i32, 6].as_slice());
    header.set("name", "replaced");
    let bytes = GgufWriter::new(Vec::new(), Path::new("m"), &header).unwrap().finish().unwrap();
    let file = Gguf::from_bytes(Arc::new(bytes), "m.gguf").unwrap();

    assert_eq!(file.get_u32("u8").unwrap(), 7);
    assert_eq!(file.get_u64("i64").unwrap(), 1 << 40);
    assert_eq!(file.get_f32("f64").unwrap(), 0.5);
    assert_eq!(file.get_f32("nan").unwrap().to_bits(), 0x7fc0_0123);
    assert_eq!(file.get_str("name").unwrap(), "replaced");
    assert!(file.get_bool("flag").unwrap());
    assert_eq!(file.strings("tokens").unwrap().collect::<Vec<_>>(), ["a", "", "ü"]);
    assert_eq!(file.strings("tokens").unwrap().len(), 3);
    assert_eq!(file.byte_strings("raw").unwrap().next(), Some(b"\xff\xfe".as_slice()));
    assert_eq!(file.f32s("scores").unwrap(), [0.25, -1.0]);
    assert_eq!(file.integers::<u32>("kinds").unwrap(), [1, 6]);
    assert_eq!(file.find_u32("absent").unwrap(), None);
    assert_eq!(file.get("tokens").unwrap().to_string(), r#"["a", "", "ü"]"#);

    let message = |e: porism_formats::Error| e.to_string();
    let absent = message(file.get_u32("absent").unwrap_err());
    assert_eq!(absent, "m.gguf: the key `absent` is missing");
    let wide = message(file.get_u32("i64").unwrap_err());
    assert!(wide.contains("`i64` should hold an integer from 0 to 4294967295"), "{wide}");
    assert!(wide.ends_with("but holds the i64 1099511627776"), "{wide}");
    let negative = message(file.find_usize("negative").unwrap_err());
    assert!(negative.ends_with("holds the i32 -1"), "{negative}");
    let text = message(file.get_f32("name").unwrap_err());
    assert!(text.ends_with("should hold a float, but holds a string"), "{text}");
    let raw = message(file.strings("raw").err().unwrap());
    assert!(raw.ends_with("UTF-8 strings, but holds other bytes in string 0"), "{raw}");
    let array = message(file.get_str("scores").unwrap_err());
    assert!(array.ends_with("but holds an array of 2 f32"), "{array}");
    let missing = message(file.weight("output.weight").unwrap_err());
    assert_eq!(missing, "m.gguf: the tensor `output.weight` is missing");
}

#[test]
fn weights_slice_by_rows() {
    let bytes: Vec<u8> = (0..24u8).flat_map(|i| f32::from(i).to_le_bytes()).collect();
    let experts = Tensor { name: "experts".into(), dims: vec![4, 3, 2], block: BlockType::F32, bytes };
    let file = Gguf::from_bytes(Arc::new(write(&[], &[experts])), "memory").unwrap();
    let weight = file.weight("experts").unwrap();
    assert_eq!((weight.rows(), weight.cols()), (6, 4));
    let second = weight.slice_rows(3..6).unwrap();
    assert_eq!(second.to_f32(), (12..24).map(|i| i as f32).collect::<Vec<_>>());
    let error = weight.slice_rows(5..7).unwrap_err().to_string();
    assert_eq!(error, "rows 5..7 of a weight of 6 rows");
}

#[test]
fn the_writer_refuses_mistakes() {
    let refused = |edit: &dyn Fn(&mut GgufHeader)| {
        let mut header = GgufHeader::new();
        edit(&mut header);
        let out = GgufWriter::new(Vec::new(), Path::new("out.gguf"), &header);
        out.err().expect("a mistake").to_string()
    };
    let twice = refused(&|h| {
        h.tensor("t", &[1], BlockType::F32);
        h.tensor("t", &[1], BlockType::F32);
    });
    assert_eq!(twice, "cannot write out.gguf: the tensor `t` is given twice");
    let long = refused(&|h| h.tensor(&"x".repeat(64), &[1], BlockType::F32));
    assert!(long.contains("longer than 63 bytes"), "{long}");
    let block = refused(&|h| h.tensor("t", &[33], BlockType::Q8_0));
    assert!(block.contains("`t` of dimensions [33] cannot be Q8_0"), "{block}");
    for block in [BlockType::NF4, BlockType::FP4] {
        let foreign = refused(&|h| h.tensor("t", &[64], block));
        let words = format!("the tensor `t` is of type {block}, which GGUF files do not have: write F32, F16 or BF16");
        assert!(foreign.contains(&words), "{foreign}");
    }
    let huge = refused(&|h| h.tensor("t", &[1 << 40, 1 << 40], BlockType::F32));
    assert!(huge.contains("overflows"), "{huge}");
    let alignment = refused(&|h| h.set("general.alignment", 24u32));
    assert!(alignment.contains("alignment 24"), "{alignment}");

    let mut header = GgufHeader::new();
    header.tensor("a", &[2], BlockType::F32);
    header.tensor("b", &[2], BlockType::F32);
    let start = || GgufWriter::new(Cursor::new(Vec::new()), Path::new("o"), &header).unwrap();
    let order = start().write("b", &[0; 8]).unwrap_err().to_string();
    assert!(order.contains("`b` comes where `a` is due"), "{order}");
    let excess = start().write("a", &[0; 9]).unwrap_err().to_string();
    assert!(excess.contains("more than the 8 bytes"), "{excess}");
    let mut writer = start();
    writer.write("a", &[0; 8]).unwrap();
    writer.write("b", &[0; 3]).unwrap();
    let short = writer.finish().unwrap_err().to_string();
    assert!(short.contains("3 of the 8 bytes of `b`"), "{short}");
}

#[test]
fn files_appear_only_when_complete() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("model.gguf");
    std::fs::write(&path, "what was there").unwrap();
    let mut header = GgufHeader::new();
    header.tensor("a", &[2], BlockType::F32);

    let mut writer = GgufWriter::create(&path, &header).unwrap();
    writer.write("a", &[0; 4]).unwrap();
    drop(writer);
    assert_eq!(std::fs::read(&path).unwrap(), b"what was there");

    let mut writer = GgufWriter::create(&path, &header).unwrap();
    writer.write("a", &[0; 4]).unwrap();
    let error = writer.commit().unwrap_err().to_string();
    assert!(error.contains("4 of the 8 bytes of `a` were given"), "{error}");
    assert_eq!(std::fs::read(&path).unwrap(), b"what was there");

    let mut writer = GgufWriter::create(&path, &header).unwrap();
    writer.write("a", &[0, 0, 128, 63, 0, 0, 0, 64]).unwrap();
    writer.commit().unwrap();
    assert_eq!(Gguf::open(&path).unwrap().weight("a").unwrap().to_f32(), [1.0, 2.0]);
    let entries = std::fs::read_dir(folder.path()).unwrap().count();
    assert_eq!(entries, 1, "no temporary file is left");

    let error = GgufWriter::create(folder.path(), &header).err().unwrap().to_string();
    assert!(error.contains("it is a folder"), "{error}");
    let nowhere = folder.path().join("none/model.gguf");
    let error = GgufWriter::create(&nowhere, &header).err().unwrap().to_string();
    assert!(error.contains("cannot create a file beside") && error.contains("none"), "{error}");
}
