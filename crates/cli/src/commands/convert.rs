//! `porism convert`: a GGUF file to a Hugging Face folder, and back.

use std::path::{Path, PathBuf};

use anyhow::Result;
use clap::{Args, ValueEnum};
use porism_hub::Progress;
use porism_models::convert::{FourBit, OutputFormat, Report, Target, convert};

use super::figures;
use crate::context::{Context, say, usage};
use crate::progress::Bar;

/// GGUF to a Hugging Face folder, and back
#[derive(Args)]
#[command(after_help = "Examples:
  porism convert model.Q4_1.gguf -o model-f32 --to f32   a folder for transformers
  porism convert model-f32 -o model.gguf --to f16        a file for llama.cpp
  porism convert model.Q4_1.gguf -o model.F16.gguf --to f16
  porism convert model-f32 -o model-nf4 --to nf4 --double-quant   for bitsandbytes

f32 is exact. f16 and bf16 round; f16 is refused where a weight is too large
for it. nf4 and fp4 put a decoder's projections into four bits, as bitsandbytes
does, and leave embeddings, norms and head as they are (blocks of GGUF become
f32); such a folder converts back by --to f32. Nothing that exists is replaced, and the output appears under its name
when it is complete.")]
pub struct ConvertArgs {
    /// The model: a GGUF file, a Hugging Face folder, a name or a hub id
    #[arg(value_name = "IN")]
    input: String,
    /// Where to write: a name that ends in .gguf gives a GGUF file, any other a Hugging Face folder
    #[arg(short, long, value_name = "OUT")]
    output: PathBuf,
    /// What to store the weights as
    #[arg(long, value_enum, default_value_t = To::Keep)]
    to: To,
    /// With nf4 and fp4: the scales in 8 bits too, 4.13 bits a weight and not 4.5
    #[arg(long)]
    double_quant: bool,
}

/// What weights are stored as.
#[derive(Clone, Copy, Debug, ValueEnum)]
pub enum To {
    /// Single precision
    F32,
    /// Half precision
    F16,
    /// bfloat16
    Bf16,
    /// A decoder's projections in NF4, as bitsandbytes has it: a folder only
    Nf4,
    /// A decoder's projections in FP4, as bitsandbytes has it: a folder only
    Fp4,
    /// As they are (a folder can keep only F32, F16, BF16, NF4 and FP4)
    Keep,
}

impl To {
    /// The library's word, if it goes with the flag.
    pub fn target(self, double_quant: bool) -> Result<Target> {
        let target = match self {
            To::Nf4 => Target::FourBit { kind: FourBit::NF4, double_quant },
            To::Fp4 => Target::FourBit { kind: FourBit::FP4, double_quant },
            _ if double_quant => return usage("--double-quant rounds the scales of nf4 and fp4: give --to nf4"),
            To::F32 => Target::F32,
            To::F16 => Target::F16,
            To::Bf16 => Target::BF16,
            To::Keep => Target::Keep,
        };
        Ok(target)
    }
}

pub fn run(args: ConvertArgs, context: &Context) -> Result<()> {
    if args.input.ends_with(".safetensors") {
        return usage(format!("{}: give the folder that it is in, with its config.json and tokenizer", args.input));
    }
    // Before anything is fetched.
    OutputFormat::of(&args.output)?;
    let to = args.to.target(args.double_quant)?;
    let (_, source) = context.open(Some(&args.input))?;
    let mut bar = Bar::new();
    let mut started = false;
    let report = convert(&source, &args.output, to, &mut |done, total| {
        if !std::mem::replace(&mut started, true) {
            bar.start("converting", Some(total));
        }
        bar.at(done);
    });
    bar.finish();
    for line in words(&report?, &args.output) {
        say(&line);
    }
    Ok(())
}

/// What a conversion has to say.
pub fn words(report: &Report, out: &Path) -> Vec<String> {
    let format = match report.format {
        OutputFormat::Gguf => "GGUF file",
        OutputFormat::HuggingFace => "Hugging Face folder",
    };
    let types: Vec<String> = report.types.iter().map(|(block, tensors)| format!("{tensors} {block}")).collect();
    let wrote = format!(
        "wrote {}: {format}, {} weights in {} tensors ({}), {}",
        out.display(),
        figures::count(report.parameters),
        report.tensors,
        types.join(", "),
        figures::bytes(report.bytes),
    );
    std::iter::once(wrote).chain(report.notes.iter().map(|note| format!("note: {note}"))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_report_is_one_line_and_the_notes() {
        let report = Report {
            format: OutputFormat::Gguf,
            tensors: 272,
            parameters: 134_515_008,
            bytes: 269_166_528,
            types: vec![(porism_kernels::BlockType::F16, 211), (porism_kernels::BlockType::F32, 61)],
            notes: vec!["something is lost".into()],
        };
        assert_eq!(
            words(&report, Path::new("a.gguf")),
            [
                "wrote a.gguf: GGUF file, 134.5 M weights in 272 tensors (211 F16, 61 F32), 269.2 MB",
                "note: something is lost"
            ]
        );
    }
}
