//! The flags of `porism tune`: each takes the place of what a recipe says.

use std::path::PathBuf;

use anyhow::Result;
use clap::Args;
use porism_tune::Schedule;
use porism_tune::recipe::{BaseType, Method, OptimizerName, Recipe, Recompute, Switch, Variant};
use serde::de::DeserializeOwned;

/// A word of a recipe's key.
fn word<T: DeserializeOwned>(text: &str) -> Result<T, String> {
    serde_json::from_value(serde_json::Value::String(text.to_owned())).map_err(|error| error.to_string())
}

/// What a run hangs on.
#[derive(Args, Debug)]
pub struct Flags {
    /// What is trained: full, lora or qlora
    #[arg(long, value_name = "METHOD", value_parser = word::<Method>)]
    method: Option<Method>,
    /// A JSONL file of examples (messages; prompt and completion; instruction and output; text), a plain text (.txt), or a folder
    /// with train.jsonl, perhaps valid.jsonl and test.jsonl
    #[arg(long, value_name = "FILE")]
    data: Option<PathBuf>,
    /// The folder for adapter, recipe, log and checkpoints
    #[arg(long, short, value_name = "DIR")]
    output: Option<PathBuf>,
    /// The model: a path, a name of the catalogue, or owner/repo[:quant|/file] [default: smollm2-135m-instruct]
    #[arg(short, long)]
    model: Option<String>,
    /// Begin with random weights: a file that says what model (layers, width, heads, kv_heads, ffn, context, tied, rope_theta,
    /// vocab_size or tokenizer); the vocabulary is learned from --data, a plain text
    #[arg(long, value_name = "FILE")]
    from_scratch: Option<PathBuf>,
    /// Updates
    #[arg(long, value_name = "N", conflicts_with = "epochs")]
    steps: Option<u64>,
    /// Times that every example is seen [default: 1]
    #[arg(long, value_name = "E")]
    epochs: Option<f64>,
    /// Rows of at most --length tokens in a batch [default: 4]
    #[arg(long, value_name = "B")]
    batch: Option<usize>,
    /// Tokens of a row [default: 512]
    #[arg(long, value_name = "L")]
    length: Option<usize>,
    /// The learning rate at its highest [default: 2e-4]
    #[arg(long, value_name = "RATE")]
    lr: Option<f64>,
    /// What chance hangs on [default: 0]
    #[arg(long)]
    seed: Option<u64>,
    /// Rank of the adapter [default: 16]
    #[arg(long, value_name = "R")]
    rank: Option<usize>,
    /// Its scale is alpha / rank, or alpha / sqrt(rank) with rslora [default: 32]
    #[arg(long, value_name = "ALPHA")]
    alpha: Option<f64>,
    /// Share of the adapter's inputs that is dropped in training [default: 0]
    #[arg(long, value_name = "SHARE")]
    dropout: Option<f64>,
    /// Projections by name (q_proj,v_proj), or all-linear [default: all-linear]
    #[arg(long, value_name = "NAME,..", value_delimiter = ',')]
    targets: Option<Vec<String>>,
    /// lora, rslora, dora or pissa [default: lora]
    #[arg(long, value_name = "VARIANT", value_parser = word::<Variant>)]
    variant: Option<Variant>,
    /// What the frozen base is held as: keep (as in its file), nf4 or fp4 [default: keep]
    #[arg(long, value_name = "TYPE", value_parser = word::<BaseType>)]
    base_type: Option<BaseType>,
    /// Round the scales of nf4 and fp4 to 8 bits too
    #[arg(long)]
    double_quant: bool,
    /// adamw, sgd or adamw8bit [default: adamw]
    #[arg(long, value_name = "RULE", value_parser = word::<OptimizerName>)]
    optimizer: Option<OptimizerName>,
    /// Keep the optimizer's state in mapped files that the system may evict
    #[arg(long)]
    paged: bool,
    /// Batches whose gradients make one update [default: 1]
    #[arg(long, value_name = "N")]
    accumulate: Option<usize>,
    /// constant, linear or cosine [default: constant]
    #[arg(long, value_name = "SCHEDULE", value_parser = word::<Schedule>)]
    schedule: Option<Schedule>,
    /// Updates over which the learning rate rises [default: 0]
    #[arg(long, value_name = "N")]
    warmup: Option<u64>,
    /// How much of each matrix an update takes away, times the learning rate [default: 0]
    #[arg(long, value_name = "DECAY")]
    weight_decay: Option<f64>,
    /// The longest gradient; 0: as long as it is [default: 0]
    #[arg(long, value_name = "NORM")]
    clip: Option<f64>,
    /// on: short examples share a row, without seeing each other; off [default: on]
    #[arg(long, value_name = "SWITCH", value_parser = word::<Switch>)]
    packing: Option<Switch>,
    /// auto, all or none: blocks that are computed twice to save memory [default: auto]
    #[arg(long, value_name = "BLOCKS", value_parser = word::<Recompute>)]
    recompute: Option<Recompute>,
    /// A PEFT folder to begin with
    #[arg(long, value_name = "DIR")]
    init_adapter: Option<PathBuf>,
    /// Take examples in the file's order
    #[arg(long)]
    no_shuffle: bool,
    /// Share of a single file's examples that is held out for validation [default: 0.05]
    #[arg(long, value_name = "SHARE")]
    validation: Option<f64>,
    /// Updates between validations; 0: at the end only [default: 50]
    #[arg(long, value_name = "N")]
    validate_every: Option<u64>,
    /// Updates between checkpoints; 0: at the end only [default: 50]
    #[arg(long, value_name = "N")]
    checkpoint_every: Option<u64>,
    /// Count broken lines and leave them out
    #[arg(long)]
    skip_bad: bool,
}

impl Flags {
    /// Puts what was given in the place of what the recipe says.
    pub fn apply(&self, recipe: &mut Recipe) {
        fn put<T: Clone>(given: &Option<T>, place: &mut T) {
            if let Some(value) = given {
                place.clone_from(value);
            }
        }
        put(&self.method, &mut recipe.method);
        put(&self.data, &mut recipe.data);
        put(&self.output, &mut recipe.output);
        put(&self.model, &mut recipe.model);
        put(&self.steps, &mut recipe.steps);
        put(&self.epochs, &mut recipe.epochs);
        put(&self.batch, &mut recipe.batch);
        put(&self.length, &mut recipe.length);
        put(&self.lr, &mut recipe.lr);
        put(&self.seed, &mut recipe.seed);
        put(&self.rank, &mut recipe.rank);
        put(&self.alpha, &mut recipe.alpha);
        put(&self.dropout, &mut recipe.dropout);
        put(&self.targets, &mut recipe.targets);
        put(&self.variant, &mut recipe.variant);
        put(&self.base_type, &mut recipe.base_type);
        put(&self.optimizer, &mut recipe.optimizer);
        put(&self.accumulate, &mut recipe.accumulate);
        put(&self.schedule, &mut recipe.schedule);
        put(&self.warmup, &mut recipe.warmup);
        put(&self.weight_decay, &mut recipe.weight_decay);
        put(&self.clip, &mut recipe.clip);
        put(&self.packing, &mut recipe.packing);
        put(&self.recompute, &mut recipe.recompute);
        put(&self.validation, &mut recipe.validation);
        put(&self.validate_every, &mut recipe.validate_every);
        put(&self.checkpoint_every, &mut recipe.checkpoint_every);
        if self.from_scratch.is_some() {
            recipe.from_scratch.clone_from(&self.from_scratch);
        }
        if self.init_adapter.is_some() {
            recipe.init_adapter.clone_from(&self.init_adapter);
        }
        // A flag that is not given says nothing; the recipe may say that it is so.
        recipe.paged |= self.paged;
        recipe.double_quant |= self.double_quant;
        recipe.skip_bad |= self.skip_bad;
        recipe.no_shuffle |= self.no_shuffle;
        if self.epochs.is_some() {
            recipe.steps = 0;
        }
    }
}
