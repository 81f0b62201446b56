//! Hugging Face folders: what we write is read back by us and by the `safetensors` crate, and the other
//! way round.

use std::collections::HashMap;
use std::path::Path;
use std::sync::Arc;

use porism_formats::HfFolder;
use porism_formats::hf::{HfTensor, HfWriter, MAX_SHARD_BYTES, SafeTensors};
use porism_kernels::BlockType;
use proptest::prelude::*;
use proptest::sample::select;

fn tensor(name: &str, shape: &[usize], block: BlockType) -> HfTensor {
    HfTensor { name: name.into(), shape: shape.into(), block }
}

/// Bytes that differ from tensor to tensor and from place to place.
fn bytes_of(index: usize, tensor: &HfTensor) -> Vec<u8> {
    let len = tensor.shape.iter().product::<usize>() * tensor.block.block_bytes();
    (0..len).map(|i| (i * 7 + index * 31 + i / 256) as u8).collect()
}

fn write(target: &Path, tensors: &[HfTensor], shard: u64) {
    let mut writer = HfWriter::create(target, tensors, shard).unwrap();
    // Backwards and in two parts: any order will do.
    for (index, tensor) in tensors.iter().enumerate().rev() {
        let bytes = bytes_of(index, tensor);
        let (first, second) = bytes.split_at(bytes.len() / 3);
        writer.write(&tensor.name, first).unwrap();
        writer.write(&tensor.name, second).unwrap();
    }
    writer.write_file("config.json", br#"{"model_type": "llama"}"#).unwrap();
    writer.commit().unwrap();
}

fn files(folder: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(folder).unwrap();
    let mut names: Vec<_> = entries.map(|e| e.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(40))]

    #[test]
    fn folders_come_back(
        parts in prop::collection::vec(
            (
                prop::collection::vec(1..5usize, 0..4),
                select(vec![BlockType::F32, BlockType::F16, BlockType::BF16]),
            ),
            1..8,
        ),
        shard in select(vec![1, 40, 200, MAX_SHARD_BYTES]),
    ) {
        let tensors: Vec<HfTensor> = parts
            .iter()
            .enumerate()
            .map(|(i, (shape, block))| tensor(&format!("layer.{i}\"ü"), shape, *block))
            .collect();
        let home = tempfile::tempdir().unwrap();
        let target = home.path().join("model");
        write(&target, &tensors, shard);

        let folder = HfFolder::open(&target).unwrap();
        prop_assert_eq!(folder.names().len(), tensors.len());
        for (index, tensor) in tensors.iter().enumerate() {
            let info = folder.tensor(&tensor.name).unwrap();
            prop_assert_eq!(info.shape(), &tensor.shape);
            prop_assert_eq!(info.dtype(), tensor.block.name());
            let weight = folder.weight(&tensor.name).unwrap();
            prop_assert_eq!(weight.bytes(), bytes_of(index, tensor));
            prop_assert_eq!(weight.block(), tensor.block);
            prop_assert_eq!(weight.cols(), tensor.shape.last().copied().unwrap_or(1));
            prop_assert_eq!(weight.len(), tensor.shape.iter().product::<usize>());
        }
        // The independent reader agrees, and finds every element aligned.
        let mut seen = 0;
        for file in files(&target).iter().filter(|f| f.ends_with(".safetensors")) {
            let bytes = std::fs::read(target.join(file)).unwrap();
            let (head, metadata) = safetensors::SafeTensors::read_metadata(&bytes).unwrap();
            prop_assert_eq!(metadata.metadata().as_ref().unwrap()["format"].as_str(), "pt");
            let parsed = safetensors::SafeTensors::deserialize(&bytes).unwrap();
            for (name, view) in parsed.tensors() {
                let index = tensors.iter().position(|t| t.name == name).unwrap();
                prop_assert_eq!(view.shape(), &tensors[index].shape);
                prop_assert_eq!(view.data(), bytes_of(index, &tensors[index]));
                let info = metadata.info(&name).unwrap();
                let at = 8 + head + info.data_offsets.0;
                prop_assert_eq!(at % tensors[index].block.block_bytes(), 0);
                seen += 1;
            }
        }
        prop_assert_eq!(seen, tensors.len());
    }
}

#[test]
fn reads_what_the_safetensors_crate_writes() {
    use safetensors::tensor::{Dtype, TensorView};
    let f32s: Vec<u8> = [1.0f32, -2.0, 0.5].iter().flat_map(|v| v.to_le_bytes()).collect();
    let ids: Vec<u8> = [3i64, 4].iter().flat_map(|v| v.to_le_bytes()).collect();
    let views = [
        ("weight", TensorView::new(Dtype::F32, vec![1, 3], &f32s).unwrap()),
        ("position_ids", TensorView::new(Dtype::I64, vec![2], &ids).unwrap()),
        ("nothing", TensorView::new(Dtype::F16, vec![0, 5], &[]).unwrap()),
        ("half", TensorView::new(Dtype::F8_E4M3, vec![4], &[1, 2, 3, 4]).unwrap()),
    ];
    let metadata = HashMap::from([("format".to_string(), "pt".to_string())]);
    let bytes = safetensors::serialize(views, Some(metadata)).unwrap();
    let file = SafeTensors::from_bytes(Arc::new(bytes), "m.safetensors").unwrap();
    assert_eq!(file.metadata(), [("format".to_string(), "pt".to_string())]);
    assert_eq!(file.weight("weight").unwrap().to_f32(), [1.0, -2.0, 0.5]);
    let refused = |name: &str| file.weight(name).unwrap_err().to_string();
    assert!(refused("position_ids").contains("`position_ids`: stored as I64, which is not supported"));
    assert!(refused("half").contains("stored as F8_E4M3"));
    assert!(refused("nothing").contains("a dimension is zero: [0, 5]"));
    assert_eq!(refused("absent"), "m.safetensors: the tensor `absent` is missing");
}

#[test]
fn shards_are_named_as_transformers_names_them() {
    let home = tempfile::tempdir().unwrap();
    let target = home.path().join("model");
    let tensors = ["a", "b", "c"].map(|name| tensor(name, &[4], BlockType::F32));
    write(&target, &tensors, 32);
    let expected = [
        "config.json",
        "model-00001-of-00002.safetensors",
        "model-00002-of-00002.safetensors",
        "model.safetensors.index.json",
    ];
    assert_eq!(files(&target), expected);
    let index = std::fs::read(target.join("model.safetensors.index.json")).unwrap();
    let index: serde_json::Value = serde_json::from_slice(&index).unwrap();
    assert_eq!(index["metadata"]["total_size"], 48);
    assert_eq!(index["weight_map"]["b"], "model-00001-of-00002.safetensors");
    assert_eq!(index["weight_map"]["c"], "model-00002-of-00002.safetensors");
}

#[test]
fn folders_appear_only_when_complete() {
    let home = tempfile::tempdir().unwrap();
    let target = home.path().join("model");
    let tensors = [tensor("a", &[2], BlockType::F32)];

    let mut writer = HfWriter::create(&target, &tensors, MAX_SHARD_BYTES).unwrap();
    writer.write("a", &[0; 4]).unwrap();
    drop(writer);
    assert!(files(home.path()).is_empty(), "nothing is left of an abandoned folder");

    let mut writer = HfWriter::create(&target, &tensors, MAX_SHARD_BYTES).unwrap();
    writer.write("a", &[0; 4]).unwrap();
    let excess = writer.write("a", &[0; 5]).unwrap_err().to_string();
    assert!(excess.contains("more than the 8 bytes of `a`"), "{excess}");
    let unknown = writer.write("z", &[0; 4]).unwrap_err().to_string();
    assert!(unknown.contains("`z` was not announced"), "{unknown}");
    let short = writer.commit().unwrap_err().to_string();
    assert!(short.contains("4 of the 8 bytes of `a` were given"), "{short}");
    assert!(files(home.path()).is_empty());

    // An empty folder may be filled, a used one not, even if it was used meanwhile.
    std::fs::create_dir(&target).unwrap();
    write(&target, &tensors, MAX_SHARD_BYTES);
    assert_eq!(files(&target), ["config.json", "model.safetensors"]);
    let used = HfWriter::create(&target, &tensors, MAX_SHARD_BYTES).err().unwrap().to_string();
    assert!(used.contains("model: the folder is not empty"), "{used}");
    let file = target.join("config.json");
    let taken = HfWriter::create(&file, &tensors, MAX_SHARD_BYTES).err().unwrap().to_string();
    assert!(taken.contains("a file of that name exists"), "{taken}");

    let late = home.path().join("late");
    let mut writer = HfWriter::create(&late, &tensors, MAX_SHARD_BYTES).unwrap();
    writer.write("a", &[0; 8]).unwrap();
    std::fs::create_dir(&late).unwrap();
    std::fs::write(late.join("precious"), "x").unwrap();
    let error = writer.commit().unwrap_err().to_string();
    assert!(error.contains("the folder is not empty"), "{error}");
    assert_eq!(files(&late), ["precious"]);
}

#[cfg(unix)]
#[test]
fn others_may_read_what_was_written() {
    use std::os::unix::fs::PermissionsExt;
    let home = tempfile::tempdir().unwrap();
    let plain = home.path().join("plain");
    std::fs::create_dir(&plain).unwrap();
    std::fs::write(plain.join("file"), "x").unwrap();
    let target = home.path().join("model");
    write(&target, &[tensor("a", &[1], BlockType::F32)], MAX_SHARD_BYTES);
    let mode = |path: &Path| std::fs::metadata(path).unwrap().permissions().mode();
    assert_eq!(mode(&target), mode(&plain));
    assert_eq!(mode(&target.join("model.safetensors")), mode(&plain.join("file")));
}

#[test]
fn the_plan_refuses_what_safetensors_cannot_hold() {
    let home = tempfile::tempdir().unwrap();
    let refused = |tensors: &[HfTensor]| {
        let target = home.path().join("model");
        let error = HfWriter::create(&target, tensors, MAX_SHARD_BYTES).err().unwrap();
        error.to_string()
    };
    let quantized = refused(&[tensor("q", &[2, 32], BlockType::Q4_1)]);
    assert!(quantized.contains("cannot hold the tensor `q` as Q4_1: choose F32"), "{quantized}");
    let one = tensor("t", &[1], BlockType::F32);
    let twice = refused(&[one.clone(), one]);
    assert!(twice.contains("`t` is given twice"), "{twice}");
    let huge = refused(&[tensor("h", &[usize::MAX, 2], BlockType::F32)]);
    assert!(huge.contains("the size of the tensor `h`"), "{huge}");
    let reserved = refused(&[tensor("__metadata__", &[1], BlockType::F32)]);
    assert!(reserved.contains("cannot be named `__metadata__`"), "{reserved}");
}

#[test]
fn configuration_is_read_with_types() {
    let home = tempfile::tempdir().unwrap();
    let text = r#"{"hidden_size": 64, "rope_theta": 10000.0, "model_type": "llama", "tie": true,
        "nothing": null, "eos_token_id": [1, 2], "bos_token_id": 0, "rope_scaling": {"factor": 8}}"#;
    std::fs::write(home.path().join("config.json"), text).unwrap();
    let folder = HfFolder::open(home.path()).unwrap();
    let config = folder.config().unwrap();
    assert_eq!(config.get_usize("hidden_size").unwrap(), 64);
    assert_eq!(config.get_f64("rope_theta").unwrap(), 10000.0);
    assert_eq!(config.get_f64("hidden_size").unwrap(), 64.0);
    assert_eq!(config.get_str("model_type").unwrap(), "llama");
    assert_eq!(config.find_bool("tie").unwrap(), Some(true));
    assert_eq!(config.find_usize("nothing").unwrap(), None);
    assert_eq!(config.token_ids("eos_token_id").unwrap(), [1, 2]);
    assert_eq!(config.token_ids("bos_token_id").unwrap(), [0]);
    assert_eq!(config.token_ids("pad_token_id").unwrap(), [0u32; 0]);
    let scaling = config.find_object("rope_scaling").unwrap().unwrap();
    assert_eq!(scaling.get_f64("factor").unwrap(), 8.0);
    let message = scaling.get_usize("original").unwrap_err().to_string();
    assert!(message.contains("config.json under `rope_scaling`: the key `original` is"));
    let message = config.get_usize("model_type").unwrap_err().to_string();
    assert!(message.contains("`model_type` should hold an unsigned integer, but holds a string"));
    let message = config.token_ids("rope_theta").unwrap_err().to_string();
    assert!(message.ends_with("a token id or an array of them, but holds 10000.0"), "{message}");

    assert!(folder.generation_config().unwrap().is_none());
    assert!(folder.tokenizer_json().unwrap().is_none());
    let message = folder.weight("a").unwrap_err().to_string();
    assert!(message.contains("neither model.safetensors nor"), "{message}");
    std::fs::write(home.path().join("pytorch_model.bin"), "x").unwrap();
    let message = folder.weight("a").unwrap_err().to_string();
    assert!(message.contains("pytorch_model.bin is not read"), "{message}");
}
