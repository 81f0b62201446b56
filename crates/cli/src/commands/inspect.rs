//! `porism inspect`: what is in a model file.

use std::io::{self, BufWriter, Write};
use std::path::Path;

use anyhow::Result;
use clap::Args;
use porism_models::inspect::{Facts, KvCache, Numbers, Share, TokenizerFacts, inspect_at};

use super::figures::{bytes, count, shown, thousands};
use super::words::positive;
use crate::context::Context;
use crate::output;

/// What is in a model file
#[derive(Args)]
#[command(after_help = "Examples:
  porism inspect model.gguf
  porism inspect model-folder --tensors
  porism inspect model.safetensors --json

Only headers are read. Any architecture is described, also one that cannot
be run. kB, MB and GB are thousands, millions and billions of bytes.")]
pub struct InspectArgs {
    /// A GGUF file, a Hugging Face folder, a safetensors file, a name or a hub id
    #[arg(value_name = "FILE")]
    file: String,
    /// Give the cache's bytes at this many tokens [default: the model's context]
    #[arg(long, value_name = "N", value_parser = positive)]
    context: Option<usize>,
    /// List the tensors too: name, type, shape, bytes
    #[arg(long)]
    tensors: bool,
    /// The same facts as one object
    #[arg(long)]
    json: bool,
}

pub fn run(args: InspectArgs, context: &Context) -> Result<()> {
    // A safetensors file is no model that could be opened by name.
    let path = match Path::new(&args.file).is_file() {
        true => args.file.into(),
        false => context.model_path(Some(&args.file))?,
    };
    let mut facts = inspect_at(&path, args.context)?;
    if args.json {
        if !args.tensors {
            facts.tensors.clear();
        }
        return output::json(&facts);
    }
    let mut out = BufWriter::new(io::stdout().lock());
    describe(&facts, &mut out)?;
    if args.tensors {
        table_of_tensors(&facts, &mut out)?;
    }
    Ok(out.flush()?)
}

/// The width of the first column.
const LABEL: usize = 17;

fn line(out: &mut dyn Write, label: &str, text: &str) -> io::Result<()> {
    writeln!(out, "  {label:LABEL$}  {text}")
}

fn describe(facts: &Facts, out: &mut dyn Write) -> io::Result<()> {
    writeln!(out, "{}", shown(&facts.file, 300))?;
    let tensors = match facts.tensors.len() {
        0 => "no tensors".to_string(),
        1 => "1 tensor".to_string(),
        n => format!("{} tensors", thousands(n as u64)),
    };
    line(out, "format", &format!("{}, {}, {tensors}", facts.format, bytes(facts.file_bytes)))?;
    if let Some(name) = &facts.name {
        line(out, "name", &shown(name, 100))?;
    }
    if let Some(license) = &facts.license {
        line(out, "licence", &shown(license, 100))?;
    }
    line(out, "architecture", &facts.architecture.as_deref().map_or("not said".into(), |a| shown(a, 60)))?;
    let runs = facts.problem.as_deref().map_or("yes".into(), |problem| format!("no: {}", shown(problem, 500)));
    line(out, "runs", &runs)?;
    if facts.parameters > 0 {
        writeln!(out, "\nparameters")?;
        let all = Share {
            name: "all".into(),
            tensors: facts.tensors.len(),
            parameters: facts.parameters,
            bytes: facts.weight_bytes,
            bits_per_weight: facts.bits_per_weight.unwrap_or(0.0),
        };
        shares(out, facts.parts.iter().chain([&all]))?;
        if facts.numbers.tied_embeddings == Some(true) {
            line(out, "head", "is the token embedding")?;
        }
        writeln!(out, "\nblock types")?;
        shares(out, facts.types.iter())?;
    }
    let numbers = number_lines(&facts.numbers);
    if !numbers.is_empty() {
        writeln!(out, "\nnumbers")?;
        for (label, text) in numbers {
            line(out, label, &text)?;
        }
    }
    if let Some(cache) = &facts.kv_cache {
        writeln!(out, "\nkey and value cache")?;
        cache_lines(cache, out)?;
    }
    writeln!(out, "\ntokenizer")?;
    match &facts.tokenizer {
        Some(tokenizer) => tokenizer_lines(tokenizer, out),
        None => line(out, "none", "the file has no tokenizer"),
    }
}

fn shares<'a>(out: &mut dyn Write, shares: impl Iterator<Item = &'a Share>) -> io::Result<()> {
    for share in shares {
        let tensors = match share.tensors {
            1 => "1 tensor".to_string(),
            n => format!("{} tensors", thousands(n as u64)),
        };
        writeln!(
            out,
            "  {:LABEL$}  {:>9} weights  {:>9}  {:>6.2} bits each  {tensors:>13}",
            shown(&share.name, LABEL),
            count(share.parameters),
            bytes(share.bytes),
            share.bits_per_weight,
        )?;
    }
    Ok(())
}

fn number_lines(numbers: &Numbers) -> Vec<(&'static str, String)> {
    let mut lines = Vec::new();
    let mut number = |label, value: Option<u64>, unit: &str| {
        lines.extend(value.map(|v| (label, format!("{}{unit}", thousands(v)))));
    };
    number("layers", numbers.layers, "");
    number("width", numbers.width, "");
    number("heads", numbers.heads, "");
    number("kv heads", numbers.kv_heads, "");
    number("head width", numbers.head_dim, "");
    number("feed-forward", numbers.ffn, "");
    number("experts", numbers.experts, "");
    number("experts a token", numbers.experts_used, "");
    number("vocabulary", numbers.vocabulary, " rows");
    number("context", numbers.context, " tokens");
    let layers = numbers.layers.unwrap_or(0);
    let of_layers = numbers.windowed_layers.filter(|&n| n < layers);
    let unit = of_layers.map_or(" tokens".into(), |n| format!(" tokens, in {n} of {layers} layers"));
    number("sliding window", numbers.sliding_window, &unit);
    let through = numbers.sliding_window.map_or(String::new(), |w| format!(" tokens: {layers} layers x {w}"));
    number("receptive field", numbers.receptive_field, &through);
    if let Some(eps) = numbers.norm_eps {
        lines.push(("norm epsilon", format!("{eps:e}")));
    }
    let rope: Vec<String> = [
        numbers.rope_base.map(|base| format!("base {}", thousands(base as u64))),
        numbers.rope_dim.map(|dim| format!("{dim} features of a head")),
        numbers.rope_scaling.as_ref().map(|kind| format!("scaled: {}", shown(kind, 40))),
    ]
    .into_iter()
    .flatten()
    .collect();
    if !rope.is_empty() {
        lines.push(("rope", rope.join(", ")));
    }
    lines
}

fn cache_lines(cache: &KvCache, out: &mut dyn Write) -> io::Result<()> {
    let rows = [
        ("f32", Some(cache.f32_bytes_per_token), cache.f32_bytes_full),
        ("f16", Some(cache.f16_bytes_per_token), cache.f16_bytes_full),
        ("q8_0", cache.q8_0_bytes_per_token, cache.q8_0_bytes_full),
        ("q4_0", cache.q4_0_bytes_per_token, cache.q4_0_bytes_full),
    ];
    for (kind, token, full) in rows {
        let Some(token) = token else { continue };
        let full = match (full, cache.context) {
            (Some(full), Some(context)) => format!(", {} at {} tokens", bytes(full), thousands(context)),
            _ => String::new(),
        };
        line(out, kind, &format!("{} a token{full}", bytes(token)))?;
    }
    Ok(())
}

fn tokenizer_lines(tokenizer: &TokenizerFacts, out: &mut dyn Write) -> io::Result<()> {
    line(out, "kind", &shown(&tokenizer.kind, 60))?;
    let runs = tokenizer.problem.as_deref().map_or("yes".into(), |problem| format!("no: {}", shown(problem, 500)));
    line(out, "runs", &runs)?;
    if let Some(pre) = &tokenizer.pre {
        line(out, "pre-tokenizer", &shown(pre, 60))?;
    }
    if let Some(size) = tokenizer.size {
        line(out, "size", &format!("{} tokens", thousands(size)))?;
    }
    for token in &tokenizer.special {
        let text = token.text.as_deref().map_or("outside of the vocabulary".into(), |t| shown(t, 60));
        line(out, &shown(&token.role, LABEL), &format!("{}  {text}", token.id))?;
    }
    if !tokenizer.ends.is_empty() {
        let ids: Vec<String> = tokenizer.ends.iter().map(u32::to_string).collect();
        line(out, "ends an answer", &ids.join(", "))?;
    }
    let yes_no = |yes: bool| if yes { "yes" } else { "no" };
    if let Some(adds) = tokenizer.adds_bos {
        line(out, "adds a BOS", yes_no(adds))?;
    }
    if let Some(adds) = tokenizer.adds_eos {
        line(out, "adds an EOS", yes_no(adds))?;
    }
    line(out, "chat template", yes_no(tokenizer.chat_template))
}

fn table_of_tensors(facts: &Facts, out: &mut dyn Write) -> io::Result<()> {
    writeln!(out, "\ntensors")?;
    let rows: Vec<[String; 4]> = facts
        .tensors
        .iter()
        .map(|t| {
            let shape: Vec<String> = t.shape.iter().map(u64::to_string).collect();
            [shown(&t.name, 100), shown(&t.kind, 12), shape.join(" x "), bytes(t.bytes)]
        })
        .collect();
    let width = |column: usize| rows.iter().map(|r| r[column].chars().count()).max().unwrap_or(0);
    let (name, kind, shape, size) = (width(0), width(1), width(2), width(3));
    for row in &rows {
        writeln!(out, "  {:name$}  {:kind$}  {:>shape$}  {:>size$}", row[0], row[1], row[2], row[3])?;
    }
    Ok(())
}
