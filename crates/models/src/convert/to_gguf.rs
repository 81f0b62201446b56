//! A model as a GGUF file: the metadata that llama.cpp reads, then the tensors.
//!
//! Keys follow the GGUF specification and what llama.cpp's converter writes for the architecture. From
//! another GGUF file all metadata are taken over.

use std::path::Path;

use porism_formats::HfFolder;
use porism_formats::gguf::{GgufHeader, GgufWriter};
use porism_kernels::BlockType;

use super::plan::Plan;
use super::{OutputFormat, Target, refuse_used, stream};
use crate::config::ModelConfig;
use crate::encoder::Pooling;
use crate::load::load_encoder;
use crate::names::Purpose;
use crate::parts::NormKind;
use crate::rope::{RopeScaling, Yarn};
use crate::site::Site;
use crate::source::ModelSource;
use crate::{Error, Result};

/// Writes the file; gives the notes.
pub(super) fn write(
    source: &ModelSource,
    config: &ModelConfig,
    plan: &Plan,
    to: Target,
    out: &Path,
    progress: &mut dyn FnMut(u64, u64),
) -> Result<Vec<String>> {
    let mut header = GgufHeader::new();
    let mut notes = Vec::new();
    match source {
        ModelSource::Gguf(gguf) => {
            // One file is written, of however many parts the source has.
            for (key, value) in gguf.metadata().filter(|(key, _)| !key.starts_with("split.")) {
                header.set(key, value);
            }
            if let Some(file_type) = to.block().and_then(file_type) {
                header.set("general.file_type", file_type);
            }
        }
        ModelSource::Hf(folder) => {
            numbers(folder, config, plan, &mut header)?;
            tokenizer(source, config, &mut header, &mut notes)?;
            if source.names()?.purpose == Purpose::Encoder {
                encoder(source, plan, &mut header, &mut notes)?;
            }
        }
    }
    for item in &plan.items {
        let dims: Vec<u64> = item.shape.iter().rev().map(|&d| d as u64).collect();
        header.tensor(&item.name, &dims, item.block);
    }
    let mut writer = GgufWriter::create(out, &header)?;
    stream(plan, progress, |name, bytes| writer.write(name, bytes))?;
    refuse_used(out, OutputFormat::Gguf)?;
    writer.commit()?;
    Ok(notes)
}

/// llama.cpp's number for a file whose matrices are mostly of this type, for the types that are written here.
fn file_type(block: BlockType) -> Option<u32> {
    match block {
        BlockType::F32 => Some(0),
        BlockType::F16 => Some(1),
        BlockType::BF16 => Some(32),
        _ => None,
    }
}

fn numbers(folder: &HfFolder, config: &ModelConfig, plan: &Plan, header: &mut GgufHeader) -> Result<()> {
    let arch = config.architecture.as_str();
    let number = |what: &str, value: usize| {
        u32::try_from(value).map_err(|_| Error::Convert(format!("{what} {value} does not fit 32 bits")))
    };
    header.set("general.architecture", arch);
    header.set("general.type", "model");
    header.set("general.name", name(folder)?);
    let mut sizes = vec![
        ("block_count", config.layers),
        ("context_length", config.context),
        ("embedding_length", config.width),
        ("feed_forward_length", config.ffn),
        ("attention.head_count", config.heads),
        ("vocab_size", config.vocab),
    ];
    if arch != "bert" {
        sizes.push(("attention.head_count_kv", config.kv_heads));
    }
    if config.head_dim * config.heads != config.width || arch.starts_with("gemma") {
        sizes.extend(["attention.key_length", "attention.value_length"].map(|key| (key, config.head_dim)));
    }
    sizes.extend(config.rope().map(|rope| ("rope.dimension_count", rope.rotary_dim)));
    let window = config.layer_specs.iter().find_map(|l| l.window);
    match arch {
        // Without a window this is 0, by which llama.cpp tells Phi-4 from others.
        "phi3" => {
            sizes.push(("attention.sliding_window", window.unwrap_or(0)));
            sizes.push(("rope.scaling.original_context_length", original_context(folder, config)?));
        }
        _ => sizes.extend(window.map(|window| ("attention.sliding_window", window))),
    }
    for (key, value) in sizes {
        header.set(&format!("{arch}.{key}"), number(key, value)?);
    }
    let eps = match config.norm {
        NormKind::Rms => "attention.layer_norm_rms_epsilon",
        NormKind::Layer => "attention.layer_norm_epsilon",
    };
    header.set(&format!("{arch}.{eps}"), config.norm_eps);
    for (key, cap) in
        [("attn_logit_softcapping", config.attention_softcap), ("final_logit_softcapping", config.final_softcap)]
    {
        if let Some(cap) = cap {
            header.set(&format!("{arch}.{key}"), cap);
        }
    }
    match arch {
        "stablelm" => header.set("stablelm.use_parallel_residual", false),
        "bert" => header.set("bert.attention.causal", false),
        _ => {}
    }
    rope(config, header)?;
    if let Some(file_type) = file_type(plan.main_type()) {
        header.set("general.file_type", file_type);
    }
    header.set("general.quantization_version", 2u32);
    Ok(())
}

/// Phi-3's context of training, which its folders say whether RoPE is stretched or not.
fn original_context(folder: &HfFolder, config: &ModelConfig) -> Result<usize> {
    if let Some(original) = config.rope().and_then(|r| r.scaling.original()) {
        return Ok(original);
    }
    Ok(folder.config()?.find_usize("original_max_position_embeddings")?.unwrap_or(config.context))
}

/// The bases and the stretch; divisors are tensors.
fn rope(config: &ModelConfig, header: &mut GgufHeader) -> Result<()> {
    let arch = &config.architecture;
    let mut set = |key: &str, value: f32| header.set(&format!("{arch}.rope.{key}"), value);
    for (rope, key) in config.ropes.iter().zip(["freq_base", "freq_base_swa"]) {
        set(key, rope.theta);
    }
    let (kind, original) = match config.rope().map(|r| &r.scaling) {
        Some(RopeScaling::Linear { factor }) => {
            set("scaling.factor", *factor);
            ("linear", None)
        }
        Some(RopeScaling::Yarn(yarn)) => {
            let usual = Yarn::new(yarn.factor, yarn.original);
            set("scaling.factor", yarn.factor);
            // A factor on the temperature that follows from the stretch.
            for (key, value, usual) in [
                ("scaling.attn_factor", yarn.attention_factor / usual.attention_factor, 1.0),
                ("scaling.yarn_beta_fast", yarn.beta_fast, usual.beta_fast),
                ("scaling.yarn_beta_slow", yarn.beta_slow, usual.beta_slow),
            ] {
                if value != usual {
                    set(key, value);
                }
            }
            ("yarn", Some(yarn.original))
        }
        Some(RopeScaling::LongRope { attention_factor, .. }) => {
            set("scaling.attn_factor", *attention_factor);
            return Ok(());
        }
        _ => return Ok(()),
    };
    header.set(&format!("{arch}.rope.scaling.type"), kind);
    if let Some(original) = original {
        let original = u32::try_from(original)
            .map_err(|_| Error::Convert(format!("a context of training of {original} does not fit 32 bits")))?;
        header.set(&format!("{arch}.rope.scaling.original_context_length"), original);
    }
    Ok(())
}

/// What an encoder does with its rows.
fn encoder(source: &ModelSource, plan: &Plan, header: &mut GgufHeader, notes: &mut Vec<String>) -> Result<()> {
    let ModelSource::Hf(folder) = source else { return Ok(()) };
    let types = plan.items.iter().find(|item| item.site == Some(Site::TokenTypeEmbedding));
    header.set("tokenizer.ggml.token_type_count", types.map_or(1, |item| item.weight.rows() as u32));
    if folder.read("modules.json")?.is_none() {
        return Ok(());
    }
    let encoder = load_encoder(source)?;
    if !encoder.dense.is_empty() {
        return Err(Error::Convert(format!(
            "{}: it has projections behind the pooling, which a GGUF file of a bert cannot say",
            source.name()
        )));
    }
    let pooling: u32 = match encoder.pooling {
        Pooling::Mean => 1,
        Pooling::Cls => 2,
        Pooling::Last => 3,
    };
    header.set("bert.pooling_type", pooling);
    if !encoder.normalize {
        notes.push("its vectors have lengths of their own; those of a GGUF file are brought to length 1".into());
    }
    Ok(())
}

/// The model's own name where `config.json` has a plain one (a path or hub id says where a copy lay once),
/// else the folder's.
fn name(folder: &HfFolder) -> Result<String> {
    let config = folder.config()?;
    if let Some(name) = config.find_str("_name_or_path")?.filter(|n| !n.is_empty() && !n.contains(['/', '\\'])) {
        return Ok(name.to_string());
    }
    let path = std::path::absolute(folder.path()).unwrap_or_else(|_| folder.path().to_owned());
    Ok(path.file_name().map(|n| n.to_string_lossy().into_owned()).unwrap_or_else(|| "model".into()))
}

fn tokenizer(
    source: &ModelSource,
    config: &ModelConfig,
    header: &mut GgufHeader,
    notes: &mut Vec<String>,
) -> Result<()> {
    let tokenizer = source.tokenizer()?;
    let mut vocabulary = tokenizer.source()?;
    // llama.cpp takes the number of tokens for the number of rows of the embedding table.
    vocabulary.pad_to(config.vocab)?;
    // One further token that ends an answer has a key of its own.
    if vocabulary.special.eot.is_none() {
        vocabulary.special.eot = vocabulary.end_ids.first().copied();
    }
    let named = vocabulary.special.eot;
    let lost: Vec<String> =
        vocabulary.end_ids.iter().filter(|&&id| Some(id) != named).map(|id| id.to_string()).collect();
    if !lost.is_empty() {
        notes.push(format!(
            "a GGUF file names two tokens that end an answer; {} end one only for programs that know their spelling",
            lost.join(", ")
        ));
    }
    if vocabulary.nfc {
        notes.push("the tokenizer brings text to Unicode's NFC first, which a GGUF file cannot say".into());
    }
    if !vocabulary.strips.is_empty() {
        let strips = vocabulary.strips.len();
        notes.push(format!("{strips} tokens swallow the white space beside them, which a GGUF file cannot say"));
    }
    for (key, value) in vocabulary.to_gguf_metadata() {
        header.set(&key, value);
    }
    Ok(())
}
