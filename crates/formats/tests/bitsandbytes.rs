//! bitsandbytes' folders: what is written is read back, and files that lie are refused.

use std::path::Path;

use porism_formats::HfFolder;
use porism_formats::hf::{HfTensor, HfWriter, MAX_SHARD_BYTES, Packing, SafeTensors};
use porism_kernels::BlockType;
use porism_kernels::block::four_bit::{FP4_TABLE, NF4_TABLE, scales};
use porism_kernels::block::nested::NestedScales;
use porism_kernels::block::{dequantize, quantize};
use porism_kernels::optimizer::dynamic_map;
use serde_json::{Value, json};

const SHAPE: (usize, usize) = (6, 128);

/// Blocks of some numbers.
fn blocks(block: BlockType) -> Vec<u8> {
    let values: Vec<f32> = (0..SHAPE.0 * SHAPE.1).map(|i| (i as f32 * 0.37).sin() * (1.0 + (i / 64) as f32)).collect();
    let mut bytes = Vec::new();
    quantize(block, &values, &mut bytes).unwrap();
    bytes
}

fn write(target: &Path, block: BlockType, double_quant: bool, shard: u64) {
    let tensor = |name: &str, shape: Vec<usize>, block| HfTensor { name: name.into(), shape, block };
    let tensors = [tensor("n.weight", vec![3], BlockType::F32), tensor("x.weight", vec![SHAPE.0, SHAPE.1], block)];
    let packing = Packing { double_quant, ..Packing::default() };
    let mut writer = HfWriter::create_packed(target, &tensors, packing, shard).unwrap();
    let bytes = blocks(block);
    writer.write("x.weight", &bytes[..100]).unwrap();
    writer.write("x.weight", &bytes[100..]).unwrap();
    writer.write("n.weight", &[0; 12]).unwrap();
    writer.write_file("config.json", b"{}").unwrap();
    writer.commit().unwrap();
}

#[test]
fn matrices_of_four_bits_come_back() {
    let home = tempfile::tempdir().unwrap();
    for (i, (block, double_quant, shard)) in
        [(BlockType::NF4, false, MAX_SHARD_BYTES), (BlockType::FP4, true, MAX_SHARD_BYTES), (BlockType::NF4, true, 100)]
            .into_iter()
            .enumerate()
    {
        let target = home.path().join(i.to_string());
        write(&target, block, double_quant, shard);
        let folder = HfFolder::open(&target).unwrap();
        let mut names: Vec<&str> = folder.names().collect();
        names.sort_unstable();
        assert_eq!(names, ["n.weight", "x.weight"]);
        let info = folder.tensor("x.weight").unwrap();
        assert_eq!((info.dtype(), info.shape()), (block.name(), &[6, 128][..]));
        let weight = folder.weight("x.weight").unwrap();
        assert_eq!((weight.block(), weight.rows(), weight.cols()), (block, 6, 128));
        let plain = blocks(block);
        if double_quant {
            let nested = NestedScales::encode(&scales(&plain));
            assert_eq!(scales(weight.bytes()), nested.decode());
            assert!(weight.bytes().chunks(36).zip(plain.chunks(36)).all(|(a, b)| a[4..] == b[4..]));
        } else {
            assert_eq!(weight.bytes(), plain);
        }
        let mut decoded = vec![0.0; weight.len()];
        dequantize(block, weight.bytes(), &mut decoded);
        assert_eq!(weight.to_f32(), decoded);
    }
    // What others find in the file.
    let file = SafeTensors::open(&home.path().join("1/model.safetensors")).unwrap();
    let shape = |name: &str| file.tensor(name).map(|t| (t.dtype().to_string(), t.shape().to_vec()));
    assert_eq!(shape("x.weight"), Some(("U8".into(), vec![384, 1])));
    assert_eq!(shape("x.weight.absmax"), Some(("U8".into(), vec![12])));
    assert_eq!(shape("x.weight.quant_map"), Some(("F32".into(), vec![16])));
    assert_eq!(shape("x.weight.nested_absmax"), Some(("F32".into(), vec![1])));
    assert_eq!(shape("x.weight.nested_quant_map"), Some(("F32".into(), vec![256])));
    assert!(shape("x.weight.quant_state.bitsandbytes__fp4").is_some());
    let message = HfWriter::create(
        &home.path().join("bad"),
        &[HfTensor { name: "x".into(), shape: vec![2, 96], block: BlockType::NF4 }],
        MAX_SHARD_BYTES,
    )
    .err()
    .unwrap()
    .to_string();
    assert!(message.contains("`x` of [2, 96] cannot be NF4"), "{message}");
}

/// A tensor of a file made by hand.
type Tensor = (String, &'static str, Vec<usize>, Vec<u8>);

fn save(folder: &Path, tensors: &[Tensor]) {
    let (mut header, mut data) = (serde_json::Map::new(), Vec::<u8>::new());
    for (name, dtype, shape, bytes) in tensors {
        let offsets = [data.len(), data.len() + bytes.len()];
        header.insert(name.clone(), json!({ "dtype": dtype, "shape": shape, "data_offsets": offsets }));
        data.extend(bytes);
    }
    let header = Value::Object(header).to_string();
    let mut file = (header.len() as u64).to_le_bytes().to_vec();
    file.extend(header.as_bytes());
    file.extend(data);
    std::fs::write(folder.join("model.safetensors"), file).unwrap();
}

fn floats(name: &str, values: &[f32]) -> Tensor {
    let bytes = values.iter().flat_map(|v| v.to_le_bytes()).collect();
    (format!("x{name}"), "F32", vec![values.len()], bytes)
}

fn octets(name: &str, bytes: Vec<u8>) -> Tensor {
    (format!("x{name}"), "U8", vec![bytes.len()], bytes)
}

fn state(value: &Value) -> Tensor {
    octets(".quant_state.bitsandbytes__nf4", value.to_string().into_bytes())
}

/// A whole matrix of 4 x 64, plain or with scales in 8 bits.
fn good(nested: bool) -> (Vec<Tensor>, Value) {
    let mut said = json!({ "quant_type": "nf4", "blocksize": 64, "dtype": "bfloat16", "shape": [4, 64] });
    let mut tensors = vec![octets("", vec![0x5a; 128]), floats(".quant_map", &NF4_TABLE)];
    if nested {
        said["nested_blocksize"] = json!(256);
        said["nested_offset"] = json!(0.5);
        tensors.push(octets(".absmax", vec![127, 255, 0, 200]));
        tensors.push(floats(".nested_absmax", &[2.0]));
        tensors.push(floats(".nested_quant_map", dynamic_map(true)));
    } else {
        tensors.push(floats(".absmax", &[1.0, 2.0, 3.0, 4.0]));
    }
    tensors.push(state(&said));
    (tensors, said)
}

#[test]
fn parts_say_together_what_a_matrix_is() {
    let home = tempfile::tempdir().unwrap();
    let open = |tensors: &[Tensor]| {
        save(home.path(), tensors);
        HfFolder::open(home.path()).unwrap().weight("x").unwrap()
    };
    let (plain, _) = good(false);
    assert_eq!(scales(open(&plain).bytes()), [1.0, 2.0, 3.0, 4.0]);
    // The places fill the upper half of a byte first.
    assert_eq!(open(&plain).to_f32()[..2], [NF4_TABLE[5], NF4_TABLE[10]]);
    let (nested, _) = good(true);
    let map = dynamic_map(true);
    assert_eq!(scales(open(&nested).bytes()), [127, 255, 0, 200].map(|i| map[i] * 2.0 + 0.5));
    // Blocks of 128 weights share a scale; elements of another type hold the same bytes.
    let (mut large, mut said) = good(false);
    said["blocksize"] = json!(128);
    large[0] = ("x".into(), "BF16", vec![64, 1], vec![0x5a; 128]);
    large[2] = floats(".absmax", &[1.0, 2.0]);
    large[3] = state(&said);
    assert_eq!(scales(open(&large).bytes()), [1.0, 1.0, 2.0, 2.0]);
}

#[test]
fn matrices_that_lie_are_refused() {
    let home = tempfile::tempdir().unwrap();
    let with = |key: &str, value: Value| -> Vec<Tensor> {
        let (mut tensors, mut said) = good(false);
        said[key] = value;
        tensors[3] = state(&said);
        tensors
    };
    let replaced = |nested: bool, at: usize, tensor: Tensor| -> Vec<Tensor> {
        let (mut tensors, _) = good(nested);
        tensors[at] = tensor;
        tensors
    };
    let mut other = NF4_TABLE;
    other[3] = -0.4;
    let mut no_number = NF4_TABLE;
    no_number[0] = f32::NAN;
    let (mut unknown, _) = good(false);
    unknown[3].0 = "x.quant_state.bitsandbytes__int4".into();
    let (mut no_scales, _) = good(false);
    no_scales.remove(2);
    let (mut twice, said) = good(false);
    twice.push(octets(".quant_state.bitsandbytes__fp4", said.to_string().into_bytes()));
    let (mut offset, mut said) = good(true);
    said["nested_offset"] = json!(1e300);
    offset[5] = state(&said);
    let table: Vec<(&str, Vec<Tensor>, &str)> = vec![
        (
            "absmax cut off",
            replaced(false, 2, floats(".absmax", &[1.0; 3])),
            "`x.absmax` is F32 [3]; F32 [4] is needed",
        ),
        ("absmax in 8 bits", replaced(false, 2, octets(".absmax", vec![0; 4])), "`x.absmax` is U8 [4]; F32 [4]"),
        ("no absmax", no_scales, "`x.absmax` is missing"),
        ("too few places", replaced(false, 0, octets("", vec![0; 127])), "127 bytes for 4 x 64 weights of four bits"),
        ("a type that is none", unknown, "its bitsandbytes type is int4; nf4 and fp4 are read"),
        ("another type than its name", with("quant_type", json!("fp4")), "says fp4, its name nf4"),
        ("a type that is no text", with("quant_type", json!(4)), "`quant_type` should hold a string"),
        ("two types", twice, "x"),
        ("another table", replaced(false, 1, floats(".quant_map", &other)), "quant_map holds -0.4 at place 3"),
        ("FP4's table", replaced(false, 1, floats(".quant_map", &FP4_TABLE)), "quant_map holds 0 at place 0"),
        ("a table without numbers", replaced(false, 1, floats(".quant_map", &no_number)), "holds NaN at place 0"),
        ("a short table", replaced(false, 1, floats(".quant_map", &[0.0; 15])), "`x.quant_map` is F32 [15]"),
        ("no shape", with("shape", Value::Null), "no shape of two dimensions"),
        ("one dimension", with("shape", json!([256])), "no shape of two dimensions"),
        ("no rows", with("shape", json!([0, 64])), "no shape of two dimensions above zero"),
        ("a negative shape", with("shape", json!([-4, 64])), "no shape of two dimensions"),
        ("a shape that overflows", with("shape", json!([1u64 << 60, 64])), "a shape of 1152921504606846976 x 64"),
        ("rows of part blocks", with("shape", json!([8, 32])), "rows of 32 weights"),
        ("blocks of 32", with("blocksize", json!(32)), "blocks of 32 weights: multiples of 64 are read"),
        ("blocks of nothing", with("blocksize", json!(0)), "blocks of 0 weights"),
        ("no block size", with("blocksize", Value::Null), "the key `blocksize` is missing"),
        ("no JSON", replaced(false, 3, octets(".quant_state.bitsandbytes__nf4", b"{\"a".to_vec())), "not valid JSON"),
        (
            "a long state",
            replaced(false, 3, octets(".quant_state.bitsandbytes__nf4", vec![b' '; 5000])),
            "of 5000 bytes",
        ),
        ("nested scales cut off", replaced(true, 3, floats(".nested_absmax", &[])), "`x.nested_absmax` is F32 [0]"),
        (
            "another nested table",
            replaced(true, 4, floats(".nested_quant_map", &[0.5; 256])),
            "its nested_quant_map holds 0.5",
        ),
        ("an endless mean", offset, "makes no sense"),
    ];
    for (what, tensors, words) in table {
        save(home.path(), &tensors);
        let message = HfFolder::open(home.path()).err().unwrap_or_else(|| panic!("{what} was accepted")).to_string();
        assert!(message.contains(words), "{what}: \"{message}\" should contain \"{words}\"");
        assert!(message.len() < 400, "{what}: a message of {} bytes", message.len());
    }
}

/// A table may have been rounded by another version of PyTorch.
#[test]
fn a_table_a_unit_off_is_the_same_table() {
    let home = tempfile::tempdir().unwrap();
    let (mut tensors, _) = good(false);
    tensors[1] = floats(".quant_map", &NF4_TABLE.map(|v| v * (1.0 + 1e-7)));
    save(home.path(), &tensors);
    assert_eq!(HfFolder::open(home.path()).unwrap().weight("x").unwrap().to_f32()[0], NF4_TABLE[5]);
}
