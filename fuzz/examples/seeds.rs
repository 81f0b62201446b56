//! Writes small valid files for the fuzzer to start from: `seeds FOLDER` (usually `fuzz/corpus`), one
//! folder below it for each target.

use std::error::Error;
use std::fs;
use std::path::Path;

use porism_formats::gguf::{Array, GgufHeader, GgufWriter, Value, ValueType};
use porism_formats::hf::{HfTensor, HfWriter};
use porism_kernels::BlockType;

fn main() -> Result<(), Box<dyn Error>> {
    let folder = std::env::args_os().nth(1).ok_or("usage: seeds FOLDER")?;
    let folder = Path::new(&folder);
    gguf(&folder.join("gguf"))?;
    hugging_face(folder)?;
    Ok(())
}

fn gguf(folder: &Path) -> Result<(), Box<dyn Error>> {
    fs::create_dir_all(folder)?;
    let mut model = GgufHeader::new();
    model.set("general.architecture", "llama");
    model.set("llama.block_count", 1u32);
    model.set("llama.rope.freq_base", 10_000.0f32);
    model.set("tokenizer.ggml.tokens", Array::strings(["a", "b", "ab", "<s>"]));
    model.set("tokenizer.ggml.token_type", [1i32, 1, 1, 3].as_slice());
    model.set("tokenizer.ggml.add_bos_token", true);
    for block in BlockType::ALL {
        let cols = block.block_len() as u64;
        model.tensor(&format!("blk.0.{}", block.name()), &[cols, 2], block);
    }
    write(&folder.join("model"), &model)?;

    // Every type of value, as a scalar and in an array.
    let mut values = GgufHeader::new();
    values.set("general.alignment", 8u32);
    let scalars: [Value; 12] = [
        1u8.into(),
        (-1i8).into(),
        2u16.into(),
        (-2i16).into(),
        3u32.into(),
        (-3i32).into(),
        0.5f32.into(),
        true.into(),
        "text".into(),
        4u64.into(),
        (-4i64).into(),
        0.25f64.into(),
    ];
    for value in scalars {
        let kind = value.kind();
        let array = Array::new(kind, [value.clone(), value.clone()]).ok_or("mixed types")?;
        values.set(&format!("scalar.{kind}"), value);
        values.set(&format!("array.{kind}"), array);
    }
    let nested = Array::new(ValueType::Array, [Array::strings(["x"]).into()]).ok_or("too deep")?;
    values.set("nested", nested);
    values.tensor("scalar", &[], BlockType::F32);
    values.tensor("experts", &[2, 2, 2, 1], BlockType::F16);
    write(&folder.join("values"), &values)?;

    write(&folder.join("empty"), &GgufHeader::new())
}

fn write(path: &Path, header: &GgufHeader) -> Result<(), Box<dyn Error>> {
    let mut writer = GgufWriter::create(path, header)?;
    for (name, size) in writer.remaining().map(|(n, s)| (n.to_owned(), s)).collect::<Vec<_>>() {
        writer.write(&name, &vec![0x3c; size])?;
    }
    Ok(writer.commit()?)
}

fn hugging_face(folder: &Path) -> Result<(), Box<dyn Error>> {
    let tensor = |name: &str, shape: &[usize], block| HfTensor { name: name.into(), shape: shape.into(), block };
    let tensors = [
        tensor("model.embed_tokens.weight", &[3, 2], BlockType::F32),
        tensor("model.norm.weight", &[2], BlockType::BF16),
        tensor("lm_head.weight", &[3, 2], BlockType::F16),
    ];
    let parts = folder.join("parts");
    let mut writer = HfWriter::create(&parts, &tensors, 24)?;
    for tensor in &tensors {
        let size = tensor.shape.iter().product::<usize>() * tensor.block.block_bytes();
        writer.write(&tensor.name, &vec![0x3c; size])?;
    }
    writer.commit()?;
    for target in ["safetensors", "hf_json"] {
        fs::create_dir_all(folder.join(target))?;
    }
    for entry in fs::read_dir(&parts)? {
        let path = entry?.path();
        let is_json = path.extension().is_some_and(|e| e == "json");
        let target = if is_json { "hf_json" } else { "safetensors" };
        fs::rename(&path, folder.join(target).join(path.file_name().unwrap_or_default()))?;
    }
    fs::remove_dir(&parts)?;
    let config = r#"{"architectures":["LlamaForCausalLM"],"hidden_size":64,"rope_theta":10000.0,
        "tie_word_embeddings":true,"eos_token_id":[1,2],"rope_scaling":{"factor":8.0},"pad":null}"#;
    fs::write(folder.join("hf_json/config.json"), config)?;
    Ok(())
}
