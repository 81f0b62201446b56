//! Conversion between GGUF files and Hugging Face folders, in every direction, tensor by tensor.
//!
//! Within one world every architecture converts: to another file or folder with the weights in another type, all else
//! as it is. From one world to the other those convert that `across` lists.
//!
//! The model is loaded first (which copies next to nothing), so that a file that is incomplete or of another shape
//! than its numbers is refused before a byte is written. Then the list of tensors is made
//! (`plan`), the numbers and the tokenizer are put into the target's words
//! (`to_gguf`, `to_hf`), and the weights pass through in pieces of a megabyte or so (`recode`). The
//! output appears under its name when it is complete.

mod across;
mod config_json;
mod four_bit;
mod modules;
mod plan;
mod recode;
mod replace;
mod to_gguf;
mod to_hf;

use std::path::Path;

use porism_kernels::BlockType;

use crate::facts::Facts;
use crate::load::load_encoder;
use crate::source::ModelSource;
use crate::{Error, Result};
use plan::Plan;
pub use replace::{Part, Replaced};

/// What the weights are stored as in the output.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Target {
    /// Single precision: exact for every block type.
    F32,
    /// Half precision: rounded, and refused where a weight is too large.
    F16,
    /// bfloat16: rounded.
    BF16,
    /// A decoder's projections in four bits, as bitsandbytes has them; a Hugging Face folder only.
    FourBit {
        /// NF4 or FP4.
        kind: FourBit,
        /// Whether the scales are rounded to 8 bits too.
        double_quant: bool,
    },
    /// As they are.
    #[default]
    Keep,
}

/// bitsandbytes' types.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FourBit {
    /// Places in a table of a normal distribution's quantiles.
    NF4,
    /// Floats of four bits.
    FP4,
}

impl FourBit {
    /// The block type.
    pub const fn block(self) -> BlockType {
        match self {
            FourBit::NF4 => BlockType::NF4,
            FourBit::FP4 => BlockType::FP4,
        }
    }
}

impl Target {
    /// The type that every weight is to have; `None` if it hangs on the weight.
    pub fn block(self) -> Option<BlockType> {
        match self {
            Target::F32 => Some(BlockType::F32),
            Target::F16 => Some(BlockType::F16),
            Target::BF16 => Some(BlockType::BF16),
            Target::FourBit { .. } | Target::Keep => None,
        }
    }
}

/// What is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OutputFormat {
    /// One GGUF file.
    Gguf,
    /// A folder with `config.json`, safetensors and a tokenizer.
    HuggingFace,
}

/// Endings of model files that are not written, so that a name that asks for one makes no folder.
const OTHER_SUFFIXES: [&str; 13] =
    ["safetensors", "bin", "pt", "pth", "ckpt", "onnx", "ggml", "npz", "h5", "json", "zip", "tar", "gz"];

impl OutputFormat {
    /// The format that a name asks for: a GGUF file by the ending `.gguf`, else a folder.
    ///
    /// # Errors
    /// The ending is that of another kind of model file.
    pub fn of(out: &Path) -> Result<OutputFormat> {
        let suffix = out.extension().and_then(|s| s.to_str()).unwrap_or_default().to_lowercase();
        match suffix.as_str() {
            "gguf" => Ok(OutputFormat::Gguf),
            other if OTHER_SUFFIXES.contains(&other) => Err(Error::Convert(format!(
                "{} files are not written: a name that ends in .gguf gives a GGUF file, a name without an ending a \
                 Hugging Face folder",
                format_args!(".{other}"),
            ))),
            _ => Ok(OutputFormat::HuggingFace),
        }
    }
}

/// What a conversion did.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Report {
    /// What was written.
    pub format: OutputFormat,
    /// Tensors written.
    pub tensors: usize,
    /// Weights in them.
    pub parameters: u64,
    /// Their bytes.
    pub bytes: u64,
    /// How many tensors are of which type, the most weights first.
    pub types: Vec<(BlockType, usize)>,
    /// What the target cannot say and was left out, a sentence each.
    pub notes: Vec<String>,
}

/// Converts an opened model into `out`: a GGUF file if the name ends in `.gguf`, else a Hugging Face folder.
/// `progress` is told the bytes of weights written so far and in all.
///
/// Vectors (norms, biases) are F32 in a GGUF file whatever `to` says, as llama.cpp wants them. Memory is a
/// few megabytes beside the mapped source, and the matrices of four bits that are read, or one that is written.
///
/// # Errors
/// The source is no model that this build loads, or has no tokenizer that both formats know; the target
/// cannot hold a type or a value; `out` exists (an empty folder may); the disk refuses.
pub fn convert(source: &ModelSource, out: &Path, to: Target, progress: &mut dyn FnMut(u64, u64)) -> Result<Report> {
    convert_with(source, out, to, &Replaced::new(), progress)
}

/// [`convert`] with other numbers in the place of some tensors: what was trained, or merged. They may be of any type and are
/// stored as `to` says, where it says keep in the type of the weight that they replace.
///
/// # Errors
/// As for [`convert`]; a weight has another shape than the one that it replaces, is nowhere in the source, or would have to be
/// packed into blocks that cannot be written.
pub fn convert_with(
    source: &ModelSource,
    out: &Path,
    to: Target,
    replaced: &Replaced,
    progress: &mut dyn FnMut(u64, u64),
) -> Result<Report> {
    let format = OutputFormat::of(out)?;
    four_bit::refuse_format(format, to)?;
    refuse_used(out, format)?;
    // Only a look, to refuse what cannot be run; the numbers are taken as the file has them, without what loading
    // settles for a length of text.
    load_encoder(source)?;
    let names = source.names()?;
    let config = (names.describe)(&Facts::new(source, names)?)?;
    if matches!(to, Target::FourBit { .. }) {
        four_bit::refuse_model(source, &config)?;
    }
    let mut plan = Plan::new(source, &config, format, to)?;
    replace::replace(&mut plan, source, replaced)?;
    let notes = match format {
        OutputFormat::Gguf => to_gguf::write(source, &config, &plan, to, out, progress)?,
        OutputFormat::HuggingFace => to_hf::write(source, &config, &plan, to, out, progress)?,
    };
    Ok(Report {
        format,
        tensors: plan.items.len(),
        parameters: plan.items.iter().map(|i| i.weight.len() as u64).sum(),
        bytes: plan.bytes(),
        types: plan.types(),
        notes,
    })
}

/// Sends every tensor of the plan to `write`, in pieces.
fn stream(
    plan: &Plan,
    progress: &mut dyn FnMut(u64, u64),
    mut write: impl FnMut(&str, &[u8]) -> porism_formats::Result<()>,
) -> Result<()> {
    let total = plan.bytes();
    let mut done = 0;
    progress(done, total);
    for item in &plan.items {
        recode::pieces(item, &mut |bytes| {
            write(&item.name, bytes)?;
            done += bytes.len() as u64;
            progress(done, total);
            Ok(())
        })?;
    }
    Ok(())
}

/// Nothing is ever replaced: the only output that may exist is an empty folder for a folder.
fn refuse_used(out: &Path, format: OutputFormat) -> Result<()> {
    let problem = |what: &str| Err(Error::Convert(format!("{} {what}", out.display())));
    if let Some(parent) = out.parent().filter(|p| !p.as_os_str().is_empty() && !p.is_dir()) {
        return Err(Error::Convert(format!("there is no folder {}: make it first", parent.display())));
    }
    let Ok(metadata) = std::fs::symlink_metadata(out) else { return Ok(()) };
    let empty_folder = || std::fs::read_dir(out).is_ok_and(|mut entries| entries.next().is_none());
    match format {
        _ if !metadata.is_dir() => problem("exists already and is not replaced: delete it or choose another name"),
        OutputFormat::Gguf => problem("is a folder: choose another name for the GGUF file"),
        OutputFormat::HuggingFace if empty_folder() => Ok(()),
        OutputFormat::HuggingFace => {
            problem("is a folder with files in it and is not replaced: empty it or choose another name")
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_name_decides_what_is_written() {
        let of = |name: &str| OutputFormat::of(Path::new(name));
        assert_eq!(of("a/b.gguf").unwrap(), OutputFormat::Gguf);
        assert_eq!(of("B.GGUF").unwrap(), OutputFormat::Gguf);
        for folder in ["out", "out/", "Llama-3.2-1B", "model.v1", "gguf"] {
            assert_eq!(of(folder).unwrap(), OutputFormat::HuggingFace, "{folder}");
        }
        let message = of("model.safetensors").unwrap_err().to_string();
        assert!(message.contains(".safetensors files are not written") && message.contains(".gguf"), "{message}");
    }
}
