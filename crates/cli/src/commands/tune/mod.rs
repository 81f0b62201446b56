//! `porism tune`: a model is taught by examples.

mod dry_run;
mod export;
mod finish;
mod flags;
mod merge;

use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, bail};
use clap::{Args, Subcommand};
use porism_hub::Progress as _;
use porism_kernels::BlockType;
use porism_models::adapter::{Adapter, Base, attach, targets};
use porism_models::tape::{Parameter, Parameters, TapeExecutor};
use porism_models::{Decoder, ModelSource, Site, load_decoder};
use porism_ops::OpContext;
use porism_text::ChatTemplate;
use porism_text::examples::Composer;
use porism_tune::adapter::{Magnitudes, TRAINED, fresh, hold_back};
use porism_tune::optimizer::{Optimizer, OptimizerKind, StateStorage, TrainedTensor};
use porism_tune::recipe::{BaseType, Method, OptimizerName, Recipe, Variant};
use porism_tune::scratch::Scratch;
use porism_tune::{Alarm, Counts, Data, Event, Goal, Reading, Record, Split, Trainer, refuse_used};

use self::flags::Flags;
use super::figures::thousands;
use super::words::thread_count;
use crate::context::{Context, say, threads, usage};
use crate::machine::available_memory;
use crate::output;
use crate::progress::Bar;

/// Teach a model by examples: LoRA, QLoRA, or all of it
///
/// The model's file may be in any type; LoRA and QLoRA train a small adapter beside it and leave it as it is. Examples go
/// through the model's own chat template; only answers count. A run is a recipe: flags take the place of what a recipe file
/// says, and the resolved one is written beside the result, with the log and a picture of the loss.
#[derive(Args)]
#[command(args_conflicts_with_subcommands = true)]
#[command(after_help = "Examples:
  porism tune --method lora --data examples.jsonl --output out
  porism tune --method lora --variant dora --targets q_proj,v_proj --data folder --output out --steps 200
  porism tune --method qlora --base-type nf4 --double-quant -m folder --data examples.jsonl --output out
  porism tune --init lora > recipe.toml
  porism tune recipe.toml --set lr=1e-4
  porism tune recipe.toml --resume              go on from the newest checkpoint, to the last bit
  porism tune --method lora --data examples.jsonl --dry-run
  porism tune --method full --from-scratch model.toml --data book.txt --output out --length 256 --lr 1e-3
  porism tune merge out -o merged.gguf          the adapter as a part of the weights
  porism tune export out -o out.gguf            the adapter for llama.cpp

The output folder has adapter_config.json and adapter_model.safetensors as PEFT wants them (with --method full
the model as a Hugging Face folder, in `model`), recipe.toml, loss.svg and log.jsonl:
  {step, loss, val_loss, learning_rate, grad_norm, tokens_per_second, peak_rss_bytes} for each update")]
pub struct TuneArgs {
    #[command(subcommand)]
    what: Option<What>,
    /// A recipe
    #[arg(value_name = "RECIPE")]
    recipe: Option<PathBuf>,
    /// Take this for what the recipe says; may be given many times
    #[arg(long, value_name = "KEY=VALUE")]
    set: Vec<String>,
    /// Print a recipe with every key, and end: full, lora or qlora
    #[arg(long, value_name = "METHOD", exclusive = true)]
    init: Option<String>,
    #[command(flatten)]
    flags: Flags,
    /// Go on from the newest checkpoint in the output folder
    #[arg(long)]
    resume: bool,
    /// Show the first N examples as tokens, those that count in colour, and end [default: 3]
    #[arg(long, value_name = "N", num_args = 0..=1, default_missing_value = "3")]
    dry_run: Option<usize>,
    /// Threads [default: usable cores]
    #[arg(long, value_name = "N", value_parser = thread_count)]
    threads: Option<usize>,
}

/// What is done beside training.
#[derive(Subcommand)]
enum What {
    Merge(merge::MergeArgs),
    Export(export::ExportArgs),
}

pub fn run(args: &TuneArgs, context: &Context) -> Result<()> {
    match &args.what {
        Some(What::Merge(args)) => return merge::run(args, context),
        Some(What::Export(args)) => return export::run(args, context),
        None => {}
    }
    if let Some(method) = &args.init {
        let Ok(method) = serde_json::from_value::<Method>(method.as_str().into()) else {
            return usage(format!("`{method}` is no method: full, lora or qlora"));
        };
        return output::text(&Recipe { method, ..Recipe::default() }.commented());
    }
    let mut recipe = match &args.recipe {
        Some(path) => Recipe::read(path, &args.set)?,
        None if !args.set.is_empty() => return usage("--set changes a recipe: name its file"),
        None => Recipe::default(),
    };
    args.flags.apply(&mut recipe);
    recipe.check()?;
    if recipe.data.as_os_str().is_empty() {
        return usage("no examples: give --data FILE");
    }
    if recipe.output.as_os_str().is_empty() && args.dry_run.is_none() {
        return usage("nowhere to write: give --output DIR");
    }
    if args.dry_run.is_none() && !args.resume {
        refuse_used(&recipe.output)?;
    }
    let made = recipe.from_scratch.as_deref().map(|file| from_scratch(&recipe, file, args)).transpose()?;
    let model = match &made {
        Some(folder) => Some(folder.to_str().context("the output folder's name is not UTF-8")?),
        None => Some(recipe.model.as_str()).filter(|name| !name.is_empty()),
    };
    let (path, source) = context.open(model)?;
    let tokenizer = source.tokenizer().with_context(|| format!("{}: no usable tokenizer", path.display()))?;
    let template =
        ChatTemplate::of(&tokenizer).with_context(|| format!("{}: its chat template is invalid", path.display()))?;
    let reading = Reading {
        composer: Composer::new(&tokenizer, template.as_ref()),
        length: recipe.length,
        skip_bad: recipe.skip_bad,
        validation: recipe.validation,
    };
    let data = Data::read(&recipe.data, &reading)?;
    tell_of(&data);
    if let Some(most) = args.dry_run {
        return dry_run::show(&data, &tokenizer, most);
    }
    Job { recipe: &recipe, path: &path, source: &source, data: &data, resume: args.resume }
        .run(&mut load_decoder(&source)?, args.threads)
}

/// Makes a model with random weights in the output folder, or finds the one that an earlier part of the run made.
fn from_scratch(recipe: &Recipe, file: &Path, args: &TuneArgs) -> Result<PathBuf> {
    let scratch = Scratch::read(file)?;
    if recipe.length > scratch.context {
        return usage(format!(
            "--length {} is beyond the context of {} in {}",
            recipe.length,
            scratch.context,
            file.display()
        ));
    }
    if args.dry_run.is_some() {
        return usage("--dry-run shows what a tokenizer makes of examples: with --from-scratch there is none yet");
    }
    std::fs::create_dir_all(&recipe.output)
        .with_context(|| format!("cannot make the folder {}", recipe.output.display()))?;
    let folder = recipe.output.join("scratch");
    if !(args.resume && folder.exists()) {
        let text = if recipe.data.is_dir() { recipe.data.join("train.txt") } else { recipe.data.clone() };
        let weights = scratch.create(&text, &folder, recipe.seed)?;
        say(&format!("wrote {}: {} random weights", folder.display(), thousands(weights as u64)));
    }
    Ok(folder)
}

/// What became of the rows.
fn tell_of(data: &Data) {
    let words = |name: &str, split: &Split| {
        let Counts { rows, bad, cut, empty } = split.counts;
        let tokens: usize = split.examples.iter().map(|example| example.ids.len()).sum();
        let targets: usize = split.examples.iter().map(|example| example.targets()).sum();
        let mut line = format!(
            "{name}: {} examples of {rows} rows, {} tokens, {} count",
            split.examples.len(),
            thousands(tokens as u64),
            thousands(targets as u64)
        );
        for (number, what) in [(bad, "broken"), (cut, "cut at the end"), (empty, "without anything that counts")] {
            if number > 0 {
                line.push_str(&format!("; {number} {what}"));
            }
        }
        say(&line);
    };
    words("train", &data.train);
    for (name, split) in [("valid", &data.valid), ("test", &data.test)] {
        if let Some(split) = split {
            words(name, split);
        }
    }
}

/// A run with everything that it needs.
struct Job<'a> {
    recipe: &'a Recipe,
    path: &'a Path,
    source: &'a ModelSource,
    data: &'a Data,
    resume: bool,
}

impl Job<'_> {
    fn run(&self, decoder: &mut Decoder, wanted_threads: Option<usize>) -> Result<()> {
        let recipe = self.recipe;
        let (pool, isa) = threads(wanted_threads);
        let context = OpContext { pool, isa };
        std::fs::create_dir_all(&recipe.output)
            .with_context(|| format!("cannot make the folder {}", recipe.output.display()))?;
        self.hold_base(decoder)?;
        let frozen = decoder.clone();
        let base = Base::new(self.source, &frozen)?;
        let adapter = match recipe.method {
            Method::Full => None,
            Method::Lora | Method::Qlora => Some(self.adapter(&context, &base, &frozen)?),
        };
        let parameters = match &adapter {
            Some(adapter) => {
                let attached = attach(&context.pool, context.isa, decoder, &[(adapter.clone(), 1.0)], TRAINED)?;
                if attached.replaced_table() {
                    bail!("{} adapts the embedding table, which is not trained here", adapter.name);
                }
                if recipe.variant == Variant::Pissa {
                    hold_back(decoder, adapter);
                }
                Parameters::adapter(decoder, TRAINED)?
            }
            None => {
                let parameters = Parameters::full(decoder)?;
                decoder.release();
                parameters
            }
        };
        let magnitudes = adapter.as_ref().map_or_else(Magnitudes::default, |a| Magnitudes::of(a, decoder, &parameters));
        self.say_trainable(&parameters)?;
        let optimizer = optimizer(&context, recipe, &parameters)?;
        let mut trainer = Trainer {
            decoder,
            executor: TapeExecutor::new(context, parameters),
            magnitudes,
            optimizer,
            goal: Goal::CrossEntropy,
            recipe,
            data: self.data,
            folder: recipe.output.clone(),
            run: finish::fingerprint(recipe, self.path, self.data)?,
            resume: self.resume,
            // Half of what is there: the other half is for gradients, the head's logits, and whoever else works here.
            budget: available_memory().map_or(u64::MAX, |bytes| bytes / 2),
        };
        let outcome = self.train(&mut trainer)?;
        match &adapter {
            Some(adapter) => finish::adapter(&trainer, adapter, &base)?,
            None => finish::model(&trainer, self.source)?,
        }
        finish::beside(recipe)?;
        if let Some(alarm) = outcome.alarm {
            let why = match alarm {
                Alarm::NotFinite => "the loss is no number any more".to_owned(),
                Alarm::Diverged { best, now } => format!("the loss has left for good: {now:.3}, and it was {best:.3}"),
            };
            bail!(
                "{why}; what update {} had is in {}: try a smaller --lr, or --clip 1",
                outcome.steps,
                recipe.output.display()
            );
        }
        if let Some((before, after)) = outcome.val_loss {
            output::line(&format!("validation loss {before:.4} before, {after:.4} after"))?;
        }
        if let Some(loss) = outcome.test_loss {
            output::line(&format!("test loss {loss:.4}"))?;
        }
        if let Some((first, last)) = outcome.loss {
            output::line(&format!("loss of the first batch {first:.4}, of the last {last:.4}"))?;
        }
        output::line(&format!("{} updates; see {}", outcome.steps, recipe.output.display()))
    }

    fn adapter(&self, context: &OpContext, base: &Base<'_>, decoder: &Decoder) -> Result<Adapter> {
        match &self.recipe.init_adapter {
            Some(path) => Ok(Adapter::open(path, base)?),
            None => Ok(fresh(context, base, decoder, &targets(base, &self.recipe.targets)?, self.recipe)?),
        }
    }

    /// Encodes the base as the recipe wants it.
    fn hold_base(&self, decoder: &mut Decoder) -> Result<()> {
        let block = match self.recipe.base_type {
            BaseType::Nf4 => BlockType::NF4,
            BaseType::Fp4 => BlockType::FP4,
            BaseType::Keep => {
                let dense =
                    decoder.linears().any(|linear| linear.weight.block().is_dense() && linear.site != Site::Head);
                if self.recipe.method == Method::Qlora && dense {
                    say(
                        "note: the base is not quantized, so that qlora is lora; --base-type nf4 holds it in four bits",
                    );
                }
                return Ok(());
            }
        };
        Ok(decoder.stack.requantize(block, self.recipe.double_quant)?)
    }

    fn say_trainable(&self, parameters: &Parameters) -> Result<()> {
        let trained: usize = parameters.iter().map(|(_, var)| var.elem_count()).sum();
        let mut all = if self.recipe.method == Method::Full { 0 } else { trained };
        for name in self.source.tensor_names() {
            all += self.source.find_weight(name)?.map_or(0, |weight| weight.len());
        }
        let share = 100.0 * trained as f64 / all as f64;
        say(&format!("trainable {} of {} parameters ({share:.2} %)", thousands(trained as u64), thousands(all as u64)));
        Ok(())
    }

    fn train(&self, trainer: &mut Trainer<'_>) -> Result<porism_tune::Outcome> {
        porism_kernels::heap::keep_freed_memory();
        let mut bar = Bar::items();
        let steps = trainer.steps();
        bar.start("updates", Some(steps));
        let outcome = trainer.train(&mut |event| match event {
            Event::Update { record, .. } => {
                bar.note(&live(record));
                bar.at(record.step);
            }
            Event::Saved(_) => {}
        });
        bar.finish();
        Ok(outcome?)
    }
}

fn live(record: &Record) -> String {
    let valid = record.val_loss.map_or(String::new(), |loss| format!(", validation {loss:.4}"));
    format!(
        "loss {:.4}{valid}, lr {:.2e}, |g| {:.2}, {:.0} tokens/s, {:.2} GB",
        record.loss,
        record.learning_rate,
        record.grad_norm,
        record.tokens_per_second,
        record.peak_rss_bytes as f64 / 1e9
    )
}

fn optimizer(context: &OpContext, recipe: &Recipe, parameters: &Parameters) -> Result<Optimizer> {
    let kind = match recipe.optimizer {
        OptimizerName::Adamw => OptimizerKind::ADAMW,
        OptimizerName::Sgd => OptimizerKind::SGD,
        OptimizerName::Adamw8bit => OptimizerKind::ADAMW_8BIT,
    };
    let tensor = |(name, var): (Parameter, &candle_core::Var)| TrainedTensor {
        name: format!("{name:?}"),
        len: var.elem_count(),
        // Matrices decay; norms, biases and magnitudes are left alone.
        decays: var.dims().first().is_some_and(|&rows| rows > 1),
    };
    let storage = if recipe.paged { StateStorage::Paged(recipe.output.clone()) } else { StateStorage::Memory };
    Ok(Optimizer::new(context, kind, parameters.iter().map(tensor).collect(), &storage)?)
}
