//! What a run leaves: an adapter or a model, its recipe, and the picture of its loss.

use std::io::Write as _;
use std::path::Path;

use anyhow::{Context as _, Result};
use porism_formats::{AtomicFile, Weight};
use porism_models::ModelSource;
use porism_models::adapter::{Adapter, Base, PeftOptions};
use porism_models::convert::{Part, Replaced, Target, convert_with};
use porism_models::tape::Parameter;
use porism_report::plot::{Axis, Plot, Series};
use porism_tune::adapter::{less_start, trained};
use porism_tune::recipe::Variant;
use porism_tune::{Data, Recipe, Trainer, read_log};

/// Tells a run from others: by what changes its numbers. Where it writes, and how far it goes, does not.
pub fn fingerprint(recipe: &Recipe, model: &Path, data: &Data) -> Result<String> {
    let settings = Recipe {
        output: Default::default(),
        steps: 0,
        epochs: 1.0,
        validate_every: 0,
        checkpoint_every: 0,
        ..recipe.clone()
    };
    let mut words = settings.commented();
    for split in [Some(&data.train), data.valid.as_ref()].into_iter().flatten() {
        let ids = split.examples.iter().flat_map(|example| &example.ids);
        // FNV-1a over all tokens: examples of another file are another run.
        let hash = ids.fold(0xcbf2_9ce4_8422_2325u64, |h, id| (h ^ u64::from(*id)).wrapping_mul(0x100_0000_01b3));
        words.push_str(&format!("{} examples, {hash:016x}\n", split.examples.len()));
    }
    words.push_str(&porism_measure::benchmark::fingerprint(model)?);
    Ok(words)
}

/// Writes the adapter as PEFT's two files.
pub fn adapter(trainer: &Trainer<'_>, adapter: &Adapter, base: &Base<'_>) -> Result<()> {
    let mut now = trained(adapter, trainer.decoder, &trainer.executor, &trainer.magnitudes)?;
    if trainer.recipe.variant == Variant::Pissa {
        now = less_start(&now, adapter)?;
    }
    let options = PeftOptions {
        base_model: Some(trainer.recipe.model.clone()).filter(|name| !name.is_empty()),
        rslora: trainer.recipe.variant == Variant::Rslora,
        dropout: trainer.recipe.dropout as f32,
    };
    Ok(now.to_peft(base, &options)?.write_into(&trainer.folder)?)
}

/// Writes the model as a Hugging Face folder.
pub fn model(trainer: &Trainer<'_>, source: &ModelSource) -> Result<()> {
    let mut replaced = Replaced::new();
    for (name, var) in trainer.executor.parameters().iter() {
        let key = match name {
            Parameter::Weight(site) => (site, Part::Weight),
            // All deltas of a model without adapters are its biases.
            Parameter::NormBias(site) | Parameter::Delta { site, .. } => (site, Part::Bias),
        };
        let (rows, cols) = var.dims2()?;
        replaced.insert(key, Weight::from_f32(&var.flatten_all()?.to_vec1::<f32>()?, rows, cols)?);
    }
    let out = trainer.folder.join("model");
    if !out.exists() {
        convert_with(source, &out, Target::F32, &replaced, &mut |_, _| {})?;
        return Ok(());
    }
    // The run went on: what it wrote before stays until there is something newer.
    let next = trainer.folder.join("model.next");
    let io = |what: &str, path: &Path| format!("cannot {what} {}", path.display());
    if next.exists() {
        std::fs::remove_dir_all(&next).with_context(|| io("remove", &next))?;
    }
    convert_with(source, &next, Target::F32, &replaced, &mut |_, _| {})?;
    std::fs::remove_dir_all(&out).with_context(|| io("remove", &out))?;
    std::fs::rename(&next, &out).with_context(|| io("rename", &next))
}

/// Writes the recipe and the picture.
pub fn beside(recipe: &Recipe) -> Result<()> {
    let folder = &recipe.output;
    let write = |name: &str, text: &str| -> Result<()> {
        let mut file = AtomicFile::create(&folder.join(name))?;
        file.write_all(text.as_bytes()).with_context(|| format!("cannot write {name} into {}", folder.display()))?;
        Ok(file.commit()?)
    };
    write("recipe.toml", &recipe.commented())?;
    let log = read_log(&folder.join("log.jsonl"))?;
    let finite = |loss: &f64| loss.is_finite();
    let losses: Vec<[f64; 2]> = log.iter().filter(|r| finite(&r.loss)).map(|r| [r.step as f64, r.loss]).collect();
    let valid = log.iter().filter_map(|r| Some([r.step as f64, r.val_loss.filter(finite)?]));
    let valid: Vec<[f64; 2]> = valid.collect();
    let mut plot = Plot::new("Loss", Axis::linear("update"), Axis::linear("nats a token"));
    if !losses.is_empty() {
        plot = plot.with(Series::line("training", losses));
    }
    if !valid.is_empty() {
        plot = plot.with(Series::trace("validation", valid));
    }
    match plot.svg() {
        Ok(svg) => write("loss.svg", &svg),
        // No update was done: there is nothing to draw.
        Err(_) => Ok(()),
    }
}
